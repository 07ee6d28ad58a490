"""Fire at a wall time: the hour at which everything must be off the venues, in the zone that the venue lives in.

`cron` says which times there are. A time that is noticed more than a minute late has been missed: the daemon was down,
the process or the machine stood still, or the clock was set forward. `missed = "skip"` leaves it out, in all of these
cases; otherwise it fires late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

import anyio

from kill_switch.core.domain import Instant, Reason
from kill_switch.cron import Crontab, Timetable
from kill_switch.journal.records import ScheduleRecord
from kill_switch.triggers.base import Figures, Report, Trigger, TriggerState

LOOK_EVERY_S = 1.0  # a wall clock may be set: the wait is never longer than that
MISSED_AFTER_S = 60.0  # crontab's times are minutes apart, and a restart takes less

Record = Callable[[Mapping[str, object]], None]


class ScheduleTrigger(Trigger):
    """Watch one cron expression."""

    kind = "schedule"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        cron: str,
        zone: str,
        missed: Literal["fire", "skip"],
        *,
        clock: Callable[[], Instant],
        seen: datetime | None = None,
        last: datetime | None = None,
        record: Record = lambda data: None,
        past: ScheduleRecord | None = None,
    ) -> None:
        """`seen` and `last` are those of `Timetable`, `past` is the last record of an earlier run."""
        self.name = name
        self.accounts = accounts
        self._missed = missed
        self._clock = clock
        self._record = record
        self._said = ""  # what it did last
        self._fired = False
        self._recorded = list(past.fired) if past else []
        self._times = Timetable(Crontab(cron, zone), clock(), seen, last, self._recorded)

    def continue_from(self, before: ScheduleTrigger) -> None:
        """Go on from the one that this replaces: what has fired does not fire again."""
        for due_s in before._times.fired:
            self._times.fire(due_s)

    async def run(self, report: Report) -> None:
        while True:
            now = self._clock()
            due_s = self._times.look(now)
            if due_s is not None:
                self._on_due(due_s, now, report)
            elif self._times.fired != self._recorded:  # a clock was far ahead when it fired: a restart must know, too
                self._put_on_record("the clock was set back")
            await anyio.sleep(self._times.wait_s(self._clock(), LOOK_EVERY_S))

    def state(self) -> tuple[TriggerState, str]:
        coming = "never again" if self._times.next is None else f"next: {self._times.next.isoformat()}"
        state = TriggerState.TRIPPED if self._fired else TriggerState.OK
        return state, f"{self._said}; {coming}" if self._said else coming

    def measurements(self) -> Figures:
        return {}  # it watches a clock

    def rearm_blocker(self) -> str | None:
        return None  # the next time is in the future

    def on_rearmed(self) -> None:
        self._fired, self._said = False, ""

    def _on_due(self, due_s: int, now: Instant, report: Report) -> None:
        """Fire for a time that has come, or leave it out."""
        due = self._times.crontab.local(due_s).isoformat()
        late_s = round(now.wall_ns / 1e9 - due_s, 3)
        late = late_s > MISSED_AFTER_S
        text = f"scheduled for {due}" + (f", missed by {late_s:g} s" if late else "")
        if late and self._missed == "skip":
            outcome = f"left out: {text}"
        else:
            report(Reason(self.name, text, self.accounts, self._clock(), {"due": due, "late_s": late_s}))
            self._times.fire(due_s)
            self._fired, outcome = True, f"fired: {text}"
        self._said = outcome
        self._put_on_record(outcome)

    def _put_on_record(self, text: str) -> None:
        self._recorded = self._times.fired
        record = ScheduleRecord(trigger=self.name, text=text, fired=tuple(self._times.fired))
        self._record(record.to_json())
