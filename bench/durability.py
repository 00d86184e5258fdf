#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The parts of bench.py about snapshots, loading and the log."""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from measure import Load, Server, benchmark, fill_random, report, report_bound, report_stalls

KINDS = ("redis", "holdfast")
VALUE = 200


MEMORY_EACH = 0.1


def total_memory(server):
    """Resident memory of the server and its children, shared pages counted once. Counting them (Pss) walks all page tables, so
    it is done only where there is a child. No process is started for it, as that would disturb what is measured."""
    total, pid = 0, server.process.pid
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        return server.rss()
    for each in [pid] + children:
        try:
            text = pathlib.Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"Pss:\s+(\d+)", text).group(1)) * 1024
    return total


class Memory:
    """The most that is resident, looked at now and then."""

    def __init__(self, server):
        self.server, self.peak, self.next = server, 0, 0

    def __call__(self):
        if time.monotonic() >= self.next:
            self.peak = max(self.peak, total_memory(self.server))
            self.next = time.monotonic() + MEMORY_EACH


def wait_while(server, field, each=lambda: None, pause=0.05):
    """Until a field of INFO persistence is 0 again; returns the seconds."""
    begun = time.monotonic()
    while server.info("persistence")[field] == "1":
        each()
        time.sleep(pause)
    return time.monotonic() - begun


def must(server, *command):
    answer = server.connection.command(*command)
    if answer.startswith(b"-"):
        raise SystemExit(f"{server.kind}: {' '.join(map(str, command))}: {answer.decode()}")
    return answer


def save(server, each=lambda: None, pause=0.01):
    """One BGSAVE from begin to end: seconds and bytes. Looking whether it has ended takes a processor for half a millisecond, so
    beside a load it is done seldom."""
    begun = time.monotonic()
    must(server, "BGSAVE")
    wait_while(server, "rdb_bgsave_in_progress", each, pause)
    seconds = time.monotonic() - begun
    if server.info("persistence")["rdb_last_bgsave_status"] != "ok":
        raise SystemExit(f"{server.kind}: the save failed")
    return seconds, os.path.getsize(os.path.join(server.directory, "dump.rdb"))


def under_load(server, writers, keys, act, mode=None):
    """What `act` does to the writers beside it: the load's figures, the extra memory in percent, and act's result. The load runs
    a second before, which is not counted, and until it ends."""
    base, memory = total_memory(server), Memory(server)
    load = Load(server, writers, 0, keys, VALUE, mode=mode)
    time.sleep(1)
    load.count_anew()
    result = act(memory)
    figures = load.end()["writers"]
    figures["memory"] = (max(memory.peak, base) - base) / base * 100
    return figures, result


def median_rows(rows):
    return {field: statistics.median(r[field] for r in rows) for field in rows[0]}


def part_snapshot(args):
    keys = int(5000000 * args.scale)
    during, quiet, speed = {}, {}, {}
    for kind in KINDS:
        server = Server(kind, pinned=False)
        fill_random(server, keys, VALUE)
        # Alternating: both see the same machine.
        rows = {"during": [], "quiet": []}
        for _ in range(args.rounds):
            rows["quiet"].append(Load(server, 10, 0, keys, VALUE, seconds=4).end(stop=False)["writers"])
            rows["during"].append(under_load(server, 10, keys, lambda each: save(server, each, MEMORY_EACH))[0])
        during[kind], quiet[kind] = median_rows(rows["during"]), median_rows(rows["quiet"])
        speed[kind] = {}
        for name, compress, verify in (("no", "no", "yes"), ("yes", "yes", "yes"), ("unverified", "no", "no")):
            must(server, "CONFIG", "SET", "rdbcompression", compress)
            if kind == "holdfast":
                must(server, "CONFIG", "SET", "rdb-verify", verify)
            saves = [save(server) for _ in range(args.rounds)]
            speed[kind][name] = statistics.median(size / seconds / 1e6 for seconds, size in saves)
        server.stop()
    r, h = during["redis"], during["holdfast"]
    report_bound("snapshot", "slowest write during BGSAVE", "ms", r["max_ms"], h["max_ms"], 2)
    report_bound("snapshot", "p99.9 during / without", "ratio", r["p999_ms"] / quiet["redis"]["p999_ms"],
                 h["p999_ms"] / quiet["holdfast"]["p999_ms"], 1.2)
    report_bound("snapshot", "writes lost to the save", "%", 100 - r["rps"] / quiet["redis"]["rps"] * 100,
                 100 - h["rps"] / quiet["holdfast"]["rps"] * 100, 15)
    report_bound("snapshot", "extra memory", "%", r["memory"], h["memory"], 10)
    report("snapshot", "saving, not compressed", "s/GB", 1000 / speed["redis"]["no"], 1000 / speed["holdfast"]["no"], 5)
    report("snapshot", "saving, rdbcompression", "s/GB", 1000 / speed["redis"]["yes"], 1000 / speed["holdfast"]["yes"], 3)
    print(f"{'':13}MB/s: {speed['redis']['no']:.0f} / {speed['holdfast']['no']:.0f}, compressed {speed['redis']['yes']:.0f} / "
          f"{speed['holdfast']['yes']:.0f}; not compressed and not verified (rdb-verify no): {speed['holdfast']['unverified']:.0f}")
    print(f"{'':13}without a save: slowest {quiet['redis']['max_ms']:.3f} / {quiet['holdfast']['max_ms']:.3f} ms, p99.9 "
          f"{quiet['redis']['p999_ms']:.3f} / {quiet['holdfast']['p999_ms']:.3f} ms; during p99.9 {r['p999_ms']:.3f} / {h['p999_ms']:.3f} ms")
    report_stalls()
    part_snapshot_zset(args)


def part_snapshot_zset(args):
    """BGSAVE of one sorted set of 10M members under ZADDs."""
    members, slowest, quiet = int(10000000 * args.scale), {}, {}
    for kind in KINDS:
        server = Server(kind, pinned=False)
        server.connection.pipeline(([b"ZADD", b"zset"] + [x for i in range(at, at + 100) for x in (b"%d" % (i * 7919 % members),
                                    b"member:%012d" % i)] for at in range(0, members, 100)), batch=200)
        rows, control = [], []
        for _ in range(args.rounds):
            control.append(Load(server, 10, 0, members, VALUE, seconds=3, mode="zadd").end(stop=False)["writers"])
            rows.append(under_load(server, 10, members, lambda each: save(server, each, MEMORY_EACH), mode="zadd")[0])
        slowest[kind], quiet[kind] = median_rows(rows), median_rows(control)
        server.stop()
    report_bound("snapshot", "sorted set: slowest write", "ms", slowest["redis"]["max_ms"], slowest["holdfast"]["max_ms"], 2)
    print(f"{'':13}without a save: slowest {quiet['redis']['max_ms']:.3f} / {quiet['holdfast']['max_ms']:.3f} ms, p99.9 "
          f"{quiet['redis']['p999_ms']:.3f} / {quiet['holdfast']['p999_ms']:.3f} ms; during p99.9 "
          f"{slowest['redis']['p999_ms']:.3f} / {slowest['holdfast']['p999_ms']:.3f} ms")


def mixed(n):
    for i in range(n):
        yield (b"SET", b"s:%d" % i, b"value-%d" % i)
        if i % 5 == 0:
            yield [b"HSET", b"h:%d" % i] + [x for f in range(10) for x in (b"field%d" % f, b"value-%d" % (i + f))]
        if i % 10 == 0:
            yield [b"RPUSH", b"l:%d" % i] + [b"element-%d" % (i + f) for f in range(20)]
            yield [b"SADD", b"t:%d" % i] + [b"member-%d" % (i + f) for f in range(20)]
            yield [b"ZADD", b"z:%d" % i] + [x for f in range(20) for x in (b"%d" % (i ^ f), b"member-%d" % (i + f))]
            yield [b"SADD", b"i:%d" % i] + [b"%d" % (i + f) for f in range(20)]
    for i in range(n // 20):
        yield [b"HSET", b"large"] + [x for f in range(10) for x in (b"field%d" % (i * 10 + f), b"value-%d" % f)]
        yield [b"ZADD", b"large-z"] + [x for f in range(10) for x in (b"%d" % (i * 7 % 1000), b"member%d" % (i * 10 + f))]


def start_seconds(kind, directory, options=()):
    """How long it takes from the program's start until it serves."""
    server = Server(kind, pinned=False, directory=directory, options=options, wait_seconds=600)
    seconds, keys = server.start_seconds, int(server.connection.command("DBSIZE")[1:])
    server.stop(keep=True)
    return seconds, keys


def part_loading(args):
    n = int(5000000 * args.scale)
    for name, goal, make in (("small strings", 5, lambda s: fill_random(s, n, 32)),
                             ("mixed types", 3, lambda s: s.connection.pipeline(mixed(n // 5), batch=1000))):
        # Each loads the file that it wrote itself, and Holdfast that of redis-server, too.
        files, seconds = {}, {"redis": [], "holdfast": [], "redis's file": []}
        for kind in KINDS:
            server = Server(kind, pinned=False)
            make(server)
            save(server)
            files[kind] = server.directory
            server.stop(keep=True)
        keys = 0
        for _ in range(args.rounds):
            for kind in KINDS:
                took, keys = start_seconds(kind, files[kind])
                seconds[kind].append(took)
            seconds["redis's file"].append(start_seconds("holdfast", files["redis"])[0])
        took = {k: statistics.median(v) / keys * 1e6 for k, v in seconds.items()}
        report("loading", name, "s/1M keys", took["redis"], took["holdfast"], goal)
        report("loading", name + ", redis's file", "s/1M keys", took["redis"], took["redis's file"], 1)
        for directory in files.values():
            shutil.rmtree(directory, ignore_errors=True)


def part_incremental(args):
    """A delta after 1 % of the keys was changed, beside a full save."""
    keys = int(5000000 * args.scale)
    server = Server("holdfast", pinned=False)
    fill_random(server, keys, VALUE)
    fulls, deltas = [], []
    for _ in range(args.rounds):
        begun = time.monotonic()
        must(server, "HOLDFAST", "SNAPSHOT", "FULL")
        wait_while(server, "rdb_bgsave_in_progress", pause=0.01)
        fulls.append(time.monotonic() - begun)
        before = {f: os.path.getsize(os.path.join(server.directory, f)) for f in os.listdir(server.directory)}
        server.connection.pipeline((b"SET", b"key:%012d" % (i * 97 % keys), os.urandom(VALUE)) for i in range(keys // 100))
        begun = time.monotonic()
        must(server, "HOLDFAST", "SNAPSHOT", "INCREMENTAL")
        wait_while(server, "rdb_bgsave_in_progress", pause=0.01)
        deltas.append(time.monotonic() - begun)
        new = [f for f in os.listdir(server.directory) if f not in before and not f.endswith(".chain")]
        sizes = os.path.getsize(os.path.join(server.directory, new[0])) / max(before.values()) * 100
    report_bound("incremental", "1 % changed: bytes of full", "%", None, sizes, 5)
    report_bound("incremental", "1 % changed: time of full", "%", None,
                 statistics.median(deltas) / statistics.median(fulls) * 100, 5)
    server.stop()


ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")


def part_log(args):
    keys = int(1000000 * args.scale)
    for clients in (50, 200):
        rps, read = {}, {}
        for kind in KINDS:
            server = Server(kind, pinned=False, options=ALWAYS)
            rows = [Load(server, clients, 0, keys, 64, seconds=6).end(stop=False)["writers"] for _ in range(args.rounds)]
            rps[kind] = statistics.median(r["rps"] for r in rows)
            fill_random(server, keys, 64)
            rows = [Load(server, clients, 1, keys, 64, seconds=6).end(stop=False)["readers"] for _ in range(args.rounds)]
            read[kind] = statistics.median(r["p99_ms"] for r in rows)
            server.stop()
        server = Server("holdfast", pinned=False)
        fill_random(server, keys, 64)
        rows = [Load(server, clients, 1, keys, 64, seconds=6).end(stop=False)["readers"] for _ in range(args.rounds)]
        plain = statistics.median(r["p99_ms"] for r in rows)
        server.stop()
        report("log", f"always, {clients} clients: SET", "us/command", 1e6 / rps["redis"], 1e6 / rps["holdfast"], 1.5)
        report_bound("log", f"always: GET p99 beside {clients}", "x no log", read["redis"] / plain, read["holdfast"] / plain, 1.3)
    cpu = {}
    for pipeline in (1, 16):
        for kind in KINDS:
            # Without a rewrite, whose CPU time counts for Holdfast, which has threads, but not for redis-server, which forks.
            for name, options in (("none", ()), ("everysec", EVERYSEC + ("--auto-aof-rewrite-percentage", "0"))):
                server = Server(kind, options=options)
                rows = [benchmark(server, int(1000000 * args.scale), 50, pipeline, ["-t", "set"], keys) for _ in range(args.rounds)]
                cpu[kind, name] = statistics.median(r["cpu_us"] for r in rows)
                server.stop()
        report_bound("log", f"everysec: CPU of SET, P={pipeline}", "x no log", cpu["redis", "everysec"] / cpu["redis", "none"],
                     cpu["holdfast", "everysec"] / cpu["holdfast", "none"], 1.05)
        print(f"{'':13}without a log {cpu['redis', 'none']:.2f} / {cpu['holdfast', 'none']:.2f} us, everysec "
              f"{cpu['redis', 'everysec']:.2f} / {cpu['holdfast', 'everysec']:.2f} us a command")
    part_rewrite(args)


def part_rewrite(args):
    keys = int(5000000 * args.scale)
    slowest = {}

    def rewrite(server, each):
        must(server, "BGREWRITEAOF")
        time.sleep(0.1)
        wait_while(server, "aof_rewrite_in_progress", each)

    for kind in KINDS:
        server = Server(kind, pinned=False, options=EVERYSEC + ("--auto-aof-rewrite-percentage", "0"))
        fill_random(server, keys, VALUE)
        rows = [under_load(server, 10, keys, lambda each: rewrite(server, each))[0] for _ in range(args.rounds)]
        slowest[kind] = median_rows(rows)
        server.stop()
    report_bound("log", "rewrite: slowest write", "ms", slowest["redis"]["max_ms"], slowest["holdfast"]["max_ms"], 2)
    report_stalls()
    report_bound("log", "rewrite: extra memory", "%", slowest["redis"]["memory"], slowest["holdfast"]["memory"], 10)


def part_replay(args):
    """Starting from a log of commands without a base."""
    commands = int(5000000 * args.scale)
    options = EVERYSEC + ("--auto-aof-rewrite-percentage", "0")
    directories, seconds = {}, {kind: [] for kind in KINDS}
    for kind in KINDS:
        server = Server(kind, pinned=False, options=options)
        fill_random(server, commands, 32)
        time.sleep(2)
        directories[kind] = server.directory
        server.stop(keep=True)
    for _ in range(args.rounds):
        for kind in KINDS:
            seconds[kind].append(start_seconds(kind, directories[kind], options)[0])
    report("replay", "SET of 32 bytes", "s/1M", *(statistics.median(seconds[k]) / commands * 1e6 for k in KINDS), 4)
    for directory in directories.values():
        shutil.rmtree(directory, ignore_errors=True)
