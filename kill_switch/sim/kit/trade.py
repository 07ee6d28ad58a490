"""The handlers of the trade: what calls and messages of every venue do with orders and sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kill_switch.sim.kit.auth import TokenStore
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.tables import Refused
from kill_switch.sim.kit.venue import Venue


class TradeHandlers(Venue):
    """Place, list and cancel orders, and log sessions in; the tables' handlers use it."""

    filled_state = "filled"
    tokens: TokenStore | None = None  # that REST hands out, for the subscriptions of a WebSocket

    def cancel_ids(self, account: Account, ids: Sequence[object], unknown: str) -> list[Order]:
        """Cancel orders by id. Raises `Refused` with the code `unknown`, and cancels nothing, if one is not open."""
        orders = [order for order_id in ids if (order := account.open.get(str(order_id)))]
        if len(orders) < len(ids):
            raise Refused(unknown)
        return self.cancel(account, orders, whole=False)

    def list_open(
        self,
        account: Account,
        name: str,
        render: Callable[[Order], object],
        *,
        start: int = 0,
        count: int | None = None,
    ) -> list[object]:
        """Return a page of a list of open orders; `name` is the list's name in `lists`."""
        orders = self.listed(account, name)
        return [render(order) for order in orders[start : None if count is None else start + count]]

    def new_order(
        self, account: Account, symbol: str, kind: str, category: str = "", number: int = 0, **fields: Any
    ) -> Order:
        """Create an order that a client places; a field of the order that is None keeps its usual value.

        `number` is its place among those that are placed together.
        """
        order = self.make_order(account, symbol, kind, category, number)
        return replace(order, **{name: value for name, value in fields.items() if value is not None})

    def place(self, account: Account, order: Order) -> Order:
        """Rest a new order, and send its events; a market order is filled at once."""
        account.rest([order])
        self.push_orders(account, [order], "opened")
        if order.kind == "market":
            account.trade(order, self.now_ns(), self.filled_as(order))
            self.push_orders(account, [order], "filled")
        return order

    def log_in(self, session: Session, account: Account, ends_in_s: float) -> None:
        """Log a session in, for so many seconds; 0 has no end."""
        self.attach(session, account)
        if ends_in_s > 0:
            self.later(ends_in_s, self.expire, session)

    def expire_logins(self, account_name: str | None) -> None:
        """End the logins of an account, or of all, and their tokens."""
        super().expire_logins(account_name)
        if self.tokens is not None:
            self.tokens.revoke(None if account_name is None else self.account(account_name))

    def expire(self, session: Session) -> None:
        """End a session's login; where a token made its subscriptions, these end, and the WebSocket stays open."""
        super().expire(session)
        if self.tokens is not None:
            session.channels.clear()
