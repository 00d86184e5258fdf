# SPDX-License-Identifier: BSD-3-Clause
"""Debian's redis-cli and redis-benchmark at work on the server."""
import re
import subprocess

import data
from harness import Raw, Server


def cli(server, *args, stdin=None, check=True):
    run = subprocess.run(["redis-cli", "-s", server.socket_path, *args], input=stdin, capture_output=True, timeout=120)
    if check:
        assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.decode("utf-8", "replace")


# One command a call, with redis-cli's own way to show each kind of reply.
def test_single_commands(server):
    assert cli(server, "--no-raw", "set", "k", "v w") == "OK\n"
    assert cli(server, "--no-raw", "get", "k") == '"v w"\n'
    assert cli(server, "--no-raw", "get", "none") == "(nil)\n"
    assert cli(server, "--no-raw", "incr", "n") == "(integer) 1\n"
    assert cli(server, "--no-raw", "rpush", "l", "a", "b") == "(integer) 2\n"
    assert cli(server, "--no-raw", "lrange", "l", "0", "-1") == '1) "a"\n2) "b"\n'
    assert cli(server, "--no-raw", "incr", "l").startswith("(error) WRONGTYPE")
    assert cli(server, "--no-raw", "-3", "hset", "h", "f", "1", "g", "2") == "(integer) 2\n"
    assert cli(server, "--no-raw", "-3", "hgetall", "h") == '1# "f" => "1"\n2# "g" => "2"\n'
    assert cli(server, "--no-raw", "-3", "zadd", "z", "1.5", "m") == "(integer) 1\n"
    assert cli(server, "--no-raw", "-3", "zscore", "z", "m") == "(double) 1.5\n"
    assert cli(server, "--csv", "lrange", "l", "0", "-1") == '"a","b"\n'
    assert cli(server, "--json", "lrange", "l", "0", "-1") == '["a","b"]\n'
    assert cli(server, "-n", "3", "dbsize") == "0\n"
    assert cli(server, "-x", "set", "stdin", stdin=b"from\0stdin") == "OK\n"
    assert Raw(server.socket_path)("GET", "stdin") == b"from\0stdin"
    assert cli(server, "-r", "5", "incr", "n") == "2\n3\n4\n5\n6\n"


# Over TCP, by address and port, with the URI form and a database.
def test_tcp(server):
    run = subprocess.run(["redis-cli", "-u", f"redis://127.0.0.1:{server.port}/2", "set", "k", "v"],
                         capture_output=True, text=True, timeout=20)
    assert run.stdout == "OK\n"
    assert server.client(db=2).get("k") == b"v"


# A session from standard input, with a transaction, a SELECT and an error in it.
def test_session(server):
    session = b"""set a 1
incr a
multi
incr a
get a
exec
select 4
set here "in \\"four\\"\\x21"
keys *
nosuch command
select 0
exists a here
type a
object encoding a
debug digest
info server
"""
    out = cli(server, stdin=session)
    assert out.startswith('OK\n2\nOK\nQUEUED\nQUEUED\n3\n3\nOK\nOK\nhere\nERR unknown command'), out
    assert "redis_version:" in out and "string\nint\n" in out
    assert server.client(db=4).get("here") == b'in "four"!'


# --pipe loads commands in bulk, as protocol and as lines, and counts the replies.
def test_pipe(server):
    commands = b"".join(Raw.encode(["SET", f"key:{i}", "x" * (i % 300)]) for i in range(20000))
    out = cli(server, "--pipe", stdin=commands)
    assert "errors: 0, replies: 20000" in out
    out = cli(server, "--pipe", stdin=b"".join(b"SADD set %d\r\n" % i for i in range(5000)) + b"INCR set\r\n", check=False)
    assert "errors: 1, replies: 5001" in out
    assert server.client().scard("set") == 5000
    assert server.client().dbsize() == 20001


# --scan with a pattern, and the searches for large and for big keys, see every key.
def test_scan_and_searches(server):
    client = server.client()
    with client.pipeline(transaction=False) as pipe:
        for i in range(3000):
            pipe.set(f"user:{i}", i)
        pipe.rpush("the:list", *range(500))
        pipe.hset("the:hash", mapping={f"f{i}": i for i in range(400)})
        pipe.sadd("the:set", *range(300))
        pipe.zadd("the:zset", {f"m{i}": i for i in range(200)})
        pipe.set("the:string", "x" * 5000)
        pipe.execute()
    assert sorted(cli(server, "--scan").split()) == sorted(k.decode() for k in client.keys())
    assert len(cli(server, "--scan", "--pattern", "user:1*").split()) == 1111
    out = cli(server, "--bigkeys")
    for kind, name, size in (("string", "the:string", "5000 bytes"), ("list", "the:list", "500 items"),
                             ("hash", "the:hash", "400 fields"), ("set", "the:set", "300 members"),
                             ("zset", "the:zset", "200 members")):
        assert re.search(rf'Biggest\s+{kind} found "{name}" has {size}', out.replace("'", "")), out
    assert "Sampled 3005 keys" in out
    out = cli(server, "--memkeys")
    assert "Sampled 3005 keys" in out and re.search(r'Biggest string found "the:string" has [5-9]\d\d\d bytes', out.replace("'", "")), out


# What redis-cli asks for by itself: statistics, latency, an INFO field.
def test_stat(server):
    run = subprocess.Popen(["stdbuf", "-oL", "redis-cli", "-s", server.socket_path, "--stat", "-i", "0.1"],
                           stdout=subprocess.PIPE, text=True)
    lines = [run.stdout.readline() for _ in range(5)]
    run.kill()
    run.wait()
    run.stdout.close()
    assert "keys" in lines[1] and all(re.match(r"0\s+[\d.]+[BKMG]\s+\d+", line) for line in lines[2:]), lines
    out = cli(server, "--latency", "--raw", "-i", "1")
    assert len(out.split()) == 4


# redis-benchmark with all of its default tests, one request at a time and pipelined.
def test_benchmark(server):
    for more in (["-P", "1", "-c", "20"], ["-P", "16", "-c", "50", "-r", "1000", "-d", "100"]):
        run = subprocess.run(["redis-benchmark", "-p", str(server.port), "-n", "1500", "-q", *more],
                             capture_output=True, text=True, timeout=120)
        out = run.stdout.replace("\r", "\n")
        assert run.returncode == 0, out + run.stderr
        done = set(re.findall(r"^([A-Z_a-z0-9 ()]+): [\d.]+ requests per second", out, re.M))
        wanted = {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET",
                  "SPOP", "ZADD", "ZPOPMIN", "LPUSH (needed to benchmark LRANGE)", "LRANGE_100 (first 100 elements)",
                  "LRANGE_300 (first 300 elements)", "LRANGE_500 (first 500 elements)",
                  "LRANGE_600 (first 600 elements)", "MSET (10 keys)"}
        assert wanted <= done, (wanted - done, out, run.stderr)
        assert "error" not in (out + run.stderr).lower().replace("errors: 0", ""), out + run.stderr


# A payload that redis-cli has dumped, it restores from standard input.
def test_dump_and_restore(server):
    data.fill(server.raw())
    raw = server.raw()
    payload = subprocess.run(["redis-cli", "-s", server.socket_path, "--raw", "dump", "hash:small"],
                             capture_output=True, timeout=20).stdout[:-1]
    assert cli(server, "-x", "restore", "copy", "0", stdin=payload) == "OK\n"
    assert sorted(raw("HGETALL", "copy")) == sorted(raw("HGETALL", "hash:small"))


# The keys that are asked for most, which redis-cli finds by OBJECT FREQ.
def test_hotkeys(server):
    client = server.client()
    client.config_set("maxmemory-policy", "allkeys-lfu")
    for i in range(200):
        client.set(f"cold:{i}", i)
    for _ in range(2000):
        client.get("cold:7")
    out = cli(server, "--hotkeys")
    assert re.search(r"hot key found with counter: \d+\tkeyname: \"?cold:7\"?\n", out), out


# A copy of the data that redis-cli takes as a replica does; redis-server starts from it with the same data.
def test_rdb(server, tmp_path):
    data.fill(server.raw())
    digest = server.raw()("DEBUG", "DIGEST")
    cli(server, "--rdb", str(tmp_path / "dump.rdb"))
    check = subprocess.run(["redis-check-rdb", str(tmp_path / "dump.rdb")], capture_output=True, text=True, timeout=60)
    assert check.returncode == 0, check.stdout
    with Server("redis", directory=tmp_path) as redis:
        assert redis.raw()("DEBUG", "DIGEST") == digest
    assert "connected_slaves:0" in cli(server, "info", "replication")


# MONITOR as redis-cli shows it, and the two modes that measure time again and again.
def test_monitor_and_latency(server):
    run = subprocess.Popen(["stdbuf", "-oL", "redis-cli", "-s", server.socket_path, "monitor"], stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "OK\n"
    server.raw()("SET", "k", "v w")
    line = run.stdout.readline()
    assert re.fullmatch(r'\d+\.\d{6} \[0 unix:.*\] "SET" "k" "v w"\n', line), line
    run.kill()
    run.wait()
    run.stdout.close()
    run = subprocess.Popen(["stdbuf", "-oL", "redis-cli", "-s", server.socket_path, "--latency-history", "--raw", "-i", "0.2"],
                           stdout=subprocess.PIPE, text=True)
    lines = [run.stdout.readline().split() for _ in range(2)]
    run.kill()
    run.wait()
    run.stdout.close()
    assert all(len(line) == 4 and float(line[2]) < 1000 for line in lines), lines
