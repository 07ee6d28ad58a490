"""Judge Binance's answers over REST and WebSocket, of all its products (docs/venues/binance.md § 7, § 8).

An error is `{"code": negative, "msg": text}`; over the WebSocket it is in `error`, beside a `status`. The adapters use
these functions; they send nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from kill_switch.venues.decode import Evidence, as_text
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

UNNAMED_PAUSE_S = 1.0  # after a frame whose refusal names no pause; over REST the header `Retry-After` names it
USED_WEIGHT = re.compile(r"x-mbx-used-weight-(\d+)([smhd])").fullmatch
BANNED_UNTIL = re.compile(r"banned until (\d{13})").search
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400}

TOO_FAST = frozenset({-1003, -1015})
WRONG_TIME = frozenset({-1021, -5028})
KEY_REFUSED = frozenset({-1002, -1022, -2014, -2015, -2017, -4109})  # only an operator can help
WRONG_KEY = frozenset({-1022, -2014})  # of these: the key or its secret is none, whatever the account is
UNKNOWN = frozenset({-1006, -1007})  # "execution status unknown"
NOT_EXECUTED = frozenset({-1008, -1016})  # overloaded; the host goes down
# the texts that mean that there is no such order: a code alone has other meanings too (§ 3.1)
NOT_FOUND: Mapping[int, str] = {-2011: "Unknown order sent.", -2013: "Order does not exist."}
ARCHIVED = -2026  # an order that ended more than 90 days ago


class Judgement(NamedTuple):
    """The judge of one product's answers."""

    evidence: Evidence
    not_executed: Collection[str] = ()  # texts of 5xx answers by which nothing was executed; any other may have been

    def of_rest(self, status: int, body: Any, venue_ms: int) -> Reply:
        """Judge an HTTP answer whose JSON is `body`; `venue_ms` is the venue's time, for a ban's end.

        Only status 200 accepts: an empty list beside a redirect is not the venue's.
        """
        code = _code_of(body)
        if code is not None and (code < 0 or status >= 400):
            return self._of_error(status, code, body, venue_ms)
        if status != 200 or not isinstance(body, dict | list):
            return Reply(ReplyOutcome.NO_ANSWER, f"HTTP {status}")
        return Reply(ReplyOutcome.ACCEPTED, "accepted", body)

    def of_frame(self, message: Mapping[str, Any], venue_ms: int) -> Reply:
        """Judge the answer to a WebSocket request: `{"id": …, "status": …, "result" or "error": …}`.

        An answer that refuses the key ends the session.
        """
        status, error = message.get("status"), message.get("error")
        code, number = _code_of(error), status if isinstance(status, int) else 0
        if code is not None and isinstance(error, dict):
            reply = self._of_error(number, code, error, venue_ms)
            if _is_too_fast(number, code):
                reply = reply._replace(pause_s=reply.pause_s or UNNAMED_PAUSE_S)
            return reply._replace(session_ended=reply.key_refused)
        if number != 200 or "result" not in message:
            return Reply(ReplyOutcome.UNKNOWN, self.evidence("status", status if status is not None else "missing"))
        return Reply(ReplyOutcome.ACCEPTED, "accepted", message["result"])

    def _of_error(self, status: int, code: int, error: Mapping[str, Any], venue_ms: int) -> Reply:
        text = as_text(error.get("msg"))
        words = self.evidence(f"{status} {code}", text)
        if _is_too_fast(status, code):
            return Reply(ReplyOutcome.UNKNOWN, words, pause_s=_pause_s(error, text, venue_ms))
        if code in WRONG_TIME:
            return Reply(ReplyOutcome.WRONG_TIME, words)
        if code in UNKNOWN:
            return Reply(ReplyOutcome.UNKNOWN, words)
        if code in KEY_REFUSED:
            return Reply(ReplyOutcome.REFUSED, words, error, key_refused=True)
        if code in NOT_EXECUTED or (status >= 500 and text in self.not_executed):
            return Reply(ReplyOutcome.REFUSED, words)
        if status >= 500:
            return Reply(ReplyOutcome.UNKNOWN, words)
        return Reply(ReplyOutcome.REFUSED, words, not_found=NOT_FOUND.get(code) == text or code == ARCHIVED)


def is_wrong_key(reply: Reply) -> bool:
    """Return whether a reply refuses the key itself, and not what the key or the account may do."""
    return reply.key_refused and _code_of(reply.data) in WRONG_KEY


def _is_too_fast(status: int, code: int) -> bool:
    return status in (418, 429) or code in TOO_FAST


def _code_of(body: object) -> int | None:
    """Return the code of an error or of a success with a code; an algo order's is a text (§ 3.4)."""
    code = body.get("code") if isinstance(body, dict) else None
    text = as_text(code)
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else None


def _pause_s(error: Mapping[str, Any], text: str, venue_ms: int) -> float:
    """Return for how many seconds the venue wants no request, until `retryAfter` in milliseconds (§ 7); 0: unnamed."""
    data = error.get("data")
    fields = data if isinstance(data, dict) else {}
    until, server = fields.get("retryAfter"), fields.get("serverTime")
    if not isinstance(until, int):
        ban = BANNED_UNTIL(text)
        until = int(ban[1]) if ban else None
    if until is None:
        return 0.0
    return max(0.0, (until - (server if isinstance(server, int) else venue_ms)) / 1000)


def used_weights(headers: Mapping[str, str]) -> Iterator[tuple[float, float]]:
    """Yield (seconds of a window, weight used in it) of each `X-MBX-USED-WEIGHT-…`; `headers` are in lower case."""
    for name, value in headers.items():
        match = USED_WEIGHT(name)
        if match is not None and value.isascii() and value.isdigit():
            yield float(int(match[1]) * SECONDS[match[2]]), float(value[:12])


def frame_weights(message: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """Yield the same of each REQUEST_WEIGHT in the `rateLimits` of a WebSocket answer."""
    limits = message.get("rateLimits")
    for limit in limits if isinstance(limits, list) else ():
        if not isinstance(limit, dict) or limit.get("rateLimitType") != "REQUEST_WEIGHT":
            continue
        number, count = limit.get("intervalNum"), limit.get("count")
        unit = SECONDS.get(as_text(limit.get("interval")))
        if unit is not None and isinstance(number, int) and isinstance(count, int) and count >= 0:
            yield float(number * unit), float(count)
