"""What no other venue has: Deribit's signatures, scopes, reports, channels, triggers and logs (deribit.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest

from kill_switch.core.domain import CancelOutcome, Instant, OrderState, Route
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.deribit.adapter import NO_ORDER
from kill_switch.venues.deribit.equity import MAX_PAGES
from kill_switch.venues.deribit.json_rpc import (
    CANNOT_CANCEL,
    FIRST,
    NO_ACCOUNT_READ,
    PING_EVERY_S,
    REFRESHED_WITHIN_S,
    Id,
)
from kill_switch.venues.deribit.signing import DeribitRequests, sign
from kill_switch.venues.messages import (
    Call,
    CancelAnswered,
    CloseConnection,
    Equity,
    NotReady,
    OrderPlaced,
    OrdersRead,
    Output,
    Outputs,
    Ready,
    Received,
    Send,
    Transferred,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness.profiles import deribit
from tests.harness.venue_playbook import START, Drill, Kill, Measure, Pause, Player, Probe, Read, answer, hears, payload
from tests.harness.venue_profiles import STANDS

DERIBIT = STANDS["deribit"]
ONE, TWO = DERIBIT.ids
QUEUE_FULL = {"code": 10047, "message": "matching_engine_queue_full"}
NOTHING = {"jsonrpc": "2.0", "id": 1, "result": []}


def calls_of(outputs: Iterable[Output]) -> list[Call]:
    return [output for output in outputs if isinstance(output, Call)]


def sends_of(outputs: Iterable[Output]) -> list[tuple[int, dict[str, Any]]]:
    return [(output.conn, orjson.loads(output.text)) for output in outputs if isinstance(output, Send)]


def targets_of(outputs: Iterable[Output]) -> list[str]:
    return [call.request.target.removeprefix("/api/v2/private/") for call in calls_of(outputs)]


def rpc(number: int, **says: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, **says}


def push(channel: str, data: object, conn: int = 1) -> Received:
    params = {"channel": channel, "data": data}
    return hears(conn, {"jsonrpc": "2.0", "method": "subscription", "params": params})


def order(order_id: str, state: str = "open", **more: object) -> dict[str, object]:
    return {"order_id": order_id, "order_state": state, "instrument_name": "ETH-PERPETUAL", **more}


def pushed(order_id: str, state: str = "open", **more: object) -> Received:
    return push(deribit.CHANNELS[0], order(order_id, state, **more))


def log_in(
    player: Player, conn: int = 1, *, login: object = None, channels: Iterable[str] = deribit.CHANNELS
) -> Outputs:
    """Let a connection log in; return what comes of the last answer."""
    DERIBIT.open(player, conn)
    outputs: Outputs = ()
    for message in (login or deribit.login(), rpc(2, result="ok"), rpc(3, result=list(channels))):
        outputs = player.put(hears(conn, message))
    return outputs


def read(player: Player, *bodies: object) -> OrdersRead:
    """Read back; the lists have these bodies, those after them are empty."""
    outputs = player.put(Read())
    work, told = calls_of(outputs), list(bodies)
    facts: list[Output] = []
    while work:
        outputs = player.put(answer(work.pop(0).tag, told.pop(0) if told else NOTHING))
        work += calls_of(outputs)
        facts += [output for output in outputs if isinstance(output, OrdersRead)]
    [fact] = facts
    assert isinstance(fact, OrdersRead)
    return fact


# ── signatures and scopes ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("secret", "stamp", "nonce", "text", "signature"),
    [
        (
            "AMANDASECRECT",
            1576074319000,
            "1iqt2wls",
            "",
            "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1",
        ),
        (
            "secretsecret",
            1700000000123,
            "1iqt2wls",
            "",
            "c0de6e8b7edabe84855b2ab74dd47659de5b4149b5662fd03a6cf9db2941b680",
        ),
        (
            "secretsecret",
            1700000000123,
            "1iqt2wls",
            "GET\n/api/v2/private/cancel_all?detailed=true\n\n",
            "4894799d61f810382c4ea42188f4d6b31118a83496c8d6d6f2935d7c0cab931c",
        ),
        (
            "secretsecret",
            1700000000123,
            "1iqt2wls",
            "GET\n/api/v2/private/get_open_orders\n\n",
            "b716c0cdd75f174c3bf629039f2dbca22108dde35e60581701b0c621194144af",
        ),
        (
            "secretsecret",
            1700000000123,
            "1iqt2wls",
            'POST\n/api/v2\n{"jsonrpc":"2.0","id":1,"method":"private/cancel_all","params":{"detailed":true}}\n',
            "14065ee9fcf0ffe1d2bf2340a00a12cea014f1da5dcf9cc69e05b1b71fdc4a63",
        ),
    ],
)
def test_signatures_are_those_of_the_documents(secret: str, stamp: int, nonce: str, text: str, signature: str) -> None:
    assert sign(secret.encode(), stamp, nonce, text) == signature


def test_a_request_and_a_login_are_signed_as_their_parts_are_sent() -> None:
    requests = DeribitRequests("venue.test", "the-id", b"the-secret", ClockOffset())
    request = requests.get("private/cancel", order_id="ETH-1")(START)
    words = dict(part.split("=", 1) for part in request.headers["Authorization"].split(" ", 1)[1].split(","))
    text = "GET\n/api/v2/private/cancel?order_id=ETH-1\n\n"
    assert words["sig"] == sign(b"the-secret", int(words["ts"]), words["nonce"], text)
    login = requests.login(START)
    assert login["signature"] == sign(b"the-secret", START.wall_ms, str(login["nonce"]), "")
    assert login["nonce"] != words["nonce"]  # each is used once, at one moment too


def test_a_login_whose_scope_was_narrowed_is_refused_and_the_http_lane_is_not_ready_either() -> None:
    player = DERIBIT.player()
    DERIBIT.open(player, 1)
    unready, closes, *_ = player.put(hears(1, deribit.login("connection account:read trade:read")))
    assert unready == NotReady(Route.WS, 1, CANNOT_CANCEL, fatal=True) and isinstance(closes, CloseConnection)
    [probe] = calls_of(player.put(Probe()))
    [fact] = player.put(answer(probe.tag, NOTHING))
    assert isinstance(fact, NotReady) and (fact.route, fact.why) == (Route.HTTP, CANNOT_CANCEL)
    assert Ready(Route.WS, 2) in log_in(player, 2)  # an operator has added it
    [probe] = calls_of(player.put(Probe()))
    assert Ready(Route.HTTP, 0) in player.put(answer(probe.tag, NOTHING))


@pytest.mark.parametrize(
    ("scope", "enabled", "words"),
    [
        ("connection account:read trade:read_write wallet:read_write", True, "may withdraw"),
        ("connection account:read trade:read_write", False, "cancel-on-disconnect is off"),
        ("connection account:read_write trade:read_write wallet:read", True, ""),
    ],
)
def test_a_key_that_may_withdraw_and_orders_that_stay_behind_are_warned_of(
    scope: str, enabled: bool, words: str
) -> None:
    player = DERIBIT.player()
    [(conn, asked)] = sends_of(log_in(player, login=deribit.login(scope)))
    assert (conn, asked["method"]) == (1, "private/get_cancel_on_disconnect")
    assert asked["params"]["scope"] == "account" and asked["params"]["access_token"]
    assert player.put(hears(1, rpc(asked["id"], result={"scope": "account", "enabled": enabled}))) == ()
    warning = player.adapter.slow_kill_warning(player.now)
    assert words in warning and bool(words) == bool(warning)


def test_a_key_without_account_read_is_named_and_asked_for_nothing_that_its_scope_refuses() -> None:
    player = DERIBIT.player()
    [(_, ping)] = sends_of(log_in(player, login=deribit.login("connection trade:read_write")))
    assert ping["method"] == "private/get_open_orders_by_label" and ping["params"]["access_token"]
    assert player.put(hears(1, rpc(ping["id"], result=[]))) == ()
    assert NO_ACCOUNT_READ in player.adapter.slow_kill_warning(player.now)
    assert player.put(Measure()) == ()
    log_in(player, 2)  # an operator has added it
    assert NO_ACCOUNT_READ not in player.adapter.slow_kill_warning(player.now)
    assert targets_of(player.put(Measure())) == ["get_account_summaries"]


@pytest.mark.parametrize("code", [11042, 13021, 13403])
def test_a_scope_that_a_key_has_lost_is_asked_for_once(code: int) -> None:
    player = DERIBIT.player()
    [(_, ping)] = sends_of(log_in(player))
    assert ping["method"] == "private/get_cancel_on_disconnect"
    player.put(hears(1, rpc(ping["id"], error={"code": code, "message": "refused"})))
    timer = next(one for one in player.outputs if isinstance(one, WakeAfter) and one.seconds == PING_EVERY_S)
    [(_, again)] = sends_of(player.put(VenueTimerFired(timer.tag)))
    assert again["method"] == "private/get_open_orders_by_label"
    assert NO_ACCOUNT_READ in player.adapter.slow_kill_warning(player.now) and player.put(Measure()) == ()


def test_figures_that_the_key_may_not_read_are_asked_for_again_after_ten_minutes() -> None:
    player = DERIBIT.player()  # no login has told the scope
    refusal = rpc(1, error={"code": 13403, "message": "scope_exceeded"})
    [fact] = measure(player, refusal)
    assert isinstance(fact, UnexplainedMessage)
    player.put(Pause(590))
    assert player.put(Measure()) == ()
    player.put(Pause(11))
    assert isinstance(measure(player, summaries(player.now.wall_ms, BTC="1"))[0], Equity)


@pytest.mark.parametrize("code", [{}, [13021], "13021", None])
def test_an_error_code_that_is_no_number_refuses_figures_and_quotes_without_an_exception(code: object) -> None:
    refusal = rpc(1, error={"code": code, "message": "forbidden"})
    player = DERIBIT.player()
    [fact] = measure(player, refusal)
    assert isinstance(fact, UnexplainedMessage)
    assert not read(DERIBIT.player(), NOTHING, NOTHING, refusal).complete


def test_a_refused_time_is_corrected_by_the_time_in_the_refusal() -> None:
    ahead_ms = 90_000
    refusal = {"error": {"code": 13004, "message": "invalid_credentials"}, "usOut": (START.wall_ms + ahead_ms) * 1000}
    player = DERIBIT.player()
    [probe] = calls_of(player.put(Probe()))
    [again] = calls_of(player.put(answer(probe.tag, refusal, 401)))
    assert DERIBIT.signed_ms is not None
    assert abs(DERIBIT.signed_ms(again.request) - START.wall_ms - ahead_ms) <= 2
    player = DERIBIT.player()
    DERIBIT.open(player, 1)
    unready, *_ = player.put(hears(1, rpc(1, **refusal)))
    assert isinstance(unready, NotReady) and not unready.fatal
    frames = sends_of(DERIBIT.open(player, 2))
    assert abs(frames[0][1]["params"]["timestamp"] - START.wall_ms - ahead_ms) <= 2


def test_every_request_that_was_signed_with_the_wrong_time_is_signed_again_and_no_key_is_blamed() -> None:
    ahead_ms = 90_000
    refusal = {"error": {"code": 13004, "message": "invalid_credentials"}, "usOut": (START.wall_ms + ahead_ms) * 1000}
    player = DERIBIT.player()
    DERIBIT.open(player, 1)
    lists = calls_of(player.put(Read()))
    for call in lists:  # the first answer corrects the time, in which the others were signed already
        [again] = calls_of(player.put(answer(call.tag, refusal, 401)))
        assert again.request.target == call.request.target
    unready, *_ = player.put(hears(1, rpc(1, **refusal)))
    assert isinstance(unready, NotReady) and not unready.fatal
    player.put(Pause(1))
    DERIBIT.open(player, 2)
    unready, *_ = player.put(hears(2, rpc(1, **refusal)))  # signed with the venue's time: it is the key
    assert isinstance(unready, NotReady) and unready.fatal


# ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refusal_for_too_many_requests_ends_the_session_and_the_other_one_carries_the_next_command() -> None:
    player = DERIBIT.ready()
    log_in(player, 2)
    [(conn, frame)] = sends_of(player.put(Kill()))
    assert (conn, frame["method"]) == (2, "private/cancel_all")
    assert frame["params"]["detailed"] is frame["params"]["freeze_quotes"] is True
    outputs = player.put(hears(2, rpc(frame["id"], error={"code": 10028, "message": "too_many_requests"})))
    assert targets_of(outputs) == ["cancel_all?detailed=true&freeze_quotes=true"]  # its twin needs no session
    assert any(isinstance(output, CloseConnection) and output.conn == 2 for output in outputs)
    [(conn, frame)] = sends_of(player.put(Kill()))
    assert (conn, frame["method"]) == (1, "private/cancel_all")
    outputs = player.put(hears(1, rpc(frame["id"], result=[])))
    assert any(isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.ACCEPTED for fact in outputs)


def test_each_frame_has_the_token_of_its_own_connection_and_a_refreshed_one_at_once() -> None:
    player = DERIBIT.ready()
    log_in(player, 2, login=deribit.login(access_token="access-of-the-second", expires_in=1000))
    timer = next(one for one in player.outputs if isinstance(one, WakeAfter) and one.seconds == 800.0)
    [(_, frame)] = sends_of(player.put(Kill()))
    assert frame["params"]["access_token"] == "access-of-the-second"
    [(conn, refresh)] = sends_of(player.put(VenueTimerFired(timer.tag)))
    assert (conn, refresh["id"]) == (2, Id.REFRESH)
    assert refresh["params"] == {"grant_type": "refresh_token", "refresh_token": "deribit-refresh-0123456789"}
    player.put(hears(2, deribit.login(access_token="access-after-it") | {"id": Id.REFRESH}))
    [(_, frame)] = sends_of(player.put(Kill()))
    assert frame["params"]["access_token"] == "access-after-it"
    assert "access-after-it" not in player.adapter.evidence("access-after-it")


def test_a_refresh_without_an_answer_and_a_ping_without_a_login_end_the_session() -> None:
    player = DERIBIT.player()
    log_in(player)
    timer = next(one for one in player.outputs if isinstance(one, WakeAfter) and one.seconds == 720.0)
    due = next(one for one in player.put(VenueTimerFired(timer.tag)) if isinstance(one, WakeAfter))
    assert due.seconds == REFRESHED_WITHIN_S
    unready, closes = player.put(VenueTimerFired(due.tag))
    assert isinstance(unready, NotReady) and isinstance(closes, CloseConnection)
    player = DERIBIT.player()
    log_in(player)
    timer = next(one for one in player.outputs if isinstance(one, WakeAfter) and one.seconds == PING_EVERY_S)
    [(_, ping)] = sends_of(player.put(VenueTimerFired(timer.tag)))
    unready, closes = player.put(hears(1, rpc(ping["id"], error={"code": 13009, "message": "unauthorized"})))
    assert isinstance(unready, NotReady) and "13009" in unready.why and isinstance(closes, CloseConnection)


def test_a_test_request_is_answered_on_its_connection_and_a_heartbeat_is_not() -> None:
    player = DERIBIT.ready()
    log_in(player, 2)
    said = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
    [(conn, frame)] = sends_of(player.put(hears(1, said)))
    assert (conn, frame["method"]) == (1, "public/test")
    assert player.put(hears(1, rpc(frame["id"], result={"version": "2.1.1"}))) == ()
    assert player.put(hears(1, said | {"params": {"type": "heartbeat"}})) == ()


def test_a_channel_that_is_dropped_from_the_answer_is_named_and_its_pushes_are_not_relied_on() -> None:
    player = DERIBIT.player()
    outputs = log_in(player, channels=("user.lock",))
    [unexplained] = [output for output in outputs if isinstance(output, UnexplainedMessage)]
    assert "user.orders.any.any.raw, platform_state" in unexplained.why
    assert Ready(Route.WS, 1) in outputs and not player.adapter.book._pushing
    player = DERIBIT.player()
    log_in(player)
    assert player.adapter.book._pushing == {1}


@pytest.mark.parametrize(
    ("channel", "data", "words"),
    [
        ("platform_state", {"maintenance": True}, "in maintenance"),
        ("platform_state", {"price_index": "sol_usdc", "locked": True}, "trading of sol_usdc"),
        ("user.lock", {"currency": "ALL", "locked": True}, "the account"),
    ],
)
def test_maintenance_and_locks_are_warned_of_until_they_end(
    channel: str, data: Mapping[str, object], words: str
) -> None:
    player = DERIBIT.ready()
    assert player.put(push(channel, data)) == ()
    assert words in player.adapter.slow_kill_warning(player.now)
    over = {key: False if value is True else value for key, value in data.items()}
    assert player.put(push(channel, over)) == ()
    assert player.adapter.slow_kill_warning(player.now) == ""


@pytest.mark.parametrize(("ends", "left"), [(("ETH",), "the account's BTC"), (("BTC", "ETH"), ""), (("ALL",), "")])
def test_a_lock_of_a_currency_ends_with_its_own_unlock_or_with_that_of_all(ends: tuple[str, ...], left: str) -> None:
    player = DERIBIT.ready()
    for currency in ("BTC", "ETH"):
        player.put(push("user.lock", {"currency": currency, "locked": True}))
    for currency in ends:
        player.put(push("user.lock", {"currency": currency, "locked": False}))
    warning = player.adapter.slow_kill_warning(player.now)
    assert (f"has locked {left}:" in warning) if left else not warning


# ── cancels ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_part_that_fails_has_the_twin_leave_and_its_currency_cancelled_if_it_fails_again() -> None:
    player = DERIBIT.ready()
    player.adapter.book.trace()
    partial = payload("deribit/cancel-all-partial")
    [(conn, frame)] = sends_of(player.put(Kill()))
    outputs = player.put(hears(conn, {**partial, "id": frame["id"]}))
    assert not [output for output in outputs if isinstance(output, CancelAnswered)]
    [twin] = calls_of(outputs)
    outputs = player.put(answer(twin.tag, partial))
    [(_, fallback)] = sends_of(outputs)
    assert fallback["method"] == "private/cancel_all_by_currency"
    assert fallback["params"]["currency"] == "ETH" and fallback["params"]["type"] == "all"
    report = {"currency": "ETH", "type": "limit", "result": [order("ETH-7", "cancelled")]}
    [fact] = player.put(hears(1, rpc(fallback["id"], result=[report])))
    assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.UNKNOWN
    assert "ETH limit 10047 matching_engine_queue_full" in fact.evidence
    assert set(player.adapter.book.ended) == {"146062", "ETH-SLTS-250756", "ETH-7"}


def test_a_method_that_is_switched_off_is_followed_by_the_one_for_every_currency() -> None:
    player = DERIBIT.player()
    [call] = calls_of(player.put(Kill()))
    off = {"error": {"code": 13025, "message": "method_switched_off_by_admin"}}
    assert targets_of(player.put(answer(call.tag, off, 400))) == [
        "cancel_all_by_kind_or_type?currency=any&type=all&detailed=true&freeze_quotes=true"
    ]


@pytest.mark.parametrize(
    ("reports", "answered"),
    [
        ([], CancelOutcome.ACCEPTED),
        (
            [{"currency": "ETH", "type": "trigger", "result": [order("ETH-SLTS-1", "untriggered")]}],
            CancelOutcome.ACCEPTED,
        ),
        ([{"currency": "ETH", "error": {"code": 10045, "message": "liquidation"}}], CancelOutcome.ACCEPTED),
        ([{"currency": "ETH", "error": {"code": 13019, "message": "orderbook_closed"}}], CancelOutcome.ACCEPTED),
        ([{"currency": "ETH", "error": None}], CancelOutcome.UNKNOWN),
        ([{"currency": "ETH", "type": "limit"}], CancelOutcome.UNKNOWN),
    ],
)
def test_a_report_is_judged_by_its_error_and_never_by_the_state_of_an_order(
    reports: list[object], answered: CancelOutcome
) -> None:
    player = DERIBIT.player()
    [call] = calls_of(player.put(Kill()))
    outputs = player.put(answer(call.tag, rpc(1, result=reports)))
    for follow_up in calls_of(outputs):
        outputs += player.put(answer(follow_up.tag, NOTHING))
    [fact] = [output for output in outputs if isinstance(output, CancelAnswered)]
    assert fact.answer is answered


def test_an_order_that_outlives_a_strike_is_cancelled_by_its_id_beside_the_next_cancel_all() -> None:
    player = DERIBIT.ready()
    left = [order("ETH-1"), order("SLIS-2", "untriggered"), order("ETH-3")]
    read(player, rpc(1, result=left))
    assert targets_of(player.put(Kill())) == []
    read(player, rpc(1, result=[*left, order("ETH-NEW")]))
    tried: list[str] = []
    for _ in range(2):
        outputs = player.put(Kill())
        assert [frame["method"] for _, frame in sends_of(outputs)] == ["private/cancel_all"]
        tried += targets_of(outputs)
    assert tried[:2] == ["cancel?order_id=ETH-1", "cancel?order_id=SLIS-2"]
    assert tried[2:] == ["cancel?order_id=ETH-3", "cancel?order_id=ETH-NEW"]
    for call in [call for call in calls_of(player.outputs) if "cancel?" in call.request.target]:
        assert call.command and player.put(answer(call.tag, {"error": {"code": 10004, "message": "not_found"}})) == ()
    player.adapter.drop_strike_work()
    assert targets_of(player.put(Kill())) == []


def test_quotes_for_block_rfqs_are_cancelled_and_read_if_the_key_may() -> None:
    player = DERIBIT.player()
    log_in(player, login=deribit.login("connection trade:read_write block_rfq:read_write"))
    frames = sends_of(player.put(Kill()))
    assert [frame["method"] for _, frame in frames] == ["private/cancel_all", "private/cancel_all_block_rfq_quotes"]
    assert player.put(hears(1, rpc(frames[0][1]["id"], result=[]))) == ()
    [fact] = player.put(hears(1, rpc(frames[1][1]["id"], result=2)))
    assert isinstance(fact, CancelAnswered) and (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, 2)
    quote = {"block_rfq_quote_id": 8, "block_rfq_id": 3, "quote_state": "open"}
    fact = read(
        player, NOTHING, NOTHING, rpc(1, result=[quote, {**quote, "block_rfq_quote_id": 9, "quote_state": "expired"}])
    )
    assert [each.id for each in fact.orders] == ["rfq 8"] and fact.complete
    assert len(targets_of(player.put(Read()))) == 3
    assert len(targets_of(DERIBIT.ready().put(Read()))) == 2


FORBIDDEN = {"error": {"code": 13021, "message": "forbidden"}}


def test_quotes_for_block_rfqs_are_read_and_cancelled_before_a_login_states_the_rights_of_the_key() -> None:
    player = DERIBIT.player()
    quote = {"block_rfq_quote_id": 8, "block_rfq_id": 3, "quote_state": "open"}
    assert [each.id for each in read(player, NOTHING, NOTHING, rpc(1, result=[quote])).orders] == ["rfq 8"]
    outputs = player.put(Kill())
    assert targets_of(outputs)[1:] == ["cancel_all_block_rfq_quotes"]
    for call, body in zip(calls_of(outputs), (NOTHING, rpc(1, result=1)), strict=True):
        outputs = player.put(answer(call.tag, body))
    assert [fact.answer for fact in outputs if isinstance(fact, CancelAnswered)] == [CancelOutcome.ACCEPTED]


def test_a_key_without_the_scope_for_rfqs_costs_one_refused_read_that_holds_no_kill_up() -> None:
    player = DERIBIT.player()
    assert read(player, NOTHING, NOTHING, FORBIDDEN).complete
    assert len(targets_of(player.put(Kill()))) == 1 and len(targets_of(player.put(Read()))) == 2


def test_a_scope_for_rfqs_that_the_key_has_lost_hides_no_quote() -> None:
    player = DERIBIT.player()
    log_in(player, login=deribit.login("connection trade:read_write block_rfq:read_write"))
    log_in(player, 2, login=deribit.login("connection trade:read_write"))
    assert not read(player, NOTHING, NOTHING, FORBIDDEN).complete


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_documents_list_is_read_whole() -> None:
    fact = read(DERIBIT.ready(), payload("deribit/open-orders"))
    assert [(one.id, one.status, one.state) for one in fact.orders] == [
        ("146062", "open", OrderState.LIVE),
        ("USDC-SLMB-19641", "untriggered", OrderState.LIVE),
    ]
    assert fact.complete


def test_liquidation_orders_are_out_of_reach_and_hold_no_kill_up() -> None:
    player = DERIBIT.ready()
    fact = read(player, rpc(1, result=[order("ETH-1", is_liquidation=True), order("ETH-2", is_liquidation=False)]))
    assert [one.id for one in fact.orders] == ["ETH-2"] and fact.complete
    assert player.adapter.out_of_reach == ("1 liquidation order(s) of Deribit's own",)
    assert player.put(pushed("ETH-3", is_liquidation=True)) == ()
    assert not read(player).orders and not player.adapter.out_of_reach


def test_a_trigger_that_fires_ends_when_its_order_is_shown() -> None:
    player = DERIBIT.ready()
    player.put(pushed("ETH-SLIS-12", "untriggered"))
    player.put(pushed("ETH-SLIS-12", "triggered"))
    assert set(player.adapter.book.orders) == {"ETH-SLIS-12"}
    outputs = player.put(pushed("ETH-500", trigger_order_id="ETH-SLIS-12"))
    assert [fact.order.id for fact in outputs if isinstance(fact, OrderPlaced)] == ["ETH-500"]
    assert set(player.adapter.book.orders) == {"ETH-500"}


@pytest.mark.parametrize(
    ("said", "is_gone"),
    [
        (order("ETH-SLIS-12", "triggered"), True),
        (order("ETH-SLIS-12", "untriggered", cancel_reason="user_request"), True),
        (order("ETH-SLIS-12", "untriggered"), False),
    ],
)
def test_a_trigger_that_no_list_shows_is_alive_unless_it_is_used_up_or_cancelled(
    said: dict[str, object], is_gone: bool
) -> None:
    player = DERIBIT.ready()
    player.put(pushed("ETH-SLIS-12", "triggered"))
    player.put(Pause(1))
    fact = read(player, NOTHING, NOTHING, rpc(1, result=said))
    assert fact.complete and [one.id for one in fact.orders] == ([] if is_gone else ["ETH-SLIS-12"])


def test_a_push_of_a_cancelled_trigger_that_is_called_untriggered_ends_it() -> None:
    player = DERIBIT.ready()
    player.put(pushed("ETH-SLIS-12", "untriggered"))
    player.put(pushed("ETH-SLIS-12", "untriggered", cancel_reason="user_request"))
    assert not player.adapter.book.orders


def test_a_drill_cancels_an_id_that_no_order_has_over_both_lanes() -> None:
    player = DERIBIT.ready()
    outputs = player.put(Drill())
    assert targets_of(outputs) == [f"cancel?order_id={NO_ORDER}"]
    [(_, frame)] = sends_of(outputs)
    assert (frame["method"], frame["params"]["order_id"], frame["id"] > FIRST) == ("private/cancel", NO_ORDER, True)


# ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────────


def summaries(at_ms: int, **balances: str) -> dict[str, object]:
    rows = [{"currency": name, "balance": float(worth), "equity": float(worth)} for name, worth in balances.items()]
    return rpc(1, result={"summaries": rows}, usOut=at_ms * 1000)


def cross(at_ms: int, total: float, **balances: str) -> dict[str, object]:
    rows = [
        {
            "currency": name,
            "balance": float(worth),
            "equity": 1.0,
            "cross_collateral_enabled": True,
            "total_equity_usd": total,
        }
        for name, worth in balances.items()
    ]
    return rpc(1, result={"summaries": rows}, usOut=at_ms * 1000)


def row(kind: str, change: float, number: int) -> dict[str, object]:
    return {"type": kind, "change": change, "id": number, "currency": "BTC", "balance": 1.0}


def log(*rows: object, continuation: object = None) -> dict[str, object]:
    return rpc(1, result={"logs": list(rows), "continuation": continuation})


def measure(player: Player, *bodies: object) -> list[Output]:
    """Measure; the requests are answered in their order."""
    told, facts = list(bodies), list[Output]()
    work = calls_of(player.put(Measure()))
    while work:
        outputs = player.put(answer(work.pop(0).tag, told.pop(0)))
        work += calls_of(outputs)
        facts += [output for output in outputs if not isinstance(output, Call)]
    assert not told
    return facts


def test_a_deposit_is_read_from_the_log_of_each_currency_whose_balance_has_changed_and_counts_once() -> None:
    player = DERIBIT.ready()
    begun_ms = START.wall_ms
    [first] = measure(player, summaries(begun_ms, BTC="1", ETH="5"))
    assert isinstance(first, Equity) and first.amounts == {"BTC": Decimal(1), "ETH": Decimal(5)}
    facts = measure(
        player,
        summaries(begun_ms + 5000, BTC="3", ETH="5"),
        log(row("trade", 0.5, 4), continuation="250"),
        log(row("deposit", 2, 5), row("withdrawal", -0.5, 6)),
    )
    assert facts[:2] == [Transferred("BTC", Decimal(2)), Transferred("BTC", Decimal("-0.5"))]
    assert isinstance(facts[2], Equity) and facts[2].amounts["BTC"] == 3
    asked = targets_of(player.outputs)[-1]
    assert asked == (
        f"get_transaction_log?currency=BTC&start_timestamp={begun_ms}&end_timestamp={begun_ms + 5000}"
        "&count=250&continuation=250"
    )
    facts = measure(player, summaries(begun_ms + 10_000, BTC="3.1", ETH="5"), log(row("deposit", 2, 5)))
    assert [type(fact) for fact in facts] == [Equity]
    facts = measure(player, summaries(begun_ms + 15_000, BTC="3.1", ETH="5"), log(row("deposit", 2, 5)))
    assert [type(fact) for fact in facts] == [Equity]
    assert [type(fact) for fact in measure(player, summaries(begun_ms + 20_000, BTC="3.1", ETH="5"))] == [Equity]


def test_a_withdrawal_that_the_log_shows_later_than_the_balance_is_reported_with_the_next_figures() -> None:
    player = DERIBIT.ready()
    measure(player, summaries(START.wall_ms, BTC="3"))
    measure(player, summaries(START.wall_ms + 5000, BTC="1"), log())
    facts = measure(player, summaries(START.wall_ms + 10_000, BTC="1"), log(row("withdrawal", -2, 7)))
    assert facts[0] == Transferred("BTC", Decimal(-2)) and isinstance(facts[1], Equity)


def test_under_cross_collateral_the_equity_is_one_figure_and_a_deposit_is_valued_in_it() -> None:
    player = DERIBIT.ready()
    [first] = measure(player, cross(START.wall_ms, 60_000.0, BTC="1", USDC="0"))
    assert isinstance(first, Equity) and first.amounts == {"USD": Decimal(60_000)}
    facts = measure(
        player,
        cross(START.wall_ms + 5000, 90_000.0, BTC="1.5", USDC="0"),
        log(row("transfer", 0.5, 9)),
        rpc(1, result={"index_price": 60_000.0}),
    )
    assert facts[0] == Transferred("USD", Decimal(30_000)) and isinstance(facts[1], Equity)
    assert calls_of(player.outputs)[-1].request.target == "/api/v2/public/get_index_price?index_name=btc_usd"


@pytest.mark.parametrize("said", [{"error": QUEUE_FULL}, {"result": {}}, {"result": {"logs": [{"type": "deposit"}]}}])
def test_figures_whose_log_cannot_be_read_are_not_reported_until_it_can(said: dict[str, object]) -> None:
    player = DERIBIT.ready()
    measure(player, summaries(START.wall_ms, BTC="1"))
    [fact] = measure(player, summaries(START.wall_ms + 5000, BTC="2"), rpc(1, **said))
    assert isinstance(fact, UnexplainedMessage)
    facts = measure(player, summaries(START.wall_ms + 10_000, BTC="2"), log(row("deposit", 1, 5)))
    assert facts[0] == Transferred("BTC", Decimal(1)) and isinstance(facts[1], Equity)


def pages(count: int, first: int, *rows: object) -> list[dict[str, object]]:
    """Return this many full pages of a log, which go on; the first has these rows."""
    return [log(*(rows if number == 0 else ()), continuation=str(first + number)) for number in range(count)]


def test_a_log_of_more_pages_than_a_measurement_reads_is_read_on_by_the_next_ones_and_nothing_is_lost() -> None:
    player, begun_ms = DERIBIT.ready(), START.wall_ms
    measure(player, summaries(begun_ms, BTC="1"))
    for number in range(2):
        deposit = row("deposit", 1, 5 + number)
        [fact] = measure(player, summaries(begun_ms + 5000 + number, BTC="4"), *pages(MAX_PAGES, 100 * number, deposit))
        assert isinstance(fact, UnexplainedMessage) and "is read on" in fact.why
        assert f"end_timestamp={begun_ms + 5000}&" in targets_of(player.outputs)[-1]  # the same log, at its next page
    assert "continuation=106" in targets_of(player.outputs)[-1]
    facts = measure(
        player,
        summaries(begun_ms + 15_000, BTC="4"),
        log(row("deposit", 1, 7)),  # the end of that log
        log(row("deposit", 1, 7), row("trade", -1, 8)),  # the log since
    )
    assert facts[:3] == [Transferred("BTC", Decimal(1))] * 3 and isinstance(facts[3], Equity)
    ends = targets_of(player.outputs)[-2:]
    assert "continuation=107" in ends[0] and "continuation" not in ends[1]
    assert f"end_timestamp={begun_ms + 15_000}&" in ends[1]


def test_a_log_whose_next_page_is_refused_is_read_from_its_beginning() -> None:
    player, begun_ms = DERIBIT.ready(), START.wall_ms
    measure(player, summaries(begun_ms, BTC="1"))
    measure(player, summaries(begun_ms + 5000, BTC="2"), *pages(MAX_PAGES, 0, row("deposit", 1, 5)))
    [fact] = measure(player, summaries(begun_ms + 10_000, BTC="2"), rpc(1, error=QUEUE_FULL))
    assert isinstance(fact, UnexplainedMessage)
    facts = measure(player, summaries(begun_ms + 15_000, BTC="2"), log(row("deposit", 1, 5)))
    assert facts[0] == Transferred("BTC", Decimal(1)) and [type(fact) for fact in facts[1:]] == [Equity]
    assert "continuation" not in targets_of(player.outputs)[-1]


def test_a_currency_that_is_left_out_makes_no_figure() -> None:
    player = DERIBIT.ready()
    measure(player, summaries(START.wall_ms, BTC="1", ETH="0"))
    [fact] = measure(player, summaries(START.wall_ms + 5000, ETH="0"))
    assert isinstance(fact, UnexplainedMessage) and "BTC not listed" in fact.why


def test_an_account_that_has_lost_all_is_measured_as_zero() -> None:
    player = DERIBIT.ready()
    measure(player, summaries(START.wall_ms, BTC="1", ETH="0"))
    facts = measure(player, summaries(START.wall_ms + 5000, BTC="0", ETH="0"), log())
    assert isinstance(facts[-1], Equity) and sum(facts[-1].amounts.values()) == 0 and facts[-1].amounts


def test_a_signature_is_made_with_the_venues_time() -> None:
    clock = ClockOffset()
    requests = DeribitRequests("venue.test", "the-id", b"the-secret", clock)
    clock.note_message(START.wall_ns + 5 * 10**9, START.wall_ns + 5 * 10**9, START.wall_ns, START, refused=True)
    assert requests.login(Instant(START.mono_ns, START.wall_ns))["timestamp"] == START.wall_ms + 5000
