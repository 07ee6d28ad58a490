"""Build the frames of commands, and the first frame of the next strike in advance. `Striker` owns a `CommandFrames`.

A kill then only writes that frame. Nothing here sends, and no frame that was built is assumed to have left.
"""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.venues.messages import Send

FrameBuilder = Callable[[int], bytes]  # a frame's number → its text
NumberedFrame = tuple[Send, int]


class CommandFrames:
    """The frames of one adapter's commands; at most one of them is prepared."""

    __slots__ = ("_next_number", "_prepared")

    def __init__(self, next_number: Callable[[], int]) -> None:
        """Prepare none; `next_number` returns a number that no frame has had."""
        self._next_number = next_number
        self._prepared: NumberedFrame | None = None

    def build(self, frame: FrameBuilder, conn: int) -> NumberedFrame:
        """Build a frame for a connection; return it with its number."""
        number = self._next_number()
        return Send(conn, frame(number), command=True), number

    def prepare(self, frame: FrameBuilder, conn: int) -> Send:
        """Build the first frame of the next strike; it replaces the frame that was prepared before."""
        self._prepared = self.build(frame, conn)
        return self._prepared[0]

    def prepared(self, frame: FrameBuilder, conn: int) -> Send:
        """Return the prepared frame; prepare it if there is none for this connection."""
        if self._prepared is None or self._prepared[0].conn != conn:
            return self.prepare(frame, conn)
        return self._prepared[0]

    def take(self, send: object, conn: int) -> NumberedFrame | None:
        """Return the prepared frame with its number, and forget it; None if it is not `send` for this connection."""
        prepared = self._prepared
        if prepared is None or prepared[0] is not send or prepared[0].conn != conn:
            return None
        self._prepared = None
        return prepared

    def drop(self) -> int | None:
        """Forget the prepared frame, whose answer must not count for another; return its number, None without one."""
        prepared, self._prepared = self._prepared, None
        return None if prepared is None else prepared[1]

    def on_closed(self, conn: int) -> None:
        """Forget the prepared frame if it is for this connection."""
        if self._prepared is not None and self._prepared[0].conn == conn:
            self._prepared = None
