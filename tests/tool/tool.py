# SPDX-License-Identifier: BSD-3-Clause
"""Running the offline tool, and files to run it on."""
import shutil
import subprocess

import harness
from harness import Server

REPORTS = harness.SANITIZER_REPORTS


def run(*args, status=0, plain=False):
    """Runs `holdfast ARGS`; returns what it wrote, as (output, errors) in bytes."""
    program = str((harness.PLAIN_BUILD if plain else harness.BUILD) / "holdfast")
    done = subprocess.run([program, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    errors = done.stderr.decode(errors="replace")
    assert not any(r in errors for r in REPORTS), errors[-4000:]
    assert done.returncode == status, (args, done.returncode, done.stdout[-2000:], errors[-2000:])
    return done.stdout, done.stderr


def saved(path, commands, kind="holdfast", **options):
    """The RDB file that a server of this kind makes of the commands, at `path`."""
    with Server(kind, **options) as server:
        raw = server.raw()
        for reply in raw.pipeline(commands):
            assert not isinstance(reply, harness.Error), reply
        assert raw("SAVE") == "OK"
        shutil.copy(server.directory / "dump.rdb", path)
    return path


def run_in_memory(most, *args):
    """Runs the build without sanitizers with at most so many bytes of memory, beyond which it would abort."""
    command = ["sh", "-c", f'ulimit -d {most // 1024}; exec "$@"', "sh", str(harness.PLAIN_BUILD / "holdfast"), *map(str, args)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 0, (args, done.returncode, done.stderr[-2000:])
