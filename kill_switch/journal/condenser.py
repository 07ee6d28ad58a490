"""Write a tripped account's repeated records as one `repeats` record a minute, by the records' own times.

The first records of a kill are written unchanged; later ones are counted, because a bot that goes on quoting causes
several a second. The record that ends a recorded CLEAR is written at once, so that no restart takes the account for
clear. A restart before a late CLEAR strikes once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kill_switch import clock
from kill_switch.core.domain import Instant
from kill_switch.core.records import (
    AllClearRecord,
    AnswerRecord,
    ClearRecord,
    IdentityRecord,
    ReadRecord,
    RearmRecord,
    ReasonRecord,
    RepeatsRecord,
    ResidueRecord,
    ResumeRecord,
    SeenRecord,
    StrikeRecord,
)
from kill_switch.core.recovery import RecoveryFold
from kill_switch.journal import records
from kill_switch.journal.kill_fold import Stamp
from kill_switch.journal.kill_report import ReportBuilder

MAX_VERBATIM = 128  # records of an account and kill that are written unchanged; ten seconds of a kill take 100
REPEATS_EVERY_NS = 60_000_000_000  # between two `repeats` records of an account
QUIET_NS = 600_000_000_000  # after a pause of this length an account's records are written unchanged again
# Before a record of these kinds the counted records are written, because a start reads them as of that moment.
_BARRIERS = ("reason", "latch", "reload", "rearm", "rearm-approved", "start", "resume", "identity", "stop")


_OfAccount = AnswerRecord | ReadRecord | SeenRecord | ClearRecord | ResidueRecord


class CondensedRecord(NamedTuple):
    """A record that is to be written to the journal."""

    kind: str
    data: Mapping[str, Any]
    at: Instant


@dataclass(slots=True)
class _AccountWindow:
    """The written and the counted records of one account in one kill."""

    kill: str | None = ""
    written: int = 0  # records written unchanged since the kill began
    last_ns: int = 0  # monotonic time of the last record
    clear: bool = False  # the written records show the account clear
    is_clear: bool = False  # all records show the account clear
    strike: int = 0  # number of the last strike
    residue: bool = False  # a `residue` record was written for this kill
    version: int = 0  # of the orders' names in the report, after the last record
    names: bool = False  # counted records have changed the orders' names
    counted: int = 0  # records that are counted and not written
    since: Instant = field(default_factory=lambda: Instant(0, 0))  # time of the first counted record
    at: Instant = field(default_factory=lambda: Instant(0, 0))  # time of the last counted record
    first_strike: int = 0  # number of the first counted strike
    strikes: int = 0  # counted strikes
    answers: int = 0  # counted answers
    reads: int = 0  # counted reads
    most: int = 0  # most orders that one of the counted reads showed


class Condenser:
    """Decide which records are written unchanged, and make `repeats` records of the others."""

    def __init__(self, entries: Sequence[Mapping[str, Any]] = (), boot: str = "") -> None:
        """Begin with the journal's entries so far; `boot` is the id of this boot."""
        self._reports = ReportBuilder(0, entries)
        self._boot = boot
        self._accounts: dict[str, _AccountWindow] = {}
        self._all_clear_kill = ""  # the last kill with an `all-clear` record
        fold = RecoveryFold()
        for entry in entries:
            fold.take(entry)
        for name, latch in fold.latches.items():
            self._accounts[name] = _AccountWindow(
                latch.kill, clear=latch.clear, is_clear=latch.clear, strike=latch.strikes
            )

    def condense(self, kind: str, data: Mapping[str, Any], at: Instant) -> Iterator[CondensedRecord]:
        """Apply the next record; yield the records that are to be written now, in their order."""
        if kind in _BARRIERS:
            yield from self.flush_repeats()
        record = records.read(kind, data)
        self._reports.apply(record, Stamp(clock.iso(at.wall_ns), self._boot))
        match record:
            case StrikeRecord():
                yield from self._strike(record, data, at)
            case AnswerRecord() | ReadRecord() | SeenRecord() | ClearRecord() | ResidueRecord():
                yield from self._on_account_record(record, data, at)
            case AllClearRecord():
                if record.kill != self._all_clear_kill:
                    self._all_clear_kill = record.kill
                    yield CondensedRecord(kind, data, at)
            case ReasonRecord():
                for name in record.accounts:
                    account = self._window(name, record.kill, at)
                    account.clear = account.is_clear = False
                yield CondensedRecord(kind, data, at)
            case RearmRecord():
                for name in record.accounts:
                    self._accounts.pop(name, None)
                yield CondensedRecord(kind, data, at)
            case ResumeRecord() | IdentityRecord():  # accounts may have got other names, and exchanged them
                moved = {new: self._accounts.pop(old) for old, new in record.moved.items() if old in self._accounts}
                self._accounts |= moved
                yield CondensedRecord(kind, data, at)
            case _:  # other kinds, and records that cannot be read, are written unchanged
                yield CondensedRecord(kind, data, at)

    def due_repeats(self, mono_ns: int) -> Iterator[CondensedRecord]:
        """Yield the `repeats` records that are due at that monotonic time."""
        for name, account in self._accounts.items():
            if account.counted and mono_ns - account.since.mono_ns >= REPEATS_EVERY_NS:
                yield self._repeats(name, account)

    def flush_repeats(self) -> Iterator[CondensedRecord]:
        """Yield a `repeats` record of every account with counted records, due or not."""
        for name, account in self._accounts.items():
            if account.counted:
                yield self._repeats(name, account)

    def _window(self, name: str, kill: str | None, at: Instant) -> _AccountWindow:
        account = self._accounts.setdefault(name, _AccountWindow())
        if kill != account.kill or at.mono_ns - account.last_ns >= QUIET_NS:
            if kill != account.kill:
                account.version, account.names = 0, False
            account.kill, account.written, account.residue = kill, 0, False
        account.last_ns = at.mono_ns
        return account

    def _strike(self, record: StrikeRecord, data: Mapping[str, Any], at: Instant) -> Iterator[CondensedRecord]:
        written: list[Mapping[str, Any]] = []
        due: list[CondensedRecord] = []
        for sent, sent_data in zip(record.sent, data["sent"], strict=True):
            name, number = sent.account, sent.strike
            account = self._window(name, sent.kill, at)
            newer = number > account.strike
            if self._is_written(name, account, reopens=newer, closes=False):
                written.append(sent_data)
            else:
                due += self._count(name, account, at)
                account.first_strike = account.first_strike or number
                account.strikes += newer
            account.strike = max(account.strike, number)
        if written:
            yield CondensedRecord("strike", {**data, "sent": tuple(written)}, at)
        yield from due

    def _on_account_record(self, record: _OfAccount, data: Mapping[str, Any], at: Instant) -> Iterator[CondensedRecord]:
        name = record.account
        account = self._window(name, record.kill, at)
        reopens = isinstance(record, SeenRecord) or (isinstance(record, ReadRecord) and record.shows_orders)
        first_residue = isinstance(record, ResidueRecord) and not account.residue
        account.residue = account.residue or first_residue
        if self._is_written(name, account, reopens=reopens, closes=isinstance(record, ClearRecord)) or first_residue:
            yield CondensedRecord(record.kind, data, at)
            return
        due = list(self._count(name, account, at))
        account.answers += isinstance(record, AnswerRecord)
        if isinstance(record, ReadRecord):
            account.reads += 1
            account.most = max(account.most, record.live + record.pending)
        yield from due

    def _is_written(self, name: str, account: _AccountWindow, *, reopens: bool, closes: bool) -> bool:
        """Return whether a record is written unchanged, and update the account's window.

        `reopens` and `closes`: the record ends a CLEAR, or proves one.
        """
        tally = self._reports.tally(account.kill or "", name)
        before, account.version = account.version, tally.version if tally is not None else 0
        if reopens or closes:
            account.is_clear = closes
        if account.written >= MAX_VERBATIM and not (reopens and account.clear):
            account.names = account.names or account.version != before
            return False
        account.written += 1
        if reopens or closes:
            account.clear = closes
        return True

    def _count(self, name: str, account: _AccountWindow, at: Instant) -> Iterator[CondensedRecord]:
        """Count a record that is not written; first yield the counted records before it if they are due."""
        if account.counted and at.mono_ns - account.since.mono_ns >= REPEATS_EVERY_NS:
            yield self._repeats(name, account)
        if not account.counted:
            account.since = at
        account.counted, account.at = account.counted + 1, at

    def _repeats(self, name: str, account: _AccountWindow) -> CondensedRecord:
        record = RepeatsRecord(
            kill=account.kill,
            account=name,
            since=clock.iso(account.since.wall_ns),
            records=account.counted,
            first_strike=account.first_strike,
            strike=account.strike,
            strikes=account.strikes,
            answers=account.answers,
            reads=account.reads,
            most=account.most,
            clear=account.is_clear,
            mono_ns=account.at.mono_ns,
            stands=self._reports.account_state(account.kill or "", name, names=account.names),
        )
        account.clear, account.counted, account.names = account.is_clear, 0, False
        account.first_strike = account.strikes = account.answers = account.reads = account.most = 0
        return CondensedRecord(record.kind, record.to_json(), account.at)
