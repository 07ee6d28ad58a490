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


def binance_urls(rest: str) -> dict[str, str]:
    spot = {"public": f"{rest}/api/v3", "private": f"{rest}/api/v3", "sapi": f"{rest}/sapi/v1"}
    for api in ("fapi", "dapi"):
        spot |= {f"{api}Public": f"{rest}/{api}/v1", f"{api}Private": f"{rest}/{api}/v1"}
        spot |= {f"{api}PrivateV{version}": f"{rest}/{api}/v{version}" for version in (2, 3)}
    return spot


async def test_ccxts_binance_client_lists_places_and_cancels() -> None:
    async with running("binance-spot") as sim:
        entry = sim.venue("binance-spot")
        keys = {"apiKey": entry["credentials"]["api_key"], "secret": entry["credentials"]["api_secret"]}
        async with client(sim, ccxt.binance, keys, **binance_urls(entry["rest_url"])) as binance:
            binance.options["fetchMarkets"] = ["spot"]
            assert len(await binance.load_markets()) == len(entry["symbols"])
            placed = await binance.create_order("BTC/USDT", "limit", "buy", 0.001, 100)
            stop = await binance.create_order("BTC/USDT", "limit", "sell", 0.001, 90, {"stopLossPrice": 95})
            listed = {order["id"]: order["symbol"] for order in await binance.fetch_open_orders("BTC/USDT")}
            assert listed == {placed["id"]: "BTC/USDT", stop["id"]: "BTC/USDT"}
            assert (await binance.fetch_balance())["USDT"]["total"] == 100_000
            assert (await binance.cancel_order(placed["id"], "BTC/USDT"))["status"] == "canceled"
            assert (await binance.fetch_order(placed["id"], "BTC/USDT"))["status"] == "canceled"
            await sim.rest_orders("binance-spot", 2, kind="oco")
            assert len(await binance.cancel_all_orders("BTC/USDT")) == 2
            assert await sim.open("binance-spot") == 0
            with pytest.raises(ccxt.OrderNotFound):
                await binance.cancel_order(placed["id"], "BTC/USDT")
            with pytest.raises(ccxt.OrderNotFound):
                await binance.cancel_all_orders("BTC/USDT")  # nothing is open


@pytest.mark.parametrize(
    ("venue", "kind", "market"),
    [("binance-usdm", ccxt.binanceusdm, "BTC/USDT:USDT"), ("binance-coinm", ccxt.binancecoinm, "BTC/USD:BTC")],
)
async def test_ccxts_clients_of_binances_futures_list_place_and_cancel(venue: str, kind: Any, market: str) -> None:
    async with running(venue) as sim:
        entry = sim.venue(venue)
        keys = {"apiKey": entry["credentials"]["api_key"], "secret": entry["credentials"]["api_secret"]}
        async with client(sim, kind, keys, **binance_urls(entry["rest_url"])) as futures:
            assert len(await futures.load_markets()) == len(entry["symbols"])
            placed = await futures.create_order(market, "limit", "buy", 1, 100)
            others = await sim.rest_orders(venue, 3)
            assert {order["id"] for order in await futures.fetch_open_orders(market)} == {placed["id"], *others}
            await futures.cancel_order(placed["id"], market)
            assert (await futures.fetch_order(placed["id"], market))["status"] == "canceled"
            await futures.cancel_orders(others[:1], market)
            assert await sim.open(venue) == 2
            await futures.cancel_all_orders(market)
            assert await sim.open(venue) == 0
            with pytest.raises(ccxt.OrderNotFound):
                await futures.cancel_order(placed["id"], market)
            held = (await futures.fetch_balance())["USDT" if venue == "binance-usdm" else "BTC"]["total"]
            assert held == (100_000 if venue == "binance-usdm" else 10)
            with pytest.raises(ccxt.BaseError, match="-4120"):  # this ccxt does not know the algo service
                await futures.create_order(market, "market", "sell", 1, params={"stopLossPrice": 90})
