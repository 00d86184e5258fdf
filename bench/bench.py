#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holdfast beside redis-server, in one run, as ratios.

    ./dev bench                  everything (about fifteen minutes)
    ./dev bench pipelined        one part: pipelined, unpipelined, memory, snapshot, growth
    ./dev bench --rounds 1       each measurement once (default 3; the median counts)
    ./dev bench --scale 0.1      a tenth of the keys and requests

The servers take turns, measurement by measurement, each pinned to core 0 while the load comes from
core 1. What counts is the server's own CPU time (user and system, all threads, from /proc) per
command: throughput on a shared machine says as much about the client. Memory is what the resident
set grows by, per key. Exit status 0 whether goals are reached or not: this measures, it does not
judge.
"""
import argparse
import csv
import io
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = {"redis": shutil.which("redis-server") or "/usr/bin/redis-server",
            "holdfast": str(ROOT / "build" / "holdfast-server")}
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    def __init__(self, kind, pinned=True):
        self.kind = kind
        self.directory = tempfile.mkdtemp(prefix=f"hf-bench-{kind}-")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        command = [PROGRAMS[kind], "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory,
                   "--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]
        if pinned:
            command = ["taskset", "-c", "0"] + command
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                self.connection = Connection(self.port)
                if self.connection.command("PING") == b"+PONG":
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"{kind} does not start: {' '.join(command)}")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    @staticmethod
    def encode(args):
        args = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)

    def command(self, *args):
        """One command; the first line of its reply."""
        self.socket.sendall(self.encode(args))
        line = self.file.readline().rstrip(b"\r\n")
        if line.startswith(b"$") and line != b"$-1":
            return self.file.read(int(line[1:]) + 2)[:-2]
        return line

    def pipeline(self, commands, batch=5000):
        """Commands whose replies are one line each."""
        commands = list(commands)
        for at in range(0, len(commands), batch):
            part = commands[at:at + batch]
            sender = threading.Thread(target=self.socket.sendall, args=(b"".join(map(self.encode, part)),))
            sender.start()
            for _ in part:
                line = self.file.readline()
                if line.startswith(b"-"):
                    raise SystemExit(f"error reply: {line!r}")
            sender.join()


def benchmark(server, requests, clients, pipeline, command, keys=None, size=64, pinned=True):
    """Run redis-benchmark; returns its CSV row as a dictionary, with cpu_us per command added."""
    line = ["redis-benchmark", "-p", str(server.port), "-n", str(requests), "-c", str(clients), "-P", str(pipeline),
            "-d", str(size), "--csv"]
    if pinned:
        line = ["taskset", "-c", "1"] + line
    if keys:
        line += ["-r", str(keys)]
    before = server.cpu_seconds()
    out = subprocess.run(line + command, capture_output=True, text=True, check=True).stdout
    used = server.cpu_seconds() - before
    text = out[out.index('"test"'):]
    rows = list(csv.DictReader(io.StringIO(text)))
    row = {k: float(v) for k, v in rows[-1].items() if k != "test"}
    row["cpu_us"] = used / requests * 1e6
    return row


RESULTS = []


def report(part, name, unit, redis, holdfast, goal, at_least=True):
    """One line: both figures, the ratio (in our favour when goal is `at least`), and the goal."""
    ratio = (redis / holdfast if at_least else holdfast / redis) if redis and holdfast else float("nan")
    reached = ratio >= goal if at_least else ratio <= goal
    sign = ">=" if at_least else "<="
    RESULTS.append({"part": part, "name": name, "unit": unit, "redis": redis, "holdfast": holdfast,
                    "ratio": ratio, "goal": f"{sign} {goal}x", "reached": reached})
    print(f"{part:12} {name:30} {redis:10.3f} {holdfast:10.3f} {unit:12} {ratio:6.2f}x  goal {sign} {goal}x"
          f"  {'ok' if reached else 'MISSED'}", flush=True)


def report_bound(part, name, unit, redis, holdfast, bound):
    reached = holdfast <= bound
    RESULTS.append({"part": part, "name": name, "unit": unit, "redis": redis, "holdfast": holdfast,
                    "goal": f"<= {bound}", "reached": reached})
    shown = f"{redis:10.3f}" if redis is not None else " " * 10
    print(f"{part:12} {name:30} {shown} {holdfast:10.3f} {unit:12}          goal <= {bound}"
          f"  {'ok' if reached else 'MISSED'}", flush=True)


def take_turns(servers, rounds, measure):
    """measure(server) for each server in turn, `rounds` times; the median of every field."""
    rows = {kind: [] for kind in servers}
    for _ in range(rounds):
        for kind, server in servers.items():
            rows[kind].append(measure(server))
    return {kind: {field: statistics.median(r[field] for r in all_rows) for field in all_rows[0]}
            for kind, all_rows in rows.items()}


MGET = ["MGET"] + ["key:__rand_int__"] * 10
PIPELINED = [ # name, arguments, pipeline, goal, requests
    ("SET P=100", ["-t", "set"], 100, 3.0, 4000000),
    ("GET P=100", ["-t", "get"], 100, 3.0, 6000000),
    ("SET P=16", ["-t", "set"], 16, 2.0, 3000000),
    ("GET P=16", ["-t", "get"], 16, 2.0, 3000000),
    ("INCR P=100", ["-t", "incr"], 100, 2.0, 4000000),
    ("HSET P=100", ["-t", "hset"], 100, 2.0, 3000000),
    ("SADD P=100", ["-t", "sadd"], 100, 2.0, 3000000),
    ("ZADD P=100", ["-t", "zadd"], 100, 2.0, 2000000),
    ("LPUSH P=100", ["-t", "lpush"], 100, 2.0, 4000000),
    ("LRANGE 100 P=100", ["LRANGE", "list100", "0", "99"], 100, 2.0, 300000),
    ("MGET 10 P=100", MGET, 100, 2.0, 600000),
]


def fill_strings(server, keys, size):
    value = b"x" * size
    server.connection.pipeline((b"SET", b"key:%012d" % i, value) for i in range(keys))


def part_pipelined(args):
    servers = {kind: Server(kind) for kind in ("redis", "holdfast")}
    keys = int(1000000 * args.scale)
    for server in servers.values():
        fill_strings(server, keys, 64)
        server.connection.pipeline([(b"RPUSH", b"list100", b"x" * 64)] * 100)
    for name, command, pipeline, goal, requests in PIPELINED:
        if args.only and args.only.lower() not in name.lower():
            continue
        requests = max(int(requests * args.scale), 100000)
        rows = take_turns(servers, args.rounds, lambda s: benchmark(s, requests, 50, pipeline, command, keys))
        report("pipelined", name, "us CPU/cmd", rows["redis"]["cpu_us"], rows["holdfast"]["cpu_us"], goal)
        print(f"{'':43} {rows['redis']['rps']:10.0f} {rows['holdfast']['rps']:10.0f} commands/s    p99 ms"
              f" {rows['redis']['p99_latency_ms']:.3f} {rows['holdfast']['p99_latency_ms']:.3f}")
    for server in servers.values():
        server.stop()


def part_unpipelined(args):
    servers = {kind: Server(kind) for kind in ("redis", "holdfast")}
    keys = int(1000000 * args.scale)
    for server in servers.values():
        fill_strings(server, keys, 64)
    for name in ("GET", "SET"):
        requests = max(int(400000 * args.scale), 50000)
        rows = take_turns(servers, args.rounds,
                          lambda s: benchmark(s, requests, 50, 1, ["-t", name.lower()], keys))
        report("unpipelined", f"{name} 50 clients", "us CPU/cmd", rows["redis"]["cpu_us"],
               rows["holdfast"]["cpu_us"], 1.3)
        print(f"{'':43} {rows['redis']['rps']:10.0f} {rows['holdfast']['rps']:10.0f} commands/s    p99 ms"
              f" {rows['redis']['p99_latency_ms']:.3f} {rows['holdfast']['p99_latency_ms']:.3f}")
    for server in servers.values():
        server.stop()


MEMORY = [ # name, commands for n things, goal
    ("string 16+32", lambda n: ((b"SET", b"key:%012d" % i, b"x" * 32) for i in range(n)), 0.55),
    ("string 16+32 with expiry", lambda n: ((b"SET", b"key:%012d" % i, b"x" * 32, b"EX", b"1000000")
                                            for i in range(n)), 0.5),
    ("set member of 13", lambda n: ((b"SADD", b"set", b"member:%06d" % i) for i in range(n)), 0.55),
    ("sorted set member of 13", lambda n: ((b"ZADD", b"zset", b"%d" % (i * 7919 % n), b"member:%06d" % i)
                                           for i in range(n)), 0.55),
]


def small_hashes(n):
    for i in range(n):
        yield [b"HSET", b"hash:%011d" % i] + [x for f in range(10) for x in (b"field%d" % f, b"value-%05d" % (i % 90000 + f))]


def grown(server, commands, count):
    before = server.rss()
    server.connection.pipeline(commands)
    return (server.rss() - before) / count


def part_memory(args):
    count = int(1000000 * args.scale)
    for name, commands, goal in MEMORY + [("hash of ten fields", small_hashes, 0.9)]:
        n = count // 4 if commands is small_hashes else count
        figures = {}
        for kind in ("redis", "holdfast"):
            server = Server(kind)
            figures[kind] = grown(server, commands(n), n)
            server.stop()
        report("memory", name, "bytes RSS", figures["redis"], figures["holdfast"], goal, at_least=False)


def save_running(server):
    text = server.connection.command("INFO", "persistence").decode()
    return "rdb_bgsave_in_progress:1" in text


def wait_for_save(server, peak):
    while save_running(server):
        peak.append(total_memory(server))
        time.sleep(0.1)


def total_memory(server):
    """Resident memory of the server and its children, shared pages counted once. Counting them (Pss) walks all page tables, so
    it is done only where there is a child."""
    total = 0
    children = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout.split()
    if not children:
        return server.rss()
    for pid in [server.process.pid] + children:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"Pss:\s+(\d+)", text).group(1)) * 1024
    return total


def part_snapshot(args):
    keys = int(5000000 * args.scale)
    figures = {}
    for kind in ("redis", "holdfast"):
        server = Server(kind, pinned=False)
        fill_strings(server, keys, 200)
        seconds = {}
        latency, p999, memory = [], [], []
        for _ in range(args.rounds):
            base = total_memory(server)
            peak = []
            # The writers run for as long as the save does, and a little before and after.
            load = threading.Thread(target=lambda: latency.append(
                benchmark(server, int(2000000 * max(args.scale, 0.2)), 10, 1, ["-t", "set"], keys, 200, pinned=False)))
            load.start()
            time.sleep(1)
            begun = time.monotonic()
            server.connection.command("BGSAVE")
            wait_for_save(server, peak)
            seconds.setdefault("save", []).append(time.monotonic() - begun)
            load.join()
            memory.append((max(peak or [base]) - base) / base * 100)
        quiet = benchmark(server, int(500000 * max(args.scale, 0.2)), 10, 1, ["-t", "set"], keys, 200, pinned=False)
        figures[kind] = {"max": statistics.median(r["max_latency_ms"] for r in latency),
                         "p99": statistics.median(r["p99_latency_ms"] for r in latency),
                         "quiet_max": quiet["max_latency_ms"], "quiet_p99": quiet["p99_latency_ms"],
                         "memory": statistics.median(memory), "seconds": statistics.median(seconds["save"])}
        server.stop()
    r, h = figures["redis"], figures["holdfast"]
    report_bound("snapshot", "slowest write during BGSAVE", "ms", r["max"], h["max"], 3)
    report_bound("snapshot", "extra memory", "%", r["memory"], h["memory"], 15)
    print(f"{'':13}without a save: slowest {r['quiet_max']:.3f} / {h['quiet_max']:.3f} ms; p99 during "
          f"{r['p99']:.3f} / {h['p99']:.3f}, without {r['quiet_p99']:.3f} / {h['quiet_p99']:.3f} ms; save took "
          f"{r['seconds']:.1f} / {h['seconds']:.1f} s under load")


def part_growth(args):
    keys = int(20000000 * args.scale)
    program = ROOT / "build" / "bench-growth"
    out = subprocess.run(["taskset", "-c", "0", str(program), str(keys)], capture_output=True, text=True, check=True).stdout
    figures = json.loads(out)
    report_bound("growth", f"slowest of {keys} SETs", "ms CPU", None, figures["slowest_us"] / 1000, 1)
    print(f"{'':13}mean {figures['mean_ns']:.0f} ns, p99.99 {figures['p9999_us']:.1f} us,"
          f" {figures['bytes_per_key']:.1f} bytes a key")


PARTS = {"pipelined": part_pipelined, "unpipelined": part_unpipelined, "memory": part_memory,
         "snapshot": part_snapshot, "growth": part_growth}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=sorted(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", help="of the pipelined tests, those whose name contains this")
    parser.add_argument("--json", help="write the figures to this file too")
    args = parser.parse_args()
    version = subprocess.run([PROGRAMS["redis"], "--version"], capture_output=True, text=True).stdout.split()[2]
    print(f"redis-server {version} beside holdfast, {args.rounds} rounds; columns: redis, holdfast")
    for name, part in PARTS.items():
        if args.part in (None, name):
            part(args)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(RESULTS, indent=1) + "\n")
    missed = [r for r in RESULTS if not r["reached"]]
    print(f"{len(RESULTS) - len(missed)} goals reached, {len(missed)} missed")


if __name__ == "__main__":
    sys.exit(main())
