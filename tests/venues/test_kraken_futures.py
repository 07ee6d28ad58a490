"""What no other venue has: Kraken derivatives' statuses inside a success, two WebSockets, a token from elsewhere."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from pydantic import ValidationError

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route
from kill_switch.venues.kit.pools import weights_of
from kill_switch.venues.kraken.replies import RATE_PAUSE_S as SPOT_RATE_PAUSE_S
from kill_switch.venues.kraken_futures.adapter import BATCH, ENDS_NS, NO_ORDER, PATH, POOL, WARNED_FROM_NS
from kill_switch.venues.kraken_futures.adapter import KrakenFutures as Futures
from kill_switch.venues.kraken_futures.adapter import KrakenFuturesOptions as Options
from kill_switch.venues.kraken_futures.signing import authent, sign_challenge
from kill_switch.venues.messages import (
    Call,
    CallLost,
    CancelAnswered,
    CloseConnection,
    Closed,
    Drilled,
    Equity,
    NotReady,
    Opened,
    OrderPlaced,
    OrdersRead,
    Output,
    Ready,
    Received,
    Send,
    Transferred,
    UnexplainedMessage,
    VenueTimerFired,
)
from tests.harness import venue_profiles
from tests.harness.venue_playbook import START, Drill, Kill, Measure, Pause, Player, Probe, Read, answer, hears, payload
from tests.harness.venue_profiles import SECOND_ROUTE_S, STANDS

from . import test_conformance, test_secrets_do_not_leak

SECRET = "7zxMEF5p/Z8l2p2U7Ghv6x14Af+Fx+92tPgUdVQ748FOIrEoT9bgT+bTRfXc5pz8na+hL/QdrCVG7bh9KpT0eMTm"
CHALLENGE = "c100b894-1729-464d-ace1-52dbce11db42"
SIGNED = "4JEpF3ix66GA2B+ooK128Ift4XQVtc137N9yeg4Kqsn9PI0Kpzbysl9M1IeCEdjg0zl00wkVqcsnG4bmnlMb3A=="
FUTURES = STANDS["kraken-futures"]
ONE, TWO = FUTURES.ids
TOKEN = "unified-token-0123456789"
TOKEN_HOST = "api.kraken.com"


def _granted(call: Call) -> object:
    """Answer the token's request, which goes to the spot API."""
    assert (call.request.origin, call.route) == (f"https://{TOKEN_HOST}", Route.FRESH)
    return {"error": [], "result": {"token": TOKEN, "expires": 900}}


def _executions(one: str, status: str) -> object:
    item = {"order_id": one, "order_status": status.lower(), "exec_type": status.lower(), "symbol": "PF_XBTUSD"}
    item["order_status"] = {"cancelled": "canceled"}.get(status, status)
    return {"channel": "executions", "type": "update", "data": [item | {"exec_type": item["order_status"]}]}


def _drilled(frame: dict[str, Any], error: str) -> object:
    return {"method": "cancel_order", "req_id": frame["req_id"], "success": False, "error": error}


def _refused(error: str) -> dict[str, object]:
    return {"error": error, "method": "subscribe", "req_id": 1, "success": False}


UNIFIED = replace(
    FUTURES,
    secrets=lambda: {
        **FUTURES.secrets(),
        "unified_key": "unified-key-0123456789",
        "unified_secret": base64.b64encode(b"unified-secret-0123456789").decode(),
    },
    granted=_granted,
    token=TOKEN,
    login=(
        {"channel": "status", "type": "update", "data": [{"api_version": "v2", "system": "online"}]},
        {"method": "subscribe", "req_id": 1, "success": True, "result": {"channel": "executions"}},
    ),
    refused_login=_refused("EGeneral:Permission denied"),
    login_refusals=((_refused("ESession:Invalid session"), "ESession:Invalid session", False),),
    pushed=_executions,
    ends=("filled", "cancelled", "expired"),
    ws_first=True,
    verb="method",
    ws_drilled=lambda frame: _drilled(frame, "EOrder:Unknown order"),
    ws_not_drilled=lambda frame: _drilled(frame, "EService:Busy"),
)


def futures(*, unified: bool = False, **options: Any) -> Futures:
    secrets = {"api_key": "futures-key-0123", "api_secret": SECRET}
    more = {"unified_key": "unified-key-0123", "unified_secret": SECRET} if unified else {}
    return Futures(Options(**options), secrets | more, SECOND_ROUTE_S)


def calls_of(outputs: Iterable[Output]) -> list[Call]:
    return [output for output in outputs if isinstance(output, Call)]


def frames_of(outputs: Iterable[Output]) -> list[dict[str, Any]]:
    return [orjson.loads(output.text) for output in outputs if isinstance(output, Send)]


def name_of(call: Call) -> str:
    return call.request.target.removeprefix("/derivatives/api/v3/")


def arguments(call: Call) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(call.request.body.decode()).items()}


def answers(outputs: Iterable[Output]) -> list[CancelAnswered]:
    return [output for output in outputs if isinstance(output, CancelAnswered)]


def struck(body: object, status: int = 200) -> tuple[Player, CancelAnswered]:
    """Strike, with the orders `ONE` and `TWO` known and traced, and answer."""
    player = FUTURES.ready()
    [read] = calls_of(player.put(Read()))
    player.put(FUTURES.reads(read, ONE, TWO))
    player.adapter.book.trace()
    [call] = calls_of(player.put(Kill()))
    [fact] = answers(player.put(answer(call.tag, body, status)))
    return player, fact


def push(**message: object) -> Received:
    return hears(1, {"feed": "open_orders", **message})


# ── every rule for all venues, with a spot key too ────────────────────────────────────────────────────────────────

RULES = [
    rule
    for module in (test_conformance, test_secrets_do_not_leak)
    for name, rule in vars(module).items()
    if name.startswith("test_") and list(inspect.signature(rule).parameters) == ["stand"]
]


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__.removeprefix("test_") for rule in RULES])
def test_with_a_spot_key_the_account_keeps_every_rule_of_all_venues(
    rule: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(venue_profiles.STANDS, "kraken-futures", UNIFIED)
    rule(UNIFIED)


def test_with_a_spot_key_no_output_and_no_log_line_has_a_secret_or_the_token(caplog: pytest.LogCaptureFixture) -> None:
    test_secrets_do_not_leak.test_no_output_or_log_line_of_an_adapter_has_a_secret(UNIFIED, caplog)


# ── signatures ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "nonce", "name", "signature"),
    [
        (
            b"",
            b"1700000000123",
            "cancelallorders",
            "ldWGwUXH+BNyI6Vv264sNdj9s4TEZnzlkvvTBLHhChfYHlbzCUX0gsUW1m3Fowwa6/wusok3giYs07kWhfpFfw==",
        ),
        (
            b"",
            b"",
            "cancelallorders",
            "1XCsoN+YeVw9ai0DPy509Mk0yOIQBCm9/LYCP53l8yVCFJjMy9N5CCrnCo8fHZn6JDQCjEkKKAO4ccLjgNToTA==",
        ),
        (
            b"symbol=PF_XBTUSD",
            b"1700000000123",
            "cancelallorders",
            "di8zwPLl+2d5co9jK2AINGY1xnxGi4v9KoZfryQZlgZ+McPCS9OFR+FNtMF5ChhgLMSat0SM2+WbHWobT9u3cg==",
        ),
        (
            b"timeout=60",
            b"1700000000123",
            "cancelallordersafter",
            "RxYvpiTh9R005EGPbhqKsegDO3oE4S79j53tGpJB08+AtI12bQNRltE2uDwLk954ZwuoF4Z1LXGe2bH6suGaRw==",
        ),
        (
            b"",
            b"1700000000123",
            "openorders",
            "X/q7VxeoVPt4NggzzyWWuGERhMzsQgsdg1+tXb/imHtQU+Ykx27W2dc+1PqvcUkbTkfjYRJLAblYgBmt8ZcU1g==",
        ),
    ],
)
def test_the_published_signatures_are_reproduced(data: bytes, nonce: bytes, name: str, signature: str) -> None:
    assert authent(base64.b64decode(SECRET), data, f"/api/v3/{name}".encode(), nonce) == signature


def test_the_published_challenge_is_signed_and_one_challenge_serves_the_whole_connection() -> None:
    assert sign_challenge(base64.b64decode(SECRET), CHALLENGE) == SIGNED
    player = Player(futures())
    [asked] = frames_of(player.put(Opened(Route.WS, 1)))
    assert asked == {"event": "challenge", "api_key": "futures-key-0123"}
    [orders] = frames_of(player.put(hears(1, payload("kraken_futures/challenge"))))
    signed = {"api_key": "futures-key-0123", "original_challenge": CHALLENGE, "signed_challenge": SIGNED}
    assert orders == {"event": "subscribe", "feed": "open_orders", **signed}
    outputs = player.put(hears(1, {"event": "subscribed", "feed": "open_orders"}))
    assert Ready(Route.WS, 1) in outputs and frames_of(outputs) == [orders | {"feed": "account_log"}]


def test_a_request_has_no_nonce_and_its_signature_is_over_the_encoded_arguments() -> None:
    adapter = futures()
    [call] = calls_of(adapter.strike(START, 1))
    assert (call.request.method, call.request.target) == ("POST", "/derivatives/api/v3/cancelallorders")
    assert call.request.headers["Authent"].startswith("1XCsoN+YeVw9ai0DPy509Mk0yOIQBCm9")
    assert call.request.headers["APIKey"] == "futures-key-0123" and "Nonce" not in call.request.headers
    adapter.book.apply_listing("open", [Order(ONE, "PF_XBTUSD", OrderState.LIVE, "untouched")], 1, whole=True)
    _, batch = calls_of(adapter.strike(START, 2))
    body = batch.request.body
    assert b"%22" in body and b'"' not in body
    assert batch.request.headers["Authent"] == authent(base64.b64decode(SECRET), body, b"/api/v3/batchorder")
    assert batch.request.headers["Content-Type"] == "application/x-www-form-urlencoded"


# ── a success that is none ────────────────────────────────────────────────────────────────────────────────────────


def test_every_event_and_every_entry_of_the_answer_names_a_cancelled_order() -> None:
    events = [{"type": "CANCEL", "uid": one, "order": {"orderId": one}} for one in (ONE, TWO)]
    found = {"cancelOnly": "all", "status": "cancelled", "cancelledOrders": [], "orderEvents": events}
    player, fact = struck({"result": "success", "cancelStatus": found})
    assert (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, 2)
    assert set(player.adapter.book.ended) == {ONE, TWO}
    listed = [{"order_id": "6180adfa-0000-4a52-adac-ea5417620dbd"}]
    player, fact = struck({"result": "success", "cancelStatus": found | {"cancelledOrders": listed}})
    assert fact.cancelled == 3 and len(player.adapter.book.ended) == 3


def test_nothing_to_cancel_is_accepted_and_leaves_the_proof_to_the_lists() -> None:
    player, fact = struck(payload("kraken_futures/cancel-all-nothing"))
    assert (fact.answer, fact.cancelled, fact.evidence) == (CancelOutcome.ACCEPTED, 0, "noOrdersToCancel")
    assert set(player.adapter.book.orders) == {ONE, TWO} and player.adapter.book.named_none
    [read] = calls_of(player.put(Read()))
    [shown] = [output for output in player.put(FUTURES.reads(read, ONE)) if isinstance(output, OrdersRead)]
    assert [order.id for order in shown.orders] == [ONE]


def test_an_empty_answer_to_the_look_up_of_two_orders_ends_neither_until_each_is_asked_for_alone() -> None:
    player = FUTURES.ready()
    for one in (ONE, TWO):
        player.put(push(order={"instrument": "pf_xbtusd", "order_id": one, "qty": 1}, is_cancel=False, reason="new"))
    player.put(Pause(0.1))
    [read] = calls_of(player.put(Read()))
    [look_up] = calls_of(player.put(answer(read.tag, FUTURES.listed(status=""))))
    assert look_up.request.body == f"orderIds={ONE}&orderIds={TWO}".encode()
    empty = {"result": "success", "orders": []}
    alone = calls_of(player.put(answer(look_up.tag, empty)))
    assert [arguments(call) for call in alone] == [{"orderIds": ONE}, {"orderIds": TWO}]
    assert set(player.adapter.book.orders) == {ONE, TWO}
    alive = {"order": {"orderId": ONE, "symbol": "PF_XBTUSD"}, "status": "ENTERED_BOOK"}
    player.put(answer(alone[0].tag, {"result": "success", "orders": [alive]}))
    [shown] = player.put(answer(alone[1].tag, empty))
    assert isinstance(shown, OrdersRead) and [order.id for order in shown.orders] == [ONE]


def test_a_rejected_cancel_in_the_answer_is_no_success_and_its_order_stays_alive() -> None:
    events = [{"type": "CANCEL", "uid": ONE}, {"type": "REJECT", "uid": TWO, "reason": "MARKET_SUSPENDED"}]
    found = {"cancelOnly": "all", "status": "cancelled", "cancelledOrders": [], "orderEvents": events}
    player, fact = struck({"result": "success", "cancelStatus": found})
    assert (fact.answer, fact.cancelled) == (CancelOutcome.UNKNOWN, None) and "1 cancel(s) refused" in fact.evidence
    assert set(player.adapter.book.unproven) == {TWO} and set(player.adapter.book.ended) == {ONE}


def test_a_rate_limit_stops_the_reads_and_never_a_cancel() -> None:
    player, fact = struck(payload("kraken_futures/rate-limit"))
    assert (fact.answer, fact.evidence) == (CancelOutcome.UNKNOWN, "apiLimitExceeded")
    [unread] = player.put(Read())
    assert isinstance(unread, OrdersRead) and not unread.complete and not player.put(Probe())
    assert "cancelallorders" in [name_of(call) for call in calls_of(player.put(Kill()))]


# ── orders that outlive a strike ──────────────────────────────────────────────────────────────────────────────────


def outliving(*ids: str) -> Player:
    """Strike once; the orders with these ids are alive all the same."""
    player = FUTURES.ready()
    player.put(Kill())
    [read] = calls_of(player.put(Read()))
    player.put(FUTURES.reads(read, *ids))
    return player


def test_orders_that_outlive_a_strike_are_cancelled_by_id_behind_the_next_cancel_all() -> None:
    player = outliving(ONE, TWO)
    first, batch = calls_of(player.put(Kill()))
    assert (name_of(first), first.cancel) == ("cancelallorders", True)
    assert (name_of(batch), batch.cancel, batch.command, batch.urgent) == ("batchorder", False, True, True)
    cancels = [{"order": "cancel", "order_id": one} for one in (ONE, TWO)]
    assert orjson.loads(arguments(batch)["json"]) == {"batchOrder": cancels}
    assert answers(player.put(answer(first.tag, payload("kraken_futures/cancel-all-nothing"))))  # it waits for no batch
    player.adapter.book.trace()
    assert not player.put(answer(batch.tag, payload("kraken_futures/batch")))
    assert set(player.adapter.book.ended) == {ONE} and set(player.adapter.book.orders) == {ONE, TWO}


def test_an_order_that_outlives_its_batches_is_cancelled_alone_and_a_miss_proves_nothing() -> None:
    player = outliving(ONE)
    for _ in range(2):
        assert [name_of(call) for call in calls_of(player.put(Kill()))] == ["cancelallorders", "batchorder"]
    _, single = calls_of(player.put(Kill()))
    assert (name_of(single), arguments(single)) == ("cancelorder", {"order_id": ONE})
    player.put(answer(single.tag, payload("kraken_futures/cancel-not-found")))
    assert set(player.adapter.book.orders) == {ONE}
    _, single = calls_of(player.put(Kill()))
    player.put(answer(single.tag, payload("kraken_futures/cancel-filled")))
    assert not player.adapter.book.orders


def test_many_orders_that_outlive_a_strike_cost_less_than_the_pool_allows() -> None:
    ids = [f"{ONE[:-4]}{number:04d}" for number in range(500)]
    player = outliving(*ids)
    cost, timing = 0.0, Futures.TIMING
    for _ in range(int(10 / timing.strike_gap_s)):
        for call in calls_of(player.put(Kill())):
            batched = orjson.loads(arguments(call).get("json", "{}")).get("batchOrder", ())
            cost += weights_of(Futures.POOLS, Futures.COSTS, (f"POST {PATH}{name_of(call)}",))[POOL]
            assert len(batched) <= BATCH.batch_orders
    read_cost = weights_of(Futures.POOLS, Futures.COSTS, Futures.DEMAND.read)[POOL]
    assert cost + read_cost * 10 / timing.read_gap_s <= 500


# ── WebSocket v1 ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "reason",
    ["full_fill", "cancelled_by_user", "post_order_failed_because_it_would_filled", "a reason of next year"],
)
def test_is_cancel_says_that_an_order_has_left_the_book_whatever_the_reason(reason: str) -> None:
    player = FUTURES.ready()
    outputs = player.put(push(order={"order_id": ONE, "instrument": "pf_xbtusd"}, is_cancel=False, reason="new"))
    [placed] = [output for output in outputs if isinstance(output, OrderPlaced)]
    assert (placed.order.id, placed.order.symbol) == (ONE, "PF_XBTUSD")
    player.adapter.book.trace()
    player.put(push(order_id=ONE, is_cancel=True, reason=reason))
    assert not player.adapter.book.orders
    ended = player.adapter.book.ended.get(ONE)
    expected = {"full_fill": True, "cancelled_by_user": False}.get(reason)
    assert (ended is None) if expected is None else (ended is not None and (ended > 0) == expected)


@pytest.mark.parametrize("is_cancel", [False, None, "true", 1])
def test_only_a_true_is_cancel_is_an_end(is_cancel: object) -> None:
    player = FUTURES.ready()
    player.put(push(order={"order_id": ONE, "instrument": "PF_XBTUSD", "qty": 0.0}, is_cancel=is_cancel, reason="x"))
    assert set(player.adapter.book.orders) == {ONE}


def test_a_push_without_an_id_is_unexplained_and_a_snapshot_places_no_orders() -> None:
    player = FUTURES.ready()
    [fact] = player.put(push(order={"instrument": "PF_XBTUSD"}, is_cancel=True))
    assert isinstance(fact, UnexplainedMessage)
    assert not player.put(hears(1, payload("kraken_futures/open-orders-snapshot"))) and not player.adapter.book.orders


def test_no_command_goes_over_the_websocket_v1_and_only_http_is_drilled() -> None:
    player = FUTURES.ready()
    assert not frames_of(player.put(Kill())) and player.adapter.drill_routes == (Route.HTTP,)
    [call] = calls_of(player.put(Drill()))
    assert (name_of(call), arguments(call)) == ("cancelorder", {"order_id": NO_ORDER})


def test_a_log_that_the_websocket_refuses_does_not_cost_the_connection() -> None:
    player = FUTURES.ready()
    [fact] = player.put(hears(1, {"event": "error", "message": "Permission denied"}))
    assert isinstance(fact, UnexplainedMessage) and "Permission denied" in fact.why
    assert not player.put(push(order_id=ONE, is_cancel=True, reason="full_fill"))
    assert not player.adapter.warnings  # it is read over REST


# ── the Unified WebSocket ─────────────────────────────────────────────────────────────────────────────────────────


def test_with_a_spot_key_the_frame_leaves_first_and_cancelallorders_at_once_behind_it() -> None:
    player = UNIFIED.ready()
    assert [line.partition(" ")[0] for line in player.adapter.describe_strike()] == ["ws", "POST"]
    frame, call = [output for output in player.put(Kill()) if isinstance(output, Send | Call)]
    assert isinstance(frame, Send) and isinstance(call, Call) and frame.command
    sent = orjson.loads(frame.text)
    assert sent == payload("kraken_futures/unified-cancel-all-request") | {
        "req_id": sent["req_id"],
        "params": {"asset_class": "derivatives", "token": TOKEN},
    }
    assert (name_of(call), call.cancel, call.route) == ("cancelallorders", True, Route.HTTP)
    accepted = {"method": "cancel_all", "req_id": sent["req_id"], "success": True, "result": {"count": 2}}
    player.adapter.book.trace()
    assert not answers(player.put(hears(1, accepted)))  # it is not documented that it covers triggers
    [fact] = answers(player.put(answer(call.tag, payload("kraken_futures/cancel-all"))))
    assert (fact.answer, fact.cancelled, fact.evidence) == (CancelOutcome.ACCEPTED, 3, "3 order(s) cancelled")
    assert set(player.adapter.book.ended) == {"6180adfa-0000-4a52-adac-ea5417620dbd"}


@pytest.mark.parametrize("frame_first", [True, False])
def test_the_report_of_a_frame_that_has_cancelled_all_names_its_count_although_cancelallorders_finds_none(
    frame_first: bool,
) -> None:
    player = UNIFIED.ready()
    outputs = player.put(Kill())
    [frame], [call] = frames_of(outputs), calls_of(outputs)
    both = [
        hears(1, {"method": "cancel_all", "req_id": frame["req_id"], "success": True, "result": {"count": 2}}),
        answer(call.tag, payload("kraken_futures/cancel-all-nothing")),
    ]
    first, second = both if frame_first else reversed(both)
    assert not answers(player.put(first))
    [fact] = answers(player.put(second))
    assert (fact.answer, fact.cancelled, fact.evidence) == (CancelOutcome.ACCEPTED, 2, "2 order(s) cancelled")


@pytest.mark.parametrize("error", ["authenticationError", "apiLimitExceeded", "invalidArgument"])
def test_an_accepted_frame_hides_no_refused_cancelallorders(error: str) -> None:
    player = UNIFIED.ready()
    outputs = player.put(Kill())
    [frame], [call] = frames_of(outputs), calls_of(outputs)
    accepted = {"method": "cancel_all", "req_id": frame["req_id"], "success": True, "result": {"count": 2}}
    assert not answers(player.put(hears(1, accepted)))
    [fact] = answers(player.put(answer(call.tag, {"result": "error", "error": error})))
    assert fact.answer is not CancelOutcome.ACCEPTED and fact.cancelled == 2 and error in fact.evidence


@pytest.mark.parametrize(
    "error", ["EGeneral:Invalid arguments:asset_class", "EService:Unavailable", "EOrder:Unknown order"]
)
def test_a_frame_that_is_refused_leaves_the_strike_to_cancelallorders(error: str) -> None:
    player = UNIFIED.ready()
    outputs = player.put(Kill())
    [frame], [call] = frames_of(outputs), calls_of(outputs)
    refused = {"method": "cancel_all", "req_id": frame["req_id"], "success": False, "error": error}
    assert not answers(player.put(hears(1, refused)))
    [fact] = answers(player.put(answer(call.tag, payload("kraken_futures/cancel-all"))))
    assert (fact.answer, fact.evidence) == (CancelOutcome.ACCEPTED, "1 order(s) cancelled")


def test_every_private_frame_names_the_asset_class_and_carries_the_token() -> None:
    player = UNIFIED.ready()
    player.put(Pause(600))
    player.put(hears(1, {"channel": "executions", "type": "update", "data": [], "sequence": 7}))
    player.put(hears(1, {"channel": "executions", "type": "update", "data": [], "sequence": 9}))
    player.put(Drill())
    player.put(Kill())
    frames = [frame for frame in frames_of(player.outputs) if frame["method"] != "ping"]
    assert {frame["method"] for frame in frames} == {"subscribe", "unsubscribe", "cancel_order", "cancel_all"}
    for frame in frames:
        assert frame["params"].items() >= {"asset_class": "derivatives", "token": TOKEN}.items(), frame


def test_the_token_comes_from_the_spot_api_with_the_spot_key_and_a_rate_limit_there_pauses_no_read_here() -> None:
    player = Player(futures(unified=True, token_url="https://spot.test:8443"))
    assert player.adapter.ws_url == "wss://uws.kraken.com/v2/private"
    [call] = calls_of(player.put(Opened(Route.WS, 1)))
    request = call.request
    assert (call.route, request.origin) == (Route.FRESH, "https://spot.test:8443")
    assert (request.target, request.headers["Host"]) == ("/0/private/GetWebSocketsToken", "spot.test:8443")
    assert request.headers["API-Key"] == "unified-key-0123" and request.body.startswith(b"nonce=")
    assert SPOT_RATE_PAUSE_S > 0
    outputs = player.put(answer(call.tag, {"error": ["EAPI:Rate limit exceeded"]}))
    assert [output.fatal for output in outputs if isinstance(output, NotReady)] == [False]
    assert calls_of(player.put(Read())) and calls_of(player.put(Probe()))


@pytest.mark.parametrize("error", ["EAPI:Rate limit exceeded", "EGeneral:Temporary lockout"])
def test_a_rate_limit_of_the_unified_websocket_delays_no_read_of_rest(error: str) -> None:
    player = UNIFIED.ready()
    outputs = player.put(Kill())
    [frame], [call] = frames_of(outputs), calls_of(outputs)
    player.put(hears(1, {"method": "cancel_all", "req_id": frame["req_id"], "success": False, "error": error}))
    player.put(answer(call.tag, payload("kraken_futures/cancel-all-nothing")))
    player.put(Pause(1))
    assert calls_of(player.put(Read()))


def test_a_nonce_that_the_spot_api_refuses_is_signed_anew_and_a_wrong_spot_key_is_fatal() -> None:
    player = Player(futures(unified=True))
    [call] = calls_of(player.put(Opened(Route.WS, 1)))
    [again] = calls_of(player.put(answer(call.tag, {"error": ["EAPI:Invalid nonce"]})))
    nonces = [int(arguments(each)["nonce"]) for each in (call, again)]
    assert nonces[0] < nonces[1] and again.request.origin == call.request.origin
    outputs = player.put(answer(again.tag, {"error": ["EAPI:Invalid key"]}))
    [unready] = [output for output in outputs if isinstance(output, NotReady)]
    assert (unready.route, unready.fatal) == (Route.WS, True) and "EAPI:Invalid key" in unready.why


def test_a_strike_while_the_spot_api_is_down_goes_over_rest() -> None:
    player = Player(futures(unified=True))
    [call] = calls_of(player.put(Opened(Route.WS, 1)))
    player.put(CallLost(call.tag, False, "down"))
    assert [name_of(each) for each in calls_of(player.put(Kill()))] == ["cancelallorders"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"token_url": "http://api.kraken.com"},
        {"token_url": "https://api.kraken.com/0/private/OpenOrders"},
        {"token_url": "https://user@api.kraken.com"},
        {"unified_ws_url": "ws://uws.kraken.com/v2/private"},
    ],
)
def test_addresses_of_the_spot_key_that_no_request_could_use_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)


@pytest.mark.parametrize("url", ["https://h.test", "https://h.test/", "https://h.test/0/private/GetWebSocketsToken"])
def test_the_path_of_the_token_may_be_left_out(url: str) -> None:
    assert Options(token_url=url).token_url == "https://h.test/0/private/GetWebSocketsToken"


# ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_triggers_and_orders_without_a_clients_id_are_in_the_list_whatever_the_case_of_their_symbol() -> None:
    player = FUTURES.ready()
    [read] = calls_of(player.put(Read()))
    assert (read.request.method, name_of(read), read.request.body) == ("GET", "openorders", b"")
    body = payload("kraken_futures/open-orders")
    body["openOrders"][1]["symbol"] = "pf_xbtusd"
    [fact] = [output for output in player.put(answer(read.tag, body)) if isinstance(output, OrdersRead)]
    assert fact.complete and [(order.symbol, order.state) for order in fact.orders] == [
        ("PF_XBTUSD", OrderState.LIVE),
        ("PF_XBTUSD", OrderState.LIVE),
    ]


# ── the end of REST v3 ────────────────────────────────────────────────────────────────────────────────────────────


def test_before_its_rest_api_ends_the_venue_is_named_as_one_that_soon_cannot_be_killed() -> None:
    adapter = futures()
    assert adapter.slow_kill_warning(Instant(0, WARNED_FROM_NS - 1)) == ""
    assert "ends REST v3" in adapter.slow_kill_warning(Instant(0, WARNED_FROM_NS))
    assert "has ended REST v3" in adapter.slow_kill_warning(Instant(0, ENDS_NS))
    player = UNIFIED.ready()
    player.put(hears(1, {"channel": "status", "type": "update", "data": [{"system": "maintenance"}]}))
    assert "nothing can be cancelled" in player.adapter.slow_kill_warning(player.now)


# ── figures and transfers ─────────────────────────────────────────────────────────────────────────────────────────

ACCOUNTS: dict[str, Any] = {
    "cash": {"type": "cashAccount", "balances": {"xbt": 3.0}},
    "flex": {
        "type": "multiCollateralMarginAccount",
        "currencies": {"XBT": {"quantity": 0.5, "value": 20000.0}, "USD": {"quantity": 100.0, "value": 100.0}},
        "portfolioValue": 20100.5,
        "marginEquity": 19000.0,
    },
    "fi_xbtusd": {"type": "marginAccount", "currency": "xbt", "auxiliary": {"usd": 0, "pv": 0.25, "pnl": 0.0}},
    "fi_ethusd": {"type": "marginAccount", "currency": "eth", "auxiliary": {"usd": 0, "pv": 0.0, "pnl": 0.0}},
}


def measured(player: Player, accounts: object = None) -> tuple[Output, ...]:
    """Answer a request for figures, and that for a log which has nothing new."""
    [call] = calls_of(player.put(Measure()))
    shown = ACCOUNTS if accounts is None else accounts
    outputs = player.put(answer(call.tag, {"result": "success", "accounts": shown}))
    return player.put(answer(calls_of(outputs)[0].tag, {"logs": []})) if calls_of(outputs) else outputs


def test_the_equity_is_the_portfolio_value_and_each_inverse_account_counts_in_its_own_coin() -> None:
    player = FUTURES.ready()
    [fact] = measured(player)
    assert fact == Equity({"USD": Decimal("20100.5"), "XBT": Decimal("0.25")}, player.now.mono_ns)


@pytest.mark.parametrize(
    "change",
    [{"flex": {}}, {"flex": None}, {"fi_xbtusd": {"type": "marginAccount", "currency": "xbt"}}],
)
def test_figures_that_are_incomplete_are_no_equity(change: dict[str, Any]) -> None:
    [fact] = measured(FUTURES.ready(), ACCOUNTS | change)
    assert isinstance(fact, UnexplainedMessage) and "cannot be measured" in fact.why


def test_an_inverse_account_that_is_not_listed_any_more_is_no_loss() -> None:
    player = FUTURES.ready()
    measured(player)
    [fact] = measured(player, {name: found for name, found in ACCOUNTS.items() if name != "fi_xbtusd"})
    assert isinstance(fact, UnexplainedMessage) and "fi_xbtusd" in fact.why


def entry(number: int, amount: float, *, kind: str = "transfer", account: str = "flex", asset: str = "usd") -> object:
    balances = {"old_balance": 100.0, "new_balance": 100.0 + amount}
    return {"id": number, "info": kind, "margin_account": account, "asset": asset, **balances}


def logged(*args: Any, conn: int = 1, **more: Any) -> Received:
    return hears(conn, {"feed": "account_log", "new_entry": entry(*args, **more)})


def test_a_transfer_is_reported_once_and_trades_and_the_cash_accounts_are_none() -> None:
    player = FUTURES.ready()
    player(
        logged(7, -40.5, kind="cross-exchange transfer"),
        Transferred("USD", Decimal("-40.5")),
        logged(7, -40.5, kind="cross-exchange transfer"),
        logged(8, 5.0, kind="futures trade"),
        logged(9, 5.0, account="XBT", asset="xbt"),
        logged(10, 0.5, account="f-xbt:usd", asset="xbt"),
        Transferred("XBT", Decimal("0.5")),
    )
    [fact] = player.put(hears(1, {"feed": "account_log", "new_entry": {"id": 11, "info": "transfer"}}))
    assert isinstance(fact, UnexplainedMessage)


def test_a_transfer_of_another_asset_is_valued_by_the_next_figures_before_the_equity() -> None:
    player = FUTURES.ready()
    [early] = calls_of(player.put(Measure()))
    player.put(Pause(1))
    assert not player.put(logged(1, -0.25, asset="xbt"))
    [fact] = player.put(answer(early.tag, {"result": "success", "accounts": ACCOUNTS}))
    assert isinstance(fact, UnexplainedMessage) and "after the request" in fact.why
    player.put(Pause(1))
    transfer, equity = measured(player)
    assert transfer == Transferred("USD", Decimal(-10000)) and isinstance(equity, Equity)
    [equity] = measured(player)
    assert isinstance(equity, Equity)


def test_an_asset_that_has_left_is_valued_by_its_last_price_and_one_that_never_had_a_price_blinds() -> None:
    player = FUTURES.ready()
    measured(player)
    player.put(logged(1, -0.5, asset="xbt"))
    empty = ACCOUNTS | {"flex": {"portfolioValue": 100.5, "currencies": {"XBT": {"quantity": 0.0, "value": 0.0}}}}
    player.put(Pause(1))
    assert measured(player, empty)[0] == Transferred("USD", Decimal(-20000))
    player.put(logged(2, 5.0, asset="sol"))
    player.put(Pause(1))
    [fact] = measured(player, empty)
    assert isinstance(fact, UnexplainedMessage) and "SOL has no value" in fact.why


def test_a_transfer_between_two_connections_is_in_the_later_snapshot() -> None:
    player = FUTURES.ready()
    snapshot = {"feed": "account_log_snapshot", "logs": [entry(5, 1.0), entry(4, 1.0)]}
    assert not player.put(hears(1, snapshot))
    player.put(Closed(Route.WS, 1, "gone"))
    FUTURES.log_in(player, 2)
    later = {"feed": "account_log_snapshot", "logs": [entry(6, -9.0), entry(5, 1.0)]}
    assert player.put(hears(2, later)) == (Transferred("USD", Decimal("-9.0")),)


def test_a_session_whose_token_has_ended_strikes_over_rest_and_gets_another_token() -> None:
    player = UNIFIED.ready()
    player.put(Pause(60))
    outputs = player.put(Kill())
    [frame], [call] = frames_of(outputs), calls_of(outputs)
    refused = {"method": "cancel_all", "req_id": frame["req_id"], "success": False, "error": "ESession:Invalid session"}
    outputs = player.put(hears(1, refused))
    [token] = calls_of(outputs)
    assert token.request.origin and any(isinstance(output, CloseConnection) for output in outputs)
    [fact] = answers(player.put(answer(call.tag, payload("kraken_futures/cancel-all"))))
    assert fact.answer is CancelOutcome.ACCEPTED
    assert calls_of(player.put(VenueTimerFired(token.tag)))[0].route is Route.FRESH


def test_a_drill_on_both_lanes_names_an_order_that_cannot_exist() -> None:
    player = UNIFIED.ready()
    outputs = player.put(Drill())
    [call], [frame] = calls_of(outputs), frames_of(outputs)
    assert arguments(call) == {"order_id": NO_ORDER} and frame["params"]["order_id"] == [NO_ORDER]
    facts = player.put(answer(call.tag, payload("kraken_futures/cancel-not-found")))
    drilled = [(fact.route, fact.ok, fact.evidence) for fact in facts if isinstance(fact, Drilled)]
    assert drilled == [(Route.HTTP, True, "notFound")]


# ── ids in another case ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("upper", ["push", "list", "look-up", "cancel"])
def test_an_id_in_upper_case_names_the_same_order(upper: str) -> None:
    one = STANDS["kraken-futures"].ids[0].lower()
    ids = dict.fromkeys(("push", "list", "look-up", "cancel"), one) | {upper: one.upper()}
    player = STANDS["kraken-futures"].ready()
    order = {"instrument": "pf_xbtusd", "order_id": ids["push"], "qty": 1, "filled": 0}
    player.put(hears(1, {"feed": "open_orders", "order": order, "is_cancel": False, "reason": "new"}))
    [read, *_] = player.put(Read())
    assert isinstance(read, Call)
    listed = {"result": "success", "openOrders": [{"order_id": ids["list"], "symbol": "PF_XBTUSD", "status": "new"}]}
    [shown] = [fact for fact in player.put(answer(read.tag, listed)) if isinstance(fact, OrdersRead)]
    assert [each.id for each in shown.orders] == [one] and not player.found
    [command, *_] = player.put(Kill())
    assert isinstance(command, Call)
    names = {"cancelledOrders": [{"order_id": ids["cancel"]}], "orderEvents": [{"type": "CANCEL", "uid": one}]}
    status = {"status": "cancelled", "cancelOnly": "all", **names}
    answered = player.put(answer(command.tag, {"result": "success", "cancelStatus": status}))[0]
    assert isinstance(answered, CancelAnswered) and answered.cancelled == 1
    player.put(hears(1, {"feed": "open_orders", "order": order, "is_cancel": False, "reason": "edited"}))
    player.put(Pause(0.1))
    [read, *_] = player.put(Read())
    assert isinstance(read, Call)
    [look_up, *_] = player.put(answer(read.tag, {"result": "success", "openOrders": []}))
    assert isinstance(look_up, Call)
    entry = {"order": {"orderId": ids["look-up"], "symbol": "PF_XBTUSD"}, "status": "CANCELLED"}
    [proof] = player.put(answer(look_up.tag, {"result": "success", "orders": [entry]}))
    assert isinstance(proof, OrdersRead) and proof.complete and not player.adapter.book.orders


def test_a_batch_answer_without_ids_that_lacks_an_order_ends_none() -> None:
    one, two = FUTURES.ids[:2]
    player = outliving(one, two)
    batch = next(call for call in calls_of(player.put(Kill())) if name_of(call) == "batchorder")
    player.put(answer(batch.tag, {"result": "success", "batchStatus": [{"status": "filled"}]}))
    assert set(player.adapter.book.orders) == {one, two}
