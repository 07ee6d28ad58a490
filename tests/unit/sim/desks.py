"""The same few requests at each simulator: list, cancel all, look up, receive events.

The tests of faults and switches use it for every venue.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from .clients import Sim, receive, roxom_headers
from .test_binance import ONE
from .test_binance import Client as Binance
from .test_crosstrade import Cross, rpc
from .test_kraken import Kraken
from .test_kraken_futures import Futures, subscribe
from .test_kuna import call as kuna_call
from .test_kuna import socket as kuna_socket


class Desk(ABC):
    """One account at one simulated venue."""

    name: str
    errors_are_200 = False  # whether every HTTP answer has the status 200
    id_key = '"orderId":"?([^",}]+)'

    def __init__(self, sim: Sim) -> None:
        self.sim = sim

    @abstractmethod
    async def ask(self) -> httpx.Response:
        """Request the list of open orders."""

    @abstractmethod
    async def look_up(self, one: str) -> httpx.Response:
        """Request one order by its id."""

    @abstractmethod
    async def cancel(self, *ids: str) -> httpx.Response:
        """Cancel all orders; at a venue without such a call, cancel these ids."""

    @abstractmethod
    def listening(self) -> AbstractAsyncContextManager[ClientConnection]:
        """Open a WebSocket that is logged in and subscribed to order events."""

    def status(self, usual: int) -> int:
        """Return the HTTP status of an error that has the status `usual` elsewhere."""
        return 200 if self.errors_are_200 else usual

    async def ids(self) -> set[str]:
        answer = await self.ask()
        assert answer.status_code == 200, answer.text
        return set(re.findall(self.id_key, answer.text))

    async def heard(self, ws: ClientConnection, within_s: float = 5.0) -> str | None:
        """Return the order id of the next event; None if none arrives within `within_s` seconds."""
        with anyio.move_on_after(within_s):
            while True:
                text = str(await ws.recv())
                if found := re.search(self.id_key, text):
                    return found[1]
        return None

    async def rest(self, count: int = 1) -> list[str]:
        return await self.sim.rest_orders(self.name, count)

    async def fault(self, fault: str, **more: object) -> None:
        await self.sim.fault(self.name, fault, **more)

    async def clear(self) -> None:
        await self.sim.clear(self.name)


class OxfunDesk(Desk):
    name = "oxfun"

    async def ask(self) -> httpx.Response:
        return await self.sim.oxfun("GET", "/v3/orders/working")

    async def look_up(self, one: str) -> httpx.Response:
        return await self.sim.oxfun("GET", "/v3/orders/status", query=f"orderId={one}")

    async def cancel(self, *ids: str) -> httpx.Response:
        return await self.sim.oxfun_cancel_all()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ClientConnection]:
        async with self.sim.oxfun_socket("order:all") as ws:
            yield ws


class RoxomDesk(Desk):
    name = "roxom"
    id_key = '"(?:id|orderId)":"([^"]+)"'

    async def ask(self) -> httpx.Response:
        return await self.sim.roxom("GET", "/orders?instType=perpetual")

    async def look_up(self, one: str) -> httpx.Response:
        return await self.sim.roxom("GET", f"/orders/{one}")

    async def cancel(self, *ids: str) -> httpx.Response:
        return await self.sim.roxom_cancel_all()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ClientConnection]:
        async with self.sim.roxom_socket("orders") as ws:
            yield ws


class KrakenDesk(Desk):
    name = "kraken"
    errors_are_200 = True
    id_key = '"(O[A-Z2-7]{5}-[A-Z2-7]{5}-[A-Z2-7]{6})"'

    def __init__(self, sim: Sim) -> None:
        super().__init__(sim)
        self.client = Kraken(sim)

    async def ask(self) -> httpx.Response:
        return await self.client.send("OpenOrders")

    async def look_up(self, one: str) -> httpx.Response:
        return await self.client.send("QueryOrders", txid=one)

    async def cancel(self, *ids: str) -> httpx.Response:
        return await self.client.send("CancelAll")

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ClientConnection]:
        async with self.client.subscribed() as (ws, _):
            assert (await receive(ws))["type"] == "snapshot"
            yield ws

    async def heard(self, ws: ClientConnection, within_s: float = 5.0) -> str | None:
        with anyio.move_on_after(within_s):
            while True:
                text = str(await ws.recv())
                again = '"exec_type":"new"' in text  # the second event of a new order
                if not again and (match := re.search(self.id_key, text)):
                    return match[1]
        return None


class KrakenFuturesDesk(Desk):
    name = "kraken-futures"
    id_key = '"order_id":"([^"]+)"'

    def __init__(self, sim: Sim) -> None:
        super().__init__(sim)
        self.client = Futures(sim)

    def status(self, usual: int) -> int:
        return 500 if usual == 500 else 200

    async def ask(self) -> httpx.Response:
        return await self.client.send("GET", "openorders")

    async def look_up(self, one: str) -> httpx.Response:
        return await self.client.send("POST", "orders/status", f"orderIds={one}")

    async def cancel(self, *ids: str) -> httpx.Response:
        return await self.client.send("POST", "cancelallorders")

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ClientConnection]:
        async with self.client.v1() as (ws, signed):
            assert (await subscribe(ws, "open_orders", signed))["event"] == "subscribed"
            assert (await receive(ws))["feed"] == "open_orders_snapshot"
            yield ws


class KunaDesk(Desk):
    name = "kuna"
    id_key = '"id":"([^"]+)"'

    async def ask(self) -> httpx.Response:
        return await kuna_call(self.sim, "GET", "/v4/order/private/active")

    async def look_up(self, one: str) -> httpx.Response:
        return await kuna_call(self.sim, "GET", f"/v4/order/private/details/{one}")

    async def cancel(self, *ids: str) -> httpx.Response:
        return await kuna_call(self.sim, "POST", "/v4/order/private/cancel/multi", {"orderIds": list(ids)})

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ClientConnection]:
        async with kuna_socket(self.sim, "order") as ws:
            yield ws


class BinanceDesk(Desk):
    id_key = '"(?:orderId|i)":(\\d+)'

    def __init__(self, sim: Sim) -> None:
        super().__init__(sim)
        self.client = Binance(sim, self.name)

    def status(self, usual: int) -> int:
        return 401 if usual == 403 else usual

    async def ask(self) -> httpx.Response:
        return await self.client.send("GET", "openOrders")

    async def look_up(self, one: str) -> httpx.Response:
        return await self.client.send("GET", "order", symbol=ONE[self.name], orderId=one)

    async def cancel(self, *ids: str) -> httpx.Response:
        return await self.client.cancel_all()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ClientConnection]:
        if self.name != "binance-spot":
            async with self.client.stream() as ws:
                yield ws
        else:
            async with self.client.socket("/ws-api/v3") as ws:
                answer = await self.client.say(ws, "userDataStream.subscribe.signature")
                assert answer["result"] == {"subscriptionId": 0}
                yield ws


class BinanceSpotDesk(BinanceDesk):
    name = "binance-spot"


class BinanceUsdmDesk(BinanceDesk):
    name = "binance-usdm"


class BinanceCoinmDesk(BinanceDesk):
    name = "binance-coinm"


class CrossTradeDesk(Desk):
    name = "crosstrade"

    async def ask(self) -> httpx.Response:
        return await Cross(self.sim).call("GET", "/orders")

    async def look_up(self, one: str) -> httpx.Response:
        return await Cross(self.sim).call("GET", f"/accounts/Sim101/orders/{one}")

    async def cancel(self, *ids: str) -> httpx.Response:
        return await Cross(self.sim).cancel_all()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ClientConnection]:
        async with Cross(self.sim).socket() as ws:
            await ws.send(json.dumps({"action": "subscribe", "events": ["orders"]}))
            assert (await receive(ws))["status"] == "subscribed"
            yield ws

    async def rpc_orders(self, ws: ClientConnection) -> object:
        return await rpc(ws, "GetAllOrders")


@asynccontextmanager
async def upgraded(sim: Sim, venue: str) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket without a login message: logged in where the upgrade is the login, otherwise anonymous."""
    headers: Mapping[str, str] = {}
    if venue == "roxom":
        headers = roxom_headers(sim.venue("roxom"), "GET:/ws")
    elif venue == "crosstrade":
        headers = Cross(sim).headers
    async with websockets.connect(sim.venue(venue)["ws_url"], ssl=sim.tls, additional_headers=headers) as ws:
        yield ws


DESKS: Mapping[str, type[Desk]] = {
    desk.name: desk
    for desk in (
        BinanceCoinmDesk,
        BinanceSpotDesk,
        BinanceUsdmDesk,
        CrossTradeDesk,
        KrakenDesk,
        KrakenFuturesDesk,
        KunaDesk,
        OxfunDesk,
        RoxomDesk,
    )
}
OPTIONS = {
    "kraken": {"tier": "unlimited"},
    "kraken-futures": {"pool": "0"},
    "crosstrade": {"order_events": "on", "lists_terminal": "off", "engine_ms": "0"},
    "oxfun": {"engine_ms": "0"},
}
