# SPDX-License-Identifier: BSD-3-Clause
"""Several nodes of one quorum on this machine, and the wires between them: each node reaches each other one
through a wire of its own, which can be pulled out (nothing arrives any more, and nobody is told) or slow. The wires
are proxies on loopback ports here; namespaces.py has real ones."""
import concurrent.futures
import selectors
import signal
import socket
import threading
import time

from harness import PATIENCE, Error, Server, free_port
from net import QUICK, wait_for

PIECE = 65536


class Direct:
    """No wires: all nodes are on loopback ports, and each reaches each. What a network is to a cluster."""

    kind = "direct"

    def __init__(self, names):
        self.ports = {n: free_port() for n in names}

    def options(self, x):
        """Directives of node x, which say where it listens."""
        return {"port": self.ports[x]}

    def prefix(self, x):
        """What its program is started by."""
        return ()

    def reach(self, x, y):
        """Where x finds y."""
        return "127.0.0.1", self.ports[y]

    def close(self):
        pass


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

    kind = "proxies"
    DELAY = 0.05  # of a slow one

    def __init__(self, names):
        super().__init__(daemon=True)
        self.direct = Direct(names)
        self.selector = selectors.DefaultSelector()
        self.lock = threading.Lock()
        self.pipes = {}
        self.wires = []
        self.ended = False
        self.done = False  # something was
        self.links = {(x, y): self.add(self.direct.ports[y]) for x in names for y in names if x != y}
        self.start()

    def options(self, x):
        return self.direct.options(x)

    def prefix(self, x):
        return ()

    def reach(self, x, y):
        return ("127.0.0.1", self.links[x, y].port) if x != y else self.direct.reach(x, y)

    def pull(self, pairs, pulled=True):
        """What x sends to y does not arrive, for each pair (x, y), nor what y answers on the same connection."""
        for pair in pairs:
            self.links[pair].pulled = pulled

    def slow(self, pairs, slow=True):
        for pair in pairs:
            self.links[pair].delay = self.DELAY if slow else 0.0

    def break_connections(self, pairs):
        for pair in pairs:
            self.cut(self.links[pair])

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
        self.done = True
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
        self.done = True
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
            busy = self.done = False
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
            if not self.done:
                # Whoever wants the lock gets it. A connection that waits at a wire that is out is no reason to hurry.
                time.sleep(0.0005 if busy else 0.001)

    def close(self):
        self.ended = True
        self.join()
        for wire in self.wires:
            wire.listener.close()
        for pipe in list(self.pipes.values()):
            pipe.source.close()


class Node(Server):
    """A server with an address that stays."""

    def __init__(self, name, network, options, **more):
        self.name = name
        self.where = network.options(name)
        super().__init__("holdfast", {**options, **self.where}, prefix=network.prefix(name), **more)

    def start(self, wait=True):
        super().start(wait)
        self.port = self.where["port"]


class Cluster:
    """Nodes a, b, c: a is the primary at first. Each has the others' addresses as its wires' ends. The network is
    one of the classes above, or namespaces.Namespaces."""

    def __init__(self, count=3, network=Wires, plain=False, **options):
        names = "abcdefghi"[:count]
        self.names = names
        self.network = network(names)
        self.nodes = {}
        # The replicas first: who is to be the primary is elected as soon as it asks.
        for n in names[::-1]:
            listed = [f"{m}={host}:{port}" for m in names for host, port in [self.network.reach(n, m)]]
            own = {"replicaof": [str(word) for word in self.network.reach(n, names[0])]} if n != names[0] else {}
            if not own:
                for node in self.nodes.values():
                    node.wait_ready()
            self.nodes[n] = Node(n, self.network, {
                **QUICK, "appendonly": "yes", "appendfsync": "always", "durability": "quorum",
                "quorum-node": n, "quorum-nodes": listed, "durability-timeout": "60000",
                "repl-timeout": "10", **options, **own}, plain=plain, wait=not own)
            # When it is started again it has been told nothing.
            self.nodes[n].options.pop("replicaof", None)

    def pairs(self, *nodes):
        """All pairs (from, to) that one of these is in."""
        return [(x, y) for x in self.names for y in self.names if x != y and (x in nodes or y in nodes)]

    def follow(self, x, y):
        raw = self.nodes[x].raw()
        answer = raw("REPLICAOF", *self.network.reach(x, y))
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
        self.network.pull(self.pairs(x), pulled)

    def wait_elected(self, x, seconds=PATIENCE):
        return wait_for(lambda: self.info(x).get("quorum_state") == "elected", f"{x} is elected", seconds)

    def wait_acknowledging(self, x, seconds=PATIENCE):
        return wait_for(lambda: self.info(x).get("quorum_state") == "acknowledging", f"{x} follows", seconds)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        try:
            for node in self.nodes.values():
                if node.process.poll() is None:
                    node.process.send_signal(signal.SIGCONT)
            with concurrent.futures.ThreadPoolExecutor() as pool:
                list(pool.map(lambda node: node.__exit__(kind, value, traceback), self.nodes.values()))
        finally:
            self.network.close()
