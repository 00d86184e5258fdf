# SPDX-License-Identifier: BSD-3-Clause
"""A disk that is slow or fails when it is told to (tests/persist/disk.c, preloaded into a server of the plain build)."""
import os
import pathlib
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "persist" / "disk.c"


class Disk:
    def __init__(self, directory):
        library, self.word = directory / "disk.so", directory / "disk"
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        self.prefix = ["env", f"LD_PRELOAD={library}", f"HF_DISK={self.word}"]
        self.say("")

    def say(self, text):
        self.word.with_suffix(".new").write_text(text)
        self.word.with_suffix(".new").rename(self.word)
