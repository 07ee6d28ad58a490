"""Cron expressions as crontab(5) defines them, and the times at which they come.

`Crontab` is an APScheduler trigger over CronSim, which matches local times as Debian's cron does. `Timetable` remembers
which times have fired, for schedule triggers and drills. Nothing here reads a clock; both classes count in whole
seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from math import floor
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from cronsim import CronSim, CronSimError

from kill_switch.core.domain import Instant
from kill_switch.wall_clock import AHEAD_S, WallClock, wall_s

SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LEAST_WAIT_S = 0.001
MAX_REMEMBERED = 64  # fired times that are kept; a clock that is set back over more of them fires the oldest again
_FIELDS = {"minute": 60, "hour": 24, "day": 31, "month": 12, "day of the week": 7}  # field → its number of values
_OVERLAP_S = 4 * 3600  # no zone has set its clocks back by more since 1970 (Antarctica/Casey: 3 hours)
_HORIZON = timedelta(days=50 * 366)  # CronSim's limit is 50 years
_ANY_YEAR = datetime(2000, 1, 1)  # without a zone; an expression that comes at all comes within 50 years of this date


class InvalidCron(ValueError):
    """A cron expression that is refused: crontab(5) does not accept it, or it means something else than people read.

    `description` describes the expression; `hint` is the text to write instead.
    """

    def __init__(self, description: str, hint: str = "") -> None:
        super().__init__(description)
        self.description = description
        self.hint = hint


class Crontab(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """The times of one cron expression in one time zone.

    Five fields: minute, hour, day, month, day of the week (names; 0 and 7 are Sunday). A day matches if the day of the
    month OR the day of the week matches. If one of the two fields begins with `*`, both must match. `L` is the month's
    last day, `5L` its last Friday, `fri#2` its second Friday.

    Where a zone's clocks change, the rule is that of Debian's cron. A fixed time of day (neither minute nor hour begins
    with `*`) comes once a day. If the clocks skip it, it comes at the first moment after the gap. If they show it
    twice, it comes the first time. Other expressions follow the clocks: a skipped time does not come, a repeated time
    comes twice.
    """

    def __init__(self, expression: str, zone: str) -> None:
        """Raise `InvalidCron` if `expression` is not a cron expression, or if its time never comes."""
        check(expression)
        self.expression = expression
        self._zone = ZoneInfo(zone)
        minute, hour = expression.split()[:2]
        self._follows_clocks = minute.startswith("*") or hour.startswith("*")

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the first time after `previous_fire_time`; without one, the first time at or after `now`.

        None: there is none within 50 years.
        """
        after_s = floor(previous_fire_time.timestamp()) if previous_fire_time else -floor(-now.timestamp()) - 1
        next_s = self.after(after_s)
        return None if next_s is None else self.local(next_s)

    def is_same(self, other: Crontab) -> bool:
        """Return whether another crontab has the same expression in the same time zone."""
        return (self.expression, self._zone.key) == (other.expression, other._zone.key)

    def local(self, at_s: int) -> datetime:
        """Return an instant, in seconds since 1970, as the zone's clocks show it."""
        return datetime.fromtimestamp(at_s, self._zone)

    def after(self, at_s: int) -> int | None:
        """Return the first time after an instant; None if there is none within 50 years."""
        next_s: int | None = None
        for instants in self._from(at_s):
            if next_s is not None and (not instants or instants[0] >= next_s):
                break
            later = [instant_s for instant_s in instants if instant_s > at_s]
            next_s = min(later if next_s is None else (*later, next_s), default=None)
            if next_s is not None and not self._follows_clocks:
                break
        return next_s

    def last(self, after_s: int, until_s: int) -> int | None:
        """Return the latest time after `after_s` and not after `until_s`; None if there is none."""
        low_s, high_s = after_s, until_s
        first_s = latest_s = self.after(low_s)
        if first_s is None or first_s > until_s:
            return None
        # invariant: the time after `low_s` is within the span, the time after `high_s` is not
        while high_s - low_s > 1:
            middle_s = (low_s + high_s) // 2
            next_s = self.after(middle_s)
            if next_s is None or next_s > until_s:
                high_s = middle_s
            else:
                low_s, latest_s = middle_s, next_s
        return latest_s

    def _from(self, at_s: int) -> Iterator[tuple[int, ...]]:
        """Yield, for each matching local time from an instant on, the instants at which the clocks show it."""
        start = self.local(at_s)
        if self._follows_clocks and start.utcoffset() != self.local(at_s + _OVERLAP_S).utcoffset():
            # because a time that the clocks show twice may be earlier on their face
            start -= timedelta(seconds=_OVERLAP_S)
        start = start.replace(tzinfo=None)
        try:
            for local in CronSim(self.expression, start):
                if local - start > _HORIZON:
                    return
                yield self._instants(local)
        except OverflowError:  # past the calendar's last year
            return

    def _instants(self, local: datetime) -> tuple[int, ...]:
        """Return the instants at which the clocks show a local time, by this expression's rule for clock changes."""
        seconds = floor(local.replace(tzinfo=UTC).timestamp())
        there = local.replace(tzinfo=self._zone)
        first_s = seconds - _offset_s(there)
        second_s = seconds - _offset_s(there.replace(fold=1))
        if first_s == second_s:
            return (first_s,)
        if first_s < second_s:  # the clocks show this time twice
            return (first_s, second_s) if self._follows_clocks else (first_s,)
        return () if self._follows_clocks else (self._gap_end(second_s, first_s),)

    def _gap_end(self, before_s: int, after_s: int) -> int:
        """Return the moment between two instants at which the clocks jump forward."""
        old_s = _offset_s(self.local(before_s))
        while after_s - before_s > 1:
            middle_s = (before_s + after_s) // 2
            if _offset_s(self.local(middle_s)) == old_s:
                before_s = middle_s
            else:
                after_s = middle_s
        return after_s


class Timetable:
    """The times of a crontab that have come and not fired. Pure: the caller passes the current time.

    Each time fires at most once. When the clock is set back, times that it had passed come again; those that have fired
    do not fire a second time. Exception: if the clock had been ahead by more than 12 hours, the times that fired in
    that future count as not fired. Several times may pass between two calls of `look`, because the machine slept or the
    clock was set forward. Then only the latest of them fires.
    """

    def __init__(
        self,
        crontab: Crontab,
        now: Instant,
        seen: datetime | None = None,
        last: datetime | None = None,
        fired: Iterable[int] = (),
    ) -> None:
        """`seen` is the time until which earlier runs have watched; `fired` are the times that they have fired.

        `last` is the latest time that earlier runs have recorded. If it is in the future, the clock was wrong then, or
        is wrong now.
        """
        now_s = wall_s(now)
        self.crontab = crontab
        self.fired = list(fired)[-MAX_REMEMBERED:]
        self._wall = WallClock(now)
        self._watched_s = now_s if seen is None else min(now_s, floor(seen.timestamp()))
        # the latest instant up to which any run has watched
        self._seen_s = self._watched_s if last is None else floor(last.timestamp())
        self.next_s = self._set_back(self._seen_s, now_s)

    def go_on(self, crontab: Crontab, now: Instant) -> Timetable:
        """Return the timetable of a crontab that replaces this one: none of its times fires a second time.

        For an unchanged crontab that is this timetable, so that a time is not lost which has come since the last look.
        """
        return self if self.crontab.is_same(crontab) else Timetable(crontab, now, fired=self.fired)

    def look(self, now: Instant) -> int | None:
        """Return the latest time that has come since the previous call and has not fired; None if there is none."""
        now_s, jumped_ns = wall_s(now), self._wall.jumped_ns(now)
        since_s, self._watched_s = self._watched_s, now_s
        if now_s < since_s:
            self._seen_s = max(self._seen_s, since_s)
            self.next_s = self._set_back(since_s, now_s)
            return None
        if self.next_s is None or now_s < self.next_s:
            return None
        # because the clock has been corrected: times before `_seen_s` were handled already
        if jumped_ns > 0 and self._seen_s <= now_s:
            since_s = max(since_s, self._seen_s)
        due_s = self.crontab.last(since_s, now_s)
        while due_s is not None and due_s in self.fired:
            due_s = self.crontab.last(since_s, due_s - 1)
        self.next_s = self._next()
        return due_s

    def fire(self, due_s: int) -> None:
        """Record that a time has fired."""
        self.fired = [*self.fired, due_s][-MAX_REMEMBERED:]
        self.next_s = self._next()

    def wait_s(self, now: Instant, most_s: float) -> float:
        """Return how many seconds to wait until the next `look`, at most `most_s`, because the wall clock may be set.

        The result is at least `LEAST_WAIT_S`, because a float of the wall clock is exact to a quarter of a microsecond
        only. A `look` that comes too early by that much would be repeated without a pause.
        """
        if self.next_s is None:
            return most_s
        return min(most_s, max(LEAST_WAIT_S, (self.next_s * 1_000_000_000 - now.wall_ns) / 1e9))

    @property
    def next(self) -> datetime | None:
        """Return when the next time comes, as the zone's clocks show it; None if none comes."""
        return None if self.next_s is None else self.crontab.local(self.next_s)

    def _set_back(self, before_s: int, now_s: int) -> int | None:
        """Return the next time after the clock was set back from `before_s`.

        If the clock had been far ahead, forget the times that it fired in that future.
        """
        if before_s - now_s > AHEAD_S:
            self.fired = [due_s for due_s in self.fired if due_s <= now_s]
        return self._next()

    def _next(self) -> int | None:
        next_s = self.crontab.after(self._watched_s)
        while next_s is not None and next_s in self.fired:
            next_s = self.crontab.after(next_s)
        return next_s


def check(expression: str) -> None:
    """Raise `InvalidCron` for an expression that crontab(5) refuses, that people read differently, or that never
    comes.
    """
    fields = expression.lower().split()
    if len(fields) == 1 and fields[0].startswith("@"):
        equivalent = SHORTHANDS.get(fields[0])
        raise InvalidCron("a shorthand", f'write "{equivalent}" instead' if equivalent else "")
    if len(fields) in (6, 7):
        raise InvalidCron(
            f"a cron expression of {len(fields)} fields", "expected five of them: there are no seconds here"
        )
    if len(fields) != len(_FIELDS):
        raise InvalidCron("not a cron expression")
    for (name, size), field in zip(_FIELDS.items(), fields, strict=True):
        for term in field.split(","):
            _check_step(name, size, term)
    try:
        CronSim(" ".join((*fields[:3], "*", *fields[4:])), _ANY_YEAR)
        CronSim(f"0 0 1 {fields[3]} *", _ANY_YEAR)
    except (CronSimError, ValueError) as error:  # ValueError: a number with thousands of digits
        raise InvalidCron("not a cron expression", _hint(str(error), fields[4])) from None
    try:
        next(CronSim(expression, _ANY_YEAR))
    except (CronSimError, StopIteration):
        raise InvalidCron("a cron expression whose time never comes", "expected a day that its month has") from None


def _check_step(name: str, size: int, term: str) -> None:
    """Raise `InvalidCron` for a step that crontab(5) accepts and that cannot be intended."""
    base, slash, step = term.partition("/")
    if not slash:
        return
    if step.isdecimal() and (len(step) > 2 or int(step) > size):
        raise InvalidCron(
            f"a step of more than {size} in the {name}", f"a step counts within the field: {size} at most"
        )
    if name == "day of the week" and re.fullmatch(r"[a-z]+|[0-7]", base):
        raise InvalidCron("a step behind a single day of the week", 'expected a list or a range, such as "mon,wed,fri"')
    if base.startswith("l"):
        raise InvalidCron("a step behind the last day of the month", "leave it out")


def _hint(error: str, weekdays: str) -> str:
    if "day-of-week" in error and re.search(r"-(sun|0|mon|tue|wed|thu)", weekdays):
        return (
            'days of the week count from sunday to saturday: write "sat,sun" for "sat-sun", "fri,sat,sun" for "fri-sun"'
        )
    return ""


def _offset_s(there: datetime) -> int:
    offset = there.utcoffset()
    return 0 if offset is None else floor(offset.total_seconds())
