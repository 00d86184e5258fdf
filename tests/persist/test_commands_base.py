# SPDX-License-Identifier: BSD-3-Clause
"""`aof-use-rdb-preamble no`: the base of the log as commands, which redis-server 7.0 loads, and which is
as well proven as the RDB file in its place."""
import re
import shutil
import subprocess
import time

import pytest

import data
from harness import BUILD, Server
from test_log import fill, info, library, wait_for  # noqa: F401 (library is a fixture)
from test_rewrite import Writers, manifest, rewrite, start_again

ON = {"appendonly": "yes", "appendfsync": "always", "aof-use-rdb-preamble": "no"}
LIBRARY = "#!lua name=one\nredis.register_function('f', function(keys, args) return redis.call('GET', keys[1]) end)"


def base(directory):
    name, = [name for name, kind in manifest(directory) if kind == "b"]
    assert name.endswith(".base.aof")
    return directory / "appendonlydir" / name


def streams(raw):
    """Streams as nothing else shows them: groups, consumers, what is pending, counts."""
    def stable(value):
        if isinstance(value, list):
            out = []
            for i, item in enumerate(value):
                # When a consumer was seen is told by no command; nodes are each server's own.
                if i > 0 and value[i - 1] in (b"seen-time", b"active-time", b"radix-tree-keys", b"radix-tree-nodes"):
                    continue
                out.append(stable(item))
            return out
        return value
    return {key: stable(raw("XINFO", "STREAM", key, "FULL", "COUNT", "0"))
            for key in sorted(raw("KEYS", "stream*"))}


def fill_streams(raw):
    for i in range(40):
        raw("XADD", "stream:a", f"{i + 1}-1", "field", str(i), "other", "x" * (i % 7))
    raw("XGROUP", "CREATE", "stream:a", "g1", "0")
    raw("XGROUP", "CREATE", "stream:a", "g2", "5-1", "ENTRIESREAD", "5")
    raw("XGROUP", "CREATECONSUMER", "stream:a", "g1", "idle one")
    raw("XREADGROUP", "GROUP", "g1", "c1", "COUNT", "7", "STREAMS", "stream:a", ">")
    raw("XREADGROUP", "GROUP", "g1", "c2", "COUNT", "4", "STREAMS", "stream:a", ">")
    raw("XREADGROUP", "GROUP", "g1", "c1", "STREAMS", "stream:a", "0")
    raw("XACK", "stream:a", "g1", "3-1")
    raw("XDEL", "stream:a", "30-1")
    # Pending and deleted.
    raw("XADD", "stream:gone", "1-1", "a", "b")
    raw("XADD", "stream:gone", "2-1", "a", "b")
    raw("XGROUP", "CREATE", "stream:gone", "g", "0")
    raw("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream:gone", ">")
    raw("XDEL", "stream:gone", "1-1")
    raw("PEXPIREAT", "stream:gone", "4000000000000")
    # Without entries: never had one, had one.
    raw("XGROUP", "CREATE", "stream:none", "g", "$", "MKSTREAM")
    raw("XADD", "stream:empty", "7-7", "a", "b")
    raw("XDEL", "stream:empty", "7-7")
    raw("XADD", "stream:trimmed", "7-7", "a", "b")
    raw("XADD", "stream:trimmed", "MAXLEN", "1", "8-7", "a", "b")


def held(raw):
    raw("SELECT", "0")
    return data.contents(raw), streams(raw), raw("DEBUG", "DIGEST"), raw("FUNCTION", "LIST", "WITHCODE")


def same(got, want):
    data.assert_same(want[0], got[0])
    assert got[1:] == want[1:]


# Values of all types and encodings in several databases, functions, streams with all they have: the base of
# commands holds them, for Holdfast and for redis-server.
def test_both_load_it(tmp_path):
    server = Server(options=ON, directory=tmp_path)
    raw = server.raw()
    data.fill(raw)
    raw("SELECT", "0")
    fill_streams(raw)
    raw("FUNCTION", "LOAD", LIBRARY)
    raw("SET", "huge", "h" * 700_000)
    raw("HSET", "wide", *[f"{i}" + "w" * (60_000 if i % 50 == 0 else i % 90) for i in range(400)])
    rewrite(raw)
    raw("SELECT", "3")
    raw("SET", "behind", "the base")
    want = held(raw)
    server.terminate()
    server.check_log()
    text = base(tmp_path).read_bytes()
    assert text.startswith(b"#HF1 base ") and b"\r\n#HF1 close " in text
    # As the groups of the pipe go; a group is larger only for a command that is.
    groups = re.split(rb"#HF1 group \d+\r\n", text)
    assert len(groups) > 3 and all(len(group) < 300_000 or re.search(rb"\$\d{6,}\r\n", group) for group in groups)
    shutil.copytree(tmp_path, tmp_path / "redis")
    server.start()
    same(held(server.raw()), want)
    server.stop()
    with Server("redis", options=ON, directory=tmp_path / "redis") as redis:
        same(held(redis.raw()), want)
    # And back: what redis-server has made of it.
    with Server(options=ON, directory=tmp_path / "redis") as server:
        assert held(server.raw())[2] == want[2]


# The base is made under writes, with several threads and paced; after kill -9 nothing is missing.
def test_under_writes(tmp_path):
    server = Server(options={**ON, "snapshot-threads": "3", "rdb-key-save-delay": "100"}, directory=tmp_path)
    raw = server.raw()
    writers = Writers(server)
    assert raw("CONFIG", "SET", "auto-aof-rewrite-percentage", 0) == "OK"  # else one may begin by itself
    for i in range(2):
        wait_for(lambda: writers.rounds > i or writers.error)
        rewrite(raw)
    writers.end()
    start_again(server)
    assert len(manifest(tmp_path)) >= 3 and base(tmp_path).exists()
    result = subprocess.run([str(BUILD / "holdfast"), "check", str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0 and "written by Holdfast" in result.stdout, result.stdout
    digest = server.raw()("DEBUG", "DIGEST")
    server.stop()
    with Server("redis", options=ON, directory=tmp_path) as redis:
        assert redis.raw()("DEBUG", "DIGEST") == digest


# Every byte of it vouches: a changed one, a missing end, something behind the end, all are refused; the
# file is never cut.
def test_damage(tmp_path, rng):
    server = Server(options=ON, directory=tmp_path)
    raw = server.raw()
    for i in range(20):
        raw("RPUSH", f"list{i}", *"abcdefgh")
    rewrite(raw)
    server.terminate()
    path = base(tmp_path)
    good = path.read_bytes()
    close = good.rindex(b"#HF1 close")
    flipped = rng.randrange(len(good))
    cases = [good[:flipped] + bytes([good[flipped] ^ 1 << rng.randrange(8)]) + good[flipped + 1:],
             good[:close], good[:rng.randrange(1, close)], good + b"*1\r\n$4\r\nPING\r\n", good + bytes(100)]
    for bad in cases:
        path.write_bytes(bad)
        server = Server(options=ON, directory=tmp_path, wait=False)
        assert server.process.wait(60) == 1
        assert path.name in server.text() and path.read_bytes() == bad
        server.terminate()
        result = subprocess.run([str(BUILD / "holdfast"), "check", str(tmp_path)], capture_output=True, text=True)
        assert result.returncode == 1 and "DAMAGED" in result.stdout, result.stdout
    path.write_bytes(good)
    with Server(options=ON, directory=tmp_path) as server:
        assert server.raw()("LRANGE", "list7", "0", "-1") == list(b"abcdefgh"[i:i + 1] for i in range(8))


# The directive holds from the next base on: at run time, for the first base of a start, and when the log is
# turned on.
def test_directive(tmp_path):
    options = {**ON, "aof-use-rdb-preamble": "yes"}
    server = Server(options=options, directory=tmp_path)
    raw = server.raw()
    raw("SET", "a", "1")
    assert raw("CONFIG", "SET", "aof-use-rdb-preamble", "no") == "OK"
    rewrite(raw)
    base(tmp_path)
    raw("CONFIG", "SET", "aof-use-rdb-preamble", "yes")
    rewrite(raw)
    assert [name[-9:] for name, kind in manifest(tmp_path) if kind == "b"] == [".base.rdb"]
    raw("CONFIG", "SET", "appendonly", "no", "aof-use-rdb-preamble", "no")
    wait_for(lambda: info(raw)["aof_enabled"] == "0")
    raw("SET", "b", "2")
    raw("CONFIG", "SET", "appendonly", "yes")
    wait_for(lambda: info(raw)["log_state"] == "on")
    base(tmp_path)
    start_again(server)
    server.stop()
    shutil.rmtree(tmp_path / "appendonlydir")
    with Server(options=ON, directory=tmp_path) as server:
        base(tmp_path)
        start_again(server)


# Of a base of commands a moment behind it can be asked for, none before it; its own commands are all done.
def test_until(tmp_path):
    server = Server(options=ON, directory=tmp_path)
    raw = server.raw()
    for i in range(100):
        raw("SET", f"key{i}", "x" * 100)
    before = int(info(raw)["log_lsn"]) - 10
    rewrite(raw)
    time.sleep(0.01)
    raw("SET", "last", "1")
    at = int(info(raw)["log_lsn"])
    raw("SET", "last", "2")
    server.terminate()
    refused = Server(options={**ON, "recover-until": str(before)}, directory=tmp_path, wait=False)
    assert refused.process.wait(60) == 1 and "a moment before" in refused.text()
    refused.terminate()
    with Server(options={**ON, "recover-until": str(at)}, directory=tmp_path) as server:
        raw = server.raw()
        assert raw("GET", "last") == b"1" and raw("DBSIZE") == 101
