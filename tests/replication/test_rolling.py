# SPDX-License-Identifier: BSD-3-Clause
"""A rolling restart of three nodes while clients write: the replicas one by one, then FAILOVER, then the old
primary. No full resynchronisation, no lost write, with the log and with snapshots alone."""
import pytest

from harness import Error
from net import follow, holdfast, info, wait_for, wait_up
from sentinel import Node
from test_failover import Counter


def restart(node):
    """In order: what is in memory is on disk, with its place in the history."""
    raw = node.raw()
    raw.send(raw.encode(["SHUTDOWN", "SAVE"]))
    node.process.wait(60)
    raw.close()
    node.terminate()
    node.start()
    return node.raw()


@pytest.mark.parametrize("appendonly", ["yes", "no"])
def test_rolling_restart(appendonly):
    """Each node runs anew at the end; the counter went on, each count once; nobody got all of the data again."""
    nodes = [Node(appendonly=appendonly) for _ in range(3)]
    raws = [node.raw() for node in nodes]
    raws[0].pipeline([("SET", f"before{i}", i) for i in range(2000)])
    for raw in raws[1:]:
        follow(raw, nodes[0].port)
        assert raw("CONFIG", "REWRITE") == "OK"
    for raw in raws[1:]:
        wait_up(raw)
    assert info(raws[0], "stats")["sync_full"] == "2"
    counter = Counter(nodes)
    identity = [info(raw, "server")["run_id"] for raw in raws]

    def full_resynchronisations():
        return sum(int(info(raw, "stats")["sync_full"]) for raw in raws)

    for i in (1, 2):
        wait_for(lambda: counter.acknowledged > 50 * i, "counting")
        raws[i].close()
        raws[i] = restart(nodes[i])
        wait_up(raws[i])
    assert full_resynchronisations() == 2
    wait_for(lambda: info(raws[0])["connected_slaves"] == "2", "both replicas")
    assert raws[0]("FAILOVER", "TO", "127.0.0.1", nodes[1].port, "TIMEOUT", 60000) == "OK"
    wait_for(lambda: info(raws[0])["master_failover_state"] == "no-failover", "the failover")
    assert info(raws[1])["role"] == "master"
    follow(raws[2], nodes[1].port)
    for raw in raws:
        assert raw("CONFIG", "REWRITE") == "OK"
    wait_up(raws[0])
    wait_up(raws[2])
    assert full_resynchronisations() == 2
    raws[0].close()
    raws[0] = restart(nodes[0])
    wait_up(raws[0])
    at = counter.acknowledged
    wait_for(lambda: counter.acknowledged > at + 50, "counting goes on")
    counter.stop()
    # The first node, which gave the two that there had to be, counts anew.
    assert full_resynchronisations() == 0
    assert all(new != old for new, old in zip([info(raw, "server")["run_id"] for raw in raws], identity))
    for raw in (raws[0], raws[2]):
        wait_for(lambda: info(raw)["master_repl_offset"] == info(raws[1])["master_repl_offset"], "in step")
        assert int(raw("GET", "counter")) == counter.acknowledged
        assert raw("DEBUG", "DIGEST") == raws[1]("DEBUG", "DIGEST")
        assert raw("SET", "counter", 1) == Error("READONLY You can't write against a read only replica.")
    print(f"appendonly {appendonly}: {counter.acknowledged} writes, at most {counter.slowest * 1000:.0f} ms without one")
    for raw in raws:
        raw.close()
    for node in nodes:
        node.remove()


def test_restart_of_a_primary_with_a_snapshot():
    """A primary without a log that ends with a save goes on where it was, and so do its replicas, also when it has
    taken writes without any replica before."""
    primary, replica = Node(appendonly="no"), Node(appendonly="no")
    x, y = primary.raw(), replica.raw()
    follow(y, primary.port)
    wait_up(y)
    for turn in range(2):
        x.pipeline([("RPUSH", "l", f"{turn}.{i}") for i in range(100)])
        wait_for(lambda: y("LLEN", "l") == x("LLEN", "l"), "the list")
        x.close()
        x = restart(primary)
        wait_up(y)
        wait_for(lambda: info(x)["connected_slaves"] == "1", "the replica")
        assert info(x, "stats")["sync_full"] == "0", info(x)["last_full_sync_reason"]
        assert info(x, "stats")["sync_partial_ok"] == "1"
    assert x("DEBUG", "DIGEST") == y("DEBUG", "DIGEST")
    x.close()
    y.close()
    primary.remove()
    replica.remove()


def test_shutdown_before_the_log_is_on():
    """A replica that has just got all the data ends before its own log is of that data: its snapshot is newer than
    the log that there was, and tells its own place in the primary's history."""
    with holdfast() as primary:
        replica = Node(appendonly="yes", **{"snapshot-rate-limit": "1mb"})
        x, y = primary.raw(), replica.raw()
        assert y("SET", "own", 1) == "OK"
        x.pipeline([("SET", f"k{i}", f"{i:0100}") for i in range(20000)])
        follow(y, primary.port)
        assert y("CONFIG", "REWRITE") == "OK"
        wait_up(y)
        assert y("CONFIG", "SET", "snapshot-rate-limit", "0") == "OK"
        assert info(y, "persistence")["log_state"] == "starting"
        y = restart(replica)
        assert "the log begins anew from it" in replica.text()
        x("SET", "later", 1)
        wait_up(y)
        wait_for(lambda: y("GET", "later") == b"1", "the write")
        assert x("DEBUG", "DIGEST") == y("DEBUG", "DIGEST")
        assert info(x, "stats")["sync_full"] == "1"
        x.close()
        y.close()
        replica.remove()
