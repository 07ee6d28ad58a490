"""The shapes of OX.FUN's messages, and the check of its signatures; § numbers are those of docs/venues/oxfun.md.

The calls and events of the simulator use them. Nothing here changes the book.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.values import plain

# Error codes and texts (§8). REST uses 429 and 10001 … 50001, WebSocket the others.
TEXTS: Mapping[str, str] = {
    "429": "Rate limit reached",
    "05001": "Your operation authority is invalid",
    "20000": "Signature is invalid",
    "20001": "Operation failed, please contact system administrator",
    "20002": "Unexpected request, please double check and resubmit",
    "20003": "Unrecognized operation, please double check and resubmit",
    "20005": "You have already logged in",
    "20007": "Requests are coming too rapidly",
    "20009": "Malformed JSON",
    "20010": "Either orderId or clientOrderId is required",
    "20011": "marketCode is required",
    "20015": "marketCode is invalid",
    "20019": "orderId is invalid",
    "20023": "Timestamp is required",
    "20024": "Timestamp exceeds the threshold",
    "20025": "API key is invalid",
    "20027": "Message is too long",
    "20034": "The size of tag is more than 32",
    "30001": "Missing parameter",
    "40035": "Open order not found with id",
    "000101": "Server is unavailable temporarily, try again later",
    "100004": "Order request was rejected : REJECT_CANCEL_ORDER_ID_NOT_FOUND",
    "100005": "Open order not found",
    "100006": "Client is not the owner of the order",
    "100015": "recvWindow is expired",
}

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z?")
_TIFS = {"gtc": "GTC", "ioc": "IOC", "fok": "FOK", "maker_only": "MAKER_ONLY"}


def login_text(timestamp: str) -> bytes:
    """Return the text that a login signs (§3.2); the greeting's nonce is not part of it."""
    return f"{timestamp}GET/auth/self/verify".encode()


def rest_text(timestamp: str, nonce: str, verb: str, host: str, path: str, payload: bytes) -> bytes:
    """Return the text that a REST request signs (§2): six parts joined with LF, without a trailing LF."""
    return "\n".join((timestamp, nonce, verb, host, path, "")).encode() + payload


@lru_cache(maxsize=64)
def rest_time(text: str) -> float | None:
    """Parse a REST time stamp: UTC, whole seconds (§2); a fraction and a `Z` are tolerated [I]."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def ms(now: float) -> str:
    """Format a time in seconds as text in milliseconds."""
    return str(int(now * 1000))


def order_type(order: Order) -> str:
    """Return the venue's word for the order's kind."""
    return {"limit": "LIMIT", "stop": "STOP_LIMIT", "market": "MARKET"}[order.kind]


def _common(account: Account, order: Order) -> dict[str, object]:
    return {
        "accountId": account.venue_id,
        "clientOrderId": order.client_id,
        "orderId": order.id,
        "price": plain(order.price),
        "quantity": plain(order.qty),
        "side": order.side.upper(),
        "status": order.state,
        "marketCode": order.symbol,
        "timeInForce": _TIFS.get(order.tif, order.tif.upper()),
        "orderType": order_type(order),
    }


def notice(account: Account, order: Order, news: str, now: float) -> dict[str, object]:
    """Return an element of the order channel (§4.4, §6); every value is text, also the triggered flag."""
    shown = _common(account, order) | {
        "notice": {"opened": "OrderOpened", "cancelled": "OrderClosed", "filled": "OrderMatched"}[news],
        "limitPrice": plain(order.price),
        "remainQuantity": plain(order.left),
        "amount": "0.0",
        "timestamp": ms(now),
        "isTriggered": "false",
        "displayQuantity": plain(order.qty),
    }
    if order.stop_price is not None:
        shown["stopPrice"] = plain(order.stop_price)
    if news == "filled":
        shown |= {
            "matchId": order.id,
            "matchPrice": plain(order.price),
            "matchQuantity": plain(order.qty),
            "orderMatchType": "MAKER",
            "fees": "0",
            "feeInstrumentId": "OX",
        }
    return shown


def late_reject(order: Order, now: float) -> dict[str, object]:
    """Return the engine's late rejection of a cancel (§4.4); its id is a number and its time stamp "0"."""
    zero = dict.fromkeys(
        ("price", "quantity", "remainQuantity", "displayQuantity", "lastMatchPrice", "lastMatchQuantity"), 0.0
    )
    data = zero | {
        "clientOrderId": int(order.client_id) if order.client_id.isdecimal() else 0,
        "orderId": int(order.id),
        "status": "REJECT_CANCEL_ORDER_ID_NOT_FOUND",
        "marketCode": order.symbol,
        "side": order.side.upper(),
        "orderType": order_type(order),
        "timeCondition": "GTC",
        "lastMatchedOrderId": 0,
        "lastMatchedOrderId2": 0,
        "matchedId": 0,
        "matchedType": "MAKER",
        "timestampEpochMs": int(now * 1000),
        "isTriggered": False,
    }
    return {
        "event": "CANCEL",
        "submitted": False,
        "message": TEXTS["100004"],
        "code": "100004",
        "timestamp": "0",
        "data": data,
    }


def closed_item(account: Account, order: Order, now: float) -> dict[str, object]:
    """Return an order that REST cancelled (§4.3)."""
    return _common(account, order) | {
        "notice": "OrderClosed",
        "submitted": True,
        "stopPrice": None if order.stop_price is None else plain(order.stop_price),
        "isTriggered": False,
        "amount": "0.0",
        "remainQuantity": plain(order.left),
        "closedAt": ms(now),
    }


def working_item(order: Order) -> dict[str, object]:
    """Return an element of the working list (§5): numbers as text, real booleans.

    PARTIALLY_FILLED is spelt out here (§7).
    """
    created = str(order.created_ns // 1_000_000)
    shown: dict[str, object] = {
        "orderId": order.id,
        "clientOrderId": order.client_id,
        "marketCode": order.symbol,
        "status": "PARTIALLY_FILLED" if order.state == "PARTIAL_FILL" else order.state,
        "side": order.side.upper(),
        "price": plain(order.price),
        "isTriggered": False,
        "quantity": plain(order.qty),
        "remainQuantity": plain(order.left),
        "matchedQuantity": plain(order.filled),
        "orderType": order_type(order),
        "timeInForce": _TIFS.get(order.tif, order.tif.upper()),
        "source": "11",
        "createdAt": created,
        "lastModifiedAt": created,
        "lastMatchedAt": created,
    }
    if order.stop_price is not None:
        shown |= {"stopPrice": plain(order.stop_price), "triggerType": "MARK_PRICE"}
    return shown


def status_item(order: Order) -> dict[str, object]:
    """Return an order's status (§5); a cancelled order reads CANCELED and has the time of its end."""
    state = "CANCELED" if order.state.startswith("CANCELED") else order.state
    shown = working_item(order) | {
        "status": state,
        "totalQuantity": plain(order.qty),
        "cumulativeMatchedQuantity": plain(order.filled),
        "avgFillPrice": plain(order.price) if order.filled else None,
        "fees": {},
    }
    if state == "CANCELED":
        shown["canceledAt"] = str(order.closed_ns // 1_000_000)
    return shown


def positions(account: Account, now: float) -> list[dict[str, object]]:
    """Return the positions in REST's form (§5); the account's unrealised profit is shown on the first."""
    return [
        {
            "marketCode": held.symbol,
            "baseAsset": held.symbol.split("-")[0],
            "counterAsset": "USD",
            "position": plain(held.qty),
            "entryPrice": plain(held.entry),
            "markPrice": plain(held.entry),
            "positionPnl": plain(account.unrealised) if number == 0 else "0",
            "estLiquidationPrice": "0",
            "lastUpdatedAt": ms(now),
        }
        for number, held in enumerate(account.positions.values())
    ]


def position_events(account: Account, now: float) -> list[dict[str, object]]:
    """Return the positions in the position channel's form (§6)."""
    return [
        {
            "instrumentId": item["marketCode"],
            "quantity": item["position"],
            "lastUpdated": ms(now),
            "contractValCurrency": item["baseAsset"],
            "entryPrice": item["entryPrice"],
            "positionPnl": item["positionPnl"],
            "estLiquidationPrice": item["estLiquidationPrice"],
            "margin": "0",
            "leverage": "0",
        }
        for item in positions(account, now)
    ]
