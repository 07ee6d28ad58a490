"""Doubts about CrossTrade's lists: orders and accounts for which an empty list is no proof.

A list shows only what NinjaTrader knows when it is asked (docs/venues/crosstrade.md § 5); an order that NinjaTrader has
forgotten still rests at the broker. `readback` looks each doubted order and account up before it calls a read complete.
Nothing here sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kill_switch.core.domain import OrderState
from kill_switch.venues.crosstrade.replies import AccountOrder, is_account_unknown, is_order_ended, named_orders
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

MAX_DOUBTED = 1000  # orders; one alone already keeps a read from being a proof, so more would change nothing
MAX_NAMED = 3  # orders that a line of evidence names


class DoubtedOrders:
    """Hold the orders and NT accounts that an empty list does not clear.

    An order is doubted from the push that showed it alive until a message ends it. So is an order that was known when
    the venue refused a cancel that covers it. The kit's book does not keep these reasons apart: only the second ends
    with an accepted cancel of the account. An account is doubted after the venue answered that it does not know it.
    """

    def __init__(self) -> None:
        self._pushed: dict[str, str] = {}  # order → account: a push has shown it alive
        self._refused: dict[str, str] = {}  # order → account: it was known when its cancel was refused
        self._unknown: dict[str, str] = {}  # account that the venue does not know → the venue's words
        self._words: dict[str, str] = {}  # order → the result of its latest look-up

    def orders(self) -> dict[str, str]:
        """Return the doubted orders, each with its account."""
        return {**self._pushed, **self._refused}

    def accounts(self) -> tuple[str, ...]:
        """Return the accounts that the venue does not know."""
        return tuple(self._unknown)

    def holds(self, order: str) -> bool:
        return order in self._pushed or order in self._refused

    def on_push(self, account_order: AccountOrder) -> None:
        """Apply a pushed order: a live one is doubted from now on, a terminal one is not."""
        if account_order.order.state is OrderState.GONE:
            self.on_ended(account_order.order.id)
        else:
            _keep(self._pushed, account_order.order.id, account_order.account)

    def on_list(self, orders: Iterable[AccountOrder]) -> None:
        """Apply a list: a terminal state ends an order's doubt, a live state changes nothing."""
        if not self._pushed and not self._refused:
            return
        for account_order in orders:
            if account_order.order.state is OrderState.GONE:
                self.on_ended(account_order.order.id)

    def on_account_cancelled(self, account: str, reply: Reply, known: Iterable[str]) -> None:
        """Apply the final reply to an account-wide cancel; `known` are the account's orders in the book."""
        if reply.ok:
            self.on_account_shown(account)
            self._refused = {order_id: owner for order_id, owner in self._refused.items() if owner != account}
            self._on_named(named_orders(reply) or ())
        elif reply.outcome is ReplyOutcome.REFUSED:
            for order_id in known:
                _keep(self._refused, order_id, account)
            if is_account_unknown(reply):
                self.on_account_unknown(account, reply.evidence)

    def on_order_cancelled(self, account: str, order: str, reply: Reply) -> None:
        """Apply the final reply to the cancel of one order."""
        if is_order_ended(reply):
            self.on_ended(order)
        elif reply.ok:
            self._refused.pop(order, None)
        elif reply.outcome is ReplyOutcome.REFUSED:
            _keep(self._refused, order, account)
            if is_account_unknown(reply):
                self.on_account_unknown(account, reply.evidence)

    def on_ended(self, order: str) -> None:
        """Drop an order that a message has shown in a terminal state."""
        self._pushed.pop(order, None)
        self._refused.pop(order, None)
        self._words.pop(order, None)

    def on_look_up(self, order: str, words: str) -> None:
        """Keep the result of a look-up that has not ended the order, for `why`."""
        if self.holds(order):
            self._words[order] = words

    def on_account_unknown(self, account: str, words: str) -> None:
        self._unknown[account] = words

    def on_account_shown(self, account: str) -> None:
        """Drop the doubt about an account: the venue knows it."""
        self._unknown.pop(account, None)

    def why(self) -> str:
        """Describe the doubts that keep an empty list from being a proof, "" if there are none."""
        parts = [f"the venue does not know NT account {name} ({words})" for name, words in self._unknown.items()]
        orders = self.orders()
        for order in list(orders)[:MAX_NAMED]:
            words = self._words.get(order)
            seen = f"order {order} of {orders[order]} is not listed, and no message has ended it"
            parts.append(f"{seen}: {words}" if words else seen)
        if len(orders) > MAX_NAMED:
            parts.append(f"{len(orders) - MAX_NAMED} more like it")
        return "; ".join(parts)

    def _on_named(self, ids: Sequence[object]) -> None:
        """Drop the pushed orders that an accepted cancel names: later lists rightly lack them."""
        if self._pushed:
            for order_id in ids:
                if isinstance(order_id, str):
                    self.on_ended(order_id)


def _keep(orders: dict[str, str], order: str, account: str) -> None:
    orders.pop(order, None)
    orders[order] = account
    if len(orders) > MAX_DOUBTED:
        del orders[next(iter(orders))]
