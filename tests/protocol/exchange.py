# SPDX-License-Identifier: BSD-3-Clause
"""Bytes sent to a server as they are, and the bytes that come back."""
import socket
import time


def request(*args):
    out = b"*%d\r\n" % len(args)
    for arg in args:
        arg = arg if isinstance(arg, bytes) else str(arg).encode()
        out += b"$%d\r\n%s\r\n" % (len(arg), arg)
    return out


def connect(server):
    s = socket.socket(socket.AF_UNIX)
    s.connect(server.socket_path)
    s.settimeout(20)
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


def exchange(server, *pieces, quiet=0.2):
    s = connect(server)
    try:
        for i, piece in enumerate(pieces):
            if i:
                time.sleep(0.002)
            s.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass
    out = read_rest(s, quiet)
    s.close()
    return out
