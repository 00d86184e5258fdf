# SPDX-License-Identifier: BSD-3-Clause
"""Files and payloads go both ways between Holdfast and Debian's redis-server."""
import subprocess
import time

import pytest

import data
from harness import Server

OPTIONS = [{}, {"rdbcompression": "no"}, {"rdbchecksum": "no", "list-compress-depth": "1"},
           {"list-max-listpack-size": "4", "hash-max-listpack-entries": "2", "zset-max-listpack-entries": "2",
            "set-max-intset-entries": "2"}]
NAMES = ["default", "uncompressed", "no-checksum", "small-limits"]

ALL_ENCODINGS = {("string", "int"), ("string", "embstr"), ("string", "raw"), ("list", "quicklist"),
                 ("set", "intset"), ("set", "hashtable"), ("hash", "listpack"), ("hash", "hashtable"),
                 ("zset", "listpack"), ("zset", "skiplist"), ("stream", "stream")}


def written_by(kind, directory, options):
    """A server's dump.rdb in the directory, and what the server held."""
    with Server(kind, options, directory=directory) as server:
        raw = server.raw()
        data.fill(raw)
        held = data.contents(raw)
        if kind == "redis" and not options:
            assert data.encodings(raw) == ALL_ENCODINGS
        assert raw("SAVE") == "OK"
    return held


def loaded_by(kind, directory, options=None):
    with Server(kind, options, directory=directory) as server:
        return data.contents(server.raw())


# What redis-server saves, Holdfast loads: all types in all encodings, with expiries, in several databases.
@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_holdfast_loads_redis_file(tmp_path, options):
    data.assert_same(written_by("redis", tmp_path, options), loaded_by("holdfast", tmp_path))


# What Holdfast saves, redis-check-rdb accepts and redis-server loads.
@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_redis_loads_holdfast_file(tmp_path, options):
    held = written_by("holdfast", tmp_path, options)
    check = subprocess.run(["redis-check-rdb", str(tmp_path / "dump.rdb")], capture_output=True, text=True)
    assert check.returncode == 0 and "RDB looks OK" in check.stdout, check.stdout + check.stderr
    data.assert_same(held, loaded_by("redis", tmp_path))


# Both made by the same commands, both servers hold the same and say so with the same digest.
def test_same_commands_same_digest(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    data.assert_same(written_by("redis", tmp_path / "a", {}), written_by("holdfast", tmp_path / "b", {}))


# There and back: loaded by Holdfast and saved again, it is still the same to redis-server.
def test_round_trip(tmp_path):
    held = written_by("redis", tmp_path, {})
    with Server("holdfast", directory=tmp_path) as server:
        assert server.raw()("SAVE") == "OK"
    data.assert_same(held, loaded_by("redis", tmp_path))


# DUMP and RESTORE of every value in both directions, at both servers' default and at small limits.
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[3]], ids=[NAMES[0], NAMES[3]])
def test_dump_and_restore(options):
    with Server("redis", options) as redis, Server("holdfast") as holdfast:
        for source, target in ((redis, holdfast), (holdfast, redis)):
            a, b = source.raw(), target.raw()
            b("FLUSHALL")
            a("FLUSHALL")
            data.fill(a)
            for db in range(16):
                a("SELECT", db)
                b("SELECT", db)
                for key in a("KEYS", "*"):
                    due = max(a("PEXPIRETIME", key), 0)
                    assert b("RESTORE", key, due, a("DUMP", key), "ABSTTL") == "OK", (db, key)
            data.assert_same(data.contents(a), data.contents(b))


# MIGRATE moves keys from one server to the other, one by one and many at a time.
@pytest.mark.parametrize("source, target", [("redis", "holdfast"), ("holdfast", "redis"), ("holdfast", "holdfast")])
def test_migrate(source, target):
    with Server(source) as a, Server(target) as b:
        raw, other = a.raw(), b.raw()
        data.fill(raw)
        held = data.contents(raw)
        keys = raw("KEYS", "*")
        assert raw("MIGRATE", "127.0.0.1", b.port, "", 0, 60000, "KEYS", *keys[:200]) == "OK"
        for key in keys[200:]:
            assert raw("MIGRATE", "127.0.0.1", b.port, key, 0, 60000) == "OK" or key == b""
        assert raw("EXISTS", *(k for k in keys if k)) == 0
        assert raw("MIGRATE", "127.0.0.1", b.port, "int", 0, 60000) == "NOKEY"
        arrived = data.contents(other, 1)
        for at, (kind, due, value, digest) in ((k, v) for k, v in held.items() if k[0] == 0 and k[1]):
            assert (kind, value, digest) == (arrived[at][0], *arrived[at][2:]), at
            # What goes over is the time that is left.
            assert due == arrived[at][1] == -1 or abs(due - arrived[at][1]) < 60000, at
        # What is there already is not overwritten, unless it is asked for.
        raw("SET", "int", 1)
        assert raw("MIGRATE", "127.0.0.1", b.port, "int", 0, 60000) == \
            "ERR Target instance replied with error: BUSYKEY Target key name already exists."
        assert raw("MIGRATE", "127.0.0.1", b.port, "int", 0, 60000, "COPY", "REPLACE") == "OK"
        assert raw("GET", "int") == b"1" and other("GET", "int") == b"1"


# A payload that is cut, changed or of a version to come is refused, and changes nothing.
def test_damaged_payload_is_refused(server, rng):
    raw = server.raw()
    raw("RPUSH", "list", *range(100), "some", "words" * 30)
    payload = raw("DUMP", "list")
    error = "ERR DUMP payload version or checksum are wrong"
    for size in (0, 1, 9, 10, 11, len(payload) // 2, len(payload) - 1):
        assert raw("RESTORE", "new", 0, payload[:size]) == error
    for _ in range(300):
        at = rng.randrange(len(payload))
        changed = payload[:at] + bytes([payload[at] ^ (1 << rng.randrange(8))]) + payload[at + 1:]
        assert raw("RESTORE", "new", 0, changed) == error
    assert raw("EXISTS", "new") == 0
    assert raw("RESTORE", "new", 0, payload) == "OK"
    assert raw("LRANGE", "new", 0, -1) == raw("LRANGE", "list", 0, -1)


# Values that are compressed piece by piece are compressed strings like all others, for redis-server, too; the memory that a save
# takes does not grow with them.
def test_huge_strings(tmp_path):
    with Server(directory=tmp_path, plain=True) as server:
        c = server.client()
        c.setbit("bitmap", 8 * 60_000_000, 1)
        c.set("words", b"".join(b"word %d of many; " % (i % 1000) for i in range(400_000)))
        c.rpush("list", b"x" * 3_000_000, b"y")
        c.hset("hash", "f", bytes(range(256)) * 20_000)
        before = c.info("memory")["used_memory"]
        c.config_set("rdb-key-save-delay", 100_000)
        c.bgsave()
        most = 0
        while c.info("persistence")["rdb_bgsave_in_progress"]:
            most = max(most, c.info("memory")["used_memory"] - before)
            time.sleep(0.01)
        assert c.info("persistence")["rdb_last_bgsave_status"] == "ok"
        assert most < 40_000_000
        assert (tmp_path / "dump.rdb").stat().st_size < 8_000_000
        digest = c.execute_command("DEBUG", "DIGEST")
    for kind in ("redis", "holdfast"):
        with Server(kind, directory=tmp_path, options={"enable-debug-command": "yes"}) as server:
            assert server.client().execute_command("DEBUG", "DIGEST") == digest
