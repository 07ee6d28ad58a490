"""The last ccxt that had KUNA and OX.FUN at their simulators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.unit.sim.clients import Sim, running

aiohttp = pytest.importorskip("aiohttp")
ccxt = pytest.importorskip("ccxt.async_support")
pro = pytest.importorskip("ccxt.pro")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(pro, "oxfun"), reason="this ccxt has lost them; nox -s clients has an older one"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def client(sim: Sim, kind: Any, keys: dict[str, str], **urls: str) -> AsyncIterator[Any]:
    """Make a client that trusts the simulator; it is told nothing else."""
    exchange = kind({**keys, "enableRateLimit": False})
    exchange.urls["api"] = {**exchange.urls["api"], **urls}
    session = exchange.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=sim.tls))
    exchange.own_session = False
    try:
        yield exchange
    finally:
        await exchange.close()
        await session.close()


async def test_ccxts_kuna_client_lists_places_and_cancels() -> None:
    async with running("kuna", options={"kuna": {"auth": "hmac"}}) as sim:
        entry = sim.venue("kuna")
        secrets = entry["credentials"]
        keys = {"apiKey": secrets["public_key"], "secret": secrets["api_secret"]}
        ids = await sim.rest_orders("kuna", 3)
        async with client(sim, ccxt.kuna, keys, v4=entry["rest_url"]) as kuna:
            assert "BTC/USDT" in await kuna.load_markets()
            assert {order["id"] for order in await kuna.fetch_open_orders("BTC/USDT")} == set(ids)
            await asyncio.sleep(0.002)  # its nonce is a millisecond, and goes up
            assert (await kuna.fetch_balance())["USDT"]["total"] == 100_000
            await asyncio.sleep(0.002)
            await kuna.cancel_order(ids[0])
            await asyncio.sleep(0.002)
            await kuna.cancel_orders(ids[1:])
            assert await sim.open("kuna") == 0
            await asyncio.sleep(0.002)
            placed = await kuna.create_order("BTC/USDT", "limit", "buy", 0.001, 100)
            assert [order["id"] for order in (await sim.get("/orders", venue="kuna"))["orders"]] == [placed["id"]]


async def test_ccxts_oxfun_client_pings_at_once_and_is_logged_in_all_the_same() -> None:
    async with running("oxfun") as sim:
        entry = sim.venue("oxfun")
        keys = {"apiKey": entry["credentials"]["api_key"], "secret": entry["credentials"]["api_secret"]}
        async with client(sim, pro.oxfun, keys, ws=entry["ws_url"]) as oxfun:
            task = asyncio.create_task(oxfun.authenticate())

            async def logged_in() -> bool:
                return any(line["what"] == "login" for line in await sim.requests("oxfun"))

            await sim.until(logged_in)
            task.cancel()
            lines = [(line["what"], line["ok"]) for line in await sim.requests("oxfun") if line["what"] != "connect"]
            assert lines == [("ping", True), ("login", True)]


async def test_ccxts_oxfun_client_lists_and_cancels_everything_and_watches_orders() -> None:
    async with running("oxfun", options={"oxfun": {"engine_ms": "0", "string_ids": "on"}}) as sim:
        entry = sim.venue("oxfun")
        keys = {"apiKey": entry["credentials"]["api_key"], "secret": entry["credentials"]["api_secret"]}
        urls = {"public": entry["rest_url"], "private": entry["rest_url"], "ws": entry["ws_url"]}
        async with client(sim, pro.oxfun, keys, **urls) as oxfun:
            ids = await sim.rest_orders("oxfun", 3)
            listed = await oxfun.private_get_v3_orders_working()
            assert {order["orderId"] for order in listed["data"]} == set(ids)
            assert (await oxfun.private_delete_v3_orders_cancel_all())["success"] is True
            await sim.until_open("oxfun", 0)
