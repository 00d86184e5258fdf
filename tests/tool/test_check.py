# SPDX-License-Identifier: BSD-3-Clause
"""holdfast check and holdfast info."""
import json
import sys

import pytest

import harness
from tool import run_in_memory, run

sys.path.insert(0, str(harness.ROOT / "tests/persist"))
from rdb_bytes import File, length, listpack, string  # noqa: E402


@pytest.mark.parametrize("kind", ["redis", "holdfast"])
def test_sound_files(files, kind):
    """What redis-server and Holdfast have written is sound, and counted right."""
    keys = len(files["contents"]) - 1
    out, _ = run("check", files[kind])
    assert f": sound, RDB version 10, {keys} keys{', 4 chunks' if kind == 'holdfast' else ''}\n".encode() in out
    info = json.loads(run("info", files[kind], "--json")[0])
    assert info["keys"] == keys and info["checksum"] is True and info["rdb_version"] == 10
    assert info["chunks"] == (4 if kind == "holdfast" else 0) and "hf-chunk" not in dict(info["fields"])
    assert {d["db"]: d["keys"] for d in info["databases"]} == {0: 321, 1: 20, 9: 18, 15: 13}
    assert info["databases"][0]["types"]["string"]["keys"] == 312
    assert sum(d["expires"] for d in info["databases"]) == sum(1 for at, v in files["contents"].items() if at != "digest" and v[1] > 0)
    assert dict(info["fields"])["redis-ver"].startswith("7.")
    text = run("info", files[kind])[0].decode()
    assert f"\nkeys: {keys}\n" in text and "\ndb9: keys=18," in text


def test_damage_at_random_offsets(files, tmp_path, rng):
    """One wrong byte anywhere, or a cut: never called sound, always an offset, never a crash."""
    good = files["redis"].read_bytes()
    for i in range(25):
        at = rng.randrange(9, len(good))
        bad = good[:at] if i % 5 == 0 else good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1:]
        path = tmp_path / "bad.rdb"
        path.write_bytes(bad)
        out, _ = run("check", path, status=1)
        assert out.startswith(f"{path}: offset ".encode()) and b"keys before it are sound" in out, (at, out)


def test_damage_names_offset_and_key(tmp_path):
    """The offset of the damage, the key that it is in, and where the key's record begins."""
    f = File(10).select(0).key(0, b"good", string(b"v"))
    begins = len(f.data)
    f.key(17, b"bad key", string(listpack([b"a", b"not a score"])))
    path = tmp_path / "bad.rdb"
    path.write_bytes(f.end())
    out = run("check", path, status=1)[0].decode()
    assert "a score is not a number" in out or "holds no sorted set" in out
    assert f"(in key bad key of database 0, whose record begins at offset {begins}); 1 keys before it" in out


TWICE = File(10).select(0).key(0, b"k", string(b"1")).select(1).key(0, b"k", string(b"1"))


def test_keys_twice(tmp_path):
    """A key may be in two databases, but not two times in one; also when the set of keys does not fit in memory."""
    path = tmp_path / "twice.rdb"
    path.write_bytes(File(10).raw(TWICE.data[9:]).end())
    run("check", path)
    path.write_bytes(File(10).raw(TWICE.data[9:]).key(0, b"k", string(b"2")).end())
    assert b"a key occurs twice in database 1" in run("check", path, status=1)[0]
    keys = [b"key %d" % i for i in range(20000)]
    body = b"".join(b"\0" + string(k) + string(b"v") for k in keys)
    path.write_bytes(File(10).select(0).raw(body).end())
    assert b"20000 keys" in run("check", "--memory", 0, path)[0]
    for twice in (keys[0], keys[9999], keys[19999]):
        path.write_bytes(File(10).select(0).raw(body).key(0, twice, string(b"v")).end())
        out = run("check", "--memory=0", path, status=1)[0]
        assert b"a key occurs twice" in out and twice in out


def test_index_of_chunks(files, tmp_path):
    """An index that says something else than the file is told, and is no damage: servers then do without it."""
    good = files["holdfast"].read_bytes()
    offset = int(good[good.rindex(b"hf-index") + 9:].split()[0])
    value = good[offset:].split(b"hf-chunk")[2][1:]
    text = value[:value.index(b"\xfa")]
    db, begins, keys = map(int, text.split())
    path = tmp_path / "index.rdb"
    path.write_bytes(good[:offset] + good[offset:-8].replace(text, b"%d %d %d" % (db, begins, keys + 1)) + bytes(8))
    out, _ = run("check", path)
    assert b"its index of chunks is wrong" in out and b"sound" in out


def test_several_files_and_what_is_none(files, tmp_path):
    """Each file has its line; one that is damaged, missing or something else makes the status 1."""
    other = tmp_path / "other"
    other.write_bytes(b"this is no RDB file at all")
    out, _ = run("check", files["redis"], other, tmp_path / "missing", status=1)
    lines = out.decode().splitlines()
    assert len(lines) == 3 and "sound" in lines[0] and "not an RDB file" in lines[1] and "No such file" in lines[2]
    for path in (other, tmp_path / "missing"):
        for command in (["info"], ["report"], ["export", "--format", "jsonl"]):
            assert str(path).encode() in run(*command, path, status=1)[1]
        assert str(path).encode() in run("diff", path, files["redis"], status=2)[1]


def test_old_encodings(tmp_path):
    """Values in encodings of every age are passed over, and read, alike."""
    from test_rdb_versions import version_1_to_6, version_10
    for f in (version_1_to_6(1), version_1_to_6(6), version_10()):
        path = tmp_path / f"v{f.version}.rdb"
        path.write_bytes(f.end())
        run("check", path)
        keys = json.loads(run("info", "--json", path)[0])["keys"]
        assert keys == json.loads(run("report", "--json", path)[0])["total"]["keys"] > 0


def test_no_end_of_databases(tmp_path):
    """A file that names databases without end does not make the tool grow; 1024 are counted."""
    path = tmp_path / "dbs.rdb"
    body = b"".join(b"\xfe" + length(i) + b"\0" + string(b"k") + string(b"v") for i in range(1025))
    path.write_bytes(File(10).raw(body).end())
    assert b"1025 keys" in run("check", path)[0]
    for command in ("info", "report"):
        assert b"more than 1024 databases" in run(command, path, status=1)[1]
    path.write_bytes(File(10).raw(body[:-len(b"\xfe\x44\x00\0\1k\1v")]).end())
    for command in ("info", "report"):
        assert json.loads(run(command, "--json", path)[0])["databases"][0]["keys"] == 1


def test_wrong_arguments(files):
    """They are refused with status 2 and a line on how it is used; what is unknown is named."""
    assert b"'nothing' is no command. They are: check repair log" in run("nothing", status=2)[1]
    for args, said in ((["check", "--fast", "f"], b"check: the option --fast is unknown"),
                       (["info", "f", "-x"], b"info: the option -x is unknown"),
                       (["info", "--json=1", "f"], b"info: the option --json=1 is unknown, or takes no value"),
                       (["diff", "a", "b", "--memory"], b"diff: the option --memory needs a value"),
                       (["restore", "c", "--to", "f", "--until", "0"], b"--until takes a number of links, from 1"),
                       (["log", "a", "b"], b"log: which directory, or which file of a log?")):
        errors = run(*args, status=2)[1]
        assert said in errors and b"usage: holdfast" in errors, errors
    for args in ([], ["check"], ["info"], ["info", "a", "b"], ["report", "--top", "x", "f"],
                 ["report", "--html"], ["export", files["redis"]], ["export", "--format", "xml", "f"],
                 ["export", "--format", "csv", "--type", "tree", "f"], ["diff", "a"], ["check", "--fast", "f"]):
        assert b"usage: holdfast" in run(*args, status=2)[1]
    assert b"diff OLD NEW" in run("diff", "--help")[0] and b"report FILE" not in run("diff", "--help")[0]
    assert b"usage: holdfast" in run("--help")[0] and run("--version")[0].startswith(b"holdfast ")


def test_progress_only_on_a_terminal(files):
    """On a terminal the progress is drawn and wiped away; in a pipe there is none of it."""
    import os
    import pty
    import subprocess
    assert run("check", files["redis"])[1] == b""
    master, slave = pty.openpty()
    big = files["redis"].parent / "big.rdb"
    big.write_bytes(File(10).select(0).key(0, b"big", string(bytes(20 << 20))).raw(b"\xff" + bytes(8)).data)
    process = subprocess.Popen([str(harness.BUILD / "holdfast"), "check", str(big)], stdout=subprocess.PIPE, stderr=slave)
    out = process.communicate(timeout=120)[0]
    os.close(slave)
    drawn = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        drawn += piece
    os.close(master)
    assert process.returncode == 0 and b" 1 keys" in out, (out, drawn[-500:])
    assert b" %  " in drawn and b" left\x1b[K" in drawn and drawn.endswith(b"\r\x1b[K"), drawn[-300:]


def test_constant_memory(tmp_path):
    """A file of 60 MB takes less than 40 MB, whatever is asked of it."""
    path = tmp_path / "large.rdb"
    value = bytes(range(256)) * 4
    with open(path, "wb") as f:
        f.write(File(10).select(0).data)
        for i in range(60000):
            f.write(b"\0" + string(b"part%d:key:%d" % (i % 50000, i)) + string(value + b"%d" % i))
        f.write(b"\xff" + bytes(8))
    assert path.stat().st_size > 60e6
    for args in (["check"], ["info"], ["report"], ["report", "--json"], ["export", "--format", "jsonl"],
                 ["export", "--format", "resp"], ["export", "--format", "csv"], ["diff", path]):
        run_in_memory(40 << 20, *args, path)


def test_the_limit_of_memory_is_one(tmp_path):
    """The limit that the test above sets is real: a value that is larger than it cannot be read."""
    path = tmp_path / "one.rdb"
    path.write_bytes(File(10).select(0).key(0, b"k", string(bytes(50 << 20))).raw(b"\xff" + bytes(8)).data)
    run("check", path, plain=True)
    with pytest.raises(AssertionError):
        run_in_memory(40 << 20, "check", path)


def test_file_of_a_log(tmp_path):
    """What is a log's, and nothing by itself, is said to be that."""
    with harness.Server("redis", options={"appendonly": "yes"}, directory=tmp_path) as server:
        server.client().set("a", 1)
    for path in (tmp_path / "appendonlydir").iterdir():
        status = 0 if path.suffix == ".rdb" else 1
        assert (b"takes its directory" in run("check", path, status=status)[0]) == bool(status)
    assert b"2 files" in run("check", tmp_path / "appendonlydir")[0]


def test_a_log_without_its_manifest(tmp_path):
    """A start refuses such a directory, so it is not sound, though the RDB file beside it is."""
    with harness.Server(options={"appendonly": "yes"}, directory=tmp_path) as server:
        server.client().set("a", 1)
        server.client().save()
    assert b"closed in order" in run("check", tmp_path)[0]
    (tmp_path / "appendonlydir/appendonly.aof.manifest").unlink()
    for directory in (tmp_path, tmp_path / "appendonlydir"):
        assert b"holds 1 files of a log, but no manifest" in run("check", directory, status=1)[0]
        assert b"but no manifest" in run("log", directory, status=1)[1]
        assert b"but no manifest" in run("repair", directory, status=1)[1]
    # Without any incremental there is no log yet: the RDB files are all that there is.
    (tmp_path / "appendonlydir/appendonly.aof.1.incr.aof").unlink()
    run("check", tmp_path)


def test_a_directory_in_which_a_server_is_writing(tmp_path):
    """What is not finished is nothing that a start would read: the directory is sound; a file that has another name is not."""
    with harness.Server(directory=tmp_path) as server:
        server.client().set("a", 1)
        server.client().save()
    (tmp_path / "temp-1234-7.rdb").write_bytes((tmp_path / "dump.rdb").read_bytes()[:50])
    (tmp_path / "temp-sync-1234.rdb").touch()
    out, _ = run("check", tmp_path)
    assert b"dump.rdb: sound" in out and b"temp-" not in out
    (tmp_path / "temp-mine.rdb").touch()
    assert b"temp-mine.rdb: offset 0" in b"".join(run("check", tmp_path, status=1))
