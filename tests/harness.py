# SPDX-License-Identifier: BSD-3-Clause
"""Servers for tests: holdfast-server and Debian's redis-server, started on a Unix socket and a free
loopback port in a directory of their own, and ended again; and a client that shows replies exactly
as they came."""
import atexit
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import redis

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / os.environ.get("HOLDFAST_BUILD", "build")
PLAIN_BUILD = ROOT / os.environ.get("HOLDFAST_PLAIN_BUILD", os.environ.get("HOLDFAST_BUILD", "build"))
REDIS = shutil.which("redis-server") or "/usr/bin/redis-server"

# Any test may be run so: in each server all blocks of keys move all the time (keyspace/defrag.h).
MOVE_EVERYTHING = os.environ.get("HF_MOVE_EVERYTHING")

running = set()

# What a test waits for may take this long on a machine that is busy with much else, before it counts as missing.
PATIENCE = 120


def wait_for(condition, seconds=PATIENCE):
    """Ask again and again until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return value


def emptied(server):
    """What a fixture yields that is a connection to a server which others use, too: it is empty."""
    raw = server.raw()
    raw("FLUSHALL")
    yield raw
    raw.close()


def is_settled(raw, soon_ms=60000):
    """Whether nothing that a primary holds expires soon or has expired already. DEBUG DIGEST, DBSIZE and HLEN count
    keys and fields that nobody can see any more but that have not been removed yet: before what two servers hold is
    compared by these, or what one holds before a restart and behind it, wait for this."""
    try:
        for db in range(16):
            raw("SELECT", db)
            if raw("DBSIZE") == 0:
                continue
            keys = raw("KEYS", "*")
            if raw("DBSIZE") != len(keys) or any(0 <= left < soon_ms for left in raw.pipeline([("PTTL", k) for k in keys])):
                return False
            hashes = [k for k, kind in zip(keys, raw.pipeline([("TYPE", k) for k in keys])) if kind == "hash"]
            for key in hashes:
                count, fields = raw.pipeline([("HLEN", key), ("HKEYS", key)])
                left = raw("HPTTL", key, "FIELDS", len(fields), *fields)  # an error of servers that know no such thing
                if count != len(fields) or not isinstance(left, Error) and any(x == -2 or 0 <= x < soon_ms for x in left):
                    return False
        return True
    finally:
        raw("SELECT", 0)


def start_again(server, kill=True):
    """Whether all is there after the end of the process, be it a sudden one."""
    digest = server.raw()("DEBUG", "DIGEST")
    server.kill() if kill else server.terminate()
    server.check_log()
    server.start()
    assert server.raw()("DEBUG", "DIGEST") == digest


@atexit.register
def kill_running():
    """A test that failed half-way must not leave its servers behind."""
    for process in running:
        if process.poll() is None:
            process.kill()


SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:",
                     "WARNING: ThreadSanitizer")


def system_ports():
    """The least port that the system gives to connections."""
    try:
        return int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 0


def ports_of_this_process():
    """Port after port out of a range that is this test process's own, below those that the system gives to connections:
    between the moment when a port is chosen and the one when a server listens there nobody else takes it."""
    first, end = 12000, min(system_ports(), 32768)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    size = (end - first) // 8
    at = random.SystemRandom().randrange(size) if size > 0 else 0
    while size > 1000:
        at = (at + 1) % size
        yield first + worker * size + at
    while True:
        yield 0


ports = ports_of_this_process()


def free_port():
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", next(ports)))
            except OSError:
                continue
            return s.getsockname()[1]


def build_preloaded(source, directory):
    """A C file below tests/ as a library that LD_PRELOAD takes; its path."""
    library = pathlib.Path(directory) / (pathlib.Path(source).stem + ".so")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", library,
                    pathlib.Path(__file__).parent / source, "-ldl"], check=True)
    return library


class Server:
    """A running server. `kind` is "holdfast" or "redis"; `plain` takes the build without
    sanitizers. `options` are directives and their values; `args` come before them; `prefix` is a
    command that runs the server's command."""

    def __init__(self, kind="holdfast", options=None, directory=None, plain=False, wait=True, args=(),
                 prefix=()):
        self.kind = kind
        self.own_directory = directory is None
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix=f"hf-{kind}-"))
        self.plain = plain
        self.options = dict(options or {})
        self.args = list(args)
        self.prefix = list(prefix)
        self.process = None
        self.moved = False
        self.start(wait)

    def start(self, wait=True):
        self.port = free_port()
        self.socket_path = tempfile.mktemp(prefix="hf-", suffix=".sock")
        program = REDIS
        if self.kind == "holdfast":
            program = str((PLAIN_BUILD if self.plain else BUILD) / "holdfast-server")
        options = {"port": self.port, "bind": "127.0.0.1", "unixsocket": self.socket_path,
                   "dir": self.directory, "save": "", "appendonly": "no",
                   "enable-debug-command": "yes"}
        options.update(self.options)
        command = self.prefix + [program] + self.args
        for name, value in options.items():
            if value is None:
                continue
            values = value if isinstance(value, (list, tuple)) else [value]
            command += ["--" + name] + [str(v) for v in values]
        self.log_path = self.directory / f"{self.kind}.log"
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        running.add(self.process)
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                if "Address already in use" in self.text() and not self.moved:
                    # The port that was free has been taken since, by a connection perhaps.
                    self.moved = True
                    return self.start()
                raise RuntimeError(f"{self.kind} ended with {self.process.returncode}:\n{self.text()}")
            try:
                client = self.client()
                if client.ping():
                    if self.kind == "holdfast" and MOVE_EVERYTHING:
                        client.execute_command("DEBUG", "DEFRAG-EVERYTHING", 1)
                    return
            except redis.exceptions.RedisError:
                pass
            time.sleep(0.02)
        raise RuntimeError(f"{self.kind} did not come up:\n{self.text()}")

    def text(self):
        return self.log_path.read_text(errors="replace")

    def client(self, **more):
        return redis.Redis(unix_socket_path=self.socket_path, **more)

    def raw(self):
        return Raw(self.socket_path)

    def terminate(self, signal_number=signal.SIGTERM, seconds=PATIENCE):
        """End the server and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        status = self.process.wait(seconds)
        running.discard(self.process)
        self.log.close()
        if os.path.exists(self.socket_path):
            os.unlink(self.socket_path)
        return status

    def kill(self):
        return self.terminate(signal.SIGKILL)

    def check_log(self):
        text = self.text()
        for report in SANITIZER_REPORTS:
            assert report not in text, text[-8000:]

    def stop(self):
        """End it in a clean way, and see that no sanitizer has reported anything."""
        crashed = self.process.poll() is not None and self.process.returncode < 0
        try:
            if self.process.poll() is None:
                self.terminate()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.check_log()
        assert not crashed, self.text()[-8000:]
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.kill()


class Error(str):
    """An error reply."""

    def __repr__(self):
        return f"Error({str(self)!r})"


class Simple(str):
    """A simple string reply."""

    def __repr__(self):
        return f"Simple({str(self)!r})"


class Raw:
    """A connection that gives replies as they came, with their types: bulk strings as bytes, simple
    strings and errors as their own classes, RESP3's aggregates as tagged tuples."""

    def __init__(self, path=None, port=None):
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(path)
        else:
            self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(PATIENCE)
        self.buffer = b""
        self.at = 0

    def close(self):
        self.socket.close()

    @staticmethod
    def encode(args):
        parts = [b"*%d\r\n" % len(args)]
        for arg in args:
            if isinstance(arg, str):
                arg = arg.encode("utf-8", "surrogateescape")
            elif not isinstance(arg, bytes):
                arg = str(arg).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
        return b"".join(parts)

    def send(self, data):
        self.socket.sendall(data)

    def __call__(self, *args):
        self.send(self.encode(args))
        return self.read()

    def pipeline(self, commands):
        self.send(b"".join(self.encode(c) for c in commands))
        return [self.read() for _ in commands]

    def _more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError("the server closed the connection")
        self.buffer = self.buffer[self.at:] + data
        self.at = 0

    def _line(self):
        while True:
            end = self.buffer.find(b"\r\n", self.at)
            if end >= 0:
                line = self.buffer[self.at:end]
                self.at = end + 2
                return line
            self._more()

    def _bytes(self, size):
        if len(self.buffer) - self.at < size + 2:
            parts = [self.buffer[self.at:]]
            have = len(parts[0])
            while have < size + 2:
                data = self.socket.recv(1 << 18)
                if not data:
                    raise EOFError("the server closed the connection")
                parts.append(data)
                have += len(data)
            self.buffer = b"".join(parts)
            self.at = 0
        data = self.buffer[self.at:self.at + size]
        self.at += size + 2
        return data

    def read(self):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return Simple(rest.decode("latin-1"))
        if kind == b"-":
            return Error(rest.decode("latin-1"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._bytes(int(rest))
        if kind == b"*":
            return ("null array",) if rest == b"-1" else [self.read() for _ in range(int(rest))]
        if kind == b"_":
            return ("null",)
        if kind == b"#":
            return ("bool", rest)
        if kind == b",":
            return ("double", rest)
        if kind == b"(":
            return ("big number", rest)
        if kind == b"=":
            return ("verbatim", self._bytes(int(rest)))
        if kind == b"%":
            return ("map", [(self.read(), self.read()) for _ in range(int(rest))])
        if kind == b"~":
            return ("set", [self.read() for _ in range(int(rest))])
        if kind == b">":
            return ("push", [self.read() for _ in range(int(rest))])
        raise ValueError(f"not a reply: {line!r}")
