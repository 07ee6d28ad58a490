"""Roxom's REST calls; § numbers are those of docs/venues/roxom.md.

The simulated venue answers HTTP requests with them. It has no call that the file does not document.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.protocol import DeferredAnswer, Request, SimAnswer, json_answer
from kill_switch.sim.kit.venue import Route
from kill_switch.sim.roxom import payloads as wire
from kill_switch.sim.roxom.orders import TYPES, RoxomExchange, RoxomOptions


class RoxomRest(RoxomExchange):
    """Answer REST calls."""

    def __init__(self, options: RoxomOptions, accounts: int) -> None:
        super().__init__(options, accounts)
        prefix = options.path_prefix
        self._orders = f"{prefix}/orders"
        self._routes: dict[tuple[str, str], Route] = {
            ("POST", f"{prefix}/orders/cancel-all"): Route("cancel", "cancel-all", self._cancel_all),
            ("POST", f"{prefix}/orders"): Route("other", "place", self._place),
            ("GET", f"{prefix}/orders"): Route("read", "orders", self._list),
            ("GET", f"{prefix}/positions"): Route("read", "positions", self._positions),
            ("GET", f"{prefix}/accounts/balance"): Route("read", "balance", self._balance),
            ("GET", f"{prefix}/market/instruments"): Route("read", "instruments", self._instruments),
        }
        self._cancel_route = Route("cancel", "cancel", self._cancel_one)
        self._order_route = Route("read", "order", self._order)

    def route(self, request: Request) -> Route | None:
        """Return the request's route (§4)."""
        route = self._routes.get((request.method, request.path))
        if route is None and request.path.startswith(self._orders + "/"):
            parts = request.path[len(self._orders) + 1 :].split("/")
            if request.method == "POST" and len(parts) == 2 and parts[1] == "cancel":
                return self._cancel_route
            if request.method == "GET" and len(parts) == 1:
                return self._order_route
        return route

    # REST: cancels

    def _cancel_all(self, account: Account, request: Request) -> SimAnswer:
        """Cancel every active order of the account (§4.2); orders in pendingcancel are not listed again [I]."""
        stops = self.options.cancel_all_includes_stops
        orders = [
            order
            for order in self.covered(account)
            if order.state != "pendingcancel" and (stops or order.state != "waitingtrigger")
        ]
        if self.options.cancel_all_closes and account.positions:
            for held in list(account.positions.values()):
                account.move(held.symbol, -held.qty, held.entry, held.category)
            self.tell_equity(account)
        if not orders and self.options.nothing == "404":
            return self._refused(404, "Order Not Found", "no active orders")
        named = self.cancel(account, orders, whole=True)
        return json_answer({"data": {"cancelledOrderIds": [order.id for order in named]}, "error": False})

    def _cancel_one(self, account: Account, request: Request) -> SimAnswer | DeferredAnswer:
        """Cancel one order (§4.1); an order that has ended cannot be cancelled (§4.6)."""
        order_id = request.path[len(self._orders) + 1 :].partition("/")[0]
        if not wire.is_uuid7(order_id):
            return self.http_error(400, None, "Invalid order ID")
        order = account.open.get(order_id)
        if order is None:
            gone = account.closed.get(order_id)
            if gone is None:
                return self._refused(404, "Order Not Found", "")
            return self._refused(400, "Cannot Cancel", f"order is {gone.state}")
        if order.state != "pendingcancel":
            self.cancel(account, [order], whole=False)
        elif not self.options.cancels_pending:
            return self._refused(400, "Cannot Cancel", "order is pendingcancel")
        return json_answer({"data": {"success": True}})

    def _refused(self, status: int, title: str, details: str) -> SimAnswer:
        """Return the refusal to cancel or to show an order; only the titles of these errors are documented (§4.6)."""
        known = self.options.error_texts == "titles"
        answer = self.http_error(status, None if known else f"E{status}", title if known else "Request failed")
        body = orjson.loads(answer.bodies[0])
        body["error"]["details"] = details
        return json_answer(body, answer.status, ok=False)

    # REST: reads

    def _data(self, data: object) -> SimAnswer:
        return json_answer({"data": data, "error": False})

    def _unit(self, request: Request) -> str | None:
        unit = request.parameters().get("unit", "sats")
        return unit if unit in ("sats", "btc") else None

    def _list(self, account: Account, request: Request) -> SimAnswer:
        """List orders of one instType, which is required (§4.4)."""
        wanted = request.parameters()
        category, unit = wanted.get("instType"), self._unit(request)
        if not category:
            return self.http_error(400, None, "instType is required")
        if category not in TYPES:
            return self.http_error(400, None, "instType is invalid")
        if unit is None:
            return self.http_error(400, None, "unit is invalid")
        if self.list_fails(account, category):
            return self.http_error(500, None, None)
        orders = self.listed(account, category, ended=wanted.get("includeClosed") == "true")
        symbol, old = wanted.get("symbol"), self.options.fields == "old"
        items = [
            wire.order_item(account, order, unit, old=old)
            for order in orders
            if order.category == category and symbol in (None, order.symbol)
        ][: self.options.page_limit or None]
        return self._data({"orders": items})

    def _order(self, account: Account, request: Request) -> SimAnswer:
        order_id = request.path[len(self._orders) + 1 :]
        order = account.open.get(order_id) or account.closed.get(order_id)
        if order is None:
            return self._refused(404, "Order Not Found", "")
        shown = wire.order_item(account, order, "sats", old=self.options.fields == "old")
        fills = [{"px": wire.plain(order.price), "qty": wire.plain(order.filled)}] if order.filled else []
        return self._data({"order": shown | {"fills": fills}})

    def _positions(self, account: Account, request: Request) -> SimAnswer:
        """List the positions in one symbol; symbol and instType are required (§4.4)."""
        wanted, at = request.parameters(), self.now_ns()
        unit, symbol = self._unit(request), wanted.get("symbol")
        if unit is None or wanted.get("instType") not in TYPES:
            return self.http_error(400, None, "instType or unit is invalid")
        if not symbol:
            return self.http_error(400, None, "symbol is required")
        pnls = zip(account.positions.values(), self.pnls(account), strict=True)
        held = [
            (position, pnl)
            for position, pnl in pnls
            if position.symbol == symbol and position.category == wanted["instType"]
        ]
        if self.options.fields == "old":
            return self._data([wire.old_position(position, pnl, unit, at) for position, pnl in held])
        return self._data({"positions": [wire.position_item(account, position, unit, at) for position, _ in held]})

    def _instruments(self, account: Account, request: Request) -> SimAnswer:
        """List the instruments (§4.4)."""
        return self._data([wire.instrument(symbol) for symbol in wire.SYMBOLS])

    def _balance(self, account: Account, request: Request) -> SimAnswer:
        unit = self._unit(request)
        if unit is None:
            return self.http_error(400, None, "unit is invalid")
        cash = wire.amount(self.money(account.cash), unit)
        if self.options.fields == "old":
            return self._data({"available": cash, "balance": cash, "currency": "BTC"})
        item = {"asset": "BTC", "assetClass": "crypto", "available": cash, "current": cash, "lockedInOrders": "0"}
        return self._data({"balances": [item], "lastUpdated": self.now_ns()})

    # REST: place

    def _place(self, account: Account, request: Request) -> SimAnswer:
        """Place an order (§4.5)."""
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return self.http_error(400, None, "Invalid JSON")
        order = self._new(account, body) if isinstance(body, dict) else "Invalid JSON"
        if isinstance(order, str):
            return self.http_error(400, None, order)
        account.rest([order])
        self.push_orders(account, [order], "opened")
        if order.kind == "market":
            account.trade(order, self.now_ns(), self.filled_state)
            self.push_orders(account, [order], "filled")
        return self._data({"orderId": order.id})

    def _new(self, account: Account, body: Mapping[str, Any]) -> Order | str:
        kinds = {"limit": "limit", "stop": "stop", "stoplimit": "stop", "market": "market"}
        if missing := wire.required(body, "symbol", "instType", "side", "orderType", "qty", "timeInForce", "unit"):
            return f"{missing} is required"
        kind = kinds.get(str(body["orderType"]))
        if kind is None or body["side"] not in ("buy", "sell") or body["instType"] not in TYPES:
            return "orderType, side or instType is invalid"
        if body["timeInForce"] not in ("gtc", "ioc", "gtd"):
            return "timeInForce is invalid"
        try:
            qty = Decimal(str(body["qty"]))
            price = Decimal(str(body["px"])) if str(body["orderType"]) in ("limit", "stoplimit") else None
            stop = Decimal(str(body["triggerPx"])) if kind == "stop" else None
        except (KeyError, InvalidOperation):
            return "qty, px or triggerPx is missing or invalid"
        if not (qty.is_finite() and qty > 0):
            return "qty is invalid"
        order = self.make_order(account, str(body["symbol"]), kind, str(body["instType"]), 0)
        order.side, order.qty, order.stop_price = body["side"], qty, stop
        order.price = order.price if price is None else price
        order.tif = body["timeInForce"]
        order.client_id = str(body.get("clientOrderId", order.client_id))
        return order
