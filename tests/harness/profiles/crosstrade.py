"""State the profile of CrossTrade."""

from __future__ import annotations

from kill_switch.core.domain import CancelOutcome, SweepTiming
from kill_switch.venues.crosstrade.replies import OFFLINE
from tests.harness.profiles.venue_profile import SLOW, VenueProfile
from tests.harness.venue_playbook import payload


def _list(*ids: str, status: str) -> object:
    order = payload("crosstrade/order")
    snapshot = payload("crosstrade/snapshot")  # one body for both: a reader of the one does not look at the other
    return {
        **snapshot,
        "orders": [{**order, "orderId": order_id, "orderState": status} for order_id in ids],
        "success": True,
    }


def _push(one: str, status: str) -> object:
    return {"type": "orderUpdate", "order": {**payload("crosstrade/order"), "orderId": one, "orderState": status}}


CROSSTRADE = VenueProfile(
    venue="crosstrade",
    secrets=lambda: {"token": "crosstrade-token-0123456789"},
    options={"nt_accounts": ("Sim101",)},
    widest={"nt_accounts": ("Sim101", "Live1"), "flatten": True},
    besides={"positions": [{"account": "Sim101", "instrument": "ES", "marketPosition": "Long", "quantity": 1}]},
    login=({"id": "hello", "data": {"orders": [], "success": True}},),
    addresses=("wss://app.crosstrade.io/ws/stream", "https://app.crosstrade.io"),
    timing=SweepTiming(  # §9.4: at most one poll a second
        answer_within_s=1.5, read_after_s=0.025, read_within_s=4.0, read_gap_s=1.0, clean_reads=2, strike_gap_s=1.0
    ),
    refused_login={"type": "error", "error": "Session active elsewhere"},
    accepted=(payload("crosstrade/cancelled"), payload("crosstrade/cancelled-none"), {"success": True}),
    refused=((400, payload("crosstrade/invalid-account")), (400, payload("crosstrade/invalid-request")), (401, {})),
    unknown=((408, payload("crosstrade/addon")),),  # what its rate limit refuses is repeated, and not told at once
    judged=(
        (
            400,
            payload("crosstrade/invalid-account"),
            CancelOutcome.REFUSED,
            "HTTP 400 invalid_account Account Sim999 n",
        ),
        (400, payload("crosstrade/invalid-request"), CancelOutcome.REFUSED, "HTTP 400 Invalid request"),
        (200, payload("crosstrade/invalid-request"), CancelOutcome.REFUSED, "HTTP 200 Invalid request"),
        (200, {"success": False}, CancelOutcome.REFUSED, "HTTP 200"),
        (401, b"", CancelOutcome.REFUSED, "HTTP 401"),
        (404, b"<html>", CancelOutcome.REFUSED, "HTTP 404"),
        (
            408,
            payload("crosstrade/addon"),
            CancelOutcome.UNKNOWN,
            f"{OFFLINE} (HTTP 408 addon_disconnected The XT add-on is ",
        ),
        (408, b"", CancelOutcome.UNKNOWN, f"{OFFLINE} (HTTP 408)"),
    ),
    nothing=(*SLOW, (100, b""), (301, b"")),
    key_refused=(401, {"success": False, "error": "unauthorized"}),
    probe_failures=tuple(
        (status, {"success": False, "error": "unauthorized"}, f"HTTP {status} unauthorized", True)
        for status in (401, 403)
    ),
    listed=_list,
    pushed=_push,
    ids=("0123456789abcdef0123456789abcdef", "ce0a8e5002ea463e856eb6384f5cee7e"),
    live=(
        *("Working", "TriggerPending", "Initialized", "Submitted", "Accepted", "PartFilled", "ChangePending"),
        *("ChangeSubmitted", "Suspended", "Trigger pending", "Partially filled"),
    ),
    gone="Cancelled",
    ends=("Filled", "Cancelled", "Canceled", "Rejected"),
    pending=("CancelPending", "CancelSubmitted", "Cancel pending"),
    header="token",
    ws_first=True,
    signed=False,
    verb="api",
    drilled=((400, payload("crosstrade/not-found")), (200, payload("crosstrade/cancelled-one"))),
    not_drilled=(
        (400, payload("crosstrade/invalid-account")),
        (408, payload("crosstrade/addon")),
        (429, payload("crosstrade/rate-limit")),
    ),
    ws_drilled=lambda frame: {"id": frame["id"], "data": payload("crosstrade/not-found")},
    ws_not_drilled=lambda frame: {"id": frame["id"], "error": "addon_disconnected"},
    worth=lambda call: payload("crosstrade/snapshot"),
    equity={"USD": "1E+5"},
    settle_s=10.0,
)
