"""The contenders that need the extra `bench`: aiohttp, requests and ccxt.

`runner` uses them for `bench --peers`. Each account has a warm client where the library allows it, and answers are
checked. ccxt supports only OX.FUN of the simulated venues; its default rate limiter is off in a separate row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kill_switch.bench.contenders import BenchSetup, ContenderFactory, Strike, requests
from kill_switch.errors import KillSwitchError
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
        """Make a ccxt exchange for each account, and `gather` their `cancel_all_orders`."""
        import aiohttp
        import ccxt.async_support as ccxt

        if not hasattr(ccxt, "oxfun"):
            raise KillSwitchError(
                f"ccxt {ccxt.__version__} has no OX.FUN any more; in the checkout: pip install '.[bench]'"
            )
        accounts = [account for account in floor.config.accounts.values() if account.venue == "oxfun"][: floor.size]
        entry = floor.stage.venues["oxfun"]
        logins = [entry, *entry.get("accounts", ())][: floor.size]
        exchanges = []
        for account, login in zip(accounts, logins, strict=True):
            keys = login["credentials"]
            exchange = ccxt.oxfun({"apiKey": keys["api_key"], "secret": keys["api_secret"], "enableRateLimit": limiter})
            exchange.urls["api"] = dict.fromkeys(("public", "private"), account.options.rest_url)
            exchange.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=floor.tls))
            exchange.own_session = False
            floor.closing += [exchange.close, exchange.session.close]
            exchanges.append(exchange)

        async def strike() -> tuple[int, int]:
            began_ns = time.monotonic_ns()
            await asyncio.gather(*(exchange.cancel_all_orders() for exchange in exchanges))
            return began_ns, time.monotonic_ns()

        return strike

    return make


PEERS: Mapping[str, ContenderFactory] = {
    "aiohttp": with_aiohttp,
    "requests": with_requests,
    "ccxt": with_ccxt(limiter=True),
    "ccxt, limiter off": with_ccxt(limiter=False),
}
