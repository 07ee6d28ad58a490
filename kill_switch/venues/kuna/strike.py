"""Make the commands of KUNA's strikes: batches of known orders, lists, and batches of orders that only a list shows.

The adapter owns one `KunaCommands`. § numbers are those of docs/venues/kuna.md. Nothing here sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.decode import Evidence
from kill_switch.venues.kit.batches import Batch, BatchLimits, BatchPlanner, StrikeBatches
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.order_list import OrderList
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.strike import CancelCommand, LeftOut, Striker, StrikeStep
from kill_switch.venues.kuna.replies import KunaData, judge_batch, judge_list, judge_single, read_items
from kill_switch.venues.kuna.signing import KunaSigner

SINGLE = "/v4/order/private/cancel"
MULTI = "/v4/order/private/cancel/multi"
BATCH = "cancel-multi"  # the name of a command with such a request
MAX_SINGLES_PER_STRIKE = 3
MAX_SPLITS_PER_STRIKE = 7  # halvings of refused batches: a hundred orders get as far as eight batches
MIN_BATCH = 3  # a longer batch is halved; as many orders are cancelled alone in one strike
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class KunaStrike(StrikeBatches):
    """The cancels of one strike."""

    splits = 0  # halvings so far


class KunaStriker(Striker):
    """The kit's striker where a batch that may be too long is repeated in shorter ones."""

    def is_replaced(self, command: CancelCommand, steps: Sequence[StrikeStep]) -> bool:
        """Return whether shorter batches follow the reply to a batch."""
        return command.name == BATCH and any(isinstance(step, CancelCommand) for step in steps)


class KunaCommands:
    """Make the commands of an account's strikes.

    Known orders are sent to `cancel/multi` at once, and the lists are requested beside them. Orders that only a list
    shows are cancelled when it comes. A malformed id would fail its whole batch, so its order is cancelled alone. A
    batch that is refused as a whole may be too long (§ 3.2), and is halved.
    """

    def __init__(
        self, signer: KunaSigner, lists: Sequence[OrderList], book: OrderBook, evidence: Evidence, batch_orders: int
    ) -> None:
        """Make the commands' maker; `batch_orders` is the most orders of a batch."""
        self._planner = BatchPlanner(BatchLimits(_UUID.fullmatch, batch_orders, MAX_SINGLES_PER_STRIKE))
        self._signer = signer
        self._lists = lists
        self._book = book
        self._evidence = evidence
        self._halving = True  # until the shortest batch was refused too: then length was not the reason
        book.on_whole_list = lambda: self._planner.forget_gone(book.orders)

    def strike(self, known: Iterable[str], now: Instant) -> Iterator[StrikeStep]:
        """Yield the commands of a strike on the `known` orders; a batch may leave before the next is made."""
        strike = KunaStrike(self._planner)
        yield from self._cancel(strike, known)
        for order_list in self._lists:
            yield self._find(strike, order_list, now)

    def describe(self, known: Iterable[str]) -> Iterator[str]:
        """Yield the cancels that a strike on the `known` orders would begin with, a line each; change nothing."""
        for batch in StrikeBatches(self._planner.copy()).divide(known):
            target, body = _request(batch)
            yield f"POST {target} {orjson.dumps(body).decode()}"

    def _cancel(self, strike: KunaStrike, ids: Iterable[str]) -> Iterator[StrikeStep]:
        """Yield the cancels of the orders that the strike has not named yet."""
        left = strike.left
        for batch in strike.divide(ids):
            yield self._command(strike, batch)
        if strike.left > left:
            yield LeftOut(f"{strike.left - left} malformed id(s) left for the next strike")

    def _command(self, strike: KunaStrike, batch: Batch) -> CancelCommand:
        ids, build = batch.ids, self._signer.build("POST", *_request(batch))
        if batch.alone:
            return CancelCommand("cancel-one", build, lambda reply: judge_single(reply, ids[0]))
        return CancelCommand(
            BATCH,
            build,
            lambda reply: judge_batch(reply, ids, self._evidence),
            lambda reply, now: self._halve(strike, ids, reply),
        )

    def _halve(self, strike: KunaStrike, ids: tuple[str, ...], reply: Reply) -> Iterator[CancelCommand]:
        """Yield shorter batches of a batch that may have been too long; the next strike begins with such batches."""
        data: KunaData = reply.data
        self._halving = self._halving or data.error is None
        may_be_too_long = reply.outcome is ReplyOutcome.REFUSED and data.error is not None and data.error.too_long
        if not may_be_too_long or not self._halving or read_items(data.body, ids).any_settled:
            return
        if len(ids) <= MIN_BATCH:
            self._planner.batch_orders, self._halving = (
                self._planner.limits.batch_orders,
                False,
            )  # it was not the length
            return
        self._planner.batch_orders = min(self._planner.batch_orders, (len(ids) + 1) // 2)
        if strike.splits < MAX_SPLITS_PER_STRIKE:
            strike.splits += 1
            for batch in strike.split(ids):
                yield self._command(strike, batch)

    def _find(self, strike: KunaStrike, order_list: OrderList, now: Instant) -> CancelCommand:
        """Return the command that reads a list, and cancels the orders that the strike has not named yet."""

        def follow(reply: Reply, then: Instant) -> Iterator[StrikeStep]:
            yield from self._cancel(strike, (order.id for order in reply.data))
            # only a read-back ends the orders that a list lacks
            yield from self._book.apply_listing(order_list.name, reply.data, now.mono_ns, whole=False)

        return CancelCommand(
            "find", order_list.page(""), lambda reply: judge_list(reply, order_list), follow, reads=True
        )


def _request(batch: Batch) -> tuple[str, dict[str, object]]:
    """Return the target and the body of a batch's cancel."""
    return (SINGLE, {"orderId": batch.ids[0]}) if batch.alone else (MULTI, {"orderIds": batch.ids})
