# SPDX-License-Identifier: BSD-3-Clause
"""What a replica and a primary refuse, keep over a restart, and tell of themselves."""
import random
import socket
import threading
import time

import pytest

from harness import Error, Server
from net import QUICK, assert_same, follow, holdfast, info, redis_server, wait_for, wait_up

LOGGED = {"appendonly": "yes", "appendfsync": "everysec"}


@pytest.fixture
def pair():
    with holdfast() as primary, holdfast() as replica:
        x, y = primary.raw(), replica.raw()
        follow(y, primary.port)
        wait_up(y)
        yield primary, replica, x, y
        x.close()
        y.close()


def test_what_a_replica_refuses_and_shows(pair):
    """Writes, and with replica-serve-stale-data no everything while the link is down; expired keys are hidden
    and stay until the primary's DEL."""
    primary, replica, x, y = pair
    x("SET", "k", "v")
    assert_same(x, y)
    assert y("SET", "k", "w") == Error("READONLY You can't write against a read only replica.")
    assert y("GET", "k") == b"v"
    assert y("ROLE")[:4] == [b"slave", b"127.0.0.1", primary.port, b"connected"]
    assert x("ROLE")[2][0][1] == b"%d" % replica.port
    assert b"flags=S" in x("CLIENT", "LIST", "TYPE", "replica")
    assert b"flags=M" in y("CLIENT", "LIST", "TYPE", "master")
    x("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    x("SET", "soon", 1, "PX", 20)
    assert_same(x, y)
    time.sleep(0.05)
    assert y("GET", "soon") is None and y("DBSIZE") == 2
    x("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    wait_for(lambda: y("DBSIZE") == 1, "the DEL")
    assert y("CONFIG", "SET", "replica-serve-stale-data", "no") == "OK"
    assert y("REPLICAOF", "127.0.0.1", 1) == "OK"
    assert str(y("GET", "k")).startswith("MASTERDOWN ")
    assert y("CONFIG", "SET", "replica-serve-stale-data", "yes") == "OK"
    assert y("GET", "k") == b"v"


def test_redirected(pair):
    """A client that said CLIENT CAPA redirect is sent to the primary; READONLY lets it read."""
    primary, replica, x, y = pair
    x("SET", "k", "v")
    assert_same(x, y)
    assert y("CLIENT", "CAPA", "nosuch") == "OK" and y("GET", "k") == b"v"
    assert y("READONLY") == Error("ERR This instance has cluster support disabled")
    assert x("CLIENT", "CAPA", "redirect") == "OK" and x("SET", "k", "w") == "OK" and x("GET", "k") == b"w"
    assert_same(x, y)
    assert y("CLIENT", "CAPA", "nosuch", "REDIRECT") == "OK"
    elsewhere = Error(f"REDIRECT 127.0.0.1:{primary.port}")
    assert y("GET", "k") == y("SET", "k", "v") == elsewhere
    assert y("PING") == "PONG" and y("ROLE")[0] == b"slave"
    assert y("READONLY") == "OK" and y("GET", "k") == b"w" and y("SET", "k", "v") == elsewhere
    assert b"r" in y("CLIENT", "INFO").split(b"flags=")[1].split()[0]
    assert y("READWRITE") == "OK" and y("GET", "k") == elsewhere
    assert y("MULTI") == "OK" and y("GET", "k") == elsewhere and str(y("EXEC")).startswith("EXECABORT")
    # A client that did not say so reads from the replica, and this one does when it has begun anew.
    other = replica.raw()
    assert other("GET", "k") == b"w"
    other.close()
    assert y("RESET") == "RESET" and y("GET", "k") == b"w"
    assert y("CLIENT", "CAPA", "redirect") == "OK" and y("GET", "k") == elsewhere
    assert y("REPLICAOF", "NO", "ONE") == "OK" and y("GET", "k") == b"w" and y("SET", "k", "v") == "OK"


ASKED = [
    "REPLCONF", "REPLCONF x", "REPLCONF nonsense 1", "REPLCONF listening-port x", "REPLCONF listening-port 70000",
    "REPLCONF capa x", "REPLCONF capa eof capa psync2", "REPLCONF ip-address " + "a" * 300, "REPLCONF ip-address 1.2.3.4",
    "REPLCONF rdb-only 1", "REPLCONF rdb-only 2", "REPLCONF rdb-only -1", "REPLCONF rdb-only x", "REPLCONF rdb-only 0",
    "REPLCONF rdb-filter-only functions", "REPLCONF rdb-filter-only nonsense", "REPLCONF rdb-filter-only ''",
    "REPLCONF listening-port 1 ip-address", "PSYNC", "PSYNC ?", "PSYNC ? x", "SYNC x", "REPLICAOF a", "REPLICAOF a b",
    "REPLICAOF a 99999", "SLAVEOF NO", "REPLICAOF NO TWO", "WAIT x 1", "WAIT 1 -1", "WAIT -1 1", "ROLE x", "ROLE"]


def test_what_is_said_as_redis():
    """What peers and people ask, understood or not, is answered in redis-server's words, and INFO has all its fields."""
    said, fields = [], []
    for make in (holdfast, redis_server):
        with make() as server:
            raw = server.raw()
            said.append([(asked, raw(*(w.strip("'") for w in asked.split()))) for asked in ASKED])
            fields.append(set(info(raw)))
            raw.close()
    assert said[0] == said[1]
    assert fields[1] <= fields[0], fields[1] - fields[0]


def test_wait_and_min_replicas(pair):
    """WAIT tells how many have it; without enough good replicas writes are refused."""
    primary, replica, x, y = pair
    x("SET", "k", 1)
    assert x("WAIT", 1, 60000) == 1
    assert x("WAIT", 2, 50) == 1
    assert x("CONFIG", "SET", "min-replicas-to-write", 1) == "OK"
    wait_for(lambda: x("SET", "k", 2) == "OK", "a good replica")
    y("REPLICAOF", "NO", "ONE")
    wait_for(lambda: x("SET", "k", 3) == Error("NOREPLICAS Not enough good replicas to write."), "refusal")
    assert y("WAIT", 0, 10) == 0


def test_transactions_arrive_whole(pair):
    """A transaction of the primary is seen on the replica all or not at all."""
    primary, replica, x, y = pair
    seen = set()
    for i in range(100):
        x.pipeline([("MULTI",), ("SELECT", 0), ("SET", "a", i), ("SET", "b", i), ("EXEC",)])
        seen.add(tuple(y("MGET", "a", "b")))
    assert_same(x, y)
    assert all(a == b for a, b in seen), seen


@pytest.mark.parametrize("primary_kind", ["redis", "holdfast"])
def test_restart_of_a_replica(primary_kind):
    """A replica that restarts, from its log or by kill, goes on by partial resynchronisation, also when the
    stream is in another database than 0."""
    kind = {"redis": redis_server, "holdfast": holdfast}[primary_kind]
    with kind() as primary:
        x = primary.raw()
        x("SELECT", 7)
        x("SET", "before", 1)
        replica = holdfast(**LOGGED, replicaof=["127.0.0.1", primary.port])
        y = replica.raw()
        wait_up(y)
        x.pipeline([("RPUSH", "l", i) for i in range(1000)])
        assert_same(x, y)
        for end in (replica.terminate, replica.kill):
            wait_for(lambda: info(y, "persistence").get("log_state") == "on", "the log")
            wait_for(lambda: info(y, "persistence").get("log_at_risk_bytes") == "0", "durable")
            y.close()
            end()
            x("SELECT", 7)
            x.pipeline([("RPUSH", "l", i) for i in range(1000)])
            replica.start()
            y = replica.raw()
            wait_up(y)
            assert_same(x, y)
        assert info(x, "stats")["sync_full"] == "1"
        assert info(x, "stats")["sync_partial_ok"] == "2"
        y.close()
        replica.stop()
        x.close()


def test_restart_of_a_primary():
    """A primary that restarts in order is gone on with; one that has lost its data does not take it from its
    replica, which says so and obeys when it is told to."""
    primary = holdfast(**LOGGED)
    with holdfast() as replica:
        x, y = primary.raw(), replica.raw()
        x.pipeline([("SET", f"k{i}", i) for i in range(100)])
        follow(y, primary.port)
        wait_up(y)
        assert_same(x, y)
        x.close()
        primary.terminate()
        primary.start()
        port = primary.port
        x = primary.raw()
        follow(y, port)
        wait_up(y)
        assert_same(x, y)
        assert info(x, "stats")["sync_full"] == "0"
        x.close()
        primary.kill()
        with holdfast() as empty:
            follow(y, empty.port)
            wait_for(lambda: info(y)["master_refused_regression"] == "1", "the refusal")
            assert y("DBSIZE") == 100
            assert "ALARM" in replica.text()
            assert y("CONFIG", "SET", "replica-accept-regression", "yes") == "OK"
            y("REPLICAOF", "NO", "ONE")
            follow(y, empty.port)
            wait_up(y)
            assert y("DBSIZE") == 0
        y.close()


@pytest.mark.parametrize("kind", ["redis", "holdfast"])
def test_who_waits_when_the_role_changes(kind):
    """What is waited for in a primary does not come any more when it is a replica: the waiting ends as redis-server ends
    it."""
    with {"redis": redis_server, "holdfast": holdfast}[kind]() as server:
        raw, waiting = server.raw(), [server.raw() for _ in range(3)]
        for w, request in zip(waiting, (["BLPOP", "list", "0"], ["XREAD", "BLOCK", "0", "STREAMS", "stream", "$"],
                                        ["WAIT", "1", "0"])):
            w.send(w.encode(request))
        wait_for(lambda: info(raw, "clients")["blocked_clients"] == "3", "they wait")
        assert raw("REPLICAOF", "127.0.0.1", 1) == "OK"
        for w in waiting:
            assert w.read() == ("UNBLOCKED force unblock from blocking operation, instance state changed "
                                "(master -> replica?)")
            w.close()
        raw.close()


def test_demoted_primary():
    """A primary that went on while its replica was promoted follows the new one when it is told to: what it did
    since then does not count, and is no reason to refuse, as nothing of the common history is missing there."""
    with holdfast() as old, holdfast() as new:
        x, y = old.raw(), new.raw()
        x("SET", "common", 1)
        follow(y, old.port)
        wait_up(y)
        assert_same(x, y)
        assert y("REPLICAOF", "NO", "ONE") == "OK"
        x.pipeline([("SET", f"stray{i}", i) for i in range(100)])
        y("SET", "good", 1)
        follow(x, new.port)
        wait_up(x)
        assert_same(y, x)
        assert x("DBSIZE") == 2 and x("GET", "good") == b"1"
        assert "went another way" in info(y)["last_full_sync_reason"]
        x.close()
        y.close()


class Liar(threading.Thread):
    """A primary that answers the handshake and then says what it is told to."""

    def __init__(self, after_psync):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.after_psync = after_psync
        self.asked = 0
        self.start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            try:
                s.settimeout(60)
                data = b""
                while True:
                    data += s.recv(65536)
                    if b"PSYNC" in data:
                        self.asked += 1
                        s.sendall(self.after_psync)
                        time.sleep(0.1)
                        break
                    s.sendall(b"+OK\r\n")
                    data = b""
            except OSError:
                pass
            s.close()


ID = b"a" * 40
FULL = b"+FULLRESYNC " + ID + b" 1000\r\n"


@pytest.mark.parametrize("nonsense", [
    b"x" * 100000, b"+FULLRESYNC zz 1\r\n", b"+FULLRESYNC " + ID + b" -5\r\n", b"+CONTINUE\r\n",
    b"+CONTINUE nonsense\r\n", FULL + b"$99999999999999999999\r\n", FULL + b"$20\r\nREDIS0010",
    FULL + b"$18\r\nREDIS0010" + b"\xff" * 9, FULL + b"$9\r\nREDIS0010", FULL + b"*1\r\n$4\r\nPING\r\n",
    FULL + b"$EOF:" + b"m" * 40 + b"\r\nREDIS0010garbage" + b"m" * 40, b"\n" * 1000 + b"-NO\r\n",
    bytes(range(256)) * 10])
def test_nonsense_of_a_primary(nonsense):
    """Whatever a primary says, a replica keeps what it has and goes on serving."""
    liar = Liar(nonsense)
    with holdfast() as replica:
        y = replica.raw()
        y("SET", "kept", 1)
        follow(y, liar.port)
        wait_for(lambda: liar.asked > 0, "PSYNC")
        wait_for(lambda: info(y)["master_link_error"] != "none", "the error")
        assert y("GET", "kept") == b"1"
        assert info(y)["master_link_status"] == "down"
        y.close()
    liar.listener.close()


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


STREAM_NONSENSE = [
    b"*1\r\n$9999999999999\r\n", b"*3000000000\r\n", b"*-7\r\n$x\r\n", b"y" * 200000, b"*1\r\n+PING\r\n",
    command(b"SHUTDOWN", b"NOSAVE"), command(b"SET", b"only one"), b"\xff" * 5000 + b"\r\n"]


class Stream(Liar):
    """A primary whose data is good; each time that the stream is asked for it says the next of what it has."""

    def __init__(self, data, pieces):
        self.data, self.pieces = data, list(pieces)
        self.positions = []
        super().__init__(b"")

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
                s.settimeout(60)
                heard = b""
                while b"PSYNC" not in heard:
                    if heard:
                        s.sendall(b"+OK\r\n")
                    heard = s.recv(65536)
                    if not heard:
                        raise OSError
                if self.asked == 0:
                    s.sendall(FULL + b"$%d\r\n%s" % (len(self.data), self.data))
                elif self.asked <= len(self.pieces):
                    self.positions.append(heard.split(b"\r\n")[-2])
                    s.sendall(b"+CONTINUE\r\n" + command(b"SET", b"good", b"%d" % self.asked) + self.pieces[self.asked - 1])
                else:
                    s.sendall(b"+CONTINUE\r\n")
                self.asked += 1
                if self.asked == 1:
                    s.sendall(b"nonsense to begin with\r\n")
                while s.recv(65536):
                    pass
            except OSError:
                if self.listener.fileno() < 0:
                    return
            s.close()


def test_nonsense_in_the_stream():
    """A primary that sends rubbish, requests without end, or commands that have no place in a stream: the link is
    broken off there, what came before counts, the position is where the rubbish began, nothing else happens."""
    with holdfast() as source:
        z = source.raw()
        z.pipeline([("SET", f"k{i}", i) for i in range(100)])
        assert z("SAVE") == "OK"
        data = (source.directory / "dump.rdb").read_bytes()
        z.close()
    stream = Stream(data, STREAM_NONSENSE)
    with holdfast() as replica:
        y = replica.raw()
        follow(y, stream.port)
        wait_for(lambda: stream.asked > len(STREAM_NONSENSE) + 1, "all of it")
        assert info(y)["role"] == "slave"
        assert y("DBSIZE") == 101
        assert y("GET", "good") == b"%d" % len(STREAM_NONSENSE)
        expected, at = [], 1001
        for i in range(len(STREAM_NONSENSE)):
            expected.append(b"%d" % at)
            at += len(command(b"SET", b"good", b"%d" % (i + 1)))
        assert stream.positions == expected
        y.close()
    stream.listener.close()


class Mutant(Liar):
    """A primary whose answers are those of a good one, each time with something changed in one of them."""

    def __init__(self, data, rng):
        self.data, self.rng = data, rng
        self.accepted = 0
        super().__init__(b"")

    def mutate(self, answer):
        rng, data = self.rng, bytearray(answer)
        kind = rng.randrange(7)
        at = rng.randrange(len(data))
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at:at + rng.randrange(1, 9)]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 4:
            data[at:at] = rng.choice((b"\n", b" ", b"-", b"9", b"\0")) * rng.choice((1, 100, 70000))
        elif kind == 5:
            data = rng.choice((b"+", b"-", b":", b"$", b"*", b"%", b"_")) + data[1:]
        else:
            data[at:at] = data
        return bytes(data)

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
                s.settimeout(5)
                step, wrong = 0, self.rng.randrange(1, 10)
                while True:
                    heard = s.recv(65536)
                    if not heard:
                        break
                    answer, step = b"+OK\r\n", step + 1
                    if b"PSYNC" in heard:
                        self.asked += 1
                        answer = self.rng.choice((
                            FULL + b"$%d\r\n%s" % (len(self.data), self.data),
                            FULL + b"$EOF:" + b"m" * 40 + b"\r\n" + self.data + b"m" * 40,
                            b"+CONTINUE " + ID + b"\r\n", b"-DIVERGED 5\r\n", b"-REGRESSION 5\r\n"))
                        wrong = step
                    s.sendall(self.mutate(answer) if step == wrong else answer)
                    if b"PSYNC" in heard:
                        time.sleep(0.02)
                        break
            except OSError:
                if self.listener.fileno() < 0:
                    return
            s.close()


def test_mutations_of_a_primary(rng):
    """Good answers with one change each, in the handshake and in the data: the replica keeps what it has, or has all of
    the other's; it serves, and follows a good primary afterwards."""
    with holdfast(save="") as source, holdfast() as replica:
        z, y = source.raw(), replica.raw()
        z.pipeline([("SET", f"k{i}", i) for i in range(50)])
        assert z("SAVE") == "OK"
        data = (source.directory / "dump.rdb").read_bytes()
        y("SET", "kept", 1)
        mutant = Mutant(data, rng)
        for i in range(40):
            connected = mutant.asked
            # Another name each time: it is tried at once.
            assert str(y("REPLICAOF", ("127.0.0.1", "localhost")[i % 2], mutant.port)).startswith("OK")
            try:
                wait_for(lambda: mutant.asked > connected, "PSYNC", 0.25)
            except AssertionError:
                pass  # it has not come so far
            for request in (("MULTI",), ("DBSIZE",), ("GET", "kept"), ("GET", "k49")):
                y(*request)
            found = y("EXEC")
            assert found in ([1, b"1", None], [50, None, b"49"]) or \
                str(found).startswith(("LOADING", "EXECABORT", "ERR EXEC without MULTI")), found
        follow(y, source.port)
        wait_up(y)
        assert_same(z, y)
        assert mutant.asked > 0
        mutant.listener.close()
        y.close()
        z.close()


def test_offsets_that_go_backwards():
    """An acknowledgement of less than before changes nothing; a primary of the same history that has less than its
    replica is refused, also when it says so in other words, and nothing is lost."""
    with holdfast() as primary:
        x, r = primary.raw(), primary.raw()
        x("SET", "k", 1)
        r.send(r.encode(["PSYNC", "?", "-1"]))

        def acknowledge(lsn):
            r.send(r.encode(["REPLCONF", "ACK", lsn]))
            return int(info(x)["slave0"].split("offset=")[1].split(",")[0])

        def online():
            r.send(r.encode(["REPLCONF", "ACK", 0]))
            return "state=online" in info(x).get("slave0", "")
        wait_for(online, "online")
        x.pipeline([["SET", "k", i] for i in range(100)])
        end = int(info(x)["master_repl_offset"])
        wait_for(lambda: acknowledge(end) == end, "all of it")
        for lsn in (end - 1, 0, -5, "nonsense", 1 << 63) * 3:
            assert acknowledge(lsn) == end, lsn
        r.close()
        identity, end = info(x)["master_replid"].encode(), int(info(x)["master_repl_offset"])
        with holdfast() as replica:
            y = replica.raw()
            follow(y, primary.port)
            wait_up(y)
            assert_same(x, y)
            end = int(info(y)["slave_repl_offset"])
            for answer in (b"+FULLRESYNC %s %d\r\n" % (identity, end - 1), b"+FULLRESYNC %s 0\r\n$0\r\n" % identity,
                           b"-REGRESSION this server is at 1\r\n"):
                liar = Liar(answer)
                follow(y, liar.port)
                wait_for(lambda: info(y)["master_refused_regression"] == "1", "it is refused")
                assert y("GET", "k") == b"99"
                liar.listener.close()
            # A place where the ways parted which this side has not reached.
            liar = Liar(b"-DIVERGED %d\r\n" % (end + 1))
            follow(y, liar.port)
            wait_for(lambda: "DIVERGED" in info(y)["master_link_error"], "it is nonsense")
            assert y("GET", "k") == b"99" and info(y)["divergence_journals"] == "0"
            liar.listener.close()
            follow(y, primary.port)
            wait_up(y)
            assert_same(x, y)
            assert info(x, "stats")["sync_full"] == "2"
            y.close()
        x.close()


def test_acknowledgement_of_the_future():
    """A replica cannot have what it was not sent: WAIT and FAILOVER do not believe it."""
    with holdfast() as primary:
        x, r = primary.raw(), primary.raw()
        x("SET", "k", 1)
        assert r("REPLCONF", "listening-port", 1, "ip-address", "127.0.0.1", "capa", "eof", "capa", "psync2") == "OK"
        r.send(r.encode(["PSYNC", "?", "-1"]))
        wait_for(lambda: "state=" in info(x).get("slave0", ""), "the replica")

        def online():
            r.send(r.encode(["REPLCONF", "ACK", 1 << 60]))
            return "state=online" in info(x)["slave0"]
        wait_for(online, "online")
        x("SET", "k", 2)
        online()
        assert x("WAIT", 1, 200) == 0
        found = info(x)
        offset = int(found["slave0"].split("offset=")[1].split(",")[0])
        assert offset <= int(found["master_repl_offset"])
        assert x("FAILOVER", "TIMEOUT", 200) == "OK"
        wait_for(lambda: info(x)["master_failover_state"] == "no-failover", "given up")
        assert info(x)["role"] == "master"
        assert x("SET", "k", 3) == "OK"
        x.close()
        r.close()


def test_nonsense_of_a_replica(rng):
    """Fuzzed requests of a replica end at most its own connection."""
    with holdfast() as primary:
        x = primary.raw()
        x("SET", "kept", 1)
        for _ in range(60):
            raw = primary.raw()
            words = [rng.choice((b"REPLCONF", b"PSYNC", b"SYNC", b"ACK", b"listening-port", b"capa", b"eof", b"?", b"-1",
                                 b"99999999999999999999", b"rdb-only", b"1", rng.randbytes(20))) for _ in range(4)]
            raw.send(raw.encode([rng.choice((b"REPLCONF", b"PSYNC", b"SYNC"))] + words[:rng.randrange(5)]))
            raw.send(raw.encode([b"REPLCONF", b"ACK", b"%d" % rng.randrange(-5, 1 << 62)]))
            raw.send(raw.encode(words))
            if rng.random() < 0.5:
                time.sleep(0.01)
            raw.close()
        assert x("GET", "kept") == b"1"
        wait_for(lambda: info(x)["connected_slaves"] == "0", "all gone")
        x.close()


def test_delayed_segments_and_not_announced():
    """repl-disable-tcp-nodelay concerns the replicas that come from then on, whose stream comes all the same; a replica
    that is not announced says so, to Sentinel."""
    with holdfast(**{"repl-disable-tcp-nodelay": "yes"}) as primary, holdfast(**{"replica-announced": "no"}) as replica:
        x, y = primary.raw(), replica.raw()
        follow(y, primary.port)
        wait_up(y)
        x("SET", "k", "v")
        assert_same(x, y)
        assert info(y)["replica_announced"] == "0"
        assert "repl-disable-tcp-nodelay" not in primary.text()
        x.close()
        y.close()
