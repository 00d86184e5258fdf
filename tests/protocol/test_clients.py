# SPDX-License-Identifier: BSD-3-Clause
"""CLIENT PAUSE, KILL and LIST, and WATCH: what one client does to others."""
import time

import pytest

from exchange import connect, read_rest, request
from harness import PATIENCE, Error, wait_for


def lines(raw, *args):
    reply = raw("CLIENT", "LIST", *args)
    reply = reply.decode() if isinstance(reply, bytes) else str(reply)
    return [dict(f.split("=", 1) for f in line.split(" ")) for line in reply.splitlines()]


def test_pause_write(server):
    """Writes wait, reads do not; after UNPAUSE the writes are executed in their order."""
    a, b = server.raw(), server.raw()
    a("SET", "n", 0)
    a("CLIENT", "PAUSE", 60000, "WRITE")
    assert a("GET", "n") == b"0"
    b.send(request("GET", "n") + request("INCR", "n") + request("GET", "n") + request("APPEND", "n", "x")
           + request("MULTI") + request("GET", "n") + request("EXEC"))
    assert b.read() == b"0"
    wait_for(lambda: [c["flags"] for c in lines(a)] in (["N", "b"], ["U", "bU"]))
    assert a("GET", "n") == b"0"
    # A transaction that only reads does not wait.
    assert a("MULTI") == "OK" and a("GET", "n") == "QUEUED" and a("EXEC") == [b"0"]
    b.send(request("PING"))
    a("CLIENT", "UNPAUSE")
    assert [b.read() for _ in range(7)] == [1, b"1", 2, "OK", "QUEUED", [b"1x"], "PONG"]


def test_pause_all_ends_by_itself(server):
    """Everything waits, the client that paused as well, and goes on when the time is over."""
    a, b = server.raw(), server.raw()
    began = time.monotonic()
    a("CLIENT", "PAUSE", 300)
    a.send(request("PING"))
    big = b"v" * 100000
    b.send(request("SET", "k", big) + request("GET", "k"))
    assert a.read() == "PONG"
    assert time.monotonic() - began >= 0.29
    assert b.read() == "OK"
    assert b.read() == big


def test_paused_client_may_leave(server):
    """A client that waits and goes away, or is killed, is freed with what it has sent."""
    a, b, c = server.raw(), connect(server), connect(server)
    a("SET", "k", 1)
    a("CLIENT", "PAUSE", 60000, "WRITE")
    for s in (b, c):
        s.sendall(request("SET", "k", 2) * 300 + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$50000\r\nabc")
    wait_for(lambda: [c["flags"] for c in lines(a)].count("bU") == 2)
    b.close()
    assert a("CLIENT", "KILL", "TYPE", "normal") >= 1
    assert read_rest(c, PATIENCE).endswith(b"<closed>")
    a("CLIENT", "UNPAUSE")
    wait_for(lambda: len(lines(a)) == 1)
    assert a("GET", "k") == b"1"


def test_kill_filters(server):
    """By address, id, age and type; SKIPME keeps the caller unless told otherwise."""
    a, b, c = server.raw(), server.raw(), server.raw()
    ids = [x("CLIENT", "ID") for x in (a, b, c)]
    assert ids == sorted(ids)
    assert a("CLIENT", "KILL", "ID", ids[1], "TYPE", "pubsub") == 0
    assert a("CLIENT", "KILL", "ID", ids[1]) == 1
    assert [int(x["id"]) for x in lines(a)] == [ids[0], ids[2]]
    assert [int(x["id"]) for x in lines(a, "ID", ids[2], ids[1], ids[0])] == [ids[2], ids[0]]
    assert a("CLIENT", "KILL", "MAXAGE", 1000) == 0
    assert a("CLIENT", "KILL", "USER", "default", "SKIPME", "yes") == 1
    assert a("CLIENT", "KILL", "SKIPME", "no") == 1
    with pytest.raises(Exception):
        a("PING")


def test_killed_in_the_middle_of_a_batch(server):
    """Whoever is killed while its commands wait in the same turn executes no more of them."""
    a, others = connect(server), [connect(server) for _ in range(8)]
    for s in others:
        s.sendall(request("INCR", "n") * 500)
    a.sendall(request("CLIENT", "KILL", "TYPE", "normal") + request("PING"))
    got = b""
    while b"+PONG\r\n" not in got:
        piece = a.recv(1 << 16)
        assert piece, got
        got += piece
    for s in others:
        s.close()
    assert server.raw()("PING") == "PONG"


def test_list_and_setinfo(server):
    a = server.raw()
    a("CLIENT", "SETNAME", "me")
    a("CLIENT", "SETINFO", "LIB-NAME", "lib")
    a("CLIENT", "SETINFO", "lib-ver", "1.2")
    assert "Unrecognized option" in a("CLIENT", "SETINFO", "x", "y")
    assert isinstance(a("CLIENT", "SETINFO", "LIB-NAME", "a b"), Error)
    a("SELECT", 3)
    a("MULTI")
    me = server.raw()
    mine = next(x for x in lines(me) if x["name"] == "me")
    assert mine["db"] == "3" and mine["multi"] == "0" and mine["flags"] in ("x", "xU")
    assert mine["lib-name"] == "lib" and mine["lib-ver"] == "1.2" and mine["cmd"] == "multi"
    assert mine["resp"] == "2" and mine["user"] == "default"


WATCHED = [
    # (before WATCH, what another client does, whether EXEC goes through)
    ([("SET", "k", 1)], [("SET", "k", 2)], False),
    ([("SET", "k", 1)], [("DEL", "k")], False),
    ([("SET", "k", 1)], [("DEL", "other")], True),
    ([("SET", "k", 1)], [("EXPIRE", "k", 100)], False),
    ([("SET", "k", 1)], [("GET", "k")], True),
    ([], [("SET", "k", 1)], False),
    ([], [("DEL", "k")], True),
    ([("SET", "k", 1)], [("FLUSHALL",)], False),
    ([], [("FLUSHALL",)], True),
    ([("SET", "k", 1)], [("SELECT", 1), ("FLUSHDB",)], True),
    ([("SET", "k", 1)], [("FLUSHDB",)], False),
    ([("SET", "k", 1)], [("SWAPDB", 0, 1)], False),
    ([], [("SWAPDB", 0, 1)], True),
    ([("SELECT", 1), ("SET", "k", 1), ("SELECT", 0)], [("SWAPDB", 0, 1)], False),
    ([("SET", "k", 1)], [("RENAME", "k", "j")], False),
    ([("SET", "j", 1)], [("RENAME", "j", "k")], False),
    ([("SET", "k", 1)], [("MOVE", "k", 1)], False),
    ([("SET", "k", 1)], [("SELECT", 1), ("SET", "k", 2)], True),
    ([("SET", "k", 1, "PX", 30)], [("sleep", 0.1)], False),
    ([("SET", "k", 1, "PX", 30)], [("sleep", 0.1), ("GET", "k")], False),
    ([("DEBUG", "SET-ACTIVE-EXPIRE", 0), ("SET", "k", 1, "PX", 1), ("sleep", 0.05)],
     [("DEL", "k")], True),
    ([("DEBUG", "SET-ACTIVE-EXPIRE", 0), ("SET", "k", 1, "PX", 1), ("sleep", 0.05)],
     [("SET", "k", 2)], False),
    ([("DEBUG", "SET-ACTIVE-EXPIRE", 0), ("SET", "k", 1, "PX", 1), ("sleep", 0.05)],
     [("FLUSHALL",)], True),
]


def run(raw, commands):
    for command in commands:
        if command[0] == "sleep":
            time.sleep(command[1])
        else:
            raw(*command)


@pytest.mark.parametrize("before,between,succeeds", WATCHED)
@pytest.mark.parametrize("kind", ["server", "redis_server"])
def test_watch(kind, before, between, succeeds, request):
    """Holdfast and redis-server agree on what breaks a WATCH."""
    server = request.getfixturevalue(kind)
    a, b = server.raw(), server.raw()
    # The last of it and WATCH together, so that nothing expires in between.
    last = [c for c in before[-1:] if c[0] != "sleep"]
    run(a, before[:len(before) - len(last)])
    a.pipeline(last + [("WATCH", "k")])
    run(b, between)
    a("MULTI")
    a("PING")
    assert a("EXEC") == (["PONG"] if succeeds else ("null array",))
    # The watch is over, whatever came of it.
    b("SET", "k", "again")
    a("MULTI")
    assert a("EXEC") == []
