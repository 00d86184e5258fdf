# SPDX-License-Identifier: BSD-3-Clause
"""A chain of incremental snapshots beside a log: starts from the log go on with it where they can tell what was
changed since its last link, say why not where they cannot, and never lose a change or a deletion."""
import os
import random
import shutil
import tempfile
import time

import pytest

from harness import Server, is_settled, wait_for
from test_chain import begin, chain, digest, full, incremental, persistence, write_randomly

SEED = int(os.environ.get("HF_SEED", time.time_ns() % 2**32))
ROUNDS = int(os.environ.get("HF_CHAIN_ROUNDS", 10))
LOG = {"appendonly": "yes", "appendfsync": "always", "snapshot-chain-max": 100,
       "auto-aof-rewrite-percentage": 0}


def restored(server):
    """What the chain alone restores: the digest of a server that starts from a copy of its files."""
    directory = tempfile.mkdtemp(prefix="hf-restored-")
    # As a backup is made. Deltas that a new full snapshot has made useless may go at any time.
    for name in ("dump.rdb.chain", "dump.rdb", *(p.name for p in server.directory.glob("*.delta"))):
        try:
            shutil.copy(server.directory / name, directory)
        except FileNotFoundError:
            assert name != "dump.rdb"
    with Server(directory=directory) as other:
        found = digest(other.client())
    shutil.rmtree(directory)
    return found


def why(client):
    return persistence(client)["chain_next_is_full_as"]


def rewrite(client):
    before = persistence(client)["aof_base_size"]
    client.bgrewriteaof()
    wait_for(lambda: not persistence(client)["aof_rewrite_in_progress"]
             and not persistence(client)["aof_rewrite_scheduled"])
    return before


def settle(server):
    """What has expired is gone: a digest counts it until then, and a start does not load it."""
    raw = server.raw()
    wait_for(lambda: is_settled(raw))
    raw.close()


def restart(server, kill):
    if kill:
        server.kill()
    else:
        server.terminate()
    server.start()
    return server.client()


def more_writes(client, rng):
    """What write_randomly leaves out: transactions, scripts, whole databases, keys that expire."""
    what = rng.randrange(9)
    if what == 0:
        client.execute_command("SWAPDB", rng.randrange(3), rng.randrange(3))
    elif what == 1:
        client.execute_command("FLUSHDB") if rng.randrange(3) == 0 else client.set("one", rng.random())
    elif what == 2:
        pipe = client.pipeline(transaction=True)
        for _ in range(5):
            pipe.set(f"k{rng.randrange(400)}", rng.random())
            pipe.delete(f"k{rng.randrange(400)}")
        pipe.execute()
    elif what == 3:
        client.eval("redis.call('set', KEYS[1], ARGV[1]) redis.call('del', KEYS[2])", 2,
                    f"k{rng.randrange(400)}", f"k{rng.randrange(400)}", rng.random())
    elif what == 4:
        client.pexpire(f"k{rng.randrange(400)}", 1)
        time.sleep(0.003)
    elif what == 5:
        client.spop("sk%d" % rng.randrange(400), 3)
        client.xadd("x%d" % rng.randrange(5), {"f": rng.random()})


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_random_restarts(policy):
    """Random writes, full and incremental snapshots, rewrites, kills and clean ends: what the chain restores is, after
    each link, what was there when it was taken."""
    rng = random.Random(f"{SEED} {policy}")
    print("HF_SEED", SEED)
    followed = 0
    options = dict(LOG, appendfsync=policy)
    options["aof-use-rdb-preamble"] = rng.choice(["yes", "no"])
    with Server(options=options) as server:
        client = server.client()
        write_randomly(client, rng, 500)
        full(client)
        expected = digest(client)
        for _ in range(ROUNDS):
            for _ in range(rng.randrange(4)):
                write_randomly(client, rng, rng.choice([1, 10, 60]))
                more_writes(client, rng)
            settle(server)
            what = rng.randrange(12)
            if what == 0:
                rewrite(client)
            elif what == 1:
                full(client)
                expected = digest(client)
                assert restored(server) == expected
            elif what < 7:
                kill = rng.randrange(2) == 0
                before, links = digest(client), chain(client)
                client = restart(server, kill)
                if policy == "always" or not kill:
                    assert digest(client) == before
                after = chain(client)
                assert after == [] or [l["id"] for l in after] == [l["id"] for l in links]
                assert (after == []) == (why(client) != ""), why(client)
                followed += after != []
            elif why(client) == "":
                expected_links = len(chain(client)) + 1
                incremental(client)
                assert len(chain(client)) == expected_links
                expected = digest(client)
                assert restored(server) == expected
        if why(client) != "":
            client.set("behind the base", 1)  # one of the base's own place in the log would not do
            full(client)
            # A log that ends before the snapshot would begin anew from it.
            wait_for(lambda: persistence(client)["log_at_risk_bytes"] == 0)
            client = restart(server, True)
        client.set("last", 1)
        assert why(client) == ""
        incremental(client)
        assert restored(server) == digest(client)
        print(followed, "starts went on with the chain")


def test_deletions_after_the_tip():
    """Keys that the log deletes, overwrites and puts in again behind the last link: the next delta has
    just them."""
    with Server(options=LOG) as server:
        client = server.client()
        client.execute_command("SET", "first", 1)
        for i in range(1000):
            client.set(f"k{i}", i)
        full(client)
        client.set("k0", "changed")
        first = incremental(client)
        client.delete("k1", "k2")
        client.set("k2", "again")
        client.rename("k3", "new")
        client.setex("k4", 1000, "x")
        client.set("gone", 1)
        client.delete("gone")
        client = restart(server, True)
        assert why(client) == "" and len(chain(client)) == 2
        assert "The chain of snapshots goes on: 2 links" in server.text()
        link = incremental(client)
        assert link["parent"] == first["id"]
        assert (link["keys"], link["deleted"]) == (3, 2)
        assert restored(server) == digest(client)
        # And once more, by a clean end and a delta that has nothing to say.
        client = restart(server, False)
        link = incremental(client)
        assert (link["keys"], link["deleted"]) == (0, 0) and len(chain(client)) == 4
        assert restored(server) == digest(client)


def test_a_full_one_alone_is_followed():
    """Without a manifest the RDB file is a chain of one link."""
    with Server(options=LOG) as server:
        client = server.client()
        client.set("a", 1)
        client.save()
        client.delete("a")
        client.set("b", 1)
        client = restart(server, True)
        link = incremental(client)
        assert (link["keys"], link["deleted"]) == (1, 1)
        assert restored(server) == digest(client)


def test_not_followed():
    """Where it cannot be told what was changed the next one is a full one, and INFO says why."""
    with Server(options=LOG) as server:
        client = server.client()
        client.set("a", 1)
        client = restart(server, False)
        assert why(client) == "there is no full snapshot yet that it could follow"
        client.set("b", 1)
        full(client)
        rewrite(client)
        client.set("c", 1)
        client = restart(server, True)
        assert why(client) == "the log was rewritten after the last snapshot"
        # What was put in without an effect is in the snapshot, but will not be there after a start.
        client.set("d", 1)
        client.execute_command("DEBUG", "POPULATE", 3)
        full(client)
        client = restart(server, True)
        assert client.exists("key:0") == 0
        assert why(client) == "the last snapshot does not say that it is of one place in the log"
        full(client)
        assert restored(server) == digest(client)
        client.set("e", 1)
        server.terminate()
        os.remove(server.directory / "dump.rdb")
        server.start()
        client = server.client()
        assert why(client) == "there is no full snapshot yet that it could follow"
        full(client)
        client.set("f", 1)
        incremental(client)
        path = server.directory / chain(client)[-1]["file"]
        server.terminate()
        with open(path, "ab") as file:
            file.write(b"x")
        server.start()
        client = server.client()
        assert why(client) == "the chain that there was is broken"
        assert "it is another snapshot than the manifest says" in server.text()


def test_damage_is_found_before_a_link_is_added():
    """A start from the log does not read the chain; the first delta after it does, before it is named: so nothing is
    built on a damaged link."""
    with Server(options=LOG) as server:
        client = server.client()
        client.execute_command("SET", "first", 1)
        for i in range(100):
            client.set(f"k{i}", "v" * 50)
        full(client)
        client.set("k1", "abcdefghijklmnopqrstuvwxyz")
        incremental(client)
        path = server.directory / chain(client)[-1]["file"]
        server.terminate()
        data = bytearray(path.read_bytes())
        data[data.index(b"abcdefghijkl")] ^= 1
        path.write_bytes(data)
        server.start()
        client = server.client()
        assert why(client) == ""
        client.set("k2", 1)
        begin(client, "INCREMENTAL")
        wait_for(lambda: persistence(client)["chain_last_incremental_status"] == "err")
        wait_for(lambda: why(client).startswith("a file of the chain is damaged"))
        assert "link 2 of 2" in persistence(client)["chain_last_incremental_error"]
        full(client)
        client.set("k3", 1)
        incremental(client)
        assert restored(server) == digest(client)


def test_replica_goes_on():
    """A replica's chain, too, whose log is its primary's stream; but not after a client has written to it."""
    with Server(options=LOG) as primary, Server(options=dict(LOG, replicaof=None)) as replica:
        first, client = primary.client(), replica.client()
        client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        wait_for(lambda: client.info("replication").get("master_link_status") == "up")

        def synced():
            wait_for(lambda: digest(client) == digest(first))
        first.set("a", 1)
        synced()
        # The log begins anew behind a full resynchronisation.
        wait_for(lambda: persistence(client)["log_state"] == "on")
        first.set("b", 1)
        synced()
        full(client)
        first.delete("a")
        first.set("c", 1)
        synced()
        replica.options["replicaof"] = f"127.0.0.1 {primary.port}"
        client = restart(replica, False)
        synced()
        assert why(client) == "", replica.text()[-2000:]
        link = incremental(client)
        assert (link["keys"], link["deleted"]) == (1, 1)
        assert restored(replica) == digest(first)
        client.config_set("replica-read-only", "no")
        client.set("mine", 1)
        first.set("d", 1)
        incremental(client)
        client = restart(replica, False)
        assert why(client) == "the last snapshot does not say that it is of one place in the log"
