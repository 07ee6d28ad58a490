"""Hold the Kraken simulator against docs/venues/kraken.md, by raw requests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from kill_switch.sim.kit.auth import NonceLedger
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.kraken.payloads import KINDS
from kill_switch.sim.kraken.signing import SpotSignature

from .clients import Sim, receive, running

pytestmark = pytest.mark.anyio
_NONCES = itertools.count(1_700_000_000_000)


@pytest.fixture
async def sim(anyio_backend: object) -> AsyncIterator[Sim]:
    async with running("kraken") as started:
        yield started


def api_sign(secret: str, path: str, nonce: str, body: str) -> str:
    text = path.encode() + hashlib.sha256((nonce + body).encode()).digest()
    return base64.b64encode(hmac.new(base64.b64decode(secret), text, hashlib.sha512).digest()).decode()


class Kraken:
    """A client of one account."""

    def __init__(self, sim: Sim, name: str = "kraken") -> None:
        self.sim = sim
        self.entry = sim.venue(name)
        credentials = self.entry["credentials"]
        self.key, self.secret = credentials["api_key"], credentials["api_secret"]

    async def send(
        self,
        call: str,
        *,
        nonce: str | None = None,
        as_json: bool = False,
        change: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        nonce = nonce or str(next(_NONCES))
        path = f"/0/private/{call}"
        body = json.dumps({"nonce": nonce, **more}) if as_json else urlencode({"nonce": nonce, **more})
        kind = "application/json" if as_json else "application/x-www-form-urlencoded"
        headers = {"API-Key": self.key, "API-Sign": api_sign(self.secret, path, nonce, body), "Content-Type": kind}
        return await self.sim.web.post(
            self.entry["rest_url"] + path, content=body.encode(), headers=headers | (change or {})
        )

    async def result(self, call: str, **more: Any) -> Any:
        answer = (await self.send(call, **more)).json()
        assert answer["error"] == [], answer
        return answer["result"]

    async def error(self, call: str, **more: Any) -> str:
        answer = await self.send(call, **more)
        assert answer.status_code == 200 and "result" not in answer.json()
        [code] = answer.json()["error"]
        return str(code)

    async def token(self) -> str:
        return str((await self.result("GetWebSocketsToken"))["token"])

    async def open_ids(self) -> set[str]:
        return set((await self.result("OpenOrders"))["open"])

    async def public(self, call: str) -> Any:
        return (await self.sim.web.get(f"{self.entry['rest_url']}/0/public/{call}")).json()["result"]

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        async with websockets.connect(self.entry["ws_url"], ssl=self.sim.tls) as ws:
            assert (await receive(ws))["channel"] == "status"
            yield ws

    @asynccontextmanager
    async def subscribed(self, channel: str = "executions") -> AsyncIterator[tuple[ClientConnection, str]]:
        token = await self.token()
        async with self.socket() as ws:
            answer = await say(ws, "subscribe", token, channel=channel)
            assert answer["success"], answer
            yield ws, token


async def say(ws: ClientConnection, method: str, token: str | None = None, **params: Any) -> Any:
    given = {"token": token, **params} if token else params
    await ws.send(json.dumps({"method": method, "params": given, "req_id": 7}))
    return await reply(ws)


async def reply(ws: ClientConnection) -> Any:
    """Receive the next answer, and skip account events."""
    while "channel" in (message := await receive(ws)):
        pass
    return message


async def hear(ws: ClientConnection) -> Any:
    """Receive the next message that is no heartbeat."""
    while (message := await receive(ws)).get("channel") == "heartbeat":
        pass
    return message


def signed_request(body: bytes, signature: str, path: str, kind: str = "application/x-www-form-urlencoded") -> Request:
    headers = {"api-key": "k", "api-sign": signature, "content-type": kind}
    return Request("POST", path, path, "", headers, body, 0, True)


VECTORS = [
    (
        "AddOrder",
        b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25",
        "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ==",
    ),
    (
        "CancelAll",
        b'{"nonce":1700000000123}',
        "k8nLNKujeisBpl6zRHBOrGt+W0ALTdk9H3HMP/rFhNswDFQBR8bVF6IccVXtL8ET8NRjrh1B5ZlL7VjjdNKOOA==",
    ),
]


@pytest.mark.parametrize(("call", "body", "signature"), VECTORS)
def test_the_published_vectors_are_accepted_and_a_changed_character_is_not(
    call: str, body: bytes, signature: str
) -> None:
    secret = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    account = Account("a", "a", {"api_secret": secret})
    kind = "application/json" if body.startswith(b"{") else "application/x-www-form-urlencoded"
    path = f"/0/private/{call}"
    check = SpotSignature(lambda: 0).check
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    assert check(signed_request(body, changed, path, kind), account) == "EAPI:Invalid signature"
    assert check(signed_request(body + b" ", signature, path, kind), account) == "EAPI:Invalid signature"
    assert check(signed_request(body, signature, path + "s", kind), account) == "EAPI:Invalid signature"
    assert check(signed_request(body, signature, path, kind), account) is None
    assert check(signed_request(body, signature, path, kind), account) == "EAPI:Invalid nonce"


def test_a_nonce_within_the_window_is_accepted_once() -> None:
    nonces = NonceLedger()
    assert nonces.accept("k", "100", window=10) and nonces.accept("k", "95", window=10)
    assert not nonces.accept("k", "95", window=10)
    assert not nonces.accept("k", "90", window=10)
    assert not nonces.accept("k", str(2**64)) and not nonces.accept("k", "-1") and not nonces.accept("k", "")


async def test_requests_with_a_wrong_key_signature_or_nonce_cancel_nothing(sim: Sim) -> None:
    kraken = Kraken(sim)
    await sim.rest_orders("kraken", 2)
    assert await kraken.error("CancelAll", change={"API-Key": "another"}) == "EAPI:Invalid key"
    assert await kraken.error("CancelAll", change={"API-Sign": "AAAA"}) == "EAPI:Invalid signature"
    await kraken.result("OpenOrders", nonce="1700000000500")
    assert await kraken.error("CancelAll", nonce="1700000000500") == "EAPI:Invalid nonce"
    assert await kraken.error("CancelAll", nonce="1700000000499") == "EAPI:Invalid nonce"
    # a form must say that it is one
    assert await kraken.error("CancelAll", change={"Content-Type": "text/plain"}) == "EAPI:Invalid signature"
    assert await sim.open("kraken") == 2


async def test_cancel_all_counts_and_ends_every_kind_of_order(sim: Sim) -> None:
    kraken = Kraken(sim)
    for kind in KINDS:
        await sim.rest_orders("kraken", 1, kind=kind)
    count = await sim.open("kraken")
    listed = (await kraken.result("OpenOrders"))["open"]
    assert len(listed) == count and {"limit", "stop-loss"} <= {order["descr"]["ordertype"] for order in listed.values()}
    assert {order["descr"]["pair"] for order in listed.values()} == {"XBTUSD"}
    assert await kraken.result("CancelAll", as_json=True) == {"count": count}
    assert await sim.open("kraken") == 0
    assert await kraken.result("CancelAll") == {"count": 0}


async def test_single_cancels_of_unknown_orders_are_refused(sim: Sim) -> None:
    kraken = Kraken(sim)
    first, second, third = await sim.rest_orders("kraken", 3)
    assert await kraken.error("CancelOrder") == "EGeneral:Invalid arguments:txid"
    assert await kraken.error("CancelOrder", txid="") == "EGeneral:Invalid arguments:txid"
    assert await kraken.error("CancelOrder", txid="OAAAAA-BBBBB-CCCCCC") == "EOrder:Unknown order"
    assert await kraken.result("CancelOrder", txid=first) == {"count": 1}
    assert await kraken.error("CancelOrder", txid=first) == "EOrder:Unknown order"
    for ids in ([], [""], first, None):
        assert await kraken.error("CancelOrderBatch", as_json=True, orders=ids) == "EGeneral:Invalid arguments:orders"
    assert await kraken.error("CancelOrderBatch", orders=second) == "EGeneral:Invalid arguments:orders"  # no JSON
    assert await kraken.result("CancelOrderBatch", as_json=True, orders=[first, second, third]) == {"count": 2}
    found = await kraken.result("QueryOrders", txid=f"{first},{second}")
    assert {order["status"] for order in found.values()} == {"canceled"}
    assert set((await kraken.result("ClosedOrders"))["closed"]) == {first, second, third}


async def test_a_cancel_all_that_keeps_orders_still_counts_them_all(sim: Sim) -> None:
    kraken = Kraken(sim)
    await sim.rest_orders("kraken", 3)
    await sim.fault("kraken", "accept_but_keep", times=1)
    assert await kraken.result("CancelAll") == {"count": 3}
    assert await sim.open("kraken") == 3
    await sim.fault("kraken", "partial", keep=1, times=1)
    assert await kraken.result("CancelAll") == {"count": 3}
    assert await sim.open("kraken") == 1


async def test_a_pending_cancel_is_marked_and_a_second_one_is_refused_meanwhile(sim: Sim) -> None:
    kraken = Kraken(sim)
    [one] = await sim.rest_orders("kraken", 1)
    await sim.fault("kraken", "pending", ms=300)
    assert await kraken.result("CancelOrder", txid=one) == {"count": 1, "pending": True}
    assert await kraken.error("CancelOrder", txid=one) == "EOrder:Cancel pending"
    assert await kraken.open_ids() == {one}
    await sim.until_open("kraken", 0)


async def test_a_private_request_without_a_user_agent_is_refused(sim: Sim) -> None:
    kraken = Kraken(sim)
    await sim.rest_orders("kraken", 1)
    assert await kraken.error("CancelAll", change={"User-Agent": ""}) == "EGeneral:Permission denied"
    assert await sim.open("kraken") == 1


async def test_maintenance_refuses_cancels_and_keeps_orders_while_the_status_says_so(sim: Sim) -> None:
    kraken = Kraken(sim)
    ids = await sim.rest_orders("kraken", 2)
    async with kraken.subscribed() as (ws, token):
        assert {row["order_id"] for row in (await hear(ws))["data"]} == set(ids)
        await sim.post("/options", venue="kraken", mode="maintenance")
        assert (await hear(ws))["data"][0]["system"] == "maintenance"
        assert await kraken.error("CancelAll") == "EService:Unavailable"
        assert (await say(ws, "cancel_all", token))["error"] == "EService:Unavailable"
        assert (await kraken.public("SystemStatus"))["status"] == "maintenance"
        assert await sim.open("kraken") == 2
        await sim.post("/options", venue="kraken", mode="cancel_only")
        assert (await hear(ws))["data"][0]["system"] == "cancel_only"
        order = {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "1", "volume": "1"}
        assert await kraken.error("AddOrder", **order) == "EService:Market in cancel_only mode"
        assert (await say(ws, "cancel_all", token))["result"] == {"count": 2}
    assert await sim.open("kraken") == 0


@pytest.mark.parametrize("mode", ["cancel_only", "post_only"])
async def test_an_order_that_is_changed_is_a_new_one_for_the_mode(sim: Sim, mode: str) -> None:
    kraken = Kraken(sim)
    [one] = await sim.rest_orders("kraken", 1)
    await sim.post("/options", venue="kraken", mode=mode)
    refusal = f"EService:Market in {mode} mode"
    assert await kraken.error("EditOrder", pair="XBTUSD", txid=one, volume="2") == refusal
    assert await kraken.error("AmendOrder", txid=one, order_qty="2") == refusal
    async with kraken.subscribed() as (ws, token):
        await hear(ws)
        for method in ("edit_order", "amend_order"):
            assert (await say(ws, method, token, symbol="BTC/USD", order_id=one, order_qty=2.0))["error"] == refusal
    assert await kraken.result("CancelOrder", txid=one) == {"count": 1}


async def test_the_maintenance_fault_is_the_mode(sim: Sim) -> None:
    kraken = Kraken(sim)
    async with kraken.socket() as ws:
        await sim.fault("kraken", "maintenance")
        assert (await hear(ws))["data"][0]["system"] == "maintenance"
        assert (await kraken.public("SystemStatus"))["status"] == "maintenance"
        assert await kraken.error("OpenOrders") == "EService:Unavailable"
        await sim.clear("kraken")
        assert (await hear(ws))["data"][0]["system"] == "online"


async def test_executions_are_numbered_sparse_and_without_a_symbol(sim: Sim) -> None:
    kraken = Kraken(sim)
    [old] = await sim.rest_orders("kraken", 1, kind="stop")
    token = await kraken.token()
    async with kraken.socket() as ws:
        ack = await say(ws, "subscribe", token, channel="executions")
        assert ack["success"] and ack["req_id"] == 7 and ack["result"]["snap_orders"] is True
        snapshot = await hear(ws)
        assert (snapshot["type"], snapshot["sequence"]) == ("snapshot", 1)
        assert [(row["order_id"], row["symbol"], row["order_type"]) for row in snapshot["data"]] == [
            (old, "BTC/USD", "stop-loss")
        ]
        [new] = await sim.rest_orders("kraken", 1)
        first, second = await hear(ws), await hear(ws)
        assert first["data"][0]["exec_type"] == "pending_new" and first["data"][0]["symbol"] == "BTC/USD"
        assert second["data"][0]["exec_type"] == "new" and "symbol" not in second["data"][0]
        await ws.send(json.dumps({"method": "cancel_all", "params": {"token": token}}))
        frames = [await hear(ws) for _ in range(3)]
        updates = [frame for frame in frames if frame.get("channel") == "executions"]
        assert [frame["sequence"] for frame in (first, second, *updates)] == [2, 3, 4, 5]
        assert {frame["data"][0]["order_id"] for frame in updates} == {old, new}
        assert all(
            frame["data"][0]["exec_type"] == "canceled" and "symbol" not in frame["data"][0] for frame in updates
        )
        [reply] = [frame for frame in frames if frame.get("method") == "cancel_all"]
        assert reply["success"] and reply["result"] == {"count": 2} and "req_id" not in reply


async def test_cancel_order_answers_each_order_and_only_the_first_repeats_the_number(sim: Sim) -> None:
    kraken = Kraken(sim)
    one, two = await sim.rest_orders("kraken", 2)
    token = await kraken.token()
    async with kraken.socket() as ws:
        first = await say(ws, "cancel_order", token, order_id=[one, "OAAAAA-BBBBB-CCCCCC", two])
        second, third = await reply(ws), await reply(ws)
        assert (first["result"]["order_id"], first["req_id"]) == (one, 7)
        assert (second["error"], second["success"]) == ("EOrder:Unknown order", False)
        assert third["result"]["order_id"] == two
        assert "req_id" not in second and "req_id" not in third
        assert (await say(ws, "cancel_order", token, order_id=[]))["error"] == "EGeneral:Invalid arguments:order_id"
        assert (await say(ws, "cancel_order", token))["error"] == "EGeneral:Invalid arguments:order_id"
        assert (await say(ws, "batch_cancel", token, orders=[one]))["error"] == "EGeneral:Invalid arguments:orders"
        more = await sim.rest_orders("kraken", 2)
        assert (await say(ws, "batch_cancel", token, orders=[one, *more]))["result"] == {"count": 2}
        assert (await say(ws, "cancel_everything", token))["success"] is False
        await ws.send("{")
        assert (await hear(ws))["success"] is False
        assert (await say(ws, "ping"))["method"] == "pong"


async def test_a_token_that_is_unknown_missing_ended_or_killed_is_an_invalid_session(sim: Sim) -> None:
    kraken = Kraken(sim)
    await sim.rest_orders("kraken", 1)
    async with kraken.subscribed() as (ws, token):
        await hear(ws)
        assert (await say(ws, "cancel_all", "another"))["error"] == "ESession:Invalid session"
        assert (await say(ws, "cancel_all"))["error"] == "ESession:Invalid session"
        await sim.fault("kraken", "expire_token")
        assert (await say(ws, "cancel_all", token))["error"] == "ESession:Invalid session"
        assert await sim.open("kraken") == 1
        # the socket is open, and takes a new token
        fresh = await kraken.token()
        assert (await say(ws, "subscribe", fresh, channel="executions"))["success"]
        assert (await hear(ws))["sequence"] == 1
        await sim.post("/options", venue="kraken", token_s=0)
        assert (await say(ws, "cancel_all", fresh))["error"] == "ESession:Invalid session"
        await sim.post("/options", venue="kraken", token_s=900)
        assert (await say(ws, "cancel_all", fresh))["success"]


async def test_heartbeats_begin_with_a_subscription(sim: Sim) -> None:
    async with Kraken(sim).subscribed("balances") as (ws, _):
        snapshot = await receive(ws)
        assert (snapshot["channel"], snapshot["type"], snapshot["data"][0]["balance"]) == ("balances", "snapshot", 1e5)
        assert await receive(ws) == {"channel": "heartbeat"}
        await sim.post("/equity", venue="kraken", equity="90000")
        moved = await hear(ws)
        assert (moved["data"][0]["amount"], moved["sequence"]) == (-10_000, 2)


async def test_the_rest_counter_of_the_tier_refuses_and_decays(sim: Sim) -> None:
    kraken = Kraken(sim)
    for _ in range(15):
        await kraken.result("OpenOrders")
    assert await kraken.error("CancelAll") == "EAPI:Rate limit exceeded"
    [one] = await sim.rest_orders("kraken", 1)
    assert await kraken.result("CancelOrder", txid=one) == {"count": 1}  # costs nothing there
    await sim.post("/options", venue="kraken", tier="pro")
    for _ in range(20):
        await kraken.result("OpenOrders")
    assert await kraken.error("OpenOrders") == "EAPI:Rate limit exceeded"
    await asyncio.sleep(1.1)
    assert await kraken.result("CancelAll") == {"count": 0}


async def test_single_cancels_of_young_orders_fill_the_counter_of_their_pair_and_cancel_all_still_works(
    sim: Sim,
) -> None:
    kraken = Kraken(sim)
    ids = await sim.rest_orders("kraken", 10)
    [other] = await sim.rest_orders("kraken", 1, symbol="ETHUSD")
    for order_id in ids[:7]:
        await kraken.result("CancelOrder", txid=order_id)
    assert await kraken.error("CancelOrder", txid=ids[7]) == "EOrder:Rate limit exceeded"
    assert await kraken.result("CancelOrder", txid=other) == {"count": 1}  # of another pair
    assert await kraken.result("CancelAll") == {"count": 3}


async def test_a_key_that_may_only_read_cannot_cancel_and_says_so(sim: Sim) -> None:
    kraken = Kraken(sim)
    assert "close-trades" in (await kraken.result("GetApiKeyInfo"))["permissions"]
    await sim.fault("kraken", "read_only_key")
    await sim.rest_orders("kraken", 1)
    assert await kraken.error("CancelAll") == "EGeneral:Permission denied"
    assert await kraken.error("CancelAllOrdersAfter", timeout=60) == "EGeneral:Permission denied"
    assert "close-trades" not in (await kraken.result("GetApiKeyInfo"))["permissions"]
    token = await kraken.token()
    async with kraken.socket() as ws:
        assert (await say(ws, "cancel_all", token))["error"] == "EGeneral:Permission denied"
    assert await sim.open("kraken") == 1


async def test_a_storm_of_wrong_keys_locks_the_address_out(sim: Sim) -> None:
    kraken = Kraken(sim)
    await sim.post("/options", venue="kraken", lockout_after=3)
    for _ in range(3):
        assert await kraken.error("CancelAll", change={"API-Key": "x"}) == "EAPI:Invalid key"
    assert await kraken.error("CancelAll") == "EGeneral:Temporary lockout"


async def test_the_countdown_fires_once_on_either_route_and_can_be_disarmed(sim: Sim) -> None:
    kraken = Kraken(sim)
    assert await kraken.error("CancelAllOrdersAfter") == "EGeneral:Invalid arguments:timeout"
    assert await kraken.error("CancelAllOrdersAfter", timeout="0.5") == "EGeneral:Invalid arguments:timeout"
    assert (await kraken.result("CancelAllOrdersAfter", timeout=60))["triggerTime"].endswith("Z")
    token = await kraken.token()
    async with kraken.socket() as ws:
        assert (await say(ws, "cancel_all_orders_after", token, timeout=0))["result"]["triggerTime"] == "0"
        await sim.rest_orders("kraken", 2)
        assert (await say(ws, "cancel_all_orders_after", token, timeout=1))["success"]
    await sim.until_open("kraken", 0)
    await sim.rest_orders("kraken", 1)
    await asyncio.sleep(1.2)
    assert await sim.open("kraken") == 1


async def test_a_countdown_that_ends_in_maintenance_cancels_when_the_engine_returns(sim: Sim) -> None:
    kraken = Kraken(sim)
    await sim.rest_orders("kraken", 1)
    await kraken.result("CancelAllOrdersAfter", timeout=1)
    await sim.post("/options", venue="kraken", mode="maintenance")
    await asyncio.sleep(1.2)
    assert await sim.open("kraken") == 1
    await sim.post("/options", venue="kraken", mode="online")
    assert await sim.open("kraken") == 0


async def test_a_transfer_is_pushed_and_in_the_ledger_under_one_id(sim: Sim) -> None:
    kraken = Kraken(sim)
    await sim.post("/options", venue="kraken", equity_moves="transfer", tier="unlimited")
    began_s = int(time.time()) - 2
    async with kraken.subscribed("balances") as (ws, _):
        assert (await hear(ws))["type"] == "snapshot"
        await sim.post("/equity", venue="kraken", equity=400)
        [pushed] = (await hear(ws))["data"]
    found = await kraken.result("Ledgers", start=began_s)
    assert found["count"] == 1
    [entry] = found["ledger"].values()
    assert list(found["ledger"]) == [pushed["ledger_id"]]
    assert (entry["type"], Decimal(entry["amount"])) == (pushed["type"], Decimal(str(pushed["amount"])))
    later = await kraken.result("Ledgers", start=began_s + 60)
    beyond = await kraken.result("Ledgers", start=began_s, ofs=1)
    assert (later["ledger"], beyond["ledger"]) == ({}, {})
