# SPDX-License-Identifier: BSD-3-Clause
"""SAVE and BGSAVE as commands, by schedule and at the end, and what happens when they fail; most of it
on redis-server too, so that the expectations are Redis's own."""
import os
import signal
import time

import pytest

from harness import Error, Server, wait_for
from test_log import Disk, library  # noqa: F401 (library is a fixture)

KINDS = pytest.mark.parametrize("kind", ["holdfast", "redis"])
# Also root must not write where the file modes forbid it.
OBEY_MODES = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
RUNNING = "ERR Background save already in progress"


def info(server):
    return server.client().info("persistence")


def wait_saved(server):
    wait_for(lambda: info(server)["rdb_bgsave_in_progress"] == 0)


def slow_saves(raw, keys=100, us=10000):
    """Give it keys, and let each take a while to be saved."""
    raw.pipeline([("SET", f"key:{i}", f"value {i}") for i in range(keys)])
    assert raw("CONFIG", "SET", "rdb-key-save-delay", us) == "OK"


@KINDS
def test_info_of_saves(kind):
    """What LASTSAVE and INFO say before, while and after data is saved."""
    with Server(kind) as server:
        raw = server.raw()
        begin = info(server)
        assert begin["rdb_changes_since_last_save"] == 0 and begin["rdb_bgsave_in_progress"] == 0
        assert begin["rdb_last_bgsave_status"] == "ok" and begin["rdb_last_bgsave_time_sec"] == -1
        assert begin["rdb_current_bgsave_time_sec"] == -1
        raw.pipeline([("SET", "a", 1), ("RPUSH", "b", 1, 2, 3), ("GET", "a"), ("DEL", "c")])
        assert info(server)["rdb_changes_since_last_save"] == 4
        first = raw("LASTSAVE")
        assert abs(first - time.time()) < 60
        time.sleep(1.1)
        assert raw("SAVE") == "OK"
        after = info(server)
        assert after["rdb_changes_since_last_save"] == 0 and after["rdb_last_bgsave_time_sec"] == -1
        assert after["rdb_last_save_time"] == raw("LASTSAVE") > first
        slow_saves(raw, keys=80, us=40000)
        assert raw("BGSAVE") == "Background saving started"
        if kind == "holdfast": # redis-server's child tells its progress once a second
            wait_for(lambda: info(server)["current_save_keys_processed"] > 0)
            assert info(server)["current_save_keys_processed"] < 82
        raw("SET", "new", 1)
        during = info(server)
        assert during["rdb_bgsave_in_progress"] == 1 and during["rdb_current_bgsave_time_sec"] >= 0
        assert during["current_save_keys_total"] == 82
        wait_saved(server)
        after = info(server)
        assert after["rdb_last_bgsave_status"] == "ok" and after["rdb_last_bgsave_time_sec"] >= 0
        # What was changed while it was saved is not saved.
        assert after["rdb_changes_since_last_save"] == 1
        assert after["current_save_keys_total"] == 0


def test_info_has_redis_s_fields():
    """Every field of redis-server 7.0's section is there."""
    with Server("holdfast") as ours, Server("redis") as theirs:
        assert set(info(theirs)) <= set(info(ours))


@KINDS
def test_one_save_at_a_time(kind):
    with Server(kind) as server:
        raw = server.raw()
        slow_saves(raw, us=200000)
        assert raw("BGSAVE", "SCHEDULE") == "Background saving started"
        assert raw("BGSAVE") == RUNNING
        assert raw("BGSAVE", "SCHEDULE") == RUNNING
        assert raw("SAVE") == RUNNING
        assert raw("BGSAVE", "NOW") == "ERR syntax error"
        assert raw("BGSAVE", "SCHEDULE", "x") == "ERR syntax error"
        assert raw("LASTSAVE") <= time.time()
        # Nobody waits for it meanwhile.
        begin = time.monotonic()
        assert raw("SET", "k", "v") == "OK" and raw("DBSIZE") == 101
        assert time.monotonic() - begin < 10


@KINDS
def test_bgsave_in_a_transaction(kind, tmp_path):
    """Begins after the transaction, so that all or nothing of it is saved."""
    server = Server(kind, directory=tmp_path)
    raw = server.raw()
    assert raw.pipeline([("MULTI",), ("SET", "a", 1), ("BGSAVE",), ("SET", "b", 1), ("EXEC",)])[-1] == \
        ["OK", "Background saving scheduled", "OK"]
    wait_for((tmp_path / "dump.rdb").exists)
    wait_saved(server)
    server.kill()
    with Server(kind, directory=tmp_path) as again:
        assert sorted(again.client().keys()) == [b"a", b"b"]


def test_save_point_of_a_second(tmp_path):
    """`save 1 1`: saved by itself, again and again; and not when nothing has changed."""
    with Server("holdfast", {"save": "1 1"}, directory=tmp_path) as server:
        client = server.client()
        for value in (1, 2):
            before = client.lastsave()
            client.set("k", value)
            wait_for(lambda: client.lastsave() > before and info(server)["rdb_changes_since_last_save"] == 0)
        written = (tmp_path / "dump.rdb").stat().st_mtime_ns
        time.sleep(2.2)
        assert (tmp_path / "dump.rdb").stat().st_mtime_ns == written
        # Set at run time: none, then a faster one.
        client.config_set("save", "")
        client.set("k", 3)
        time.sleep(2.2)
        assert info(server)["rdb_changes_since_last_save"] == 1
        client.config_set("save", "1000 1 1 1")
        wait_for(lambda: info(server)["rdb_changes_since_last_save"] == 0)


@KINDS
def test_directory_not_writable(kind, tmp_path):
    """A save that fails is told; writes are refused until one succeeds; the old file stays."""
    server = Server(kind, {"save": "1000 1000"}, directory=tmp_path, prefix=OBEY_MODES)
    try:
        raw = server.raw()
        raw("SET", "k", 1)
        assert raw("SAVE") == "OK"
        old = (tmp_path / "dump.rdb").read_bytes()
        tmp_path.chmod(0o555)
        raw("SET", "k", 2)
        # Whoever calls SAVE sees it fail; nothing else is concluded from it.
        assert raw("SAVE").startswith("ERR")
        assert info(server)["rdb_last_bgsave_status"] == "ok"
        assert raw("SET", "k", 3) == "OK"
        late = server.raw()
        late.pipeline([("MULTI",), ("SET", "k", 4)])
        reading = server.raw()
        reading.pipeline([("MULTI",), ("GET", "k")])
        assert raw("BGSAVE") == "Background saving started"
        wait_for(lambda: info_any(raw)["rdb_last_bgsave_status"] == "err")
        assert info_any(raw)["rdb_changes_since_last_save"] == 2
        misconf = raw("SET", "k", 5)
        assert isinstance(misconf, Error) and misconf.startswith(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.")
        assert raw("DEL", "k") == raw("PING") == raw("FLUSHALL") == misconf
        assert late("EXEC") == "EXECABORT Transaction discarded because of: " + misconf
        assert reading("EXEC") == [b"3"]
        assert raw.pipeline([("MULTI",), ("SET", "k", 5), ("EXEC",)]) == \
            ["OK", misconf, "EXECABORT Transaction discarded because of previous errors."]
        assert raw("GET", "k") == b"3" and raw("ECHO", "x") == b"x"
        for name, value, usual in (("stop-writes-on-bgsave-error", "no", "yes"), ("save", "", "1000 1000")):
            raw("CONFIG", "SET", name, value)
            assert raw("SET", "k", 6) == "OK"
            raw("CONFIG", "SET", name, usual)
            assert raw("SET", "k", 7) == misconf
        # It does not end by itself what it cannot save.
        assert raw("SHUTDOWN") == "ERR Errors trying to SHUTDOWN. Check logs."
        complaint = "the server goes on" if kind == "holdfast" else "can't exit"
        tried = server.text().count(complaint)
        assert tried > 0
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.text().count(complaint) > tried)
        time.sleep(0.1)
        assert raw("GET", "k") == b"6"
        assert (tmp_path / "dump.rdb").read_bytes() == old
        tmp_path.chmod(0o755)
        assert raw("BGSAVE") == "Background saving started"
        wait_for(lambda: info_any(raw)["rdb_last_bgsave_status"] == "ok")
        assert raw("SET", "k", 8) == "OK" and raw("PING") == "PONG"
        assert [p.name for p in tmp_path.iterdir() if p.suffix != ".log"] == ["dump.rdb"]
        assert server.terminate() == 0
    finally:
        tmp_path.chmod(0o755)
        server.kill()
    with Server(kind, directory=tmp_path) as again:
        assert again.client().get("k") == b"8"


def info_any(raw):
    """INFO persistence on a connection that is open: a new one would be asked for a PING."""
    text = raw("INFO", "persistence").decode()
    fields = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    return {name: int(value) if value.lstrip("-").isdigit() else value for name, value in fields.items()}


def test_target_cannot_be_replaced(tmp_path):
    """When the last step fails, the rename, no temporary file is left behind."""
    (tmp_path / "dump.rdb").mkdir()
    (tmp_path / "dump.rdb" / "x").touch()
    server = Server(directory=tmp_path, options={"dbfilename": "good.rdb", "enable-protected-configs": "yes"})
    raw = server.raw()
    raw("SET", "k", 1)
    raw("CONFIG", "SET", "dbfilename", "dump.rdb")
    assert raw("SAVE").startswith("ERR ")
    raw("BGSAVE")
    wait_for(lambda: info_any(raw)["rdb_last_bgsave_status"] == "err")
    # Without save points nothing was promised: writes go on.
    assert raw("SET", "k", 2) == "OK"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dump.rdb", "holdfast.log"]
    server.terminate()


def test_leftovers_are_removed(tmp_path):
    """Temporary files of a process that was killed go at the next start; other files stay."""
    for name in ("temp-123-1.rdb", "temp-99999-12.rdb", "temp-sync-7.rdb", "temp-feed-7.rdb", "dump.rdb.chain.tmp-7",
                 "temp-mine.rdb", "other.rdb"):
        (tmp_path / name).write_bytes(b"REDIS0010")
    with Server(directory=tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == ["holdfast.log", "other.rdb", "temp-mine.rdb"]


def test_kill_while_saving(tmp_path):
    """kill -9 in the middle of a background save: the file of the last one is loaded, and what the
    killed one had written is removed."""
    server = Server(directory=tmp_path)
    raw = server.raw()
    slow_saves(raw, keys=2000, us=0)
    raw("SET", "generation", "old")
    assert raw("SAVE") == "OK"
    # Large values, so that much of the new file has been written when it ends.
    raw.pipeline([("SET", f"big:{i}", os.urandom(100000)) for i in range(100)])
    raw("SET", "generation", "new")
    raw("CONFIG", "SET", "rdb-key-save-delay", 10000)
    assert raw("BGSAVE") == "Background saving started"
    partial = lambda: [p for p in tmp_path.iterdir() if p.name.startswith("temp-")]
    wait_for(lambda: partial() and partial()[0].stat().st_size > 0)
    assert info(server)["rdb_bgsave_in_progress"] == 1
    server.kill()
    assert len(partial()) == 1
    with Server(directory=tmp_path) as again:
        assert again.client().get("generation") == b"old"
        assert again.client().dbsize() == 2001
        assert not partial()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_saving(tmp_path, number):
    """The running save is given up for one of what is there now."""
    server = Server(directory=tmp_path, options={"save": "1000 1"})
    raw = server.raw()
    slow_saves(raw, keys=100, us=1000000)
    raw("SET", "k", "old")
    raw("BGSAVE")
    raw("SET", "k", "new")
    raw("CONFIG", "SET", "rdb-key-save-delay", 0)
    assert server.terminate(number, seconds=50) == 0
    with Server(directory=tmp_path) as again:
        assert again.client().get("k") == b"new"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["dump.rdb", "holdfast.log"]


@KINDS
def test_shutdown_nosave_while_saving(kind, tmp_path):
    """Nothing is saved, and nothing is left of the save that ran."""
    server = Server(kind, directory=tmp_path, options={"save": "1000 1"})
    raw = server.raw()
    slow_saves(raw, keys=100, us=1000000)
    raw("BGSAVE")
    raw.send(raw.encode(("SHUTDOWN", "NOSAVE")))
    assert server.process.wait(50) == 0
    server.terminate()
    assert [p.name for p in tmp_path.iterdir()] == [f"{kind}.log"]


@KINDS
def test_shutdown_force(kind, tmp_path):
    """SHUTDOWN FORCE ends it even though saving fails."""
    server = Server(kind, directory=tmp_path, options={"save": "1000 1"}, prefix=OBEY_MODES)
    raw = server.raw()
    raw("SET", "k", 1)
    tmp_path.chmod(0o555)
    assert raw("SHUTDOWN", "SAVE").startswith("ERR Errors trying to SHUTDOWN")
    raw.send(raw.encode(("SHUTDOWN", "FORCE")))
    assert server.process.wait(60) == 0
    tmp_path.chmod(0o755)
    server.terminate()
    assert not (tmp_path / "dump.rdb").exists()


def test_the_end_waits_for_a_disk_that_hangs(library, tmp_path):  # noqa: F811
    """Without a log the save at the end is all that keeps what was changed, so it is waited for, which the log says: a
    second SIGTERM changes nothing of that. SIGINT then is the way out, and leaves the file of before."""
    options = {"appendonly": "no", "save": "3600 1", "shutdown_timeout": "1"}
    for number, last in [(1, signal.SIGTERM), (2, signal.SIGINT)]:
        with Disk(library, tmp_path, **options) as disk:
            server, raw = disk.server, disk.server.raw()
            assert raw("GET", "a") == (b"1" if number == 2 else None)
            assert raw("SET", "a", number) == "OK"
            disk.say("hang-rdb")
            said = server.text().count("which has not answered for")
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: server.text().count("which has not answered for") > said)
            server.process.send_signal(last)
            if last == signal.SIGTERM:
                time.sleep(0.3)
                assert server.process.poll() is None
                disk.say("")
            assert server.process.wait(60) == (0 if last == signal.SIGTERM else 1)
    with Server(directory=tmp_path, options={"save": "3600 1"}) as server:
        assert server.client().get("a") == b"1"
