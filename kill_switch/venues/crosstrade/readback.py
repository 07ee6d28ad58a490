"""Read a CrossTrade user's orders, and positions if they are to be closed, with few tokens.

The adapter's `reader` is a `UserReader`. Nothing here concludes that an account is clear: the sweep does.
§ numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant, Order, Route
from kill_switch.venues.crosstrade.account_reach import MAX_TROUBLE, AccountReach
from kill_switch.venues.crosstrade.flatten import Flattener
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.replies import (
    AccountDirectory,
    AccountOrders,
    describe_unreached,
    is_account_unknown,
    is_limited,
    is_offline,
    warning,
)
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.user_read import UserRead
from kill_switch.venues.crosstrade.user_wire import ALL_ORDERS, SNAPSHOT, UserWire, path_of
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.order_list import ListReader
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import NotReady, OrdersRead, Outputs, Ready, Replied, Send, UnexplainedMessage

LIST = "orders"  # the book's one list
READ_AGAIN_S = 1.0  # a slow read takes its second route no sooner: the relay to the add-on may need most of a second
LIST_WITHIN_S = 1.5  # after this GetAllOrders over the WebSocket counts as unanswered
HELLO = "hello"  # the id of the RPC that proves a new connection


class Answer(NamedTuple):
    """The reply to a request of a read; a lost request has one without data."""

    reply: Reply
    status: int = 200  # of HTTP
    is_lost: bool = False


class ReadPart(NamedTuple):
    """A request of a read, and how the read goes on; `ReadBackRunner.report_late_list` reads the first two."""

    name: str
    read: UserRead
    go_on: Callable[[Answer, Instant], Outputs]
    reads: bool = True

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.go_on(Answer(reply, replied.status), now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.go_on(Answer(Reply(ReplyOutcome.NO_ANSWER, why or "lost"), is_lost=True), now)

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        return self.go_on(Answer(reply), now)

    def on_lost(self, now: Instant) -> Outputs:
        return self.go_on(Answer(Reply(ReplyOutcome.NO_ANSWER, "no answer"), is_lost=True), now)


class UserReader(ListReader):
    """Carry out reads of all the user's orders.

    A single token covers every NT account, by `GET /orders` (an inferred path) or `GetAllOrders` over the WebSocket.
    Without either, each account's list is requested. Positions are requested after the orders have come, so that an
    order that fills between the two shows as a position.

    A list covers only the accounts that NinjaTrader shows at that moment. So an empty list is complete only if a
    snapshot, requested after it, shows each of our accounts connected to its broker. A sweep needs two clean reads,
    which puts its last list between two snapshots. Each account in doubt is looked up by its own list, and each order
    in doubt by the kit.

    A read that begins while cancels wait in the queue requests nothing, and ends with that reason.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.has_path = True  # REST has GET /orders
        self.has_rpc = True  # the WebSocket has GetAllOrders
        self.read_ns = 0  # when the latest read began, monotonic
        self._count = 0

    def use(
        self,
        wire: UserWire,
        ours: AccountDirectory,
        queue: RequestQueue,
        knowledge: OrderKnowledge,
        reach: AccountReach,
        flattens: Flattener,
    ) -> None:
        """Set the venue's own parts; call it once, before anything else."""
        self.wire = wire
        self._ours = ours
        self._queue = queue
        self._knowledge = knowledge
        self._reach = reach
        self._flattens = flattens

    def read(self, now: Instant, *, urgent: bool) -> Outputs:
        self.read_ns = now.mono_ns
        outputs: Outputs = ()
        for call in self._queue.take_reads():
            lose = call.on_loss or call.part.on_loss
            outputs += lose(call, "another read takes its place", now)
        read = UserRead(now.mono_ns, {LIST})
        if waiting := self._queue.cancels:
            read.list_whys.append(f"{waiting} cancel(s) wait for a request token: nothing was read")
            return (*outputs, *self._end(read, now))
        return (*outputs, *self._request_orders(read, now))

    def probe(self, now: Instant) -> Outputs:
        return self._request_orders(UserRead(now.mono_ns, {LIST}, urgent=False), now)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _get(
        self, kind: str, target: str, read: UserRead, go_on: Callable[[Answer, Instant], Outputs], now: Instant
    ) -> Outputs:
        once = not read.urgent or self.wire.bucket.contended(now)
        again_s = None if once else max(READ_AGAIN_S, self._second_route.read_s)
        part = ReadPart(kind, read, go_on)
        return self.wire.get(kind, target, part, now, urgent=read.urgent, again_s=again_s)

    def _request_orders(self, read: UserRead, now: Instant) -> Outputs:
        """Request a read's orders in the way that is left: over REST, the WebSocket, or account by account."""
        if self.has_path:
            return self._get("orders", ALL_ORDERS, read, partial(self._on_orders, read), now)
        conn = self.wire.carrier(now)
        if not self.has_rpc or conn is None:
            return self._request_each(read, now)
        self._count += 1
        tag, read.over_ws = f"r{self._count}", True
        part = ReadPart("rpc", read, partial(self._on_rpc, read))
        frame = self.wire.rpc(conn, tag, "GetAllOrders", {}, part, now)
        return (frame, self.wire.timers.start(LIST_WITHIN_S, partial(self._on_silence, tag, conn, part)))

    def _on_silence(self, tag: str, conn: int, part: ReadPart, now: Instant) -> Outputs:
        """Go on without the RPC of this id if it is not answered yet."""
        return () if self.wire.frames.take(tag, conn) is None else part.on_lost(now)

    def _request_each(self, read: UserRead, now: Instant, doubted: Iterable[str] = ()) -> Outputs:
        """Request the list of each account; with `doubted`, of these accounts alone."""
        names = dict.fromkeys(doubted or self._ours.names)
        kind, missing = "look" if doubted else "list", set(names)

        def take(name: str, answer: Answer, at: Instant) -> Outputs:
            missing.discard(name)
            why = self._add(read, self._ours.orders(answer.reply.data, name), answer.reply)
            if is_account_unknown(answer.reply):
                self._reach.unknown[name] = answer.reply.evidence
            elif doubted and not why:
                self._reach.unknown.pop(name, None)
            if why and not doubted:
                read.list_whys.append(f"{name}: {why}")
            if missing:
                return ()
            return self._end(read, at) if doubted else self._on_listed(read, at)

        requests = [self._get(kind, f"{path_of(name)}/orders", read, partial(take, name), now) for name in names]
        return tuple(output for outputs in requests for output in outputs)

    # ── the steps of a read: orders, positions, accounts, doubts ──────────────────────────────────────────────────

    def _on_orders(self, read: UserRead, answer: Answer, now: Instant) -> Outputs:
        if answer.status == 404:
            self.has_path = False
            return self._request_orders(read, now)
        return self._on_list(read, self._ours.orders(answer.reply.data), answer.reply, now)

    def _on_rpc(self, read: UserRead, answer: Answer, now: Instant) -> Outputs:
        listed = self._rpc_orders(answer.reply)
        if listed is None:
            self.has_rpc = answer.is_lost or is_limited(answer.reply) or is_offline(answer.reply)
            read.over_ws = False
            return self._request_each(read, now)
        return self._on_list(read, listed, answer.reply, now)

    def _rpc_orders(self, reply: Reply) -> AccountOrders | None:
        """Return the list in an RPC's reply, None if it has none."""
        listed = self._ours.orders(reply.data) if reply.ok else None
        return listed if listed is not None and (listed.orders or not listed.why) else None

    def _on_list(self, read: UserRead, listed: AccountOrders, reply: Reply, now: Instant) -> Outputs:
        read.refusal = None if reply.ok else reply
        if why := self._add(read, listed, reply):
            read.list_whys.append(why)
        return self._on_listed(read, now)

    def _add(self, read: UserRead, listed: AccountOrders, reply: Reply) -> str:
        """Add a list's orders to a read, those beside an error too; return why the list may not be whole."""
        read.shown.extend(listed.orders)
        read.orders.update(self._knowledge.open_orders(listed.orders, read.asked_ns))
        return (warning(reply.data, self.wire.words) or listed.why) if reply.ok else reply.evidence

    def _on_listed(self, read: UserRead, now: Instant) -> Outputs:
        if read.list_whys or not read.urgent:
            return self._end(read, now)
        if self._flattens.is_on:
            return self._get("positions", "/v1/api/positions", read, partial(self._on_positions, read), now)
        return self._check_accounts(read, now)

    def _on_positions(self, read: UserRead, answer: Answer, now: Instant) -> Outputs:
        reply, why = answer.reply, answer.reply.evidence
        if reply.ok:
            positions, why = self._ours.positions(reply.data)
            read.positions = None if why and not positions else positions
            why = warning(reply.data, self.wire.words) or why
        if why:
            read.troubles.append(why if answer.is_lost else f"positions: {why}")
        return self._check_accounts(read, now)

    def _check_accounts(self, read: UserRead, now: Instant) -> Outputs:
        """Request the snapshot that shows whether empty lists have covered every account."""
        if read.troubles or read.left:
            return self._end(read, now)
        return self._get("reach", SNAPSHOT, read, partial(self._on_snapshot, read), now)

    def _on_snapshot(self, read: UserRead, answer: Answer, now: Instant) -> Outputs:
        reply, why = answer.reply, answer.reply.evidence
        if reply.ok:
            if unreached := describe_unreached(self._reach.on_read_snapshot(reply.data)):
                read.troubles.append(unreached)
            why = warning(reply.data, self.wire.words)
        if why:
            read.troubles.append(f"accounts: {why}")
        if read.troubles or not self._reach.unknown:
            return self._end(read, now)
        return self._request_each(read, now, tuple(self._reach.unknown))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, read: UserRead, now: Instant) -> Outputs:
        why = self.wire.words("; ".join(read.list_whys), limit=MAX_TROUBLE) if read.list_whys else ""
        alive = [*read.orders.values()]
        if not why:
            alive += self._knowledge.kept_orders(read.shown, read.orders)
        unknown = tuple(
            UnexplainedMessage(self.wire.words("order", order.id, "is in state Unknown"))
            for order in alive
            if order.status == "unknown"
        )
        if not read.urgent:
            return (*self._end_probe(read, alive, why, now), *unknown)
        flattened: Outputs = ()
        if read.positions is not None:
            positions, flattened = self._flattens.on_read(read, now)
            self._knowledge.planner.on_positions(
                (held.account for held in read.positions), whole=not (read.troubles or read.list_whys)
            )
            read.orders = {order.id: order for order in (*positions, *alive)}
        is_empty = not (read.left or why or read.troubles)
        if is_empty and (unheard := self._reach.why_unknown()):
            read.troubles.append(unheard)
        if read.troubles:
            read.troubles[:] = [self.wire.words("; ".join(read.troubles), limit=MAX_TROUBLE)]
        facts = self.read_backs.take_list(read, LIST, alive, why, now)
        return (*flattened, *facts, *self._reach.report_change(), *unknown)

    def _end_probe(self, read: UserRead, alive: list[Order], why: str, now: Instant) -> Outputs:
        """End a probe, which proves no account clear: it reads neither accounts nor positions."""
        if why and not read.shown:
            if read.refusal is not None and is_limited(read.refusal):
                return ()  # another program uses the tokens up; the lane itself works
            return (NotReady(Route.HTTP, 0, why, fatal=read.refusal is not None and read.refusal.key_refused),)
        listed = self.book.apply_listing(LIST, alive, read.asked_ns, whole=not why)
        orders = tuple(alive if why else self.book.orders.values())
        lane: Outputs = ()
        if not read.over_ws:
            is_proven = not (self._reach.is_owed or self._reach.unseen)
            lane = (NotReady(Route.HTTP, 0, why),) if why else (Ready(Route.HTTP, 0),) if is_proven else ()
        fact = (OrdersRead(orders, not why, read.asked_ns, why),) if orders else ()
        return (*lane, *fact, *listed, *self.read_backs.look_over(now))

    # ── a new connection ──────────────────────────────────────────────────────────────────────────────────────────

    def greet(self, conn: int, now: Instant) -> Send:
        """Return the RPC that proves a new connection: a harmless read that goes through to the add-on."""
        self.has_rpc = True
        read = UserRead(now.mono_ns, {LIST}, urgent=False, over_ws=True)
        return self.wire.rpc(conn, HELLO, "GetAllOrders", {}, HelloPart(self, read, conn), now)

    def on_greeted(self, read: UserRead, conn: int, reply: Reply, now: Instant) -> Outputs:
        """Apply the reply to the greeting: any proves the connection; it may show orders, or the add-on offline."""
        ready = Ready(Route.WS, conn)
        self.book.start_pushes(conn, read.asked_ns)
        if is_offline(reply):
            return (ready, NotReady(Route.HTTP, 0, reply.evidence))
        listed = self._rpc_orders(reply)
        if listed is None:
            self.has_rpc = is_limited(reply)
            return (ready,)
        return (ready, *self._on_list(read, listed, reply, now))


class HelloPart(NamedTuple):
    """The RPC that proves a new connection."""

    reader: UserReader
    read: UserRead
    conn: int
    reads: bool = True

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        return self.reader.on_greeted(self.read, self.conn, reply, now)

    def on_lost(self, now: Instant) -> Outputs:
        return ()
