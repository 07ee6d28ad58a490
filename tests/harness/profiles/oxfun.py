"""State the profile of OX.FUN."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kill_switch.core.domain import CancelOutcome, SweepTiming
from kill_switch.venues.request import Request
from tests.harness.profiles.venue_profile import SLOW, VenueProfile
from tests.harness.venue_playbook import START, payload


def _list(*ids: str, status: str) -> object:
    return {
        "success": True,
        "data": [{"orderId": order_id, "marketCode": "BCH-USDT", "status": status} for order_id in ids],
    }


def _push(one: str, status: str) -> object:
    notice = "OrderOpened" if status in OXFUN.live else "OrderMatched"
    item = {"notice": notice, "orderId": one, "marketCode": "BCH-USDT", "status": status}
    return {"table": "order", "data": [item]}


def _stamp(request: Request) -> int:
    stamp = datetime.fromisoformat(request.headers["Timestamp"]).replace(tzinfo=UTC)
    return round(stamp.timestamp() * 1000)


def _answer(frame: dict[str, Any], code: str) -> object:
    shown = {key: str(value) for key, value in frame["data"].items()}
    return payload("oxfun/cancelorder-not-found") | {"tag": frame["tag"], "code": code, "data": shown}


def _found(one: str, status: str) -> object:
    return {"success": True, "data": {"orderId": one, "marketCode": "BCH-USDT", "status": status}}


_RETRY = ("20032", "000101", "000201", "10001", "50001")  # docs/venues/oxfun.md § 8
OXFUN = VenueProfile(
    venue="oxfun",
    secrets=lambda: {"api_key": "oxfun-key-0123456789", "api_secret": "oxfun-secret-0123456789"},
    login=(
        payload("oxfun/greeting"),
        payload("oxfun/login") | {"timestamp": str(START.wall_ms)},  # a venue whose clock is ours
        payload("oxfun/subscribed"),
    ),
    addresses=("wss://api.ox.fun/v2/websocket", "https://api.ox.fun"),
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.25, strike_gap_s=0.5),  # §10.2, §10.3
    refused_login=payload("oxfun/login-refused"),
    login_refusals=(
        *(
            (payload("oxfun/login-refused") | {"code": code}, f"login refused: {code} Signature is invalid", True)
            for code in ("05001", "20000", "20025")
        ),
        *(
            ({"event": "login", "success": False, "code": code, "message": "no"}, f"login refused: {code} no", False)
            for code in ("20024", "20007", "000101", "20026", "")
        ),
        ({"event": "login"}, "login refused:", False),
    ),
    accepted=(payload("oxfun/cancel-all-queued"), payload("oxfun/cancel-all-nothing")),
    refused=((400, payload("oxfun/error")), (200, payload("oxfun/error"))),
    unknown=((429, {"success": False, "code": "429"}), (200, {"success": False, "code": "20007"})),
    judged=(
        (200, payload("oxfun/cancel-all-queued"), CancelOutcome.ACCEPTED, "Orders queued for cancelation"),
        (200, payload("oxfun/cancel-all-nothing"), CancelOutcome.ACCEPTED, "No working orders found"),
        (200, {"success": True}, CancelOutcome.ACCEPTED, "accepted"),
        (200, {"success": True, "data": ["?"]}, CancelOutcome.ACCEPTED, "accepted"),
        (200, {"success": True, "data": {"notice": None}}, CancelOutcome.ACCEPTED, "accepted"),
        (200, payload("oxfun/error"), CancelOutcome.REFUSED, "HTTP 200 20001 marketCode is invalid"),
        (200, {"success": False}, CancelOutcome.REFUSED, "HTTP 200  "),
        (400, payload("oxfun/error"), CancelOutcome.REFUSED, "HTTP 400 20001 marketCode is invalid"),
        (400, payload("oxfun/error") | {"code": 20001}, CancelOutcome.REFUSED, "HTTP 400 20001 marketCode is invalid"),
        (400, {"success": False, "code": "40035", "message": "no"}, CancelOutcome.REFUSED, "HTTP 400 40035 no"),
        (200, {"success": False, "code": "100005", "message": "no"}, CancelOutcome.REFUSED, "HTTP 200 100005 no"),
        (401, {"success": False, "code": "20000", "message": "no"}, CancelOutcome.REFUSED, "HTTP 401 20000 no"),
        (401, {"success": False, "code": "20025", "message": "no"}, CancelOutcome.REFUSED, "HTTP 401 20025 no"),
        (200, {"success": False, "code": "05001", "message": "no"}, CancelOutcome.REFUSED, "HTTP 200 05001 no"),
        (429, {"success": False, "code": "429", "message": "slow"}, CancelOutcome.UNKNOWN, "HTTP 429 429 slow"),
        (200, {"success": False, "code": "429", "message": "slow"}, CancelOutcome.UNKNOWN, "HTTP 200 429 slow"),
        (400, {"success": False, "code": "20007", "message": "slow"}, CancelOutcome.UNKNOWN, "HTTP 400 20007 slow"),
    ),
    nothing=(
        *SLOW,
        (500, {"success": False, "code": "50001", "message": "server"}),
        (503, {"success": True}),
        (200, b"{}"),
        (429, b"slow down"),
        (200, {"success": "true"}),
        (200, {"success": None}),
        (400, {"success": 0, "code": "20001"}),
        *((status, {"success": False, "code": code}) for code in _RETRY for status in (200, 400)),
    ),
    key_refused=(401, {"success": False, "code": "20025", "message": "API key is invalid"}),
    probe_failures=(
        *(
            (401, {"success": False, "code": code, "message": "no"}, f"HTTP 401 {code} no", True)
            for code in ("05001", "20000", "20025")
        ),
        (
            400,
            {"success": False, "code": "20001", "message": "Operation failed"},
            "HTTP 400 20001 Operation fail",
            False,
        ),
        (403, {"success": True, "data": []}, "HTTP 403", False),
        (503, b"", "HTTP 503 proves nothing", False),
        (200, {"success": True, "data": [{}]}, "the working list cannot be read: 1 of 1 orders", False),
    ),
    listed=_list,
    pushed=_push,
    found=_found,
    forgotten=(
        (400, {"success": False, "code": "40035", "message": "Open order not found with id"}),
        (200, {"success": False, "code": "100005", "message": "Open order not found"}),
    ),
    ids=("300000000000000101", "300000000000000102"),
    live=("OPEN", "PARTIALLY_FILLED"),
    gone="CANCELED_BY_USER",
    ends=(
        *("FILLED", "CANCELED", "CANCELED_BY_USER", "CANCELED_BY_MAKER_ONLY", "CANCELED_BY_FOK"),
        *("CANCELED_ALL_BY_IOC", "CANCELED_PARTIAL_BY_IOC", "CANCELED_BY_SELF_TRADE_PROTECTION", "CANCELED_BY_AMEND"),
    ),
    verb="op",
    drilled=((200, payload("oxfun/cancel-not-found")), (200, {"success": False, "code": "40035"})),
    not_drilled=(
        (400, payload("oxfun/error")),
        (429, {"success": False, "code": "429"}),
        (200, {"success": True, "data": []}),
        (200, {"success": True, "data": [{"code": "100015", "submitted": False}]}),
    ),
    ws_drilled=lambda frame: _answer(frame, "100005"),
    ws_not_drilled=lambda frame: _answer(frame, "20007"),
    worth=lambda call: payload("oxfun/account"),
    equity={"OX": "1231231"},
    signed_ms=_stamp,
)
