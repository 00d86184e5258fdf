# SPDX-License-Identifier: BSD-3-Clause
"""Places beside redis-server: the same scores, distances, matches and order, where no two places are the
same (of those at one distance redis-server cuts off any)."""
import random

import pytest

from harness import Server


@pytest.fixture(scope="module")
def pair():
    with Server("redis") as theirs, Server() as ours:
        yield theirs, ours


@pytest.fixture
def raws(pair):
    raws = [server.raw() for server in pair]
    for raw in raws:
        raw("FLUSHALL")
    yield raws
    for raw in raws:
        raw.close()


def same(raws, *args):
    theirs, ours = (raw(*args) for raw in raws)
    assert theirs == ours, args
    return ours


def place(rng, kind):
    if kind == "world":
        return rng.uniform(-180, 180), rng.uniform(-85.05, 85.05)
    if kind == "poles":
        return rng.uniform(-180, 180), rng.choice((-1, 1)) * rng.uniform(75, 85.05)
    if kind == "seam":
        return rng.choice((-180, 179)) + rng.uniform(0, 1), rng.uniform(-3, 3)
    return 13.4 + rng.uniform(-0.5, 0.5), 52.5 + rng.uniform(-0.5, 0.5)


def shape(rng, kind):
    unit, meters = rng.choice((("m", 1), ("km", 1000), ("ft", 0.3048), ("mi", 1609.34)))
    low, high = {"town": (1, 5), "seam": (2, 6)}.get(kind, (3, 7.6))
    size = lambda: "%.3f" % (10 ** rng.uniform(low, high) / meters)  # noqa: E731
    return ["BYRADIUS", size(), unit] if rng.random() < 0.5 else ["BYBOX", size(), size(), unit]


# Searches of every kind, all options, in places where the map ends and where it is narrow; small and large sets.
@pytest.mark.parametrize("kind", ["town", "world", "poles", "seam"])
def test_searches(raws, seed, kind):
    rng = random.Random(f"{seed}{kind}")
    for count in (30, 600):
        places = [(x, y, f"m{i}") for i in range(count) for x, y in [place(rng, kind)]]
        same(raws, "GEOADD", "g", *(x for p in places for x in p))
        same(raws, "ZRANGE", "g", 0, -1, "WITHSCORES")
        same(raws, "GEOPOS", "g", *(p[2] for p in places))
        same(raws, "GEOHASH", "g", *(p[2] for p in places))
        for _ in range(100):
            same(raws, "GEODIST", "g", rng.choice(places)[2], rng.choice(places)[2], rng.choice(("m", "km", "ft", "mi")))
        for number in range(250):
            x, y = place(rng, kind)
            center = ["FROMLONLAT", x, y] if rng.random() < 0.6 else ["FROMMEMBER", rng.choice(places)[2]]
            options = rng.choice(([], ["ASC"], ["DESC"]))
            if rng.random() < 0.5:
                options = options + ["COUNT", rng.randint(1, 20)] + rng.choice(([], ["ANY"]))
            withs = [w for w in ("WITHCOORD", "WITHDIST", "WITHHASH") if rng.random() < 0.4]
            args = center + shape(rng, kind) + options
            same(raws, "GEOSEARCH", "g", *args, *withs)
            if number % 5 == 0:
                same(raws, "GEOSEARCHSTORE", "to", "g", *args, *rng.choice(([], ["STOREDIST"])))
                same(raws, "ZRANGE", "to", 0, -1, "WITHSCORES")
    same(raws, "DEBUG", "DIGEST")


# The older forms, and what they store; scores that no place has made.
def test_georadius(raws, seed):
    rng = random.Random(seed)
    for i in range(200):
        same(raws, "GEOADD", "g", *place(rng, "town"), i)
    same(raws, "ZADD", "g", -5, "negative", "inf", "infinite", "1e300", "huge", 2 ** 53, "beyond", 1.5, "half")
    same(raws, "GEOPOS", "g", "negative", "infinite", "huge", "beyond", "half")
    same(raws, "GEOHASH", "g", "negative", "infinite", "huge", "beyond", "half")
    for number in range(150):
        x, y = place(rng, "town")
        radius = ["%.2f" % 10 ** rng.uniform(1, 5), "m"]
        options = rng.choice(([], ["ASC"], ["COUNT", 7], ["COUNT", 3, "ANY", "DESC"]))
        same(raws, "GEORADIUS", "g", x, y, *radius, *options, "WITHDIST")
        same(raws, "GEORADIUS_RO", "g", x, y, *radius, *options)
        same(raws, "GEORADIUSBYMEMBER", "g", number, *radius, *options, "WITHCOORD", "WITHHASH")
        same(raws, "GEORADIUSBYMEMBER_RO", "g", number, *radius, *options)
        same(raws, "GEORADIUS", "g", x, y, *radius, *options, rng.choice(("STORE", "STOREDIST")), "to")
        same(raws, "GEORADIUSBYMEMBER", "g", number, *radius, *options, rng.choice(("STORE", "STOREDIST")), "to2")
        same(raws, "DEBUG", "DIGEST")
    for raw in raws:
        raw("HELLO", 3)
    same(raws, "GEORADIUS", "g", 13.4, 52.5, 100, "km", "WITHDIST", "WITHCOORD", "WITHHASH", "ASC")
    same(raws, "GEODIST", "g", 1, 2)
    same(raws, "GEODIST", "g", 1, "none")
    same(raws, "GEOPOS", "g", 1, "none")


# Every mistake is told of in redis-server's words.
@pytest.mark.parametrize("line", [
    "GEOADD g 200 0 a", "GEOADD g 0 86 a", "GEOADD g x 0 a", "GEOADD g 0 0", "GEOADD g NX XX 0 0 a", "GEOADD g NX XX CH", "GEOADD g 0 0 a 1",
    "GEODIST g a b cm", "GEODIST g a b m m", "GEODIST none a b cm", "GEODIST s a b", "GEOHASH s a", "GEOHASH g", "GEOPOS none a b", "GEOPOS s a",
    "GEORADIUS g 0 0 x m", "GEORADIUS g 0 0 -1 m", "GEORADIUS g 0 0 1 cm", "GEORADIUS g 0 0 1 m COUNT", "GEORADIUS g 0 0 1 m COUNT 0",
    "GEORADIUS g 0 0 1 m COUNT x", "GEORADIUS g 0 0 1 m ANY", "GEORADIUS g 0 0 1 m STORE", "GEORADIUS g 0 0 1 m STORE d WITHDIST",
    "GEORADIUS_RO g 0 0 1 m STORE d", "GEORADIUS none 0 0 1 m", "GEORADIUS none 0 0 1 m STORE d", "GEORADIUS g 0 0 1 m FROMMEMBER a",
    "GEORADIUSBYMEMBER g none 1 m", "GEORADIUSBYMEMBER none a x m", "GEORADIUSBYMEMBER none a 1 m STORE d", "GEORADIUSBYMEMBER s a 1 m",
    "GEOSEARCH g FROMMEMBER a BYRADIUS 1", "GEOSEARCH g FROMMEMBER a COUNT 1 ASC", "GEOSEARCH g BYRADIUS 1 m COUNT 1", "GEOSEARCH none BYRADIUS 1 m ASC DESC",
    "GEOSEARCH g FROMMEMBER none BYRADIUS 1 m", "GEOSEARCH g FROMMEMBER a FROMLONLAT 0 0 BYRADIUS 1 m", "GEOSEARCH g FROMMEMBER a BYBOX 1 -1 m",
    "GEOSEARCH g FROMMEMBER a BYBOX x 1 m", "GEOSEARCH g FROMMEMBER a BYBOX 1 x m", "GEOSEARCH g FROMMEMBER a BYBOX 1 1 cm",
    "GEOSEARCH g FROMMEMBER a BYRADIUS 1 m BYBOX 1 1 m", "GEOSEARCH g FROMMEMBER a BYRADIUS 1 m STOREDIST", "geoSearch g FROMMEMBER a COUNT 1 ASC",
    "GEOSEARCHSTORE d g FROMMEMBER a BYRADIUS 1 m WITHDIST", "GEOSEARCHSTORE d none FROMMEMBER a BYRADIUS 1 m", "GEOSEARCH none FROMMEMBER a BYRADIUS 1 m",
])
def test_errors(raws, line):
    for raw in raws:
        raw("GEOADD", "g", 13, 52, "a")
        raw("SET", "s", "x")
        raw("GEOADD", "d", 13, 52, "a")
    same(raws, *line.split())
    same(raws, "DEBUG", "DIGEST")
