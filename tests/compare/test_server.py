# SPDX-License-Identifier: BSD-3-Clause
"""Commands on the server itself, which random sequences leave out because their replies are never the
same: what of them must be, is, beside redis-server."""
import re

import pytest

import generators
from harness import Error, Server, Simple


@pytest.fixture(scope="module")
def pair():
    with Server("redis") as theirs, Server("holdfast") as ours:
        yield theirs, ours


def both(pair, *args):
    replies = []
    for server in pair:
        raw = server.raw()
        replies.append(raw(*args))
        raw.close()
    return replies


def same(pair, *args):
    theirs, ours = both(pair, *args)
    assert theirs == ours, args
    return ours


def known(pair):
    """The table's commands and subcommands that redis-server has, too, as COMMAND INFO names them."""
    theirs = pair[0].raw()
    names = [n.replace(" ", "|", 1) for n in generators.table_rows()]
    return [n for n, info in zip(names, theirs("COMMAND", "INFO", *names)) if isinstance(info, list)]


def drop_newer(info):
    """COMMAND INFO without subcommands, which are asked for one by one, without notes in Redis's words, and
    without the arity of what has an option more since 7.2."""
    info = list(info)
    info[9] = []
    info[8] = [spec[2:] if spec[0] == b"notes" else spec for spec in info[8]]
    if info[0] in (b"zrank", b"zrevrank"):
        info[1] = None
    return info


# COMMAND INFO of every command: arity, flags, keys, categories, tips, key specifications.
def test_command_info(pair):
    wrong = []
    for name in known(pair):
        theirs, ours = both(pair, "COMMAND", "INFO", name)
        if [flat(drop_newer(i)) for i in theirs] != [flat(drop_newer(i)) for i in ours]:
            wrong.append(f"{name}\n  redis: {theirs}\n  holdfast: {ours}")
    assert not wrong, "\n".join(wrong)


def flat(info):
    """Flags and categories have no order."""
    return [sorted(map(str, part)) if isinstance(part, list) and i in (2, 6, 7) else part for i, part in enumerate(info)]


# COMMAND DOCS: the same arguments under the same names; summaries are in our own words.
def test_command_docs(pair):
    wrong = []
    for name in known(pair):
        theirs, ours = (dict(zip(r[1][::2], r[1][1::2])) for r in both(pair, "COMMAND", "DOCS", name))
        for field in (b"group", b"since", b"doc_flags", b"deprecated_since"):
            if theirs.get(field) != ours.get(field):
                wrong.append(f"{name} {field}: {theirs.get(field)} is not {ours.get(field)}")
        assert ours[b"summary"] and (b"complexity" in ours or b"subcommands" in ours or b"complexity" not in theirs), name
        if not has_arguments(theirs.get(b"arguments", []), ours.get(b"arguments", [])):
            wrong.append(f"{name}\n  redis: {theirs.get(b'arguments')}\n  holdfast: {ours.get(b'arguments')}")
    assert not wrong, "\n".join(wrong)


def has_arguments(theirs, ours):
    """All of Redis's arguments are among ours, in their order."""
    rest = iter(ours)
    for argument in theirs:
        wanted = dict(zip(argument[::2], argument[1::2]))
        for candidate in rest:
            found = dict(zip(candidate[::2], candidate[1::2]))
            if all(found.get(f) == v for f, v in wanted.items()
                   if f not in (b"arguments", b"since", b"display_text")) and \
                    has_arguments(wanted.get(b"arguments", []), found.get(b"arguments", [])):
                break
        else:
            return False
    return True


# COMMAND COUNT, LIST and COMMAND itself tell of the same number of commands.
def test_command_list(server):
    raw = server.raw()
    count = raw("COMMAND", "COUNT")
    names = {name for name in raw("COMMAND", "LIST") if b"|" not in name}
    assert count == len(raw("COMMAND")) == len(names) == len(raw("COMMAND", "INFO"))
    assert {row[0] for row in raw("COMMAND")} == names
    assert set(raw("COMMAND", "LIST", "FILTERBY", "PATTERN", "nothing*")) == set()
    assert set(raw("COMMAND", "LIST", "FILTERBY", "PATTERN", "hs*")) >= {b"hset", b"hsetnx", b"hscan", b"hstrlen"}
    assert b"get" in raw("COMMAND", "LIST", "FILTERBY", "ACLCAT", "string")


# Errors of commands that cannot be in a random sequence.
@pytest.mark.parametrize("line", [
    "SHUTDOWN x", "SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT", "SAVE x", "BGSAVE x", "BGSAVE SCHEDULE x", "LASTSAVE x",
    "MEMORY", "MEMORY nosuch", "MEMORY STATS x", "MEMORY USAGE", "MEMORY USAGE k SAMPLES", "MEMORY USAGE k SAMPLES -1",
    "MEMORY USAGE k nonsense 1", "CONFIG", "CONFIG nosuch", "CONFIG SET", "CONFIG SET a", "CONFIG SET nosuch 1",
    "CONFIG SET maxmemory x", "CONFIG SET port 1 port 2", "CONFIG SET databases 3", "CONFIG GET", "CONFIG REWRITE",
    "CONFIG REWRITE x", "CONFIG SET dir /nonexistent", "CONFIG SET appendfsync maybe", "CONFIG SET maxmemory-policy x",
    "COMMAND nosuch", "COMMAND COUNT x", "COMMAND GETKEYS", "COMMAND LIST FILTERBY", "COMMAND LIST FILTERBY x y",
    "COMMAND DOCS nosuch", "COMMAND INFO nosuch", "COMMAND GETKEYS nosuch x", "OBJECT", "OBJECT nosuch", "OBJECT HELP x", "DEBUG", "FLUSHALL x", "FLUSHDB ASYNC SYNC",
    "SWAPDB 0", "SWAPDB 0 99", "SWAPDB x 1", "SWAPDB 1 x", "INFO nosuch", "CLIENT nosuch", "CLIENT KILL", "TIME x",
])
def test_errors(pair, line):
    same(pair, *line.split())


# Without a cluster all that is a cluster's is refused, after arguments were counted.
def test_no_cluster(pair):
    rows = {name: row for name, row in generators.table_rows().items() if row["group"] == "cluster"}
    assert len(rows) > 30
    for name, row in rows.items():
        words, count = name.split(), abs(row["arity"])
        same(pair, *words)
        same(pair, *words, *["1"] * (count - len(words)))
        same(pair, *words, *["1"] * (count - len(words) + 1))
    for line in ("CLUSTER nosuch", "CLUSTER NODES x y", "CLUSTER MYSHARDID", "CLUSTER KEYSLOT {a}b"):
        same(pair, *line.split())
    same(pair, "EVAL", "return redis.pcall('readonly')", "0")
    for i in (0, 1):
        raw = pair[i].raw()
        assert raw("MULTI") == "OK" and raw("ASKING") == raw("CLUSTER", "INFO") == "QUEUED"
        assert [str(e) for e in raw("EXEC")] == ["ERR This instance has cluster support disabled"] * 2


# A HELP of a container lists each of its subcommands that the table has.
@pytest.mark.parametrize("container", ["CLIENT", "COMMAND", "CONFIG", "MEMORY", "OBJECT", "DEBUG"])
def test_help(pair, container):
    ours = pair[1].raw()(container, "HELP")
    assert str(ours[0]).startswith(f"{container} <subcommand>")
    text = "\n".join(map(str, ours)).upper()
    for name in generators.table_rows():
        if name.startswith(container + " "):
            assert name.split()[1] in text, name


def fields(text):
    return [line.split(":")[0] for line in text.decode().split("\r\n") if ":" in line]


# INFO: the sections of Redis in its order, and in each the fields that monitoring reads.
def test_info(pair):
    theirs, ours = both(pair, "INFO")
    sections = re.findall(r"# (\w+)", ours.decode())
    wanted = ["Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Keyspace"]
    assert [s for s in sections if s in wanted] == wanted
    for field in ("redis_version", "redis_mode", "os", "arch_bits", "process_id", "run_id", "tcp_port", "uptime_in_seconds",
                  "executable", "config_file", "connected_clients", "blocked_clients", "maxclients", "used_memory",
                  "used_memory_human", "used_memory_rss", "used_memory_peak", "used_memory_dataset", "maxmemory",
                  "maxmemory_policy", "mem_fragmentation_ratio", "mem_allocator", "loading", "rdb_changes_since_last_save",
                  "rdb_bgsave_in_progress", "rdb_last_save_time", "rdb_last_bgsave_status", "total_connections_received",
                  "total_commands_processed", "instantaneous_ops_per_sec", "total_net_input_bytes", "expired_keys",
                  "evicted_keys", "keyspace_hits", "keyspace_misses", "total_error_replies", "role", "connected_slaves",
                  "master_repl_offset", "used_cpu_sys", "used_cpu_user"):
        assert field in fields(theirs) and field in fields(ours), field
    for section in ("server", "SERVER", "keyspace", "all", "default", "everything", "commandstats", "errorstats", "nosuch"):
        a, b = both(pair, "INFO", section)
        if section in ("keyspace", "nosuch"):
            assert a == b
        else:
            assert b


# What redis_exporter makes metrics of (its gauges and counters, and what it labels instances with).
EXPORTED = (
    "uptime_in_seconds process_id connected_clients blocked_clients tracking_clients client_recent_max_output_buffer "
    "client_recent_max_input_buffer allocator_active allocator_allocated allocator_resident allocator_frag_ratio allocator_frag_bytes "
    "allocator_rss_ratio allocator_rss_bytes used_memory used_memory_rss used_memory_peak used_memory_lua used_memory_overhead "
    "used_memory_startup used_memory_dataset used_memory_scripts maxmemory mem_fragmentation_ratio mem_fragmentation_bytes "
    "mem_clients_slaves mem_clients_normal expired_stale_perc mem_not_counted_for_evict lazyfree_pending_objects active_defrag_running "
    "migrate_cached_sockets active_defrag_hits active_defrag_misses active_defrag_key_hits active_defrag_key_misses "
    "expired_time_cap_reached_count loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time "
    "rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_last_cow_size aof_enabled aof_rewrite_in_progress "
    "aof_rewrite_scheduled aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_cow_size aof_last_bgrewrite_status "
    "aof_last_write_status module_fork_in_progress module_fork_last_cow_size pubsub_channels pubsub_patterns latest_fork_usec "
    "connected_slaves repl_backlog_size repl_backlog_active repl_backlog_first_byte_offset repl_backlog_histlen master_repl_offset "
    "second_repl_offset slave_expires_tracked_keys sync_full sync_partial_ok sync_partial_err total_connections_received "
    "total_commands_processed rejected_connections total_net_input_bytes total_net_output_bytes expired_keys evicted_keys keyspace_hits "
    "keyspace_misses used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children total_system_memory redis_version "
    "redis_build_id redis_mode os maxmemory_policy tcp_port run_id role ").split()


# INFO has every field that redis-server's has, and every one that redis_exporter reads, as a number where it takes numbers.
def test_info_fields_of_monitoring(pair):
    theirs, ours = both(pair, "INFO", "ALL")
    # Commands and databases are those that were used.
    used = re.compile(r"cmdstat_|errorstat_|latency_percentiles_|db\d")
    missing = {f for f in set(fields(theirs)) - set(fields(ours)) if not used.match(f)}
    assert not missing, missing
    values = dict(line.split(":", 1) for line in ours.decode().split("\r\n") if ":" in line)
    words = {"redis_version", "redis_build_id", "redis_mode", "os", "maxmemory_policy", "run_id", "role", "rdb_last_bgsave_status",
             "aof_last_bgrewrite_status", "aof_last_write_status"}
    for name in EXPORTED:
        assert name in values and (name in words or re.fullmatch(r"-?\d+(\.\d+)?", values[name])), (name, values.get(name))


# The parts of memory reports add up to the whole: all of used_memory is overhead or data, the overhead is what it says it is of, and the
# keys' sizes are what the memory has grown by.
def test_memory_adds_up():
    with Server("holdfast", plain=True) as server:
        raw = server.raw()

        def stats():
            reply = raw("MEMORY", "STATS")
            return {k.decode(): v for k, v in zip(reply[::2], reply[1::2])}

        def check():
            got = stats()
            assert got["total.allocated"] == got["overhead.total"] + got["dataset.bytes"]
            parts = ("startup.allocated", "replication.backlog", "clients.slaves", "clients.normal", "cluster.links", "aof.buffer")
            rest = got["overhead.total"] - sum(got[p] for p in parts)
            for k, v in got.items():
                if k.startswith("db."):
                    rest -= sum(v[1::2])
            assert 0 <= rest <= got["lua.caches"] + got["functions.caches"], got
            return got

        empty = check()
        many = raw.pipeline
        for at in range(0, 20000, 1000):
            many([("SET", f"s{i}", "x" * (i % 300)) for i in range(at, at + 1000)])
        for at in range(0, 1000, 100):
            part = range(at, at + 100)
            many([("HSET", f"h{i}", *(x for f in range(i % 60 + 1) for x in (f"field{f}", f))) for i in part])
            many([("RPUSH", f"l{i}", *range(i % 90 + 1)) for i in part])
            many([("ZADD", f"z{i}", *(x for f in range(i % 200 + 1) for x in (f, f"m{f}"))) for i in part])
            many([("SADD", f"t{i}", *(f"m{f}" for f in range(i % 200 + 1))) for i in part])
            many([("XADD", f"x{i % 10}", "*", "f", "value of a stream") for i in part])
        many([("SET", "large", "x" * 3000000), ("SADD", "big", *(f"member{i}" for i in range(50000)))])
        full = check()
        keys = raw("KEYS", "*")
        assert full["keys.count"] == len(keys) == 24012
        usage = sum(u for at in range(0, len(keys), 500) for u in many([("MEMORY", "USAGE", k) for k in keys[at:at + 500]]))
        grown = full["dataset.bytes"] - empty["dataset.bytes"]
        print(usage, grown, full)
        assert 0.85 * grown < usage < 1.1 * grown, (usage, grown)
        for i in range(1000):
            raw("SCRIPT", "LOAD", f"return {i} -- " + "x" * 200)
        assert check()["lua.caches"] - full["lua.caches"] > 1000 * 200


# Counters of INFO move as Redis's do.
def test_info_counts(pair):
    def run(server):
        raw = server.raw()
        raw("FLUSHALL")
        raw("CONFIG", "RESETSTAT")
        raw("SET", "a", 1)
        raw("SET", "v", 1, "EX", 1000)
        raw("GET", "a")
        raw("GET", "none")
        raw("INCR", "a", "x")
        raw("nosuch")
        raw("RPUSH", "v", 1)
        raw("SELECT", 3)
        raw("SET", "gone", 1, "PX", 1)
        raw.send(b"")
        import time
        time.sleep(0.02)
        raw("GET", "gone")
        raw("SET", "b", 1)
        text = raw("INFO", "everything").decode()
        raw.close()
        wanted = (r"total_commands_processed|keyspace_hits|keyspace_misses|expired_keys|total_error_replies|"
                  r"cmdstat_(set|get|incr|rpush|select)|errorstat_\w+|db\d+|rdb_changes_since_last_save")
        lines = dict(line.split(":", 1) for line in text.split("\r\n") if re.match(rf"({wanted}):", line))
        return {k: re.sub(r"usec\w*=[\d.]+,?|avg_ttl=\d+|subexpiry=\d+", "", v).rstrip(",") for k, v in lines.items()
                if k != "rdb_changes_since_last_save"}
    theirs, ours = map(run, pair)
    assert theirs == ours


# What MEMORY tells: the fields of STATS, a size for every type that grows with it.
def test_memory(pair):
    theirs, ours = both(pair, "MEMORY", "STATS")
    missing = set(theirs[::2]) - set(ours[::2]) - {b"lua.caches", b"functions.caches"}
    assert not {m for m in missing if not m.startswith(b"db.")}, missing
    assert isinstance(both(pair, "MEMORY", "DOCTOR")[1], bytes)
    assert both(pair, "MEMORY", "PURGE")[1] == Simple("OK")
    raw = pair[1].raw()
    raw("SET", "s", "x" * 100)
    raw("SET", "S", "x" * 100000)
    raw("RPUSH", "l", *range(10))
    raw("RPUSH", "L", *range(100000))
    raw("HSET", "h", "f", 1)
    raw("HSET", "H", *(x for i in range(50000) for x in (f"f{i}", i)))
    for small, large, low in (("s", "S", 100000), ("l", "L", 200000), ("h", "H", 500000)):
        a, b = raw("MEMORY", "USAGE", small), raw("MEMORY", "USAGE", large)
        assert 30 < a < 1000 and low < b < low * 20, (small, a, b)
        assert raw("MEMORY", "USAGE", large, "SAMPLES", 0) > low
    raw("FLUSHALL")


# QUIT is answered, then the connection is closed; AUTH without a password set is refused with words that help.
def test_quit_and_auth(pair):
    same(pair, "AUTH", "secret")
    same(pair, "AUTH", "default", "anything")
    for server in pair:
        raw = server.raw()
        assert raw("QUIT") == Simple("OK")
        with pytest.raises(EOFError):
            raw.read()


# LASTSAVE is the time of the last save, or of the start.
def test_lastsave(pair):
    theirs, ours = both(pair, "LASTSAVE")
    assert abs(theirs - ours) < 60


# CONFIG GET of all that redis-server knows: the same default values, but for what is the machine's or the test's.
def test_config_defaults(pair):
    theirs, ours = (dict(zip(r[::2], r[1::2])) for r in both(pair, "CONFIG", "GET", "*"))
    own = {b"port", b"dir", b"unixsocket", b"logfile", b"pidfile", b"bind"}
    missing = set(theirs) - set(ours)
    assert not missing, sorted(missing)
    different = {n: (theirs[n], ours[n]) for n in theirs if n not in own and theirs[n] != ours[n]}
    assert not different, different
