# SPDX-License-Identifier: BSD-3-Clause
"""Arguments at the ends of what numbers can be, each as redis-server has it or bounded on purpose."""
import pytest

OUT_OF_RANGE = "ERR value is out of range"


@pytest.mark.parametrize("fill,draw", [
    (["SADD", "k", "a", "b"], ["SRANDMEMBER", "k"]),
    (["SADD", "k", "1", "2"], ["SRANDMEMBER", "k"]),
    (["SADD", "k", *(f"m{i}" for i in range(1000))], ["SRANDMEMBER", "k"]),
    (["HSET", "k", "a", "b"], ["HRANDFIELD", "k"]),
    (["HSET", "k", *(f"m{i}" for i in range(1000))], ["HRANDFIELD", "k"]),
    (["ZADD", "k", 1, "a"], ["ZRANDMEMBER", "k"]),
    (["ZADD", "k", *(v for i in range(1000) for v in (i, f"m{i}"))], ["ZRANDMEMBER", "k"]),
], ids=lambda x: " ".join(map(str, x[:3])) if isinstance(x, list) else None)
def test_repeated_draws_are_bounded(server, fill, draw):
    """A negative count asks for elements over and over: where the reply would take gigabytes it is
    refused at once (redis-server works until its memory ends)."""
    raw = server.raw()
    raw(*fill)
    for count in (-2 ** 62, -2 ** 63 + 1, -10 ** 12):
        assert raw(*draw, count) == OUT_OF_RANGE
    assert raw(*draw, -2 ** 63) == ("ERR value is out of range, value must between "
                                    "-9223372036854775807 and 9223372036854775807")
    assert len(raw(*draw, -70000)) == 70000
    assert raw("EXISTS", "k") == 1
    # It is the size that counts.
    raw(fill[0], "large", *([1] if fill[0] == "ZADD" else []), "x" * 3000000, *(["y"] if fill[0] == "HSET" else []))
    assert raw(draw[0], "large", -5000) == OUT_OF_RANGE
    assert len(raw(draw[0], "large", -2)) == 2


def test_longest_numbers(server, redis_server):
    """A number of thousands of digits that INCRBYFLOAT has made is a number to the next one."""
    replies = []
    for s in (server, redis_server):
        raw = s.raw()
        replies.append([raw("INCRBYFLOAT", "k", "1e4932"), raw("INCRBYFLOAT", "k", "1e4931"),
                        raw("INCRBYFLOAT", "k", "-1e4932"), raw("SET", "k", "0" * 5000 + "1"),
                        raw("INCRBYFLOAT", "k", 1), raw("SET", "k", "0" * 5119 + "1"),
                        raw("INCRBYFLOAT", "k", 1), raw("HINCRBYFLOAT", "h", "f", "1e4932"),
                        raw("HINCRBYFLOAT", "h", "f", "1e4931")])
        raw.close()
    assert len(replies[0][1]) == 4933
    assert replies[0] == replies[1]


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "allkeys-lfu"])
@pytest.mark.parametrize("options", [[], ["FREQ", 0], ["FREQ", 200], ["FREQ", 255], ["IDLETIME", 0],
                                     ["IDLETIME", 1000], ["IDLETIME", 10 ** 7]], ids=str)
def test_access_of_restored_keys(server, redis_server, policy, options):
    """RESTORE sets the access counter or the idle time that it is given, a fresh one without."""
    replies = []
    for s in (server, redis_server):
        raw = s.raw()
        raw("CONFIG", "SET", "maxmemory-policy", policy, "lfu-log-factor", 1000000)
        raw("SET", "k", "v")
        assert raw("RESTORE", "r", 0, raw("DUMP", "k"), *options) == "OK"
        idle = raw("OBJECT", "IDLETIME", "r")
        # A second may begin in between; beyond half a turn Redis lets keys seem fresher.
        replies.append((raw("OBJECT", "FREQ", "r"), idle // 10 if isinstance(idle, int) else idle))
        raw.close()
    if options != ["IDLETIME", 10 ** 7]:
        assert replies[0] == replies[1]
    elif policy != "allkeys-lfu":
        assert replies[0][1] >= 2 ** 23 // 10


def test_last_millisecond(server, redis_server):
    """An expiry at the end of time is one all the same."""
    for s in (server, redis_server):
        raw = s.raw()
        raw("SET", "k", "v")
        payload = raw("DUMP", "k")
        assert raw("RESTORE", "r", 2 ** 63 - 1, payload, "ABSTTL") == "OK"
        assert raw("PEXPIRETIME", "r") >= 2 ** 63 - 2
        assert raw("PERSIST", "r") == 1
        assert raw("PEXPIREAT", "r", 2 ** 63 - 1) == 1
        assert raw("PTTL", "r") > 2 ** 62
        raw.close()
