"""Know since when pushes of transfers may be missing that an account's figures contain.

An adapter whose venue has a history of transfers owns one `MissedPushes`, and reads the history before such figures.
This module sends nothing. Times are the venue's, in milliseconds.
"""

from __future__ import annotations

LOOK_BACK_MS = 60_000  # a connection may have been dead for so long before it was closed; a history shows rows late
HISTORY_TRIES = 3  # answers in a row that show no transfers and no refusal, after which the figures go on without them


class MissedPushes:
    """The time since which pushes of transfers may be missing."""

    def __init__(self) -> None:
        self.since_ms = 0  # 0: none are missing
        self._measured_ms = 0  # since when figures are compared; 0: none was requested
        self._failures = 0  # answers in a row that have shown no transfers

    def note_measured(self, at_ms: int, *, is_pushed: bool) -> bool:
        """Note that figures are requested; return whether there are earlier ones, with which they are compared.

        `is_pushed`: a connection is open that pushes transfers.
        """
        is_compared, self._measured_ms = self._measured_ms > 0, self._measured_ms or at_ms
        if not is_pushed:
            self.since_ms = self.since_ms or at_ms
        return is_compared

    def note_closed(self, at_ms: int) -> None:
        """Note that the last connection has closed: pushes may be missing that a figure contains."""
        if self._measured_ms:
            self.miss_since(max(self._measured_ms, at_ms - LOOK_BACK_MS))

    def miss_since(self, at_ms: int) -> None:
        """Note that pushes since then may be missing."""
        self.since_ms = min(at_ms, self.since_ms or at_ms)

    def take(self, at_ms: int, *, is_pushed: bool, late_ms: int = LOOK_BACK_MS) -> int:
        """Return since when pushes may be missing, because the history is read now; 0: none are.

        They count as known from now on, unless no connection is open that pushes them. Then the next read begins
        `late_ms` before this one, because a history may show a row so late.
        """
        since_ms, self.since_ms = self.since_ms, 0
        if not is_pushed:
            self.miss_since(max(self._measured_ms, at_ms - late_ms))
        return since_ms

    def tries_again(self, since_ms: int, *, is_refused: bool) -> bool:
        """Note an answer without transfers; return whether they are requested again before the next figures."""
        self._failures = 0 if is_refused else (self._failures + 1) % HISTORY_TRIES
        if self._failures:
            self.miss_since(since_ms)
        return self._failures > 0

    def note_read(self) -> None:
        """Note that an answer has shown the transfers."""
        self._failures = 0
