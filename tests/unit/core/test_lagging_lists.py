"""A sweep at a venue whose lists may show the account as it was: when that proves it clear, and when it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kill_switch.core import engine, list_lag, sweep, sweep_state
from kill_switch.core.commands import RearmRefused
from kill_switch.core.domain import CancelOutcome, Instant, Phase, SweepTiming
from kill_switch.core.events import RearmAsked
from kill_switch.core.state import AccountState, State
from kill_switch.core.sweep import ReadCounted, StrikeAnswered, SweepAction, SweepTimerFired
from kill_switch.core.sweep_state import Sweep
from tests.harness.core_playbook import TIMING, Theatre, ns

LAGS = replace(TIMING, list_lag_s=2.0)


def read(ms: float, *, asked: float | None = None, live: int = 0, pushed: float | None = None) -> ReadCounted:
    pushed_ns = 0 if pushed is None else ns(pushed)
    return ReadCounted(ns(ms), ns(ms - 1 if asked is None else asked), live, 0, True, pushed_ns)


def answered(ms: float) -> StrikeAnswered:
    return StrikeAnswered(ns(ms), CancelOutcome.ACCEPTED)


def due(ms: float) -> SweepTimerFired:
    return SweepTimerFired(ns(ms))


def after(state: Sweep, *events: sweep.Event) -> Sweep:
    for event in events:
        state, _ = sweep.step(state, event)
    return state


def begun(timing: SweepTiming = LAGS) -> Sweep:
    return after(sweep.start_sweep(timing, ns(0)), answered(100))


def test_clean_reads_prove_an_account_clear_once_they_span_the_time_by_which_its_lists_may_lag(play: Theatre) -> None:
    book = play.sweep(begun())
    for ms in range(200, 2100, 250):
        assert book >> read(ms + 1, asked=ms)
        next_ms = min(ms + 251, 2200)  # the end of the span is not passed by
        assert book.state.phase is Phase.CONFIRMING and book.state.due_ns == ns(next_ms)
        assert book >> due(next_ms) << SweepAction.READ
    assert book >> read(2200, asked=2199)  # 1.999 s after the first
    assert book >> due(2450) << SweepAction.READ
    assert book >> read(2452, asked=2450) << SweepAction.CLEAR


def test_clean_reads_keep_the_venues_gap_where_its_lists_lag_by_less(play: Theatre) -> None:
    book = play.sweep(begun(replace(LAGS, read_gap_s=1.2, list_lag_s=0.6)))
    assert book >> read(201, asked=200)
    assert book.state.due_ns == ns(1401)
    assert book >> read(1300, asked=1299)  # over a second later, and past the lag
    assert book.state.phase is Phase.CONFIRMING and book.state.due_ns == ns(1400)
    assert book >> read(1401, asked=1400) << SweepAction.CLEAR


def test_a_list_that_still_shows_an_order_has_it_struck_again_and_the_span_begins_anew(play: Theatre) -> None:
    book = play.sweep(after(begun(), read(200), read(1000)))
    assert book >> read(1500, live=1) << SweepAction.STRIKE
    assert book >> answered(1600) << SweepAction.READ >> read(1700, asked=1600) >> read(3400, asked=3300)
    assert book.state.phase is Phase.CONFIRMING
    assert book >> read(3700, asked=3600) << SweepAction.CLEAR


def test_an_order_push_of_any_kind_restarts_the_span(play: Theatre) -> None:
    book = play.sweep(after(begun(), read(200), read(1000)))
    assert book >> read(2300, pushed=1200)  # the first clean read since the push
    assert book.state.phase is Phase.CONFIRMING
    assert book >> read(4200, pushed=1200)  # 1.9 s later
    assert book.state.phase is Phase.CONFIRMING
    assert book >> read(4500, pushed=1200) << SweepAction.CLEAR


def test_a_read_asked_for_before_an_order_push_begins_no_span(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> read(300, asked=200, pushed=250)
    assert book.state.clean_reads_in_a_row == 0 and book.state.due_ns == ns(550)


def test_without_a_lag_pushes_and_spans_change_nothing() -> None:
    state = after(begun(TIMING), read(200, pushed=195), read(460, asked=455, pushed=458))
    assert state == after(begun(TIMING), read(200), read(460, asked=455)) and state.phase is Phase.CLEAR


def test_reads_may_wait_for_room_while_only_the_lag_keeps_an_account_from_being_clear() -> None:
    state = after(begun(), read(1500), read(1800))
    assert not sweep_state.read_may_wait_s(begun(), ns(1900))  # the sweep has just begun
    assert sweep_state.read_may_wait_s(state, ns(2500))
    assert not sweep_state.read_may_wait_s(state, ns(3500))  # a read from now on may complete the proof
    without = after(begun(TIMING), read(2500))
    assert not sweep_state.read_may_wait_s(without, ns(2600))


@pytest.mark.parametrize(("live", "due_ms"), [(0, 700), (3, 325)])
def test_a_read_that_a_late_command_has_made_stale_is_repeated_within_the_strikes_gap_and_sooner_if_orders_are_left(
    live: int, due_ms: float
) -> None:
    slow = replace(TIMING, read_gap_s=4.0, strike_gap_s=0.5)
    state = after(begun(slow), sweep.StrikeSentLate(ns(150)), read(200, asked=100, live=live))
    assert state.due_ns == ns(due_ms)


def test_while_no_read_has_counted_a_read_waits_for_no_room() -> None:
    state = after(begun(), sweep.StrikeSentLate(ns(1500)), read(1600, asked=100, live=3))
    assert sweep_state.read_may_wait_s(state, ns(9000)) == 0
    assert sweep_state.read_may_wait_s(after(state, read(8000, live=3)), ns(9000)) > 0
    assert sweep_state.read_may_wait_s(state, ns(10_001)) > 0  # nor do reads that are never answered go on at once


def test_reads_look_out_at_shorter_gaps_than_the_venues_and_at_the_shortest_at_first() -> None:
    state = begun(replace(LAGS, read_gap_s=10.0, list_lag_s=20.0, residue_after_s=45.0))
    for at_ms, due_ms in ((200, 1200), (1300, 2300), (2400, 3400), (3500, 6000), (18_000, 20_199)):
        state = after(state, read(at_ms))
        assert state.due_ns == ns(due_ms)
    assert sweep_state.looks_out(state, ns(20_000)) and not sweep_state.looks_out(state, ns(22_001))
    assert not sweep_state.looks_out(begun(TIMING), ns(200))


def test_an_account_that_waits_for_its_lists_says_so() -> None:
    state = after(begun(), read(200))
    assert list_lag.describe_wait(state) == ""  # a clean read is missing too
    assert list_lag.describe_wait(after(state, read(500))) == (
        "no order is shown; its lists may lag by 2 s, and have to show none for so long, with no order pushed"
    )
    assert list_lag.describe_wait(after(state, read(500), read(2500))) == ""


def test_only_the_lag_is_waited_for_from_a_clean_read_behind_the_last_strike_until_the_proof() -> None:
    struck, clean = begun(), after(begun(), read(200))
    assert not list_lag.waits_for_lag(struck) and list_lag.proof_in_s(struck, ns(300)) == 3
    assert list_lag.proof_in_s(clean, ns(1200)) == 2
    assert list_lag.proof_in_s(clean, ns(5000)) == 1  # reads that were late go on
    left = after(clean, read(500, live=1))
    assert not list_lag.waits_for_lag(left) and list_lag.proof_in_s(left, ns(600)) == 3
    proven = after(clean, read(500), read(2500))
    assert not list_lag.waits_for_lag(proven) and list_lag.proof_in_s(proven, ns(2600)) is None
    without = after(begun(TIMING), read(200))
    assert not list_lag.waits_for_lag(without) and list_lag.proof_in_s(without, ns(300)) is None


def test_a_stop_waits_for_an_unknown_order_for_as_long_as_it_shows_the_likeliest() -> None:
    state = begun(replace(LAGS, read_gap_s=2.5, list_lag_s=20.0, residue_after_s=45.0))
    for at_ms, waits in ((250, False), (1260, False), (2270, False), (3280, True)):
        state = after(state, read(at_ms))
        assert list_lag.waits_for_lag(state) is waits
    assert not list_lag.waits_for_lag(after(state, read(5000, live=1)))


def test_a_deadline_within_the_lag_is_refused() -> None:
    with pytest.raises(ValueError, match=r"residue_after_s is 10 s.* list_lag_s, 10 s"):
        SweepTiming(list_lag_s=10.0)


def test_a_guard_resumed_by_a_new_process_proves_nothing_while_lists_may_show_the_time_before_it() -> None:
    state = after(sweep.resume_guard(LAGS, ns(0)), due(0), read(2, asked=0))
    assert state.phase is Phase.CLEAR and list_lag.proved_ns(state) == 0
    state = after(state, due(2010), read(2020, asked=2010))
    assert list_lag.proved_ns(state) == ns(2010)
    at_once = after(sweep.resume_guard(TIMING, ns(0)), due(0), read(2, asked=0))
    assert list_lag.proved_ns(at_once) == ns(0)


def test_a_resumed_guard_whose_lists_lag_is_not_re_armed_at_once() -> None:
    guard = after(sweep.resume_guard(LAGS, ns(0)), due(0), read(2, asked=0))
    state = State({"a": AccountState(LAGS, guard, "k1")})
    at = Instant(ns(3), 0)
    _, [_, refused] = engine.step(state, RearmAsked(1, "ann", "", ("a",), False, (), at, ns(0)))
    assert isinstance(refused, RearmRefused) and "its lists may lag by 2 s" in refused.reasons[0]


def test_an_account_whose_next_read_comes_after_the_deadline_is_residue_at_the_deadline(play: Theatre) -> None:
    timing = replace(TIMING, read_gap_s=20.0, residue_after_s=3.0)
    state = after(begun(timing), read(200))
    assert (state.due_ns, state.wake_ns) == (ns(20_200), ns(3_000))
    book = play.sweep(state)
    assert book >> due(3_000) << SweepAction.RESIDUE
    assert book.state.wake_ns == book.state.due_ns == ns(20_200)


@pytest.mark.parametrize("asked", [5999.0, 6001.0])
def test_orders_that_a_read_shows_after_a_strike_that_sent_nothing_are_struck_after_the_shortest_gap(
    play: Theatre, asked: float
) -> None:
    """Nothing has left since that could have cancelled them, also if the read was asked for before that strike."""
    residue = sweep.start_sweep(TIMING, ns(0))._replace(phase=Phase.RESIDUE, struck_ns=ns(6000))
    book = play.sweep(residue._replace(reads_before_are_stale_ns=ns(6000)))
    assert book >> StrikeAnswered(ns(6000), CancelOutcome.UNSENT) << SweepAction.READ
    assert book >> ReadCounted(ns(6100), ns(asked), 2, 0, True, 0)
    assert book.state.strike_owed
    assert sweep_state.next_strike_ns(book.state) == ns(6000) + round(TIMING.strike_gap_s * 1e9)


def test_orders_that_a_read_shows_after_a_strike_that_left_wait_for_the_gap(play: Theatre) -> None:
    residue = sweep.start_sweep(TIMING, ns(0))._replace(phase=Phase.RESIDUE, struck_ns=ns(6000))
    book = play.sweep(residue._replace(reads_before_are_stale_ns=ns(6000)))
    assert book >> StrikeAnswered(ns(6000), CancelOutcome.UNKNOWN) << SweepAction.READ
    assert book >> ReadCounted(ns(6100), ns(6001), 2, 0, True, 0)
    assert book.state.strike_owed
    assert sweep_state.next_strike_ns(book.state) > ns(6000) + round(TIMING.strike_gap_s * 1e9)
