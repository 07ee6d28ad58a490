"""Let ccxt.pro watch fills, balances and positions at the simulators, and read what these leave over REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .clients import Sim, running
from .test_ccxt import LIMITS_OFF, PLAIN, WATCHED, ccxt, client, load, subscribed, turn

pytestmark = pytest.mark.anyio
MONEY = {"kraken": "USD", "kraken-futures": "USD", "binance-spot": "USDT", "binance-usdm": "USDT",
         "binance-coinm": "BTC", "deribit": "USDC"}  # fmt: skip


@asynccontextmanager
async def watching(venue: str) -> AsyncIterator[tuple[Sim, Any, str]]:
    """Run a venue without limits, with a client of ccxt.pro whose markets are loaded."""
    kind, market = WATCHED[venue]
    options = {venue: LIMITS_OFF[venue]} if venue in LIMITS_OFF else {}
    async with running(venue, options=options) as sim, client(sim, venue, kind) as exchange:
        exchange.options |= {"fetchCurrencies": False}
        await load(exchange, venue)
        yield sim, exchange, market


async def seen(call: Awaitable[Any], sim: Sim, venue: str, act: Callable[[], Awaitable[Any]]) -> Any:
    """Start a watch, act once the venue has its subscription, and return what the watch returns."""
    task = asyncio.ensure_future(call)
    await sim.until(lambda: subscribed(sim, venue))
    await act()
    return await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("venue", WATCHED)
async def test_ccxt_pro_watches_a_fill_whole_and_each_fill_once(venue: str) -> None:
    async with watching(venue) as (sim, exchange, market):
        placed: list[str] = []

        async def buy() -> None:
            placed.append((await turn(exchange.create_order(market, "market", "buy", 10)))["id"])

        trades = [*await seen(exchange.watch_my_trades(market), sim, venue, buy)]
        trades += await seen(exchange.watch_my_trades(market), sim, venue, buy)
        assert [trade["order"] for trade in trades] == placed
        assert len({trade["id"] for trade in trades}) == 2
        for trade in trades:
            assert (trade["symbol"], trade["side"], trade["amount"]) == (market, "buy", 10)
            assert trade["price"] > 0
        past = await turn(exchange.fetch_my_trades(market))
        assert {trade["id"] for trade in trades} <= {trade["id"] for trade in past}


@pytest.mark.parametrize("venue", WATCHED)
async def test_ccxt_pro_watches_the_balance_as_a_fill_changes_it(venue: str) -> None:
    async with watching(venue) as (sim, exchange, usual):
        market = "BTC/USDC:USDC" if venue == "deribit" else usual

        async def buy() -> None:
            await turn(exchange.create_order(market, "market", "buy", 10))

        balance = await seen(exchange.watch_balance(), sim, venue, buy)
        if venue.startswith("kraken"):  # the first is the snapshot
            balance = await seen(exchange.watch_balance(), sim, venue, buy)
        asset = MONEY[venue]
        held = balance[asset][asset] if venue == "deribit" else balance[asset]  # ccxt's own shape
        read = await turn(exchange.fetch_balance())
        assert held["total"] == read[asset]["total"] > 0


async def test_ccxt_pro_watches_the_balance_as_orders_rest_and_end_at_binance_spot() -> None:
    async with watching("binance-spot") as (sim, exchange, market):

        async def rest() -> None:
            await sim.rest_orders("binance-spot", 1)

        assert (await seen(exchange.watch_balance(), sim, "binance-spot", rest))["USDT"]["total"] == 100_000
        ended = await seen(exchange.watch_balance(), sim, "binance-spot", lambda: exchange.cancel_all_orders(market))
        assert ended["USDT"]["total"] == 100_000


async def test_ccxt_pro_watches_the_portfolio_as_orders_rest_and_end_at_deribit() -> None:
    async with watching("deribit") as (sim, exchange, _):

        async def rest() -> None:
            await sim.rest_orders("deribit", 1)

        assert (await seen(exchange.watch_balance(), sim, "deribit", rest))["BTC"]["BTC"]["total"] > 0
        ended = await seen(exchange.watch_balance(), sim, "deribit", exchange.cancel_all_orders)
        assert ended["BTC"]["BTC"]["total"] > 0


@pytest.mark.parametrize("venue", ["kraken-futures", "binance-usdm", "binance-coinm"])
async def test_ccxt_pro_watches_a_position_that_a_fill_opens(venue: str) -> None:
    async with watching(venue) as (sim, exchange, market):

        async def sell() -> None:
            await turn(exchange.create_order(market, "market", "sell", 10))

        if venue.startswith("binance"):  # ccxt reads the positions before it listens
            assert await exchange.watch_positions([market]) == []
        positions = await seen(exchange.watch_positions([market]), sim, venue, sell)
        assert [(held["symbol"], held["side"], held["contracts"]) for held in positions] == [(market, "short", 10)]


async def test_ccxt_pro_reads_past_fills_from_the_snapshot_at_kraken() -> None:
    for venue in ("kraken", "kraken-futures"):
        async with watching(venue) as (_, exchange, market):
            traded = await turn(exchange.create_order(market, "market", "buy", 10))
            [trade] = await asyncio.wait_for(exchange.watch_my_trades(market), 5)
            assert (trade["order"], trade["amount"]) == (traded["id"], 10)


async def test_ccxt_reads_that_a_spot_account_at_kraken_has_no_positions() -> None:
    async with running("kraken") as sim, client(sim, "kraken", PLAIN["kraken"][0]) as kraken:
        assert await turn(kraken.fetch_positions()) == []


@pytest.mark.parametrize("venue", ["binance-usdm", "binance-coinm"])
async def test_ccxt_places_several_orders_at_once_at_binances_futures(venue: str) -> None:
    async with running(venue) as sim, client(sim, venue, PLAIN[venue][0]) as futures:
        market = PLAIN[venue][1]
        await futures.load_markets()
        one = {"symbol": market, "type": "limit", "side": "buy", "amount": 10, "price": 100}
        assert len(await futures.create_orders([one, one])) == 2 == await sim.open(venue)
        assert (await futures.fetch_funding_rate(market))["symbol"] == market
        await futures.cancel_all_orders(market)
        assert await sim.open(venue) == 0
        futures.secret = futures.secret[::-1]
        with pytest.raises(ccxt.AuthenticationError):
            await futures.create_orders([one, one])


async def test_ccxt_reads_the_past_the_ledger_and_the_settings_of_kraken_derivatives() -> None:
    async with watching("kraken-futures") as (sim, exchange, market):
        await turn(exchange.create_order(market, "market", "buy", 3))
        kept = await turn(exchange.create_order(market, "limit", "buy", 2, 100))
        await turn(exchange.cancel_order(kept["id"], market))
        [ended] = [order for order in await turn(exchange.fetch_closed_orders(market)) if order["filled"]]
        assert (ended["amount"], ended["status"]) == (3, "closed")
        cancelled = await turn(exchange.fetch_canceled_orders(market))
        assert kept["id"] in [order["id"] for order in cancelled]
        [stop] = await sim.rest_orders("kraken-futures", 1, kind="stop")
        await turn(exchange.cancel_all_orders())
        gone = await turn(exchange.fetch_canceled_orders(market, params={"trigger": True}))
        assert stop in [order["id"] for order in gone]
        await sim.post("/options", venue="kraken-futures", equity_moves="transfer")
        await sim.post("/equity", venue="kraken-futures", equity=99_000)
        entries = await turn(exchange.fetch_ledger())
        assert [(entry["type"], entry["amount"], entry["direction"]) for entry in entries][-1] == (
            "transfer",
            1000,
            "out",
        )
        assert await turn(exchange.fetch_funding_history(market)) == []
        await turn(exchange.set_leverage(7, market))
        assert (await turn(exchange.fetch_leverage(market)))["longLeverage"] == 7
        fees = await turn(exchange.fetch_trading_fees())
        assert fees[market]["taker"] > fees[market]["maker"] > 0
        [trade, *_] = await turn(exchange.fetch_trades(market))
        assert trade["amount"] == 3
        assert await turn(exchange.fetch_funding_rate_history(market)) == []
