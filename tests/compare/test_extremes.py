# SPDX-License-Identifier: BSD-3-Clause
"""Every integer argument of every command, in turn, at the ends of what 32 and 64 bits hold: replies and data are redis-server's."""
import os
import random

import generators
from arguments import Arguments
from pair import Pair, describe
from sequences import SAMPLERS, Plain, Sequence
from test_compare import known_commands

ENDS = [0, -1, 2 ** 31 - 1, 2 ** 31, -2 ** 31 - 1, 2 ** 32 - 1, 2 ** 32, 2 ** 62, 2 ** 63 - 1000, 2 ** 63 - 2, 2 ** 63 - 1, 2 ** 63,
        -2 ** 63 + 1, -2 ** 63, -2 ** 63 - 1, 2 ** 64 - 1, 2 ** 64, 10 ** 30]
# Where a large number asks for as much memory: as far as redis-server goes with it in a test.
SMALLER = {"SETRANGE": 2 ** 20, "SETBIT": 2 ** 23, "BITFIELD": 2 ** 23}

# What a large count asks for is as large; DEBUG's numbers are times and the like.
LEFT_OUT = set(generators.REPEATING) | {"DEBUG", "MIGRATE", "CONFIG SET"}

DATA = [[b"SET", b"s1", b"10"], [b"SET", b"s2", b"some text that is a little longer"], [b"RPUSH", b"l1", *(b"%c" % c for c in b"abcdefgh")],
        [b"RPUSH", b"l2", b"1", b"2", b"3"], [b"HSET", b"h1", b"m0", b"1", b"m1", b"9223372036854775807"], [b"SADD", b"S1", b"1", b"2", b"m1"],
        [b"SADD", b"S2", b"2", b"3"], [b"ZADD", b"z1", b"1", b"m0", b"2.5", b"m1", b"-3", b"m2"], [b"ZADD", b"z2", b"0", b"m1"],
        [b"XADD", b"x1", b"1-1", b"f", b"v"], [b"XADD", b"x1", b"2-7", b"f", b"w"], [b"XGROUP", b"CREATE", b"x1", b"g1", b"0"],
        [b"PFADD", b"p1", b"a", b"b"], [b"GEOADD", b"g1", b"13.36", b"38.11", b"m0"]]


def integers(args):
    """Where numbers stand, whole ones or not."""
    for i, arg in enumerate(args):
        try:
            int(arg)
            yield i
        except ValueError:
            pass


def variants(name, rng, known):
    g = Arguments(rng, oddness=0)
    g.known = known
    for _ in range(4):
        g.exact = False
        args = list(generators.ALL[name](g))
        if g.exact:
            continue
        for at in integers(args):
            for end in ENDS:
                if name in SMALLER and SMALLER[name] < end < 2 ** 33:
                    continue
                changed = args[:at] + [b"%d" % end] + args[at + 1:]
                yield generators.not_newer(name, generators.not_long(name, generators.not_soon(name, changed)))


def test_every_integer_argument(seed):
    """Four samples of each command's arguments meet most of its options in one run, and all in several: the seeds differ."""
    rng = random.Random(seed)
    failures, count = [], 0
    with Pair(subject=os.environ.get("HF_SUBJECT", "holdfast")) as pair:
        known = known_commands(pair)
        for name in generators.ALL:
            if name not in known or name in SAMPLERS or name in LEFT_OUT:
                continue
            words = [w.encode() for w in name.split()]
            all_steps = [Plain(0, words + args) for args in variants(name, rng, known)]
            count += len(all_steps)
            for at in range(0, len(all_steps), 100):
                steps = [Plain(0, [bytes(a) if isinstance(a, bytes) else str(a).encode() for a in line]) for line in DATA]
                mismatch = pair.mismatch(Sequence(steps + all_steps[at:at + 100], {}, 20, f"{name} {at}"), whole=False)
                if mismatch:
                    failures.append(str(mismatch))
                    break
            assert len(failures) < 5, "\n\n".join(failures)
    assert count > 5000
    assert not failures, "\n\n".join(failures)
