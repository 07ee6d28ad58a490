"""Kraken's calls of the past: trades, ledger entries and the amends of an order, and the public prices of the past.

The shapes are those of docs.kraken.com. The market stands still: no trade is public, and each candle has one price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kraken import payloads as wire
from kill_switch.sim.kraken.desk import UNKNOWN_ORDER

if TYPE_CHECKING:
    from kill_switch.sim.kraken.venue import Kraken

_PAGE, _MOST_NAMED = 50, 20
_CANDLES, _PRICE = 720, "30000.0"
_INTERVALS = ("1", "5", "15", "30", "60", "240", "1440", "10080", "21600")  # minutes
_INVALID = "EGeneral:Invalid arguments"


class RecordCalls:
    """The private calls."""

    def __init__(self, venue: Kraken) -> None:
        self._desk = venue.desk
        self._venue = venue

    def routes(self) -> dict[str, RouteSpec]:
        """Return the routes; those of the history cost 2 (§7)."""
        return {
            "TradesHistory": RouteSpec("other", "trades", self.trades, weight=2),
            "QueryTrades": RouteSpec("other", "trade", self.named_trades),
            "Ledgers": RouteSpec("other", "ledgers", self.ledgers, weight=2),
            "QueryLedgers": RouteSpec("other", "ledger", self.named_ledgers),
            "OrderAmends": RouteSpec("other", "amends", self.amends),
        }

    def trades(self, account: Account, params: Params) -> object:
        """Answer TradesHistory: a row for each order that traded, the newest first, paged by 50."""
        self._desk.permit(account, "trades")
        after, until, ofs = (number(params, name) for name in ("start", "end", "ofs"))
        traded = [order for order in self._traded(account) if _at_ns(order) > after * 1e9]
        traded = [order for order in traded if not until or _at_ns(order) <= until * 1e9]
        page = traded[::-1][ofs : ofs + _PAGE]
        return {"trades": {wire.trade_id(order): _trade(order) for order in page}, "count": len(traded)}

    def named_trades(self, account: Account, params: Params) -> object:
        """Answer QueryTrades."""
        self._desk.permit(account, "trades")
        rows = {wire.trade_id(order): _trade(order) for order in self._traded(account)}
        return {trade_id: rows[trade_id] for trade_id in _names(params, "txid", rows)}

    def _traded(self, account: Account) -> list[Order]:
        return [order for order in (*account.closed.values(), *account.open.values()) if order.filled]

    def ledgers(self, account: Account, params: Params) -> object:
        """Answer Ledgers: the transfers after `start` up to `end`, in seconds, the newest first, paged by 50."""
        self._desk.permit(account, "ledgers")
        after, until, ofs = (number(params, name) for name in ("start", "end", "ofs"))
        entries = [
            entry
            for entry in reversed(self._venue.ledgers.get(account.name, []))
            if entry.at_ns > after * 1e9 and (not until or entry.at_ns <= until * 1e9)
        ]
        return {"ledger": {entry.id: entry.row() for entry in entries[ofs : ofs + _PAGE]}, "count": len(entries)}

    def named_ledgers(self, account: Account, params: Params) -> object:
        """Answer QueryLedgers."""
        self._desk.permit(account, "ledgers")
        rows = {entry.id: entry.row() for entry in self._venue.ledgers.get(account.name, [])}
        return {name: rows[name] for name in _names(params, "id", rows)}

    def amends(self, account: Account, params: Params) -> object:
        """Answer OrderAmends: the order as it was placed, then each amend, the oldest first."""
        self._desk.permit(account, "order")
        order_id = str(params.get("order_id", ""))
        if not self._venue.id_format(order_id):
            raise Refused(f"{_INVALID}:order_id")
        if order_id not in account.open and order_id not in account.closed:
            raise Refused(UNKNOWN_ORDER)
        rows = self._venue.amends.get(order_id, [])
        return {"count": len(rows), "amends": rows}


class PastPrices:
    """The public calls."""

    def __init__(self, venue: Kraken) -> None:
        self._venue = venue

    def routes(self) -> dict[str, RouteSpec]:
        """Return the routes."""
        return {
            "OHLC": RouteSpec("other", "candles", self.candles, 0, public=True),
            "Trades": RouteSpec("other", "public-trades", self.trades, 0, public=True),
            "Spread": RouteSpec("other", "spreads", self.spreads, 0, public=True),
        }

    def candles(self, account: Account, params: Params) -> object:
        """Answer OHLC: the last 720 candles, of which the newest is not complete."""
        pair, interval = _pair(params), str(params.get("interval", "1"))
        if interval not in _INTERVALS:
            raise Refused(f"{_INVALID}:interval")
        step_s, since = int(interval) * 60, number(params, "since")
        newest = int(self._venue.now()) // step_s * step_s
        starts = range(newest - (_CANDLES - 1) * step_s, newest + 1, step_s)
        rows = [
            [at_s, _PRICE, _PRICE, _PRICE, _PRICE, "0.0", "0.00000000", 0]
            for at_s in starts
            if at_s > since or at_s == newest
        ]
        return {pair.code: rows, "last": newest - step_s}

    def trades(self, account: Account, params: Params) -> object:
        """Answer Trades: none."""
        pair, since = _pair(params), number(params, "since")
        return {pair.code: [], "last": str(since or self._venue.now_ns())}

    def spreads(self, account: Account, params: Params) -> object:
        """Answer Spread: the present one."""
        pair, now = _pair(params), int(self._venue.now())
        return {pair.code: [[now, _PRICE, _PRICE]], "last": now}


def original_row(order: Order) -> dict[str, object]:
    """Return the first row of OrderAmends: the order as it was placed."""
    return _amend_row(order, wire.new_id("T"), "original", order.created_ns)


def amend_row(order: Order, amend_id: str, at_ns: int) -> dict[str, object]:
    """Return a row of OrderAmends: the order as an amend has left it."""
    return _amend_row(order, amend_id, "user", at_ns)


def _amend_row(order: Order, amend_id: str, kind: str, at_ns: int) -> dict[str, object]:
    trigger = {} if order.stop_price is None else {"trigger_price": str(order.stop_price)}
    has_limit = order.stop_price is None or order.kind.endswith("-limit")
    return {
        "amend_id": amend_id, "amend_type": kind, "order_qty": f"{order.qty:.8f}",
        "remaining_qty": f"{order.left:.8f}", "timestamp": at_ns, "post_only": False, **trigger,
        **({"limit_price": str(order.price)} if has_limit else {}),
    }  # fmt: skip


def _at_ns(order: Order) -> int:
    return order.closed_ns or order.created_ns


def _trade(order: Order) -> dict[str, object]:
    at_ns = _at_ns(order)
    return {
        "ordertxid": order.id, "postxid": "TKH2SE-M7IF5-CFI7LT", "pair": wire.pair_of(order.symbol).code,
        "time": at_ns / 1e9, "type": order.side, "ordertype": order.kind, "price": str(order.price),
        "cost": str(order.price * order.filled), "fee": "0.00000", "vol": str(order.filled), "margin": "0.00000",
        "leverage": "0", "misc": "", "trade_id": at_ns // 1_000, "maker": order.kind != "market", "ledgers": [],
    }  # fmt: skip


def _names(params: Params, name: str, known: dict[str, dict[str, object]]) -> list[str]:
    names = [text for text in str(params.get(name, "")).split(",") if text]
    if not 1 <= len(names) <= _MOST_NAMED or not any(text in known for text in names):
        raise Refused(f"{_INVALID}:{name}")
    return [text for text in names if text in known]


def _pair(params: Params) -> wire.Pair:
    pair = wire.BY_NAME.get(str(params.get("pair")))
    if pair is None:
        raise Refused("EQuery:Unknown asset pair")
    return pair


def number(params: Params, name: str) -> int:
    """Return a parameter that is a whole number; 0 without it. Raises `Refused`."""
    text = str(params.get(name, "0"))
    if not (text.isascii() and text.isdigit()):
        raise Refused(f"{_INVALID}:{name}")
    return int(text)
