"""Read orders at CrossTrade, and positions where they count, with as few tokens as its paths allow (§5, §6).

One token covers all NT accounts' orders: `GET /orders`, whose path is inferred, or `GetAllOrders` over the WebSocket;
without either it is a list an account. Positions are read behind the orders, never beside them: what fills between the
two then shows in the positions.

A list covers the accounts that NinjaTrader shows when it is asked for, and no other. So a list without orders is
complete only if the snapshot, which is asked for behind it, shows each of our accounts connected to its broker, and if
nothing contradicts it (`crosstrade_doubts`): orders and accounts in doubt are looked up one by one. A sweep needs two
clean reads, so that its last list lies between two snapshots.

A request of a read that the rate limit refuses is repeated in its turn, behind the cancels that wait; a read that is
begun while cancels wait asks for nothing, and says so.
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
    failure,
    lacking,
    warning,
)
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.tokens import RequestFactory, is_id, path_of
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.messages import Outputs, WakeAfter
from kill_switch.venues.request import Request

READ_AGAIN_S = 1.0  # a read that is slow goes out once more: the relay to the add-on may take most of a second
LIST_WITHIN_S = 1.5  # GetAllOrders over the WebSocket
MAX_LOOK_UPS = 5  # orders and accounts in doubt that one read looks up


@dataclass(slots=True, eq=False)
class UserRead:
    """One read under way; a `probe` is housekeeping, speaks for the lane, and has no positions.

    Without `troubles` and with nothing left, a read that is no probe proves the accounts clear.
    """

    asked_ns: int
    probe: bool = False
    tried: bool = False  # over the WebSocket
    conn: int | None = None
    missing: set[str] = field(default_factory=set)  # accounts whose lists, or looks that are still to be answered
    orders: list[AccountOrder] = field(default_factory=list)
    ordered: bool = False  # the orders are all there
    positions: list[OpenPosition] = field(default_factory=list)
    positioned: bool = False  # the positions have been read
    troubles: list[str] = field(default_factory=list)  # what keeps it from being complete

    @property
    def left(self) -> bool:
        return bool(self.positions) or any(
            account_order.order.state is not OrderState.GONE for account_order in self.orders
        )


class UserReader:
    """Carry reads out; `done` is told of each that has ended, `failed` why a probe has shown nothing."""

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
        hedge_after_s: Callable[[], float],
    ) -> None:
        """Make it; `reached` takes a snapshot and returns the accounts that NinjaTrader need not show, and why."""
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
        self._hedge_after_s = hedge_after_s
        self._repeated: dict[UserRead, None] = {}  # those with requests that wait for their turn
        self._frames: dict[str, UserRead] = {}  # over the WebSocket, by the id of their RPC
        self._count = 0

    def begin(self, read: UserRead, now: Instant) -> Outputs:
        """Read every order of the user with one token; without such a call, account by account."""
        if read.probe:
            return self._list(read, now)
        outputs: Outputs = ()
        for before in self._repeated:
            outputs += self._fail(before, "another read takes its place", None, now)
        self._repeated.clear()
        self._turns.drop_reads()
        if waiting := self._turns.cancels:
            why = f"{waiting} cancel(s) wait for requests that the venue takes: nothing was read"
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
        again_s = max(READ_AGAIN_S, 4 * self._hedge_after_s())
        once = read.probe or self._wire.bucket.contended(now)
        build = self._wire.paid(request)
        return self._calls.start_call(
            kind, build, now, urgent=not read.probe, hedge_after_s=None if once else again_s, context=context
        )

    # what comes back

    def answered(self, call: PendingCall, body: Any, status: int, now: Instant) -> Outputs | None:
        """Take the answer to a request; None if another route should be heard."""
        read = _read_of(call)
        if call.kind == "orders" and status == 404:
            self.has_path = False
            return self._list(read, now)
        wrong = failure(status, body, self._words)
        if wrong is not None and wrong.nothing:
            return None
        if wrong is not None and wrong.limited and not read.probe:
            self._repeated[read] = None
            return self._turns.read(lambda at: self._again(call, at), now)
        match call.kind:
            case "orders":
                return self._listed(read, self._ours.orders(body), wrong, body, now)
            case "list":
                return self._listed_one(call.part[0], read, body, wrong, now)
            case "positions":
                return self._held(read, body, wrong, now)
            case "reach":
                return self._seen(read, body, wrong, now)
            case _:
                return self._looked(call.part[0], read, body, wrong, now)

    def _again(self, call: PendingCall, now: Instant) -> Outputs:
        self._repeated.pop(_read_of(call), None)
        return self._calls.start_call(call.kind, call.build, now, urgent=True, context=call.part)

    def unanswered(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        read = _read_of(call)
        match call.kind:
            case "list":
                return self._gather(call.part[0], read, OrderList([], why), now)
            case "look":
                return self._look_over(call.part[0], read, why, now)
            case _:
                return self._fail(read, f"accounts: {why}" if call.kind == "reach" else why, None, now)

    def replied(self, conn: int, tag: str, body: object, reply: CancelReply | None, now: Instant) -> Outputs:
        """Take the reply to an RPC, if it is one of a read's."""
        read = self._frames.get(tag)
        if read is None or read.conn != conn:
            return ()
        del self._frames[tag]
        listed = self.rpc_orders(body)
        if listed is not None:
            return self._listed(read, listed, None, body, now)
        self.has_rpc = reply is not None and (reply.limited or reply.offline)
        return self._list(read, now)

    def rpc_orders(self, body: object) -> OrderList | None:
        """Return the list that an RPC has answered, None if it has not."""
        if failure(None, body, self._words) is not None:
            return None
        listed = self._ours.orders(body)
        return listed if listed.orders or not listed.why else None

    def late(self, tag: str, now: Instant) -> Outputs:
        """Read in another way what has not been answered in time."""
        read = self._frames.pop(tag, None)
        return () if read is None else self._list(read, now)

    def closed(self, conn: int, now: Instant) -> Outputs:
        outputs: Outputs = ()
        for tag in [tag for tag, read in self._frames.items() if read.conn == conn]:
            outputs += self._list(self._frames.pop(tag), now)
        return outputs

    # orders, then positions, then accounts, then doubts

    def _fail(self, read: UserRead, why: str, reply: CancelReply | None, now: Instant) -> Outputs:
        """End a read for one reason; what it has shown until then stays."""
        if read.probe and not read.orders:
            return self._failed(why, reply)
        read.troubles.append(why)
        return self._done(read, now)

    def _listed(
        self, read: UserRead, listed: OrderList, wrong: CancelReply | None, body: object, now: Instant
    ) -> Outputs:
        read.orders.extend(listed.orders)
        if wrong is not None:
            return self._fail(read, wrong.words, wrong, now)
        if why := warning(body, self._words) or listed.why:
            return self._fail(read, why, None, now)
        return self._ordered(read, now)

    def _listed_one(self, name: str, read: UserRead, body: object, wrong: CancelReply | None, now: Instant) -> Outputs:
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
            return self._ordered(read, now)
        if read.probe and not read.orders:
            return self._failed(self._words("; ".join(read.troubles)), None)
        return self._done(read, now)

    def _ordered(self, read: UserRead, now: Instant) -> Outputs:
        read.ordered = True
        self._doubts.on_list(read.orders)
        if self._positions is None or read.probe:
            return self._reach(read, now)
        return self._get("positions", self._positions, read, read, now)

    def _held(self, read: UserRead, body: object, wrong: CancelReply | None, now: Instant) -> Outputs:
        if wrong is not None:
            return self._fail(read, f"positions: {wrong.words}", wrong, now)
        read.positions, why = self._ours.positions(body)
        read.positioned = not why or bool(read.positions)
        if why := warning(body, self._words) or why:
            return self._fail(read, f"positions: {why}", None, now)
        return self._reach(read, now)

    def _reach(self, read: UserRead, now: Instant) -> Outputs:
        """PendingCall what the lists have covered, if they have shown nothing that is left."""
        if read.probe:  # what it has to say does not wait for a look, which spares a kill one
            outputs = self._look(read, 1, now) if self._wire.bucket.spare(now, 1) else ()
            return (*self._done(read, now), *outputs)
        if read.left:
            return self._done(read, now)
        return self._get("reach", self._snapshot, read, read, now)

    def _seen(self, read: UserRead, body: Any, wrong: CancelReply | None, now: Instant) -> Outputs:
        if wrong is not None:
            return self._fail(read, f"accounts: {wrong.words}", wrong, now)
        if why := lacking(self._reached(body)):
            read.troubles.append(why)
        if why := warning(body, self._words):
            read.troubles.append(f"accounts: {why}")
        if read.troubles:
            return self._done(read, now)
        return self._look(read, max(1, min(MAX_LOOK_UPS, int(self._wire.bucket.left(now)) - 1)), now)

    def _look(self, read: UserRead, most: int, now: Instant) -> Outputs:
        """Look up so many of the orders and accounts in doubt, if the list has not; later reads take the others."""
        listed = {one.order.id for one in read.orders} if self._doubts.orders() else set()
        asked = [("", name) for name in self._doubts.accounts()]
        asked += [
            (one, account)
            for one, account in self._doubts.orders().items()
            if account in self._ours.names and one not in listed and is_id(one)
        ]
        asked = asked[:most]
        if not asked:
            return self._doubtless(read, now)
        read.missing = {order or account for order, account in asked}
        outputs: Outputs = ()
        for order, account in asked:
            request = self._wire.request("GET", f"{path_of(account)}/orders/{order}") if order else self._own(account)
            outputs += self._get("look", request, read, ((order, account), read), now)
        return outputs

    def _looked(
        self, target: tuple[str, str], read: UserRead, body: Any, wrong: CancelReply | None, now: Instant
    ) -> Outputs:
        order, account = target
        if wrong is not None and wrong.no_account:
            self._doubts.on_account_unknown(account, wrong.words)
        if wrong is not None:
            if wrong.gone and order:
                self._doubts.on_ended(order)
            return self._look_over(target, read, wrong.words, now)
        if not order:
            listed = self._ours.orders(body, account)
            read.orders.extend(listed.orders)
            why = warning(body, self._words) or listed.why
            if not why:
                self._doubts.on_account_shown(account)
            return self._look_over(target, read, why, now)
        account_order = self._ours.order(body, account)
        if account_order is None or not account_order.account or not account_order.order.status:
            return self._look_over(target, read, "the order cannot be read", now)
        account_order = account_order._replace(
            order=account_order.order._replace(id=order)
        )  # the venue may know it by another number (§2)
        if account_order.order.state is OrderState.GONE:
            self._doubts.on_ended(order)
        else:
            read.orders.append(account_order)
        return self._look_over(target, read, f"it is {account_order.order.status}", now)

    def _look_over(self, target: tuple[str, str], read: UserRead, words: str, now: Instant) -> Outputs:
        order, account = target
        read.missing.discard(order or account)
        if order:
            self._doubts.on_look_up(order, words)
        return () if read.missing else self._doubtless(read, now)

    def _doubtless(self, read: UserRead, now: Instant) -> Outputs:
        if read.probe:
            return ()
        if why := self._doubts.why():
            read.troubles.append(why)
        return self._done(read, now)


def _read_of(call: PendingCall) -> UserRead:
    read: UserRead = call.part if isinstance(call.part, UserRead) else call.part[1]
    return read
