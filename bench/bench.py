#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holdfast beside redis-server, in one run, as ratios.

    ./dev bench                  everything (about fifteen minutes)
    ./dev bench pipelined        one part: pipelined, unpipelined, memory, snapshot, loading,
                                 incremental, log, replay, growth, tls, streams, scripts, pubsub,
                                 cache
    ./dev bench --rounds 1       each measurement once (default 3; the median counts)
    ./dev bench --scale 0.1      a tenth of the keys and requests

The servers take turns, measurement by measurement, each pinned to core 0 while the load comes from
core 1. What counts is the server's own CPU time (user and system, all threads, from /proc) per
command: throughput on a shared machine says as much about the client. Memory is what the resident
set grows by, per key. Exit status 0 whether goals are reached or not: this measures, it does not
judge.
"""
import argparse
import json
import pathlib
import socket
import subprocess
import sys
import tempfile

import durability
import features
import replicas
from measure import PROGRAMS, RESULTS, ROOT, Server, benchmark, fill_strings, report, report_bound, take_turns


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


def part_growth(args):
    keys = int(20000000 * args.scale)
    program = ROOT / "build" / "bench-growth"
    out = subprocess.run(["taskset", "-c", "0", str(program), str(keys)], capture_output=True, text=True, check=True).stdout
    figures = json.loads(out)
    report_bound("growth", f"slowest of {keys} SETs", "ms CPU", None, figures["slowest_us"] / 1000, 1)
    print(f"{'':13}mean {figures['mean_ns']:.0f} ns, p99.99 {figures['p9999_us']:.1f} us,"
          f" {figures['bytes_per_key']:.1f} bytes a key")


def part_tls(args):
    with tempfile.TemporaryDirectory(prefix="hf-bench-tls-") as directory:
        key, certificate = f"{directory}/key", f"{directory}/crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                        "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True)
        servers, ports = {}, {}
        for kind in ("redis", "holdfast"):
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                ports[kind] = str(s.getsockname()[1])
            servers[kind] = Server(kind, options=["--tls-port", ports[kind], "--tls-cert-file", certificate,
                                                  "--tls-key-file", key, "--tls-auth-clients", "no"])
        for name, pipeline, requests in (("GET", 1, 300000), ("SET", 1, 300000), ("GET", 16, 1500000), ("SET", 16, 1500000)):
            requests = max(int(requests * args.scale), 20000)
            rows = take_turns(servers, args.rounds, lambda s: benchmark(
                s, requests, 50, pipeline, ["--tls", "--cacert", certificate, "-p", ports[s.kind], "-t", name.lower()], 100000))
            report("tls", f"{name} P={pipeline}", "us CPU/cmd", rows["redis"]["cpu_us"], rows["holdfast"]["cpu_us"], 1.0)
        for server in servers.values():
            server.stop()


PARTS = {"pipelined": part_pipelined, "unpipelined": part_unpipelined, "memory": part_memory,
         "snapshot": durability.part_snapshot, "loading": durability.part_loading,
         "incremental": durability.part_incremental, "log": durability.part_log, "replay": durability.part_replay,
         "replication": replicas.part_replication,
         "growth": part_growth, "tls": part_tls, "streams": features.part_streams, "scripts": features.part_scripts,
         "pubsub": features.part_pubsub, "cache": features.part_cache}


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
    goals = [r for r in RESULTS if "goal" in r]
    missed = [r for r in goals if not r["reached"]]
    print(f"{len(goals) - len(missed)} goals reached, {len(missed)} missed")


if __name__ == "__main__":
    sys.exit(main())
