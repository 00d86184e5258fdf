# SPDX-License-Identifier: BSD-3-Clause
"""recovery-fallback where what there is beside the log is a chain of snapshots: which of the two a start takes when the
log, the chain or both are damaged, what it says of that, and that it goes on from there."""
import shutil

import pytest

from harness import Server, wait_for
from test_chain import begin, digest, full, incremental
from test_log import info
from test_recovery import tree

ON = {"appendonly": "yes", "appendfsync": "always", "save": ""}
FALLBACK = {**ON, "recovery-fallback": "snapshot"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A directory with a log, and a chain of three links that ends before the log does; and what there was at the end of
    each link, in the middle of the last one, and at the end of the log, with the LSN."""
    directory = tmp_path_factory.mktemp("original")
    at = {}
    server = Server(options=ON, directory=directory)
    try:
        client = server.client()

        def note(name):
            at[name] = (digest(client), int(info(server.raw())["log_lsn"]))

        for i in range(50):
            client.set(f"x:{i}", i)
        full(client)
        note(1)
        client.set("a", "<value a>")
        client.delete("x:0")
        incremental(client)
        note(2)
        client.set("b", "<value b>")
        note("between")
        client.set("c", "<value c>")
        incremental(client)
        note(3)
        client.set("d", "<value d>")
        note("end")
    finally:
        server.kill()
    return directory, at


def incr(directory):
    return directory / "appendonlydir" / "appendonly.aof.1.incr.aof"


def delta(directory, number):
    """The file of a link, by the manifest; the second one is the first delta."""
    return directory / (directory / "dump.rdb.chain").read_text().splitlines()[number].split()[-1]


def flip(path, what):
    data = bytearray(path.read_bytes())
    data[data.index(what) + 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path, what):
    """It ends within this."""
    path.write_bytes(path.read_bytes()[:path.read_bytes().index(what) + 3])


def log_damaged(d):
    flip(incr(d), b"\r\nx:20\r\n")


def log_damaged_late(d):
    flip(incr(d), b"<value c>")


def log_missing(d):
    incr(d).unlink()


def log_ends_early(d):
    cut(incr(d), b"<value c>")


def log_ends_earlier(d):
    cut(incr(d), b"<value a>")


def last_damaged(d):
    flip(delta(d, 3), b"<value c>")


def last_missing(d):
    delta(d, 3).unlink()


def first_damaged(d):
    flip(delta(d, 2), b"<value a>")


def first_missing(d):
    delta(d, 2).unlink()


CHAIN, PREFIX, LOG = "What was changed since then is lost", "What came after it is missing", "starting from the log"
CASES = [
    ([log_damaged], 3, [CHAIN, "dump.rdb and 2 incremental snapshots", "Behind its damage it goes on up to"]),
    ([log_missing], 3, [CHAIN, "dump.rdb and 2 incremental snapshots"]),
    ([log_damaged, last_damaged], 2, [CHAIN, PREFIX, "dump.rdb and 1 incremental snapshot,"]),
    ([log_damaged_late, last_damaged], 2, [CHAIN, PREFIX, "that is more than there is now, and `holdfast repair`"]),
    ([log_missing, first_missing], 1, [CHAIN, PREFIX]),
    ([log_ends_earlier, last_damaged], 2, [PREFIX, "hold all that is in the log"]),
    ([log_ends_early, last_damaged], "between", [LOG, "go beyond that, but are damaged"]),
    ([log_ends_early, last_missing], "between", [LOG, "go beyond that, but are damaged"]),
    ([log_ends_early, first_damaged], "between", [LOG, "go beyond that, but are damaged"]),
    ([log_ends_earlier, first_missing], 1, [LOG, "go beyond that, but are damaged"]),
]


@pytest.mark.parametrize("damages, kept, words", CASES, ids=[" ".join(d.__name__ for d in case[0]) for case in CASES])
def test_chain(original, tmp_path, damages, kept, words):
    """Refused at first, and nothing is changed by that; then what has most is taken, which the log names by its LSN. What
    is written from there on is there after a kill, and the next snapshot, with its chain, holds just that as well."""
    work, (want, lsn) = tmp_path / "work", original[1][kept]
    shutil.copytree(original[0], work, ignore=shutil.ignore_patterns("*.log", "*.sock"))
    for damage in damages:
        damage(work)
    before = tree(work)
    server = Server(directory=work, options=ON, wait=False)
    assert server.process.wait(60) == 1 and "`recovery-fallback snapshot` starts" in server.text(), server.text()
    server.kill()
    assert tree(work) == before
    with Server(directory=work, options=FALLBACK) as server:
        client, text = server.client(), server.text()
        assert digest(client) == want, text
        assert f"(LSN {lsn})" in text and all(word in text for word in words), text
        client.set("new", 1)
        client.delete("x:1")
        want = digest(client)
        server.kill()
        server.options = ON
        server.start()
        client = server.client()
        assert digest(client) == want
        begin(client, "INCREMENTAL")
        wait_for(lambda: (i := info(server.raw()))["rdb_bgsave_in_progress"] == i["chain_incremental_in_progress"] == "0")
        server.kill()
        shutil.rmtree(work / "appendonlydir")
        server.start()
        assert digest(server.client()) == want


def test_chain_is_not_followed_over_a_gap(original, tmp_path):
    """With the log whole nothing of the chain is needed; but where a link in its middle is missing the next snapshot does
    not follow the last one, which can be read."""
    work = tmp_path / "work"
    shutil.copytree(original[0], work, ignore=shutil.ignore_patterns("*.log", "*.sock"))
    first_missing(work)
    with Server(directory=work, options=ON) as server:
        client = server.client()
        assert digest(client) == original[1]["end"][0]
        assert info(server.raw())["chain_next_is_full_as"] == "the chain that there was is broken"
