"""A strategy reports its equity, at times none or a wrong one: a pnl trigger fires once it is not above its floor."""

from __future__ import annotations

from kill_switch.triggers.pnl.trigger import PnlTrigger
from tests.deterministic.year.model import DAY, HOUR, LATE_S, MINUTE, STEP_S, Due, Model, Since

FLOOR, CONFIRM = 10_000.0, 2


class Floors(Model):
    NAME = "reported-floor"
    ACCOUNTS = ("floor",)
    TOML = (
        'kind = "pnl"\nsource = "intake"\ncurrency = "USD"\nfloor = "10000"\nconfirm = 2\nstale_after = "300s"\n'
        'on_blind = "alarm"\nreset = "17:00 America/New_York"\n'
    )

    _low = False
    _wrong_s = 0.0  # when it last said something wrong
    _silent_until_s = 0.0
    _beneath: Since | None = None  # since when it has been told so

    def play(self) -> None:
        now_s = self.world.now_s
        if self.happens(8 * HOUR):
            self._silent_until_s = now_s + self.random.uniform(0, self.random.choice((MINUTE, HOUR, 5 * HOUR)))
        if not self.tripped and self.happens(2 * DAY):
            self._low = True
        if not self.world.up or now_s < self._silent_until_s:
            self._beneath = None
            return
        once = self.happens(6 * HOUR) and now_s > self._wrong_s + 5 * CONFIRM * STEP_S
        self._wrong_s = now_s if once else self._wrong_s
        equity = self.random.uniform(0, FLOOR) if self._low or once else self.random.uniform(FLOOR + 1, 2 * FLOOR)
        trigger = self.world.watch.triggers[self.NAME]
        assert isinstance(trigger, PnlTrigger)
        told = trigger.on_external_equity(f"{equity:.2f}", self.world.loop.now().wall_ns / 1e9)
        if self._low and told and self._beneath is None:
            self._beneath = Since(self.world)

    def due(self) -> Due:
        if not self._low:
            return Due.NO
        return Due.MAY if self._beneath is None else max(Due.MAY, self._beneath.due(CONFIRM * STEP_S + LATE_S))

    def booted(self) -> None:
        self._beneath = None

    def clock_set(self, seconds: float) -> None:
        self._beneath = None  # a figure or two may be out of order

    def mend(self) -> None:
        self._low, self._beneath, self._silent_until_s = False, None, 0.0
