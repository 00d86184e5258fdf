# SPDX-License-Identifier: BSD-3-Clause
"""DEBUG LOADAOF: what is in memory goes, and what the log has is loaded."""
import os
import random
import threading
import time

import pytest
import redis

from harness import Error, Server, wait_for
from test_chain import digest, persistence, write_randomly

SEED = int(os.environ.get("HF_SEED", time.time_ns() % 2**32))


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_what_the_log_has(kind):
    """All that the log has is there again, and nothing else, as in redis-server; writes go on behind it."""
    rng = random.Random(SEED)
    print("HF_SEED", SEED)
    with Server(kind, options={"appendonly": "yes"}) as server:
        client = server.client()
        write_randomly(client, rng, 2000)
        expected = digest(client)
        client.execute_command("DEBUG", "POPULATE", 50)
        assert digest(client) != expected
        raw = server.raw()
        assert raw("DEBUG", "LOADAOF") == "OK"
        assert digest(client) == expected
        assert raw("DEBUG", "LOADAOF", "whatever") == "OK"
        assert persistence(client)["rdb_changes_since_last_save"] == 0
        assert "Append Only File loaded by DEBUG LOADAOF" in server.text()
        client.bgrewriteaof()
        wait_for(lambda: not persistence(client)["aof_rewrite_in_progress"])
        write_randomly(client, rng, 500)
        client.set("behind", 1)
        expected = digest(client)
        assert raw("DEBUG", "LOADAOF") == "OK"
        assert digest(client) == expected
        server.terminate(seconds=60)
        server.start()
        assert digest(server.client()) == expected


def test_while_it_loads():
    """Others get -LOADING meanwhile, as in redis-server for PING, too; INFO is answered; and afterwards all is there."""
    with Server(options={"appendonly": "yes", "aof-use-rdb-preamble": "yes"}) as server:
        client = server.client()
        client.execute_command("DEBUG", "POPULATE", 3000)
        client.bgrewriteaof()
        wait_for(lambda: not persistence(client)["aof_rewrite_in_progress"] and
                 persistence(client)["aof_base_size"] > 10000)
        client.config_set("key-load-delay", 1500)
        client.set("last", 1)
        other = server.raw()
        done = []
        thread = threading.Thread(target=lambda: done.append(server.raw()("DEBUG", "LOADAOF")))
        thread.start()
        wait_for(lambda: isinstance(other("GET", "last"), Error))
        assert str(other("GET", "last")).startswith("LOADING")
        assert str(other("PING")).startswith("LOADING")
        fields = other("INFO", "persistence").decode()
        assert "loading:1" in fields
        thread.join()
        assert done == ["OK"]
        assert other("GET", "last") == b"1" and other("DBSIZE") == 3001


def test_without_a_log():
    """Where there is nothing to be loaded the data stays, and there is an error (redis-server ends)."""
    with Server() as server:
        raw = server.raw()
        raw("SET", "a", 1)
        assert raw("DEBUG", "LOADAOF") == \
            Error("ERR Error trying to load the AOF files, check server logs.")
        assert raw("GET", "a") == b"1"
        # One that was closed has what it had.
        raw("CONFIG", "SET", "appendonly", "yes")
        wait_for(lambda: "log_state:on" in raw("INFO", "persistence").decode())
        raw("SET", "b", 1)
        raw("CONFIG", "SET", "appendonly", "no")
        wait_for(lambda: "log_state:off" in raw("INFO", "persistence").decode())
        raw("SET", "c", 1)
        assert raw("DEBUG", "LOADAOF") == "OK"
        assert sorted(raw("KEYS", "*")) == [b"a", b"b"]


def test_in_a_transaction():
    """Its own effects are not in the log yet: refused, and nothing is lost."""
    with Server(options={"appendonly": "yes"}) as server:
        client = server.client()
        pipe = client.pipeline(transaction=True)
        pipe.set("a", 1)
        pipe.execute_command("DEBUG", "LOADAOF")
        pipe.set("b", 1)
        replies = pipe.execute(raise_on_error=False)
        assert replies[0] and replies[2] and isinstance(replies[1], redis.ResponseError)
        assert client.execute_command("DEBUG", "LOADAOF") == b"OK"
        assert sorted(client.keys()) == [b"a", b"b"]


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_damaged(kind):
    """A log that cannot be loaded ends the server, and nothing is written over."""
    with Server(kind, options={"appendonly": "yes", "appendfsync": "always"}) as server:
        client = server.client()
        client.set("a", 1)
        client.set("b", 1)
        path = max((server.directory / "appendonlydir").glob("*.incr.aof"))
        data = bytearray(path.read_bytes())
        data[data.index(b"*3")] = ord("!")
        path.write_bytes(data)
        with pytest.raises(redis.ConnectionError):
            client.execute_command("DEBUG", "LOADAOF")
        assert server.process.wait(60) == 1
        assert path.read_bytes() == data
        server.kill()
