# SPDX-License-Identifier: BSD-3-Clause
"""Three Holdfast nodes with three of Debian's redis-sentinels: the primary is killed again and again, clients go
on by themselves. HF_SENTINEL_ROUNDS says how often (./dev test sentinel: twenty times), with `quorum` and with
`local`."""
import os
import statistics
import time

import pytest

from harness import free_port
from net import info, wait_for
from sentinel import (NAME, PATIENCE, Node, NodeClient, PythonClient, Watcher, know_each_other,
                      write_figures)

ROUNDS = int(os.environ.get("HF_SENTINEL_ROUNDS", 1))
LEVELS = ["quorum"] if ROUNDS == 1 else ["quorum", "local"]


def ask(node, *request):
    """By a connection of its own, as Sentinel closes those of clients when it changes a node's role."""
    for _ in range(10):
        raw = node.raw()
        try:
            return raw(*request)
        except (OSError, EOFError):
            pass
        finally:
            raw.close()
    raise AssertionError("no answer")


def fields(node, section="replication"):
    return info(lambda *request: ask(node, *request), section)


def is_replica_of(node, port):
    found = fields(node)
    return found["role"] == "slave" and found["master_port"] == str(port) and found["master_link_status"] == "up"


def settled(nodes, watchers):
    """The port of the primary, when all sentinels agree on one that is."""
    def agreed():
        ports = {w.primary_port() for w in watchers}
        return ports.pop() if len(ports) == 1 and all("o_down" not in w.master()["flags"] for w in watchers) else None
    port = wait_for(agreed, "the sentinels agree", PATIENCE)
    assert fields(next(n for n in nodes if n.port == port))["role"] == "master"
    return port


def summary(seconds):
    return f"median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s" if seconds else "nothing"


def all_follow(nodes, watchers):
    """A busy machine can make the sentinels see a failure that was none: which node is the primary is asked
    each time."""
    port = watchers[0].primary_port()
    return all(w.primary_port() == port for w in watchers) and all(
        fields(n)["role"] == "master" if n.port == port else is_replica_of(n, port) for n in nodes)


def three_nodes(level):
    ports = [free_port() for _ in range(3)]
    listed = " ".join(f"{name}=127.0.0.1:{port}" for name, port in zip("abc", ports))
    options = {"durability": level}
    if level == "quorum":
        options |= {"quorum-nodes": listed, "durability-timeout": 3000}
    nodes = []
    for name, port in zip("abc", ports):
        own = {"quorum-node": name} if level == "quorum" else {}
        if nodes:
            own["replicaof"] = f"127.0.0.1 {ports[0]}"
        nodes.append(Node(port, **options, **own))
    return nodes


@pytest.mark.parametrize("level", LEVELS)
def test_kill_the_primary(level):
    """After each kill the sentinels make another node the primary, redis-py and ioredis find it without help,
    and the killed one comes back as a replica, with the others' data and a configuration file that says so. With
    `quorum` every acknowledged write is there at the end."""
    nodes = three_nodes(level)
    for node in nodes[1:]:
        wait_for(lambda: fields(node)["master_link_status"] == "up", "the link comes up", PATIENCE)
    wait_for(lambda: ask(nodes[0], "SET", "first", 1) == "OK", "the first write", PATIENCE)
    watchers = [Watcher(nodes[0].port) for _ in range(3)]
    know_each_other(watchers, 2)
    clients = [PythonClient(watchers), NodeClient(watchers)]
    for client in clients:
        wait_for(lambda: client.count() > 20, "the first writes")
    times = []
    for turn in range(ROUNDS):
        old = settled(nodes, watchers)
        victim = next(n for n in nodes if n.port == old)
        victim.kill()
        begin = time.monotonic()
        wait_for(lambda: all(w.primary_port() != old for w in watchers), "a new primary", PATIENCE)
        counts = [client.count() for client in clients]
        for client, count in zip(clients, counts):
            wait_for(lambda: client.count() > count + 20, "the client goes on", PATIENCE)
        times.append(time.monotonic() - begin)
        # Until the failover is over the sentinel that leads it lists the old primary, and clients would go on with
        # it if it came back meanwhile: what they wrote there would be lost when it is made a replica.
        wait_for(lambda: all(int(w.master()["port"]) != old for w in watchers), "the end of the failover", PATIENCE)
        victim.start()
        # One failure at a time: two of three nodes have what is written.
        wait_for(lambda: all_follow(nodes, watchers), "all follow one primary", PATIENCE)
        if turn < ROUNDS - 1:
            know_each_other(watchers, 2)
    keys = [key for client in clients for key in client.stop()]
    new = settled(nodes, watchers)
    primary = next(n for n in nodes if n.port == new)
    lost = [key for key, value in zip(keys, ask(primary, "MGET", *keys)) if value is None]
    for node in nodes:
        if node is not primary:
            wait_for(lambda: fields(primary)["master_repl_offset"] == fields(node)["master_repl_offset"] and
                     ask(primary, "DEBUG", "DIGEST") == ask(node, "DEBUG", "DIGEST"), "the same data", PATIENCE)
            assert f"replicaof 127.0.0.1 {new}" in (node.directory / "node.conf").read_text()
    write_figures(f"{level}, {ROUNDS} kills: until all sentinels know the new primary and both clients write on "
                  f"{summary(times)}; without writes: redis-py {summary(clients[0].gaps)}, "
                  f"ioredis {summary(clients[1].gaps)}; {len(lost)} of {len(keys)} acknowledged writes lost")
    assert not lost or level != "quorum", lost[:20]
    for thing in watchers:
        thing.stop()
    for node in nodes:
        node.remove()
