"""The shapes of the futures' messages, from the documents' examples (docs/venues/binance.md §3.3, §3.4, §4, §5, §9)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import fill

ALGO_TYPES = {"stop": "STOP_MARKET", "algo": "TRAILING_STOP_MARKET", "take_profit": "TAKE_PROFIT_MARKET"}
ALGO_KINDS = {
    "STOP": "stop", "STOP_MARKET": "stop", "TAKE_PROFIT": "take_profit", "TAKE_PROFIT_MARKET": "take_profit",
    "TRAILING_STOP_MARKET": "algo",
}  # fmt: skip

_ORDER = {
    "clientOrderId": "{client}", "cumQty": "{filled}", "executedQty": "{filled}", "orderId": "{id}",
    "origQty": "{qty}", "price": "{price}", "avgPrice": "0", "reduceOnly": False, "closePosition": False,
    "side": "{side}", "positionSide": "BOTH", "status": "{state}", "stopPrice": "0", "symbol": "{symbol}",
    "timeInForce": "{tif}", "type": "{type}", "origType": "{type}", "time": "{opened}", "updateTime": "{updated}",
    "workingType": "CONTRACT_PRICE", "priceProtect": False, "selfTradePreventionMode": "NONE", "goodTillDate": 0,
}  # fmt: skip
_ALGO = {
    "algoId": "{id}", "clientAlgoId": "{client}", "algoType": "CONDITIONAL", "orderType": "{type}",
    "symbol": "{symbol}", "side": "{side}", "positionSide": "BOTH", "timeInForce": "GTC", "quantity": "{qty}",
    "algoStatus": "{state}", "actualOrderId": "{actual}", "actualPrice": "0", "triggerPrice": "{trigger}",
    "price": "{price}", "workingType": "CONTRACT_PRICE", "reduceOnly": False, "closePosition": False,
    "createTime": "{opened}", "updateTime": "{updated}", "triggerTime": 0, "goodTillDate": 0,
}  # fmt: skip
_ORDER_EVENT = {
    "s": "{symbol}", "c": "{client}", "S": "{side}", "o": "{type}", "f": "{tif}", "q": "{qty}", "p": "{price}",
    "ap": "{last_price}", "sp": "0", "x": "{happened}", "X": "{state}", "i": "{id}",
    "l": "{last}", "z": "{filled}", "L": "{last_price}", "T": "{updated}", "t": "{trade}", "m": "{maker}", "R": False,
    "wt": "CONTRACT_PRICE", "ot": "{type}", "ps": "BOTH", "cp": False, "rp": "0",
}  # fmt: skip
_ALGO_EVENT = {
    "caid": "{client}", "aid": "{id}", "at": "CONDITIONAL", "o": "{type}", "s": "{symbol}", "S": "{side}",
    "ps": "BOTH", "f": "GTC", "q": "{qty}", "X": "{state}", "ai": "{actual}", "ap": "0", "aq": "0", "act": "0",
    "tp": "{trigger}", "p": "{price}", "V": "EXPIRE_MAKER", "wt": "CONTRACT_PRICE", "pm": "NONE", "cp": False,
    "pP": False, "R": False, "tt": 0, "gtd": 0, "rm": "",
}  # fmt: skip


def client_id() -> str:
    """Return a client id as the venue makes one up."""
    return secrets.token_hex(11)


def _values(order: Order, actual: str) -> Mapping[str, object]:
    is_algo = bool(order.category)
    usual = {"limit": "LIMIT", "market": "MARKET"}.get(order.kind, order.kind.upper())
    opened = order.created_ns // 1_000_000
    return {
        "id": int(order.id), "client": order.client_id, "symbol": order.symbol, "side": order.side.upper(),
        "tif": order.tif.upper(), "type": ALGO_TYPES[order.kind] if is_algo else usual,
        "qty": str(order.qty), "filled": str(order.filled),
        "price": str(order.price), "trigger": str(order.stop_price or 0), "state": order.state, "actual": actual,
        "opened": opened, "updated": order.closed_ns // 1_000_000 if order.closed_ns else opened,
    }  # fmt: skip


def listed(order: Order, actual: str = "") -> Any:
    """Return an order as lists, look-ups and answers to cancels have it; `actual` is the id after a trigger."""
    return fill(_ALGO if order.category else _ORDER, _values(order, actual))


def event(order: Order, news: str, at_ms: int, actual: str = "") -> dict[str, object]:
    """Return the event of an order; `news` is the kit's word."""
    happened = {"cancelled": "CANCELED", "filled": "TRADE", "amended": "AMENDMENT", "expired": "EXPIRED"}.get(
        news, "NEW"
    )
    is_fill = news == "filled"
    values = dict(_values(order, actual)) | {
        "happened": happened, "last": str(order.filled if is_fill else 0),
        "last_price": str(order.price if is_fill else 0), "trade": int(order.id) if is_fill else 0,
        "maker": is_fill and order.kind != "market",
    }  # fmt: skip
    shown = fill(_ALGO_EVENT if order.category else _ORDER_EVENT, values)
    name = "ALGO_UPDATE" if order.category else "ORDER_TRADE_UPDATE"
    return {"e": name, "T": at_ms, "E": at_ms, "o": shown}


def account_event(account: Account, asset: str, reason: str, change: Decimal, at_ms: int) -> dict[str, object]:
    """Return ACCOUNT_UPDATE (§5); `reason` is its `m`."""
    wallet = str(account.cash)
    balance = {"a": asset, "wb": wallet, "cw": wallet, "bc": str(change)}
    positions = [
        {"s": row["symbol"], "pa": row["positionAmt"], "ep": row["entryPrice"], "cr": "0",
         "up": row["unRealizedProfit"], "mt": "cross", "iw": "0", "ps": "BOTH", "ma": asset}
        for row in position_rows(account)
    ]  # fmt: skip
    update = {"m": reason, "B": [balance], "P": positions}
    return {"e": "ACCOUNT_UPDATE", "T": at_ms, "E": at_ms, "a": update}


def position_rows(account: Account) -> Iterator[dict[str, object]]:
    """Yield the positions; the first has all of the account's unrealised profit."""
    for number, held in enumerate(account.positions.values()):
        profit = "0" if number else str(account.unrealised)
        yield {
            "symbol": held.symbol, "positionSide": "BOTH", "positionAmt": str(held.qty), "entryPrice": str(held.entry),
            "markPrice": str(held.entry), "unRealizedProfit": profit, "unrealizedProfit": profit, "leverage": "20",
            "marginType": "cross", "isolatedMargin": "0", "notional": str(held.qty * held.entry), "updateTime": 0,
        }  # fmt: skip


def balance_row(account: Account, asset: str, at_ms: int) -> dict[str, object]:
    """Return the balance of the asset that holds the money; a client takes one whose time is 0 for unused."""
    wallet, equity, profit = str(account.cash), str(account.equity), str(account.unrealised)
    return {
        "accountAlias": "SgsR", "asset": asset, "balance": wallet, "walletBalance": wallet, "marginBalance": equity,
        "unrealizedProfit": profit, "crossWalletBalance": wallet, "crossUnPnl": profit, "availableBalance": wallet,
        "maxWithdrawAmount": wallet, "withdrawAvailable": wallet, "initialMargin": "0", "maintMargin": "0",
        "positionInitialMargin": "0", "openOrderInitialMargin": "0", "marginAvailable": True, "updateTime": at_ms,
    }  # fmt: skip


def account_body(account: Account, asset: str, at_ms: int, *, has_totals: bool) -> dict[str, object]:
    """Return `account` (§9); USD-M has totals, COIN-M balances of each asset only."""
    totals = {
        "totalWalletBalance": str(account.cash), "totalUnrealizedProfit": str(account.unrealised),
        "totalMarginBalance": str(account.equity), "totalCrossWalletBalance": str(account.cash),
        "totalCrossUnPnl": str(account.unrealised), "availableBalance": str(account.cash),
        "totalInitialMargin": "0", "totalMaintMargin": "0", "maxWithdrawAmount": str(account.cash),
    }  # fmt: skip
    rights: dict[str, object] = {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "updateTime": 0,
    }
    lists = {"assets": [balance_row(account, asset, at_ms)], "positions": list(position_rows(account))}
    return rights | (totals if has_totals else {}) | lists


def market(symbol: str, base: str, quote: str, margin: str, *, is_inverse: bool) -> dict[str, object]:
    """Return a symbol of exchangeInfo."""
    size = {"contractSize": 100 if base == "BTC" else 10, "contractStatus": "TRADING"} if is_inverse else {}
    return {
        "symbol": symbol, "pair": f"{base}{quote}", "contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000,
        "onboardDate": 1_596_006_000_000, "status": "TRADING", **size, "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000", "baseAsset": base, "quoteAsset": quote, "marginAsset": margin,
        "pricePrecision": 2, "quantityPrecision": 0 if is_inverse else 3, "baseAssetPrecision": 8, "quotePrecision": 8,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "stepSize": "1" if is_inverse else "0.001",
             "minQty": "1" if is_inverse else "0.001", "maxQty": "100000"},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200}, {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 200},
        ],
        "orderTypes": ["LIMIT", "MARKET", *ALGO_KINDS], "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }  # fmt: skip
