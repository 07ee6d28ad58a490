"""The shapes of Roxom's messages, and the check of its signatures; § numbers are those of docs/venues/roxom.md.

The calls and events of the simulator use them. Nothing here changes the book.
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kill_switch.sim.kit.book import Account, Order, Position

SATS = Decimal(100_000_000)
_KEYS = 8
SYMBOLS = ("US500-BTC", "US100-BTC", "GOLD-BTC", "OIL-BTC")  # perpetuals (§1)


@lru_cache(maxsize=_KEYS)
def _key(slot: int) -> tuple[rsa.RSAPublicKey, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.public_key(), pem.decode()


def key_pair(number: int) -> tuple[rsa.RSAPublicKey, str]:
    """Return an RSA-2048 key pair, the private half as PKCS#8 PEM (§3.2).

    Generating a pair takes 40 ms. So a process makes at most eight, which hundreds of accounts share; their key ids
    differ.
    """
    return _key(number % _KEYS)


def signed(key: rsa.RSAPublicKey, text: bytes, signature: str) -> bool:
    """Return whether a signature is base64(RSA PKCS#1 v1.5 over SHA-256 of the text) (§3.2)."""
    try:
        key.verify(base64.b64decode(signature, validate=True), text, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def signing_text(method: str, target: str, body: bytes) -> bytes | None:
    """Return the text that a request signs; None if the body is not a JSON object.

    The form is `METHOD:PATH?QUERY[:SORTED_BODY]` (§3.3). In it top-level keys are sorted, null values are omitted,
    texts have no quotes, and other values are compact JSON [I].
    """
    text = f"{method}:{target}"
    if body:
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(data, dict):
            return None
        pairs = "&".join(f"{key}={_value(data[key])}" for key in sorted(data) if data[key] is not None)
        if pairs:
            text += f":{pairs}"
    return text.encode()


def _value(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def uuid7(at_ns: int | None = None) -> str:
    """Return a UUIDv7 (§4.1)."""
    head = (time.time_ns() if at_ns is None else at_ns) // 1_000_000
    tail = bytearray(os.urandom(10))
    tail[0] = 0x70 | tail[0] & 0x0F
    tail[2] = 0x80 | tail[2] & 0x3F
    text = f"{head:012x}{tail.hex()}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid7(text: str) -> bool:
    """Return whether a text is a UUIDv7."""
    parts = text.split("-")
    return (
        [len(part) for part in parts] == [8, 4, 4, 4, 12]
        and all(char in "0123456789abcdefABCDEF" for part in parts for char in part)
        and parts[2][0] == "7"
    )


def amount(value: Decimal, unit: str) -> str:
    """Format an amount of BTC in the unit: whole sats, or BTC."""
    return format((value * SATS).to_integral_value() if unit == "sats" else value, "f")


def plain(number: Decimal) -> str:
    """Format a number without an exponent."""
    return format(number, "f")


def _type(order: Order) -> str:
    return {"limit": "limit", "stop": "stoplimit", "market": "market"}[order.kind]


def order_item(account: Account, order: Order, unit: str, *, old: bool) -> dict[str, object]:
    """Return an order in REST's form (§4.4).

    Its fields are `type`, `px`, `qty` and `triggeredAt`, or with `old` the older page's names for them.
    """
    price, trigger = plain(order.price), None if order.stop_price is None else plain(order.stop_price)
    shown: dict[str, object] = {
        "id": order.id,
        "accountId": account.venue_id,
        "symbol": order.symbol,
        "instType": order.category,
        "timeInForce": order.tif,
        "side": order.side,
        "size": plain(order.qty),
        "amountFilled": plain(order.filled),
        "status": order.state,
        "unit": unit,
        "createdAt": order.created_ns,
        "clientOrderId": order.client_id,
        "triggerPx": trigger,
        "cancelAt": None,
    }
    if old:
        return shown | {
            "orderType": _type(order),
            "price": price,
            "quantity": plain(order.qty),
            "isTriggered": trigger is not None and order.state != "waitingtrigger",
        }
    return shown | {"type": _type(order), "px": price, "qty": plain(order.qty), "triggeredAt": None}


def order_event(account: Account, order: Order, reason: str, at_ns: int) -> bytes:
    """Return an order event (§5); its time stamp is in nanoseconds."""
    filled = order.filled > 0
    data = {
        "orderId": order.id,
        "accountId": account.venue_id,
        "symbol": order.symbol,
        "status": order.state,
        "side": order.side,
        "orderType": _type(order),
        "orderSize": plain(order.qty),
        "limitPrice": plain(order.price),
        "remainingQty": plain(order.left),
        "executedQty": plain(order.filled),
        "avgPx": plain(order.price) if filled else "0",
        "fillPx": plain(order.price) if filled else "0",
        "filledFees": "0",
        "clientOrderId": order.client_id,
        "entryPositionId": "",
        "exitPositionId": "",
        "reason": reason,
        "timestamp": at_ns,
    }
    return orjson.dumps({"type": "order", "data": data})


def old_position(held: Position, pnl: Decimal, unit: str, at_ns: int) -> dict[str, object]:
    """Return a position in the older page's form (§4.4): with its profit, in whole sats or in BTC."""
    return {
        "positionId": f"{held.symbol}-position",
        "instrument": held.symbol,
        "symbol": held.symbol,
        "isBuy": held.qty > 0,
        "entryAmount": int(abs(held.qty) * held.entry),
        "exitAmount": 0,
        "size": plain(abs(held.qty)),
        "avgEntry": plain(held.entry),
        "avgExit": "0",
        "openDate": at_ns,
        "closeDate": None,
        "unrealizedPnl": int(pnl * SATS) if unit == "sats" else plain(pnl),
        "markPrice": plain(held.entry),
        "liquidationPrice": "0",
        "createdAt": at_ns,
        "updatedAt": at_ns,
    }


def position_item(account: Account, held: Position, unit: str, at_ns: int) -> dict[str, object]:
    """Return a position in REST's form (§4.4), which has no profit; the WebSocket event has it."""
    return {
        "id": f"{held.symbol}-position",
        "accountId": account.venue_id,
        "instrumentId": held.symbol,
        "side": "long" if held.qty > 0 else "short",
        "size": plain(abs(held.qty)),
        "status": "normal",
        "unit": unit,
        "leverage": "1",
        "margin": "0",
        "initialMargin": "0",
        "maintenanceMarginRatio": "0",
        "liquidationPrice": "0",
        "avgEntry": plain(held.entry),
        "avgExit": "0",
        "entryAmount": plain(abs(held.qty) * held.entry),
        "exitAmount": "0",
        "entryFees": "0",
        "exitFees": "0",
        "adlRank": 1,
        "openDate": at_ns,
        "closeDate": None,
        "createdAt": at_ns,
        "updatedAt": at_ns,
        "stopLossOrderId": None,
        "takeProfitOrderId": None,
    }


def instrument(symbol: str) -> dict[str, object]:
    """Return an instrument (§4.4, older page)."""
    return {
        "symbol": symbol,
        "baseAsset": symbol.split("-")[0],
        "quoteAsset": "BTC",
        "status": "active",
        "settlementCurrency": "BTC",
        "maxLeverage": 10,
        "expiryDate": None,
    }


def position_event(account: Account, held: Position, pnl: Decimal, at_ns: int) -> dict[str, object]:
    """Return an element of the position event (§5), with its profit in BTC; a size of 0 means closed."""
    return {
        "id": f"{held.symbol}-position",
        "symbol": held.symbol,
        "accountId": account.venue_id,
        "side": "long" if held.qty > 0 else "short",
        "entryAmount": plain(abs(held.qty) * held.entry),
        "exitAmount": "0",
        "size": plain(abs(held.qty)),
        "tradeMode": "isolated",
        "openDate": at_ns // 1_000_000,
        "closeDate": None if held.qty else at_ns // 1_000_000,
        "avgEntry": plain(held.entry),
        "avgExit": "0",
        "entryFees": "0",
        "exitFees": "0",
        "positionBalance": "0",
        "initialMargin": "0",
        "maintenanceMargin": "0",
        "liquidationPrice": "0",
        "leverage": "1",
        "unrealizedPnl": plain(pnl),
        "realizedPnl": "0",
        "markPrice": plain(held.entry),
        "status": "normal",
        "updatedAt": at_ns,
        "createdAt": at_ns,
    }


def required(body: Mapping[str, Any], *names: str) -> str | None:
    """Return the first name whose value in the body is neither a text nor a number; None if there is none."""
    return next((name for name in names if not isinstance(body.get(name), str | int | float)), None)
