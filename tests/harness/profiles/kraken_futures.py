"""State the profile of Kraken derivatives."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs

from kill_switch.core.domain import CancelOutcome, SweepTiming
from tests.harness.profiles.venue_profile import SLOW, VenueProfile
from tests.harness.venue_playbook import payload


def _list(*ids: str, status: str) -> object:
    orders = [{"order_id": one, "symbol": "pf_xbtusd", "orderType": "lmt", "status": status} for one in ids]
    return {"result": "success", "openOrders": orders, "serverTime": "2026-01-02T03:04:06.179Z"}


def _push(one: str, status: str) -> object:
    order = {"instrument": "PF_XBTUSD", "order_id": one, "qty": 1.0, "filled": 0.0, "type": "limit", "direction": 1}
    return {"feed": "open_orders", "order": order, "is_cancel": status in _ENDS, "reason": status}


def _found(one: str, status: str) -> object:
    order = {"type": "ORDER", "symbol": "PF_XBTUSD", "side": "buy", "quantity": 1}
    rest = {"status": status, "updateReason": None, "error": None}
    return {"result": "success", "orders": [{"order": {**order, "orderId": each}, **rest} for each in one.split(",")]}


def _error(error: str) -> dict[str, object]:
    return {"result": "error", "error": error, "serverTime": "2026-01-02T03:04:05.520Z"}


def _cancel(status: object, *ids: str, **more: object) -> dict[str, object]:
    listed = [{"order_id": one} for one in ids]
    events = [{"type": "CANCEL", "uid": one, "order": {"orderId": one, "symbol": "PF_XBTUSD"}} for one in ids]
    found = {"cancelOnly": "all", "status": status, "cancelledOrders": listed, "orderEvents": events, **more}
    return {"result": "success", "cancelStatus": found}


_ENDS = (
    *("filled", "cancelled", "rejected", "expired", "FULLY_EXECUTED", "CANCELLED", "REJECTED"),
    "TRIGGER_ACTIVATION_FAILURE",
)
_UNKNOWN = (
    "Unavailable",
    "unavailable",
    "marketUnavailable",
    "unknownError",
    "Server Error",
    "apiLimitExceeded",
)
_KEY_REFUSED = ("authenticationError", "accountInactive", "invalidAccount")
_REFUSED = ("invalidArgument", "requiredArgumentMissing", "Json Parse Error", "nonceBelowThreshold")
_IDS = ("59302619-0000-4f0b-941f-7e7914760101", "7a9f8b3e-0000-4e5f-9a8b-7c6d5e4f0102")
KRAKEN_FUTURES = VenueProfile(
    venue="kraken-futures",
    secrets=lambda: {
        "api_key": "futures-key-0123456789",
        "api_secret": base64.b64encode(b"futures-secret-0123456789").decode(),
    },
    addresses=("wss://futures.kraken.com/ws/v1", "https://futures.kraken.com"),
    # §7: 500 in 10 s; with a strike's 25, the cancels by id behind it and the reads, eight strikes cost less
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=1.25),
    worded=_error,
    reads_by_post=True,
    signature="Authent",
    login=(
        {"event": "info", "version": 1},
        payload("kraken_futures/challenge"),
        payload("kraken_futures/open-orders-snapshot"),
    ),
    refused_login={"event": "error", "message": "Invalid API key"},
    login_refusals=(
        ({"event": "error", "message": "Invalid challenge or signature"}, "Invalid challenge or signature", True),
        ({"event": "error", "message": "Permission denied"}, "Permission denied", True),
        ({"event": "alert", "message": "Failed to subscribe to authenticated feed"}, "authenticated feed", True),
        ({"event": "error", "message": "Json Error"}, "WebSocket error: Json Error", False),
        ({"event": "subscribed_failed", "feed": "open_orders"}, "subscribed_failed: open_orders", False),
    ),
    accepted=(
        payload("kraken_futures/cancel-all"),
        payload("kraken_futures/cancel-all-nothing"),
        _cancel("cancelled"),
        _cancel("cancelled", cancelledOrders=None, orderEvents=7),
    ),
    refused=(
        *((200, _error(error)) for error in _REFUSED),
        (401, _error("authenticationError")),
    ),
    unknown=(
        (200, {"result": "success"}),
        (200, {"result": "success", "cancelStatus": {}}),
        (200, {"result": "success", "cancelStatus": [7]}),
        (200, _cancel("notFound")),
        (200, _cancel("filled")),
        (200, _cancel("cancelled", cancelOnly="PF_XBTUSD")),
        (200, _cancel("noOrdersToCancel", _IDS[0])),
        (403, payload("kraken_futures/cancel-all")),
        (429, b"error code: 1015"),
        *((200, _error(error)) for error in _UNKNOWN),
    ),
    judged=(
        (200, payload("kraken_futures/cancel-all"), CancelOutcome.ACCEPTED, "1 order(s) cancelled"),
        (200, payload("kraken_futures/cancel-all-nothing"), CancelOutcome.ACCEPTED, "noOrdersToCancel"),
        (200, _cancel("notFound"), CancelOutcome.UNKNOWN, "a success whose status is notFound"),
        (200, {"result": "success"}, CancelOutcome.UNKNOWN, "a success whose status is missing"),
        (200, _cancel("cancelled", cancelOnly="PF_XBTUSD"), CancelOutcome.UNKNOWN, "for PF_XBTUSD alone"),
        *((200, _error(error), CancelOutcome.UNKNOWN, error) for error in _UNKNOWN),
        *((200, _error(error), CancelOutcome.REFUSED, error) for error in _REFUSED),
        *((200, _error(error), CancelOutcome.REFUSED, error) for error in _KEY_REFUSED),
        (200, _error("notFound"), CancelOutcome.REFUSED, "notFound"),
    ),
    nothing=(
        *(*SLOW, (520, b"<html>"), (404, b"<html>"), (200, {"result": "x"}), (200, {"error": "Unavailable"})),
        (500, payload("kraken_futures/error-other-shape")),
        (200, payload("kraken_futures/error-other-shape")),
    ),
    key_refused=(200, payload("kraken_futures/authentication-error")),
    probe_failures=(
        *((200, _error(error), error, True) for error in _KEY_REFUSED),
        *((200, _error(error), error, False) for error in (*_UNKNOWN, *_REFUSED)),
        (200, {"result": "success"}, "the open list cannot be read", False),
        (200, {"result": "success", "openOrders": [7]}, "the open list cannot be read: 1 of 1 orders", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=_list,
    pushed=_push,
    found=_found,
    asks=lambda call: ",".join(parse_qs(call.request.body.decode())["orderIds"]),
    forgotten=((200, {"result": "success", "orders": []}), (200, _error("notFound"))),
    ids=_IDS,
    live=("untouched", "partiallyFilled", "ENTERED_BOOK", "TRIGGER_PLACED"),
    gone="cancelled",
    ends=_ENDS,
    drilled=((200, payload("kraken_futures/cancel-not-found")), (200, _error("notFound"))),
    not_drilled=(
        (200, payload("kraken_futures/cancel-one")),
        (200, payload("kraken_futures/cancel-filled")),
        (200, {"result": "success"}),
        *((200, _error(error)) for error in (*_UNKNOWN, "invalidArgument")),
    ),
    worth=lambda call: {"result": "success", "accounts": {"flex": {"portfolioValue": 1234.5, "marginEquity": 1100.0}}},
    equity={"USD": "1234.5"},
)
