"""Judge the answers of Kraken derivatives and read their orders (docs/venues/kraken.md § 3.4, § 4.2, § 5.2, § 8).

`"result":"success"` says only that the request was understood: the status inside decides. The adapter uses these
functions; they send nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kraken.replies import MAINTENANCE_HINT, order_id_of

# Words of an order that has ended, in lower case; every other word is alive (§ 4.2).
GONE = frozenset({"filled", "cancelled", "rejected", "expired", "fully_executed", "trigger_activation_failure"})
# Reasons of a push by which an order has ended without a cancel → the end's usual word (§ 5.2).
ENDS = {"full_fill": "filled", "contract_expired": "expired"}
RATE_PAUSE_S = 3.0  # the pool counts 10 s: part of what was used is back after that (§ 7)

_REFUSED = Reply(ReplyOutcome.REFUSED, "")
_KEY_REFUSED = Reply(ReplyOutcome.REFUSED, "", key_refused=True)
_UNKNOWN = Reply(ReplyOutcome.UNKNOWN, "")
# Error → what it proves; lower case, because the case of "Unavailable" differs (§ 10). Any other error is a refusal.
VERDICTS: Mapping[str, Reply] = {
    "authenticationerror": _KEY_REFUSED,
    "accountinactive": _KEY_REFUSED,
    "invalidaccount": _KEY_REFUSED,
    "notfound": Reply(ReplyOutcome.REFUSED, "", not_found=True),
    "apilimitexceeded": Reply(ReplyOutcome.UNKNOWN, "", pause_s=RATE_PAUSE_S),
    "unavailable": _UNKNOWN,  # the command may have been executed
    "marketunavailable": _UNKNOWN,
    "unknownerror": _UNKNOWN,
    "server error": _UNKNOWN,
}


def judge_http(status: int, body: Any, evidence: Evidence, *, in_maintenance: bool) -> Reply:
    """Judge an HTTP answer; `data` is its whole body.

    A body in another shape, such as `{"errors":[…]}` with HTTP 500, proves nothing. Only the history API
    answers without a result (§ 4.3).
    """
    answer = body if isinstance(body, dict) else {}
    result, error = as_text(answer.get("result")), as_text(answer.get("error"))
    if status == 200 and not result and isinstance(answer.get("logs"), list):
        return Reply(ReplyOutcome.ACCEPTED, "accepted", body)
    if status == 429:
        return Reply(ReplyOutcome.UNKNOWN, evidence("HTTP 429", error), pause_s=RATE_PAUSE_S)
    if status >= 500 or result not in ("success", "error"):
        return Reply(ReplyOutcome.NO_ANSWER, f"HTTP {status}")
    if result == "success":
        accepted = Reply(ReplyOutcome.ACCEPTED, "accepted", body)
        return accepted if status == 200 else Reply(ReplyOutcome.UNKNOWN, f"HTTP {status}", body)
    words = evidence(*(text for text in (error, as_text(answer.get("message"))) if text)) or "error"
    if in_maintenance and "unavailable" in error.lower():
        words = f"{words} ({MAINTENANCE_HINT})"
    return VERDICTS.get(error.lower(), _REFUSED)._replace(evidence=words, data=body)


# ── cancels ───────────────────────────────────────────────────────────────────────────────────────────────────────


def judge_cancel_all(reply: Reply) -> CancelResult:
    """Judge `cancelallorders` by its status and by every order that its lists name (§ 3.4).

    An error that no order was found is no success here: only a status says that the account has been searched.
    """
    if not reply.ok:
        return CancelResult(reply._replace(not_found=False))
    cancel = _cancel_status(reply.data)
    word, only = as_text(cancel.get("status")), as_text(cancel.get("cancelOnly"))
    ids, refused, is_whole = _named_orders(cancel)
    words = ""
    if only.lower() not in ("", "all"):
        words = f"a success for {only} alone"
    elif word.lower() == "noorderstocancel" and not ids:
        return CancelResult(reply._replace(evidence=word), 0, names_all=is_whole)
    elif word.lower() != "cancelled":
        words = f"a success whose status is {word or 'missing'}"
    elif refused:
        words = f"{len(refused)} cancel(s) refused"
    if words:
        doubtful = reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=words)
        return CancelResult(doubtful, None, ids, refused=refused)
    count = len(ids) if ids else None
    shown = "cancelled, without a list" if count is None else f"{count} order(s) cancelled"
    return CancelResult(reply._replace(evidence=shown), count, ids, names_all=bool(ids) and is_whole)


def _cancel_status(data: Any) -> Mapping[str, Any]:
    cancel = data.get("cancelStatus") if isinstance(data, dict) else None
    return cancel if isinstance(cancel, dict) else {}


def _named_orders(cancel: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return the orders that both lists name as cancelled, those whose cancel was rejected, and whether all is read."""
    listed, events = cancel.get("cancelledOrders"), cancel.get("orderEvents")
    is_whole = isinstance(listed, list) and isinstance(events, list)
    ids: dict[str, None] = {}
    refused: dict[str, None] = {}
    for item in listed if isinstance(listed, list) else ():
        order_id = order_id_of(item.get("order_id")) if isinstance(item, dict) else ""
        is_whole = is_whole and bool(order_id)
        ids |= {order_id: None} if order_id else {}
    for item in events if isinstance(events, list) else ():
        event = item if isinstance(item, dict) else {}
        order = event.get("order")
        order_id = order_id_of(event.get("uid")) or (
            order_id_of(order.get("orderId")) if isinstance(order, dict) else ""
        )
        match as_text(event.get("type")).upper():
            case "CANCEL" if order_id:
                ids[order_id] = None
            case "REJECT" if order_id:
                refused[order_id] = None
            case _:
                is_whole = False
    return tuple(ids), tuple(refused), is_whole


def is_not_found(reply: Reply) -> bool:
    """Return whether the venue has looked for the order of a `cancelorder`, and has none (§ 3.4)."""
    return reply.not_found or (reply.ok and cancel_word(reply).lower() == "notfound")


def cancel_word(reply: Reply) -> str:
    """Return the status of a cancel as the venue names it; "" if the answer has none."""
    return as_text(_cancel_status(reply.data).get("status"))


def judge_single(order_id: str, reply: Reply) -> CancelResult:
    """Judge the `cancelorder` of one order; that it was not found proves nothing: the lists decide."""
    return _result_of((order_id,), (_cancel_status(reply.data),), reply)


def judge_batch(ids: tuple[str, ...], reply: Reply) -> CancelResult:
    """Judge a `batchorder` of cancels, whose statuses are in the order of the request."""
    statuses = reply.data.get("batchStatus") if isinstance(reply.data, dict) else None
    return _result_of(ids, statuses if isinstance(statuses, list) else (), reply)


def _result_of(ids: tuple[str, ...], statuses: Sequence[Any], reply: Reply) -> CancelResult:
    if not reply.ok:
        return CancelResult(reply)
    words: dict[str, list[str]] = {"cancelled": [], "filled": []}
    in_order = ids if len(ids) == len(statuses) else ("",) * len(statuses)  # else only an id names an order
    for order_id, status in zip(in_order, statuses, strict=True):
        fields = status if isinstance(status, dict) else {}
        word, named = as_text(fields.get("status")).lower(), order_id_of(fields.get("order_id")) or order_id
        if word in words and named in ids:
            words[word].append(named)
    return CancelResult(reply, len(words["cancelled"]), words["cancelled"], words["filled"])


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_items(data: Any) -> object:
    """Return the orders of `openorders`."""
    return data.get("openOrders") if isinstance(data, dict) else None


def read_order(item: object) -> Order | None:
    """Read an order of `openorders`; an unknown status is alive, and the client's id may be missing."""
    return _order(item, "order_id", item.get("status")) if isinstance(item, dict) else None


def knows_none(reply: Reply) -> bool:
    """Return whether `orders/status` has no order at all: it leaves out orders that ended more than 5 s ago."""
    return reply.ok and isinstance(reply.data, dict) and reply.data.get("orders") == []


def read_looked_up(data: Any, order_id: str) -> Order | None:
    """Read an order of `orders/status`; None if the answer lacks it."""
    entries = data.get("orders") if isinstance(data, dict) else None
    objects = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    orders = (_order(entry.get("order"), "orderId", entry.get("status")) for entry in objects)
    return next((order for order in orders if order is not None and order.id == order_id), None)


def _order(item: object, key: str, status: object) -> Order | None:
    if not isinstance(item, dict):
        return None
    order_id, word = order_id_of(item.get(key)), as_text(status)
    is_gone = word.lower() in GONE
    if not order_id and not is_gone:
        return None
    symbol = as_text(item.get("symbol")).upper()  # the case differs by endpoint (§ 1)
    return Order(order_id, symbol, OrderState.GONE if is_gone else OrderState.LIVE, word)


def read_push(message: Mapping[str, Any], known: Mapping[str, Order]) -> Order | None:
    """Read a message of the feed `open_orders`: `is_cancel` says that the order has left the book, by a fill too."""
    order = message.get("order")
    fields = order if isinstance(order, dict) else {}
    order_id = order_id_of(message.get("order_id")) or order_id_of(fields.get("order_id"))
    if not order_id:
        return None
    reason = as_text(message.get("reason"))
    before = known.get(order_id)
    symbol = as_text(fields.get("instrument")).upper() or ("" if before is None else before.symbol)
    if message.get("is_cancel") is not True:
        return Order(order_id, symbol, OrderState.LIVE, reason)
    return Order(order_id, symbol, OrderState.GONE, ENDS.get(reason.lower(), reason))


# ── equity ────────────────────────────────────────────────────────────────────────────────────────────────────────


def flex_of(data: Any) -> Mapping[str, Any]:
    """Return the multi-collateral account of `accounts`; empty if there is none."""
    accounts = data.get("accounts") if isinstance(data, dict) else None
    flex = accounts.get("flex") if isinstance(accounts, dict) else None
    return flex if isinstance(flex, dict) else {}


def read_equity(data: Any) -> tuple[Decimal, Mapping[str, tuple[str, Decimal]]] | str:
    """Read the equity in USD, and that of each inverse account in its own coin; or return why it cannot be read (§ 9).

    `portfolioValue` is balances and open results. `marginEquity` has haircuts: a change of them would look like a loss.
    """
    usd = as_decimal(flex_of(data).get("portfolioValue"))
    if usd is None:
        return "no flex.portfolioValue in the answer"
    inverse: dict[str, tuple[str, Decimal]] = {}
    for name, account in data["accounts"].items():
        if not isinstance(account, dict) or account.get("type") != "marginAccount":
            continue
        coin, figures = as_text(account.get("currency")).upper(), account.get("auxiliary")
        value = as_decimal(figures.get("pv")) if isinstance(figures, dict) else None
        if value is None or not coin:
            return f"no currency or no auxiliary.pv in {name}"
        inverse[name] = (coin, value)
    return usd, inverse
