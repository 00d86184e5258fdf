# SPDX-License-Identifier: BSD-3-Clause
"""The configuration file, the command line and CONFIG, each as redis-server takes it: what is expected
here is expected of both."""
import contextlib
import os
import stat
import subprocess
import time

import pytest

from harness import BUILD, PATIENCE, REDIS, Error, Raw, Server, running

KINDS = pytest.mark.parametrize("kind", ["holdfast", "redis"])
PROGRAM = {"holdfast": str(BUILD / "holdfast-server"), "redis": REDIS}
DEBIAN_CONF = "/etc/redis/redis.conf"
OBEY_MODES = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


class Started:
    """A server with just these arguments; they or what they name must set `unixsocket s`."""

    def __init__(self, kind, directory, args, text=None, prefix=(), password=None):
        self.directory = directory
        self.log = directory / f"{kind}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([*prefix, PROGRAM[kind], *map(str, args)], cwd=directory, stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.PIPE)
        running.add(self.process)
        self.process.stdin.write((text or "").encode())
        self.process.stdin.close()
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                self.raw = Raw(str(directory / "s"))
                if password is not None:
                    assert self.raw("AUTH", password) == "OK"
                if self.raw("PING") == "PONG":
                    return
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()[-4000:]
            time.sleep(0.02)

    def get(self, *names):
        flat = self.raw("CONFIG", "GET", *names)
        return {n.decode(): v.decode() for n, v in zip(flat[::2], flat[1::2])}

    def set(self, *pairs):
        return self.raw("CONFIG", "SET", *pairs)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()
        running.discard(self.process)
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "s").unlink()


def fails_to_start(kind, directory, args, text=""):
    """What it says when it ends at once, with status 1."""
    done = subprocess.run([PROGRAM[kind], *map(str, args)], cwd=directory, input=text.encode(), timeout=PATIENCE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 1, done.stdout.decode()
    return done.stdout.decode()


# Files --------------------------------------------------------------------------------------------

MAIN = """# A comment; a blank line follows.

port 0
   unixsocket s
TIMEOUT 7
maxmemory 1gb
hash-max-listpack-value 2k
set-max-intset-entries 1000
client-query-buffer-limit 3mb
save 900 1
save 300 10 60 100
requirepass "a\\x41 \\"b\\" # no comment"
\tmasterauth 'single \\' "quoted"'
tcp-keepalive 60
tcp-keepalive 61
client-output-buffer-limit normal 1mb 512kb 10
client-output-buffer-limit pubsub 2mb 1mb 20
oom-score-adj-values 1 2 3
repl-backlog-size 2mb
loglevel WARNING
list-max-listpack-size -3
maxmemory-policy allkeys-lru
slave-priority 7
unixsocketperm 0700
include part-*.conf
include %s/last.conf
"""


@KINDS
def test_file(kind, tmp_path):
    """Comments, quotes, escapes, units, includes by pattern, repeated directives."""
    (tmp_path / "a.conf").write_text((MAIN % tmp_path).replace("requirepass", "masteruser"))
    (tmp_path / "part-1.conf").write_text("timeout 8\r\nhz 20\r\n")
    (tmp_path / "part-2.conf").write_text("timeout 9\n# the end has no newline\nlfu-decay-time 3")
    (tmp_path / "last.conf").write_text("")
    with Started(kind, tmp_path, ["a.conf"]) as server:
        wanted = {
            "port": "0", "timeout": "9", "hz": "20", "lfu-decay-time": "3", "maxmemory": "1073741824",
            "hash-max-listpack-value": "2000", "set-max-intset-entries": "1000",
            "client-query-buffer-limit": "3145728", "save": "900 1 300 10 60 100",
            "masteruser": 'aA "b" # no comment', "masterauth": "single ' \"quoted\"", "tcp-keepalive": "61",
            "client-output-buffer-limit": "normal 1048576 524288 10 slave 268435456 67108864 60 "
                                          "pubsub 2097152 1048576 20",
            "oom-score-adj-values": "1 2 3", "repl-backlog-size": "2097152", "loglevel": "warning",
            "list-max-listpack-size": "-3", "maxmemory-policy": "allkeys-lru", "replica-priority": "7",
            "slave-priority": "7", "unixsocketperm": "700", "unixsocket": "s", "dir": str(tmp_path),
        }
        assert server.get(*wanted) == wanted


@pytest.mark.skipif(not os.path.exists(DEBIAN_CONF), reason="Debian's redis.conf is not here")
@KINDS
def test_the_file_of_debian_s_package(kind, tmp_path):
    """The very file that users of redis-server have."""
    args = [DEBIAN_CONF, "--port", 0, "--unixsocket", "s", "--daemonize", "no", "--logfile", "",
            "--pidfile", "", "--dir", tmp_path]
    with Started(kind, tmp_path, args) as server:
        assert server.get("maxclients", "appendonly", "save") == {
            "maxclients": "10000", "appendonly": "no", "save": "3600 1 300 100 60 10000"}
        assert server.get("bind") == {"bind": "127.0.0.1 -::1"}


COMMAND_LINES = [
    # (arguments, standard input, what CONFIG GET says)
    (["--hz", "20", "--timeout", "5"], "", {"hz": "20", "timeout": "5"}),
    (["f.conf"], "", {"hz": "11", "timeout": "1"}),
    (["f.conf", "--hz", "20"], "", {"hz": "20", "timeout": "1"}),
    (["-"], "hz 30\n# x\ntimeout 3\n", {"hz": "30", "timeout": "3"}),
    (["-", "--hz", "20"], "hz 30\ntimeout 3\n", {"hz": "20", "timeout": "3"}),
    (["f.conf", "--hz", "20", "-"], "hz 30\ntcp-keepalive 3\n", {"hz": "20", "timeout": "1", "tcp-keepalive": "3"}),
    (["f.conf", "-"], "hz 30", {"hz": "30", "timeout": "1"}),
    (["--save"], "", {"save": ""}),
    (["--save", "--hz", "20"], "", {"save": "", "hz": "20"}),
    (["--save", ""], "", {"save": ""}),
    (["--save", "900", "1", "60", "5"], "", {"save": "900 1 60 5"}),
    (["--save", "900 1 60 5"], "", {"save": "900 1 60 5"}),
    (["--save", "900 1", "--save", "60 5"], "", {"save": "900 1 60 5"}),
    (["--SAVE", "900", "1"], "", {"save": "900 1"}),
    (["f.conf", "--save", "900", "1"], "", {"save": "100 1 900 1"}),
    (["--list-max-listpack-size", "-3"], "", {"list-max-listpack-size": "-3"}),
    (["--bind", "127.0.0.1", "-::1"], "", {"bind": "127.0.0.1 -::1"}),
    (["--bind", "127.0.0.1 -::1"], "", {"bind": "127.0.0.1 -::1"}),
    (["--hz 20", "--timeout 5"], "", {"hz": "20", "timeout": "5"}),
    (["--masterauth", "--abc", "--hz", "20"], "", {"masterauth": "--abc", "hz": "20"}),
    (["--masterauth", "two words \"x\""], "", {"masterauth": "two words \"x\""}),
    (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lfu"], "",
     {"maxmemory": "104857600", "maxmemory-policy": "allkeys-lfu"}),
    (["--include", "f.conf"], "", {"hz": "11", "timeout": "1"}),
    (["--client-output-buffer-limit", "normal", "1mb", "0", "0", "pubsub", "2mb", "1mb", "5"], "",
     {"client-output-buffer-limit": "normal 1048576 0 0 slave 268435456 67108864 60 pubsub 2097152 1048576 5"}),
    (["--shutdown-on-sigterm", "nosave", "force"], "", {"shutdown-on-sigterm": "nosave force"}),
    (["--loglevel", "debug", "--hz", "5", "--hz", "6"], "", {"loglevel": "debug", "hz": "6"}),
]


@KINDS
@pytest.mark.parametrize("args,text,wanted", COMMAND_LINES, ids=[" ".join(c[0]) for c in COMMAND_LINES])
def test_command_line(kind, tmp_path, args, text, wanted):
    (tmp_path / "f.conf").write_text("hz 11\ntimeout 1\nsave 100 1\n")
    last = ["-"] if args[-1] == "-" and len(args) > 1 else []
    args = args[:-1] if last else args
    with Started(kind, tmp_path, args + ["--port", "0", "--unixsocket", "s"] + last, text) as server:
        assert server.get(*wanted) == wanted


BROKEN = [
    # (the file, the line at which it stops)
    ("port 0\n\nno-such-thing 5\n", 3),
    ("# c\nport 70000\n", 2),
    ("port 1 2\n", 1),
    ("port\n", 1),
    ("\nhz \"1\n", 2),
    ("\n\n  appendonly maybe\n", 3),
    ("maxmemory 1x\n", 1),
    ("maxmemory-policy none\n", 1),
    ("save 5\n", 1),
    ("unixsocketperm 800\n", 1),
    ("client-output-buffer-limit normal 1 2\n", 1),
    ("client-output-buffer-limit nobody 1 2 3\n", 1),
    ("dbfilename a/b\n", 1),
    ("dir /no/such/place\n", 1),
    ("rename-command GET set\n", 1),
    ("databases 0\n", 1),
]


@KINDS
@pytest.mark.parametrize("text,line", BROKEN, ids=[repr(t) for t, _ in BROKEN])
def test_mistakes_stop_the_start(kind, tmp_path, text, line):
    """With status 1, and the file, the number of the line and the line itself."""
    (tmp_path / "f.conf").write_text(text)
    said = fails_to_start(kind, tmp_path, ["f.conf", "--port", "0"])
    assert "FATAL CONFIG FILE ERROR" in said and f"at line {line}\n" in said
    assert f">>> '{text.splitlines()[line - 1].strip()}'" in said
    if kind == "holdfast":
        assert "f.conf" in said


@KINDS
def test_other_mistakes(kind, tmp_path):
    """On the command line, on standard input, in files that are not there."""
    assert "'no-such \"1\"'" in fails_to_start(kind, tmp_path, ["--no-such", "1"])
    assert "'no-such 1'" in fails_to_start(kind, tmp_path, ["-"], "hz 1\nno-such 1\n")
    assert "missing.conf" in fails_to_start(kind, tmp_path, ["missing.conf"])
    (tmp_path / "f.conf").write_text("hz 1\ninclude missing.conf\n")
    assert "missing.conf" in fails_to_start(kind, tmp_path, ["f.conf"])


def test_mistakes_in_included_files(tmp_path):
    """The file that holds the line is named, not the one that includes it."""
    (tmp_path / "f.conf").write_text("include part.conf\n")
    (tmp_path / "part.conf").write_text("hz 10\nnonsense on\n")
    said = fails_to_start("holdfast", tmp_path, ["f.conf"])
    assert "Reading part.conf, at line 2" in said and "'nonsense' is not a directive" in said


def test_known_directives_without_effect(tmp_path):
    """Accepted with a warning that names the place; what only states the default is not worth one."""
    (tmp_path / "f.conf").write_text("port 0\nunixsocket s\ncluster-node-timeout 99\nrepl-timeout 60\nhz 10\n")
    with Started("holdfast", tmp_path, ["f.conf", "--cluster-migration-barrier", "7"]) as server:
        log = server.log.read_text()
        assert "f.conf, line 3: 'cluster-node-timeout' is known but has no effect yet" in log
        assert "'cluster-migration-barrier' is known but has no effect yet" in log
        assert "'hz'" not in log
        assert server.get("cluster-node-timeout") == {"cluster-node-timeout": "99"}
        assert server.set("cluster-node-timeout", "98") == "OK"
        assert "CONFIG SET: 'cluster-node-timeout' is known but has no effect yet" in server.log.read_text()


# CONFIG -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    with Server("holdfast") as ours, Server("redis") as theirs:
        yield ours, theirs


def test_all_directives_of_redis(pair):
    """Each that redis-server 7.0 has is there, with the same default."""
    ours, theirs = (s.client(decode_responses=True).config_get("*") for s in pair)
    for name in ("dir", "port", "unixsocket"):
        del ours[name], theirs[name]
    assert {name: ours.get(name) for name in theirs} == theirs


EQUAL = [
    ("GET", "maxmemory"), ("GET", "MaxMemory"), ("GET", "none"), ("GET", "maxmemory", "hz", "none"),
    ("GET", "hz", "hz"), ("GET", "*listpack*", "hash*"), ("GET", "[hl]z"), ("GET", "h?"), ("GET", ""), ("GET",),
    ("GET", "slave-priority"), ("GET", "*-priority"), ("GET", "hz", "HZ"), ("GET", "requirepass"), ("GET", "ma*-policy"),
    ("SET",), ("SET", "hz"), ("SET", "hz", "10", "timeout"), ("SET", "none", "1"), ("SET", "hz", "10", "none", "1"),
    ("SET", "hz", "x"), ("SET", "hz", ""), ("SET", "timeout", "-1"), ("SET", "timeout", "99999999999"),
    ("SET", "maxmemory", "x"), ("SET", "maxmemory", "-1"), ("SET", "appendonly", "maybe"),
    ("SET", "maxmemory-policy", "x"), ("SET", "databases", "1"), ("SET", "daemonize", "yes"), ("SET", "dir", "/"),
    ("SET", "port", "70000"), ("SET", "save", "x"), ("SET", "save", "1"), ("SET", "save", "-1 1"),
    ("SET", "client-output-buffer-limit", "normal 1"), ("SET", "client-output-buffer-limit", "x 1 2 3"),
    ("SET", "client-output-buffer-limit", "normal x 2 3"), ("SET", "notify-keyspace-events", "Q"),
    ("SET", "oom-score-adj-values", "1 2"), ("SET", "proto-max-bulk-len", "1"),
    ("SET", "latency-tracking-info-percentiles", "101"), ("SET", "hash-max-listpack-entries", "abc"),
    ("SET", "hz", "20", "hz", "21"),
    ("SET", "lfu-log-factor", "1.5"), ("SET", "loglevel", "LOUD"), ("SET", "include", "x"), ("SET", "user", "x"),
    ("SET", "rename-command", "x"), ("SET", "list-compress-depth", "-1"), ("SET", "maxclients", "0"),
    ("SET", "activerehashing", "1"), ("SET", "shutdown-on-sigint", "nosave default"),
    ("SET", "shutdown-on-sigint", "nosave save"), ("SET", "shutdown-on-sigint", "nosave end"), ("SET", "unixsocketperm", "9"),
    ("RESETSTAT", "x"), ("REWRITE", "x"), ("REWRITE",), ("NONSENSE",), (),
]


@pytest.mark.parametrize("args", EQUAL, ids=[" ".join(a) for a in EQUAL])
def test_equal_replies(pair, args):
    """Patterns, errors and refusals in the words of redis-server."""
    ours, theirs = (s.raw()("CONFIG", *args) for s in pair)
    if args[:1] == ("GET",) and isinstance(ours, list):
        names = set(theirs[::2])
        ours = {n: v for n, v in zip(ours[::2], ours[1::2]) if n in names} # there are more of newer versions
        theirs = dict(zip(theirs[::2], theirs[1::2]))
    assert ours == theirs


@KINDS
def test_set_of_several_is_all_or_nothing(kind):
    with Server(kind) as server:
        raw = server.raw()
        names = ("timeout", "hz", "save", "maxmemory-policy", "client-output-buffer-limit", "tcp-keepalive",
                 "hash-max-listpack-entries", "loglevel")
        before = raw("CONFIG", "GET", *names)
        good = ["timeout", 5, "hz", 50, "save", "1 1", "maxmemory-policy", "allkeys-lru", "client-output-buffer-limit",
                "normal 1mb 0 0", "tcp-keepalive", 7, "hash-max-listpack-entries", 3, "loglevel", "debug"]
        bad = [(("hll-sparse-max-bytes", "x"), "hll-sparse-max-bytes"), (("databases", 5), "databases"),
               (("port", 70000), "port"), (("bind", "192.0.2.177"), "bind"), (("no-such", 1), "no-such"),
               (("hz", 6), "hz")]
        for (name, value), named in bad:
            for place in (0, 4, len(good)):
                reply = raw("CONFIG", "SET", *good[:place], name, value, *good[place:])
                assert isinstance(reply, Error) and named in reply
                assert raw("CONFIG", "GET", *names) == before, name
        # Nor has it any effect: a hash of four fields is still a listpack.
        raw("HSET", "h", "a", 1, "b", 2, "c", 3, "d", 4)
        assert raw("OBJECT", "ENCODING", "h") == b"listpack"
        assert raw("CONFIG", "SET", *good) == "OK"
        after = raw("CONFIG", "GET", *names)
        assert dict(zip(after[::2], after[1::2])) == {
            b"timeout": b"5", b"hz": b"50", b"save": b"1 1", b"maxmemory-policy": b"allkeys-lru",
            b"client-output-buffer-limit": b"normal 1048576 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
            b"tcp-keepalive": b"7", b"hash-max-listpack-entries": b"3", b"loglevel": b"debug"}
        raw("HSET", "g", "a", 1, "b", 2, "c", 3, "d", 4)
        assert raw("OBJECT", "ENCODING", "g") == b"hashtable"


PASSWORD = "two \"words\" \u00e9"
CHANGES = ["maxmemory", "200mb", "maxmemory-policy", "volatile-lfu", "requirepass", PASSWORD,
           "save", "10 20 30 40", "client-output-buffer-limit", "pubsub 1mb 2mb 3", "timeout", "12",
           "notify-keyspace-events", "KEA", "list-max-listpack-size", "-4", "masterauth", "", "loglevel", "verbose",
           "oom-score-adj-values", "5 6 7", "latency-tracking-info-percentiles", "50 90", "maxmemory-clients", "5%",
           "proc-title-template", "{title} #1", "appendfsync", "always", "hash-max-ziplist-entries", "77"]
COMMENTED = """# First comment
port 0
unixsocket s

# About the time
timeout 3
hz 20
  # indented
save 900 1
save 300 10
include part.conf
maxmemory 1gb
appendfsync everysec
# The last line"""


@pytest.mark.parametrize("writer", ["holdfast", "redis"])
@pytest.mark.parametrize("reader", ["holdfast", "redis"])
def test_rewrite(writer, reader, tmp_path):
    """What one has rewritten the other starts from, with the same settings."""
    (tmp_path / "part.conf").write_text("lfu-decay-time 4\n")
    conf = tmp_path / "f.conf"
    conf.write_text(COMMENTED)
    conf.chmod(0o640)
    with Started(writer, tmp_path, ["f.conf", "--tcp-keepalive", "99"]) as server:
        assert server.set(*CHANGES) == "OK"
        settings = server.get("*")
        assert server.raw("CONFIG", "REWRITE") == "OK"
        text = conf.read_text(errors="surrogateescape")
        # Again: nothing is added to it.
        if writer == "holdfast":
            assert server.raw("CONFIG", "REWRITE") == "OK"
            assert conf.read_text(errors="surrogateescape") == text
    lines = text.split("\n")
    order = ["# First comment", "port 0", "# About the time", "timeout 12", "hz 20", "  # indented",
             "include part.conf", "maxmemory", "appendfsync always", "# The last line",
             "# Generated by CONFIG REWRITE"]
    at = [next(i for i, line in enumerate(lines) if line.strip().startswith(o.strip())) for o in order]
    assert at == sorted(at), text
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["f.conf", "part.conf", f"{writer}.log"])
    if writer == "holdfast":
        assert stat.S_IMODE(conf.stat().st_mode) == 0o640
    with Started(reader, tmp_path, ["f.conf"], password=PASSWORD) as server:
        again = server.get("*")
    common = set(settings) & set(again)
    assert len(common) > 150
    assert {n: again[n] for n in common} == {n: settings[n] for n in common}


@KINDS
def test_password_survives_a_rewrite(kind, tmp_path):
    (tmp_path / "f.conf").write_text("port 0\nunixsocket s\n")
    with Started(kind, tmp_path, ["f.conf"]) as server:
        server.set("requirepass", "a b\"\\\n\u00e9\x01#")
        assert server.raw("CONFIG", "REWRITE") == "OK"
    conf = (tmp_path / "f.conf").read_bytes()
    (tmp_path / "f.conf").write_bytes(conf + b"masteruser x\n")
    with Server("holdfast", {"port": None, "bind": None, "dir": None, "save": None}, args=[tmp_path / "f.conf"],
                directory=tmp_path, wait=False) as server:
        end = time.monotonic() + PATIENCE
        raw = None
        while raw is None:
            assert time.monotonic() < end, server.text()
            with contextlib.suppress(OSError):  # the socket may be there before anybody listens
                raw = server.raw()
            time.sleep(0.02)
        assert raw("PING") == "NOAUTH Authentication required."
        assert raw("AUTH", "a b\"\\\n\u00e9\x01#") == "OK"


@KINDS
def test_rewrite_that_cannot_be_written(kind, tmp_path):
    """An error, and the old file as it was."""
    place = tmp_path / "conf"
    place.mkdir()
    (place / "f.conf").write_text("port 0\nunixsocket s\n")
    with Started(kind, tmp_path, ["conf/f.conf"], prefix=OBEY_MODES) as server:
        server.set("timeout", 5)
        place.chmod(0o555)
        try:
            assert server.raw("CONFIG", "REWRITE").startswith("ERR Rewriting config file: ")
        finally:
            place.chmod(0o755)
        assert (place / "f.conf").read_text() == "port 0\nunixsocket s\n"
        assert server.raw("CONFIG", "REWRITE") == "OK"
        assert "timeout 5" in (place / "f.conf").read_text()
        # One that is gone is written anew.
        (place / "f.conf").unlink()
        assert server.raw("CONFIG", "REWRITE") == "OK"
        assert "timeout 5" in (place / "f.conf").read_text()
        assert os.listdir(place) == ["f.conf"]
    with Started(kind, tmp_path, ["--port", 0, "--unixsocket", "s"]) as server:
        assert server.raw("CONFIG", "REWRITE") == "ERR The server is running without a config file"


@KINDS
def test_resetstat(kind):
    """Counters begin again; what describes the present stays."""
    with Server(kind) as server:
        raw = server.raw()
        raw.pipeline([("SET", "a", 1), ("GET", "a"), ("GET", "b"), ("NONSENSE",), ("LPUSH", "a", 1), ("GET",),
                      ("SET", "t", 1, "PX", 1)])
        time.sleep(0.3)
        raw("GET", "t")

        def stats():
            text = raw("INFO", "everything").decode()
            return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

        before = stats()
        for name, count in (("keyspace_hits", 1), ("keyspace_misses", 2), ("expired_keys", 1)):
            assert int(before[name]) == count, name
        assert int(before["total_commands_processed"]) >= 5 and int(before["total_connections_received"]) >= 1
        assert int(before["total_error_replies"]) == 3
        assert before["errorstat_WRONGTYPE"] == "count=1" and before["errorstat_ERR"] == "count=2"
        assert "failed_calls=1" in before["cmdstat_lpush"] and "rejected_calls=1" in before["cmdstat_get"]
        assert raw("CONFIG", "RESETSTAT") == "OK"
        after = stats()
        for name in ("keyspace_hits", "keyspace_misses", "expired_keys", "total_connections_received",
                     "rejected_connections", "total_error_replies"):
            assert after[name] == "0", name
        assert int(after["total_commands_processed"]) <= 1
        assert int(after["total_net_input_bytes"]) < 200
        assert not [n for n in after if n.startswith("errorstat") or n in ("cmdstat_get", "cmdstat_set")]
        assert after["connected_clients"] == before["connected_clients"] and after["db0"] == before["db0"]
