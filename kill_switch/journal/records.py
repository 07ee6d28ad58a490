"""Define all kinds of journal records: type, writer, readers, first version, and whether the kind trips.

The types of kills and latches are in `core.records`; the types of the other writers are defined here. `TABLE` is the
source of `docs/reference/journal-records.md`. To add a kind, write its type, add its row to `TABLE`, and run `python -m
tests.repository.reference --write`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

from kill_switch.core.record_codec import FieldMark
from kill_switch.core.record_codec import KindTable as _Kinds
from kill_switch.core.record_codec import Record as Record
from kill_switch.core.record_codec import Unreadable as Unreadable
from kill_switch.core.records import FORMAT as FORMAT
from kill_switch.core.records import (
    AllClearRecord,
    AnswerRecord,
    CheckpointRecord,
    ClearRecord,
    IdentityRecord,
    LatchRecord,
    Names,
    Object,
    ReadRecord,
    RearmApprovedRecord,
    RearmRecord,
    RearmRefusedRecord,
    ReasonRecord,
    ReloadRecord,
    RepeatsRecord,
    ResidueRecord,
    ResumeRecord,
    SeenRecord,
    StartRecord,
    StrikeRecord,
)
from kill_switch.core.records import Entry as Entry

OMITTED = FieldMark.OMITTED


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendmentRecord(Record):
    kind: ClassVar[str] = "amendment"

    trigger: Annotated[str, "trigger of the reason"]
    observed_mono_ns: Annotated[int, "when the reason was observed, monotonic"] = 0
    observed_wall_ns: Annotated[int, "the same by the wall clock; it identifies the reason"]
    text: Annotated[str, 'new text of the reason; "": unchanged']
    evidence: Annotated[Object, "evidence that is added to the reason's"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord(Record):
    kind: ClassVar[str] = "user"

    uid: Annotated[int, "uid of the person who fired"]
    user: Annotated[str, "name of that uid, looked up after the kill was sent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectRecord(Record):
    kind: ClassVar[str] = "direct"

    kill: Annotated[str, "the kill that `fire --direct` made"]
    config: Annotated[Object, "the configuration that it read, without secrets"]
    unstruck: Annotated[Names, "accounts in scope that could not be struck"]
    pid: Annotated[int, "process id of `fire --direct`"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RearmAskedRecord(Record):
    kind: ClassVar[str] = "rearm-asked"

    uid: Annotated[int, "uid of the person"]
    user: Annotated[str, "the person's name"]
    text: Annotated[str, "the reason that the person gave"]
    accounts: Annotated[Names, "accounts in scope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAnnouncedRecord(Record):
    kind: ClassVar[str] = "start-announced"

    messages: Annotated[int, "messages that have arrived since the start, by all channels; the first one has the start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRecord(Record):
    kind: ClassVar[str] = "stop"

    state: Annotated[str, "the worst account's state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadRefusedRecord(Record):
    kind: ClassVar[str] = "reload-refused"

    uid: Annotated[int | None, "uid of the person who asked; missing after a signal", OMITTED] = None
    user: Annotated[str | None, "name of that person", OMITTED] = None
    why: Annotated[Names, "problems of the configuration file, a line each"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PnlRecord(Record):
    kind: ClassVar[str] = "pnl"

    trigger: Annotated[str, "the trigger"]
    why: Annotated[str, "`fired`, `stop`, `peak`, `warn`, `transfer`, `re-arm` and others"] = ""
    of: Annotated[Any, "accounts, currency and rates: figures with other ones are not comparable"] = None
    fired: Annotated[str, 'why the trigger fired; "": it has not fired'] = ""
    equity: Annotated[Any, "last equity, a decimal as text", OMITTED] = None
    seen_ns: Annotated[Any, "time of the last figure, by the wall clock in ns", OMITTED] = None
    moved: Annotated[Any, "the deposit or withdrawal that this record is about", OMITTED] = None
    transfers: Annotated[
        Any, "deposits and withdrawals that the equity may not show yet: account, amount, wall time", OMITTED
    ] = None
    day: Annotated[Any, "the trading day: date, why it began, since, baseline, peak, warnings", OMITTED] = None
    ended: Annotated[Any, "earlier trading days that still count", OMITTED] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRecord(Record):
    kind: ClassVar[str] = "heartbeat"

    trigger: Annotated[str, "the trigger"]
    watched: Annotated[bool, "true: the trigger fires on silence"]
    why: Annotated[str, "why `watched` changed"]


def _instants(times: Iterable[int]) -> None:
    """Raise `ValueError` at a time that no calendar has."""
    if not all(0 < due_s < 1 << 40 for due_s in times):
        raise ValueError("no time")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord(Record):
    kind: ClassVar[str] = "schedule"

    trigger: Annotated[str, "the trigger"]
    text: Annotated[str, "text of the trigger"] = ""
    fired: Annotated[tuple[int, ...], "scheduled times that it has fired for, in seconds since 1970", _instants]


@dataclass(frozen=True, slots=True, kw_only=True)
class StampsRecord(Record):
    kind: ClassVar[str] = "stamps"

    trigger: Annotated[str, "the trigger"]
    floor: Annotated[int, "stamps of an unknown sender must be greater, in ms"]
    senders: Annotated[
        Mapping[str, tuple[int, int, int, int, str]],
        "sender → its line: stamp and reach in ms, monotonic ns, wall ms, boot id",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceApprovedRecord(Record):
    kind: ClassVar[str] = "silence-approved"

    trigger: Annotated[str, "the trigger"]
    uid: Annotated[int, "uid of the person; -1: nobody, because the approvals are void"]
    user: Annotated[str, "the person's name"]
    text: Annotated[str, "the reason that the person gave, or why the approvals are void"]
    for_ns: Annotated[int, "length of the silence, in ns"]
    approvals: Annotated[int, "people who have approved; 0: the approvals before are void"]
    needed: Annotated[int, "people who must approve"]
    asked_wall_ns: Annotated[int, "when, by the wall clock"] = 0
    asked_mono_ns: Annotated[int, "the same by the monotonic clock of the boot"] = 0
    boot: Annotated[str, "id of the boot"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRecord(Record):
    kind: ClassVar[str] = "silence"

    trigger: Annotated[str, "the trigger whose reasons are held back"]
    people: Annotated[Names, "who approved it"]
    text: Annotated[str, "the reason that they gave"]
    since_wall_ns: Annotated[int, "its beginning by the wall clock"]
    since_mono_ns: Annotated[int, "the same by the monotonic clock of the boot"]
    boot: Annotated[str, "id of the boot"]
    for_ns: Annotated[int, "its length by either clock, in ns"]
    ended_wall_ns: Annotated[int, "when it ended, by the wall clock; 0: this record begins it"] = 0
    ended: Annotated[str, "why it ended"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdersLeftRecord(Record):
    kind: ClassVar[str] = "orders-left"

    account: Annotated[str, "the account that was re-armed by `--force`"]
    orders: Annotated[Names, "ids of its open orders, which the daemon does not cancel any more; at most 1,000"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRecord(Record):
    kind: ClassVar[str] = "held"

    trigger: Annotated[str, "the silenced trigger"]
    text: Annotated[str, "the reason that it would have reported"]
    accounts: Annotated[Names, "accounts that it would have killed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrilledLane(Record):
    """The result of one lane in a drill."""

    ok: bool
    rtt_us: int | None
    within_budget: bool
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrilledAccount(Record):
    """The result of one account in a drill."""

    venue: str | None = None
    ok: bool = False
    skipped: str | None
    lanes: Mapping[str, DrilledLane]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRecord(Record):
    kind: ClassVar[str] = "drill"

    at: Annotated[str, "time at which the drill began"]
    by: Annotated[str, "`operator` or `schedule`"]
    uid: Annotated[int | None, "who asked", OMITTED] = None
    user: Annotated[str | None, "name of that person", OMITTED] = None
    ok: Annotated[bool, "every lane answered within the budget"]
    budget_us: Annotated[int, "the budget, in µs"]
    answered_us: Annotated[int | None, "time until the last lane answered, in µs; null: not every lane answered"]
    within_budget: Annotated[bool, "the last answer came within the budget"] = False
    accounts: Annotated[
        Mapping[str, DrilledAccount],
        "account → `venue`, `ok`, `skipped` (why), `lanes` (route → `ok`, `rtt_us`, `within_budget`, `evidence`)",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookStartedRecord(Record):
    kind: ClassVar[str] = "hook-started"

    kill: Annotated[str, "the kill"]
    command: Annotated[str, "the command line"]
    accounts: Annotated[Names, "accounts that the hook runs for"]
    attempt: Annotated[int, "number of the attempt, from 1"] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRecord(Record):
    kind: ClassVar[str] = "hook"

    kill: Annotated[str, "the kill"]
    command: Annotated[str, "the command line"]
    accounts: Annotated[Names, "accounts that the hook ran for"]
    attempt: Annotated[int, "number of the attempt, from 1"] = 1
    ok: Annotated[bool, "the command ended with exit code 0"] = False
    why: Annotated[str, "why the command failed"] = ""
    code: Annotated[int | None, "exit code; null: unknown"] = None
    ms: Annotated[int, "duration in ms"] = 0
    output: Annotated[str, "the first 500 characters of the command's output"] = ""


class RecordKind(NamedTuple):
    """A row of `TABLE`."""

    record: type[Record]
    written_by: str
    read_by: str  # besides the `journal` command, which shows every record
    since: str  # first version of the program that writes it
    trips: bool = False  # the record alone trips the next start: it is never dropped


_ENGINE = "engine"
_LATCHES, _REPORTS = "recovery", "kill report"
_BOTH = f"{_LATCHES}, {_REPORTS}"
_NEXT = "after 0.1.0"

TABLE: tuple[RecordKind, ...] = (
    RecordKind(ReasonRecord, _ENGINE, f"{_BOTH}, write-ahead note, hooks", "0.1.0", trips=True),
    RecordKind(StrikeRecord, _ENGINE, _BOTH, "0.1.0"),
    RecordKind(AnswerRecord, _ENGINE, _REPORTS, "0.1.0"),
    RecordKind(ReadRecord, _ENGINE, _BOTH, "0.1.0"),
    RecordKind(SeenRecord, _ENGINE, _BOTH, "0.1.0"),
    RecordKind(ClearRecord, _ENGINE, _BOTH, "0.1.0"),
    RecordKind(AllClearRecord, _ENGINE, "–", "0.1.0"),
    RecordKind(ResidueRecord, _ENGINE, _REPORTS, "0.1.0"),
    RecordKind(RepeatsRecord, "journal's condenser", _BOTH, _NEXT),
    RecordKind(AmendmentRecord, "trigger supervisor", _REPORTS, _NEXT),
    RecordKind(UserRecord, "operator commands, `fire --direct`", _REPORTS, _NEXT),
    RecordKind(DirectRecord, "`fire --direct`", _REPORTS, _NEXT),
    RecordKind(LatchRecord, "daemon", _LATCHES, "0.1.0", trips=True),
    RecordKind(ResumeRecord, _ENGINE, _BOTH, "0.1.0"),
    RecordKind(IdentityRecord, _ENGINE, _BOTH, _NEXT),
    RecordKind(RearmAskedRecord, "operator commands", "–", "0.1.0"),
    RecordKind(RearmRefusedRecord, _ENGINE, "–", "0.1.0"),
    RecordKind(RearmApprovedRecord, _ENGINE, _BOTH, "0.1.0"),
    RecordKind(RearmRecord, _ENGINE, _BOTH, "0.1.0"),
    RecordKind(OrdersLeftRecord, "operator commands", "operator commands", _NEXT),
    RecordKind(StartRecord, "daemon", f"{_BOTH}, history, daemon", "0.1.0"),
    RecordKind(StartAnnouncedRecord, "daemon", "daemon", _NEXT),
    RecordKind(StopRecord, "daemon", "daemon", "0.1.0"),
    RecordKind(ReloadRecord, "reload", f"{_BOTH}, history", "0.1.0"),
    RecordKind(ReloadRefusedRecord, "reload", "–", "0.1.0"),
    RecordKind(CheckpointRecord, "journal's writer", f"{_BOTH}, write-ahead note", _NEXT),
    RecordKind(PnlRecord, "`pnl` trigger", "`pnl` trigger", "0.1.0"),
    RecordKind(HeartbeatRecord, "`heartbeat` trigger", "`heartbeat` trigger", _NEXT),
    RecordKind(ScheduleRecord, "`schedule` trigger", "`schedule` trigger", _NEXT),
    RecordKind(StampsRecord, "intake", "intake", _NEXT),
    RecordKind(SilenceApprovedRecord, "operator commands, trigger supervisor", "trigger supervisor", _NEXT),
    RecordKind(SilenceRecord, "operator commands, trigger supervisor", "trigger supervisor", _NEXT),
    RecordKind(HeldRecord, "trigger supervisor", "–", _NEXT),
    RecordKind(DrillRecord, "drills", "drills", "0.1.0"),
    RecordKind(HookStartedRecord, "hooks", "hooks", _NEXT),
    RecordKind(HookRecord, "hooks", "hooks", "0.1.0"),
)
TRIPS = tuple(row.record.kind for row in TABLE if row.trips)

_KINDS = _Kinds(row.record for row in TABLE)
from_json = _KINDS.from_json
read = _KINDS.read
