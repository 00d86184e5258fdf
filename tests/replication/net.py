# SPDX-License-Identifier: BSD-3-Clause
"""What the replication tests share: waiting, comparing, random writes, and a link that can be cut."""
import pathlib
import random
import socket
import sys
import threading
import time

from harness import PATIENCE, Raw, Server, Simple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "compare"))
import differences  # noqa: E402

QUICK = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1", "repl-backlog-size": "256mb"}


def holdfast(**options):
    return Server("holdfast", {**QUICK, **options})


def redis_server(**options):
    return Server("redis", {**QUICK, **options})


def info(raw, section="replication"):
    lines = raw("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def wait_for(condition, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s; {value!r}")


def is_up(raw):
    return info(raw).get("master_link_status") == "up"


def wait_up(raw, server=None):
    wait_for(lambda: is_up(raw), "the link comes up")


def in_step(primary, replica):
    """The replica has all of the primary's stream, while nobody writes."""
    a, b = info(primary), info(replica)
    return b.get("master_link_status") == "up" and a["master_repl_offset"] == b["master_repl_offset"]


def contents(raw):
    found = {}
    for db in range(16):
        raw("SELECT", db)
        for key in raw("KEYS", "*"):
            found[db, key] = raw("DEBUG", "DIGEST-VALUE", key), raw("PEXPIRETIME", key), raw("TYPE", key)
    raw("SELECT", 0)
    return found


def has_negative_zero(raw, place):
    db, key = place
    raw("SELECT", db)
    found = raw("TYPE", key) == Simple("zset") and differences.has_negative_zero(
        raw("ZRANGE", key, 0, -1, "WITHSCORES"))
    raw("SELECT", 0)
    return found


def assert_same(primary, replica, what=""):
    """They have the same data once the replica is in step: keys that expire go one by one meanwhile."""
    def same():
        return in_step(primary, replica) and primary("DEBUG", "DIGEST") == replica("DEBUG", "DIGEST")
    try:
        wait_for(same, "same digest", 40)
    except AssertionError:
        wait_for(lambda: in_step(primary, replica), f"{what}: in step {info(primary)} {info(replica)}")
        mine, theirs = contents(primary), contents(replica)
        places = [p for p in sorted({*mine, *theirs}) if mine.get(p) != theirs.get(p) and not (
            p in mine and p in theirs and (has_negative_zero(primary, p) or has_negative_zero(replica, p)))]
        assert not places, (what, [(p, mine.get(p), theirs.get(p)) for p in places[:3]])


class Cable(threading.Thread):
    """A TCP proxy on a port of its own: what a replica connects to instead of its primary."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.to = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.pairs = []
        self.open = True
        self.cut_after = None  # bytes from the primary; then the connection is cut, once
        self.cuts = []  # what cut_after is to be behind that, one after the other
        self.cut_for_good = False  # and no other is made
        self.start()

    def run(self):
        while True:
            try:
                ours, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                ours.close()
                continue
            try:
                theirs = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                ours.close()
                continue
            with self.lock:
                self.pairs.append((ours, theirs))
            threading.Thread(target=self.pump, args=(ours, theirs, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(theirs, ours, True), daemon=True).start()

    def pump(self, source, sink, counted):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if counted and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        data = data[:len(data) + self.cut_after] if len(data) + self.cut_after > 0 else b""
                        self.open = not self.cut_for_good
                        self.cut_after = self.cuts.pop(0) if self.cuts else None
                        sink.sendall(data)
                        break
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Everything that is connected now is not any more."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for s in pair:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.open = False
        self.listener.close()
        self.cut()


LIBRARY = """#!lua name=%s
redis.register_function('push_%s', function(keys, args)
    local n = redis.call('INCR', keys[1])
    redis.call('RPUSH', keys[2], n, args[1])
    redis.call('HSET', keys[3], n %% 7, args[1])
    if n %% 4 == 0 then redis.call('PEXPIRE', keys[2], 40) end
    return redis.call('SRANDMEMBER', keys[4])
end)"""


def plain_writer(rng, hash_ttl=False):
    """Random writes of all types, with scripts, functions, expiry, transactions and several databases; as lists of
    commands that go together. With hash_ttl what redis-server 7.0 does not know, too."""
    def key(kind):
        return f"{kind}{rng.randrange(40)}".encode()

    def value():
        size = rng.choice((0, 3, 20, 200, 70000) if rng.random() < 0.05 else (1, 3, 20, 60))
        return rng.randbytes(size)

    def identifier():
        return f"{rng.randrange(9)}-{rng.randrange(1, 9)}"

    def library():
        name = rng.choice(("one", "two"))
        return [b"FUNCTION", b"LOAD", b"REPLACE", LIBRARY % (name, name)] if rng.random() < 0.7 else [b"FUNCTION", b"DELETE", name]

    more = (
        lambda: [b"SWAPDB", rng.choice((0, 1, 9)), rng.choice((0, 1, 9))],
        lambda: [b"MOVE", key(rng.choice("slhSzx")), rng.choice((0, 1, 9))],
        lambda: [b"COPY", key("x"), key("x"), b"DB", rng.choice((0, 1, 9)), b"REPLACE"],
        lambda: [b"COPY", key("z"), key("z"), b"REPLACE"],
        lambda: [b"FLUSHALL"] if rng.random() < 0.02 else [b"INCR", key("n")],
        library,
        lambda: [b"FUNCTION", b"FLUSH"] if rng.random() < 0.05 else library(),
        lambda: [b"FCALL", rng.choice((b"push_one", b"push_two")), 4, key("n"), key("l"), key("h"), key("S"), value()],
        lambda: [b"XADD", key("x"), identifier(), b"f", value()],
        lambda: [b"XDEL", key("x"), identifier(), identifier()],
        lambda: [b"XACK", key("x"), b"g", identifier(), identifier(), identifier()],
        lambda: [b"XREADGROUP", b"GROUP", b"h", b"dora", b"NOACK", b"COUNT", 2, b"STREAMS", key("x"), b">"],
        lambda: [b"XCLAIM", key("x"), b"g", b"eve", 0, identifier(), b"FORCE", b"JUSTID"],
        lambda: [b"XGROUP", b"SETID", key("x"), b"g", rng.choice((b"0", b"$", b"3-1"))],
        lambda: [b"XGROUP", b"DESTROY", key("x"), b"h"],
        lambda: [b"XSETID", key("x"), b"99999999999999-0"] if rng.random() < 0.1 else [b"XTRIM", key("x"), b"MINID", b"~", b"4"],
        lambda: [b"LMOVE", key("l"), key("l"), b"LEFT", b"RIGHT"],
        # redis-server looks for what has timed out ten times a second only.
        lambda: [b"BLMPOP", b"0.001", 2, key("l"), key("l"), b"RIGHT", b"COUNT", 2] if rng.random() < 0.1 else [
            b"BZPOPMAX", key("z"), key("z"), b"0.001"] if rng.random() < 0.1 else [b"LMPOP", 1, key("l"), b"RIGHT"],
        lambda: [b"LTRIM", key("l"), 0, 50],
        lambda: [b"SMOVE", key("S"), key("S"), rng.randrange(100)],
        lambda: [b"ZINCRBY", key("z"), b"0.1", value()[:6]],
        lambda: [b"ZUNIONSTORE", key("z"), 2, key("z"), key("S"), b"WEIGHTS", 2, b"0.5"],
        lambda: [b"GEOSEARCHSTORE", key("z"), key("G"), b"FROMLONLAT", 0, 0, b"BYRADIUS", 5000, b"km", b"STOREDIST"],
        lambda: [b"BITOP", b"XOR", key("s"), key("s"), key("b")],
        lambda: [b"PERSIST", key(rng.choice("slhSzx"))],
        lambda: [b"EXPIRE", key(rng.choice("slhSzx")), rng.choice((-1, 1, 1000)), rng.choice((b"NX", b"GT"))],
        lambda: [b"RENAMENX", key(rng.choice("slhSzx")), key("r")],
        lambda: [b"UNLINK", key("r"), key("x")],
        lambda: [b"EVAL", b"local t = redis.call('time'); redis.call('set', KEYS[1], t[1] .. t[2], 'PX', 30); "
                 b"redis.call('select', 9); return redis.call('zadd', KEYS[2], math.random(), ARGV[1])", 2, key("s"), key("z"),
                 value()[:6]],
    ) + ((
        lambda: [b"HPEXPIRE", key("h"), rng.choice((1, 30, 100000)), b"FIELDS", 2, rng.randrange(7), value()[:8]],
        lambda: [b"HGETEX", key("h"), b"PX", rng.choice((5, 100000)), b"FIELDS", 1, rng.randrange(7)],
        lambda: [b"HSETEX", key("h"), b"PX", rng.choice((5, 100000)), b"FIELDS", 1, rng.randrange(7), value()],
        lambda: [b"HPERSIST", key("h"), b"FIELDS", 1, rng.randrange(7)],
        lambda: [b"HGETDEL", key("h"), b"FIELDS", 1, rng.randrange(7)],
    ) if hash_ttl else ())

    def one():
        k = rng.randrange(41 + len(more))
        if k > 40:
            return more[k - 41]()
        if k == 0:
            return [b"SET", key("s"), value()]
        if k == 1:
            return [b"APPEND", key("s"), value()]
        if k == 2:
            return [b"INCRBYFLOAT", key("f"), str(rng.randrange(-99, 99) / 4)]
        if k == 3:
            return [b"INCR", key("n")]
        if k == 4:
            return [b"RPUSH", key("l"), value(), value()]
        if k == 5:
            return [b"LPOP", key("l")]
        if k == 6:
            return [b"LINSERT", key("l"), b"BEFORE", value(), value()]
        if k == 7:
            return [b"HSET", key("h"), value()[:8], value(), value()[:8], value()]
        if k == 8:
            return [b"HINCRBYFLOAT", key("g"), b"f", b"1.5"]
        if k == 9:
            return [b"HDEL", key("h"), value()[:8]]
        if k == 10:
            return [b"SADD", key("S")] + [str(rng.randrange(100)) for _ in range(4)]
        if k == 11:
            return [b"SPOP", key("S"), rng.randrange(1, 4)]
        if k == 12:
            return [b"ZADD", key("z"), rng.randrange(100), value()[:6]]
        if k == 13:
            return [b"ZPOPMIN", key("z")]
        if k == 14:
            return [b"PEXPIRE", key(rng.choice("slhSzxpbG")), rng.choice((5, 50, 500, 100000))]
        if k == 15:
            return [b"SET", key("s"), value(), b"PX", rng.choice((5, 50, 100000))]
        if k == 16:
            return [b"DEL", key(rng.choice("slhSzfgnxpbG"))]
        if k == 17:
            return [b"RENAME", key("s"), key("s")]
        if k == 18:
            return [b"SELECT", rng.choice((0, 0, 1, 9))]
        if k == 19:
            return [b"SUNIONSTORE", key("S"), key("S"), key("S")]
        if k == 20:
            return [b"GETEX", key("s"), b"PX", 100000]
        if k == 21:
            return [b"GETDEL", key("s")]
        if k == 22:
            return [b"LMPOP", 2, key("l"), key("l"), b"LEFT"]
        if k == 23:
            return [b"ZRANGESTORE", key("z"), key("z"), 0, 5]
        if k == 24:
            return [b"SETRANGE", key("s"), rng.randrange(50), value()]
        if k == 25:
            return [b"COPY", key("h"), key("h"), b"REPLACE"]
        if k == 26:
            return [b"XADD", key("x"), b"MAXLEN", b"~", 50, b"*", value()[:8], value()]
        if k == 27:
            return [b"XADD", key("x"), b"*", b"f", value()]
        if k == 28:
            return [b"XGROUP", b"CREATE", key("x"), rng.choice((b"g", b"h")), rng.choice((b"$", b"0")), b"MKSTREAM"]
        if k == 29:
            return [b"XREADGROUP", b"GROUP", b"g", rng.choice((b"alice", b"bob")), b"COUNT", 3, b"STREAMS", key("x"), b">"]
        if k == 30:
            return [b"XAUTOCLAIM", key("x"), b"g", b"carol", 0, b"0", b"COUNT", 2]
        if k == 31:
            return [b"XTRIM", key("x"), b"MAXLEN", rng.randrange(30)]
        if k == 32:
            return [b"XGROUP", b"DELCONSUMER", key("x"), b"g", rng.choice((b"alice", b"bob", b"carol"))]
        if k == 33:
            return [b"EVAL", b"local n = redis.call('incr', KEYS[1]); if n % 3 == 0 then redis.call('rpush', KEYS[2], n, "
                    b"ARGV[1]) end; return redis.call('pexpire', KEYS[2], 60000)", 2, key("n"), key("l"), value()]
        if k == 34:
            return [b"EVAL", b"redis.call('set', KEYS[1], ARGV[1]); return redis.call('spop', KEYS[2])", 2, key("s"), key("S"),
                    value()]
        if k == 35:
            return [b"PFADD", key("p"), value(), value()]
        if k == 36:
            return [b"PFMERGE", key("p"), key("p"), key("p")]
        if k == 37:
            return [b"BITFIELD", key("b"), b"SET", b"u8", rng.randrange(400), rng.randrange(256), b"INCRBY", b"i5", 9, 3]
        if k == 38:
            return [b"GEOADD", key("G"), rng.randrange(-99, 99), rng.randrange(-80, 80), value()[:4]]
        if k == 39:
            return [b"SORT", key("l"), b"ALPHA", b"STORE", key("l")]
        return [b"HRANDFIELD", key("h")] if rng.random() < 0.5 else [b"PFCOUNT", key("p")]

    while True:
        if rng.random() < 0.1:
            yield [[b"MULTI"]] + [one() for _ in range(rng.randrange(1, 6))] + [[b"EXEC"]]
        elif rng.random() < 0.002:
            yield [[b"FLUSHDB"]]
        else:
            yield [one() for _ in range(rng.randrange(1, 30))]


class Writer(threading.Thread):
    """Writes at random until it is stopped."""

    def __init__(self, server, seed, **more):
        super().__init__(daemon=True)
        self.raw = server.raw()
        self.commands = plain_writer(random.Random(seed), **more)
        self.stopping = False
        self.count = 0
        self.failure = None
        self.start()

    def run(self):
        try:
            for commands in self.commands:
                if self.stopping:
                    break
                self.raw.pipeline(commands)
                self.count += len(commands)
        except Exception as e:  # noqa: BLE001
            self.failure = e

    def stop(self):
        self.stopping = True
        self.join(PATIENCE)
        self.raw.close()
        assert self.failure is None, self.failure
        return self.count


def follow(replica, port):
    raw = replica if isinstance(replica, Raw) else replica.raw()
    assert str(raw("REPLICAOF", "127.0.0.1", port)).startswith("OK")
