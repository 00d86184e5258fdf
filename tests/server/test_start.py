# SPDX-License-Identifier: BSD-3-Clause
"""Starts that fail: with status 1, a line that names what is wrong, and nothing changed on disk; starts over what other
servers have left; and starts with the order of keys that another server has."""
import fcntl
import os
import socket
import subprocess
import time

import pytest
import redis
from harness import BUILD, SANITIZER_REPORTS, Server, wait_for

CHECK = "`holdfast check` on the data directory says what is damaged"


def fails(directory, *args):
    """What the server says when it ends at once."""
    done = subprocess.run([str(BUILD / "holdfast-server"), *map(str, args)], cwd=directory, stdin=subprocess.DEVNULL,
                          timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode(errors="replace")
    assert not any(r in said for r in SANITIZER_REPORTS), said
    assert done.returncode == 1, said
    return said


@pytest.mark.parametrize("args,wanted", [
    (["--port", 0], "Configured to not listen anywhere"),
    (["--port", 0, "--unixsocket", "missing/s"], "Could not listen on missing/s: bind: No such file or directory"),
    (["--port", 0, "--tls-port", 1], "Failed to configure TLS: No tls-cert-file configured!"),
    (["--port", 0, "--tls-port", 1, "--tls-cert-file", "a", "--tls-key-file", "b", "--tls-ca-cert-file", "c"],
     "Failed to load certificate: a"),
    (["--logfile", "missing/log"], "cannot open the log file missing/log: No such file or directory"),
    (["--dir", "missing"], "can't chdir to 'missing': No such file or directory"),
    (["--aclfile", "missing"], "The users could not be loaded: cannot open missing: No such file or directory"),
    (["--unixsocket", "s", "--port", 0, "--appendonly", "no", "--quorum-node", "a"],
     "quorum-node 'a' needs quorum-nodes, the list of all"),
    (["--unixsocket", "s", "--port", 0, "--quorum-nodes", "a=h:1", "--quorum-node", "b"],
     "quorum-node 'b' is none of quorum-nodes"),
], ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "")
def test_wrong_surroundings(tmp_path, args, wanted):
    """The thing that is missing or does not fit is named, and `holdfast check` is not: no file is damaged."""
    said = fails(tmp_path, *args)
    assert wanted in said and CHECK not in said, said


def test_a_port_that_is_in_use(tmp_path):
    """Address and port are named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = fails(tmp_path, "--bind", "127.0.0.1", "--port", port)
    assert f"Could not listen on 127.0.0.1 port {port}: bind: Address already in use" in said
    assert list(tmp_path.iterdir()) == []


def test_a_directory_for_the_log_that_cannot_be_made(tmp_path):
    """No advice to repair anything: nothing is damaged."""
    (tmp_path / "file").write_text("")
    said = fails(tmp_path, "--port", 0, "--unixsocket", "s", "--appenddirname", "file")
    assert "file" in said and "Not a directory" in said and CHECK not in said, said


@pytest.mark.parametrize("args", [["--appendonly", "no"], ["--appendonly", "yes"]], ids=" ".join)
def test_damaged_data(tmp_path, args):
    """The file and the offset are named, and what tells more; the file stays."""
    (tmp_path / "dump.rdb").write_bytes(b"REDIS0010\xfe")
    said = fails(tmp_path, "--port", 0, "--unixsocket", "s", *args)
    assert "dump.rdb: offset 10: 1 bytes are needed, 0 are left" in said and CHECK in said, said
    assert (tmp_path / "dump.rdb").read_bytes() == b"REDIS0010\xfe"
    assert {p.name for p in tmp_path.iterdir()} <= {"dump.rdb", "s"}


ON = {"appendonly": "yes"}


def test_two_servers_over_one_log(tmp_path):
    """The second one does not start, and touches nothing of what the first one writes; a server without a log
    cannot begin one there. When the first one is killed the next one starts at once."""
    first = Server(options={**ON, "appendfsync": "always"}, directory=tmp_path)
    first.client().set("a", 1)
    before = {p.name: p.read_bytes() for p in (tmp_path / "appendonlydir").iterdir()}
    said = fails(tmp_path, "--port", 0, "--unixsocket", "s")
    assert "appendonlydir is in use by another process" in said and CHECK not in said, said
    with Server(directory=tmp_path) as second:
        with pytest.raises(redis.ResponseError, match="in use by another process"):
            second.client().config_set("appendonly", "yes")
        assert second.client().config_get("appendonly") == {"appendonly": "no"}
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "appendonlydir").iterdir()}
    first.client().set("b", 2)
    first.kill()
    with Server(options=ON, directory=tmp_path) as next_one:
        assert next_one.client().mget("a", "b") == [b"1", b"2"]


def test_two_servers_that_begin_a_log(tmp_path):
    """Two servers without a log in one directory: the first one that begins one has it, at once; and what it leaves
    there when it ends is not begun anew by the other one, which knows nothing of it."""
    with Server(directory=tmp_path) as second:
        first, other = Server(directory=tmp_path), second.client()
        other.set("other", 1)
        first.client().config_set("appendonly", "yes")
        with pytest.raises(redis.ResponseError, match="in use by another process"):
            other.config_set("appendonly", "yes")
        first.client().set("a", 1)
        assert first.client().execute_command("WAITAOF", 1, 0, 60000) == [1, 0]
        first.terminate()
        before = {p.name: p.read_bytes() for p in (tmp_path / "appendonlydir").iterdir()}
        with pytest.raises(redis.ResponseError, match="has the log of another server"):
            other.config_set("appendonly", "yes")
        other.execute_command("BGREWRITEAOF")
        wait_for(lambda: "The log could not be started: appendonlydir has the log of another server" in second.text())
        assert before == {p.name: p.read_bytes() for p in (tmp_path / "appendonlydir").iterdir()}
    with Server(options=ON, directory=tmp_path) as next_one:
        assert next_one.client().mget("a", "other") == [b"1", None]


def test_off_and_on_again(tmp_path):
    """A log that this server has written, or found when it was started, is begun anew as often as is wanted."""
    with Server(options=ON, directory=tmp_path) as server:
        server.client().set("a", 1)
    with Server(directory=tmp_path) as server:
        client = server.client()
        for i in range(3):
            client.config_set("appendonly", "yes")
            wait_for(lambda: client.info("persistence")["log_state"] == "on")
            client.set("b", i)
            if i == 1:
                client.execute_command("BGREWRITEAOF")
            client.config_set("appendonly", "no")
            wait_for(lambda: client.info("persistence")["log_state"] == "off")
        client.execute_command("BGREWRITEAOF")
        wait_for(lambda: server.text().count("The log is off") == 4)
        client.config_set("appendonly", "yes")
        wait_for(lambda: client.info("persistence")["log_state"] == "on")
        client.set("c", 1)
    with Server(options=ON, directory=tmp_path) as server:
        assert server.client().mget("b", "c") == [b"2", b"1"]


def test_no_repair_beside_a_server(tmp_path):
    """What could be repaired is not, while somebody has the log."""
    with Server(options=ON, directory=tmp_path) as server:
        server.client().set("a", 1)
    log = tmp_path / "appendonlydir/appendonly.aof.1.incr.aof"
    damaged = log.read_bytes().replace(b"SET", b"XET")
    log.write_bytes(damaged)
    command = [str(BUILD / "holdfast"), "repair", str(tmp_path), "--yes"]
    lock = os.open(tmp_path / "appendonlydir", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 1 and b"in use by another process" in done.stderr, done
    assert log.read_bytes() == damaged
    os.close(lock)
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0 and log.read_bytes() != damaged, done


def test_a_start_waits_for_the_server_before(tmp_path):
    """One that is about to end lets go of the log a little later than of its clients."""
    first = Server(options=ON, directory=tmp_path)
    first.client().set("a", 1)
    with Server(options=ON, directory=tmp_path, wait=False) as second:
        deadline = time.monotonic() + 60
        while "waiting for it to end" not in second.text():
            assert time.monotonic() < deadline and second.process.poll() is None, second.text()
            time.sleep(0.01)
        first.kill()
        second.wait_ready()
        assert second.client().get("a") == b"1"


def scanned(raw, command, cursor, seen, steps=None):
    """Some steps of a SCAN from the cursor on, or all: the cursor behind them."""
    while steps is None or steps > 0:
        cursor, found = raw(command[0], *command[1:], cursor, "COUNT", 20)
        seen += found
        steps = steps and steps - 1
        if cursor == b"0":
            break
    return cursor


# Servers with the same hash-seed have their keys and members in the same order, however they came to them: a SCAN
# goes on at another one, and after a restart, and neither misses nor repeats any. What is drawn at random differs.
def test_hash_seed():
    options = {"hash-seed": "a secret \u00e9", "save": "3600 1", "set-max-intset-entries": 0, "set-max-listpack-entries": 0}
    with Server(options=options) as one, Server(options=options) as other, Server() as stranger:
        a, b, c = one.raw(), other.raw(), stranger.raw()
        keys = [f"key:{i}".encode() for i in range(2000)]
        for raw, order in ((a, keys), (b, keys[::-1]), (c, keys)):
            raw.pipeline([("SET", key, 1) for key in order])
            raw.pipeline([("SADD", "set", key) for key in order])
        assert a("CONFIG", "GET", "hash-seed") == [b"hash-seed", "a secret \u00e9".encode()]
        for command, wanted in ((["SCAN"], [*keys, b"set"]), (["SSCAN", "set"], keys)):
            whole, seen = [], []
            scanned(a, command, 0, whole)
            assert sorted(whole) == sorted(wanted)
            cursor = scanned(a, command, 0, seen, 5)
            cursor = scanned(b, command, cursor, seen, 5)
            assert cursor != b"0"
            if command == ["SCAN"]:
                assert one.terminate() == 0
                one.start()
                a = one.raw()
            scanned(a, command, cursor, seen)
            assert sorted(seen) == sorted(wanted)
            other_order = []
            scanned(c, command, 0, other_order)
            assert sorted(other_order) == sorted(wanted) and other_order != whole
        drawn = [[raw("RANDOMKEY") for _ in range(50)] for raw in (a, b)]
        assert drawn[0] != drawn[1]
