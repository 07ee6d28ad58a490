"""Judge Roxom's answers, and read its orders and pushes (docs/venues/roxom.md § 4 to § 6).

The adapter uses these functions. They never send anything.
"""

from __future__ import annotations

from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import Evidence, as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.sessions import Message

TERMINAL = frozenset({"filled", "cancelled", "partiallyfilledcancelled", "rejected", "expired"})  # § 6
INACTIVE = "inactive"  # documented without a meaning: an end only if no list shows the order as open
NOT_FOUND = "order not found"  # § 4.6
CANNOT_CANCEL = "cannot cancel"  # § 4.6: no order rests under the id; a look-up or a clean read must follow
KEY_REFUSED = frozenset({401, 403})
TOO_MANY = 429
SUBSCRIBED = "subscribe"
EVENTS = ("order", "position", "balance", "account", "snapshot", "delta")  # § 5; each shows that pushes arrive


def judge_http(status: int, body: Any, evidence: Evidence) -> Reply:
    """Judge an HTTP answer: a success has status 200, and an `error` that is absent, false or null (§ 4)."""
    if status >= 500 or not isinstance(body, dict):
        return Reply(ReplyOutcome.NO_ANSWER, f"HTTP {status}")
    error, data = body.get("error"), body.get("data")
    if status == 200 and (error is None or error is False):
        if isinstance(data, dict) and data.get("success") is False:
            return Reply(ReplyOutcome.REFUSED, "HTTP 200, success false", data)
        return Reply(ReplyOutcome.ACCEPTED, "accepted", data)
    if isinstance(error, dict):
        words = evidence(f"HTTP {status}:", as_text(error.get("code", "")), error.get("message", ""))
    else:
        words = evidence(f"HTTP {status}:", body.get("message") or error)
    numbers = {status, _error_number(error)}
    if numbers & KEY_REFUSED:
        return Reply(ReplyOutcome.REFUSED, words, data, key_refused=True)
    if TOO_MANY in numbers:
        return Reply(ReplyOutcome.UNKNOWN, words, data)
    return Reply(ReplyOutcome.REFUSED, words, data, not_found=NOT_FOUND in words.lower())


def _error_number(error: object) -> int | None:
    """Return the number of an error, which is `error` itself or its `code`: errors may come with HTTP 200."""
    code = error.get("code") if isinstance(error, dict) else error
    return code if isinstance(code, int) else None


def is_nothing_resting(reply: Reply) -> bool:
    """Return whether the refusal of a cancel states that no order rests under the id."""
    is_about_order = reply.outcome is ReplyOutcome.REFUSED and not reply.key_refused
    return reply.not_found or (is_about_order and CANNOT_CANCEL in reply.evidence.lower())


def judge_cancel_all(reply: Reply) -> CancelResult:
    """Read the orders that a cancel-all has named; the result's `data` are their ids.

    Without `data` it concerns no orders: the key, or the rate limit. "Order not found" does not mean that none is left:
    whether the command covers stop orders is not documented.
    """
    if not reply.ok:
        concerns_orders = reply.outcome is ReplyOutcome.REFUSED and not reply.key_refused
        return CancelResult(reply._replace(data=() if concerns_orders else None, not_found=False))
    named = reply.data.get("cancelledOrderIds") if isinstance(reply.data, dict) else None
    if not isinstance(named, list):
        why = "accepted, without the list of cancelled orders"
        return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=why, data=()))
    ids = frozenset(map(as_text, named)) - {""}
    words = f"{len(ids)} order(s) named as cancelled"
    return CancelResult(reply._replace(evidence=words, data=ids), len(ids), tuple(ids), names_all=True)


def judge_single(order_id: str, reply: Reply) -> CancelResult:
    """Judge one order's cancel: a read-back shows its result, and after a refusal it looks the order up."""
    if reply.ok:
        return CancelResult(reply)
    refused = reply._replace(outcome=ReplyOutcome.REFUSED, not_found=is_nothing_resting(reply))
    return CancelResult(refused, refused=(order_id,))


def order_items(data: Any) -> object:
    """Return the orders of a list's answer."""
    return data.get("orders") if isinstance(data, dict) else None


def read_order(item: object, id_key: str = "id") -> Order | None:
    """Read one order, whose id is under `id_key`; None if it has no id, and may be alive.

    An unknown status counts as alive.
    """
    if not isinstance(item, dict):
        return None
    order_id = as_text(item.get(id_key))
    status = as_text(item.get("status")).lower().replace("_", "").replace("canceled", "cancelled")  # § 6
    if status in TERMINAL:
        state = OrderState.GONE
    else:
        state = OrderState.PENDING if status == "pendingcancel" else OrderState.LIVE
    return Order(order_id, as_text(item.get("symbol")), state, status) if order_id or state is OrderState.GONE else None


def read_looked_up(data: Any) -> Order | None:
    """Read the order of a look-up."""
    order = read_order(data.get("order")) if isinstance(data, dict) else None
    return order if order is None or order.status != INACTIVE else order._replace(state=OrderState.GONE)


def event_of(message: Message) -> str:
    """Return what a push is about, `SUBSCRIBED` for an acknowledgement, "" for a message that no document explains."""
    data, kind = message.get("data"), message.get("type")
    if message.get("event") == SUBSCRIBED:
        return SUBSCRIBED
    if kind is None and isinstance(data, dict):
        kind = data.get("type")  # the documents' own client reads the type there
    return kind if kind in EVENTS else ""


def read_push(message: Message) -> Order | None:
    """Read the order of an order push; None if it has no id."""
    order = read_order(message.get("data"), "orderId")
    return order if order is not None and order.id else None


def is_subscribed(message: Message) -> bool:
    """Return whether a message shows that the account's events arrive."""
    event = event_of(message)
    return bool(event) and (event != "order" or read_push(message) is not None)
