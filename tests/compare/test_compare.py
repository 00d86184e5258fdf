# SPDX-License-Identifier: BSD-3-Clause
"""The same random commands to redis-server and Holdfast: every reply and all data at the end are equal.

HF_SEED repeats a run, HF_COMPARE_FIRST starts it at one of its sequences, HF_COMPARE_SECONDS makes it
longer, HF_COMPARE_FAILURES says after how many failures it ends, HF_SUBJECT=redis compares
redis-server with itself, which shows that a difference is not the test's own."""
import os
import time

import generators
from pair import Pair, describe
from sequences import Generator

# So many sequences, or for so long: the number is what makes a run with a seed the same on every machine.
SEQUENCES = int(os.environ.get("HF_COMPARE_SEQUENCES", 1200))
SECONDS = float(os.environ.get("HF_COMPARE_SECONDS", 0))
FIRST = int(os.environ.get("HF_COMPARE_FIRST", 0))
FAILURES = int(os.environ.get("HF_COMPARE_FAILURES", 5))
SUBJECT = os.environ.get("HF_SUBJECT", "holdfast")


def known_commands(pair):
    """The names that both servers know, subcommands with a blank between."""
    names = set()
    for i in (0, 1):
        found = {n.decode().upper().replace("|", " ") for n in pair.connection(i, 0)("COMMAND", "LIST")}
        for container in ("CLIENT", "CONFIG", "OBJECT", "MEMORY", "COMMAND", "XGROUP", "XINFO", "SCRIPT", "FUNCTION"):
            reply = pair.connection(i, 0)("COMMAND", "INFO", container)
            if reply and isinstance(reply[0], list):
                found |= {row[0].decode().upper().replace("|", " ") for row in reply[0][9]}
        names = names & found if names else found
    return names


# Every command of the table is generated, or it is named where it is tested instead.
def test_every_command_has_a_generator():
    rows = generators.table_rows()
    containers = {name.split()[0] for name in rows if " " in name}
    newer = {name for name, row in rows.items() if tuple(map(int, row["since"].split("."))) > (7, 0, 99)}
    missing = set(rows) - containers - newer - set(generators.ALL) - set(generators.LEFT_OUT)
    assert not missing, f"neither in generators.ALL nor in generators.LEFT_OUT: {sorted(missing)}"


# Thousands of random sequences: equal replies, equal data.
def test_random_sequences(seed):
    with Pair(subject=SUBJECT) as pair:
        failures = run(pair, seed)
    assert not failures, "\n\n".join(failures)


def run(pair, seed, sequences=SEQUENCES):
    known = known_commands(pair)
    failures, seen = [], set()
    end = time.monotonic() + SECONDS
    number, commands = FIRST, 0
    while (time.monotonic() < end if SECONDS else number < FIRST + sequences) and len(failures) < FAILURES:
        sequence = Generator(seed, number, known).sequence()
        mismatch = pair.mismatch(sequence, whole=number % 10 == 0)
        if mismatch and mismatch.signature not in seen:
            seen.add(mismatch.signature)
            small, how = pair.minimise(sequence, mismatch)
            seen.add(how.signature)
            failures.append(f"HF_SEED={seed} HF_COMPARE_FIRST={number}\n{how}\n{describe(small)}")
        commands += len(sequence.steps)
        number += 1
    print(f"{number - FIRST} sequences of {commands} steps")
    assert number > FIRST
    return failures
