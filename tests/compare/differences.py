# SPDX-License-Identifier: BSD-3-Clause
"""Where Holdfast answers otherwise than redis-server 7.0, on purpose. Each entry: which command, the two
replies (Redis's first) of which it is true, and why. Nothing else may differ."""
from collections import namedtuple

Difference = namedtuple("Difference", "command holds reason")


def without_negative_zero(reply):
    if isinstance(reply, (list, tuple)):
        return type(reply)(without_negative_zero(x) for x in reply)
    return b"0" if reply == b"-0" else reply


def has_negative_zero(reply):
    if isinstance(reply, (list, tuple)):
        return any(has_negative_zero(x) for x in reply)
    return reply == b"-0"


def known_names(redis, ours):
    """CONFIG GET with a pattern: all of Redis's parameters, with Redis's values, are among ours."""
    def pairs(reply):
        return {p for p in (reply[1] if isinstance(reply, tuple) else zip(reply[::2], reply[1::2]))}
    return type(redis) is type(ours) and pairs(redis) <= pairs(ours)


def arity(redis, ours):
    return str(redis).startswith("ERR wrong number of arguments") and str(ours) == "ERR syntax error"


DIFFERENCES = [
    Difference("OBJECT ENCODING", lambda redis, ours: (redis, ours) == (b"quicklist", b"listpack"),
               "since 7.2 a list of one packed node is called a listpack"),
    Difference("OBJECT ENCODING", lambda redis, ours: (redis, ours) == (b"hashtable", b"listpack"),
               "since 7.2 small sets are listpacks (set-max-listpack-entries, set-max-listpack-value)"),
    Difference("Z*", lambda redis, ours: has_negative_zero(redis) and without_negative_zero(redis) == ours,
               "a score of -0 is kept as 0, which is equal to it: the order of members is that of their bytes"),
    Difference("CONFIG GET", known_names, "directives that are newer than 7.0 match patterns, too"),
    Difference("ZRANK", arity, "since 7.2 it takes WITHSCORE"),
    Difference("ZREVRANK", arity, "since 7.2 it takes WITHSCORE"),
]


def intended(name, redis, ours):
    """The difference that explains these two replies, or None."""
    for difference in DIFFERENCES:
        if (difference.command == name or difference.command == "Z*" and name.startswith("Z")) and difference.holds(redis, ours):
            return difference
    return None
