"""Rebuild the engine's state from the journal's entries. A record about latches that is not understood raises. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, assert_never

from kill_switch.core import sweep as sweeping
from kill_switch.core.domain import Instant, SweepTiming
from kill_switch.core.identity import Identity, Login, StruckLogins, find_moved, find_shared
from kill_switch.core.record_codec import KindTable, Record, Unreadable
from kill_switch.core.records import (
    RECORDS,
    CheckpointRecord,
    ClearRecord,
    Entry,
    IdentityRecord,
    LatchRecord,
    ReadRecord,
    RearmApprovedRecord,
    RearmRecord,
    ReasonRecord,
    ReloadRecord,
    RepeatsRecord,
    ResumeRecord,
    SeenRecord,
    StartRecord,
    StrikeRecord,
    is_understood,
)
from kill_switch.core.state import AccountState, Kill, State
from kill_switch.errors import JournalBroken

KINDS = KindTable(RECORDS)
ABOUT_LATCHES = frozenset(
    record_type.kind
    for record_type in (
        ReasonRecord,
        StrikeRecord,
        ReadRecord,
        SeenRecord,
        ClearRecord,
        RepeatsRecord,
        LatchRecord,
        ResumeRecord,
        IdentityRecord,
        ReloadRecord,
        RearmApprovedRecord,
        RearmRecord,
        CheckpointRecord,
    )
)  # a record of these kinds that cannot be understood trips, because it may be about any latch


class _NotUnderstood(ValueError):
    """A record about latches cannot be understood."""


@dataclass(slots=True)
class _Latch:
    kill: str
    clear: bool = False
    strikes: int = 0


class RecoveryFold:
    """The latches, kills and approvals of the entries so far, for all accounts that they name."""

    def __init__(self) -> None:
        self.latches: dict[str, _Latch] = {}
        self.struck = StruckLogins()
        self.approvals: dict[int, frozenset[str]] = {}
        self.kill_id, self.began, self.scope, self.kills = "", Instant(0, 0), frozenset[str](), 0

    def take(self, entry: Entry) -> None:
        """Apply the next entry; raise `JournalBroken` at an entry about latches that cannot be understood."""
        record = KINDS.from_json(entry)
        try:
            self.apply(record)
        except _NotUnderstood as error:
            raise JournalBroken(entry.get("seq", 0), str(error)) from None

    def apply(self, record: Record | Unreadable) -> None:
        """Apply the next record; raise a `ValueError` at a record about latches that cannot be understood."""
        match record:
            case Unreadable(kind=kind) if kind in ABOUT_LATCHES:
                raise _NotUnderstood("a record that this version does not understand")
            case StrikeRecord() | SeenRecord() | ReadRecord() | ClearRecord() | RepeatsRecord():
                self._apply_progress(record)
            case RearmApprovedRecord() | RearmRecord():
                self._apply_rearm(record)
            case ReasonRecord():
                self._reason(record)
            case LatchRecord():  # of a latch file, for accounts that were not configured
                for name in record.accounts:
                    self.latches.setdefault(name, _Latch(self.kill_id))
            case ResumeRecord() | IdentityRecord():
                self.on_renamed(record.moved)
                for name in self.struck.on_identity(record.identities):
                    self.latches.setdefault(name, _Latch(self.kill_id))
                    self._reopen(name)
            case ReloadRecord():
                self.approvals.clear()
            case StartRecord():
                _require_format(record.format)
            case CheckpointRecord():
                _require_format(record.format)
                self._restore(record.latches)
            case _:
                pass

    def _apply_progress(self, record: StrikeRecord | SeenRecord | ReadRecord | ClearRecord | RepeatsRecord) -> None:
        """Apply a record of a sweep: whether its account is clear, and how often it was struck."""
        match record:
            case StrikeRecord():
                for sent in record.sent:
                    latch = self.latches.get(sent.account)
                    if (
                        latch and sent.strike > latch.strikes
                    ):  # else it is a second copy of an earlier strike, sent late
                        latch.strikes = sent.strike
                        self._reopen(sent.account)
            case SeenRecord():
                self._reopen(record.account)
            case ReadRecord():
                if record.shows_orders:
                    self._reopen(record.account)
            case ClearRecord():
                self._clear(record.account)
            case RepeatsRecord():
                if latch := self.latches.get(record.account):
                    latch.strikes = max(latch.strikes, record.strike)
                    (self._clear if record.clear else self._reopen)(record.account)
            case _:
                assert_never(record)

    def _apply_rearm(self, record: RearmApprovedRecord | RearmRecord) -> None:
        """Apply an approval, or a re-arm: its accounts are armed."""
        if isinstance(record, RearmApprovedRecord):
            self.approvals[record.uid] = self.approvals.get(record.uid, frozenset()) | frozenset(record.accounts)
            return
        self.approvals.clear()
        for name in record.accounts:
            self.latches.pop(name, None)
        self.struck.on_rearmed(record.accounts)

    def _reason(self, record: ReasonRecord) -> None:
        self.approvals.clear()
        if record.kill != self.kill_id:
            self.kill_id, self.scope, self.kills = record.kill, frozenset(), self.kills + 1
            self.began = Instant(record.observed_mono_ns, record.observed_wall_ns)
        self.scope |= frozenset(record.accounts)
        for name in record.accounts:
            strikes = self.latches[name].strikes if name in self.latches else 0
            self.latches[name] = _Latch(self.kill_id, strikes=strikes)
        self.struck.on_reason(record.accounts, record.identities)

    def _clear(self, name: str) -> None:
        if latch := self.latches.get(name):
            latch.clear = True

    def _reopen(self, name: str) -> None:
        """Mark an account as not clear; if it was, drop the approvals, which were given without knowing that."""
        if latch := self.latches.get(name):
            if latch.clear:
                self.approvals.clear()
            latch.clear = False

    def to_json(self) -> dict[str, object]:
        """Return the fold in JSON's plain values, for a checkpoint."""
        return {
            "accounts": {name: [latch.kill, latch.clear, latch.strikes] for name, latch in self.latches.items()},
            "approvals": [[uid, sorted(names)] for uid, names in self.approvals.items()],
            "kill": self.kill_id,
            "began": list(self.began),
            "scope": sorted(self.scope),
            "kills": self.kills,
            "struck": self.struck.to_json(),
        }

    def on_renamed(self, moved: Mapping[str, str]) -> None:
        """Rename latched accounts; `moved` has old name → new name."""
        self.latches = _rename_latches(self.latches, moved)
        self.scope = frozenset(moved.get(name, name) for name in self.scope)
        self.struck.on_renamed(moved)

    def _restore(self, data: Mapping[str, Any]) -> None:
        try:
            self._read_checkpoint(data)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):  # of another version
            raise _NotUnderstood("a checkpoint that this version does not understand") from None

    def _read_checkpoint(self, data: Mapping[str, Any]) -> None:
        latches = {
            str(name): _Latch(str(kill), bool(clear), int(strikes))
            for name, (kill, clear, strikes) in data["accounts"].items()
        }
        approvals = {int(uid): frozenset(map(str, names)) for uid, names in data["approvals"]}
        mono_ns, wall_ns = data["began"]
        began, scope, kills = (
            Instant(int(mono_ns), int(wall_ns)),
            frozenset(map(str, data["scope"])),
            int(data["kills"]),
        )
        self.kill_id, self.began, self.scope, self.kills = str(data["kill"]), began, scope, kills
        self.latches, self.approvals, self.struck = latches, approvals, StruckLogins.from_json(data.get("struck", {}))


def rebuild(
    entries: Iterable[Entry],
    paces: Mapping[str, SweepTiming],
    approvals_needed: int = 1,
    logins: Mapping[str, Login] = MappingProxyType({}),
    salt: str = "",
) -> State:
    """Fold the entries into a state of the accounts in `paces`; the caller then steps the engine with `Recovered`.

    A tripped account that is not in `paces` is left out; the journal keeps its latch, so it comes back tripped.
    The `logins` decide which account a latch belongs to, not the names:

    - An account with another login than the struck one must be proven clear again, and the struck login's proof is
      missing as well.
    - An account that has another name now is tripped under the new name.

    `salt` is for the digests of accounts that were not struck. Raises `JournalBroken` at a record that cannot be
    understood.
    """
    fold = _fold(entries)
    moved = find_moved({name: fold.struck.struck_as(name) for name in fold.latches}, logins)
    fold.on_renamed(moved)
    latches, struck, scope = fold.latches, fold.struck, fold.scope
    for name, other in find_shared({name: struck.struck_as(name) for name in latches}, logins).items():
        latches[name] = _Latch(latches[other].kill)
    accounts = {}
    for name, timing in paces.items():
        known, login = struck.struck_as(name), logins.get(name)
        if login is None:  # without a login, the account that was struck last
            identity, owed = (known[-1] if known else None), known[:-1]
        else:
            mine = [known_identity for known_identity in known if login.covers(known_identity)]
            identity = login.identity(mine[-1]["salt"] if mine else salt)
            owed = tuple(known_identity for known_identity in known if known_identity not in mine)
            if known and identity != known[-1] and name in latches:
                latches[name].clear = False
        accounts[name] = _account(timing, latches.get(name))._replace(identity=identity, unproven_identities=owed)
    unclear = frozenset(name for name in scope if name in accounts and name in latches and not latches[name].clear)
    kill = Kill(fold.kill_id, fold.began, scope, unclear) if fold.kill_id else None
    return State(accounts, kill, fold.kills, approvals_needed, fold.approvals, moved)


def tripped_unconfigured(entries: Iterable[Entry], logins: Mapping[str, Login]) -> dict[str, tuple[Identity, ...]]:
    """Return the tripped accounts that no login is configured for, with the identities that were struck."""
    fold = _fold(entries)
    known = {name: fold.struck.struck_as(name) for name in fold.latches}
    here = {*logins, *find_moved(known, logins)}
    return {name: ones for name, ones in known.items() if name not in here}


def _rename_latches(latches: dict[str, _Latch], moved: Mapping[str, str]) -> dict[str, _Latch]:
    """Return the latches by present names; if two get one name, it is clear only if both were clear."""
    if not moved:
        return latches
    renamed: dict[str, _Latch] = {}
    for name, latch in latches.items():
        now = moved.get(name, name)
        existing = renamed.get(now)
        if existing is None:
            renamed[now] = latch
        else:
            strikes = max(existing.strikes, latch.strikes)
            renamed[now] = replace(
                latch if now == name else existing, clear=existing.clear and latch.clear, strikes=strikes
            )
    return renamed


def _fold(entries: Iterable[Entry]) -> RecoveryFold:
    fold = RecoveryFold()
    for entry in entries:
        fold.take(entry)
    return fold


def _require_format(journal_format: object) -> None:
    if not is_understood(journal_format):
        raise _NotUnderstood("the journal has a format that this version does not understand")


def _account(timing: SweepTiming, latch: _Latch | None) -> AccountState:
    if latch is None:
        return AccountState(timing)
    begin = sweeping.resume_guard if latch.clear else sweeping.start_sweep
    return AccountState(timing, begin(timing, 0, latch.strikes), latch.kill or None)
