# SPDX-License-Identifier: BSD-3-Clause
"""Connections that servers make to each other by TLS: replication in all roles, MIGRATE, votes."""
import contextlib
import os
import random
import time

import pytest

from certificates import Certificates
from harness import Server, free_port
from net import Cable, QUICK, Writer, assert_same, follow, info, wait_for, wait_up

SECONDS = float(os.environ.get("HF_REPLICATION_SECONDS", 1))
SEED = int(os.environ.get("HF_SEED", time.time_ns() % 1_000_000))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def node(kind, certificates, **more):
    """It listens for TLS alone, and asks whoever comes for a certificate."""
    port = free_port()
    options = {**QUICK, "port": "0", "tls-port": port, "tls-replication": "yes", "tls-auth-clients": "yes",
               "tls-cert-file": certificates.path("server.crt"), "tls-key-file": certificates.path("server.key"),
               "tls-ca-cert-file": certificates.path("ca.crt")}
    options.update({name.replace("_", "-"): value for name, value in more.items()})
    server = Server(kind, options)
    server.port = server.options["tls-port"]
    return server


@contextlib.contextmanager
def raws(*servers):
    found = [s.raw() for s in servers]
    yield found
    for raw in found:
        raw.close()


@pytest.mark.parametrize("primary_kind,replica_kind,options", [
    ("holdfast", "holdfast", {"appendonly": "yes"}),
    ("redis", "holdfast", {"repl-diskless-load": "swapdb"}),
    ("holdfast", "redis", {}),
    ("holdfast", "holdfast", {"repl-diskless-sync": "no"}),
])
def test_writes_and_cuts(certificates, primary_kind, replica_kind, options):
    """A replica that is attached by TLS while somebody writes, and whose link is cut again and again, has the
    very same data at the end, by one full resynchronisation alone; and it announces its port of TLS."""
    print("seed", SEED)
    rng = random.Random(SEED)
    with node(primary_kind, certificates, **options) as primary, \
            node(replica_kind, certificates, **options) as replica, raws(primary, replica) as (x, y):
        x.pipeline([["SET", f"before{i}", "v" * (4 * i)] for i in range(800)])
        cable = Cable(primary.port)
        writer = Writer(primary, SEED)
        follow(y, cable.port)
        wait_up(y)
        # redis-server gives up a transfer when all data are flushed meanwhile.
        full = info(x, "stats")["sync_full"]
        assert full == "1" or primary_kind == "redis"
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(rng.random() * SECONDS / 4)
            cable.cut()
            wait_up(y)
        assert writer.stop() > 0
        assert_same(x, y, f"seed {SEED}")
        assert info(x, "stats")["sync_full"] == full
        assert f"port={replica.port}," in info(x)["slave0"]
        cable.close()


def test_full_and_idle(certificates):
    """Two replicas that come at once are fed large values by TLS; a third one follows one of them; the links stay
    up while nothing is written, and WAIT counts both."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(node("holdfast", certificates, repl_diskless_sync_delay="1"))
        ones = [stack.enter_context(node(kind, certificates)) for kind in ("holdfast", "redis")]
        last = stack.enter_context(node("holdfast", certificates))
        x, a, b, z = stack.enter_context(raws(primary, *ones, last))
        x.pipeline([["SET", f"big{i}", os.urandom(200_000)] for i in range(20)])
        for raw in (a, b):
            follow(raw, primary.port)
        for raw in (a, b):
            wait_up(raw)
        follow(z, ones[0].port)
        wait_up(z)
        x("SET", "huge", "h" * 8_000_000)
        assert x("WAIT", 2, 60000) == 2
        for raw in (a, b, z):
            assert_same(x, raw)
        time.sleep(2.5)
        assert x("WAIT", 2, 60000) == 2
        assert info(a)["master_link_status"] == info(z)["master_link_status"] == "up"
        assert info(x, "stats")["sync_full"] == "2"


def test_far_behind_is_served_from_the_log(certificates):
    """What is missing comes from the log's files by TLS too."""
    logged = {"appendonly": "yes", "repl_backlog_size": "16kb", "auto_aof_rewrite_percentage": "0"}
    with node("holdfast", certificates, **logged) as primary, \
            node("holdfast", certificates) as replica, raws(primary, replica) as (x, y):
        follow(y, primary.port)
        wait_up(y)
        y("REPLICAOF", "127.0.0.1", 1)
        for k in range(20):
            x.pipeline([["SET", f"k{i}", "v" * 1000 + str(k)] for i in range(100)])
        wait_for(lambda: int(info(x)["repl_backlog_first_byte_offset"]) > int(info(y)["master_repl_offset"]) + 1,
                 "the backlog has moved on")
        follow(y, primary.port)
        wait_up(y)
        assert_same(x, y)
        assert info(x)["sync_partial_from_disk"] == "1"
        assert info(x, "stats")["sync_full"] == "1"


def test_replicas_that_go(certificates):
    """Replicas that disappear in the middle of a slow resynchronisation do no harm to the one that stays."""
    with node("holdfast", certificates, repl_diskless_sync_delay="1") as primary, \
            node("holdfast", certificates) as stays, node("holdfast", certificates) as goes, \
            raws(primary, stays, goes) as (x, y, z):
        x.pipeline([["SET", f"big{i}", os.urandom(200_000)] for i in range(40)])
        cable = Cable(primary.port)
        cable.cut_after = 2_000_000
        follow(y, primary.port)
        follow(z, cable.port)
        wait_up(y)
        assert_same(x, y)
        wait_up(z)
        assert_same(x, z)
        assert x("PING") == "PONG"
        cable.close()


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_who_is_not_trusted(certificates, kind):
    """A primary whose certificate another authority has signed is not followed, and one that asks for a certificate
    lets no stranger in; with tls-client-cert-file of the right authority, set while it runs, the link comes up."""
    strange = {"tls_cert_file": certificates.path("stranger.crt"), "tls_key_file": certificates.path("stranger.key")}
    with node(kind, certificates, **strange) as false, node(kind, certificates) as primary, \
            node("holdfast", certificates, **strange) as replica, raws(primary, replica) as (x, y):
        x("SET", "k", "v")
        follow(y, false.port)
        wait_for(lambda: "certificate verify failed" in replica.text(), "the certificate is refused")
        assert info(y)["master_link_status"] == "down"
        follow(y, primary.port)
        wait_for(lambda: f"primary 127.0.0.1:{primary.port} is down" in replica.text(), "this one is refused")
        assert info(x)["connected_slaves"] == "0"
        assert y("CONFIG", "SET", "tls-client-key-file", certificates.path("client.key"), "tls-client-cert-file",
                 certificates.path("client.crt")) == "OK"
        wait_up(y)
        assert_same(x, y)
        # Nor does it follow without TLS any more, or again.
        assert y("CONFIG", "SET", "tls-replication", "no") == "OK"
        follow(y, "1")
        follow(y, primary.port)
        wait_for(lambda: info(y)["master_link_status"] == "down", "no TLS")
        assert y("CONFIG", "SET", "tls-replication", "yes") == "OK"
        wait_up(y)


def test_expected_names(certificates):
    """With tls-expected-peer-name the authority's word is not enough: the certificate has to have one of the names."""
    with node("holdfast", certificates) as primary, \
            node("holdfast", certificates, tls_expected_peer_name="elsewhere", tls_cluster="yes") as replica, \
            raws(primary, replica) as (x, y):
        y("SET", "k", "v")
        assert "IOERR" in y("MIGRATE", "127.0.0.1", primary.port, "k", 0, 60000)
        y("DEL", "k")
        follow(y, primary.port)
        wait_for(lambda: "certificate verify failed (hostname mismatch)" in replica.text().lower(), "it is refused")
        assert info(y)["master_link_status"] == "down" and info(x)["connected_slaves"] == "0"
        for wrong, why in ((" ", "at least one name"), ("a\tb", "whitespace"), ("a\n", "whitespace")):
            assert why in y("CONFIG", "SET", "tls-expected-peer-name", wrong)
        assert y("CONFIG", "GET", "tls-expected-peer-name") == [b"tls-expected-peer-name", b"elsewhere"]
        assert y("CONFIG", "SET", "tls-expected-peer-name", "elsewhere  localhost") == "OK"
        wait_up(y)
        assert_same(x, y)
        assert y("REPLICAOF", "NO", "ONE") == "OK" and y("SET", "k", "v") == "OK"
        assert y("MIGRATE", "127.0.0.1", primary.port, "k", 0, 60000) == "OK"


def test_authorities_are_needed(certificates):
    """Without anybody to trust tls-replication cannot be set."""
    with Server("holdfast", {"tls-cert-file": certificates.path("server.crt"),
                             "tls-key-file": certificates.path("server.key")}) as s, raws(s) as (x,):
        for name in ("tls-replication", "tls-cluster"):
            assert "Unable to update TLS configuration" in x("CONFIG", "SET", name, "yes")
            assert x("CONFIG", "GET", name) == [name.encode(), b"no"]
            assert x("CONFIG", "SET", "tls-ca-cert-file", certificates.path("ca.crt"), name, "yes") == "OK"
            assert x("CONFIG", "SET", name, "no", "tls-ca-cert-file", "") == "OK"


@pytest.mark.parametrize("source,target", [("holdfast", "redis"), ("holdfast", "holdfast"), ("redis", "holdfast")])
def test_migrate(certificates, source, target):
    """With tls-cluster MIGRATE goes by TLS, small values and large ones, several times over one connection; to a port
    that speaks no TLS it does not go."""
    with node(source, certificates, tls_cluster="yes") as a, node(target, certificates) as b, \
            Server(target) as plain, raws(a, b) as (x, y):
        for i in range(20):
            x("SET", f"k{i}", "v" * (1 << i))
        digest = x("DEBUG", "DIGEST")
        assert x("MIGRATE", "127.0.0.1", b.port, "k0", 0, 60000) == "OK"
        assert x("MIGRATE", "127.0.0.1", b.port, "", 0, 60000, "KEYS", *(f"k{i}" for i in range(1, 20))) == "OK"
        assert y("DEBUG", "DIGEST") == digest
        x("SET", "stays", 1)
        assert x("MIGRATE", "127.0.0.1", plain.port, "stays", 0, 1000).startswith("IOERR")
        assert x("EXISTS", "stays") == 1


def test_votes(certificates):
    """Nodes of a quorum ask each other for votes by TLS."""
    ports = [free_port() for _ in range(3)]
    names = [f"n{i}=127.0.0.1:{port}" for i, port in enumerate(ports)]
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(node("holdfast", certificates, tls_port=port, appendonly="yes", appendfsync="always",
                                          durability="quorum", quorum_nodes=names, quorum_node=f"n{i}"))
                 for i, port in enumerate(ports)]
        found = stack.enter_context(raws(*nodes))
        found[1]("REPLICAOF", "127.0.0.1", ports[0])
        found[2]("REPLICAOF", "127.0.0.1", ports[0])
        found[0]("REPLICAOF", "NO", "ONE")
        wait_for(lambda: info(found[0]).get("quorum_state") == "elected", "it is elected")
        for raw in found[1:]:
            wait_up(raw)
        assert found[0]("SET", "k", "v") == "OK"
        assert [raw("GET", "k") for raw in found] == [b"v"] * 3
