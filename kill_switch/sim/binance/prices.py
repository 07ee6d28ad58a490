"""Binance's public prices: what clients read before they place an order. The market stands still.

Spot and both futures use it, each with its own paths. Shapes are those of the documents' examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import orjson

from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.params import known_symbol
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Params, RouteSpec

if TYPE_CHECKING:
    from kill_switch.sim.binance.venue import Binance

PRICE, BID, ASK = "30000.00", "29999.99", "30000.01"
_QUANTITY = "1.00000000"


class PriceCalls:
    """The calls that read prices; none needs a key."""

    def __init__(self, venue: Binance) -> None:
        self._venue = venue

    def price(self, account: Account, params: Params) -> object:
        """Answer ticker/price."""
        return self._each(params, lambda symbol: {"symbol": symbol, "price": PRICE, "time": self._now_ms()})

    def best(self, account: Account, params: Params) -> object:
        """Answer ticker/bookTicker."""
        sizes = {"bidPrice": BID, "bidQty": _QUANTITY, "askPrice": ASK, "askQty": _QUANTITY}
        return self._each(params, lambda symbol: {"symbol": symbol, **sizes})

    def day(self, account: Account, params: Params) -> object:
        """Answer ticker/24hr: a day without trades."""
        prices = dict.fromkeys(("weightedAvgPrice", "lastPrice", "openPrice", "highPrice", "lowPrice"), PRICE)
        none = dict.fromkeys(("priceChange", "priceChangePercent", "lastQty", "volume", "quoteVolume"), "0")
        now_ms = self._now_ms()
        times = {"openTime": now_ms - 86_400_000, "closeTime": now_ms, "firstId": -1, "lastId": -1, "count": 0}
        best = {"bidPrice": BID, "bidQty": _QUANTITY, "askPrice": ASK, "askQty": _QUANTITY}
        return self._each(params, lambda symbol: {"symbol": symbol, **prices, **none, **best, **times})

    def mark(self, account: Account, params: Params) -> object:
        """Answer premiumIndex."""
        prices = dict.fromkeys(("markPrice", "indexPrice", "estimatedSettlePrice"), PRICE)
        further = {"lastFundingRate": "0.00010000", "interestRate": "0.00010000", "nextFundingTime": 0}
        return self._each(params, lambda symbol: {"symbol": symbol, **prices, **further, "time": self._now_ms()})

    def average(self, account: Account, params: Params) -> object:
        """Answer avgPrice, of one symbol."""
        known_symbol(self._venue.symbols, params)
        return {"mins": 5, "price": PRICE, "closeTime": self._now_ms()}

    def depth(self, account: Account, params: Params) -> object:
        """Answer depth, of one symbol: a price on each side."""
        known_symbol(self._venue.symbols, params)
        return {"lastUpdateId": 1027024, "bids": [[BID, _QUANTITY]], "asks": [[ASK, _QUANTITY]]}

    def _each(self, params: Params, row: Callable[[str], Mapping[str, object]]) -> object:
        """Return the row of the symbol that is asked for; without one, a list of all. COIN-M always has a list."""
        names = named_symbols(self._venue.symbols, params)
        is_one = params.get("symbol") is not None and self._venue.name != "binance-coinm"
        return row(names[0]) if is_one else [row(name) for name in names]

    def _now_ms(self) -> int:
        return self._venue.now_ns() // 1_000_000


def crosses(order: Order) -> bool:
    """Return whether an order with a limit trades at once."""
    return order.price >= Decimal(ASK) if order.side == "buy" else order.price <= Decimal(BID)


def named_symbols(symbols: Sequence[str], params: Params) -> Sequence[str]:
    """Return the symbols that `symbol` or `symbols` names, a JSON list; all without either. Raises `Refused`."""
    if params.get("symbol") is not None:
        return [known_symbol(symbols, params)]
    listed = params.get("symbols")
    if listed is None:
        return symbols
    try:
        names = orjson.loads(listed) if isinstance(listed, str) else listed
    except orjson.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise refusal("-1100", "Illegal characters found in parameter 'symbols'.")
    if any(name not in symbols for name in names):
        raise refusal("-1121")
    return names


def routes(calls: PriceCalls, api: str, *, is_spot: bool) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes below the path `api`."""
    table = {
        "ticker/price": RouteSpec("other", "price", calls.price, 2, public=True),
        "ticker/bookTicker": RouteSpec("other", "book-ticker", calls.best, 2, public=True),
        "depth": RouteSpec("other", "depth", calls.depth, 5, public=True),
        "ticker/24hr": RouteSpec("other", "day", calls.day, 2, public=True),
    }
    further = {
        "avgPrice": RouteSpec("other", "average-price", calls.average, 2, public=True),
    } if is_spot else {
        "premiumIndex": RouteSpec("other", "mark-price", calls.mark, 1, public=True),
    }  # fmt: skip
    return {("GET", f"{api}/{path}"): spec for path, spec in (table | further).items()}
