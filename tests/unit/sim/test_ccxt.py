"""Let ccxt's own clients talk to the simulators: over REST, and over WebSockets (ccxt.pro).

`tests/clients` has the clients of venues that ccxt has lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
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


LIMITS_OFF = {"kraken": {"tier": "unlimited"}, "deribit": {"tier": "unlimited"}, "kraken-futures": {"pool": "0"}}
KEEPS_ID = {"kraken", "kraken-futures", "binance-usdm", "binance-coinm", "deribit"}


@pytest.mark.parametrize("venue", sorted({"binance-spot", *KEEPS_ID}))
async def test_ccxt_edits_an_order_and_cancel_all_ends_the_edited_order(venue: str) -> None:
    kind, market = PLAIN[venue]
    async with (
        running(venue, options={venue: LIMITS_OFF[venue]} if venue in LIMITS_OFF else {}) as sim,
        client(sim, venue, kind) as exchange,
    ):
        await load(exchange, venue)
        placed = await turn(exchange.create_order(market, "limit", "buy", 10, 100))
        edited = await turn(exchange.edit_order(placed["id"], market, "limit", "buy", 20, 101))
        [row] = (await sim.get("/orders", venue=venue))["orders"]
        assert (float(row["qty"]), float(row["price"])) == (20, 101)
        assert (row["id"] == placed["id"]) is (venue in KEEPS_ID)
        assert venue == "kraken" or edited["id"] == row["id"]  # there, ccxt takes the amend's id
        with pytest.raises(ccxt.BaseError):
            await turn(exchange.edit_order(UNKNOWN[venue], market, "limit", "buy", 20, 101))
        assert await sim.open(venue) == 1
        await turn(exchange.cancel_all_orders(market))
        assert await sim.open(venue) == 0
        with pytest.raises(ccxt.BaseError):
            await turn(exchange.edit_order(row["id"], market, "limit", "buy", 20, 102))
        assert await sim.open(venue) == 0


@pytest.mark.parametrize("venue", sorted({"binance-spot", *KEEPS_ID}))
async def test_ccxt_reads_money_past_orders_and_trades(venue: str) -> None:
    kind, market = PLAIN[venue]
    async with (
        running(venue, options={venue: LIMITS_OFF[venue]} if venue in LIMITS_OFF else {}) as sim,
        client(sim, venue, kind) as exchange,
    ):
        await load(exchange, venue)
        placed = await turn(exchange.create_order(market, "limit", "buy", 10, 100))
        await turn(exchange.cancel_order(placed["id"], market))
        traded = await turn(exchange.create_order(market, "market", "buy", 10))
        assert any(total for total in (await turn(exchange.fetch_balance()))["total"].values())
        assert (await turn(exchange.fetch_order_book(market)))["bids"]
        if venue != "kraken-futures":  # its past orders have an API of their own, which nothing here serves
            past = await turn(exchange.fetch_closed_orders(market))
            assert traded["id"] in {order["id"] for order in past}
        trades = await turn(exchange.fetch_my_trades(market))
        assert traded["id"] in {trade["order"] for trade in trades}
        if venue not in ("kraken", "binance-spot"):
            assert isinstance(await turn(exchange.fetch_positions()), list)
        assert await sim.open(venue) == 0


@pytest.mark.parametrize("venue", ["kraken", "kraken-futures"])
async def test_ccxt_arms_the_countdown_and_disarms_it(venue: str) -> None:
    async with (
        running(venue, options={venue: LIMITS_OFF[venue]} if venue in LIMITS_OFF else {}) as sim,
        client(sim, venue, PLAIN[venue][0]) as exchange,
    ):
        await turn(exchange.cancel_all_orders_after(60_000))
        armed = await sim.get("/deadman", venue=venue)
        await turn(exchange.cancel_all_orders_after(0))
        assert armed["armed"] and not (await sim.get("/deadman", venue=venue))["armed"]


async def test_ccxt_places_a_batch_at_kraken_whole_or_not_at_all() -> None:
    async with (
        running("kraken", options={"kraken": LIMITS_OFF["kraken"]}) as sim,
        client(sim, "kraken", ccxt.kraken) as kraken,
    ):
        await kraken.load_markets()
        one = {"symbol": "BTC/USD", "type": "limit", "side": "buy", "amount": 1, "price": 100}
        assert len(await turn(kraken.create_orders([one, one]))) == 2 == await sim.open("kraken")
        with pytest.raises(ccxt.ExchangeError):
            await turn(kraken.create_orders([one]))  # two at least
        assert await sim.open("kraken") == 2
        await turn(kraken.cancel_all_orders())


@asynccontextmanager
async def at(venue: str) -> AsyncIterator[tuple[Sim, Any]]:
    """Run a venue without limits, with a client of its own."""
    options = {venue: LIMITS_OFF[venue]} if venue in LIMITS_OFF else {}
    async with running(venue, options=options) as sim, client(sim, venue, PLAIN[venue][0]) as exchange:
        yield sim, exchange


async def load(exchange: Any, venue: str) -> None:
    """Load the markets of the venue's own product."""
    if venue == "binance-spot":
        exchange.options["fetchMarkets"] = ["spot"]
    await exchange.load_markets()


async def turn(call: Coroutine[Any, Any, Any]) -> Any:
    """Await a call, a millisecond behind the last one: nonces are milliseconds, and go up."""
    await asyncio.sleep(0.002)
    return await call


PLAIN = {
    "kraken": (ccxt.kraken, "BTC/USD"),
    "kraken-futures": (ccxt.krakenfutures, "BTC/USD:USD"),
    "binance-spot": (ccxt.binance, "BTC/USDT"),
    "binance-usdm": (ccxt.binanceusdm, "BTC/USDT:USDT"),
    "binance-coinm": (ccxt.binancecoinm, "BTC/USD:BTC"),
    "deribit": (ccxt.deribit, "BTC/USD:BTC"),
}
UNKNOWN = {
    "kraken": "OAAAAA-AAAAA-AAAAAA",
    "kraken-futures": "00000000-0000-4000-8000-000000000000",
    "deribit": "ETH-1",
    **dict.fromkeys(("binance-spot", "binance-usdm", "binance-coinm"), "1"),
}
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


@pytest.mark.parametrize("venue", ["kraken", "binance-spot", "binance-usdm", "binance-coinm"])
async def test_ccxt_pro_places_edits_and_cancels_over_the_websocket(venue: str) -> None:
    kind, market = WATCHED[venue]
    options = {venue: LIMITS_OFF[venue]} if venue in LIMITS_OFF else {}
    async with running(venue, options=options) as sim, client(sim, venue, kind) as exchange:
        exchange.options |= {"fetchCurrencies": False}
        await load(exchange, venue)
        placed = await exchange.create_order_ws(market, "limit", "buy", 10, 100)
        await exchange.edit_order_ws(placed["id"], market, "limit", "buy", 20, 101)
        [row] = (await sim.get("/orders", venue=venue))["orders"]
        assert (float(row["qty"]), float(row["price"])) == (20, 101)
        assert (row["id"] == placed["id"]) is (venue in KEEPS_ID)
        await exchange.cancel_order_ws(row["id"], *([] if venue == "kraken" else [market]))
        assert await sim.open(venue) == 0
        with pytest.raises(ccxt.BaseError):
            await exchange.edit_order_ws(row["id"], market, "limit", "buy", 20, 102)
        assert await sim.open(venue) == 0


async def subscribed(sim: Sim, venue: str) -> bool:
    """Return whether a client listens: by a message, or by the address of its stream."""
    said = {line["what"] for line in await sim.requests(venue) if line["ok"]}
    return bool(said & {"subscribe", "userDataStream.subscribe.signature"}) or {"listen-key", "connect"} <= said


async def settled(task: asyncio.Task[None], seen: dict[str, str | None], wanted: dict[str, str | None]) -> bool:
    """Return whether the client has seen these states. Raises what ended the client."""
    if task.done():
        task.result()
    return seen == wanted
