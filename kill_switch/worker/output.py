"""Log what a worker process writes to its standard error, in the daemon's form; `client` reads it with this.

A worker writes `<N>` and a line for each record of its own, as `say` does. Anything else is a library's output or the
interpreter's, and is logged as a warning. A flood is slowed down, and its lines are counted.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType

import anyio

from kill_switch import printable, unexpected

log = logging.getLogger(__name__)

CHUNK = 4096  # bytes
LINE_CHARACTERS = 1000  # characters of a line that are logged
LINES, WITHIN_S = 50, 60.0  # lines that are logged within a time; further ones are counted
PAUSE_S = 0.05  # seconds between two reads of a flood
_LEVELS = {"3": logging.ERROR, "4": logging.WARNING, "6": logging.INFO, "7": logging.DEBUG}
_RECORD = re.compile(r"<([3467])>(.*)")


def say(level: str, text: str) -> None:
    """Write a record of a worker process to its standard error; `level` is one of syslog's: 3, 4, 6 or 7."""
    sys.stderr.write(f"<{level}>{printable.line(text)}\n")
    sys.stderr.flush()


def say_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Write that an exception was not caught, without its text, because that may hold a secret; a `sys.excepthook`."""
    say("3", f"unexpected: {kind.__name__ if error is None else unexpected.brief(error)}")


class OutputLog:
    """The lines of one worker, over all of its processes."""

    def __init__(self, name: str, clock_s: Callable[[], float] = anyio.current_time) -> None:
        """`name` is that of the worker, for people; `clock_s` returns seconds that only rise."""
        self._name = name
        self._clock_s = clock_s
        self._times: deque[float] = deque(maxlen=LINES)
        self._left_out = 0
        self._begun = ""  # the beginning of a line

    async def follow(self, stream: asyncio.StreamReader) -> None:
        """Log the lines of a process until it has closed its standard error; may be cancelled and called again."""
        while chunk := await stream.read(CHUNK):
            *lines, self._begun = (self._begun + chunk.decode("utf-8", "replace")).split("\n")
            if len(self._begun) > CHUNK:
                lines, self._begun = [*lines, self._begun], ""
            for line in lines:
                self.take(line)
            await anyio.sleep(PAUSE_S if self._left_out else 0)  # because a flood must not keep the event loop busy
        line, self._begun = self._begun, ""
        self.take(line)

    def take(self, line: str) -> None:
        """Log a line, unless too many came of late."""
        if not line.strip():
            return
        now_s = self._clock_s()
        if len(self._times) == LINES and now_s - self._times[0] < WITHIN_S:
            self._left_out += 1
            return
        self._times.append(now_s)
        if self._left_out:
            log.warning("%s: %d line(s) of its output were left out", self._name, self._left_out)
            self._left_out = 0
        record = _RECORD.fullmatch(line)
        level, text = (_LEVELS[record[1]], record[2]) if record else (logging.WARNING, line)
        log.log(level, "%s: %s", self._name, printable.line(text)[:LINE_CHARACTERS])
