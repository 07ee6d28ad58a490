"""A strike of 80 commands at a venue with a round trip of 100 ms: real lanes over TLS, behind a relay that delays."""

from __future__ import annotations

import time

import anyio
import pytest

from kill_switch.core.domain import Route
from kill_switch.testbed.relay import RelayServer
from kill_switch.transports import fresh
from kill_switch.transports.connection_count import ConnectionCount
from kill_switch.transports.fresh import FreshRoute
from kill_switch.transports.http import HttpLane
from kill_switch.venues.messages import Call, CallLost, Event, Replied
from kill_switch.venues.request import Request
from tests.harness.lane_listeners import RecordingListener, get, running, until
from tests.harness.scripted_server import Peer, Server, ok

pytestmark = pytest.mark.anyio

ROUND_TRIP_S = 0.1
COMMANDS = 80
BODY = b"x" * (1 << 20)


def command(number: int, route: Route = Route.HTTP) -> Call:
    request = Request("DELETE", f"/{number}", {"Host": "127.0.0.1"})
    return Call(f"kill {number}", request, route, urgent=True, cancel=True, command=True)


class Venue:
    """A server that answers no command before it has all of them: a command that waits for an answer never leaves."""

    def __init__(self, server: Server) -> None:
        self.arrived_s: list[float] = []
        self._all = anyio.Event()
        server.script = self._serve

    async def _serve(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.startswith(b"DELETE"):
                self.arrived_s.append(time.monotonic())
                if len(self.arrived_s) >= COMMANDS:
                    self._all.set()
                await self._all.wait()
            await peer.say(ok())


async def test_a_relay_delays_both_ways_and_keeps_the_order(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def echo(peer: Peer) -> None:
        while True:
            await peer.say(ok(BODY + (await peer.request()).split(b" ")[1]))

    server.script = echo
    async with RelayServer([server.port], ROUND_TRIP_S) as relay:
        lane = HttpLane(relay.url(server.https), ear, ca_file=ca_file)
        async with running(lane.run):
            await until(lambda: lane.spare)
            lane.call(get("one", urgent=True, target="/one"))
            end = await ear.end("one")
    assert isinstance(end, Replied) and end.body == BODY + b"/one"
    assert end.rtt_us >= (ROUND_TRIP_S - 0.01) * 1e6


async def test_80_commands_arrive_at_a_distant_venue_together_and_none_waits_for_an_answer(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    venue = Venue(server)
    async with RelayServer([server.port], ROUND_TRIP_S) as relay:
        count = ConnectionCount(lambda: COMMANDS + 2, per_s=lambda: 100.0)
        lane = HttpLane(relay.url(server.https), ear, ca_file=ca_file, count=count)
        async with running(lane.run):
            await until(lambda: sum(1 for _ in lane._idle) == COMMANDS + 2, within_s=15)
            early = command(0)
            assert lane.begin(early.request)
            for number in range(COMMANDS):
                lane.call(command(number) if number else early)
            await until(lambda: len(ear.events) > COMMANDS, within_s=5)
    assert [tag for _, tag in ear.sents] == [f"kill {number}" for number in range(COMMANDS)]
    assert max(venue.arrived_s) - min(venue.arrived_s) < ROUND_TRIP_S
    replies = [event for event in ear.events if isinstance(event, Replied)]
    assert len(replies) == COMMANDS


async def test_80_commands_of_a_lane_that_dies_leave_over_the_second_route_at_once(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    venue = Venue(server)
    async with RelayServer([server.port], ROUND_TRIP_S) as relay:
        count = ConnectionCount(lambda: COMMANDS + 2, per_s=lambda: 100.0)
        lane = HttpLane(relay.url(server.https), ear, ca_file=ca_file, count=count)
        async with running(lane.run) as group:
            await until(lambda: sum(1 for _ in lane._idle) == COMMANDS + 2, within_s=15)
            route = FreshRoute(relay.url(server.https), ear, group.start_soon, ca_file=ca_file)

            def on_event(event: Event) -> None:
                if isinstance(event, CallLost):
                    route.call(command(int(event.tag.split()[1]), Route.FRESH))

            ear.on_event = on_event
            for peer in tuple(server.peers):
                peer.writer.transport.abort()
            for number in range(COMMANDS):
                lane.call(command(number))
            await until(lambda: sum(isinstance(event, Replied) for event in ear.events) == COMMANDS, within_s=10)
    assert len(venue.arrived_s) == COMMANDS


async def test_second_routes_that_start_together_connect_at_a_pace(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "CONNECT_AT_ONCE", 3)
    monkeypatch.setattr(fresh, "CONNECT_EVERY_S", 0.1)
    Venue(server)
    wanted = {f"kill {number}" for number in range(5)}
    async with running() as group:
        route = FreshRoute(server.https, ear, group.start_soon, ca_file=ca_file, wanted=lambda call: call.tag in wanted)
        began_s = time.monotonic()
        for number in range(5):
            route.call(command(number, Route.FRESH))
        await until(lambda: len(server.peers) == 3)
        wanted.discard("kill 4")  # the lane has answered it meanwhile
        end = await ear.end("kill 4")
        assert isinstance(end, CallLost) and not end.sent
        assert time.monotonic() - began_s >= 0.19
        await until(lambda: len(server.peers) == 4)
        await anyio.sleep(0.2)
        assert len(server.peers) == 4
