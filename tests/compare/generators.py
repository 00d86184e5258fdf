# SPDX-License-Identifier: BSD-3-Clause
"""Random commands: for each command a function that makes arguments for it, mostly sensible ones.
`mutate` makes odd and wrong ones of them."""
import pathlib

from arguments import FAR_SECONDS
from arguments import KEYS as KEYS_OF
from script_calls import SCRIPTS, SCRIPT_WEIGHTS
from streams import STREAMS, STREAM_WEIGHTS

TABLE = pathlib.Path(__file__).resolve().parents[2] / "src/command/table"


def table_rows():
    """Name, arity and `since` of every command that the server has."""
    rows = {}
    for path in sorted(TABLE.glob("*.tsv")):
        for line in path.read_text().splitlines():
            cells = line.split("\t")
            if line.startswith("#") or cells[0] == "name" or len(cells) < 8:
                continue
            rows[cells[0]] = {"arity": int(cells[1]), "since": cells[7], "group": path.stem, "flags": cells[2]}
    return rows


# Commands that random sequences leave out, and where they are tested instead.
LEFT_OUT = {
    "SHUTDOWN": "test_restart", "SAVE": "test_restart", "BGSAVE": "test_restart", "BGREWRITEAOF": "test_rewrite", "LASTSAVE": "test_server",
    "QUIT": "test_server", "AUTH": "test_server", "INFO": "test_server", "MEMORY STATS": "test_server",
    "MEMORY DOCTOR": "test_server", "MEMORY MALLOC-STATS": "test_server", "MEMORY HELP": "test_server",
    "MEMORY PURGE": "test_server", "CLIENT KILL": "test_server", "CLIENT PAUSE": "test_server",
    "CLIENT UNPAUSE": "test_server", "CLIENT REPLY": "test_server", "CLIENT LIST": "test_server",
    "CLIENT INFO": "test_server", "CLIENT HELP": "test_server", "CONFIG REWRITE": "test_server",
    "CONFIG HELP": "test_server", "XGROUP HELP": "test_server", "XINFO HELP": "test_server", "COMMAND": "test_server", "COMMAND DOCS": "test_server",
    "COMMAND INFO": "test_server", "COMMAND LIST": "test_server", "COMMAND COUNT": "test_server",
    "SUBSCRIBE": "test_pubsub", "UNSUBSCRIBE": "test_pubsub", "PSUBSCRIBE": "test_pubsub", "PUNSUBSCRIBE": "test_pubsub",
    "SSUBSCRIBE": "test_pubsub", "SUNSUBSCRIBE": "test_pubsub", "PUBLISH": "test_pubsub", "SPUBLISH": "test_pubsub",
    "PUBSUB CHANNELS": "test_pubsub", "PUBSUB NUMSUB": "test_pubsub", "PUBSUB NUMPAT": "test_pubsub", "PUBSUB HELP": "test_server",
    "PUBSUB SHARDCHANNELS": "test_pubsub", "PUBSUB SHARDNUMSUB": "test_pubsub", "MONITOR": "test_pubsub",
    **{f"ACL {name}": "test_acl" for name in ("CAT", "DELUSER", "DRYRUN", "GENPASS", "GETUSER", "LIST", "LOAD", "LOG", "SAVE", "SETUSER",
                                              "USERS", "WHOAMI", "HELP")},
    "HOLDFAST HELP": "test_chain", "HOLDFAST SNAPSHOT": "test_chain",
    "HOLDFAST DURABILITY": "test_quorum", "HOLDFAST VOTE": "test_quorum",
    "CLIENT TRACKING": "test_tracking", "CLIENT CACHING": "test_tracking", "CLIENT GETREDIR": "test_tracking",
    "CLIENT TRACKINGINFO": "test_tracking",
    "SCRIPT DEBUG": "test_scripts", "SCRIPT HELP": "test_scripts", "FUNCTION HELP": "test_scripts", "FUNCTION RESTORE": "test_scripts",
    **{name: "tests/replication" for name in ("FAILOVER", "PSYNC", "REPLCONF", "REPLICAOF", "ROLE", "SLAVEOF", "SYNC")},
    "SLOWLOG GET": "test_slowlog", "SLOWLOG LEN": "test_slowlog", "SLOWLOG RESET": "test_slowlog", "SLOWLOG HELP": "test_server",
    "LATENCY LATEST": "test_slowlog", "LATENCY HISTORY": "test_slowlog", "LATENCY RESET": "test_slowlog",
    "LATENCY GRAPH": "test_slowlog", "LATENCY DOCTOR": "test_slowlog", "LATENCY HISTOGRAM": "test_slowlog",
    "LATENCY HELP": "test_server",
    **{name: "test_server" for name in table_rows() if name.split()[0] in ("CLUSTER", "ASKING", "READONLY", "READWRITE")},
    "MODULE LIST": "test_newer", **{name: "test_latest" for name in ("LOLWUT", "MODULE HELP", "MODULE LOAD", "MODULE LOADEX", "MODULE UNLOAD")}, "RESTORE-ASKING": "test_newer",
    "COMMAND HELP": "test_server", "OBJECT HELP": "test_server", "CONFIG SET": "preamble of a sequence", "PFSELFTEST": "test_bits",
}

# ---- strings ----


def expiry_options(g):
    r = g.rng.random()
    if r < 0.2:
        return [g.word("EXAT"), g.expire_at()]
    if r < 0.4:
        return [g.word("PXAT"), g.expire_at() * 1000]
    if r < 0.55:
        return [g.word("EX"), g.expire_in()]
    if r < 0.7:
        return [g.word("PX"), g.expire_in() * 1000]
    return [g.word("EX", "PX", "EXAT", "PXAT"), g.pick(0, -1, 2 ** 63 - 1, 2 ** 53, b"1.5", b"", b"abc")]


def set_(g):
    args = [g.key("s") if g.chance(0.9) else g.any_key(), g.value()]
    args += g.words(0.12, "NX") + g.words(0.12, "XX") + g.words(0.15, "GET")
    if g.chance(0.25):
        args += expiry_options(g)
    args += g.words(0.1, "KEEPTTL")
    return args


def getex(g):
    args = [g.key("s")]
    if g.chance(0.6):
        args += expiry_options(g)
    args += g.words(0.2, "PERSIST")
    return args


def pairs(g, kind, high=3):
    return [x for _ in range(g.rng.randint(1, high)) for x in (g.key(kind), g.value())]


def lcs(g):
    args = [g.key("s"), g.key("s")]
    args += g.words(0.3, "LEN") + g.words(0.4, "IDX") + g.words(0.3, "WITHMATCHLEN")
    if g.chance(0.3):
        args += [g.word("MINMATCHLEN"), g.integer(-1, 5)]
    return args


STRINGS = {
    "GET": lambda g: [g.key("s")],
    "SET": set_,
    "SETNX": lambda g: [g.key("s"), g.value()],
    "SETEX": lambda g: [g.key("s"), g.expire_in() if g.chance(0.8) else g.pick(0, -5, b"x", 2 ** 63 - 1), g.value()],
    "PSETEX": lambda g: [g.key("s"), g.expire_in() if g.chance(0.8) else g.pick(0, -5, b"x", 2 ** 63 - 1), g.value()],
    "GETSET": lambda g: [g.key("s"), g.value()],
    "GETDEL": lambda g: [g.key("s")],
    "GETEX": getex,
    "GETRANGE": lambda g: [g.key("s"), g.integer(-30, 30), g.integer(-30, 30)],
    "SUBSTR": lambda g: [g.key("s"), g.integer(-30, 30), g.integer(-30, 30)],
    "SETRANGE": lambda g: [g.key("s"), g.offset(), g.value()],
    "APPEND": lambda g: [g.key("s"), g.value()],
    "STRLEN": lambda g: [g.key("s")],
    "INCR": lambda g: [g.key("s")],
    "DECR": lambda g: [g.key("s")],
    "INCRBY": lambda g: [g.key("s"), g.bigint()],
    "DECRBY": lambda g: [g.key("s"), g.bigint()],
    "INCRBYFLOAT": lambda g: [g.key("s"), g.float()],
    "MGET": lambda g: g.keys("s"),
    "MSET": lambda g: pairs(g, "s"),
    "MSETNX": lambda g: pairs(g, "s"),
    "LCS": lcs,
}

# ---- bitmaps ----


def bit_offset(g):
    r = g.rng.random()
    if g.longest and g.chance(0.1):
        return b"%d" % (g.longest * 8 + g.rng.randint(-70, 70))
    if r < g.oddness:
        return g.rng.choice((b"-1", b"4294967296", b"4294967295x", b"#1", b"", b"1.5", b"9223372036854775807", b"-0"))
    if g.large and r < 0.8:
        return b"%d" % g.rng.randint(0, 3000000)
    if g.big and r < 0.6:
        return b"%d" % g.rng.choice((32767, 32768, 32769, 65407, 65408, 65409, 130815, 130816, 200000))
    return b"%d" % g.rng.choice((0, 1, 7, 8, 9, 63, 64, 100, g.rng.randint(0, 400)))


def bit_range(g, probability):
    args = []
    if g.chance(probability):
        scale = g.rng.choice((1, 1, 8, 40))
        args = [b"%d" % (int(x) * scale) if x.lstrip(b"-").isdigit() else x for x in (g.integer(-30, 30), g.integer(-30, 30))]
        args += g.words(0.4, "BIT") or g.words(0.2, "BYTE")
    return args


def bitpos(g):
    args = [g.key("s"), g.pick(0, 1, 0, 1, g.integer(-1, 2))]
    return args + bit_range(g, 0.6)[:g.rng.choice((1, 2, 3, 3))]


def bitop(g):
    op = g.word("AND", "OR", "XOR", "NOT")
    return [op, g.key("s")] + g.keys("s", 1, 1 if op.upper() == b"NOT" and g.chance(0.9) else 4)


def field_type(g):
    if g.chance(g.oddness):
        return g.rng.choice((b"u64", b"i65", b"u0", b"i0", b"", b"i", b"8", b"U8", b"x8", b"u-1", b"i08", b"u8 "))
    return g.rng.choice((b"u%d" % g.rng.randint(1, 63), b"i%d" % g.rng.randint(1, 64), b"u8", b"i8", b"i64", b"u1", b"u63"))


def field_offset(g):
    return b"#%d" % g.rng.randint(0, 20) if g.chance(0.3) else bit_offset(g)


def bitfield_get(g):
    return [g.word("GET"), field_type(g), field_offset(g)]


def bitfield(g):
    args = [g.key("s")]
    for _ in range(g.rng.choice((0, 1, 1, 2, 4))):
        r = g.rng.random()
        if r < 0.3:
            args += bitfield_get(g)
        elif r < 0.55:
            args += [g.word("OVERFLOW"), g.word("WRAP", "SAT", "FAIL")]
        if r > 0.2:
            value = g.bigint() if g.chance(0.5) else g.integer(-300, 300)
            args += [g.word("SET", "INCRBY"), field_type(g), field_offset(g), value]
    return args


BITMAPS = {
    "SETBIT": lambda g: [g.key("s"), bit_offset(g), g.pick(0, 1, 1, g.integer(-1, 2))],
    "GETBIT": lambda g: [g.key("s"), bit_offset(g)],
    "BITCOUNT": lambda g: [g.key("s")] + bit_range(g, 0.7),
    "BITPOS": bitpos,
    "BITOP": bitop,
    "BITFIELD": bitfield,
    "BITFIELD_RO": lambda g: [g.key("s")] + [x for _ in range(g.rng.randint(0, 3)) for x in bitfield_get(g)] + (
        [g.word("SET"), b"u8", b"0", b"1"] if g.chance(0.05) else []),
}

# ---- HyperLogLogs ----


def hll_elements(g):
    r = g.rng.random()
    if r < 0.8:
        return g.members(0, 5)
    first, count = g.rng.randint(0, 3000), g.rng.choice((10, 100, 400, 1000, 3000))
    return [b"e%d" % i for i in range(first, first + count)]


HLLS = {
    "PFADD": lambda g: [g.key("p")] + hll_elements(g),
    "PFCOUNT": lambda g: [g.key("p")] if g.chance(0.5) else g.keys("p", 1, 3),
    "PFMERGE": lambda g: [g.key("p")] + g.keys("p", 0, 3),
    "PFDEBUG": lambda g: [g.word("ENCODING", "DECODE", "TODENSE", "GETREG", "NOTHING"), g.key("p")],
}

# ---- lists ----


def elements(g):
    """A few elements, sometimes as many as fill several nodes."""
    r = g.rng.random()
    if r < 0.93:
        return [g.value() if g.chance(0.5) else g.member() for _ in range(g.rng.randint(1, 5))]
    size = g.rng.choice((5, 63, 64, 200))
    return [b"%d:" % i + b"x" * size for i in range(g.rng.choice((20, 127, 128, 129, 140, 300)))]


def lpos(g):
    args = [g.key("l"), g.member()]
    for word, low, high in (("RANK", -3, 3), ("COUNT", -1, 4), ("MAXLEN", -1, 6)):
        if g.chance(0.35):
            args += [g.word(word), g.integer(low, high)]
    return args


def side(g):
    return g.word("LEFT", "RIGHT")


# How long the commands that wait do so in vain: nobody feeds them here (test_blocking is for that).
WAIT_TIME = b"0.004"


def mpop(g, kind, words):
    keys = g.keys(kind, 1, 3)
    numkeys = b"%d" % len(keys) if g.chance(0.9) else g.integer(-1, 5)
    args = [numkeys] + keys + [g.word(*words)]
    if g.chance(0.5):
        args += [g.word("COUNT"), g.count()]
    return args


LISTS = {
    "LPUSH": lambda g: [g.key("l")] + elements(g),
    "RPUSH": lambda g: [g.key("l")] + elements(g),
    "LPUSHX": lambda g: [g.key("l")] + elements(g),
    "RPUSHX": lambda g: [g.key("l")] + elements(g),
    "LPOP": lambda g: [g.key("l")] + ([g.count()] if g.chance(0.5) else []),
    "RPOP": lambda g: [g.key("l")] + ([g.count()] if g.chance(0.5) else []),
    "LLEN": lambda g: [g.key("l")],
    "LINDEX": lambda g: [g.key("l"), g.integer(-12, 12)],
    "LSET": lambda g: [g.key("l"), g.integer(-8, 8), g.value()],
    "LINSERT": lambda g: [g.key("l"), g.word("BEFORE", "AFTER"), g.member(), g.value()],
    "LREM": lambda g: [g.key("l"), g.integer(-3, 3), g.member()],
    "LRANGE": lambda g: [g.key("l"), g.integer(-12, 12), g.integer(-12, 12)],
    "LTRIM": lambda g: [g.key("l"), g.integer(-4, 4), g.integer(-150, 150)],
    "LPOS": lpos,
    "LMOVE": lambda g: [g.key("l"), g.key("l"), side(g), side(g)],
    "RPOPLPUSH": lambda g: [g.key("l"), g.key("l")],
    "LMPOP": lambda g: mpop(g, "l", ("LEFT", "RIGHT")),
    "BLPOP": lambda g: g.keys("l", 1, 3) + [WAIT_TIME],
    "BRPOP": lambda g: g.keys("l", 1, 3) + [WAIT_TIME],
    "BLMOVE": lambda g: [g.key("l"), g.key("l"), side(g), side(g), WAIT_TIME],
    "BRPOPLPUSH": lambda g: [g.key("l"), g.key("l"), WAIT_TIME],
    "BLMPOP": lambda g: [WAIT_TIME] + mpop(g, "l", ("LEFT", "RIGHT")),
}

# ---- hashes ----


def fields(g):
    r = g.rng.random()
    if r < 0.95:
        return [x for _ in range(g.rng.randint(1, 4)) for x in (g.member(), g.value())]
    count = g.rng.choice((10, 126, 127, 128, 129, 300, 510, 511, 512, 513, 520))
    return [x for i in range(count) for x in (b"m%d" % i, b"v%d" % (i * g.rng.randint(1, 3)))]


def scan_options(g, *flags):
    args = []
    if g.chance(0.5):
        args += [g.word("MATCH"), g.pattern()]
    if g.chance(0.5):
        args += [g.word("COUNT"), g.pick(1, 2, 10, 100, 1000, g.integer(-1, 5))]
    return args + g.words(0.2, *flags)


HASHES = {
    "HSET": lambda g: [g.key("h")] + fields(g),
    "HMSET": lambda g: [g.key("h")] + fields(g),
    "HSETNX": lambda g: [g.key("h"), g.member(), g.value()],
    "HGET": lambda g: [g.key("h"), g.member()],
    "HMGET": lambda g: [g.key("h")] + g.members(),
    "HGETALL": lambda g: [g.key("h")],
    "HKEYS": lambda g: [g.key("h")],
    "HVALS": lambda g: [g.key("h")],
    "HLEN": lambda g: [g.key("h")],
    "HEXISTS": lambda g: [g.key("h"), g.member()],
    "HSTRLEN": lambda g: [g.key("h"), g.member()],
    "HDEL": lambda g: [g.key("h")] + (g.members() if g.chance(0.95) else [b"m%d" % i for i in range(150)]),
    "HINCRBY": lambda g: [g.key("h"), g.member(), g.bigint()],
    "HINCRBYFLOAT": lambda g: [g.key("h"), g.member(), g.float()],
    "HRANDFIELD": lambda g: [g.key("h")] + ([g.random_count()] + g.words(0.4, "WITHVALUES") if g.chance(0.7) else []),
    "HSCAN": lambda g: [g.key("h"), g.pick(0, 0, 0, g.integer())] + scan_options(g),
}

# ---- sets ----


def set_members(g):
    r = g.rng.random()
    if r < 0.5:
        return g.members()
    if r < 0.9:
        return [b"%d" % g.rng.choice((1, 2, 3, 7, -1, 100, 40000, -40000, 2 ** 31, -2 ** 40, 2 ** 63 - 1, -2 ** 63))
                for _ in range(g.rng.randint(1, 5))]
    if r < 0.95:
        return [b"%d" % i for i in range(g.rng.choice((20, 126, 129, 511, 512, 513)))]
    return [b"m%d" % i for i in range(g.rng.choice((20, 127, 128, 129, 200)))]


def sintercard(g):
    keys = g.keys("S", 1, 3)
    args = [b"%d" % len(keys) if g.chance(0.9) else g.integer(-1, 5)] + keys
    if g.chance(0.5):
        args += [g.word("LIMIT"), g.integer(-1, 6)]
    return args


SETS = {
    "SADD": lambda g: [g.key("S")] + set_members(g),
    "SREM": lambda g: [g.key("S")] + set_members(g),
    "SISMEMBER": lambda g: [g.key("S"), g.member()],
    "SMISMEMBER": lambda g: [g.key("S")] + set_members(g),
    "SCARD": lambda g: [g.key("S")],
    "SMEMBERS": lambda g: [g.key("S")],
    "SMOVE": lambda g: [g.key("S"), g.key("S"), g.member()],
    "SPOP": lambda g: [g.key("S")] + ([g.count()] if g.chance(0.7) else []),
    "SRANDMEMBER": lambda g: [g.key("S")] + ([g.random_count()] if g.chance(0.7) else []),
    "SINTER": lambda g: g.keys("S"),
    "SUNION": lambda g: g.keys("S"),
    "SDIFF": lambda g: g.keys("S"),
    "SINTERSTORE": lambda g: [g.key("S")] + g.keys("S"),
    "SUNIONSTORE": lambda g: [g.key("S")] + g.keys("S"),
    "SDIFFSTORE": lambda g: [g.key("S")] + g.keys("S"),
    "SINTERCARD": sintercard,
    "SSCAN": lambda g: [g.key("S"), g.pick(0, 0, 0, g.integer())] + scan_options(g),
}

# ---- sorted sets ----

LEX_KEYS = [b"lex1", b"lex2"]  # no other generator names them


def one_score(g):
    """A key whose members all have the score 0, in arguments that stay where they are: it must not become a destination."""
    g.exact = True
    return g.rng.choice(LEX_KEYS)


def scored(g):
    r = g.rng.random()
    if r < 0.95:
        return [x for _ in range(g.rng.randint(1, 4)) for x in (g.score(), g.member())]
    count = g.rng.choice((20, 126, 127, 128, 129, 300))
    return [x for i in range(count) for x in (b"%d" % (i * 7 % 50), b"m%d" % i)]


def lex_key(g):
    """Sorted sets whose members all have the score 0: what a range of members is in others is not
    specified. Now and then one of the others all the same; `normal` then looks only at the kind of reply."""
    return one_score(g) if g.chance(0.9) else g.key("z")


def zadd(g):
    if g.chance(0.2):
        count = g.rng.choice((1, 3, 10, 100)) if g.chance(0.1) else 3
        return [one_score(g)] + [x for _ in range(count) for x in (b"0", g.member())]
    args = [g.key("z")] + g.words(0.12, "NX", "XX", "GT", "LT", "CH")
    if g.chance(0.1):
        return args + [g.word("INCR"), g.score(), g.member()]
    return args + scored(g)


def zkey(g):
    return g.key("z") if g.chance(0.93) else one_score(g)


def any_set(g):
    return zkey(g) if g.chance(0.8) else g.key("S")


def combine(g, dest, weights=True, scores=True):
    keys = [any_set(g) for _ in range(g.rng.randint(1, 3))]
    args = ([g.key("z")] if dest else []) + [b"%d" % len(keys) if g.chance(0.93) else g.integer(-1, 5)] + keys
    if weights and g.chance(0.3):
        args += [g.word("WEIGHTS")] + [g.score() for _ in keys]
    if weights and g.chance(0.3):
        args += [g.word("AGGREGATE"), g.word("SUM", "MIN", "MAX")]
    if scores:
        args += g.words(0.4, "WITHSCORES")
    return args


def zintercard(g):
    args = combine(g, False, False, False)
    if g.chance(0.5):
        args += [g.word("LIMIT"), g.integer(-1, 6)]
    return args


def limit(g, probability=0.35):
    return [g.word("LIMIT"), g.integer(-1, 5), g.integer(-2, 8)] if g.chance(probability) else []


def zrange_bounds(g, store=False):
    how = g.pick("index", "score", "lex")
    if how == "index":
        return [g.key("z"), g.integer(-10, 10), g.integer(-10, 10)] + g.words(0.2, "REV") + limit(g, 0.05)
    if how == "score":
        return [g.key("z"), g.score_bound(), g.score_bound(), g.word("BYSCORE")] + g.words(0.3, "REV") + limit(g)
    key = one_score(g) if store else lex_key(g)
    return [key, g.lex_bound(), g.lex_bound(), g.word("BYLEX")] + g.words(0.3, "REV") + limit(g)


ZSETS = {
    "ZADD": zadd,
    "ZINCRBY": lambda g: [g.key("z"), g.score(), g.member()],
    "ZREM": lambda g: [zkey(g)] + (g.members() if g.chance(0.95) else [b"m%d" % i for i in range(100)]),
    "ZSCORE": lambda g: [zkey(g), g.member()],
    "ZMSCORE": lambda g: [zkey(g)] + g.members(),
    "ZCARD": lambda g: [zkey(g)],
    "ZCOUNT": lambda g: [zkey(g), g.score_bound(), g.score_bound()],
    "ZLEXCOUNT": lambda g: [lex_key(g), g.lex_bound(), g.lex_bound()],
    "ZRANK": lambda g: [zkey(g), g.member()],
    "ZREVRANK": lambda g: [zkey(g), g.member()],
    "ZRANGE": lambda g: zrange_bounds(g) + g.words(0.3, "WITHSCORES"),
    "ZREVRANGE": lambda g: [zkey(g), g.integer(-10, 10), g.integer(-10, 10)] + g.words(0.3, "WITHSCORES"),
    "ZRANGEBYSCORE": lambda g: [zkey(g), g.score_bound(), g.score_bound()] + g.words(0.3, "WITHSCORES") + limit(g),
    "ZREVRANGEBYSCORE": lambda g: [g.key("z"), g.score_bound(), g.score_bound()] + g.words(0.3, "WITHSCORES") + limit(g),
    "ZRANGEBYLEX": lambda g: [lex_key(g), g.lex_bound(), g.lex_bound()] + limit(g),
    "ZREVRANGEBYLEX": lambda g: [lex_key(g), g.lex_bound(), g.lex_bound()] + limit(g),
    "ZRANGESTORE": lambda g: [g.key("z")] + zrange_bounds(g, True),
    "ZREMRANGEBYRANK": lambda g: [zkey(g), g.integer(-3, 3), g.integer(-3, 3)],
    "ZREMRANGEBYSCORE": lambda g: [zkey(g), g.score_bound(), g.score_bound()],
    "ZREMRANGEBYLEX": lambda g: [one_score(g), g.lex_bound(), g.lex_bound()],
    "ZPOPMIN": lambda g: [zkey(g)] + ([g.count()] if g.chance(0.6) else []),
    "ZPOPMAX": lambda g: [zkey(g)] + ([g.count()] if g.chance(0.6) else []),
    "ZMPOP": lambda g: mpop(g, "z", ("MIN", "MAX")),
    "BZPOPMIN": lambda g: g.keys("z", 1, 3) + [WAIT_TIME],
    "BZPOPMAX": lambda g: g.keys("z", 1, 3) + [WAIT_TIME],
    "BZMPOP": lambda g: [WAIT_TIME] + mpop(g, "z", ("MIN", "MAX")),
    "ZRANDMEMBER": lambda g: [zkey(g)] + ([g.random_count()] + g.words(0.4, "WITHSCORES") if g.chance(0.7) else []),
    "ZUNION": lambda g: combine(g, False),
    "ZINTER": lambda g: combine(g, False),
    "ZDIFF": lambda g: combine(g, False, False),
    "ZUNIONSTORE": lambda g: combine(g, True, True, False),
    "ZINTERSTORE": lambda g: combine(g, True, True, False),
    "ZDIFFSTORE": lambda g: combine(g, True, False, False),
    "ZINTERCARD": zintercard,
    "ZSCAN": lambda g: [zkey(g), g.pick(0, 0, 0, g.integer())] + scan_options(g),
}

# ---- places ----


def place(g):
    """Longitude and latitude: much in one town, some all over the world and at its ends."""
    r = g.rng.random()
    if r < 0.4:
        return [b"%.5f" % g.rng.uniform(13.0, 13.8), b"%.5f" % g.rng.uniform(52.3, 52.7)]
    if r < 0.5:
        return [b"13.4", g.pick(b"52.5", b"-52.5", b"0")]
    if r < 0.85:
        return [b"%.4f" % g.rng.uniform(-180, 180), b"%.4f" % g.rng.uniform(-85, 85)]
    if r < 0.97 - g.oddness:
        return [g.pick(b"180", b"-180", b"0", b"179.999", b"-179.999"), g.pick(b"85.05112878", b"-85.05112878", b"0", b"84.9")]
    return [g.pick(b"180.1", b"-181", b"nan", b"x", b"13", g.float()), g.pick(b"85.06", b"-90", b"inf", b"", b"52", g.float())]


def geo_unit(g):
    return g.word("M", "KM", "FT", "MI") if g.chance(0.97) else g.pick(b"cm", b"", b"mm")


def geo_size(g):
    if g.chance(g.oddness):
        return g.pick(b"-1", b"x", b"inf", b"nan", b"0", g.float())
    return b"%.3f" % (10 ** g.rng.uniform(0, 4.4))


def geoadd(g):
    args = [g.key("g")] + g.words(0.1, "NX", "XX", "CH")
    count = g.rng.randint(1, 4) if g.chance(0.9) else g.rng.choice((20, 128, 129, 300))
    return args + [x for i in range(count) for x in (*place(g), g.member() if count < 10 else b"m%d" % i)]


def geo_options(g, store):
    args = []
    if g.chance(0.5):
        args += [g.word("COUNT"), g.pick(1, 2, 3, 5, 1000, g.integer(-1, 5))] + g.words(0.3, "ANY")
    args += g.words(0.4, "ASC") or g.words(0.3, "DESC")
    if not store or g.chance(0.05):
        args += g.words(0.4, "WITHCOORD", "WITHDIST", "WITHHASH")
    return args


def georadius(store):
    def make(g):
        args = [g.key("g")] + place(g) + [geo_size(g), geo_unit(g)]
        storing = store and g.chance(0.4)
        args += geo_options(g, storing)
        return args + ([g.word("STORE", "STOREDIST"), g.key("g")] if storing else [])
    return make


def georadiusbymember(store):
    def make(g):
        args = georadius(store)(g)
        return args[:1] + [g.member()] + args[3:]
    return make


def geosearch(g, store=False):
    parts = [[g.word("FROMMEMBER"), g.member()] if g.chance(0.4) else [g.word("FROMLONLAT")] + place(g)]
    if g.chance(0.5):
        parts.append([g.word("BYRADIUS"), geo_size(g), geo_unit(g)])
    else:
        parts.append([g.word("BYBOX"), geo_size(g), geo_size(g), geo_unit(g)])
    parts.append(geo_options(g, store))
    if store:
        parts.append(g.words(0.4, "STOREDIST"))
    if g.chance(0.05):
        parts.pop(g.rng.randrange(len(parts)))
    g.rng.shuffle(parts)
    return [g.key("g")] + [x for part in parts for x in part]


PLACES = {
    "GEOADD": geoadd,
    "GEODIST": lambda g: [g.key("g"), g.member(), g.member()] + ([geo_unit(g)] if g.chance(0.5) else []),
    "GEOHASH": lambda g: [g.key("g")] + g.members(0, 4),
    "GEOPOS": lambda g: [g.key("g")] + g.members(0, 4),
    "GEORADIUS": georadius(True),
    "GEORADIUS_RO": georadius(False),
    "GEORADIUSBYMEMBER": georadiusbymember(True),
    "GEORADIUSBYMEMBER_RO": georadiusbymember(False),
    "GEOSEARCH": geosearch,
    "GEOSEARCHSTORE": lambda g: [g.key("g")] + geosearch(g, True),
}

# ---- keys ----


def themed_key(g):
    return g.key(g.theme) if g.theme and g.chance(0.8) else g.any_key()


def expire(scale, absolute):
    def make(g):
        r = g.rng.random()
        if r < 0.8:
            when = (g.expire_at() if absolute else g.expire_in()) * scale
        elif r < 0.9:
            when = g.pick(0, -1, -1000, 1)
            if not absolute and when == 1:
                when = -2
        else:
            when = g.pick(2 ** 63 - 1, 2 ** 62, -2 ** 63, 2 ** 55, 2 ** 53, b"1.5", b"", b"abc", b"9223372036854775808")
        return [themed_key(g), when] + g.words(0.13, "NX", "XX", "GT", "LT")
    return make


def copy(g):
    args = [themed_key(g), themed_key(g)]
    if g.chance(0.3):
        args += [g.word("DB"), g.pick(0, 1, 2, g.integer(-1, 17))]
    return args + g.words(0.4, "REPLACE")


def restore(g):
    """Payloads that cannot be accepted; the good ones are Dumped and Restored in a step of their own."""
    payload = g.pick(b"", b"x", b"\x00\x03abc\x0a\x00" + bytes(8), g.bytes(20), b"\x00\xc0\x05\x0b\x00" + bytes(8))
    args = [themed_key(g), g.pick(0, 0, -1, b"x", g.expire_at() * 1000), payload]
    return args + g.words(0.3, "REPLACE", "ABSTTL") + (
        [g.word("IDLETIME", "FREQ"), g.integer(-1, 300)] if g.chance(0.3) else [])


def sort(g):
    key = g.key(g.pick("l", "l", "S", "z"))
    args = [key]
    by = g.chance(0.3)
    if by:
        args += [g.word("BY"), g.pick(b"s*", b"h*->m1", b"nosort", b"nothing", b"w_*", b"h*->", b"*", b"h1->*", b"h*->m*", b"s*->m1", b"h**->m1",
                                         b"->*", b"*->*", b"h*-m1", b"h*->m1->m2", b"")]
    args += limit(g)
    for _ in range(g.rng.choice((0, 0, 0, 1, 2))):
        args += [g.word("GET"), g.pick(b"#", b"s*", b"h*->m1", b"nothing", b"##", b"h1->*", b"h*->", b"*->m1", b"l*", b"*#", b"h**->m1", b"")]
    args += g.words(0.3, "ASC", "DESC")
    # Without an order of their own, elements of a set come as each server has them.
    if not by:
        args += g.words(0.6, "ALPHA")
    return args


def migrate(g):
    """To where nothing listens; keys that arrive are test_exchange's."""
    keys = g.chance(0.4)
    args = [b"127.0.0.1", b"1", b"" if keys else themed_key(g), g.pick(0, 1, g.integer(-1, 17)), g.pick(0, 10, 1000, b"x", -1)]
    args += g.words(0.3, "COPY", "REPLACE")
    if g.chance(0.2):
        args += [g.word("AUTH"), b"p"] if g.chance(0.5) else [g.word("AUTH2"), b"u", b"p"]
    return args + ([g.word("KEYS")] + [themed_key(g) for _ in range(g.rng.randint(0, 3))] if keys else [])


KEYS = {
    "DEL": lambda g: [themed_key(g) for _ in range(g.rng.randint(1, 3))],
    "UNLINK": lambda g: [themed_key(g) for _ in range(g.rng.randint(1, 3))],
    "EXISTS": lambda g: [themed_key(g) for _ in range(g.rng.randint(1, 3))],
    "TOUCH": lambda g: [themed_key(g) for _ in range(g.rng.randint(1, 3))],
    "TYPE": lambda g: [themed_key(g)],
    "KEYS": lambda g: [g.pattern()],
    "RANDOMKEY": lambda g: [],
    "RENAME": lambda g: [themed_key(g), themed_key(g)],
    "RENAMENX": lambda g: [themed_key(g), themed_key(g)],
    "COPY": copy,
    "MOVE": lambda g: [themed_key(g), g.pick(0, 1, 2, g.integer(-1, 17))],
    "EXPIRE": expire(1, False),
    "PEXPIRE": expire(1000, False),
    "EXPIREAT": expire(1, True),
    "PEXPIREAT": expire(1000, True),
    "TTL": lambda g: [themed_key(g)],
    "PTTL": lambda g: [themed_key(g)],
    "EXPIRETIME": lambda g: [themed_key(g)],
    "PEXPIRETIME": lambda g: [themed_key(g)],
    "PERSIST": lambda g: [themed_key(g)],
    "DUMP": lambda g: [themed_key(g)],
    "RESTORE": restore,
    "MIGRATE": migrate,
    "OBJECT ENCODING": lambda g: [themed_key(g)],
    "OBJECT REFCOUNT": lambda g: [themed_key(g)],
    "OBJECT IDLETIME": lambda g: [themed_key(g)],
    "OBJECT FREQ": lambda g: [themed_key(g)],
    "SCAN": lambda g: [g.pick(0, 0, 0, g.integer())] + scan_options(g) + (
        [g.word("TYPE"), g.pick(b"string", b"list", b"set", b"zset", b"hash", b"HASH", b"stream", b"x", b"")]
        if g.chance(0.3) else []),
    "SORT": lambda g: sort(g) + ([g.word("STORE"), g.key("l")] if g.chance(0.2) else []),
    "SORT_RO": sort,
}

# ---- the connection, transactions, the server ----


def hello(g):
    if g.chance(0.3):
        return []
    args = [g.pick(2, 3, 2, 3, g.integer(1, 4))]
    if g.chance(0.2):
        args += [g.word("SETNAME"), g.pick(b"me", b"a b", b"")]
    if g.chance(0.1):
        args += [g.word("AUTH"), b"default", b"nonsense"]
    return args


def command_line(g):
    """A whole command as an argument."""
    name = g.rng.choice([n for n in ALL if n in g.known and not n.startswith("COMMAND ")])
    return [n.encode() for n in name.split()] + ALL[name](g)


CONNECTION = {
    "PING": lambda g: [] if g.chance(0.5) else [g.value()],
    "ECHO": lambda g: [g.value()],
    "SELECT": lambda g: [g.pick(0, 0, 1, 2, g.integer(-1, 17))],
    "HELLO": hello,
    "RESET": lambda g: [],
    "CLIENT SETNAME": lambda g: [g.pick(b"me", b"", b"a b", b"a\nb", b"x" * 100, b"\xff")],
    "CLIENT GETNAME": lambda g: [],
    "CLIENT ID": lambda g: [],
    "CLIENT UNBLOCK": lambda g: [g.pick(0, -1, 2 ** 62, b"x")] + g.words(0.5, "TIMEOUT", "ERROR"),
    "WAIT": lambda g: [g.pick(0, 0, 1, -1), b"4"],
    "CLIENT NO-EVICT": lambda g: [g.pick(b"on", b"OFF", b"x")],
    "CLIENT TRACKINGINFO": lambda g: [],
    "CLIENT GETREDIR": lambda g: [],
}

TRANSACTIONS = {
    "MULTI": lambda g: [],
    "EXEC": lambda g: [],
    "DISCARD": lambda g: [],
    "WATCH": lambda g: [themed_key(g) for _ in range(g.rng.randint(1, 3))],
    "UNWATCH": lambda g: [],
}

CONFIG_NAMES = [b"maxmemory", b"hash-max-listpack-entries", b"hash-max-*", b"zset-max-ziplist-entries", b"databases",
                b"save", b"appendfsync", b"maxmemory-policy", b"list-max-listpack-size", b"nothing", b"set-max-intset*",
                b"timeout", b"proto-max-bulk-len", b"client-output-buffer-limit", b"notify-keyspace-events"]

SERVER = {
    "DBSIZE": lambda g: [],
    "FLUSHDB": lambda g: g.words(0.2, "ASYNC", "SYNC") if g.chance(0.95) else [g.odd()],
    "FLUSHALL": lambda g: g.words(0.2, "ASYNC", "SYNC") if g.chance(0.95) else [g.odd()],
    "SWAPDB": lambda g: [g.pick(0, 1, 2, g.integer(-1, 17)), g.pick(0, 1, 2, g.integer(-1, 17))],
    "TIME": lambda g: [],
    "CONFIG GET": lambda g: [g.rng.choice(CONFIG_NAMES) for _ in range(g.rng.randint(1, 2))],
    "CONFIG RESETSTAT": lambda g: [],
    "COMMAND GETKEYS": command_line,
    "COMMAND GETKEYSANDFLAGS": command_line,
    "MEMORY USAGE": lambda g: [themed_key(g)] + ([g.word("SAMPLES"), g.integer(-1, 5)] if g.chance(0.3) else []),
    "DEBUG": lambda g: g.pick(
        [g.word("RELOAD")],
        [g.word("QUICKLIST-PACKED-THRESHOLD"), g.pick(b"1b", b"100b", b"1k", b"0", b"x", b"-1")],
        [g.word("POPULATE"), g.pick(0, 3, 20), b"k", g.pick(1, 5, 100)],
        [g.word("SET-ACTIVE-EXPIRE"), b"1"], [b"SLEEP", b"0"], [b"NOTHING"], []),
}

ALL = {**STRINGS, **BITMAPS, **HLLS, **LISTS, **HASHES, **SETS, **ZSETS, **PLACES, **STREAMS, **KEYS, **CONNECTION, **TRANSACTIONS,
       **SERVER, **SCRIPTS}

GROUPS = {"s": {**STRINGS, **BITMAPS}, "p": HLLS, "l": LISTS, "h": HASHES, "S": SETS, "z": ZSETS, "g": PLACES, "x": STREAMS}

# How often a command is taken where it is not once: those that make data more often, those that take
# it all away seldom.
WEIGHTS = {
    **STREAM_WEIGHTS, **SCRIPT_WEIGHTS,
    "SET": 3, "APPEND": 2, "SETBIT": 2, "BITFIELD": 2, "PFADD": 4, "PFDEBUG": 0.5, "RPUSH": 4, "LPUSH": 3, "HSET": 4, "SADD": 4, "ZADD": 5, "GEOADD": 4, "GEOSEARCH": 3, "FLUSHDB": 0.3, "FLUSHALL": 0.1,
    "SWAPDB": 0.3, "MOVE": 0.5, "DEBUG": 0.4, "DEL": 0.7, "UNLINK": 0.5, "OBJECT ENCODING": 4, "HELLO": 0.5,
    "RESET": 0.2, "SELECT": 0.5, "KEYS": 0.5, "TIME": 0.2, "CONFIG RESETSTAT": 0.1, "MEMORY USAGE": 0.3,
    "MULTI": 0, "EXEC": 0.2, "DISCARD": 0.2, "WATCH": 0.3, "UNWATCH": 0.2, "LTRIM": 0.6, "LCS": 0.7,
    "BLPOP": 0.5, "BRPOP": 0.5, "BLMOVE": 0.7, "BRPOPLPUSH": 0.5, "BLMPOP": 0.7, "BZPOPMIN": 0.5, "BZPOPMAX": 0.5,
    "BZMPOP": 0.7, "WAIT": 0.2, "CLIENT UNBLOCK": 0.2, "COMMAND GETKEYSANDFLAGS": 0.5, "MIGRATE": 0.2, "CLIENT ID": 0.2, "GETDEL": 0.5, "CONFIG GET": 0.4,
}

# What a mutation must not touch: where a wrong number would make a server sleep, end, or fill the memory.
NOT_MUTATED = {"DEBUG", "MIGRATE", "CONFIG SET", "SETRANGE", "HELLO"}
WAITING = {"BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT"}
REPEATING = {"SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER"}


def mutate(g, name, args):
    """Wrong in one way: too few or too many arguments, or one that is odd."""
    if name in NOT_MUTATED or g.exact:
        return args
    if name.startswith("COMMAND GETKEYS") and (args[0] in (b"ZRANK", b"ZREVRANK") or b"SYNC" in args):
        return args  # else that becomes the command, and is one that only Redis has
    if name in ("ZRANK", "ZREVRANK"):
        return args[:g.rng.randint(0, 2)]  # WITHSCORE is newer: see test_newer
    args = list(args)
    how = g.rng.randrange(6)
    if how == 0 and args:
        args.pop(g.rng.randrange(len(args)))
    elif how == 1:
        args.insert(g.rng.randrange(len(args) + 1), g.odd())
    elif how == 2 and args:
        args.append(g.rng.choice(args))
    elif how == 3 and len(args) > 1:
        i, j = g.rng.randrange(len(args)), g.rng.randrange(len(args))
        args[i], args[j] = args[j], args[i]
    elif args:
        args[g.rng.randrange(len(args))] = g.odd()
    if name in REPEATING:
        args = [a if not is_far_below_zero(a) else b"-7" for a in args]
    return not_by_the_clock(args) if name == "XADD" else args


def not_by_the_clock(args):
    """No mutation leaves an id to the clock, as two servers' clocks differ: where a `*` has come to stand
    behind the key, only the second half of an id is left open. As a threshold it is refused like `*`."""
    return args[:1] + [b"7-*" if a == b"*" else a for a in args[1:]]


def is_far_below_zero(arg):
    try:
        return -2 ** 63 < int(arg) < -1000
    except ValueError:
        return False


def as_number(arg):
    text = (arg if isinstance(arg, bytes) else str(arg).encode()).decode("latin-1")
    try:
        return float.fromhex(text) if "x" in text.lower() else float(text)
    except ValueError:
        return float("nan")


def not_long(name, args):
    """No mutation makes a command wait for long, or longer than there are times: redis-server 7.0 takes
    some of these for negative."""
    at = {"BLMPOP": 0, "BZMPOP": 0}.get(name, len(args) - 1)
    args = list(args)
    if name in ("XREAD", "XREADGROUP"):
        for i, word in enumerate(args[:-1]):
            if str(word).upper() == "B'BLOCK'" and as_number(args[i + 1]) > -0.9:
                args[i + 1] = b"2"
        return args
    if not args or name not in WAITING or not as_number(args[at]) > -0.9:
        return args
    args[at] = b"4" if name == "WAIT" else WAIT_TIME
    return args


def not_newer(name, args):
    """What redis-server 7.0 refuses, and Holdfast takes: these are tested in test_latest."""
    if name in ("XREAD", "XREADGROUP"):
        return [b"9-9" if a == b"+" else a for a in args]
    if not name.startswith("Z"):
        return args
    words = [a.upper() if isinstance(a, bytes) else a for a in args]
    return [b"MAX" if i > 0 and words[i - 1:i + 1] == [b"AGGREGATE", b"COUNT"] else a for i, a in enumerate(args)]


def not_soon(name, args):
    """No mutation makes a key expire while the sequence runs, when it would be chance who notices."""
    args = list(args)
    for at in range(1, len(args)):
        before = args[at - 1].upper() if isinstance(args[at - 1], bytes) else b""
        if before in (b"EX", b"PX", b"EXAT", b"PXAT") or name in ("PEXPIRE", "EXPIRE", "SETEX", "PSETEX") and at == 1:
            try:
                if 0 < int(args[at]) < 10 ** 7 or before == b"PXAT" and 0 < int(args[at]) < FAR_SECONDS:
                    args[at] = FAR_SECONDS * 1000
            except ValueError:
                pass
    return args
