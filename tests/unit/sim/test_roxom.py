"""Hold the Roxom simulator against docs/venues/roxom.md."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kill_switch.sim.kit.values import is_uuid
from kill_switch.sim.roxom import payloads as wire
from kill_switch.sim.roxom import signing

from .clients import Sim, receive, roxom_headers, running

pytestmark = pytest.mark.anyio


def data(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.get("error", False) is False
    return body["data"]


@pytest.mark.parametrize(
    ("method", "target", "body", "text"),
    [
        ("POST", "/api/v1/orders/cancel-all", "", "POST:/api/v1/orders/cancel-all"),
        ("POST", "/api/v1/orders/cancel-all", "{}", "POST:/api/v1/orders/cancel-all"),
        ("GET", "/ws", "", "GET:/ws"),
        ("GET", "/api/v1/orders?instType=perpetual&unit=sats", "", "GET:/api/v1/orders?instType=perpetual&unit=sats"),
        (
            "POST",
            "/api/v1/orders",
            '{"symbol":"US500-BTC","side":"buy","px":"1","qty":"2","cancelAt":null,"postOnly":true}',
            "POST:/api/v1/orders:postOnly=true&px=1&qty=2&side=buy&symbol=US500-BTC",
        ),
    ],
)
def test_documented_payload_strings_are_built(method: str, target: str, body: str, text: str) -> None:
    assert signing.signing_text(method, target, body.encode()) == text.encode()


def test_ids_are_uuids_of_version_7() -> None:
    one = wire.uuid7()
    assert UUID(one).version == 7 and is_uuid(one, "7")
    assert not is_uuid(str(uuid4()), "7")
    assert is_uuid("01234567-89ab-7def-8123-456789abcdef", "7")  # the documents' own


async def test_cancel_all_lists_the_cancelled_orders(sim: Sim) -> None:
    ids = await sim.rest_orders("roxom", 2)
    assert data(await sim.roxom_cancel_all()) == {"cancelledOrderIds": ids}
    assert await sim.states("roxom") == {"cancelled": 2}
    answer = await sim.roxom_cancel_all()
    assert answer.json() == {"data": {"cancelledOrderIds": []}, "error": False}


async def test_stop_orders_may_stay_behind(sim: Sim) -> None:
    await sim.rest_orders("roxom", 1)
    [stop] = await sim.rest_orders("roxom", 1, kind="stop")
    await sim.post("/options", venue="roxom", cancel_all_includes_stops=False)
    assert stop not in data(await sim.roxom_cancel_all())["cancelledOrderIds"]
    assert (await sim.states("roxom"))["waitingtrigger"] == 1
    await sim.post("/options", venue="roxom", cancel_all_includes_stops=True)
    assert data(await sim.roxom_cancel_all())["cancelledOrderIds"] == [stop]


async def test_cancel_one_and_its_errors(sim: Sim) -> None:
    [one] = await sim.rest_orders("roxom", 1)
    assert (await sim.roxom("POST", f"/orders/{one}/cancel")).json() == {"data": {"success": True}}
    again = await sim.roxom("POST", f"/orders/{one}/cancel")
    assert again.status_code == 400 and again.json()["error"]["message"] == "Cannot Cancel"
    nobody = await sim.roxom("POST", "/orders/01234567-89ab-7def-8123-456789abcdef/cancel")
    assert nobody.status_code == 404 and nobody.json()["error"]["message"] == "Order Not Found"
    assert nobody.json()["requestId"].startswith("req_")
    assert (await sim.roxom("POST", f"/orders/{uuid4()}/cancel")).status_code == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X-API-Key": ""}, "Missing API Key"),
        ({"X-API-Key": "xrxk_key_0"}, "Invalid API Key"),
        ({"X-API-Signature": ""}, "Missing Signature"),
        ({"X-API-Signature": "AAAA"}, "Invalid Signature"),
        ({"X-API-Signature": "not base64!"}, "Invalid Signature"),
    ],
)
async def test_wrong_headers_are_401(sim: Sim, change: dict[str, str], message: str) -> None:
    await sim.rest_orders("roxom", 1)
    answer = await sim.roxom("POST", "/orders/cancel-all", change=change)
    assert answer.status_code == 401 and answer.json() == {"error": 401, "message": message}
    assert await sim.open("roxom") == 1


@pytest.mark.parametrize(
    "text", ["POST:/api/v1/orders/cancel-all:", "POST:/v1/orders/cancel-all", "GET:/api/v1/orders/cancel-all"]
)
async def test_a_signature_over_another_text_is_refused(sim: Sim, text: str) -> None:
    for _ in range(2):  # the second one comes from memory
        assert (await sim.roxom("POST", "/orders/cancel-all", text=text)).status_code == 401
    assert (await sim.roxom_cancel_all()).status_code == 200


async def test_the_signature_of_another_account_is_refused() -> None:
    async with running("roxom", accounts=2) as sim:
        other = sim.venue("roxom")["accounts"][0]
        answer = await sim.roxom("POST", "/orders/cancel-all", change={"X-API-Key": other["credentials"]["api_key"]})
        assert answer.json() == {"error": 401, "message": "Invalid Signature"}


async def test_the_content_type_is_asked_for(sim: Sim) -> None:
    answer = await sim.roxom("POST", "/orders/cancel-all", change={"Content-Type": "text/plain"})
    assert answer.status_code == 415


async def test_the_older_generation_wants_the_key_only() -> None:
    async with running("roxom", options={"roxom": {"auth": "api-key", "path_prefix": "/v1", "fields": "old"}}) as sim:
        entry = sim.venue("roxom")
        assert entry["options"] == {"auth": "api-key", "path_prefix": "/v1"}
        assert list(entry["credentials"]) == ["api_key"]
        [one] = await sim.rest_orders("roxom", 1)
        [row] = data(await sim.roxom("GET", "/orders?instType=perpetual"))["orders"]
        assert (row["id"], row["orderType"]) == (one, "limit") and {"price", "quantity", "isTriggered"} <= row.keys()
        assert data(await sim.roxom("GET", "/accounts/balance?unit=btc"))["balance"] == "10"
        assert data(await sim.roxom_cancel_all())["cancelledOrderIds"] == [one]
        answer = await sim.roxom("POST", "/orders/cancel-all", change={"X-API-Key": ""})
        assert answer.json() == {"error": 401, "message": "Authorization header is required"}
        answer = await sim.roxom("POST", "/orders/cancel-all", change={"X-API-Key": "nobody"})
        assert answer.json() == {"error": 401, "message": "Invalid API key"}
        wrong = await sim.web.post(f"{entry['rest_url']}/api/v1/orders/cancel-all", headers=roxom_headers(entry, ""))
        assert wrong.status_code == 404


async def test_orders_are_listed_by_inst_type_only(sim: Sim) -> None:
    [one] = await sim.rest_orders("roxom", 1)
    [spot] = await sim.rest_orders("roxom", 1, inst_type="spot", symbol="GOLD-BTC")
    assert (await sim.roxom("GET", "/orders")).status_code == 400
    assert (await sim.roxom("GET", "/orders?instType=nonsense")).status_code == 400
    [row] = data(await sim.roxom("GET", "/orders?instType=perpetual&unit=sats"))["orders"]
    assert (row["id"], row["status"], row["type"]) == (one, "submitted", "limit")
    assert row["createdAt"] > 10**18  # nanoseconds
    [row] = data(await sim.roxom("GET", "/orders?instType=spot"))["orders"]
    assert row["id"] == spot
    assert data(await sim.roxom("GET", "/orders?instType=spot&symbol=US100-BTC"))["orders"] == []
    await sim.roxom_cancel_all()
    assert data(await sim.roxom("GET", "/orders?instType=spot"))["orders"] == []
    [row] = data(await sim.roxom("GET", "/orders?instType=spot&includeClosed=true"))["orders"]
    assert row["status"] == "cancelled"
    assert data(await sim.roxom("GET", f"/orders/{spot}"))["order"]["fills"] == []


async def test_orders_are_placed_with_a_signed_body(sim: Sim) -> None:
    body = {"symbol": "US500-BTC", "instType": "perpetual", "orderType": "limit", "px": "0.05", "qty": "0.1"}
    body |= {"side": "buy", "timeInForce": "gtc", "unit": "btc"}
    pairs = "&".join(f"{key}={body[key]}" for key in sorted(body))
    text = f"POST:/api/v1/orders:{pairs}"
    one = data(await sim.roxom("POST", "/orders", body=json.dumps(body), text=text))["orderId"]
    assert is_uuid(one, "7") and await sim.open("roxom") == 1
    assert (await sim.roxom("POST", "/orders", body=json.dumps(body))).status_code == 401
    market = body | {"orderType": "market"}
    text = "POST:/api/v1/orders:" + "&".join(f"{key}={market[key]}" for key in sorted(market))
    data(await sim.roxom("POST", "/orders", body=json.dumps(market), text=text))
    [held] = data(await sim.roxom("GET", "/positions?instType=perpetual&symbol=US500-BTC"))["positions"]
    assert (held["side"], held["size"]) == ("long", "0.1")


@pytest.mark.parametrize(
    "change", [{"qty": "0"}, {"side": "up"}, {"px": "much"}, {"timeInForce": "gtx"}, {"symbol": None}]
)
async def test_orders_that_cannot_be_placed_are_400(sim: Sim, change: dict[str, str | None]) -> None:
    body: dict[str, str | None] = {"symbol": "US500-BTC", "instType": "perpetual", "orderType": "limit", "px": "0.05"}
    body |= {"qty": "0.1", "side": "buy", "timeInForce": "gtc", "unit": "btc"} | change
    text = "POST:/api/v1/orders:" + "&".join(f"{key}={body[key]}" for key in sorted(body) if body[key] is not None)
    answer = await sim.roxom("POST", "/orders", body=json.dumps(body), text=text)
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert await sim.open("roxom") == 0


async def test_a_fill_is_followed_by_the_balance_and_the_position_until_that_is_closed(sim: Sim) -> None:
    async with sim.roxom_socket("balance", "positions") as ws:
        for side in ("buy", "sell"):
            body = {"symbol": "OIL-BTC", "instType": "perpetual", "orderType": "market", "qty": "0.1"}
            body |= {"side": side, "timeInForce": "gtc", "unit": "btc"}
            text = "POST:/api/v1/orders:" + "&".join(f"{key}={body[key]}" for key in sorted(body))
            data(await sim.roxom("POST", "/orders", body=json.dumps(body), text=text))
        events = [await receive(ws) for _ in range(4)]
    assert [event["type"] for event in events] == ["balance", "position"] * 2
    [opened], [closed] = events[1]["data"], events[3]["data"]
    assert (opened["symbol"], opened["size"], opened["closeDate"]) == ("OIL-BTC", "0.1", None)
    assert (closed["symbol"], closed["size"]) == ("OIL-BTC", "0") and closed["closeDate"] > 10**12
    assert closed["id"] == opened["id"]


async def test_positions_are_asked_for_by_symbol_and_the_symbols_can_be_had(sim: Sim) -> None:
    assert "US500-BTC" in [item["symbol"] for item in data(await sim.roxom("GET", "/market/instruments"))]
    assert data(await sim.roxom("GET", "/positions?instType=perpetual&symbol=OIL-BTC"))["positions"] == []
    assert (await sim.roxom("GET", "/positions?instType=perpetual")).status_code == 400
    assert (await sim.roxom("GET", "/positions?symbol=OIL-BTC")).status_code == 400


async def test_requests_may_be_limited(sim: Sim) -> None:
    await sim.post("/options", venue="roxom", rest_per_s=2)
    assert [(await sim.roxom_cancel_all()).status_code for _ in range(3)] == [200, 200, 429]


async def test_an_order_whose_cancel_is_pending_is_not_listed_as_cancelled_again(sim: Sim) -> None:
    [one] = await sim.rest_orders("roxom", 1)
    await sim.fault("roxom", "pending", ms=10_000)
    await sim.roxom_cancel_all()
    assert (await sim.roxom_cancel_all()).json()["data"]["cancelledOrderIds"] == []
    assert (await sim.roxom("POST", f"/orders/{one}/cancel")).json() == {"data": {"success": True}}
    assert await sim.states("roxom") == {"pendingcancel": 1}


async def test_order_events_come_to_subscribers(sim: Sim) -> None:
    async with sim.roxom_socket("orders") as ws, sim.roxom_socket() as deaf:
        [one] = await sim.rest_orders("roxom", 1)
        await sim.roxom_cancel_all()
        opened, closed = await receive(ws), await receive(ws)
        await deaf.send('{"op":"ping"}')
        assert (await receive(deaf))["event"] == "pong"
    assert (opened["type"], opened["data"]["status"]) == ("order", "submitted")
    assert (closed["data"]["orderId"], closed["data"]["status"]) == (one, "cancelled")
    assert closed["data"]["timestamp"] > 10**18


async def test_equity_is_moved_and_pushed_balances_in_sats_and_positions_in_btc(sim: Sim) -> None:
    async with sim.roxom_socket("balance", "positions") as ws:
        await sim.post("/equity", venue="roxom", equity="9.5", unrealised="-0.25")
        balance, position = await receive(ws), await receive(ws)
    assert (balance["data"]["balanceAfter"], balance["data"]["unit"]) == ("975000000", "sats")
    assert balance["data"]["balanceBefore"] == "1000000000"
    assert position["data"][0]["unrealizedPnl"] == "-0.25"
    [money] = data(await sim.roxom("GET", "/accounts/balance?unit=btc"))["balances"]
    assert (money["asset"], money["current"]) == ("BTC", "9.75")
    [money] = data(await sim.roxom("GET", "/accounts/balance"))["balances"]
    assert money["current"] == "975000000"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("nonsense", "60017"),
        ("ping", "60017"),
        (b"{}", "60018"),
        ('{"op":"cancel"}', "60017"),
        ('{"op":"subscribe","args":[{"channel":"gossip"}]}', "60014"),
        ('{"op":"subscribe","args":[{"channel":"trade"}]}', "60015"),
    ],
)
async def test_a_wrong_message_gets_an_error_frame(sim: Sim, message: str | bytes, code: str) -> None:
    async with sim.roxom_socket() as ws:
        await ws.send(message)
        answer = await receive(ws)
    assert answer["event"] == "error" and answer["code"] == code and UUID(answer["connId"])


async def test_subscriptions_are_limited(sim: Sim) -> None:
    await sim.post("/options", venue="roxom", subscriptions=1)
    async with sim.roxom_socket("orders") as ws:
        await ws.send('{"op":"subscribe","args":[{"channel":"positions"}]}')
        assert (await receive(ws))["code"] == "60016"


async def test_an_unsigned_upgrade_is_answered_with_600010(sim: Sim) -> None:
    entry = sim.venue("roxom")
    headers = roxom_headers(entry, "GET:/api/v1/ws")
    async with websockets.connect(entry["ws_url"], ssl=sim.tls, additional_headers=headers) as ws:
        assert (await receive(ws))["code"] == "600010"
        with pytest.raises(ConnectionClosed):
            await ws.recv()
    await sim.post("/options", venue="roxom", ws_auth_failure="frame")
    async with websockets.connect(entry["ws_url"], ssl=sim.tls) as ws:
        assert (await receive(ws))["code"] == "600010"
        await ws.send('{"op":"subscribe","args":[{"channel":"orders"}]}')
        assert (await receive(ws))["code"] == "600010"
    await sim.post("/options", venue="roxom", ws_auth_failure="http")
    with pytest.raises(InvalidStatus) as refused:
        await websockets.connect(entry["ws_url"], ssl=sim.tls)
    assert refused.value.response.status_code == 401
