"""The contenders that need the extra `bench`: aiohttp, requests and ccxt.

`runner` uses them for `bench --peers`. Each account has a warm client where the library allows it, and answers are
checked. ccxt cancels at Kraken and Binance; its default rate limiter is off in a separate row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from kill_switch.bench.contenders import BenchSetup, ContenderFactory, Strike, requests
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.request import Request


async def with_aiohttp(floor: BenchSetup) -> Strike:
    """Make a contender with a single aiohttp session and `asyncio.gather`."""
    import aiohttp

    accounts = list(requests(floor))
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=floor.tls, keepalive_timeout=3600))
    floor.closing.append(session.close)

    async def cancel(adapter: Adapter, request: Request) -> None:
        url = adapter.rest_url + request.target
        async with session.request(
            request.method, url, headers=dict(request.headers), data=request.body or None
        ) as answer:
            answer.raise_for_status()
            await answer.json()

    async def strike() -> tuple[int, int]:
        began_ns = time.monotonic_ns()
        await asyncio.gather(*(cancel(adapter, make()) for adapter, make in accounts))
        return began_ns, time.monotonic_ns()

    return strike


async def with_requests(floor: BenchSetup) -> Strike:
    """Make a contender with a warm requests session per account, each in a thread of a started pool."""
    import requests as library

    accounts = list(requests(floor))
    sessions = [library.Session() for _ in accounts]
    for session in sessions:
        session.verify = str(floor.stage.ready["ca_file"])
        session.trust_env = False
    pool = ThreadPoolExecutor(len(accounts))
    list(pool.map(lambda _: time.sleep(0.01), accounts))

    def cancel(session: Any, adapter: Adapter, request: Request) -> None:
        url = adapter.rest_url + request.target
        answer = session.request(request.method, url, headers=dict(request.headers), data=request.body, timeout=10)
        answer.raise_for_status()
        answer.json()

    async def strike() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        began_ns = time.monotonic_ns()
        work = zip(sessions, accounts, strict=True)
        await asyncio.gather(*(loop.run_in_executor(pool, cancel, s, adapter, make()) for s, (adapter, make) in work))
        return began_ns, time.monotonic_ns()

    async def close() -> None:
        pool.shutdown()
        for session in sessions:
            session.close()

    floor.closing.append(close)
    return strike


def with_ccxt(*, limiter: bool) -> ContenderFactory:
    """Return a contender with one ccxt exchange per account and `gather` of `cancel_all_orders`."""

    async def make(floor: BenchSetup) -> Strike:
        """Make a ccxt exchange for each account, half of them at Kraken and the others at Binance USD-M."""
        import aiohttp
        import ccxt.async_support as ccxt

        counts = {"kraken": floor.size - floor.size // 2, "binance-usdm": floor.size // 2}
        calls: list[Callable[[], Awaitable[object]]] = []
        for venue, count in counts.items():
            entry = floor.stage.venues[venue]
            for login in [entry, *entry.get("accounts", ())][:count]:
                keys = login["credentials"]
                setup = {"apiKey": keys["api_key"], "secret": keys["api_secret"], "enableRateLimit": False}
                exchange = ccxt.kraken(setup) if venue == "kraken" else ccxt.binanceusdm(setup)
                exchange.urls["api"] = _addresses(exchange.urls["api"], entry["rest_url"])
                exchange.options["fetchCurrencies"] = False  # a read of the wallet before the first cancel
                exchange.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=floor.tls))
                exchange.own_session = False
                floor.closing += [exchange.session.close, exchange.close]
                await exchange.load_markets()
                exchange.enableRateLimit = limiter
                symbol = None if venue == "kraken" else "BTC/USDT:USDT"  # Binance has no call for a whole account
                calls.append(partial(exchange.cancel_all_orders, symbol))

        async def strike() -> tuple[int, int]:
            began_ns = time.monotonic_ns()
            await asyncio.gather(*(call() for call in calls))
            return began_ns, time.monotonic_ns()

        return strike

    return make


def _addresses(urls: Mapping[str, object], rest_url: str) -> dict[str, str]:
    return {name: rest_url + urlsplit(url).path for name, url in urls.items() if isinstance(url, str)}


# the venues at which ccxt's accounts are, and their options: no limits, as at the other contenders' venues
PEER_VENUES: Mapping[str, str] = {"kraken": "kraken.tier=unlimited", "binance-usdm": "binance-usdm.pool=0"}
PEERS: Mapping[str, ContenderFactory] = {
    "aiohttp": with_aiohttp,
    "requests": with_requests,
    "ccxt": with_ccxt(limiter=True),
    "ccxt, limiter off": with_ccxt(limiter=False),
}
