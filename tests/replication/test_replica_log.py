# SPDX-License-Identifier: BSD-3-Clause
"""The log of a replica is of its primary's stream, in which it begins anywhere: redis-server loads it, too."""
import shutil

import pytest

from harness import Server
from net import QUICK, assert_same, holdfast, in_step, info, wait_for, wait_up

LOG = {"appendonly": "yes", "appendfsync": "always"}


def loads_the_same(directory, place, digest):
    """redis-server makes the same of a copy of the log."""
    shutil.copytree(directory / "appendonlydir", place / "appendonlydir")
    with Server("redis", options=LOG, directory=place) as redis:
        raw = redis.raw()
        assert raw("DEBUG", "DIGEST") == digest
        raw.close()


# A file of the log that begins while the stream is in another database than 0, by a full resynchronisation, a
# rewrite or a start, begins there for redis-server as well, and counts no byte more for Holdfast.
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_begins_in_another_database(tmp_path, preamble):
    options = {**QUICK, **LOG, "aof-use-rdb-preamble": preamble}
    with holdfast() as primary:
        x = primary.raw()
        x("SET", "in zero", 1)
        x("SELECT", 5)
        x("SET", "before", 1)
        (tmp_path / "r").mkdir()
        replica = Server("holdfast", {**options, "replicaof": ["127.0.0.1", primary.port]}, directory=tmp_path / "r")
        y = replica.raw()
        wait_up(y)
        x("SET", "after", 1)
        wait_for(lambda: in_step(x, y), "in step")
        for i in range(2):
            # The full resynchronisation makes a base, beside which none is made.
            wait_for(lambda: info(y, "persistence")["log_state"] == "on", "the log is on")
            count = int(info(y, "persistence")["aof_rewrites"])
            assert y("BGREWRITEAOF") == "Background append only file rewriting started"
            wait_for(lambda: int(info(y, "persistence")["aof_rewrites"]) > count and
                     info(y, "persistence")["aof_rewrite_in_progress"] == "0", "a rewrite")
            # No SELECT comes: it was said before.
            x("INCR", f"rewrite{i}")
            x.pipeline([("MULTI",), ("SELECT", 7), ("INCR", "seven"), ("SELECT", 5), ("INCR", "five"), ("EXEC",)])
            x("INCR", "last")
            wait_for(lambda: in_step(x, y), "in step")
        digest = x("DEBUG", "DIGEST")
        y.close()
        replica.terminate()
        replica.check_log()
        assert any(b"#HF1 select" in p.read_bytes() for p in (tmp_path / "r" / "appendonlydir").glob("*.incr.aof"))
        loads_the_same(tmp_path / "r", tmp_path / "1", digest)
        # It starts, goes on by a partial resynchronisation, in a file that begins there, too.
        full = info(x, "stats")["sync_full"]
        replica.start()
        y = replica.raw()
        wait_up(y)
        x("INCR", "started")
        assert_same(x, y)
        assert info(x, "stats")["sync_full"] == full
        digest = x("DEBUG", "DIGEST")
        y.close()
        replica.kill()
        loads_the_same(tmp_path / "r", tmp_path / "2", digest)
        replica.check_log()
        x.close()


# appendonly yes while a full resynchronisation is on its way: the log is of what came with it, and of what
# follows.
def test_on_during_a_resynchronisation(tmp_path):
    with holdfast(**{"rdb-key-save-delay": "8000"}) as primary:
        x = primary.raw()
        x.pipeline([("SET", f"k{i}", i) for i in range(500)])
        replica = Server("holdfast", {**QUICK, **LOG, "appendonly": "no", "replicaof": ["127.0.0.1", primary.port]},
                         directory=tmp_path)
        y = replica.raw()
        wait_for(lambda: int(info(x).get("connected_slaves", 0)) > 0, "it is asked")
        assert y("CONFIG", "SET", "appendonly", "yes") == "OK"
        assert info(y)["master_link_status"] == "down"
        x("SET", "later", 1)
        wait_up(y)
        assert_same(x, y)
        wait_for(lambda: info(y, "persistence")["log_state"] == "on", "the log is on")
        x("SET", "last", 1)
        assert_same(x, y)
        digest = x("DEBUG", "DIGEST")
        y.close()
        x.close()
    replica.kill()
    replica.options.update({"appendonly": "yes", "replicaof": None})
    replica.start()
    y = replica.raw()
    assert y("DEBUG", "DIGEST") == digest and y("DBSIZE") == 502
    y.close()
    replica.stop()


# A writable replica says that what its clients write is not in its log: an LSN is a place in its primary's stream.
def test_local_writes_are_told(tmp_path):
    with holdfast() as primary, Server("holdfast", {**QUICK, **LOG, "replica-read-only": "no",
                                                    "replicaof": ["127.0.0.1", primary.port]}, directory=tmp_path) as replica:
        x, y = primary.raw(), replica.raw()
        wait_up(y)
        x("SET", "ours", 1)
        wait_for(lambda: in_step(x, y), "in step")
        assert info(y, "replication")["replica_unlogged_writes"] == "0"
        assert "A client has written to this replica" not in replica.text()
        lsn = info(y, "persistence")["log_lsn"]
        assert y("SET", "local", 1) == "OK"
        assert y("EVAL", "redis.call('INCR', 'local') return redis.call('INCR', 'local')", 0) == 3
        assert y("DEL", "nothing") == 0
        assert info(y, "replication")["replica_unlogged_writes"] == "3"
        assert replica.text().count("A client has written to this replica") == 1
        wait_for(lambda: in_step(x, y), "in step")
        assert int(info(y, "persistence")["log_lsn"]) >= int(lsn)
