# SPDX-License-Identifier: BSD-3-Clause
"""A full resynchronisation as the replica's clients see it, and the user that a replica is."""
import contextlib
import os
import signal
import time

import pytest

from net import Cable, assert_same, follow, holdfast, info, redis_server, wait_for, wait_up

KINDS = {"holdfast": holdfast, "redis": redis_server}
LIBRARY = "#!lua name=mylib\nredis.register_function{function_name='f', callback=function() return 7 end, " \
          "flags={'no-writes'}}"
SMALL = {"repl-backlog-size": "16kb"}


@contextlib.contextmanager
def raws(*servers):
    found = [s.raw() for s in servers]
    yield found
    for raw in found:
        raw.close()


def leave_behind(x, y, cable, keys, size=500):
    """The primary x goes on without its replica y, for longer than its backlog lasts."""
    cable.open = False
    cable.cut()
    wait_for(lambda: info(y)["master_link_status"] == "down", "the link is down")
    x.pipeline([["SET", f"new{i}", os.urandom(size)] for i in range(keys)])
    x("SET", "k", "new")


@pytest.mark.parametrize("load", ["swapdb", "disabled"])
def test_functions_come_with_the_data(load):
    """The libraries of a full resynchronisation are the primary's: those that came are there, those that the replica
    had before are not, and can be called at once; none are when the primary has none."""
    with holdfast() as primary, redis_server() as without, holdfast(**{"repl-diskless-load": load}) as replica, \
            raws(primary, without, replica) as (x, z, y):
        y("FUNCTION", "LOAD", LIBRARY.replace("mylib", "own").replace("'f'", "'g'"))
        assert y("FCALL", "g", 0) == 7
        x("FUNCTION", "LOAD", LIBRARY)
        x("SET", "k", "v")
        follow(y, primary.port)
        wait_up(y)
        assert y("FCALL", "f", 0) == 7
        assert y("FCALL", "g", 0).startswith("ERR Function not found")
        assert y("FUNCTION", "DUMP") == x("FUNCTION", "DUMP")
        assert_same(x, y)
        z("SET", "other", "v")
        follow(y, without.port)
        wait_for(lambda: y("EXISTS", "other") == 1, "the other's data are there")
        wait_up(y)
        assert y("FUNCTION", "LIST") == []
        assert y("FCALL", "f", 0).startswith("ERR Function not found")


@pytest.mark.parametrize("load", ["swapdb", "disabled"])
def test_clients_hear_of_the_new_data(load):
    """Who keeps what he has read is told to forget it."""
    with holdfast() as primary, holdfast(**{"repl-diskless-load": load}) as replica, raws(primary, replica) as (x, y):
        x("SET", "k", "new")
        y("SET", "k", "old")
        keeper = replica.raw()
        keeper("HELLO", 3)
        keeper("CLIENT", "TRACKING", "ON")
        assert keeper("GET", "k") == b"old"
        follow(y, primary.port)
        assert keeper.read() == ("push", [b"invalidate", ("null",)])
        wait_up(y)
        assert keeper("GET", "k") == b"new"
        keeper.close()


@pytest.mark.parametrize("kind,options", [
    ("holdfast", {"appendonly": "yes", "appendfsync": "always"}), ("redis", {})])
def test_swapdb_serves_the_old_data(kind, options):
    """With swapdb a replica is read while newer data of the same history are loaded, and says so; what would write, or
    save what is there, is refused; then all of the new data are there at once, functions too."""
    options = {"repl-diskless-load": "swapdb", "load-threads": "2", **options}
    with KINDS[kind](**SMALL) as primary, holdfast(**options) as replica, \
            raws(primary, replica) as (x, y):
        x("SET", "k", "old")
        x("SET", "gone", "old")
        cable = Cable(primary.port)
        follow(y, cable.port)
        wait_up(y)
        assert_same(x, y)
        cable.open = False
        cable.cut()
        x("FUNCTION", "LOAD", LIBRARY)
        x("DEL", "gone")
        leave_behind(x, y, cable, 400, 10_000)
        y("CONFIG", "SET", "key-load-delay", "20000")
        y("WATCH", "k")
        cable.open = True
        wait_for(lambda: info(y, "persistence")["async_loading"] == "1", "it loads")
        found = info(y, "persistence")
        assert found["loading"] == "0" and "loading_start_time" in found
        assert y("GET", "k") == y("GET", "gone") == b"old"
        assert y("DBSIZE") == 2
        assert y("EVAL_RO", "return redis.call('GET', 'k')", 0) == b"old"
        assert y("EVAL", "return redis.call('GET', 'k')", 0) == b"old"
        assert "READONLY" in y("EVAL", "return redis.call('SET', 'k', 'mine')", 0)
        assert y("FCALL", "f", 0).startswith("ERR Function not found")
        assert y("SET", "k", "mine").startswith("READONLY")
        for command in (["BGSAVE"], ["PSYNC", "?", "-1"]):
            assert y(*command).startswith("LOADING"), command
        y("MULTI")
        y("EVAL", "return redis.call('SET', 'k', 'mine')", 0)
        z = replica.raw()
        z("CONFIG", "SET", "replica-read-only", "no")
        assert "LOADING" in y("EXEC")
        y("WATCH", "k")
        for command in (["SET", "k", "mine"], ["EVAL", "return redis.call('SET', 'k', 'mine')", 0]):
            assert z(*command).startswith("LOADING"), command
        assert z("GET", "k") == b"old"
        z("CONFIG", "SET", "replica-read-only", "yes", "replica-serve-stale-data", "no")
        assert z("GET", "k").startswith("MASTERDOWN")
        z("CONFIG", "SET", "replica-serve-stale-data", "yes")
        assert info(z, "persistence")["async_loading"] == "1"
        z("CONFIG", "SET", "key-load-delay", "0")
        wait_up(z)
        assert info(z, "persistence")["async_loading"] == "0"
        # What was watched is not there any more.
        y("MULTI")
        y("GET", "k")
        assert y("EXEC") == ("null array",)
        assert_same(x, z)
        assert z("GET", "k") == b"new" and z("EXISTS", "gone") == 0
        assert z("FCALL", "f", 0) == 7
        assert info(x, "stats")["sync_full"] == "2"
        z.close()
        cable.close()


def test_swapdb_of_another_history():
    """Data of another history are not mixed up with what clients have read before: they are told to wait."""
    with holdfast() as one, redis_server() as other, holdfast(**{"repl-diskless-load": "swapdb"}) as replica, \
            raws(one, other, replica) as (x, z, y):
        x("SET", "k", "old")
        follow(y, one.port)
        wait_up(y)
        z.pipeline([["SET", f"k{i}", i] for i in range(300)])
        y("CONFIG", "SET", "key-load-delay", "20000")
        follow(y, other.port)
        wait_for(lambda: info(y, "persistence")["loading"] == "1", "it loads")
        assert info(y, "persistence")["async_loading"] == "0"
        assert y("GET", "k").startswith("LOADING")
        y("CONFIG", "SET", "key-load-delay", "0")
        wait_up(y)
        assert_same(z, y)


@pytest.mark.parametrize("load", ["swapdb", "disabled"])
def test_given_up_while_it_is_loaded(load):
    """A replica that is made a primary while the data come has what it had before: nothing, or the old data; and can
    follow again."""
    with holdfast() as primary, holdfast(**{"repl-diskless-load": load}) as replica, raws(primary, replica) as (x, y):
        x.pipeline([["SET", f"k{i}", "new"] for i in range(3000)])
        if load == "swapdb":
            y("SET", "own", "old")
        before = y("DBSIZE")
        y("CONFIG", "SET", "key-load-delay", "20000")
        follow(y, primary.port)
        field = "loading" if load == "swapdb" else "async_loading"
        wait_for(lambda: info(y, "persistence")[field] == "1", "it loads")
        assert y("REPLICAOF", "NO", "ONE") == "OK"
        assert y("DBSIZE") == before and y("SET", "own", "newer") == "OK"
        y("CONFIG", "SET", "key-load-delay", "0")
        assert info(y, "persistence")[field] == "0"
        assert y("GET", "own") == b"newer"
        follow(y, primary.port)
        wait_up(y)
        assert_same(x, y)


@pytest.mark.parametrize("load", ["swapdb", "on-empty-db", "disabled"])
def test_torn_transfer(load):
    """A transfer that is cut costs nothing: the old data are there, and read, until a whole one has come."""
    with holdfast(**SMALL) as primary, holdfast(**{"repl-diskless-load": load}) as replica, \
            raws(primary, replica) as (x, y):
        x("SET", "k", "old")
        cable = Cable(primary.port)
        follow(y, cable.port)
        wait_up(y)
        x("FUNCTION", "LOAD", LIBRARY)
        assert_same(x, y)
        leave_behind(x, y, cable, 8000)
        cable.cut_after, cable.cuts = 500_000, [500_000]
        cable.open = True
        for over in (lambda: not cable.cuts, lambda: cable.cut_after is None):
            wait_for(over, "it was cut")
            assert y("GET", "k") == b"old"
            assert y("FCALL", "f", 0) == 7
        wait_up(y)
        assert_same(x, y)
        assert y("FCALL", "f", 0) == 7
        assert int(info(x, "stats")["sync_full"]) == 4
        cable.close()


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_user_of_a_replica(kind):
    """masteruser and masterauth are of a user who may do no more than replicate; a wrong password, or a user who may
    not, is no way in, and what is wrong is said; they can be set while it runs. requirepass alone takes masterauth alone."""
    with KINDS[kind]() as primary, holdfast(masteruser="repl", masterauth="wrong") as replica, \
            raws(primary, replica) as (x, y):
        assert x("ACL", "SETUSER", "repl", "on", ">secret", "+psync", "+replconf", "+ping") == "OK"
        assert x("ACL", "SETUSER", "default", "resetpass", ">main") == "OK"
        assert x("AUTH", "main") == "OK"
        x("SET", "k", "v")
        follow(y, primary.port)
        wait_for(lambda: "WRONGPASS" in replica.text(), "the password is wrong")
        assert info(y)["master_link_status"] == "down" and y("DBSIZE") == 0
        y("CONFIG", "SET", "masterauth", "secret")
        wait_up(y)
        assert_same(x, y)
        x("SET", "k", "w")
        assert_same(x, y)
        assert "user=repl" in x("CLIENT", "LIST", "TYPE", "replica").decode()
        # He loses the right to.
        x("ACL", "SETUSER", "repl", "-psync")
        x("CLIENT", "KILL", "TYPE", "replica")
        wait_for(lambda: "NOPERM" in replica.text(), "it is not permitted")
        y("CONFIG", "SET", "masteruser", "", "masterauth", "main")
        wait_up(y)
        x("SET", "k", "z")
        assert_same(x, y)


def test_user_of_redis_at_holdfast():
    """The same with redis-server as the replica."""
    with holdfast() as primary, redis_server(masteruser="repl", masterauth="secret") as replica, \
            raws(primary, replica) as (x, y):
        assert x("ACL", "SETUSER", "repl", "on", ">secret", "+psync", "+replconf", "+ping") == "OK"
        assert x("ACL", "SETUSER", "default", "resetpass", ">main") == "OK"
        assert x("AUTH", "main") == "OK"
        x("SET", "k", "v")
        follow(y, primary.port)
        wait_up(y)
        assert_same(x, y)
        x("SET", "k", "w")
        assert_same(x, y)


def data_of(server, *replconf):
    """What a replica would be sent that has said this before, as a file of RDB."""
    raw = server.raw()
    for words in replconf:
        assert raw("REPLCONF", *words) == "OK"
    raw.send(raw.encode(["PSYNC", "?", "-1"]))
    data = b""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        begin = data.find(b"$EOF:")
        if begin >= 0 and len(data) > begin + 45 and data.find(data[begin + 5:begin + 45], begin + 46) > 0:
            break
        data += raw.socket.recv(65536)
    mark = data[begin + 5:begin + 45]
    raw.close()
    return data[begin + 47:data.find(mark, begin + 46)]


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_rdb_filter(kind, tmp_path):
    """REPLCONF rdb-filter-only: functions alone, or nothing at all, come; others that wait at the same time get
    everything; what is unknown is an error. Of redis-server the same."""
    with KINDS[kind](**{"repl-diskless-sync-delay": "1"}) as primary, raws(primary) as (x,):
        x("FUNCTION", "LOAD", LIBRARY)
        x.pipeline([["SET", f"key{i}", i] for i in range(100)])
        raw = primary.raw()
        assert raw("REPLCONF", "rdb-filter-only", "functions keys") == "ERR Unsupported rdb-filter-only option: keys"
        assert raw("REPLCONF", "rdb-filter-only", "'") == "ERR Missing rdb-filter-only values"
        # Without a mark for its end it is not sent.
        assert raw("REPLCONF", "rdb-filter-only", "functions") == "OK"
        for command in (["PSYNC", "?", "-1"], ["PSYNC", "?", "x"], ["PSYNC", "0" * 40, "1"], ["SYNC"]):
            assert raw(*command) == "ERR Filtered replica requires EOF capability", command
        raw.close()
        capa = ("capa", "eof")
        found = {filter: data_of(primary, capa, ("rdb-only", "1"), ("rdb-filter-only", filter))
                 for filter in ("functions", "")}
        found["all"] = data_of(primary, capa)
        for filter, functions, keys in (("functions", 1, 0), ("", 0, 0), ("all", 1, 100)):
            directory = tmp_path / (filter or "none")
            directory.mkdir()
            (directory / "dump.rdb").write_bytes(found[filter])
            with redis_server(dir=directory) as reader, raws(reader) as (y,):
                assert len(y("FUNCTION", "LIST")) == functions, filter
                assert y("DBSIZE") == keys, filter


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_what_comes_meanwhile_is_in_the_log(kind):
    """A replica stops in the middle of what it is sent, and another one comes late: the stream behind it is not held in memory
    for them but sent from the log, which goes back so far until then, though it is rewritten."""
    with holdfast(appendonly="yes", **{"repl-backlog-size": "1mb", "repl-log-history": "0",
                                       "snapshot-rate-limit": "1mb", "repl-timeout": "600"}) as primary, \
            KINDS[kind](**{"repl-timeout": "600"}) as first, KINDS[kind]() as second, \
            raws(primary, first, second) as (x, y, z):
        x.pipeline([("SET", f"k{i}", os.urandom(1000)) for i in range(4000)])
        follow(y, primary.port)
        wait_for(lambda: "state=send_bulk" in info(x).get("slave0", ""), "it is sent")
        first.process.send_signal(signal.SIGSTOP)
        follow(z, primary.port)
        before = int(info(x, "memory")["used_memory"])
        x("CONFIG", "SET", "snapshot-rate-limit", 0)
        for _ in range(2):
            for _ in range(20):
                x.pipeline([("SET", f"hot{i}", os.urandom(10000)) for i in range(100)])
            assert x("WAITAOF", 1, 0, 60000)[0] == 1
            assert x("BGREWRITEAOF") == "Background append only file rewriting started"
            wait_for(lambda: info(x, "persistence")["aof_rewrite_in_progress"] == "0", "the rewrite")
        x("SET", "last", 1)
        wait_for(lambda: int(info(x, "memory")["used_memory"]) < before + (12 << 20), "40 MB are not in memory")
        assert "state=send_bulk" in info(x)["slave0"] + info(x)["slave1"]
        first.process.send_signal(signal.SIGCONT)
        for raw in (y, z):
            wait_up(raw)
            wait_for(lambda: raw("GET", "last") == b"1", "it has everything")
            assert_same(x, raw)
        wait_for(lambda: info(x)["connected_slaves"] == "2", "both are there")
        assert info(x, "stats")["sync_full"] == "2"
        assert "gets what has come behind it from the log" in primary.text()
