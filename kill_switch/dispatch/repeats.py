"""Say a trouble that lasts once, and again at a bounded pace with how often it came meanwhile; pure."""

from __future__ import annotations

import re
from collections import deque

AGAIN_S = 600.0  # until the same words are said again
MOST = 5  # lines within `WITHIN_S`, whatever the words
WITHIN_S = 60.0
KNOWN = 10  # different words of one trouble that are remembered
_NUMBERS = re.compile(r"\d+")


class Repeats:
    """Decide which words of one part of the program are worth a line now.

    Words that differ in numbers only are the same: a venue may put a time or a request's number into each refusal.
    """

    def __init__(self) -> None:
        self._said: dict[
            str, int
        ] = {}  # of the trouble that has not ended: words without numbers → when they were said
        self._said_ns = 0
        self._more = 0  # times that were not said since
        self._lines: deque[int] = deque(maxlen=MOST)  # when they were said

    def line(self, words: str, now_ns: int) -> str:
        """Return what to say now that this is the trouble; "" if nothing."""
        about = _NUMBERS.sub("#", words)
        before_ns = self._said.get(about)
        soon = before_ns is not None and now_ns - before_ns < AGAIN_S * 1e9
        often = len(self._lines) == MOST and now_ns - self._lines[0] < WITHIN_S * 1e9
        if soon or often:
            self._more += 1
            return ""
        since_s = (now_ns - self._said_ns) / 1e9
        more = f" ({self._more} times more in the last {since_s:,.0f} s)" if self._more else ""
        self._said.pop(about, None)
        self._said[about] = self._said_ns = now_ns
        while len(self._said) > KNOWN:
            del self._said[next(iter(self._said))]
        self._more = 0
        self._lines.append(now_ns)
        return words + more

    def over(self) -> bool:
        """Take note that there is no trouble any more; tell whether to say so, as the trouble was said."""
        said, self._more = bool(self._said), 0
        self._said.clear()
        return said
