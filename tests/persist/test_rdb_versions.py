# SPDX-License-Identifier: BSD-3-Clause
"""RDB files of every version and encoding, made by hand: each loads with the right contents, and
whatever is cut or changed in one is refused, with the offset, leaving nothing loaded."""
import random
import struct
import subprocess

import pytest

from harness import BUILD, Server, free_port
from rdb_bytes import (File, integer, intset, length, listpack, lzf_literal, lzf_run, string, text_double,
                       ziplist, zipmap)

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
