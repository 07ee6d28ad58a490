"""The known orders of a CrossTrade user: the book, the orders' NT accounts, doubts, and closing orders.

Reads, pushes and the replies to cancels are applied here, to all of these at once. Nothing here sends.
"""

from __future__ import annotations

from typing import Any

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.venues.crosstrade.account_reach import AccountReach
from kill_switch.venues.crosstrade.doubted_orders import DoubtedOrders
from kill_switch.venues.crosstrade.flatten import Flattener
from kill_switch.venues.crosstrade.readback import UserRead
from kill_switch.venues.crosstrade.replies import AccountDirectory, AccountOrder, CancelReply
from kill_switch.venues.crosstrade.strike_plan import StrikePlanner
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.messages import Outputs, UnexplainedMessage


class OrderKnowledge:
    """Apply lists, pushes and replies to the book and to all that is kept beside it."""

    def __init__(
        self,
        book: OrderBook,
        ours: AccountDirectory,
        planner: StrikePlanner,
        doubts: DoubtedOrders,
        flattens: Flattener,
        reach: AccountReach,
    ) -> None:
        self._book = book
        self._ours = ours
        self._planner = planner
        self._doubts = doubts
        self._flattens = flattens
        self._reach = reach
        self._closing: dict[str, Order] = {}  # orders that close positions, as the latest reads showed them

    def on_cancel_settled(self, account: str, order: str, reply: CancelReply, now: Instant) -> None:
        """Apply the final reply to the cancel of an order, or of all of an account's orders (`order` is "")."""
        if reply.accepted:
            self._book.note_cancelled(order_id for order_id in map(as_text, reply.ids) if order_id)
        if order:
            self._doubts.on_order_cancelled(account, order, reply)
            return
        self._flattens.on_cancels_answered(account, now)
        if reply.accepted:
            self._planner.on_cancel_accepted(account, now)
        theirs = (order_id for order_id in self._book.orders if self._planner.owner(order_id) == account)
        self._doubts.on_account_cancelled(account, reply, theirs)

    def on_push(self, message: dict[str, Any]) -> Outputs:
        """Apply an `orderUpdate`; another NT account's order is ignored."""
        account_order = self._ours.order(message.get("order", message))
        if account_order is None:
            return (UnexplainedMessage("an order push that cannot be read"),)
        if not account_order.account:
            return ()
        self._planner.on_order(account_order)
        self._doubts.on_push(account_order)
        return self._book.apply_push(account_order.order)

    def on_read(self, read: UserRead) -> tuple[tuple[Order, ...], Outputs]:
        """Apply the orders of a read to the book; return the open orders, and the book's facts.

        A whole list ends every order that it lacks, except the orders that are in doubt and those of accounts out of
        reach. An order that closes a position is PENDING, so that no strike cancels it.
        """
        self._flattens.on_market_orders(read)
        alive = self._open_orders(read)
        if not read.ordered:
            for account_order in read.orders:
                self._planner.on_order(account_order)
            return tuple(alive.values()), self._book.apply_listing("orders", alive.values(), read.asked_ns, whole=False)
        return self._apply_whole_list(read, alive)

    def _open_orders(self, read: UserRead) -> dict[str, Order]:
        """Return the orders of a read that have not ended, by id, and note the ends of the others."""
        alive: dict[str, Order] = {}
        for account_order in read.orders:
            order = account_order.order
            if order.state is OrderState.GONE:
                self._book.note_end(order, cancels=False)  # a list does not state when the order ended
            elif self._is_closing(account_order, read):
                alive[order.id] = self._closing[order.id] = order._replace(state=OrderState.PENDING)
            else:
                alive[order.id] = order
        return alive

    def _is_closing(self, account_order: AccountOrder, read: UserRead) -> bool:
        is_live = account_order.order.state is OrderState.LIVE
        return is_live and self._flattens.is_own_order(account_order, read.asked_ns)

    def _apply_whole_list(self, read: UserRead, alive: dict[str, Order]) -> tuple[tuple[Order, ...], Outputs]:
        shown = {account_order.order.id for account_order in read.orders} if self._book.orders else set()
        for order_id in [order_id for order_id in self._closing if order_id not in alive]:
            self._book.note_end(self._closing.pop(order_id)._replace(status="filled"))  # no strike cancelled it
        kept = [
            order for order_id, order in self._book.orders.items() if order_id not in shown and self._is_kept(order_id)
        ]
        kept_ids = {order.id for order in kept}
        self._planner.on_list(read.orders, kept_ids)
        outputs = self._book.apply_listing("orders", alive.values(), read.asked_ns, whole=True, kept=kept_ids)
        self._book.doubted.update(dict.fromkeys(order_id for order_id in kept_ids if self._doubts.holds(order_id)))
        return (*alive.values(), *kept), outputs

    def _is_kept(self, order_id: str) -> bool:
        """Return whether an order stays in the book although a whole list lacks it."""
        return self._doubts.holds(order_id) or self._planner.owner(order_id) in self._reach.unseen
