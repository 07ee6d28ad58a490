"""The contenders of the benchmark that need no extra: raw sockets (`limit`), kill-switch itself, and plain httpx.

`runner` lets them take turns. A contender fires at simulators only, never at a venue.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, cast

import anyio
import httpx
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from kill_switch import clock
from kill_switch.config.accounts import AccountConfig
from kill_switch.config.loader import Config
from kill_switch.core import recovery
from kill_switch.core.domain import CancelOutcome, Reason, Route
from kill_switch.core.events import Event, Progress
from kill_switch.core.sweep import StrikeAnswered
from kill_switch.dispatch import connect
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.session import AccountSession
from kill_switch.journal.journal import Journal
from kill_switch.system.host_port import HostPort
from kill_switch.testbed.testbed import LocalTestbed
from kill_switch.transports.http import HttpLane
from kill_switch.transports.lane import READ_INTO, tls_context, tune
from kill_switch.transports.network import Network
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import Call, Opened, Send
from kill_switch.venues.request import Request

READY_WITHIN_S = 60.0
CLOSED_WITHIN_S = 0.1  # for the event loop to close connections at the end
SECOND_ROUTE_S = 60.0  # disables second routes, which would be counted as commands
_KEEP = httpx.Limits(keepalive_expiry=None)

# fires once; returns the times of the reason and of the last answer, monotonic ns
Strike = Callable[[], Awaitable[tuple[int, int]]]


class BenchSetup:
    """The common setup of all contenders of one size: testbed, accounts, and the simulators' request log."""

    ROUND_WITHIN_S = 15.0

    def __init__(self, stage: LocalTestbed, loaded: Config, size: int) -> None:
        """Create it for `size` accounts of the configuration `loaded`."""
        self.stage = stage
        self.config = loaded
        self.size = size
        self.tls = tls_context(stage.ready["ca_file"])
        self.closing: list[Callable[[], Awaitable[object]]] = []
        self.is_warm: Callable[[], bool] = lambda: True  # kill-switch has a connection for each call of a strike
        self._taken: dict[str, int] = {}
        self._admin = httpx.AsyncClient(base_url=stage.ready["admin"], trust_env=False, timeout=30.0)

    async def close(self) -> None:
        """Close all contenders' connections, the latest first."""
        for close in reversed(self.closing):
            await close()
        await self._admin.aclose()
        await asyncio.sleep(CLOSED_WITHIN_S)

    async def forget(self) -> None:
        """Clear the simulators' request log."""
        await self._admin.delete("/requests")

    async def cancels(self) -> list[int]:
        """Return when each cancel command arrived at its simulator, in monotonic ns."""
        requests = (await self._admin.get("/requests")).json()
        return [request["t_ns"] for request in requests if request["what"].startswith("cancel")]

    def take(self) -> dict[str, AccountConfig]:
        """Return accounts for one contender, and reserve them.

        Half of them are at CrossTrade, whose cancels go over a WebSocket. Half of the others are at OX.FUN, which wants
        the time signed. There are enough accounts for two contenders with connections of their own, because CrossTrade
        allows one connection a user.
        """
        frames = self.size // 2
        signed = (self.size - frames) // 2
        counts = {"crosstrade": frames, "oxfun": signed, "roxom": self.size - frames - signed}
        taken: dict[str, AccountConfig] = {}
        for venue, count in counts.items():
            names = (name for name, account in self.config.accounts.items() if account.venue == venue)
            first = self._taken.get(venue, 0)
            self._taken[venue] = first + count
            taken |= {name: self.config.accounts[name] for name in islice(names, first, first + count)}
        return taken

    def share(self) -> dict[str, AccountConfig]:
        """Return accounts for a contender that only makes requests; they are not reserved."""
        before = dict(self._taken)
        self._taken.clear()
        shared = self.take()
        self._taken = before
        return shared


ContenderFactory = Callable[[BenchSetup], Awaitable[Strike]]


# ── lower bound: raw sockets ─────────────────────────────────────────────────────────────────────────────────────


async def limit(floor: BenchSetup) -> Strike:
    """Raw protocols on open connections: prebuilt bytes, and answers that are counted but not parsed."""
    answers = AnswerCounter()
    adapters = [account.build_adapter(SECOND_ROUTE_S) for account in floor.take().values()]
    wires = [await raw(floor.tls, adapter, answers) for adapter in adapters]
    await asyncio.sleep(0.2)  # for the frames that a venue sends first

    async def close() -> None:
        for wire in wires:
            wire.transport.abort()

    floor.closing.append(close)

    async def strike() -> tuple[int, int]:
        commands = [command(adapter) for adapter in adapters]
        done = answers.expect(len(wires))
        began_ns = time.monotonic_ns()
        for wire, sent in zip(wires, commands, strict=True):
            wire.transport.write(sent)
        return began_ns, await done

    return strike


async def raw(tls: ssl.SSLContext, adapter: Adapter, answers: AnswerCounter) -> RawConnection:
    """Open the connection over which an account's `command` is written."""
    framed = _framed(adapter)
    address = HostPort.of_url(adapter.ws_url if framed else adapter.rest_url)
    _, wire = await asyncio.get_running_loop().create_connection(
        lambda: RawConnection(answers), address.host, address.port, ssl=tls, server_hostname=address.host
    )
    if framed:
        protocol = ClientProtocol(parse_uri(adapter.ws_url))
        request = protocol.connect()
        request.headers.update(adapter.upgrade(clock.now()).headers)
        protocol.send_request(request)
        wire.transport.writelines(protocol.data_to_send())
        adapter.handle(Opened(Route.WS, 1), clock.now())
    return wire


def _framed(adapter: Adapter) -> bool:
    return adapter.NAME == "crosstrade"


def command(adapter: Adapter) -> bytes:
    """Return the bytes of an account's first cancel command."""
    if _framed(adapter):  # the adapter never sees the answers, and would judge an older connection as dead
        adapter.handle(Opened(Route.WS, 1), clock.now())
    for output in (*adapter.strike(clock.now(), 1),):
        match output:
            case Call(_, request):
                return request.wire
            case Send(_, text):
                return Frame(Opcode.TEXT, text).serialize(mask=True)
            case _:
                continue
    raise AssertionError("a strike that sends nothing")


class AnswerCounter:
    """Count answers, and complete a future with the time of the last expected one."""

    def __init__(self) -> None:
        self._missing = 0
        self._done: asyncio.Future[int] | None = None

    def expect(self, count: int) -> asyncio.Future[int]:
        self._missing = count
        self._done = asyncio.get_running_loop().create_future()
        return self._done

    def count(self) -> None:
        self._missing -= 1
        if self._missing == 0 and self._done is not None:
            self._done.set_result(time.monotonic_ns())


class RawConnection(asyncio.BufferedProtocol):
    """A TLS connection that counts answers and parses nothing: the least that a client can do."""

    transport: asyncio.Transport

    def __init__(self, answers: AnswerCounter) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        tune(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return READ_INTO

    def buffer_updated(self, nbytes: int) -> None:
        self._answers.count()


# ── kill-switch ───────────────────────────────────────────────────────────────────────────────────────────────────


async def product(floor: BenchSetup) -> Strike:
    """kill-switch in this process: from a reason until every account's answer."""
    return await start_product(floor, tuple(floor.take()))


async def start_product(floor: BenchSetup, names: tuple[str, ...]) -> Strike:
    """Start kill-switch in this process for the accounts in `names`; return once they are ready."""
    adapters = connect.build_adapters(floor.config, names)
    for adapter in adapters.values():
        adapter.second_route.change(SECOND_ROUTE_S)
    armed = recovery.rebuild((), connect.sweep_timings(adapters))
    stage = floor.stage
    stage.state_dir.mkdir(exist_ok=True)
    journal = Journal(stage.state_dir, stage.runtime_dir)
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(armed, journal, clock.now, loop.call_later, lambda message: None)
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: connect.Work) -> None:
        tasks.append(loop.create_task(work()))

    for _, work in connect.connect_accounts(dispatcher, floor.config, adapters, spawn, Network()):
        spawn(work)

    async def close() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        journal.close()

    floor.closing.append(close)
    with anyio.fail_after(READY_WITHIN_S):
        while not all(session.status.is_ready for session in dispatcher.sessions.values()):  # noqa: ASYNC110 - no event
            await anyio.sleep(0.01)
    watch = _Watch(dispatcher)
    floor.is_warm = lambda: all(map(_is_warm, dispatcher.sessions.values()))

    async def strike() -> tuple[int, int]:
        done = watch.expect(names)
        began = clock.now()
        dispatcher.fire(Reason("bench", "measured", names, began))
        answered_ns = await done
        dispatcher.state = armed  # for the next round: neither read-backs nor a re-arm are waited for
        return began.mono_ns, answered_ns

    return strike


def _is_warm(session: AccountSession) -> bool:
    lane = session.http
    return not isinstance(lane, HttpLane) or len(lane.pool.connections) >= session.venue.strike_calls()


class _Watch:
    """Intercept the engine's events, and complete a future when every account's answer has been processed."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._handle = dispatcher.handle
        self._missing: set[str] = set()
        self._done: asyncio.Future[int] | None = None
        dispatcher.handle = self._watch  # type: ignore[method-assign]

    def expect(self, names: Iterable[str]) -> asyncio.Future[int]:
        self._missing = set(names)
        self._done = asyncio.get_running_loop().create_future()
        return self._done

    def _watch(self, event: Event) -> None:
        self._handle(event)
        if not (isinstance(event, Progress) and isinstance(event.event, StrikeAnswered) and self._missing):
            return
        done = self._done
        if done is None or done.done():
            return
        if event.event.answer is not CancelOutcome.ACCEPTED:  # a round with another outcome is no measurement of a kill
            done.set_exception(RuntimeError(f"{event.account}: {event.event.answer}: {event.evidence}"))
            return
        self._missing.discard(event.account)
        if not self._missing:
            done.set_result(time.monotonic_ns())


# ── the usual script: httpx and gather ───────────────────────────────────────────────────────────────────────────


async def gathered(floor: BenchSetup) -> Strike:
    """Make a contender with a warm httpx client per account, `asyncio.gather`, and checked answers."""
    accounts = list(requests(floor))
    clients = [
        httpx.AsyncClient(base_url=adapter.rest_url, verify=floor.tls, trust_env=False, limits=_KEEP)
        for adapter, _ in accounts
    ]
    floor.closing += [client.aclose for client in clients]

    async def cancel(client: httpx.AsyncClient, make: Callable[[], Request]) -> None:
        request = make()
        answer = await client.request(
            request.method, request.target, headers=dict(request.headers), content=request.body
        )
        answer.raise_for_status().json()

    async def strike() -> tuple[int, int]:
        began_ns = time.monotonic_ns()
        await asyncio.gather(*(cancel(client, make) for client, (_, make) in zip(clients, accounts, strict=True)))
        return began_ns, time.monotonic_ns()

    return strike


def requests(floor: BenchSetup) -> Iterator[tuple[Adapter, Callable[[], Request]]]:
    """Yield each account's adapter and a function that builds its account-wide REST cancel; all venues have one."""
    for account in floor.share().values():
        adapter = account.build_adapter(SECOND_ROUTE_S)

        def make(adapter: Adapter = adapter) -> Request:
            calls: list[Any] = [output for output in (*adapter.strike(clock.now(), 1),) if isinstance(output, Call)]
            request: Request = calls[0].request
            return request

        yield adapter, make


SYSTEMS: Mapping[str, ContenderFactory] = {"limit": limit, "kill-switch": product, "httpx": gathered}
