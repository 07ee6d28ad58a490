"""Hold the simulator of Deribit against its documents, by raw requests (docs/venues/deribit.md)."""

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
from typing import Any
from urllib.parse import urlencode

import anyio
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from kill_switch.sim.deribit.grants import sign
from tests.harness.virtual_time import VirtualTimeLoop

from .clients import Sim, receive, receive_until_closed, running

pytestmark = pytest.mark.anyio
_NONCES = itertools.count(1)


def hex_hmac(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


@pytest.fixture
async def sim(anyio_backend: object) -> AsyncIterator[Sim]:
    async with running("deribit") as started:
        yield started


@asynccontextmanager
async def set_to(**options: str) -> AsyncIterator[tuple[Sim, Derib]]:
    async with running("deribit", options={"deribit": options}) as sim:
        yield sim, Derib(sim)


class Derib:
    """A client of one account."""

    def __init__(self, sim: Sim, entry: Any = None) -> None:
        self.sim = sim
        self.entry = sim.venue("deribit")
        self.keys = (entry or self.entry)["credentials"]
        self.ids = itertools.count(1)

    def header(self, method: str, target: str, body: str = "", **change: object) -> dict[str, str]:
        named: dict[str, Any] = {"id": self.keys["client_id"], "ts": int(time.time() * 1000)}
        named |= {"nonce": f"n{next(_NONCES)}", **change}
        text = f"{named['ts']}\n{named['nonce']}\n{method}\n{target}\n{body}\n"
        named.setdefault("sig", hex_hmac(self.keys["client_secret"], text))
        listed = ",".join(f"{name}={value}" for name, value in named.items())
        return {"Authorization": f"deri-hmac-sha256 {listed}"}

    async def get(self, method: str, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        query = urlencode({key: json.dumps(v) if isinstance(v, bool) else v for key, v in params.items()})
        target = f"/api/v2/{method}" + (f"?{query}" if query else "")
        headers = self.header("GET", target) if headers is None else headers
        return await self.sim.web.get(self.entry["rest_url"] + target, headers=headers)

    async def post(self, body: str | dict[str, Any], **change: object) -> httpx.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        headers = self.header("POST", "/api/v2", text, **change) | {"Content-Type": "application/json"}
        return await self.sim.web.post(f"{self.entry['rest_url']}/api/v2", content=text, headers=headers)

    def login(self, **change: Any) -> dict[str, Any]:
        named = {"timestamp": int(time.time() * 1000), "nonce": f"n{next(_NONCES)}", "data": ""}
        named |= {"grant_type": "client_signature", "client_id": self.keys["client_id"], **change}
        text = "\n".join(str(named[name]) for name in ("timestamp", "nonce", "data"))
        return {"signature": hex_hmac(self.keys["client_secret"], text)} | named

    async def send(self, ws: ClientConnection, method: str, **params: Any) -> int:
        number = next(self.ids)
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": method}
        await ws.send(json.dumps(message | ({"params": params} if params else {})))
        return number

    async def call(self, ws: ClientConnection, method: str, **params: Any) -> Any:
        """Return the answer to a request; events before it are skipped."""
        number = await self.send(ws, method, **params)
        while (answer := await receive(ws)).get("id") != number:
            pass
        return answer

    async def ok(self, ws: ClientConnection, method: str, **params: Any) -> Any:
        answer = await self.call(ws, method, **params)
        assert "result" in answer, answer
        return answer["result"]

    async def code(self, ws: ClientConnection, method: str, **params: Any) -> int:
        code: int = (await self.call(ws, method, **params))["error"]["code"]
        return code

    @asynccontextmanager
    async def socket(self, *channels: str, login: bool = True, scope: str = "") -> AsyncIterator[ClientConnection]:
        async with websockets.connect(self.entry["ws_url"], ssl=self.sim.tls) as ws:
            if login:
                asked = {"scope": scope} if scope else {}
                assert (await self.ok(ws, "public/auth", **self.login(**asked)))["token_type"] == "bearer"
            if channels:
                assert await self.ok(ws, "private/subscribe", channels=list(channels)) == list(channels)
            yield ws


@pytest.fixture
def derib(sim: Sim) -> Derib:
    return Derib(sim)


# ── signatures (§2) ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("secret", "text", "signature"),
    [
        (
            "AMANDASECRECT", "1576074319000\n1iqt2wls\n",
            "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1",
        ),
        (
            "secretsecret", "1700000000123\n1700000000123\n",
            "79132af6c94b205deb02df41a278cbc702bf7a41cfdc3d32517ef1e32360db3f",
        ),
        (
            "secretsecret", "1700000000123\n1iqt2wls\n",
            "c0de6e8b7edabe84855b2ab74dd47659de5b4149b5662fd03a6cf9db2941b680",
        ),
        (
            "secretsecret", "1700000000123\n1iqt2wls\nGET\n/api/v2/private/cancel_all?detailed=true\n\n",
            "4894799d61f810382c4ea42188f4d6b31118a83496c8d6d6f2935d7c0cab931c",
        ),
        (
            "secretsecret", "1700000000123\n1iqt2wls\nGET\n/api/v2/private/get_open_orders\n\n",
            "b716c0cdd75f174c3bf629039f2dbca22108dde35e60581701b0c621194144af",
        ),
        (
            "secretsecret",
            "1700000000123\n1iqt2wls\nPOST\n/api/v2\n"
            '{"jsonrpc":"2.0","id":1,"method":"private/cancel_all","params":{"detailed":true}}\n',
            "14065ee9fcf0ffe1d2bf2340a00a12cea014f1da5dcf9cc69e05b1b71fdc4a63",
        ),
    ],
)  # fmt: skip
def test_a_vector_of_the_documents_is_reproduced(secret: str, text: str, signature: str) -> None:
    assert sign(secret, text) == signature


async def test_a_login_with_one_character_changed_an_old_time_or_a_used_nonce_is_refused(derib: Derib) -> None:
    good = derib.login()
    last = "0" if good["signature"][-1] != "0" else "1"
    now = int(time.time() * 1000)
    async with derib.socket(login=False) as ws:
        assert await derib.code(ws, "public/auth", **good | {"signature": good["signature"][:-1] + last}) == 13004
        for wrong in (now - 61_000, now + 61_000):
            assert await derib.code(ws, "public/auth", **derib.login(timestamp=wrong)) == 13004
        assert await derib.code(ws, "public/auth", **good | {"client_id": "nobody"}) == 13004
        assert "access_token" in await derib.ok(ws, "public/auth", **good)
        assert await derib.code(ws, "public/auth", **good) == 13004
        signed = derib.login(nonce="again")
        assert await derib.ok(ws, "public/auth", **signed)
        assert await derib.code(ws, "public/auth", **derib.login(nonce="again", timestamp=now - 1)) == 13004


async def test_a_private_request_of_http_proves_itself_by_header_basic_or_token(derib: Derib) -> None:
    assert (await derib.get("private/get_open_orders")).json()["result"] == []
    basic = base64.b64encode(":".join((derib.keys["client_id"], derib.keys["client_secret"])).encode()).decode()
    assert (await derib.get("private/get_open_orders", {"Authorization": f"Basic {basic}"})).status_code == 200
    login = {"client_id": derib.keys["client_id"], "client_secret": derib.keys["client_secret"]}
    token = (await derib.get("public/auth", {}, grant_type="client_credentials", **login)).json()["result"]
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    assert (await derib.get("private/get_open_orders", bearer)).status_code == 200
    refused = [
        ({}, 13009),
        ({"Authorization": "Bearer nothing"}, 13009),
        ({"Authorization": f"Basic {basic[:-8]}"}, 13004),
        (derib.header("GET", "/api/v2/private/get_open_orders", sig="0" * 64), 13004),
        (derib.header("GET", "/api/v2/private/get_open_orders", ts=int(time.time() * 1000) - 61_000), 13004),
        (derib.header("GET", "/api/v2/private/get_open_orders?kind=any"), 13004),
    ]
    for headers, code in refused:
        answer = await derib.get("private/get_open_orders", headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)


async def test_a_header_is_good_once(derib: Derib) -> None:
    header = derib.header("GET", "/api/v2/private/get_open_orders")
    assert [(await derib.get("private/get_open_orders", header)).status_code for _ in range(2)] == [200, 401]


async def test_the_reply_to_a_login_names_the_scopes_that_the_key_allows(derib: Derib) -> None:
    asked = "session:kill trade:read_write account:read wallet:read_write"
    async with derib.socket(login=False) as ws:
        reply = await derib.ok(ws, "public/auth", **derib.login(scope=asked))
        assert reply["scope"] == "session:kill mainaccount account:read trade:read_write"
        assert await derib.code(ws, "private/enable_cancel_on_disconnect") == 13021
        await derib.ok(ws, "public/auth", **derib.login(scope="trade:read"))
        assert await derib.ok(ws, "private/get_open_orders") == []
        assert await derib.code(ws, "private/cancel_all") == 13021


async def test_a_key_that_may_only_read_says_so_in_its_scope(sim: Sim, derib: Derib) -> None:
    await sim.fault("deribit", "read_only_key")
    async with derib.socket(login=False) as ws:
        reply = await derib.ok(ws, "public/auth", **derib.login(scope="trade:read_write"))
        assert reply["scope"] == "connection mainaccount trade:read"
        assert await derib.code(ws, "private/cancel_all") == 13021


async def test_a_token_ends_with_its_connection_and_that_of_a_session_does_not(derib: Derib) -> None:
    tokens = []
    for scope in ("connection", "session:kill"):
        async with derib.socket(login=False) as ws:
            tokens.append((await derib.ok(ws, "public/auth", **derib.login(scope=scope)))["access_token"])
    async with derib.socket(login=False) as ws:
        assert await derib.code(ws, "private/get_open_orders") == 13009
        assert await derib.code(ws, "private/get_open_orders", access_token=tokens[0]) == 13009
        assert await derib.ok(ws, "private/get_open_orders", access_token=tokens[1]) == []


async def test_the_seventeenth_session_ends_the_oldest_without_a_word(derib: Derib) -> None:
    async with derib.socket(scope="session:first") as first, derib.socket(scope="session:second") as second:
        for number in range(14):
            async with derib.socket(scope=f"session:{number}"):
                pass
        assert await derib.ok(first, "private/get_open_orders") == []
        async with derib.socket(scope="session:last"):
            assert await derib.code(first, "private/get_open_orders") == 13009
            assert await derib.ok(second, "private/get_open_orders") == []


async def test_a_token_ends_and_is_refreshed_once(sim: Sim) -> None:
    async with set_to(expires_in="1") as (_, derib), derib.socket(login=False) as ws:
        reply = await derib.ok(ws, "public/auth", **derib.login())
        assert reply["expires_in"] == 1
        await anyio.sleep(1.05)
        assert await derib.code(ws, "private/get_open_orders") == 13009
        again = {"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}
        assert await derib.ok(ws, "public/auth", **again)
        assert await derib.ok(ws, "private/get_open_orders") == []
        assert await derib.code(ws, "public/auth", **again) == 13009


# ── JSON-RPC (§2, §8) ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_repeats_the_id_and_has_its_times(derib: Derib) -> None:
    async with derib.socket(login=False) as ws:
        await ws.send('{"jsonrpc":"2.0","id":"a-7","method":"public/get_time"}')
        answer = await receive(ws)
    assert (answer["jsonrpc"], answer["id"], answer["testnet"]) == ("2.0", "a-7", False)
    assert answer["usOut"] - answer["usIn"] == answer["usDiff"] >= 0
    assert abs(answer["result"] - time.time() * 1000) < 60_000


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("private/cancel_everything", {}, {"code": -32601, "message": "Method not found"}),
        ("private/cancel", None, {"code": -32000, "message": "Missing params"}),
        ("private/cancel", {"label": "x"}, ("unknown parameter", "label")),
        ("private/cancel_by_label", {"currency": "BTC"}, ("value required", "label")),
        ("private/cancel_all", {"detailed": "true"}, ("wrong format", "detailed")),
        ("private/cancel_all", {"include_isolated": True}, ("unknown parameter", "include_isolated")),
        ("private/cancel_all_by_currency", {"currency": "DOGE"}, ("invalid currency", "currency")),
        ("private/get_open_orders", {"type": "stop"}, ("invalid type", "type")),
        ("private/cancel_all", [], ("must be an object", "params")),
        ("private/unsubscribe", {"channels": [{}]}, ("wrong format", "channels")),
    ],
)
async def test_a_wrong_request_is_refused(derib: Derib, method: str, params: object, error: Any) -> None:
    if isinstance(error, tuple):
        data = dict(zip(("reason", "param"), error, strict=True))
        error = {"code": -32602, "message": "Invalid params", "data": data}
    body = {"jsonrpc": "2.0", "id": 1, "method": method} | ({} if params is None else {"params": params})
    over_http = await derib.post(body)
    assert (over_http.status_code, over_http.json()["error"]) == (400, error)
    async with derib.socket() as ws:
        await ws.send(json.dumps(body))
        assert (await receive(ws))["error"] == error


async def test_a_malformed_request_is_refused_and_the_socket_stays(derib: Derib) -> None:
    large = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "public/test", "params": {"expected_result": "x" * 32_768}}
    )
    wrong = [("{", 11050), ("[]", 11050), ('{"id":1,"method":"public/test"}', 11050), (large, -32600)]
    wrong.append(('{"jsonrpc":"2.0","method":"public/test"}', 11050))
    async with derib.socket(login=False) as ws:
        for text, code in wrong:
            await ws.send(text)
            answer = await receive(ws)
            assert answer["error"]["code"] == code
            if text in ("{", "[]"):
                assert (answer["error"]["data"], "id" in answer) == ("invalid json", False)
            over_http = await derib.post(text)
            assert (over_http.status_code, over_http.json()["error"]["code"]) == (400, code)
        assert (await derib.ok(ws, "public/test"))["version"]


async def test_a_parameter_twice_in_a_query_is_refused(sim: Sim, derib: Derib) -> None:
    [_] = await sim.rest_orders("deribit", 1)
    answer = await derib.get("private/cancel_all?detailed=false&detailed=true")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)
    assert await sim.open("deribit") == 1


async def test_methods_of_a_session_are_refused_over_http(derib: Derib) -> None:
    for answer in (
        await derib.get("private/enable_cancel_on_disconnect"),
        await derib.get("public/set_heartbeat", interval=10),
        await derib.get("private/subscribe", channels='["user.lock"]'),
    ):
        assert answer.json()["error"]["code"] == 10030


# ── cancelling (§3) ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_detailed_cancel_all_has_a_report_for_each_currency_type_and_book(sim: Sim, derib: Derib) -> None:
    bitcoins = await sim.rest_orders("deribit", 2)
    [stop] = await sim.rest_orders("deribit", 1, kind="stop", symbol="ETH-PERPETUAL")
    [quote] = await sim.rest_orders("deribit", 1, kind="quote", symbol="SOL_USDC-PERPETUAL")
    async with derib.socket() as ws:
        found = await derib.ok(ws, "private/cancel_all", detailed=True, freeze_quotes=True)
        shown = {
            (one["currency"], one["type"], one["instrument_name"]): [
                (order["order_id"], order["order_state"]) for order in one["result"]
            ]
            for one in found
        }
        assert shown == {
            ("BTC", "limit", "BTC-PERPETUAL"): [(one, "cancelled") for one in bitcoins],
            ("ETH", "trigger", "ETH-PERPETUAL"): [(stop, "untriggered")],
            ("USDC", "limit", "SOL_USDC-PERPETUAL"): [(quote, "cancelled")],
        }
        assert await derib.ok(ws, "private/cancel_all", detailed=True) == []
        assert await derib.ok(ws, "private/cancel_all") == 0
    assert await sim.open("deribit") == 0
    assert stop.startswith("ETH-SL") and quote.startswith("USDC-") and bitcoins[0].isdigit()


async def test_a_full_queue_is_an_error_inside_the_success_and_a_smaller_count(sim: Sim, derib: Derib) -> None:
    await sim.rest_orders("deribit", 2)
    await sim.rest_orders("deribit", 1, symbol="ETH-PERPETUAL")
    await sim.post("/options", venue="deribit", queue_full="ETH")
    answer = await derib.get("private/cancel_all", detailed=True)
    assert answer.status_code == 200
    failed = {"currency": "ETH", "type": "limit", "error": {"message": "matching_engine_queue_full", "code": 10047}}
    assert answer.json()["result"][1:] == [failed]
    assert (await derib.get("private/cancel_all")).json()["result"] == 0
    await sim.post("/options", venue="deribit", queue_full="")
    assert (await derib.get("private/cancel_all", detailed=False)).json()["result"] == 1


async def test_a_liquidation_order_is_listed_and_not_cancelled(sim: Sim, derib: Derib) -> None:
    await sim.post("/options", venue="deribit", liquidation=1)
    [one] = [order["id"] for order in (await sim.get("/orders", venue="deribit"))["orders"]]
    [report] = (await derib.get("private/cancel_all", detailed=True)).json()["result"]
    assert report["error"]["code"] == 10045
    assert (await derib.get("private/cancel", order_id=one)).json()["error"]["code"] == 10045
    [row] = (await derib.get("private/get_open_orders")).json()["result"]
    assert (row["order_id"], row["is_liquidation"]) == (one, True)


async def test_rfq_quotes_and_starbase_orders_are_elsewhere(sim: Sim, derib: Derib) -> None:
    async with derib.socket("user.orders.any.any.raw") as ws:
        await sim.post("/options", venue="deribit", rfq=1, starbase=1)
        quote = (await sim.get("/orders", venue="deribit"))["orders"][0]["id"]
        [one] = await sim.rest_orders("deribit", 1)
        assert (await receive(ws))["params"]["data"]["order_id"] == one
        assert await derib.ok(ws, "private/cancel_all") == 1
        assert await derib.ok(ws, "private/get_open_orders") == []
        assert await sim.open("deribit") == 2
        [row] = await derib.ok(ws, "private/get_block_rfq_quotes")
        assert str(row["block_rfq_id"]) in quote
        assert await derib.ok(ws, "private/cancel_all_block_rfq_quotes") == 1
        assert await derib.ok(ws, "private/get_block_rfq_quotes") == []
    assert [order["kind"] for order in (await sim.get("/orders", venue="deribit"))["orders"]] == ["starbase"]
    async with derib.socket(scope="trade:read_write") as ws:
        assert await derib.code(ws, "private/cancel_all_block_rfq_quotes") == 13021


@pytest.mark.parametrize(
    ("method", "params", "left"),
    [
        ("cancel_all_by_currency", {"currency": "ETH"}, {"limit", "stop", "take", "quote"}),
        ("cancel_all_by_currency", {"currency": "BTC", "type": "stop"}, {"limit", "take", "trailing_stop", "quote"}),
        ("cancel_all_by_currency", {"currency": "BTC", "type": "limit"}, {"stop", "take", "trailing_stop"}),
        ("cancel_all_by_currency_pair", {"currency_pair": "eth_usd"}, {"limit", "stop", "take", "quote"}),
        ("cancel_all_by_instrument", {"instrument_name": "BTC-PERPETUAL"}, {"take", "trailing_stop"}),
        ("cancel_all_by_kind_or_type", {"kind": "option"}, {"limit", "stop", "quote", "trailing_stop"}),
        ("cancel_all_by_kind_or_type", {"currency": ["BTC"], "type": "limit"}, {"stop", "take", "trailing_stop"}),
        ("cancel_quotes", {"cancel_type": "all"}, {"limit", "stop", "take", "trailing_stop"}),
    ],
)  # fmt: skip
async def test_a_narrower_cancel_spares_the_rest(
    sim: Sim, derib: Derib, method: str, params: dict[str, Any], left: set[str]
) -> None:
    for kind, symbol in (
        ("limit", "BTC-PERPETUAL"),
        ("stop", "BTC-PERPETUAL"),
        ("quote", "BTC-PERPETUAL"),
        ("take", "BTC-31DEC27-90000-P"),
        ("trailing_stop", "ETH-PERPETUAL"),
    ):
        await sim.rest_orders("deribit", 1, kind=kind, symbol=symbol)
    async with derib.socket() as ws:
        assert await derib.ok(ws, f"private/{method}", **params) == 5 - len(left)
    assert {order["kind"] for order in (await sim.get("/orders", venue="deribit"))["orders"]} == left


async def test_a_single_cancel_says_why_there_is_nothing_to_cancel() -> None:
    async with running("deribit", accounts=2) as sim:
        derib = Derib(sim)
        async with derib.socket() as ws:
            [one] = await sim.rest_orders("deribit", 1)
            [others] = await sim.rest_orders("deribit", 1, account="deribit-2")
            assert (await derib.ok(ws, "private/cancel", order_id=one))["cancel_reason"] == "user_request"
            sold = (await derib.ok(ws, "private/sell", instrument_name="BTC-PERPETUAL", amount=10, type="market"))[
                "order"
            ]
            expected = [(one, 10010), (others, 10029), ("1", 10004), (sold["order_id"], 11008)]
            assert [await derib.code(ws, "private/cancel", order_id=order) for order, _ in expected] == [
                code for _, code in expected
            ]
            assert (await derib.ok(ws, "private/get_order_state", order_id=one))["order_state"] == "cancelled"


async def test_a_trigger_that_fires_becomes_an_order_with_another_id(sim: Sim, derib: Derib) -> None:
    [one] = await sim.rest_orders("deribit", 1, kind="stop_limit")
    async with derib.socket("user.orders.any.any.raw") as ws:
        [row] = await derib.ok(ws, "private/get_open_orders", type="trigger_all")
        assert (row["order_state"], "filled_amount" in row, row["trigger_price"]) == ("untriggered", False, 65_000)
        await sim.post("/options", venue="deribit", mark_price=65_000)
        events = [(await receive(ws))["params"]["data"] for _ in range(2)]
        assert [event["order_state"] for event in events] == ["triggered", "open"]
        assert events[1]["trigger_order_id"] == one != events[1]["order_id"]
        assert await derib.code(ws, "private/cancel", order_id=one) == 11044
        [entry] = (await derib.ok(ws, "private/get_trigger_order_history", currency="BTC"))["entries"]
        assert (entry["trigger_order_id"], entry["order_id"]) == (one, events[1]["order_id"])
        assert await derib.ok(ws, "private/cancel_all") == 1
    assert await sim.open("deribit") == 0


async def test_linked_orders_end_with_each_other(derib: Derib) -> None:
    leg = {"amount": 10, "type": "stop_market", "trigger": "mark_price", "trigger_price": 50_000}
    order = {"instrument_name": "BTC-PERPETUAL", "amount": 10, "price": 59_000, "otoco_config": [leg]}
    async with derib.socket() as ws:
        for link, reason in (("one_triggers_other", "oto_primary_closed"), ("one_cancels_other", "oco_other_closed")):
            placed = (await derib.ok(ws, "private/buy", **order, linked_order_type=link))["order"]
            rows = await derib.ok(ws, "private/get_open_orders")
            [other] = [row["order_id"] for row in rows if row["order_id"] != placed["order_id"]]
            await derib.ok(ws, "private/cancel", order_id=placed["order_id"])
            assert (await derib.ok(ws, "private/get_order_state", order_id=other))["cancel_reason"] == reason


async def test_mass_quotes_need_cancel_on_disconnect_and_are_frozen_for_a_second(sim: Sim, derib: Derib) -> None:
    quotes = [
        {"instrument_name": "BTC-PERPETUAL", "side": side, "amount": 10, "price": 9.0} for side in ("buy", "sell")
    ]
    batch = {"quote_id": "1", "mmp_group": "mm", "quotes": quotes}
    async with derib.socket() as ws:
        assert await derib.code(ws, "private/mass_quote", **batch) == 13042
        await derib.ok(ws, "private/enable_cancel_on_disconnect")
        assert await derib.code(ws, "private/mass_quote", quote_id="1", quotes=quotes) == 13040
        placed = (await derib.ok(ws, "private/mass_quote", **batch))["orders"]
        assert [order["quote"] for order in placed] == [True, True]
        assert await derib.ok(ws, "private/cancel_all", freeze_quotes=True) == 2
        assert await derib.code(ws, "private/mass_quote", **batch) == 13043
        assert await sim.open("deribit") == 0


async def test_a_secondary_wakes_when_its_primary_is_filled(derib: Derib) -> None:
    legs = [
        {"amount": 10, "type": "limit", "price": 70_000},
        {"amount": 10, "type": "stop_market", "trigger": "mark_price", "trigger_price": 50_000},
    ]
    order = {"instrument_name": "BTC-PERPETUAL", "amount": 10, "type": "market", "otoco_config": legs}
    async with derib.socket() as ws:
        await derib.ok(ws, "private/buy", **order, linked_order_type="one_triggers_one_cancels_other")
        rows = await derib.ok(ws, "private/get_open_orders")
        assert {row["order_type"]: row["order_state"] for row in rows} == {
            "limit": "open",
            "stop_market": "untriggered",
        }
        await derib.ok(ws, "private/cancel", order_id=rows[0]["order_id"])
        assert await derib.ok(ws, "private/get_open_orders") == []


# ── streams, heartbeats, cancel-on-disconnect (§5, §6) ────────────────────────────────────────────────────────────


async def test_an_acknowledgement_leaves_out_channels_that_are_unknown_or_forbidden(derib: Derib) -> None:
    asked = ["user.orders.any.any.raw", "user.orders.any.raw.any", "user.portfolio.any", "user.ordres.any.any.raw"]
    asked += ["user.lock", "platform_state", "user.changes.BTC-PERPETUAL.100ms"]
    async with derib.socket(scope="trade:read") as ws:
        accepted = [asked[0], "platform_state", "user.changes.BTC-PERPETUAL.100ms"]
        assert await derib.ok(ws, "private/subscribe", channels=asked) == accepted
        assert await derib.ok(ws, "private/subscribe", channels=["user.orders"]) == []
    async with derib.socket(login=False) as ws:
        assert await derib.code(ws, "private/subscribe", channels=asked) == 13009
        assert await derib.code(ws, "public/subscribe", channels=asked) == 13778


async def test_order_events_are_objects_or_lists_and_begin_without_a_snapshot(sim: Sim, derib: Derib) -> None:
    await sim.rest_orders("deribit", 1)
    channels = ("user.orders.any.any.raw", "user.orders.BTC-PERPETUAL.100ms", "user.changes.any.BTC.raw")
    async with derib.socket(*channels) as ws:
        await sim.rest_orders("deribit", 1, symbol="ETH-PERPETUAL")
        [one] = await sim.rest_orders("deribit", 1)
        events = [(await receive(ws))["params"] for _ in range(4)]
        shapes = [(event["channel"], event["data"]) for event in events]
        assert shapes[0][1]["instrument_name"] == "ETH-PERPETUAL"
        assert {name for name, _ in shapes[1:]} == set(channels)
        data = dict(shapes[1:])
        assert data[channels[0]]["order_id"] == data[channels[1]][0]["order_id"] == one
        assert data[channels[2]]["orders"][0]["order_id"] == one


async def test_a_lock_and_a_maintenance_are_pushed(sim: Sim, derib: Derib) -> None:
    async with derib.socket("user.lock", "platform_state") as ws:
        await sim.post("/options", venue="deribit", locked=True)
        assert (await receive(ws))["params"]["data"] == {"currency": "ALL", "locked": True}
        assert await derib.code(ws, "private/buy", instrument_name="BTC-PERPETUAL", amount=10, price=1) == 10019
        await sim.fault("deribit", "maintenance")
        assert (await receive(ws))["params"]["data"] == {"maintenance": True}
        assert await derib.code(ws, "private/cancel_all") == 11051


async def test_the_pause_for_settlement_refuses_cancels(sim: Sim, derib: Derib) -> None:
    await sim.rest_orders("deribit", 1)
    await sim.post("/options", venue="deribit", settling=True)
    assert (await derib.get("private/cancel_all")).json()["error"]["message"] == "settlement_in_progress"
    await sim.post("/options", venue="deribit", settling_cancels=True)
    assert (await derib.get("private/cancel_all")).json()["result"] == 1


async def test_the_orders_of_a_websocket_end_with_it_and_those_of_others_do_not(sim: Sim, derib: Derib) -> None:
    order = {"instrument_name": "BTC-PERPETUAL", "amount": 10, "price": 1.0}
    async with derib.socket() as keeper:
        kept = (await derib.ok(keeper, "private/buy", **order))["order"]["order_id"]
        async with derib.socket() as ws:
            assert await derib.ok(ws, "private/enable_cancel_on_disconnect") == "ok"
            gone = (await derib.ok(ws, "private/buy", **order))["order"]["order_id"]
        await sim.until_open("deribit", 1)
        state = await derib.ok(keeper, "private/get_order_state", order_id=gone)
        assert state["cancel_reason"] == "cancel_on_disconnect"
        async with derib.socket() as ws:
            await derib.ok(ws, "private/enable_cancel_on_disconnect", scope="account")
            off = await derib.ok(ws, "private/get_cancel_on_disconnect", scope="connection")
            assert off == {"scope": "connection", "enabled": False}
            async with derib.socket() as later:
                assert (await derib.ok(later, "private/get_cancel_on_disconnect"))["enabled"] is True
                await derib.ok(later, "private/buy", **order)
                await derib.send(later, "private/logout")
                with pytest.raises(ConnectionClosed):
                    await later.recv()
        assert await sim.open("deribit") == 2 and kept


async def test_silence_ends_a_websocket_that_has_no_subscription() -> None:
    async with set_to(idle_s="0.2") as (_, derib), derib.socket("user.lock") as kept:
        async with derib.socket() as ws:
            with pytest.raises(ConnectionClosed), anyio.fail_after(5):
                await receive_until_closed(ws)
            assert ws.close_code == 1006
        assert await derib.ok(kept, "public/test")


# ── limits (§5, §7) ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancel_all_has_a_pool_of_its_own(sim: Sim, derib: Derib) -> None:
    await sim.rest_orders("deribit", 1)
    async with derib.socket() as kill, derib.socket() as bot:
        await sim.fault("deribit", "foreign_use", per_s=2000)
        await anyio.sleep(0.05)
        assert await derib.code(bot, "private/cancel_all_by_currency", currency="BTC") == 10028
        with pytest.raises(ConnectionClosed):
            await receive(bot)
        assert await derib.ok(kill, "private/cancel_all_by_kind_or_type", currency="any") == 1
        assert await derib.ok(kill, "private/cancel_all") == 0


async def test_too_many_requests_end_the_connection(derib: Derib) -> None:
    async with derib.socket() as ws:
        for _ in range(130):
            await derib.send(ws, "private/get_open_orders")
        while (answer := await receive(ws)).get("error", {}).get("code") != 10028:
            assert "result" in answer
        with pytest.raises(ConnectionClosed):
            await receive(ws)
    for _ in range(130):
        answer = await derib.get("private/get_open_orders")
        if answer.status_code == 429:
            break
    assert answer.headers["connection"] == "close" and answer.json()["error"]["message"] == "too_many_requests"


@pytest.mark.parametrize(("limited", "code"), [("close", 1000), ("drop", 1006)])
async def test_requests_without_a_login_are_limited_by_their_address(limited: str, code: int) -> None:
    async with set_to(limited=limited) as (_, derib), derib.socket() as logged_in:
        async with derib.socket(login=False) as ws:
            for _ in range(130):
                await derib.send(ws, "public/get_time")
            with pytest.raises(ConnectionClosed), anyio.fail_after(5):
                await receive_until_closed(ws)
            assert ws.close_code == code
        assert await derib.ok(logged_in, "private/get_open_orders") == []


async def test_a_list_can_fail_over_the_websocket_too(sim: Sim, derib: Derib) -> None:
    async with derib.socket() as ws:
        await sim.fault("deribit", "partial_list", times=1)
        assert await derib.code(ws, "private/get_open_orders") == 11094
        assert await derib.ok(ws, "private/get_open_orders") == []


async def test_the_connection_above_the_limit_is_refused() -> None:
    async with set_to(connections="2") as (_, derib), derib.socket(login=False), derib.socket(login=False):
        assert (await derib.get("public/get_time")).status_code == 429
        with pytest.raises(Exception, match="429"):
            async with derib.socket(login=False):
                pass


# ── money (§7, §9) ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_money_of_all_currencies_is_the_equity(sim: Sim, derib: Derib) -> None:
    await sim.post("/equity", venue="deribit", equity="90000", unrealised="-500")
    rows = (await derib.get("private/get_account_summaries", extended=True)).json()["result"]["summaries"]
    total = 0.0
    for row in rows:
        index = f"{row['currency'].lower()}_usd"
        total += (
            row["equity"]
            * (await derib.get("public/get_index_price", index_name=index)).json()["result"]["index_price"]
        )
    assert total == 90_000
    assert rows[0]["limits"]["matching_engine"]["cancel_all"] == {"burst": 250, "rate": 200}
    async with derib.socket("user.portfolio.usdc") as ws:
        await sim.post("/equity", venue="deribit", equity="80000")
        event = (await receive(ws))["params"]
        assert (event["channel"], event["data"]["equity"]) == ("user.portfolio.usdc", 56_000)


# ── heartbeats, in virtual time (§5) ──────────────────────────────────────────────────────────────────────────────


class TestHeartbeats:
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return ("asyncio", {"loop_factory": VirtualTimeLoop})

    async def test_test_requests_come_as_measured_and_one_without_an_answer_ends_the_websocket(self) -> None:
        async with set_to() as (sim, derib), derib.socket() as ws:
            loop = asyncio.get_running_loop()
            assert await derib.code(ws, "public/set_heartbeat", interval=9) == -32602
            assert await derib.ok(ws, "public/set_heartbeat", interval=10) == "ok"
            began_s, asked_s = loop.time(), []
            order = {"instrument_name": "BTC-PERPETUAL", "amount": 10, "price": 1.0}
            await derib.ok(ws, "private/buy", **order)
            await derib.ok(ws, "private/enable_cancel_on_disconnect")

            async def answer_two() -> None:
                while True:
                    message = json.loads(await ws.recv())
                    if message.get("params") == {"type": "test_request"}:
                        asked_s.append(loop.time() - began_s)
                        if len(asked_s) < 3:
                            await derib.send(ws, "public/test")

            with pytest.raises(ConnectionClosed) as end:
                await answer_two()
            assert [round(at_s, 1) for at_s in asked_s] == [12.3, 22.9, 33.5]
            assert end.value.rcvd is not None
            assert (end.value.rcvd.code, end.value.rcvd.reason) == (4000, "heartbeat close")
            assert round(loop.time() - began_s, 1) == 43.5
            await sim.until_open("deribit", 0)

    async def test_a_connection_of_http_ends_after_a_quarter_of_an_hour(self) -> None:
        async with set_to() as (sim, _):
            host, port = sim.venue("deribit")["rest_url"].removeprefix("https://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=sim.tls)
            began_s = asyncio.get_running_loop().time()
            assert await reader.read() == b""
            assert round(asyncio.get_running_loop().time() - began_s) == 900
            writer.close()
