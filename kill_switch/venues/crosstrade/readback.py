"""Read a CrossTrade user's orders, and positions if they are to be closed, with few tokens.

The adapter begins reads and hands over replies; each read ends in one call of `done`. Nothing here concludes that an
account is clear: the sweep does. § numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kill_switch.core.domain import Instant, OrderState
from kill_switch.venues.crosstrade.doubted_orders import DoubtedOrders
from kill_switch.venues.crosstrade.replies import (
    AccountDirectory,
    AccountOrder,
    CancelReply,
    OpenPosition,
    OrderList,
    Words,
    describe_unreached,
    failure,
    warning,
)
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.tokens import RequestFactory, is_id, path_of
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.messages import Outputs, WakeAfter
from kill_switch.venues.request import Request

READ_AGAIN_S = 1.0  # a slow read takes its second route no sooner: the relay to the add-on may need most of a second
LIST_WITHIN_S = 1.5  # after this GetAllOrders over the WebSocket counts as unanswered
MAX_LOOK_UPS = 5  # orders and accounts in doubt that one read looks up


@dataclass(slots=True, eq=False)
class UserRead:
    """A read in progress.

    A read that is no probe and ends without `troubles`, orders and positions proves the accounts clear.
    """

    asked_ns: int  # when it was begun, monotonic
    probe: bool = False  # a routine read that proves the lane, and reads no positions
    tried: bool = False  # it has been tried over the WebSocket
    conn: int | None = None
    missing: set[str] = field(default_factory=set)  # accounts' lists, or look-ups, that are not answered yet
    orders: list[AccountOrder] = field(default_factory=list)
    ordered: bool = False  # every order is in `orders`
    positions: list[OpenPosition] = field(default_factory=list)
    positioned: bool = False  # the positions have been read
    troubles: list[str] = field(default_factory=list)  # why it is not complete

    @property
    def left(self) -> bool:
        """Whether it has shown an order that has not ended, or a position."""
        return bool(self.positions) or any(
            account_order.order.state is not OrderState.GONE for account_order in self.orders
        )


class UserReader:
    """Carry out reads of all the user's orders.

    A single token covers every NT account, by `GET /orders` (an inferred path) or `GetAllOrders` over the WebSocket.
    Without either, each account's list is requested. Positions are requested after the orders have come, so that an
    order that fills between the two shows as a position.

    A list covers only the accounts that NinjaTrader shows at that moment. So an empty list is complete only if a
    snapshot, requested after it, shows each of our accounts connected to its broker. And each order and account in
    doubt (`DoubtedOrders`) is looked up. A sweep needs two clean reads, which puts its last list between two snapshots.

    A request that is refused for want of tokens is repeated from the queue, after the cancels that wait. A read that
    begins while cancels wait requests nothing, and ends with that reason.
    """

    KINDS = frozenset({"orders", "list", "positions", "reach", "look"})

    def __init__(
        self,
        wire: RequestFactory,
        ours: AccountDirectory,
        doubts: DoubtedOrders,
        turns: RequestQueue,
        snapshot: Request,
        calls: CallStarter,
        words: Words,
        done: Callable[[UserRead, Instant], Outputs],
        failed: Callable[[str, CancelReply | None], Outputs],
        reached: Callable[[Any], Mapping[str, str]],
        *,
        positions: bool,
        second_route_after_s: Callable[[], float],
    ) -> None:
        """Make a reader with no read in progress.

        `done` is called with each read that has ended, `failed` with the reason why a probe has shown nothing.
        `reached` gets each snapshot, and returns the accounts that it does not show connected, with reasons.
        `second_route_after_s` returns the seconds after which a cancel takes its second route.
        """
        self.has_path = True  # REST has GET /orders
        self.has_rpc = True  # the WebSocket has GetAllOrders
        self.orders = wire.request("GET", "/v1/api/orders")
        self._wire = wire
        self._ours = ours
        self._doubts = doubts
        self._turns = turns
        self._snapshot = snapshot
        self._calls = calls
        self._words = words
        self._done = done
        self._failed = failed
        self._reached = reached
        self._positions = wire.request("GET", "/v1/api/positions") if positions else None
        self._second_route_after_s = second_route_after_s
        self._repeated: dict[UserRead, None] = {}  # reads with requests in the queue
        self._frames: dict[str, UserRead] = {}  # reads over the WebSocket, by the id of their RPC
        self._count = 0

    def begin(self, read: UserRead, now: Instant) -> Outputs:
        """Begin a read; a read whose requests wait in the queue ends first, because the new read replaces it."""
        if read.probe:
            return self._list(read, now)
        outputs: Outputs = ()
        for before in self._repeated:
            outputs += self._fail(before, "another read takes its place", None, now)
        self._repeated.clear()
        self._turns.drop_reads()
        if waiting := self._turns.cancels:
            why = f"{waiting} cancel(s) wait for a request token: nothing was read"
            return (*outputs, *self._fail(read, why, None, now))
        return (*outputs, *self._list(read, now))

    def _list(self, read: UserRead, now: Instant) -> Outputs:
        if self.has_path:
            return self._get("orders", self.orders, read, read, now)
        conn = self._wire.carrier(now)
        if self.has_rpc and conn is not None and not read.tried:
            read.tried, read.conn = True, conn
            self._count += 1
            tag = f"r{self._count}"
            self._frames[tag] = read
            return (self._wire.rpc(conn, tag, "GetAllOrders", {}, now), WakeAfter(f"list {tag}", LIST_WITHIN_S))
        read.missing = set(self._ours.names)
        outputs: Outputs = ()
        for name in self._ours.names:
            outputs += self._get("list", self._own(name), read, (name, read), now)
        return outputs

    def _own(self, account: str) -> Request:
        return self._wire.request("GET", f"{path_of(account)}/orders")

    def _get(self, kind: str, request: Request, read: UserRead, context: object, now: Instant) -> Outputs:
        again_s = max(READ_AGAIN_S, 4 * self._second_route_after_s())
        once = read.probe or self._wire.bucket.contended(now)
        build = self._wire.paid(request)
        return self._calls.start_call(
            kind, build, now, urgent=not read.probe, second_route_after_s=None if once else again_s, context=context
        )

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, body: Any, status: int, now: Instant) -> Outputs | None:
        """Continue a read with the reply to one of `KINDS`; None if it proves nothing and another route is to be tried.

        `body` is the parsed JSON.
        """
        read = _read_of(call)
        if call.kind == "orders" and status == 404:
            self.has_path = False
            return self._list(read, now)
        wrong = failure(status, body, self._words)
        if wrong is not None and wrong.nothing:
            return None
        if wrong is not None and wrong.limited and not read.probe:
            self._repeated[read] = None
            return self._turns.queue_read(lambda at: self._repeat(call, at), now)
        match call.kind:
            case "orders":
                return self._on_list(read, self._ours.orders(body), wrong, body, now)
            case "list":
                return self._on_account_list(call.part[0], read, body, wrong, now)
            case "positions":
                return self._on_positions(read, body, wrong, now)
            case "reach":
                return self._on_snapshot(read, body, wrong, now)
            case _:
                return self._on_look_up(call.part[0], read, body, wrong, now)

    def _repeat(self, call: PendingCall, now: Instant) -> Outputs:
        self._repeated.pop(_read_of(call), None)
        return self._calls.start_call(call.kind, call.build, now, urgent=True, context=call.part)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Continue a read after the loss of one of its requests."""
        read = _read_of(call)
        match call.kind:
            case "list":
                return self._gather(call.part[0], read, OrderList([], why), now)
            case "look":
                return self._end_look_up(call.part[0], read, why, now)
            case _:
                return self._fail(read, f"accounts: {why}" if call.kind == "reach" else why, None, now)

    def on_rpc_reply(self, conn: int, tag: str, body: object, reply: CancelReply | None, now: Instant) -> Outputs:
        """Continue a read with the reply to its RPC; a reply to any other RPC changes nothing."""
        read = self._frames.get(tag)
        if read is None or read.conn != conn:
            return ()
        del self._frames[tag]
        listed = self.rpc_orders(body)
        if listed is not None:
            return self._on_list(read, listed, None, body, now)
        self.has_rpc = reply is not None and (reply.limited or reply.offline)
        return self._list(read, now)

    def rpc_orders(self, body: object) -> OrderList | None:
        """Return the list in an RPC's reply, None if it has none."""
        if failure(None, body, self._words) is not None:
            return None
        listed = self._ours.orders(body)
        return listed if listed.orders or not listed.why else None

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        """Request the lists over REST if the RPC of this id is not answered yet."""
        read = self._frames.pop(tag, None)
        return () if read is None else self._list(read, now)

    def on_closed(self, conn: int, now: Instant) -> Outputs:
        """Request the lists of the reads whose RPC the closed connection carried in another way."""
        outputs: Outputs = ()
        for tag in [tag for tag, read in self._frames.items() if read.conn == conn]:
            outputs += self._list(self._frames.pop(tag), now)
        return outputs

    # ── the steps of a read: orders, positions, accounts, doubts ──────────────────────────────────────────────────

    def _fail(self, read: UserRead, why: str, reply: CancelReply | None, now: Instant) -> Outputs:
        """End a read as incomplete; its orders so far are still reported."""
        if read.probe and not read.orders:
            return self._failed(why, reply)
        read.troubles.append(why)
        return self._done(read, now)

    def _on_list(
        self, read: UserRead, listed: OrderList, wrong: CancelReply | None, body: object, now: Instant
    ) -> Outputs:
        read.orders.extend(listed.orders)
        if wrong is not None:
            return self._fail(read, wrong.words, wrong, now)
        if why := warning(body, self._words) or listed.why:
            return self._fail(read, why, None, now)
        return self._on_every_order(read, now)

    def _on_account_list(
        self, name: str, read: UserRead, body: object, wrong: CancelReply | None, now: Instant
    ) -> Outputs:
        listed = self._ours.orders(body, name)
        if wrong is not None and wrong.no_account:
            self._doubts.on_account_unknown(name, wrong.words)
        why = wrong.words if wrong is not None else warning(body, self._words) or listed.why
        return self._gather(name, read, OrderList(listed.orders, why), now)

    def _gather(self, name: str, read: UserRead, listed: OrderList, now: Instant) -> Outputs:
        read.missing.discard(name)
        read.orders.extend(listed.orders)
        if listed.why:
            read.troubles.append(f"{name}: {listed.why}")
        if read.missing:
            return ()
        if not read.troubles:
            return self._on_every_order(read, now)
        if read.probe and not read.orders:
            return self._failed(self._words("; ".join(read.troubles)), None)
        return self._done(read, now)

    def _on_every_order(self, read: UserRead, now: Instant) -> Outputs:
        read.ordered = True
        self._doubts.on_list(read.orders)
        if self._positions is None or read.probe:
            return self._check_reach(read, now)
        return self._get("positions", self._positions, read, read, now)

    def _on_positions(self, read: UserRead, body: object, wrong: CancelReply | None, now: Instant) -> Outputs:
        if wrong is not None:
            return self._fail(read, f"positions: {wrong.words}", wrong, now)
        read.positions, why = self._ours.positions(body)
        read.positioned = not why or bool(read.positions)
        if why := warning(body, self._words) or why:
            return self._fail(read, f"positions: {why}", None, now)
        return self._check_reach(read, now)

    def _check_reach(self, read: UserRead, now: Instant) -> Outputs:
        """Request the snapshot, which shows whether empty lists have covered every account; else end the read."""
        if read.probe:  # it ends without waiting for its one look-up, which may spare a later kill's read that look-up
            outputs = self._look_up(read, 1, now) if self._wire.bucket.spare(now, 1) else ()
            return (*self._done(read, now), *outputs)
        if read.left:
            return self._done(read, now)
        return self._get("reach", self._snapshot, read, read, now)

    def _on_snapshot(self, read: UserRead, body: Any, wrong: CancelReply | None, now: Instant) -> Outputs:
        if wrong is not None:
            return self._fail(read, f"accounts: {wrong.words}", wrong, now)
        if why := describe_unreached(self._reached(body)):
            read.troubles.append(why)
        if why := warning(body, self._words):
            read.troubles.append(f"accounts: {why}")
        if read.troubles:
            return self._done(read, now)
        return self._look_up(read, max(1, min(MAX_LOOK_UPS, int(self._wire.bucket.left(now)) - 1)), now)

    def _look_up(self, read: UserRead, most: int, now: Instant) -> Outputs:
        """Look up at most `most` of the accounts and unlisted orders in doubt; later reads look up the others."""
        listed = {account_order.order.id for account_order in read.orders} if self._doubts.orders() else set()
        asked = [("", name) for name in self._doubts.accounts()]
        asked += [
            (order_id, account)
            for order_id, account in self._doubts.orders().items()
            if account in self._ours.names and order_id not in listed and is_id(order_id)
        ]
        asked = asked[:most]
        if not asked:
            return self._end_after_look_ups(read, now)
        read.missing = {order or account for order, account in asked}
        outputs: Outputs = ()
        for order, account in asked:
            request = self._wire.request("GET", f"{path_of(account)}/orders/{order}") if order else self._own(account)
            outputs += self._get("look", request, read, ((order, account), read), now)
        return outputs

    def _on_look_up(
        self, target: tuple[str, str], read: UserRead, body: Any, wrong: CancelReply | None, now: Instant
    ) -> Outputs:
        """Apply the look-up of `target`: an order and its account, or "" and an account whose list was requested."""
        order, account = target
        if wrong is not None and wrong.no_account:
            self._doubts.on_account_unknown(account, wrong.words)
        if wrong is not None:
            if wrong.gone and order:
                self._doubts.on_ended(order)
            return self._end_look_up(target, read, wrong.words, now)
        if not order:
            listed = self._ours.orders(body, account)
            read.orders.extend(listed.orders)
            why = warning(body, self._words) or listed.why
            if not why:
                self._doubts.on_account_shown(account)
            return self._end_look_up(target, read, why, now)
        account_order = self._ours.order(body, account)
        if account_order is None or not account_order.account or not account_order.order.status:
            return self._end_look_up(target, read, "the order cannot be read", now)
        # the broker may have renumbered the order (§ 2)
        account_order = account_order._replace(order=account_order.order._replace(id=order))
        if account_order.order.state is OrderState.GONE:
            self._doubts.on_ended(order)
        else:
            read.orders.append(account_order)
        return self._end_look_up(target, read, f"it is {account_order.order.status}", now)

    def _end_look_up(self, target: tuple[str, str], read: UserRead, words: str, now: Instant) -> Outputs:
        order, account = target
        read.missing.discard(order or account)
        if order:
            self._doubts.on_look_up(order, words)
        return () if read.missing else self._end_after_look_ups(read, now)

    def _end_after_look_ups(self, read: UserRead, now: Instant) -> Outputs:
        if read.probe:
            return ()
        if why := self._doubts.why():
            read.troubles.append(why)
        return self._done(read, now)


def _read_of(call: PendingCall) -> UserRead:
    read: UserRead = call.part if isinstance(call.part, UserRead) else call.part[1]
    return read
