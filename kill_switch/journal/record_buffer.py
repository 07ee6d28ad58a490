"""Hold the records that the writer's thread has still to write: condensed, and bounded while the disk fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.journal.condenser import CondensedRecord, Condenser
from kill_switch.journal.records import TRIPS

MAX_HELD = 20_000  # records in memory while the disk takes none; records that trip come on top


class PendingRecord(NamedTuple):
    """A record that is not written yet; `number` counts all records that were appended to the journal."""

    number: int
    kind: str
    data: Mapping[str, Any]
    at: Instant


class RecordBuffer:
    """Condense the records of the inbox and hold the result until it is written."""

    def __init__(self, condenser: Condenser) -> None:
        self.inbox: deque[PendingRecord] = deque()
        self.held: list[PendingRecord] = []  # the writer writes these next, and clears the list
        self.last_taken = 0  # number of the last record that is in `held` or was only counted
        self._condenser = condenser

    def drain_inbox(self) -> None:
        """Move the records of the inbox through the condenser into `held`."""
        while self.inbox:
            record = self.inbox.popleft()
            condensed_records: list[CondensedRecord] = []
            try:
                for condensed_record in self._condenser.condense(record.kind, record.data, record.at):
                    condensed_records.append(condensed_record)  # noqa: PERF402 - keeps the records before a failure
            except Exception:  # a record that the condenser cannot process is written unchanged
                condensed_records.append(CondensedRecord(record.kind, record.data, record.at))
            self.held += [PendingRecord(record.number, *condensed_record) for condensed_record in condensed_records]
            self.last_taken = record.number

    def add_due_repeats(self, mono_ns: int) -> None:
        """Add the `repeats` records that are due at that monotonic time."""
        self._add(self._condenser.due_repeats(mono_ns))

    def add_all_repeats(self) -> None:
        """Add a `repeats` record of all that was counted, due or not."""
        self._add(self._condenser.flush_repeats())

    def trim(self) -> None:
        """Drop the oldest records beyond `MAX_HELD`, but none that trips."""
        if (many := len(self.held) - MAX_HELD) > 0:
            kept: list[PendingRecord] = []
            for record in self.held:
                if many > 0 and record.kind not in TRIPS:
                    many -= 1
                else:
                    kept.append(record)
            self.held = kept

    def _add(self, condensed_records: Iterable[CondensedRecord]) -> None:
        self.held += [PendingRecord(self.last_taken, *condensed_record) for condensed_record in condensed_records]
