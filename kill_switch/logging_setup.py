"""Write to standard error from a thread, a line an event, so that a reader that is stuck holds up only the lines.

`set_up` replaces `sys.stderr` and the root logger's handlers: all that this process says goes through one bounded
queue. When the queue is full, lines are lost, and a line says how many. `leave` ends the process within a bound,
whatever thread still hangs. systemd's journal gets priorities with the lines.
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

QUEUE = 10_000  # lines that wait for a reader that is stuck
STUCK_AFTER_S = 2.0  # a line that has waited so long is said in the status
FLUSH_WITHIN_S = 1.0  # at the end: what a reader has not taken by then is lost
STDERR = 2
_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_MOST_CAUSES = 10  # of an exception


class _Line(logging.Formatter):
    """One line a record; systemd's journal has the time already, and wants the priority (sd-daemon(3))."""

    def __init__(self, to_journal: bool) -> None:
        super().__init__("%(levelname)-8s %(message)s" if to_journal else "%(asctime)s %(levelname)-8s %(message)s")
        self._to_journal = to_journal

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return clock.iso(int(record.created * 1e9))

    def format(self, record: logging.LogRecord) -> str:
        line = printable.lines(super().format(record)).replace("\n", "\n  ")
        return f"<{_PRIORITY.get(record.levelno, 6)}>{line}" if self._to_journal else line


class Writer:
    """Write what is put into a queue, in a daemon thread. Nobody waits for it but `flush`."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write` is called in the thread, and waits as long as the reader does; its errors are ignored."""
        self.lost = 0  # pieces that found the queue full
        self._write = write
        self._said_lost = 0
        self._queue: queue.SimpleQueue[Callable[[], str]] = queue.SimpleQueue()
        self._since_ns = 0  # when the write under way began
        threading.Thread(target=self._run, name="stderr", daemon=True).start()

    def put(self, make: Callable[[], str]) -> None:
        """Have what `make` returns written; `make` is called in the thread."""
        if self._queue.qsize() < QUEUE:
            self._queue.put(make)
        else:
            self.lost += 1

    def flush(self, within_s: float) -> bool:
        """Wait until all that was put is written; return False if the reader has not taken it within the bound."""
        done = threading.Event()

        def mark() -> str:
            done.set()
            return ""

        self._queue.put(mark)
        return done.wait(within_s)

    @property
    def stuck_s(self) -> float:
        """Return for how long the write under way has waited for the reader, in seconds."""
        since_ns = self._since_ns
        return (clock.now().mono_ns - since_ns) / 1e9 if since_ns else 0.0

    def _run(self) -> None:
        while True:
            text = _made(self._queue.get())
            if self.lost > self._said_lost:
                said, self._said_lost = self._said_lost, self.lost
                text = f"{self._said_lost - said} line(s) lost: the reader of standard error was stuck\n{text}"
            self._since_ns = clock.now().mono_ns
            with contextlib.suppress(OSError, ValueError):  # nobody will ever read it
                self._write(text)
            self._since_ns = 0


def _made(make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception as error:
        return f"a line cannot be told: {type(error).__name__}\n"


class Stderr(io.TextIOBase):
    """Stand in for `sys.stderr`: what is written goes to the `Writer`, and nothing here waits."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, writer: Writer, stream: TextIO) -> None:
        """`stream` is what this stands in for."""
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
    """Hand a record to the `Writer`, which formats it: a traceback needs the source files, and their disk may hang."""

    def __init__(self, writer: Writer, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter
        self._writer = writer

    def createLock(self) -> None:
        """Have none: the queue needs no lock, and nobody can be kept waiting by one."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()  # now: its arguments may change
        except Exception as wrong:
            message = f"{record.msg} (cannot be told: {type(wrong).__name__})"
        # frames hold objects that belong to the event loop's thread: only their places go to the other one
        trail = _trail(record.exc_info[1] if record.exc_info else None)
        told = {"levelno": record.levelno, "levelname": record.levelname, "created": record.created, "msg": message}
        self._writer.put(partial(self._text, told, trail))

    def _text(self, told: dict[str, object], trail: list[tuple[str, list[traceback.FrameSummary]]]) -> str:
        record = logging.makeLogRecord(told)
        for what, places in trail:
            record.msg += f"\n{''.join(traceback.StackSummary.from_list(places).format())}{what}"
        return f"{self.format(record)}\n"


def _trail(error: BaseException | None) -> list[tuple[str, list[traceback.FrameSummary]]]:
    """Return what an exception says and where it came through, its cause first, without looking at any file."""
    found: list[tuple[str, list[traceback.FrameSummary]]] = []
    while error is not None and len(found) < _MOST_CAUSES:
        places = [
            traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False)
            for frame, line in traceback.walk_tb(error.__traceback__)
        ]
        found.append((_said(error), places))
        for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            found[:0] = _trail(inner)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found[::-1]


def _said(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception:
        text = "it cannot be told"
    return "\n".join((f"{name}: {text}" if text else name, *getattr(error, "__notes__", ())))


_writer: Writer | None = None
_own = False  # whether this process is ours: a test that runs a command within itself goes on


def set_up() -> None:
    """Send our own records from INFO on, and libraries' from WARNING on, to standard error."""
    global _writer, _own
    stream = sys.stderr
    if not isinstance(stream, Stderr):
        _own = stream is sys.__stderr__
        _writer = Writer(_write_all if _own else partial(_write_to, stream))
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
    rest = text.encode("utf-8", "backslashreplace")
    while rest:
        try:
            rest = rest[os.write(STDERR, rest) :]
        except BlockingIOError:  # another process has made the terminal or the pipe non-blocking
            time.sleep(0.05)


def _write_to(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Log an exception that nobody can catch; Python's own hook looks for source files, and writes by itself."""
    error = what.exc_value
    exc_info = (what.exc_type, error, what.exc_traceback) if error is not None else None
    logging.getLogger(__name__).error("%s", what.err_msg or "an exception was ignored", exc_info=exc_info)


def trouble() -> str:
    """Say that the reader of standard error is stuck; "" if it is not."""
    if _writer is None or _writer.stuck_s < STUCK_AFTER_S:
        return ""
    return f"the reader of standard error is stuck: log lines wait, {_writer.lost} lost"


def flush() -> None:
    """Wait until what was logged has been read, `FLUSH_WITHIN_S` at most."""
    if _writer is not None:
        _writer.flush(FLUSH_WITHIN_S)


def leave(exit_code: int) -> None:
    """End the process now, whatever threads still hang; what was logged has `FLUSH_WITHIN_S` to be read.

    Call this when all that matters is on record. The interpreter's own end would wait for threads that hang in a file
    system or a name service, and for locks that they hold. Returns where the process is not ours to end.
    """
    if _writer is None:
        return
    _writer.flush(FLUSH_WITHIN_S)
    if _own:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(exit_code)
