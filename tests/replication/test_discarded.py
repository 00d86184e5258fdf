# SPDX-License-Identifier: BSD-3-Clause
"""What a primary has that nobody else has is never given up without being kept first, however often it has crashed since,
whatever has become of its log, and whoever the new primary is (test_rejoin.py has a single crash)."""
import contextlib
import os
import shutil
import subprocess

import pytest

from harness import PLAIN_BUILD, Server
from net import assert_same, follow, holdfast, info, wait_for, wait_up
from test_rejoin import journal_of, kill, last_file, pair

# A ping that its replica has got, and its disk has not, would be a place of its own.
CALM = {"repl-ping-replica-period": "1000"}


def start(node):
    node.start()
    return node.raw()


def in_step(x, y):
    x("SET", "both", 1)
    assert x("WAITAOF", 1, 0, 60000)[0] == 1
    wait_for(lambda: info(y)["slave_repl_offset"] == info(x)["master_repl_offset"], "in step")


def write(x, key):
    x("SET", key, "of the old one")
    assert x("WAITAOF", 1, 0, 60000)[0] == 1


def rewrite(x):
    before = int(info(x, "persistence")["aof_rewrites"])
    x("BGREWRITEAOF")
    wait_for(lambda: int(info(x, "persistence")["aof_rewrites"]) > before and
             info(x, "persistence")["aof_rewrite_in_progress"] == "0", "the rewrite")


def keys_of(path):
    """Of an RDB file, as a server loads it."""
    with Server("holdfast", {"dbfilename": "kept.rdb"}, wait=False) as server:
        server.kill()
        shutil.copy(path, server.directory / "kept.rdb")
        server.start()
        raw = server.raw()
        keys = {key.decode() for key in raw("KEYS", "*")}
        raw.close()
    return keys


def kept(node, raw):
    return keys_of(node.directory / info(raw)["divergence_data"])


@pytest.mark.parametrize("how", ["told", "by its configuration", "rewritten", "rewritten twice"])
def test_crashed_again_and_again(how):
    """Each start after a crash begins a history of its own, of which nobody else has heard: what all of them have is in the
    journal, and the data are taken back to where the new primary went another way."""
    with pair(**CALM, **{"repl-log-history": "0"}) as (old, new, x, y):
        in_step(x, y)
        y("REPLICAOF", "NO", "ONE")
        y("SET", "new", 1)
        fork = int(info(y)["second_repl_offset"]) - 1
        write(x, "before")
        for turn in range(3):
            kill(old, x)
            x = start(old)
            assert info(x)["role"] == "master"
            write(x, f"after {turn}")
        end = int(info(x)["master_repl_offset"])
        kill(old, x)
        if how == "by its configuration":
            old.options["replicaof"] = ["127.0.0.1", str(new.port)]
        x = start(old)
        # What one rewrite has replaced stays until the next one.
        for _ in range(["rewritten", "rewritten twice"].index(how) + 1 if how.startswith("rewritten") else 0):
            rewrite(x)
            end = int(info(x)["master_repl_offset"])
        if how == "rewritten twice":
            wait_for(lambda: int(info(x)["repl_log_first_byte_offset"]) > fork + 1, "the old files are gone")
        if how != "by its configuration":
            follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        found = info(x)
        anew = how.startswith("rewritten")
        lost = how == "rewritten twice"
        if lost:
            # What is left of it is not one by one in the log any more.
            assert kept(old, x) == {"both", "before", "after 0", "after 1", "after 2"}
            assert int(found["divergence_data_lsn"]) == end
        else:
            assert (int(found["divergence_from_lsn"]), int(found["divergence_bytes"])) == (fork, end - fork)
            shown = journal_of(old, found)
            assert all(key in shown for key in ("before", "after 0", "after 1", "after 2")) and '"both"' not in shown
            assert "divergence_data" not in found
        assert found["divergence_journals"] == ("0" if lost else "1")
        assert (found["master_full_syncs"], found["master_cut_backs"]) == (("1", "0") if anew else ("0", "1"))
        assert info(y, "stats")["sync_full"] == ("1" if anew else "0")
        # It is a copy of the new primary's now, and nothing of it is kept again.
        wait_for(lambda: info(x, "persistence")["log_state"] == "on", "its log is on")
        kill(old, x)
        x = start(old)
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        assert info(x)["divergence_journals"] == "0" and "divergence_data" not in info(x)
        x.close()


def test_both_have_crashed():
    """The new primary has begun histories of its own, too: neither knows the other's last one."""
    with pair(**CALM, appendonly="yes") as (old, new, x, y):
        wait_for(lambda: info(y, "persistence")["log_state"] == "on", "its log is on")
        in_step(x, y)
        y("REPLICAOF", "NO", "ONE")
        fork = int(info(y)["second_repl_offset"]) - 1
        for turn in range(2):
            write(x, f"of x {turn}")
            write(y, f"of y {turn}")
            kill(old, x)
            kill(new, y)
            x, y = start(old), start(new)
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        found = info(x)
        assert int(found["divergence_from_lsn"]) == fork and "of x 1" in journal_of(old, found)
        assert (found["master_full_syncs"], found["master_cut_backs"]) == ("0", "1")
        assert {key.decode() for key in x("KEYS", "*")} == {"both", "of y 0", "of y 1"}
        x.close()
        y.close()
        y = None


def test_a_replica_knows_the_new_history():
    """It came back after a crash before it was noticed, and a replica followed it there; another one was promoted, which
    knows nothing of that: what was written meanwhile is in both ones' journals."""
    with pair(**CALM) as (old, new, x, y), holdfast(**CALM, appendonly="yes") as third:
        z = third.raw()
        follow(z, old.port)
        wait_up(z)
        wait_for(lambda: info(z, "persistence")["log_state"] == "on", "its log is on")
        in_step(x, y)
        wait_for(lambda: z("GET", "both") == b"1", "in step")
        y("REPLICAOF", "NO", "ONE")
        y("SET", "new", 1)
        kill(old, x)
        x = start(old)
        z("REPLICAOF", "127.0.0.1", 1)
        follow(z, old.port)
        wait_up(z)
        write(x, "meanwhile")
        wait_for(lambda: z("GET", "meanwhile") is not None, "it has it")
        assert info(z)["master_full_syncs"] == "1"
        for raw, node in ((x, old), (z, third)):
            follow(raw, new.port)
            wait_up(raw)
            assert_same(y, raw)
            found = info(raw)
            assert found["divergence_journals"] == "1" and "meanwhile" in journal_of(node, found), node.text()
            assert found["master_cut_backs"] == "1"
        assert info(y, "stats")["sync_full"] == "0"
        x.close()
        z.close()


@pytest.mark.parametrize("how", ["redis", "redis, after a crash", "rewritten as commands", "no log"])
def test_nobody_can_say_what_is_missing(how):
    """The new primary is redis-server, which does not tell where the ways parted, or the log does not either: all of the
    data is kept, as an RDB file, before it sends everything."""
    redis = how.startswith("redis")
    options = {**CALM, "aof-use-rdb-preamble": "no"} if how == "rewritten as commands" else dict(CALM)
    with pair(**{} if redis else options) as (old, other, x, y), \
            Server("redis", {"repl-diskless-sync-delay": "0"}) as third:
        z = third.raw()
        if how == "no log":
            x("CONFIG", "SET", "appendonly", "no")
            wait_for(lambda: info(x, "persistence")["log_state"] == "off", "the log is off")
            wait_for(lambda: info(x, "persistence")["rdb_bgsave_in_progress"] == "0", "and the snapshot made")
            old.options["appendonly"] = "no"
        if redis:
            z("REPLICAOF", "127.0.0.1", old.port)
            wait_up(z)
        x("SET", "both", 1)
        wait_for(lambda: y("GET", "both") == b"1" and (not redis or z("GET", "both") == b"1"), "in step")
        new, n = (third, z) if redis else (other, y)
        n("REPLICAOF", "NO", "ONE")
        n("SET", "new", 1)
        x("SET", "before", 1)
        for turn in range({"redis": 0, "redis, after a crash": 1}.get(how, 2)):
            if how == "no log":
                assert x("SAVE") == "OK"
            else:
                assert x("WAITAOF", 1, 0, 60000)[0] == 1
            kill(old, x)
            x = start(old)
            x("SET", f"after {turn}", 1)
        if how == "rewritten as commands":
            for _ in range(2):
                rewrite(x)
            assert x("WAITAOF", 1, 0, 60000)[0] == 1
            kill(old, x)
            x = start(old)
        there = {key.decode() for key in x("KEYS", "*")}
        assert "before" in there and "new" not in there
        follow(x, new.port)
        wait_up(x)
        wait_for(lambda: x("GET", "new") == b"1", "it has the new one's")
        assert {key.decode() for key in x("KEYS", "*")} == {"both", "new"}
        assert info(x)["master_full_syncs"] == "1"
        assert kept(old, x) == there
        assert "ALARM: what this server has at LSN" in old.text()
        x.close()
        z.close()


def test_nothing_of_its_own():
    """A replica's data are its primary's: they are not kept when another one sends everything; nor is what a server has
    loaded and not changed, or what has been promoted and not written to."""
    with holdfast() as first, holdfast() as second, holdfast(appendonly="yes") as replica:
        a, b, r = first.raw(), second.raw(), replica.raw()
        a("SET", "a", 1)
        b("SET", "b", 1)
        for server, raw in ((first, a), (second, b), (first, a)):
            follow(r, server.port)
            wait_up(r)
            assert_same(raw, r)
        r("REPLICAOF", "NO", "ONE")
        follow(r, second.port)
        wait_up(r)
        assert_same(b, r)
        found = info(r)
        assert found["master_full_syncs"] == "4"
        assert "divergence_data" not in found and found["divergence_journals"] == "0"
        assert not list(replica.directory.glob("divergence-*"))
        r.close()
        assert replica.terminate() == 0
        # The same after a restart.
        replica.start()
        r = replica.raw()
        follow(r, first.port)
        wait_up(r)
        assert_same(a, r)
        assert not list(replica.directory.glob("divergence-*"))
        for raw in (a, b, r):
            raw.close()


def test_no_room_to_keep_it(tmp_path):
    """What would be given up cannot be kept, as the disk is full: it stays, and the link is down with the reason; it is
    given up all the same with replica-accept-regression yes, or when there is room, which is tried again."""
    place = tmp_path / "small"
    place.mkdir()
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run(sudo + ["mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "none", place], check=True)

    def fill():
        with open(place / "filling", "wb", buffering=0) as f, contextlib.suppress(OSError):
            while f.write(b"x" * 4096):
                pass

    try:
        with holdfast() as new, Server("holdfast", {"repl-diskless-load": "swapdb"}, directory=place) as old:
            x, y = old.raw(), new.raw()
            y("SET", "new", 1)
            x("SET", "mine", 1)
            fill()
            follow(x, new.port)
            wait_for(lambda: "cannot be kept" in info(x)["master_link_error"], "it says so")
            assert x("GET", "mine") == b"1" and info(x)["master_link_status"] == "down"
            (place / "filling").unlink()
            wait_up(x)
            assert_same(y, x)
            assert kept(old, x) == {"mine"}
            before = info(x)["divergence_data"]
            # In a history of its own, which a replica has been told of.
            x("REPLICAOF", "NO", "ONE")
            x("CONFIG", "SET", "replica-accept-regression", "yes")
            x("SET", "mine", 2)
            y("REPLICAOF", "127.0.0.1", old.port)
            wait_up(y)
            with holdfast() as other:
                z = other.raw()
                z("SET", "other", 1)
                fill()
                follow(x, other.port)
                wait_up(x)
                assert_same(z, x)
                z.close()
            assert info(x)["divergence_data"] == before
            x.close()
            y.close()
    finally:
        subprocess.run(sudo + ["umount", "-l", place], check=True)
