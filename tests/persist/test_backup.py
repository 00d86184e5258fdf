# SPDX-License-Identifier: BSD-3-Clause
"""BACKUP (redis 8.10): START, SEAL, STATUS, LIST, ABORT, CLEANUP, as its documentation describes them. What is sealed
is taken by `holdfast check`, a start, and redis-server."""
import os
import pathlib
import random
import shutil
import subprocess
import threading

import pytest

from harness import BUILD, Error, Server, Simple, wait_for

OK = Simple("OK")


def status(raw):
    reply = raw("BACKUP", "STATUS")
    return dict(zip(reply[::2], reply[1::2]))


def state(raw):
    return status(raw)[b"state"].decode()


def files(raw):
    return [pathlib.Path(p.decode()) for p in raw("BACKUP", "LIST")]


def begin(raw):
    assert raw("BACKUP", "START") == OK
    wait_for(lambda: state(raw) not in ("pending", "snapshotting"))
    assert state(raw) == "incrementing", status(raw)


def info(server, field):
    return server.client().info("persistence")[field]


def holdfast(*args):
    return subprocess.run([str(BUILD / "holdfast"), *map(str, args)], capture_output=True, text=True)


def restored(backup, tmp_path, kind="holdfast"):
    """A server that was started over a copy of the backup."""
    directory = tmp_path / f"restored-{kind}-{random.getrandbits(32)}"
    shutil.copytree(backup, directory / "appendonlydir")
    return Server(kind, options={"appendonly": "yes"}, directory=directory)


@pytest.fixture(params=["no", "yes"])
def logged(request):
    with Server("holdfast", options={"appendonly": request.param}) as s:
        yield s


# Its whole life, with a log and without: what was there at the seal is in it, and nothing later.
def test_life(logged, tmp_path):
    raw = logged.raw()
    backup, log = logged.directory / "backupdir", logged.directory / "appendonlydir"
    had_log = log.exists()
    assert status(raw) == {b"state": b"idle", b"error": b"", b"start_time": b"0", b"end_time": b"0"}
    assert raw("BACKUP", "LIST") == [] and info(logged, "backup_in_progress") == 0
    raw.pipeline([("SET", f"k{i}", i) for i in range(1000)])
    begin(raw)
    assert info(logged, "backup_in_progress") == 1
    [base] = files(raw)
    assert base.is_absolute() and base.parent == backup.resolve() and base.name.endswith(".base.rdb") and base.exists()
    raw("SET", "k3", "changed")
    raw("DEL", "k4")
    raw("SELECT", 5)
    raw("RPUSH", "list", *range(100))
    assert raw("BACKUP", "START") == Error("ERR A backup is already in progress")
    assert raw("BACKUP", "CLEANUP") == Error("ERR A backup is in progress: BACKUP ABORT ends it")
    assert raw("BACKUP", "SEAL") == OK
    raw("SET", "later", 1)
    now = status(raw)
    assert now[b"state"] == b"sealed" and now[b"error"] == b"" and 0 < int(now[b"start_time"]) <= int(now[b"end_time"])
    assert info(logged, "backup_in_progress") == 0
    found = files(raw)
    assert found[0] == base and all(f.name.endswith(".incr.aof") for f in found[1:-1]) and len(found) == 3
    assert found[-1].name == "appendonly.aof.manifest" and all(f.exists() for f in found)
    assert sorted(os.listdir(backup)) == sorted(f.name for f in found)
    if not had_log:
        wait_for(lambda: info(logged, "aof_enabled") == 0 and not log.exists())
    raw("SET", "later", 2)
    assert holdfast("check", backup).returncode == 0
    assert holdfast("check", base).returncode == 0
    for kind in ("holdfast", "redis"):
        with restored(backup, tmp_path, kind) as copy:
            there = copy.raw()
            assert there("DBSIZE") == 999 and there("MGET", "k3", "k4", "k999") == [b"changed", None, b"999"]
            there("SELECT", 5)
            assert there("LLEN", "list") == 100 and there("EXISTS", "later") == 0
    assert raw("BACKUP", "START") == Error("ERR There is a sealed backup: BACKUP CLEANUP removes it")
    assert raw("BACKUP", "ABORT") == Error("ERR No backup in progress")
    assert raw("BACKUP", "CLEANUP") == OK and os.listdir(backup) == [] and state(raw) == "idle"
    assert raw("BACKUP", "CLEANUP") == OK and raw("BACKUP", "SEAL") == Error("ERR No backup ready to seal")
    # And the server's own log goes on.
    if had_log:
        logged.terminate()
        logged.start()
        raw = logged.raw()
        assert raw("DBSIZE") == 999 and raw("GET", "k3") == b"changed"
    # Another one.
    begin(raw)
    assert raw("BACKUP", "SEAL") == OK and len(files(raw)) == 3


# What clients write while a backup is made and sealed: all that was acknowledged before the seal is in it.
def test_under_load(logged, tmp_path, seed):
    counts, stop = [0] * 4, threading.Event()

    def write(n):
        raw = logged.raw()
        while not stop.is_set():
            raw("RPUSH", f"list{n}", counts[n])
            counts[n] += 1

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    try:
        raw = logged.raw()
        begin(raw)
        wait_for(lambda: min(counts) > 50)
        before = list(counts)
        assert raw("BACKUP", "SEAL") == OK
        after = [c + 1 for c in counts]
        goal = [c + 50 for c in counts]
        wait_for(lambda: all(c > g for c, g in zip(counts, goal)))
    finally:
        stop.set()
        for t in threads:
            t.join()
    with restored(logged.directory / "backupdir", tmp_path) as copy:
        there = copy.raw()
        for n in range(4):
            items = there("LRANGE", f"list{n}", 0, -1)
            assert items == [b"%d" % i for i in range(len(items))] and before[n] <= len(items) <= after[n]


# ABORT, a directory that is in use, and what a log that ends does to a backup.
def test_failures(server):
    raw = server.raw()
    backup = server.directory / "backupdir"
    assert raw("BACKUP", "ABORT") == Error("ERR No backup in progress")
    backup.mkdir()
    (backup / "stale").write_text("x")
    assert raw("BACKUP", "START") == Error("ERR Backup directory 'backupdir' is not empty") and state(raw) == "idle"
    (backup / "stale").unlink()
    begin(raw)
    assert raw("BACKUP", "ABORT") == OK and os.listdir(backup) == []
    assert state(raw) == "failed" and status(raw)[b"error"] == b"aborted by user" and raw("BACKUP", "LIST") == []
    wait_for(lambda: not (server.directory / "appendonlydir").exists())
    raw("CONFIG", "SET", "appendonly", "yes")
    wait_for(lambda: info(server, "log_state") == "on")
    begin(raw)
    assert raw("CONFIG", "SET", "appendonly", "no") == OK
    assert state(raw) == "failed" and status(raw)[b"error"] == b"appendonly is stopped" and os.listdir(backup) == []
    wait_for(lambda: info(server, "log_state") == "off")
    raw("BACKUP", "CLEANUP")
    assert state(raw) == "idle" and status(raw)[b"error"] == b""
    # What was in the log's directory before is not removed.
    begin(raw)
    assert raw("BACKUP", "SEAL") == OK
    wait_for(lambda: info(server, "log_state") == "off")
    assert (server.directory / "appendonlydir" / "appendonly.aof.manifest").exists()
    assert raw("BACKUP", "HELP")[0].startswith("BACKUP <subcommand>")
    assert raw("BACKUP") == Error("ERR wrong number of arguments for 'backup' command")
    raw("HELLO", 3)
    assert raw("BACKUP", "STATUS")[1][0] == (b"state", b"sealed")


# No rewrite takes the files away; one that was asked for comes behind the seal, and goes its way.
def test_rewrites_wait(logged):
    raw = logged.raw()
    raw("SET", "k", "v")
    begin(raw)
    rewrites = info(logged, "aof_rewrites")
    assert b"scheduled" in raw("BGREWRITEAOF").encode()
    raw("SET", "k", "w")
    assert info(logged, "aof_rewrites") == rewrites and info(logged, "aof_rewrite_scheduled") == 1
    assert raw("BACKUP", "SEAL") == OK
    wait_for(lambda: info(logged, "aof_rewrites") > rewrites and info(logged, "aof_rewrite_in_progress") == 0)
    assert all(f.exists() for f in files(raw)) and holdfast("check", logged.directory / "backupdir").returncode == 0


# A rewrite that runs already gives its base; and appendonly, switched on meanwhile, stays on.
def test_beside_a_rewrite(logged, tmp_path):
    raw = logged.raw()
    raw.pipeline([("SET", f"k{i}", i) for i in range(100)])
    raw("CONFIG", "SET", "rdb-key-save-delay", 5000)
    raw("BGREWRITEAOF")
    wait_for(lambda: info(logged, "aof_rewrite_in_progress") == 1)
    assert raw("BACKUP", "START") == OK and state(raw) in ("pending", "snapshotting")
    assert raw("BACKUP", "LIST") == [] and raw("BACKUP", "SEAL") == Error("ERR No backup ready to seal")
    raw("SET", "k5", "new")
    raw("CONFIG", "SET", "rdb-key-save-delay", 0)
    wait_for(lambda: state(raw) == "incrementing")
    raw("CONFIG", "SET", "appendonly", "yes")
    raw("SET", "k6", "new")
    assert raw("BACKUP", "SEAL") == OK and info(logged, "aof_enabled") == 1
    with restored(logged.directory / "backupdir", tmp_path) as copy:
        assert copy.raw()("MGET", "k5", "k6") == [b"new", b"new"]
    raw("SET", "k7", "new")
    logged.options["appendonly"] = "yes"
    logged.terminate()
    logged.start()
    assert logged.raw()("MGET", "k5", "k6", "k7") == [b"new"] * 3


# In a transaction: the base has it whole. A seal cannot divide one.
def test_transactions(logged, tmp_path):
    raw = logged.raw()
    for line in (("MULTI",), ("SET", "a", 1), ("BACKUP", "START"), ("SET", "b", 2)):
        raw(*line)
    assert raw("EXEC") == [OK, OK, OK]
    wait_for(lambda: state(raw) == "incrementing")
    for line in (("MULTI",), ("SET", "c", 1), ("BACKUP", "SEAL"), ("SET", "d", 2)):
        raw(*line)
    assert raw("EXEC")[1] == Error("ERR BACKUP SEAL cannot stand between the writes of a transaction")
    assert raw("BACKUP", "SEAL") == OK
    with restored(logged.directory / "backupdir", tmp_path) as copy:
        assert copy.raw()("MGET", "a", "b", "c", "d") == [b"1", b"2", b"1", b"2"]


# A sealed one goes by itself after backup-sealed-ttl; one that is not sealed goes with the process.
def test_ends_of_a_backup(server):
    raw = server.raw()
    backup = server.directory / "backupdir"
    raw("SET", "k", "v")
    begin(raw)
    assert raw("BACKUP", "SEAL") == OK and len(os.listdir(backup)) == 3
    assert raw("CONFIG", "SET", "backup-sealed-ttl", 1) == OK
    wait_for(lambda: state(raw) == "idle" and os.listdir(backup) == [])
    begin(raw)
    assert len(os.listdir(backup)) == 1
    server.terminate()
    assert os.listdir(backup) == [] and not (server.directory / "appendonlydir").exists()


# The name is one of a directory in `dir`.
def test_directive():
    for name in ("/tmp/x", "a/b", "", ".."):
        done = subprocess.run([str(BUILD / "holdfast-server"), "--port", "0", "--backupdirname", name],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and "backupdirname" in done.stdout + done.stderr
