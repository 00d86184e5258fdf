# SPDX-License-Identifier: BSD-3-Clause
"""What random commands tell of themselves beside their replies: keyspace events, in their order, and what INFO counts. Both are
redis-server's. HF_SEED, HF_COMPARE_FIRST and HF_COMPARE_SECONDS as in test_compare."""
import os
import random
import re

import pytest

import generators
import test_compare
from arguments import Arguments
from harness import Error
from pair import Mismatch, Pair, line_of, shorten
from script_calls import CALLERS
from sequences import Plain, Sequence
from test_extremes import DATA

SUBJECT = os.environ.get("HF_SUBJECT", "holdfast")
END = b"end of a sequence"
# How often these are called to come to the end of all that is scanned is each server's.
SCANS = "scan|hscan|sscan|zscan"


class WatchedPair(Pair):
    """A pair of servers of which a second connection hears all keyspace events."""

    def __init__(self, **rest):
        self.listeners = [None, None]
        super().__init__(**rest)

    def start(self, i):
        super().start(i)
        if self.listeners[i] is not None:
            self.listeners[i].close()
        raw = self.listeners[i] = self.servers[i].raw()
        raw.socket.settimeout(30)
        assert raw("CONFIG", "SET", "notify-keyspace-events", "KEAn") == "OK"
        raw("PSUBSCRIBE", "__keyevent*__:*")
        raw("SUBSCRIBE", END)

    def stop(self):
        for listener in self.listeners:
            listener.close()
        super().stop()

    def heard(self, i):
        """The events since the last call."""
        self.connection(i, 0)("PUBLISH", END, "")
        found = []
        while True:
            message = self.listeners[i].read()
            if message[1] == END:
                return found
            # What happens to a key is told in two messages, of which one is enough.
            if message[2].startswith(b"__keyevent"):
                found.append(b" ".join(message[2:]))

    def counted(self, i):
        """What INFO counts; without errors where the servers differ in one on purpose."""
        text = self.connection(i, 0)("INFO", "everything").decode("latin-1")
        wanted = r"expired_keys|evicted_keys|total_error_replies|cmdstat_[^:]*|errorstat_[^:]*"
        lines = dict(line.rsplit(":", 1) for line in text.split("\r\n") if re.match(rf"({wanted}):", line))
        # Redis counts a script's call once for each error of a command in its reply.
        lines = {k: re.sub(r"failed_calls=[1-9]\d*", "failed_calls=some", v) if re.match("cmdstat_(eval|fcall)", k) else v
                 for k, v in lines.items()}
        if self.errors_differ:
            lines = {k: re.sub(r"failed_calls=.*", "", v) for k, v in lines.items() if not re.match("errorstat|total_error", k)}
        return {k: re.sub(r"usec\w*=[\d.]+,?", "", v).rstrip(",") for k, v in lines.items() if not re.match(rf"cmdstat_({SCANS})$", k)}

    def reset(self, config):
        super().reset(config)
        self.errors_differ = False
        for i in (0, 1):
            self.connection(i, 0)("CONFIG", "RESETSTAT")
            self.heard(i)

    def equal(self, args, a, b, where=""):
        super().equal(args, a, b, where)
        self.errors_differ |= isinstance(a, Error) != isinstance(b, Error)

    def compare_data(self, whole):
        self.disconnect()
        events = [self.heard(i) for i in (0, 1)]
        counts = [self.counted(i) for i in (0, 1)]
        if events[0] != events[1]:
            at = next((n for n, (a, b) in enumerate(zip(*events)) if a != b), min(map(len, events)))
            a, b = (e[at:at + 4] for e in events)
            raise Mismatch(f"events\n  {self.kinds[0]}: {shorten(a)}\n  {self.kinds[1]}: {shorten(b)}",
                           ("events", *(x[0].split(b":")[1].split(b" ")[0] if x else b"" for x in (a, b))))
        if counts[0] != counts[1]:
            names = sorted(k for k in counts[0].keys() | counts[1].keys() if counts[0].get(k) != counts[1].get(k))
            raise Mismatch("INFO\n" + "\n".join(f"  {k}: {counts[0].get(k)} and {counts[1].get(k)}" for k in names),
                           ("INFO", *names[:1]))
        super().compare_data(whole)


@pytest.fixture(scope="module")
def pair():
    with WatchedPair(subject=SUBJECT) as pair:
        yield pair


# Fewer than without events: most of what there is to find is in few commands.
def test_random_events(pair, seed):
    failures = test_compare.run(pair, seed, int(os.environ.get("HF_COMPARE_SEQUENCES", 400)))
    assert not failures, "\n\n".join(failures)


# What differed once: calls of scripts that are refused, errors that a script passes on, counted once; errors of a script's own; errors
# that are one word; subcommands and containers that are refused; strings that a BITFIELD only made longer; what RESTORE makes.
@pytest.mark.parametrize("lines", [
    [["EVAL", "return redis.call('get')", 0]], [["EVAL", "return redis.pcall('nosuch')", 0]], [["EVAL", "redis.pcall('exec') return 1", 0]],
    [["EVAL", "redis.pcall('nosuch') redis.pcall('xgroup') return {redis.pcall('xgroup', 'x')}", 0]],
    [["EVAL_RO", "return redis.pcall('set', 'a', 'b')", 0]], [["EVAL", "return redis.call('set', 'a')", 0]],
    [["SET", "s", "x"], ["EVAL", "return redis.call('lpush', 's', 'x')", 0], ["EVAL", "return {redis.pcall('lpush', 's', 'x')}", 0]],
    [["SET", "s", "x"], ["EVAL", "local e = redis.pcall('lpush', 's', 'x') return redis.error_reply(e.err)", 0]],
    [["SET", "s", "x"], ["EVAL", "local e = redis.pcall('lpush', 's', 'x') return {cjson.encode(e), e.ignore_error_stats_update}", 0]],
    [["EVAL", "return {redis.error_reply('MY error'), redis.error_reply('OUR error'), redis.pcall('nosuch')}", 0]],
    [["EVAL", "return {err='word'}", 0]], [["EVAL", "error('of it')", 0]], [["EVAL", "return redis.pcall('get', {})", 0]],
    [["OBJECT", "ENCODING"], ["XINFO", "x"], ["XINFO"], ["OBJECT", "NOTHING", "s"]],
    [["BITFIELD", "s", "OVERFLOW", "FAIL", "SET", "u8", 100, 296]], [["BITFIELD", "s", "SET", "u1", 0, 2]],
    [["BITFIELD", "s", "SET", "u8", 0, 0], ["BITFIELD", "s", "SET", "u8", 0, 0], ["BITFIELD", "s", "GET", "u8", 100]],
    [["RESTORE", "s", 0, b"\x00\xc0\x05\x0a\x00\x63\x2f\x5f\x66\x83\x2f\xb3\x51"],
     ["RESTORE", "s", 0, b"\x00\xc0\x05\x0a\x00\x63\x2f\x5f\x66\x83\x2f\xb3\x51", "REPLACE"]],
    [["DEBUG", "POPULATE", 3]],
])
def test_found_before(pair, lines):
    steps = [Plain(0, [a if isinstance(a, bytes) else str(a).encode() for a in line]) for line in lines]
    mismatch = pair.mismatch(Sequence(steps, {}, 1, "found"))
    assert mismatch is None, str(mismatch)


# Redis looks the keys of XREAD up twice, and counts as reads what SCAN ... TYPE sees of keys; what is chosen at random is seen once here.
NOT_COUNTED = {"XREAD", "SCAN", "SPOP", "DEBUG", "MIGRATE", "CONFIG RESETSTAT", "RESET", "SELECT", "SWAPDB", "RANDOMKEY", "CLIENT NO-EVICT", "HELLO", "MULTI",
               *generators.REPEATING}


# Which keys are read, and which are missed, by each command.
def test_hits_and_misses(pair, seed):
    rng = random.Random(seed)
    known = test_compare.known_commands(pair)
    g = Arguments(rng, oddness=0)
    g.known = known
    for i in (0, 1):
        assert pair.connection(i, 0)("CONFIG", "SET", "notify-keyspace-events", "KEAmn") == "OK"
    try:
        for name in generators.ALL:
            if name not in known or name in NOT_COUNTED or name.split()[0] in ("SCRIPT", "FUNCTION", "COMMAND") or name in CALLERS:
                continue
            for _ in range(3):
                line = [w.encode() for w in name.split()] + [a if isinstance(a, bytes) else str(a).encode() for a in generators.ALL[name](g)]
                found = []
                for i in (0, 1):
                    raw = pair.connection(i, 0)
                    raw.pipeline([["FLUSHALL"], *DATA, ["CONFIG", "RESETSTAT"]])
                    pair.heard(i)
                    refused = isinstance(raw(*line), Error)
                    text = raw("INFO", "stats").decode()
                    found.append(([int(re.search(rf"keyspace_{what}:(\d+)", text)[1]) for what in ("hits", "misses")], sorted(pair.heard(i))))
                # What is refused for its arguments may have been looked for before, or not.
                assert refused or found[0] == found[1], line_of(line)
    finally:
        for i in (0, 1):
            pair.connection(i, 0)("CONFIG", "SET", "notify-keyspace-events", "KEAn")
