# SPDX-License-Identifier: BSD-3-Clause
"""Replication between Holdfast and redis-server 7.0 in both roles, under random writes of all types,
with the link cut at random."""
import os
import random
import time

import pytest

from net import Cable, Writer, assert_same, follow, holdfast, info, redis_server, wait_for, wait_up

SECONDS = float(os.environ.get("HF_REPLICATION_SECONDS", 2))
SEED = int(os.environ.get("HF_SEED", time.time_ns() % 1_000_000))
KINDS = {"holdfast": holdfast, "redis": redis_server}


def evict(raw):
    """Some keys go, as there were too little memory for them; nobody else's."""
    used = int(info(raw, "memory")["used_memory"])
    raw("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", used - used // 40)
    raw("SET", "one more", 1)
    raw("CONFIG", "SET", "maxmemory", 0)


def functions(raw):
    found = raw("FUNCTION", "LIST", "WITHCODE")
    return sorted((dict(zip(f[::2], f[1::2]))[b"library_name"], f[-1]) for f in found)


@pytest.mark.parametrize("primary_kind,replica_kind,options", [
    ("holdfast", "holdfast", {"appendonly": "yes"}),
    ("redis", "holdfast", {"repl-diskless-load": "swapdb"}),
    ("redis", "holdfast", {"appendonly": "yes"}),
    ("holdfast", "redis", {}),
])
def test_random_writes_and_cuts(primary_kind, replica_kind, options):
    """A replica that is attached while somebody writes, and whose link is cut again and again, at any byte, has the
    very same data and functions at the end, by one full resynchronisation alone; keys were evicted meanwhile."""
    print("seed", SEED)
    rng = random.Random(SEED)
    with KINDS[primary_kind]() as primary, KINDS[replica_kind](**options) as replica:
        x, y = primary.raw(), replica.raw()
        cable = Cable(primary.port)
        x.pipeline([["SET", f"before{i}", i] for i in range(3000)])
        writer = Writer(primary, SEED, hash_ttl=primary_kind == replica_kind == "holdfast")
        follow(y, cable.port)
        wait_up(y)
        # redis-server gives up a transfer when all data are flushed meanwhile.
        full = info(x, "stats")["sync_full"]
        assert full == "1" or primary_kind == "redis"
        cuts, end = 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(rng.random() * min(SECONDS, 3) / 6)
            if rng.random() < 0.5:
                cable.cut()
            else:
                cable.cut_after = rng.randrange(1, 5000)
                wait_for(lambda: cable.cut_after is None, "it is cut")
            if rng.random() < 0.5:
                evict(x)
            cuts += 1
            wait_up(y)
        wait_for(lambda: evict(x) or int(info(x, "stats")["evicted_keys"]) > 0, "keys are evicted")
        assert writer.stop() > 0
        assert_same(x, y, f"seed {SEED}")
        assert functions(x) == functions(y)
        found = info(x, "stats")
        assert found["sync_full"] == full, found
        assert 1 <= int(found["sync_partial_ok"]) <= cuts + 1
        assert int(found["evicted_keys"]) > 0
        if replica_kind == "holdfast":
            assert info(y)["master_stream_errors"] == "0"
        print(f"{primary_kind} to {replica_kind}: {writer.count} commands, {cuts} cuts, "
              f"{found['sync_partial_ok']} partial resynchronisations, {found['evicted_keys']} keys evicted")
        cable.close()
        x.close()
        y.close()


@pytest.mark.parametrize("primary_kind,replica_kind", [("redis", "holdfast"), ("holdfast", "redis"),
                                                       ("holdfast", "holdfast")])
def test_sized_transfer(primary_kind, replica_kind):
    """A full resynchronisation by a file, whose size is said first."""
    with KINDS[primary_kind](**{"repl-diskless-sync": "no"}) as primary, KINDS[replica_kind]() as replica:
        x, y = primary.raw(), replica.raw()
        x.pipeline([[b"RPUSH", f"list{i % 50}", i] for i in range(2000)])
        x("SELECT", 5)
        x("SET", "in five", 1)
        follow(y, primary.port)
        wait_up(y)
        x("SET", "later", 1)
        x("SELECT", 0)
        assert_same(x, y)
        x.close()
        y.close()


def test_chain():
    """redis-server -> Holdfast -> Holdfast -> redis-server: all have the same data and the same
    offsets; the ends are cut off in turn and go on by partial resynchronisation."""
    with redis_server() as a, holdfast() as b, holdfast() as c, redis_server() as d:
        raws = [s.raw() for s in (a, b, c, d)]
        cables = [Cable(s.port) for s in (a, b, c)]
        raws[0]("SELECT", 3)
        raws[0]("SET", "old", 1)
        for raw, cable in zip(raws[1:], cables):
            follow(raw, cable.port)
            wait_up(raw)
        writer = Writer(a, SEED)
        for cable in cables + cables[::-1]:
            time.sleep(SECONDS / 12)
            cable.cut()
        writer.stop()
        for raw in raws[1:]:
            assert_same(raws[0], raw, f"seed {SEED}")
        ids = {info(raw)["master_replid"] for raw in raws}
        assert len(ids) == 1
        for raw in raws[:3]:
            assert info(raw, "stats")["sync_full"] == "1"
        for thing in cables + raws:
            thing.close()


def test_from_redis_to_holdfast_and_back():
    """Moving without stopping: a Holdfast replica of redis-server is promoted, the old primary follows it by
    the second id, without a full resynchronisation; and back."""
    with redis_server() as old, holdfast() as new:
        x, y = old.raw(), new.raw()
        for i in range(500):
            x("HSET", f"h{i % 20}", i, i)
        follow(y, old.port)
        wait_up(y)
        assert_same(x, y)
        assert y("REPLICAOF", "NO", "ONE") == "OK"
        assert info(y)["role"] == "master"
        y("SET", "written", "on the new one")
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        assert x("GET", "written") == b"on the new one"
        assert info(y, "stats")["sync_full"] == "0"
        assert info(y, "stats")["sync_partial_ok"] == "1"
        # and back
        assert x("REPLICAOF", "NO", "ONE") == "OK"
        x("SET", "back", 1)
        follow(y, old.port)
        wait_up(y)
        assert_same(x, y)
        assert wait_for(lambda: y("GET", "back") == b"1", "the write")
        x.close()
        y.close()
