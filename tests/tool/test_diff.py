# SPDX-License-Identifier: BSD-3-Clause
"""holdfast diff: known changes are all found, and nothing else is."""
import json

import pytest

import data
from tool import run, saved


def test_the_same_data(files):
    """Two servers' files of the same data: other bytes, other order, no difference."""
    assert files["redis"].read_bytes() != files["holdfast"].read_bytes()
    out, _ = run("diff", files["redis"], files["holdfast"])
    assert out == b"0 added, 0 removed, 0 changed, 372 the same\n"


CHANGES = [("SELECT", 0), ("SET", "new", 1), ("DEL", "int"), ("SET", "embstr", "other"), ("PERSIST", "list:small"),
           ("LSET", "list:nodes", 100, "changed"), ("SREM", "set:intset16", 7), ("HSET", "hash:small", "f", "w"),
           ("ZADD", "zset:small", 1.5, "a"), ("SET", "raw", "x" * 45), ("DEL", "noise"), ("RPUSH", "noise", "a list"),
           ("SELECT", 9), ("HDEL", "hash:big", "field 77"), ("ZADD", "zset:big", 1, "one more"), ("MOVE", "empty", 3),
           ("PEXPIREAT", "list:one", data.FAR_MS)]


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    made = []
    for db, args in data.commands():
        made += [("SELECT", db), args]
    return saved(tmp_path_factory.mktemp("changed") / "dump.rdb", made + CHANGES)


@pytest.mark.parametrize("memory", [[], ["--memory", "0"]])
def test_known_changes(files, changed, memory):
    """Each kind of change to each type; the value and the expiry are told apart."""
    out = run("diff", "--json", *memory, files["redis"], changed, status=1)[0].decode().splitlines()
    assert json.loads(out[-1]) == {"added": 2, "removed": 2, "changed": 10, "same": 360}
    found = {}
    for line in out[:-1]:
        r = json.loads(line)
        what = r["change"] if r["change"] != "changed" else (r["value_changed"], r["expiry_changed"])
        found[r["db"], r["key"]] = what
    value, expiry = (True, False), (False, True)
    assert found == {(0, "new"): "added", (3, "empty"): "added", (0, "int"): "removed", (9, "empty"): "removed",
                     (0, "embstr"): value, (0, "list:small"): expiry, (0, "list:nodes"): value,
                     (0, "set:intset16"): value, (0, "hash:small"): value, (0, "zset:small"): value,
                     (0, "noise"): value, (9, "hash:big"): value, (9, "zset:big"): value, (9, "list:one"): expiry}


def test_text_and_values(tmp_path):
    """What is printed says what changed, and with --values both values; names cannot disturb the terminal."""
    old = saved(tmp_path / "old.rdb", [("SET", "a", "one"), ("RPUSH", "l", 1, 2), ("SET", "gone", 1), ("SET", "t", 1)])
    new = saved(tmp_path / "new.rdb", [("SET", "a", "two"), ("RPUSH", "l", 1, 2, 3), ("SET", "\x1b[31mred", 1),
                                       ("SADD", "t", 1), ("PEXPIREAT", "t", data.FAR_MS)])
    out = run("diff", "--values", old, new, status=1)[0].decode()
    assert "~ db0 a  value\n    - " in out and "one" in out and "two" in out
    assert "~ db0 l  value (2 -> 3 elements)\n    - [\"1\",\"2\"]" in out
    assert "- db0 gone (string)\n" in out
    assert "type string -> set  expires never -> 2100-01-01 00:00:00 UTC" in out
    assert '+ db0 "\\x1b[31mred" (string)' in out and "\x1b" not in out
    assert out.endswith("1 added, 1 removed, 3 changed, 0 the same\n")


def test_many_keys_in_rounds(tmp_path, rng):
    """Thousands of random changes, with room for a part of the keys: the same as with room for all."""
    keys = {f"key:{i}": str(rng.randrange(1000)) for i in range(12000)}
    after = {k: v for k, v in keys.items() if rng.random() > 0.1}
    for k in rng.sample(sorted(after), 1500):
        after[k] += "x"
    after.update({f"fresh:{i}": "1" for i in range(700)})
    old = saved(tmp_path / "old.rdb", [("SET", k, v) for k, v in keys.items()], plain=True)
    new = saved(tmp_path / "new.rdb", [("SET", k, v) for k, v in after.items()], plain=True)
    out = [json.loads(x) for x in run("diff", "--json", "--memory", 0, old, new, status=1)[0].decode().splitlines()]
    assert out[-1] == {"added": 700, "removed": len(keys) - len(after) + 700, "changed": 1500,
                       "same": len(after) - 700 - 1500}
    found = {r["key"]: r["change"] for r in out[:-1]}
    assert found == {k: "added" if k not in keys else "removed" if k not in after else "changed"
                     for k in keys.keys() | after.keys() if keys.get(k) != after.get(k)}
