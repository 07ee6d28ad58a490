"""Binance's older spot connector at the simulator, unchanged but for address and authority."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .stage import Stage, until

LIMIT = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": 100}


def test_the_spot_connector_trades_lists_and_cancels(stage: Stage) -> None:
    kind = pytest.importorskip("binance.spot").Spot
    entry = stage.venue("binance-spot")
    sdk = kind(
        entry["credentials"]["api_key"], entry["credentials"]["api_secret"], base_url=entry["rest_url"], timeout=5
    )
    order = {"symbol": "BTCUSDT", "quantity": 0.01, **LIMIT}
    assert sdk.account()["canTrade"] and sdk.exchange_info(symbol="BTCUSDT")["symbols"]
    assert sdk.new_order_test(**order) == {} and sdk.query_commission_rates("BTCUSDT")["standardCommission"]
    placed = sdk.new_order(**order)
    assert sdk.get_order("BTCUSDT", orderId=placed["orderId"])["status"] == "NEW"
    change = {"cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": placed["orderId"]}
    placed = sdk.cancel_and_replace(**order | change)["newOrderResponse"]
    assert sdk.cancel_order("BTCUSDT", orderId=placed["orderId"])["status"] == "CANCELED"
    stop = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_LOSS", "quantity": 1, "stopPrice": 90}
    sdk.new_order(**stop)
    assert sdk.new_order(**order | {"timeInForce": "IOC"})["status"] == "EXPIRED"
    filled = sdk.new_order(symbol="BTCUSDT", side="BUY", type="MARKET", quoteOrderQty=300)
    assert [row["orderId"] for row in sdk.my_trades("BTCUSDT", orderId=filled["orderId"])] == [filled["orderId"]]
    made = sdk.new_oto_order(
        "BTCUSDT", "LIMIT", "BUY", 100, 1, "LIMIT_MAKER", "SELL", 1, workingTimeInForce="GTC", pendingPrice=40_000
    )
    assert sdk.get_oco_order(orderListId=made["orderListId"])["orderListId"] == made["orderListId"]
    assert len(sdk.get_oco_open_orders()) == 1 <= len(sdk.get_oco_orders())
    assert len(sdk.get_open_orders("BTCUSDT")) == 2 and len(sdk.cancel_open_orders("BTCUSDT")) == 2
    assert placed["orderId"] in [row["orderId"] for row in sdk.get_orders("BTCUSDT")]
    assert stage.open("binance-spot") == 0


def test_the_spot_connector_trades_over_the_websocket(stage: Stage) -> None:
    kind = pytest.importorskip("binance.websocket.spot.websocket_api").SpotWebsocketAPIClient
    entry, said = stage.venue("binance-spot"), []
    keys = {"api_key": entry["credentials"]["api_key"], "api_secret": entry["credentials"]["api_secret"]}
    sdk = kind(stream_url=entry["ws_url"], **keys, on_message=lambda socket, text: said.append(json.loads(text)))

    def ask(name: str, **params: Any) -> Any:
        count = len(said)
        getattr(sdk, name)(**params)
        until(lambda: len(said) > count)
        assert said[-1]["status"] == 200, said[-1]
        return said[-1]["result"]

    try:
        placed = ask("new_order", symbol="BTCUSDT", quantity=0.01, **LIMIT)
        assert ask("get_order", symbol="BTCUSDT", orderId=placed["orderId"])["status"] == "NEW"
        assert len(ask("get_open_orders")) == 1 and ask("account")["canTrade"]
        ask("cancel_order", symbol="BTCUSDT", orderId=placed["orderId"])
        stage.rest("binance-spot", 2)
        assert len(ask("cancel_open_orders", symbol="BTCUSDT")) == 2 and ask("oco_history") is not None
    finally:
        sdk.stop()
    assert stage.open("binance-spot") == 0
