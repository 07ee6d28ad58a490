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
import traceback
from collections.abc import Callable
from functools import partial
from typing import TextIO

from kill_switch import clock, printable

MAX_QUEUED = 10_000  # lines; more are lost while the reader is stuck
STUCK_AFTER_S = 2.0  # seconds; `status` reports a line that has waited longer
FLUSH_WITHIN_S = 1.0  # seconds at the end of the process; unread lines are lost after that
STDERR = 2
_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_MOST_CAUSES = 10  # causes of an exception that are logged


class _Line(logging.Formatter):
    """Format each record as one entry; systemd's journal gets the priority and needs no time (sd-daemon(3))."""

    def __init__(self, to_journal: bool) -> None:
        super().__init__("%(levelname)-8s %(message)s" if to_journal else "%(asctime)s %(levelname)-8s %(message)s")
        self._to_journal = to_journal

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the name in logging
        return clock.iso(int(record.created * 1e9))

    def format(self, record: logging.LogRecord) -> str:
        line = printable.lines(super().format(record)).replace("\n", "\n  ")
        return f"<{_PRIORITY.get(record.levelno, 6)}>{line}" if self._to_journal else line


class LogWriter:
    """A daemon thread that writes the pieces put into its queue. Only `flush` waits for it.

    All output of the process goes through the queue. When it is full, lines are lost, and a later line gives their
    number.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write` is called in the thread and blocks as long as the reader does; its errors are ignored."""
        self.lost = 0  # pieces of text that were lost because the queue was full
        self._write = write
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

        self._queue.put(mark)
        return done.wait(within_s)

    @property
    def stuck_s(self) -> float:
        """Return for how many seconds the current write has waited for the reader; 0.0 if none is in progress."""
        since_ns = self._since_ns
        return (clock.now().mono_ns - since_ns) / 1e9 if since_ns else 0.0

    def _run(self) -> None:
        while True:
            text = _made(self._queue.get())
            if self.lost > self._said_lost:
                reported, self._said_lost = self._said_lost, self.lost
                text = f"{self._said_lost - reported} line(s) lost: the reader of standard error was stuck\n{text}"
            self._since_ns = clock.now().mono_ns
            with contextlib.suppress(OSError, ValueError):  # the stream is closed, so no reader will get this text
                self._write(text)
            self._since_ns = 0


def _made(make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception as error:
        return f"a log line cannot be formatted: {type(error).__name__}\n"


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
            self._writer.put(lambda: text)
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

    def __init__(self, writer: LogWriter, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter
        self._writer = writer

    def createLock(self) -> None:  # noqa: N802 - the name in logging
        """Create no lock: the queue needs none, and a lock could make a caller wait."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()  # formatted now, because its arguments may change
        except Exception as error:
            message = f"{record.msg} (arguments not formatted: {type(error).__name__})"
        # because frames hold objects of the event loop's thread, only their places go to the other thread
        trail = _trail(record.exc_info[1] if record.exc_info else None)
        fields = {"levelno": record.levelno, "levelname": record.levelname, "created": record.created, "msg": message}
        self._writer.put(partial(self._text, fields, trail))

    def _text(self, fields: dict[str, object], trail: list[tuple[str, list[traceback.FrameSummary]]]) -> str:
        record = logging.makeLogRecord(fields)
        for error_text, places in trail:
            record.msg += f"\n{''.join(traceback.StackSummary.from_list(places).format())}{error_text}"
        return f"{self.format(record)}\n"


def _trail(error: BaseException | None) -> list[tuple[str, list[traceback.FrameSummary]]]:
    """Return the texts of an exception and its causes, the first cause first, each with its places in the code.

    No source file is read.
    """
    causes: list[tuple[str, list[traceback.FrameSummary]]] = []
    while error is not None and len(causes) < _MOST_CAUSES:
        places = [
            traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False)
            for frame, line in traceback.walk_tb(error.__traceback__)
        ]
        causes.append((_said(error), places))
        for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            causes[:0] = _trail(inner)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return causes[::-1]


def _said(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be shown)"
    return "\n".join((f"{name}: {text}" if text else name, *getattr(error, "__notes__", ())))


_writer: LogWriter | None = None
_own = False  # False in a test that runs a command within its own process, which `leave` must not end


def set_up() -> None:
    """Send this package's records from INFO on, and libraries' records from WARNING on, to standard error.

    Call it once, before the first record.
    """
    global _writer, _own
    stream = sys.stderr
    if not isinstance(stream, Stderr):
        _own = stream is sys.__stderr__
        _writer = LogWriter(_write_all if _own else partial(_write_to, stream))
        sys.stderr = Stderr(_writer, stream)
        if _own:
            logging.captureWarnings(True)
            sys.unraisablehook = _unraisable
            atexit.register(_writer.flush, FLUSH_WITHIN_S)
    root = logging.getLogger()
    if _writer is not None:
        root.handlers[:] = [_Handler(_writer, _Line("JOURNAL_STREAM" in os.environ))]
    root.setLevel(logging.WARNING)
    logging.getLogger("kill_switch").setLevel(logging.INFO)


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


def _unraisable(hook_args: sys.UnraisableHookArgs) -> None:
    """Log an exception that no code can catch; Python's own hook reads source files and writes to the stream itself."""
    error = hook_args.exc_value
    exc_info = (hook_args.exc_type, error, hook_args.exc_traceback) if error is not None else None
    logging.getLogger(__name__).error("%s", hook_args.err_msg or "an exception was ignored", exc_info=exc_info)


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
