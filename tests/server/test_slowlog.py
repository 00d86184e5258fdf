# SPDX-License-Identifier: BSD-3-Clause
"""SLOWLOG, COMMANDLOG and LATENCY, beside redis-server where it knows them."""
import time

import pytest

from harness import Error, Server


@pytest.fixture(scope="module")
def pair():
    options = {"enable-debug-command": "yes"}
    with Server("redis", options) as theirs, Server("holdfast", options) as ours:
        yield theirs, ours


# With a threshold of 0 every command is logged, trimmed as redis-server trims it; passwords are not.
def test_slowlog_entries(pair):
    seen = []
    for server in pair:
        r = server.raw()
        r("CONFIG", "SET", "slowlog-log-slower-than", "0")
        r("SLOWLOG", "RESET")
        r("CLIENT", "SETNAME", "me")
        for args in (["SET", "a", "x" * 300], ["MSET"] + [str(i) for i in range(100)], ["AUTH", "user", "secret"],
                     ["GET", "a", "b"], ["nosuch"], ["MULTI"], ["INCR", "n"], ["EXEC"], ["HGET", "a", "f"]):
            r(*args)
        r("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        entries = r("SLOWLOG", "GET", "-1")
        seen.append([(e[3], e[5]) for e in entries if e[3][0] != b"AUTH"])
        assert not any(b"secret" in argument for e in entries for argument in e[3])
        assert [e[0] for e in entries] == sorted((e[0] for e in entries), reverse=True)
        assert all(len(e) == 6 and e[1] > 1600000000 and e[2] >= 0 for e in entries)
        r.close()
    assert seen[0] == seen[1]


# The length, the limit on it, RESET, and wrong arguments.
def test_slowlog_limits(pair):
    def talk(server):
        r = server.raw()
        r("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "3")
        for i in range(10):
            r("ECHO", str(i))
        got = [r("SLOWLOG", "LEN"), len(r("SLOWLOG", "GET", "2")), len(r("SLOWLOG", "GET"))]
        r("CONFIG", "SET", "slowlog-log-slower-than", "-1", "slowlog-max-len", "128")
        got += [r("SLOWLOG", "RESET"), r("SLOWLOG", "LEN"), r("SLOWLOG", "GET", "-2"), r("SLOWLOG", "GET", "x"), r("SLOWLOG", "LEN", "x"),
                r("SLOWLOG", "nosuch")]
        r.close()
        return got
    theirs, ours = map(talk, pair)
    assert ours == theirs


# COMMANDLOG as Valkey documents it: by kind, with bytes as the value of large requests and replies.
def test_commandlog(pair):
    r = pair[1].raw()
    r("CONFIG", "SET", "commandlog-request-larger-than", "100000", "commandlog-reply-larger-than", "100000")
    for kind in ("slow", "large-request", "large-reply"):
        assert r("COMMANDLOG", "RESET", kind) == "OK"
    r("SET", "big", "x" * 200000)
    r("GET", "big")
    r("ECHO", "small")
    requests, replies = r("COMMANDLOG", "GET", "-1", "large-request"), r("COMMANDLOG", "GET", "-1", "large-reply")
    assert [e[3][0] for e in requests] == [b"SET"] and requests[0][2] >= 200000
    assert [e[3][0] for e in replies] == [b"GET"] and replies[0][2] >= 200000
    assert r("COMMANDLOG", "LEN", "large-reply") == 1 and "large-reply" in r("COMMANDLOG", "HELP")[2] + r("COMMANDLOG", "HELP")[3]
    assert "type should be one of" in r("COMMANDLOG", "LEN", "x")
    r("CONFIG", "SET", "commandlog-reply-larger-than", "10")
    r("ECHO", "twelve bytes")
    assert r("COMMANDLOG", "GET", "1", "large-reply")[0][3] == [b"ECHO", b"twelve bytes"]
    r("CONFIG", "SET", "commandlog-reply-larger-than", "1048576", "commandlog-request-larger-than", "1048576")
    r.close()


# HOTKEYS as Redis 8.6 documents it: which keys took most of the processor's time and of the network while it was on; sampled;
# commands of transactions and scripts are counted; it ends by itself; what was counted stays until RESET.
def test_hotkeys(pair):
    r = pair[1].raw()

    def fields():
        reply = r("HOTKEYS", "GET")
        assert len(reply) == 1
        return dict(zip(reply[0][::2], reply[0][1::2]))

    def keys(field):
        return dict(zip(fields()[field][::2], fields()[field][1::2]))

    assert r("HOTKEYS", "GET") is None and r("HOTKEYS", "RESET") == "OK"
    for wrong, message in ((("x",), "METRICS parameter is required"), (("METRICS", 0), "METRICS count"), (("METRICS", 3, "CPU", "NET"), "METRICS count"),
                           (("METRICS", 2, "CPU"), "does not match"), (("METRICS", 1, "CPU", "NET"), "syntax error"),
                           (("METRICS", 1, "GPU"), "no valid metrics"), (("METRICS", 2, "CPU", "CPU"), "METRICS CPU"),
                           (("METRICS", 1, "CPU", "COUNT", 0), "between 1 and 64"), (("METRICS", 1, "CPU", "COUNT", 65), "between 1 and 64"),
                           (("METRICS", 1, "CPU", "SAMPLE", 0), "must be positive"), (("METRICS", 1, "CPU", "DURATION", 0), "must be positive"),
                           (("METRICS", 1, "CPU", "DURATION"), "syntax error"), (("METRICS", 1, "CPU", "SLOTS", 1, 5), "non-cluster mode")):
        reply = r("HOTKEYS", "START", *wrong)
        assert isinstance(reply, Error) and message in reply, (wrong, reply)
    assert "no hotkey tracking" in r("HOTKEYS", "STOP")
    assert r("HOTKEYS", "START", "METRICS", 2, "GPU", "NET", "COUNT", 3) == "OK"
    assert "already in progress" in r("HOTKEYS", "START", "METRICS", 1, "CPU") and "stop tracking first" in r("HOTKEYS", "RESET")
    for i in range(5000):
        r("SET", f"cold{i}", "x" * 10)
        if i % 10 == 0:
            r("GET", "hot")
            r("MULTI")
            r("SET", "warm", "x" * 50)
            r("EXEC")
    r("SET", "hot", "x" * 1000)
    for _ in range(100):
        r("GET", "hot")
        r("EVAL", "return redis.call('GET', KEYS[1])", 1, "script")
    r("MGET", "one", "two")
    got = keys(b"by-net-bytes")
    assert list(got)[:2] == [b"hot", b"warm"] and len(got) == 3
    # Request and reply: each GET of the large value has some 1030 bytes.
    assert 100 * 1000 < got[b"hot"] < 130 * 1000 and 500 * 55 < got[b"warm"] < 500 * 120
    info = fields()
    assert info[b"tracking-active"] == 1 and info[b"sample-ratio"] == 1 and info[b"selected-slots"] == [[0, 16383]]
    assert info[b"net-bytes-all-commands-all-slots"] == info[b"total-net-bytes"] > got[b"hot"] + got[b"warm"] + 5000 * 40
    assert b"by-cpu-time-us" not in info and b"total-cpu-time-user-ms" not in info
    assert r("HOTKEYS", "STOP") == "OK" and fields()[b"tracking-active"] == 0
    r("GET", "hot")
    assert keys(b"by-net-bytes") == got
    # The processor's time; one in ten; a session of its own after a second.
    assert r("HOTKEYS", "START", "METRICS", 2, "CPU", "NET", "SAMPLE", 10, "DURATION", 1) == "OK"
    r("RPUSH", "list", *range(20000))
    for _ in range(200):
        r("LRANGE", "list", 0, 300)
        r("GET", "hot")
    end = time.monotonic() + 60
    while fields()[b"tracking-active"] == 1 and time.monotonic() < end:
        time.sleep(0.05)
    info = fields()
    assert info[b"tracking-active"] == 0 and info[b"sample-ratio"] == 10 and info[b"collection-duration-ms"] == 1000
    assert 0 < sum(info[b"by-cpu-time-us"][1::2]) < info[b"all-commands-all-slots-us"]
    assert set(keys(b"by-net-bytes")) <= {b"list", b"hot"}
    r3 = pair[1].raw()
    r3("HELLO", 3)
    kind, pairs = r3("HOTKEYS", "GET")[0]
    assert kind == "map" and dict(pairs[:2])[b"sample-ratio"] == 10
    assert r("HOTKEYS", "RESET") == "OK" and r("HOTKEYS", "GET") is None
    assert any("START" in line for line in r("HOTKEYS", "HELP"))
    r3.close()
    r("FLUSHALL")
    r.close()


# An event that took longer than the threshold is kept, shown and forgotten; the same errors.
def test_latency_events(pair):
    def talk(server):
        r = server.raw()
        got = [r("LATENCY", "LATEST"), r("LATENCY", "RESET"), r("LATENCY", "GRAPH", "command"), r("LATENCY", "HISTORY", "command")]
        r("CONFIG", "SET", "latency-monitor-threshold", "50")
        r("DEBUG", "SLEEP", "0.06")
        (name, at, last, worst), = r("LATENCY", "LATEST")
        assert at > 1600000000 and 60 <= last == worst < 60000
        (at, ms), = r("LATENCY", "HISTORY", "command")
        assert b"command" in r("LATENCY", "GRAPH", "command") and b"command" in r("LATENCY", "DOCTOR")
        got += [name, r("LATENCY", "RESET", "nosuch", "command"), r("LATENCY", "LATEST")]
        r("CONFIG", "SET", "latency-monitor-threshold", "0")
        r.close()
        return got
    theirs, ours = map(talk, pair)
    assert ours == theirs


# LATENCY HISTOGRAM: counts that grow to the number of calls, at powers of two.
def test_latency_histogram(pair):
    for server in pair:
        r = server.raw()
        r("CONFIG", "RESETSTAT")
        for i in range(100):
            r("SET", "k", "v")
        name, (_, calls, _, buckets) = r("LATENCY", "HISTOGRAM", "set", "nosuch", "client|list")
        assert name == b"set" and calls == 100
        bounds, counts = buckets[::2], buckets[1::2]
        assert counts[-1] == 100 and counts == sorted(counts)
        # redis-server's are powers of two of 1024 ns, which are shown rounded.
        assert bounds == sorted(set(bounds)) and (server is pair[0] or all(b & (b - 1) == 0 for b in bounds))
        assert b"set" in r("LATENCY", "HISTOGRAM")
        r.close()
