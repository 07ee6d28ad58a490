"""Record which orders enter and leave an order book while a kill counts its orders.

`core.order_tracker` starts the trace and reads it; `OrderBook` and the adapters fill it. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kill_switch.core.domain import Order
from kill_switch.core.latest import keep_latest

PAST_IDS = 16_384  # orders that have left the book and are remembered: as many as one read may miss at once
LAPSED = frozenset({"filled", "closed", "expired", "rejected"})  # lower-case states to which no cancel leads


class KillTrace:
    """Hold the orders that came into a book, and how orders ended, since `trace` was called last."""

    def __init__(self) -> None:
        self.now_ns = 0  # when the event that is being processed came, monotonic
        self.tracing = False  # the next three are filled
        self.entered: dict[str, int] = {}  # orders that came into the book → when
        self.ended: dict[str, int] = {}  # orders whose end the venue has stated → when, if it was no cancel; else 0
        self.named_none = False  # the venue has named the orders that a command has cancelled, and there were none

    def trace(self) -> None:
        """Start a new trace, and drop the entries of the last one."""
        self.tracing = True
        self.entered.clear()
        self.ended.clear()
        self.named_none = False

    def stop_tracing(self) -> None:
        """Drop the trace, because no kill is under way."""
        self.trace()
        self.tracing = False

    def note_cancelled(self, ids: Iterable[str], *, all_of_them: bool = False) -> None:
        """Record orders that the venue names as cancelled; the book need not know them.

        `all_of_them`: `ids` has every order that the command has hit, and no other copy of the command can have hit
        any.
        """
        if not self.tracing:
            return
        self._keep_traced(self.ended, dict.fromkeys(ids, 0))
        self.named_none = self.named_none or (all_of_them and not self.ended)

    def note_open(self, ids: Iterable[str], since_ns: int) -> None:
        """Record orders that were open at `since_ns`, monotonic, even if they have ended since."""
        if self.tracing:
            self._keep_traced(self.entered, {order_id: since_ns for order_id in ids if order_id not in self.entered})

    def note_end(self, order: Order, *, cancels: bool = True) -> None:
        """Record how an order has ended, if its status states it; without `cancels`, record only other ends."""
        if not self.tracing:
            return
        status = order.status.lower()
        if status in LAPSED:
            self._keep_traced(self.ended, {order.id: max(1, self.now_ns)})
        elif cancels and "cancel" in status and "amend" not in status:
            self._keep_traced(self.ended, {order.id: 0})

    def _enter(self, ids: Iterable[str]) -> None:
        self._keep_traced(self.entered, dict.fromkeys(ids, self.now_ns))

    @staticmethod
    def _keep_traced(kept: dict[str, Any], added: Mapping[str, Any]) -> None:
        kept.update(added)
        if len(kept) > PAST_IDS:  # checked first, because an answer to a strike is being read
            keep_latest(kept, PAST_IDS)
