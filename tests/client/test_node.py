# SPDX-License-Identifier: BSD-3-Clause
"""Node clients doing real work: ioredis (work.js), node-redis (services.js) and BullMQ (jobs.js). `./dev test` installs them; by hand:
npm ci in this directory."""
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent


# All of the program, against one server.
@pytest.mark.parametrize("library, program", [("ioredis", "work.js"), ("redis", "services.js"), ("bullmq", "jobs.js")])
def test_node(server, library, program):
    assert (HERE / "node_modules" / library).is_dir(), "npm ci in tests/client has not been run"
    run = subprocess.run(["node", program, str(server.port)], cwd=HERE, capture_output=True, text=True, timeout=400)
    assert run.returncode == 0 and run.stdout == "done\n", run.stdout + run.stderr
