# SPDX-License-Identifier: BSD-3-Clause
"""Random writes to values of all types and of all sizes: what is small becomes large and small again, limits of
encodings change meanwhile, keys move within and between databases, whole databases go or change places."""
import random

# 2100-01-01, so that nothing expires while a test runs.
FAR_MS = 4102444800000
DATABASES = (0, 1, 2, 3)
# Keys and fields expire soon in this one only, and what is in it stays there: without it nothing ever expires.
SOON = 9

# Those of which the bytes of a value do not depend: a replica has others.
LIMITS = {"hash-max-listpack-entries": (0, 4, 128, 512), "hash-max-listpack-value": (8, 64), "zset-max-listpack-entries": (0, 4, 128),
          "zset-max-listpack-value": (8, 64), "set-max-intset-entries": (0, 4, 512), "list-max-listpack-size": (-2, 1, 3),
          "stream-node-max-entries": (1, 3, 100)}


class Commands:
    """Lists of commands that go together; the first of each says of which database."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.soon = False  # what is written now is in the database where things expire
        self.kinds = {"s": self.string, "l": self.list, "h": self.hash, "S": self.set, "z": self.zset, "x": self.stream}

    def key(self, kind):
        return f"{kind}{self.rng.randrange(10)}"

    def any_key(self):
        return self.key(self.rng.choice("slhSzxr"))

    def bytes(self, size):
        return self.rng.randbytes(size) if self.rng.random() < 0.6 else bytes([self.rng.randrange(97, 123)]) * size

    def count(self):
        return self.rng.choice((1, 1, 2, 5, 30, 200, 1500) if self.rng.random() < 0.5 else (1, 2, 3))

    def member(self):
        return b"m%d" % self.rng.randrange(3000) + b"y" * (self.rng.randrange(60) if self.rng.random() < 0.1 else 0)

    def due(self):
        """A time, and the option that it stands behind."""
        if self.soon:
            return "PX", self.rng.choice((1, 5, 20, 100, 500))
        return "PXAT", FAR_MS + self.rng.randrange(10 ** 9)

    def string(self):
        rng, key = self.rng, self.key("s")
        return rng.choice((
            lambda: ["SET", key, self.bytes(rng.choice((0, 3, 20, 44, 45, 300, 4000, 5000, 20000, 300000)))],
            lambda: ["SET", key, self.bytes(50), *self.due()],
            lambda: ["SETRANGE", key, rng.randrange(400000), self.bytes(rng.choice((1, 20, 9000)))],
            lambda: ["APPEND", key, self.bytes(rng.choice((1, 60, 3000)))],
            lambda: ["SETBIT", key, rng.randrange(3000000), 1],
            lambda: ["BITOP", rng.choice(("AND", "OR", "XOR")), key, self.key("s"), self.key("s")],
            lambda: ["PFADD", "p" + key, *(self.member() for _ in range(self.count()))],
            lambda: ["INCR", "n" + key],
            lambda: ["GETDEL", key],
        ))()

    def list(self):
        rng, key = self.rng, self.key("l")
        return rng.choice((
            lambda: [rng.choice(("RPUSH", "LPUSH")), key, *(self.bytes(rng.randrange(40)) for _ in range(self.count()))],
            lambda: ["RPUSH", key, self.bytes(rng.choice((4000, 9000, 30000)))],
            lambda: ["LSET", key, rng.randrange(-50, 50), self.bytes(rng.choice((2, 500)))],
            lambda: ["LTRIM", key, rng.randrange(20), -rng.randrange(1, 100)],
            lambda: ["LTRIM", key, 0, rng.randrange(30)],
            lambda: [rng.choice(("LPOP", "RPOP")), key, self.count()],
            lambda: ["LMOVE", key, self.key("l"), "LEFT", "RIGHT"],
            lambda: ["LINSERT", key, "BEFORE", b"", self.bytes(10)],
            lambda: ["LREM", key, 0, b""],
            lambda: ["SORT", key, "ALPHA", "STORE", self.key("l")],
        ))()

    def hash(self):
        rng, key = self.rng, self.key("h")
        fields = [self.member() for _ in range(self.count())]
        return rng.choice((
            lambda: ["HSET", key, *(x for f in fields for x in (f, self.bytes(rng.randrange(30))))],
            lambda: ["HSET", key, *(x for f in fields for x in (f, self.bytes(rng.randrange(30))))],
            lambda: ["HSET", key, self.member(), self.bytes(rng.choice((70, 5000)))],
            lambda: ["HDEL", key, *fields],
            lambda: ["HINCRBY", key, b"n%d" % rng.randrange(9), 7],
            lambda: ["HPEXPIREAT", key, self.due()[1] if not self.soon else 1, "FIELDS", len(fields), *fields],
            lambda: ["HSETEX", key, *self.due(), "FIELDS", len(fields), *(x for f in fields for x in (f, b"v"))],
            lambda: ["HPERSIST", key, "FIELDS", len(fields), *fields],
            lambda: ["HGETDEL", key, "FIELDS", len(fields), *fields],
        ))()

    def set(self):
        rng, key = self.rng, self.key("S")
        members = [self.member() for _ in range(self.count())]
        numbers = [rng.randrange(-3000, 100000) for _ in members]
        return rng.choice((
            lambda: ["SADD", key, *members],
            lambda: ["SADD", key, *numbers],
            lambda: ["SREM", key, *members],
            lambda: ["SPOP", key, self.count()],
            lambda: ["SMOVE", key, self.key("S"), self.member()],
            lambda: [rng.choice(("SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE")), self.key("S"), key, self.key("S")],
        ))()

    def zset(self):
        rng, key = self.rng, self.key("z")
        ties = rng.choice((1, 50, 10 ** 6))
        members = [self.member() for _ in range(self.count())]
        return rng.choice((
            lambda: ["ZADD", key, *(x for m in members for x in (rng.randrange(ties), m))],
            lambda: ["ZADD", key, *(x for m in members for x in (rng.random(), m))],
            lambda: ["ZREM", key, *members],
            lambda: ["ZINCRBY", key, "0.5", self.member()],
            lambda: ["ZREMRANGEBYRANK", key, rng.randrange(10), rng.choice((20, 300, -20))],
            lambda: ["ZPOPMAX", key, self.count()],
            lambda: ["ZUNIONSTORE", self.key("z"), 2, key, self.key(rng.choice("zS"))],
            lambda: ["ZRANGESTORE", self.key("z"), key, 0, rng.choice((5, 500))],
        ))()

    def stream(self):
        rng, key = self.rng, self.key("x")
        ids = [f"{rng.randrange(300)}-{rng.randrange(1, 4)}" for _ in range(rng.choice((1, 20)))]
        return rng.choice((
            lambda: ["EVAL", "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'f' .. i % 3, i, 'g', ARGV[2]) end",
                     1, key, self.count(), self.bytes(rng.randrange(30))],
            lambda: ["XADD", key, f"{rng.randrange(300)}-{rng.randrange(1, 4)}", "f", self.bytes(rng.choice((3, 6000)))],
            lambda: ["XADD", key, "MAXLEN", "~", 50, "*", "f", "v"],
            lambda: ["XDEL", key, *ids],
            lambda: ["XTRIM", key, "MAXLEN", rng.choice((0, 20, 500))],
            lambda: ["XGROUP", "CREATE", key, rng.choice("gh"), rng.choice("0$"), "MKSTREAM"],
            lambda: ["XREADGROUP", "GROUP", rng.choice("gh"), rng.choice("ab"), "COUNT", self.count(), "STREAMS", key, ">"],
            lambda: ["XCLAIM", key, "g", "c", 0, *ids, "FORCE", "JUSTID"],
            lambda: ["XACK", key, rng.choice("gh"), *ids],
            lambda: ["XAUTOCLAIM", key, "g", "b", 0, "0", "COUNT", self.count()],
            lambda: ["XGROUP", rng.choice(("DELCONSUMER", "CREATECONSUMER")), key, "g", "a"],
            lambda: ["XGROUP", "DESTROY", key, "h"],
        ))()

    def keys(self):
        """What is done to a key whatever its type is."""
        rng, key = self.rng, self.any_key()
        db = SOON if self.soon else rng.choice(DATABASES)
        commands = [
            lambda: [rng.choice(("DEL", "UNLINK")), key, self.any_key()],
            lambda: ["RENAME", key, self.any_key() if rng.random() < 0.2 else "r" + key],
            lambda: ["RENAME", "r" + key, key],
            lambda: ["COPY", key, rng.choice(("", "r")) + key, "DB", db, "REPLACE"],
            lambda: ["COPY", key, rng.choice(("", "r")) + key, "REPLACE"],
            lambda: ["PEXPIRE" if self.soon else "PEXPIREAT", key, self.due()[1]],
            lambda: ["PERSIST", key],
        ]
        if not self.soon:
            commands.append(lambda: ["MOVE", key, db])
        return rng.choice(commands)()

    def rare(self):
        rng = self.rng
        kind = rng.random()
        if kind < 0.45:
            return ["SWAPDB", rng.choice(DATABASES), rng.choice(DATABASES)]
        if kind < 0.6:
            return ["FLUSHDB", rng.choice(("SYNC", "ASYNC"))]
        if kind < 0.63:
            return ["FLUSHALL"]
        name = rng.choice(list(LIMITS))
        return ["CONFIG", "SET", name, rng.choice(LIMITS[name])]

    def small(self):
        """Many small keys, so that there are some in all parts of the tables; and fewer, so that segments merge."""
        first = self.rng.randrange(3000)
        names = [f"k{i}" for i in range(first, first + self.rng.choice((5, 300)))]
        if self.rng.random() < 0.3:
            return ["DEL", *names]
        value = self.bytes(self.rng.choice((1, 8, 60)))
        return ["MSET", *(x for n in names for x in (n, value))]

    def group(self):
        rng = self.rng
        self.soon = rng.random() < 0.2
        found = []
        for _ in range(rng.choice((1, 5, 20))):
            what = rng.random()
            if what < 0.74:
                found.append(self.kinds[rng.choice("slhSzx")]())
            elif what < 0.9:
                found.append(self.keys())
            elif what < 0.98 or self.soon:
                found.append(self.small())
            else:
                found.append(self.rare())
        if rng.random() < 0.15 and not any(c[0] == "CONFIG" for c in found):
            found = [["MULTI"], *found, ["EXEC"]]
        return [["SELECT", SOON if self.soon else rng.choice(DATABASES)], *found]
