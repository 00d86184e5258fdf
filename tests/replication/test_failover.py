# SPDX-License-Identifier: BSD-3-Clause
"""FAILOVER: a primary and its replica change places without losing a write, between Holdfast and
redis-server in both directions."""
import os
import signal
import socket
import threading
import time

import pytest

from harness import Error
from net import assert_same, follow, holdfast, info, redis_server, wait_for, wait_up
from nodes import Cluster

KINDS = {"holdfast": holdfast, "redis": redis_server}
REQUESTS = [
    "", "ABORT", "TO 127.0.0.1", "TO 127.0.0.1 x", "TIMEOUT 0", "TIMEOUT -1", "TIMEOUT x", "TIMEOUT", "FORCE",
    "FORCE FORCE", "ABORT TIMEOUT 5", "ABORT ABORT", "TIMEOUT 5 TIMEOUT 6", "nonsense", "TO a 1 TO b 2", "TO a 99999",
    "TO a 1 FORCE", "TO a 1 FORCE TIMEOUT 0", "FORCE TIMEOUT 5", "TO a 1", "TO '' 1 TIMEOUT 5", "timeout 5 abort"]


def test_errors_as_redis():
    """Whatever is wrong with a FAILOVER is said in redis-server's words: without replicas, with one, and while
    a failover is under way that cannot come to an end."""
    said = {}
    for kind, make in KINDS.items():
        with make() as primary, make() as replica:
            x, y = primary.raw(), replica.raw()
            heard = said[kind] = []

            def ask(raw, *args):
                heard.append((args, raw(*args)))

            def ask_all():
                for request in REQUESTS:
                    words = [w.strip("'") for w in request.split()]
                    if words and (x("EXISTS", "k") == 0 or words != ["TIMEOUT", "5"]):
                        ask(x, "FAILOVER", *words)
            ask(x, "FAILOVER")
            ask_all()
            ask(x, "PSYNC", "a" * 40, 5, "FAILOVER")
            x("SET", "k", 1)
            follow(y, primary.port)
            wait_up(y)
            wait_for(lambda: "state=online" in info(x).get("slave0", ""), "online")
            ask_all()
            ask(y, "FAILOVER")
            ask(y, "PSYNC", "a" * 40, 5, "FAILOVER")
            os.kill(replica.process.pid, signal.SIGSTOP)
            x("SET", "k", 2)
            assert x("FAILOVER", "TO", "127.0.0.1", replica.port, "TIMEOUT", 1000000) == "OK"
            heard.append(info(x)["master_failover_state"])
            ask_all_but_abort = [r for r in REQUESTS if r and r != "ABORT"]
            for request in ask_all_but_abort:
                ask(x, "FAILOVER", *[w.strip("'") for w in request.split()])
            ask(x, "FAILOVER")
            ask(x, "REPLICAOF", "127.0.0.1", 1)
            ask(x, "REPLICAOF", "NO", "ONE")
            ask(x, "FAILOVER", "ABORT")
            heard.append(info(x)["master_failover_state"])
            ask(x, "SET", "k", 3)
            os.kill(replica.process.pid, signal.SIGCONT)
            x.close()
            y.close()
    assert said["holdfast"] == said["redis"]


class Counter(threading.Thread):
    """A client that adds to a counter as long as it may, and finds the primary again when it may not."""

    def __init__(self, servers, key="counter"):
        super().__init__(daemon=True)
        self.servers = servers
        self.key = key
        self.failure = None
        self.acknowledged = 0
        self.slowest = 0.0
        self.stopping = False
        self.start()

    def run(self):
        at, raw, last = 0, None, time.monotonic()
        while not self.stopping:
            try:
                raw = raw or self.servers[at].raw()
                reply = raw("INCR", self.key)
            except (OSError, EOFError):
                reply = None
            if isinstance(reply, int):
                if reply <= self.acknowledged:
                    self.failure = f"{self.key}: {reply} after {self.acknowledged}"
                    return
                self.acknowledged = reply
                self.slowest = max(self.slowest, time.monotonic() - last)
                last = time.monotonic()
                continue
            if raw is not None:
                raw.close()
            raw, at = None, (at + 1) % len(self.servers)
            time.sleep(0.002)

    def stop(self):
        self.stopping = True
        self.join(60)
        assert self.failure is None, self.failure


@pytest.mark.parametrize("first,second,options", [
    ("holdfast", "holdfast", {}), ("holdfast", "holdfast", {"appendonly": "yes", "appendfsync": "always"}),
    ("holdfast", "redis", {}), ("redis", "holdfast", {}),
])
def test_changing_places_under_load(first, second, options):
    """Back and forth while a client counts: not one count is lost or made twice, there is no full
    resynchronisation but the first, and writes stop for a moment only."""
    with KINDS[first](**(options if first == "holdfast" else {})) as a, \
            KINDS[second](**(options if second == "holdfast" else {})) as b:
        x, y = a.raw(), b.raw()
        follow(y, a.port)
        wait_up(y)
        counter = Counter([a, b])
        here, there, to = x, y, b
        for turn in range(4 if first == second else 2):
            wait_for(lambda: "state=online" in info(here).get("slave0", ""), "online")
            before = counter.acknowledged
            wait_for(lambda: counter.acknowledged > before + 20, "counting")
            target = ["TO", "127.0.0.1", to.port] if turn % 2 else []
            assert here("FAILOVER", *target, "TIMEOUT", 60000) == "OK"
            wait_for(lambda: info(there)["role"] == "master", "the new primary")
            wait_for(lambda: info(here)["master_failover_state"] == "no-failover", "the end")
            assert info(here)["role"] == "slave"
            wait_up(here)
            here, there, to = there, here, (a if to is b else b)
        before = counter.acknowledged
        wait_for(lambda: counter.acknowledged > before, "counting goes on")
        counter.stop()
        assert_same(here, there)
        assert int(here("GET", "counter")) == counter.acknowledged
        print(f"longest time without writes: {counter.slowest * 1000:.0f} ms")
        assert int(info(x, "stats")["sync_full"]) + int(info(y, "stats")["sync_full"]) == 1
        x.close()
        y.close()


def test_nodes_of_a_quorum():
    """The same between nodes of a quorum: the new primary is elected by the old one's vote, which follows it then. One
    that is no such node cannot be the target."""
    with Cluster() as nodes, holdfast(appendonly="yes") as beside:
        nodes.wait_elected("a")
        for n in "bc":
            nodes.wait_acknowledging(n)
        z = beside.raw()
        z("REPLICAOF", "127.0.0.1", nodes.nodes["a"].port)
        wait_up(z)
        counter = Counter([nodes.nodes["a"], nodes.nodes["b"]])
        here, there = "a", "b"
        x = nodes.nodes["a"].raw()
        wait_for(lambda: f"port={beside.port},state=online" in x("INFO", "replication").decode(), "it is a replica")
        assert x("FAILOVER", "TO", "127.0.0.1", beside.port) == Error("ERR FAILOVER target is none of quorum-nodes.")
        # Two of three are enough, and it would not follow a primary that it was not told of.
        nodes.nodes["c"].terminate()
        for turn in range(4):
            nodes.wait_elected(here)
            nodes.wait_acknowledging(there)
            before = counter.acknowledged
            wait_for(lambda: counter.acknowledged > before + 20, "counting")
            raw = nodes.nodes[here].raw()
            target = ["TO", "127.0.0.1", nodes.nodes[there].port] if turn % 2 else []
            assert raw("FAILOVER", *target) == "OK"
            wait_for(lambda: info(raw)["master_failover_state"] == "no-failover", "the end")
            assert info(raw)["role"] == "slave"
            raw.close()
            nodes.wait_elected(there)
            here, there = there, here
        before = counter.acknowledged
        wait_for(lambda: counter.acknowledged > before, "counting goes on")
        counter.stop()
        raw = nodes.nodes[here].raw()
        assert int(raw("GET", "counter")) == counter.acknowledged
        print(f"longest time without writes: {counter.slowest * 1000:.0f} ms")
        assert info(z)["role"] == "slave"
        nodes.nodes["c"].start()
        for r in (raw, x, z):
            r.close()


def test_clients_wait_and_go_on():
    """Writes, scripts and transactions with writes wait while a failover is under way, reads do not; and they
    go on when it is given up after its time."""
    with holdfast() as primary, holdfast() as replica:
        x, y, w, r = primary.raw(), replica.raw(), primary.raw(), primary.raw()
        follow(y, primary.port)
        wait_up(y)
        wait_for(lambda: "state=online" in info(x).get("slave0", ""), "online")
        x("SET", "k", 1)
        os.kill(replica.process.pid, signal.SIGSTOP)
        x("SET", "k", 2)
        assert x("FAILOVER", "TIMEOUT", 4000) == "OK"
        w.send(w.encode(["INCR", "k"]) + w.encode(["EVAL", "return redis.call('incr', 'k')", 0]))
        begin = time.monotonic()
        assert r("GET", "k") == b"2"
        assert info(r)["master_failover_state"] == "waiting-for-sync"
        assert [w.read(), w.read()] == [3, 4]
        assert time.monotonic() - begin > 0.3
        assert info(r)["master_failover_state"] == "no-failover"
        assert "given up: no replica caught up in time" in primary.text()
        os.kill(replica.process.pid, signal.SIGCONT)
        assert_same(x, y)
        for raw in (x, y, w, r):
            raw.close()


def test_force():
    """By force a replica that does not answer gets its place when it does: the primary waits for it, and
    can be made to give up."""
    with holdfast() as primary, holdfast() as replica:
        x, y = primary.raw(), replica.raw()
        follow(y, primary.port)
        wait_up(y)
        wait_for(lambda: "state=online" in info(x).get("slave0", ""), "online")
        target = ["TO", "127.0.0.1", replica.port, "FORCE", "TIMEOUT", 100]
        for ending in ("abort", "answer"):
            os.kill(replica.process.pid, signal.SIGSTOP)
            x("INCR", "k")
            assert x("FAILOVER", *target) == "OK"
            wait_for(lambda: info(x)["master_failover_state"] == "failover-in-progress", "handing over")
            assert info(x)["role"] == "slave"
            if ending == "abort":
                assert x("FAILOVER", "ABORT") == "OK"
                assert info(x)["role"] == "master"
                assert x("INCR", "k") == 2
            os.kill(replica.process.pid, signal.SIGCONT)
            if ending == "abort":
                # It may have got the request before it was given up: then it is a primary.
                wait_for(lambda: info(y)["role"] == "master" or "state=online" in info(x).get("slave0", ""), "settled")
                if info(y)["role"] == "master":
                    assert y("CONFIG", "SET", "replica-accept-regression", "yes") == "OK"
                    follow(y, primary.port)
                wait_up(y)
                assert_same(x, y)
        wait_for(lambda: info(y)["role"] == "master", "the replica takes over")
        wait_up(x)
        assert y("GET", "k") == b"3"
        assert x("SET", "k", 1) == Error("READONLY You can't write against a read only replica.")
        x.close()
        y.close()


class Deaf(threading.Thread):
    """A replica that acknowledges everything; asked to take over it says what it is told to say."""

    def __init__(self, primary, answers):
        super().__init__(daemon=True)
        self.answers = list(answers)
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        raw = self.raw = primary.raw()
        assert raw("REPLCONF", "listening-port", self.port, "ip-address", "127.0.0.1") == "OK"
        assert raw("REPLCONF", "capa", "eof", "capa", "psync2") == "OK"
        raw.send(raw.encode(["PSYNC", "?", "-1"]))
        self.start()

    def run(self):
        threading.Thread(target=self.acknowledge, daemon=True).start()
        while True:
            try:
                s, _ = self.listener.accept()
                data = b""
                while b"PSYNC" not in data:
                    if data:
                        s.sendall(b"+OK\r\n")
                    data = s.recv(65536)
                self.asked.append(data)
                s.sendall(self.answers.pop(0))
                s.close()
            except OSError:
                return
            except IndexError:
                s.close()

    def acknowledge(self):
        s = self.raw.socket
        data = b""
        try:
            while b"$EOF:" not in data:
                data += s.recv(65536)
            lsn = int(data.split(b"+FULLRESYNC ")[1].split()[1])
            mark = data.split(b"$EOF:")[1][:40]
            while data.count(mark) < 2:
                data += s.recv(65536)
            lsn += len(data.split(mark)[2])
            s.settimeout(0.1)
            while True:
                s.sendall(self.raw.encode(["REPLCONF", "ACK", lsn]))
                try:
                    got = s.recv(65536)
                except TimeoutError:
                    continue
                if not got:
                    return
                lsn += len(got)
        except OSError:
            pass

    def close(self):
        self.listener.close()
        self.raw.close()


@pytest.mark.parametrize("answer", [b"-ERR I would rather not\r\n", b"-ERR PSYNC FAILOVER replid must match my replid.\r\n",
                                    b"-REGRESSION 5\r\n", b"+HELLO\r\n"])
def test_target_that_refuses(answer):
    """A replica that does not take over: the primary stays what it is, clients that waited write on."""
    with holdfast() as primary:
        x, w = primary.raw(), primary.raw()
        x("SET", "k", 1)
        deaf = Deaf(primary, [answer])
        wait_for(lambda: "state=online" in info(x).get("slave0", ""), "online")
        assert x("FAILOVER", "TO", "127.0.0.1", deaf.port) == "OK"
        assert w("INCR", "k") == 2
        assert info(x)["role"] == "master"
        assert info(x)["master_failover_state"] == "no-failover"
        assert len(deaf.asked) == 1 and b"FAILOVER" in deaf.asked[0]
        deaf.close()
        x.close()
        w.close()


def test_target_whose_answer_is_lost():
    """The connection breaks after the target was asked: it is asked again, and that it is a primary already
    is what was wanted, not a failure."""
    with holdfast() as primary:
        x = primary.raw()
        x("SET", "k", 1)
        deaf = Deaf(primary, [b"", b"-ERR PSYNC FAILOVER can't be sent to a master.\r\n"])
        wait_for(lambda: "state=online" in info(x).get("slave0", ""), "online")
        assert x("FAILOVER", "TO", "127.0.0.1", deaf.port) == "OK"
        wait_for(lambda: info(x)["master_failover_state"] == "no-failover", "the end")
        assert info(x)["role"] == "slave"
        wait_for(lambda: len(deaf.asked) >= 3, "asked as a replica asks")
        assert b"FAILOVER" not in deaf.asked[2]
        deaf.close()
        x.close()
