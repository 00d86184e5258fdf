# SPDX-License-Identifier: BSD-3-Clause
"""Power cuts: writes under load in a machine (machine.py), cuts it off, boots it again and compares with
what had been acknowledged, which was recorded outside.

    powercut.py [--cuts N | long] [--workers W] [--seed S] [--control]

`always` and `everysec` take turns. With `always` nothing acknowledged or shown may be missing; with
`everysec` what is there must be what had been done at one moment, at most one second before the
cut, not before what INFO had said to be durable, and no more writes may be gone than INFO had said to
be at risk and were acknowledged since.

The server is told to save, to make incremental snapshots and, most of all, to rewrite its log (with a base of
either form), so that many cuts fall into a rewrite; one in four machines is also cut off while it starts.

--control shows that the rig sees a loss: a disk that acknowledges flushes and forgets them."""
import argparse
import ast
import collections
import concurrent.futures
import os
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from history import History  # noqa: E402
from machine import Machine  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / os.environ.get("HOLDFAST_BUILD", "build") / "holdfast-server"
CUTS_A_DISK = 10
CLIENTS = 12
STARTS_CUT = 0.25
KEEP = [0.0, 0.5, 0.0, 0.9, 1.0]
BOOT_SECONDS = 180


class Run:
    """One disk and its cuts."""

    def __init__(self, seed, cuts, control):
        self.seed = seed
        self.cuts = cuts
        self.rng = random.Random(seed)
        self.machine = Machine(lies=control)
        self.history = History(seed, CLIENTS, big=False)
        self.counts = collections.Counter()
        self.longest_ms = 0
        self.durable_lsn = 0
        self.at_risk = None
        self.last_ms = 0
        self.policy = "always"
        self.rewrites = self.rewriting = 0
        self.start_seconds = 0.1

    def wait(self, what):
        """The line that begins so, and those behind it."""
        end = time.monotonic() + BOOT_SECONDS
        while True:
            lines = self.machine.lines(1)
            assert time.monotonic() < end, f"no {what}:\n{self.machine.console()}"
            for i, line in enumerate(lines):
                assert not line.startswith("failed"), line
                if line.split(" ", 1)[0] == what:
                    return line, lines[i + 1:]

    def cut(self, keep):
        """The power goes. Returns what had still come."""
        lines = self.machine.cut()
        sectors, flushes = self.machine.settle(self.rng, 0 if self.machine.lies else keep)
        self.counts["sectors not flushed"] += sectors
        self.counts["flushes"] += flushes
        self.counts["cuts with sectors not flushed"] += sectors > 0
        return lines

    def cut_start(self, policy):
        """Boot, and cut it off while the server starts."""
        self.machine.boot([PROGRAM, policy, self.seed, self.history.life + 1, 0])
        self.wait("begun")
        time.sleep(self.start_seconds * self.rng.random())
        up = any(line.startswith("up") for line in self.cut(self.rng.choice(KEEP)))
        self.counts["cuts when it was just up" if up else "cuts during a start"] += 1

    def boot(self, policy):
        """Boot and look at the data."""
        begun = time.monotonic()
        self.machine.boot([PROGRAM, policy, self.seed, self.history.life + 1, CLIENTS])
        up, lines = self.wait("up")
        # Seldom all of it comes at once.
        data = next(((line, lines[i + 1:]) for i, line in enumerate(lines) if line.startswith("data ")), None)
        line, rest = data or self.wait("data")
        _, lsn, text = line.split(" ", 2)
        self.start_seconds = float(up.split(" ")[1])
        self.counts["boot and look ms"] += int((time.monotonic() - begun) * 1000)
        self.look(ast.literal_eval(text), int(lsn))
        self.policy = policy
        self.history.begin()
        self.durable_lsn = int(lsn)
        self.at_risk = None
        return rest

    def look(self, data, lsn):
        assert lsn >= self.durable_lsn, f"INFO had {self.durable_lsn} as durable, and there is {lsn}"
        acknowledged, lost = self.history.check(data, durable=self.policy == "always")
        self.counts[f"{self.policy}: acknowledged"] += acknowledged
        self.counts[f"{self.policy}: lost"] += len(lost)
        if lost:
            age = self.last_ms - min(op.acked_ms for op in lost)
            self.longest_ms = max(self.longest_ms, age)
            assert age <= 1000, f"what was acknowledged {age} ms before the cut is gone"
            if self.at_risk is not None:
                writes, since = self.at_risk
                assert len(lost) <= writes + since, \
                    f"{len(lost)} are gone; INFO had {writes} at risk, and {since} came after it"

    def take(self, lines):
        """Events from the serial line."""
        for line in lines:
            kind, *rest = line.split(" ", 3)
            if kind == "s":
                client = self.history.clients[int(rest[0])]
                while len(client.ops) < int(rest[1]):
                    client.next()[0].sent_ms = int(rest[2])
                self.last_ms = int(rest[2])
            elif kind == "a":
                self.history.acknowledge(int(rest[0]), ast.literal_eval(rest[2]), int(rest[1]))
                self.last_ms = int(rest[1])
                self.counts["acknowledgements"] += 1
                if self.at_risk is not None:
                    self.at_risk[1] += 1
            elif kind == "i":
                ms, durable, writes, rewrites, rewriting = map(int, line.split(" ")[1:])
                self.durable_lsn = durable
                self.at_risk = [writes, 0]
                self.last_ms = ms
                self.counts["rewrites"] += rewrites - self.rewrites
                self.rewrites = rewrites
                self.rewriting = rewriting
            elif kind == "t":
                self.last_ms = int(rest[0])
            else:
                raise AssertionError(line)

    def run(self):
        try:
            for i in range(self.cuts):
                policy = ["always", "everysec"][(i + self.seed) % 2] if not self.machine.lies else "always"
                if not self.machine.lies and self.rng.random() < STARTS_CUT:
                    self.cut_start(policy)
                lines = self.boot(policy)
                # From the first acknowledgement to some seconds later.
                end = None
                before = self.counts["acknowledgements"]
                begun = time.monotonic()
                while end is None or time.monotonic() < end:
                    self.take(lines)
                    if end is None and self.counts["acknowledgements"] > before:
                        end = time.monotonic() + self.rng.choice([0.1, 1, 3]) * self.rng.random()
                    assert end or time.monotonic() < begun + BOOT_SECONDS, f"no writes:\n{self.machine.console()}"
                    lines = self.machine.lines(0.01)
                # Not at the moment at which something has just come, which is when a flush has ended.
                time.sleep(0.03 * self.rng.random())
                self.take(lines + self.cut(KEEP[(i // 2 + self.seed) % len(KEEP)]))
                self.counts["cuts, " + policy] += 1
                self.counts["cuts with a rewrite under way"] += self.rewriting
                self.rewrites = self.rewriting = 0
            self.boot("always")
        finally:
            self.machine.remove()


def disk_run(arguments):
    run = Run(*arguments)
    failure = None
    try:
        run.run()
    except Exception as error:  # whatever it is, the other disks go on
        failure = f"{type(error).__name__}: {error}"
    return run.seed, failure, run.counts, run.longest_ms


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cuts", nargs="?", default="20", help="how many, or `long`: 200")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("HF_SEED", time.time_ns() % (1 << 31))))
    parser.add_argument("--control", action="store_true")
    options = parser.parse_args(arguments)
    print(f"HF_SEED={options.seed}", flush=True)
    begun = time.monotonic()
    if options.control:
        _, failure, _, _ = disk_run((options.seed, 2, True))
        print("seen:", (failure or "FAILED: nothing was missed").splitlines()[0])
        return 0 if failure and ("operations fits" in failure or "as durable" in failure) else 1
    cuts = 200 if options.cuts == "long" else int(options.cuts)
    per = min(CUTS_A_DISK, max(1, cuts // options.workers))
    jobs = [(options.seed + i, min(per, cuts - at), False) for i, at in enumerate(range(0, cuts, per))]
    total, failures, longest = collections.Counter(), 0, 0
    with concurrent.futures.ProcessPoolExecutor(options.workers) as pool:
        for seed, failure, counts, longest_ms in pool.map(disk_run, jobs):
            total.update(counts)
            longest = max(longest, longest_ms)
            if failure:
                failures += 1
                print(f"FAILED with seed {seed}: {failure}", flush=True)
    print(f"{total['cuts, always'] + total['cuts, everysec']} power cuts, {CLIENTS} clients, "
          f"{time.monotonic() - begun:.0f} s; {failures} of {len(jobs)} disks failed; "
          f"the oldest write lost with everysec was acknowledged {longest} ms before its cut")
    for name, count in sorted(total.items()):
        print(f"  {name}: {count}")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
