"""The shapes of KUNA's messages, from the documents' examples; § numbers are those of docs/venues/kuna.md."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime
from typing import Any

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import fill
from kill_switch.sim.kit.values import plain

_TYPES = {"limit": "Limit", "stop": "StopLossLimit", "market": "Market"}
KINDS = {"Limit": "limit", "Market": "market", "StopLossLimit": "stop", "TakeProfitLimit": "stop"}  # order types (§3.5)
CURRENCIES = {
    "BTC": ("Bitcoin", 8, "Crypto"), "ETH": ("Ethereum", 8, "Crypto"), "USDT": ("Tether", 6, "Crypto"),
    "UAH": ("Hryvnia", 2, "Fiat"),
}  # fmt: skip
PAIRS = ("BTC_USDT", "ETH_USDT", "BTC_UAH", "DAY_NIGHT")  # the last pair is for tests at the venue itself (§1)
STATUSES = ("Canceled", "Closed", "Expired", "Open", "Pending", "Rejected", "WaitStop")  # order states (§6)

_ORDER = {
    "id": "{id}", "type": "{type}", "quantity": "{quantity}", "executedQuantity": "{executed}",
    "cumulativeQuoteQty": "{executed_cost}", "cost": "{cost}", "side": "{side}", "pair": "{pair}", "price": "{price}",
    "stopPrice": "{stop}", "status": "{state}",
}  # fmt: skip
_LISTED = _ORDER | {"createdAt": "{created}", "updatedAt": "{updated}", "closedAt": "{closed}"}  # REST (§3.4)
_PUSHED = _ORDER | {"userId": "{account}", "closedAt": "{closed}"}  # the channel `order` (§5)
_CURRENCY = {  # this and the market as ccxt's client expects them
    "code": "{code}", "name": "{name}", "payload": {}, "position": 1, "precision": "{precision}",
    "tradePrecision": "{precision}", "type": "{type}",
}  # fmt: skip
_MARKET = {
    "pair": "{pair}", "baseAsset": {"code": "{base}", "precision": 6},
    "quoteAsset": {"code": "{quote}", "precision": 6}, "tickerPriceChange": "0",
}  # fmt: skip


def _values(order: Order) -> dict[str, object]:
    return {
        "id": order.id, "type": _TYPES[order.kind], "quantity": plain(order.qty), "executed": plain(order.filled),
        "executed_cost": plain(order.filled * order.price), "cost": plain(order.qty * order.price),
        "side": "Bid" if order.side == "buy" else "Ask", "pair": order.symbol, "price": plain(order.price),
        "stop": None if order.stop_price is None else plain(order.stop_price), "state": order.state,
        "created": iso(order.created_ns), "updated": iso(order.closed_ns or order.created_ns),
        "closed": iso(order.closed_ns) if order.closed_ns else None,
    }  # fmt: skip


def order_item(order: Order) -> Any:
    """Return an order in REST's form (§3.4)."""
    return fill(_LISTED, _values(order))


def order_event(account: Account, order: Order) -> Any:
    """Return an order in the `order` channel's form (§5)."""
    return fill(_PUSHED, _values(order) | {"account": account.venue_id})


def currencies() -> list[Any]:
    """Return the currencies."""
    rows = CURRENCIES.items()
    names = ("code", "name", "precision", "type")
    return [fill(_CURRENCY, dict(zip(names, (code, *row), strict=True))) for code, row in rows]


def markets() -> list[Any]:
    """Return the markets."""
    pairs = ((pair, *pair.split("_")) for pair in PAIRS)
    return [fill(_MARKET, {"pair": pair, "base": base, "quote": quote}) for pair, base, quote in pairs]


def token() -> str:
    """Return a text in the form of the JWT that answers a login (§5)."""
    parts = (b'{"alg":"HS256","typ":"JWT"}', orjson.dumps({"sub": secrets.token_hex(8)}), secrets.token_bytes(32))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def iso(at_ns: int) -> str:
    """Format a time as ISO 8601 in UTC with milliseconds (§3.4)."""
    return datetime.fromtimestamp(at_ns // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def moment(text: str) -> int | None:
    """Parse an ISO 8601 time to nanoseconds; None if it is invalid."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000) * 1_000_000


def publish(channel: str, data: object, event: str) -> dict[str, object]:
    """Return a push: three levels of `data`. The name of the inner event is a guess (§5)."""
    return {"event": "#publish", "data": {"channel": channel, "data": {"event": event, "data": data}}}


def error(code: str, text: str) -> dict[str, object]:
    """Return an error (§4, §5)."""
    return {"code": code, "message": text, "extensions": {"code": code}}
