"""Fold a journal's entries into what a start needs, in bounded memory, however long the journal is. Pure.

`JournalSnapshot.to_json` is the data of a `checkpoint` record, with which each file but the first begins.
`JournalSnapshot.entries` stand for all entries: the last ones of some kinds, then one checkpoint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kill_switch.core import recovery
from kill_switch.core.records import CheckpointRecord, RearmRecord, ReasonRecord, ReloadRecord, StartRecord
from kill_switch.errors import JournalBroken
from kill_switch.journal import records, write_ahead
from kill_switch.journal.kill_fold import Stamp
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.records import (
    FORMAT,
    DrillRecord,
    Entry,
    HeartbeatRecord,
    HookRecord,
    HookStartedRecord,
    OrdersLeftRecord,
    PnlRecord,
    Record,
    ScheduleRecord,
    SilenceApprovedRecord,
    SilenceRecord,
    StampsRecord,
    StartAnnouncedRecord,
    StopRecord,
    Unreadable,
)

Key = tuple[str, ...]

KIND = "checkpoint"
VERSION = 1
_STRANGE = "a checkpoint that this version does not understand"
MAX_REASONS = 1000  # digests of reasons, by which a start recognises write-ahead notes that are recorded
MAX_CARRIED = 500  # entries in a checkpoint; the oldest beyond are dropped


def _keys(record: Record | Unreadable) -> list[Key]:
    """Return the keys under which a record is kept until another record has the same key; [] for none.

    A drill is kept as the last drill, and as the last drill of each account that it has not skipped.
    """
    match record:
        case StartRecord() | ReloadRecord():
            keys: list[Key] = [("cast", "cast") if record.triggers is not None else ("strange", record.kind)]
            return [*keys, ("start", "last")] if isinstance(record, StartRecord) else keys
        case StartAnnouncedRecord():
            return [("start", "announced")]
        case PnlRecord() | HeartbeatRecord() | ScheduleRecord() | StampsRecord() | SilenceRecord():
            return [(record.kind, record.trigger)]
        case OrdersLeftRecord():
            return [(record.kind, record.account)]
        case SilenceApprovedRecord():
            return [(record.kind, record.trigger, str(record.uid))]
        case DrillRecord():
            drilled = [name for name, account in record.accounts.items() if not account.skipped]
            return [("drill", "last"), *(("drill", "account", name) for name in drilled)]
        case StopRecord():
            return [("stop", "last")]
        case Unreadable(kind=kind) if kind in _LAST:
            return [("strange", kind)]
        case _:
            return []


# Kinds whose last record is kept. To add a kind, name it here and in `_keys`.
_LAST = (
    "start",
    "reload",
    "pnl",
    "drill",
    "heartbeat",
    "schedule",
    "stamps",
    "silence",
    "silence-approved",
    "orders-left",
    "stop",
)
_HOOKS = ("hook-started", "hook")  # of each, the last attempt is kept


class _CarriedEntries:
    """Entries as they were written, kept while they are the last of their kind or their account is latched."""

    def __init__(self) -> None:
        """Begin empty."""
        self._owners: dict[Key, Entry] = {}
        self._kill = ""

    def apply(self, entry: Entry, record: Record | Unreadable) -> None:
        """Keep the entry under the record's keys, and drop the entries that it replaces."""
        if keys := _keys(record):
            self._owners.update(dict.fromkeys(keys, entry))
            return
        match record:
            case ReasonRecord():
                if record.kill != self._kill:
                    self._kill = record.kill
                    self._owners = {key: kept for key, kept in self._owners.items() if key[0] not in _HOOKS}
                    self._owners["kill",] = entry
                for name in record.accounts:
                    self._owners.pop((OrdersLeftRecord.kind, name), None)  # because the kill cancels them
                    self._owners.setdefault(("first reason", name), entry)
                    self._owners["last reason", name] = entry
            case HookRecord() | HookStartedRecord() if record.kill == self._kill:
                self._owners[record.kind, record.command, str(list(record.accounts))] = entry
            case Unreadable(kind=kind) if kind in _HOOKS and entry["data"].get("kill") == self._kill:
                self._owners[kind, "strange"] = entry
            case RearmRecord():
                for name in record.accounts:
                    self._owners.pop(("first reason", name), None)
                    self._owners.pop(("last reason", name), None)
            case _:
                pass

    def entries(self) -> list[Entry]:
        """Return the kept entries in their order."""
        return sorted(
            {entry["seq"]: entry for entry in self._owners.values()}.values(), key=lambda carried: carried["seq"]
        )

    def to_json(self) -> list[object]:
        """Return each entry with its keys."""
        keys: dict[int, list[Key]] = {}
        for key, entry in self._owners.items():
            keys.setdefault(entry["seq"], []).append(key)
        return [[keys[entry["seq"]], entry] for entry in self.entries()[-MAX_CARRIED:]]

    def restore(self, data: Iterable[Any], kill: str) -> None:
        """Read the result of `to_json`; `kill` is the id of the last kill."""
        self._kill = kill
        self._owners = {tuple(key): entry for keys, entry in data for key in keys}


class JournalSnapshot:
    """The fold of a journal's entries: latches, reports, digests of reasons, and the carried entries."""

    def __init__(self) -> None:
        """Begin before the first entry."""
        self.seq = 0  # number of the last entry
        self.hash = ""  # hash of the last entry
        self._until = ""  # time of the last entry with a readable time
        self._boot = ""
        self._latches = recovery.RecoveryFold()
        self._reports = ReportBuilder(0)
        self._reasons: deque[str] = deque(maxlen=MAX_REASONS)
        self._carried = _CarriedEntries()

    def apply(self, entry: Entry) -> None:
        """Fold the next entry; raise `JournalBroken` if it concerns latches and cannot be understood.

        A checkpoint counts only as the first entry: later it repeats the entries before it.
        """
        if entry["kind"] != KIND:
            self._latches.take(entry)
            record = records.from_json(entry)
            self._reports.apply(record, Stamp(entry["at"], entry["boot"]))
            self._carried.apply(entry, record)
            if isinstance(record, ReasonRecord):
                self._reasons.append(write_ahead.reason_digest(entry["data"]))
            self._until, self._boot = (entry["at"] if _readable(entry["at"]) else self._until), entry["boot"]
        elif not self.seq:
            self._restore(entry)
        self.seq, self.hash = entry["seq"], entry["hash"]

    def _restore(self, entry: Entry) -> None:
        record = records.from_json(entry)
        if not isinstance(record, CheckpointRecord) or record.version != VERSION:
            raise JournalBroken(entry["seq"], _STRANGE)
        self._latches.take(entry)
        self._reasons.extend(record.reasons)
        self._until, self._boot = record.until, record.boot
        try:
            self._carried.restore(record.carried, self._latches.kill_id)
            self._reports.restore(record.kills)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise JournalBroken(entry["seq"], _STRANGE) from None

    def to_json(self) -> dict[str, object]:
        """Return the data of a checkpoint record."""
        return CheckpointRecord(
            version=VERSION,
            format=FORMAT,
            latches=self._latches.to_json(),
            kills=self._reports.to_json(),
            reasons=tuple(self._reasons),
            carried=tuple(self._carried.to_json()),
            until=self._until,
            boot=self._boot,
        ).to_json()

    def entries(self) -> list[Entry]:
        """Return the entries that stand for all folded entries: the carried entries, then one checkpoint."""
        if not self.seq:
            return []
        last = {
            "seq": self.seq,
            "at": self._until,
            "mono_ns": 0,
            "boot": self._boot,
            "kind": KIND,
            "data": self.to_json(),
        }
        return [*self._carried.entries(), last]


def _readable(at: object) -> bool:
    """Return whether the value is a time that `history` can read."""
    try:
        return isinstance(at, str) and datetime.fromisoformat(at).timestamp() > 0
    except (ValueError, ArithmeticError):
        return False
