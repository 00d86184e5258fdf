# SPDX-License-Identifier: BSD-3-Clause
"""The rewrite of the log: BGREWRITEAOF and what begins one by itself; what is there afterwards, for
Holdfast and for redis-server; and what is left when it does not come to its end."""
import random
import re
import subprocess
import threading
import time

import pytest

from log_bytes import Log, write_directory
from harness import BUILD, Error, Server, start_again, wait_for
from test_log import Disk, fill, info, library, silent  # noqa: F401 (library is a fixture)

ON = {"appendonly": "yes", "appendfsync": "always"}


def log_files(directory):
    return sorted(p.name for p in (directory / "appendonlydir").iterdir())


def manifest(directory):
    lines = (directory / "appendonlydir" / "appendonly.aof.manifest").read_text().splitlines()
    return [(line.split()[1], line.split()[5]) for line in lines if line.startswith("file ")]


def rewrite(raw):
    """A whole rewrite, from the command to its end."""
    count = int(info(raw)["aof_rewrites"])
    reply = raw("BGREWRITEAOF")
    assert reply == "Background append only file rewriting started", reply
    wait_for(lambda: info(raw)["aof_rewrite_in_progress"] == "0")
    fields = info(raw)
    assert fields["aof_last_bgrewrite_status"] == "ok" and int(fields["aof_rewrites"]) == count + 1


class Writers:
    """Clients that write all kinds of commands until they are told to stop."""

    def __init__(self, server, count=2):
        self.stop, self.error, self.rounds = False, None, 0
        seed = random.randrange(1 << 30)
        print("seed", seed)
        self.threads = [threading.Thread(target=self.run, args=(server, seed + i)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, server, seed):
        client = server.client(db=seed % 3)
        while not self.stop:
            try:
                fill(client, seed)
                self.rounds += 1
            except Exception as e:  # told by end()
                self.error = e
                return
            seed += 10
            time.sleep(0.2)  # else all the time goes into replaying what they have written

    def end(self):
        self.stop = True
        for thread in self.threads:
            thread.join()
        assert self.error is None, self.error


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_under_writes(tmp_path, policy):
    """Rewrites, saves and incremental snapshots at once while clients write: after kill -9 everything
    is there, and redis-server loads the directory, too."""
    options = {"appendonly": "yes", "appendfsync": policy, "rdb-key-save-delay": 200, "snapshot-chain-max": 4,
               "auto-aof-rewrite-percentage": 0}
    server = Server(options=options, directory=tmp_path)
    raw = server.raw()
    writers = Writers(server)
    for i in range(3):
        wait_for(lambda: writers.rounds > i or writers.error)
        # Together, so that the first one has not ended when the second one is asked for.
        assert raw.pipeline([("BGREWRITEAOF",)] * 2) == ["Background append only file rewriting started",
                                                         "ERR Background append only file rewriting already in progress"]
        if i == 0:
            assert raw("BGSAVE") == "Background saving started"
        if i == 2:
            wait_for(lambda: info(raw)["rdb_bgsave_in_progress"] == "0")
            wait_for(lambda: "started" in raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL"))
        wait_for(lambda: info(raw)["aof_rewrite_in_progress"] == "0")
        assert info(raw)["aof_last_bgrewrite_status"] == "ok"
    writers.end()
    wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
    start_again(server)
    digest = server.raw()("DEBUG", "DIGEST")
    server.terminate()
    with Server("redis", options={"appendonly": "yes"}, directory=tmp_path) as redis:
        assert redis.raw()("DEBUG", "DIGEST") == digest


def test_what_stays(tmp_path):
    """The generation before stays as history, the one before that goes; what the manifest names is
    there, and nothing else."""
    server = Server(options={**ON, "repl-log-history": "0"}, directory=tmp_path)
    raw = server.raw()
    fill(server.client(), 1)
    before = int(info(raw)["aof_current_size"])
    assert manifest(tmp_path) == [("appendonly.aof.1.base.rdb", "b"), ("appendonly.aof.1.incr.aof", "i")]
    rewrite(raw)
    first = [("appendonly.aof.2.base.rdb", "b"), ("appendonly.aof.1.base.rdb", "h"), ("appendonly.aof.1.incr.aof", "h"),
             ("appendonly.aof.2.incr.aof", "i")]
    assert sorted(manifest(tmp_path)) == sorted(first)
    fields = info(raw)
    assert int(fields["aof_current_size"]) < before
    assert int(fields["aof_base_size"]) == (tmp_path / "appendonlydir" / "appendonly.aof.2.base.rdb").stat().st_size
    start_again(server)
    raw = server.raw()
    raw("SET", "more", 1)
    rewrite(raw)
    names = [name for name, kind in manifest(tmp_path) if kind != "h"]
    assert names == ["appendonly.aof.3.base.rdb", "appendonly.aof.4.incr.aof"]
    stay = sorted(names + ["appendonly.aof.manifest", "appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof",
                           "appendonly.aof.3.incr.aof"])
    # The others are removed one by one.
    wait_for(lambda: not set(log_files(tmp_path)) - set(stay))
    assert log_files(tmp_path) == stay
    start_again(server)
    with_redis = server.raw()("DEBUG", "DIGEST")
    server.terminate()
    with Server("redis", options=ON, directory=tmp_path) as redis:
        assert redis.raw()("DEBUG", "DIGEST") == with_redis
        redis.client().set("by-redis", 1)
        with_redis = redis.raw()("DEBUG", "DIGEST")
    server.start()
    assert server.raw()("DEBUG", "DIGEST") == with_redis
    rewrite(server.raw())
    start_again(server)
    server.stop()


def test_count_of_commands(tmp_path):
    """INFO has as many commands as `holdfast check` finds in the files behind the base, and their mean size:
    while they are written, after starts, a rewrite, a switch off and on, and a start with a moment before."""
    server = Server(options=ON, directory=tmp_path)

    def compare():
        raw = server.raw()
        wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
        fields = info(raw)
        check = subprocess.run([str(BUILD / "holdfast"), "check", str(tmp_path)], capture_output=True, text=True,
                               timeout=60).stdout.split("Of the history")[0]
        count = sum(int(n.replace(",", "")) for n in re.findall(r"\.incr\.aof: .*?, ([0-9,]+) commands", check))
        assert int(fields["log_commands"]) == count, check
        return count, int(fields["log_lsn"]), float(fields["log_command_mean_bytes"])

    assert compare() == (0, 0, 0)
    raw = server.raw()
    raw("SET", "k", "v" * 1000)
    count, lsn, mean = compare()
    assert count == 2 and abs(mean - lsn / 2) < 0.1
    fill(server.client(), 3)
    raw.pipeline([("MULTI",), ("SET", "a", 1), ("SET", "b", 1), ("EXEC",)])
    count, lsn, mean = compare()
    assert count > 1000 and abs(mean - lsn / count) < 0.1
    for _ in range(2):
        start_again(server)
        assert compare()[::2] == (count, mean)
        server.raw()("INCR", "n")
        later, lsn, mean = compare()
        assert later == count + 2
        count = later
    rewrite(server.raw())
    assert compare()[0] == 0
    server.raw()("INCR", "n")
    assert compare()[0] == 2
    assert server.raw()("CONFIG", "SET", "appendonly", "no") == "OK"
    wait_for(lambda: info(server.raw())["log_state"] == "off")
    assert server.raw()("CONFIG", "SET", "appendonly", "yes") == "OK"
    wait_for(lambda: info(server.raw())["log_state"] == "on")
    server.raw()("INCR", "n")
    assert compare()[0] == 2
    lsn = compare()[1]
    server.raw()("INCR", "n")
    server.kill()
    server.options["recover-until"] = lsn
    server.start()
    assert compare()[0] == 0
    server.stop()


@pytest.mark.parametrize("percentage, files, merged", [("100", 17, True), ("0", 17, False), ("0", 1001, True)])
def test_many_incrementals(tmp_path, percentage, files, merged):
    """Each start adds one. They are merged when there are more than sixteen; where no rewrite is to begin by itself,
    when there are so many that each start would have work with them."""
    logs = [Log().group("SELECT 0", "SET k 1").close()]
    while len(logs) < files - 2:
        logs.append(Log(logs[-1].lsn, logs[-1].crc).group("SET k %d" % len(logs)).close())
    write_directory(tmp_path, *logs)
    with Server(options={**ON, "auto-aof-rewrite-percentage": percentage}, directory=tmp_path, plain=files > 100) as server:
        raw = server.raw()
        assert raw("GET", "k") == b"%d" % (files - 3)
        assert len(manifest(tmp_path)) == files - 1
        raw("SET", "one-more", 1)
        server.kill()
        server.start()
        raw = server.raw()
        if merged:
            wait_for(lambda: info(raw)["aof_rewrites"] == "1" and info(raw)["aof_rewrite_in_progress"] == "0")
            assert sum(kind == "i" for _, kind in manifest(tmp_path)) == 1
        else:
            time.sleep(0.5)
            assert info(raw)["aof_rewrites"] == "0" and len(manifest(tmp_path)) == files
        start_again(server)


def test_in_a_transaction(tmp_path):
    """Within MULTI it is put off to its end, as a snapshot of half a transaction would be no state."""
    with Server(options=ON, directory=tmp_path) as server:
        raw = server.raw()
        replies = raw.pipeline([("MULTI",), ("SET", "a", 1), ("BGREWRITEAOF",), ("SET", "b", 1), ("EXEC",)])
        assert replies[-1] == ["OK", "Background append only file rewriting scheduled", "OK"]
        wait_for(lambda: info(raw)["aof_rewrites"] == "1" and info(raw)["aof_rewrite_in_progress"] == "0")
        assert info(raw)["aof_rewrite_scheduled"] == "0"
        assert manifest(tmp_path)[0] == ("appendonly.aof.2.base.rdb", "b")
        start_again(server)


def test_with_appendonly_no(tmp_path):
    """Without a log a base of what is in memory is made, as redis-server does: a start with appendonly
    yes has it; and the server goes on without a log."""
    with Server(directory=tmp_path) as server:
        raw = server.raw()
        fill(server.client(), 2)
        rewrite(raw)
        wait_for(lambda: info(raw)["log_state"] == "off")
        assert info(raw)["aof_enabled"] == "0"
        digest = raw("DEBUG", "DIGEST")
        raw("SET", "behind", 1)
        server.kill()
        server.options["appendonly"] = "yes"
        server.start()
        assert server.raw()("DEBUG", "DIGEST") == digest


def test_by_itself(tmp_path):
    """When the log has grown by so many percent, but not below the least size, or by CONFIG SET at run
    time; and when there are many incrementals."""
    options = dict(ON, **{"auto-aof-rewrite-min-size": "100kb", "auto-aof-rewrite-percentage": 0})
    with Server(options=options, directory=tmp_path) as server:
        raw = server.raw()
        for _ in range(3):
            raw("SET", "k", "x" * 40000)
        time.sleep(0.3)
        assert info(raw)["aof_rewrites"] == "0"
        assert raw("CONFIG", "SET", "auto-aof-rewrite-percentage", 100) == "OK"
        wait_for(lambda: info(raw)["aof_rewrites"] == "1" and info(raw)["aof_rewrite_in_progress"] == "0")
        raw("SET", "k", "x" * 10000)
        time.sleep(0.3)
        assert info(raw)["aof_rewrites"] == "1"
        start_again(server)


def test_many_starts(tmp_path):
    """Each start begins a new incremental; when there are more than a few they are merged."""
    server = Server(options=ON, directory=tmp_path, plain=True)
    for i in range(17):
        server.client().incr("n")
        server.kill()
        server.start()
        kinds = [kind for _, kind in manifest(tmp_path)]
        if kinds.count("i") > 16 or "h" in kinds:
            break
    raw = server.raw()
    wait_for(lambda: info(raw)["aof_rewrites"] == "1" and info(raw)["aof_rewrite_in_progress"] == "0")
    assert [kind for _, kind in manifest(tmp_path) if kind != "h"] == ["b", "i"]
    assert raw("GET", "n") == b"%d" % (i + 1)
    server.stop()


def test_failures(tmp_path):
    """A base that cannot be written leaves everything as it was; it is tried again until it works, and
    writes go on meanwhile."""
    server = Server(options=ON, directory=tmp_path)
    raw = server.raw()
    raw("SET", "a", 1)
    for number in (2, 3):  # the next try comes some seconds later then
        blocked = tmp_path / "appendonlydir" / f"appendonly.aof.{number}.base.rdb"
        blocked.mkdir()
        (blocked / "in-the-way").write_text("")
    assert raw("BGREWRITEAOF") == "Background append only file rewriting started"
    wait_for(lambda: int(info(raw)["aof_rewrites_consecutive_failures"]) == 2)
    assert info(raw)["aof_last_bgrewrite_status"] == "err"
    assert raw("SET", "b", 1) == "OK"
    assert manifest(tmp_path)[0] == ("appendonly.aof.1.base.rdb", "b")
    wait_for(lambda: not [name for name in log_files(tmp_path) if name.startswith("temp-")])
    wait_for(lambda: info(raw)["aof_last_bgrewrite_status"] == "ok")
    assert info(raw)["aof_rewrites_consecutive_failures"] == "0"
    assert manifest(tmp_path)[0] == ("appendonly.aof.4.base.rdb", "b")
    start_again(server)
    server.stop()


def test_killed_in_the_middle(tmp_path):
    """Killed while the base is being written, or ended in order: what was acknowledged is there."""
    options = dict(ON, **{"rdb-key-save-delay": 100000})
    server = Server(options=options, directory=tmp_path)
    for kill in (True, False):
        raw = server.raw()
        raw.pipeline([("SET", f"{kill}{i}", i) for i in range(300)])
        assert raw("BGREWRITEAOF") == "Background append only file rewriting started"
        for i in range(50):
            assert raw("SET", f"during{kill}{i}", i) == "OK"
        assert info(raw)["aof_rewrite_in_progress"] == "1"
        start_again(server, kill)
        assert not [name for name in log_files(tmp_path) if name.startswith("temp-")]
    server.raw()("CONFIG", "SET", "rdb-key-save-delay", 0)
    rewrite(server.raw())
    start_again(server)
    server.stop()


def test_switched_off_in_the_middle(tmp_path):
    """appendonly no ends a rewrite that is under way, and a later yes begins anew."""
    options = dict(ON, **{"rdb-key-save-delay": 20000})
    with Server(options=options, directory=tmp_path) as server:
        raw = server.raw()
        raw.pipeline([("SET", f"k{i}", i) for i in range(300)])
        assert raw("BGREWRITEAOF") == "Background append only file rewriting started"
        assert raw("CONFIG", "SET", "appendonly", "no") == "OK"
        wait_for(lambda: info(raw)["log_state"] == "off")
        assert info(raw)["aof_last_bgrewrite_status"] == "ok"
        raw("CONFIG", "SET", "rdb-key-save-delay", 0)
        raw("SET", "more", 1)
        assert raw("CONFIG", "SET", "appendonly", "yes") == "OK"
        wait_for(lambda: info(raw)["log_state"] == "on")
        start_again(server)


def test_disk_fails_in_the_middle(library, tmp_path):  # noqa: F811
    """EIO while a rewrite runs: it is given up with the log, and the new generation heals both."""
    with Disk(library, tmp_path, rdb_key_save_delay=20000) as disk:
        raw = disk.server.raw()
        raw.pipeline([("SET", f"k{i}", i) for i in range(300)])
        assert raw("BGREWRITEAOF") == "Background append only file rewriting started"
        disk.say("sync")
        reply = raw("SET", "lost", 1)
        assert isinstance(reply, Error) and reply.startswith("MISCONF")
        assert raw("CONFIG", "SET", "rdb-key-save-delay", 0) == "OK"
        disk.say("")
        wait_for(lambda: info(raw)["log_state"] == "on")
        assert raw("SET", "after", 1) == "OK"
        rewrite(raw)
        digest = raw("DEBUG", "DIGEST")
        disk.server.kill()
        with Server(options=disk.options, directory=tmp_path) as again:
            assert again.raw()("DEBUG", "DIGEST") == digest


def test_syncs_go_on(library, tmp_path):  # noqa: F811
    """no-appendfsync-on-rewrite skips no sync: with always a reply waits for its own during a rewrite, too."""
    with Disk(library, tmp_path, rdb_key_save_delay=100000, no_appendfsync_on_rewrite="yes") as disk:
        raw, other = disk.server.raw(), disk.server.raw()
        raw.pipeline([("SET", f"k{i}", i) for i in range(300)])
        assert raw("BGREWRITEAOF") == "Background append only file rewriting started"
        assert raw("SET", "during", 1) == "OK"
        syncs = int(info(raw)["log_syncs"])
        assert raw("SET", "during", 2) == "OK"
        assert int(info(raw)["log_syncs"]) > syncs
        disk.say("hang")
        raw.send(raw.encode(("SET", "during", 3)))
        assert silent(raw)
        assert info(other)["log_waiting_replies"] == "1"
        disk.say("")
        assert raw.read() == "OK"
        fields = info(other)
        assert fields["aof_rewrite_in_progress"] == "1" and fields["log_at_risk_bytes"] == "0"


def test_on_during_a_save(tmp_path):
    """appendonly yes while a BGSAVE runs: both come to their ends, and after kill -9 all is there that was
    written before, meanwhile and afterwards."""
    options = {"appendonly": "no", "appendfsync": "always", "rdb-key-save-delay": 8000}
    server = Server(options=options, directory=tmp_path)
    raw = server.raw()
    raw.pipeline([("SET", f"k{i}", i) for i in range(300)])
    assert raw("BGSAVE") == "Background saving started"
    assert raw("CONFIG", "SET", "appendonly", "yes") == "OK"
    raw("SET", "meanwhile", 1)
    wait_for(lambda: info(raw)["log_state"] != "off")
    assert info(raw)["rdb_bgsave_in_progress"] == "1"
    wait_for(lambda: info(raw)["log_state"] == "on")
    raw("SET", "afterwards", 1)
    wait_for(lambda: info(raw)["rdb_bgsave_in_progress"] == "0")
    assert info(raw)["rdb_last_bgsave_status"] == "ok"
    server.options["appendonly"] = "yes"
    start_again(server)
    assert server.raw()("DBSIZE") == 302
    server.stop()
