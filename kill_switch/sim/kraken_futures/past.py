"""Keep the past of an account of Kraken derivatives: its log, and the events of its orders, triggers and trades.

The venue notes each change here as it happens; `history` shows it. Shapes: docs/venues/kraken.md §4.3.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kraken_futures import payloads as wire

_KEPT = 5_000  # rows of the log, and events of each kind, of an account
_NOTHING = (
    "collateral", "contract", "execution", "fee", "funding_rate", "mark_price", "new_average_entry_price",
    "old_average_entry_price", "realized_funding", "realized_pnl", "trade_price", "conversion_spread_percentage",
    "liquidation_fee",
)  # fmt: skip
_PLACED, _ENDED = "placed", "ended"


class PastEvent(NamedTuple):
    """An event of an order, a trigger or a trade; `phase` is `placed`, `ended`, or empty."""

    at_ms: int
    symbol: str
    phase: str
    event: Mapping[str, object]
    uid: str

    def row(self) -> dict[str, object]:
        """Return an element of the history's answer."""
        return {"uid": self.uid, "timestamp": self.at_ms, "event": self.event}


class Past:
    """The past of one account, the oldest first."""

    def __init__(self) -> None:
        self.log: deque[dict[str, object]] = deque(maxlen=_KEPT)
        self.orders: deque[PastEvent] = deque(maxlen=_KEPT)
        self.triggers: deque[PastEvent] = deque(maxlen=_KEPT)
        self.executions: deque[PastEvent] = deque(maxlen=_KEPT)
        self._rows = 0  # of the log, since the start

    def note_orders(
        self, account: Account, orders: Iterable[Order], news: str, at_ns: int
    ) -> Sequence[dict[str, object]]:
        """Note what has happened to orders; return the new rows of the log. An edit is noted by `note_edit`."""
        rows: list[dict[str, object]] = []
        for order in orders:
            if news == "opened":
                self._note(account, order, "Placed", _PLACED, "new_user_order", order.created_ns)
            elif news == "cancelled":
                self._note(account, order, "Cancelled", _ENDED, "cancelled_by_user", at_ns)
            elif news == "filled":
                rows += self._note_trade(account, order, at_ns)
        return rows

    def note_edit(self, account: Account, before: Order, order: Order, at_ns: int) -> None:
        """Note an order as it was before an edit, and as it is."""
        if order.stop_price is not None:
            old, new = wire.past_trigger(account, before), wire.past_trigger(account, order, at_ns)
            event = {"oldOrderTrigger": old, "newOrderTrigger": new, "reason": "edited_by_user"}
            self._keep(self.triggers, "OrderTriggerUpdated", event, order, "", at_ns)
            return
        old, new = wire.past_order(account, before), wire.past_order(account, order, at_ns)
        event = {"oldOrder": old, "newOrder": new, "reason": "edited_by_user", "reducedQuantity": ""}
        self._keep(self.orders, "OrderUpdated", event, order, "", at_ns)

    def note_money(self, info: str, before: Decimal, after: Decimal, at_ns: int, **facts: object) -> dict[str, object]:
        """Note a change of the flex account's dollars; return the new row of the log."""
        return self._log(info, "usd", before, after, at_ns, **facts)

    def _note(self, account: Account, order: Order, word: str, phase: str, reason: str, at_ns: int) -> None:
        if order.stop_price is not None:
            event: dict[str, object] = {"order": wire.past_trigger(account, order, at_ns), "reason": reason}
            self._keep(self.triggers, f"OrderTrigger{word}", event, order, phase, at_ns)
            return
        event = {"order": wire.past_order(account, order, at_ns), "reason": reason}
        if word == "Placed":
            event["reducedQuantity"] = ""
        self._keep(self.orders, f"Order{word}", event, order, phase, at_ns)

    def _note_trade(self, account: Account, order: Order, at_ns: int) -> list[dict[str, object]]:
        if order.stop_price is not None:
            event = {"order": wire.past_trigger(account, order, at_ns)}
            self._keep(self.triggers, "OrderTriggerActivated", event, order, _ENDED, at_ns)
        whole, trade = wire.past_order(account, order, at_ns), order.id  # as in `fills`
        resting = whole | {"filled": "0"}
        update = {"oldOrder": resting, "newOrder": whole, "reason": "full_fill", "reducedQuantity": ""}
        self._keep(self.orders, "OrderUpdated", update, order, _ENDED, at_ns)
        execution = wire.past_execution(order, resting, trade, at_ns)
        self._keep(self.executions, "Execution", execution, order, "", at_ns)
        held = account.positions.get(order.symbol)
        after = held.qty if held else Decimal(0)
        before = after - (order.filled if order.side == "buy" else -order.filled)
        facts = {"contract": order.symbol.lower(), "execution": trade, "trade_price": float(order.price)}
        cash = self.note_money("futures trade", account.cash, account.cash, at_ns, fee=0.0, realized_pnl=0.0, **facts)
        return [cash, self._log("futures trade", order.symbol.lower(), before, after, at_ns, **facts)]

    def _log(
        self, info: str, asset: str, before: Decimal, after: Decimal, at_ns: int, **facts: object
    ) -> dict[str, object]:
        self._rows += 1
        row = dict.fromkeys(_NOTHING) | {
            "id": self._rows, "date": wire.iso_ms(at_ns), "asset": asset, "info": info, "margin_account": "flex",
            "booking_uid": str(uuid.uuid4()), "old_balance": float(before), "new_balance": float(after), **facts,
        }  # fmt: skip
        self.log.append(row)
        return row

    @staticmethod
    def _keep(
        kept: deque[PastEvent], name: str, event: Mapping[str, object], order: Order, phase: str, at_ns: int
    ) -> None:
        kept.append(PastEvent(at_ns // 1_000_000, order.symbol, phase, {name: event}, str(uuid.uuid4())))
