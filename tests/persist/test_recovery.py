# SPDX-License-Identifier: BSD-3-Clause
"""What a start makes of a log: whole, of redis-server, torn, damaged, incomplete; and up to a moment."""
import subprocess
import time

import pytest

from harness import BUILD, Server, wait_for
from log_bytes import Log, request, write_directory
from test_log import info

ON = {"appendonly": "yes"}


def tool(*args):
    return subprocess.run([str(BUILD / "holdfast"), *map(str, args)], capture_output=True, text=True, timeout=60)


def digest(server):
    return server.client().execute_command("DEBUG", "DIGEST")


def refused(directory, *words, **options):
    """The start ends with an error that says all these words, and changes nothing."""
    before = tree(directory)
    server = Server(options={**ON, **options}, directory=directory, wait=False)
    assert server.process.wait(60) == 1
    text = server.text()
    server.terminate()
    server.check_log()
    for word in words:
        assert word in text, text
    assert tree(directory) == before
    return text


def tree(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*")
            if p.is_file() and not p.name.endswith(".log")}


def small():
    """Three groups and what they make."""
    return Log().group("SELECT 0", "SET a 1", ms=1000).group("MULTI", "INCR a", "RPUSH l x y", "EXEC", ms=2000) \
        .group("SET b 2", ms=3000)


def contents(server):
    c = server.client()
    return {k: c.get(k) if c.type(k) == b"string" else c.lrange(k, 0, -1) for k in c.keys()}


SMALL = {b"a": b"2", b"l": [b"x", b"y"], b"b": b"2"}


def work(client, seed=0):
    """Commands of all kinds, with transactions, expiry and several databases."""
    pipe = client.pipeline(transaction=False)
    for i in range(300):
        pipe.set(f"s{i}", "v" * (i * 7 % 300))
        pipe.rpush(f"l{i % 20}", i, "x" * 70)
        pipe.hset(f"h{i % 10}", f"f{i}", i)
        pipe.zadd(f"z{i % 5}", {f"m{i}": i / 3})
        pipe.sadd(f"t{i % 7}", i)
        pipe.incrbyfloat("f", 0.1)
        pipe.spop(f"t{i % 7}")
        pipe.expire(f"s{i}", 1000 + i + seed)
    pipe.delete("s5", "l3")
    pipe.execute()
    multi = client.pipeline(transaction=True)
    multi.incr("n").rpush("q", 1, 2, 3).lpop("q")
    multi.execute()
    client.execute_command("SELECT", 3)
    client.set("in three", "yes", px=10_000_000)
    client.execute_command("SELECT", 0)


# Directories and old single files of redis-server, with and without an RDB preamble, hold the same data
# here; and redis-server loads what a start here has left.
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_of_redis(tmp_path, preamble):
    options = {**ON, "aof-use-rdb-preamble": preamble, "aof-timestamp-enabled": "yes"}
    # What it has acknowledged is to be there after kill -9, also while a sync of its keeps it from writing.
    redis = Server("redis", options={**options, "appendfsync": "always"}, directory=tmp_path)
    work(redis.client())
    redis.client().bgrewriteaof()
    while redis.client().info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.02)
    work(redis.client(), seed=5)
    want = digest(redis)
    redis.kill()
    with Server(options=ON, directory=tmp_path) as server:
        assert digest(server) == want
    again = Server("redis", options=options, directory=tmp_path)
    assert digest(again) == want
    again.kill()
    # The incremental alone, as the single file of an older version: behind the base's bytes.
    files = sorted((tmp_path / "appendonlydir").iterdir())
    base = next(f for f in files if ".base." in f.name)
    incremental = next(f for f in files if f.name.endswith(".2.incr.aof"))
    old = tmp_path / "old"
    old.mkdir()
    (old / "appendonly.aof").write_bytes(base.read_bytes() + incremental.read_bytes())
    result = tool("check", old)
    assert result.returncode == 0, result.stdout
    with Server(options=ON, directory=old) as server:
        assert digest(server) == want
    assert not (old / "appendonly.aof").exists()
    assert (old / "appendonlydir" / "appendonly.aof").exists()
    again = Server("redis", options=options, directory=old)
    assert digest(again) == want
    again.kill()


# A key whose expiry has passed was there when the later commands came: they find it, and no half of
# it comes back.
def test_expired_since(tmp_path):
    past = int(time.time() * 1000) - 100_000
    write_directory(tmp_path, Log().group("SELECT 0", f"SET k 5 PXAT {past}", "INCR k", "RPUSH l 1",
                                          f"PEXPIREAT l {past}", "RPUSH l 2", "SET stays 1"))
    with Server(options=ON, directory=tmp_path) as server:
        c = server.client()
        assert c.keys() == [b"stays"]
        assert "answered by an error" not in server.text()


# A torn end is cut off and kept beside, whatever it is: a piece of a group, a transaction that is not
# whole, a piece of a line, zeros. The log says so.
@pytest.mark.parametrize("tail", [b"#HF1 gro", b"#HF1 group 200\r\n*3\r\n$3\r\nSE", b"\0" * 5000,
                                  b"#HF1 group 200\r\n" + request("MULTI") + request("SET", "x", "y"),
                                  small().group("SET c 3").data[len(small().data):-4],
                                  request("MULTI") + request("SET", "x", "y"), request("SET", "x", "y")[:-1]],
    ids=["line", "group", "zeros", "in multi", "commit", "redis in multi", "redis"])
def test_torn(tmp_path, tail):
    path = write_directory(tmp_path, small().data + tail) / "appendonly.aof.1.incr.aof"
    refused(tmp_path, "aof-load-truncated is no", "offset %d" % len(small().data), **{"aof-load-truncated": "no"})
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == SMALL
        assert "were cut off and are kept in" in server.text()
    assert path.read_bytes()[:len(small().data)] == small().data
    kept = [p for p in path.parent.iterdir() if ".torn-" in p.name]
    assert [p.read_bytes() for p in kept] == [tail]
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == SMALL


# A changed byte in the middle is refused, with file, offset, LSN and time; `check` says the same, and
# `repair` keeps what is before it and puts the rest aside.
def test_damaged(tmp_path):
    first = small()
    second = Log(first.lsn, first.close().crc).group("SET c 3", ms=4000)
    data = first.data.replace(b"INCR", b"DECR")
    path = write_directory(tmp_path, data, second)
    offset = data.rindex(b"#HF1 group", 0, data.index(b"DECR"))
    text = refused(tmp_path, "appendonly.aof.1.incr.aof", f"offset {offset}", "the checksum is", "01 Jan 1970",
                   "2 valid groups begin", "holdfast repair")
    assert "Ready to accept" not in text
    result = tool("check", tmp_path)
    assert result.returncode == 1
    assert "DAMAGED" in result.stdout and f"offset {offset}" in result.stdout
    before = tree(path)
    result = tool("repair", tmp_path)
    assert result.returncode == 1 and "Nothing was changed" in result.stdout
    assert "appendonly.aof.2.incr.aof" in result.stdout
    assert tree(path) == before
    result = tool("repair", tmp_path, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    after = tree(path)
    assert data[offset:] in after.values() and second.data in after.values()
    result = tool("check", tmp_path)
    assert result.returncode == 0, result.stdout
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == {b"a": b"1"}


# `aof-load-corrupt-tail-max-size`: damage of the last file goes as a torn end does, when it and all behind it are no more
# bytes than that; also in a file that redis-server wrote, and where valid groups go with it. In another file it is refused.
@pytest.mark.parametrize("kind", ["own", "closed", "redis", "single"])
def test_corrupt_tail(tmp_path, kind):
    if kind in ("own", "closed"):
        log = small().close() if kind == "closed" else small()
        data = log.data.replace(b"INCR", b"DECR")
        offset = data.rindex(b"#HF1 group", 0, data.index(b"DECR"))
    else:
        good = request("SELECT", 0) + request("SET", "a", 1)
        offset = len(good)
        data = good + request("MULTI") + request("SET", "b", 1) + b"*x\r\n" + request("EXEC") + request("SET", "c", 1)
    tail = len(data) - offset
    if kind == "single":
        (tmp_path / "appendonly.aof").write_bytes(data)
    else:
        path = write_directory(tmp_path, data)
    if kind == "redis":
        (path / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    name = "aof-load-corrupt-tail-max-size"
    for limit in (0, tail - 1):
        refused(tmp_path, "appendonly.aof", **{name: limit})
    with Server(options={**ON, name: tail}, directory=tmp_path) as server:
        assert contents(server) == {b"a": b"1"}
        text = server.text()
        assert f"are within {name}, and are cut off" in text and "has no effect" not in text
        assert ("With them go" in text and "valid groups" in text) == (kind in ("own", "closed"))
        server.client().set("new", 1)
    kept = [p for p in tmp_path.rglob("*") if ".torn-" in p.name]
    assert [p.read_bytes() for p in kept] == [data[offset:]]
    with Server(options={**ON, name: 0}, directory=tmp_path) as server:
        assert contents(server) == {b"a": b"1", b"new": b"1"}


def test_a_corrupt_tail_is_of_the_last_file(tmp_path):
    first = small()
    second = Log(first.lsn, first.crc).group("SET c 3", ms=4000)
    write_directory(tmp_path, first.data.replace(b"INCR", b"DECR"), second)
    refused(tmp_path, "is damaged at offset", **{"aof-load-corrupt-tail-max-size": 10**9})


# Two files that do not follow each other are refused, and so is an end that is torn in another file
# than the last.
def test_not_one_log(tmp_path):
    first = small()
    second = Log(first.lsn, first.crc ^ 1).group("SET c 3", ms=4000)
    path = write_directory(tmp_path, first, second)
    refused(tmp_path, "does not follow")
    good = Log(first.lsn, first.crc).group("SET c 3", ms=4000)
    (path / "appendonly.aof.2.incr.aof").write_bytes(good.data)
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == {**SMALL, b"c": b"3"}
    (path / "appendonly.aof.1.incr.aof").write_bytes(first.data[:-9])
    (path / "appendonly.aof.2.incr.aof").write_bytes(good.data)
    refused(tmp_path, "is damaged at offset")


# A file that the manifest names and that is not there, or files without a manifest, or a manifest with
# a changed byte: refused, or the RDB file, if that was asked for. The files of the log stay.
@pytest.mark.parametrize("what", ["missing", "no manifest", "manifest"])
def test_incomplete(tmp_path, what):
    with Server(options={"save": "3600 1"}, directory=tmp_path) as server:
        server.client().set("from", "rdb")
    path = write_directory(tmp_path, small())
    names = {"missing": "appendonly.aof.1.incr.aof"}
    name = names.get(what, "appendonly.aof.manifest")
    if what == "manifest":
        (path / name).write_bytes((path / name).read_bytes().replace(b"seq 1", b"seq 2"))
    else:
        (path / name).rename(tmp_path / "away")
    refused(tmp_path, {"missing": "which is missing", "no manifest": "but no manifest",
                       "manifest": "checksum"}[what], "recovery-fallback")
    with Server(options={**ON, "recovery-fallback": "snapshot"}, directory=tmp_path) as server:
        assert contents(server) == {b"from": b"rdb"}
        assert "recovery-fallback is snapshot" in server.text()
    kept = tree(path).values()
    assert what == "missing" or small().data in kept
    # From now on there is a log again, which has what the RDB file had.
    (tmp_path / "dump.rdb").unlink()
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == {b"from": b"rdb"}


# With both there, the log is what counts. Without a log, the RDB file; it becomes the log's base.
def test_log_and_snapshot(tmp_path):
    with Server(options={"save": "3600 1"}, directory=tmp_path) as server:
        server.client().set("from", "rdb")
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == {b"from": b"rdb"}
    (tmp_path / "dump.rdb").unlink()
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == {b"from": b"rdb"}
    other = tmp_path / "other"
    other.mkdir()
    with Server(options={"save": "3600 1"}, directory=other) as server:
        server.client().set("from", "rdb")
    write_directory(other, small())
    with Server(options=ON, directory=other) as server:
        assert contents(server) == SMALL


# Up to an LSN, a time in ms, or a date: what came later is not there, the files are kept as they were,
# and the next start goes on from there.
@pytest.mark.parametrize("until, want", [
    ("49", {}), ("50", {b"a": b"1"}), ("100", {b"a": b"1"}), (str(small().lsn), SMALL),
    ("1970-01-01 00:00:02.500Z", {b"a": b"2", b"l": [b"x", b"y"]}), ("1970-01-01T00:00:01.5Z", {b"a": b"1"})])
def test_until(tmp_path, until, want):
    path = write_directory(tmp_path, small().data + b"#HF1 group torn")
    before = tree(path)
    with Server(options={**ON, "recover-until": until}, directory=tmp_path) as server:
        assert contents(server) == want
        server.client().set("new", 1)
    aside = next(p for p in path.iterdir() if p.name.startswith("before-recover-until-"))
    assert tree(aside) == before
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == {**want, b"new": b"1"}
    assert tree(aside) == before


# A moment that the log does not reach is not taken for its end without a word: an LSN behind it and a time to come
# are refused with what was understood and where the log ends, which does not bring the RDB file up either. Since a
# time that has been nothing may have been written: all of it is there, and the log says so.
@pytest.mark.parametrize("torn", [b"", b"#HF1 group torn"])
def test_until_behind_the_end(tmp_path, torn):
    with Server(options={"save": "3600 1"}, directory=tmp_path) as server:
        server.client().set("from", "rdb")
    write_directory(tmp_path, small().data + torn)
    end = f"the log goes up to {time.strftime('%d %b %Y %H:%M:%S', time.localtime(3))}.000 (LSN {small().lsn})" + \
        (", where it is torn" if torn else "")
    fallback = {"recovery-fallback": "snapshot"}
    for until, asked in [(small().lsn + 1, f"LSN {small().lsn + 1}"), (2**63 - 1, "which is yet to come"),
                         ("2999-01-01T00:00:00.25", "01 Jan 2999 00:00:00.250, which is yet to come")]:
        text = refused(tmp_path, "recover-until asks for ", f"{asked}, but {end}",
                       **{"recover-until": str(until), **fallback})
        assert "The log cannot be used" not in text and "starting from" not in text
    with Server(options={**ON, "recover-until": "2026-11-21", **fallback}, directory=tmp_path) as server:
        assert contents(server) == SMALL
        assert f"recover-until asks for 21 Nov 2026 00:00:00.000, but {end}: what was asked for lies behind" \
            in server.text()
    with Server(options=ON, directory=tmp_path) as server:
        assert contents(server) == SMALL


# A moment before the base is refused, and nobody is sent to the RDB file, which is no answer to that.
def test_until_before_the_base(tmp_path):
    with Server(options=ON, directory=tmp_path) as server:
        raw = server.raw()
        raw("SET", "a", "1")
        raw("BGREWRITEAOF")
        wait_for(lambda: info(raw)["aof_rewrites"] == "1" and info(raw)["aof_rewrite_in_progress"] == "0")
        begin = int(info(raw)["log_lsn"])
        raw("SET", "b", "1")
        raw("SAVE")
    for until, asked in [(begin - 1, f"LSN {begin - 1}"), ("2020-02-01", "01 Feb 2020 00:00:00.000")]:
        text = refused(tmp_path, f"recover-until asks for {asked}, but the log begins with a base of",
                       f"(LSN {begin})", "a moment before", **{"recover-until": str(until)})
        assert "The log cannot be used" not in text and "recovery-fallback" not in text
    with Server(options={**ON, "recover-until": str(begin)}, directory=tmp_path) as server:
        assert contents(server) == {b"a": b"1"}


def test_until_what(tmp_path):
    write_directory(tmp_path, small())
    refused(tmp_path, "no LSN, milliseconds or date", **{"recover-until": "yesterday"})
    (tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(request("SET", "a", "1"))
    manifest = tmp_path / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_bytes(manifest.read_bytes().split(b"#")[0])
    refused(tmp_path, "nothing says when", **{"recover-until": "1970-01-01T00:00:01Z"})


# redis-server has gone on in a directory of ours: its commands behind our lines are loaded.
def test_redis_has_appended(tmp_path):
    write_directory(tmp_path, small().close())
    redis = Server("redis", options={**ON, "aof-timestamp-enabled": "yes"}, directory=tmp_path)
    assert contents(redis) == SMALL
    work(redis.client())
    want = digest(redis)
    redis.terminate()
    with Server(options=ON, directory=tmp_path) as server:
        assert digest(server) == want


# `holdfast log` lists commands with LSN and time, by key and by range.
def test_list(tmp_path):
    write_directory(tmp_path, small())
    lines = tool("log", tmp_path).stdout.splitlines()
    assert lines[0] == "50 1970-01-01T00:00:01.000Z db0 SET a 1"
    assert [line.split()[3] for line in lines] == ["SET", "MULTI", "INCR", "RPUSH", "EXEC", "SET"]
    assert [line.split()[3:] for line in tool("log", tmp_path, "--key", "[bl]").stdout.splitlines()] == \
        [["RPUSH", "l", "x", "y"], ["SET", "b", "2"]]
    assert len(tool("log", tmp_path, "--from", "1970-01-01T00:00:03Z").stdout.splitlines()) == 1
    assert len(tool("log", tmp_path, "--to", lines[1].split()[0]).stdout.splitlines()) == 2
    assert tool("log", tmp_path / "nowhere").returncode == 1
    assert tool("log", tmp_path, "--from", "soon").returncode == 2


# A command that this server does not know, or an unfit number of arguments, is not passed over.
@pytest.mark.parametrize("command", ["EVALX 0", "SET a"])
def test_unknown_command(tmp_path, command):
    write_directory(tmp_path, Log().group("SELECT 0", command))
    refused(tmp_path, "offset", command.split()[0].lower() if "SET" in command else command.split()[0])


# Told to stop in the middle of loading, it leaves the log as it is.
def test_stopped_while_loading(tmp_path):
    data = b"".join(request("SET", f"key:{i}", i) for i in range(100_000))
    path = write_directory(tmp_path, Log(), data)
    (path / "appendonly.aof.1.incr.aof").write_bytes(data)
    (path / "appendonly.aof.2.incr.aof").unlink()
    (path / "appendonly.aof.manifest").write_bytes(b"file appendonly.aof.1.incr.aof seq 1 type i\n")
    server = Server(options={**ON, "recovery-fallback": "snapshot"}, directory=tmp_path, wait=False)
    while True:
        try:
            server.raw()("SHUTDOWN", "NOSAVE")
        except (ConnectionError, FileNotFoundError, EOFError):
            if server.process.poll() is not None:
                break
    server.terminate()
    server.check_log()
    with Server(options=ON, directory=tmp_path) as again:
        assert again.client().dbsize() == 100_000
