# SPDX-License-Identifier: BSD-3-Clause
"""Fields of hashes that expire, as the documentation of Redis 7.4 and 8.0 describes them: replies and
errors, events, what is hidden and removed, and that times survive everything that data survives."""
import json
import os
import random
import struct
import subprocess
import time

import pytest

from harness import BUILD, Error, Server, Simple, is_settled, wait_for
from test_chain import full, incremental
from rdb_bytes import File, length, listpack, string

SEED = int(os.environ.get("HF_SEED", time.time_ns() % 2**32))
OK = Simple("OK")
WRONGTYPE = Error("WRONGTYPE Operation against a key holding the wrong kind of value")
MANDATORY = Error("ERR Mandatory argument FIELDS is missing or not at the right position")
MATCH = Error("ERR The `numfields` parameter must match the number of arguments")
NEVER = 4102444800000  # 2100, in ms
SETTERS = ("HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT")


def later(ms=60000):
    return int(time.time() * 1000) + ms


def near(times, wanted, slack=30):
    """The seconds that are left, for a test that may have been kept waiting since they were set."""
    return len(times) == len(wanted) and all(w - slack <= t <= w if w >= 0 else t == w for t, w in zip(times, wanted))


def wait_gone(raw, *keys):
    wait_for(lambda: raw("EXISTS", *keys) == 0)


# Each field has a reply of its own: there is none, set, refused by the condition, removed at once.
def test_setting(raw):
    raw("HSET", "h", "a", 1, "b", 2, "c", 3)
    assert raw("HEXPIRE", "h", 100, "FIELDS", 2, "a", "none") == [1, -2]
    assert near(raw("HTTL", "h", "FIELDS", 3, "a", "b", "none"), [100, -1, -2])
    assert 70000 < raw("HPTTL", "h", "FIELDS", 1, "a")[0] <= 100000
    at = raw("HPEXPIRETIME", "h", "FIELDS", 1, "a")[0]
    assert abs(at - later(100000)) < 60000
    assert raw("HEXPIRETIME", "h", "FIELDS", 1, "a") == [(at + 999) // 1000]
    assert raw("HPEXPIRE", "h", 50000, "FIELDS", 1, "b") == [1] and near(raw("HTTL", "h", "FIELDS", 1, "b"), [50])
    assert raw("HEXPIREAT", "h", NEVER // 1000, "FIELDS", 1, "c") == [1]
    assert raw("HPEXPIREAT", "h", NEVER + 1, "FIELDS", 1, "b") == [1]
    assert raw("HPEXPIRETIME", "h", "FIELDS", 2, "b", "c") == [NEVER + 1, NEVER]
    assert raw("HPERSIST", "h", "FIELDS", 3, "a", "none", "c") == [1, -2, 1]
    assert raw("HPERSIST", "h", "FIELDS", 1, "a") == [-1]
    assert raw("HEXPIRE", "h", 0, "FIELDS", 2, "a", "a") == [2, -2] and raw("HEXISTS", "h", "a") == 0
    assert raw("HPEXPIREAT", "h", 1, "FIELDS", 2, "b", "c") == [2, 2] and raw("EXISTS", "h") == 0
    for name in SETTERS:
        assert raw(name, "gone", 100, "FIELDS", 2, "a", "b") == [-2, -2]
    for name in ("HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST"):
        assert raw(name, "gone", "FIELDS", 2, "a", "b") == [-2, -2]
    assert raw("EXISTS", "gone") == 0


# NX, XX, GT and LT: a field that does not expire counts as one that does at the end of time.
def test_conditions(raw):
    raw("HSET", "h", "f", 1, "g", 1)
    assert raw("HPEXPIREAT", "h", NEVER, "XX", "FIELDS", 1, "f") == [0]
    assert raw("HPEXPIREAT", "h", NEVER, "GT", "FIELDS", 1, "f") == [0]
    assert raw("HPEXPIREAT", "h", NEVER, "NX", "FIELDS", 1, "f") == [1]
    assert raw("HPEXPIREAT", "h", NEVER, "nx", "FIELDS", 2, "f", "g") == [0, 1]
    assert raw("HPEXPIREAT", "h", NEVER, "GT", "FIELDS", 1, "f") == [0]
    assert raw("HPEXPIREAT", "h", NEVER + 1, "GT", "FIELDS", 1, "f") == [1]
    assert raw("HPEXPIREAT", "h", NEVER + 1, "LT", "FIELDS", 1, "f") == [0]
    assert raw("HPEXPIREAT", "h", NEVER - 1, "LT", "FIELDS", 2, "f", "g") == [1, 1]
    assert raw("HPEXPIREAT", "h", NEVER, "XX", "FIELDS", 1, "f") == [1]
    raw("HPERSIST", "h", "FIELDS", 1, "f")
    assert raw("HPEXPIREAT", "h", NEVER, "LT", "FIELDS", 1, "f") == [1]
    assert raw("HEXPIRE", "h", 0, "NX", "FIELDS", 2, "f", "g") == [0, 0]
    assert raw("HEXPIRE", "h", 0, "XX", "FIELDS", 2, "f", "g") == [2, 2] and raw("EXISTS", "h") == 0


def test_errors(raw):
    raw("HSET", "h", "f", 1)
    raw("SET", "s", "x")
    for name in SETTERS:
        low = name.lower()
        arity = Error(f"ERR wrong number of arguments for '{low}' command")
        time_error = Error(f"ERR invalid expire time in '{low}' command")
        assert raw(name, "h", 10, "FIELDS", 1) == arity
        assert raw(name, "s", "x", "FIELDS", 1, "f") == WRONGTYPE
        assert raw(name, "h", "x", "FIELDS", 1, "f") == Error("ERR value is not an integer or out of range")
        assert raw(name, "h", -1, "FIELDS", 1, "f") == Error("ERR invalid expire time, must be >= 0")
        assert raw(name, "h", 1 << 62, "FIELDS", 1, "f") == time_error
        limit = (1 << 46) // (1000 if name in ("HEXPIRE", "HEXPIREAT") else 1)
        assert raw(name, "h", limit + 1, "FIELDS", 1, "f") == time_error
        assert raw(name, "h", 10, "WHAT", "FIELDS", 1, "f") == MANDATORY
        assert raw(name, "h", 10, "NX", "GT", "FIELDS", 1, "f") == MANDATORY
        assert raw(name, "h", 10, "NX", "FIELDS", 1) == MATCH
        for count in (0, -1, "x", 1 << 63):
            assert raw(name, "h", 10, "FIELDS", count, "f") == Error("ERR Parameter `numFields` should be greater than 0")
        for count in (1, 3, (1 << 63) - 1):
            assert raw(name, "h", 10, "FIELDS", count, "f", "g") == MATCH
    for name in ("HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST", "HGETDEL", "HGETEX"):
        assert raw(name, "h", "FIELDS", 1) == Error(f"ERR wrong number of arguments for '{name.lower()}' command")
        assert raw(name, "s", "FIELDS", 1, "f") == WRONGTYPE
        assert raw(name, "h", "FIELD", 1, "f") == MANDATORY
        for count in (0, -1, "x"):
            assert raw(name, "h", "FIELDS", count, "f") == Error("ERR Number of fields must be a positive integer")
        assert raw(name, "h", "FIELDS", 2, "f") == MATCH and raw(name, "h", "FIELDS", 1, "f", "g") == MATCH
    assert raw("HGETALL", "h") == [b"f", b"1"] and raw("HTTL", "h", "FIELDS", 1, "f") == [-1]


# HGETEX gives the values and sets, clears or leaves the times; HSETEX sets all fields or none.
def test_getting_and_setting(raw):
    raw("HSET", "h", "a", 1, "b", 2)
    assert raw("HGETEX", "h", "FIELDS", 3, "a", "none", "b") == [b"1", None, b"2"]
    assert raw("HTTL", "h", "FIELDS", 2, "a", "b") == [-1, -1]
    for option, value in (("EX", 100), ("PX", 100000), ("EXAT", later(100000) // 1000), ("PXAT", later(100000))):
        assert raw("HGETEX", "h", option, value, "FIELDS", 2, "a", "none") == [b"1", None]
        assert 70 <= raw("HTTL", "h", "FIELDS", 1, "a")[0] <= 101
        assert raw("HGETEX", "h", "PERSIST", "FIELDS", 1, "a") == [b"1"] and raw("HTTL", "h", "FIELDS", 1, "a") == [-1]
    assert raw("HGETEX", "h", "PXAT", 5, "FIELDS", 1, "a") == [b"1"] and raw("HGET", "h", "a") is None
    assert raw("HGETEX", "h", "EX", 0, "FIELDS", 1, "b") == [b"2"] and raw("EXISTS", "h") == 0
    assert raw("HGETEX", "h", "EX", 10, "FIELDS", 1, "b") == [None] and raw("EXISTS", "h") == 0
    assert raw("HGETEX", "h", "EX", -1, "FIELDS", 1, "b") == Error("ERR invalid expire time, must be >= 0")
    assert raw("HGETEX", "h", "EX", 1 << 60, "FIELDS", 1, "b") == Error("ERR invalid expire time in 'hgetex' command")
    assert raw("HGETEX", "h", "EX", 10, "PERSIST", "FIELDS", 1, "b") == MANDATORY

    assert raw("HSETEX", "h", "EX", 100, "FIELDS", 2, "a", 1, "b", 2) == 1
    assert near(raw("HTTL", "h", "FIELDS", 2, "a", "b"), [100, 100]) and raw("HGETALL", "h") in ([b"a", b"1", b"b", b"2"],
                                                                                         [b"b", b"2", b"a", b"1"])
    assert raw("HSETEX", "h", "KEEPTTL", "FIELDS", 2, "a", 3, "c", 4) == 1
    assert near(raw("HTTL", "h", "FIELDS", 2, "a", "c"), [100, -1]) and raw("HGET", "h", "a") == b"3"
    assert raw("HSETEX", "h", "FIELDS", 1, "a", 5) == 1 and near(raw("HTTL", "h", "FIELDS", 2, "a", "b"), [-1, 100])
    assert raw("HSETEX", "h", "FNX", "FIELDS", 2, "new", 1, "a", 9) == 0 and raw("HEXISTS", "h", "new") == 0
    assert raw("HSETEX", "h", "FXX", "EX", 9, "FIELDS", 2, "a", 9, "new", 1) == 0 and raw("HGET", "h", "a") == b"5"
    assert raw("HSETEX", "h", "FNX", "PX", 90000, "FIELDS", 1, "new", 1) == 1 and near(raw("HTTL", "h", "FIELDS", 1, "new"), [90])
    assert raw("HSETEX", "h", "PXAT", NEVER, "FXX", "FIELDS", 2, "a", 6, "new", 2) == 1
    assert raw("HPEXPIRETIME", "h", "FIELDS", 2, "a", "new") == [NEVER, NEVER]
    assert raw("HSETEX", "none", "FXX", "FIELDS", 1, "a", 1) == 0 and raw("EXISTS", "none") == 0
    # A time that is past: the fields are gone at once.
    assert raw("HSETEX", "h", "EXAT", 1, "FIELDS", 2, "a", 1, "x", 1) == 1 and raw("HMGET", "h", "a", "x") == [None, None]
    assert raw("HSETEX", "none", "PX", 0, "FIELDS", 1, "a", 1) == 1 and raw("EXISTS", "none") == 0
    # More than a listpack holds at once, and values beyond what it takes.
    many = [x for i in range(700) for x in (f"f{i}", i)]
    assert raw("HSETEX", "many", "PXAT", NEVER, "FIELDS", 700, *many) == 1 and raw("HLEN", "many") == 700
    assert raw("HSETEX", "long", "PXAT", NEVER, "FIELDS", 1, "f", "x" * 5000) == 1
    assert raw("HPEXPIRETIME", "many", "FIELDS", 1, "f699") == raw("HPEXPIRETIME", "long", "FIELDS", 1, "f") == [NEVER]
    assert raw("OBJECT", "ENCODING", "many") == raw("OBJECT", "ENCODING", "long") == b"hashtable"

    raw("SET", "s", 1)
    only = Error("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified")
    for words, error in ((("s", "FIELDS", 1, "a", 1), WRONGTYPE),
                         (("h", "EX", 1, "PX", 1, "FIELDS", 1, "a", 1), only),
                         (("h", "KEEPTTL", "EX", 1, "FIELDS", 1, "a", 1), only),
                         (("h", "FNX", "FXX", "FIELDS", 1, "a", 1), Error("ERR Only one of FXX or FNX arguments can be specified")),
                         (("h", "PERSIST", "FIELDS", 1, "a", 1), Error("ERR unknown argument: PERSIST")),
                         (("h", "FIELDS", 1, "a", 1, "b"), Error("ERR unknown argument: b")),
                         (("h", "FIELDS", 2, "a", 1, "b"), Error("ERR wrong number of arguments for 'hsetex' command")),
                         (("h", "FIELDS", 0, "a", 1), Error("ERR invalid number of fields")),
                         (("h", "FNX", "EX", 10, "KEEP"), Error("ERR unknown argument: KEEP")),
                         (("h", "FIELDS", 1, "a", 1, "EX"), Error("ERR missing expire time")),
                         (("h", "EX", -1, "FIELDS", 1, "a", 1), Error("ERR invalid expire time, must be >= 0")),
                         (("h", "EX", "x", "FIELDS", 1, "a", 1), Error("ERR value is not an integer or out of range"))):
        assert raw("HSETEX", *words) == error, words
    # Options may stand behind the fields, too.
    assert raw("HSETEX", "tail", "FIELDS", 1, "a", 1, "PXAT", NEVER, "FNX") == 1
    assert raw("HPEXPIRETIME", "tail", "FIELDS", 1, "a") == [NEVER]
    assert raw("HGETDEL", "tail", "FIELDS", 2, "a", "b") == [b"1", None] and raw("EXISTS", "tail") == 0


# What is written anew no longer expires; what is added to does as it did; other fields are left alone.
def test_writes(raw):
    raw("HSETEX", "h", "PXAT", NEVER, "FIELDS", 5, "set", 1, "incr", 1, "float", 1, "nx", 1, "other", 1)
    raw("HSET", "h", "set", 2)
    raw("HINCRBY", "h", "incr", 4)
    raw("HINCRBYFLOAT", "h", "float", "0.5")
    assert raw("HSETNX", "h", "nx", 2) == 0
    assert raw("HINCRBYFLOAT", "h", "new", "0.5") == b"0.5"
    raw("HDEL", "h", "new")
    assert raw("HMGET", "h", "set", "incr", "float", "nx") == [b"2", b"5", b"1.5", b"1"]
    assert raw("HPEXPIRETIME", "h", "FIELDS", 5, "set", "incr", "float", "nx", "other") == [-1] + 4 * [NEVER]
    assert raw("OBJECT", "ENCODING", "h") == b"listpackex"
    assert raw("HDEL", "h", "other", "nx") == 2 and raw("HSETNX", "h", "nx", 3) == 1
    assert raw("HTTL", "h", "FIELDS", 1, "nx") == [-1]


# Expired fields are not seen, though they may still be there, and go away by themselves; the hash goes with the
# last of them.
def test_expiry(holdfast, raw):
    raw("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    for name, more in (("small", 0), ("large", 900)):
        raw("HSET", name, "stay", 1, *[x for i in range(more) for x in (f"s{i}", i)])
        raw("HSETEX", name, "PX", 1, "FIELDS", 3, "a", 1, "b", 2, "c", 3)
    raw("HSETEX", "all", "PX", 1, "FIELDS", 2, "a", 5, "b", 2)
    raw("HSETEX", "weights", "PX", 1, "FIELDS", 1, "1", 9)
    raw("HSET", "weights", "2", 1)
    raw("RPUSH", "list", 1, 2)
    time.sleep(0.01)
    assert raw("HGETALL", "small") == [b"stay", b"1"] and raw("HKEYS", "small") == [b"stay"] and raw("HVALS", "small") == [b"1"]
    assert raw("HGET", "small", "a") is None and raw("HMGET", "small", "a", "stay") == [None, b"1"]
    assert raw("HEXISTS", "small", "a") == raw("HSTRLEN", "small", "a") == 0
    assert raw("HTTL", "small", "FIELDS", 2, "a", "stay") == [-2, -1]
    assert raw("HRANDFIELD", "small") == b"stay" and raw("HRANDFIELD", "small", 9) == [b"stay"]
    assert raw("HRANDFIELD", "small", -3) == [b"stay"] * 3 and raw("HRANDFIELD", "small", 2, "WITHVALUES") == [b"stay", b"1"]
    assert raw("HSCAN", "small", 0) == [b"0", [b"stay", b"1"]]
    assert len(raw("HKEYS", "large")) == 901 and len(raw("HRANDFIELD", "large", 2000)) == 901
    assert raw("HRANDFIELD", "all") is None and raw("HRANDFIELD", "all", 3) == raw("HRANDFIELD", "all", -3) == []
    assert raw("HGETALL", "all") == [] and raw("HSCAN", "all", 0) == [b"0", []]
    assert raw("SORT", "list", "BY", "nosort", "GET", "weights->*") == [None, None]
    assert raw("SORT", "list", "BY", "all->a", "GET", "all->a") == [None, None]
    # The length counts what has not gone yet, as the documentation has it.
    assert raw("HLEN", "small") == 4 and raw("HLEN", "all") == 2
    # Who writes a field finds it gone.
    assert raw("HSETNX", "small", "a", 7) == 1 and raw("HINCRBY", "small", "b", 7) == 7
    assert raw("HDEL", "small", "c", "a") == 1 and raw("HLEN", "small") == 2
    assert raw("HTTL", "small", "FIELDS", 2, "b", "stay") == [-1, -1]
    assert raw("HSET", "all", "a", 1, "b", 1) == 2 and raw("HTTL", "all", "FIELDS", 2, "a", "b") == [-1, -1]
    raw("HSETEX", "all", "PX", 1, "FIELDS", 2, "a", 1, "b", 2)
    time.sleep(0.01)
    assert raw("HGETDEL", "all", "FIELDS", 2, "a", "b") == [None, None] and raw("EXISTS", "all") == 0
    raw("HSETEX", "all", "PX", 1, "FIELDS", 1, "a", 1)
    time.sleep(0.01)
    assert raw("HSETEX", "all", "FXX", "FIELDS", 1, "a", 1) == 0 and raw("EXISTS", "all") == 0
    raw("HSETEX", "all", "PX", 1, "FIELDS", 1, "a", 1)
    before = holdfast.client().info("stats")["expired_subkeys"]
    raw("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    wait_gone(raw, "all")
    wait_for(lambda: raw("HLEN", "large") == 901)
    assert holdfast.client().info("stats")["expired_subkeys"] >= before + 4


def test_events_and_watch(holdfast, raw):
    raw("CONFIG", "SET", "notify-keyspace-events", "KEA")
    listener, other = holdfast.client().pubsub(), holdfast.raw()
    listener.psubscribe("__keyspace@0__:h")
    assert listener.get_message(timeout=5)["type"] == "psubscribe"

    def events(count):
        found = []
        while len(found) < count:
            message = listener.get_message(timeout=10)
            assert message, found
            found.append(message["data"].decode())
        return found
    raw("HSETEX", "h", "EX", 100, "FIELDS", 2, "a", 1, "b", 1)
    raw("HEXPIRE", "h", 90, "FIELDS", 2, "a", "none")
    raw("HEXPIRE", "h", 95, "LT", "FIELDS", 1, "a")  # refused: no event
    raw("HPERSIST", "h", "FIELDS", 1, "a")
    raw("HGETEX", "h", "EX", 100, "FIELDS", 1, "a")
    raw("HGETEX", "h", "PERSIST", "FIELDS", 1, "a")
    raw("HEXPIRE", "h", 0, "FIELDS", 1, "a")
    assert events(7) == ["hset", "hexpire", "hexpire", "hpersist", "hexpire", "hpersist", "hdel"]
    raw("HPEXPIRE", "h", 1, "FIELDS", 1, "b")
    assert events(3) == ["hexpire", "hexpired", "del"]
    # A field that expires is a change to those who watch the key.
    raw("DEBUG", "SET-ACTIVE-EXPIRE", 0)  # it is watched before the field goes, however long that takes
    raw("HSETEX", "w", "PX", 1, "FIELDS", 1, "a", 1)
    raw("HSET", "w", "b", 1)
    other("WATCH", "w")
    raw("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    wait_for(lambda: raw("HLEN", "w") == 1)
    other("MULTI")
    other("PING")
    assert other("EXEC") == ("null array",)
    raw("CONFIG", "SET", "notify-keyspace-events", "")
    listener.close()
    other.close()


FILL = ((("HSET", "plain", "a", 1),), (("HSETEX", "small", "PXAT", NEVER, "FIELDS", 2, "a", 1, "b", "x" * 60),),
        (("HSET", "small", "c", 3), ("PEXPIREAT", "small", NEVER + 5)),
        (("HSETEX", "large", "PXAT", NEVER + 1, "FIELDS", 900, *[x for i in range(900) for x in (f"f{i}", "v" * (i % 300))]),),
        tuple(("HPEXPIREAT", "large", NEVER + i, "FIELDS", 1, f"f{i}") for i in range(0, 900, 7)),
        (("HPERSIST", "large", "FIELDS", 2, "f1", "f2"),), (("HSETEX", "past", "PXAT", NEVER, "FIELDS", 1, "a", 1),),
        (("HPERSIST", "past", "FIELDS", 1, "a"),))


def fill(raw):
    for commands in FILL:
        raw.pipeline(commands)


def state(raw):
    """All that there is to know of the hashes."""
    found = {}
    for key in raw("KEYS", "*"):
        if raw("TYPE", key) != Simple("hash"):
            continue
        pairs = raw("HGETALL", key)
        fields = pairs[::2]
        times = raw("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
        found[key] = (raw("PEXPIRETIME", key), dict(zip(fields, zip(pairs[1::2], times))))
    return found


def assert_filled(raw, digest):
    assert raw("HPEXPIRETIME", "large", "FIELDS", 4, "f0", "f1", "f7", "f8") == [NEVER, -1, NEVER + 7, NEVER + 1]
    assert str(raw("DEBUG", "DIGEST")) == digest


# Times go through files, the log, deltas, replicas and payloads.
@pytest.mark.parametrize("how", ("save", "log", "rewritten", "commands"))
def test_restart(how):
    options = {"appendonly": "no"} if how == "save" else {"appendonly": "yes", "appendfsync": "always",
                                                            "aof-use-rdb-preamble": "no" if how == "commands" else "yes"}
    with Server(options=options) as s:
        raw = s.raw()
        fill(raw)
        digest, before = str(raw("DEBUG", "DIGEST")), state(raw)
        if how == "save":
            assert raw("SAVE") == OK
            assert (s.directory / "dump.rdb").read_bytes()[:9] == b"REDIS0012"
        elif how != "log":
            raw("BGREWRITEAOF")
            wait_for(lambda: not s.client().info("persistence")["aof_rewrite_in_progress"])
        s.kill()
        s.start()
        raw = s.raw()
        assert_filled(raw, digest)
        assert state(raw) == before
        assert s.client().info("keyspace")["db0"]["subexpiry"] == 2
        assert raw("OBJECT", "ENCODING", "small") == b"listpackex"


# Fields that have expired while the server was down are gone, and so are hashes that had no others.
def test_expired_while_down():
    with Server(options={"appendonly": "no"}) as s:
        raw = s.raw()
        raw("HSET", "h", "stay", 1)
        raw("HSETEX", "h", "PXAT", later(700), "FIELDS", 1, "go", 1)
        raw("HSETEX", "all", "PXAT", later(700), "FIELDS", 1, "go", 1)
        raw("SAVE")
        s.kill()
        time.sleep(0.8)
        s.start()
        raw = s.raw()
        assert raw("HGETALL", "h") == [b"stay", b"1"]
        wait_gone(raw, "all")
        wait_for(lambda: raw("HLEN", "h") == 1)


def test_versions(raw, holdfast):
    raw("HSET", "plain", "a", 1)
    assert raw("SAVE") == OK and (holdfast.directory / "dump.rdb").read_bytes()[:9] == b"REDIS0010"
    raw("HSETEX", "timed", "PXAT", NEVER, "FIELDS", 1, "a", 1)
    for version in (9, 10, 11):
        raw("CONFIG", "SET", "rdb-format-version", version)
        assert raw("SAVE") == Error(f"ERR rdb-format-version {version} cannot express 1 hash with fields that expire ('timed', needs 12)")
    raw("CONFIG", "SET", "rdb-format-version", 12)
    assert raw("SAVE") == OK and (holdfast.directory / "dump.rdb").read_bytes()[:9] == b"REDIS0012"
    raw("CONFIG", "SET", "rdb-format-version", "auto")
    raw("HPERSIST", "timed", "FIELDS", 1, "a")
    assert raw("SAVE") == OK and (holdfast.directory / "dump.rdb").read_bytes()[:9] == b"REDIS0010"
    raw("DEL", "timed")


def test_incremental():
    with Server(options={"appendonly": "no"}) as s:
        client, raw = s.client(), s.raw()
        raw("HSETEX", "h", "PXAT", NEVER, "FIELDS", 1, "a", 1)
        raw("HSET", "plain", "a", 1)
        full(client)
        fill(raw)
        raw("HPEXPIREAT", "h", NEVER + 3, "FIELDS", 1, "a")
        incremental(client)
        digest = str(raw("DEBUG", "DIGEST"))
        s.kill()
        s.start()
        raw = s.raw()
        assert raw("HPEXPIRETIME", "h", "FIELDS", 1, "a") == [NEVER + 3]
        assert_filled(raw, digest)


def test_payloads(raw):
    fill(raw)
    before = state(raw)
    for key, (due, fields) in before.items():
        payload = raw("DUMP", key)
        assert raw("RESTORE", b"copy of " + key, 0, payload) == OK
        assert state(raw)[b"copy of " + key] == (-1, fields)
        assert raw("COPY", key, b"copied " + key) == 1 and raw("RENAME", b"copied " + key, b"renamed " + key) == OK
        assert raw("MOVE", b"renamed " + key, 1) == 1
        raw("SELECT", 1)
        assert state(raw) == {b"renamed " + key: (due, fields)}
        raw("FLUSHDB")
        raw("SELECT", 0)
        # One with a changed byte is refused, or is a value.
        for at in range(0, len(payload) - 10, max(1, len(payload) // 40)):
            broken = bytearray(payload)
            broken[at] ^= 1 << at % 8
            raw("RESTORE", "broken", 0, bytes(broken), "REPLACE")
    assert raw("DEBUG", "RELOAD") == OK
    assert {k: v for k, v in state(raw).items() if k in before} == before


def test_replication():
    with Server(options={"repl-diskless-sync-delay": "0"}) as primary, Server() as replica:
        raw, there = primary.raw(), replica.raw()
        fill(raw)
        there("REPLICAOF", "127.0.0.1", primary.port)
        wait_for(lambda: replica.client().info("replication")["master_link_status"] == "up")
        raw("HSETEX", "live", "PX", 100, "FIELDS", 1, "a", 1)
        raw("HSET", "live", "b", 1)
        raw("HSETEX", "live", "PXAT", NEVER, "FIELDS", 1, "c", 1)
        wait_for(lambda: raw("HLEN", "live") == 2)

        def same():
            raw("WAIT", 1, 1000)
            return str(raw("DEBUG", "DIGEST")) == str(there("DEBUG", "DIGEST"))
        wait_for(same)
        assert there("HPEXPIRETIME", "live", "FIELDS", 2, "b", "c") == [-1, NEVER]
        # A replica hides what has expired, and removes it when it is told.
        raw("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        raw("HSETEX", "live", "PX", 1, "FIELDS", 1, "d", 1)
        raw("WAIT", 1, 1000)
        wait_for(lambda: there("HGET", "live", "d") is None and there("HLEN", "live") == 3)
        raw("DEBUG", "SET-ACTIVE-EXPIRE", 1)
        wait_for(lambda: there("HLEN", "live") == 2)
        wait_for(same)


def random_command(rng):
    key, field, other = f"k{rng.randrange(4)}", f"f{rng.randrange(30)}", f"f{rng.randrange(30)}"
    soon, option = rng.randint(0, 40), rng.choice(("NX", "XX", "GT", "LT"))
    return rng.choice((
        ("HSET", key, field, 1, other, 2), ("HSETNX", key, field, 3), ("HINCRBY", key, field, 1), ("HINCRBYFLOAT", key, field, "0.5"),
        ("HDEL", key, field, other), ("HPEXPIRE", key, soon, "FIELDS", 2, field, other), ("HPEXPIRE", key, soon, option, "FIELDS", 2, field, other),
        ("HSETEX", key, "PX", soon, "FIELDS", 2, field, 1, other, 2), ("HSETEX", key, "FNX", "PX", soon, "FIELDS", 1, field, 4),
        ("HSETEX", key, "FXX", "KEEPTTL", "FIELDS", 1, field, 5), ("HGETEX", key, "PX", soon, "FIELDS", 2, field, other),
        ("HGETEX", key, "PERSIST", "FIELDS", 1, field), ("HPERSIST", key, "FIELDS", 1, field), ("HGETDEL", key, "FIELDS", 2, field, other),
        ("HPEXPIREAT", key, NEVER, option, "FIELDS", 1, field), ("HPEXPIREAT", key, NEVER, "FIELDS", 2, field, other), ("COPY", key, f"k{rng.randrange(4)}", "REPLACE"),
        ("RENAME", key, f"k{rng.randrange(4)}"), ("HGETALL", key), ("PEXPIRE", key, 500), ("PERSIST", key)))


# Fields that expire while commands read and write them: the log and a replica have the same in the end.
def test_effects():
    print("HF_SEED", SEED)
    rng = random.Random(SEED)
    with Server(options={"appendonly": "yes", "appendfsync": "always", "repl-diskless-sync-delay": "0"}) as s, Server() as replica:
        raw, there = s.raw(), replica.raw()
        there("REPLICAOF", "127.0.0.1", s.port)
        wait_for(lambda: replica.client().info("replication")["master_link_status"] == "up")
        for rounds in range(400):
            commands = [random_command(rng) for _ in range(rng.randint(1, 8))]
            if rng.random() < 0.2:
                commands = [("MULTI",)] + commands + [("EXEC",)]
            for reply in raw.pipeline(commands):
                assert not isinstance(reply, Error) or "no such key" in reply or "not an integer" in reply or "same" in reply, reply
            if rng.random() < 0.3:
                time.sleep(0.002)

        wait_for(lambda: is_settled(raw))
        wait_for(lambda: str(raw("DEBUG", "DIGEST")) == str(there("DEBUG", "DIGEST")))
        before, digest = state(raw), str(raw("DEBUG", "DIGEST"))
        s.kill()
        s.start()
        raw = s.raw()
        assert state(raw) == before and str(raw("DEBUG", "DIGEST")) == digest


# Files of Redis 7.4 and of its release candidates, in all four forms.
def test_files_of_redis(tmp_path):
    f = File(12).select(0)
    stay = listpack([b"a", b"1", 0])
    f.key(22, b"early", length(2) + length(0) + string(b"a") + string(b"1") + length(NEVER) + string(b"b") + string(b"2"))
    f.key(23, b"early small", string(listpack([b"b", b"2", NEVER, b"a", b"1", 0])))
    f.key(24, b"late", struct.pack("<q", NEVER) + length(3) + length(0) + string(b"a") + string(b"1") + length(1) + string(b"b") +
          string(b"2") + length(12) + string(b"c") + string(b"3"))
    f.key(25, b"late small", struct.pack("<q", NEVER) + string(listpack([b"b", b"2", NEVER, b"c", b"3", NEVER + 11, b"a", b"1", 0])))
    f.key(25, b"gone", struct.pack("<q", 5) + string(listpack([b"b", b"2", 5])))
    f.key(25, b"none", struct.pack("<q", 0) + string(stay))
    (tmp_path / "dump.rdb").write_bytes(f.end())
    with Server("holdfast", directory=tmp_path) as s:
        raw = s.raw()
        assert raw("HPEXPIRETIME", "early", "FIELDS", 2, "a", "b") == raw("HPEXPIRETIME", "early small", "FIELDS", 2, "a", "b") == [-1, NEVER]
        for key in ("late", "late small"):
            assert raw("HPEXPIRETIME", key, "FIELDS", 3, "a", "b", "c") == [-1, NEVER, NEVER + 11]
            assert raw("HMGET", key, "a", "b", "c") == [b"1", b"2", b"3"]
        assert raw("HGETALL", "none") == [b"a", b"1"] and raw("HTTL", "none", "FIELDS", 1, "a") == [-1]
        wait_gone(raw, "gone")
    for kind, bad in ((23, string(listpack([b"a", b"1"]))), (25, struct.pack("<q", 1) + string(listpack([b"a", b"1", b"x"]))),
                      (25, struct.pack("<q", 1) + string(listpack([b"a", b"1", 0, b"a", b"2", 0]))),
                      (25, struct.pack("<q", 1) + string(listpack([b"a", b"1", -4]))),
                      (24, struct.pack("<q", -1) + length(1) + length(2) + string(b"a") + string(b"1")),
                      (24, struct.pack("<q", 1) + length(2) + (length(2) + string(b"a") + string(b"1")) * 2)):
        (tmp_path / "dump.rdb").write_bytes(File(12).select(0).key(kind, b"k", bad).end())
        run = subprocess.run([BUILD / "holdfast-server", "--port", "0", "--unixsocket", tmp_path / "s", "--dir", tmp_path,
                              "--appendonly", "no", "--save", ""], capture_output=True, timeout=60, text=True, errors="replace")
        assert run.returncode > 0 and "offset" in run.stdout + run.stderr, (kind, bad, run.stdout)


# The tool shows the times, tells files apart by them, and makes commands of them.
def test_tool(tmp_path):
    tool = BUILD / "holdfast"
    with Server(options={"appendonly": "no"}) as s:
        raw = s.raw()
        raw("HSETEX", "h", "PXAT", NEVER, "FIELDS", 1, "a", 1)
        raw("HSET", "h", "b", 2)
        digest = str(raw("DEBUG", "DIGEST"))
        raw("SAVE")
        old, new = tmp_path / "old.rdb", tmp_path / "new.rdb"
        old.write_bytes((s.directory / "dump.rdb").read_bytes())
        raw("HPEXPIREAT", "h", NEVER + 1, "FIELDS", 1, "a")
        raw("SAVE")
        new.write_bytes((s.directory / "dump.rdb").read_bytes())
        line = json.loads(subprocess.run([tool, "export", old, "--format", "jsonl"], capture_output=True, timeout=60, check=True).stdout)
        assert sorted(line["value"]) == [["a", "1", NEVER], ["b", "2"]] and line["encoding"] == "listpackex"
        csv = subprocess.run([tool, "export", old, "--format", "csv"], capture_output=True, timeout=60, check=True).stdout.decode()
        assert f"0,h,hash,,a,1,utf-8,{NEVER}\r\n" in csv and "0,h,hash,,b,2,utf-8,\r\n" in csv
        commands = subprocess.run([tool, "export", old, "--format", "resp"], capture_output=True, timeout=60, check=True).stdout
        raw("FLUSHALL")
        done = subprocess.run(["redis-cli", "-s", s.socket_path, "--pipe"], input=commands, capture_output=True, timeout=60)
        assert b"errors: 0" in done.stdout and str(raw("DEBUG", "DIGEST")) == digest
        assert subprocess.run([tool, "check", old], capture_output=True, timeout=60).returncode == 0
        same = subprocess.run([tool, "diff", old, old], capture_output=True, timeout=60)
        different = subprocess.run([tool, "diff", old, new], capture_output=True, timeout=60)
        assert b"h" not in same.stdout.split() and different.stdout != same.stdout
        report = subprocess.run([tool, "report", old], capture_output=True, timeout=60, check=True).stdout
        assert b"listpackex" in report
