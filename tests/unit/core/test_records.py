"""The table of the journal's records has every kind; any JSON is read without an error, and what is damaged trips."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kill_switch
from kill_switch.core import recovery
from kill_switch.core.domain import Instant, SweepTiming
from kill_switch.core.identity import Login
from kill_switch.core.record_codec import fields_of
from kill_switch.errors import JournalBroken
from kill_switch.journal import records
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.condenser import Condenser
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.segments import read_at_start, read_journal
from tests.harness.core_playbook import TIMING
from tests.harness.recovered import tripped_accounts

PACKAGE = Path(kill_switch.__file__).parent
# methods and types whose first argument is a kind
WRITES = {"append", "record_durably", "append_latch", "AppendRecord", "CondensedRecord"}
LOGIN = Login("oxfun", "wss://ws.example/v2", "https://api.example", "key", {"sub": ["1"]})
ME = LOGIN.identity("salt")
WHOLE: Mapping[str, dict[str, Any]] = {
    "reason": {
        "kill": "k1-1", "trigger": "panic", "text": "touched", "accounts": ["a"], "identities": {"a": ME},
        "evidence": {}, "observed_mono_ns": 1, "observed_wall_ns": 1, "known_as": "d1",
    },
    "strike": {"sent": [{"kill": "k1-1", "account": "a", "strike": 1, "routes": ["ws"], "mono_ns": 2, "orders": {}}]},
    "answer": {
        "kill": "k1-1", "account": "a", "strike": 1, "answer": "ACCEPTED", "mono_ns": 3, "evidence": "",
        "cancelled": 1, "orders": {"open": ["x"]},
    },
    "read": {
        "kill": "k1-1", "account": "a", "live": 0, "pending": 0, "complete": True, "stale": False, "mono_ns": 4,
        "evidence": "", "cancelled": None, "orders": {"gone": ["x"], "more": [0, 1]},
    },
    "seen": {"kill": "k1-1", "account": "a", "mono_ns": 5, "evidence": "x"},
    "clear": {"kill": "k1-1", "account": "a", "strikes": 1, "mono_ns": 6},
    "all-clear": {"kill": "k1-1", "mono_ns": 6},
    "residue": {"kill": "k1-1", "account": "a", "left": None, "mono_ns": 7},
    "repeats": {
        "kill": "k1-1", "account": "a", "since": "", "records": 2, "first_strike": 1, "strike": 2, "strikes": 1,
        "answers": 1, "reads": 0, "most": 0, "clear": True, "mono_ns": 8, "stands": None,
    },
    "amendment": {"trigger": "panic", "observed_mono_ns": 1, "observed_wall_ns": 1, "text": "more", "evidence": {}},
    "user": {"uid": 1000, "user": "ada"},
    "direct": {"kill": "k1-1", "config": {}, "unstruck": ["b"], "pid": 7},
    "latch": {"accounts": ["z"], "said": "", "uid": 1000, "user": "1000"},
    "resume": {"accounts": ["a"], "striking": [], "identities": {"a": [ME]}, "moved": {}},
    "identity": {"accounts": ["a"], "identities": {"a": [ME]}, "moved": {"old": "a"}},
    "rearm-asked": {"uid": 1000, "user": "ada", "text": "done", "accounts": ["a"]},
    "rearm-refused": {
        "uid": 1000, "user": "ada", "text": "done", "force": False, "accounts": ["a"], "why": ["a is STRIKING"],
    },
    "rearm-approved": {"uid": 1000, "user": "ada", "text": "done", "force": False, "accounts": ["a"]},
    "rearm": {"uid": 1, "user": "bo", "text": "done", "force": False, "accounts": ["a"], "approvals": [1000, 1]},
    "start": {
        "version": "0.1.0", "pid": 7, "format": 1, "accounts": {"a": "oxfun"}, "triggers": {"panic": "flag"},
        "config": {}, "changed": {}, "torn": "{",
        "row": {"starts": 2, "since": "2026-01-01T00:00:00Z", "messages": 1, "last_message": "2026-01-01T00:00:00Z"},
    },
    "start-announced": {"messages": 1},
    "stop": {"state": "ARMED"},
    "reload": {
        "uid": 1000, "user": "ada", "change": "nothing", "accounts": {"a": "oxfun"}, "triggers": {"panic": "flag"},
        "config": {}, "changed": {},
    },
    "reload-refused": {"uid": 1000, "user": "ada", "why": ["wrong"]},
    "checkpoint": JournalSnapshot().to_json(),
    "pnl": {
        "trigger": "loss", "why": "fired", "of": {}, "fired": "", "equity": "1", "seen_ns": 1, "moved": {},
        "transfers": [], "day": {}, "ended": [],
    },
    "heartbeat": {"trigger": "beat", "watched": True, "why": "beat"},
    "schedule": {"trigger": "friday", "text": "now", "fired": [1]},
    "stamps": {"trigger": "beat", "floor": 0, "senders": {"bot": [1, 2, 3, 4, "boot"]}},
    "silence-approved": {
        "trigger": "beat", "uid": 1, "user": "ada", "text": "an update", "for_ns": 9, "approvals": 1, "needed": 2,
        "asked_wall_ns": 1, "asked_mono_ns": 2, "boot": "b",
    },
    "silence": {
        "trigger": "beat", "people": ["ada"], "text": "an update", "since_wall_ns": 1, "since_mono_ns": 2, "boot": "b",
        "for_ns": 9, "ended_wall_ns": 0, "ended": "",
    },
    "orders-left": {"account": "a", "orders": ["x"]},
    "held": {"trigger": "beat", "text": "late", "accounts": ["a"]},
    "drill": {
        "at": "2026-01-01T00:00:00Z", "by": "operator", "uid": 1, "user": "ada", "ok": True, "budget_us": 9,
        "answered_us": 5, "within_budget": True,
        "accounts": {
            "a": {
                "venue": "oxfun", "ok": True, "skipped": None,
                "lanes": {"ws": {"ok": True, "rtt_us": 5, "within_budget": True, "evidence": ""}},
            }
        },
    },
    "hook-started": {"kill": "k1-1", "command": "true", "accounts": ["a"], "attempt": 1},
    "hook": {
        "kill": "k1-1", "command": "true", "accounts": ["a"], "attempt": 1, "ok": True, "why": "", "code": 0,
        "ms": 3, "output": "",
    },
}  # fmt: skip
KINDS = [row.record.kind for row in records.TABLE]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(["a", "kill", "salt"]), one, max_size=3),
    max_leaves=6,
)


def entry(seq: int, kind: str, data: object) -> dict[str, Any]:
    stamps = {"seq": seq, "at": "2026-01-01T00:00:00Z", "mono_ns": seq, "boot": "b", "hash": ""}
    return {**stamps, "kind": kind, "data": data}


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> object:
    """Return a record's data in which some value, at any depth, is another one, or is missing."""
    data = orjson.loads(orjson.dumps(WHOLE[kind]))
    for _ in range(draw(st.integers(1, 2))):
        place: Any = data
        while place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(ANY)
            else:
                del place[key]
            break
    return data


def kinds_in_the_code() -> Iterator[tuple[str, str]]:
    for path in PACKAGE.rglob("*.py"):
        if "sim" in path.relative_to(PACKAGE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or len(node.args) < 2:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            kind = node.args[0]
            if name in WRITES and isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                yield kind.value, f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_each_kind_that_the_code_writes_by_its_name_is_in_the_table() -> None:
    found = list(kinds_in_the_code())
    assert len(found) > 10
    assert [place for kind, place in found if kind not in KINDS] == []


def test_the_table_has_each_record_type_once_and_describes_each_field() -> None:
    assert len(set(KINDS)) == len(KINDS)
    assert {one.__name__ for one in records.Record.__subclasses__() if one.kind} == {
        row.record.__name__ for row in records.TABLE
    }
    types = [row.record for row in records.TABLE]
    silent = [f"{one.kind}.{field.name}" for one in types for field in fields_of(one) if not field.meaning]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_record_is_read_as_it_was_written(kind: str) -> None:
    record = records.read(kind, orjson.loads(orjson.dumps(WHOLE[kind])))
    assert isinstance(record, records.Record), record
    assert orjson.dumps(record.to_json()) == orjson.dumps(WHOLE[kind])
    assert [one.name for one in fields(record)] == list(WHOLE[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_fields_to_come_are_left_out(kind: str) -> None:
    assert records.read(kind, {**WHOLE[kind], "to come": {}}) == records.read(kind, WHOLE[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_without_a_required_field_is_unfit_even_after_a_record_whose_field_is_null(kind: str) -> None:
    for field in fields_of(next(row.record for row in records.TABLE if row.record.kind == kind)):
        records.read(kind, {**WHOLE[kind], field.name: None})
        record = records.read(kind, {name: value for name, value in WHOLE[kind].items() if name != field.name})
        assert isinstance(record, records.Unreadable) is field.required, field.name


@pytest.mark.parametrize("routes", [("ws", 1), ("ws", None), ("ws", ("http",))])
def test_a_list_with_an_item_of_another_type_is_dropped_even_after_a_list_that_fits(routes: tuple[object, ...]) -> None:
    sent = {"kill": "k1-1", "account": "a", "strike": 1, "mono_ns": 2}
    for fitting in (("ws",), ("ws", "http")):
        assert records.read("strike", {"sent": [{**sent, "routes": fitting}]}).sent[0].routes == fitting  # type: ignore[union-attr]
    assert records.read("strike", {"sent": [{**sent, "routes": routes}]}).sent[0].routes == ()  # type: ignore[union-attr]


@given(st.data())
def test_a_record_with_any_json_in_any_field_is_read_without_an_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    told = data.draw(damaged(kind) | ANY)
    record = records.read(kind, told)
    assert isinstance(record, records.Record | records.Unreadable)
    if isinstance(record, records.Record):
        orjson.dumps(record.to_json(), default=str)
    if not isinstance(told, dict):
        return
    before = [entry(1, "reason", WHOLE["reason"]), entry(2, "strike", WHOLE["strike"])]
    entries = [*before, entry(3, kind, told)]
    ReportBuilder(1, entries)
    list(Condenser(before).condense(kind, told, Instant(1, 1)))
    try:
        recovery.rebuild(entries, {"a": TIMING, "b": TIMING}, 1, {"a": LOGIN})
        recovery.tripped_unconfigured(entries, {"a": LOGIN})
        snapshot = JournalSnapshot()
        for one in entries:
            snapshot.apply(one)
    except JournalBroken:
        pass  # it trips


@given(st.data())
def test_a_damaged_reason_or_latch_trips_its_accounts_or_all(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["reason", "latch"]))
    told = data.draw(damaged(kind))
    whole = isinstance(told, dict) and told.get("accounts") == WHOLE[kind]["accounts"]
    try:
        latched = tripped_accounts([entry(1, kind, told)])
    except JournalBroken:
        return
    named = told["accounts"] if isinstance(told, dict) else []
    assert latched == frozenset(named) and (whole or isinstance(named, list))


@pytest.mark.parametrize("format", [2, 99, "1", None, 1.0, True, []])
@pytest.mark.parametrize("kind", ["start", "checkpoint"])
def test_a_journal_of_a_format_that_this_version_does_not_know_trips(kind: str, format: object) -> None:
    with pytest.raises(JournalBroken):
        tripped_accounts([entry(1, kind, {**WHOLE[kind], "format": format})])


@pytest.mark.parametrize("kind", ["start", "checkpoint"])
def test_a_journal_without_a_format_is_read(kind: str) -> None:
    data = {key: value for key, value in WHOLE[kind].items() if key != "format"}
    assert tripped_accounts([entry(1, kind, data)]) == frozenset()


JOURNALS = sorted((Path(__file__).parent / "journals").glob("*.jsonl"))


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_a_journal_that_an_earlier_version_wrote_gives_the_state_that_it_gave_then(path: Path) -> None:
    """`0.1.0` is of commit 66c41ca, `before-records` of 7ab78d8; beside each is what that commit made of it."""
    then = orjson.loads(path.with_suffix(".json").read_bytes())
    found = read_journal(path)
    assert found.broken is None and not found.torn
    unreadable = [entry for entry in found.entries if isinstance(records.from_json(entry), records.Unreadable)]
    assert unreadable == []
    paces = dict.fromkeys(then["accounts"], SweepTiming(clean_reads=1))
    for entries in (found.entries, read_at_start(path).entries):
        state = recovery.rebuild(entries, paces, 2)
        kill = state.kill
        assert kill is not None
        reports = ReportBuilder(250_000, entries)
        now = {
            "accounts": {
                name: [account.phase, account.kill, account.sweep.strikes if account.sweep else 0]
                for name, account in state.accounts.items()
            },
            "kill": [kill.id, list(kill.began), sorted(kill.accounts), sorted(kill.unclear)],
            "kills": state.kill_count,
            "approvals": {str(uid): sorted(names) for uid, names in state.approvals.items()},
            "latched": sorted(tripped_accounts(entries)),
        }
        assert orjson.loads(orjson.dumps(now)) == {key: then[key] for key in now}
        verdicts = [{name: one["verdict"] for name, one in report["accounts"].items()} for report in then["reports"]]
        shown: list[dict[str, Any]] = [reports.render(kill_id) or {} for kill_id in reports.kill_ids()]
        assert [{name: one["verdict"] for name, one in report["accounts"].items()} for report in shown] == verdicts
        if path.stem == "before-records":
            assert orjson.loads(orjson.dumps(shown)) == then["reports"]
