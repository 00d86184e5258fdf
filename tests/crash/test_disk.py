# SPDX-License-Identifier: BSD-3-Clause
"""The real server on disks that really fail: a file system that is full (tmpfs with a size, ext4 on a
loop device), and system calls that return EIO (strace). What the log does then is tested call by
call in tests/unit/persist/log/test_writer.c and with a disk that obeys in tests/persist/test_log.py; here
nothing stands between the server and the kernel."""
import os
import pathlib
import re
import subprocess
import time

import pytest

from harness import Error, Server, wait_for

SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]
OPTIONS = {"appendonly": "yes", "appendfsync": "always"}


def info(raw):
    text = raw("INFO", "persistence").decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request, tmp_path):
    """A directory on a file system of 128 MB. Who is not root needs sudo."""
    memory = pathlib.Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path)
    image = memory / f"hf-image-{os.getpid()}"
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=128m,mode=777", "tmpfs", place]
    else:
        with open(image, "wb") as f:
            f.truncate(128 << 20)
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", image], check=True)
        command = ["mount", "-o", "loop", image, place]
    subprocess.run(SUDO + command, check=True)
    try:
        subprocess.run(SUDO + ["chmod", "777", place], check=True)
        yield place
    finally:
        subprocess.run(SUDO + ["umount", "-l", place], check=True)
        image.unlink(missing_ok=True)


def fill(path):
    """Take all the room there is; returns what gives it back."""
    with open(path, "wb") as f:
        taken, size = 0, 64 << 20
        while size >= 4096:
            try:
                os.posix_fallocate(f.fileno(), taken, size)
                taken += size
            except OSError:
                size //= 2
    return path.unlink


def until_taken(condition):
    """How long it took, and how much of that may be the machine's: ten times by how much the longest
    round of a pause and a request was longer than that should take."""
    begun = last = time.monotonic()
    longest = 0
    while True:
        taken = condition()
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        if taken:
            return now - begun, 10 * max(0, longest - 0.02)
        assert now - begun < 60
        time.sleep(0.01)


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_full(small, policy):
    """The disk is full: writes are refused, reads are not, nothing is lost. When there is room again the
    server is itself again, without being told. After kill -9 everything acknowledged is there."""
    with Server(options=dict(OPTIONS, appendfsync=policy), directory=small, plain=True) as server:
        raw = server.raw()
        acknowledged = {}
        # With everysec a second's writes may wait until the disk says that it is full: they must find room afterwards.
        pause = 0 if policy == "always" else 0.01
        for round in range(3):
            free = fill(small / "filler")
            for i in range(2000):
                key, value = f"{round}:{i}", f"{i}:" + "x" * 90000
                reply = raw("SET", key, value)
                time.sleep(pause)
                if isinstance(reply, Error):
                    break
                acknowledged[key] = value
            assert reply.startswith("MISCONF Errors writing to the AOF file: ") and "No space left" in reply, reply
            assert info(raw)["log_state"] == "full"
            assert raw("GET", "0:0") == acknowledged["0:0"].encode()
            assert raw("DEL", "0:0").startswith("MISCONF")
            assert raw.pipeline([("MULTI",), ("SET", "half", 1), ("EXEC",)])[-1].startswith(("EXECABORT", "MISCONF"))
            free()
            took, slowness = until_taken(lambda: raw("SET", f"after{round}", "1") == "OK")
            print(f"{policy}: writes go on {took:.3f} s after there was room, {slowness:.3f} s of slowness")
            assert took < 1 + slowness
            acknowledged[f"after{round}"] = "1"
            assert info(raw)["log_state"] == "on"
            if round == 1:
                # Killed while it is full, too.
                free = fill(small / "filler")
                while raw("SET", "again", "x" * 90000) == "OK":
                    time.sleep(pause)
                server.kill()
                free()
                server.start()
                raw = server.raw()
        wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
        server.kill()
        server.start()
        client = server.client()
        assert client.mget(acknowledged) == [value.encode() for value in acknowledged.values()]
        assert client.exists("half") == 0


@pytest.mark.parametrize("end", ["closed", "killed", "torn"])
def test_start_without_room(small, end):
    """The disk is full when the server starts: it serves what it has, refuses writes, and leaves all files as they
    were; when there is room it goes on by itself. A torn end is cut off and kept then. What expires meanwhile
    is in the log."""
    with Server(options=OPTIONS, directory=small, plain=True) as server:
        raw = server.raw()
        acknowledged = {f"k{i}": f"{i}:" + "x" * 900 for i in range(50)}
        assert all(raw("SET", *pair) == "OK" for pair in acknowledged.items())
        assert raw("SET", "short", 1, "PX", 500) == "OK"
        if end == "closed":
            server.terminate()
        else:
            server.kill()
        log = small / "appendonlydir"
        if end == "torn":
            with open(max(log.glob("*.incr.aof")), "ab") as f:
                f.write(b"#HF1 group 99999\r\n*3\r\n$3\r\nSET" + b"y" * 5000)
        free = fill(small / "filler")
        before = {p.name: p.read_bytes() for p in log.iterdir()}

        def kept():
            """Nothing else, and nothing in it, is there; but files that the server tries to begin come and go."""
            try:
                return {p.name: p.read_bytes() for p in log.iterdir() if not p.name.startswith("temp")} == before
            except FileNotFoundError:
                return False

        def answers():
            """PING is refused, as in redis-server, as long as writes are."""
            assert server.process.poll() is None, server.text()
            try:
                return not isinstance(server.raw()("GET", "k7"), Error)
            except OSError:
                return False

        for again in range(2):
            server.start(wait=False)
            wait_for(answers)
            raw = server.raw()
            assert raw("GET", "k7") == acknowledged["k7"].encode()
            reply = raw("SET", "refused", 1)
            assert reply.startswith("MISCONF Errors writing to the AOF file: ") and "No space left" in reply, reply
            assert info(raw)["log_state"] == "full"
            time.sleep(0.6)  # It expires; nobody can be told yet, as the reply would wait for the disk.
            wait_for(kept)
            if again == 0:
                server.kill()
        free()
        took, slowness = until_taken(lambda: raw("SET", "after", 1) == "OK")
        print(f"{end}: writes go on {took:.3f} s after there was room, {slowness:.3f} s of slowness")
        assert took < 1 + slowness
        assert info(raw)["log_state"] == "on" and info(raw)["aof_last_write_status"] == "ok"
        assert len(list(log.glob("*.torn-*"))) == (end == "torn")
        server.kill()
        server.check_log()
        server.start()
        client = server.client()
        assert client.mget(acknowledged) == [value.encode() for value in acknowledged.values()]
        assert client.get("after") == b"1" and client.exists("refused", "short") == 0


@pytest.mark.parametrize("found", ["nothing", "snapshot", "base", "single"])
def test_start_without_room_for_a_base(small, found):
    """The same where there is no log to go on with: nothing at all, an RDB file, a base that no incremental
    follows, the single file of an old redis-server. The data is served, and when there is room it gets a base and
    a log, and is there after kill -9."""
    with Server(options=dict(OPTIONS, appendonly="no"), directory=small, plain=True) as server:
        raw = server.raw()
        data = {} if found == "nothing" else {f"k{i}": f"{i}:" + "x" * 900 for i in range(50)}
        assert all(raw("SET", *pair) == "OK" for pair in data.items())
        log = small / "appendonlydir"
        if found != "nothing":
            assert raw("SAVE") == "OK"
        server.kill()
        if found == "base":
            log.mkdir()
            (small / "dump.rdb").rename(log / "appendonly.aof.1.base.rdb")
            (log / "appendonly.aof.manifest").write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
        elif found == "single":
            (small / "dump.rdb").rename(small / "appendonly.aof")
            with open(small / "appendonly.aof", "ab") as f:
                f.write(b"*3\r\n$3\r\nSET\r\n$3\r\nold\r\n$1\r\n1\r\n")
            data["old"] = "1"
        free = fill(small / "filler")
        before = {p: p.read_bytes() for p in small.rglob("*") if p.is_file() and p.name not in ("filler", "holdfast.log")}
        server.options["appendonly"] = "yes"
        server.start(wait=False)

        def answers():
            assert server.process.poll() is None, server.text()
            try:
                return server.raw()("DBSIZE") == len(data)
            except OSError:
                return False

        wait_for(answers)
        raw = server.raw()
        for key, value in data.items():
            assert raw("GET", key) == value.encode()
        for command in [("SET", "refused", 1), ("DEL", "k1"), ("PING",)]:
            reply = raw(*command)
            assert reply.startswith("MISCONF Errors writing to the AOF file: ") and "No space left" in reply, reply
        fields = info(raw)
        assert (fields["log_state"], fields["aof_last_write_status"]) == ("full", "err")
        time.sleep(0.6)  # It is tried again meanwhile, when anything has come free.
        assert raw("SET", "refused", 1).startswith("MISCONF")
        for path, content in before.items():
            assert path.read_bytes() == content, path
        free()
        took, slowness = until_taken(lambda: raw("SET", "after", 1) == "OK")
        print(f"{found}: writes go on {took:.3f} s after there was room, {slowness:.3f} s of slowness")
        assert took < 1 + slowness
        wait_for(lambda: info(raw)["log_state"] == "on")
        assert raw("SET", "after", 2) == "OK" and info(raw)["aof_last_write_status"] == "ok"
        server.kill()
        server.check_log()
        server.start()
        client = server.client()
        assert client.dbsize() == len(data) + 1
        assert client.mget(list(data) + ["after"]) == [value.encode() for value in data.values()] + [b"2"]


@pytest.mark.parametrize("nth", [2, 7])
def test_fsync_fails_once(tmp_path, nth):
    """The kernel says EIO to one fdatasync of the log, and would say yes to the next: the server never
    writes or syncs that file again. Who waited gets an error; after a while writes go on, in a new
    file, and what was acknowledged is there after kill -9."""
    trace = tmp_path / "trace"
    server = Server(options=OPTIONS, directory=tmp_path, plain=True)
    pid = server.process.pid
    strace = subprocess.Popen(
        ["strace", "-f", "-y", "-s", "4", "-o", trace, "-e", "trace=fdatasync,fsync,pwrite64,write,pwritev,writev",
         "-e", f"inject=fdatasync:error=EIO:when={nth}", "-p", str(pid)], stderr=subprocess.PIPE)
    try:
        while b"attached" not in strace.stderr.readline():
            assert strace.poll() is None, "strace cannot attach to a process"
        raw = server.raw()
        acknowledged, failures = [], []
        for i in range(100000):
            reply = raw("SET", f"k{i}", i)
            if reply == "OK":
                acknowledged.append(i)
                if failures and i > failures[-1] + 20:
                    break
            else:
                assert reply.startswith("MISCONF ") and "Input/output error" in reply, reply
                failures.append(i)
                time.sleep(0.01)
        assert failures and acknowledged[0] < failures[0] < acknowledged[-1]
        wait_for(lambda: info(raw)["log_state"] == "on")
        assert info(raw)["aof_last_write_status"] == "ok"
    finally:
        server.kill()
        strace.wait(60)
    lines = trace.read_text().splitlines()
    failed = [i for i, line in enumerate(lines) if "INJECTED" in line]
    assert len(failed) == 1, lines[-30:]
    name = re.search(r"<([^>]*\.incr\.aof)>", lines[failed[0]])
    if name is None:
        # Between its call and its result another thread had something to say: the call is above.
        thread = lines[failed[0]].split()[0]
        call = [line for line in lines[:failed[0]] if line.startswith(thread + " ") and "fdatasync(" in line][-1]
        name = re.search(r"<([^>]*\.incr\.aof)>", call)
    # But for room that a thread was about to fill ahead just then.
    later = [line for line in lines[failed[0] + 1:] if f"<{name.group(1)}>" in line and '"####"' not in line]
    assert later == []
    assert any(".incr.aof>" in line and "fdatasync" in line for line in lines[failed[0] + 1:])
    server.start()
    client = server.client()
    assert client.mget([f"k{i}" for i in acknowledged]) == [str(i).encode() for i in acknowledged]
    server.kill()


def test_fsync_fails_at_the_start(tmp_path):
    """EIO while the log is begun: the server does not start, says why, and starts when the disk works."""
    with Server(options=OPTIONS, directory=tmp_path, plain=True) as server:
        server.client().set("k", "v")
        server.kill()
        strace = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e",
                  "inject=fdatasync,fsync:error=EIO:when=1+"]
        ended = Server(options=OPTIONS, directory=tmp_path, plain=True, wait=False, prefix=strace)
        assert ended.process.wait(60) != 0
        assert "Input/output error" in ended.text()
        server.start()
        assert server.client().get("k") == b"v"
