# SPDX-License-Identifier: BSD-3-Clause
"""MIGRATE: keys that go from one server to another, between Holdfast and redis-server."""
import contextlib
import socket
import threading
import time

import pytest

from harness import Server, wait_for

PAIRS = [("holdfast", "redis"), ("holdfast", "holdfast"), ("redis", "holdfast")]
HOST = "127.0.0.1"
CONNECTING = "IOERR error or timeout connecting to the client"
WRITING = "IOERR error or timeout writing to target instance"
READING = "IOERR error or timeout reading from target instance"
REFUSED = "ERR Target instance replied with error: "


@contextlib.contextmanager
def pair(source, target, target_options=None):
    with Server(source) as a, Server(target, target_options) as b:
        x, y = a.raw(), b.raw()
        yield x, y, b
        x.close()
        y.close()


def fill(raw):
    """Some keys of each type, small and large; returns their names."""
    for command in (
            ["SET", "int", "12345"], ["SET", "text", "x" * 30], ["SET", "big", "y" * 300000],
            ["SET", "", "of the empty name"], ["SET", b"\x00\r\n\xff", b"\x00\r\n\xff"],
            ["RPUSH", "list", *range(10)], ["RPUSH", "long list", *("e" * 20 + str(i) for i in range(3000))],
            ["SADD", "ints", *range(20)], ["SADD", "set", *"abc"], ["SADD", "big set", *(f"m{i}" for i in range(3000))],
            ["HSET", "hash", "f", "v", "g", "w"], ["HSET", "big hash", *(f"f{i}" for i in range(3000))],
            ["ZADD", "zset", "1.5", "a", "-inf", "b"],
            ["ZADD", "big zset", *(v for i in range(3000) for v in (i / 7, f"m{i}"))]):
        raw(*command)
        assert raw("EXISTS", command[1]) == 1
    return raw("KEYS", "*")


@pytest.mark.parametrize("source,target", PAIRS)
def test_values_of_all_types(source, target):
    """Every value arrives as it was, by the single form and by KEYS, and is gone here; the data set's
    digest there is what it was here."""
    with pair(source, target) as (x, y, b):
        keys = fill(x)
        digest = x("DEBUG", "DIGEST")
        single = [key for key in keys if key != b""][:6]
        for key in single:
            assert x("MIGRATE", HOST, b.port, key, 0, 60000) == "OK"
        rest = [key for key in keys if key not in single]
        assert x("MIGRATE", HOST, b.port, "", 0, 60000, "KEYS", *rest) == "OK"
        assert x("DBSIZE") == 0
        assert y("DEBUG", "DIGEST") == digest


def test_many_keys():
    """Far more requests and replies than the buffers between the two hold."""
    with pair("holdfast", "holdfast") as (x, y, b):
        count = 20000
        x("DEBUG", "POPULATE", count)
        digest = x("DEBUG", "DIGEST")
        assert x("MIGRATE", HOST, b.port, "", 0, 60000, "KEYS", *(f"key:{i}" for i in range(count))) == "OK"
        assert (x("DBSIZE"), y("DBSIZE")) == (0, count)
        assert y("DEBUG", "DIGEST") == digest


@pytest.mark.parametrize("source,target", PAIRS)
def test_options(source, target):
    """COPY leaves the key, REPLACE overwrites, and without it what is there is an error; the database
    may be another one; keys that are not there count for nothing."""
    with pair(source, target) as (x, y, b):
        x("SET", "k", "v")
        assert x("MIGRATE", HOST, b.port, "k", 0, 60000, "COPY") == "OK"
        assert (x("GET", "k"), y("GET", "k")) == (b"v", b"v")
        busy = REFUSED + "BUSYKEY Target key name already exists."
        assert x("MIGRATE", HOST, b.port, "k", 0, 60000) == busy
        assert x("GET", "k") == b"v"
        x("SET", "k", "w")
        assert x("MIGRATE", HOST, b.port, "k", 0, 60000, "COPY", "REPLACE") == "OK"
        assert y("GET", "k") == b"w"
        assert x("MIGRATE", HOST, b.port, "", 3, 60000, "keys", "no", "k", "nor") == "OK"
        assert x("EXISTS", "k") == 0
        assert x("MIGRATE", HOST, b.port, "k", 3, 60000) == "NOKEY"
        assert x("MIGRATE", HOST, b.port, "", 3, 60000, "KEYS") == "NOKEY"
        y("SELECT", 3)
        assert y("GET", "k") == b"w"


@pytest.mark.parametrize("source,target", PAIRS)
def test_only_acknowledged_keys_are_deleted(source, target):
    """Of several keys those that the target refused stay, with the first error, and the others go."""
    with pair(source, target) as (x, y, b):
        for key in "abcd":
            x("SET", key, "new")
        y("SET", "b", "old")
        y("SET", "c", "old")
        reply = x("MIGRATE", HOST, b.port, "", 0, 60000, "KEYS", *"abcd")
        assert reply == REFUSED + "BUSYKEY Target key name already exists."
        assert sorted(x("KEYS", "*")) == [b"b", b"c"]
        assert [y("GET", key) for key in "abcd"] == [b"new", b"old", b"old", b"new"]
        # The next one selects its database anew, and the connection is still good.
        assert x("MIGRATE", HOST, b.port, "b", 0, 60000, "REPLACE") == "OK"


@pytest.mark.parametrize("source,target", PAIRS)
def test_expiry(source, target):
    """The time that a key has left goes with it; one that has none left stays behind."""
    with pair(source, target) as (x, y, b):
        x("SET", "k", "v", "PX", 100000)
        x("SET", "forever", "v")
        x("SET", "gone", "v", "PX", 1)
        time.sleep(0.02)
        assert x("MIGRATE", HOST, b.port, "", 0, 60000, "KEYS", "k", "forever", "gone") == "OK"
        assert 40000 < y("PTTL", "k") <= 100000
        assert y("PTTL", "forever") == -1
        assert y("EXISTS", "gone") == 0


@pytest.mark.parametrize("source,target", PAIRS)
def test_authentication(source, target):
    """AUTH and AUTH2, and what the target says without them or with wrong ones."""
    with pair(source, target) as (x, y, b):
        y("CONFIG", "SET", "requirepass", "secret")
        x("SET", "k", "v")
        migrate = ("MIGRATE", HOST, b.port, "k", 0, 60000)
        assert x(*migrate) == REFUSED + "NOAUTH Authentication required."
        wrong = REFUSED + "WRONGPASS invalid username-password pair or user is disabled."
        assert x(*migrate, "AUTH", "wrong") == wrong
        assert x(*migrate, "AUTH2", "nobody", "secret") == wrong
        assert x("EXISTS", "k") == 1
        assert x(*migrate, "COPY", "AUTH", "secret") == "OK"
        assert x(*migrate, "REPLACE", "AUTH2", "default", "secret") == "OK"
        assert x("EXISTS", "k") == 0


def test_credentials_are_not_shared():
    """A connection that somebody logged in is not for those who do not know the password."""
    with pair("holdfast", "holdfast") as (x, y, b):
        y("CONFIG", "SET", "requirepass", "secret")
        x("SET", "k", "v")
        migrate = ("MIGRATE", HOST, b.port, "k", 0, 60000, "COPY", "REPLACE")
        assert x(*migrate, "AUTH", "secret") == "OK"
        assert x(*migrate) == REFUSED + "NOAUTH Authentication required."


@pytest.mark.parametrize("args", [
    [HOST, 1, "k", 0, 100, "FOO"], [HOST, 1, "k", 0, 100, "AUTH"], [HOST, 1, "k", 0, 100, "AUTH2", "u"],
    [HOST, 1, "k", 0, 100, "KEYS", "k"], [HOST, 1, "k", "x", "y"], [HOST, 1, "k", 0, "1.5"],
    [HOST, 1, "k", "x", 100], [HOST, 1, "k", 0, "9" * 19], [HOST, 1, "k", 0, "9" * 18], [HOST, 1, "k", 0],
    [HOST, 1, "k", 0, 100], [HOST, 0, "k", 0, -1], [HOST, "x", "k", 0, 100],
    ["no.such.host.invalid", 1, "k", 0, 100], ["", 1, "k", -1, 100], ["300.1.1.1", 1, "k", 0, 100],
    [HOST, 1, "nokey", 0, 100], [HOST, 1, "nokey", "x", 100], [HOST, 1, "", 0, 100],
    [HOST, 1, "", 0, 100, "KEYS", "KEYS", "k"]], ids=str)
def test_wrong_arguments(args, server, redis_server):
    """Errors of arguments and of targets that are not there are Redis's."""
    replies = []
    for s in (server, redis_server):
        raw = s.raw()
        raw("SET", "k", "v")
        replies.append(raw("MIGRATE", *args))
        assert raw("GET", "k") == b"v"
        raw.close()
    assert replies[0] == replies[1]


@pytest.mark.parametrize("args", [
    ["z", 0, 1, "KEYS", "a"], ["", 0, 1, "KEYS", "a", "b"], ["", 0, 1, "KEYS"], ["z", 0, 1, "KEYS"], ["", 0, 1], ["k", 0, 1, "COPY"],
    ["k", 0, 1, "AUTH", "KEYS"], ["", 0, 1, "AUTH", "KEYS", "KEYS", "a"],
    ["", 0, 1, "AUTH2", "KEYS", "KEYS", "KEYS", "a"], ["", 0, 1, "AUTH"], ["", 0, 1, "NO", "KEYS", "a"]], ids=str)
def test_keys_of_the_command(args, server, redis_server):
    """COMMAND GETKEYS and GETKEYSANDFLAGS find them as Redis does."""
    for command in ("GETKEYS", "GETKEYSANDFLAGS"):
        replies = []
        for s in (server, redis_server):
            raw = s.raw()
            replies.append(raw("COMMAND", command, "MIGRATE", HOST, 1, *args))
            raw.close()
        assert replies[0] == replies[1]


def test_target_errors_are_passed_on(server):
    """A database that is not there."""
    with Server("redis") as target:
        raw = server.raw()
        raw("SET", "k", "v")
        reply = raw("MIGRATE", HOST, target.port, "k", 99, 60000)
        assert reply == REFUSED + "ERR DB index is out of range"
        assert raw("GET", "k") == b"v"
        assert raw("MIGRATE", HOST, target.port, "k", 1, 60000) == "OK"
        assert target.client(db=1).get("k") == b"v"


class Script(threading.Thread):
    """A target that answers as told: for each connection a list of bytes that are sent one after the
    other, as soon as there is something to read; at the end it closes (or waits, on None)."""

    def __init__(self, *connections):
        super().__init__(daemon=True)
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.connections = connections
        self.accepted = 0
        self.held = []
        self.start()

    def run(self):
        for answers in self.connections:
            s, _ = self.listener.accept()
            self.accepted += 1
            for answer in answers:
                if answer is None:
                    self.held.append(s)
                    break
                s.recv(1 << 20)
                s.sendall(answer)
            else:
                s.close()

    def end(self):
        self.join(10)
        for s in [*self.held, self.listener]:
            s.close()


def test_target_that_does_not_answer(server):
    """The wait ends with the time-out, and the key stays."""
    target = Script([None])
    raw = server.raw()
    raw("SET", "k", "v")
    start = time.monotonic()
    assert raw("MIGRATE", HOST, target.port, "k", 0, 300) == READING
    assert 0.25 < time.monotonic() - start < 60
    assert raw("GET", "k") == b"v"
    target.end()


def test_target_that_does_not_read(server):
    """A value larger than the sockets' buffers: writing runs into the time-out."""
    target = Script([None])
    raw = server.raw()
    assert raw("SET", "k", b"\0" * 1 + bytes(range(256)) * 200000) == "OK"
    raw("CONFIG", "SET", "rdbcompression", "no")
    start = time.monotonic()
    assert raw("MIGRATE", HOST, target.port, "k", 0, 300) == WRITING
    assert 0.25 < time.monotonic() - start < 60
    assert raw("STRLEN", "k") == 51200001
    target.end()


def test_target_that_dies_half_way(server):
    """What was acknowledged before the connection broke is gone here, the others stay."""
    target = Script([b"+OK\r\n+OK\r\n"])
    raw = server.raw()
    for key in "abc":
        raw("SET", key, "v")
    # The SELECT and one key are answered.
    assert raw("MIGRATE", HOST, target.port, "", 0, 60000, "KEYS", *"abc") == READING
    assert sorted(raw("KEYS", "*")) == [b"b", b"c"]
    target.end()


@pytest.mark.parametrize("answer", [b":1\r\n", b"$2\r\nOK\r\n", b"\r\n", b"HTTP/1.1 400\r\n", b"+" + b"x" * 9000])
def test_target_that_is_no_server(server, answer):
    """Only OK is taken for it."""
    target = Script([b"+OK\r\n" + answer], [b"+OK\r\n" + answer])
    raw = server.raw()
    raw("SET", "k", "v")
    assert raw("MIGRATE", HOST, target.port, "k", 0, 300) == READING
    assert raw("GET", "k") == b"v"
    socket.create_connection((HOST, target.port)).close()


def cached(raw):
    text = raw("INFO", "stats").decode()
    return int(text.split("migrate_cached_sockets:")[1].split()[0])


def test_connection_is_kept(server):
    """The second MIGRATE to a target uses the first one's connection, and does not select again; ten
    seconds later it is closed."""
    target = Script([b"+OK\r\n+OK\r\n", b"+OK\r\n", None])
    raw = server.raw()
    raw("SET", "a", "v")
    raw("SET", "b", "v")
    assert raw("MIGRATE", HOST, target.port, "a", 0, 60000) == "OK"
    used = time.monotonic()
    assert raw("MIGRATE", HOST, target.port, "b", 0, 60000) == "OK"
    assert target.accepted == 1
    wait_for(lambda: cached(raw) == 0)
    assert time.monotonic() - used > 9
    target.end()


def test_closed_connection_is_made_anew(server):
    """A kept connection that the target has closed meanwhile is nothing to hear of."""
    target = Script([b"+OK\r\n+OK\r\n"], [b"+OK\r\n+OK\r\n"])
    raw = server.raw()
    for key in "ab":
        raw("SET", key, "v")
        assert raw("MIGRATE", HOST, target.port, key, 0, 60000) == "OK"
        time.sleep(0.1)
    assert target.accepted == 2
    assert raw("DBSIZE") == 0
    target.end()


def test_more_targets_than_connections_are_kept(server):
    """Only so many are kept."""
    with Server("holdfast") as target:
        raw = server.raw()
        raw("SET", "k", "v")
        target.client().config_set("requirepass", "p")
        most = 0
        for i in range(70):
            raw("MIGRATE", HOST, target.port, "k", 0, 60000, "COPY", "REPLACE", "AUTH", f"{i}")
            most = max(most, cached(raw))
        assert most == 64


def test_effects(server):
    """It counts as changes, breaks a WATCH, and works in a transaction."""
    with Server("holdfast") as target:
        raw, other = server.raw(), server.raw()
        raw("MSET", "a", 1, "b", 2, "c", 3)

        def changes():
            text = raw("INFO", "persistence").decode()
            return int(text.split("rdb_changes_since_last_save:")[1].split()[0])

        before = changes()
        other("WATCH", "a")
        assert raw("MIGRATE", HOST, target.port, "", 0, 60000, "KEYS", "a", "b", "no") == "OK"
        assert changes() == before + 2
        other("MULTI")
        other("PING")
        assert other("EXEC") == ("null array",)
        raw("MULTI")
        raw("MIGRATE", HOST, target.port, "c", 0, 60000)
        raw("GET", "c")
        assert raw("EXEC") == ["OK", None]
        assert target.client().get("c") == b"3"
        # COPY changes nothing.
        raw("SET", "d", 4)
        before = changes()
        assert raw("MIGRATE", HOST, target.port, "d", 0, 60000, "COPY") == "OK"
        assert changes() == before


def test_itself(server):
    """A server cannot answer itself while it waits: that ends with the time-out."""
    raw = server.raw()
    raw("SET", "k", "v")
    assert raw("MIGRATE", HOST, server.port, "k", 1, 200) == READING
    assert raw("GET", "k") == b"v"
    assert raw("PING") == "PONG"
