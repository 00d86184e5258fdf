# SPDX-License-Identifier: BSD-3-Clause
"""The log of the running server: what is in it, what waits for it, and what happens when its disk is
slow, full or broken. The disk is played by tests/persist/disk.c, which is preloaded."""
import os
import pathlib
import random
import signal
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from harness import Error, Server, build_preloaded, start_again, wait_for


def info(raw):
    text = raw("INFO", "persistence").decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_preloaded("persist/disk.c", tmp_path_factory.mktemp("disk"))


class Disk:
    """A server whose log is on a disk that does what it is told. It is the build without sanitizers,
    before which nothing can be preloaded."""

    def __init__(self, library, directory, **options):
        self.word = directory / "disk"
        self.say("")
        self.options = {"appendonly": "yes", "appendfsync": "always"}
        self.options.update({name.replace("_", "-"): value for name, value in options.items()})
        self.server = Server(options=self.options, directory=directory, plain=True,
                             prefix=["env", f"LD_PRELOAD={library}", f"HF_DISK={self.word}"])

    def say(self, word):
        new = self.word.with_suffix(".new")
        new.write_text(word)
        new.rename(self.word)

    def syncs(self):
        log = pathlib.Path(str(self.word) + ".log")
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.say("")
        self.server.kill()


def redis_loads(directory):
    """redis-server 7.0, started over a copy of the log, has the same data; the digest."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(directory / "appendonlydir", pathlib.Path(place) / "appendonlydir")
        with Server("redis", options={"appendonly": "yes"}, directory=pathlib.Path(place)) as redis:
            return redis.raw()("DEBUG", "DIGEST")


def silent(raw, seconds=0.15):
    """Nothing comes from the server."""
    raw.socket.settimeout(seconds)
    try:
        raw._more()
    except socket.timeout:
        return True
    finally:
        raw.socket.settimeout(60)
    return False


def fill(client, seed):
    """Commands of all types, and of those whose effect is not their request."""
    rng = random.Random(seed)
    for i in range(60):
        pipe = client.pipeline(transaction=i % 3 == 0)
        for _ in range(5):
            key = f"k{rng.randrange(40)}"
            pipe.set("s" + key, rng.randbytes(rng.choice([5, 500, 40000])), ex=rng.choice([None, 1000]))
            pipe.lpush("l" + key, *range(rng.randrange(1, 9)))
            pipe.sadd("t" + key, *range(rng.randrange(1, 30)))
            pipe.spop("t" + key, 2)
            pipe.hset("h" + key, f"f{rng.randrange(9)}", "x")
            pipe.zadd("z" + key, {f"m{rng.randrange(9)}": rng.random()})
            pipe.incrbyfloat("f" + key, 0.1)
            pipe.expire("l" + key, 500)
            pipe.delete(f"sk{rng.randrange(40)}")
        pipe.execute()


@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_redis_loads_it(tmp_path, policy, seed):
    """redis-check-aof accepts the directory and redis-server loads it as it is, with the same data; what
    redis-server appends is loaded here."""
    options = {"appendonly": "yes", "appendfsync": policy, "appenddirname": "the-log",
               "appendfilename": "my.aof", "aof-timestamp-enabled": "yes" if policy == "no" else "no"}
    with Server(options=options, directory=tmp_path) as server:
        fill(server.client(), seed)
        fill(server.client(db=9), seed + 1)
        digest = server.raw()("DEBUG", "DIGEST")
        fields = info(server.raw())
        assert fields["aof_enabled"] == "1" and fields["log_state"] == "on"
        assert int(fields["log_commands"]) > 0
    manifest = tmp_path / "the-log" / "my.aof.manifest"
    check = subprocess.run(["redis-check-aof", manifest], capture_output=True, text=True)
    assert check.returncode == 0 and "All AOF files and manifest are valid" in check.stdout, check.stdout
    text = (tmp_path / "the-log" / "my.aof.1.incr.aof").read_bytes()
    assert text.split(b"\r\n")[-2].startswith(b"#HF1 close ")
    assert (b"#TS:" in text) == (policy == "no")
    with Server("redis", options=options, directory=tmp_path) as server:
        assert server.raw()("DEBUG", "DIGEST") == digest
        server.client().set("by-redis", 1)
        digest = server.raw()("DEBUG", "DIGEST")
    with Server(options=options, directory=tmp_path) as server:
        assert server.raw()("DEBUG", "DIGEST") == digest


def test_kill(tmp_path):
    """With `always` what was acknowledged is there after kill -9; with `everysec` after its second."""
    options = {"appendonly": "yes", "appendfsync": "always"}
    server = Server(options=options, directory=tmp_path)
    acknowledged = {}

    def write(number):
        raw = server.raw()
        try:
            for i in range(1000000):
                if raw("SET", f"c{number}:{i}", i) == "OK":
                    acknowledged[f"c{number}:{i}".encode()] = str(i).encode()
        except OSError:
            pass
        except EOFError:
            pass

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) > 300)
    server.kill()
    for thread in threads:
        thread.join()
    options["appendfsync"] = "everysec"
    again = Server(options=options, directory=tmp_path)
    client = again.client()
    keys = list(acknowledged)
    assert client.mget(keys) == [acknowledged[key] for key in keys]
    client.set("late", 1)
    wait_for(lambda: info(again.raw())["log_at_risk_bytes"] == "0")
    assert info(again.raw())["log_at_risk_writes"] == "0"
    again.kill()
    with Server(options=options, directory=tmp_path) as last:
        assert last.client().get("late") == b"1"
        assert last.client().dbsize() >= len(keys) + 1


def test_replies_wait(library, tmp_path):
    """While the disk does not answer: a write's reply waits, and that to a read of its key; reads of
    other keys pass, also those that were sent on the same connection before it."""
    with Disk(library, tmp_path) as disk:
        server = disk.server
        writer, reader, other, whole, mixed, transaction, watching, seen = (server.raw() for _ in range(8))
        assert writer("MSET", "a", 1, "b", 1, "c", 1) == "OK"
        assert watching("WATCH", "a") == "OK"
        disk.say("hang")
        writer.send(writer.encode(("SET", "a", 2)))
        assert silent(writer)
        reader.send(reader.encode(("GET", "a")))
        whole.send(whole.encode(("DBSIZE",)))
        mixed.send(b"".join(mixed.encode(c) for c in (
            ("GET", "b"), ("PING",), ("SET", "d", 1), ("GET", "b"), ("MGET", "b", "a"))))
        transaction.send(b"".join(transaction.encode(c) for c in (("MULTI",), ("GET", "b"), ("GET", "a"), ("EXEC",))))
        watching.send(b"".join(watching.encode(c) for c in (("MULTI",), ("EXEC",))))
        seen.send(b"".join(seen.encode(c) for c in (("MULTI",), ("GET", "b"), ("GET", "c"), ("EXEC",))))
        for _ in range(3):
            assert other("GET", "b") == b"1"
            assert other.pipeline([("EXISTS", "b", "c"), ("TTL", "c")]) == [2, -1]
        assert other("INFO", "persistence")
        assert [mixed.read(), mixed.read()] == [b"1", "PONG"]
        assert [transaction.read() for _ in range(3)] == ["OK", "QUEUED", "QUEUED"]
        assert [seen.read() for _ in range(4)] == ["OK", "QUEUED", "QUEUED", [b"1", b"1"]]
        assert watching.read() == "OK"
        for held in (writer, reader, whole, mixed, transaction, watching):
            assert silent(held, 0.05)
        fields = info(other)
        assert int(fields["log_waiting_clients"]) == 6 and int(fields["log_at_risk_bytes"]) > 0
        assert int(fields["log_waiting_replies"]) >= 7 and fields["log_meter"].startswith("a crash now loses at most ")
        disk.say("")
        assert writer.read() == "OK" and reader.read() == b"2" and whole.read() == 3
        assert [mixed.read() for _ in range(3)] == ["OK", b"1", [b"1", b"2"]]
        assert transaction.read() == [b"1", b"2"]
        assert watching.read() == ("null array",)
        wait_for(lambda: info(other)["log_waiting_clients"] == "0")
        assert reader("GET", "a") == b"2"


def test_who_says_no_more_gets_his_replies(library, tmp_path):
    """One who closes his side gets the replies that are held, and then the end; who is gone is
    forgotten at once."""
    with Disk(library, tmp_path) as disk:
        raw, gone, other = disk.server.raw(), disk.server.raw(), disk.server.raw()
        assert raw("PING") == gone("PING") == "PONG"
        disk.say("hang")
        raw.send(raw.encode(("SET", "a", 1)) + raw.encode(("GET", "a")))
        raw.socket.shutdown(socket.SHUT_WR)
        gone.send(gone.encode(("SET", "b", 1)))
        wait_for(lambda: info(other)["log_waiting_clients"] == "2")
        gone.close()
        wait_for(lambda: info(other)["log_waiting_clients"] == "1")
        assert silent(raw, 0.05)
        disk.say("")
        assert raw.read() == "OK" and raw.read() == b"1"
        with pytest.raises(EOFError):
            raw.read()
        assert other("MGET", "a", "b") == [b"1", b"1"]


def test_keys_of_nobody(library, tmp_path):
    """FLUSHALL, expiry and other databases: reads wait for what concerns their keys."""
    with Disk(library, tmp_path) as disk:
        raw, two, three, other = (disk.server.raw() for _ in range(4))
        raw.pipeline([("MSET", "a", 1, "b", 1), ("SELECT", 1), ("SET", "a", 9)])
        two("SELECT", 1)
        disk.say("hang")
        soon = disk.server.raw()
        soon.send(soon.encode(("SET", "soon", 1, "PX", 1)))
        # It has expired by then, and its DEL is in the log, but neither is on disk.
        wait_for(lambda: b"expired_keys:1\r\n" in other("INFO", "stats"))
        three.send(three.encode(("GET", "soon")))
        raw.send(raw.encode(("SET", "a", 10)))
        assert silent(raw) and silent(three, 0.05)
        assert other("GET", "a") == b"1"
        two.send(two.encode(("GET", "a")))
        assert silent(two, 0.05)
        disk.say("")
        assert raw.read() == "OK" and two.read() == b"10" and three.read() is None
        disk.say("hang")
        raw.send(raw.encode(("FLUSHALL",)))
        assert silent(raw)
        two.send(two.encode(("GET", "never")))
        assert silent(two, 0.05)
        disk.say("")
        assert raw.read() == "OK" and two.read() is None


def test_writers_are_slowed_down(library, tmp_path):
    """Beyond log-buffer-limit writers wait before they write; readers do not."""
    with Disk(library, tmp_path, log_buffer_limit="1mb") as disk:
        raw, writers = disk.server.raw(), [disk.server.raw() for _ in range(4)]
        raw("SET", "small", 1)
        disk.say("hang")
        value = "x" * 300000
        for i, writer in enumerate(writers):
            writer.send(writer.encode(("SET", f"big{i}", value)))
        wait_for(lambda: info(raw)["log_slowing_writers"] == "1")
        late = disk.server.raw()
        late.send(b"".join(late.encode(c) for c in (("SET", "late", 1), ("GET", "late"))))
        assert silent(late)
        assert raw("GET", "small") == b"1" and raw("EXISTS", "late") == 0
        disk.say("")
        assert late.read() == "OK" and late.read() == b"1"
        assert [writer.read() for writer in writers] == ["OK"] * 4
        wait_for(lambda: info(raw)["log_slowing_writers"] == "0")


def test_everysec_bounds_what_is_at_risk(library, tmp_path):
    """A disk that does not sync stops the writers after a second, and nobody else."""
    with Disk(library, tmp_path, appendfsync="everysec") as disk:
        raw, writer = disk.server.raw(), disk.server.raw()
        raw("CONFIG", "SET", "latency-monitor-threshold", 100)
        disk.say("hang")
        assert raw("SET", "a", 1) == "OK"
        wait_for(lambda: info(raw)["log_slowing_writers"] == "1")
        assert int(info(raw)["log_at_risk_ms"]) >= 1000
        writer.send(writer.encode(("SET", "b", 1)))
        assert silent(writer)
        assert raw("GET", "a") == b"1" and raw("DBSIZE") == 1
        disk.say("")
        assert writer.read() == "OK"
        wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
        assert int(info(raw)["aof_delayed_fsync"]) >= 1
        assert "aof-fsync" in str(raw("LATENCY", "LATEST"))


@pytest.mark.parametrize("fault", ["sync", "write"])
def test_broken_disk(library, tmp_path, fault):
    """After EIO whoever waits gets an error, and writes are refused, while reads go on; the file is
    never synced again; when the disk works again there is a new base and a new file, without a
    restart. Whatever was acknowledged is there after kill -9, before and after."""
    with Disk(library, tmp_path) as disk:
        raw, mixed = disk.server.raw(), disk.server.raw()
        assert raw.pipeline([("SET", "kept", 1), ("SET", "other", 1)]) == ["OK", "OK"]
        disk.say(fault)
        mixed.send(b"".join(mixed.encode(c) for c in (
            ("GET", "other"), ("SELECT", 0), ("SET", "lost", 1), ("ECHO", "x"), ("SET", "lost", 2))))
        replies = [mixed.read() for _ in range(5)]
        assert replies[:2] == [b"1", "OK"] and replies[3] == b"x"
        for reply in (replies[2], replies[4]):
            assert isinstance(reply, Error) and reply.startswith("MISCONF ") and "Input/output error" in reply
        wait_for(lambda: info(raw)["log_state"] == "failed")
        failed = len(disk.syncs())
        for command in (("SET", "kept", 2), ("DEL", "kept"), ("PING",)):
            assert raw(*command).startswith("MISCONF Errors writing to the AOF file: ")
        assert raw.pipeline([("MULTI",), ("GET", "kept"), ("EXEC",)])[-1] == [b"1"]
        # What is not durable is not shown either.
        assert raw("GET", "lost").startswith("MISCONF ")
        assert raw("GET", "kept") == b"1"
        fields = info(raw)
        assert fields["aof_last_write_status"] == "err" and "Input/output error" in fields["log_error"]
        time.sleep(0.3)
        first = "appendonly.aof.1.incr.aof"
        assert first not in [name for name, _ in disk.syncs()[failed:]]
        disk.say("")
        wait_for(lambda: info(raw)["log_state"] == "on")
        assert first not in [name for name, _ in disk.syncs()[failed:]]
        assert raw("GET", "lost") == b"2"
        assert raw("SET", "after", 1) == "OK" and raw("PING") == "PONG"
        manifest = (tmp_path / "appendonlydir" / "appendonly.aof.manifest").read_text()
        assert f"file {first} seq 1 type h\n" in manifest
        digest = raw("DEBUG", "DIGEST")
        disk.server.kill()
        assert redis_loads(tmp_path) == digest
        with Server(options=disk.options, directory=tmp_path) as again:
            assert again.raw()("DEBUG", "DIGEST") == digest


def test_broken_disk_and_kill(library, tmp_path):
    """Killed while the disk is broken: what was acknowledged is there, and no more than was sent."""
    with Disk(library, tmp_path) as disk:
        raw = disk.server.raw()
        acknowledged = [i for i in range(50) if raw("SET", f"k{i}", i) == "OK"]
        assert len(acknowledged) == 50
        disk.say("sync")
        assert raw("SET", "k50", 50).startswith("MISCONF")
        assert raw("SET", "k51", 51).startswith("MISCONF")
        disk.server.kill()
    with Server(options={"appendonly": "yes"}, directory=tmp_path) as again:
        keys = again.client().keys()
        assert {f"k{i}".encode() for i in acknowledged} <= set(keys) and len(keys) <= 51


def test_full_disk(library, tmp_path):
    """No space: writes are refused and nothing is lost; with room the server goes on by itself."""
    with Disk(library, tmp_path, appendfsync="everysec") as disk:
        raw = disk.server.raw()
        raw("SET", "k", "v")
        disk.say("full")
        reply, sent = "OK", 0
        end = time.monotonic() + 60
        while reply == "OK":
            reply = raw("SET", f"big{sent}", "x" * 100000)
            sent += 1
            assert time.monotonic() < end
            if sent % 100 == 0:
                time.sleep(0.1)  # the log's thread may have been kept from writing until now
        assert reply.startswith("MISCONF Errors writing to the AOF file: ") and "No space left" in reply
        assert raw("GET", "k") == b"v" and info(raw)["log_state"] == "full"
        disk.say("")
        begin = time.monotonic()
        wait_for(lambda: raw("SET", "k", "w") == "OK")
        print("writes again after", time.monotonic() - begin)
        assert info(raw)["log_state"] == "on"
        digest = raw("DEBUG", "DIGEST")
        wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
        disk.server.kill()
    assert redis_loads(tmp_path) == digest
    with Server(options={"appendonly": "yes"}, directory=tmp_path) as again:
        assert again.raw()("DEBUG", "DIGEST") == digest
        assert again.client().dbsize() == sent


def write_much(server, threads, each, seed):
    """Commands of several clients at a time, with values of all sizes."""
    def write(number):
        rng, raw = random.Random(seed + number), server.raw()
        for i in range(each):
            size = rng.choice([1, 50, 400, 2000]) if i % 20 else 70000
            assert raw("SET", f"{number}:{rng.randrange(30)}", rng.randbytes(size)) == "OK"

    workers = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    return workers


def test_groups_beside_each_other(library, tmp_path, seed):
    """On a slow disk several groups are on their way at a time. After a rewrite among them, another policy for
    a while, and kill -9, all of it is there, the log is sound, and redis-server loads it."""
    with Disk(library, tmp_path) as disk:
        raw = disk.server.raw()
        assert raw("SET", "first", 1) == "OK"
        disk.say("slow")
        for step in range(3):
            workers = write_much(disk.server, 8, 60, seed + 100 * step)
            if step == 1:
                assert raw("BGREWRITEAOF").startswith("Background append only file rewriting")
            if step == 2:
                for policy in ["everysec", "always", "no", "always"]:
                    time.sleep(0.03)
                    assert raw("CONFIG", "SET", "appendfsync", policy) == "OK"
            for worker in workers:
                worker.join()
        wait_for(lambda: info(raw)["aof_rewrite_in_progress"] == "0")
        fields = info(raw)
        print({name: fields[name] for name in ("log_groups", "log_groups_beside", "log_commit_latency_usec")})
        assert int(fields["log_groups_beside"]) > 20
        assert fields["log_durable_lsn"] == fields["log_lsn"] or raw("SET", "last", 1) == "OK"
        digest = raw("DEBUG", "DIGEST")
        disk.server.kill()
        assert redis_loads(tmp_path) == digest
        disk.say("")
        disk.server.start()
        raw = disk.server.raw()
        assert raw("DEBUG", "DIGEST") == digest
        assert "cut off" not in disk.server.text()


@pytest.mark.parametrize("fault", ["sync", "write"])
def test_broken_among_groups_beside(library, tmp_path, fault, seed):
    """A disk that fails while several groups are on their way: who was answered OK finds what he wrote, after
    the log was mended and after kill -9, and nobody is answered OK for what is not there."""
    def write(number):
        rng, raw = random.Random(seed + number), disk.server.raw()
        for i in range(1, 100000):
            if ended.is_set():
                return
            try:
                reply = raw("SET", f"n{number}", i)
            except (EOFError, OSError):
                return  # It was killed.
            if reply == "OK":
                acknowledged[number] = i
            else:
                refused.append(reply)
                time.sleep(rng.random() / 50)

    with Disk(library, tmp_path) as disk:
        acknowledged, refused, ended = {}, [], threading.Event()
        raw = disk.server.raw()
        disk.say("slow")
        workers = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for worker in workers:
            worker.start()
        wait_for(lambda: int(info(raw)["log_groups_beside"]) > 20)
        disk.say(fault)
        wait_for(lambda: info(raw)["log_state"] == "failed")
        disk.say("slow")
        wait_for(lambda: info(raw)["log_state"] == "on")
        before = dict(acknowledged)
        wait_for(lambda: all(acknowledged.get(n, 0) > before.get(n, 0) for n in range(8)))
        disk.server.kill()
        ended.set()
        for worker in workers:
            worker.join()
        assert refused and all(reply.startswith("MISCONF") for reply in refused), set(refused)
        disk.say("")
        disk.server.start()
        raw = disk.server.raw()
        for number, i in acknowledged.items():
            assert int(raw("GET", f"n{number}")) in (i, i + 1)


def test_many_large_writes_at_once(library, tmp_path):
    """log-buffer-limit also bounds what many clients have sent for one turn, each a large value, and what they sent
    while they were put off."""
    with Disk(library, tmp_path, appendfsync="everysec", log_buffer_limit="1mb", save="") as disk:
        raw, busy, writers = disk.server.raw(), disk.server.raw(), [disk.server.raw() for _ in range(60)]
        assert [w("SET", f"w{i}", 0) for i, w in enumerate(writers)] == ["OK"] * 60
        disk.say("hang")
        raw("SET", "first", 1)
        time.sleep(0.3)  # its sync begins while the server is busy
        busy.send(busy.encode(("DEBUG", "SLEEP", "0.5")))
        for i, writer in enumerate(writers):
            writer.send(writer.encode(("SET", f"w{i}", "x" * 100_000)))
        assert busy.read() == "OK"
        time.sleep(0.3)
        fields = info(raw)
        print(fields["log_at_risk_writes"], fields["log_at_risk_bytes"])
        assert int(fields["log_at_risk_bytes"]) < (1 << 20) + (512 << 10) + 200_000, fields
        assert raw("GET", "first") == b"1"
        disk.say("")
        assert [writer.read() for writer in writers] == ["OK"] * 60
        wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
        assert info(raw)["log_slowing_writers"] == "0"


def test_the_end_on_a_disk_that_is_full(library, tmp_path):
    """The exit status says whether something is lost: nothing is when only the log's last line finds no room. What was
    acknowledged and is in memory alone keeps the server from ending until there is room, or it is forced to."""
    with Disk(library, tmp_path, appendfsync="everysec", save="") as disk:
        server = disk.server

        def fill():
            # One that is taken before it is known that there is no room.
            raw = server.raw()
            wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
            disk.say("full")
            assert raw("SET", "big", "x" * 20_000_000) == "OK"
            wait_for(lambda: info(raw)["log_state"] == "full")
            return raw

        def start():
            disk.say("")
            server.start()
            raw = server.raw()
            assert raw("GET", "k") == b"v"
            return raw

        raw = server.raw()
        assert raw("SET", "k", "v") == "OK"
        wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
        disk.say("full")
        assert server.terminate() == 0
        assert "The log could not be ended in order: cannot " in server.text()

        raw = start()
        assert raw("EXISTS", "big") == 0
        raw = fill()
        for _ in range(2):
            reply = raw("SHUTDOWN")
            assert isinstance(reply, Error) and "Errors trying to SHUTDOWN" in str(reply)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.text().count("the end would lose 1 writes") == 3)
        assert raw("STRLEN", "big") == 20_000_000
        disk.say("")
        wait_for(lambda: info(raw)["log_state"] == "on")
        assert server.terminate() == 0

        raw = start()
        assert raw("STRLEN", "big") == 20_000_000 and raw("DEL", "big") == 1
        raw = fill()
        raw.send(raw.encode(("SHUTDOWN", "FORCE")))
        assert server.process.wait(60) == 1
        server.terminate()
        assert "At most 1 writes (" in server.text()
        assert start()("EXISTS", "big") == 0


@pytest.mark.parametrize("policy, log", [("always", "on"), ("everysec", "on"), ("always", "failed before"),
                                         ("everysec", "being made")])
def test_the_end_on_a_disk_that_hangs(library, tmp_path, policy, log):
    """A disk that does not answer keeps the server from its end for shutdown-timeout seconds, not for ever: it says what
    is at risk and ends with a status that says so. What had been acknowledged with `always` is there, and all that was
    given to the system is, as the machine has not crashed."""
    with Disk(library, tmp_path, appendfsync=policy, shutdown_timeout="1", save="") as disk:
        raw, writer = disk.server.raw(), disk.server.raw()
        assert raw("SET", "kept", 1) == "OK"
        wait_for(lambda: info(raw)["log_at_risk_bytes"] == "0")
        if log == "failed before":
            disk.say("sync")
            writer.send(writer.encode(("SET", "failed", 1)))
            wait_for(lambda: info(raw)["log_state"] == "failed")
        if log == "being made":
            assert raw("CONFIG", "SET", "appendonly", "no") == "OK"
            wait_for(lambda: info(raw)["log_state"] == "off")
        disk.say("hang")
        if log == "being made":
            raw("CONFIG", "SET", "appendonly", "yes")
        if log == "on":
            writer.send(writer.encode(("SET", "at-risk", "x" * 1000)))
            wait_for(lambda: int(info(raw)["log_at_risk_bytes"]) > 1000)
            time.sleep(0.7)  # everysec: the sync has begun
        else:
            time.sleep(1.2)  # what is to come next has begun, or not: both are to end
        begin = time.monotonic()
        status = disk.server.terminate()
        print("ended after", time.monotonic() - begin, "with", status)
        text = disk.server.text()
        if log == "on":
            assert status == 1 and "its disk does not answer" in text and "Exiting without waiting any longer" in text
            assert "At most 1 writes (" in text
            assert ("none of them was acknowledged" in text) == (policy == "always")
        elif log == "failed before":
            assert status == 1
        disk.say("")
    with Server(options={"appendonly": "yes"}, directory=tmp_path) as again:
        keys = set(again.client().keys())
        assert b"kept" in keys
        assert log != "on" or b"at-risk" in keys


def test_switched_on_and_off(tmp_path):
    """appendonly yes makes a base of what is in memory; no ends the log in order; and again."""
    with Server(directory=tmp_path, options={"save": ""}) as server:
        raw = server.raw()
        raw.pipeline([("SET", f"k{i}", i) for i in range(100)])
        assert raw("CONFIG", "SET", "appendonly", "yes") == "OK"
        raw("SET", "during", 1)
        wait_for(lambda: info(raw)["log_state"] == "on")
        assert raw("CONFIG", "SET", "appendfsync", "always") == "OK"
        assert raw("SET", "always", 1) == "OK"
        assert raw.pipeline([("MULTI",), ("SET", "in", 1), ("CONFIG", "SET", "appendonly", "no"), ("SET", "in2", 1),
                             ("EXEC",)])[-1] == ["OK"] * 3
        wait_for(lambda: info(raw)["log_state"] == "off")
        assert info(raw)["aof_enabled"] == "0"
        wait_for(lambda: info(raw)["rdb_saves"] == "1")  # of what there was when it was switched off
        raw("SET", "while-off", 1)
        assert raw("CONFIG", "SET", "appendonly", "yes") == "OK"
        assert raw.pipeline([("CONFIG", "SET", "appendonly", "no"), ("CONFIG", "SET", "appendonly", "yes")]) == ["OK"] * 2
        wait_for(lambda: info(raw)["log_state"] == "on")
        assert raw("SET", "at-the-end", 1) == "OK"
        digest = raw("DEBUG", "DIGEST")
        server.kill()
        server.check_log()
        names = sorted(p.name for p in (tmp_path / "appendonlydir").iterdir())
        # The generation before is kept.
        assert names == ["appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof", "appendonly.aof.2.base.rdb",
                         "appendonly.aof.2.incr.aof", "appendonly.aof.manifest"]
        server.start()
        # The snapshot that was made when it was switched off; what came later is in the log alone.
        assert server.client().dbsize() == 104 and not server.client().exists("while-off", "at-the-end")
        server.terminate()
        server.options["appendonly"] = "yes"
        server.start()
        assert server.raw()("DEBUG", "DIGEST") == digest


def test_messages_wait(library, tmp_path):
    """What is published, and what tells of keys, is held like replies while a write before it is not
    durable; the order of the messages stays; when the log fails they are dropped."""
    with Disk(library, tmp_path, notify_keyspace_events="KEA") as disk:
        sub, own, writer, other = (disk.server.raw() for _ in range(4))
        sub("SUBSCRIBE", "c", "__keyevent@0__:set")
        sub.read()
        own("HELLO", 3)
        own("SUBSCRIBE", "__keyevent@0__:set")
        assert other("PUBLISH", "c", "at-once") == 1
        assert sub.read() == [b"message", b"c", b"at-once"]
        disk.say("hang")
        writer.send(writer.encode(("SET", "k", 1)) + writer.encode(("PUBLISH", "c", "behind")))
        own.send(own.encode(("SET", "mine", 1)))
        assert silent(sub) and silent(own, 0.05) and silent(writer, 0.05)
        disk.say("")
        assert writer.read() == "OK" and writer.read() == 1
        got = [sub.read() for _ in range(3)]
        assert sorted(m[2] for m in got) == [b"behind", b"k", b"mine"]
        assert got.index([b"message", b"__keyevent@0__:set", b"k"]) < got.index([b"message", b"c", b"behind"])
        pushes = [own.read() for _ in range(3)]
        assert "OK" in pushes
        disk.say("sync")
        assert writer("SET", "lost", 1).startswith("MISCONF")
        disk.say("")
        wait_for(lambda: info(other)["log_state"] == "on")
        assert other("PUBLISH", "c", "works") == 1
        assert sub.read() == [b"message", b"c", b"works"]


def test_policy_at_run_time(library, tmp_path):
    """From everysec to always: from then on replies wait, and what was written before is synced."""
    with Disk(library, tmp_path, appendfsync="everysec") as disk:
        raw, other = disk.server.raw(), disk.server.raw()
        disk.say("hang")
        assert raw("SET", "a", 1) == "OK"
        assert int(info(other)["log_at_risk_writes"]) >= 1
        assert other("CONFIG", "SET", "appendfsync", "always") == "OK"
        raw.send(raw.encode(("SET", "b", 1)))
        assert silent(raw)
        disk.say("")
        assert raw.read() == "OK"
        assert info(other)["log_at_risk_bytes"] == "0"
        disk.say("hang")
        raw.send(raw.encode(("SET", "b", 2)))
        assert silent(raw)
        assert other("CONFIG", "SET", "appendfsync", "no") == "OK"
        disk.say("")
        assert raw.read() == "OK"
        assert raw("SET", "c", 1) == "OK"


@pytest.mark.parametrize("policy", ["no", "everysec"])
def test_policy_weakened_while_replies_wait(library, tmp_path, policy):
    """From always to no or everysec: whoever waits already gets his reply when his write is synced, be it the
    last that anybody syncs; nobody who comes later waits."""
    with Disk(library, tmp_path) as disk:
        first, second, other = (disk.server.raw() for _ in range(3))
        disk.say("hang")
        first.send(first.encode(("SET", "a", 1)))
        assert silent(first)
        # The sync that is under way does not have these.
        second.send(b"".join(second.encode(c) for c in (
            ("SET", "b", 1), ("GET", "b"), ("CONFIG", "SET", "appendfsync", policy), ("SET", "c", 1))))
        assert silent(second)
        assert other("SET", "d", 1) == "OK" and other("GET", "a") == b"1"
        disk.say("")
        assert first.read() == "OK"
        assert [second.read() for _ in range(4)] == ["OK", b"1", "OK", "OK"]
        assert info(other)["log_waiting_replies"] == info(other)["log_waiting_clients"] == "0"


def test_policies_change_under_load(tmp_path, rng):
    """The level changes again and again while clients write and read: everybody gets all his replies, in order;
    nobody waits in the end; and with always what is there is there after kill -9."""
    server = Server(options={"appendonly": "yes", "appendfsync": "always", "log-buffer-limit": "1mb"}, directory=tmp_path)
    stop, failures = threading.Event(), []

    def work(number, raw):
        counter, big = f"n{number}", "x" * 20000
        try:
            done = 0
            while not stop.is_set():
                replies = raw.pipeline([("INCR", counter), ("SET", f"big{number}", big), ("GET", f"big{number}"),
                                        ("GET", "n0"), ("INCR", counter)])
                if replies[:3] != [done + 1, "OK", big.encode()] or replies[4] != done + 2:
                    failures.append(replies)
                done += 2
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i, server.raw())) for i in range(8)]
    for thread in threads:
        thread.start()
    raw = server.raw()
    for i in range(60):
        assert raw("CONFIG", "SET", "appendfsync", rng.choice(["always", "no", "everysec"])) == "OK"
        if i % 20 == 10:
            raw("BGREWRITEAOF")
        time.sleep(rng.random() * 0.03)
    assert raw("CONFIG", "SET", "appendfsync", rng.choice(["no", "everysec"])) == "OK"
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    fields = info(raw)
    assert (fields["log_waiting_clients"], fields["log_waiting_replies"], fields["log_waiting_reply_bytes"]) == ("0",) * 3
    assert raw("CONFIG", "SET", "appendfsync", "always") == "OK" and raw("SET", "last", 1) == "OK"
    start_again(server)
    server.stop()


@pytest.mark.parametrize("wanted, state", [("yes", "starting"), ("no", "closing")])
def test_bounded_while_it_begins_or_ends(library, tmp_path, wanted, state):
    """The same bound holds while the log is switched on or off and its disk hangs."""
    with Disk(library, tmp_path, appendonly="no" if wanted == "yes" else "yes", appendfsync="no",
              log_buffer_limit="1mb") as disk:
        raw, other = disk.server.raw(), disk.server.raw()
        raw("SET", "k", 1)
        disk.say("hang")
        assert raw("CONFIG", "SET", "appendonly", wanted) == "OK"
        wait_for(lambda: info(other)["log_state"] == state and
                 (wanted == "no" or info(other)["aof_rewrite_in_progress"] == "1"))
        raw.send(b"".join(raw.encode(("SET", f"big{i}", "x" * 100000)) for i in range(40)))
        wait_for(lambda: info(other)["log_slowing_writers"] == "1")
        assert int(info(other)["aof_buffer_length"]) < 3 << 20
        assert other("DBSIZE") < 35 and other("GET", "k") == b"1"
        disk.say("")
        assert [raw.read() for _ in range(40)] == ["OK"] * 40
        wait_for(lambda: info(other)["log_state"] == ("on" if wanted == "yes" else "off"))
        assert other("DBSIZE") == 41


def test_what_waits_takes_bounded_memory(library, tmp_path):
    """Whoever waits for the disk and asks for ever more is put off beyond log-buffer-limit: his replies take no
    more memory. Who has nothing that waits is not, and in the end everybody gets everything, in order."""
    with Disk(library, tmp_path, log_buffer_limit="1mb") as disk:
        waits, reader = disk.server.raw(), disk.server.raw()
        value = "x" * 200000
        reader("SET", "big", value)
        disk.say("hang")
        waits.send(b"".join(waits.encode(c) for c in [("INCR", "n")] + [("GET", "big")] * 300 + [("INCR", "n")]))
        wait_for(lambda: int(info(reader)["log_waiting_reply_bytes"]) > 1 << 20)
        for _ in range(3):
            assert len(reader("GET", "big")) == 200000
        assert int(info(reader)["log_waiting_reply_bytes"]) < 2 << 20
        gone = disk.server.raw()
        gone.send(b"".join(gone.encode(c) for c in [("INCR", "m")] + [("GET", "big")] * 30))
        wait_for(lambda: info(reader)["log_waiting_clients"] == "2")
        gone.close()
        wait_for(lambda: info(reader)["log_waiting_clients"] == "1")
        disk.say("")
        assert waits.read() == 1
        for _ in range(300):
            assert waits.read() == value.encode()
        assert waits.read() == 2
        assert info(reader)["log_waiting_reply_bytes"] == "0"


def test_without_a_configuration_file(tmp_path):
    """Whoever starts it without a file has a log; one with a file has what Redis's defaults are."""
    with Server(directory=tmp_path, options={"appendonly": None}) as server:
        assert server.client().config_get("append*")["appendonly"] == "yes"
        assert server.client().config_get("append*")["appendfsync"] == "everysec"
        server.client().set("k", "v")
    assert (tmp_path / "appendonlydir").exists()
    (tmp_path / "c.conf").write_text("databases 4\n")
    with Server(directory=tmp_path, options={"appendonly": None}, args=[str(tmp_path / "c.conf")]) as server:
        assert server.client().config_get("appendonly") == {"appendonly": "no"}
        assert server.client().dbsize() == 0


# LATENCY HISTOGRAM has rows for the log's writes, syncs and commits, all or by name, as INFO has their percentiles.
def test_latency_histogram(tmp_path):
    with Server(options={"appendonly": "yes", "appendfsync": "always"}, directory=tmp_path) as server:
        r = server.raw()
        for i in range(20):
            r("SET", "k", i)
        rows = r("LATENCY", "HISTOGRAM")
        rows = dict(zip(rows[::2], rows[1::2]))
        assert {b"set", b"log|write", b"log|sync", b"log|commit"} <= set(rows)
        assert rows[b"log|sync"][1] >= 20
        for name in (b"log|write", b"log|sync", b"log|commit"):
            one = r("LATENCY", "HISTOGRAM", name)
            assert one[0] == name and len(one) == 2
            _, calls, _, buckets = one[1]
            assert buckets[1::2][-1] == calls > 0 and buckets[1::2] == sorted(buckets[1::2])
        r("CONFIG", "SET", "appendonly", "no")
        wait_for(lambda: info(r)["log_state"] == "off")
        assert r("LATENCY", "HISTOGRAM", "log|sync") == []


# With `always` a commit is part of what a client waits for: the latency that INFO tells of is not above that of the clients.
def test_commit_latency(tmp_path):
    with Server(options={"appendonly": "yes", "appendfsync": "always"}, directory=tmp_path) as server:
        r, took = server.raw(), []
        for i in range(400):
            begun = time.monotonic()
            r("SET", "k", i)
            took.append((time.monotonic() - begun) * 1e6)
        told = dict(each.split("=") for each in info(r)["log_commit_latency_usec"].split(","))
        assert 0 < int(told["p50"]) <= 1.25 * sorted(took)[200]


# More clients than a turn is split from, pipelined and in transactions, with `always`: each gets its replies, in order, and
# what was acknowledged is there after a kill.
def test_split_turns(tmp_path):
    clients, rounds = 60, 30
    server = Server(options={"appendonly": "yes", "appendfsync": "always"}, directory=tmp_path)
    raws = [server.raw() for _ in range(clients)]
    errors = []

    def run(n):
        try:
            for i in range(rounds):
                assert raws[n]("INCR", f"c{n}") == i + 1
                raws[n]("MULTI")
                raws[n]("RPUSH", f"l{n}", i)
                raws[n]("INCR", "all")
                assert raws[n]("EXEC")[0] == i + 1
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    server.kill()
    assert not errors
    with Server(options={"appendonly": "yes", "appendfsync": "always"}, directory=tmp_path) as again:
        r = again.raw()
        assert r("GET", "all") == b"%d" % (clients * rounds)
        for n in range(clients):
            assert r("GET", f"c{n}") == b"%d" % rounds
            assert r("LLEN", f"l{n}") == rounds
