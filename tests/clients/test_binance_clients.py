"""python-binance and Binance's own SDKs at the simulators, unchanged but for address and authority."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .stage import Stage

FUTURES = {"binance-usdm": ("futures", "BTCUSDT"), "binance-coinm": ("futures_coin", "BTCUSD_PERP")}
LIMIT = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}


def python_binance(stage: Stage, venue: str) -> Any:
    kind = pytest.importorskip("binance.client").Client
    keys, url = stage.venue(venue)["credentials"], stage.venue(venue)["rest_url"]
    sdk = kind(keys["api_key"], keys["api_secret"], requests_params={"timeout": 5}, ping=False)
    sdk.API_URL, sdk.MARGIN_API_URL = f"{url}/api", f"{url}/sapi"
    sdk.FUTURES_URL, sdk.FUTURES_COIN_URL = f"{url}/fapi", f"{url}/dapi"
    return sdk


def test_python_binance_trades_lists_and_cancels_at_spot(stage: Stage) -> None:
    sdk = python_binance(stage, "binance-spot")
    assert sdk.ping() == {} and sdk.get_server_time()["serverTime"] > 0
    assert sdk.get_symbol_info("BTCUSDT")["status"] == "TRADING"
    assert sdk.get_account()["canTrade"] and sdk.get_asset_balance("USDT")["free"] == "100000.00000000"
    assert sdk.get_account_status() == {"data": "Normal"} and sdk.get_trade_fee(symbol="BTCUSDT")
    assert float(sdk.get_symbol_ticker(symbol="BTCUSDT")["price"]) > 0 and sdk.get_order_book(symbol="BTCUSDT")
    assert sdk.create_test_order(symbol="BTCUSDT", quantity=1, price="100", **LIMIT) == {}
    placed = sdk.order_limit_buy(symbol="BTCUSDT", quantity=0.01, price="100")
    stage.rest("binance-spot", 2)
    assert len(sdk.get_open_orders()) == len(sdk.get_open_orders(symbol="BTCUSDT")) == 3
    change = {"symbol": "BTCUSDT", "cancelReplaceMode": "STOP_ON_FAILURE", "quantity": 0.02, "price": "101", **LIMIT}
    replaced = sdk.cancel_replace_order(cancelOrderId=placed["orderId"], **change)
    assert (replaced["cancelResult"], replaced["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    with pytest.raises(Exception, match="cancel-replace failed"):
        sdk.cancel_replace_order(cancelOrderId=placed["orderId"], **change)
    placed = replaced["newOrderResponse"]
    assert sdk.cancel_order(symbol="BTCUSDT", orderId=placed["orderId"])["status"] == "CANCELED"
    assert sdk.get_order(symbol="BTCUSDT", orderId=placed["orderId"])["status"] == "CANCELED"
    assert placed["orderId"] in [row["orderId"] for row in sdk.get_all_orders(symbol="BTCUSDT")]
    made = sdk.create_oco_order(
        symbol="BTCUSDT", side="SELL", quantity=1, aboveType="LIMIT_MAKER", abovePrice="120",
        belowType="STOP_LOSS", belowStopPrice="80",
    )  # fmt: skip
    assert len(made["orders"]) == 2 and stage.open("binance-spot") == 4
    assert len(sdk.cancel_all_open_orders(symbol="BTCUSDT")) == 3  # an order list is one of them
    assert stage.open("binance-spot") == 0 and sdk.get_my_trades(symbol="BTCUSDT") == []


@pytest.mark.parametrize("venue", FUTURES)
def test_python_binance_trades_lists_and_cancels_at_the_futures(venue: str, stage: Stage) -> None:
    prefix, symbol = FUTURES[venue]
    sdk = python_binance(stage, venue)

    def call(name: str, **params: Any) -> Any:
        return getattr(sdk, f"{prefix}_{name}")(**params)

    for name in ("ping", "time", "exchange_info", "account", "account_balance", "position_information"):
        call(name)
    assert call("get_position_mode") == {"dualSidePosition": False} and call("stream_get_listen_key")
    assert call("change_leverage", symbol=symbol, leverage=5)["leverage"] == 5
    placed = call("create_order", symbol=symbol, quantity=1, price=100, **LIMIT)
    named = {"symbol": symbol, "side": "BUY", "orderId": placed["orderId"]}
    assert call("modify_order", quantity=2, price=101, **named)["orderId"] == placed["orderId"]
    with pytest.raises(Exception, match="No need to modify"):
        call("modify_order", quantity=2, price=101, **named)
    ids = stage.rest(venue, 2)
    assert len(call("get_open_orders", symbol=symbol)) == 3 <= len(call("get_all_orders", symbol=symbol))
    assert call("cancel_order", symbol=symbol, orderId=placed["orderId"])["status"] == "CANCELED"
    if venue == "binance-usdm":  # the SDK encodes the list twice at COIN-M
        assert call("cancel_orders", symbol=symbol, orderidlist=[int(ids[0])])[0]["orderId"] == int(ids[0])
        stop = call("create_order", symbol=symbol, side="SELL", type="STOP_MARKET", stopPrice=90, quantity=1)
        call("cancel_all_open_orders", symbol=symbol)
        assert [row["algoId"] for row in call("get_open_algo_orders")] == [stop["algoId"]]
        call("cancel_all_algo_open_orders", symbol=symbol)
    assert call("cancel_all_open_orders", symbol=symbol)["code"] == 200
    assert stage.open(venue) == 0


def settings(stage: Stage, venue: str, path: str) -> tuple[Any, Any]:
    common = pytest.importorskip("binance_common.configuration")
    entry = stage.venue(venue)
    keys = {"api_key": entry["credentials"]["api_key"], "api_secret": entry["credentials"]["api_secret"]}
    socket = f"wss://{entry['rest_url'].partition('://')[2]}{path}"
    return (
        common.ConfigurationRestAPI(**keys, base_path=entry["rest_url"]),
        common.ConfigurationWebSocketAPI(**keys, stream_url=socket),
    )


def test_binances_sdk_lists_and_cancels_at_spot_over_rest_and_its_websocket(stage: Stage) -> None:
    module = pytest.importorskip("binance_sdk_spot.spot")
    rest, socket = settings(stage, "binance-spot", "/ws-api/v3")
    sdk = module.Spot(config_rest_api=rest, config_ws_api=socket)
    api = sdk.rest_api
    assert api.exchange_info(symbol="BTCUSDT").data().symbols[0].symbol == "BTCUSDT"
    assert api.get_account().data().can_trade and api.rate_limit_order().data()
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "time_in_force": "GTC"}
    placed = api.new_order(**order, quantity=0.1, price=100.0).data()
    stage.rest("binance-spot", 2)
    assert len(api.get_open_orders().data()) == 3 <= len(api.all_orders(symbol="BTCUSDT").data())
    amended = api.order_amend_keep_priority(symbol="BTCUSDT", order_id=placed.order_id, new_qty=0.05).data()
    assert amended.amended_order.qty == "0.05000000"
    assert api.delete_order(symbol="BTCUSDT", order_id=placed.order_id).data().status == "CANCELED"
    assert len(api.delete_open_orders(symbol="BTCUSDT").data()) == 2
    stage.rest("binance-spot", 2)

    async def over_the_socket() -> None:
        connection = await sdk.websocket_api.create_connection()
        assert len((await connection.open_orders_status()).data().result) == 2
        await connection.exchange_info(symbol="BTCUSDT")
        cancelled = await connection.open_orders_cancel_all(symbol="BTCUSDT")
        assert len(cancelled.data().result) == 2
        await connection.close_connection(close_session=True)

    asyncio.run(asyncio.wait_for(over_the_socket(), 10))
    assert stage.open("binance-spot") == 0


@pytest.mark.parametrize(
    ("venue", "package", "kind", "socket"),
    [
        ("binance-usdm", "usds_futures", "DerivativesTradingUsdsFutures", "/ws-fapi/v1"),
        ("binance-coinm", "coin_futures", "DerivativesTradingCoinFutures", "/ws-dapi/v1"),
    ],
)
def test_binances_sdks_list_and_cancel_at_the_futures(
    venue: str, package: str, kind: str, socket: str, stage: Stage
) -> None:
    name = f"derivatives_trading_{package}"
    module, symbol = pytest.importorskip(f"binance_sdk_{name}.{name}"), FUTURES[venue][1]
    api = getattr(module, kind)(config_rest_api=settings(stage, venue, socket)[0]).rest_api
    assert api.exchange_information().data().symbols and api.start_user_data_stream().data().listen_key
    assert api.get_current_position_mode().data().dual_side_position is False
    ids = [int(one) for one in stage.rest(venue, 3)]
    assert len(api.current_all_open_orders(symbol=symbol).data()) == 3
    assert api.query_order(symbol=symbol, order_id=ids[0]).data().status == "NEW"
    assert len(api.cancel_multiple_orders(symbol=symbol, order_id_list=ids[:2]).data()) == 2
    assert api.auto_cancel_all_open_orders(symbol=symbol, countdown_time=100_000).data().symbol == symbol
    assert api.cancel_all_open_orders(symbol=symbol).data().code == 200
    assert stage.open(venue) == 0
