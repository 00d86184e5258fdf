# SPDX-License-Identifier: BSD-3-Clause
"""A Node client, ioredis, doing real work (work.js). `./dev test` installs it; by hand: npm ci in this directory."""
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent


# All of work.js, on two connections to one database.
def test_ioredis(server):
    assert (HERE / "node_modules/ioredis").is_dir(), "npm ci in tests/client has not been run"
    run = subprocess.run(["node", "work.js", str(server.port)], cwd=HERE, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and run.stdout == "done\n", run.stdout + run.stderr
