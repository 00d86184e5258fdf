# SPDX-License-Identifier: BSD-3-Clause
"""What a failover loses with `local`: it is counted, and compared with what INFO said before that it could be.

In each round the primary is cut off (or its replicas slow, or cut off and killed) while writers go on at it; then
nobody writes, it is asked for `failover_would_lose_bytes`, another one is promoted, and the old one made its replica.

 - The new primary's history ends where the old one's INFO said that its best replica is, if the replicas had told
   all they have before the cut (half of the rounds): what is lost is to the byte what INFO said. Else it is no more,
   and as much less as the new primary has more than it had acknowledged.
 - The divergence journal of the old primary holds just that: the bytes, and each write that is missing now.
 - At the end what is missing of all acknowledged writes is what the journals have, and nothing else."""
import collections
import re
import subprocess
import time

from harness import PATIENCE, PLAIN_BUILD, Raw
from partitions import Rig


class Losses(Rig):
    # Pings would go on lengthening the stream when nobody writes.
    WITHOUT = {"durability": "local", "quorum-nodes": "", "quorum-node": "", "appendfsync": "always",
               "repl-ping-replica-period": "3600", "repl-timeout": "4"}

    def __init__(self, seed, **more):
        super().__init__(seed, quorum=False, **more)
        self.wrong = []
        self.lost_bytes = self.exact = self.less = 0
        self.in_journals = collections.defaultdict(list)  # writer: numbers
        self.seen_journals = {n: set() for n in self.cluster.names}

    def number(self, name, field):
        return int(self.answer(name)[field])

    def answer(self, name):
        """What it says of itself, however long that takes."""
        return self.wait(lambda: self.look(name) or None, f"{name} answers")

    def wait(self, condition, what, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found is not None and found is not False:
                return found
            time.sleep(0.01)
        raise AssertionError(f"seed {self.seed}: {what}: { {n: self.look(n) for n in self.cluster.names} }")

    def others(self):
        return [n for n in self.cluster.names if n != self.primary]

    def is_up(self, name):
        return self.look(name).get("master_link_status") == "up"

    def write_for(self, seconds, least=0):
        """Until so many more have been acknowledged."""
        before = self.acknowledged()
        self.quiet = False
        time.sleep(seconds)
        self.wait(lambda: self.acknowledged() >= before + least, "writers go on")
        self.silence()

    def newest(self, names):
        """Whom Sentinel would choose: who has most. Nothing is on its way any more."""
        def settled():
            before = [self.number(n, "master_repl_offset") for n in names]
            time.sleep(0.4)
            return before if before == [self.number(n, "master_repl_offset") for n in names] else None
        offsets = self.wait(settled, "replicas come to rest")
        best = max(offsets)
        return self.rng.choice([n for n, o in zip(names, offsets) if o == best]), best

    def round(self):
        rng, old, others = self.rng, self.primary, self.others()
        exact = rng.random() < 0.5
        slow = not exact and rng.random() < 0.5
        self.write_for(0.05 + rng.random() * 0.2)
        if exact:
            self.wait(lambda: self.number(old, "failover_would_lose_bytes") == 0, "all is acknowledged")
        else:
            self.quiet = False
            if slow:
                self.network.slow(self.cluster.pairs(old))
            time.sleep(rng.random() * 0.3)
        heal = self.pull(old)
        # For longer than repl-timeout now and then: the replicas have gone.
        self.write_for(rng.random() * 0.3 + (5 if rng.random() < 0.1 else 0), 1)
        found = self.answer(old)
        end, could = int(found["master_repl_offset"]), int(found["failover_would_lose_bytes"])
        acknowledged = end - could
        new, has = self.newest(others)
        self.promote(new)
        self.wait(lambda: self.is_serving(new), "the new primary")
        # It is cut off, and does not know: it goes on until somebody tells it.
        self.wait(lambda: self.answer(old)["role"] == "slave", "the old one has been told")
        fork = self.number(new, "second_repl_offset") - 1
        killed = rng.random() < 0.4
        if killed:
            self.cluster.nodes[old].kill()
        if slow:
            self.network.slow(self.cluster.pairs(old), False)
        if rng.random() < 0.5:
            self.wait(lambda: self.is_up([n for n in others if n != new][0]), "the other replica")
            self.writes_at(new)
        heal()
        if killed:
            self.cluster.nodes[old].start()
            self.follow(old, new)
        self.all_follow()
        self.wait(lambda: all(self.is_up(n) for n in self.others()), "all follow")
        lost = end - fork
        self.lost_bytes += lost
        self.exact += exact
        self.less += lost < could
        self.say(f"{old} -> {new}: INFO {could}, lost {lost}{', exact' if exact else ''}{', killed' if killed else ''}")
        if fork != has or lost > could or could - lost != fork - acknowledged or (exact and lost != could):
            self.wrong.append({"INFO said": could, "lost": lost, "exact": exact, "had acknowledged": acknowledged,
                               "new primary": fork})
        self.take_journals(old, lost, fork)
        for n in others:
            self.take_journals(n, 0, 0)
        self.quiet = False

    def writes_at(self, name):
        """The new primary goes on, as a history of its own."""
        raw = Raw(self.cluster.nodes[name].socket_path)
        for i in range(self.rng.randrange(50)):
            raw("RPUSH", "after", i)
        raw.close()

    def take_journals(self, name, size, begin):
        directory = self.cluster.nodes[name].directory
        new = {p.name for p in directory.glob("divergence-*.aof")} - self.seen_journals[name]
        self.seen_journals[name] |= new
        if len(new) != (size > 0):
            self.wrong.append({"journals": sorted(new), "bytes lost": size})
        for journal in new:
            text = subprocess.run([str(PLAIN_BUILD / "holdfast"), "log", str(directory / journal)],
                                  capture_output=True, text=True, timeout=60)
            assert text.returncode == 0, text
            found = self.look(name)
            # After a kill it is the restarted server that wrote it, and knows.
            if (found.get("divergence_journal", "").endswith(journal) and
                    (int(found["divergence_bytes"]), int(found["divergence_from_lsn"])) != (size, begin)):
                self.wrong.append({"journal's bytes": found["divergence_bytes"], "from": found["divergence_from_lsn"],
                                   "lost": size, "fork": begin})
            for list_name, number in re.findall(r'RPUSH\W+w(\d+)\W+(\d+)', text.stdout):
                self.in_journals[int(list_name)].append(int(number))

    def compare(self, writers, readers, watcher):
        raw = self.cluster.nodes[self.primary].raw()
        lost = 0
        for w in writers:
            final = {int(v) for v in raw("LRANGE", f"w{w.number}", 0, -1)}
            missing = set(w.acknowledged) - final
            journaled = self.in_journals[w.number]
            lost += len(missing)
            if missing - set(journaled):
                self.wrong.append({f"w{w.number}": "missing, and in no journal",
                                   "numbers": sorted(missing - set(journaled))[:20]})
            if final & set(journaled) or len(journaled) != len(set(journaled)):
                self.wrong.append({f"w{w.number}": "in a journal, and not lost"})
            if set(journaled) & set(w.acknowledged) != missing:
                self.wrong.append({f"w{w.number}": "journals and losses are not the same"})
        raw.close()
        return {"written": sum(len(w.acknowledged) for w in writers), "lost writes": lost, "lost bytes": self.lost_bytes,
                "rounds that had to be exact": self.exact, "rounds that lost less than INFO said": self.less,
                "journals": sum(len(j) for j in self.seen_journals.values()), "wrong": self.wrong}
