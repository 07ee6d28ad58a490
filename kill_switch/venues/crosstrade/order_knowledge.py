"""The known orders of a CrossTrade user: the book, the orders' NT accounts, doubts, and closing orders.

Reads, pushes and the replies to cancels are applied here, to all of these at once; a read's facts are returned. Nothing
here sends, except the flattens that a read's positions release.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kill_switch.core.domain import Instant, Order, OrderState, Route
from kill_switch.venues.crosstrade.account_reach import MAX_TROUBLE, AccountReach
from kill_switch.venues.crosstrade.doubted_orders import DoubtedOrders
from kill_switch.venues.crosstrade.flatten import Flattener
from kill_switch.venues.crosstrade.replies import AccountDirectory, AccountOrder, Words, is_limited, named_orders
from kill_switch.venues.crosstrade.strike_plan import StrikePlanner
from kill_switch.venues.crosstrade.user_read import UserRead
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import NotReady, OrdersRead, Outputs, Ready, UnexplainedMessage


@dataclass(slots=True, eq=False)
class OrderKnowledge:
    """Apply lists, pushes and replies to the book and to all that is kept beside it."""

    book: OrderBook
    ours: AccountDirectory
    planner: StrikePlanner
    doubts: DoubtedOrders
    flattens: Flattener
    reach: AccountReach
    words: Words
    _closing: dict[str, Order] = field(default_factory=dict)  # they close positions, as the latest reads showed them

    def on_cancel_settled(self, account: str, order: str, reply: Reply, now: Instant) -> None:
        """Apply the final reply to the cancel of an order, or of all of an account's orders (`order` is "")."""
        if named := named_orders(reply):
            self.book.note_cancelled(order_id for order_id in map(as_text, named) if order_id)
        if order:
            self.doubts.on_order_cancelled(account, order, reply)
            return
        self.flattens.on_cancels_answered(account, now)
        if reply.ok:
            self.planner.on_cancel_accepted(account, now)
        theirs = (order_id for order_id in self.book.orders if self.planner.owner(order_id) == account)
        self.doubts.on_account_cancelled(account, reply, theirs)

    def on_push(self, message: dict[str, Any]) -> Outputs:
        """Apply an `orderUpdate`; another NT account's order is ignored."""
        account_order = self.ours.order(message.get("order", message))
        if account_order is None:
            return (UnexplainedMessage("an order push that cannot be read"),)
        if not account_order.account:
            return ()
        self.planner.on_order(account_order)
        self.doubts.on_push(account_order)
        return self.book.apply_push(account_order.order)

    # ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_read(self, read: UserRead, now: Instant) -> Outputs:
        """Return the facts of a read; a probe without orders yields no `OrdersRead`, because it proves nothing clear.

        A probe reads neither accounts nor positions, so it reports open orders only.
        """
        alive, outputs = self._apply(read)
        unknown = [
            UnexplainedMessage(self.words("order", order.id, "is in state Unknown"))
            for order in alive
            if order.status == "unknown"
        ]
        why = self.words("; ".join(read.troubles), limit=MAX_TROUBLE) if read.troubles else ""
        if read.probe:
            fact = OrdersRead(alive, not why, read.asked_ns, why)
            return (*self._lane_facts(read, why), *((fact,) if alive else ()), *unknown, *outputs)
        positions: tuple[Order, ...] = ()
        flattened: Outputs = ()
        if read.positioned:
            positions, flattened = self.flattens.on_read(read, now)
            self.planner.on_positions((held.account for held in read.positions), whole=not read.troubles)
        lost = self.reach.report_change()
        return (*flattened, OrdersRead((*positions, *alive), not why, read.asked_ns, why), *lost, *unknown, *outputs)

    def on_failed_probe(self, why: str, reply: Reply | None) -> Outputs:
        """Return the HTTP lane's readiness after a probe that has shown nothing."""
        if reply is not None and is_limited(reply):
            return ()  # another program uses the tokens up; the lane itself works
        return (NotReady(Route.HTTP, 0, why, fatal=reply is not None and reply.key_refused),)

    def _lane_facts(self, read: UserRead, why: str) -> Outputs:
        """Return what a probe over HTTP has shown of that lane; `why` is what kept it from being complete."""
        if read.conn is not None:
            return ()
        if why:
            return (NotReady(Route.HTTP, 0, why),)
        return () if self.reach.is_owed or self.reach.unseen else (Ready(Route.HTTP, 0),)

    def _apply(self, read: UserRead) -> tuple[tuple[Order, ...], Outputs]:
        """Apply the orders of a read to the book; return the open orders, and the book's facts.

        A whole list ends every order that it lacks, except the orders that are in doubt and those of accounts out of
        reach. An order that closes a position is PENDING, so that no strike cancels it.
        """
        self.flattens.on_market_orders(read)
        alive = self._open_orders(read)
        if not read.ordered:
            for account_order in read.orders:
                self.planner.on_order(account_order)
            return tuple(alive.values()), self.book.apply_listing("orders", alive.values(), read.asked_ns, whole=False)
        return self._apply_whole_list(read, alive)

    def _open_orders(self, read: UserRead) -> dict[str, Order]:
        """Return the orders of a read that have not ended, by id, and note the ends of the others."""
        alive: dict[str, Order] = {}
        for account_order in read.orders:
            order = account_order.order
            if order.state is OrderState.GONE:
                self.book.note_end(order, cancels=False)  # a list does not state when the order ended
            elif self._is_closing(account_order, read):
                alive[order.id] = self._closing[order.id] = order._replace(state=OrderState.PENDING)
            else:
                alive[order.id] = order
        return alive

    def _is_closing(self, account_order: AccountOrder, read: UserRead) -> bool:
        is_live = account_order.order.state is OrderState.LIVE
        return is_live and self.flattens.is_own_order(account_order, read.asked_ns)

    def _apply_whole_list(self, read: UserRead, alive: dict[str, Order]) -> tuple[tuple[Order, ...], Outputs]:
        shown = {account_order.order.id for account_order in read.orders} if self.book.orders else set()
        for order_id in [order_id for order_id in self._closing if order_id not in alive]:
            self.book.note_end(self._closing.pop(order_id)._replace(status="filled"))  # no strike cancelled it
        kept = [
            order for order_id, order in self.book.orders.items() if order_id not in shown and self._is_kept(order_id)
        ]
        kept_ids = {order.id for order in kept}
        self.planner.on_list(read.orders, kept_ids)
        outputs = self.book.apply_listing("orders", alive.values(), read.asked_ns, whole=True, kept=kept_ids)
        self.book.doubted.update(dict.fromkeys(order_id for order_id in kept_ids if self.doubts.holds(order_id)))
        return (*alive.values(), *kept), outputs

    def _is_kept(self, order_id: str) -> bool:
        """Return whether an order stays in the book although a whole list lacks it."""
        return self.doubts.holds(order_id) or self.planner.owner(order_id) in self.reach.unseen
