# SPDX-License-Identifier: BSD-3-Clause
"""The short form of partitions.py; `./dev test partitions` runs the long one."""
import os
import time

from losses import Losses
from net import wait_for
from partitions import Rig

SEED = int(os.environ.get("HF_SEED", time.time_ns() % 1_000_000))
ROUNDS = int(os.environ.get("HF_PARTITION_ROUNDS", 3))


def test_quorum_loses_nothing():
    """Whatever happens to three nodes, nothing that was acknowledged is lost and nothing that was read taken back, no
    epoch has two primaries, and all have the same data at the end."""
    print("seed", SEED)
    result = Rig(SEED).run(ROUNDS)
    assert not result["lost"] and not result["wrong"] and not result["twice"] and not result["differ"], (SEED, result)
    assert result["written"] > 0 and result["epochs"] > 0, (SEED, result)


def test_the_rig_sees_a_loss():
    """With `memory`, a primary that is cut off goes on acknowledging what is lost when another one has been promoted."""
    rig = Rig(SEED, quorum=False)

    def round_of_loss():
        undo = rig.pull(rig.primary)
        time.sleep(0.1)
        before = rig.acknowledged()
        wait_for(lambda: rig.acknowledged() > before + 20, "the primary goes on alone")
        rig.promote("b" if rig.primary == "a" else "a")
        time.sleep(0.3)
        undo()
        rig.all_follow()
    rig.round = round_of_loss
    assert rig.run(2)["lost"], SEED


def test_local_loses_what_info_said():
    """With `local`, what a failover loses is what INFO said before, to the byte where the replicas had acknowledged what
    they have, and the old primary's journal has every write of it, killed or not."""
    print("seed", SEED)
    result = Losses(SEED).run(ROUNDS)
    assert not result["wrong"] and result["lost writes"] > 0, (SEED, result)
