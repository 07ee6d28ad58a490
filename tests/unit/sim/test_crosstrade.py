"""Hold the CrossTrade simulator against docs/venues/crosstrade.md (§ numbers are its own) and a seed."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close

from kill_switch.sim import serve
from kill_switch.sim.kit.limits import PoolSpec, RatePools

from .clients import Sim, receive, running

pytestmark = pytest.mark.anyio

SEED_ORDER = "ce0a8e5002ea463e856eb6384f5cee7e"
SEED_RPC_ORDER = "492281fc515e431692da57d957cfebb6"
SEED = """
token = 'my-secret-token'
url = "https://app.crosstrade.io/v1/api/accounts/Sim101/orders/ce0a8e5002ea463e856eb6384f5cee7e/cancel"
headers = {
"Authorization": f"Bearer {token}",
"Content-Type": "application/json"
}
data = {}
try:
    response = requests.post(url, headers=headers, json=data)
    print(f"Response Code: {response.status_code}, Response Text: {response.text}")
except Exception as e:
    print(f"An error occurred: {e}")
"""
SEED_RPC = """
{
"action": "rpc",
"id": "my-request-id",
"api": "Cancel",
"args": {
"account": "Sim101",
"orderId": "492281fc515e431692da57d957cfebb6"
}
}
"""


class Cross:
    """Talk to the simulator as a client of its own, with the token alone."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.entry = sim.venue("crosstrade")
        self.headers = {"Authorization": f"Bearer {self.entry['credentials']['token']}"}

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        content = b"" if method == "GET" else json.dumps({} if body is None else body).encode()
        url = f"{self.entry['rest_url']}/v1/api{path}"
        return await self.sim.web.request(method, url, content=content, headers=self.headers | headers)

    async def good(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.call(method, path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def cancel_all(self, account: str = "Sim101", body: object = None) -> httpx.Response:
        return await self.call("POST", f"/accounts/{account}/orders/cancel", body)

    async def options(self, **options: object) -> None:
        await self.sim.post("/options", venue="crosstrade", **options)

    async def rest(self, count: int = 3, **more: Any) -> list[str]:
        return await self.sim.rest_orders("crosstrade", count, **more)

    async def until_open(self, count: int) -> None:
        await self.sim.until_open("crosstrade", count)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        async with websockets.connect(self.entry["ws_url"], ssl=self.sim.tls, additional_headers=self.headers) as ws:
            yield ws


@pytest.fixture
async def cross(anyio_backend: object) -> AsyncIterator[Cross]:
    async with running("crosstrade", options={"crosstrade": {"nt_accounts": "Sim101,Live1"}}) as sim:
        yield Cross(sim)


async def rpc(ws: ClientConnection, api: str, tag: str = "req-1", **args: str) -> Any:
    await ws.send(json.dumps({"action": "rpc", "id": tag, "api": api, "args": args}))
    return await receive(ws)


async def closed(ws: ClientConnection) -> ConnectionClosed:
    """Wait for the end of a connection that says nothing more."""
    with pytest.raises(ConnectionClosed) as end, anyio.fail_after(5):
        await ws.recv()
    return end.value


# ── the seed ──────────────────────────────────────────────────────────────────────────────────────────────────────


def run_seed(cross: Cross) -> None:
    """Run the seed's own Python, unchanged but for address, token and indentation."""
    text = SEED.replace("https://app.crosstrade.io", cross.entry["rest_url"])
    text = text.replace("my-secret-token", cross.entry["credentials"]["token"])
    with httpx.Client(verify=cross.sim.tls, trust_env=False) as client:
        exec(text, {"requests": client})  # noqa: S102 - the seed's own text; its post() is that of requests


async def test_the_seeds_python_cancels_its_order(cross: Cross, capsys: pytest.CaptureFixture[str]) -> None:
    await cross.rest(ids=[SEED_ORDER], count=1)
    await anyio.to_thread.run_sync(run_seed, cross)
    told = capsys.readouterr().out
    assert told == f'Response Code: 200, Response Text: {{"orderId":"{SEED_ORDER}","success":true}}\n'
    await cross.until_open(0)


async def test_the_seeds_python_hears_that_its_order_is_gone(cross: Cross, capsys: pytest.CaptureFixture[str]) -> None:
    await anyio.to_thread.run_sync(run_seed, cross)
    words = f"Order linked to '{SEED_ORDER}' not found or already terminal."
    assert capsys.readouterr().out == f'Response Code: 400, Response Text: {{"error":"{words}"}}\n'


async def test_the_seeds_frame_cancels_its_order(cross: Cross) -> None:
    await cross.rest(ids=[SEED_RPC_ORDER], count=1)
    async with cross.socket() as ws:
        await ws.send(SEED_RPC)
        assert await receive(ws) == {"id": "my-request-id", "data": {"orderId": SEED_RPC_ORDER, "success": True}}
        await cross.until_open(0)
        await ws.send(SEED_RPC)
        error = f"Order linked to '{SEED_RPC_ORDER}' not found or already terminal."
        assert await receive(ws) == {"id": "my-request-id", "error": error}


async def test_a_body_that_is_no_object_is_an_invalid_request(cross: Cross) -> None:
    answer = await cross.cancel_all(body=[])
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid request"})
    url = f"{cross.entry['rest_url']}/v1/api/accounts/Sim101/orders/cancel"
    assert (await cross.sim.web.post(url, content=b"{", headers=cross.headers)).status_code == 400


# ── addresses and the token (§1) ──────────────────────────────────────────────────────────────────────────────────


async def test_the_ready_line_says_how_to_log_in(cross: Cross) -> None:
    assert set(cross.entry["credentials"]) == {"token"}
    assert cross.entry["options"] == {"nt_accounts": ["Sim101", "Live1"]}
    assert cross.entry["ws_url"].endswith("/ws/stream")


async def test_the_usual_account_is_sim101() -> None:
    async with running("crosstrade") as sim:
        assert sim.venue("crosstrade")["options"] == {"nt_accounts": ["Sim101"]}


@pytest.mark.parametrize("names", [" , ", "Sim101,SIM101"])
async def test_account_names_that_cannot_be_are_refused_at_start(names: str) -> None:
    with pytest.raises(ValueError, match="nt_accounts"):
        async with serve(["crosstrade"], options={"crosstrade": {"nt_accounts": names}}):
            pass


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic {token}", "{token}"])
async def test_every_request_and_the_upgrade_need_the_token(cross: Cross, header: str) -> None:
    value = header.format(token=cross.entry["credentials"]["token"])
    assert (await cross.call("GET", "/orders", Authorization=value)).status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        async with websockets.connect(
            cross.entry["ws_url"], ssl=cross.sim.tls, additional_headers={"Authorization": value}
        ):
            pass
    assert refused.value.response.status_code == 401


async def test_a_wrong_path_below_the_api_gets_a_hint_and_elsewhere_the_marketing_site(cross: Cross) -> None:
    answer = await cross.call("GET", "/order")
    assert answer.status_code == 404 and answer.json()["did_you_mean"] == "/v1/api/orders"
    assert (await cross.call("DELETE", "/accounts/Sim101/orders/1")).status_code == 404
    answer = await cross.sim.web.get(f"{cross.entry['rest_url']}/api/orders", headers=cross.headers)
    assert answer.status_code == 404 and answer.text.startswith("<!doctype html>")
    with pytest.raises(InvalidStatus):
        async with websockets.connect(
            cross.entry["rest_url"].replace("https", "wss") + "/ws", ssl=cross.sim.tls, additional_headers=cross.headers
        ):
            pass


async def test_the_catalogue_names_every_call(cross: Cross) -> None:
    listed = (await cross.good("GET", "/_endpoints"))["endpoints"]
    assert {"method": "GET", "path": "/v1/api/orders", "rpc": ["GetAllOrders"]} in listed


# ── cancels (§4) ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_accounts_orders_are_cancelled_and_the_others_stay(cross: Cross) -> None:
    ids = await cross.rest(2) + await cross.rest(1, kind="stop")
    await cross.rest(1, inst_type="Live1")
    assert (await cross.cancel_all("sim101")).json() == {"orderIds": ids, "success": True}
    await cross.until_open(1)
    assert await cross.sim.states("crosstrade") == {"Cancelled": 3, "Working": 1}


async def test_an_instrument_narrows_it(cross: Cross) -> None:
    await cross.rest(2)
    [one] = await cross.rest(1, symbol="NQ 09-26")
    assert (await cross.cancel_all(body={"instrument": "NQ"})).json()["orderIds"] == [one]
    await cross.until_open(2)


async def test_an_order_passes_cancel_pending_and_cancel_submitted(cross: Cross) -> None:
    await cross.options(engine_ms=300, submitted_ms=100)
    [one] = await cross.rest(1)
    seen: list[str] = []
    async with cross.socket() as ws:
        await rpc(ws, "CancelOrders", account="Sim101")
        while not seen or seen[-1] != "Cancelled":
            [state] = [*await cross.sim.states("crosstrade")]
            seen += [state] if state not in seen else []
            await anyio.sleep(0.01)
        assert seen == ["CancelPending", "CancelSubmitted", "Cancelled"]
        assert (await rpc(ws, "GetOrder", account="Sim101", orderId=one))["data"]["orderState"] == "Cancelled"


async def test_an_order_that_is_being_cancelled_may_still_fill_and_is_not_named_again(cross: Cross) -> None:
    await cross.sim.fault("crosstrade", "pending", ms=150, fill=True)
    [one] = await cross.rest(1)
    assert (await cross.cancel_all()).json()["orderIds"] == [one]
    assert (await cross.cancel_all()).json() == {"orderIds": [], "success": True}
    assert (await cross.good("POST", f"/accounts/Sim101/orders/{one}/cancel")) == {"orderId": one, "success": True}
    await cross.until_open(0)
    assert await cross.sim.states("crosstrade") == {"Filled": 1}
    [held] = (await cross.good("GET", "/positions"))["positions"]
    assert (held["account"], held["marketPosition"], held["quantity"]) == ("Sim101", "Long", 1.0)


@pytest.mark.parametrize(
    ("how", "status", "body"),
    [
        ("empty", 200, {"orderIds": [], "success": True}),
        ("warning", 200, {"orderIds": [], "warning": "No working orders", "success": True}),
        ("400", 400, {"error": "No working orders found for account 'Sim101'"}),
    ],
)
async def test_a_cancel_all_without_orders_has_any_of_three_answers(
    cross: Cross, how: str, status: int, body: dict[str, Any]
) -> None:
    await cross.options(nothing=how)
    answer = await cross.cancel_all()
    assert (answer.status_code, answer.json()) == (status, body)


# ── flatten (§4) ──────────────────────────────────────────────────────────────────────────────────────────────────


async def hold(cross: Cross, qty: int, account: str = "Sim101", symbol: str = "ES 09-26") -> None:
    await cross.sim.post("/positions", venue="crosstrade", qty=qty, inst_type=account, symbol=symbol)


async def holding(cross: Cross) -> dict[str, int]:
    listed = (await cross.sim.get("/positions", venue="crosstrade"))["positions"]
    return {f"{one['inst_type']} {one['symbol']}": int(float(one["qty"])) for one in listed}


async def test_a_flatten_cancels_an_accounts_orders_and_closes_its_positions_at_the_market(cross: Cross) -> None:
    await cross.rest(2)
    await cross.rest(1, inst_type="Live1")
    await hold(cross, 3)
    await hold(cross, -2, "Live1")
    answer = await cross.good("POST", "/accounts/sim101/positions/flatten")
    [closed_one] = answer["closedPositions"]
    assert (closed_one["account"], closed_one["marketPosition"], closed_one["quantity"]) == ("Sim101", "Long", 3)
    kinds = [order["orderType"] for order in (await cross.good("GET", "/accounts/Sim101/orders"))["orders"]]
    assert kinds == ["Limit", "Limit", "Market"]  # submitted, and on their way
    await cross.until_open(1)
    assert await holding(cross) == {"Live1 ES 09-26": -2}
    async with cross.socket() as ws:
        assert (await rpc(ws, "Flatten", account="Live1"))["data"]["success"] is True
        await cross.until_open(0)
    assert await holding(cross) == {}


async def test_an_instrument_narrows_a_flatten(cross: Cross) -> None:
    await hold(cross, 1)
    await hold(cross, 2, symbol="NQ 09-26")
    await cross.good("POST", "/accounts/Sim101/positions/flatten", {"instrument": "NQ"})
    await cross.until_open(0)
    assert await holding(cross) == {"Sim101 ES 09-26": 1}


@pytest.mark.parametrize(
    ("how", "status", "body"),
    [
        ("warning", 200, {"closedPositions": [], "warning": "No positions to flatten", "success": True}),
        ("empty", 200, {"closedPositions": [], "success": True}),
        ("400", 400, {"error": "No positions found for account 'Sim101'"}),
    ],
)
async def test_a_flatten_without_positions_has_any_of_three_answers(
    cross: Cross, how: str, status: int, body: dict[str, Any]
) -> None:
    await cross.options(flat=how)
    answer = await cross.call("POST", "/accounts/Sim101/positions/flatten")
    assert (answer.status_code, answer.json()) == (status, body)


async def test_two_flattens_at_once_turn_the_position_round(cross: Cross) -> None:
    await cross.options(close_ms=300, engine_ms=1000)
    await hold(cross, 3)
    for _ in range(2):
        await cross.good("POST", "/accounts/Sim101/positions/flatten")

    async def turned() -> bool:
        return await holding(cross) == {"Sim101 ES 09-26": -3}

    await cross.sim.until(turned)


async def test_an_order_that_closes_can_be_cancelled_and_may_be_filled_in_part(cross: Cross) -> None:
    await cross.options(close_ms=150, engine_ms=0)
    await hold(cross, 4)
    await cross.good("POST", "/accounts/Sim101/positions/flatten")
    await cross.cancel_all()
    await anyio.sleep(0.2)
    assert await holding(cross) == {"Sim101 ES 09-26": 4}
    await cross.options(close_ms=1, close_share=0.5)
    await cross.good("POST", "/accounts/Sim101/positions/flatten")
    await cross.until_open(0)
    assert await holding(cross) == {"Sim101 ES 09-26": 2}
    assert await cross.sim.states("crosstrade") == {"Cancelled": 1, "Rejected": 1}


async def test_faults_hit_a_flatten_too(cross: Cross) -> None:
    flatten = ("POST", "/accounts/Sim101/positions/flatten")
    await hold(cross, 1)
    await hold(cross, 1, symbol="NQ 09-26")
    await cross.sim.fault("crosstrade", "accept_but_keep", times=1)
    assert len((await cross.good(*flatten))["closedPositions"]) == 2
    await anyio.sleep(0.1)
    assert len(await holding(cross)) == 2
    await cross.sim.fault("crosstrade", "partial", keep=1, times=1)
    await cross.good(*flatten)
    await cross.until_open(0)
    assert await holding(cross) == {"Sim101 NQ 09-26": 1}
    await cross.sim.fault("crosstrade", "pending", ms=200, times=1)
    await cross.good(*flatten)
    await anyio.sleep(0.1)
    assert await cross.sim.open("crosstrade") == 1
    await cross.until_open(0)
    await cross.sim.fault("crosstrade", "refuse", status=400, message="no", times=1)
    assert (await cross.call(*flatten)).status_code == 400


async def test_an_order_of_another_account_is_not_found(cross: Cross) -> None:
    [one] = await cross.rest(1, inst_type="Live1")
    assert (await cross.call("POST", f"/accounts/Sim101/orders/{one}/cancel")).status_code == 400
    assert (await cross.call("GET", f"/accounts/Sim101/orders/{one}")).status_code == 400


@pytest.mark.parametrize("api", ["Cancel", "CancelOrder"])
async def test_both_names_cancel_one_order(cross: Cross, api: str) -> None:
    [one] = await cross.rest(1)
    async with cross.socket() as ws:
        assert (await rpc(ws, api, account="Sim101", orderId=one))["data"] == {"orderId": one, "success": True}
    await cross.until_open(0)


async def test_cancel_all_orders_has_either_scope(cross: Cross) -> None:
    await cross.rest(1)
    await cross.rest(1, inst_type="Live1")
    async with cross.socket() as ws:
        assert (await rpc(ws, "CancelAllOrders"))["error"] == "invalid_account"
        assert len((await rpc(ws, "CancelAllOrders", account="Live1"))["data"]["cancelled"]) == 1
        await cross.until_open(1)
    await cross.options(cancelall="everywhere")
    assert len((await cross.good("POST", "/orders/cancelall"))["cancelled"]) == 1
    await cross.until_open(0)


async def test_a_renumbered_order_answers_to_both_ids(cross: Cross) -> None:
    await cross.options(renumber=True, engine_ms=0)
    first, second = await cross.rest(2)
    shown = [item["orderId"] for item in (await cross.good("GET", "/orders"))["orders"]]
    assert first not in shown and len(set(shown)) == 2
    assert (await cross.good("GET", f"/accounts/Sim101/orders/{first}"))["orderState"] == "Working"
    await cross.good("POST", f"/accounts/Sim101/orders/{first}/cancel")
    await cross.good("POST", f"/accounts/Sim101/orders/{shown[1]}/cancel")
    assert second and await cross.sim.open("crosstrade") == 0


# ── reads (§5) ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_lists_show_all_accounts_or_one_and_terminal_orders_by_default(cross: Cross) -> None:
    await cross.options(engine_ms=0)
    await cross.rest(1)
    await cross.rest(1, inst_type="Live1", kind="stop")
    await cross.cancel_all()
    both = (await cross.good("GET", "/orders"))["orders"]
    assert {(item["account"], item["orderState"]) for item in both} == {("Sim101", "Cancelled"), ("Live1", "Accepted")}
    [one] = (await cross.good("GET", "/accounts/LIVE1/orders"))["orders"]
    assert (one["orderType"], one["instrument"], one["quantity"]) == ("StopMarket", "ES 09-26", 1)
    await cross.options(lists_terminal=False)
    assert len((await cross.good("GET", "/orders"))["orders"]) == 1


async def test_the_path_of_all_orders_may_not_be_there(cross: Cross) -> None:
    await cross.options(has_orders=False)
    assert (await cross.call("GET", "/orders")).status_code == 404
    async with cross.socket() as ws:
        assert (await rpc(ws, "GetAllOrders"))["data"]["orders"] == []


async def test_accounts_and_the_snapshot_have_the_equity(cross: Cross) -> None:
    await cross.sim.post("/equity", venue="crosstrade", equity="50500.5", unrealised="-100")
    shown = await cross.good("GET", "/accounts/snapshot")
    assert shown["type"] == "snapshot" and "success" not in shown
    first, second = shown["accounts"]
    assert (first["account"]["name"], second["account"]["name"]) == ("Sim101", "Live1")
    assert first["account"]["item"]["netLiquidation"] == 50500.5 and first["account"]["isAccountFlat"] is False
    assert first["positions"][0]["unrealizedProfitLoss"] == -100.0 and second["positions"] == []
    assert len((await cross.good("GET", "/accounts"))["accounts"]) == 2
    one = await cross.good("GET", "/accounts/live1")
    assert (one["name"], one["connectionStatus"], one["success"]) == ("Live1", "Connected", True)
    marks = (await cross.good("GET", "/accounts/Sim101/watermarks"))["data"]
    assert marks["watermarks"]["netliqhigh"] == 50500.5


@pytest.mark.parametrize("style", ["new", "old"])
async def test_errors_come_in_either_envelope(cross: Cross, style: str) -> None:
    await cross.options(errors=style)
    answer = await cross.call("GET", "/accounts/Sim999/orders")
    words = "Account Sim999 not found"
    new = {"success": False, "error": "invalid_account", "detail": words}
    assert (answer.status_code, answer.json()) == (400, new if style == "new" else {"error": words})


@pytest.mark.parametrize(
    ("style", "frame"),
    [
        ("error", {"error": "invalid_account", "detail": "Account Sim999 not found"}),
        ("data", {"data": {"success": False, "error": "invalid_account", "detail": "Account Sim999 not found"}}),
        ("data-old", {"data": {"error": "Account Sim999 not found"}}),
    ],
)
async def test_an_rpcs_error_comes_in_any_of_three_shapes(cross: Cross, style: str, frame: dict[str, Any]) -> None:
    await cross.options(ws_errors=style)
    async with cross.socket() as ws:
        assert await rpc(ws, "ListOrders", account="Sim999") == {"id": "req-1", **frame}


# ── the add-on (§0, §2) ───────────────────────────────────────────────────────────────────────────────────────────


async def test_without_the_add_on_everything_that_needs_ninjatrader_is_408(cross: Cross) -> None:
    await cross.rest(1)
    await cross.options(addon=False)
    answer = await cross.cancel_all()
    assert (answer.status_code, answer.json()["error"]) == (408, "addon_disconnected")
    assert (await cross.call("GET", "/accounts/snapshot")).status_code == 408
    await cross.good("GET", "/accounts/Sim101/watermarks")  # the server answers that itself
    async with cross.socket() as ws:
        assert (await rpc(ws, "CancelOrders", account="Sim101"))["error"] == "addon_disconnected"
    assert await cross.sim.open("crosstrade") == 1
    await cross.options(addon=True)
    assert (await cross.cancel_all()).status_code == 200


# ── tokens (§3) ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_bucket_allows_its_burst_and_then_its_refill() -> None:
    bucket = RatePools([PoolSpec("tokens", 20, per_s=3)])
    assert [bucket.charge(1, 1000.0, account="a") for _ in range(21)] == [True] * 20 + [False]
    assert [bucket.charge(1, 1001.0, account="a") for _ in range(4)] == [True] * 3 + [False]
    assert [bucket.charge(1, 2000.0, account="a") for _ in range(21)] == [True] * 20 + [False]


async def test_rest_and_websocket_share_twenty_tokens(cross: Cross) -> None:
    await cross.options(per_s=0)
    async with cross.socket() as ws:
        for _ in range(10):
            assert "data" in await rpc(ws, "GetAllOrders")
        answers = [await cross.call("GET", "/orders") for _ in range(11)]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429]
        assert answers[-1].json() == {"error": "Rate limit exceeded"}
        assert answers[-1].headers["Retry-After"] == "1"
        assert await rpc(ws, "CancelOrders", account="Sim101") == {"id": "req-1", "error": "Rate limit exceeded"}


async def test_ten_violations_in_a_row_close_the_websocket(cross: Cross) -> None:
    await cross.options(burst=1, per_s=0)
    async with cross.socket() as ws:
        assert "data" in await rpc(ws, "GetAllOrders")
        for _ in range(10):
            assert "error" in await rpc(ws, "GetAllOrders")
        assert (await closed(ws)).rcvd == Close(1008, "")


async def test_a_message_within_the_limit_forgives_those_before_it(cross: Cross) -> None:
    await cross.options(burst=1, per_s=0)
    async with cross.socket() as ws:
        await rpc(ws, "GetAllOrders")
        for _ in range(3):
            for _ in range(5):
                assert "error" in await rpc(ws, "GetAllOrders")
            await cross.options(burst=1)  # a new bucket
            assert "data" in await rpc(ws, "GetAllOrders")


async def test_changes_of_subscriptions_to_quotes_have_a_budget_of_their_own(cross: Cross) -> None:
    async with cross.socket() as ws:
        for _ in range(5):
            await ws.send('{"action":"subscribe","instruments":["ES 09-26"]}')
            assert (await receive(ws))["type"] == "marketData"
        await ws.send('{"action":"subscribe","instruments":["ES 09-26"]}')
        assert await receive(ws) == {"error": "Rate limit exceeded"}
        assert "data" in await rpc(ws, "GetAllOrders")


async def test_an_account_name_in_a_path_is_decoded() -> None:
    async with running("crosstrade", options={"crosstrade": {"nt_accounts": "My Sim"}}) as sim:
        assert (await Cross(sim).good("GET", "/accounts/My%20Sim"))["name"] == "My Sim"


async def test_a_bucket_of_nothing_is_no_limit(cross: Cross) -> None:
    await cross.options(burst=0)
    for _ in range(40):
        await cross.good("GET", "/orders")


# ── one session for a user (§6) ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("frame", [False, True])
async def test_a_second_connection_takes_the_place_of_the_first(cross: Cross, frame: bool) -> None:
    await cross.options(elsewhere_frame=frame)
    async with cross.socket() as first, cross.socket() as second:
        if frame:
            assert (await receive(first))["error"] == "Session active elsewhere"
        assert (await closed(first)).rcvd == Close(1008, "Session active elsewhere")
        assert "data" in await rpc(second, "GetAllOrders")


async def test_users_do_not_take_each_others_place() -> None:
    async with running("crosstrade", accounts=2) as sim:
        cross = Cross(sim)
        other = {"Authorization": f"Bearer {cross.entry['accounts'][0]['credentials']['token']}"}
        second = websockets.connect(cross.entry["ws_url"], ssl=sim.tls, additional_headers=other)
        async with cross.socket() as ws, second:
            assert "data" in await rpc(ws, "GetAllOrders")


# ── streams and other actions (§6) ────────────────────────────────────────────────────────────────────────────────


async def test_a_ping_is_answered_or_not(cross: Cross) -> None:
    async with cross.socket() as ws:
        await ws.send('{"action":"ping"}')
        assert await receive(ws) == {"type": "pong"}
        await cross.options(pong=False)
        await ws.send('{"action":"ping"}')
        assert "data" in await rpc(ws, "GetAllOrders")


async def test_quotes_and_profits_are_streamed(cross: Cross) -> None:
    async with cross.socket() as ws:
        await ws.send('{"action":"subscribe","instruments":["ES 09-26"]}')
        assert (await receive(ws))["quotes"][0]["instrument"] == "ES 09-26"
        await ws.send('{"action":"unsubscribe","instruments":["ES 09-26"]}')
        await ws.send('{"action":"streamPnl","enabled":true,"interval":100}')
        for _ in range(2):
            frame = await receive(ws)
            assert frame["type"] == "pnlUpdate" and len(frame["accounts"]) == 2
        await ws.send('{"action":"streamPnl","enabled":false}')
        assert (await rpc(ws, "GetAllOrders"))["id"] == "req-1"
        with anyio.move_on_after(0.25):
            assert await ws.recv() is None


async def test_the_figures_that_are_streamed_follow_the_equity_and_may_have_another_shape(cross: Cross) -> None:
    async with cross.socket() as ws:
        await ws.send('{"action":"streamPnl","enabled":true,"interval":100}')
        await cross.sim.post("/equity", venue="crosstrade", equity="90000", unrealised="-10000")
        while (await receive(ws))["accounts"][0]["account"]["item"]["netLiquidation"] != 90000.0:
            pass
        await cross.options(pnl_element="other")
        while (await receive(ws))["accounts"] != [{"pnl": 0.0}]:
            pass


async def test_order_events_are_there_only_where_switched_on(cross: Cross) -> None:
    subscribe = '{"action":"subscribe","id":"e","events":["orders"]}'
    async with cross.socket() as ws:
        await ws.send(subscribe)
        assert (await receive(ws))["id"] == "e"
        await cross.options(order_events=True, engine_ms=0)
        await ws.send(subscribe)
        assert await receive(ws) == {"status": "subscribed", "events": ["orders"]}
        [one] = await cross.rest(1)
        await cross.cancel_all()
        frames = [await receive(ws), await receive(ws)]
    assert [frame["order"]["orderState"] for frame in frames] == ["Working", "Cancelled"]
    assert [frame["order"]["orderId"] for frame in frames] == [one, one]
    assert frames[1]["seq"] == frames[0]["seq"] + 1


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        '{"action":"dance"}',
        '{"action":"subscribe"}',
        '{"action":"rpc","id":"x","api":"Dance"}',
        '{"action":"rpc","id":"x","api":"GetAllOrders","args":[]}',
    ],
)
async def test_an_unreadable_request_gets_an_error(cross: Cross, message: str) -> None:
    async with cross.socket() as ws:
        await ws.send(message)
        assert "error" in await receive(ws)


async def test_an_rpc_without_an_id_is_answered_without_one(cross: Cross) -> None:
    async with cross.socket() as ws:
        await ws.send('{"action":"rpc","api":"GetAllOrders"}')
        assert (await receive(ws)).keys() == {"data"}


# ── faults and the log ────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_cancelling_command_is_logged_as_one(cross: Cross) -> None:
    [one] = await cross.rest(1)
    await cross.call("POST", f"/accounts/Sim101/orders/{one}/cancel")
    await cross.cancel_all()
    async with cross.socket() as ws:
        await rpc(ws, "CancelOrders", account="Sim101")
        await rpc(ws, "CancelAllOrders", account="Sim101")
    seen = [(line["route"], line["what"], line["ok"]) for line in await cross.sim.requests("crosstrade")]
    assert seen == [
        ("http", "cancel", True),
        ("http", "cancel-all", True),
        ("ws", "connect", True),
        ("ws", "cancel-all", True),
        ("ws", "cancel-everywhere", True),
    ]


async def test_accept_but_keep_and_partial_leave_orders(cross: Cross) -> None:
    await cross.options(engine_ms=0)
    ids = await cross.rest(3)
    await cross.sim.fault("crosstrade", "accept_but_keep", times=1)
    assert (await cross.cancel_all()).json()["orderIds"] == ids
    assert await cross.sim.open("crosstrade") == 3
    await cross.sim.fault("crosstrade", "partial", keep=1)
    assert (await cross.cancel_all()).json()["orderIds"] == ids[:2]
    assert await cross.sim.open("crosstrade") == 1


@pytest.mark.parametrize(
    ("fault", "more", "status"),
    [
        ("refuse", {"code": "invalid_account"}, 400),
        ("refuse", {"status": 408}, 408),
        ("rate_limit", {"seconds": 5}, 429),
        ("maintenance", {}, 503),
        ("reject_login", {"on": "all"}, 401),
    ],
)
async def test_refusals_come_over_rest_and_as_frames(cross: Cross, fault: str, more: Any, status: int) -> None:
    async with cross.socket() as ws:
        await cross.sim.fault("crosstrade", fault, **more)
        assert (await cross.cancel_all()).status_code == status
        assert (await rpc(ws, "CancelOrders", account="Sim101"))["error"]


async def test_a_rejected_login_refuses_the_upgrade(cross: Cross) -> None:
    await cross.sim.fault("crosstrade", "reject_login")
    with pytest.raises(InvalidStatus) as refused:
        async with cross.socket():
            pass
    assert refused.value.response.status_code == 401


async def test_the_other_faults_of_the_order_path_work(cross: Cross) -> None:
    await cross.options(engine_ms=0)
    await cross.rest(1)
    await cross.sim.fault("crosstrade", "requote", times=1)
    await cross.cancel_all()
    await cross.until_open(1)  # a bot has placed another
    await cross.sim.fault("crosstrade", "late_order", ms=5)
    await cross.cancel_all()
    await cross.until_open(1)
    await cross.sim.fault("crosstrade", "delay", ms=150, on="cancel")
    began = time.monotonic()
    await cross.cancel_all()
    assert time.monotonic() - began >= 0.15
    await cross.sim.fault("crosstrade", "garble", times=1)
    with pytest.raises(json.JSONDecodeError):
        (await cross.cancel_all()).json()
    async with cross.socket() as ws:
        await cross.sim.fault("crosstrade", "disconnect")
        await closed(ws)
    answer = await cross.sim.admin.post("/faults", json={"venue": "crosstrade", "fault": "skew", "seconds": 5})
    assert answer.status_code == 400  # nothing in its protocol depends on the client's clock


# ── what NinjaTrader does not show ────────────────────────────────────────────────────────────────────────────────


async def test_an_account_that_is_hidden_is_not_known_and_its_orders_rest(cross: Cross) -> None:
    await cross.rest(2, inst_type="Live1")
    await cross.options(hidden="Live1")
    answer = await cross.cancel_all("Live1")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_account")
    assert (await cross.good("GET", "/orders"))["orders"] == []
    names = [account["account"]["name"] for account in (await cross.good("GET", "/accounts/snapshot"))["accounts"]]
    assert names == ["Sim101"] and await cross.sim.open("crosstrade") == 2
    await cross.options(hidden="")
    assert len((await cross.good("GET", "/orders"))["orders"]) == 2


async def test_an_account_that_is_cut_off_is_shown_so_and_its_orders_are_neither_listed_nor_cancelled(
    cross: Cross,
) -> None:
    [one, _] = await cross.rest(2, inst_type="Live1")
    await cross.options(cut_off="Live1")
    assert (await cross.cancel_all("Live1")).json() == {"orderIds": [], "success": True}
    assert (await cross.call("POST", f"/accounts/Live1/orders/{one}/cancel")).status_code == 400
    assert (await cross.call("GET", f"/accounts/Live1/orders/{one}")).status_code == 400
    assert (await cross.good("GET", "/accounts/Live1/orders"))["orders"] == []
    status = {
        one["account"]["name"]: one["account"]["connectionStatus"]
        for one in (await cross.good("GET", "/accounts/snapshot"))["accounts"]
    }
    assert status == {"Sim101": "Connected", "Live1": "ConnectionLost"}
    assert await cross.sim.open("crosstrade") == 2


async def test_reads_may_carry_a_warning_and_cancels_do_not(cross: Cross) -> None:
    await cross.options(warning="stale")
    assert (await cross.good("GET", "/orders"))["warning"] == "stale"
    assert "warning" not in (await cross.cancel_all()).json()


async def test_a_foreign_program_takes_the_tokens_of_its_user_until_it_ends(cross: Cross) -> None:
    await cross.options(burst=1, per_s=0.001)
    await cross.sim.fault("crosstrade", "foreign_use", per_s=200)
    await anyio.sleep(0.05)
    assert (await cross.call("GET", "/orders")).status_code == 429
    await cross.sim.clear("crosstrade")
    await cross.options(burst=1)  # a new bucket
    await anyio.sleep(0.05)
    assert (await cross.call("GET", "/orders")).status_code == 200


async def test_a_foreign_program_of_another_user_takes_nothing(anyio_backend: object) -> None:
    async with running("crosstrade", accounts=2) as sim:
        cross = Cross(sim)
        await cross.options(burst=1, per_s=0.001)
        await sim.fault("crosstrade", "foreign_use", per_s=200, account="crosstrade-2")
        await anyio.sleep(0.05)
        assert (await cross.call("GET", "/orders")).status_code == 200


async def test_a_pace_of_nothing_is_none(cross: Cross) -> None:
    answer = await cross.sim.admin.post("/faults", json={"venue": "crosstrade", "fault": "foreign_use", "per_s": 0})
    assert answer.status_code == 400 and "a number above 0" in answer.json()["error"]
