# SPDX-License-Identifier: BSD-3-Clause
"""Where Holdfast answers otherwise than redis-server 7.0, on purpose. Each entry: which command, the two
replies (Redis's first) of which it is true, and why. Nothing else may differ."""
from collections import namedtuple

Difference = namedtuple("Difference", "command holds reason")

DIFFERENCES = [
    Difference("OBJECT ENCODING", lambda redis, ours: (redis, ours) == (b"quicklist", b"listpack"),
               "since 7.2 a list of one packed node is called a listpack"),
    Difference("OBJECT ENCODING", lambda redis, ours: (redis, ours) == (b"hashtable", b"listpack"),
               "since 7.2 small sets are listpacks (set-max-listpack-entries, set-max-listpack-value)"),
]


def intended(name, redis, ours):
    """The difference that explains these two replies, or None."""
    for difference in DIFFERENCES:
        if difference.command in (name, "*") and difference.holds(redis, ours):
            return difference
    return None
