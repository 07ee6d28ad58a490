"""Set up what operators ask: a dispatcher over stub venues that can be drilled, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Collection

import anyio

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Reason, Route, SweepTiming
from kill_switch.core.events import RearmAsked
from kill_switch.core.state import AccountState, State
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.ports import ForwardedFact
from kill_switch.dispatch.session import AccountSession
from kill_switch.health.drills import DrillRunner
from kill_switch.venues.messages import Drilled, Outputs, Replied, WakeAfter
from tests.harness.dispatch_doubles import Lane, Recorder, Venue
from tests.harness.virtual_time import running

BUDGET_US = 250_000


class Drillable(Venue):
    """A venue whose lanes answer a drill after so many milliseconds; None: never."""

    def __init__(self) -> None:
        super().__init__()
        self.after_ms: dict[Route, float | None] = {Route.WS: 3.0, Route.HTTP: 5.0}
        self.good = True
        self.slow = ""
        self.drills_made = 0

    def slow_kill_warning(self, now: Instant) -> str:
        return self.slow

    def drill(self, now: Instant) -> Outputs:
        self.drills_made += 1
        waits = {route: ms for route, ms in self.after_ms.items() if ms is not None and route in self.drill_routes}
        return tuple(WakeAfter(f"{route} {ms}", ms / 1000) for route, ms in waits.items())

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        route, ms = tag.split()
        evidence = "not found, as it must be" if self.good else "invalid key"
        return (Drilled(Route(route), self.good, round(float(ms) * 1000), evidence),)


class HttpOnly(Drillable):
    """A venue double whose drill uses the HTTP lane alone."""

    DRILLS = (Route.HTTP,)


class DispatcherHarness:
    """Everything below the operators, for accounts whose venues are stubs."""

    def __init__(self, *accounts: str, make: Callable[[], Drillable] = Drillable) -> None:
        loop = running()
        self.trace: list[str] = []
        self.announced: list[Announce] = []
        self.recorder = Recorder(self.trace)
        state = State({name: AccountState(SweepTiming()) for name in accounts})
        self.dispatcher = Dispatcher(
            state, self.recorder, loop.now, loop.call_later, self.announced.append, on_fact=self._told
        )
        self.venues = {name: make() for name in accounts}
        self.lanes = {name: Lane(name, self.trace) for name in accounts}
        for name, lane in self.lanes.items():
            self.dispatcher.register(AccountSession(name, self.venues[name], self.dispatcher, lane.serve))
        self.drills = DrillRunner(
            self.dispatcher, self.recorder, self.announced.append, budget_us=BUDGET_US, clock=loop.now
        )

    def fire(self, *accounts: str) -> None:
        names = accounts or tuple(self.dispatcher.sessions)
        self.dispatcher.fire(Reason("panic", "touched", names, running().now()))

    async def kill(self, *accounts: str) -> None:
        """Fire, and answer every call with an empty list until all is clear."""
        self.fire(*accounts)
        await self.settle()

    async def settle(self) -> None:
        """Answer every call with an empty list until all is clear."""
        while self.dispatcher.striking_accounts:
            self.answer()
            await anyio.sleep(0.05)

    def answer(self, body: bytes = b"", only: Collection[str] | None = None) -> None:
        """Answer all calls that have not been answered yet; `body` is the ids of the orders that rest."""
        for name, lane in self.lanes.items():
            if only is None or name in only:
                calls, lane.calls[:] = lane.calls[:], []
                for call in calls:
                    self.dispatcher.sessions[name].on_lane_event(Replied(call.tag, 200, {}, body))

    def asked(self, *accounts: str) -> RearmAsked:
        names = accounts or tuple(self.dispatcher.sessions)
        return RearmAsked(7, "ann", "all well", names, False, (), running().now())

    def said(self, level: str) -> list[str]:
        return [announcement.text for announcement in self.announced if announcement.level == level]

    def _told(self, account: str, fact: ForwardedFact, now: Instant) -> None:
        assert isinstance(fact, Drilled)
        self.drills.on_drilled(account, fact, now)
