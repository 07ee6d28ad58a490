"""Hold the OX.FUN simulator's WebSocket side against docs/venues/oxfun.md."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from .clients import Sim, oxfun_login, receive, running

pytestmark = pytest.mark.anyio

MARKET = "BTC-USD-SWAP-LIN"


def cancel(one: object, tag: object = 456, market: str = MARKET) -> str:
    return json.dumps({"op": "cancelorder", "tag": tag, "data": {"marketCode": market, "orderId": one}})


async def test_greeting_has_a_nonce_and_can_be_switched_off(sim: Sim) -> None:
    url = sim.venue("oxfun")["ws_url"]
    async with websockets.connect(url, ssl=sim.tls) as ws:
        greeting = await receive(ws)
        assert greeting["event"] == "Welcome" and greeting["nonce"]
    await sim.post("/options", venue="oxfun", greeting=False)
    async with websockets.connect(url, ssl=sim.tls) as ws:
        await ws.send(oxfun_login(sim.venue("oxfun")))
        assert (await receive(ws))["event"] == "login"


async def test_login_answers_with_its_tag_as_text_and_works_once(sim: Sim) -> None:
    async with sim.oxfun_socket(login=False) as ws:
        await ws.send(oxfun_login(sim.venue("oxfun")))
        answer = await receive(ws)
        assert answer.pop("timestamp").isdigit()
        assert answer == {"event": "login", "success": True, "tag": "1"}
        await ws.send(oxfun_login(sim.venue("oxfun")))
        assert (await receive(ws))["code"] == "20005"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"signature": "AAAA"}, "20000"),
        ({"apiKey": "nobody"}, "20025"),
        ({"timestamp": str(int(time.time() * 1000) - 3_600_000)}, "20024"),
        ({"timestamp": None}, "20023"),
    ],
)
async def test_a_wrong_login_gets_its_code(sim: Sim, change: dict[str, Any], code: str) -> None:
    async with sim.oxfun_socket(login=False) as ws:
        await ws.send(oxfun_login(sim.venue("oxfun"), **change))
        answer = await receive(ws)
        assert (answer["event"], answer["success"], answer["code"], answer["tag"]) == ("login", False, code, "1")


async def test_a_login_time_may_be_a_number(sim: Sim) -> None:
    async with sim.oxfun_socket(login=False) as ws:
        await ws.send(oxfun_login(sim.venue("oxfun"), timestamp=int(time.time() * 1000)))
        assert (await receive(ws))["success"] is True


async def test_text_ping_gets_text_pong(sim: Sim) -> None:
    async with sim.oxfun_socket() as ws:
        await ws.send("ping")
        assert await ws.recv() == "pong"
        assert await asyncio.wait_for(await ws.ping(), 5) >= 0  # and the frame kind works beside it


async def test_silence_closes_the_socket_and_frame_pings_do_not_count(sim: Sim) -> None:
    async def ping_until_closed() -> None:
        while True:
            await asyncio.wait_for(await ws.ping(), 5)
            await asyncio.sleep(0.05)

    await sim.post("/options", venue="oxfun", idle_s=0.6)
    async with sim.oxfun_socket() as ws:
        for _ in range(3):
            await ws.send("ping")
            await ws.recv()
            await asyncio.sleep(0.25)  # the silence itself is what is tested
        with pytest.raises(ConnectionClosed):
            await ping_until_closed()
        assert ws.close_code == 1000


async def test_a_cancel_is_submitted_then_closed(sim: Sim) -> None:
    [one] = await sim.rest_orders("oxfun", 1)
    async with sim.oxfun_socket("order:all") as ws:
        await ws.send(cancel(int(one)))
        submitted, closed = await receive(ws), await receive(ws)
    assert (submitted["event"], submitted["submitted"], submitted["tag"]) == ("cancelorder", True, "456")
    assert submitted["data"]["orderId"] == one
    [row] = closed["data"]
    assert (closed["table"], row["notice"], row["status"]) == ("order", "OrderClosed", "CANCELED_BY_USER")
    assert row["isTriggered"] == "false" and row["orderId"] == one


async def test_a_second_cancel_in_the_same_breath_is_rejected_late(sim: Sim) -> None:
    [one] = await sim.rest_orders("oxfun", 1)
    async with sim.oxfun_socket("order:all") as ws:
        await ws.send(cancel(int(one), 1))
        await ws.send(cancel(int(one), 2))
        frames = [await receive(ws) for _ in range(4)]
    assert [frame.get("submitted") for frame in frames] == [True, True, None, False]
    late = frames[3]
    assert (late["event"], late["code"], late["timestamp"]) == ("CANCEL", "100004", "0")
    assert late["data"]["orderId"] == int(one) and late["data"]["isTriggered"] is False


async def test_a_batch_is_answered_order_by_order(sim: Sim) -> None:
    ids = await sim.rest_orders("oxfun", 2)
    items = [{"marketCode": MARKET, "orderId": int(one)} for one in (*ids, "999")]
    async with sim.oxfun_socket() as ws:
        await ws.send(json.dumps({"op": "cancelorders", "tag": "b", "dataArray": items}))
        frames = [await receive(ws) for _ in range(3)]
    assert [(frame["event"], frame["tag"], frame["submitted"]) for frame in frames] == [
        ("cancelorder", "b", True),
        ("cancelorder", "b", True),
        ("cancelorder", "b", False),
    ]
    await sim.until_open("oxfun", 0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{nonsense", "20009"),
        ("[]", "20002"),
        ('{"op":"dance","tag":1}', "20003"),
        (cancel(1, "x" * 33), "20034"),
        (cancel(1, "x" * 32), "100005"),
        (cancel("12"), "20019"),
        (cancel(None), "20010"),
        ('{"op":"cancelorder","data":{"orderId":12}}', "20011"),
        (json.dumps({"op": "cancelorder", "data": {"marketCode": "M" * 4000, "orderId": 1}}), "20027"),
    ],
)
async def test_a_wrong_message_gets_its_code(sim: Sim, text: str, code: str) -> None:
    async with sim.oxfun_socket() as ws:
        await ws.send(text)
        answer = await receive(ws)
    assert answer["code"] == code
    assert answer.get("submitted", answer.get("success")) is False


async def test_commands_before_the_login_are_refused(sim: Sim) -> None:
    [one] = await sim.rest_orders("oxfun", 1)
    async with sim.oxfun_socket(login=False) as ws:
        await ws.send(cancel(int(one)))
        assert (await receive(ws))["code"] == "05001"
        await ws.send(oxfun_login(sim.venue("oxfun")))  # one message a second before the login
        assert (await receive(ws))["code"] == "20007"
    assert await sim.open("oxfun") == 1


async def test_the_51st_message_of_a_second_is_20007(sim: Sim) -> None:
    async with sim.oxfun_socket() as ws:
        for _ in range(60):
            await ws.send("ping")
        answers = [await ws.recv() for _ in range(60)]
    assert answers[:50] == ["pong"] * 50
    assert json.loads(answers[-1])["code"] == "20007"


async def test_every_socket_of_the_account_hears_a_cancel_all(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 2)
    async with sim.oxfun_socket("order:all") as first, sim.oxfun_socket() as second:
        await sim.oxfun_cancel_all()
        for ws in (first, second):
            notice = await receive(ws)
            assert (notice["event"], notice["submitted"], "data" in notice) == ("CANCEL", True, False)
        assert len((await receive(first))["data"]) == 2
        await second.send("ping")
        assert await second.recv() == "pong"  # no order events without a subscription


async def test_events_may_reach_everybody(sim: Sim) -> None:
    await sim.post("/options", venue="oxfun", events="all")
    async with sim.oxfun_socket() as ws:
        await sim.rest_orders("oxfun", 1)
        [row] = (await receive(ws))["data"]
        assert row["notice"] == "OrderOpened"


async def test_an_order_of_another_market_is_not_found(sim: Sim) -> None:
    [one] = await sim.rest_orders("oxfun", 1)
    async with sim.oxfun_socket() as ws:
        await ws.send(cancel(int(one), market="ETH-USD-SWAP-LIN"))
        assert (await receive(ws))["code"] == "100005"


async def test_an_order_of_another_account_is_not_ones_own() -> None:
    async with running("oxfun", accounts=2) as sim:
        [one] = await sim.rest_orders("oxfun", 1, account="oxfun-2")
        async with sim.oxfun_socket() as ws:
            await ws.send(cancel(int(one)))
            assert (await receive(ws))["code"] == "100006"
        assert await sim.open("oxfun") == 1


async def test_text_ids_can_be_switched_on(sim: Sim) -> None:
    [one] = await sim.rest_orders("oxfun", 1)
    await sim.post("/options", venue="oxfun", string_ids=True)
    async with sim.oxfun_socket() as ws:
        await ws.send(cancel(one))
        assert (await receive(ws))["submitted"] is True


async def test_unsubscribing_stops_the_events(sim: Sim) -> None:
    async with sim.oxfun_socket("order:all") as ws:
        await ws.send(json.dumps({"op": "unsubscribe", "args": ["order:all"]}))
        assert (await receive(ws))["event"] == "unsubscribe"
        await sim.rest_orders("oxfun", 1)
        await ws.send("ping")
        assert await ws.recv() == "pong"


async def test_subscribing_is_answered_channel_by_channel(sim: Sim) -> None:
    async with sim.oxfun_socket() as ws:
        await ws.send(json.dumps({"op": "subscribe", "tag": 101, "args": ["order:all", "nothing:all"]}))
        good, bad = await receive(ws), await receive(ws)
    assert (good["channel"], good["success"], good["tag"]) == ("order:all", True, "101")
    assert (bad["channel"], bad["success"], bad["code"]) == ("nothing:all", False, "20001")


async def test_private_channels_need_a_login(sim: Sim) -> None:
    async with sim.oxfun_socket(login=False) as ws:
        await ws.send(json.dumps({"op": "subscribe", "args": ["order:all"]}))
        assert (await receive(ws))["code"] == "05001"


async def test_a_message_in_fragments_is_one_message(sim: Sim) -> None:
    async with sim.oxfun_socket() as ws:
        text = cancel(999)
        await ws.send([text[:10], text[10:30], text[30:]])
        assert (await receive(ws))["code"] == "100005"
    lines = [line["what"] for line in await sim.requests("oxfun")]
    assert lines == ["connect", "login", "cancelorder"]
