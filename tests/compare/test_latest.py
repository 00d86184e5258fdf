# SPDX-License-Identifier: BSD-3-Clause
"""The commands of Redis 8.6 to 8.10, as their documentation describes them."""
import time

from harness import Error, Raw, Server
from test_newer import OK, SYNTAX, WRONGTYPE, arity_error


# ---- SUNIONCARD, SDIFFCARD ----


# They count what SUNION and SDIFF give, up to LIMIT.
def test_cardinalities(raw):
    raw("SADD", "a", "x", "y", "z", 1, 2)
    raw("SADD", "b", "z", "w", 2, 3)
    raw("SADD", "c", "x")
    assert raw("SUNIONCARD", 2, "a", "b") == 7 and raw("SUNIONCARD", 1, "a") == 5
    assert raw("SUNIONCARD", 3, "a", "none", "a") == 5 and raw("SUNIONCARD", 2, "none", "nothing") == 0
    assert raw("SDIFFCARD", 2, "a", "b") == 3 and raw("SDIFFCARD", 3, "a", "b", "c") == 2 and raw("SDIFFCARD", 1, "a") == 5
    assert raw("SDIFFCARD", 2, "a", "a") == raw("SDIFFCARD", 2, "none", "a") == 0 and raw("SDIFFCARD", 2, "a", "none") == 5
    for limit, union, difference in ((0, 7, 3), (1, 1, 1), (3, 3, 3), (6, 6, 3), (100, 7, 3)):
        assert raw("SUNIONCARD", 2, "a", "b", "LIMIT", limit) == union
        assert raw("SDIFFCARD", 2, "a", "b", "limit", limit) == difference
        assert raw("SUNIONCARD", 2, "a", "b", "APPROX", "LIMIT", limit) == raw("SUNIONCARD", 2, "a", "b", "LIMIT", limit, "approx") == union
    raw("SET", "string", 1)
    for name in ("SUNIONCARD", "SDIFFCARD"):
        assert raw(name, 2, "a", "string") == raw(name, 2, "none", "string") == WRONGTYPE
        assert raw(name, 0, "a") == raw(name, -1, "a") == raw(name, "x", "a") == Error("ERR numkeys should be greater than 0")
        assert raw(name, 3, "a", "b") == Error("ERR Number of keys can't be greater than number of args")
        assert raw(name, 1, "a", "LIMIT", -1) == raw(name, 1, "a", "LIMIT", "x") == Error("ERR LIMIT can't be negative")
        assert raw(name, 1, "a", "LIMIT") == raw(name, 1, "a", "b") == SYNTAX
        assert raw(name, 1) == arity_error(name.lower())
        assert raw("COMMAND", "GETKEYS", name, 2, "p", "q", "LIMIT", 3) == [b"p", b"q"]
    assert raw("SDIFFCARD", 1, "a", "APPROX") == SYNTAX


# Of many sets at random they count the same as SUNION and SDIFF.
def test_cardinalities_at_random(raw, rng):
    for _ in range(20):
        raw("FLUSHALL")
        keys = [f"k{i}" for i in range(rng.choice((1, 2, 4, 5, 9)))]
        for key in keys:
            members = rng.sample(range(rng.choice((20, 2000))), rng.randrange(20))
            if members:
                raw("SADD", key, *[m if rng.random() < 0.7 else f"m{m}" for m in members])
        chosen = [rng.choice(keys) for _ in range(rng.randrange(1, 12))]
        for name, all_of_it in (("SUNIONCARD", "SUNION"), ("SDIFFCARD", "SDIFF")):
            count, limit = len(raw(all_of_it, *chosen)), rng.randrange(1, 40)
            assert raw(name, len(chosen), *chosen) == count
            assert raw(name, len(chosen), *chosen, "LIMIT", limit) == min(count, limit)


# The estimate of a large union is near it: four standard errors of 0.81 %. The members are always the same.
def test_estimated_union(raw):
    for i in range(4):
        for start in range(0, 10000, 1000):
            raw("SADD", f"k{i}", *[f"member:{n}" for n in range(i * 5000 + start, i * 5000 + start + 1000)])
    keys = [f"k{i}" for i in range(4)]
    assert raw("SUNIONCARD", 4, *keys) == 25000
    estimate = raw("SUNIONCARD", 4, *keys, "APPROX")
    assert abs(estimate - 25000) < 25000 * 0.0324
    assert raw("SUNIONCARD", 4, *keys, "APPROX", "LIMIT", 100) == 100
    raw("PFADD", "h", *raw("SUNION", *keys))
    assert raw("PFCOUNT", "h") == estimate


# ---- LMOVEM, BLMOVEM ----

NULL_ARRAY = ("null array",)


def fill(raw, key, *items):
    raw("DEL", key)
    raw("RPUSH", key, *items)


def whole(raw, key):
    return raw("LRANGE", key, 0, -1)


def chars(text):
    return [bytes([c]) for c in text.encode()]


# What is moved, where it comes to stand and in which order.
def test_lmovem(raw):
    for start, end, how, reply, left in (
            ("LEFT", "LEFT", "OBO", "cba", "de"), ("LEFT", "LEFT", "BULK", "abc", "de"), ("LEFT", "RIGHT", "OBO", "abc", "de"),
            ("LEFT", "RIGHT", "BULK", "abc", "de"), ("RIGHT", "RIGHT", "OBO", "edc", "ab"), ("RIGHT", "RIGHT", "BULK", "cde", "ab"),
            ("RIGHT", "LEFT", "OBO", "cde", "ab"), ("RIGHT", "LEFT", "BULK", "cde", "ab")):
        for selector in ("COUNT", "EXACTLY"):
            fill(raw, "s", *"abcde")
            fill(raw, "d", *"xy")
            assert raw("LMOVEM", "s", "d", start, end, selector, 3, how) == chars(reply)
            assert whole(raw, "s") == chars(left) and whole(raw, "d") == chars(reply + "xy" if end == "LEFT" else "xy" + reply)
    # Without a count it moves one.
    assert raw("LMOVEM", "d", "new", "left", "right") == [b"c"] and whole(raw, "new") == [b"c"]
    # As many as there are, but with EXACTLY.
    assert raw("LMOVEM", "s", "d", "LEFT", "RIGHT", "EXACTLY", 3, "OBO") == NULL_ARRAY and whole(raw, "s") == chars("ab")
    assert raw("LMOVEM", "s", "gone", "LEFT", "RIGHT", "COUNT", 2 ** 63 - 1, "OBO") == chars("ab") and raw("EXISTS", "s") == 0
    assert raw("LMOVEM", "none", "d", "LEFT", "LEFT") == raw("LMOVEM", "none", "d", "LEFT", "LEFT", "COUNT", 2, "BULK") == []
    assert raw("LMOVEM", "none", "d", "LEFT", "LEFT", "EXACTLY", 1, "BULK") == NULL_ARRAY
    # Within one list: a rotation; a block that turns round; nothing. The key stays with its expiry.
    for args, result, after in ((("LEFT", "RIGHT", "COUNT", 2, "OBO"), "ab", "cdeab"), (("RIGHT", "LEFT", "EXACTLY", 2, "BULK"), "de", "deabc"),
                                (("LEFT", "LEFT", "EXACTLY", 3, "OBO"), "cba", "cbade"), (("RIGHT", "RIGHT", "COUNT", 4, "OBO"), "edcb", "aedcb"),
                                (("LEFT", "LEFT", "COUNT", 3, "BULK"), "abc", "abcde"), (("LEFT", "RIGHT", "COUNT", 9, "OBO"), "abcde", "abcde"),
                                (("RIGHT", "RIGHT", "COUNT", 9, "OBO"), "edcba", "edcba")):
        fill(raw, "k", *"abcde")
        raw("EXPIRE", "k", 1000)
        assert raw("LMOVEM", "k", "k", *args) == chars(result) and whole(raw, "k") == chars(after) and raw("TTL", "k") > 0
    raw("SET", "string", 1)
    assert raw("LMOVEM", "string", "d", "LEFT", "LEFT") == WRONGTYPE
    assert raw("LMOVEM", "k", "string", "LEFT", "LEFT", "COUNT", 2, "OBO") == WRONGTYPE and raw("LLEN", "k") == 5
    for count in (0, -1, "x", 2 ** 63):
        for selector in ("COUNT", "EXACTLY"):
            assert raw("LMOVEM", "k", "d", "LEFT", "LEFT", selector, count, "OBO") == Error("ERR count should be greater than 0")
    for wrong in (["UP", "LEFT"], ["LEFT", "UP"], ["LEFT", "LEFT", "COUNT"], ["LEFT", "LEFT", "COUNT", 2], ["LEFT", "LEFT", "COUNT", 2, "ALL"],
                  ["LEFT", "LEFT", "SOME", 2, "OBO"], ["LEFT", "LEFT", "COUNT", 2, "OBO", "BULK"]):
        assert raw("LMOVEM", "k", "d", *wrong) == SYNTAX
    assert raw("LMOVEM", "k", "d", "LEFT") == arity_error("lmovem") and raw("BLMOVEM", "k", "d", "LEFT", "LEFT") == arity_error("blmovem")


def model_movem(lists, source, destination, start, end, count, bulk):
    items = lists[source]
    taken = items[:count] if start == "LEFT" else items[len(items) - count:]
    items[:] = items[count:] if start == "LEFT" else items[:len(items) - count]
    if not bulk and start == end:
        taken = taken[::-1]
    to = lists[destination]
    to[:] = taken + to if end == "LEFT" else to + taken
    return taken


# At random against a model, with long lists and elements of all sizes; and a start from the log has the same lists.
def test_lmovem_at_random(rng):
    with Server(options={"appendonly": "yes", "appendfsync": "no"}) as s:
        raw = s.raw()
        lists = {b"a": [], b"b": [], b"c": []}
        for _ in range(120):
            source, destination = rng.choice(list(lists)), rng.choice(list(lists))
            if not lists[source] or rng.random() < 0.2:
                items = [rng.choice((b"%d" % rng.randrange(1000), b"x" * rng.randrange(30), b"y" * rng.randrange(200)))
                         for _ in range(rng.choice((1, 3, 50, 700)))] + [b"z" * rng.randrange(5000)]
                raw("RPUSH", source, *items)
                lists[source] += items
            start, end, how = rng.choice(("LEFT", "RIGHT")), rng.choice(("LEFT", "RIGHT")), rng.choice(("OBO", "BULK"))
            count = rng.choice((1, 2, 7, 600, len(lists[source])))
            if rng.random() < 0.5 and count > len(lists[source]):
                assert raw("LMOVEM", source, destination, start, end, "EXACTLY", count, how) == NULL_ARRAY
            count_there = min(count, len(lists[source]))
            reply = raw("LMOVEM", source, destination, start, end, "COUNT", count, how)
            assert reply == model_movem(lists, source, destination, start, end, count_there, how == "BULK")
            assert whole(raw, source) == lists[source] and whole(raw, destination) == lists[destination]
        log = b"".join(path.read_bytes() for path in (s.directory / "appendonlydir").iterdir())
        assert b"LMOVEM" not in log
        s.terminate()
        s.start()
        raw = s.raw()
        for key, items in lists.items():
            assert whole(raw, key) == items


def wait_blocked(raw, count):
    deadline = time.monotonic() + 60
    while f"blocked_clients:{count}\r\n".encode() not in raw("INFO", "clients"):
        assert time.monotonic() < deadline
        time.sleep(0.005)


# BLMOVEM waits until there is one element, or with EXACTLY until there are enough, whatever made them so.
def test_blmovem(holdfast, raw):
    fill(raw, "s", 1, 2, 3)
    assert raw("BLMOVEM", "s", "d", "LEFT", "RIGHT", 0, "COUNT", 2, "BULK") == [b"1", b"2"]
    assert raw("BLMOVEM", "s", "d", "LEFT", "RIGHT", 0) == [b"3"] and raw("EXISTS", "s") == 0
    waiting = holdfast.raw()
    grow = (lambda: raw("RPUSH", "s", 3), lambda: raw("LINSERT", "s", "AFTER", 2, 3), lambda: (raw("RPUSH", "feed", 3), raw("LMOVE", "feed", "s", "LEFT", "RIGHT")),
            lambda: (raw("RPUSH", "feed", 3, 1, 2), raw("SORT", "feed", "STORE", "s")), lambda: (raw("RPUSH", "feed", 1, 2, 3), raw("RENAME", "feed", "s")))
    for act in grow:
        raw("DEL", "s", "d", "feed")
        waiting.send(waiting.encode(("BLMOVEM", "s", "d", "LEFT", "RIGHT", 0, "EXACTLY", 3, "OBO")))
        wait_blocked(raw, 1)
        raw("RPUSH", "s", 1, 2)
        wait_blocked(raw, 1)
        assert whole(raw, "s") == [b"1", b"2"] and raw("EXISTS", "d") == 0
        act()
        assert waiting.read() == whole(raw, "d") == [b"1", b"2", b"3"] and raw("EXISTS", "s") == 0
    # Who wants less than another who waits longer is served, and the other one stays in its place.
    raw("DEL", "s", "d")
    other = holdfast.raw()
    waiting.send(waiting.encode(("BLMOVEM", "s", "d", "LEFT", "RIGHT", 0, "EXACTLY", 3, "OBO")))
    wait_blocked(raw, 1)
    other.send(other.encode(("BLMOVEM", "s", "e", "RIGHT", "LEFT", 0, "COUNT", 5, "BULK")))
    wait_blocked(raw, 2)
    raw("RPUSH", "s", 1, 2)
    assert other.read() == [b"1", b"2"] == whole(raw, "e")
    wait_blocked(raw, 1)
    # What it moves may serve others in turn.
    other.send(other.encode(("BLPOP", "d", 0)))
    wait_blocked(raw, 2)
    raw("RPUSH", "s", 7, 8, 9)
    assert waiting.read() == [b"7", b"8", b"9"] and other.read() == [b"d", b"7"] and whole(raw, "d") == [b"8", b"9"]
    # A time-out, a transaction and a script get null; a key of another type an error.
    raw("DEL", "s", "d")
    fill(raw, "s", 1)
    exactly = ("BLMOVEM", "s", "d", "LEFT", "RIGHT", 0.01, "EXACTLY", 2, "OBO")
    assert raw(*exactly) == NULL_ARRAY and whole(raw, "s") == [b"1"]
    raw("MULTI")
    raw(*exactly[:5], 0, *exactly[6:])
    assert raw("EXEC") == [NULL_ARRAY]
    assert raw("EVAL", "return redis.call('BLMOVEM', KEYS[1], KEYS[2], 'LEFT', 'RIGHT', '0', 'EXACTLY', '2', 'OBO')", 2, "s", "d") is None
    assert raw("EVAL", "return redis.call('BLMOVEM', KEYS[1], KEYS[2], 'LEFT', 'RIGHT', '0')", 2, "s", "d") == [b"1"]
    assert raw(*exactly[:5], -1) == Error("ERR timeout is negative") and raw(*exactly[:5], "x") == Error("ERR timeout is not a float or out of range")
    raw("SET", "string", 1)
    assert raw("BLMOVEM", "string", "d", "LEFT", "LEFT", 0) == WRONGTYPE
    waiting.close()
    other.close()


# Events: a push at the destination and a pop at the source, as LMOVE tells them.
def test_lmovem_events(holdfast, raw):
    raw("CONFIG", "SET", "notify-keyspace-events", "KEA")
    try:
        fill(raw, "s", 1, 2)
        listener = holdfast.raw()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        raw("LMOVEM", "s", "d", "LEFT", "LEFT", "COUNT", 2, "BULK")
        raw("LMOVEM", "none", "d", "LEFT", "LEFT", "COUNT", 2, "BULK")
        raw("SET", "end", 1)
        events = []
        while not events or events[-1] != (b"set", b"end"):
            message = listener.read()
            events.append((message[2].split(b":")[1], message[3]))
        assert events == [(b"lpush", b"d"), (b"lpop", b"s"), (b"del", b"s"), (b"set", b"end")]
        listener.close()
    finally:
        raw("CONFIG", "SET", "notify-keyspace-events", "")


# ---- INCREX ----


# It adds within bounds, and gives the number and what was added.
def test_increx(raw):
    assert raw("INCREX", "k") == [1, 1] and raw("INCREX", "k") == [2, 1]
    assert raw("INCREX", "k", "BYINT", 5) == [7, 5] and raw("INCREX", "k", "byint", -10) == [-3, -10] and raw("INCREX", "k", "BYINT", 0) == [-3, 0]
    assert raw("OBJECT", "ENCODING", "k") == b"int"
    for value, args, reply in (
            (10, ("BYINT", 10, "UBOUND", 15), [10, 0]), (10, ("BYINT", 10, "UBOUND", 15, "SATURATE"), [15, 5]),
            (10, ("BYINT", -10, "LBOUND", 5), [10, 0]), (10, ("SATURATE", "BYINT", -10, "LBOUND", 5), [5, -5]),
            (5, ("BYINT", 5, "UBOUND", 10), [10, 5]), (5, ("LBOUND", 0, "BYINT", 100, "UBOUND", 10, "SATURATE"), [10, 5]),
            (50, ("BYINT", 5, "UBOUND", 30), [50, 0]), (50, ("BYINT", 5, "UBOUND", 30, "SATURATE"), [30, -20]), (50, ("BYINT", -25, "UBOUND", 30), [25, -25]),
            (-50, ("BYINT", -5, "LBOUND", -30, "SATURATE"), [-30, 20]),
            (2 ** 63 - 8, ("BYINT", 2 ** 63 - 8), [2 ** 63 - 8, 0]), (2 ** 63 - 8, ("BYINT", 2 ** 63 - 8, "SATURATE"), [2 ** 63 - 1, 7]),
            (8 - 2 ** 63, ("BYINT", 8 - 2 ** 63, "SATURATE"), [-2 ** 63, -8]), (5, ("BYINT", 2 ** 63 - 1, "UBOUND", 10, "SATURATE"), [10, 5]),
            (None, ("BYINT", 5, "LBOUND", 10), [0, 0]), (None, ("BYINT", 5, "LBOUND", 10, "SATURATE"), [10, 10])):
        raw("DEL", "k")
        if value is not None:
            raw("SET", "k", value)
        assert raw("INCREX", "k", *args) == reply
        assert raw("GET", "k") == (b"%d" % reply[0] if value is not None or reply[1] else None)
    raw("SET", "k", 2 ** 63 - 8)
    assert raw("INCREX", "k", "BYINT", 1, "SATURATE", "UBOUND", -2 ** 63) == Error("ERR applied increment would overflow")
    assert raw("GET", "k") == b"9223372036854775800"


# The same with floating-point numbers, which RESP3 has as such.
def test_increx_by_float(raw):
    for value, args, reply in (
            (1.5, ("0.25",), ("1.75", "0.25")), (10, ("100", "UBOUND", "42.5", "SATURATE"), ("42.5", "32.5")), (10, ("100", "UBOUND", "42.5"), ("10", "0")),
            (0, ("-100", "LBOUND", "-5.5", "SATURATE"), ("-5.5", "-5.5")), (50.5, ("5.5", "UBOUND", 30, "SATURATE"), ("30", "-20.5")),
            (5, ("5", "UBOUND", 10), ("10", "5")), (None, ("-0.5", "UBOUND", "-1.5"), ("0", "0")), (None, ("2.5",), ("2.5", "2.5"))):
        raw("DEL", "k")
        if value is not None:
            raw("SET", "k", value)
        assert raw("INCREX", "k", "BYFLOAT", *args) == [word.encode() for word in reply]
        assert raw("GET", "k") == (reply[0].encode() if value is not None or reply[1] != "0" else None)
    raw("SET", "k", 3)
    raw("HELLO", 3)
    assert raw("INCREX", "k", "BYFLOAT", "0.5") == [("double", b"3.5"), ("double", b"0.5")] and raw("INCREX", "n") == [1, 1]
    raw("HELLO", 2)
    # The greatest number of all: refused, or reached.
    greatest = raw("INCREX", "g", "BYFLOAT", "1e4932")[0]
    assert raw("INCREX", "g", "BYFLOAT", "1e4932") == [greatest, b"0"]
    assert raw("INCREX", "g", "BYFLOAT", "1e4932", "SATURATE")[0] == raw("GET", "g") != greatest
    assert raw("INCREX", "g", "BYFLOAT", "-1e4932", "UBOUND", "-1.1e4932", "SATURATE") == Error("ERR applied increment would produce Infinity")
    raw("SET", "k", "inf")
    assert raw("INCREX", "k", "BYFLOAT", 1) == Error("ERR value cannot be Infinity")
    for word in ("inf", "-inf"):
        assert raw("INCREX", "k", "BYFLOAT", word) == Error("ERR BYFLOAT increment cannot be Infinity")


# When the key expires: as told, not touched otherwise, and with ENX only where it did not expire.
def test_increx_expiry(raw):
    now = int(time.time())
    for args, low, high in ((("EX", 100), 90, 100), (("PX", 100000), 90, 100), (("EXAT", now + 500), 400, 500), (("PXAT", (now + 500) * 1000), 400, 500),
                            (("EX", 100, "ENX"), 90, 100)):
        raw("SET", "k", 1)
        assert raw("INCREX", "k", *args) == [2, 1] and low < raw("TTL", "k") <= high
        assert raw("INCREX", "k", "ENX", "EX", 5) == [3, 1] and low < raw("TTL", "k") <= high
        assert raw("INCREX", "k", "EXAT", 1, "ENX") == [4, 1] and low < raw("TTL", "k") <= high
        assert raw("INCREX", "k", "UBOUND", 3, "EX", 5) == [4, 0] and low < raw("TTL", "k") <= high
        assert raw("INCREX", "k") == [5, 1] and low < raw("TTL", "k") <= high
        assert raw("INCREX", "k", "PERSIST") == [6, 1] and raw("TTL", "k") == -1 and raw("INCREX", "k", "PERSIST") == [7, 1]
        assert raw("INCREX", "k", "BYINT", 9, "UBOUND", 8, "SATURATE", "EX", 100) == [8, 1] and raw("TTL", "k") > 90
    # A time that is past removes the key, or does not make it.
    assert raw("INCREX", "k", "EXAT", 1) == [9, 1] and raw("EXISTS", "k") == 0
    assert raw("INCREX", "k", "PXAT", 1) == [1, 1] and raw("EXISTS", "k") == 0
    assert raw("INCREX", "k", "EX", 100, "ENX") == [1, 1] and raw("TTL", "k") > 90


def test_increx_errors(raw):
    raw("SET", "k", "text")
    raw("RPUSH", "list", 1)
    for wrong in (["FOO"], ["BYINT"], ["BYINT", 1, "FOO"], ["BYINT", 1, "BYFLOAT", 1], ["BYFLOAT", 1, "BYINT", 1], ["BYINT", 1, "BYINT", 2],
                  ["EX", 10, "PX", 10], ["EX", 10, "PERSIST"], ["PERSIST", "EX", 10], ["PERSIST", "ENX"], ["ENX", "PERSIST"], ["PERSIST", "PERSIST"],
                  ["EX", 10, "EX", 20], ["LBOUND", 0, "LBOUND", 1], ["UBOUND", 9, "UBOUND", 8], ["UBOUND"], ["EX"], ["SATURATE", "SATURATE"],
                  ["ENX", "ENX", "EX", 10], ["KEEPTTL"], ["NX"]):
        assert raw("INCREX", "k", *wrong) == SYNTAX, wrong
    for args, error in ((["ENX"], "ENX flag requires an expiration"), (["BYINT", "x"], "Increment is not an integer or out of range"),
                        (["BYINT", "1.5"], "Increment is not an integer or out of range"), (["BYFLOAT", "x"], "Increment is not a valid float"),
                        (["LBOUND", "1.5"], "LBOUND is not an integer or out of range"), (["BYFLOAT", 1, "UBOUND", "x"], "UBOUND is not a valid float"),
                        (["BYFLOAT", 1, "LBOUND", "-inf"], "LBOUND cannot be Infinity"),
                        (["LBOUND", 10, "UBOUND", 5], "LBOUND can't be greater than UBOUND"),
                        (["BYFLOAT", 1, "LBOUND", "10.5", "UBOUND", "1.5"], "LBOUND can't be greater than UBOUND"),
                        (["EX", 0], "invalid expire time in 'increx' command"), (["PX", -1], "invalid expire time in 'increx' command"),
                        (["EX", 2 ** 63 - 1], "invalid expire time in 'increx' command"), ([], "value is not an integer or out of range"),
                        (["BYFLOAT", 1], "value is not a valid float")):
        assert raw("INCREX", "k", *args) == Error("ERR " + error)
    assert raw("INCREX", "list") == raw("INCREX", "list", "BYFLOAT", 1) == WRONGTYPE and raw("INCREX") == arity_error("increx")
    assert raw("GET", "k") == b"text"


# The log has SET, and a start from it has the same numbers and times; the events are those of INCRBY and EXPIRE.
def test_increx_in_the_log():
    with Server(options={"appendonly": "yes", "appendfsync": "always", "notify-keyspace-events": "KEA"}) as s:
        raw, listener = s.raw(), s.raw()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        for args in (["a"], ["a", "BYINT", 5, "EX", 1000], ["a", "EX", 5, "ENX"], ["b", "BYFLOAT", "0.1"], ["b", "BYFLOAT", 9, "UBOUND", "2.5", "SATURATE"],
                     ["c", "EX", 1000], ["c", "PERSIST"], ["c", "UBOUND", 0], ["d"], ["d", "PXAT", 1], ["none", "PXAT", 1]):
            raw("INCREX", *args)
        raw("SET", "end", 1)
        events = []
        while not events or events[-1] != "set end":
            message = listener.read()
            events.append(f"{message[2].split(b':')[1].decode()} {message[3].decode()}")
        assert events == ["incrby a", "incrby a", "expire a", "incrby a", "incrbyfloat b", "incrbyfloat b", "incrby c", "expire c", "incrby c", "persist c",
                          "incrby d", "del d", "set end"]

        def state():
            return [(raw("GET", key), raw("PEXPIRETIME", key)) for key in "abcd"]
        before = state()
        assert [value for value, _ in before] == [b"7", b"2.5", b"2", None]
        log = b"".join(path.read_bytes() for path in (s.directory / "appendonlydir").iterdir())
        assert b"INCREX" not in log and b"KEEPTTL" in log and b"PXAT" in log
        s.kill()
        s.start()
        raw = s.raw()
        assert state() == before


# ---- HIMPORT ----


NO_FIELDSET = Error("ERR no such fieldset")


# A list of fields is named once for the connection; what is made of it is a hash like any other.
def test_himport(holdfast, raw):
    assert raw("HIMPORT", "PREPARE", "u", "name", "email", "age") == OK
    assert raw("HIMPORT", "SET", "user:1", "u", "alice", "a@example.com", 30) == OK
    assert raw("HGETALL", "user:1") == [b"name", b"alice", b"email", b"a@example.com", b"age", b"30"]
    # It takes the place of what was there, whatever that was.
    raw("SET", "k", "string", "EX", 1000)
    raw("HSET", "h", "old", 1)
    for key in ("k", "h"):
        assert raw("himport", "set", key, "u", 1, 2, 3) == OK and raw("HLEN", key) == 3 and raw("HGET", key, "old") is None and raw("TTL", key) == -1
    # Another list takes the place of one of the same name, unless it is refused.
    assert raw("HIMPORT", "PREPARE", "u", "x", "y") == OK and raw("HIMPORT", "SET", "k", "u", "", "v") == OK
    assert raw("HGETALL", "k") == [b"x", b"", b"y", b"v"]
    assert raw("HIMPORT", "PREPARE", "u", "a", "b", "a") == Error("ERR duplicate field name in fieldset")
    assert raw("HIMPORT", "SET", "k", "u", 1, 2) == OK and raw("HIMPORT", "PREPARE", "", "", "b") == OK
    assert raw("HIMPORT", "SET", "e", "", "va", "vb") == OK and raw("HGET", "e", "") == b"va"
    count = Error("ERR value count does not match the fieldset's number of fields")
    assert raw("HIMPORT", "SET", "k", "u", 1) == raw("HIMPORT", "SET", "k", "u", 1, 2, 3) == count and raw("HLEN", "k") == 2
    assert raw("HIMPORT", "SET", "k", "none", 1) == NO_FIELDSET
    for args in ((), ("PREPARE",), ("PREPARE", "n"), ("SET", "k", "u"), ("DISCARD",), ("DISCARD", "a", "b"), ("DISCARDALL", "a")):
        name = "|".join(("himport", *args[:1])).lower()
        assert raw("HIMPORT", *args) == arity_error(name)
    # Other connections do not see it; a large one is a large hash.
    other = holdfast.raw()
    assert other("HIMPORT", "SET", "k", "u", 1, 2) == NO_FIELDSET
    fields = [f"field:{i}" for i in range(3000)]
    before = int(raw("CLIENT", "INFO").split(b"tot-mem=")[1].split()[0])
    assert raw("HIMPORT", "PREPARE", "large", *fields) == OK and raw("HIMPORT", "SET", "large", "large", *range(3000)) == OK
    assert raw("HLEN", "large") == 3000 and raw("HGET", "large", "field:2999") == b"2999"
    raw("PING")
    assert int(raw("CLIENT", "INFO").split(b"tot-mem=")[1].split()[0]) > before + 3000 * 8
    # Forgetting them leaves the hashes as they are.
    assert raw("HIMPORT", "DISCARD", "large") == 1 and raw("HIMPORT", "DISCARD", "large") == 0 and raw("HLEN", "large") == 3000
    assert raw("HIMPORT", "DISCARDALL") == 2 and raw("HIMPORT", "DISCARDALL") == 0 and raw("HIMPORT", "SET", "k", "u", 1, 2) == NO_FIELDSET
    raw("HIMPORT", "PREPARE", "u", "f")
    raw("RESET")
    assert raw("HIMPORT", "SET", "k", "u", 1) == NO_FIELDSET
    # In a transaction they are the connection's, in a script the script's.
    raw("MULTI")
    raw("HIMPORT", "PREPARE", "t", "f", "g")
    raw("HIMPORT", "SET", "k", "t", 1, 2)
    assert raw("EXEC") == [OK, OK] and raw("HGETALL", "k") == [b"f", b"1", b"g", b"2"]
    assert isinstance(raw("EVAL", "return redis.call('HIMPORT', 'SET', KEYS[1], 't', '1', '2')", 1, "s"), Error) and raw("EXISTS", "s") == 0
    assert raw("EVAL", "redis.call('HIMPORT', 'PREPARE', 't', 'a'); return redis.call('HIMPORT', 'SET', KEYS[1], 't', '1')", 1, "s") == OK
    assert raw("HGETALL", "s") == [b"a", b"1"] and raw("HIMPORT", "SET", "k", "t", 1, 2) == OK
    assert b"no such fieldset" in raw("EVAL", "return redis.pcall('HIMPORT', 'SET', KEYS[1], 't', '1').err", 1, "s")
    assert raw("COMMAND", "GETKEYS", "HIMPORT", "SET", "p", "t", 1) == [b"p"]
    other.close()


# The log has what was made as HSET, behind a DEL of what was there; one event for each.
def test_himport_in_the_log():
    with Server(options={"appendonly": "yes", "appendfsync": "always", "notify-keyspace-events": "KEA"}) as s:
        raw, listener = s.raw(), s.raw()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        raw("HIMPORT", "PREPARE", "u", "f", "g")
        raw("HIMPORT", "SET", "a", "u", 1, 2)
        raw("HSET", "a", "h", 3)
        raw("HIMPORT", "SET", "a", "u", 4, 5)
        raw("SET", "b", "x", "EX", 1000)
        raw("HIMPORT", "SET", "b", "u", 6, 7)
        assert [(message[2].split(b":")[1], message[3]) for message in (listener.read() for _ in range(6))] == [
            (b"hset", b"a"), (b"hset", b"a"), (b"hset", b"a"), (b"set", b"b"), (b"expire", b"b"), (b"hset", b"b")]
        log = b"".join(path.read_bytes() for path in (s.directory / "appendonlydir").iterdir())
        assert b"HIMPORT" not in log
        s.kill()
        s.start()
        raw = s.raw()
        assert [raw("HGETALL", key) for key in "ab"] == [[b"f", b"4", b"g", b"5"], [b"f", b"6", b"g", b"7"]] and raw("TTL", "b") == -1


# ---- what Redis 7.0 has, too: LOLWUT, MODULE ----


# A text that ends with the version; redis-server's has the same end, and takes the same arguments.
def test_lolwut(raw):
    with Server("redis") as redis:
        theirs = redis.raw()
        for args in ([], ["VERSION"], ["VERSION", 5, 10, 2, 2], ["VERSION", 6, 4, 4], ["VERSION", 5, -3, 1, 1], ["VERSION", 99, 1], ["something", "else"]):
            for answer in (raw("LOLWUT", *args), theirs("LOLWUT", *args)):
                assert b"Redis ver. " in answer.splitlines()[-1] and answer.endswith(b"\n")
        for args in (["VERSION", "x"], ["VERSION", 5, "x"], ["VERSION", 5, 1, "x"], ["VERSION", 6, 1, 2, "x"], ["VERSION", 5, 1, 1, 1, "x"]):
            ours, other = raw("LOLWUT", *args), theirs("LOLWUT", *args)
            assert isinstance(ours, Error) == isinstance(other, Error) and (not isinstance(ours, Error) or ours == other)
        assert max(map(len, raw("LOLWUT", "VERSION", 5, 30).splitlines()[:-1])) <= 30
        for connection in (raw, theirs):
            connection("HELLO", 3)
        ours, other = raw("LOLWUT"), theirs("LOLWUT")
        assert ours[0] == other[0] == "verbatim"
        raw("HELLO", 2)


# No module is loaded; who asks for one is refused as redis-server refuses it.
def test_module_commands(holdfast, raw):
    with Server("redis") as redis:
        theirs = redis.raw()
        for args in (["LOAD", "/tmp/none.so"], ["LOADEX", "/tmp/none.so", "CONFIG", "a", "b"], ["UNLOAD", "none"], ["LOAD"], ["UNLOAD"], ["UNLOAD", "a", "b"],
                     ["LIST"], ["LIST", "a"]):
            assert raw("MODULE", *args) == theirs("MODULE", *args)
        assert isinstance(raw("MODULE", "LOAD", "x"), Error)
        ours = raw("MODULE", "HELP")
        assert [line.split()[0] for line in ours if not line.startswith(" ")] == [line.split()[0] for line in theirs("MODULE", "HELP") if not line.startswith(" ")]
    options = {"enable-module-command": "yes"}
    with Server(options=options) as s, Server("redis", options=options) as redis:
        raw, theirs = s.raw(), redis.raw()
        for args in (["LOAD", "/tmp/none.so"], ["LOADEX", "/tmp/none.so"], ["UNLOAD", "none"], ["LIST"]):
            assert raw("MODULE", *args) == theirs("MODULE", *args)


# ---- newer options of older commands ----


# AGGREGATE COUNT adds up the weights of the inputs that have a member, whatever its scores are.
def test_aggregate_count():
    with Server(options={"appendonly": "yes", "appendfsync": "always"}) as s:
        raw = s.raw()
        raw("ZADD", "a", 1, "x", "inf", "y", -7, "z")
        raw("ZADD", "b", 2, "x", 5, "y")
        raw("SADD", "c", "x", "w")
        assert raw("ZUNION", 3, "a", "b", "c", "AGGREGATE", "COUNT", "WITHSCORES") == [b"w", b"1", b"z", b"1", b"y", b"2", b"x", b"3"]
        assert raw("ZUNION", 3, "a", "b", "c", "WEIGHTS", 0.5, 2, 10, "AGGREGATE", "count", "WITHSCORES") == [
            b"z", b"0.5", b"y", b"2.5", b"w", b"10", b"x", b"12.5"]
        assert raw("ZINTER", 2, "a", "b", "AGGREGATE", "COUNT", "WITHSCORES") == [b"x", b"2", b"y", b"2"]
        assert raw("ZINTER", 2, "a", "b", "WEIGHTS", "inf", "-inf", "AGGREGATE", "COUNT", "WITHSCORES") == [b"x", b"0", b"y", b"0"]
        assert raw("ZUNION", 1, "a", "AGGREGATE", "COUNT", "WITHSCORES") == [b"x", b"1", b"y", b"1", b"z", b"1"]
        assert raw("ZUNIONSTORE", "u", 2, "a", "b", "AGGREGATE", "COUNT") == 3 and raw("ZINTERSTORE", "i", 2, "a", "c", "WEIGHTS", 3, 4, "AGGREGATE", "COUNT") == 1
        raw("SET", "gone", 1)
        assert raw("ZUNIONSTORE", "gone", 1, "none", "AGGREGATE", "COUNT") == raw("ZUNIONSTORE", "gone", 1, "none", "AGGREGATE", "COUNT") == 0
        assert raw("ZUNION", 1, "a", "AGGREGATE", "AVG") == raw("ZDIFF", 1, "a", "AGGREGATE", "COUNT") == SYNTAX
        log = b"".join(path.read_bytes() for path in (s.directory / "appendonlydir").iterdir())
        assert b"COUNT" not in log and b"RESTORE" in log
        s.kill()
        s.start()
        raw = s.raw()
        assert raw("ZRANGE", "u", 0, -1, "WITHSCORES") == [b"z", b"1", b"x", b"2", b"y", b"2"] and raw("ZRANGE", "i", 0, -1, "WITHSCORES") == [b"x", b"7"]
        assert raw("EXISTS", "gone") == 0


def listed(reply):
    return [int(line.split()[0].split(b"=")[1]) for line in reply.splitlines()]


# Filters of CLIENT LIST and CLIENT KILL: a client must pass all; NOT- turns one round.
def test_client_filters(holdfast, raw):
    deadline = time.monotonic() + 60
    while len(listed(raw("CLIENT", "LIST"))) > 1:  # connections of the tests before
        assert time.monotonic() < deadline
    raw("ACL", "SETUSER", "tester", "on", "nopass", "+@all", "~*", "&*")
    a, b = holdfast.raw(), Raw(port=holdfast.port)
    a("CLIENT", "SETNAME", "first")
    a("CLIENT", "SETINFO", "LIB-NAME", "lib")
    a("CLIENT", "SETINFO", "LIB-VER", "1.2")
    a("SELECT", 3)
    a("CLIENT", "CAPA", "redirect")
    b("AUTH", "tester", "")
    b("SUBSCRIBE", "channel")
    me, first = raw("CLIENT", "ID"), a("CLIENT", "ID")
    line = next(line for line in raw("CLIENT", "LIST", "USER", "tester").decode().splitlines())
    second, address, local = int(line.split()[0][3:]), line.split()[1][5:], line.split()[2][6:]
    everybody = sorted((me, first, second))
    for filters, wanted in (
            (["NAME", "first"], [first]), (["name", "none"], []), (["NAME", ""], [me, second]), (["LIB-NAME", "lib"], [first]), (["LIB-VER", "1.2"], [first]),
            (["LIB-VER", "1.3"], []), (["DB", 3], [first]), (["DB", 0], [me, second]), (["CAPA", "r"], [first]), (["USER", "tester"], [second]),
            (["USER", "default"], [me, first]), (["ADDR", address], [second]), (["LADDR", local], [second]), (["IP", "127.0.0.1"], [second]),
            (["FLAGS", "P"], [second]), (["FLAGS", "U"], [me, first]), (["FLAGS", "UP"], []), (["TYPE", "pubsub"], [second]), (["TYPE", "primary"], []),
            (["SKIPME", "yes"], [first, second]), (["SKIPME", "no"], everybody), (["ID", first, 999999, me], [me, first]), (["ID", me, "SKIPME", "yes"], []),
            (["ID", me, first, "NAME", "first"], [first]), (["NAME", "first", "DB", 0], []), (["MAXAGE", 100000], []), (["IDLE", 100000], []),
            (["NOT-ID", me, first], [second]), (["NOT-TYPE", "pubsub"], [me, first]), (["NOT-ADDR", address], [me, first]), (["NOT-LADDR", local], [me, first]),
            (["NOT-USER", "default"], [second]), (["NOT-NAME", "first"], [me, second]), (["NOT-FLAGS", "U"], [second]), (["NOT-LIB-NAME", "lib"], [me, second]),
            (["NOT-LIB-VER", "1.2"], [me, second]), (["NOT-DB", 0], [first]), (["NOT-CAPA", "r"], [me, second]), (["NOT-IP", "127.0.0.1"], [me, first]),
            (["ID", me, "NOT-ID", me], []), (["ADDR", "x", "ADDR", address], [second])):
        assert sorted(listed(raw("CLIENT", "LIST", *filters))) == sorted(wanted), filters
    assert listed(raw("CLIENT", "LIST", "ID", first, me, first)) == [first, me, first]
    for wrong in (["NAME"], ["WHAT", "x"], ["NOT-MAXAGE", 1], ["NOT-IDLE", 1], ["NOT-SKIPME", "yes"], ["SKIPME", "maybe"], ["not-", 1]):
        assert raw("CLIENT", "LIST", *wrong) == raw("CLIENT", "KILL", "ID", 999999, *wrong) == SYNTAX, wrong
    for filters, error in ((["USER", "nobody"], "No such user 'nobody'"), (["TYPE", "odd"], "Unknown client type 'odd'"), (["DB", 99], "DB index is out of range"),
                           (["MAXAGE", 0], "maxage should be greater than 0"), (["IDLE", "x"], "idle is not an integer or out of range")):
        assert raw("CLIENT", "LIST", *filters) == raw("CLIENT", "KILL", *filters) == Error("ERR " + error)
    assert raw("CLIENT", "LIST", "ID", "x") == raw("CLIENT", "LIST", "ID", me, "x") == Error("ERR Invalid client ID")
    assert raw("CLIENT", "KILL", "ID", "x", "DB", 0) == Error("ERR client-id should be greater than 0")
    # Those that are killed are the same, but for who asks.
    assert raw("CLIENT", "KILL", "NOT-NAME", "first", "FLAGS", "U") == 0 and raw("CLIENT", "KILL", "USER", "tester") == 1
    assert listed(raw("CLIENT", "LIST")) == sorted((me, first))
    assert raw("CLIENT", "KILL", "ID", first, 999999, "MAXAGE", 100000) == 0 and raw("CLIENT", "KILL", "ID", 999999, first) == 1
    assert listed(raw("CLIENT", "LIST")) == [me]
    raw("ACL", "DELUSER", "tester")
    a.close()
    b.close()


# The id + of XREAD is the last entry that there is; without one it waits like $.
def test_xread_last(holdfast, raw):
    for i in range(1, 5):
        raw("XADD", "a", f"{i}-0", "f", i)
    raw("XADD", "b", "7-7", "f", 7)
    last = [[b"a", [[b"4-0", [b"f", b"4"]]]], [b"b", [[b"7-7", [b"f", b"7"]]]]]
    assert raw("XREAD", "STREAMS", "a", "b", "none", "+", "+", "+") == raw("XREAD", "COUNT", 3, "STREAMS", "a", "b", "+", "+") == last
    assert raw("XREAD", "BLOCK", 1, "STREAMS", "a", "+") == last[:1]
    raw("XDEL", "a", "4-0", "2-0")
    assert raw("XREAD", "COUNT", 5, "STREAMS", "a", "+") == [[b"a", [[b"3-0", [b"f", b"3"]]]]]
    raw("XDEL", "a", "3-0", "1-0")
    assert raw("XREAD", "STREAMS", "a", "none", "+", "+") == raw("XREAD", "BLOCK", 1, "STREAMS", "a", "+") == NULL_ARRAY
    waiting = holdfast.raw()
    waiting.send(waiting.encode(("XREAD", "BLOCK", 0, "STREAMS", "a", "none", "+", "+")))
    wait_blocked(raw, 1)
    raw("XADD", "a", "5-0", "f", 5)
    assert waiting.read() == [[b"a", [[b"5-0", [b"f", b"5"]]]]]
    raw("XGROUP", "CREATE", "a", "g", 0)
    refused = raw("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", "+")
    assert isinstance(refused, Error) and refused.startswith("ERR The + ID is meaningless in the context of XREADGROUP")
    waiting.close()
