"""Keep of a journal what a start needs, however long the journal is: a fold over its entries. Pure.

`Snapshot.data` is the data of a `checkpoint` record, with which each file of the journal but the first begins.
`Snapshot.entries` are what every reader of a journal's entries reads the same from as from all of them: the last
entries of their kinds, as they were written, then one `checkpoint` with the folds of `recovery` and `report`.

To keep the last entries of another kind, add a line to `_LAST`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from kill_switch.core import recovery
from kill_switch.errors import JournalBroken
from kill_switch.journal import write_ahead
from kill_switch.journal.kill_report import Reports

Entry = Mapping[str, Any]
Key = tuple[str, ...]

KIND = "checkpoint"
VERSION = 1
REASONS = 1000  # as many intents as are ever left unread: by them a start knows that an intent is on record
CARRIED = 500  # entries at most; the oldest are left out


def _cast(data: Mapping[str, Any]) -> Iterable[Key]:
    return [("cast",)] if isinstance(data.get("triggers"), dict) else []


def _trigger(data: Mapping[str, Any]) -> Iterable[Key]:
    name = data.get("trigger")
    return [(name,)] if isinstance(name, str) else []


def _drilled(data: Mapping[str, Any]) -> Iterable[Key]:
    """A drill counts as the last one, and as that of each account that it has not skipped."""
    accounts = data.get("accounts")
    if not isinstance(accounts, dict):
        return []
    drilled = [name for name, found in accounts.items() if not (isinstance(found, dict) and found.get("skipped"))]
    return [("last",), *(("account", name) for name in drilled)]


# Kind → the keys under which an entry is the last one, until another entry of the group has the same key.
_LAST: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Iterable[Key]]]] = {
    "start": ("cast", _cast),
    "reload": ("cast", _cast),
    "pnl": ("pnl", _trigger),
    "drill": ("drill", _drilled),
    "heartbeat": ("heartbeat", _trigger),
    "schedule": ("schedule", _trigger),
    "stamps": ("stamps", _trigger),
}
_HOOKS = ("hook-started", "hook")  # of each, the last attempt


class _Carried:
    """Hold entries as they were written, as long as they are the last of their kind or their account is latched."""

    def __init__(self) -> None:
        self._owners: dict[Key, Entry] = {}
        self._kill = ""

    def take(self, entry: Entry) -> None:
        kind, data = entry["kind"], entry["data"]
        if kind in _LAST:
            group, keys_of = _LAST[kind]
            keys = [(group, *key) for key in keys_of(data)] or [("strange", kind)]
            self._owners.update(dict.fromkeys(keys, entry))
            return
        match kind:
            case "reason":
                if data["kill"] != self._kill:
                    self._kill = data["kill"]
                    self._owners = {key: kept for key, kept in self._owners.items() if key[0] not in _HOOKS}
                    self._owners["kill",] = entry
                for name in data["accounts"]:
                    self._owners.setdefault(("first reason", name), entry)
                    self._owners["last reason", name] = entry
            case kind if kind in _HOOKS and data.get("kill") == self._kill:
                self._owners[kind, str(data.get("command")), str(data.get("accounts"))] = entry
            case "rearm":
                for name in data["accounts"]:
                    self._owners.pop(("first reason", name), None)
                    self._owners.pop(("last reason", name), None)
            case _:
                pass

    def entries(self) -> list[Entry]:
        """Return the entries, in their order."""
        return sorted({entry["seq"]: entry for entry in self._owners.values()}.values(), key=lambda one: one["seq"])

    def told(self) -> list[object]:
        """Return each entry with its keys."""
        keys: dict[int, list[Key]] = {}
        for key, entry in self._owners.items():
            keys.setdefault(entry["seq"], []).append(key)
        return [[keys[entry["seq"]], entry] for entry in self.entries()[-CARRIED:]]

    def restore(self, told: Iterable[Any], kill: str) -> None:
        self._kill = kill
        self._owners = {tuple(key): entry for keys, entry in told for key in keys}


class Snapshot:
    """Fold a journal's entries, one after the other."""

    def __init__(self) -> None:
        self.seq = 0  # of the last entry
        self.hash = ""
        self._until = ""  # when an entry was last written whose time can be read
        self._boot = ""
        self._latches = recovery.Fold()
        self._reports = Reports(0)
        self._reasons: deque[str] = deque(maxlen=REASONS)
        self._carried = _Carried()

    def take(self, entry: Entry) -> None:
        """Take the next entry; raise `JournalBroken` if what it says of latches cannot be understood.

        A checkpoint counts only if it is the first entry: behind others it says what they have said.
        """
        kind, data = entry["kind"], entry["data"]
        if kind != KIND:
            self._latches.take(entry)
            with contextlib.suppress(LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
                self._reports.take(entry)
            with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
                self._carried.take(entry)
            if kind == "reason":
                self._reasons.append(write_ahead.mark(data))
            self._until, self._boot = (entry["at"] if _readable(entry["at"]) else self._until), entry["boot"]
        elif not self.seq:
            self._restore(entry)
        self.seq, self.hash = entry["seq"], entry["hash"]

    def _restore(self, entry: Entry) -> None:
        data = entry["data"]
        if data.get("version") != VERSION:
            raise JournalBroken(entry["seq"], "a checkpoint that this version does not understand")
        self._latches.take(entry)
        try:
            self._reasons.extend(map(str, data["reasons"]))
            self._until, self._boot = str(data["until"]), str(data["boot"])
            self._carried.restore(data["carried"], self._latches.kill_id)
            self._reports.take(entry)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise JournalBroken(entry["seq"], "a checkpoint that this version does not understand") from None

    def data(self) -> dict[str, object]:
        """Return what a checkpoint says."""
        return {
            "version": VERSION,
            "latches": self._latches.told(),
            "kills": self._reports.told(),
            "reasons": list(self._reasons),
            "carried": self._carried.told(),
            "until": self._until,
            "boot": self._boot,
        }

    def entries(self) -> list[Entry]:
        """Return the entries that stand for all that were taken; none if none were."""
        if not self.seq:
            return []
        last = {"seq": self.seq, "at": self._until, "mono_ns": 0, "boot": self._boot, "kind": KIND, "data": self.data()}
        return [*self._carried.entries(), last]


def _readable(at: object) -> bool:
    """Tell whether it is a time, as `past` reads one."""
    try:
        return isinstance(at, str) and datetime.fromisoformat(at).timestamp() > 0
    except (ValueError, ArithmeticError):
        return False
