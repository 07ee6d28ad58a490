"""Spot's changes of an order: cancel and replace, and the smaller quantity that keeps its place in the queue.

The shapes are those of Binance's spot documents: order.cancelReplace, order.amend.keepPriority, errors -2021, -2022,
-2038.
"""

from __future__ import annotations

from collections.abc import Mapping
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
_TEXTS = {-2021: "Order cancel-replace partially failed.", -2022: "Order cancel-replace failed."}
_OVER_LIMIT = ("DO_NOTHING", "CANCEL_ONLY")


class ReplaceCalls:
    """The calls that change an order."""

    def __init__(self, venue: BinanceSpot, cancels: CancelCalls, places: PlaceCalls) -> None:
        self._venue = venue
        self._cancels = cancels
        self._places = places

    def cancel_replace(self, account: Account, params: Params) -> SimAnswer:
        """Answer order.cancelReplace; the new order and the count of orders are checked before the cancel.

        An account with too many new orders keeps the old order too, unless it asks for CANCEL_ONLY.
        """
        self._venue.permit_trade(account)
        mode = params.get("cancelReplaceMode")
        if mode not in _MODES:
            raise refusal("-1102", missing("cancelReplaceMode"))
        order, form = self._places.new(account, params), answer_form(params)
        headers, over_limit = self._count(account, params)
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
        result = {"cancelResult": "FAILURE" if has_failed else "SUCCESS", "cancelResponse": cancelled}
        stops = mode == "STOP_ON_FAILURE"
        if has_failed and stops:
            data = result | {"newOrderResult": "NOT_ATTEMPTED", "newOrderResponse": None}
            return _failed(-2022, data, 429 if over_limit else 400)
        if over_limit:
            data = result | {"newOrderResult": "FAILURE", "newOrderResponse": over_limit}
            return _failed(-2022, data, 400) if has_failed else _failed(-2021, data, 429 if stops else 409)
        self._venue.place(account, order)
        data = result | {"newOrderResult": "SUCCESS", "newOrderResponse": wire.placed(order, form)}
        return _failed(-2021, data, 409) if has_failed else with_headers(data, headers)

    def _count(self, account: Account, params: Params) -> tuple[Mapping[str, str], dict[str, object] | None]:
        """Count the new order; return its headers, and the error if there are too many. Raises `Refused`."""
        asked = params.get("orderRateLimitExceededMode", "DO_NOTHING")
        if asked not in _OVER_LIMIT:
            raise refusal("-1130", "Data sent for parameter 'orderRateLimitExceededMode' is not valid.")
        try:
            return self._venue.limits.order_headers(account.venue_id, self._venue.order_rules), None
        except Refused as refused:
            if asked == "DO_NOTHING":
                raise
            return {}, {"code": int(refused.code), "msg": refused.text}

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


def _failed(code: int, data: dict[str, Any], status: int) -> SimAnswer:
    return json_answer({"code": code, "msg": _TEXTS[code], "data": data}, status)
