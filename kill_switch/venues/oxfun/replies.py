"""Read OX.FUN's answers and pushes: orders, the account's equity, error codes (docs/venues/oxfun.md § 5 to § 8)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import as_decimal, as_text

TERMINAL = frozenset(
    {
        "FILLED",
        "CANCELED",
        "CANCELED_BY_USER",
        "CANCELED_BY_MAKER_ONLY",
        "CANCELED_BY_FOK",
        "CANCELED_ALL_BY_IOC",
        "CANCELED_PARTIAL_BY_IOC",
        "CANCELED_BY_SELF_TRADE_PROTECTION",
        "CANCELED_BY_AMEND",
    }
)
NOT_FOUND = frozenset({"100005", "40035"})  # no open order of this id
ALREADY_GONE_CODES = NOT_FOUND | {"100004"}  # the order is gone already; a clean read must confirm it
NOTHING_WORKING = "No working orders found"  # the notice of a cancel-all that found no order (§ 4.3)
KEY_REFUSED = frozenset({"05001", "20000", "20025"})  # § 8: another attempt with this key is refused too
LOGIN_ENDED = frozenset({"05001", "20026"})  # answers to a WebSocket command; how long a login lasts is unknown (§ 3.2)
RETRYABLE_CODES = frozenset(
    {"20032", "000101", "000201", "10001", "50001"}
)  # § 8: they prove nothing about the command
TOO_FAST = frozenset({"429", "20007"})
WRONG_TIME = "20024"


def read_worth(data: object) -> Decimal | None:
    """Read the account's equity in OX; None if it cannot be read, or if there are several accounts.

    A collateral of zero beside a balance in OX counts as missing, because the venue has not filled it in.
    """
    item = data[0] if isinstance(data, list) and len(data) == 1 else None
    worth = as_decimal(item.get("collateral")) if isinstance(item, dict) else None
    if worth or not isinstance(item, dict):
        return worth
    balances = item.get("balances")
    held = [balance for balance in balances if isinstance(balance, dict)] if isinstance(balances, list) else []
    has_ox = any(balance.get("asset") == "OX" and as_decimal(balance.get("total")) for balance in held)
    return None if has_ox else worth


def read_orders(body: dict[str, Any], error: str) -> tuple[list[Order], str]:
    """Read a working-order list: the orders that are not gone, and why there may be more; "": the list is whole.

    Orders beside an `error` count. An entry without an id may be an order, unless its status is terminal.
    """
    items = body.get("data")
    if not isinstance(items, list):
        return [], error or "the order list cannot be read"
    orders: list[Order] = []
    unreadable = 0
    for item in items:  # there may be thousands
        order = read_order(item)
        if order is None:
            unreadable += not (isinstance(item, dict) and as_text(item.get("status")) in TERMINAL)
        elif order.state is not OrderState.GONE:
            orders.append(order)
    lacking = f"the order list cannot be read: {unreadable} of {len(items)} orders" if unreadable else ""
    return orders, error or lacking


def read_order(item: object) -> Order | None:
    """Read one order of a list or a push; None if it has no id. An unknown status counts as alive."""
    if not isinstance(item, dict):
        return None
    order_id = as_text(item.get("orderId"))
    if not order_id:
        return None
    status = as_text(item.get("status", ""))
    life = OrderState.GONE if status in TERMINAL else OrderState.LIVE
    return Order(order_id, as_text(item.get("marketCode", "")), life, status)
