# SPDX-License-Identifier: BSD-3-Clause
"""What saving does beyond Redis: chosen versions, the chunk index, limits, BGSAVE CANCEL, progress."""
import os
import shutil
import subprocess

import pytest

from data import fill
from harness import BUILD, Server, build_preloaded
from test_save import info_any, slow_saves, wait_for


def aux_fields(data):
    """The hf-chunk fields and the hf-index that the file ends with."""
    assert data[-52:-42] == b"\xfa\x08hf-index"
    value = data[-41:-9]
    assert len(value) == 32 and data[-42] == 32 and data[-9] == 0xFF
    offset, count = map(int, value.split())
    chunks, at = [], offset
    for _ in range(count):
        assert data[at:at + 10] == b"\xfa\x08hf-chunk"
        size = data[at + 10]
        chunks.append(tuple(map(int, data[at + 11:at + 11 + size].split())))
        at += 11 + size
    assert at == len(data) - 52
    return offset, chunks


def test_chunk_index(tmp_path):
    """The index names every chunk: each begins with its SELECTDB, one behind the other, and the keys
    add up, over several chunks and databases. redis-check-rdb accepts the file, redis-server loads it."""
    with Server(directory=tmp_path) as server:
        raw = server.raw()
        assert raw("SAVE") == "OK"
        empty = (tmp_path / "dump.rdb").read_bytes()
        assert aux_fields(empty)[1] == []
        for first in range(0, 30000, 1000):
            raw.pipeline([("SET", f"key:{i}", os.urandom(300)) for i in range(first, first + 1000)])
        raw.pipeline([("SELECT", 3), ("SET", "a", 1), ("SET", "huge", os.urandom(12 << 20)), ("SELECT", 0)])
        assert raw("CONFIG", "SET", "snapshot-threads", 3) == "OK"
        assert raw("SAVE") == "OK"
        assert info_any(raw)["snapshot_last_sha256"] == "" and int(info_any(raw)["snapshot_last_verify_ms"]) >= 0
        # Who takes snapshots for a chain has it summed up.
        assert raw("HOLDFAST", "SNAPSHOT", "FULL").startswith("Background")
        wait_for(lambda: info_any(raw)["rdb_bgsave_in_progress"] == 0)
        assert info_any(raw)["snapshot_last_sha256"] == subprocess.run(
            ["sha256sum", tmp_path / "dump.rdb"], capture_output=True, text=True, check=True).stdout.split()[0]
        digest = raw("DEBUG", "DIGEST")
    data = (tmp_path / "dump.rdb").read_bytes()
    index, chunks = aux_fields(data)
    assert len(chunks) >= 4 and {db for db, _, _ in chunks} == {0, 3}
    assert [offset for _, offset, _ in chunks] == sorted(offset for _, offset, _ in chunks)
    for db, offset, _ in chunks:
        assert data[offset] == 0xFE and data[offset + 1] == db and data[offset + 2] == 0xFB
    assert sum(keys for db, _, keys in chunks if db == 0) == 30000
    assert sum(keys for db, _, keys in chunks if db == 3) == 2
    assert index > chunks[-1][1]
    assert "looks OK" in subprocess.run(["redis-check-rdb", tmp_path / "dump.rdb"],
                                        capture_output=True, text=True).stdout
    with Server("redis", directory=tmp_path) as redis:
        assert redis.raw()("DEBUG", "DIGEST") == digest


def test_format_versions(tmp_path):
    """Whichever version is written, the data is the same; redis-server loads those up to its own."""
    with Server(directory=tmp_path) as server:
        raw = server.raw()
        fill(raw)
        digest = raw("DEBUG", "DIGEST")
        for version in (7, 8, 9, 10, 11, 12):
            assert raw("CONFIG", "SET", "rdb-format-version", version) == "OK"
            if version == 7:
                # Streams came with version 9: what cannot be written is named, and nothing is.
                assert raw("SAVE").startswith("ERR rdb-format-version 7 cannot express 4 streams ('stream:")
                for db in range(16):
                    raw("SELECT", db)
                    for key in raw("KEYS", "*"):
                        if raw("TYPE", key) == "stream":
                            raw("DEL", key)
                digest = raw("DEBUG", "DIGEST")
            assert raw("SAVE") == "OK"
            data = (tmp_path / "dump.rdb").read_bytes()
            assert data[:9] == b"REDIS%04d" % version
            assert raw("DEBUG", "RELOAD", "NOSAVE") == "OK" and raw("DEBUG", "DIGEST") == digest
            if version in (7, 9):
                other = tmp_path / f"redis-{version}"
                other.mkdir()
                shutil.copy(tmp_path / "dump.rdb", other)
                with Server("redis", directory=other) as redis:
                    assert redis.raw()("DEBUG", "DIGEST") == digest
        assert raw("CONFIG", "SET", "rdb-format-version", 6).startswith("ERR")


def test_cancel(tmp_path):
    """BGSAVE CANCEL: of a running save, of a scheduled one, of none. Nothing is wrong with saving then."""
    with Server(directory=tmp_path) as server:
        raw = server.raw()
        assert raw("BGSAVE", "CANCEL") == "ERR Background saving is currently not in progress or scheduled"
        slow_saves(raw, us=100000)
        assert raw("BGSAVE") == "Background saving started"
        assert raw("BGSAVE", "CANCEL") == "Background saving cancelled"
        wait_for(lambda: info_any(raw)["rdb_bgsave_in_progress"] == 0)
        after = info_any(raw)
        assert after["rdb_last_bgsave_status"] == "ok" and "cancelled" in after["snapshot_last_error"]
        assert after["rdb_changes_since_last_save"] == 100 and after["snapshot_version"] == 0
        assert sorted(p.name for p in tmp_path.iterdir()) == ["holdfast.log"]
        assert raw.pipeline([("MULTI",), ("BGSAVE",), ("BGSAVE", "CANCEL"), ("EXEC",)])[-1] == \
            ["Background saving scheduled", "Scheduled background saving cancelled"]
        assert raw("BGSAVE", "CANCEL", "x") == "ERR syntax error"


def test_memory_limit(tmp_path):
    """A save whose snapshot holds more than is allowed is given up, and says so; the old file stays."""
    with Server(directory=tmp_path, options={"snapshot-memory-limit": "200kb"}) as server:
        raw = server.raw()
        big = [("SET", f"big:{i}", "x" * 3000) for i in range(400)]
        raw.pipeline(big)
        assert raw("SAVE") == "OK"
        old = (tmp_path / "dump.rdb").read_bytes()
        raw("CONFIG", "SET", "rdb-key-save-delay", 100000)
        assert raw("BGSAVE") == "Background saving started"
        raw.pipeline(big)
        wait_for(lambda: info_any(raw)["rdb_bgsave_in_progress"] == 0)
        after = info_any(raw)
        assert after["rdb_last_bgsave_status"] == "err"
        assert "snapshot-memory-limit" in after["snapshot_last_error"]
        assert (tmp_path / "dump.rdb").read_bytes() == old
        assert sorted(p.name for p in tmp_path.iterdir()) == ["dump.rdb", "holdfast.log"]
        raw.pipeline([("CONFIG", "SET", "rdb-key-save-delay", 0), ("CONFIG", "SET", "snapshot-memory-limit", "50%")])
        assert raw("BGSAVE") == "Background saving started"
        wait_for(lambda: info_any(raw)["rdb_last_bgsave_status"] == "ok")


def test_rate_limit_and_progress(tmp_path):
    """A save keeps to its rate, writing and reading again, and tells how it gets on."""
    with Server(directory=tmp_path, options={"snapshot-rate-limit": "2mb"}) as server:
        raw = server.raw()
        raw.pipeline([("SET", f"key:{i}", os.urandom(3000)) for i in range(1000)])
        before = info_any(raw)
        assert before["snapshot_current_phase"] == "none" and before["snapshot_current_eta_ms"] == -1
        assert raw("BGSAVE") == "Background saving started"
        phases, etas = set(), []
        def look():
            now = info_any(raw)
            phases.add(now["snapshot_current_phase"])
            if now["rdb_bgsave_in_progress"]:
                assert now["snapshot_current_keys_done"] + now["snapshot_current_keys_left"] == 1000
                etas.append(now["snapshot_current_eta_ms"])
            return now["rdb_bgsave_in_progress"] == 0
        wait_for(look)
        after = info_any(raw)
        assert {"write", "verify"} <= phases and any(eta > 0 for eta in etas)
        assert after["snapshot_last_write_ms"] >= 500 and after["snapshot_last_verify_ms"] >= 500
        assert after["snapshot_version"] == 1 and after["snapshot_last_keys"] == 1000
        size = (tmp_path / "dump.rdb").stat().st_size
        assert after["snapshot_last_file_size"] == size
        assert after["snapshot_last_data_size"] + after["snapshot_last_overhead_size"] == size
        assert after["snapshot_last_verified_time"] == raw("LASTSAVE")
        assert 0 < float(after["snapshot_time_share_percent"]) <= 100


@pytest.fixture(scope="module")
def garble(tmp_path_factory):
    return build_preloaded("persist/garble.c", tmp_path_factory.mktemp("garble"))


def test_a_disk_that_is_wrong_without_saying_so(garble, tmp_path):
    """`rdb-verify`: what was written is read again, so the last good file stays, of a full snapshot and of an incremental
    one; without it nobody notices, and INFO does not say that anything was verified."""
    flag = tmp_path.parent / (tmp_path.name + "-wrong")
    prefix = ["env", f"LD_PRELOAD={garble}", f"HF_GARBLE={flag}"]
    with Server(directory=tmp_path, plain=True, prefix=prefix, options={"save": "100000 1000000"}) as server:
        raw = server.raw()
        raw.pipeline([("SET", f"key:{i}", os.urandom(300)) for i in range(1000)])
        assert raw("SAVE") == "OK"
        old = (tmp_path / "dump.rdb").read_bytes()
        verified = info_any(raw)["snapshot_last_verified_time"]
        assert verified == raw("LASTSAVE") and "read again and verified in" in server.text()
        raw.pipeline([("SET", f"key:{i}", "new") for i in range(500)])
        flag.touch()
        assert "the file was written, but could not be verified" in raw("SAVE")
        assert raw("BGSAVE") == "Background saving started"
        wait_for(lambda: not info_any(raw)["rdb_bgsave_in_progress"])
        assert info_any(raw)["rdb_last_bgsave_status"] == "err" and raw("SET", "a", 1).startswith("MISCONF")
        wait_for(lambda: raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL") == "Background incremental snapshot started")
        wait_for(lambda: not info_any(raw)["rdb_bgsave_in_progress"])
        assert "could not be verified" in info_any(raw)["chain_last_incremental_error"]
        assert (tmp_path / "dump.rdb").read_bytes() == old and {p.name for p in tmp_path.iterdir()} == {"dump.rdb", "holdfast.log"}
        raw("CONFIG", "SET", "rdb-verify", "no")
        assert raw("SAVE") == "OK" and info_any(raw)["snapshot_last_verified_time"] == verified
        assert "; not verified)" in server.text()
        check = subprocess.run([BUILD / "holdfast", "check", tmp_path / "dump.rdb"], capture_output=True, text=True, timeout=60)
        assert check.returncode == 1 and "offset" in check.stdout + check.stderr
        flag.unlink()
        raw("CONFIG", "SET", "rdb-verify", "yes")
        assert raw("SAVE") == "OK" and raw("SET", "a", 1) == "OK"
