"""Find out which figures of one account contain which of its transfers. Pure; `transfer_tracker` asks.

An explanation says at which figure each transfer has entered. The search runs on the event loop, so each part of it is
bounded by the constants below.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from heapq import merge
from itertools import combinations_with_replacement, islice
from operator import itemgetter

SETTLE_NS = 60_000_000_000  # nanoseconds; a transfer's report and the figures with it are no further apart
FIGURES_KEPT_NS = 3 * SETTLE_NS  # nanoseconds; age of figures that are looked through
APART_NS = 4_000_000_000  # nanoseconds between figures that are looked at, besides the last one
RECENT = 40  # figures from which the common move is computed
CLEAN, USUAL = Decimal("0.02"), 6  # parts of the transfer, and common moves, that a clean step may be off
LIKELY = Decimal("0.34")  # part of its difference to a figure that a likely explanation may cost
NEAR = Decimal("0.5")  # part of the least transfer that a step may be off
REACH, WIDTH = 2, 8  # largest transfers that a kept way may cost; ways that are kept
SOUGHT = 24  # transfers within two minutes that are looked for; later reports are not
LOOKED_AT = 8  # different amounts that are looked for in a step, those reported nearest to it
TOGETHER, ALIKE = 3, 8  # transfers that enter in one step, and equal ones
STEPS = 32  # steps from all ways to the next figure that are tried, the cheapest first
ZERO = Decimal(0)


@dataclass(slots=True, eq=False)
class Transfer:
    """A transfer that a venue has reported, in the trigger's currency: above zero a deposit, below a withdrawal."""

    account: str
    worth: Decimal
    reported_ns: int  # monotonic
    shown_ns: int | None = None  # when the first figure that contains it was requested; None: no figure so far
    sought: bool = True  # it is looked for in the figures

    def is_in(self, asked_ns: int) -> bool | None:
        """Return whether a figure requested at `asked_ns` contains it, by the time of its report alone; None:
        unknown.
        """
        return None if abs(asked_ns - self.reported_ns) < SETTLE_NS else asked_ns > self.reported_ns


Missing = frozenset[Transfer]  # transfers that a figure might contain, and does not
NOTHING: Missing = frozenset()
Sum = tuple[Decimal, Decimal, Sequence[Decimal]]  # sum, how far a change may be off from it, and the worths
Fit = tuple[Decimal, Sequence[Decimal]]  # remainder of a change, and the worths that enter
Step = tuple[
    Decimal, Decimal, Missing, Sequence[Decimal]
]  # cost in all, cost of the step, way that it starts from, fit


@dataclass(slots=True, eq=False)
class EquityPoint:
    """A figure, and the sets of transfers that may be missing in it (ways), each with its cost."""

    asked_ns: int
    worth: Decimal
    ways: dict[Missing, Decimal] = field(default_factory=lambda: {NOTHING: ZERO})  # → the least cost to get there
    back: dict[Missing, list[tuple[Missing, Decimal]]] = field(
        default_factory=dict
    )  # → earlier ways, each with its cost
    begun: Missing = NOTHING  # transfers that it may contain, and no figure before it
    likely: list[Missing] = field(default_factory=list)  # []: not judged yet
    crowded: bool = False  # there are more explanations than are looked at
    judged: bool = False
    move: Decimal = ZERO  # of the market, by the best explanation

    def doubt(self, transfer: Transfer) -> None:
        """Add ways with and without a transfer: no figure before this one is known.

        If the figure contains a transfer that is reported only later, that costs as much as a market move that hides
        it.
        """
        if transfer.is_in(self.asked_ns) is not None:
            return
        early = abs(transfer.worth) if transfer.reported_ns > self.asked_ns else ZERO
        alike = {way for way in self.ways if any(missing_transfer.worth == transfer.worth for missing_transfer in way)}
        here = {way: cost + early for way, cost in self.ways.items() if way not in alike}
        missing = {way | {transfer}: cost for way, cost in self.ways.items()}
        self.crowded = self.crowded or len(here) + len(missing) > WIDTH
        self.ways = missing if self.crowded else here | missing

    def stand(self, move: Decimal) -> None:
        """Accept the figure as it is: no transfer may be missing in it."""
        self.move, self.judged = move, True
        self.back, self.likely = {NOTHING: [(NOTHING, move)]}, [NOTHING]

    def arrive(self, way: Missing, earlier: Missing, step: Decimal, cost: Decimal) -> None:
        """Add a way, which costs `step` more than the `cost` of the earlier way."""
        self.back.setdefault(way, []).append((earlier, step))
        if way not in self.ways or cost + step < self.ways[way]:
            self.ways[way] = cost + step

    def prune(self, largest: Decimal) -> None:
        """Drop the ways that are out of reach, and those that are too many; `largest` is the largest transfer of all.

        The point is crowded if one of the latter costs less than its difference to the best way, because it may be
        true.
        """
        reach = min(self.ways.values()) + REACH * largest
        kept = sorted(
            (way for way, cost in self.ways.items() if cost <= reach), key=lambda way: (self.ways[way], len(way))
        )
        best = kept[0]
        self.crowded = self.crowded or any(
            self.ways[way] - self.ways[best] < abs(_sum(way) - _sum(best)) for way in kept[WIDTH:]
        )
        self.ways = {way: self.ways[way] for way in kept[:WIDTH]}

    def judge(self, best: Missing, ahead: Mapping[Missing, Decimal], least: Decimal, usual: Decimal) -> bool:
        """Find the likely ways; return whether others were likely before. `usual` is a common move of the market."""
        before, self.likely, sum_ = self.likely, [best], _sum(best)
        for way, cost in ahead.items():
            if way != best:
                dearer, other = self.ways[way] + cost - least, abs(_sum(way) - sum_)
                if dearer <= other * LIKELY or dearer < other * (1 - CLEAN) - usual * USUAL * len(way ^ best):
                    self.likely.append(way)
        return bool(before) and self.likely != before


class EquityCourse:
    """Hold the last figures of one account, with the transfers that they may contain.

    The cost of an explanation is the sum of the market moves, up and down, that no transfer accounts for. The cheapest
    explanation is the best one. Another is likely too if it costs little more for its difference to a figure: then both
    readings count.

    The search goes from figure to figure, and keeps the cheapest ways to each set of missing transfers. Figures that
    are looked at are `APART_NS` apart or more, besides the last one. From each of `WIDTH` ways, `STEPS` steps in all
    are tried.
    """

    def __init__(self) -> None:
        self.transfers: list[Transfer] = []  # in the order of their reports
        self.changed = False  # readings may have changed since `take_changed`
        self._points: list[EquityPoint] = []

    @property
    def asked_ns(self) -> int:
        """The time at which the last figure was requested."""
        return self._points[-1].asked_ns if self._points else 0

    def likely(self, asked_ns: int) -> Sequence[Missing]:
        """Return the sets of transfers that may be missing in the figure requested at `asked_ns`; (): it is forgotten.

        For a figure between two that are looked at, return the least and the most that may be missing.
        """
        n = bisect_left(self._points, asked_ns, key=lambda point: point.asked_ns)
        if n == len(self._points) or (n == 0 and self._points[0].asked_ns != asked_ns):
            return ()
        point = self._points[n]
        if point.asked_ns == asked_ns:
            return point.likely
        before = self._points[n - 1].likely
        if not point.begun and before == point.likely:
            return before
        ways = {*(way | point.begun for way in before), *point.likely}
        sure, some = NOTHING.union(*ways).intersection(*ways), NOTHING.union(*ways)
        return [
            sure.union(transfer for transfer in some if (transfer.worth > 0) == is_deposit)
            for is_deposit in (False, True)
        ]

    def transfers_around(self, asked_ns: int) -> tuple[Sequence[Transfer], Sequence[Transfer]]:
        """Return the transfers that a figure requested at `asked_ns` may contain, and those it does not contain.

        The time of their reports alone decides, as in `Transfer.is_in`.
        """
        first = bisect_right(self.transfers, asked_ns - SETTLE_NS, key=_reported_ns)
        end = bisect_left(self.transfers, asked_ns + SETTLE_NS, key=_reported_ns)
        return self.transfers[first:end], self.transfers[end:]

    def add_transfer(self, transfer: Transfer) -> None:
        """Add a transfer that the venue reports; figures that have come already may contain it."""
        close = (
            other
            for other in self.transfers
            if other.sought and abs(other.reported_ns - transfer.reported_ns) < 2 * SETTLE_NS
        )
        transfer.sought = sum(1 for _ in close) < SOUGHT
        self.transfers.append(transfer)
        self.transfers.sort(key=_reported_ns)
        first = self._first(transfer)
        if first == 0:
            self._points[0].doubt(transfer)
        if first is not None:
            self._explain(first)

    def add_figure(self, asked_ns: int, worth: Decimal) -> None:
        """Add the next figure."""
        points = self._points
        if asked_ns <= self.asked_ns:
            return
        last = points.pop() if len(points) > 1 and points[-1].asked_ns - points[-2].asked_ns < APART_NS else None
        points.append(EquityPoint(asked_ns, worth))
        if len(points) == 1:
            for transfer in self.transfers:
                points[0].doubt(transfer)
        while len(points) > 2 and asked_ns - points[1].asked_ns > FIGURES_KEPT_NS:
            del points[0]
        if self.transfers:
            self._explain(len(points) - 1)
        else:
            points[-1].stand(abs(worth - points[-2].worth) if len(points) > 1 else ZERO)
        if last is not None:  # the figure before is between two others now
            self.changed |= bool(points[-1].begun) or not points[-2].likely == last.likely == points[-1].likely

    def forget_transfers(self, transfers: Collection[Transfer]) -> None:
        """Continue as if these had never been reported."""
        firsts = [first for first in map(self._first, transfers) if first is not None]
        self.transfers = [transfer for transfer in self.transfers if transfer not in transfers]
        if firsts:
            self._points[0].ways = {way.difference(transfers): cost for way, cost in self._points[0].ways.items()}
            self._explain(min(firsts))

    def has_looked_for(self, transfer: Transfer) -> bool:
        """Return whether a transfer would have been found.

        It would if all figures around its report are known, and none is crowded.
        """
        around = [point for point in self._points if transfer.is_in(point.asked_ns) is None]
        known = bool(around) and around[0].asked_ns - transfer.reported_ns < APART_NS
        return transfer.sought and known and not any(point.crowded for point in around)

    def _first(self, transfer: Transfer) -> int | None:
        """Return the index of the first figure that may contain a transfer, if there is one."""
        n = bisect_right(self._points, transfer.reported_ns - SETTLE_NS, key=lambda point: point.asked_ns)
        return n if n < len(self._points) else None

    @property
    def _usual(self) -> Decimal:
        """How far the market commonly moves between two figures."""
        moves = sorted(point.move for point in self._points[-RECENT - 1 : -1])
        return moves[(len(moves) - 1) // 2] if moves else ZERO

    # ── the search ────────────────────────────────────────────────────────────────────────────────────────────────

    def _explain(self, first: int) -> None:
        """Search again from a figure on, because it is new or more is known of transfers."""
        transfers = [transfer for transfer in self.transfers if transfer.sought]
        others = [transfer for transfer in self.transfers if not transfer.sought]
        for n in range(max(1, first), len(self._points)):
            self._enter(n, transfers)
            point = self._points[n]
            point.crowded = point.crowded or any(transfer.is_in(point.asked_ns) is None for transfer in others)
        for point in self._points[first:]:
            point.judged = False
        self._judge()

    def _enter(self, n: int, transfers: Sequence[Transfer]) -> None:
        """Find the ways to a figure from those to the figure before it."""
        before, point = self._points[n - 1], self._points[n]
        point.begun = frozenset(transfers[_begun(transfers, before.asked_ns) : _begun(transfers, point.asked_ns)])
        over = frozenset(transfers[: bisect_right(transfers, point.asked_ns - SETTLE_NS, key=_reported_ns)])
        wanted = {way: way | point.begun for way in before.ways}
        doubtful = NOTHING.union(*wanted.values())
        near = sorted(
            (transfer for transfer in transfers if transfer in doubtful),
            key=lambda transfer: abs(transfer.reported_ns - point.asked_ns),
        )
        often = Counter(transfer.worth for transfer in near)
        worths = sorted(islice(often, LOOKED_AT))
        sums = _sums(tuple((worth, _rounded_count(often[worth])) for worth in worths))
        change, fits, steps = point.worth - before.worth, dict[Missing, list[Fit]](), list[Iterable[Step]]()
        point.ways, point.back, point.crowded = {}, {}, len(often) > LOOKED_AT
        for way, missing in wanted.items():
            forced = missing & over
            left_over = change - _sum(forced)
            point.arrive(missing - forced, way, abs(left_over), before.ways[way])  # nothing else has entered
            if forced not in fits:
                fits[forced] = _fits(left_over, worths, sums)
            steps.append(_steps(way, before.ways[way], fits[forced]))
        alike: dict[Missing, Mapping[Decimal, Sequence[Transfer]]] = {}
        for _, left_over, way, fit in islice(merge(*steps, key=itemgetter(0)), STEPS):
            left = wanted[way] - over
            if left not in alike:
                alike[left] = _alike(left, near)
            entered = _earliest(alike[left], fit)
            if entered is not None:
                point.arrive(left - entered, way, left_over, before.ways[way])
        point.prune(max(map(abs, often), default=ZERO))

    def _judge(self) -> None:
        """Go back from the last figure: find the likely ways, and the figure that shows each transfer first.

        Stop at a figure that all ways go through, if it was judged before.
        """
        n = len(self._points) - 1
        point = self._points[n]
        best = min(point.ways, key=lambda way: (point.ways[way], len(way)))
        least = point.ways[best]
        ahead = dict.fromkeys(point.ways, ZERO)  # → the least cost from there to the last figure
        shown: dict[Transfer, int] = {}
        usual, last_ns = self._usual, point.asked_ns
        while True:
            self.changed |= point.judge(best, ahead, least, usual)
            if n == 0 or (point.judged and len(point.ways) == 1):
                break
            before = self._points[n - 1]
            last, _ = min(point.back[best], key=lambda step: before.ways[step[0]] + step[1])
            entered = last.union(point.begun) - best
            left_over = point.worth - before.worth - _sum(entered)
            point.move = abs(left_over)
            least_of = min((abs(transfer.worth) for transfer in entered), default=ZERO)
            clean = not entered or point.move <= CLEAN * least_of + USUAL * usual
            if (clean or last_ns - point.asked_ns > SETTLE_NS) and not point.crowded:
                shown |= {t: point.asked_ns for t in entered if abs(left_over) < abs(left_over + t.worth)}
                point.judged = True
            behind: dict[Missing, Decimal] = {}
            for way, cost in ahead.items():
                for earlier, step in point.back[way]:
                    if earlier not in behind or cost + step < behind[earlier]:
                        behind[earlier] = cost + step
            n, point, best, ahead = n - 1, before, last, behind
        for transfer in self.transfers:
            if transfer in shown or transfer in best or transfer.reported_ns - SETTLE_NS >= point.asked_ns:
                self.changed |= transfer.shown_ns != shown.get(transfer)
                transfer.shown_ns = shown.get(transfer)


def _reported_ns(transfer: Transfer) -> int:
    return transfer.reported_ns


def _begun(transfers: Sequence[Transfer], asked_ns: int) -> int:
    """Return how many of these transfers a figure requested before `asked_ns` may contain."""
    return bisect_left(transfers, asked_ns + SETTLE_NS, key=_reported_ns)


def _rounded_count(count: int) -> int:
    """Return `count` or a little more, so that sums are computed more rarely."""
    return next((most for most in (1, TOGETHER, ALIKE) if count <= most), ALIKE)


def _fits(change: Decimal, worths: Sequence[Decimal], sums: Sequence[Sum]) -> list[Fit]:
    """Return the sums that fit to a change, and how much each leaves of it, the least first."""
    off = NEAR * max(map(abs, worths), default=ZERO)
    first = bisect_left(sums, change - off, key=itemgetter(0))
    last = bisect_right(sums, change + off, key=itemgetter(0))
    fits = [(abs(change - total), some) for total, most, some in sums[first:last] if abs(change - total) <= most]
    return sorted(fits, key=itemgetter(0))


def _steps(way: Missing, cost: Decimal, fits: Iterable[Fit]) -> Iterator[Step]:
    """Yield the steps that continue a way, with the cost of the whole and of the step."""
    return ((cost + left_over, left_over, way, fit) for left_over, fit in fits)


@lru_cache(maxsize=64)
def _sums(often: tuple[tuple[Decimal, int], ...]) -> list[Sum]:
    """Return the sums of worths that may enter together, in order; `often` is the number of transfers of each worth."""
    some = [
        combination
        for count in range(1, TOGETHER + 1)
        for combination in combinations_with_replacement(dict(often), count)
    ]
    some = [combination for combination in some if all(combination.count(worth) <= most for worth, most in often)]
    some += [(worth,) * count for worth, most in often for count in range(TOGETHER + 1, most + 1)]
    sums = [(sum(combination, ZERO), NEAR * min(map(abs, combination)), combination) for combination in some]
    return sorted(sums, key=itemgetter(0))


def _alike(missing: Missing, near: Iterable[Transfer]) -> Mapping[Decimal, Sequence[Transfer]]:
    """Return those of these transfers that are missing, by their worth, the earliest first."""
    by_worth: dict[Decimal, list[Transfer]] = {}
    for transfer in sorted((transfer for transfer in near if transfer in missing), key=_reported_ns):
        by_worth.setdefault(transfer.worth, []).append(transfer)
    return by_worth


def _earliest(alike: Mapping[Decimal, Sequence[Transfer]], worths: Sequence[Decimal]) -> Missing | None:
    """Return transfers of these worths, the earliest first where several are alike; None: there are too few."""
    try:
        return frozenset(alike[worth][worths[:n].count(worth)] for n, worth in enumerate(worths))
    except LookupError:
        return None


@lru_cache(maxsize=1024)
def _sum(transfers: Missing) -> Decimal:
    return sum((transfer.worth for transfer in transfers), ZERO)
