"""State the profile of Roxom."""

from __future__ import annotations

from kill_switch.core.domain import CancelOutcome, SweepTiming
from kill_switch.venues.messages import Call
from tests.harness.keys import rsa_pem
from tests.harness.profiles.venue_profile import SLOW, VenueProfile
from tests.harness.venue_playbook import payload


def _worth(call: Call) -> object:
    if "/market/instruments" in call.request.target:
        return payload("roxom/instruments")
    return payload("roxom/balance") if "/accounts/balance" in call.request.target else {"data": {"positions": []}}


def _list(*ids: str, status: str) -> object:
    return {
        "data": {"orders": [{"id": order_id, "symbol": "US500-BTC", "status": status} for order_id in ids]},
        "error": False,
    }


def _push(one: str, status: str) -> object:
    return {"type": "order", "data": {"orderId": one, "symbol": "US500-BTC", "status": status}}


def _found(one: str, status: str) -> object:
    return {"data": {"order": {"id": one, "symbol": "US500-BTC", "status": status, "fills": []}}, "error": False}


_UNNAMED: tuple[object, ...] = ({}, [], {"cancelledOrderIds": "all"})  # data of a cancel-all without its list
ROXOM = VenueProfile(
    venue="roxom",
    secrets=lambda: {"api_key": "xrxk_key_0123456789abcdef", "private_key": rsa_pem(2048)},
    options={"auth": "api-key"},  # to load an RSA key takes 50 ms
    strong={"auth": "rsa"},
    addresses=("wss://ws.roxom.com/ws", "https://api.roxom.com"),
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5),  # §7: two reads a second
    login=({"event": "subscribe"},),
    refused_login=payload("roxom/ws-error"),
    login_refusals=(
        (payload("roxom/ws-error"), "600010 Authentication failed", True),
        *(
            ({"event": "error", "code": code, "msg": "no", "connId": "b1"}, f"{code} no", False)
            for code in ("60014", "60016", "60017", "60019")
        ),
    ),
    accepted=({"data": {"cancelledOrderIds": []}, "error": False}, payload("roxom/cancel-all")),
    refused=((401, payload("roxom/bad-key")), (200, payload("roxom/expired-key"))),
    unknown=((429, {"error": {"code": 429}}), (200, {"data": {}, "error": False})),
    judged=(
        *(
            (200, {"data": {"cancelledOrderIds": []}, **error}, CancelOutcome.ACCEPTED, "0 order(s) named as cancelled")
            for error in ({"error": False}, {}, {"error": None})
        ),
        (401, payload("roxom/no-key"), CancelOutcome.REFUSED, "HTTP 401: Authorization header is required"),
        (401, payload("roxom/bad-key"), CancelOutcome.REFUSED, "HTTP 401: Invalid API key"),
        (401, payload("roxom/expired-key"), CancelOutcome.REFUSED, "HTTP 401: API key has expired"),
        (200, payload("roxom/bad-key"), CancelOutcome.REFUSED, "HTTP 200: Invalid API key"),
        (400, payload("roxom/error-object"), CancelOutcome.REFUSED, "HTTP 400: 400 Insufficient balance"),
        (200, payload("roxom/error-object"), CancelOutcome.REFUSED, "HTTP 200: 400 Insufficient balance"),
        (200, {"error": True}, CancelOutcome.REFUSED, "HTTP 200: True"),
        (404, {}, CancelOutcome.REFUSED, "HTTP 404: None"),
        (429, {"error": {"code": 429, "message": "slow"}}, CancelOutcome.UNKNOWN, "HTTP 429: 429 slow"),
        *(
            (200, {"data": data}, CancelOutcome.UNKNOWN, "accepted, without the list of cancelled orders")
            for data in _UNNAMED
        ),
    ),
    nothing=(*SLOW, (500, payload("roxom/cancel-all")), (401, b"no")),
    key_refused=(401, payload("roxom/bad-key")),
    probe_failures=(
        (401, payload("roxom/bad-key"), "HTTP 401: Invalid API key", True),
        (403, {"error": 403, "message": "no"}, "HTTP 403: no", True),
        (400, payload("roxom/error-object"), "HTTP 400: 400 Insufficient balance", False),
        (200, {"data": {}}, "the perpetual list cannot be read", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=_list,
    pushed=_push,
    found=_found,
    forgotten=((404, payload("roxom/order-not-found")),),
    ids=("01234567-89ab-7def-8123-456789abcdef", "98765432-10fe-dcba-9876-543210fedcba"),
    live=("submitted", "waitingtrigger", "pendingsubmit", "partiallyfilled", "PENDING"),
    gone="cancelled",
    ends=(
        *("filled", "cancelled", "partiallyfilledcancelled", "rejected", "expired"),
        *("CANCELED", "FILLED", "EXPIRED", "partially_filled_canceled", "Cancelled"),
    ),
    pending=("pendingcancel", "PENDING_CANCEL", "PendingCancel"),
    drilled=((404, payload("roxom/order-not-found")), (200, {"data": {"success": True}})),
    not_drilled=(
        (200, {"data": {"success": False}}),
        (429, {"error": {"code": 429, "message": "Order not found, too fast"}}),
        (400, payload("roxom/error-object")),
    ),
    worth=_worth,
    equity={"BTC": "0.0015"},
)
