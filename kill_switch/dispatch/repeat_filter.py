"""Say a trouble that lasts once, and again at a bounded pace with how often it came meanwhile; pure."""

from __future__ import annotations

import re
from collections import deque

REPEAT_AFTER_S = 600.0  # until the same words are said again
MAX_LINES = 5  # lines within `WITHIN_S`, whatever the words
WITHIN_S = 60.0
MAX_WORDINGS = 10  # different words of one trouble that are remembered
_NUMBERS = re.compile(r"\d+")


class RepeatFilter:
    """Decide which words of one part of the program are worth a line now.

    Words that differ in numbers only are the same: a venue may put a time or a request's number into each refusal.
    """

    def __init__(self) -> None:
        self._wordings: dict[
            str, int
        ] = {}  # of the trouble that has not ended: words without numbers → when they were said
        self._last_line_ns = 0
        self._suppressed = 0  # times that were not said since
        self._lines: deque[int] = deque(maxlen=MAX_LINES)  # when they were said

    def next_line(self, words: str, now_ns: int) -> str:
        """Return what to say now that this is the trouble; "" if nothing."""
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
        """Take note that there is no trouble any more; tell whether to say so, as the trouble was said."""
        had_lines, self._suppressed = bool(self._wordings), 0
        self._wordings.clear()
        return had_lines
