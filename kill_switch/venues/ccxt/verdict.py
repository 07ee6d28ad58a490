"""Judge an answer with the help of ccxt, which knows a venue's error codes and takes too much for a success.

ccxt itself returns normally for 3xx, 402, 524, an empty body and an HTML page with status 200. So an answer counts as
accepted only with status 2xx, a JSON object or array, and no error that ccxt finds in it.
"""

from __future__ import annotations

from typing import Any

from kill_switch.venues.decode import Evidence
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import Replied

RATE_PAUSE_S = 5.0  # without another request than a kill's commands after a limit's refusal that names no pause


def verdict_of(exchange: Any, errors: Any, address: str, replied: Replied, body: Any, evidence: Evidence) -> Reply:
    """Return the verdict; `address` is where the venue documents its API, `body` the answer's JSON value or None."""
    status = replied.status
    words = f"HTTP {status}"
    if status in (418, 429):
        return Reply(ReplyOutcome.UNKNOWN, words, pause_s=RATE_PAUSE_S)
    if not isinstance(body, dict | list):
        return Reply(ReplyOutcome.NO_ANSWER, words)
    reply = _by_ccxt(exchange, errors, address, replied, body)
    if status >= 500 and reply.outcome not in (ReplyOutcome.REFUSED, ReplyOutcome.WRONG_TIME):
        return Reply(ReplyOutcome.NO_ANSWER, words)  # Bitfinex refuses with 500, and names the reason
    if not reply.ok:
        return reply._replace(evidence=evidence(reply.evidence, body))
    return reply if 200 <= status < 300 else Reply(ReplyOutcome.UNKNOWN, words, body)


def _by_ccxt(exchange: Any, errors: Any, address: str, replied: Replied, body: Any) -> Reply:
    """Return the verdict of ccxt, which looks for errors alone; its evidence is the name of the exception."""
    status = replied.status
    text = replied.body.decode("utf-8", "replace").strip()
    try:
        exchange.handle_errors(status, "", address, "POST", dict(replied.headers), text, body, {}, "")
        exchange.handle_http_status_code(status, "", address, "POST", text)
    except Exception as error:  # ccxt's own, and those of its code for an answer of an unexpected shape
        return _of_error(error, errors)._replace(evidence=type(error).__name__, data=body)
    return Reply(ReplyOutcome.ACCEPTED, "accepted", body)


def _of_error(error: Exception, errors: Any) -> Reply:
    """Return the verdict on an exception; the first class that fits counts.

    Any other error leaves the outcome unknown.
    """
    unknown = Reply(ReplyOutcome.UNKNOWN, "")
    refused = Reply(ReplyOutcome.REFUSED, "")
    verdicts: tuple[tuple[type[Exception], Reply], ...] = (
        (errors.InvalidNonce, Reply(ReplyOutcome.WRONG_TIME, "")),
        (errors.DDoSProtection, unknown._replace(pause_s=RATE_PAUSE_S)),
        (errors.RateLimitExceeded, unknown._replace(pause_s=RATE_PAUSE_S)),
        (errors.OperationFailed, unknown),
        (errors.AuthenticationError, refused._replace(key_refused=True)),
        (errors.OrderNotFound, refused._replace(not_found=True)),
        (errors.ArgumentsRequired, refused),
        (errors.BadRequest, refused),
        (errors.InvalidOrder, refused),
        (errors.NotSupported, refused),
    )
    return next((verdict for kind, verdict in verdicts if isinstance(error, kind)), unknown)
