"""Number records on the event loop's thread, and pass them to the writer's inbox and to the reports.

`Journal` uses it. Nothing here waits or touches a file.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kill_switch import clock
from kill_switch.core import order_tracker
from kill_switch.core.domain import Instant
from kill_switch.journal.plain_json import to_plain
from kill_switch.journal.record_buffer import MAX_HELD, PendingRecord
from kill_switch.journal.records import TRIPS, Entry
from kill_switch.journal.write_ahead import WriteAheadNote

log = logging.getLogger(__name__)


class _AppendedRecord(NamedTuple):
    kind: str
    data: Mapping[str, object]
    at: Instant


class RecordQueue:
    """Hold the appended records until the writer and the listener have them."""

    def __init__(self, inbox: deque[PendingRecord], note: WriteAheadNote, on_entry: Callable[[Entry], object]) -> None:
        """Begin empty; `deliver` calls `on_entry` with each record."""
        self.numbered = 0  # number of the last record
        self.last_trip = 0  # number of the last record that trips
        self._inbox, self._note, self._on_entry = inbox, note, on_entry
        self._boot = clock.boot_id()
        self._fresh: list[_AppendedRecord] = []  # appended and not numbered yet
        self._undelivered: list[_AppendedRecord] = []  # numbered, and not passed to `on_entry` yet

    @property
    def fresh(self) -> int:
        """Return how many records are not numbered yet."""
        return len(self._fresh)

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        """Add a record; `number` and `deliver` pass it on."""
        self._fresh.append(_AppendedRecord(kind, data, at))

    def number(self) -> None:
        """Number the new records and put them into the writer's inbox.

        While the writer's thread hangs, records beyond `MAX_HELD` are dropped unless they trip.
        """
        if not self._fresh:
            return
        inbox, fresh, self._fresh = self._inbox, self._fresh, []
        for kind, appended, at in fresh:
            data = order_tracker.settled(kind, appended)
            self._undelivered.append(_AppendedRecord(kind, data, at))
            if len(inbox) >= MAX_HELD and kind not in TRIPS:
                continue  # the writer's thread hangs
            self.numbered += 1
            inbox.append(PendingRecord(self.numbered, kind, data, at))
            if kind in TRIPS:
                self.last_trip = self.numbered
            if kind == "reason":
                self._note.mark_recorded(data, self.numbered)

    def deliver(self) -> None:
        """Call `on_entry` with every record so far, written or not. A strike does not wait for this."""
        self.number()
        undelivered, self._undelivered = self._undelivered, []
        for kind, data, at in undelivered:
            stamps = {"at": clock.iso(at.wall_ns), "mono_ns": at.mono_ns, "boot": self._boot}
            try:
                self._on_entry({**stamps, "kind": kind, "data": to_plain(data)})
            except Exception:  # the journal has the record even if the listener fails
                log.exception("a record of the kind %s is not in the reports", kind)
