# SPDX-License-Identifier: BSD-3-Clause
"""What active defragmentation gives back, and what it costs: fills a server with keys of several kinds, deletes
three of four at random, switches `activedefrag` on, and waits until it rests. Beside it one client asks for a key
that is not there, without a pipeline, before and while it runs.

    python3 bench/defrag.py [scale] [directive value]...      (of the build in $HOLDFAST_BUILD, or `build`)
"""
import pathlib
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
from harness import Server  # noqa: E402

FILL = """
math.randomseed(7)
for i = 1, ARGV[1] * 4 do redis.call('SET', 's:' .. i, string.rep('x', math.random(16, 400))) end
for i = 1, ARGV[1] / 2 do
  local pairs = {}
  for k = 1, 8 do pairs[#pairs + 1] = 'f' .. k; pairs[#pairs + 1] = string.rep('v', math.random(5, 30)) end
  redis.call('HSET', 'h:' .. i, unpack(pairs))
end
for i = 1, ARGV[1] do redis.call('ZADD', 'z', math.random(), 'member:' .. i) end
"""
DELETE = """
math.randomseed(9)
for i = 1, ARGV[1] * 4 do if math.random(4) > 1 then redis.call('DEL', 's:' .. i) end end
for i = 1, ARGV[1] / 2 do if math.random(4) > 1 then redis.call('DEL', 'h:' .. i) end end
for i = 1, ARGV[1] do if math.random(4) > 1 then redis.call('ZREM', 'z', 'member:' .. i) end end
"""


class Asker(threading.Thread):
    """Round trips of one client, in microseconds."""

    def __init__(self, server):
        super().__init__()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(server.socket_path)
        self.times, self.on = [], True

    def run(self):
        while self.on:
            begun = time.perf_counter_ns()
            self.socket.sendall(b"*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n")
            self.socket.recv(100)
            self.times.append((time.perf_counter_ns() - begun) / 1000)

    def report(self, what):
        self.on = False
        self.join()
        t = sorted(self.times)
        print(f"  one client {what}: {len(t)} round trips, median {t[len(t) // 2]:.0f} us, p99 {t[len(t) * 99 // 100]:.0f}, "
              f"p99.9 {t[len(t) * 999 // 1000]:.0f}, slowest {t[-1]:.0f}")


def show(client, what):
    i = client.info("all")
    used, rss = i["used_memory"], i["used_memory_rss"]
    print(f"{what}: {used / 1e6:.1f} MB in use, {rss / 1e6:.1f} MB resident ({rss / used:.2f}x), allocator's pages "
          f"{i['allocator_frag_ratio']:.2f}x", flush=True)
    return i


def main():
    scale = int(sys.argv[1]) if len(sys.argv) > 1 else 100000
    options = {"active-defrag-ignore-bytes": "1mb"}
    options.update(zip(sys.argv[2::2], sys.argv[3::2]))
    with Server(options=options) as server:
        client = server.client(socket_timeout=300)
        client.eval(FILL, 0, scale)
        show(client, "filled")
        client.eval(DELETE, 0, scale)
        client.memory_purge()
        show(client, "three of four deleted")
        asker = Asker(server)
        asker.start()
        time.sleep(2)
        asker.report("before")
        asker = Asker(server)
        asker.start()
        client.config_set("activedefrag", "yes")
        begun, quiet = time.monotonic(), 0
        while quiet < 40 and time.monotonic() - begun < 60:
            time.sleep(0.05)
            info = client.info("all")
            quiet = quiet + 1 if info["active_defrag_passes"] and not info["active_defrag_running"] else 0
        asker.report("while it runs")
        client.memory_purge()
        after = show(client, "defragmented")
        print(f"  {after['active_defrag_hits']} of {after['active_defrag_hits'] + after['active_defrag_misses']} blocks moved in "
              f"{after['active_defrag_passes']} passes of {after['total_active_defrag_time'] / 1000:.1f} s in all, of which the "
              f"executor had {after['active_defrag_executor_usec'] / 1000:.0f} ms, slowest slice "
              f"{after['active_defrag_slowest_slice_usec']} us")


main()
