"""Binance's futures: what no other venue has, for USD-M and COIN-M (docs/venues/binance.md)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from kill_switch.core.domain import CancelOutcome, OrderState, Route
from kill_switch.dispatch.connect import sweep_timings
from kill_switch.venues.binance.futures import KEPT_EVERY_S, BinanceCoinm, BinanceFutures, BinanceUsdm
from kill_switch.venues.binance.futures_profile import FEWEST_AGAIN, SYMBOLS_AGAIN
from kill_switch.venues.messages import (
    Call,
    CallLost,
    CancelAnswered,
    CloseConnection,
    Closed,
    ConnectNow,
    Drilled,
    Equity,
    NotReady,
    Opened,
    OrderSeen,
    OrdersRead,
    Outputs,
    Ready,
    Replied,
    Transferred,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness.venue_playbook import START, Drill, Kill, Measure, Pause, Player, Probe, Read, answer, hears, payload
from tests.harness.venue_profiles import STANDS, VenueProfile

DONE = payload("binance/futures-cancelled-all")
UNKNOWN_ORDER = {"code": -2011, "msg": "Unknown order sent."}
KEY: str = payload("binance/futures-listen-key")["listenKey"]
both = pytest.mark.parametrize("stand", [STANDS["binance-usdm"], STANDS["binance-coinm"]], ids=["usdm", "coinm"])
USDM = STANDS["binance-usdm"]


def target(call: Call) -> str:
    return f"{call.request.method} {USDM.target(call.request.target)}"


def calls(outputs: Outputs) -> list[Call]:
    return [output for output in outputs if isinstance(output, Call)]


def order(symbol: str, number: int, status: str = "NEW") -> dict[str, object]:
    return {"symbol": symbol, "orderId": number, "clientOrderId": "c", "status": status}


def algo(symbol: str, number: int, status: str = "NEW", actual: str = "") -> dict[str, object]:
    shown = payload("binance/futures-algo-list")[0]
    return {**shown, "symbol": symbol, "algoId": number, "algoStatus": status, "actualOrderId": actual}


def lists(player: Player, asked: list[Call], orders: list[object], algos: list[object]) -> Outputs:
    """Answer both lists of a read or of a strike, and accept every cancel beside them."""
    outputs: Outputs = ()
    for call in asked:
        path = target(call)
        body: object = DONE if path.startswith("DELETE") else algos if path.endswith("openAlgoOrders") else orders
        outputs += player.put(answer(call.tag, body))
    return outputs


def reading(player: Player, orders: list[object], algos: list[object]) -> OrdersRead:
    facts = [fact for fact in lists(player, calls(player.put(Read())), orders, algos) if isinstance(fact, OrdersRead)]
    return facts[-1]


def pushed_algo(status: str, actual: str = "") -> dict[str, Any]:
    message: dict[str, Any] = payload("binance/futures-algo-update")
    return {**message, "o": {**message["o"], "X": status, "ai": actual}}


# ── strikes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@both
def test_a_strike_has_the_pair_of_each_symbol_the_one_with_the_most_orders_first_and_both_lists(
    stand: VenueProfile,
) -> None:
    player = stand.ready()
    reading(player, [order("A", 1), order("B", 2), order("B", 3)], [algo("C", 4)])
    api = "fapi" if stand is USDM else "dapi"
    pairs = [
        [f"DELETE /{api}/v1/{path}?symbol={symbol}" for path in ("allOpenOrders", "algoOpenOrders")] for symbol in "BAC"
    ]
    found = [f"GET /{api}/v1/{path}" for path in ("openOrders", "openAlgoOrders")]
    assert [target(call) for call in calls(player.put(Kill()))] == [*pairs[0], *found, *pairs[1], *pairs[2]]


def test_a_symbol_that_only_the_conditional_list_shows_is_struck_as_the_list_comes() -> None:
    player = USDM.ready()
    asked = calls(player.put(Kill()))
    found = calls(lists(player, asked, [], [algo("NEW", 7)]))
    assert [target(call).rpartition("/")[2] for call in found] == [
        "allOpenOrders?symbol=NEW",
        "algoOpenOrders?symbol=NEW",
    ]
    facts = lists(player, found, [], [])
    assert [fact.answer for fact in facts if isinstance(fact, CancelAnswered)] == [CancelOutcome.ACCEPTED]
    assert set(player.adapter.book.orders) == {"algo:7"}


def test_a_symbol_that_is_not_ascii_is_signed_and_sent_percent_encoded() -> None:
    player = USDM.ready()
    reading(player, [order("币安USDT", 1)], [])
    [first, *_] = calls(player.put(Kill()))
    assert "symbol=%E5%B8%81%E5%AE%89USDT&" in first.request.target
    assert first.request.target.isascii()


def test_a_strike_that_follows_takes_many_symbols_and_few_once_other_programs_leave_little() -> None:
    player = USDM.ready()
    symbols = [f"S{number}" for number in range(60)]
    reading(player, [order(symbol, number + 1) for number, symbol in enumerate(symbols)], [])
    assert len(calls(player.put(Kill()))) == 2 * 60 + 2
    assert 2 * SYMBOLS_AGAIN <= len(calls(player.put(Kill()))) <= 2 * (SYMBOLS_AGAIN + 1)
    player.adapter.budget.on_usage([("weight", 2350.0)], player.now)
    struck = set()
    for _ in range(13):
        again = calls(player.put(Kill()))
        assert 2 * FEWEST_AGAIN <= len(again) <= 2 * (FEWEST_AGAIN + 1)
        struck |= {target(call).partition("=")[2] for call in again}
    assert struck == set(symbols)


def test_while_the_venue_refuses_cancels_a_strike_tries_one_symbol_because_refused_requests_lead_to_a_ban() -> None:
    player = USDM.ready()
    reading(player, [order(f"S{number}", number + 1) for number in range(60)], [])
    first = calls(player.put(Kill()))[0]
    player.put(Replied(first.tag, 429, {"retry-after": "50"}, b'{"code":-1003,"msg":"Too many requests."}'))
    struck = set()
    for _ in range(5):
        again = calls(player.put(Kill()))
        assert len(again) <= 2 * (1 + 1)  # and the one with the most orders
        struck |= {target(call).partition("=")[2] for call in again}
    assert len(struck) >= 5
    player.put(Pause(1.0))
    player.put(answer(calls(player.put(Kill()))[0].tag, DONE))  # one is accepted: the pause was for reads
    assert len(calls(player.put(Kill()))) >= 2 * FEWEST_AGAIN


def test_a_strike_that_follows_and_knows_no_symbol_reads_the_lists_unless_the_venue_has_asked_for_a_pause() -> None:
    player = USDM.ready()
    player.put(Kill())
    again = calls(player.put(Kill()))
    assert [target(call) for call in again] == ["GET /fapi/v1/openOrders", "GET /fapi/v1/openAlgoOrders"]
    player.put(Replied(again[0].tag, 429, {"retry-after": "7"}, b'{"code":-1003,"msg":"Too many requests."}'))
    facts = player.put(Kill())
    assert [fact.answer for fact in facts if isinstance(fact, CancelAnswered)] == [CancelOutcome.UNSENT]


def test_a_symbol_whose_order_only_a_lagging_list_has_omitted_is_struck_in_the_first_strike() -> None:
    player = USDM.ready()
    reading(player, [order("A", 1)], [algo("B", 2)])
    reading(player, [], [])  # 0 of 1 rows each, for up to 20 s (§ 10)
    struck = [target(call) for call in calls(player.put(Kill())) if call.request.method == "DELETE"]
    assert struck == [
        f"DELETE /fapi/v1/{path}?symbol={symbol}" for symbol in "AB" for path in ("allOpenOrders", "algoOpenOrders")
    ]


def test_strikes_that_know_no_symbol_leave_the_lists_to_the_read_back_once_half_of_the_pool_is_in_use() -> None:
    player = USDM.ready()
    strikes = [calls(player.put(Kill())) for _ in range(40)]
    weight = sum(40 for strike in strikes for call in strike if call.request.method == "GET")
    assert 80 <= weight <= 1200
    assert strikes[-1] == []


def test_after_a_re_arm_the_next_strike_is_a_first_one() -> None:
    player = USDM.ready()
    reading(player, [order("A", 1)], [])
    player.put(Kill(1))
    assert len(calls(player.put(Kill(2)))) == 2
    player.adapter.drop_strike_work()
    assert len(calls(player.put(Kill(2)))) == 4


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, UNKNOWN_ORDER, CancelOutcome.ACCEPTED),  # nothing is open
        (400, {"code": -2011, "msg": "Market is closed."}, CancelOutcome.REFUSED),
        (400, {"code": -1121, "msg": "Invalid symbol."}, CancelOutcome.REFUSED),
        (401, {"code": -2015, "msg": "Unknown order sent."}, CancelOutcome.REFUSED),
        (400, {"code": -4120, "msg": "Unknown order sent."}, CancelOutcome.REFUSED),
        (503, {"code": -1000, "msg": "Unknown error, please check your request or try again later."}, "UNKNOWN"),
        (503, {"code": -1001, "msg": "Internal error; unable to process your request. Please try again."}, "REFUSED"),
        (418, UNKNOWN_ORDER, CancelOutcome.UNKNOWN),
        (500, UNKNOWN_ORDER, CancelOutcome.UNKNOWN),
    ],
)
def test_only_the_documented_words_for_an_empty_symbol_are_no_failure(
    status: int, body: Mapping[str, object], outcome: CancelOutcome
) -> None:
    player = USDM.ready()
    reading(player, [order("A", 1)], [])
    first, *others = calls(player.put(Kill()))
    lists(player, others, [order("A", 1)], [])
    [fact] = player.put(answer(first.tag, body, status))
    assert isinstance(fact, CancelAnswered) and fact.answer == outcome
    assert set(player.adapter.book.orders) == {"1"}  # only a read-back ends it


def test_a_refused_time_is_signed_again_by_the_venues_clock() -> None:
    player = USDM.ready()
    reading(player, [order("A", 1)], [])
    first = calls(player.put(Kill()))[0]
    late = b'{"code":-1021,"msg":"Timestamp for this request was 1000ms ahead of the server\'s time."}'
    told = Replied(first.tag, 400, {"date": "Tue, 14 Nov 2023 22:13:10 GMT"}, late)  # ten seconds behind us
    [again] = calls(player.put(told))
    assert USDM.signed_ms is not None
    assert -10_600 <= USDM.signed_ms(again.request) - player.now.wall_ms <= -9_000 and again.cancel


def test_a_ban_holds_reads_back_until_its_end_and_lets_cancels_go_on() -> None:
    player = USDM.ready()
    reading(player, [order("A", 1)], [])
    first = calls(player.put(Kill()))[0]
    until = START.wall_ms + 60_000
    banned = {"code": -1003, "msg": f"Way too much request weight used; IP banned until {until}."}
    player.put(answer(first.tag, banned, 418))
    assert 59 <= player.adapter.budget.named_pause_s(player.now) <= 60
    [fact] = player.put(Read())
    assert isinstance(fact, OrdersRead) and not fact.complete and "no read for" in fact.why
    assert [target(call)[:6] for call in calls(player.put(Kill()))] == ["DELETE", "DELETE"]


def test_a_refusal_by_the_firewall_slows_all_but_cancels() -> None:
    player = USDM.ready()
    call = calls(player.put(Read()))[0]
    player.put(answer(call.tag, b"<html>", 403))
    assert player.adapter.budget.pause_s(player.now) and not player.put(Probe())


@both
def test_the_header_of_an_answer_states_the_weight_that_the_address_has_used(stand: VenueProfile) -> None:
    player = stand.ready()
    call = calls(player.put(Read()))[0]
    player.put(Replied(call.tag, 200, {"x-mbx-used-weight-1m": "1800"}, b"[]"))
    assert player.adapter.budget.share == 0.25


def test_both_products_and_all_accounts_of_an_address_share_one_pool() -> None:
    accounts = {
        f"{venue}{number}": STANDS[venue].make({**STANDS[venue].secrets(), "api_key": f"key-{number}-0123456789"})
        for venue in ("binance-usdm", "binance-coinm")
        for number in range(2)
    }
    sweep_timings(accounts)
    assert len({id(adapter.budget.counts["weight"]) for adapter in accounts.values()}) == 1


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_order_and_a_conditional_order_of_one_number_are_two_orders() -> None:
    player = USDM.ready()
    read = reading(player, [order("A", 7)], [algo("A", 7)])
    assert read.complete and {one.id for one in read.orders} == {"7", "algo:7"}


def test_an_id_beyond_the_precision_of_a_float_is_kept_and_a_float_is_no_id() -> None:
    player = USDM.ready()
    large = 4_611_875_134_427_365_377
    assert [one.id for one in reading(player, [order("A", large)], []).orders] == [str(large)]
    broken = {**order("A", 1), "orderId": 1.5}
    read = reading(player, [broken], [])
    assert not read.complete and not read.orders


@pytest.mark.parametrize("status", ["NEW", "TRIGGERING", "TRIGGERED", "a word of next year"])
def test_a_conditional_order_lives_until_its_end_is_stated(status: str) -> None:
    [one] = reading(USDM.ready(), [], [algo("A", 7, status)]).orders
    assert one.state is OrderState.LIVE


def test_a_conditional_order_that_has_triggered_lives_on_as_the_order_that_it_has_become() -> None:
    player = USDM.ready()
    player.put(hears(1, pushed_algo("NEW")))
    player.put(hears(1, pushed_algo("TRIGGERING")))
    assert set(player.adapter.book.orders) == {"algo:2148719"}
    player.adapter.book.trace()
    seen = player.put(hears(1, pushed_algo("TRIGGERED", "8886775")))
    assert [fact.order.id for fact in seen if isinstance(fact, OrderSeen)] == ["8886775"]
    assert {one.id: one.symbol for one in player.adapter.book.orders.values()} == {"8886775": "BNBUSDT"}
    assert player.adapter.book.ended["algo:2148719"] > 0  # no cancel has ended it
    targets = [target(call) for call in calls(player.put(Kill()))]
    assert targets[0] == "DELETE /fapi/v1/allOpenOrders?symbol=BNBUSDT"
    [look_up] = [call for call in calls(lists(player, calls(player.put(Read())), [], [])) if "look-up" in call.tag]
    assert target(look_up) == "GET /fapi/v1/order?symbol=BNBUSDT&orderId=8886775"


def test_a_look_up_of_a_conditional_order_follows_it_to_the_order_that_it_has_become() -> None:
    player = USDM.ready()
    player.put(hears(1, pushed_algo("NEW")))
    [look_up] = calls(lists(player, calls(player.put(Read())), [], []))
    assert target(look_up) == "GET /fapi/v1/algoOrder?algoId=2148719"
    triggered = {**algo("BNBUSDT", 2148719, "TRIGGERED", "8886775")}
    [fact] = player.put(answer(look_up.tag, triggered))
    assert isinstance(fact, OrdersRead) and not fact.complete and "8886775" in fact.why
    assert set(player.adapter.book.orders) == {"8886775"}


def test_a_look_up_that_finds_nothing_is_no_proof_while_the_order_may_not_be_visible_yet() -> None:
    player = USDM.ready()
    unknown = {"code": -2013, "msg": "Order does not exist."}
    player.put(hears(1, USDM.pushed("88867740101", "NEW")))
    for pause_s, complete in ((19.9, False), (0.2, True)):
        player.put(Pause(pause_s))
        [look_up] = calls(lists(player, calls(player.put(Read())), [], []))
        [fact] = player.put(answer(look_up.tag, unknown, 400))
        assert isinstance(fact, OrdersRead) and fact.complete is complete
        assert bool(player.adapter.book.orders) is not complete


@pytest.mark.parametrize("mark", ["1", 1, None, 3])
def test_an_order_is_this_products_unless_it_is_marked_as_the_others(mark: object) -> None:
    player = USDM.ready()
    message: dict[str, Any] = {**payload("binance/futures-order-update"), "st": mark}
    message["o"] = {**message["o"], "X": "NEW"}
    assert player.put(hears(1, message)) and player.adapter.book.orders


def test_an_order_of_the_other_product_is_not_this_accounts() -> None:
    player = USDM.ready()
    message: dict[str, Any] = {**payload("binance/futures-order-update"), "st": 2}
    message["o"] = {**message["o"], "X": "NEW"}
    assert player.put(hears(1, message)) == () and not player.adapter.book.orders
    assert player.put(hears(1, {**message, "st": 1})) and player.adapter.book.orders


# ── the user stream ───────────────────────────────────────────────────────────────────────────────────────────────────


REFUSED_KEY = {"code": -2015, "msg": "Invalid API-key."}


def started(stand: VenueProfile) -> tuple[Player, Call]:
    """Let the HTTP lane come up; return the request for the listen key."""
    player = stand.player()
    outputs = player.put(Opened(Route.HTTP, 0))
    [wanted] = [call for call in calls(outputs) if call.request.target.endswith("/listenKey")]
    return player, wanted


@pytest.mark.parametrize(
    ("stand", "path"),
    [
        (
            USDM,
            f"/private/ws?listenKey={KEY}&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/ALGO_UPDATE/listenKeyExpired",
        ),
        (STANDS["binance-coinm"], f"/ws/{KEY}"),
    ],
)
def test_the_stream_is_opened_with_a_key_that_was_posted_without_a_signature(stand: VenueProfile, path: str) -> None:
    player, wanted = started(stand)
    assert (wanted.request.method, "?" in wanted.request.target) == ("POST", False)
    assert "no listen key" in player.adapter.reason_to_stay_disconnected(player.now)
    assert player.adapter.waits_for_token
    assert ConnectNow() in player.put(answer(wanted.tag, {"listenKey": KEY}))
    assert player.adapter.reason_to_stay_disconnected(player.now) == ""
    upgrade = player.adapter.upgrade(player.now)
    assert upgrade.target == path and KEY not in repr(upgrade)
    assert Ready(Route.WS, 1) in player.put(Opened(Route.WS, 1))


def test_a_key_that_is_refused_is_named_as_the_reason_why_there_is_no_stream() -> None:
    player, wanted = started(USDM)
    (refused,) = [output for output in player.put(answer(wanted.tag, REFUSED_KEY, 401)) if isinstance(output, NotReady)]
    assert refused.fatal and refused.why.endswith("401 -2015 Invalid API-key.")  # so that `check` waits no longer
    assert player.adapter.reason_to_stay_disconnected(player.now).endswith("401 -2015 Invalid API-key.")
    assert not player.adapter.waits_for_token


def renewal(player: Player) -> Call:
    """Let half a minute pass; return the request that keeps the listen key."""
    due = [output for output in player.outputs if isinstance(output, WakeAfter) and output.seconds == KEPT_EVERY_S][-1]
    player.put(Pause(KEPT_EVERY_S))
    [post] = calls(player.put(VenueTimerFired(due.tag)))
    assert (post.request.method, post.request.target) == ("POST", "/fapi/v1/listenKey")
    return post


def test_a_renewal_that_is_refused_leaves_the_lane_ready_while_its_key_is_good() -> None:
    player, wanted = started(USDM)
    player.put(answer(wanted.tag, {"listenKey": KEY}))
    player.put(Opened(Route.WS, 1))
    refused = player.put(answer(renewal(player).tag, REFUSED_KEY, 401))
    assert not [output for output in refused if isinstance(output, NotReady)]


def renewed(player: Player, key: str) -> Outputs:
    """Let half a minute pass, and answer the renewal of the listen key."""
    return player.put(answer(renewal(player).tag, {"listenKey": key}))


def test_the_key_is_kept_every_half_minute_and_never_deleted() -> None:
    player, wanted = started(USDM)
    player.put(answer(wanted.tag, {"listenKey": KEY}))
    player.put(Opened(Route.WS, 1))
    for _ in range(5):
        assert not [output for output in renewed(player, KEY) if isinstance(output, CloseConnection | ConnectNow)]
    assert not [call for call in player.calls if target(call).startswith("DELETE") and "listenKey" in target(call)]


def test_another_key_replaces_the_connection_whose_key_is_dead() -> None:
    player, wanted = started(USDM)
    player.put(answer(wanted.tag, {"listenKey": KEY}))
    player.adapter.upgrade(player.now)
    player.put(Opened(Route.WS, 1))
    closes = [output for output in renewed(player, "another") if isinstance(output, CloseConnection | NotReady)]
    assert {output.conn for output in closes} == {1} and len(closes) == 2
    player.put(Closed(Route.WS, 1, "replaced"))
    assert "listenKey=another&" in player.adapter.upgrade(player.now).target


@pytest.mark.parametrize("refusals", [0, 3])
def test_transfers_that_a_stream_with_a_dead_key_has_not_pushed_are_read_since_the_key_was_kept(refusals: int) -> None:
    player, wanted = started(USDM)
    player.put(answer(wanted.tag, {"listenKey": KEY}))
    player.adapter.upgrade(player.now)
    player.put(Opened(Route.WS, 1))
    measured(player)
    for _ in range(3):
        renewed(player, KEY)
    kept_ms = player.now.wall_ms
    post = renewal(player)
    for _ in range(refusals):  # another program has deleted the key meanwhile
        overload = player.put(answer(post.tag, {"code": -1008, "msg": "Server is currently overloaded."}, 503))
        [timer] = [output for output in overload if isinstance(output, WakeAfter)]
        player.put(Pause(100))
        [post] = calls(player.put(VenueTimerFired(timer.tag)))
    assert ConnectNow() in player.put(answer(post.tag, {"listenKey": "another"}))
    player.put(Closed(Route.WS, 1, "replaced"))
    player.adapter.upgrade(player.now)
    player.put(Opened(Route.WS, 2))
    [history] = calls(figures(player, "1200"))
    since_ms = int(history.request.target.partition("startTime=")[2].partition("&")[0])
    assert "/income?" in history.request.target and since_ms < kept_ms


def test_a_key_that_came_during_the_dial_replaces_the_connection_as_it_opens() -> None:
    player, wanted = started(USDM)
    player.put(answer(wanted.tag, {"listenKey": KEY}))
    player.adapter.upgrade(player.now)
    renewed(player, "another")
    assert [output for output in player.put(Opened(Route.WS, 1)) if isinstance(output, CloseConnection)]


def test_a_connection_that_comes_back_requests_the_key_again_because_another_program_may_have_closed_it() -> None:
    player, wanted = started(USDM)
    player.put(answer(wanted.tag, {"listenKey": KEY}))
    player.adapter.upgrade(player.now)
    assert not [call for call in calls(player.put(Opened(Route.WS, 1))) if "listenKey" in target(call)]
    player.put(Pause(600))
    player.put(Closed(Route.WS, 1, "gone"))
    player.adapter.upgrade(player.now)
    [post] = [call for call in calls(player.put(Opened(Route.WS, 2))) if "listenKey" in target(call)]
    outputs = player.put(answer(post.tag, {"listenKey": "another"}))
    assert [output.conn for output in outputs if isinstance(output, CloseConnection)] == [2]


def test_a_key_that_has_expired_leads_to_another_one_a_new_connection_and_a_new_read() -> None:
    player = USDM.ready()
    player.put(Pause(60))
    outputs = player.put(hears(1, payload("binance/futures-listen-key-expired")))
    assert [type(output) for output in outputs[:2]] == [NotReady, CloseConnection]
    [post] = calls(outputs)
    assert player.adapter.reason_to_stay_disconnected(player.now)
    assert ConnectNow() in player.put(answer(post.tag, {"listenKey": "another"}))
    player.put(Closed(Route.WS, 1, "gone"))
    again = [target(call) for call in calls(player.put(Opened(Route.WS, 2)))]
    assert again == ["GET /fapi/v1/openOrders", "GET /fapi/v1/openAlgoOrders"]


def test_a_stream_that_has_not_pushed_an_order_which_the_lists_show_is_replaced_with_another_key() -> None:
    player = USDM.ready()
    player.put(Pause(30))
    reading(player, [order("A", 1)], [])
    for pause_s, closes in ((9.0, False), (2.0, True), (30.0, False)):
        player.put(Pause(pause_s))
        outputs = player.put(Probe())
        assert any(isinstance(output, CloseConnection) for output in outputs) is closes
        assert any(target(call) == "POST /fapi/v1/listenKey" for call in calls(outputs)) is closes


def test_a_stream_that_pushes_is_kept_though_lists_show_an_order_before_its_push() -> None:
    player = USDM.ready()
    player.put(Pause(30))
    reading(player, [order("A", 1)], [])
    player.put(Pause(1))
    player.put(hears(1, USDM.pushed("1", "NEW")))
    player.put(Pause(30))
    assert not any(isinstance(output, CloseConnection) for output in player.put(Probe()))


def test_a_stream_that_does_not_open_twice_has_its_key_posted_again() -> None:
    player, wanted = started(USDM)
    player.put(answer(wanted.tag, {"listenKey": KEY}))
    for attempts, posts in ((1, 0), (1, 1), (0, 0)):
        for _ in range(attempts):
            player.adapter.upgrade(player.now)
        player.put(Pause(30))
        asked = [target(call) for call in calls(player.put(Probe()))]
        assert asked.count("POST /fapi/v1/listenKey") == posts


@pytest.mark.parametrize("event", ["MARGIN_CALL", "ACCOUNT_CONFIG_UPDATE", "TRADE_LITE", "GRID_UPDATE"])
def test_events_that_say_nothing_of_orders_are_quiet_and_unknown_ones_are_counted(event: str) -> None:
    player = USDM.ready()
    assert player.put(hears(1, {"e": event, "E": 1})) == ()
    [fact] = player.put(hears(1, {"e": "EVENT_OF_NEXT_YEAR", "E": 1}))
    assert isinstance(fact, UnexplainedMessage)


# ── checks, drills, figures ───────────────────────────────────────────────────────────────────────────────────────────


def opened(stand: VenueProfile, answers: Mapping[str, tuple[int, object]]) -> Player:
    """Let the HTTP lane come up at a venue that answers so, by a part of the target."""
    player = stand.player()
    for call in calls(player.put(Opened(Route.HTTP, 0))):
        given = [reply for part, reply in answers.items() if part in target(call)]
        status, body = given[0] if given else (400, UNKNOWN_ORDER) if call.request.method == "DELETE" else (200, [])
        player.put(answer(call.tag, body, status))
    return player


def why_not_ready(player: Player) -> str:
    lane = [output for output in player.outputs if isinstance(output, Ready | NotReady) and output.route is Route.HTTP]
    return lane[-1].why if isinstance(lane[-1], NotReady) and lane[-1].fatal else ""


@both
@pytest.mark.parametrize(
    ("part", "status", "body"),
    [
        ("/order?", 401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}),
        ("/order?", 400, {"code": -4109, "msg": "This account is inactive."}),
        ("apiRestrictions", 200, payload("binance/key-restrictions") | {"enableFutures": True}),
    ],
)
def test_an_account_whose_cancels_are_refused_or_that_has_portfolio_margin_is_not_ready_and_says_so(
    stand: VenueProfile, part: str, status: int, body: object
) -> None:
    player = opened(stand, {part: (status, body)})
    player.put(Pause(30))
    for call in calls(player.put(Probe())):
        assert call.tag.startswith(("probe", "check"))
        given = (status, body) if part in target(call) else (200, [])
        player.put(answer(call.tag, given[1], given[0]))
    assert "a portfolio-margin account: its orders cannot be reached over the futures API" in why_not_ready(player)


@pytest.mark.parametrize("code", [-1022, -2014])
def test_a_wrong_key_or_secret_is_not_blamed_on_the_kind_of_the_account(code: int) -> None:
    player = opened(USDM, {"/order?": (400, {"code": code, "msg": "Signature for this request is not valid."})})
    why = why_not_ready(player)
    assert str(code) in why and "portfolio-margin" not in why and "may not trade" not in why


@pytest.mark.parametrize(
    ("status", "code"), [(503, -1008), (503, -1016), (408, -1007), (429, -1003), (400, -1121), (401, -2015)]
)
def test_a_refused_cancel_check_bars_the_lane_until_a_cancel_gets_through(status: int, code: int) -> None:
    player = opened(USDM, {"/order?": (401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})})
    adapter = player.adapter
    assert isinstance(adapter, BinanceFutures)
    for given in ((status, {"code": code, "msg": "no"}), (400, UNKNOWN_ORDER)):
        assert "refuses cancels" in adapter.why_not_ready(Route.HTTP)
        player.put(Pause(60))
        [check] = [call for call in calls(player.put(Probe())) if call.request.method == "DELETE"]
        player.put(answer(check.tag, given[1], given[0]))
    assert adapter.why_not_ready(Route.HTTP) == ""


@pytest.mark.parametrize("venue", ["binance-usdm", "binance-coinm", "binance-spot"])
def test_a_lane_that_stays_up_is_checked_again_because_rights_end_and_machines_begin(venue: str) -> None:
    player = opened(STANDS[venue], {"apiRestrictions": (200, {})})
    checks = [target(call) for call in player.calls if call.tag.startswith("check")]
    for pause_s, is_due in ((590, False), (20, True), (20, False)):
        player.put(Pause(pause_s))
        asked = [call for call in calls(player.put(Probe())) if call.tag.startswith("check")]
        assert [target(call) for call in asked] == (checks if is_due else [])
        for call in asked:
            player.put(answer(call.tag, *((UNKNOWN_ORDER, 400) if call.request.method == "DELETE" else ([], 200))))


def test_a_check_that_met_an_overload_is_made_again() -> None:
    overload = (503, {"code": -1008, "msg": "Server is currently overloaded with other requests."})
    player = opened(USDM, {"/order?": overload, "apiRestrictions": overload})
    player.put(Pause(30))
    again = [target(call) for call in calls(player.put(Probe())) if call.tag.startswith("check")]
    assert len(again) == 2 and "/order?" in again[0] and "apiRestrictions" in again[1]


def test_a_limit_of_the_wallet_api_pauses_its_checks_and_no_read_of_the_account() -> None:
    player = USDM.player()
    wallet = [call for call in calls(player.put(Opened(Route.HTTP, 0))) if "/sapi/" in call.request.target]
    banned = b'{"code":-1003,"msg":"IP banned until 1700000060000."}'
    player.put(Replied(wallet[0].tag, 418, {"retry-after": "60", "x-mbx-used-weight-1m": "2400"}, banned))
    assert not player.adapter.budget.pause_s(player.now) and player.adapter.budget.share == 1
    for pause_s, checks in ((59, 0), (2, 2)):
        player.put(Pause(pause_s))
        again = [call for call in calls(player.put(Probe())) if "/sapi/" in call.request.target]
        assert len(again) == checks


def test_a_key_without_the_right_to_trade_futures_is_not_ready_and_dangerous_rights_are_warned_of() -> None:
    rights = {**payload("binance/key-restrictions"), "enablePortfolioMarginTrading": False}
    player = opened(USDM, {"apiRestrictions": (200, rights)})
    assert "Enable Futures" in why_not_ready(player)
    player = opened(USDM, {"apiRestrictions": (200, {**rights, "enableFutures": True})})
    assert why_not_ready(player) == "" and len(player.adapter.warnings) >= 2


def test_a_running_vp_is_named_as_out_of_reach_until_it_runs_no_more() -> None:
    player = opened(USDM, {"algo/futures": (200, payload("binance/algo-orders"))})
    [phrase] = player.adapter.out_of_reach
    assert "VP ETHUSDT" in phrase and why_not_ready(player) == ""


def test_the_wallet_api_is_another_host_unless_the_account_has_an_address_of_its_own() -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "https://api.binance.com"),
        ({"rest_url": "https://sim.test:1"}, ""),
        ({"rest_url": "https://sim.test:1", "wallet_url": "https://w.test"}, "https://w.test"),
    )
    for options, origin in cases:
        player = Player(USDM.make(**options))
        wallet = [call for call in calls(player.put(Opened(Route.HTTP, 0))) if "/sapi/" in call.request.target]
        assert len(wallet) == 2 and {call.request.origin for call in wallet} == {origin}
        host = origin.removeprefix("https://") or "sim.test:1"
        assert {call.request.headers["Host"] for call in wallet} == {host}
        assert {call.route for call in wallet} == {Route.FRESH if origin else Route.HTTP}


@both
def test_the_test_environment_has_no_wallet_to_ask(stand: VenueProfile) -> None:
    player = Player(stand.make(environment="testnet"))
    asked = calls(player.put(Opened(Route.HTTP, 0)))
    assert asked and not [call for call in asked if "/sapi/" in call.request.target]


@both
def test_a_drill_cancels_an_id_that_cannot_exist_on_a_real_symbol(stand: VenueProfile) -> None:
    player = stand.ready()
    [call] = calls(player.put(Drill()))
    assert target(call).endswith(f"/order?symbol={stand.fans_out}&orderId=9223372036854775807")
    [fact] = player.put(answer(call.tag, UNKNOWN_ORDER, 400))
    assert isinstance(fact, Drilled) and fact.ok


def test_an_asset_that_a_venue_which_lists_zeros_leaves_out_is_no_zero() -> None:
    player = USDM.ready()
    account = payload("binance/futures-account")
    for assets in (account["assets"], account["assets"][1:]):
        [call] = calls(player.put(Measure()))
        [fact] = player.put(answer(call.tag, {**account, "assets": assets}))
        player.put(Pause(30))
    assert isinstance(fact, UnexplainedMessage) and "USDT not listed any more" in fact.why


@pytest.mark.parametrize(("reason", "reported"), [("DEPOSIT", True), ("WITHDRAW", True), ("ORDER", False)])
def test_a_transfer_is_reported_once_and_a_result_of_trading_never(reason: str, reported: bool) -> None:
    player = USDM.ready()
    message: dict[str, Any] = payload("binance/futures-account-update")
    message["a"] = {"m": reason, "B": [{"a": "USDT", "wb": "1127.9", "cw": "1040.8", "bc": "-50.5"}], "P": []}
    outputs = (*player.put(hears(1, message)), *player.put(hears(1, message)))
    assert outputs == ((Transferred("USDT", Decimal("-50.5")),) if reported else ())
    message["a"]["B"] = [{"a": "USDT"}]
    assert [type(one) for one in player.put(hears(1, message))] == [UnexplainedMessage] * reported


def measured(player: Player) -> list[Call]:
    """Measure the account, and answer; return the requests."""
    asked = calls(player.put(Measure()))
    player.put(answer(asked[-1].tag, payload("binance/futures-account")))
    return asked


def reopened(stand: VenueProfile) -> Player:
    """Return an account that is measured, and whose stream has come back after 5 s."""
    player = stand.ready()
    measured(player)
    player.put(Pause(600))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(5))
    player.put(Opened(Route.WS, 2))
    return player


def row(player: Player, amount: str, number: int = 1, **other: object) -> dict[str, object]:
    told = {"symbol": "", "incomeType": "TRANSFER", "income": amount, "asset": "USDT", "info": "TRANSFER"}
    return {**told, "time": player.now.wall_ns // 1_000_000, "tranId": number, "tradeId": "", **other}


def pushed_transfer(player: Player, amount: str) -> dict[str, Any]:
    change = {"a": "USDT", "wb": "1127.9", "cw": "1040.8", "bc": amount}
    at_ms = player.now.wall_ns // 1_000_000
    return {"e": "ACCOUNT_UPDATE", "T": at_ms, "E": at_ms, "a": {"m": "DEPOSIT", "B": [change], "P": []}}


def figures(player: Player, wallet: str = "1234.5") -> Outputs:
    """Measure the account; return what follows from an answer with this balance of its wallet of USDT."""
    [call] = calls(player.put(Measure()))
    assert "/account" in call.request.target
    body = payload("binance/futures-account")
    body["assets"][0] |= {"walletBalance": wallet}
    return player.put(answer(call.tag, body))


@both
def test_the_figures_after_a_gap_of_the_stream_wait_for_the_transfers_of_the_gap(
    stand: VenueProfile,
) -> None:
    player = reopened(stand)
    [history] = calls(figures(player, "1285"))
    since_ms = (player.now.wall_ns - 65_000_000_000) // 1_000_000
    assert f"/income?incomeType=TRANSFER&startTime={since_ms}&limit=1000&" in history.request.target
    assert not player.put(Measure())
    rows = [row(player, "50.5"), row(player, "50.5", 2), row(player, "-1", 3, incomeType="COMMISSION")]
    told, again, equity = player.put(answer(history.tag, rows))
    assert told == again == Transferred("USDT", Decimal("50.5"))
    assert isinstance(equity, Equity)
    [equity] = figures(player, "1300")  # no pushes are missing any more
    assert isinstance(equity, Equity)


def test_the_first_figures_need_no_history_because_they_are_compared_with_none() -> None:
    player = USDM.ready()
    player.put(Closed(Route.WS, 1, "gone"))
    assert isinstance(figures(player)[0], Equity)


def closed() -> Player:
    """Return an account that is measured, and whose stream has been closed for 5 s."""
    player = USDM.ready()
    figures(player)
    player.put(Pause(600))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(5))
    return player


def test_a_transfer_while_the_stream_stays_closed_is_reported_before_the_figures_that_contain_it() -> None:
    player = closed()
    [history] = calls(figures(player, "1184.5"))
    told, equity = player.put(answer(history.tag, [row(player, "-50")]))
    assert told == Transferred("USDT", Decimal(-50)) and isinstance(equity, Equity)
    player.put(Pause(5))
    assert figures(player, "1170") == ()  # a history every 10 s: the figures are dropped
    player.put(Pause(5))
    [history] = calls(figures(player, "1170"))
    [equity] = player.put(answer(history.tag, [row(player, "-50")]))  # the same row
    assert isinstance(equity, Equity)
    player.put(Opened(Route.WS, 2))
    player.put(Pause(60))
    assert "/income?" in calls(figures(player, "1170"))[0].request.target  # there may be a row more by now


@pytest.mark.parametrize(("wallet", "explained"), [("1234.5", True), ("1200", False), ("?", False)])
def test_while_the_stream_stays_closed_two_histories_explain_figures_until_a_wallet_changes(
    wallet: str, explained: bool
) -> None:
    player = closed()
    for _ in range(2):
        [history] = calls(figures(player))
        player.put(answer(history.tag, []))
        player.put(Pause(10))
    assert [isinstance(output, Equity) for output in figures(player)] == [True]
    assert [isinstance(output, Equity) for output in figures(player, wallet)] == [explained]


def test_a_wallet_that_was_explained_in_one_gap_is_not_explained_in_the_next_one() -> None:
    player = closed()
    for _ in range(2):
        [history] = calls(figures(player))
        player.put(answer(history.tag, []))
        player.put(Pause(60))
        player.put(Opened(Route.WS, 2))
    player.put(hears(2, pushed_transfer(player, "50")))
    figures(player, "1284.5")
    figures(player)  # 50 have gone, which a connection that is dead by now has not pushed
    player.put(Closed(Route.WS, 2, "gone"))
    player.put(Pause(60))
    assert "/income?" in calls(figures(player))[0].request.target


def test_a_wallet_that_cannot_be_read_is_never_explained() -> None:
    player = closed()
    for _ in range(4):
        [history] = calls(figures(player, "?"))
        player.put(answer(history.tag, []))
        player.put(Pause(10))


@both
def test_a_transfer_that_the_stream_pushes_before_or_after_the_history_shows_it_counts_once(
    stand: VenueProfile,
) -> None:
    player = reopened(stand)
    assert player.put(hears(2, pushed_transfer(player, "50.5"))) == (Transferred("USDT", Decimal("50.5")),)
    [history] = calls(figures(player, "1292"))
    outputs = player.put(answer(history.tag, [row(player, "50.50"), row(player, "7", 2)]))
    assert [one for one in outputs if isinstance(one, Transferred)] == [Transferred("USDT", Decimal(7))]
    assert player.put(hears(2, pushed_transfer(player, "7.0"))) == ()
    assert player.put(hears(2, pushed_transfer(player, "7.00"))) == (Transferred("USDT", Decimal(7)),)


def test_a_history_that_the_venue_refuses_is_named_and_holds_no_figures_back() -> None:
    player = reopened(USDM)
    [history] = calls(figures(player, "1285"))
    said, equity = player.put(answer(history.tag, {"code": -1100, "msg": "Illegal characters."}, 400))
    assert isinstance(said, UnexplainedMessage) and "may be taken for profit or loss" in said.why
    assert isinstance(equity, Equity)


def test_a_history_that_is_lost_is_read_again_and_the_figures_wait_until_the_limit_has_room_for_it() -> None:
    player = reopened(USDM)
    [history] = calls(figures(player, "1285"))
    player.put(CallLost(history.tag, True, "timed out"))
    assert figures(player, "1285") == ()  # the limit has no room for it yet
    player.put(Pause(10))
    assert "/income?" in calls(figures(player, "1285"))[0].request.target


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, {"code": -1008, "msg": "Request throttled."}), (500, {"code": -1000, "msg": "?"}), (0, None)],
)
def test_a_history_that_the_venue_cannot_answer_now_is_read_again_and_after_three_tries_holds_no_figures_back(
    status: int, body: object
) -> None:
    player = reopened(USDM)
    for last in (False, False, True):
        history = calls(figures(player, "1285"))[0]
        assert "/income?" in history.request.target
        assert not player.put(Measure())  # figures do not pass it
        outputs = player.put(answer(history.tag, body, status) if status else CallLost(history.tag, True, "timed out"))
        assert any("profit or loss" in said.why for said in outputs if isinstance(said, UnexplainedMessage)) == last
        assert [isinstance(output, Equity) for output in outputs][-1:] == ([True] if last else [])
        player.put(Pause(10))


def test_both_products_are_one_adapter_with_other_data() -> None:
    for kind in (BinanceUsdm, BinanceCoinm):
        own = {name for name in vars(kind) if not name.startswith("_")}
        assert issubclass(kind, BinanceFutures)
        assert own <= {"NAME", "PRODUCT", "COSTS", "DEMAND", "Options", "COMMANDS"}


def test_the_second_copy_of_a_cancel_is_signed_anew() -> None:
    player = USDM.ready()
    reading(player, [order("A", 1)], [])
    first = calls(player.put(Kill()))[0]
    player.put(Pause(0.06))
    [again] = calls(player.put(VenueTimerFired(first.tag)))
    assert again.request.target != first.request.target and target(again) == target(first)


# ── lists that cannot be read ─────────────────────────────────────────────────────────────────────────────────────────


def is_ready(player: Player) -> bool:
    lane = [output for output in player.outputs if isinstance(output, Ready | NotReady) and output.route is Route.HTTP]
    return isinstance(lane[-1], Ready)


def answer_all(player: Player, outputs: Outputs, **broken: tuple[int, object]) -> None:
    """Answer calls, and those that follow from the answers; the lists named in `broken` as stated."""
    waiting = calls(outputs)
    assert USDM.granted is not None
    for call in waiting:
        status, body = 400 if call.request.method == "DELETE" else 200, USDM.granted(call) or []
        status, body = broken.get(target(call).rpartition("/")[2], (status, body))
        waiting += calls(player.put(answer(call.tag, body, status)))


def test_a_list_that_could_not_be_read_since_the_start_keeps_the_lane_unready_until_it_can() -> None:
    player = USDM.player()
    USDM.log_in(player, 1)
    broken = (400, {"code": -1102, "msg": "Mandatory parameter was not sent."})
    answer_all(player, player.put(Opened(Route.HTTP, 0)), openAlgoOrders=broken)
    assert not player.adapter.book.is_known and not is_ready(player)
    for _ in range(3):
        player.put(Pause(22.5))
        answer_all(player, player.put(Probe()), openAlgoOrders=broken)
        assert not is_ready(player)
    player.put(Pause(22.5))
    answer_all(player, player.put(Probe()))
    assert is_ready(player) and player.adapter.book.open_orders == 0


@pytest.mark.parametrize("broken", ["openOrders", "openAlgoOrders"])
def test_a_list_that_cannot_be_read_keeps_the_lane_unready_though_the_other_list_can(broken: str) -> None:
    player = USDM.ready()
    refused = (400, {"code": -1102, "msg": "Mandatory parameter was not sent."})
    player.put(Pause(121))
    probe = calls(player.put(Probe()))
    [both_lists] = [calls(player.put(answer(call.tag, []))) for call in probe if "symbol=" in target(call)]
    for call in sorted(both_lists, key=lambda call: not target(call).endswith(f"/{broken}")):
        status, body = refused if target(call).endswith(f"/{broken}") else (200, [])
        player.put(answer(call.tag, body, status))
    assert not is_ready(player)
    player.put(Pause(22.5))
    answer_all(player, player.put(Probe()))
    assert is_ready(player)


def test_a_list_whose_answer_was_lost_is_no_refusal_of_the_key() -> None:
    player = USDM.ready()
    player.put(Pause(121))
    [light] = [call for call in calls(player.put(Probe())) if "symbol=" in target(call)]
    for call in calls(player.put(answer(light.tag, []))):
        player.put(CallLost(call.tag, True, "timed out"))
    player.put(Pause(22.5))
    [light] = [call for call in calls(player.put(Probe())) if "symbol=" in target(call)]
    player.put(answer(light.tag, []))
    lane = [output for output in player.outputs if isinstance(output, Ready | NotReady) and output.route is Route.HTTP]
    assert lane[-1] == NotReady(Route.HTTP, 0, "timed out", fatal=False)
