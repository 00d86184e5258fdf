# SPDX-License-Identifier: BSD-3-Clause
"""A network of namespaces (Debian's iproute2): each node has one of its own, with an address that all know it by, and
a pair of virtual Ethernet devices to each other node. Its clients come by its Unix socket, cut off or not.

    namespace a  10.99.0.1 ── to-b ════ to-a ── 10.99.0.2  namespace b
                           └─ to-c ════ to-a ── 10.99.0.3  namespace c

A wire is pulled out for one direction by a wrong Ethernet address of the neighbour: packets leave and nobody takes
them, as on a cable that is cut; nobody is told, and TCP tries again. A slow one has the kernel's netem (50 ms) where
there is one; else it is narrow (tbf), and what does not fit through waits."""
import atexit
import os
import subprocess
import threading

PORT = 7000
NETEM = ("netem", "delay", "50ms", "10ms")
NARROW = ("tbf", "rate", "200kbit", "burst", "4kb", "latency", "2s")

count_lock = threading.Lock()
count = 0
existing = set()


def run(*command, text=None):
    """Whether it went well."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    except OSError:
        return False
    return done.returncode == 0


def must(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (command, text, done.stderr)


@atexit.register
def remove_all():
    for name in list(existing):
        remove(name)


def remove(name):
    run("ip", "netns", "del", name)
    existing.discard(name)


def new_name():
    global count
    with count_lock:
        count += 1
        return f"hf-{os.getpid()}-{count}"


def permitted():
    """Whether this process may make namespaces with devices and run programs in them."""
    name = new_name()
    if os.geteuid() != 0 or not run("ip", "netns", "add", name):
        return False
    existing.add(name)
    try:
        return run("ip", "-n", name, "link", "add", "x", "type", "veth", "peer", "name", "y") and run(
            "ip", "netns", "exec", name, "true")
    finally:
        remove(name)


class Namespaces:
    kind = "network namespaces"

    def __init__(self, names):
        self.names = names
        self.space = {n: new_name() for n in names}
        self.slowness = None
        for n in names:
            must("ip", "netns", "add", self.space[n])
            existing.add(self.space[n])
            must("ip", "-n", self.space[n], "-batch", "-",
                 text=f"link set lo up\naddress add {self.address(n)}/32 dev lo\n")
        for x in names:
            for y in names:
                if x < y:
                    must("ip", "-n", self.space[x], "link", "add", f"to-{y}", "address", self.ethernet(x, y), "type",
                         "veth", "peer", "name", f"to-{x}", "address", self.ethernet(y, x), "netns", self.space[y])
        for x in names:
            must("ip", "-n", self.space[x], "-batch", "-", text="".join(
                f"link set to-{y} up\nroute add {self.address(y)} dev to-{y} src {self.address(x)}\n"
                for y in names if y != x))
        self.pull([(x, y) for x in names for y in names if x != y], False)
        x, y = names[:2]
        if self.queue(x, y, "replace", *NETEM):
            self.queue(x, y, "del")
            self.slowness = NETEM
        else:
            self.slowness = NARROW
        self.kind = f"network namespaces, slow wires by {self.slowness[0]}"

    def address(self, x):
        return f"10.99.0.{self.names.index(x) + 1}"

    def ethernet(self, x, y):
        """Of x's device to y."""
        return f"02:99:00:00:{self.names.index(x):02x}:{self.names.index(y):02x}"

    def options(self, x):
        return {"port": PORT, "bind": self.address(x), "protected-mode": "no"}

    def prefix(self, x):
        return "ip", "netns", "exec", self.space[x]

    def reach(self, x, y):
        return self.address(y), PORT

    def pull(self, pairs, pulled=True):
        """What x sends to y does not arrive, for each pair (x, y)."""
        for x in {x for x, _ in pairs}:
            must("ip", "-n", self.space[x], "-batch", "-", text="".join(
                f"neighbour replace {self.address(y)} dev to-{y} nud permanent lladdr "
                f"{'02:99:ff:ff:ff:ff' if pulled else self.ethernet(y, x)}\n" for z, y in pairs if z == x))

    def queue(self, x, y, verb, *what):
        return run("tc", "-n", self.space[x], "qdisc", verb, "dev", f"to-{y}", "root", *what)

    def slow(self, pairs, slow=True):
        for x, y in pairs:
            assert self.queue(x, y, "replace", *self.slowness) if slow else self.queue(x, y, "del")

    def break_connections(self, pairs):
        """Of the nodes that are in all of the pairs' connections, by the sockets' own end: TCP is told."""
        for x in {x for x, _ in pairs}:
            run("ip", "netns", "exec", self.space[x], "ss", "-K", "dst", *" or ".join(
                self.address(y) for z, y in pairs if z == x).split())

    def close(self):
        for name in self.space.values():
            remove(name)
