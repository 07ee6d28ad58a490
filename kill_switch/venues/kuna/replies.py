"""Read what KUNA answers, and keep what is known of a read-back whose calls are still under way."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import CancelOutcome, Order, OrderState
from kill_switch.venues.decode import as_decimal, as_text

TERMINAL = frozenset({"closed", "canceled", "cancelled", "rejected", "expired"})
ENDED = frozenset(f"order with status {status} can't be canceled" for status in TERMINAL)  # two of them documented
CLIENT_MISTAKES = frozenset({"wrongrequestexception", "invalid json"})  # told with HTTP 500, and meant for us
_NOT_THERE = r"^\s*order\b.*(not found|n[o']t exist)"  # inferred: no document says what is said of an unknown order
_JUDGED = re.compile(rf"{_NOT_THERE}|^\s*order\b.*can't be cancel", re.IGNORECASE)  # the last is documented
_FORGOTTEN = re.compile(_NOT_THERE, re.IGNORECASE)
MAX_TOLD = 1000  # errors of an answer that are looked at: a batch has a hundred orders
KEY_REFUSED = frozenset({"REQUEST_INVALID_KEY"})

Body = dict[str, Any] | list[Any]


class KunaError(NamedTuple):
    """What the venue has against a request."""

    status: int
    words: str
    ended: int  # errors that say of an order that it has ended
    others: int
    mistake: bool
    key: bool
    order: bool  # it says of the order, and of nothing else, that it is not there to be cancelled
    forgotten: bool  # it says of the order, and of nothing else, that there is none of this id

    @property
    def answer(self) -> CancelOutcome:
        """An order that has ended says nothing of the others in its batch, and too many requests nothing at all."""
        return CancelOutcome.UNKNOWN if self.status == 429 or self.ended else CancelOutcome.REFUSED

    @property
    def too_long(self) -> bool:
        """Say whether the batch may have been too long: the most is not documented."""
        hurried = "too_many_requests" in self.words.lower().replace(" ", "_")
        return self.status in (200, 400, 413) and not self.ended and not self.key and not hurried


def error_of_reply(status: int, body: Body, words: Callable[..., str]) -> KunaError | None:
    """Return the venue's refusal, in `words`; None if it says success: errors come with HTTP 200, too."""
    fields = body if isinstance(body, dict) else {}
    errors, error = fields.get("errors"), fields.get("error")
    if errors:
        items = errors if isinstance(errors, list) else [errors]
    elif error and isinstance(error, dict):
        items = [error]
    elif error or fields.get("success") is False or not 200 <= status < 300:
        items = [fields if fields.get("message") else {"message": error or ""}]
    else:
        return None
    parsed = [error_of(item) for item in items[:MAX_TOLD]]
    ended = sum(has_ended(text) for _, text in parsed)
    return KunaError(
        status,
        words(f"HTTP {status}", *(part for pair in parsed[:10] for part in pair if part != "")),
        ended=ended,
        others=len(items) - ended,
        mistake=any(word.lower() in CLIENT_MISTAKES for pair in parsed for word in pair if isinstance(word, str)),
        order=_all_say(_JUDGED, parsed),
        forgotten=_all_say(_FORGOTTEN, parsed),
        key=status in (401, 403) or any(code in KEY_REFUSED for code, _ in parsed),
    )


def _all_say(pattern: re.Pattern[str], errors: list[tuple[str, object]]) -> bool:
    return all(isinstance(text, str) and pattern.search(text) is not None for _, text in errors)


def items_of(body: Body) -> list[Any] | None:
    """Return an answer's list, which is bare or under `data`; None if there is none."""
    data = body.get("data") if isinstance(body, dict) else body
    return data if isinstance(data, list) else None


def error_of(error: object) -> tuple[str, object]:
    """Return an error's code and text; the code is its own or that of its extensions."""
    if not isinstance(error, dict):
        return "", error
    inner = error.get("error")
    fields: dict[str, Any] = inner if isinstance(inner, dict) else error
    extensions = fields.get("extensions")
    code = as_text(fields.get("code")) or (as_text(extensions.get("code")) if isinstance(extensions, dict) else "")
    return code, fields.get("message") or ""


def has_ended(text: object) -> bool:
    """Say whether a text is on the list of those that say: this order has ended already."""
    return isinstance(text, str) and text.strip().rstrip(".").lower() in ENDED


def id_of(item: object) -> str:
    """Return an item's order id, which is `id` or `orderId`; empty if it has none."""
    return (as_text(item.get("id")) or as_text(item.get("orderId"))) if isinstance(item, dict) else ""


def order_of(item: object) -> Order | None:
    """Read one order; an unknown status counts as alive."""
    order_id = id_of(item)
    if not isinstance(item, dict) or not order_id:
        return None
    status = as_text(item.get("status"))
    return Order(
        order_id, as_text(item.get("pair")), OrderState.GONE if status.lower() in TERMINAL else OrderState.LIVE, status
    )


def orders_of(items: list[Any]) -> tuple[list[Order], int]:
    """Read a list's orders that have not ended; count the items that cannot be read.

    Each of these may be an order, unless it says that it has ended.
    """
    orders: list[Order] = []
    unreadable = 0
    for item in items:
        order = order_of(item)
        if order is None:
            unreadable += not (isinstance(item, dict) and as_text(item.get("status")).lower() in TERMINAL)
        elif order.state is not OrderState.GONE:
            orders.append(order)
    return orders, unreadable


def worth_of(body: Body) -> dict[str, Decimal] | str:
    """Add up what is available and what is locked (get-client-balance), by currency; or say why that cannot be.

    A currency of which there is nothing is in it, as zero: whether all are listed is not documented.
    """
    items = items_of(body)
    if not items:
        return "no list" if items is None else "none is listed"
    amounts: dict[str, Decimal] = {}
    for item in items:
        currency = as_text(item.get("currency")).upper() if isinstance(item, dict) else ""
        free = as_decimal(item.get("balance")) if isinstance(item, dict) else None
        locked = as_decimal(item.get("lockBalance")) if isinstance(item, dict) else None
        if not currency or free is None or locked is None or currency in amounts:
            return "an item that cannot be read"
        amounts[currency] = free + locked
    return amounts


def carried(body: Body, refusal: KunaError | None, order: str) -> bool:
    """Say whether the cancel of an order that does not exist came through: the venue has judged the order."""
    if refusal is None:
        return any(id_of(item) == order for item in (items_of(body) or ())[:MAX_TOLD])
    return refusal.order and not refusal.key and refusal.status != 429
