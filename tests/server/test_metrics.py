# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP listener: metrics in Prometheus's text format, parsed strictly, and the health pages."""
import re
import socket

import pytest

from harness import Server, free_port

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = r'\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\}'
SAMPLE = re.compile(rf"({NAME})(?:{LABELS})? (NaN|[+-]Inf|-?[0-9.]+(?:e[+-]?[0-9]+)?)")


def ask(port, request):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
        s.sendall(request)
        data = b""
        while piece := s.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def get(port, path):
    status, headers, body = ask(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert int(headers["Content-Length"]) == len(body)
    return status, body.decode()


def parse(text):
    """The format's rules: HELP and TYPE once for each metric, before its samples, which stand together;
    no sample twice; only a summary's have a suffix."""
    assert text.endswith("\n")
    values, types, helped, current = {}, {}, set(), None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            assert current not in helped and len(line.split(" ", 3)[3]) > 0
            helped.add(current)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current and name not in types and kind in ("counter", "gauge", "summary")
            types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            allowed = {current} | ({current + "_sum", current + "_count"} if types[current] == "summary" else set())
            assert name in allowed, line
            assert (name, labels or "") not in values, line
            values[name, labels or ""] = float(value)
    assert helped == set(types)
    return values


@pytest.fixture(scope="module")
def server():
    port = free_port()
    with Server(options={"metrics-port": port, "appendonly": "yes", "appendfsync": "always"}) as s:
        s.metrics = port
        yield s


# Every metric has the form that the format asks for, and what was done is counted.
def test_metrics(server):
    r = server.raw()
    before = parse(get(server.metrics, "/metrics")[1])
    for i in range(50):
        r("SET", f"k{i}", "v")
    r("SELECT", 3), r("SET", "x", "y", "EX", 1000), r("SELECT", 0)
    r("GET", "k1"), r("GET", "nosuch"), r("LPUSH", "k1", "a"), r("GET", "a", "b"), r("CONFIG", "GET", "port")
    after = parse(get(server.metrics, "/metrics")[1])
    assert after['holdfast_db_keys', 'db="0"'] == 50
    assert after['holdfast_db_keys', 'db="3"'] == after['holdfast_db_expiring_keys', 'db="3"'] == 1
    assert after['holdfast_command_calls_total', 'command="set"'] == 51
    assert after['holdfast_command_failed_total', 'command="lpush"'] == 1
    assert after['holdfast_command_rejected_total', 'command="get"'] == 1
    assert after['holdfast_command_calls_total', 'command="config|get"'] == 1
    assert after['holdfast_command_latency_seconds_count', 'command="set"'] == 51
    assert 0 < after['holdfast_command_latency_seconds', 'command="set",quantile="0.5"'] < 60
    assert after["holdfast_keyspace_hits_total", ""] - before["holdfast_keyspace_hits_total", ""] == 1
    assert after["holdfast_keyspace_misses_total", ""] - before["holdfast_keyspace_misses_total", ""] == 1
    assert after["holdfast_log_durable_lsn", ""] == after["holdfast_log_lsn", ""] > before["holdfast_log_lsn", ""]
    assert after["holdfast_log_at_risk_bytes", ""] == 0
    assert after["holdfast_log_fsync_seconds_count", ""] > 0
    assert after["holdfast_network_input_bytes_total", ""] > before["holdfast_network_input_bytes_total", ""]
    assert after["holdfast_is_primary", ""] == 1 and after["holdfast_connected_replicas", ""] == 0
    assert after["holdfast_ready", ""] == 1 and after["holdfast_uptime_seconds", ""] > 0
    r.close()


# Live and ready; a server that refuses writes is live, but not ready, and says why.
def test_health(server):
    assert get(server.metrics, "/health/live") == (200, "live\n")
    assert get(server.metrics, "/health/ready") == (200, "ready\n")
    r = server.raw()
    r("SET", "big", "x" * 100000)
    r("CONFIG", "SET", "maxmemory", "1000")
    status, text = get(server.metrics, "/health/ready")
    assert status == 503 and "maxmemory" in text
    assert get(server.metrics, "/health/live")[0] == 200
    r("CONFIG", "SET", "maxmemory", "0")
    assert get(server.metrics, "/health/ready")[0] == 200
    r.close()


# While it loads the server is live, but not ready.
def test_loading():
    port = free_port()
    with Server(options={"metrics-port": port}) as s:
        s.raw()("DEBUG", "POPULATE", "2000")
        s.raw()("SAVE")
        s.terminate()
        s.options["key-load-delay"] = 2000
        s.start(wait=False)
        seen = set()
        while (200, "ready\n") not in seen:
            try:
                seen.add(get(port, "/health/ready"))
                assert get(port, "/health/live")[0] == 200
            except ConnectionRefusedError:
                continue
        assert (503, "loading the data\n") in seen


# What is not GET or HEAD, not a page, no HTTP, or too long gets its status, and the connection is closed.
def test_other_requests(server):
    assert get(server.metrics, "/nosuch")[0] == 404
    status, headers, body = ask(server.metrics, b"HEAD /health/live HTTP/1.1\r\n\r\n")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")
    assert ask(server.metrics, b"POST /metrics HTTP/1.1\r\n\r\n")[0] == 405
    assert ask(server.metrics, b"*1\r\n$4\r\nPING\r\n")[0] == 400
    assert ask(server.metrics, b"GET / HTTP/1.1\r\nx: " + b"y" * (8192 - 19))[0] == 431


# Connections beyond sixteen push out the oldest, so that idle ones keep nobody from being answered.
def test_idle_connections(server):
    idle = [socket.create_connection(("127.0.0.1", server.metrics)) for _ in range(40)]
    assert get(server.metrics, "/health/live")[0] == 200
    idle[0].settimeout(30)
    assert idle[0].recv(10) == b""
    for s in idle:
        s.close()


# The port can be changed while the server runs; one that is taken is refused, and the old one stays.
def test_change_of_port(server):
    r, new, taken = server.raw(), free_port(), socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    assert r("CONFIG", "SET", "metrics-port", new) == "OK"
    assert get(new, "/health/live")[0] == 200
    with pytest.raises(OSError):
        get(server.metrics, "/health/live")
    assert "Unable to listen" in r("CONFIG", "SET", "metrics-port", taken.getsockname()[1])
    assert get(new, "/health/live")[0] == 200
    assert r("CONFIG", "SET", "metrics-port", server.metrics) == "OK"
    taken.close()
    r.close()
