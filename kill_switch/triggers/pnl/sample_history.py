"""The samples that a late report of a transfer may still change, each with its readings. Pure; `day` judges them.

A reading is what a sample is worth with the transfers that it does not contain. Readings change when more is known of
transfers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

from kill_switch.triggers.pnl.equity_course import SETTLE_NS, Transfer
from kill_switch.triggers.pnl.samples import Sample
from kill_switch.triggers.pnl.transfer_tracker import EquityRange, TransferTracker

KNOWN_NS = 3 * SETTLE_NS  # nanoseconds; for so long a transfer may change the readings of a sample


@dataclass(slots=True, eq=False)
class JudgedSample:
    """A sample with its least and most favourable reading."""

    sample: Sample
    readings: EquityRange
    held: Decimal | None = None  # the least reading of this sample and the `confirm - 1` before it: the peak is no less

    @property
    def mono_ns(self) -> int:
        """The time of the sample, monotonic nanoseconds."""
        return self.sample.at.mono_ns


class SampleHistory:
    """Hold the latest samples, the newest last, and the transfers that they may not contain."""

    def __init__(self, confirm: int, transfers: Iterable[Transfer]) -> None:
        """Start without a sample; `transfers` are those that an earlier run left, `confirm` the samples in a row."""
        self.entries: deque[JudgedSample] = deque()
        self.transfers = TransferTracker(transfers)
        self._confirm = confirm

    @property
    def row(self) -> list[JudgedSample]:
        """The last `confirm` samples, or fewer at the start."""
        return list(islice(self.entries, max(0, len(self.entries) - self._confirm), None))

    @property
    def transfers_in_doubt(self) -> tuple[Transfer, ...]:
        """The transfers that the last sample may or may not contain."""
        return tuple(self.transfers.doubtful(self.entries[-1].sample)) if self.entries else ()

    def add(self, sample: Sample) -> JudgedSample:
        """Append a sample; `transfers.add_sample` must have seen it before."""
        entry = JudgedSample(sample, self.transfers.readings(sample))
        self.entries.append(entry)
        self._hold(len(self.entries) - 1)
        return entry

    def read_again(self, others: Iterable[JudgedSample]) -> None:
        """Compute the readings of all samples, and of these others, again, because more is known of transfers."""
        for entry in {*self.entries, *others}:
            entry.readings = self.transfers.readings(entry.sample)
        for index in range(len(self.entries)):
            self._hold(index)

    def release(self, now_ns: int) -> list[JudgedSample]:
        """Drop the samples that no transfer can change any more; return those whose `held` is final."""
        final = []
        while len(self.entries) > self._confirm:
            first = self.entries[self._confirm - 1]  # its `held` is the first one that needs the oldest sample
            if now_ns - first.mono_ns <= KNOWN_NS:
                break
            if first.held is not None:
                final.append(JudgedSample(first.sample, first.readings, first.held))
            first.held = None
            self.entries.popleft()
        return final

    def prune_transfers(self, others: Iterable[JudgedSample], now_ns: int) -> None:
        """Forget the transfers that all samples here, and these others, contain."""
        self.transfers.prune([entry.sample for entry in (*self.entries, *others)], now_ns)

    def clear(self) -> None:
        """Forget all samples, and no transfer."""
        self.entries.clear()

    def _hold(self, index: int) -> None:
        if index >= self._confirm - 1:
            row = islice(self.entries, index - self._confirm + 1, index + 1)
            self.entries[index].held = min(entry.readings.least for entry in row)
