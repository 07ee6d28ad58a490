"""Keep what contradicts a list without orders at CrossTrade: orders that must have ended, and no message has said so.

A list covers what NinjaTrader shows when it is asked for; what NinjaTrader has forgotten rests at the broker all the
same. Two things are not forgotten here. An order that a push has shown alive is open until a message ends it. So is one
that was known when the venue refused a cancel that covers it. `crosstrade_reads` looks each open order up by its id
before it calls a read complete, and each account of which the venue has said that it does not know it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kill_switch.core.domain import OrderState
from kill_switch.venues.crosstrade.replies import AccountOrder, CancelReply

MAX_DOUBTED = (
    1000  # orders that are kept in doubt; a read with one of them is no proof, so that more would change nothing
)
MAX_NAMED = 3  # of them, in a line of evidence


class DoubtedOrders:
    """Hold the orders and NT accounts that a clean list does not answer for."""

    def __init__(self) -> None:
        self._pushed: dict[str, str] = {}  # order → its account: a push has shown it alive
        self._refused: dict[str, str] = {}  # order → its account: known when a cancel of it was refused
        self._unknown: dict[str, str] = {}  # account → the venue's words: it does not know it
        self._words: dict[str, str] = {}  # order → what the last look at it came to

    def orders(self) -> dict[str, str]:
        """Return the orders in doubt, with their accounts."""
        return {**self._pushed, **self._refused}

    def accounts(self) -> tuple[str, ...]:
        """Return the accounts that the venue says it does not know."""
        return tuple(self._unknown)

    def holds(self, order: str) -> bool:
        return order in self._pushed or order in self._refused

    def on_push(self, account_order: AccountOrder) -> None:
        """Take a push: a live order is open from now on, a terminal state ends it."""
        if account_order.order.state is OrderState.GONE:
            self.on_ended(account_order.order.id)
        else:
            _keep(self._pushed, account_order.order.id, account_order.account)

    def on_list(self, orders: Iterable[AccountOrder]) -> None:
        """Take a list: a terminal state ends an order, a live one says nothing new."""
        if not self._pushed and not self._refused:
            return
        for account_order in orders:
            if account_order.order.state is OrderState.GONE:
                self.on_ended(account_order.order.id)

    def on_account_cancelled(self, account: str, reply: CancelReply, known: Iterable[str]) -> None:
        """Take the last word on the cancel of all orders of an account, of which those `known` rest."""
        if reply.accepted:
            self.on_account_shown(account)
            self._refused = {order_id: owner for order_id, owner in self._refused.items() if owner != account}
            self._named(reply.ids)
        elif reply.refused:
            for order_id in known:
                _keep(self._refused, order_id, account)
            if reply.no_account:
                self.on_account_unknown(account, reply.words)

    def on_order_cancelled(self, account: str, order: str, reply: CancelReply) -> None:
        """Take the answer to the cancel of one order."""
        if reply.gone:
            self.on_ended(order)
        elif reply.accepted:
            self._refused.pop(order, None)
        elif reply.refused:
            _keep(self._refused, order, account)
            if reply.no_account:
                self.on_account_unknown(account, reply.words)

    def on_ended(self, order: str) -> None:
        """Take a terminal word on an order."""
        self._pushed.pop(order, None)
        self._refused.pop(order, None)
        self._words.pop(order, None)

    def on_look_up(self, order: str, words: str) -> None:
        """Take note of a look at an order that has not ended it."""
        if self.holds(order):
            self._words[order] = words

    def on_account_unknown(self, account: str, words: str) -> None:
        self._unknown[account] = words

    def on_account_shown(self, account: str) -> None:
        """Take note that the venue knows the account."""
        self._unknown.pop(account, None)

    def why(self) -> str:
        """Say what keeps a list without orders from being a proof, "" if nothing does."""
        parts = [f"the venue does not know NT account {name} ({words})" for name, words in self._unknown.items()]
        orders = self.orders()
        for order in list(orders)[:MAX_NAMED]:
            words = self._words.get(order)
            seen = f"order {order} of {orders[order]} is not listed, and nothing has said that it ended"
            parts.append(f"{seen}: {words}" if words else seen)
        if len(orders) > MAX_NAMED:
            parts.append(f"{len(orders) - MAX_NAMED} more like it")
        return "; ".join(parts)

    def _named(self, ids: Sequence[object]) -> None:
        """Let a cancel that names an order explain why a later list does not."""
        if self._pushed:
            for order_id in ids:
                if isinstance(order_id, str):
                    self.on_ended(order_id)


def _keep(orders: dict[str, str], order: str, account: str) -> None:
    orders.pop(order, None)
    orders[order] = account
    if len(orders) > MAX_DOUBTED:
        del orders[next(iter(orders))]
