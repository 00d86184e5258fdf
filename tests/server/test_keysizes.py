# SPDX-License-Identifier: BSD-3-Clause
"""INFO keysizes: how many keys of each type have which size, against a count by SCAN and STRLEN, LLEN, ..."""
import collections
import os
import pathlib
import sys
import time

import redis

from harness import PATIENCE, Server, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "compare"))
import generators  # noqa: E402
from sequences import Generator  # noqa: E402

SEQUENCES = int(os.environ.get("HF_KEYSIZES_SEQUENCES", 40))
KINDS = {"string": ("STRLEN", "strings_sizes"), "list": ("LLEN", "lists_items"), "set": ("SCARD", "sets_items"),
         "zset": ("ZCARD", "zsets_items"), "hash": ("HLEN", "hashes_items"), "stream": ("XLEN", "streams_items")}
# What is newer than redis-server 7.0, or no command of its own there.
MORE = [("HSETEX", "h", "EX", "1000", "FIELDS", "2", "f", "v", "g", "w"), ("HGETDEL", "h", "FIELDS", "1", "f"),
        ("HGETEX", "h", "PERSIST", "FIELDS", "1", "g"), ("HEXPIRE", "h", "1000", "FIELDS", "1", "f"),
        ("HPEXPIREAT", "h", "1", "FIELDS", "1", "g"), ("DELEX", "s1"), ("SWAPDB", "0", "1"), ("SWAPDB", "1", "0"),
        ("MOVE", "s0", "1"), ("MSETEX", "2", "s0", "1", "n1", "1234567", "EX", "1000"), ("FLUSHDB", "ASYNC"),
        ("EVAL", "redis.call('LPUSH', KEYS[1], 1, 2, 3) redis.call('HSET', KEYS[2], 'a', 1) return redis.call('RENAME', KEYS[2], KEYS[3])",
         "3", "l1", "h1", "h2"), ("SET", "s1", "12"), ("INCRBY", "s1", "999999"), ("APPEND", "s1", "x" * 50),
        ("SETRANGE", "s1", "5000", "x"), ("XADD", "x1", "*", "a", "b"), ("XGROUP", "CREATE", "x2", "g", "$", "MKSTREAM")]


def bucket(size):
    if size == 0:
        return "0"
    power = size.bit_length() - 1
    return str(1 << power % 10) + " KMGT"[power // 10].strip()


def told(client):
    """By database and type: {bucket: keys}."""
    lines = client.info("keysizes")
    if isinstance(lines, dict):
        found = {}
        for name, value in lines.items():
            pairs = value.items() if isinstance(value, dict) else [value.split("=")]
            found[name] = {str(b): int(n) for b, n in pairs}
        return found
    raise AssertionError(lines)


def counted(server, dbs=range(16)):
    found = collections.defaultdict(lambda: collections.Counter())
    total = 0
    for db in dbs:
        client = redis.Redis(unix_socket_path=server.socket_path, db=db)
        keys = list(set(client.scan_iter(count=1000)))
        types = [client.type(k).decode() for k in keys]
        for key, kind in zip(keys, types):
            if kind != "none":
                command, name = KINDS[kind]
                found[f"db{db}_distrib_{name}"][bucket(client.execute_command(command, key))] += 1
                total += 1
        client.close()
    return {name: dict(counts) for name, counts in found.items()}


def check(server, client, what=""):
    """Keys and fields that have expired are counted until they are removed, which may take a moment."""
    end = time.monotonic() + PATIENCE
    while (a := told(client)) != (b := counted(server)):
        assert time.monotonic() < end, f"{what}\ntold:    {a}\ncounted: {b}"
        time.sleep(0.05)


# The sizes at which the buckets begin and end, of numbers too; an empty string has one of its own.
def test_buckets(server):
    client = server.client()
    for i, size in enumerate((0, 1, 2, 3, 4, 1023, 1024, 2047, 4096, 4097, 1 << 20)):
        client.set(f"s{i}", "x" * size)
    for i, number in enumerate((0, 9, -1, 10, 999, -99, -100, 1000, 9999999, -999999, 10000000, -1000000, 10 ** 15 - 1,
                                -10 ** 14 + 1, 10 ** 15, -10 ** 14, 2 ** 63 - 1, -2 ** 63)):
        client.set(f"n{i}", number)
    client.rpush("l", *range(1024))
    client.xgroup_create("x", "g", mkstream=True)
    text = server.raw()("INFO", "keysizes").decode()
    assert text.startswith("# Keysizes\r\ndb0_distrib_strings_sizes:0=1,1=3,2=6,4=5,8=4,16=4,512=1,1K=2,4K=2,1M=1\r\n")
    assert "db0_distrib_lists_items:1K=1\r\n" in text and "db0_distrib_streams_items:0=1\r\n" in text
    check(server, client)
    for number in (8, 9, 10, 99, 100, 999, 1000, -1, -9, -10, 0):
        client.set("n", number)
        client.incr("n")
        client.decrby("n", 3)
        check(server, client, number)
    assert "# Keysizes" in server.raw()("INFO").decode() and "# Keysizes" in server.raw()("INFO", "all").decode()
    assert "# Keysizes" not in server.raw()("INFO", "keyspace").decode()


def writes():
    return {name for name, row in generators.table_rows().items()
            if "write" in row["flags"].split(",") and "blocking" not in row["flags"].split(",") and name != "MIGRATE"}


def run(server, client, seed, known, number):
    raw = server.raw()
    generator = Generator(seed, number, known, large=0)
    lines = []
    for step in generator.sequence().steps:
        lines += step.lines()
    for _ in range(3):
        lines.insert(generator.rng.randrange(len(lines) + 1), generator.rng.choice(MORE))
    for line in lines:
        name = (line[0] if isinstance(line[0], str) else line[0].decode()).upper()
        if name.startswith("X") and name != "XREADGROUP" or name in known or isinstance(line[0], str):
            try:
                raw(*line)
            except Exception as error:  # an error reply is no matter here
                assert "closed" not in str(error), line
    raw.close()


# Random commands of every type, with snapshots that are live, reloads and a restart from the log between them.
def test_random_commands(seed):
    known = writes()
    with Server("holdfast", options={"appendonly": "yes", "appendfsync": "no"}) as server, \
            Server("holdfast") as replica:
        replica.client().replicaof("127.0.0.1", server.port)
        client = server.client()
        for number in range(SEQUENCES):
            run(server, client, seed, known, number)
            if number % 10 == 3:
                client.config_set("rdb-key-save-delay", 2000)
                client.bgsave()
            if number % 10 == 7:
                client.config_set("rdb-key-save-delay", 0)
                client.execute_command("DEBUG", "RELOAD" if number % 20 == 7 else "LOADAOF")
            check(server, client, f"HF_SEED={seed}, sequence {number}")
        wait_for(lambda: told(replica.client()) == told(client))
        server.terminate()
        server.start()
        check(server, server.client(), "after a restart")


# Keys that go by expiry and by eviction, and with a script or transaction.
def test_removed_keys(server):
    client = server.client()
    for i in range(200):
        client.set(f"e{i}", "x" * i, px=50)
        client.hset(f"h{i}", mapping={str(k): k for k in range(i % 20 + 1)})
        client.execute_command("HPEXPIRE", f"h{i}", 50, "FIELDS", 1, "0")
    wait_for(lambda: "db0_distrib_strings_sizes" not in told(client))
    check(server, client)
    client.config_set("maxmemory-policy", "allkeys-random")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 500_000)
    for i in range(3000):
        client.rpush(f"l{i}", *["y" * 100] * (i % 7 + 1))
    assert client.info("stats")["evicted_keys"] > 0
    check(server, client)
    client.config_set("maxmemory", 0)
    with client.pipeline() as p:
        p.set("t", "x" * 100).delete("l1", "l2", "l3").copy("t", "u").swapdb(0, 1).set("v", 5).execute()
    check(server, client)
    client.flushall()
    assert told(client) == {}
