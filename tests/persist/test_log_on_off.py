# SPDX-License-Identifier: BSD-3-Clause
"""The log switched off and on, and starts with and without it: whichever of the log and the RDB file goes
on where the other ends is what a start has."""
import time

import pytest

from harness import Server, wait_for
from test_log import info


class Life:
    """A server and what it should hold. Nothing is saved but by the steps."""

    def __init__(self, directory, appendonly):
        self.server = Server(options={"appendonly": appendonly, "appendfsync": "always"}, directory=directory)
        self.count = 0

    @property
    def raw(self):
        return self.server.raw()

    def write(self):
        self.count += 1
        assert self.raw("SET", f"k{self.count}", self.count) == "OK"

    def switch(self, on):
        saves = int(info(self.raw)["rdb_saves"])
        assert self.raw("CONFIG", "SET", "appendonly", "yes" if on else "no") == "OK"
        wait_for(lambda: info(self.raw)["log_state"] == ("on" if on else "off"))
        if not on:
            wait_for(lambda: int(info(self.raw)["rdb_saves"]) > saves)

    def save(self):
        assert self.raw("SAVE") == "OK"

    def start(self, appendonly, kill=True):
        self.server.kill() if kill else self.server.terminate()
        self.server.options["appendonly"] = appendonly
        self.server.start()

    def expect(self, count=None):
        count = self.count if count is None else count
        assert sorted(self.server.client().keys()) == sorted(b"k%d" % (i + 1) for i in range(count)), self.server.text()


@pytest.fixture
def life(tmp_path):
    lives = []

    def begin(appendonly):
        lives.append(Life(tmp_path, appendonly))
        return lives[0]
    yield begin
    lives[0].server.stop()


def test_off_then_saved(life):
    """What was saved after the log was switched off is what a start with it has; the log as it was is
    put aside, and the file is not taken a second time."""
    a = life("yes")
    a.write()
    a.switch(False)
    a.write()
    a.save()
    a.start("yes")
    a.expect()
    assert "holds all that is in the log up to its end" in a.server.text()
    assert [p for p in (a.server.directory / "appendonlydir").iterdir() if p.name.startswith("superseded-")]
    a.write()
    a.start("yes")
    a.expect()
    assert a.server.text().count("holds all that is in the log") == 1


def test_off_is_saved_by_itself(life):
    """Switching off makes a snapshot, so that a start without the log has everything."""
    a = life("yes")
    a.write()
    a.switch(False)
    a.start("no")
    a.expect()
    a.write()
    a.save()
    a.start("no")
    a.expect()
    a.write()
    a.save()
    a.start("yes")
    a.expect()


def test_off_and_not_saved(life):
    """What no file has is gone with the process; the rest is there, either way."""
    a = life("yes")
    a.write()
    a.switch(False)
    a.write()
    a.start("yes")
    a.expect(1)


def test_off_on_at_run_time(life):
    """Off and on again: the log has it all, whatever was saved in between."""
    a = life("yes")
    a.write()
    a.switch(False)
    a.write()
    a.save()
    a.switch(True)
    a.start("yes")
    a.expect()
    a.write()
    a.start("yes")
    a.expect()
    a.save()
    a.write()
    a.start("yes")
    a.expect()


def test_incremental_while_off(life):
    """A chain behind the RDB file counts, too."""
    a = life("yes")
    assert a.raw("CONFIG", "SET", "snapshot-chain-max", 8) == "OK"
    a.server.options["snapshot-chain-max"] = 8
    a.write()
    a.switch(False)
    a.write()
    assert "incremental snapshot started" in a.raw("HOLDFAST", "SNAPSHOT", "INCREMENTAL")
    wait_for(lambda: len(a.raw("HOLDFAST", "SNAPSHOT", "LIST")) == 2)
    a.start("yes")
    a.expect()
    a.start("yes")
    a.expect()


def test_branched_off(life):
    """The RDB file lacks what the log has, and has what the log lacks: the log is used, and it is said."""
    a = life("yes")
    a.write()
    a.save()
    a.write()
    a.start("no")
    a.expect(1)
    a.raw("SET", "elsewhere", 1)
    a.save()
    a.start("yes")
    a.expect(2)
    assert "but not all that is in the log" in a.server.text()


def test_of_redis_server(life, tmp_path):
    """An RDB file of redis-server does not say what it goes on from: the log is used, with a warning
    that has both times."""
    a = life("yes")
    a.write()
    a.server.terminate()
    time.sleep(2.1)
    with Server("redis", directory=tmp_path, options={"appendonly": "no"}) as redis:
        redis.client().set("other", 1)
        redis.client().save()
    a.server.start()
    a.expect()
    assert "it cannot be told whether it goes on where the log ends" in a.server.text()


def test_any_order(life, rng):
    """Random steps: a start with the log has the newest of what was logged or saved."""
    a = life("yes")
    on, safe = True, 0
    for _ in range(10):
        step = rng.choice(["write", "write", "switch", "save", "start", "stop"])
        if step == "write":
            a.write()
            safe = a.count if on else safe
        elif step == "switch":
            on = not on
            a.switch(on)
            safe = a.count
        elif step == "save":
            a.save()
            safe = a.count
        else:
            a.start("yes", kill=step == "start")
            on = True
            a.expect(safe)
            a.count = safe
    a.start("yes")
    a.expect(safe)
