# SPDX-License-Identifier: BSD-3-Clause
"""A machine whose power can be cut: Debian's User Mode Linux, with an ext4 file system on a block
device that has a volatile cache (disk_cache.c). Killing it loses the page cache of its kernel, and
what the disk had not been told to flush; of that the platter gets nothing, everything, or some
sectors at random."""
import os
import pathlib
import select
import shutil
import signal
import struct
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
KERNEL = "/usr/bin/linux.uml"
IMAGE_MB = 192
UNDO_MB = 192
HEADER, RECORD = 32, 8 + 512


class Machine:
    def __init__(self, lies=False):
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-machine-", dir=place))
        self.image = self.directory / "disk"
        self.undo = self.directory / "undo"
        self.library = self.directory / "disk_cache.so"
        self.lies = lies
        self.process = None
        with open(self.image, "wb") as f:
            f.truncate(IMAGE_MB << 20)
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", self.image], check=True)
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o", self.library,
                        HERE / "disk_cache.c"], check=True)

    def boot(self, arguments):
        """`arguments` are guest.py's."""
        with open(self.undo, "wb") as f:
            f.truncate(0)
            f.truncate(UNDO_MB << 20)
        self.line, line_out = os.pipe()
        environment = dict(os.environ, LD_PRELOAD=str(self.library), HF_DISK_IMAGE=str(self.image),
                           HF_DISK_UNDO=str(self.undo), HOME=str(self.directory), TMPDIR=str(self.directory))
        if self.lies:
            environment["HF_DISK_LIES"] = "1"
        with open(self.directory / "console", "wb") as console, open(os.devnull, "rb") as nothing:
            self.process = subprocess.Popen(
                [KERNEL, "mem=192M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
                 f"init={HERE}/guest.sh", f"ubd0={self.image}", "con=null", "con0=null,fd:1", "ssl=null",
                 f"ssl0=fd:{nothing.fileno()},fd:{line_out}", f"HF_CODE={HERE}",
                 "HF_GUEST=" + ",".join(map(str, arguments))],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=environment,
                pass_fds=(nothing.fileno(), line_out), start_new_session=True)
        os.close(line_out)
        self.rest = b""

    def lines(self, seconds):
        """What came by the serial line within that time; [] at least once. Ends with EOFError when the
        machine is gone."""
        ready, _, _ = select.select([self.line], [], [], seconds)
        if not ready:
            return []
        data = os.read(self.line, 1 << 20)
        if not data:
            raise EOFError
        *whole, self.rest = (self.rest + data).split(b"\n")
        return [line.decode("latin-1") for line in whole]

    def cut(self):
        """The power goes. Returns what had still come by the line."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        lines = []
        try:
            while True:
                lines += self.lines(60)
        except EOFError:
            pass
        os.close(self.line)
        self.process = None
        return lines

    def settle(self, rng, keep):
        """Which of the sectors that were never flushed the platter has: each 4 KiB, which a disk of
        today writes whole, with the probability `keep` (smaller pieces would be more than ext4 promises to
        survive: its superblock has 1 KiB). Returns how many there were, and how many flushes before."""
        lost = {}
        with open(self.undo, "rb") as undo, open(self.image, "r+b") as image:
            count, flushes, _, _ = struct.unpack("<4Q", undo.read(HEADER))
            for _ in range(count):
                record = undo.read(RECORD)
                sector = struct.unpack_from("<Q", record)[0]
                if lost.setdefault(sector // 8, rng.random() >= keep):
                    image.seek(sector * 512)
                    image.write(record[8:])
        return count, flushes

    def console(self):
        return (self.directory / "console").read_text(errors="replace")[-3000:]

    def remove(self):
        if self.process is not None:
            self.cut()
        shutil.rmtree(self.directory, ignore_errors=True)
