# SPDX-License-Identifier: BSD-3-Clause
"""The protocol byte for byte as redis-server speaks it: requests in odd forms and pieces, and the
replies of the commands that concern connections and transactions."""
import re

import pytest

from exchange import connect, exchange, request
from harness import Server


@pytest.fixture(scope="module")
def pair():
    with Server("holdfast") as ours, Server("redis") as theirs:
        yield ours, theirs


RAW = [
    b"*-1\r\nPING\r\n", b"*0\r\nPING\r\n", b"\r\nPING\r\n", b"*abc\r\n", b"*99999999999\r\n",
    b"*2147483648\r\n", b"*1\r\n+x\r\n", b"*1\r\n\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$abc\r\n",
    b"*1\r\n$999999999999\r\n", b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", b"*1\r$4\r\nPING\r\n",
    b'"abc\r\n', b'"abc"d\r\n', b"'a\\'b' x\r\n", b"foo \"\\x41\\n\\q\" 'x y'\r\n",
    b"A" * 70000, b"*" + b"1" * 70000, b"*1\r\n$" + b"1" * 70000, b"*1\r\nA" + b"1" * 70000,
    b"PING\n", b"  PING  \r\n", b"\0PING\r\n", b"PI\0NG\r\nPING\r\n", b"*1\0\r\n$4\r\nPING\r\n",
    b"*1\r\n\x00\r\n", b"*01\r\n$4\r\nPING\r\n", b"*+1\r\n$4\r\nPING\r\n", b"* 1\r\n",
    b"*1\r\n$04\r\nPING\r\n", b"*1\r\n$ 4\r\n", b"*\r\n", b"*1\r\n$\r\n", b"*1\n$4\nPING\n\r\n",
    b"*3\r\n$3\r\nfoo\r\n$1\r\na\r\n$0\r\n\r\n", b"foo\x0bbar\r\n", b"\x0bfoo bar\x0c\r\n",
    b'"foo"\x0bbar\r\n', b'foo"bar"\r\n', b"foo'bar' \r\n", b'echo "\\xzz\\x4"\r\n',
    b'echo ""\r\n', b'"" x\r\n', b"*1\r\n$0\r\n\r\n", b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n$x\r\nPING\r\n",
    request("SET", "k", "v" * 40000) + request("STRLEN", "k") + b"*1\r\n$4\r\nPING\r\n",
]

REPLY_TYPES = ("string", "integer", "double", "bignum", "null", "array", "set", "map", "attrib", "push", "verbatim", "true",
               "FALSE", "nosuch")

COMMANDS = [
    ["foo", "foo a b", "foo " + "x" * 200 + " b", "get", "get a b", "client foo", "client",
     "client kill", "object foo bar", "config nosuch", "client id x", "ping", "ping a", "ping a b",
     "echo", "echo a", "GeT a", "CLIENT GetName"],
    ["multi", "set a b", "get a", "exec"],
    ["multi", "foo", "set a b", "exec"],
    ["multi", "multi", "exec"],
    ["exec", "discard", "multi", "discard", "exec"],
    ["multi", "watch a", "exec"],
    ["multi", "exec a", "get a", "exec"],
    ["multi", "get", "exec"],
    ["multi", "discard a", "exec"],
    ["watch a", "set a 1", "multi", "get a", "exec"],
    ["watch a", "set a 1", "unwatch", "multi", "get a", "exec"],
    ["watch", "unwatch x"],
    ["multi", "unwatch", "ping", "exec"],
    ["multi", "quit", "ping"],
    ["multi", "reset", "exec"],
    ["multi", "set a x", "incr a", "set a 5", "incr a", "exec"],
    ["multi", "select 1", "set a 1", "get a", "exec", "get a", "select 0"],
    ["multi", "hello 3", "get nosuch", "exec", "get nosuch"],
    ["select 0", "select 15", "select 16", "select -1", "select abc", "select 99999999999999",
     "select"],
    ["hello", "hello 2", "hello 4", "hello abc", "hello 3 setname", "hello 3 setname a",
     "client getname", "hello 3 foo", "hello 3 auth a b", "hello 3 auth default x setname q",
     "client getname", "hello 1", "hello 0", "hello -1"],
    ["auth a", "auth default b", "auth x y", "auth a b c", "auth"],
    ["reset"],
    ["quit", "ping"],
    ["quit a b c"],
    ["client setname a", "client getname", "client setname", "client setname \xe9",
     "client getname"],
    ["client kill 1.2.3.4:5", "client kill id abc", "client kill id 0", "client kill id 99999",
     "client kill type foo", "client kill type master", "client kill type pubsub",
     "client kill type replica", "client kill user foo", "client kill skipme maybe",
     "client kill foo bar", "client kill id", "client kill id 1 foo",
     "client kill addr 1:2 laddr 3:4", "client kill id -5"],
    ["client list type foo", "client list type pubsub", "client list id abc",
     "client list id 99999", "client list id", "client list foo", "client list type",
     "client list type normal x"],
    ["client no-evict on", "client no-evict off", "client no-evict foo", "client no-evict"],
    ["client pause abc", "client pause -1", "client pause 0", "client pause 0 foo",
     "client pause 1 write", "client unpause", "client pause 99999999999999999999",
     "client pause 0 write x", "client pause 1 all", "client unpause"],
    ["client reply off", "ping", "ping", "client reply on", "ping"],
    ["client reply skip", "ping", "ping"],
    ["client reply skip", "client reply skip", "ping", "ping"],
    ["client reply foo", "client reply"],
    ["client reply off", "client reply skip", "ping", "client reply on", "client reply skip",
     "client reply on", "ping"],
    ["client reply skip", "foo", "foo"],
    ["client reply off", "multi", "set a 1", "exec", "client reply on", "get a"],
    ["client info x", "client unpause x"],
    ["hello 3", "client reply foo", "get nosuch", "multi", "get nosuch", "exec", "watch q",
     "set q 1", "multi", "exec", "client list type pubsub", "reset", "get nosuch"],
    ["set a" + "b" * 300 + " c", "get a" + "b" * 300],
    ["debug sleep 0", "debug nosuch"],
    *([first, *(f"debug protocol {kind}" for kind in REPLY_TYPES), "debug protocol", "debug protocol a b"]
      for first in ("hello 2", "hello 3")),
    ["hello 3", "multi", *(f"debug protocol {kind}" for kind in REPLY_TYPES), "exec"],
    ["debug error FOO", "debug error \r\nFOO", "debug error", "debug log x", "debug log", "debug log x y"],
]


def same(pair, *pieces):
    ours, theirs = (re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:?", exchange(s, *pieces)) for s in pair)
    assert ours == theirs


@pytest.mark.parametrize("raw", RAW, ids=[repr(r[:30]) for r in RAW])
def test_raw_requests(pair, raw):
    """Well- and ill-formed requests, at once and in pieces: the same bytes come back."""
    same(pair, raw)
    if len(raw) < 60:
        same(pair, *(raw[i:i + 1] for i in range(len(raw))))
    else:
        same(pair, *(raw[i:i + 16001] for i in range(0, len(raw), 16001)))


@pytest.mark.parametrize("commands", COMMANDS, ids=[c[0][:30] for c in COMMANDS])
def test_connection_and_transaction_replies(pair, commands):
    """Pipelined in one piece."""
    same(pair, b"".join(request(*c.split(" ")) for c in commands))


def test_unauthenticated_clients():
    """Before AUTH: what may be called, and the tighter limits of the protocol; they are gone for the
    rest of a pipeline that begins with AUTH."""
    options = {"requirepass": "secret"}
    long = request("ECHO", "x" * 20000)
    many = request("MGET", *"abcdefghijkl")
    cases = [
        [request("GET", "a") + request("PING") + request("foo") + request("GET") + request("HELLO")],
        [request("AUTH", "wrong") + request("AUTH", "default", "wrong") + request("AUTH", "secret")
         + request("GET", "a") + request("RESET") + request("GET", "a")],
        [request("HELLO", 3, "AUTH", "default", "secret", "SETNAME", "n") + request("CLIENT", "GETNAME")],
        [request("MULTI") + request("QUIT")],
        [long], [many],
        [request("AUTH", "secret") + long], [request("AUTH", "secret") + many],
        [request("RESET") + request("PING")],
    ]
    with Server("holdfast", options, wait=False) as ours, Server("redis", options, wait=False) as theirs:
        for s in (ours, theirs):
            wait_listening(s)
        for case in cases:
            same((ours, theirs), *case)


def wait_listening(server):
    import time
    for _ in range(5000):
        try:
            connect(server).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(server.text())


def test_random_bytes_leave_others_alone(server, rng):
    """Garbage from many connections is answered or closed; others are served, and nothing is left."""
    steady = server.raw()
    alphabet = [b"*", b"$", b"\r\n", b"1", b"3", b"-1", b"2147483647", b"GET", b"SET", b"\0", b"\xff",
                b"'", b'"', b" ", b"x" * 1000, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$", b"99999999999"]
    for round_number in range(60):
        garbage = b"".join(rng.choice(alphabet) for _ in range(rng.randint(1, 60)))
        exchange(server, garbage, quiet=0.01)
        assert steady("SET", "k", round_number) == "OK"
    assert len(server.client().client_list()) <= 3


def test_announced_sizes_cost_nothing(server):
    """A length that is announced and never filled must not be paid for."""
    held = []
    before = server.client().info("memory")["used_memory_rss"]
    for _ in range(20):
        s = connect(server)
        s.sendall(b"*2147483647\r\n$536870912\r\nabc")
        held.append(s)
    after = server.client().info("memory")["used_memory_rss"]
    assert after - before < 64 << 20
    for s in held:
        s.close()
