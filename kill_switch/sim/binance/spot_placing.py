"""Spot's calls that place an order, and the parameters of each type of order.

The shapes are those of Binance's spot documents: New order, Order types, Response type. `spot_lists` uses the
parameters too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any, cast

from kill_switch.sim.binance import spot_payloads as wire
from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.params import client_id, known_symbol, missing, number, order_side, with_headers
from kill_switch.sim.binance.prices import PRICE
from kill_switch.sim.kit.book import ZERO, Account
from kill_switch.sim.kit.protocol import SimAnswer
from kill_switch.sim.kit.tables import Params

if TYPE_CHECKING:
    from kill_switch.sim.binance.spot import BinanceSpot

_TIMES = ("GTC", "IOC", "FOK")
_TIMED = ("limit", "stop", "take_profit_limit")
_PRICED = (*_TIMED, "maker")
_TRIGGERED = ("stop_loss", "stop", "take_profit", "take_profit_limit")
_FORMS = ("ACK", "RESULT", "FULL")
_STEP = Decimal("0.00001")  # LOT_SIZE


class PlaceCalls:
    """The calls that place one order."""

    def __init__(self, venue: BinanceSpot) -> None:
        self._venue = venue

    def order(self, account: Account, params: Params) -> SimAnswer:
        """Answer order.place."""
        self._venue.permit_trade(account)
        order, form = self.new(account, params), answer_form(params)
        headers = self._venue.limits.order_headers(account.venue_id, self._venue.order_rules)
        self._venue.place(account, order)
        return with_headers(wire.placed(order, form), headers)

    def test(self, account: Account, params: Params) -> object:
        """Answer order.test: the checks of order.place, and no order."""
        self._venue.permit_trade(account)
        self.new(account, params)
        return {}

    def new(self, account: Account, params: Params) -> wire.SpotOrder:
        """Return a new order that does not rest yet. Raises `Refused`."""
        symbol, side = known_symbol(self._venue.symbols, params), order_side(params)
        kind = wire.KINDS.get(str(params.get("type", "")))
        if kind is None:
            raise refusal("-1116")
        amounts = _market_amounts(params) if kind == "market" else {"qty": number(params, "quantity")}
        fields = amounts | kind_fields(params, "", (kind,))
        return self.make(account, symbol, "limit", 0, side=side, **fields)

    def make(self, account: Account, symbol: str, group: str, place: int, **fields: Any) -> wire.SpotOrder:
        """Return an order of these fields; `group` is the kind of its list, and `place` its place there."""
        order = cast(wire.SpotOrder, self._venue.make_order(account, symbol, group, "", place))
        fields["client_id"] = fields["client_id"] or order.client_id
        return replace(order, **fields)


def _market_amounts(params: Params) -> dict[str, Any]:
    """Return the quantity of a market order, by itself or by the money. Raises `Refused`."""
    if params.get("quoteOrderQty") is None:
        return {"qty": number(params, "quantity")}
    if params.get("quantity") is not None:
        raise refusal("-1128", "Combination of optional parameters invalid.")
    money = number(params, "quoteOrderQty")
    qty = (money / Decimal(PRICE)).quantize(_STEP, ROUND_DOWN)
    if not qty:
        raise refusal("-1013", "Filter failure: NOTIONAL")
    return {"qty": qty, "quote_qty": money}


def kind_fields(params: Params, prefix: str, kinds: Collection[str]) -> dict[str, Any]:
    """Return the fields of an order that its type asks for. Raises `Refused`.

    `prefix` is that of a leg's parameters, such as "above"; `kinds` are those that are possible.
    """

    def named(name: str) -> str:
        return f"{prefix}{name[0].upper()}{name[1:]}" if prefix else name

    kind = wire.KINDS.get(str(params.get(named("type"))))
    if kind is None or kind not in kinds:
        raise refusal("-1116")
    has_trail = kind in _TRIGGERED and params.get(named("trailingDelta")) is not None
    has_stop = kind in _TRIGGERED and (params.get(named("stopPrice")) is not None or not has_trail)
    return {
        "kind": kind,
        "tif": _time(params, named("timeInForce")) if kind in _TIMED else "GTC",
        "price": number(params, named("price")) if kind in _PRICED else Decimal(PRICE) if kind == "market" else ZERO,
        "stop_price": number(params, named("stopPrice")) if has_stop else None,
        "trailing_bips": _bips(params, named("trailingDelta")) if has_trail else 0,
        "client_id": client_id(params, named("clientOrderId") if prefix else "newClientOrderId"),
    }


def _time(params: Params, name: str) -> str:
    if params.get(name) not in _TIMES:
        raise refusal("-1102", missing(name))
    return str(params[name])


def _bips(params: Params, name: str) -> int:
    bips = number(params, name)
    if bips != int(bips):
        raise refusal("-1100", f"Illegal characters found in parameter '{name}'.")
    return int(bips)


def answer_form(params: Params) -> str:
    """Return the form of the answer to a new order; limit and market orders have the longest. Raises `Refused`."""
    form = params.get("newOrderRespType", "FULL" if params.get("type") in ("LIMIT", "MARKET") else "ACK")
    if form not in _FORMS:
        raise refusal("-1130", "Data sent for parameter 'newOrderRespType' is not valid.")
    return str(form)
