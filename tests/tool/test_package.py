# SPDX-License-Identifier: BSD-3-Clause
"""The Debian package: what is in it. (packaging/check-deb installs it in a Debian of its own: ./dev package check.)"""
import gzip
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / (os.environ.get("HOLDFAST_PLAIN_BUILD") or os.environ.get("HOLDFAST_BUILD") or "build")


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package, and what it unpacks to."""
    folder = tmp_path_factory.mktemp("package")
    deb = run(ROOT / "packaging" / "build-deb", BUILD, folder).split()[-1]
    run("dpkg-deb", "-R", deb, folder / "tree")
    return deb, folder / "tree"


# Owners, modes, and every file where Debian has such files; the control file's fields; programs that run.
def test_contents(package):
    deb, tree = package
    lines = [line.split(None, 5) for line in run("dpkg-deb", "-c", deb).splitlines()]
    assert {line[1] for line in lines} == {"root/root"}
    modes = {line[5]: line[0] for line in lines if not line[5].endswith("/")}
    expected = {"./usr/bin/holdfast-server": "x", "./usr/bin/holdfast": "x", "./lib/systemd/system/holdfast.service": "-",
                "./usr/lib/sysusers.d/holdfast.conf": "-", "./etc/holdfast/holdfast.conf": "-",
                "./usr/share/man/man1/holdfast-server.1.gz": "-", "./usr/share/man/man1/holdfast.1.gz": "-",
                "./usr/share/doc/holdfast/copyright": "-", "./usr/share/doc/holdfast/changelog.gz": "-"}
    assert {name: mode[3] for name, mode in modes.items()} == expected
    fields = dict(line.split(": ", 1) for line in run("dpkg-deb", "-f", deb).splitlines() if not line.startswith(" "))
    assert fields["Package"] == "holdfast" and fields["Version"] == re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())[1]
    # Versions that the symbols need, not those that happen to be installed here.
    depends = fields["Depends"]
    assert re.search(r"libssl3 \(>= 3\.0\.0\)", depends) and re.search(r"libc6 \(>= 2\.3\d\)", depends) and "liblua5.1-0" in depends
    assert (tree / "DEBIAN" / "conffiles").read_text() == "/etc/holdfast/holdfast.conf\n"
    run("md5sum", "--check", "--quiet", "DEBIAN/md5sums", cwd=tree)
    for program in ("holdfast-server", "holdfast"):
        assert "0." in run(tree / "usr/bin" / program, "--version")
    # Names for crash reports.
    assert re.search(r" t turn_end$", run("nm", tree / "usr/bin/holdfast-server"), re.M)


# The manual pages are pages, the scripts are scripts, the configuration is one that the server takes, and systemd the unit.
def test_files_are_valid(package, tmp_path):
    _, tree = package
    for page in ("holdfast-server", "holdfast"):
        text = gzip.decompress((tree / f"usr/share/man/man1/{page}.1.gz").read_bytes()).decode()
        assert ".TH" in text and ".SH NAME" in text
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", tree / "DEBIAN" / script)
        assert os.access(tree / "DEBIAN" / script, os.X_OK)
    config = (tree / "etc/holdfast/holdfast.conf").read_text().replace("/var/lib/holdfast", str(tmp_path)).replace("/run/holdfast", str(tmp_path))
    (tmp_path / "holdfast.conf").write_text(config.replace("port 6379", "port 0"))
    server = subprocess.Popen([tree / "usr/bin/holdfast-server", tmp_path / "holdfast.conf"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            answer = subprocess.run(["redis-cli", "-s", tmp_path / "holdfast.sock", "config", "get", "appendonly"], capture_output=True, text=True)
            if answer.returncode == 0 and answer.stdout:
                break
            assert server.poll() is None
            subprocess.run(["sleep", "0.1"], check=True)
        assert answer.stdout.split() == ["appendonly", "yes"]
    finally:
        server.terminate()
        assert server.wait(60) == 0
    if shutil.which("systemd-analyze"):
        unit = (tree / "lib/systemd/system/holdfast.service").read_text()
        (tmp_path / "holdfast.service").write_text(re.sub(r"^Documentation=.*\n", "", unit, flags=re.M).replace("/usr/bin/", f"{tree}/usr/bin/"))
        check = subprocess.run(["systemd-analyze", "verify", tmp_path / "holdfast.service"], capture_output=True, text=True)
        assert check.returncode == 0 and "holdfast.service" not in check.stderr, check.stderr
