# SPDX-License-Identifier: BSD-3-Clause
"""Nothing that comes from a socket can do harm: requests that are cut, oversized or garbage are answered
as redis-server answers them, others are served meanwhile, and nothing is left behind."""
import os
import random
import socket
import struct
import time

import pytest

from harness import PATIENCE, Raw, Server

SUBJECT = os.environ.get("HF_SUBJECT", "holdfast")


def answer(server, *pieces):
    """All that the server says to these bytes, when nothing follows."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(server.socket_path)
        s.settimeout(PATIENCE)
        out = []
        try:
            for piece in pieces:
                s.sendall(piece)
            s.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed already: what it said before is still to be read
        try:
            while data := s.recv(1 << 16):
                out.append(data)
        except ConnectionResetError:
            pass
        return b"".join(out)


class State:
    """What a server has open and holds, to see that it has no more of it afterwards."""

    def __init__(self, server):
        self.server = server
        self.files = self.count_files()
        self.memory = self.used_memory()

    def count_files(self):
        return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

    def used_memory(self):
        raw = self.server.raw()
        info = raw("INFO", "memory").decode()
        raw.close()
        return int(info.split("used_memory:")[1].split()[0])

    def assert_back(self):
        """Connections that were closed are seen as closed, and what they held is freed, within a moment."""
        end = time.monotonic() + 60
        while True:
            files, memory = self.count_files(), self.used_memory()
            if files <= self.files + 1 and memory < self.memory + (1 << 20):
                return
            assert time.monotonic() < end, f"files {self.files} -> {files}, memory {self.memory} -> {memory}"
            time.sleep(0.05)


LENGTHS = [b"-1", b"0", b"-2147483648", b"2147483647", b"2147483648", b"1048576", b"1048577", b"536870912", b"536870913",
           b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"99999999999999999999", b"", b"abc",
           b"1.5", b"0x10", b" 3", b"3 ", b"+3", b"00003", b"3\x00", b"1e3", b"\xff\xff", b"-", b"1" * 100]


def systematic():
    """Requests that are wrong in one place, and right requests around them."""
    get = Raw.encode(["GET", "k"])
    for length in LENGTHS:
        yield b"*" + length + b"\r\n$3\r\nGET\r\n$1\r\nk\r\n" + get
        yield b"*2\r\n$" + length + b"\r\nGET\r\n$1\r\nk\r\n" + get
        yield b"*2\r\n$3\r\nGET\r\n$" + length + b"\r\nk\r\n" + get
        yield get + b"*1\r\n$" + length + b"\r\n"
    for end in (b"\r", b"\n", b"", b"\r\r\n", b"\n\r", b"xx"):
        yield b"*2" + end + b"$3\r\nGET\r\n$1\r\nk\r\n" + get
        yield b"*2\r\n$3" + end + b"GET\r\n$1\r\nk\r\n" + get
        yield b"*2\r\n$3\r\nGET" + end + b"$1\r\nk\r\n" + get
    for kind in b"+-:,#_(=%~>!|.&@\x00\x80\xff \t":
        yield b"*1\r\n%c4\r\nPING\r\n" % kind + get
        yield b"%c1\r\n$4\r\nPING\r\n" % kind + get
    yield b"*1\r\n" * 10000 + b"$4\r\nPING\r\n"  # arrays in arrays
    yield b"*2\r\n" + b"*1\r\n" * 100 + get
    yield b"*1024\r\n" + b"$1\r\na\r\n" * 1024 + get
    yield Raw.encode(["DEL"] + ["k"] * 60000) + get
    yield Raw.encode(["x" * 100000, "y"]) + get
    yield Raw.encode(["SET", "k" * 100000, "v"]) + Raw.encode(["EXISTS", "k" * 100000]) + Raw.encode(["DEL", "k" * 100000])
    yield b"GET " + b"k" * 65000 + b"\r\n" + get
    yield b"GET " + b"k" * 70000 + b"\r\n" + get
    yield b"SET k \"" + b"\\x41" * 1000 + b"\"\r\nGET k\r\nDEL k\r\n"
    yield b"GET \"unbalanced\r\n" + get
    yield b"\r\n" * 5000 + get
    yield b" " * 5000 + b"\r\n" + get
    yield b"PING\r\n" * 3000
    yield b"*0\r\n" * 3000 + get
    yield b"GET / HTTP/1.1\r\nUser-Agent: x\r\n\r\n"
    yield bytes(range(256)) * 10
    whole = Raw.encode(["SET", "key", "value"]) + get
    for cut in range(len(whole)):
        yield whole[:cut]


WORDS = [b"*", b"$", b"\r\n", b"\r", b"\n", b"1", b"2", b"3", b"-1", b"0", b"GET", b"SET", b"PING", b"MULTI", b"EXEC",
         b"k", b"\x00", b"\xff", b"'", b'"', b" ", b"x" * 300, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$", b"99999999999",
         b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"*1\r\n$4\r\nPING\r\n", b"SELECT 1\r\n", b"\\x", b"RESET\r\n"]


def mutated(rng):
    """A pipeline of right requests in which a few bytes are not."""
    requests = [Raw.encode(args) for args in (
        ["SET", "k", "v" * rng.choice((1, 20, 3000))], ["GET", "k"], ["PING"], ["MGET", "a", "k", "b"], ["MULTI"], ["EXEC"],
        ["RPUSH", "l", "1", "2"], ["LRANGE", "l", "0", "-1"], ["DEL", "l"], ["ECHO", "\r\n$3\r\n"], ["NOSUCH", "x", "y"])]
    data = bytearray(b"".join(rng.choice(requests) for _ in range(rng.randint(1, 8))))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        how = rng.randrange(6)
        if how == 0:
            data[at] = rng.randrange(256)
        elif how == 1:
            del data[at:at + rng.randint(1, 4)]
        elif how == 2:
            data[at:at] = rng.choice(WORDS)
        elif how == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif how == 4:
            data[at] ^= 1 << rng.randrange(8)
        else:
            del data[at + 1:]
        if not data:
            return b""
    return bytes(data)


def garbage(rng):
    return b"".join(rng.choice(WORDS) for _ in range(rng.randint(1, 40)))


def pieces(rng, data):
    """The bytes as they might arrive: at once, or in a few pieces."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
    return [data[a:b] for a, b in zip([0] + cuts, cuts + [len(data)]) if a < b]


@pytest.fixture(scope="module")
def pair():
    with Server(SUBJECT) as ours, Server("redis") as theirs:
        yield ours, theirs


@pytest.fixture(scope="module")
def missing(pair):
    """What redis-server knows and Holdfast does not: a random word may be the name of such a command."""
    ours, theirs = (set(server.raw()("COMMAND", "LIST")) for server in pair)
    return [name.lower() for name in theirs - ours]


def names_missing(missing, answer):
    return any(b"-err unknown command '" + name + b"'" in answer.lower() for name in missing)


def same(pair, data, parts=None, missing=()):
    ours, theirs = (answer(server, *(parts or [data])) for server in pair)
    if names_missing(missing, ours):
        return
    assert ours == theirs, f"{data[:300]!r}\n  redis: {theirs[:600]!r}\n  {SUBJECT}: {ours[:600]!r}"


# Every malformed request has redis-server's answer, to the byte, and closes the connection where it does.
def test_systematically_wrong(pair):
    for data in systematic():
        for server in pair:
            answer(server, b"FLUSHALL\r\n")
        same(pair, data)


# Random damage to right requests, and words of the protocol in random order: the same answers, and the
# same data afterwards.
def test_random_damage(pair, rng, missing):
    state = State(pair[0])
    steady = pair[0].raw()
    seconds = float(os.environ.get("HF_BAD_INPUT_SECONDS", 0))
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end if seconds else number < 1500:
        data = mutated(rng) if rng.random() < 0.7 else garbage(rng)
        same(pair, data, pieces(rng, data), missing)
        number += 1
        if number % 50 == 0:
            assert steady("PING") == "PONG"
            same(pair, Raw.encode(["DEBUG", "DIGEST"]) + Raw.encode(["FLUSHALL"]))
    assert number > 50
    steady.close()
    state.assert_back()


# Clients that go away in the middle of a request, before their replies, or with a reset.
def test_disconnects(server):
    steady = server.raw()
    state = None
    steady("SET", "big", b"x" * (1 << 20))
    held = []
    starts = [b"*", b"*3\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\nhalf of it", b"PIN", b"*2\r\n$3\r\nGET\r\n$5\r\nab",
              b"*1048576\r\n$1\r\na\r\n", b"*2\r\n$4\r\nECHO\r\n$536870912\r\n" + b"x" * 100000,
              b"MULTI\r\nSET k v\r\n", b"WATCH a b c\r\nMULTI\r\nGET a\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$70000\r\n" + b"y" * 69999]
    for round_number in range(40):
        if round_number == 4:
            # What is kept for reuse is there by now.
            for s in held:
                s.close()
            held.clear()
            time.sleep(0.2)
            state = State(server)
        for start in starts:
            s = socket.create_connection(("127.0.0.1", server.port))
            s.sendall(start)
            if round_number % 3 == 0:
                # Reset instead of closed in order.
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if round_number % 3 == 2 and len(held) < 200:
                held.append(s)
            else:
                s.close()
        # Asks for far more than the socket holds, and does not wait for it.
        s = socket.create_connection(("127.0.0.1", server.port))
        s.sendall(Raw.encode(["GET", "big"]) * 20)
        if round_number % 2:
            s.recv(100)
        s.close()
        assert steady("SET", "k", round_number) == "OK"
    for s in held:
        s.close()
    steady("DEL", "big", "k")
    steady.close()
    state.assert_back()


# A million of empty requests and a hundred thousand wrong ones in one pipeline cost neither memory nor
# other clients' patience.
def test_floods(server):
    state = State(server)
    steady = server.raw()
    flood = server.raw()
    flood.send(b"\r\n" * 300000 + b"*0\r\n" * 300000)
    assert flood("PING") == "PONG"
    for _ in range(20):
        replies = flood.pipeline([["NOSUCH", "x" * 100]] * 1000)
        assert all(str(r).startswith("ERR unknown command") for r in replies)
        started = time.monotonic()
        assert steady("PING") == "PONG"
        assert time.monotonic() - started < 30
    flood.close()
    steady.close()
    state.assert_back()


# Bytes one at a time, from many connections at once.
def test_drop_by_drop(server):
    connections = [server.raw() for _ in range(30)]
    requests = [Raw.encode(["ECHO", f"{i}" * 10]) for i in range(len(connections))]
    for at in range(max(map(len, requests))):
        for raw, request in zip(connections, requests):
            if at < len(request):
                raw.send(request[at:at + 1])
    for i, raw in enumerate(connections):
        assert raw.read() == f"{i}".encode() * 10
        raw.close()


# Arguments that are wrong in every command: the server lives, and the data is what redis-server would have.
def test_every_command_with_odd_arguments(server):
    rng = random.Random(1)
    raw = server.raw()
    names = sorted(n.decode() for n in raw("COMMAND", "LIST"))
    names = [row[0] for row in raw("COMMAND", "INFO", *names)
             if not {"admin", "blocking", "pubsub"} & set(row[2]) and row[0] not in (b"quit", b"reset", b"client", b"monitor", b"wait")]
    assert len(names) > 100
    odd = [b"", b"0", b"-1", b"k", b"9223372036854775807", b"nan", b"*", b"\x00", b"x" * 1000, b"LIMIT", b"COUNT", b"1"]
    for name in names:
        for count in (0, 1, 2, 3, 4, 5, 8, 100):
            raw.pipeline([[name] + [rng.choice(odd) for _ in range(count)] for _ in range(3)])
            raw.pipeline([["DISCARD"], ["HELLO", "2"]])
    assert raw("PING") == "PONG"
