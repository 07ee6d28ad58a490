"""A start reads the same from a checkpoint and what follows as from the whole journal, whatever has happened."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kill_switch.core import recovery, sweep
from kill_switch.core.commands import AppendRecord
from kill_switch.core.domain import CancelOutcome, Instant, Phase, Reason, SweepTiming
from kill_switch.core.events import Progress, RearmAsked, ReasonReported, StrikeSent, StrikesSent
from kill_switch.core.state import AccountState, State
from kill_switch.errors import JournalBroken
from kill_switch.journal import checkpoint, history
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.condenser import Condenser
from kill_switch.journal.kill_report import MAX_KILLS, ReportBuilder
from kill_switch.journal.records import (
    DrillRecord,
    HeartbeatRecord,
    HookRecord,
    HookStartedRecord,
    PnlRecord,
    StampsRecord,
)
from kill_switch.journal.write_ahead import reason_digest, unrecorded
from tests.harness.core_playbook import START, Run
from tests.harness.recovered import tripped_accounts

ACCOUNTS = ("a", "b", "c")
PACES = {"a": SweepTiming(), "b": SweepTiming(clean_reads=1, strike_gap_s=0.1), "c": SweepTiming(gap_cap_s=2.0)}
Entries = list[dict[str, Any]]

names = st.sampled_from(ACCOUNTS)
scopes = st.lists(names, min_size=1, max_size=3, unique=True).map(tuple)
drilled = st.dictionaries(names, st.booleans(), max_size=3)
happenings = st.one_of(
    st.tuples(st.just("reason"), scopes),
    st.tuples(st.just("clear"), names),
    st.tuples(st.just("order"), names),
    st.tuples(st.just("answer"), names, st.sampled_from(CancelOutcome)),
    st.tuples(st.just("rearm"), scopes, st.integers(1, 2), st.booleans()),
    st.tuples(st.just("drill"), drilled),
    st.tuples(st.just("pnl"), st.sampled_from(["loss", "floor"])),
    st.tuples(st.just("heartbeat"), st.sampled_from(["quoter", "hedger"]), st.booleans()),
    st.tuples(st.just("stamps"), st.sampled_from(["quoter", "hedger"])),
    st.tuples(st.sampled_from(["hook", "hook-started"]), scopes, st.integers(1, 3)),
    st.tuples(st.sampled_from(["start", "reload"]), st.lists(st.sampled_from(["loss", "flat"]), unique=True)),
    st.tuples(st.just("strange"), st.sampled_from(["start", "pnl", "drill", "hook", "heartbeat", "new"])),
)


class Story(Run):
    """A daemon's life, told to the record."""

    def __init__(self) -> None:
        super().__init__(State({name: AccountState(pace) for name, pace in PACES.items()}, approvals_needed=2))
        self.ns = START.mono_ns

    def now(self) -> Instant:
        self.ns += 700_000_000
        return Instant(self.ns, START.wall_ns + self.ns - START.mono_ns)

    def tell(self, happening: tuple[Any, ...]) -> None:
        at = self.now()
        match happening:
            case "reason", scope:
                self(ReasonReported(Reason("panic", "touched", scope, at, {"n": self.ns}), at))
            case "clear", name:
                for _ in range(4):
                    at = self.now()
                    self(Progress(name, sweep.ReadCounted(at.mono_ns, at.mono_ns, 0, 0, True), at))
            case "order", name:
                self(Progress(name, sweep.ReadCounted(at.mono_ns, at.mono_ns, 2, 1, True), at, "2 rest", 1))
            case "answer", name, answer:
                self(Progress(name, sweep.StrikeAnswered(at.mono_ns, answer), at, f"said {answer}", 3))
            case "rearm", scope, uid, force:
                self(RearmAsked(uid, "user", "well", scope, force, (), at))
            case "drill", accounts:
                lane = {"ok": True, "rtt_us": 1, "within_budget": True, "evidence": ""}
                found = {
                    name: {"skipped": "x" if skipped else None, "lanes": {"ws": lane}}
                    for name, skipped in accounts.items()
                }
                told = {"at": "x", "by": "operator", "ok": True, "answered_us": self.ns, "budget_us": 1}
                self.note("drill", {**told, "accounts": found}, at)
            case "pnl", trigger:
                self.note("pnl", {"trigger": trigger, "equity": str(self.ns)}, at)
            case "heartbeat", trigger, watched:
                self.note("heartbeat", {"trigger": trigger, "watched": watched, "why": "beat"}, at)
            case "stamps", trigger:
                line = [self.ns, 500, self.ns, 7, "boot"]
                self.note("stamps", {"trigger": trigger, "floor": 0, "senders": {"bot": line}}, at)
            case "hook" | "hook-started" as kind, scope, attempt:
                kill = self.state.kill.id if self.state.kill else ""
                self.note(kind, {"kill": kill, "command": "stop", "accounts": scope, "attempt": attempt}, at)
            case "start" | "reload" as kind, triggers:
                self.note(kind, {"triggers": dict.fromkeys(triggers, "pnl"), "n": self.ns}, at)
            case _:
                self.note(happening[1], {"strange": [happening[1]]}, at)

    def note(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        self.write((AppendRecord(kind, data),), at)


def told(happened: Iterable[tuple[Any, ...]]) -> Entries:
    story = Story()
    for one in happened:
        story.tell(one)
    for entry in story.entries:
        entry["hash"] = str(entry["seq"])
    return story.entries


def reading(entries: Iterable[Mapping[str, Any]]) -> dict[str, object]:
    """Return all that a start reads from a journal's entries."""
    entries = list(entries)
    state = recovery.rebuild(entries, PACES, 2)
    reports = ReportBuilder(250_000, entries)
    reasons = [entry["data"] for entry in entries if entry["kind"] == "reason"]
    kill = state.kill.id if state.kill else None
    about = [entry for entry in entries if entry["data"].get("kill") == kill]
    drills = history.records_of_kind(entries, DrillRecord)
    return {
        "state": state,
        "latched": tripped_accounts(entries),
        "reports": [reports.render(kill_id) for kill_id in reports.kill_ids()],
        "seen": history.triggers_watched_until(entries, datetime(2100, 1, 1, tzinfo=UTC)),
        "pnl": {record.trigger: record for record in history.records_of_kind(entries, PnlRecord)},
        "beats": {record.trigger: record for record in history.records_of_kind(entries, HeartbeatRecord)},
        "stamps": {record.trigger: record for record in history.records_of_kind(entries, StampsRecord)},
        "drill": drills[-1:],
        "drills": {
            name: (drill.at, drill.answered_us)
            for drill in drills
            for name, found in drill.accounts.items()
            if not found.skipped
        },
        "hooks": {
            (record.kind, record.command, record.accounts): record.attempt
            for records in (
                history.records_of_kind(about, HookStartedRecord),
                history.records_of_kind(about, HookRecord),
            )
            for record in records
        },
        "first reason": next((entry["data"] for entry in about if entry["kind"] == "reason"), None),
        "latched by": {
            name: next((reason for reason in reversed(reasons) if name in reason["accounts"]), None)
            for name in tripped_accounts(entries)
        },
    }


def cut(entries: Entries, *numbers: int) -> list[Mapping[str, Any]]:
    """Return what a start reads if the journal had a new file behind each of these entries, JSON in between."""
    snapshot, done = JournalSnapshot(), 0
    for number in sorted(numbers):
        for entry in entries[done:number]:
            snapshot.apply(entry)
        done = number
        begun = {"seq": number + 1, "at": "2030-01-01T00:00:00Z", "mono_ns": 0, "boot": "", "kind": checkpoint.KIND}
        first = orjson.loads(orjson.dumps({**begun, "data": snapshot.to_json(), "hash": ""}))
        snapshot = JournalSnapshot()
        snapshot.apply(first)
    for entry in entries[done:]:
        snapshot.apply(entry)
    return snapshot.entries()


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(st.lists(happenings, max_size=40), st.lists(st.floats(0, 1), max_size=3))
def test_a_start_reads_the_same_from_a_checkpoint_and_the_tail_as_from_the_whole_journal(
    happened: list[tuple[Any, ...]], cuts: list[float]
) -> None:
    entries = told(happened)
    numbers = [round(one * len(entries)) for one in cuts]
    assert reading(cut(entries, *numbers)) == reading(entries)


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(st.lists(happenings, max_size=60), st.integers(0, 6), st.integers(1, 5))
def test_condensed_records_leave_the_same_latches_and_reports_and_never_a_clear_that_is_not(
    happened: list[tuple[Any, ...]], verbatim: int, every_s: int
) -> None:
    entries = told(happened)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kill_switch.journal.condenser.MAX_VERBATIM", verbatim)
        patch.setattr("kill_switch.journal.condenser.REPEATS_EVERY_NS", every_s * 1_000_000_000)
        patch.setattr("kill_switch.journal.condenser.QUIET_NS", 10_000_000_000)
        condenser, made = Condenser((), "boot-1"), Entries()
        for n, entry in enumerate(entries, 1):
            at = Instant(entry["mono_ns"], START.wall_ns + entry["mono_ns"] - START.mono_ns)
            for kind, data, when in (
                *condenser.due_repeats(at.mono_ns),
                *condenser.condense(entry["kind"], entry["data"], at),
            ):
                made.append({**entry, "kind": kind, "data": orjson.loads(orjson.dumps(data)), "mono_ns": when.mono_ns})
            known, true = recovery.rebuild(made, PACES, 2), recovery.rebuild(entries[:n], PACES, 2)
            assert known.tripped == true.tripped
            for name in known.tripped:
                if known.accounts[name].phase is Phase.CLEAR:
                    assert true.accounts[name].phase is Phase.CLEAR
        for kind, data, when in condenser.flush_repeats():
            made.append({**entry, "kind": kind, "data": orjson.loads(orjson.dumps(data)), "mono_ns": when.mono_ns})
    assert recovery.rebuild(made, PACES, 2) == recovery.rebuild(entries, PACES, 2)
    whole, condensed = ReportBuilder(250_000, entries), ReportBuilder(250_000, made)
    assert [condensed.render(kill) for kill in whole.kill_ids()] == [whole.render(kill) for kill in whole.kill_ids()]


def test_a_reason_is_carried_word_for_word_as_long_as_one_of_its_accounts_is_latched() -> None:
    entries = told([("reason", ("a", "b")), ("clear", "a"), ("clear", "b"), ("reason", ("c",))])
    identity = dict.fromkeys(("venue", "host", "ws_host", "key", "salt"), "x")
    entries[0]["data"]["identities"] = {"a": {**identity, "scope": {}}}
    carried = [entry for entry in cut(entries, len(entries)) if entry["kind"] == "reason"]
    assert carried[0] == entries[0]
    for n, name in enumerate(("a", "b"), 1):
        at = {"seq": len(entries) + n, "kind": "rearm", "data": {"accounts": [name]}, "at": "", "boot": "", "hash": ""}
        entries.append(at)
        kept = [entry["data"]["accounts"] for entry in cut(entries, 3) if entry["kind"] == "reason"]
        assert (["a", "b"] in kept) == (name == "a")


def test_an_intent_is_known_for_recorded_by_a_checkpoint() -> None:
    entries = told([("reason", ("a",)), ("reason", ("b", "c"))])
    lines = []
    for entry in entries:
        if entry["kind"] == "reason":
            data = entry["data"]
            line = {
                "mono_ns": data["observed_mono_ns"],
                "wall_ns": data["observed_wall_ns"],
                "accounts": data["accounts"],
            }
            lines.append(orjson.dumps(line))
    other = b'{"mono_ns":1,"wall_ns":2,"accounts":["a"]}'
    assert unrecorded([*lines, other], cut(entries, len(entries))) == [other]
    assert reason_digest({"observed_mono_ns": 1}) != reason_digest({"observed_mono_ns": 2})


def test_a_checkpoint_of_many_kills_stays_small_and_names_their_latched_accounts() -> None:
    story = Story()
    for n in range(3 * MAX_KILLS):
        for _ in range(8):
            at = story.now()
            story(ReasonReported(Reason("loss", "reached", ("b", "c"), at, {"samples": ["x" * 100] * 20}), at))
        story.tell(("clear", "b"))
        story.tell(("clear", "c"))
        if not n:
            story.tell(("reason", ("a",)))
            story.tell(("clear", "a"))
    for entry in story.entries:
        entry["hash"] = ""
    entries = cut(story.entries, len(story.entries))
    assert len(orjson.dumps(entries[-1])) < 200_000
    assert recovery.rebuild(entries, PACES, 2) == recovery.rebuild(story.entries, PACES, 2)
    assert ReportBuilder(1, entries).render() == ReportBuilder(1, story.entries).render()


@pytest.mark.parametrize("data", [{}, {"version": 2}, {"version": 1, "latches": {}}, {"version": 1, "latches": 7}])
def test_a_checkpoint_of_another_version_is_not_believed(data: dict[str, Any]) -> None:
    entry = {"seq": 9, "at": "", "boot": "", "kind": checkpoint.KIND, "data": data, "hash": ""}
    with pytest.raises(JournalBroken, match="does not understand"):
        JournalSnapshot().apply(entry)


def test_an_empty_journal_has_an_empty_checkpoint() -> None:
    assert JournalSnapshot().entries() == []
    assert list(itertools.chain(Condenser().due_repeats(10**18), Condenser().flush_repeats())) == []


def test_a_second_copy_of_a_strike_is_counted_with_it() -> None:
    condenser = Condenser()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kill_switch.journal.condenser.MAX_VERBATIM", 1)
        sent = (StrikeSent("a", 1, ("ws",), 5), StrikeSent("a", 1, ("fresh",), 6))
        story = Story()
        story.tell(("reason", ("a",)))
        story(*(StrikesSent((one,), story.now()) for one in sent))
        made = [one.kind for entry in story.entries for one in condenser.condense(entry["kind"], entry["data"], START)]
    assert made == ["reason", "strike"]
    (repeats,) = condenser.flush_repeats()
    assert (repeats.data["records"], repeats.data["strikes"], repeats.data["strike"]) == (2, 0, 1)
