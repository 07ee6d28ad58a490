"""A sweep whose read waits for room in its venue's limit: strikes do not take the requests that the read waits for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kill_switch.core import sweep
from kill_switch.core.domain import CancelOutcome, Phase
from kill_switch.core.sweep import (
    OrderAppeared,
    ReadCounted,
    ReadPostponed,
    StrikeAnswered,
    SweepAction,
    SweepTimerFired,
)
from kill_switch.core.sweep_state import Sweep
from tests.harness.core_playbook import TIMING, Theatre, ns

LONG = replace(TIMING, residue_after_s=1000.0)


def read(ms: float, *, asked: float, live: int = 0) -> ReadCounted:
    return ReadCounted(ns(ms), ns(asked), live, 0, True)


def answered(ms: float, answer: CancelOutcome = CancelOutcome.ACCEPTED) -> StrikeAnswered:
    return StrikeAnswered(ns(ms), answer)


def due(ms: float) -> SweepTimerFired:
    return SweepTimerFired(ns(ms))


def postponed(ms: float, leaves: float) -> ReadPostponed:
    return ReadPostponed(ns(ms), ns(leaves))


def after(state: Sweep, *events: sweep.Event) -> Sweep:
    for event in events:
        state, _ = sweep.step(state, event)
    return state


def waiting(answer: CancelOutcome = CancelOutcome.ACCEPTED) -> Sweep:
    """Struck at 0 ms, answered at 100 ms; the read waits until 12 s."""
    return after(sweep.start_sweep(LONG, ns(0)), answered(100, answer), postponed(100, 12_000))


def test_no_strike_leaves_while_the_read_behind_an_answered_strike_waits_for_room(play: Theatre) -> None:
    book = play.sweep(waiting())
    assert book.state.due_ns == ns(12_000 + 5000)
    for ms in (2600, 5200, 11_999):
        assert book >> due(ms)
    assert book >> postponed(12_000, 12_000) >> read(12_100, asked=12_000)
    assert book >> due(12_350) << SweepAction.READ >> read(12_400, asked=12_350) << SweepAction.CLEAR


def test_a_read_that_has_waited_and_is_late_is_followed_by_a_strike(play: Theatre) -> None:
    book = play.sweep(after(waiting(), postponed(12_000, 12_000)))
    assert book >> due(16_999)
    assert book >> due(17_000) << SweepAction.STRIKE


def test_a_late_answer_to_such_a_read_has_the_next_one_wait_for_as_long_as_answers_take(play: Theatre) -> None:
    book = play.sweep(after(waiting(), postponed(12_000, 12_000), due(17_000), answered(17_100)))
    assert book >> read(20_000, asked=12_000)  # 8 s late, and from before the strike
    assert book >> postponed(20_001, 24_000) >> postponed(24_000, 24_000)
    assert book.state.due_ns == ns(24_000 + 32_000)
    assert book >> due(32_000) >> read(32_001, asked=24_000)
    assert book.state.clean_reads_in_a_row == 1


def test_an_answer_to_a_strike_shows_how_long_answers_take_from_when_the_strike_left(play: Theatre) -> None:
    book = play.sweep(after(sweep.start_sweep(LONG, ns(0)), sweep.StrikeSentLate(ns(5000)), due(1000), answered(8000)))
    assert book.state.longest_rtt_ns == ns(3000) - ns(0)
    assert book >> postponed(8001, 12_000) >> postponed(12_000, 12_000)
    assert book.state.due_ns == ns(12_000 + 12_000)


def test_a_strike_waits_half_a_minute_for_a_read_and_no_longer(play: Theatre) -> None:
    book = play.sweep(after(waiting(), postponed(12_000, 90_000)))
    assert book.state.due_ns == ns(30_000)
    assert book >> due(30_000) << SweepAction.STRIKE


@pytest.mark.parametrize("answer", [CancelOutcome.UNKNOWN, CancelOutcome.UNSENT])
def test_a_strike_that_the_venue_has_not_answered_is_repeated_as_soon_as_without_a_read_that_waits(
    play: Theatre, answer: CancelOutcome
) -> None:
    book = play.sweep(waiting(answer))
    assert book.state.due_ns == ns(100 + 2500)
    assert book >> due(2600) << SweepAction.STRIKE


def test_orders_that_reads_go_on_to_show_are_struck_at_the_same_pace_although_reads_wait(play: Theatre) -> None:
    book = play.sweep(after(sweep.start_sweep(LONG, ns(0)), answered(100), read(200, asked=100, live=1)))
    assert book >> due(500) << SweepAction.STRIKE >> answered(600) << SweepAction.READ >> postponed(600, 20_000)
    assert book.state.due_ns == ns(600 + 2500)
    assert book >> due(3100) << SweepAction.READ >> postponed(3100, 20_000)
    assert book >> due(5600) << SweepAction.STRIKE


def test_strikes_wait_for_a_read_half_a_minute_after_an_order_was_seen_last(play: Theatre) -> None:
    late = after(waiting(), OrderAppeared(ns(200)))._replace(struck_ns=ns(30_201), strike_owed=False, due_ns=ns(30_301))
    book = play.sweep(after(late, answered(30_300), postponed(30_300, 50_000)))
    assert book.state.due_ns == ns(50_000 + 5000)


def test_an_order_that_is_pushed_is_struck_after_the_gap_whatever_read_waits(play: Theatre) -> None:
    book = play.sweep(waiting())
    assert book >> OrderAppeared(ns(200))
    assert book.state.due_ns == ns(450)  # a read before the strike, as ever
    assert book >> due(450) << SweepAction.READ >> postponed(450, 12_000)
    assert book.state.due_ns == ns(500)
    assert book >> due(500) << SweepAction.STRIKE


def test_a_read_behind_a_clean_one_that_waits_for_room_ends_no_streak(play: Theatre) -> None:
    lags = replace(LONG, list_lag_s=5.0)
    book = play.sweep(after(sweep.start_sweep(lags, ns(0)), answered(100)))
    assert book >> read(200, asked=100)
    assert book >> due(450) << SweepAction.READ >> postponed(450, 60_000)
    for ms in (5500, 30_000, 59_999):
        assert book >> due(ms)
    assert book.state.clean_reads_in_a_row == 1
    assert book >> postponed(60_000, 60_000) >> read(60_100, asked=60_000) << SweepAction.CLEAR


def test_a_guard_read_that_waits_changes_nothing() -> None:
    guard = after(sweep.start_sweep(LONG, ns(0)), answered(100), read(200, asked=100), read(600, asked=500))
    assert guard.phase is Phase.CLEAR
    assert after(guard, postponed(2600, 4600)) == guard


def test_strikes_go_on_while_a_read_waits_if_a_command_of_the_last_one_is_not_answered(play: Theatre) -> None:
    struck = sweep.start_sweep(LONG, ns(0))._replace(last_news_ns=ns(100))  # by a list
    book = play.sweep(after(struck, due(1000), postponed(1000, 12_000)))
    assert book.state.due_ns < ns(12_000)
    assert book >> due(6000) << SweepAction.STRIKE
