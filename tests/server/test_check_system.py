# SPDX-License-Identifier: BSD-3-Clause
"""holdfast-server --check-system."""
import re
import subprocess

from harness import BUILD


def check(directory, *args):
    done = subprocess.run([str(BUILD / "holdfast-server"), "--check-system", "--dir", str(directory), *args],
                          capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


# Each check says how it stands; the status says whether one warns, and each warning says what to do.
def test_lines(tmp_path):
    status, text = check(tmp_path)
    lines = text.splitlines()
    heads = [line for line in lines if not line.startswith("      ")]
    assert all(re.match(r"(ok  |WARN|skip)  \S", line) for line in heads)
    warnings = [i for i, line in enumerate(lines) if line.startswith("WARN")]
    assert status == (1 if warnings else 0)
    assert all(lines[i + 1].startswith("      ") for i in warnings)
    for word in ("overcommit", "huge pages", "swap", "somaxconn", "open files", "memory:", "clock source",
                 "file system of", "disk space", "fdatasync in"):
        assert any(word in line for line in heads), word
    assert list(tmp_path.iterdir()) == []


# What the configuration asks for and the machine does not have is a warning.
def test_warnings(tmp_path):
    status, text = check(tmp_path, "--tcp-backlog", "2000000000", "--maxmemory", "900000gb", "--maxclients", "4000000000")
    assert status == 1
    for word in ("net.core.somaxconn is", "memory: ", "open files: "):
        assert re.search(rf"^WARN  {word}", text, re.M), text
