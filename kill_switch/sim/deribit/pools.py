"""Deribit's rate pools: credits, the trade's, and that of cancel_all (docs/venues/deribit.md §7)."""

from __future__ import annotations

import time
from typing import NamedTuple

from kill_switch.sim.kit.limits import DecayingCounter

TIERS = {"T1": (100, 30), "T2": (50, 20), "T3": (30, 10), "T4": (20, 5), "unlimited": (0, 0)}  # burst, per second


class Pool(NamedTuple):
    """A pool: the cost of a call, the burst, the refill per second."""

    cost: float
    burst: float
    per_s: float


_POOLS = {
    "cancel_all": Pool(1, 250, 200), "credits": Pool(500, 50_000, 10_000), "subscribe": Pool(3_000, 30_000, 10_000),
    "instruments": Pool(1, 50, 1),
}  # fmt: skip


class Pools:
    """The pools of each account, and of each address for requests without a login."""

    def __init__(self, tier: str) -> None:
        self._tier = tier
        self._pools = _POOLS | {"trading": Pool(1, *TIERS[tier])}
        self._counters: dict[tuple[str, str], DecayingCounter] = {}

    def charge(self, client: str, name: str) -> bool:
        """Charge a call to a pool of a client; return whether it fits."""
        pool = self._pools[name]
        most = 0 if self._tier == "unlimited" else pool.burst
        counter = self._counters.setdefault((client, name), DecayingCounter(most, pool.per_s))
        return counter.charge(pool.cost, time.monotonic())

    def cost(self, name: str) -> float:
        """Return what a call costs in a pool."""
        return self._pools[name].cost

    def row(self) -> dict[str, object]:
        """Return the limits as account summaries have them."""
        total, every = (
            {"burst": pool.burst, "rate": pool.per_s} for pool in (self._pools["trading"], self._pools["cancel_all"])
        )
        engine = {"trading": {"total": total}, "spot": total, "quotes": total, "cancel_all": every}
        return {
            "limits_per_currency": False,
            "non_matching_engine": {"burst": 100, "rate": 20},
            "matching_engine": engine,
        }
