"""Stand in for the WebSocket lane of an account whose venue is served over HTTP alone."""

from __future__ import annotations

from kill_switch.core.domain import LaneState
from kill_switch.transports.lane import ConnectionCounts


class NoWebSocket:
    """A lane that is always down and carries nothing; no status shows it."""

    trouble = ""
    certificate = None
    state = LaneState.DOWN
    connections = ConnectionCounts(0, 0)

    def prepare(self, conn: int, text: bytes) -> None:
        """Do nothing."""

    def send(self, conn: int, text: bytes) -> bool:
        """Return that the frame has not left."""
        return False

    def authenticated(self, conn: int) -> None:
        """Do nothing."""

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None:
        """Do nothing."""

    def replace(self, conn: int) -> None:
        """Do nothing."""

    def connect_now(self) -> None:
        """Do nothing."""
