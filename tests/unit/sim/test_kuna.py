"""Hold the KUNA simulator against docs/venues/kuna.md (§ numbers below are that file's)."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kill_switch.sim.kuna import signing
from kill_switch.sim.main import Login

from .clients import Sim, receive, running

pytestmark = pytest.mark.anyio

MULTI = "/v4/order/private/cancel/multi"
ACTIVE = "/v4/order/private/active"
HISTORY = "/v4/order/private/history"

SEED = """{
  "orderIds": 
  [
    "{{OPEN_ORDER_ID_1}}",
    "{{OPEN_ORDER_ID_2}}",
    "{{OPEN_ORDER_ID_3}}",
    "{{OPEN_ORDER_ID_4}}"
  ]
}"""  # noqa: W291 - the seed's own text


@pytest.fixture
async def sim(anyio_backend: object) -> AsyncIterator[Sim]:
    async with running("kuna") as started:
        yield started


def signed(login: Login, target: str, body: str = "", nonce: str = "") -> dict[str, str]:
    """Sign as §2 says, apart from the adapter and from the simulator."""
    nonce = nonce or str(time.time_ns() // 1000 / 1000)  # kdocs' own sample has a fraction
    text = target + nonce + (body or "{}")
    secret = login["credentials"]["api_secret"]
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha384).hexdigest()
    return {"public-key": login["credentials"]["public_key"], "nonce": nonce, "signature": signature}


def login_of(sim: Sim, number: int = 0) -> Login:
    entry = sim.venue("kuna")
    if number:
        return entry["accounts"][number - 1]
    return {"name": entry["name"], "credentials": entry["credentials"], "options": entry["options"]}


async def call(
    sim: Sim,
    method: str,
    target: str,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    change: dict[str, str] | None = None,
) -> httpx.Response:
    """Send a request with the single key, or with the headers that are given."""
    entry = sim.venue("kuna")
    content = body if isinstance(body, str) else "" if body is None else json.dumps(body, separators=(",", ":"))
    sent = {"api-key": entry["credentials"].get("api_key", "")} if headers is None else headers
    if content:
        sent = {"Content-Type": "application/json", **sent}
    return await sim.web.request(method, entry["rest_url"] + target, content=content, headers=sent | (change or {}))


async def cancel(sim: Sim, *ids: str) -> httpx.Response:
    return await call(sim, "POST", MULTI, {"orderIds": list(ids)})


def told(answer: httpx.Response, status: int) -> tuple[str, str]:
    """Return the code and the text of an error (§4)."""
    assert answer.status_code == status, answer.text
    [one] = answer.json()["errors"]
    assert one["extensions"] == {"code": one["code"]}
    return one["code"], one["message"]


async def listed(sim: Sim, target: str = ACTIVE) -> list[dict[str, Any]]:
    answer = await call(sim, "GET", target)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def ids_of(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


@asynccontextmanager
async def socket(sim: Sim, *channels: str, key: str | None = None) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket, shake hands, log in, subscribe (§5)."""
    entry = sim.venue("kuna")
    async with websockets.connect(entry["ws_url"], ssl=sim.tls) as ws:
        await say(ws, "#handshake", {"authToken": None}, 1)
        hello = await receive(ws)
        assert hello["rid"] == 1 and hello["data"]["isAuthenticated"] is False
        if channels:
            await say(ws, "login", key or entry["credentials"]["api_key"], 2)
            assert {(await receive(ws)).get("event"), (await receive(ws)).get("event")} == {"#setAuthToken", None}
        for cid, channel in enumerate(channels, 3):
            await say(ws, "#subscribe", {"channel": channel}, cid)
            assert await receive(ws) == {"rid": cid}
        yield ws


async def say(ws: ClientConnection, event: str, data: object, cid: int | None = None) -> None:
    await ws.send(json.dumps({"event": event, "data": data} | ({} if cid is None else {"cid": cid})))


# ── cancels (§3.1, §3.2, §4) ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("where", "target"), [("history", f"{HISTORY}?status=Pending"), ("active", ACTIVE), ("none", "")]
)
async def test_pending_orders_are_in_the_list_that_the_option_says_and_always_found_by_their_id(
    sim: Sim, where: str, target: str
) -> None:
    await sim.post("/options", venue="kuna", lists_pending=where)
    [one] = (await sim.post("/orders", venue="kuna", count=1, kind="pending"))["ids"]
    for each in (ACTIVE, f"{HISTORY}?status=Pending"):
        assert ids_of(await listed(sim, each)) == ([one] if each == target else [])
    response = await call(sim, "GET", f"/v4/order/private/details/{one}")
    assert response.json()["data"]["status"] == "Pending"


async def test_pending_orders_are_not_cancelled_if_the_option_says_so(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", cancels_pending=False)
    [one] = (await sim.post("/orders", venue="kuna", count=1, kind="pending"))["ids"]
    assert (await cancel(sim, one)).json()["data"] == [{"id": one, "success": False}]
    refused = await call(sim, "POST", "/v4/order/private/cancel", {"orderId": one})
    assert told(refused, 400) == ("BAD_REQUEST", "Order with status Pending can't be canceled")


async def test_a_partial_list_fails_one_status(sim: Sim) -> None:
    await sim.fault("kuna", "partial_list")
    assert (await call(sim, "GET", ACTIVE)).status_code == 200
    assert (await call(sim, "GET", f"{HISTORY}?status=WaitStop")).status_code == 500
    await sim.fault("kuna", "partial_list", list="active")
    assert (await call(sim, "GET", ACTIVE)).status_code == 500


async def test_the_seeds_own_body_cancels_the_orders_that_it_names(sim: Sim) -> None:
    ids = await sim.rest_orders("kuna", 4)
    body = SEED
    for number, one in enumerate(ids, 1):
        body = body.replace(f"{{{{OPEN_ORDER_ID_{number}}}}}", one)
    answer = await call(sim, "POST", MULTI, body)
    assert answer.status_code == 200 and answer.json() == {"data": [{"id": one, "success": True} for one in ids]}
    assert await sim.states("kuna") == {"Canceled": 4}
    assert [line["what"] for line in await sim.requests("kuna")] == ["cancel-multi"]


async def test_the_seeds_own_body_with_its_placeholders_is_refused(sim: Sim) -> None:
    answer = await call(sim, "POST", MULTI, SEED)
    assert told(answer, 500) == ("WrongRequestException", "each value in orderIds must be a UUID")


async def test_one_malformed_id_spoils_the_whole_call(sim: Sim) -> None:
    ids = await sim.rest_orders("kuna", 2)
    answer = await cancel(sim, *ids, "4po3091bc-p278-o286-1452-o40s4045k42p")  # from the seed's example answer
    assert told(answer, 500) == ("WrongRequestException", "each value in orderIds must be a UUID")
    assert await sim.open("kuna") == 2


@pytest.mark.parametrize("body", ["", "{", "[]", "{'orderIds':[]}"])
async def test_a_body_that_is_no_json_object_is_invalid(sim: Sim, body: str) -> None:
    answer = await call(sim, "POST", MULTI, body, change={"Content-Type": "application/json"})
    assert told(answer, 500) == ("Internal Server Error", "Invalid JSON")


@pytest.mark.parametrize("body", [{}, {"orderIds": []}, {"orderIds": "x"}])
async def test_a_body_without_orders_is_a_wrong_request(sim: Sim, body: object) -> None:
    assert told(await call(sim, "POST", MULTI, body), 500)[0] == "WrongRequestException"


async def test_the_rest_of_a_batch_is_cancelled_though_some_orders_have_ended(sim: Sim) -> None:
    gone, there = await sim.rest_orders("kuna", 2)
    await cancel(sim, gone)
    answer = await cancel(sim, gone, there)
    assert answer.json()["data"] == [{"id": gone, "success": False}, {"id": there, "success": True}]
    assert await sim.open("kuna") == 0


async def test_the_rest_of_a_batch_is_cancelled_though_the_answer_is_an_error(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", partial="error")
    gone, there = await sim.rest_orders("kuna", 2)
    await cancel(sim, gone)
    assert told(await cancel(sim, gone, there), 400) == (
        "BAD_REQUEST", "Order with status Canceled can't be canceled",
    )  # fmt: skip
    assert await sim.open("kuna") == 0
    assert told(await cancel(sim, str(uuid4())), 404) == ("NOT_FOUND", "Order not found")


async def test_successes_may_be_bare_and_the_id_may_have_another_name(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", wrap=False, id_key="orderId")
    [one] = await sim.rest_orders("kuna", 1)
    assert (await cancel(sim, one)).json() == [{"orderId": one, "success": True}]
    assert (await call(sim, "GET", ACTIVE)).json() == []


async def test_errors_may_come_with_http_200(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", error_status=200)
    assert told(await cancel(sim, "x"), 200)[0] == "WrongRequestException"
    await sim.fault("kuna", "maintenance")
    assert told(await cancel(sim, "x"), 503)[0] == "SERVICE_UNAVAILABLE"


async def test_batches_may_have_a_longest_length(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", batch_max=2)
    ids = await sim.rest_orders("kuna", 3)
    assert told(await cancel(sim, *ids), 400) == ("BAD_REQUEST", "orderIds must contain no more than 2 elements")
    assert (await cancel(sim, *ids[:2])).status_code == 200


async def test_one_order_is_cancelled_by_itself(sim: Sim) -> None:
    [one, filled] = await sim.rest_orders("kuna", 2)
    path = "/v4/order/private/cancel"
    assert (await call(sim, "POST", path, {"orderId": one})).json() == {"data": {"success": True}}
    assert told(await call(sim, "POST", path, {"orderId": one}), 400) == (
        "BAD_REQUEST", "Order with status Canceled can't be canceled",
    )  # fmt: skip
    await sim.fault("kuna", "pending", ms=1, fill=True)
    await call(sim, "POST", path, {"orderId": filled})
    await sim.until_open("kuna", 0)
    assert told(await call(sim, "POST", path, {"orderId": filled}), 400) == (
        "BAD_REQUEST", "Order with status Closed can't be canceled",
    )  # fmt: skip
    assert told(await call(sim, "POST", path, {"orderId": "x"}), 500)[0] == "WrongRequestException"
    assert told(await call(sim, "POST", path, "x"), 500)[1] == "Invalid JSON"
    assert told(await call(sim, "POST", path, {"orderId": str(uuid4())}), 404)[0] == "NOT_FOUND"
    assert all(line["what"].startswith("cancel") for line in await sim.requests("kuna"))


async def test_an_account_may_have_a_hundred_open_orders(sim: Sim) -> None:
    ids = await sim.rest_orders("kuna", 100)
    response = await sim.admin.post("/orders", json={"venue": "kuna"})
    assert response.status_code == 400 and "may have 100 open orders" in response.json()["error"]
    body = {"type": "Limit", "orderSide": "Bid", "pair": "DAY_NIGHT", "quantity": "1", "price": "2"}
    assert "maximum" in told(await call(sim, "POST", "/v4/order/private/create", body), 400)[1]
    await sim.fault("kuna", "late_order", ms=0)
    await call(sim, "POST", "/v4/order/private/cancel", {"orderId": str(uuid4())})
    assert len(await listed(sim)) == 100
    assert all(row["success"] for row in (await cancel(sim, *ids)).json()["data"])
    assert await sim.open("kuna") == 0


# ── lists (§3.4, §3.5, §6) ────────────────────────────────────────────────────────────────────────────────────────


async def test_open_orders_are_listed_as_documented(sim: Sim) -> None:
    first, second = await sim.rest_orders("kuna", 2)
    newest, oldest = await listed(sim)
    assert {newest["id"], oldest["id"]} == {first, second}
    assert {oldest["side"], newest["side"]} == {"Bid", "Ask"} and UUID(first)
    assert (oldest["type"], oldest["status"], oldest["pair"]) == ("Limit", "Open", "BTC_USDT")
    assert oldest["createdAt"].endswith("Z") and oldest["closedAt"] is None
    assert set(oldest) == {
        "id", "type", "quantity", "executedQuantity", "cumulativeQuoteQty", "cost", "side", "pair", "price",
        "stopPrice", "status", "createdAt", "updatedAt", "closedAt",
    }  # fmt: skip
    assert ids_of(await listed(sim, f"{ACTIVE}?sort=asc&limit=1")) == [oldest["id"]]
    assert await listed(sim, f"{ACTIVE}?pairs=ETH_USDT,LTC_USDT") == []
    assert len(await listed(sim, f"{ACTIVE}?pairs=ETH_USDT,BTC_USDT&sort=desc&limit=100")) == 2


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "sort=up", "start=yesterday", "end=x"])
async def test_a_list_that_is_asked_for_wrongly_is_refused(sim: Sim, query: str) -> None:
    assert told(await call(sim, "GET", f"{ACTIVE}?{query}"), 400)[0] == "BAD_REQUEST"


async def test_stop_orders_are_in_the_history_and_perhaps_in_the_active_list(sim: Sim) -> None:
    [stop] = await sim.rest_orders("kuna", 1, kind="stop")
    assert await listed(sim) == []
    [row] = await listed(sim, f"{HISTORY}?status=WaitStop")
    assert (row["id"], row["type"], row["stopPrice"]) == (stop, "StopLossLimit", "29000")
    await sim.post("/options", venue="kuna", active_has_stops=True)
    assert ids_of(await listed(sim)) == [stop]
    assert (await cancel(sim, stop)).json()["data"] == [{"id": stop, "success": True}]
    assert await listed(sim, f"{HISTORY}?status=WaitStop") == []


async def test_history_shows_all_but_open_orders_unless_a_status_is_named(sim: Sim) -> None:
    [gone, there] = await sim.rest_orders("kuna", 2)
    await cancel(sim, gone)
    [row] = await listed(sim, HISTORY)
    assert (row["id"], row["status"]) == (gone, "Canceled") and row["closedAt"].endswith("Z")
    assert ids_of(await listed(sim, f"{HISTORY}?status=Open")) == [there]
    assert told(await call(sim, "GET", f"{HISTORY}?status=Gone"), 400)[0] == "BAD_REQUEST"
    [row] = ((await call(sim, "GET", f"/v4/order/private/details/{gone}?withTrades=true")).json()["data"],)
    assert row["status"] == "Canceled"
    assert told(await call(sim, "GET", f"/v4/order/private/details/{uuid4()}"), 404)[0] == "NOT_FOUND"
    assert told(await call(sim, "GET", "/v4/order/private/details/x"), 500)[0] == "WrongRequestException"


async def test_lists_go_back_two_weeks_without_a_start(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", order_age_days=20)
    [old] = await sim.rest_orders("kuna", 1)
    assert await listed(sim) == []
    for start in ("2014-01-01T00:00:00Z", "2014-01-01T00:00:00.000Z", "2014-01-01"):
        assert ids_of(await listed(sim, f"{ACTIVE}?start={start}")) == [old]
    end = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await listed(sim, f"{ACTIVE}?start=2014-01-01&end={end}") == []
    await sim.post("/options", venue="kuna", list_days=0)
    assert ids_of(await listed(sim)) == [old]


async def test_the_other_calls_answer(sim: Sim) -> None:
    await sim.post("/equity", venue="kuna", equity="10.5")
    money = {"currency": "USDT", "balance": "10.5", "lockBalance": "0"}
    assert (await call(sim, "GET", "/v4/private/getBalance")).json() == {"data": [money]}
    assert UUID((await call(sim, "GET", "/v4/private/me")).json()["data"]["id"])
    assert (await call(sim, "GET", "/v4/trade/private/history")).json() == {"data": []}
    stamp = (await call(sim, "GET", "/v4/public/timestamp", headers={})).json()["data"]["timestamp_miliseconds"]
    assert abs(stamp / 1000 - time.time()) < 5
    assert told(await call(sim, "GET", "/v4/order/private/cancel"), 404)[0] == "NOT_FOUND"


async def test_orders_are_placed(sim: Sim) -> None:
    path, one = "/v4/order/private/create", str(uuid4())
    body = {"id": one, "type": "Limit", "orderSide": "Ask", "pair": "DAY_NIGHT", "quantity": "1", "price": 2}
    row = (await call(sim, "POST", path, body)).json()["data"]
    assert (row["id"], row["side"], row["price"], row["status"]) == (one, "Ask", "2", "Open")
    assert told(await call(sim, "POST", path, body), 400)[1] == "id is invalid"
    stop = body | {"id": None, "type": "TakeProfitLimit", "stopPrice": "3"}
    assert (await call(sim, "POST", path, stop)).json()["data"]["status"] == "WaitStop"
    market = {"type": "Market", "orderSide": "Bid", "pair": "DAY_NIGHT", "quantity": "1"}
    assert (await call(sim, "POST", path, market)).json()["data"]["status"] == "Closed"
    for change in (
        {"type": "Iceberg"},
        {"orderSide": "Buy"},
        {"pair": 7},
        {"quantity": "-1"},
        {"price": "x"},
        {"id": 1},
    ):
        assert told(await call(sim, "POST", path, body | {"id": None} | change), 400)[0] == "BAD_REQUEST"
    assert told(await call(sim, "POST", path, stop | {"stopPrice": None}), 400)[0] == "BAD_REQUEST"
    assert told(await call(sim, "POST", path, "x"), 500)[1] == "Invalid JSON"
    assert await sim.open("kuna") == 2


# ── authentication and limits (§2, §7) ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("headers", [{}, {"api-key": ""}, {"api-key": "x"}, {"public-key": "x"}])
async def test_without_a_key_nothing_goes(sim: Sim, headers: dict[str, str]) -> None:
    [one] = await sim.rest_orders("kuna", 1)
    assert told(await call(sim, "POST", MULTI, {"orderIds": [one]}, headers=headers), 401)[0] == "UNAUTHORIZED"
    assert await sim.open("kuna") == 1


async def test_a_body_must_be_called_json(sim: Sim) -> None:
    answer = await call(sim, "POST", MULTI, {"orderIds": [str(uuid4())]}, change={"Content-Type": "text/plain"})
    assert told(answer, 400)[1] == "Content-Type must be application/json"


def test_the_vectors_of_the_venue_file_are_right() -> None:
    body = b'{"orderIds":["c7fc5b2b-bd9d-48c1-a458-a83412669cf4","3e5591ba-2778-4d85-8851-54284045ea44"]}'
    for target, content, signature in (
        (
            MULTI, body,
            "df0f1b61f4d269b83bdfe26355703e2799f4e2f5e8eef43b6359181c51fa1e9928dcd4a0316f86c9374d6b1fbb2a9480"),
        (
            f"{ACTIVE}?limit=100&sort=desc", b"",
            "4b9a034484851348d528ac3e9f5e62a0bf9c7585f254c362441dc47ace126a2b8f80b8d4c029a07ac4072f6083e958f2",
        ),
    ):  # fmt: skip
        text = signing.signing_text(target, "1700000000000", content)
        assert signing.is_signed("kuna-secret", text, signature)
        assert not signing.is_signed("kuna-secret", text, signature.upper())
        assert not signing.is_signed("kuna-secret", text + b" ", signature)
        assert not signing.is_signed("kuna-secret", text, "ü")


async def test_signed_requests_are_checked() -> None:
    async with running("kuna", accounts=2, options={"kuna": {"auth": "hmac"}}) as sim:
        login, other = login_of(sim), login_of(sim, 1)
        assert set(login["credentials"]) == {"public_key", "api_secret", "api_key"}
        assert login["options"] == {"auth": "hmac"}
        [one] = await sim.rest_orders("kuna", 1)
        target = f"{ACTIVE}?limit=100&sort=desc"
        assert (await call(sim, "GET", target, headers=signed(login, target))).json()["data"][0]["id"] == one
        assert (await call(sim, "GET", target, "{}", headers=signed(login, target))).status_code == 200
        assert (await call(sim, "GET", target, "[]", headers=signed(login, target, "[]"))).status_code == 401
        body = json.dumps({"orderIds": [one]})
        for headers in (
            signed(login, MULTI, body.replace(one, str(uuid4()))),
            signed(login, ACTIVE, body),
            signed(login, MULTI, body) | {"public-key": other["credentials"]["public_key"]},
            signed(login, MULTI, body) | {"nonce": str(time.time_ns() // 10**6 + 1)},
            signed(login, MULTI, body, "tomorrow"),
            signed(login, MULTI, body, "nan"),
            signed(login, MULTI, body) | {"signature": ""},
            {"nonce": "1"},
        ):
            assert told(await call(sim, "POST", MULTI, body, headers=headers), 401)[0] == "UNAUTHORIZED"
        assert await sim.open("kuna") == 1
        assert (await call(sim, "POST", MULTI, body, headers=signed(login, MULTI, body))).status_code == 200
        assert (await call(sim, "GET", target)).status_code == 200  # the single key goes as well


@pytest.mark.parametrize(
    ("rule", "good"),
    [("increasing", [True, False, False, True]), ("unique", [True, False, True, True]), ("any", [True] * 4)],
)
async def test_a_nonce_must_be_greater_than_the_last_one(rule: str, good: list[bool]) -> None:
    async with running("kuna", options={"kuna": {"auth": "hmac", "nonce": rule}}) as sim:
        login = login_of(sim)
        answers = [
            await call(sim, "GET", ACTIVE, headers=signed(login, ACTIVE, nonce=nonce))
            for nonce in ("1000", "1000", "999", "1000.5")
        ]
        assert [answer.status_code == 200 for answer in answers] == good
        assert all("Nonce" in told(answer, 401)[1] for answer in answers if answer.status_code != 200)


async def test_a_nonce_may_have_to_be_near_the_venues_clock() -> None:
    async with running("kuna", options={"kuna": {"auth": "hmac", "nonce_window_s": "30"}}) as sim:
        login = login_of(sim)
        assert (await call(sim, "GET", ACTIVE, headers=signed(login, ACTIVE))).status_code == 200
        await sim.fault("kuna", "skew", seconds=60)
        assert "Nonce" in told(await call(sim, "GET", ACTIVE, headers=signed(login, ACTIVE)), 401)[1]


async def test_an_account_without_a_key_for_the_websocket_says_so() -> None:
    async with running("kuna", options={"kuna": {"auth": "hmac", "ws_login": "none"}}) as sim:
        assert set(sim.venue("kuna")["credentials"]) == {"public_key", "api_secret"}
        assert sim.venue("kuna")["options"] == {"auth": "hmac", "ws_login": "none"}


async def test_a_pro_account_must_be_asked_for() -> None:
    async with running("kuna", options={"kuna": {"account_type": "pro"}}) as sim:
        assert sim.venue("kuna")["options"] == {"auth": "api-key", "account_type": "pro"}
        assert told(await call(sim, "GET", ACTIVE), 403) == ("FORBIDDEN", "Wrong account type")
        assert (await call(sim, "GET", ACTIVE, change={"account": "pro"})).status_code == 200


async def test_a_regular_account_is_no_pro_account(sim: Sim) -> None:
    assert told(await call(sim, "GET", ACTIVE, change={"account": "pro"}), 403)[0] == "FORBIDDEN"


async def test_requests_are_limited(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", rest_per_min=2)
    assert [(await call(sim, "GET", ACTIVE)).status_code for _ in range(3)] == [200, 200, 429]
    assert told(await call(sim, "GET", ACTIVE), 429)[0] == "TOO_MANY_REQUESTS"
    answers = [await call(sim, "GET", "/v4/public/timestamp", headers={}) for _ in range(61)]
    assert [answer.status_code for answer in answers] == [200] * 60 + [429]


# ── the WebSocket (§5) ────────────────────────────────────────────────────────────────────────────────────────────


async def test_pushes_come_to_subscribers_three_levels_deep(sim: Sim) -> None:
    async with socket(sim, "order") as ws, socket(sim) as deaf:
        [one] = await sim.rest_orders("kuna", 1)
        await cancel(sim, one)
        opened, closed = await receive(ws), await receive(ws)
        await say(deaf, "#unsubscribe", "order", 9)
        assert await receive(deaf) == {"rid": 9}  # and nothing came before it
        await say(ws, "#unsubscribe", "order", 4)
        assert await receive(ws) == {"rid": 4}
        await sim.rest_orders("kuna", 1)
        await say(ws, "#subscribe", {"channel": "btc_usdt@ticker"}, 5)
        assert await receive(ws) == {"rid": 5}
    assert opened["event"] == "#publish" and opened["data"]["channel"] == "order"
    assert (opened["data"]["data"]["data"]["id"], opened["data"]["data"]["data"]["status"]) == (one, "Open")
    assert closed["data"]["data"]["data"]["status"] == "Canceled"
    assert set(closed["data"]["data"]["data"]) == {
        "id", "userId", "status", "side", "type", "pair", "price", "quantity", "cost", "executedQuantity",
        "cumulativeQuoteQty", "stopPrice", "closedAt",
    }  # fmt: skip


async def test_balances_are_pushed(sim: Sim) -> None:
    async with socket(sim, "accounts") as ws:
        await sim.post("/equity", venue="kuna", equity="7")
        data = (await receive(ws))["data"]["data"]["data"]
    assert UUID(data["userId"]) and data["assets"] == [{"code": "USDT", "balance": "7", "lockBalance": "0"}]


async def test_pushes_may_be_numbered(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", numbered_pushes=True)
    async with socket(sim, "order") as ws:
        await sim.rest_orders("kuna", 1)
        cid = (await receive(ws))["cid"]
        assert isinstance(cid, int)
        await ws.send(json.dumps({"rid": cid}))
        await say(ws, "#subscribe", {"channel": "trade"}, 9)
        assert await receive(ws) == {"rid": 9}


@pytest.mark.parametrize(
    ("order", "said"), [("before", ["#setAuthToken", None]), ("after", [None, "#setAuthToken"]), ("none", [None])]
)
async def test_the_token_comes_before_or_after_the_answer(sim: Sim, order: str, said: list[str | None]) -> None:
    await sim.post("/options", venue="kuna", token=order)
    async with socket(sim) as ws:
        await say(ws, "login", sim.venue("kuna")["credentials"]["api_key"], 2)
        assert [(await receive(ws)).get("event") for _ in said] == said


async def test_a_login_need_not_be_numbered_and_its_token_is_good_for_the_next_handshake(sim: Sim) -> None:
    async with socket(sim) as ws:
        await say(ws, "login", sim.venue("kuna")["credentials"]["api_key"])
        token = (await receive(ws))["data"]["token"]
    assert token.count(".") == 2
    async with websockets.connect(sim.venue("kuna")["ws_url"], ssl=sim.tls) as ws:
        await say(ws, "#handshake", {"authToken": token}, 1)
        hello = (await receive(ws))["data"]
        assert (hello["isAuthenticated"], hello["pingTimeout"]) == (True, 20000)
        await say(ws, "#subscribe", {"channel": "order"}, 2)
        assert await receive(ws) == {"rid": 2}


@pytest.mark.parametrize("key", ["x", "", None, {"key": "x"}])
async def test_a_wrong_key_is_refused(sim: Sim, key: object) -> None:
    async with socket(sim) as ws:
        await say(ws, "login", key, 2)
        assert await receive(ws) == {
            "rid": 2,
            "error": {
                "message": "Wrong api key or user blocked", "code": "REQUEST_INVALID_KEY",
                "extensions": {"code": "REQUEST_INVALID_KEY"},
            },
        }  # fmt: skip


async def test_private_channels_need_a_login(sim: Sim) -> None:
    async with socket(sim) as ws:
        for channel in ("order", "trade", "accounts"):
            await say(ws, "#subscribe", {"channel": channel}, 3)
            assert (await receive(ws))["error"]["code"] == "UNAUTHORIZED"
        await say(ws, "#subscribe", {}, 4)
        assert (await receive(ws))["error"]["message"] == "Wrong channel"
        await say(ws, "cancel", {}, 5)  # §5: no order entry here
        assert (await receive(ws))["error"]["message"] == "Unknown event"


@pytest.mark.parametrize("frame", ["nonsense", "[]", b"{}", '{"event":7}', '{"event":"gossip"}'])
async def test_an_unreadable_frame_is_not_answered(sim: Sim, frame: str | bytes) -> None:
    async with socket(sim) as ws:
        await ws.send(frame)
        await say(ws, "#subscribe", {"channel": "rates"}, 3)
        assert await receive(ws) == {"rid": 3}


async def test_nothing_comes_before_the_handshake_and_there_is_only_one(sim: Sim) -> None:
    async with websockets.connect(sim.venue("kuna")["ws_url"], ssl=sim.tls) as ws:
        await say(ws, "login", sim.venue("kuna")["credentials"]["api_key"], 1)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4009
    async with socket(sim) as ws:
        await say(ws, "#handshake", {"authToken": None}, 2)
        with pytest.raises(ConnectionClosed):
            await ws.recv()


async def test_empty_frames_are_pings_and_a_silent_client_is_dropped(sim: Sim) -> None:
    async def receive_pings(ws: ClientConnection) -> None:
        while True:
            assert await ws.recv() == ""

    await sim.post("/options", venue="kuna", ping_s=0.05, idle_s=0.2)
    async with socket(sim) as ws:
        for _ in range(8):  # longer than it would be kept if it were silent
            with anyio.fail_after(5):
                assert await ws.recv() == ""
            await ws.send("")
        with pytest.raises(ConnectionClosed) as closed, anyio.fail_after(5):
            await receive_pings(ws)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4001
    assert {line["what"] for line in await sim.requests("kuna")} == {"connect", "handshake", "ping"}


async def test_pings_may_be_left_out(sim: Sim) -> None:
    await sim.post("/options", venue="kuna", ping_s=0)
    async with socket(sim) as ws:
        await ws.send("")  # and an empty frame has no answer
        await say(ws, "#subscribe", {"channel": "rates"}, 3)
        assert await receive(ws) == {"rid": 3}


async def test_there_is_one_path(sim: Sim) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await websockets.connect(sim.venue("kuna")["ws_url"] + "x", ssl=sim.tls)
    assert refused.value.response.status_code == 404


# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_accept_but_keep_and_partial_keep_orders(sim: Sim) -> None:
    ids = await sim.rest_orders("kuna", 3)
    await sim.fault("kuna", "accept_but_keep", times=1)
    assert all(row["success"] for row in (await cancel(sim, *ids)).json()["data"])
    assert await sim.open("kuna") == 3
    await sim.fault("kuna", "partial", keep=1, times=1)
    assert [row["success"] for row in (await cancel(sim, *ids)).json()["data"]] == [True, True, False]
    assert await sim.open("kuna") == 1


async def test_a_bot_requotes_and_late_orders_arrive(sim: Sim) -> None:
    [one] = await sim.rest_orders("kuna", 1)
    await sim.fault("kuna", "requote")
    await cancel(sim, one)
    [another] = ids_of(await listed(sim))
    assert another != one
    await sim.fault("kuna", "late_order", ms=1)
    await cancel(sim, another)
    await sim.until_open("kuna", 1)


async def test_logins_are_refused(sim: Sim) -> None:
    await sim.fault("kuna", "reject_login", on="all")
    assert told(await call(sim, "GET", ACTIVE), 401)[0] == "UNAUTHORIZED"
    await sim.fault("kuna", "maintenance")
    with pytest.raises(InvalidStatus):
        await websockets.connect(sim.venue("kuna")["ws_url"], ssl=sim.tls)
    await sim.clear("kuna")
    await sim.fault("kuna", "reject_login")
    async with socket(sim) as ws:
        await say(ws, "login", sim.venue("kuna")["credentials"]["api_key"], 2)
        assert (await receive(ws))["error"]["code"] == "REQUEST_INVALID_KEY"


async def test_refusals_have_the_venues_own_words(sim: Sim) -> None:
    await sim.fault("kuna", "refuse", status=500, code="WrongRequestException", message="no")
    assert told(await cancel(sim, str(uuid4())), 500) == ("WrongRequestException", "no")
    await sim.fault("kuna", "rate_limit", seconds=30)
    assert told(await cancel(sim, str(uuid4())), 429)[0] == "TOO_MANY_REQUESTS"


async def test_a_fault_can_hit_the_account_of_a_signed_request() -> None:
    async with running("kuna", accounts=2, options={"kuna": {"auth": "hmac"}}) as sim:
        login, two = login_of(sim), login_of(sim, 1)
        await sim.fault("kuna", "refuse", status=400, on="all", account=two["name"])
        assert (await call(sim, "GET", ACTIVE, headers=signed(login, ACTIVE))).status_code == 200
        assert (await call(sim, "GET", ACTIVE, headers=signed(two, ACTIVE))).status_code == 400
