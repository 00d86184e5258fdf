# SPDX-License-Identifier: BSD-3-Clause
"""What a primary says of its replicas: how far they are behind, what a failover would lose, and the events."""
import json
import os
import signal
import time
import urllib.request

from harness import free_port
from net import Cable, follow, holdfast, info, redis_server, wait_for, wait_up

FIELDS = ("bytes", "writes", "seconds")


def of_replica(found, port):
    """Its line, as a dictionary."""
    for name, line in found.items():
        fields = dict(part.split("=") for part in line.split(",")) if name.startswith("slave") and "ip=" in line else {}
        if fields.get("port") == str(port):
            return fields
    return None


def test_lag():
    """A replica that has stopped: what it has not acknowledged in bytes, in writes, and how old the oldest of that is;
    of each replica its own; and a failover now loses what the best one lacks."""
    with holdfast(**{"repl-ping-replica-period": "1000"}) as primary, holdfast() as one, redis_server() as two:
        x, y, z = primary.raw(), one.raw(), two.raw()
        found = info(x)
        assert [found[f"failover_would_lose_{f}"] for f in FIELDS] == ["0", "0", "0.000"]
        for raw in (y, z):
            follow(raw, primary.port)
            wait_up(raw)
        x("SET", "k", 1)
        for server in (one, two):
            wait_for(lambda: of_replica(info(x), server.port)["lag_bytes"] == "0", "both have it")
        assert [info(x)[f"failover_would_lose_{f}"] for f in FIELDS] == ["0", "0", "0.000"]
        one.process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        for i in range(30):
            x("SET", "k", i)
        wait_for(lambda: x("WAIT", 1, 1000) == 1, "the other one has it")
        time.sleep(0.3)
        found = info(x)
        stopped, other = of_replica(found, one.port), of_replica(found, two.port)
        assert int(stopped["lag_bytes"]) == int(found["master_repl_offset"]) - int(stopped["offset"]) > 0
        assert int(stopped["lag_writes"]) == 30
        assert 0.3 <= float(stopped["lag_seconds"]) <= time.monotonic() - begin + 2
        assert int(stopped["unsent_bytes"]) == 0
        assert int(other["lag_bytes"]) < int(stopped["lag_bytes"]) and other["lag_writes"] == "0"
        two.process.send_signal(signal.SIGSTOP)
        x("SET", "k", "unsure")
        time.sleep(0.1)
        found = info(x)
        assert found["failover_would_lose_writes"] == "1"
        assert int(found["failover_would_lose_bytes"]) > 30
        assert float(found["failover_would_lose_seconds"]) >= 0.1
        for server in (one, two):
            server.process.send_signal(signal.SIGCONT)
        wait_for(lambda: of_replica(info(x), one.port)["lag_bytes"] == "0", "it has everything")
        wait_for(lambda: info(x)["failover_would_lose_bytes"] == "0", "nothing would be lost")
        assert of_replica(info(x), one.port)["lag_writes"] == "0"
        assert of_replica(info(x), one.port)["lag_seconds"] == "0.000"
        for raw in (x, y, z):
            raw.close()


def test_metrics():
    """The same, and what a partial resynchronisation needs, for Prometheus."""
    ports = free_port(), free_port()
    with holdfast(appendonly="yes", **{"metrics-port": ports[0], "repl-ping-replica-period": "1000"}) as primary, \
            holdfast(**{"metrics-port": ports[1]}) as replica:
        def scrape(port):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode().splitlines()
        x, y = primary.raw(), replica.raw()
        follow(y, primary.port)
        wait_up(y)
        x("SET", "k", "v")
        wait_for(lambda: info(x)["failover_would_lose_bytes"] == "0", "it has it")
        lines = scrape(ports[0])
        label = f'{{replica="127.0.0.1:{replica.port}"}}'
        for line in (f"holdfast_replica_online{label} 1", f"holdfast_replica_lag_bytes{label} 0",
                     f"holdfast_replica_lag_seconds{label} 0", "holdfast_failover_would_lose_bytes 0",
                     "holdfast_failover_would_lose_writes 0", "holdfast_failover_would_lose_seconds 0",
                     "holdfast_full_syncs_total 1", "holdfast_partial_syncs_refused_total 0",
                     f"holdfast_partial_sync_reach_bytes {info(x)['master_repl_offset']}"):
            assert line in lines, (line, lines)
        assert "holdfast_primary_stream_errors_total 0" in scrape(ports[1])
        assert info(y)["master_full_syncs"] == "1"
        x.close()
        y.close()


def test_events():
    """Each change of a role, a link or a replica is told on __holdfast__:replication, on both sides."""
    with holdfast() as primary, holdfast() as replica:
        x, y = primary.raw(), replica.raw()
        here, there = primary.raw(), replica.raw()
        for raw in (here, there):
            raw("SUBSCRIBE", "__holdfast__:replication")
        cable = Cable(primary.port)

        def expect(raw, *names):
            for name in names:
                event = json.loads(raw.read()[2])
                assert event["event"] == name, (event, name)
                assert set(event) == {"event", "lsn", "detail"}
            return event

        follow(y, cable.port)
        expect(there, "following", "link-up")
        full = expect(here, "full")
        assert full["detail"] == info(x)["last_full_sync_reason"]
        expect(here, "replica-online")
        cable.open = False
        cable.cut()
        assert expect(there, "link-down")["detail"] == "the connection has ended"
        expect(here, "replica-gone")
        cable.open = True
        expect(there, "link-up")
        expect(here, "replica-online")
        y("REPLICAOF", "NO", "ONE")
        assert expect(there, "promoted")["detail"] == info(y)["master_replid"]
        expect(here, "replica-gone")
        cable.close()
        for raw in (x, y, here, there):
            raw.close()


def test_why_the_last_full_one():
    """Each reason that there is for sending everything is named."""
    with holdfast(**{"repl-backlog-size": "16kb"}) as primary, holdfast() as replica:
        x, y = primary.raw(), replica.raw()

        def reason_after(full):
            wait_for(lambda: info(x, "stats")["sync_full"] == str(full), "a full one")
            wait_up(y)
            return info(x)["last_full_sync_reason"]

        assert info(x)["last_full_sync_reason"] == "none"
        follow(y, primary.port)
        assert reason_after(1) == "it has asked for one"
        cable = Cable(primary.port)
        follow(y, "1")
        x.pipeline([["SET", f"k{i}", os.urandom(1000)] for i in range(1000)])
        wait_for(lambda: int(info(x)["repl_backlog_first_byte_offset"]) > int(info(y)["slave_repl_offset"]) + 1,
                 "the backlog has moved on")
        follow(y, cable.port)
        assert reason_after(2).startswith("it is at LSN ")
        assert info(y)["master_full_syncs"] == "2"
        y("REPLICAOF", "NO", "ONE")
        y("SET", "mine", 1)
        # It gives up what it did alone, and has no place in the primary's history that it could name.
        follow(y, primary.port)
        assert reason_after(3) == "it has asked for one"
        assert info(y)["divergence_journals"] == "1"
        cable.close()
        x.close()
        y.close()
