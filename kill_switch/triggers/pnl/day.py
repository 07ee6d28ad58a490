"""Judge the samples of a pnl trigger against its limits. Pure: time is in the samples.

docs/guides/triggers/pnl.md has the rules for transfers and days.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from kill_switch.triggers.pnl.baseline import ResetTime, RestoredDay, TradingDay
from kill_switch.triggers.pnl.day_book import DayBook
from kill_switch.triggers.pnl.equity_course import Transfer
from kill_switch.triggers.pnl.limits import SHIFTED_BY_TRANSFERS, PnlLimits
from kill_switch.triggers.pnl.sample_history import KNOWN_NS, JudgedSample, SampleHistory
from kill_switch.triggers.pnl.samples import Sample

PEAK_STEPS = 100  # a peak is recorded once it rises by this part of max_drawdown: a crash loses no more


class SampleOutcome(NamedTuple):
    """The consequences of a sample."""

    began: bool = False  # a day has begun
    reached: tuple[str, ...] = ()  # names of limits
    warn: tuple[tuple[str, int], ...] = ()  # limit, and per cent of it that is used up for the first time this day
    twice: tuple[Transfer, ...] = ()  # transfers that were reported twice, and are not counted any more


class DayTracker:
    """Judge each sample of all accounts together.

    No wrong figure decides anything by itself, nor do `confirm - 1` of them in a row. Samples are in a row if no other
    sample has come between them, however long that took:

        a limit is reached   when each of the last `confirm` samples reaches it
        the peak rises       to the least of the last `confirm` samples
        a baseline           is the median of `2 confirm - 1` samples

    A deposit or a withdrawal shifts the day, and the samples that do not contain it. A sample is judged by its more
    favourable reading, and makes baseline and peak by the less favourable one. While a transfer is in doubt, it may
    therefore hide a loss of the same amount. Samples of this day are judged by `max_loss` again once more is known: the
    trigger then fires late for that loss.
    """

    def __init__(
        self,
        limits: PnlLimits,
        confirm: int,
        reset: ResetTime,
        warn_at: tuple[int, ...],
        left: RestoredDay | None = None,
    ) -> None:
        """Continue from the day of an earlier run, if it has left one; `warn_at` are per cents of a limit."""
        left = left or RestoredDay()
        self.limits = limits
        self.days = DayBook(reset, confirm, left)
        self.recorded_peak = left.day.peak if left.day else Decimal()
        self._warn_at = sorted(warn_at)
        self._confirm = confirm
        self._history = SampleHistory(confirm, left.transfers)
        self._judged_from_ns = 0  # monotonic; earlier samples have fired, and a person has re-armed since
        self._clear_ns = 0  # monotonic; the last sample that certainly reaches no limit

    @property
    def day(self) -> TradingDay | None:
        """The day that counts; None before its baseline."""
        return self.days.day

    @property
    def basis_samples(self) -> tuple[Sample, ...]:
        """The samples that the last outcome follows from, the latest last."""
        return tuple(entry.sample for entry in self._history.row)

    @property
    def waits_for_baseline(self) -> bool:
        """Whether a limit needs the baseline, and there is none."""
        return self.day is None and (self.limits.max_loss is not None or self.limits.max_drawdown is not None)

    @property
    def has_unrecorded_peak(self) -> bool:
        """Whether the peak has risen by so much that it must be recorded."""
        step = self.limits.max_drawdown
        return bool(self.day and step and (self.day.peak - self.recorded_peak) * PEAK_STEPS >= step)

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """The transfers that figures may not contain yet."""
        return tuple(transfer for transfer in self._history.transfers if transfer.shown_ns is None)

    @property
    def transfers_in_doubt(self) -> tuple[Transfer, ...]:
        """The transfers that the last sample may or may not contain."""
        return self._history.transfers_in_doubt

    @property
    def hidden(self) -> tuple[str, ...]:
        """The limits that transfers in doubt have hidden for longer than `KNOWN_NS`."""
        entries = self._history.entries
        if not entries or entries[-1].mono_ns - self._clear_ns <= KNOWN_NS:
            return ()
        return tuple(name for name in SHIFTED_BY_TRANSFERS if self._may_reach(name, entries[-1]))

    def judge(self, sample: Sample) -> SampleOutcome:
        """Judge the next sample."""
        transfers = self._history.transfers
        twice = tuple(transfers.add_sample(sample))
        for transfer in twice:
            self.days.shift(-transfer.worth)
        if twice or transfers.take_changed():
            self._correct()
        entry = self._history.add(sample)
        began = self.days.add(entry)
        self.days.raise_peak(entry.held)
        self._note_clear(entry.mono_ns)
        self._release(entry.mono_ns)
        row = self._history.row
        if len(row) < self._confirm:
            return SampleOutcome(began, twice=twice)
        reached = tuple(
            name
            for name in PnlLimits._fields
            if all(self._reaches(name, entry) for entry in row) or (name == "max_loss" and self._was_lost())
        )
        warnings = () if reached else self._warn(max(entry.readings.most for entry in row))
        return SampleOutcome(began, reached, warnings, twice)

    def on_transfer(self, account: str, worth: Decimal, mono_ns: int) -> None:
        """Remove a deposit (`worth` above zero) or a withdrawal (below) from profit and loss."""
        self.days.shift(worth)
        self._history.transfers.add_transfer(Transfer(account, worth, mono_ns))
        self._correct()

    def continue_after_rearm(self, now_ns: int) -> None:
        """Continue the day after a re-arm of some accounts: samples from before `now_ns` do not fire again."""
        self._judged_from_ns = now_ns

    def begin_anew(self, why: str) -> None:
        """Forget the day: the next samples are its baseline."""
        self.days.begin_anew(why)
        self._history.clear()

    def reaches(self, name: str, sample: Sample) -> bool:
        """Return whether a sample reaches a limit, by its more favourable reading."""
        return self.limits.is_reached(name, self.days.days, sample.worth, self.worth(sample))

    def worth(self, sample: Sample) -> Decimal:
        """Return the more favourable reading of a sample."""
        return self._history.transfers.readings(sample).most

    def falls(self, worth: Decimal) -> dict[str, tuple[Decimal, Decimal]]:
        """Return, by limit, how far equity has fallen to `worth` and how far it may fall; {} before the first day."""
        return {} if self.day is None else self.limits.falls(self.day, worth)

    def _reaches(self, name: str, entry: JudgedSample) -> bool:
        return self.limits.is_reached(name, self.days.days, entry.sample.worth, entry.readings.most)

    def _may_reach(self, name: str, entry: JudgedSample) -> bool:
        """Return whether a sample reaches a limit by its less favourable reading."""
        return self.limits.is_reached(name, self.days.days, entry.sample.worth, entry.readings.least)

    def _was_lost(self) -> bool:
        """Return whether `confirm` samples in a row of this day reach `max_loss`, as transfers are known now."""
        count = 0
        for entry in self._history.entries if self._history.transfers else ():
            counts = self.days.is_of_day(entry) and entry.mono_ns >= self._judged_from_ns
            count = count + 1 if counts and self._reaches("max_loss", entry) else 0
            if count == self._confirm:
                return True
        return False

    def _note_clear(self, now_ns: int) -> None:
        """Note the last sample that reaches no limit by either reading; after a gap, start from now."""
        entries = self._history.entries
        before_ns = entries[-2].mono_ns if len(entries) > 1 else 0
        if not self._history.transfers or now_ns - before_ns > KNOWN_NS:
            self._clear_ns = now_ns
            return
        for entry in reversed(entries):
            if entry.mono_ns <= self._clear_ns:
                break
            if not any(self._may_reach(name, entry) for name in SHIFTED_BY_TRANSFERS):
                self._clear_ns = entry.mono_ns
                break

    def _warn(self, worth: Decimal) -> tuple[tuple[str, int], ...]:
        """Return the per cents of limits that are used up for the first time this day; of several, the highest."""
        if self.day is None:
            return ()
        warnings = []
        for name, (fallen, limit) in self.falls(worth).items():
            passed = [percent for percent in self._warn_at if fallen * 100 >= limit * percent]
            if passed and passed[-1] > self.day.warned.get(name, 0):
                warnings.append((name, passed[-1]))
        if warnings:
            self.days.day = replace(self.day, warned={**self.day.warned, **dict(warnings)})
        return tuple(warnings)

    def _correct(self) -> None:
        """Read all samples again, because more may be known of transfers; baseline and peak follow."""
        self._history.read_again(self.days.baseline_entries)
        self.days.correct(self._history.entries)

    def _release(self, now_ns: int) -> None:
        """Drop what no transfer can change any more."""
        self.days.keep_peak(self._history.release(now_ns))
        self.days.release(now_ns)
        self._history.prune_transfers(self.days.baseline_entries, now_ns)
