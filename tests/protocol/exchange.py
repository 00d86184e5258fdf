# SPDX-License-Identifier: BSD-3-Clause
"""Bytes sent to a server as they are, and the bytes that come back."""
import socket
import time

from harness import PATIENCE


def request(*args):
    out = b"*%d\r\n" % len(args)
    for arg in args:
        arg = arg if isinstance(arg, bytes) else str(arg).encode()
        out += b"$%d\r\n%s\r\n" % (len(arg), arg)
    return out


def connect(server):
    s = socket.socket(socket.AF_UNIX)
    s.connect(server.socket_path)
    s.settimeout(PATIENCE)
    return s


def read_rest(s, quiet=0.2):
    """What comes until the server closes (then b"<closed>" is added) or says nothing for a while."""
    out = b""
    s.settimeout(quiet)
    try:
        while True:
            data = s.recv(1 << 20)
            if not data:
                return out + b"<closed>"
            out += data
    except socket.timeout:
        return out
    except ConnectionResetError:
        return out + b"<closed>"


def wait_until_read(server, size):
    """The server has read so many bytes that were sent before, and has written what it has to say to them: who asks it
    again and again is answered once in a turn of its, and in each turn it takes some kilobytes from everybody."""
    other = connect(server)
    try:
        for _ in range(4 + size // 8192):
            other.sendall(b"PING\r\n")
            if not other.recv(1 << 16):
                break
    except (BrokenPipeError, ConnectionResetError):
        pass
    other.close()


def exchange(server, *pieces, quiet=0.02):
    """All that the server says to these bytes, however busy the machine is, and b"<closed>" if it closes behind that."""
    s = connect(server)
    try:
        for i, piece in enumerate(pieces):
            if i:
                time.sleep(0.002)
            s.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass
    wait_until_read(server, sum(map(len, pieces)))
    out = read_rest(s, quiet)
    s.close()
    return out
