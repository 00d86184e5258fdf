# SPDX-License-Identifier: BSD-3-Clause
"""Several snapshots live at the same time, one after the other for as long as it takes: BGSAVE, incremental ones, rewrites of
the log and full resynchronisations of replicas, each begun and ended whenever it comes, beside writers that never rest. Each
file holds what there was when it was asked for, and nothing is kept for a snapshot that has ended.

HF_TOGETHER_SECONDS makes it longer; HF_SEED repeats what is written, though not when."""
import contextlib
import os
import pathlib
import random
import shutil
import tempfile
import threading
import time

from harness import PATIENCE, Error, Server, wait_for
from large_values import SOON, Commands

SECONDS = float(os.environ.get("HF_TOGETHER_SECONDS", 4))
KEPT = os.environ.get("HF_TOGETHER_KEEP")  # where a file that is wrong is left

DELAYS = (0, 0, 20, 100)  # of a save, in us a key


def info(raw, section):
    lines = raw("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


class Gate:
    """Lets its users through, or holds them all back."""

    def __init__(self):
        self.condition = threading.Condition()
        self.alone = threading.Lock()  # of who holds them back
        self.inside, self.is_open = 0, True

    def __enter__(self):
        with self.condition:
            self.condition.wait_for(lambda: self.is_open)
            self.inside += 1

    def __exit__(self, *_):
        with self.condition:
            self.inside -= 1
            self.condition.notify_all()

    def close(self):
        """On return nobody is inside."""
        with self.condition:
            self.is_open = False
            self.condition.wait_for(lambda: self.inside == 0)

    def open(self):
        with self.condition:
            self.is_open = True
            self.condition.notify_all()

    @contextlib.contextmanager
    def closed(self):
        with self.alone:
            self.close()
            try:
                yield
            finally:
                self.open()


class Reader:
    """A server that reads files and says what they hold."""

    def __init__(self):
        self.server = Server("holdfast", plain=True)
        self.raw = self.server.raw()

    def digest(self, path):
        shutil.copy(path, self.server.directory / "dump.rdb")
        reply = self.raw("DEBUG", "RELOAD", "NOSAVE")
        assert reply == "OK", (reply, self.server.text()[-2000:])
        return self.raw("DEBUG", "DIGEST")

    def close(self):
        self.raw.close()
        self.server.stop()


def digest_of_start(files, options):
    """What a server holds that starts over these files: (path, name in its directory)."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-together-"))
    for path, name in files:
        (directory / name).parent.mkdir(exist_ok=True)
        if isinstance(path, str):
            (directory / name).write_text(path)
        else:
            shutil.copy(path, directory / name)
    with Server(directory=directory, plain=True, options=options) as server:
        raw = server.raw()
        found = raw("DEBUG", "DIGEST")
        raw.close()
    shutil.rmtree(directory)
    return found


class Job(threading.Thread):
    """Does its work again and again until it is told to stop; what goes wrong is kept for who joins it."""

    def __init__(self, server, seed, gate, resync):
        super().__init__(daemon=True)
        self.gate, self.resync = gate, resync  # of writers; of full resynchronisations
        self.server, self.rng = server, random.Random(f"{seed} {type(self).__name__}")
        self.raw = server.raw()
        self.stopping, self.count, self.error = False, 0, None
        self.counts = {}
        self.begin()
        self.start()

    def begin(self):
        pass

    def run(self):
        try:
            while not self.stopping:
                self.work()
                self.count += 1
        except BaseException as e:  # noqa: BLE001
            self.error = e

    def finish(self):
        self.stopping = True
        self.join(PATIENCE * 2)
        assert not self.is_alive(), f"{type(self).__name__} does not end"
        self.raw.close()
        self.end()

    def end(self):
        pass

    def field(self, name):
        return info(self.raw, "persistence")[name]

    def moment(self, *command):
        """Begin something; returns the digest of what it has to hold, or None: it is not possible now. Of what has expired
        a digest still has what has not been removed yet, and a file that is loaded has nothing: so there is none."""
        commands = [("SELECT", SOON), ("FLUSHDB",), ("DEBUG", "DIGEST"), command]
        with self.gate.closed():
            replies = self.raw.pipeline(commands)
        digest, reply = replies[2:]
        if isinstance(reply, Error):
            assert "already in progress" in reply or "another snapshot" in reply, reply
            return None
        assert "started" in str(reply), reply
        return digest

    def compare(self, found, expected, path):
        if found != expected:
            if KEPT:
                shutil.copy(path, KEPT)
            raise AssertionError(f"{type(self).__name__}: {path} holds {found} and not {expected}")
        self.counts[path.suffix] = self.counts.get(path.suffix, 0) + 1

    def rest(self):
        """So that now and then nothing is live, and which snapshot is the oldest changes."""
        time.sleep(self.rng.choice((0, 0.01, 0.1, 0.3)))


class Writer(Job):
    def begin(self):
        self.commands = Commands(f"{self.rng.random()}")

    def work(self):
        with self.gate:
            for reply in self.raw.pipeline(self.commands.group()):
                assert not isinstance(reply, Error) or not reply.startswith(("MISCONF", "OOM", "ERR syntax", "ERR unknown")), reply


class Saver(Job):
    """Full and incremental snapshots, which cannot be taken at the same time."""

    def begin(self):
        self.reader = Reader()

    def end(self):
        self.reader.close()

    def work(self):
        self.raw("CONFIG", "SET", "rdb-key-save-delay", self.rng.choice(DELAYS))
        if self.rng.random() < 0.5 or self.field("chain_next_is_full_as") != "":
            expected = self.moment("BGSAVE")
            if expected is not None:
                wait_for(lambda: self.field("rdb_bgsave_in_progress") == "0")
                assert self.field("rdb_last_bgsave_status") == "ok"
                path = self.server.directory / "dump.rdb"
                self.compare(self.reader.digest(path), expected, path)
        else:
            expected = self.moment("HOLDFAST", "SNAPSHOT", "INCREMENTAL")
            if expected is not None:
                wait_for(lambda: self.field("chain_incremental_in_progress") == "0")
                assert self.field("chain_last_incremental_status") == "ok", self.field("chain_last_incremental_error")
                folder = self.server.directory
                deltas = sorted(folder.glob("*.delta"), key=lambda p: p.stat().st_mtime)
                found = digest_of_start([(p, p.name) for p in (folder / "dump.rdb.chain", folder / "dump.rdb", *deltas)], {})
                self.compare(found, expected, deltas[-1])
        self.rest()


class Rewriter(Job):
    def begin(self):
        self.reader = Reader()

    def end(self):
        self.reader.close()

    def work(self):
        self.raw("CONFIG", "SET", "aof-use-rdb-preamble", self.rng.choice(("yes", "yes", "no")))
        expected = self.moment("BGREWRITEAOF")
        if expected is not None:
            wait_for(lambda: self.field("aof_rewrite_in_progress") == "0")
            assert self.field("aof_last_bgrewrite_status") == "ok"
            folder = self.server.directory / "appendonlydir"
            line = next(x for x in (folder / "appendonly.aof.manifest").read_text().splitlines() if x.endswith("type b"))
            path = folder / line.split()[1]
            if path.suffix == ".rdb":
                found = self.reader.digest(path)
            else:
                files = [(path, f"appendonlydir/{path.name}"), (line + "\n", "appendonlydir/appendonly.aof.manifest")]
                found = digest_of_start(files, {"appendonly": "yes"})
            self.compare(found, expected, path)
        self.rest()


class Replica(Job):
    """A replica that leaves its primary, goes its own way, and comes back: what it has is of no use then. It saves what it
    has, too, while other data come."""
    load = "disabled"

    def begin(self):
        self.replica = Server("holdfast", options={"repl-diskless-load": self.load, "repl-diskless-sync-delay": 0}, plain=self.load != "swapdb")
        self.there = self.replica.raw()

    def end(self):
        self.there.close()
        self.replica.stop()

    def work(self):
        with self.resync:
            there, count = self.there, int(info(self.raw, "stats")["sync_full"])
            if self.rng.random() < 0.5:
                there("CONFIG", "SET", "rdb-key-save-delay", 100)
                there("BGSAVE")
            assert there("REPLICAOF", "NO", "ONE") == "OK"
            there("FLUSHALL") if self.rng.random() < 0.3 else there("SET", "mine", 1)
            assert there("REPLICAOF", "127.0.0.1", self.server.port) == "OK"
            wait_for(lambda: info(there, "replication")["master_link_status"] == "up")
            assert int(info(self.raw, "stats")["sync_full"]) > count
        self.rest()


class LoadingReplica(Replica):
    load = "swapdb"


class SlowReplica(Job):
    """Somebody who asks for everything, and takes it slowly or not at all: its snapshot is the oldest for long."""

    def work(self):
        stranger = self.server.raw()
        stranger.socket.settimeout(0.3)
        stranger.send(stranger.encode(("PSYNC", "?", "-1")))
        for _ in range(self.rng.choice((0, 3, 100))):
            try:
                stranger.socket.recv(1 << 16)
            except OSError:
                break
            time.sleep(0.01)
        stranger.close()
        self.rest()


def in_step(primary, replica):
    a, b = info(primary, "replication"), info(replica, "replication")
    return b["master_link_status"] == "up" and a["master_repl_offset"] == b["master_repl_offset"]


def contents(raw):
    found = {}
    for db in range(10):
        raw("SELECT", db)
        for key in raw("KEYS", "*"):
            found[db, key] = raw.pipeline([("DEBUG", "DIGEST-VALUE", key), ("PEXPIRETIME", key), ("TYPE", key)])
    raw("SELECT", 0)
    return found


def compare_replica(raw, there):
    """While nobody writes. Keys may expire one by one meanwhile."""
    def is_same():
        return in_step(raw, there) and raw("DEBUG", "DIGEST") == there("DEBUG", "DIGEST")
    try:
        wait_for(is_same, 30)
    except AssertionError:
        assert in_step(raw, there)
        mine, theirs = contents(raw), contents(there)
        differ = [p for p in {*mine, *theirs} if mine.get(p) != theirs.get(p)]
        raise AssertionError([(p, mine.get(p), theirs.get(p)) for p in differ[:5]]) from None


def is_idle(raw):
    fields = info(raw, "persistence")
    return all(fields[name] == "0" for name in ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "chain_incremental_in_progress",
                                                "aof_rewrite_scheduled"))


def pending(raw):
    return int(info(raw, "memory")["lazyfree_pending_objects"])


def used(raw):
    return int(info(raw, "memory")["used_memory"])


def save_nothing(raw):
    """An empty snapshot, so that the chain remembers no names."""
    assert raw("FLUSHALL") == "OK"
    wait_for(lambda: is_idle(raw))
    wait_for(lambda: raw("BGSAVE") == "Background saving started")
    wait_for(lambda: is_idle(raw))
    assert raw("BGREWRITEAOF").startswith("Background")
    wait_for(lambda: is_idle(raw) and pending(raw) == 0)


def test_snapshots_together(seed):
    rng = random.Random(seed)
    options = {"appendonly": "yes", "appendfsync": "everysec", "auto-aof-rewrite-percentage": 0, "snapshot-chain-max": 5,
               "repl-diskless-sync-delay": 0, "repl-backlog-size": "64kb", "snapshot-threads": rng.choice((1, 2)), "databases": 10}
    with Server(options=options) as server:
        raw = server.raw()
        moving = rng.random() < 0.5
        if moving:
            assert raw("DEBUG", "DEFRAG-EVERYTHING", 1) == "OK"
        save_nothing(raw)
        at_first = used(raw)
        gate, resync = Gate(), Gate()
        jobs = []
        for n, kind in enumerate((Writer, Writer, Saver, Rewriter, Replica, LoadingReplica, SlowReplica)):
            jobs.append(kind(server, f"{seed} {n}", gate, resync))
        most, largest, end = 0, 0, time.monotonic() + SECONDS
        try:
            turn = time.monotonic()
            while time.monotonic() < end and all(j.is_alive() for j in jobs):
                time.sleep(0.1)
                most, largest = max(most, pending(raw)), max(largest, used(raw))
                if time.monotonic() > turn + 2:
                    # What the replicas got, and all that came behind it.
                    with resync.closed(), gate.closed():
                        for job in jobs:
                            if isinstance(job, Replica):
                                compare_replica(raw, job.there)
                    turn = time.monotonic()
        finally:
            for job in jobs:
                job.stopping = True
            for job in jobs:
                job.finish()
            for job in jobs:
                if job.error is not None:
                    raise job.error
        print(f"moving {moving}, at most {most} waited, {largest >> 20} MiB;", {type(j).__name__: j.counts or j.count for j in jobs})
        # Nobody reads any more: nothing is kept.
        wait_for(lambda: is_idle(raw) and pending(raw) == 0)
        raw("SELECT", SOON)
        raw("FLUSHDB")
        wait_for(lambda: info(raw, "persistence")["log_at_risk_bytes"] == "0")
        log = server.directory / "appendonlydir"
        assert digest_of_start([(p, f"appendonlydir/{p.name}") for p in log.iterdir()], {"appendonly": "yes"}) == raw("DEBUG", "DIGEST")
        save_nothing(raw)
        assert used(raw) < at_first + (2 << 20)
