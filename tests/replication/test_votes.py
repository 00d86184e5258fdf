# SPDX-License-Identifier: BSD-3-Clause
"""The file of a quorum's node (holdfast-quorum) on a disk that is slow, fails, or has damaged it (disks.py): nobody but
who needs it waits, nothing counts that is not known to be there, and what cannot be read is not guessed."""
import time

import pytest

from disks import Disk
from harness import Server, Simple, free_port
from net import info, wait_for
from nodes import Cluster, Wires


# Nothing is in the stream that nobody has written: a node that has a ping more than another one does not vote for it.
CALM = {"repl-ping-replica-period": "1000", "repl-timeout": "1000"}


def test_a_vote_waits_for_the_disk(tmp_path):
    """It binds the node at once, and is told of when it is on the disk and not before; meanwhile the server serves."""
    disk = Disk(tmp_path)
    say = disk.say
    nodes = [f"{n}=127.0.0.1:{free_port()}" for n in "abc"]
    server = Server(options={"appendonly": "yes", "quorum-node": "a", "quorum-nodes": nodes}, directory=tmp_path,
                    plain=True, prefix=disk.prefix)
    asker, other = server.raw(), server.raw()

    def vote(raw, name):
        return raw("HOLDFAST", "VOTE", name, 7, 0, 10**9, "REAL")

    wait_for(lambda: info(other)["quorum_can_vote"] == "1", "the log is on")
    assert vote(other, "x") == "ERR That is no other one of this server's quorum-nodes"
    say("vote")
    asker.send(asker.encode(["HOLDFAST", "VOTE", "b", 7, 0, 10**9, "REAL"]))
    wait_for(lambda: info(other)["quorum_promised_epoch"] == "7", "the promise")
    slowest = 0
    for _ in range(50):
        begin = time.monotonic()
        assert other("PING") == Simple("PONG")
        slowest = max(slowest, time.monotonic() - begin)
    print(f"slowest of 50 PINGs {slowest * 1000:.1f} ms")
    assert str(vote(other, "c")).startswith("VOTE 0 7 ")
    # It takes too long: no vote, and the promise stands.
    assert str(asker.read()).startswith("VOTE 0 7 ")
    assert str(other("HOLDFAST", "VOTE", "b", 7, 0, 10**9, "PRE")).startswith("VOTE 1 7 ")
    assert "promised 7" not in (tmp_path / "holdfast-quorum").read_text()
    say("")
    wait_for(lambda: str(vote(asker, "b")).startswith("VOTE 1 7 "), "the vote")
    assert "promised 7 b" in (tmp_path / "holdfast-quorum").read_text()
    assert str(vote(other, "c")).startswith("VOTE 0 7 ")
    asker.close()
    other.close()
    server.kill()
    server.start()
    other = server.raw()
    wait_for(lambda: info(other)["quorum_can_vote"] == "1", "the log is on")
    assert info(other)["quorum_promised_epoch"] == "7"
    assert str(vote(other, "c")).startswith("VOTE 0 7 ")
    assert str(vote(other, "b")).startswith("VOTE 1 7 ")
    other.close()
    server.stop()


def test_a_vote_on_a_disk_that_fails(tmp_path):
    """A promise that could not be written binds the node as long as it lives, and is not told of. What it had told of
    before is there after a crash; that one may be."""
    disk = Disk(tmp_path)
    nodes = [f"{n}=127.0.0.1:{free_port()}" for n in "abc"]
    server = Server(options={"appendonly": "yes", "quorum-node": "a", "quorum-nodes": nodes}, directory=tmp_path,
                    plain=True, prefix=disk.prefix)
    raw = server.raw()

    def vote(name, epoch):
        return str(raw("HOLDFAST", "VOTE", name, epoch, 0, 10**9, "REAL"))

    wait_for(lambda: info(raw)["quorum_can_vote"] == "1", "the log is on")
    # It is a primary that nobody votes for: what it asks others for takes no more than a try now and then.
    wait_for(lambda: vote("b", 1007).startswith("VOTE 1 1007 "), "the first vote")
    disk.say("vote-error")
    assert vote("c", 1008).startswith("VOTE 0 1008 ")
    assert "The state of the quorum is not on the disk: " in server.text()
    assert "promised 1008" not in (tmp_path / "holdfast-quorum").read_text()
    # Not even what is there already: it may have been replaced.
    assert vote("b", 1007).startswith("VOTE 0 1008 ")
    assert vote("b", 1008).startswith("VOTE 0 1008 ")
    assert raw("PING") == Simple("PONG")
    raw.close()
    server.kill()
    server.start()
    raw = server.raw()
    wait_for(lambda: info(raw)["quorum_can_vote"] == "1", "the log is on")
    assert info(raw)["quorum_promised_epoch"] == "1007"
    assert vote("c", 1007).startswith("VOTE 0 1007 ")
    assert vote("b", 1007).startswith("VOTE 1 1007 ")
    disk.say("")
    wait_for(lambda: vote("c", 1008).startswith("VOTE 1 1008 "), "the vote")
    assert "promised 1008 c" in (tmp_path / "holdfast-quorum").read_text()
    raw.close()
    server.stop()


@pytest.mark.parametrize("word", ["vote", "vote-error"])
def test_an_epoch_that_is_not_on_the_disk(tmp_path, word):
    """A replica whose disk does not take the new primary's epoch, as it hangs or fails, follows and serves, but does not
    acknowledge: it is none of the majority. When its disk works it is, without being told, and after a crash, too."""
    disk = Disk(tmp_path)

    class Network(Wires):
        def prefix(self, x):
            return disk.prefix if x == "b" else ()

    with Cluster(network=Network, plain=True, **{**CALM, "durability-timeout": "30000"}) as nodes:
        nodes.wait_elected("a")
        for n in "bc":
            nodes.wait_acknowledging(n)
        x = nodes.nodes["a"].raw()
        assert x("SET", "k", 0) == "OK"
        # It is sure as soon as b has it; whoever has less than that is elected by nobody.
        wait_for(lambda: nodes.info("c")["quorum_position"] == nodes.info("a")["quorum_position"], "c has it, too")
        before = int(nodes.info("b")["quorum_log_epoch"])
        disk.say(word)
        nodes.promote("c")
        # By the vote of a, which is the only one that can give one.
        wait_for(lambda: nodes.info("c").get("quorum_epoch", "0") != "0", "c is elected")
        nodes.follow("a", "c")
        nodes.follow("b", "c")
        nodes.wait_elected("c")
        c = nodes.nodes["c"].raw()
        wait_for(lambda: nodes.info("b").get("master_link_status") == "up", "b follows")
        assert c("SET", "k", 1) == "OK"
        b = nodes.nodes["b"].raw()
        wait_for(lambda: b("GET", "k") == b"1", "b has it")
        found = nodes.info("b")
        epoch = int(nodes.info("c")["quorum_epoch"])
        assert epoch > before
        assert (found["quorum_state"], int(found["quorum_epoch"])) == ("following", epoch), found
        wait_for(lambda: nodes.info("c")["quorum_present"] == "2", "b does not count")
        # With the other one gone there is no majority, though both have it in their logs, on their disks.
        nodes.isolate("a")
        c.send(c.encode(["SET", "k", 2]))
        wait_for(lambda: b("GET", "k") == b"2", "b has it")
        found = nodes.info("c")
        assert int(found["quorum_sure_lsn"]) < int(found["master_repl_offset"]), found
        assert nodes.info("b")["quorum_state"] == "following"
        disk.say("")
        nodes.wait_acknowledging("b")
        assert c.read() == "OK"
        assert int(nodes.info("b")["quorum_log_epoch"]) == epoch
        b.close()
        nodes.nodes["b"].kill()
        nodes.nodes["b"].start()
        assert int(nodes.info("b")["quorum_log_epoch"]) == epoch
        nodes.follow("b", "c")
        nodes.wait_acknowledging("b")
        wait_for(lambda: c("SET", "k", 3) == "OK", "it counts again")
        nodes.isolate("a", False)
        nodes.wait_acknowledging("a")
        for raw in (c, x):
            raw.close()


def test_a_promotion_on_a_disk_that_fails(tmp_path):
    """A node is promoted whose disk does not take what it has to be known by: FAILOVER is given up for it. As a primary
    nobody elects it and its stream does not grow, neither by what is published nor by what expires; when its disk works
    again it is elected, without being told."""
    disk = Disk(tmp_path)

    class Network(Wires):
        def prefix(self, x):
            return disk.prefix if x == "b" else ()

    with Cluster(network=Network, plain=True, **CALM) as nodes:
        nodes.wait_elected("a")
        for n in "bc":
            nodes.wait_acknowledging(n)
        a, b = nodes.nodes["a"].raw(), nodes.nodes["b"].raw()
        assert b("HOLDFAST", "DURABILITY", "memory") == "OK"  # else what it reads waits for a majority
        assert a("SET", "k", 0) == "OK"
        disk.say("vote-error")
        # As the primary knows the replica: by the address that its connection comes from, and its own port.
        assert a("FAILOVER", "TO", "127.0.0.1", nodes.nodes["b"].port, "TIMEOUT", 10**6) == "OK"
        wait_for(lambda: "does not take what a primary of a quorum needs" in nodes.nodes["a"].text(), "it is refused")
        wait_for(lambda: nodes.info("a")["master_failover_state"] == "no-failover", "it is given up")
        wait_for(lambda: a("SET", "k", 1) == "OK", "it is elected again")
        assert (nodes.info("a")["role"], nodes.info("b")["role"]) == ("master", "slave")
        # It is gone when the replica is a primary, and not by the primary's DEL.
        a("SET", "short", 1, "PX", 4000)
        wait_for(lambda: b("GET", "short") == b"1" or a("EXISTS", "short") == 0, "b has it")
        nodes.promote("b")
        nodes.follow("a", "b")
        nodes.follow("c", "b")
        wait_for(lambda: "its disk does not take holdfast-quorum" in nodes.info("b")["quorum_problem"], "it says why")
        found = nodes.info("b")
        assert (found["role"], found["quorum_state"], found["quorum_can_vote"]) == ("master", "not_elected", "0"), found
        assert str(b("SET", "k", 2)).startswith("NOREPLICAS ")
        other = nodes.nodes["b"].raw()
        other.send(other.encode(["PUBLISH", "channel", "message"]))
        wait_for(lambda: b("GET", "short") is None, "it is hidden")
        assert b("WAIT", 0, 1) == 0
        time.sleep(0.5)  # as long as three tries of the disk, and five rounds of active expiry
        assert nodes.info("b")["master_repl_offset"] == found["master_repl_offset"]
        disk.say("")
        nodes.wait_elected("b")
        assert other.read() == 0
        wait_for(lambda: b("SET", "k", 3) == "OK", "it takes writes")
        for n in "ac":
            nodes.wait_acknowledging(n)
        wait_for(lambda: a("GET", "k") == b"3", "a has it")
        assert "cap" not in (nodes.nodes["b"].directory / "holdfast-quorum").read_text()
        for raw in (a, b, other):
            raw.close()


def test_a_primary_that_was_made_a_replica_knows_what_was_sure():
    """It has more than the node that takes its place, which nobody was ever told of: it is no reason not to vote for that
    one, also when it has been made its replica before it was asked. What it has more is in a journal."""
    with Cluster(plain=True, **CALM) as nodes:
        nodes.wait_elected("a")
        for n in "bc":
            nodes.wait_acknowledging(n)
        a = nodes.nodes["a"].raw()
        assert a("SET", "k", 0) == "OK"
        wait_for(lambda: nodes.info("b")["quorum_position"] == nodes.info("a")["quorum_position"], "b has it")
        nodes.nodes["c"].kill()
        nodes.isolate("a")
        assert a("HOLDFAST", "DURABILITY", "memory") == "OK"
        assert a("SET", "k", "not sure") == "OK"
        nodes.promote("b")
        nodes.follow("a", "b")
        assert nodes.info("a")["role"] == "slave"
        nodes.isolate("a", False)
        nodes.wait_elected("b")
        nodes.wait_acknowledging("a")
        b = nodes.nodes["b"].raw()
        assert b("GET", "k") == b"0" and b("SET", "k", 1) == "OK"
        wait_for(lambda: a("GET", "k") == b"1", "a has it")
        assert nodes.info("a")["divergence_journals"] == "1"
        a.close()
        b.close()
        nodes.nodes["c"].start()


def test_what_cannot_be_read(tmp_path):
    """A file that was cut short, has another bit, or is of a newer version stops the start and stays as it is."""
    nodes = [f"{n}=127.0.0.1:{free_port()}" for n in "abc"]
    server = Server(options={"appendonly": "yes", "quorum-node": "a", "quorum-nodes": nodes}, directory=tmp_path)
    raw = server.raw()
    wait_for(lambda: info(raw)["quorum_can_vote"] == "1", "the log is on")
    assert raw("HOLDFAST", "VOTE", "b", 1007, 0, 10**9, "REAL").startswith("VOTE 1 1007 ")
    raw.close()
    server.kill()
    path = tmp_path / "holdfast-quorum"
    whole = path.read_bytes()
    assert b"promised 1007 b" in whole
    newer = whole.replace(b"quorum 1", b"quorum 2")[:-9]
    for data, words in [(whole[:-1], "is damaged"), (b"", "is damaged"),
                        (whole.replace(b"1007", b"1006"), "is damaged"),
                        (newer + b"%08x\n" % crc32c(newer), "is of a newer version")]:
        path.write_bytes(data)
        server.start(wait=False)
        assert server.process.wait(60) == 1, server.text()
        assert f"holdfast-quorum {words}" in server.text().splitlines()[-1]
        assert path.read_bytes() == data
        server.kill()
    path.write_bytes(whole)
    server.start()
    raw = server.raw()
    assert info(raw)["quorum_promised_epoch"] == "1007"
    raw.close()
    server.stop()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
