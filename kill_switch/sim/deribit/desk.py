"""The orders of the simulated Deribit: triggers, linked orders, and those that a kill does not reach.

§ numbers are those of docs/venues/deribit.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.payloads import DeribitOrder
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Refused

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

_ECHO_S = 1.0
_FREEZE_S = 1.0


class OrderDesk:
    """Create orders, end them for the venue's own reasons, and follow the links between them."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue
        self._number = 100_000
        self._thaws_at: dict[str, float] = {}

    def next_number(self) -> int:
        """Return a number that no order had before."""
        self._number += 1
        return self._number

    def make(self, symbol: str, kind: str, order_type: str, side: str) -> DeribitOrder:
        """Create an order; a trigger lies 5,000 away from the price."""
        order_id = wire.order_id(symbol, self.next_number(), order_type)
        price, stop = Decimal(str(self._venue.options.mark_price)), None
        if order_type in wire.TRIGGERS:
            stop = price - 5_000 if wire.falls(side, order_type) else price + 5_000
        state, at_ns = "open" if stop is None else "untriggered", self._venue.now_ns()
        return DeribitOrder(order_id, symbol, kind, side, Decimal(10), price, state, at_ns, stop, type=order_type)

    def permit(self, *, cancels: bool) -> None:
        """Refuse a command in the pause at 08:00 UTC, or while the account is frozen (§8)."""
        options = self._venue.options
        if options.settling and not (cancels and options.settling_cancels):
            raise Refused("10041", 400)
        if options.locked and not (cancels and options.locked_cancels):
            raise Refused("10019", 400)

    def freeze_quotes(self, account: Account) -> None:
        """Refuse mass quotes for a second (§3.1)."""
        self._thaws_at[account.name] = time.monotonic() + _FREEZE_S

    def is_frozen(self, account: Account) -> bool:
        """Return whether mass quotes are refused."""
        return time.monotonic() < self._thaws_at.get(account.name, 0.0)

    # orders that are elsewhere (§3.3)

    def is_reached(self, order: Order) -> bool:
        """Return whether cancels and look-ups know an order: RFQ quotes and Starbase orders are elsewhere."""
        return order.kind != "rfq" and (order.kind != "starbase" or self._venue.options.starbase_cancelled)

    def is_listed(self, order: Order) -> bool:
        """Return whether lists show an open order."""
        return order.kind != "rfq" and (order.kind != "starbase" or self._venue.options.starbase_listed)

    def rfq_quotes(self, account: Account, number: int | None) -> list[Order]:
        """Return the open quotes of Block RFQs, of one RFQ or of all."""
        quotes = [order for order in account.open.values() if order.kind == "rfq"]
        return [quote for quote in quotes if number in (None, wire.rfq_number(quote))]

    def place_uncovered(self) -> None:
        """Rest as many orders of the kinds that a kill does not reach as the options say."""
        for kind in wire.UNCOVERED:
            wanted: int = getattr(self._venue.options, kind)
            for account in self._venue.accounts.values():
                there = [order for order in account.open.values() if order.kind == kind]
                self.end(account, there[wanted:], "autoliquidation")
                self._venue.rest(account, max(0, wanted - len(there)), self._venue.symbol, kind)

    # orders that the venue ends

    def end(self, account: Account, orders: Sequence[Order], reason: str) -> None:
        """Cancel orders for a reason of the venue's, untouched by faults."""
        ended = []
        for order in orders:
            if isinstance(order, DeribitOrder) and account.end(order, "cancelled", self._venue.now_ns()):
                order.reason = reason
                ended.append(order)
        if ended:
            self._venue.push_orders(account, ended, "cancelled")

    def end_session(self, account: Account, session_id: str) -> None:
        """Cancel the orders that a WebSocket placed (§6)."""
        orders = [order for order in account.open.values() if getattr(order, "session", "") == session_id]
        self.end(account, orders, "cancel_on_disconnect")

    def echoed(self, account: Account) -> list[Order]:
        """Return the orders that a detailed answer repeats, where the option says so."""
        if not self._venue.options.echoes:
            return []
        since = time.monotonic() - _ECHO_S
        ended = (order for order in account.closed.values() if order.ended_s >= since)
        return [order for order in ended if getattr(order, "reason", "") == "cancel_on_disconnect"]

    def follow(self, account: Account, closed: Order, *, is_filled: bool) -> None:
        """Wake or cancel the orders that are linked to a closed order (§3.2)."""
        if not isinstance(closed, DeribitOrder):
            return
        linked = [order for order in account.open.values() if isinstance(order, DeribitOrder)]
        secondaries = [order for order in linked if order.primary == closed.id and order.dormant]
        if secondaries and is_filled:
            for order in secondaries:
                order.dormant, order.state = False, "untriggered" if order.is_trigger else "open"
            self._venue.push_orders(account, secondaries, "opened")
        elif secondaries:
            self.end(account, secondaries, "oto_primary_closed")
        if closed.group:
            legs = [order for order in linked if order.group == closed.group and not order.dormant]
            self.end(account, legs, "oco_other_closed")

    def fire(self) -> None:
        """Turn the triggers that the price has reached into orders with new ids (§1)."""
        price = Decimal(str(self._venue.options.mark_price))
        for account in self._venue.accounts.values():
            for order in [*account.open.values()]:
                if isinstance(order, DeribitOrder) and order.is_reached(price) and order.id in account.open:
                    child_type = wire.TRIGGERS[order.type][1]
                    child = self.make(order.symbol, child_type, child_type, order.side)
                    child.qty, child.price, child.client_id = order.qty, order.price, order.client_id
                    child.parent, child.session, order.child = order.id, order.session, child.id
                    account.end(order, "triggered", self._venue.now_ns())
                    self._venue.push_orders(account, [order], "triggered")
                    if wait_s := self._venue.options.trigger_ms / 1000:
                        self._venue.later(wait_s, self._venue.place, account, child)
                    else:
                        self._venue.place(account, child)
