# SPDX-License-Identifier: BSD-3-Clause
"""Debian's redis-sentinel over Holdfast nodes, and clients that find the primary through it."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time

import redis
from redis.sentinel import Sentinel

import harness
from harness import Raw, Server, free_port
from net import QUICK, wait_for

NAME = "mymaster"
CLIENTS = pathlib.Path(__file__).resolve().parents[1] / "client"
# A machine that is busy makes redis-sentinel mistrust its clock ("tilt"), for half a minute each time.
PATIENCE = 240


class Node(Server):
    """A node on a port that it keeps, with a configuration file that CONFIG REWRITE can write."""

    def __init__(self, port=None, **options):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-node-"))
        self.kept = port or free_port()
        conf = directory / "node.conf"
        # In the file, and not as arguments, as CONFIG REWRITE is to have its way.
        options = {**QUICK, "appendonly": "yes", "port": self.kept, **options}
        conf.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        super().__init__("holdfast", {"port": None, "appendonly": None}, directory=directory, args=[str(conf)])

    def start(self, wait=True):
        super().start(wait)
        self.port = self.kept

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Watcher:
    """One redis-sentinel."""

    def __init__(self, primary_port, quorum=2, down_after_ms=1000):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-sentinel-"))
        self.port = free_port()
        conf = self.directory / "sentinel.conf"
        conf.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
                        f"sentinel monitor {NAME} 127.0.0.1 {primary_port} {quorum}\n"
                        f"sentinel down-after-milliseconds {NAME} {down_after_ms}\n"
                        f"sentinel failover-timeout {NAME} 4000\nsentinel parallel-syncs {NAME} 2\n")
        self.log = open(self.directory / "log", "ab")
        self.process = subprocess.Popen(["/usr/bin/redis-sentinel", str(conf)], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=subprocess.STDOUT)
        harness.running.add(self.process)
        self.raw = wait_for(self.connect, "a sentinel")

    def connect(self):
        try:
            return Raw(port=self.port)
        except OSError:
            return None

    def master(self):
        flat = self.raw("SENTINEL", "MASTER", NAME)
        return {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2])}

    def others(self, what):
        """Sentinel's records of the replicas, or of the other sentinels."""
        return [{k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2])}
                for flat in self.raw("SENTINEL", what, NAME)]

    def primary_port(self):
        return int(self.raw("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def text(self):
        return (self.directory / "log").read_text(errors="replace")

    def stop(self):
        self.raw.close()
        self.process.terminate()
        self.process.wait(60)
        harness.running.discard(self.process)
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def know_each_other(watchers, replicas):
    def complete(w):
        found = w.master()
        return int(found["num-slaves"]) == replicas and int(found["num-other-sentinels"]) == len(watchers) - 1 and \
            all(r["master-link-status"] == "ok" and int(r["slave-repl-offset"]) > 0 for r in w.others("SLAVES"))
    for w in watchers:
        wait_for(lambda: complete(w), f"discovery: {w.master()} {w.others('SLAVES')}", PATIENCE)


class PythonClient(threading.Thread):
    """Writes numbered keys through redis-py's Sentinel support. A write that fails is tried again by the
    same client object: nothing is done to help it."""

    def __init__(self, watchers):
        super().__init__(daemon=True)
        self.client = Sentinel([("127.0.0.1", w.port) for w in watchers], socket_timeout=1).master_for(
            NAME, socket_timeout=1)
        self.acknowledged, self.failures = [], 0
        self.gaps = []
        self.stopping = False
        self.start()

    def run(self):
        number, last = 0, time.monotonic()
        while not self.stopping:
            try:
                self.client.set(f"python:{number}", number)
            except redis.exceptions.RedisError:
                self.failures += 1
                time.sleep(0.01)
                continue
            self.acknowledged.append(number)
            number += 1
            now = time.monotonic()
            if now - last > 0.3:
                self.gaps.append(now - last)
            last = now
            time.sleep(0.002)

    def count(self):
        return len(self.acknowledged)

    def stop(self):
        self.stopping = True
        self.join(60)
        self.client.close()
        return [f"python:{n}" for n in self.acknowledged]


class NodeClient:
    """The same through ioredis (tests/client/sentinel.js)."""

    def __init__(self, watchers):
        assert (CLIENTS / "node_modules/ioredis").is_dir(), "npm ci in tests/client has not been run"
        self.process = subprocess.Popen(["node", "sentinel.js", NAME] + [str(w.port) for w in watchers], cwd=CLIENTS,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        harness.running.add(self.process)
        self.written = 0
        self.gaps = []
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.process.stdout:
            said = json.loads(line)
            self.written = said["written"]
            self.gaps = [ms / 1000 for ms in said["gaps"]]

    def count(self):
        return self.written

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        harness.running.discard(self.process)
        return [f"node:{n}" for n in range(self.written)]


def write_figures(line):
    """What the test measured: for who asks by -s, or by a file in HF_FIGURES."""
    print(line)
    if os.environ.get("HF_FIGURES"):
        with open(os.environ["HF_FIGURES"], "a") as out:
            print(line, file=out)
