"""Kraken spot's ledger: transfers that no connection has pushed are no profit and no loss."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest

from kill_switch.core.domain import Route
from kill_switch.venues.kraken.ledgers import BEHIND, LATE_MS, LEDGERS, MAX_PAGES, REFUSED_S, UNSEEN
from kill_switch.venues.messages import Call, CallLost, Closed, Equity, Output, Transferred, UnexplainedMessage
from tests.harness.venue_playbook import Measure, Pause, Player, answer, hears
from tests.harness.venue_profiles import STANDS

KRAKEN = STANDS["kraken"]


def calls(outputs: Iterable[Output]) -> list[Output]:
    return [output for output in outputs if isinstance(output, Call)]


def the_call(outputs: Iterable[Output], method: str) -> Call:
    [call] = [output for output in outputs if isinstance(output, Call)]
    assert call.request.target == f"/0/private/{method}"
    return call


def figures(player: Player, outputs: Iterable[Output], worth: str) -> tuple[Output, ...]:
    call = the_call(outputs, "TradeBalance")
    return player.put(answer(call.tag, {"error": [], "result": {"eb": worth, "n": "0"}}))


def entry(player: Player, kind: str, amount: str, asset: str = "ZUSD", ago_s: float = 1.0) -> dict[str, object]:
    at = player.now.wall_ns / 1e9 - ago_s
    return {"refid": "T1", "time": at, "type": kind, "asset": asset, "amount": amount, "fee": "0", "balance": "1"}


def ledger(player: Player, call: Call, count: Any = None, **entries: Any) -> tuple[Output, ...]:
    result = {"ledger": entries, "count": len(entries) if count is None else count}
    return player.put(answer(call.tag, {"error": [], "result": result}))


def measured() -> Player:
    """Return a player whose account was measured, whose WebSocket has closed since, and 30 s later."""
    player = KRAKEN.ready()
    figures(player, player.put(Measure()), "1000")
    player.put(Pause(30))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(30))
    return player


@pytest.mark.parametrize("is_back", [False, True])
def test_a_withdrawal_that_no_connection_has_pushed_is_reported_before_the_figures_that_contain_it(
    is_back: bool,
) -> None:
    player = measured()
    if is_back:
        KRAKEN.log_in(player, 2)
        player.put(Pause(1))
    call = the_call(player.put(Measure()), "Ledgers")
    since_s = int(parse_qs(call.request.body.decode())["start"][0])
    assert since_s == (player.now.wall_ns // 10**9) - (61 if is_back else 60)
    transferred, *rest = ledger(player, call, L1=entry(player, "withdrawal", "-600.0000"))
    assert transferred == Transferred("USD", Decimal("-600.0000"))
    [equity] = figures(player, rest, "400")
    assert isinstance(equity, Equity) and equity.amounts == {"USD": Decimal(400)}
    player.put(Pause(30))
    the_call(player.put(Measure()), "TradeBalance" if is_back else "Ledgers")


def test_an_entry_that_is_no_transfer_or_was_reported_or_is_in_the_first_figures_is_not_reported() -> None:
    player = KRAKEN.ready()
    figures(player, player.put(Measure()), "1000")
    player.put(Pause(30))
    pushed = {"asset": "BTC", "amount": -1, "type": "withdrawal", "ledger_id": "L1", "balance": 1}
    player.put(hears(1, {"channel": "balances", "type": "update", "data": [pushed], "sequence": 2}))
    price = {"error": [], "result": {"PAIR": {"c": ["10", "1"]}}}
    [ticker] = [output for output in player.put(Measure()) if isinstance(output, Call)]
    player.put(answer(ticker.tag, price))
    player.put(Closed(Route.WS, 1, "gone"))
    call = the_call(player.put(Measure()), "Ledgers")
    outputs = ledger(
        player,
        call,
        L1=entry(player, "withdrawal", "-1", "XXBT"),
        L2=entry(player, "trade", "-500"),
        L3=entry(player, "deposit", "7", ago_s=31),
        L4=entry(player, "transfer", "2", "USD.HOLD"),
    )
    assert [output for output in outputs if isinstance(output, Transferred)] == [Transferred("USD", Decimal(2))]


def test_a_ledger_of_several_pages_is_read_to_its_end_as_the_limit_has_room() -> None:
    player = measured()
    call = the_call(player.put(Measure()), "Ledgers")
    asked = parse_qs(call.request.body.decode())
    behind: list[Output] = []
    for page in range(1, 6):
        entries = {f"P{page} {number}": entry(player, "trade", "1") for number in range(50)}
        outputs = ledger(player, call, 251, **entries)
        if not calls(outputs):
            behind += outputs
            player.put(Pause(30))
            assert not player.adapter.budget.wait_s((LEDGERS,), player.now)
            outputs = player.put(Measure())
        call = the_call(outputs, "Ledgers")
        now_asked = parse_qs(call.request.body.decode())
        assert now_asked["ofs"] == [str(50 * page)]
        assert (now_asked["start"], now_asked["end"]) == (asked["start"], asked["end"])
    transferred, *rest = ledger(player, call, 251, L1=entry(player, "deposit", "5"))
    assert transferred == Transferred("USD", Decimal(5))
    assert [fact.why for fact in behind if isinstance(fact, UnexplainedMessage)] == [BEHIND]  # once
    if not rest:
        player.put(Pause(30))
        rest = list(player.put(Measure()))
    call = the_call(rest, "Ledgers")  # the pages had to wait: first the entries since
    since = parse_qs(call.request.body.decode())
    assert since["ofs"] == ["0"] and int(since["start"][0]) == int(asked["end"][0]) - 1 - LATE_MS // 1000
    the_call(ledger(player, call), "TradeBalance")


def test_each_figure_of_a_busy_bot_waits_for_one_page_alone() -> None:
    player = measured()
    for second in range(20):
        player.put(Pause(30))
        call = the_call(player.put(Measure()), "Ledgers")
        if second:
            assert int(parse_qs(call.request.body.decode())["start"][0]) == player.now.wall_ns // 10**9 - 45
        trades = {f"{second} {number}": entry(player, "trade", "1") for number in range(35)}
        figures(player, ledger(player, call, **trades), "1000")


def test_figures_do_not_pass_a_page_that_is_under_way() -> None:
    player = measured()
    KRAKEN.log_in(player, 2)
    the_call(player.put(Measure()), "Ledgers")
    assert not player.put(Measure())


@pytest.mark.parametrize("body", [None, {"error": ["EService:Busy"]}])
def test_figures_go_on_after_a_third_ledger_in_a_row_that_is_lost_or_fails_and_the_log_says_why(body: object) -> None:
    player = measured()
    for number in range(3):
        call = the_call(player.put(Measure()), "Ledgers")
        outputs = player.put(CallLost(call.tag, True, "down") if body is None else answer(call.tag, body))
        assert bool(outputs) == (number == 2)
        player.put(Pause(30))
    unexplained, *rest = outputs
    assert isinstance(unexplained, UnexplainedMessage) and "taken for profit or loss" in unexplained.why
    the_call(rest, "TradeBalance")


def test_a_second_page_that_never_comes_stops_no_figures() -> None:
    player = measured()
    for _ in range(3):
        page = the_call(player.put(Measure()), "Ledgers")
        outputs = ledger(player, page, 60, L1=entry(player, "trade", "1"))
        player.put(Pause(30))  # until the limit has room for the second page
        more = the_call(player.put(Measure()), "Ledgers")
        assert not calls(outputs) and "ofs=1" in more.request.body.decode()
        outputs = player.put(CallLost(more.tag, True, "gone"))
        player.put(Pause(200))
    assert the_call(outputs, "TradeBalance")


def test_a_ledger_that_is_too_long_is_named() -> None:
    player = measured()
    call = the_call(player.put(Measure()), "Ledgers")
    for page in range(MAX_PAGES):
        outputs = ledger(player, call, 5000, **{f"P{page}": entry(player, "trade", "1")})
        if page < MAX_PAGES - 1:
            player.put(Pause(30))
            call = the_call(calls(outputs) or player.put(Measure()), "Ledgers")
    assert isinstance(outputs[0], UnexplainedMessage) and "more entries" in outputs[0].why


def test_a_key_that_may_not_read_the_ledger_is_warned_of_and_still_measured() -> None:
    player = measured()
    refused = {"error": ["EGeneral:Permission denied"]}
    call = the_call(player.put(Measure()), "Ledgers")
    unexplained, *rest = player.put(answer(call.tag, refused))
    assert isinstance(unexplained, UnexplainedMessage) and "taken for profit or loss" in unexplained.why
    assert player.adapter.warnings == (UNSEEN,) and "Query ledger entries" in UNSEEN
    figures(player, rest, "400")
    figures(player, player.put(Measure()), "400")  # it is not asked again at once
    player.put(Pause(REFUSED_S))
    call = the_call(player.put(Measure()), "Ledgers")
    ledger(player, call)
    assert not player.adapter.warnings


@pytest.mark.parametrize("body", [None, {"error": ["EService:Busy"]}, {"error": [], "result": {}}])
def test_figures_wait_for_a_ledger_that_is_lost_or_shows_nothing(body: object) -> None:
    player = measured()
    call = the_call(player.put(Measure()), "Ledgers")
    assert not player.put(CallLost(call.tag, True, "down") if body is None else answer(call.tag, body))
    player.put(Pause(30))
    again = the_call(player.put(Measure()), "Ledgers")
    assert parse_qs(again.request.body.decode())["start"] == parse_qs(call.request.body.decode())["start"]


def test_figures_wait_until_the_limit_has_room_for_the_ledger() -> None:
    player = measured()
    while not player.adapter.budget.wait_s((LEDGERS,), player.now):
        the_call(player.put(Measure()), "Ledgers")
    assert not player.put(Measure())


def test_an_account_whose_balances_are_not_pushed_has_its_transfers_from_the_ledger() -> None:
    player = KRAKEN.ready()
    figures(player, player.put(Measure()), "1000")
    player.put(Closed(Route.WS, 1, "gone"))
    outputs = KRAKEN.open(player, 2)
    for message in KRAKEN.login:
        outputs += player.put(hears(2, message))
    player.put(hears(2, {"method": "subscribe", "req_id": 2, "success": False, "error": "EGeneral:Permission denied"}))
    for number in range(2):
        player.put(Pause(30))
        call = the_call(player.put(Measure()), "Ledgers")
        transferred, *_ = ledger(player, call, **{f"L{number}": entry(player, "deposit", "5")})
        assert transferred == Transferred("USD", Decimal(5))


def test_an_account_without_earlier_figures_reads_no_ledger() -> None:
    player = KRAKEN.ready()
    player.put(Closed(Route.WS, 1, "gone"))
    KRAKEN.log_in(player, 2)
    player.put(Pause(60))
    the_call(player.put(Measure()), "TradeBalance")
    the_call(player.put(Measure()), "TradeBalance")
