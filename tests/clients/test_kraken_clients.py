"""krakenex and python-kraken-sdk at the simulators, unchanged but for address and authority."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from .stage import Stage


def test_krakenex_reads_places_and_cancels(stage: Stage) -> None:
    krakenex = pytest.importorskip("krakenex")
    keys = stage.venue("kraken")["credentials"]
    api = krakenex.API(keys["api_key"], keys["api_secret"])
    api.uri = stage.venue("kraken")["rest_url"]
    stage.rest("kraken", 2)

    def ask(method: str, **data: Any) -> Any:
        time.sleep(0.002)  # its nonce is a millisecond, and goes up
        answer = api.query_private(method, data)
        assert answer["error"] == [], (method, answer)
        return answer["result"]

    for method in ("Time", "SystemStatus", "Assets", "AssetPairs"):
        assert api.query_public(method)["error"] == []
    assert api.query_public("NoSuch") == {"error": ["EGeneral:Unknown method"]}
    for method in (
        "Balance",
        "BalanceEx",
        "ClosedOrders",
        "TradesHistory",
        "OpenPositions",
        "Ledgers",
        "TradeVolume",
    ):
        ask(method)
    placed = ask("AddOrder", pair="XXBTZUSD", type="buy", ordertype="limit", price="100", volume="0.1")
    assert placed["txid"][0] in ask("OpenOrders")["open"] and len(ask("OpenOrders")["open"]) == 3
    assert ask("AmendOrder", txid=placed["txid"][0], order_qty="0.2", limit_price="101")["amend_id"]
    edited = ask("EditOrder", pair="XXBTZUSD", txid=placed["txid"][0], volume="0.3", price="102")
    assert edited["originaltxid"] == placed["txid"][0] not in ask("OpenOrders")["open"]
    assert ask("CancelOrder", txid=edited["txid"]) == {"count": 1}
    assert ask("CancelAll") == {"count": 2} and stage.open("kraken") == 0


def test_krakens_sdk_reads_places_and_cancels_at_spot(stage: Stage) -> None:
    spot = pytest.importorskip("kraken.spot")
    keys, url = stage.venue("kraken")["credentials"], stage.venue("kraken")["rest_url"]
    login = {"key": keys["api_key"], "secret": keys["api_secret"], "url": url}
    user, trade, market = spot.User(**login), spot.Trade(**login), spot.Market(url=url)
    assert market.get_asset_pairs() and market.get_system_status()["status"] == "online"
    placed = trade.create_order(ordertype="limit", side="buy", pair="XBTUSD", volume=0.01, price=100)["txid"][0]
    ids = stage.rest("kraken", 4)
    assert set(user.get_open_orders()["open"]) == {placed, *ids}
    assert trade.amend_order(extra_params={"txid": placed, "order_qty": "0.02", "limit_price": "101"})["amend_id"]
    order = {"ordertype": "limit", "type": "buy", "volume": "0.01", "price": "100"}
    assert len(trade.create_order_batch(orders=[order, order], pair="XBTUSD")["orders"]) == 2
    placed = trade.edit_order(txid=placed, pair="XBTUSD", volume=0.03, price=102)["txid"]
    assert trade.cancel_order(txid=placed) == {"count": 1}
    assert trade.cancel_order_batch(orders=ids[:2]) == {"count": 2}
    assert trade.cancel_all_orders_after_x(timeout=60)["triggerTime"]
    assert trade.cancel_all_orders() == {"count": 4} and stage.open("kraken") == 0
    with pytest.raises(Exception, match="Unknown order"):
        trade.cancel_order(txid=placed)


def test_krakens_sdk_reads_places_and_cancels_at_derivatives(stage: Stage) -> None:
    futures = pytest.importorskip("kraken.futures")
    entry = stage.venue("kraken-futures")
    keys = entry["credentials"]
    login = {"key": keys["api_key"], "secret": keys["api_secret"], "url": entry["rest_url"]}
    user, trade, market = futures.User(**login), futures.Trade(**login), futures.Market(url=entry["rest_url"])
    assert market.get_instruments()["instruments"] and market.get_tickers()["tickers"]
    limit = {"orderType": "lmt", "size": 1, "symbol": "PF_XBTUSD", "side": "buy", "limitPrice": 100}
    placed = trade.create_order(**limit)["sendStatus"]["order_id"]
    stage.rest("kraken-futures", 2, kind="stop")
    assert len(user.get_open_orders()["openOrders"]) == 3 and user.get_wallets()["accounts"]
    assert len(trade.get_orders_status(orderIds=[placed])["orders"]) == 1
    assert trade.edit_order(orderId=placed, size=2, limitPrice=101)["editStatus"]["status"] == "edited"
    assert trade.edit_order(orderId=str(uuid.uuid4()), size=2)["editStatus"]["status"] == "orderForEditNotFound"
    assert trade.cancel_order(order_id=placed)["cancelStatus"]["status"] == "cancelled"
    assert trade.dead_mans_switch(timeout=60)["status"]["triggerTime"]
    assert len(trade.cancel_all_orders()["cancelStatus"]["cancelledOrders"]) == 2
    assert stage.open("kraken-futures") == 0


def test_krakens_sdk_reads_the_past_and_the_settings_at_derivatives(stage: Stage) -> None:
    futures = pytest.importorskip("kraken.futures")
    entry = stage.venue("kraken-futures")
    keys = entry["credentials"]
    login = {"key": keys["api_key"], "secret": keys["api_secret"], "url": entry["rest_url"]}
    user, trade, market = futures.User(**login), futures.Trade(**login), futures.Market(**login)
    placed = trade.create_order(orderType="mkt", size=1, symbol="PF_ETHUSD", side="buy")["sendStatus"]["order_id"]
    [event] = user.get_execution_events(tradeable="PF_ETHUSD")["elements"]
    assert event["event"]["Execution"]["execution"]["order"]["uid"] == placed
    placement, fill = user.get_order_events(tradeable="PF_ETHUSD", sort="asc")["elements"]
    assert placement["event"]["OrderPlaced"]["order"]["uid"] == placed
    assert fill["event"]["OrderUpdated"]["reason"] == "full_fill"
    assert user.get_trigger_events(tradeable="PF_ETHUSD")["elements"] == []
    rows = user.get_account_log(info="futures trade", count=2, sort="desc")["logs"]
    assert [row["asset"] for row in rows] == ["pf_ethusd", "usd"]
    assert market.set_leverage_preference(symbol="PF_ETHUSD", maxLeverage=5)["result"] == "success"
    assert market.get_leverage_preference()["leveragePreferences"] == [{"symbol": "PF_ETHUSD", "maxLeverage": 5.0}]
    assert market.get_fee_schedules()["feeSchedules"] and market.get_fee_schedules_vol()["volumesByFeeSchedule"]
    assert user.get_unwind_queue()["queue"] == [] and user.get_subaccounts()["subaccounts"] == []
    trade.create_order(orderType="mkt", size=1, symbol="PF_ETHUSD", side="sell")
    assert market.get_trade_history(symbol="PF_ETHUSD")["history"]


def test_krakens_sdk_hears_of_orders_and_cancels_them_over_the_websocket(stage: Stage) -> None:
    spot = pytest.importorskip("kraken.spot")
    entry, heard = stage.venue("kraken"), []
    keys, socket = entry["credentials"], entry["ws_url"].removesuffix("/v2")

    async def note(message: Any) -> None:
        heard.append(message)

    async def main() -> None:
        sdk = spot.SpotWSClient(
            key=keys["api_key"], secret=keys["api_secret"], callback=note, no_public=True,
            rest_url=entry["rest_url"], ws_url=socket, auth_ws_url=socket,
        )  # fmt: skip
        await sdk.start()
        await sdk.subscribe(params={"channel": "executions", "snap_orders": True})
        await until(lambda: any(message.get("type") == "snapshot" for message in heard))
        [one] = stage.rest("kraken", 1)
        await until(lambda: statuses(heard, one)[-1:] == ["new"])
        await sdk.send_message({"method": "cancel_all"})
        await until(lambda: statuses(heard, one)[-1:] == ["canceled"])

    asyncio.run(main())
    assert stage.open("kraken") == 0


def test_krakens_sdk_hears_of_derivatives_orders(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    futures = pytest.importorskip("kraken.futures")
    entry, heard = stage.venue("kraken-futures"), []
    keys = entry["credentials"]
    monkeypatch.setattr(futures.FuturesWSClient, "PROD_ENV_URL", entry["ws_url"].removeprefix("wss://"))

    async def note(message: Any) -> None:
        heard.append(message)

    async def main() -> None:
        sdk = futures.FuturesWSClient(key=keys["api_key"], secret=keys["api_secret"], callback=note)
        await sdk.start()
        await sdk.subscribe(feed="open_orders")
        await until(lambda: any(message.get("feed") == "open_orders_snapshot" for message in heard))
        [one] = stage.rest("kraken-futures", 1)
        await until(lambda: any(message.get("order", {}).get("order_id") == one for message in heard))
        trade = futures.Trade(key=keys["api_key"], secret=keys["api_secret"], url=entry["rest_url"])
        await asyncio.to_thread(trade.cancel_all_orders)
        await until(lambda: any(message.get("is_cancel") and message["order_id"] == one for message in heard))

    asyncio.run(main())


def statuses(heard: list[Any], order_id: str) -> list[str]:
    """Return what `executions` said of an order."""
    pushes = [message for message in heard if message.get("channel") == "executions"]
    return [row["order_status"] for push in pushes for row in push["data"] if row["order_id"] == order_id]


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110 - a library calls back
            await asyncio.sleep(0.01)
