"""Number the frames of one adapter, and keep the frames that are not answered yet. This module sends nothing."""

from __future__ import annotations

from typing import Generic, TypeVar

PartT = TypeVar("PartT")


class FrameTracker(Generic[PartT]):
    """The unanswered frames of all connections, by number; a number is used once in the adapter's life."""

    __slots__ = ("_last", "_open")

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, PartT]] = {}  # number → connection, and what waits for the answer
        self._last = 0

    def next_number(self) -> int:
        """Return a number that no frame has had."""
        self._last += 1
        return self._last

    def add(self, number: int, conn: int, part: PartT) -> None:
        """Note that a connection carries the frame of this number."""
        self._open[number] = (conn, part)

    def take(self, number: int, conn: int) -> PartT | None:
        """Return what waits for the answer to this frame, and forget the frame; None: it is not this connection's."""
        if self._open.get(number, (None,))[0] != conn:
            return None
        return self._open.pop(number)[1]

    def take_lost(self, conn: int) -> list[PartT]:
        """Return what waits for the frames of a connection that is gone, and forget them."""
        lost = [number for number, (used, _) in self._open.items() if used == conn]
        return [self._open.pop(number)[1] for number in lost]

    def take_all(self) -> list[PartT]:
        """Return everything that waits, and forget all frames."""
        parts = [part for _, part in self._open.values()]
        self._open.clear()
        return parts
