"""Judge KUNA's replies, and read their orders and balances.

The adapter and its commands use these functions; § numbers are those of docs/venues/kuna.md. Nothing here sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.order_list import OrderList, read_page
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

PAGE = 100  # the longest list, and the most open orders of an account (§ 3.2)
TERMINAL = frozenset({"closed", "canceled", "cancelled", "rejected", "expired"})  # § 6
ENDED = frozenset(f"order with status {status} can't be canceled" for status in TERMINAL)  # § 4 documents two of them
CLIENT_MISTAKES = frozenset({"wrongrequestexception", "invalid json"})  # come with HTTP 500, for our own mistakes (§ 4)
_NOT_THERE = r"^\s*order\b.*(not found|n[o']t exist)"  # inferred: the text about an unknown order is not documented
_JUDGED = re.compile(rf"{_NOT_THERE}|^\s*order\b.*can't be cancel", re.IGNORECASE)  # the last is documented (§ 4)
_FORGOTTEN = re.compile(_NOT_THERE, re.IGNORECASE)
MAX_ERRORS = 1000  # errors or items of a reply that are parsed: a batch has a hundred orders
KEY_REFUSED = frozenset({"REQUEST_INVALID_KEY"})  # § 5
NOT_NAMED = "not named in the answer"

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
    def outcome(self) -> ReplyOutcome:
        """The outcome of the request, and of the cancels that the reply does not name.

        An ended order tells nothing about the others of its batch, nor does HTTP 429.
        """
        return ReplyOutcome.UNKNOWN if self.status == 429 or self.ended else ReplyOutcome.REFUSED

    @property
    def too_long(self) -> bool:
        """Whether the batch may have been too long; the maximum is not documented (§ 3.2)."""
        hurried = "too_many_requests" in self.words.lower().replace(" ", "_")
        return self.status in (200, 400, 413) and not self.ended and not self.key and not hurried


class KunaData(NamedTuple):
    """The `data` of each `Reply`: a reply's body, and its errors."""

    body: Body
    error: KunaError | None


def judge_http(status: int, body: Any, evidence: Evidence, *, signed: bool) -> Reply:
    """Judge an HTTP answer; a failure of the venue proves nothing, but HTTP 500 may be a mistake of ours (§ 4)."""
    if not isinstance(body, dict | list):
        return Reply(ReplyOutcome.NO_ANSWER, f"HTTP {status}")
    error = error_of_reply(status, body, evidence)
    data = KunaData(body, error)
    if error is None:
        return Reply(ReplyOutcome.ACCEPTED, f"HTTP {status}", data)
    if status >= 500 and not error.mistake:
        return Reply(ReplyOutcome.NO_ANSWER, error.words)
    if signed and "nonce" in error.words.lower():
        return Reply(ReplyOutcome.WRONG_TIME, error.words, data)
    not_found = error.forgotten and status != 429 and not error.key
    return Reply(error.outcome, error.words, data, key_refused=error.key, not_found=not_found)


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


def listed_order_of(item: object) -> Order | None:
    """Parse one order of a list; an order that has ended needs no id."""
    order = order_of(item)
    if order is None and isinstance(item, dict) and as_text(item.get("status")).lower() in TERMINAL:
        return Order("", "", OrderState.GONE, as_text(item.get("status")))
    return order


class BatchItems(NamedTuple):
    """The orders of a batch, by the items of its reply."""

    cancelled: list[str]
    ended: list[str]
    left: dict[str, tuple[str, object] | None]  # the other orders → the code and text of their failure; None: not named

    @property
    def any_settled(self) -> bool:
        """Whether the reply names an order of the batch that is cancelled or had ended."""
        return bool(self.cancelled or self.ended)


def read_items(body: Body, ids: Iterable[str]) -> BatchItems:
    """Read the items of the reply to a batch of the orders with these ids."""
    read = BatchItems([], [], dict.fromkeys(ids))
    for item in items_of(body) or ():
        order_id = id_of(item)
        if order_id not in read.left:
            continue
        error = error_of(item)
        if item.get("success") is True:
            read.cancelled.append(order_id)
            del read.left[order_id]
        elif has_ended(error[1]):
            read.ended.append(order_id)
            del read.left[order_id]
        else:
            read.left[order_id] = error
    return read


def judge_batch(reply: Reply, ids: tuple[str, ...], words: Callable[..., str]) -> CancelResult:
    """Judge the reply to a batch, whose orders may have fared differently (§ 3.2).

    Errors that state as many ended orders as the reply does not name account for them. No other text about an order
    settles it, "Order not found" least of all: the batch may have had a hundred.
    """
    data: KunaData = reply.data
    error, (cancelled, ended, left) = data.error, read_items(data.body, ids)
    if error is not None and not error.others and error.ended >= len(left):
        ended, left = [*ended, *left], {}
    outcome, evidence, refused = ReplyOutcome.ACCEPTED, _counts(len(cancelled), len(ended)), list[str]()
    if left:
        failures = {order_id: failure for order_id, failure in left.items() if failure is not None}
        if error is None:
            outcome = ReplyOutcome.REFUSED if failures else ReplyOutcome.UNKNOWN
            why = next((words(*failure).strip() or "success false" for failure in failures.values()), NOT_NAMED)
        else:
            outcome, why = reply.outcome, error.words
        evidence = f"{len(left)} of {len(ids)} cancels failed: {why}"
        refused = list(left if error is not None and outcome is ReplyOutcome.REFUSED else failures)
    judged = reply._replace(outcome=outcome, evidence=evidence, not_found=False)
    return CancelResult(judged, len(cancelled), cancelled, ended, refused)


def _counts(cancelled: int, ended: int) -> str:
    counts = [f"{cancelled} order(s) cancelled"] if cancelled else []
    return "; ".join([*counts, f"{ended} had ended"] if ended else counts)


def judge_single(reply: Reply, order_id: str) -> CancelResult:
    """Judge the reply to the cancel of one order."""
    data: KunaData = reply.data
    body, error = data
    fields = body.get("data", body) if isinstance(body, dict) else None
    judged, ids = reply._replace(not_found=False), (order_id,)
    if error is not None and error.ended and not error.others:
        judged = judged._replace(outcome=ReplyOutcome.ACCEPTED, evidence=_counts(0, 1))
        return CancelResult(judged, 0, ended=ids)
    if error is None and isinstance(fields, dict) and fields.get("success") is True:
        return CancelResult(judged._replace(evidence=_counts(1, 0)), 1, cancelled=ids)
    outcome = ReplyOutcome.UNKNOWN if error is None else reply.outcome
    why = "the answer cannot be read" if error is None else error.words
    judged = judged._replace(outcome=outcome, evidence=f"1 of 1 cancels failed: {why}")
    return CancelResult(judged, refused=ids if outcome is ReplyOutcome.REFUSED else ())


def judge_list(reply: Reply, order_list: OrderList) -> CancelResult:
    """Judge a list that a strike reads; the judged reply's `data` are its orders, those beside an error too."""
    page = read_page(order_list, reply, listed_order_of)
    why = page.why or page.full
    outcome = ReplyOutcome.UNKNOWN if why and reply.ok else reply.outcome
    return CancelResult(
        reply._replace(outcome=outcome, evidence=why or reply.evidence, data=page.orders, not_found=False)
    )


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


def has_drill_passed(data: KunaData, order_id: str) -> bool:
    """Return whether a drill has passed: the reply shows that the venue has looked at the drill's order."""
    error = data.error
    if error is None:
        return any(id_of(item) == order_id for item in (items_of(data.body) or ())[:MAX_ERRORS])
    return error.order and not error.key and error.status != 429
