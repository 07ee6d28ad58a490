"""Hold the simulator of Kraken derivatives against docs/venues/kraken.md, by raw requests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import anyio
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.kraken_futures import calls
from kill_switch.sim.kraken_futures.signing import Authent, answers_challenge

from .clients import Sim, receive, running
from .test_kraken import api_sign, hear, reply, say

pytestmark = pytest.mark.anyio
_NONCES = itertools.count(1_700_000_000_000)
_SECRET = (
    "7zxMEF5p/Z8l2p2U7Ghv6x14Af+Fx+92tPgUdVQ748FOIrEoT9bgT+bTRfXc5pz8na+hL/QdrCVG7bh9KpT0eMTm"  # the documents' own
)
_CHALLENGE = "c100b894-1729-464d-ace1-52dbce11db42"


@pytest.fixture
async def sim(anyio_backend: object) -> AsyncIterator[Sim]:
    async with running("kraken-futures") as started:
        yield started


def sign(secret: str, text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.b64encode(hmac.new(base64.b64decode(secret), digest, hashlib.sha512).digest()).decode()


class Futures:
    """A client of one account."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.entry = sim.venue("kraken-futures")
        self.keys = self.entry["credentials"]

    async def send(
        self,
        method: str,
        call: str,
        arguments: str = "",
        *,
        nonce: str = "",
        in_body: bool = True,
        change: dict[str, str] | None = None,
    ) -> httpx.Response:
        path = f"/api/v3/{call}"
        headers = {
            "APIKey": self.keys["api_key"],
            "Authent": sign(self.keys["api_secret"], arguments + nonce + path),
            "Content-Type": "application/x-www-form-urlencoded",
        } | ({"Nonce": nonce} if nonce else {})
        url = f"{self.entry['rest_url']}/derivatives{path}"
        body = arguments if method == "POST" and in_body else ""
        url += f"?{arguments}" if arguments and not body else ""
        return await self.sim.web.request(method, url, content=body.encode(), headers=headers | (change or {}))

    async def post(self, call: str, **arguments: object) -> Any:
        answer = await self.send("POST", call, urlencode(arguments))
        assert answer.status_code == 200
        return answer.json()

    async def get(self, call: str) -> Any:
        return (await self.send("GET", call)).json()

    async def token(self, **change: str) -> Any:
        nonce = str(next(_NONCES))
        body = f"nonce={nonce}"
        signature = api_sign(self.keys["unified_secret"], "/0/private/GetWebSocketsToken", nonce, body)
        headers = {"API-Key": self.keys["unified_key"], "API-Sign": signature}
        headers |= {"Content-Type": "application/x-www-form-urlencoded"} | change
        return (await self.sim.web.post(self.entry["options"]["token_url"], content=body, headers=headers)).json()

    @asynccontextmanager
    async def v1(self) -> AsyncIterator[tuple[ClientConnection, dict[str, str]]]:
        async with websockets.connect(self.entry["ws_url"], ssl=self.sim.tls) as ws:
            assert (await receive(ws))["event"] == "info"
            await ws.send(json.dumps({"event": "challenge", "api_key": self.keys["api_key"]}))
            challenge = (await receive(ws))["message"]
            signed = sign(self.keys["api_secret"], challenge)
            yield (
                ws,
                {
                    "api_key": self.keys["api_key"],
                    "original_challenge": challenge,
                    "signed_challenge": signed,
                },
            )

    @asynccontextmanager
    async def unified(self) -> AsyncIterator[tuple[ClientConnection, dict[str, str]]]:
        token = (await self.token())["result"]["token"]
        async with websockets.connect(self.entry["options"]["unified_ws_url"], ssl=self.sim.tls) as ws:
            assert (await receive(ws))["channel"] == "status"
            yield ws, {"token": token, "asset_class": "derivatives"}


async def subscribe(ws: ClientConnection, feed: str, signed: dict[str, str]) -> Any:
    await ws.send(json.dumps({"event": "subscribe", "feed": feed, **signed}))
    return await receive(ws)


VECTORS = [
    (
        "cancelallorders",
        "",
        "1700000000123",
        "ldWGwUXH+BNyI6Vv264sNdj9s4TEZnzlkvvTBLHhChfYHlbzCUX0gsUW1m3Fowwa6/wusok3giYs07kWhfpFfw==",
    ),
    (
        "cancelallorders",
        "",
        "",
        "1XCsoN+YeVw9ai0DPy509Mk0yOIQBCm9/LYCP53l8yVCFJjMy9N5CCrnCo8fHZn6JDQCjEkKKAO4ccLjgNToTA==",
    ),
    (
        "cancelallordersafter",
        "timeout=60",
        "1700000000123",
        "RxYvpiTh9R005EGPbhqKsegDO3oE4S79j53tGpJB08+AtI12bQNRltE2uDwLk954ZwuoF4Z1LXGe2bH6suGaRw==",
    ),
]


@pytest.mark.parametrize(("call", "arguments", "nonce", "signature"), VECTORS)
@pytest.mark.parametrize("in_body", [True, False])
def test_the_vectors_are_accepted_and_a_changed_character_is_not(
    call: str, arguments: str, nonce: str, signature: str, in_body: bool
) -> None:
    account = Account("a", "a", {"api_secret": _SECRET})
    path = f"/derivatives/api/v3/{call}"

    def request(sent: str, signed: str) -> Request:
        headers = {"apikey": "k", "authent": signed} | ({"nonce": nonce} if nonce else {})
        query, body = ("", sent.encode()) if in_body else (sent, b"")
        return Request("POST", path, path, query, headers, body, 0, True)

    check = Authent(lambda: 0).check
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    assert check(request(arguments, changed), account) == "authenticationError"
    assert check(request(arguments + "&a=1", signature), account) == "authenticationError"
    assert check(request(arguments, signature), account) is None
    assert check(request(arguments, signature), account) == ("nonceDuplicate" if nonce else None)


def test_the_published_challenge_is_answered_by_its_signature_alone() -> None:
    account = Account("a", "a", {"api_secret": _SECRET})
    right = "4JEpF3ix66GA2B+ooK128Ift4XQVtc137N9yeg4Kqsn9PI0Kpzbysl9M1IeCEdjg0zl00wkVqcsnG4bmnlMb3A=="
    assert answers_challenge(account, _CHALLENGE, right)
    assert not answers_challenge(account, _CHALLENGE, "5" + right[1:])
    assert not answers_challenge(account, _CHALLENGE, None)


async def test_requests_of_another_key_or_nonce_cancel_nothing(sim: Sim) -> None:
    futures = Futures(sim)
    await sim.rest_orders("kraken-futures", 1)

    async def error(**given: Any) -> str:
        answer = await futures.send("POST", "cancelallorders", **given)
        assert answer.status_code == 200 and answer.json()["result"] == "error"
        return str(answer.json()["error"])

    assert await error(change={"Authent": "AAAA"}) == "authenticationError"
    assert await error(change={"APIKey": futures.keys["unified_key"]}) == "authenticationError"
    await futures.send("GET", "openorders", nonce="100")
    assert await error(nonce="100") == "nonceDuplicate"
    assert await error(nonce="99") == "nonceBelowThreshold"
    assert (await futures.token(**{"API-Key": futures.keys["api_key"]}))["error"] == ["EAPI:Invalid key"]
    assert await sim.open("kraken-futures") == 1


async def test_cancel_all_covers_every_kind_and_says_when_there_is_nothing(sim: Sim) -> None:
    futures = Futures(sim)
    ids = [
        order_id
        for kind in ("limit", "post", "stop", "take_profit")
        for order_id in await sim.rest_orders("kraken-futures", 2, kind=kind)
    ]
    listed = (await futures.get("openorders"))["openOrders"]
    assert {order["order_id"] for order in listed} == set(ids)
    assert {order["symbol"].upper() for order in listed} == {"PF_XBTUSD"}
    assert {order["orderType"] for order in listed} == {"lmt", "post", "stop", "take_profit"}
    status = (await futures.post("cancelallorders"))["cancelStatus"]
    assert (status["status"], status["cancelOnly"]) == ("cancelled", "all")
    assert {order["order_id"] for order in status["cancelledOrders"]} == set(ids)
    assert {event["uid"] for event in status["orderEvents"]} == set(ids)
    assert await sim.open("kraken-futures") == 0
    again = await futures.post("cancelallorders")
    assert (again["result"], again["cancelStatus"]["status"]) == ("success", "noOrdersToCancel")


async def test_cancel_all_of_a_symbol_takes_any_case(sim: Sim) -> None:
    futures = Futures(sim)
    await sim.rest_orders("kraken-futures", 1)
    await sim.rest_orders("kraken-futures", 1, symbol="PI_XBTUSD")
    assert (await futures.post("cancelallorders", symbol="pi_xbtusd"))["cancelStatus"]["cancelOnly"] == "PI_XBTUSD"
    assert await sim.open("kraken-futures") == 1
    assert (await futures.post("cancelallorders", symbol="PF_NONE"))["error"] == "contractNotFound"


async def test_a_cancel_that_misses_is_a_success_with_another_status(sim: Sim) -> None:
    futures = Futures(sim)
    one, two = await sim.rest_orders("kraken-futures", 2)
    missed = await futures.post("cancelorder", order_id=str(uuid4()))
    assert (missed["result"], missed["cancelStatus"]["status"]) == ("success", "notFound")
    assert (await futures.post("cancelorder"))["error"] == "requiredArgumentMissing"
    assert (await futures.post("cancelorder", order_id=one))["cancelStatus"]["status"] == "cancelled"
    batch = {"batchOrder": [{"order": "cancel", "order_id": one}, {"order": "cancel", "order_id": two}]}
    statuses = (await futures.post("batchorder", json=json.dumps(batch)))["batchStatus"]
    assert [status["status"] for status in statuses] == ["notFound", "cancelled"]
    described = (await futures.post("orders/status", orderIds=json.dumps([one, str(uuid4())])))["orders"]
    assert [order["status"] for order in described] == ["CANCELLED"]


async def test_an_order_that_ended_a_while_ago_is_not_described(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    futures = Futures(sim)
    gone, open_ = await sim.rest_orders("kraken-futures", 2)
    await futures.post("cancelorder", order_id=gone)
    ids = json.dumps([gone, open_])
    assert len((await futures.post("orders/status", orderIds=ids))["orders"]) == 2
    monkeypatch.setattr(calls, "_SHOWN_S", -1.0)  # as if 6 s had passed
    [described] = (await futures.post("orders/status", orderIds=ids))["orders"]
    assert described["order"]["orderId"] == open_


async def test_an_id_is_a_uuid_in_either_case(sim: Sim) -> None:
    futures = Futures(sim)
    [one] = await sim.rest_orders("kraken-futures", 1)
    assert (await futures.post("cancelorder", order_id=f"{{{one}}}"))["error"] == "invalidArgument"
    assert (await futures.post("cancelorder", order_id=one.upper()))["cancelStatus"]["status"] == "cancelled"


async def test_ids_with_commas_between_them_are_one_unknown_order(sim: Sim) -> None:
    futures = Futures(sim)
    one, two = await sim.rest_orders("kraken-futures", 2)
    assert (await futures.post("orders/status", orderIds=f"{one},{two}"))["orders"] == []
    repeated = (await futures.send("POST", "orders/status", f"orderIds={one}&orderIds={two}")).json()
    assert [each["order"]["orderId"] for each in repeated["orders"]] == [one, two]


async def test_the_pool_of_costs_is_shared_by_all_calls_and_refuses_with_http_200(sim: Sim) -> None:
    futures = Futures(sim)
    for _ in range(19):
        assert (await futures.post("cancelallorders"))["result"] == "success"
    for _ in range(12):
        assert (await futures.get("openorders"))["result"] == "success"
    assert (await futures.post("cancelallorders"))["error"] == "apiLimitExceeded"
    assert (await futures.post("orders/status", orderIds="[a]"))["result"] == "success"
    weights = {line["what"]: line["weight"] for line in await sim.requests("kraken-futures")}
    assert weights == {"cancel-all": 25, "orders": 2, "order": 1}


async def test_an_internal_error_has_the_second_shape_and_maintenance_refuses(sim: Sim) -> None:
    futures = Futures(sim)
    await sim.rest_orders("kraken-futures", 1)
    await sim.fault("kraken-futures", "refuse", status=500, times=1)
    answer = await futures.send("POST", "cancelallorders")
    assert (answer.status_code, list(answer.json())) == (500, ["errors"])
    await sim.post("/options", venue="kraken-futures", mode="maintenance")
    assert (await futures.post("cancelallorders"))["error"] == "Unavailable"
    assert (await futures.send("GET", "openorders")).json()["error"] == "Unavailable"
    assert await sim.open("kraken-futures") == 1


async def test_the_countdown_cancels_once(sim: Sim) -> None:
    futures = Futures(sim)
    await sim.rest_orders("kraken-futures", 1)
    assert (await futures.post("cancelallordersafter", timeout=0))["status"]["triggerTime"] == "0"
    assert (await futures.post("cancelallordersafter", timeout="x"))["error"] == "invalidArgument"
    assert (await futures.post("cancelallordersafter", timeout=1))["status"]["triggerTime"].endswith("Z")
    await sim.until_open("kraken-futures", 0)
    assert await sim.get("/deadman", venue="kraken-futures") == {"armed": False, "fires_in_s": None, "fired": 1}


async def test_a_countdown_that_ends_in_maintenance_cancels_when_the_engine_returns(sim: Sim) -> None:
    futures = Futures(sim)
    await sim.rest_orders("kraken-futures", 1)
    assert (await futures.post("cancelallordersafter", timeout=1))["result"] == "success"
    await sim.fault("kraken-futures", "maintenance")
    await asyncio.sleep(1.2)
    assert await sim.open("kraken-futures") == 1
    await sim.clear("kraken-futures")
    assert await sim.open("kraken-futures") == 0


async def test_the_maintenance_fault_is_the_mode_of_the_unified_websocket_too(sim: Sim) -> None:
    futures = Futures(sim)
    async with futures.unified() as (ws, _), futures.v1() as (other, signed):
        await sim.fault("kraken-futures", "maintenance")
        assert (await hear(ws))["data"][0]["system"] == "maintenance"
        await sim.clear("kraken-futures")
        assert (await hear(ws))["data"][0]["system"] == "online"
        assert (await subscribe(other, "open_orders", signed))["event"] == "subscribed"  # it was told of no status


async def test_websocket_v1_wants_a_signed_challenge(sim: Sim) -> None:
    futures = Futures(sim)
    async with futures.v1() as (ws, signed):
        for wrong in ({"signed_challenge": "AAAA"}, {"original_challenge": _CHALLENGE}, {"api_key": "x"}):
            assert (await subscribe(ws, "open_orders", signed | wrong))["event"] == "error"
        await ws.send("{")
        assert await receive(ws) == {"event": "error", "message": "Json Error"}
        assert (await subscribe(ws, "open_orders", signed))["event"] == "subscribed"


async def test_websocket_v1_shows_orders_that_leave_the_book_as_cancels_even_if_they_were_filled(sim: Sim) -> None:
    futures = Futures(sim)
    [old] = await sim.rest_orders("kraken-futures", 1, kind="stop")
    async with futures.v1() as (ws, signed):
        await subscribe(ws, "open_orders", signed)
        snapshot = await receive(ws)
        assert [order["order_id"] for order in snapshot["orders"]] == [old]
        [new] = await sim.rest_orders("kraken-futures", 1)
        opened = await receive(ws)
        assert (opened["order"]["order_id"], opened["is_cancel"]) == (new, False)
        await futures.post("cancelorder", order_id=old)
        gone = await receive(ws)
        assert (gone["order_id"], gone["is_cancel"], gone["reason"]) == (old, True, "cancelled_by_user")
        await sim.fault("kraken-futures", "pending", ms=1, fill=True)
        await futures.post("cancelallorders")
        filled = await receive(ws)
        assert (filled["order"]["qty"], filled["is_cancel"], filled["reason"]) == (0.0, True, "full_fill")


async def test_websocket_v1_is_closed_without_pings_and_kept_open_by_them(sim: Sim) -> None:
    await sim.post("/options", venue="kraken-futures", idle_s=0.4)
    url = sim.venue("kraken-futures")["ws_url"]
    async with (
        websockets.connect(url, ssl=sim.tls, ping_interval=None) as silent,
        websockets.connect(url, ssl=sim.tls, ping_interval=0.1) as alive,
    ):
        await receive(silent)
        await receive(alive)
        with pytest.raises(ConnectionClosed), anyio.fail_after(5):
            await silent.recv()
        await anyio.sleep(0.5)
        await alive.send("{")
        assert (await receive(alive))["event"] == "error"


async def test_the_unified_websocket_cancels_with_a_token_of_the_spot_key_and_the_asset_class(sim: Sim) -> None:
    futures = Futures(sim)
    [old] = await sim.rest_orders("kraken-futures", 1, kind="stop")
    async with futures.unified() as (ws, given):
        assert (await say(ws, "subscribe", channel="executions", **given))["success"]
        snapshot = await hear(ws)
        assert [(row["order_id"], row["symbol"]) for row in snapshot["data"]] == [(old, "PF_XBTUSD")]
        [new] = await sim.rest_orders("kraken-futures", 1)
        opened = await hear(ws)
        assert (opened["data"][0]["exec_type"], opened["sequence"]) == ("new", 2)
        without = {"token": given["token"]}
        assert (await say(ws, "cancel_all", **without))["error"] == "EGeneral:Invalid arguments:asset_class"
        assert (await say(ws, "cancel_order", order_userref=[1], **given))["success"] is False
        assert (await say(ws, "cancel_order", order_id=[new], **given))["result"] == {"order_id": new}
        assert (await say(ws, "cancel_all_orders_after", timeout=60, **given))["success"]
        assert (await say(ws, "cancel_all", **given))["result"] == {"count": 1}
        assert await sim.open("kraken-futures") == 0
        await sim.fault("kraken-futures", "expire_token")
        await ws.send(json.dumps({"method": "cancel_all", "params": given}))
        assert (await reply(ws))["error"] == "ESession:Invalid session"
