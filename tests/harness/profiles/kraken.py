"""State the profile of Kraken spot."""

from __future__ import annotations

import base64
from typing import Any

from kill_switch.core.domain import CancelOutcome, SweepTiming
from kill_switch.venues.messages import Call
from tests.harness.profiles.venue_profile import SLOW, VenueProfile


def _list(*ids: str, status: str) -> object:
    orders = {order_id: {"status": status, "descr": {"pair": "XBTUSD", "ordertype": "limit"}} for order_id in ids}
    return {"error": [], "result": {"open": orders}}


def _push(one: str, status: str) -> object:
    item = {"order_id": one, "order_status": status, "exec_type": status, "symbol": "BTC/USD"}
    return {"channel": "executions", "type": "update", "data": [item]}


def _found(one: str, status: str) -> object:
    order = {"status": status, "descr": {"pair": "XBTUSD"}}
    return {"error": [], "result": {each: order for each in one.split(",")}}


def _error(*texts: str) -> dict[str, object]:
    return {"error": list(texts)}


_TOKEN = "kraken-token-0123456789"


def _granted(call: Call) -> object:
    """Answer what an account asks for beside its orders: a token, and the rights of its key."""
    if call.request.target.endswith("GetWebSocketsToken"):
        return {"error": [], "result": {"token": _TOKEN, "expires": 900}}
    return {"error": [], "result": {"permissions": ["query-open-trades", "close-trades", "create-ws-token"]}}


def _login_refused(error: str) -> dict[str, object]:
    return {"error": error, "method": "subscribe", "req_id": 1, "success": False}


def _drill_reply(frame: dict[str, Any], error: str) -> object:
    return {"method": "cancel_order", "req_id": frame["req_id"], "success": False, "error": error}


_UNKNOWN = (
    *("EService:Unavailable", "EService:Busy", "EService:Deadline elapsed", "EGeneral:Internal error"),
    *("EAPI:Rate limit exceeded", "EGeneral:Too many requests", "EGeneral:Temporary lockout"),
    *("EOrder:Rate limit exceeded", "EOrder:Cancel pending", "eservice:unavailable"),
)
_KEY_REFUSED = (
    *("EAPI:Invalid key", "EAPI:Invalid signature", "EGeneral:Permission denied"),
    *("EAccount:Invalid permissions", "ETrade:User Locked"),
)
KRAKEN = VenueProfile(
    venue="kraken",
    secrets=lambda: {
        "api_key": "kraken-key-0123456789",
        "api_secret": base64.b64encode(b"kraken-secret-0123456789").decode(),
    },
    addresses=("wss://ws-auth.kraken.com/v2", "https://api.kraken.com"),
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=1.0),
    granted=_granted,
    token=_TOKEN,
    worded=lambda words: _error("EGeneral:Invalid arguments", words),
    reads_by_post=True,
    signature="API-Sign",
    login=(
        {"channel": "status", "type": "update", "data": [{"api_version": "v2", "system": "online"}]},
        {"method": "subscribe", "req_id": 1, "success": True, "result": {"channel": "executions"}},
    ),
    granted_later=({"method": "subscribe", "req_id": 2, "success": True, "result": {"channel": "balances"}},),
    refused_login=_login_refused("EGeneral:Permission denied"),
    login_refusals=(
        *((_login_refused(error), f"subscribe refused: {error}", True) for error in _KEY_REFUSED),
        (_login_refused("ESession:Invalid session"), "ESession:Invalid session", False),
        (_login_refused("EService:Unavailable"), "EService:Unavailable", False),
        (_login_refused("Exceeded msg rate"), "Exceeded msg rate", False),
    ),
    accepted=(
        {"error": [], "result": {"count": 4}},
        {"error": [], "result": {"count": 0}},
        {"error": ["WGeneral:Deprecated"], "result": {"count": 1}},
        {"error": [], "result": {"count": 1, "pending": True}},
    ),
    refused=(
        (200, _error("EGeneral:Permission denied")),
        (200, _error("EGeneral:Invalid arguments")),
        (403, _error("EAPI:Invalid key")),
    ),
    unknown=(
        (200, {"error": [], "result": {}}),
        (200, {"error": [], "result": {"count": "all"}}),
        (200, {"error": []}),
        (403, {"error": [], "result": {"count": 1}}),
        (429, b"error code: 1015"),
        *((200, _error(error)) for error in _UNKNOWN),
    ),
    judged=(
        (200, {"error": [], "result": {"count": 4}}, CancelOutcome.ACCEPTED, "4 order(s) cancelled"),
        (200, {"error": [], "result": {"count": 1, "pending": True}}, CancelOutcome.ACCEPTED, "has not finished"),
        (200, {"error": [], "result": {}}, CancelOutcome.UNKNOWN, "accepted, without a count"),
        *((200, _error(error), CancelOutcome.UNKNOWN, error) for error in _UNKNOWN),
        *((200, _error(error), CancelOutcome.REFUSED, error) for error in _KEY_REFUSED),
        (200, _error("ESession:Invalid session"), CancelOutcome.REFUSED, "ESession:Invalid session"),
        (200, _error("WGeneral:x", "EAPI:Invalid key"), CancelOutcome.REFUSED, "EAPI:Invalid key"),
    ),
    nothing=(*SLOW, (520, b"<html>"), (200, {"error": "EGeneral:x"}), (404, b"<html>")),
    key_refused=(200, _error("EAPI:Invalid key")),
    probe_failures=(
        *((200, _error(error), error, True) for error in _KEY_REFUSED),
        *((200, _error(error), error, False) for error in _UNKNOWN),
        (200, {"error": [], "result": {}}, "the open list cannot be read", False),
        (200, {"error": [], "result": {"open": {"O1": 7}}}, "the open list cannot be read: 1 of 1 orders", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=_list,
    pushed=_push,
    found=_found,
    forgotten=((200, _error("EOrder:Unknown order")),),
    ids=("OAAAAA-AAAAA-000101", "OAAAAA-AAAAA-000102"),
    live=("open", "pending", "new", "pending_new", "partially_filled"),
    gone="canceled",
    ends=("filled", "canceled", "expired", "closed"),
    ws_first=True,
    verb="method",
    drilled=((200, _error("EOrder:Unknown order")),),
    not_drilled=(
        (200, _error("EService:Unavailable")),
        (200, _error("EOrder:Unknown order", "EService:Busy")),
        (200, {"error": [], "result": {"count": 1}}),
        (200, {"error": [], "result": {}}),
        (200, _error("EGeneral:Invalid arguments")),
    ),
    ws_drilled=lambda frame: _drill_reply(frame, "EOrder:Unknown order"),
    ws_not_drilled=lambda frame: _drill_reply(frame, "EService:Busy"),
    worth=lambda call: {"error": [], "result": {"eb": "1101.3425", "tb": "392.2264", "n": "-10.0232", "e": "382.2032"}},
    equity={"USD": "1091.3193"},
)
