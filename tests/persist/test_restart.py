# SPDX-License-Identifier: BSD-3-Clause
"""What was given to the server is there again after it was ended: politely, or with kill -9 after a save."""
import os
import signal
import time

import data
from harness import Server, wait_for


def saved(client):
    info = client.info("persistence")
    assert info["rdb_last_bgsave_status"] == "ok"
    return info["rdb_bgsave_in_progress"] == 0


def only_the_file(directory):
    """No temporary file is left behind."""
    return sorted(p.name for p in directory.iterdir() if not p.name.endswith(".log")) == ["dump.rdb"]


# SIGTERM with save points: saved, ended with status 0, and loaded again.
def test_sigterm_with_save_points(tmp_path):
    server = Server(options={"save": "3600 1"}, directory=tmp_path)
    data.fill(server.raw())
    held = data.contents(server.raw())
    assert server.terminate() == 0
    server.check_log()
    assert only_the_file(tmp_path)
    with Server(directory=tmp_path) as again:
        data.assert_same(held, data.contents(again.raw()))


# What Holdfast left at SIGTERM, redis-server serves from the same directory, and the other way round.
def test_redis_serves_the_same_directory(tmp_path):
    server = Server(options={"save": "3600 1"}, directory=tmp_path)
    data.fill(server.raw())
    held = data.contents(server.raw())
    server.terminate()
    redis = Server("redis", options={"save": "3600 1"}, directory=tmp_path)
    data.assert_same(held, data.contents(redis.raw()))
    redis.client().set("from", "redis")
    held = data.contents(redis.raw())
    redis.terminate()
    with Server(directory=tmp_path) as again:
        data.assert_same(held, data.contents(again.raw()))


# SIGINT ends it in the same way.
def test_sigint(tmp_path):
    server = Server(options={"save": "3600 1"}, directory=tmp_path)
    server.client().set("k", "v")
    assert server.terminate(signal.SIGINT) == 0
    with Server(directory=tmp_path) as again:
        assert again.client().get("k") == b"v"


# Without save points SIGTERM saves nothing, as with redis-server.
def test_sigterm_without_save_points(tmp_path):
    server = Server(directory=tmp_path)
    server.client().set("k", "v")
    assert server.terminate() == 0
    assert not (tmp_path / "dump.rdb").exists()


def shut_down(server, *how):
    raw = server.raw()
    raw.send(raw.encode(("SHUTDOWN",) + how))
    status = server.process.wait(30)
    server.terminate()
    server.check_log()
    return status


# SHUTDOWN SAVE saves where no save point is set, SHUTDOWN NOSAVE does not where some are.
def test_shutdown(tmp_path):
    server = Server(directory=tmp_path)
    server.client().set("k", "v1")
    assert shut_down(server, "SAVE") == 0
    server = Server(options={"save": "3600 1"}, directory=tmp_path)
    assert server.client().get("k") == b"v1"
    server.client().set("k", "v2")
    assert shut_down(server, "NOSAVE") == 0
    server = Server(options={"save": "3600 1"}, directory=tmp_path)
    assert server.client().get("k") == b"v1"
    server.client().set("k", "v3")
    assert shut_down(server) == 0
    with Server(directory=tmp_path) as again:
        assert again.client().get("k") == b"v3"


# BGSAVE, then kill -9: what was there when BGSAVE was asked for is there again.
def test_bgsave_and_kill(tmp_path):
    server = Server(directory=tmp_path)
    raw = server.raw()
    data.fill(raw)
    held = data.contents(raw)
    before = raw("LASTSAVE")
    assert raw("BGSAVE") == "Background saving started"
    wait_for(lambda: saved(server.client()))
    assert raw("LASTSAVE") >= before
    raw("SET", "after", "lost")
    server.kill()
    with Server(directory=tmp_path) as again:
        data.assert_same(held, data.contents(again.raw()))
    assert only_the_file(tmp_path)


# A snapshot is of one instant: everything that is changed, deleted, made or flushed while it is being
# written stands in it as it was.
def test_snapshot_is_of_one_instant(tmp_path):
    server = Server(directory=tmp_path, plain=True)
    raw = server.raw()
    for start in range(0, 60000, 10000):
        raw.pipeline([("SET", f"key:{i}", f"old {i}") for i in range(start, start + 10000)])
    data.fill(raw)
    raw("DEL", "many:7")
    held = data.contents(raw)
    assert raw("BGSAVE") == "Background saving started"
    raw.pipeline([("SET", f"key:{i}", "new") for i in range(0, 60000, 7)]
                 + [("DEL", f"key:{i}") for i in range(0, 60000, 11)]
                 + [("SET", f"new:{i}", "new") for i in range(1000)]
                 + [("SELECT", 9), ("HSET", "hash:big", "field 5", "new"), ("SADD", "set:big", "new"),
                    ("ZADD", "zset:big", "5", "member 9"), ("ZREMRANGEBYRANK", "zset:big", 10, 500),
                    ("SELECT", 0), ("LTRIM", "list:nodes", 5, 200), ("SETRANGE", "big", 100, "new"),
                    ("APPEND", "noise", "new"), ("SWAPDB", 0, 3)])
    raw("FLUSHALL")
    wait_for(lambda: saved(server.client()))
    server.kill()
    with Server(directory=tmp_path, plain=True) as again:
        data.assert_same(held, data.contents(again.raw()))


# A save point that is reached saves by itself.
def test_save_point(tmp_path):
    server = Server(options={"save": "1 3"}, directory=tmp_path)
    client = server.client()
    client.set("k", 1)
    client.incr("k")
    client.incr("k")
    wait_for(lambda: (tmp_path / "dump.rdb").exists() and client.info("persistence")["rdb_changes_since_last_save"] == 0)
    server.kill()
    with Server(directory=tmp_path) as again:
        assert again.client().get("k") == b"3"


# Keys that expired while the server was down are not there again; the others keep their time.
def test_expiry_while_down(tmp_path):
    server = Server(directory=tmp_path)
    client = server.client()
    client.set("short", 1, px=300)
    client.set("long", 1, ex=1000)
    client.set("none", 1)
    client.save()
    server.kill()
    time.sleep(0.4)
    with Server(directory=tmp_path) as again:
        client = again.client()
        assert sorted(client.keys()) == [b"long", b"none"]
        assert 900 < client.ttl("long") <= 1000 and client.ttl("none") == -1


# dbfilename and dir are obeyed, also when they are set at run time.
def test_names(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with Server(directory=tmp_path, options={"dbfilename": "one.rdb", "enable-protected-configs": "yes"}) as server:
        client = server.client()
        client.set("k", "v")
        client.save()
        assert (tmp_path / "one.rdb").exists()
        client.config_set("dbfilename", "two.rdb")
        client.config_set("dir", str(tmp_path / "elsewhere"))
        client.save()
    assert (tmp_path / "elsewhere/two.rdb").read_bytes()[:9] == b"REDIS0010"
    assert os.listdir(tmp_path / "elsewhere") == ["two.rdb"]


# DEBUG RELOAD saves, empties and loads: nothing has changed.
def test_debug_reload(server):
    raw = server.raw()
    data.fill(raw)
    held = data.contents(raw)
    assert raw("DEBUG", "RELOAD") == "OK"
    data.assert_same(held, data.contents(raw))
