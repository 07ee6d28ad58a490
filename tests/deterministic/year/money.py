"""Two accounts gain and lose, are read badly or not at all, and are paid into: a pnl trigger fires for true losses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from kill_switch.venues.messages import Equity, Transferred
from tests.deterministic.year.model import DAY, HOUR, LATE_S, MINUTE, Due, Model, Since

NOISE = 5.0  # of one account's figure
MARGIN = 6 * NOISE
MAX_LOSS, MAX_DRAWDOWN, CONFIRM = 1000.0, 1500.0, 2
EVERY_S = 30.0  # between two figures
SETTLING = 12  # figures; a baseline stands by then, whatever has begun it
RESET_HOUR, ZONE = 17, ZoneInfo("America/New_York")


@dataclass
class Base:
    """What the day may be measured against."""

    equity: float
    peak: float

    def due(self, equity: float) -> Due:
        """Say whether equity of so much has reached a limit."""
        beyond = max(self.equity - equity - MAX_LOSS, self.peak - equity - MAX_DRAWDOWN)
        return Due.MUST if beyond > MARGIN else Due.MAY if beyond > -MARGIN else Due.NO


class Money(Model):
    NAME = "daily-loss"
    ACCOUNTS = ("money", "more")
    TOML = (
        'kind = "pnl"\ncurrency = "OX"\nmax_loss = "1000"\nmax_drawdown = "1500"\nreset = "17:00 America/New_York"\n'
        'stale_after = "300s"\non_blind = "alarm"\nwarn_at = [50, 90]\n'
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._equity = [50_000.0, 30_000.0]
        self._bases = [Base(self._total, self._total)]
        self._settling = SETTLING  # figures until nothing is in doubt: a baseline is being taken, and nothing is lost
        self._drift = 0.0
        self._unread_until_s = 0.0
        self._next_s = 0.0
        self._reset_s: float | None = None  # wall time of the next reset
        self._unclear_until_s = 0.0  # what a reset does is not clear: nobody was there, or the clock was wrong
        self._beyond: Since | None = None  # since when figures show it
        self._figured = False
        self._right = 0  # figures since the last one that was wrong: `confirm` of those in a row are a reason

    @property
    def _total(self) -> float:
        return sum(self._equity)

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────

    def play(self) -> None:
        now_s, calm = self.world.now_s, self._settling > 0
        if not calm and not self.tripped:
            self._trade()
        if now_s >= self._unread_until_s and self.happens(6 * HOUR):
            longest = self.random.choice((60.0, 3 * MINUTE, HOUR, 5 * HOUR))
            self._unread_until_s = now_s + self.random.uniform(0, longest)
        self._figured = False
        if now_s < max(self._next_s, self._unread_until_s) or not self.world.connected:
            return
        self._next_s = now_s + EVERY_S
        if not calm and self.happens(12 * HOUR):
            self._transfer()
        self._figured = True
        self._settling -= self._settling > 0
        wrong = self.random.randrange(2) if self.random.random() < 0.002 and self._right >= 5 * CONFIRM else None
        self._right = 0 if wrong is not None else self._right + 1
        for number, account in enumerate(self.ACCOUNTS):
            amount = self._equity[number] + self.random.uniform(-NOISE, NOISE)
            if number == wrong:  # a figure that was never true: one of them is no reason
                amount *= self.random.choice((0.0, 0.5, 2.0))
                self._next_s = now_s
            self.world.watch.on_fact(
                account, Equity({"OX": Decimal(f"{amount:.4f}")}, self.world.loop.now().mono_ns - 1_000_000)
            )

    def _trade(self) -> None:
        """Gain and lose within the limits, and now and then beyond."""
        step = self.random.uniform(-1, 1)
        if abs(self._drift + step) <= 200:
            self._move(step)
        if self.happens(10 * HOUR):  # a swing that stays within both limits, and comes back later
            self._move(self.random.choice((-400.0, 300.0)) - self._drift)
        if self.happens(2 * DAY):
            self._lose(1100.0 + self.random.uniform(0, 2000))
        elif self.happens(4 * DAY):  # profit first: what counts then is the drawdown
            self._equity[0] += 1200.0 - self._drift
            self._drift = 0.0
            self._settling, self._pending = SETTLING, 1800.0
        elif self._pending:
            self._lose(self._pending)

    _pending = 0.0

    def _move(self, amount: float) -> None:
        self._drift += amount
        self._equity[self.random.randrange(2)] += amount

    def _lose(self, amount: float) -> None:
        self._pending = 0.0
        self._equity[self.random.randrange(2)] -= amount + self._drift
        self._drift = 0.0

    def _transfer(self) -> None:
        """Pay in or out, as a venue tells it: its word, and figures that contain it from then on."""
        number, amount = self.random.randrange(2), self.random.choice((-3000.0, -1200.0, 1500.0, 5000.0))
        self._equity[number] += amount
        for base in self._bases:
            base.equity += amount
            base.peak += amount
        self.world.watch.on_fact(self.ACCOUNTS[number], Transferred("OX", Decimal(amount)))
        self._beyond = None

    # ── what is right ─────────────────────────────────────────────────────────────────────────────────────────────

    def due(self) -> Due:
        self._reset()
        total = self._total
        due = {base.due(total) for base in self._bases}
        if self._figured:
            for base in self._bases:
                base.peak = max(base.peak, total)
        if due != {Due.MUST}:
            self._beyond = None
            return Due.NO if due == {Due.NO} else Due.MAY
        if self._figured and self._beyond is None:
            self._beyond = Since(self.world)
        if self._beyond is None or self.world.now_s < self._unread_until_s + LATE_S:
            self._beyond = self._beyond if self.world.now_s >= self._unread_until_s else None
            return Due.MAY
        return self._beyond.due((CONFIRM + 1) * EVERY_S)

    def _reset(self) -> None:
        """Begin a new day when the zone's clocks say so; where nobody was there, the old one may count too."""
        wall_s = self.world.wall().timestamp()
        if self._reset_s is None:
            self._reset_s = self._next_reset()
        if wall_s < self._reset_s:
            return
        self._reset_s = self._next_reset()
        self._drift = 0.0
        self._settling = SETTLING
        clear = self.world.now_s >= self._unclear_until_s and self.world.now_s >= self._unread_until_s
        new = Base(self._total, self._total)
        self._bases = [new] if clear and not self.tripped else [*self._bases[-3:], new]

    def _next_reset(self) -> float:
        there = self.world.wall().astimezone(ZONE)
        at = there.replace(hour=RESET_HOUR, minute=0, second=0, microsecond=0)
        return (at if at > there else at + timedelta(days=1)).timestamp()

    def _doubt(self, seconds: float) -> None:
        """Let the present equity count as a baseline too: a day may have begun anew."""
        self._bases = [*self._bases[-3:], Base(self._total, self._total)]
        self._unclear_until_s = self.world.now_s + seconds
        self._settling = SETTLING

    def booted(self) -> None:
        self._beyond = None
        self._settling = SETTLING

    def stood_still(self, seconds: float) -> None:
        self._beyond = None
        if seconds > 60:
            self._doubt(0.0)

    def clock_set(self, seconds: float) -> None:
        self._beyond = None
        self._doubt(3 * DAY if abs(seconds) > 12 * HOUR else HOUR)
        self._reset_s = None

    def rearmed(self) -> None:
        self._beyond, self._drift, self._pending = None, 0.0, 0.0
        self._bases = [Base(self._total, self._total)]
        self._settling = SETTLING

    def mend(self) -> None:
        self._unread_until_s = 0.0
