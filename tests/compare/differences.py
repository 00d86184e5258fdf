# SPDX-License-Identifier: BSD-3-Clause
"""Where Holdfast answers otherwise than redis-server 7.0, on purpose. Each entry: which command, the two
replies (Redis's first) of which it is true, and why. Nothing else may differ."""
import re
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


def negative_zero(redis, ours, args):
    return has_negative_zero(redis) and without_negative_zero(redis) == ours


def known_names(redis, ours, args):
    """CONFIG GET with a pattern: all of Redis's parameters, with Redis's values, are among ours."""
    def pairs(reply):
        return {p for p in (reply[1] if isinstance(reply, tuple) else zip(reply[::2], reply[1::2]))}
    return type(redis) is type(ours) and pairs(redis) <= pairs(ours)


def line_end_at_end(redis, ours, args):
    return (type(redis).__name__ == type(ours).__name__ == "Error" and str(redis).rstrip(" ") == str(ours).rstrip(" ") and
            any(isinstance(a, bytes) and a.endswith((b"\r", b"\n")) for a in args))


def fits_numkeys(numkeys, pattern):
    return isinstance(numkeys, int) or (re.fullmatch(pattern, numkeys) and int(numkeys) < 1 << 31)


def lenient_numkeys(redis, ours, args):
    numkeys = args[4] if args[2].upper().endswith(b"STORE") else args[3]
    return isinstance(redis, list) and str(ours) == "ERR Invalid arguments specified for command" and not fits_numkeys(
        numkeys, rb"[1-9]\d*")


def lenient_numkeys_of_script(redis, ours, args):
    """Of a script that would be refused for it there are no keys, or that is an error."""
    return len(args) > 4 and isinstance(args[2], bytes) and args[2].upper().startswith((b"EVAL", b"FCALL")) and not (
        fits_numkeys(args[4], rb"\d+"))


def nul_inside(redis, ours, args):
    both_lists = isinstance(redis, list) and isinstance(ours, list) and len(redis) == len(ours)
    return both_lists and b"ALPHA" in [a.upper() for a in args if isinstance(a, bytes)] and any(
        isinstance(x, bytes) and b"\0" in x for x in redis + ours)


def stale_errno(redis, ours, args):
    return str(redis) == "ERR One or more scores can't be converted into double" and not isinstance(ours, str)


def no_source(redis, ours, args):
    return str(redis) == "ERR Invalid arguments specified for command" and args[2].upper() == b"PFMERGE" and len(args) == 4


def cut_off(redis, ours, args):
    """With COUNT, the same number of them, and at the same distances where these are told."""
    if not (isinstance(redis, list) and isinstance(ours, list) and len(redis) == len(ours)):
        return False
    words = [a.upper() for a in args if isinstance(a, bytes)]
    return b"COUNT" in words and (b"WITHDIST" not in words or [x[1] for x in redis] == [x[1] for x in ours])


def two_stores(redis, ours, args):
    words = [a.upper() for a in args[2:] if isinstance(a, bytes)]
    return words[:1] in ([b"GEORADIUS"], [b"GEORADIUSBYMEMBER"]) and words.count(b"STORE") + words.count(b"STOREDIST") > 1


def stale_errno_of_id(redis, ours, args):
    return str(redis) == "ERR Elements are too large to be stored" and "equal or smaller than the target" in str(ours)


DIFFERENCES = [
    Difference("XADD", stale_errno_of_id, "Redis looks at errno without having set it: `XADD x 1-18446744073709551615 f v`, then "
               "`XADD x 1-* f v`"),
    Difference("OBJECT ENCODING", lambda redis, ours, args: (redis, ours) == (b"quicklist", b"listpack"),
               "since 7.2 a list of one packed node is called a listpack"),
    Difference("OBJECT ENCODING", lambda redis, ours, args: (redis, ours) == (b"hashtable", b"listpack"),
               "since 7.2 small sets are listpacks (set-max-listpack-entries, set-max-listpack-value)"),
    Difference("Z*", negative_zero, "a score of -0 is kept as 0, which is equal to it: the order of members is that of their bytes"),
    Difference("BZ*", negative_zero, "the same"),
    Difference("SORTED ENCODING", lambda redis, ours, args: (redis, ours) == (b"skiplist", b"listpack"),
               "reading changes nothing: SORT of a sorted set does not convert it"),
    Difference("ORDER", lambda redis, ours, args: sum(max(len(x) + 2, 8) for x in redis) > 4000,
               "a hash or set whose listpack or intset would be larger than an entry holds is kept in hash order, "
               "though by Redis's thresholds it is one and says so"),
    Difference("OBJECT REFCOUNT", lambda redis, ours, args: (redis, ours) in ((2, 1), (1, 2147483647)),
               "a value has one owner, also while the transaction that set it has not ended; "
               "a small integer counts as shared however it came about"),
    Difference("COMMAND GETKEYS", lenient_numkeys, "a number of keys like `1x` is not a number, nor for the command itself; nor is one cut to 32 bits"),
    Difference("COMMAND GETKEYSANDFLAGS", lenient_numkeys, "the same"),
    Difference("COMMAND GETKEYS", lenient_numkeys_of_script, "the same"),
    Difference("COMMAND GETKEYSANDFLAGS", lenient_numkeys_of_script, "the same"),
    Difference("COMMAND GETKEYS", no_source, "the key of a PFMERGE without sources is a key"),
    Difference("COMMAND GETKEYSANDFLAGS", no_source, "the same"),
    Difference("PFDEBUG", lambda redis, ours, args: isinstance(redis, bytes) and str(ours) == "INVALIDOBJ Corrupted HLL object detected",
               "a sparse HyperLogLog whose runs do not make 16384 registers is damaged for DECODE, too"),
    Difference("GEO*", cut_off, "which of several places at one distance come first, or are cut off, is left to chance by Redis"),
    Difference("COMMAND GETKEYS", two_stores, "of several STOREs the last one counts, for the command and here"),
    Difference("COMMAND GETKEYSANDFLAGS", two_stores, "the same"),
    Difference("SORT", nul_inside, "ALPHA compares all bytes; Redis, unless it stores, those before the first NUL"),
    Difference("SORT_RO", nul_inside, "the same"),
    Difference("SORT", stale_errno, "Redis looks at errno without having cleared it: `ZADD z 5e-324 m`, then `SORT` of a set of "
               "numbers is refused"),
    Difference("SORT_RO", stale_errno, "the same"),
    Difference("*", line_end_at_end, "an error text never ends in the line end of an argument; Redis's in some places, as blanks"),
    Difference("CONFIG GET", known_names, "directives that are newer than 7.0 match patterns, too"),
]


def intended(name, redis, ours, args=()):
    """The difference that explains these two replies, or None."""
    for difference in DIFFERENCES:
        of_group = difference.command.endswith("*") and name.startswith(difference.command[:-1])
        if (difference.command == name or of_group) and difference.holds(redis, ours, args):
            return difference
    return None
