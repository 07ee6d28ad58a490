"""Standard output and standard error whose faults never stop a command: a full disk, a closed pipe, a stuck reader.

The command line guards both streams before it runs a command; a command that prints on and on asks whether it is still
read. Nothing is printed here.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STUCK_AFTER_S = 0.5  # seconds that a kill waits for the reader of standard error, once
_AGAIN_S = 0.05  # seconds between two writes to a stream that another process has made non-blocking


class OutputLostError(Exception):
    """Nobody gets what a command prints on standard output."""


class _SafeEnd(io.RawIOBase):
    """The end of a standard stream: the first error of a write is kept, and none is raised."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self.fault: Exception | None = None
        self.is_used = False  # something was to be written
        self.patience_s: float | None = None  # seconds to wait for the reader; None: as long as it takes
        self._stream = stream
        self._end: Any = getattr(stream.buffer, "raw", stream.buffer)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: ReadableBuffer) -> int:
        """Write as much as can be written; return the length of all data, as if nothing were lost."""
        left = memoryview(data).cast("B")
        size = len(left)
        self.is_used = True
        try:
            while left:
                left = left[self._write(left) :]
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.fault = self.fault or error
        return size

    def _write(self, data: memoryview) -> int:
        if self.patience_s is not None:
            data = data[: select.PIPE_BUF]  # because no more is sure to be written without a wait
            if not select.select([], [self], [], self.patience_s)[1]:
                self.patience_s = 0.0
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        written: int | None = self._end.write(data)
        if written is None:
            time.sleep(_AGAIN_S)
        return written or 0


class SafeStream(io.TextIOWrapper):
    """A standard stream that raises no error of a write; a character that its encoding lacks becomes "?"."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        """`stream` is the stream that is replaced; nothing may be written to it afterwards."""
        self._safe_end = _SafeEnd(stream)
        by_line = stream.line_buffering or stream.write_through
        super().__init__(
            io.BufferedWriter(self._safe_end), encoding=stream.encoding, errors="replace", line_buffering=by_line
        )

    @property
    def fault(self) -> Exception | None:
        """Return the first error of a write so far; None: there was none."""
        return self._safe_end.fault

    @property
    def is_used(self) -> bool:
        """Return whether any text has been written."""
        self.flush()
        return self._safe_end.is_used

    def be_quick(self) -> None:
        """Wait at most `STUCK_AFTER_S` for the reader from now on; text that it does not read then is lost."""
        try:
            self.fileno()
        except OSError:  # a test's stream, which no reader can hold up
            return
        self._safe_end.patience_s = STUCK_AFTER_S


def open_missing() -> None:
    """Open each standard stream that the caller has closed, so that no socket and no file gets its descriptor.

    Call it before anything else is opened. Text for such a stream is lost.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # EBADF
            _open_nothing(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding="utf-8"))


def _open_nothing(descriptor: int) -> None:
    """Open the lowest free descriptor for reading nothing or writing in vain; without `/dev/null`, by a pipe's end."""
    try:
        os.open(os.devnull, os.O_RDWR)
    except OSError:
        reader, writer = os.pipe()
        if descriptor:
            os.dup2(writer, reader)  # its reader is gone: each write fails, and none waits
        os.close(writer)
    os.set_inheritable(descriptor, True)


@contextmanager
def guarded() -> Iterator[None]:
    """Replace both streams by such that raise no error of a write, until the end of the block."""
    outer = sys.stdout, sys.stderr
    safe = sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr)
    try:
        yield
    finally:
        for stream in safe:
            stream.flush()
        for name, old, new in zip(("stdout", "stderr"), outer, safe, strict=True):
            if getattr(sys, name) is new:  # else the log has replaced it
                setattr(sys, name, old)


def _safe(stream: TextIO) -> TextIO:
    return SafeStream(stream) if isinstance(stream, io.TextIOWrapper) else stream


def output_fault() -> Exception | None:
    """Return why standard output could not be written; None: all of it was."""
    sys.stdout.flush()
    return sys.stdout.fault if isinstance(sys.stdout, SafeStream) else None


def has_output() -> bool:
    """Return whether anything has been printed on standard output."""
    return isinstance(sys.stdout, SafeStream) and sys.stdout.is_used


def require_output() -> None:
    """Raise `OutputLostError` if standard output could not be written, for a command that prints on and on."""
    if isinstance(sys.stdout, SafeStream) and sys.stdout.fault is not None:
        raise OutputLostError


def hurry() -> None:
    """Keep a stuck reader of standard error from delaying a kill."""
    if isinstance(sys.stderr, SafeStream):
        sys.stderr.be_quick()
