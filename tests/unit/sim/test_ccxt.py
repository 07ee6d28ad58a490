"""Let ccxt's own clients talk to the simulators of the venues that it knew (4.4.60)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from .clients import Sim, running

ccxt = pytest.importorskip("ccxt.async_support")
pro = pytest.importorskip("ccxt.pro")
pytestmark = pytest.mark.anyio


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


@pytest.mark.skipif(not hasattr(ccxt, "kuna"), reason="this ccxt has no KUNA")
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


@pytest.mark.skipif(not hasattr(pro, "oxfun"), reason="this ccxt has no OX.FUN")
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


async def test_ccxts_kraken_client_lists_places_and_cancels() -> None:
    async with running("kraken") as sim:
        entry = sim.venue("kraken")
        keys = {"apiKey": entry["credentials"]["api_key"], "secret": entry["credentials"]["api_secret"]}
        urls = {"public": entry["rest_url"], "private": entry["rest_url"]}
        async with client(sim, ccxt.kraken, keys, **urls) as kraken:
            assert "BTC/USD" in await kraken.load_markets()
            placed = await kraken.create_order("BTC/USD", "limit", "buy", 0.001, 100)
            await asyncio.sleep(0.002)  # its nonce is a millisecond, and goes up
            stop = await kraken.create_order("BTC/USD", "market", "sell", 0.001, params={"stopLossPrice": 90})
            await asyncio.sleep(0.002)
            listed = {order["id"]: order["symbol"] for order in await kraken.fetch_open_orders("BTC/USD")}
            assert listed == {placed["id"]: "BTC/USD", stop["id"]: "BTC/USD"}
            await asyncio.sleep(0.002)
            await kraken.cancel_order(placed["id"], "BTC/USD")
            await asyncio.sleep(0.002)
            await sim.rest_orders("kraken", 2)
            assert (await kraken.cancel_all_orders())[0]["info"]["result"]["count"] == 3
            assert await sim.open("kraken") == 0
            await asyncio.sleep(0.002)
            with pytest.raises(ccxt.OrderNotFound):
                await kraken.cancel_order(placed["id"], "BTC/USD")


async def test_ccxts_client_of_kraken_derivatives_lists_places_and_cancels() -> None:
    async with running("kraken-futures") as sim:
        entry = sim.venue("kraken-futures")
        keys = {"apiKey": entry["credentials"]["api_key"], "secret": entry["credentials"]["api_secret"]}
        api = f"{entry['rest_url']}/derivatives/api/"
        async with client(sim, ccxt.krakenfutures, keys, public=api, private=api) as futures:
            market = "BTC/USD:USD"
            assert market in await futures.load_markets()
            placed = await futures.create_order(market, "limit", "buy", 1, 100)
            await sim.rest_orders("kraken-futures", 2, kind="stop")
            listed = await futures.fetch_open_orders()
            assert len(listed) == 3 and placed["id"] in {order["id"] for order in listed}
            await futures.cancel_order(placed["id"])
            with pytest.raises(ccxt.OrderNotFound):
                await futures.cancel_order(placed["id"])
            assert len(await futures.cancel_all_orders()) == 2
            assert await sim.open("kraken-futures") == 0


async def test_ccxts_deribit_client_lists_places_and_cancels() -> None:
    async with running("deribit") as sim:
        entry = sim.venue("deribit")
        keys = {"apiKey": entry["credentials"]["client_id"], "secret": entry["credentials"]["client_secret"]}
        async with client(sim, ccxt.deribit, keys, rest=entry["rest_url"]) as deribit:
            market = "BTC/USD:BTC"
            assert {market, "BTC/USDC"} <= set(await deribit.load_markets())
            assert (await deribit.fetch_balance())["USDC"]["total"] == 70_000
            await asyncio.sleep(0.002)  # its nonce is a millisecond, and is good once
            placed = await deribit.create_order(market, "limit", "buy", 10, 100)
            await asyncio.sleep(0.002)
            stop = await deribit.create_order(market, "market", "sell", 10, params={"stopLossPrice": 90})
            await asyncio.sleep(0.002)
            assert {order["id"] for order in await deribit.fetch_open_orders(market)} == {placed["id"], stop["id"]}
            await asyncio.sleep(0.002)
            assert len(await deribit.fetch_open_orders()) == 2
            await asyncio.sleep(0.002)
            await deribit.cancel_order(placed["id"])
            await asyncio.sleep(0.002)
            with pytest.raises(ccxt.OrderNotFound):
                await deribit.cancel_order(placed["id"])
            await asyncio.sleep(0.002)
            await sim.rest_orders("deribit", 2, symbol="SOL_USDC-PERPETUAL")
            assert (await deribit.cancel_all_orders())[0]["info"]["result"] == 3
            assert await sim.open("deribit") == 0


async def test_ccxts_deribit_client_watches_orders() -> None:
    async with running("deribit") as sim:
        entry = sim.venue("deribit")
        keys = {"apiKey": entry["credentials"]["client_id"], "secret": entry["credentials"]["client_secret"]}
        async with client(sim, pro.deribit, keys, rest=entry["rest_url"], ws=entry["ws_url"]) as deribit:
            task = asyncio.create_task(deribit.watch_orders())

            async def subscribed() -> bool:
                return any(line["what"] == "subscribe" for line in await sim.requests("deribit"))

            await sim.until(subscribed)
            [one] = await sim.rest_orders("deribit", 1)
            assert [order["id"] for order in await asyncio.wait_for(task, 5)] == [one]
