"""CrossTrade's API calls, in one table for REST and RPC; § numbers are those of docs/venues/crosstrade.md.

The REST routes and the WebSocket use the table. It has no call that the file does not document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote

import orjson

from kill_switch.sim.crosstrade import payloads as wire
from kill_switch.sim.crosstrade.orders import CANCELLING, CrossTradeExchange, CrossTradeOptions
from kill_switch.sim.kit.book import Account, Order, Position
from kill_switch.sim.kit.protocol import Kind, Request, SimAnswer, json_answer
from kill_switch.sim.kit.venue import Route

BASE = "/v1/api"
_ENDED_SHOWN = 50
_PATHS = 1000  # cached look-ups of paths

Result = tuple[int, dict[str, Any]]
Args = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """An API call: by path, by the name of its RPC, or by both."""

    kind: Kind
    operation: str
    method: str
    path: str  # below /v1/api; {a} and {id} are arguments
    apis: tuple[str, ...]
    run: Callable[[Account, Args], Result]
    addon: bool = True  # passed on to NinjaTrader


class CrossTradeCalls(CrossTradeExchange):
    """Carry out API calls."""

    def __init__(self, options: CrossTradeOptions, accounts: int) -> None:
        super().__init__(options, accounts)
        account_orders, all_orders = "/accounts/{a}/orders", "/orders"
        self.calls = (
            Call(
                "cancel",
                "cancel",
                "POST",
                f"{account_orders}/{{id}}/cancel",
                ("Cancel", "CancelOrder"),
                self._cancel_one,
            ),
            Call("cancel", "cancel-all", "POST", f"{account_orders}/cancel", ("CancelOrders",), self._cancel_orders),
            Call(
                "cancel", "cancel-everywhere", "POST", f"{all_orders}/cancelall", ("CancelAllOrders",), self._cancel_all
            ),
            Call("cancel", "flatten", "POST", "/accounts/{a}/positions/flatten", ("Flatten",), self._flatten),
            Call("read", "orders", "GET", account_orders, ("ListOrders",), self._list),
            Call("read", "all-orders", "GET", all_orders, ("GetAllOrders",), self._list_all),
            Call("read", "order", "GET", f"{account_orders}/{{id}}", ("GetOrder",), self._order),
            Call("read", "accounts", "GET", "/accounts", ("ListAccounts",), self._list_accounts),
            Call("read", "snapshot", "GET", "/accounts/snapshot", ("GetAccountSummary",), self._snapshot),
            Call("read", "account", "GET", "/accounts/{a}", ("GetAccount",), self._account),
            Call("read", "watermarks", "GET", "/accounts/{a}/watermarks", (), self._watermarks, addon=False),
            Call("read", "positions", "GET", "/positions", ("GetAllPositions",), self._positions),
            Call("other", "endpoints", "GET", "/_endpoints", (), self._endpoints, addon=False),
        )
        self.apis = {name: call for call in self.calls for name in call.apis}
        self._found: dict[tuple[str, str, bool], tuple[Call, dict[str, str]] | None] = {}
        self._by_path = {(call.method, tuple(call.path.strip("/").split("/"))): call for call in self.calls}

    # REST

    def route(self, request: Request) -> Route | None:
        """Return the request's route; a fixed path takes precedence over one with arguments (§5)."""
        key = (request.method, request.path, self.options.has_orders)
        if key not in self._found:
            if len(self._found) >= _PATHS:
                self._found.clear()
            self._found[key] = self._find(request)
        match = self._found[key]
        if match is None:
            return None
        call, args = match
        return Route(call.kind, call.operation, lambda account, asked: self._rest(call, account, args, asked))

    def _find(self, request: Request) -> tuple[Call, dict[str, str]] | None:
        if not request.path.startswith(f"{BASE}/"):
            return None
        parts = request.path[len(BASE) + 1 :].split("/")
        best: tuple[int, Call, dict[str, str]] | None = None
        for (method, pattern), call in self._by_path.items():
            if (
                method != request.method
                or len(pattern) != len(parts)
                or (call.operation == "all-orders" and not self._has)
            ):
                continue
            if any(wanted != part for wanted, part in zip(pattern, parts, strict=True) if not wanted.startswith("{")):
                continue
            names = {"{a}": "account", "{id}": "orderId"}
            args = {
                names[wanted]: unquote(part)
                for wanted, part in zip(pattern, parts, strict=True)
                if wanted.startswith("{")
            }
            if best is None or len(args) < best[0]:
                best = (len(args), call, args)
        return None if best is None else (best[1], best[2])

    @property
    def _has(self) -> bool:
        return self.options.has_orders

    def _rest(self, call: Call, account: Account, args: dict[str, str], request: Request) -> SimAnswer:
        body_arguments: Any = {}
        if request.method == "POST":
            try:
                body_arguments = orjson.loads(request.body)
            except orjson.JSONDecodeError:
                body_arguments = None
            if not isinstance(body_arguments, dict):
                return json_answer({"error": "Invalid request"}, 400)  # §4, "POST Cancel Order"
        status, body = self.call(call, account, {**body_arguments, **args})
        return self.http_error(status, None, None) if status in (408, 429) else json_answer(body, status)

    def lost(self, request: Request) -> SimAnswer:
        """Answer an unknown path: with a hint below the API, with the marketing site elsewhere (§1)."""
        if not request.path.startswith(f"{BASE}/"):
            return SimAnswer((b"<!doctype html><title>CrossTrade</title>",), 404, ok=False)
        known = [BASE + call.path for call in self.calls]
        near = get_close_matches(request.path, known, n=1, cutoff=0.3)
        return json_answer({**self.error(404), "did_you_mean": near[0] if near else f"{BASE}/_endpoints"}, 404)

    def call(self, call: Call, account: Account, args: Args) -> Result:
        """Carry out a call, by way of the add-on where the call needs it."""
        if call.addon and not self.options.addon:
            return 408, self.error(408)
        if "{a}" in call.path or "account" in args:
            name = self.nt_account(args.get("account"))
            if name is None:
                return 400, self.error(400, "invalid_account", f"Account {args.get('account')} not found")
            args = {**args, "account": name}
        status, body = call.run(account, args)
        if self.options.warning and call.kind == "read" and status < 400:
            body = {**body, "warning": self.options.warning}
        return status, body

    # cancels (§4)

    def _cancel_one(self, account: Account, args: Args) -> Result:
        order_id = str(args.get("orderId"))
        order = self.find(account, order_id)
        gone = order is None or order.id not in account.open or not self.reaches(order.category)
        if order is None or gone or order.category != args["account"]:
            # the venue promises that this text is stable
            return 400, {"error": f"Order linked to '{order_id}' not found or already terminal."}
        if order.state not in CANCELLING:
            self.cancel(account, [order], whole=False)
        return 200, {"orderId": order_id, "success": True}

    def _cancel_orders(self, account: Account, args: Args) -> Result:
        """Cancel an NT account's orders, of one instrument if it is named."""
        instrument = args.get("instrument")
        orders = [
            order
            for order in account.open.values()
            if order.category == args["account"] and self._is(order, instrument) and order.state not in CANCELLING
            if self.reaches(order.category)
        ]
        if not orders:
            return self._nothing(str(args["account"]))
        named = self.cancel(account, orders, whole=True)
        return 200, {"orderIds": [self.shown_id(order) for order in named], "success": True}

    def _nothing(self, name: str) -> Result:
        if self.options.nothing == "400":
            return 400, {"error": f"No working orders found for account '{name}'"}
        warning = {"warning": "No working orders"} if self.options.nothing == "warning" else {}
        return 200, {"orderIds": [], **warning, "success": True}

    def _cancel_all(self, account: Account, args: Args) -> Result:
        scope = self.options.cancelall
        if scope == "account" and "account" not in args:
            return 400, self.error(400, "invalid_account", "account is required")
        orders = [
            order
            for order in account.open.values()
            if order.state not in CANCELLING and (scope == "everywhere" or order.category == args["account"])
            if self.reaches(order.category)
        ]
        named = self.cancel(account, orders, whole=True)
        return 200, {"cancelled": [self.shown_id(order) for order in named], "failed": [], "success": True}

    def _flatten(self, account: Account, args: Args) -> Result:
        """Cancel an NT account's orders and close its positions, of one instrument if it is named."""
        name = str(args["account"])
        held = [position for position in wire.positions(account, name) if self._is(position, args.get("instrument"))]
        orders = [
            order
            for order in account.open.values()
            if order.category == name and self._is(order, args.get("instrument")) and order.state not in CANCELLING
        ]
        if orders:
            self.cancel(account, orders, whole=True)
        if not held:
            return self._flat(name)
        items = [wire.position_item(position, name, 0.0) for position in held]  # as they were before the flatten
        self.close(account, held)
        return 200, {"closedPositions": items, "success": True}

    def _flat(self, name: str) -> Result:
        if self.options.flat == "400":
            return 400, {"error": f"No positions found for account '{name}'"}
        warning = {"warning": "No positions to flatten"} if self.options.flat == "warning" else {}
        return 200, {"closedPositions": [], **warning, "success": True}

    def _is(self, item: Order | Position, instrument: object) -> bool:
        return instrument in (None, "", item.symbol, item.symbol.split(" ")[0])

    # reads (§5)

    def _listing(self, account: Account, name: str | None) -> Result:
        which = "all-orders" if name is None else "orders"
        listed = self.listed(account, which, ended=self.options.lists_terminal)
        orders = [order for order in listed if not order.closed_ns]
        orders += [order for order in listed if order.closed_ns][-_ENDED_SHOWN:]
        orders = [order for order in orders if name in (None, order.category) and self.reaches(order.category)]
        items = [wire.order_item(order, self.shown_id(order)) for order in orders]
        return 200, {self.options.orders_key: items[: self.options.page_limit or None], "success": True}

    def _list(self, account: Account, args: Args) -> Result:
        return self._listing(account, args["account"])

    def _list_all(self, account: Account, args: Args) -> Result:
        return self._listing(account, None)

    def _order(self, account: Account, args: Args) -> Result:
        order_id = str(args.get("orderId"))
        order = self.find(account, order_id)
        if order is None or order.category != args["account"] or not self.reaches(order.category):
            return 400, self.error(400, "order_not_found", f"Order {order_id} not found")
        return 200, {**wire.order_item(order, order_id), "success": True}

    def _list_accounts(self, account: Account, args: Args) -> Result:
        return 200, {"accounts": [item["account"] for item in self.summary(account)], "success": True}

    def _account(self, account: Account, args: Args) -> Result:
        first = args["account"] == self.categories[0]
        item = wire.account_item(account, args["account"], self.status(args["account"]), first=first)
        return 200, {**item, "success": True}

    def _snapshot(self, account: Account, args: Args) -> Result:
        return 200, wire.snapshot(self.summary(account), self.now())

    def _watermarks(self, account: Account, args: Args) -> Result:
        first = args["account"] == self.categories[0]
        equity, pnl = (float(account.equity), float(account.unrealised)) if first else (0.0, 0.0)
        stats = {"pnl": pnl, "netliq": equity, "poscount": len(wire.positions(account, args["account"]))}
        marks = {"netliqhigh": equity, "unrealhigh": pnl}
        return 200, {"success": True, "data": {"account": args["account"], "watermarks": marks, "stats": stats}}

    def _positions(self, account: Account, args: Args) -> Result:
        held = [
            wire.position_item(position, name, 0.0) for name in self.shown for position in wire.positions(account, name)
        ]
        return 200, {"positions": held, "count": len(held), "success": True}

    def _endpoints(self, account: Account, args: Args) -> Result:
        listed = [{"method": call.method, "path": BASE + call.path, "rpc": call.apis[:1]} for call in self.calls]
        return 200, {"endpoints": listed, "success": True}
