"""OX.FUN's REST calls; § numbers are those of docs/venues/oxfun.md.

The simulated venue answers HTTP requests with them. It has no call that the file does not document.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.protocol import DeferredAnswer, SimAnswer, json_answer
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kit.values import parse_number, plain, positive
from kill_switch.sim.oxfun import payloads as wire

if TYPE_CHECKING:
    from kill_switch.sim.oxfun.venue import Oxfun

_ITEMS = 8  # the maximum of orders in a cancel or place request (§4.3, §5)


def routes(venue: Oxfun) -> dict[tuple[str, str], RouteSpec]:
    """Return the table of calls (§4.3, §5)."""
    calls = RestCalls(venue)
    return {
        ("DELETE", "/v3/orders/cancel-all"): RouteSpec("cancel", "cancel-all", calls.cancel_all),
        ("DELETE", "/v3/orders/cancel"): RouteSpec("cancel", "cancel", calls.cancel_some),
        ("DELETE", "/v2/cancel/orders"): RouteSpec("cancel", "cancel-all-v2", calls.cancel_legacy),
        ("DELETE", "/v2/cancel/orders/{market}"): RouteSpec("cancel", "cancel-all-v2", calls.cancel_legacy),
        ("POST", "/v3/orders/place"): RouteSpec("other", "place", calls.place),
        ("GET", "/v3/orders/working"): RouteSpec("read", "orders", calls.working),
        ("GET", "/v3/orders/status"): RouteSpec("read", "order", calls.status),
        ("GET", "/v3/positions"): RouteSpec("read", "positions", calls.positions),
        ("GET", "/v3/balances"): RouteSpec("read", "balances", calls.balances),
        ("GET", "/v3/account"): RouteSpec("read", "account", calls.account),
    }


class RestCalls:
    """Answer REST calls."""

    def __init__(self, venue: Oxfun) -> None:
        self._venue = venue

    # REST: cancels

    def _queue(self, account: Account, market: str | None) -> bool:
        stops = self._venue.options.cancel_all_includes_stops
        orders = [order for order in self._venue.covered(account) if market is None or order.symbol == market]
        orders = [order for order in orders if stops or order.kind != "stop"]
        self._venue.cancel(account, orders, whole=True)
        if orders:  # every authenticated WebSocket of the account gets this frame, whatever its subscriptions (§4.3)
            text = orjson.dumps({"event": "CANCEL", "submitted": True, "timestamp": wire.ms(self._venue.now())})
            self._venue.broadcast(account, text, "order")
        return bool(orders)

    def cancel_all(self, account: Account, params: Params) -> object:
        body = params["body"]
        if body is None:
            raise Refused("20001", 400, "The body is not a JSON object")
        market = body.get("marketCode")
        self._check_market(market)
        if market is None and self._venue.options.cancel_all == "market":
            raise Refused("20011", 400)
        queued = self._queue(account, market)
        notice = "Orders queued for cancelation" if queued else "No working orders found"
        return {"notice": notice}

    def _check_market(self, market: object) -> None:
        """Refuse a market that there is not, an empty name too: it must not stand for all. Raises `Refused`."""
        if market is not None and market not in self._venue.symbols:
            raise Refused("20001", 400, wire.TEXTS["20015"])

    def cancel_legacy(self, account: Account, params: Params) -> object:
        self._check_market(params.get("market"))
        self._queue(account, params.get("market"))
        text = "All open orders for the account have been queued for cancellation"
        stamp = wire.ms(self._venue.now())
        return json_answer(
            {"event": "orders", "timestamp": stamp, "accountId": account.venue_id, "data": {"msg": text}}
        )

    def _items(self, params: Params) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Parse the body of cancel and place: `orders`, at most 8, `timestamp` and `recvWindow` (§4.3, §5).

        Return the orders and the body. Raises `Refused`.
        """
        body = params["body"]
        items = body.get("orders") if body else None
        if body is None or not isinstance(items, list) or not items or not all(isinstance(i, dict) for i in items):
            raise Refused("30001", 400, "Missing parameter: orders")
        if len(items) > _ITEMS:
            raise Refused("20001", 400, f"orders may not be more than {_ITEMS}")
        return items, body

    def _late(self, body: Mapping[str, Any]) -> bool:
        stamp = body.get("timestamp")
        if stamp is None:
            return False
        window = body.get("recvWindow", 1000)  # 1 s by default (§4.3)
        try:
            return self._venue.now() * 1000 > float(stamp) + float(window)
        except (TypeError, ValueError):
            return True

    def cancel_some(self, account: Account, params: Params) -> object:
        items, body = self._items(params)
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
            elif order := self._venue.find(account, item):
                orders.append(order)
                rows.append(order)
            else:
                rows.append((item, "40035"))
        accepted = {order.id for order in self._venue.cancel(account, orders, whole=False)}
        # the FULL answer shows the engine's result, so it is sent after the engine's work
        return DeferredAnswer(self._venue.options.engine_ms / 1000, partial(self._cancelled, account, rows, accepted))

    def _cancelled(
        self, account: Account, rows: list[Order | tuple[dict[str, Any], str]], accepted: set[str]
    ) -> SimAnswer:
        now = self._venue.now()
        data: list[dict[str, object]] = []
        for row in rows:
            if isinstance(row, Order) and row.id in accepted:
                data.append(wire.closed_item(account, row, now) | {"status": "CANCELED_BY_USER"})
            else:
                item, code = row if isinstance(row, tuple) else ({"orderId": row.id, "marketCode": row.symbol}, "40035")
                shown = {key: str(item[key]) for key in ("orderId", "clientOrderId", "marketCode") if key in item}
                text = wire.TEXTS[code]
                data.append({"code": code, "message": text, "submitted": False, **shown, "closedAt": wire.ms(now)})
        return json_answer(self._venue.good(data))

    # REST: reads

    def working(self, account: Account, params: Params) -> object:
        pairs = (("marketCode", "symbol"), ("orderId", "id"), ("clientOrderId", "client_id"))
        tests = [(field, params[name]) for name, field in pairs if params.get(name)]
        orders = self._venue.listed(account, "orders")
        orders = [order for order in orders if all(getattr(order, field) == value for field, value in tests)]
        return [wire.working_item(order) for order in orders[: self._venue.options.page_limit or None]]

    def status(self, account: Account, params: Params) -> object:
        order_id, client = params.get("orderId"), params.get("clientOrderId")
        if not order_id and not client:
            raise Refused("20010", 400)
        for order in itertools.chain(account.open.values(), account.closed.values()):
            if order.id == order_id or (client and order.client_id == client):
                return wire.status_item(order)
        raise Refused("40035", 400)

    def positions(self, account: Account, params: Params) -> object:
        market = params.get("marketCode")
        held = [item for item in wire.positions(account, self._venue.now()) if market in (None, item["marketCode"])]
        return [{"accountId": account.venue_id, "name": "main", "positions": held}] if held else []

    def _money(self, account: Account) -> list[dict[str, object]]:
        cash = plain(account.cash)
        stamp = wire.ms(self._venue.now())
        return [{"asset": "OX", "total": cash, "available": cash, "reserved": "0", "lastUpdatedAt": stamp}]

    def balances(self, account: Account, params: Params) -> object:
        asset = params.get("asset")
        money = [item for item in self._money(account) if asset in (None, item["asset"])]
        return [{"accountId": account.venue_id, "name": "main", "balances": money}]

    def account(self, account: Account, params: Params) -> object:
        shown = {
            "accountId": account.venue_id,
            "name": "main",
            "accountType": "LINEAR",
            "balances": self._money(account),
            "positions": wire.positions(account, self._venue.now()),
            "collateral": plain(account.equity),
            "notionalPositionSize": "0",
            "portfolioVarMargin": "0",
            "maintenanceMargin": "0",
            "marginRatio": "0",
            "riskRatio": "0",
            "liquidating": False,
            "feeTier": "0",
            "createdAt": "1700000000000",
        }
        return [shown]

    # REST: place

    def place(self, account: Account, params: Params) -> object:
        items, body = self._items(params)
        late = self._late(body)
        return [self._place_one(account, item, late) for item in items]

    def _place_one(self, account: Account, item: Mapping[str, Any], late: bool) -> dict[str, object]:
        shown = {key: str(item[key]) for key in ("clientOrderId", "marketCode", "side", "price") if key in item}
        code, order = ("100015", None) if late else self._new(account, item)
        if order is None:
            return {"code": code, "message": wire.TEXTS.get(code, "Refused"), "submitted": False, **shown}
        self._venue.place(account, order)
        news = "OrderMatched" if order.kind == "market" else "OrderOpened"
        return wire.closed_item(account, order, self._venue.now()) | {"notice": news}

    def _new(self, account: Account, item: Mapping[str, Any]) -> tuple[str, Order | None]:
        kinds = {"LIMIT": "limit", "STOP_LIMIT": "stop", "MARKET": "market"}
        kind, side, market = kinds.get(str(item.get("orderType"))), item.get("side"), item.get("marketCode")
        if not isinstance(market, str) or not market:
            return "20011", None
        if kind is None or side not in ("BUY", "SELL"):
            return "20001", None
        names = ("quantity", "limitPrice" if kind == "stop" else "price", "stopPrice")
        qty, price, stop = (positive(item.get(name)) for name in names)
        unread = parse_number(item.get("quantity")) is None
        if unread or (kind != "market" and price is None) or (kind == "stop" and stop is None):
            return "20001", None
        if qty is None:
            return "20006", None
        client_id, tif = item.get("clientOrderId"), str(item.get("timeInForce", "GTC")).lower()
        return "", self._venue.new_order(
            account, market, kind, side=side.lower(), qty=qty, tif=tif, price=None if kind == "market" else price,
            stop_price=stop if kind == "stop" else None, client_id=None if client_id is None else str(client_id),
        )  # fmt: skip
