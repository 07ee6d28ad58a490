"""State the profile of Binance spot."""

from __future__ import annotations

from kill_switch.core.domain import CancelOutcome, SweepTiming
from tests.harness.profiles import binance
from tests.harness.profiles.venue_profile import VenueProfile
from tests.harness.venue_playbook import payload


def _id(one: str) -> int | str:
    return int(one) if one.isascii() and one.isdigit() and len(one) < 19 else one  # a test may have any text as an id


def _order(one: str, status: str) -> dict[str, object]:
    return {"symbol": "BTCUSDT", "orderId": _id(one), "orderListId": -1, "clientOrderId": "c1", "status": status}


def _push(one: str, status: str) -> object:
    report = {"e": "executionReport", "s": "BTCUSDT", "c": "c2", "C": "c1", "i": _id(one), "x": status}
    report["X"] = status
    return {"subscriptionId": 0, "event": report}


def _refused(frame_id: object, status: int, code: int, text: str) -> dict[str, object]:
    return {"id": frame_id, "status": status, "error": binance.error(code, text)}


_UNKNOWN_ORDER = binance.error(-2011, "Unknown order sent.")
_KEY_REFUSED = tuple(
    (status, binance.error(code, "Invalid API-key, IP, or permissions for action."))
    for status, code in ((401, -2015), (401, -2014), (400, -1022), (401, -1002), (400, -2017))
)
_RESTING = (
    (400, binance.error(-2011, "Market is closed.")),
    (400, binance.error(-2011, "This action is disabled on this account.")),
    (400, binance.error(-2010, "This account may not place or cancel orders.")),
    (400, binance.error(-1013, "Market is closed.")),
    (400, binance.error(-1121, "Invalid symbol.")),
    (503, binance.error(-1008, "Server is currently overloaded with other requests.")),
    (503, binance.error(-1016, "This service is no longer available.")),
)
_UNKNOWN = (
    (429, binance.error(-1003, "Too much request weight used.")),
    (408, binance.error(-1007, "Timeout waiting for response from backend server.")),
    (500, binance.error(-1006, "An unexpected response was received from the message bus.")),
    (500, binance.error(-1000, "An unknown error occurred while processing the request.")),
)
BINANCE_SPOT = VenueProfile(
    venue="binance-spot",
    secrets=lambda: {"api_key": "binance-key-0123456789", "api_secret": "binance-secret-0123456789"},
    addresses=("wss://ws-api.binance.com/ws-api/v3", "https://api.binance.com"),
    timing=SweepTiming(  # §10: lists lag by up to 20 s
        clean_reads=2, read_after_s=0.25, read_gap_s=2.5, strike_gap_s=0.9, residue_after_s=30.0, list_lag_s=20.0
    ),
    target=binance.target,
    fans_out="BTCUSDT",
    asks=binance.asked_id,
    signed_ms=binance.signed_ms,
    worded=lambda words: binance.error(-1100, words),
    login=({"id": "subscribe", "status": 200, "result": {"subscriptionId": 0}},),
    refused_login=_refused("subscribe", 401, -2015, "Invalid API-key, IP, or permissions for action."),
    login_refusals=(
        (_refused(None, 401, -2015, "Invalid API-key"), "session refused: 401 -2015 Invalid API-key", True),
        (_refused("subscribe", 400, -1022, "Signature"), "subscription refused: 400 -1022 Signature", True),
        (_refused("subscribe", 400, -1021, "Timestamp"), "subscription refused: 400 -1021 Timestamp", False),
        (_refused("subscribe", 429, -1003, "Too much"), "subscription refused: 429 -1003 Too much", False),
        (
            {"subscriptionId": 0, "event": {"e": "eventStreamTerminated", "E": 1}},
            "has ended the account's events",
            False,
        ),
    ),
    accepted=([], [_order("7", "CANCELED")], payload("binance/cancel-all")),
    refused=(*_KEY_REFUSED, *_RESTING),
    unknown=(*_UNKNOWN, (200, {})),
    judged=(
        (200, payload("binance/cancel-all"), CancelOutcome.ACCEPTED, "2 order(s) cancelled"),
        (400, _UNKNOWN_ORDER, CancelOutcome.ACCEPTED, "no open order"),
        (200, {}, CancelOutcome.UNKNOWN, "accepted, without its orders"),
        *((status, body, CancelOutcome.REFUSED, str(body["code"])) for status, body in _KEY_REFUSED),
        *((status, body, CancelOutcome.REFUSED, str(body["code"])) for status, body in _RESTING),
        *((status, body, CancelOutcome.UNKNOWN, str(body["code"])) for status, body in _UNKNOWN),
    ),
    nothing=((500, b""), (502, b"<html>"), (503, b"{}"), (200, b"{"), (403, b"<html>"), (404, {}), (429, b"slow")),
    key_refused=_KEY_REFUSED[0],
    probe_failures=(
        *((status, body, str(body["code"]), True) for status, body in _KEY_REFUSED),
        *((status, body, str(body["code"]), False) for status, body in (*_RESTING, *_UNKNOWN)),
        (200, {}, "the open list cannot be read", False),
        (200, [7], "the open list cannot be read: 1 of 1 orders", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=lambda *ids, status: [_order(one, status) for one in ids],
    pushed=_push,
    found=_order,
    forgotten=((400, binance.error(-2013, "Order does not exist.")),),
    ids=("12569099453", "12569099454"),
    live=("NEW", "PARTIALLY_FILLED", "PENDING_NEW", "PENDING_CANCEL"),
    gone="CANCELED",
    ends=("FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"),
    ws_first=True,
    verb="method",
    drilled=((400, _UNKNOWN_ORDER),),
    not_drilled=(
        (200, _order("7", "CANCELED")),
        (400, binance.error(-2011, "Market is closed.")),
        (400, binance.error(-1121, "Invalid symbol.")),
        *_UNKNOWN,
    ),
    ws_drilled=lambda frame: _refused(frame["id"], 400, -2011, "Unknown order sent."),
    ws_not_drilled=lambda frame: _refused(frame["id"], 400, -1121, "Invalid symbol."),
    worth=lambda call: [
        {"activate": True, "balance": "1234.5", "walletName": "Spot"},
        {"activate": True, "balance": "77", "walletName": "Funding"},
    ],
    equity={"USDT": "1234.5"},
)
