# SPDX-License-Identifier: BSD-3-Clause
"""holdfast restore: one RDB file out of a chain of snapshots."""
import shutil
import time

import pytest

from harness import Server
from tool import run


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A directory with a chain of three links, and the digest at each."""
    import data
    directory = tmp_path_factory.mktemp("chain")
    digests = []
    with Server(directory=directory) as server:
        raw = server.raw()

        def take(kind):
            links = len(digests)
            # What is done behind a full one may still be running.
            wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", kind) == f"Background {kind.lower()} snapshot started")
            wait_for(lambda: len(raw("HOLDFAST", "SNAPSHOT", "LIST")) == links + 1)
            wait_for(lambda: server.client().info("persistence")["chain_incremental_in_progress"] == 0)
            digests.append(str(raw("DEBUG", "DIGEST")))
        data.fill(raw)
        raw("SET", "doomed", 1)
        take("FULL")
        raw("DEL", "doomed")
        raw("SET", "new", "x" * 5000, "EX", 100000)
        take("INCREMENTAL")
        raw("SELECT", 9)
        raw("RPUSH", "list", *range(1000))
        take("INCREMENTAL")
    return directory, digests


@pytest.mark.parametrize("kind", ["holdfast", "redis"])
@pytest.mark.parametrize("links", [1, 2, 3])
def test_restored(chain, tmp_path, kind, links):
    """What is restored has the data of that link, for redis-server, too."""
    directory, digests = chain
    argument = directory / ("dump.rdb.chain" if links == 2 else "dump.rdb")
    until = [] if links == 3 else ["--until", links]
    out, _ = run("restore", argument, "--to", tmp_path / "dump.rdb", *until)
    assert f"links 1 to {links} of 3".encode() in out
    with Server(kind, directory=tmp_path) as server:
        assert str(server.raw()("DEBUG", "DIGEST")) == digests[links - 1]


def test_damaged(chain, tmp_path):
    """The link is named, nothing is written, and what is before it can be had."""
    directory, digests = chain
    shutil.copytree(directory, tmp_path / "copy")
    manifest = (tmp_path / "copy" / "dump.rdb.chain").read_text()
    name = manifest.splitlines()[3].split(" ")[-1]
    path = tmp_path / "copy" / name
    path.write_bytes(path.read_bytes()[:-20])
    arguments = ("restore", tmp_path / "copy" / "dump.rdb.chain", "--to", tmp_path / "dump.rdb")
    _, errors = run(*arguments, status=1)
    assert name.encode() in errors and b"link 3 of 3" in errors and b"--until 2" in errors
    assert not (tmp_path / "dump.rdb").exists()
    run(*arguments, "--until", 2)
    _, errors = run(*arguments, "--until", 2, status=1)
    assert b"not overwritten" in errors
    with Server(directory=tmp_path) as server:
        assert str(server.raw()("DEBUG", "DIGEST")) == digests[1]
    run("restore", tmp_path / "dump.rdb", "--to", tmp_path / "other.rdb", status=1)
    run("restore", tmp_path / "dump.rdb", status=2)
