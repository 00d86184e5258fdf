# SPDX-License-Identifier: BSD-3-Clause
"""redis-py doing the work that applications do."""
import threading
import time

import pytest
import redis

from harness import PATIENCE, wait_for


@pytest.fixture
def client(server):
    with server.client(decode_responses=True) as client:
        yield client


# Strings, with all of SET's options.
def test_strings(client):
    assert client.set("k", "v") is True
    assert client.set("k", "w", nx=True) is None
    assert client.set("k", "w", xx=True, get=True) == "v"
    assert client.getex("k", ex=100) == "w" and 40 <= client.ttl("k") <= 100
    assert client.set("k", "x", keepttl=True) and client.ttl("k") > 0
    assert client.getdel("k") == "x" and client.get("k") is None
    assert client.mset({"a": 1, "b": 2}) and client.mget("a", "b", "c") == ["1", "2", None]
    assert client.msetnx({"b": 9, "z": 9}) is False and client.get("z") is None
    assert client.incrby("a", 41) == 42 and client.incrbyfloat("a", 0.5) == 42.5
    assert client.append("s", "hello") == 5 and client.setrange("s", 6, "world") == 11
    assert client.getrange("s", 6, -1) == "world"
    client.set("utf", "snowman ☃")
    assert client.get("utf") == "snowman ☃"


# A leaderboard: scores go up, ranks and pages are read, the tail is cut off.
def test_leaderboard(client, rng):
    scores = {f"player:{i}": 0 for i in range(300)}
    client.zadd("board", scores)
    for _ in range(20):
        with client.pipeline() as pipe:
            for name in rng.sample(sorted(scores), 50):
                points = rng.randint(1, 1000)
                scores[name] += points
                pipe.zincrby("board", points, name)
            pipe.execute()
    order = sorted(scores, key=lambda n: (scores[n], n), reverse=True)
    assert client.zrevrange("board", 0, 9, withscores=True) == [(n, float(scores[n])) for n in order[:10]]
    assert client.zrevrank("board", order[42]) == 42
    assert client.zrange("board", 20, 29, desc=True) == order[20:30]
    middle = scores[order[150]]
    assert client.zcount("board", middle, "+inf") == sum(s >= middle for s in scores.values())
    assert client.zrangebyscore("board", middle, middle + 500, start=0, num=5) == \
        [n for n in reversed(order) if middle <= scores[n] <= middle + 500][:5]
    assert client.zremrangebyrank("board", 0, -101) == 200 and client.zcard("board") == 100
    assert client.zpopmax("board") == [(order[0], float(scores[order[0]]))]
    client.zadd("week", {order[1]: 5, "newcomer": 7})
    assert client.zunionstore("all", {"board": 1, "week": 10}, aggregate="SUM") == 100
    assert client.zscore("all", order[1]) == scores[order[1]] + 50


# A bank: many threads move money in optimistic transactions; nothing is lost, no total is ever wrong.
def test_transactions_with_watch(server):
    accounts = [f"account:{i}" for i in range(5)]
    server.client().mset({a: 100 for a in accounts})
    conflicts, wrong = [], []

    def mover(start):
        client = server.client()
        for step in range(25):
            source, target = accounts[(start + step) % 5], accounts[(start + 2 * step + 1) % 5]
            if source == target:
                continue
            with client.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch(source, target)
                        a, b = int(pipe.get(source)), int(pipe.get(target))
                        pipe.multi()
                        pipe.set(source, a - 7)
                        pipe.set(target, b + 7)
                        pipe.execute()
                        break
                    except redis.WatchError:
                        conflicts.append(1)
            total = sum(map(int, client.mget(accounts)))
            if total != 500:
                wrong.append(total)

    threads = [threading.Thread(target=mover, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert sum(map(int, server.client().mget(accounts))) == 500
    # A watched key that was changed must stop the transaction.
    client = server.client()
    with client.pipeline() as pipe:
        pipe.watch("watched")
        client.set("watched", 1)
        pipe.multi()
        pipe.set("watched", 2)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert client.get("watched") == b"1"


# A pipeline of ten thousand commands, with an error in the middle that does not disturb the rest.
def test_pipeline(client):
    with client.pipeline(transaction=False) as pipe:
        for i in range(10000):
            pipe.hset(f"h:{i % 100}", f"f{i}", i)
        pipe.incr("h:0")
        pipe.hlen("h:0")
        replies = pipe.execute(raise_on_error=False)
    assert replies[:10000] == [1] * 10000
    assert isinstance(replies[10000], redis.ResponseError) and replies[10001] == 100


# A transaction's commands fail one by one when they run, and all together when one is not a command.
def test_errors_in_transactions(client):
    client.set("s", "text")
    with client.pipeline() as pipe:
        pipe.incr("n").incr("s").incr("n")
        replies = pipe.execute(raise_on_error=False)
    assert replies[0] == 1 and isinstance(replies[1], redis.ResponseError) and replies[2] == 2
    with client.pipeline() as pipe:
        pipe.incr("n").execute_command("NOSUCH", 1)
        with pytest.raises(redis.ResponseError):
            pipe.execute()
    assert client.get("n") == "2"


# The SCAN family's iterators see everything that stays, while other things come and go.
def test_scan_iterators(client):
    stay = {f"stay:{i}" for i in range(2000)}
    client.mset({k: 1 for k in stay})
    client.hset("hash", mapping={f"f{i}": i for i in range(2000)})
    client.sadd("set", *range(2000))
    client.zadd("zset", {f"m{i}": i for i in range(2000)})
    seen = set()
    for i, key in enumerate(client.scan_iter(match="stay:*", count=50)):
        seen.add(key)
        client.set(f"come:{i}", 1)
        client.delete(f"come:{i - 10}")
    assert seen == stay
    assert dict(client.hscan_iter("hash", count=30)) == {f"f{i}": str(i) for i in range(2000)}
    assert set(client.sscan_iter("set")) == {str(i) for i in range(2000)}
    assert dict(client.zscan_iter("zset", match="m1*")) == {f"m{i}": float(i) for i in range(2000) if str(i)[0] == "1"}
    assert set(client.scan_iter(_type="HASH")) == {"hash"}


# Keys go when their time has come, seen or not; the count of keys comes down by itself.
def test_expiry(client):
    with client.pipeline() as pipe:
        for i in range(500):
            pipe.set(f"short:{i}", i, px=150)
            pipe.set(f"long:{i}", i, ex=100)
        pipe.execute()
    assert client.pttl("short:1") <= 150
    client.set("then", 1, pxat=int(time.time() * 1000) + 1500)
    client.hset("hash", "f", 1)
    assert client.pexpire("hash", 150) and client.expire("none", 1) is False
    assert client.persist("long:0") and client.ttl("long:0") == -1
    time.sleep(0.2)
    assert client.get("short:1") is None and client.exists("hash") == 0
    wait_for(lambda: client.exists("then") == 0)
    wait_for(lambda: client.dbsize() == 500)
    assert client.info("stats")["expired_keys"] == 502


# Queues: producers and consumers share a list, and no job is lost or done twice.
def test_queue(server):
    jobs, done, lock = 600, [], threading.Lock()
    ready = threading.Event()

    def consume():
        client = server.client()
        ready.wait()
        while True:
            job = client.lmove("jobs", "working", "RIGHT", "LEFT")
            if job is None:
                if client.get("produced") and not client.llen("jobs"):
                    return
                continue
            client.lrem("working", 1, job)
            with lock:
                done.append(int(job))

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for t in threads:
        t.start()
    ready.set()
    client = server.client()
    for i in range(0, jobs, 3):
        client.lpush("jobs", i, i + 1, i + 2)
    client.set("produced", 1)
    for t in threads:
        t.join(PATIENCE)
    assert sorted(done) == list(range(jobs))
    assert client.llen("working") == 0


# A rate limiter and a lock, as written with SET NX PX and INCR.
def test_lock_and_counter(client):
    lock = client.lock("resource", timeout=5)
    assert client.set("lock:x", "me", nx=True, px=5000) and not client.set("lock:x", "you", nx=True, px=5000)
    assert lock.name == "resource"
    counts = []
    for _ in range(12):
        with client.pipeline() as pipe:
            pipe.set("rate:1", 0, ex=60, nx=True)
            pipe.incr("rate:1")
            counts.append(pipe.execute()[1])
    assert counts == list(range(1, 13)) and 0 < client.ttl("rate:1") <= 60


# Sets and hashes as tags and records.
def test_tags_and_records(client):
    for i in range(200):
        client.hset(f"doc:{i}", mapping={"id": i, "title": f"Title {i}", "views": 0})
        client.sadd("tag:even" if i % 2 == 0 else "tag:odd", i)
        if i % 3 == 0:
            client.sadd("tag:three", i)
    assert client.sinter("tag:even", "tag:three") == {str(i) for i in range(0, 200, 6)}
    assert client.sintercard(2, ["tag:even", "tag:three"], limit=10) == 10
    assert client.sdiffstore("tag:rest", "tag:odd", "tag:three") == 67
    assert client.sunion("tag:even", "tag:odd") == {str(i) for i in range(200)}
    assert client.hincrby("doc:7", "views", 5) == 5
    assert client.hmget("doc:7", "title", "views", "none") == ["Title 7", "5", None]
    assert client.hgetall("doc:7") == {"id": "7", "title": "Title 7", "views": "5"}
    popped = client.spop("tag:odd", 10)
    assert len(popped) == 10 and client.scard("tag:odd") == 90
    assert client.smismember("tag:even", ["2", "3"]) == [1, 0]
    assert client.sort("tag:three", desc=True, start=0, num=3, by="doc:*->id", get="doc:*->title") == \
        ["Title 198", "Title 195", "Title 192"]


# Big values, near to and beyond what sockets and buffers hold at once, arrive whole.
def test_big_values(server):
    client = server.client()
    for size in (16383, 16384, 65536, 1 << 20, (1 << 24) + 7):
        value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        assert client.set("big", value)
        assert client.strlen("big") == size and client.get("big") == value
        assert client.getrange("big", size - 3, -1) == value[-3:]
    with client.pipeline(transaction=False) as pipe:
        for _ in range(8):
            pipe.get("big")
        assert all(reply == value for reply in pipe.execute())


# The server's own answers as redis-py reads them.
def test_introspection(client):
    client.set("k", "v")
    assert client.info()["redis_version"].split(".")[0].isdigit()
    assert client.info("keyspace")["db0"]["keys"] == 1
    assert client.config_get("maxmemory") == {"maxmemory": "0"}
    assert client.config_set("hash-max-listpack-entries", 7)
    assert client.config_get("hash-max-*")["hash-max-listpack-entries"] == "7"
    assert client.client_setname("worker") and client.client_getname() == "worker"
    assert any(c["name"] == "worker" for c in client.client_list())
    assert client.object("ENCODING", "k") == "embstr"
    assert client.memory_usage("k") > 0
    assert client.command_count() > 100
    assert client.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"]
    assert "get" in client.command()
    assert abs(client.time()[0] - time.time()) < 60
    assert client.echo("hi") == "hi" and client.ping() is True
    assert client.lastsave() is not None


# RESP3 by a connection that asks for it.
def test_resp3(server):
    raw = server.raw()
    hello = raw("HELLO", 3, "SETNAME", "three")
    assert hello[0] == "map" and dict(hello[1])[b"proto"] == 3
    raw("HSET", "h", "f", "1")
    assert raw("HGETALL", "h") == ("map", [(b"f", b"1")])
    raw("SADD", "s", "m")
    assert raw("SMEMBERS", "s") == ("set", [b"m"])
    raw("ZADD", "z", 1.5, "m")
    assert raw("ZSCORE", "z", "m") == ("double", b"1.5") and raw("ZSCORE", "z", "n") == ("null",)
    assert raw("ZRANGE", "z", 0, -1, "WITHSCORES") == [[b"m", ("double", b"1.5")]]
