"""A kill that began without the record is on it as if it had been there from the beginning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kill_switch.core import engine, recovery
from kill_switch.core.commands import AppendRecord
from kill_switch.core.domain import CancelOutcome, Phase, Reason, SweepTiming
from kill_switch.core.events import Event, Progress, ReasonReported, StrikeSent, StrikesSent
from kill_switch.core.state import AccountState, State
from kill_switch.core.sweep import StrikeAnswered
from kill_switch.journal import takeover
from tests.harness.core_playbook import at

PACES = {"a": SweepTiming(), "b": SweepTiming(), "c": SweepTiming()}
Entry = Mapping[str, Any]


def entries(state: State, *events: Event) -> tuple[State, list[Entry]]:
    """Let events happen; return the state after them and what goes on record."""
    made: list[Entry] = []
    for event in events:
        state, commands = engine.step(state, event)
        made += [
            {"kind": command.kind, "data": command.data} for command in commands if isinstance(command, AppendRecord)
        ]
    return state, [{**entry, "seq": number} for number, entry in enumerate(made, 1)]


def reported(name: str, ms: float) -> ReasonReported:
    return ReasonReported(Reason("panic", "touched", (name,), at(ms)), at(ms))


def struck(name: str, number: int, ms: float) -> StrikesSent:
    return StrikesSent((StrikeSent(name, number, ("ws",), at(ms).mono_ns),), at(ms))


def direct() -> tuple[State, list[Entry]]:
    """Strike account `a` without a record, and have it answer."""
    alone = State({"a": AccountState(PACES["a"])})
    answered = Progress("a", StrikeAnswered(at(5002).mono_ns, CancelOutcome.ACCEPTED), at(5002), "taken", 3)
    return entries(alone, reported("a", 5000), struck("a", 1, 5001), answered)


def join(past: list[Entry]) -> tuple[takeover.TakeoverPlan, list[Entry]]:
    running, kept = direct()
    joined = takeover.plan_takeover(running, recovery.rebuild(past, PACES), at(5000))
    return joined, [{**entry, "data": joined.rewrite(entry["kind"], entry["data"])} for entry in kept]


def test_on_an_empty_record_nothing_is_different() -> None:
    running, kept = direct()
    joined, written = join([])
    assert joined.state.accounts == running.accounts and joined.state.kill == running.kill
    assert written == kept and joined.unfinished == ()


def test_a_kill_that_is_under_way_is_joined_and_strikes_are_numbered_on() -> None:
    armed = State({name: AccountState(pace) for name, pace in PACES.items()})
    _, past = entries(armed, reported("a", 0), struck("a", 1, 1), struck("a", 2, 900), reported("b", 1000))
    joined, written = join(past)
    assert joined.unfinished == ("b",)
    assert set(joined.state.accounts) == {"a", "b"}
    assert {entry["data"].get("kill") for entry in written if "kill" in entry["data"]} == {past[0]["data"]["kill"]}
    assert [entry["data"]["sent"][0]["strike"] for entry in written if entry["kind"] == "strike"] == [3]
    assert [entry["data"]["strike"] for entry in written if entry["kind"] == "answer"] == [3]
    whole = recovery.rebuild([*past, *written], PACES)
    assert whole.kill is not None and joined.state.kill is not None
    assert (whole.kill.id, whole.kill.unclear) == (joined.state.kill.id, joined.state.kill.unclear)
    sweep = joined.state.accounts["a"].sweep
    assert sweep is not None and sweep.strikes == 3


def test_behind_a_kill_that_is_over_a_new_one_is_numbered_on() -> None:
    armed = State({name: AccountState(pace) for name, pace in PACES.items()})
    _, past = entries(armed, reported("b", 0), struck("b", 1, 1))
    past.append({"seq": 3, "kind": "clear", "data": {"account": "b"}})
    joined, written = join(past)
    assert joined.kill.startswith("k2-") and joined.unfinished == ()
    assert written[0]["data"]["kill"] == joined.kill
    whole = recovery.rebuild([*past, *written], PACES)
    assert whole.kill_count == 2 and {name: a.phase for name, a in whole.accounts.items() if a.sweep} == {
        "a": Phase.STRIKING,
        "b": Phase.CLEAR,
    }
