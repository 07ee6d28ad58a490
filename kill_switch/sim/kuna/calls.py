"""KUNA's REST calls: the table of routes, and their handlers; § numbers are those of docs/venues/kuna.md.

The simulated venue has no call that neither the file nor ccxt's client knows.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kit.values import is_uuid, plain, positive
from kill_switch.sim.kuna import payloads as wire

if TYPE_CHECKING:
    from kill_switch.sim.kuna.venue import Kuna

_ORDERS = "/v4/order/private"
DAY_NS = 86_400 * 10**9
_TIMESTAMP, _CURRENCIES, _MARKETS = "/v4/public/timestamp", "/v4/public/currencies", "/v4/markets/public/getAll"
PUBLIC = frozenset({_TIMESTAMP, _CURRENCIES, _MARKETS})


def routes(venue: Kuna) -> dict[tuple[str, str], RouteSpec]:
    """Return the table of calls (§3)."""
    calls = RestCalls(venue)
    return {
        ("POST", f"{_ORDERS}/cancel/multi"): RouteSpec("cancel", "cancel-multi", calls.cancel_multi),
        ("POST", f"{_ORDERS}/cancel"): RouteSpec("cancel", "cancel", calls.cancel_one),
        ("POST", f"{_ORDERS}/create"): RouteSpec("other", "place", calls.place),
        ("GET", f"{_ORDERS}/active"): RouteSpec("read", "orders", calls.active),
        ("GET", f"{_ORDERS}/history"): RouteSpec("read", "history", calls.history),
        ("GET", f"{_ORDERS}/details/{{id}}"): RouteSpec("read", "order", calls.details),
        ("GET", "/v4/trade/private/history"): RouteSpec("read", "trades", lambda account, params: []),
        ("GET", "/v4/private/getBalance"): RouteSpec("read", "balance", calls.balance),
        ("GET", "/v4/private/me"): RouteSpec("read", "me", lambda account, params: {"id": account.venue_id}),
        ("GET", _TIMESTAMP): RouteSpec("other", "timestamp", calls.timestamp),
        ("GET", _CURRENCIES): RouteSpec("other", "currencies", lambda account, params: wire.currencies()),
        ("GET", _MARKETS): RouteSpec("other", "markets", lambda account, params: wire.markets()),
    }


class RestCalls:
    """Answer REST calls."""

    def __init__(self, venue: Kuna) -> None:
        self._venue = venue
        self._options = venue.options

    # cancels

    def cancel_multi(self, account: Account, params: Params) -> object:
        """Cancel the open ones of these orders, and report the others as not cancelled (§3.2)."""
        ids, most = params.get("orderIds"), self._options.batch_max
        if not isinstance(ids, list) or not ids:
            raise Refused("WrongRequestException", 500, "orderIds must be an array")
        if not all(map(is_uuid, ids)):  # one malformed id fails the whole call (§3.2)
            raise Refused("WrongRequestException", 500, "each value in orderIds must be a UUID")
        if most and len(ids) > most:
            raise Refused("", 400, f"orderIds must contain no more than {most} elements")
        there = {order_id: account.open[order_id] for order_id in ids if self._can_cancel(account, order_id)}
        gone = [self._gone(account, order_id) for order_id in ids if order_id not in there]
        done = {order.id for order in self._venue.cancel(account, list(there.values()), whole=True)}
        if gone and self._options.partial == "error":
            raise gone[0]
        return [{self._options.id_key: order_id, "success": order_id in done} for order_id in ids]

    def cancel_one(self, account: Account, params: Params) -> object:
        """Cancel one order (§3.1)."""
        order_id = params.get("orderId")
        if not is_uuid(order_id):
            raise Refused("WrongRequestException", 500, "orderId must be a UUID")
        there = [account.open[str(order_id)]] if self._can_cancel(account, str(order_id)) else []
        self._venue.cancel(account, there, whole=False)
        if not there:
            raise self._gone(account, str(order_id))
        return {"success": True}

    def _can_cancel(self, account: Account, order_id: str) -> bool:
        order = account.open.get(order_id)
        return order is not None and (self._options.cancels_pending or order.state != "Pending")

    def _gone(self, account: Account, order_id: str) -> Refused:
        """Return the error for an order that cannot be cancelled (§4); for an unknown order it is [U]."""
        order = account.closed.get(order_id) or account.open.get(order_id)
        if order is None:
            return Refused("", 404, "Order not found")
        return Refused("", 400, f"Order with status {order.state} can't be canceled")

    # reads

    def active(self, account: Account, params: Params) -> object:
        """List open orders, newest first, a hundred at most (§3.4)."""
        if self._venue.list_fails(account, "active"):
            raise Refused("", 500)
        states = {"Open"} | ({"WaitStop"} if self._options.active_has_stops else set())
        states |= {"Pending"} if self._options.lists_pending == "active" else set()
        return self._page(params, [order for order in self._venue.listed(account, "active") if order.state in states])

    def history(self, account: Account, params: Params) -> object:
        """List orders of one status; without a status, all except Open (§3.5)."""
        status, states = params.get("status"), set(wire.STATUSES)
        if status is not None and status not in states:
            raise Refused("", 400, f"status must be one of {', '.join(wire.STATUSES)}")
        if status is not None and self._venue.list_fails(account, status):
            raise Refused("", 500)
        orders = self._venue.listed(account, status or "history", ended=True)
        states = {status} if status else states - {"Open"}
        states -= set() if self._options.lists_pending == "history" else {"Pending"}
        return self._page(params, [order for order in orders if order.state in states])

    def _page(self, params: Params, orders: list[Order]) -> object:
        limit, sort = params.get("limit", "100"), params.get("sort", "desc")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= 100) or sort not in ("asc", "desc"):
            raise Refused("", 400, "limit must be from 1 to 100, sort must be asc or desc")
        now, days = self._venue.now_ns(), self._options.list_days
        start: int | None = now - int(days * DAY_NS) if days else 0
        end: int | None = now + DAY_NS
        if "start" in params:
            start = wire.moment(params["start"])
        if "end" in params:
            end = wire.moment(params["end"])
        if start is None or end is None:
            raise Refused("", 400, "start and end must be ISO 8601 dates")
        pairs = params["pairs"].split(",") if params.get("pairs") else None
        matches = [order for order in orders if start <= order.created_ns <= end]
        matches = [order for order in matches if pairs is None or order.symbol in pairs]
        matches.sort(key=lambda order: order.created_ns, reverse=sort == "desc")
        return [wire.order_item(order) for order in matches[: int(limit)]]

    def details(self, account: Account, params: Params) -> object:
        """Show one order (§3.5)."""
        order_id = params["id"]
        if not is_uuid(order_id):
            raise Refused("WrongRequestException", 500, "id must be a UUID")
        order = account.open.get(order_id) or account.closed.get(order_id)
        if order is None:
            raise Refused("", 404, "Order not found")
        return wire.order_item(order)

    def balance(self, account: Account, params: Params) -> object:
        """Show the money."""
        return [{"currency": "USDT", "balance": plain(account.equity), "lockBalance": "0"}]

    def timestamp(self, account: Account, params: Params) -> object:
        """Show the venue's clock."""
        milliseconds = self._venue.now_ns() // 1_000_000
        return {"timestamp": milliseconds // 1000, "timestamp_miliseconds": milliseconds}

    # place

    def place(self, account: Account, params: Params) -> object:
        """Place an order (§3.5)."""
        kind, pair, order_id = wire.KINDS.get(str(params.get("type"))), params.get("pair"), params.get("id")
        quantity, price, stop = (positive(params.get(name)) for name in ("quantity", "price", "stopPrice"))
        side = {"Bid": "buy", "Ask": "sell"}.get(str(params.get("orderSide")))
        if kind is None or side is None or not isinstance(pair, str) or quantity is None:
            raise Refused("", 400, "type, orderSide, pair or quantity is invalid")
        if (kind != "market" and price is None) or (kind == "stop" and stop is None):
            raise Refused("", 400, "price or stopPrice is missing")
        if order_id is not None and not (is_uuid(order_id) and self._venue.valid_id(str(order_id))):
            raise Refused("", 400, "id is invalid")
        if 0 < self._options.max_open <= len(account.open):
            raise Refused("", 400, f"The maximum number of active orders is {self._options.max_open}")
        order = self._venue.new_order(
            account, pair, kind, side=side, id=order_id, qty=quantity, price=price or Decimal(30_000), stop_price=stop
        )
        return wire.order_item(self._venue.place(account, order))
