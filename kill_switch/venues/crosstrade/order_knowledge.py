"""Apply to the book what CrossTrade's lists, pushes and replies to cancels show of the accounts' orders.

A list shows only what NinjaTrader knows when it is asked (docs/venues/crosstrade.md § 5); an order that NinjaTrader has
forgotten still rests at the broker. So an order is looked up by the kit if a list alone does not prove its end.
Nothing here sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.crosstrade.account_reach import AccountReach
from kill_switch.venues.crosstrade.flatten import Flattener
from kill_switch.venues.crosstrade.replies import (
    AccountDirectory,
    AccountOrder,
    is_account_unknown,
    is_order_ended,
    named_orders,
)
from kill_switch.venues.crosstrade.strike_plan import StrikePlanner
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import Outputs, UnexplainedMessage


@dataclass(slots=True, eq=False)
class OrderKnowledge:
    """Apply lists, pushes and replies to the book, to the plan of strikes and to the accounts in reach."""

    book: OrderBook
    ours: AccountDirectory
    planner: StrikePlanner
    flattens: Flattener
    reach: AccountReach
    _closing: dict[str, Order] = field(default_factory=dict)  # they close positions, as the latest reads showed them
    _refused: set[str] = field(default_factory=set)  # in doubt only since a cancel that covers them was refused

    def judge_cancel(self, account: str, order: str, reply: Reply) -> CancelResult:
        """Apply the reply to the cancel of an order, or of all of an account's orders (`order` is "").

        After a refusal no list alone ends the orders that it concerns. An accepted cancel takes that back, and so it
        does for each order that it names.
        """
        named = named_orders(reply)
        ids = [order_id for each in named or () if (order_id := as_text(each))]
        if is_account_unknown(reply):
            self.reach.unknown[account] = reply.evidence
        if reply.outcome is ReplyOutcome.REFUSED and (order or not self.planner.is_taken(account)):
            self._on_refused((order,) if order else self._orders_of(account))
        elif reply.ok:
            theirs = self._refused & {order, *(() if order else self._orders_of(account))}
            self._refused -= theirs
            self.book.trust_lists((*theirs, *ids))
            if not order:
                self.planner.on_cancel_accepted(account, self.book.now_ns)
                self.flattens.on_cancels_accepted(account, self.book.now_ns)
                self.reach.unknown.pop(account, None)
        ended = (order,) if order and is_order_ended(reply) else ()
        return CancelResult(reply, None if named is None else len(named), ids, ended)

    def _orders_of(self, account: str) -> list[str]:
        return [order_id for order_id in self.book.orders if self.planner.owner(order_id) == account]

    def _on_refused(self, ids: Iterable[str]) -> None:
        for order_id in ids:
            if order_id not in self.book.unproven:
                self._refused.add(order_id)
            self.book.note_cancel_refused(order_id)

    def on_push(self, message: dict[str, Any]) -> Outputs:
        """Apply an `orderUpdate`; another NT account's order is ignored."""
        account_order = self.ours.order(message.get("order", message))
        if account_order is None:
            return (UnexplainedMessage("an order push that cannot be read"),)
        if not account_order.account:
            return ()
        self.planner.on_order(account_order)
        self._refused.discard(account_order.order.id)
        return self.book.apply_push(account_order.order)

    # ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def open_orders(self, listed: Iterable[AccountOrder], asked_ns: int) -> dict[str, Order]:
        """Note the orders of a list; return those that have not ended, by id.

        A terminal state ends an order in doubt. An order that closes a position is PENDING, so that no strike cancels
        it.
        """
        listed = tuple(listed)
        self.flattens.on_market_orders(listed, asked_ns)
        alive: dict[str, Order] = {}
        for account_order in listed:
            order = account_order.order
            self.planner.on_order(account_order)
            if order.state is OrderState.GONE:
                self.book.note_end(order, cancels=False)  # a list does not state when the order ended
                if order.id in self.book.unproven:
                    self.book.remove(order.id)
            elif order.state is OrderState.LIVE and self.flattens.is_own_order(account_order, asked_ns):
                alive[order.id] = self._closing[order.id] = order._replace(state=OrderState.PENDING)
            else:
                alive[order.id] = order
        return alive

    def kept_orders(self, listed: Iterable[AccountOrder], alive: dict[str, Order]) -> list[Order]:
        """Return the orders that a whole list lacks and does not end: those of accounts out of reach.

        Orders in doubt are the book's. The closing orders that the list lacks were filled.
        """
        for order_id in [order_id for order_id in self._closing if order_id not in alive]:
            self.book.note_end(self._closing.pop(order_id)._replace(status="filled"))  # no strike cancelled it
        if not self.reach.unseen:
            return []
        shown = {account_order.order.id for account_order in listed}
        return [
            order
            for order_id, order in self.book.orders.items()
            if order_id not in shown
            and order_id not in self.book.unproven
            and self.planner.owner(order_id) in self.reach.unseen
        ]

    def on_whole_list(self) -> None:
        """Forget the orders that have left the book with a whole list."""
        self._refused &= self.book.orders.keys()
        self.planner.on_whole_list(self.book.orders)
