# SPDX-License-Identifier: BSD-3-Clause
"""Streams: waiting readers, ids by the clock, keyspace events, damaged payloads. The same steps are run on
redis-server, which must answer the same."""
import random
import time

import pytest

from harness import Error, Server, Simple, emptied


@pytest.fixture(scope="module", params=["holdfast", "redis"])
def server(request):
    with Server(request.param) as server:
        yield server


@pytest.fixture
def raw(server):
    yield from emptied(server)


def waiting(server, raw, *request):
    """A connection that has sent the request, and waits."""
    other = server.raw()
    before = int(raw("INFO", "clients").decode().split("blocked_clients:")[1].split()[0])
    other.send(other.encode(request))
    deadline = time.monotonic() + 30
    while int(raw("INFO", "clients").decode().split("blocked_clients:")[1].split()[0]) == before:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return other


# A reader gets what comes after it began to wait, from the stream that has it first.
def test_read_waits(server, raw):
    raw("XADD", "a", "1-1", "f", "v")
    reader = waiting(server, raw, "XREAD", "BLOCK", 0, "STREAMS", "a", "b", "$", "0")
    raw("XSETID", "a", "1-5")
    raw("XADD", "a", "2-1", "f", "w")
    assert reader.read() == [[b"a", [[b"2-1", [b"f", b"w"]]]]]
    reader = waiting(server, raw, "XREAD", "BLOCK", 0, "STREAMS", "a", "b", "2-1", "0")
    raw("XADD", "b", "1-1", "f", "w")
    assert reader.read() == [[b"b", [[b"1-1", [b"f", b"w"]]]]]
    assert raw("XREAD", "BLOCK", 5, "STREAMS", "b", "$") == ("null array",)
    reader.close()


# Each of two consumers that wait gets an entry; what is delivered is pending.
def test_consumers_wait(server, raw):
    raw("XGROUP", "CREATE", "x", "g", "$", "MKSTREAM")
    first = waiting(server, raw, "XREADGROUP", "GROUP", "g", "one", "BLOCK", 0, "STREAMS", "x", ">")
    second = waiting(server, raw, "XREADGROUP", "GROUP", "g", "two", "BLOCK", 0, "STREAMS", "x", ">")
    raw("XADD", "x", "1-1", "f", "v")
    assert first.read() == [[b"x", [[b"1-1", [b"f", b"v"]]]]]
    raw("XADD", "x", "1-2", "f", "v")
    assert second.read() == [[b"x", [[b"1-2", [b"f", b"v"]]]]]
    assert raw("XPENDING", "x", "g") == [2, b"1-1", b"1-2", [[b"one", b"1"], [b"two", b"1"]]]
    first.close()
    second.close()


# A group or stream that goes away while somebody waits for it ends the wait with an error.
@pytest.mark.parametrize("request_, code", [(["XGROUP", "DESTROY", "x", "g"], "NOGROUP"), (["DEL", "x"], "UNBLOCKED"),
                                            (["FLUSHALL"], "UNBLOCKED")], ids=["destroy", "del", "flushall"])
def test_what_is_waited_for_goes(server, raw, request_, code):
    raw("XGROUP", "CREATE", "x", "g", "$", "MKSTREAM")
    reader = waiting(server, raw, "XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "x", ">")
    raw(*request_)
    reply = reader.read()
    assert isinstance(reply, Error) and reply.startswith(code), reply
    reader.close()


# In a transaction nobody waits.
def test_no_waiting_in_a_transaction(raw):
    raw("MULTI")
    raw("XREAD", "BLOCK", 0, "STREAMS", "x", "$")
    assert raw("EXEC") == [("null array",)]


# Ids by the clock are of now and ascend; behind one of the future they count on.
def test_ids_by_the_clock(raw):
    before = int(time.time() * 1000) - 1000
    ids = [tuple(map(int, raw("XADD", "x", "*", "f", "v").split(b"-"))) for _ in range(100)]
    assert ids == sorted(set(ids)) and before <= ids[0][0] <= before + 60000
    raw("XADD", "x", "9999999999999-7", "f", "v")
    assert raw("XADD", "x", "*", "f", "v") == b"9999999999999-8"


# The events that redis-server publishes.
def test_events(server, raw):
    raw("CONFIG", "SET", "notify-keyspace-events", "KEA")
    listener = server.raw()
    listener("PSUBSCRIBE", "__keyevent@0__:*")
    for line in ("XADD x 1-1 f v", "XADD x MAXLEN = 1 1-2 f v", "XGROUP CREATE x g 0", "XGROUP CREATECONSUMER x g c",
                 "XREADGROUP GROUP g d STREAMS x >", "XCLAIM x g e 0 1-2", "XACK x g 1-2", "XGROUP SETID x g 0", "XGROUP DELCONSUMER x g c",
                 "XGROUP DESTROY x g", "XDEL x 1-2", "XSETID x 5-5", "XADD x 6-6 f v", "XTRIM x MAXLEN 0", "DEL x", "SET end 1"):
        assert not isinstance(raw(*line.split()), Error), line
    events = []
    while not events or events[-1] != b"set":
        events.append(listener.read()[2].split(b":")[1])
    raw("CONFIG", "SET", "notify-keyspace-events", "")
    listener.close()
    assert b" ".join(events) == (
        b"xadd xadd xtrim xgroup-create xgroup-createconsumer xgroup-createconsumer xgroup-createconsumer xgroup-setid "
        b"xgroup-delconsumer xgroup-destroy xdel xsetid xadd xtrim del set")


def crc64(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


# Payloads changed at random are refused, or are streams that every command can work on.
def test_damaged_payloads(seed):
    with Server("holdfast") as server:
        damage(server.raw(), random.Random(seed))


def damage(raw, rng):
    for i in range(30):
        raw("XADD", "x", f"{i + 1}-1", "f", i, *(("g", "v") if i % 3 else ()))
    raw("XGROUP", "CREATE", "x", "g", 0)
    raw("XREADGROUP", "GROUP", "g", "c", "COUNT", 9, "STREAMS", "x", ">")
    raw("XDEL", "x", "5-1")
    payload = raw("DUMP", "x")[:-8]
    accepted = 0
    for _ in range(600):
        body = bytearray(payload)
        for _ in range(rng.choice((1, 1, 2, 5))):
            body[rng.randrange(1, len(body) - 2)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        reply = raw("RESTORE", "y", 0, bytes(body) + crc64(body).to_bytes(8, "little"), "REPLACE")
        if reply == Simple("OK"):
            accepted += 1
            for line in ("XINFO STREAM y FULL COUNT 0", "XREVRANGE y + -", "XREADGROUP GROUP g d STREAMS y >", "XAUTOCLAIM y g e 0 0",
                         "XDEL y 3-1 9-1", "XTRIM y MAXLEN 5", "XADD y * f v", "DUMP y", "COPY y z REPLACE"):
                raw(*line.split())
    assert raw("PING") == "PONG" and accepted > 0
