"""Wall times come, twice a year in hours that the clocks leave out or show twice: a schedule fires once for each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from tests.deterministic.year.model import DAY, HOUR, LATE_S, STEP_S, Due, Model

REMEMBERED_BACK_S = 12 * HOUR  # a clock that is set back by more was wrong before, and what it fired has not been due
MISSED_S = 60.0
AROUND = 14  # days before and after the world's: clocks are set, and machines sleep


def instant(clock: time, zone: str, day: datetime, weekday: int | None) -> float:
    """Return the first moment of a local day at which the zone's clocks are that far, in seconds since 1970; 0: none.

    An independent reading of the rule: go through the day's seconds by halves, as its clocks show them.
    """
    there = ZoneInfo(zone)
    if weekday is not None and day.weekday() != weekday:
        return 0.0
    low = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() - DAY
    for at_s in range(int(low), int(low) + int(3 * DAY), 900):  # every jump of a clock is at a quarter of an hour
        shown = datetime.fromtimestamp(at_s, there)
        if shown.date() == day.date() and shown.time() >= clock:
            minute = at_s - 900
            while True:
                shown = datetime.fromtimestamp(minute, there)
                if shown.date() == day.date() and shown.time() >= clock:
                    return float(minute)
                minute += 60
    return 0.0


class Times(Model):
    """Play nothing: time comes by itself."""

    CLOCK: ClassVar[time]
    ZONE: ClassVar[str]
    WEEKDAY: ClassVar[int | None] = None
    SKIPS: ClassVar[bool] = False

    _seen_s = 0.0  # the wall clock at the last step of a daemon
    _furthest_s = 0.0  # the furthest that a daemon has seen
    _jumped = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._fired: set[float] = set()
        self._wanted: dict[float, float] = {}  # time → until when it must have fired
        self._allowed: dict[float, float] = {}  # time → until when it may fire
        first = (self.world.begin - timedelta(days=AROUND)).replace(tzinfo=None)
        days = [first + timedelta(days=n) for n in range(int(self.world.days) + 2 * AROUND)]
        found = (instant(self.CLOCK, self.ZONE, day, self.WEEKDAY) for day in days)
        self._all = sorted(at_s for at_s in found if at_s)

    def play(self) -> None:
        pass

    def _between(self, after_s: float, until_s: float) -> list[float]:
        return self._all[bisect_right(self._all, after_s) : bisect_right(self._all, until_s)]

    def due(self) -> Due:
        wall_s, now_s = self.world.loop.now().wall_ns // 1_000_000_000, self.world.now_s
        before_s, self._seen_s = self._seen_s or wall_s, float(wall_s)
        jumped, self._jumped = self._jumped, False
        if wall_s < before_s:
            if before_s - wall_s > REMEMBERED_BACK_S:
                self._fired = {at_s for at_s in self._fired if at_s <= wall_s}
            before_s = wall_s
        passed = [at_s for at_s in self._between(before_s, wall_s) if at_s not in self._fired]
        for at_s in passed[-1:]:  # of several, the latest counts for all
            self._allowed[at_s] = now_s + LATE_S
        if passed and not (jumped and passed[-1] <= self._furthest_s):
            late_s = wall_s - passed[-1]
            if not self.SKIPS or (late_s < MISSED_S - STEP_S and not jumped):
                self._wanted[passed[-1]] = now_s + LATE_S
            elif late_s > MISSED_S + 2 * STEP_S:
                del self._allowed[passed[-1]]
        self._furthest_s = max(self._furthest_s, wall_s)
        for at_s in [at_s for at_s, until_s in self._wanted.items() if now_s > until_s]:
            del self._wanted[at_s]
            self.missed.append(self._told(f"{datetime.fromtimestamp(at_s, UTC).isoformat()} did not fire"))
        return Due.NO  # what it fires for is compared by its time

    def judge(self, reasons: list[Mapping[str, Any]]) -> None:
        due = {datetime.fromisoformat(reason["evidence"]["due"]).timestamp() for reason in reasons}
        super().judge(reasons)
        for at_s in due:
            self._fired.add(at_s)
            self._wanted.pop(at_s, None)
            if at_s not in self._allowed and self.tripped:
                self.false.append(self._told(f"fired for {datetime.fromtimestamp(at_s, UTC).isoformat()}"))
            self._allowed.pop(at_s, None)

    def allows(self, evidence: Mapping[str, Any]) -> bool:
        return True  # which is judged for every firing, and not only for the first

    def clock_set(self, seconds: float) -> None:
        self._jumped = True

    def stood_still(self, seconds: float) -> None:
        self._jumped = self._jumped or seconds > STEP_S

    def booted(self) -> None:
        self._jumped = True

    def stopping(self) -> None:
        self._wanted.clear()

    def mend(self) -> None:
        pass


class Fridays(Times):
    NAME = "friday-flat"
    ACCOUNTS = ("friday",)
    TOML = 'kind = "schedule"\ncron = "55 16 * * fri"\ntimezone = "America/New_York"\n'
    CLOCK, ZONE, WEEKDAY = time(16, 55), "America/New_York", 4


class Nights(Times):
    """In the hour that London's clocks leave out in March and show twice in October."""

    NAME = "night-flat"
    ACCOUNTS = ("night",)
    TOML = 'kind = "schedule"\ncron = "30 1 * * *"\ntimezone = "Europe/London"\nmissed = "skip"\n'
    CLOCK, ZONE, SKIPS = time(1, 30), "Europe/London", True
