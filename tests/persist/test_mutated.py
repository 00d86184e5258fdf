# SPDX-License-Identifier: BSD-3-Clause
"""Payloads that are damaged at random and have a right checksum again: RESTORE, FUNCTION RESTORE and the loading
of a file give an error or a valid value, which can be read, changed, dumped and saved; never a crash, a hang or
more memory than the payload is due.

HF_MUTATED says how many payloads are tried (100000 in the long run), HF_SEED repeats a run."""
import os
import struct

import pytest

import data
import rdb_bytes as rb
from harness import Error, Server, Simple

TRIES = int(os.environ.get("HF_MUTATED", 1500))
BATCH = 50
# LZF makes at most 264 bytes of 3: what a batch of payloads may need at once, the replies to its reads included.
MEMORY = 24 << 20
LONGEST = 3000


def old_encodings():
    """Values in the encodings that no server of today writes."""
    words = [b"a", b"", 7, -70000, 2 ** 40, b"x" * 70, b"m" * 300]
    pairs = [(b"a", b"1"), (b"b", b""), (b"", b"x" * 260)]
    scores = [b"a", 1, b"b", b"2.5", b"c", b"-inf"]
    yield b"\0" + rb.lzf_literal(b"some words" * 9)
    yield b"\0" + rb.lzf_run(b"z", 200)
    yield b"\1" + rb.length(3) + rb.string(b"a") + rb.integer(-5) + rb.lzf_run(b"q", 100)
    yield b"\2" + rb.length(2) + rb.string(b"a") + rb.string(b"b")
    yield b"\3" + rb.length(3) + rb.string(b"a") + rb.text_double(b"1.5") + rb.string(b"b") + b"\xfe" + rb.string(b"c") + b"\xff"
    yield b"\4" + rb.length(2) + b"".join(rb.string(x) for x in (b"f", b"v", b"g", b"w" * 100))
    yield b"\5" + rb.length(2) + rb.string(b"a") + struct.pack("<d", 1.5) + rb.string(b"b") + struct.pack("<d", -2)
    yield b"\x09" + rb.string(rb.zipmap(pairs, 2))
    yield b"\x0a" + rb.string(rb.ziplist(words))
    for width, numbers in ((2, (1, 2, -3)), (4, (70000, -70000)), (8, (2 ** 40, 0))):
        yield b"\x0b" + rb.string(rb.intset(numbers, width))
    yield b"\x0c" + rb.string(rb.ziplist(scores))
    yield b"\x0d" + rb.string(rb.ziplist([b"f", 1, b"g", b"v" * 80]))
    yield b"\x0e" + rb.length(2) + rb.string(rb.ziplist(words)) + rb.string(rb.ziplist([1, 2]))
    yield b"\x10" + rb.string(rb.listpack([b"f", 1, b"g", b"v" * 80]))
    yield b"\x11" + rb.string(rb.listpack(scores))
    yield b"\x12" + rb.length(2) + b"\1" + rb.string(b"x" * 500) + b"\2" + rb.string(rb.listpack(words))
    yield b"\x14" + rb.string(rb.listpack(words))


@pytest.fixture(scope="module")
def seeds():
    """Values as DUMP gives them, without the footer: what both servers make of the data of every type, and old
    encodings; the long ones are left out."""
    found = list(old_encodings())
    for kind in ("redis", "holdfast"):
        for options in ({}, {"hash-max-listpack-entries": "2", "zset-max-listpack-entries": "2", "rdbcompression": "no",
                             "set-max-intset-entries": "2", "list-max-listpack-size": "4", "stream-node-max-entries": "3"}):
            with Server(kind, options) as server:
                raw = server.raw()
                data.fill(raw)
                more = [("XADD", "x", f"{i}-{i % 3 + 1}", "f", i, *("g", "v") * (i % 2)) for i in range(1, 9)]
                more += [("XDEL", "x", "3-1"), ("XGROUP", "CREATE", "x", "group", 0), ("XGROUP", "CREATE", "x", "other", "2-3"),
                         ("XREADGROUP", "GROUP", "group", "one", "COUNT", 3, "STREAMS", "x", ">"),
                         ("XREADGROUP", "GROUP", "group", "two", "STREAMS", "x", ">"), ("XACK", "x", "group", "1-2")]
                more += [("ZADD", "z", *(y for i in range(8) for y in (i * 1.5, f"m{i}"))), ("SADD", "S", *"abcdefgh", 1, 2),
                         ("HSET", "h", *(y for i in range(6) for y in (f"f{i}", i))), ("RPUSH", "l", *"abcd", 1, 2, 3, 1 << 40),
                         ("PFADD", "p", *range(20)), ("SADD", "i", *range(9)), ("SET", "s", "abc" * 50)]
                if kind == "holdfast":
                    more += [("HSET", "he", *(y for i in range(6) for y in (f"f{i}", i))),
                             ("HPEXPIREAT", "he", data.FAR_MS, "FIELDS", 2, "f1", "f4"),
                             ("HSET", "hb", *(y for i in range(40) for y in (f"f{i}", "v" * (i + 40)))),
                             ("HPEXPIREAT", "hb", data.FAR_MS, "FIELDS", 2, "f1", "f4")]
                for args, reply in zip(more, raw.pipeline(more)):
                    assert not isinstance(reply, Error), (args, reply)
                for db in range(16):
                    raw("SELECT", db)
                    keys = [k for k in raw("KEYS", "*") if not k.startswith(b"many:")]
                    found += [d[:-10] for d in raw.pipeline([("DUMP", k) for k in keys])]
    return sorted({f for f in found if len(f) <= LONGEST})


def functions():
    """What FUNCTION DUMP gives, without the footer."""
    found = []
    for kind in ("redis", "holdfast"):
        with Server(kind) as server:
            raw = server.raw()
            for name in ("one", "two"):
                code = f"#!lua name={name}\nredis.register_function('{name}', function(k, a) return a end)"
                assert raw("FUNCTION", "LOAD", code) == name.encode()
                found.append(raw("FUNCTION", "DUMP")[:-10])
    return found


LENGTHS = [rb.length(n) for n in (0, 1, 63, 64, 16383, 1 << 20, (1 << 31) - 1, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)]
BYTES = [0, 1, 2, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xBF, 0xC0, 0xC3, 0xE0, 0xF0, 0xF4, 0xFE, 0xFF]


def mutate(rng, value, others):
    """One to four changes, most of them small: what is destroyed is refused at once."""
    out = bytearray(value)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        if not out:
            break
        # Near the start stand the type and the lengths.
        at = rng.randrange(min(len(out), 16)) if rng.random() < 0.4 else rng.randrange(len(out))
        how = rng.randrange(10)
        if how < 2:
            out[at] ^= 1 << rng.randrange(8)
        elif how < 4:
            out[at] = rng.choice(BYTES)
        elif how == 4:
            out[at] = out[at] + rng.choice((-1, 1)) & 255
        elif how == 5:
            chosen = rng.choice(LENGTHS)
            out[at:at + rng.choice((0, 1, len(chosen)))] = chosen
        elif how == 6:
            del out[at:at + rng.choice((1, 1, 2, 8, len(out)))]
        elif how == 7:
            out[at:at] = out[rng.randrange(len(out)):][:rng.choice((1, 2, 8, 100))]
        elif how == 8:
            other = rng.choice(others)
            out[at:] = other[rng.randrange(len(other)):] if rng.random() < 0.5 else other[at:]
        else:
            width = rng.choice((2, 4, 8))
            number = rng.choice((0, 1, -1, 1 << width * 8 - 1, (1 << width * 8) - 2, rng.getrandbits(20)))
            out[at:at + width] = (number % (1 << width * 8)).to_bytes(width, rng.choice(("little", "big")))
    return bytes(out) or value


def with_footer(value, version=10):
    body = value + struct.pack("<H", version)
    return body + struct.pack("<Q", rb.crc64(body))


USES = {
    "string": lambda k: [("GET", k), ("STRLEN", k), ("GETRANGE", k, 1, -2), ("BITCOUNT", k), ("PFCOUNT", k), ("PFADD", k, "x", "y", "z"),
                         ("PFMERGE", "merged", k), ("PFDEBUG", "GETREG", k), ("APPEND", k, "more"), ("INCR", k), ("SETRANGE", k, 3, "abc")],
    "list": lambda k: [("LRANGE", k, 0, -1), ("LLEN", k), ("LINDEX", k, -2), ("LPOS", k, "a"), ("LINSERT", k, "BEFORE", "a", "new"),
                       ("LSET", k, 0, "first"), ("LREM", k, 0, "a"), ("RPUSH", k, "x", "y" * 100), ("LTRIM", k, 1, -2),
                       ("SORT", k, "ALPHA"), ("LPOP", k, 2), ("RPOP", k, 2)],
    "set": lambda k: [("SMEMBERS", k), ("SCARD", k), ("SSCAN", k, 0), ("SRANDMEMBER", k, -3), ("SADD", k, "x", 12345, "y" * 100),
                      ("SREM", k, "a", 1, "b"), ("SINTER", k, k), ("SUNIONSTORE", "to", k), ("SPOP", k, 2)],
    "hash": lambda k: [("HGETALL", k), ("HLEN", k), ("HSCAN", k, 0), ("HRANDFIELD", k, -3), ("HSET", k, "f", 1, "new", "y" * 100),
                       ("HDEL", k, "g", "f1", ""), ("HINCRBY", k, "f", 3), ("HPTTL", k, "FIELDS", 2, "f1", "f"),
                       ("HPEXPIRE", k, 100000, "FIELDS", 2, "f", "f2"), ("HPERSIST", k, "FIELDS", 1, "f2")],
    "zset": lambda k: [("ZRANGE", k, 0, -1, "WITHSCORES"), ("ZCARD", k), ("ZSCAN", k, 0), ("ZRANK", k, "a"), ("ZREVRANGE", k, 0, 3),
                       ("ZRANGEBYSCORE", k, "-inf", "+inf"), ("ZRANDMEMBER", k, -3), ("ZADD", k, 3, "a", 7, "y" * 100),
                       ("ZINCRBY", k, 1.5, "b"), ("ZREM", k, "c"), ("GEOPOS", k, "a"), ("ZUNIONSTORE", "to", 1, k),
                       ("ZREMRANGEBYRANK", k, 0, 0), ("ZPOPMAX", k, 2)],
    "stream": lambda k: [("XRANGE", k, "-", "+"), ("XREVRANGE", k, "+", "-", "COUNT", 3), ("XLEN", k), ("XINFO", "STREAM", k, "FULL", "COUNT", 0),
                         ("XINFO", "GROUPS", k), ("XINFO", "CONSUMERS", k, "group"), ("XPENDING", k, "group", "-", "+", 100),
                         ("XPENDING", k, "group"), ("XREADGROUP", "GROUP", "group", "one", "STREAMS", k, ">"),
                         ("XREADGROUP", "GROUP", "group", "two", "STREAMS", k, 0), ("XAUTOCLAIM", k, "group", "new", 0, "-"),
                         ("XACK", k, "group", "2-3", "1-2"), ("XADD", k, "*", "f", "v"), ("XDEL", k, "1-2", "4-2"),
                         ("XGROUP", "DELCONSUMER", k, "group", "two"), ("XTRIM", k, "MAXLEN", 2), ("XSETID", k, "99999999999999-1"),
                         ("XGROUP", "DESTROY", k, "other"), ("XGROUP", "SETID", k, "group", "$")],
}


def use(raw, names):
    """What was restored is used: it is read, it can be dumped and restored again as the same, and it is written to."""
    kinds = raw.pipeline([("TYPE", k) for k in names])
    for name, kind in zip(names, kinds):
        reads = raw.pipeline([("DUMP", name), ("DEBUG", "DIGEST-VALUE", name), ("OBJECT", "ENCODING", name), ("MEMORY", "USAGE", name),
                              ("COPY", name, "copy", "REPLACE"), ("DEBUG", "DIGEST-VALUE", "copy")])
        if kind == "none":
            continue  # a hash whose fields were all due
        assert isinstance(reads[0], bytes) and not any(isinstance(r, Error) for r in reads), reads
        assert reads[1] == reads[5], (kind, reads)
        assert raw("RESTORE", "again", 0, reads[0], "REPLACE") == "OK", (kind, reads)
        assert raw("DEBUG", "DIGEST-VALUE", "again") == reads[1], (kind, reads)
        raw.pipeline(USES[str(kind)](name) + USES[str(kind)](b"copy"))
        final = raw.pipeline([("DUMP", name), ("DEBUG", "DIGEST-VALUE", name), ("RESTORE", "again", 0, "", "REPLACE")])
        if isinstance(final[0], bytes):
            assert raw("RESTORE", "again", 0, final[0], "REPLACE") == "OK", (kind, final)


def within(server, raw, start):
    return int(server.client().info("memory")["used_memory_peak"]) - start < MEMORY


def one_by_one(raw, server, start, payloads, tell):
    """Which payload of a batch is to blame."""
    for payload in payloads:
        raw.pipeline([("FLUSHALL",), ("CONFIG", "RESETSTAT")])
        reply = raw("RESTORE", "k", 0, payload, "REPLACE")
        if reply == "OK":
            use(raw, [b"k"])
        assert within(server, raw, start), f"{tell}: {reply} {payload.hex()}"


# Payloads that once gave a value which did not serve as one: a stream with as many entries added as there are numbers; an entry that was
# delivered longer ago than there are numbers for.
@pytest.mark.parametrize("payload", [
    "13000000000000000081ffffffffffffffff010167000081ffffffffffffffff00000a00bb045dc409263acf",
    "130310000000000000000100000000000000023f3f00000019000201010102018166028167020001020100010001010181760205010001010101010101816602"
    "0201060103010201dfff0203018176020501ff10000000000000000400000000000000023c3c0000001800030100010101816602000102010001000104010401"
    "00010101010102018166020501816702817602080102010201dfff0206010401ff10000000000000000700000000000000023131000000130002010001020181"
    "6602816702000102010001000107018176020501000101010101010181660208010601ff0708030102030108020567726f757008030806000000000000000200"
    "00000000000003eb18d100a20100000100000000000000040000000000000002eb18d100a20100000100000000000000050000000000000003eb18d100a20100"
    "000100000000000000060000000000000001eb18d100a20100000100000000000000070000000000000002eb18d100a201008001000000000000000800000000"
    "00000003eb18d100a20100000102036f6e65eb18d100a20100000200000000000000020000000000000003000000000000000400000000000000020374776feb"
    "18d100a2010000040000000000000005000000000000000300000000000000060000000000000001000000000000000700000000000000020000000000000008"
    "0000000000000003056f74686572020381ffffffffffffffff00000a009bc71b46fcc07f45"])
def test_found_before(payload):
    with Server() as server:
        raw = server.raw()
        assert raw("RESTORE", "k", 0, bytes.fromhex(payload)) == "OK"
        use(raw, [b"k"])


# Every payload is refused or gives a value that serves as one.
def test_restore(rng, seeds):
    values = seeds
    print(len(values), "seeds")
    assert {v[0] for v in values} >= {0, 1, 2, 4, 5, 9, 10, 11, 12, 13, 14, 16, 17, 18, 20}, sorted({v[0] for v in values})
    accepted = 0
    with Server() as server:
        raw = server.raw()
        whole = [with_footer(v) for v in values]
        assert raw.pipeline([("RESTORE", "k", 0, p, "REPLACE") for p in whole]) == [Simple("OK")] * len(whole)
        raw.pipeline([("FLUSHALL",)])
        start = int(server.client().info("memory")["used_memory"])
        for number in range(0, TRIES, BATCH):
            payloads = [with_footer(mutate(rng, rng.choice(values), values)) for _ in range(BATCH)]
            tell = f"batch {number}"
            try:
                replies = raw.pipeline([("FLUSHALL",), ("CONFIG", "RESETSTAT")] + [
                    ("RESTORE", f"k{i}", 0, p) for i, p in enumerate(payloads)])[2:]
                taken = [b"k%d" % i for i, r in enumerate(replies) if r == "OK"]
                assert all(r == "OK" or r == "ERR Bad data format" for r in replies), set(map(str, replies))
                use(raw, taken)
                if number % 1000 == 0:
                    a = raw("DEBUG", "DIGEST")
                    assert raw("DEBUG", "RELOAD") == "OK"
                    assert raw("DEBUG", "DIGEST") == a
            except (EOFError, OSError, AssertionError) as error:
                path = server.directory.parent / "holdfast-mutated.hex"
                path.write_text("\n".join(p.hex() for p in payloads))
                raise AssertionError(f"{tell}, payloads in {path}: {error}\n{server.text()[-6000:]}") from error
            accepted += len(taken)
            if not within(server, raw, start):
                one_by_one(raw, server, start, payloads, tell)
    print(f"{TRIES} payloads, {accepted} were taken")
    assert TRIES // 50 < accepted < TRIES


# The same for libraries of functions.
def test_function_restore(rng):
    values = functions()
    tries, taken = max(TRIES // 5, 200), 0
    with Server() as server:
        raw = server.raw()
        for value in values:
            assert raw("FUNCTION", "RESTORE", with_footer(value), "REPLACE") == "OK"
        for number in range(tries):
            payload = with_footer(mutate(rng, rng.choice(values), values))
            try:
                reply = raw("FUNCTION", "RESTORE", payload, rng.choice(("FLUSH", "REPLACE")))
                assert isinstance(reply, Simple) and reply == "OK" or isinstance(reply, Error)
                if reply == "OK":
                    taken += 1
                    raw.pipeline([("FCALL", "one", 0, "a"), ("FCALL", "two", 1, "k"), ("FUNCTION", "LIST", "WITHCODE")])
                    again = raw("FUNCTION", "DUMP")
                    assert raw("FUNCTION", "RESTORE", again, "FLUSH") == "OK"
                    assert raw("FUNCTION", "DUMP") == again
            except (EOFError, OSError) as error:
                raise AssertionError(f"{payload.hex()}\n{server.text()[-6000:]}") from error
        assert raw("PING") == "PONG"
    assert 0 < taken < tries


# A whole file, without a checksum as `rdbchecksum no` writes it: it is refused, or loaded and as good as any other.
def test_file(rng, seeds, tmp_path):
    values = [v for v in seeds if len(v) < 400]
    tries, loaded = TRIES // 10, 0
    with Server(directory=tmp_path) as server:
        raw = server.raw()
        for number in range(tries):
            file = rb.File(11)
            file.aux(b"redis-ver", b"7.0.15").aux(b"ctime", rb.integer(5)[1:])
            for db in range(2):
                chosen = rng.sample(values, rng.randrange(1, 6))
                file.select(db).resize(len(chosen), rng.randrange(3))
                for i, value in enumerate(chosen):
                    file.key(value[0], b"k%d" % i, value[1:], expire_ms=rng.choice((None, None, data.FAR_MS)))
            content = file.raw(b"\xff" + bytes(8)).data
            changed = content[:9] + mutate(rng, content[9:-8], values) + (content[-8:] if rng.random() < 0.9 else b"")
            (tmp_path / "dump.rdb").write_bytes(changed)
            try:
                reply = raw("DEBUG", "RELOAD", "NOSAVE")
                assert isinstance(reply, (Simple, Error))
                if reply == "OK":
                    loaded += 1
                    held = raw("DEBUG", "DIGEST")
                    assert number % 4 or raw("DEBUG", "RELOAD") == "OK" and raw("DEBUG", "DIGEST") == held
            except (EOFError, OSError) as error:
                raise AssertionError(f"{changed.hex()}\n{server.text()[-6000:]}") from error
        raw("FLUSHALL")
    assert 0 < loaded < tries, (loaded, tries)
