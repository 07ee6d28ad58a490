"""KUNA's REST calls; § numbers are those of docs/venues/kuna.md.

The simulated venue answers HTTP requests with them. It has no call that neither the file nor ccxt's client knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.protocol import Request, SimAnswer
from kill_switch.sim.kit.venue import Route
from kill_switch.sim.kuna import payloads as wire
from kill_switch.sim.kuna.orders import KunaExchange, KunaOptions

_ORDERS = "/v4/order/private"
_DAY_NS = 86_400 * 10**9
_TIMESTAMP, _CURRENCIES, _MARKETS = "/v4/public/timestamp", "/v4/public/currencies", "/v4/markets/public/getAll"
PUBLIC = frozenset({_TIMESTAMP, _CURRENCIES, _MARKETS})


class KunaRest(KunaExchange):
    """Answer REST calls."""

    def __init__(self, options: KunaOptions, accounts: int) -> None:
        super().__init__(options, accounts)
        self._routes: dict[tuple[str, str], Route] = {
            ("POST", f"{_ORDERS}/cancel/multi"): Route("cancel", "cancel-multi", self._cancel_multi),
            ("POST", f"{_ORDERS}/cancel"): Route("cancel", "cancel", self._cancel_one),
            ("POST", f"{_ORDERS}/create"): Route("other", "place", self._place),
            ("GET", f"{_ORDERS}/active"): Route("read", "orders", self._active),
            ("GET", f"{_ORDERS}/history"): Route("read", "history", self._history),
            ("GET", "/v4/trade/private/history"): Route("read", "trades", self._trades),
            ("GET", "/v4/private/getBalance"): Route("read", "balance", self._balance),
            ("GET", "/v4/private/me"): Route("read", "me", self._me),
            ("GET", _TIMESTAMP): Route("other", "timestamp", self._timestamp),
            ("GET", _CURRENCIES): Route("other", "currencies", self._currencies),
            ("GET", _MARKETS): Route("other", "markets", self._markets),
        }
        self._details_route = Route("read", "order", self._details)

    def route(self, request: Request) -> Route | None:
        """Return the request's route (§3)."""
        if request.method == "GET" and request.path.startswith(f"{_ORDERS}/details/"):
            return self._details_route
        return self._routes.get((request.method, request.path))

    # cancels

    def _cancel_multi(self, account: Account, request: Request) -> SimAnswer:
        """Cancel the open ones of these orders, and report the others as not cancelled (§3.2)."""
        body = self._body(request)
        if isinstance(body, SimAnswer):
            return body
        ids = body.get("orderIds")
        if not isinstance(ids, list) or not ids:
            return self.http_error(500, "WrongRequestException", "orderIds must be an array")
        if not all(map(wire.is_uuid, ids)):  # one malformed id fails the whole call (§3.2)
            return self.http_error(500, "WrongRequestException", "each value in orderIds must be a UUID")
        most = self.options.batch_max
        if most and len(ids) > most:
            return self.http_error(400, None, f"orderIds must contain no more than {most} elements")
        there = [account.open[order_id] for order_id in dict.fromkeys(ids) if self._can_cancel(account, order_id)]
        gone = next(
            (self._gone(account, order_id) for order_id in ids if not self._can_cancel(account, order_id)), None
        )
        done = {order.id for order in self.cancel(account, there, whole=True)}
        if gone is not None and self.options.partial == "error":
            return gone
        return self.good([{self.options.id_key: order_id, "success": order_id in done} for order_id in ids])

    def _cancel_one(self, account: Account, request: Request) -> SimAnswer:
        """Cancel one order (§3.1)."""
        body = self._body(request)
        if isinstance(body, SimAnswer):
            return body
        order_id = body.get("orderId")
        if not wire.is_uuid(order_id):
            return self.http_error(500, "WrongRequestException", "orderId must be a UUID")
        order = account.open[str(order_id)] if self._can_cancel(account, str(order_id)) else None
        self.cancel(account, [] if order is None else [order], whole=False)
        return self._gone(account, str(order_id)) if order is None else self.good({"success": True})

    def _can_cancel(self, account: Account, order_id: str) -> bool:
        order = account.open.get(order_id)
        return order is not None and (self.options.cancels_pending or order.state != "Pending")

    def _gone(self, account: Account, order_id: str) -> SimAnswer:
        """Return the error for an order that cannot be cancelled (§4); for an unknown order it is [U]."""
        order = account.closed.get(order_id) or account.open.get(order_id)
        if order is None:
            return self.http_error(404, None, "Order not found")
        return self.http_error(400, None, f"Order with status {order.state} can't be canceled")

    def _body(self, request: Request) -> Mapping[str, Any] | SimAnswer:
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return self.http_error(500, None, "Invalid JSON")
        return body if isinstance(body, dict) else self.http_error(500, None, "Invalid JSON")

    # reads

    def _active(self, account: Account, request: Request) -> SimAnswer:
        """List open orders, newest first, a hundred at most (§3.4)."""
        if self.list_fails(account, "active"):
            return self.http_error(500, None, None)
        states = {"Open"} | ({"WaitStop"} if self.options.active_has_stops else set())
        states |= {"Pending"} if self.options.lists_pending == "active" else set()
        return self._page(request, [order for order in self.listed(account, "active") if order.state in states])

    def _history(self, account: Account, request: Request) -> SimAnswer:
        """List orders of one status; without a status, all except Open (§3.5)."""
        status = request.parameters().get("status")
        if status is not None and status not in wire.STATUSES:
            return self.http_error(400, None, f"status must be one of {', '.join(wire.STATUSES)}")
        if status is not None and self.list_fails(account, status):
            return self.http_error(500, None, None)
        pending = self.options.lists_pending == "history"
        orders = self.listed(account, status or "history", ended=True)
        orders = [order for order in orders if pending or order.state != "Pending"]
        return self._page(
            request, [order for order in orders if (order.state == status if status else order.state != "Open")]
        )

    def _page(self, request: Request, orders: list[Order]) -> SimAnswer:
        wanted = request.parameters()
        limit, sort = wanted.get("limit", "100"), wanted.get("sort", "desc")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= 100) or sort not in ("asc", "desc"):
            return self.http_error(400, None, "limit must be from 1 to 100, sort must be asc or desc")
        days = self.options.list_days
        start: int | None = self.now_ns() - int(days * _DAY_NS) if days else 0
        end: int | None = self.now_ns() + _DAY_NS
        if "start" in wanted:
            start = wire.moment(wanted["start"])
        if "end" in wanted:
            end = wire.moment(wanted["end"])
        if start is None or end is None:
            return self.http_error(400, None, "start and end must be ISO 8601 dates")
        pairs = set(wanted["pairs"].split(",")) if wanted.get("pairs") else None
        matches = [
            order for order in orders if start <= order.created_ns <= end and (pairs is None or order.symbol in pairs)
        ]
        matches.sort(key=lambda order: order.created_ns, reverse=sort == "desc")
        return self.good([wire.order_item(order) for order in matches[: int(limit)]])

    def _details(self, account: Account, request: Request) -> SimAnswer:
        order_id = request.path.rpartition("/")[2]
        if not wire.is_uuid(order_id):
            return self.http_error(500, "WrongRequestException", "id must be a UUID")
        order = account.open.get(order_id) or account.closed.get(order_id)
        return self.http_error(404, None, "Order not found") if order is None else self.good(wire.order_item(order))

    def _trades(self, account: Account, request: Request) -> SimAnswer:
        return self.good([])

    def _balance(self, account: Account, request: Request) -> SimAnswer:
        return self.good([{"currency": "USDT", "balance": wire.plain(account.equity), "lockBalance": "0"}])

    def _me(self, account: Account, request: Request) -> SimAnswer:
        return self.good({"id": account.venue_id})

    def _timestamp(self, account: Account, request: Request) -> SimAnswer:
        milliseconds = self.now_ns() // 1_000_000
        return self.good({"timestamp": milliseconds // 1000, "timestamp_miliseconds": milliseconds})

    def _currencies(self, account: Account, request: Request) -> SimAnswer:
        return self.good([wire.currency(code) for code in wire.CURRENCIES])

    def _markets(self, account: Account, request: Request) -> SimAnswer:
        return self.good([wire.market(pair) for pair in wire.PAIRS])

    # place

    def _place(self, account: Account, request: Request) -> SimAnswer:
        """Place an order (§3.5)."""
        body = self._body(request)
        if isinstance(body, SimAnswer):
            return body
        kind, pair = wire.KINDS.get(str(body.get("type"))), body.get("pair")
        quantity, price, stop = (wire.number(body, name) for name in ("quantity", "price", "stopPrice"))
        if kind is None or body.get("orderSide") not in ("Bid", "Ask") or not isinstance(pair, str) or quantity is None:
            return self.http_error(400, None, "type, orderSide, pair or quantity is invalid")
        if (kind != "market" and price is None) or (kind == "stop" and stop is None):
            return self.http_error(400, None, "price or stopPrice is missing")
        order_id = body.get("id")
        if order_id is not None and not (wire.is_uuid(order_id) and self.valid_id(str(order_id))):
            return self.http_error(400, None, "id is invalid")
        if 0 < self.options.max_open <= len(account.open):
            return self.http_error(400, None, f"The maximum number of active orders is {self.options.max_open}")
        order = self.make_order(account, pair, kind, "", 0 if body["orderSide"] == "Bid" else 1)
        order.id = str(order_id or order.id)
        order.qty, order.price, order.stop_price = quantity, price or Decimal(30_000), stop
        account.rest([order])
        self.push_orders(account, [order], "opened")
        if kind == "market":
            account.trade(order, self.now_ns(), self.filled_state)
            self.push_orders(account, [order], "filled")
        return self.good(wire.order_item(order))
