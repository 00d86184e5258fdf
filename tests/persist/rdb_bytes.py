# SPDX-License-Identifier: BSD-3-Clause
"""RDB files made by hand, byte by byte, in the encodings of every version of the format."""
import struct

POLYNOMIAL = 0x95AC9329AC4BC9B5  # Jones, reflected
TABLE = []
for i in range(256):
    v = i
    for _ in range(8):
        v = v >> 1 ^ (POLYNOMIAL if v & 1 else 0)
    TABLE.append(v)


def crc64(data):
    crc = 0
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc


def length(n):
    if n < 1 << 6:
        return bytes([n])
    if n < 1 << 14:
        return struct.pack(">H", n | 1 << 14)
    if n < 1 << 32:
        return b"\x80" + struct.pack(">I", n)
    return b"\x81" + struct.pack(">Q", n)


def string(s):
    return length(len(s)) + s


def integer(n):
    """A string that is an integer, in its special encoding."""
    if -128 <= n < 128:
        return b"\xc0" + struct.pack("<b", n)
    if -32768 <= n < 32768:
        return b"\xc1" + struct.pack("<h", n)
    return b"\xc2" + struct.pack("<i", n)


def lzf_literal(s):
    """LZF-compressed without any matches: runs of at most 32 literal bytes."""
    out = b""
    for i in range(0, len(s), 32):
        run = s[i:i + 32]
        out += bytes([len(run) - 1]) + run
    return b"\xc3" + length(len(out)) + length(len(s)) + out


def lzf_run(byte, n):
    """n (10..264 + 1) equal bytes: one literal and one overlapping match."""
    match = n - 1
    out = bytes([0]) + byte + bytes([7 << 5, match - 9, 0])
    return b"\xc3" + length(len(out)) + length(n) + out


def ziplist(items):
    body, before, last = b"", 0, 10
    for item in items:
        last = 10 + len(body)
        head = bytes([before]) if before < 254 else b"\xfe" + struct.pack("<I", before)
        if isinstance(item, int):
            if 0 <= item <= 12:
                data = bytes([0xF1 + item])
            elif -128 <= item < 128:
                data = b"\xfe" + struct.pack("<b", item)
            elif -32768 <= item < 32768:
                data = b"\xc0" + struct.pack("<h", item)
            elif -(1 << 23) <= item < 1 << 23:
                data = b"\xf0" + struct.pack("<i", item)[:3]
            elif -(1 << 31) <= item < 1 << 31:
                data = b"\xd0" + struct.pack("<i", item)
            else:
                data = b"\xe0" + struct.pack("<q", item)
        elif len(item) < 64:
            data = bytes([len(item)]) + item
        elif len(item) < 16384:
            data = struct.pack(">H", len(item) | 1 << 14) + item
        else:
            data = b"\x80" + struct.pack(">I", len(item)) + item
        body += head + data
        before = len(head + data)
    return struct.pack("<IIH", 11 + len(body), last, len(items)) + body + b"\xff"


def zipmap(pairs, unused=0):
    out = bytes([min(len(pairs), 254)])
    for key, value in pairs:
        for i, s in enumerate((key, value)):
            out += bytes([len(s)]) if len(s) < 254 else b"\xfe" + struct.pack("<I", len(s))
            if i == 1:
                out += bytes([unused])
            out += s
        out += b"\0" * unused
    return out + b"\xff"


def intset(numbers, width):
    code = {2: "<h", 4: "<i", 8: "<q"}[width]
    return struct.pack("<II", width, len(numbers)) + b"".join(struct.pack(code, n) for n in sorted(numbers))


def listpack(items):
    body = b""
    for item in items:
        if isinstance(item, int):
            if 0 <= item < 128:
                data = bytes([item])
            elif -4096 <= item < 4096:
                v = item & 0x1FFF
                data = bytes([0xC0 | v >> 8, v & 0xFF])
            elif -32768 <= item < 32768:
                data = b"\xf1" + struct.pack("<h", item)
            elif -(1 << 23) <= item < 1 << 23:
                data = b"\xf2" + struct.pack("<i", item)[:3]
            elif -(1 << 31) <= item < 1 << 31:
                data = b"\xf3" + struct.pack("<i", item)
            else:
                data = b"\xf4" + struct.pack("<q", item)
        elif len(item) < 64:
            data = bytes([0x80 | len(item)]) + item
        elif len(item) < 4096:
            data = bytes([0xE0 | len(item) >> 8, len(item) & 0xFF]) + item
        else:
            data = b"\xf0" + struct.pack("<I", len(item)) + item
        n, back = len(data), []
        while True:
            back.append(n & 127)
            n >>= 7
            if not n:
                break
        # Read from the right: every byte but the last one read says that there are more.
        back = [b | (0x80 if i < len(back) - 1 else 0) for i, b in enumerate(back)]
        body += data + bytes(reversed(back))
    return struct.pack("<IH", 7 + len(body), len(items)) + body + b"\xff"


def stream_id(ms, seq):
    return struct.pack(">QQ", ms, seq)


def stream_node(master, fields, entries):
    """Id and listpack of a node. `entries` are (ms, seq, pairs, deleted); those whose fields are the master's
    are written without them."""
    live = sum(not deleted for _, _, _, deleted in entries)
    items = [live, len(entries) - live, len(fields), *fields, 0]
    for ms, seq, pairs, deleted in entries:
        same = [f for f, _ in pairs] == list(fields)
        items += [2 * same | deleted, ms - master[0], seq - master[1]]
        if same:
            items += [v for _, v in pairs] + [len(pairs) + 3]
        else:
            items += [len(pairs), *(x for pair in pairs for x in pair), 2 * len(pairs) + 4]
    return string(stream_id(*master)) + string(listpack(items))


def stream(version, nodes, size, last, first=(0, 0), max_deleted=(0, 0), added=0, groups=()):
    """A stream's value. `groups` are (name, last id, entries read, pending, consumers): pending are (id, time,
    deliveries); consumers (name, seen, active, ids)."""
    out = length(len(nodes)) + b"".join(nodes) + length(size) + length(last[0]) + length(last[1])
    if version >= 2:
        out += b"".join(length(n) for n in (*first, *max_deleted, added))
    out += length(len(groups))
    for name, last_id, read, pending, consumers in groups:
        out += string(name) + length(last_id[0]) + length(last_id[1])
        if version >= 2:
            out += length(read)
        out += length(len(pending))
        for entry, ms, deliveries in pending:
            out += stream_id(*entry) + struct.pack("<q", ms) + length(deliveries)
        out += length(len(consumers))
        for consumer, seen, active, ids in consumers:
            out += string(consumer) + struct.pack("<q", seen)
            if version >= 3:
                out += struct.pack("<q", active)
            out += length(len(ids)) + b"".join(stream_id(*i) for i in ids)
    return out


def text_double(text):
    return bytes([len(text)]) + text


class File:
    """An RDB file being put together."""

    def __init__(self, version):
        self.version = version
        self.data = b"REDIS%04d" % version

    def raw(self, data):
        self.data += data
        return self

    def aux(self, name, value):
        return self.raw(b"\xfa" + string(name) + string(value))

    def select(self, db):
        return self.raw(b"\xfe" + length(db))

    def resize(self, keys, expires):
        return self.raw(b"\xfb" + length(keys) + length(expires))

    def key(self, type_code, name, value, expire_ms=None, expire_s=None):
        if expire_ms is not None:
            self.raw(b"\xfc" + struct.pack("<q", expire_ms))
        if expire_s is not None:
            self.raw(b"\xfd" + struct.pack("<i", expire_s))
        return self.raw(bytes([type_code]) + string(name) + value)

    def end(self, checksum=None):
        self.raw(b"\xff")
        if self.version >= 5:
            self.raw(struct.pack("<Q", crc64(self.data) if checksum is None else checksum))
        return self.data
