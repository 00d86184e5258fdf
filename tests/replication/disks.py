# SPDX-License-Identifier: BSD-3-Clause
"""A disk that is slow or fails when it is told to (tests/persist/disk.c, preloaded into a server of the plain build)."""
from harness import build_preloaded


class Disk:
    def __init__(self, directory):
        library, self.word = build_preloaded("persist/disk.c", directory), directory / "disk"
        self.prefix = ["env", f"LD_PRELOAD={library}", f"HF_DISK={self.word}"]
        self.say("")

    def say(self, text):
        self.word.with_suffix(".new").write_text(text)
        self.word.with_suffix(".new").rename(self.word)
