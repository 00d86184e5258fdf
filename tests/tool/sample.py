# SPDX-License-Identifier: BSD-3-Clause
"""A data set as a shop might have it, for the report's page: types, ids in names, expiries, a few large keys,
and names that try to be something else than names."""
import random

NOW_MS = 1790000000000
HOSTILE = (b"<script>document.title='owned'</script>", b'"><img src=x onerror="document.title=1">', b"\xff\xfe\x00 bytes",
           "schl\u00fcssel:\u00e4rger".encode(), b"</title></svg><script>throw 1</script>:x")
DAY = 86400 * 1000


def commands(keys=4000, seed=7, now_ms=NOW_MS, hostile=HOSTILE):
    rng = random.Random(seed)
    out = []

    def text(n):
        return bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz     ", k=n))

    for i in range(keys):
        out.append(("HSET", f"user:{i}:profile", "name", text(12), "mail", f"u{i}@example.org", "seen", now_ms + i, "about", text(60)))
        if i % 3 == 0:
            out.append(("SET", f"session:{rng.randbytes(10).hex()}", text(220), "PXAT", now_ms + rng.randrange(DAY)))
        if i % 5 == 0:
            out.append(("SADD", f"user:{i}:tags", *(rng.randrange(1000) for _ in range(12))))
        if i % 8 == 0:
            out.append(("RPUSH", f"cart:{i}", *(text(30) for _ in range(rng.randrange(1, 30)))))
            out.append(("PEXPIREAT", f"cart:{i}", now_ms + rng.randrange(20 * DAY)))
        if i % 10 == 0:
            out.append(("SET", f"cache:page:{i}", text(rng.randrange(500, 9000)), "PXAT", now_ms + rng.randrange(1, 7200000)))
    out.append(("ZADD", "ranking:sales", *(x for i in range(20000) for x in (rng.randrange(10 ** 6), f"product-{i}"))))
    out.append(("ZADD", "ranking:views", *(x for i in range(6000) for x in (rng.randrange(10 ** 6), f"product-{i}"))))
    for day in range(20):
        out.append(("RPUSH", f"queue:mail:2026-10-{day:02d}", *(text(120) for _ in range(rng.randrange(400)  + 1))))
    out.append(("HSET", "stock", *(x for i in range(5000) for x in (f"product-{i}", rng.randrange(100)))))
    out.append(("SET", "report:yearly", rng.randbytes(400000)))
    for i in range(300):
        out.append(("INCRBY", f"counter:{i}", i))
    out.extend(("SET", key, "x" * 300) for key in hostile)
    out.append(("SELECT", 1))
    out.extend(("SET", f"flag:{i}", i % 2) for i in range(400))
    out.append(("SELECT", 4))
    out.extend(("SETEX", f"lock:{i}", 30 + i, text(16)) for i in range(100))
    out.append(("SELECT", 0))
    return out
