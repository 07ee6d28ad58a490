"""Over random histories, limits are reached when a model that knows the market says so, and never else.

The model counts what the market did, and knows no transfer: a limit is passed when `confirm` samples in a row say so.
Its own rules are few: a day has a baseline and a peak, and as long as there is no new baseline the old one counts,
except after a gap of more than an hour. By hand: python -m tests.unit.triggers.test_pnl_model SEEDS
"""

from __future__ import annotations

import random
import sys
from collections import deque
from decimal import Decimal

import pytest

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.baseline import ResetTime, RestoredDay, TradingDay
from kill_switch.triggers.pnl.day import DayTracker
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.samples import AccountValue, Sample

S = 1_000_000_000
EVERY_S = 5
RESET = ResetTime(12, 0, "UTC")
NOON_S = 1_700_049_600 + 3 * 86_400  # a wall time at which a day begins
LATE_S = 60 + 2 * EVERY_S  # so long a transfer hides a loss of as much, before its word or after it
HISTORY_S = 4000


class Market:
    """What was truly lost: one day's limits, in money that no transfer moves."""

    def __init__(self, confirm: int, max_loss: int, max_drawdown: int) -> None:
        self.confirm, self.max_loss, self.max_drawdown = confirm, max_loss, max_drawdown
        self.row: deque[int] = deque(maxlen=confirm)
        self.first: list[int] = []
        self.baseline: int | None = None
        self.peak = 0
        self.due = True

    def sample(self, worth: int, resets: bool, gap_s: float) -> tuple[str, ...]:
        """Return the limits that the samples of now have passed."""
        self.row.append(worth)
        if resets:
            self.due, self.first = True, []
            if gap_s > 3600:
                self.baseline = None
        if self.due:
            self.first.append(worth)
            if len(self.first) == 2 * self.confirm - 1:
                self.baseline = self.peak = sorted(self.first)[self.confirm - 1]
                self.due = False
        if self.baseline is None or len(self.row) < self.confirm:
            return ()
        self.peak = max(self.peak, min(self.row))
        best = max(self.row)
        passed = {
            "max_loss": self.baseline - best >= self.max_loss,
            "max_drawdown": self.peak - best >= self.max_drawdown,
        }
        return tuple(name for name, so in passed.items() if so)


class History:
    """One random history, and what the ledger made of it."""

    def __init__(self, seed: int) -> None:
        chance = self.chance = random.Random(seed)  # noqa: S311 - a history that can be told again
        self.confirm = chance.randint(1, 3)
        max_loss, max_drawdown = chance.randint(20, 120), chance.randint(20, 120)
        self.limits = PnlLimits(Decimal(max_loss), Decimal(max_drawdown), None)
        self.market = Market(self.confirm, max_loss, max_drawdown)
        self.ledger = DayTracker(self.limits, self.confirm, RESET, ())
        self.mono_s, self.wall_s = 10_000.0, NOON_S - chance.uniform(200, HISTORY_S)
        self.worth, self.told, self.shown = 10_000, 0, 0
        self.pending: list[tuple[float, str, int]] = []  # when, "word" or "figures", how much
        self.drift = chance.choice([-1, 0, 0, 0, 1])
        self.calm_until_s = self.mono_s + 150  # no transfer so close to a start, a gap or a reset

    def run(self) -> tuple[int, int]:
        """Return how many false trips there were, and how many that were missed."""
        owed_s: float | None = None
        began_s, seen = self.mono_s, self.wall_s
        date = RESET.date(int(self.wall_s * S))
        while self.mono_s - began_s < HISTORY_S:
            self._happen()
            self.worth += self.chance.randint(-3, 3) + self.drift
            today = RESET.date(int(self.wall_s * S))
            passed = self.market.sample(self.worth, today != date, self.wall_s - seen)
            date, seen = today, self.wall_s
            amount = Decimal(self.worth + self.shown)
            now = Instant(int(self.mono_s * S), int(self.wall_s * S))
            fired = self.ledger.judge(
                Sample({"a": AccountValue({"USD": amount}, amount, now.mono_ns)}, amount, now)
            ).reached
            if fired:
                return (0, 0) if passed else (1, 0)
            owed_s = None if not passed else self.mono_s if owed_s is None else owed_s
            if owed_s is not None and self.mono_s - owed_s > (LATE_S if self.told or self.shown else 0):
                return 0, 1
        return 0, 0

    def _happen(self) -> None:
        """Let time pass until the next sample, and things happen."""
        wait_s: float = EVERY_S
        near_reset = abs(self.wall_s - NOON_S) < 300
        if not self.pending and self.chance.random() < 0.01:
            wait_s = self.chance.choice([31, 300, 3000, 7200])
            self.calm_until_s = self.mono_s + wait_s + 200
        elif not self.pending and self.chance.random() < 0.01:
            self._restart()
            self.calm_until_s = self.mono_s + 200
        elif not self.pending and self.mono_s > self.calm_until_s and not near_reset and self.chance.random() < 0.1:
            self._move()
        self.mono_s += wait_s
        self.wall_s += wait_s
        for at_s, what, amount in [one for one in self.pending if one[0] <= self.mono_s]:
            self.pending.remove((at_s, what, amount))
            if what == "figures":
                self.shown += amount
            else:
                self.told += 1
                self.ledger.on_transfer("a", Decimal(amount), int(at_s * S))
            self.calm_until_s = self.mono_s + 200

    def _move(self) -> None:
        """Deposit or withdraw; no figure shows a withdrawal before its word."""
        amount, apart_s = self.chance.choice([-1, 1]) * self.chance.randint(30, 900), self.chance.randint(0, 50)
        early = amount > 0 and self.chance.random() < 0.5
        word_s = self.mono_s + 1 + (apart_s if early else 0)
        self.pending += [(word_s, "word", amount), (self.mono_s + 1 + (0 if early else apart_s), "figures", amount)]

    def _restart(self) -> None:
        day = self.ledger.day
        if day is None:
            return
        left = RestoredDay(
            TradingDay.from_json(day.to_json()),
            tuple(self.ledger.days.ended),
            int(self.wall_s * S),
            self.ledger.transfers,
        )
        self.ledger = DayTracker(self.limits, self.confirm, RESET, (), left)
        self.market.row.clear()
        if self.market.due:
            self.market.first = []


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_a_limit_is_reached_when_the_market_has_passed_it_and_never_else(part: int) -> None:
    assert [seed for seed in range(100 * part, 100 * part + 100) if any(History(seed).run())] == []


if __name__ == "__main__":
    found = [(seed, History(seed).run()) for seed in range(int(sys.argv[1]))]
    print(f"{len(found)} histories, {sum(f for _, (f, _) in found)} false, {sum(m for _, (_, m) in found)} missed")
    print([one for one in found if any(one[1])][:10])
