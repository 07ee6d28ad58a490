"""Verify venues by certificate authorities that may change under a running daemon: the system's, or an account's file.

Files are read in threads, never on the event loop. When they have changed, new connections use what they hold now.
Authorities that are gone, unreadable or empty for a while are said, and the last good ones stay in use.
TLS secrets are never written: `ssl.create_default_context` obeys SSLKEYLOGFILE, and is therefore not used.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import ssl
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import anyio

from kill_switch.transports.certificates import Handshake
from kill_switch.transports.lookup import Lookup

log = logging.getLogger(__name__)

KEYLOG = "SSLKEYLOGFILE"
LOOK_EVERY_S = 2.0  # at the files, while connections come about; a look takes 1 ms for 150 files
PATIENCE_S = 0.3  # for a look at files on a disk that answers; on any other the last good authorities serve
PREPARE_WITHIN_S = 10.0  # at a start or a reload
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # what OpenSSL looks at in a directory (openssl-rehash(1))

Signature = tuple[tuple[str | int, ...], ...]


class _Loaded(NamedTuple):
    signature: Signature
    context: ssl.SSLContext
    sources: frozenset[str]  # files and directories that gave an authority


class Trust:
    """The authorities of one file, or of the system."""

    def __init__(self, ca_file: str | None) -> None:
        """Read nothing yet."""
        self.trouble = ""  # why the last good authorities are used in place of what the files hold now
        self._ca_file = ca_file
        self._loaded: _Loaded | None = None
        self._lookup = Lookup(self._read, self._looked)

    @property
    def context(self) -> ssl.SSLContext:
        """Return the last good context. Call `load` or `prepare` before."""
        assert self._loaded is not None  # noqa: S101 - whoever makes a lane loads first
        return self._loaded.context

    def load(self) -> None:
        """Read the files now, unless `prepare` has: this blocks. Raises `OSError` for a `ca_file` without authority."""
        if self._ca_file and self._lookup.error is not None:
            raise self._lookup.error
        if self._loaded is None:
            if self._lookup.under_way:
                raise OSError(errno.ETIMEDOUT, "cannot be read in time")
            self._loaded = self._read()

    def look(self, every_s: float = LOOK_EVERY_S) -> None:
        """Look in the background whether the files have changed, unless that was done within `every_s`."""
        if anyio.current_time() - self._lookup.ended_s >= every_s:
            self._lookup.begin()

    async def settle(self) -> None:
        """Wait a moment for the look that is under way."""
        await self._lookup.settle(PATIENCE_S)

    async def changed(self, used: ssl.SSLContext) -> bool:
        """Look again because `used` has refused a venue; tell whether other authorities are in force now."""
        if self._loaded is not None and self._loaded.context is used:
            self.look(0.0)
            await self.settle()
        return self.context is not used

    async def prepare(self) -> None:
        """Read the files in a thread, for `load` to find what came of it."""
        self.look(0.0)
        await self._lookup.settle(PREPARE_WITHIN_S)

    def _looked(self) -> None:
        error, loaded = self._lookup.error, self._lookup.answer
        trouble = ""
        if error is not None:
            trouble = f"{self.name}: {_words(error)}: the authorities that were read before are used"
        elif loaded is not None and loaded is not self._loaded:
            if self._loaded is not None:
                log.info("%s: the authorities have changed, and new connections use them", self.name)
            self._loaded = loaded
        if trouble and trouble != self.trouble and self._loaded is not None:
            log.warning("%s", trouble)
        self.trouble = trouble if self._loaded is not None else ""

    @property
    def name(self) -> str:
        """Name the authorities for people."""
        return f"ca_file {self._ca_file}" if self._ca_file else "the system's certificate authorities"

    def _read(self) -> _Loaded:
        """Read the files if they are others than before; this blocks. Raises `OSError` if a source has run dry."""
        before = self._loaded
        signature = _signature(self._ca_file)  # before the reading: what changes meanwhile is found the next time
        if before is not None and before.signature == signature:
            return before
        context, sources = _read_all(self._ca_file)
        if before is not None and (gone := before.sources - sources):
            raise OSError(errno.ENOENT, f"{min(gone)} holds no certificate any more")
        return _Loaded(signature, context, sources)


class TrustStore:
    """Hold the authorities that accounts rely on; accounts with one file share a context, which has it in memory."""

    def __init__(self) -> None:
        self._trusts: dict[str | None, Trust] = {}
        if os.environ.get(KEYLOG):
            log.warning("%s is set and is ignored: this program never writes TLS secrets", KEYLOG)

    def trust(self, ca_file: str | None) -> Trust:
        """Return the authorities of a file, or of the system."""
        ca_file = ca_file or None
        if ca_file not in self._trusts:
            self._trusts[ca_file] = Trust(ca_file)
        return self._trusts[ca_file]

    async def prepare(self, ca_files: Iterable[str | None]) -> None:
        """Read all of them, each in a thread, so that making a lane does not block; at most `PREPARE_WITHIN_S`."""
        async with anyio.create_task_group() as group:
            for ca_file in {one or None for one in ca_files}:
                group.start_soon(self.trust(ca_file).prepare)

    def troubles(self) -> Iterator[str]:
        """Yield a line for people for all authorities that cannot be read as they are now."""
        return (trust.trouble for trust in self._trusts.values() if trust.trouble)


def tls_context(ca_file: str | Path | None) -> ssl.SSLContext:
    """Verify chain and host name, from TLS 1.2 on; a `ca_file` replaces the system's authorities. No way around it.

    This blocks: it reads all of them into memory, so that a handshake reads no file. Raises `OSError`.
    """
    return _read_all(str(ca_file) if ca_file else None)[0]


def _read_all(ca_file: str | None) -> tuple[ssl.SSLContext, frozenset[str]]:
    """Return a context, and the files and directories that gave it an authority. Raises `OSError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = Handshake
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sys.version_info >= (3, 13):  # as `ssl.create_default_context` has it
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    if ca_file:
        if not stat.S_ISREG(os.stat(ca_file).st_mode):  # a pipe would have us wait
            raise OSError(errno.EINVAL, "is not a file")
        context.load_verify_locations(cafile=ca_file)
        return context, frozenset((ca_file,))
    sources = set()
    for source, path in _system_files():
        try:
            context.load_verify_locations(cafile=path)
            sources.add(source)
        except OSError as error:  # one bad certificate is no reason to trust none
            log.debug("%s: %s", path, _words(error))
    return context, frozenset(sources)


def _system_files() -> Iterator[tuple[str, str]]:
    """Yield the files of authorities of this system, each with the file or directory that OpenSSL is told of.

    They are what SSL_CTX_set_default_verify_paths(3) uses: a file, and in directories what openssl-rehash(1) has named.
    """
    paths = ssl.get_default_verify_paths()
    file = os.environ.get(paths.openssl_cafile_env, paths.openssl_cafile)
    if os.path.isfile(file):
        yield file, file
    for directory in os.environ.get(paths.openssl_capath_env, paths.openssl_capath).split(os.pathsep):
        try:
            names = os.listdir(directory) if directory else []
        except OSError:
            continue
        for name in sorted(names):
            if _HASHED.fullmatch(name):
                yield directory, os.path.join(directory, name)


def _signature(ca_file: str | None) -> Signature:
    """Return identity, size and times of every file that counts. Raises `OSError` for a `ca_file` that is not there."""
    if ca_file:
        return (_identity(ca_file, os.stat(ca_file)),)
    found = []
    for _, path in _system_files():
        try:
            found.append(_identity(path, os.stat(path)))
        except OSError:  # it has just been removed
            continue
    return tuple(found)


def _identity(path: str, found: os.stat_result) -> tuple[str | int, ...]:
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "it holds no certificate"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
