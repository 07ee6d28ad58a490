"""The shapes of KUNA's messages, and the check of its signatures; § numbers are those of docs/venues/kuna.md.

The calls and events of the simulator use them. Nothing here changes the book.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from kill_switch.sim.kit.book import Account, Order

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_TYPES = {"limit": "Limit", "stop": "StopLossLimit", "market": "Market"}
KINDS = {"Limit": "limit", "Market": "market", "StopLossLimit": "stop", "TakeProfitLimit": "stop"}  # order types (§3.5)
CURRENCIES = {"BTC": ("Bitcoin", 8), "ETH": ("Ethereum", 8), "USDT": ("Tether", 6), "UAH": ("Hryvnia", 2)}
PAIRS = ("BTC_USDT", "ETH_USDT", "BTC_UAH", "DAY_NIGHT")  # the last pair is for tests at the venue itself (§1)
STATUSES = ("Canceled", "Closed", "Expired", "Open", "Pending", "Rejected", "WaitStop")  # order states (§6)


def is_uuid(value: object) -> bool:
    """Return whether a JSON value is the text of a UUID of any version."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def signing_text(target: str, nonce: str, body: bytes) -> bytes:
    """Return the signed text: `path?query`, nonce and body; a GET has `{}` as its body (§2)."""
    return f"{target}{nonce}".encode() + (body or b"{}")


def signed(secret: str, text: bytes, signature: str) -> bool:
    """Return whether a signature is the lower-case hex of HMAC-SHA384 (§2)."""
    right = hmac.new(secret.encode(), text, hashlib.sha384).hexdigest()
    return hmac.compare_digest(right.encode(), signature.encode())


def nonce(text: str) -> float | None:
    """Parse a nonce, a time in milliseconds that may have a fraction (§2); None if it is invalid."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def compact(body: bytes) -> bytes:
    """Return a JSON body without blanks, the form that is signed (§2); any other body unchanged."""
    try:
        return orjson.dumps(orjson.loads(body))
    except orjson.JSONDecodeError:
        return body


def currency(code: str) -> dict[str, object]:
    """Return a currency as ccxt's client expects it."""
    name, precision = CURRENCIES.get(code, (code, 8))
    shown: dict[str, object] = {"code": code, "name": name, "payload": {}, "position": 1}
    kind = "Fiat" if code == "UAH" else "Crypto"
    return shown | {"precision": precision, "tradePrecision": precision, "type": kind}


def market(pair: str) -> dict[str, object]:
    """Return a market as ccxt's client expects it."""
    base, quote = ({"code": code, "precision": 6} for code in pair.split("_"))
    return {"pair": pair, "baseAsset": base, "quoteAsset": quote, "tickerPriceChange": "0"}


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


def plain(number: Decimal) -> str:
    """Format a number without an exponent."""
    return format(number, "f")


def side(order: Order) -> str:
    """Return `Bid` for a buy order, `Ask` for a sell order (§3.4)."""
    return "Bid" if order.side == "buy" else "Ask"


def order_item(order: Order) -> dict[str, object]:
    """Return an order in REST's form (§3.4)."""
    return _shared(order) | {
        "createdAt": iso(order.created_ns),
        "updatedAt": iso(order.closed_ns or order.created_ns),
        "closedAt": iso(order.closed_ns) if order.closed_ns else None,
    }


def order_event(account: Account, order: Order) -> dict[str, object]:
    """Return an order in the `order` channel's form (§5)."""
    return _shared(order) | {
        "userId": account.venue_id,
        "closedAt": iso(order.closed_ns) if order.closed_ns else None,
    }


def _shared(order: Order) -> dict[str, object]:
    return {
        "id": order.id,
        "type": _TYPES[order.kind],
        "quantity": plain(order.qty),
        "executedQuantity": plain(order.filled),
        "cumulativeQuoteQty": plain(order.filled * order.price),
        "cost": plain(order.qty * order.price),
        "side": side(order),
        "pair": order.symbol,
        "price": plain(order.price),
        "stopPrice": None if order.stop_price is None else plain(order.stop_price),
        "status": order.state,
    }


def publish(channel: str, data: object, event: str) -> bytes:
    """Return a push: three levels of `data`. The name of the inner event is a guess (§5)."""
    inner = {"event": event, "data": data}
    return orjson.dumps({"event": "#publish", "data": {"channel": channel, "data": inner}})


def error(code: str, text: str) -> dict[str, object]:
    """Return an error (§4, §5)."""
    return {"code": code, "message": text, "extensions": {"code": code}}


def number(body: Mapping[str, Any], name: str) -> Decimal | None:
    """Return a positive number of a body, given as text or as a JSON number; None if it has none."""
    try:
        value = Decimal(str(body.get(name)))
    except ArithmeticError:
        return None
    return value if value.is_finite() and value > 0 else None
