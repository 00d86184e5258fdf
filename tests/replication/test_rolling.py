# SPDX-License-Identifier: BSD-3-Clause
"""A rolling restart of three nodes while clients write: the replicas one by one, then FAILOVER, then the old
primary. No full resynchronisation, no lost write, with the log and with snapshots alone. HF_ROLLING_ROUNDS: how often
(each round has all three nodes restarted, and another primary)."""
import contextlib
import os

import pytest

from harness import PATIENCE, Error, free_port
from net import follow, holdfast, info, wait_for, wait_up
from sentinel import Node
from test_failover import Counter

ROUNDS = int(os.environ.get("HF_ROLLING_ROUNDS", 1))
CLIENTS = 3


def restart(node):
    """In order: what is in memory is on disk, with its place in the history."""
    raw = node.raw()
    raw.send(raw.encode(["SHUTDOWN", "SAVE"]))
    node.process.wait(PATIENCE)
    raw.close()
    node.terminate()
    node.start()
    return node.raw()


def three_of_a_quorum():
    """Options of each: the first one is the primary."""
    ports = [free_port() for _ in range(3)]
    listed = " ".join(f"{name}=127.0.0.1:{port}" for name, port in zip("abc", ports))
    for name, port in zip("abc", ports):
        first = {} if name == "a" else {"replicaof": f"127.0.0.1 {ports[0]}"}
        yield {"port": port, "durability": "quorum", "quorum-nodes": listed, "quorum-node": name, "appendonly": "yes", **first}


@pytest.mark.parametrize("kind", ["log", "snapshots", "quorum"])
def test_rolling_restart(kind):
    """Each node runs anew at the end; the counters went on, each count once; nobody got all of the data again."""
    with contextlib.ExitStack() as stack:
        nodes = []
        each = three_of_a_quorum() if kind == "quorum" else [{"appendonly": "yes" if kind == "log" else "no"}] * 3
        for options in each:
            nodes.append(Node(**options))
            stack.callback(nodes[-1].remove)
        raws = [node.raw() for node in nodes]
        wait_for(lambda: raws[0]("SET", "before", 1) == "OK", "it takes writes")
        raws[0].pipeline([("SET", f"before{i}", i) for i in range(2000)])
        for raw in raws[1:]:
            if kind != "quorum":
                follow(raw, nodes[0].port)
            assert raw("CONFIG", "REWRITE") == "OK"
        for raw in raws[1:]:
            wait_counting(raw)
        assert info(raws[0], "stats")["sync_full"] == "2"
        raws[0]("CONFIG", "RESETSTAT")
        counters = [Counter(nodes, f"counter{i}") for i in range(CLIENTS)]
        for turn in range(ROUNDS):
            roll(nodes, raws, turn % 3, counters)
        for c in counters:
            c.stop()
        primary = ROUNDS % 3
        for i in range(3):
            wait_for(lambda: info(raws[i])["master_repl_offset"] == info(raws[primary])["master_repl_offset"], "in step")
            for c in counters:
                assert int(raws[i]("GET", c.key)) == c.acknowledged
            assert raws[i]("DEBUG", "DIGEST") == raws[primary]("DEBUG", "DIGEST")
            if i != primary:
                assert raws[i]("SET", "counter", 1) == Error("READONLY You can't write against a read only replica.")
        print(f"{kind}, {ROUNDS} rounds: {sum(c.acknowledged for c in counters)} writes, none lost, no full "
              f"resynchronisation, at most {max(c.slowest for c in counters) * 1000:.0f} ms without one")
        for raw in raws:
            raw.close()


def wait_counting(raw):
    """The link is up, and of a quorum the node is one of the majority."""
    wait_up(raw)
    wait_for(lambda: info(raw).get("quorum_state", "acknowledging") == "acknowledging", "it acknowledges")


def roll(nodes, raws, old, counters):
    """The two others, then `old`, which the next one has taken over from."""
    new, third = (old + 1) % 3, (old + 2) % 3

    def full_resynchronisations():
        return sum(int(info(raw, "stats")["sync_full"]) for raw in raws)

    def counting():
        at = [c.acknowledged for c in counters]
        wait_for(lambda: all(c.acknowledged > a + 20 for c, a in zip(counters, at)), f"counting {[c.failure for c in counters]}")

    identity = [info(raw, "server")["run_id"] for raw in raws]
    for i in (new, third):
        counting()
        raws[i].close()
        raws[i] = restart(nodes[i])
        wait_counting(raws[i])
    # What the one that is restarted has given counts anew, so it is asked before each restart.
    assert full_resynchronisations() == 0
    wait_for(lambda: info(raws[old])["connected_slaves"] == "2", "both replicas")
    assert raws[old]("FAILOVER", "TO", "127.0.0.1", nodes[new].port, "TIMEOUT", 60000) == "OK"
    wait_for(lambda: info(raws[old])["master_failover_state"] == "no-failover", "the failover")
    assert info(raws[new])["role"] == "master"
    follow(raws[third], nodes[new].port)
    for raw in raws:
        assert raw("CONFIG", "REWRITE") == "OK"
    wait_counting(raws[old])
    wait_counting(raws[third])
    assert full_resynchronisations() == 0
    raws[old].close()
    raws[old] = restart(nodes[old])
    wait_counting(raws[old])
    counting()
    assert full_resynchronisations() == 0
    assert all(n != o for n, o in zip([info(raw, "server")["run_id"] for raw in raws], identity))


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
        replica = Node(appendonly="yes", **{"snapshot-rate-limit": "256kb"})
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
