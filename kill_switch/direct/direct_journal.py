"""The journal port of a direct kill, which has no journal at first.

The dispatcher of `direct_kill` appends to it; the records are kept until the journal has been opened beside the kill.
Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kill_switch import clock
from kill_switch.core import order_tracker
from kill_switch.core.domain import CancelOutcome, Instant, Reason
from kill_switch.journal import takeover
from kill_switch.journal.journal import Journal
from kill_switch.wakeup import Signal


class DirectJournal:
    """The records of a direct kill: kept in memory until `hand_over`, then in the journal."""

    def __init__(self, on_entry: Callable[[Mapping[str, Any]], None]) -> None:
        """`on_entry` is called with each record before `hand_over`."""
        self.trouble = ""
        self.answered: set[str] = set()  # accounts whose venue has accepted or refused a strike
        self.changed = Signal()
        self._on_entry = on_entry
        self._boot = clock.boot_id()
        self._records: list[tuple[str, Mapping[str, object], Instant]] = []
        self._journal: Journal | None = None

    def note_ahead(self, reason: Reason) -> bool:
        """Return True without a journal: the latch file has been written already, or cannot be written."""
        return True if self._journal is None else self._journal.note_ahead(reason)

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        if kind == "answer" and data["answer"] in (CancelOutcome.ACCEPTED, CancelOutcome.REFUSED):
            self.answered.add(str(data["account"]))
            self.changed.notify()
        if self._journal is not None:
            self._journal.append(kind, data, at)
            return
        data = order_tracker.settled(kind, data)
        self._records.append((kind, data, at))
        entry = {"at": clock.iso(at.wall_ns), "mono_ns": at.mono_ns, "boot": self._boot, "kind": kind, "data": data}
        self._on_entry(entry)

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        if self._journal is not None:
            return self._journal.append_latch(kind, data, at)
        self.append(kind, data, at)
        return True

    def flush(self) -> bool:
        return self._journal is None or self._journal.flush()

    def sync(self) -> None:
        if self._journal is not None:
            self._journal.sync()

    def hand_over(self, journal: Journal, joined: takeover.TakeoverPlan) -> None:
        """Append the kept records to the journal, renamed by `joined`, and all later records."""
        self._journal = journal
        for kind, data, at in self._records:
            journal.append(kind, joined.rewrite(kind, data), at)
        self._records.clear()
        journal.flush()
        journal.sync()

    def release(self) -> Journal | None:
        """Return the journal, None if there is none, and stop using it; later records are kept in memory only."""
        journal, self._journal = self._journal, None
        return journal
