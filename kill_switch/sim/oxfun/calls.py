"""OX.FUN's REST calls; § numbers are those of docs/venues/oxfun.md.

The simulated venue answers HTTP requests with them. It has no call that the file does not document.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.protocol import DeferredAnswer, Request, SimAnswer, json_answer
from kill_switch.sim.kit.venue import Route
from kill_switch.sim.oxfun import payloads as wire
from kill_switch.sim.oxfun.orders import OxfunExchange, OxfunOptions

_ITEMS = 8  # the maximum of orders in a cancel or place request (§4.3, §5)


class OxfunRest(OxfunExchange):
    """Answer REST calls."""

    def __init__(self, options: OxfunOptions, accounts: int) -> None:
        super().__init__(options, accounts)
        self._routes: dict[tuple[str, str], Route] = {
            ("DELETE", "/v3/orders/cancel-all"): Route("cancel", "cancel-all", self._cancel_all),
            ("DELETE", "/v3/orders/cancel"): Route("cancel", "cancel", self._cancel_some),
            ("DELETE", "/v2/cancel/orders"): Route("cancel", "cancel-all-v2", self._cancel_legacy),
            ("POST", "/v3/orders/place"): Route("other", "place", self._place),
            ("GET", "/v3/orders/working"): Route("read", "orders", self._working),
            ("GET", "/v3/orders/status"): Route("read", "order", self._status),
            ("GET", "/v3/positions"): Route("read", "positions", self._positions),
            ("GET", "/v3/balances"): Route("read", "balances", self._balances),
            ("GET", "/v3/account"): Route("read", "account", self._account),
        }

    def route(self, request: Request) -> Route | None:
        """Return the request's route (§4.3, §5)."""
        route = self._routes.get((request.method, request.path))
        if route is None and request.path.startswith("/v2/cancel/orders/"):
            return self._routes.get((request.method, "/v2/cancel/orders"))
        return route

    # REST: cancels

    def _body(self, request: Request) -> dict[str, Any] | None:
        try:
            body = orjson.loads(request.body or b"{}")
        except orjson.JSONDecodeError:
            return None
        return body if isinstance(body, dict) else None

    def _queue(self, account: Account, market: str | None) -> bool:
        stops = self.options.cancel_all_includes_stops
        orders = [order for order in self.covered(account) if market is None or order.symbol == market]
        orders = [order for order in orders if stops or order.kind != "stop"]
        self.cancel(account, orders, whole=True)
        if orders:  # every authenticated WebSocket of the account gets this frame, whatever its subscriptions (§4.3)
            text = orjson.dumps({"event": "CANCEL", "submitted": True, "timestamp": wire.ms(self.now())})
            self.broadcast(account, text, "order")
        return bool(orders)

    def _cancel_all(self, account: Account, request: Request) -> SimAnswer:
        body = self._body(request)
        if body is None:
            return self.http_error(400, "20001", "The body is not a JSON object")
        market = body.get("marketCode")
        if not isinstance(market, str | None):
            return self.http_error(400, "20001", "marketCode is invalid")
        if market is None and self.options.cancel_all == "market":
            return self.http_error(400, "20011", None)
        queued = self._queue(account, market)
        notice = "Orders queued for cancelation" if queued else "No working orders found"
        return json_answer({"success": True, "data": {"notice": notice}})

    def _cancel_legacy(self, account: Account, request: Request) -> SimAnswer:
        self._queue(account, request.path.removeprefix("/v2/cancel/orders").strip("/") or None)
        text = "All open orders for the account have been queued for cancellation"
        stamp = wire.ms(self.now())
        return json_answer(
            {"event": "orders", "timestamp": stamp, "accountId": account.venue_id, "data": {"msg": text}}
        )

    def _items(self, request: Request) -> tuple[list[dict[str, Any]], dict[str, Any]] | SimAnswer:
        """Parse the body of cancel and place: `orders`, at most 8, `timestamp` and `recvWindow` (§4.3, §5).

        Return the orders and the body, or a refusal.
        """
        body = self._body(request)
        items = body.get("orders") if body else None
        if body is None or not isinstance(items, list) or not items or not all(isinstance(i, dict) for i in items):
            return self.http_error(400, "30001", "Missing parameter: orders")
        if len(items) > _ITEMS:
            return self.http_error(400, "20001", f"orders may not be more than {_ITEMS}")
        return items, body

    def _late(self, body: Mapping[str, Any]) -> bool:
        stamp = body.get("timestamp")
        if stamp is None:
            return False
        window = body.get("recvWindow", 1000)  # 1 s by default (§4.3)
        try:
            return self.now() * 1000 > float(stamp) + float(window)
        except (TypeError, ValueError):
            return True

    def _cancel_some(self, account: Account, request: Request) -> SimAnswer | DeferredAnswer:
        envelope = self._items(request)
        if isinstance(envelope, SimAnswer):
            return envelope
        items, body = envelope
        late = self._late(body)
        orders: list[Order] = []
        rows: list[Order | tuple[dict[str, Any], str]] = []
        for item in items:
            if item.get("orderId") is None and item.get("clientOrderId") is None:
                rows.append((item, "20010"))
            elif not item.get("marketCode"):
                rows.append((item, "20011"))
            elif late:
                rows.append((item, "100015"))
            elif order := self.find(account, item):
                orders.append(order)
                rows.append(order)
            else:
                rows.append((item, "40035"))
        accepted = {order.id for order in self.cancel(account, orders, whole=False)}
        # the FULL answer shows the engine's result, so it is sent after the engine's work
        return DeferredAnswer(self.options.engine_ms / 1000, partial(self._cancelled, account, rows, accepted))

    def _cancelled(
        self, account: Account, rows: list[Order | tuple[dict[str, Any], str]], accepted: set[str]
    ) -> SimAnswer:
        now = self.now()
        data: list[dict[str, object]] = []
        for row in rows:
            if isinstance(row, Order) and row.id in accepted:
                data.append(wire.closed_item(account, row, now) | {"status": "CANCELED_BY_USER"})
            else:
                item, code = row if isinstance(row, tuple) else ({"orderId": row.id, "marketCode": row.symbol}, "40035")
                shown = {key: str(item[key]) for key in ("orderId", "clientOrderId", "marketCode") if key in item}
                text = wire.TEXTS[code]
                data.append({"code": code, "message": text, "submitted": False, **shown, "closedAt": wire.ms(now)})
        return json_answer({"success": True, "data": data})

    # REST: reads

    def _data(self, data: object) -> SimAnswer:
        return json_answer({"success": True, "data": data})

    def _working(self, account: Account, request: Request) -> SimAnswer:
        wanted = request.parameters()
        pairs = (("marketCode", "symbol"), ("orderId", "id"), ("clientOrderId", "client_id"))
        tests = [(field, wanted[name]) for name, field in pairs if wanted.get(name)]
        orders = self.listed(account, "orders")
        orders = [order for order in orders if all(getattr(order, field) == value for field, value in tests)]
        if self.options.page_limit:
            orders = orders[: self.options.page_limit]
        return self._data([wire.working_item(order) for order in orders])

    def _status(self, account: Account, request: Request) -> SimAnswer:
        wanted = request.parameters()
        order_id, client = wanted.get("orderId"), wanted.get("clientOrderId")
        if not order_id and not client:
            return self.http_error(400, "20010", None)
        for order in itertools.chain(account.open.values(), account.closed.values()):
            if order.id == order_id or (client and order.client_id == client):
                return self._data(wire.status_item(order))
        return self.http_error(400, "40035", None)

    def _positions(self, account: Account, request: Request) -> SimAnswer:
        market = request.parameters().get("marketCode")
        held = [item for item in wire.positions(account, self.now()) if market in (None, item["marketCode"])]
        return self._data([{"accountId": account.venue_id, "name": "main", "positions": held}] if held else [])

    def _money(self, account: Account) -> list[dict[str, object]]:
        cash = wire.plain(account.cash)
        stamp = wire.ms(self.now())
        return [{"asset": "OX", "total": cash, "available": cash, "reserved": "0", "lastUpdatedAt": stamp}]

    def _balances(self, account: Account, request: Request) -> SimAnswer:
        asset = request.parameters().get("asset")
        money = [item for item in self._money(account) if asset in (None, item["asset"])]
        return self._data([{"accountId": account.venue_id, "name": "main", "balances": money}])

    def _account(self, account: Account, request: Request) -> SimAnswer:
        shown = {
            "accountId": account.venue_id,
            "name": "main",
            "accountType": "LINEAR",
            "balances": self._money(account),
            "positions": wire.positions(account, self.now()),
            "collateral": wire.plain(account.equity),
            "notionalPositionSize": "0",
            "portfolioVarMargin": "0",
            "maintenanceMargin": "0",
            "marginRatio": "0",
            "riskRatio": "0",
            "liquidating": False,
            "feeTier": "0",
            "createdAt": "1700000000000",
        }
        return self._data([shown])

    # REST: place

    def _place(self, account: Account, request: Request) -> SimAnswer:
        envelope = self._items(request)
        if isinstance(envelope, SimAnswer):
            return envelope
        items, body = envelope
        late = self._late(body)
        return self._data([self._place_one(account, item, late) for item in items])

    def _place_one(self, account: Account, item: Mapping[str, Any], late: bool) -> dict[str, object]:
        shown = {key: str(item[key]) for key in ("clientOrderId", "marketCode", "side", "price") if key in item}
        code, order = ("100015", None) if late else self._new(account, item)
        if order is None:
            return {"code": code, "message": wire.TEXTS.get(code, "Refused"), "submitted": False, **shown}
        account.rest([order])
        self.push_orders(account, [order], "opened")
        news = "OrderOpened"
        if order.kind == "market":
            account.trade(order, self.now_ns(), self.filled_state)
            self.push_orders(account, [order], "filled")
            news = "OrderMatched"
        return wire.closed_item(account, order, self.now()) | {"notice": news}

    def _new(self, account: Account, item: Mapping[str, Any]) -> tuple[str, Order | None]:
        kinds = {"LIMIT": "limit", "STOP_LIMIT": "stop", "MARKET": "market"}
        kind, side, market = kinds.get(str(item.get("orderType"))), item.get("side"), item.get("marketCode")
        if not isinstance(market, str) or not market:
            return "20011", None
        if kind is None or side not in ("BUY", "SELL"):
            return "20001", None
        try:
            qty = Decimal(str(item["quantity"]))
            price = Decimal(str(item["limitPrice" if kind == "stop" else "price"])) if kind != "market" else None
            stop = Decimal(str(item["stopPrice"])) if kind == "stop" else None
        except (KeyError, InvalidOperation):
            return "20001", None
        if not (qty > 0 and qty.is_finite()):
            return "20006", None
        order = self.make_order(account, market, kind, "", 0)
        order.side, order.qty, order.stop_price = side.lower(), qty, stop
        order.price = price if price is not None else order.price
        order.client_id = str(item.get("clientOrderId", order.client_id))
        order.tif = str(item.get("timeInForce", "GTC")).lower()
        return "", order
