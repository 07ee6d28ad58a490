"""Find out which figures of an account contain which of its transfers. `transfers` asks; pure, like it.

The word of a transfer and the figures that contain it come in either order, up to `SETTLE_NS` apart. An *explanation*
says at which figure each transfer has entered. It costs what it leaves to the market: the sum of the moves, up and
down, that no transfer accounts for. The cheapest explanation is the best one. Another one is likely too, if it costs
little more for the difference that it makes to a figure: then nobody can tell the two apart, and both readings count.

The search goes forward from figure to figure, and keeps the cheapest ways to each set of transfers that are missing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from itertools import combinations_with_replacement

SETTLE_NS = 60_000_000_000  # nanoseconds; figures and word of a transfer are no further apart than that
KEPT_NS = 3 * SETTLE_NS  # nanoseconds; figures that are looked through
FIGURES, RECENT = 200, 40  # of an account: that are looked through, and that say what a common move is
CLEAN, USUAL = Decimal("0.02"), 6  # a step is clean if it is off by that part of the transfer and so many common moves
LIKELY = Decimal("0.34")  # part of the difference it makes to a figure that a likely explanation may cost
NEAR = Decimal("0.5")  # part of the least transfer that a step may be off: a worse one contains something else
REACH, WIDTH = 2, 32  # ways that cost more than so many times the largest transfer, or are more, are dropped
LOOKED_AT, TOGETHER = 10, 4  # amounts that are looked for in a step, those told nearest to it; so many enter together
ZERO = Decimal(0)


@dataclass(slots=True, eq=False)
class Transfer:
    """What a venue has told of: more than nothing is a deposit, less a withdrawal; in the trigger's currency."""

    account: str
    worth: Decimal
    told_ns: int  # monotonic
    shown_ns: int | None = None  # when the first figure was asked for that contains it; None: in none so far

    def is_in(self, asked_ns: int) -> bool | None:
        """Tell whether a figure that was asked for then contains it, by its word alone; None: nobody can tell."""
        return None if abs(asked_ns - self.told_ns) < SETTLE_NS else asked_ns > self.told_ns


Missing = frozenset[Transfer]  # transfers that a figure may contain, and does not
NOTHING: Missing = frozenset()


@dataclass(slots=True, eq=False)
class Point:
    """A figure, and what may be missing in it."""

    asked_ns: int
    worth: Decimal
    ways: dict[Missing, Decimal] = field(default_factory=lambda: {NOTHING: ZERO})  # → the least cost to get there
    back: dict[Missing, list[tuple[Missing, Decimal]]] = field(default_factory=dict)  # → from where, at which cost
    likely: list[Missing] = field(default_factory=lambda: [NOTHING])
    crowded: bool = False  # there are more explanations than are looked at
    judged: bool = False
    move: Decimal = ZERO  # of the market, as the best explanation has it

    def doubt(self, transfer: Transfer) -> None:
        """Take a transfer for missing, or not: no figure before this one is known.

        That a figure contains what is told only later costs as much as a move of the market that hides it.
        """
        if transfer.is_in(self.asked_ns) is not None:
            return
        early = abs(transfer.worth) if transfer.told_ns > self.asked_ns else ZERO
        alike = {way for way in self.ways if any(one.worth == transfer.worth for one in way)}
        here = {way: cost + early for way, cost in self.ways.items() if way not in alike}
        missing = {way | {transfer}: cost for way, cost in self.ways.items()}
        self.crowded = self.crowded or len(here) + len(missing) > WIDTH
        self.ways = missing if self.crowded else here | missing

    def stand(self, move: Decimal) -> None:
        """Take the figure as it is: there is no transfer that it may lack."""
        self.move, self.judged = move, True
        self.back = {NOTHING: [(NOTHING, move)]}

    def arrive(self, way: Missing, earlier: Missing, step: Decimal, cost: Decimal) -> None:
        """Take note of a way to get here, for `step` more than the `cost` of the earlier one."""
        self.back.setdefault(way, []).append((earlier, step))
        if way not in self.ways or cost + step < self.ways[way]:
            self.ways[way] = cost + step

    def prune(self, largest: Decimal) -> None:
        """Drop the ways that are out of reach: `largest` is the largest transfer that was looked at."""
        reach = min(self.ways.values()) + REACH * largest
        kept = sorted(
            (way for way, cost in self.ways.items() if cost <= reach), key=lambda way: (self.ways[way], len(way))
        )
        self.crowded = self.crowded or len(kept) > WIDTH
        self.ways = {way: self.ways[way] for way in kept[:WIDTH]}

    def judge(self, best: Missing, ahead: Mapping[Missing, Decimal], least: Decimal, usual: Decimal) -> bool:
        """Find the ways that are likely; tell whether others were before. `usual` is a common move of the market."""
        before, self.likely, sum_ = self.likely, [best], _sum(best)
        for way, cost in ahead.items():
            if way != best:
                dearer, other = self.ways[way] + cost - least, abs(_sum(way) - sum_)
                if dearer <= other * LIKELY or dearer < other * (1 - CLEAN) - usual * USUAL * len(way ^ best):
                    self.likely.append(way)
        return self.likely != before


class Course:
    """The last figures of one account, with the transfers that they may contain."""

    def __init__(self) -> None:
        self.transfers: list[Transfer] = []  # in the order of their words
        self.changed = False  # other figures are in doubt than before
        self._points: list[Point] = []

    @property
    def asked_ns(self) -> int:
        """When the last figure was asked for."""
        return self._points[-1].asked_ns if self._points else 0

    def at(self, asked_ns: int) -> Point | None:
        """Return the figure that was asked for then, if it is still known."""
        n = bisect_left(self._points, asked_ns, key=lambda point: point.asked_ns)
        return self._points[n] if n < len(self._points) and self._points[n].asked_ns == asked_ns else None

    def tell(self, transfer: Transfer) -> None:
        """Take a venue's word; figures that have come already may contain it."""
        self.transfers.append(transfer)
        self.transfers.sort(key=lambda one: one.told_ns)
        first = next((n for n, p in enumerate(self._points) if p.asked_ns > transfer.told_ns - SETTLE_NS), None)
        if first == 0:
            self._points[0].doubt(transfer)
        if first is not None:
            self._explain(first)

    def follow(self, asked_ns: int, worth: Decimal) -> None:
        """Take the next figure."""
        if asked_ns <= self.asked_ns:
            return
        last = self._points[-1].worth if self._points else worth
        self._points.append(Point(asked_ns, worth))
        if len(self._points) == 1:
            for one in self.transfers:
                self._points[0].doubt(one)
        while len(self._points) > FIGURES or (len(self._points) > 2 and asked_ns - self._points[1].asked_ns > KEPT_NS):
            del self._points[0]
        if self.transfers:
            self._explain(len(self._points) - 1)
        else:
            self._points[-1].stand(abs(worth - last))

    def forget(self, transfers: Collection[Transfer]) -> None:
        """Go on as if these had never been told."""
        self.transfers = [one for one in self.transfers if one not in transfers]
        if self._points:
            self._points[0].ways = {way.difference(transfers): cost for way, cost in self._points[0].ways.items()}
            self._explain(0)

    @property
    def _usual(self) -> Decimal:
        """Return how far the market commonly moves between two figures."""
        moves = sorted(point.move for point in self._points[-RECENT - 1 : -1])
        return moves[(len(moves) - 1) // 2] if moves else ZERO

    # ── the search ────────────────────────────────────────────────────────────────────────────────────────────────

    def _explain(self, first: int) -> None:
        """Search again from a figure on: it is new, or more is known of transfers."""
        for n in range(max(1, first), len(self._points)):
            self._enter(n)
        for point in self._points[first:]:
            point.judged = False
        self._judge()

    def _begun(self, n: int) -> list[Transfer]:
        """Return the transfers that a figure may contain, and no figure before it."""
        before_ns, asked_ns = self._points[n - 1].asked_ns, self._points[n].asked_ns
        return [one for one in self.transfers if before_ns <= one.told_ns - SETTLE_NS < asked_ns]

    def _enter(self, n: int) -> None:
        """Find the ways to what may be missing in a figure, from those to the figure before it."""
        before, point, begun = self._points[n - 1], self._points[n], self._begun(n)
        change, fits = point.worth - before.worth, dict[Missing, list[tuple[Sequence[Decimal], Decimal]]]()
        wanted = {way: way.union(begun) for way in before.ways}
        near = sorted(frozenset().union(*wanted.values()), key=lambda one: abs(one.told_ns - point.asked_ns))
        worths = list(dict.fromkeys(one.worth for one in near))
        point.crowded = len(worths) > LOOKED_AT
        point.ways, point.back = {}, {}
        for way, missing in wanted.items():
            forced = frozenset(one for one in missing if one.is_in(point.asked_ns))
            if forced not in fits:
                fits[forced] = _fits(change - _sum(forced), worths[:LOOKED_AT])
            left = missing - forced
            for fit, left_over in fits[forced]:
                entered = _earliest(left, fit)
                if entered is not None:
                    point.arrive(left - entered, way, left_over, before.ways[way])
        point.prune(max((abs(worth) for worth in worths), default=ZERO))

    def _judge(self) -> None:
        """Go back from the last figure: which ways are likely, and which figure shows each transfer first.

        Where all ways go through one, what was judged before it stands.
        """
        n = len(self._points) - 1
        point = self._points[n]
        best = min(point.ways, key=lambda way: (point.ways[way], len(way)))
        least = point.ways[best]
        ahead = dict.fromkeys(point.ways, ZERO)  # → the least cost from there to the last figure
        found: dict[Transfer, int] = {}
        usual, last_ns = self._usual, point.asked_ns
        while True:
            self.changed |= point.judge(best, ahead, least, usual)
            if n == 0 or (point.judged and len(point.ways) == 1):
                break
            before = self._points[n - 1]
            last, _ = min(point.back[best], key=lambda one: before.ways[one[0]] + one[1])
            entered = last.union(self._begun(n)) - best
            left_over = point.worth - before.worth - _sum(entered)
            point.move = abs(left_over)
            least_of = min((abs(one.worth) for one in entered), default=ZERO)
            clean = not entered or point.move <= CLEAN * least_of + USUAL * usual
            if (clean or last_ns - point.asked_ns > SETTLE_NS) and not point.crowded:
                found |= {one: point.asked_ns for one in entered if abs(left_over) < abs(left_over + one.worth)}
                point.judged = True
            behind: dict[Missing, Decimal] = {}
            for way, cost in ahead.items():
                for earlier, step in point.back[way]:
                    if earlier not in behind or cost + step < behind[earlier]:
                        behind[earlier] = cost + step
            n, point, best, ahead = n - 1, before, last, behind
        for one in self.transfers:
            if one in found or one in best or one.told_ns - SETTLE_NS >= point.asked_ns:
                self.changed |= one.shown_ns != found.get(one)
                one.shown_ns = found.get(one)


def _fits(change: Decimal, worths: Sequence[Decimal]) -> list[tuple[Sequence[Decimal], Decimal]]:
    """Return what transfers of which worths leave of a change: none of them, and those that it fits."""
    found: list[tuple[Sequence[Decimal], Decimal]] = [((), abs(change))]
    off = NEAR * max((abs(worth) for worth in worths), default=ZERO)
    sums = _sums(tuple(sorted(worths)))
    first = bisect_left(sums, change - off, key=lambda one: one[0])
    for total, most, some in sums[first : bisect_right(sums, change + off, key=lambda one: one[0])]:
        if abs(change - total) <= most:
            found.append((some, abs(change - total)))
    return found


@lru_cache(maxsize=64)
def _sums(worths: tuple[Decimal, ...]) -> list[tuple[Decimal, Decimal, Sequence[Decimal]]]:
    """Return the sums of up to `TOGETHER` worths in their order, and by how much a change may be off from each."""
    some = (one for count in range(1, TOGETHER + 1) for one in combinations_with_replacement(worths, count))
    found = [(sum(one, ZERO), NEAR * min(map(abs, one)), one) for one in some]
    return sorted(found, key=lambda one: one[0])


def _earliest(missing: Missing, worths: Sequence[Decimal]) -> Missing | None:
    """Return transfers of these worths, the earliest first where several are alike; None: so many are not missing."""
    if not worths:
        return NOTHING
    entered: list[Transfer] = []
    for worth, count in Counter(worths).items():
        alike = sorted((one for one in missing if one.worth == worth), key=lambda one: one.told_ns)
        if len(alike) < count:
            return None
        entered += alike[:count]
    return frozenset(entered)


def _sum(transfers: Iterable[Transfer]) -> Decimal:
    return sum((one.worth for one in transfers), ZERO)
