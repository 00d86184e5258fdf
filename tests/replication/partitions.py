#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Three nodes, and everything that can happen between them in random order: wires pulled out (of one node, of one
direction), slow wires, SIGSTOP, kill -9, restarts; in the midst of it one of the nodes, any, is promoted, as
Sentinel would. Writers and readers go on at whatever node takes them, cut off or not.

At the end it is compared: with `quorum` no acknowledged write may be missing and nothing that was read may be taken
back, no epoch may have had two primaries, and all nodes have the same data. --control runs the same with
`memory`, and fails unless the rig sees a loss.

Usage: partitions.py [--rounds N] [--seed N] [--control] [--keep-going]
"""
import argparse
import pathlib
import random
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import Error, Raw  # noqa: E402
from nodes import Cluster  # noqa: E402

WRITERS = 6
READERS = 2


class Client(threading.Thread):
    """Goes on at a random node whenever the one it is at does not answer or refuses."""

    def __init__(self, rig, number):
        super().__init__(daemon=True)
        self.rig = rig
        self.number = number
        self.rng = random.Random(rig.seed * 100 + number)
        self.raw = None
        self.failure = None

    def ask(self, *words):
        """The reply, or None: nobody knows."""
        try:
            if self.raw is None:
                node = self.rig.cluster.nodes[self.rng.choice(self.rig.cluster.names)]
                self.raw = Raw(node.socket_path)
                self.raw.socket.settimeout(3)
            answer = self.raw(*words) if isinstance(words[0], str) else self.raw.pipeline(words)[-1]
        except (OSError, EOFError):
            answer = None
        if answer is None or isinstance(answer, Error):
            if self.raw is not None:
                self.raw.close()
            self.raw = None
            time.sleep(0.005)
        return answer

    def run(self):
        try:
            while not self.rig.ending:
                self.step()
        except Exception as e:  # noqa: BLE001
            self.failure = e


class Writer(Client):
    """Appends numbers that only grow to a list of its own; none is sent twice."""

    def __init__(self, rig, number):
        super().__init__(rig, number)
        self.next = 0
        self.acknowledged = []

    def step(self):
        if isinstance(self.ask("RPUSH", f"w{self.number}", self.next), int):
            self.acknowledged.append(self.next)
        self.next += 1


class Reader(Client):
    """Reads what is at the ends of the lists."""

    def __init__(self, rig, number):
        super().__init__(rig, number)
        self.seen = [set() for _ in range(WRITERS)]
        self.count = 0

    def step(self):
        # Replicas may show what is taken back.
        role = self.ask("ROLE")
        if not isinstance(role, list) or role[0] != b"master":
            if self.raw is not None:
                self.raw.close()
            self.raw = None
            return
        for _ in range(20):
            i = self.rng.randrange(WRITERS)
            # A server that has become a replica since says so in the same breath.
            answer = self.ask(("MULTI",), ("LINDEX", f"w{i}", -1), ("ROLE",), ("EXEC",))
            if not isinstance(answer, list):
                return
            if answer[1][0] == b"master":
                self.count += 1
                if answer[0] is not None:
                    self.seen[i].add(int(answer[0]))


class Watcher(threading.Thread):
    """Which node was elected in which epoch."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self.rig = rig
        self.epochs = {}
        self.start()

    def run(self):
        while not self.rig.ending:
            for name in self.rig.cluster.names:
                found = self.rig.look(name)
                if found.get("role") == "master" and int(found.get("quorum_epoch", 0)) > 0:
                    self.epochs.setdefault(int(found["quorum_epoch"]), set()).add(name)
            time.sleep(0.02)


class Rig:
    def __init__(self, seed, quorum=True, plain=False, say=lambda *_: None):
        self.seed = seed
        self.rng = random.Random(seed)
        self.quorum = quorum
        self.say = say
        self.ending = False
        more = {} if quorum else {"durability": "memory", "quorum-nodes": "", "appendfsync": "everysec"}
        self.cluster = Cluster(plain=plain, **{"durability-timeout": "1000", "repl-timeout": "2", **more})
        self.primary = "a"
        self.faults = {}

    def look(self, name):
        try:
            raw = Raw(self.cluster.nodes[name].socket_path)
            raw.socket.settimeout(1)
            lines = raw("INFO", "replication")
            raw.close()
            return {} if isinstance(lines, Error) else dict(
                line.split(":", 1) for line in lines.decode().splitlines() if ":" in line)
        except (OSError, EOFError):
            return {}

    def say_to(self, name, *words):
        try:
            raw = Raw(self.cluster.nodes[name].socket_path)
            raw.socket.settimeout(2)
            raw(*words)
            raw.close()
        except (OSError, EOFError):
            pass

    def is_serving(self, name):
        found = self.look(name)
        return found.get("role") == "master" and (not self.quorum or found.get("quorum_state") == "elected")

    def promote(self, name):
        self.say_to(name, "REPLICAOF", "NO", "ONE")
        for other in self.cluster.names:
            if other != name:
                self.say_to(other, "REPLICAOF", "127.0.0.1", self.cluster.reach(other, name))
        self.primary = name

    def wait_serving(self, name, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.is_serving(name):
                return True
            time.sleep(0.02)
        return False

    # ---- faults; each is undone by what it returns ----

    def pull(self, name):
        self.cluster.isolate(name)
        return lambda: self.cluster.isolate(name, False)

    def pull_one_way(self, name):
        links = [link for (a, b), link in self.cluster.links.items() if a == name]
        for link in links:
            link.pulled = True
        return lambda: [setattr(link, "pulled", False) for link in links]

    def slow(self, name):
        links = [link for (a, b), link in self.cluster.links.items() if name in (a, b)]
        for link in links:
            link.delay = 0.05
        return lambda: [setattr(link, "delay", 0.0) for link in links]

    def cut(self, name):
        for (a, b), link in self.cluster.links.items():
            if name in (a, b):
                self.cluster.wires.cut(link)
        return lambda: None

    def pause(self, name):
        process = self.cluster.nodes[name].process
        process.send_signal(signal.SIGSTOP)
        return lambda: process.send_signal(signal.SIGCONT)

    def kill(self, name):
        self.cluster.nodes[name].kill()
        return lambda: self.come_back(name)

    def restart(self, name):
        self.cluster.nodes[name].terminate()
        return lambda: self.come_back(name)

    def come_back(self, name):
        self.cluster.nodes[name].start()
        if self.primary != name:
            self.say_to(name, "REPLICAOF", "127.0.0.1", self.cluster.reach(name, self.primary))

    def round(self):
        rng = self.rng
        fault = rng.choice((self.pull, self.pull, self.pull_one_way, self.slow, self.cut, self.pause, self.kill, self.kill,
                            self.restart))
        hurt = self.primary if rng.random() < 0.6 else rng.choice(self.cluster.names)
        time.sleep(rng.random() * 0.3)
        undo = fault(hurt)
        time.sleep(rng.random() * 0.6)
        others = [n for n in self.cluster.names if n != hurt]
        to = rng.choice(others) if hurt == self.primary or rng.random() < 0.3 else None
        self.say(f"{fault.__name__} {hurt}" + (f", promote {to}" if to else ""))
        if to:
            self.promote(to)
            if not self.wait_serving(to, 1 + rng.random()) and self.quorum:
                to = others[1 - others.index(to)]
                self.say(f"    promote {to}")
                self.promote(to)
                self.wait_serving(to, 2)
        time.sleep(rng.random() * 0.4)
        undo()
        # Whoever was not there when the others were told.
        for n in self.cluster.names:
            if n != self.primary:
                self.say_to(n, "REPLICAOF", "127.0.0.1", self.cluster.reach(n, self.primary))
        self.wait_serving(self.primary, 3)

    def settle(self):
        """All are there, one is elected, the others follow."""
        end = time.monotonic() + 90
        while time.monotonic() < end:
            for name in (self.primary, *self.cluster.names):
                self.promote(name)
                if self.wait_serving(name, 5):
                    break
            wanted = "acknowledging" if self.quorum else None
            while time.monotonic() < end and self.is_serving(self.primary):
                found = [self.look(n) for n in self.cluster.names if n != self.primary]
                if all(f.get("master_link_status") == "up" and (
                        wanted is None or f.get("quorum_state") == wanted) for f in found):
                    return
                time.sleep(0.05)
        raise AssertionError(f"they do not settle: { {n: self.look(n) for n in self.cluster.names} }")

    def run(self, rounds):
        with self.cluster:
            if self.quorum:
                self.cluster.wait_elected("a", 60)
                for n in "bc":
                    self.cluster.wait_acknowledging(n, 60)
            writers = [Writer(self, i) for i in range(WRITERS)]
            readers = [Reader(self, WRITERS + i) for i in range(READERS)]
            watcher = Watcher(self)
            for c in writers + readers:
                c.start()
            for i in range(rounds):
                self.round()
            self.ending = True
            for c in (*writers, *readers, watcher):
                c.join(30)
                assert not c.is_alive()
                assert getattr(c, "failure", None) is None, c.failure
            self.settle()
            return self.compare(writers, readers, watcher)

    def compare(self, writers, readers, watcher):
        raw = self.cluster.nodes[self.primary].raw()
        lost, wrong = [], []
        for w in writers:
            found = [int(v) for v in raw("LRANGE", f"w{w.number}", 0, -1)]
            final = set(found)
            if len(final) != len(found):
                wrong.append(f"w{w.number} has something twice")
            missing = [n for n in w.acknowledged if n not in final]
            taken_back = sorted(set().union(*(r.seen[w.number] for r in readers)) - final)
            if missing or taken_back:
                lost.append({"list": f"w{w.number}", "acknowledged": missing[:20], "read": taken_back[:20]})
        twice = {e: sorted(n) for e, n in watcher.epochs.items() if len(n) > 1}
        end = time.monotonic() + 30
        while True:
            digests = {n: self.digest(n) for n in self.cluster.names}
            if len(set(digests.values())) == 1 or time.monotonic() > end:
                break
            time.sleep(0.05)
        raw.close()
        return {"written": sum(len(w.acknowledged) for w in writers), "read": sum(r.count for r in readers), "lost": lost, "wrong": wrong,
                "epochs": len(watcher.epochs), "twice": twice,
                "differ": digests if len(set(digests.values())) > 1 else {}}

    def digest(self, name):
        raw = self.cluster.nodes[name].raw()
        found = raw("DEBUG", "DIGEST")
        raw.close()
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    print("seed", args.seed)
    say = (lambda *_: None) if args.quiet else (lambda *a: print(*a, flush=True))
    result = Rig(args.seed, quorum=not args.control, say=say).run(args.rounds)
    print(result)
    if args.control:
        return 0 if result["lost"] else 1
    return 1 if result["lost"] or result["wrong"] or result["twice"] or result["differ"] or not result["written"] else 0


if __name__ == "__main__":
    sys.exit(main())
