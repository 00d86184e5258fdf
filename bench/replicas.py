# SPDX-License-Identifier: BSD-3-Clause
"""The part of bench.py about replication: a full resynchronisation of two replicas at once, the stream, and what a
quorum costs."""
import socket
import subprocess
import threading
import time

from measure import Connection, Server, fill_random, report, report_bound, report_stalls, report_value


def wait(condition, seconds=300, pause=0.02):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("a replica does not come into step")
        time.sleep(pause)


def is_up(server):
    return server.info("replication").get("master_link_status") == "up"


class Prober(threading.Thread):
    """One small write after the other: the slowest, how long the server's own thread was at work for one of them at most,
    and how the memory grows meanwhile."""

    def __init__(self, server):
        super().__init__()
        self.connection = Connection(server.port)
        self.server = server
        self.slowest = self.longest_cpu = 0.0
        self.before = self.most = server.rss()
        self.ended = False
        self.schedstat = open(f"/proc/{server.process.pid}/task/{server.process.pid}/schedstat", encoding="ascii")
        self.start()

    def thread_seconds(self):
        self.schedstat.seek(0)
        return int(self.schedstat.read().split()[0]) / 1e9

    def run(self):
        used = self.thread_seconds()
        while not self.ended:
            begun = time.monotonic()
            self.connection.command("SET", "probe", "1")
            self.slowest = max(self.slowest, time.monotonic() - begun)
            now = self.thread_seconds()
            self.longest_cpu = max(self.longest_cpu, now - used)
            used = now
            self.most = max(self.most, self.server.rss())
            time.sleep(0.001)

    def end(self):
        self.ended = True
        self.join()
        self.schedstat.close()


def is_transferring(server):
    return server.info("replication").get("master_sync_in_progress") == "1"


def full_sync(kind, keys):
    """Of two replicas at once. Counted from the moment when the transfer begins: redis-server looks once a second whether
    it is time to begin."""
    options = ["--repl-diskless-sync-delay", "1", "--repl-diskless-sync", "yes", "--repl-diskless-load", "swapdb"]
    primary = Server(kind, pinned=False, options=options)
    replicas = [Server(kind, pinned=False, options=options) for _ in range(2)]
    fill_random(primary, keys, 64)
    control = Prober(primary)
    time.sleep(1)
    control.end()
    prober = Prober(primary)
    before = [s.cpu_seconds(children=True) for s in (primary, *replicas)]
    for r in replicas:
        r.connection.command("REPLICAOF", "127.0.0.1", str(primary.port))
    wait(lambda: any(is_transferring(r) or is_up(r) for r in replicas), pause=0.005)
    begun = time.monotonic()
    wait(lambda: all(is_up(r) for r in replicas), pause=0.01)
    seconds = time.monotonic() - begun
    time.sleep(0.2)  # until redis-server has waited for its child
    used = [s.cpu_seconds(children=True) - b for s, b in zip((primary, *replicas), before)]
    prober.end()
    for s in (primary, *replicas):
        s.stop()
    return {"seconds": seconds, "slowest": prober.slowest * 1000, "without": control.slowest * 1000,
            "own": prober.longest_cpu * 1000, "memory": 100 * (prober.most - prober.before) / prober.before,
            "primary_us": used[0] / keys * 1e6, "replica_us": sum(used[1:]) / 2 / keys * 1e6}


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
    report("replication", f"full sync of {keys} keys to two", "s", redis["seconds"], holdfast["seconds"], 3.0)
    report_bound("replication", "slowest write meanwhile", "ms", redis["slowest"], holdfast["slowest"], 2)
    report_stalls()
    report_bound("replication", "extra memory of the primary", "%", redis["memory"], holdfast["memory"], 10)
    for name, field in (("slowest write before it", "without"), ("longest own work meanwhile", "own")):
        report_value("replication", name, "ms", redis[field], holdfast[field])
    for name, field in (("processor, primary", "primary_us"), ("processor, each replica", "replica_us")):
        report_value("replication", name, "us/key", redis[field], holdfast[field])
    count = max(int(2000000 * args.scale), 20000)
    report("replication", "stream, replica's processor", "k SET/CPU s", stream("redis", count), stream("holdfast", count),
           2.0, more_is_better=True)
    count = max(int(200000 * args.scale), 10000)
    local, quorum = commits("local", count), commits("quorum", count)
    report("replication", "quorum of three, 50 clients", "k SET/s", local, quorum, 0.5, more_is_better=True)
