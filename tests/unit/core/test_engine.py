"""The state table, cell by cell, as scripts of events and the commands that must follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kill_switch.core import engine, sweep
from kill_switch.core.commands import AppendRecord, PulseAnswered, ReadOrders, RearmGranted, RearmPending, RearmRefused
from kill_switch.core.domain import CancelOutcome, Phase, SweepTiming
from kill_switch.core.events import (
    Event,
    Progress,
    Pulse,
    ReasonReported,
    Reconfigured,
    Recovered,
    StrikeSent,
    StrikesSent,
)
from kill_switch.core.state import AccountState, State
from kill_switch.errors import IllegalEvent
from tests.harness.core_playbook import (
    TIMING,
    Like,
    Raises,
    Run,
    Theatre,
    after,
    answered,
    armed,
    asked,
    at,
    clear,
    confirming,
    due,
    ns,
    read,
    reason,
    record,
    recovered,
    reported,
    residue,
    seen,
    strike,
    striking,
    struck,
    told,
    wake,
)

KILL = "k1-1700000000"
TRIPPED = {Phase.STRIKING: striking, Phase.CONFIRMING: confirming, Phase.RESIDUE: residue, Phase.CLEAR: clear}


def refused(*why: str) -> RearmRefused:
    return RearmRefused(why)


# ── a reason ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reason_strikes_an_armed_account_and_the_latch_is_recorded_before_that(play: Theatre) -> None:
    book = play(armed("a"))
    assert (
        book
        >> reported("a")
        << record(
            "reason",
            latch=True,
            kill=KILL,
            trigger="panic",
            text="touched",
            accounts=("a",),
            evidence={"path": "/run/KILL"},
            observed_mono_ns=at(0).mono_ns,
            observed_wall_ns=at(0).wall_ns,
        )
        << strike("a")
        << wake("a", 1000)
        << told("trip", "panic: touched")
    )
    assert book.state.phase is Phase.STRIKING
    assert book.state.tripped == ("a",)


def test_a_reason_strikes_all_of_its_accounts_in_one_command(play: Theatre) -> None:
    book = play(armed("a", "b", "c"))
    assert (
        book
        >> reported("a", "c")
        << record("reason", accounts=("a", "c"))
        << strike("a", "c")
        << wake("a", 1000)
        << wake("c", 1000)
        << told("trip")
    )
    assert book.state.tripped == ("a", "c")
    assert book.state.accounts["b"].phase is Phase.ARMED


def test_an_account_that_a_reason_names_twice_is_struck_once(play: Theatre) -> None:
    assert play(armed("a")) >> reported("a", "a") << record("reason") << strike("a") << wake("a", 1000) << told("trip")


@pytest.mark.parametrize("phase", [Phase.STRIKING, Phase.CONFIRMING])
def test_second_reason_while_striking_is_recorded(play: Theatre, phase: Phase) -> None:
    book = play(TRIPPED[phase]("a"))
    before = book.state.accounts["a"].sweep
    assert (
        book
        >> reported("a", ms=150, trigger="loss", text="5000 lost")
        << record("reason", latch=True, kill=KILL, trigger="loss")
        << told("trip", "loss: 5000 lost")
    )
    assert book.state.accounts["a"].sweep == before


def test_a_reason_strikes_residue_again_at_once(play: Theatre) -> None:
    book = play(residue("a"))
    assert (
        book
        >> reported("a", ms=10_001)
        << record("reason", latch=True, kill=KILL)
        << strike("a", number=3)
        << wake("a", 11_001)
        << told("trip")
    )
    assert book.state.phase is Phase.RESIDUE


def test_a_reason_strikes_a_clear_account_again_at_once(play: Theatre) -> None:
    book = play(clear("a"))
    assert (
        book
        >> reported("a", ms=501)
        << record("reason", latch=True, kill="k2-1700000000")
        << strike("a", number=2)
        << wake("a", 1501)
        << told("trip")
    )
    assert book.state.phase is Phase.STRIKING


def test_a_reason_that_comes_before_the_kill_is_over_joins_it(play: Theatre) -> None:
    book = play(striking("a"))
    book.state = after(
        book.state._replace(accounts={**book.state.accounts, "b": AccountState(TIMING)}), reported("b", ms=100)
    )
    assert book.state.kill is not None
    assert (book.state.kill.id, book.state.kill_count) == (KILL, 1)
    assert book.state.kill.accounts == book.state.kill.unclear == {"a", "b"}


def test_a_reason_that_comes_after_the_kill_is_over_begins_the_next(play: Theatre) -> None:
    state = after(clear("a"), reported("a", ms=3_600_000))
    assert state.kill is not None
    assert (state.kill.id, state.kill_count, state.kill.unclear) == ("k2-1700003600", 2, frozenset("a"))
    assert state.kill.began == at(3_600_000)


def test_a_kill_counts_from_the_moment_its_reason_was_observed(play: Theatre) -> None:
    late = ReasonReported(reason("a", ms=0), at(1250))
    state = after(armed("a"), late)
    assert state.kill is not None
    assert (state.kill.id, state.kill.began) == (KILL, at(0))
    assert (
        play(armed("a"))
        >> late
        << record("reason", observed_mono_ns=at(0).mono_ns)
        << strike("a")
        << wake("a", 2250)
        << told("trip")
    )


def test_a_reason_for_no_account_is_recorded_and_strikes_nothing(play: Theatre) -> None:
    book = play(armed("a"))
    assert book >> reported() << record("reason", latch=True, accounts=()) << told("trip")
    assert book.state.tripped == ()


def test_an_accounts_facts_belong_to_the_kill_of_its_last_reason(play: Theatre) -> None:
    """The guard is chasing an order of k1 on `a` while k2 runs on `b`, and a reason joins k2 that names both."""
    state = after(clear("a", "b"), reported("b", ms=1000), seen("a", 1100))
    assert state.accounts["a"].phase is Phase.STRIKING
    state = after(state, reported("a", "b", ms=1200))
    book = play(state)
    assert book >> answered("a", 1300) << record("answer", kill="k2-1700000001") << ReadOrders("a") << wake("a", 3800)


# ── progress of the sweep ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_recorded_and_read_back(play: Theatre) -> None:
    book = play(striking("a"))
    assert (
        book
        >> answered("a", 100, CancelOutcome.REFUSED, cancelled=2)
        << AppendRecord(
            "answer",
            {
                "kill": KILL,
                "account": "a",
                "strike": 1,
                "answer": CancelOutcome.REFUSED,
                "mono_ns": ns(100),
                "evidence": "the venue's words",
                "cancelled": 2,
            },
        )
        << ReadOrders("a")
        << wake("a", 2600)
    )
    assert book.state.phase is Phase.CONFIRMING


def test_a_clean_read_is_recorded_and_the_next_one_appointed(play: Theatre) -> None:
    book = play(confirming("a"))
    assert (
        book
        >> read("a", 200, cancelled=5)
        << AppendRecord(
            "read",
            {
                "kill": KILL,
                "account": "a",
                "live": 0,
                "pending": 0,
                "complete": True,
                "stale": False,
                "mono_ns": ns(200),
                "evidence": "",
                "cancelled": 5,
            },
        )
        << wake("a", 450)
    )


def test_a_stale_read_is_recorded_as_such_and_changes_nothing(play: Theatre) -> None:
    book = play(confirming("a"))
    before = book.state
    assert book >> read("a", 200, live=7, asked=-1) << record("read", live=7, stale=True)
    sweep = before.accounts["a"].sweep
    assert sweep is not None
    told = sweep._replace(last_news_ns=ns(200), longest_rtt_ns=ns(201) - ns(0))  # but how long a read takes
    assert book.state == before._replace(accounts={"a": before.accounts["a"]._replace(sweep=told)})


def test_the_last_clean_read_clears_the_account_and_the_kill(play: Theatre) -> None:
    book = play(after(confirming("a"), read("a", 200), due("a", 450)))
    assert (
        book
        >> read("a", 500)
        << record("read", live=0)
        << record("clear", kill=KILL, account="a", strikes=1, mono_ns=ns(500))
        << told("clear", "proven clear after 1 strike(s)", "a")
        << record("all-clear", kill=KILL, mono_ns=ns(500))
        << told("clear", f"every account of kill {KILL} is proven clear")
        << wake("a", 2500)
    )
    assert book.state.phase is Phase.CLEAR
    assert book.state.tripped == ("a",)


def test_the_kill_is_over_only_when_the_last_of_its_accounts_is_clear(play: Theatre) -> None:
    book = play(after(confirming("a", "b"), *(e for n in "ab" for e in (read(n, 200), due(n, 450)))))
    assert book >> read("a", 500) << record("read") << record("clear") << told("clear", account="a") << wake("a", 2500)
    assert (
        book
        >> read("b", 500)
        << record("read")
        << record("clear")
        << told("clear", account="b")
        << record("all-clear")
        << told("clear", "every account")
        << wake("b", 2500)
    )


def test_a_kill_is_not_over_while_an_account_that_was_clear_is_chased_again(play: Theatre) -> None:
    events = (e for n in "ab" for e in (read(n, 200), due(n, 450)))
    book = play(after(confirming("a", "b"), *events, read("a", 500), seen("a", 600)))
    assert book.state.kill is not None
    assert book.state.kill.unclear == {"a", "b"}
    assert book >> read("b", 700) << record("read") << record("clear") << told("clear", account="b") << wake("b", 2700)


def test_a_guard_that_finds_an_order_reopens_its_kill_and_a_reason_joins_it(play: Theatre) -> None:
    state = after(clear("a"), seen("a", 600), reported("a", ms=700))
    assert state.kill is not None
    assert (state.kill.id, state.kill_count) == (KILL, 1)


def test_an_account_of_an_older_kill_that_is_clear_again_ends_no_other_kill(play: Theatre) -> None:
    """The guard has chased an order of k1 on `a` while k2 runs on `b`."""
    state = after(clear("a", "b"), reported("b", ms=1000), seen("a", 1100), answered("a", 1200))
    book = play(after(state, read("a", 1300), due("a", 1550)))
    assert (
        book
        >> read("a", 1600)
        << record("read", kill=KILL)
        << record("clear", kill=KILL)
        << told("clear", account="a")
        << wake("a", 3600)
    )
    assert book.state.kill is not None
    assert book.state.kill.unclear == {"b"}


def test_an_account_that_is_no_longer_the_kills_does_not_hold_it_open(play: Theatre) -> None:
    state = after(clear("a", "b"), reported("b", ms=1000), seen("a", 1100))
    assert state.kill is not None
    assert state.kill.unclear == {"b"}


def test_orders_left_are_struck_again_with_the_next_number(play: Theatre) -> None:
    assert (
        play(confirming("a"))
        >> read("a", 600, live=2)
        << record("read", live=2)
        << strike("a", number=2)
        << wake("a", 1600)
    )


def test_an_order_pushed_during_the_sweep_needs_no_record_of_its_own(play: Theatre) -> None:
    assert play(confirming("a")) >> seen("a", 600) << strike("a", number=2) << wake("a", 1600)


def test_an_order_seen_while_clear_is_recorded_and_struck(play: Theatre) -> None:
    book = play(clear("a"))
    assert (
        book
        >> seen("a", 60_000)
        << record("seen", kill=KILL, account="a", mono_ns=ns(60_000), evidence="o1 BTC-USD open")
        << strike("a", number=2)
        << wake("a", 61_000)
    )
    assert book.state.phase is Phase.STRIKING


def test_a_guard_that_could_not_read_for_too_long_strikes_and_reopens_its_kill(play: Theatre) -> None:
    state = after(clear("a"), due("a", 2500), due("a", 5000))
    book = play(state)
    assert book >> due("a", 7500) << strike("a", number=2) << wake("a", 8500)
    assert book.state.kill is not None
    assert book.state.kill.unclear == {"a"}


def test_a_clean_guard_read_leaves_the_account_clear_and_no_record(play: Theatre) -> None:
    book = play(clear("a"))
    assert book >> due("a", 2500) << ReadOrders("a") << wake("a", 5000) >> read("a", 2600) << wake("a", 4600)
    assert book.state.phase is Phase.CLEAR


def test_a_guard_read_that_cancelled_something_is_recorded(play: Theatre) -> None:
    assert play(clear("a")) >> read("a", 2600, cancelled=1) << record("read", cancelled=1) << wake("a", 4600)


def test_a_guard_read_that_finds_orders_is_recorded_and_struck(play: Theatre) -> None:
    book = play(clear("a"))
    assert book >> read("a", 2600, live=1) << record("read", live=1) << strike("a", number=2) << wake("a", 3600)


def test_a_guard_read_that_finds_a_pending_cancel_is_recorded(play: Theatre) -> None:
    book = play(clear("a"))
    assert book >> read("a", 2600, pending=1) << record("read", pending=1) << wake("a", 2850)
    assert book.state.phase is Phase.CONFIRMING


def test_the_deadline_is_recorded_and_announced_and_the_chase_goes_on(play: Theatre) -> None:
    book = play(confirming("a"))
    assert (
        book
        >> read("a", 10_000, live=3)
        << record("read", live=3)
        << strike("a", number=2)
        << record("residue", kill=KILL, account="a", left=3, mono_ns=ns(10_000))
        << told("residue", "3 order(s) left, still chasing", "a")
        << wake("a", 11_000)
    )
    assert book >> answered("a", 10_100) << record("answer") << ReadOrders("a") << wake("a", 12_600)
    assert book >> read("a", 10_200, live=3) << record("read", live=3) << wake("a", 10_825)


def test_an_answers_evidence_is_in_its_own_record_only() -> None:
    _, commands = engine.step(striking("a"), answered("a", 10_500))
    records = {command.kind: set(command.data) for command in commands if isinstance(command, AppendRecord)}
    assert records["answer"] == {"kill", "account", "strike", "answer", "mono_ns", "evidence", "cancelled"}
    assert records["residue"] == {"kill", "account", "left", "mono_ns"}


def test_the_deadline_without_any_read_says_that_the_number_is_unknown(play: Theatre) -> None:
    assert (
        play(confirming("a"))
        >> read("a", 10_000, complete=False)
        << record("read", complete=False)
        << strike("a", number=2)
        << record("residue", left=None)
        << told("residue", "an unknown number of order(s) left", "a")
        << wake("a", 11_000)
    )


def test_residue_ends_in_clear_as_well(play: Theatre) -> None:
    book = play(after(residue("a"), answered("a", 10_100), read("a", 10_200), due("a", 10_450)))
    assert (
        book
        >> read("a", 10_500)
        << record("read")
        << record("clear", strikes=2)
        << told("clear", account="a")
        << record("all-clear")
        << told("clear")
        << wake("a", 12_500)
    )
    assert book.state.phase is Phase.CLEAR


def test_a_timer_that_changes_nothing_commands_nothing(play: Theatre) -> None:
    assert play(striking("a")) >> due("a", 10)


@pytest.mark.parametrize("event", [answered("a", 100), read("a", 100, live=3), seen("a", 100), due("a", 100)])
def test_nothing_that_happens_on_an_armed_account_trips_it(play: Theatre, event: Progress) -> None:
    book = play(armed("a"))
    assert book >> event
    assert book.state == armed("a")


def test_a_sweep_follows_the_pace_of_its_own_account(play: Theatre) -> None:
    state = State({"a": AccountState(SweepTiming(answer_within_s=3.0)), "b": AccountState(TIMING)})
    assert (
        play(state)
        >> reported("a", "b")
        << record("reason")
        << strike("a", "b")
        << wake("a", 3000)
        << wake("b", 1000)
        << told("trip")
    )


# ── what has been sent ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sent_strike_is_recorded_with_its_kill(play: Theatre) -> None:
    book = play(striking("a"))
    before = book.state
    assert (
        book
        >> struck("a", 1, 0.2, "ws", "http")
        << AppendRecord(
            "strike",
            {"sent": [{"kill": KILL, "account": "a", "strike": 1, "routes": ("ws", "http"), "mono_ns": ns(0.2)}]},
        )
    )
    assert book.state == before


def test_a_hedge_that_leaves_late_makes_older_reads_stale(play: Theatre) -> None:
    book = play(confirming("a"))
    assert book >> struck("a", 1, 160, "fresh") << record("strike")
    assert book >> read("a", 200, asked=150) << record("read", stale=True) << wake("a", 450)


def test_a_hedge_that_leaves_after_the_proof_does_not_undo_it(play: Theatre) -> None:
    book = play(clear("a"))
    before = book.state
    assert book >> struck("a", 1, 600, "fresh") << record("strike")
    assert book.state == before


def test_a_hedge_that_leaves_after_a_re_arm_is_recorded_and_trips_nothing(play: Theatre) -> None:
    state = after(residue("a"), asked("a", force=True))
    book = play(state)
    assert book >> struck("a", 2, 70_000, "fresh") << record("strike")
    assert book.state.phase is Phase.ARMED


# ── the gate of the re-arm ────────────────────────────────────────────────────────────────────────────────────────


def test_a_re_arm_of_an_armed_account_is_refused(play: Theatre) -> None:
    why = "nothing in scope is tripped"
    book = play(armed("a"))
    assert book >> asked("a") << record("rearm-refused", why=(why,), uid=1, accounts=("a",)) << refused(why)


@pytest.mark.parametrize("phase", [Phase.STRIKING, Phase.CONFIRMING])
@pytest.mark.parametrize("force", [False, True])
def test_a_re_arm_during_the_sweep_is_refused_even_by_force(play: Theatre, phase: Phase, force: bool) -> None:
    why = f"a is {phase}: wait until it is CLEAR"
    book = play(TRIPPED[phase]("a"))
    assert book >> asked("a", force=force) << record("rearm-refused", why=(why,), force=force) << refused(why)
    assert book.state.phase is phase


def test_a_re_arm_of_residue_is_refused_and_points_to_force(play: Theatre) -> None:
    why = "a is RESIDUE, with 3 order(s) left: clear it, or use --force if you know better"
    book = play(residue("a"))
    assert book >> asked("a") << record("rearm-refused", why=(why,)) << refused(why)
    assert book.state.phase is Phase.RESIDUE


def test_a_re_arm_of_residue_that_was_never_read_says_that_the_number_is_unknown(play: Theatre) -> None:
    book = play(after(confirming("a"), read("a", 10_000, complete=False)))
    assert (
        book
        >> asked("a")
        << record("rearm-refused")
        << refused("a is RESIDUE, with an unknown number of orders left: clear it, or use --force if you know better")
    )


def test_force_re_arms_residue(play: Theatre) -> None:
    book = play(residue("a"))
    assert (
        book
        >> asked("a", force=True)
        << record("rearm", latch=True, uid=1, user="user1", text="all well", force=True, accounts=("a",))
        << RearmGranted(("a",))
        << told("rearm", "a re-armed by user1: all well")
    )
    assert book.state.phase is Phase.ARMED
    assert book.state.kill is not None
    assert book.state.kill.unclear == frozenset()


def test_a_clear_account_is_re_armed(play: Theatre) -> None:
    book = play(clear("a"))
    assert book >> asked("a") << record("rearm", latch=True, force=False) << RearmGranted(("a",)) << told("rearm")
    assert book.state.phase is Phase.ARMED
    assert book.state.tripped == ()


def test_a_re_arm_that_wants_a_newer_proof_than_there_is_is_refused(play: Theatre) -> None:
    why = "a could not be read just now: nobody knows whether it is still clear; or use --force"
    book = play(clear("a"))  # proven by a read asked for at 499 ms
    assert book >> asked("a")._replace(proved_since_ns=ns(500)) << record("rearm-refused") << refused(why)
    assert book.state.phase is Phase.CLEAR
    assert book >> read("a", 600) << wake("a", 2600)
    assert (
        book >> asked("a")._replace(proved_since_ns=ns(599)) << record("rearm") << RearmGranted(("a",)) << told("rearm")
    )


def test_force_re_arms_without_a_newer_proof(play: Theatre) -> None:
    ask = asked("a", force=True)._replace(proved_since_ns=ns(500))
    assert play(clear("a")) >> ask << record("rearm", force=True) << RearmGranted(("a",)) << told("rearm")


def test_a_refused_re_arm_has_all_its_reasons_at_once(play: Theatre) -> None:
    state = after(armed("a", "b", "c"), reported("a", ms=0), reported("b", ms=0), answered("b", 100))
    state = after(state, reported("c", ms=0), answered("c", 100), read("c", 10_000, live=1))
    book = play(state)
    blockers = ("trigger panic: /run/KILL is still there: remove it",)
    assert (
        book
        >> asked("a", "b", "c", blockers=blockers)
        << record("rearm-refused")
        << refused(
            "trigger panic: /run/KILL is still there: remove it",
            "a is STRIKING: wait until it is CLEAR",
            "b is CONFIRMING: wait until it is CLEAR",
            "c is RESIDUE, with 1 order(s) left: clear it, or use --force if you know better",
        )
    )


def test_a_trigger_that_would_trip_again_blocks_even_a_forced_re_arm(play: Theatre) -> None:
    for state in (clear("a"), residue("a")):
        book = play(state)
        assert book >> asked("a", force=True, blockers=("no",)) << record("rearm-refused") << refused("no")
        assert book.state == state


def test_a_re_arm_of_part_of_the_scope_leaves_the_others_tripped(play: Theatre) -> None:
    book = play(clear("a", "b"))
    assert book >> asked("b") << record("rearm", accounts=("b",)) << RearmGranted(("b",)) << told("rearm")
    assert book.state.tripped == ("a",)
    assert book.state.phase is Phase.CLEAR


def test_armed_accounts_in_the_scope_of_a_re_arm_are_no_obstacle(play: Theatre) -> None:
    state = after(armed("a", "b"), reported("a"), answered("a", 100), read("a", 200), due("a", 450), read("a", 500))
    assert play(state) >> asked("a", "b") << record("rearm", accounts=("a",)) << RearmGranted(("a",)) << told("rearm")


def test_an_account_that_was_re_armed_is_struck_from_number_one_again(play: Theatre) -> None:
    book = play(after(clear("a"), asked("a")))
    assert (
        book
        >> reported("a", ms=70_000)
        << record("reason", kill="k2-1700000070")
        << strike("a", number=1)
        << wake("a", 71_000)
        << told("trip")
    )


def test_a_forced_re_arm_ends_the_part_of_the_kill_that_was_open(play: Theatre) -> None:
    state = after(residue("a"), asked("a", force=True), reported("a", ms=70_000))
    assert state.kill is not None
    assert state.kill.id == "k2-1700000070"


# ── two people ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_different_people_re_arm(play: Theatre) -> None:
    book = play(clear("a", approvals=2))
    assert (
        book
        >> asked("a", uid=1)
        << record("rearm-approved", latch=True, uid=1, accounts=("a",))
        << RearmPending(1, 2)
        << told("approval")
    )
    assert book.state.tripped == ("a",)
    assert book >> asked("a", uid=2) << record("rearm", latch=True, uid=2) << RearmGranted(("a",)) << told("rearm")
    assert book.state.phase is Phase.ARMED
    assert book.state.approvals == {}


def test_the_same_person_twice_is_one_person_and_announced_once(play: Theatre) -> None:
    book = play(clear("a", approvals=2))
    assert book >> asked("a", uid=1) << record("rearm-approved") << RearmPending(1, 2) << told("approval")
    for _ in range(2):
        assert book >> asked("a", uid=1) << record("rearm-approved") << RearmPending(1, 2)
    assert book.state.phase is Phase.CLEAR


def test_a_reason_voids_the_approvals(play: Theatre) -> None:
    state = after(clear("a", "b", approvals=2), asked("a", uid=1), reported("b", ms=61_000))
    book = play(state)
    assert book >> asked("a", uid=2, ms=62_000) << record("rearm-approved") << RearmPending(1, 2) << told("approval")


def test_an_approval_counts_only_for_the_accounts_that_it_named(play: Theatre) -> None:
    book = play(clear("a", "b", approvals=2))
    assert book >> asked("a", uid=1) << record("rearm-approved") << RearmPending(1, 2) << told("approval")
    assert book >> asked("a", "b", uid=2) << record("rearm-approved") << RearmPending(1, 2) << told("approval")
    assert book >> asked("b", uid=1) << record("rearm", accounts=("b",)) << RearmGranted(("b",)) << told("rearm")
    assert book.state.tripped == ("a",)


def test_a_person_may_approve_account_by_account(play: Theatre) -> None:
    book = play(clear("a", "b", approvals=2))
    assert book >> asked("a", uid=1) << record("rearm-approved") << RearmPending(1, 2) << told("approval")
    assert book >> asked("b", uid=1) << record("rearm-approved") << RearmPending(1, 2) << told("approval")
    assert book >> asked("a", "b", uid=2) << record("rearm") << RearmGranted(("a", "b")) << told("rearm")


def test_a_grant_uses_the_approvals_up(play: Theatre) -> None:
    state = after(clear("a", approvals=2), asked("a", uid=1), asked("a", uid=2))
    assert state.approvals == {}


@pytest.mark.parametrize("found", [seen("a", 61_000), read("a", 61_000, live=1), read("a", 61_000, pending=1)])
def test_an_order_that_the_guard_finds_voids_the_approvals_that_were_given_before(found: Progress) -> None:
    state = after(clear("a", "b", approvals=2), asked("a", "b", uid=1))
    assert after(state, read("a", 60_500)).approvals == state.approvals != {}  # clean: that is what was approved
    assert after(state, found).approvals == {}


def test_an_approval_without_force_does_not_count_for_a_forced_re_arm(play: Theatre) -> None:
    state = after(clear("a", approvals=2), asked("a", uid=1), seen("a", 61_000), read("a", 75_000, live=1))
    assert state.phase is Phase.RESIDUE
    book = play(state)
    assert (
        book
        >> asked("a", uid=2, ms=76_000, force=True)
        << record("rearm-approved")
        << RearmPending(1, 2)
        << told("approval")
    )


def test_an_approval_is_not_taken_while_the_gate_does_not_hold(play: Theatre) -> None:
    state = confirming("a")._replace(approvals_needed=2)
    book = play(state)
    assert book >> asked("a", uid=1) << record("rearm-refused") << refused("a is CONFIRMING: wait until it is CLEAR")
    assert book.state.approvals == {}


# ── a new start ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_armed_accounts_start_armed_and_silent(play: Theatre) -> None:
    book = play(armed("a", "b"))
    assert book >> recovered(90_000)
    assert book.state == armed("a", "b")


@pytest.mark.parametrize("phase", [Phase.STRIKING, Phase.CONFIRMING])
def test_an_unfinished_sweep_strikes_again_at_the_start(play: Theatre, phase: Phase) -> None:
    book = play(TRIPPED[phase]("a"))
    assert (
        book
        >> recovered(90_000)
        << record("resume", accounts=("a",), striking=("a",))
        << strike("a", number=2)
        << wake("a", 91_000)
        << told("warn", "started tripped: a")
    )
    assert book.state.phase is Phase.STRIKING


def test_residue_strikes_again_at_the_start(play: Theatre) -> None:
    book = play(residue("a"))
    assert (
        book
        >> recovered(90_000)
        << record("resume", striking=("a",))
        << strike("a", number=3)
        << wake("a", 91_000)
        << told("warn")
    )


def test_a_clear_account_stays_clear_at_the_start_and_is_guarded_at_once(play: Theatre) -> None:
    book = play(clear("a"))
    assert (
        book
        >> recovered(90_000)
        << record("resume", accounts=("a",), striking=())
        << wake("a", 90_000)
        << told("warn", "started tripped: a")
        >> due("a", 90_000)
        << ReadOrders("a")
        << wake("a", 92_500)
    )
    assert book.state.phase is Phase.CLEAR


def test_a_start_strikes_some_and_guards_others_and_leaves_the_armed_alone(play: Theatre) -> None:
    state = after(armed("a", "b", "c"), reported("a", "b"), answered("b", 100))
    state = after(state, read("b", 200), due("b", 450), read("b", 500))
    book = play(state)
    assert (
        book
        >> recovered(90_000)
        << record("resume", accounts=("a", "b"), striking=("a",))
        << strike("a", number=2)
        << wake("a", 91_000)
        << wake("b", 90_000)
        << told("warn", "started tripped: a, b")
    )
    assert [account.phase for account in book.state.accounts.values()] == [Phase.STRIKING, Phase.CLEAR, Phase.ARMED]


# ── other accounts ────────────────────────────────────────────────────────────────────────────────────────────────


def reconfigured(*names: str, anew: tuple[str, ...] = (), ms: float = 90_000, approvals: int = 1) -> Reconfigured:
    return Reconfigured(dict.fromkeys(names, TIMING), frozenset(anew), approvals, at(ms))


def test_accounts_that_come_are_armed_and_armed_ones_may_go(play: Theatre) -> None:
    book = play(armed("a", "b"))
    assert book >> reconfigured("c", "b")
    assert book.state == armed("c", "b")


def test_a_tripped_account_stays_tripped_and_its_sweep_goes_on(play: Theatre) -> None:
    before = after(armed("a", "b"), reported("a"))
    book = play(before)
    assert book >> reconfigured("a", "c")
    assert book.state.accounts["a"] == before.accounts["a"]
    assert book.state.tripped == ("a",)


def test_a_tripped_account_cannot_be_configured_away(play: Theatre) -> None:
    book = play(clear("a"))
    assert book >> reconfigured("b") << Raises(IllegalEvent, "Reconfigured")
    assert book.state == clear("a")


def test_a_clear_account_with_a_new_session_is_read_at_once(play: Theatre) -> None:
    book = play(clear("a"))
    assert (
        book
        >> reconfigured("a", anew=("a",))
        << wake("a", 90_000)
        >> due("a", 90_000)
        << ReadOrders("a")
        << wake("a", 92_500)
    )
    assert book.state.phase is Phase.CLEAR


def test_a_new_session_is_no_proof_for_a_re_arm_that_was_asked_for_before_it(play: Theatre) -> None:
    book = play(after(clear("a"), reconfigured("a", anew=("a",))))
    before = asked("a", ms=91_000)._replace(proved_since_ns=ns(89_000))
    assert (
        book
        >> before
        << record("rearm-refused")
        << refused("a could not be read just now: nobody knows whether it is still clear; or use --force")
    )
    assert (
        book
        >> read("a", 91_500)
        << wake("a", 93_500)
        >> before._replace(at=at(92_000))
        << record("rearm")
        << RearmGranted(("a",))
        << told("rearm")
    )


def test_an_account_in_residue_is_struck_at_once_over_its_new_session(play: Theatre) -> None:
    book = play(residue("a"))
    assert book >> reconfigured("a", anew=("a",)) << strike("a", number=3) << wake("a", 91_000)


def test_an_armed_account_with_a_new_session_is_left_alone(play: Theatre) -> None:
    book = play(armed("a"))
    assert book >> reconfigured("a", anew=("a",))
    assert book.state == armed("a")


def test_a_sweep_goes_on_at_the_new_pace(play: Theatre) -> None:
    slow = replace(TIMING, guard_every_s=60.0)
    book = play(clear("a"))
    assert book >> Reconfigured({"a": slow}, frozenset({"a"}), 1, at(90_000)) << wake("a", 90_000)
    sweep_now = book.state.accounts["a"].sweep
    assert sweep_now is not None
    assert sweep_now.timing is slow


def test_more_approvals_take_effect_and_void_those_that_were_given(play: Theatre) -> None:
    book = play(clear("a", approvals=2))
    assert book >> asked("a", uid=1) << record("rearm-approved") << RearmPending(1, 2) << told("approval")
    assert book >> reconfigured("a", approvals=3)
    assert (book.state.approvals, book.state.approvals_needed) == ({}, 3)


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pulse_is_answered_and_changes_nothing(play: Theatre) -> None:
    book = play(clear("a"))
    assert book >> Pulse(at(0)) << PulseAnswered()
    assert book.state == clear("a")


def test_the_daemons_state_is_the_worst_of_its_accounts() -> None:
    state = armed("a", "b", "c", "d", "e")
    seen_phases = [state.phase]
    state = after(state, reported("a"), answered("a", 100), read("a", 200), due("a", 450), read("a", 500))
    seen_phases.append(state.phase)
    state = after(state, reported("b", ms=501), answered("b", 600))
    seen_phases.append(state.phase)
    state = after(state, reported("c", ms=601))
    seen_phases.append(state.phase)
    state = after(state, read("b", 20_000, live=1))
    seen_phases.append(state.phase)
    assert seen_phases == [Phase.ARMED, Phase.CLEAR, Phase.CONFIRMING, Phase.STRIKING, Phase.RESIDUE]
    assert State({}).phase is Phase.ARMED


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (reported("a", "x"), "ReasonReported"),
        (answered("x", 1), "StrikeAnswered"),
        (read("x", 1), "ReadCounted"),
        (seen("x", 1), "OrderAppeared"),
        (due("x", 1), "SweepTimerFired"),
        (struck("x", 1, 1), "StrikesSent"),
        (asked("a", "x"), "RearmAsked"),
    ],
)
def test_an_event_for_an_unknown_account_is_illegal_and_changes_nothing(play: Theatre, event: Event, name: str) -> None:
    for state in (armed("a"), striking("a"), clear("a")):
        book = play(state)
        assert book >> event << Raises(IllegalEvent, f"{name} is not allowed in a state without account 'x'")
        assert book.state is state


def test_an_illegal_event_names_state_and_event() -> None:
    with pytest.raises(IllegalEvent) as error:
        engine.step(armed("a"), due("x", 1))
    assert (error.value.state, error.value.event) == ("a state without account 'x'", "SweepTimerFired")


def test_no_command_ever_mentions_an_account_out_of_scope(play: Theatre) -> None:
    book = play(clear("a", "b"))
    assert book >> seen("b", 700) << Like(AppendRecord, kind="seen") << strike("b", number=2) << wake("b", 1700)
    assert book.state.accounts["a"] == clear("a", "b").accounts["a"]


def test_phases_are_ordered_from_harmless_to_worst() -> None:
    assert list(Phase) == [Phase.ARMED, Phase.CLEAR, Phase.CONFIRMING, Phase.STRIKING, Phase.RESIDUE]
    assert sweep.SweepAction("strike") is sweep.SweepAction.STRIKE
    assert isinstance(recovered(0), Recovered)


def test_changes_of_a_kills_order_count_are_on_record_and_no_record_without_a_change() -> None:
    told = {"open": ["1"]}
    sent = StrikeSent("a", 1, ("ws",), ns(0), told)
    run = Run(armed("a"))(reported("a"), StrikesSent((sent,), at(0)), answered("a", 100, orders=told, strike=1))
    run(read("a", 200, orders=told), answered("a", 250))
    entries = [entry["data"] for entry in run.entries if entry["kind"] in ("answer", "read")]
    [again] = [entry["data"]["sent"][0] for entry in run.entries if entry["kind"] == "strike"][1:]
    assert [data.get("orders") for data in (again, *entries)] == [told, told, told, None]
    assert "orders" not in entries[-1]


def test_a_guard_read_that_has_news_of_the_count_alone_is_recorded(play: Theatre) -> None:
    told = {"ended": ["1"]}
    assert play(clear("a")) >> read("a", 2600, orders=told) << record("read", orders=told) << wake("a", 4600)
