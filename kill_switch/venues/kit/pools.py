"""State a venue's limits as data: pools, the costs of requests, the requests of each activity.

Adapters state them; `budget` counts and `cadence` plans by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

AT_ONCE = 0.1  # part of a window's other half: requests that may leave at once
AT_ONCE_IN_SHORT = 0.5  # the same, of a window of up to `SHORT_S`
SHORT_S = 10.0
IN_ALL = 0.94  # part of the other half that is used within a window; the rest is for reads that never wait


@dataclass(frozen=True, slots=True)
class Pool:
    """A limit of a venue, in units of its own weight.

    `per_s` units come back each second: a token bucket, or a counter that decays. With `window_s` instead, any so many
    seconds have at most `size` units; state a window where the kind is unknown, because it allows least.
    """

    name: str
    size: float
    per_s: float = 0.0
    window_s: float = 0.0
    shared_by: Literal["key", "account", "address"] = "key"  # whose requests the venue counts together
    product: str = ""  # a name of several APIs that the venue counts as one; "": the API of `rest_url` alone
    kept: float = 0.5  # part that only a kill's commands may use; half at least
    is_stated: bool = False  # the venue's answers state the use: nothing heavy leaves before the first of them

    def __post_init__(self) -> None:
        if self.size <= 0 or (self.per_s > 0) == (self.window_s > 0) or not 0.5 <= self.kept < 1:
            raise ValueError(f"pool {self.name}: a size, one of per_s and window_s, and at least half kept")

    def __str__(self) -> str:
        """Return the limit in words: how many units in how many seconds, and whose requests it counts together."""
        rate = f"in {self.window_s:g} s" if self.window_s else f"at once and {self.per_s:g} a second"
        return f"{self.size:,g} units {rate}, of {'an' if self.shared_by[0] == 'a' else 'a'} {self.shared_by}"

    @property
    def rate(self) -> float:
        """Units that come back in a second, on average."""
        return self.per_s or self.size / self.window_s

    @property
    def read_rate(self) -> float:
        """Units a second that all but a kill's commands may use for long."""
        return self.rate * (1 - self.kept) * (IN_ALL - self._at_once if self.window_s else IN_ALL)

    @property
    def read_burst(self) -> float:
        """Units that all but a kill's commands may use at once."""
        return self.size * (1 - self.kept) * self._at_once

    @property
    def _at_once(self) -> float:
        return AT_ONCE if self.window_s > SHORT_S else AT_ONCE_IN_SHORT


class Cost(NamedTuple):
    """The units that a request takes, by pool; method "" is any method, and the target begins with `prefix`."""

    method: str
    prefix: str
    weights: tuple[tuple[str, float], ...]
    is_apart: bool = False  # it has a limit of its own, which no pool counts: a refusal of it pauses it alone


Calls = tuple[str, ...]  # the requests of one activity, each as "METHOD target"


class Demand(NamedTuple):
    """The requests of each activity of an account, as far as they can be stated beforehand."""

    read: Calls = ("GET /",)  # a read-back
    probe: Calls = ("GET /",)  # of the warm lane
    equity: Calls = ("GET /",)
    drill: Calls = ("POST /",)
    strike: Calls = ("POST /",)  # on an order that outlives strikes, without copies; one that takes more slows the next
    token: Calls = ()  # of the WebSocket
    keep_open: Calls = ()  # one connection's, if an account has more than `CONNECTIONS`

    @property
    def read_probes(self) -> bool:
        """Whether a read-back requests what a probe does."""
        return set(self.probe) <= set(self.read)


def weights_of(pools: Iterable[Pool], costs: Iterable[Cost], calls: Calls) -> dict[str, float]:
    """Return the units that requests take of each pool; a request that no `Cost` matches takes 1 of every pool."""
    names, total = [pool.name for pool in pools], dict[str, float]()
    for call in calls:
        method, _, target = call.partition(" ")
        matched = _match(costs, method, target)
        for name, weight in [(name, 1.0) for name in names] if matched is None else matched:
            total[name] = total.get(name, 0.0) + weight
    return total


def _match(costs: Iterable[Cost], method: str, target: str) -> tuple[tuple[str, float], ...] | None:
    for cost in costs:
        if cost.method in ("", method) and target.startswith(cost.prefix):
            return cost.weights
    return None
