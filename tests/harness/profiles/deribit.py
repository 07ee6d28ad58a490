"""State the profile of Deribit, and its login."""

from __future__ import annotations

from kill_switch.core.domain import CancelOutcome, SweepTiming
from kill_switch.venues.request import Request
from tests.harness.profiles.venue_profile import SLOW, VenueProfile
from tests.harness.venue_playbook import START, payload


def _rpc(number: int, result: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "result": result, "testnet": False}


def _error(code: int, message: str, number: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}, "testnet": False}


def _list(*ids: str, status: str) -> object:
    rows = [
        {"order_id": one, "order_state": status, "order_type": "limit", "instrument_name": "BTC-PERPETUAL", "label": ""}
        for one in ids
    ]
    return _rpc(1, rows)


def _push(one: str, status: str) -> object:
    data = {"order_id": one, "order_state": status, "order_type": "limit", "instrument_name": "BTC-PERPETUAL"}
    params = {"channel": "user.orders.any.any.raw", "data": data}
    return {"jsonrpc": "2.0", "method": "subscription", "params": params}


def _found(one: str, status: str) -> object:
    return _rpc(1, {"order_id": one, "order_state": status, "instrument_name": "BTC-PERPETUAL"})


def _stamp(request: Request) -> int:
    return int(request.headers["Authorization"].partition("ts=")[2].partition(",")[0])


def login(scope: str = "connection account:read trade:read_write", **more: object) -> dict[str, object]:
    token = {"access_token": "deribit-access-0123456789", "refresh_token": "deribit-refresh-0123456789"}
    return _rpc(1, {**token, "expires_in": 900, "scope": scope, "token_type": "bearer", **more})


CHANNELS = ("user.orders.any.any.raw", "user.lock", "platform_state")
_UNKNOWN = (
    *((10001, "error"), (10028, "too_many_requests"), (10040, "retry"), (10041, "settlement_in_progress")),
    *((10047, "matching_engine_queue_full"), (11051, "system_maintenance"), (11094, "internal_server_error")),
    *((13028, "temporarily_unavailable"), (13888, "timed_out"), (13503, "unavailable"), (99999, "of_tomorrow")),
)
_KEY_REFUSED = (
    *((13004, "invalid_credentials"), (11042, "permission_denied"), (13021, "forbidden")),
    *((13403, "scope_exceeded"), (13668, "security_key_authorization_error"), (11098, "account_locked")),
    (12005, "country_is_banned"),
)
_REFUSED = ((10019, "locked_by_admin"), (13009, "unauthorized"), (-32602, "Invalid params"))
DERIBIT = VenueProfile(
    venue="deribit",
    secrets=lambda: {"client_id": "deribit-id-0123456789", "client_secret": "deribit-secret-0123456789"},
    addresses=("wss://www.deribit.com/ws/api/v2", "https://www.deribit.com"),
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5),
    worded=lambda words: _error(11050, words),
    reads_by_post=True,
    signature="uthorization",
    login=(login(), _rpc(2, "ok"), _rpc(3, list(CHANNELS))),
    refused_login=_error(13004, "invalid_credentials"),
    login_refusals=(
        *((_error(*one), f"login refused: {one[0]} {one[1]}", True) for one in _KEY_REFUSED),
        *((_error(*one), f"login refused: {one[0]} {one[1]}", False) for one in _UNKNOWN),
        (_error(13004, "invalid_credentials") | {"usOut": (START.wall_ms + 90_000) * 1000}, "the time", False),
    ),
    accepted=(
        payload("deribit/cancel-all"),
        _rpc(7, []),
        _rpc(7, [{"currency": "ETH", "type": "limit", "error": {"code": 10045, "message": "liquidation"}}]),
    ),
    refused=tuple((400, _error(*one)) for one in (*_REFUSED, *_KEY_REFUSED)),
    unknown=(
        (200, _rpc(7, 4)),
        (200, _rpc(7, None)),
        (200, _rpc(7, ["BTC"])),
        (403, payload("deribit/cancel-all")),
        (429, b"too many connections"),
        *((400, _error(*one)) for one in _UNKNOWN),
        *((200, _error(*one)) for one in _UNKNOWN),
    ),
    judged=(
        (200, payload("deribit/cancel-all"), CancelOutcome.ACCEPTED, "2 order(s) cancelled"),
        (200, _rpc(7, []), CancelOutcome.ACCEPTED, "0 order(s) cancelled"),
        (200, _rpc(7, 4), CancelOutcome.UNKNOWN, "accepted, without reports"),
        *((400, _error(*one), CancelOutcome.UNKNOWN, f"{one[0]} {one[1]}") for one in _UNKNOWN),
        *((400, _error(*one), CancelOutcome.REFUSED, f"{one[0]} {one[1]}") for one in _KEY_REFUSED),
        *((400, _error(*one), CancelOutcome.REFUSED, f"{one[0]} {one[1]}") for one in _REFUSED),
        (400, _error(10004, "order_not_found"), CancelOutcome.REFUSED, "10004 order_not_found"),
        (
            200,
            _rpc(7, {"security_key_authorization_required": True, "challenge": "c"}),
            CancelOutcome.REFUSED,
            "a second factor",
        ),
    ),
    nothing=(*SLOW, (502, payload("deribit/cancel-all")), (200, {"error": "x"}), (404, b"<html>")),
    key_refused=(400, _error(13004, "invalid_credentials")),
    probe_failures=(
        *((400, _error(*one), f"{one[0]} {one[1]}", True) for one in _KEY_REFUSED),
        *((400, _error(*one), f"{one[0]} {one[1]}", False) for one in (*_UNKNOWN, *_REFUSED)),
        (200, _rpc(9, {}), "the open list cannot be read", False),
        (200, _rpc(9, [7]), "the open list cannot be read: 1 of 1 orders", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=_list,
    pushed=_push,
    found=_found,
    forgotten=((400, _error(10004, "order_not_found")), (200, _error(10010, "already_closed"))),
    ids=("ETH-100234", "ETH-100235"),
    live=("open", "untriggered", "of_tomorrow"),
    gone="cancelled",
    ends=("filled", "rejected", "cancelled", "archive"),
    header="client_id",
    ws_first=True,
    verb="method",
    drilled=(
        (400, _error(10004, "order_not_found")),
        (200, _error(11044, "not_open_order")),
    ),
    not_drilled=(
        (400, _error(10019, "locked_by_admin")),
        (400, _error(13009, "unauthorized")),
        (400, _error(10028, "too_many_requests")),
        (200, _found("ETH-0", "cancelled")),
    ),
    ws_drilled=lambda frame: _error(10004, "order_not_found", frame["id"]),
    ws_not_drilled=lambda frame: _error(10047, "matching_engine_queue_full", frame["id"]),
    worth=lambda call: payload("deribit/account-summaries"),
    equity={"BTC": "302.6188592", "ETH": "5.5"},
    signed_ms=_stamp,
)
