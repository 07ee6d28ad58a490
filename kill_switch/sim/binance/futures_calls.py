"""The REST calls of both futures (docs/venues/binance.md §3.3, §3.4, §4, §5, §6, §9): one table, two prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kill_switch.sim.binance import futures_payloads as wire
from kill_switch.sim.binance import prices, settings
from kill_switch.sim.binance.errors import TEXTS, refusal
from kill_switch.sim.binance.history import HistoryCalls
from kill_switch.sim.binance.params import (
    client_id,
    known_symbol,
    missing,
    named_order,
    number,
    order_side,
    with_headers,
)
from kill_switch.sim.binance.venue import rate_limits
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.protocol import SimAnswer
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec

if TYPE_CHECKING:
    from kill_switch.sim.binance.futures import BinanceFutures

_DONE = {"code": 200, "msg": "The operation of cancel all open order is done."}
_MOST_IDS = 10
_MOST_DIGITS = 18  # of a number that the venue calls LONG
_TIMES = ("GTC", "IOC", "FOK", "GTX", "GTD", "RPI")
_MOST_ORDERS = 5  # of a batch that places


def routes(venue: BinanceFutures) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes of the venue; weights are costs in the pool of 2400 a minute (§7)."""
    cancels, places, reads = CancelCalls(venue), PlaceCalls(venue), ReadCalls(venue)
    market = prices.PriceCalls(venue)
    keys, public, past = KeyCalls(venue), PublicCalls(venue), HistoryCalls(venue, wire.listed)
    table = {
        ("DELETE", "allOpenOrders"): RouteSpec("cancel", "cancel-all", cancels.cancel_all),
        ("DELETE", "algoOpenOrders"): RouteSpec("cancel", "cancel-algo-all", cancels.cancel_all_algo),
        ("DELETE", "order"): RouteSpec("cancel", "cancel", cancels.cancel_order),
        ("DELETE", "algoOrder"): RouteSpec("cancel", "cancel-algo", cancels.cancel_algo),
        ("DELETE", "batchOrders"): RouteSpec("cancel", "cancel-batch", cancels.cancel_batch),
        ("POST", "countdownCancelAll"): RouteSpec("other", "dead-man", places.countdown, 10),
        ("POST", "order"): RouteSpec("other", "place", places.order, 0),
        ("POST", "order/test"): RouteSpec("other", "place-test", places.test, 0),
        ("POST", "batchOrders"): RouteSpec("other", "place-batch", places.batch, 5),
        ("PUT", "order"): RouteSpec("other", "amend", places.modify),
        ("POST", "algoOrder"): RouteSpec("other", "place-algo", places.algo, 0),
        ("GET", "openOrders"): RouteSpec("read", "orders", reads.open_orders),
        ("GET", "openAlgoOrders"): RouteSpec("read", "algo-orders", reads.open_algo_orders),
        ("GET", "order"): RouteSpec("read", "order", reads.order),
        ("GET", "openOrder"): RouteSpec("read", "order", reads.order),
        ("GET", "algoOrder"): RouteSpec("read", "algo-order", reads.algo_order),
        ("GET", "income"): RouteSpec("read", "income", reads.income, 30 if venue.product.is_linear else 20),
        ("GET", "allOrders"): RouteSpec("other", "past-orders", past.orders, 5),
        ("GET", "userTrades"): RouteSpec("other", "trades", past.trades, 5),
        ("GET", "rateLimit/order"): RouteSpec("other", "order-count", past.order_count),
        ("POST", "listenKey"): RouteSpec("login", "listen-key", keys.create),
        ("PUT", "listenKey"): RouteSpec("other", "keep-listen-key", keys.keep),
        ("DELETE", "listenKey"): RouteSpec("other", "end-listen-key", keys.end),
        ("GET", "time"): RouteSpec("other", "time", public.time, public=True),
        ("GET", "ping"): RouteSpec("ping", "ping", lambda account, params: {}, public=True),
        ("GET", "exchangeInfo"): RouteSpec("other", "markets", public.exchange_info, public=True),
    }
    api = venue.product.api
    rows = {(method, f"{api}/v1/{path}"): spec for (method, path), spec in table.items()}
    for version in venue.product.account_versions:
        rows |= {
            ("GET", f"{api}/{version}/account"): RouteSpec("read", "account", reads.account, 5),
            ("GET", f"{api}/{version}/balance"): RouteSpec("read", "balance", reads.balance, 5),
            ("GET", f"{api}/{version}/positionRisk"): RouteSpec("read", "positions", reads.positions, 5),
        }
    if venue.product.is_linear:
        rows["GET", f"{api}/v2/ticker/price"] = RouteSpec("other", "price", market.price, 1, public=True)
    return rows | settings.routes(venue) | prices.routes(market, f"{api}/v1", is_spot=False)


class CancelCalls:
    """The calls that cancel. Regular orders and algo orders are two spaces, and no call reaches both (§3.4)."""

    def __init__(self, venue: BinanceFutures) -> None:
        self._venue = venue

    def cancel_all(self, account: Account, params: Params) -> object:
        """Answer allOpenOrders, which also succeeds when nothing is open (§3.3)."""
        return self._sweep(account, params, is_algo=False)

    def cancel_all_algo(self, account: Account, params: Params) -> object:
        """Answer algoOpenOrders."""
        return self._sweep(account, params, is_algo=True)

    def _sweep(self, account: Account, params: Params, *, is_algo: bool) -> object:
        self._venue.permit_command(account)
        symbol = known_symbol(self._venue.symbols, params)
        if not is_algo:
            self._venue.race(account, symbol)
        covered = [order for order in self._venue.covered(account) if order.symbol == symbol]
        reaches_all = self._venue.futures_options.sweep_reaches_algo and not is_algo
        orders = [order for order in covered if reaches_all or bool(order.category) is is_algo]
        orders = [order for order in orders if order.state != "TRIGGERING"]
        if not orders and self._venue.futures_options.nothing == "-2011":
            raise refusal("-2011")
        self._venue.cancel(account, orders, whole=True)
        return _DONE

    def cancel_order(self, account: Account, params: Params) -> object:
        """Answer DELETE order."""
        self._venue.permit_command(account)
        symbol = known_symbol(self._venue.symbols, params)
        return self._cancel_one(account, symbol, params)

    def _cancel_one(self, account: Account, symbol: str, params: Params) -> Any:
        mine = [order for order in account.open.values() if not order.category and order.symbol == symbol]
        order = named_order(mine, params, "orderId", "origClientOrderId")
        if order is None:
            raise refusal("-2011")
        shown = wire.listed(order) | {"status": "CANCELED"}
        self._venue.cancel(account, [order], whole=False, single=True)
        return shown

    def cancel_algo(self, account: Account, params: Params) -> object:
        """Answer DELETE algoOrder, whose code is a text (§3.4)."""
        self._venue.permit_command(account)
        mine = [order for order in account.open.values() if order.category and order.state == "NEW"]
        order = named_order(mine, params, "algoId", "clientAlgoId")
        if order is None:
            raise refusal("-2011")
        self._venue.cancel(account, [order], whole=False, single=True)
        return {"algoId": int(order.id), "clientAlgoId": order.client_id, "code": "200", "msg": "success"}

    def cancel_batch(self, account: Account, params: Params) -> object:
        """Answer DELETE batchOrders: an order or an error for each id."""
        self._venue.permit_command(account)
        symbol = known_symbol(self._venue.symbols, params)
        named = {name.lower(): value for name, value in params.items()}  # ccxt writes the names in lower case
        lists = [("orderId", named.get("orderidlist")), ("origClientOrderId", named.get("origclientorderidlist"))]
        if all(text for _, text in lists):
            raise refusal("-1128")
        names = [(name, item) for name, text in lists if text for item in _json_list(str(text))]
        if not names:
            raise refusal("-1102", missing("orderIdList"))
        if any(type(item) is not (int if name == "orderId" else str) for name, item in names):
            raise refusal("-1130", "Data sent for parameter 'orderIdList' is not valid.")
        if len(names) > _MOST_IDS:
            raise refusal("-4054", "Maximum 10 cancel orders in one batch.")
        rows: list[object] = []
        for name, item in names:
            try:
                rows.append(self._cancel_one(account, symbol, {name: item}))
            except Refused as refused:
                rows.append({"code": int(refused.code), "msg": refused.text or TEXTS[refused.code]})
        return rows


class PlaceCalls:
    """The calls that place orders or arm the countdown."""

    def __init__(self, venue: BinanceFutures) -> None:
        self._venue = venue

    def order(self, account: Account, params: Params) -> SimAnswer:
        """Answer POST order; conditional types belong to the algo service (§3.4)."""
        order = self._new(account, params)
        headers = self._venue.limits.order_headers(account.venue_id, self._venue.order_rules)
        self._venue.place(account, order)
        return with_headers(wire.listed(order), headers)

    def test(self, account: Account, params: Params) -> object:
        """Answer POST order/test: the checks of POST order, and no order."""
        self._new(account, params)
        return {}

    def batch(self, account: Account, params: Params) -> object:
        """Answer POST batchOrders: an order or an error for each."""
        self._venue.permit_command(account)
        items = _json_list(str(params.get("batchOrders", "")))
        if not all(isinstance(item, dict) for item in items) or not 1 <= len(items) <= _MOST_ORDERS:
            raise refusal("-1102", missing("batchOrders"))
        return [self._each(account, item) for item in items]

    def _each(self, account: Account, item: Any) -> object:
        try:
            return wire.listed(self._venue.place(account, self._new(account, item)))
        except Refused as refused:
            return {"code": int(refused.code), "msg": refused.text or TEXTS[refused.code]}

    def modify(self, account: Account, params: Params) -> object:
        """Answer PUT order: another price and quantity of an order, which keeps its id."""
        self._venue.permit_command(account)
        symbol, side = known_symbol(self._venue.symbols, params), order_side(params)
        mine = [order for order in account.open.values() if not order.category and order.symbol == symbol]
        order = named_order(mine, params, "orderId", "origClientOrderId", prevails=True)
        if order is None or order.side != side:
            raise refusal("-2013")
        changed = number(params, "quantity"), number(params, "price")
        if changed == (order.qty, order.price):
            raise refusal("-5027", "No need to modify the order.")
        order.qty, order.price = changed
        self._venue.push_orders(account, [order], "amended")
        return wire.listed(order)

    def _new(self, account: Account, params: Params) -> Order:
        kind = str(params.get("type", ""))
        self._venue.permit_command(account)
        symbol, side = known_symbol(self._venue.symbols, params), order_side(params)
        if kind in wire.ALGO_KINDS:
            raise refusal("-4120")
        if kind not in ("LIMIT", "MARKET"):
            raise refusal("-1116")
        price = number(params, "price") if kind == "LIMIT" else None
        return self._venue.new_order(
            account, symbol, kind.lower(), side=side, price=price, qty=number(params, "quantity"),
            client_id=client_id(params, "newClientOrderId"), tif=_time(params) if kind == "LIMIT" else None,
        )  # fmt: skip

    def algo(self, account: Account, params: Params) -> SimAnswer:
        """Answer POST algoOrder."""
        self._venue.permit_command(account)
        symbol, side = known_symbol(self._venue.symbols, params), order_side(params)
        kind = str(params.get("type", ""))
        if params.get("algoType") != "CONDITIONAL":
            raise refusal("-1102", missing("algoType"))
        if kind not in wire.ALGO_KINDS:
            raise refusal("-1116")
        trails = kind == "TRAILING_STOP_MARKET"
        order = self._venue.new_order(
            account, symbol, wire.ALGO_KINDS[kind], side=side, qty=number(params, "quantity"),
            stop_price=number(params, "activatePrice" if trails else "triggerPrice"),
            client_id=client_id(params, "clientAlgoId"),
        )  # fmt: skip
        headers = self._venue.limits.order_headers(account.venue_id, self._venue.order_rules)
        self._venue.place(account, order)
        return with_headers(wire.listed(order), headers)

    def countdown(self, account: Account, params: Params) -> object:
        """Answer countdownCancelAll: milliseconds, for one symbol; 0 disarms (§6)."""
        self._venue.permit_command(account)
        symbol, text = known_symbol(self._venue.symbols, params), str(params.get("countdownTime", ""))
        if not text:
            raise refusal("-1102", missing("countdownTime"))
        least = self._venue.futures_options.countdown_least_ms
        if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS or 0 < int(text) < least:
            raise refusal("-1130", "Data sent for parameter 'countdownTime' is not valid.")
        self._venue.countdown(account, symbol).arm(int(text) / 1000)
        return {"symbol": symbol, "countdownTime": text}


class ReadCalls:
    """The calls that read."""

    def __init__(self, venue: BinanceFutures) -> None:
        self._venue = venue

    def open_orders(self, account: Account, params: Params) -> object:
        """Answer openOrders, which has no algo orders."""
        return self._list(account, params, "orders", is_algo=False)

    def open_algo_orders(self, account: Account, params: Params) -> object:
        """Answer openAlgoOrders."""
        return self._list(account, params, "algo-orders", is_algo=True)

    def _list(self, account: Account, params: Params, name: str, *, is_algo: bool) -> object:
        symbol = known_symbol(self._venue.symbols, params, needed=False)
        hidden = () if self._venue.futures_options.triggering_listed else ("TRIGGERING",)
        return [
            wire.listed(order)
            for order in self._venue.listed(account, name)
            if bool(order.category) is is_algo and symbol in ("", order.symbol) and order.state not in hidden
        ]

    def order(self, account: Account, params: Params) -> object:
        """Answer GET order; an algo order's id is unknown here (§8)."""
        symbol = known_symbol(self._venue.symbols, params)
        known = [*account.open.values(), *account.closed.values()]
        mine = [order for order in known if not order.category and order.symbol == symbol]
        return wire.listed(_exists(named_order(mine, params, "orderId", "origClientOrderId")))

    def algo_order(self, account: Account, params: Params) -> object:
        """Answer GET algoOrder."""
        known = [order for order in (*account.open.values(), *account.closed.values()) if order.category]
        order = _exists(named_order(known, params, "algoId", "clientAlgoId"))
        return wire.listed(order, self._venue.became.get(order.id, ""))

    def account(self, account: Account, params: Params) -> object:
        """Answer account (§9)."""
        product = self._venue.product
        return wire.account_body(account, product.asset, self._now_ms(), has_totals=product.is_linear)

    def balance(self, account: Account, params: Params) -> object:
        """Answer balance."""
        return [wire.balance_row(account, self._venue.product.asset, self._now_ms())]

    def _now_ms(self) -> int:
        return self._venue.now_ns() // 1_000_000

    def positions(self, account: Account, params: Params) -> object:
        """Answer positionRisk."""
        return list(wire.position_rows(account))

    def income(self, account: Account, params: Params) -> object:
        """Answer income: transfers only, from `startTime` on."""
        if params.get("incomeType", "TRANSFER") != "TRANSFER":
            return []
        since_ms = int(number(params, "startTime")) if "startTime" in params else 0
        return [
            {"symbol": "", "incomeType": "TRANSFER", "income": str(move.amount), "asset": self._venue.product.asset,
             "info": "TRANSFER", "time": move.at_ms, "tranId": nth, "tradeId": ""}
            for nth, move in enumerate(self._venue.transfers.get(account.name, []), 1)
            if move.at_ms >= since_ms
        ]  # fmt: skip


class KeyCalls:
    """The calls of the listenKey, which need the API key only (§2, §5)."""

    def __init__(self, venue: BinanceFutures) -> None:
        self._keys = venue.listen_keys

    def create(self, account: Account, params: Params) -> object:
        """Answer POST: the same key as long as it is valid, for 60 more minutes."""
        return {"listenKey": self._keys.create(account)}

    def keep(self, account: Account, params: Params) -> object:
        """Answer PUT."""
        return {"listenKey": self._keys.keep(account)}

    def end(self, account: Account, params: Params) -> object:
        """Answer DELETE: it ends the streams of every program that uses the key."""
        self._keys.end(account)
        return {}


class PublicCalls:
    """The calls that need no key."""

    def __init__(self, venue: BinanceFutures) -> None:
        self._venue = venue

    def time(self, account: Account, params: Params) -> object:
        """Answer time."""
        return {"serverTime": self._venue.now_ns() // 1_000_000}

    def exchange_info(self, account: Account, params: Params) -> object:
        """Answer exchangeInfo."""
        limits = [
            ("REQUEST_WEIGHT", "MINUTE", 1, self._venue.options.pool),
            ("ORDERS", "SECOND", 10, 300), ("ORDERS", "MINUTE", 1, 1200),
        ]  # fmt: skip
        return {
            "timezone": "UTC", "serverTime": self._venue.now_ns() // 1_000_000, "rateLimits": rate_limits(limits),
            "exchangeFilters": [], "assets": [], "symbols": self._venue.markets(),
        }  # fmt: skip


def _time(params: Params) -> str:
    text = params.get("timeInForce")
    if text in (None, ""):
        raise refusal("-1102", missing("timeInForce"))
    if text not in _TIMES:
        raise refusal("-1115", "Invalid timeInForce.")
    if text == "GTD":
        number(params, "goodTillDate")
    return str(text)


def _exists(order: Order | None) -> Order:
    if order is None:
        raise refusal("-2013")
    return order


def _json_list(text: str) -> list[Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, list) or not value:
        raise refusal("-1130", "Data sent for parameter 'orderIdList' is not valid.")
    return value
