"""The orders that end as they are placed: IOC and FOK trade at the simulator's price, or expire.

Spot and both futures use it. Other limit orders rest, whatever their price is.
"""

from __future__ import annotations

from collections.abc import Sequence

from kill_switch.sim.binance.prices import crosses
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.table_venue import TableVenue


class EndingVenue(TableVenue):
    """A venue whose orders may end as they are placed."""

    def place(self, account: Account, order: Order) -> Order:
        """Rest a client's order; an order that may not rest trades or expires at once."""
        super().place(account, order)
        self.settle(account, order)
        return order

    def settle(self, account: Account, order: Order) -> None:
        """End a new order that may not rest."""
        if order.kind != "limit" or order.tif not in ("IOC", "FOK"):
            return
        if crosses(order):
            account.trade(order, self.now_ns(), self.filled_as(order))
            self.push_orders(account, [order], "filled")
        else:
            self.expire_orders(account, [order])

    def expire_orders(self, account: Account, orders: Sequence[Order]) -> None:
        """End orders by the rules of their type."""
        for order in orders:
            account.end(order, "EXPIRED", self.now_ns())
        self.push_orders(account, orders, "expired")
