# SPDX-License-Identifier: BSD-3-Clause
"""A chain of snapshots that grows, and is merged again and again, under writers who do not stop; and the server that is
killed meanwhile."""
import os
import random
import subprocess
import time

import pytest

from harness import BUILD, Server, wait_for
from test_save_beside import Writers

SEED = int(os.environ.get("HF_SEED", time.time_ns() % 10**9))
OPTIONS = {"save-incremental": "yes", "save-bytes": "20kb", "snapshot-chain-max": 3, "rdbcompression": "no"}


def state(client):
    return client.info("persistence")


def counts(client):
    return [int(client.get(f"a:{number}") or 0) for number in range(3)]


def sample(client):
    """The version of the last snapshot that is done, and what is there, at one moment."""
    pipe = client.pipeline(transaction=True)
    pipe.info("persistence")
    for number in range(3):
        pipe.get(f"a:{number}")
    info, *values = pipe.execute()
    return info["snapshot_version"], [int(value or 0) for value in values]


def test_merged_under_load():
    """The chain never grows by more than one link beyond snapshot-chain-max, and what a full snapshot has replaced goes; each
    decision is logged. At the end all is there, and `holdfast check` finds the chain whole."""
    with Server(options=OPTIONS) as server:
        client = server.client()
        writers = Writers(server)
        most, fulls = 0, set()

        def look():
            now = state(client)
            nonlocal most
            most = max(most, now["chain_links"])
            fulls.add(now["chain_ids"].split(",")[0])
            return now["chain_incrementals_taken"] >= 8 and len(fulls - {""}) >= 3
        wait_for(look)
        writers.join()
        assert 3 <= most <= 4
        assert "The chain of snapshots has 4 links, snapshot-chain-max is 3: a full snapshot will take its place" in server.text()
        assert "Saving (full): the chain has become longer than snapshot-chain-max" in server.text()
        # No more merges, but for one that may be due already; then all is in a snapshot, and none follows.
        client.config_set("snapshot-chain-max", 1000)
        client.config_set("save-bytes", 1)
        client.set("last", 1)

        def is_quiet():
            before = state(client)
            time.sleep(0.5)
            now = state(client)
            return not any(s["rdb_bgsave_in_progress"] or s["rdb_changes_since_last_save"] for s in (before, now)) and \
                now["snapshot_version"] == before["snapshot_version"]
        wait_for(is_quiet)

        def is_settled():
            manifest = (server.directory / "dump.rdb.chain").read_text()
            return all(p.name in manifest for p in server.directory.glob("*.delta")) and \
                all(link in manifest for link in state(client)["chain_ids"].split(","))
        wait_for(is_settled)
        assert not list(server.directory.glob("temp-*"))
        check = subprocess.run([BUILD / "holdfast", "check", server.directory], capture_output=True, text=True, timeout=60)
        assert check.returncode == 0, check.stdout
        server.kill()
        server.start()
        client = server.client()
        writers.compare(client, exact=True)
        assert client.get("last") == b"1"


@pytest.mark.parametrize("how", [1, 2, 3])
def test_killed_under_load(how):
    """Killed at any moment, also while the chain is merged: what is restored is of one instant, and not older than the last
    snapshot that was done; and the chain goes on."""
    rng = random.Random(f"{SEED} {how}")
    print("HF_SEED", SEED)
    server = Server(options=dict(OPTIONS, **{"snapshot-chain-max": how}))
    client = server.client()
    writers = Writers(server)
    samples, end = [(0, [0] * 3)], time.monotonic() + rng.uniform(0.5, 1.5)
    while time.monotonic() < end or samples[-1][0] < 2:
        samples.append(sample(client))
    server.kill()
    writers.join()
    del server.options["save-bytes"]
    server.start()
    client = server.client()
    found, known = counts(client), samples[-1][0]
    # One that was begun behind a sample has it: the next but one after the last that was done then at the latest.
    least = max(s for s in samples if s[0] + 2 <= known)[1]
    for number in range(3):
        assert found[number] == int(client.get(f"b:{number}") or 0) == client.llen(f"l:{number}")
        assert least[number] <= found[number] <= writers.acknowledged[number] + 1
    assert state(client)["snapshot_version"] >= known and not list(server.directory.glob("temp-*"))
    client.set("more", 1)
    assert wait_for(lambda: client.execute_command("HOLDFAST", "SNAPSHOT", "INCREMENTAL")).startswith(b"Background")
    wait_for(lambda: not state(client)["rdb_bgsave_in_progress"] and state(client)["rdb_changes_since_last_save"] == 0)
    server.kill()
    server.start()
    assert server.client().get("more") == b"1" and counts(server.client()) == found
    server.stop()
