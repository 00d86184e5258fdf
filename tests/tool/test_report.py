# SPDX-License-Identifier: BSD-3-Clause
"""holdfast report: its figures, and its page in a real browser."""
import html
import json
import re
import shutil
import subprocess

import pytest

import data
import sample
from harness import Server
from tool import run, saved

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def report(shop):
    return json.loads(run("report", "--json", shop)[0])


def test_figures_add_up(report, shop):
    """Every way of grouping counts each key once; sizes are those of the file."""
    total = report["total"]
    for section in ("types", "encodings", "databases", "expiry", "sizes"):
        for field in ("keys", "memory_bytes", "serialised_bytes", "elements"):
            assert sum(row[field] for row in report[section]) == total[field], (section, field)
    for field in ("keys", "memory_bytes"):
        assert sum(row[field] for row in report["prefixes"] if row.get("level", 1) == 1) == total[field]
    assert total["serialised_bytes"] < report["size_bytes"] == shop.stat().st_size
    assert total["serialised_bytes"] > 0.99 * report["size_bytes"]
    assert report["writer"].startswith("Redis 7.") and report["separator"] == ":"


def test_groups(report):
    """Types, databases, prefixes with ids made one, and expiries of known data."""
    prefixes = {row["name"]: row["keys"] for row in report["prefixes"] if isinstance(row["name"], str)}
    assert prefixes["user:"] == 600 + 120 and prefixes["user:*:"] == 720 and prefixes["session:"] == 200
    assert prefixes["queue:"] == prefixes["queue:mail:"] == 20 and prefixes["counter:"] == 300
    assert {row["name"]: row["keys"] for row in report["databases"]}.keys() == {"0", "1", "4"}
    types = {row["name"]: row for row in report["types"]}
    assert types["zset"]["keys"] == 2 and types["zset"]["elements"] == 26000 and types["hash"]["keys"] == 601
    assert report["expiring"]["keys"] == sum(r["keys"] for r in report["expiry"] if r["name"] != "never") > 100
    assert {r["name"]: r["keys"] for r in report["expiry"]}["under 1 h"] > 0
    encodings = {row["name"] for row in report["encodings"]}
    assert {"zset: skiplist", "hash: listpack", "hash: hashtable", "string: int", "set: intset"} <= encodings


def test_biggest_keys_and_memory(tmp_path):
    """The biggest keys are those that MEMORY USAGE of a server says, with the same bytes."""
    with Server(plain=True) as server:
        raw = server.raw()
        data.fill(raw)
        assert raw("DEBUG", "RELOAD") == "OK"
        path = server.directory / "dump.rdb"
        report = json.loads(run("report", "--json", "--top", "12", path, plain=True)[0])
        assert len(report["biggest"]) == 12
        sizes = [k["memory_bytes"] for k in report["biggest"]]
        assert sizes == sorted(sizes, reverse=True)
        for key in report["biggest"]:
            raw("SELECT", key["db"])
            # Trees are cut in leaves by their hashes, whose key is another in each process.
            assert abs(raw("MEMORY", "USAGE", key["key"]) - key["memory_bytes"]) <= 0.2 * key["memory_bytes"], key
        assert (report["biggest"][0]["key"], report["biggest"][0]["type"]) == ("big", "string")
        by_name = {(k["db"], k["key"]): k for k in report["biggest"]}
        assert by_name[9, "hash:big"]["elements"] == 3000 and by_name[9, "zset:big"]["expire_at_ms"] == data.FAR_MS + 8


def test_separators(tmp_path):
    """The separator is guessed, and may be told; the depth is obeyed."""
    path = saved(tmp_path / "s.rdb", [("SET", f"app/{k}/{i}/x", 1) for k in ("one", "two") for i in range(50)]
                 + [("SET", f"a:b{i}", 1) for i in range(20)])

    def names(*args):
        return {r["name"]: r["keys"] for r in json.loads(run("report", "--json", path, *args)[0])["prefixes"]}

    assert names() == {"app/": 100, "app/one/": 50, "app/two/": 50, "app/one/*/": 50, "app/two/*/": 50, "(no prefix)": 20}
    assert names("--depth", "1") == {"app/": 100, "(no prefix)": 20}
    assert names("--separator", ":", "--depth=2") == {"(no prefix)": 100, "a:": 20}
    assert names("--separator", "none") == {"(no prefix)": 120}


def test_more_prefixes_than_are_counted(tmp_path):
    """With more prefixes than there is room for, the large ones are right to within what is said, and nothing is lost."""
    path = saved(tmp_path / "p.rdb", [("SET", f"p{i}:k", 1) for i in range(20000)]
                 + [("SET", f"large:{i}", "x" * 100) for i in range(3000)], plain=True)
    report = json.loads(run("report", "--json", path, plain=True)[0])
    short = report["prefixes_short_of_at_most_bytes"]
    rows = report["prefixes"]
    assert 0 < short < 1000
    # The first page of keys may go before the prefix is known to be large.
    assert rows[0]["name"] in ("large:", "(all others)")
    large = next(r for r in rows if r["name"] == "large:")
    assert 0 <= 3000 - large["keys"] <= 10
    assert sum(r["keys"] for r in rows if r.get("level", 1) == 1) == 23000


def test_names_in_text_and_json(report, shop):
    """A name cannot send anything to the terminal, and every name can be told from the JSON."""
    text, _ = run("report", "--top", "1000", shop)
    assert all(byte >= 32 or byte == 10 for byte in text)
    assert "schlüssel:".encode() in text and b"</script>" in text and b'"\\xff\\xfe\\x00 bytes"' in text
    whole = json.loads(run("report", "--json", "--top", "1000", shop)[0])
    names = [k["key"] for k in whole["biggest"]]
    assert sample.HOSTILE[0].decode() in names and {"base64": "//4AIGJ5dGVz"} in names


def browse(page, *args):
    done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                           "--enable-logging=stderr", *args, page.as_uri()], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.decode(), done.stderr.decode(errors="replace")


def test_page_in_a_browser(shop, report, tmp_path):
    """Chromium shows the charts and the figures, runs into no error, and a key named <script> stays text."""
    page = tmp_path / "report.html"
    assert run("report", "--html", page, "--top", "1000", shop)[0] == b""
    source = page.read_text()
    assert not re.search(r"<script|<link|<img|<iframe|url\(|@import", source)
    picture = tmp_path / "report.png"
    dom, log = browse(page, "--dump-dom", f"--screenshot={picture}", "--window-size=1200,1400")
    assert "CONSOLE" not in log, log
    assert "<script" not in dom and "<img" not in dom and "onerror" not in re.sub(r">[^<]*<", "><", dom)
    title = re.search(r"<title>([^<]*)", dom).group(1)
    assert title == f"{shop} \u2013 memory report"
    for chart in ("types", "databases", "prefixes", "expiry", "sizes", "encodings"):
        svg = re.search(rf'<svg[^>]* id="chart-{chart}".*?</svg>', dom, re.S).group(0)
        marks = re.findall(r'<rect class="(?:mark c\d|m|k)"', svg)
        rows = [r for r in report[chart] if r.get("level", 1) == 1]
        expected = {"types": len(rows), "expiry": 2 * len(rows), "sizes": 2 * len(rows)}.get(chart, min(15, len(rows)))
        assert len(marks) == expected, chart
        assert len(re.findall("<title>", svg)) == len(marks) // (2 if chart in ("expiry", "sizes") else 1)
        assert "NaN" not in svg and "nan" not in svg
    text = html.unescape(re.sub(r"<[^>]*>", " ", dom))
    for name in [k.decode() for k in sample.HOSTILE if k[:1] != b"\xff"] + ["user:*:", "ranking:sales", "queue:mail:"]:
        # The terminal's form of a name that begins with a quote is in quotes.
        assert name in text or name.replace('"', '\\"') in text, name
    assert f"{report['total']['keys']:,}" in text and "Memory in Holdfast" in text
    bytes_of = picture.read_bytes()
    assert bytes_of[:8] == b"\x89PNG\r\n\x1a\n" and len(bytes_of) > 50000
