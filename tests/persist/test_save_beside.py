# SPDX-License-Identifier: BSD-3-Clause
"""Saves beside other things: a rewrite of the log, writers who do not stop, the end of the server; and what a version of the
format cannot express."""
import threading
import time

import pytest
import redis

from harness import Server, wait_for

KINDS = pytest.mark.parametrize("kind", ["holdfast", "redis"])


class Writers:
    """Each adds to two counters in one transaction, until the server ends; knows what was acknowledged."""

    def __init__(self, server, count=3):
        self.acknowledged = [0] * count
        self.stop = False
        self.threads = [threading.Thread(target=self.run, args=(server, i)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, server, number):
        client = server.client()
        try:
            while not self.stop:
                pipe = client.pipeline(transaction=True)
                pipe.incr(f"a:{number}").incr(f"b:{number}").rpush(f"l:{number}", "x" * 20)
                self.acknowledged[number] = pipe.execute()[0]
        except redis.exceptions.RedisError:
            pass

    def join(self):
        self.stop = True
        for thread in self.threads:
            thread.join(60)
        return self.acknowledged

    def compare(self, client, exact=False):
        """Whole transactions only, and all that were acknowledged."""
        for number, count in enumerate(self.acknowledged):
            a, b = int(client.get(f"a:{number}") or 0), int(client.get(f"b:{number}") or 0)
            assert a == b == client.llen(f"l:{number}")
            assert a >= count, (number, a, count)
            assert not exact or a == count


@pytest.mark.parametrize("first", ["BGSAVE", "BGREWRITEAOF"])
def test_save_and_rewrite(first):
    """A BGSAVE and a rewrite of the log run at the same time, under writers, whichever comes first. The log has all that was
    acknowledged; the RDB file is of one instant of it."""
    second = "BGREWRITEAOF" if first == "BGSAVE" else "BGSAVE"
    with Server(options={"appendonly": "yes", "appendfsync": "always"}) as server:
        raw, client = server.raw(), server.client()
        raw("DEBUG", "POPULATE", 3000, "key", 50)
        raw("CONFIG", "SET", "rdb-key-save-delay", 300)
        writers = Writers(server)
        # Together, so that none has ended when the next one is asked for.
        replies = raw.pipeline([(first,), (second,), ("INFO", "persistence"), ("BGSAVE",), ("BGREWRITEAOF",)])
        assert replies[0].startswith("Background") and replies[1].startswith("Background")
        assert b"rdb_bgsave_in_progress:1\r\n" in replies[2] and b"aof_rewrite_in_progress:1\r\n" in replies[2]
        assert replies[3:] == ["ERR Background save already in progress",
                               "ERR Background append only file rewriting already in progress"]
        raw("CONFIG", "SET", "rdb-key-save-delay", 0)

        def both_ended():
            state = client.info("persistence")
            return not state["rdb_bgsave_in_progress"] and not state["aof_rewrite_in_progress"]
        wait_for(both_ended)
        state = client.info("persistence")
        assert state["rdb_last_bgsave_status"] == "ok" and state["aof_last_bgrewrite_status"] == "ok"
        server.kill()
        writers.join()
        server.start()
        writers.compare(server.client())
        assert server.client().dbsize() >= 3000
        # The RDB file alone.
        server.kill()
        server.options["appendonly"] = "no"
        server.start()
        client = server.client()
        for number in range(3):
            a = int(client.get(f"a:{number}") or 0)
            assert a == int(client.get(f"b:{number}") or 0) == client.llen(f"l:{number}")


def overwrite(raw, count):
    for first in range(0, count, 500):
        raw.pipeline([("SETRANGE", f"key:{i}", 5, "y") for i in range(first, first + 500)])


def test_held_memory_falls():
    """What is overwritten while a save is under way is held for it, and is given back as the walk passes: long before the
    save has ended, and what is written behind the walk is not held at all."""
    keys = 4000
    with Server(options={"snapshot-threads": 1}) as server:
        raw, client = server.raw(), server.client()
        raw("DEBUG", "POPULATE", keys, "key", 2000)
        raw("CONFIG", "SET", "rdb-key-save-delay", 2000)  # eight seconds
        raw("BGSAVE")
        overwrite(raw, keys)
        most = client.info("persistence")["snapshot_current_held_bytes"]
        assert most > keys * 2000 / 2

        def has_fallen():
            state = client.info("persistence")
            assert state["rdb_bgsave_in_progress"] == 1
            return state["snapshot_current_held_bytes"] < most * 3 / 4
        wait_for(has_fallen)
        overwrite(raw, keys)
        assert client.info("persistence")["snapshot_current_held_bytes"] < most * 3 / 4 + 300000
        assert raw("BGSAVE", "CANCEL") == "Background saving cancelled"


def test_held_by_two():
    """What two snapshots hold is given back, whichever of them ends first: nothing is left that waits to be freed."""
    keys = 3000
    with Server(options={"appendonly": "yes"}) as server:
        raw, client = server.raw(), server.client()
        raw("DEBUG", "POPULATE", keys, "key", 2000)
        for first, second in (("BGSAVE", "BGREWRITEAOF"), ("BGREWRITEAOF", "BGSAVE")):
            raw("CONFIG", "SET", "rdb-key-save-delay", 300)
            raw(first)
            overwrite(raw, keys)
            raw(second)
            overwrite(raw, keys)
            raw("CONFIG", "SET", "rdb-key-save-delay", 0)

            def nothing_is_held():
                state = client.info("persistence")
                return not state["rdb_bgsave_in_progress"] and not state["aof_rewrite_in_progress"] and \
                    client.info("memory")["lazyfree_pending_objects"] == 0
            wait_for(nothing_is_held)
            assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"


def test_hurry():
    """When half of snapshot-memory-limit is held a save forgets its rate, so that it is done before it would have to be
    given up."""
    with Server(options={"snapshot-memory-limit": "40mb", "rdbcompression": "no"}) as server:
        raw, client = server.raw(), server.client()
        raw("DEBUG", "POPULATE", 15000, "key", 2000)
        raw("CONFIG", "SET", "snapshot-rate-limit", 200000)  # it would take 150 s
        begun = time.monotonic()
        raw("BGSAVE")
        wait_for(lambda: client.info("persistence")["snapshot_current_keys_done"] > 0)
        for i in range(0, 15000, 100):
            raw.pipeline([("SETRANGE", f"key:{k}", 5, "y") for k in range(i, i + 100)])
            if "hurries" in server.text():
                break
        wait_for(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
        assert "hurries" in server.text() and time.monotonic() - begun < 100
        assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
        digest = raw("DEBUG", "DIGEST")
        raw("CONFIG", "SET", "snapshot-rate-limit", 0)
        assert raw("SAVE") == "OK" and raw("DEBUG", "RELOAD", "NOSAVE") == "OK" and raw("DEBUG", "DIGEST") == digest


@KINDS
@pytest.mark.parametrize("words", [("SAVE",), ("SAVE", "NOW"), ("SAVE", "FORCE"), ("NOSAVE",)])
def test_shutdown_under_load(kind, words, tmp_path):
    """SHUTDOWN SAVE, with a background save running, has all that was acknowledged in the file; NOSAVE leaves the old one."""
    server = Server(kind, directory=tmp_path)
    raw = server.raw()
    raw.pipeline([("SET", f"k:{i}", "old") for i in range(200)])
    assert raw("SAVE") == "OK"
    raw("SET", "k:0", "new")
    raw("CONFIG", "SET", "rdb-key-save-delay", 20000)
    writers = Writers(server)
    wait_for(lambda: all(writers.acknowledged))
    assert raw("BGSAVE") == "Background saving started"
    raw("CONFIG", "SET", "rdb-key-save-delay", 0)
    time.sleep(0.1)
    raw.send(raw.encode(("SHUTDOWN", *words)))
    assert server.process.wait(60) == 0
    server.terminate()
    writers.join()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dump.rdb", f"{kind}.log"]
    server = Server(kind, directory=tmp_path)
    client = server.client()
    if words == ("NOSAVE",):
        assert client.dbsize() == 200 and client.get("k:0") == b"old"
    else:
        assert client.get("k:0") == b"new"
        writers.compare(client)
    server.terminate()


def test_functions_and_versions(tmp_path):
    """Libraries of functions cannot be expressed before version 10: the save is refused, says why, and the old file stays. All
    other types than streams can be expressed in each."""
    with Server(directory=tmp_path) as server:
        raw = server.raw()
        raw.pipeline([("SET", "s", "v"), ("RPUSH", "l", 1), ("SADD", "set", "a"), ("ZADD", "z", 1.5, "m"), ("HSET", "h", "f", "v"),
                      ("PFADD", "hll", 1), ("SETBIT", "bits", 100, 1), ("PEXPIRE", "s", 10**9)])
        assert raw("SAVE") == "OK"
        old = (tmp_path / "dump.rdb").read_bytes()
        raw("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
        for version in (7, 9):
            raw("CONFIG", "SET", "rdb-format-version", version)
            reply = raw("SAVE")
            assert reply == f"ERR rdb-format-version {version} cannot express 1 library of functions (needs 10)"
            assert raw("BGSAVE") == "Background saving started"
            wait_for(lambda: server.client().info("persistence")["rdb_last_bgsave_status"] == "err")
            assert "(needs 10)" in server.client().info("persistence")["snapshot_last_error"]
            wait_for(lambda: not server.client().info("persistence")["rdb_bgsave_in_progress"])
            assert (tmp_path / "dump.rdb").read_bytes() == old and not list(tmp_path.glob("temp-*"))
        raw("XADD", "stream", "*", "a", 1)
        raw("CONFIG", "SET", "rdb-format-version", 8)
        raw("FUNCTION", "FLUSH")
        assert raw("SAVE") == "ERR rdb-format-version 8 cannot express 1 stream ('stream', needs 9)"
        raw("DEL", "stream")
        digest = raw("DEBUG", "DIGEST")
        for version in (7, 8, 9, 10):
            raw("CONFIG", "SET", "rdb-format-version", version)
            assert raw("SAVE") == "OK"
            assert raw("DEBUG", "RELOAD", "NOSAVE") == "OK" and raw("DEBUG", "DIGEST") == digest
        # A delta is read by nobody else, and takes all that there is.
        raw("CONFIG", "SET", "rdb-format-version", 7)
        assert raw("SAVE") == "OK"
        raw("XADD", "stream", "1-1", "a", 1)
        raw("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
        digest = raw("DEBUG", "DIGEST")
        taken = server.client().info("persistence")["chain_incrementals_taken"]
        wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL").startswith("Background incremental"))
        wait_for(lambda: server.client().info("persistence")["chain_incrementals_taken"] == taken + 1)
        server.kill()
        server.start()
        raw = server.raw()
        assert raw("DEBUG", "DIGEST") == digest and raw("FCALL", "f", 0) == 1


def test_all_that_cannot_be_expressed_is_listed(tmp_path):
    """Each kind with its number, its first names and the version that it needs; and every key, in the log, up to twenty."""
    with Server(directory=tmp_path) as server:
        raw = server.raw()
        raw("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
        raw("SET", "s", "v")
        raw.pipeline([("SELECT", 3)] + [("XADD", f"stream:{i}", "*", "a", 1) for i in range(22)] + [("SELECT", 0)])
        raw.pipeline([("HSET", "h", "f", "v"), ("HEXPIRE", "h", 1000, "FIELDS", 1, "f")])
        raw("CONFIG", "SET", "rdb-format-version", 8)
        reply = raw("SAVE")
        assert reply.startswith("ERR rdb-format-version 8 cannot express 1 library of functions (needs 10), 22 streams ('stream:")
        assert reply.endswith("..., needs 9), 1 hash with fields that expire ('h', needs 12)")
        text = server.text()
        assert text.count("rdb-format-version 8 has no form for the ") == 20 and "... and for 3 more" in text
        assert "has no form for the hash with fields that expire 'h' in database 0" in text
        assert "' in database 3" in text and not (tmp_path / "dump.rdb").exists()
        raw("CONFIG", "SET", "rdb-format-version", 9)
        assert raw("SAVE") == ("ERR rdb-format-version 9 cannot express 1 library of functions (needs 10), "
                               "1 hash with fields that expire ('h', needs 12)")


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_the_version_is_for_snapshots_alone(preamble, tmp_path):
    """A log is rewritten, and a replica gets its data, by a file, too, whatever version snapshots are written in."""
    options = {"rdb-format-version": 7, "appendonly": "yes", "aof-use-rdb-preamble": preamble, "repl-diskless-sync": "no"}
    with Server(options=options, directory=tmp_path) as server:
        raw = server.raw()
        raw.pipeline([("XADD", "stream", "1-1", "a", 1), ("XGROUP", "CREATE", "stream", "g", 0), ("SADD", "set", "a", 1, "b"),
                      ("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)"),
                      ("HSET", "h", "f", "v"), ("HEXPIRE", "h", 100000, "FIELDS", 1, "f"), ("ZADD", "z", 1.5, "m")])
        digest = raw("DEBUG", "DIGEST")
        assert raw("SAVE").startswith("ERR rdb-format-version 7 cannot express")
        assert raw("BGREWRITEAOF") == "Background append only file rewriting started"
        client = server.client()
        wait_for(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
        with Server(options={"replicaof": ["127.0.0.1", server.port]}) as replica:
            other = replica.raw()
            wait_for(lambda: b"master_link_status:up" in other("INFO", "replication"))
            assert other("DEBUG", "DIGEST") == digest and other("FCALL_RO", "f", 0).startswith("ERR Can not execute")
        server.kill()
        server.start()
        assert server.raw()("DEBUG", "DIGEST") == digest and server.raw()("FCALL", "f", 0) == 1
        client = server.client()
        # Also the first base of a log is none of the user's snapshots.
        assert client.config_set("appendonly", "no") and client.config_set("appendonly", "yes")
        wait_for(lambda: client.info("persistence")["log_state"] == "on")
