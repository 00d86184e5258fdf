# SPDX-License-Identifier: BSD-3-Clause
"""Replies made comparable: what has no order is sorted, what depends on the clock, on chance or on the
server's insides is reduced to what must agree. Everything else stays as it came."""


class Near:
    """A number that agrees with another one within a tolerance; what is below zero must be equal."""

    def __init__(self, value, tolerance):
        self.value = value
        self.tolerance = tolerance

    def __eq__(self, other):
        if not isinstance(other, Near):
            return NotImplemented
        if self.value < 0 or other.value < 0:
            return self.value == other.value
        return abs(self.value - other.value) <= self.tolerance

    def __repr__(self):
        return f"{self.value}±{self.tolerance}"


def items(reply):
    """The elements of an array or a set."""
    if isinstance(reply, list):
        return reply
    if isinstance(reply, tuple) and reply[0] == "set":
        return reply[1]
    return None


def unordered(reply):
    if isinstance(reply, list):
        return sorted(reply, key=repr)
    if isinstance(reply, tuple) and reply[0] == "set":
        return ("set", sorted(reply[1], key=repr))
    return reply


def unordered_pairs(reply):
    if isinstance(reply, list) and len(reply) % 2 == 0:
        return sorted(zip(reply[::2], reply[1::2]), key=repr)
    if isinstance(reply, tuple) and reply[0] == "map":
        return ("map", sorted(reply[1], key=repr))
    return reply


def near(tolerance):
    return lambda reply: Near(reply, tolerance) if type(reply) is int else reply


def unordered_deep(reply):
    """FUNCTION LIST: libraries, their functions and these' flags have no order."""
    if isinstance(reply, list):
        return sorted((unordered_deep(x) for x in reply), key=repr)
    return tuple(unordered_deep(x) for x in reply) if isinstance(reply, tuple) else reply


def shape(reply):
    """Only what kind of thing it is; errors stay whole."""
    from harness import Error, Simple
    if isinstance(reply, Error):
        return reply
    if isinstance(reply, Simple):
        return "simple"
    return reply[0] if isinstance(reply, tuple) else type(reply).__name__


def scanned(reply):
    """One call of the SCAN family: two elements, a cursor and a list."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list):
        return ["cursor" if reply[0].isdigit() else reply[0], "elements"]
    return reply


def hello(reply):
    def pick(pairs):
        return [(k, "id" if k == b"id" else v) for k, v in pairs]
    if isinstance(reply, tuple) and reply[0] == "map":
        return ("map", pick(reply[1]))
    if isinstance(reply, list) and len(reply) % 2 == 0:
        return pick(zip(reply[::2], reply[1::2]))
    return reply


def sort(args, reply):
    """SORT with BY may leave the order of equals open: then only the elements are compared, or,
    if a LIMIT has cut some off, their number."""
    upper = [a.upper() if isinstance(a, bytes) else a for a in args]
    if b"BY" not in upper or not isinstance(reply, list):
        return reply
    return len(reply) if b"LIMIT" in upper or b"GET" in upper else unordered(reply)


def is_open_sort(args):
    """A SORT of which the order may be left open and that has nulls for what is missing."""
    upper = [a.upper() if isinstance(a, bytes) else a for a in args]
    return name_of(args) in ("SORT", "SORT_RO") and b"BY" in upper and b"GET" in upper


def times_near(reply):
    """Times by the clock, wherever they stand."""
    if isinstance(reply, list):
        return [times_near(x) for x in reply]
    if isinstance(reply, tuple):
        return tuple(times_near(x) for x in reply)
    return Near(reply, 20000) if type(reply) is int and reply > 10 ** 9 else reply


def pending(reply):
    """XPENDING: the third of four is how long ago the delivery was."""
    if isinstance(reply, list) and all(isinstance(x, list) and len(x) == 4 for x in reply):
        return [[x[0], x[1], Near(x[2], 20000) if type(x[2]) is int else x[2], x[3]] for x in reply]
    return reply


def consumers(reply):
    """XINFO CONSUMERS: how long ago each was seen comes last."""
    if not isinstance(reply, list):
        return reply
    return [[*x[:-1], "idle"] if isinstance(x, list) else (x[0], x[1][:-1]) for x in reply]


def by_members(args):
    return args[0].upper() in (b"ZLEXCOUNT", b"ZRANGEBYLEX", b"ZREVRANGEBYLEX") or args[0].upper() == b"ZRANGE" and any(
        isinstance(a, bytes) and a.upper() == b"BYLEX" for a in args)


BY_NAME = {
    "KEYS": unordered, "SMEMBERS": unordered, "SUNION": unordered, "SINTER": unordered, "SDIFF": unordered,
    "HKEYS": unordered, "HVALS": unordered, "HGETALL": unordered_pairs,
    "TTL": near(3), "PTTL": near(3000), "EXPIRETIME": near(3), "PEXPIRETIME": near(3000),
    "OBJECT IDLETIME": shape, "OBJECT FREQ": near(10),
    "RANDOMKEY": shape, "SRANDMEMBER": shape, "HRANDFIELD": shape, "ZRANDMEMBER": shape,
    "SCAN": scanned, "HSCAN": scanned, "SSCAN": scanned, "ZSCAN": scanned,
    "TIME": shape, "SPOP": shape, "CONFIG GET": unordered_pairs, "MEMORY USAGE": shape, "DUMP": shape, "CLIENT ID": shape, "HELLO": hello,
    "FUNCTION LIST": unordered_deep, "FUNCTION DUMP": shape, "XINFO STREAM": times_near, "XINFO CONSUMERS": consumers, "XPENDING": pending,
}

CONTAINERS = {"OBJECT", "CONFIG", "COMMAND", "CLIENT", "MEMORY", "XGROUP", "XINFO", "SCRIPT", "FUNCTION"}


def name_of(args):
    """The command's name as the table has it."""
    first = args[0] if isinstance(args[0], bytes) else str(args[0]).encode()
    name = first.decode("latin-1").upper()
    if name in CONTAINERS and len(args) > 1:
        second = args[1] if isinstance(args[1], bytes) else str(args[1]).encode()
        return name + " " + second.decode("latin-1").upper()
    return name


def normal(args, reply):
    name = name_of(args)
    if name in ("SORT", "SORT_RO"):
        return sort(args, reply)
    if name.startswith("Z") and by_members(args) and len(args) > 1 and args[1] not in (b"lex1", b"lex2"):
        return shape(reply)
    if name == "CONFIG GET" and any(b"*" in a and b"max" not in a for a in args[2:]):
        return shape(reply)  # ports, directories, ...
    how = BY_NAME.get(name)
    return how(reply) if how else reply
