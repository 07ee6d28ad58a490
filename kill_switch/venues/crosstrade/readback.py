"""Read a CrossTrade user's orders, and positions if they are to be closed, with few tokens.

The adapter begins reads; each read ends in one call of `OrderKnowledge.on_read`. Nothing here concludes that an
account is clear: the sweep does. § numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from kill_switch.core.domain import Instant, OrderState
from kill_switch.venues.crosstrade.account_reach import AccountReach
from kill_switch.venues.crosstrade.doubted_orders import DoubtedOrders
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.replies import (
    AccountDirectory,
    AccountOrder,
    AccountOrders,
    describe_unreached,
    is_account_unknown,
    is_limited,
    is_offline,
    is_order_ended,
    warning,
)
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.tokens import SNAPSHOT, UserWire, is_id, path_of
from kill_switch.venues.crosstrade.user_read import UserRead
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import Outputs, Replied

READ_AGAIN_S = 1.0  # a slow read takes its second route no sooner: the relay to the add-on may need most of a second
LIST_WITHIN_S = 1.5  # after this GetAllOrders over the WebSocket counts as unanswered
MAX_LOOK_UPS = 5  # orders and accounts in doubt that one read looks up


GoOn = Callable[[Reply, int, Instant], Outputs]  # the reply to a request, its HTTP status, and the moment
Fail = Callable[[str, Instant], Outputs]  # why a request is lost, and the moment


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

    def __init__(
        self,
        wire: UserWire,
        ours: AccountDirectory,
        doubts: DoubtedOrders,
        turns: RequestQueue,
        knowledge: OrderKnowledge,
        reach: AccountReach,
        *,
        positions: bool,
    ) -> None:
        """Make a reader with no read in progress; `knowledge` gets each read that has ended, `reach` each snapshot."""
        self.has_path = True  # REST has GET /orders
        self.has_rpc = True  # the WebSocket has GetAllOrders
        self._wire = wire
        self._ours = ours
        self._doubts = doubts
        self._turns = turns
        self._knowledge = knowledge
        self._reach = reach
        self._words = wire.words
        self._has_positions = positions
        self._repeated: dict[UserRead, None] = {}  # reads with requests in the queue
        self._count = 0

    def begin(self, read: UserRead, now: Instant) -> Outputs:
        """Begin a read; a read whose requests wait in the queue ends first, because the new read replaces it."""
        if read.probe:
            return self.list_orders(read, now)
        outputs: Outputs = ()
        for before in self._repeated:
            outputs += self._fail(before, "another read takes its place", now)
        self._repeated.clear()
        self._turns.drop_reads()
        if waiting := self._turns.cancels:
            why = f"{waiting} cancel(s) wait for a request token: nothing was read"
            return (*outputs, *self._fail(read, why, now))
        return (*outputs, *self.list_orders(read, now))

    def list_orders(self, read: UserRead, now: Instant) -> Outputs:
        """Request a read's orders in the way that is left: over REST, the WebSocket, or account by account."""
        if self.has_path:
            return self._get("orders", "/v1/api/orders", read, partial(self._on_orders, read), now)
        conn = self._wire.carrier(now)
        if self.has_rpc and conn is not None and not read.tried:
            read.tried, read.conn = True, conn
            self._count += 1
            tag = f"r{self._count}"
            frame = self._wire.rpc(conn, tag, "GetAllOrders", {}, RpcList(self, read), now)
            return (frame, self._wire.timers.start(LIST_WITHIN_S, partial(self._on_silence, tag, conn, read)))
        read.missing = set(self._ours.names)
        outputs: Outputs = ()
        for name in self._ours.names:
            go_on, fail = partial(self._on_account_list, name, read), partial(self._gather, name, read, [])
            outputs += self._get("list", _own_list(name), read, go_on, now, fail)
        return outputs

    def _get(
        self, kind: str, target: str, read: UserRead, go_on: GoOn, now: Instant, fail: Fail | None = None
    ) -> Outputs:
        again_s = max(READ_AGAIN_S, self._wire.second_route.read_s)
        once = read.probe or self._wire.bucket.contended(now)
        part = ReadPart(self, read, go_on, fail or partial(self._fail, read))
        return self._wire.get(kind, target, part, now, urgent=not read.probe, again_s=None if once else again_s)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def queue(self, read: UserRead, call: PendingCall, now: Instant) -> Outputs:
        """Repeat a request that was refused for want of tokens, from the queue."""
        self._repeated[read] = None
        return self._turns.queue_read(partial(self._repeat, read, call), now)

    def _repeat(self, read: UserRead, call: PendingCall, now: Instant) -> Outputs:
        self._repeated.pop(read, None)
        return self._wire.calls.start_call(call.kind, call.build, now, urgent=True, context=call.part)

    def on_rpc_reply(self, read: UserRead, reply: Reply, now: Instant) -> Outputs:
        """Continue a read with the reply to its RPC, or request the lists over REST if it has none."""
        listed = self.rpc_orders(reply)
        if listed is not None:
            return self._on_list(read, listed, reply, now)
        self.has_rpc = is_limited(reply) or is_offline(reply)
        return self.list_orders(read, now)

    def rpc_orders(self, reply: Reply) -> AccountOrders | None:
        """Return the list in an RPC's reply, None if it has none."""
        listed = self._ours.orders(reply.data) if reply.ok else None
        return listed if listed is not None and (listed.orders or not listed.why) else None

    def _on_silence(self, tag: str, conn: int, read: UserRead, now: Instant) -> Outputs:
        """Request the lists over REST if the RPC of this id is not answered yet."""
        return () if self._wire.frames.take(tag, conn) is None else self.list_orders(read, now)

    # ── the steps of a read: orders, positions, accounts, doubts ──────────────────────────────────────────────────

    def _fail(self, read: UserRead, why: str, now: Instant, reply: Reply | None = None) -> Outputs:
        """End a read as incomplete; its orders so far are still reported."""
        if read.probe and not read.orders:
            return self._knowledge.on_failed_probe(why, reply)
        read.troubles.append(why)
        return self._knowledge.on_read(read, now)

    def _on_orders(self, read: UserRead, reply: Reply, status: int, now: Instant) -> Outputs:
        if status == 404:
            self.has_path = False
            return self.list_orders(read, now)
        return self._on_list(read, self._ours.orders(reply.data), reply, now)

    def _on_list(self, read: UserRead, listed: AccountOrders, reply: Reply, now: Instant) -> Outputs:
        read.orders.extend(listed.orders)
        if not reply.ok:
            return self._fail(read, reply.evidence, now, reply)
        if why := warning(reply.data, self._words) or listed.why:
            return self._fail(read, why, now)
        return self._on_every_order(read, now)

    def _on_account_list(self, name: str, read: UserRead, reply: Reply, status: int, now: Instant) -> Outputs:
        listed = self._ours.orders(reply.data, name)
        if is_account_unknown(reply):
            self._doubts.on_account_unknown(name, reply.evidence)
        why = warning(reply.data, self._words) or listed.why if reply.ok else reply.evidence
        return self._gather(name, read, listed.orders, why, now)

    def _gather(self, name: str, read: UserRead, orders: list[AccountOrder], why: str, now: Instant) -> Outputs:
        read.missing.discard(name)
        read.orders.extend(orders)
        if why:
            read.troubles.append(f"{name}: {why}")
        if read.missing:
            return ()
        if not read.troubles:
            return self._on_every_order(read, now)
        if read.probe and not read.orders:
            return self._knowledge.on_failed_probe(self._words("; ".join(read.troubles)), None)
        return self._knowledge.on_read(read, now)

    def _on_every_order(self, read: UserRead, now: Instant) -> Outputs:
        read.ordered = True
        self._doubts.on_list(read.orders)
        if not self._has_positions or read.probe:
            return self._check_reach(read, now)
        return self._get("positions", "/v1/api/positions", read, partial(self._on_positions, read), now)

    def _on_positions(self, read: UserRead, reply: Reply, status: int, now: Instant) -> Outputs:
        if not reply.ok:
            return self._fail(read, f"positions: {reply.evidence}", now, reply)
        read.positions, why = self._ours.positions(reply.data)
        read.positioned = not why or bool(read.positions)
        if why := warning(reply.data, self._words) or why:
            return self._fail(read, f"positions: {why}", now)
        return self._check_reach(read, now)

    def _check_reach(self, read: UserRead, now: Instant) -> Outputs:
        """Request the snapshot, which shows whether empty lists have covered every account; else end the read."""
        if read.probe:  # it ends without waiting for its one look-up, which may spare a later kill's read that look-up
            outputs = self._look_up(read, 1, now) if self._wire.bucket.spare(now, 1) else ()
            return (*self._knowledge.on_read(read, now), *outputs)
        if read.left:
            return self._knowledge.on_read(read, now)
        return self._get(
            "reach",
            SNAPSHOT,
            read,
            partial(self._on_snapshot, read),
            now,
            lambda why, at: self._fail(read, f"accounts: {why}", at),
        )

    def _on_snapshot(self, read: UserRead, reply: Reply, status: int, now: Instant) -> Outputs:
        if not reply.ok:
            return self._fail(read, f"accounts: {reply.evidence}", now, reply)
        if why := describe_unreached(self._reach.on_read_snapshot(reply.data)):
            read.troubles.append(why)
        if why := warning(reply.data, self._words):
            read.troubles.append(f"accounts: {why}")
        if read.troubles:
            return self._knowledge.on_read(read, now)
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
            path = f"{_own_list(account)}/{order}" if order else _own_list(account)
            go_on = partial(self._on_looked_up if order else self._on_account_looked_up, (order, account), read)
            outputs += self._get("look", path, read, go_on, now, partial(self._end_look_up, (order, account), read))
        return outputs

    def _on_account_looked_up(
        self, target: tuple[str, str], read: UserRead, reply: Reply, status: int, now: Instant
    ) -> Outputs:
        """Apply the list of an account in doubt."""
        account = target[1]
        if is_account_unknown(reply):
            self._doubts.on_account_unknown(account, reply.evidence)
        if not reply.ok:
            return self._end_look_up(target, read, reply.evidence, now)
        listed = self._ours.orders(reply.data, account)
        read.orders.extend(listed.orders)
        why = warning(reply.data, self._words) or listed.why
        if not why:
            self._doubts.on_account_shown(account)
        return self._end_look_up(target, read, why, now)

    def _on_looked_up(
        self, target: tuple[str, str], read: UserRead, reply: Reply, status: int, now: Instant
    ) -> Outputs:
        """Apply the look-up of an order of an account."""
        order, account = target
        if is_account_unknown(reply):
            self._doubts.on_account_unknown(account, reply.evidence)
        if is_order_ended(reply):
            self._doubts.on_ended(order)
        if not reply.ok:
            return self._end_look_up(target, read, reply.evidence, now)
        account_order = self._ours.order(reply.data, account)
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
        return self._knowledge.on_read(read, now)


def _own_list(account: str) -> str:
    return f"{path_of(account)}/orders"


class ReadPart(NamedTuple):
    """A request of a read, and the step that goes on with its reply."""

    reader: UserReader
    read: UserRead
    go_on: GoOn
    fail: Fail

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        if is_limited(reply) and not self.read.probe:
            return self.reader.queue(self.read, call, now)
        return self.go_on(reply, replied.status, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.fail(why, now)


class RpcList(NamedTuple):
    """A read's list over the WebSocket."""

    reader: UserReader
    read: UserRead

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        return self.reader.on_rpc_reply(self.read, reply, now)

    def on_lost(self, now: Instant) -> Outputs:
        """Request the lists in another way, because the connection is gone."""
        return self.reader.list_orders(self.read, now)
