# SPDX-License-Identifier: BSD-3-Clause
"""Values that are read straight into their final place: a plain SET of 32 KiB or more that does not arrive in one go. Whoever
looks at the arguments besides SET itself has to see them whole."""
import random
import time

import pytest

from exchange import connect, request

SIZES = [32768, 5 * 8176 - 1, 5 * 8176, 5 * 8176 + 1, 100000, 1000000, 17 * 1024 * 1024]


def value(size):
    return random.Random(size).randbytes(size)


def send_in_parts(client, message):
    """The header and some bytes of the value first, so that the rest is read to its place."""
    client.send(message[:500])
    time.sleep(0.02)
    client.send(message[500:])


@pytest.mark.parametrize("size", SIZES)
def test_set(server, size):
    """New, over an older value, over a list; and what follows in the pipeline is not eaten."""
    c = server.raw()
    c("RPUSH", "k", "a", "b")
    for seed in range(2):
        wanted = value(size + seed)
        send_in_parts(c, request("SET", "k", wanted) + request("PING"))
        assert c.read() == "OK" and c.read() == "PONG"
        assert c("STRLEN", "k") == size + seed
        assert c("GET", "k") == wanted
    assert c("SETRANGE", "k", size // 2, "changed") == size + 1
    assert c("GET", "k") == wanted[:size // 2] + b"changed" + wanted[size // 2 + 7:]


def test_others_see_it_whole(server):
    """A transaction, WATCH, MONITOR, a client that waits, options, and other commands with such an argument."""
    a, b = server.raw(), server.raw()
    wanted = value(200001)
    assert a("MULTI") == "OK"
    send_in_parts(a, request("SET", "k", wanted))
    assert a.read() == "QUEUED"
    assert a("EXEC") == ["OK"] and a("GET", "k") == wanted

    b("WATCH", "k")
    send_in_parts(a, request("SET", "k", wanted[1:]))
    assert a.read() == "OK"
    b("MULTI")
    b("PING")
    assert b("EXEC") == ("null array",) and b("GET", "k") == wanted[1:]

    b("CLIENT", "PAUSE", 60000, "WRITE")
    send_in_parts(a, request("SET", "k", wanted[2:]))
    time.sleep(0.1)
    assert b("STRLEN", "k") == 200000
    b("CLIENT", "UNPAUSE")
    assert a.read() == "OK" and b("GET", "k") == wanted[2:]

    send_in_parts(a, request("SET", "k", wanted, "GET"))
    assert a.read() == wanted[2:] and b("GET", "k") == wanted
    send_in_parts(a, request("APPEND", "k", wanted))
    assert a.read() == 400002 and b("GET", "k") == wanted + wanted
    send_in_parts(a, request("SET", "k", wanted, "NX"))
    assert a.read() is None

    b.send(request("MONITOR"))
    assert b.read() == "OK"
    letters = b"m" * 150000
    send_in_parts(a, request("SET", "k", letters))
    assert a.read() == "OK"
    assert letters.decode() in str(b.read())


def test_slowlog(server):
    """The log of slow commands shows such a value shortened like any other."""
    c = server.raw()
    before = c("CONFIG", "GET", "slowlog-log-slower-than")[1]
    c("CONFIG", "SET", "slowlog-log-slower-than", 0)
    try:
        send_in_parts(c, request("SET", "k", b"s" * 100000))
        assert c.read() == "OK"
        shown = [entry[3] for entry in c("SLOWLOG", "GET", 10) if entry[3][0].lower() == b"set"][0]
        assert shown[2] == b"s" * 128 + b"... (99872 more bytes)"
    finally:
        c("CONFIG", "SET", "slowlog-log-slower-than", before)


def test_given_up(server):
    """A client that goes away in the middle leaves the old value."""
    c = server.raw()
    c("SET", "k", "old")
    with connect(server) as s:
        s.sendall(request("SET", "k", b"x" * 300000)[:150000])
        time.sleep(0.05)
    time.sleep(0.05)
    assert c("GET", "k") == b"old"


@pytest.mark.parametrize("durable", [False, True])
def test_replies(server, durable):
    """Large replies leave without a copy when they can; what a client sees is the same: in a pipeline whose reader is slow while others
    change the value, in a transaction, in parts, muted, and held for the log."""
    c, other, admin = server.raw(), server.raw(), server.client()
    if durable:
        admin.config_set("appendfsync", "always")
        admin.config_set("appendonly", "yes")
        while admin.info("persistence")["log_state"] != "on":
            time.sleep(0.02)
    first, second = value(3000000), value(3000001)
    c("SET", "k", first)
    c.send(request("GET", "k") * 5 + request("STRLEN", "k"))
    time.sleep(0.1)
    other("SET", "k", second)
    other("SETRANGE", "k", 5, "changed")
    second = second[:5] + b"changed" + second[12:]
    assert [c.read() for _ in range(6)] == [first] * 5 + [3000000]
    assert c("GET", "k") == second
    assert c("GETRANGE", "k", 1000, 1999999) == second[1000:2000000]
    c("MULTI")
    c("GET", "k")
    c("GETRANGE", "k", 1, -1)
    assert c("EXEC") == [second, second[1:]]
    c.send(request("CLIENT", "REPLY", "SKIP") + request("GET", "k") + request("PING"))
    assert c.read() == "PONG"
    assert c("EVAL", "return {redis.call('GET', KEYS[1])}", 1, "k") == [second]
    before = admin.info("stats")["total_net_output_bytes"]
    assert c("GETSET", "k", "short") == second and c("GET", "k") == b"short"
    assert admin.info("stats")["total_net_output_bytes"] - before >= len(second)
