"""The shapes of Roxom's messages, from the documents' examples; § numbers are those of docs/venues/roxom.md."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kill_switch.sim.kit.book import Account, Order, Position
from kill_switch.sim.kit.tables import fill
from kill_switch.sim.kit.values import plain

SATS = Decimal(100_000_000)
SYMBOLS = ("US500-BTC", "US100-BTC", "GOLD-BTC", "OIL-BTC")  # perpetuals (§1)

_ORDER = {  # REST (§4.4); the generations differ in the fields below
    "id": "{id}", "accountId": "{account}", "symbol": "{symbol}", "instType": "{category}", "timeInForce": "{tif}",
    "side": "{side}", "size": "{qty}", "amountFilled": "{filled}", "status": "{state}", "unit": "{unit}",
    "createdAt": "{created}", "clientOrderId": "{client_id}", "triggerPx": "{trigger}", "cancelAt": None,
}  # fmt: skip
_ORDER_NEW = {"type": "{type}", "px": "{price}", "qty": "{qty}", "triggeredAt": None}
_ORDER_OLD = {"orderType": "{type}", "price": "{price}", "quantity": "{qty}", "isTriggered": "{triggered}"}
_ORDER_EVENT = {  # (§5); its time stamp is in nanoseconds
    "orderId": "{id}", "accountId": "{account}", "symbol": "{symbol}", "status": "{state}", "side": "{side}",
    "orderType": "{type}", "orderSize": "{qty}", "limitPrice": "{price}", "remainingQty": "{left}",
    "executedQty": "{filled}", "avgPx": "{average}", "fillPx": "{average}", "filledFees": "0",
    "clientOrderId": "{client_id}", "entryPositionId": "", "exitPositionId": "", "reason": "{reason}",
    "timestamp": "{at}",
}  # fmt: skip
_POSITION = {  # REST (§4.4), without a profit, which the event has
    "id": "{id}", "accountId": "{account}", "instrumentId": "{symbol}", "side": "{side}", "size": "{size}",
    "status": "normal", "unit": "{unit}", "leverage": "1", "margin": "0", "initialMargin": "0",
    "maintenanceMarginRatio": "0", "liquidationPrice": "0", "avgEntry": "{entry}", "avgExit": "0",
    "entryAmount": "{amount}", "exitAmount": "0", "entryFees": "0", "exitFees": "0", "adlRank": 1, "openDate": "{at}",
    "closeDate": None, "createdAt": "{at}", "updatedAt": "{at}", "stopLossOrderId": None, "takeProfitOrderId": None,
}  # fmt: skip
_POSITION_OLD = {  # the older page's form (§4.4): with the profit, in whole sats or in BTC
    "positionId": "{id}", "instrument": "{symbol}", "symbol": "{symbol}", "isBuy": "{is_long}",
    "entryAmount": "{whole_amount}", "exitAmount": 0, "size": "{size}", "avgEntry": "{entry}", "avgExit": "0",
    "openDate": "{at}", "closeDate": None, "unrealizedPnl": "{pnl}", "markPrice": "{entry}", "liquidationPrice": "0",
    "createdAt": "{at}", "updatedAt": "{at}",
}  # fmt: skip
_POSITION_EVENT = {  # (§5); a size of 0 means closed
    "id": "{id}", "symbol": "{symbol}", "accountId": "{account}", "side": "{side}", "entryAmount": "{amount}",
    "exitAmount": "0", "size": "{size}", "tradeMode": "isolated", "openDate": "{at_ms}", "closeDate": "{closed_ms}",
    "avgEntry": "{entry}", "avgExit": "0", "entryFees": "0", "exitFees": "0", "positionBalance": "0",
    "initialMargin": "0", "maintenanceMargin": "0", "liquidationPrice": "0", "leverage": "1",
    "unrealizedPnl": "{pnl}", "realizedPnl": "0", "markPrice": "{entry}", "status": "normal", "updatedAt": "{at}",
    "createdAt": "{at}",
}  # fmt: skip
_INSTRUMENT = {  # (§4.4, older page)
    "symbol": "{symbol}", "baseAsset": "{base}", "quoteAsset": "BTC", "status": "active",
    "settlementCurrency": "BTC", "maxLeverage": 10, "expiryDate": None,
}  # fmt: skip
_BALANCE_EVENT = {  # (§5)
    "accountId": "{account}", "balanceBefore": "{before}", "balanceAfter": "{after}", "amount": "{amount}",
    "unit": "sats", "updateType": "ordersettle", "timestamp": "{at}",
}  # fmt: skip


def uuid7(at_ns: int | None = None) -> str:
    """Return a UUIDv7 (§4.1)."""
    head = (time.time_ns() if at_ns is None else at_ns) // 1_000_000
    tail = bytearray(os.urandom(10))
    tail[0] = 0x70 | tail[0] & 0x0F
    tail[2] = 0x80 | tail[2] & 0x3F
    text = f"{head:012x}{tail.hex()}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def amount(value: Decimal, unit: str) -> str:
    """Format an amount of BTC in the unit: whole sats, or BTC."""
    return plain((value * SATS).to_integral_value() if unit == "sats" else value)


def _order_values(account: Account, order: Order) -> dict[str, object]:
    trigger = None if order.stop_price is None else plain(order.stop_price)
    return {
        "id": order.id, "account": account.venue_id, "symbol": order.symbol, "category": order.category,
        "tif": order.tif, "side": order.side, "qty": plain(order.qty), "filled": plain(order.filled),
        "left": plain(order.left), "state": order.state, "created": order.created_ns, "client_id": order.client_id,
        "trigger": trigger, "triggered": trigger is not None and order.state != "waitingtrigger",
        "type": {"stop": "stoplimit"}.get(order.kind, order.kind), "price": plain(order.price),
        "average": plain(order.price) if order.filled > 0 else "0",
    }  # fmt: skip


def order_item(account: Account, order: Order, unit: str, *, old: bool) -> Any:
    """Return an order in REST's form (§4.4)."""
    return fill(_ORDER | (_ORDER_OLD if old else _ORDER_NEW), _order_values(account, order) | {"unit": unit})


def order_event(account: Account, order: Order, reason: str, at_ns: int) -> Any:
    """Return an order event (§5)."""
    values = _order_values(account, order) | {"reason": reason, "at": at_ns}
    return {"type": "order", "data": fill(_ORDER_EVENT, values)}


def _position_values(account: Account, held: Position, at_ns: int) -> Mapping[str, object]:
    is_long, at_ms, entry_amount = held.qty > 0, at_ns // 1_000_000, abs(held.qty) * held.entry
    return {
        "id": f"{held.symbol}-position", "account": account.venue_id, "symbol": held.symbol, "is_long": is_long,
        "side": "long" if is_long else "short", "size": plain(abs(held.qty)), "entry": plain(held.entry),
        "amount": plain(entry_amount), "whole_amount": int(entry_amount), "at": at_ns, "at_ms": at_ms,
        "closed_ms": None if held.qty else at_ms,
    }  # fmt: skip


def position_item(account: Account, held: Position, pnl: Decimal, unit: str, at_ns: int, *, old: bool) -> Any:
    """Return a position in REST's form (§4.4)."""
    profit = int(pnl * SATS) if unit == "sats" else plain(pnl)
    values = {**_position_values(account, held, at_ns), "unit": unit, "pnl": profit}
    return fill(_POSITION_OLD if old else _POSITION, values)


def position_event(account: Account, held: Position, pnl: Decimal, at_ns: int) -> Any:
    """Return an element of the position event (§5), with its profit in BTC."""
    return fill(_POSITION_EVENT, {**_position_values(account, held, at_ns), "pnl": plain(pnl)})


def balance_event(account: Account, before: Decimal, after: Decimal, at_ns: int) -> Any:
    """Return a balance event (§5) for amounts of BTC."""
    values = {"before": before, "after": after, "amount": after - before}
    shown = {name: amount(value, "sats") for name, value in values.items()}
    return {"type": "balance", "data": fill(_BALANCE_EVENT, {**shown, "account": account.venue_id, "at": at_ns})}


def instrument(symbol: str) -> Any:
    """Return an instrument."""
    return fill(_INSTRUMENT, {"symbol": symbol, "base": symbol.split("-")[0]})
