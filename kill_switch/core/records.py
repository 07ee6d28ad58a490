"""Record types that the engine writes and `recovery` reads: kills, latches, re-arms, starts and checkpoints.

They are in the core because it may not import the journal; `journal.records` adds all other kinds and has the table.
Kinds and field names are frozen, because journals of all versions are read; fields are written in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeAlias

from kill_switch.core.domain import CancelOutcome
from kill_switch.core.identity import parse_identities
from kill_switch.core.record_codec import FieldMark, Record

FORMAT = 1  # of the journal; raise it only if an earlier version would misread latches: that version then trips
STRICT, OMITTED = FieldMark.STRICT, FieldMark.OMITTED

Entry: TypeAlias = Mapping[str, Any]  # one line of the journal: `seq, at, mono_ns, boot, kind, data, prev, hash`
Object: TypeAlias = Mapping[str, Any]
Names: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonRecord(Record):
    kind: ClassVar[str] = "reason"

    kill: Annotated[str, "the kill that the reason begins or joins"]
    trigger: Annotated[str, "name of the trigger"] = ""
    text: Annotated[str, "what the trigger observed, for people"] = ""
    accounts: Annotated[Names, "accounts that are tripped"]
    identities: Annotated[Object, "account → whom the kill strikes under that name", parse_identities, STRICT] = field(
        default_factory=dict
    )
    evidence: Annotated[Object, "what the trigger knows of the reason; its own keys"] = field(default_factory=dict)
    observed_mono_ns: Annotated[int, "when the trigger observed it, by the monotonic clock"]
    observed_wall_ns: Annotated[int, "the same instant by the wall clock"]
    known_as: Annotated[str | None, "the kill's id before `fire --direct` joined the journal", OMITTED] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Record):
    """An account's part of a strike."""

    kill: Annotated[str | None, "the account's kill"] = None
    account: Annotated[str, "the account"]
    strike: Annotated[int, "number of the strike; it counts on from kill to kill, until the re-arm"]
    routes: Annotated[Names, "routes that took the command: `ws`, `http`, `fresh`"] = ()
    mono_ns: Annotated[int, "when the last byte was handed over, monotonic; 0: none was"] = 0
    orders: Annotated[Object | None, "what is new of the orders that the kill counts", OMITTED] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrikeRecord(Record):
    kind: ClassVar[str] = "strike"

    sent: Annotated[
        tuple[Sent, ...], "an object for each account: `kill`, `account`, `strike`, `routes`, `mono_ns`, `orders`"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord(Record):
    kind: ClassVar[str] = "answer"

    kill: Annotated[str | None, "the account's kill"]
    account: Annotated[str, "the account"]
    strike: Annotated[int, "number of the strike that is answered"]
    answer: Annotated[CancelOutcome, "`ACCEPTED`, `REFUSED`, `UNKNOWN` or `UNSENT`"]
    mono_ns: Annotated[int, "when the answer came, monotonic"]
    evidence: Annotated[str, "what the venue said"] = ""
    cancelled: Annotated[int | None, "orders that the venue says it cancelled"] = None
    orders: Annotated[Object | None, "what is new of the orders that the kill counts", OMITTED] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecord(Record):
    kind: ClassVar[str] = "read"

    kill: Annotated[str | None, "the account's kill"] = None
    account: Annotated[str, "the account"]
    live: Annotated[int, "orders that may still fill"]
    pending: Annotated[int, "orders with a cancel under way"]
    complete: Annotated[bool, "the read shows everything"]
    stale: Annotated[bool, "it was asked for before the last strike, and proves nothing"] = False
    mono_ns: Annotated[int | None, "when it came, monotonic"] = None
    evidence: Annotated[str, "why it does not show everything"] = ""
    cancelled: Annotated[int | None, "orders that the venue says it cancelled"] = None
    orders: Annotated[Object | None, "what is new of the orders that the kill counts", OMITTED] = None

    @property
    def shows_orders(self) -> bool:
        """Whether the read shows orders that are open now; an incomplete read proves only live ones."""
        return not self.stale and bool(self.live or (self.pending and self.complete))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRecord(Record):
    kind: ClassVar[str] = "seen"

    kill: Annotated[str | None, "the account's kill"] = None
    account: Annotated[str, "the account, which was clear"]
    mono_ns: Annotated[int | None, "when the order was seen, monotonic"] = None
    evidence: Annotated[str, "the order, in the venue's words"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearRecord(Record):
    kind: ClassVar[str] = "clear"

    kill: Annotated[str | None, "the account's kill"] = None
    account: Annotated[str, "the account that is proven clear"]
    strikes: Annotated[int | None, "number of the last strike"] = None
    mono_ns: Annotated[int | None, "when it was proven, monotonic"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllClearRecord(Record):
    kind: ClassVar[str] = "all-clear"

    kill: Annotated[str, "the kill of which every account is proven clear"]
    mono_ns: Annotated[int | None, "when, monotonic"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidueRecord(Record):
    kind: ClassVar[str] = "residue"

    kill: Annotated[str | None, "the account's kill"] = None
    account: Annotated[str, "the account that is not clear within the venue's time"]
    left: Annotated[int | None, "orders that the last read showed; null: unknown"]
    mono_ns: Annotated[int | None, "when, monotonic"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatsRecord(Record):
    kind: ClassVar[str] = "repeats"

    kill: Annotated[str | None, "the account's kill"] = None
    account: Annotated[str, "the account"]
    since: Annotated[str, "time of the first record that is counted"] = ""
    records: Annotated[int, "records that are counted and not written"] = 0
    first_strike: Annotated[int, "number of the first strike among them; 0: none"] = 0
    strike: Annotated[int, "number of the account's last strike"]
    strikes: Annotated[int, "strikes among them"] = 0
    answers: Annotated[int, "answers among them"] = 0
    reads: Annotated[int, "reads among them"] = 0
    most: Annotated[int, "most orders that one of the reads showed"] = 0
    clear: Annotated[bool, "the account is proven clear after them"]
    mono_ns: Annotated[int, "time of the last of them, monotonic"] = 0
    stands: Annotated[Object | None, "all that the report says of the account after them"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatchRecord(Record):
    kind: ClassVar[str] = "latch"

    accounts: Annotated[Names, "accounts that a latch file names and the configuration lacks: they are tripped"]
    said: Annotated[str, "beginning of the latch file"] = ""
    uid: Annotated[int | None, "who left it, if a person did", OMITTED] = None
    user: Annotated[str | None, "the same as text", OMITTED] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRecord(Record):
    kind: ClassVar[str] = "resume"

    accounts: Annotated[Names, "accounts that the daemon has found tripped"] = ()
    striking: Annotated[Names, "those of them that it strikes again"] = ()
    identities: Annotated[
        Object, "account → those who were struck under its name, the present one last", parse_identities, STRICT
    ] = field(default_factory=dict)
    moved: Annotated[Mapping[str, str], "old name → new name of accounts that were latched", STRICT] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRecord(Record):
    kind: ClassVar[str] = "identity"

    accounts: Annotated[Names, "accounts that log in as somebody else now, or see more"] = ()
    identities: Annotated[
        Object, "account → those who were struck under its name, the present one last", parse_identities, STRICT
    ] = field(default_factory=dict)
    moved: Annotated[Mapping[str, str], "old name → new name of accounts that were latched", STRICT] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RearmRefusedRecord(Record):
    kind: ClassVar[str] = "rearm-refused"

    uid: Annotated[int, "the person"]
    user: Annotated[str, "the person's name"]
    text: Annotated[str, "the reason that the person gave"]
    force: Annotated[bool, "`--force` was given"] = False
    accounts: Annotated[Names, "accounts in scope"]
    why: Annotated[Names, "why nothing changes, a line each"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RearmApprovedRecord(Record):
    kind: ClassVar[str] = "rearm-approved"

    uid: Annotated[int, "the person"]
    user: Annotated[str | None, "the person's name"] = None
    text: Annotated[str | None, "the reason that the person gave"] = None
    force: Annotated[bool, "`--force` was given"] = False
    accounts: Annotated[Names, "tripped accounts that the person approves; another person has to agree"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RearmRecord(Record):
    kind: ClassVar[str] = "rearm"

    uid: Annotated[int | None, "the person who came last"] = None
    user: Annotated[str | None, "the person's name"] = None
    text: Annotated[str | None, "the reason that the person gave"] = None
    force: Annotated[bool, "`--force` was given"] = False
    accounts: Annotated[Names, "accounts that are armed again"]
    approvals: Annotated[tuple[int, ...] | None, "uids of all who agreed", OMITTED] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRow(Record):
    """Starts without a stop between them, each within 10 min of the previous start."""

    starts: int = 1  # with this one
    since: str = ""  # time of the first
    messages: int = 0  # of earlier starts of the row that were sent
    last_message: str = ""  # time of the start that the last of them was about


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord(Record):
    kind: ClassVar[str] = "start"

    version: Annotated[str, "of the program"] = ""
    pid: Annotated[int, "the daemon's process"] = 0
    format: Annotated[Any, "of the journal, an integer; missing: 1"] = 1
    accounts: Annotated[Object, "account → venue"] = field(default_factory=dict)
    triggers: Annotated[Mapping[str, str] | None, "trigger → kind"] = None
    config: Annotated[Object | None, "the configuration in force, without secrets"] = None
    changed: Annotated[Object, "what differs from the configuration that the journal had last"] = field(
        default_factory=dict
    )
    torn: Annotated[str | None, "a record that a crash cut off at the journal's end", OMITTED] = None
    row: Annotated[
        StartRow | None,
        "starts without a stop, each within 10 min of the previous start: `starts`, `since`, `messages` about "
        "earlier ones that were sent, and the start that the `last_message` was about",
        OMITTED,
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadRecord(Record):
    kind: ClassVar[str] = "reload"

    uid: Annotated[int | None, "who asked; missing after a signal", OMITTED] = None
    user: Annotated[str | None, "the name", OMITTED] = None
    change: Annotated[str, "what has changed, in words"] = ""
    accounts: Annotated[Object, "account → venue"] = field(default_factory=dict)
    triggers: Annotated[Mapping[str, str] | None, "trigger → kind"] = None
    config: Annotated[Object | None, "the configuration in force, without secrets"] = None
    changed: Annotated[Object, "keys that have other values now"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord(Record):
    kind: ClassVar[str] = "checkpoint"

    version: Annotated[Any, "of the checkpoint, an integer: another one trips"]
    format: Annotated[Any, "of the journal, an integer; missing: 1"] = 1
    latches: Annotated[Object, "latches, approvals and kills: what `recovery` has made of the records before"]
    kills: Annotated[Object, "reports of the last kills"]
    reasons: Annotated[Names, "digests of the last reasons, by which a write-ahead note is known"]
    carried: Annotated[tuple[Any, ...], "last records of their kinds, as they were written"]
    until: Annotated[str, "time of the last record before"]
    boot: Annotated[str, "boot id of the last record before"]


RECORDS: tuple[type[Record], ...] = (
    ReasonRecord,
    StrikeRecord,
    AnswerRecord,
    ReadRecord,
    SeenRecord,
    ClearRecord,
    AllClearRecord,
    ResidueRecord,
    RepeatsRecord,
    LatchRecord,
    ResumeRecord,
    IdentityRecord,
    RearmRefusedRecord,
    RearmApprovedRecord,
    RearmRecord,
    StartRecord,
    ReloadRecord,
    CheckpointRecord,
)


def is_understood(journal_format: object) -> bool:
    """Return whether this version reads a journal of that format; a format that is no number is not understood."""
    return type(journal_format) is int and journal_format <= FORMAT
