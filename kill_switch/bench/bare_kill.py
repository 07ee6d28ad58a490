"""The least time that a kill of many commands takes at a distance, by symbols or by ids over `ws-fapi`.

`round_trips` measures both beside kill-switch. Their bytes are made before the clock starts, their connections are
open, and answers are counted without being read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import httpx
import orjson
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from kill_switch import clock
from kill_switch.bench.contenders import SECOND_ROUTE_S, AnswerCounter, BenchSetup, RawConnection, Strike
from kill_switch.core.domain import OrderState
from kill_switch.errors import KillSwitchError
from kill_switch.system.host_port import HostPort
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.binance.futures import BinanceFutures
from kill_switch.venues.binance.futures_replies import ALGO
from kill_switch.venues.kit.strike import CancelCommand
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.messages import Call

REQUESTS_PATH = "/ws-fapi/v1"  # of the WebSocket that takes requests at USD-M (docs/venues/binance.md § 1)

LearnOrders = Callable[[Adapter, httpx.AsyncClient], Awaitable[None]]


def limit(setup: BenchSetup, learn: LearnOrders) -> Strike:
    """Return the lower bound: a strike's commands, made beforehand, on a connection for each call or on one socket."""

    async def strike() -> tuple[int, int]:
        adapter = await _informed(setup, learn)
        if frames := list(_frames(adapter)):
            return await _over_socket(setup, adapter.ws_url, frames)
        return await _over_connections(setup, adapter, [call.request.wire for call in strike_cancels(adapter)])

    return strike


def by_ids(setup: BenchSetup, learn: LearnOrders) -> Strike:
    """Return a kill by the orders' ids over `ws-fapi`: a signed frame for each order, all made beforehand."""

    async def strike() -> tuple[int, int]:
        adapter = await _informed(setup, learn)
        assert isinstance(adapter, BinanceFutures)  # noqa: S101 - the scenarios name the venue
        host = urlsplit(adapter.rest_url).netloc
        return await _over_socket(setup, f"wss://{host}{REQUESTS_PATH}", list(_id_frames(adapter)))

    return strike


def strike_cancels(adapter: Adapter) -> list[Call]:
    """Return the cancels of a strike that is made now."""
    outputs = [output for output in adapter.strike(clock.now(), 1) if isinstance(output, Call)]
    return [call for call in outputs if call.cancel]


async def _informed(setup: BenchSetup, learn: LearnOrders) -> Adapter:
    """Return an adapter that knows the account's orders."""
    (account,) = setup.config.accounts.values()
    adapter = account.build_adapter(SECOND_ROUTE_S)
    async with httpx.AsyncClient(base_url=adapter.rest_url, verify=setup.tls, trust_env=False) as client:
        await learn(adapter, client)
    return adapter


def _frames(adapter: Adapter) -> Iterator[bytes]:
    """Yield the frames of a strike, each signed by itself; none if requests carry it."""
    if isinstance(adapter, KitAdapter):
        for number, command in enumerate(adapter.cancels(clock.now())):
            if isinstance(command, CancelCommand) and command.frame is not None:
                yield command.frame(number)


def _id_frames(adapter: BinanceFutures) -> Iterator[bytes]:
    for number, order in enumerate(adapter.book.orders.values()):
        if order.state is OrderState.LIVE:
            is_algo = order.id.startswith(ALGO)
            named: dict[str, str | int] = {"algoId": int(order.id.removeprefix(ALGO))} if is_algo else {}
            values = named or {"symbol": order.symbol, "orderId": int(order.id)}
            method = "algoOrder.cancel" if is_algo else "order.cancel"
            params = adapter.requests.ws_params(clock.now(), **values)
            yield orjson.dumps({"id": number, "method": method, "params": params})


async def _over_connections(setup: BenchSetup, adapter: Adapter, wires: Sequence[bytes]) -> tuple[int, int]:
    counter, address, loop = AnswerCounter(), HostPort.of_url(adapter.rest_url), asyncio.get_running_loop()
    opened = [
        loop.create_connection(
            lambda: RawConnection(counter), address.host, address.port, ssl=setup.tls, server_hostname=address.host
        )
        for _ in wires
    ]
    connections = [connection for _, connection in await asyncio.gather(*opened)]
    try:
        done = counter.expect(len(wires))
        began_ns = time.monotonic_ns()
        for connection, wire in zip(connections, wires, strict=True):
            connection.transport.write(wire)
        return began_ns, await done
    finally:
        for connection in connections:
            connection.transport.abort()


async def _over_socket(setup: BenchSetup, url: str, texts: Iterable[bytes]) -> tuple[int, int]:
    frames = [Frame(Opcode.TEXT, text).serialize(mask=True) for text in texts]
    if not frames:
        raise KillSwitchError("no order is known that a frame could cancel")
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(connect(url, ssl=setup.tls, compression=None, proxy=None))
        began_ns = time.monotonic_ns()
        socket.transport.write(b"".join(frames))
        for _ in frames:
            await socket.recv(decode=False)
        return began_ns, time.monotonic_ns()
