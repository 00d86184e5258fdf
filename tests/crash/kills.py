# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 at random instants, a restart, and a comparison with what was acknowledged and shown.

    kills.py [--kills N] [--workers W] [--seed S] [--clients C] [--control]

Each worker has directories of its own, one after the other; in each the server is killed some
twenty times, so that what one recovery left is what the next one finds. Meanwhile the server is
told to save, to make incremental snapshots, to rewrite its log (with a base of either form), to turn the
log off and on; and it is also killed while it starts. One directory in five has `appendfsync everysec`, where what is there
must be what had been done at one moment, not before what INFO had said to be durable.

--control shows that a loss is seen: the server runs with `everysec`, and what it acknowledged is
looked for as if it had been `always`, until something is missing."""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from history import SHORT_MS, History  # noqa: E402
from load import Failed, Load, dump, info, wait_ready  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / os.environ.get("HOLDFAST_PLAIN_BUILD", os.environ.get("HOLDFAST_BUILD", "build")) / "holdfast-server"
KILLS_A_DIRECTORY = 20


class Disturbed:
    """What happens beside the load: one thing at a time, chosen at random."""

    def __init__(self, run, connection):
        self.run = run
        self.connection = connection
        self.next = 0
        self.waits_for_on = False
        self.asked = collections.Counter()

    def turn(self, now):
        """Called between two turns of the load."""
        rng, run = self.run.rng, self.run
        if now < self.next:
            return
        self.next = now + rng.choice([0.005, 0.02, 0.05])
        acked = run.history.acked()
        fields = info(self.connection)
        if not self.waits_for_on and fields["log_state"] == "on":
            run.durable_lsn = max(run.durable_lsn, int(fields["log_durable_lsn"]))
            run.at_risk = int(fields["log_at_risk_writes"]), acked
        if self.waits_for_on:
            if fields["log_state"] == "on":
                run.history.promises(True)
                self.waits_for_on = False
            return
        what = rng.choice(["save", "save", "incremental", "full", "rewrite", "rewrite", "switch", "nothing", "nothing"])
        self.asked[what] += 1
        if what == "save":
            self.connection("BGSAVE")
        elif what == "incremental":
            self.connection("HOLDFAST", "SNAPSHOT", "INCREMENTAL")
        elif what == "full":
            self.connection("HOLDFAST", "SNAPSHOT", "FULL")
        elif what == "rewrite":
            self.connection("BGREWRITEAOF")
        elif what == "switch" and rng.random() < 0.3:
            # From here on nothing is promised, until INFO says that the log is on again.
            run.history.promises(False)
            run.switched = True
            self.waits_for_on = True
            for value in ("no", "yes"):
                reply = self.connection("CONFIG", "SET", "appendonly", value)
                assert reply == "OK", reply
                time.sleep(rng.choice([0, 0, 0.005]))


class Run:
    """One directory and its kills."""

    def __init__(self, seed, kills, clients, directory, control):
        self.rng = random.Random(seed)
        self.seed = seed
        self.kills = kills
        self.directory = directory
        self.policy = "everysec" if seed % 5 == 4 and not control else "always"
        self.control = control
        self.history = History(seed, clients)
        self.socket_path = str(directory / "s")
        self.durable_lsn = 0
        self.at_risk = None  # INFO's number of writes, and how many operations were acknowledged before
        self.killed = 0
        self.switched = False
        self.counts = collections.Counter()

    def start(self):
        # Without promises the log may be turned off: what is started is always `yes`.
        command = [str(PROGRAM), "--port", "0", "--unixsocket", self.socket_path, "--dir", str(self.directory),
                   "--save", "", "--appendonly", "yes", "--appendfsync", "everysec" if self.control else self.policy,
                   "--aof-use-rdb-preamble", self.rng.choice(["yes", "no"])]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.killed = time.monotonic()

    def look(self):
        """Start, and compare. The connection is left open for who goes on."""
        while self.rng.random() < 0.3:
            # First a start that does not come to its end.
            self.start()
            time.sleep(self.rng.choice([0.002, 0.005, 0.01, 0.02, 0.04]) * self.rng.random() * 2)
            assert self.process.poll() is None, "the server has ended by itself"
            self.kill()
            self.counts["kills during a start"] += 1
        begun = time.monotonic()
        self.start()
        connection = wait_ready(self.socket_path, lambda: self.process.poll() is None)
        self.counts["start ms"] += int((time.monotonic() - begun) * 1000)
        # What expires soon has expired by then; a start may take less.
        time.sleep(max(0, self.killed + 2 * SHORT_MS / 1000 - time.monotonic()))
        data = dump(connection)
        lsn = int(info(connection)["log_lsn"])
        if not self.switched:
            assert lsn >= self.durable_lsn, f"INFO had {self.durable_lsn} as durable, and there is {lsn}"
        acknowledged, lost = self.history.check(data, durable=self.policy == "always")
        if not self.switched and self.policy != "always" and self.at_risk is not None:
            writes, acked = self.at_risk
            assert len(lost) <= writes + acknowledged - acked, \
                f"{len(lost)} are gone; INFO had {writes} at risk, {acknowledged - acked} were acknowledged since"
        self.at_risk = None
        self.counts["acknowledged"] += acknowledged
        # With `always` these are what was written while the log was being turned off and on.
        self.counts["not promised and gone, " + self.policy] += len(lost)
        self.counts["looks with " + self.policy] += 1
        self.durable_lsn = lsn
        self.switched = False
        return connection

    def life(self):
        connection = self.look()
        self.history.begin()
        load = Load(self.history, self.socket_path, self.rng.random())
        beside = Disturbed(self, connection)
        begun = time.monotonic()
        end = begun + self.rng.choice([0.02, 0.1, 0.2, 0.4]) * self.rng.random() * 2
        while time.monotonic() < end or load.acknowledged == 0:
            assert load.turn(0.002), "the server has ended by itself"
            beside.turn(time.monotonic())
            assert time.monotonic() < begun + 120, "nothing is acknowledged"
        self.kill()
        load.close()
        connection.close()
        self.counts["kills under load"] += 1
        for what, count in beside.asked.items():
            self.counts["asked: " + what] += count

    def run(self):
        try:
            for _ in range(self.kills):
                self.life()
            self.look().close()
            tool = subprocess.run([PROGRAM.parent / "holdfast", "check", self.directory], capture_output=True, text=True)
            assert tool.returncode in (0, 1) and "panic" not in tool.stderr, tool.stderr
        finally:
            self.kill()
        return self.counts


def directory_run(arguments):
    seed, kills, clients, control = arguments
    # Every other one on a file system in memory, whose syncs take no time, so that other instants are hit.
    place = "/dev/shm" if seed % 2 and os.access("/dev/shm", os.W_OK) else None
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-kills-", dir=place))
    run = Run(seed, kills, clients, directory, control)
    try:
        counts = run.run()
    except Exception as error:  # whatever it is, the others go on
        if control:
            shutil.rmtree(directory, ignore_errors=True)
            return seed, str(error), run.counts
        log = (directory / "log").read_text(errors="replace")[-3000:]
        return seed, f"{type(error).__name__}: {error}\n{directory} ({run.policy}) is kept; its log ends with:\n{log}", run.counts
    shutil.rmtree(directory, ignore_errors=True)
    return seed, None, counts


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("HF_SEED", time.time_ns() % (1 << 31))))
    parser.add_argument("--control", action="store_true")
    options = parser.parse_args(arguments)
    print(f"HF_SEED={options.seed}", flush=True)
    if options.control:
        for i in range(50):
            _, failure, counts = directory_run((options.seed + i, 2, options.clients, True))
            if failure and "operations fits" in failure:
                print("seen:", failure.splitlines()[0])
                return 0
        print("FAILED: nothing was missed")
        return 1
    begun = time.monotonic()
    per = min(KILLS_A_DIRECTORY, max(1, options.kills // max(2, options.workers)))
    jobs = []
    left = options.kills
    while left > 0:
        jobs.append((options.seed + len(jobs), min(per, left), options.clients, False))
        left -= per
    total, failures = collections.Counter(), 0
    with concurrent.futures.ProcessPoolExecutor(options.workers) as pool:
        for seed, failure, counts in pool.map(directory_run, jobs):
            total.update(counts)
            if failure:
                failures += 1
                print(f"FAILED with seed {seed}: {failure}", flush=True)
    print(f"{total['kills under load']} kills under load and {total['kills during a start']} during a start, "
          f"{options.clients} clients, {time.monotonic() - begun:.0f} s; {failures} of {len(jobs)} directories failed")
    for name, count in sorted(total.items()):
        print(f"  {name}: {count}")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
