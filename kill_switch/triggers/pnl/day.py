"""Judge equity against a day's baseline and peak. Pure: time is in the samples.

A day that begins more than 12 hours from now is not today's: the clock was ahead then, or is behind now. Once the clock
is right, the day that is today's by it goes on. A reset that only a clock that was set has passed takes nothing away:
the day before counts beside the new one, for a day at most.

Until the new baseline stands, the old day counts. So what is lost in a gap across the reset is judged by it. After a
gap of more than `BRIDGED_S` it is not: nobody knows what was moved meanwhile. The next samples are the baseline then.

No wrong figure decides anything by itself, nor do `confirm - 1` of them in a row. Samples are in a row if no other has
come between them, however long that took:

    a limit is reached   when each of the last `confirm` samples reaches it
    the peak rises       to the least of the last `confirm` samples
    a baseline           is the median of `2 confirm - 1` samples

A deposit or a withdrawal moves the day and the samples that do not contain it by as much: all is in money of now. While
nobody can tell whether a sample contains it (`transfers`), the sample has two readings. The more favourable one is
judged by the limits, the other one makes baseline and peak. So a transfer hides a loss of as much, for `SETTLE_NS`.
Once more is known, samples of this day are judged again by `max_loss`: what was lost then fires late, and not never.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from typing import NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.baseline import ResetTime, RestoredDay, TradingDay
from kill_switch.triggers.pnl.equity_course import SETTLE_NS, Transfer
from kill_switch.triggers.pnl.samples import Sample
from kill_switch.triggers.pnl.transfer_tracker import EquityRange, TransferTracker
from kill_switch.wall_clock import AHEAD_S

CLOCK_SET_RIGHT = "the clock was set right"  # why a day goes on that had ended
PEAK_STEPS = 100  # a rise is recorded when it is that part of max_drawdown: no crash loses more
KNOWN_NS = 3 * SETTLE_NS  # so long a transfer may change what is known of a sample
LIKE_MONEY = ("max_loss", "max_drawdown")  # the limits that are judged in money of now: transfers may hide a loss
BRIDGED_S = 3600.0  # seconds; after a longer gap across the reset, the old day judges nothing
SET_S = 3600.0  # seconds; a clock that is set by less was near enough: the reset is the reset
BESIDE_S = 86_400.0  # seconds; so long the day before counts beside one that a clock that was set has begun
DAYS_KEPT = 3  # days that have ended, which a clock that is set may bring back


class PnlLimits(NamedTuple):
    """How far equity may fall, in the trigger's currency; None: not watched."""

    max_loss: Decimal | None
    max_drawdown: Decimal | None
    floor: Decimal | None


class SampleOutcome(NamedTuple):
    """What a sample has led to."""

    began: bool = False  # a day
    reached: tuple[str, ...] = ()  # limits
    warn: tuple[tuple[str, int], ...] = ()  # limit and per cents that it has come to, for the first time this day
    twice: tuple[Transfer, ...] = ()  # what was told twice, and counts no more


@dataclass(slots=True, eq=False)
class _JudgedSample:
    """A sample, and its readings in money of now."""

    sample: Sample
    readings: EquityRange
    held: Decimal | None = None  # by it and the `confirm - 1` samples before it: the peak is no less


class DayTracker:
    """Keep the day, and judge each sample."""

    def __init__(
        self,
        limits: PnlLimits,
        confirm: int,
        reset: ResetTime,
        warn_at: tuple[int, ...],
        left: RestoredDay | None = None,
    ) -> None:
        """`left` is what an earlier run has left."""
        left = left or RestoredDay()
        self.limits = limits
        self.day = left.day
        self.ended = list(left.ended)  # days that a clock that is set may bring back, the latest last
        self.recorded_peak = left.day.peak if left.day else Decimal()
        self.uncounted_loss: Decimal | None = (
            None  # when the day began: since the baseline before; nobody counts it any more
        )
        self.end_reason = ""  # why the last day has ended, if not by a reset that somebody has seen
        self._reset = reset
        self._warn_at = sorted(warn_at)
        self._confirm = confirm
        self._transfers = TransferTracker(left.transfers)
        self._entries: deque[_JudgedSample] = deque()  # as long as a transfer may change them, the latest last
        self._gathered: deque[_JudgedSample] = deque(maxlen=2 * confirm - 1)
        self._judged_ns = 0  # samples before that have tripped, and a person has re-armed: they do so no more
        self._basis: tuple[
            _JudgedSample, ...
        ] = ()  # what the baseline is the median of, as long as a transfer may change it
        self._peak = self.recorded_peak  # of the day, apart from what `_entries` have held
        self._beside: TradingDay | None = None  # the day before, if only a clock that was set has ended it
        self._beside_ns = 0  # since when
        self._anew = "" if left.day else "first"  # why a new baseline is wanted, besides the time of the day
        self._was: Decimal | None = None  # the baseline before, in money of now
        self._why = ""  # what `because` is going to be
        self._last: Instant | None = None  # when the last sample came
        self._gap_s = 0.0  # the longest time without a sample since the day was last today's
        self._left_ns = left.seen_ns
        self._clear_ns = 0  # monotonic; of the last sample of which it is known that it reaches no limit

    @property
    def basis_samples(self) -> tuple[Sample, ...]:
        """The samples that the last verdict was built on, the latest last."""
        return tuple(entry.sample for entry in self._row)

    @property
    def samples_missing(self) -> int:
        """How many samples are missing before there is a first baseline."""
        return 0 if self.day is not None else max(1, 2 * self._confirm - 1 - len(self._gathered))

    @property
    def waits_for_baseline(self) -> bool:
        """There is no baseline, and a limit counts from it."""
        return self.day is None and (self.limits.max_loss is not None or self.limits.max_drawdown is not None)

    @property
    def has_unrecorded_peak(self) -> bool:
        """The peak has risen by so much that it must be put on record."""
        step = self.limits.max_drawdown
        return bool(self.day and step and (self.day.peak - self.recorded_peak) * PEAK_STEPS >= step)

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """The transfers that figures may not contain yet."""
        return tuple(transfer for transfer in self._transfers if transfer.shown_ns is None)

    @property
    def previous_day(self) -> bool:
        """The day before counts beside this one."""
        return self._beside is not None

    @property
    def in_doubt(self) -> tuple[Transfer, ...]:
        """The transfers of which nobody can tell whether the last sample contains them."""
        return tuple(self._transfers.doubtful(self._entries[-1].sample)) if self._entries else ()

    @property
    def hidden(self) -> tuple[str, ...]:
        """The limits of which nobody has been able to tell for `KNOWN_NS` whether they are reached."""
        if not self._entries or self._entries[-1].sample.at.mono_ns - self._clear_ns <= KNOWN_NS:
            return ()
        return tuple(name for name in LIKE_MONEY if self._may_reach(name, self._entries[-1]))

    def judge(self, sample: Sample) -> SampleOutcome:
        """Judge one sample of all accounts."""
        twice = tuple(self._transfers.add_sample(sample))
        for transfer in twice:
            self._shift(-transfer.worth)
        if twice or self._transfers.take_changed():
            self._correct()
        self._entries.append(_JudgedSample(sample, self._transfers.readings(sample)))
        self._hold(len(self._entries) - 1)
        began = self._begin(sample.at)
        self._raise_peak()
        self._clear(sample.at.mono_ns)
        self._forget(sample.at.mono_ns)
        row = self._row
        if len(row) < self._confirm:
            return SampleOutcome(began, twice=twice)
        reached = tuple(
            name
            for name in PnlLimits._fields
            if all(self._reaches(name, entry) for entry in row) or (name == "max_loss" and self._was_lost())
        )
        return SampleOutcome(
            began, reached, () if reached else self._warn(max(entry.readings.most for entry in row)), twice
        )

    def on_transfer(self, account: str, worth: Decimal, mono_ns: int) -> None:
        """Take out of profit and loss what was brought in (more than nothing) or taken away (less)."""
        self._shift(worth)
        self._transfers.add_transfer(Transfer(account, worth, mono_ns))
        self._correct()

    def continue_after_rearm(self, now_ns: int) -> None:
        """Let the day go on behind a re-arm of some accounts: what has tripped is not judged again."""
        self._judged_ns = now_ns

    def begin_anew(self, why: str) -> None:
        """Forget the day: the next samples are its baseline."""
        if self.day is not None:
            self._was = self.day.baseline
        self.day = self._beside = None
        self._anew, self._why = why, ""
        self.ended.clear()
        self._entries.clear()
        self._gathered.clear()
        self._basis = ()

    def reaches(self, name: str, sample: Sample) -> bool:
        """Tell whether a sample reaches a limit, by its more favourable reading."""
        return self._reaches(name, _JudgedSample(sample, self._transfers.readings(sample)))

    def worth(self, sample: Sample) -> Decimal:
        """Return what a sample is worth in money of now, by its more favourable reading."""
        return self._transfers.readings(sample).most

    def fallen(self, worth: Decimal) -> dict[str, tuple[Decimal, Decimal]]:
        """Return, by limit, how far equity of so much has fallen and how far it may; nothing before the first day.

        A floor's way down begins at the baseline.
        """
        day, limits, falls = self.day, self.limits, {}
        if day is not None and limits.max_loss is not None:
            falls["max_loss"] = (day.baseline - worth, limits.max_loss)
        if day is not None and limits.max_drawdown is not None:
            falls["max_drawdown"] = (day.peak - worth, limits.max_drawdown)
        if day is not None and limits.floor is not None and day.baseline > limits.floor:
            falls["floor"] = (day.baseline - worth, day.baseline - limits.floor)
        return falls

    # ── judging ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _row(self) -> list[_JudgedSample]:
        return list(islice(self._entries, max(0, len(self._entries) - self._confirm), None))

    def _reaches(self, name: str, entry: _JudgedSample) -> bool:
        limits, days = self.limits, [day for day in (self.day, self._beside) if day is not None]
        match name:
            case "floor":  # equity itself: no transfer moves it
                return limits.floor is not None and entry.sample.worth <= limits.floor
            case "max_loss":
                most = limits.max_loss
                return most is not None and any(day.baseline - entry.readings.most >= most for day in days)
            case _:
                most = limits.max_drawdown
                return most is not None and any(day.peak - entry.readings.most >= most for day in days)

    def _was_lost(self) -> bool:
        """Tell whether `confirm` samples in a row of this day reach `max_loss`, now that more is known of transfers."""
        count = 0
        for entry in self._entries if self._transfers else ():
            counts = self._is_of_day(entry) and entry.sample.at.mono_ns >= self._judged_ns
            count = count + 1 if counts and self._reaches("max_loss", entry) else 0
            if count == self._confirm:
                return True
        return False

    def _clear(self, now_ns: int) -> None:
        """Take note of the last sample that reaches no limit by either reading; behind a gap, time begins anew."""
        before_ns = self._entries[-2].sample.at.mono_ns if len(self._entries) > 1 else 0
        if not self._transfers or now_ns - before_ns > KNOWN_NS:
            self._clear_ns = now_ns
            return
        for entry in reversed(self._entries):
            if entry.sample.at.mono_ns <= self._clear_ns:
                break
            if not any(self._may_reach(name, entry) for name in LIKE_MONEY):
                self._clear_ns = entry.sample.at.mono_ns
                break

    def _may_reach(self, name: str, entry: _JudgedSample) -> bool:
        """Tell whether a sample reaches a limit by its less favourable reading."""
        return self._reaches(name, _JudgedSample(entry.sample, EquityRange(entry.readings.least, entry.readings.least)))

    def _warn(self, worth: Decimal) -> tuple[tuple[str, int], ...]:
        """Find the per cents that have been passed for the first time this day; of several, the most."""
        if self.day is None:
            return ()
        warnings = []
        for name, (fallen, limit) in self.fallen(worth).items():
            passed = [part for part in self._warn_at if fallen * 100 >= limit * part]
            if passed and passed[-1] > self.day.warned.get(name, 0):
                warnings.append((name, passed[-1]))
        if warnings:
            self.day = replace(self.day, warned={**self.day.warned, **dict(warnings)})
        return tuple(warnings)

    # ── samples, in money of now ──────────────────────────────────────────────────────────────────────────────────

    def _hold(self, index: int) -> None:
        if index >= self._confirm - 1:
            row = islice(self._entries, index - self._confirm + 1, index + 1)
            self._entries[index].held = min(entry.readings.least for entry in row)

    def _raise_peak(self) -> None:
        held = self._entries[-1].held
        if self.day is not None and held is not None and held > self.day.peak:
            self.day = replace(self.day, peak=held)

    def _shift(self, worth: Decimal) -> None:
        """Bring what is in money of before a transfer into money of now."""
        self._peak += worth
        self.day = self.day and self.day.after_transfer(worth)
        self._beside = self._beside and self._beside.after_transfer(worth)
        self.ended = [day.after_transfer(worth) for day in self.ended]
        self._was = None if self._was is None else self._was + worth

    def _correct(self) -> None:
        """Read all samples again, because more may be known of transfers: baseline and peak follow."""
        for entry in {*self._entries, *self._gathered, *self._basis}:
            entry.readings = self._transfers.readings(entry.sample)
        for index in range(len(self._entries)):
            self._hold(index)
        if self.day is None:
            return
        if self._basis:
            self._peak = _median(self._basis)
            self.day = replace(self.day, baseline=self._peak)
        held = (
            judged_sample.held
            for judged_sample in self._entries
            if judged_sample.held is not None and self._is_of_day(judged_sample)
        )
        self.day = replace(self.day, peak=max((self._peak, *held)))

    def _is_of_day(self, entry: _JudgedSample) -> bool:
        return self.day is not None and entry.sample.at.mono_ns >= self.day.taken_ns

    def _forget(self, now_ns: int) -> None:
        """Let go of what no transfer can change any more."""
        while len(self._entries) > self._confirm:
            first = self._entries[self._confirm - 1]  # of those that hold something, together with the very first
            if now_ns - first.sample.at.mono_ns <= KNOWN_NS:
                break
            if first.held is not None and self._is_of_day(first):
                self._peak = max(self._peak, first.held)
            first.held = None
            self._entries.popleft()
        if self.day is not None and now_ns - self.day.taken_ns > KNOWN_NS:
            self._basis = ()
        held = (*self._entries, *self._gathered, *self._basis)
        self._transfers.prune([entry.sample for entry in held], now_ns)

    # ── the day ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, at: Instant) -> bool:
        """Begin the day that is due, once there are samples enough for its baseline."""
        set_s = self._pass(at)
        if self.day is not None and self._goes_on(self.day, at.wall_ns):
            self._gathered.clear()
            self._gap_s, self._why = 0.0, ""
            return False
        back = next((day for day in reversed(self.ended) if self._goes_on(day, at.wall_ns)), None)
        if back is not None:
            self._end()
            self.ended = [day for day in self.ended if day.date != back.date]
            self._why, self._beside, self.uncounted_loss = "", None, None
            self._start(replace(back, why=CLOCK_SET_RIGHT, taken_ns=at.mono_ns))
            return True
        if self.day is not None and self._gap_s > BRIDGED_S:  # too much may have been moved meanwhile
            self._why = f"nothing was known for {_hours(self._gap_s)}"
            self._end()
        elif self.day is not None and abs(set_s) > SET_S:
            self._why = f"the clock was set by {_hours(abs(set_s))}"
            self._beside, self._beside_ns = _stricter(self.day, self._beside), at.mono_ns
        today = self._reset.date(at.wall_ns)
        if self._gathered and self._reset.date(self._gathered[-1].sample.at.wall_ns) != today:
            self._gathered.clear()  # a baseline is of one day
        self._gathered.append(self._entries[-1])
        return self._gather(at)

    def _pass(self, at: Instant) -> float:
        """Take note of the time since the last sample; return by how much the clock was set meanwhile, in seconds."""
        last, self._last = self._last, at
        if at.mono_ns - self._beside_ns > BESIDE_S * 1e9:
            self._beside = None
        if last is None:
            gap_s = math.inf if self._left_ns is None else (at.wall_ns - self._left_ns) / 1e9
            self._gap_s = max(self._gap_s, gap_s)
            return min(0.0, gap_s)
        passed_s = (at.mono_ns - last.mono_ns) / 1e9
        self._gap_s = max(self._gap_s, passed_s)
        return (at.wall_ns - last.wall_ns) / 1e9 - passed_s

    def _gather(self, at: Instant) -> bool:
        """Take the baseline from the samples gathered, if they are enough."""
        if len(self._gathered) < 2 * self._confirm - 1:
            return False
        self._end()
        if not self._why:  # a reset that somebody has seen
            self._beside = None
        basis = tuple(self._gathered)
        baseline = _median(basis)
        self.uncounted_loss = None if self._was is None else self._was - baseline
        why = self._anew or "reset"
        self._start(TradingDay(self._reset.date(at.wall_ns), why, at.wall_ns, baseline, baseline, {}, at.mono_ns))
        self._basis = basis
        return True

    def _start(self, day: TradingDay) -> None:
        self.day, self._peak, self.end_reason = day, day.peak, self._why
        self._anew, self._why, self._was = "", "", None
        self._gap_s, self._basis = 0.0, ()
        self._gathered.clear()

    def _end(self) -> None:
        """Keep the day for the case that the clock is wrong now."""
        if self.day is not None:
            self._was = self.day.baseline
            self.ended = [*(day for day in self.ended if day.date != self.day.date), self.day][-DAYS_KEPT:]
            self.day, self._basis = None, ()

    def _goes_on(self, day: TradingDay, wall_ns: int) -> bool:
        """Tell whether a day is today's: one date ahead, the clock was set back over the reset, or shows it twice."""
        ahead = day.date - self._reset.date(wall_ns)
        return timedelta() <= ahead <= timedelta(days=1) and day.since_ns - wall_ns <= AHEAD_S * 1e9


def _median(entries: Iterable[_JudgedSample]) -> Decimal:
    worths = sorted(entry.readings.least for entry in entries)
    return worths[len(worths) // 2]


def _stricter(day: TradingDay, other: TradingDay | None) -> TradingDay:
    """Return a day with the higher baseline and the higher peak of both."""
    if other is None:
        return day
    return replace(day, baseline=max(day.baseline, other.baseline), peak=max(day.peak, other.peak))


def _hours(seconds: float) -> str:
    if math.isinf(seconds):
        return "an unknown time"
    return f"{seconds / 86_400:.0f} days" if seconds >= 2 * 86_400 else f"{seconds / 3600:.0f} h"
