"""Judge OX.FUN's answers, and read its orders and the account's equity (docs/venues/oxfun.md § 4 to § 8).

The adapter uses these functions. They never send anything.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.sessions import LoginRefused, Message

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
LOGGED_IN_ALREADY = "20005"  # an earlier login has succeeded without an answer
OPTIONAL_CHANNELS = ("position:all", "balance:all")  # a kill does not need them


def judge_http(status: int, body: Any, evidence: Evidence) -> Reply:
    """Judge an HTTP answer: `{"success": …, "code": …, "message": …, "data": …}` (§ 4.3, § 8).

    The `data` of a refusal without any are its body. The evidence shows the code of a single order's cancel.
    """
    success = body.get("success") if isinstance(body, dict) else None
    if status >= 500 or not isinstance(body, dict) or not isinstance(success, bool):
        return Reply(ReplyOutcome.NO_ANSWER, f"HTTP {status}")
    data = body.get("data")
    item = cancel_item(data) if success else body
    code = as_text(item.get("code"))
    words = f"HTTP {status}" + (f" {evidence(code, item.get('message', ''))}" if code or not success else "")
    if success:
        return Reply(ReplyOutcome.ACCEPTED if status == 200 else ReplyOutcome.REFUSED, words, data)
    if code in RETRYABLE_CODES:
        return Reply(ReplyOutcome.NO_ANSWER, words)
    data = body if data is None else data
    if code == WRONG_TIME:
        return Reply(ReplyOutcome.WRONG_TIME, words, data)
    if status == 429 or code in TOO_FAST:
        return Reply(ReplyOutcome.UNKNOWN, words, data)
    return Reply(ReplyOutcome.REFUSED, words, data, key_refused=code in KEY_REFUSED, not_found=code in NOT_FOUND)


def judge_cancel_all(reply: Reply, evidence: Evidence) -> CancelResult:
    """Read the notice of a cancel-all; only "no working orders" names the orders that it has hit: none.

    An error that one order was not found says nothing of the others, so it is a refusal.
    """
    if not reply.ok:
        return CancelResult(reply._replace(not_found=False))
    notice = reply.data.get("notice") if isinstance(reply.data, dict) else None
    return CancelResult(reply._replace(evidence=evidence(notice or "accepted")), names_all=notice == NOTHING_WORKING)


def cancel_item(data: object) -> dict[str, Any]:
    """Return the first of the orders that a cancel by id is about, or `data` themselves; {} if there is none."""
    item = data[0] if isinstance(data, list) and data else data
    return item if isinstance(item, dict) else {}


def judge_cancel_frame(message: Message, evidence: Evidence) -> Reply:
    """Judge the answer to the cancel of one order over the WebSocket (§ 4.1, § 4.2)."""
    if message.get("submitted") is True:
        return Reply(ReplyOutcome.ACCEPTED, "submitted", message)
    code = as_text(message.get("code"))
    ended = code in LOGIN_ENDED
    words = evidence(*(("the login has ended:",) if ended else ()), code, message.get("message", ""))
    gone = code in ALREADY_GONE_CODES
    return Reply(ReplyOutcome.REFUSED, words.strip(), message, not_found=gone, session_ended=ended)


def login_refusal(message: Message, evidence: Evidence) -> LoginRefused | None:
    """Return what the answer to a login or a subscription refuses (§ 3.2); None: nothing."""
    event, code = message.get("event"), as_text(message.get("code"))
    if event not in ("login", "subscribe") or message.get("success") is True:
        return None
    words = (code, message.get("message", ""))
    if event == "login":
        if code == LOGGED_IN_ALREADY:
            return None
        return LoginRefused(evidence("login refused:", *words), fatal=code in KEY_REFUSED, before_ready=True)
    channel = as_text(message.get("channel"))
    if channel in OPTIONAL_CHANNELS:
        return LoginRefused(evidence(f"subscription to {channel} refused:", *words), optional=True)
    return LoginRefused(evidence("subscription refused:", *words))


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


def read_order(item: object) -> Order | None:
    """Read one order of a list or a push; None if it has no id, and may be alive. An unknown status counts as alive."""
    if not isinstance(item, dict):
        return None
    order_id, status = as_text(item.get("orderId")), as_text(item.get("status"))
    state = OrderState.GONE if status in TERMINAL else OrderState.LIVE
    if not order_id and state is OrderState.LIVE:
        return None
    return Order(order_id, as_text(item.get("marketCode")), state, status)
