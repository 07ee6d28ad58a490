"""Roxom's REST calls: the table of routes, and their handlers; § numbers are those of docs/venues/roxom.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.protocol import SimAnswer, json_answer
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kit.values import is_uuid, plain, positive
from kill_switch.sim.roxom import payloads as wire

if TYPE_CHECKING:
    from kill_switch.sim.roxom.venue import Roxom

TYPES = ("perpetual", "spot", "btc", "digital", "stock", "index")  # values of instType (§4.4)
_KINDS = {"limit": "limit", "stop": "stop", "stoplimit": "stop", "market": "market"}
_REQUIRED = ("symbol", "instType", "side", "orderType", "qty", "timeInForce", "unit")  # of a new order (§4.5)


def routes(venue: Roxom) -> dict[tuple[str, str], RouteSpec]:
    """Return the table of calls (§4)."""
    calls, prefix = RestCalls(venue), venue.options.path_prefix
    return {
        ("POST", f"{prefix}/orders/cancel-all"): RouteSpec("cancel", "cancel-all", calls.cancel_all),
        ("POST", f"{prefix}/orders/{{id}}/cancel"): RouteSpec("cancel", "cancel", calls.cancel_one),
        ("POST", f"{prefix}/orders"): RouteSpec("other", "place", calls.place),
        ("GET", f"{prefix}/orders"): RouteSpec("read", "orders", calls.list_orders),
        ("GET", f"{prefix}/orders/{{id}}"): RouteSpec("read", "order", calls.order),
        ("GET", f"{prefix}/positions"): RouteSpec("read", "positions", calls.positions),
        ("GET", f"{prefix}/accounts/balance"): RouteSpec("read", "balance", calls.balance),
        ("GET", f"{prefix}/market/instruments"): RouteSpec("read", "instruments", calls.instruments),
    }


class RestCalls:
    """Answer REST calls."""

    def __init__(self, venue: Roxom) -> None:
        self._venue = venue
        self._options = venue.options

    # cancels

    def cancel_all(self, account: Account, params: Params) -> object:
        """Cancel every active order of the account (§4.2); orders in pendingcancel are not listed again [I]."""
        left = {"pendingcancel"} if self._options.cancel_all_includes_stops else {"pendingcancel", "waitingtrigger"}
        orders = [order for order in self._venue.covered(account) if order.state not in left]
        if self._options.cancel_all_closes and account.positions:
            for held in list(account.positions.values()):
                account.move(held.symbol, -held.qty, held.entry, held.category)
            self._venue.tell_equity(account)
        if not orders and self._options.nothing == "404":
            return self._refusal(404, "Order Not Found", "no active orders")
        named = self._venue.cancel(account, orders, whole=True)
        return {"cancelledOrderIds": [order.id for order in named]}

    def cancel_one(self, account: Account, params: Params) -> object:
        """Cancel one order (§4.1); an order that has ended cannot be cancelled (§4.6)."""
        order_id = params["id"]
        if not is_uuid(order_id, "7"):
            raise Refused("", 400, "Invalid order ID")
        order = self._order(account, order_id)
        if order is None:
            return self._refusal(404, "Order Not Found")
        if order.id not in account.open or (order.state == "pendingcancel" and not self._options.cancels_pending):
            return self._refusal(400, "Cannot Cancel", f"order is {order.state}")
        if order.state != "pendingcancel":
            self._venue.cancel(account, [order], whole=False)
        return json_answer({"data": {"success": True}})

    def _order(self, account: Account, order_id: str) -> Order | None:
        return account.open.get(order_id) or account.closed.get(order_id)

    def _refusal(self, status: int, title: str, details: str = "") -> SimAnswer:
        """Return the refusal to cancel or to show an order; only the titles of these errors are documented (§4.6)."""
        code, text = (str(status), title) if self._options.error_texts == "titles" else (f"E{status}", "Request failed")
        return json_answer(self._venue.bad(code, text, details), self._venue.error_status(status), ok=False)

    # reads

    def _unit(self, params: Params) -> str:
        unit: str = params.get("unit", "sats")
        if unit not in ("sats", "btc"):
            raise Refused("", 400, "unit is invalid")
        return unit

    def _inst_type(self, params: Params) -> str:
        if not params.get("instType"):
            raise Refused("", 400, "instType is required")
        if params["instType"] not in TYPES:
            raise Refused("", 400, "instType is invalid")
        return str(params["instType"])

    def list_orders(self, account: Account, params: Params) -> object:
        """List orders of one instType, which is required (§4.4)."""
        category, unit = self._inst_type(params), self._unit(params)
        if self._venue.list_fails(account, category):
            raise Refused("", 500)
        orders = self._venue.listed(account, category, ended=params.get("includeClosed") == "true")
        orders = [order for order in orders if order.category == category]
        symbol = params.get("symbol")
        if symbol is not None and symbol not in wire.SYMBOLS:
            raise Refused("", 400, "Market not available")
        orders = [order for order in orders if symbol in (None, order.symbol)]
        old = self._options.fields == "old"
        shown = orders[: self._options.page_limit or None]
        return {"orders": [wire.order_item(account, order, unit, old=old) for order in shown]}

    def order(self, account: Account, params: Params) -> object:
        """Show an order with its fills."""
        order = self._order(account, params["id"])
        if order is None:
            return self._refusal(404, "Order Not Found")
        shown = wire.order_item(account, order, "sats", old=self._options.fields == "old")
        fills = [{"px": plain(order.price), "qty": plain(order.filled)}] if order.filled else []
        return {"order": shown | {"fills": fills}}

    def positions(self, account: Account, params: Params) -> object:
        """List the positions in one symbol; symbol and instType are required (§4.4)."""
        unit, wanted = self._unit(params), (self._inst_type(params), params.get("symbol"))
        if not wanted[1]:
            raise Refused("", 400, "symbol is required")
        old, at = self._options.fields == "old", self._venue.now_ns()
        held = [
            wire.position_item(account, position, pnl, unit, at, old=old)
            for position, pnl in self._venue.pnls(account)
            if (position.category, position.symbol) == wanted
        ]
        return held if old else {"positions": held}

    def instruments(self, account: Account, params: Params) -> object:
        """List the instruments (§4.4)."""
        return [wire.instrument(symbol) for symbol in wire.SYMBOLS]

    def balance(self, account: Account, params: Params) -> object:
        """Show the money (§4.4)."""
        cash = wire.amount(self._venue.money(account.cash), self._unit(params))
        if self._options.fields == "old":
            return {"available": cash, "balance": cash, "currency": "BTC"}
        item = {"asset": "BTC", "assetClass": "crypto", "available": cash, "current": cash, "lockedInOrders": "0"}
        return {"balances": [item], "lastUpdated": self._venue.now_ns()}

    # place

    def place(self, account: Account, params: Params) -> object:
        """Place an order (§4.5)."""
        if missing := [name for name in _REQUIRED if not isinstance(params.get(name), str | int | float)]:
            raise Refused("", 400, f"{missing[0]} is required")
        word, side, category, tif = (params[name] for name in ("orderType", "side", "instType", "timeInForce"))
        kind = _KINDS.get(str(word))
        if kind is None or side not in ("buy", "sell") or category not in TYPES:
            raise Refused("", 400, "orderType, side or instType is invalid")
        if tif not in ("gtc", "ioc", "gtd"):
            raise Refused("", 400, "timeInForce is invalid")
        qty, price, stop = (positive(params.get(name)) for name in ("qty", "px", "triggerPx"))
        needs_price = word in ("limit", "stoplimit")
        if qty is None or (needs_price and price is None) or (kind == "stop" and stop is None):
            raise Refused("", 400, "qty, px or triggerPx is missing or invalid")
        client_id = str(params["clientOrderId"]) if "clientOrderId" in params else None
        order = self._venue.new_order(
            account, str(params["symbol"]), kind, category, side=side, qty=qty, tif=tif, client_id=client_id,
            price=price if needs_price else None, stop_price=stop if kind == "stop" else None,
        )  # fmt: skip
        return {"orderId": self._venue.place(account, order).id}
