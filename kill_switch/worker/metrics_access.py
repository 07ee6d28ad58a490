"""The access to the metrics: the bearer token and the TLS certificate, read from files and read again when they change.

`metrics_server` uses it, in the worker process; reading may block. A file that cannot be read any more changes nothing:
what was read last stays in force.
"""

from __future__ import annotations

import hmac
import os
import ssl
from pathlib import Path

from kill_switch.worker.access_files import LEAST_TOKEN, MOST_TOKEN, AccessFiles

_SCHEME = "bearer"  # RFC 6750, not case-sensitive

Stamp = tuple[int, int, int]


class MetricsAccess:
    """The token and the certificate, as last read; call `read` before anything else."""

    def __init__(self, files: AccessFiles) -> None:
        self.context: ssl.SSLContext | None = None  # None: plain HTTP
        self._files = files
        self._token = b""
        self._stamps: list[Stamp] = []

    def read(self) -> None:
        """Read the files that have changed since the last call; raise `OSError` or `ValueError` if one is unusable."""
        files = [path for path in self._files if path]
        stamps = [_stamp(path) for path in files]
        if stamps == self._stamps and files:
            return
        token = _read_token(self._files.token) if self._files.token else b""
        context = None
        if self._files.certificate:
            context = load_certificate(self._files.certificate, self._files.key)
        self._token, self.context, self._stamps = token, context, stamps

    @property
    def needs_token(self) -> bool:
        return bool(self._files.token)

    def allows(self, authorization: str) -> bool:
        """Return whether the value of a header `Authorization` has the token, or none is needed."""
        if not self.needs_token:
            return True
        scheme, _, token = authorization.strip().partition(" ")
        return scheme.lower() == _SCHEME and hmac.compare_digest(token.strip().encode("latin-1"), self._token)


def load_certificate(certificate: str, key: str) -> ssl.SSLContext:
    """Return a server's TLS context, TLS 1.2 or later; raise `OSError`, of which `ssl.SSLError` is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # because OpenSSL would ask a terminal for the password of an encrypted key
    context.load_cert_chain(certificate, key, password=lambda: b"")
    return context


def _read_token(path: str) -> bytes:
    """Return the token; raise `ValueError`, without its text, if the configuration's check would refuse it."""
    with Path(path).open("rb") as file:
        token = file.read(2 * MOST_TOKEN).strip()
    if not LEAST_TOKEN <= len(token) <= MOST_TOKEN or len(token.split()) != 1:
        raise ValueError(f"the file of the token has not {LEAST_TOKEN} to {MOST_TOKEN} characters without a blank")
    return token


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_ino, status.st_size
