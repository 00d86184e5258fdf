# SPDX-License-Identifier: BSD-3-Clause
"""Publish and subscribe, keyspace events and MONITOR, side by side with redis-server."""
import re
import time

import pytest
import redis

from harness import Raw, Server, wait_for

KINDS = ("redis", "holdfast")


@pytest.fixture(scope="module")
def pair():
    with Server("redis") as theirs, Server("holdfast") as ours:
        yield theirs, ours


def both(pair, talk):
    """What `talk(server)` gives on both servers must be equal."""
    theirs, ours = (talk(server) for server in pair)
    assert ours == theirs
    return ours


def read_n(client, count):
    return [client.read() for _ in range(count)]


# Subscribing, messages by channel and pattern, in both protocols, and the counts in the answers.
@pytest.mark.parametrize("protocol", ("2", "3"))
def test_messages(pair, protocol):
    def talk(server):
        a, b = server.raw(), server.raw()
        a("HELLO", protocol)
        got = []
        for args, answers in ((["SUBSCRIBE", "one", "two", "one"], 3), (["PSUBSCRIBE", "t*", "[o]ne"], 2),
                              (["SSUBSCRIBE", "one"], 1)):
            a.send(Raw.encode(args))
            got += read_n(a, answers)
        got.append(b("PUBLISH", "one", "hello"))
        got.append(b("PUBLISH", "two", "\x00\r\n"))
        got.append(b("PUBLISH", "nobody", "x"))
        got.append(b("SPUBLISH", "one", "shard"))
        got += sorted(map(repr, read_n(a, 5)))
        got += [b("PUBSUB", "NUMSUB", "one", "two", "x"), b("PUBSUB", "NUMPAT"), sorted(b("PUBSUB", "CHANNELS")),
                b("PUBSUB", "CHANNELS", "o*"), b("PUBSUB", "SHARDCHANNELS"), b("PUBSUB", "SHARDNUMSUB", "one", "q"),
                b("PUBSUB", "NUMSUB")]
        for args, answers in ((["UNSUBSCRIBE", "one", "nosuch"], 2), (["PUNSUBSCRIBE"], 2), (["UNSUBSCRIBE"], 1),
                              (["PUNSUBSCRIBE"], 1), (["SUNSUBSCRIBE"], 1)):
            a.send(Raw.encode(args))
            got += sorted(map(repr, read_n(a, answers)))
        got.append(a("GET", "x"))
        got.append(b("PUBSUB", "CHANNELS"))
        a.close(), b.close()
        return got
    both(pair, talk)


# In RESP2 a subscriber may do little else; RESET and UNSUBSCRIBE end that. In RESP3 it may do all.
@pytest.mark.parametrize("protocol", ("2", "3"))
def test_what_a_subscriber_may_do(pair, protocol):
    def talk(server):
        a = server.raw()
        a("HELLO", protocol)
        got = [a("SUBSCRIBE", "c")]
        for args in (["GET", "k"], ["PING"], ["PING", "hi"], ["CLIENT", "ID"], ["MULTI"], ["PUBSUB", "NUMPAT"], ["NOSUCH"],
                     ["SUBSCRIBE"], ["PUBSUB", "CHANNELS", "a", "b"], ["PUBSUB", "x"], ["DISCARD"]):
            reply = a(*args)
            got.append("number" if args == ["CLIENT", "ID"] and isinstance(reply, int) else reply)
        got.append(a("RESET"))
        got.append(a("GET", "k"))
        a.close()
        return got
    both(pair, talk)


# A client that goes away, or is killed, takes its subscriptions with it; the class is "pubsub".
def test_clients_that_go(pair):
    def talk(server):
        b = server.raw()
        stay = []
        for i in range(50):
            a = server.raw()
            stay.append(a)
            a.send(Raw.encode(["SUBSCRIBE"] + [f"c{j}" for j in range(i + 1)]))
            read_n(a, i + 1)
            if i % 2:
                a.close()
        deadline = time.monotonic() + 60
        while b("PUBSUB", "NUMSUB", "c0")[1] != 25 and time.monotonic() < deadline:
            time.sleep(0.01)
        got = [b("PUBSUB", "NUMSUB", "c0", "c30", "c49"), b("CLIENT", "KILL", "TYPE", "pubsub")]
        while b("PUBSUB", "CHANNELS") and time.monotonic() < deadline:
            time.sleep(0.01)
        got.append(b("PUBSUB", "CHANNELS"))
        b.close()
        return got
    both(pair, talk)


# A message to the client that publishes it stands behind the command's reply (as Redis 7.2 does it).
def test_publish_to_itself(pair):
    with Server("holdfast") as server:
        a = server.raw()
        a("HELLO", "3")
        a("SUBSCRIBE", "c")
        a.send(Raw.encode(["PUBLISH", "c", "m"]))
        assert read_n(a, 2) == [1, ("push", [b"message", b"c", b"m"])]
        for args in (["MULTI"], ["PUBLISH", "c", "m"], ["ECHO", "x"], ["EXEC"]):
            a.send(Raw.encode(args))
        assert read_n(a, 4) == ["OK", "QUEUED", "QUEUED", [1, b"x"]]
        assert a.read() == ("push", [b"message", b"c", b"m"])
        a.close()


EVENTS = [["SET", "k", "1"], ["GET", "nosuch"], ["INCR", "k"], ["APPEND", "k", "x"], ["EXPIRE", "k", "100"], ["PERSIST", "k"],
          ["RENAME", "k", "k2"], ["DEL", "k2"], ["RPUSH", "l", "a", "b", "c"], ["LPOP", "l"], ["LINSERT", "l", "BEFORE", "b", "q"],
          ["LTRIM", "l", "5", "6"], ["SADD", "s", "a", "b"], ["SREM", "s", "a", "b"], ["HSET", "h", "f", "v"],
          ["HINCRBY", "h", "n", "2"], ["HDEL", "h", "f", "n"], ["ZADD", "z", "1", "a"], ["ZINCRBY", "z", "2", "a"],
          ["ZREM", "z", "a"], ["SET", "e", "1", "PX", "1"], ["MSET", "m1", "1", "m2", "2"], ["COPY", "m1", "m3"],
          ["MOVE", "m3", "5"], ["GETDEL", "m1"], ["SETRANGE", "m2", "3", "x"], ["GETEX", "m2", "EX", "100"],
          ["SUNIONSTORE", "d", "nosuch"], ["SADD", "s2", "a"], ["SUNIONSTORE", "d", "s2"], ["SPOP", "s2"], ["SORT", "d", "ALPHA", "STORE", "d2"],
          ["ZADD", "z", "1", "a", "2", "b"], ["ZPOPMIN", "z"], ["ZRANGESTORE", "z2", "z", "0", "-1"], ["LMOVE", "l", "l2", "LEFT", "LEFT"],
          ["RPUSH", "l", "a"], ["LMOVE", "l", "l2", "LEFT", "LEFT"], ["RESTORE", "r", "0", "x"], ["SETEX", "m2", "100", "v"], ["FLUSHALL"]]


# Every keyspace event that redis-server publishes for these commands, in its order.
@pytest.mark.parametrize("flags", ("KEA", "Kg$lshzx", "KEAmn", "Ex"))
def test_keyspace_events(pair, flags):
    def talk(server):
        a, b = server.raw(), server.raw()
        b("FLUSHALL")
        b("CONFIG", "SET", "notify-keyspace-events", flags)
        got = [b("CONFIG", "GET", "notify-keyspace-events")]
        a("PSUBSCRIBE", "__key*__:*")
        def expired():
            return int(b("INFO", "stats").split(b"expired_keys:")[1].split(b"\r\n")[0])
        for command in EVENTS:
            before = expired()
            b(*command)
            if command[0] == "SET" and "PX" in command:
                wait_for(lambda: expired() > before)  # both servers find out by themselves
        b("PUBLISH", "__key__:end", "")
        while True:
            message = a.read()
            if message[2] == b"__key__:end":
                break
            got.append(message[2:])
        b("CONFIG", "SET", "notify-keyspace-events", "")
        a.close(), b.close()
        return got
    both(pair, talk)


# MONITOR shows what is executed, with its database and quoting, and no password.
def test_monitor(pair):
    def talk(server):
        a, b = server.raw(), server.raw()
        assert a("MONITOR") == "OK"
        for args in (["SET", "k", 'a\x01"\n\\\xe9\t'], ["MULTI"], ["INCR", "n"], ["EXEC"], ["AUTH", "x", "secret"],
                     ["HELLO", "2", "AUTH", "default", "secret"], ["CONFIG", "GET", "port"], ["SELECT", "3"], ["GET", "k"],
                     ["nosuch"], ["GET"],
                     ["EVAL", "redis.call('set', KEYS[1], 1) redis.call('select', 5) redis.pcall('get') return redis.call('incr', 'm')", "1", "l"],
                     ["FUNCTION", "LOAD", "#!lua name=a\nredis.register_function('f', function(k, a) return redis.call('get', k[1]) end)"],
                     ["FCALL", "f", "1", "k"], ["ECHO", "end"]):
            b(*args)
        lines = []
        while not lines or '"end"' not in lines[-1]:
            lines.append(a.read())
        got = [re.sub(r"^[\d.]+ \[(\d+) (lua|)[^\]]*\]", r"[\1 \2]", line) for line in lines]
        a.close(), b.close()
        return got
    got = both(pair, talk)
    assert not any("secret" in line for line in got)
    assert sum(" lua] " in line for line in got) == 4


# redis-py's own pub/sub works, with its thread.
def test_redis_py(pair):
    for server in pair:
        r = redis.Redis(port=server.port, decode_responses=True)
        p = r.pubsub()
        p.subscribe("a")
        p.psubscribe("b*")
        seen = []
        for _ in range(2):
            p.get_message(timeout=60)
        r.publish("a", "1")
        r.publish("b2", "2")
        deadline = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < deadline:
            message = p.get_message(ignore_subscribe_messages=True, timeout=1)
            if message:
                seen.append((message["type"], message["channel"], message["data"]))
        assert seen == [("message", "a", "1"), ("pmessage", "b2", "2")]
        p.close()
        r.close()
