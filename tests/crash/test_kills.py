# SPDX-License-Identifier: BSD-3-Clause
"""The short form of the crash tests (`./dev test crash` is the long one), and tests of what they
compare with: a comparison that misses nothing must not accept what is wrong."""
import copy
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import kills  # noqa: E402
from history import History, carry_out  # noqa: E402


def test_killed_at_random(seed):
    """What was acknowledged and what was shown is there after kill -9, transactions whole."""
    assert kills.main(["--kills", "24", "--seed", str(seed)]) == 0


def test_a_loss_is_seen(seed):
    """The same comparison finds the milliseconds that a kill takes with `everysec`."""
    assert kills.main(["--control", "--seed", str(seed)]) == 0


def history_and_data(seed, acknowledged, carried_out, sent):
    """One client that has sent so many operations, and what a server has after `carried_out`."""
    history = History(seed, 1)
    history.begin()
    client = history.clients[0]
    for _ in range(sent):
        client.next()
    server = History(seed, 1)
    server.begin()
    data = carry_out(server.clients[0], carried_out)
    for op in client.ops[:acknowledged]:
        op.acked_ms = 1
    spops = [op for op in server.clients[0].ops if op.kind == "spop"]
    for op, done in zip([op for op in client.ops if op.kind == "spop"], spops):
        op.reply = done.reply
    client.acked = acknowledged
    return history, data


@pytest.mark.parametrize("carried_out", [200, 203, 206])
def test_what_fits(seed, carried_out):
    """Everything between what was acknowledged and what was sent is accepted."""
    history, data = history_and_data(seed, 200, carried_out, 206)
    assert history.check(data)[0] == 200


def test_what_does_not_fit(seed):
    """A write too few, one that nobody sent, a key more, half of a transaction: none is accepted."""
    history, data = history_and_data(seed, 200, 200, 200)
    history.check(copy.deepcopy(data))
    for key in data:
        history, _ = history_and_data(seed, 200, 200, 200)
        # A counter has no owner: it counts as what was seen of it.
        history.see("n", data["shared:n"])
        less = copy.deepcopy(data)
        del less[key]
        with pytest.raises(AssertionError):
            history.check(less)
    for change in ({"p0:s9": "x"}, {"other": "x"}, {"p0:tb": "1.1:half"}, {"p0:e1": "1"}):
        history, _ = history_and_data(seed, 200, 200, 200)
        with pytest.raises(AssertionError):
            history.check({**data, **change})
    history, data = history_and_data(seed, 200, 150, 206)
    with pytest.raises(AssertionError):
        history.check(data)
    # Where nothing was promised, it is one moment's data all the same, and what is gone is told.
    acknowledged, lost = history.check(data, durable=False)
    assert acknowledged == 200 and 0 < len(lost) <= 50
