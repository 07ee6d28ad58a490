"""Judge Deribit's answers and read its orders (docs/venues/deribit.md § 3, § 4, § 8).

REST answers and frames are JSON-RPC with the same codes. The adapter uses these functions; they send nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import Evidence, as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

GONE = frozenset({"filled", "rejected", "cancelled", "archive"})  # § 4; every other state is alive
QUOTE = "rfq "  # in front of the id of a quote for a block RFQ, whose numbers are not those of orders
TRIGGERED = "triggered"  # of a used-up trigger: the order that it has placed has another id
RATE_PAUSE_S = 0.5  # § 7: ten reads, or two cancels of the smallest tier, come back
WINDOW_MS = 60_000  # § 2: a signature whose time is further off is refused
INVALID_CREDENTIALS = 13004
METHOD_OFF = 13025
NO_SCOPE = frozenset({11042, 13021, 13403})  # the key may not call the method
HARMLESS = frozenset({10045, 10012, 13019})  # in a report: a liquidation order, or a book that is closed

_REFUSED = Reply(ReplyOutcome.REFUSED, "")
_KEY_REFUSED = _REFUSED._replace(key_refused=True)
_ENDED = _REFUSED._replace(session_ended=True)
_UNKNOWN = Reply(ReplyOutcome.UNKNOWN, "")
_VERDICTS: Mapping[int, Reply] = {  # § 8; a code that is not here proves nothing
    **dict.fromkeys((10004, 10010, 11008, 11044), _REFUSED._replace(not_found=True)),
    **dict.fromkeys((*NO_SCOPE, 13668, 13904, 11098, 12005, INVALID_CREDENTIALS), _KEY_REFUSED),
    **dict.fromkeys((10000, 13009), _ENDED),
    10028: _UNKNOWN._replace(session_ended=True, pause_s=RATE_PAUSE_S),
    **dict.fromkeys((10012, 13019, 10019, 10029, 10030, 10045, 10048, 11050, 11052, METHOD_OFF), _REFUSED),
    **dict.fromkeys((-32700, -32601, -32602, -32600, -32000, 13778), _REFUSED),
}


def judge_http(status: int, body: Any, evidence: Evidence, signed_ms: int) -> Reply:
    """Judge an HTTP answer; an error may have the status 200, and a refused time has the code of a wrong key (§ 2)."""
    if status == 429:
        return Reply(ReplyOutcome.UNKNOWN, evidence("HTTP 429", body.get("error") if isinstance(body, dict) else ""))
    if status >= 500 or not isinstance(body, dict) or not _is_answer(body):
        return Reply(ReplyOutcome.NO_ANSWER, f"HTTP {status}")
    reply = judge(body, evidence)
    if reply.ok and status != 200:
        return reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=f"HTTP {status}")
    if is_wrong_time(body, signed_ms):
        return reply._replace(outcome=ReplyOutcome.WRONG_TIME, key_refused=False)
    return reply


def _is_answer(body: Mapping[str, Any]) -> bool:
    return isinstance(body["error"], dict) if "error" in body else "result" in body


def judge(message: Mapping[str, Any], evidence: Evidence) -> Reply:
    """Judge a JSON-RPC answer."""
    error, result = message.get("error"), message.get("result")
    if "error" not in message and "result" in message:
        if isinstance(result, dict) and result.get("security_key_authorization_required") is True:  # § 2
            return _KEY_REFUSED._replace(evidence="the key needs a second factor for each call", data=result)
        return Reply(ReplyOutcome.ACCEPTED, "accepted", result)
    fields = error if isinstance(error, dict) else {}
    words = evidence(fields.get("code", ""), fields.get("message", ""), fields.get("data", ""))
    return _VERDICTS.get(code_of(message), _UNKNOWN)._replace(
        evidence=words.strip() or "no result", data=message.get("result", error)
    )


def code_of(message: Mapping[str, Any]) -> int:
    """Return the code of an error; 0 if there is none that can be read."""
    error = message.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 0


def refused_code(reply: Reply) -> int | None:
    """Return the code of the error that a reply holds; None without a number."""
    code = None if reply.ok or not isinstance(reply.data, dict) else reply.data.get("code")
    return code if isinstance(code, int) else None


def is_wrong_time(message: Mapping[str, Any], signed_ms: int) -> bool:
    """Return whether a signature was refused because its time is not the venue's, by the time in the answer."""
    shown_ms = venue_ms(message)
    return code_of(message) == INVALID_CREDENTIALS and shown_ms > 0 and abs(shown_ms - signed_ms) >= WINDOW_MS


def venue_ms(message: object) -> int:
    """Return the venue's time at which an answer left, in ms; 0 without it."""
    shown = message.get("usOut") if isinstance(message, dict) else None
    return -(-shown // 1000) if isinstance(shown, int) and 0 < shown < 10**16 else 0


# ── cancels ───────────────────────────────────────────────────────────────────────────────────────────────────────


def judge_reports(reply: Reply) -> CancelResult:
    """Read the reports of a cancel-all: a single part that failed makes it no success (§ 3.1).

    A cancelled trigger comes back with the state of a waiting one, so that no state is looked at.
    """
    if not reply.ok:
        return CancelResult(reply._replace(not_found=False))
    reports = reply.data if isinstance(reply.data, list) else None
    if reports is None or not all(isinstance(report, dict) for report in reports):
        return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence="accepted, without reports"))
    failed = [*_failed(reports)]
    items = [item for report in reports if "error" not in report for item in _items(report)]
    ids = [as_text(item.get("order_id")) for item in items if isinstance(item, dict)]
    named = [order_id for order_id in ids if order_id]
    if failed:
        words = f"{len(failed)} of {len(reports)} parts failed: {'; '.join(map(_describe, failed[:3]))}"
        return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=words), len(items) or None, named)
    return CancelResult(
        reply._replace(evidence=f"{len(items)} order(s) cancelled"),
        len(items),
        named,
        names_all=len(named) == len(items),
    )


def _items(report: Mapping[str, Any]) -> list[Any]:
    items = report.get("result")
    return items if isinstance(items, list) else []


def _failed(reports: list[Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the reports of parts that may have left orders: an error, or neither an error nor a list."""
    for report in reports:
        if "error" in report:
            if code_of(report) not in HARMLESS:
                yield report
        elif not isinstance(report.get("result"), list):
            yield report


def _describe(report: Mapping[str, Any]) -> str:
    error = report.get("error")
    fields = error if isinstance(error, dict) else {}
    texts = (report.get("currency"), report.get("type"), fields.get("code"), fields.get("message"))
    return " ".join(filter(None, map(as_text, texts))) or "a report that cannot be read"


def failed_currencies(reply: Reply) -> list[str]:
    """Return the currencies of the parts that failed, each once."""
    reports = reply.data if isinstance(reply.data, list) else []
    failed = _failed([report for report in reports if isinstance(report, dict)])
    return list(dict.fromkeys(filter(None, (as_text(report.get("currency")) for report in failed))))


def count_quotes(reply: Reply) -> CancelResult:
    """Read how many quotes for block RFQs were cancelled: a count, or reports."""
    if reply.ok and isinstance(reply.data, int) and not isinstance(reply.data, bool):
        return CancelResult(reply._replace(evidence=f"{reply.data} RFQ quote(s) cancelled"), reply.data)
    return judge_reports(reply)


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_liquidation(item: object) -> bool:
    """Return whether an order is the venue's own liquidation, which nobody can cancel (§ 3.1, § 4)."""
    return isinstance(item, dict) and item.get("is_liquidation") is True


def read_order(item: object) -> Order | None:
    """Read an order, or a quote for a block RFQ, of a list; an unknown state is alive (§ 4)."""
    if not isinstance(item, dict):
        return None
    is_quote = "block_rfq_quote_id" in item
    order_id = as_text(item.get("block_rfq_quote_id" if is_quote else "order_id"))
    state = as_text(item.get("quote_state", item.get("state")) if is_quote else item.get("order_state"))
    is_gone = state in GONE or (is_quote and state == "expired")
    if not order_id and not is_gone:
        return None
    symbol = as_text(item.get("instrument_name"))
    return Order(
        f"{QUOTE}{order_id}" if is_quote else order_id, symbol, OrderState.GONE if is_gone else OrderState.LIVE, state
    )


def read_single(item: object) -> Order | None:
    """Read an order of a push or a look-up: with the reason of a cancel it is gone, whatever its state."""
    order = read_order(item)
    if order is None or not isinstance(item, dict) or not item.get("cancel_reason"):
        return order
    return order._replace(state=OrderState.GONE, status="cancelled")


def trigger_of(item: object) -> str:
    """Return the id of the trigger that has placed an order, "" if none has (§ 4)."""
    trigger_id = as_text(item.get("trigger_order_id")) if isinstance(item, dict) else ""
    return "" if isinstance(item, dict) and trigger_id == as_text(item.get("order_id")) else trigger_id
