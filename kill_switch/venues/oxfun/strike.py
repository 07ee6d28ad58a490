"""Build OX.FUN's strikes: a cancel-all over REST, with batches of known orders over the WebSocket beside it (§ 4).

The adapter owns one `OxFunStriker`. This module reads no answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import orjson

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import Build, CallStarter
from kill_switch.venues.messages import Output, Send
from kill_switch.venues.oxfun.session import SessionPool
from kill_switch.venues.oxfun.signing import OxFunSigner
from kill_switch.venues.request import Request

ITEMS = 8  # orders a request of "Cancel order" over REST (§ 4.3)
BATCH_ORDERS = 20  # orders a message; § 4.2 has about twenty
BATCH_BYTES = 3800  # bytes: below the message length of error 20027 (§ 11)
ID_DIGITS = 19  # digits that fit the 64 bits of an INTEGER
BATCHES_PER_STRIKE = 20  # messages, of the 50 a second that an authenticated connection may send (§ 3.4)
NO_ORDER = 2**63 - 1  # the largest id that an order can have
MARKET = "BTC-USD-SWAP-LIN"


class OxFunStriker:
    """Build an account's strikes, one after the other, and count the cancels that are pushed.

    Orders that have survived a strike are cancelled by id over REST too. The reason is that the cancel-all may need a
    market (§ 4.3), and may not cover stop orders (§ 12). Without a WebSocket, so are the orders that no list shows.
    """

    def __init__(
        self,
        calls: CallStarter,
        book: OrderBook,
        sessions: SessionPool,
        signer: OxFunSigner,
        clock: ClockOffset,
        second_route_after_s: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._book = book
        self._sessions = sessions
        self._signer = signer
        self._clock = clock
        self._second_route_after_s = second_route_after_s
        self._delete_all = signer.template("DELETE", "/v3/orders/cancel-all", b"{}")
        self._first: Request | None = None  # the cancel-all of the strike that is being built, if `first` has built it
        self._strike = 0
        self._struck: frozenset[str] = frozenset()  # orders that were known at the kill's last strike
        self._outlived: frozenset[str] = frozenset()  # of these: orders that a list has shown since
        self._tries: dict[str, int] = {}  # order id → how often it was cancelled by id over REST
        self.cancelled = 0  # pushes of cancelled orders since the last read-back of a sweep
        book.on_whole_list = self._note_outlived

    def first(self, now: Instant) -> Request:
        """Build the cancel-all that the next strike begins with."""
        self._first = None
        request = self._first = self._cancel_all(now)
        return request

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        """Yield the messages of a kill's strike `number`; its batches use the newest session that is ready."""
        self._strike += 1
        if number == 1:
            self.cancelled = 0  # earlier cancels are not this kill's
        yield from self._calls.start_call(
            "cancel-all",
            self._cancel_all,
            now,
            urgent=True,
            cancel=True,
            second_route_after_s=self._second_route_after_s(),
        )
        if number == 1:  # after the widest command, because a list may come while that one leaves
            self._outlived = frozenset()
        conn = self._sessions.newest
        if conn is not None:
            yield from (Send(conn, text, command=True) for text in self._batches(self._live()))
        if some := self._apart(conn):
            self._tries |= {order.id: self._tries.get(order.id, 0) + 1 for order in some}
            yield from self._calls.start_call("cancel-some", self._cancel_some(some), now, urgent=True, command=True)
        self._struck, self._outlived = frozenset(self._book.orders), frozenset()

    def plan(self) -> tuple[str, ...]:
        """Return a strike's commands as they are now, a line each."""
        everything = "DELETE /v3/orders/cancel-all"
        if self._sessions.newest is None:
            return (everything, "DELETE /v3/orders/cancel") if self._apart(None) else (everything,)
        frames = list(self._batches(self._live()))
        if not frames:
            return (everything,)
        return (everything, f'ws {{"op":"cancelorders",…}}, {len(frames)} message(s) for the orders that are known')

    def count_cancelled(self) -> int | None:
        """Return how many cancels were pushed, or None for none, and reset the count."""
        cancelled, self.cancelled = self.cancelled, 0
        return cancelled or None

    def cancel_none(self, now: Instant) -> Request:
        """Build the cancel of an order that cannot exist."""
        return self._cancel_by_id([{"marketCode": MARKET, "orderId": str(NO_ORDER)}], now)

    def _cancel_some(self, orders: Sequence[Order]) -> Build:
        items = [{"marketCode": order.symbol, "orderId": order.id} for order in orders[:ITEMS]]
        return lambda now: self._cancel_by_id(items, now)

    def _cancel_by_id(self, items: Sequence[Mapping[str, str]], now: Instant) -> Request:
        # a `timestamp` goes with `recvWindow`: without one it is one second, which a busy venue may exceed (100015)
        body = {"timestamp": self._clock.venue_ms(now), "recvWindow": 5000, "responseType": "FULL", "orders": items}
        return self._signer.sign(self._signer.template("DELETE", "/v3/orders/cancel", orjson.dumps(body)), now)

    def _apart(self, conn: int | None) -> list[Order]:
        """Return the orders to cancel by id over REST, the least tried first, at most `ITEMS`."""
        if not self._outlived and (conn is not None or not self._book.unproven):
            return []  # the usual case: skip the loop over thousands of orders
        wanted = [o for o in self._live() if o.id in self._outlived or (conn is None and o.id in self._book.unproven)]
        self._tries = {order.id: self._tries.get(order.id, 0) for order in wanted}
        return sorted(wanted, key=lambda order: self._tries[order.id])[:ITEMS]

    def _live(self) -> Iterator[Order]:
        """Return the live orders whose market is known: the venue refuses a message with an order that lacks it."""
        return (order for order in self._book.orders.values() if order.state is OrderState.LIVE and order.symbol)

    def _cancel_all(self, now: Instant) -> Request:
        # the body {} without a marketCode means the whole account (§ 4.3)
        first, self._first = self._first, None
        return first or self._signer.sign(self._delete_all, now)

    def _batches(self, orders: Iterable[Order]) -> Iterable[bytes]:
        """Build `cancelorders` messages of at most `BATCH_ORDERS` orders and `BATCH_BYTES` bytes."""
        tag = b'{"op":"cancelorders","tag":"k%d","dataArray":[' % self._strike
        batch: list[bytes] = []
        codes: dict[str, bytes] = {}
        size, batches = len(tag), 0
        for order in orders:
            if not (order.id.isascii() and order.id.isdigit() and len(order.id) <= ID_DIGITS):
                continue  # `orderId` is an INTEGER (§ 4.1); a bad id must not make the venue refuse the batch
            if order.symbol not in codes:
                codes[order.symbol] = orjson.dumps(order.symbol)
            item = b'{"marketCode":%b,"orderId":%d}' % (codes[order.symbol], int(order.id))
            if len(tag) + len(item) > BATCH_BYTES:
                continue
            if batch and (len(batch) == BATCH_ORDERS or size + len(item) > BATCH_BYTES):
                yield tag + b",".join(batch) + b"]}"
                batches += 1
                if batches == BATCHES_PER_STRIKE:
                    return
                batch, size = [], len(tag)
            batch.append(item)
            size += len(item) + 1
        if batch:
            yield tag + b",".join(batch) + b"]}"

    def _note_outlived(self) -> None:
        self._outlived = self._struck & self._book.orders.keys()
