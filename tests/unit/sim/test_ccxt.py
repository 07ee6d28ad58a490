"""Let ccxt's own clients talk to the simulators: over REST, and over WebSockets (ccxt.pro).

`tests/clients` has the clients of venues that ccxt has lost.
"""

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
async def client(sim: Sim, venue: str, kind: Any) -> AsyncIterator[Any]:
    """Make a client whose addresses are the simulator's, path by path, and that trusts it; it is told nothing else."""
    entry = sim.venue(venue)
    key, secret = list(entry["credentials"].values())[:2]
    exchange = kind({"apiKey": key, "secret": secret, "enableRateLimit": False})
    exchange.urls["api"] = moved(exchange.urls["api"], entry["rest_url"])
    session = exchange.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=sim.tls))
    exchange.own_session = False
    try:
        yield exchange
    finally:
        await exchange.close()
        await session.close()


def moved(urls: Any, rest_url: str) -> Any:
    """Return addresses with the simulator's host and port, and their own paths."""
    if isinstance(urls, dict):
        return {name: moved(url, rest_url) for name, url in urls.items()}
    scheme, _, rest = urls.partition("://")
    return f"{scheme}://{rest_url.partition('://')[2]}{rest[rest.find('/') :] if '/' in rest else ''}"


async def test_ccxts_kraken_client_lists_places_and_cancels() -> None:
    async with running("kraken") as sim, client(sim, "kraken", ccxt.kraken) as kraken:
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
    async with running("kraken-futures") as sim, client(sim, "kraken-futures", ccxt.krakenfutures) as futures:
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
    async with running("deribit") as sim, client(sim, "deribit", ccxt.deribit) as deribit:
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


async def test_ccxts_binance_client_lists_places_and_cancels() -> None:
    async with running("binance-spot") as sim:
        entry = sim.venue("binance-spot")
        async with client(sim, "binance-spot", ccxt.binance) as binance:
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
        async with client(sim, venue, kind) as futures:
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
            stop = await futures.create_order(market, "market", "sell", 1, params={"stopLossPrice": 90})
            await futures.cancel_all_orders(market)
            assert await sim.open(venue) == 1  # orders of the algo service take a call of their own
            trigger = {"trigger": True}
            assert [order["id"] for order in await futures.fetch_open_orders(market, params=trigger)] == [stop["id"]]
            await futures.cancel_all_orders(market, trigger)
            assert await sim.open(venue) == 0


WATCHED = {
    "kraken": (pro.kraken, "BTC/USD"),
    "kraken-futures": (pro.krakenfutures, "BTC/USD:USD"),
    "binance-spot": (pro.binance, "BTC/USDT"),
    "binance-usdm": (pro.binanceusdm, "BTC/USDT:USDT"),
    "binance-coinm": (pro.binancecoinm, "BTC/USD:BTC"),
    "deribit": (pro.deribit, "BTC/USD:BTC"),
}


@pytest.mark.parametrize("venue", WATCHED)
async def test_ccxt_pro_watches_an_order_until_cancel_all_ends_it(venue: str) -> None:
    kind, market = WATCHED[venue]
    async with running(venue) as sim, client(sim, venue, kind) as exchange:
        exchange.options |= {"fetchCurrencies": False} | ({"fetchMarkets": ["spot"]} if venue == "binance-spot" else {})
        await exchange.load_markets()
        seen: dict[str, str | None] = {}

        async def watch() -> None:
            while True:
                for order in await exchange.watch_orders():
                    seen[order["id"]] = order["status"]

        task = asyncio.create_task(watch())
        await sim.until(lambda: subscribed(sim, venue))
        [one] = await sim.rest_orders(venue, 1)
        live = None if venue == "kraken-futures" else "open"  # ccxt reads no status there
        await sim.until(lambda: settled(task, seen, {one: live}))
        await exchange.cancel_all_orders(*([] if venue in ("kraken", "kraken-futures", "deribit") else [market]))
        await sim.until(lambda: settled(task, seen, {one: "canceled"}))
        assert await sim.open(venue) == 0
        task.cancel()


async def subscribed(sim: Sim, venue: str) -> bool:
    """Return whether a client listens: by a message, or by the address of its stream."""
    said = {line["what"] for line in await sim.requests(venue) if line["ok"]}
    return bool(said & {"subscribe", "userDataStream.subscribe.signature"}) or {"listen-key", "connect"} <= said


async def settled(task: asyncio.Task[None], seen: dict[str, str | None], wanted: dict[str, str | None]) -> bool:
    """Return whether the client has seen these states. Raises what ended the client."""
    if task.done():
        task.result()
    return seen == wanted
