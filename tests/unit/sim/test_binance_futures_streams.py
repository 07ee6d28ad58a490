"""Hold subscriptions to the futures' user streams, and orders that may not rest, against Binance's documents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from .clients import receive, running
from .test_binance import FUTURES, ONE, Client
from .test_binance_futures import silent

pytestmark = pytest.mark.anyio
PATHS = {"binance-usdm": "/private/", "binance-coinm": "/"}


@pytest.fixture(params=FUTURES)
async def client(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Client]:
    async with running(request.param) as sim:
        yield Client(sim, request.param)


async def ask(ws: Any, method: str, *names: str) -> Any:
    await ws.send(json.dumps({"method": method, "id": 7, **({"params": list(names)} if names else {})}))
    return await receive(ws)


@pytest.mark.parametrize("path", ["ws", "stream"])
async def test_a_subscription_to_a_listen_key_begins_and_ends_its_events(client: Client, path: str) -> None:
    key = await client.listen_key()
    async with client.socket(PATHS[client.venue] + path) as ws:
        assert await ask(ws, "LIST_SUBSCRIPTIONS") == {"result": [], "id": 7}
        assert await ask(ws, "SUBSCRIBE", key) == {"result": None, "id": 7}
        assert await ask(ws, "LIST_SUBSCRIPTIONS") == {"result": [key], "id": 7}
        [one] = await client.sim.rest_orders(client.venue, 1)
        message = await receive(ws)
        if path == "stream":
            assert message.keys() == {"stream", "data"} and message["stream"] == key
            message = message["data"]
        assert (message["e"], message["o"]["i"]) == ("ORDER_TRADE_UPDATE", int(one))
        assert await ask(ws, "UNSUBSCRIBE", key) == {"result": None, "id": 7}
        await client.sim.rest_orders(client.venue, 1)
        assert await silent(ws)


async def test_a_subscription_to_an_unknown_key_is_silent_and_one_to_none_is_an_error(client: Client) -> None:
    async with client.socket(PATHS[client.venue] + "ws") as ws:
        assert await ask(ws, "SUBSCRIBE", "x" * 64) == {"result": None, "id": 7}
        assert (await ask(ws, "SUBSCRIBE"))["error"]["code"] == 2
        assert (await ask(ws, "PLACE", "x"))["error"]["code"] == 2
        await client.sim.rest_orders(client.venue, 1)
        assert await silent(ws)


async def test_a_subscription_at_the_retired_address_is_silent(anyio_backend: object) -> None:
    async with running("binance-usdm") as sim:
        client = Client(sim, "binance-usdm")
        key = await client.listen_key()
        async with client.socket(f"/ws/{key}") as ws:
            assert await ask(ws, "SUBSCRIBE", key) == {"result": None, "id": 7}
            await sim.rest_orders("binance-usdm", 1)
            assert await silent(ws)


async def test_the_request_socket_makes_keeps_and_ends_the_listen_key(client: Client) -> None:
    key: dict[str, Any] = {"apiKey": client.keys["api_key"]}
    path = {"binance-usdm": "/ws-fapi/v1", "binance-coinm": "/ws-dapi/v1"}[client.venue]
    async with client.socket(path) as ws:
        made = await client.say(ws, "userDataStream.start", signs=False, **key)
        assert made["result"] == {"listenKey": await client.listen_key()}
        assert (await client.say(ws, "userDataStream.ping", signs=False, **key))["result"] == made["result"]
        assert (await client.say(ws, "userDataStream.stop", signs=False, **key))["result"] == {}
        gone = await client.say(ws, "userDataStream.ping", signs=False, **key)
        assert gone["error"]["code"] == -1125
        for wrong, code in (({}, -2014), ({"apiKey": "x" * 64}, -2015)):
            assert (await client.say(ws, "userDataStream.start", signs=False, **wrong))["error"]["code"] == code


async def test_a_combined_stream_may_name_its_key_in_the_address(client: Client) -> None:
    key = await client.listen_key()
    name = "listenKey" if client.venue == "binance-usdm" else "streams"
    async with client.socket(f"{PATHS[client.venue]}stream?{name}={key}") as ws:
        await client.sim.rest_orders(client.venue, 1)
        assert (await receive(ws))["stream"] == key


@pytest.mark.parametrize("tif", ["IOC", "FOK"])
async def test_a_futures_order_that_may_not_rest_fills_or_expires_at_once(client: Client, tif: str) -> None:
    limit = {"symbol": ONE[client.venue], "side": "BUY", "type": "LIMIT", "timeInForce": tif, "quantity": "1"}
    async with client.stream("ORDER_TRADE_UPDATE") as ws:
        for price, state, happened in (("100", "EXPIRED", "EXPIRED"), ("31000", "FILLED", "TRADE")):
            shown = (await client.send("POST", "order", **limit, price=price)).json()
            assert (shown["status"], shown["timeInForce"]) == (state, tif)
            said = [(await receive(ws))["o"] for _ in range(2)]
            assert [(event["x"], event["X"], event["f"]) for event in said] == [
                ("NEW", "NEW", tif),
                (happened, state, tif),
            ]
    assert await client.get("openOrders") == []
    wrong = limit | {"price": "100", "timeInForce": "DAY"}
    assert await client.code("POST", "order", **wrong) == (400, -1115)
    assert await client.code("POST", "order", **wrong | {"timeInForce": "GTD"}) == (400, -1102)


async def test_the_position_mode_stays_one_way(client: Client) -> None:
    path = "positionSide/dual"
    assert await client.code("POST", path, dualSidePosition="false") == (400, -4059)
    assert await client.code("POST", path, dualSidePosition="both") == (400, -1102)
    await client.sim.rest_orders(client.venue, 1)
    assert await client.code("POST", path, dualSidePosition="true") == (400, -4067)
    await client.cancel_all()
    await client.sim.post("/positions", venue=client.venue, qty="1")
    assert await client.code("POST", path, dualSidePosition="true") == (400, -4068)
    [row] = await client.get("adlQuantile")
    assert row == {"symbol": ONE[client.venue], "adlQuantile": {"LONG": 0, "SHORT": 0, "BOTH": 0}}
    assert await client.get("forceOrders") == [] == await client.get("positionMargin/history", symbol=row["symbol"])


async def test_a_trade_has_the_fields_of_its_venue(client: Client) -> None:
    market = {"symbol": ONE[client.venue], "side": "BUY", "type": "MARKET", "quantity": "1"}
    made = (await client.send("POST", "order", **market)).json()
    [row] = await client.get("userTrades", symbol=ONE[client.venue], orderId=made["orderId"])
    own = {"quoteQty"} if client.venue == "binance-usdm" else {"pair", "marginAsset", "baseQty"}
    assert row.keys() - own == {
        "buyer", "commission", "commissionAsset", "id", "maker", "orderId", "positionSide", "price", "qty",
        "realizedPnl", "side", "symbol", "time",
    }  # fmt: skip
    assert own < row.keys() and row["maker"] is False
    assert await client.get("userTrades", symbol=ONE[client.venue], orderId=1) == []
