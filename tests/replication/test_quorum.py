# SPDX-License-Identifier: BSD-3-Clause
"""How sure a write is: HOLDFAST DURABILITY, WAITAOF with replicas, and a quorum of three nodes."""
import glob
import signal
import subprocess
import time

import pytest

from harness import PLAIN_BUILD, Error
from net import Cable, Writer, assert_same, follow, holdfast, info, redis_server, wait_for, wait_up
from nodes import Cluster

LOGGED = {"appendonly": "yes", "appendfsync": "everysec"}


@pytest.fixture(scope="module")
def nodes():
    with Cluster() as c:
        c.wait_elected("a")
        c.wait_acknowledging("b")
        c.wait_acknowledging("c")
        yield c


def test_what_can_be_asked_for():
    """The levels as a directive, of a client and of a user; what cannot be is refused when it is asked for."""
    with holdfast(**LOGGED, **{"durability-timeout": "300"}) as server:
        x = server.raw()
        assert x("HOLDFAST", "DURABILITY") == b"auto"
        assert x("HOLDFAST", "DURABILITY", "replica", 2) == "OK"
        assert x("HOLDFAST", "DURABILITY") == b"replica 2"
        assert x("SET", "k", 1) == Error("NOREPLICAS Not enough replicas are there for this client's durability")
        assert x("GET", "k") is None
        assert x("HOLDFAST", "DURABILITY", "local") == "OK"
        assert x("SET", "k", 1) == "OK"
        assert int(info(x, "persistence")["log_durable_lsn"]) == int(info(x)["master_repl_offset"])
        assert x("HOLDFAST", "DURABILITY", "quorum") == Error("ERR quorum needs quorum-nodes")
        assert str(x("HOLDFAST", "DURABILITY", "replica")).startswith("ERR HOLDFAST DURABILITY takes")
        assert str(x("HOLDFAST", "DURABILITY", "replica", 99)).startswith("ERR HOLDFAST DURABILITY takes")
        assert x("CONFIG", "SET", "durability", "replica 1") == "OK"
        assert x("CONFIG", "GET", "durability") == [b"durability", b"replica 1"]
        y = server.raw()
        assert str(y("SET", "k", 2)).startswith("NOREPLICAS")
        assert x("SET", "k", 3) == "OK"
        assert str(y("EVAL", "return redis.call('SET', 'k', 4)", 0)).startswith("NOREPLICAS")
        assert x("ACL", "SETUSER", "sure", "on", "nopass", "~*", "+@all", "durability:memory") == "OK"
        assert b"durability:memory" in x("ACL", "LIST")[1]
        assert y("AUTH", "sure", "") == "OK"
        assert y("HOLDFAST", "DURABILITY") == b"memory"
        assert y("SET", "k", 5) == "OK"
        assert str(x("ACL", "SETUSER", "sure", "durability:most")).startswith("ERR Error in ACL SETUSER")
        x.close()
        y.close()
    with holdfast() as server:
        x = server.raw()
        assert str(x("HOLDFAST", "DURABILITY", "local")).startswith("ERR local and quorum need a log")
        x.close()


@pytest.mark.parametrize("kind", ["redis", "holdfast"])
def test_replica_n(kind):
    """A reply waits for the replica's acknowledgement, and so does a read of that key by whoever wants to be as
    sure; other reads pass, and when no acknowledgement comes there is an error in time."""
    with holdfast(**{"durability-timeout": "60000"}) as primary, (
            holdfast() if kind == "holdfast" else redis_server()) as replica:
        x, y, z = primary.raw(), replica.raw(), primary.raw()
        follow(y, primary.port)
        wait_up(y)
        assert x("SET", "other", 1) == "OK"
        for c in (x, z):
            c("HOLDFAST", "DURABILITY", "replica", 1)
        for i in range(20):
            assert x("SET", "k", i) == "OK"
            assert y("GET", "k") == str(i).encode()
        assert z("GET", "k") == b"19"
        assert x("CONFIG", "SET", "durability-timeout", 3000) == "OK"
        replica.process.send_signal(signal.SIGSTOP)
        x.send(x.encode(["SET", "k", "unsure"]))
        w = primary.raw()
        wait_for(lambda: w("GET", "k") == b"unsure", "it is done, and whoever is not particular sees it")
        begin = time.monotonic()
        assert z("GET", "other") == b"1"
        assert str(z("GET", "k")).startswith("NOREPLICAS Replicas did not make this as sure")
        assert str(x.read()).startswith("NOREPLICAS Replicas did not make this as sure")
        assert time.monotonic() - begin < 30
        wait_for(lambda: str(x("SET", "k", "refused")).startswith("NOREPLICAS Not enough"), "refusal")
        replica.process.send_signal(signal.SIGCONT)
        wait_for(lambda: x("SET", "k", "sure") == "OK", "it goes on")
        for c in (w, x, y, z):
            c.close()


def test_waitaof():
    """WAITAOF counts the replicas whose disks have it: a Holdfast replica with a log, not one without, and not
    redis-server 7.0, which does not say."""
    with holdfast(**LOGGED) as primary, holdfast(**LOGGED) as logged, holdfast() as without, redis_server() as old:
        x = primary.raw()
        raws = [s.raw() for s in (logged, without, old)]
        for raw in raws:
            follow(raw, primary.port)
            wait_up(raw)
        wait_for(lambda: info(x)["connected_slaves"] == "3", "three replicas")
        x("SET", "k", 1)
        assert x("WAITAOF", 1, 1, 30000) == [1, 1]
        x("SET", "k", 2)
        assert x("WAITAOF", 0, 1, 30000)[1] == 1
        assert x("WAIT", 3, 30000) == 3
        assert x("WAITAOF", 1, 2, 1500) == [1, 1]
        assert str(raws[0]("WAITAOF", 1, 0, 10)).startswith("ERR WAITAOF cannot be used with replica")
        x.close()
        for raw in raws:
            raw.close()


def test_a_majority_is_enough(nodes):
    """Writes go on with one node of three stopped, in any order of who; with two stopped they are refused in time,
    and reads of what is sure go on."""
    x = nodes.nodes["a"].raw()
    assert x("SET", "k", 1) == "OK"
    for n in "bc":
        nodes.nodes[n].process.send_signal(signal.SIGSTOP)
        assert x("SET", "k", n) == "OK"
        nodes.nodes[n].process.send_signal(signal.SIGCONT)
        wait_for(lambda: nodes.info("a").get("quorum_present") == "3", "all are there again")
    assert x("CONFIG", "SET", "durability-timeout", 2000) == "OK"
    for n in "bc":
        nodes.nodes[n].process.send_signal(signal.SIGSTOP)
    assert str(x("SET", "lost?", 1)).startswith("NOREPLICAS ")
    wait_for(lambda: x("SET", "never", 1) == Error("NOREPLICAS No majority of quorum-nodes is there"), "refusal")
    assert x("GET", "k") == b"c"
    for n in "bc":
        nodes.nodes[n].process.send_signal(signal.SIGCONT)
    wait_for(lambda: x("SET", "k", 2) == "OK", "writes go on")
    assert x("CONFIG", "SET", "durability-timeout", 60000) == "OK"
    x.close()


def test_who_has_less_is_not_elected(nodes):
    """A replica that was cut off while writes went on is promoted: it is not elected, says who has more, and takes
    no write. The one that has them is, by its vote; the other one follows."""
    x = nodes.nodes["a"].raw()
    nodes.isolate("c")
    for i in range(50):
        assert x("SET", f"key{i}", i) == "OK"
    assert x("CONFIG", "SET", "durability-timeout", 2000) == "OK"
    x.close()
    nodes.nodes["a"].process.send_signal(signal.SIGSTOP)
    # In this order: what is still under way to c must not reach it as a replica.
    nodes.promote("c")
    nodes.isolate("c", False)
    c = nodes.nodes["c"].raw()
    wait_for(lambda: "node b has more" in nodes.info("c").get("quorum_problem", ""), "it is told")
    assert c("SET", "k", "c") == Error("NOREPLICAS This primary has not been elected by a majority of quorum-nodes")
    assert nodes.info("c")["quorum_epoch"] == "0"
    nodes.promote("b")
    nodes.follow("c", "b")
    nodes.wait_elected("b")
    b = nodes.nodes["b"].raw()
    assert [b("GET", f"key{i}") for i in range(50)] == [str(i).encode() for i in range(50)]
    assert b("SET", "k", "b") == "OK"
    # The old one comes back, and knows nothing: it acknowledges nothing any more.
    x = nodes.nodes["a"].raw()
    nodes.nodes["a"].process.send_signal(signal.SIGCONT)
    assert str(x("SET", "k", "a")).startswith(("NOREPLICAS", "READONLY"))
    nodes.follow("a", "b")
    nodes.wait_acknowledging("a")
    assert x("GET", "k") == b"b"
    for raw in (b, c, x):
        raw.close()


def test_replaced_and_not_told():
    """A primary that was cut off while another one was elected finds out when it reaches the others again, though
    nobody comes to tell: it answers READONLY, at which clients ask Sentinel whom to write to. So does one that is
    started and finds others in a later epoch."""
    with Cluster(**{"durability-timeout": "500"}) as nodes:
        nodes.wait_elected("a")
        for n in "bc":
            nodes.wait_acknowledging(n)
        x = nodes.nodes["a"].raw()
        wait_for(lambda: x("SET", "first", 1) == "OK", "the first write")
        nodes.isolate("a")
        nodes.follow("c", "b")
        nodes.promote("b")
        nodes.wait_elected("b")
        nodes.isolate("a", False)
        refusal = Error("READONLY Another primary has been elected by a majority of quorum-nodes, or is about to be")
        wait_for(lambda: x("SET", "k", "a") == refusal, "it finds out")
        found = nodes.info("a")
        assert found["role"] == "master" and found["quorum_state"] == "not_elected", found
        x.close()
        nodes.nodes["a"].kill()
        nodes.nodes["a"].start()
        x = nodes.nodes["a"].raw()
        wait_for(lambda: x("SET", "k", "a") == refusal, "it finds out again")
        nodes.follow("a", "b")
        nodes.wait_acknowledging("a")
        y = nodes.nodes["b"].raw()
        assert y("GET", "k") is None and y("SET", "k", "b") == "OK"
        assert nodes.info("b")["quorum_elections"] == "1"
        x.close()
        y.close()


def test_back_to_the_same_epoch():
    """A replica that was promoted and not elected follows its primary again, in the epoch that its log is of already:
    what it acknowledges from then on is in its position, so that nobody is elected without it."""
    with Cluster() as nodes:
        nodes.wait_elected("a")
        for n in "bc":
            nodes.wait_acknowledging(n)
        # Each of them began as a primary: the first epoch may be over already.
        x = nodes.nodes["a"].raw()
        assert x("SET", "k", 0) == "OK"
        wait_for(lambda: len({nodes.info(n).get("quorum_log_epoch") for n in "abc"}) == 1, "one epoch")
        epoch = nodes.info("a")["quorum_epoch"]
        nodes.isolate("c")
        assert x("SET", "k", 1) == "OK"
        nodes.promote("c")
        nodes.isolate("c", False)
        wait_for(lambda: " has more" in nodes.info("c").get("quorum_problem", ""), "it is not elected")
        nodes.follow("c", "a")
        nodes.wait_acknowledging("c")
        assert nodes.info("c")["quorum_epoch"] == nodes.info("a")["quorum_epoch"] == epoch
        nodes.isolate("b")
        assert x("SET", "k", "sure") == "OK"
        nodes.nodes["a"].process.send_signal(signal.SIGSTOP)
        nodes.promote("b")
        nodes.isolate("b", False)
        wait_for(lambda: nodes.info("b")["quorum_epoch"] != "0" or
                 "node c has more" in nodes.info("b").get("quorum_problem", ""), "the vote")
        assert nodes.info("b")["quorum_epoch"] == "0"
        x.close()


def test_replaced_while_it_is_alone():
    """A primary that is left without a majority does not keep another one from being elected for writes that nobody was
    told of: that one has all that was sure. If it has not, it is not elected."""
    with Cluster(**{"durability-timeout": "30000"}) as nodes:
        nodes.wait_elected("a")
        for n in "bc":
            nodes.wait_acknowledging(n)
        x = nodes.nodes["a"].raw()
        nodes.isolate("b")
        assert x("SET", "k", "sure") == "OK"
        nodes.nodes["c"].kill()
        nodes.promote("b")
        nodes.isolate("b", False)
        wait_for(lambda: "node a has more" in nodes.info("b").get("quorum_problem", ""), "it is told")
        assert nodes.info("b")["quorum_epoch"] == "0"
        nodes.follow("b", "a")
        nodes.wait_acknowledging("b")
        nodes.wait_elected("a")  # it has heard of b
        nodes.isolate("b")
        x.send(x.encode(["SET", "k", "unsure"]))
        y = nodes.nodes["a"].raw()
        y("HOLDFAST", "DURABILITY", "memory")
        wait_for(lambda: y("GET", "k") == b"unsure", "it is done")
        nodes.promote("b")
        nodes.isolate("b", False)
        wait_for(lambda: nodes.info("b")["quorum_epoch"] != "0", "it is elected")
        nodes.follow("a", "b")
        assert str(x.read()).startswith("NOREPLICAS ")
        nodes.wait_acknowledging("a")
        b = nodes.nodes["b"].raw()
        wait_for(lambda: b("GET", "k") == b"sure", "what was sure")
        assert b("SET", "k", "b") == "OK"
        assert nodes.info("a")["divergence_journals"] == "1"
        nodes.nodes["c"].start()
        nodes.follow("c", "b")
        nodes.wait_acknowledging("c")
        for raw in (b, x, y):
            raw.close()


@pytest.mark.parametrize("options", [LOGGED, {}], ids=["from the log", "from memory"])
def test_divergence_journal(options):
    """An old primary that has gone on alone follows the promoted one: what it has to give up is in a journal that
    `holdfast log` reads, byte for byte what INFO said that a failover would lose."""
    with holdfast(**options) as old, holdfast(**options) as new:
        x, y = old.raw(), new.raw()
        follow(y, old.port)
        wait_up(y)
        x("SET", "both", 1)
        wait_for(lambda: y("GET", "both") == b"1", "it is there")
        y("REPLICAOF", "NO", "ONE")
        wait_for(lambda: info(x)["connected_slaves"] == "0", "the replica has gone")
        before = int(info(x)["master_repl_offset"])
        for i in range(100):
            x("SET", "given", f"up {i}")
        y("SET", "given", "never")
        lost = int(info(x)["master_repl_offset"]) - int(info(y)["second_repl_offset"]) + 1
        events = old.raw()
        events("SUBSCRIBE", "__holdfast__:replication")
        follow(x, new.port)
        wait_up(x)
        assert x("GET", "given") == b"never"
        found = info(x)
        assert found["divergence_journals"] == "1"
        assert int(found["divergence_bytes"]) == lost >= int(found["divergence_bytes"]) - before
        path = old.directory / found["divergence_journal"]
        text = subprocess.run([str(PLAIN_BUILD / "holdfast"), "log", str(path)], capture_output=True, text=True)
        assert text.returncode == 0, text
        assert text.stdout.count("up ") == 100 and "up 99" in text.stdout, text.stdout[:1000]
        assert "ALARM" in old.text()
        while b'"event":"diverged"' not in events.read()[2]:
            pass
        events.close()
        x.close()
        y.close()


def test_far_behind_is_served_from_the_log():
    """A replica that was away for longer than the backlog in memory lasts goes on from the log's files, over several
    of them, while somebody writes; when they do not go back so far everything comes anew, and INFO says why."""
    small = {**LOGGED, "repl-backlog-size": "16kb", "auto-aof-rewrite-percentage": "0", "repl-log-history": "0"}
    with holdfast(**small) as primary, holdfast(**LOGGED) as replica:
        x, y = primary.raw(), replica.raw()
        cable = Cable(primary.port)
        follow(y, cable.port)
        wait_up(y)

        def moved_on():
            """Memory has let go of what the replica has not got, which it does when it has seen the link break."""
            return int(info(x)["repl_backlog_first_byte_offset"]) > int(info(y)["master_repl_offset"]) + 1

        for turn in range(3):
            y("REPLICAOF", "127.0.0.1", 1)
            for k in range(20):
                x.pipeline([["SET", f"k{i}", "v" * 1000 + str(turn)] for i in range(100)])
            if turn == 1:
                x("BGREWRITEAOF")
                wait_for(lambda: info(x, "persistence")["aof_rewrites"] == "1", "the rewrite")
                x.pipeline([["SET", f"m{i}", "v" * 1000] for i in range(1000)])
            wait_for(moved_on, "the backlog has moved on")
            writer = Writer(primary, 7) if turn == 2 else None
            follow(y, cable.port)
            wait_up(y)
            if writer:
                writer.stop()
            assert_same(x, y, f"turn {turn}")
        found = info(x)
        assert found["sync_partial_from_disk"] == "3", found
        assert info(x, "stats")["sync_full"] == "1"
        y("REPLICAOF", "127.0.0.1", 1)
        def rewritten():
            x.pipeline([["SET", f"n{i}", "v" * 1000] for i in range(100)])
            x("BGREWRITEAOF")
            return not glob.glob(str(primary.directory / "appendonlydir/*.[12].incr.aof"))
        wait_for(rewritten, "the old files are removed")
        wait_for(moved_on, "the backlog has moved on")
        follow(y, cable.port)
        wait_up(y)
        assert_same(x, y)
        found = info(x)
        assert info(x, "stats")["sync_full"] == "2"
        assert found["last_full_sync_reason"].startswith("behind the backlog in memory, and on disk:"), found
        cable.close()
        x.close()
        y.close()


@pytest.mark.parametrize("where", [0.01, 0.9])
def test_damaged_history_is_not_served(where):
    """Damage in a file that a rewrite has left behind stops no start, and nothing of it gets to a replica: what is
    before it may be sent, and then all of the data is."""
    options = {**LOGGED, "repl-backlog-size": "16kb", "auto-aof-rewrite-percentage": "0"}
    with holdfast(**options) as primary, holdfast(**LOGGED) as replica:
        x, y = primary.raw(), replica.raw()
        follow(y, primary.port)
        wait_up(y)
        y("REPLICAOF", "127.0.0.1", 1)
        for turn in range(8):
            x.pipeline([["SET", f"k{i}", f"{turn}" + "v" * 1000] for i in range(100)])
        x("BGREWRITEAOF")
        wait_for(lambda: info(x, "persistence")["aof_rewrites"] == "1", "the rewrite")
        wait_for(lambda: info(x, "persistence")["aof_rewrite_in_progress"] == "0", "its end")
        x.pipeline([["SET", f"m{i}", "v" * 1000] for i in range(100)])
        x.close()
        assert primary.terminate() == 0
        history = primary.directory / "appendonlydir/appendonly.aof.1.incr.aof"
        data = bytearray(history.read_bytes())
        data[int(len(data) * where)] ^= 4
        history.write_bytes(data)
        primary.start()
        x = primary.raw()
        assert x("DBSIZE") == 200
        follow(y, primary.port)
        wait_up(y)
        assert_same(x, y)
        found = info(x)
        assert found["sync_partial_from_disk"] == "0" and info(x, "stats")["sync_full"] == "1", found
        assert "could not be served from the log on disk" in primary.text()
        x.close()
        y.close()


def test_history_of_the_log():
    """repl-log-history: so much of the log stays for replicas over any number of rewrites and a restart, and no more
    files than it takes; INFO says how far back it goes."""
    options = {**LOGGED, "repl-backlog-size": "16kb", "auto-aof-rewrite-percentage": "0", "repl-log-history": "1mb"}
    with holdfast(**options) as primary, holdfast(**LOGGED) as replica:
        x, y = primary.raw(), replica.raw()

        def rewrite():
            count = int(info(x, "persistence")["aof_rewrites"])
            x("BGREWRITEAOF")
            wait_for(lambda: int(info(x, "persistence")["aof_rewrites"]) > count, "the rewrite")
            wait_for(lambda: info(x, "persistence")["aof_rewrite_in_progress"] == "0", "its end")

        def reach():
            return int(info(x)["repl_log_first_byte_offset"])

        assert reach() == 1 and info(x)["repl_log_active"] == "1"
        follow(y, primary.port)
        wait_up(y)
        y("REPLICAOF", "127.0.0.1", 1)
        for turn in range(3):
            x.pipeline([["SET", f"k{i}", "v" * 1000] for i in range(100)])
            rewrite()
        assert reach() == 1
        assert int(info(x)["repl_log_histlen"]) == int(info(x)["master_repl_offset"])
        x.close()
        primary.terminate()
        primary.start()
        x = primary.raw()
        assert reach() == 1
        rewrite()
        rewrite()
        follow(y, primary.port)
        wait_up(y)
        assert_same(x, y)
        found = info(x)
        assert found["sync_partial_from_disk"] == "1" and info(x, "stats")["sync_full"] == "0"
        # Beyond it files go, the oldest first.
        for turn in range(4):
            x.pipeline([["SET", f"k{i}", "v" * 1000] for i in range(600)])
            rewrite()
        wait_for(lambda: len(glob.glob(str(primary.directory / "appendonlydir/*.incr.aof"))) < 5, "removal")
        assert 1_000_000 < int(info(x)["repl_log_histlen"]) < 2_500_000, info(x)
        # And on a directive that is changed from the next rewrite on.
        x("CONFIG", "SET", "repl-log-history", "0")
        rewrite()
        rewrite()
        wait_for(lambda: int(info(x)["repl_log_histlen"]) < 10_000, "all but the last is gone")
        x("CONFIG", "SET", "appendonly", "no")
        wait_for(lambda: info(x)["repl_log_active"] == "0", "no log")
        assert info(x)["repl_log_histlen"] == "0"
        x.close()
        y.close()
