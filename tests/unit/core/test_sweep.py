"""One account's sweep: when it strikes, when it reads back, and what proves it clear."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kill_switch.core import sweep, sweep_state
from kill_switch.core.domain import CancelOutcome, Order, OrderState, Phase, SweepTiming
from kill_switch.core.sweep import (
    OrderAppeared,
    ReadCounted,
    Restruck,
    StrikeAnswered,
    StrikeSentLate,
    SweepAction,
    SweepTimerFired,
)
from kill_switch.core.sweep_state import Sweep
from tests.harness.core_playbook import TIMING, Theatre, ns


def begun(pace: SweepTiming = TIMING) -> Sweep:
    """Struck at 0 ms."""
    return sweep.start_sweep(pace, ns(0))


def answered(ms: float, answer: CancelOutcome = CancelOutcome.ACCEPTED) -> StrikeAnswered:
    return StrikeAnswered(ns(ms), answer)


def read(
    ms: float, live: int = 0, pending: int = 0, *, asked: float | None = None, complete: bool = True
) -> ReadCounted:
    return ReadCounted(ns(ms), ns(ms - 1 if asked is None else asked), live, pending, complete)


def seen(ms: float) -> OrderAppeared:
    return OrderAppeared(ns(ms))


def due(ms: float) -> SweepTimerFired:
    return SweepTimerFired(ns(ms))


def after(state: Sweep, *events: sweep.Event) -> Sweep:
    for event in events:
        state, _ = sweep.step(state, event)
    return state


def guarding() -> Sweep:
    """Proven clear at 500 ms."""
    state = after(begun(), answered(100), read(200), due(450), read(500))
    assert state.phase is Phase.CLEAR
    return state


# ── from the strike to the proof ──────────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_followed_by_a_read_back_at_once(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book.state.due_ns == ns(1000)
    assert book >> answered(100) << SweepAction.READ
    assert book.state.phase is Phase.CONFIRMING
    assert book.state.due_ns == ns(100 + 2500)


def test_a_guard_that_cannot_read_is_clear_no_more_and_strikes(play: Theatre) -> None:
    book = play.sweep(guarding())
    for ms in (2500, 4501, 6502):  # two rounds of the guard and the time of a read: 6.5 s
        assert book >> due(ms) << SweepAction.READ
        assert book >> read(ms + 1, complete=False)
        assert book.state.phase is Phase.CLEAR
    assert book >> due(8503) << SweepAction.READ
    assert book >> read(8504, complete=False) << SweepAction.STRIKE
    assert book.state.phase is Phase.STRIKING


def test_a_guard_read_that_never_comes_back_is_clear_no_more_either(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert book >> due(2500) << SweepAction.READ
    assert book >> due(5000) << SweepAction.READ
    assert book >> due(7500) << SweepAction.STRIKE
    assert book.state.phase is Phase.STRIKING


def test_a_guard_whose_reads_fail_late_and_cross_each_other_is_clear_no_more_when_it_is_blind(play: Theatre) -> None:
    slow = begun(replace(TIMING, read_within_s=4.0))
    book = play.sweep(after(slow, answered(100), read(200), due(450), read(500)))
    assert book >> due(2500) << SweepAction.READ
    assert book >> due(6500) << SweepAction.READ  # the first has not come back
    assert book >> read(7500, asked=2500, complete=False)  # now it has, from a name server that hung
    assert book >> due(9500) << SweepAction.STRIKE  # the second is under way, and not late yet: blind is blind


def test_the_first_read_waits_longer_the_more_accounts_are_struck_together_and_later_ones_do_not(
    play: Theatre,
) -> None:
    pace = replace(TIMING, read_after_s=0.025)
    book = play.sweep(sweep.start_sweep(pace, ns(0), together=101))
    assert book >> answered(100)
    assert book.state.due_ns == ns(150)
    assert sweep.step(book.state, sweep.Restruck(ns(200)))[0].stagger_ns == 0


def test_the_read_back_waits_for_other_accounts_answers_where_the_pace_says_so(play: Theatre) -> None:
    book = play.sweep(begun(replace(TIMING, read_after_s=0.025)))
    assert book >> answered(100)
    assert book.state.due_ns == ns(125)
    assert book >> due(125) << SweepAction.READ


def test_the_read_back_that_waits_is_not_later_than_a_strike_that_is_owed(play: Theatre) -> None:
    pace = replace(TIMING, read_after_s=1.0)
    book = play.sweep(after(begun(pace), seen(10)))
    owed_ns = book.state.due_ns
    assert book >> answered(20)
    assert book.state.due_ns == owed_ns


@pytest.mark.parametrize("answer", list(CancelOutcome))
def test_no_answer_of_any_kind_ends_the_work(play: Theatre, answer: CancelOutcome) -> None:
    book = play.sweep(begun())
    assert book >> answered(100, answer) << SweepAction.READ
    assert book.state.phase is Phase.CONFIRMING


def test_two_clean_reads_in_a_row_prove_the_account_clear(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200, asked=100)
    assert (book.state.phase, book.state.due_ns) == (Phase.CONFIRMING, ns(450))
    assert book >> due(450) << SweepAction.READ >> read(500) << SweepAction.CLEAR
    assert (book.state.phase, book.state.orders_left, book.state.due_ns) == (Phase.CLEAR, 0, ns(2500))


def test_one_clean_read_is_enough_where_the_pace_says_so(play: Theatre) -> None:
    assert (
        play.sweep(begun(SweepTiming(clean_reads=1)))
        >> answered(100)
        << SweepAction.READ
        >> read(200)
        << SweepAction.CLEAR
    )


def test_no_answer_in_time_is_read_back_all_the_same(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> due(1000) << SweepAction.READ
    assert book.state.phase is Phase.CONFIRMING


def test_a_strike_that_is_never_answered_is_still_proven_clear(play: Theatre) -> None:
    assert (
        play.sweep(begun())
        >> due(1000) << SweepAction.READ
        >> read(1050)
        >> due(1300) << SweepAction.READ
        >> read(1350) << SweepAction.CLEAR
    )  # fmt: skip


def test_a_timer_that_is_too_early_does_nothing(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> due(999.999)
    assert book.state == begun()


def test_an_answer_that_comes_during_the_read_asks_for_no_second_read(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> due(1000) << SweepAction.READ >> answered(1010)
    assert book.state.due_ns == ns(3500)


def test_a_second_answer_while_reading_changes_nothing(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ
    before = book.state
    assert book >> answered(101)
    assert book.state == before._replace(last_news_ns=ns(101))


# ── reads that do not count ───────────────────────────────────────────────────────────────────────────────────────


def test_a_read_asked_for_before_the_strike_never_counts(play: Theatre) -> None:
    book = play.sweep(begun(SweepTiming(clean_reads=1)))
    assert book >> read(50, asked=-1) >> read(60, asked=-0.001)
    assert (book.state.phase, book.state.clean_reads_in_a_row) == (Phase.STRIKING, 0)


def test_a_read_asked_for_at_the_instant_of_the_strike_counts(play: Theatre) -> None:
    assert play.sweep(begun(SweepTiming(clean_reads=1))) >> read(60, asked=0) << SweepAction.CLEAR


def test_a_read_asked_for_before_the_second_strike_never_counts(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(600, live=1, asked=100) << SweepAction.STRIKE
    assert book >> read(700, asked=599)
    assert (book.state.phase, book.state.clean_reads_in_a_row, book.state.orders_left) == (Phase.STRIKING, 0, 1)


def test_a_read_asked_for_while_a_strike_was_owed_never_counts_after_that_strike(play: Theatre) -> None:
    book = play.sweep(begun(SweepTiming(clean_reads=1)))
    assert book >> seen(100) >> due(350) << SweepAction.READ >> due(500) << SweepAction.STRIKE >> read(510, asked=350)
    assert (book.state.phase, book.state.clean_reads_in_a_row) == (Phase.STRIKING, 0)


def test_a_read_asked_for_before_another_reason_struck_never_counts(play: Theatre) -> None:
    book = play.sweep(begun(SweepTiming(clean_reads=1)))
    assert book >> answered(100) << SweepAction.READ >> Restruck(ns(150)) << SweepAction.STRIKE >> read(160, asked=100)
    assert book.state.phase is Phase.STRIKING


def test_a_strike_voids_the_clean_reads_before_it(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200) >> Restruck(ns(250)) << SweepAction.STRIKE
    assert book >> read(600, asked=590)
    assert (book.state.phase, book.state.clean_reads_in_a_row) == (Phase.STRIKING, 1)


def test_a_read_asked_for_before_an_order_was_seen_never_counts(play: Theatre) -> None:
    book = play.sweep(begun(SweepTiming(clean_reads=1)))
    assert book >> answered(100) << SweepAction.READ >> seen(150) >> read(160, asked=100)
    assert (book.state.clean_reads_in_a_row, book.state.orders_left, book.state.strike_owed) == (0, 1, True)


def test_a_clean_read_that_overtakes_a_newer_one_with_orders_never_counts(play: Theatre) -> None:
    book = play.sweep(begun(SweepTiming(clean_reads=1)))
    assert book >> answered(100) << SweepAction.READ
    assert book >> read(210, live=1, asked=200) >> read(220, asked=100)
    assert (book.state.phase, book.state.orders_left, book.state.strike_owed) == (Phase.CONFIRMING, 1, True)


def test_a_clean_read_that_overtakes_a_newer_one_with_pending_cancels_never_counts(play: Theatre) -> None:
    book = play.sweep(begun(SweepTiming(clean_reads=1)))
    assert book >> answered(100) << SweepAction.READ >> read(210, pending=1, asked=200) >> read(220, asked=100)
    assert (book.state.phase, book.state.orders_left) == (Phase.CONFIRMING, 1)


def test_a_read_asked_for_before_a_late_byte_left_never_counts(play: Theatre) -> None:
    book = play.sweep(begun(SweepTiming(clean_reads=1)))
    assert book >> answered(100) << SweepAction.READ >> StrikeSentLate(ns(150)) >> read(160, asked=100)
    assert (book.state.phase, book.state.due_ns) == (Phase.CONFIRMING, ns(410))
    assert book >> due(410) << SweepAction.READ >> read(450, asked=410) << SweepAction.CLEAR


def test_a_byte_that_left_late_voids_clean_reads_before_it(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200)
    assert book.state.clean_reads_in_a_row == 1
    assert book >> StrikeSentLate(ns(210))
    assert book.state.clean_reads_in_a_row == 0


def test_news_of_an_earlier_departure_does_not_make_older_reads_count(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> seen(150) >> StrikeSentLate(ns(120))
    assert book.state.reads_before_are_stale_ns == ns(150)


def test_a_live_read_between_clean_ones_starts_the_count_again(play: Theatre) -> None:
    assert (
        play.sweep(begun())
        >> answered(100) << SweepAction.READ
        >> read(200)
        >> due(450) << SweepAction.READ
        >> read(500, live=1) << SweepAction.STRIKE
        >> answered(510) << SweepAction.READ
        >> read(520)
        >> due(770) << SweepAction.READ
        >> read(780) << SweepAction.CLEAR
    )  # fmt: skip


def test_two_clean_reads_at_nearly_the_same_instant_prove_no_more_than_one(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200, asked=100) >> read(201, asked=150)
    assert (book.state.phase, book.state.clean_reads_in_a_row) == (Phase.CONFIRMING, 1)
    assert book.state.due_ns == ns(350)
    assert book >> due(350) << SweepAction.READ >> read(360) << SweepAction.CLEAR


def test_an_unrequested_read_does_not_end_the_read_under_way(play: Theatre) -> None:
    book = play.sweep(begun(SweepTiming(clean_reads=3)))
    assert book >> answered(100) << SweepAction.READ >> read(600, asked=100) >> due(850) << SweepAction.READ
    assert book >> read(860, asked=845)  # a probe's, asked for just before ours
    assert book >> due(1110) << SweepAction.READ  # and not a strike: ours has had 260 ms of its 2500


# ── something is left ─────────────────────────────────────────────────────────────────────────────────────────────


def test_orders_left_are_struck_again_once_the_gap_is_over(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200, live=2)
    assert (book.state.strike_owed, book.state.orders_left, book.state.due_ns) == (True, 2, ns(450))
    assert book >> due(450) << SweepAction.READ  # the venue may have needed a moment
    assert book.state.due_ns == ns(500)
    assert book >> due(500) << SweepAction.STRIKE
    assert (book.state.strikes, book.state.strike_owed, book.state.struck_ns) == (2, False, ns(500))


def test_a_clean_read_before_the_gap_is_over_spares_the_second_strike(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200, live=2) >> due(450) << SweepAction.READ >> read(460)
    assert (book.state.strike_owed, book.state.clean_reads_in_a_row, book.state.due_ns) == (False, 1, ns(710))
    assert book >> due(710) << SweepAction.READ >> read(720) << SweepAction.CLEAR


def test_orders_left_after_the_gap_are_struck_at_once(play: Theatre) -> None:
    assert play.sweep(begun()) >> answered(100) << SweepAction.READ >> read(500, live=1) << SweepAction.STRIKE


def test_an_answer_while_a_strike_is_owed_keeps_the_appointment(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> seen(300) >> answered(310) << SweepAction.READ
    assert (book.state.strike_owed, book.state.due_ns) == (True, ns(500))
    assert book >> due(500) << SweepAction.STRIKE


def test_a_read_that_fails_is_taken_for_orders_left(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200, complete=False)
    assert (book.state.strike_owed, book.state.orders_left) == (True, None)
    assert book >> due(450) << SweepAction.READ >> due(500) << SweepAction.STRIKE


def test_a_read_that_fails_after_the_gap_strikes_at_once(play: Theatre) -> None:
    assert play.sweep(begun()) >> answered(100) << SweepAction.READ >> read(600, complete=False) << SweepAction.STRIKE


@pytest.mark.parametrize("answer", [None, CancelOutcome.UNKNOWN, CancelOutcome.UNSENT])
def test_a_venue_from_which_nothing_at_all_comes_back_is_struck_again(
    play: Theatre, answer: CancelOutcome | None
) -> None:
    book = play.sweep(begun() if answer is None else after(begun(), answered(900, answer)))
    if answer is None:
        assert book >> due(1000) << SweepAction.READ
    asked_ms = 1000 if answer is None else 900
    assert book >> due(asked_ms + 2500) << SweepAction.STRIKE
    assert (book.state.clean_reads_in_a_row, book.state.read_asked_ns) == (0, 0)


@pytest.mark.parametrize("answer", [CancelOutcome.ACCEPTED, CancelOutcome.REFUSED])
def test_a_late_read_of_a_venue_that_has_answered_the_strike_is_asked_for_once_more_and_is_no_strike(
    play: Theatre, answer: CancelOutcome
) -> None:
    book = play.sweep(begun())
    assert book >> answered(100, answer) << SweepAction.READ >> due(2600) << SweepAction.READ
    assert book >> read(5100, asked=100)  # late, and clean: it was asked for behind the strike
    assert (book.state.clean_reads_in_a_row, book.state.strikes) == (1, 1)
    assert book >> read(7600, asked=2600) << SweepAction.CLEAR


def test_a_venue_that_has_answered_once_and_falls_silent_is_struck_again(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> due(2600) << SweepAction.READ >> due(5100) << SweepAction.STRIKE


def test_a_late_read_keeps_the_clean_one_before_it(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200) >> due(450) << SweepAction.READ
    assert book >> due(2950) << SweepAction.READ
    assert (book.state.clean_reads_in_a_row, book.state.strike_owed) == (1, False)
    assert book >> read(3000, asked=2950) << SweepAction.CLEAR


def test_an_answer_to_the_strike_before_shows_that_the_venue_is_there(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> due(1000) << SweepAction.READ >> due(3500) << SweepAction.STRIKE >> due(4500) << SweepAction.READ
    assert book >> answered(5000) >> read(6000, asked=1000)  # to the first strike; and a read that is stale
    assert (book.state.clean_reads_in_a_row, book.state.longest_rtt_ns) == (0, ns(5000) - ns(0))
    assert book >> due(7000) << SweepAction.READ  # and no third strike
    assert book >> read(9500, asked=4500) >> read(12_000, asked=7000) << SweepAction.CLEAR
    assert book.state.strikes == 2


def test_a_read_that_may_be_the_last_is_waited_for_as_long_as_reads_have_taken(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> due(2600) << SweepAction.READ >> read(5100, asked=100)
    assert book.state.due_ns == ns(5350)
    assert book >> due(5350)  # the second is under way, and has ten seconds
    assert book.state.due_ns == ns(2600 + 10_000)


def test_a_guard_whose_reads_take_long_stays_clear_and_one_that_falls_silent_then_does_not(play: Theatre) -> None:
    book = play.sweep(after(begun(), answered(100), due(2600), read(5100, asked=100), read(7600, asked=2600)))
    assert book.state.phase is Phase.CLEAR
    at = 9600
    for _ in range(5):
        assert book >> due(at) << SweepAction.READ >> read(at + 5000, asked=at)
        assert book.state.phase is Phase.CLEAR
        at += 7000
    assert book >> due(at) << SweepAction.READ >> due(at + 10_000) << SweepAction.STRIKE


def test_the_bounds_follow_the_round_trips_down_again(play: Theatre) -> None:
    book = play.sweep(after(begun(), answered(100), due(2600), read(5100, asked=100), read(7600, asked=2600)))
    at = 9600
    while book.state.longest_rtt_ns > ns(1000) - ns(0):
        assert book >> due(at) << SweepAction.READ >> read(at + 10, asked=at)
        at += 2010
    assert at < 25_000
    assert book >> due(at) << SweepAction.READ
    assert book.state.due_ns == ns(at + 2500)


def test_no_round_trip_makes_the_bound_longer_than_a_lane_waits(play: Theatre) -> None:
    book = play.sweep(after(begun(), answered(100), due(2600), read(90_000, asked=2600)))
    assert book >> due(90_250) << SweepAction.READ
    assert book.state.due_ns == ns(90_250 + 30_000)


def test_an_incomplete_read_that_shows_live_orders_says_how_many_at_least(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(200, live=2, pending=1, complete=False)
    assert (book.state.orders_left, book.state.strike_owed) == (3, True)


def test_an_order_that_is_pushed_while_striking_is_struck_after_the_gap(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> seen(100)
    assert (book.state.strike_owed, book.state.due_ns) == (True, ns(350))
    assert book >> due(350) << SweepAction.READ >> due(500) << SweepAction.STRIKE


def test_pushes_in_quick_succession_do_not_put_the_strike_off(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> seen(100) >> seen(300) >> seen(499)
    assert book.state.due_ns == ns(500)
    assert book >> seen(500) << SweepAction.STRIKE


def test_another_reason_strikes_whatever_the_gap(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> Restruck(ns(1)) << SweepAction.STRIKE
    assert (book.state.strikes, book.state.struck_ns, book.state.phase) == (2, ns(1), Phase.STRIKING)


# ── pending cancels ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pending_cancel_is_neither_clean_nor_struck(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(600, pending=1)
    assert (book.state.phase, book.state.orders_left, book.state.clean_reads_in_a_row) == (Phase.CONFIRMING, 1, 0)
    assert book.state.due_ns == ns(850)


def test_a_cancel_that_stays_pending_for_too_long_is_struck_again(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(600, pending=1) >> due(850) << SweepAction.READ
    assert (
        book
        >> read(900, pending=1)
        >> due(1150)
        << SweepAction.READ
        >> read(1599, pending=1)
        >> due(1849)
        << SweepAction.READ
    )
    assert book >> read(1850, pending=1) << SweepAction.STRIKE
    assert book.state.pending_since_ns == 0


def test_a_pending_cancel_that_ends_needs_all_clean_reads_after_it(play: Theatre) -> None:
    assert (
        play.sweep(begun())
        >> answered(100) << SweepAction.READ
        >> read(200)
        >> due(450) << SweepAction.READ
        >> read(460, pending=1)
        >> due(710) << SweepAction.READ
        >> read(720)
        >> due(970) << SweepAction.READ
        >> read(980) << SweepAction.CLEAR
    )  # fmt: skip


def test_a_pending_cancel_spares_a_strike_that_was_owed(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> seen(100) >> read(200, pending=1)
    assert (book.state.strike_owed, book.state.phase) == (False, Phase.CONFIRMING)


# ── RESIDUE ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_missed_deadline_is_announced_once_and_the_sweep_goes_on(play: Theatre) -> None:
    book = play.sweep(begun())
    assert book >> answered(100) << SweepAction.READ >> read(9999.999, live=1) << SweepAction.STRIKE
    assert book >> answered(10_000) << SweepAction.READ << SweepAction.RESIDUE
    assert book.state.phase is Phase.RESIDUE
    assert book >> read(10_100, live=1)
    assert book >> due(10_725) << SweepAction.READ >> due(12_500) << SweepAction.STRIKE
    assert book.state.phase is Phase.RESIDUE


def test_reads_in_residue_keep_a_quarter_of_the_strikes_gap(play: Theatre) -> None:
    for live, pending in ((1, 0), (0, 1)):
        long = begun(replace(TIMING, answer_within_s=1000.0))._replace(phase=Phase.RESIDUE, struck_ns=ns(60_000))
        book = play.sweep(long._replace(reads_before_are_stale_ns=ns(60_000), due_ns=ns(60_000)))
        assert book >> due(60_000) << SweepAction.READ >> read(60_010, live, pending, asked=60_000)
        assert book.state.due_ns == ns(60_010 + 1250)


def test_reads_of_a_sweep_that_gets_nowhere_may_wait_and_none_of_a_proof() -> None:
    nowhere = after(begun(), answered(100), read(200, live=1))
    assert sweep_state.read_may_wait_s(nowhere, ns(2000)) == 0  # a kill's first reads
    assert sweep_state.read_may_wait_s(nowhere, ns(2001)) == sweep_state.LONGEST_WAIT_S
    assert sweep_state.read_may_wait_s(after(nowhere, due(10_000)), ns(10_001)) == sweep_state.LONGEST_WAIT_S
    assert (
        sweep_state.read_may_wait_s(nowhere, ns(5000), ns(3000)) == sweep_state.LONGEST_WAIT_S - 2
    )  # it waits already
    assert sweep_state.read_may_wait_s(nowhere, ns(60_000), ns(3000)) == 0
    clean = after(nowhere, due(500), answered(600), read(5000, asked=4999))
    assert clean.clean_reads_in_a_row == 1 and sweep_state.read_may_wait_s(clean, ns(5001)) == 0
    assert sweep_state.read_may_wait_s(after(guarding(), seen(60_000)), ns(61_000)) == 0  # it begins anew


def test_a_guard_read_that_waits_one_more_interval_still_comes_before_the_account_is_struck_again() -> None:
    guard = guarding()
    may_wait_s = sweep_state.read_may_wait_s(guard, ns(60_000))
    assert may_wait_s == TIMING.guard_every_s
    asked, actions = sweep.step(guard, SweepTimerFired(guard.due_ns))
    assert actions == (SweepAction.READ,)
    waited_ns = guard.due_ns + int(may_wait_s * 1e9)
    late, actions = sweep.step(asked, SweepTimerFired(waited_ns + int(TIMING.read_within_s * 0.9e9)))
    assert (late.phase, SweepAction.STRIKE in actions) == (Phase.CLEAR, False)


def test_a_longer_interval_counts_from_now_on_and_moves_the_limit_for_an_old_proof() -> None:
    slow = replace(TIMING, guard_every_s=60.0)
    paced, actions = sweep.step(guarding(), sweep.Paced(ns(60_000), slow))
    assert (actions, paced.timing, paced.due_ns) == ((), slow, guarding().due_ns)
    unread = read(100_000, asked=99_999, complete=False)
    assert sweep.step(paced, unread)[0].phase is Phase.CLEAR
    assert sweep.step(guarding(), unread)[0].phase is not Phase.CLEAR


def test_silence_alone_leads_to_residue(play: Theatre) -> None:
    book = play.sweep(begun())
    acts: list[SweepAction] = []
    ms, strikes = 0.0, 1
    while book.state.phase is not Phase.RESIDUE:
        ms = (book.state.due_ns - ns(0)) / 1e6
        book.state, done = sweep.step(book.state, due(ms))
        acts += done
        strikes += done.count(SweepAction.STRIKE)
    assert 10_000 <= ms < 10_000 + 2500
    assert acts[-1] is SweepAction.RESIDUE
    assert strikes == book.state.strikes == 4  # at 0, 3500, 7000 and 10500 ms


@pytest.mark.parametrize(
    ("struck_ms", "gap_ms"),
    [(1_000, 500), (2_000, 500), (4_000, 1_000), (10_000, 2_500), (20_000, 5_000), (3_600_000, 5_000)],
)
def test_the_gap_grows_with_the_residue_up_to_the_cap(play: Theatre, struck_ms: float, gap_ms: float) -> None:
    stuck = begun()._replace(phase=Phase.RESIDUE, struck_ns=ns(struck_ms), reads_before_are_stale_ns=ns(struck_ms))
    book = play.sweep(stuck)
    assert book >> seen(struck_ms + gap_ms - 0.001)
    assert book.state.strike_owed
    assert book >> seen(struck_ms + gap_ms) << SweepAction.STRIKE


def test_residue_ends_with_the_same_clean_reads(play: Theatre) -> None:
    stuck = begun()._replace(phase=Phase.RESIDUE, due_ns=ns(10_000))
    book = play.sweep(stuck)
    assert (
        book
        >> due(10_000)
        << SweepAction.READ
        >> read(10_100)
        >> due(10_350)
        << SweepAction.READ
        >> read(10_400)
        << SweepAction.CLEAR
    )
    assert book.state.phase is Phase.CLEAR


def test_residue_stays_residue_while_cancels_are_pending(play: Theatre) -> None:
    book = play.sweep(begun()._replace(phase=Phase.RESIDUE))
    assert book >> read(10_100, pending=1)
    assert book.state.phase is Phase.RESIDUE


def test_another_reason_strikes_residue_without_hiding_it(play: Theatre) -> None:
    book = play.sweep(begun()._replace(phase=Phase.RESIDUE))
    assert book >> Restruck(ns(10_100)) << SweepAction.STRIKE
    assert book.state.phase is Phase.RESIDUE


# ── the guard ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_guard_reads_for_ever_and_says_nothing_while_all_is_clean(play: Theatre) -> None:
    book = play.sweep(guarding())
    for ms in range(2500, 20_000, 2000):
        assert book >> due(ms) << SweepAction.READ >> read(ms, asked=ms)
        assert (book.state.phase, book.state.due_ns) == (Phase.CLEAR, ns(ms + 2000))


def test_a_guard_read_that_is_lost_is_asked_again_and_is_no_strike(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert book >> due(2500) << SweepAction.READ >> due(5000) << SweepAction.READ >> read(5100, complete=False)
    assert (book.state.phase, book.state.due_ns) == (Phase.CLEAR, ns(7100))


def test_a_clean_guard_read_is_proof_for_as_long_again(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert book >> read(5000) >> read(11_498, complete=False)
    assert book.state.phase is Phase.CLEAR


def test_a_resumed_guard_has_its_time_to_read(play: Theatre) -> None:
    book = play.sweep(sweep.resume_guard(TIMING, ns(60_000)))
    assert book >> due(60_000) << SweepAction.READ >> due(62_500) << SweepAction.READ >> due(65_000) << SweepAction.READ
    assert book >> due(67_500) << SweepAction.STRIKE


def test_an_order_seen_while_clear_is_struck_at_once(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert book >> seen(600) << SweepAction.STRIKE
    assert (book.state.phase, book.state.orders_left, book.state.began_ns) == (Phase.STRIKING, 1, ns(600))


def test_an_order_seen_right_after_a_strike_waits_for_the_gap(play: Theatre) -> None:
    quick = after(begun(SweepTiming(clean_reads=1)), answered(10), read(20))
    assert quick.phase is Phase.CLEAR
    book = play.sweep(quick)
    assert book >> seen(30)
    assert (book.state.phase, book.state.strike_owed, book.state.due_ns) == (Phase.STRIKING, True, ns(280))
    assert book >> due(280) << SweepAction.READ >> due(500) << SweepAction.STRIKE


def test_a_guard_read_that_finds_an_order_strikes(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert book >> due(2500) << SweepAction.READ >> read(2600, live=4) << SweepAction.STRIKE
    assert (book.state.phase, book.state.orders_left) == (Phase.STRIKING, 4)


def test_an_incomplete_guard_read_that_shows_a_live_order_strikes(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert book >> due(2500) << SweepAction.READ >> read(2600, live=1, complete=False) << SweepAction.STRIKE
    assert book.state.phase is Phase.STRIKING


def test_a_guard_read_that_finds_a_pending_cancel_confirms_anew(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert book >> due(2500) << SweepAction.READ >> read(2600, pending=1)
    assert (book.state.phase, book.state.began_ns) == (Phase.CONFIRMING, ns(2600))
    assert (
        book
        >> due(2850)
        << SweepAction.READ
        >> read(2900)
        >> due(3150)
        << SweepAction.READ
        >> read(3160)
        << SweepAction.CLEAR
    )


def test_a_guard_that_reopens_has_the_whole_deadline_again(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert (
        book
        >> seen(60_000)
        << SweepAction.STRIKE
        >> answered(60_100)
        << SweepAction.READ
        >> read(69_999, live=1)
        << SweepAction.STRIKE
    )
    assert book.state.phase is Phase.STRIKING
    assert book >> answered(70_000) << SweepAction.READ << SweepAction.RESIDUE


def test_a_late_answer_does_not_disturb_the_guard(play: Theatre) -> None:
    book = play.sweep(guarding())
    assert book >> answered(600)
    assert book.state == guarding()._replace(last_news_ns=ns(600))


def test_a_resumed_guard_reads_at_once_and_may_strike_at_once(play: Theatre) -> None:
    resumed = sweep.resume_guard(TIMING, ns(0), strikes=3)
    assert (resumed.phase, resumed.orders_left, resumed.due_ns) == (Phase.CLEAR, 0, ns(0))
    book = play.sweep(resumed)
    assert book >> due(0) << SweepAction.READ >> read(0, live=1, asked=0) << SweepAction.STRIKE
    assert book.state.strikes == 4


# ── what counts for a sweep ───────────────────────────────────────────────────────────────────────────────────────


def test_live_and_pending_orders_are_counted_and_those_that_are_gone_are_not() -> None:
    orders = [
        Order("1", "BTC", OrderState.LIVE, "open"),
        Order("2", "BTC", OrderState.PENDING, "cancelling"),
        Order("3", "BTC", OrderState.GONE, "filled"),
        Order("4", "BTC", OrderState.LIVE, "untriggered"),
    ]
    assert sweep.count_read(orders, True, 5, 7) == ReadCounted(7, 5, 2, 1, True)
    assert sweep.count_read((), False, 5, 7) == ReadCounted(7, 5, 0, 0, False)
