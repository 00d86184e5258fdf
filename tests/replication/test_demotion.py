# SPDX-License-Identifier: BSD-3-Clause
"""What is known of who has what when roles change without order (test_rejoin.py has a primary that is killed)."""
import shutil
import subprocess

from harness import PLAIN_BUILD
from net import assert_same, follow, holdfast, info, wait_for, wait_up

LOGGED = {"appendonly": "yes", "appendfsync": "always"}


def again(server):
    server.kill()
    server.start()
    return server.raw()


def journal(server, raw):
    """What is in its divergence journal, as `holdfast log` shows it."""
    path = server.directory / info(raw)["divergence_journal"]
    text = subprocess.run([str(PLAIN_BUILD / "holdfast"), "log", str(path)], capture_output=True, text=True)
    assert text.returncode == 0, text
    return text.stdout


def test_what_a_failover_would_lose():
    """It is what no replica has acknowledged, one that is gone included, which goes on having what it had; it counts
    from there when it is back. After a start nobody is known to have anything."""
    with holdfast(**LOGGED) as primary, holdfast() as replica:
        x, y = primary.raw(), replica.raw()
        lose = lambda: int(info(x)["failover_would_lose_bytes"])  # noqa: E731
        x("SET", "k", 0)
        assert lose() == int(info(x)["master_repl_offset"]) > 0
        follow(y, primary.port)
        wait_up(y)
        wait_for(lambda: lose() == 0, "all is acknowledged")
        y("REPLICAOF", "NO", "ONE")
        wait_for(lambda: info(x)["connected_slaves"] == "0", "it has gone")
        had = int(info(y)["second_repl_offset"]) - 1
        x("SET", "k", 1)
        assert 0 < lose() == int(info(x)["master_repl_offset"]) - had
        follow(y, primary.port)
        wait_up(y)
        wait_for(lambda: lose() == 0, "all is acknowledged again")
        x.close()
        x = again(primary)
        assert lose() == int(info(x)["master_repl_offset"]) > 0
        x.close()
        y.close()


def test_promoted_and_left_alone():
    """Two replicas are promoted one after the other, the second one having never followed the first: what that wrote is
    in a journal when it follows."""
    with holdfast(**LOGGED) as a, holdfast(**LOGGED) as b, holdfast(**LOGGED) as c:
        x, y, z = a.raw(), b.raw(), c.raw()
        for raw in (y, z):
            follow(raw, a.port)
            wait_up(raw)
            # What is taken back later is taken back by the log.
            wait_for(lambda: info(raw, "persistence")["log_state"] == "on", "its log is on")
        x("SET", "both", 1)
        for raw in (y, z):
            wait_for(lambda: raw("GET", "both") == b"1", "it has arrived")
            raw("REPLICAOF", "NO", "ONE")
        y("SET", "k", "of b")
        z("SET", "k", "of c")
        follow(y, c.port)
        wait_up(y)
        assert_same(z, y)
        text = journal(b, y)
        assert "of b" in text and "both" not in text, text
        # Who wrote nothing goes on.
        x.close()
        x = again(a)
        follow(x, c.port)
        wait_up(x)
        assert_same(z, x)
        assert info(z, "stats")["sync_full"] == "0", info(z)["last_full_sync_reason"]
        for raw in (x, y, z):
            raw.close()


def test_a_primary_that_has_lost_more():
    """It does not follow a primary whose disk has lost the end of what it had itself: it keeps its data."""
    with holdfast(**LOGGED) as primary, holdfast(**LOGGED) as replica:
        x, y = primary.raw(), replica.raw()
        follow(y, primary.port)
        wait_up(y)
        wait_for(lambda: info(y, "persistence")["log_state"] == "on", "its log is on")
        x("SET", "first", 1)
        old = shutil.copytree(primary.directory, primary.directory.with_name(primary.directory.name + "-old"))
        x("SET", "second", 1)
        wait_for(lambda: y("GET", "second") == b"1", "it has arrived")
        x.close()
        y.close()
        primary.kill()
        shutil.rmtree(primary.directory / "appendonlydir")
        shutil.copytree(old / "appendonlydir", primary.directory / "appendonlydir")
        primary.start()
        x, y = primary.raw(), again(replica)
        assert x("GET", "second") is None
        follow(y, primary.port)
        wait_for(lambda: info(y)["master_refused_regression"] == "1", "it refuses")
        assert y("GET", "second") == b"1"
        shutil.rmtree(old)
        x.close()
        y.close()
