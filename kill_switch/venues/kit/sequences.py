"""Find gaps in the numbered messages of a channel. Adapters whose venue numbers its pushes use it; it sends nothing."""

from __future__ import annotations


class SequenceTracker:
    """The last number of a channel on each connection."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def is_gap(self, conn: int, number: object, *, restarts: bool = False) -> bool:
        """Return whether messages are missing before this one, and remember its number.

        `restarts`: it is the first message of a subscription. A message without a number proves no gap.
        """
        if not isinstance(number, int):
            return False
        last, self._last[conn] = self._last.get(conn), number
        return last is not None and not restarts and number != last + 1

    def forget(self, conn: int) -> None:
        """Forget a connection that is gone, or whose subscription begins again."""
        self._last.pop(conn, None)
