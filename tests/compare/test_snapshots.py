# SPDX-License-Identifier: BSD-3-Clause
"""Snapshots of random data while random commands change it: the file that comes of it, as redis-server
reads it, is what there was when BGSAVE was asked for; and the changes are as if no snapshot had been.

HF_SEED repeats a run, HF_SNAPSHOT_FIRST starts it at one of its rounds, HF_SNAPSHOT_SECONDS makes it longer."""
import os
import time

from harness import Server
from pair import Mismatch, Pair, describe
from sequences import Generator
from test_compare import known_commands

SECONDS = float(os.environ.get("HF_SNAPSHOT_SECONDS", 15))
FIRST = int(os.environ.get("HF_SNAPSHOT_FIRST", 0))

# What saves or loads itself, or waits for other servers.
LEFT_OUT = {"DEBUG", "MIGRATE"}


def in_progress(raw):
    text = raw("INFO", "persistence").decode()
    assert "rdb_last_bgsave_status:ok" in text
    return "rdb_bgsave_in_progress:1" in text


# Data, BGSAVE, changes while it is being written, and then the file.
def test_snapshots_of_random_data(seed):
    with Pair() as pair, Server("redis", directory=pair.servers[1].directory) as reader:
        known = known_commands(pair) - LEFT_OUT
        assert pair.both(0, [["CONFIG", "SET", "rdb-key-save-delay", 1500]])[1] == ["OK"]
        file, number, live = reader.raw(), FIRST, 0
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            before, after = (Generator(f"{seed}:{part}", number, known, large=0.4).sequence() for part in "ab")
            try:
                pair.run(before, whole=False)
                subject = pair.connection(1, 0)
                digest = subject("DEBUG", "DIGEST")
                assert subject("BGSAVE") == "Background saving started"
                pair.run(after, whole=True, afresh=False)
                subject = pair.connection(1, 0)
                live += in_progress(subject)
                while in_progress(subject):
                    time.sleep(0.002)
                assert file("DEBUG", "RELOAD", "NOSAVE") == "OK"
                if file("DEBUG", "DIGEST") != digest:
                    raise Mismatch("what the file holds is not what there was", ())
            except Mismatch as mismatch:
                raise AssertionError(f"HF_SEED={seed} HF_SNAPSHOT_FIRST={number}\n{mismatch}\n{describe(before)}\n"
                                     f"    BGSAVE\n{describe(after)}") from None
            number += 1
        print(f"{number - FIRST} rounds, in {live} of them the save outlasted all changes")
        assert number > FIRST and live > 0
