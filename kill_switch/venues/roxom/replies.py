"""Read Roxom's answers and pushes about orders and errors (docs/venues/roxom.md § 4, § 6).

The adapter, its sessions and its single cancels use these functions. They never send anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import Evidence, as_text

TERMINAL = frozenset({"filled", "cancelled", "partiallyfilledcancelled", "rejected", "expired"})  # § 6
INACTIVE = "inactive"  # documented without a meaning: an end only if no list shows the order as open
NOT_FOUND = "order not found"  # § 4.6
NOTHING_RESTING = (NOT_FOUND, "cannot cancel")  # titles of the documented reasons; a clean read must follow
KEY_REFUSED = frozenset({401, 403})
NOT_JUDGED = KEY_REFUSED | {429}  # statuses of the key or of the rate limit: they prove nothing about an order


def refusal_of(status: int, body: Mapping[str, Any], evidence: Evidence) -> str | None:
    """Return the venue's refusal in words; None for a success: HTTP 200, and `error` absent, false or null (§ 4)."""
    error = body.get("error")
    if status == 200 and (error is None or error is False):
        return None
    if isinstance(error, dict):
        return evidence(f"HTTP {status}:", as_text(error.get("code", "")), error.get("message", ""))
    return evidence(f"HTTP {status}:", body.get("message") or error)


def error_number(body: Mapping[str, Any]) -> int | None:
    """Return the number of an error, which is `error` itself or its `code`: errors may come with HTTP 200."""
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else error
    return code if isinstance(code, int) else None


def is_success(body: Mapping[str, Any], *, expected: bool) -> bool:
    """Return whether the data of a cancel's answer state `expected` as their `success` (§ 4.1)."""
    data = body.get("data")
    return isinstance(data, dict) and data.get("success") is expected


def is_nothing_resting(refusal: str) -> bool:
    """Return whether a refusal states that no order rests under the id."""
    return any(text in refusal.lower() for text in NOTHING_RESTING)


def read_orders(body: Mapping[str, Any], kind: str, refusal: str | None) -> tuple[list[Order], str]:
    """Read an order list: the orders that are not gone, and why there may be more; "": the list is whole.

    Orders beside an error count. An entry without an id may be an order, unless its status is terminal.
    """
    data = body.get("data")
    items = data.get("orders") if isinstance(data, dict) else None
    if not isinstance(items, list):
        return [], refusal or f"the {kind} list cannot be read"
    orders: list[Order] = []
    unreadable = 0
    for item in items:  # there may be thousands
        order = read_order(item, "id")
        if order is None:
            unreadable += not (isinstance(item, dict) and _state(item.get("status"))[1] is OrderState.GONE)
        elif order.state is not OrderState.GONE:
            orders.append(order)
    lacking = f"the {kind} list cannot be read: {unreadable} of {len(items)} orders" if unreadable else ""
    return orders, refusal or lacking


def read_order(item: object, id_key: str) -> Order | None:
    """Read one order, whose id is under `id_key`; None if it has no id. An unknown status counts as alive."""
    order_id = as_text(item.get(id_key)) if isinstance(item, dict) else ""
    if not isinstance(item, dict) or not order_id:
        return None
    status, state = _state(item.get("status"))
    return Order(order_id, as_text(item.get("symbol", "")), state, status)


def _state(reported: object) -> tuple[str, OrderState]:
    """Return a status in the normal spelling of § 6, and its state."""
    status = as_text(reported).lower().replace("_", "").replace("canceled", "cancelled")
    if status in TERMINAL:
        return status, OrderState.GONE
    return status, OrderState.PENDING if status == "pendingcancel" else OrderState.LIVE
