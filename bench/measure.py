#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the parts of bench.py share: servers, load, and how a figure is reported."""
import csv
import io
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import signal
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = {"redis": shutil.which("redis-server") or "/usr/bin/redis-server",
            "holdfast": str(ROOT / "build" / "holdfast-server")}
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """One of PROGRAMS on a free port with a directory of its own. Further arguments are options of redis.conf."""

    def __init__(self, kind, pinned=True, options=(), directory=None, wait_seconds=10,
                 port=None):
        self.kind = kind
        self.directory = directory or tempfile.mkdtemp(prefix=f"hf-bench-{kind}-")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = port or s.getsockname()[1]
        command = [PROGRAMS[kind], "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory,
                   "--save", "", "--appendonly", "no", "--enable-debug-command", "yes", *options]
        if pinned:
            command = ["taskset", "-c", "0"] + command
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        while time.monotonic() - begun < wait_seconds:
            try:
                self.connection = Connection(self.port)
                if self.connection.command("PING") == b"+PONG":
                    self.start_seconds = time.monotonic() - begun
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise SystemExit(f"{kind} does not start: {' '.join(command)}")

    def cpu_seconds(self, children=False):
        """Of the process, and of its children that have ended."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15 if children else 13])) / TICKS

    def rss(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def info(self, section):
        """One section of INFO as a dictionary."""
        text = self.connection.command("INFO", section).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def stop(self, keep=False):
        """Kill it. The directory goes with it unless it is kept for another server."""
        self.process.kill()
        self.process.wait()
        if not keep:
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


def report(part, name, unit, redis, holdfast, goal, at_least=True, more_is_better=False):
    """One line: both figures, the goal, and the ratio: how many times better we are, or, unless goal is `at least`, our share of theirs."""
    share = holdfast / redis if redis and holdfast else float("nan")
    ratio = 1 / share if at_least and not more_is_better else share
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


def report_value(part, name, unit, redis, holdfast):
    """What has no goal of its own, and says where another figure comes from."""
    RESULTS.append({"part": part, "name": name, "unit": unit, "redis": redis, "holdfast": holdfast})
    print(f"{part:12} {name:30} {redis:10.3f} {holdfast:10.3f} {unit:12}", flush=True)


def take_turns(servers, rounds, measure):
    """measure(server) for each server in turn, `rounds` times; the median of every field."""
    rows = {kind: [] for kind in servers}
    for _ in range(rounds):
        for kind, server in servers.items():
            rows[kind].append(measure(server))
    return {kind: {field: statistics.median(r[field] for r in all_rows) for field in all_rows[0]}
            for kind, all_rows in rows.items()}


def fill_strings(server, keys, size):
    value = b"x" * size
    server.connection.pipeline((b"SET", b"key:%012d" % i, value) for i in range(keys))


class Load:
    """bench-load in the background: begun by the constructor; `end` gives its figures."""

    def __init__(self, server, writers, readers, keys, size, seconds=3600, mode=None):
        line = [str(ROOT / "build" / "bench-load"), str(server.port), str(seconds), str(writers), str(readers), str(keys),
                str(size)] + ([mode] if mode else [])
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)

    def count_anew(self):
        """What `end` gives is of what was sent from now on."""
        self.process.send_signal(signal.SIGUSR1)

    def end(self, stop=True):
        if stop:
            self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate()
        return json.loads(out)


def fill_random(server, keys, size):
    """Every key once, with random bytes that do not compress."""
    subprocess.run([str(ROOT / "build" / "bench-load"), str(server.port), "0", "0", "0", str(keys), str(size), "fill"], check=True)


def report_stalls(seconds=4):
    """Beside the slowest of anything: what the machine did to a program that only looks at the clock."""
    out = subprocess.run([str(ROOT / "build" / "bench-stalls"), str(seconds)], stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(out.stdout)
    print(f"{'':13}this machine: a program that only looks at the clock was held up for {figures['max_ms']:.3f} ms at most, "
          f"{figures['above_1ms']} times for more than 1 ms, in {seconds} s on {figures['processors']} processors")
