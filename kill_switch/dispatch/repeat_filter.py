"""Limit the log lines of a lasting trouble to one, and later lines with a count of repeats. Pure."""

from __future__ import annotations

import re
from collections import deque

REPEAT_AFTER_S = 600.0  # until the same words are logged again
MAX_LINES = 5  # lines within `WITHIN_S`, of any words
WITHIN_S = 60.0
MAX_WORDINGS = 10  # of one trouble that are remembered
_NUMBERS = re.compile(r"\d+")


class RepeatFilter:
    """Decides which troubles of one part of the program are logged now.

    Words that differ in numbers only are the same: a venue may put a time or a request's number into each refusal.
    """

    def __init__(self) -> None:
        self._wordings: dict[str, int] = {}  # of the present trouble: words without numbers → when they were logged
        self._last_line_ns = 0
        self._suppressed = 0  # repeats since the last line that were not logged
        self._lines: deque[int] = deque(maxlen=MAX_LINES)  # when the last lines were logged

    def next_line(self, words: str, now_ns: int) -> str:
        """Return the line to log for this trouble; "" if none is due."""
        about = _NUMBERS.sub("#", words)
        before_ns = self._wordings.get(about)
        soon = before_ns is not None and now_ns - before_ns < REPEAT_AFTER_S * 1e9
        often = len(self._lines) == MAX_LINES and now_ns - self._lines[0] < WITHIN_S * 1e9
        if soon or often:
            self._suppressed += 1
            return ""
        since_s = (now_ns - self._last_line_ns) / 1e9
        suffix = f" ({self._suppressed} times more in the last {since_s:,.0f} s)" if self._suppressed else ""
        self._wordings.pop(about, None)
        self._wordings[about] = self._last_line_ns = now_ns
        while len(self._wordings) > MAX_WORDINGS:
            del self._wordings[next(iter(self._wordings))]
        self._suppressed = 0
        self._lines.append(now_ns)
        return words + suffix

    def resolve(self) -> bool:
        """End the trouble; return whether its end is to be logged, because the trouble was."""
        had_lines, self._suppressed = bool(self._wordings), 0
        self._wordings.clear()
        return had_lines
