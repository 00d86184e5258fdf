# SPDX-License-Identifier: BSD-3-Clause
"""SLOWLOG, COMMANDLOG and LATENCY, beside redis-server where it knows them."""
import pytest

from harness import Server


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


# An event that took longer than the threshold is kept, shown and forgotten; the same errors.
def test_latency_events(pair):
    def talk(server):
        r = server.raw()
        got = [r("LATENCY", "LATEST"), r("LATENCY", "RESET"), r("LATENCY", "GRAPH", "command"), r("LATENCY", "HISTORY", "command")]
        r("CONFIG", "SET", "latency-monitor-threshold", "50")
        r("DEBUG", "SLEEP", "0.06")
        (name, at, last, worst), = r("LATENCY", "LATEST")
        assert at > 1600000000 and 60 <= last == worst < 5000
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
        assert all(b & (b - 1) == 0 for b in bounds) and bounds == sorted(set(bounds))
        assert b"set" in r("LATENCY", "HISTOGRAM")
        r.close()
