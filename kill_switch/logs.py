"""Log to standard error, a line an event, as `key=value` where it helps; with priorities where systemd reads them."""

from __future__ import annotations

import logging
import os
import sys

from kill_switch import clock

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


def set_up() -> None:
    """Send our own records from INFO on, and libraries' from WARNING on, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kill_switch").setLevel(logging.INFO)
