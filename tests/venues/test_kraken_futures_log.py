"""The account log of Kraken derivatives, read behind figures as long as no connection pushes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from kill_switch.core.domain import Route
from kill_switch.venues.kraken_futures.log_reads import LATE_MS, REFUSED_S, UNSEEN, USED_UP
from kill_switch.venues.kraken_futures.signing import authent
from kill_switch.venues.kraken_futures.transfers import DOCUMENTED, UNVALUED_S
from kill_switch.venues.messages import (
    Call,
    CallLost,
    Closed,
    Equity,
    Event,
    Output,
    Received,
    Replied,
    Transferred,
    UnexplainedMessage,
)
from tests.harness.venue_playbook import START, Kill, Measure, Pause, Player, Read, answer, hears

from .test_kraken_futures import ACCOUNTS, FUTURES, UNIFIED, calls_of, entry, logged

FIGURES = {"result": "success", "accounts": ACCOUNTS}
TRANSFER = Transferred("USD", Decimal("-40.5"))
SUBSCRIBED = {"event": "subscribed", "feed": "account_log"}
START_MS = START.wall_ns // 1_000_000
BEFORE, AFTER = "2020-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z"


def asked(player: Player) -> Call:
    """Request figures and answer them; return the request for the log behind them."""
    [figures] = calls_of(player.put(Measure()))
    [log] = calls_of(player.put(answer(figures.tag, FIGURES)))
    return log


def query(call: Call) -> Mapping[str, str]:
    """Return the arguments of a request for the log, without the kinds of rows, which are always the same."""
    found = parse_qsl(urlsplit(call.request.target).query)
    assert [value for name, value in found if name == "info"] == list(DOCUMENTED)
    return {name: value for name, value in found if name != "info"}


def row(number: int, amount: float = -40.5, *, date: str = AFTER, **more: Any) -> dict[str, object]:
    return {**entry(number, amount, **more), "date": date}  # type: ignore[dict-item]


def rows(player: Player, call: Call, *entries: object) -> tuple[Output, ...]:
    return player.put(answer(call.tag, {"accountUid": "an-account", "logs": list(entries)}))


def began(player: Player) -> Player:
    """Let the first figures be reported, with which all later ones are compared."""
    [figures] = calls_of(player.put(Measure()))
    [equity] = player.put(answer(figures.tag, FIGURES))
    assert isinstance(equity, Equity)
    return player


@pytest.fixture(params=["kraken-futures", "unified"])
def player(request: pytest.FixtureRequest) -> Player:
    """Return an account whose log nobody pushes: it is not subscribed yet, or the Unified WebSocket has none."""
    return began((FUTURES if request.param == "kraken-futures" else UNIFIED).ready())


def test_a_transfer_that_no_connection_has_pushed_is_reported_before_figures_with_it(player: Player) -> None:
    log = asked(player)
    assert urlsplit(log.request.target).path == "/api/history/v3/account-log"
    assert query(log) == {"since": str(START_MS), "sort": "asc", "count": "25"}
    assert rows(player, log, row(700)) == (TRANSFER,)  # no equity: these figures may not contain it
    player.put(Pause(100))
    log = asked(player)
    assert query(log)["since"] == str(START_MS)  # for rows that are shown late
    [equity] = rows(player, log, row(700))
    assert isinstance(equity, Equity)
    player.put(Pause(5))
    assert query(asked(player))["since"] == str(START_MS + 100_000 - LATE_MS)


def test_rows_that_come_in_another_order_or_late_are_reported_all_the_same(player: Player) -> None:
    assert rows(player, asked(player), row(9, 1.0), row(8)) == (TRANSFER, Transferred("USD", Decimal("1.0")))
    assert rows(player, asked(player), row(7), row(8), row(9)) == (TRANSFER,)
    assert isinstance(rows(player, asked(player), row(7), row(8), row(9))[0], Equity)


def test_rows_of_before_the_first_figures_are_not_reported_by_the_clock_of_the_venue() -> None:
    player = FUTURES.ready()
    [figures] = calls_of(player.put(Measure()))
    player.put(answer(figures.tag, FIGURES | {"serverTime": "2023-11-14T20:00:00.000Z"}))  # our clock is 2 h ahead
    log = asked(player)
    assert query(log)["since"] == "1699992000000"
    old, new = row(4, date="2023-11-14T19:59:59.999Z"), row(5, date="2023-11-14T20:00:00.001Z")
    assert rows(player, log, new, old) == (TRANSFER,)


def test_a_coin_that_comes_and_is_converted_between_two_figures_is_valued_by_those_that_were_dropped(
    player: Player,
) -> None:
    [figures] = calls_of(player.put(Measure()))
    flex: Any = ACCOUNTS["flex"]
    held = {**flex, "currencies": {**flex["currencies"], "SOL": {"quantity": 10.0, "value": 1500.0}}}
    [log] = calls_of(player.put(answer(figures.tag, {"result": "success", "accounts": ACCOUNTS | {"flex": held}})))
    player.put(Pause(1))
    assert not rows(player, log, row(7, 10.0, asset="sol"))
    player.put(Pause(1))
    transfer, equity = rows(player, asked(player))
    assert transfer == Transferred("USD", Decimal(1500)) and isinstance(equity, Equity)


def test_figures_come_although_each_of_them_is_behind_a_transfer(player: Player) -> None:
    assert len(rows(player, asked(player), row(1))) == 1 and len(rows(player, asked(player), row(2))) == 1
    transfer, equity = rows(player, asked(player), row(3))
    assert transfer == TRANSFER and isinstance(equity, Equity)


def test_transfers_of_the_cash_account_hold_no_figures_up(player: Player) -> None:
    [equity] = rows(player, asked(player), row(1, account="XBT", asset="xbt"))
    assert isinstance(equity, Equity)


def test_a_coin_that_no_figures_can_value_counts_as_profit_in_the_end_and_says_so(player: Player) -> None:
    assert not rows(player, asked(player), row(1, 5.0, asset="sol"))
    player.put(Pause(1))
    [unmeasured] = rows(player, asked(player))
    assert isinstance(unmeasured, UnexplainedMessage) and "no value" in unmeasured.why
    player.put(Pause(UNVALUED_S))
    given_up, equity = rows(player, asked(player))
    assert isinstance(given_up, UnexplainedMessage) and "counts as profit" in given_up.why
    assert isinstance(equity, Equity)


def test_a_request_for_the_log_is_signed_with_its_whole_path_and_its_query() -> None:
    player = began(FUTURES.ready())
    request = asked(player).request
    target = urlsplit(request.target)
    secret = player.adapter._requests._secret  # type: ignore[attr-defined]
    assert request.headers["Authent"] == authent(secret, target.query.encode(), target.path.encode())
    assert request.method == "GET" and request.body == b"" and "Content-Type" not in request.headers


def test_trades_in_the_log_hold_no_figures_up(player: Player) -> None:
    [equity] = rows(player, asked(player), row(7, 3.0, kind="futures trade"), row(8, 1.0, kind="conversion"))
    assert isinstance(equity, Equity)


def snapshot(*entries: object, conn: int = 1) -> Received:
    return hears(conn, {"feed": "account_log_snapshot", "logs": list(entries)})


def test_the_log_is_not_read_while_a_connection_pushes_it_and_is_read_once_that_has_closed() -> None:
    player = FUTURES.ready()
    player.put(snapshot())
    began(player)
    rows(player, asked(player))  # a snapshot that came before the first figures has reported nothing
    began(player)
    player.put(logged(711, -40.5))
    player.put(Closed(Route.WS, 1, "gone"))
    assert query(asked(player))["since"] == str(START_MS)


def test_a_connection_pushes_the_log_from_its_snapshot_on_and_the_log_is_read_once_behind_that() -> None:
    player = began(FUTURES.ready())
    player.put(hears(1, SUBSCRIBED))  # a gap may be in the snapshot that is to come
    rows(player, asked(player))
    player.put(snapshot())
    assert rows(player, asked(player), row(7)) == (TRANSFER,)  # which the snapshot was too short for
    began(player)


def test_a_transfer_between_the_first_figures_and_the_first_snapshot_is_in_the_snapshot() -> None:
    player = began(FUTURES.ready())
    assert player.put(snapshot(row(5), row(4, date=BEFORE))) == (TRANSFER,)
    assert not player.put(snapshot(row(5), row(4, date=BEFORE)))


def test_a_connection_that_closes_and_comes_back_between_two_figures_leaves_a_gap() -> None:
    player = FUTURES.ready()
    player.put(snapshot())
    rows(player, asked(began(player)))
    player.put(Closed(Route.WS, 1, "gone"))
    FUTURES.log_in(player, 2)
    player.put(snapshot(conn=2))
    assert rows(player, asked(player), row(7)) == (TRANSFER,)
    began(player)


def test_a_transfer_in_a_snapshot_that_came_before_the_first_figures_is_read_behind_the_second() -> None:
    player = FUTURES.ready()
    assert not player.put(snapshot(row(5)))
    assert rows(player, asked(began(player)), row(5)) == (TRANSFER,)


def test_a_push_that_the_first_figures_contain_is_no_transfer() -> None:
    player = began(FUTURES.ready())
    assert not player.put(hears(1, {"feed": "account_log", "new_entry": row(5, date=BEFORE)}))


def test_figures_do_not_pass_the_log_that_is_under_way(player: Player) -> None:
    first, second = calls_of(player.put(Measure())), calls_of(player.put(Measure()))
    [log] = calls_of(player.put(answer(first[0].tag, FIGURES)))
    assert player.put(answer(second[0].tag, FIGURES)) == () and player.put(Measure()) == ()
    assert rows(player, log, row(7)) == (TRANSFER,)


def test_a_full_page_is_followed_by_the_next_one(player: Player) -> None:
    [more] = calls_of(rows(player, asked(player), *(row(number, 1.0) for number in range(1, 26))))
    assert query(more) == {"since": str(START_MS), "from": "26", "sort": "asc", "count": "25"}
    assert rows(player, more, row(26)) == (TRANSFER,)


FULL = tuple(row(number, 1.0) for number in range(1, 26))


def test_a_read_for_which_the_pool_has_no_room_goes_on_behind_the_next_figures(player: Player) -> None:
    for _ in range(79):
        rows(player, asked(player))
    assert not calls_of(rows(player, asked(player), *FULL))
    player.put(Pause(7.6))
    assert query(asked(player))["from"] == "26"


def test_a_second_page_that_never_comes_stops_no_figures(player: Player) -> None:
    warned = player.adapter.warnings
    for _ in range(3):
        more = calls_of(rows(player, asked(player), *(row(number, kind="conversion") for number in range(1, 26))))
        facts = player.put(CallLost(more[0].tag, True, "gone"))
    assert isinstance(facts[-1], Equity) and set(player.adapter.warnings) == {*warned, UNSEEN}


def test_figures_come_no_more_often_than_four_fifths_of_the_history_s_pool_allow(player: Player) -> None:
    for _ in range(80):
        rows(player, asked(player))
    assert player.put(Measure()) == ()
    assert calls_of(player.put(Kill())) and calls_of(player.put(Read()))  # a kill draws from another pool
    player.put(Pause(7.6))
    rows(player, asked(player))
    assert player.put(Measure()) == ()


def test_a_key_that_may_not_read_the_log_is_warned_of_and_tried_again_in_ten_minutes(player: Player) -> None:
    warned = player.adapter.warnings
    unseen, equity = player.put(answer(asked(player).tag, {"result": "error", "error": "authenticationError"}))
    assert isinstance(unseen, UnexplainedMessage) and "a transfer may be taken" in unseen.why
    assert isinstance(equity, Equity) and set(player.adapter.warnings) == {*warned, UNSEEN}
    began(player)
    player.put(Pause(REFUSED_S))
    [equity] = rows(player, asked(player))
    assert isinstance(equity, Equity) and player.adapter.warnings == warned


def test_a_key_that_gets_the_right_is_tried_again_behind_the_snapshot_that_shows_it() -> None:
    player = began(FUTURES.ready())
    player.put(answer(asked(player).tag, {"result": "error", "error": "authenticationError"}))
    player.put(snapshot())
    rows(player, asked(player))
    player.put(Closed(Route.WS, 1, "gone"))
    assert rows(player, asked(player), row(7)) == (TRANSFER,)


@pytest.mark.parametrize("fails", [lambda tag: CallLost(tag, True, "gone"), lambda tag: Replied(tag, 429, {}, b"")])
def test_an_account_whose_log_is_pushed_is_measured_although_the_history_api_is_gone(
    fails: Callable[[str], Event],
) -> None:
    player = FUTURES.ready()
    player.put(snapshot())
    began(player)
    facts: tuple[Output, ...] = ()
    while not facts:
        facts = player.put(fails(asked(player).tag))
        player.put(Pause(15))
    assert isinstance(facts[0], UnexplainedMessage) and isinstance(facts[1], Equity)
    began(player)
    assert not player.adapter.warnings


def test_a_refusal_behind_a_snapshot_is_warned_of_once_that_connection_has_closed() -> None:
    player = began(FUTURES.ready())
    player.put(snapshot())
    player.put(answer(asked(player).tag, {"result": "error", "error": "authenticationError"}))
    assert not player.adapter.warnings
    began(player)
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(answer(asked(player).tag, {"result": "error", "error": "authenticationError"}))
    assert player.adapter.warnings == (UNSEEN,)


@pytest.mark.parametrize(
    "lost",
    [
        lambda tag: CallLost(tag, True, "gone"),
        lambda tag: answer(tag, {"result": "success"}),
        lambda tag: answer(tag, {"result": "error", "error": "Unavailable"}),
        lambda tag: answer(tag, {"logs": {}}),
        lambda tag: answer(tag, {"error": "Forbidden"}, 403),
    ],
)
def test_figures_go_on_without_the_log_behind_every_third_answer_that_does_not_show_it(
    lost: Callable[[str], Event], player: Player
) -> None:
    def facts() -> tuple[Output, ...]:
        tag = asked(player).tag
        return (*player.put(lost(tag)), *(player.put(CallLost(tag, True, "gone")) if is_pending(player, tag) else ()))

    warned = player.adapter.warnings
    assert not facts() and not facts() and player.adapter.warnings == warned
    unseen, equity = facts()
    assert isinstance(unseen, UnexplainedMessage) and isinstance(equity, Equity)
    assert set(player.adapter.warnings) == {*warned, UNSEEN}
    assert not facts()  # it is tried again
    assert isinstance(rows(player, asked(player))[0], Equity) and player.adapter.warnings == warned


def is_pending(player: Player, tag: str) -> bool:
    return player.adapter.is_pending(tag)


def test_a_full_pool_holds_figures_up_for_as_long_as_the_venue_says_and_no_other_request(player: Player) -> None:
    warned = player.adapter.warnings
    player.put(Pause(300))
    refused = asked(player)
    assert not player.put(Replied(refused.tag, 429, {"rate-limit-reset": "14"}, b"Rate limited"))
    assert player.put(Measure()) == () and not player.adapter.budget.pause_s(player.now)
    player.put(Pause(14))
    assert player.adapter.warnings == warned
    assert not player.put(Replied(asked(player).tag, 429, {}, b"Rate limited"))  # for over 15 s in all
    assert set(player.adapter.warnings) == {*warned, USED_UP}
    player.put(Pause(15))
    log = asked(player)
    assert query(log) == query(refused)  # from before the gap
    assert rows(player, log, row(7)) == (TRANSFER,) and player.adapter.warnings == warned
    player.put(Pause(300))
    assert not player.put(Replied(asked(player).tag, 429, {"rate-limit-reset": "14"}, b"Rate limited"))
    assert player.adapter.warnings == warned


def test_a_snapshot_does_not_end_the_warning_of_a_full_pool_for_which_figures_wait() -> None:
    player = began(FUTURES.ready())
    player.put(Replied(asked(player).tag, 429, {"rate-limit-reset": "300"}, b"Rate limited"))
    player.put(snapshot())
    assert player.put(Measure()) == () and player.adapter.warnings == (USED_UP,)


@pytest.mark.parametrize("unreadable", ["no row", {"info": "transfer"}, {**row(7), "id": None}])
def test_a_row_without_a_number_is_unexplained_and_holds_no_figures_up(unreadable: object, player: Player) -> None:
    unread, equity = rows(player, asked(player), unreadable)
    assert isinstance(unread, UnexplainedMessage) and isinstance(equity, Equity)
