# SPDX-License-Identifier: BSD-3-Clause
"""Clients that carry out a History against a server, and a copy of the data that a server has."""
import random
import selectors
import socket
import time

from history import OTHER_DB, SHARED, History  # noqa: F401


def encode(args):
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        arg = str(arg).encode("latin-1")
        parts.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(parts)


class Failed(Exception):
    """An error reply."""


class Replies:
    """RESP2 replies out of bytes that come in pieces."""

    def __init__(self):
        self.buffer = bytearray()

    def feed(self, data):
        self.buffer += data

    def take(self):
        """The next reply in a tuple, or None when it is not whole."""
        try:
            reply, end = self.parse(0)
        except IndexError:
            return None
        del self.buffer[:end]
        return (reply,)

    def parse(self, at):
        end = self.buffer.find(b"\r\n", at)
        if end < 0:
            raise IndexError
        kind, rest = self.buffer[at:at + 1], self.buffer[at + 1:end]
        end += 2
        if kind == b"+":
            return rest.decode(), end
        if kind == b"-":
            return Failed(rest.decode("latin-1")), end
        if kind == b":":
            return int(rest), end
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None, end
            if len(self.buffer) < end + size + 2:
                raise IndexError
            return self.buffer[end:end + size].decode("latin-1"), end + size + 2
        if kind == b"*":
            if int(rest) < 0:
                return None, end
            items = []
            for _ in range(int(rest)):
                item, end = self.parse(end)
                items.append(item)
            return items, end
        raise ValueError(f"not a reply: {bytes(self.buffer[at:at + 80])!r}")


class Connection:
    """One that waits for its replies."""

    def __init__(self, path, timeout=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.replies = Replies()

    def close(self):
        self.socket.close()

    def read(self):
        while True:
            reply = self.replies.take()
            if reply is not None:
                return reply[0]
            data = self.socket.recv(1 << 18)
            if not data:
                raise EOFError
            self.replies.feed(data)

    def __call__(self, *args):
        self.socket.sendall(encode(args))
        return self.read()

    def pipeline(self, commands):
        self.socket.sendall(b"".join(map(encode, commands)))
        return [self.read() for _ in commands]


def wait_ready(path, alive, seconds=120):
    """Wait until the server answers; `alive` says whether it still runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not alive():
            raise RuntimeError("the server has ended")
        try:
            connection = Connection(path)
            reply = connection("PING")
            if reply == "PONG":
                return connection
            if not str(reply).startswith("LOADING"):
                raise RuntimeError(f"PING: {reply}")
            connection.close()
        except (OSError, EOFError):
            pass
        time.sleep(0.005)
    raise RuntimeError("the server does not come up")


def info(connection):
    text = connection("INFO", "persistence")
    if isinstance(text, Failed):
        raise text
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def dump(connection):
    """All data, in the form that history.fits compares."""
    data = {}
    for db in (0, OTHER_DB):
        assert connection("SELECT", db) == "OK"
        cursor = "0"
        keys = set()
        while True:
            cursor, found = connection("SCAN", cursor, "COUNT", 1000)
            keys.update(found)
            if cursor == "0":
                break
        keys = sorted(keys)
        types = connection.pipeline([("TYPE", key) for key in keys])
        reads = {"string": ("GET",), "list": ("LRANGE", 0, -1), "hash": ("HGETALL",), "set": ("SMEMBERS",),
                 "zset": ("ZRANGE", 0, -1, "WITHSCORES")}
        values = connection.pipeline([(reads.get(kind, ("GET",))[0], key) + reads.get(kind, ("GET",))[1:]
                                      for key, kind in zip(keys, types)])
        times = connection.pipeline([("PEXPIRETIME", key) for key in keys])
        for key, kind, value, at in zip(keys, types, values, times):
            if kind == "none" or value is None:
                continue    # it expired meanwhile
            if kind == "hash":
                value = dict(zip(value[::2], value[1::2]))
            elif kind == "zset":
                value = ("z", {m: int(s) for m, s in zip(value[::2], value[1::2])})
            elif kind == "set":
                value = set(value)
            data[key] = ("expires", value, at) if at >= 0 else value
    assert connection("SELECT", 0) == "OK"
    return data


class Load:
    """Runs the clients of a history in this thread. `depth` operations of a client are under way at
    most."""

    def __init__(self, history, path, seed, depth=6, on_sent=None, on_acked=None):
        self.history = history
        self.rng = random.Random(seed)
        self.depth = depth
        self.on_sent = on_sent
        self.on_acked = on_acked
        self.selector = selectors.DefaultSelector()
        self.refused = None
        self.alive = 0
        self.acknowledged = 0
        for client in history.clients:
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            flow = Flow(client, s)
            self.selector.register(s, selectors.EVENT_READ, flow)
            self.alive += 1
            # What the client does goes to its own database from the first request on.
            flow.skip = 1
            flow.out += encode(("SELECT", 0 if client.generator.shares else OTHER_DB))
            self.more(flow)

    def more(self, flow):
        """Send the next operations once there is nothing under way."""
        client = flow.client
        for _ in range(self.rng.randrange(1, self.depth + 1)):
            op, more = client.next()
            op.sent_ms = int(time.time() * 1000)
            flow.waiting.append(op)
            flow.out += b"".join(map(encode, op.requests()))
            if not more:
                break
        if self.on_sent:
            self.on_sent(client.number, len(client.ops), int(time.time() * 1000))
        self.flush(flow)

    def flush(self, flow):
        try:
            flow.socket.setblocking(False)
            while flow.out:
                del flow.out[:flow.socket.send(flow.out)]
        except BlockingIOError:
            pass
        except OSError:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if flow.out else 0)
        self.selector.modify(flow.socket, events, flow)

    def end(self, flow):
        self.selector.unregister(flow.socket)
        flow.socket.close()
        self.alive -= 1

    def turn(self, timeout):
        """Wait for something to happen, and answer it. False when the server is gone."""
        for key, events in self.selector.select(timeout):
            flow = key.data
            if events & selectors.EVENT_WRITE:
                self.flush(flow)
            if not events & selectors.EVENT_READ:
                continue
            try:
                data = flow.socket.recv(1 << 18)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self.end(flow)
                continue
            flow.replies.feed(data)
            self.answer(flow)
        return self.alive > 0

    def answer(self, flow):
        now = int(time.time() * 1000)
        while True:
            reply = flow.replies.take()
            if reply is None:
                break
            reply = reply[0]
            if flow.skip > 0:
                flow.skip -= 1
                continue
            if isinstance(reply, Failed):
                self.refused = self.refused or f"{flow.waiting[0].kind if flow.waiting else '?'}: {reply}"
                raise reply
            flow.gathered += 1
            if flow.gathered < flow.waiting[0].replies():
                continue
            flow.gathered = 0
            op = flow.waiting.pop(0)
            self.acknowledged += 1
            self.history.acknowledge(flow.client.number, reply, now)
            if self.on_acked:
                self.on_acked(flow.client.number, reply, now)
            assert op.acked_ms is not None
        if not flow.waiting:
            self.more(flow)

    def close(self):
        """What has arrived before the end of the server was acknowledged, too."""
        while self.alive and self.turn(1):
            pass
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


class Flow:
    """A connection of the load."""

    def __init__(self, client, s):
        self.client = client
        self.socket = s
        self.replies = Replies()
        self.out = bytearray()
        self.waiting = []
        self.gathered = 0
        self.skip = 0
