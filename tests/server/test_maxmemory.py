# SPDX-License-Identifier: BSD-3-Clause
"""maxmemory and its policies, and maxmemory-clients."""
import time

import pytest
import redis

from harness import Server

POLICIES = ("allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
            "volatile-lrm", "allkeys-lrm")
ROOM = 4 << 20


@pytest.fixture(scope="module")
def server():
    # The allocator that counts exactly: the build without sanitizers.
    with Server("holdfast", {"save": ""}, plain=True) as s:
        yield s


def used(r):
    info = r.info("memory")
    return info["used_memory"] - info["mem_not_counted_for_evict"]


def limit(r, policy):
    r.config_set("maxmemory", 0)
    r.flushall()
    # The old values are freed in the background.
    last = 0
    while last != used(r):
        last = used(r)
        time.sleep(0.1)
    r.config_set("maxmemory-policy", policy)
    most = used(r) + ROOM
    r.config_set("maxmemory", most)
    return most


# Under every policy memory stays at the limit while much more is written, and what goes is told.
@pytest.mark.parametrize("policy", POLICIES)
def test_policy_holds_the_limit(server, policy):
    r = redis.Redis(port=server.port)
    most = limit(r, policy)
    before = r.info("stats")["evicted_keys"]
    volatile = policy.startswith("volatile")
    r.set("stays", "x")
    pipe = r.pipeline(transaction=False)
    for i in range(40000):
        pipe.set(f"key:{i}", "v" * 200, ex=1000 + i if volatile else None)
        if i % 1000 == 999:
            pipe.execute()
            assert used(r) < most + (1 << 20)
    info = r.info("stats")
    assert info["evicted_keys"] - before == 40001 - r.dbsize()
    assert info["evicted_keys"] - before > 15000
    if volatile:
        assert r.get("stays") == b"x"
    if policy == "volatile-ttl":
        # The first to expire went first, but for what chance left out.
        kept = [int(k[4:]) for k in r.scan_iter("key:*", count=1000)]
        assert sum(k >= 40000 - len(kept) for k in kept) > len(kept) * 0.7
    r.close()


# The least recently used go first: keys that are read again and again stay.
@pytest.mark.parametrize("policy", ("allkeys-lru", "allkeys-lfu"))
def test_what_is_used_stays(server, policy):
    r = redis.Redis(port=server.port)
    limit(r, policy)
    pipe = r.pipeline(transaction=False)
    for i in range(2000):
        pipe.set(f"hot:{i}", "v" * 200)
    pipe.execute()
    for round_number in range(4):
        time.sleep(1.01)  # the clock of accesses counts seconds
        for _ in range(5):
            for i in range(2000):
                pipe.get(f"hot:{i}")
        pipe.execute()
        for i in range(6000):
            pipe.set(f"cold:{round_number}:{i}", "v" * 200)
        pipe.execute()
    assert r.exists(*[f"hot:{i}" for i in range(2000)]) > 1800
    r.close()


# Under LRM only what changes a key counts: of two halves that were written together, the one that is changed stays, the
# one that is read goes.
@pytest.mark.parametrize("policy", ("allkeys-lrm", "volatile-lrm"))
def test_what_is_changed_stays(server, policy):
    r = redis.Redis(port=server.port)
    limit(r, policy)
    r.config_set("maxmemory-samples", 64)  # chance has all but no part in it
    pipe = r.pipeline(transaction=False)
    for i in range(2000):
        pipe.set(f"read:{i}", "v" * 200, ex=10000)
        pipe.set(f"changed:{i}", "v" * 200, ex=10000)
    pipe.execute()
    time.sleep(1.01)  # the clock of accesses counts seconds
    for i in range(2000):
        pipe.append(f"changed:{i}", "w")
        pipe.get(f"read:{i}")
    pipe.execute()
    assert r.object("idletime", "read:0") >= 1 and r.config_get("maxmemory-policy") == {"maxmemory-policy": policy}
    gone = r.info("stats")["evicted_keys"]
    for i in range(100000):
        pipe.set(f"cold:{i}", "v" * 200, ex=10000)
        if i % 250 == 249:
            pipe.execute()
            if r.info("stats")["evicted_keys"] - gone > 1000:
                break
    left = {kind: r.exists(*[f"{kind}:{i}" for i in range(2000)]) for kind in ("read", "changed")}
    assert left["read"] < 1100 and left["changed"] > 1900, left
    r.config_set("maxmemory-samples", 5)
    r.close()


# With noeviction what needs memory is refused, also within a transaction; the rest goes on.
def test_noeviction(server):
    with Server("redis") as theirs:
        def talk(which):
            r = which.raw()
            r("FLUSHALL")
            r("SET", "a", "1")
            r("LPUSH", "l", "x")
            r("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
            got = [r("SET", "b", "1"), r("GET", "a"), r("LPUSH", "l", "y"), r("DEL", "l"), r("MULTI"), r("SET", "b", "2"), r("EXEC"),
                   r("MULTI"), r("GET", "a"), r("EXEC"), r("INCR", "a"), r("EXPIRE", "a", "100")]
            r("MULTI")
            r("CONFIG", "SET", "maxmemory", "0")
            r("CONFIG", "SET", "maxmemory", "0")
            got += [r("EXEC"), r("SET", "b", "1")]
            r.close()
            return got
        assert talk(server) == talk(theirs)


# A live snapshot does not make eviction run away: what is kept for it does not count.
def test_snapshot_and_eviction(server):
    r = redis.Redis(port=server.port)
    limit(r, "allkeys-lru")
    pipe = r.pipeline(transaction=False)
    for i in range(10000):
        pipe.set(f"key:{i}", "v" * 200)
    pipe.execute()
    r.config_set("rdb-key-save-delay", 100)
    r.bgsave()
    for i in range(20000):
        pipe.set(f"new:{i}", "v" * 200)
        if i % 250 == 249:
            pipe.execute()
    assert r.dbsize() > 5000
    r.config_set("rdb-key-save-delay", 0)
    deadline = time.monotonic() + 60
    while r.info("persistence")["rdb_bgsave_in_progress"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert r.info("persistence")["rdb_last_bgsave_status"] == "ok"
    r.config_set("maxmemory", 0)
    r.close()


# Clients whose buffers are above maxmemory-clients are closed, the largest first; NO-EVICT protects.
def test_maxmemory_clients(server):
    r = redis.Redis(port=server.port)
    r.config_set("maxmemory", 0)
    r.set("big", b"x" * (1 << 20))
    r.config_set("maxmemory-clients", 4 << 20)
    greedy, protected = server.raw(), server.raw()
    protected("CLIENT", "NO-EVICT", "ON")
    before = r.info("stats")["evicted_clients"]
    for client in (greedy, protected):
        client.send(b"GET big\r\n" * 12)  # and nothing is read
    deadline = time.monotonic() + 60
    while r.info("stats")["evicted_clients"] == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert r.info("stats")["evicted_clients"] == before + 1
    for _ in range(12):
        assert len(protected.read()) == 1 << 20
    r.config_set("maxmemory-clients", 0)
    protected.close(), greedy.close()
    r.close()
