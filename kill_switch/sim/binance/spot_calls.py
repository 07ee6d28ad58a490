"""Spot's calls, of REST and of the WebSocket API alike (docs/venues/binance.md §3.1, §4, §9), and margin's orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kill_switch.sim.binance import prices
from kill_switch.sim.binance import spot_payloads as wire
from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.history import HistoryCalls
from kill_switch.sim.binance.params import (
    known_symbol,
    missing,
    named_id,
    named_order,
    number,
    order_side,
)
from kill_switch.sim.binance.replacing import ReplaceCalls
from kill_switch.sim.binance.requests import Call
from kill_switch.sim.binance.spot_lists import ListCalls
from kill_switch.sim.binance.spot_placing import PlaceCalls
from kill_switch.sim.binance.venue import rate_limits
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Params, RouteSpec

if TYPE_CHECKING:
    from kill_switch.sim.binance.spot import BinanceSpot

_RESTRICTIONS = {"ONLY_NEW": "NEW", "ONLY_PARTIALLY_FILLED": "PARTIALLY_FILLED"}


def calls(venue: BinanceSpot) -> dict[str, Call]:
    """Return the operations, by their names on the WebSocket; weights are those of the pool of 6000 a minute (§7)."""
    cancels, reads, places, public = CancelCalls(venue), ReadCalls(venue), PlaceCalls(venue), PublicCalls(venue)
    past, market = HistoryCalls(venue, wire.listed), prices.PriceCalls(venue)
    changes, lists = ReplaceCalls(venue, cancels, places), ListCalls(venue, places)
    return {
        "openOrders.cancelAll": Call("cancel", "cancel-all", cancels.cancel_all),
        "order.cancel": Call("cancel", "cancel", cancels.cancel_order),
        "orderList.cancel": Call("cancel", "cancel-list", cancels.cancel_list),
        "order.place": Call("other", "place", places.order),
        "order.test": Call("other", "place-test", places.test),
        "order.cancelReplace": Call("other", "replace", changes.cancel_replace),
        "order.amend.keepPriority": Call("other", "amend", changes.keep_priority, 4),
        "orderList.place.oco": Call("other", "place-list", lists.oco),
        "orderList.place.oto": Call("other", "place-list", lists.oto),
        "orderList.place.otoco": Call("other", "place-list", lists.otoco),
        "orderList.place": Call("other", "place-list", lists.old_oco),
        "openOrders.status": Call("read", "orders", reads.open_orders, 6, 80),
        "openOrderLists.status": Call("read", "lists", lists.open_lists, 6),
        "orderList.status": Call("other", "list", lists.order_list, 4),
        "allOrderLists": Call("other", "past-lists", lists.past_lists, 20),
        "order.status": Call("read", "order", reads.order, 4),
        "account.status": Call("read", "account", reads.account, 20),
        "account.commission": Call("other", "fees", reads.fees, 20),
        "account.rateLimits.orders": Call("other", "order-count", past.order_count, 40),
        "allOrders": Call("other", "past-orders", past.orders, 20),
        "myTrades": Call("other", "trades", past.trades, 20),
        "myAllocations": Call("other", "allocations", reads.allocations, 20),
        "myPreventedMatches": Call("other", "prevented", reads.prevented, 20),
        "exchangeInfo": Call("other", "markets", public.exchange_info, 20, public=True),
        "ticker.price": Call("other", "price", market.price, 2, public=True),
        "ticker.book": Call("other", "book-ticker", market.best, 2, public=True),
        "avgPrice": Call("other", "average-price", market.average, 2, public=True),
        "depth": Call("other", "depth", market.depth, 5, public=True),
    }


_REST = {
    ("DELETE", "openOrders"): "openOrders.cancelAll",
    ("DELETE", "order"): "order.cancel",
    ("DELETE", "orderList"): "orderList.cancel",
    ("POST", "order"): "order.place",
    ("GET", "openOrders"): "openOrders.status",
    ("GET", "openOrderList"): "openOrderLists.status",
    ("GET", "order"): "order.status",
    ("GET", "account"): "account.status",
    ("GET", "account/commission"): "account.commission",
    ("GET", "rateLimit/order"): "account.rateLimits.orders",
    ("GET", "allOrders"): "allOrders",
    ("GET", "myTrades"): "myTrades",
    ("GET", "exchangeInfo"): "exchangeInfo",
    ("POST", "order/test"): "order.test",
    ("POST", "orderList/oco"): "orderList.place.oco",
    ("POST", "orderList/oto"): "orderList.place.oto",
    ("POST", "orderList/otoco"): "orderList.place.otoco",
    ("POST", "order/oco"): "orderList.place",
    ("GET", "orderList"): "orderList.status",
    ("GET", "allOrderList"): "allOrderLists",
    ("GET", "myAllocations"): "myAllocations",
    ("GET", "myPreventedMatches"): "myPreventedMatches",
    ("POST", "order/cancelReplace"): "order.cancelReplace",
    ("PUT", "order/amend/keepPriority"): "order.amend.keepPriority",
}


def routes(venue: BinanceSpot, table: Mapping[str, Call]) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes: the operations by their REST names, public calls, and margin's."""
    public, margin = PublicCalls(venue), MarginCalls(venue)
    rows = {
        key: RouteSpec(call.kind, call.operation, call.handler, call.weight, call.public)
        for key, call in ((key, table[name]) for key, name in _REST.items())
    } | {
        ("GET", "time"): RouteSpec("other", "time", public.time, public=True),
        ("GET", "ping"): RouteSpec("ping", "ping", lambda account, params: {}, public=True),
    }
    apart = {
        ("POST", "margin/order"): RouteSpec("other", "place-margin", margin.place, 6),
        ("GET", "margin/openOrders"): RouteSpec("read", "margin-orders", margin.open_orders, 10),
        ("GET", "margin/isolated/account"): RouteSpec("read", "margin-pairs", margin.pairs, 10),
        ("GET", "margin/account"): RouteSpec("other", "margin-account", margin.account, 10),
        ("DELETE", "margin/openOrders"): RouteSpec("cancel", "cancel-margin-all", margin.cancel_all),
        ("DELETE", "margin/order"): RouteSpec("cancel", "cancel-margin", margin.cancel_order, 10),
    }
    return (
        {(method, f"/api/v3/{path}"): spec for (method, path), spec in rows.items()}
        | {(method, f"/sapi/v1/{path}"): spec for (method, path), spec in apart.items()}
        | prices.routes(prices.PriceCalls(venue), "/api/v3", is_spot=True)
    )


class CancelCalls:
    """The calls that cancel; a success costs nothing (§3.1)."""

    def __init__(self, venue: BinanceSpot) -> None:
        self._venue = venue

    def cancel_all(self, account: Account, params: Params) -> object:
        """Answer openOrders.cancelAll: orders and lists of a symbol; without any, an error (§3.1)."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        covered = [order for order in self._venue.covered(account) if order.symbol == symbol]
        missed = self._venue.race(account, covered)
        orders = [order for order in covered if order not in missed]
        if not orders:
            raise refusal("-2011")
        claimed = self._venue.cancel(account, orders, whole=True)
        self._venue.spare()
        return self._reports(claimed)

    def cancel_order(self, account: Account, params: Params) -> object:
        """Answer order.cancel; a leg takes its whole list along."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        restriction = params.get("cancelRestrictions")
        if restriction is not None and str(restriction) not in _RESTRICTIONS:
            raise refusal("-1145", "Invalid cancelRestrictions")
        mine = [order for order in account.open.values() if order.symbol == symbol]
        order = named_order(mine, params, "orderId", "origClientOrderId")
        if order is None:
            raise refusal("-2011")
        if restriction is not None and order.state != _RESTRICTIONS[str(restriction)]:
            raise refusal("-2011", "Order was not canceled due to cancel restrictions.")
        return self._cancel(account, [order] if not order.category else self._venue.legs(account, order.category))

    def cancel_list(self, account: Account, params: Params) -> object:
        """Answer orderList.cancel."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        list_id, client = named_id(params, "orderListId"), params.get("listClientOrderId")
        if not list_id and client in (None, ""):
            raise refusal("-1102", missing("orderListId"))
        groups = self._venue.order_lists.values()
        named = (group for group in groups if list_id in ("", group.id) and client in (None, "", group.client))
        group = next((group for group in named if group.symbol == symbol), None)
        legs = self._venue.legs(account, group.id) if group else []
        if not legs:
            raise refusal("-2011")
        return self._cancel(account, legs)

    def _cancel(self, account: Account, orders: list[Order]) -> object:
        [report] = self._reports(orders)
        self._venue.cancel(account, orders, whole=False, single=True)
        self._venue.spare()
        return report

    def _reports(self, orders: Sequence[Order]) -> list[object]:
        """Return a report for each order without a list, and one for each list."""
        at_ms = self._venue.now_ns() // 1_000_000
        reports: list[object] = [wire.report(order) for order in orders if not order.category]
        for list_id in dict.fromkeys(order.category for order in orders if order.category):
            legs = [order for order in orders if order.category == list_id]
            shown = wire.order_list(self._venue.order_lists[list_id], legs, at_ms, done=True)
            reports.append(shown | {"orderReports": [wire.report(order) for order in legs]})
        return reports


class ReadCalls:
    """The calls that read."""

    def __init__(self, venue: BinanceSpot) -> None:
        self._venue = venue

    def open_orders(self, account: Account, params: Params) -> object:
        """Answer openOrders.status, without the legs that do not rest yet (§12)."""
        symbol = known_symbol(self._venue.symbols, params, needed=False)
        orders = self._venue.listed(account, "orders")
        return [wire.listed(order) for order in orders if symbol in ("", order.symbol) and order.state != wire.PENDING]

    def order(self, account: Account, params: Params) -> object:
        """Answer order.status."""
        symbol = known_symbol(self._venue.symbols, params)
        known = [order for order in (*account.open.values(), *account.closed.values()) if order.symbol == symbol]
        order = named_order(known, params, "orderId", "origClientOrderId")
        if order is None:
            raise refusal("-2013")
        return wire.listed(order)

    def allocations(self, account: Account, params: Params) -> object:
        """Answer myAllocations: nothing was placed by smart order routing."""
        known_symbol(self._venue.symbols, params)
        return []

    def prevented(self, account: Account, params: Params) -> object:
        """Answer myPreventedMatches: no order has met another one of its account."""
        known_symbol(self._venue.symbols, params)
        if all(params.get(name) in (None, "") for name in ("preventedMatchId", "orderId")):
            raise refusal("-1102", "Param 'preventedMatchId' or 'orderId' must be sent, but both were empty/null!")
        return []

    def account(self, account: Account, params: Params) -> object:
        """Answer account.status (§9)."""
        return wire.account_body(account, can_trade=True, at_ms=self._venue.now_ns() // 1_000_000)

    def fees(self, account: Account, params: Params) -> object:
        """Answer account.commission."""
        symbol = known_symbol(self._venue.symbols, params)
        usual = {"maker": "0.00150000", "taker": "0.00150000", "buyer": "0.00000000", "seller": "0.00000000"}
        return {"symbol": symbol, "standardCommission": usual, "taxCommission": dict.fromkeys(usual, "0.00000000")}


class PublicCalls:
    """The calls that need no key."""

    def __init__(self, venue: BinanceSpot) -> None:
        self._venue = venue

    def time(self, account: Account, params: Params) -> object:
        """Answer time."""
        return {"serverTime": self._venue.now_ns() // 1_000_000}

    def exchange_info(self, account: Account, params: Params) -> object:
        """Answer exchangeInfo, of the symbols that are asked for."""
        names = prices.named_symbols(self._venue.symbols, params)
        limits = [
            ("REQUEST_WEIGHT", "MINUTE", 1, self._venue.options.pool),
            ("ORDERS", "SECOND", 10, 50), ("ORDERS", "DAY", 1, 160_000), ("RAW_REQUESTS", "MINUTE", 5, 300_000),
        ]  # fmt: skip
        return {
            "timezone": "UTC", "serverTime": self._venue.now_ns() // 1_000_000, "rateLimits": rate_limits(limits),
            "exchangeFilters": [],
            "symbols": [wire.market(name.removesuffix("USDT")) for name in names],
        }  # fmt: skip


class MarginCalls:
    """Orders of the margin accounts, which rest in books of their own: no call of spot sees them (§3.2).

    The cross account and the isolated account of each pair are apart too. The admin API does not show their orders.
    """

    def __init__(self, venue: BinanceSpot) -> None:
        self._venue = venue
        self._books: dict[tuple[str, str], Account] = {}  # by account and isolated pair; cross has an empty pair

    def _book(self, account: Account, params: Params) -> tuple[Account, str]:
        """Return the book that a call is of, and its isolated pair, "" for cross."""
        text = str(params.get("isIsolated", "FALSE")).upper()
        if text not in ("TRUE", "FALSE"):
            raise refusal("-1130", "Data sent for parameter 'isIsolated' is not valid.")
        isolated = text == "TRUE"
        symbol = known_symbol(self._venue.symbols, params, needed=isolated)
        pair = symbol if isolated else ""
        return self._books.setdefault((account.name, pair), replace(account, open={}, closed={})), pair

    def place(self, account: Account, params: Params) -> object:
        """Answer POST margin/order."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        book, _ = self._book(account, params)
        order = self._venue.new_order(account, symbol, "limit", side=order_side(params), qty=number(params, "quantity"))
        book.rest([order])
        return wire.listed(order)

    def open_orders(self, account: Account, params: Params) -> object:
        """Answer GET margin/openOrders."""
        symbol = known_symbol(self._venue.symbols, params, needed=False)
        book, _ = self._book(account, params)
        return [wire.listed(order) for order in book.open.values() if symbol in ("", order.symbol)]

    def pairs(self, account: Account, params: Params) -> object:
        """Answer GET margin/isolated/account: the pairs that have an account of their own."""
        names = [pair for owner, pair in self._books if owner == account.name and pair]
        return {"assets": [{"symbol": pair, "isolatedCreated": True, "enabled": True} for pair in names]}

    def account(self, account: Account, params: Params) -> object:
        """Answer GET margin/account: a cross account without a loan, whose only money is that of spot."""
        return {
            "borrowEnabled": True, "tradeEnabled": True, "transferEnabled": True, "marginLevel": "999.00000000",
            "totalAssetOfBtc": "0", "totalLiabilityOfBtc": "0", "totalNetAssetOfBtc": "0", "userAssets": [],
        }  # fmt: skip

    def cancel_all(self, account: Account, params: Params) -> object:
        """Answer DELETE margin/openOrders."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        book, pair = self._book(account, params)
        return self._end(book, [order for order in book.open.values() if order.symbol == symbol], pair)

    def cancel_order(self, account: Account, params: Params) -> object:
        """Answer DELETE margin/order."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        book, pair = self._book(account, params)
        mine = [order for order in book.open.values() if order.symbol == symbol]
        order = named_order(mine, params, "orderId", "origClientOrderId")
        return self._end(book, [order] if order else [], pair)[0]

    def _end(self, book: Account, orders: list[Order], pair: str) -> list[object]:
        if not orders:
            raise refusal("-2011")
        for order in orders:
            book.end(order, "CANCELED", self._venue.now_ns())
        return [wire.report(order) | {"isIsolated": bool(pair)} for order in orders]
