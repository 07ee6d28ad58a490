"""Fire at a wall time: the hour at which everything must be off the venues, in the zone that the venue lives in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import anyio
from apscheduler.triggers.cron import CronTrigger

from kill_switch.domain import Now, Reason
from kill_switch.triggers.base import Figures, Report, TriggerState

LOOK_EVERY_S = 1.0  # a wall clock may be set: the wait is never longer than that


class Schedule:
    """Watch one cron expression; `seen` is until when an earlier run of the daemon has watched it."""

    kind = "schedule"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        cron: str,
        zone: str,
        missed: Literal["fire", "skip"],
        *,
        clock: Callable[[], Now],
        seen: datetime | None = None,
    ) -> None:
        self.name = name
        self.accounts = accounts
        self._cron = CronTrigger.from_crontab(cron, timezone=ZoneInfo(zone))
        self._clock = clock
        self._fired: datetime | None = None
        self._next = self._after(seen if seen is not None and missed == "fire" else self._now())

    async def run(self, report: Report) -> None:
        while True:
            now = self._now()
            if self._next is not None and now >= self._next:
                due, self._fired = self._next, now
                self._next = self._after(max(now, due))
                late_s = round((now - due).total_seconds(), 3)
                text = f"scheduled for {due.isoformat()}" + (f", missed by {late_s:g} s" if late_s > 60 else "")
                evidence = {"due": due.isoformat(), "late_s": late_s}
                report(Reason(self.name, text, self.accounts, self._clock(), evidence))
            wait_s = LOOK_EVERY_S if self._next is None else (self._next - self._now()).total_seconds()
            await anyio.sleep(min(LOOK_EVERY_S, max(0.0, wait_s)))

    def condition(self) -> tuple[TriggerState, str]:
        coming = "never again" if self._next is None else f"next: {self._next.isoformat()}"
        if self._fired is not None:
            return TriggerState.TRIPPED, f"fired {self._fired.isoformat(timespec='seconds')}; {coming}"
        return TriggerState.OK, coming

    def figures(self) -> Figures:
        return {}  # it watches a clock

    def against_rearm(self) -> str | None:
        return None  # the next time is in the future

    def reset(self) -> None:
        self._fired = None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock().wall_ns / 1e9, UTC)

    def _after(self, moment: datetime) -> datetime | None:
        """Return the first time of the expression after `moment`."""
        found: datetime | None = self._cron.get_next_fire_time(moment, moment)
        return found
