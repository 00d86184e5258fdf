# SPDX-License-Identifier: BSD-3-Clause
"""What is newer than redis-server 7.0, and so has nothing here to be compared with: commands, options and
encodings as the documentation of Redis 7.2 to 8.4 and Valkey 8 and 9 describes them."""
import pathlib
import time

import generators
from harness import Error, Server, Simple, wait_for

OK = Simple("OK")
WRONGTYPE = Error("WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = Error("ERR syntax error")


def arity_error(name):
    return Error(f"ERR wrong number of arguments for '{name}' command")


# Every command of the table that redis-server 7.0 does not have is called in some test.
def test_every_newer_command_is_tested():
    rows = generators.table_rows()
    newer = {name for name, row in rows.items() if tuple(map(int, row["since"].split("."))) > (7, 0, 99)}
    text = "".join(path.read_text() for path in pathlib.Path(__file__).resolve().parent.parent.glob("*/*.py"))
    for name in newer:
        words = ", ".join(f'"{word}"' for word in name.split())
        assert f"({words}" in text, f"no test for {name}"


# SET IFEQ sets only what has a given value; a key that is not there is not made.
def test_set_ifeq(raw):
    assert raw("SET", "k", "new", "IFEQ", "old") is None and raw("EXISTS", "k") == 0
    raw("SET", "k", "old")
    assert raw("SET", "k", "new", "IFEQ", "other") is None and raw("GET", "k") == b"old"
    assert raw("SET", "k", "new", "IFEQ", "old") == OK and raw("GET", "k") == b"new"
    # With GET the value before is replied whether or not it was set.
    assert raw("SET", "k", "x", "IFEQ", "other", "GET") == b"new" and raw("GET", "k") == b"new"
    assert raw("SET", "k", "x", "IFEQ", "new", "GET") == b"new" and raw("GET", "k") == b"x"
    assert raw("SET", "none", "x", "IFEQ", "", "GET") is None and raw("EXISTS", "none") == 0
    # Numbers are compared as the strings that they are.
    raw("SET", "n", 10)
    assert raw("SET", "n", "x", "IFEQ", "10.0") is None and raw("SET", "n", 11, "IFEQ", "10") == OK
    assert raw("SET", "n", 12, "IFEQ", 11, "EX", 100) == OK and 98 <= raw("TTL", "n") <= 100
    assert raw("SET", "n", 13, "ifeq", 12, "KEEPTTL") == OK and raw("TTL", "n") > 0
    raw("RPUSH", "list", 1)
    assert raw("SET", "list", "x", "IFEQ", "y") == WRONGTYPE
    for wrong in (["IFEQ"], ["IFEQ", "a", "NX"], ["XX", "IFEQ", "a"], ["IFEQ", "a", "IFNE", "b"]):
        assert raw("SET", "k", "v", *wrong) == SYNTAX


# SET IFNE sets what has another value, and makes a key that is not there.
def test_set_ifne(raw):
    assert raw("SET", "k", "a", "IFNE", "x") == OK and raw("GET", "k") == b"a"
    assert raw("SET", "k", "b", "IFNE", "a") is None and raw("GET", "k") == b"a"
    assert raw("SET", "k", "b", "IFNE", "c") == OK and raw("GET", "k") == b"b"
    assert raw("SET", "k", "c", "IFNE", "b", "GET") == b"b" and raw("GET", "k") == b"b"


# DIGEST is the XXH3 of the string in 16 hexadecimal digits; SET compares with it.
def test_digest(raw):
    assert raw("DIGEST", "none") is None
    raw("SET", "empty", "")
    assert raw("DIGEST", "empty") == b"2d06800538d394c2"
    raw("SET", "k", "Hello world")
    digest = raw("DIGEST", "k")
    assert digest == b"b6acb9d84a38ff74"
    raw("RPUSH", "list", 1)
    assert raw("DIGEST", "list") == WRONGTYPE
    assert raw("SET", "k", "x", "IFDEQ", "0" * 16) is None
    assert raw("SET", "k", "x", "IFDNE", digest) is None
    assert raw("SET", "k", "x", "IFDEQ", digest) == OK and raw("GET", "k") == b"x"
    assert raw("SET", "k", "y", "IFDNE", digest) == OK and raw("GET", "k") == b"y"
    assert raw("SET", "none", "y", "IFDEQ", digest) is None and raw("SET", "new", "y", "IFDNE", digest) == OK
    # Kept as a number or as a string, a value has the digest of its text; a long one too.
    raw("SET", "int", 12345)
    raw("SET", "text", "1234")
    raw("APPEND", "text", "5")
    assert raw("DIGEST", "int") == raw("DIGEST", "text") and len(raw("DIGEST", "int")) == 16
    raw("SET", "long", "x" * 300000)
    raw("SET", "pieces", "x" * 100000)
    raw("SETRANGE", "pieces", 100000, "x" * 200000)
    assert raw("DIGEST", "long") == raw("DIGEST", "pieces")


# DELEX deletes on a condition; without one it is DEL of one key of any type.
def test_delex(raw):
    raw("SET", "k", "v")
    assert raw("DELEX", "k", "IFEQ", "other") == 0 and raw("DELEX", "k", "IFNE", "v") == 0
    assert raw("DELEX", "k", "IFEQ", "v") == 1 and raw("EXISTS", "k") == 0
    raw("SET", "k", "v")
    digest = raw("DIGEST", "k")
    assert raw("DELEX", "k", "IFDNE", digest) == 0 and raw("DELEX", "k", "IFDEQ", digest) == 1
    raw("SET", "k", "v")
    assert raw("DELEX", "k", "IFDNE", "0" * 16) == 1 and raw("EXISTS", "k") == 0
    for condition in ("IFEQ", "IFNE"):
        assert raw("DELEX", "none", condition, "v") == 0
    raw("RPUSH", "list", 1)
    assert isinstance(raw("DELEX", "list", "IFEQ", "v"), Error) and raw("EXISTS", "list") == 1
    assert raw("DELEX", "list") == 1 and raw("DELEX", "list") == 0
    assert isinstance(raw("DELEX", "k", "IFEQ"), Error) and isinstance(raw("DELEX", "k", "NX", "v"), Error)


# DELIFEQ is Valkey's name for DELEX IFEQ.
def test_delifeq(raw):
    raw("SET", "k", "v")
    assert raw("DELIFEQ", "k", "w") == 0 and raw("DELIFEQ", "k", "v") == 1 and raw("DELIFEQ", "k", "v") == 0
    raw("RPUSH", "list", 1)
    assert raw("DELIFEQ", "list", "v") == WRONGTYPE
    assert raw("DELIFEQ", "k") == arity_error("delifeq")


# MSETEX sets several keys with one expiry, all or none.
def test_msetex(raw):
    assert raw("MSETEX", 2, "a", 1, "b", 2) == 1 and raw("MGET", "a", "b") == [b"1", b"2"] and raw("TTL", "a") == -1
    assert raw("MSETEX", 2, "b", 3, "c", 3, "NX") == 0 and raw("MGET", "b", "c") == [b"2", None]
    assert raw("MSETEX", 2, "b", 3, "c", 3, "XX") == 0 and raw("MGET", "b", "c") == [b"2", None]
    assert raw("MSETEX", 2, "c", 3, "d", 4, "NX", "EX", 100) == 1 and 98 <= raw("TTL", "d") <= 100
    assert raw("MSETEX", 2, "c", 5, "d", 6, "XX", "KEEPTTL") == 1 and raw("TTL", "c") > 0
    assert raw("MGET", "c", "d") == [b"5", b"6"]
    assert raw("MSETEX", 1, "c", 7, "PXAT", 4102444800123) == 1 and raw("PEXPIRETIME", "c") == 4102444800123
    assert raw("MSETEX", 1, "c", 7) == 1 and raw("TTL", "c") == -1
    for wrong in (["0", "a", "1"], ["-1", "a", "1"], ["x", "a", "1"], ["2", "a", "1"], ["1", "a", "1", "NX", "XX"],
                  ["1", "a", "1", "EX"], ["1", "a", "1", "EX", "0"], ["1", "a", "1", "EX", "1", "PX", "1"],
                  ["1", "a", "1", "nonsense"], ["9223372036854775807", "a", "1"]):
        assert isinstance(raw("MSETEX", *wrong), Error), wrong
    assert raw("GET", "a") == b"1"
    assert raw("COMMAND", "GETKEYS", "MSETEX", 2, "a", 1, "b", 2, "EX", 5) == [b"a", b"b"]


# HGETDEL replies fields and takes them away; with the last of them goes the key.
def test_hgetdel(raw):
    raw("HSET", "h", "f1", "v1", "f2", "v2", "f3", "v3")
    assert raw("HGETDEL", "h", "FIELDS", 1, "f2") == [b"v2"]
    assert raw("HGETDEL", "h", "FIELDS", 2, "f2", "f3") == [None, b"v3"]
    assert raw("HGETALL", "h") == [b"f1", b"v1"]
    assert raw("HGETDEL", "h", "FIELDS", 2, "f1", "f1") == [b"v1", None]
    assert raw("EXISTS", "h") == 0
    assert raw("HGETDEL", "h", "FIELDS", 2, "a", "b") == [None, None]
    raw("HSET", "big", *(x for i in range(1000) for x in (f"f{i}", i)))
    assert raw("HGETDEL", "big", "fields", 500, *(f"f{i}" for i in range(500))) == [b"%d" % i for i in range(500)]
    assert raw("HLEN", "big") == 500
    raw("SET", "s", 1)
    assert raw("HGETDEL", "s", "FIELDS", 1, "f") == WRONGTYPE
    for wrong in (["FIELDS", "2", "f"], ["FIELDS", "0", "f"], ["FIELDS", "x", "f"], ["NOFIELDS", "1", "f"],
                  ["FIELDS", "1", "f", "g"]):
        assert isinstance(raw("HGETDEL", "big", *wrong), Error), wrong
    assert raw("HGETDEL", "big", "FIELDS", 1) == arity_error("hgetdel")


# HSCAN NOVALUES replies only the fields.
def test_hscan_novalues(raw):
    raw("HSET", "h", "a", 1, "b", 2)
    assert raw("HSCAN", "h", 0, "NOVALUES") == [b"0", [b"a", b"b"]]
    assert raw("HSCAN", "h", 0, "MATCH", "b*", "novalues", "COUNT", 10) == [b"0", [b"b"]]
    raw("HSET", "big", *(x for i in range(3000) for x in (f"f{i}", i)))
    cursor, seen = 0, set()
    while True:
        cursor, fields = raw("HSCAN", "big", cursor, "NOVALUES")
        seen |= set(fields)
        if cursor == b"0":
            break
    assert seen == {b"f%d" % i for i in range(3000)}
    raw("SADD", "set", 1)
    raw("ZADD", "zset", 1, 1)
    assert raw("SSCAN", "set", 0, "NOVALUES") == SYNTAX and raw("ZSCAN", "zset", 0, "NOVALUES") == SYNTAX


# ZRANK and ZREVRANK WITHSCORE reply rank and score.
def test_zrank_withscore(raw):
    raw("ZADD", "z", 1, "one", 2.5, "two")
    assert raw("ZRANK", "z", "two", "WITHSCORE") == [1, b"2.5"]
    assert raw("ZREVRANK", "z", "two", "withscore") == [0, b"2.5"]
    assert raw("ZRANK", "z", "none", "WITHSCORE") == ("null array",)
    assert raw("ZRANK", "none", "m", "WITHSCORE") == ("null array",)
    assert raw("ZRANK", "z", "one") == 0 and raw("ZRANK", "z", "none") is None
    assert raw("ZRANK", "z", "one", "WITHSCORES") == SYNTAX
    assert raw("ZRANK", "z", "one", "WITHSCORE", "x") == arity_error("zrank")
    raw("HELLO", 3)
    assert raw("ZRANK", "z", "two", "WITHSCORE") == [1, ("double", b"2.5")]
    assert raw("ZRANK", "z", "none", "WITHSCORE") == ("null",)


# CLIENT SETINFO is shown by CLIENT INFO and LIST; CLIENT NO-TOUCH is a flag there.
def test_client_settings(raw):
    assert raw("CLIENT", "SETINFO", "LIB-NAME", "my-lib") == OK and raw("CLIENT", "SETINFO", "lib-ver", "1.2.3") == OK
    info = raw("CLIENT", "INFO")
    assert b"lib-name=my-lib" in info and b"lib-ver=1.2.3" in info
    assert isinstance(raw("CLIENT", "SETINFO", "LIB-NAME", "with blank"), Error)
    assert isinstance(raw("CLIENT", "SETINFO", "OTHER", "x"), Error)
    assert raw("CLIENT", "NO-TOUCH", "on") == OK and b" flags=UT " in raw("CLIENT", "INFO")
    assert raw("CLIENT", "NO-TOUCH", "off") == OK and b" flags=U " in raw("CLIENT", "INFO")
    assert raw("CLIENT", "NO-TOUCH", "maybe") == SYNTAX


# With import-mode keys that have expired stay, hidden from all but those who import, who may still write to them.
def test_import_source(raw, holdfast):
    other = holdfast.raw()
    assert raw("CLIENT", "IMPORT-SOURCE", "ON") == Error("ERR Server is not in import mode")
    assert raw("CONFIG", "SET", "import-mode", "yes") == OK
    try:
        assert raw("CLIENT", "IMPORT-SOURCE", "maybe") == SYNTAX
        assert raw("CLIENT", "IMPORT-SOURCE", "ON") == OK and b" flags=UI " in raw("CLIENT", "INFO")
        assert raw("SET", "k", 1, "PX", 1) == OK and raw("SET", "gone", 1, "PX", 1) == OK
        assert raw("SET", "past", "x") == OK and raw("PEXPIREAT", "past", 1) == 1 and raw("EXPIRE", "past", -5) == 1
        time.sleep(0.3)  # active expiry would have come by
        assert raw("DBSIZE") == 3 and other("DBSIZE") == 3
        assert other("GET", "k") is None and other("EXISTS", "past") == 0 and other("SCAN", 0) == [b"0", []]
        assert other("KEYS", "*") == [] and other("RANDOMKEY") is None and other("DBSIZE") == 3
        assert raw("INCR", "k") == 2 and raw("GET", "k") == b"2" and raw("GET", "past") == b"x"
        assert sorted(raw("KEYS", "*")) == [b"gone", b"k", b"past"] == sorted(raw("SCAN", 0)[1])
        assert raw("EVAL", "return redis.call('GET', KEYS[1])", 1, "k") == b"2"
        assert [raw("MULTI"), raw("INCR", "k"), raw("EXEC")] == [OK, Simple("QUEUED"), [3]]
        # Who does not import finds nothing, and writes to a key of its own.
        assert other("INCR", "gone") == 1 and raw("PTTL", "gone") == -1
        assert raw("CLIENT", "IMPORT-SOURCE", "OFF") == OK and raw("GET", "k") is None
        assert raw("CLIENT", "IMPORT-SOURCE", "ON") == OK and raw("GET", "k") == b"3"
        raw("RESET")
        assert b" flags=U " in raw("CLIENT", "INFO") and raw("GET", "k") is None
        assert raw("CLIENT", "IMPORT-SOURCE", "ON") == OK
    finally:
        assert raw("CONFIG", "SET", "import-mode", "no") == OK
    assert raw("GET", "k") is None and raw("EXISTS", "past") == 0 and raw("GET", "gone") == b"1"
    wait_for(lambda: raw("DBSIZE") == 1)


# What is imported is replicated and logged as it was done, and nothing is evicted meanwhile.
def test_import_is_logged():
    options = {"appendonly": "yes", "import-mode": "yes", "maxmemory-policy": "allkeys-random"}
    with Server("holdfast", options=options) as server, Server("holdfast", plain=True) as replica:
        replica.client().replicaof("127.0.0.1", server.port)
        importer, other = server.raw(), server.raw()
        assert importer("CLIENT", "IMPORT-SOURCE", "ON") == OK
        for key in ("a", "b", "c"):
            importer("SET", key, 1, "PX", 1)
        time.sleep(0.05)
        for _ in range(3):
            importer("INCR", "a")
        other("INCR", "b")
        other("SUNIONSTORE", "d", "c")
        importer("PERSIST", "a")
        importer("CONFIG", "SET", "maxmemory", "1mb")
        for i in range(200):
            importer("SET", f"big{i}", "x" * 10000)
        want = [b"4", b"1"]
        for one in (importer, other):
            assert one("MGET", "a", "b") == want and one("DBSIZE") == 202
        copy = replica.raw()
        wait_for(lambda: copy("DBSIZE") == 202 and copy("MGET", "a", "b") == want)
        importer("CONFIG", "SET", "maxmemory", "0")
        server.terminate()
        server.start()
        again = server.raw()
        assert again("MGET", "a", "b") == want and again("DBSIZE") == 202


# A client that does not touch leaves the keys' access clock alone.
def test_no_touch(raw):
    assert raw("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu") == OK
    try:
        raw("SET", "k", "v")
        before = raw("OBJECT", "FREQ", "k")
        raw("CLIENT", "NO-TOUCH", "on")
        for _ in range(50):
            raw("GET", "k")
        assert raw("OBJECT", "FREQ", "k") == before
        raw("CLIENT", "NO-TOUCH", "off")
        for _ in range(50):
            raw("GET", "k")
        assert raw("OBJECT", "FREQ", "k") > before
    finally:
        raw("CONFIG", "SET", "maxmemory-policy", "noeviction")


def encoding(raw, key):
    return raw("OBJECT", "ENCODING", key)


# A small list is a listpack until it is beyond list-max-listpack-size; a small set of words is one up to
# set-max-listpack-entries and -value.
def test_encodings_of_7_2(raw):
    raw("RPUSH", "list", *"abc")
    assert encoding(raw, "list") == b"listpack"
    raw("RPUSH", "list", "x" * 8192)
    assert encoding(raw, "list") == b"quicklist"
    raw("CONFIG", "SET", "list-max-listpack-size", 5)
    raw("RPUSH", "five", *range(5))
    assert encoding(raw, "five") == b"listpack"
    raw("RPUSH", "five", 6)
    assert encoding(raw, "five") == b"quicklist"
    raw("CONFIG", "SET", "list-max-listpack-size", -2)

    raw("SADD", "set", *(f"m{i}" for i in range(128)))
    assert encoding(raw, "set") == b"listpack"
    raw("SADD", "set", "one more")
    assert encoding(raw, "set") == b"hashtable"
    raw("SADD", "long", "x" * 64)
    assert encoding(raw, "long") == b"listpack"
    raw("SADD", "long", "x" * 65)
    assert encoding(raw, "long") == b"hashtable"
    raw("SADD", "mixed", *range(100))
    assert encoding(raw, "mixed") == b"intset"
    raw("SADD", "mixed", "word")
    assert encoding(raw, "mixed") == b"listpack"
    raw("SADD", "many", *range(200))
    raw("SADD", "many", "word")
    assert encoding(raw, "many") == b"hashtable"
    raw("CONFIG", "SET", "set-max-listpack-entries", 3)
    raw("SADD", "four", *"abcd")
    assert encoding(raw, "four") == b"hashtable"
    raw("CONFIG", "SET", "set-max-listpack-entries", 128)


# A set that is a listpack here is written so that redis-server 7.0 can read it.
def test_small_sets_are_readable_by_7_0(raw):
    raw("SADD", "set", "a", "b", 1)
    assert encoding(raw, "set") == b"listpack"
    with Server("redis") as redis:
        assert redis.raw()("RESTORE", "set", 0, raw("DUMP", "set")) == OK
        assert sorted(redis.raw()("SMEMBERS", "set")) == [b"1", b"a", b"b"]


# XDELEX deletes entries, and says what it left alone: with KEEPREF they stay pending, with DELREF they do not, with ACKED
# they are deleted only when every group has read and acknowledged them.
def test_xdelex(raw):
    for i in range(1, 9):
        raw("XADD", "s", f"{i}-0", "f", i)
    for group in ("g", "h"):
        raw("XGROUP", "CREATE", "s", group, 0)
    raw("XREADGROUP", "GROUP", "g", "c", "COUNT", 7, "STREAMS", "s", ">")
    raw("XREADGROUP", "GROUP", "h", "c", "COUNT", 5, "STREAMS", "s", ">")
    assert raw("XDELEX", "s", "IDS", 3, "1-0", "1-0", "99-0") == [1, -1, -1]
    assert raw("XDELEX", "s", "KEEPREF", "IDS", 1, "2") == [1] and raw("XPENDING", "s", "g")[0] == 7
    assert raw("XDELEX", "s", "DELREF", "IDS", 2, "3-0", "2-0") == [1, -1]
    assert raw("XPENDING", "s", "g")[0] == 6 and raw("XPENDING", "s", "h")[0] == 4
    assert raw("XDELEX", "s", "ACKED", "IDS", 2, "4-0", "98-0") == [2, -1]
    raw("XACK", "s", "g", "4-0", "6-0", "7-0")
    assert raw("XDELEX", "s", "acked", "IDS", 1, "4-0") == [2]
    raw("XACK", "s", "h", "4-0")
    # 6 was acknowledged by one, and not yet read by the other; 8 was read by nobody.
    assert raw("XDELEX", "s", "ACKED", "ids", 3, "4-0", "6-0", "8-0") == [1, 2, 2]
    assert [entry[0] for entry in raw("XRANGE", "s", "-", "+")] == [b"5-0", b"6-0", b"7-0", b"8-0"]
    assert raw("XDELEX", "none", "IDS", 2, "1-0", "2-0") == [-1, -1] and raw("EXISTS", "none") == 0
    raw("SET", "string", 1)
    assert raw("XDELEX", "string", "IDS", 1, "1-0") == WRONGTYPE
    assert raw("XDELEX", "s", "IDS", 1) == arity_error("xdelex")
    assert raw("XDELEX", "s", "WHAT", "IDS", 1, "1-0") == SYNTAX and raw("XDELEX", "s", "ACKED", "KEEPREF", "IDS", 1, "1") == SYNTAX
    assert raw("XDELEX", "s", "IDS", 0, "1-0") == raw("XDELEX", "s", "IDS", "x", "1-0") == Error("ERR Number of IDs must be a positive integer")
    assert raw("XDELEX", "s", "IDS", 2, "1-0") == Error("ERR The `numids` parameter must match the number of arguments")
    assert raw("XDELEX", "s", "IDS", 1, "x") == Error("ERR Invalid stream ID specified as stream command argument")


# XACKDEL acknowledges for one group, and deletes.
def test_xackdel(raw):
    for i in range(1, 7):
        raw("XADD", "s", f"{i}-0", "f", i)
    for group in ("g", "h"):
        raw("XGROUP", "CREATE", "s", group, 0)
        raw("XREADGROUP", "GROUP", group, "c", "COUNT", 5, "STREAMS", "s", ">")
    assert raw("XACKDEL", "s", "g", "IDS", 3, "1-0", "1-0", "6-0") == [1, -1, -1]
    assert raw("XPENDING", "s", "g")[0] == 4 and raw("XPENDING", "s", "h")[0] == 5 and raw("XLEN", "s") == 5
    assert raw("XACKDEL", "s", "g", "DELREF", "IDS", 1, "2-0") == [1]
    assert raw("XPENDING", "s", "g")[0] == 3 and raw("XPENDING", "s", "h")[0] == 4 and raw("XLEN", "s") == 4
    assert raw("XACKDEL", "s", "g", "ACKED", "IDS", 1, "3-0") == [2] and raw("XLEN", "s") == 4
    assert raw("XACKDEL", "s", "h", "ACKED", "IDS", 1, "3-0") == [1] and raw("XLEN", "s") == 3
    # One that is pending and has gone from the stream is acknowledged.
    raw("XDEL", "s", "4-0")
    assert raw("XACKDEL", "s", "g", "IDS", 1, "4-0") == [1] and raw("XPENDING", "s", "g")[0] == 1
    assert raw("XACKDEL", "s", "none", "IDS", 1, "5-0") == raw("XACKDEL", "none", "g", "IDS", 1, "5-0") == [-1]
    raw("SET", "string", 1)
    assert raw("XACKDEL", "string", "g", "IDS", 1, "1-0") == WRONGTYPE
    assert raw("XACKDEL", "s", "g", "IDS", 1) == arity_error("xackdel")
    assert raw("XACKDEL", "s", "g", "IDS", 2, "1-0") == Error("ERR The `numids` parameter must match the number of arguments")


# What they do is in the log in commands that every version knows.
def test_stream_deletions_in_the_log():
    with Server(options={"appendonly": "yes", "appendfsync": "always"}) as s:
        raw = s.raw()
        for i in range(1, 9):
            raw("XADD", "s", f"{i}-0", "f", i)
        for group in ("g", "h"):
            raw("XGROUP", "CREATE", "s", group, 0)
            raw("XREADGROUP", "GROUP", group, "c", "STREAMS", "s", ">")
        assert raw("XDELEX", "s", "DELREF", "IDS", 2, "1-0", "2-0") == [1, 1]
        assert raw("XDELEX", "s", "ACKED", "IDS", 1, "3-0") == [2]
        assert raw("XDELEX", "s", "IDS", 1, "44-0") == [-1]
        assert raw("XACKDEL", "s", "g", "DELREF", "IDS", 2, "4-0", "5-0") == [1, 1]
        assert raw("XACKDEL", "s", "h", "IDS", 1, "6-0") == [1]

        def state():
            return [raw("XRANGE", "s", "-", "+"), *[[entry[0] for entry in raw("XPENDING", "s", group, "-", "+", 10)] for group in ("g", "h")]]
        before = state()
        assert before[1:] == [[b"3-0", b"6-0", b"7-0", b"8-0"], [b"3-0", b"7-0", b"8-0"]]
        log = b"".join(path.read_bytes() for path in (s.directory / "appendonlydir").iterdir())
        assert b"XDELEX" not in log and b"XACKDEL" not in log and b"XACK\r\n" in log and b"XDEL\r\n" in log
        s.kill()
        s.start()
        raw = s.raw()
        assert state() == before


def pending_ids(raw, group):
    return [entry[0] for entry in raw("XPENDING", "s", group, "-", "+", 100)]


def entry_ids(raw):
    return [entry[0] for entry in raw("XRANGE", "s", "-", "+")]


def ids(*numbers):
    return [b"%d-0" % n for n in numbers]


def fill_for_trimming(raw):
    """Entries 1 to 8; g has read up to 7 and acknowledged 1 and 3, h has read up to 6 and acknowledged 1, 3, 4."""
    raw("DEL", "s")
    for i in range(1, 9):
        raw("XADD", "s", f"{i}-0", "f", i)
    for group, count in (("g", 7), ("h", 6)):
        raw("XGROUP", "CREATE", "s", group, 0)
        raw("XREADGROUP", "GROUP", group, "c", "COUNT", count, "STREAMS", "s", ">")
    raw("XACK", "s", "g", "1-0", "3-0")
    raw("XACK", "s", "h", "1-0", "3-0", "4-0")


# XTRIM KEEPREF leaves what is pending so, DELREF does not, ACKED removes only what every group has read and acknowledged.
def test_xtrim_references(raw):
    for words in ([], ["KEEPREF"]):
        fill_for_trimming(raw)
        assert raw("XTRIM", "s", "MAXLEN", 3, *words) == 5
        assert pending_ids(raw, "g") == ids(2, 4, 5, 6, 7) and pending_ids(raw, "h") == ids(2, 5, 6)
    fill_for_trimming(raw)
    assert raw("XTRIM", "s", "DELREF", "MAXLEN", "=", 3) == 5 and entry_ids(raw) == ids(6, 7, 8)
    assert pending_ids(raw, "g") == ids(6, 7) and pending_ids(raw, "h") == ids(6)
    # What had gone before stays pending: it is not trimmed now.
    fill_for_trimming(raw)
    raw("XDEL", "s", "2-0")
    assert raw("XTRIM", "s", "MINID", "5-0", "delref") == 3
    assert pending_ids(raw, "g") == ids(2, 5, 6, 7) and pending_ids(raw, "h") == ids(2, 5, 6)
    fill_for_trimming(raw)
    assert raw("XTRIM", "s", "MAXLEN", 0, "ACKED") == 2 and entry_ids(raw) == ids(2, 4, 5, 6, 7, 8)
    assert raw("XTRIM", "s", "MAXLEN", 0, "ACKED") == 0
    raw("XACK", "s", "g", "4-0", "5-0", "7-0")
    raw("XACK", "s", "h", "5-0")
    assert raw("XTRIM", "s", "MAXLEN", 5, "ACKED") == 1 and entry_ids(raw) == ids(2, 5, 6, 7, 8)
    assert raw("XTRIM", "s", "MINID", "5-0", "ACKED") == 0 and raw("XTRIM", "s", "MINID", "6-0", "ACKED") == 1
    assert pending_ids(raw, "g") == ids(2, 6) and pending_ids(raw, "h") == ids(2, 6)
    # Whole nodes: the first three of eight in nodes of three.
    raw("CONFIG", "SET", "stream-node-max-entries", 3)
    fill_for_trimming(raw)
    assert raw("XTRIM", "s", "MAXLEN", "~", 4, "ACKED") == 2 and entry_ids(raw) == ids(2, 4, 5, 6, 7, 8)
    fill_for_trimming(raw)
    assert raw("XTRIM", "s", "MAXLEN", "~", 4, "DELREF") == 3 and pending_ids(raw, "h") == ids(5, 6)
    raw("CONFIG", "SET", "stream-node-max-entries", 100)
    # Without groups nothing is referred to.
    raw("XGROUP", "DESTROY", "s", "g")
    raw("XGROUP", "DESTROY", "s", "h")
    assert raw("XTRIM", "s", "MAXLEN", 1, "ACKED") == 4
    assert raw("XTRIM", "none", "MAXLEN", 0, "ACKED") == 0 and raw("XTRIM", "s", "MAXLEN", 0, "ACKED", "DELREF") == SYNTAX


# XADD trims in the same ways.
def test_xadd_references(raw):
    fill_for_trimming(raw)
    assert raw("XADD", "s", "DELREF", "MAXLEN", 4, "9-0", "f", 9) == b"9-0" and entry_ids(raw) == ids(6, 7, 8, 9)
    assert pending_ids(raw, "g") == ids(6, 7) and pending_ids(raw, "h") == ids(6)
    fill_for_trimming(raw)
    assert raw("XADD", "s", "MAXLEN", "=", 0, "ACKED", "9-0", "f", 9) == b"9-0" and entry_ids(raw) == ids(2, 4, 5, 6, 7, 8, 9)
    assert raw("XADD", "s", "acked", "10-0", "f", 9) == b"10-0" and raw("XLEN", "s") == 8
    assert raw("XADD", "s", "NOMKSTREAM", "KEEPREF", "MAXLEN", 1, "*", "f", 9) is not None and raw("XLEN", "s") == 1
    assert pending_ids(raw, "g") == ids(2, 4, 5, 6, 7)
    assert raw("XADD", "new", "ACKED", "MAXLEN", 0, "1-0", "f", "v") == b"1-0" and raw("XLEN", "new") == 0
    assert raw("XADD", "s", "ACKED", "DELREF", "20-0", "f", "v") == Error("ERR Invalid stream ID specified as stream command argument")


# XREADGROUP CLAIM gives what was pending for long enough first, the idlest of it before the others, then what is new; each
# with how long it was idle and how often it was delivered before.
def test_xreadgroup_claim(raw):
    for i in range(1, 6):
        raw("XADD", "s", f"{i}-0", "f", i)
    raw("XGROUP", "CREATE", "s", "g", 0)
    assert raw("XREADGROUP", "GROUP", "g", "a", "COUNT", 3, "CLAIM", 1000000, "STREAMS", "s", ">") == [
        [b"s", [[b"%d-0" % i, [b"f", b"%d" % i], b"0", b"0"] for i in (1, 2, 3)]]]
    raw("XCLAIM", "s", "g", "a", 0, "1-0", "IDLE", 20000000, "JUSTID")
    raw("XCLAIM", "s", "g", "a", 0, "2-0", "IDLE", 30000000, "RETRYCOUNT", 7, "JUSTID")
    raw("XCLAIM", "s", "g", "a", 0, "3-0", "IDLE", 1000000, "JUSTID")

    def shown(reply):
        return [(entry[0], int(entry[2]) // 10 ** 7, entry[3]) for entry in reply[0][1]]
    # In the history neither counts.
    assert raw("XREADGROUP", "GROUP", "g", "b", "CLAIM", 0, "STREAMS", "s", 0) == [[b"s", []]]
    assert shown(raw("XREADGROUP", "GROUP", "g", "b", "COUNT", 3, "CLAIM", 10 ** 7, "NOACK", "STREAMS", "s", ">")) == [
        (b"2-0", 3, b"7"), (b"1-0", 2, b"1"), (b"4-0", 0, b"0")]
    assert [[e[0], e[1], e[3]] for e in raw("XPENDING", "s", "g", "-", "+", 10)] == [
        [b"1-0", b"b", 2], [b"2-0", b"b", 8], [b"3-0", b"a", 1]]
    assert [e[0] for e in raw("XREADGROUP", "GROUP", "g", "b", "COUNT", 1, "CLAIM", 0, "STREAMS", "s", ">")[0][1]] == [b"3-0"]
    # What was deleted stays pending; nobody gets it.
    raw("XDEL", "s", "1-0", "2-0", "3-0", "5-0")
    assert raw("XREADGROUP", "GROUP", "g", "c", "CLAIM", 0, "STREAMS", "s", ">") == ("null array",)
    assert pending_ids(raw, "g") == ids(1, 2, 3)
    assert raw("XREADGROUP", "GROUP", "g", "c", "CLAIM", "x", "STREAMS", "s", ">") == Error("ERR min-idle-time is not an integer")
    assert raw("XREADGROUP", "GROUP", "g", "c", "CLAIM", -1, "STREAMS", "s", ">") == Error("ERR min-idle-time must be a positive integer")
    assert raw("XREAD", "CLAIM", 1, "STREAMS", "s", "0").startswith("ERR The CLAIM option is only supported by XREADGROUP")


# Who waits gets what becomes idle meanwhile, what is added, or nothing when the time is over.
def test_xreadgroup_claim_waits(holdfast, raw):
    raw("XADD", "s", "1-0", "f", 1)
    raw("XGROUP", "CREATE", "s", "g", 0)
    raw("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", ">")
    other = holdfast.raw()
    reply = other("XREADGROUP", "GROUP", "g", "b", "BLOCK", 0, "CLAIM", 300, "STREAMS", "s", ">")
    assert reply[0][1][0][0] == b"1-0" and int(reply[0][1][0][2]) >= 300 and reply[0][1][0][3] == b"1"
    assert other("XREADGROUP", "GROUP", "g", "b", "BLOCK", 50, "CLAIM", 10 ** 9, "STREAMS", "s", ">") == ("null array",)
    other.send(other.encode(["XREADGROUP", "GROUP", "g", "b", "BLOCK", 0, "CLAIM", 10 ** 9, "STREAMS", "s", ">"]))
    while b"blocked_clients:1" not in raw("INFO", "clients"):
        pass
    raw("XADD", "s", "2-0", "f", 2)
    assert other.read() == [[b"s", [[b"2-0", [b"f", b"2"], b"0", b"0"]]]]
    # Nothing was pending when the wait began.
    raw("XACK", "s", "g", "1-0", "2-0")
    raw("XADD", "s", "3-0", "f", 3)
    other.send(other.encode(["MULTI"]) + other.encode(["XREADGROUP", "GROUP", "g", "b", "STREAMS", "s", ">"]) + other.encode(["EXEC"])
               + other.encode(["XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "CLAIM", 20, "STREAMS", "s", ">"]))
    replies = [other.read() for _ in range(4)]
    assert replies[3][0][1][0][0] == b"3-0" and replies[3][0][1][0][3] == b"1"
    other.close()


# The effects of trimming and claiming are in the log in commands that every version knows, and a snapshot has the same.
def test_references_and_claims_in_the_log():
    with Server(options={"appendonly": "yes", "appendfsync": "always", "aof-use-rdb-preamble": "yes"}) as s:
        raw = s.raw()
        fill_for_trimming(raw)
        raw("XADD", "s", "MAXLEN", 0, "ACKED", "9-0", "f", 9)
        raw("XTRIM", "s", "MINID", "5-0", "DELREF")
        raw("XCLAIM", "s", "g", "c", 0, "5-0", "IDLE", 20000000, "JUSTID")
        raw("XREADGROUP", "GROUP", "g", "d", "COUNT", 2, "CLAIM", 10 ** 7, "STREAMS", "s", ">")

        def state():
            return [raw("XRANGE", "s", "-", "+"), *[[[e[0], e[1], e[3]] for e in raw("XPENDING", "s", group, "-", "+", 10)]
                                                    for group in ("g", "h")]]
        before = state()
        assert [e[0] for e in before[0]] == ids(5, 6, 7, 8, 9)
        assert before[1] == [[b"5-0", b"d", 2], [b"6-0", b"c", 1], [b"7-0", b"c", 1], [b"8-0", b"d", 1]]
        log = b"".join(path.read_bytes() for path in (s.directory / "appendonlydir").iterdir())
        assert not any(word in log for word in (b"ACKED", b"DELREF", b"CLAIM\r\n$8", b"XREADGROUP")) and b"XDEL\r\n" in log
        s.kill()
        s.start()
        raw = s.raw()
        assert state() == before
        raw("DEBUG", "RELOAD")
        assert state() == before


# What stands for features of a cluster or of modules does what it can without them.
def test_without_modules_and_cluster(raw):
    assert raw("MODULE", "LIST") == []
    raw("SET", "k", "v")
    payload = raw("DUMP", "k")
    assert raw("RESTORE-ASKING", "other", 0, payload) == OK and raw("GET", "other") == b"v"
    assert raw("RESTORE-ASKING", "other", 0, payload) == Error("BUSYKEY Target key name already exists.")
    assert raw("RESTORE-ASKING", "other", 5000, payload, "REPLACE") == OK and 0 < raw("PTTL", "other") <= 5000
