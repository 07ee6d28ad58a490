"""Parse KUNA's replies: errors, lists, single orders, balances.

The adapter and its striker use these functions; § numbers are those of docs/venues/kuna.md. Nothing here sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import CancelOutcome, Order, OrderState
from kill_switch.venues.decode import as_decimal, as_text

PAGE = 100  # the longest list, and the most open orders of an account (§ 3.2)
TERMINAL = frozenset({"closed", "canceled", "cancelled", "rejected", "expired"})  # § 6
ENDED = frozenset(f"order with status {status} can't be canceled" for status in TERMINAL)  # § 4 documents two of them
CLIENT_MISTAKES = frozenset({"wrongrequestexception", "invalid json"})  # come with HTTP 500, for our own mistakes (§ 4)
_NOT_THERE = r"^\s*order\b.*(not found|n[o']t exist)"  # inferred: the text about an unknown order is not documented
_JUDGED = re.compile(rf"{_NOT_THERE}|^\s*order\b.*can't be cancel", re.IGNORECASE)  # the last is documented (§ 4)
_FORGOTTEN = re.compile(_NOT_THERE, re.IGNORECASE)
MAX_ERRORS = 1000  # errors or items of a reply that are parsed: a batch has a hundred orders
KEY_REFUSED = frozenset({"REQUEST_INVALID_KEY"})  # § 5

Body = dict[str, Any] | list[Any]


class KunaError(NamedTuple):
    """The errors of one reply."""

    status: int
    words: str
    ended: int  # errors that state that an order has ended
    others: int  # the other errors
    mistake: bool  # HTTP 500 for a mistake of ours, not for a failure of the venue
    key: bool  # the key was refused
    order: bool  # every error states that the order cannot be cancelled: the venue has looked at it
    forgotten: bool  # every error states that there is no order of this id

    @property
    def answer(self) -> CancelOutcome:
        """The outcome of the cancels that the reply does not name.

        An ended order tells nothing about the others of its batch, nor does HTTP 429.
        """
        return CancelOutcome.UNKNOWN if self.status == 429 or self.ended else CancelOutcome.REFUSED

    @property
    def too_long(self) -> bool:
        """Whether the batch may have been too long; the maximum is not documented (§ 3.2)."""
        hurried = "too_many_requests" in self.words.lower().replace(" ", "_")
        return self.status in (200, 400, 413) and not self.ended and not self.key and not hurried


def error_of_reply(status: int, body: Body, words: Callable[..., str]) -> KunaError | None:
    """Return the errors of a reply, None if it has none; errors come with HTTP 200 too (§ 4).

    `words` turns the venue's texts into one line of evidence, without our secrets.
    """
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
    parsed = [error_of(item) for item in items[:MAX_ERRORS]]
    ended = sum(has_ended(text) for _, text in parsed)
    return KunaError(
        status,
        words(f"HTTP {status}", *(part for pair in parsed[:10] for part in pair if part != "")),
        ended=ended,
        others=len(items) - ended,
        mistake=any(word.lower() in CLIENT_MISTAKES for pair in parsed for word in pair if isinstance(word, str)),
        order=_all_match(_JUDGED, parsed),
        forgotten=_all_match(_FORGOTTEN, parsed),
        key=status in (401, 403) or any(code in KEY_REFUSED for code, _ in parsed),
    )


def _all_match(pattern: re.Pattern[str], errors: list[tuple[str, object]]) -> bool:
    return all(isinstance(text, str) and pattern.search(text) is not None for _, text in errors)


def items_of(body: Body) -> list[Any] | None:
    """Return a reply's list, which is bare or under `data` (§ 3); None if there is none."""
    data = body.get("data") if isinstance(body, dict) else body
    return data if isinstance(data, list) else None


def error_of(error: object) -> tuple[str, object]:
    """Return an error's code, which may be in its `extensions`, and its text."""
    if not isinstance(error, dict):
        return "", error
    inner = error.get("error")
    fields: dict[str, Any] = inner if isinstance(inner, dict) else error
    extensions = fields.get("extensions")
    code = as_text(fields.get("code")) or (as_text(extensions.get("code")) if isinstance(extensions, dict) else "")
    return code, fields.get("message") or ""


def has_ended(text: object) -> bool:
    """Return whether an error's text states that the order has ended already."""
    return isinstance(text, str) and text.strip().rstrip(".").lower() in ENDED


def id_of(item: object) -> str:
    """Return an item's order id, which is `id` or `orderId` (§ 3.2); "" if it has none."""
    return (as_text(item.get("id")) or as_text(item.get("orderId"))) if isinstance(item, dict) else ""


def order_of(item: object) -> Order | None:
    """Parse one order; None if it has no id. An unknown status counts as alive."""
    order_id = id_of(item)
    if not isinstance(item, dict) or not order_id:
        return None
    status = as_text(item.get("status"))
    return Order(
        order_id, as_text(item.get("pair")), OrderState.GONE if status.lower() in TERMINAL else OrderState.LIVE, status
    )


def orders_of(items: list[Any]) -> tuple[list[Order], int]:
    """Parse a list: return its open orders, and the number of unreadable items that may be open orders."""
    orders: list[Order] = []
    unreadable = 0
    for item in items:
        order = order_of(item)
        if order is None:
            unreadable += not (isinstance(item, dict) and as_text(item.get("status")).lower() in TERMINAL)
        elif order.state is not OrderState.GONE:
            orders.append(order)
    return orders, unreadable


class ParsedList(NamedTuple):
    """A list of orders, as far as it can be parsed; orders beside an error count too."""

    orders: list[Order]
    why: str = ""  # why it, or a part of it, cannot be read
    full: str = ""  # why there may be a further page


def parse_list(kind: str, body: Body, refusal: KunaError | None) -> ParsedList:
    """Parse the list `kind` ("active", or a status)."""
    refused = "" if refusal is None else refusal.words
    items = items_of(body)
    if items is None:
        return ParsedList([], refused or f"the {kind} list cannot be read")
    orders, unreadable = orders_of(items)
    lacking = f"the {kind} list cannot be read: {unreadable} of {len(items)} orders" if unreadable else ""
    full = f"the {kind} list is full: {len(items)} orders, there may be more" if len(items) >= PAGE else ""
    return ParsedList(orders, refused or lacking, full)


def parse_look_up(order_id: str, body: Body, refusal: KunaError | None) -> tuple[Order | None, str]:
    """Parse the look-up of one order: return the order, GONE if the venue does not know it, or None and the reason."""
    if refusal is not None:
        gone = refusal.forgotten and refusal.status != 429 and not refusal.key
        return Order(order_id, "", OrderState.GONE, "not found") if gone else None, refusal.words
    order = order_of(body.get("data", body)) if isinstance(body, dict) else None
    if order is None or order.id != order_id:
        return None, "the answer cannot be read"
    return order, ""


def balances_of(body: Body) -> dict[str, Decimal] | str:
    """Return the available plus the locked amount of each currency (§ 3.5), or why there is none.

    A currency with nothing of it is included, as zero: § 3.5 does not tell whether the list has every currency.
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


def has_drill_passed(body: Body, refusal: KunaError | None, order: str) -> bool:
    """Return whether a drill has passed: the reply shows that the venue has looked at the drill's order."""
    if refusal is None:
        return any(id_of(item) == order for item in (items_of(body) or ())[:MAX_ERRORS])
    return refusal.order and not refusal.key and refusal.status != 429
