"""The trigger records that earlier runs left in the journal, by trigger name.

The supervisor reads them once, at its start. The factory gives each trigger its last record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from kill_switch.journal import history
from kill_switch.journal.history import WatchedUntil
from kill_switch.journal.records import HeartbeatRecord, PnlRecord, ScheduleRecord

T = TypeVar("T")


class EarlierRuns:
    """Hold the last record of each trigger; the pnl records of this run replace those of earlier runs."""

    def __init__(
        self,
        entries: Sequence[Mapping[str, Any]],
        watched_until: Mapping[str, WatchedUntil],
        renamed: Mapping[str, str],
    ) -> None:
        """Read the journal's `entries`.

        `watched_until` has, by trigger, until when earlier runs watched it. `renamed` maps the new name of a trigger
        to its name in the last run.
        """
        pnls = history.records_of_kind(entries, PnlRecord)
        self.pnls: dict[str, Mapping[str, Any]] = {record.trigger: record.to_json() for record in pnls}
        self.heartbeats = {record.trigger: record for record in history.records_of_kind(entries, HeartbeatRecord)}
        schedules = {record.trigger: record for record in history.records_of_kind(entries, ScheduleRecord)}
        self.schedules = _under_new_names(schedules, renamed)
        self.watched_until = _under_new_names(watched_until, renamed)
        self.renamed = renamed

    def heartbeat(self, name: str) -> HeartbeatRecord | None:
        """Return the last record of a heartbeat trigger, also if it had another name."""
        return self.heartbeats.get(self.renamed.get(name, name))

    def forget(self) -> None:
        """Forget all but the pnl records: an earlier run did not watch a trigger that a reload begins."""
        self.heartbeats, self.schedules, self.watched_until = {}, {}, {}
        self.renamed = MappingProxyType({})


def _under_new_names(known: Mapping[str, T], renamed: Mapping[str, str]) -> Mapping[str, T]:
    return {**known, **{name: known[was] for name, was in renamed.items() if was in known}}
