"""Choose the known orders that a strike at OX.FUN cancels by id, beside its cancel-all (docs/venues/oxfun.md § 4).

The adapter owns one `KnownOrders`. This module sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.kit.batches import TryCounter
from kill_switch.venues.kit.book import OrderBook

ITEMS = 8  # orders a request of "Cancel order" over REST (§ 4.3)
BATCH_ORDERS = 20  # orders a message; § 4.2 has about twenty
BATCH_BYTES = 3800  # bytes: below the message length of error 20027 (§ 11)
ID_DIGITS = 19  # digits that fit the 64 bits of an INTEGER
BATCHES_PER_STRIKE = 20  # messages, of the 50 a second that an authenticated connection may send (§ 3.4)


class KnownOrders:
    """The known orders of one account, and which of them have outlived a strike.

    Orders that have outlived a strike are cancelled by id over REST too. The reason is that the cancel-all may need a
    market (§ 4.3), and may not cover stop orders (§ 12). Without a WebSocket, so are the orders that no list shows.
    """

    def __init__(self, book: OrderBook) -> None:
        self._book = book
        self._struck: frozenset[str] = frozenset()  # orders that were known at the kill's last strike
        self._outlived: frozenset[str] = frozenset()  # of these: orders that a list has shown since
        self._tries = TryCounter()
        book.on_whole_list = self._note_outlived

    def forget_outlived(self) -> None:
        """Forget which orders have outlived a strike, because a kill begins."""
        self._outlived = frozenset()

    def note_struck(self) -> None:
        """Note that a strike has been made at every known order."""
        self._struck, self._outlived = frozenset(self._book.orders), frozenset()

    def frames(self, tag: str) -> Iterator[bytes]:
        """Build the `cancelorders` messages of a strike, which cancel the known orders over the WebSocket."""
        return build_batches(tag, self._live())

    def apart(self, *, framed: bool) -> list[Order]:
        """Return the orders to cancel by id over REST; `framed`: messages cancel the known orders too."""
        if not self._outlived and (framed or not self._book.unproven):
            return []  # the usual case: skip the loop over thousands of orders
        unlisted = {} if framed else self._book.unproven
        return [order for order in self._live() if order.id in self._outlived or order.id in unlisted]

    def choose_apart(self, *, framed: bool) -> list[Order]:
        """Return the least tried of these orders, as many as a request takes, and count a try of each."""
        orders = {order.id: order for order in self.apart(framed=framed)}
        return [orders[order_id] for order_id in self._tries.choose(orders, ITEMS)] if orders else []

    def _live(self) -> Iterator[Order]:
        """Return the live orders whose market is known: the venue refuses a message with an order that lacks it."""
        return (order for order in self._book.orders.values() if order.state is OrderState.LIVE and order.symbol)

    def _note_outlived(self) -> None:
        self._outlived = self._struck & self._book.orders.keys()


def build_batches(tag: str, orders: Iterable[Order]) -> Iterator[bytes]:
    """Build `cancelorders` messages of at most `BATCH_ORDERS` orders and `BATCH_BYTES` bytes."""
    head = b'{"op":"cancelorders","tag":"%b","dataArray":[' % tag.encode()
    batch: list[bytes] = []
    codes: dict[str, bytes] = {}
    size, batches = len(head), 0
    for order in orders:
        if not (order.id.isascii() and order.id.isdigit() and len(order.id) <= ID_DIGITS):
            continue  # `orderId` is an INTEGER (§ 4.1); a bad id must not make the venue refuse the batch
        if order.symbol not in codes:
            codes[order.symbol] = orjson.dumps(order.symbol)
        item = b'{"marketCode":%b,"orderId":%d}' % (codes[order.symbol], int(order.id))
        if len(head) + len(item) > BATCH_BYTES:
            continue
        if batch and (len(batch) == BATCH_ORDERS or size + len(item) > BATCH_BYTES):
            yield head + b",".join(batch) + b"]}"
            batches += 1
            if batches == BATCHES_PER_STRIKE:
                return
            batch, size = [], len(head)
        batch.append(item)
        size += len(item) + 1
    if batch:
        yield head + b",".join(batch) + b"]}"
