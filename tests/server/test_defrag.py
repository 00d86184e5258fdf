# SPDX-License-Identifier: BSD-3-Clause
"""Active defragmentation: whatever it moves, nobody notices; and the memory of what was deleted goes back."""
import os
import threading
import time

import pytest
import redis

from harness import Error, Server, wait_for

ROUNDS = int(os.environ.get("HF_DEFRAG_ROUNDS", 60))
FAR_MS = 4102444800000
KEYS = 12


def text(rng, most):
    return rng.randbytes(rng.randint(0, most))


def member(rng):
    n = rng.randrange(3000)
    return f"member:{n}" + "." * (300 if n % 23 == 0 else n % 20)


def string_command(rng, key):
    value = text(rng, rng.choice((20, 200, 3000, 40000)))
    return rng.choice((("SET", key, value), ("APPEND", key, value), ("SETRANGE", key, rng.randrange(60000), value),
                       ("SET", key, rng.randrange(10 ** 6)), ("SET", key, value, "PXAT", FAR_MS), ("GET", key),
                       ("SETBIT", key, rng.randrange(800000), 1), ("GETRANGE", key, 0, 70000), ("STRLEN", key)))


def list_command(rng, key):
    items = [text(rng, rng.choice((10, 60, 500))) for _ in range(rng.randint(1, 60))]
    end, start = rng.choice("LR"), rng.randrange(500)
    return rng.choice(((end + "PUSH", key, *items), (end + "PUSH", key, *items), (end + "POP", key, rng.randint(1, 80)),
                       ("LTRIM", key, start // 10, -1), ("LINSERT", key, "BEFORE", items[0], "x"),
                       ("LRANGE", key, start, start + 30), ("LREM", key, 1, items[0]), ("LLEN", key)))


def set_command(rng, key):
    members = {member(rng) for _ in range(rng.randint(1, 80))}
    other = key[:-1] + str(rng.randrange(KEYS))[-1]
    return rng.choice((("SADD", key, *sorted(members)), ("SADD", key, *sorted(members)), ("SADD", key, *range(rng.randint(1, 300))),
                       ("SREM", key, *sorted(members)), ("SCARD", key), ("SMISMEMBER", key, *sorted(members)),
                       ("SUNIONSTORE", key, key, other), ("SINTERCARD", 2, key, other)))


def hash_command(rng, key):
    fields = sorted({member(rng) for _ in range(rng.randint(1, 60))})
    pairs = [x for f in fields for x in (f, text(rng, rng.choice((10, 40, 900))))]
    return rng.choice((("HSET", key, *pairs), ("HSET", key, *pairs), ("HDEL", key, *fields), ("HMGET", key, *fields), ("HLEN", key),
                       ("HPEXPIREAT", key, FAR_MS, "FIELDS", len(fields), *fields),
                       ("HPERSIST", key, "FIELDS", len(fields), *fields), ("HINCRBY", key, "number", 3)))


def zset_command(rng, key):
    members = sorted({member(rng) for _ in range(rng.randint(1, 60))})
    scored = [x for m in members for x in (rng.choice((7, rng.randrange(1000), rng.random())), m)]
    start = rng.randrange(500)
    return rng.choice((("ZADD", key, *scored), ("ZADD", key, *scored), ("ZREM", key, *members), ("ZRANGE", key, start, start + 30),
                       ("ZRANGEBYSCORE", key, 7, 7, "LIMIT", 0, 20), ("ZMSCORE", key, *members),
                       ("ZREMRANGEBYRANK", key, start, start + 20), ("ZINCRBY", key, 1, members[0])))


def stream_command(rng, key, count):
    value = text(rng, rng.choice((10, 60, 900)))
    return rng.choice((("XADD", key, f"{count}-1", "field", value), ("XADD", key, f"{count}-1", "field", value, "other", 1),
                       ("XGROUP", "CREATE", key, "group", 0), ("XDEL", key, f"{rng.randint(0, count)}-1"),
                       ("XCLAIM", key, "group", "consumer", 0, f"{rng.randint(0, count)}-1", "TIME", 1700000000000,
                        "RETRYCOUNT", 2, "FORCE", "JUSTID"),
                       ("XACK", key, "group", f"{rng.randint(0, count)}-1"), ("XRANGE", key, f"{count // 2}", "+", "COUNT", 20),
                       ("XTRIM", key, "MAXLEN", "=", 400), ("XLEN", key)))


MAKERS = {"string": string_command, "list": list_command, "set": set_command, "hash": hash_command, "zset": zset_command}


def any_key(rng, kinds):
    return f"{rng.choice(kinds)}:{rng.randrange(KEYS)}"


def any_command(rng, count):
    """A command whose reply, and what it does, depend on nothing but what was before."""
    kinds = (*MAKERS, "stream")
    what = rng.random()
    if what < 0.03:
        return rng.choice((("DEL", any_key(rng, kinds)), ("UNLINK", any_key(rng, kinds)), ("SWAPDB", 0, 1),
                           ("PEXPIREAT", any_key(rng, kinds), FAR_MS), ("PERSIST", any_key(rng, kinds)),
                           ("COPY", any_key(rng, kinds), any_key(rng, kinds), "REPLACE"),
                           ("RENAME", any_key(rng, kinds), any_key(rng, kinds)), ("MOVE", any_key(rng, kinds), 1),
                           ("EVAL", "for i = 1, 50 do redis.call('HSET', KEYS[1], 'f' .. i, ARGV[1]) end return redis.call('HLEN', KEYS[1])",
                            1, any_key(rng, ("hash",)), rng.randrange(10 ** 9))))
    kind = rng.choice(kinds)
    key = f"{kind}:{rng.randrange(KEYS)}"
    return stream_command(rng, key, count) if kind == "stream" else MAKERS[kind](rng, key)


def hits(client):
    return client.info("stats")["active_defrag_hits"]


def digest(client):
    return client.execute_command("DEBUG", "DIGEST")


class Waiter(threading.Thread):
    """A client that waits for a list over and over, and keeps what it got."""

    def __init__(self, server):
        super().__init__()
        # In a database that no SWAPDB takes away.
        self.client, self.got = server.client(db=15), []

    def run(self):
        while True:
            _, item = self.client.blpop("queue")
            if item == b"the end":
                return
            self.got.append(item)


# All blocks of all keys move all the time, in a server with a log, snapshots, a replica in which they move,
# too, clients that wait and one that caches. Every reply, and all that is there in the end, in the server, in
# its replica, and after its log was replayed, is as in a server in which nothing moves.
def test_everything_moves_all_the_time(rng):
    options = {"appendonly": "yes", "appendfsync": "everysec", "auto-aof-rewrite-percentage": 0}
    with Server(options=options) as moving, Server() as still, \
            Server(options={"replicaof": ["127.0.0.1", moving.port]}) as replica:
        for server in (moving, replica):
            assert server.raw()("DEBUG", "DEFRAG-EVERYTHING", 1) == "OK"
        client, raw, other = moving.client(), moving.raw(), still.raw()
        wait_for(lambda: replica.client().info("replication")["master_link_status"] == "up")
        waiter, feed = Waiter(moving), moving.client(db=15)
        waiter.start()
        cache = moving.raw()
        cache("HELLO", 3)
        cache("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "string:")
        pushed, count = [], 0
        for number in range(ROUNDS):
            commands = [any_command(rng, count * 60 + i + 1) for i in range(60)]
            count += 1
            if rng.random() < 0.2:
                commands = [("MULTI",)] + commands + [("EXEC",)]
            commands.append(("SELECT", rng.randrange(2)))
            mine, theirs = raw.pipeline(commands), other.pipeline(commands)
            for command, a, b in zip(commands, mine, theirs):
                assert a == b, (command[:3], a, b)
            item = rng.randbytes(rng.choice((10, 5000)))
            pushed.append(item)
            feed.rpush("queue", item)
            if number % 12 == 5:
                try:
                    client.bgsave()
                except redis.exceptions.ResponseError as e:
                    assert "in progress" in str(e)
            if number % 20 == 9:
                try:
                    client.bgrewriteaof()
                except redis.exceptions.ResponseError as e:
                    assert "in progress" in str(e)
        # A large value goes to its client from where it lies.
        big = rng.randbytes(3 << 20)
        for r in (raw, other):
            r("SELECT", 0)
            r("SET", "big", big)
        assert all(value == big for value in raw.pipeline([("GET", "big")] * 5))
        feed.rpush("queue", b"the end")
        waiter.join(120)
        assert not waiter.is_alive() and waiter.got == pushed
        wait_for(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0)
        wait_for(lambda: hits(client) > 1000 and client.info("stats")["active_defrag_passes"] > 1)
        info = client.info("stats")
        assert info["active_defrag_misses"] == 0 and info["active_defrag_key_hits"] > 0
        expected = digest(still.client())
        assert digest(client) == expected
        follower = replica.client()
        wait_for(lambda: follower.info("replication")["slave_repl_offset"] ==
                 client.info("replication")["master_repl_offset"])
        wait_for(lambda: hits(follower) > 100)
        assert digest(follower) == expected
        moving.terminate()
        moving.start()
        assert digest(moving.client()) == expected


# While a snapshot is live nothing moves.
def test_rests_while_a_snapshot_is_live():
    with Server() as server:
        client = server.client()
        client.execute_command("DEBUG", "POPULATE", 1000, "key", 1000)
        client.config_set("snapshot-rate-limit", "20kb")
        client.config_set("rdbcompression", "no")
        client.execute_command("DEBUG", "DEFRAG-EVERYTHING", 1)
        wait_for(lambda: hits(client) > 0)
        client.bgsave()
        before, seen = hits(client), 0
        for _ in range(4):
            time.sleep(0.1)
            info = client.info("all")
            if info["rdb_bgsave_in_progress"] == 1:
                assert info["active_defrag_hits"] == before
                seen += 1
        assert seen > 0
        client.execute_command("DEBUG", "DEFRAG-EVERYTHING", 0)
        assert client.info("memory")["active_defrag_running"] == 0


@pytest.fixture(scope="module")
def plain():
    with Server(plain=True) as server:
        # What moves here moves for a reason, also where HF_MOVE_EVERYTHING is set.
        assert server.raw()("DEBUG", "DEFRAG-EVERYTHING", 0) == "OK"
        server.client().config_resetstat()
        yield server


def delete_some(client, rng, prefix, count):
    ids = list(range(count))
    rng.shuffle(ids)
    pipe = client.pipeline(transaction=False)
    for i in range(0, count * 3 // 4, 500):
        pipe.delete(*(f"{prefix}:{n}" for n in ids[i:i + 500]))
    pipe.execute()


# Three of four keys, and members of large values, are deleted at random. What stays is moved together, once
# that is asked for and worth it, and the memory goes back to the system.
def test_memory_goes_back(plain, rng):
    client = plain.client()
    if client.info("memory")["mem_allocator"] == "libc":
        with pytest.raises(redis.exceptions.ResponseError, match="cannot be enabled.*libc"):
            client.config_set("activedefrag", "yes")
        return
    client.config_set("activedefrag", "yes")
    client.execute_command("DEBUG", "POPULATE", 40000, "small", 60)
    client.execute_command("DEBUG", "POPULATE", 40000, "large", 500)
    script = ("for i = 1, 40000 do redis.call('ZADD', 'z', i % 1000, 'member:' .. i) redis.call('HSET', 'h', 'f' .. i, i) "
              "redis.call('RPUSH', 'l', 'element:' .. i) end "
              "for i = 1, 40000 do if i % 4 > 0 then redis.call('ZREM', 'z', 'member:' .. (i * 7919 % 40000)) "
              "redis.call('HDEL', 'h', 'f' .. (i * 7919 % 40000)) end end")
    client.eval(script, 0)
    delete_some(client, rng, "small", 40000)
    delete_some(client, rng, "large", 40000)
    before, holes = digest(client), client.info("memory")
    assert holes["allocator_active"] > 2 * holes["allocator_allocated"]
    # That is less than active-defrag-ignore-bytes.
    time.sleep(1.5)
    assert hits(client) == 0 and client.info("memory")["active_defrag_running"] == 0
    client.execute_command("MEMORY", "PURGE")
    rss = client.info("memory")["used_memory_rss"]
    client.config_set("active-defrag-ignore-bytes", "1mb")
    wait_for(lambda: client.info("memory")["allocator_frag_ratio"] < 1.3)
    info = client.info("all")
    assert info["active_defrag_hits"] > 10000 and info["active_defrag_key_hits"] > 10000
    assert info["active_defrag_passes"] > 0 or info["active_defrag_running"] > 0
    assert info["allocator_active"] < 0.6 * holes["allocator_active"]
    assert digest(client) == before
    client.execute_command("MEMORY", "PURGE")
    assert client.info("memory")["used_memory_rss"] < rss - (holes["allocator_active"] - info["allocator_active"]) / 2
    # And then it rests.
    wait_for(lambda: client.info("memory")["active_defrag_running"] == 0)
    assert client.info("stats")["total_active_defrag_time"] > 0
    assert client.info("stats")["current_active_defrag_time"] == 0
    client.config_resetstat()
    assert hits(client) == 0
    client.config_set("activedefrag", "no")


# Where the allocator cannot tell what to move, asking for it is an error, as in redis-server; from the
# configuration, too.
def test_refused_without_jemalloc(server):
    client = server.client()
    libc = client.info("memory")["mem_allocator"] == "libc"
    reply = server.raw()("CONFIG", "SET", "activedefrag", "yes")
    if not libc:
        assert reply == "OK"
        return
    assert isinstance(reply, Error) and "Active defragmentation cannot be enabled" in reply
    assert client.config_get("activedefrag") == {"activedefrag": "no"}
    assert client.config_set("activedefrag", "no")
    with pytest.raises(RuntimeError, match="Active defragmentation cannot be enabled"):
        Server(options={"activedefrag": "yes"})
