"""Run accounts of a made-up venue against its own strict limits, in virtual time: real engine, sweeps and sessions.

The venue counts every request, refuses what exceeds a limit, and charges nothing for a refused one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from kill_switch.core.domain import Instant, Reason, Route
from kill_switch.core.state import AccountState, State
from kill_switch.dispatch.connect import sweep_timings
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.session import AccountSession
from kill_switch.triggers.pnl.poller import EquityPoller
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.pools import Pool, weights_of
from kill_switch.venues.messages import Call, Opened, Outputs, Ready, Replied
from kill_switch.venues.request import Request
from tests.harness.dispatch_doubles import Lane, Recorder, Time, Venue

TRIP_S = 0.04
STEP_MS = 500.0  # how often the equity is looked at; everything else has a time of its own


class LimitedVenue(Venue):
    """An account whose strikes, reads, probes and measurements are one request each, or as many as `DEMAND` has."""

    NAME = "limited"

    def strike(self, now: Instant, number: int = 1) -> Outputs:
        return self._start("cancel-all", self.budget.demand.strike, now, urgent=True, cancel=True)

    def read(self, now: Instant) -> Outputs:
        return self._start("orders", self.budget.demand.read, now, urgent=True)

    def keep_warm(self, now: Instant) -> Outputs:
        return self._start("probe", self.budget.demand.probe, now)

    def request_equity(self, now: Instant) -> Outputs:
        return self._start("equity", self.budget.demand.equity, now)

    def _start(self, kind: str, calls: tuple[str, ...], now: Instant, **how: Any) -> Outputs:
        outputs: Outputs = ()
        for number, call in enumerate(calls):
            method, _, target = call.partition(" ")
            request = Request(method, target, {})
            name = kind if number == 0 else "more"  # one answer of each activity says it all
            outputs += self.calls.start_call(name, _constant(request), now, **how)
        return outputs

    def on_reply(self, ask: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        match ask.kind:
            case "probe":
                return (Ready(Route.HTTP, 0),)
            case "equity" | "more":
                return ()
            case _:
                return super().on_reply(ask, reply, now)

    def on_loss(self, ask: PendingCall, why: str, now: Instant) -> Outputs:
        return () if ask.kind in ("probe", "equity", "more") else super().on_loss(ask, why, now)


def _constant(request: Request) -> Build:
    return lambda now: request


class StrictLimit:
    """The venue's own count of one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._level, self._at_s = 0.0, 0.0
        self._seen: deque[tuple[float, float]] = deque()
        self.fullest = 0.0

    def used(self, now_s: float) -> float:
        if self.pool.per_s:
            self._level = max(0.0, self._level - (now_s - self._at_s) * self.pool.per_s)
            self._at_s = now_s
            return self._level
        while self._seen and self._seen[0][0] <= now_s - self.pool.window_s:
            self._level -= self._seen.popleft()[1]
        return self._level

    def allow(self, weight: float, now_s: float) -> bool:
        if self.used(now_s) + weight > self.pool.size + 1e-9:
            return False
        self._level += weight
        self._seen.append((now_s, weight))
        self.fullest = max(self.fullest, self._level)
        return True


class _Way(Lane):
    def __init__(self, street: LimitedStreet, name: str) -> None:
        super().__init__(name, [])
        self._street = street

    def call(self, call: Call) -> None:
        self.release(call)
        self._street.time.later(self._street.trip_s / 2, self._street.arrive, call, self._name)


class LimitedStreet:
    """So many accounts of the venue at one address, with a key each."""

    limits: Mapping[str, StrictLimit]

    def __init__(self, kind: type[LimitedVenue], accounts: int, *, retry_after: str = "") -> None:
        self.time = Time()
        self.keeps = False  # the venue accepts cancels and keeps the order
        self.has_order = False
        self.trip_s = TRIP_S
        self.refused: list[tuple[float, str, bool]] = []  # (second, account, whether it is a kill's command)
        self.bot_refused = 0
        self.bot_stops = False
        self._retry_after = retry_after
        adapters = {f"a{number}": kind() for number in range(accounts)}
        timings = sweep_timings(adapters)
        self.limits = {pool.name: StrictLimit(pool) for pool in kind.POOLS}
        state = State({name: AccountState(timing) for name, timing in timings.items()})
        self.recorder = Recorder([])
        self.dispatcher = Dispatcher(state, self.recorder, self.time.now, self.time.later, lambda announcement: None)
        for name, adapter in adapters.items():
            way = _Way(self, name)
            session = AccountSession(name, adapter, self.dispatcher, way.serve)
            self.dispatcher.register(session)
            session.on_lane_event(Opened(Route.HTTP, 0))
            self._warm(name)
        self._measuring = EquityPoller(self.dispatcher, lambda: tuple(adapters))

    @property
    def now_s(self) -> float:
        return self.time.ms / 1000

    def _warm(self, name: str) -> None:
        session = self.dispatcher.sessions[name]
        session.use_idle_http_lane()
        self.time.later(session.venue.WARM_EVERY_S / session.venue.CONNECTIONS, self._warm, name)

    def _allows(self, weights: Mapping[str, float]) -> bool:
        return all([self.limits[name].allow(weight, self.now_s) for name, weight in weights.items()])

    def arrive(self, call: Call, name: str) -> None:
        session = self.dispatcher.sessions[name]
        allowed = self._allows(
            weights_of(session.venue.POOLS, session.venue.COSTS, (f"{call.request.method} {call.request.target}",))
        )
        if not allowed:
            self.refused.append((self.now_s, name, call.command))
        elif call.command and not self.keeps:
            self.has_order = False
        body = b"o1" if self.has_order else b""
        headers = {"x-used": f"{next(iter(self.limits.values())).used(self.now_s)}"}
        if not allowed and self._retry_after:
            headers["retry-after"] = self._retry_after
        reply = Replied(call.tag, 200 if allowed else 429, headers, body if call.request.method == "GET" else b"")
        self.time.later(self.trip_s / 2, session.on_lane_event, reply)

    def start_bot(self, weight: float, every_s: float) -> None:
        """Let another program use the first pool."""
        if self.bot_stops:
            return
        if not next(iter(self.limits.values())).allow(weight, self.now_s):
            self.bot_refused += 1
        self.time.later(every_s, self.start_bot, weight, every_s)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        for _ in range(round(seconds * 1000 / STEP_MS)):
            if until():
                return
            self._measuring.look()
            self.time.advance(STEP_MS)

    def fire(self) -> None:
        self.dispatcher.fire(Reason("panic", "touched", tuple(self.dispatcher.sessions), self.time.now()))

    def phases(self) -> set[str]:
        return {account.phase.value for account in self.dispatcher.state.accounts.values()}

    def strikes(self) -> int:
        return len(self.recorder.of("strike"))
