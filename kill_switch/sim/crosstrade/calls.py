"""CrossTrade's API calls, in one table for REST and RPC; § numbers are those of docs/venues/crosstrade.md.

The REST routes and the WebSocket use the table. It has no call that the file does not document.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from kill_switch.sim.crosstrade import payloads as wire
from kill_switch.sim.kit.book import Account, Order, Position
from kill_switch.sim.kit.protocol import Kind
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec

if TYPE_CHECKING:
    from kill_switch.sim.crosstrade.venue import CrossTrade

BASE = "/v1/api"
CANCELLING = ("CancelPending", "CancelSubmitted")
_ENDED_SHOWN = 50
_ORDERS, _ACCOUNT = f"{BASE}/orders", f"{BASE}/accounts/{{account}}"
_ACCOUNT_ORDERS = f"{_ACCOUNT}/orders"
_ORDER = f"{_ACCOUNT_ORDERS}/{{orderId}}"

Result = dict[str, object]


class ApiCall(NamedTuple):
    """An API call: by path, by the names of its RPC, or by both."""

    kind: Kind
    operation: str
    method: str
    path: str
    apis: tuple[str, ...]
    run: Callable[[Account, Params], Result]
    is_relayed: bool = True  # passed on to the add-on in NinjaTrader


class ApiCalls:
    """Carry out the API calls of a venue; the results are the successes, a refusal is raised."""

    def __init__(self, venue: CrossTrade) -> None:
        self._venue = venue
        self._options = venue.options
        self.table = (
            ApiCall("cancel", "cancel", "POST", f"{_ORDER}/cancel", ("Cancel", "CancelOrder"), self._cancel_one),
            ApiCall("cancel", "cancel-all", "POST", f"{_ACCOUNT_ORDERS}/cancel", ("CancelOrders",), self._cancel_all),
            ApiCall(
                "cancel", "cancel-everywhere", "POST", f"{_ORDERS}/cancelall", ("CancelAllOrders",), self._cancel_scope
            ),
            ApiCall("cancel", "flatten", "POST", f"{_ACCOUNT}/positions/flatten", ("Flatten",), self._flatten),
            ApiCall("read", "orders", "GET", _ACCOUNT_ORDERS, ("ListOrders",), self._listing),
            ApiCall(
                "read",
                "all-orders",
                "GET",
                _ORDERS,
                ("GetAllOrders",),
                lambda account, args: self._listing(account, {}),
            ),
            ApiCall("read", "order", "GET", _ORDER, ("GetOrder",), self._order),
            ApiCall("read", "accounts", "GET", f"{BASE}/accounts", ("ListAccounts",), self._accounts),
            ApiCall("read", "snapshot", "GET", f"{BASE}/accounts/snapshot", ("GetAccountSummary",), self._snapshot),
            ApiCall("read", "account", "GET", _ACCOUNT, ("GetAccount",), self._account),
            ApiCall("read", "watermarks", "GET", f"{_ACCOUNT}/watermarks", (), self._watermarks, False),
            ApiCall("read", "positions", "GET", f"{BASE}/positions", ("GetAllPositions",), self._positions),
            ApiCall("other", "endpoints", "GET", f"{BASE}/_endpoints", (), self._endpoints, False),
        )

    def routes(self) -> dict[tuple[str, str], RouteSpec]:
        """Return the table as REST routes."""
        return {
            (call.method, call.path): RouteSpec(call.kind, call.operation, self.runner(call)) for call in self.table
        }

    def runner(self, call: ApiCall) -> Callable[[Account, Params], Result]:
        """Return the handler of a call: it passes by the add-on, and it resolves the NT account."""

        def run(account: Account, args: Params) -> Result:
            if call.is_relayed and not self._options.addon:
                raise Refused(wire.ERRORS[408], 408)
            if "account" in args or "{account}" in call.path:
                args = {**args, "account": self._nt_account(args.get("account"))}
            result = call.run(account, args)
            warning = self._options.warning if call.kind == "read" else ""
            return {**result, "warning": warning} if warning else result

        return run

    def _nt_account(self, name: object) -> str:
        """Return an NT account that NinjaTrader shows, ignoring case (§2). Raises `Refused` if it is unknown."""
        for shown in self._venue.shown:
            if shown.casefold() == str(name).casefold():
                return shown
        raise Refused("invalid_account", 400, f"Account {name} not found")

    # cancels (§4)

    def _working(self, account: Account, name: str | None, instrument: object = None) -> list[Order]:
        """Return the orders that NinjaTrader can cancel: of one NT account and of one instrument, if they are named."""
        return [
            order
            for order in account.open.values()
            if name in (None, order.category) and _is(order, instrument) and order.state not in CANCELLING
            if self._venue.reaches(order.category)
        ]

    def _known(self, account: Account, args: Params) -> Order | None:
        """Return the order that the arguments name, by its id at placement or by the broker's (§2)."""
        order_id = str(args.get("orderId"))
        order_id = self._venue.aliases.get(order_id, order_id)
        order = account.open.get(order_id) or account.closed.get(order_id)
        is_there = order is not None and order.category == args["account"] and self._venue.reaches(order.category)
        return order if is_there else None

    def _cancel_one(self, account: Account, args: Params) -> Result:
        order_id, order = str(args.get("orderId")), self._known(account, args)
        if order is None or order.id not in account.open:
            # the venue promises that this text is stable
            raise Refused(f"Order linked to '{order_id}' not found or already terminal.", 400)
        if order.state not in CANCELLING:
            self._venue.cancel(account, [order], whole=False)
        return {"orderId": order_id}

    def _instrument(self, args: Params) -> str | None:
        """Return the instrument of a command; None without one. Raises `Refused`: an empty name must not mean all."""
        name = args.get("instrument")
        known = {known for symbol in self._venue.symbols for known in (symbol, symbol.split(" ")[0])}
        if name is not None and name not in known:
            raise Refused("invalid_instrument", 400, f"Instrument '{name}' not found")
        return name

    def _cancel_all(self, account: Account, args: Params) -> Result:
        name = args["account"]
        orders = self._working(account, name, self._instrument(args))
        if not orders:
            return _nothing("orderIds", self._options.nothing, "No working orders", f"{name}", "working orders")
        return {"orderIds": self._cancel(account, orders)}

    def _cancel_scope(self, account: Account, args: Params) -> Result:
        is_everywhere = self._options.cancelall == "everywhere"
        if not is_everywhere and "account" not in args:
            raise Refused("invalid_account", 400, "account is required")
        orders = self._working(account, None if is_everywhere else args["account"])
        return {"cancelled": self._cancel(account, orders), "failed": []}

    def _cancel(self, account: Account, orders: list[Order]) -> list[str]:
        return [self._venue.shown_id(order) for order in self._venue.cancel(account, orders, whole=True)]

    def _flatten(self, account: Account, args: Params) -> Result:
        """Cancel an NT account's orders and close its positions, of one instrument if it is named."""
        name, instrument = args["account"], self._instrument(args)
        held = [position for position in wire.positions(account, name) if _is(position, instrument)]
        if orders := self._working(account, name, instrument):
            self._cancel(account, orders)
        if not held:
            return _nothing("closedPositions", self._options.flat, "No positions to flatten", f"{name}", "positions")
        items = [wire.position_item(position, name, 0.0) for position in held]  # as they were before the flatten
        self._close(account, held)
        return {"closedPositions": items}

    def _close(self, account: Account, held: Sequence[Position]) -> None:
        """Close positions with a market order each, of their present size: two at once reverse a position."""
        wait = self._options.close_ms
        if self._venue.faults.active:
            if self._venue.faults.hit("accept_but_keep", "cancel", account.name):
                return
            if partial := self._venue.faults.hit("partial", "cancel", account.name):
                held = held[: max(0, len(held) - partial.keep)]
            if pending := self._venue.faults.hit("pending", "cancel", account.name):
                wait = pending.ms
        orders = [_closing_order(position, self._venue.now_ns()) for position in held]
        account.rest(orders)
        self._venue.push_orders(account, orders, "opened")
        self._venue.later(wait / 1000, self._closed, account, orders)

    def _closed(self, account: Account, orders: Sequence[Order]) -> None:
        """Fill the orders that have not been cancelled meanwhile."""
        share = Decimal(str(self._options.close_share))
        there = [order for order in orders if order.id in account.open]
        for order in there:
            account.end(order, self._venue.filled_state if share >= 1 else "Rejected", self._venue.now_ns())
            order.filled = order.qty * min(share, Decimal(1))
            filled = order.filled if order.side == "buy" else -order.filled
            account.move(order.symbol, filled, order.price, order.category)
        self._venue.push_orders(account, there, "filled")

    # reads (§5)

    def _listing(self, account: Account, args: Params) -> Result:
        venue, options, name = self._venue, self._options, args.get("account")
        listed = venue.listed(account, "all-orders" if name is None else "orders", ended=options.lists_terminal)
        orders = [order for order in listed if not order.closed_ns]
        orders += [order for order in listed if order.closed_ns][-_ENDED_SHOWN:]
        orders = [order for order in orders if name in (None, order.category) and venue.reaches(order.category)]
        items = [wire.order_item(order, venue.shown_id(order)) for order in orders]
        return {options.orders_key: items[: options.page_limit or None]}

    def _order(self, account: Account, args: Params) -> Result:
        order_id, order = str(args.get("orderId")), self._known(account, args)
        if order is None:
            raise Refused("order_not_found", 400, f"Order {order_id} not found")
        return wire.order_item(order, order_id)

    def _accounts(self, account: Account, args: Params) -> Result:
        return {"accounts": [item["account"] for item in self.summary(account)]}

    def _account(self, account: Account, args: Params) -> Result:
        name = args["account"]
        return wire.account_item(account, name, self._status(name), first=self._is_first(name))

    def _snapshot(self, account: Account, args: Params) -> Result:
        return wire.snapshot(self.summary(account), self._venue.now())

    def _watermarks(self, account: Account, args: Params) -> Result:
        name = args["account"]
        equity, pnl = (float(account.equity), float(account.unrealised)) if self._is_first(name) else (0.0, 0.0)
        stats = {"pnl": pnl, "netliq": equity, "poscount": len(wire.positions(account, name))}
        return {"data": {"account": name, "watermarks": {"netliqhigh": equity, "unrealhigh": pnl}, "stats": stats}}

    def _positions(self, account: Account, args: Params) -> Result:
        held = [
            wire.position_item(position, name, 0.0)
            for name in self._venue.shown
            for position in wire.positions(account, name)
        ]
        return {"positions": held, "count": len(held)}

    def _endpoints(self, account: Account, args: Params) -> Result:
        return {"endpoints": [{"method": call.method, "path": call.path, "rpc": call.apis[:1]} for call in self.table]}

    def summary(self, account: Account) -> list[dict[str, object]]:
        """Return the snapshot's entry for every NT account (§5); the first account has the money."""
        return [
            wire.summary(account, name, self._status(name), first=self._is_first(name)) for name in self._venue.shown
        ]

    def _status(self, name: str) -> str:
        """Return an NT account's connectionStatus (§5)."""
        return "ConnectionLost" if name in split_names(self._options.cut_off) else self._options.broker

    def _is_first(self, name: str) -> bool:
        """Return whether an NT account has the money."""
        return name == self._venue.categories[0]


def _is(item: Order | Position, instrument: object) -> bool:
    return instrument in (None, "", item.symbol, item.symbol.split(" ")[0])


def _closing_order(held: Position, at_ns: int) -> Order:
    """Return the market order that closes a position."""
    side = "sell" if held.qty > 0 else "buy"
    order = Order(uuid.uuid4().hex, held.symbol, "market", side, abs(held.qty), held.entry, "Working", at_ns)
    order.category = held.category
    return order


def _nothing(key: str, how: str, warning: str, name: str, kind: str) -> Result:
    """Return the answer to a command that has found nothing (§2, §4 [U]): empty, with a warning, or a refusal."""
    if how == "400":
        raise Refused(f"No {kind} found for account '{name}'", 400)
    return {key: [], **({"warning": warning} if how == "warning" else {})}


def split_names(text: str) -> tuple[str, ...]:
    """Return the names of a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
