# SPDX-License-Identifier: BSD-3-Clause
"""A primary that was killed comes back after another one has been promoted, and follows it."""
import contextlib
import glob
import os
import signal
import subprocess

import pytest

from disks import Disk
from harness import PLAIN_BUILD, Error
from net import Cable, assert_same, follow, holdfast, info, redis_server, wait_for, wait_up
from nodes import Cluster
from sentinel import Node

KINDS = {"holdfast": holdfast, "redis": redis_server}


@contextlib.contextmanager
def pair(kind="holdfast", **options):
    """A primary that can be killed, and its replica."""
    old = Node(**options)
    try:
        with KINDS[kind](**options) as new:
            x, y = old.raw(), new.raw()
            follow(y, old.port)
            wait_up(y)
            yield old, new, x, y
            y.close()
    finally:
        old.remove()


def kill(node, raw):
    node.kill()
    raw.close()


def journal_of(node, found):
    tool = subprocess.run([PLAIN_BUILD / "holdfast", "log", node.directory / found["divergence_journal"]],
                          capture_output=True, text=True, check=True)
    return tool.stdout


def last_file(node):
    return max(glob.glob(f"{node.directory}/appendonlydir/*.incr.aof"), key=lambda p: int(p.split(".")[-3]))


@pytest.mark.parametrize("kind,torn", [("holdfast", 0), ("holdfast", 300), ("redis", 300)])
def test_with_nothing_more(kind, torn):
    """What it has is the beginning of the new primary's history, all of it or (its disk has lost some bytes at the
    end) not: it goes on from there, in the right database."""
    # Without pings, of which one would be a place of its own if its replica has not got it.
    with pair(kind, **{"repl-ping-replica-period": "1000"}) as (old, new, x, y):
        x("SELECT", 3)
        for i in range(50):
            x("RPUSH", "l", i)
        assert x("WAITAOF", 1, 0, 60000)[0] == 1
        wait_for(lambda: info(y)["slave_repl_offset"] == info(x)["master_repl_offset"], "in step")
        kill(old, x)
        if torn:
            os.truncate(last_file(old), os.path.getsize(last_file(old)) - torn)
        y("REPLICAOF", "NO", "ONE")
        y("SELECT", 3)
        y("RPUSH", "l", "new")
        old.start()
        x = old.raw()
        x("SELECT", 3)
        assert info(x)["role"] == "master"
        assert x("LLEN", "l") == 50 if not torn else x("LLEN", "l") < 50
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        x("SELECT", 3)
        assert x("LLEN", "l") == 51 and x("DBSIZE") == 1
        found = info(y, "stats")
        assert (found["sync_full"], found["sync_partial_ok"]) == ("0", "1")
        assert info(x)["divergence_journals"] == "0"
        x.close()


@pytest.mark.parametrize("when", ["before", "after", "both", "rewritten"])
def test_with_more(when):
    """What it has done that the new primary has not, before it was killed or since it is back, is in a journal before
    it is given up: its log takes it back to where the ways parted, and it goes on from there. If the log does not go
    back so far, as it has been rewritten since, everything comes anew."""
    # Without pings: one that its replica has got, and its disk has not, would be a place of its own.
    with pair(**{"repl-ping-replica-period": "1000"}) as (old, new, x, y):
        x("SET", "both", 1)
        assert x("WAITAOF", 1, 0, 60000)[0] == 1
        wait_for(lambda: y("GET", "both") == b"1", "in step")
        if when != "after":
            y("REPLICAOF", "NO", "ONE")
            for i in range(20):
                x("SET", "before", f"it was killed {i}")
            assert x("WAITAOF", 1, 0, 60000)[0] == 1
        kill(old, x)
        y("REPLICAOF", "NO", "ONE")
        y("SET", "new", 1)
        fork = int(info(y)["second_repl_offset"]) - 1
        old.start()
        x = old.raw()
        if when != "before":
            x("SET", "after", "it was back")
        if when == "rewritten":
            x("BGREWRITEAOF")
            wait_for(lambda: info(x, "persistence")["aof_rewrites"] != "0" and
                     info(x, "persistence")["aof_rewrite_in_progress"] == "0", "the rewrite")
        end = int(info(x)["master_repl_offset"])
        assert end > fork
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        assert x("DBSIZE") == 2
        found = info(x)
        assert found["divergence_journals"] == "1"
        assert int(found["divergence_from_lsn"]) == fork
        assert int(found["divergence_bytes"]) == end - fork
        shown = journal_of(old, found)
        assert ("it was killed 19" in shown) == (when != "after")
        assert ("it was back" in shown) == (when != "before")
        full = when == "rewritten"
        assert (info(y, "stats")["sync_full"], found["master_full_syncs"], found["master_cut_backs"]) == (
            ("1", "1", "0") if full else ("0", "0", "1"))
        # And what is in its log now is this.
        wait_for(lambda: info(x, "persistence")["log_state"] == "on", "its log is on")
        y("SET", "later", 1)
        assert_same(y, x)
        digest = y("DEBUG", "DIGEST")
        kill(old, x)
        old.start()
        x = old.raw()
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        assert x("DEBUG", "DIGEST") == digest
        assert info(y, "stats")["sync_full"] == ("1" if full else "0")
        x.close()


def test_with_more_and_everything_anew():
    """The new primary's stream does not go back to where the ways parted: it sends everything, and what is given up for
    that is in a journal before."""
    with pair(**{"repl-ping-replica-period": "1000", "repl-backlog-size": "16kb"}) as (old, new, x, y):
        x("SET", "both", 1)
        assert x("WAITAOF", 1, 0, 60000)[0] == 1
        wait_for(lambda: y("GET", "both") == b"1", "in step")
        kill(old, x)
        y("REPLICAOF", "NO", "ONE")
        fork = int(info(y)["second_repl_offset"]) - 1
        y.pipeline([("SET", f"k{i}", "v" * 1000) for i in range(1000)])
        wait_for(lambda: int(info(y)["repl_backlog_first_byte_offset"]) > fork + 1, "a short stream")
        old.start()
        x = old.raw()
        x("SET", "after", "it was back")
        end = int(info(x)["master_repl_offset"])
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        assert x("DBSIZE") == 1001
        found = info(x)
        assert found["divergence_journals"] == "1"
        assert (int(found["divergence_from_lsn"]), int(found["divergence_bytes"])) == (fork, end - fork)
        assert "it was back" in journal_of(old, found)
        assert (found["master_full_syncs"], found["master_cut_backs"]) == ("1", "0")
        x.close()


@pytest.mark.parametrize("end", ["everything comes anew", "it ends"])
def test_with_more_and_a_damaged_log(end):
    """The log that would take it back is damaged: its data is lost until the new primary sends it. What is in memory until
    then is saved by no command, no rule and not at the end: the snapshot that there is is better than nothing."""
    with pair(**{"repl-ping-replica-period": "1000"}) as (old, new, x, y):
        x("SET", "both", 1)
        assert x("WAITAOF", 1, 0, 60000)[0] == 1
        assert x("SAVE") == "OK"
        dump = (old.directory / "dump.rdb").read_bytes()
        wait_for(lambda: y("GET", "both") == b"1", "in step")
        kill(old, x)
        y("REPLICAOF", "NO", "ONE")
        y("SET", "new", 1)
        # It does not send everything before it is told.
        y("CONFIG", "SET", "repl-diskless-sync-delay", 600)
        old.start()
        x = old.raw()
        x("SET", "after", "it was back")
        assert x("WAITAOF", 1, 0, 60000)[0] == 1
        base, = glob.glob(f"{old.directory}/appendonlydir/*.base.rdb")
        os.truncate(base, os.path.getsize(base) - 1)
        follow(x, new.port)
        wait_for(lambda: "The data could not be taken back" in old.text(), "it is lost")
        assert x("DBSIZE") == 0
        for request in ("SAVE",), ("BGSAVE",), ("HOLDFAST", "SNAPSHOT", "FULL"), ("HOLDFAST", "SNAPSHOT", "INCREMENTAL"):
            assert isinstance(x(*request), Error), request
        x("CONFIG", "SET", "save", "1 1")
        if end == "it ends":
            x.close()
            assert old.terminate() == 0
            assert "Not saved before exiting: there is nothing to save" in old.text()
            assert (old.directory / "dump.rdb").read_bytes() == dump
            return
        assert (old.directory / "dump.rdb").read_bytes() == dump
        y("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        wait_up(x)
        assert_same(y, x)
        wait_for(lambda: x("SAVE") == "OK", "it is saved")
        assert (old.directory / "dump.rdb").read_bytes() != dump
        x.close()


def back_with_more(old, x, y, disk):
    """The primary ends, its replica takes over, and it comes back with more, on this disk. Returns a connection to it."""
    x("SET", "both", 1)
    assert x("WAITAOF", 1, 0, 60000)[0] == 1
    wait_for(lambda: y("GET", "both") == b"1", "in step")
    kill(old, x)
    y("REPLICAOF", "NO", "ONE")
    y("SET", "new", 1)
    old.plain, old.prefix = True, disk.prefix
    old.start()
    x = old.raw()
    x("SET", "after", "it was back")
    assert x("WAITAOF", 1, 0, 60000)[0] == 1
    return x


def test_with_more_on_a_disk_that_hangs(tmp_path):
    """The log that would take it back waits for the disk, in the middle of a rewrite: nobody waits with it for longer than
    two seconds, and everything comes anew."""
    disk = Disk(tmp_path)
    with pair(**{"repl-ping-replica-period": "1000"}) as (old, new, x, y):
        # It does not send everything before it is told.
        y("CONFIG", "SET", "repl-diskless-sync-delay", 600)
        x = back_with_more(old, x, y, disk)
        disk.say("hang")
        x("BGREWRITEAOF")
        wait_for(lambda: info(x, "persistence")["aof_rewrite_in_progress"] == "1", "the rewrite")
        follow(x, new.port)
        wait_for(lambda: "The data are not taken back, everything comes anew: the log's disk is too slow" in old.text(),
                 "it gives up")
        assert x("GET", "after") == b"it was back"
        found = info(x)
        assert found["divergence_journals"] == "1" and "it was back" in journal_of(old, found)
        disk.say("")
        y("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        wait_up(x)
        assert_same(y, x)
        assert x("GET", "after") is None
        found = info(x)
        assert (found["master_full_syncs"], found["master_cut_backs"]) == ("1", "0")
        x.close()


@pytest.mark.parametrize("how", ["everything anew", "taken back"])
def test_the_log_given_up_on_a_disk_that_hangs(tmp_path, how):
    """The disk hangs when the log of what is given up is to end, or the new one to begin: the replica has the new data,
    serves and follows all the same. It has no log until the disk works; then one begins, and has all."""
    disk = Disk(tmp_path)
    with pair(**{"repl-ping-replica-period": "1000"}) as (old, new, x, y):
        x = back_with_more(old, x, y, disk)
        disk.say("hang")
        if how == "everything anew":
            x("BGREWRITEAOF")
            wait_for(lambda: info(x, "persistence")["aof_rewrite_in_progress"] == "1", "the rewrite")
        follow(x, new.port)
        wait_up(x)
        assert "The disk keeps the log waiting: it is given up as it is" in old.text()
        found = info(x)
        assert (found["master_full_syncs"], found["master_cut_backs"]) == (("0", "1") if how == "taken back" else ("1", "0"))
        assert (x("GET", "after"), x("GET", "new")) == (None, b"1")
        assert info(x, "persistence")["log_state"] == "off"
        y("SET", "more", 1)
        wait_for(lambda: x("GET", "more") == b"1", "it follows")
        assert "it was back" in journal_of(old, info(x))
        disk.say("")
        wait_for(lambda: info(x, "persistence")["log_state"] == "on", "a new log")
        y("SET", "last", 1)
        assert y("WAITAOF", 0, 1, 60000)[1] == 1
        kill(old, x)
        old.start()
        x = old.raw()
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        assert info(x)["master_full_syncs"] == "0"
        x.close()


def test_far_behind_one_that_was_taken_back():
    """Who has less than one that was taken back gets nothing from the log that it had before, though that goes back so
    far: what stands there behind the place where the ways parted is another history's."""
    with pair(**{"repl-ping-replica-period": "1000"}) as (old, new, x, y), holdfast() as third:
        z = third.raw()
        x("SET", "both", 1)
        follow(z, old.port)
        wait_up(z)
        wait_for(lambda: z("GET", "both") == y("GET", "both") == b"1", "in step")
        z("REPLICAOF", "127.0.0.1", 1)
        for value in "both":
            x.pipeline([("SET", f"k{i}", value * 500) for i in range(500)])
        wait_for(lambda: info(y)["slave_repl_offset"] == info(x)["master_repl_offset"], "in step")
        y("REPLICAOF", "NO", "ONE")
        # As many bytes, of other values.
        for raw, value in ((x, "x"), (y, "y")):
            raw.pipeline([("SET", f"k{i}", value * 500) for i in range(500)])
        fork = int(info(y)["second_repl_offset"]) - 1
        # It learns of the new history, and gets a part of what was before.
        cable = Cable(new.port)
        cable.cut_after, cable.cut_for_good = 300_000, True
        follow(z, cable.port)
        wait_for(lambda: cable.cut_after is None and info(z)["master_link_status"] == "down", "the wire is cut")
        found = info(z)
        assert found["master_replid"] == info(y)["master_replid"] and int(found["slave_repl_offset"]) < fork
        follow(x, new.port)
        wait_up(x)
        wait_for(lambda: info(x, "persistence")["log_state"] == "on", "its log is on")
        assert info(x)["master_cut_backs"] == "1"
        follow(z, old.port)
        wait_up(z)
        assert_same(y, x)
        assert_same(x, z)
        assert z("GET", "k0") == b"y" * 500
        assert "on disk: the log does not go back to LSN" in info(x)["last_full_sync_reason"]
        cable.close()
        for raw in (x, z):
            raw.close()


def test_with_more_than_is_kept():
    """Neither its log nor its memory goes back to where the ways parted: the journal has what there is, the server says
    what it has not, and follows."""
    with pair(**{"repl-ping-replica-period": "1000", "repl-log-history": "0"}) as (old, new, x, y):
        x("SET", "both", 1)
        assert x("WAITAOF", 1, 0, 60000)[0] == 1
        wait_for(lambda: y("GET", "both") == b"1", "in step")
        y("REPLICAOF", "NO", "ONE")
        x("SET", "before", "it was killed")
        assert x("WAITAOF", 1, 0, 60000)[0] == 1
        kill(old, x)
        y("SET", "new", 1)
        fork = int(info(y)["second_repl_offset"]) - 1
        old.start()
        x = old.raw()
        memory = int(info(x)["repl_backlog_first_byte_offset"]) - 1
        for turn in range(3):
            x("SET", f"after{turn}", "it was back")
            x("BGREWRITEAOF")
            wait_for(lambda: info(x, "persistence")["aof_rewrites"] == str(turn + 1) and
                     info(x, "persistence")["aof_rewrite_in_progress"] == "0", "the rewrite")
        wait_for(lambda: int(info(x)["repl_log_first_byte_offset"]) - 1 > memory, "what is replaced is removed")
        end = int(info(x)["master_repl_offset"])
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        found = info(x)
        assert (int(found["divergence_from_lsn"]), int(found["divergence_bytes"])) == (memory, end - memory)
        assert f"ALARM: what is given up, LSN {fork} to {memory}, cannot be written to a divergence journal" in old.text()
        shown = journal_of(old, found)
        assert all(f"after{turn}" in shown for turn in range(3)) and "it was killed" not in shown
        assert (found["master_full_syncs"], found["master_cut_backs"]) == ("1", "0")
        x.close()


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_functions_are_taken_back(preamble):
    """A library of functions that the new primary does not have is taken back with the rest; one from before stays."""
    code = "#!lua name={0}\nredis.register_function('{0}', function() return 1 end)"

    def names(raw):
        return {library[1] for library in raw("FUNCTION", "LIST")}
    with pair(**{"repl-ping-replica-period": "1000", "aof-use-rdb-preamble": preamble}) as (old, new, x, y):
        x("FUNCTION", "LOAD", code.format("before"))
        assert x("WAITAOF", 1, 0, 60000)[0] == 1
        wait_for(lambda: names(y) == {b"before"}, "in step")
        kill(old, x)
        y("REPLICAOF", "NO", "ONE")
        y("SET", "new", 1)
        old.start()
        x = old.raw()
        x("FUNCTION", "LOAD", code.format("after"))
        assert names(x) == {b"before", b"after"}
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        assert info(x)["master_cut_backs"] == "1"
        assert names(x) == {b"before"}
        assert x("FCALL_RO", "after", 0).startswith("ERR") and x("GET", "new") == b"1"
        x.close()


def test_under_load_with_a_quorum():
    """The primary of a quorum is killed under load, and comes back: nothing that was acknowledged is
    lost, and what it has more is in its journal."""
    with Cluster() as nodes:
        nodes.wait_elected("a")
        for n in "bc":
            nodes.wait_acknowledging(n)
        a = nodes.nodes["a"]
        x = a.raw()
        acknowledged = 0
        with contextlib.suppress(ConnectionError, OSError):
            while acknowledged < 100000:
                if acknowledged == 300:
                    a.process.send_signal(signal.SIGKILL)
                assert x("RPUSH", "l", acknowledged) == acknowledged + 1
                acknowledged += 1
        assert acknowledged >= 300
        a.kill()
        x.close()
        # What is under way to them still arrives.
        for n in "bc":
            wait_for(lambda: nodes.info(n)["master_link_status"] == "down", "the link is down")
        best = max("bc", key=lambda n: int(nodes.info(n)["slave_repl_offset"]))
        other = "cb"["bc".index(best)]
        nodes.promote(best)
        nodes.follow(other, best)
        nodes.wait_elected(best)
        a.start()
        nodes.follow("a", best)
        nodes.wait_acknowledging("a")
        x, y = a.raw(), nodes.nodes[best].raw()
        assert_same(y, x)
        assert acknowledged <= y("LLEN", "l") <= acknowledged + 1
        found = info(x)
        # Its log takes it back: nobody gets everything anew.
        assert info(y, "stats")["sync_full"] == "0"
        if found["divergence_journals"] != "0":
            assert "RPUSH" in journal_of(a, found) or int(found["divergence_bytes"]) < 40
        x.close()
        y.close()
