"""Number the frames of one adapter, and keep the frames that are not answered yet. This module sends nothing."""

from __future__ import annotations

from typing import Generic, TypeVar

PartT = TypeVar("PartT")
FrameId = int | str  # a number, or a text of the adapter's own where the venue's ids are texts


class FrameTracker(Generic[PartT]):
    """The unanswered frames of all connections, by id; an id is used once on a connection."""

    __slots__ = ("_last", "_open")

    def __init__(self) -> None:
        self._open: dict[FrameId, tuple[int, PartT]] = {}  # id → connection, and what waits for the answer
        self._last = 0

    def next_number(self) -> int:
        """Return a number that no frame has had."""
        self._last += 1
        return self._last

    def add(self, frame_id: FrameId, conn: int, part: PartT) -> None:
        """Note that a connection carries the frame of this id."""
        self._open[frame_id] = (conn, part)

    def take(self, frame_id: FrameId, conn: int) -> PartT | None:
        """Return what waits for the answer to this frame, and forget the frame; None: it is not this connection's."""
        if self._open.get(frame_id, (None,))[0] != conn:
            return None
        return self._open.pop(frame_id)[1]

    def take_lost(self, conn: int) -> list[PartT]:
        """Return what waits for the frames of a connection that is gone, and forget them."""
        lost = [frame_id for frame_id, (used, _) in self._open.items() if used == conn]
        return [self._open.pop(frame_id)[1] for frame_id in lost]

    def take_all(self) -> list[PartT]:
        """Return everything that waits, and forget all frames."""
        parts = [part for _, part in self._open.values()]
        self._open.clear()
        return parts
