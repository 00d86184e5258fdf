# SPDX-License-Identifier: BSD-3-Clause
"""The process and what supervises it: systemd's notifications, crash reports, the OOM killer's score."""
import os
import pathlib
import re
import signal
import socket
import tempfile

import pytest

from harness import BUILD, REDIS, Server


def notifications(s, until):
    """The messages up to the one that has a line `until`."""
    s.settimeout(60)
    seen = []
    while not any(until in message.split("\n") for message in seen):
        seen.append(s.recv(4096).decode())
    return seen


# With `supervised systemd` READY comes once, when commands are served; then WATCHDOG; STOPPING at the end.
@pytest.mark.parametrize("abstract", [False, True])
def test_systemd(abstract):
    path = tempfile.mktemp(prefix="hf-notify-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind("\0" + path if abstract else path)
        prefix = ["env", "NOTIFY_SOCKET=" + ("@" + path if abstract else path), "WATCHDOG_USEC=200000"]
        server = Server(options={"supervised": "systemd" if abstract else "auto"}, prefix=prefix, wait=False)
        seen = notifications(s, "READY=1")
        assert any("EXTEND_TIMEOUT_USEC=" in message for message in seen[:-1])
        r = server.raw()
        assert r("PING") == "PONG"
        assert b"process_supervised:systemd" in r("INFO", "server")
        notifications(s, "WATCHDOG=1")
        notifications(s, "WATCHDOG=1")
        assert server.terminate() == 0
        rest = notifications(s, "STOPPING=1")
        assert not any("READY=1" in message for message in rest)
        server.stop()
    if not abstract:
        os.unlink(path)


# A crash leaves a report with the client, the command and a stack trace; the process ends by the signal,
# and what `always` has acknowledged is there after the next start.
@pytest.mark.parametrize("how, number", [("SEGFAULT", signal.SIGSEGV), ("PANIC", signal.SIGABRT)])
def test_crash_report(how, number):
    options = {"appendonly": "yes", "appendfsync": "always", "logfile": "server.log"}
    server = Server(options=options, plain=True, prefix=["prlimit", "--core=0"])
    r = server.raw()
    for i in range(200):
        assert r("SET", f"k{i}", i) == "OK"
    r.send(r.encode(["DEBUG", how]))
    with pytest.raises((EOFError, ConnectionResetError)):
        r.read()
    assert server.process.wait(60) == -number
    text = pathlib.Path(server.directory, "server.log").read_text()
    report = text[text.index("=== CRASH REPORT: start"):text.index("=== CRASH REPORT: end")]
    for part in ("Holdfast 0.", number.name, "--- stack trace ---", "(dispatch", "--- functions ---", " turn_end+", "Command: debug, 2 arguments",
                 "1: " + how, "Log: on, end ", "Client: id "):
        assert part in report, report
    server.terminate()
    server.options["hide-user-data-from-log"] = "yes"
    server.start()
    r = server.raw()
    assert r("DBSIZE") == 200 and r("GET", "k199") == b"199"
    r.send(r.encode(["DEBUG", how]))
    assert server.process.wait(60) == -number
    text = pathlib.Path(server.directory, "server.log").read_text()[len(text):]
    assert "Command: debug, 2 arguments" in text and "1: " + how not in text
    server.terminate()
    server.options["crash-log-enabled"] = "no"
    server.start()
    r = server.raw()
    assert r("DBSIZE") == 200
    r.send(r.encode(["DEBUG", how]))
    assert server.process.wait(60) == -number
    assert pathlib.Path(server.directory, "server.log").read_text().count("CRASH REPORT: start") == 2
    server.terminate()
    # use-exit-on-panic: a panic, but no other crash, is an exit.
    del server.options["crash-log-enabled"]
    server.start()
    r = server.raw()
    assert r("CONFIG", "SET", "use-exit-on-panic", "yes") == "OK" and r("CONFIG", "GET", "use-exit-on-pani?") == []
    r.send(r.encode(["DEBUG", how]))
    assert server.process.wait(60) == (1 if how == "PANIC" else -number)
    assert pathlib.Path(server.directory, "server.log").read_text().count("CRASH REPORT: start") == 3
    server.terminate()


# The score is set relative to what the process was started with, or as it is, and set back by `no`.
def test_oom_score():
    own = int(pathlib.Path("/proc/self/oom_score_adj").read_text())
    with Server(options={"oom-score-adj": "relative", "oom-score-adj-values": "7 200 800"}) as s:
        r = s.raw()

        def score():
            return int(pathlib.Path(f"/proc/{s.process.pid}/oom_score_adj").read_text())

        assert score() == min(own + 7, 1000)
        assert r("CONFIG", "SET", "oom-score-adj", "absolute", "oom-score-adj-values", f"{own + 9} 200 800") == "OK"
        assert score() == own + 9
        assert r("CONFIG", "SET", "oom-score-adj", "no") == "OK"
        assert score() == own


# A Unix socket has its permissions as configured, whatever the umask is.
def test_unixsocketperm():
    with Server(options={"unixsocketperm": "666"}, prefix=["sh", "-c", 'umask 077; exec "$@"', "sh"]) as s:
        assert os.stat(s.socket_path).st_mode & 0o777 == 0o666


# What ps shows is the template's text, as long as there is room, beside redis-server's; without it the arguments.
@pytest.mark.parametrize("options", [
    {}, {"bind": "127.0.0.1"}, {"set-proc-title": "no"}, {"port": 0},
    {"proc-title-template": "at {listen-addr}, {port} and {tls-port}, {unixsocket};{server-mode} {title} "}])
def test_title(options):
    def shown(kind):
        with Server(kind, options=options) as s:
            r = s.raw()

            def title():
                text = pathlib.Path(f"/proc/{s.process.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
                program = REDIS if kind == "redis" else str(BUILD / "holdfast-server")
                for name, value in (("PROGRAM", program), ("SOCKET", s.socket_path), ("PORT", str(s.port))):
                    text = text.replace(value, name)
                return text

            first = title()
            refused = r("CONFIG", "SET", "proc-title-template", "{nothing}")
            assert "template format is invalid or contains unknown variables" in refused
            assert r("CONFIG", "SET", "proc-title-template", "{titl") == refused and title() == first
            assert r("CONFIG", "SET", "proc-title-template", "short {server-mode}") == "OK"
            second = title()
            assert r("CONFIG", "SET", "proc-title-template", "long" * 100000) == "OK"
            assert "set-proc-title" in options or (title().startswith("longlong") and r("PING") == "PONG")
            # With set-proc-title no redis-server takes a template that is set later.
            return first.split("\0")[0], None if "set-proc-title" in options else second.split("\0")[0]

    assert shown("holdfast") == shown("redis")


# The environment is what it was although the title stands where it stood.
def test_title_keeps_the_environment():
    path = tempfile.mktemp(prefix="hf-notify-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        with Server(options={"supervised": "systemd", "proc-title-template": "x" * 5000},
                    prefix=["env", "NOTIFY_SOCKET=" + path]) as server:
            notifications(s, "READY=1")
            assert server.terminate() == 0
            notifications(s, "STOPPING=1")
    os.unlink(path)


def traced(options, calls):
    """A server whose system calls of these names stand in a file, and that file."""
    path = pathlib.Path(tempfile.mktemp(prefix="hf-strace-"))
    return Server(options=options, plain=True, prefix=["strace", "-D", "-f", "-o", str(path), "-e", "trace=" + calls]), path


# Memory does not become huge pages by itself, unless that is wanted.
def test_disable_thp():
    for options, asked in (({}, True), ({"disable-thp": "no"}, False)):
        server, path = traced(options, "prctl")
        with server:
            assert server.raw()("PING") == "PONG"
            assert ("PR_SET_THP_DISABLE, 1" in path.read_text()) == asked
        path.unlink()


# Those who wait to be let in are so a few at a time.
@pytest.mark.parametrize("most", [3, 1000])
def test_max_new_connections_per_cycle(most):
    server, path = traced({"max-new-connections-per-cycle": most}, "accept4,epoll_wait")
    with server:
        assert server.raw()("PING") == "PONG"
        os.kill(server.process.pid, signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
        os.kill(server.process.pid, signal.SIGCONT)
        for c in clients:
            c.settimeout(60)
            c.sendall(b"PING\r\n")
        assert [c.recv(100) for c in clients] == [b"+PONG\r\n"] * 30
        runs, run = [], 0
        for line in path.read_text().splitlines():
            if re.search("accept4.*= [0-9]", line):
                run += 1
            elif "epoll_wait" in line:
                runs.append(run)
                run = 0
        # Those who waited, and who was there before them: the socket's queue is emptied at once, or bit by bit.
        assert sum(runs) + run >= 31
        assert max(runs + [run]) == most if most < 30 else max(runs + [run]) >= 15, runs
        for c in clients:
            c.close()
    path.unlink()


# Of the threads only the executor and the log's compete for a processor as soon as they are woken: what gives memory back never
# interrupts them. (The allocator's threads are there only in the plain build. A policy that the whole process was given is kept.)
@pytest.mark.parametrize("plain", [False, True])
def test_threads_that_free_memory_interrupt_nobody(plain):
    given = os.sched_getscheduler(0)
    with Server(plain=plain) as server:
        assert server.raw()("PING") == "PONG"
        policies = {}
        for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
            policies.setdefault((task / "comm").read_text().strip(), set()).add(os.sched_getscheduler(int(task.name)))
        assert policies["hf-reclaim"] == {os.SCHED_BATCH if given == os.SCHED_OTHER else given}
        assert policies.get("jemalloc_bg_thd", {os.SCHED_IDLE} if not plain else None) == {os.SCHED_IDLE}
        assert policies[next(name for name in policies if name.startswith("holdfast"))] == {given}
