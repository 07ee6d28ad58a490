"""Listeners for the lanes under test: `RecordingListener` records events, `AdapterDriver` connects an adapter to lanes.

The tests of the transports use them. Neither decides anything that the product decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc

from kill_switch import clock
from kill_switch.core.domain import Route
from kill_switch.transports.fresh import FreshRoute
from kill_switch.transports.http import HttpLane
from kill_switch.transports.lane import ConnectionNotWanted
from kill_switch.transports.ws import WsLane
from kill_switch.venues import messages
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import Call, Event, Output, Outputs
from kill_switch.venues.request import Request, Upgrade

WITHIN_S = 4.0


async def until(what: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Wait until a condition holds; fail after `within_s` seconds."""
    with anyio.fail_after(within_s):
        while not what():  # noqa: ASYNC110 - a condition of any kind has no event
            await anyio.sleep(0.005)


class RecordingListener:
    """A lane listener that records everything; `on_event` is called with each event."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sents: list[tuple[Route, str]] = []
        self.rtts: list[tuple[Route, int]] = []
        self.troubles: list[tuple[Route, str]] = []
        self.warms = 0
        self.kept = 0
        self.silences = 0
        self.on_event: Callable[[Event], None] = lambda event: None

    def on_lane_event(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def on_sent(self, route: Route, tag: str) -> None:
        self.sents.append((route, tag))

    def on_round_trip(self, route: Route, rtt_us: int) -> None:
        self.rtts.append((route, rtt_us))

    def on_trouble(self, route: Route, why: str) -> None:
        self.troubles.append((route, why))

    def use_idle_http_lane(self) -> None:
        self.warms += 1

    def keep_connection(self) -> None:
        self.kept += 1

    def break_silence(self) -> None:
        self.silences += 1

    def ends(self, tag: str) -> list[messages.Replied | messages.CallLost]:
        """Return all ends of a call; exactly one is right."""
        return [
            event
            for event in self.events
            if isinstance(event, messages.Replied | messages.CallLost) and event.tag == tag
        ]

    async def end(self, tag: str, within_s: float = WITHIN_S) -> messages.Replied | messages.CallLost:
        """Wait for a call's end, and fail if it has more than one."""
        await until(lambda: self.ends(tag), within_s)
        [end] = self.ends(tag)
        return end

    def opened(self) -> list[int]:
        return [event.conn for event in self.events if isinstance(event, messages.Opened)]

    def closed(self) -> list[messages.Closed]:
        return [event for event in self.events if isinstance(event, messages.Closed)]

    def texts(self) -> list[str | bytes]:
        return [event.text for event in self.events if isinstance(event, messages.Received)]


class AdapterDriver(RecordingListener):
    """Connect an adapter to lanes as the dispatcher does, and record its facts."""

    def __init__(self, adapter: Adapter, ca_file: str, group: anyio.abc.TaskGroup) -> None:
        super().__init__()
        self.adapter = adapter
        self.outputs: list[Output] = []
        self.ws = WsLane(adapter.ws_url, self._upgrade, self, ca_file=ca_file)
        self.http = HttpLane(adapter.rest_url, self, ca_file=ca_file, warm_every_s=0.2)
        self.fresh = FreshRoute(adapter.rest_url, self, group.start_soon, ca_file=ca_file)
        self._timers: list[asyncio.TimerHandle] = []
        self._strikes = 0

    def on_lane_event(self, event: Event) -> None:
        super().on_lane_event(event)
        self.carry_out(self.adapter.handle(event, clock.now()))

    def use_idle_http_lane(self) -> None:
        super().use_idle_http_lane()
        self.carry_out(self.adapter.keep_warm(clock.now()))

    def _upgrade(self) -> Upgrade:
        if why := self.adapter.reason_to_stay_disconnected(clock.now()):
            raise ConnectionNotWanted(why)
        return self.adapter.upgrade(clock.now())

    def kill(self) -> None:
        self._strikes += 1
        self.carry_out((*self.adapter.strike(clock.now(), self._strikes),))

    def read(self) -> None:
        self.carry_out(self.adapter.read(clock.now()))

    def drill(self) -> None:
        self.carry_out(self.adapter.drill(clock.now()))

    def measure(self) -> None:
        self.carry_out(self.adapter.request_equity(clock.now()))

    def carry_out(self, outputs: Outputs) -> None:
        for output in outputs:
            self.outputs.append(output)
            match output:
                case messages.Call(_, _, route):
                    (self.http if route is Route.HTTP else self.fresh).call(output)
                case messages.Send(conn, text):
                    self.ws.send(conn, text)
                case messages.WakeAfter(tag, seconds):
                    loop = asyncio.get_running_loop()
                    self._timers.append(loop.call_later(seconds, self.on_lane_event, messages.VenueTimerFired(tag)))
                case messages.CloseConnection(conn, why):
                    self.ws.drop(conn, why)
                case messages.ReplaceConnection(conn):
                    self.ws.replace(conn)
                case messages.ConnectNow():
                    self.ws.connect_now()
                case messages.Ready(Route.WS, conn):
                    self.ws.authenticated(conn)
                case messages.Ready():
                    self.http.authenticated(True)
                case messages.NotReady(Route.WS, conn, why, fatal):
                    self.ws.drop(conn, why, fatal=fatal)
                case messages.NotReady():
                    self.http.authenticated(False)
                case _:
                    pass

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()


@asynccontextmanager
async def running(*works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[anyio.abc.TaskGroup]:
    """Run endless tasks while the context is open; then wait for their sockets to close."""
    async with anyio.create_task_group() as group:
        for work in works:
            group.start_soon(work)
        yield group
        group.cancel_scope.cancel()
    await anyio.sleep(0.02)


def get(tag: str, *, urgent: bool = False, target: str = "/x") -> Call:
    return Call(tag, Request("GET", target, {"Host": "127.0.0.1"}), Route.HTTP, urgent)


def elapsed_s(since_s: float) -> float:
    return time.monotonic() - since_s
