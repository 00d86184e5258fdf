# SPDX-License-Identifier: BSD-3-Clause
"""What clients did, and whether the data that is there after a crash can have come from it.

Each client sends a sequence of operations that its seed alone decides, several at a time, and owns
the keys that it writes: what they hold after the first k operations is known, whatever the other
clients did in between. The log is one order, so after a crash the keys of a client must be as they
were after some k:

    floor <= k <= sent        floor: acknowledged, with `always`; 0 when nothing is promised

A k that fits says at once that nothing acknowledged is missing, that no transaction is there in part
(it is one operation), that nothing came back that was deleted, and that the order was kept. Beside
them stand keys that all clients write: a list and a hash of which each client owns its elements and
its field, and counters that only grow and that readers look at."""
import math
import random

SHARED = "shared:"
LONG_MS = 100_000_000
SHORT_MS = 20
OTHER_DB = 5


class Op:
    """One operation: its commands (a transaction's are sent between MULTI and EXEC)."""

    __slots__ = ("kind", "commands", "transaction", "arguments", "sent_ms", "acked_ms", "reply")

    def __init__(self, kind, commands, arguments=(), transaction=False):
        self.kind = kind
        self.commands = commands
        self.arguments = arguments
        self.transaction = transaction
        self.sent_ms = 0
        self.acked_ms = None
        self.reply = None

    def requests(self):
        if self.transaction:
            return [("MULTI",)] + self.commands + [("EXEC",)]
        return self.commands

    def replies(self):
        return len(self.commands) + 2 if self.transaction else len(self.commands)


class Generator:
    """The operations of a client in one life of the server. Nothing depends on replies, so that
    whoever knows the seed knows them."""

    def __init__(self, seed, life, number, clients, big=True):
        self.rng = random.Random(f"{seed}/{life}/{number}")
        self.life = life
        self.number = number
        self.clients = clients
        self.big = big
        self.n = 0
        self.shares = number % 4 != 3

    def value(self):
        r = self.rng.random()
        size = 0 if r < 0.6 else 100 if r < 0.9 else 5000 if r < 0.997 or not self.big else 200_000
        return f"{self.life}.{self.n}:" + "x" * size

    def next(self):
        """The next operation, and whether others may be sent behind it before its reply is there."""
        self.n += 1
        p, rng, n = f"p{self.number}:", self.rng, self.n
        kind = rng.choice(KINDS if self.shares else OWN_KINDS)
        one = str(rng.randrange(4))
        if kind == "set":
            key, value = p + "s" + one, self.value()
            return Op(kind, [("SET", key, value)], (key, value)), True
        if kind == "del":
            return Op(kind, [("DEL", p + "s" + one)], (p + "s" + one,)), True
        if kind == "incr":
            return Op(kind, [("INCR", p + "c")], (p + "c",)), True
        if kind == "float":
            return Op(kind, [("INCRBYFLOAT", p + "f", "0.5")], (p + "f",)), True
        if kind == "append":
            return Op(kind, [("APPEND", p + "a" + one, f"{n},")], (p + "a" + one, f"{n},")), True
        if kind == "push":
            return Op(kind, [("RPUSH", p + "l", f"{self.life}.{n}")], (p + "l", f"{self.life}.{n}")), True
        if kind == "pop":
            return Op(kind, [("LPOP", p + "l", "3")], (p + "l", 3)), True
        if kind == "hset":
            field, value = f"f{rng.randrange(6)}", self.value()
            return Op(kind, [("HSET", p + "h", field, value)], (p + "h", field, value)), True
        if kind == "hdel":
            field = f"f{rng.randrange(6)}"
            return Op(kind, [("HDEL", p + "h", field)], (p + "h", field)), True
        if kind == "zincr":
            return Op(kind, [("ZINCRBY", p + "z", "1", "m" + one)], (p + "z", "m" + one)), True
        if kind == "sadd":
            members = [f"{self.life}.{n}.{i}" for i in range(rng.randrange(1, 4))]
            return Op(kind, [("SADD", p + "t", *members)], (p + "t", members)), True
        if kind == "spop":
            return Op(kind, [("SPOP", p + "t")], (p + "t",)), False
        if kind == "rename":
            return Op(kind, [("SET", p + "r", str(n)), ("RENAME", p + "r", p + "s" + one)],
                      (p + "s" + one, str(n)), True), True
        if kind == "long":
            key, value = p + "x" + one, str(n)
            return Op(kind, [("SET", key, value, "PX", LONG_MS)], (key, value)), True
        if kind == "persist":
            return Op(kind, [("PERSIST", p + "x" + one)], (p + "x" + one,)), True
        if kind == "short":
            return Op(kind, [("SET", p + "e" + one, str(n), "PX", SHORT_MS)]), True
        if kind == "transaction":
            value = self.value()
            return Op(kind, [("SET", p + "ta", value), ("RPUSH", p + "tl", str(n)), ("LTRIM", p + "tl", -5, -1),
                             ("HSET", p + "th", "f", value), ("SET", p + "tb", value)], (p, value, str(n)), True), True
        if kind == "shared":
            mine = f"{self.number}:{self.life}.{n}"
            return Op(kind, [("RPUSH", SHARED + "l", mine)], (mine,)), True
        if kind == "shared-hash":
            return Op(kind, [("HINCRBY", SHARED + "h", f"{self.number}", 1)], (self.number,)), True
        if kind == "shared-pair":
            return Op(kind, [("INCR", SHARED + "x"), ("INCR", SHARED + "y")], (), True), True
        if kind == "shared-incr":
            return Op(kind, [("INCR", SHARED + "n")]), True
        if kind == "read-counter":
            return Op(kind, [("GET", SHARED + "n")]), True
        if kind == "read-length":
            return Op(kind, [("LLEN", SHARED + "l")]), True
        if kind == "read-pair":
            return Op(kind, [("MGET", SHARED + "x", SHARED + "y")]), True
        if kind == "read-other":
            other = rng.randrange(self.clients)
            return Op(kind, [("GET", f"p{other}:c")], (other,)), True
        raise AssertionError(kind)


OWN_KINDS = ["set", "set", "del", "incr", "float", "append", "push", "push", "pop", "hset", "hdel", "zincr", "sadd",
             "spop", "rename", "long", "persist", "short", "transaction", "transaction"]
KINDS = OWN_KINDS + ["shared", "shared-hash", "shared-pair", "shared-incr", "read-counter", "read-length", "read-pair",
                     "read-other"]


class Model:
    """What a client's keys hold: str, list, dict, set; ("expires", value, ms) or, where the
    moment is not known exactly, ("expires", value, from ms, to ms); for a sorted
    set, ("z", scores)."""

    def __init__(self, keys):
        self.keys = keys

    def apply(self, op):
        """Carry it out. Returns the keys that it touched."""
        keys, a = self.keys, op.arguments
        if op.kind == "set" or op.kind == "rename":
            keys[a[0]] = a[1]
        elif op.kind == "del":
            keys.pop(a[0], None)
        elif op.kind == "incr":
            keys[a[0]] = str(int(keys.get(a[0], "0")) + 1)
        elif op.kind == "float":
            sum = float(keys.get(a[0], "0")) + 0.5
            keys[a[0]] = str(int(sum)) if sum == math.floor(sum) else str(sum)
        elif op.kind == "append":
            # Kept from growing for ever: what is longer is not appended to by the model nor by anybody,
            # as a life has an end.
            keys[a[0]] = keys.get(a[0], "") + a[1]
        elif op.kind == "push":
            keys.setdefault(a[0], []).append(a[1])
        elif op.kind == "pop":
            rest = keys.get(a[0], [])[a[1]:]
            self.put(a[0], rest)
        elif op.kind == "hset":
            keys.setdefault(a[0], {})[a[1]] = a[2]
        elif op.kind == "hdel":
            if a[0] in keys:
                keys[a[0]].pop(a[1], None)
                self.put(a[0], keys[a[0]])
        elif op.kind == "zincr":
            scores = keys.setdefault(a[0], ("z", {}))[1]
            scores[a[1]] = scores.get(a[1], 0) + 1
        elif op.kind == "sadd":
            keys.setdefault(a[0], set()).update(a[1])
        elif op.kind == "spop":
            members = keys.get(a[0], set())
            if op.acked_ms is None:
                if members:
                    keys[a[0]] = ("one of", frozenset(members))
            elif op.reply is not None:
                assert op.reply in members, f"SPOP gave {op.reply}, which is not in {a[0]}"
                members.discard(op.reply)
                self.put(a[0], members)
        elif op.kind == "long":
            late = math.inf if op.acked_ms is None else op.acked_ms + LONG_MS
            keys[a[0]] = ("expires", a[1], op.sent_ms + LONG_MS, late)
        elif op.kind == "persist":
            if isinstance(keys.get(a[0]), tuple):
                keys[a[0]] = keys[a[0]][1]
        elif op.kind == "transaction":
            p, value, n = a
            keys[p + "ta"] = keys[p + "tb"] = value
            keys[p + "th"] = {"f": value}
            keys[p + "tl"] = (keys.get(p + "tl", []) + [n])[-5:]
            return [p + "ta", p + "tb", p + "th", p + "tl"]
        elif op.kind == "shared":
            keys.setdefault("mine", []).append(a[0])
            return ["mine"]
        elif op.kind == "shared-hash":
            keys["field"] = keys.get("field", 0) + 1
            return ["field"]
        else:
            return []
        return [a[0]]

    def put(self, key, value):
        if value:
            self.keys[key] = value
        else:
            self.keys.pop(key, None)


def fits(wanted, found):
    """Whether what is found in the server is what the model has."""
    if isinstance(wanted, tuple) and wanted[0] == "expires":
        return (isinstance(found, tuple) and found[0] == "expires" and found[1] == wanted[1]
                and wanted[2] <= found[2] <= wanted[-1])
    if isinstance(wanted, tuple) and wanted[0] == "one of":
        found = found if found is not None else set()
        return isinstance(found, set) and found < wanted[1] and len(found) == len(wanted[1]) - 1
    return wanted == found


class Client:
    """A client's history since the data were last looked at."""

    def __init__(self, seed, number, clients, big=True):
        self.seed = seed
        self.number = number
        self.clients = clients
        self.big = big
        self.base = {}
        self.begin(0)

    def begin(self, life):
        self.generator = Generator(self.seed, life, self.number, self.clients, self.big)
        self.ops = []
        self.acked = 0
        self.floor = None   # what was promised when promises ended; None: all that was acknowledged

    def next(self):
        op, more = self.generator.next()
        self.ops.append(op)
        return op, more

    def acknowledge(self, reply, ms):
        """The reply to the oldest operation without one: of a transaction, that of EXEC."""
        op = self.ops[self.acked]
        op.reply = reply
        op.acked_ms = ms
        self.acked += 1
        return op

    def keys_of(self, data):
        """What the server has of this client's."""
        keys = {key: value for key, value in data.items() if key.startswith(f"p{self.number}:")}
        mine = [e for e in data.get(SHARED + "l", []) if e.startswith(f"{self.number}:")]
        if mine:
            keys["mine"] = mine
        if str(self.number) in data.get(SHARED + "h", {}):
            keys["field"] = int(data[SHARED + "h"][str(self.number)])
        return keys

    def check(self, data, floor):
        """The greatest k that fits; its data are what the next life begins with. AssertionError: none
        does."""
        found = self.keys_of(data)
        model = Model(copy(self.base))
        k = 0
        for op in self.ops[:floor]:
            model.apply(op)
            k += 1
        bad = {key for key in set(found) | set(model.keys) if not fits(model.keys.get(key), found.get(key))}
        last, first_bad = (k if not bad else None), sorted(bad)
        for op in self.ops[floor:]:
            for key in model.apply(op):
                if fits(model.keys.get(key), found.get(key)):
                    bad.discard(key)
                else:
                    bad.add(key)
            k += 1
            if not bad:
                last = k
        if last is None:
            raise AssertionError(self.story(found, floor, first_bad))
        self.base = found
        return last

    def story(self, found, floor, bad):
        """What does not fit, for whoever has to find out why."""
        model = Model(copy(self.base))
        for op in self.ops[:floor]:
            model.apply(op)
        lines = [f"client {self.number}: no state between {floor} and {len(self.ops)} operations fits "
                 f"({self.acked} were acknowledged)"]
        for key in bad[:5]:
            lines.append(f"  {key}: after {floor} operations {str(model.keys.get(key))[-200:]!r}, "
                         f"found {str(found.get(key))[-200:]!r}")
        for i, op in list(enumerate(self.ops))[max(0, floor - 5):]:
            lines.append(f"  {i}: {op.kind} {str(op.commands)[:150]} -> {op.acked_ms} {str(op.reply)[:80]}")
        return "\n".join(lines[:60])


def copy(keys):
    return {key: value.copy() if isinstance(value, (list, dict, set))
            else ("z", dict(value[1])) if isinstance(value, tuple) and value[0] == "z" else value
            for key, value in keys.items()}


class History:
    """All clients, and what was read of the counters that they share."""

    def __init__(self, seed, clients, big=True):
        self.clients = [Client(seed, i, clients, big) for i in range(clients)]
        self.life = 0
        self.promised = True
        self.forget_reads()

    def forget_reads(self):
        self.seen = {"n": 0, "l": 0, "x": 0}
        self.seen_others = [0] * len(self.clients)

    def begin(self):
        """A new life of the server."""
        self.life += 1
        self.promised = True
        self.forget_reads()
        for client in self.clients:
            client.begin(self.life)

    def promises(self, on):
        """From now on acknowledgements count, or do not."""
        if on and not self.promised:
            for client in self.clients:
                client.floor = None
        elif not on and self.promised:
            for client in self.clients:
                client.floor = client.acked
        self.promised = on

    def acknowledge(self, number, reply, ms):
        op = self.clients[number].acknowledge(reply, ms)
        if op.kind == "read-pair":
            assert reply[0] == reply[1], f"half of a transaction was shown: {reply}"
        if not self.promised:
            return op
        if op.kind == "shared-incr":
            self.see("n", reply)
        elif op.kind == "read-counter":
            self.see("n", reply or 0)
        elif op.kind == "shared":
            self.see("l", reply)
        elif op.kind == "read-length":
            self.see("l", reply)
        elif op.kind == "shared-pair":
            self.see("x", reply[0])
        elif op.kind == "read-pair":
            self.see("x", reply[0] or 0)
        elif op.kind == "read-other":
            self.seen_others[op.arguments[0]] = max(self.seen_others[op.arguments[0]], int(reply or 0))
        return op

    def see(self, what, value):
        self.seen[what] = max(self.seen[what], int(value))

    def acked(self):
        return sum(client.acked for client in self.clients)

    def check(self, data, durable=True):
        """Compare with what the server has. `durable`: what was acknowledged was promised. Returns how
        many operations were acknowledged, and those that are gone (none if durable)."""
        acknowledged, lost = 0, []
        for key in data:
            assert key.startswith(("p", SHARED)), f"a key that nobody wrote: {key}"
            assert ":e" not in key, f"{key} has expired, and is there"
        for client in self.clients:
            floor = 0 if not durable else client.acked if client.floor is None else client.floor
            k = client.check(data, floor)
            acknowledged += client.acked
            lost += [op for op in client.ops[k:client.acked] if op.kind in WRITES]
        assert data.get(SHARED + "x") == data.get(SHARED + "y"), "half of a transaction is there"
        if durable:
            there = {"n": int(data.get(SHARED + "n", 0)), "l": len(data.get(SHARED + "l", [])),
                     "x": int(data.get(SHARED + "x", 0))}
            for what, value in self.seen.items():
                assert there[what] >= value, f"{SHARED}{what} was shown as {value}, and is {there[what]}"
            for number, value in enumerate(self.seen_others):
                now = int(data.get(f"p{number}:c", 0))
                assert now >= value, f"p{number}:c was shown as {value}, and is {now}"
        return acknowledged, lost


WRITES = {kind for kind in KINDS if not kind.startswith("read-")}


def carry_out(client, count):
    """What a server has that has carried out so many of a client's operations, which are given replies:
    for tests of the comparison itself."""
    model, counts = Model({}), {"n": 0, "x": 0}
    for _ in range(count):
        op, _ = client.next()
        op.acked_ms = 1
        if op.kind == "spop":
            members = model.keys.get(op.arguments[0])
            op.reply = min(members) if members else None
        elif op.kind == "shared-incr":
            counts["n"] += 1
        elif op.kind == "shared-pair":
            counts["x"] += 1
        model.apply(op)
    data = {}
    for key, value in model.keys.items():
        if key == "mine":
            data[SHARED + "l"] = value
        elif key == "field":
            data[SHARED + "h"] = {str(client.number): str(value)}
        else:
            data[key] = ("expires", value[1], value[2]) if isinstance(value, tuple) and value[0] == "expires" else value
    for name, value in (("n", counts["n"]), ("x", counts["x"]), ("y", counts["x"])):
        if value:
            data[SHARED + name] = str(value)
    return data
