# SPDX-License-Identifier: BSD-3-Clause
"""A vote on a disk that is slow (tests/persist/disk.c, preloaded): nobody but who asked for it waits."""
import os
import pathlib
import subprocess
import time

from harness import Server, Simple, free_port
from net import info, wait_for

DISK = pathlib.Path(__file__).resolve().parents[1] / "persist" / "disk.c"


def test_a_vote_waits_for_the_disk(tmp_path):
    """It binds the node at once, and is told of when it is on the disk and not before; meanwhile the server serves."""
    library, word = tmp_path / "disk.so", tmp_path / "disk"
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", library, DISK, "-ldl"], check=True)

    def say(text):
        word.with_suffix(".new").write_text(text)
        word.with_suffix(".new").rename(word)

    say("")
    nodes = [f"{n}=127.0.0.1:{free_port()}" for n in "abc"]
    server = Server(options={"appendonly": "yes", "quorum-node": "a", "quorum-nodes": nodes}, directory=tmp_path,
                    plain=True, prefix=["env", f"LD_PRELOAD={library}", f"HF_DISK={word}"])
    asker, other = server.raw(), server.raw()

    def vote(raw, name):
        return raw("HOLDFAST", "VOTE", name, 7, 0, 10**9, "REAL")

    wait_for(lambda: info(other)["quorum_can_vote"] == "1", "the log is on")
    assert vote(other, "x") == "ERR That is no other one of this server's quorum-nodes"
    say("vote")
    asker.send(asker.encode(["HOLDFAST", "VOTE", "b", 7, 0, 10**9, "REAL"]))
    wait_for(lambda: info(other)["quorum_promised_epoch"] == "7", "the promise")
    slowest = 0
    for _ in range(50):
        begin = time.monotonic()
        assert other("PING") == Simple("PONG")
        slowest = max(slowest, time.monotonic() - begin)
    print(f"slowest of 50 PINGs {slowest * 1000:.1f} ms")
    assert str(vote(other, "c")).startswith("VOTE 0 7 ")
    # It takes too long: no vote, and the promise stands.
    assert str(asker.read()).startswith("VOTE 0 7 ")
    assert str(other("HOLDFAST", "VOTE", "b", 7, 0, 10**9, "PRE")).startswith("VOTE 1 7 ")
    assert "promised 7" not in (tmp_path / "holdfast-quorum").read_text()
    say("")
    wait_for(lambda: str(vote(asker, "b")).startswith("VOTE 1 7 "), "the vote")
    assert "promised 7 b" in (tmp_path / "holdfast-quorum").read_text()
    assert str(vote(other, "c")).startswith("VOTE 0 7 ")
    asker.close()
    other.close()
    server.kill()
    server.start()
    other = server.raw()
    wait_for(lambda: info(other)["quorum_can_vote"] == "1", "the log is on")
    assert info(other)["quorum_promised_epoch"] == "7"
    assert str(vote(other, "c")).startswith("VOTE 0 7 ")
    assert str(vote(other, "b")).startswith("VOTE 1 7 ")
    other.close()
    server.stop()
