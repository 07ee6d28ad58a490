"""Kraken's orders that a client places, amends or edits, over REST and over the WebSocket.

The shapes are those of docs.kraken.com: AddOrder, AddOrderBatch, AmendOrder, EditOrder, and the frames of the same
names. An amend keeps the order's id; an edit cancels the order and places another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kill_switch.sim.kit import values
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.tables import Op, Params, Refused, RouteSpec
from kill_switch.sim.kraken import payloads as wire
from kill_switch.sim.kraken.desk import UNKNOWN_ORDER
from kill_switch.sim.kraken.records import amend_row, original_row
from kill_switch.sim.kraken.v2 import find_order

if TYPE_CHECKING:
    from kill_switch.sim.kraken.venue import Kraken

_BATCH = range(2, 16)  # orders of a batch
_INVALID = "EGeneral:Invalid arguments"
_FRAME_NAMES = {  # a frame's parameters → REST's; the others have the same names
    "order_type": "ordertype", "side": "type", "symbol": "pair", "order_qty": "volume", "order_userref": "userref",
}  # fmt: skip


class Placing:
    """Place and change orders, whatever they came over."""

    def __init__(self, venue: Kraken) -> None:
        self._desk = venue.desk
        self._venue = venue

    def prepare(self, account: Account, params: Params) -> Order:
        """Check a new order, and charge it; return it. Raises `Refused`, also where the mode forbids it (§8)."""
        pair = wire.BY_NAME.get(str(params.get("pair")))
        if pair is None:
            raise Refused("EQuery:Unknown asset pair")
        self._permit_new(params)
        order = self._new_order(account, pair, params)
        self._desk.charge_placing(account, pair)
        return order

    def _permit_new(self, params: Params) -> None:
        """Refuse a new or changed order where the mode forbids it (§8). Raises `Refused`."""
        mode = self._venue.mode
        is_post = params.get("post_only") is True or "post" in str(params.get("oflags", "")).split(",")
        if mode == "cancel_only" or (mode == "post_only" and not is_post):
            raise Refused(f"EService:Market in {mode} mode")

    def _new_order(self, account: Account, pair: wire.Pair, params: Params) -> Order:
        kind, side = str(params.get("ordertype")), str(params.get("type"))
        if side not in ("buy", "sell"):
            raise Refused(f"{_INVALID}:type")
        if kind == "stop" or kind not in (*wire.KINDS, "market", "stop-loss"):
            raise Refused(f"{_INVALID}:ordertype")
        order = self._venue.make_order(account, pair.alt, kind, str(params.get("userref", "")), 0)
        order.side, order.client_id = side, str(params.get("cl_ord_id", ""))
        order.qty = positive(params, "volume")
        if kind != "market":
            first = positive(params, "price")
            order.price = positive(params, "price2") if kind.endswith("-limit") else first
            order.stop_price = None if kind == "limit" else first
        return order

    def prepare_batch(self, account: Account, pair: object, items: object) -> list[Order]:
        """Check the orders of a batch, all of one pair: a wrong order refuses the batch."""
        if not isinstance(items, list) or len(items) not in _BATCH:
            raise Refused(f"{_INVALID}:orders")
        if not all(isinstance(item, Mapping) for item in items):
            raise Refused(f"{_INVALID}:orders")
        return [self.prepare(account, {**item, "pair": pair}) for item in items]

    def rest(self, account: Account, orders: Sequence[Order]) -> None:
        """Rest new orders."""
        for order in orders:
            self._venue.place(account, order)

    def amend(self, account: Account, params: Params) -> tuple[Order, str]:
        """Change an order in place, and return it and the amend's id. A filled amount cancels what is left."""
        self._desk.permit(account, "amend")
        self._permit_new(params)
        key = next((key for key in ("cl_ord_id", "order_id", "txid") if params.get(key)), None)
        if key is None:
            raise Refused(f"{_INVALID}:txid")
        order = find_order(account, key, params[key])
        if order is None:
            raise Refused(UNKNOWN_ORDER)
        changes = _changes(order, params, qty="order_qty", price="limit_price", trigger="trigger_price")
        if not changes:
            raise Refused(_INVALID)
        if changes.get("qty", order.qty) <= order.filled:
            self._desk.cancel_named(account, [order])
            return order, wire.new_id("T")
        rows = self._venue.amends.setdefault(order.id, [original_row(order)])
        for name, value in changes.items():
            setattr(order, name, value)
        amend_id = wire.new_id("T")
        rows.append(amend_row(order, amend_id, self._venue.now_ns()))
        self._venue.push_orders(account, [order], "amended")
        return order, amend_id

    def edit(self, account: Account, params: Params) -> tuple[Order, Order]:
        """Cancel an order and place another; return both. A partly filled order is refused."""
        self._desk.permit(account, "edit")
        self._permit_new(params)
        pair = wire.BY_NAME.get(str(params.get("pair")))
        if pair is None:
            raise Refused("EQuery:Unknown asset pair")
        if not params.get("txid"):
            raise Refused(f"{_INVALID}:txid")
        order = find_order(account, "txid", params["txid"])
        if order is None or wire.pair_of(order.symbol) is not pair:
            raise Refused(UNKNOWN_ORDER)
        if order.filled:
            raise Refused(f"{_INVALID}:txid")
        is_conditional = order.stop_price is not None
        names = {"price": "price2", "trigger": "price"} if is_conditional else {"price": "price", "trigger": "price2"}
        changes = _changes(order, params, qty="volume", **names)
        blank = self._venue.make_order(account, order.symbol, order.kind, str(params.get("userref", order.category)), 0)
        kept = {name: getattr(order, name) for name in ("side", "qty", "price", "stop_price", "tif")}
        successor = replace(blank, **(kept | changes))
        if code := self._desk.cancel_named(account, [order])[0]:
            raise Refused(code)
        self._venue.place(account, successor)
        return order, successor


class PlaceCalls:
    """The calls of REST."""

    def __init__(self, venue: Kraken) -> None:
        self._desk = venue.desk
        self._placing = Placing(venue)

    def routes(self) -> dict[str, RouteSpec]:
        """Return the private routes; none of them counts in the REST counter (§7)."""
        return {
            "AddOrder": RouteSpec("other", "place", self.add_order, weight=0),
            "AddOrderBatch": RouteSpec("other", "place-batch", self.add_order_batch, weight=0),
            "AmendOrder": RouteSpec("other", "amend", self.amend_order, weight=0),
            "EditOrder": RouteSpec("other", "edit", self.edit_order, weight=0),
        }

    def add_order(self, account: Account, params: Params) -> object:
        """Answer AddOrder."""
        self._desk.permit(account, "place")
        order = self._placing.prepare(account, params)
        if _is_trial(params):
            return {"descr": _described(order)}
        self._placing.rest(account, [order])
        return {"descr": _described(order), "txid": [order.id]}

    def add_order_batch(self, account: Account, params: Params) -> object:
        """Answer AddOrderBatch, which takes a JSON list."""
        self._desk.permit(account, "place")
        orders = self._placing.prepare_batch(account, params.get("pair"), params.get("orders"))
        if _is_trial(params):
            return {"orders": [{"descr": _described(order)} for order in orders]}
        self._placing.rest(account, orders)
        return {"orders": [{"txid": order.id, "descr": _described(order)} for order in orders]}

    def amend_order(self, account: Account, params: Params) -> object:
        """Answer AmendOrder."""
        return {"amend_id": self._placing.amend(account, params)[1]}

    def edit_order(self, account: Account, params: Params) -> object:
        """Answer EditOrder."""
        order, successor = self._placing.edit(account, params)
        return {
            "status": "ok", "txid": successor.id, "originaltxid": order.id, "volume": f"{successor.qty:.8f}",
            "price": str(successor.price), "orders_cancelled": 1, "descr": _described(successor),
        }  # fmt: skip


class PlaceFrames:
    """The frames of the WebSocket; numbers are JSON numbers there."""

    def __init__(self, venue: Kraken) -> None:
        self._desk = venue.desk
        self._placing = Placing(venue)

    def ops(self) -> dict[str, Op]:
        """Return the operations."""
        handlers: dict[str, tuple[str, Callable[[Account, Mapping[str, Any]], object]]] = {
            "add_order": ("place", self._add),
            "batch_add": ("place-batch", self._batch),
            "amend_order": ("amend", self._amend),
            "edit_order": ("edit", self._edit),
        }
        return {name: Op("other", _with_params(run), operation=log) for name, (log, run) in handlers.items()}

    def _add(self, account: Account, params: Mapping[str, Any]) -> object:
        self._desk.permit(account, "place")
        order = self._placing.prepare(account, _as_rest(params))
        if params.get("validate") is not True:
            self._placing.rest(account, [order])
        return _named(order)

    def _batch(self, account: Account, params: Mapping[str, Any]) -> object:
        self._desk.permit(account, "place")
        items = params.get("orders")
        asked = [_as_rest(item) if isinstance(item, Mapping) else item for item in items or ()]
        orders = self._placing.prepare_batch(account, params.get("symbol"), asked)
        if params.get("validate") is not True:
            self._placing.rest(account, orders)
        return [_named(order) for order in orders]

    def _amend(self, account: Account, params: Mapping[str, Any]) -> object:
        order, amend_id = self._placing.amend(account, params)
        name = {"cl_ord_id": order.client_id} if params.get("cl_ord_id") else {"order_id": order.id}
        return {"amend_id": amend_id, **name}

    def _edit(self, account: Account, params: Mapping[str, Any]) -> object:
        asked = _as_rest(params) | {"txid": params.get("order_id", "")}
        order, successor = self._placing.edit(account, asked)
        return {"order_id": successor.id, "original_order_id": order.id}


def _with_params(run: Callable[[Account, Mapping[str, Any]], object]) -> Callable[..., object]:
    def handle(session: Session, account: Account, data: dict[str, Any]) -> object:
        params = data.get("params")
        return run(account, params if isinstance(params, dict) else {})

    return handle


def _as_rest(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a frame's parameters under the names of REST: `price` is the trigger's where an order has one."""
    if any(isinstance(params.get(name), str) for name in ("order_qty", "limit_price")):
        raise Refused(f"{_INVALID}:order_qty")
    asked = {_FRAME_NAMES.get(name, name): value for name, value in params.items()}
    triggers = params.get("triggers")
    trigger = triggers.get("price") if isinstance(triggers, Mapping) else None
    limit = params.get("limit_price")
    prices = {"price": limit} if trigger is None else {"price": trigger, "price2": limit}
    asked |= {name: value for name, value in prices.items() if value is not None}
    return asked | ({"oflags": "post"} if params.get("post_only") is True else {})


def _changes(order: Order, params: Params, *, qty: str, price: str, trigger: str) -> dict[str, Decimal]:
    """Return the changed fields of an order by their names. Raises `Refused` for what is no number above 0."""
    fields = {"qty": qty, "price": price, "stop_price": trigger}
    if order.stop_price is None:
        del fields["stop_price"]
    return {field: positive(params, name) for field, name in fields.items() if params.get(name) not in (None, "")}


def _named(order: Order) -> dict[str, object]:
    names = {"cl_ord_id": order.client_id, "order_userref": int(order.category) if order.category.isdigit() else 0}
    return {"order_id": order.id} | {name: value for name, value in names.items() if value}


def _described(order: Order) -> dict[str, str]:
    return {"order": wire.listed(order)["descr"]["order"]}


def _is_trial(params: Params) -> bool:
    return str(params.get("validate", "false")).lower() == "true"


def positive(params: Params, name: str, code: str = "") -> Decimal:
    """Return a parameter that is a number above 0. Raises `Refused`, with `code` if there is one."""
    value = values.positive(params.get(name))
    if value is None:
        raise Refused(code or f"{_INVALID}:{name}")
    return value
