"""Divide the ids of orders into the batches of a venue's cancel, and choose the orders that are cancelled alone.

Adapters whose venue has no account-wide cancel use it. It sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple


class BatchLimits(NamedTuple):
    """The limits of a venue's batch cancel, and of the cancels of one strike."""

    is_id: Callable[[str], bool]  # whether an id is well-formed: a malformed one may fail its whole batch
    batch_orders: int  # most orders of a batch
    batches: int  # most batches of a strike
    singles: int  # most cancels of one order of a strike


class Batches(NamedTuple):
    """How a strike cancels orders by id."""

    batches: tuple[tuple[str, ...], ...]
    singles: tuple[str, ...]
    left: int  # orders that have to wait for the next strike


class TryCounter:
    """How often each order of the last choice was tried: an order that no cancel ends takes no other one's turn."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}

    def choose(self, ids: Iterable[str], most: int) -> list[str]:
        """Return the least tried of these ids, at most `most`, and count a try of each; forget all other ids."""
        self._tries = tries = {order_id: self._tries.get(order_id, 0) for order_id in ids}
        chosen = sorted(tries, key=tries.__getitem__)[:most]
        for order_id in chosen:
            tries[order_id] += 1
        return chosen


class BatchPlanner:
    """Plan batches, and remember how often an order was in one: an order that outlives them is cancelled alone."""

    ALONE_AFTER = 2  # batches

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._tries: dict[str, int] = {}

    def plan(self, ids: Iterable[str]) -> Batches:
        """Plan the cancels of the orders with these ids, and count the tries; the least tried orders go first."""
        limits, known = self._limits, dict.fromkeys(ids)
        tries = self._tries = {order_id: self._tries.get(order_id, 0) for order_id in known}
        odd = sorted((order_id for order_id in known if self._is_odd(order_id)), key=tries.__getitem__)
        singles = tuple(odd[: limits.singles])
        again = [order_id for order_id in odd[limits.singles :] if limits.is_id(order_id)]
        odd_ids = frozenset(odd)
        batched = [order_id for order_id in known if order_id not in odd_ids] + again
        batched = batched[: limits.batches * limits.batch_orders]
        for order_id in (*singles, *batched):
            tries[order_id] += 1
        left = len(known) - len(singles) - len(batched)
        return Batches(tuple(split(batched, limits.batch_orders)), singles, left)

    def _is_odd(self, order_id: str) -> bool:
        return self._tries[order_id] >= self.ALONE_AFTER or not self._limits.is_id(order_id)


def split(ids: Iterable[str], most: int) -> Iterator[tuple[str, ...]]:
    """Yield the ids in groups of at most `most`."""
    group: list[str] = []
    for order_id in ids:
        group.append(order_id)
        if len(group) == most:
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)
