"""Over random histories of many transfers close together, `max_loss` and `max_drawdown` trip for true losses alone.

Two to six transfers are told within two minutes, each up to twenty times the limit. Figures show a withdrawal up to
50 s after its word, a deposit up to 50 s before or after. The model knows the market, and no transfer. A trip may come
`LATE_S` behind the loss, and must come by then. By hand: python -m tests.unit.triggers.test_crowded_transfers SEEDS
"""

from __future__ import annotations

import random
import sys
from decimal import Decimal

import pytest

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.day import DayTracker
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.samples import AccountValue, Sample
from tests.unit.triggers.test_pnl_model import EVERY_S, NOON_S, RESET, Market, S

START_S, LENGTH_S = 10_000.0, 1300.0
LATE_S = 125.0  # a minute until figures have shown what was told, another until nothing told can explain them otherwise


class Crowd:
    """One random history, and what the ledger made of it."""

    def __init__(self, seed: int) -> None:
        chance = self.chance = random.Random(seed)  # noqa: S311 - a history that can be told again
        confirm, limit = chance.randint(1, 3), chance.randint(50, 150)
        self.ledger = DayTracker(PnlLimits(Decimal(limit), Decimal(limit), None), confirm, RESET, ())
        self.market = Market(confirm, limit, limit)
        self.worth, self.shown = 10_000, 0
        self.drift, self.noise = chance.choice([-1, 0, 0, 0, 1]), chance.choice([1, 3, 3])
        self.pending: list[tuple[float, str, int]] = []
        for _ in range(chance.randint(1, 4)):
            at_s = START_S + chance.uniform(250, 900)
            for _ in range(chance.randint(2, 6)):
                amount = chance.choice([-1, 1]) * chance.randint(10, 20 * limit)
                word_s, lag_s = at_s + chance.uniform(0, 120), chance.uniform(0, 50)
                figures_s = word_s + lag_s if amount < 0 or chance.random() < 0.5 else word_s - lag_s
                self.pending += [(word_s, "word", amount), (figures_s, "figures", amount)]
        self.pending.sort()

    def run(self) -> str:
        """Return "false" or "missed", or nothing if the ledger was right."""
        now_s, since_s, passed_s = START_S, None, -1e9
        while now_s < START_S + LENGTH_S:
            now_s += EVERY_S
            self._happen(now_s)
            self.worth += self.chance.randint(-self.noise, self.noise) + self.drift
            if self.market.sample(self.worth, False, EVERY_S):
                since_s, passed_s = since_s or now_s, now_s
            else:
                since_s = None
            amount = Decimal(self.worth + self.shown)
            now = Instant(int(now_s * S), int((NOON_S + 100 + now_s - START_S) * S))
            if self.ledger.judge(
                Sample({"a": AccountValue({"USD": amount}, amount, now.mono_ns)}, amount, now)
            ).reached:
                return "" if now_s - passed_s <= LATE_S else "false"
            if since_s is not None and now_s - since_s > LATE_S:
                return "missed"
        return ""

    def _happen(self, now_s: float) -> None:
        while self.pending and self.pending[0][0] <= now_s:
            at_s, what, amount = self.pending.pop(0)
            if what == "figures":
                self.shown += amount
            else:
                self.ledger.on_transfer("a", Decimal(amount), int(at_s * S))


@pytest.mark.long
@pytest.mark.timeout(120)  # two seconds on a machine that has nothing else to do
def test_many_transfers_close_together_neither_trip_nor_hide_a_loss_for_ever() -> None:
    assert [(seed, wrong) for seed in range(48) if (wrong := Crowd(seed).run())] == []


if __name__ == "__main__":
    found = [(seed, wrong) for seed in range(int(sys.argv[1])) if (wrong := Crowd(seed).run())]
    print(f"{len(found)} wrong: {found[:20]}")
