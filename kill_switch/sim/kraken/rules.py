"""Kraken's rules: the rights of a key, the counters of a tier, the tariff of single cancels.

§ numbers are those of docs/venues/kraken.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kill_switch.sim.kit.book import Order
from kill_switch.sim.kit.limits import DecayingCounter


class Tier(NamedTuple):
    """The REST counter and the engine's counter of each pair."""

    rest_most: float
    rest_per_s: float
    pair_most: float
    pair_per_s: float


TIERS: Mapping[str, Tier] = {
    "starter": Tier(15, 0.33, 60, 1.0),
    "intermediate": Tier(20, 0.5, 125, 2.34),
    "pro": Tier(20, 1.0, 180, 3.75),
    "unlimited": Tier(0, 0, 0, 0),  # no tier of Kraken's: for tests of other things
}

ALL_RIGHTS = (
    "query-funds",
    "query-open-trades",
    "query-closed-trades",
    "query-ledgers",
    "modify-trades",
    "close-trades",
    "create-ws-token",
)
_CANCEL = ("modify-trades", "close-trades")
RIGHTS: Mapping[str, tuple[str, ...]] = {  # one of these is enough (§3.2)
    "cancel-all": _CANCEL,
    "cancel": _CANCEL,
    "cancel-batch": _CANCEL,
    "dead-man": _CANCEL,
    "place": ("modify-trades",),
    "edit": ("modify-trades",),
    "amend": _CANCEL,
    "orders": ("query-open-trades",),
    "order": ("query-open-trades", "query-closed-trades"),
    "closed": ("query-closed-trades",),
    "balance": ("query-funds",),
    "balances": ("query-funds",),
    "trades": ("query-closed-trades",),
    "ledgers": ("query-ledgers",),
    "token": ("create-ws-token",),
    "subscribe executions": ("query-open-trades",),
    "subscribe balances": ("query-funds",),
}

_TARIFF = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))  # an age in seconds below which a cancel costs this


def cancel_cost(order: Order, now_ns: int) -> int:
    """Return what a single cancel of an order of this age costs."""
    age_s = (now_ns - order.created_ns) / 1e9
    return next((cost for below_s, cost in _TARIFF if age_s < below_s), 0)


class PairCounters:
    """The engine's counters, one for each account and pair."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._counters: dict[tuple[str, str], DecayingCounter] = {}

    def charge(self, account: str, pair: str, cost: float, now: float) -> bool:
        """Charge a counter; return False if the cost does not fit."""
        return self._counter(account, pair).charge(cost, now)

    def is_full(self, account: str, pair: str, now: float) -> bool:
        """Return whether a counter has no room for a single unit."""
        counter = self._counter(account, pair)
        return 0 < counter.most < counter.level(now) + 1

    def fill_up(self, account: str, pair: str, cost: float, now: float) -> None:
        """Charge as much of a cost as fits."""
        counter = self._counter(account, pair)
        counter.charge(min(cost, counter.most - counter.level(now)), now)

    def _counter(self, account: str, pair: str) -> DecayingCounter:
        key = (account, pair)
        if key not in self._counters:
            self._counters[key] = DecayingCounter(self._tier.pair_most, self._tier.pair_per_s)
        return self._counters[key]
