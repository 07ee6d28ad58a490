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
        if params.get("orderId") not in (None, ""):
            traded = [order for order in traded if order.id == str(params["orderId"])]
        return [trade_row(order, self._venue.name) for order in traded[-page_size(params) :]]

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


def trade_row(order: Order, venue: str) -> dict[str, object]:
    """Return the trade of an order, as the venue shows it."""
    is_buyer, is_maker = order.side == "buy", order.kind != "market" and order.tif in ("gtc", "GTC", "GTX")
    row: dict[str, object] = {
        "symbol": order.symbol, "id": int(order.id), "orderId": int(order.id), "price": str(order.price),
        "qty": str(order.filled), "commission": "0", "time": (order.closed_ns or order.created_ns) // 1_000_000,
    }  # fmt: skip
    if venue == "binance-spot":
        return row | {
            "orderListId": int(order.category or -1), "quoteQty": str(order.filled * order.price),
            "commissionAsset": "USDT", "isBuyer": is_buyer, "isMaker": is_maker, "isBestMatch": True,
        }  # fmt: skip
    row |= {
        "side": order.side.upper(), "positionSide": "BOTH", "realizedPnl": "0", "buyer": is_buyer, "maker": is_maker,
    }  # fmt: skip
    if venue == "binance-usdm":
        return row | {"quoteQty": str(order.filled * order.price), "commissionAsset": "USDT"}
    base = order.symbol.partition("USD")[0]
    return row | {"pair": f"{base}USD", "marginAsset": base, "commissionAsset": base, "baseQty": "0"}


def page_size(params: Params) -> int:
    """Return the rows of a page. Raises `Refused`."""
    text = str(params.get("limit", _USUAL))
    if not text.isdigit() or not 0 < int(text) <= _MOST:
        raise refusal("-1130", "Data sent for parameter 'limit' is not valid.")
    return int(text)
