# SPDX-License-Identifier: BSD-3-Clause
"""Clients that wait for keys, beside redis-server: the same script of several clients is played on both,
step by step, and what each client gets after each step is compared."""
import contextlib
import os
import random
import time

import pytest

import test_effects
from harness import Error, Raw, Server, Simple

ROUNDS = int(os.environ.get("HF_BLOCKING_ROUNDS", 25))


class Short(Exception):
    """A reply that has not come in full."""


class Connection(Raw):
    """One that knows whether it is answered, without waiting for it."""

    def __init__(self, path):
        super().__init__(path)
        self.socket.setblocking(False)
        self.id = self("CLIENT", "ID")
        self.unanswered = 0
        self.closed = False
        self.late = None  # replies that come when the time is over, for `wait` to find

    def _more(self):
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            raise Short from None
        if not data:
            raise EOFError("the server closed the connection")
        self.buffer += data

    def _bytes(self, size):
        while len(self.buffer) - self.at < size + 2:
            self._more()
        self.at += size + 2
        return self.buffer[self.at - size - 2:self.at - 2]

    def take(self):
        """The next reply, or None: as a list of one, as a reply may be None itself."""
        at = self.at
        try:
            return [self.read()]
        except Short:
            self.at = at
            return None

    def __call__(self, *args):
        self.send(self.encode(args))
        deadline = time.monotonic() + 60
        while (reply := self.take()) is None:
            assert time.monotonic() < deadline, args
            time.sleep(0.0002)
        return reply[0]


class Player:
    """Plays steps on one server. Clients are made when a step first names them."""

    def __init__(self, server):
        self.server = server
        self.admin = Connection(server.socket_path)
        self.clients = {}
        self.admin("FLUSHALL")

    def client(self, name):
        if name not in self.clients:
            self.clients[name] = Connection(self.server.socket_path)
        return self.clients[name]

    def state(self, c):
        """Its flags, and how much it has sent that the server has not parsed."""
        line = self.admin("CLIENT", "LIST", "ID", c.id)
        fields = dict(f.split("=", 1) for f in line.decode().split()) if line else {}
        return fields.get("flags", ""), int(fields.get("qbuf", 0))

    def drain(self):
        """What everybody has got meanwhile."""
        got = {}
        for name, c in self.clients.items():
            try:
                while (reply := c.take()) is not None:
                    (got.setdefault(name, []) if c.late is None else c.late).append(reply[0])
                    c.unanswered -= 1
            except EOFError:
                got.setdefault(name, []).append("closed")
                c.closed = True
        for name in [n for n, c in self.clients.items() if c.closed]:
            self.clients.pop(name).close()
        return got

    def late(self, name, *words):
        """A step whose reply comes when a time is over, which may be soon: `wait` is to take it."""
        self.client(name).late = []
        return self.step(name, *words)

    def step(self, name, *words):
        words = [w.replace(b"{" + n.encode() + b"}", str(self.client(n).id).encode())
                 for w in (w if isinstance(w, bytes) else str(w).encode() for w in words)
                 for n in ([w.split(b"{")[1].split(b"}")[0].decode()] if b"{" in w else [""])]
        c = self.client(name)
        was_blocked, before = c.unanswered > 0, self.state(c)[1] if c.unanswered > 0 else 0
        c.send(c.encode(words))
        c.unanswered += 1
        deadline, got = time.monotonic() + 60, {}
        while True:
            assert time.monotonic() < deadline, (self.server.kind, name, words)
            flags, waiting = self.state(c)
            if "b" in flags and (not was_blocked or waiting > before):
                break
            reply = c.take()
            if reply is not None:
                if c.late is None:
                    got[name] = reply
                else:
                    c.late += reply
                c.unanswered -= 1
                break
        # Everything else was written in the same turn.
        self.admin("PING")
        for other, replies in self.drain().items():
            got.setdefault(other, []).extend(replies)
        return got

    def close(self, name):
        self.clients.pop(name).close()
        deadline = time.monotonic() + 60
        while int(self.info("clients", "connected_clients")) != len(self.clients) + 1:
            assert time.monotonic() < deadline
        return {}

    def wait(self, name):
        """Until this client is answered."""
        deadline, c = time.monotonic() + 60, self.clients[name]
        while not c.late:
            assert time.monotonic() < deadline
            self.drain()
            time.sleep(0.001)
        got, c.late = {name: c.late}, None
        return got

    def info(self, section, field):
        text = self.admin("INFO", section)
        text = text[1] if isinstance(text, tuple) else text
        return dict(line.split(":", 1) for line in text.decode().split("\r\n") if ":" in line)[field]

    def contents(self):
        found = {}
        for db in range(4):
            self.admin("SELECT", db)
            for key in sorted(self.admin("KEYS", "*")):
                found[db, key] = self.admin("DEBUG", "DIGEST-VALUE", key)
        self.admin("SELECT", 0)
        return found

    def end(self):
        for c in self.clients.values():
            c.close()
        self.admin.close()


@pytest.fixture(scope="module")
def servers():
    with Server() as mine, Server("redis") as theirs:
        yield mine, theirs


def show(script):
    return "\n".join(line if isinstance(line, str) else " ".join(line) for line in script)


def play(servers, script):
    """The script is lines "client command ..."; `close`, `late` and `wait` are the player's own."""
    players = [Player(s) for s in servers]
    try:
        for number, line in enumerate(script):
            words = line.split() if isinstance(line, str) else line
            if words[1] in ("close", "wait", "late"):
                results = [getattr(p, words[1])(words[0], *words[2:]) for p in players]
            else:
                results = [p.step(*words) for p in players]
            if words[1] == "HELLO":
                continue  # it has the client's number
            if results[0] != results[1]:
                raise AssertionError(show(script[:number + 1]) + f"\n{results[0]}\nis not as redis-server's\n{results[1]}")
        if "p CONFIG RESETSTAT" in script:
            assert statistics(players[0]) == statistics(players[1])
        if "n PSUBSCRIBE *" in script:
            for p in players:
                p.admin("CONFIG", "SET", "notify-keyspace-events", "")
        assert players[0].contents() == players[1].contents(), script
        for field in ("blocked_clients", "clients_in_timeout_table"):
            assert players[0].info("clients", field) == players[1].info("clients", field), script
    finally:
        for p in players:
            p.end()
    wait_for_no_clients(servers)


def wait_for_no_clients(servers):
    for server in servers:
        deadline = time.monotonic() + 60
        with contextlib.closing(Connection(server.socket_path)) as c:
            while b"connected_clients:1\r" not in c("INFO", "clients"):
                assert time.monotonic() < deadline


SCRIPTS = {
    "first come, first served": """
        a BLPOP k 0
        b BRPOP k 0
        c BLPOP k 0
        p RPUSH k 1 2
        p RPUSH k 3 4 5
        p LRANGE k 0 -1
    """,
    "the key that is named first, when there are several": """
        p RPUSH y 1
        p RPUSH x 2
        a BLPOP x y 0
        b BLPOP x y 0
        c BLPOP x y 0
        p RPUSH y 3
    """,
    "the key that became ready first, when it waited": """
        a BLPOP x y z 0
        b BLPOP z y x 0
        p MULTI
        p RPUSH y 1
        p RPUSH x 2
        p RPUSH z 3
        p EXEC
        p LRANGE z 0 -1
        p LRANGE x 0 -1
    """,
    "a key is named twice": """
        a BLPOP k k 0
        p RPUSH k 1 2
        p LLEN k
        a BLPOP k j k 0
    """,
    "wrong types": """
        p SET s 1
        a BLPOP s 0
        a BLPOP k s 0
        a BLMOVE s k LEFT LEFT 0
        a BLMOVE k s LEFT LEFT 0
        a BZPOPMIN s 0
        a PING
        p RPUSH k 1 2
        p LRANGE k 0 -1
        b BZPOPMIN k 0
        b BLPOP k s 0
    """,
    "the type changes while somebody waits": """
        a BLPOP k 0
        b BZPOPMIN k 0
        p SET k v
        p DEL k
        p SADD k v
        p DEL k
        p ZADD k 1 m 2 n
        p RPUSH k 1
        p DEL k
        p RPUSH k 1 2
        p LRANGE k 0 -1
    """,
    "lists and sorted sets of one name": """
        a BZPOPMAX k 0
        b BLPOP k 0
        c BZMPOP 0 2 j k MIN COUNT 5
        p RPUSH k x
        p ZADD k 1 a 2 b 3 c
        p EXISTS k
    """,
    "made and deleted in one transaction": """
        a BLPOP k 0
        p MULTI
        p RPUSH k 1
        p DEL k
        p EXEC
        p MULTI
        p RPUSH k 2
        p DEL k
        p RPUSH k 3 4
        p EXEC
        p LRANGE k 0 -1
    """,
    "deleted, and another made": """
        a BLPOP k 0
        b BLPOP j 0
        p MULTI
        p RPUSH k 1
        p RPUSH j 1
        p SET k x
        p EXEC
    """,
    "chains": """
        a BLMOVE a b LEFT RIGHT 0
        b BLMOVE b c LEFT RIGHT 0
        c BLMOVE c d RIGHT LEFT 0
        d BLPOP d 0
        p RPUSH a 1
        p RPUSH a 2
        p KEYS *
    """,
    "a ring": """
        a BRPOPLPUSH a b 0
        b BRPOPLPUSH b a 0
        p LPUSH a 1
        p LRANGE a 0 -1
    """,
    "to itself": """
        a BLMOVE k k LEFT RIGHT 0
        b BLMOVE k k LEFT RIGHT 0
        c BLPOP k 0
        p RPUSH k 1 2 3
        p LRANGE k 0 -1
    """,
    "chains in the breadth": """
        a BLMOVE x z LEFT RIGHT 0
        b BLMOVE y z LEFT RIGHT 0
        c BLPOP z 0
        d BLPOP z w 0
        e BLMOVE z w LEFT LEFT 0
        p MULTI
        p RPUSH y 1
        p RPUSH x 2
        p EXEC
        p RPUSH z 3
        p LRANGE w 0 -1
    """,
    "the destination is of a wrong type": """
        p SET s x
        a BLMOVE k s LEFT LEFT 0
        b BRPOPLPUSH k s 0
        c BLPOP k 0
        p RPUSH k 1 2
        p LRANGE k 0 -1
    """,
    "many at once": """
        a BLMPOP 0 2 j k LEFT COUNT 2
        b BLMPOP 0 1 k RIGHT COUNT 10
        c BLMPOP 0 1 k LEFT
        p RPUSH k 1 2 3
        p RPUSH k 4 5
    """,
    "sorted sets": """
        a BZPOPMIN x y 0
        b BZPOPMAX y 0
        c BZMPOP 0 1 y MAX COUNT 2
        d BZMPOP 0 2 x y MIN
        p ZADD y 1 a 2 b 3 c 4 d 5 e 6 f
        p ZRANGE y 0 -1 WITHSCORES
        e BZPOPMIN z 0
        p ZUNIONSTORE z 1 y
        f BZPOPMIN z2 0
        p ZRANGESTORE z2 z 0 -1
    """,
    "RESP3": """
        a HELLO 3
        a CLIENT NO-EVICT on
        a BZPOPMIN k 0
        p ZADD k 1.5 m 2 n 3 o
        a BZMPOP 0 1 k2 MAX COUNT 2
        p ZADD k2 1 m 2 n
        a late BLPOP l 0.01
        a wait
        a BLMPOP 0 1 l LEFT
        p RPUSH l 1
    """,
    "keys from everywhere": """
        p RPUSH src 3 1 2
        a BLPOP k1 0
        p RENAME src k1
        a BLPOP k2 0
        p COPY k1 k2
        a BLPOP k3 0
        p SORT k1 STORE k3
        a BLPOP k4 0
        p LMOVE k3 k4 LEFT LEFT
        a BLPOP k5 0
        p RPOPLPUSH k3 k5
        a BLPOP k6 0
        p RENAMENX k3 k6
        b SELECT 1
        b BLPOP k1 0
        p MOVE k1 1
        b BLPOP k7 0
        p COPY k6 k7 DB 1
        a BLPOP k6 0
        a BLPOP k6 0
        b RPUSH k6 x y
        b MOVE k6 0
        a BZPOPMIN z 0
        p ZADD z1 1 a
        p RENAME z1 z
        a BZPOPMIN z 0
        p ZINCRBY z 3 m
        a BZPOPMIN z 0
        p SADD s a b
        p ZINTERSTORE z 1 s
    """,
    "databases": """
        a SELECT 2
        a BLPOP k 0
        b SELECT 3
        b BLPOP k 0
        c BLPOP k 0
        q SELECT 3
        q RPUSH k 1
        p RPUSH k 2
        q SELECT 2
        q RPUSH k 3
        a BLPOP k 0
        p RPUSH k 4 5
        p SWAPDB 0 2
        p SWAPDB 0 1
        p KEYS *
    """,
    "flush": """
        a BLPOP k 0
        p FLUSHDB
        p MULTI
        p RPUSH k 1
        p FLUSHALL
        p EXEC
        p RPUSH k 2
    """,
    "pipelined behind": """
        a BLPOP k 0
        a PING
        a RPUSH j 1
        a BLPOP k j 0
        a BLPOP j 0
        a ECHO end
        p RPUSH k x
        p RPUSH j y
    """,
    "feeding each other": """
        a BLPOP k 0
        a RPUSH j 1
        b BLPOP j 0
        b RPUSH i 2
        c BLPOP i 0
        c RPUSH h 3
        p RPUSH k 0
        p LRANGE h 0 -1
    """,
    "transactions": """
        a MULTI
        a BLPOP k 0
        a RPUSH k 1
        a BLPOP k 0
        a BLMOVE k j LEFT LEFT 0
        a BRPOPLPUSH k j 0
        a BLMPOP 0 1 k LEFT
        a BZPOPMIN z 0
        a BZMPOP 0 1 z MIN
        a WAIT 1 0
        a EXEC
        b BLPOP k 0
        p MULTI
        p LPUSH k 1
        p LPUSH k 2
        p EXEC
    """,
    "CLIENT UNBLOCK": """
        a BLPOP k 0
        p CLIENT UNBLOCK {a}
        p CLIENT UNBLOCK {a}
        a BLPOP k 0
        p CLIENT UNBLOCK {a} TIMEOUT
        a BLMOVE k j LEFT LEFT 0
        p CLIENT UNBLOCK {a} ERROR
        a WAIT 1 0
        p CLIENT UNBLOCK {a}
        a WAIT 1 0
        a PING
        p CLIENT UNBLOCK {a} ERROR
        b BLPOP k 0
        c BLPOP k 0
        p CLIENT UNBLOCK {b}
        p RPUSH k 1
        p CLIENT UNBLOCK {p}
        p CLIENT UNBLOCK 0
        p CLIENT UNBLOCK x
        p CLIENT UNBLOCK 1 2
        p CLIENT UNBLOCK 1 ERROR 2
    """,
    "vanishing": """
        a BLPOP k j 0
        b BLPOP k 0
        c BLPOP k 0
        a close
        p RPUSH j 1
        p RPUSH k 2
        c close
        p RPUSH k 3
    """,
    "killed": """
        a BLPOP k 0
        b BLPOP k 0
        p CLIENT KILL ID {a}
        p RPUSH k 1
        p LLEN k
    """,
    "time-outs": """
        a late BLPOP k 0.02
        a wait
        a late BLMOVE k j LEFT LEFT 0.001
        a wait
        a late BZPOPMAX k 1e-9
        a wait
        a late WAIT 1 10
        a wait
        a WAIT 0 0
        a WAIT -5 100
        a BLPOP k x
        a BLPOP k -1
        a BLPOP k -inf
        a BLPOP k nan
        a BLPOP k
        a BLPOP 0
        a BLMOVE k j LEFT UP x
        a BLMOVE k j LEFT LEFT x
        a BRPOPLPUSH k j -1
        a BLMPOP x 0 k LEFT
        a BLMPOP x 1 k UP
        a BLMPOP x 1 k LEFT
        a BLMPOP x 1 k LEFT COUNT 0
        a BLMPOP -1 1 k LEFT COUNT 1 COUNT 1
        a BLMPOP 0 2 k LEFT
        a BZMPOP x 0 k MIN
        a BZMPOP x 1 k UP
        a BZMPOP x 1 k MIN
        a BZMPOP 0 1 k MIN COUNT 0
        a WAIT x 0
        a WAIT 0 x
        a WAIT 0 -1
        a BLPOP k 1000000
        p RPUSH k 1
    """,
    "RESET behind": """
        a SELECT 1
        a BLPOP k 0
        a RESET
        a SET here 1
        q SELECT 1
        q RPUSH k 1
    """,
    "a pause": """
        a BLPOP k 0
        b late BLPOP j 0.05
        p CLIENT PAUSE 1000000 WRITE
        q RPUSH k 1
        c BLPOP k 0
        b wait
        p CLIENT UNPAUSE
        p RPUSH k 2
    """,
    "events": """
        p CONFIG SET notify-keyspace-events KEA
        n PSUBSCRIBE *
        a HELLO 3
        a PSUBSCRIBE __keyevent*
        a BLPOP k 0
        b BLMOVE k j LEFT RIGHT 0
        c BLMOVE j i LEFT LEFT 0
        p RPUSH k 1 2 3
        b BLMPOP 0 1 l LEFT COUNT 2
        c BZPOPMIN z 0
        p RPUSH l 1 2
        p ZADD z 1 m
        p CONFIG SET notify-keyspace-events AE
        p CONFIG SET notify-keyspace-events KEA
    """,
    "statistics": """
        p CONFIG RESETSTAT
        a BLPOP k 0
        b BLMOVE k s LEFT LEFT 0
        p SET s x
        p RPUSH k 1 2
        a BLPOP none 0
        p CLIENT UNBLOCK {a} ERROR
        a BLPOP k 0
        a BLPOP s 0
        a BLPOP none x
    """,
    "WATCH": """
        a WATCH k
        b BLPOP k 0
        p RPUSH k 1
        a MULTI
        a EXEC
        a WATCH j
        b BLMOVE k j LEFT LEFT 0
        p RPUSH k 1
        a MULTI
        a EXEC
    """,
    "expiry": """
        p RPUSH k 1
        p PEXPIRE k 1
        p DEBUG SLEEP 0.01
        a BLPOP k 0
        p RPUSH k 2 3
        p LRANGE k 0 -1
    """,
}


STATISTICS = ("cmdstat_blpop", "cmdstat_blmove", "errorstat_UNBLOCKED", "errorstat_WRONGTYPE", "errorstat_ERR")


def statistics(player):
    """Counts of calls and errors, without times."""
    fields = {}
    for section in ("commandstats", "errorstats"):
        for line in player.admin("INFO", section).decode().split("\r\n"):
            name, _, rest = line.partition(":")
            if name in STATISTICS:
                fields[name] = [f for f in rest.split(",") if not f.startswith("usec")]
    return fields


# Each script gives the same replies to the same clients at the same time as redis-server.
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(servers, name):
    play(servers, [line.strip() for line in SCRIPTS[name].strip().splitlines()])


# RESTORE makes a key ready, too.
def test_restore(servers):
    payload = []
    with contextlib.closing(servers[0].raw()) as raw:
        raw("RPUSH", "r", "1", "2")
        payload = raw("DUMP", "r")
    with contextlib.closing(servers[1].raw()) as raw:
        raw("RPUSH", "r", "1", "2")
        theirs = raw("DUMP", "r")
    for server, dump in zip(servers, (payload, theirs)):
        player = Player(server)
        assert player.step("a", "BLPOP", "k", "0") == {}
        assert player.step("p", "RESTORE", "k", "0", dump) == {"a": [[b"k", b"1"]], "p": [Simple("OK")]}
        player.end()
    wait_for_no_clients(servers)


def random_blocking(rng, keys):
    t, k, j = "0", rng.choice(keys), rng.choice(keys)
    side, other = rng.choice(("LEFT", "RIGHT")), rng.choice(("LEFT", "RIGHT"))
    several = [rng.choice(keys) for _ in range(rng.randint(1, 3))]
    count = ["COUNT", rng.randint(1, 4)] if rng.random() < 0.6 else []
    return rng.choice((
        ["BLPOP", *several, t], ["BRPOP", *several, t], ["BLMOVE", k, j, side, other, t], ["BRPOPLPUSH", k, j, t],
        ["BLMPOP", t, len(several), *several, side, *count], ["BZPOPMIN", *several, t], ["BZPOPMAX", *several, t],
        ["BZMPOP", t, len(several), *several, rng.choice(("MIN", "MAX")), *count]))


def random_feeding(rng, keys):
    k, j = rng.choice(keys), rng.choice(keys)
    values = [rng.randint(0, 99) for _ in range(rng.randint(1, 4))]
    members = [x for v in values for x in (v, f"m{v}")]
    return rng.choice((
        ["RPUSH", k, *values], ["RPUSH", k, *values], ["LPUSH", k, *values], ["ZADD", k, *members], ["ZADD", k, *members],
        ["DEL", k], ["DEL", k], ["SET", k, "x"], ["SADD", k, *values], ["RENAME", k, j], ["COPY", k, j, "REPLACE"],
        ["LMOVE", k, j, "LEFT", "RIGHT"], ["RPOPLPUSH", k, j], ["LPOP", k], ["ZPOPMIN", k], ["RPUSHX", k, "x"],
        ["LINSERT", k, "BEFORE", values[0], "i"], ["MOVE", k, 1], ["COPY", k, j, "DB", 1], ["PERSIST", k], ["ZINCRBY", k, 1, "m1"]))


def random_script(rng, length=60):
    """Clients w0 to w5 wait mostly, p0 and p1 feed them."""
    keys = ["k0", "k1", "k2", "k3"][:rng.randint(1, 4)]
    script = []
    in_multi, named = {"p0": False, "p1": False}, []
    for _ in range(length):
        r = rng.random()
        if r < 0.4:
            name = f"w{rng.randrange(6)}"
            named.append(name)
            command = random_blocking(rng, keys) if rng.random() < 0.85 else random_feeding(rng, keys)
            script.append([name, *command])
        elif r < 0.44 and named:
            script.append(["p1", "CLIENT", "UNBLOCK", "{%s}" % rng.choice(named), rng.choice(("ERROR", "TIMEOUT"))])
        elif r < 0.47 and named:
            script.append([named.pop(rng.randrange(len(named))), "close"])
            named = [n for n in named if n != script[-1][0]]
        elif r < 0.5:
            script.append(["p1", "SELECT", rng.randrange(2)])
        elif r < 0.62:
            script.append(["p0", "EXEC" if in_multi["p0"] else "MULTI"])
            in_multi["p0"] = not in_multi["p0"]
        else:
            script.append([rng.choice(("p0", "p0", "p1")), *random_feeding(rng, keys)])
    if in_multi["p0"]:
        script.append(["p0", "EXEC"])
    # What is left over ends somehow, too.
    script.append(["p1", "SELECT", 0])
    script += [["p1", *random_feeding(rng, keys)] for _ in range(10)]
    return [[w if i < 2 else str(w) for i, w in enumerate(step)] for step in script]


@pytest.fixture
def rng():
    seed = int(os.environ.get("HF_SEED", time.time_ns() % 2 ** 32))
    print(f"HF_SEED={seed}")
    return random.Random(seed)


# Whatever clients do in whatever order: everybody gets what redis-server gives him.
def test_random_scripts(servers, rng):
    for _ in range(ROUNDS):
        play(servers, random_script(rng))


@pytest.fixture
def player(holdfast):
    player = Player(holdfast)
    yield player
    player.end()
    wait_for_no_clients([holdfast])


# What CLIENT LIST and INFO show of those who wait.
def test_shown(player):
    player.step("a", "BLPOP", "k", "j", "0")
    player.step("b", "BZPOPMIN", "k", "1000")
    line = player.admin("CLIENT", "LIST", "ID", player.clients["a"].id)
    assert b" flags=bU " in line and b" cmd=blpop " in line
    fields = {f: int(player.info("clients", f)) for f in ("blocked_clients", "clients_in_timeout_table", "total_blocking_keys",
                                                         "total_blocking_keys_on_nokey")}
    assert fields == {"blocked_clients": 2, "clients_in_timeout_table": 1, "total_blocking_keys": 2,
                      "total_blocking_keys_on_nokey": 0}
    assert player.step("p", "CLIENT", "UNBLOCK", "{a}")["p"] == [1]
    player.close("b")
    assert player.info("clients", "blocked_clients") == player.info("clients", "total_blocking_keys") == "0"


# MONITOR shows a command that waits once, when it comes.
def test_monitor(holdfast, player):
    monitor = holdfast.raw()
    assert monitor("MONITOR") == Simple("OK")
    player.step("a", "BLPOP", "k", "0")
    player.step("p", "RPUSH", "k", "1")
    player.step("p", "ECHO", "end")
    seen = []
    while not seen or '"ECHO"' not in seen[-1]:
        seen.append(str(monitor.read()))
    assert [s for s in seen if "BLPOP" in s or "LPOP" in s] == [s for s in seen if '"BLPOP" "k" "0"' in s]
    assert sum("BLPOP" in s for s in seen) == 1 and sum("RPUSH" in s for s in seen) == 1
    monitor.close()


# CLIENT REPLY SKIP suppresses the reply of a command that waits, whenever it comes; OFF those of all.
def test_reply_off(holdfast, player):
    a = holdfast.raw()
    number = a("CLIENT", "ID")

    def wait_until_blocked():
        deadline = time.monotonic() + 60
        while b" flags=bU " not in player.admin("CLIENT", "LIST", "ID", number):
            assert time.monotonic() < deadline
    for count in range(3):
        a.send(a.encode(["CLIENT", "REPLY", "SKIP"]) + a.encode(["BLPOP", "k", "0"]) + a.encode(["ECHO", "1"]))
        wait_until_blocked()
        if count == 0:
            player.step("p", "RPUSH", "k", "x")
        else:
            assert player.step("p", "CLIENT", "UNBLOCK", number, ("ERROR", "TIMEOUT")[count - 1])["p"] == [1]
        assert a.read() == b"1"
    a.send(a.encode(["CLIENT", "REPLY", "OFF"]) + a.encode(["BLPOP", "k", "0"]) + a.encode(["ECHO", "1"]) +
           a.encode(["CLIENT", "REPLY", "ON"]))
    wait_until_blocked()
    player.step("p", "RPUSH", "k", "x")
    assert a.read() == Simple("OK") and a("PING") == Simple("PONG")
    assert player.step("p", "EXISTS", "k")["p"] == [0]
    a.close()


# One that a pause has put off is not waiting: CLIENT UNBLOCK leaves it alone. One that waits is not put off:
# the end of a pause leaves that alone.
def test_pause(player):
    player.step("w", "BLPOP", "k", "0")
    player.step("p", "CLIENT", "PAUSE", "100000", "WRITE")
    assert player.step("q", "SET", "x", "1") == {}
    assert player.step("p", "CLIENT", "UNBLOCK", "{q}") == {"p": [0]}
    got = player.step("p", "CLIENT", "UNPAUSE")
    assert got == {"p": [Simple("OK")], "q": [Simple("OK")]}
    assert player.step("p", "CLIENT", "UNBLOCK", "{w}") == {"p": [1], "w": [("null array",)]}


# Those who wait are not idle.
def test_timeout_directive(player):
    player.admin("CONFIG", "SET", "timeout", "1")
    player.step("a", "BLPOP", "k", "0")
    idle = player.client("idle")
    player.clients.pop("idle")
    deadline = time.monotonic() + 60
    while b"idle=" in player.admin("CLIENT", "LIST", "ID", idle.id):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    assert player.step("p", "RPUSH", "k", "1")["a"] == [[b"k", b"1"]]
    player.admin("CONFIG", "SET", "timeout", "0")
    idle.close()


# QUIT behind a command that waits is answered behind it.
def test_quit_behind(player, holdfast):
    a = holdfast.raw()
    a.send(a.encode(["BLPOP", "k", "0"]) + a.encode(["QUIT"]) + a.encode(["ECHO", "never"]))
    player.step("p", "RPUSH", "k", "1")
    assert a.read() == [b"k", b"1"] and a.read() == Simple("OK")
    with pytest.raises(EOFError):
        a.read()
    a.close()


# Many who wait for many keys for different times, vanish or are served: each element goes to one of them.
def test_many(holdfast, player, rng):
    before = holdfast.client().info("clients")["blocked_clients"]
    crowd = [holdfast.raw() for _ in range(150)]
    keys = [f"q{i}" for i in range(20)]
    for c in crowd:
        time_out = rng.choice(("0", "0", "0", "0.01", "1000"))
        c.send(c.encode(["BLPOP", *rng.sample(keys, rng.randint(1, 8)), time_out]))
    client = holdfast.client()
    deadline = time.monotonic() + 60
    while client.info("clients")["blocked_clients"] - before < 60:
        assert time.monotonic() < deadline
    rng.shuffle(crowd)
    for c in crowd[:40]:
        c.close()
    for key in keys:
        client.rpush(key, *range(150))  # enough for all
    taken, others = [], 0
    for c in crowd[40:]:
        reply = c.read()
        if reply == ("null array",):
            others += 1
        else:
            taken.append(tuple(reply))
        c.close()
    left = [(k.encode(), v) for k in keys for v in client.lrange(k, 0, -1)]
    assert len(set(taken)) == len(taken) and len(taken) + others == 110
    everything = {(k.encode(), b"%d" % i) for k in keys for i in range(150)}
    # One that vanished may have been given one before.
    assert set(taken) | set(left) <= everything and len(everything) - len(taken) - len(left) <= 40
    deadline = time.monotonic() + 60
    while client.info("clients")["blocked_clients"] != before:
        assert time.monotonic() < deadline
    assert client.info("clients")["total_blocking_keys"] == 0


# ---- the log ----


@pytest.fixture(scope="module")
def logged():
    with Server(options=test_effects.LOGGED) as server:
        yield server


# A served command is logged as what it did, behind what fed it; one that failed or timed out is not.
def test_effects_of_served(logged):
    player = Player(logged)
    for line in """a BLPOP k 0
                   p RPUSH k 1 2
                   a BRPOP k 0
                   a BLMOVE k j LEFT RIGHT 0
                   b BRPOPLPUSH j i 0
                   c BLMPOP 0 1 i LEFT COUNT 5
                   p MULTI
                   p SET s x
                   p RPUSH k 3
                   p EXEC
                   a BZPOPMIN z 0
                   b BZMPOP 0 1 z MAX COUNT 2
                   p ZADD z 1 m 2 n 3 o
                   a BLMOVE k s LEFT LEFT 0
                   p RPUSH k 4
                   a BLPOP none 0
                   p CLIENT UNBLOCK {a}
                   a BLMOVE k k2 LEFT LEFT 0
                   a BRPOPLPUSH k2 k 0
                   a BLMPOP 0 1 k LEFT
                   a BZMPOP 0 1 z MIN
                   p ZADD z 1 m""".splitlines():
        player.step(*line.split())
    raw = logged.raw()
    found = [b" ".join(e).decode() for e in test_effects.effects(logged, raw)]
    found = [e for e in found if not e.startswith(("SELECT", "FLUSH"))]
    assert found == ["RPUSH k 1 2", "LPOP k", "RPOP k", "MULTI", "SET s x", "RPUSH k 3", "EXEC", "LMOVE k j LEFT RIGHT",
                     "RPOPLPUSH j i", "LPOP i 1", "ZADD z 1 m 2 n 3 o", "ZPOPMIN z", "ZPOPMAX z 2", "RPUSH k 4",
                     "LMOVE k k2 LEFT LEFT", "RPOPLPUSH k2 k", "LPOP k 1", "ZADD z 1 m", "ZPOPMIN z 1"]
    raw.close()
    player.end()


# What redis-server makes of the log of clients who feed each other is what is here.
def test_log_of_random_scripts(logged, rng):
    for _ in range(6):
        player = Player(logged)
        for step in random_script(rng):
            if step[1] == "close":
                player.close(step[0])
            else:
                player.step(*step)
        player.end()
        raw = logged.raw()
        test_effects.assert_same_data(logged, raw)
        raw.close()


# Replies to those who waited are held until their effects are durable, and come then.
def test_held_replies(logged):
    a, b = logged.raw(), logged.raw()
    for i in range(50):
        a.send(a.encode(["BLPOP", "held", "0"]) + a.encode(["LLEN", "held"]))
        assert b("RPUSH", "held", i, "more") == 2
        assert a.read() == [b"held", b"%d" % i] and a.read() == 1
        assert b("LPOP", "held") == b"more"
    a.close()
    b.close()


# WAITAOF: the answer is there when what was written before is on disk, or the time is over.
def test_waitaof(logged, holdfast, player):
    raw = logged.raw()
    raw("SET", "a", 1)
    assert raw("WAITAOF", 1, 0, 0) == [1, 0] and raw("WAITAOF", 0, 0, 0) == [1, 0]
    assert raw("WAITAOF", 1, 1, 5) == [1, 0] and raw("WAITAOF", 0, 1, 5) == [1, 0]
    for wrong in ((2, 0, 0), (-1, 0, 0), ("x", 0, 0), (1, -1, 0), (1, 0, -1), (1, 0, "x")):
        assert isinstance(raw("WAITAOF", *wrong), Error)
    for _ in range(3):
        raw("MULTI"), raw("WAITAOF", 1, 0, 0)
        assert raw("EXEC") in ([[1, 0]], [[0, 0]])
    raw("CONFIG", "SET", "appendfsync", "everysec")
    assert raw.pipeline([("SET", "a", 2), ("WAITAOF", 1, 0, 0), ("ECHO", "x")]) == [Simple("OK"), [1, 0], b"x"]
    raw("CONFIG", "SET", "appendfsync", "no")
    other = logged.raw()
    other.send(other.encode(["SET", "a", 3]) + other.encode(["WAITAOF", 1, 0, 0]))
    assert other.read() == Simple("OK")
    raw("CONFIG", "SET", "appendonly", "no")
    refused = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."
    assert other.read() in ([1, 0], refused)
    assert raw("WAITAOF", 1, 0, 0) == refused
    assert player.step("a", "WAITAOF", "1", "0", "0") == {"a": [refused]}
    assert player.step("a", "WAITAOF", "0", "0", "0") == {"a": [[0, 0]]}
    raw.close()
    other.close()


# A request that waits behind one that blocks is executed as it came, an empty key and the one behind it too.
def test_empty_key_behind_a_blocked_command(server):
    raw = server.raw()
    raw("SET", "k", "v")
    replies = raw.pipeline([("BLPOP", "nothing", "0.01"), ("MGET", "", "k"), ("EXISTS", "", "k"), ("DEL", "", "k")])
    assert replies[1:] == [[None, b"v"], 1, 1]
