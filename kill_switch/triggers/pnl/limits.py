"""The limits of a pnl trigger, and whether equity reaches them. Pure; `day` applies them to samples."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from kill_switch.triggers.pnl.baseline import TradingDay

SHIFTED_BY_TRANSFERS = ("max_loss", "max_drawdown")  # a transfer may hide a loss from these limits; not from the floor


class PnlLimits(NamedTuple):
    """How far equity may fall, in the trigger's currency; None: no such limit."""

    max_loss: Decimal | None
    max_drawdown: Decimal | None
    floor: Decimal | None

    def is_reached(self, name: str, days: Iterable[TradingDay], equity: Decimal, worth: Decimal) -> bool:
        """Return whether the limit `name` is reached on any of the days.

        `equity` is what the venues report: the floor applies to it, and no transfer shifts it. `worth` is the same
        equity with the transfers that it does not contain yet.
        """
        match name:
            case "floor":
                return self.floor is not None and equity <= self.floor
            case "max_loss":
                most = self.max_loss
                return most is not None and any(day.baseline - worth >= most for day in days)
            case _:
                most = self.max_drawdown
                return most is not None and any(day.peak - worth >= most for day in days)

    def falls(self, day: TradingDay, worth: Decimal) -> dict[str, tuple[Decimal, Decimal]]:
        """Return, by limit, how far equity has fallen on a day and how far it may fall.

        The fall to the floor is measured from the baseline.
        """
        falls = {}
        if self.max_loss is not None:
            falls["max_loss"] = (day.baseline - worth, self.max_loss)
        if self.max_drawdown is not None:
            falls["max_drawdown"] = (day.peak - worth, self.max_drawdown)
        if self.floor is not None and day.baseline > self.floor:
            falls["floor"] = (day.baseline - worth, day.baseline - self.floor)
        return falls
