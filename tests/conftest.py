# SPDX-License-Identifier: BSD-3-Clause
import os
import pathlib
import random
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


@pytest.fixture
def seed():
    """The seed of a random test: from HF_SEED, or the clock; shown when the test fails."""
    value = int(os.environ.get("HF_SEED", time.time_ns() % (1 << 32)))
    print(f"HF_SEED={value}")
    return value


@pytest.fixture
def rng(seed):
    return random.Random(seed)


@pytest.fixture
def server():
    from harness import Server
    # HF_SUBJECT=redis shows whether a test that fails asks for more than redis-server gives.
    with Server(os.environ.get("HF_SUBJECT", "holdfast")) as s:
        yield s


@pytest.fixture(scope="module")
def holdfast():
    """One server for all tests of a file."""
    from harness import Server
    with Server() as s:
        yield s


@pytest.fixture
def raw(holdfast):
    """A connection to it; it is empty."""
    from harness import emptied
    yield from emptied(holdfast)


@pytest.fixture
def redis_server():
    from harness import Server
    with Server("redis") as s:
        yield s
