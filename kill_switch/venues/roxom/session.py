"""Subscribe Roxom's WebSocket connections, and know which of them are ready (docs/venues/roxom.md § 5).

The adapter owns one `RoxomSessionPool`. The connections carry pushes and no command; this module never reads a push.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.decode import Evidence, as_text
from kill_switch.venues.messages import (
    CloseConnection,
    NotReady,
    Outputs,
    Ready,
    Send,
    UnexplainedMessage,
    WakeAfter,
)

CHANNELS = ("orders", "positions", "balance", "account")
ACK_WITHIN_S = 3.0  # seconds; the acknowledgement's shape is not documented, so silence without an error counts as one
AUTHENTICATION_FAILED = "600010"
SUBSCRIPTION_FAILED = frozenset({"60014", "60016", "60017", "60019"})  # before the first push they end the session
SUBSCRIBE = orjson.dumps({"op": "subscribe", "args": [{"channel": name} for name in CHANNELS]})


class RoxomSessionPool:
    """Hold the sessions of all connections that are up. The upgrade has authenticated them (§ 3.2)."""

    def __init__(self, evidence: Evidence, begin_pushes: Callable[[int, Instant], Outputs]) -> None:
        """Make a pool without a session; `begin_pushes` is called with a connection that has become ready."""
        self._evidence = evidence
        self._begin_pushes = begin_pushes
        self._ready: dict[int, bool] = {}  # connection → it is ready

    def __contains__(self, conn: int) -> bool:
        return conn in self._ready

    @property
    def is_any_ready(self) -> bool:
        """Whether a connection delivers the account's events."""
        return any(self._ready.values())

    def on_opened(self, conn: int) -> Outputs:
        """Subscribe a new connection to the account's channels."""
        self._ready[conn] = False
        return (Send(conn, SUBSCRIBE), WakeAfter(f"ack {conn}", ACK_WITHIN_S))

    def on_closed(self, conn: int) -> None:
        """Forget the session of a closed connection."""
        self._ready.pop(conn, None)

    def on_error(self, conn: int, message: dict[str, Any]) -> Outputs:
        """Process an error frame: close the connection if it is no longer authenticated, or was not subscribed."""
        code = as_text(message.get("code", ""))
        words = self._evidence(code, message.get("msg", ""))
        if code == AUTHENTICATION_FAILED:
            return (NotReady(Route.WS, conn, words, fatal=True), CloseConnection(conn, words))
        if code in SUBSCRIPTION_FAILED and not self._ready[conn]:
            return (NotReady(Route.WS, conn, words), CloseConnection(conn, words))
        return (UnexplainedMessage(words),)

    def mark_ready(self, conn: int, now: Instant) -> Outputs:
        """Mark a connection as ready, which an acknowledgement, an event or silence shows; only the first time."""
        if self._ready.get(conn, True):
            return ()
        self._ready[conn] = True
        return (Ready(Route.WS, conn), *self._begin_pushes(conn, now))
