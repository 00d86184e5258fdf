# SPDX-License-Identifier: BSD-3-Clause
"""A sequence: settings, and steps that are run one after another on both servers. Most steps are plain
commands. Where chance is in a reply, or a reply is only part of an answer, a step of its own kind
knows what must hold."""
import random

import generators
from arguments import TYPES, Arguments
from normal import name_of

CONFIGS = [
    {}, {}, {},
    {"hash-max-listpack-entries": "4", "zset-max-listpack-entries": "4", "set-max-intset-entries": "4",
     "list-max-listpack-size": "3", "hll-sparse-max-bytes": "100",
     "stream-node-max-entries": "3"},
    {"hash-max-listpack-value": "8", "zset-max-listpack-value": "8", "list-max-listpack-size": "-1"},
    {"hash-max-listpack-entries": "0", "zset-max-listpack-entries": "0", "set-max-intset-entries": "0",
     "list-max-listpack-size": "1", "list-compress-depth": "1"},
    {"maxmemory-policy": "allkeys-lfu", "hll-sparse-max-bytes": "20000"},
    {"stream-node-max-entries": "0", "stream-node-max-bytes": "300"},
    {"list-max-listpack-size": "-5", "list-compress-depth": "2", "hash-max-listpack-value": "10000"},
    {"proto-max-bulk-len": "1048576"},
]

DEFAULTS = {"hash-max-listpack-entries": "512", "zset-max-listpack-entries": "128", "set-max-intset-entries": "512",
            "list-max-listpack-size": "-2", "list-compress-depth": "0", "hash-max-listpack-value": "64",
            "zset-max-listpack-value": "64", "hll-sparse-max-bytes": "3000", "maxmemory-policy": "noeviction",
            "stream-node-max-entries": "100", "stream-node-max-bytes": "4096", "proto-max-bulk-len": "536870912"}


# Limits that are changed while there is data, and to what.
CHANGES = {"hash-max-listpack-entries": (0, 1, 4, 128), "hash-max-listpack-value": (0, 8, 64), "zset-max-listpack-entries": (0, 1, 4, 128),
           "zset-max-listpack-value": (0, 8, 64), "set-max-intset-entries": (0, 4, 512), "list-max-listpack-size": (-5, -2, -1, 1, 3),
           "list-compress-depth": (0, 1, 3), "hll-sparse-max-bytes": (0, 100, 3000), "stream-node-max-entries": (0, 1, 3, 100),
           "stream-node-max-bytes": (0, 300, 4096)}


class Plain:
    """Commands on one connection whose replies are equal."""

    def __init__(self, connection, args):
        self.connection = connection
        self.args = args

    def lines(self):
        return [self.args]


class Sample:
    """A command that picks at random: `contents` tells from what. If it also takes away what it picked
    (SPOP), the rest is looked at and the key deleted, so that both servers have the same data again."""

    def __init__(self, connection, contents, args, takes=False):
        self.connection = connection
        self.contents = contents
        self.args = args
        self.takes = takes

    def lines(self):
        lines = [self.contents, self.args]
        return lines + [self.contents, [b"DEL", self.contents[1]]] if self.takes else lines


class Scan:
    """SCAN, HSCAN, SSCAN or ZSCAN until the cursor is 0 again."""

    def __init__(self, connection, args):
        self.connection = connection
        self.args = args  # with None in the cursor's place

    def lines(self):
        return [[b"0" if a is None else a for a in self.args]]


class Exchange:
    """What one server DUMPs the other RESTOREs, both ways, over a second key."""

    def __init__(self, connection, key, target):
        self.connection = connection
        self.key = key
        self.target = target
        self.args = [b"DUMP", key]

    def lines(self):
        return [self.args]


class Sequence:
    def __init__(self, steps, config, batch, name):
        self.steps = steps
        self.config = config
        self.batch = batch
        self.name = name

    def with_steps(self, steps):
        return Sequence(steps, self.config, self.batch, self.name)


SAMPLERS = {"SRANDMEMBER": lambda key: [b"SMEMBERS", key], "HRANDFIELD": lambda key: [b"HGETALL", key],
            "ZRANDMEMBER": lambda key: [b"ZRANGE", key, 0, -1, b"WITHSCORES"], "SPOP": lambda key: [b"SMEMBERS", key]}


class Generator:
    def __init__(self, seed, number, known, large=0.04):
        rng = self.rng = random.Random(f"{seed}:{number}")
        self.name = f"{seed}:{number}"
        self.known = known  # names that both servers have
        theme = self.theme = rng.choice(TYPES) if rng.random() < 0.85 else None
        self.g = Arguments(rng, theme, big=rng.random() < 0.1, large=rng.random() < large, oddness=rng.choice((0, 0.05, 0.2)))
        self.g.known = known
        self.config = rng.choice(CONFIGS)
        self.g.longest = int(self.config.get("proto-max-bulk-len", 0))
        self.mutation = rng.choice((0, 0.03, 0.1, 0.4))
        self.choices, self.weights = [], []
        for name in generators.ALL:
            if name not in known or name == "LCS" and (self.g.big or self.g.large or self.g.longest):
                continue
            weight = generators.WEIGHTS.get(name, 1)
            group = next((t for t, c in generators.GROUPS.items() if name in c), None)
            if group is None:
                weight *= 0.5
            elif theme and group != theme:
                weight *= 0.06 if not (theme == "z" and group == "S") else 0.15
            self.choices.append(name)
            self.weights.append(weight)
        self.open = {0: False, 1: False}
        self.looking = rng.random() < 0.1
        self.changing = rng.random() < 0.07

    def command(self, plain_only=False):
        while True:
            name = self.rng.choices(self.choices, self.weights)[0]
            if not plain_only or name not in ("SPOP", "EXEC", "DISCARD", "RESET", "HELLO", "WATCH"):
                break
        self.g.exact = False
        args = generators.ALL[name](self.g)
        if self.g.chance(self.mutation):
            args = generators.mutate(self.g, name, args)
            args = generators.not_long(name, generators.not_soon(name, args))
        args = generators.not_newer(name, args)
        words = [w.encode() for w in name.split()]
        if self.g.chance(0.05):
            words = [w.lower() for w in words]
        if self.g.chance(0.003):
            words = [words[0] + b"X"]
        return name, words + args

    def transaction(self, connection):
        steps = []
        if self.g.chance(0.4):
            steps.append(Plain(connection, [b"WATCH", self.g.any_key() if self.g.chance(0.5) else self.g.key(self.g.theme or "s")]))
            if self.g.chance(0.6):
                name, args = self.command(True)
                steps += self.before(name, 1 - connection) + [Plain(1 - connection, args)]
            if self.g.chance(0.1):
                steps.append(Plain(connection, [b"UNWATCH"]))
        steps.append(Plain(connection, [b"MULTI"]))
        for _ in range(self.rng.randint(0, 5)):
            name, args = self.command(True)
            steps += self.before(name, connection) + [Plain(connection, args)]
        end = self.rng.choices((b"EXEC", b"DISCARD", None), (12, 2, 1))[0]
        if end:
            steps.append(Plain(connection, [end]))
        else:
            self.open[connection] = True
        return steps

    def change(self):
        name = self.rng.choice(list(CHANGES))
        return Plain(0, [b"CONFIG", b"SET", name.encode(), b"%d" % self.rng.choice(CHANGES[name])])

    def step(self):
        steps = self.one_step()
        if self.changing and self.g.chance(0.1):
            steps.append(self.change())
        if self.looking:
            # What each command has made of the encoding of the key that comes first.
            for step in list(steps):
                words = len(name_of(step.args).split())
                if type(step) is Plain and len(step.args) > words and step.args[words] != b"nothing" and not self.open[step.connection]:
                    steps.insert(steps.index(step) + 1, Plain(step.connection, [b"OBJECT", b"ENCODING", step.args[words]]))
        return steps

    def one_step(self):
        connection = 0 if self.rng.random() < 0.9 else 1
        if not self.open[connection] and self.rng.random() < 0.04:
            return self.transaction(connection)
        name, args = self.command(plain_only=self.open[connection] and self.rng.random() < 0.9)
        words = len(name.split())
        if self.open[connection]:
            if name in ("EXEC", "DISCARD", "RESET"):
                self.open[connection] = False
            elif name == "SPOP":
                return []
            return self.before(name, connection) + [Plain(connection, args)]
        if name in SAMPLERS:
            key = args[1] if len(args) > 1 else b"k1"
            return [Sample(connection, SAMPLERS[name](key), args, name == "SPOP")]
        if name in ("SCAN", "HSCAN", "SSCAN", "ZSCAN") and self.rng.random() < 0.7:
            at = 1 if name == "SCAN" else 2
            if len(args) > at:
                args[at] = None
                return [Scan(connection, args)]
        # What it dumps of a string that is nearly as long as an argument may be is longer.
        if name == "DUMP" and len(args) > words and not self.g.longest:
            return [Exchange(connection, args[1], self.rng.choice((b"k1", b"s1", b"l1", b"h1", b"S1", b"z1", b"x1")))]
        return self.before(name, connection) + [Plain(connection, args)]

    @staticmethod
    def before(name, connection):
        """redis-server's SORT judges an empty number by the errno that some command before has left: this
        one clears it."""
        return [Plain(connection, [b"ZADD", b"nothing", b"XX", b"1", b"m"])] if name in ("SORT", "SORT_RO") else []

    def large(self, kind):
        """A command that makes a large value of this type, and its arguments after the key."""
        numbers = self.rng.sample(range(5000), self.rng.choice((700, 1500, 3000)))
        members = [b"m%d" % i for i in numbers]
        if kind == "s":
            return "SET", [self.g.bytes(self.rng.choice((10000, 70000, 140000, 300000)))]
        if kind == "l":
            return "RPUSH", [m * (1 + i % 5) for i, m in zip(numbers, members)]
        if kind == "h":
            return "HSET", [x for i, m in zip(numbers, members) for x in (m, m * (i % 20))]
        if kind == "p":
            return "PFADD", members
        if kind == "g":
            return "GEOADD", [x for m in members for x in (*generators.place(self.g), m)]
        if kind == "S":
            return "SADD", members if self.g.chance(0.7) else numbers
        if kind == "x":
            return "XADD", [b"1-*"] + [x for m in members for x in (m, m)]
        ties = self.rng.choice((1, 50, 10 ** 6))
        return "ZADD", [x for i, m in zip(numbers, members) for x in (i * 7919 % 10007 % ties, m)]

    def sequence(self):
        steps = []
        if self.g.chance(0.4):
            steps.append(Plain(0, [b"HELLO", b"3"]))
        if self.g.large:
            for kind in (self.theme or "h", self.theme or "z"):
                name, args = self.large(kind)
                if name in self.known:
                    steps.append(Plain(0, [name.encode(), generators.KEYS_OF[kind][0 if self.g.chance(0.5) else 1]] + args))
        # Something of the theme to work on, and something of another type.
        for kind in [self.theme or self.rng.choice(TYPES)] * 3 + [self.rng.choice(TYPES)]:
            name = {"s": "SET", "l": "RPUSH", "h": "HSET", "S": "SADD", "z": "ZADD", "p": "PFADD",
                    "g": "GEOADD", "x": "XADD"}[kind]
            if name in self.known:
                steps.append(Plain(0, [name.encode()] + generators.ALL[name](self.g)))
        for _ in range(self.rng.choice((5, 15, 30, 30, 60))):
            steps += self.step()
        return Sequence(steps, self.config, self.rng.choice((1, 5, 1000)), self.name)
