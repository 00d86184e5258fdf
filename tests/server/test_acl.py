# SPDX-License-Identifier: BSD-3-Clause
"""Access control lists, beside redis-server: rules and their errors, what is allowed and what not, the log, files."""
import os
import re

import pytest
import redis

from harness import Raw, Server


@pytest.fixture(scope="module")
def pair():
    with Server("redis") as theirs, Server("holdfast") as ours:
        yield theirs, ours


def both(pair, talk):
    theirs, ours = map(talk, pair)
    assert ours == theirs
    return ours


RULES = ["on >pw ~a* %R~r* %W~w* &ch* +get +set", "foo", "+nosuch", "+@nosuch", "#zz", "<nosuch", "+config|nosuch", "%~x", "%X~x", "%Rx",
         "+@all -@dangerous", "-@all +@read", "nopass", "resetpass", "off", "on", "allkeys", "~x", "resetkeys ~x", "allchannels", "&x",
         "resetchannels &x", ">a >b >c <b", "!" + "0" * 64, "#" + "a" * 64, "!" + "a" * 64, "reset", "(+get", "(+get ~b*)", "(+set ~c* foo)",
         "clearselectors", "+select|0", "+config|get|x", "-select|0", "~a b", "sanitize-payload", "skip-sanitize-payload", "+", "-", "~",
         "+@all", "nocommands", "allcommands"]


# Every rule is taken or refused with redis-server's words, and GETUSER says the same of the user then (but for the order of
# the rules about commands, which redis-server rebuilds from its bits).
def test_rules(pair):
    def talk(server):
        r = server.raw()
        r("ACL", "DELUSER", "u")
        got = []
        for rules in RULES:
            got.append((rules, r("ACL", "SETUSER", "u", *rules.split(" "))))
            reply = r("ACL", "GETUSER", "u")
            if isinstance(reply, list):
                fields = dict(zip(map(bytes.decode, reply[::2]), reply[1::2]))
                fields["passwords"] = sorted(fields["passwords"])
                del fields["commands"]
                fields["selectors"] = len(fields["selectors"])
                got.append((rules, fields))
        got += [r("ACL", "GETUSER", "nosuch"), r("ACL", "SETUSER", "a b"), r("ACL", "USERS"), r("ACL", "DELUSER", "default"),
                r("ACL", "DELUSER", "nosuch", "u"), r("ACL", "WHOAMI"), r("ACL", "CAT"), r("ACL", "CAT", "nosuch"), r("ACL", "LOAD"),
                r("ACL", "SAVE"), r("ACL", "LIST"), r("ACL", "GENPASS", "0"), r("ACL", "GENPASS", "5000"), r("ACL", "GENPASS", "x"),
                len(r("ACL", "GENPASS", "5")), len(r("ACL", "GENPASS")), r("ACL", "LOG", "x"), r("ACL", "nosuch")]
        r.close()
        return got
    both(pair, talk)


# An empty rule says nothing; that a pattern comes behind all patterns is found before what is wrong with it.
@pytest.mark.parametrize("rules", [[""], ["", "on", ""], ["allkeys", "~a b"], ["allkeys", "%X~a"], ["allkeys", "%RW~*"], ["allkeys", "~*"],
                                   ["resetkeys", "%RW~*", "~a"], ["allchannels", "& x"], ["resetchannels", "& x"], ["~a b"], ["%R~a b"],
                                   ["(allkeys ~a)"], ["()"]])
def test_rule_arguments(pair, rules):
    def talk(server):
        r = server.raw()
        r("ACL", "DELUSER", "u")
        got = [r("ACL", "SETUSER", "u", *rules), r("ACL", "GETUSER", "u")]
        r.close()
        return got
    both(pair, talk)


USERS = {
    "reader": "on nopass ~a* +@read +ping", "writer": "on nopass %W~w* +@write +@read", "mixed": "on nopass %R~r* %RW~m* +@all",
    "channels": "on nopass resetchannels &news.* +@all ~*", "selectors": "on nopass -@all (+get ~g*) (+set ~s*)",
    "sub": "on nopass ~* +config|get -@all +config|get +client -client|kill", "first": "on nopass ~* +select|1 +get",
    "without": "on nopass allkeys allchannels +@all -@hash -flushall"}
COMMANDS = ["GET a1", "GET b1", "SET a1 x", "SET w1 x", "GET w1", "SET w1 x GET", "MGET a1 b1", "MGET a1 a2", "GET r1", "SET r1 x", "SET m1 x",
            "COPY r1 m1", "COPY m1 r1", "RENAME m1 r1", "EXISTS r1", "STRLEN w1", "TYPE w1", "PUBLISH news.x m", "PUBLISH other m", "GET g1",
            "SET g1 x", "SET s1 x", "GET s1", "CONFIG GET port", "CONFIG SET maxclients 10000", "CLIENT ID", "CLIENT KILL ID 12345678", "SELECT 1",
            "SELECT 0", "HGET h f", "FLUSHALL", "PING", "SORT m1 BY x*", "SORT m1", "SUNIONSTORE m1 r1 m2", "SUNIONSTORE m1 r1 w1", "DEL w1",
            "DEL r1", "LMPOP 2 r1 m1 LEFT", "LMOVE m1 m2 LEFT LEFT", "OBJECT ENCODING r1", "ECHO x", "DBSIZE", "KEYS *",
            "ZUNIONSTORE m1 2 r1 r2", "MSET w1 1 w2 2", "MSET w1 1 q2 2", "GETDEL m1", "GETDEL r1", "INCR w1", "APPEND w1 x", "SETRANGE m1 0 x"]


# What each of these users may run is the same, as ACL DRYRUN says and as it is when they run it.
def test_permissions(pair):
    def talk(server):
        r, got = server.raw(), []
        for name, rules in USERS.items():
            r("ACL", "DELUSER", name)
            assert r("ACL", "SETUSER", name, *re.findall(r"\([^)]*\)|\S+", rules)) == "OK"
            for command in COMMANDS:
                got.append((name, command, r("ACL", "DRYRUN", name, *command.split())))
            u = server.raw()
            assert u("AUTH", name, "any") == "OK"
            for command in COMMANDS:
                reply = u(*command.split())
                got.append((name, command, str(reply) if str(reply).startswith("NOPERM") else "allowed"))
            u.close()
        got += [r("ACL", "DRYRUN", "nosuch", "get", "a"), r("ACL", "DRYRUN", "reader", "nosuch"), r("ACL", "DRYRUN", "reader", "get")]
        for name in USERS:
            r("ACL", "DELUSER", name)
        r.close()
        return got
    both(pair, talk)


# The channels of subscribers; patterns have to be allowed as they are.
def test_channels(pair):
    def talk(server):
        r, got = server.raw(), []
        r("ACL", "SETUSER", "ch", "on", "nopass", "resetchannels", "&a*", "+@all", "~*")
        for command in ("SUBSCRIBE abc", "SUBSCRIBE b", "SUBSCRIBE a1 b", "PSUBSCRIBE a*", "PSUBSCRIBE a?", "SSUBSCRIBE a", "SSUBSCRIBE b",
                        "PUBLISH a m", "PUBLISH b m", "SPUBLISH b m"):
            u = server.raw()
            u("AUTH", "ch", "x")
            got.append((command, u(*command.split())))
            u.close()
        r("ACL", "DELUSER", "ch")
        r.close()
        return got
    both(pair, talk)


# AUTH in both forms, HELLO AUTH, users that are off, passwords, RESET; what is refused is in the log.
def test_authentication(pair):
    def talk(server):
        r, got = server.raw(), []
        r("ACL", "LOG", "RESET")
        r("ACL", "SETUSER", "p", "on", ">one", ">two", "+@all", "~*", "&*")
        r("ACL", "SETUSER", "gone", "off", ">one", "+@all")
        u = server.raw()
        for command in ("AUTH p one", "ACL WHOAMI", "AUTH p three", "ACL WHOAMI", "AUTH p two", "AUTH gone one", "AUTH nosuch x", "AUTH x",
                        "RESET", "ACL WHOAMI", "HELLO 2 AUTH p one SETNAME me", "ACL WHOAMI", "HELLO 2 AUTH p no", "AUTH a b c"):
            reply = u(*command.split())
            got.append((command, "map" if command.startswith("HELLO 2 AUTH p one") else reply))
        r("ACL", "SETUSER", "p", "-get", "resetkeys", "~k*")
        got += [u("GET", "k"), u("SET", "q", "1"), u("MULTI"), u("SET", "q", "1"), u("EXEC"), u("MULTI"), u("SET", "k", "1")]
        r("ACL", "SETUSER", "p", "-set")
        got += [u("EXEC")]
        log = r("ACL", "LOG", "100")
        got += [[e[e.index(f) + 1] for f in (b"count", b"reason", b"context", b"object", b"username")] for e in log]
        got += [len(r("ACL", "LOG", "2")), r("ACL", "LOG", "RESET"), r("ACL", "LOG")]
        got += [r("ACL", "DELUSER", "p", "gone")]
        with pytest.raises((EOFError, OSError)):
            u("PING")
        r.close()
        return got
    both(pair, talk)


# requirepass is the default user's password; without one any will do.
def test_requirepass(pair):
    def talk(server):
        r, got = server.raw(), []
        r("CONFIG", "SET", "requirepass", "secret")
        u = server.raw()
        for command in ("GET a", "AUTH wrong", "AUTH secret", "GET a", "AUTH default secret", "ACL LIST"):
            got.append((command, u(*command.split())))
        got.append(r("CONFIG", "SET", "requirepass", ""))
        v = server.raw()
        got += [v("GET", "a"), v("AUTH", "x"), v("ACL", "LIST")]
        for c in (r, u, v):
            c.close()
        return got
    both(pair, talk)


# Users of the configuration file are there after a start, and CONFIG REWRITE keeps those that were made since.
def test_configuration(tmp_path):
    conf = tmp_path / "h.conf"
    conf.write_text("# mine\nuser alice on >pw ~a* +@read (+set ~b*)\nport 0\nuser default on nopass ~* &* +@all\nuser bob off\n")
    with Server("holdfast", args=[str(conf)]) as s:
        r = s.raw()
        assert sorted(r("ACL", "USERS")) == [b"alice", b"bob", b"default"]
        r("ACL", "SETUSER", "carol", "on", "nopass", "+ping")
        r("ACL", "DELUSER", "bob")
        assert r("CONFIG", "REWRITE") == "OK"
        before = r("ACL", "LIST")
        r.close()
    text = conf.read_text()
    assert text.startswith("# mine\n") and sum(line.startswith("user ") for line in text.splitlines()) == 3 and "bob" not in text
    # The directory of the first server is gone, and its socket.
    conf.write_text("".join(line + "\n" for line in text.splitlines() if line.split(" ")[0] not in ("dir", "unixsocket", "port")))
    with Server("holdfast", args=[str(conf)]) as s:
        r = s.raw()
        assert r("ACL", "LIST") == before
        u = s.raw()
        assert u("AUTH", "alice", "pw") == "OK" and u("GET", "a1") is None and "NOPERM" in u("SET", "a1", "x")
        assert u("SET", "b1", "x") == "OK"
        r.close(), u.close()
    conf.write_text("user alice on +nosuch\n")
    with pytest.raises(RuntimeError, match="nosuch"):
        Server("holdfast", args=[str(conf)])


# An ACL file: SAVE replaces it as a whole, LOAD takes all of it or nothing, and those whose rules changed have to connect anew.
def test_acl_file(tmp_path):
    path = tmp_path / "users.acl"
    path.write_text("user dave on #" + "a" * 64 + " ~* +@all\n")
    with Server("holdfast", {"aclfile": str(path)}) as s:
        r = s.raw()
        assert b"dave" in r("ACL", "USERS")
        r("ACL", "SETUSER", "erin", "on", ">pw", "~e*", "+@all")
        assert r("ACL", "SAVE") == "OK"
        assert "user erin on" in path.read_text() and not [f for f in os.listdir(tmp_path) if f != "users.acl"]
        u = s.raw()
        assert u("AUTH", "erin", "pw") == "OK"
        path.write_text(path.read_text() + "user frank on +nosuch\nnonsense\n")
        error = str(r("ACL", "LOAD"))
        assert "frank" in error and "nonsense" not in r("ACL", "USERS") and b"frank" not in r("ACL", "USERS")
        assert u("SET", "e", "1") == "OK"
        path.write_text("user erin on >other ~e* +@all\n")
        assert r("ACL", "LOAD") == "OK"
        with pytest.raises((EOFError, OSError)):
            u("PING"), u("PING")
        assert sorted(r("ACL", "USERS")) == [b"default", b"erin"]
        r.close()


# redis-py works as a restricted user.
def test_redis_py(pair):
    for server in pair:
        admin = redis.Redis(port=server.port)
        admin.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["app:*"], commands=["+@all", "-@dangerous"])
        app = redis.Redis(port=server.port, username="app", password="pw")
        assert app.set("app:1", "x") and app.get("app:1") == b"x"
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.get("other")
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.flushall()
        admin.acl_deluser("app")
        admin.close(), app.close()
