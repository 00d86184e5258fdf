# SPDX-License-Identifier: BSD-3-Clause
"""TLS: who is let in, what comes through, and what goes on while settings change. Certificates are
made by openssl; clients are redis-py, redis-cli and Python's ssl."""
import os
import socket
import ssl
import subprocess
import time

import pytest
import redis

from certificates import Certificates
from harness import Raw, Server, free_port, wait_for

HALF_OPEN = 100
HANDSHAKE_SECONDS = 10


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def options(certificates, **more):
    values = {"tls-port": free_port(), "tls-cert-file": certificates.path("server.crt"),
              "tls-key-file": certificates.path("server.key"), "tls-ca-cert-file": certificates.path("ca.crt"),
              "tls-auth-clients": "no"}
    values.update({name.replace("_", "-"): value for name, value in more.items()})
    return values


@pytest.fixture(scope="module")
def server(certificates):
    with Server(options=options(certificates)) as s:
        s.half_open = [socket.create_connection(("127.0.0.1", s.options["tls-port"])) for _ in range(HALF_OPEN)]
        s.half_open_at = time.monotonic()
        # Half of them have begun to say something.
        for half in s.half_open[::2]:
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
        yield s


def client(server, certificates, name=None, **more):
    if name:
        more.update(ssl_certfile=str(certificates.path(f"{name}.crt")),
                    ssl_keyfile=str(certificates.path(f"{name}.key")))
    return redis.Redis(port=server.options["tls-port"], ssl=True, ssl_ca_certs=str(certificates.path("ca.crt")),
                       host="127.0.0.1", socket_timeout=60, **more)


def context(certificates, name=None):
    c = ssl.create_default_context(cafile=str(certificates.path("ca.crt")))
    if name:
        c.load_cert_chain(str(certificates.path(f"{name}.crt")), str(certificates.path(f"{name}.key")))
    return c


def wrap(server, c, **more):
    plain = socket.create_connection(("127.0.0.1", server.options["tls-port"]))
    plain.settimeout(60)
    return c.wrap_socket(plain, server_hostname="localhost", **more)


def raw(server, certificates):
    """A Raw client over TLS."""
    r = Raw.__new__(Raw)
    r.socket, r.buffer, r.at = wrap(server, context(certificates)), b"", 0
    return r


def refused(server, certificates, name=None):
    with pytest.raises((redis.exceptions.ConnectionError, ssl.SSLError, ConnectionError)):
        with client(server, certificates, name) as c:
            c.ping()


# redis-cli and redis-py work over TLS while others have not got further than half a handshake; the
# plain port is there beside it, and neither port takes the other's talk for its own.
def test_clients(server, certificates):
    out = subprocess.run(["redis-cli", "--tls", "--cacert", str(certificates.path("ca.crt")), "-h", "localhost",
                          "-p", str(server.options["tls-port"]), "SET", "cli", "x"], capture_output=True, text=True)
    assert out.stdout == "OK\n", out
    with client(server, certificates) as c:
        assert c.get("cli") == b"x"
        assert c.info("server")["tcp_port"] == server.port
        assert c.client_list()[-1]["laddr"].endswith(f":{server.options['tls-port']}")
    with Server(options=options(certificates, port=0)) as alone:
        with client(alone, certificates) as c:
            assert c.info("server")["tcp_port"] == alone.options["tls-port"]


# Garbage and plain requests to the TLS port end that connection, and nothing else.
def test_garbage(server, certificates):
    for data in (b"PING\r\n", b"*1\r\n$4\r\nPING\r\n", b"\x00" * 1000, os.urandom(5000), b"\x16\x03\x01\x00\x05hello"):
        with socket.create_connection(("127.0.0.1", server.options["tls-port"])) as s:
            s.settimeout(60)
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while piece := s.recv(4096):
                    answer += piece
            except ConnectionError:
                pass
            assert b"PONG" not in answer
    # Garbage in the middle of a session.
    s = wrap(server, context(certificates))
    s.sendall(b"PING\r\n")
    assert s.recv(100) == b"+PONG\r\n"
    os.write(s.fileno(), b"garbage that is no record" * 10)
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        if s.recv(100) == b"":
            raise EOFError
    s.close()
    assert "TLS: error accepting a connection" in server.text()
    assert client(server, certificates).ping()


# Large values go both ways, in pieces whose borders are anywhere, beside small ones.
def test_large_values(server, certificates):
    value = os.urandom(1 << 20) * 10
    with client(server, certificates) as c:
        assert c.set("large", value)
        assert c.get("large") == value
        assert c.mget("large", "cli", "large")[::2] == [value, value]
    r = raw(server, certificates)
    request = Raw.encode(["SET", "pieces", value[:300000]]) + Raw.encode(["GET", "pieces"])
    at, size = 0, 1
    while at < len(request):
        r.send(request[at:at + size])
        at, size = at + size, size * 2 if size < 40000 else 1
    assert r.read() == "OK"
    assert r.read() == value[:300000]
    r.close()


# Thousands of commands at once: small records, many in one read of the socket, and more decrypted
# bytes than one read takes.
def test_pipelines(server, certificates):
    r = raw(server, certificates)
    assert r.pipeline([["INCR", "n"]] * 5000) == list(range(1, 5001))
    # Each request is a record of its own: most have been fetched before they are asked for.
    for i in range(3000):
        r.send(Raw.encode(["ECHO", "%d" % i]))
    assert [r.read() for _ in range(3000)] == [b"%d" % i for i in range(3000)]
    # A record with many requests, the last of which ends in the next record.
    many = b"".join(Raw.encode(["ECHO", "x" * (i % 700)]) for i in range(4000))
    r.send(many)
    assert [len(r.read()) for _ in range(4000)] == [i % 700 for i in range(4000)]
    r.close()


# A client that does not read does not stop others, and gets everything when it does.
def test_slow_reader(server, certificates):
    slow = raw(server, certificates)
    with client(server, certificates) as c:
        c.set("megabyte", b"m" * (1 << 20))
        slow.send(Raw.encode(["GET", "megabyte"]) * 20)
        for _ in range(20):
            assert c.ping()
    assert [len(slow.read()) for _ in range(20)] == [1 << 20] * 20
    slow.close()


# Many connections at once, with resumed sessions among them.
def test_many_connections(server, certificates):
    c = context(certificates)
    first = wrap(server, c)
    first.sendall(b"PING\r\n")
    assert first.recv(100) == b"+PONG\r\n"
    all_of_them = [wrap(server, c, session=first.session) for _ in range(100)]
    assert all(s.session_reused for s in all_of_them)
    for s in all_of_them:
        s.sendall(b"PING\r\n")
    for s in all_of_them:
        assert s.recv(100) == b"+PONG\r\n"
        s.close()
    first.close()


# Client certificates: needed, welcome, or not asked for; of the right authority.
def test_client_certificates(certificates):
    with Server(options=options(certificates, tls_auth_clients="yes", tls_protocols="TLSv1.2 TLSv1.3",
                                tls_auth_clients_user="CN")) as s:
        local = s.client()
        local.acl_setuser("alice", enabled=True, commands=["+@all"], keys=["*"], nopass=True)
        with client(s, certificates, "client") as c:
            assert c.execute_command("ACL", "WHOAMI") == b"alice"
        refused(s, certificates)
        refused(s, certificates, "stranger")
        # The client may know before the server has written it down.
        end = time.monotonic() + 20
        while "certificate verify failed" not in s.text():
            assert time.monotonic() < end, s.text()
            time.sleep(0.02)
        local.config_set("tls-auth-clients", "optional")
        with client(s, certificates) as c:
            assert c.execute_command("ACL", "WHOAMI") == b"default"
        with client(s, certificates, "client") as c:
            assert c.execute_command("ACL", "WHOAMI") == b"alice"
        refused(s, certificates, "stranger")
        local.acl_setuser("carol", enabled=True, commands=["+@all"], keys=["*"], nopass=True)
        local.config_set("tls-auth-clients-user", "URI")
        with client(s, certificates, "client") as c:
            assert c.execute_command("ACL", "WHOAMI") == b"carol"
        local.config_set("tls-auth-clients", "no")
        for name in (None, "client", "stranger"):
            with client(s, certificates, name) as c:
                assert c.execute_command("ACL", "WHOAMI") == b"default"


def handshake(server, certificates, minimum, maximum, ciphers=None):
    c = context(certificates)
    c.minimum_version, c.maximum_version = minimum, maximum
    if ciphers:
        c.set_ciphers(ciphers)
    with wrap(server, c) as s:
        s.sendall(b"PING\r\n")
        assert s.recv(100) == b"+PONG\r\n"
        return s.version(), s.cipher()[0], s.getpeercert(True)


# Protocols and ciphers are those of the configuration.
def test_protocols_and_ciphers(server, certificates):
    v12, v13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    local = server.client()
    assert handshake(server, certificates, v12, v13)[0] == "TLSv1.3"
    local.config_set("tls-protocols", "TLSv1.2")
    assert handshake(server, certificates, v12, v13)[0] == "TLSv1.2"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, certificates, v13, v13)
    local.config_set("tls-ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384")
    assert handshake(server, certificates, v12, v12)[1] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, certificates, v12, v12, "ECDHE-ECDSA-AES128-GCM-SHA256")
    local.execute_command("CONFIG", "SET", "tls-ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
                          "tls-prefer-server-ciphers", "yes")
    theirs = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"
    assert handshake(server, certificates, v12, v12, theirs)[1] == "ECDHE-ECDSA-CHACHA20-POLY1305"
    local.execute_command("CONFIG", "SET", "tls-protocols", "TLSv1.3", "tls-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256")
    assert handshake(server, certificates, v12, v13)[1] == "TLS_CHACHA20_POLY1305_SHA256"
    local.execute_command("CONFIG", "SET", "tls-protocols", "", "tls-ciphers", "", "tls-ciphersuites", "",
                          "tls-prefer-server-ciphers", "no")
    # Without the cache no session is resumed.
    local.config_set("tls-session-caching", "no")
    c = context(certificates)
    first = wrap(server, c)
    first.sendall(b"PING\r\n")
    first.recv(100)
    again = wrap(server, c, session=first.session)
    assert not again.session_reused
    local.config_set("tls-session-caching", "yes")
    first.close()
    again.close()


# With tls-auto-reload-interval files are read anew when they have changed, without a command; while a certificate and its
# key do not fit each other what was there before is used, and who is connected stays so.
def test_auto_reload(certificates, tmp_path):
    crt, key = tmp_path / "crt", tmp_path / "key"
    crt.write_bytes(certificates.path("server.crt").read_bytes())
    key.write_bytes(certificates.path("server.key").read_bytes())
    with Server(options=options(certificates, tls_cert_file=crt, tls_key_file=key, tls_auto_reload_interval=1)) as s:
        serial = lambda: ssl_serial(handshake(s, certificates, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)[2])
        old = client(s, certificates)
        assert old.ping() and serial() == certificates.serial("server")
        crt.write_bytes(certificates.path("second.crt").read_bytes())
        wait_for(lambda: "files have changed, but cannot be used" in s.text())
        assert serial() == certificates.serial("server")
        # As an orchestrator does it: another file under the same name.
        other = tmp_path / "other"
        other.write_bytes(certificates.path("second.key").read_bytes())
        os.replace(other, key)
        wait_for(lambda: serial() == certificates.serial("second"))
        assert old.ping() and s.text().count("new connections get what stands in them") == 1


# New certificates are for new connections; those that are there go on. What is wrong is refused, and
# all stays as it was. Setting the same path reads the file anew.
def test_reload(server, certificates):
    local = server.client()
    old = client(server, certificates)
    assert old.set("k", "v")
    serial = lambda: ssl_serial(handshake(server, certificates, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)[2])
    assert serial() == certificates.serial("server")
    live_crt, live_key = certificates.path("live.crt"), certificates.path("live.key")
    live_crt.write_bytes(certificates.path("server.crt").read_bytes())
    live_key.write_bytes(certificates.path("server.key").read_bytes())
    local.execute_command("CONFIG", "SET", "tls-cert-file", str(live_crt), "tls-key-file", str(live_key))
    live_crt.write_bytes(certificates.path("second.crt").read_bytes())
    # The key is not yet the new one.
    for wrong in (("tls-cert-file", live_crt), ("tls-cert-file", "/nowhere"), ("tls-key-file", ""),
                  ("tls-ciphers", "nonsense"), ("tls-ciphersuites", "nonsense"), ("tls-protocols", "TLSv9"),
                  ("tls-ca-cert-file", live_key), ("tls-dh-params-file", "/nowhere"),
                  ("tls-auth-clients", "yes", "tls-ca-cert-file", "")):
        before = local.config_get(wrong[0])
        with pytest.raises(redis.exceptions.ResponseError, match="Unable to update TLS configuration"):
            local.execute_command("CONFIG", "SET", *map(str, wrong))
        assert local.config_get(wrong[0]) == before
    assert serial() == certificates.serial("server")
    live_key.write_bytes(certificates.path("second.key").read_bytes())
    local.config_set("tls-cert-file", str(live_crt))
    assert serial() == certificates.serial("second")
    # A key with a password.
    with pytest.raises(redis.exceptions.ResponseError):
        local.execute_command("CONFIG", "SET", "tls-key-file", str(certificates.path("locked.key")),
                              "tls-cert-file", str(certificates.path("server.crt")), "tls-key-file-pass", "wrong")
    local.execute_command("CONFIG", "SET", "tls-key-file", str(certificates.path("locked.key")),
                          "tls-cert-file", str(certificates.path("server.crt")), "tls-key-file-pass", "secret")
    assert serial() == certificates.serial("server")
    # Another port, none, and back.
    port = server.options["tls-port"]
    server.options["tls-port"] = free_port()
    local.config_set("tls-port", server.options["tls-port"])
    assert serial() == certificates.serial("server")
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port))
    local.config_set("tls-port", 0)
    with pytest.raises(ConnectionError):
        wrap(server, context(certificates))
    assert old.get("k") == b"v"
    assert old.client_id() == old.client_id()
    local.config_set("tls-port", server.options["tls-port"])
    assert client(server, certificates).get("k") == b"v"


def ssl_serial(der):
    text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-serial"], input=der,
                          check=True, capture_output=True).stdout.decode()
    return int(text.strip().split("=")[1], 16)


# A server that cannot do what it is asked for does not start.
@pytest.mark.parametrize("wrong, message", [
    ({"tls_cert_file": None}, "No tls-cert-file configured!"),
    ({"tls_key_file": "/nowhere"}, "Failed to load private key: /nowhere"),
    ({"tls_auth_clients": "yes", "tls_ca_cert_file": None}, "Either tls-ca-cert-file or tls-ca-cert-dir"),
])
def test_wrong_start(certificates, wrong, message):
    s = Server(options=options(certificates, **wrong), wait=False)
    assert s.process.wait(60) == 1
    assert message in s.text()
    s.stop()


# Beyond maxclients a connection is closed; protected mode, requirepass and close-notify are as they
# should be.
def test_limits(certificates):
    with Server(options=options(certificates, maxclients=3)) as s:
        local = s.client(single_connection_client=True)
        local.config_set("requirepass", "pw")
        held = [client(s, certificates, password="pw", single_connection_client=True) for _ in range(2)]
        assert all(c.ping() for c in held)
        refused(s, certificates)
        for c in held:
            assert c.ping()
        held[0].close()
        held[0].connection_pool.disconnect()
        t = wrap_when_free(s, certificates)
        t.sendall(b"PING\r\nQUIT\r\n")
        data = b""
        while piece := t.recv(100):
            data += piece
        # The end is a goodbye of TLS, not a cut.
        assert data == b"-NOAUTH Authentication required.\r\n+OK\r\n"
        assert t.unwrap() is not None


def wrap_when_free(server, certificates):
    end = time.monotonic() + 60
    while True:
        try:
            c = context(certificates)
            plain = socket.create_connection(("127.0.0.1", server.options["tls-port"]))
            plain.settimeout(60)
            return c.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
        except (ssl.SSLError, ConnectionError):
            assert time.monotonic() < end
            time.sleep(0.05)


# Those that never finished their handshake are closed in the end. (The last test: by now most of the
# time has passed.)
def test_late_handshakes(server, certificates):
    for half in server.half_open:
        half.settimeout(60)
        try:
            assert half.recv(100) == b""
        except ConnectionError:
            pass
        half.close()
    assert time.monotonic() - server.half_open_at > HANDSHAKE_SECONDS - 1
    assert client(server, certificates).ping()
