# SPDX-License-Identifier: BSD-3-Clause
"""holdfast export: each form holds all of the data; commands rebuild it on redis-server."""
import base64
import csv
import io
import json
import subprocess

import pytest

import data
from harness import Server
from tool import run, saved


def text_of(v):
    return base64.b64decode(v["base64"]) if isinstance(v, dict) else v.encode()


def entries_of(v):
    return [[i.encode(), [text_of(x) for x in fields]] for i, fields in v]


def value_of(kind, v):
    if kind == "stream":
        return entries_of(v[:-1]), v[-1]["last_id"], len(v[-1]["groups"]), sum(len(g["pending"]) for g in v[-1]["groups"])
    if kind == "string":
        return text_of(v)
    if kind == "list":
        return [text_of(i) for i in v]
    if kind == "set":
        return sorted(text_of(i) for i in v)
    if kind == "hash":
        return sorted((text_of(a), text_of(b)) for a, b in v)
    return [(text_of(m), float(s)) for m, s in v]


def expected(kind, v):
    if kind == "stream":
        found = dict(zip(v[::2], v[1::2]))
        pending = sum(dict(zip(g[::2], g[1::2]))[b"pel-count"] for g in found[b"groups"])
        return found[b"entries"], found[b"last-generated-id"].decode(), len(found[b"groups"]), pending
    return [(m, float(s)) for m, s in zip(v[::2], v[1::2])] if kind == "zset" else v


@pytest.mark.parametrize("kind", ["redis", "holdfast"])
def test_json_lines(files, kind):
    """Every key, value and expiry, binary ones too."""
    found = {}
    for line in run("export", files[kind], "--format", "jsonl")[0].decode().splitlines():
        r = json.loads(line)
        found[r["db"], text_of(r["key"])] = (r["type"], r.get("expire_at_ms", -1), value_of(r["type"], r["value"]))
    held = {at: (v[0], v[1], expected(v[0], v[2])) for at, v in files["contents"].items() if at != "digest"}
    assert found.keys() == held.keys()
    for at in held:
        assert found[at] == held[at], at


@pytest.mark.parametrize("kind", ["redis", "holdfast"])
def test_commands_rebuild_the_data(files, kind):
    """`holdfast export --format resp | redis-cli --pipe` into an empty server: the digest is the same."""
    commands = run("export", files[kind], "--format", "resp")[0]
    with Server("redis") as server:
        done = subprocess.run(["redis-cli", "-s", server.socket_path, "--pipe"], input=commands, capture_output=True, timeout=60)
        assert done.returncode == 0 and b"errors: 0" in done.stdout, done
        raw = server.raw()
        assert str(raw("DEBUG", "DIGEST")) == files["digest"]
        data.assert_same(files["contents"], data.contents(raw))


@pytest.mark.parametrize("kind", ["redis", "holdfast"])
def test_libraries(kind, tmp_path):
    """Libraries of functions are counted by `info`, and loaded by the commands unless keys were chosen."""
    code = "#!lua name=lib\nredis.register_function('f', function() return 'from f' end)"
    path = saved(tmp_path / "dump.rdb", [("SET", "a", "1"), ("FUNCTION", "LOAD", code)], kind)
    assert json.loads(run("info", "--json", path)[0])["libraries"] == 1
    assert b"libraries: 1" in run("info", path)[0]
    for options, loaded in ([], True), (["--db", 0], False), (["--key", "a"], False):
        commands = run("export", path, "--format", "resp", *options)[0]
        assert (b"FUNCTION" in commands) == loaded
        assert b"FUNCTION" not in run("export", path, "--format", "jsonl", *options)[0]
    with Server("redis") as server:
        subprocess.run(["redis-cli", "-s", server.socket_path, "--pipe"], input=run("export", path, "--format", "resp")[0],
                       capture_output=True, timeout=60, check=True)
        assert server.raw()("FCALL", "f", 0) == b"from f" and server.raw()("GET", "a") == b"1"


def test_csv(files):
    """A line for each element; bytes that are no text are in base64."""
    csv.field_size_limit(1 << 30)
    out = run("export", files["redis"], "--format", "csv")[0].decode()
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    found = {}
    for r in rows:
        decode = base64.b64decode if r["text"] == "base64" else str.encode
        at = int(r["db"]), decode(r["key"])
        found.setdefault(at, (r["type"], int(r["expire_at_ms"] or -1), []))[2].append((decode(r["field"]), decode(r["value"])))
    for at, (kind, due, value, _) in ((a, v) for a, v in files["contents"].items() if a != "digest"):
        got = found.pop(at)
        assert got[:2] == (kind, due), at
        if kind == "string":
            assert got[2] == [(b"", value)], at
        elif kind == "list":
            assert got[2] == [(b"%d" % i, v) for i, v in enumerate(value)], at
        elif kind == "set":
            assert sorted(v for _, v in got[2]) == value, at
        elif kind == "hash":
            assert sorted(got[2]) == value, at
        elif kind == "stream":
            *entries, rest = got[2]
            assert rest[0] == b"", at
            value_of_lines = value_of(kind, [(i.decode(), json.loads(v)) for i, v in entries] + [json.loads(rest[1])])
            assert value_of_lines == expected(kind, value), at
        else:
            assert [(m, float(s)) for m, s in got[2]] == expected(kind, value), at
    assert not found


def test_choosing(files):
    """By pattern, database and type, alone and together."""
    def keys(*args):
        lines = run("export", "--format", "jsonl", files["redis"], *args)[0].decode().splitlines()
        return {(r["db"], text_of(r["key"])) for r in map(json.loads, lines)}
    held = {at: v for at, v in files["contents"].items() if at != "digest"}
    assert keys() == set(held)
    assert keys("--db", "9") == {at for at in held if at[0] == 9}
    assert keys("--type", "zset") == {at for at, v in held.items() if v[0] == "zset"}
    assert keys("--key", "many:1?") == {(0, b"many:%d" % i) for i in range(10, 20)}
    assert keys("--key", "*:big", "--db=9", "--type", "set") == {(9, b"set:big")}
    assert keys("--key", "nothing") == set()


def test_output_that_cannot_be_written(files):
    """A full disk is an error, not a short result."""
    import harness
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(harness.BUILD / "holdfast"), "export", "--format", "resp", str(files["redis"])],
                              stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"could not be written" in done.stderr
