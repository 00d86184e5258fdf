# SPDX-License-Identifier: BSD-3-Clause
"""Client-side caching: who is told of what, beside redis-server."""
import time

import pytest

from harness import Raw, Server, wait_for


@pytest.fixture(scope="module")
def pair():
    with Server("redis") as theirs, Server("holdfast") as ours:
        yield theirs, ours


class Talk:
    """Some clients of one server; what each has got is told by `seen`, in the order in which it came."""

    def __init__(self, server, protocols):
        self.clients = [server.raw() for _ in protocols]
        self.log = []
        for client, protocol in zip(self.clients, protocols):
            client("HELLO", protocol)
        self.ids = [client("CLIENT", "ID") for client in self.clients]

    def __call__(self, who, *args):
        """One command; all that comes up to the answer of the ECHO behind it."""
        mark = f"mark{len(self.log)}"
        args = [self.ids[a[1]] if isinstance(a, tuple) else a for a in args]
        requests = [args] if args[0] != "MULTI" else [["MULTI"], *args[1], ["EXEC"]]
        self.clients[who].send(b"".join(map(Raw.encode, requests)) + Raw.encode(["ECHO", mark]))
        got = []
        while not got or got[-1] != mark.encode():
            got.append(self.clients[who].read())
        self.log.append((who, args[0], [self.plain(x) for x in got[:-1]]))

    def plain(self, reply):
        """Ids differ between servers."""
        text = repr(reply)
        for i, number in enumerate(self.ids):
            text = text.replace(f"{number}", f"<client {i}>") if number > 9 else text
        return text

    def end(self):
        for client in self.clients:
            client.close()
        return self.log


def both(pair, script, protocols):
    def talk(server):
        r = server.raw()
        r("FLUSHALL")
        r.close()
        t = Talk(server, protocols)
        script(t)
        return t.end()
    theirs, ours = map(talk, pair)
    assert ours == theirs


# What was read is told once when it changes, by whomever, expires, or all is flushed.
def test_default_mode(pair):
    def script(t):
        t(0, "CLIENT", "TRACKING", "ON")
        for args in (["MGET", "a", "b", "c"], ["GET", "a"], ["HGETALL", "h"], ["CLIENT", "TRACKINGINFO"], ["CLIENT", "GETREDIR"]):
            t(0, *args)
        for args in (["SET", "a", "1"], ["SET", "a", "2"], ["MSET", "b", "1", "z", "2"], ["HSET", "h", "f", "v"], ["DEL", "nosuch"]):
            t(1, *args)
        t(0, "GET", "a")
        t(0, "SET", "a", "mine")
        t(0, "GET", "a")
        t(1, "RENAME", "a", "a2")
        t(0, "GET", "a2")
        t(1, "FLUSHALL")
        t(0, "PING")
        t(0, "MULTI", [["GET", "x"], ["SET", "y", "1"]])
        t(1, "SET", "x", "1")
        t(0, "CLIENT", "TRACKING", "OFF")
        t(0, "GET", "x")
        t(1, "SET", "x", "2")
        t(0, "CLIENT", "TRACKINGINFO")
    both(pair, script, ("3", "2"))


# Of several changes of a key in one turn a BCAST client hears once, of all keys in order.
def test_broadcast_repeated(pair):
    def script(t):
        t(0, "CLIENT", "TRACKING", "ON", "BCAST")
        t(1, "MULTI", [["SET", "b", 1], ["SET", "a", 1], ["INCR", "b"], ["DEL", "a"], ["INCR", "c"], ["INCR", "b"], ["SET", "a", 2]])
        t(0, "PING")
    both(pair, script, ("3", "2"))


# BCAST: every change under a prefix is told, read or not; NOLOOP leaves out one's own.
def test_broadcast(pair):
    def script(t):
        t(0, "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:", "PREFIX", "obj:", "NOLOOP")
        t(1, "CLIENT", "TRACKING", "ON", "BCAST")
        t(2, "SET", "user:1", "x")
        t(0, "PING"), t(1, "PING")
        t(2, "SET", "other", "x")
        t(0, "PING"), t(1, "PING")
        t(0, "SET", "obj:1", "x")
        t(0, "PING"), t(1, "PING")
        t(0, "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "new:")
        t(0, "CLIENT", "TRACKINGINFO")
        t(0, "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "new:x")
        t(0, "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", "PREFIX", "ab")
        t(0, "CLIENT", "TRACKING", "ON")
        t(0, "CLIENT", "TRACKING", "ON", "BCAST", "OPTIN")
    both(pair, script, ("3", "3", "2"))


# OPTIN and OPTOUT with CLIENT CACHING, and what is wrong with it.
def test_opt_in_and_out(pair):
    def script(t):
        t(0, "CLIENT", "CACHING", "YES")
        t(0, "CLIENT", "TRACKING", "ON", "OPTIN")
        t(0, "GET", "a")
        t(0, "CLIENT", "CACHING", "YES")
        t.clients[0].send(Raw.encode(["CLIENT", "CACHING", "YES"]) + Raw.encode(["GET", "b"]) + Raw.encode(["GET", "c"]))
        for _ in range(3):
            t.clients[0].read()
        for key in "abc":
            t(1, "SET", key, "1")
        t(0, "PING")
        t(0, "CLIENT", "CACHING", "NO")
        t(0, "CLIENT", "CACHING", "x")
        t(0, "CLIENT", "TRACKING", "ON", "OPTOUT")
        t(0, "CLIENT", "TRACKING", "OFF")
        t(0, "CLIENT", "TRACKING", "ON", "OPTIN", "OPTOUT")
        t(0, "CLIENT", "TRACKING", "ON", "OPTOUT")
        t.clients[0].send(Raw.encode(["CLIENT", "CACHING", "NO"]) + Raw.encode(["GET", "b"]) + Raw.encode(["GET", "c"]))
        for _ in range(3):
            t.clients[0].read()
        for key in "abc":
            t(1, "SET", key, "1")
        t(0, "PING")
        t(0, "CLIENT", "CACHING", "YES")
        t(0, "CLIENT", "TRACKING", "ON", "PREFIX", "x")
        t(0, "CLIENT", "TRACKING", "maybe")
        t(0, "CLIENT", "TRACKING", "ON", "nonsense")
    both(pair, script, ("3", "2"))


# REDIRECT: a RESP2 client is told through another connection that subscribes; when that goes, a RESP3 client is told.
def test_redirect(pair):
    def script(t):
        t.clients[1].send(Raw.encode(["SUBSCRIBE", "__redis__:invalidate"]))
        t.clients[1].read()
        t(0, "CLIENT", "TRACKING", "ON", "REDIRECT", (0, 1))
        t(0, "GET", "a")
        t(0, "SET", "a", "1")
        t.log.append(repr(t.clients[1].read()))
        t(0, "FLUSHALL")
        t.log.append(repr(t.clients[1].read()))
        t(2, "CLIENT", "TRACKING", "ON", "REDIRECT", (0, 1))
        t(2, "GET", "b")
        t.clients[1].close()
        wait_for(lambda: t.clients[0]("CLIENT", "LIST", "ID", t.ids[1]) == b"")
        t(0, "SET", "b", "1")
        t(2, "CLIENT", "TRACKINGINFO")
        t(0, "CLIENT", "TRACKING", "ON", "REDIRECT", "999999")
        t(0, "CLIENT", "TRACKING", "ON", "REDIRECT", "x")
    both(pair, script, ("2", "2", "3"))


# The table is bounded: beyond tracking-table-max-keys keys are told of as if they had changed.
def test_table_is_bounded(pair):
    for server in pair:
        r, a = server.raw(), server.raw()
        r("CONFIG", "SET", "tracking-table-max-keys", "10")
        a("HELLO", "3")
        a("CLIENT", "TRACKING", "ON")
        for i in range(100):
            a.send(Raw.encode(["GET", f"key{i}"]))
        told, replies = 0, 0
        while replies < 100 or told < 90:
            reply = a.read()
            told += isinstance(reply, tuple) and reply[0] == "push"
            replies += reply == ("null",)
        info = dict(line.split(":", 1) for line in r("INFO", "stats").decode().splitlines() if ":" in line)
        assert int(info["tracking_total_keys"]) <= 10
        r("CONFIG", "SET", "tracking-table-max-keys", "1000000")
        a.close()
        deadline = time.monotonic() + 60
        while "tracking_clients:0" not in r("INFO", "clients").decode() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "tracking_clients:0" in r("INFO", "clients").decode()
        r.close()
