"""Compare the wall clock with the days on record: which day is today's, how long nothing was seen. Pure.

A clock that is set may pass a reset that has not come, or come back before one. `day_book` decides what follows.
"""

from __future__ import annotations

import math
from datetime import date as Date  # noqa: N812 - a method has the name
from datetime import timedelta

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.baseline import ResetTime, TradingDay
from kill_switch.wall_clock import AHEAD_S


class DayClock:
    """Measure the time between samples by both clocks."""

    def __init__(self, reset: ResetTime, last_seen_ns: int | None) -> None:
        """Start before the first sample; `last_seen_ns` is the wall time of an earlier run's last one, if known."""
        self.gap_s = 0.0  # seconds; the longest time without a sample since the day was last today's
        self._reset = reset
        self._last_seen_ns = last_seen_ns
        self._last: Instant | None = None  # the time of the last sample

    def advance(self, at: Instant) -> float:
        """Note the time of a sample; return by how many seconds the wall clock was set since the last one."""
        last, self._last = self._last, at
        if last is None:
            gap_s = math.inf if self._last_seen_ns is None else (at.wall_ns - self._last_seen_ns) / 1e9
            self.gap_s = max(self.gap_s, gap_s)
            return min(0.0, gap_s)
        passed_s = (at.mono_ns - last.mono_ns) / 1e9
        self.gap_s = max(self.gap_s, passed_s)
        return (at.wall_ns - last.wall_ns) / 1e9 - passed_s

    def date(self, wall_ns: int) -> Date:
        """Return the date of the day at a wall time."""
        return self._reset.date(wall_ns)

    def is_today(self, day: TradingDay, wall_ns: int) -> bool:
        """Return whether a day is today's, or is one date ahead.

        It is ahead after the clock was set back over the reset, or in an hour that the zone's clocks show twice. A day
        that began more than `AHEAD_S` after now is not today's, because a clock was wrong when it began.
        """
        ahead = day.date - self._reset.date(wall_ns)
        return timedelta() <= ahead <= timedelta(days=1) and day.since_ns - wall_ns <= AHEAD_S * 1e9


def describe_hours(seconds: float) -> str:
    """Return a length of time in hours, or in days from two days on."""
    if math.isinf(seconds):
        return "an unknown time"
    return f"{seconds / 86_400:.0f} days" if seconds >= 2 * 86_400 else f"{seconds / 3600:.0f} h"
