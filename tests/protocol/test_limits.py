# SPDX-License-Identifier: BSD-3-Clause
"""What a client may take of the server: connections, buffers, time."""
import socket
import time

import pytest
import redis

from exchange import connect, exchange, read_rest, request
from harness import PATIENCE, Server, wait_for


def test_query_buffer_limit():
    """A request that grows beyond client-query-buffer-limit costs its client the connection."""
    with Server("holdfast", {"client-query-buffer-limit": "1mb"}) as server:
        steady = server.raw()
        out = exchange(server, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n", b"x" * 2999999, quiet=PATIENCE)
        assert out == b"<closed>"
        assert steady("PING") == "PONG"
        assert exchange(server, request("SET", "k", "x" * 900000)) == b"+OK\r\n"


def test_queued_commands_count_for_the_query_buffer():
    """MULTI does not get around the limit."""
    with Server("holdfast", {"client-query-buffer-limit": "1mb"}) as server:
        s = connect(server)
        s.sendall(request("MULTI"))
        out = b""
        try:
            for _ in range(40):
                s.sendall(request("SET", "k", "x" * 100000))
                time.sleep(0.005)
            # Half a request, so that there is a query buffer at all.
            s.sendall(request("SET", "k", "x" * 100000)[:-10])
        except OSError:
            pass
        out = read_rest(s, PATIENCE)
        assert out.endswith(b"<closed>")


def test_proto_max_bulk_len():
    with Server("holdfast", {"proto-max-bulk-len": "1mb"}) as server:
        assert exchange(server, b"*2\r\n$3\r\nGET\r\n$1048577\r\n") == \
            b"-ERR Protocol error: invalid bulk length\r\n<closed>"
        assert exchange(server, request("STRLEN", "x" * 1048576)) == b":0\r\n"


@pytest.mark.parametrize("limit", ["normal 2000000 0 0", "normal 0 1000000 1"])
def test_output_limit(limit):
    """One who asks for much and reads nothing is closed at the hard limit, or after some seconds above
    the soft one; what others asked for is not touched."""
    with Server("holdfast", {"client-output-buffer-limit": limit.split()}) as server:
        steady = server.raw()
        steady("SET", "k", "x" * 100000)
        s = connect(server)
        s.sendall(request("GET", "k") * 100)
        wait_for(lambda: "omem=0" not in str(steady("CLIENT", "LIST")) or
                 len(steady("CLIENT", "LIST").splitlines()) == 1)
        wait_for(lambda: len(steady("CLIENT", "LIST").splitlines()) == 1)
        assert steady("PING") == "PONG"
        s.close()


def test_slow_reader_gets_everything(server):
    """Without a limit output waits as long as it takes, in order."""
    client = server.client()
    client.set("k", "x" * 100000)
    s = connect(server)
    count = 300
    s.sendall((request("GET", "k") + request("PING")) * count)
    time.sleep(0.3)
    wanted = (b"$100000\r\n" + b"x" * 100000 + b"\r\n+PONG\r\n") * count
    got = bytearray()
    while len(got) < len(wanted) and (piece := s.recv(1 << 16)):
        got += piece
    assert got == wanted
    assert client.ping()
    s.close()


def test_timeout():
    """Idle clients are closed after `timeout` seconds, others are not."""
    with Server("holdfast", {"timeout": 4}) as server:
        idle, busy = connect(server), server.raw()
        begin = time.monotonic()
        while read_rest(idle, 0.1) == b"":
            assert busy("PING") == "PONG" and time.monotonic() < begin + PATIENCE
        assert time.monotonic() - begin > 3
        assert busy("PING") == "PONG"


def own_address():
    """An address of this machine that is not a loopback one, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            address = s.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


@pytest.mark.skipif(own_address() is None, reason="this machine has only a loopback address")
def test_protected_mode():
    """Without a password only this machine itself is served."""
    address = own_address()

    def ask(server):
        with socket.create_connection((address, server.port), PATIENCE) as s:
            s.sendall(request("PING"))
            line = b""
            while not line.endswith(b"\r\n") and (piece := s.recv(1 << 16)):
                line += piece
            return line

    with Server("holdfast", {"bind": ["127.0.0.1", address]}) as server:
        assert ask(server).startswith(b"-DENIED ")
        client = redis.Redis(port=server.port)
        client.config_set("protected-mode", "no")
        assert ask(server) == b"+PONG\r\n"
        client.config_set("protected-mode", "yes")
        client.config_set("requirepass", "p")
        assert ask(server) == b"-NOAUTH Authentication required.\r\n"


def test_several_binds_and_optional_ones():
    """Every address is listened on; one with a '-' may be missing."""
    with Server("holdfast", {"bind": ["127.0.0.1", "127.0.0.2", "-::1", "-192.0.2.77"]}) as server:
        for address in ("127.0.0.1", "127.0.0.2"):
            assert redis.Redis(host=address, port=server.port).ping()
        if socket.has_ipv6:
            try:
                with socket.socket(socket.AF_INET6) as probe:
                    probe.bind(("::1", 0))
            except OSError:
                return
            assert redis.Redis(host="::1", port=server.port).ping()


def test_unix_socket_permissions(tmp_path):
    import os
    import stat
    path = tmp_path / "s"
    with Server("holdfast", {"unixsocket": path, "unixsocketperm": "700"}, wait=False) as server:
        server.socket_path = str(path)
        server.wait_ready()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        server.terminate()
        assert not path.exists()
