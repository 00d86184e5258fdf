# SPDX-License-Identifier: BSD-3-Clause
"""Incremental snapshots: what they take, that a chain of them restores what was there, and what is
done about one that is damaged."""
import os
import pathlib
import pty
import random
import shutil
import subprocess
import tempfile
import threading
import time

import pytest
import redis

from harness import BUILD, Error, Server, wait_for

SEED = int(os.environ.get("HF_SEED", time.time_ns() % 2**32))


def persistence(client):
    return client.info("persistence")


def chain(client):
    """The links as dictionaries."""
    links = client.execute_command("HOLDFAST", "SNAPSHOT", "LIST")
    text = [[x.decode() if isinstance(x, bytes) else x for x in link] for link in links]
    return [dict(zip(link[::2], link[1::2])) for link in text]


def begin(client, kind):
    """Tell it to begin what it can only do alone: behind a full snapshot its manifest may still be written. Returns what
    it says."""
    def begun():
        try:
            return client.execute_command("HOLDFAST", "SNAPSHOT", kind)
        except redis.exceptions.ResponseError as e:
            assert "another snapshot" in str(e) or "already in progress" in str(e), e
            return None
    return wait_for(begun)


def full(client):
    begin(client, "FULL")
    wait_for(lambda: persistence(client)["rdb_bgsave_in_progress"] == 0 and len(chain(client)) == 1
             and chain(client)[0]["sha256"])


def incremental(client):
    """Take one; returns its link."""
    taken = persistence(client)["chain_incrementals_taken"]

    assert begin(client, "INCREMENTAL") == b"Background incremental snapshot started"
    wait_for(lambda: not persistence(client)["chain_incremental_in_progress"])
    after = persistence(client)
    assert after["chain_last_incremental_status"] == "ok", after["chain_last_incremental_error"]
    assert after["chain_incrementals_taken"] == taken + 1
    return chain(client)[-1]


def digest(client):
    return client.execute_command("DEBUG", "DIGEST")


def fill(client, rng, keys, size=100):
    pipe = client.pipeline(transaction=False)
    for i in range(keys):
        pipe.set(f"key:{i}", rng.randbytes(size))
    pipe.execute()


def write_randomly(client, rng, count):
    """Commands that change all there is to change."""
    pipe = client.pipeline(transaction=False)
    for _ in range(count):
        name, other = f"k{rng.randrange(400)}", f"k{rng.randrange(400)}"
        what = rng.randrange(16)
        if what < 3:
            pipe.set(name, rng.randbytes(rng.choice([3, 60, 5000])))
        elif what == 3:
            pipe.delete(name)
        elif what == 4:
            pipe.append(name, b"x" * rng.randrange(9))
        elif what == 5:
            pipe.hset("h" + name, f"f{rng.randrange(40)}", rng.randbytes(8))
        elif what == 6:
            pipe.rpush("l" + name, *[rng.randrange(1000) for _ in range(rng.choice([1, 200]))])
        elif what == 7:
            pipe.zadd("z" + name, {f"m{rng.randrange(300)}": rng.random() for _ in range(20)})
        elif what == 8:
            pipe.sadd("s" + name, *[rng.randrange(1000) for _ in range(rng.choice([1, 200]))])
        elif what == 9:
            pipe.execute_command("RENAME", name, other)
        elif what == 10:
            pipe.execute_command("MOVE", name, 1)
        elif what == 11:
            pipe.execute_command("COPY", name, other, "DB", 2, "REPLACE")
        elif what == 12:
            pipe.expire(name, 100000 + rng.randrange(1000))
        elif what == 13:
            pipe.persist(name)
        elif what == 14:
            pipe.lpop("l" + name, 5)
        else:
            pipe.setrange("big" + name[:2], rng.randrange(50000), b"abc")
    pipe.execute(raise_on_error=False)


def test_size_of_a_delta():
    """One key in a hundred was changed: the delta takes less than a twentieth of the full snapshot, and
    holds just these keys."""
    rng = random.Random(SEED)
    print("HF_SEED", SEED)
    with Server() as server:
        client = server.client()
        fill(client, rng, 20000)
        full(client)
        for i in rng.sample(range(20000), 100):
            client.set(f"key:{i}", rng.randbytes(100))
        doomed = rng.sample(range(20000), 100)
        client.delete(*[f"key:{i}" for i in doomed])
        link = incremental(client)
        base = chain(client)[0]
        assert base["keys"] == 20000
        assert link["deleted"] == 100 and 90 <= link["keys"] <= 100
        assert link["size"] * 20 < base["size"]
        assert os.path.getsize(server.directory / link["file"]) == link["size"]
        # Nothing happened since, and reading changes nothing.
        client.mget(*[f"key:{i}" for i in range(1000)])
        link = incremental(client)
        assert link["keys"] == 0 and link["deleted"] == 0 and link["parent"] == chain(client)[1]["id"]


def test_chain_restores():
    """After kill -9 the full snapshot and the deltas are together what was there at the last of them,
    and the chain goes on from there."""
    rng = random.Random(SEED)
    print("HF_SEED", SEED)
    directory = tempfile.mkdtemp(prefix="hf-chain-")
    with Server(directory=directory, options={"snapshot-chain-max": 100}) as server:
        client = server.client()
        write_randomly(client, rng, 3000)
        full(client)
        for step in range(4):
            for _ in range(rng.randrange(1, 4)):
                write_randomly(client, rng, rng.choice([10, 1000]))
                if rng.randrange(4) == 0:
                    client.execute_command("SELECT", 0)
                    client.execute_command("FLUSHDB")
                    write_randomly(client, rng, 500)
                if rng.randrange(2) == 0:
                    client.execute_command("SWAPDB", rng.randrange(3), rng.randrange(3))
                    write_randomly(client, rng, 50)
                link = incremental(client)
            expected, links = digest(client), chain(client)
            assert link == links[-1]
            write_randomly(client, rng, 100)  # lost
            server.kill()
            server.start()
            client = server.client()
            assert digest(client) == expected
            assert chain(client) == links
    shutil.rmtree(directory)


def test_next_is_full():
    """Where a delta cannot tell all that happened a full snapshot is taken in its place, with the
    reason in INFO."""
    with Server() as server:
        client = server.client()
        assert persistence(client)["chain_next_is_full_as"].startswith("there is no full snapshot")
        client.set("a", 1)
        assert begin(client, "INCREMENTAL") == b"Background full snapshot started"
        wait_for(lambda: len(chain(client)) == 1 and chain(client)[0]["sha256"])
        incremental(client)
        client.execute_command("DEBUG", "POPULATE", 6000, "k")
        incremental(client)
        client.delete(*(f"k:{i}" for i in range(5000)))
        assert "deleted" in persistence(client)["chain_next_is_full_as"]
        client.set("b", 1)
        before = chain(client)
        assert begin(client, "INCREMENTAL") == b"Background full snapshot started"
        wait_for(lambda: chain(client) and chain(client)[0]["id"] != before[0]["id"])
        wait_for(lambda: not (server.directory / before[1]["file"]).exists())
        assert len(chain(client)) == 1
        expected = digest(client)
        server.kill()
        server.start()
        client = server.client()
        assert digest(client) == expected
        raw = server.raw()
        raw("CONFIG", "SET", "snapshot-chain-max", 0)
        assert raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL") == \
            Error("ERR Incremental snapshots are off: snapshot-chain-max is 0")
        assert isinstance(raw("HOLDFAST", "SNAPSHOT", "SIDEWAYS"), Error)


def test_swapped_and_emptied():
    """SWAPDB, FLUSHDB and FLUSHALL are told in a delta: databases change places without being written
    again."""
    rng = random.Random(SEED)
    with Server(options={"recovery-fallback": "snapshot"}) as server:
        client = server.client()
        fill(client, rng, 2000)
        client.execute_command("COPY", "key:1", "other", "DB", 3)
        client.execute_command("COPY", "key:1", "third", "DB", 5)
        full(client)
        client.execute_command("SWAPDB", 0, 3)
        client.execute_command("SWAPDB", 5, 3)
        client.set("new", 1)
        link = incremental(client)
        assert (link["keys"], link["deleted"]) == (1, 0) and link["size"] < 300
        states = [digest(client)]
        client.execute_command("FLUSHDB")
        client.execute_command("SWAPDB", 0, 5)
        link = incremental(client)
        assert (link["keys"], link["deleted"]) == (0, 0)
        states.append(digest(client))
        client.execute_command("FLUSHALL")
        client.set("last", 1)
        link = incremental(client)
        assert (link["keys"], link["deleted"]) == (1, 0)
        states.append(digest(client))
        begin(client, "VERIFY")
        wait_for(lambda: persistence(client)["chain_last_verified_time"])
        assert persistence(client)["chain_verified_links"] == 4
        names = [link["file"] for link in chain(client)]
        for name in [None, names[3], names[2]]:
            server.kill()
            if name:
                (server.directory / name).unlink()
            server.start()
            client = server.client()
            assert digest(client) == states.pop()


def test_progress_and_cancel():
    """An incremental snapshot keeps to snapshot-rate-limit, tells how far it is, and can be cancelled:
    the next one has what it would have had. So has one that was given up by snapshot-memory-limit."""
    with Server(options={"rdbcompression": "no"}) as server:
        client = server.client()
        client.execute_command("DEBUG", "POPULATE", 3000, "k", 1000)
        full(client)
        client.execute_command("DEBUG", "POPULATE", 2000, "other", 1000)
        client.config_set("snapshot-rate-limit", 30000)  # it would take a minute
        begin(client, "INCREMENTAL")
        wait_for(lambda: persistence(client)["snapshot_current_keys_done"] > 0)
        state = persistence(client)
        assert state["snapshot_current_kind"] == "incremental"
        assert state["snapshot_current_phase"] == "write" and state["rdb_bgsave_in_progress"] == 1
        assert 0 < state["snapshot_current_keys_done"] <= 2000
        wait_for(lambda: persistence(client)["snapshot_current_bytes_done"] > 0)
        assert client.execute_command("BGSAVE", "CANCEL") in (b"Background saving cancelled", True)
        wait_for(lambda: not persistence(client)["chain_incremental_in_progress"])
        state = persistence(client)
        assert state["chain_last_incremental_status"] == "ok"
        assert "cancelled" in state["chain_last_incremental_error"]
        assert state["snapshot_current_kind"] == "none" and not state["chain_next_is_full_as"]
        assert not list(server.directory.glob("temp-*"))
        # What is overwritten meanwhile must be held, and is more than may be.
        client.config_set("snapshot-memory-limit", "300kb")
        client.config_set("rdb-key-save-delay", 100000)
        begin(client, "INCREMENTAL")
        wait_for(lambda: persistence(client)["snapshot_current_keys_done"] > 0)
        for i in range(3000):
            client.append(f"k:{i}", "x" * 500)
            if i % 100 == 0 and not persistence(client)["chain_incremental_in_progress"]:
                break
        wait_for(lambda: not persistence(client)["chain_incremental_in_progress"])
        state = persistence(client)
        assert state["chain_last_incremental_status"] == "err"
        assert "snapshot-memory-limit" in state["chain_last_incremental_error"]
        client.config_set("snapshot-rate-limit", 0)
        client.config_set("rdb-key-save-delay", 0)
        client.config_set("snapshot-memory-limit", 0)
        expected = digest(client)
        assert incremental(client)["keys"] >= 2000
        server.kill()
        server.start()
        assert digest(server.client()) == expected


def test_beside_a_log():
    """With appendonly the log is the truth. A log that cannot be used gives way to the RDB file with all
    its deltas, and one that reaches less far than they do, too."""
    def newest(server):
        files = list((server.directory / "appendonlydir").glob("*.incr.aof"))
        return max(files, key=lambda f: int(f.name.split(".")[-3]))

    with Server(options={"appendonly": "yes", "appendfsync": "always"}) as server:
        client = server.client()
        client.set("a", 1)
        full(client)
        client.set("b", "x" * 3000)
        client.execute_command("SWAPDB", 0, 1)
        incremental(client)
        client.execute_command("SELECT", 0)
        client.set("c", 1)
        incremental(client)
        at_delta, links = digest(client), chain(client)
        client.set("d", 1)
        expected = digest(client)
        server.kill()
        # The log is whole: all is there, and the chain goes on.
        server.start()
        client = server.client()
        assert digest(client) == expected
        assert [link["id"] for link in chain(client)] == [link["id"] for link in links]
        assert incremental(client)["keys"] == 1
        client.set("e", "y" * 3000)
        incremental(client)
        client.set("f", 1)
        expected = digest(client)
        client.delete("f")
        at_delta = digest(client)
        server.kill()
        # Behind what was written there may be room for more.
        os.truncate(newest(server), newest(server).read_bytes().index(b"y" * 3000) + 1500)
        # It ends before the last delta, which reaches further.
        server.start()
        client = server.client()
        assert client.strlen("e") == 3000 and digest(client) == at_delta
        assert "superseded" in server.text() or list((server.directory / "appendonlydir").glob("superseded-*"))
        full(client)
        client.set("g", 1)
        incremental(client)
        at_delta = digest(client)
        client.set("h", 1)
        server.kill()
        # Something in the middle is damaged: refused, and the chain is what can be had.
        data = bytearray(newest(server).read_bytes())
        data[data.index(b"\r\ng\r\n") + 2] ^= 1
        newest(server).write_bytes(bytes(data))
        refused = Server(directory=server.directory, options={"appendonly": "yes"}, wait=False)
        assert refused.process.wait(60) != 0
        refused.kill()
        server.options["recovery-fallback"] = "snapshot"
        server.start()
        assert digest(server.client()) == at_delta
        assert "What was changed since then is lost" in server.text()


def test_chain_is_merged():
    """A chain longer than snapshot-chain-max makes way for a full snapshot; its files go when that is
    there."""
    with Server(options={"snapshot-chain-max": 2}) as server:
        client = server.client()
        client.set("a", 1)
        full(client)
        assert not list(server.directory.glob("*.chain"))
        first = chain(client)[0]["id"]
        for i in range(2):
            client.set(f"b{i}", 1)
            incremental(client)
        wait_for(lambda: len(chain(client)) == 1 and chain(client)[0]["id"] != first)
        wait_for(lambda: not list(server.directory.glob("*.delta")))
        assert "snapshot-chain-max is 2" in server.text()
        client.set("c", 1)
        assert incremental(client)["keys"] == 1


def damage(path, how, rng):
    data = bytearray(path.read_bytes())
    if how == "byte":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "short":
        del data[rng.randrange(len(data)):]
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(data))


def test_damaged_links():
    """Whatever is wrong with a link: VERIFY and the start name it, nothing is served, and all before it
    can be had by saying so."""
    rng = random.Random(SEED)
    print("HF_SEED", SEED)
    original, work = tempfile.mkdtemp(prefix="hf-chain-"), tempfile.mkdtemp(prefix="hf-chain-")
    states = []
    with Server(directory=original) as server:
        client = server.client()
        for i in range(4):
            write_randomly(client, rng, 300)
            full(client) if i == 0 else incremental(client)
            states.append(digest(client))
        links = chain(client)
    for number, how in [(0, "byte"), (0, "gone"), (1, "byte"), (2, "short"), (3, "gone"), (3, "byte")]:
        shutil.rmtree(work)
        shutil.copytree(original, work)
        name = links[number]["file"]
        if number > 0:
            # A server that runs finds it, too.
            with Server(directory=work) as server:
                client = server.client()
                damage(server.directory / name, how, rng)
                begin(client, "VERIFY")
                wait_for(lambda: persistence(client)["chain_last_verified_time"])
                state = persistence(client)
                assert state["chain_verified_links"] == number and name in state["chain_verify_error"]
                assert "damaged" in state["chain_next_is_full_as"]
        else:
            damage(pathlib.Path(work) / name, how, rng)
        server = Server(directory=work, wait=False)
        assert server.process.wait(60) != 0
        assert name in server.text()
        server.kill()
        if number == 0:
            continue
        assert f"link {number + 1} of 4" in server.text()
        assert f"What can be restored: links 1 to {number}" in server.text()
        with Server(directory=work, options={"recovery-fallback": "snapshot"}) as server:
            assert digest(server.client()) == states[number - 1]
    # The manifest itself.
    shutil.rmtree(work)
    shutil.copytree(original, work)
    damage(pathlib.Path(work) / "dump.rdb.chain", "byte", rng)
    server = Server(directory=work, wait=False)
    assert server.process.wait(60) != 0 and "dump.rdb.chain" in server.text()
    server.kill()
    with Server(directory=work, options={"recovery-fallback": "snapshot"}) as server:
        assert digest(server.client()) == states[0]
    shutil.rmtree(original)
    shutil.rmtree(work)


def test_past_chain():
    """A RDB file that is not the chain's, as it was put there or saved anew, is loaded alone."""
    directory = tempfile.mkdtemp(prefix="hf-chain-")
    with Server(directory=directory) as server:
        client = server.client()
        client.set("a", 1)
        full(client)
        client.set("b", 1)
        incremental(client)
        manifest = (server.directory / "dump.rdb.chain").read_bytes()
        client.set("c", 1)
        full(client)
        expected = digest(client)
        wait_for(lambda: (server.directory / "dump.rdb.chain").read_bytes() != manifest)
        server.kill()
        (server.directory / "dump.rdb.chain").write_bytes(manifest)
        server.start()
        client = server.client()
        assert digest(client) == expected
        assert "of an earlier full one" in server.text()
        # It is what the next one follows.
        assert len(chain(client)) == 1
        client.set("d", 1)
        assert incremental(client)["keys"] == 1
        assert chain(client)[0]["keys"] == 3 and chain(client)[0]["sha256"]
        expected = digest(client)
        server.kill()
        server.start()
        client = server.client()
        assert digest(client) == expected and len(chain(client)) == 2
        # The file goes while the server runs: that is said, and the next one is full.
        full(client)
        server.terminate()
        (server.directory / "dump.rdb.chain").unlink(missing_ok=True)
        server.start()
        client = server.client()
        (server.directory / "dump.rdb").unlink()
        begin(client, "INCREMENTAL")
        wait_for(lambda: persistence(client)["chain_last_incremental_status"] == "err")
        wait_for(lambda: "not the one" in persistence(client)["chain_next_is_full_as"])
        full(client)
        assert digest(client) == expected
    shutil.rmtree(directory)


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
def test_delta_is_no_rdb_file(kind):
    """No server takes a delta for an RDB file, and redis-check-rdb does not, either."""
    directory = tempfile.mkdtemp(prefix="hf-chain-")
    with Server() as server:
        client = server.client()
        client.set("a", 1)
        full(client)
        client.set("b", 1)
        link = incremental(client)
        shutil.copy(server.directory / link["file"], directory + "/dump.rdb")
        # The full one is an RDB file for everyone.
        shutil.copy(server.directory / "dump.rdb", directory + "/full.rdb")
    with Server(kind, directory=directory, options={"dbfilename": "full.rdb"}) as server:
        assert server.client().dbsize() == 1
    server = Server(kind, directory=directory, wait=False)
    assert server.process.wait(60) != 0
    server.kill()
    checker = shutil.which("redis-check-rdb")
    if kind == "redis" and checker:
        assert subprocess.run([checker, directory + "/dump.rdb"], capture_output=True).returncode != 0
    shutil.rmtree(directory)


def test_reload_takes_the_deltas():
    """DEBUG RELOAD NOSAVE loads what a start would, and the chain goes on from there; NOFLUSH joins it, or
    leaves everything as it is."""
    with Server() as server:
        client = server.client()
        rng = random.Random(SEED)
        print("seed", SEED)
        write_randomly(client, rng, 500)
        client.set("gone", 1)
        full(client)
        write_randomly(client, rng, 200)
        client.delete("gone")
        client.set("in the delta", "x")
        incremental(client)
        expected = digest(client)
        client.set("in memory alone", 1)
        assert client.execute_command("DEBUG", "RELOAD", "NOSAVE") in (True, b"OK")
        assert digest(client) == expected and client.exists("gone", "in memory alone") == 0
        client.set("after", 1)
        link = incremental(client)
        assert (link["keys"], link["deleted"]) == (1, 0) and len(chain(client)) == 3
        expected = digest(client)
        server.kill()
        server.start()
        client = server.client()
        assert digest(client) == expected
        # Joined to what there is: what is in both is refused, or taken from the files.
        client.flushall()
        client.set("in the delta", "of memory")
        with pytest.raises(redis.exceptions.ResponseError):
            client.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH")
        assert client.dbsize() == 1 and client.get("in the delta") == b"of memory"
        client.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE")
        assert digest(client) == expected


def test_failed_delta_stops_writes():
    """A delta that fails is a failed save: writes are refused as stop-writes-on-bgsave-error says, INFO has the
    reason, and a save that succeeds ends that."""
    with Server(options={"save": "100000 1000000"}) as server:
        client = server.client()
        client.set("a", 1)
        full(client)
        server.terminate()
        (server.directory / "dump.rdb.chain").unlink(missing_ok=True)
        server.start()
        client = server.client()
        # What the delta is to follow is gone.
        (server.directory / "dump.rdb").unlink()
        assert persistence(client)["rdb_last_bgsave_status"] == "ok"
        begin(client, "INCREMENTAL")
        wait_for(lambda: persistence(client)["chain_last_incremental_status"] == "err")
        state = persistence(client)
        assert state["rdb_last_bgsave_status"] == "err"
        assert state["snapshot_last_error"] == state["chain_last_incremental_error"] != ""
        with pytest.raises(redis.exceptions.ResponseError, match="MISCONF"):
            client.set("b", 1)
        assert client.get("a") == b"1"
        client.config_set("stop-writes-on-bgsave-error", "no")
        assert client.set("b", 1)
        client.config_set("stop-writes-on-bgsave-error", "yes")
        with pytest.raises(redis.exceptions.ResponseError, match="MISCONF"):
            client.set("b", 1)
        full(client)
        state = persistence(client)
        assert state["rdb_last_bgsave_status"] == "ok" and not state["snapshot_last_error"]
        assert client.set("c", 1)
        assert incremental(client)["keys"] == 1


def test_cancelled_delta_refuses_nothing():
    """One that was cancelled says nothing against the disk."""
    with Server(options={"save": "100000 1000000"}) as server:
        client = server.client()
        client.set("a", 1)
        full(client)
        client.execute_command("DEBUG", "POPULATE", 2000, "k", 1000)
        client.config_set("snapshot-rate-limit", 30000)
        begin(client, "INCREMENTAL")
        client.execute_command("BGSAVE", "CANCEL")
        wait_for(lambda: not persistence(client)["chain_incremental_in_progress"])
        state = persistence(client)
        assert "cancelled" in state["chain_last_incremental_error"]
        assert state["rdb_last_bgsave_status"] == "ok" and client.set("b", 1)
        client.config_set("snapshot-rate-limit", 0)


def test_verify_keeps_to_the_rate():
    """HOLDFAST SNAPSHOT VERIFY reads no faster than snapshot-rate-limit, and the server ends though it runs."""
    with Server() as server:
        client = server.client()
        rng = random.Random(SEED)
        fill(client, rng, 3000)
        full(client)
        size = chain(client)[0]["size"]
        assert size > 300000
        client.config_set("snapshot-rate-limit", size)
        begun = time.monotonic()
        begin(client, "VERIFY")
        wait_for(lambda: persistence(client)["chain_last_verified_time"])
        assert time.monotonic() - begun > 0.9
        assert persistence(client)["chain_verified_links"] == 1
        client.config_set("snapshot-rate-limit", 1000)
        begin(client, "VERIFY")
        wait_for(lambda: persistence(client)["chain_verify_in_progress"])
        begun = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begun < size / 1000 / 2


def test_check_shows_progress_on_a_chain():
    """holdfast check of a chain draws on a terminal, for each link, and wipes it away."""
    with Server() as server:
        client = server.client()
        client.set("big", os.urandom(18 << 20))
        full(client)
        client.set("big", os.urandom(18 << 20))
        link = incremental(client)
        server.terminate()
        master, slave = pty.openpty()
        drawn = []

        def read():
            try:
                while piece := os.read(master, 65536):
                    drawn.append(piece)
            except OSError:
                pass
        reader = threading.Thread(target=read)
        reader.start()
        run = subprocess.run([BUILD / "holdfast", "check", server.directory / "dump.rdb.chain"], stdout=subprocess.PIPE,
                             stderr=slave, timeout=120)
        os.close(slave)
        reader.join()
        os.close(master)
        text = b"".join(drawn)
        assert run.returncode == 0 and b"sound, a chain of 2 links" in run.stdout
        for name in (b"dump.rdb", link["file"].encode()):
            assert b"check " + name + b"  [" in text, text[-500:]
        assert text.endswith(b"\r\x1b[K")
