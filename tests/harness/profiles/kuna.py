"""State the profile of KUNA."""

from __future__ import annotations

from kill_switch.core.domain import CancelOutcome, SweepTiming
from kill_switch.venues.kuna.adapter import NO_ORDER
from tests.harness.profiles.venue_profile import SLOW, VenueProfile
from tests.harness.venue_playbook import payload


def _list(*ids: str, status: str) -> object:
    return {"data": [{"id": order_id, "pair": "BTC_USDT", "status": status} for order_id in ids]}


def _push(one: str, status: str) -> object:
    data = {"event": "order", "data": {"id": one, "pair": "BTC_USDT", "status": status}}
    return {"event": "#publish", "data": {"channel": "order", "data": data}}


def _found(one: str, status: str) -> object:
    return {"data": {"id": one, "pair": "BTC_USDT", "status": status}}


def _error(message: str, code: str = "BAD_REQUEST") -> dict[str, object]:
    return {"message": message, "extensions": {"code": code}}


def _errors(*messages: str) -> dict[str, object]:
    return {"errors": [_error(message) for message in messages]}


_IDS = ("c7fc5b2b-bd9d-48c1-a458-a83412669cf4", "3e5591ba-2778-4d85-8851-54284045ea44")
KUNA = VenueProfile(
    venue="kuna",
    secrets=lambda: {
        "public_key": "kuna-public-0123456789",
        "api_secret": "kuna-secret-0123456789",
        "api_key": "kuna-single-0123456789",
    },
    strong={"auth": "hmac"},
    login=(payload("kuna/handshake"), payload("kuna/set-auth-token"), {"rid": 2}, {"rid": 3}),
    addresses=("wss://ws-pro.kuna.io/socketcluster/", "https://api.kuna.io"),
    timing=SweepTiming(clean_reads=2, read_gap_s=1.2, strike_gap_s=1.0),  # §7: 300 a minute
    refused_login=payload("kuna/login-refused"),
    login_refusals=(
        (payload("kuna/login-refused"), "login refused: REQUEST_INVALID_KEY Wrong api key or user blocked", True),
        (
            {"rid": 2, "error": {"message": "try again", "extensions": {"code": "BUSY"}}},
            "login refused: BUSY try again",
            False,
        ),
    ),
    # the answer to a batch; to a list, with which a strike begins that knows nothing, it shows orders that have ended
    accepted=({"data": [{"id": one, "success": True, "status": "Canceled"} for one in _IDS]},),
    refused=(
        (400, {"code": "BAD_REQUEST", "message": "Trading is closed"}),
        (200, {"errors": [{"code": "BAD_REQUEST", "message": "Trading is closed"}]}),
        (500, payload("kuna/error-uuid")),
    ),
    unknown=((429, {"errors": [{"code": "TOO_MANY_REQUESTS"}]}), (200, {"data": {}})),
    judged=(
        (400, _errors("no", "not"), CancelOutcome.REFUSED, "HTTP 400 BAD_REQUEST no BAD_REQUEST not"),
        (400, {"errors": "no"}, CancelOutcome.REFUSED, "HTTP 400 no"),
        (200, {"errors": {"extensions": {"code": "X"}}}, CancelOutcome.REFUSED, "HTTP 200 X"),
        (200, {"errors": [{"extensions": 7}]}, CancelOutcome.REFUSED, "HTTP 200"),
        (200, {"error": "no"}, CancelOutcome.REFUSED, "HTTP 200 no"),
        (200, {"error": True}, CancelOutcome.REFUSED, "HTTP 200 True"),
        (200, {"success": False}, CancelOutcome.REFUSED, "HTTP 200"),
        (403, {"statusCode": 403, "message": "Forbidden", "error": "x"}, CancelOutcome.REFUSED, "HTTP 403 Forbidden"),
        (404, {}, CancelOutcome.REFUSED, "HTTP 404"),
        (404, b"[]", CancelOutcome.REFUSED, "HTTP 404"),
        (429, {}, CancelOutcome.UNKNOWN, "HTTP 429"),
        (429, _errors("slow down"), CancelOutcome.UNKNOWN, "HTTP 429 BAD_REQUEST slow down"),
    ),
    waits=True,
    nothing=(*SLOW[:-1], (500, _errors("x")), (200, b"7")),  # a bare list is an answer here
    probe_failures=(
        (401, {}, "HTTP 401", True),
        (403, _errors("Wrong account type"), "HTTP 403 BAD_REQUEST Wrong account type", True),
        (200, {"errors": [_error("no", "REQUEST_INVALID_KEY")]}, "HTTP 200 REQUEST_INVALID_KEY no", True),
        (429, {}, "HTTP 429", False),
        (400, _errors("no"), "HTTP 400 BAD_REQUEST no", False),
        (503, b"", "HTTP 503 proves nothing", False),
        (200, {"data": {}}, "the active list cannot be read", False),
    ),
    key_refused=(401, {"errors": [{"code": "UNAUTHORIZED", "message": "Unauthorized"}]}),
    listed=_list,
    pushed=_push,
    found=_found,
    forgotten=(
        (404, {"errors": [{"code": "NOT_FOUND", "message": "Order not found"}]}),
        (200, {"errors": [{"code": "BAD_REQUEST", "message": "Order with id 1 does not exist"}]}),
    ),
    ids=_IDS,
    live=("Open", "Pending", "WaitStop"),
    gone="Canceled",
    ends=("closed", "canceled", "cancelled", "rejected", "expired", "Closed", "Canceled", "Rejected", "Expired"),
    header="public_key",
    pings=(b"",),
    drilled=(
        (200, {"data": [{"id": NO_ORDER, "success": False}]}),
        (200, [{"orderId": NO_ORDER, "success": False}]),
        (400, payload("kuna/error-closed")),
        (404, {"errors": [{"code": "NOT_FOUND", "message": "Order not found"}]}),
        (200, _errors(f"Order {NO_ORDER} does not exist.")),
    ),
    not_drilled=(
        (400, _errors("Order entry is suspended")),
        (400, _errors("Order not found", "Trading is closed")),
        (401, _errors("Order not found")),
        (200, {"data": [{"id": _IDS[0], "success": True}]}),
        (200, {"data": {}}),
        (200, {"error": {"message": {"deep": 1}}}),
        (200, {"data": []}),
        (200, {"errors": [{"code": "BAD_REQUEST", "message": "Trading is closed"}]}),
        (429, {"errors": [{"code": "TOO_MANY_REQUESTS", "message": "Order not found, too fast"}]}),
        (400, {"errors": []}),
        (500, payload("kuna/error-uuid")),
    ),
    worth=lambda call: payload("kuna/balance"),
    equity={"USDT": "12.5", "UAH": "7234.6"},
)
