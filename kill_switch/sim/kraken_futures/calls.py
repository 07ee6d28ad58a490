"""Kraken derivatives' REST v3 (docs/venues/kraken.md §3.4, §4.2, §6, §7): the table of routes, and their handlers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kit.values import is_uuid
from kill_switch.sim.kraken.placing import positive
from kill_switch.sim.kraken_futures import payloads as wire

if TYPE_CHECKING:
    from kill_switch.sim.kraken_futures.venue import KrakenFutures

_API = "/derivatives/api/v3/"
TOKEN_PATH = "/0/private/GetWebSocketsToken"  # noqa: S105 - the path of a call
_KINDS = {"lmt": "limit", "post": "post", "stp": "stop", "take_profit": "take_profit", "mkt": "market"}
_BATCH_WEIGHT = 9
_FILLS_BEFORE = 23  # that `fills` costs more with `lastFillTime` (§7)
_SHOWN_S = 5.0  # for which orders/status shows an order that has ended (§4.2)


def routes(venue: KrakenFutures) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes of the venue; weights are costs in the pool of 500 per 10 s (§7)."""
    cancels, reads = CancelCalls(venue), ReadCalls(venue)
    posts = {
        "cancelallorders": RouteSpec("cancel", "cancel-all", cancels.cancel_all_orders, 25),
        "cancelorder": RouteSpec("cancel", "cancel", cancels.cancel_order, 10),
        "batchorder": RouteSpec("cancel", "cancel-batch", cancels.batch_order, _BATCH_WEIGHT),
        "cancelallordersafter": RouteSpec("other", "dead-man", cancels.cancel_after, 25),
        "sendorder": RouteSpec("other", "place", cancels.send_order, 10),
        "editorder": RouteSpec("other", "edit", cancels.edit_order, 10),
        "orders/status": RouteSpec("read", "order", reads.order_status, 1),
    }
    gets = {
        "orders/status": RouteSpec("read", "order", reads.order_status, 1),  # ccxt writes the ids into a query
        "openorders": RouteSpec("read", "orders", reads.open_orders, 2),
        "accounts": RouteSpec("read", "accounts", reads.accounts, 2),
        "openpositions": RouteSpec("read", "positions", reads.open_positions, 2),
        "fills": RouteSpec("other", "fills", reads.fills, 2),
        "notifications": RouteSpec("other", "notifications", lambda account, params: {"notifications": []}, 1),
        "tickers": RouteSpec("other", "tickers", reads.tickers, 0, public=True),
        "tickers/{symbol}": RouteSpec("other", "ticker", reads.ticker, 0, public=True),
        "orderbook": RouteSpec("other", "book", reads.order_book, 0, public=True),
        "instruments": RouteSpec("other", "instruments", reads.instruments, 0, public=True),
        "instruments/status": RouteSpec("other", "status", reads.instrument_status, 0, public=True),
    }
    table = {("POST", _API + name): spec for name, spec in posts.items()}
    table |= {("GET", _API + name): spec for name, spec in gets.items()}
    return table | {("POST", TOKEN_PATH): RouteSpec("login", "token", reads.token)}


class CancelCalls:
    """The calls that cancel, place, or arm the countdown."""

    def __init__(self, venue: KrakenFutures) -> None:
        self._venue = venue

    def cancel_all_orders(self, account: Account, params: Params) -> object:
        """Answer cancelallorders, of the account or of a symbol in any case."""
        self._venue.permit_rest(account)
        _check_known(params, "symbol")
        symbol, only = params.get("symbol"), "all"
        orders = self._venue.covered(account)
        if symbol is not None:
            only = str(symbol).upper()
            if only not in wire.SYMBOLS:
                raise Refused("contractNotFound")
            orders = [order for order in orders if order.symbol.upper() == only]
        claimed = self._venue.cancel(account, orders, whole=True)
        status = "cancelled" if claimed else "noOrdersToCancel"
        return {
            "cancelStatus": {
                "receivedTime": self._now(), "cancelOnly": only, "status": status,
                "cancelledOrders": [{"order_id": order.id} for order in claimed],
                "orderEvents": [wire.order_event(order, "CANCEL") for order in claimed],
            }
        }  # fmt: skip

    def cancel_order(self, account: Account, params: Params) -> object:
        """Answer cancelorder: a miss is a success whose status is `notFound`."""
        self._venue.permit_rest(account)
        _check_known(params, "order_id", "cliOrdId", "processBefore")
        return {"cancelStatus": self._cancel_one(account, params) | {"receivedTime": self._now()}}

    def batch_order(self, account: Account, params: Params) -> object:
        """Answer batchorder, for cancels and placements; it costs one more for each (§7)."""
        self._venue.permit_rest(account)
        try:
            batch = orjson.loads(str(params.get("json", "")))
        except orjson.JSONDecodeError:
            raise Refused("Json Parse Error") from None
        items = batch.get("batchOrder") if isinstance(batch, dict) else None
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            raise Refused("requiredArgumentMissing")
        self._venue.charge(account, len(items))
        for item in items:  # a batch that is refused has changed nothing
            match item.get("order"):
                case "cancel":
                    _check_names(item, "order_id")
                case "edit":
                    _check_names(item, "order_id" if "order_id" in item else "orderId")
                    _changes(item)
                case "send":
                    self._new_order(account, item)
                case _:
                    raise Refused("invalidArgument")
        return {"batchStatus": [self._batch_one(account, item) for item in items]}

    def _batch_one(self, account: Account, item: Params) -> dict[str, object]:
        if item["order"] == "cancel":
            return self._cancel_one(account, item)
        answer = self._edit if item["order"] == "edit" else self._place
        return {"order_tag": item.get("order_tag"), **answer(account, item)}

    def _cancel_one(self, account: Account, params: Params) -> dict[str, object]:
        order_id, client = _check_names(params, "order_id")
        name = {"order_id": order_id} if order_id else {"cliOrdId": client}
        order = _find(account.open.values(), order_id, client)
        if order is None:
            ended = _find(account.closed.values(), order_id, client)
            return {"status": "filled" if ended and ended.state == "filled" else "notFound", **name}
        self._venue.cancel(account, [order], whole=False, single=True)
        return {"status": "cancelled", "order_id": order.id, "orderEvents": [wire.order_event(order, "CANCEL")]}

    def cancel_after(self, account: Account, params: Params) -> object:
        """Answer cancelallordersafter (§6)."""
        self._venue.permit_rest(account)
        _check_known(params, "timeout")
        return {"status": self._venue.countdowns.arm(account, params.get("timeout"), "invalidArgument", wire.iso_ms)}

    def send_order(self, account: Account, params: Params) -> object:
        """Answer sendorder."""
        self._venue.permit_rest(account)
        return {"sendStatus": self._place(account, params)}

    def edit_order(self, account: Account, params: Params) -> object:
        """Answer editorder: the order keeps its id; a miss is a success whose status says so."""
        self._venue.permit_rest(account)
        return {"editStatus": self._edit(account, params)}

    def _edit(self, account: Account, params: Params) -> dict[str, object]:
        order_id, client = _check_names(params, "order_id" if "order_id" in params else "orderId")
        order = _find(account.open.values(), order_id, client)
        status: dict[str, object] = {"orderId": order_id, "receivedTime": self._now(), "orderEvents": []}
        if order is None:
            return {"status": "orderForEditNotFound", **status}
        if "stopPrice" in params and order.stop_price is None:
            return {"status": "orderForEditNotAStop", **status}
        was, before = replace(order), wire.event_order(order)
        for field, value in _changes(params).items():
            setattr(order, field, value)
        self._venue.past(account).note_edit(account, was, order, self._venue.now_ns())
        self._venue.push_orders(account, [order], "amended")
        event = {"type": "EDIT", "old": before, "new": wire.event_order(order), "reducedQuantity": None}
        return {"status": "edited", **status, "orderId": order.id, "orderEvents": [event]}

    def _new_order(self, account: Account, params: Params) -> Order:
        """Return an order that does not rest yet. Raises `Refused`."""
        kind, side, symbol = params.get("orderType"), params.get("side"), str(params.get("symbol", "")).upper()
        if symbol not in wire.SYMBOLS:
            raise Refused("contractNotFound")
        if side not in ("buy", "sell") or str(kind) not in _KINDS:
            raise Refused("invalidArgument")
        order = self._venue.make_order(account, symbol, _KINDS[str(kind)], "", 0)
        order.side, order.client_id = str(side), str(params.get("cliOrdId", ""))
        order.qty = positive(params, "size", "invalidArgument")
        if order.stop_price is not None:
            order.stop_price = positive(params, "stopPrice", "requiredArgumentMissing")
        elif order.kind != "market":
            order.price = positive(params, "limitPrice", "requiredArgumentMissing")
        return order

    def _place(self, account: Account, params: Params) -> dict[str, object]:
        order = self._new_order(account, params)
        self._venue.place(account, order)
        event = wire.order_event(order, "PLACE")
        return {"order_id": order.id, "status": "placed", "receivedTime": self._now(), "orderEvents": [event]}

    def _now(self) -> str:
        return wire.iso_ms(self._venue.now_ns())


class ReadCalls:
    """The calls that read, and the call of the spot API that hands out tokens."""

    def __init__(self, venue: KrakenFutures) -> None:
        self._venue = venue

    def open_orders(self, account: Account, params: Params) -> object:
        """Answer openorders: one page, triggers included."""
        self._venue.permit_read()
        return {"openOrders": self._venue.list_open(account, "orders", wire.listed)}

    def order_status(self, account: Account, params: Params) -> object:
        """Answer orders/status; ids that are unknown, or have ended a while ago, are left out (§4.2)."""
        self._venue.permit_read()
        ids = params.get("orderIds")
        if not isinstance(ids, list) or not ids:
            raise Refused("requiredArgumentMissing")
        since = time.monotonic() - _SHOWN_S
        ended = {order_id: order for order_id, order in account.closed.items() if order.ended_s >= since}
        known = ended | account.open
        return {"orders": [wire.order_status(known[order_id]) for order_id in ids if order_id in known]}

    def accounts(self, account: Account, params: Params) -> object:
        """Answer accounts (§9)."""
        self._venue.permit_read()
        return {"accounts": wire.accounts(account)}

    def open_positions(self, account: Account, params: Params) -> object:
        """Answer openpositions."""
        self._venue.permit_read()
        return {"openPositions": wire.positions(account)}

    def fills(self, account: Account, params: Params) -> object:
        """Answer fills: a row for each order that traded, of those before `lastFillTime` if it is given."""
        self._venue.permit_read()
        known = [*account.closed.values(), *account.open.values()]
        if last := str(params.get("lastFillTime", "")):
            self._venue.charge(account, _FILLS_BEFORE)
            known = [order for order in known if wire.iso_ms(order.closed_ns) < last]
        return {
            "fills": [
                {"fill_id": order.id, "symbol": order.symbol, "side": order.side, "order_id": order.id,
                 "size": float(order.filled), "price": float(order.price), "fillType": "maker",
                 "fillTime": wire.iso_ms(order.closed_ns or order.created_ns)}
                for order in known
                if order.filled
            ]
        }  # fmt: skip

    def tickers(self, account: Account, params: Params) -> dict[str, list[dict[str, object]]]:
        """Answer tickers."""
        prices = dict.fromkeys(("last", "markPrice", "indexPrice", "bid", "ask"), 30_000.0)
        return {
            "tickers": [
                {"symbol": symbol, "tag": "perpetual", "pair": f"{symbol[3:-3]}:USD", "suspended": False,
                 "postOnly": False, "bidSize": 1.0, "askSize": 1.0, "vol24h": 0.0, "openInterest": 0.0, **prices}
                for symbol in wire.SYMBOLS
            ]
        }  # fmt: skip

    def ticker(self, account: Account, params: Params) -> object:
        """Answer tickers of one contract."""
        symbol = str(params.get("symbol", "")).upper()
        rows = self.tickers(account, params)["tickers"]
        row = next((row for row in rows if row["symbol"] == symbol), None)
        if row is None:
            raise Refused("contractNotFound")
        return {"ticker": row}

    def order_book(self, account: Account, params: Params) -> object:
        """Answer orderbook: a price on each side."""
        if str(params.get("symbol", "")).upper() not in wire.SYMBOLS:
            raise Refused("contractNotFound")
        return {"orderBook": {"bids": [[29_999.0, 1.0]], "asks": [[30_001.0, 1.0]]}}

    def instruments(self, account: Account, params: Params) -> object:
        """Answer instruments."""
        return {"instruments": wire.instruments()}

    def instrument_status(self, account: Account, params: Params) -> object:
        """Answer instruments/status (§8)."""
        is_down = self._venue.mode == "maintenance"
        shown = {"isSuspended": is_down, "isExperiencingDislocation": False, "isExperiencingExtremeVolatility": False}
        return {"instrumentStatus": [{"tradeable": symbol, **shown} for symbol in wire.SYMBOLS]}

    def token(self, account: Account, params: Params) -> object:
        """Answer the spot API's GetWebSocketsToken (§2.2)."""
        return {"token": self._venue.tokens.issue(account), "expires": int(self._venue.options.token_s)}


def _find(orders: Any, order_id: str, client: object) -> Order | None:
    """Return the order of an id, else that of a client id. Raises `Refused` if both are given and differ."""
    if not order_id:
        return next((order for order in orders if order.client_id == client), None)
    order = next((order for order in orders if order.id == order_id.lower()), None)
    if order is not None and client and order.client_id != client:
        raise Refused("invalidArgument")
    return order


def _check_names(params: Params, key: str) -> tuple[str, object]:
    """Return id and client id of a request. Raises `Refused` without either, and for an id that is no UUID (§1)."""
    order_id, client = params.get(key) or "", params.get("cliOrdId") or ""
    if not order_id and not client:
        raise Refused("requiredArgumentMissing")
    if order_id and not is_uuid(order_id):
        raise Refused("invalidArgument")
    return str(order_id), client


def _check_known(params: Params, *names: str) -> None:
    """Refuse an argument that a call does not have: no document says that it is ignored. Raises `Refused`."""
    if not params.keys() <= set(names):
        raise Refused("invalidArgument")


def _changes(params: Params) -> dict[str, Decimal]:
    """Return the changed fields of an order by their names. Raises `Refused` for what is no number above 0."""
    fields = {"qty": "size", "price": "limitPrice", "stop_price": "stopPrice"}
    return {field: positive(params, name, "invalidArgument") for field, name in fields.items() if name in params}


def id_list(values: Sequence[str]) -> list[str]:
    """Return the ids of a repeated parameter; only a value in brackets is a list of ids, with commas between them."""
    ids: list[str] = []
    for value in values:
        is_list = value.startswith("[") and value.endswith("]")
        ids += [part.strip('" ') for part in value[1:-1].split(",")] if is_list else [value]
    return [order_id for order_id in ids if order_id]
