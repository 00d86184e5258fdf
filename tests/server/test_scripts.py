# SPDX-License-Identifier: BSD-3-Clause
"""EVAL and its relatives, functions: replies as redis-server gives them, the sandbox, the log, time limits,
memory, files."""
import os
import pathlib
import random
import shutil
import sys
import time

import pytest
import redis

# Replies are read by functions that call themselves; one test nests thousands of arrays.
sys.setrecursionlimit(30000)

from harness import Error, Raw, Server, Simple, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "compare"))
from scripts import COMMANDS, SCRIPTS  # noqa: E402


@pytest.fixture(scope="module")
def pair():
    with Server("holdfast") as holdfast, Server("redis") as reference:
        yield holdfast, reference


@pytest.fixture(scope="module")
def server():
    with Server("holdfast") as holdfast:
        yield holdfast


def both(pair, *command):
    """The replies of both, as they came."""
    return [s.raw()(*command) for s in pair]


def compare(pair, commands, protocol=2):
    raws = [s.raw() for s in pair]
    for raw in raws:
        raw("FLUSHALL")
        raw("FUNCTION", "FLUSH")
        raw("SCRIPT", "FLUSH")
        raw("HELLO", protocol)
    wrong = []
    for command in commands:
        ours, theirs = (raw(*command) for raw in raws)
        if ours != theirs:
            wrong.append((command, ours, theirs))
    assert not wrong, "\n".join(map(repr, wrong))


# Conversions both ways, errors with their places, redis.*, cjson, cmsgpack, struct, bit: a table of scripts.
@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts_as_in_redis(pair, protocol):
    compare(pair, [("EVAL", s.encode("latin-1"), 1, "k", "a1") for s in SCRIPTS], protocol)


# SCRIPT, FUNCTION, FCALL with right and wrong arguments.
@pytest.mark.parametrize("protocol", [2, 3])
def test_commands_as_in_redis(pair, protocol):
    compare(pair, COMMANDS, protocol)


def value(r, depth=0):
    """A random Lua expression."""
    kind = r.randrange(10 if depth < 3 else 7)
    if kind == 0:
        return str(r.choice([0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32, 2**53, -32, -33, -128, -129,
                             -32768, -32769, -2**31, -2**31 - 1]))
    if kind == 1:
        return repr(r.choice([0.5, 1.25, -3.75, 0.1, 1e300, 1e-300, 3.4e38, r.uniform(-1e6, 1e6)]))
    if kind == 2:
        return r.choice(["true", "false"])
    if kind in (3, 4):
        return '"' + "".join("\\%d" % r.randrange(256) for _ in range(r.choice([0, 1, 5, 31, 32, 40]))) + '"'
    if kind == 5:
        return "'%s'" % r.choice(["a", "key", "x y", "0"])
    if kind == 6:
        return "cjson.null" if r.random() < 0.3 else str(r.randrange(1000))
    if kind < 9:
        return "{" + ",".join(value(r, depth + 1) for _ in range(r.randrange(5))) + "}"
    # One field: the order of several is another one elsewhere.
    return "{['%s']=%s}" % (r.choice("abc"), value(r, depth + 1))


# What the libraries encode and decode, of values at random, is what redis-server's do.
def test_libraries_of_random_values(pair):
    seed = int(os.environ.get("HF_SEED", time.time_ns() % 10**9))
    print("HF_SEED", seed)
    r = random.Random(seed)
    scripts = []
    for _ in range(150):
        v = value(r)
        scripts += [f"return cjson.encode({v})", f"return cmsgpack.pack({v})",
                    f"return cjson.encode(cjson.decode(cjson.encode({{{v}}})))",
                    f"return cmsgpack.pack(cmsgpack.unpack(cmsgpack.pack({v})))", f"return {v}",
                    f"return cmsgpack.unpack('{''.join(chr(92) + str(r.randrange(256)) for _ in range(r.randrange(12)))}')",
                    "return bit.%s(%d,%d)" % (r.choice(["band", "bor", "bxor", "lshift", "rshift", "arshift", "rol",
                                                         "ror", "tohex"]), r.randrange(-2**40, 2**40), r.randrange(-40, 40))]
        form = "".join(r.choice(["b", "B", "h", "H", "l", "L", "i", "I", "i3", "I2", "f", "d", ">", "<", "!4", "!", "x",
                                 "=" if False else " "]) for _ in range(r.randrange(1, 7)))
        numbers = ",".join(str(r.randrange(-100, 100)) for _ in range(8))
        scripts += [f"return struct.pack('{form}',{numbers})", f"return struct.size('{form}')",
                    f"return {{struct.unpack('{form}',string.rep('\\1\\200\\255',30))}}"]
    compare(pair, [("EVAL", s, 0) for s in scripts])


def quoted(text):
    return '"' + "".join("\\%d" % b for b in text.encode("latin-1")) + '"'


def pattern(r):
    """A random pattern of Lua, mostly one that is well formed; short, so that the reference is done with it, too."""
    single = ["a", "b", "c", ".", "%a", "%A", "%d", "%s", "%w", "%W", "%x", "%p", "%c", "%z", "%u", "%l", "%%", "%.", "[ab]", "[^a]", "[a-c]",
              "[%d%s]", "[]]", "[^]a]", "[a-]", "[%a-z]", "[^%w_]", "\xff", "[\x80-\xff]", "$", "^", "-"]
    items = [r.choice(single) + r.choice(["", "", "", "*", "+", "-", "?"]) for _ in range(r.randrange(5))]
    for _ in range(r.randrange(3)):
        at = r.randrange(len(items) + 1)
        items[at:at] = r.choice([["()"], ["("], [")"], ["(", r.choice(single), ")"], ["(", r.choice(single) + "*", ")"], ["%1"], ["%2"],
                                 ["%bab"], ["%b()"], ["%f[a]"], ["%f[%W]"], ["%f"], ["%b"], ["["], ["%"], ["\0"]])
    return r.choice(["", "", "", "^"]) + "".join(items) + r.choice(["", "", "", "$"])


# find, match, gmatch and gsub with patterns at random, right ones and wrong ones, as the library of redis-server has them.
def test_random_patterns(pair):
    seed = int(os.environ.get("HF_SEED", time.time_ns() % 10**9))
    print("HF_SEED", seed)
    r = random.Random(seed)
    scripts = []
    for _ in range(400):
        p = quoted(pattern(r))
        s = quoted("".join(r.choice("aaabbbc 1_.()A\0\xff") for _ in range(r.randrange(12))))
        start = r.choice(["", "", f",{r.randrange(-14, 15)}"])
        text = quoted("".join(r.choice(["x", "%0", "%1", "%2", "%%", "%a", "%"]) for _ in range(r.randrange(4))))
        by = r.choice([text, "{a='A',b=false,ab=1,['']=2,c={}}", "function(...) return select('#',...)..tostring((...)) end",
                       "function(x) if x=='a' then return false end return x end", "7", "nil", "function() return {} end"])
        scripts += [f"return {{string.find({s},{p}{start})}}", f"return {{string.match({s},{p}{start})}}",
                    f"return {{string.find({s},{p},{r.randrange(-3, 9)},{r.choice(['true', 'false'])})}}",
                    f"return {{string.gsub({s},{p},{by}{r.choice(['', '', ',1', ',0', ',3'])})}}",
                    f"local t={{}} for a,b in string.gmatch({s},{p}) do t[#t+1]=tostring(a)..tostring(b) if #t>20 then break end end return t"]
    scripts += ["return string.find({},'a')", "return string.find('a')", "return string.match('a',nil)", "return string.gsub('a','a')",
                "return string.gsub('a','a','b','x')", "return ('a'):find('a','x')", "return string.gmatch('a')", "return {string.find(123,2)}",
                "return {string.gfind('ab','.')()}", "return {string.gsub('abc','',\"-\")}", "return string.find('a',('('):rep(33))",
                "return #{string.find(('a'):rep(32),('(a)'):rep(32))}", "return string.gsub('x','x',('%1'):rep(3))",
                "local t={} for i=1,2000 do t[i]=(i*7919)%2003 end table.sort(t) return t",
                "local t={} for i=1,2000 do t[i]=i%2==0 and i or tostring(i) end table.sort(t) return t",
                "local t={} for i=1,2000 do t[i]={} end table.sort(t) return t"]
    compare(pair, [("EVAL", s.encode("latin-1"), 0) for s in scripts])


ESCAPES = [
    # What is not there.
    *[f"return {name}" for name in ("io", "debug", "package", "require", "module", "dofile", "loadfile", "print",
                                    "getfenv", "setfenv", "newproxy", "_LOADED", "arg", "os.execute('true')",
                                    "os.getenv('HOME')", "os.exit(1)", "string.dump(function() end)")],
    # Shared tables.
    "x=1", "_G.x=1", "rawset(_G,'x',1)", "_G._G=nil", "rawset(_G,'_G',{})", "setmetatable(_G,{})",
    "setmetatable(_G,nil)", "getmetatable(_G).__index=nil", "getmetatable(_G).__newindex=nil",
    "rawset(getmetatable(_G),'__index',1)", "redis.call=nil", "redis.x=1", "rawset(redis,'call',nil)",
    "server.call=nil", "string.format=nil", "rawset(string,'format',nil)", "table.insert(_G,1)",
    "table.insert(redis,1,1)", "table.remove(_G)", "table.sort(_G)", "getmetatable('').__index=nil",
    "rawset(getmetatable(''),'__index',nil)", "getmetatable('').__index.x=1", "setmetatable(string,{})",
    "math.pi=3", "cjson.encode=nil", "cmsgpack.pack=nil", "struct.pack=nil", "bit.band=nil", "os.clock=nil",
    "coroutine.wrap=nil", "for k,v in pairs(_G) do _G[k]=nil end", "for k,v in next,redis do redis[k]=1 end",
    "KEYS=nil", "ARGV=1", "setmetatable(getmetatable(_G),{})", "pairs(_G)(_G).x=1",
    "local f,t=pairs(_G) t.x=1", "local f,t=pairs(redis) rawset(t,'call',1)", "_G['_G']['x']=1",
    "getmetatable(getmetatable(_G)).x=1", "coroutine.wrap(function() _G.x=1 end)()",
    "loadstring('x=1')()", "load((function() local n=0 return function() n=n+1 if n==1 then return 'x=1' end end end)())()",
    "xpcall(function() _G.x=1 end,error)() ", "string.gsub('a','a',function() _G.x=1 end)",
    "table.foreach({1},function(k) redis[k]=1 end)",
    # Byte code.
    "return loadstring('\\27Lua')()", "return loadstring('\\27LuaQ\\0\\1\\4\\8\\4\\8\\0')()",
    "return load(function() return '\\27Lua' end)()",
    # Arguments that cost too much.
    "return unpack({},1,1e9)", "return unpack({},-2^31,2^31-1)", "return unpack({},-1,2^31-1)", "return unpack({},1,0/0)",
    "return unpack({},-2147483648,2147483640)", "return ('a'):rep(1e10)", "return ('a?'):rep(1e6):find(('a?'):rep(1e6))",
    "return ('a'):rep(1e5):match(('a?'):rep(1e5))", "return ('('):rep(1e5):gsub(('('):rep(1e5),'')",
    "local f f=function() return f()+1 end return f()", "local f f=function() return coroutine.wrap(f)() end return f()",
    "local t={} t[1]=t return {t}", "local t={} t.t=t return cjson.encode(t)", "return table.insert({},-2^31,1)",
    "local s=('return '..('('):rep(5000)..'1'..(')'):rep(5000)) return loadstring(s)()",
    "return loadstring('return '..('{'):rep(10000))()", "return loadstring(('a='):rep(100000))()",
    "return cjson.decode(('['):rep(100000))", "cjson.decode_max_depth(2^31-1) return cjson.decode(('['):rep(100000))",
    "cjson.encode_max_depth(2^31-1) local t={} for i=1,1e5 do t={t} end return cjson.encode(t)",
    "return cmsgpack.unpack(('\\145'):rep(1e5))", "return cmsgpack.unpack('\\221\\255\\255\\255\\255')",
    "return cmsgpack.unpack('\\219\\255\\255\\255\\255')", "return cmsgpack.unpack_limit('a',-1,-1)",
    "return cmsgpack.unpack_one('abc',-5)", "return struct.pack('c99999999999','x')",
    "return struct.unpack('c0',1)", "return struct.unpack('Bc0','\\255a')", "return struct.unpack('i','abcd',2^53)",
    "return struct.pack('!2147483648i',1)", "return struct.unpack('d','abc',-2^63)",
    "return string.format('%99999d',1)", "return string.format('%*d',1)", "return tostring(setmetatable({},{__tostring=error}))",
    "error(redis)", "error(_G)", "error(setmetatable({},{__index=error}))", "error({err={}})", "error({})", "error()",
    "return setmetatable({},{__gc=error}), redis.call()", "return collectgarbage('x')",
    "redis.register_function('f',function() end) error('there')", "return redis.call(setmetatable({},{__tostring=function() return 'get' end}))",
    "return redis.call('eval','return 1',0)", "return redis.call('script','flush')", "return redis.call('function','flush')",
    "return redis.call('shutdown')", "return redis.call('config','set','dir','/')", "return redis.call('debug','sleep',0)",
    "local t=setmetatable({},{__newindex=_G}) t.x=1", "local t=setmetatable({},{__newindex=redis}) t.call=1",
    "table.sort({3,2,1,4,5,6,7,8,9},function() return true end) error('sorted')",
    "local c=coroutine.create(function() error('in') end) coroutine.resume(c) return coroutine.resume(c,1), _G.nothing",
]


# Attempts to get out of the sandbox, to change what others share, or to bring the server down: each is an
# error, and afterwards everything that is shared is as it was.
def test_escapes_are_refused(server):
    raw = server.raw()
    state = ("local r={} for _,t in ipairs({_G,redis,string,table,math,cjson,cmsgpack,struct,bit,os,coroutine}) do "
             "for k,v in pairs(t) do if k~='KEYS' and k~='ARGV' then r[#r+1]=k..type(v) end end end "
             "table.sort(r) return r")
    before = raw("EVAL", state, 0)
    assert len(before) > 120
    allowed = []
    for script in ESCAPES:
        reply = raw("EVAL", script, 0)
        flat = repr(reply)
        if "Error(" not in flat:
            allowed.append((script, reply))
        assert raw("EVAL", state, 0) == before, script
    assert not allowed, "\n".join(map(repr, allowed))
    assert raw("EVAL", "return redis.call('set','x',('a'):rep(3))", 0) == "OK"
    assert raw("EVAL", "cjson.encode_max_depth(1000) cjson.decode_max_depth(1000) return 1", 0) == 1


# As test_escapes_are_refused, from the code of a library and from a function.
def test_escapes_in_functions(server):
    raw = server.raw()
    for script in ESCAPES:
        library = "#!lua name=l\nredis.register_function('f',function() %s end)" % script
        loaded = raw("FUNCTION", "LOAD", "REPLACE", library)
        if not isinstance(loaded, Error):
            assert "Error(" in repr(raw("FCALL", "f", 0)), script
        assert isinstance(raw("FUNCTION", "LOAD", "REPLACE", "#!lua name=l\n%s" % script), Error), script
    raw("FUNCTION", "FLUSH")


# A script cannot take more memory than script-memory-limit: it gets an error, and the memory comes back.
def test_memory_is_bounded(server):
    raw = server.raw()
    raw("CONFIG", "SET", "script-memory-limit", "32mb")
    for script in ("local t={} for i=1,1e9 do t[i]={i} end", "return ('x'):rep(2^29)",
                   "local s='x' while true do s=s..s end", "return cjson.encode(('\\1'):rep(8*1024*1024))",
                   "local t={} for i=1,1e9 do t[i]=coroutine.create(function() end) end"):
        reply = raw("EVAL", script, 0)
        assert isinstance(reply, Error) and "not enough memory" in reply, (script, reply)
        reply = raw("EVAL", f"return pcall(function() {script} end)", 0)
        assert reply is None or isinstance(reply, Error), (script, reply)
    assert raw("EVAL", "return #('x'):rep(1000)", 0) == 1000
    raw("EVAL", "collectgarbage() return 1", 0)
    memory = server.client().info("memory")
    assert memory["used_memory_lua"] < 4 << 20
    raw("CONFIG", "SET", "script-memory-limit", "1gb")


# INFO and MEMORY STATS count scripts and functions.
def test_accounting(server):
    client = server.client()
    client.script_flush()
    client.execute_command("FUNCTION", "FLUSH")
    before = client.info("memory")
    for i in range(100):
        client.script_load(f"return {i} -- " + "x" * 100)
    client.function_load("#!lua name=l\nredis.register_function('f',function() return 1 end)")
    after = client.info("memory")
    assert (before["number_of_cached_scripts"], after["number_of_cached_scripts"]) == (0, 100)
    assert after["number_of_functions"] == after["number_of_libraries"] == 1
    assert after["used_memory_scripts_eval"] - before["used_memory_scripts_eval"] > 100 * 100
    assert after["used_memory_vm_eval"] > before["used_memory_vm_eval"]
    assert after["used_memory_functions"] > 0
    assert client.memory_stats()["lua.caches"] > 100 * 100
    client.script_flush()
    client.execute_command("FUNCTION", "FLUSH")
    assert client.info("memory")["number_of_cached_scripts"] == 0


ENDLESS = ["while true do end", "while true do pcall(function() while true do end end) end",
           "while true do xpcall(function() while true do end end,function() while true do end end) end",
           "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
           "coroutine.wrap(function() while true do pcall(coroutine.wrap(function() while true do end end)) end end)()",
           "table.sort({1,2,3},function() while true do end end)", "('x'):gsub('x',function() while true do end end)",
           "while true do redis.call('get','k') end", "while true do pcall(redis.call,'get') end",
           # What the library would do in one call.
           "('a'):rep(200):find(('a*'):rep(20)..'b')", "pcall(string.match,('a'):rep(200),('.-'):rep(30)..'b')",
           "while true do pcall(string.gsub,('a'):rep(200),('a?a+'):rep(20)..'b','') end",
           "for x in ('a'):rep(100):gmatch(('(a*)'):rep(20)..'b') do end",
           "local a,b,t=('x'):rep(2^20)..'a',('x'):rep(2^20)..'b',{} for i=1,2^17 do t[i]=i%2==0 and a or b end table.sort(t)"]


def wait_for_busy(raw):
    """Until the server says that a script runs for too long."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        reply = raw("GET", "k")
        if isinstance(reply, Error) and reply.startswith("BUSY"):
            return reply
        time.sleep(0.01)
    raise AssertionError("the script is not seen")


# A script that runs for too long: others are answered -BUSY, and SCRIPT KILL ends it, whatever it catches.
@pytest.mark.parametrize("script", ENDLESS)
def test_script_kill(server, script):
    raw, other = server.raw(), server.raw()
    raw("CONFIG", "SET", "lua-time-limit", 50)
    assert other("SCRIPT", "KILL") == "NOTBUSY No scripts in execution right now."
    # What stands behind it in the same input comes afterwards.
    raw.send(Raw.encode(["EVAL", script, 0]) + Raw.encode(["SET", "behind", 1]))
    assert wait_for_busy(other) == ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN "
                                    "NOSAVE.")
    third = server.raw()
    assert third("PING").startswith("BUSY") and third("FUNCTION", "KILL").startswith("BUSY")
    assert third("HELLO", 2)[0] == b"server" and third("SHUTDOWN").startswith("BUSY")
    assert other("SCRIPT", "KILL") == "OK"
    reply = raw.read()
    assert isinstance(reply, Error) and "Script killed by user with SCRIPT KILL" in reply
    assert raw.read() == "OK" and other("GET", "behind") == b"1" and third("PING") == "PONG"


# FUNCTION KILL and FUNCTION STATS, the same for functions.
def test_function_kill(server):
    raw, other = server.raw(), server.raw()
    raw("CONFIG", "SET", "busy-reply-threshold", 50)
    raw("FUNCTION", "LOAD", "REPLACE", "#!lua name=l\nredis.register_function('endless',function() while true do end end)")
    raw.send(Raw.encode(["FCALL", "endless", 1, "a", "b"]))
    assert "FUNCTION KILL" in wait_for_busy(other)
    stats = other("FUNCTION", "STATS")
    assert stats[1][:4] == [b"name", b"endless", b"command", [b"FCALL", b"endless", b"1", b"a", b"b"]]
    assert other("SCRIPT", "KILL").startswith("BUSY") and other("FUNCTION", "KILL") == "OK"
    assert "Script killed by user with FUNCTION KILL" in raw.read()
    raw("FUNCTION", "FLUSH")


# A library whose code does not end is given up.
def test_library_that_does_not_end(server):
    raw = server.raw()
    reply = raw("FUNCTION", "LOAD", "#!lua name=l\nwhile true do end")
    assert isinstance(reply, Error) and "FUNCTION LOAD timeout" in reply
    assert raw("FUNCTION", "LIST") == []


# One that has written cannot be killed; SHUTDOWN NOSAVE ends the server.
def test_unkillable():
    with Server("holdfast", {"lua-time-limit": 50}) as server:
        raw, other = server.raw(), server.raw()
        raw.send(Raw.encode(["EVAL", "redis.call('set','w','1') while true do end", 0]))
        wait_for_busy(other)
        assert other("SCRIPT", "KILL").startswith("UNKILLABLE Sorry the script already executed write commands")
        other.send(Raw.encode(["SHUTDOWN", "NOSAVE"]))
        assert server.process.wait(60) == 0


# Clients whose commands were in the same batch, that come and go, and that pipeline, while a script is busy.
def test_others_while_busy(server):
    admin = server.raw()
    admin("CONFIG", "SET", "lua-time-limit", 50)
    raws = [server.raw() for _ in range(20)]
    raws[0].send(Raw.encode(["EVAL", "while true do end", 0]))
    for raw in raws[1:]:
        raw.send(b"".join(Raw.encode(["INCR", "n"]) for _ in range(50)))
    wait_for_busy(admin)
    for raw in raws[1:5]:
        raw.close()
    for _ in range(20):
        fresh = server.raw()
        fresh.send(Raw.encode(["SET", "big", "x" * 300000]))
        assert fresh.read().startswith("BUSY")
        fresh.close()
    counts = {raw: [raw.read() for _ in range(50)] for raw in raws[5:]}
    assert admin("SCRIPT", "KILL") == "OK"
    assert "killed" in raws[0].read()
    for replies in counts.values():
        assert all(isinstance(r, int) or r.startswith("BUSY") for r in replies)
    for raw in raws[5:]:
        assert isinstance(raw("INCR", "n"), int)


LOGGED = {"appendonly": "yes", "appendfsync": "always", "auto-aof-rewrite-percentage": "0"}


def log_of(server):
    """The log's commands and annotations, without the room that was filled ahead."""
    folder = server.directory / "appendonlydir"
    return b"".join(p.read_bytes().rstrip(b"#\n") for p in sorted(folder.glob("*.incr.aof")))


def digest(raw):
    return raw("DEBUG", "DIGEST")


WRITERS = [
    "redis.call('set',KEYS[1],ARGV[1]) redis.call('incr','n') return redis.call('get',KEYS[1])",
    "redis.call('rpush','l',1,2,3) error('after a write')",
    "redis.pcall('incr',KEYS[1]) redis.call('set','t',redis.call('time')[1]) return 1",
    "redis.call('select',3) redis.call('sadd','s',unpack(ARGV)) return redis.call('spop','s')",
    "redis.call('set','e',1,'px',100000) redis.call('expire','l',1000) return redis.call('lpop','l')",
    "redis.call('zadd','z',math.random(100),ARGV[1]) redis.call('nosuch')",
    "for i=1,50 do redis.call('hset','h',i,i*2) end redis.call('hincrbyfloat','h','f',0.1) return 1",
    "return redis.call('get',KEYS[1])", "return redis.call('blpop','none',0)",
    "redis.set_repl(redis.REPL_NONE) redis.call('incr','quiet')",
]


# What scripts did is in the log as their effects, one group each, whether they failed or not: after a crash
# it is all there, and redis-server replays the same.
def test_effects_are_logged(tmp_path):
    r = random.Random(int(os.environ.get("HF_SEED", 1)))
    with Server("holdfast", LOGGED, directory=tmp_path / "h") if (tmp_path / "h").mkdir() is None else None as server:
        raw = server.raw()
        for _ in range(40):
            raw("EVAL", r.choice(WRITERS), 1, f"k{r.randrange(5)}", str(r.randrange(20)))
        raw("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f',function(k,a) return redis.call('incrby',"
            "k[1],a[1]) end)")
        assert raw("FCALL", "f", 1, "counter", 5) == 5
        # Other subcommands of the same container behind each other.
        assert raw("FUNCTION", "LOAD", library("gone")) == b"gone" and raw("FUNCTION", "DELETE", "gone") == "OK"
        raw("MULTI")
        raw("EVAL", WRITERS[0], 1, "in", "multi")
        raw("FCALL", "f", 1, "counter", 5)
        assert raw("EXEC") == [b"multi", 10]
        text = log_of(server)
        assert b"eval" not in text.lower() and b"fcall" not in text.lower()
        held = digest(raw)
        server.kill()
        shutil.copytree(tmp_path / "h", tmp_path / "r")
        server.start()
        raw = server.raw()
        assert digest(raw) == held
        assert raw("FCALL", "f", 1, "counter", 1) == 11
        raw("DECR", "counter")
        with Server("redis", LOGGED, directory=tmp_path / "r") as reference:
            assert digest(reference.raw()) == held
            assert reference.raw()("FCALL", "f", 1, "counter", 1) == 11


# A script that writes nothing leaves nothing in the log; one that writes twice leaves one group.
def test_groups(tmp_path):
    with Server("holdfast", LOGGED, directory=tmp_path) as server:
        raw = server.raw()
        raw("SET", "a", 1)
        before = log_of(server)
        raw("EVAL", "return redis.call('get','a')", 0)
        raw("EVAL", "return redis.call('del','nokey')", 0)
        raw("EVAL", "redis.pcall('lpush','a',1) error('x')", 0)
        assert log_of(server) == before
        raw("EVAL", "redis.call('incr','a') redis.call('incr','b') error('x')", 0)
        added = log_of(server)[len(before):]
        assert added.count(b"MULTI") == added.count(b"EXEC") == 1 and added.count(b"incr") == 2
        assert raw("MGET", "a", "b") == [b"2", b"1"]


LIBRARY = ("#!lua name=%s\nlocal n=0\nredis.register_function('%s_get',function(k,a) n=n+1 return {k,a,n} end)\n"
           "redis.register_function{function_name='%s_ro',callback=function() return 'ro' end,flags={'no-writes'},"
           "description='reads'}\n")


def library(name):
    return LIBRARY % (name, name, name)


def listed(raw):
    found = {}
    for item in raw("FUNCTION", "LIST", "WITHCODE"):
        fields = dict(zip(item[::2], item[1::2]))
        fields[b"functions"] = sorted(map(repr, fields[b"functions"]))
        found[fields[b"library_name"]] = fields
    return found


# Libraries are in RDB files: redis-server's are loaded here, ours there, also by threads and as incremental
# snapshots; DEBUG RELOAD keeps them.
@pytest.mark.parametrize("threads", ["1", "2"])
def test_functions_in_files(tmp_path, threads):
    names = ["one", "two", "three"]
    with Server("redis", directory=tmp_path) as reference:
        raw = reference.raw()
        for name in names:
            raw("FUNCTION", "LOAD", library(name))
        raw("SET", "k", "v")
        held = listed(raw)
        raw("SAVE")
    with Server("holdfast", {"load-threads": threads}, directory=tmp_path) as server:
        raw = server.raw()
        assert listed(raw) == held and raw("GET", "k") == b"v"
        assert raw("FCALL", "two_get", 1, "a", "b") == [[b"a"], [b"b"], 1]
        assert raw("DEBUG", "RELOAD") == "OK" and listed(raw) == held
        raw("FUNCTION", "DELETE", "one")
        raw("FUNCTION", "LOAD", library("four"))
        held = listed(raw)
        assert raw("SAVE") == "OK" and raw("DEBUG", "RELOAD") == "OK" and listed(raw) == held
    with Server("redis", directory=tmp_path) as reference:
        raw = reference.raw()
        assert listed(raw) == held and raw("FCALL", "four_ro", 0) == b"ro"


# FUNCTION DUMP of either is restored by the other, by every policy; what does not fit changes nothing.
def test_function_payloads(pair):
    raws = [s.raw() for s in pair]
    for source, target in (raws, raws[::-1]):
        for raw in raws:
            raw("FUNCTION", "FLUSH")
        source("FUNCTION", "LOAD", library("one"))
        source("FUNCTION", "LOAD", library("two"))
        payload = source("FUNCTION", "DUMP")
        assert target("FUNCTION", "RESTORE", payload) == "OK" and listed(target) == listed(source)
        assert target("FUNCTION", "RESTORE", payload) in ("ERR Library one already exists", "ERR Library two already exists")
        assert target("FUNCTION", "RESTORE", payload, "REPLACE") == "OK" and listed(target) == listed(source)
        target("FUNCTION", "LOAD", library("three"))
        assert target("FUNCTION", "RESTORE", payload, "FLUSH") == "OK" and listed(target) == listed(source)
        # A function of another library has the name.
        target("FUNCTION", "FLUSH")
        other = library("three").replace("three_get", "two_get")
        assert target("FUNCTION", "LOAD", other) == b"three"
        before = listed(target)
        assert target("FUNCTION", "RESTORE", payload) == "ERR Function two_get already exists"
        for at in range(0, len(payload), 7):
            damaged = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1:]
            assert isinstance(target("FUNCTION", "RESTORE", damaged), Error)
        assert listed(target) == before
        assert target("FCALL", "three_ro", 0) == b"ro"


# Incremental snapshots have the libraries as they were, and so has the log's new base.
def test_functions_in_chain_and_base(tmp_path):
    options = {"snapshot-chain-max": "5", "appendfsync": "always"}
    with Server("holdfast", options, directory=tmp_path) as server:
        raw = server.raw()
        raw("FUNCTION", "LOAD", library("one"))
        raw("SET", "a", 1)
        # The first is a full one; the manifest is ready a little later.
        assert raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL") == "Background full snapshot started"
        raw("FUNCTION", "LOAD", library("two"))
        raw("FUNCTION", "DELETE", "one")
        raw("SET", "b", 1)
        wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL") == "Background incremental snapshot started")
        wait_for(lambda: not server.client().info("persistence")["chain_incremental_in_progress"])
        assert server.client().info("persistence")["chain_incrementals_taken"] == 1
        held = listed(raw)
        server.kill()
        server.start()
        raw = server.raw()
        assert listed(raw) == held and raw("MGET", "a", "b") == [b"1", b"1"]
        assert raw("FCALL", "two_ro", 0) == b"ro"
        assert raw("CONFIG", "SET", "appendonly", "yes") == "OK"
        wait_for(lambda: server.client().info("persistence")["log_state"] == "on")
        raw("FUNCTION", "LOAD", library("three"))
        held = listed(raw)
        server.kill()
        server.options["appendonly"] = "yes"
        server.start()
        assert listed(server.raw()) == held


# maxmemory: a plain script's writing commands are refused one by one, one with flags as a whole.
def test_out_of_memory(server):
    raw = server.raw()
    raw("CONFIG", "SET", "maxmemory", "1")
    try:
        assert raw("EVAL", "return redis.call('get','x')", 0) is not Error
        assert raw("EVAL", "return redis.call('set','x',1)", 0).startswith("OOM command not allowed when used memory")
        assert raw("EVAL", "#!lua\nreturn 1", 0).startswith("OOM allow-oom flag is not set on the script")
        assert raw("EVAL", "#!lua flags=no-writes\nreturn 1", 0) == 1
        assert raw("EVAL", "#!lua flags=allow-oom\nreturn redis.call('set','x',1)", 0) == "OK"
        assert raw("EVAL", "redis.call('del','x') return redis.call('set','x',1)", 0) == "OK"
    finally:
        raw("CONFIG", "SET", "maxmemory", "0")


# A user's rules hold for what scripts call.
def test_acl(pair):
    for s in pair:
        raw = s.raw()
        raw("ACL", "SETUSER", "limited", "on", "nopass", "+@all", "-get", "~a*", "resetchannels")
        raw("SET", "a", 1)
    scripts = ["return redis.call('get','a')", "return redis.call('set','b',1)", "return redis.call('set','a1',1)",
               "return redis.call('publish','c',1)", "return redis.acl_check_cmd('get','a')",
               "return redis.acl_check_cmd('set','a','1')", "return redis.acl_check_cmd('set','b','1')"]
    raws = [s.raw() for s in pair]
    for raw in raws:
        assert raw("AUTH", "limited", "x") == "OK"
    for script in scripts:
        ours, theirs = (raw("EVAL", script, 0) for raw in raws)
        assert ours == theirs, script


# A client library's own way: EVALSHA, and EVAL when the script is not known.
def test_register_script(server):
    client = server.client()
    client.script_flush()
    multiply = client.register_script("return redis.call('get',KEYS[1])*ARGV[1]")
    client.set("number", 6)
    assert multiply(keys=["number"], args=[7]) == 42
    assert client.script_exists(multiply.sha) == [True]
    client.script_flush()
    assert multiply(keys=["number"], args=[2]) == 12
    with client.pipeline() as pipe:
        multiply(keys=["number"], args=[3], client=pipe)
        assert pipe.execute() == [18]
    with pytest.raises(redis.exceptions.ResponseError):
        client.eval("return redis.call('incr')", 0)
    assert isinstance(server.raw()("EVAL", "return {ok='fine'}", 0), Simple)


# A replica gets the libraries with the data and by the stream, runs what reads, and refuses scripts that write.
def test_replica(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "r").mkdir()
    with Server("holdfast", directory=tmp_path / "p") as primary, Server("holdfast", directory=tmp_path / "r") as replica:
        raw, other = primary.raw(), replica.raw()
        raw("FUNCTION", "LOAD", library("one"))
        raw("SET", "a", 1)
        assert other("REPLICAOF", "127.0.0.1", primary.port) == "OK"
        wait_for(lambda: other("GET", "a") == b"1")
        assert listed(other) == listed(raw)
        raw("FUNCTION", "LOAD", library("two"))
        raw("EVAL", "redis.call('incr','a') redis.call('sadd','s',1,2,3) redis.call('spop','s')", 0)
        wait_for(lambda: other("GET", "a") == b"2")
        assert listed(other) == listed(raw)
        wait_for(lambda: other("DEBUG", "DIGEST") == raw("DEBUG", "DIGEST"))
        assert other("FCALL_RO", "two_ro", 0) == b"ro" and other("EVAL", "return redis.call('get','a')", 0) == b"2"
        assert other("EVAL", "return redis.call('set','a',1)", 0).startswith("READONLY You can't write against")
        assert other("EVAL", "#!lua\nreturn 1", 0).startswith("READONLY Can not run script with write flag")


# SCRIPT SHOW (Valkey 8): the code of a cached script by its SHA1.
def test_script_show():
    with Server("holdfast") as server:
        r = server.raw()
        code = b"return 42"
        sha = r("SCRIPT", "LOAD", code)
        assert r("SCRIPT", "SHOW", sha) == code
        assert r("SCRIPT", "SHOW", "0" * 40).startswith("NOSCRIPT")
        r.close()


# A library that does not compile is not left out: the server does not start, and says why; the files stay as they are.
@pytest.mark.parametrize("kind", ["redis", "holdfast"])
def test_start_with_a_broken_library(tmp_path, kind):
    with Server(kind, {"rdbcompression": "no", "rdbchecksum": "no"}, directory=tmp_path) as server:
        raw = server.raw()
        raw("FUNCTION", "LOAD", "#!lua name=one\nredis.register_function('f', function(k, a) return k end)")
        assert raw("SAVE") == "OK"
    path = tmp_path / "dump.rdb"
    broken = path.read_bytes().replace(b"return k end", b"return k fnd")
    path.write_bytes(broken)
    with pytest.raises(RuntimeError, match="'end' expected near 'fnd'"):
        Server("holdfast", {"rdbchecksum": "no"}, directory=tmp_path)
    assert path.read_bytes() == broken
    # DEBUG RELOAD refuses it, too; what is in order serves again.
    whole = broken.replace(b"return k fnd", b"return k end")
    path.write_bytes(whole)
    with Server("holdfast", {"rdbchecksum": "no", "enable-debug-command": "yes"}, directory=tmp_path) as server:
        raw = server.raw()
        assert raw("FCALL", "f", 1, "key") == [b"key"]
        path.write_bytes(broken)
        assert raw("DEBUG", "RELOAD", "NOSAVE") == "ERR Error trying to load the RDB dump, check server logs."
        path.write_bytes(whole)
        assert raw("DEBUG", "RELOAD", "NOSAVE") == "OK" and raw("FCALL", "f", 1, "key") == [b"key"]
