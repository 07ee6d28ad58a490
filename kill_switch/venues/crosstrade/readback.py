"""Read a CrossTrade user's orders, and positions if they are to be closed, with few tokens.

The adapter begins reads; each read ends in one call of `OrderKnowledge.on_read`. Nothing here concludes that an
account is clear: the sweep does. § numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from kill_switch.core.domain import Instant, OrderState
from kill_switch.venues.crosstrade.account_reach import MAX_TROUBLE, AccountReach
from kill_switch.venues.crosstrade.doubted_orders import DoubtedOrders
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.replies import (
    AccountDirectory,
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
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import Outputs, Replied

READ_AGAIN_S = 1.0  # a slow read takes its second route no sooner: the relay to the add-on may need most of a second
LIST_WITHIN_S = 1.5  # after this GetAllOrders over the WebSocket counts as unanswered
MAX_LOOK_UPS = 5  # orders and accounts in doubt that one read looks up


class Ask(NamedTuple):
    """A request of a read: over REST, or by RPC on the connection `conn`."""

    kind: str
    target: str
    conn: int | None = None


class Answer(NamedTuple):
    """The reply to a request; a lost request has one without data."""

    reply: Reply
    status: int = 200  # of HTTP
    is_lost: bool = False


# Requests that leave together, and facts that are known before them → their answers by number, in the order of their
# arrival, and the moment; at last facts.
Steps = Generator[tuple[list[Ask], Outputs], tuple[dict[int, Answer], Instant], Outputs]
OrderSteps = Generator[tuple[list[Ask], Outputs], tuple[dict[int, Answer], Instant], tuple[Reply | None, Instant]]
Target = tuple[str, str]  # what is looked up: an order, or "" for all of an account's, and the account


@dataclass(slots=True, eq=False)
class ReadRun:
    """A read in progress, and the answers to the requests that have left together."""

    read: UserRead
    steps: Steps
    answers: dict[int, Answer] = field(default_factory=dict)
    asked: int = 0


@dataclass(slots=True, eq=False)
class UserReader:
    """Carry out reads of all the user's orders.

    A single token covers every NT account, by `GET /orders` (an inferred path) or `GetAllOrders` over the WebSocket.
    Without either, each account's list is requested. Positions are requested after the orders have come, so that an
    order that fills between the two shows as a position.

    The kit's read-backs do not serve: an empty list is no proof without a snapshot, and NT accounts are looked up too.
    A list covers only the accounts that NinjaTrader shows at that moment. So an empty list is complete only if a
    snapshot, requested after it, shows each of our accounts connected to its broker. And each order and account in
    doubt (`DoubtedOrders`) is looked up. A sweep needs two clean reads, which puts its last list between two snapshots.

    A request that is refused for want of tokens is repeated from the queue, after the cancels that wait. A read that
    begins while cancels wait requests nothing, and ends with that reason.
    """

    wire: UserWire
    ours: AccountDirectory
    doubts: DoubtedOrders
    turns: RequestQueue
    knowledge: OrderKnowledge  # gets each read that has ended
    reach: AccountReach  # gets each snapshot
    positions: bool  # positions are read too
    has_path: bool = True  # REST has GET /orders
    has_rpc: bool = True  # the WebSocket has GetAllOrders
    _repeated: dict[ReadRun, None] = field(default_factory=dict)  # reads with requests in the queue
    _count: int = 0

    def begin(self, read: UserRead, now: Instant) -> Outputs:
        """Begin a read; a read whose requests wait in the queue ends first, because the new read replaces it."""
        outputs: Outputs = ()
        if not read.probe:
            for before in self._repeated:
                before.steps.close()
                outputs += self._end(before.read, now, why="another read takes its place")
            self._repeated.clear()
            self.turns.drop_reads()
            if waiting := self.turns.cancels:
                why = f"{waiting} cancel(s) wait for a request token: nothing was read"
                return (*outputs, *self._end(read, now, why=why))
        run = ReadRun(read, self._steps(read, now))
        return (*outputs, *self._advance(run, None, now))

    # ── requests and answers ──────────────────────────────────────────────────────────────────────────────────────

    def _advance(self, run: ReadRun, answers: dict[int, Answer] | None, now: Instant) -> Outputs:
        """Carry out the next step of a read: send the requests that it asks for, or return the facts of its end."""
        try:
            asks, facts = next(run.steps) if answers is None else run.steps.send((answers, now))
        except StopIteration as end:
            outputs: Outputs = end.value or ()  # a read that was replaced has no facts
            return outputs
        run.asked, run.answers = len(asks), {}
        for number, ask in enumerate(asks):
            facts += self._ask(ReadPart(self, run, number), ask, now)
        return facts

    def _ask(self, part: ReadPart, ask: Ask, now: Instant) -> Outputs:
        if ask.conn is not None:
            self._count += 1
            tag = f"r{self._count}"
            frame = self.wire.rpc(ask.conn, tag, ask.target, {}, part, now)
            return (frame, self.wire.timers.start(LIST_WITHIN_S, partial(self._on_silence, tag, ask.conn, part)))
        is_probe = part.run.read.probe
        once = is_probe or self.wire.bucket.contended(now)
        again_s = None if once else max(READ_AGAIN_S, self.wire.second_route.read_s)
        return self.wire.get(ask.kind, ask.target, part, now, urgent=not is_probe, again_s=again_s)

    def _on_silence(self, tag: str, conn: int, part: ReadPart, now: Instant) -> Outputs:
        """Go on without the RPC of this id if it is not answered yet."""
        return () if self.wire.frames.take(tag, conn) is None else part.on_lost(now)

    def answer(self, part: ReadPart, answer: Answer, now: Instant) -> Outputs:
        """Process the answer to a request; the last of those that left together leads to the next step."""
        run = part.run
        run.answers[part.number] = answer
        if len(run.answers) < run.asked:
            return ()
        return self._advance(run, run.answers, now)

    def queue(self, part: ReadPart, call: PendingCall, now: Instant) -> Outputs:
        """Repeat a request that was refused for want of tokens, from the queue."""
        self._repeated[part.run] = None
        return self.turns.queue_read(partial(self._repeat, part.run, call), now)

    def _repeat(self, run: ReadRun, call: PendingCall, now: Instant) -> Outputs:
        self._repeated.pop(run, None)
        return self.wire.calls.start_call(call.kind, call.build, now, urgent=True, context=call.part)

    def rpc_orders(self, reply: Reply) -> AccountOrders | None:
        """Return the list in an RPC's reply, None if it has none."""
        listed = self.ours.orders(reply.data) if reply.ok else None
        return listed if listed is not None and (listed.orders or not listed.why) else None

    # ── the steps of a read: orders, positions, accounts, doubts ──────────────────────────────────────────────────

    def _steps(self, read: UserRead, now: Instant) -> Steps:
        refused, now = yield from self._list_orders(read, now)
        if read.troubles:
            return self._end(read, now, refused)
        read.ordered = True
        self.doubts.on_list(read.orders)
        if read.probe:  # it ends without waiting for its one look-up, which may spare a later kill's read that look-up
            facts = self.knowledge.on_read(read, now)
            doubts = self._unlisted_doubts(read, 1) if self.wire.bucket.spare(now, 1) else []
            if not doubts:
                return facts
            answers, now = yield [_look_up(target) for target in doubts], facts
            self._apply_look_ups(doubts, answers, read)
            return ()
        if self.positions:
            answers, now = yield [Ask("positions", "/v1/api/positions")], ()
            self._apply_positions(answers[0], read)
        if not read.troubles and not read.left:
            answers, now = yield [Ask("reach", SNAPSHOT)], ()  # whether empty lists have covered every account
            self._apply_snapshot(answers[0].reply, read)
            if not read.troubles:
                doubts = self._unlisted_doubts(read, max(1, min(MAX_LOOK_UPS, int(self.wire.bucket.left(now)) - 1)))
                if doubts:
                    answers, now = yield [_look_up(target) for target in doubts], ()
                    self._apply_look_ups(doubts, answers, read)
                read.add_trouble(self.doubts.why())
        return self.knowledge.on_read(read, now)

    def _end(self, read: UserRead, now: Instant, refused: Reply | None = None, why: str = "") -> Outputs:
        """End a read as incomplete; its orders so far are still reported. `refused` is the reply that refused it."""
        read.add_trouble(why)
        if read.probe and not read.orders:
            return self.knowledge.on_failed_probe(self.wire.words("; ".join(read.troubles), limit=MAX_TROUBLE), refused)
        return self.knowledge.on_read(read, now)

    def _list_orders(self, read: UserRead, now: Instant) -> OrderSteps:
        """Request a read's orders in the way that is left: over REST, the WebSocket, or account by account.

        Return the reply that refused the list of all orders, else None; and the moment.
        """
        if self.has_path:
            answers, now = yield [Ask("orders", "/v1/api/orders")], ()
            answer = answers[0]
            if answer.status != 404:
                return self._apply_list(self.ours.orders(answer.reply.data), answer.reply, read), now
            self.has_path = False
        conn = self.wire.carrier(now)
        if self.has_rpc and conn is not None:
            read.conn = conn
            answers, now = yield [Ask("rpc", "GetAllOrders", conn)], ()
            answer = answers[0]
            listed = self.rpc_orders(answer.reply)
            if listed is not None:
                return self._apply_list(listed, answer.reply, read), now
            self.has_rpc = answer.is_lost or is_limited(answer.reply) or is_offline(answer.reply)
        names = self.ours.names
        answers, now = yield [_look_up(("", name), "list") for name in names], ()
        for number, answer in answers.items():
            why = self._apply_account_list(names[number], answer.reply, read)
            read.add_trouble(why and f"{names[number]}: {why}")
        return None, now

    def _apply_list(self, listed: AccountOrders, reply: Reply, read: UserRead) -> Reply | None:
        """Apply the list of all accounts; return the reply if it is a refusal."""
        read.orders.extend(listed.orders)
        read.add_trouble((warning(reply.data, self.wire.words) or listed.why) if reply.ok else reply.evidence)
        return None if reply.ok else reply

    def _apply_account_list(self, name: str, reply: Reply, read: UserRead) -> str:
        """Apply the list of one account; return why it may not be whole."""
        if is_account_unknown(reply):
            self.doubts.on_account_unknown(name, reply.evidence)
        listed = self.ours.orders(reply.data, name)
        read.orders.extend(listed.orders)
        return (warning(reply.data, self.wire.words) or listed.why) if reply.ok else reply.evidence

    def _apply_positions(self, answer: Answer, read: UserRead) -> None:
        reply, why = answer.reply, answer.reply.evidence
        if reply.ok:
            read.positions, why = self.ours.positions(reply.data)
            read.positioned = not why or bool(read.positions)
            why = warning(reply.data, self.wire.words) or why
        read.add_trouble(why if answer.is_lost else why and f"positions: {why}")

    def _apply_snapshot(self, reply: Reply, read: UserRead) -> None:
        why = reply.evidence
        if reply.ok:
            read.add_trouble(describe_unreached(self.reach.on_read_snapshot(reply.data)))
            why = warning(reply.data, self.wire.words)
        read.add_trouble(why and f"accounts: {why}")

    # ── doubts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _unlisted_doubts(self, read: UserRead, most: int) -> list[Target]:
        """Return at most `most` of the accounts and unlisted orders in doubt; later reads look up the others."""
        listed = {account_order.order.id for account_order in read.orders} if self.doubts.orders() else set()
        targets = [("", name) for name in self.doubts.accounts()]
        targets += [
            (order_id, account)
            for order_id, account in self.doubts.orders().items()
            if account in self.ours.names and order_id not in listed and is_id(order_id)
        ]
        return targets[:most]

    def _apply_look_ups(self, targets: list[Target], answers: dict[int, Answer], read: UserRead) -> None:
        for number, answer in answers.items():
            order, account = targets[number]
            if order:
                self.doubts.on_look_up(order, self._apply_order(order, account, answer.reply, read))
            elif not self._apply_account_list(account, answer.reply, read):
                self.doubts.on_account_shown(account)

    def _apply_order(self, order: str, account: str, reply: Reply, read: UserRead) -> str:
        """Apply the look-up of an order of an account; return what it has shown."""
        if is_account_unknown(reply):
            self.doubts.on_account_unknown(account, reply.evidence)
        if is_order_ended(reply):
            self.doubts.on_ended(order)
        if not reply.ok:
            return reply.evidence
        account_order = self.ours.order(reply.data, account)
        if account_order is None or not account_order.account or not account_order.order.status:
            return "the order cannot be read"
        # the broker may have renumbered the order (§ 2)
        account_order = account_order._replace(order=account_order.order._replace(id=order))
        if account_order.order.state is OrderState.GONE:
            self.doubts.on_ended(order)
        else:
            read.orders.append(account_order)
        return f"it is {account_order.order.status}"


def _look_up(target: Target, kind: str = "look") -> Ask:
    order, account = target
    return Ask(kind, f"{path_of(account)}/orders/{order}" if order else f"{path_of(account)}/orders")


class ReadPart(NamedTuple):
    """A request of a read, by its number among those that have left together."""

    reader: UserReader
    run: ReadRun
    number: int

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        if is_limited(reply) and not self.run.read.probe:
            return self.reader.queue(self, call, now)
        return self.reader.answer(self, Answer(reply, replied.status), now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.reader.answer(self, Answer(Reply(ReplyOutcome.NO_ANSWER, why or "lost"), is_lost=True), now)

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        return self.reader.answer(self, Answer(reply), now)

    def on_lost(self, now: Instant) -> Outputs:
        """Go on without the answer to an RPC, because it is late or the connection is gone."""
        return self.reader.answer(self, Answer(Reply(ReplyOutcome.NO_ANSWER, "no answer"), is_lost=True), now)
