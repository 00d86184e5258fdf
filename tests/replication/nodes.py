# SPDX-License-Identifier: BSD-3-Clause
"""Several nodes of one quorum on this machine, and the wires between them: each node reaches each other one
through a wire of its own, which can be pulled out (nothing arrives any more, and nobody is told) or slow."""
import selectors
import signal
import socket
import threading
import time

from harness import Error, Server, free_port
from net import QUICK, wait_for

PIECE = 65536


class Wire:
    """From one node to another one's port."""

    def __init__(self, to):
        self.to = to
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.pulled = False
        self.delay = 0.0


class Pipe:
    """One direction of one connection."""

    def __init__(self, wire, source, sink):
        self.wire, self.source, self.sink = wire, source, sink
        self.waiting = []  # (when, bytes)
        self.other = None


class Wires(threading.Thread):
    """All wires, served by one thread."""

    def __init__(self):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        self.lock = threading.Lock()
        self.pipes = {}
        self.wires = []
        self.ended = False

    def add(self, to):
        wire = Wire(to)
        with self.lock:
            self.wires.append(wire)
            self.selector.register(wire.listener, selectors.EVENT_READ, wire)
        return wire

    def cut(self, wire):
        """Its connections break."""
        with self.lock:
            for pipe in [p for p in self.pipes.values() if p.wire is wire]:
                self.drop(pipe)

    def drop(self, pipe):
        for p in (pipe, pipe.other):
            if self.pipes.pop(p.source, None) is not None:
                try:
                    self.selector.unregister(p.source)
                except KeyError:
                    pass
                p.source.close()

    def connect(self, wire):
        try:
            ours, _ = wire.listener.accept()
        except OSError:
            return
        try:
            theirs = socket.create_connection(("127.0.0.1", wire.to), timeout=1)
        except OSError:
            ours.close()
            return
        for s in (ours, theirs):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there, back = Pipe(wire, ours, theirs), Pipe(wire, theirs, ours)
        there.other, back.other = back, there
        for pipe in (there, back):
            self.pipes[pipe.source] = pipe
            self.selector.register(pipe.source, selectors.EVENT_READ, pipe)

    def read(self, pipe):
        if pipe.wire.pulled or sum(len(data) for _, data in pipe.waiting) > 16 * PIECE:
            # What is sent stays with the sender's system, as on a real wire that is out.
            self.selector.unregister(pipe.source)
            return
        try:
            data = pipe.source.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(pipe)
            return
        pipe.waiting.append((time.monotonic() + pipe.wire.delay, data))
        self.send(pipe)

    def send(self, pipe):
        now = time.monotonic()
        while pipe.waiting and pipe.waiting[0][0] <= now and not pipe.wire.pulled:
            when, data = pipe.waiting[0]
            try:
                n = pipe.sink.send(data)
            except BlockingIOError:
                return
            except OSError:
                self.drop(pipe)
                return
            if n == len(data):
                pipe.waiting.pop(0)
            else:
                pipe.waiting[0] = (when, data[n:])

    def run(self):
        while not self.ended:
            busy = False
            with self.lock:
                for pipe in list(self.pipes.values()):
                    if pipe.waiting:
                        self.send(pipe)
                    busy |= bool(pipe.waiting)
                    if (pipe.source in self.pipes and not pipe.wire.pulled
                            and pipe.source not in self.selector.get_map()):
                        self.selector.register(pipe.source, selectors.EVENT_READ, pipe)
                events = self.selector.select(0)
                for key, _ in events:
                    if isinstance(key.data, Wire):
                        if not key.data.pulled:
                            self.connect(key.data)
                    elif key.data.source in self.pipes:
                        self.read(key.data)
            if not events:
                # Whoever wants the lock gets it.
                time.sleep(0.0005 if busy else 0.001)

    def close(self):
        self.ended = True
        self.join()
        for wire in self.wires:
            wire.listener.close()
        for pipe in list(self.pipes.values()):
            pipe.source.close()


class Node(Server):
    """A server with a port that stays."""

    def __init__(self, name, port, options, plain=False):
        self.name = name
        self.fixed_port = port
        super().__init__("holdfast", {**options, "port": port}, plain=plain)

    def start(self, wait=True):
        super().start(wait)
        self.port = self.fixed_port


class Cluster:
    """Nodes a, b, c: a is the primary at first. Each has the others' addresses as its wires' ends."""

    def __init__(self, count=3, wires=True, plain=False, **options):
        names = "abcdefghi"[:count]
        self.names = names
        self.wires = Wires()
        ports = {n: free_port() for n in names}
        self.links = {(x, y): self.wires.add(ports[y]) if wires else None
                      for x in names for y in names if x != y}
        self.wires.start()
        self.nodes = {}
        self.ports = ports
        for n in names:
            listed = [f"{m}=127.0.0.1:{self.reach(n, m)}" for m in names]
            self.nodes[n] = Node(n, ports[n], {
                **QUICK, "appendonly": "yes", "appendfsync": "always", "durability": "quorum",
                "quorum-node": n, "quorum-nodes": listed, "durability-timeout": "4000",
                "repl-timeout": "10", **options}, plain=plain)
        for n in names[1:]:
            self.follow(n, names[0])

    def reach(self, x, y):
        link = self.links.get((x, y))
        return link.port if link is not None else self.ports[y]

    def follow(self, x, y):
        raw = self.nodes[x].raw()
        answer = raw("REPLICAOF", "127.0.0.1", self.reach(x, y))
        raw.close()
        return answer

    def promote(self, x):
        raw = self.nodes[x].raw()
        raw("REPLICAOF", "NO", "ONE")
        raw.close()

    def info(self, x, section="replication"):
        raw = self.nodes[x].raw()
        lines = raw("INFO", section)
        raw.close()
        if isinstance(lines, Error):  # it is loading
            return {"error": str(lines)}
        return dict(line.split(":", 1) for line in lines.decode().splitlines() if ":" in line)

    def isolate(self, x, pulled=True):
        for (a, b), link in self.links.items():
            if x in (a, b):
                link.pulled = pulled

    def wait_elected(self, x, seconds=30):
        return wait_for(lambda: self.info(x).get("quorum_state") == "elected", f"{x} is elected", seconds)

    def wait_acknowledging(self, x, seconds=30):
        return wait_for(lambda: self.info(x).get("quorum_state") == "acknowledging", f"{x} follows", seconds)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        try:
            for node in self.nodes.values():
                if node.process.poll() is None:
                    node.process.send_signal(signal.SIGCONT)
            for node in self.nodes.values():
                node.__exit__(kind, value, traceback)
        finally:
            self.wires.close()
