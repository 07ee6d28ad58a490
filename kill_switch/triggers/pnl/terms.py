"""The settings of a pnl trigger, from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from kill_switch.triggers.pnl.baseline import ResetTime
from kill_switch.triggers.pnl.limits import PnlLimits


class PnlTerms(NamedTuple):
    """The settings of one pnl trigger, without its name and accounts."""

    currency: str
    rates: Mapping[str, Decimal]  # other currency → worth of one unit of it, in `currency`
    limits: PnlLimits
    confirm: int  # samples in a row that reach a limit
    stale_after_s: float
    warn_at: tuple[int, ...]  # per cents of a limit
    reset: ResetTime
    from_accounts: bool  # figures come from the venues; else from the intake
    window_s: float  # seconds; the figures of one sample are no further apart
