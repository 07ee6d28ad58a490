"""Tell which figures of an account contain a deposit or a withdrawal that its venue has told of.

The word of a transfer and the figures that contain it may come in either order, up to `SETTLE_NS` apart. So a transfer
is looked for in the figures: the step between two samples that is nearest to its amount contains it. Until it is found,
each figure within that time of its word is in doubt, with two readings; after that time every figure contains it. Pure.

A word that comes a second time shows in no figure: if an equal one is found, it is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, zip_longest
from typing import NamedTuple

from kill_switch.triggers.samples import Round

SETTLE_NS = 60_000_000_000  # nanoseconds; figures and word of a transfer are no further apart than that
NEAR = Decimal("0.33")  # part of an amount: a step that is further off contains something else
MORE = Decimal("0.05")  # so much better several transfers have to explain a step than one does
STEP_KEPT_NS, KEPT_NS = 3 * SETTLE_NS, 5 * SETTLE_NS  # nanoseconds; of steps, and of transfers, which outlast theirs
STEPS = 200  # of an account, that are looked through
LOOKED_AT, TOGETHER = 6, 3  # a step contains so many transfers at most, of so many that are told nearest to it
TWICE_NS = 3600_000_000_000  # nanoseconds; no second word is left out so soon after another: a loss may hide transfers
ZERO = Decimal(0)


@dataclass(slots=True, eq=False)
class Transfer:
    """What a venue has told of: more than nothing is a deposit, less a withdrawal; in the trigger's currency."""

    account: str
    worth: Decimal
    told_ns: int  # monotonic
    shown_ns: int | None = None  # when the first figure was asked for that contains it; None: in none so far
    off: Decimal = ZERO  # by which part the step that contains it does not fit

    def is_in(self, asked_ns: int) -> bool | None:
        """Tell whether a figure that was asked for then contains it; None: nobody can tell."""
        if self.shown_ns is not None:
            return asked_ns >= self.shown_ns
        return None if abs(asked_ns - self.told_ns) < SETTLE_NS else asked_ns > self.told_ns


@dataclass(slots=True)
class _Step:
    """How an account's worth has changed between two samples."""

    began_ns: int  # when the first figure was asked for
    asked_ns: int  # when the second one was
    change: Decimal

    def may_contain(self, transfer: Transfer) -> bool:
        return self.began_ns - SETTLE_NS <= transfer.told_ns <= self.asked_ns + SETTLE_NS


class _Fit(NamedTuple):
    """Transfers that may be what a step contains."""

    off: Decimal  # which part of their sum is not in the step, or too much in it; several explain anything
    asked_ns: int  # the step's
    told_ns: int  # the first word
    transfers: Sequence[Transfer]


class _Place(NamedTuple):
    """Where a transfer was found."""

    asked_ns: int  # the step's
    off: Decimal


class Readings(NamedTuple):
    """What a sample is worth in money of now: had it contained what it lacks of all the transfers that were told."""

    least: Decimal
    most: Decimal


class Transfers:
    """Keep the transfers that some sample may not contain."""

    def __init__(self, known: Iterable[Transfer] = ()) -> None:
        """`known` are those that an earlier run has left."""
        self._open: list[Transfer] = list(known)
        self._steps: dict[str, deque[_Step]] = {}
        self._last: dict[str, tuple[int, Decimal]] = {}  # account → its last figure
        self._missed: set[str] = set()  # accounts of which figures have lately not shown a transfer
        self._left_out_ns: int | None = None  # when a second word was last left out

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Transfer]:
        return iter(self._open)

    def tell(self, transfer: Transfer) -> None:
        """Take a venue's word; figures that have come already may contain it."""
        self._open.append(transfer)
        self._find(transfer.account)

    def follow(self, sample: Round) -> list[Transfer]:
        """Look for transfers in the next sample; return those that were told twice: they count no more."""
        for account, figure in sample.figures.items():
            began_ns, worth = self._last.get(account, (figure.asked_ns, figure.worth))
            self._last[account] = (figure.asked_ns, figure.worth)
            if figure.asked_ns > began_ns:
                steps = self._steps.setdefault(account, deque(maxlen=STEPS))
                steps.append(_Step(began_ns, figure.asked_ns, figure.worth - worth))
                while figure.asked_ns - steps[0].asked_ns > STEP_KEPT_NS:
                    steps.popleft()
                if any(one.account == account and one.shown_ns is None for one in self._open):
                    self._find(account)
        overdue = [one for one in self._open if one.shown_ns is None and one.is_in(self._asked_ns(one.account))]
        twice = [one for one in overdue if self._is_second(one)]
        if self._left_out_ns is not None and sample.at.mono_ns - self._left_out_ns < TWICE_NS:
            twice = []
        if twice:
            self._left_out_ns = sample.at.mono_ns
        lately = (one for one in overdue if self._asked_ns(one.account) - one.told_ns < 2 * SETTLE_NS)
        self._missed = {one.account for one in lately if one not in twice}
        self._open = [one for one in self._open if one not in twice]
        return twice

    def prune(self, held: Sequence[Round], now_ns: int) -> None:
        """Forget the transfers that all samples contain that are still `held`, and every later one.

        No step that is still known may have contained them: another transfer would be found in it.
        """
        self._open = [
            one
            for one in self._open
            if now_ns - one.told_ns <= KEPT_NS
            or not all(one.account not in r.figures or one.is_in(r.figures[one.account].asked_ns) for r in held)
        ]

    def readings(self, sample: Round) -> Readings:
        """Return the least and the most that a sample may be worth.

        After a transfer of an account that its figures did not show, more of them may not show. Then only the largest
        deposit may still be on its way, and the others count from their word on: else deposits without end would hide
        any loss.
        """
        least = most = sample.worth
        for account, figure in sample.figures.items():
            doubtful: list[Transfer] = []
            for one in self._open:
                if one.account != account or (is_in := one.is_in(figure.asked_ns)):
                    continue
                if is_in is None:
                    doubtful.append(one)
                else:
                    least += one.worth
                    most += one.worth if one.worth > 0 or figure.asked_ns < one.told_ns else ZERO
            least += sum((one.worth for one in doubtful if one.worth < 0), ZERO)
            deposits = [one for one in doubtful if one.worth > 0]
            if account in self._missed and deposits:
                largest = max(deposits, key=lambda one: one.worth)
                deposits = [one for one in deposits if one is largest or figure.asked_ns < one.told_ns]
            most += sum((one.worth for one in deposits), ZERO)
        return Readings(least, most)

    def doubtful(self, sample: Round) -> list[Transfer]:
        """Return the transfers of which nobody can tell whether that sample contains them."""
        return [one for one in self._open if (f := sample.figures.get(one.account)) and one.is_in(f.asked_ns) is None]

    def _find(self, account: str) -> None:
        """Find the account's transfers of the last minutes in its steps: more is known now.

        What was found stays found, unless it is found anew in a way that leaves fewer out, or fits clearly better. Else
        equal transfers, one a minute, would change places until one has no step left.
        """
        latest_ns, steps = self._asked_ns(account), self._steps.get(account, ())
        there = {None, *(step.asked_ns for step in steps)}
        ours = [one for one in self._open if one.account == account]
        lately = [one for one in ours if latest_ns - one.told_ns < 2 * SETTLE_NS and one.shown_ns in there]
        if not lately:
            return
        taken = {one.shown_ns for one in ours if one.shown_ns is not None and one not in lately}
        known = {one: _Place(one.shown_ns, one.off) for one in lately if one.shown_ns is not None}
        found = _placed(steps, lately, known, taken)
        if len(found) < len(lately):
            anew = _placed(steps, lately, {}, taken)
            if len(anew) > len(found) or (len(anew) == len(found) and _off(anew) + MORE < _off(found)):
                found = anew
        for worth in {one.worth for one in lately}:  # equal ones come in the order of their words
            equal = [one for one in lately if one.worth == worth]
            places = sorted(found[one] for one in equal if one in found)
            for one, place in zip_longest(equal, places):
                one.shown_ns, one.off = place or (None, ZERO)

    def _is_second(self, transfer: Transfer) -> bool:
        """Tell whether an equal transfer was told close by, and found."""
        return any(
            one.shown_ns is not None
            and (one.account, one.worth) == (transfer.account, transfer.worth)
            and abs(one.told_ns - transfer.told_ns) <= SETTLE_NS
            for one in self._open
        )

    def _asked_ns(self, account: str) -> int:
        """Return when the last figure of an account was asked for."""
        return self._last[account][0] if account in self._last else 0


def _placed(
    steps: Iterable[_Step], transfers: Sequence[Transfer], known: Mapping[Transfer, _Place], taken: Collection[int]
) -> dict[Transfer, _Place]:
    """Return where transfers are, the best fit first: beside what is `known`, and in no step that is taken."""
    found, full = dict(known), {*taken, *(place.asked_ns for place in known.values())}
    wanted = [one for one in transfers if one not in found]
    fits = [fit for step in steps if step.asked_ns not in full for fit in _fits(step, wanted)]
    for fit in sorted(fits, key=lambda fit: (fit.off, fit.asked_ns, fit.told_ns)):
        if fit.asked_ns not in full and not any(one in found for one in fit.transfers):
            full.add(fit.asked_ns)
            found |= dict.fromkeys(fit.transfers, _Place(fit.asked_ns, fit.off))
    return found


def _off(found: Mapping[Transfer, _Place]) -> Decimal:
    return sum((place.off for place in found.values()), ZERO)


def _fits(step: _Step, transfers: Iterable[Transfer]) -> Iterator[_Fit]:
    """Yield what explains a step better than a move of the market alone."""
    near = sorted((one for one in transfers if step.may_contain(one)), key=lambda one: abs(one.told_ns - step.asked_ns))
    for count in range(1, TOGETHER + 1) if step.change else ():
        for some in combinations(near[:LOOKED_AT], count):
            total = sum((one.worth for one in some), ZERO)
            missing = abs(step.change - total)
            if missing < abs(step.change) and missing <= abs(total) * NEAR:
                off = missing / abs(total) + (count - 1) * MORE
                yield _Fit(off, step.asked_ns, min(one.told_ns for one in some), some)
