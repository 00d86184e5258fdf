# SPDX-License-Identifier: BSD-3-Clause
"""RDB files of every version and encoding, made by hand: each loads with the right contents, and
whatever is cut or changed in one is refused, with the offset, leaving nothing loaded."""
import random
import socket
import struct
import subprocess
import threading

import pytest
import redis

from harness import BUILD, Server, free_port, wait_for
from rdb_bytes import (File, crc64, integer, intset, length, listpack, lzf_literal, lzf_run, stream, stream_node, string,
                       text_double, ziplist, zipmap)

LATER_MS = 2145916800000  # 2038-01-01, which old files hold as 32-bit seconds
LONG = bytes(range(256)) * 20


def load(tmp_path, data):
    """Start a server over this dump.rdb."""
    (tmp_path / "dump.rdb").write_bytes(data)
    return Server("holdfast", directory=tmp_path)


def refused(tmp_path, data):
    """The text with which the server refuses to start over this dump.rdb."""
    (tmp_path / "dump.rdb").write_bytes(data)
    run = subprocess.run([BUILD / "holdfast-server", "--port", str(free_port()), "--bind", "127.0.0.1", "--dir", tmp_path,
                          "--appendonly", "no", "--save", ""], capture_output=True, timeout=60, text=True, errors="replace")
    assert run.returncode not in (0, None) and run.returncode > 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run.stdout + run.stderr


def version_1_to_6(version):
    """What Redis 1.x to 2.8 wrote: plain collections and, from 2.2 (version 2) on, packed ones."""
    f = File(version).select(0)
    f.key(0, b"plain", string(b"value")).key(0, b"int8", integer(-5)).key(0, b"int16", integer(300))
    f.key(0, b"int32", integer(-70000)).key(0, b"empty", string(b""))
    f.key(0, b"lzf", lzf_literal(LONG)).key(0, b"run", lzf_run(b"r", 200))
    f.key(1, b"list", length(3) + string(b"a") + integer(7) + string(b"c"))
    f.key(2, b"set", length(2) + string(b"x") + string(b"y"))
    f.key(3, b"zset", length(3) + string(b"m") + text_double(b"1.5") + string(b"top") + b"\xfe" +
          string(b"low") + b"\xff")
    f.key(4, b"hash", length(2) + string(b"f") + string(b"v") + string(b"g") + integer(12))
    f.key(0, b"expires", string(b"e"), expire_s=LATER_MS // 1000)
    f.key(0, b"gone", string(b"e"), expire_s=1)
    f.select(9).key(0, b"other", string(b"db"))
    return f


def check_version_1_to_6(r):
    assert r.get("plain") == b"value" and r.get("empty") == b"" and r.get("lzf") == LONG
    assert [r.get(k) for k in ("int8", "int16", "int32")] == [b"-5", b"300", b"-70000"]
    assert r.get("run") == b"r" * 200
    assert r.lrange("list", 0, -1) == [b"a", b"7", b"c"]
    assert r.smembers("set") == {b"x", b"y"}
    assert r.zrange("zset", 0, -1, withscores=True) == [(b"low", float("-inf")), (b"m", 1.5),
                                                        (b"top", float("inf"))]
    assert r.hgetall("hash") == {b"f": b"v", b"g": b"12"}
    assert r.execute_command("EXPIRETIME", "expires") == LATER_MS // 1000
    assert r.exists("gone") == 0
    r.select(9)
    assert r.get("other") == b"db"
    r.select(0)


@pytest.mark.parametrize("version", range(1, 7))
def test_old_versions(tmp_path, version):
    """Versions 1 to 6, whose collections are plain; 1 to 4 have no checksum."""
    with load(tmp_path, version_1_to_6(version).end()) as s:
        check_version_1_to_6(s.client())


NUMBERS = [0, 12, 13, -1, 127, -128, 300, -32768, 70000, -8388608, 1 << 30, -(1 << 31), 1 << 40, -(1 << 63)]
STRINGS = [b"", b"a", b"b" * 63, b"c" * 64, b"d" * 300]


def test_ziplists_and_zipmaps(tmp_path):
    """The packed encodings of Redis 2.2 to 6.2, in every form that their entries have."""
    items = NUMBERS + STRINGS
    expected = [str(i).encode() if isinstance(i, int) else i for i in items]
    f = File(6).select(0)
    f.key(10, b"list", string(ziplist(items)))
    f.key(12, b"zset", string(ziplist([b"m", 1, b"n", b"2.5", 77, 3])))
    f.key(13, b"hash", string(ziplist([b"f", 5, b"g", b"x" * 20])))
    f.key(9, b"zipmap", string(zipmap([(b"k", b"v"), (b"long", b"w" * 300)], unused=2)))
    f.key(11, b"ints16", string(intset([1, -2, 300], 2)))
    f.key(11, b"ints32", string(intset([1, 1 << 20], 4)))
    f.key(11, b"ints64", string(intset([1, -(1 << 62)], 8)))
    f.key(14, b"quicklist", length(2) + string(ziplist([b"q", 1])) + lzf_literal(ziplist([b"w" * 90])))
    f.key(10, b"large", string(ziplist([b"z" * 20000, b"y"])))
    with load(tmp_path, f.end()) as s:
        r = s.client()
        assert r.lrange("list", 0, -1) == expected
        assert r.zrange("zset", 0, -1, withscores=True) == [(b"m", 1.0), (b"n", 2.5), (b"77", 3.0)]
        assert r.hgetall("hash") == {b"f": b"5", b"g": b"x" * 20}
        assert r.hgetall("zipmap") == {b"k": b"v", b"long": b"w" * 300}
        assert r.smembers("ints16") == {b"1", b"-2", b"300"}
        assert r.smembers("ints32") == {b"1", b"1048576"}
        assert r.smembers("ints64") == {b"1", b"-4611686018427387904"}
        assert r.lrange("quicklist", 0, -1) == [b"q", b"1", b"w" * 90]
        assert r.lrange("large", 0, -1) == [b"z" * 20000, b"y"]


def version_10():
    f = File(10).aux(b"redis-ver", b"7.0.15").aux(b"unknown-field", b"to be skipped").select(0).resize(9, 1)
    f.key(16, b"hash", string(listpack([b"f", b"v", b"n", 5])))
    f.key(17, b"zset", string(listpack([b"a", 1, b"b", b"2.5"])))
    f.key(18, b"list", length(3) + length(2) + string(listpack(NUMBERS + STRINGS)) + length(1) +
          string(b"p" * 9000) + length(2) + string(listpack([b"end"])))
    f.key(5, b"zset2", length(2) + string(b"a") + struct.pack("<d", 1.25) + string(b"b") +
          struct.pack("<d", float("inf")))
    f.key(0, b"expires", string(b"e"), expire_ms=LATER_MS)
    f.raw(b"\xf8" + length(100)).key(0, b"idle", string(b"i"))
    f.raw(b"\xf9\x07").key(0, b"freq", string(b"f"))
    return f


def check_version_10(r):
    assert r.hgetall("hash") == {b"f": b"v", b"n": b"5"}
    assert r.zrange("zset", 0, -1, withscores=True) == [(b"a", 1.0), (b"b", 2.5)]
    assert r.lrange("list", 0, -1) == [str(i).encode() if isinstance(i, int) else i
                                       for i in NUMBERS + STRINGS] + [b"p" * 9000, b"end"]
    assert r.zrange("zset2", 0, -1, withscores=True) == [(b"a", 1.25), (b"b", float("inf"))]
    assert r.execute_command("PEXPIRETIME", "expires") == LATER_MS
    assert 100 <= r.object("idletime", "idle") < 110
    assert r.get("freq") == b"f"


def test_version_10(tmp_path):
    """What Redis 7.0 writes: listpacks, quicklists of both kinds of nodes, idle times."""
    with load(tmp_path, version_10().end()) as s:
        check_version_10(s.client())


@pytest.mark.parametrize("version", [11, 12])
def test_newer_versions(tmp_path, version):
    """Versions 11 and 12 (Redis 7.2 and 7.4) bring sets in listpacks and slot information."""
    f = File(version).select(0).raw(b"\xf4" + length(3) + length(1) + length(0))
    f.key(20, b"set", string(listpack([b"a", 5, b"c"])))
    with load(tmp_path, f.end()) as s:
        assert s.client().smembers("set") == {b"a", b"5", b"c"}


NODE = stream_node((1000, 1), [b"f", b"g"], [(1000, 1, [(b"f", b"v"), (b"g", 7)], 0), (1000, 2, [(b"f", b"x"), (b"g", b"y")], 1),
                                             (1005, 0, [(b"other", b"z")], 0)])
GROUPS = [(b"group", (1000, 1), 1, [((1000, 1), 5000, 3)], [(b"idle", 4000, 4100, []), (b"reader", 6000, 5500, [(1000, 1)])])]


def stream_value(version):
    return stream(version, [NODE], 2, (1005, 0), first=(1000, 1), max_deleted=(1000, 2), added=3, groups=GROUPS)


def check_stream(r, key, version):
    assert r.xrange(key) == [(b"1000-1", {b"f": b"v", b"g": b"7"}), (b"1005-0", {b"other": b"z"})]
    info = r.xinfo_stream(key)
    assert info["length"] == 2 and info["last-generated-id"] == b"1005-0"
    # Before version 2 nobody counted what was added, and deleted.
    assert info["entries-added"] == (3 if version >= 2 else 2)
    assert info["max-deleted-entry-id"] == (b"1000-2" if version >= 2 else b"0-0")
    [group] = r.xinfo_groups(key)
    assert group["name"] == b"group" and group["last-delivered-id"] == b"1000-1" and group["pending"] == 1
    assert group["entries-read"] == 1
    [pending] = r.xpending_range(key, "group", "-", "+", 10)
    assert (pending["message_id"], pending["consumer"], pending["times_delivered"]) == (b"1000-1", b"reader", 3)
    idle, reader = sorted(r.xinfo_consumers(key, "group"), key=lambda c: c["name"])
    assert (idle["name"], idle["pending"], reader["name"], reader["pending"]) == (b"idle", 0, b"reader", 1)


def is_list(*items):
    return lambda r, key: r.lrange(key, 0, -1) == list(items)


def is_set(*members):
    return lambda r, key: r.smembers(key) == set(members)


def is_zset(*pairs):
    return lambda r, key: r.zrange(key, 0, -1, withscores=True) == list(pairs)


def is_hash(pairs):
    return lambda r, key: r.hgetall(key) == pairs


def is_stream(version):
    def check(r, key):
        check_stream(r, key, version)
        return True
    return check


def binary_double(d):
    return struct.pack("<d", d)


# Each encoding: its name, the version of the file in which it first occurs, type code, value, what is read.
ENCODINGS = [
    ("string", 1, 0, string(b"v"), lambda r, key: r.get(key) == b"v"),
    ("integer", 1, 0, integer(-70000), lambda r, key: r.get(key) == b"-70000"),
    ("lzf", 1, 0, lzf_run(b"r", 100), lambda r, key: r.get(key) == b"r" * 100),
    ("list", 1, 1, length(2) + string(b"a") + integer(7), is_list(b"a", b"7")),
    ("set", 1, 2, length(2) + string(b"a") + integer(7), is_set(b"a", b"7")),
    ("zset", 1, 3, length(2) + string(b"a") + text_double(b"1.5") + string(b"b") + b"\xfe", is_zset((b"a", 1.5), (b"b", float("inf")))),
    ("hash", 1, 4, length(1) + string(b"f") + string(b"v"), is_hash({b"f": b"v"})),
    ("zipmap", 2, 9, string(zipmap([(b"f", b"v"), (b"g", b"w")], unused=1)), is_hash({b"f": b"v", b"g": b"w"})),
    ("ziplist list", 2, 10, string(ziplist([b"a", 1, -3])), is_list(b"a", b"1", b"-3")),
    ("intset", 2, 11, string(intset([-5, 3, 1 << 40], 8)), is_set(b"-5", b"3", b"1099511627776")),
    ("ziplist zset", 2, 12, string(ziplist([b"a", 1, b"b", b"2.5"])), is_zset((b"a", 1.0), (b"b", 2.5))),
    ("ziplist hash", 4, 13, string(ziplist([b"f", 5, b"g", b"x"])), is_hash({b"f": b"5", b"g": b"x"})),
    ("quicklist", 7, 14, length(2) + string(ziplist([b"a"])) + lzf_literal(ziplist([b"b" * 80])), is_list(b"a", b"b" * 80)),
    ("zset 2", 8, 5, length(2) + string(b"a") + binary_double(-1.25) + string(b"b") + binary_double(float("inf")),
     is_zset((b"a", -1.25), (b"b", float("inf")))),
    ("stream", 9, 15, stream_value(1), is_stream(1)),
    ("listpack hash", 10, 16, string(listpack([b"f", 5])), is_hash({b"f": b"5"})),
    ("listpack zset", 10, 17, string(listpack([b"a", b"0.5", b"b", 2])), is_zset((b"a", 0.5), (b"b", 2.0))),
    ("quicklist 2", 10, 18, length(2) + length(1) + string(b"p" * 9000) + length(2) + string(listpack([b"end", 1])),
     is_list(b"p" * 9000, b"end", b"1")),
    ("stream 2", 10, 19, stream_value(2), is_stream(2)),
    ("listpack set", 11, 20, string(listpack([b"a", 5])), is_set(b"a", b"5")),
    ("stream 3", 11, 21, stream_value(3), is_stream(3)),
    ("hash with times", 12, 24, struct.pack("<q", LATER_MS) + length(2) + length(1) + string(b"f") + string(b"v") + length(0) +
     string(b"g") + string(b"w"), is_hash({b"f": b"v", b"g": b"w"})),
    ("listpack hash with times", 12, 25, struct.pack("<q", LATER_MS) + string(listpack([b"f", b"v", LATER_MS, b"g", b"w", 0])),
     is_hash({b"f": b"v", b"g": b"w"})),
]
LIBRARY = b"#!lua name=lib\nredis.register_function('answer', function() return 42 end)"


def everything(version):
    """All that a file of this version can hold."""
    f = File(version)
    if version >= 7:
        f.aux(b"redis-ver", b"x").aux(b"redis-bits", b"64").aux(b"ctime", b"1500000000")
    if version >= 10:
        f.raw(b"\xf5" + string(LIBRARY))
    f.select(0)
    if version >= 7:
        f.resize(100, 2)
    if version >= 12:
        f.raw(b"\xf4" + length(12) + length(1) + length(0))
    for name, since, kind, value, _ in ENCODINGS:
        if version >= since:
            f.key(kind, name.encode(), value)
    f.key(0, b"in seconds", string(b"e"), expire_s=LATER_MS // 1000).key(0, b"gone by seconds", string(b"e"), expire_s=1)
    if version >= 3:
        f.key(0, b"in ms", string(b"e"), expire_ms=LATER_MS + 7).key(0, b"gone by ms", string(b"e"), expire_ms=5)
    if version >= 9:
        f.raw(b"\xf8" + length(100)).key(0, b"by LRU", string(b"i"))
        f.raw(b"\xf9\x63").key(0, b"by LFU", string(b"f"))
        f.raw(b"\xf8" + length(50)).key(0, b"both", string(b"b"), expire_ms=LATER_MS)
    return f.select(15).key(0, b"last", string(b"db"))


@pytest.mark.parametrize("version", range(1, 13))
def test_every_encoding(tmp_path, version):
    """Each encoding in files of each version from the one on in which it appeared, with all that stands beside keys."""
    (tmp_path / "dump.rdb").write_bytes(everything(version).end())
    with Server("holdfast", {"maxmemory-policy": "allkeys-lfu"} if version >= 9 else {}, directory=tmp_path) as s:
        r = s.client()
        for name, since, _, _, check in ENCODINGS:
            assert check(r, name) if version >= since else not r.exists(name), name
        assert r.execute_command("PEXPIRETIME", "in seconds") == LATER_MS
        assert not r.exists("gone by seconds", "gone by ms") and not r.exists("in ms") == (version < 3)
        if version >= 3:
            assert r.execute_command("PEXPIRETIME", "in ms") == LATER_MS + 7
        if version >= 9:
            # An access adds to the counter with a small chance only.
            assert 99 <= r.object("freq", "by LFU") <= 102
            assert r.get("by LRU") == b"i" and r.execute_command("PEXPIRETIME", "both") == LATER_MS
        if version >= 10:
            assert r.fcall("answer", 0) == 42
        if version >= 12:
            for key in ("hash with times", "listpack hash with times"):
                assert r.execute_command("HPEXPIRETIME", key, "FIELDS", 2, "f", "g") == [LATER_MS, -1]
        # What was read is written, read again and the same.
        digest = r.execute_command("DEBUG", "DIGEST")
        r.execute_command("DEBUG", "RELOAD")
        assert r.execute_command("DEBUG", "DIGEST") == digest
        r.select(15)
        assert r.get("last") == b"db" and r.dbsize() == 1


@pytest.mark.parametrize("version", [7, 8, 9, 10])
def test_same_as_redis_server(tmp_path, version):
    """redis-server 7.0 loads the same file to the same data, up to its own version."""
    digests = []
    for kind in ("holdfast", "redis"):
        directory = tmp_path / kind
        directory.mkdir()
        (directory / "dump.rdb").write_bytes(everything(version).end())
        with Server(kind, directory=directory) as s:
            digests.append(s.client().execute_command("DEBUG", "DIGEST"))
    assert digests[0] == digests[1]


def test_checksum_may_be_absent(tmp_path):
    """rdbchecksum no writes a zero in its place."""
    with load(tmp_path, version_10().end(checksum=0)) as s:
        check_version_10(s.client())


REFUSED = {
    "a wrong checksum": lambda: version_10().end(checksum=12345),
    "no RDB at all": lambda: b"this is something else entirely",
    "an empty file": lambda: b"",
    "a version from the future": lambda: File(99).end(),
    "an unknown type": lambda: File(10).key(77, b"k", string(b"v")).end(),
    "a module's value": lambda: File(10).key(7, b"k", string(b"v")).end(),
    "a module's value of version 2": lambda: File(10).key(7, b"k", length(123456) + length(0)).end(),
    "a module's value of version 1": lambda: File(8).key(6, b"k", length(123456)).end(),
    "a module's data beside the keys": lambda: File(9).raw(b"\xf7" + length(123456) + length(2) + length(1) + length(0)).end(),
    "a stream whose length is wrong": lambda: File(9).key(15, b"k", stream(1, [NODE], 3, (1005, 0))).end(),
    "a stream whose pending entry is nobody's": lambda: File(9).key(15, b"k", stream(1, [NODE], 2, (1005, 0), groups=[
        (b"g", (1000, 1), 0, [((1000, 1), 5, 1)], [])])).end(),
    "functions as a release candidate had them": lambda: File(10).raw(b"\xf6" + string(b"x")).end(),
    "a length beyond the file": lambda: File(10).key(0, b"k", length(1 << 40) + b"abc").end(),
    "a count beyond the file": lambda: File(10).key(4, b"k", length(1 << 50)).end(),
    "a key twice": lambda: File(10).key(0, b"k", string(b"1")).key(0, b"k", string(b"2")).end(),
    "a member twice": lambda: File(10).key(2, b"k", length(2) + string(b"a") + string(b"a")).end(),
    "a field twice": lambda: File(10).key(16, b"k", string(listpack([b"a", 1, b"a", 2]))).end(),
    "a field without value": lambda: File(10).key(16, b"k", string(listpack([b"a"]))).end(),
    "a score that is no number": lambda: File(10).key(17, b"k", string(listpack([b"a", b"x"]))).end(),
    "an intset out of order": lambda: File(10).key(11, b"k", string(struct.pack("<IIhh", 2, 2, 5, 1))).end(),
    "a ziplist with a wrong size": lambda: File(6).key(10, b"k", string(ziplist([b"a"])[:-2] + b"\xff")).end(),
    "LZF that does not unpack": lambda: File(10).key(0, b"k", b"\xc3" + length(3) + length(50) + b"\xff\xff\xff").end(),
    "LZF of an impossible length": lambda: File(10).key(0, b"k", b"\xc3" + length(3) + length(1 << 31) + b"abc").end(),
    "a database that is not there": lambda: File(10).select(999).key(0, b"k", string(b"v")).end(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_damage_is_refused(tmp_path, what):
    """The server does not start, and says at which offset what is wrong."""
    text = refused(tmp_path, REFUSED[what]())
    assert "offset" in text, text
    assert "Sanitizer" not in text and "runtime error" not in text, text


def test_every_cut_is_refused(tmp_path):
    """A file cut short anywhere is refused when the cut takes anything that matters away."""
    data = version_10().end()
    for size in sorted(random.Random(1).sample(range(len(data)), 12)):
        text = refused(tmp_path, data[:size])
        assert "offset" in text and "Sanitizer" not in text, text


def field_value_times(*triples):
    """A hash with times as Valkey 9 writes it, under the code that a release candidate of Redis 7.4 had for another form."""
    return length(len(triples)) + b"".join(string(f) + string(v) + struct.pack("<q", t) for f, v, t in triples)


LATER = {"Redis": (b"REDIS0013", 13), "Redis, long after": (b"REDIS0099", 99), "Valkey": (b"VALKEY080", 80)}


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("which", LATER)
def test_later_versions(tmp_path, which, threads):
    """`rdb-version-check`: strict refuses them; relaxed takes them as far as all in them is known, with -LOADING's threads
    and without."""
    magic, version = LATER[which]
    f = everything(9)
    f.version, f.data = version, magic + f.data[9:]
    data = f.end()
    assert f"RDB version {version}" in refused(tmp_path, data)
    options = {"rdb-version-check": "relaxed", "load-threads": threads}
    with Server(options=options, directory=tmp_path) as server:
        client = server.client()
        assert "has no effect" not in server.text()
        assert all(check(client, name) for name, since, _, _, check in ENCODINGS if since <= 9)
        digest = client.execute_command("DEBUG", "DIGEST")
        client.config_set("rdb-version-check", "strict")
        with pytest.raises(redis.exceptions.RedisError):
            client.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE")
        client.config_set("rdb-version-check", "relaxed")
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        assert client.execute_command("DEBUG", "DIGEST") == digest
        client.save()
    assert (tmp_path / "dump.rdb").read_bytes()[:9] == b"REDIS0010"


@pytest.mark.parametrize("code, value", [(26, b""), (243, b"\0\0"), (22, None)])
def test_what_is_not_known_of_a_later_version(tmp_path, code, value):
    """What a later version has brought is refused with its offset, and so is what means something else in Valkey's."""
    magic, version = LATER["Valkey" if value is None else "Redis"]
    f = File(version)
    f.data = magic
    f.select(0).key(0, b"good", string(b"v"))
    offset = len(f.data) + 1
    if value is None:
        value = field_value_times((b"f", b"v", LATER_MS))
    f.raw(bytes([code]) + string(b"k") + value)
    (tmp_path / "dump.rdb").write_bytes(f.end())
    server = Server(options={"rdb-version-check": "relaxed"}, directory=tmp_path, wait=False)
    assert server.process.wait(60) == 1
    assert f"offset {offset}: RDB version {version} has something that is not known, code {code}" in server.text()
    server.terminate()


def test_payloads_of_later_versions(server):
    """RESTORE and FUNCTION RESTORE as files: only with relaxed, and only what is known."""
    raw = server.raw()
    def of_version(payload, version):
        body = payload[:-10] + struct.pack("<H", version)
        return body + struct.pack("<Q", crc64(body))
    raw("RPUSH", "l", 1, 2, "x" * 100)
    payload = of_version(raw("DUMP", "l"), 13)
    raw("FUNCTION", "FLUSH")
    raw("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    functions = of_version(raw("FUNCTION", "DUMP"), 13)
    wrong = "ERR DUMP payload version or checksum are wrong"
    assert raw("RESTORE", "copy", 0, payload) == wrong and raw("FUNCTION", "RESTORE", functions, "REPLACE") == wrong
    raw("CONFIG", "SET", "rdb-version-check", "relaxed")
    assert raw("RESTORE", "copy", 0, payload) == "OK" and raw("LRANGE", "copy", 0, -1) == raw("LRANGE", "l", 0, -1)
    assert raw("FUNCTION", "RESTORE", functions, "REPLACE") == "OK"
    unknown = of_version(b"\x1a" + string(b"v") + bytes(10), 13)
    assert raw("RESTORE", "other", 0, unknown) == "ERR Bad data format"
    assert raw("RESTORE", "other", 0, payload[:-1] + bytes([payload[-1] ^ 1])) == wrong
    raw("CONFIG", "SET", "rdb-version-check", "strict")
    raw("FUNCTION", "FLUSH")


def test_a_primary_of_a_later_version():
    """A replica asks rdb-version-check, too, whether what comes is loaded as it comes or by a file."""
    f = File(13).select(0).key(0, b"k", string(b"v"))
    data = f.end()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def primary():
            while True:
                try:
                    peer = listener.accept()[0]
                except OSError:
                    return
                threading.Thread(target=serve, args=(peer,), daemon=True).start()
        def serve(peer):
            with peer, peer.makefile("rb") as lines:
                for line in lines:
                    word = line.strip().upper()
                    if word == b"PING":
                        peer.sendall(b"+PONG\r\n")
                    elif word == b"REPLCONF" and b"ACK" not in lines.peek(64)[:64].upper():
                        peer.sendall(b"+OK\r\n")
                    elif word == b"PSYNC":
                        peer.sendall(b"+FULLRESYNC %040d 1\r\n$%d\r\n" % (7, len(data)) + data)
        threading.Thread(target=primary, daemon=True).start()
        for load in ("disabled", "swapdb"):
            options = {"repl-diskless-load": load, "replicaof": ["127.0.0.1", listener.getsockname()[1]]}
            with Server(options=options) as replica:
                raw = replica.raw()
                wait_for(lambda: b"RDB version 13" in raw("INFO", "replication"))
                raw("CONFIG", "SET", "rdb-version-check", "relaxed")
                wait_for(lambda: b"master_link_status:up" in raw("INFO", "replication"))
                assert raw("GET", "k") == b"v"
