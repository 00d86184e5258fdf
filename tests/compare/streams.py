# SPDX-License-Identifier: BSD-3-Clause
"""Random commands on streams. Ids are few and low, so that commands meet what others have left, or the
highest there are; none are the clock's, as two servers' clocks differ."""

GROUPS_OF = [b"g", b"g2", b"g\x00h", b""]
CONSUMERS = [b"c", b"c2", b"Alice", b"", b"a\x00b"]
ODD_IDS = [b"-", b"+", b"$", b">", b"*", b"0", b"0-0", b"0-1", b"5-", b"-5", b"5-*", b"18446744073709551615",
           b"18446744073709551615-18446744073709551615", b"18446744073709551616", b"1-18446744073709551615", b"1-1-1", b"1-x",
           b"x", b"007-01", b" 5", b"+5", b"5-+1", b"1-9223372036854775808", b"9223372036854775808", b"1" * 130, b"5\x00"]


def some_id(g):
    r = g.rng.random()
    if r < 0.6:
        return b"%d-%d" % (g.rng.randint(0, 30), g.rng.randint(0, 4))
    if r < 0.85:
        return b"%d" % g.rng.randint(0, 40)
    return odd_id(g) if g.chance(g.oddness * 2) else b"%d-0" % g.rng.randint(20, 300)


def odd_id(g):
    """`$` and `*` are left to where they are no time, or an error."""
    return g.rng.choice([i for i in ODD_IDS if i != b"*"])


def new_id(g):
    r = g.rng.random()
    if r < 0.55:
        return b"%d-*" % g.rng.choice((1, 5, 20, 40, 100, 300))
    if r < 0.9:
        return b"%d-%d" % (g.rng.randint(1, 400), g.rng.randint(0, 9))
    return odd_id(g) if g.chance(g.oddness) else b"%d" % g.rng.randint(1, 100)


def bound(g):
    r = g.rng.random()
    if r < 0.25:
        return b"-"
    if r < 0.5:
        return b"+"
    return (b"(" if g.chance(0.2) else b"") + some_id(g)


def group(g):
    return g.rng.choice(GROUPS_OF[:1] * 6 + GROUPS_OF)


def consumer(g):
    return g.rng.choice(CONSUMERS[:3] * 3 + CONSUMERS)


def pairs(g):
    count = g.rng.choice((1, 1, 1, 2, 3)) if g.chance(0.98) else 40
    if g.chance(0.6):
        return [x for i in range(count) for x in (b"f%d" % i, g.value() if g.chance(0.4) else g.member())]
    return [x for _ in range(count) for x in (g.member(), g.value() if g.chance(0.4) else g.member())]


def trimming(g):
    args = [g.word("MAXLEN", "MAXLEN", "MINID")]
    operator = g.rng.choice((b"~", b"~", b"=", None))
    args += [operator] if operator else []
    if args[0].upper() == b"MINID":
        args.append(some_id(g))
    else:
        args.append(b"%d" % g.rng.choice((0, 1, 3, 8, 20, 50, 100, 150)) if g.chance(0.93) else g.integer(-2, 30))
    if g.chance(0.3 if operator == b"~" else 0.03):
        args += [g.word("LIMIT"), g.pick(0, 1, 5, 100, 250, g.integer(-1, 10))]
    return args


def xadd(g):
    args = [g.key("x")]
    if g.chance(0.08):
        args += [g.word("NOMKSTREAM")]
    if g.chance(0.15):
        args += trimming(g)
    return args + [new_id(g)] + pairs(g)


def ids(g):
    return [some_id(g) for _ in range(g.rng.choice((1, 1, 2, 5)))]


def count(g, probability=0.5):
    return [g.word("COUNT"), g.pick(0, 1, 2, 5, 100, g.integer(-1, 10))] if g.chance(probability) else []


def read(g, own):
    keys = [g.key("x") for _ in range(g.rng.choice((1, 1, 1, 2)))]
    args = count(g) + ([g.word("BLOCK"), g.pick(b"1", b"x", b"-1")] if g.chance(0.05) else [])
    if own:
        args = [g.word("GROUP"), group(g), consumer(g)] + args + g.words(0.15, "NOACK")
        last = [b">" if g.chance(0.7) else some_id(g) for _ in keys]
    else:
        last = [b"$" if g.chance(0.1) else some_id(g) for _ in keys]
    return args + [g.word("STREAMS")] + keys + last


# Idle times are nothing, or far beyond what a test takes.
def idle(g):
    return g.pick(0, 0, 0, 10 ** 8, 10 ** 10)


def xclaim(g):
    args = [g.key("x"), group(g), consumer(g), idle(g)] + ids(g)
    if g.chance(0.25):
        args += [g.word("IDLE"), g.pick(0, 2 * 10 ** 8, 10 ** 11, -1, g.integer())]
    if g.chance(0.15):
        args += [g.word("TIME"), g.pick(0, 10 ** 12, -1, 10 ** 15, g.integer())]
    if g.chance(0.25):
        args += [g.word("RETRYCOUNT"), g.pick(0, 1, 7, -1)]
    if g.chance(0.1):
        args += [g.word("LASTID"), some_id(g)]
    return args + g.words(0.3, "FORCE", "JUSTID")


def xpending(g):
    args = [g.key("x"), group(g)]
    if g.chance(0.3):
        return args
    if g.chance(0.3):
        args += [g.word("IDLE"), idle(g)]
    args += [bound(g), bound(g), g.pick(0, 1, 10, 100, g.integer(-1, 10))]
    return args + ([consumer(g)] if g.chance(0.4) else [])


def xgroup_create(g):
    args = [g.key("x"), group(g), g.pick(b"$", b"0", b"0", some_id(g))] + g.words(0.5, "MKSTREAM")
    return args + ([g.word("ENTRIESREAD"), g.integer(-1, 20)] if g.chance(0.15) else [])


def xsetid(g):
    args = [g.key("x"), b"%d-%d" % (g.rng.randint(1, 500), g.rng.randint(0, 9)) if g.chance(0.9) else some_id(g)]
    if g.chance(0.4):
        args += [g.word("ENTRIESADDED"), g.pick(0, 5, 100, 1000, g.integer(-1, 50))]
    if g.chance(0.4):
        args += [g.word("MAXDELETEDID"), some_id(g)]
    return args


def xinfo_stream(g):
    args = [g.key("x")]
    if g.chance(0.6):
        args += [g.word("FULL")]
        if g.chance(0.6):
            args += [g.word("COUNT"), g.pick(0, 1, 5, 1000, g.integer(-1, 10))]
    return args


STREAMS = {
    "XADD": xadd,
    "XLEN": lambda g: [g.key("x")],
    "XRANGE": lambda g: [g.key("x"), bound(g), bound(g)] + count(g, 0.3),
    "XREVRANGE": lambda g: [g.key("x"), bound(g), bound(g)] + count(g, 0.3),
    "XREAD": lambda g: read(g, False),
    "XREADGROUP": lambda g: read(g, True),
    "XACK": lambda g: [g.key("x"), group(g)] + ids(g),
    "XCLAIM": xclaim,
    "XAUTOCLAIM": lambda g: [g.key("x"), group(g), consumer(g), idle(g), bound(g)] + count(g, 0.4) + g.words(0.3, "JUSTID"),
    "XPENDING": xpending,
    "XDEL": lambda g: [g.key("x")] + ids(g),
    "XTRIM": lambda g: [g.key("x")] + trimming(g),
    "XSETID": xsetid,
    "XGROUP CREATE": xgroup_create,
    "XGROUP CREATECONSUMER": lambda g: [g.key("x"), group(g), consumer(g)],
    "XGROUP DELCONSUMER": lambda g: [g.key("x"), group(g), consumer(g)],
    "XGROUP DESTROY": lambda g: [g.key("x"), group(g)],
    "XGROUP SETID": lambda g: [g.key("x"), group(g), g.pick(b"$", b"0", b"+", b"-", some_id(g), some_id(g))] + (
        [g.word("ENTRIESREAD"), g.integer(-1, 20)] if g.chance(0.3) else []),
    "XINFO STREAM": xinfo_stream,
    "XINFO GROUPS": lambda g: [g.key("x")],
    "XINFO CONSUMERS": lambda g: [g.key("x"), group(g)],
}

STREAM_WEIGHTS = {
    "XADD": 9, "XREADGROUP": 5, "XGROUP CREATE": 2, "XINFO STREAM": 2, "XINFO GROUPS": 2, "XGROUP DESTROY": 0.3,
    "XTRIM": 0.6, "XSETID": 0.3, "XGROUP DELCONSUMER": 0.4, "XREVRANGE": 0.7, "XREAD": 0.7,
}
