"""The shapes of Kraken's messages, from the documents' examples; § numbers are those of docs/venues/kraken.md."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import OMIT, fill

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class Pair(NamedTuple):
    """A market, as REST's answers, its short form and the WebSocket spell it (§1)."""

    code: str
    alt: str
    ws: str
    base: str
    quote: str


PAIRS = (
    Pair("XXBTZUSD", "XBTUSD", "BTC/USD", "XXBT", "ZUSD"),
    Pair("XETHZUSD", "ETHUSD", "ETH/USD", "XETH", "ZUSD"),
    Pair("SOLUSD", "SOLUSD", "SOL/USD", "SOL", "ZUSD"),
    Pair("XXBTZEUR", "XBTEUR", "BTC/EUR", "XXBT", "ZEUR"),
    Pair("XXRPZUSD", "XRPUSD", "XRP/USD", "XXRP", "ZUSD"),
)
BY_NAME: Mapping[str, Pair] = {name: pair for pair in PAIRS for name in (pair.code, pair.alt, pair.ws)}
ASSETS = {"XXBT": "XBT", "XETH": "ETH", "SOL": "SOL", "XXRP": "XRP", "ZUSD": "USD", "ZEUR": "EUR"}

KINDS = ("limit", "stop", "stop-loss-limit", "take-profit", "take-profit-limit", "trailing-stop")
_ORDER_TYPES = {"stop": "stop-loss", "take_profit": "take-profit", "post": "limit"}  # the words of derivatives too

_LISTED = {  # OpenOrders (§4.1)
    "refid": None, "userref": "{userref}", "cl_ord_id": "{client_id}", "status": "{rest_state}", "opentm": "{opened_s}",
    "starttm": 0, "expiretm": 0, "closetm": "{closed_s}", "reason": "{reason}",
    "descr": {
        "pair": "{alt}", "type": "{side}", "ordertype": "{order_type}", "price": "{price_1}", "price2": "{price_2}",
        "leverage": "none", "order": "{sentence}", "close": "",
    },
    "vol": "{qty}", "vol_exec": "{filled}", "cost": "{cost}", "fee": "0.00000", "price": "{average}",
    "stopprice": "0.00000", "limitprice": "0.00000", "misc": "", "oflags": "fciq",
}  # fmt: skip
_EXECUTION = {  # executions, an order in full (§5.1)
    "order_id": "{id}", "symbol": "{ws}", "order_qty": "{qty_number}", "cum_cost": "{cost_number}",
    "cum_qty": "{filled_number}", "time_in_force": "GTC", "exec_type": "{exec_type}", "side": "{side}",
    "order_type": "{order_type}", "cl_ord_id": "{client_id}", "order_userref": "{userref_number}",
    "limit_price_type": "static", "limit_price": "{limit_number}", "stop_price": "{stop_number}",
    "order_status": "{ws_state}", "fee_usd_equiv": 0.0, "fee_ccy_pref": "fciq", "timestamp": "{opened}",
}  # fmt: skip
_OPENED = {"timestamp": "{opened}", "order_status": "new", "exec_type": "new", "cl_ord_id": "{client_id}",
           "order_id": "{id}"}  # fmt: skip
_AMENDED = {
    "timestamp": "{opened}", "order_status": "{ws_state}", "exec_type": "amended", "order_qty": "{qty_number}",
    "limit_price": "{limit_number}", "cl_ord_id": "{client_id}", "order_id": "{id}",
}  # fmt: skip
_CANCELLED = {
    "timestamp": "{closed}", "order_status": "canceled", "exec_type": "canceled", "cum_qty": "{filled_number}",
    "cum_cost": "{cost_number}", "fee_usd_equiv": 0.0, "avg_price": 0.0, "cl_ord_id": "{client_id}",
    "cancel_reason": "User requested", "reason": "User requested", "order_id": "{id}",
}  # fmt: skip
_TRADED = {  # names the market, as no other sparse event does; the last fill may still say partially_filled
    "timestamp": "{closed}", "order_status": "partially_filled", "exec_type": "trade", "exec_id": "{trade_id}",
    "trade_id": "{trade_number}", "symbol": "{ws}", "side": "{side}", "order_type": "{order_type}",
    "last_qty": "{filled_number}", "last_price": "{trade_price}", "liquidity_ind": "{liquidity}",
    "cost": "{cost_number}", "fees": [{"asset": "USD", "qty": 0.0}], "fee_usd_equiv": 0.0, "cl_ord_id": "{client_id}",
    "order_userref": "{userref_number}", "order_id": "{id}",
}  # fmt: skip
_FILLED = {
    "timestamp": "{closed}", "order_status": "filled", "exec_type": "filled", "cum_qty": "{filled_number}",
    "cum_cost": "{cost_number}", "avg_price": "{limit_number}", "cl_ord_id": "{client_id}", "order_id": "{id}",
}  # fmt: skip


def new_id(prefix: str = "O") -> str:
    """Return an id of Kraken's shape (§1)."""
    text = "".join(secrets.choice(_LETTERS) for _ in range(16))
    return f"{prefix}{text[:5]}-{text[5:10]}-{text[10:]}"


def is_order_id(text: str) -> bool:
    """Return whether a text has the shape OXXXXX-XXXXX-XXXXXX."""
    parts = text.split("-")
    return [len(part) for part in parts] == [6, 5, 6] and text[0] == "O" and text.replace("-", "").isalnum()


def iso(at_ns: int) -> str:
    """Format a wall-clock time in microseconds, as the WebSocket does."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def iso_s(at_ns: int) -> str:
    """Format a wall-clock time in seconds."""
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pair_of(symbol: str) -> Pair:
    """Return the market of a symbol in any spelling; an unknown symbol has a single spelling."""
    return BY_NAME.get(symbol) or Pair(symbol, symbol, symbol, symbol, "ZUSD")


def _values(order: Order) -> dict[str, object]:
    pair = pair_of(order.symbol)
    kind = _ORDER_TYPES.get(order.kind, order.kind)
    conditional = order.stop_price is not None
    first = order.stop_price if order.stop_price is not None else order.price
    has_limit = not conditional or kind.endswith("-limit")
    partly = order.state in ("open", "untouched") and order.filled > 0
    cost = order.filled * order.price
    userref = int(order.category) if order.category else 0
    return {
        "id": order.id, "ws": pair.ws, "alt": pair.alt, "side": order.side, "order_type": kind,
        "userref": userref, "userref_number": userref or OMIT, "client_id": order.client_id or OMIT,
        "rest_state": {"filled": "closed"}.get(order.state, order.state),
        "ws_state": "partially_filled" if partly else "new", "exec_type": "status",
        "opened_s": order.created_ns / 1e9, "closed_s": order.closed_ns / 1e9 if order.closed_ns else OMIT,
        "reason": "User requested" if order.state == "canceled" else OMIT if order.state == "open" else None,
        "opened": iso(order.created_ns), "closed": iso(order.closed_ns or order.created_ns),
        "price_1": str(first), "price_2": str(order.price) if conditional and has_limit else "0",
        "sentence": f"{order.side} {order.qty:.8f} {pair.alt} @ {kind} {first}",
        "qty": f"{order.qty:.8f}", "filled": f"{order.filled:.8f}", "cost": f"{cost:.5f}",
        "average": f"{order.price if order.filled else 0:.5f}",
        "qty_number": float(order.qty), "filled_number": float(order.filled), "cost_number": float(cost),
        "limit_number": float(order.price) if has_limit else OMIT,
        "stop_number": float(order.stop_price) if order.stop_price is not None else 0.0,
        "trade_id": trade_id(order), "trade_number": order.closed_ns // 1_000, "trade_price": float(order.price),
        "liquidity": "t" if kind == "market" else "m",
    }  # fmt: skip


def trade_id(order: Order) -> str:
    """Return the id of the only trade of an order."""
    return "T" + order.id[1:]


def listed(order: Order) -> Any:
    """Return an order as REST lists it (§4.1)."""
    return fill(_LISTED, _values(order))


def execution(order: Order) -> Any:
    """Return an order as the snapshot of `executions` has it (§5.1)."""
    return fill(_EXECUTION, _values(order))


def fill_row(order: Order) -> Any:
    """Return the fill of an order that traded, as `executions` has it (§5.1)."""
    return fill(_TRADED, _values(order))


def order_news(order: Order, news: str, *, acknowledged: bool) -> list[Any]:
    """Return the events of `executions`, each for an update of its own; all but the first are sparse (§5.1).

    A new order is `pending_new` first where the plane knows that word (`acknowledged`); otherwise, its first is `new`.
    """
    values = _values(order)
    match news:
        case "opened" if acknowledged:
            full = values | {"exec_type": "pending_new", "ws_state": "pending_new"}
            return [fill(_EXECUTION, full), fill(_OPENED, values)]
        case "opened":
            return [fill(_EXECUTION, values | {"exec_type": "new"})]
        case "amended":
            return [fill(_AMENDED, values)]
        case "cancelled":
            return [fill(_CANCELLED, values)]
        case "filled":
            return [fill_row(order), fill(_FILLED, values)]
    return []


def trade_balance(account: Account) -> dict[str, str]:
    """Return TradeBalance (§9): `e` is the equity, `n` the unrealised net."""
    money = {"eb": account.cash, "tb": account.cash, "n": account.unrealised, "e": account.equity}
    money |= {"mf": account.equity}
    return {"m": "0.0000", "uv": "0.0000", "c": "0.0000", "v": "0.0000"} | {
        name: f"{value:.4f}" for name, value in money.items()
    }


class LedgerEntry(NamedTuple):
    """A change of an account's cash that no trade has made."""

    id: str
    amount: Decimal
    balance: Decimal
    at_ns: int

    @property
    def kind(self) -> str:
        """The ledger's type."""
        return "deposit" if self.amount > 0 else "withdrawal"

    def row(self) -> dict[str, object]:
        """Return the entry as Ledgers shows it (§9)."""
        return {
            "refid": f"Q{self.id[1:]}", "time": self.at_ns / 1e9, "type": self.kind, "subtype": "",
            "aclass": "currency", "asset": "ZUSD", "amount": f"{self.amount:.4f}", "fee": "0.0000",
            "balance": f"{self.balance:.4f}",
        }  # fmt: skip


def asset_pairs(status: str) -> dict[str, Any]:
    """Return AssetPairs, as far as clients read it."""
    fees = [[0, 0.25], [10_000, 0.2]]
    return {
        pair.code: {
            "altname": pair.alt, "wsname": pair.ws, "aclass_base": "currency", "base": pair.base,
            "aclass_quote": "currency", "quote": pair.quote, "lot": "unit", "cost_decimals": 5, "pair_decimals": 1,
            "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": [], "leverage_sell": [], "fees": fees,
            "fees_maker": fees, "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40,
            "ordermin": "0.00005", "costmin": "0.5", "tick_size": "0.1", "status": status,
        }
        for pair in PAIRS
    }  # fmt: skip


def assets() -> dict[str, Any]:
    """Return Assets."""
    return {
        name: {"aclass": "currency", "altname": alt, "decimals": 10, "display_decimals": 5, "status": "enabled"}
        for name, alt in ASSETS.items()
    }


def ticker(pair: Pair) -> dict[str, Any]:
    """Return a market's line of Ticker."""
    price = "30000.00000"
    three = [price, "1", "1.000"]
    return {"a": three, "b": three, "c": [price, "0.1"], "v": ["1", "1"], "p": [price] * 2, "t": [1, 1],
            "l": [price] * 2, "h": [price] * 2, "o": price}  # fmt: skip
