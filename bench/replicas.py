# SPDX-License-Identifier: BSD-3-Clause
"""The part of bench.py about replication: a full resynchronisation of two replicas at once, the stream, and what a
quorum costs."""
import socket
import subprocess
import threading
import time

from measure import Connection, Server, fill_random, report, report_bound


def wait(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("a replica does not come into step")
        time.sleep(0.02)


def is_up(server):
    return server.info("replication").get("master_link_status") == "up"


class Prober(threading.Thread):
    """One small write after the other: the slowest, and how the memory grows meanwhile."""

    def __init__(self, server):
        super().__init__()
        self.connection = Connection(server.port)
        self.server = server
        self.slowest = 0.0
        self.before = self.most = server.rss()
        self.ended = False
        self.start()

    def run(self):
        while not self.ended:
            begun = time.monotonic()
            self.connection.command("SET", "probe", "1")
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.most = max(self.most, self.server.rss())
            time.sleep(0.001)

    def end(self):
        self.ended = True
        self.join()


def full_sync(kind, keys):
    options = ["--repl-diskless-sync-delay", "1", "--repl-diskless-sync", "yes", "--repl-diskless-load", "swapdb"]
    primary = Server(kind, pinned=False, options=options)
    replicas = [Server(kind, pinned=False, options=options) for _ in range(2)]
    fill_random(primary, keys, 64)
    prober = Prober(primary)
    begun = time.monotonic()
    for r in replicas:
        r.connection.command("REPLICAOF", "127.0.0.1", str(primary.port))
    wait(lambda: all(is_up(r) for r in replicas))
    seconds = time.monotonic() - begun - 1  # the delay in which they gather
    prober.end()
    for s in (primary, *replicas):
        s.stop()
    return seconds, prober.slowest * 1000, 100 * (prober.most - prober.before) / prober.before


def stream(kind, count):
    primary, replica = (Server(kind, pinned=False, options=["--repl-diskless-sync-delay", "0"]) for _ in range(2))
    replica.connection.command("REPLICAOF", "127.0.0.1", str(primary.port))
    wait(lambda: is_up(replica))
    before = replica.cpu_seconds()
    subprocess.run(["redis-benchmark", "-p", str(primary.port), "-n", str(count), "-c", "20", "-P", "50", "-r", "100000",
                    "-t", "set", "-q"], check=True, capture_output=True)
    wait(lambda: primary.info("replication")["master_repl_offset"] == replica.info("replication")["slave_repl_offset"])
    used = replica.cpu_seconds() - before
    for s in (primary, replica):
        s.stop()
    return count / used / 1000 if used else float("nan")


def commits(level, count):
    """Thousands of SETs a second of 50 clients, each waiting for its own."""
    ports = []
    for _ in range(3):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            ports.append(s.getsockname()[1])
    names = [f"{n}=127.0.0.1:{p}" for n, p in zip("abc", ports)]
    nodes = []
    for n, port in zip("abc", ports):
        quorum = ["--quorum-node", n, "--quorum-nodes", *names, "--durability", level]
        nodes.append(Server("holdfast", pinned=False, options=[
            "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0",
            *(quorum if level == "quorum" else [])], port=port))
    for n in nodes[1:]:
        n.connection.command("REPLICAOF", "127.0.0.1", str(ports[0]))
    wait(lambda: all(is_up(n) for n in nodes[1:]))
    if level == "quorum":
        wait(lambda: nodes[0].info("replication").get("quorum_present") == "3")
    begun = time.monotonic()
    subprocess.run(["redis-benchmark", "-p", str(ports[0]), "-n", str(count), "-c", "50", "-r", "100000", "-t", "set", "-q"],
                   check=True, capture_output=True)
    seconds = time.monotonic() - begun
    for n in nodes:
        n.stop()
    return count / seconds / 1000


def part_replication(args):
    keys = int(5000000 * args.scale)
    redis, holdfast = full_sync("redis", keys), full_sync("holdfast", keys)
    report("replication", f"full sync of {keys} keys to two", "s", redis[0], holdfast[0], 3.0)
    report_bound("replication", "slowest write meanwhile", "ms", redis[1], holdfast[1], 2)
    report_bound("replication", "extra memory of the primary", "%", redis[2], holdfast[2], 10)
    count = max(int(2000000 * args.scale), 20000)
    report("replication", "stream, replica's processor", "k SET/CPU s", stream("redis", count), stream("holdfast", count),
           2.0, more_is_better=True)
    count = max(int(200000 * args.scale), 10000)
    local, quorum = commits("local", count), commits("quorum", count)
    report("replication", "quorum of three, 50 clients", "k SET/s", local, quorum, 0.5, more_is_better=True)
