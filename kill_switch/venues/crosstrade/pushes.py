"""CrossTrade's pushed frames: order updates, equity, and frames that report a gap or an error.

The adapter hands over every frame that is no reply to an RPC. A frame that no document explains is counted as an
unexplained message; nothing here raises for a frame's content.
"""

from __future__ import annotations

from typing import Any

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.equity import EquityReader
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.prober import Prober
from kill_switch.venues.crosstrade.replies import Words
from kill_switch.venues.crosstrade.tokens import RequestFactory
from kill_switch.venues.decode import to_text
from kill_switch.venues.messages import Outputs, UnexplainedMessage

IGNORED = frozenset(  # frames without content for a kill; their gaps in the sequence count all the same
    "marketData pong status resync executionUpdate positionUpdate executionReportUpdate".split()
)


class PushReader:
    """Apply pushed frames."""

    def __init__(
        self, wire: RequestFactory, knowledge: OrderKnowledge, equity: EquityReader, prober: Prober, words: Words
    ) -> None:
        self._wire = wire
        self._knowledge = knowledge
        self._equity = equity
        self._prober = prober
        self._words = words

    def on_push(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        """Apply a frame; read the orders again if it reports lost frames (§ 6 of docs/venues/crosstrade.md)."""
        is_gap = message.get("type") == "resync" or bool(message.get("dropped"))
        read = self._prober.on_lost_frames(now) if is_gap else ()
        return (*self._on_event(conn, message, now), *read)

    def _on_event(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        match message.get("type"):
            case "orderUpdate":
                return self._knowledge.on_push(message)
            case "pnlUpdate":
                return self._equity.on_push(conn, message, now)
            case str() as kind if kind in IGNORED:
                return ()
            case _ if message.get("status") == "subscribed" or message.get("success") is True:
                return ()
            case _:
                return self._on_unexplained(conn, message, now)

    def _on_unexplained(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        texts = [message[key] for key in ("error", "message", "detail") if message.get(key)]
        if "rate limit" in " ".join(map(to_text, texts)).lower():
            self._wire.on_answered(conn, "", now, limited=True)
        return (UnexplainedMessage(self._words(*texts) if texts else "a message that no document explains"),)
