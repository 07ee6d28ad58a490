"""The certificate authorities that verify venues: the system's, or those of an account's `ca_file`.

The dialer uses them, and reloads them while the daemon runs. Files are read in threads, never on the event loop.
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
LOOK_EVERY_S = 2.0  # between checks of the files while connections are made; a check takes 1 ms for 150 files
PATIENCE_S = 0.3  # for a check of files on a healthy disk; if it takes longer, the last good authorities are used
PREPARE_WITHIN_S = 10.0  # at start-up and at a reload
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # the file names that OpenSSL reads in a directory (openssl-rehash(1))

Signature = tuple[tuple[str | int, ...], ...]


class _LoadedAuthorities(NamedTuple):
    signature: Signature
    context: ssl.SSLContext
    sources: frozenset[str]  # files and directories that contained an authority


class Authorities:
    """The authorities of one file, or of the system.

    After a change, new connections use the new authorities. If authorities become unreadable, missing or empty,
    `trouble` reports it and the last good ones stay in use.
    """

    def __init__(self, ca_file: str | None) -> None:
        """Read nothing yet. `ca_file` None: the system's authorities."""
        self.trouble = ""  # why the last good authorities are used instead of the present files
        self._ca_file = ca_file
        self._loaded: _LoadedAuthorities | None = None
        self._lookup = Lookup(self._read, self._looked)

    @property
    def context(self) -> ssl.SSLContext:
        """Return the last good TLS context. Requires a successful `load` before."""
        assert self._loaded is not None  # noqa: S101 - `Network.dialer` calls `load` first
        return self._loaded.context

    def load(self) -> None:
        """Load the authorities that `prepare` has read, else read them now, which blocks.

        Raises `OSError` if the `ca_file` has no authority or could not be read in time.
        """
        if self._ca_file and self._lookup.error is not None:
            raise self._lookup.error
        if self._loaded is None:
            if self._lookup.under_way:
                raise OSError(errno.ETIMEDOUT, "cannot be read in time")
            self._loaded = self._read()

    def check_files(self, every_s: float = LOOK_EVERY_S) -> None:
        """Check in the background whether the files have changed, unless that was done within `every_s` seconds."""
        if anyio.current_time() - self._lookup.ended_s >= every_s:
            self._lookup.begin()

    async def settle(self) -> None:
        """Wait for the running check, `PATIENCE_S` at most."""
        await self._lookup.settle(PATIENCE_S)

    async def reload_after_refusal(self, used: ssl.SSLContext) -> bool:
        """Check the files again after `used` refused a venue; return whether other authorities are in force now."""
        if self._loaded is not None and self._loaded.context is used:
            self.check_files(0.0)
            await self.settle()
        return self.context is not used

    async def prepare(self) -> None:
        """Read the files in a thread, for the `load` that follows."""
        self.check_files(0.0)
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
        """Return the name of the authorities for people."""
        return f"ca_file {self._ca_file}" if self._ca_file else "the system's certificate authorities"

    def _read(self) -> _LoadedAuthorities:
        """Read the files if they have changed; this blocks. Raises `OSError` if a source no longer has an authority."""
        before = self._loaded
        # before the files are read, so that the next check finds a change made meanwhile
        signature = _signature(self._ca_file)
        if before is not None and before.signature == signature:
            return before
        context, sources = _read_all(self._ca_file)
        if before is not None and (gone := before.sources - sources):
            raise OSError(errno.ENOENT, f"{min(gone)} no longer holds a certificate")
        return _LoadedAuthorities(signature, context, sources)


class AuthorityStore:
    """The authorities of all accounts. Accounts with the same file share one TLS context in memory."""

    def __init__(self) -> None:
        self._trusts: dict[str | None, Authorities] = {}
        if os.environ.get(KEYLOG):
            log.warning("%s is set and is ignored: this program never writes TLS secrets", KEYLOG)

    def trust(self, ca_file: str | None) -> Authorities:
        """Return the authorities of a file, or the system's; create them at the first call."""
        ca_file = ca_file or None
        if ca_file not in self._trusts:
            self._trusts[ca_file] = Authorities(ca_file)
        return self._trusts[ca_file]

    async def prepare(self, ca_files: Iterable[str | None]) -> None:
        """Read all files in threads, for `PREPARE_WITHIN_S` at most, so that `Network.dialer` does not block."""
        async with anyio.create_task_group() as group:
            for ca_file in {path or None for path in ca_files}:
                group.start_soon(self.trust(ca_file).prepare)

    def troubles(self) -> Iterator[str]:
        """Yield a line for people for each source of authorities that cannot be read now."""
        return (trust.trouble for trust in self._trusts.values() if trust.trouble)


def tls_context(ca_file: str | Path | None) -> ssl.SSLContext:
    """Return a TLS context that verifies the chain and the host name, from TLS 1.2 on.

    A `ca_file` replaces the system's authorities; verification cannot be disabled. This blocks: it reads all
    authorities into memory, so that a handshake reads no file. Raises `OSError`.
    """
    return _read_all(str(ca_file) if ca_file else None)[0]


def _read_all(ca_file: str | None) -> tuple[ssl.SSLContext, frozenset[str]]:
    """Return a context, and the files and directories that contained an authority. Raises `OSError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = Handshake
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sys.version_info >= (3, 13):  # as `ssl.create_default_context` does
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    if ca_file:
        if not stat.S_ISREG(os.stat(ca_file).st_mode):  # reading a pipe would wait for its writer
            raise OSError(errno.EINVAL, "is not a file")
        context.load_verify_locations(cafile=ca_file)
        return context, frozenset((ca_file,))
    sources = set()
    for source, path in _system_files():
        try:
            context.load_verify_locations(cafile=path)
            sources.add(source)
        except OSError as error:  # one bad certificate does not invalidate the others
            log.debug("%s: %s", path, _words(error))
    return context, frozenset(sources)


def _system_files() -> Iterator[tuple[str, str]]:
    """Yield the system's files of authorities, each with the file or directory that OpenSSL is configured with.

    They are those of SSL_CTX_set_default_verify_paths(3): a file, and the files in directories that openssl-rehash(1)
    has named.
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
    """Return identity, size and times of every relevant file. Raises `OSError` if the `ca_file` does not exist."""
    if ca_file:
        return (_identity(ca_file, os.stat(ca_file)),)
    identities = []
    for _, path in _system_files():
        try:
            identities.append(_identity(path, os.stat(path)))
        except OSError:  # removed since the directory was listed
            continue
    return tuple(identities)


def _identity(path: str, status: os.stat_result) -> tuple[str | int, ...]:
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "it holds no certificate"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
