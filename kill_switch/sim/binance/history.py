"""Binance's orders and trades of the past, and the count of an account's new orders.

Spot and both futures use it: clients read them when they start. Both lists have the venue's own shape of an order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.params import known_symbol
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Params

if TYPE_CHECKING:
    from kill_switch.sim.binance.venue import Binance

_USUAL, _MOST = 500, 1000  # rows of a page
_INTERVALS: Mapping[str, tuple[str, int]] = {"10S": ("SECOND", 10), "1M": ("MINUTE", 1), "1D": ("DAY", 1)}


class HistoryCalls:
    """The calls that read what was."""

    def __init__(self, venue: Binance, listed: Callable[[Order], object]) -> None:
        self._venue = venue
        self._listed = listed

    def orders(self, account: Account, params: Params) -> object:
        """Answer allOrders: a symbol's regular orders, open or not, the oldest first."""
        symbol = known_symbol(self._venue.symbols, params)
        mine = [order for order in self._known(account) if order.symbol == symbol]
        first = str(params.get("orderId", "0"))
        mine = [order for order in mine if int(order.id) >= (int(first) if first.isdigit() else 0)]
        page = sorted(mine, key=lambda order: int(order.id))
        limit = page_size(params)
        return [self._listed(order) for order in (page[:limit] if "orderId" in params else page[-limit:])]

    def trades(self, account: Account, params: Params) -> object:
        """Answer myTrades or userTrades: a row for each order that traded."""
        needed = self._venue.name == "binance-spot"
        symbol = known_symbol(self._venue.symbols, params, needed=needed)
        traded = [order for order in self._known(account) if order.filled and symbol in ("", order.symbol)]
        return [
            {"symbol": order.symbol, "id": int(order.id), "orderId": int(order.id), "orderListId": -1,
             "price": str(order.price), "qty": str(order.filled), "quoteQty": str(order.filled * order.price),
             "commission": "0", "commissionAsset": "USDT", "realizedPnl": "0", "side": order.side.upper(),
             "positionSide": "BOTH", "time": (order.closed_ns or order.created_ns) // 1_000_000,
             "isBuyer": order.side == "buy", "buyer": order.side == "buy", "isMaker": True, "maker": True,
             "isBestMatch": True}
            for order in traded[-page_size(params):]
        ]  # fmt: skip

    def order_count(self, account: Account, params: Params) -> object:
        """Answer rateLimit/order (§7)."""
        rows = []
        for rule in self._venue.order_rules:
            interval, number = _INTERVALS[rule.name]
            count = self._venue.limits.orders_of(account.venue_id, rule)
            rows.append(
                {"rateLimitType": "ORDERS", "interval": interval, "intervalNum": number, "limit": rule.most,
                 "count": count}
            )  # fmt: skip
        return rows

    def _known(self, account: Account) -> list[Order]:
        """Return the orders of the space: a futures venue has algo orders apart."""
        known = [*account.open.values(), *account.closed.values()]
        return known if self._venue.name == "binance-spot" else [order for order in known if not order.category]


def page_size(params: Params) -> int:
    """Return the rows of a page. Raises `Refused`."""
    text = str(params.get("limit", _USUAL))
    if not text.isdigit() or not 0 < int(text) <= _MOST:
        raise refusal("-1130", "Data sent for parameter 'limit' is not valid.")
    return int(text)
