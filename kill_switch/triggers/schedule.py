"""Fire at a wall time in a zone, by a cron expression; `cron` computes the times.

A time that is noticed more than a minute late counts as missed. With `missed = "skip"` a missed time is left out;
otherwise it fires late.
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

LOOK_EVERY_S = 1.0  # seconds; no wait is longer, because the wall clock may be set
MISSED_AFTER_S = 60.0  # seconds; a crontab's times are a minute apart or more, and a restart takes less

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
        is_silenced: Callable[[int], bool] = lambda wall_ns: False,
    ) -> None:
        """Build the trigger; `seen` and `last` are those of `Timetable`, `past` is the last record of an earlier
        run. `is_silenced` returns whether a silence was in force at a wall time.
        """
        self.name = name
        self.accounts = accounts
        self._missed = missed
        self._clock = clock
        self._record = record
        self._is_silenced = is_silenced
        self._last_outcome = ""  # for people
        self._fired = False
        self._recorded = list(past.fired) if past else []
        self._times = Timetable(Crontab(cron, zone), clock(), seen, last, self._recorded)

    def continue_from(self, before: ScheduleTrigger) -> None:
        """Continue from the trigger that this one replaces: its trip, and the times that have fired.

        A time of an unchanged crontab that has just come fires.
        """
        self._times = before._times.go_on(self._times.crontab, self._clock())
        self._fired, self._last_outcome, self._recorded = before._fired, before._last_outcome, before._recorded
        if self._times.fired and self.name != before.name:
            self._put_on_record(f"it was {before.name} before")

    async def run(self, report: Report) -> None:
        """Wait for the next time forever."""
        while True:
            now = self._clock()
            due_s = self._times.look(now)
            if due_s is not None:
                self._on_due(due_s, now, report)
            elif self._times.fired != self._recorded:  # a clock that was far ahead was set back
                self._put_on_record("the clock was set back")
            await anyio.sleep(self._times.wait_s(self._clock(), LOOK_EVERY_S))

    def state(self) -> tuple[TriggerState, str]:
        """Return the state, with the last outcome and the next time as detail."""
        coming = "never again" if self._times.next is None else f"next: {self._times.next.isoformat()}"
        state = TriggerState.TRIPPED if self._fired else TriggerState.OK
        return state, f"{self._last_outcome}; {coming}" if self._last_outcome else coming

    def measurements(self) -> Figures:
        """Return no number: the input is a clock."""
        return {}

    def rearm_blocker(self) -> str | None:
        """Return None: the next time is in the future."""
        return None

    def on_rearmed(self) -> None:
        """Wait for the next time."""
        self._fired, self._last_outcome = False, ""

    def _on_due(self, due_s: int, now: Instant, report: Report) -> None:
        """Fire for a time that has come, or leave it out."""
        due = self._times.crontab.local(due_s).isoformat()
        late_s = round(now.wall_ns / 1e9 - due_s, 3)
        late = late_s > MISSED_AFTER_S
        text = f"scheduled for {due}" + (f", missed by {late_s:g} s" if late else "")
        if late and self._missed == "skip":
            outcome = f"left out: {text}"
        else:
            reason = Reason(self.name, text, self.accounts, self._clock(), {"due": due, "late_s": late_s})
            held = self._is_silenced(due_s * 10**9) or report(reason)
            self._times.fire(due_s)
            self._fired, outcome = not held, f"left out, silenced: {text}" if held else f"fired: {text}"
        self._last_outcome = outcome
        self._put_on_record(outcome)

    def _put_on_record(self, text: str) -> None:
        self._recorded = self._times.fired
        record = ScheduleRecord(trigger=self.name, text=text, fired=tuple(self._times.fired))
        self._record(record.to_json())
