"""Logging to standard error through a thread, so that a reader that is stuck cannot block the daemon.

The daemon and `fire --direct` use this. `set_up` replaces `sys.stderr` and the root logger's handlers; `leave` ends the
process within a bound, even if threads hang. No caller ever waits for a write, except `flush` and `leave`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TextIO

from kill_switch import clock, log_format
from kill_switch.log_format import FIELDS, LogEntry, LogForm, TextForm

MAX_QUEUED = 10_000  # lines; more are lost while the reader is stuck
STUCK_AFTER_S = 2.0  # seconds; `status` reports a line that has waited longer
FLUSH_WITHIN_S = 1.0  # seconds at the end of the process; unread lines are lost after that
STDERR = 2
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogWriter:
    """A daemon thread that writes the pieces put into its queue. Only `flush` waits for it.

    All output of the process goes through the queue. When it is full, lines are lost, and a later line gives their
    number.
    """

    def __init__(self, write: Callable[[str], object], form: LogForm | None = None) -> None:
        """`write` is called in the thread and blocks as long as the reader does; its errors are ignored."""
        self.lost = 0  # pieces of text that were lost because the queue was full
        self.form = form or TextForm()  # of everything that is written from now on
        self._write = write
        self._begun = ""  # a line that no logger writes and that has no line feed yet; only the thread uses it
        self._said_lost = 0
        self._queue: queue.SimpleQueue[Callable[[], str]] = queue.SimpleQueue()
        self._since_ns = 0  # when the current write began; 0: no write is in progress
        threading.Thread(target=self._run, name="stderr", daemon=True).start()

    def put(self, make: Callable[[], str]) -> None:
        """Queue the text that `make` returns; if the queue is full, the text is lost.

        `make` is called in the thread.
        """
        if self._queue.qsize() < MAX_QUEUED:
            self._queue.put(make)
        else:
            self.lost += 1

    def flush(self, within_s: float) -> bool:
        """Wait until all queued text is written; return False if that takes longer than `within_s` seconds."""
        done = threading.Event()

        def mark() -> str:
            done.set()
            return ""

        self._queue.put(self._end_line)
        self._queue.put(mark)
        return done.wait(within_s)

    def put_stray(self, text: str) -> None:
        """Queue text that no logger writes; it is written line by line."""
        self.put(lambda: self._whole_lines(text))

    def _whole_lines(self, text: str) -> str:
        whole, feed, self._begun = (self._begun + text).rpartition("\n")
        return self.form.stray(whole + feed, clock.now().wall_ns) if feed else ""

    def _end_line(self) -> str:
        begun, self._begun = self._begun, ""
        return self.form.stray(begun, clock.now().wall_ns) if begun else ""

    @property
    def stuck_s(self) -> float:
        """Return for how many seconds the current write has waited for the reader; 0.0 if none is in progress."""
        since_ns = self._since_ns
        return (clock.now().mono_ns - since_ns) / 1e9 if since_ns else 0.0

    def _run(self) -> None:
        while True:
            text = self._made(self._queue.get())
            if self.lost > self._said_lost:
                reported, self._said_lost = self._said_lost, self.lost
                lost = f"{self._said_lost - reported} line(s) lost: the reader of standard error was stuck"
                text = self._own_line(lost) + text
            self._since_ns = clock.now().mono_ns
            with contextlib.suppress(OSError, ValueError):  # the stream is closed, so no reader will get this text
                self._write(text)
            self._since_ns = 0

    def _made(self, make: Callable[[], str]) -> str:
        try:
            return make()
        except Exception as error:
            return self._own_line(f"a log line cannot be formatted: {type(error).__name__}")

    def _own_line(self, text: str) -> str:
        return self.form.entry(LogEntry(logging.ERROR, clock.now().wall_ns, __name__, text))


class Stderr(io.TextIOBase):
    """A replacement for `sys.stderr` that passes text to the `LogWriter` and never blocks."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, writer: LogWriter, stream: TextIO) -> None:
        """`stream` is the stream that is replaced; `isatty` and `fileno` are answered by it."""
        super().__init__()
        self._writer = writer
        self._stream = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"expected str, not {type(text).__name__}")
        if text:
            self._writer.put_stray(text)
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


class _Handler(logging.Handler):
    """Pass records to the `LogWriter`, which formats them in its thread.

    A traceback needs the source files, and their disk may hang.
    """

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def createLock(self) -> None:  # noqa: N802 - the name in logging
        """Create no lock: the queue needs none, and a lock could make a caller wait."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the record if the filters pass it. Since Python 3.13, the method of `logging` fails without a lock."""
        is_passed = bool(self.filter(record))
        if is_passed:
            self.emit(record)
        return is_passed

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()  # formatted now, because its arguments may change
        except Exception as error:
            message = f"{record.msg} (arguments not formatted: {type(error).__name__})"
        # because frames hold objects of the event loop's thread, only their places go to the other thread
        trail = log_format.trail_of(record.exc_info[1] if record.exc_info else None)
        fields = {name: str(value) for name in FIELDS if (value := getattr(record, name, None))}
        entry = LogEntry(record.levelno, int(record.created * 1e9), record.name, message, fields, trail)
        self._writer.put(lambda: self._writer.form.entry(entry))


_writer: LogWriter | None = None
_own = False  # False in a test that runs a command within its own process, which `leave` must not end


def set_up() -> None:
    """Send this package's records from INFO on, and libraries' records from WARNING on, to standard error.

    Call it once, before the first record; `configure` then applies the configuration.
    """
    global _writer, _own
    stream = sys.stderr
    if not isinstance(stream, Stderr):
        _own = _is_own(stream)
        _writer = LogWriter(_write_all if _own else partial(_write_to, stream))
        sys.stderr = Stderr(_writer, stream)
        if _own:
            logging.captureWarnings(True)
            sys.excepthook = lambda kind, error, trace: _log_uncaught("unexpected", error)
            threading.excepthook = lambda args: _log_uncaught("a thread ended", args.exc_value)
            sys.unraisablehook = lambda args: _log_uncaught(args.err_msg or "an exception was ignored", args.exc_value)
            atexit.register(_writer.flush, FLUSH_WITHIN_S)
    if _writer is not None:
        logging.getLogger().handlers[:] = [_Handler(_writer)]
    configure("text", "info")


def _is_own(stream: TextIO) -> bool:
    """Return whether a stream is the process's standard error, also as the command line guards it."""
    try:
        return stream.fileno() == STDERR
    except (OSError, ValueError):  # a test's stream
        return False


def configure(form: str, level: str) -> None:
    """Write in the form of `[daemon] log`, from the level of `[daemon] log_level` on; does nothing before `set_up`.

    Records of libraries below WARNING are never written, because they contain URLs, headers and frames, and with them
    keys.
    """
    if _writer is None:
        return
    _writer.form = log_format.choose(form, os.environ, STDERR)
    logging.getLogger().setLevel(max(logging.WARNING, LEVELS[level]))
    logging.getLogger("kill_switch").setLevel(LEVELS[level])


def _write_all(text: str) -> None:
    unwritten = text.encode("utf-8", "backslashreplace")
    while unwritten:
        try:
            unwritten = unwritten[os.write(STDERR, unwritten) :]
        except BlockingIOError:  # another process has made the terminal or the pipe non-blocking
            time.sleep(0.05)


def _write_to(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _log_uncaught(text: str, error: BaseException | None) -> None:
    """Log an exception that no code catches; Python's own hooks read source files and write to the stream itself."""
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    logging.getLogger(__name__).error("%s", text, exc_info=exc_info)


def trouble() -> str:
    """Return a line for people if the reader of standard error is stuck, else ""."""
    if _writer is None or _writer.stuck_s < STUCK_AFTER_S:
        return ""
    return f"the reader of standard error is stuck: log lines wait, {_writer.lost} lost"


def flush() -> None:
    """Wait until the reader has read all log lines, at most `FLUSH_WITHIN_S`."""
    if _writer is not None:
        _writer.flush(FLUSH_WITHIN_S)


def leave(exit_code: int) -> None:
    """End the process now, even if threads hang; the reader has `FLUSH_WITHIN_S` for the last lines.

    Call it once everything that matters is durable. The interpreter's own shutdown would wait for threads that hang in
    a file system or a name service, and for their locks. Returns if `set_up` was not called, or if the process belongs
    to a caller (a test).
    """
    if _writer is None:
        return
    _writer.flush(FLUSH_WITHIN_S)
    if _own:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(exit_code)
