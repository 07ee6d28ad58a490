"""Check figures that come from outside, over the intake, and add them to the samples. The pnl trigger uses it."""

from __future__ import annotations

import math

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.samples import FUTURE_S, INTAKE, SampleCollector, parse_equity


class ExternalFeed:
    """Hold the time of the last figure, by its sender's clock."""

    def __init__(self, samples: SampleCollector, currency: str, stale_after_s: float) -> None:
        """Add accepted figures to `samples`, in `currency`."""
        self._samples = samples
        self._currency = currency
        self._stale_after_s = stale_after_s
        self._at_s = 0.0

    def on_figure(self, equity: object, at: object, now: Instant) -> bool:
        """Add a figure with its time (seconds since 1970); return False, and count it, if it is ignored."""
        samples = self._samples
        amount = parse_equity(equity)
        if amount is None:
            return samples.count_ignored('"equity" is no plain decimal number')
        if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
            return samples.count_ignored('"at" is no time')
        now_s = now.wall_ns / 1e9
        if self._at_s > now_s + FUTURE_S:  # this host's clock was set back
            self._at_s = 0.0
        if at > now_s + FUTURE_S:
            return samples.count_ignored("from the future")
        if at <= self._at_s:
            return samples.count_ignored("not newer than the one before")
        age_s = max(0.0, now_s - at)
        if age_s > self._stale_after_s:
            return samples.count_ignored("too old")
        self._at_s = float(at)
        asked_ns = now.mono_ns - int(age_s * 1e9)
        last = samples.last[INTAKE]
        if last is not None:  # the two clocks do not run at quite the same rate
            asked_ns = max(asked_ns, last.asked_ns + 1)
        return samples.add(INTAKE, {self._currency: amount}, min(asked_ns, now.mono_ns), now.mono_ns)
