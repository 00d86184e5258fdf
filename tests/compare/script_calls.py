# SPDX-License-Identifier: BSD-3-Clause
"""Scripts and functions that call random commands of the other generators, and that return Lua values of
every type. The commands are in ARGV, one after another with SEPARATOR between them, so that their replies can be
compared as those of the commands themselves."""
import hashlib

SEPARATOR = b";;"

# Runs all of them, with pcall; what is nil is said, as an array would end there.
MANY = b"""local all, one = {}, {}
local function run()
    if #one == 0 then return end
    local reply = redis.pcall(unpack(one))
    if reply == nil then reply = 'nil' end
    all[#all + 1], one = reply, {}
end
for i = 1, #ARGV do if ARGV[i] == ';;' then run() else one[#one + 1] = ARGV[i] end end
run()
return all"""
RESP3 = b"redis.setresp(3)\n"
FLAGS = [b"", b"", b"", b"#!lua\n", b"#!lua flags=no-writes\n", b"#!lua flags=allow-oom,allow-stale\n", b"#!lua flags=no-cluster\n"]
ONE = [b"return redis.call(unpack(ARGV))", b"return redis.pcall(unpack(ARGV))", RESP3 + b"return redis.call(unpack(ARGV))"]
BODIES = [MANY, RESP3 + MANY] + ONE

LIBRARIES = [
    b"#!lua name=one\n"
    b"redis.register_function('call', function(keys, args) return redis.call(unpack(args)) end)\n"
    b"redis.register_function{function_name='pcall', callback=function(keys, args) return redis.pcall(unpack(args)) end, "
    b"description='does not fail'}",
    b"#!lua name=two\nlocal calls = 0\n"
    b"redis.register_function{function_name='reads', callback=function(keys, args) redis.setresp(3); return redis.call(unpack(args)) end, "
    b"flags={'no-writes'}}\n"
    b"redis.register_function('keys', function(keys, args) calls = calls + 1; return {#keys, keys, args} end)",
    b"#!lua name=two\nredis.register_function('call', function() return 'of another library' end)",
    b"#!lua name=three\nredis.register_function('other', function() return redis.status_reply('FINE') end)",
]
FUNCTIONS = [b"call", b"pcall", b"reads", b"keys", b"other", b"none"]
# What picks at random has a step of its own outside of scripts; a connection's state is not a script's.
NOT_CALLED = {"SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO",
              "CLIENT UNBLOCK", "CLIENT NO-EVICT", "CLIENT NO-TOUCH"}


def words(arg):
    return arg if isinstance(arg, bytes) else str(arg).encode()


def command(g):
    """One command of the other generators, with its name."""
    import generators
    names = g.inner
    if names is None:
        names = g.inner = [[n for n in group if n in g.known and n not in NOT_CALLED]
                           for group in (generators.GROUPS.get(g.theme, generators.STRINGS), generators.ALL)]
    while True:
        name = g.rng.choice(names[0] if g.chance(0.75) else names[1])
        g.exact = False
        args = generators.ALL[name](g)
        if g.chance(0.05):
            args = generators.not_long(name, generators.not_soon(name, generators.mutate(g, name, args)))
        args = generators.not_newer(name, args)
        line = [w.encode() for w in name.split()] + [words(a) for a in args]
        g.exact = True  # as a whole it is not mutated
        if SEPARATOR not in line:
            return line


def keys_and_commands(g, many):
    keys = g.keys(g.theme or "s", 0, 2)
    lines = [command(g) for _ in range(g.rng.randint(1, 5) if many else 1)]
    rest = [arg for line in lines for arg in [SEPARATOR] + line][1:]
    numkeys = len(keys) if g.chance(0.97) else g.pick(-1, b"x", b"", 10 ** 6, b"1.5")
    return [numkeys] + keys + rest


def lua_string(g):
    return b"'" + g.pick(b"", b"a", b"some words", b"1", b"x" * 100, b"two\\r\\nlines", b"a\\0b") + b"'"


def lua_value(g, depth=3):
    """A Lua expression of any type that a reply can have, or cannot."""
    kind = g.rng.randrange(16 if depth else 7)
    if kind < 2:
        return g.pick(b"0", b"1", b"-1", b"3.99", b"-3.99", b"1e15", b"9007199254740993", b"-2147483649", b"0.1")
    if kind < 4:
        return lua_string(g)
    if kind < 7:
        return g.pick(b"true", b"false", b"nil", b"redis.sha1hex('a')", b"function() end", b"#KEYS")
    if kind < 11:
        return b"{" + b", ".join(lua_value(g, depth - 1) for _ in range(g.rng.randint(0, 4))) + b"}"
    inner = lua_value(g, depth - 1)
    return g.pick(
        b"{ok=%s}" % lua_string(g), b"{err=%s}" % lua_string(g), b"redis.status_reply(%s)" % lua_string(g),
        b"redis.error_reply(%s)" % lua_string(g), b"{double=%s}" % g.pick(b"1.5", b"0.1", b"-0", b"1e300", b"1/0", b"'x'", b"3"),
        b"{map={[%s]=%s}}" % (g.pick(b"'k'", b"1", b"true", b"2.5"), inner), b"{set={[%s]=true}}" % g.pick(b"'k'", b"7", b"false"),
        b"{map={}}", b"{set={}}", b"{big_number='%d'}" % g.pick(5, -10 ** 30), b"{verbatim_string={format='txt', string=%s}}" % lua_string(g),
        b"{1, nil, %s}" % inner, b"{field=%s}" % inner, b"{%s, n=2}" % inner)


def lua_script(g):
    head = RESP3 if g.chance(0.5) else b""
    if g.chance(0.2):
        # Other tables than these make redis-server 7.0 crash, and a function is told by its address.
        return head + b"error(%s)" % g.pick(b"'a message'", b"'CODE words'", b"true", b"false", b"nil", b"1.5", b"{err='CODE words'}",
                                            b"redis.error_reply('one')", b"redis.error_reply('MORE words')")
    return head + g.pick(b"return ", b"return 1, ") + lua_value(g)


def eval_(g):
    g.exact = True
    if g.chance(0.25):
        return [lua_script(g), 1, b"k1", b"a"]
    body = g.rng.choice(BODIES)
    return [(g.rng.choice(FLAGS) if g.chance(0.3) else b"") + body] + keys_and_commands(g, body.endswith(MANY))


def evalsha(g):
    g.exact = True
    body = g.rng.choice(BODIES)
    sha = hashlib.sha1(body).hexdigest().encode()
    if g.chance(0.1):
        sha = g.pick(sha.upper(), sha[:39], b"", b"f" * 40)
    return [sha] + keys_and_commands(g, body.endswith(MANY))


def fcall(g):
    g.exact = True
    return [g.rng.choice(FUNCTIONS[:3]) if g.chance(0.7) else g.rng.choice(FUNCTIONS)] + keys_and_commands(g, False)


def script_exists(g):
    return [hashlib.sha1(g.rng.choice(BODIES)).hexdigest() for _ in range(g.rng.randint(1, 3))]


SCRIPTS = {
    "EVAL": eval_, "EVAL_RO": eval_, "EVALSHA": evalsha, "EVALSHA_RO": evalsha, "FCALL": fcall, "FCALL_RO": fcall,
    "SCRIPT LOAD": lambda g: [g.rng.choice(BODIES) if g.chance(0.9) else b"return ("],
    "SCRIPT EXISTS": script_exists,
    "SCRIPT FLUSH": lambda g: g.words(0.3, "ASYNC", "SYNC"),
    "SCRIPT KILL": lambda g: [],
    "FUNCTION LOAD": lambda g: g.words(0.6, "REPLACE") + [g.rng.choice(LIBRARIES)],
    "FUNCTION DELETE": lambda g: [g.pick(b"one", b"two", b"three", b"none")],
    "FUNCTION LIST": lambda g: (["LIBRARYNAME", g.pick(b"t*", b"one", b"*")] if g.chance(0.4) else []) + g.words(0.3, "WITHCODE"),
    "FUNCTION FLUSH": lambda g: g.words(0.3, "ASYNC", "SYNC"),
    "FUNCTION DUMP": lambda g: [],
    "FUNCTION STATS": lambda g: [],
    "FUNCTION KILL": lambda g: [],
}

SCRIPT_WEIGHTS = {"EVAL": 3, "EVALSHA": 2, "EVAL_RO": 0.7, "EVALSHA_RO": 0.5, "FCALL": 2, "FCALL_RO": 0.5, "SCRIPT LOAD": 1, "SCRIPT EXISTS": 0.4,
                  "SCRIPT FLUSH": 0.1, "SCRIPT KILL": 0.1, "FUNCTION LOAD": 2, "FUNCTION DELETE": 0.2, "FUNCTION LIST": 0.3,
                  "FUNCTION FLUSH": 0.1, "FUNCTION DUMP": 0.1, "FUNCTION STATS": 0.2, "FUNCTION KILL": 0.1}
CALLERS = ("EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO")
SHA_OF = {hashlib.sha1(body).hexdigest().encode(): body for body in BODIES}


def called(args):
    """The commands that such a command's script calls, and whether it replies with an array of all their replies;
    (None, False) when it is another one."""
    try:
        first, rest = words(args[1]), [words(a) for a in args[3 + int(args[2]):]]
    except (IndexError, ValueError):
        return None, False
    body = SHA_OF.get(first.lower(), first)
    if first in FUNCTIONS[:3] or body.endswith(tuple(ONE)):
        return ([rest] if rest else None), False
    if not body.endswith(MANY):
        return None, False
    lines = [[]]
    for arg in rest:
        if arg == SEPARATOR:
            lines.append([])
        else:
            lines[-1].append(arg)
    return [line for line in lines if line], True


def in_resp3(args):
    """Whether its commands' replies have sets and maps."""
    first = words(args[1])
    return first == b"reads" or RESP3 in SHA_OF.get(first.lower(), first)
