# SPDX-License-Identifier: BSD-3-Clause
import pathlib
import shutil
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The same data of every type and encoding, saved by redis-server and by Holdfast, and their digest."""
    import data
    from harness import Server
    made = {}
    for kind in ("redis", "holdfast"):
        with Server(kind) as server:
            raw = server.raw()
            data.fill(raw)
            assert raw("SAVE") == "OK"
            made[kind] = tmp_path_factory.mktemp(kind) / "dump.rdb"
            shutil.copy(server.directory / "dump.rdb", made[kind])
            made["digest"] = str(raw("DEBUG", "DIGEST"))
            made["contents"] = data.contents(raw)
    return made


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """A file of redis-server with the data of sample.py."""
    import sample
    from tool import saved
    return saved(tmp_path_factory.mktemp("shop") / "shop.rdb", sample.commands(keys=600, now_ms=int(time.time() * 1000)), kind="redis")
