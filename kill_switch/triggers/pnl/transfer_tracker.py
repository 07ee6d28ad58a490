"""Tell which figures of an account contain a deposit or a withdrawal that its venue has told of.

The word of a transfer and the figures that contain it may come in either order, up to `SETTLE_NS` apart. So transfers
are looked for in the figures (`courses`). As long as several explanations are likely, a figure has several readings.
While no figure shows a transfer, each figure within that time of its word is in doubt. Pure.

A word that comes a second time shows in no figure: if an equal one is found, it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from kill_switch.triggers.pnl.equity_course import SETTLE_NS, ZERO, EquityCourse, Transfer
from kill_switch.triggers.pnl.samples import Sample

TRANSFERS_KEPT_NS = 5 * SETTLE_NS  # nanoseconds; of transfers, which outlast the figures that are looked through
NO_SECOND_DUPLICATE_NS = (
    3600_000_000_000  # nanoseconds; no second word is left out so soon after another: a loss may hide transfers
)


class EquityRange(NamedTuple):
    """What a sample is worth in money of now: had it contained what it lacks of all the transfers that were told."""

    least: Decimal
    most: Decimal


class TransferTracker:
    """Keep the transfers that some sample may not contain."""

    def __init__(self, known: Iterable[Transfer] = ()) -> None:
        """`known` are those that an earlier run has left."""
        self._courses: dict[str, EquityCourse] = {}
        self._left_out_ns: int | None = None  # when a second word was last left out
        for transfer in known:
            self.add_transfer(transfer)

    def __len__(self) -> int:
        return sum(len(course.transfers) for course in self._courses.values())

    def __iter__(self) -> Iterator[Transfer]:
        for course in self._courses.values():
            yield from course.transfers

    def add_transfer(self, transfer: Transfer) -> None:
        """Take a venue's word; figures that have come already may contain it."""
        if transfer.worth:  # no figure could show that nothing was moved
            self._course(transfer.account).add_transfer(transfer)

    def add_sample(self, sample: Sample) -> list[Transfer]:
        """Look for transfers in the next sample; return those that were told twice: they count no more."""
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
        """Tell whether readings may have changed since this was last asked."""
        changed = any(course.changed for course in self._courses.values())
        for course in self._courses.values():
            course.changed = False
        return changed

    def prune(self, held: Sequence[Sample], now_ns: int) -> None:
        """Forget the transfers that all samples contain that are still `held`, and every later one."""
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
            later, doubtful = ZERO, []
            for one in course.transfers:
                is_in = one.is_in(figure.asked_ns)
                if is_in is None and not likely and one.shown_ns is not None:
                    is_in = figure.asked_ns >= one.shown_ns
                if is_in is None:
                    doubtful.append(one)
                elif not is_in:
                    later += one.worth
            unfound = [one for one in doubtful if one.shown_ns is None]
            located = frozenset(one for one in doubtful if one.shown_ns is not None)
            missing = [_sum(way & located) for way in likely] or [ZERO]
            least += later + min(missing) + _sum(one for one in unfound if one.worth < 0)
            most += later + max(missing) + _sum(one for one in unfound if one.worth > 0)
        return EquityRange(least, most)

    def doubtful(self, sample: Sample) -> list[Transfer]:
        """Return the transfers of which nobody can tell whether that sample contains them."""
        known = ((transfer, sample.figures.get(transfer.account)) for transfer in self)
        return [
            transfer
            for transfer, f in known
            if transfer.shown_ns is None and f is not None and transfer.is_in(f.asked_ns) is None
        ]

    def _course(self, account: str) -> EquityCourse:
        return self._courses.setdefault(account, EquityCourse())

    def _is_second(self, transfer: Transfer) -> bool:
        """Tell whether an equal transfer was told close by, and found."""
        return any(
            one.shown_ns is not None
            and (one.account, one.worth) == (transfer.account, transfer.worth)
            and abs(one.reported_ns - transfer.reported_ns) <= SETTLE_NS
            for one in self
        )


def _sum(transfers: Iterable[Transfer]) -> Decimal:
    return sum((transfer.worth for transfer in transfers), ZERO)
