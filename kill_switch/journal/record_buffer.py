"""Hold the records that are to be written, in the writer's thread: condensed, and bounded while the disk takes none."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.journal.condenser import CondensedRecord, Condenser
from kill_switch.journal.records import TRIPS

MAX_HELD = 20_000  # records that are held in memory while the disk takes none


class PendingRecord(NamedTuple):
    """A record on its way; `number` counts all that were given to the journal."""

    number: int
    kind: str
    data: Mapping[str, Any]
    at: Instant


class RecordBuffer:
    """Condense the records of the inbox, and hold them until they are written."""

    def __init__(self, condenser: Condenser) -> None:
        self.inbox: deque[PendingRecord] = deque()
        self.held: list[PendingRecord] = []  # to be written
        self.last_taken = 0  # number of the last record that is in `held`, or counted
        self._condenser = condenser

    def drain_inbox(self) -> None:
        while self.inbox:
            record = self.inbox.popleft()
            condensed_records: list[CondensedRecord] = []
            try:
                for condensed_record in self._condenser.condense(record.kind, record.data, record.at):
                    condensed_records.append(condensed_record)  # noqa: PERF402 - what came before a failure counts
            except Exception:  # a record that the condenser does not understand is written as it is
                condensed_records.append(CondensedRecord(record.kind, record.data, record.at))
            self.held += [PendingRecord(record.number, *condensed_record) for condensed_record in condensed_records]
            self.last_taken = record.number

    def add_due_repeats(self, mono_ns: int) -> None:
        """Add the `repeats` records that are due by that time."""
        self._add(self._condenser.due_repeats(mono_ns))

    def add_all_repeats(self) -> None:
        """Add what was counted, and is not due yet."""
        self._add(self._condenser.flush_repeats())

    def trim(self) -> None:
        """Leave out the oldest of what is held, where that is too much; never what trips."""
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
