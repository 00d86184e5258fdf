# SPDX-License-Identifier: BSD-3-Clause
"""While the server loads: what clients are told, and how far it is. And DEBUG RELOAD."""
import time

import pytest
import redis

import data
from harness import Error, Server, free_port, wait_for

KEYS = 1500


def make_file(tmp_path, kind="holdfast"):
    with Server(kind, directory=tmp_path) as server:
        pipe = server.client().pipeline(transaction=False)
        for i in range(KEYS):
            pipe.set(f"key:{i}", "v" * 100)
        pipe.execute()
        server.client().save()


def start_slowly(tmp_path, **options):
    """A server that takes some seconds to load the file."""
    options = {"key-load-delay": "3000", **options}
    server = Server(directory=tmp_path, options=options, wait=False)
    end = time.monotonic() + 60
    while True:
        try:
            assert server.client().ping()
            return server
        except redis.exceptions.BusyLoadingError:
            return server
        except redis.exceptions.ConnectionError:
            assert time.monotonic() < end, "the server does not listen"
            time.sleep(0.02)


# Keys are refused with -LOADING, INFO is answered and its fields advance, by the plain way and by
# threads, with an index and without; in the end everything is there.
@pytest.mark.parametrize("kind,threads", [("holdfast", "0"), ("holdfast", "1"), ("redis", "1")])
def test_progress(tmp_path, kind, threads):
    make_file(tmp_path, kind)
    server = start_slowly(tmp_path, **{"load-threads": threads})
    client = server.client()
    seen, refused = [], 0
    while True:
        info = client.info("persistence")
        if not info["loading"]:
            break
        assert info["async_loading"] == 0
        assert info["loading_start_time"] > 1e9
        assert info["loading_loaded_bytes"] <= info["loading_total_bytes"]
        assert info["loading_eta_seconds"] >= 0
        if info["loading_total_bytes"]:
            assert info["loading_total_bytes"] == (tmp_path / "dump.rdb").stat().st_size
            seen.append((info["loading_loaded_bytes"], info["loading_loaded_perc"]))
        try:
            client.get("key:1")
        except redis.exceptions.BusyLoadingError:
            refused += 1
        time.sleep(0.05)
    assert refused > 0 and len(set(seen)) > 1
    assert seen == sorted(seen)
    assert client.dbsize() == KEYS
    info = client.info("persistence")
    assert info["rdb_last_load_keys_loaded"] == KEYS
    assert "loading_start_time" not in info
    server.terminate()
    assert f"Loaded {KEYS} keys" in server.text()


# SHUTDOWN ends a server that is loading at once, and the file stays as it is.
@pytest.mark.parametrize("threads", ["0", "1"])
def test_shutdown_while_loading(tmp_path, threads):
    make_file(tmp_path)
    before = (tmp_path / "dump.rdb").read_bytes()
    server = start_slowly(tmp_path, **{"load-threads": threads, "key-load-delay": "20000",
                                       "save": "3600 1"})
    raw = server.raw()
    raw.send(raw.encode(("SHUTDOWN", "NOSAVE")))
    assert server.process.wait(30) == 0
    server.terminate()
    assert (tmp_path / "dump.rdb").read_bytes() == before


# The same data, whichever way it was loaded: Holdfast's file and redis-server's, with threads and
# without.
@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_threads_load_the_same(tmp_path, kind):
    with Server(kind, directory=tmp_path) as server:
        data.fill(server.raw())
        held = data.contents(server.raw())
        server.client().save()
    for threads in ("0", "1", "4"):
        with Server(directory=tmp_path, options={"load-threads": threads}) as again:
            data.assert_same(held, data.contents(again.raw()))


# DEBUG RELOAD: forgets and loads; NOFLUSH refuses keys that are there and changes nothing; with MERGE
# they are taken from the file, and the others stay.
def test_debug_reload(tmp_path):
    with Server(directory=tmp_path, options={"enable-debug-command": "yes"}) as server:
        c = server.client()
        c.set("a", "saved")
        c.rpush("b", 1, 2, 3)
        c.execute_command("DEBUG", "RELOAD")
        assert c.get("a") == b"saved" and c.lrange("b", 0, -1) == [b"1", b"2", b"3"]
        c.set("a", "changed")
        c.set("c", "only in memory")
        with pytest.raises(redis.exceptions.ResponseError, match="Error trying to load the RDB"):
            c.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH")
        assert c.get("a") == b"changed" and c.dbsize() == 3
        c.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE")
        assert c.get("a") == b"saved" and c.get("c") == b"only in memory" and c.dbsize() == 3
        c.delete("a", "b")
        c.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH")
        assert c.get("a") == b"saved" and c.dbsize() == 3
        c.execute_command("DEBUG", "RELOAD", "NOSAVE")
        assert c.dbsize() == 2 and not c.exists("c")
        with pytest.raises(redis.exceptions.ResponseError,
                           match="only supports the MERGE, NOFLUSH and NOSAVE options"):
            c.execute_command("DEBUG", "RELOAD", "OTHER")


# Others are answered while DEBUG RELOAD loads, as redis-server does: keys are refused with -LOADING, INFO is answered, a
# transaction that was queued before is given up. Who has asked gets what it sent behind it in order.
@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_others_during_reload(tmp_path, kind):
    options = {"enable-debug-command": "yes"}
    if kind == "redis":
        # It looks at its clients between pieces of the file.
        options["loading-process-events-interval-bytes"] = "1024"
    with Server(kind, directory=tmp_path, options=options) as server:
        pipe = server.client().pipeline(transaction=False)
        for i in range(KEYS):
            pipe.set(f"key:{i}", "v" * 100)
        pipe.execute()
        other, client, queued = server.raw(), server.raw(), server.raw()
        digest = client("DEBUG", "DIGEST")
        assert queued("MULTI") == "OK" and queued("SET", "key:1", "x") == "QUEUED"
        assert other("CONFIG", "SET", "key-load-delay", 3000) == "OK"
        for command in [("DEBUG", "RELOAD"), ("DEBUG", "DIGEST"), ("GET", "key:1")]:
            client.send(client.encode(command))
        refused, loading = None, False
        end = time.monotonic() + 60
        while refused is None:
            assert time.monotonic() < end
            reply = other("GET", "key:1")
            refused = reply if isinstance(reply, Error) else None
        assert refused == "LOADING Redis is loading the dataset in memory"
        loading = b"loading:1" in other("INFO", "persistence")
        assert other("SET", "key:1", "x") == refused
        assert loading and other("CLIENT", "SETNAME", "a") == "OK"
        aborted = queued("EXEC")
        assert aborted == "EXECABORT Transaction discarded because of: " + refused
        assert other("CONFIG", "SET", "key-load-delay", 0) == "OK"
        assert [client.read(), client.read(), client.read()] == ["OK", digest, b"v" * 100]
        assert other("GET", "key:1") == b"v" * 100
        assert b"loading:0" in other("INFO", "persistence")


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_a_replica_keeps_what_has_expired(tmp_path, kind):
    """A primary drops expired keys while it loads. A replica does not, neither from a file nor, Holdfast, from an
    incremental snapshot: they are its primary's to remove, whose next command may make one stay."""
    server = Server(kind, directory=tmp_path)
    raw = server.raw()
    assert raw("DEBUG", "SET-ACTIVE-EXPIRE", 0) == "OK"
    raw.pipeline([("SET", "stays", 1), ("SET", "full", 1, "PX", 1)])
    assert raw("SAVE") == "OK"
    if kind == "holdfast":
        wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL") == "Background incremental snapshot started")
        wait_for(lambda: b"chain_incrementals_taken:1" in raw("INFO", "persistence"))
    raw("SET", "delta", 1, "PX", 1)
    if kind == "holdfast":
        wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL") == "Background incremental snapshot started")
        wait_for(lambda: b"chain_incrementals_taken:2" in raw("INFO", "persistence"))
    else:
        assert raw("SAVE") == "OK"
    server.kill()
    time.sleep(0.01)
    nobody = free_port()
    server.options["replicaof"] = [f"127.0.0.1 {nobody}"] if kind == "redis" else ["127.0.0.1", nobody]
    server.start()
    raw = server.raw()
    assert raw("DBSIZE") == 3 and raw.pipeline([("GET", "full"), ("GET", "delta"), ("GET", "stays")]) == [None, None, b"1"]
    assert raw("DEBUG", "RELOAD", "NOSAVE") == "OK" and raw("DBSIZE") == 3
    server.kill()
    del server.options["replicaof"]
    server.start()
    assert server.raw()("DBSIZE") == 1 and b"rdb_last_load_keys_expired:2" in server.raw()("INFO", "persistence")
    server.stop()
