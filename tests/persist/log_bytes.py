# SPDX-License-Identifier: BSD-3-Clause
"""Files of a log, written by hand: as Holdfast's writer writes them (src/persist/log/annotation.h), and
as redis-server does."""

TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
    TABLE.append(n)

HISTORY = "0123456789abcdef0123456789abcdef01234567"


def crc32c(data, crc=0):
    crc ^= 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def request(*args):
    out = b"*%d\r\n" % len(args)
    for arg in args:
        arg = arg if isinstance(arg, bytes) else str(arg).encode()
        out += b"$%d\r\n%s\r\n" % (len(arg), arg)
    return out


class Log:
    """The bytes of one incremental file."""

    def __init__(self, lsn=0, crc=0, ms=1):
        self.data, self.lsn, self.crc, self.summed = b"", lsn, crc, 0
        self._finish(b"#HF1 log %d %d %s %08x " % (lsn, ms, HISTORY.encode(), crc))

    def _finish(self, line):
        self.data += line
        self.crc = crc32c(self.data[self.summed:], self.crc)
        self.data += b"%08x\r\n" % self.crc
        self.summed = len(self.data)

    def group(self, *commands, ms=1000):
        self.data += b"#HF1 group %d\r\n" % self.lsn
        for command in commands:
            bytes_ = request(*command.split())
            self.data += bytes_
            self.lsn += len(bytes_)
        self._finish(b"#HF1 commit %d %d " % (self.lsn, ms))
        return self

    def close(self, ms=2000):
        self._finish(b"#HF1 close %d %d " % (self.lsn, ms))
        return self


def manifest(*lines):
    data = b"".join(line.encode() + b"\n" for line in lines)
    return data + b"#HF1 %08x\n" % crc32c(data)


def write_directory(directory, *logs, name="appendonly.aof"):
    """An append-only directory of these incrementals, without a base."""
    path = directory / "appendonlydir"
    path.mkdir()
    names = [f"{name}.{i}.incr.aof" for i in range(1, len(logs) + 1)]
    for file, log in zip(names, logs):
        (path / file).write_bytes(log.data if isinstance(log, Log) else log)
    (path / f"{name}.manifest").write_bytes(
        manifest(*(f"file {file} seq {i} type i" for i, file in enumerate(names, 1))))
    return path
