# SPDX-License-Identifier: BSD-3-Clause
"""holdfast restore: one RDB file out of a chain of snapshots; and what it says to a log."""
import json
import shutil

import pytest

from harness import Server, wait_for
from tool import run


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


def test_check_and_info(chain, tmp_path):
    """A chain is checked whole, by its manifest, by one of its deltas or with its directory. The broken link is named, and
    up to where the chain can be restored; each file of it may be the one."""
    directory, _ = chain
    with (directory / "dump.rdb.chain").open() as f:
        lines = [line.split() for line in f.read().splitlines()[1:4]]
    names = [line[9] for line in lines]
    for argument in (directory / "dump.rdb.chain", directory / names[1], directory):
        out, _ = run("check", argument)
        for number, name in enumerate(names, 1):
            assert f"link {number} of 3, {name}: sound".encode() in out
        assert b"a chain of 3 links" in out
    links = json.loads(run("info", "--json", directory / "dump.rdb.chain")[0])["links"]
    assert [link["id"] for link in links] == [line[1] for line in lines]
    assert [link["sha256"] for link in links] == [line[8] for line in lines]
    assert [link["deleted"] for link in links] == [0, 1, 0]
    assert run("info", directory / "dump.rdb.chain")[0].count(b"sha256=") == 3
    delta = json.loads(run("info", "--json", directory / names[2])[0])
    assert abs(delta.pop("time_ms") - links[2].pop("time_ms")) <= 1000 and delta == links[2]
    for other in ("report", "export --format resp"):
        run(*other.split(), directory / "dump.rdb.chain")
        _, errors = run(*other.split(), directory / names[1], status=1)
        assert b"the manifest (*.chain) names all of a chain" in errors
    for number, name in enumerate(names):
        for how in ("byte", "short", "gone"):
            copy = tmp_path / f"{number}{how}"
            shutil.copytree(directory, copy)
            data = bytearray((copy / name).read_bytes())
            data[60] ^= 1
            if how == "gone":
                (copy / name).unlink()
            else:
                (copy / name).write_bytes(data if how == "byte" else data[:60])
            for argument in (copy / "dump.rdb.chain", copy):
                out, _ = run("check", argument, status=1)
                text = out.decode()
                assert f"link {number + 1} of 3, {name}: BROKEN" in text, text
                if number:
                    assert f"what can be restored: links 1 to {number}, up to 2" in text
                    assert f"(LSN {lines[number - 1][3]})" in text
                else:
                    assert "what can be restored: nothing" in text
    # The manifest; a delta that nobody names; a chain of the past; no chain at all.
    copy = tmp_path / "manifest"
    shutil.copytree(directory, copy)
    manifest = copy / "dump.rdb.chain"
    manifest.write_text(manifest.read_text().replace("delta", "Delta", 1))
    assert b"checksum" in run("check", manifest, status=1)[0]
    run("check", copy, status=1)
    manifest.unlink()
    assert b"no manifest that names it" in run("check", copy / names[1])[0]
    assert b"sound" in run("check", copy)[0]
    run("restore", directory / "dump.rdb", "--to", copy / "dump.rdb", status=1)
    (copy / "dump.rdb").unlink()
    run("restore", directory / "dump.rdb", "--to", copy / "dump.rdb")
    shutil.copy(directory / "dump.rdb.chain", manifest)
    assert b"an earlier snapshot" in run("check", manifest)[0]
    run("check", copy)


def test_a_backup(tmp_path):
    """A backup by BACKUP is a log: nothing takes its base for all of the data; a server makes one file of it."""
    with Server(directory=tmp_path) as server:
        raw = server.raw()
        raw("SET", "before", 1)
        assert raw("BACKUP", "START") == "OK"
        wait_for(lambda: b"incrementing" in raw("BACKUP", "STATUS"))
        raw("SET", "during", 2)
        assert raw("BACKUP", "SEAL") == "OK"
        digest = str(raw("DEBUG", "DIGEST"))
        raw("SET", "after", 3)
        backup = tmp_path / "backupdir"
        for command in (["restore", backup, "--to", tmp_path / "all.rdb"], ["report", backup], ["info", backup],
                        ["export", backup, "--format", "csv"]):
            out, errors = run(*command, status=1)
            assert b"this is a log, whose commands only a server can execute" in errors and out == b"", command
        run("diff", backup, backup, status=2)
        (tmp_path / "data").mkdir()
        shutil.copytree(backup, tmp_path / "data" / "appendonlydir")
        assert b"this is a log" in run("report", tmp_path / "data", status=1)[1]
        for file in backup.iterdir():
            if file.suffix != ".rdb":
                assert b"a file of a log" in run("report", file, status=1)[1]
        with Server(directory=tmp_path / "data", options={"appendonly": "yes"}) as other:
            assert str(other.raw()("DEBUG", "DIGEST")) == digest
            assert other.raw()("SAVE") == "OK"
        out, _ = run("export", tmp_path / "data" / "dump.rdb", "--format", "csv")
        assert b"during" in out and b"after" not in out
        _, errors = run("restore", tmp_path / "data" / "dump.rdb", "--to", tmp_path / "all.rdb", status=1)
        assert b"no chain of snapshots" in errors
