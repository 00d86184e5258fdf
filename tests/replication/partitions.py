#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Three nodes, and everything that can happen between them in random order: wires pulled out (of one node, of two
nodes, of one direction, for moments), slow wires, connections that break, SIGSTOP, kill -9 (of all, too), restarts;
in the midst of it one of the nodes, any, is promoted, as Sentinel would. Writers and readers go on at whatever node
takes them, cut off or not. The nodes are in network namespaces where this process may make them (namespaces.py), else
on loopback ports with proxies between them (nodes.py).

At the end it is compared: with `quorum` no acknowledged write may be missing and nothing that was read may be taken
back, no epoch may have had two primaries, acknowledging or not, and all nodes have the same data. --control runs
the same with `memory`, and fails unless the rig sees a loss; there, too, nothing may be there twice, and all nodes have
the same data. --local: losses.py.

Usage: partitions.py [--rounds N] [--seed N] [--control | --local] [--proxies] [--quiet]
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
from harness import PATIENCE, Error, Raw  # noqa: E402
from namespaces import Namespaces, permitted  # noqa: E402
from net import wait_for  # noqa: E402
from nodes import Cluster, Wires  # noqa: E402

WRITERS = 6
READERS = 2


def fields(info):
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)


class Client(threading.Thread):
    """Goes on at a random node whenever the one it is at does not answer or refuses."""

    def __init__(self, rig, number):
        super().__init__(daemon=True)
        self.rig = rig
        self.number = number
        self.rng = random.Random(rig.seed * 100 + number)
        self.raw = None
        self.failure = None
        self.at_work = False

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
                self.at_work = True
                if self.rig.quiet:
                    self.at_work = False
                    time.sleep(0.002)
                else:
                    self.step()
            self.at_work = False
        except Exception as e:  # noqa: BLE001
            self.failure = e


class Writer(Client):
    """Appends numbers that only grow to a list of its own; none is sent twice. Every other writer has each
    acknowledgement signed: by which node, in which epoch."""

    def __init__(self, rig, number):
        super().__init__(rig, number)
        self.next = 0
        self.acknowledged = []
        self.signed = {}  # epoch: the nodes that acknowledged in it

    def step(self):
        number, self.next = self.next, self.next + 1
        write = ("RPUSH", f"w{self.number}", number)
        if self.number % 2 == 0 or not self.rig.quorum:
            if isinstance(self.ask(*write), int):
                self.acknowledged.append(number)
            return
        answer = self.ask(("MULTI",), write, ("INFO", "replication"), ("EXEC",))
        if isinstance(answer, list) and isinstance(answer[0], int):
            self.acknowledged.append(number)
            found = fields(answer[1])
            self.signed.setdefault(int(found["quorum_epoch"]), set()).add(found["quorum_node"])


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
    OPTIONS = {"durability-timeout": "1000", "repl-timeout": "2"}
    WITHOUT = {"durability": "memory", "quorum-nodes": "", "quorum-node": "", "appendfsync": "everysec"}

    def __init__(self, seed, quorum=True, plain=False, say=lambda *_: None, proxies=False):
        self.seed = seed
        self.rng = random.Random(seed)
        self.quorum = quorum
        self.say = say
        self.ending = False
        self.quiet = False  # nobody writes or reads
        network = Wires if proxies or not permitted() else Namespaces
        self.cluster = Cluster(network=network, plain=plain, **{**self.OPTIONS, **({} if quorum else self.WITHOUT)})
        self.network = self.cluster.network
        self.clients = []
        say(self.network.kind)
        self.primary = "a"
        self.faults = {}

    def look(self, name):
        try:
            raw = Raw(self.cluster.nodes[name].socket_path)
            raw.socket.settimeout(1)
            lines = raw("INFO", "replication")
            raw.close()
            return {} if isinstance(lines, Error) else fields(lines)
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

    def follow(self, name, primary):
        self.say_to(name, "REPLICAOF", *self.network.reach(name, primary))

    def promote(self, name):
        self.say_to(name, "REPLICAOF", "NO", "ONE")
        for other in self.cluster.names:
            if other != name:
                self.follow(other, name)
        self.primary = name

    def wait_serving(self, name, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.is_serving(name):
                return True
            time.sleep(0.02)
        return False

    # ---- faults; each is undone by what it returns ----

    def pulled(self, pairs):
        self.network.pull(pairs)
        return lambda: self.network.pull(pairs, False)

    def pull(self, name):
        """It is alone."""
        return self.pulled(self.cluster.pairs(name))

    def pull_one_way(self, name):
        """It is not heard any more."""
        return self.pulled([(a, b) for a, b in self.cluster.pairs(name) if a == name])

    def pull_two(self, name):
        """It and one other do not reach each other; the third reaches both."""
        other = self.rng.choice([n for n in self.cluster.names if n != name])
        return self.pulled([(name, other), (other, name)])

    def flap(self, name):
        """It is alone, again and again."""
        pairs = self.cluster.pairs(name)
        for _ in range(4):
            self.network.pull(pairs)
            time.sleep(self.rng.random() * 0.1)
            self.network.pull(pairs, False)
            time.sleep(self.rng.random() * 0.1)
        return lambda: None

    def slow(self, name):
        pairs = self.cluster.pairs(name)
        self.network.slow(pairs)
        return lambda: self.network.slow(pairs, False)

    def cut(self, name):
        self.network.break_connections(self.cluster.pairs(name))
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

    def kill_all(self, name):
        for n in self.cluster.names:
            self.cluster.nodes[n].kill()
        for n in self.cluster.names:
            self.cluster.nodes[n].start(wait=False)
        for n in self.cluster.names:
            self.cluster.nodes[n].wait_ready()
        return lambda: None

    def come_back(self, name):
        self.cluster.nodes[name].start()
        if self.primary != name:
            self.follow(name, self.primary)

    def round(self):
        rng = self.rng
        fault = rng.choice((self.pull, self.pull, self.pull_one_way, self.pull_two, self.flap, self.slow, self.cut,
                            self.pause, self.kill, self.kill, self.restart, self.kill_all))
        hurt = self.primary if rng.random() < 0.6 else rng.choice(self.cluster.names)
        time.sleep(rng.random() * 0.3)
        undo = fault(hurt)
        also = ()
        if rng.random() < 0.25 and fault != self.kill_all:
            # Two things at once: whoever is hurt, the others have troubles of their own.
            also = rng.choice((self.slow, self.cut, self.pull_two, self.pause)), rng.choice(self.cluster.names)
            if also[0] == self.slow and fault == self.slow or also[1] == hurt:
                also = ()
        undo_also = also[0](also[1]) if also else lambda: None
        time.sleep(rng.random() * 0.6)
        others = [n for n in self.cluster.names if n != hurt]
        to = rng.choice(others) if hurt == self.primary or rng.random() < 0.3 else None
        self.say(f"{fault.__name__} {hurt}" + (f", {also[0].__name__} {also[1]}" if also else "") +
                 (f", promote {to}" if to else ""))
        if to:
            self.promote(to)
            if not self.wait_serving(to, 1 + rng.random()) and self.quorum:
                to = others[1 - others.index(to)]
                self.say(f"    promote {to}")
                self.promote(to)
                self.wait_serving(to, 2)
        time.sleep(rng.random() * 0.4)
        for u in (undo, undo_also) if rng.random() < 0.5 else (undo_also, undo):
            u()
        self.all_follow()
        self.wait_serving(self.primary, 3)

    def all_follow(self):
        """Whoever was not there when the others were told is told now."""
        for n in self.cluster.names:
            if n != self.primary:
                self.follow(n, self.primary)

    def acknowledged(self):
        return sum(len(w.acknowledged) for w in self.writers)

    def silence(self):
        """Waits until what clients have asked for is answered, and lets them ask for nothing more."""
        self.quiet = True
        end = time.monotonic() + PATIENCE
        while any(c.at_work for c in self.clients):
            assert time.monotonic() < end, "a client does not come back"
            time.sleep(0.001)

    def settle(self):
        """All are there, one is elected, the others follow."""
        end = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < end:
            for name in (self.primary, *self.cluster.names):
                self.promote(name)
                if self.wait_serving(name, 15):
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
                self.cluster.wait_elected("a")
                for n in "bc":
                    self.cluster.wait_acknowledging(n)
            else:
                for n in "bc":
                    wait_for(lambda: self.look(n).get("master_link_status") == "up", f"{n} follows")
            self.writers = writers = [Writer(self, i) for i in range(WRITERS)]
            readers = [Reader(self, WRITERS + i) for i in range(READERS)]
            watcher = Watcher(self)
            self.clients = writers + readers
            for c in self.clients:
                c.start()
            for i in range(rounds):
                self.round()
            self.ending = True
            for c in (*writers, *readers, watcher):
                c.join(PATIENCE)
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
        signed = set()
        for w in writers:
            for epoch, nodes in w.signed.items():
                signed.add(epoch)
                watcher.epochs.setdefault(epoch, set()).update(nodes)
        twice = {e: sorted(n) for e, n in watcher.epochs.items() if len(n) > 1}
        end = time.monotonic() + PATIENCE
        while True:
            digests = {n: self.digest(n) for n in self.cluster.names}
            if len(set(digests.values())) == 1 or time.monotonic() > end:
                break
            time.sleep(0.05)
        raw.close()
        return {"written": sum(len(w.acknowledged) for w in writers), "read": sum(r.count for r in readers), "lost": lost, "wrong": wrong,
                "epochs": len(watcher.epochs), "epochs with acknowledged writes": len(signed), "twice": twice,
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
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--proxies", action="store_true", help="loopback ports, also where namespaces are permitted")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    print("seed", args.seed)
    say = (lambda *_: None) if args.quiet else (lambda *a: print(*a, flush=True))
    if args.local:
        from losses import Losses
        result = Losses(args.seed, say=say, proxies=args.proxies).run(args.rounds)
        print(result)
        return 1 if result["wrong"] or not result["lost writes"] else 0
    result = Rig(args.seed, quorum=not args.control, say=say, proxies=args.proxies).run(args.rounds)
    print(result)
    if args.control:
        return 0 if result["lost"] and not result["wrong"] and not result["differ"] else 1
    return 1 if result["lost"] or result["wrong"] or result["twice"] or result["differ"] or not result["written"] else 0


if __name__ == "__main__":
    sys.exit(main())
