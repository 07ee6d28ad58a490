"""The account log of Kraken derivatives, read behind figures as long as no connection pushes it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from kill_switch.core.domain import Route
from kill_switch.venues.kraken_futures.log_reads import REFUSED_S, UNSEEN
from kill_switch.venues.kraken_futures.signing import authent
from kill_switch.venues.messages import (
    Call,
    CallLost,
    Closed,
    Equity,
    Output,
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


def asked(player: Player) -> Call:
    """Request figures and answer them; return the request for the log behind them."""
    [figures] = calls_of(player.put(Measure()))
    [log] = calls_of(player.put(answer(figures.tag, FIGURES)))
    return log


def query(call: Call) -> Mapping[str, str]:
    return dict(parse_qsl(urlsplit(call.request.target).query))


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
    assert rows(player, log, entry(7, -40.5)) == (TRANSFER,)  # no equity: these figures may not contain it
    log = asked(player)
    assert query(log) == {"from": "8", "sort": "asc", "count": "25"}
    [equity] = rows(player, log)
    assert isinstance(equity, Equity)


def test_a_request_for_the_log_is_signed_with_its_whole_path_and_its_query() -> None:
    player = began(FUTURES.ready())
    request = asked(player).request
    target = urlsplit(request.target)
    secret = player.adapter._requests._secret  # type: ignore[attr-defined]
    assert request.headers["Authent"] == authent(secret, target.query.encode(), target.path.encode())
    assert request.method == "GET" and request.body == b"" and "Content-Type" not in request.headers


def test_trades_in_the_log_hold_no_figures_up(player: Player) -> None:
    [equity] = rows(player, asked(player), entry(7, 3.0, kind="futures trade"), entry(8, 1.0, kind="conversion"))
    assert isinstance(equity, Equity)


def test_the_log_is_not_read_while_a_connection_pushes_it_and_is_read_once_that_has_closed() -> None:
    player = began(FUTURES.ready())
    player.put(hears(1, SUBSCRIBED))
    began(player)
    player.put(logged(11, 5.0))
    player.put(Closed(Route.WS, 1, "gone"))
    assert query(asked(player))["from"] == "12"


def test_a_transfer_between_the_first_figures_and_the_first_snapshot_is_in_the_snapshot() -> None:
    player = began(FUTURES.ready())
    before, after = ("2020-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z")
    old, new = ({**entry(number, -40.5), "date": date} for number, date in ((4, before), (5, after)))  # type: ignore[dict-item]
    snapshot = {"feed": "account_log_snapshot", "logs": [new, old]}
    assert player.put(hears(1, snapshot)) == (TRANSFER,)
    player.put(Closed(Route.WS, 1, "gone"))
    assert query(asked(player))["from"] == "6"


def test_a_full_page_is_followed_by_a_larger_one(player: Player) -> None:
    [more] = calls_of(rows(player, asked(player), *(entry(number, 1.0, kind="futures trade") for number in range(25))))
    assert query(more) == {"from": "25", "sort": "asc", "count": "50"}
    outputs = rows(player, more, entry(25, -40.5))
    assert outputs == (TRANSFER,)
    assert query(asked(player)) == {"from": "26", "sort": "asc", "count": "50"}  # as many as the last read had


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


@pytest.mark.parametrize("shown", [{"logs": {}}, {"result": "success"}, {"result": "error", "error": "Unavailable"}])
def test_figures_go_on_without_the_log_behind_every_third_answer_that_does_not_show_it(
    shown: dict[str, Any], player: Player
) -> None:
    for _ in range(2):
        log = asked(player)
        if "result" not in shown:  # the starter takes it for no answer
            assert not player.put(CallLost(log.tag, True, "gone"))
        else:
            assert not player.put(answer(log.tag, shown))
    unseen, equity = player.put(answer(asked(player).tag, {"result": "error", "error": "Unavailable"}))
    assert isinstance(unseen, UnexplainedMessage) and isinstance(equity, Equity)
    assert not player.put(CallLost(asked(player).tag, True, "gone"))  # and it is tried again


def test_a_full_pool_pauses_the_log_alone(player: Player) -> None:
    log = asked(player)
    assert not player.put(Replied(log.tag, 429, {"rate-limit-reset": "30"}, b"Rate limited"))
    assert player.put(Measure()) == () and not player.adapter.budget.pause_s(player.now)
    player.put(Pause(60))
    assert calls_of(player.put(Measure()))


def test_a_row_that_cannot_be_read_is_unexplained(player: Player) -> None:
    unread, _ = rows(player, asked(player), ["no row"])
    assert isinstance(unread, UnexplainedMessage)
