"""A start says whether the last daemon was stopped or died, as the journal's fold has it."""

from __future__ import annotations

import pytest

from kill_switch.core.records import ReloadRecord, StartRecord
from kill_switch.core.state import State
from kill_switch.daemon import start_and_stop
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.records import DrillRecord, Record, StopRecord

TRIGGERS = {"panic": "flag"}
RECORDS: dict[str, Record] = {
    "start": StartRecord(triggers=TRIGGERS),
    "reload": ReloadRecord(triggers=TRIGGERS),
    "drill": DrillRecord(at="", by="schedule", ok=True, budget_us=1, answered_us=1, accounts={}),
    "stop": StopRecord(state="ARMED"),
}


def text_after(*kinds: str, is_moved: bool) -> str:
    """Return the text of a start behind records of these kinds; moved, they are in a checkpoint of another file."""
    snapshot = JournalSnapshot()
    for seq, kind in enumerate(kinds, 1):
        snapshot.apply(entry(seq, kind, RECORDS[kind].to_json()))
    if is_moved and kinds:
        moved, snapshot = snapshot, JournalSnapshot()
        snapshot.apply(entry(len(kinds) + 1, "checkpoint", moved.to_json()))
    return start_and_stop.started(snapshot.entries(), State({}), 1).text


def entry(seq: int, kind: str, data: object) -> dict[str, object]:
    at = f"2026-11-30T05:00:{seq:02}.000000Z"
    return {"seq": seq, "at": at, "mono_ns": seq, "boot": "b", "kind": kind, "data": data, "prev": "", "hash": "h"}


@pytest.mark.parametrize("is_moved", [False, True])
@pytest.mark.parametrize(
    "kinds",
    [(), ("start", "stop"), ("start", "reload", "drill", "stop"), ("start", "start", "stop"), ("start", "stop") * 3],
)
def test_a_start_behind_an_orderly_stop_says_nothing_of_the_last_daemon(kinds: tuple[str, ...], is_moved: bool) -> None:
    assert text_after(*kinds, is_moved=is_moved).endswith("watches 0 account(s) with 1 trigger(s)")


@pytest.mark.parametrize("is_moved", [False, True])
@pytest.mark.parametrize(
    "kinds",
    [
        ("start",),
        ("start", "drill"),
        ("start", "stop", "start"),
        ("start", "stop", "start", "reload"),
        ("start", "reload"),
    ],
)
def test_a_start_behind_a_daemon_that_died_says_since_when_no_daemon_watched(
    kinds: tuple[str, ...], is_moved: bool
) -> None:
    died = f"the last daemon ended without a stop, after 2026-11-30T05:00:0{len(kinds)}.000000Z: nobody has watched"
    assert died in text_after(*kinds, is_moved=is_moved)
