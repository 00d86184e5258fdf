# SPDX-License-Identifier: BSD-3-Clause
"""What the log has of each command: its effect, which does the same again whenever and wherever it is
replayed. redis-server 7.0 is who replays it here."""
import os
import pathlib
import shutil
import sys
import tempfile
import time

import pytest

from harness import Error, Server, Simple, emptied, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "compare"))
import data  # noqa: E402
import differences  # noqa: E402
import generators  # noqa: E402
from sequences import Generator  # noqa: E402

SECONDS = float(os.environ.get("HF_EFFECTS_SECONDS", 0))
LOGGED = {"appendonly": "yes", "appendfsync": "always", "auto-aof-rewrite-percentage": "0"}


def parse(data):
    """The requests in a file of the log, without annotations; an incomplete one at the end is left out."""
    found, at = [], 0
    while at < len(data):
        if data[at:at + 1] == b"#":
            at = data.find(b"\n", at) + 1
            if at == 0:
                break
            continue
        request, here = [], at
        end = data.find(b"\r\n", here)
        if end < 0:
            break
        count, here = int(data[here + 1:end]), end + 2
        for _ in range(count):
            end = data.find(b"\r\n", here)
            if end < 0:
                return found
            size, here = int(data[here + 1:end]), end + 2
            if here + size + 2 > len(data):
                return found
            assert data[here + size:here + size + 2] == b"\r\n"
            request.append(data[here:here + size])
            here += size + 2
        found.append(request)
        at = here
    return found


def increments(server):
    folder = server.directory / "appendonlydir"
    names = [line.split()[1] for line in (folder / "appendonly.aof.manifest").read_text().splitlines()
             if line.split()[-1] == "i"]
    return b"".join((folder / name).read_bytes() for name in names if (folder / name).exists())


def unneeded(server):
    """Files of the log that its manifest does not name."""
    folder = server.directory / "appendonlydir"
    named = {line.split()[1] for line in (folder / "appendonly.aof.manifest").read_text().splitlines() if line.startswith("file ")}
    return {p.name for p in folder.iterdir()} - named - {"appendonly.aof.manifest"}


def effects(server, raw, mark=b"the end"):
    """All effects so far, up to a mark that is put behind them."""
    raw("SELECT", 0)
    raw("SET", mark, 1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = parse(increments(server))
        if found and found[-1] == [b"SET", mark, b"1"]:
            return found[:-1]
        time.sleep(0.02)
    raise AssertionError("the log does not have the last effect")


def replay(server, raw):
    """A redis-server that has loaded the log."""
    effects(server, raw)
    # Files that are needed no more are removed one by one.
    wait_for(lambda: not unneeded(server))
    directory = tempfile.mkdtemp(prefix="hf-replay-")
    shutil.copytree(server.directory / "appendonlydir", pathlib.Path(directory) / "appendonlydir")
    return Server("redis", {"appendonly": "yes"}, directory)


def groups(raw, key):
    """What the digest does not see."""
    if raw("TYPE", key) != Simple("stream"):
        return None
    return data.without_times(raw("XINFO", "STREAM", key, "FULL", "COUNT", 0))


def contents(raw):
    """All keys with what is under them, to show what differs."""
    found = {}
    for db in range(16):
        raw("SELECT", db)
        for key in raw("KEYS", "*"):
            found[db, key] = raw("DEBUG", "DIGEST-VALUE", key), raw("PEXPIRETIME", key), raw("TYPE", key), groups(raw, key)
    raw("SELECT", 0)
    return found


def told_of(server, key, most=10):
    """The last effects that name this key."""
    return [e for e in parse(increments(server)) if key in e[1:]][-most:]


def has_negative_zero(raw, place):
    """Digests are made of scores as they are written: redis-server's may be -0."""
    db, key = place
    raw("SELECT", db)
    return raw("TYPE", key) == Simple("zset") and differences.has_negative_zero(raw("ZRANGE", key, 0, -1, "WITHSCORES"))


def assert_same_data(server, raw):
    redis = replay(server, raw)
    try:
        other = redis.raw()
        mine, theirs = contents(raw), contents(other)
        if raw("DEBUG", "DIGEST") != other("DEBUG", "DIGEST") or mine != theirs:
            places = [p for p in sorted({*mine, *theirs})
                      if mine.get(p) != theirs.get(p) and not (p in mine and p in theirs and has_negative_zero(other, p))]
            assert not places, [(p, mine.get(p), theirs.get(p), told_of(server, p[1])) for p in places[:3]]
        other.close()
    finally:
        redis.kill()
        shutil.rmtree(redis.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def logged():
    with Server(options=LOGGED) as server:
        yield server


@pytest.fixture
def raw(logged):
    yield from emptied(logged)


def fits(effect, wanted):
    words = wanted.split()
    if len(words) != len(effect):
        return False
    for word, arg in zip(words, effect):
        if word == "T":  # an absolute time in milliseconds, from now on
            if not (arg.isdigit() and int(arg) > (time.time() - 600) * 1000):
                return False
        elif word != "?" and arg != word.replace("''", "").encode():
            return False
    return True


# A request as a line; what the log has of it, T being a time and ? anything. Lines that
# stand together are looked at together.
CASES = {
    "set": [("SET a 1", ["SET a 1"]), ("set a 2 ex 100", ["SET a 2 PXAT T"]), ("SET a 3 PX 100000 GET", ["SET a 3 PXAT T"]),
            ("SET a 4 KEEPTTL", ["SET a 4 KEEPTTL"]), ("SET a 5 NX", []), ("SET b 5 NX", ["SET b 5"]),
            ("SET a 5 XX GET", ["SET a 5"]), ("SET a 5 EXAT 4102444800", ["SET a 5 PXAT 4102444800000"]),
            ("SETEX a 100 v", ["SET a v PXAT T"]), ("PSETEX a 100000 v", ["SET a v PXAT T"]), ("SETNX a 1", []),
            ("SETNX c 1", ["SETNX c 1"]), ("GETSET a 2", ["SET a 2"]), ("GETDEL a", ["DEL a"]), ("GETDEL a", [])],
    "past": [(["SET a x PXAT 1", "APPEND a y"], ["SET a x PXAT 1", "DEL a", "APPEND a y"])],
    "getex": [("SET a v", ["SET a v"]), ("GETEX a", []), ("GETEX a EX 100", ["PEXPIREAT a T"]),
              ("GETEX a PERSIST", ["PERSIST a"]), ("GETEX a PERSIST", []), ("GETEX a PXAT 1", ["DEL a"])],
    "expire": [("SET a v", ["SET a v"]), ("EXPIRE a 100", ["PEXPIREAT a T"]), ("PEXPIRE a 100000", ["PEXPIREAT a T"]),
               ("EXPIREAT a 4102444800", ["PEXPIREAT a 4102444800000"]), ("EXPIRE a 5 GT", []), ("EXPIRE a 5 NX", []),
               ("PERSIST a", ["PERSIST a"]), ("PERSIST a", []), ("EXPIRE a -1", ["DEL a"]), ("SET a v", ["SET a v"]),
               ("PEXPIREAT a 1", ["DEL a"]), ("EXPIRE a 1", [])],
    "numbers": [("INCR a", ["INCR a"]), ("INCRBYFLOAT a 1.5", ["SET a 2.5 KEEPTTL"]), ("HSET h f 1", ["HSET h f 1"]),
                ("HINCRBYFLOAT h f 1.5", ["HSET h f 2.5"]), ("HINCRBY h g 3", ["HINCRBY h g 3"]),
                ("INCRBYFLOAT a x", []), ("SETRANGE a 0 ''", [])],
    "pops": [("SADD s 1 2 3 4", ["SADD s 1 2 3 4"]), ("SADD s 1", []), ("SPOP s", ["SREM s ?"]),
             ("SPOP s 2", ["SREM s ? ?"]), ("SPOP s 5", ["DEL s"]), ("SPOP s", []), ("SADD s 1", ["SADD s 1"]),
             ("SPOP s", ["DEL s"]), ("RPUSH l 1 2 3 4", ["RPUSH l 1 2 3 4"]), ("LPOP l", ["LPOP l"]),
             ("LMPOP 2 no l LEFT", ["LPOP l 1"]), ("LMPOP 1 l RIGHT COUNT 5", ["RPOP l 2"]), ("LMPOP 1 l LEFT", []),
             ("ZADD z 1 a 2 b 3 c 4 d", ["ZADD z 1 a 2 b 3 c 4 d"]), ("ZMPOP 2 no z MAX", ["ZPOPMAX z 1"]),
             ("ZMPOP 1 z MIN COUNT 2", ["ZPOPMIN z 2"]), ("ZPOPMIN z 9", ["ZPOPMIN z 9"]), ("ZPOPMIN z", [])],
    "sort": [("RPUSH l 3 1 2", ["RPUSH l 3 1 2"]), ("SORT l", []), ("SORT l STORE d", ["SORT l STORE d"]),
             ("SORT l BY w_* ALPHA STORE d", ["RESTORE d 0 ? REPLACE ABSTTL"]), ("SORT no STORE d", ["SORT no STORE d"]),
             ("SORT no STORE d", [])],
    "bits": [("SETBIT b 7 1", ["SETBIT b 7 1"]), ("SETBIT b 7 1", []), ("SETBIT b 70 0", ["SETBIT b 70 0"]), ("BITCOUNT b", []),
             ("BITFIELD b SET u8 0 9 GET u8 0", ["BITFIELD b SET u8 0 9 GET u8 0"]), ("BITFIELD b GET u8 0", []),
             ("BITFIELD n OVERFLOW FAIL SET u8 0 999", ["BITFIELD n OVERFLOW FAIL SET u8 0 999"]),
             ("BITOP NOT to b", ["BITOP NOT to b"]), ("BITOP AND to no", ["BITOP AND to no"]), ("BITOP AND to no", [])],
    "hyperloglog": [("PFADD p x", ["PFADD p x"]), ("PFADD p x", []), ("PFCOUNT p", ["SETRANGE p 8 ?"]), ("PFCOUNT p", []),
                    ("PFMERGE q p", ["PFMERGE q p"]), ("PFCOUNT p q", []), ("PFDEBUG TODENSE p", ["PFDEBUG TODENSE p"]),
                    (["MULTI", "GET p", "PFCOUNT q", "EXEC"], ["MULTI", "SETRANGE q 8 ?", "EXEC"])],
    "geo": [("GEOADD g 13 52 a 14 53 b", ["GEOADD g 13 52 a 14 53 b"]), ("GEOADD g 13 52 a", []), ("GEORADIUS g 13 52 9 km", []),
            ("GEORADIUS g 13 52 900 km STOREDIST d", ["RESTORE d 0 ? REPLACE ABSTTL"]),
            ("GEOSEARCHSTORE e g FROMMEMBER a BYBOX 9 9 km", ["RESTORE e 0 ? REPLACE ABSTTL"]),
            ("GEORADIUS g 0 0 1 km STORE d", ["DEL d"]), ("GEORADIUS g 0 0 1 km STORE d", []),
            ("GEOSEARCHSTORE e no FROMMEMBER a BYBOX 9 9 km", ["DEL e"])],
    "streams": [("XADD x 5-1 f v", ["XADD x 5-1 f v"]), ("XADD x 5-* f v", ["XADD x 5-2 f v"]), ("XADD x * f v", ["XADD x ? f v"]),
                ("XADD no NOMKSTREAM * f v", []), ("XADD x NOMKSTREAM 9999999999999-1 f v", ["XADD x 9999999999999-1 f v"]),
                ("XADD x MAXLEN ~ 1 9999999999999-2 f v", ["XADD x 9999999999999-2 f v"]),
                ("XADD x MAXLEN 3 9999999999999-3 f v", ["XADD x MAXLEN = 3 9999999999999-3 f v"]),
                ("XTRIM x MAXLEN ~ 0", ["XTRIM x MAXLEN = 0"]), ("XTRIM x MINID 5", []), ("XSETID x 9999999999999-4", ["XSETID x 9999999999999-4"]),
                ("XADD x 9999999999999-5 f v", ["XADD x 9999999999999-5 f v"]), ("XDEL x 1-1", []),
                ("XGROUP CREATE x g 0", ["XGROUP CREATE x g 0"]), ("XREADGROUP GROUP g c COUNT 1 STREAMS x >", [
                    "MULTI", "XGROUP CREATECONSUMER x g c",
                    "XCLAIM x g c 0 9999999999999-5 TIME T RETRYCOUNT 1 FORCE JUSTID LASTID 9999999999999-5",
                    "XGROUP SETID x g 9999999999999-5 ENTRIESREAD 7", "EXEC"]),
                ("XREADGROUP GROUP g c STREAMS x >", []),
                ("XREADGROUP GROUP g c STREAMS x 0", [
                    "MULTI", "XCLAIM x g c 0 9999999999999-5 TIME T RETRYCOUNT 2 FORCE JUSTID LASTID 9999999999999-5", "EXEC"]),
                ("XCLAIM x g d 0 9999999999999-5 TIME 5 JUSTID", [
                    "MULTI", "XGROUP CREATECONSUMER x g d",
                    "XCLAIM x g d 0 9999999999999-5 TIME 5 RETRYCOUNT 2 FORCE JUSTID LASTID 9999999999999-5", "EXEC"]),
                ("XAUTOCLAIM x g c 0 0", [
                    "MULTI", "XCLAIM x g c 0 9999999999999-5 TIME T RETRYCOUNT 3 FORCE JUSTID LASTID 9999999999999-5", "EXEC"]),
                ("XADD x 9999999999999-6 f v", ["XADD x 9999999999999-6 f v"]),
                ("XREADGROUP GROUP g c NOACK STREAMS x >", ["MULTI", "XGROUP SETID x g 9999999999999-6 ENTRIESREAD 8", "EXEC"]),
                ("XDEL x 9999999999999-5", ["XDEL x 9999999999999-5"]), ("XAUTOCLAIM x g c 0 0", ["MULTI", "XACK x g 9999999999999-5", "EXEC"]), ("XCLAIM x g e 0 9999999999999-5", []),
                ("XACK x g 9999999999999-5", []), ("XCLAIM x g c 0 1-1 LASTID 9999999999999-7", [
                    "MULTI", "XGROUP SETID x g 9999999999999-7 ENTRIESREAD 8", "EXEC"]),
                ("XGROUP DELCONSUMER x g d", ["XGROUP DELCONSUMER x g d"]), ("XGROUP DESTROY x no", []),
                ("XGROUP DESTROY x g", ["XGROUP DESTROY x g"])],
    "names": [("SET a v", ["SET a v"]), ("RENAME a b", ["RENAME a b"]), ("RENAME b b", []), ("COPY b c DB 2", ["COPY b c DB 2"]),
              ("MOVE b 3", ["MOVE b 3"]), ("DEL b no", []), ("SWAPDB 0 3", ["SWAPDB 0 3"]), ("UNLINK b no", ["UNLINK b no"]),
              ("FLUSHALL ASYNC", ["FLUSHALL ASYNC"])],
    "newer": [("SET a v", ["SET a v"]), ("SET a w IFEQ x", []), ("SET a w IFEQ v EX 100", ["SET a w PXAT T"]),
              ("DELEX a IFEQ x", []), ("DELEX a IFEQ w", ["DEL a"]), ("SET a v", ["SET a v"]), ("DELIFEQ a v", ["DEL a"]),
              ("MSETEX 1 a 1", ["SET a 1"]), ("MSETEX 2 a 1 b 2 EX 100", ["MULTI", "SET a 1 PXAT T", "SET b 2 PXAT T", "EXEC"]),
              ("MSETEX 2 a 3 b 4 KEEPTTL XX", ["MULTI", "SET a 3 KEEPTTL", "SET b 4 KEEPTTL", "EXEC"]),
              ("MSETEX 1 a 1 NX", []), ("HSET h f 1 g 2", ["HSET h f 1 g 2"]),
              ("HGETDEL h FIELDS 2 f no", ["HDEL h f no"]), ("HGETDEL h FIELDS 1 no", [])],
    "groups": [(["MULTI", "SET a 1", "GET a", "INCR a", "EXEC"], ["MULTI", "SET a 1", "INCR a", "EXEC"]),
               (["MULTI", "SET a 3", "EXEC"], ["SET a 3"]), (["MULTI", "GET a", "SPOP no", "EXEC"], []),
               (["MULTI", "SET a 9", "DISCARD"], []),
               (["MULTI", "SET a 1", "LPUSH a x", "INCR a", "EXEC"], ["MULTI", "SET a 1", "INCR a", "EXEC"]),
               (["MULTI", "SET a 1", "SELECT 4", "SET b 2", "SELECT 0", "EXEC"],
                ["MULTI", "SET a 1", "SELECT 4", "SET b 2", "EXEC", "SELECT 0"])],
}


# The effect of each command, one by one; and what they do when redis-server replays them.
@pytest.mark.parametrize("name", CASES)
def test_effects_of_commands(logged, raw, name):
    raw("SET", "begin " + name, 1)
    for number, (lines, _) in enumerate(CASES[name]):
        for line in [lines] if isinstance(lines, str) else lines:
            raw(*line.replace("''", "\0").replace("\0", "").split(" "))
        raw("SET", f"mark {number}", 1)
    found = effects(logged, raw)
    at = len(found) - found[::-1].index([b"SET", b"begin " + name.encode(), b"1"])
    for number, (lines, wanted) in enumerate(CASES[name]):
        end = found.index([b"SET", b"mark %d" % number, b"1"], at)
        got = found[at:end]
        assert len(got) == len(wanted) and all(map(fits, got, wanted)), (lines, got)
        at = end + 1
    assert_same_data(logged, raw)


# SPOP of thousands: members that stay stay, whoever replays it; one group, so that a crash leaves all of
# them or none.
def test_pop_of_many(logged, raw):
    raw("SADD", "pops", *[f"member {i}" for i in range(6000)])
    raw("SADD", "numbers", *range(500))
    raw("SPOP", "pops", 3000)
    raw("SPOP", "numbers", 100)
    found = effects(logged, raw)
    pops = [e for e in found if e[:2] == [b"SREM", b"pops"]]
    assert sum(len(e) - 2 for e in pops) == 3000 and max(map(len, pops)) <= 1026
    at = found.index(pops[0])
    assert found[at - 1] == [b"MULTI"] and found[at + len(pops)] == [b"EXEC"]
    assert_same_data(logged, raw)


# RESTORE has its time made absolute, and is written in a version that redis-server 7.0 reads.
def test_restore(logged, raw):
    raw("RPUSH", "l", "a", "b", 3)
    dump = raw("DUMP", "l")
    assert raw("RESTORE", "plain", 0, dump) == "OK"
    assert raw("RESTORE", "timed", 1000000, dump, "IDLETIME", 500) == "OK"
    assert raw("RESTORE", "l", 4102444800000, dump, "ABSTTL", "REPLACE") == "OK"
    assert raw("RESTORE", "plain", 1, dump, "REPLACE", "ABSTTL") == "OK"  # long ago: it is gone
    found = effects(logged, raw)[-4:]
    assert fits(found[0], "RESTORE plain 0 ? REPLACE ABSTTL")
    assert fits(found[1], "RESTORE timed T ? REPLACE ABSTTL IDLETIME 500")
    assert fits(found[2], "RESTORE l 4102444800000 ? REPLACE ABSTTL")
    assert found[3] == [b"DEL", b"plain"]
    assert_same_data(logged, raw)


# Keys that MIGRATE has moved are deleted here, those it has copied are not.
def test_migrate(logged, raw):
    with Server() as target:
        raw("MSET", "a", 1, "b", 2, "c", 3)
        assert raw("MIGRATE", "127.0.0.1", target.port, "a", 0, 60000) == "OK"
        assert raw("MIGRATE", "127.0.0.1", target.port, "b", 0, 60000, "COPY") == "OK"
        assert raw("MIGRATE", "127.0.0.1", target.port, "", 0, 60000, "REPLACE", "KEYS", "b", "c") == "OK"
    assert effects(logged, raw)[-4:] == [[b"MSET", b"a", b"1", b"b", b"2", b"c", b"3"], [b"DEL", b"a"],
                                         [b"DEL", b"b"], [b"DEL", b"c"]]


# However a request came, the log has it in one form: inline, in pieces, with large arguments, with line
# feeds that the parser does not look at.
def test_forms_of_requests(logged, raw):
    big = os.urandom(70000)
    raw.send(b"SET inline 'a b'\r\n")
    assert raw.read() == "OK"
    raw.send(b"*3\rX$3\rYSET\r\n$5\r\nfeeds\r\n$1\r\nvZZ")
    assert raw.read() == "OK"
    raw.send(b"*3\r\n$3\r\nset\r\n$3\r\nbig\r\n$70000\r\n" + big[:100])
    time.sleep(0.05)
    raw.send(big[100:] + b"\r\n*3\r\n$3\r\nSET\r\n$6\r\npie")
    assert raw.read() == "OK"
    time.sleep(0.05)
    raw.send(b"ces\r\n$1\r\nv\r\n")
    assert raw.read() == "OK"
    raw("RPUSH", "many", *range(2000))
    raw.pipeline([("SET", "whole", big), ("SET", "\r\n", "\r\n*")])
    assert effects(logged, raw)[-7:] == [
        [b"SET", b"inline", b"a b"], [b"SET", b"feeds", b"v"], [b"set", b"big", big], [b"SET", b"pieces", b"v"],
        [b"RPUSH", b"many"] + [b"%d" % i for i in range(2000)], [b"SET", b"whole", big], [b"SET", b"\r\n", b"\r\n*"]]
    assert_same_data(logged, raw)


# Nor is CONFIG SET: the limits of encodings, of which the one for HyperLogLogs changes what a string is, are those of who replays.
NOT_HERE = (b"DEBUG", b"MIGRATE", b"RESET")


# Random commands of all types, transactions and databases: what redis-server makes of the log is what is
# here.
def test_random_commands(logged, seed):
    end, number, count = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < end if SECONDS else number < 120:
        raws = [logged.raw(), logged.raw()]
        raws[0]("FLUSHALL")
        for _ in range(30):
            for step in Generator(seed, number, set(generators.ALL)).sequence().steps:
                for line in step.lines():
                    if line[0].upper() not in NOT_HERE and line[:2] != [b"CONFIG", b"SET"]:
                        raws[step.connection](*line)
                        count += 1
            number += 1
        for raw in raws:
            raw.close()
        raw = logged.raw()
        print(f"up to sequence {number}")
        assert_same_data(logged, raw)
        raw.close()
    print(f"{number} sequences of {count} commands")


def random_expiring(rng):
    """A command on few keys that come and go."""
    key, other, third = (rng.choice(("s1", "s2", "s3", "t1", "t2")) for _ in range(3))
    z, y = rng.choice(("z1", "z2", "z3")), rng.choice(("z1", "z2", "z3"))
    soon = rng.randint(1, 40)
    return rng.choice((
        ("SADD", key, rng.randint(1, 9), "m"), ("SADD", key, "a", "b", "c"), ("PEXPIRE", key, soon), ("PEXPIRE", z, soon),
        ("SINTERSTORE", key, other, third), ("SUNIONSTORE", key, other, third), ("SDIFFSTORE", key, other, third),
        ("ZADD", z, rng.randint(1, 9), "m"), ("ZUNIONSTORE", z, 2, y, other), ("ZRANGESTORE", z, y, 0, -1),
        ("COPY", key, other, "REPLACE"), ("COPY", key, other, "DB", 1), ("RENAME", key, other), ("MOVE", key, 1),
        ("SMOVE", key, other, "m"), ("SPOP", key), ("SORT", key, "ALPHA", "STORE", "l"), ("SORT", "l", "BY", "v_*", "STORE", "l2"),
        ("PEXPIRE", "l", soon), ("SET", "v_m", rng.randint(1, 9), "PX", soon), ("SET", "v_a", "1", "PX", soon),
        ("INCR", "n"), ("PEXPIRE", "n", soon), ("INCRBYFLOAT", "n", "0.25"), ("APPEND", "x", "x"), ("SETNX", "x", 1),
        ("PEXPIRE", "x", soon), ("GETEX", "x", "PX", soon), ("HINCRBY", "h", "f", 1), ("PEXPIRE", "h", soon),
        ("LPUSHX", "l2", "e"), ("ZMPOP", 2, z, y, "MIN"), ("GET", "x"), ("SCARD", key), ("SELECT", rng.randint(0, 1)),
        ("MSETNX", "x", 1, "y", 2), ("PEXPIRE", "y", soon), ("SWAPDB", 0, 1), ("PERSIST", key)))


# Keys that expire while commands read and write them, with active expiry and without: a key that is gone
# for a command here is gone for it in the log, too.
@pytest.mark.parametrize("active", (1, 0))
def test_expiring_keys(logged, raw, rng, active):
    raw("DEBUG", "SET-ACTIVE-EXPIRE", active)
    end = time.monotonic() + SECONDS / 2
    rounds = 0
    expired = int(logged.client().info("stats")["expired_keys"])
    while time.monotonic() < end if SECONDS else rounds < 800:
        rounds += 1
        commands = [random_expiring(rng) for _ in range(rng.randint(1, 8))]
        if rng.random() < 0.2:
            commands = [("MULTI",)] + commands + [("EXEC",)]
        raw.pipeline(commands)
        if rng.random() < 0.3:
            time.sleep(0.002)
    raw("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    client = logged.client()
    deadline = time.monotonic() + 60
    while any(db["expires"] for db in client.info("keyspace").values()):
        assert time.monotonic() < deadline, client.info("keyspace")
        time.sleep(0.05)
    assert int(client.info("stats")["expired_keys"]) > expired
    assert_same_data(logged, raw)


# Keys that are evicted are deleted in the log, in their place among the other effects.
def test_eviction(logged, raw, rng):
    client = logged.client()
    raw("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    raw("CONFIG", "SET", "maxmemory", client.info("memory")["used_memory"] + (2 << 20))
    for i in range(60):
        raw.pipeline([("SET", f"k{rng.randrange(9000)}", b"v" * 500) if rng.random() < 0.7 else
                      ("APPEND", f"k{rng.randrange(9000)}", b"w" * 100) for _ in range(200)])
        raw.pipeline([("SELECT", i % 3), ("INCR", f"n{i % 7}"), ("RPUSH", f"l{i % 5}", *range(50))])
    raw("CONFIG", "SET", "maxmemory", 0)
    raw("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert client.info("stats")["evicted_keys"] > 0
    assert_same_data(logged, raw)


# The log is turned off and on again by a command of a transaction: what is written before and after it is kept,
# and no group is left open.
def test_switching_in_a_transaction(rng):
    with Server(options=LOGGED) as server:
        raw = server.raw()
        for i in range(12):
            switches = rng.choice((["no"], ["yes"], ["no", "yes"], ["yes", "no", "yes"]))
            raw.pipeline([("MULTI",), ("INCR", "a"), ("SADD", "s", i)])
            for switch in switches:
                raw.pipeline([("CONFIG", "SET", "appendonly", switch), ("INCR", "b"), ("SELECT", rng.randint(0, 3))])
            assert not isinstance(raw("EXEC"), Error)
            raw("SET", "after", i)
        raw("CONFIG", "SET", "appendonly", "yes")
        deadline = time.monotonic() + 60
        while b"probe" not in increments(server):  # it begins with a base, which has what is written until then
            assert time.monotonic() < deadline
            raw("INCR", "probe")
            time.sleep(0.02)
        assert_same_data(server, raw)
        raw.close()


# An error changes nothing, and leaves nothing in the log.
def test_errors(logged, raw):
    raw("RPUSH", "l", "a")
    before = len(effects(logged, raw))
    for line in ("INCR l", "SADD l x", "SETRANGE l 1 x", "HSET l f v", "SET x", "EXPIRE l x", "ZADD z nan m", "LSET l 9 x",
                 "RESTORE l 0 junk REPLACE", "COPY l l", "MSETEX 1 a", "SINTERSTORE d l"):
        assert isinstance(raw(*line.split()), Error), line
    assert len(effects(logged, raw)) == before + 1  # the mark before
