"""Judge Kraken's answers and read its orders (docs/venues/kraken.md § 3, § 4, § 8).

REST answers and frames have the same error texts, `<severity><category>:<text>`. The adapter uses these functions; they
send nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import Evidence, as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

GONE = frozenset({"filled", "canceled", "expired", "closed"})  # § 4.1; every other status is alive
RATE_PAUSE_S = 9.5  # the slowest counter falls by three (§ 7): a proof's two reads, and a look-up between them
TOO_MANY_PAUSE_S = 5.0  # § 10: the least pause after signs of a lockout
UUID_LENGTH = 36
LOCKOUT_PAUSE_S = 30.0  # a lockout lasts about 15 minutes; requests that are refused in it may prolong it (§ 7)


class ErrorVerdict(NamedTuple):
    """The proof that an error text gives."""

    outcome: ReplyOutcome
    key_refused: bool = False
    not_found: bool = False
    session_ended: bool = False
    pause_s: float = 0.0


_REFUSED = ErrorVerdict(ReplyOutcome.REFUSED)
_KEY_REFUSED = ErrorVerdict(ReplyOutcome.REFUSED, key_refused=True)
_UNKNOWN = ErrorVerdict(ReplyOutcome.UNKNOWN)

# The beginnings of error texts in lower case, because the case of "Unavailable" differs (§ 10); the first match counts.
VERDICTS: tuple[tuple[str, ErrorVerdict], ...] = (
    ("eapi:invalid nonce", ErrorVerdict(ReplyOutcome.WRONG_TIME)),
    ("eapi:invalid key", _KEY_REFUSED),
    ("eapi:invalid signature", _KEY_REFUSED),
    ("egeneral:permission denied", _KEY_REFUSED),
    ("eaccount:invalid permissions", _KEY_REFUSED),
    ("etrade:user locked", _KEY_REFUSED),
    ("esession:invalid session", ErrorVerdict(ReplyOutcome.REFUSED, session_ended=True)),
    ("eorder:unknown order", ErrorVerdict(ReplyOutcome.REFUSED, not_found=True)),
    ("eorder:rate limit exceeded", _UNKNOWN),  # the counter of one pair
    ("eorder:cancel pending", _UNKNOWN),  # the order is alive until a read shows otherwise
    ("eapi:rate limit exceeded", ErrorVerdict(ReplyOutcome.UNKNOWN, pause_s=RATE_PAUSE_S)),
    ("egeneral:too many requests", ErrorVerdict(ReplyOutcome.UNKNOWN, pause_s=TOO_MANY_PAUSE_S)),
    ("egeneral:temporary lockout", ErrorVerdict(ReplyOutcome.UNKNOWN, pause_s=LOCKOUT_PAUSE_S)),
    ("egeneral:internal error", _UNKNOWN),
    ("eservice:", _UNKNOWN),  # the command may have been executed
)
MAINTENANCE_HINT = "in maintenance nothing can be cancelled; it is tried until the maintenance ends"


def judge_http(status: int, body: Any, evidence: Evidence, *, in_maintenance: bool) -> Reply:
    """Judge an HTTP answer: `{"error": [texts], "result": …}`, with status 200 for errors too."""
    errors = body.get("error") if isinstance(body, dict) else None
    if status == 429:
        return Reply(ReplyOutcome.UNKNOWN, evidence("HTTP 429", errors or ""), pause_s=TOO_MANY_PAUSE_S)
    if status >= 500 or not isinstance(errors, list):
        return Reply(ReplyOutcome.NO_ANSWER, f"HTTP {status}")
    reply = judge_errors(errors, body.get("result"), evidence, in_maintenance=in_maintenance)
    return Reply(ReplyOutcome.UNKNOWN, f"HTTP {status}", reply.data) if reply.ok and status != 200 else reply


def judge_errors(errors: Sequence[object], data: Any, evidence: Evidence, *, in_maintenance: bool) -> Reply:
    """Judge the error texts of an answer; warnings beside a result are no errors."""
    texts = [as_text(error).lower() for error in errors if not as_text(error).startswith("W")]
    if not texts:
        return Reply(ReplyOutcome.ACCEPTED, "accepted", data)
    verdicts = [_verdict(text) for text in texts]
    not_found = all(verdict.not_found for verdict in verdicts)
    first = next((verdict for verdict in verdicts if not verdict.not_found), verdicts[0])
    words = evidence(*errors)
    if in_maintenance and any(text.startswith("eservice:") for text in texts):
        words = f"{words} ({MAINTENANCE_HINT})"
    return Reply(
        first.outcome,
        words,
        data,
        key_refused=first.key_refused,
        not_found=not_found,
        session_ended=any(verdict.session_ended for verdict in verdicts),
        pause_s=max(verdict.pause_s for verdict in verdicts),
    )


def _verdict(text: str) -> ErrorVerdict:
    return next((verdict for begin, verdict in VERDICTS if text.startswith(begin)), _REFUSED)


def count_cancelled(reply: Reply) -> CancelResult:
    """Read how many orders a cancel-all has hit; a success without a count proves nothing (§ 3.1, § 3.2).

    An error that one order was not found says nothing of the others, so it is a refusal.
    """
    if not reply.ok:
        return CancelResult(reply._replace(not_found=False))
    count = reply.data.get("count") if isinstance(reply.data, dict) else None
    if not isinstance(count, int) or isinstance(count, bool):
        return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence="accepted, without a count"))
    if reply.data.get("pending"):
        words = f"{count} order(s) will be cancelled; the venue has not finished"
        return CancelResult(reply._replace(evidence=words))
    return CancelResult(reply._replace(evidence=f"{count} order(s) cancelled"), count)


def open_items(data: Any) -> object:
    """Return the orders of `OpenOrders`, each with its id; an order that is no object cannot be read."""
    orders = data.get("open") if isinstance(data, dict) else None
    return [_with_id(order_id, item) for order_id, item in orders.items()] if isinstance(orders, dict) else None


def looked_up_item(data: Any, order_id: str) -> object:
    """Return the order of `QueryOrders`, with its id; None if the answer does not have it."""
    return _with_id(order_id, data.get(order_id)) if isinstance(data, dict) else None


def _with_id(order_id: str, item: object) -> object:
    return {**item, "order_id": order_id} if isinstance(item, dict) else None


def order_id_of(value: object) -> str:
    """Return an order's id: of derivatives a UUID in lower case, because its case may differ; of spot as it is."""
    text = as_text(value)
    return text.lower() if len(text) == UUID_LENGTH else text


def read_order(item: object) -> Order | None:
    """Read an order of a REST answer; an unknown status is alive (§ 4.1)."""
    if not isinstance(item, dict):
        return None
    order_id, status, descr = as_text(item.get("order_id")), as_text(item.get("status")), item.get("descr")
    if not order_id and status not in GONE:
        return None
    symbol = as_text(descr.get("pair")) if isinstance(descr, dict) else ""
    return Order(order_id, symbol, OrderState.GONE if status in GONE else OrderState.LIVE, status)


def read_execution(item: object, known: Mapping[str, Order]) -> Order | None:
    """Read an order of an `executions` update; an update is sparse, and its order's symbol is that of `known` (§ 5.1).

    A `trade` is never an end, even the last one: `filled` follows it.
    """
    if not isinstance(item, dict) or not (order_id := order_id_of(item.get("order_id"))):
        return None
    event = as_text(item.get("exec_type"))
    status = as_text(item.get("order_status")) or event
    is_gone = event != "trade" and (status in GONE or event in GONE)
    before = known.get(order_id)
    symbol = as_text(item.get("symbol")) or ("" if before is None else before.symbol)
    return Order(order_id, symbol, OrderState.GONE if is_gone else OrderState.LIVE, status)
