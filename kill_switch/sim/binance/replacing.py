"""Spot's changes of an order: cancel and replace, and the smaller quantity that keeps its place in the queue.

The shapes are those of Binance's spot documents: order.cancelReplace, order.amend.keepPriority, errors -2021, -2022,
-2038.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kill_switch.sim.binance import spot_payloads as wire
from kill_switch.sim.binance.errors import TEXTS, refusal
from kill_switch.sim.binance.params import client_id, known_symbol, missing, named_order, number, with_headers
from kill_switch.sim.binance.spot_placing import answer_form
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import SimAnswer, json_answer
from kill_switch.sim.kit.tables import Params, Refused

if TYPE_CHECKING:
    from kill_switch.sim.binance.spot import BinanceSpot
    from kill_switch.sim.binance.spot_calls import CancelCalls
    from kill_switch.sim.binance.spot_placing import PlaceCalls

_MODES = ("STOP_ON_FAILURE", "ALLOW_FAILURE")


class ReplaceCalls:
    """The calls that change an order."""

    def __init__(self, venue: BinanceSpot, cancels: CancelCalls, places: PlaceCalls) -> None:
        self._venue = venue
        self._cancels = cancels
        self._places = places

    def cancel_replace(self, account: Account, params: Params) -> SimAnswer:
        """Answer order.cancelReplace; the new order is checked before the old one is cancelled."""
        self._venue.permit_trade(account)
        if params.get("cancelReplaceMode") not in _MODES:
            raise refusal("-1102", missing("cancelReplaceMode"))
        order, form = self._places.new(account, params), answer_form(params)
        named = {"orderId": params.get("cancelOrderId"), "origClientOrderId": params.get("cancelOrigClientOrderId")}
        asked = {"symbol": params["symbol"], **named}
        asked |= {name: params[name] for name in ("cancelRestrictions",) if name in params}
        try:
            cancelled: Any = self._cancels.cancel_order(account, asked)
            has_failed = False
        except Refused as refused:
            if refused.code == "-1102":
                raise
            cancelled, has_failed = {"code": int(refused.code), "msg": refused.text or TEXTS[refused.code]}, True
        if has_failed and params["cancelReplaceMode"] == "STOP_ON_FAILURE":
            data = {"cancelResult": "FAILURE", "newOrderResult": "NOT_ATTEMPTED", "cancelResponse": cancelled}
            body = {"code": -2022, "msg": "Order cancel-replace failed.", "data": data | {"newOrderResponse": None}}
            return json_answer(body, 400)
        headers = self._venue.limits.order_headers(account.venue_id, self._venue.order_rules)
        self._venue.place(account, order)
        results = {"cancelResult": "FAILURE" if has_failed else "SUCCESS", "newOrderResult": "SUCCESS"}
        data = results | {"cancelResponse": cancelled, "newOrderResponse": wire.placed(order, form)}
        if has_failed:
            return json_answer({"code": -2021, "msg": "Order cancel-replace partially failed.", "data": data}, 409)
        return with_headers(data, headers)

    def keep_priority(self, account: Account, params: Params) -> object:
        """Answer order.amend.keepPriority: the quantity becomes smaller, and the order stays where it is."""
        self._venue.permit_trade(account)
        symbol = known_symbol(self._venue.symbols, params)
        mine = [order for order in account.open.values() if order.symbol == symbol]
        order = named_order(mine, params, "orderId", "origClientOrderId")
        if order is None:
            raise refusal("-2013")
        qty, client = number(params, "newQty"), client_id(params, "newClientOrderId")
        if qty == order.qty:
            raise refusal("-2038", "The requested action would change no state; rejecting.")
        if qty > order.qty or qty <= order.filled:
            raise refusal("-2038", "Order amend (quantity increase) is not supported.")
        was, order.qty, order.client_id = order.client_id, qty, client or order.client_id
        self._venue.push_orders(account, [order], "amended")
        shown = wire.listed(order)
        kept = ("symbol", "orderId", "orderListId", "price", "executedQty", "status", "timeInForce", "type", "side")
        at_ms = self._venue.now_ns() // 1_000_000
        amended = {name: shown[name] for name in kept} | {
            "origClientOrderId": was, "clientOrderId": order.client_id, "qty": shown["origQty"],
            "preventedQty": "0.00000000", "quoteOrderQty": "0.00000000", "cumulativeQuoteQty": "0.00000000",
            "workingTime": shown["workingTime"], "selfTradePreventionMode": "NONE",
        }  # fmt: skip
        return {"transactTime": at_ms, "executionId": at_ms, "amendedOrder": amended}
