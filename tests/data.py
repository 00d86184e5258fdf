# SPDX-License-Identifier: BSD-3-Clause
"""Data of every type in every encoding, and all that a server holds, to compare."""
import random

# 2100-01-01, so that nothing expires while a test runs.
FAR_MS = 4102444800000


def stream(add, rng):
    """Streams: small ones, one of many nodes, with holes, groups and pending entries; one without entries."""
    for i in range(1, 1500):
        add(9, "XADD", "stream:big", f"{i // 3}-{i % 3 + 1}", "field", f"value {i}", "number", i)
    add(9, "XDEL", "stream:big", *(f"{i}-1" for i in range(100, 200)))
    add(9, "XTRIM", "stream:big", "MAXLEN", "=", 1000)
    for i in range(1, 60):
        add(0, "XADD", "stream:groups", f"{i}-{i}", *("f", i) * (i % 4 + 1), rng.randbytes(5), rng.randbytes(i * 3))
    add(0, "XDEL", "stream:groups", "7-7", "59-59")
    for group in ("g", "", b"\x00\xff", "a long name " * 10):
        add(0, "XGROUP", "CREATE", "stream:groups", group, 5, "ENTRIESREAD", 5)
        add(0, "XGROUP", "CREATECONSUMER", "stream:groups", group, "idle one")
        for i in range(10, 50):
            add(0, "XCLAIM", "stream:groups", group, f"consumer {i % 3}", 0, f"{i}-{i}", "TIME", 1700000000000 + i,
                "RETRYCOUNT", i, "FORCE", "JUSTID", "LASTID", f"{i}-{i}")
    add(1, "XGROUP", "CREATE", "stream:empty", "g", 0, "MKSTREAM")
    add(15, "XADD", "stream:one", f"{2 ** 64 - 1}-{2 ** 64 - 2}", "", "")


def without_times(reply):
    """A reply of XINFO STREAM without what depends on the clock, or on when entries were deleted."""
    if not isinstance(reply, list):
        return reply
    for name in (b"seen-time", b"radix-tree-keys", b"radix-tree-nodes"):
        if name in reply:
            at = reply.index(name)
            reply = reply[:at] + reply[at + 2:]
    return [without_times(x) for x in reply]


def commands(seed=1):
    """Commands that make the data, as (database, command)."""
    rng = random.Random(seed)
    noise = rng.randbytes
    out = []

    def add(db, *args):
        out.append((db, args))

    for db in (0, 1, 9, 15):
        add(db, "SET", "int", 12345)
        add(db, "SET", "int64", -2 ** 63)
        add(db, "SET", "int-like", "007")
        add(db, "SET", "empty", "")
        add(db, "SET", "embstr", "x" * 44)
        add(db, "SET", "raw", "x" * 45)
        add(db, "SET", b"\x00binary\r\n\xff", noise(300))
        add(db, "SET", "compressible", b"the same words again " * 1000)
        add(db, "SET", "noise", noise(20000))
        add(db, "SET", "k" * 300, "a long name")
        add(db, "SET", "", "no name")
    add(0, "SET", "big", noise(70000) + b"z" * 200000)
    for i in range(300):
        add(0, "SET", f"many:{i}", i, *(("PXAT", FAR_MS + i) if i % 3 == 0 else ()))

    add(1, "SETBIT", "bits:far", 2000000, 1)
    add(1, "PFADD", "hll:sparse", *range(200))
    add(9, "PFADD", "hll:dense", *range(5000))
    add(9, "PFCOUNT", "hll:dense")
    add(9, "GEOADD", "places", *(x for i in range(200) for x in (rng.uniform(-180, 180), rng.uniform(-85, 85), f"place {i}")))

    add(0, "RPUSH", "list:small", "a", "", 1, -70000, 2 ** 40, "x" * 60, noise(70))
    for i in range(30):
        add(0, "RPUSH", "list:nodes", *(f"{i}:{j}:" + "y" * rng.randrange(200) for j in range(20)))
    add(1, "RPUSH", "list:numbers", *range(-200, 2000, 3))
    add(1, "RPUSH", "list:large", noise(9000), "small", noise(30000), b"w" * 12000, 5)
    add(9, "LPUSH", "list:one", "only")

    add(0, "SADD", "set:intset16", *range(-20, 200))
    add(0, "SADD", "set:intset32", 1, 2, 70000, -70000)
    add(0, "SADD", "set:intset64", 1, 2 ** 40, -2 ** 63, 2 ** 63 - 1)
    add(1, "SADD", "set:integers", *range(600))
    add(1, "SADD", "set:words", "a", "", "b", noise(64), noise(65), 7)
    add(9, "SADD", "set:big", *(f"member {i}" for i in range(3000)))

    add(0, "HSET", "hash:small", "f", "v", "", "empty name", "n", 12, "e", "", "z", "x" * 64)
    add(0, "HSET", "hash:long value", "f", "x" * 65, "g", noise(5000))
    add(1, "HSET", "hash:fields", *(x for i in range(511) for x in (f"field {i}", i)))
    add(9, "HSET", "hash:big", *(x for i in range(3000) for x in (f"field {i}", f"value {i}" * (i % 9))))

    add(0, "ZADD", "zset:small", 1, "a", 2.5, "b", "-inf", "low", "inf", "high", "1e300", "x", 0, "", "3.0e-7", 12)
    add(1, "ZADD", "zset:long member", 1, "m" * 65, 1, noise(400))
    add(9, "ZADD", "zset:big", *(x for i in range(2000) for x in (repr(rng.uniform(-1e6, 1e6)), f"member {i}")))
    add(15, "ZADD", "zset:ties", *(x for i in range(500) for x in (i % 3, f"member {i}")))

    stream(add, rng)
    for db, name, at in ((0, "list:small", 1), (0, "set:intset16", 2), (0, "hash:small", 3), (0, "zset:small", 4),
                         (1, "list:large", 5), (9, "set:big", 6), (9, "hash:big", 7), (9, "zset:big", 8),
                         (15, "raw", 9), (15, "int", 10), (0, "stream:groups", 11)):
        add(db, "PEXPIREAT", name, FAR_MS + at)
    return out


def fill(raw, seed=1):
    """Make the data on a server whose databases are empty."""
    sent = []
    database = None
    for db, args in commands(seed):
        if db != database:
            sent.append(("SELECT", db))
            database = db
        sent.append(args)
    for args, reply in zip(sent, raw.pipeline(sent)):
        assert not isinstance(reply, str) or str(reply) == "OK", (args[:2], reply)
    raw("SELECT", 0)


READS = {"string": lambda k: ["GET", k], "list": lambda k: ["LRANGE", k, 0, -1], "hash": lambda k: ["HGETALL", k],
         "set": lambda k: ["SMEMBERS", k], "zset": lambda k: ["ZRANGE", k, 0, -1, "WITHSCORES"],
         "stream": lambda k: ["XINFO", "STREAM", k, "FULL", "COUNT", 0]}


def contents(raw, databases=16):
    """All that a server holds: {(database, key): (type, expiry in ms, value, digest)}, and Redis's
    digest of the whole."""
    found = {}
    for db in range(databases):
        raw("SELECT", db)
        keys = raw("KEYS", "*")
        kinds = [str(k) for k in raw.pipeline([("TYPE", k) for k in keys])]
        replies = raw.pipeline([c for key, kind in zip(keys, kinds)
                                for c in (("PEXPIRETIME", key), READS[kind](key), ("DEBUG", "DIGEST-VALUE", key))])
        for key, kind, due, value, digest in zip(keys, kinds, replies[::3], replies[1::3], replies[2::3]):
            if kind == "set":
                value = sorted(value)
            elif kind == "hash":
                value = sorted(zip(value[::2], value[1::2]))
            elif kind == "stream":
                value = without_times(value)
            found[db, key] = (kind, due, value, str(digest[0]))
    raw("SELECT", 0)
    found["digest"] = str(raw("DEBUG", "DIGEST"))
    return found


def assert_same(a, b):
    """Both servers' contents are equal; what differs is shown by key."""
    assert a.keys() == b.keys(), f"only in one: {sorted(map(repr, a.keys() ^ b.keys()))[:20]}"
    for at in a:
        if a[at] != b[at]:
            raise AssertionError(f"{at}: {repr(a[at])[:600]}\n  is not {repr(b[at])[:600]}")


def encodings(raw, databases=16):
    """The encodings that a server's keys have, with their types."""
    found = set()
    for db in range(databases):
        raw("SELECT", db)
        keys = raw("KEYS", "*")
        replies = raw.pipeline([c for k in keys for c in (("TYPE", k), ("OBJECT", "ENCODING", k))])
        found |= {(str(t), e.decode()) for t, e in zip(replies[::2], replies[1::2])}
    raw("SELECT", 0)
    return found
