"""Find out which figures contain a deposit or a withdrawal that a venue has reported. Pure.

The report of a transfer and the figures that contain it come in either order, up to `SETTLE_NS` apart. While several
explanations are likely, a figure has several readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from kill_switch.triggers.pnl.equity_course import SETTLE_NS, ZERO, EquityCourse, Transfer
from kill_switch.triggers.pnl.samples import Sample

TRANSFERS_KEPT_NS = 5 * SETTLE_NS  # nanoseconds; longer than figures are kept
NO_SECOND_DUPLICATE_NS = 3600_000_000_000  # nanoseconds between two dropped reports, because a loss may hide a transfer


class EquityRange(NamedTuple):
    """The least and the most that a sample is worth, had it contained all transfers that were reported."""

    least: Decimal
    most: Decimal


class TransferTracker:
    """Hold the transfers that some sample may not contain.

    While no figure shows a transfer, each figure within `SETTLE_NS` of its report is in doubt. A second report of one
    transfer shows in no figure: it is dropped if an equal transfer is found.
    """

    def __init__(self, known: Iterable[Transfer] = ()) -> None:
        """Start with the transfers that an earlier run has left."""
        self._courses: dict[str, EquityCourse] = {}
        self._left_out_ns: int | None = None  # when a second report was last dropped
        for transfer in known:
            self.add_transfer(transfer)

    def __len__(self) -> int:
        return sum(len(course.transfers) for course in self._courses.values())

    def __iter__(self) -> Iterator[Transfer]:
        for course in self._courses.values():
            yield from course.transfers

    def add_transfer(self, transfer: Transfer) -> None:
        """Add a transfer that a venue reports; figures that have come already may contain it."""
        if transfer.worth:
            self._course(transfer.account).add_transfer(transfer)

    def add_sample(self, sample: Sample) -> list[Transfer]:
        """Look for transfers in the next sample; return those that were reported twice, which are dropped."""
        for account, figure in sample.figures.items():
            self._course(account).add_figure(figure.asked_ns, figure.worth)
        if self._left_out_ns is not None and sample.at.mono_ns - self._left_out_ns < NO_SECOND_DUPLICATE_NS:
            return []
        overdue = [
            transfer
            for transfer in self
            if transfer.shown_ns is None and transfer.is_in(self._course(transfer.account).asked_ns)
        ]
        twice = [
            transfer
            for transfer in overdue
            if self._is_second(transfer) and self._course(transfer.account).has_looked_for(transfer)
        ]
        if twice:
            self._left_out_ns = sample.at.mono_ns
        for account in {transfer.account for transfer in twice}:
            self._course(account).forget_transfers(twice)
        return twice

    def take_changed(self) -> bool:
        """Return whether readings may have changed since the last call."""
        changed = any(course.changed for course in self._courses.values())
        for course in self._courses.values():
            course.changed = False
        return changed

    def prune(self, held: Sequence[Sample], now_ns: int) -> None:
        """Forget the transfers that all `held` samples, and all later ones, contain."""
        for account, course in self._courses.items():
            asked = [sample.figures[account].asked_ns for sample in held if account in sample.figures]
            first_ns = min(asked, default=now_ns)
            course.transfers = [
                transfer
                for transfer in course.transfers
                if now_ns - transfer.reported_ns <= TRANSFERS_KEPT_NS or not transfer.is_in(first_ns)
            ]

    def readings(self, sample: Sample) -> EquityRange:
        """Return the least and the most that a sample may be worth."""
        least = most = sample.worth
        for account, figure in sample.figures.items():
            course = self._course(account)
            if not course.transfers:
                continue
            likely = course.likely(figure.asked_ns)
            in_doubt, after = course.transfers_around(figure.asked_ns)
            later, doubtful = _sum(after), []
            for transfer in in_doubt:
                if likely or transfer.shown_ns is None:
                    doubtful.append(transfer)
                elif figure.asked_ns < transfer.shown_ns:
                    later += transfer.worth
            unfound = [transfer for transfer in doubtful if transfer.shown_ns is None]
            located = frozenset(transfer for transfer in doubtful if transfer.shown_ns is not None)
            missing = [_sum(way & located) for way in likely] or [ZERO]
            least += later + min(missing) + _sum(transfer for transfer in unfound if transfer.worth < 0)
            most += later + max(missing) + _sum(transfer for transfer in unfound if transfer.worth > 0)
        return EquityRange(least, most)

    def doubtful(self, sample: Sample) -> list[Transfer]:
        """Return the transfers that a sample may or may not contain."""
        known = ((transfer, sample.figures.get(transfer.account)) for transfer in self)
        return [
            transfer
            for transfer, f in known
            if transfer.shown_ns is None and f is not None and transfer.is_in(f.asked_ns) is None
        ]

    def _course(self, account: str) -> EquityCourse:
        return self._courses.setdefault(account, EquityCourse())

    def _is_second(self, transfer: Transfer) -> bool:
        """Return whether an equal transfer was reported close by, and found."""
        return any(
            other.shown_ns is not None
            and (other.account, other.worth) == (transfer.account, transfer.worth)
            and abs(other.reported_ns - transfer.reported_ns) <= SETTLE_NS
            for other in self
        )


def _sum(transfers: Iterable[Transfer]) -> Decimal:
    return sum((transfer.worth for transfer in transfers), ZERO)
