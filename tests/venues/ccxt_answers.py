"""Answers of the venues that are served through ccxt, as their documents and ccxt's sources print them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Answers(NamedTuple):
    """The answers of an id: to its cancels and its lists, in the order of its profile."""

    cancels: tuple[Any, ...]  # each after orders were cancelled
    lists: tuple[Any, ...]  # each with orders
    empty: tuple[Any, ...]  # the same lists without orders
    orders: tuple[tuple[str, str], ...]  # the name and the symbol of the orders in the lists
    options: Mapping[str, Any] = MappingProxyType({})  # of the account


KEYS = {
    "api_key": "account-0123456789abcdef",
    "api_secret": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "passphrase": "a-passphrase",
}

_KRAKEN_ORDER = {
    "refid": None,
    "userref": None,
    "status": "open",
    "opentm": 1733815269.370054,
    "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "70000.0"},
    "vol": "0.00010000",
    "vol_exec": "0.00000000",
    "oflags": "fciq",
}
_FUTURES_UID = "272fd0ac-45c0-4003-b84d-d39b9e86bd36"
_BINANCE_ORDER = {
    "symbol": "LTCBTC",
    "orderId": 1,
    "clientOrderId": "myOrder1",
    "price": "0.1",
    "origQty": "1.0",
    "executedQty": "0.0",
    "status": "NEW",
    "timeInForce": "GTC",
    "type": "LIMIT",
    "side": "BUY",
    "time": 1499827319559,
    "updateTime": 1499827319559,
}
_BINANCE_ALGO = {"algoId": 2146760, "symbol": "BTCUSDT", "side": "SELL", "algoStatus": "NEW", "orderType": "STOP"}
_BINANCE_DONE = {"code": 200, "msg": "The operation of cancel all open order is done."}
_BINANCE_SPOT = Answers(([{**_BINANCE_ORDER, "status": "CANCELED"}],), ([_BINANCE_ORDER],), ([],), (("1", "LTCBTC"),))
_BINANCE_FUTURES = Answers(
    (_BINANCE_DONE, _BINANCE_DONE),
    ([_BINANCE_ORDER], [_BINANCE_ALGO]),
    ([], []),
    (("1", "LTCBTC"), ("algo:2146760", "BTCUSDT")),
)
_BYBIT_ID = "fd4300ae-7847-404e-b947-b46980a4d140"
_BYBIT_CANCELLED = {"retCode": 0, "retMsg": "OK", "result": {"list": [{"orderId": _BYBIT_ID, "orderLinkId": ""}]}}
_BYBIT_SPOT = {"retCode": 0, "retMsg": "OK", "result": {"success": "1"}, "retExtInfo": {}, "time": 1676962409398}


def _bybit_list(*orders: dict[str, str]) -> dict[str, object]:
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"list": list(orders), "nextPageCursor": "", "category": "linear"},
        "retExtInfo": {},
        "time": 1684765770483,
    }


_BYBIT_ORDER = {"orderId": _BYBIT_ID, "symbol": "ETHUSDT", "orderStatus": "New", "side": "Buy", "price": "1600.00"}
_BYBIT_OTHER = {**_BYBIT_ORDER, "orderId": "e88ea8e9-ee83-4cae-9ad9-9de05a5d0b03", "symbol": "BTCPERP"}
_HITBTC_ORDER = {
    "id": 488953123149,
    "client_order_id": "103ad305301e4c3590045b13de15b36e",
    "symbol": "BTCUSDT",
    "side": "buy",
    "status": "new",
    "type": "limit",
    "quantity": "0.00001",
}
_HITBTC_CANCELLED = [{**_HITBTC_ORDER, "status": "canceled"}]
_HITBTC = Answers(
    (_HITBTC_CANCELLED,) * 3,
    ([_HITBTC_ORDER], [{**_HITBTC_ORDER, "id": 2}], [{**_HITBTC_ORDER, "id": 3, "symbol": "BTCUSDT_PERP"}]),
    ([], [], []),
    (("488953123149", "BTCUSDT"), ("2", "BTCUSDT"), ("3", "BTCUSDT_PERP")),
)
_ALPACA_ID = "61e69015-8549-4bfd-b9c3-01e75843f47d"
_BITFINEX_ORDER = [
    95408916206, None, 1653322349926, "tDOGE:UST", 1653322349926, 1653322349927, -10, -10, "EXCHANGE LIMIT", None,
    None, None, 0, "ACTIVE", None, None, 0.11, 0, 0, 0, None, None, None, 0, 0, None, None, None, "API>BFX", None, None,
    {"$F7": 1},
]  # fmt: skip
_POLONIEX_CANCELLED = [{"orderId": "111222333444555", "state": "PENDING_CANCEL", "code": 200, "message": ""}]


def _gate_pair(pair: str, order_id: str) -> dict[str, object]:
    return {
        "currency_pair": pair,
        "total": 1,
        "orders": [{"id": order_id, "currency_pair": pair, "status": "open"}],
    }


ANSWERS: dict[str, Answers] = {
    "alpaca": Answers(
        ([{"id": _ALPACA_ID, "status": 200}],),
        ([{"id": _ALPACA_ID, "symbol": "BTC/USD", "status": "new", "type": "limit", "side": "buy"}],),
        ([],),
        ((_ALPACA_ID, "BTC/USD"),),
    ),
    "backpack": Answers(
        ([{"id": "11111", "symbol": "SOL_USDC", "status": "Cancelled", "side": "Bid"}],),
        ([{"id": "11111", "symbol": "SOL_USDC", "status": "New", "side": "Bid", "orderType": "Limit"}],),
        ([],),
        (("11111", "SOL_USDC"),),
    ),
    "binance": _BINANCE_SPOT,
    "binanceus": _BINANCE_SPOT,
    "binanceusdm": _BINANCE_FUTURES,
    "binancecoinm": _BINANCE_FUTURES,
    "bitfinex": Answers(
        (
            [
                1568711312683,
                "oc_multi-req",
                None,
                None,
                [_BITFINEX_ORDER],
                None,
                "SUCCESS",
                "Submitting 1 cancellation.",
            ],
        ),
        ([_BITFINEX_ORDER],),
        ([],),
        (("95408916206", "tDOGE:UST"),),
    ),
    "bitso": Answers(
        ({"success": True, "payload": ["NWUZUYNT12ljwzDT"]},),
        ({"success": True, "payload": [{"oid": "NWUZUYNT12ljwzDT", "book": "btc_mxn", "status": "open"}]},),
        ({"success": True, "payload": []},),
        (("NWUZUYNT12ljwzDT", "btc_mxn"),),
    ),
    "bitstamp": Answers(
        ({"canceled": [{"id": 1453282316578816, "currency_pair": "BTC/USD", "type": 0}], "success": True},),
        ([{"id": "2814205012", "currency_pair": "XRP/BTC", "type": "0", "amount": "15.0", "price": "0.00008012"}],),
        ([],),
        (("2814205012", "XRP/BTC"),),
    ),
    "bitvavo": Answers(
        ([{"orderId": "1be6d0df-d5dc-4b53-a250-3376f3b393e6"}],),
        ([{"orderId": "1be6d0df-d5dc-4b53-a250-3376f3b393e6", "market": "BTC-EUR", "status": "new"}],),
        ([],),
        (("1be6d0df-d5dc-4b53-a250-3376f3b393e6", "BTC-EUR"),),
        {"options": {"operatorId": 7}},
    ),
    "bybit": Answers(
        (_BYBIT_CANCELLED, _BYBIT_CANCELLED, *(_BYBIT_SPOT,) * 5, _BYBIT_CANCELLED),
        (_bybit_list(_BYBIT_ORDER), _bybit_list(_BYBIT_OTHER), _bybit_list(), _bybit_list()),
        (_bybit_list(),) * 4,
        ((_BYBIT_ID, "ETHUSDT"), (_BYBIT_OTHER["orderId"], "BTCPERP")),
    ),
    "bybiteu": Answers((_BYBIT_SPOT,) * 5, (_bybit_list(_BYBIT_ORDER),), (_bybit_list(),), ((_BYBIT_ID, "ETHUSDT"),)),
    "coinbaseexchange": Answers(
        (["144c6f8e-713f-4682-8435-5280fbe8b2b4"],),
        ([{"id": "144c6f8e-713f-4682-8435-5280fbe8b2b4", "product_id": "BTC-USD", "status": "open", "side": "buy"}],),
        ([],),
        (("144c6f8e-713f-4682-8435-5280fbe8b2b4", "BTC-USD"),),
    ),
    "cryptocom": Answers(
        ({"id": 12, "method": "private/cancel-all-orders", "code": 0},),
        (
            {
                "id": 1,
                "method": "private/get-open-orders",
                "code": 0,
                "result": {
                    "data": [{"order_id": "6530219477767564494", "instrument_name": "BTC_USD", "status": "ACTIVE"}]
                },
            },
        ),
        ({"id": 1, "method": "private/get-open-orders", "code": 0, "result": {"data": []}},),
        (("6530219477767564494", "BTC_USD"),),
    ),
    "deribit": Answers(
        (
            {
                "jsonrpc": "2.0",
                "result": [
                    {
                        "currency": "ETH",
                        "type": "limit",
                        "instrument_name": "ETH-PERPETUAL",
                        "result": [{"order_id": "ETH-1", "order_state": "cancelled"}],
                    },
                    {
                        "currency": "BTC",
                        "type": "trigger",
                        "instrument_name": "BTC-PERPETUAL",
                        "result": [{"order_id": "SLTS-2", "order_state": "untriggered"}],
                    },
                ],
            },
        ),
        (
            {
                "jsonrpc": "2.0",
                "result": [{"order_id": "ETH-1", "instrument_name": "ETH-PERPETUAL", "order_state": "open"}],
            },
            {
                "jsonrpc": "2.0",
                "result": [{"order_id": "SLTS-2", "instrument_name": "BTC-PERPETUAL", "order_state": "untriggered"}],
            },
        ),
        ({"jsonrpc": "2.0", "result": []},) * 2,
        (("ETH-1", "ETH-PERPETUAL"), ("SLTS-2", "BTC-PERPETUAL")),
    ),
    "gate": Answers(
        ([{"id": "12332324", "succeeded": True, "currency_pair": "ETH_BTC", "status": "cancelled"}], []) * 3,
        (
            [_gate_pair("ETH_BTC", "12332324"), _gate_pair("GT_USDT", "9")],
            [{"id": 1283293, "market": "GT_USDT", "status": "open", "trigger": {"price": "100"}}],
            [_gate_pair("ETH_BTC", "10")],
            [],
            [],
            [{"id": 1283294, "market": "GT_USDT", "status": "open", "trigger": {"price": "100"}}],
        ),
        ([],) * 6,
        (
            ("12332324", "ETH_BTC"),
            ("9", "GT_USDT"),
            ("trigger:1283293", "GT_USDT"),
            ("10", "ETH_BTC"),
            ("trigger:1283294", "GT_USDT"),
        ),
    ),
    "gemini": Answers(
        ({"result": "ok", "details": {"cancelledOrders": [330429345], "cancelRejects": []}},),
        (
            [
                {
                    "order_id": "106028543717",
                    "id": "106028543717",
                    "symbol": "etheur",
                    "type": "exchange limit",
                    "is_live": True,
                }
            ],
        ),
        ([],),
        (("106028543717", "etheur"),),
    ),
    "hitbtc": _HITBTC,
    "fmfwio": _HITBTC,
    "bequant": _HITBTC,
    "kraken": Answers(
        ({"error": [], "result": {"count": 4}},),
        ({"error": [], "result": {"open": {"O45M52-BFD5S-YXKQOU": _KRAKEN_ORDER}}},),
        ({"error": [], "result": {"open": {}}},),
        (("O45M52-BFD5S-YXKQOU", "XBTUSD"),),
    ),
    "krakenfutures": Answers(
        (
            {
                "result": "success",
                "cancelStatus": {
                    "receivedTime": "2024-06-06T01:12:44.814Z",
                    "cancelOnly": "all",
                    "status": "cancelled",
                    "cancelledOrders": [{"order_id": _FUTURES_UID}],
                    "orderEvents": [],
                },
            },
        ),
        (
            {
                "result": "success",
                "openOrders": [{"order_id": _FUTURES_UID, "symbol": "PF_XRPUSD", "status": "untouched"}],
            },
        ),
        ({"result": "success", "openOrders": []},),
        ((_FUTURES_UID, "PF_XRPUSD"),),
    ),
    "poloniex": Answers(
        (_POLONIEX_CANCELLED, _POLONIEX_CANCELLED),
        (
            [{"id": "24993088082542592", "symbol": "ELON_USDC", "state": "NEW", "type": "MARKET"}],
            [{"id": "14368195657859072", "symbol": "BTC_USDT", "state": "NEW", "type": "STOP_LIMIT"}],
        ),
        ([], []),
        (("24993088082542592", "ELON_USDC"), ("14368195657859072", "BTC_USDT")),
    ),
}
