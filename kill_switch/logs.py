"""Log to standard error, a line an event, as `key=value` where it helps; with priorities where systemd reads them."""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import queue
import sys

from kill_switch import clock

QUEUE = 10_000  # lines that wait for a reader that is stuck; what comes on top is dropped
_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class _Line(logging.Formatter):
    """One line a record; systemd's journal has the time already, and wants the priority (sd-daemon(3))."""

    def __init__(self, to_journal: bool) -> None:
        super().__init__("%(levelname)-8s %(message)s" if to_journal else "%(asctime)s %(levelname)-8s %(message)s")
        self._to_journal = to_journal

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return clock.iso(int(record.created * 1e9))

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record).replace("\n", "\n  ")
        return f"<{_PRIORITY.get(record.levelno, 6)}>{line}" if self._to_journal else line


class _Handler(logging.handlers.QueueHandler):
    """Hand a record to the thread that writes, and never wait for it: whoever reads our lines may be stuck."""

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            pass  # the journal has what matters


def set_up() -> None:
    """Send our own records from INFO on, and libraries' from WARNING on, to standard error."""
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(_Line("JOURNAL_STREAM" in os.environ))
    lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE)
    listener = logging.handlers.QueueListener(lines, writer)
    listener.start()
    atexit.register(listener.stop)
    root = logging.getLogger()
    root.handlers[:] = [_Handler(lines)]
    root.setLevel(logging.WARNING)
    logging.getLogger("kill_switch").setLevel(logging.INFO)
