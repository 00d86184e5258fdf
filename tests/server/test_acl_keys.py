# SPDX-License-Identifier: BSD-3-Clause
"""The keys that a command touches are among those that are checked. Random commands run as a user who may do exactly what COMMAND
GETKEYSANDFLAGS says that the command does to its keys, and no more: what else there is in the database neither changes nor shows."""
import os
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "compare"))

import generators  # noqa: E402
from arguments import Arguments  # noqa: E402
from harness import Error  # noqa: E402
from normal import Near  # noqa: E402
from script_calls import CALLERS  # noqa: E402
from sequences import SAMPLERS  # noqa: E402

COMMANDS = int(os.environ.get("HF_ACL_COMMANDS", 400))

# Whole databases; replies that differ by chance or time; what a client alone has; those that wait.
LEFT_OUT = set(SAMPLERS) | {"FLUSHALL", "FLUSHDB", "SWAPDB", "SCAN", "KEYS", "RANDOMKEY", "DBSIZE", "DEBUG", "MIGRATE", "TIME", "SELECT", "MULTI",
                            "EXEC", "DISCARD", "WATCH", "UNWATCH", "RESET", "HELLO", "CONFIG SET", "CONFIG GET", "CONFIG RESETSTAT", "WAIT",
                            "WAITAOF", "MEMORY USAGE", "LASTSAVE", "OBJECT IDLETIME", "OBJECT FREQ", "XINFO CONSUMERS", "XINFO STREAM", "XPENDING"}

KEYS = [b"%s%d" % (t, i) for t in (b"s", b"l", b"h", b"S", b"z", b"x", b"p", b"g", b"k") for i in (1, 2, 3)]


def escaped(key):
    """As a pattern of the ACL's, which has no blanks."""
    return b"".join(b"?" if c in b" \0\r\n" else b"\\" + bytes([c]) if c in b"*?[]\\" else bytes([c]) for c in key)


def fill(raw, rng, known):
    """The same data for the same generator."""
    raw("FLUSHALL")
    g = Arguments(rng, oddness=0)
    g.known = known
    writers = {"s": ("SET", "INCR", "APPEND"), "l": ("RPUSH",), "h": ("HSET",), "S": ("SADD",), "z": ("ZADD",), "x": ("XADD",),
               "p": ("PFADD",), "g": ("GEOADD",)}
    commands = [[name, *generators.ALL[name](g)] for names in writers.values() for name in names for _ in range(5)]
    raw.pipeline([c for c in commands if not (c[0] == "XADD" and b"*" in c)])


# Each key is made anew for each of two replies, and its time to live begins then: a script may ask for it, too.
TIMES = {"TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", *CALLERS}


def without_clock(reply):
    if isinstance(reply, (list, tuple)):
        return type(reply)(without_clock(x) for x in reply)
    return Near(reply, 20000) if type(reply) is int and reply > 9000 else reply


def values(raw, keys):
    return dict(zip(keys, raw.pipeline([["DEBUG", "DIGEST-VALUE", k] for k in keys])))


def test_keys_are_those_checked(server, seed):
    ran = denied = 0
    admin, user = server.raw(), server.raw()
    names = {n.decode().upper().replace("|", " ") for n in admin("COMMAND", "LIST")}
    known = {n for n in generators.ALL if n.split()[0] in names}
    choices = sorted(known - LEFT_OUT - {n for n in known if n in generators.WAITING})
    for number in range(COMMANDS):
        name = f"{seed}:{number}"
        rng = random.Random(name)
        g = Arguments(rng, oddness=0.02)
        g.known = known
        command = rng.choice(choices)
        words = [w.encode() for w in command.split()]
        line = words + [a if isinstance(a, bytes) else str(a).encode() for a in generators.ALL[command](g)]
        if b"*" in line and command == "XADD" or any(a.upper().decode("latin-1") in LEFT_OUT for a in line[1:]):
            continue # the latter in a script
        found = admin("COMMAND", "GETKEYSANDFLAGS", *line)
        if isinstance(found, Error):
            continue
        rights = {}
        for key, flags in found:
            flags = {str(f) for f in flags}
            rights.setdefault(key, set()).update("R" * ("access" in flags) + "W" * bool(flags & {"update", "insert", "delete"}))
        # A command that asks only whether there is a key (EXISTS) needs some right to it, whichever.
        rules = [b"%%%s~%s" % ("".join(sorted(r or "R")).encode(), escaped(k)) for k, r in rights.items()]
        admin("ACL", "SETUSER", "u", "reset", "on", "nopass", "+@all", *rules)
        replies = []
        for others in (True, False):
            fill(admin, random.Random(number // 50), known)
            rest = [k for k in KEYS if k not in rights]
            if not others:
                admin("DEL", *rest)
            before = values(admin, rest)
            user("AUTH", "u", "x")
            replies.append(without_clock(user(*line)) if command in TIMES else user(*line))
            assert values(admin, rest) == before, (name, line, "changed what it was not allowed to touch")
            replies.append(values(admin, list(rights)))
        if isinstance(replies[0], Error) and replies[0].startswith("NOPERM"):
            denied += 1
            print(command, line[:8], rules)
            continue
        ran += 1
        assert replies[:2] == replies[2:], (name, line, "depends on keys that were not checked", replies)
        # And each of the keys is: without the right to one of them nothing is done.
        for i, rule in enumerate(rules):
            admin("ACL", "SETUSER", "u", "resetkeys", *rules[:i], *rules[i + 1:])
            reply = user(*line)
            assert isinstance(reply, Error) and reply.startswith("NOPERM"), (name, line, rule, reply)
    print(f"{ran} ran, {denied} denied")
    assert ran > COMMANDS * 0.5 and denied < ran * 0.03
