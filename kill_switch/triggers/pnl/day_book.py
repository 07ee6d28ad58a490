"""Begin and end the days of a pnl trigger, with their baselines and peaks. Pure; `day` feeds it with samples.

Until a new day has its baseline, the old day counts, so a loss in a gap across the reset is judged by it. If only a
clock that was set has passed the reset, the day before counts beside the new one for a day.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.baseline import ResetTime, RestoredDay, TradingDay
from kill_switch.triggers.pnl.day_clock import DayClock, describe_hours
from kill_switch.triggers.pnl.sample_history import KNOWN_NS, JudgedSample

CLOCK_SET_RIGHT = "the clock was set right"  # why a day goes on that had ended
BRIDGED_S = 3600.0  # seconds; after a longer gap across the reset, the old day judges nothing
CLOCK_SET_S = 3600.0  # seconds; a clock that is set by less was near enough: the reset is the reset
BESIDE_S = 86_400.0  # seconds; for so long the day before counts beside a day that a clock that was set has begun
DAYS_KEPT = 3  # days that have ended; a clock that is set may bring them back


class DayBook:
    """Hold the day that counts, the days that have ended, and the samples for the next baseline."""

    def __init__(self, reset: ResetTime, confirm: int, left: RestoredDay) -> None:
        """Continue from the days of an earlier run."""
        self.day = left.day
        self.beside: TradingDay | None = None  # the day before, if only a clock that was set has ended it
        self.ended = list(left.ended)  # days that a clock that is set may bring back, the latest last
        self.uncounted_loss: Decimal | None = None  # the loss since the baseline before, when the day began
        self.end_reason = ""  # why the last day ended; "": by a reset between two samples
        self._clock = DayClock(reset, left.seen_ns)
        self._baseline_samples = 2 * confirm - 1
        self._gathered: deque[JudgedSample] = deque(maxlen=self._baseline_samples)
        self._basis: tuple[JudgedSample, ...] = ()  # samples of the baseline, while a transfer may change them
        self._peak = left.day.peak if left.day else Decimal()  # of the day, apart from samples that may change
        self._beside_since_ns = 0  # monotonic
        self._begin_why = "" if left.day else "first"  # why a new baseline is wanted, besides the reset
        self._previous_baseline: Decimal | None = None
        self._next_end_reason = ""

    @property
    def days(self) -> list[TradingDay]:
        """The days that limits apply to: today's, and the day before while it counts beside it."""
        return [day for day in (self.day, self.beside) if day is not None]

    @property
    def samples_missing(self) -> int:
        """The number of samples that the first baseline still needs."""
        return 0 if self.day is not None else max(1, self._baseline_samples - len(self._gathered))

    @property
    def baseline_entries(self) -> tuple[JudgedSample, ...]:
        """The samples of this baseline and of the next one, while a transfer may change them."""
        return (*self._gathered, *self._basis)

    def is_of_day(self, entry: JudgedSample) -> bool:
        """Return whether a sample came after the beginning of the day."""
        return self.day is not None and entry.mono_ns >= self.day.taken_ns

    # ── baseline and peak ─────────────────────────────────────────────────────────────────────────────────────────

    def raise_peak(self, held: Decimal | None) -> None:
        """Raise the peak to the least of the last `confirm` samples (None: there are too few)."""
        if self.day is not None and held is not None and held > self.day.peak:
            self.day = replace(self.day, peak=held)

    def keep_peak(self, final: Iterable[JudgedSample]) -> None:
        """Keep the peak of samples that no transfer can change any more."""
        for entry in final:
            if entry.held is not None and self.is_of_day(entry):
                self._peak = max(self._peak, entry.held)

    def shift(self, worth: Decimal) -> None:
        """Shift all baselines and peaks by the worth of a transfer."""
        self._peak += worth
        self.day = self.day and self.day.after_transfer(worth)
        self.beside = self.beside and self.beside.after_transfer(worth)
        self.ended = [day.after_transfer(worth) for day in self.ended]
        self._previous_baseline = None if self._previous_baseline is None else self._previous_baseline + worth

    def correct(self, entries: Iterable[JudgedSample]) -> None:
        """Compute baseline and peak again from samples whose readings have changed."""
        if self.day is None:
            return
        if self._basis:
            self._peak = _median(self._basis)
            self.day = replace(self.day, baseline=self._peak)
        held = (entry.held for entry in entries if entry.held is not None and self.is_of_day(entry))
        self.day = replace(self.day, peak=max((self._peak, *held)))

    def release(self, now_ns: int) -> None:
        """Drop the samples of a baseline that no transfer can change any more."""
        if self.day is not None and now_ns - self.day.taken_ns > KNOWN_NS:
            self._basis = ()

    # ── beginnings and ends ───────────────────────────────────────────────────────────────────────────────────────

    def begin_anew(self, why: str) -> None:
        """Forget the day: the next samples are its baseline."""
        if self.day is not None:
            self._previous_baseline = self.day.baseline
        self.day = self.beside = None
        self._begin_why, self._next_end_reason = why, ""
        self.ended.clear()
        self._gathered.clear()
        self._basis = ()

    def add(self, entry: JudgedSample) -> bool:
        """Note a sample; begin the day that is due if there are samples enough, and return whether one has begun."""
        at = entry.sample.at
        if at.mono_ns - self._beside_since_ns > BESIDE_S * 1e9:
            self.beside = None
        set_s = self._clock.advance(at)
        if self.day is not None and self._clock.is_today(self.day, at.wall_ns):
            self._gathered.clear()
            self._clock.gap_s, self._next_end_reason = 0.0, ""
            return False
        back = next((day for day in reversed(self.ended) if self._clock.is_today(day, at.wall_ns)), None)
        if back is not None:
            self._end()
            self.ended = [day for day in self.ended if day.date != back.date]
            self._next_end_reason, self.beside, self.uncounted_loss = "", None, None
            self._start(replace(back, why=CLOCK_SET_RIGHT, taken_ns=at.mono_ns))
            return True
        if self.day is not None and self._clock.gap_s > BRIDGED_S:  # too much may have been moved in the gap
            self._next_end_reason = f"nothing was known for {describe_hours(self._clock.gap_s)}"
            self._end()
        elif self.day is not None and abs(set_s) > CLOCK_SET_S:
            self._next_end_reason = f"the clock was set by {describe_hours(abs(set_s))}"
            self.beside, self._beside_since_ns = _stricter(self.day, self.beside), at.mono_ns
        today = self._clock.date(at.wall_ns)
        if self._gathered and self._clock.date(self._gathered[-1].sample.at.wall_ns) != today:
            self._gathered.clear()  # all samples of a baseline are of one day
        self._gathered.append(entry)
        return self._take_baseline(at)

    def _take_baseline(self, at: Instant) -> bool:
        """Begin the day with the median of the samples gathered, if they are enough."""
        if len(self._gathered) < self._baseline_samples:
            return False
        self._end()
        if not self._next_end_reason:  # the reset passed between two samples
            self.beside = None
        basis = tuple(self._gathered)
        baseline = _median(basis)
        self.uncounted_loss = None if self._previous_baseline is None else self._previous_baseline - baseline
        why = self._begin_why or "reset"
        self._start(TradingDay(self._clock.date(at.wall_ns), why, at.wall_ns, baseline, baseline, {}, at.mono_ns))
        self._basis = basis
        return True

    def _start(self, day: TradingDay) -> None:
        self.day, self._peak, self.end_reason = day, day.peak, self._next_end_reason
        self._begin_why, self._next_end_reason, self._previous_baseline = "", "", None
        self._clock.gap_s, self._basis = 0.0, ()
        self._gathered.clear()

    def _end(self) -> None:
        """Keep the day among those that have ended, for the case that the clock is wrong now."""
        if self.day is not None:
            self._previous_baseline = self.day.baseline
            self.ended = [*(day for day in self.ended if day.date != self.day.date), self.day][-DAYS_KEPT:]
            self.day, self._basis = None, ()


def _median(entries: Iterable[JudgedSample]) -> Decimal:
    worths = sorted(entry.readings.least for entry in entries)
    return worths[len(worths) // 2]


def _stricter(day: TradingDay, other: TradingDay | None) -> TradingDay:
    """Return a day with the higher baseline and the higher peak of both."""
    if other is None:
        return day
    return replace(day, baseline=max(day.baseline, other.baseline), peak=max(day.peak, other.peak))
