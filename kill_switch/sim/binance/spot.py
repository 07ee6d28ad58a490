"""The simulated Binance, spot: REST and WebSocket API; § numbers are those of docs/venues/binance.md.

`sim.main` starts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import orjson

from kill_switch.sim.binance import spot_payloads as wire
from kill_switch.sim.binance.known import SPOT
from kill_switch.sim.binance.limits import OrderRule
from kill_switch.sim.binance.spot_calls import calls, routes
from kill_switch.sim.binance.spot_socket import SpotSocket
from kill_switch.sim.binance.venue import BASES, Binance, BinanceOptions
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.options import option

_FIRST_ORDER, _FIRST_LIST = 12_569_099_000, 19_000
_WS = "/ws-api/v3"


@dataclass
class SpotOptions(BinanceOptions):
    """The facts about spot that are inferred or unknown, or differ by account."""

    pool: int = option(6000, "weight that an address may use in a minute (§7); 0 is no limit")
    tells_end: bool = option(True, "a subscription whose key became bad ends with an event (§5)", harsh=False)
    race: int = option(
        0, "so many working legs fill as a cancel-all of their symbol arrives; it misses their pending legs (§12)"
    )


class BinanceSpot(Binance):
    """Spot: orders and order lists."""

    name = "binance-spot"
    options_type = SpotOptions
    options: SpotOptions
    symbols = tuple(f"{base}USDT" for base in BASES)
    kinds = ("limit", "stop", "oco", "oto")  # two of `oco` or `oto` are a list; the second of `oto` is a pending leg
    not_covered = ("twap", "margin", "futures")
    lists = ("orders", "lists")
    reads = ("order", "account", "key", "lock", "wallet", "deposits", "withdrawals")
    order_rules = (OrderRule(50, 10, "10S"), OrderRule(160_000, 86_400, "1D"))
    whole_weights: ClassVar[Mapping[str, float]] = {"orders": 80}
    parameter_names = SPOT

    def __init__(self, options: SpotOptions, accounts: int) -> None:
        self.order_lists: dict[str, wire.OrderList] = {}
        self._latest_list = ""  # whose second leg the admin API rests next
        super().__init__(options, accounts)
        table = calls(self)
        self.socket = SpotSocket(self, table)
        self.sockets[_WS] = self.socket
        self.routes |= routes(self, table)

    # orders and lists

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order; of lists, the even ones begin a list and the odd ones are its second legs."""
        if kind in ("oco", "oto"):
            if number % 2 == 0:
                self._latest_list = self.new_id(_FIRST_LIST)
                group = wire.OrderList(self._latest_list, kind.upper(), wire.client_id(), symbol)
                self.order_lists[group.id] = group
            category = self._latest_list
        has_stop = kind == "stop" or (kind == "oco" and number % 2 == 1)
        order = wire.SpotOrder(
            self.new_id(_FIRST_ORDER), symbol, kind, "sell" if number % 2 else "buy", Decimal("0.01"), Decimal(30_000),
            wire.PENDING if kind == "oto" and number % 2 else "NEW", self.now_ns(),
            Decimal(29_000) if has_stop else None, category=category,
        )  # fmt: skip
        order.client_id = wire.client_id()
        return order

    def place_list(self, account: Account, orders: Sequence[Order]) -> None:
        """Rest the orders of a list; a working order may fill or expire at once, and an expired one ends the list."""
        account.rest(orders)
        self.push_orders(account, orders, "opened")
        self.settle(account, orders[0])
        if orders[0].state == "EXPIRED":
            self.expire_orders(account, orders[1:])

    def legs(self, account: Account, list_id: str) -> list[Order]:
        """Return the open legs of a list."""
        return [order for order in account.open.values() if order.category == list_id]

    def race(self, account: Account, orders: Sequence[Order]) -> list[Order]:
        """Fill the working legs that the option says; return the orders that the cancel-all misses."""
        pending = [order for order in orders if order.state == wire.PENDING][: self.options.race]
        working = [leg for order in pending for leg in self.legs(account, order.category) if leg is not order]
        self.options.race -= len(pending)
        for leg in working:
            if account.trade(leg, self.now_ns(), self.filled_state):
                self.push_orders(account, [leg], "filled")
        return [*pending, *working]

    def push_orders(self, account: Account, orders: Sequence[Order], news: str) -> None:
        """Send order events; a working leg that filled lets the pending legs of its list rest."""
        super().push_orders(account, orders, news)
        if news == "filled":
            lists = {order.category for order in orders if order.category}
            resting = [order for order in account.open.values() if order.category in lists]
            for order in resting:
                if order.state == wire.PENDING:
                    order.state = order.rested_as = "NEW"
                    super().push_orders(account, [order], "opened")
                    if order.kind == "market" and account.trade(order, self.now_ns(), self.filled_state):
                        super().push_orders(account, [order], "filled")

    # sessions

    def detach(self, session: Session, account: Account | None) -> None:
        """End the events of a session; `account` is still logged on."""
        if session.account is not None:
            self.listeners[session.account.name].pop(session.connection, None)
        session.account = account
        if account is not None:
            self.attach(session, account)

    def expire(self, session: Session) -> None:
        """End a session's logon and subscription."""
        self.socket.expired(session)
        super().expire(session)

    def pushes_transfer(self, session: Session, account: Account, amount: Decimal, at_ms: int) -> None:
        """Send balanceUpdate."""
        self.socket.push_transfer(session, amount, at_ms)

    def put_fault(self, name: object, parameters: Mapping[str, object]) -> None:
        """Switch a fault on; maintenance is announced to every WebSocket (§5)."""
        super().put_fault(name, parameters)
        if name == "maintenance":
            text = orjson.dumps({"event": {"e": "serverShutdown", "E": self.now_ns() // 1_000_000}})
            for session in tuple(self.sessions.values()):
                session.connection.say(text)
