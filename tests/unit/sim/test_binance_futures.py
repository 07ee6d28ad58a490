"""Hold the simulators of Binance's futures against docs/venues/binance.md, by raw requests."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from kill_switch.sim.kit import exchange

from .clients import receive, running
from .test_binance import FUTURES, ONE, TWO, Client

pytestmark = pytest.mark.anyio
DONE = {"code": 200, "msg": "The operation of cancel all open order is done."}
REQUESTS = {"binance-usdm": "/ws-fapi/v1", "binance-coinm": "/ws-dapi/v1"}


@pytest.fixture(params=FUTURES)
async def client(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Client]:
    async with running(request.param) as sim:
        yield Client(sim, request.param)


async def options(client: Client, **values: object) -> None:
    await client.sim.post("/options", venue=client.venue, **values)


async def silent(ws: ClientConnection) -> bool:
    with anyio.move_on_after(0.1):
        await ws.recv()
        return False
    return True


# ── two spaces of orders (§3.3, §3.4) ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["algo", "stop"])
async def test_each_cancel_all_reaches_one_space_of_orders(client: Client, kind: str) -> None:
    one, symbol = client.venue, ONE[client.venue]
    [regular] = await client.sim.rest_orders(one, 1)
    [algo] = await client.sim.rest_orders(one, 1, kind=kind)
    answer = await client.cancel_all()
    assert (answer.status_code, answer.json()) == (200, DONE)
    assert await client.get("openOrders") == []
    [row] = await client.get("openAlgoOrders")
    assert (row["algoId"], row["algoStatus"], row["actualOrderId"]) == (int(algo), "NEW", "")
    [regular] = await client.sim.rest_orders(one, 1)
    answer = await client.send("DELETE", "algoOpenOrders", symbol=symbol)
    assert (answer.status_code, answer.json()) == (200, DONE)
    assert await client.get("openAlgoOrders") == []
    assert [row["orderId"] for row in await client.get("openOrders", symbol=symbol)] == [int(regular)]


async def test_an_algo_order_that_is_filled_has_a_state_that_algo_orders_have(client: Client) -> None:
    [algo] = await client.sim.rest_orders(client.venue, 1, kind="algo")
    await client.sim.fault(client.venue, "pending", ms=1, fill=True)
    await client.send("DELETE", "algoOpenOrders", symbol=ONE[client.venue])
    await client.sim.until_open(client.venue, 0)
    assert (await client.get("algoOrder", algoId=algo))["algoStatus"] == "FINISHED"


async def test_single_calls_do_not_know_the_ids_of_the_other_space(client: Client) -> None:
    symbol = ONE[client.venue]
    [regular] = await client.sim.rest_orders(client.venue, 1)
    [algo] = await client.sim.rest_orders(client.venue, 1, kind="algo")
    assert await client.code("DELETE", "order", symbol=symbol, orderId=algo) == (400, -2011)
    assert await client.code("GET", "order", symbol=symbol, orderId=algo) == (400, -2013)
    assert await client.code("DELETE", "algoOrder", algoId=regular) == (400, -2011)
    assert await client.sim.open(client.venue) == 2
    answer = await client.send("DELETE", "algoOrder", algoId=algo)
    assert answer.json() | {"clientAlgoId": ""} == {
        "algoId": int(algo),
        "clientAlgoId": "",
        "code": "200",
        "msg": "success",
    }
    answer = await client.send("DELETE", "order", symbol=symbol, orderId=regular)
    assert (answer.json()["orderId"], answer.json()["status"]) == (int(regular), "CANCELED")
    assert (await client.get("order", symbol=symbol, orderId=regular))["status"] == "CANCELED"
    assert (await client.get("algoOrder", algoId=algo))["algoStatus"] == "CANCELED"


async def test_an_empty_symbol_is_cancelled_without_an_error(client: Client) -> None:
    for path in ("allOpenOrders", "algoOpenOrders"):
        answer = await client.send("DELETE", path, symbol=ONE[client.venue])
        assert (answer.status_code, answer.json()) == (200, DONE)
    await options(client, nothing="-2011")
    assert await client.code("DELETE", "allOpenOrders", symbol=ONE[client.venue]) == (400, -2011)


async def test_a_batch_answers_for_each_id(client: Client) -> None:
    symbol = ONE[client.venue]
    [one] = await client.sim.rest_orders(client.venue, 1)
    answer = await client.send("DELETE", "batchOrders", symbol=symbol, orderIdList=f"[{one},7]")
    assert [row.get("orderId") or row for row in answer.json()] == [
        int(one),
        {"code": -2011, "msg": "Unknown order sent."},
    ]
    eleven = json.dumps([*range(1, 12)])
    assert await client.code("DELETE", "batchOrders", symbol=symbol, orderIdList=eleven) == (400, -4054)
    assert await client.code("DELETE", "batchOrders", symbol=symbol, orderIdList="1,2") == (400, -1130)
    assert await client.sim.open(client.venue) == 0


async def test_a_countdown_longer_than_any_number_of_the_venue_is_refused(client: Client) -> None:
    for text in ("9" * 30, "1.5", "1e3", "-1"):
        answer = await client.code("POST", "countdownCancelAll", symbol=ONE[client.venue], countdownTime=text)
        assert answer == (400, -1130)


@pytest.mark.parametrize("kind", ["STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"])
async def test_conditional_orders_are_placed_in_the_algo_service_only(client: Client, kind: str) -> None:
    order = {"symbol": ONE[client.venue], "side": "SELL", "type": kind, "quantity": 1}
    assert await client.code("POST", "order", **order, stopPrice=9) == (400, -4120)
    placed = await client.send("POST", "algoOrder", **order, algoType="CONDITIONAL", triggerPrice=9, activatePrice=9)
    assert placed.json()["algoStatus"] == "NEW" and placed.headers["x-mbx-order-count-1m"] == "1"
    assert [row["algoId"] for row in await client.get("openAlgoOrders")] == [placed.json()["algoId"]]


async def test_an_order_that_triggers_between_the_two_cancels_survives_them(client: Client) -> None:
    [algo] = await client.sim.rest_orders(client.venue, 1, kind="stop")
    await options(client, race=1, triggering_ms=150)
    async with client.stream() as ws:
        assert (await client.cancel_all()).json() == DONE
        assert (await client.send("DELETE", "algoOpenOrders", symbol=ONE[client.venue])).json() == DONE
        assert await client.get("openOrders") == await client.get("openAlgoOrders") == []  # and it is open
        assert await client.sim.states(client.venue) == {"TRIGGERING": 1}
        events = [await receive(ws) for _ in range(3)]
    said = [(event["e"], event["o"].get("aid", event["o"].get("i")), event["o"]["X"]) for event in events]
    [row] = await client.get("openOrders")
    assert said == [
        ("ALGO_UPDATE", int(algo), "TRIGGERING"),
        ("ALGO_UPDATE", int(algo), "TRIGGERED"),
        ("ORDER_TRADE_UPDATE", row["orderId"], "NEW"),
    ]
    assert events[1]["o"]["ai"] == str(row["orderId"]) != algo
    assert (await client.get("algoOrder", algoId=algo))["actualOrderId"] == str(row["orderId"])
    await client.cancel_all()
    assert await client.sim.states(client.venue) == {"TRIGGERED": 1, "CANCELED": 1}


async def test_an_algo_order_may_trigger_by_itself_and_be_listed_meanwhile(client: Client) -> None:
    await options(client, trigger_ms=10, triggering_ms=60_000, triggering_listed=True)
    await client.sim.rest_orders(client.venue, 1, kind="algo")

    async def triggering() -> bool:
        return [row["algoStatus"] for row in await client.get("openAlgoOrders")] == ["TRIGGERING"]

    await client.sim.until(triggering)


async def test_facts_that_are_open_can_be_decided_for_the_client(client: Client) -> None:
    await options(client, unknown="kind", engine_ms=0)
    await client.sim.rest_orders(client.venue, 1, kind="algo")
    await client.cancel_all()
    assert await client.sim.open(client.venue) == 0


@pytest.mark.parametrize("code", ["-2015", "-4109"])
async def test_commands_of_a_portfolio_margin_account_are_refused(client: Client, code: str) -> None:
    await client.sim.rest_orders(client.venue, 1)
    await options(client, portfolio_margin=code)
    symbol = ONE[client.venue]
    for method, path, more in (
        ("DELETE", "allOpenOrders", {}),
        ("DELETE", "algoOpenOrders", {}),
        ("DELETE", "order", {"orderId": 1}),
        ("POST", "countdownCancelAll", {"countdownTime": 9000}),
    ):
        assert (await client.code(method, path, symbol=symbol, **more))[1] == int(code)
    assert await client.sim.open(client.venue) == 1


async def test_reads_cost_more_without_a_symbol(client: Client) -> None:
    for path in ("openOrders", "openAlgoOrders"):
        await client.get(path, symbol=ONE[client.venue])
        await client.get(path)
    await client.send("POST", "countdownCancelAll", symbol=ONE[client.venue], countdownTime=0)
    weights = [(line["what"], line["weight"]) for line in await client.sim.requests(client.venue)]
    assert weights == [("orders", 1), ("orders", 40), ("algo-orders", 1), ("algo-orders", 40), ("dead-man", 10)]


# ── the countdown (§6) ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_countdown_is_of_one_symbol_in_milliseconds_and_spares_algo_orders(client: Client) -> None:
    venue = client.venue
    await client.sim.rest_orders(venue, 1)
    [other] = await client.sim.rest_orders(venue, 1, symbol=TWO[venue])
    [algo] = await client.sim.rest_orders(venue, 1, kind="algo")
    answer = await client.send("POST", "countdownCancelAll", symbol=ONE[venue], countdownTime=60000)
    assert answer.json() == {"symbol": ONE[venue], "countdownTime": "60000"}
    state = await client.sim.get("/deadman", venue=venue)
    assert state["armed"] and 50 < state["fires_in_s"] <= 60
    await client.send("POST", "countdownCancelAll", symbol=ONE[venue], countdownTime=50)
    await client.sim.until_open(venue, 2)
    assert {row["id"] for row in (await client.sim.get("/orders", venue=venue))["orders"]} == {other, algo}
    assert await client.sim.get("/deadman", venue=venue) == {"armed": False, "fires_in_s": None, "fired": 1}


async def test_a_countdown_of_zero_disarms_and_cancels_nothing(client: Client) -> None:
    await client.sim.rest_orders(client.venue, 1)
    for wait_ms in (100, 0):
        await client.send("POST", "countdownCancelAll", symbol=ONE[client.venue], countdownTime=wait_ms)
    await anyio.sleep(0.2)
    assert await client.sim.open(client.venue) == 1
    assert not (await client.sim.get("/deadman", venue=client.venue))["armed"]
    for wrong in ("-1", "1.5", "x"):
        refused = await client.code("POST", "countdownCancelAll", symbol=ONE[client.venue], countdownTime=wrong)
        assert refused == (400, -1130)
    assert await client.code("POST", "countdownCancelAll", symbol=ONE[client.venue]) == (400, -1102)
    assert await client.code("POST", "countdownCancelAll", countdownTime=9000) == (400, -1102)


@pytest.mark.parametrize(("survives", "left"), [(True, 0), (False, 1)])
async def test_a_countdown_may_be_lost_in_maintenance(client: Client, survives: bool, left: int) -> None:
    await client.sim.rest_orders(client.venue, 1)
    await options(client, countdown_survives=survives)
    await client.send("POST", "countdownCancelAll", symbol=ONE[client.venue], countdownTime=50)
    await client.sim.fault(client.venue, "maintenance")

    async def ended() -> bool:
        return bool((await client.sim.get("/deadman", venue=client.venue))["fired"])

    await client.sim.until(ended)
    assert await client.sim.open(client.venue) == left


# ── listenKeys and user streams (§5) ──────────────────────────────────────────────────────────────────────────────


async def test_a_listen_key_needs_the_api_key_only_and_is_the_same_while_it_lives(client: Client) -> None:
    first = await client.listen_key()
    assert await client.listen_key() == first
    assert (await client.raw("PUT", "listenKey")).status_code == 200
    assert (await client.raw("DELETE", "listenKey")).json() == {}
    answer = await client.raw("PUT", "listenKey")
    assert (answer.status_code, answer.json()["code"]) == (400, -1125)
    assert await client.listen_key() != first
    assert (await client.raw("POST", "listenKey", headers={"X-MBX-APIKEY": ""})).json()["code"] == -2014


async def test_a_stream_whose_listen_key_ends_gets_an_event_then_stays_open_and_silent(client: Client) -> None:
    await options(client, listen_key_s=0.3)
    async with client.stream() as ws:
        event = await receive(ws)
        assert event["e"] == "listenKeyExpired" and len(event["listenKey"]) == 64
        await client.sim.rest_orders(client.venue, 1)
        assert await silent(ws)
        await (await ws.ping())
    assert (await client.raw("PUT", "listenKey")).json()["code"] == -1125


async def test_a_listen_key_that_is_kept_lives_on(client: Client) -> None:
    await options(client, listen_key_s=0.4)
    async with client.stream() as ws:
        for _ in range(4):
            await anyio.sleep(0.15)
            assert (await client.raw("PUT", "listenKey")).status_code == 200
        [one] = await client.sim.rest_orders(client.venue, 1)
        assert (await receive(ws))["o"]["i"] == int(one)


async def test_a_stream_of_an_unknown_listen_key_opens_and_is_silent(client: Client) -> None:
    path = "/private/ws?listenKey=x" if client.venue == "binance-usdm" else "/ws/x"
    async with client.socket(path) as ws:
        await client.sim.rest_orders(client.venue, 1)
        assert await silent(ws)
    await options(client, dead_key="refuse")
    with pytest.raises(InvalidStatus, match="401"):
        async with client.socket(path):
            pass


async def test_usdms_retired_address_opens_and_is_silent(anyio_backend: object) -> None:
    async with running("binance-usdm") as sim:
        client = Client(sim, "binance-usdm")
        async with client.socket(f"/ws/{await client.listen_key()}") as ws:
            await sim.rest_orders("binance-usdm", 1)
            assert await silent(ws)
        with pytest.raises(InvalidStatus, match="404"):
            async with client.socket("/stream"):
                pass


async def test_a_stream_has_the_events_that_its_address_names(client: Client) -> None:
    async with client.stream("ALGO_UPDATE/ACCOUNT_UPDATE") as ws:
        await client.sim.rest_orders(client.venue, 1)
        [algo] = await client.sim.rest_orders(client.venue, 1, kind="algo")
        assert (await receive(ws))["o"]["aid"] == int(algo)
        await client.sim.post("/equity", venue=client.venue, equity=7, unrealised=2)
        event = await receive(ws)
        assert (event["e"], event["a"]["m"], event["a"]["B"][0]["wb"]) == ("ACCOUNT_UPDATE", "ORDER", "5")
    await options(client, bare_stream="none")
    async with client.stream() as ws:
        await client.sim.rest_orders(client.venue, 1)
        assert await silent(ws)


async def test_a_transfer_is_pushed_with_its_reason(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(time.time_ns(), 1_000_000)  # so that two times never agree by chance
    clock = SimpleNamespace(time_ns=lambda: next(ticks), time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(exchange, "time", clock)
    await options(client, equity_moves="transfer")
    async with client.stream() as ws:
        await client.sim.post("/equity", venue=client.venue, equity=1)
        event = await receive(ws)
        assert (event["e"], event["a"]["m"]) == ("ACCOUNT_UPDATE", "WITHDRAW")
    path = "/fapi/v1/income" if client.venue == "binance-usdm" else "/dapi/v1/income"
    [row] = await client.get(path, incomeType="TRANSFER", startTime=event["T"])
    assert (row["incomeType"], row["income"], row["time"]) == ("TRANSFER", event["a"]["B"][0]["bc"], event["T"])
    assert await client.get(path, incomeType="TRANSFER", startTime=event["T"] + 1) == []


async def test_events_have_the_documents_shape(client: Client) -> None:
    async with client.stream() as ws:
        [one] = await client.sim.rest_orders(client.venue, 1)
        await client.cancel_all()
        opened, cancelled = [(await receive(ws))["o"] for _ in range(2)]
        assert (opened["i"], opened["x"], opened["X"]) == (int(one), "NEW", "NEW")
        assert (cancelled["i"], cancelled["x"], cancelled["X"]) == (int(one), "CANCELED", "CANCELED")


# ── money, and the WebSocket that takes requests ──────────────────────────────────────────────────────────────────


async def test_money_and_positions_are_shown(client: Client) -> None:
    await client.sim.post("/equity", venue=client.venue, equity=50, unrealised=3)
    path = "/fapi/v3/{}" if client.venue == "binance-usdm" else "/dapi/v1/{}"
    account = await client.get(path.format("account"))
    [asset] = account["assets"]
    assert (asset["marginBalance"], asset["unrealizedProfit"], asset["walletBalance"]) == ("50", "3", "47")
    if client.venue == "binance-usdm":
        assert (account["totalMarginBalance"], account["totalUnrealizedProfit"]) == ("50", "3")
    [held] = await client.get(path.format("positionRisk"))
    assert (held["symbol"], held["unRealizedProfit"]) == (ONE[client.venue], "3")
    [balance] = await client.get(path.format("balance"))
    assert balance["balance"] == "47"


async def test_single_cancels_may_be_sent_by_websocket_with_sorted_plain_signatures(client: Client) -> None:
    symbol = ONE[client.venue]
    [one, two] = await client.sim.rest_orders(client.venue, 2)
    [algo] = await client.sim.rest_orders(client.venue, 1, kind="algo")
    async with client.socket(REQUESTS[client.venue]) as ws:
        answer = await client.say(ws, "order.cancel", symbol=symbol, orderId=int(one))
        assert (answer["status"], answer["result"]["status"]) == (200, "CANCELED")
        assert answer["rateLimits"][0]["limit"] == 2400
        assert (await client.say(ws, "algoOrder.cancel", algoId=int(algo)))["result"]["code"] == "200"
        status: Any = await client.say(ws, "order.status", symbol=symbol, orderId=int(two))
        assert status["result"]["status"] == "NEW"
        again = await client.say(ws, "order.cancel", symbol=symbol, orderId=int(one))
        assert (again["status"], again["error"]["code"]) == (400, -2011)
        unsigned = await client.say(ws, "order.cancel", signs=False, symbol=symbol, orderId=int(two))
        assert unsigned["status"] == 401
        assert (await client.say(ws, "openOrders.cancelAll", symbol=symbol))["status"] == 400
    assert await client.sim.open(client.venue) == 1
