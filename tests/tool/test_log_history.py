# SPDX-License-Identifier: BSD-3-Clause
"""`holdfast check`, `log` and `repair` on the files that a log keeps of its past."""
import re
import shutil
import sys
from pathlib import Path

import pytest

import harness
from harness import Server
from tool import run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "persist"))
from log_bytes import Log, crc32c, manifest, request  # noqa: E402

ON = {"appendonly": "yes"}


def name(number):
    return f"appendonly.aof.{number}.incr.aof"


def write(directory, logs, history):
    """A log whose first `history` files are history; they follow each other as they were made."""
    path = directory / "appendonlydir"
    path.mkdir()
    for number, log in enumerate(logs, 1):
        (path / name(number)).write_bytes(log.data)
    (path / "appendonly.aof.manifest").write_bytes(
        manifest(*(f"file {name(n)} seq {n} type {'h' if n <= history else 'i'}" for n in range(1, len(logs) + 1))))
    return path


def chain():
    """Three files, of which each goes on where the one before ends."""
    first = Log().group("SELECT 0", "SET a 1").group("SET old x").close()
    second = Log(first.lsn, first.crc).group("MULTI", "SET a 2", "SET b 2", "EXEC").group("SET old y").close()
    return first, second, Log(second.lsn, second.crc).group("SELECT 0", "SET live 3")


def listed(directory, status=0):
    return [line.split()[3:] for line in run("log", directory, status=status)[0].decode().splitlines()]


def test_sound_history(tmp_path):
    """It is validated, and its commands are listed, in order."""
    write(tmp_path, chain(), 2)
    text = run("check", tmp_path)[0].decode()
    assert text.count(": sound") == 4 and "Of the history, which no start reads:" in text
    assert [c[1:] for c in listed(tmp_path)] == \
        [["a", "1"], ["old", "x"], [], ["a", "2"], ["b", "2"], [], ["old", "y"], ["live", "3"]]
    with Server(options=ON, directory=tmp_path) as server:
        assert server.client().keys() == [b"live"]


def test_each_byte_of_the_history(tmp_path, rng):
    """Wherever a bit of it is changed: that is found, with file and offset, it is said that a start does not mind, and
    that is so. What can be proven is listed, what is in use in any case."""
    logs = chain()
    path = write(tmp_path, logs, 2)
    places = [(number, at) for number in (1, 2) for at in range(len(logs[number - 1].data))]
    for turn, (number, at) in enumerate(rng.sample(places, 60)):
        data = bytearray(logs[number - 1].data)
        data[at] ^= 1 << rng.randrange(8)
        (path / name(number)).write_bytes(data)
        plain = turn > 5
        text = run("check", tmp_path, status=1, plain=plain)[0].decode()
        said = re.search(rf"{name(number)}: DAMAGED.*\n    offset (\d+): .*all before offset (\d+) of {len(data)} is good",
                         text)
        assert said and int(said[2]) <= at, (number, at, text)
        assert "a start does not read it, and is not stopped by this" in text and "refuses" not in text, text
        assert f"{name(3)}: sound" in text, text
        assert ["SET", "live", "3"] in listed(tmp_path, status=1)
        assert b"The log is sound" in run("repair", tmp_path, plain=plain)[0]
        if turn < 2:
            with Server(options=ON, directory=tmp_path) as server:
                assert server.client().keys() == [b"live"]
            (path / name(4)).unlink()
            write_manifest_again(path, logs)
        (path / name(number)).write_bytes(logs[number - 1].data)
    run("check", tmp_path)


def write_manifest_again(path, logs):
    (path / "appendonly.aof.manifest").write_bytes(
        manifest(*(f"file {name(n)} seq {n} type {'h' if n < len(logs) else 'i'}" for n in range(1, len(logs) + 1))))


@pytest.mark.parametrize("size", ["group", "close", "all"])
def test_history_that_lost_its_end(tmp_path, size):
    """A file that ends too early, be it behind a whole group, does not lead up to the next one."""
    logs = chain()
    path = write(tmp_path, logs, 2)
    data = logs[1].data
    end = {"group": data.rindex(b"#HF1 group"), "close": data.rindex(b"#HF1 close"), "all": 0}[size]
    (path / name(2)).write_bytes(data[:end])
    text = run("check", tmp_path, status=1)[0].decode()
    assert "a start does not read it" in text and "refuses" not in text, text
    with Server(options=ON, directory=tmp_path) as server:
        assert server.client().keys() == [b"live"]


def test_history_that_is_gone(tmp_path):
    """The oldest files go first: one that lacks behind an older one is lost, others were removed."""
    path = write(tmp_path, chain(), 2)
    kept = (path / name(2)).read_bytes()
    (path / name(2)).unlink()
    assert f"{name(2)}: MISSING, though what was before it is there" in run("check", tmp_path, status=1)[0].decode()
    assert [c[1:] for c in listed(tmp_path)] == [["a", "1"], ["old", "x"], ["live", "3"]]
    (path / name(2)).write_bytes(kept)
    (path / name(1)).unlink()
    assert f"{name(1)}: removed, as nobody needs it any more" in run("check", tmp_path)[0].decode()
    (path / name(2)).unlink()
    assert run("check", tmp_path)[0].decode().count("removed, as nobody") == 2
    assert listed(tmp_path) == [["SET", "live", "3"]]


def test_a_generation_that_began_anew(tmp_path):
    """What a failed disk has left may be torn at its end, and leads up to nothing; its LSNs do not end the listing of
    what came after it."""
    failed = Log(5000).group("SELECT 0", "SET lost 1")
    failed.data += request("SET", "half", "x" * 100)[:50]
    path = write(tmp_path, [failed, Log(1000).group("SELECT 0", "SET live 3")], 1)
    text = run("check", tmp_path)[0].decode()
    assert "torn at its end" in text and "what follows began anew and lacks nothing" in text, text
    assert [c[1:] for c in listed(tmp_path, status=1)] == [["lost", "1"], ["live", "3"]]
    lines = run("log", tmp_path, "--to", "1200")[0].decode().splitlines()
    assert [line.split()[4] for line in lines] == ["live"], lines
    # Where the next one goes on from it, it is damage.
    follows = Log(failed.lsn, failed.crc).group("SELECT 0", "SET live 3")
    (path / name(2)).write_bytes(follows.data)
    assert "DAMAGED" in run("check", tmp_path, status=1)[0].decode()


def test_what_a_start_refuses(tmp_path):
    """Check refuses what recovery does: a base of another generation, a last file without its first line, a manifest
    that ends early. And it says so."""
    server = Server(options=ON, directory=tmp_path)
    x = server.raw()
    path = tmp_path / "appendonlydir"

    def told(field):
        return int(re.search(rf"{field}:(\d+)".encode(), x("INFO", "persistence"))[1])

    for turn in (1, 2):
        x("SET", f"k{turn}", turn)
        before = {p.name: p.read_bytes() for p in path.glob("*.base.rdb")}
        count = told("aof_rewrites")
        x("BGREWRITEAOF")
        harness.wait_for(lambda: told("aof_rewrites") > count and told("aof_rewrite_in_progress") == 0)
    x("SET", "k3", 3)
    server.terminate()
    run("check", tmp_path)
    sound = {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}

    def refused(*words):
        text = run("check", tmp_path, status=1)[0].decode()
        for word in words:
            assert word in text, text
        starting = Server(options=ON, directory=tmp_path, wait=False)
        assert starting.process.wait(60) == 1
        starting.terminate()
        for file, data in sound.items():
            (path / file).write_bytes(data)

    base = max(p for p in sound if p.endswith(".base.rdb"))
    (path / base).write_bytes(before[max(before)])
    refused("they are of two generations", "refuses")
    last = max(p for p in sound if p.endswith(".incr.aof"))
    (path / last).write_bytes(b"")
    refused("the first line is missing", "refuses")
    names = sound["appendonly.aof.manifest"].splitlines(keepends=True)
    (path / "appendonly.aof.manifest").write_bytes(b"".join(names[:-2]))
    refused("manifest")


def test_keys_of_commands(tmp_path):
    """--key knows which arguments are keys, also where it is not the first alone; a command's other words and numbers
    are none."""
    commands = ["SET in1 a", "MSET in2 b in3 c", "MSETEX 2 in4 v in5 w", "XGROUP CREATE stream group 0 MKSTREAM",
                "BITOP OR bits in1 in2", "ZADD z1 1 m", "ZUNIONSTORE z2 1 z1 WEIGHTS 2", "RPUSH l1 3 1 2",
                "SORT l1 STORE l2", "LMOVE l1 l3 LEFT LEFT", "RENAME in3 in6", "DEL in1 in2", "SWAPDB 0 1"]
    write(tmp_path, [Log().group("SELECT 0", *commands)], 0)
    for pattern, want in (("in1", "SET BITOP DEL"), ("in2", "MSET BITOP DEL"), ("in3", "MSET RENAME"), ("in4", "MSETEX"),
                          ("in5", "MSETEX"), ("in6", "RENAME"), ("stream", "XGROUP"), ("bits", "BITOP"),
                          ("z1", "ZADD ZUNIONSTORE"), ("z2", "ZUNIONSTORE"), ("l1", "RPUSH SORT LMOVE"), ("l2", "SORT"),
                          ("l3", "LMOVE"), ("[a-dw012]", ""), ("CREATE", ""), ("group", ""), ("OR", ""), ("WEIGHTS", ""),
                          ("STORE", ""), ("LEFT", "")):
        lines = run("log", tmp_path, "--key", pattern, plain=True)[0].decode().splitlines()
        assert [line.split()[3] for line in lines] == want.split(), (pattern, lines)


@pytest.mark.parametrize("how", ["emptied", "damaged"])
def test_repair_down_to_a_file_of_redis(tmp_path, how):
    """When what is left of a log ends in a file that is not ours, be it redis-server's or one that lost everything, a
    start takes it all the same, and so does redis-server."""
    first = Log().group("SELECT 0", "SET a 1").close()
    redis = request("SELECT", "0") + request("SET", "b", "2") + request("SET", "c", "3")
    last = Log(first.lsn + len(redis), crc32c(redis, first.crc)).group("SELECT 0", "SET d 4")
    path = write(tmp_path, [first, first, last], 0)
    (path / name(2)).write_bytes(redis)
    with Server(options=ON, directory=tmp_path) as server:
        assert sorted(server.client().keys()) == [b"a", b"b", b"c", b"d"]
    run("check", tmp_path)
    (path / name(2)).write_bytes(b"" if how == "emptied" else redis.replace(b"$1\r\nc", b"!1\r\nc"))
    run("check", tmp_path, status=1)
    run("repair", tmp_path, status=1)
    run("repair", tmp_path, "--yes")
    run("check", tmp_path)
    want = [b"a"] if how == "emptied" else [b"a", b"b"]
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(path, copy / "appendonlydir", ignore=shutil.ignore_patterns("repaired-*"))
    with Server("redis", options=ON, directory=copy) as server:
        assert sorted(server.client().keys()) == want
    for _ in range(2):
        with Server(options=ON, directory=tmp_path) as server:
            assert sorted(server.client().keys()) == want
            server.client().set("a", 2)
    run("check", tmp_path)
