# SPDX-License-Identifier: BSD-3-Clause
"""holdfast report, export and diff on a chain of snapshots: the same as on the RDB file that `holdfast restore` makes of
it, in bounded memory."""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import pytest

from harness import Server
from tool import run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "persist"))
from test_chain import full, incremental, write_randomly  # noqa: E402

SEED = int(os.environ.get("HF_SEED", time.time_ns() % 2**32))


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A directory with a chain of six links in which keys, whole databases and libraries came, went and changed places;
    and the RDB files that are restored of all of it and of its first three links."""
    rng = random.Random(SEED)
    print("HF_SEED", SEED)
    directory = tmp_path_factory.mktemp("chain")
    with Server(directory=directory, options={"snapshot-chain-max": 100}) as server:
        client = server.client()
        write_randomly(client, rng, 2500)
        pipe = client.pipeline(transaction=False)
        for i in range(6000):
            pipe.set(f"many:{i}", i)
        pipe.execute()
        client.execute_command("FUNCTION", "LOAD", "#!lua name=gone\nredis.register_function('f', function() return 1 end)")
        full(client)
        for link in range(5):
            write_randomly(client, rng, 300)
            for i in range(0, 6000, 3 + link):
                client.set(f"many:{i}", f"{link} {i}") if i % 2 else client.delete(f"many:{i}")
            if link in (1, 3):
                client.execute_command("SWAPDB", 0, 1 + link // 2)
            if link == 2:
                client.execute_command("SELECT", 2)
                client.execute_command("FLUSHDB")
                client.set("after the flush", 1)
                client.execute_command("SELECT", 0)
                client.execute_command("FUNCTION", "DELETE", "gone")
                client.execute_command("FUNCTION", "LOAD", "#!lua name=kept\nredis.register_function('g', function() return 1 end)")
            incremental(client)
    made = tmp_path_factory.mktemp("restored")
    run("restore", directory / "dump.rdb.chain", "--to", made / "all.rdb")
    run("restore", directory / "dump.rdb.chain", "--to", made / "three.rdb", "--until", 3)
    return directory, made


def in_order(out):
    """The lines of an export; members of large sets, hashes and their like come in an order that each run chooses."""
    lines = out.splitlines()
    if lines and lines[0].startswith(b"{"):
        values = [json.loads(line) for line in lines]
        for value in values:
            if value["type"] == "set":
                value["value"].sort(key=str)
        lines = [json.dumps(value, sort_keys=True) for value in values]
    return sorted(lines)


# --memory 0 is the least: the chain's keys do not fit, and come in several rounds.
@pytest.mark.parametrize("memory", [256, 0])
def test_export(chain, memory):
    """Each key once, as it is at the end; in the formats and with the choices of a file."""
    directory, made = chain
    for options in (["--format", "jsonl"], ["--format", "csv"], ["--format", "jsonl", "--db", 1, "--type", "string"],
                    ["--format", "jsonl", "--key", "many:1*"]):
        whole = run("export", made / "all.rdb", *options)[0]
        out, errors = run("export", directory / "dump.rdb.chain", *options, "--memory", memory)
        assert in_order(out) == in_order(whole) and errors == b""
        assert whole.count(b"\n") > 100


def test_export_is_loaded(chain):
    """As commands for a server, with the directory as what is named."""
    directory, made = chain
    with Server() as server:
        commands = run("export", directory, "--format", "resp")[0]
        done = subprocess.run(["redis-cli", "-s", server.socket_path, "--pipe"], input=commands, capture_output=True,
                              timeout=60)
        assert b"errors: 0" in done.stdout, done.stdout
        mine = str(server.client().execute_command("DEBUG", "DIGEST"))
    whole = pathlib.Path(made / "digest")
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    shutil.copy(made / "all.rdb", whole / "dump.rdb")
    with Server(directory=whole) as server:
        assert str(server.client().execute_command("DEBUG", "DIGEST")) == mine


@pytest.mark.parametrize("memory", [256, 0])
def test_diff(chain, memory):
    """A chain has no difference to what is restored of it, on either side; and the same ones as it to another file."""
    directory, made = chain
    manifest = directory / "dump.rdb.chain"
    for a, b in ((manifest, made / "all.rdb"), (made / "all.rdb", manifest), (manifest, directory))[:3 if memory else 1]:
        assert b"0 added, 0 removed, 0 changed" in run("diff", a, b, "--memory", memory)[0]
    for options in ([], ["--values"], ["--json", "--values"]) if memory else (["--values"],):
        expected = run("diff", made / "three.rdb", made / "all.rdb", *options, status=1)[0]
        out = run("diff", made / "three.rdb", manifest, *options, "--memory", memory, status=1)[0]
        assert sorted(out.splitlines()) == sorted(expected.splitlines())
        expected = run("diff", made / "all.rdb", made / "three.rdb", *options, status=1)[0]
        out = run("diff", manifest, made / "three.rdb", *options, "--memory", memory, status=1)[0]
        assert sorted(out.splitlines()) == sorted(expected.splitlines())


@pytest.mark.parametrize("memory", [256, 0])
def test_report(chain, memory, tmp_path):
    """The same keys and memory; the size is that of all files."""
    directory, made = chain
    of_file = json.loads(run("report", made / "all.rdb", "--json")[0])
    of_chain = json.loads(run("report", directory / "dump.rdb.chain", "--json", "--memory", memory)[0])
    size = sum(p.stat().st_size for p in directory.glob("dump.rdb*") if p.suffix != ".chain")
    assert of_chain["size_bytes"] == size

    def counts(report):
        return {name: sorted((row["name"], row["keys"], row["elements"]) for row in report[name])
                for name in ("types", "databases", "prefixes")}
    assert counts(of_chain) == counts(of_file)
    assert of_chain["total"]["keys"] == of_file["total"]["keys"]
    biggest = [sorted((key["memory_bytes"], key["type"]) for key in report["biggest"]) for report in (of_chain, of_file)]
    assert biggest[0][-1] == biggest[1][-1]
    run("report", directory, "--html", tmp_path / "page.html")
    assert b"many:" in (tmp_path / "page.html").read_bytes()


def test_what_is_named(chain, tmp_path):
    """The RDB file alone is read as it is, with a note; a delta alone is refused; so is a directory with nothing or several."""
    directory, made = chain
    out, errors = run("export", directory / "dump.rdb", "--format", "jsonl")
    assert b"without the 5 incremental snapshots that follow it" in errors and b"dump.rdb.chain" in errors
    assert out.count(b"many:") == 6000
    delta = next(directory.glob("*.delta"))
    assert b"the manifest" in run("report", delta, status=1)[1]
    assert b"neither a chain of snapshots nor an RDB file" in run("report", tmp_path, status=1)[1]
    shutil.copy(made / "all.rdb", tmp_path / "one.rdb")
    assert in_order(run("export", tmp_path, "--format", "csv")[0]) == in_order(run("export", made / "all.rdb", "--format", "csv")[0])
    assert run("info", tmp_path)[0] == run("info", tmp_path / "one.rdb")[0]
    assert run("info", directory)[0] == run("info", directory / "dump.rdb.chain")[0]
    shutil.copy(made / "all.rdb", tmp_path / "two.rdb")
    assert b"which one?" in run("info", tmp_path, status=1)[1]
    run("restore", directory, "--to", tmp_path / "of the directory.rdb")
    assert b"0 added, 0 removed, 0 changed" in run("diff", tmp_path / "of the directory.rdb", made / "all.rdb")[0]
    (tmp_path / "of the directory.rdb").unlink()
    assert b"which one?" in run("diff", tmp_path, made / "all.rdb", status=2)[1]


def test_damaged(chain, tmp_path):
    """A delta that is damaged, cut off, another one or missing is named, and nothing of the chain is printed."""
    directory, _ = chain
    name = [line.split()[-1] for line in (directory / "dump.rdb.chain").read_text().splitlines() if line.startswith("delta")][2]
    good = (directory / name).read_bytes()
    other = next(p for p in directory.glob("*.delta") if p.name != name).read_bytes()
    changed = bytearray(good)
    changed[len(good) // 2] ^= 4
    for i, bad in enumerate((bytes(changed), good[:-20], other, None)):
        copy = tmp_path / str(i)
        shutil.copytree(directory, copy)
        if bad is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(bad)
        out, errors = run("export", copy / "dump.rdb.chain", "--format", "jsonl", status=1)
        assert b"link 4 of 6" in errors, errors
        assert b"many" not in out
        assert run("diff", copy, copy, status=2)[1]
    copy = tmp_path / "past"
    shutil.copytree(directory, copy)
    with Server(directory=tmp_path) as server:
        server.client().set("newer", 1)
        server.client().save()
    shutil.copy(tmp_path / "dump.rdb", copy / "dump.rdb")
    out, errors = run("export", copy, "--format", "jsonl")
    assert b"of an earlier snapshot" in errors and out.count(b"\n") == 1
