"""The state that the record gives back is the state that was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kill_switch.core.commands import StrikeAccounts
from kill_switch.core.domain import Phase, SweepTiming
from kill_switch.core.events import Event, Reconfigured
from kill_switch.core.identity import Login
from kill_switch.core.recovery import rebuild, tripped_unconfigured
from kill_switch.core.state import State
from kill_switch.errors import JournalBroken
from tests.harness.core_playbook import (
    TIMING,
    Run,
    Theatre,
    after,
    answered,
    armed,
    asked,
    at,
    due,
    read,
    record,
    recovered,
    reported,
    seen,
    strike,
    struck,
    told,
    wake,
)
from tests.harness.recovered import tripped_accounts

TO_CLEAR: Sequence[Event] = (reported("a"), answered("a", 100), read("a", 200), due("a", 450), read("a", 500))
TO_RESIDUE: Sequence[Event] = (reported("a"), answered("a", 100), read("a", 10_000, live=3))


def rebuilt(run: Run, *accounts: str, approvals: int = 1) -> State:
    return rebuild(run.entries, dict.fromkeys(accounts or run.state.accounts, TIMING), approvals)


def test_an_empty_record_is_armed() -> None:
    assert rebuild((), {"a": TIMING, "b": TIMING}) == armed("a", "b")


def test_records_of_other_kinds_change_nothing() -> None:
    kinds = ("start", "stop", "resume", "all-clear", "answer", "residue")
    entries: list[dict[str, Any]] = [{"kind": kind, "data": {}} for kind in kinds]
    assert rebuild(entries, {"a": TIMING}) == armed("a")


@pytest.mark.parametrize("events", [TO_CLEAR[:1], TO_CLEAR[:2], TO_CLEAR[:3], TO_CLEAR[:4], TO_RESIDUE])
def test_a_sweep_that_was_cut_off_is_unfinished(events: Sequence[Event]) -> None:
    run = Run(armed("a"))(*events)
    state = rebuilt(run)
    assert state.tripped == ("a",)
    assert state.kill == run.state.kill
    assert state.kill_count == 1
    strikes = run.state.accounts["a"].sweep
    assert strikes is not None
    commands = Run(state)(recovered(90_000)).commands
    assert strike("a", number=strikes.strikes + 1) in commands


def test_a_crash_between_the_latch_and_the_strike_is_made_good(play: Theatre) -> None:
    run = Run(armed("a"))(reported("a"))
    del run.entries[1:]  # the reason alone
    book = play(rebuilt(run))
    assert book >> recovered(50) << record("resume") << strike("a", number=1) << wake("a", 1050) << told("warn")


def test_a_clear_account_comes_back_clear_and_guarded(play: Theatre) -> None:
    run = Run(armed("a"))(*TO_CLEAR)
    state = rebuilt(run)
    assert state.accounts["a"].phase is Phase.CLEAR
    assert state.kill == run.state.kill
    book = play(state)
    assert book >> recovered(90_000) << record("resume", striking=()) << wake("a", 90_000) << told("warn")
    assert book.state.phase is Phase.CLEAR


def test_a_guard_that_was_chasing_an_order_comes_back_unfinished() -> None:
    blind = (due("a", 2500), due("a", 5000), due("a", 7500))
    for found in ((seen("a", 60_000),), (read("a", 60_000, live=1),), (read("a", 60_000, pending=1),), blind):
        run = Run(armed("a"))(*TO_CLEAR, *found)
        state = rebuilt(run)
        assert state.accounts["a"].phase is Phase.STRIKING
        assert state.kill == run.state.kill


def test_a_guard_that_crashed_before_it_could_strike_comes_back_unfinished() -> None:
    run = Run(armed("a", pace=SweepTiming(clean_reads=1)))(
        reported("a"), answered("a", 10), read("a", 20), seen("a", 30)
    )
    assert not [c for c in run.commands if isinstance(c, StrikeAccounts)]  # owed: the gap is not over
    assert rebuilt(run).accounts["a"].phase is Phase.STRIKING


def test_a_strike_that_went_out_after_the_proof_says_by_itself_that_the_account_is_not_clear() -> None:
    run = Run(armed("a"))(*TO_CLEAR, seen("a", 60_000))
    run.entries = [entry for entry in run.entries if entry["kind"] != "seen"]
    assert rebuilt(run).accounts["a"].phase is Phase.STRIKING


@pytest.mark.parametrize(
    "event",
    [
        read("a", 600, live=9, asked=-1),  # asked for before the strike
        read("a", 600, cancelled=2),
        read("a", 600, pending=1, complete=False, cancelled=1),
        struck("a", 1, 600, "fresh"),  # a hedge that left late
        answered("a", 600),
    ],
)
def test_an_event_that_does_not_disturb_the_guard_does_not_disturb_the_rebuilt_one(event: Event) -> None:
    run = Run(armed("a"))(*TO_CLEAR, event)
    assert run.state.accounts["a"].phase is Phase.CLEAR
    assert rebuilt(run).accounts["a"].phase is Phase.CLEAR


def test_a_re_arm_is_final() -> None:
    run = Run(armed("a", "b"))(*TO_CLEAR, asked("a"))
    assert rebuilt(run).tripped == ()


def test_a_re_arm_of_one_account_leaves_the_others_tripped() -> None:
    run = Run(armed("a", "b"))(reported("a", "b"), *TO_CLEAR[1:], asked("a"))
    state = rebuilt(run)
    assert state.tripped == ("b",)
    assert state.kill == run.state.kill


def test_late_facts_of_a_re_armed_account_trip_nothing() -> None:
    run = Run(armed("a"))(*TO_RESIDUE, asked("a", force=True), struck("a", 2, 70_000), read("a", 70_001, live=1))
    read_data = {"account": "a", "live": 1, "pending": 0, "complete": True}
    run.entries += [{"kind": kind, "data": read_data} for kind in ("clear", "read", "seen")]
    assert rebuilt(run).tripped == ()


def test_the_kills_are_counted_and_the_last_one_is_kept() -> None:
    run = Run(armed("a"))(*TO_CLEAR, asked("a", ms=60_000), reported("a", ms=70_000))
    state = rebuilt(run)
    assert state.kill == run.state.kill
    assert state.kill is not None
    assert (state.kill.id, state.kill.began, state.kill_count) == ("k2-1700000070", at(70_000), 2)


def test_a_reason_that_joined_widens_the_scope() -> None:
    run = Run(armed("a", "b"))(reported("a"), reported("b", ms=10))
    assert rebuilt(run).kill == run.state.kill


def test_approvals_survive_the_restart() -> None:
    run = Run(armed("a", approvals=2))(*TO_CLEAR, asked("a", uid=1))
    state = rebuilt(run, approvals=2)
    assert state.approvals == {1: frozenset("a")}
    assert after(state, asked("a", uid=2)).tripped == ()


def test_approvals_that_a_reason_or_a_grant_voided_stay_void() -> None:
    run = Run(armed("a", approvals=2))(*TO_CLEAR, asked("a", uid=1), reported("a", ms=70_000))
    assert rebuilt(run, approvals=2).approvals == {}
    run = Run(armed("a", approvals=2))(*TO_CLEAR, asked("a", uid=1), asked("a", uid=2))
    assert rebuilt(run, approvals=2).approvals == {}


def test_approvals_that_a_reload_voided_stay_void() -> None:
    run = Run(armed("a", approvals=2))(*TO_CLEAR, asked("a", uid=1), Reconfigured({"a": TIMING}, frozenset(), 2, at(9)))
    assert run.state.approvals == {}
    run.entries.append({"kind": "reload", "data": {"change": "nothing changed"}})
    assert rebuilt(run, approvals=2).approvals == {}


@pytest.mark.parametrize("found", [seen("a", 61_000), read("a", 61_000, live=1), read("a", 61_000, pending=1)])
def test_approvals_that_an_order_has_voided_stay_void(found: Event) -> None:
    run = Run(armed("a", approvals=2))(*TO_CLEAR, asked("a", uid=1), found)
    assert rebuilt(run, approvals=2).approvals == {} == run.state.approvals


def test_approvals_that_a_blind_guard_has_voided_stay_void() -> None:
    run = Run(armed("a", approvals=2))(*TO_CLEAR, asked("a", uid=1, ms=600))
    run(due("a", 2500), due("a", 5000), due("a", 7500))
    assert rebuilt(run, approvals=2).approvals == {} == run.state.approvals


def test_a_clean_guard_read_voids_no_approval() -> None:
    run = Run(armed("a", approvals=2))(*TO_CLEAR, asked("a", uid=1), read("a", 61_000, cancelled=2))
    assert rebuilt(run, approvals=2).approvals == {1: frozenset("a")} == run.state.approvals


def test_a_latch_for_an_unknown_account_is_kept_until_the_account_exists() -> None:
    run = Run(armed("a"))(*TO_CLEAR)
    run.entries.append({"kind": "latch", "data": {"accounts": ["z"], "said": "by hand"}})
    assert tripped_accounts(run.entries) == {"a", "z"}
    assert rebuilt(run, "a").tripped == ("a",)
    state = rebuilt(run, "a", "z")
    assert state.tripped == ("a", "z")
    assert state.accounts["z"].phase is Phase.STRIKING
    assert after(state, asked("z", ms=100), reported("z", ms=200)).tripped == ("a", "z")


def test_a_latch_alone_belongs_to_no_kill() -> None:
    entries = [{"kind": "latch", "data": {"accounts": ["z"], "said": "by hand"}}]
    state = rebuild(entries, {"z": TIMING})
    assert (state.tripped, state.kill, state.accounts["z"].kill) == (("z",), None, None)


def test_approvals_add_up_account_by_account() -> None:
    run = Run(armed("a", "b", approvals=2))(reported("b"), *TO_CLEAR)
    run(answered("b", 100), read("b", 200), due("b", 450), read("b", 500), asked("a", uid=1), asked("b", uid=1))
    assert rebuilt(run, approvals=2).approvals == {1: frozenset("ab")} == run.state.approvals


def test_an_account_that_is_no_longer_configured_stays_out_and_comes_back_tripped() -> None:
    run = Run(armed("a", "b"))(reported("a", "b"))
    state = rebuilt(run, "a")
    assert state.tripped == ("a",)
    assert state.kill is not None
    assert state.kill.unclear == {"a"}
    assert rebuilt(run, "a", "b").tripped == ("a", "b")


def test_an_account_that_is_new_in_the_configuration_is_armed() -> None:
    run = Run(armed("a"))(reported("a"))
    assert rebuilt(run, "a", "new").tripped == ("a",)


def test_a_reason_joins_the_unfinished_kill_of_the_process_before() -> None:
    state = rebuilt(Run(armed("a"))(reported("a")))
    state = after(state, recovered(90_000), reported("a", ms=90_001))
    assert state.kill is not None
    assert state.kill.id == "k1-1700000000"


def test_strikes_are_numbered_on_over_reasons_and_restarts() -> None:
    run = Run(armed("a"))(*TO_CLEAR, reported("a", ms=60_000))
    run.state = rebuilt(run)
    run(recovered(61_000))
    assert strike("a", number=3) in run.commands
    assert [s["strike"] for e in run.entries if e["kind"] == "strike" for s in e["data"]["sent"]] == [1, 2, 3]


def test_a_removed_account_stays_latched() -> None:
    run = Run(armed("a", "b"))(reported("a", "b"), recovered(10))
    assert tripped_accounts(run.entries) == {"a", "b"}
    assert tripped_accounts([]) == frozenset()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("reason", {"kill": "k1", "accounts": ["a"]}),
        ("reason", {"kill": "k1", "accounts": [["a"]], "observed_mono_ns": 1, "observed_wall_ns": 1}),
        ("reason", {"kill": "k1", "accounts": 1, "observed_mono_ns": 1, "observed_wall_ns": 1}),
        ("reason", {"kill": "k1", "accounts": "a", "observed_mono_ns": 1, "observed_wall_ns": 1}),
        ("reason", {"kill": "k1", "accounts": {"a": {}}, "observed_mono_ns": 1, "observed_wall_ns": 1}),
        ("reason", {"kill": "k1", "accounts": [1], "observed_mono_ns": 1, "observed_wall_ns": 1}),
        ("latch", {"accounts": "a"}),
        ("latch", {"said": "by hand"}),
        ("reason", {"kill": "k1", "accounts": ["a"], "observed_mono_ns": "soon", "observed_wall_ns": 1}),
        ("reason", {"kill": "k1", "accounts": ["a"], "observed_mono_ns": float("inf"), "observed_wall_ns": 1}),
        ("strike", {"sent": [{"account": "a"}]}),
        ("strike", {"sent": [{"account": "a", "strike": "2"}]}),
        ("read", {"account": "a"}),
        ("clear", {}),
        ("rearm-approved", {"uid": [], "accounts": ["a"]}),
        ("rearm", {"accounts": None}),
        ("rearm", {"accounts": "a"}),
    ],
)
def test_an_unreadable_record_is_named_by_its_number(kind: str, data: dict[str, Any]) -> None:
    run = Run(armed("a"))(reported("a"))
    number = len(run.entries) + 1
    entries = [*run.entries, {"seq": number, "kind": kind, "data": data}]
    with pytest.raises(JournalBroken, match=f"line {number}: a record that this version does not understand"):
        rebuild(entries, {"a": TIMING})


# ── whose latch it is ─────────────────────────────────────────────────────────────────────────────────────────────

X, Y = (Login("oxfun", "wss://ox.test/ws", "https://ox.test", f"key-{one}-0123456789") for one in "xy")


def identified(*names: str, **logins: Login) -> State:
    """Return armed accounts that have said who they are."""
    state = armed(*names)
    known = {name: state.accounts[name]._replace(identity=login.identity("5a17")) for name, login in logins.items()}
    return state._replace(accounts={**state.accounts, **known})


def rebuilt_as(run: Run, **logins: Login) -> State:
    return rebuild(run.entries, dict.fromkeys(logins, TIMING), 1, logins, "0ff0")


def test_the_account_that_was_struck_comes_back_as_it_was() -> None:
    state = rebuilt_as(Run(identified("a", a=X))(*TO_CLEAR), a=X)
    assert (state.accounts["a"].phase, state.accounts["a"].unproven_identities) == (Phase.CLEAR, ())
    assert state.accounts["a"].identity == X.identity("5a17")
    assert rebuilt_as(Run(armed("a")), a=X).accounts["a"].identity == X.identity("0ff0")


def test_another_account_under_the_name_is_struck_and_owes_the_one_that_was(play: Theatre) -> None:
    run = Run(identified("a", a=X))(*TO_CLEAR)
    state = rebuilt_as(run, a=Y)
    assert state.accounts["a"].phase is Phase.STRIKING
    assert state.accounts["a"].unproven_identities == (X.identity("5a17"),)
    assert state.kill is not None and state.kill.unclear == {"a"}
    both = {"a": (X.identity("5a17"), Y.identity("0ff0"))}
    assert (
        play(state)
        >> recovered(50)
        << record("resume", identities=both, moved={})
        << strike("a", number=2)
        << wake("a", 1050)
        << told("warn")
        << told("warn", "not the account that was struck: its key is another one", "a")
    )


def test_a_latch_that_has_moved_says_so_at_once(play: Theatre) -> None:
    run = Run(identified("a", a=X))(*TO_CLEAR)
    state = rebuilt_as(run, b=X, a=Y)
    assert (state.tripped, state.accounts["b"].phase) == (("b",), Phase.CLEAR)
    assert state.kill is not None and state.kill.accounts == {"b"}
    run.state = state
    run(recovered(50))
    assert record("resume", latch=True, moved={"a": "b"}).matches(run.commands[0])
    assert rebuilt_as(run, b=X, a=Y).tripped == ("b",)
    assert tripped_accounts(run.entries) == {"b"}


def test_latches_of_two_names_that_become_one_account_hold_until_both_are_proven() -> None:
    run = Run(identified("a", "b", a=X, b=X))(*TO_CLEAR, reported("b", ms=600))
    run.entries.append({"kind": "resume", "data": {"identities": {}, "moved": {"a": "b"}}})
    assert rebuilt(run, "b").accounts["b"].phase is Phase.STRIKING
    run = Run(identified("a", "b", a=X, b=X))(*TO_CLEAR, reported("b", ms=600))
    run.entries.append({"kind": "identity", "data": {"identities": {}, "moved": {"b": "a"}}})
    assert rebuilt(run, "a").accounts["a"].phase is Phase.STRIKING


def test_an_account_that_takes_a_part_of_a_latched_one_over_is_tripped_too() -> None:
    whole, login, two = (
        replace(X, scope={"nt_accounts": names}) for names in (("Sim101", "Live1"), ("Sim101",), ("Live1",))
    )
    run = Run(identified("a", a=whole))(*TO_CLEAR)
    state = rebuilt_as(run, a=login, b=two)
    assert state.tripped == ("a", "b")
    assert state.accounts["b"].phase is Phase.STRIKING
    run.state = state
    run(recovered(50))
    assert tripped_accounts(run.entries) == {"a", "b"}


def test_an_account_that_left_tripped_is_known_by_its_struck_login() -> None:
    run = Run(identified("a", "b", a=X, b=Y))(reported("a", "b"))
    assert tripped_unconfigured(run.entries, {"b": Y}) == {"a": (X.identity("5a17"),)}
    assert tripped_unconfigured(run.entries, {"b": Y, "new": X}) == {}
    assert tripped_unconfigured(run.entries, {}) == {"a": (X.identity("5a17"),), "b": (Y.identity("5a17"),)}


@pytest.mark.parametrize("wrong", [1, {"a": 1}, {"a": {"venue": "x"}}])
def test_unreadable_identities_break_the_journal(wrong: object) -> None:
    run = Run(armed("a"))(reported("a"))
    for kind in ("resume", "identity"):
        entries = [*run.entries, {"seq": 9, "kind": kind, "data": {"identities": wrong, "moved": {}}}]
        with pytest.raises(JournalBroken, match="line 9"):
            rebuild(entries, {"a": TIMING})
