"""Continue or end the triggers that a reload or a restart replaces, renames or removes; the supervisor uses it.

A trigger that replaces another of the same kind continues from it. For a trigger that is gone, this module writes a
record and announces the input that is not watched any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.journal.records import HeartbeatRecord, PnlRecord
from kill_switch.triggers.base import Trigger
from kill_switch.triggers.earlier_runs import EarlierRuns
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.link import LinkTrigger
from kill_switch.triggers.order_rate import OrderRateTrigger
from kill_switch.triggers.pnl import restored_day
from kill_switch.triggers.schedule import ScheduleTrigger

REMOVED = "removed"  # `why` in the record of a trigger that is not in the configuration any more


class Succession:
    """Continue triggers from others, and account for those that are gone."""

    def __init__(
        self,
        earlier: EarlierRuns,
        record: Callable[[str, Mapping[str, object]], object],
        announce: Callable[[Announce], None],
    ) -> None:
        """Keep the receivers; `record` writes a record of a kind durably."""
        self._earlier = earlier
        self._record = record
        self._announce = announce

    def inherit(self, trigger: Trigger, before: Trigger | None) -> None:
        """Continue a trigger from its predecessor, if both are of one kind that has a state to keep."""
        match trigger, before:
            case HeartbeatTrigger(), HeartbeatTrigger():
                trigger.continue_from(before)
            case ScheduleTrigger(), ScheduleTrigger():
                trigger.continue_from(before)
            case LinkTrigger(), LinkTrigger():
                trigger.continue_from(before)
            case OrderRateTrigger(), OrderRateTrigger():
                trigger.continue_from(before)
            case _:
                pass

    def take_over(self, trigger: Trigger, before: Trigger) -> None:
        """Continue a trigger from a predecessor of another name; announce the new name of a watched heartbeat."""
        if not isinstance(trigger, HeartbeatTrigger) or not isinstance(before, HeartbeatTrigger):
            self.inherit(trigger, before)
            return
        trigger.take_over(before)
        if trigger.watched:
            self._warn(_describe_rename(trigger, before.name))

    def end_heartbeat(self, ended: HeartbeatTrigger, others: Iterable[HeartbeatTrigger]) -> None:
        """Record that a heartbeat is not watched any more; announce it if its strategy may now stop unnoticed."""
        ended.record_ended()
        if not ended.watched:
            return
        waiting = [other.name for other in others if not other.watched and set(other.accounts) & set(ended.accounts)]
        suffix = f"; {', '.join(waiting)} waits for a first beat" if waiting else ""
        accounts = ", ".join(ended.accounts)
        text = f"if the strategy of {accounts} stops beating, the daemon does not notice it any more"
        self._warn(f"trigger {ended.name} was removed: {text}{suffix}")

    def end_pnl(self, name: str) -> None:
        """Announce, once, the loss that is not counted any more because a pnl trigger is gone.

        Its day stays on record.
        """
        data = self._earlier.pnls.get(name)
        if data is None or data.get("why") == REMOVED or data.get("day") is None:
            return
        self._earlier.pnls[name] = removed = {**data, "why": REMOVED}
        self._record(PnlRecord.kind, removed)
        self._warn(f"trigger {name} was removed: {restored_day.describe_lost(data)}")

    def account_for_earlier_runs(self, heartbeats: Mapping[str, HeartbeatTrigger], pnls: Collection[str]) -> None:
        """Announce what an earlier run watched and this configuration has no longer, or has by another name.

        Call it once, when the record of the daemon's start is written. `heartbeats` are the configured heartbeat
        triggers by name, `pnls` the names of the configured pnl triggers.
        """
        earlier = self._earlier
        for name, was in earlier.renamed.items():
            heartbeat, record = heartbeats.get(name), earlier.heartbeats.get(was)
            if heartbeat is not None and record is not None:
                heartbeat.record_anew()
                if record.watched:
                    self._warn(_describe_rename(heartbeat, was))
        for name, record in earlier.heartbeats.items():
            if record.watched and name not in heartbeats:
                removed = HeartbeatRecord(trigger=name, watched=False, why=REMOVED)
                self._record(removed.kind, removed.to_json())
                if name not in earlier.renamed.values():
                    self._warn(f"trigger {name} was removed: an earlier run watched its heartbeat, this one does not")
        for name in [name for name in earlier.pnls if name not in pnls]:
            self.end_pnl(name)

    def _warn(self, text: str) -> None:
        self._announce(Announce(Severity.WARN, text))


def _describe_rename(heartbeat: HeartbeatTrigger, was: str) -> str:
    within = f"{heartbeat.timeout_ns / 1e9:g} s"
    return f"trigger {was} is now {heartbeat.name}: it fires if no beat comes under the new name within {within}"
