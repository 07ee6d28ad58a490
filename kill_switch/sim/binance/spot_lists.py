"""Spot's calls of order lists: OCO, OTO and OTOCO are placed, looked up and listed.

The shapes are those of Binance's spot documents. `spot_calls` cancels lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kill_switch.sim.binance import spot_payloads as wire
from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.history import page_size
from kill_switch.sim.binance.params import client_id, known_symbol, missing, number, order_side, with_headers
from kill_switch.sim.binance.spot_placing import PlaceCalls, kind_fields
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.protocol import SimAnswer
from kill_switch.sim.kit.tables import Params

if TYPE_CHECKING:
    from kill_switch.sim.binance.spot import BinanceSpot

_STOPS = ("stop_loss", "stop")
_PROFITS = ("take_profit", "take_profit_limit")
_PAIRED = (*_STOPS, "maker", *_PROFITS)
_WORKING = ("limit", "maker")
_MISPLACED: Mapping[str, tuple[str, str]] = {  # by the kind of a leg and its side, when it is in the other place
    **{f"{kind} buy": ("-1196", "A stop loss order in a buy OCO must be above.") for kind in _STOPS},
    **{f"{kind} sell": ("-1197", "A stop loss order in a sell OCO must be below.") for kind in _STOPS},
    **{f"{kind} buy": ("-1198", "A take profit order in a buy OCO must be below.") for kind in _PROFITS},
    **{f"{kind} sell": ("-1199", "A take profit order in a sell OCO must be above.") for kind in _PROFITS},
    "maker buy": ("-1165", "A limit order in a buy OCO must be below."),
    "maker sell": ("-1166", "A limit order in a sell OCO must be above."),
}


class ListCalls:
    """The calls that place and read lists."""

    def __init__(self, venue: BinanceSpot, places: PlaceCalls) -> None:
        self._venue = venue
        self._places = places

    # placing

    def oco(self, account: Account, params: Params) -> SimAnswer:
        """Answer orderList.place.oco: a maker or a take-profit, and a stop-loss."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        shared = {"side": order_side(params), "qty": number(params, "quantity")}
        return self._place(account, symbol, "oco", _pair(params, "above", "below", shared), params)

    def old_oco(self, account: Account, params: Params) -> SimAnswer:
        """Answer orderList.place, which is deprecated: a maker and a stop-loss, with a limit or without."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        shared = {"side": order_side(params), "qty": number(params, "quantity")}
        has_limit = params.get("stopLimitPrice") is not None
        named: dict[str, Any] = {
            "stopType": "STOP_LOSS_LIMIT" if has_limit else "STOP_LOSS", "stopStopPrice": params.get("stopPrice"),
            "stopPrice": params.get("stopLimitPrice"), "stopTrailingDelta": params.get("trailingDelta"),
            "stopTimeInForce": params.get("stopLimitTimeInForce"), "stopClientOrderId": params.get("stopClientOrderId"),
            "limitType": "LIMIT_MAKER", "limitPrice": params.get("price"),
            "limitClientOrderId": params.get("limitClientOrderId"),
        }  # fmt: skip
        legs = [kind_fields(named, "stop", _STOPS) | shared, kind_fields(named, "limit", ("maker",)) | shared]
        return self._place(account, symbol, "oco", legs, params)

    def oto(self, account: Account, params: Params) -> SimAnswer:
        """Answer orderList.place.oto: a working order, and an order that rests when the first has filled."""
        self._venue.permit_trade(account)
        symbol, working = self._working(params)
        pending = kind_fields(params, "pending", tuple(wire.KINDS.values()))
        pending |= {"side": _side(params, "pendingSide"), "qty": number(params, "pendingQuantity")}
        return self._place(account, symbol, "oto", [working, pending], params)

    def otoco(self, account: Account, params: Params) -> SimAnswer:
        """Answer orderList.place.otoco: a working order, and an OCO that rests when the first has filled."""
        self._venue.permit_trade(account)
        symbol, working = self._working(params)
        shared = {"side": _side(params, "pendingSide"), "qty": number(params, "pendingQuantity")}
        pair = _pair(params, "pendingAbove", "pendingBelow", shared)
        return self._place(account, symbol, "oto", [working, *pair], params)

    def _working(self, params: Params) -> tuple[str, dict[str, Any]]:
        symbol = known_symbol(self._venue.symbols, params)
        fields = kind_fields(params, "working", _WORKING)
        return symbol, fields | {"side": _side(params, "workingSide"), "qty": number(params, "workingQuantity")}

    def _place(
        self, account: Account, symbol: str, kind: str, legs: Sequence[dict[str, Any]], params: Params
    ) -> SimAnswer:
        client = client_id(params, "listClientOrderId")
        headers = self._venue.limits.order_headers(account.venue_id, self._venue.order_rules)
        first = self._places.make(account, symbol, kind, 0, **legs[0])
        orders: list[Order] = [first, *(self._places.make(account, symbol, kind, 1, **leg) for leg in legs[1:])]
        group = self._venue.order_lists[first.category]
        if client is not None:
            group = self._venue.order_lists[first.category] = group._replace(client=client)
        self._venue.place_list(account, orders)
        shown = wire.order_list(group, orders, first.created_ns // 1_000_000, done=not self._is_open(account, group))
        return with_headers(shown | {"orderReports": [wire.placed(order, "RESULT") for order in orders]}, headers)

    # reading

    def open_lists(self, account: Account, params: Params) -> object:
        """Answer openOrderLists.status."""
        orders = [order for order in self._venue.listed(account, "lists") if order.category]
        shown: list[object] = []
        for list_id in dict.fromkeys(order.category for order in orders):
            legs = [order for order in orders if order.category == list_id]
            at_ms = legs[0].created_ns // 1_000_000
            shown.append(wire.order_list(self._venue.order_lists[list_id], legs, at_ms, done=False))
        return shown

    def order_list(self, account: Account, params: Params) -> object:
        """Answer orderList.status: a list by its id or by its client id, open or not."""
        list_id, client = params.get("orderListId"), params.get("origClientOrderId")
        if list_id in (None, "") and client in (None, ""):
            raise refusal("-1102", missing("orderListId"))
        mine = self._mine(account)
        named = (group for group in mine if (group.id == str(list_id) if list_id else group.client == client))
        group = next(named, None)
        if group is None:
            raise refusal("-2013")
        return self._shown(account, group)

    def past_lists(self, account: Account, params: Params) -> object:
        """Answer allOrderLists: lists, open or not, the oldest first."""
        first, limit = str(params.get("fromId", "")), page_size(params)
        groups = [group for group in self._mine(account) if not first.isdigit() or int(group.id) >= int(first)]
        return [self._shown(account, group) for group in (groups[:limit] if first.isdigit() else groups[-limit:])]

    def _mine(self, account: Account) -> list[wire.OrderList]:
        known = {order.category for book in (account.open, account.closed) for order in book.values()}
        return [group for group in self._venue.order_lists.values() if group.id in known]

    def _is_open(self, account: Account, group: wire.OrderList) -> bool:
        return bool(self._venue.legs(account, group.id))

    def _shown(self, account: Account, group: wire.OrderList) -> object:
        known = [*account.closed.values(), *account.open.values()]
        legs = sorted((order for order in known if order.category == group.id), key=lambda order: int(order.id))
        at_ms = legs[0].created_ns // 1_000_000
        return wire.order_list(group, legs, at_ms, done=not self._is_open(account, group))


def _pair(params: Params, above: str, below: str, shared: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the two legs of an OCO, of which one is a stop-loss and the other is not. Raises `Refused`."""
    for name in (f"{above}Type", f"{below}Type"):
        if params.get(name) in (None, ""):
            raise refusal("-1102", missing(name))
        if wire.KINDS.get(str(params[name])) not in _PAIRED:
            raise refusal("-1158", "Order type not supported in OCO.")
    legs = [kind_fields(params, prefix, _PAIRED) | shared for prefix in (above, below)]
    for leg, is_above in zip(legs, (True, False), strict=True):
        if is_above is not ((leg["kind"] in _STOPS) is (leg["side"] == "buy")):
            raise refusal(*_MISPLACED[f"{leg['kind']} {leg['side']}"])
    return legs


def _side(params: Params, name: str) -> str:
    return order_side({"side": params.get(name)})
