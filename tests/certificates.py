# SPDX-License-Identifier: BSD-3-Clause
"""Certificates for the tests of TLS, made by openssl."""
import pathlib
import subprocess


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


class Certificates:
    """Two authorities; a server's certificate, a second one, and clients' of either authority."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        for name in ("ca", "other-ca"):
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.crt"), "-days", "2",
                    "-subj", f"/CN={name}")
        self.make("server", "ca", "localhost")
        self.make("second", "ca", "localhost")
        self.make("client", "ca", "alice", "URI:spiffe://test/bob,URI:carol")
        self.make("stranger", "other-ca", "alice")
        openssl("pkey", "-in", self.path("server.key"), "-aes256", "-passout", "pass:secret", "-out",
                self.path("locked.key"))

    def make(self, name, authority, common_name, alternatives="DNS:localhost,IP:127.0.0.1"):
        request, extensions = self.path(f"{name}.csr"), self.path(f"{name}.ext")
        extensions.write_text(f"subjectAltName={alternatives}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                self.path(f"{name}.key"), "-out", request, "-subj", f"/CN={common_name}")
        openssl("x509", "-req", "-in", request, "-CA", self.path(f"{authority}.crt"), "-CAkey",
                self.path(f"{authority}.key"), "-CAcreateserial", "-days", "2", "-extfile", extensions,
                "-out", self.path(f"{name}.crt"))

    def path(self, name):
        return self.directory / name

    def serial(self, name):
        text = subprocess.run(["openssl", "x509", "-in", str(self.path(f"{name}.crt")), "-noout", "-serial"],
                              check=True, capture_output=True, text=True).stdout
        return int(text.strip().split("=")[1], 16)
