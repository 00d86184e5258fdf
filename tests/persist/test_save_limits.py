# SPDX-License-Identifier: BSD-3-Clause
"""snapshot-rate-limit and snapshot-memory-limit hold for whatever reads a frozen version of the data - saves, incremental
ones, a rewrite of the log, a verification, a full resynchronisation - and CONFIG SET changes them while it runs; and
INFO tells how each of them gets on."""
import socket
import time

import pytest

from harness import Raw, Server, wait_for

KEYS, SIZE = 1500, 1000
# At this rate each of them would take more than ten minutes.
SLOW = 2000
PROGRESS = ("phase", "keys_done", "keys_left", "bytes_done", "bytes_left", "eta_ms", "held_bytes")


def state(raw):
    lines = raw("INFO", "persistence").decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def number(raw, field):
    return int(state(raw)[field])


def populated(keys=KEYS, **options):
    server = Server(options={"rdbcompression": "no", **options})
    raw = server.raw()
    assert raw("DEBUG", "POPULATE", keys, "key", SIZE) == "OK"
    return server, raw


def overwrite(raw, count=KEYS):
    raw.pipeline([("SETRANGE", f"key:{i}", 3, "y" * 9) for i in range(count)])


def begin_full(raw, keys=KEYS):
    assert raw("BGSAVE") == "Background saving started"


def begin_incremental(raw, keys=KEYS):
    assert raw("SAVE") == "OK"
    raw("CONFIG", "SET", "snapshot-rate-limit", 0)
    wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL") == "Background incremental snapshot started")
    wait_for(lambda: number(raw, "chain_incremental_in_progress") == 0)
    overwrite(raw, keys)
    raw("CONFIG", "SET", "snapshot-rate-limit", SLOW)
    wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL") == "Background incremental snapshot started")


def begin_rewrite(raw, keys=KEYS):
    assert raw("BGREWRITEAOF") == "Background append only file rewriting started"


# what begins it, the field that tells that it runs, and the beginning of the names of its progress
KINDS = {"full": (begin_full, "rdb_bgsave_in_progress", "snapshot_current"),
         "incremental": (begin_incremental, "chain_incremental_in_progress", "snapshot_current"),
         "rewrite": (begin_rewrite, "aof_rewrite_in_progress", "aof_rewrite_current")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_is_changed_while_it_runs(kind):
    """It goes on slowly, and is done at once when the limit is taken away; meanwhile INFO tells of it."""
    begin, running, names = KINDS[kind]
    server, raw = populated(appendonly="yes" if kind == "rewrite" else "no")
    with server:
        if kind != "incremental":  # which needs others before it
            raw("CONFIG", "SET", "snapshot-rate-limit", SLOW)
        else:
            raw("CONFIG", "SET", "snapshot-rate-limit", 0)
        begin(raw)
        wait_for(lambda: all(int(state(raw).get(names + name, 0)) > 0 for name in ("_keys_done", "_bytes_done")))
        found = state(raw)
        assert found[running] == "1" and found[names + "_phase"] == "write"
        assert all(names + "_" + name in found for name in PROGRESS)
        assert 0 < int(found[names + "_keys_done"]) <= KEYS and int(found["current_save_keys_processed"]) > 0
        assert number(raw, running) == 1
        raw("CONFIG", "SET", "snapshot-rate-limit", "1gb")
        begun = time.monotonic()
        wait_for(lambda: number(raw, running) == 0)
        assert time.monotonic() - begun < KEYS * SIZE / SLOW / 4
        after = state(raw)
        for field in ("rdb_last_bgsave_status", "chain_last_incremental_status", "aof_last_bgrewrite_status"):
            assert after[field] == "ok"

def test_a_rate_is_set_while_it_runs():
    """One that would be done in a second is slowed down."""
    server, raw = populated(**{"snapshot-rate-limit": "3mb"})
    with server:
        assert raw.pipeline([("BGSAVE",), ("CONFIG", "SET", "snapshot-rate-limit", SLOW)]) == ["Background saving started", "OK"]
        time.sleep(1.5)
        assert number(raw, "rdb_bgsave_in_progress") == 1
        assert raw("BGSAVE", "CANCEL") == "Background saving cancelled"
        wait_for(lambda: number(raw, "rdb_bgsave_in_progress") == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_limit_is_set_while_it_runs(kind):
    """It first hurries, then is given up, with the limit as it was set meanwhile in the reason; nothing stays behind."""
    begin, running, names = KINDS[kind]
    keys = 10000  # much more than fits between those who read and the one who writes
    server, raw = populated(keys, appendonly="yes" if kind == "rewrite" else "no")
    with server:
        if kind != "incremental":
            raw("CONFIG", "SET", "snapshot-rate-limit", SLOW)
        raw("CONFIG", "SET", "snapshot-memory-limit", 0, "snapshot-threads", 1)
        begin(raw, keys)
        wait_for(lambda: all(int(state(raw).get(names + name, 0)) > 0 for name in ("_keys_done", "_bytes_done")))
        overwrite(raw, keys)
        wait_for(lambda: number(raw, names + "_held_bytes") > 200000)
        assert "hurries" not in server.text() and number(raw, running) == 1
        raw("CONFIG", "SET", "snapshot-memory-limit", 100000)
        wait_for(lambda: int(state(raw).get(running)) == 0)
        assert "more than half of snapshot-memory-limit: the save hurries" in server.text()
        said = "held more than the 100000 bytes of snapshot-memory-limit"
        found = state(raw)
        if kind == "full":
            assert found["rdb_last_bgsave_status"] == "err" and said in found["snapshot_last_error"]
        elif kind == "incremental":
            assert found["chain_last_incremental_status"] == "err" and said in found["chain_last_incremental_error"]
        else:
            assert found["aof_last_bgrewrite_status"] == "err" and int(found["aof_last_cow_size"]) > 100000
        assert said in server.text() and not list(server.directory.glob("**/temp-*"))
        raw("CONFIG", "SET", "snapshot-memory-limit", "100%", "snapshot-rate-limit", 0)


def test_what_everybody_waits_for_keeps_to_no_rate():
    """SAVE, DEBUG RELOAD and the save before the end."""
    server, raw = populated(**{"snapshot-rate-limit": SLOW})
    begun = time.monotonic()
    assert raw("SAVE") == "OK" and raw("DEBUG", "RELOAD") == "OK"
    with pytest.raises(EOFError):
        raw("SHUTDOWN", "SAVE")
    assert server.process.wait(KEYS * SIZE / SLOW / 4) == 0 and time.monotonic() - begun < KEYS * SIZE / SLOW / 4
    server.stop()


def test_the_rate_of_a_verification_is_changed():
    """HOLDFAST SNAPSHOT VERIFY is done at once when the limit is taken away."""
    server, raw = populated()
    with server:
        assert raw("SAVE") == "OK"
        raw("CONFIG", "SET", "snapshot-rate-limit", SLOW)
        wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", "VERIFY") == "Background verification started")
        time.sleep(0.5)
        assert number(raw, "chain_verify_in_progress") == 1
        raw("CONFIG", "SET", "snapshot-rate-limit", 0)
        begun = time.monotonic()
        wait_for(lambda: number(raw, "chain_verify_in_progress") == 0)
        assert time.monotonic() - begun < KEYS * SIZE / SLOW / 4 and number(raw, "chain_verified_links") == 1


def test_a_slow_replica_is_no_way_around_the_memory_limit():
    """A replica that does not take its full resynchronisation makes the snapshot hold what is overwritten: up to
    snapshot-memory-limit. Then it is cut off, and the server goes on; INFO tells how it gets on."""
    server, raw = populated(**{"repl-diskless-sync": "yes", "repl-diskless-sync-delay": 0, "snapshot-memory-limit": 0,
                               "snapshot-threads": 1})
    with server:
        raw("DEBUG", "POPULATE", 8000, "more", 4000)  # more than sockets take by themselves
        replica = Raw(port=server.port)
        replica.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for command in (("REPLCONF", "listening-port", 1), ("REPLCONF", "capa", "eof", "capa", "psync2")):
            assert replica(*command) == "OK"
        replica.send(Raw.encode(("PSYNC", "?", -1)))
        wait_for(lambda: int(state(raw).get("full_sync_current_bytes_done", 0)) > 0)
        found = state(raw)
        assert found["full_sync_current_phase"] == "send"
        assert all("full_sync_current_" + name in found for name in PROGRESS)
        for i in range(0, 8000, 500):
            raw.pipeline([("SETRANGE", f"more:{k}", 3, "y") for k in range(i, i + 500)])
        wait_for(lambda: number(raw, "full_sync_current_held_bytes") > 1000000)
        assert "hurries" not in server.text()
        raw("CONFIG", "SET", "snapshot-memory-limit", "500kb")
        wait_for(lambda: "full_sync_current_phase" not in state(raw))
        text = server.text()
        assert "A full resynchronisation has failed: its snapshot held more than the 512000 bytes of snapshot-memory-limit" in text
        wait_for(lambda: b"connected_slaves:0" in raw("INFO", "replication"))
        replica.close()
        raw("CONFIG", "SET", "snapshot-memory-limit", "100%")
        with Server(options={"replicaof": ["127.0.0.1", server.port]}) as second:
            other = second.raw()
            wait_for(lambda: b"master_link_status:up" in other("INFO", "replication"))
            assert other("DBSIZE") == KEYS + 8000
