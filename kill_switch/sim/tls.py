"""A throw-away certificate authority and a server certificate, for simulators and tests."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

import trustme


def server_context(directory: Path, host: str) -> tuple[ssl.SSLContext, Path]:
    """Write `ca.pem`, `server.pem` and `server.key` to the directory.

    Return the server's TLS context and the path of `ca.pem`. The authority's own key is never written. Only the owner
    can read `server.key`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="kill-switch simulator")
    names = dict.fromkeys(("localhost", "127.0.0.1", "::1", host))
    leaf = authority.issue_cert(*names, organization_name="kill-switch simulator")
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    certificate, key = directory / "server.pem", directory / "server.key"
    _write(certificate, b"".join(blob.bytes() for blob in leaf.cert_chain_pems), 0o644)
    _write(key, leaf.private_key_pem.bytes(), 0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    return context, ca_file


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary directory that is removed on exit."""
    return tempfile.TemporaryDirectory(prefix="kill-switch-sim-")


def _write(path: Path, data: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
