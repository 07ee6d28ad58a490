"""Hold the orders that a client places at Binance spot against Binance's documents, by raw requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from .clients import running
from .test_binance import Client
from .test_binance_spot import events, subscribed

pytestmark = pytest.mark.anyio
VENUE, SYMBOL = "binance-spot", "BTCUSDT"
LIMIT = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "100"}
OTO: dict[str, Any] = {
    "symbol": SYMBOL, "workingType": "LIMIT", "workingSide": "BUY", "workingPrice": "100", "workingQuantity": "1",
    "workingTimeInForce": "GTC", "pendingType": "LIMIT_MAKER", "pendingSide": "SELL", "pendingPrice": "40000",
    "pendingQuantity": "1",
}  # fmt: skip
OTOCO: dict[str, Any] = {
    "symbol": SYMBOL, "workingType": "LIMIT_MAKER", "workingSide": "BUY", "workingPrice": "100",
    "workingQuantity": "1", "pendingSide": "SELL", "pendingQuantity": "1", "pendingAboveType": "LIMIT_MAKER",
    "pendingAbovePrice": "40000", "pendingBelowType": "STOP_LOSS", "pendingBelowStopPrice": "90",
}  # fmt: skip
OCO: dict[str, Any] = {
    "symbol": SYMBOL, "side": "SELL", "quantity": "1", "aboveType": "TAKE_PROFIT_LIMIT", "abovePrice": "41000",
    "aboveStopPrice": "40000", "aboveTimeInForce": "GTC", "belowType": "STOP_LOSS", "belowTrailingDelta": "100",
}  # fmt: skip


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[Client]:
    async with running(VENUE) as sim:
        yield Client(sim, VENUE)


async def placed(client: Client, path: str, params: dict[str, Any]) -> Any:
    answer = await client.send("POST", path, **params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("STOP_LOSS", {"stopPrice": "90"}),
        ("STOP_LOSS_LIMIT", {"stopPrice": "90", "price": "89", "timeInForce": "GTC"}),
        ("TAKE_PROFIT", {"stopPrice": "40000"}),
        ("TAKE_PROFIT_LIMIT", {"stopPrice": "40000", "price": "41000", "timeInForce": "GTC"}),
        ("STOP_LOSS", {"trailingDelta": "100"}),
    ],
)
async def test_each_conditional_type_rests_and_lacks_no_mandatory_parameter(
    client: Client, kind: str, more: dict[str, str]
) -> None:
    order = {"symbol": SYMBOL, "side": "SELL", "type": kind, "quantity": "1", **more}
    for name in more:
        assert await client.code("POST", "order", **{key: order[key] for key in order if key != name}) == (400, -1102)
    ack = await placed(client, "order", order)
    assert ack.keys() == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}  # the default here
    [listed] = await client.get("openOrders")
    assert (listed["type"], float(listed["stopPrice"])) == (kind, float(more.get("stopPrice", 0)))
    assert (float(listed["price"]), listed.get("trailingDelta")) == (
        float(more.get("price", 0)),
        100 if "trailingDelta" in more else None,
    )


async def test_a_market_order_in_quote_money_has_its_quantity_by_the_price(client: Client) -> None:
    market = {"symbol": SYMBOL, "side": "BUY", "type": "MARKET"}
    shown = await placed(client, "order", market | {"quoteOrderQty": "300"})
    assert (shown["status"], shown["executedQty"], shown["cummulativeQuoteQty"]) == (
        "FILLED",
        "0.01000000",
        "300.00000000",
    )
    assert (shown["origQuoteOrderQty"], shown["price"]) == ("300.00000000", "0.00000000")
    assert [(fill["price"], fill["qty"]) for fill in shown["fills"]] == [("30000.00000000", "0.01000000")]
    assert await client.code("POST", "order", **market, quoteOrderQty="300", quantity="1") == (400, -1128)
    assert await client.code("POST", "order", **market) == (400, -1102)


@pytest.mark.parametrize("tif", ["IOC", "FOK"])
async def test_an_order_that_may_not_rest_fills_or_expires_at_once(client: Client, tif: str) -> None:
    async with subscribed(client) as ws:
        far = await placed(client, "order", LIMIT | {"timeInForce": tif})
        near = await placed(client, "order", LIMIT | {"timeInForce": tif, "price": "31000"})
        said = [event for event in await events(ws, 8) if event["e"] == "executionReport"]
    assert [(order["status"], order["timeInForce"]) for order in (far, near)] == [("EXPIRED", tif), ("FILLED", tif)]
    assert [(event["x"], event["X"], event["f"]) for event in said] == [
        ("NEW", "NEW", tif), ("EXPIRED", "EXPIRED", tif), ("NEW", "NEW", tif), ("TRADE", "FILLED", tif),
    ]  # fmt: skip
    assert (await client.get("order", symbol=SYMBOL, orderId=far["orderId"]))["status"] == "EXPIRED"
    assert await client.get("openOrders") == []


@pytest.mark.parametrize(
    ("form", "has"), [("ACK", set()), ("RESULT", {"status", "workingTime"}), ("FULL", {"status", "fills"})]
)
async def test_the_answer_to_a_new_order_has_the_form_that_was_asked_for(
    client: Client, form: str, has: set[str]
) -> None:
    shown = await placed(client, "order", LIMIT | {"newOrderRespType": form})
    assert has <= shown.keys() and {"time", "updateTime", "isWorking"}.isdisjoint(shown)
    assert ("status" in shown, "fills" in shown) == (form != "ACK", form == "FULL")
    assert await client.code("POST", "order", **LIMIT, newOrderRespType="SHORT") == (400, -1130)


@pytest.mark.parametrize(
    ("path", "method", "params", "contingency", "states"),
    [
        ("oco", "orderList.place.oco", OCO, "OCO", ["NEW", "NEW"]),
        ("oto", "orderList.place.oto", OTO, "OTO", ["NEW", "PENDING_NEW"]),
        ("otoco", "orderList.place.otoco", OTOCO, "OTO", ["NEW", "PENDING_NEW", "PENDING_NEW"]),
    ],
)
async def test_an_order_list_is_placed_looked_up_listed_and_cancelled(
    client: Client, path: str, method: str, params: dict[str, Any], contingency: str, states: list[str]
) -> None:
    made = await placed(client, f"orderList/{path}", params | {"listClientOrderId": "mine"})
    assert (made["contingencyType"], made["listClientOrderId"]) == (contingency, "mine")
    assert [row["status"] for row in made["orderReports"]] == states
    assert [row["type"] for row in made["orderReports"]] == [params[name] for name in params if name.endswith("Type")]
    named = {"orderListId": made["orderListId"]}
    assert (await client.get("orderList", **named))["listOrderStatus"] == "EXECUTING"
    assert (await client.get("orderList", origClientOrderId="mine"))["orderListId"] == made["orderListId"]
    assert [row["orderListId"] for row in await client.get("openOrderList")] == [made["orderListId"]]
    async with client.socket("/ws-api/v3") as ws:
        again = (await client.say(ws, method, **params))["result"]
        shown = (await client.say(ws, "orderList.status", orderListId=again["orderListId"]))["result"]
        assert (shown["orderListId"], len(shown["orders"])) == (again["orderListId"], len(states))
        past = (await client.say(ws, "allOrderLists"))["result"]
    assert [row["orderListId"] for row in past] == [made["orderListId"], again["orderListId"]]
    assert (await client.send("DELETE", "orderList", symbol=SYMBOL, **named)).status_code == 200
    done = await client.get("orderList", **named)
    assert (done["listStatusType"], done["listOrderStatus"], len(done["orders"])) == (
        "ALL_DONE",
        "ALL_DONE",
        len(states),
    )
    assert [row["orderListId"] for row in await client.get("allOrderList", fromId=again["orderListId"])] == [
        again["orderListId"]
    ]


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("oco", OCO | {"aboveType": "STOP_LOSS"}),  # two stops
        ("oco", OCO | {"aboveType": "LIMIT"}),
        ("oco", OCO | {"aboveTimeInForce": None}),
        ("oco", OCO | {"belowTrailingDelta": None}),
        ("oto", OTO | {"workingType": "MARKET"}),
        ("oto", OTO | {"pendingPrice": None}),
        ("otoco", OTOCO | {"pendingBelowType": "LIMIT_MAKER", "pendingBelowPrice": "1"}),
        ("otoco", OTOCO | {"workingQuantity": None}),
    ],
)
async def test_an_order_list_of_another_shape_is_refused(client: Client, path: str, wrong: dict[str, Any]) -> None:
    sent = {name: value for name, value in wrong.items() if value is not None}
    status, _ = await client.code("POST", f"orderList/{path}", **sent)
    assert (status, await client.sim.open(VENUE)) == (400, 0)


async def test_the_deprecated_oco_places_a_maker_and_a_stop(client: Client) -> None:
    oco = {"symbol": SYMBOL, "side": "SELL", "quantity": "1", "price": "40000", "stopPrice": "90"}
    made = await placed(client, "order/oco", oco)
    assert [row["type"] for row in made["orderReports"]] == ["STOP_LOSS", "LIMIT_MAKER"]
    limited = {**oco, "stopLimitPrice": "89"}
    assert await client.code("POST", "order/oco", **limited) == (400, -1102)
    made = await placed(client, "order/oco", limited | {"stopLimitTimeInForce": "GTC"})
    assert [row["type"] for row in made["orderReports"]] == ["STOP_LOSS_LIMIT", "LIMIT_MAKER"]


async def test_a_working_leg_that_expires_takes_its_pending_legs_along(client: Client) -> None:
    made = await placed(client, "orderList/oto", OTO | {"workingTimeInForce": "IOC"})
    assert made["listOrderStatus"] == "ALL_DONE"
    assert [row["status"] for row in made["orderReports"]] == ["EXPIRED", "EXPIRED"]
    made = await placed(client, "orderList/oto", OTO | {"workingTimeInForce": "IOC", "workingPrice": "31000"})
    assert [row["status"] for row in made["orderReports"]] == ["FILLED", "NEW"]


async def test_an_account_without_such_rows_has_empty_lists_of_them(client: Client) -> None:
    assert await client.get("myAllocations", symbol=SYMBOL) == []
    assert await client.get("myPreventedMatches", symbol=SYMBOL, preventedMatchId=1) == []
    assert await client.code("GET", "myPreventedMatches", symbol=SYMBOL) == (400, -1102)
    async with client.socket("/ws-api/v3") as ws:
        assert (await client.say(ws, "myAllocations", symbol=SYMBOL))["result"] == []
        assert (await client.say(ws, "myPreventedMatches", symbol=SYMBOL, orderId=1))["result"] == []
