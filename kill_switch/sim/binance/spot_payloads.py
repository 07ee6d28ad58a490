"""The shapes of spot's messages, from the documents' examples (docs/venues/binance.md §3.1, §4, §5, §9)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.sim.binance.venue import money
from kill_switch.sim.kit.book import ZERO, Account, Order
from kill_switch.sim.kit.tables import OMIT, fill

KINDS = {
    "LIMIT": "limit", "MARKET": "market", "STOP_LOSS": "stop_loss", "STOP_LOSS_LIMIT": "stop",
    "TAKE_PROFIT": "take_profit", "TAKE_PROFIT_LIMIT": "take_profit_limit", "LIMIT_MAKER": "maker",
}  # fmt: skip
TYPES = {kind: word for word, kind in KINDS.items()} | {"oto": "LIMIT"}
PENDING = "PENDING_NEW"  # a leg that will rest when the working leg has filled


@dataclass(slots=True)
class SpotOrder(Order):
    """An order with the parameters that spot alone has."""

    quote_qty: Decimal = ZERO  # of a market order: the money to spend or to get
    trailing_bips: int = 0  # hundredths of a per cent; 0 is a stop that does not trail


class OrderList(NamedTuple):
    """An order list; its legs have its id as their category."""

    id: str
    contingency: str  # OCO or OTO
    client: str
    symbol: str


_COMMON = {
    "symbol": "{symbol}", "orderId": "{id}", "orderListId": "{list}", "price": "{price}", "origQty": "{qty}",
    "executedQty": "{filled}", "origQuoteOrderQty": "{quote}", "cummulativeQuoteQty": "{cost}",
    "status": "{state}", "timeInForce": "{tif}", "type": "{type}", "side": "{side}", "selfTradePreventionMode": "NONE",
    "trailingDelta": "{trailing}",
}  # fmt: skip
_ACK = ("symbol", "orderId", "orderListId", "clientOrderId", "transactTime")
_PLACED = _COMMON | {
    "clientOrderId": "{client}", "transactTime": "{opened}", "workingTime": "{working}", "stopPrice": "{shown_stop}",
}  # fmt: skip
_LISTED = _COMMON | {
    "clientOrderId": "{client}", "stopPrice": "{stop}", "icebergQty": "0.00000000", "time": "{opened}",
    "updateTime": "{updated}", "isWorking": "{works}", "workingTime": "{opened}",
}  # fmt: skip
_REPORT = _COMMON | {"origClientOrderId": "{client}", "clientOrderId": "{cancel}", "transactTime": "{updated}"}
_EVENT = {
    "e": "executionReport", "E": "{at}", "s": "{symbol}", "c": "{shown}", "S": "{side}", "o": "{type}", "f": "{tif}",
    "q": "{qty}", "p": "{price}", "P": "{stop}", "F": "0.00000000", "g": "{list}", "C": "{original}", "x": "{happened}",
    "X": "{state}", "r": "NONE", "i": "{id}", "l": "{last}", "z": "{filled}", "L": "{last_price}", "n": "0", "N": None,
    "T": "{at}", "t": "{trade}", "I": 8641984, "w": "{works}", "m": "{maker}", "M": False, "O": "{opened}",
    "Z": "{cost}", "Y": "{last_cost}", "Q": "0.00000000", "V": "NONE",
}  # fmt: skip


def client_id() -> str:
    """Return a client id as the venue makes one up."""
    return secrets.token_hex(11)


def _values(order: Order) -> dict[str, object]:
    opened = order.created_ns // 1_000_000
    usual = "STOP_LOSS_LIMIT" if order.stop_price is not None else "LIMIT_MAKER"
    trailing = order.trailing_bips if isinstance(order, SpotOrder) else 0
    rests = order.state != PENDING and order.stop_price is None and not trailing
    return {
        "symbol": order.symbol, "id": int(order.id), "list": int(order.category or -1),
        "price": money(ZERO if order.kind == "market" else order.price), "tif": order.tif.upper(),
        "quote": money(order.quote_qty if isinstance(order, SpotOrder) else ZERO),
        "cost": money(order.filled * order.price), "trailing": trailing or OMIT,
        "shown_stop": OMIT if order.stop_price is None else money(order.stop_price),
        "working": opened if rests else -1,
        "qty": money(order.qty), "filled": money(order.filled), "state": order.state, "side": order.side.upper(),
        "type": TYPES.get(order.kind, usual), "client": order.client_id, "stop": money(order.stop_price or Decimal(0)),
        "opened": opened, "updated": order.closed_ns // 1_000_000 if order.closed_ns else opened,
        "works": order.state == "NEW" and order.stop_price is None, "cancel": f"cancel{order.id}",
    }  # fmt: skip


def listed(order: Order) -> Any:
    """Return an order as lists and look-ups have it."""
    return fill(_LISTED, _values(order))


def placed(order: Order, form: str) -> Any:
    """Return the answer to a new order: `form` is ACK, RESULT or FULL."""
    shown = fill(_PLACED, _values(order))
    if form == "ACK":
        return {name: shown[name] for name in _ACK}
    trade = {"price": money(order.price), "qty": money(order.filled), "commission": "0.00000000"}
    fills = [trade | {"commissionAsset": "USDT", "tradeId": int(order.id)}] if order.filled else []
    return shown | ({"fills": fills} if form == "FULL" else {})


def report(order: Order) -> Any:
    """Return the report of a cancelled order."""
    return fill(_REPORT, _values(order) | {"state": "CANCELED"})


def order_list(group: OrderList, legs: Sequence[Order], at_ms: int, *, done: bool) -> dict[str, Any]:
    """Return an order list; `done` is one without open legs."""
    return {
        "orderListId": int(group.id), "contingencyType": group.contingency,
        "listStatusType": "ALL_DONE" if done else "EXEC_STARTED",
        "listOrderStatus": "ALL_DONE" if done else "EXECUTING", "listClientOrderId": group.client,
        "transactionTime": at_ms, "symbol": group.symbol, "orders": [_leg(order) for order in legs],
    }  # fmt: skip


def _leg(order: Order) -> dict[str, object]:
    return {"symbol": order.symbol, "orderId": int(order.id), "clientOrderId": order.client_id}


def event(order: Order, news: str, at_ms: int) -> Any:
    """Return executionReport; on a cancel, `c` is the cancel's id and `C` the order's (§5)."""
    is_cancel, is_fill = news == "cancelled", news == "filled"
    values = _values(order)
    words = {"cancelled": "CANCELED", "filled": "TRADE", "amended": "REPLACED", "expired": "EXPIRED"}
    happened = words.get(news, "NEW")
    return fill(
        _EVENT,
        values
        | {
            "at": at_ms, "happened": happened, "shown": values["cancel" if is_cancel else "client"],
            "original": values["client"] if is_cancel else "",
            "last": money(order.filled if is_fill else ZERO), "last_price": money(order.price if is_fill else ZERO),
            "last_cost": money(order.filled * order.price if is_fill else ZERO),
            "trade": int(order.id) if is_fill else -1, "maker": is_fill and order.kind != "market",
        },
    )  # fmt: skip


def list_event(group: OrderList, legs: Sequence[Order], at_ms: int) -> dict[str, object]:
    """Return listStatus of a list without open legs."""
    rows = [{"s": order.symbol, "i": int(order.id), "c": order.client_id} for order in legs]
    return {
        "e": "listStatus", "E": at_ms, "s": group.symbol, "g": int(group.id), "c": group.contingency, "l": "ALL_DONE",
        "L": "ALL_DONE", "r": "NONE", "C": group.client, "T": at_ms, "O": rows,
    }  # fmt: skip


def balances_event(account: Account, at_ms: int) -> dict[str, object]:
    """Return outboundAccountPosition."""
    rows = [{"a": "USDT", "f": money(account.equity), "l": "0.00000000"}]
    rows += [{"a": row["asset"], "f": row["free"], "l": row["locked"]} for row in _held(account)]
    return {"e": "outboundAccountPosition", "E": at_ms, "u": at_ms, "B": rows}


def transfer_event(amount: Decimal, at_ms: int) -> dict[str, object]:
    """Return balanceUpdate."""
    return {"e": "balanceUpdate", "E": at_ms, "a": "USDT", "d": money(amount), "T": at_ms}


def _held(account: Account) -> list[dict[str, str]]:
    return [
        {"asset": position.symbol.removesuffix("USDT"), "free": money(position.qty), "locked": "0.00000000"}
        for position in account.positions.values()
    ]


def account_body(account: Account, *, can_trade: bool, at_ms: int) -> Mapping[str, object]:
    """Return `account` (§9): balances, no equity."""
    held = _held(account)
    return {
        "makerCommission": 15, "takerCommission": 15, "canTrade": can_trade, "canWithdraw": True, "canDeposit": True,
        "updateTime": at_ms, "accountType": "SPOT", "permissions": ["SPOT"], "uid": int(account.venue_id),
        "balances": [{"asset": "USDT", "free": money(account.equity), "locked": "0.00000000"}, *held],
    }  # fmt: skip


def market(base: str) -> dict[str, object]:
    """Return a symbol of exchangeInfo."""
    return {
        "symbol": f"{base}USDT", "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8, "quoteAsset": "USDT",
        "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": [*KINDS], "icebergAllowed": True,
        "ocoAllowed": True, "otoAllowed": True, "isSpotTradingAllowed": True, "isMarginTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00000000",
             "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
            {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": 20},
        ],
        "permissions": [], "permissionSets": [["SPOT", "MARGIN"]], "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
    }  # fmt: skip
