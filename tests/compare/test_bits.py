# SPDX-License-Identifier: BSD-3-Clause
"""Bitmaps and HyperLogLogs beside redis-server, where random commands do not go: values exchanged both
ways, damaged HyperLogLogs, far offsets, what is published, and what newer versions have."""
import random

import pytest

from harness import Error, Server, Simple


@pytest.fixture(scope="module")
def pair():
    with Server("redis") as theirs, Server() as ours:
        yield theirs, ours


@pytest.fixture
def raws(pair):
    raws = [server.raw() for server in pair]
    for raw in raws:
        raw("FLUSHALL")
        raw("CONFIG", "SET", "hll-sparse-max-bytes", 3000)
    yield raws
    for raw in raws:
        raw.close()


def same(raws, *args):
    theirs, ours = (raw(*args) for raw in raws)
    assert theirs == ours, args
    return ours


# The same elements make the same bytes, at any size, sparse and dense; each server goes on with the other's value.
def test_hll_bytes(raws, seed):
    rng = random.Random(seed)
    for limit in (3000, 0, 40, 1000, 20000):
        for raw in raws:
            raw("CONFIG", "SET", "hll-sparse-max-bytes", limit)
            raw("FLUSHALL")
        for size in (1, 2, 5, 30, 300, 1500, 5000):
            elements = [rng.randbytes(rng.randint(0, 20)) for _ in range(size)]
            same(raws, "PFADD", "a", *elements)
            same(raws, "PFADD", "b", *elements[::3], b"%d" % size)
            same(raws, "PFCOUNT", "b")
            same(raws, "PFCOUNT", "a", "b", "none")
            same(raws, "PFDEBUG", "ENCODING", "a")
            same(raws, "PFDEBUG", "DECODE", "a")
            same(raws, "PFMERGE", "c", "b", "none")
            for key in "abc":
                same(raws, "GET", key)
            values = [raw("GET", "a") for raw in raws]
            for raw, value in zip(raws, reversed(values)):
                raw("SET", "a", value)
        same(raws, "PFMERGE", "c", "a")
        same(raws, "PFDEBUG", "GETREG", "c")
        same(raws, "PFDEBUG", "TODENSE", "b")
        same(raws, "DEBUG", "DIGEST")


# What is damaged is refused with Redis's words, or does what it does there.
def test_damaged_hll(raws, seed):
    rng = random.Random(seed)
    theirs, ours = raws
    theirs("PFADD", "k", *range(60))
    sparse = theirs("GET", "k")
    theirs("PFDEBUG", "TODENSE", "k")
    dense = theirs("GET", "k")
    values = [b"", b"HYLL", b"HYLL" + bytes(12), b"HYLL\x01" + bytes(11), b"HYLL\x02" + bytes(11), b"hyll\x01" + bytes(20),
              sparse[:-1], sparse + b"\x00", sparse[:20], dense[:-1], dense + b"\x00", b"12345"]
    for _ in range(150):
        damaged = bytearray(rng.choice((sparse, sparse, dense)))
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(min(len(damaged), 100))] = rng.randrange(256)
        values.append(bytes(damaged))
    replies = set()
    for value in values:
        for args in (("PFCOUNT", "k"), ("PFADD", "k", "new", "ones"), ("PFCOUNT", "k", "k"), ("PFMERGE", "to", "k"), ("PFMERGE", "k"),
                     ("PFDEBUG", "TODENSE", "k")):
            for raw in raws:
                raw("DEL", "to")
                raw("SET", "k", value)
            replies.add(str(same(raws, *args)))
            # A PFADD that meets damage half-way may go as far as redis-server or not: nothing relies on it.
            if not str(same(raws, "PFCOUNT", "k")).startswith("INVALIDOBJ"):
                same(raws, "GET", "k")
            same(raws, "GET", "to")
    assert {r.split()[0] for r in replies} >= {"WRONGTYPE", "INVALIDOBJ"}


# A run that is cut off in its middle is damage (redis-server reads one byte too many).
def test_hll_run_cut_off(raws):
    ours = raws[1]
    ours("SET", "k", b"HYLL\x01" + bytes(10) + b"\x80\x7f")
    for args in (("PFADD", "k", "x"), ("PFCOUNT", "k"), ("PFMERGE", "k"), ("PFDEBUG", "DECODE", "k")):
        assert ours(*args) == Error("INVALIDOBJ Corrupted HLL object detected")


# The self test passes.
def test_hll_self_test(raws):
    assert raws[1]("PFSELFTEST") == Simple("OK")


# Offsets at the end of what a string may have; nothing is made of what is refused.
def test_far_bits(raws):
    last = 2 ** 32 - 1
    same(raws, "SETBIT", "k", 100000000, 1)
    for offset in (last + 1, 2 ** 40, -1, "#1", "x"):
        for args in (("SETBIT", "no", offset, 1), ("GETBIT", "k", offset), ("BITFIELD", "no", "SET", "u8", offset, 1)):
            same(raws, *args)
    same(raws, "EXISTS", "no")
    same(raws, "GETBIT", "k", last)
    for args in (("BITCOUNT", "k"), ("BITPOS", "k", 1), ("BITPOS", "k", 0, -1), ("BITFIELD", "k", "GET", "u63", last),
                 ("BITCOUNT", "k", -1, -1, "BIT"), ("BITPOS", "k", 1, 5, -1, "BIT"), ("BITOP", "NOT", "n", "k"), ("BITCOUNT", "n"),
                 ("BITPOS", "n", 0), ("BITOP", "XOR", "n", "n", "k"), ("BITCOUNT", "n"), ("STRLEN", "n"), ("DEBUG", "DIGEST")):
        same(raws, *args)
    # Far behind the end costs nothing here.
    ours = raws[1]
    ours("FLUSHALL")
    before = ours("MEMORY", "USAGE", "none") or 0
    assert ours("SETBIT", "far", last, 1) == 0 and ours("BITOP", "OR", "copy", "far", "far") == 2 ** 29
    assert ours("BITCOUNT", "copy") == 1 and ours("BITPOS", "copy", 1) == last and ours("GETBIT", "copy", last) == 1
    assert ours("MEMORY", "USAGE", "copy") - before < 40000
    ours("FLUSHALL")


# The numeric ends of every field: each type, each mode of overflow.
def test_field_ends(raws):
    ends = [0, 1, -1, 127, 128, -128, -129, 255, 256, 2 ** 31, 2 ** 62, 2 ** 63 - 1, -2 ** 63, -2 ** 63 + 1]
    for kind in ("u1", "i1", "u8", "i8", "u63", "i63", "i64", "u32", "i33"):
        for mode in ("WRAP", "SAT", "FAIL"):
            args = ["BITFIELD", "k", "OVERFLOW", mode]
            for value in ends:
                for more in ends:
                    args += ["SET", kind, 3, value, "INCRBY", kind, 3, more]
            same(raws, *args)
    same(raws, "GET", "k")


# What redis-server 8.2 has besides: DIFF, DIFF1, ANDOR, ONE.
def test_bitop_8_2(raws):
    ours = raws[1]
    keys = {"x": 0b11110000, "y": 0b11001100, "z": 0b10101010}
    for key, value in keys.items():
        ours("SET", key, bytes([value]))
    for op, expected in (("DIFF", 0b00010000), ("DIFF1", 0b00001110), ("ANDOR", 0b11100000), ("ONE", 0b00010110)):
        assert ours("BITOP", op, "to", "x", "y", "z") == 1 and ours("GET", "to") == bytes([expected]), op
    assert ours("BITOP", "one", "to", "x") == 1 and ours("GET", "to") == b"\xf0"
    for op in ("DIFF", "DIFF1", "ANDOR"):
        assert ours("BITOP", op, "to", "x") == Error(f"ERR BITOP {op} must be called with at least two source keys.")


# Each change is published as redis-server does.
def test_events(pair, raws):
    steps = [("SETBIT", "k", 7, 1), ("SETBIT", "k", 7, 1), ("SETBIT", "k", 70, 0), ("BITFIELD", "k", "SET", "u8", 0, 5),
             ("BITFIELD", "k", "SET", "u8", 0, 5), ("BITFIELD", "k", "GET", "u8", 0), ("BITOP", "AND", "to", "k", "k"),
             ("BITOP", "AND", "to", "none"), ("BITOP", "AND", "to", "none"), ("PFADD", "p", "x"), ("PFADD", "p", "x"), ("PFCOUNT", "p"),
             ("PFADD", "p"), ("PFADD", "q"), ("PFMERGE", "r", "p", "q"), ("PFCOUNT", "r", "q"), ("PFDEBUG", "TODENSE", "p"),
             ("GEOADD", "g", 13, 52, "a", 14, 52, "b"), ("GEOADD", "g", 13, 52, "a"), ("GEOADD", "g", "CH", 13, 53, "a"),
             ("GEOSEARCHSTORE", "h", "g", "FROMMEMBER", "a", "BYRADIUS", 1000, "km"), ("GEORADIUS", "g", 13, 52, 1, "m", "STORE", "h"),
             ("GEORADIUS", "g", 13, 52, 100, "km", "STOREDIST", "i"), ("GEOSEARCHSTORE", "h", "g", "FROMLONLAT", 0, 0, "BYBOX", 1, 1, "m")]
    told = []
    for server, raw in zip(pair, raws):
        raw("CONFIG", "SET", "notify-keyspace-events", "KEAn")
        listener = server.raw()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        for step in steps:
            raw(*step)
        raw("PUBLISH", "__keyevent@0__:end", "end")
        events = []
        while not events or events[-1][1] != b"end":
            _, _, channel, key = listener.read()
            events.append((channel.split(b":")[1], key))
        told.append(events)
        listener.close()
        raw("CONFIG", "SET", "notify-keyspace-events", "")
    assert told[0] == told[1]


# A string that a BITFIELD has made longer, with no write that did not fail, is no other one to who watches it.
def test_failed_bitfield_and_watch(raws):
    longer = ("BITFIELD", "k", "OVERFLOW", "FAIL", "SET", "u8", 100, 256)
    for first, change, then in (([], longer, []), ([("SET", "k", "v")], longer, []), ([], ("BITFIELD", "k", "SET", "u8", 100, 0), ("null array",)),
                                ([("SETRANGE", "k", 50, "v")], longer, [])):
        same(raws, "FLUSHALL")
        for args in first:
            same(raws, *args)
        same(raws, "WATCH", "k")
        same(raws, *change)
        same(raws, "MULTI")
        assert same(raws, "EXEC") == then, (first, change)
        same(raws, "GET", "k")
        same(raws, "DEBUG", "DIGEST")


# PFDEBUG takes the string apart, which is told by its encoding, also where it refuses or changes nothing.
@pytest.mark.parametrize("what", ["DECODE", "ENCODING", "GETREG", "TODENSE", "NONSENSE"])
def test_encoding_behind_pfdebug(raws, what):
    same(raws, "PFADD", "h")
    same(raws, "DEBUG", "RELOAD")
    assert same(raws, "OBJECT", "ENCODING", "h") == b"embstr"
    same(raws, "PFDEBUG", what, "h")
    assert same(raws, "OBJECT", "ENCODING", "h") == b"raw"
    same(raws, "SET", "s", "no HyperLogLog")
    same(raws, "PFDEBUG", what, "s")
    same(raws, "OBJECT", "ENCODING", "s")


# Whether BITFIELD writes its key is told from its arguments; what is not understood counts as writing.
def test_keys_of_bitfield(raws):
    for line in ("", "GET u8 0", "OVERFLOW sat GET u8 0", "OVERFLOW sat", "OVERFLOW", "GET u8", "GET", "i08 -33", "x GET u8 0", "SET u8 0",
                 "SET u8 0 1", "INCRBY u8 0 1", "GET u8 0 SET u8 0 1", "GET u8 0 OVERFLOW"):
        same(raws, "COMMAND", "GETKEYSANDFLAGS", "BITFIELD", "k", *line.split())
