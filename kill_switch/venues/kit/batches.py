"""Divide the ids of orders into the batches of a venue's cancel, and choose the orders that are cancelled alone.

Adapters whose venue has no account-wide cancel use it: one `BatchPlanner` an account, one `StrikeBatches` a strike. It
sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from itertools import islice
from typing import NamedTuple


class BatchLimits(NamedTuple):
    """The limits of a venue's batch cancel, and of the cancels of one strike."""

    is_id: Callable[[str], object]  # true for a well-formed id: a malformed one may fail its whole batch
    batch_orders: int  # most orders of a batch
    singles: int  # most cancels of one order of a strike


class Batch(NamedTuple):
    """Orders that one command cancels."""

    ids: tuple[str, ...]
    alone: bool = False  # by the command for one order


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


class OutlivedOrders:
    """The orders that have outlived a strike: what leaves them may do so again, and a cancel by id may not.

    It watches the orders that come first in the book, which are the oldest: there may be thousands.
    """

    WATCHED = 100

    def __init__(self) -> None:
        self._struck: set[str] = set()  # orders that were known when the last strike left
        self._tries = TryCounter()

    def choose(self, known: Iterable[str], most: int) -> list[str]:
        """Return the least tried orders that the strike before this one has hit too; call it once a strike."""
        watched = tuple(islice(known, self.WATCHED))
        outlived = [order_id for order_id in watched if order_id in self._struck]
        self._struck = set(watched)
        return self._tries.choose(outlived, most)

    def clear(self) -> None:
        """Forget the strikes, because the account is armed again."""
        self._struck.clear()


class BatchPlanner:
    """Remember how often each order was cancelled: an order that outlives its batches is cancelled alone."""

    ALONE_AFTER = 2  # batches

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self.batch_orders = limits.batch_orders  # of the next batch; an adapter may find that a venue takes fewer
        self.tries: dict[str, int] = {}  # order → cancels that have named it

    def copy(self) -> BatchPlanner:
        """Return a planner that knows the same, to preview a strike."""
        other = BatchPlanner(self.limits)
        other.batch_orders, other.tries = self.batch_orders, dict(self.tries)
        return other

    def note_try(self, batch: Batch) -> Batch:
        """Note that the orders of a batch are cancelled now; return the batch."""
        tries = self.tries
        for order_id in batch.ids:
            tries[order_id] = tries.get(order_id, 0) + 1
        return batch

    def forget_gone(self, book: Container[str]) -> None:
        """Forget the orders that are not in the book any more."""
        self.tries = {order_id: tries for order_id, tries in self.tries.items() if order_id in book}


class StrikeBatches:
    """The cancels by id of one strike: each order is named once, unless its batch is split again."""

    def __init__(self, planner: BatchPlanner) -> None:
        self.left = 0  # malformed ids that have to wait for the next strike
        self._planner = planner
        self._named: set[str] = set()
        self._singles = 0

    def divide(self, ids: Iterable[str]) -> Iterator[Batch]:
        """Yield the cancels of the orders that this strike has not named; a batch may leave before the next is made.

        The orders to cancel alone come last, the least tried first. Those that exceed the limit go into a batch again,
        if their ids are well-formed; the others are counted in `left`.
        """
        planner, named = self._planner, self._named
        tries, is_id, alone_after = planner.tries, planner.limits.is_id, planner.ALONE_AFTER
        odd: list[str] = []
        batched: list[str] = []
        for order_id in ids:  # there may be thousands
            if order_id in named:
                continue
            named.add(order_id)
            if tries.get(order_id, 0) >= alone_after or not is_id(order_id):
                odd.append(order_id)
                continue
            batched.append(order_id)
            if len(batched) >= planner.batch_orders:
                yield planner.note_try(Batch(tuple(batched)))
                batched = []
        odd.sort(key=lambda order_id: tries.get(order_id, 0))
        room = planner.limits.singles - self._singles
        alone, others = odd[:room], odd[room:]
        again = [order_id for order_id in others if is_id(order_id)]
        self._singles += len(alone)
        self.left += len(others) - len(again)
        yield from self.split([*batched, *again])
        for order_id in alone:
            yield planner.note_try(Batch((order_id,), alone=True))

    def split(self, ids: Iterable[str]) -> Iterator[Batch]:
        """Yield batches of these orders, whether the strike has named them or not."""
        orders, most = tuple(ids), self._planner.batch_orders
        for start in range(0, len(orders), most):
            yield self._planner.note_try(Batch(orders[start : start + most]))
