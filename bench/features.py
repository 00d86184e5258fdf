#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The parts of bench.py about streams, scripts, messages, and a cache that is full."""
import random
import socket
import subprocess
import sys
import time

from measure import ROOT, Server, benchmark, fill_strings, report, report_value, take_turns

# A process of its own that reads what a hundred subscribers get, as fast as it comes.
SUBSCRIBERS = """
import select, socket, sys
poll, sockets = select.epoll(), {}
for _ in range(int(sys.argv[2])):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(b"SUBSCRIBE news\\r\\n")
    sockets[s.fileno()] = s
    poll.register(s, select.EPOLLIN)
for s in sockets.values():
    s.recv(4096)
print("ready", flush=True)
while True:
    for fd, _ in poll.poll():
        if not sockets[fd].recv(1 << 18):
            sys.exit()
"""


def both(**options):
    return {kind: Server(kind, **options) for kind in ("redis", "holdfast")}


def line(part, name, rows, goal):
    report(part, name, "us CPU/cmd", rows["redis"]["cpu_us"], rows["holdfast"]["cpu_us"], goal)


def part_streams(args):
    servers = both()
    keys = int(1000 * max(args.scale, 0.1))
    requests = max(int(2000000 * args.scale), 100000)
    for pipeline in (1, 16, 100):
        count = requests // (10 if pipeline == 1 else 1)
        rows = take_turns(servers, args.rounds, lambda s: benchmark(
            s, count, 50, pipeline, ["XADD", "stream:__rand_int__", "MAXLEN", "~", "1000", "*", "sensor", "12345", "value", "0.5"], keys))
        line("streams", f"XADD P={pipeline}", rows, 1.5)

    reads = max(int(100000 * args.scale), 10000)

    def read(server):
        """A group reads a stream from the beginning, ten entries a time, and everything is pending afterwards."""
        c = server.connection
        if c.command("XLEN", "log") == b":0":
            benchmark(server, reads * 10, 50, 100, ["XADD", "log", "*", "sensor", "12345", "value", "0.5"])
        else:
            c.command("XGROUP", "DESTROY", "log", "g")
        c.command("XGROUP", "CREATE", "log", "g", "0")
        return benchmark(server, reads, 50, 16, ["XREADGROUP", "GROUP", "g", "c", "COUNT", "10", "STREAMS", "log", ">"])
    line("streams", "XREADGROUP COUNT 10 P=16", take_turns(servers, args.rounds, read), 1.5)
    for server in servers.values():
        server.stop()


def part_scripts(args):
    servers = both()
    for server in servers.values():
        fill_strings(server, 100000, 64)
    for name, script in (("one GET", "return redis.call('GET', KEYS[1])"),
                         ("a counter with a limit", "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('PEXPIRE', KEYS[1], 60000) end "
                                                    "if n > tonumber(ARGV[1]) then return 0 end return n")):
        for pipeline in (1, 16):
            requests = max(int((300000 if pipeline == 1 else 1000000) * args.scale), 50000)
            key = "key:__rand_int__" if name == "one GET" else "limit:__rand_int__"
            rows = take_turns(servers, args.rounds, lambda s: benchmark(s, requests, 50, pipeline, ["EVAL", script, "1", key, "1000000"], 100000))
            line("scripts", f"{name} P={pipeline}", rows, 1.0)
    for server in servers.values():
        server.stop()


class Loop:
    """bench/fanout.c in the place of a server: reads, answers, and sends to all, and does nothing else."""
    cpu_seconds, wait_seconds = Server.cpu_seconds, 10

    def __init__(self, kind, how):
        self.kind = kind
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen(["taskset", "-c", "0", str(ROOT / "build" / "bench-fanout"), str(self.port), how])
        begun = time.monotonic()
        while time.monotonic() - begun < self.wait_seconds:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise SystemExit("bench-fanout does not start")

    def stop(self):
        self.process.kill()
        self.process.wait()


def part_pubsub(args):
    """The floor is what the kernel takes of any server that writes to each subscriber once a turn."""
    servers, readers = {**both(), "send": Loop("send", "send"), "uring": Loop("uring", "uring")}, []
    for server in servers.values():
        reader = subprocess.Popen(["taskset", "-c", "1", sys.executable, "-c", SUBSCRIBERS, str(server.port), "100"], stdout=subprocess.PIPE, text=True)
        assert reader.stdout.readline() == "ready\n"
        readers.append(reader)
    for pipeline in (1, 16):
        requests = max(int((20000 if pipeline == 1 else 100000) * args.scale), 5000)
        turns = servers if pipeline == 1 else {kind: servers[kind] for kind in ("redis", "holdfast")}
        rows = take_turns(turns, args.rounds, lambda s: benchmark(s, requests, 10, pipeline, ["PUBLISH", "news", "x" * 64]))
        line("pubsub", f"PUBLISH to 100 P={pipeline}", rows, 1.5)
        if pipeline == 1:
            for how in ("send", "uring"):
                report_value("pubsub", f"bare loop, {how}: redis, it", "us CPU/cmd", rows["redis"]["cpu_us"], rows[how]["cpu_us"])
    for reader in readers:
        reader.kill()
        reader.wait()
    for server in servers.values():
        server.stop()


class Cache:
    """One who looks things up, and puts there what was not found: a hundred at a time. Which things are wanted follows Zipf's law (an
    exponent of 1), from a list that was drawn before, the same for each server."""

    def __init__(self, server):
        self.server = server
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.file = self.socket.makefile("rb", buffering=1 << 20)

    def run(self, wanted):
        hits, value = 0, b"x" * 100
        before = self.server.cpu_seconds()
        for at in range(0, len(wanted), 100):
            part = wanted[at:at + 100]
            self.socket.sendall(b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(k), k) for k in part))
            missing = []
            for k in part:
                if self.file.readline() == b"$-1\r\n":
                    missing.append(k)
                else:
                    self.file.read(102)
            hits += len(part) - len(missing)
            if missing:
                self.socket.sendall(b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$100\r\n%s\r\n" % (len(k), k, value) for k in missing))
                for _ in missing:
                    self.file.readline()
        return hits / len(wanted), (self.server.cpu_seconds() - before) / len(wanted) * 1e6


def part_cache(args):
    things, requests, limit = int(1000000 * args.scale), int(3000000 * args.scale), int(20e6 * args.scale) + 3000000
    rng = random.Random(7)
    weights = [1 / (i + 1) for i in range(things)]
    names = [b"thing:%010d" % i for i in range(things)]
    rng.shuffle(names)
    wanted = rng.choices(names, weights, k=requests)
    warm = requests // 3

    def measure(kind, policy, most):
        server = Server(kind, options=["--maxmemory", str(most), "--maxmemory-policy", policy])
        base = int(server.info("memory")["used_memory"])
        cache = Cache(server)
        cache.run(wanted[:warm])
        rate, cpu = cache.run(wanted[warm:])
        keys = int(server.connection.command("DBSIZE")[1:])
        assert int(server.info("stats")["evicted_keys"]) > 0
        server.stop()
        return rate, cpu, keys, base

    for policy in ("allkeys-lru", "allkeys-lfu", "allkeys-random"):
        redis, holdfast = (measure(kind, policy, limit) for kind in ("redis", "holdfast"))
        report("cache", f"{policy}, hits", "share", redis[0], holdfast[0], 1.0, more_is_better=True)
        report("cache", f"{policy}, GETs and SETs", "us CPU/GET", redis[1], holdfast[1], 1.5)
        # The quality of the choice alone: with the memory in which it keeps as many keys as redis-server.
        less = holdfast[3] + int((limit - holdfast[3]) * redis[2] / holdfast[2])
        same = measure("holdfast", policy, less)
        report("cache", f"{policy}, hits, as many keys", "share", redis[0], same[0], 0.995, more_is_better=True)
        print(f"{'':13}keys kept: {redis[2]} and {holdfast[2]}, then {same[2]}")
