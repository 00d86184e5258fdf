# SPDX-License-Identifier: BSD-3-Clause
"""What runs in the machine that is cut off (started by guest.sh): the server on the disk's file
system, and clients. Everything that is to outlive the machine goes out by its serial line, which is a
pipe of the host (machine.py): one line for each event.

    begun                           the server is about to be started
    up SECONDS                      the server answers
    data LSN DICT                   what it has, before anything is written
    s CLIENT N MS                   so many operations of a client are sent, written before they are
    a CLIENT MS REPLY               the oldest one is acknowledged
    i MS DURABLE WRITES REWRITES BUSY   INFO: log_durable_lsn, log_at_risk_writes, aof_rewrites,
                                    aof_rewrite_in_progress
    t MS                            time passes
    failed TEXT"""
import os
import pathlib
import random
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from history import History  # noqa: E402
from load import Load, dump, info, wait_ready  # noqa: E402

SAVES = [("BGSAVE",), ("BGREWRITEAOF",), ("BGREWRITEAOF",), ("HOLDFAST", "SNAPSHOT", "INCREMENTAL")]
LINE = os.open("/dev/ttyS0", os.O_WRONLY)


def say(text):
    data = (text + "\n").encode("latin-1")
    while data:
        data = data[os.write(LINE, data):]


def now_ms():
    return int(time.time() * 1000)


def main():
    program, policy, seed, life, clients = sys.argv[1:]
    socket_path = "/mnt/s"
    rng = random.Random(seed + life + "saves")
    # Half of the lives have one rewrite or save right behind the other.
    pause = rng.choice([0, 0.2])
    preamble = rng.choice(["yes", "no"])
    say("begun")
    with open("/mnt/data/log", "ab") as log:
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", socket_path, "--dir", "/mnt/data", "--save", "",
             "--appendonly", "yes", "--appendfsync", policy, "--aof-use-rdb-preamble", preamble],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        begun = time.monotonic()
        connection = wait_ready(socket_path, lambda: server.poll() is None)
        say(f"up {time.monotonic() - begun:.3f}")
        say(f"data {info(connection)['log_lsn']} {dump(connection)!r}")
        if clients == "0":
            time.sleep(1000)    # this one is cut off before anything is written
        history = History(seed, int(clients), big=False)
        history.life = int(life) - 1
        history.begin()
        lines = []

        def sent(client, count, ms):
            lines.append(f"s {client} {count} {ms}")
            out(lines)

        load = Load(history, socket_path, seed + life, depth=4, on_sent=sent,
                    on_acked=lambda client, reply, ms: lines.append(f"a {client} {ms} {reply!r}"))
        looked = saved = time.monotonic()
        while load.turn(0.01):
            lines.append(f"t {now_ms()}")
            out(lines)
            if time.monotonic() - looked > 0.05:
                fields = info(connection)
                say(f"i {now_ms()} {fields['log_durable_lsn']} {fields['log_at_risk_writes']} "
                    f"{fields['aof_rewrites']} {fields['aof_rewrite_in_progress']}")
                looked = time.monotonic()
            if time.monotonic() - saved > pause:
                connection(*rng.choice(SAVES))
                saved = time.monotonic()
        raise RuntimeError("the server has ended")
    except BaseException as error:
        say(f"failed {type(error).__name__}: {str(error)!r} {pathlib.Path('/mnt/data/log').read_text()[-3000:]!r}")


def out(lines):
    if lines:
        say("\n".join(lines))
        lines.clear()


if __name__ == "__main__":
    main()
