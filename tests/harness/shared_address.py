"""Run accounts of one venue, or of several, from one address, in virtual time: real adapters, engine and simulators.

There is no WebSocket, so everything costs requests. The lanes are stubs: a request takes `TRIP_MS`, there and back.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import pytest

from kill_switch.core.domain import Reason, Route, SweepTiming
from kill_switch.core.state import AccountState, State
from kill_switch.dispatch.connect import sweep_timings
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.session import AccountSession
from kill_switch.sim.binance import futures as binance_futures
from kill_switch.sim.binance import spot as binance_spot
from kill_switch.sim.crosstrade import venue as crosstrade
from kill_switch.sim.deribit import venue as deribit
from kill_switch.sim.kit.protocol import Request as Heard
from kill_switch.sim.kit.server import PendingReply
from kill_switch.sim.kraken import venue as kraken
from kill_switch.sim.kraken_futures import venue as kraken_futures
from kill_switch.sim.kuna import venue as kuna
from kill_switch.sim.oxfun import venue as oxfun
from kill_switch.sim.roxom import venue as roxom
from kill_switch.triggers.pnl.poller import EquityPoller
from kill_switch.venues import VENUES
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import Call, Closed, Opened, Replied
from tests.harness.core_playbook import START
from tests.harness.dispatch_doubles import Lane, Recorder, Time
from tests.harness.simulator_modules import modules_that_import

TRIP_MS = 40.0
STEP_MS = 500.0  # how often the equity is looked at; everything else has a time of its own
TOKEN_EVERY_S = 540.0
SIMULATORS: Mapping[str, tuple[type[Any], str]] = {
    "binance-usdm": (binance_futures.BinanceUsdm, "BTCUSDT"),
    "binance-coinm": (binance_futures.BinanceCoinm, "BTCUSD_PERP"),
    "binance-spot": (binance_spot.BinanceSpot, "BTCUSDT"),
    "oxfun": (oxfun.Oxfun, "BTC-USD-SWAP-LIN"),
    "roxom": (roxom.Roxom, "US500-BTC"),
    "deribit": (deribit.Deribit, "BTC-PERPETUAL"),
    "kraken": (kraken.Kraken, "XBTUSD"),
    "kraken-futures": (kraken_futures.KrakenFutures, "PF_XBTUSD"),
    "kuna": (kuna.Kuna, "BTC_USDT"),
    "crosstrade": (crosstrade.CrossTrade, "ES 09-26"),
}


class Asked(NamedTuple):
    """A request that has reached the venue."""

    at_ns: int
    account: str
    what: str
    refused: bool  # by a rate limit
    command: bool = False  # a kill's
    weight: float = 0.0  # of the venue's pool

    @property
    def cancels(self) -> bool:
        return self.what.startswith("cancel")


class Caller:
    """The connection that all requests come by."""

    peer = "198.51.100.7"
    account = None


class Way(Lane):
    """An HTTP lane to the simulator."""

    def __init__(self, address: Address, name: str) -> None:
        super().__init__(name, [])
        self._address = address

    def call(self, call: Call) -> None:
        self.release(call)
        self._address.time.later(TRIP_MS / 2000, self._arrives, call)

    def _arrives(self, call: Call) -> None:
        self._address.take(call, self._name, self._answered)

    def _answered(self, call: Call, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        lower = {key.lower(): value for key, value in headers.items()}
        reply = Replied(call.tag, status, lower, body, int(TRIP_MS * 1000))
        assert self.session is not None
        self._address.time.later(TRIP_MS / 2000, self.session.on_lane_event, reply)


class Address:
    """So many accounts of each of some venues, on one address."""

    def __init__(
        self,
        names: str | Sequence[str],
        accounts: int,
        patch: pytest.MonkeyPatch,
        *,
        alone: bool = False,
        one_key: bool = False,
        starts: bool = True,
    ) -> None:
        """Make it; `patch` gives the simulators our time.

        `alone`: each account is paced as if there were no other. `one_key`: they are parts of one login. Without
        `starts`, only the venues and the bots are there until `start`.
        """
        self.time = Time()
        clock = types.SimpleNamespace(
            monotonic=lambda: self.time.ns / 1e9,
            time=lambda: (START.wall_ns + self.time.ns - START.mono_ns) / 1e9,
            time_ns=lambda: START.wall_ns + self.time.ns - START.mono_ns,
            monotonic_ns=lambda: self.time.ns,
        )
        for module in modules_that_import("time"):
            patch.setattr(module, "time", clock)
        self.asked: list[Asked] = []
        self._heard: dict[str, Heard] = {}  # the latest request of each account that draws from its pools
        self.bot_refused = 0
        self._connection = Caller()
        self.venues: dict[str, Any] = {}  # by name
        self._venue_of: dict[str, Any] = {}  # by account
        self._alone = alone
        self._making: dict[str, Callable[[], Adapter]] = {}  # by account
        for name in (names,) if isinstance(names, str) else names:
            simulator, _ = SIMULATORS[name]
            users = 1 if one_key else accounts
            parts = [f"Sim{101 + number}" for number in range(accounts)]
            given = {"nt_accounts": ",".join(parts)} if one_key and name == "crosstrade" else {}
            patch.setattr(  # before the simulator is made: its parts keep the method
                simulator, "later", lambda _, s, call, *rest: self.time.later(s, call, *rest) if s > 0 else call(*rest)
            )
            venue = self.venues[name] = simulator(simulator.options_type(**given), users)
            venue.joined(self.venues.values())
            kind = VENUES[name]
            for number, account in enumerate(list(venue.accounts.values()) * (accounts // users)):
                told = {**venue.account_options(), **({"nt_accounts": (parts[number],)} if given else {})}
                one = f"a{len(self._making)}"
                self._making[one] = partial(kind, kind.Options(**told), account.credentials, 0.06)
                self._venue_of[one] = venue
        self.venue = next(iter(self.venues.values()))
        self._run = 0  # of the process: a start ends the run before
        self.dispatcher: Dispatcher
        if starts:
            self.start()

    def start(self) -> None:
        """Start the process; one that runs has just died, and its requests under way get no answer."""
        self._run += 1
        if self._run > 1:
            for session in self.dispatcher.sessions.values():
                session.retire()
        adapters = {one: make() for one, make in self._making.items()}
        pace: dict[str, SweepTiming] = {}
        for group in [{one: adapter} for one, adapter in adapters.items()] if self._alone else [adapters]:
            pace |= sweep_timings(group)
        self.recorder = Recorder([])
        state = State({one: AccountState(pace[one]) for one in adapters})
        self.dispatcher = Dispatcher(state, self.recorder, self.time.now, self.time.later, lambda announcement: None)
        for number, (one, adapter) in enumerate(adapters.items()):
            session = AccountSession(one, adapter, self.dispatcher, Way(self, one).serve)
            self.dispatcher.register(session)
            session.on_lane_event(Opened(Route.HTTP, 0))
            self.time.later(number * 0.4, self._warm, one, self._run)
            if adapter.budget.demand.token:
                self.time.later(number * 0.4, self._renew, one, self._run)
        self._measuring = EquityPoller(self.dispatcher, lambda: tuple(adapters))

    def _warm(self, name: str, run: int) -> None:
        if run != self._run:
            return
        session = self.dispatcher.sessions[name]
        session.use_idle_http_lane()
        self.time.later(session.venue.WARM_EVERY_S / session.venue.CONNECTIONS, self._warm, name, run)

    def _renew(self, name: str, run: int) -> None:
        """Let the WebSocket come up and go down again: its login takes a token."""
        if run != self._run:
            return
        session = self.dispatcher.sessions[name]
        session.on_lane_event(Opened(Route.WS, 1))
        self.time.later(1.0, session.on_lane_event, Closed(Route.WS, 1, "no WebSocket here"))
        self.time.later(TOKEN_EVERY_S, self._renew, name, run)

    def take(self, call: Call, account: str, answered: Callable[[Call, int, bytes, Mapping[str, str]], None]) -> None:
        """Let a request of an account reach the venue, which may answer later."""
        made = call.request
        path, _, query = made.target.partition("?")
        headers = {key.lower(): value for key, value in made.headers.items()}
        request = Heard(made.method, made.target, path, query, headers, made.body, self.time.ns, True)
        at = len(self.asked)
        costs = self.dispatcher.sessions[account].venue.COSTS
        if not any(cost.is_apart and made.target.startswith(cost.prefix) for cost in costs):
            self._heard[account] = request

        def reply(status: int, body: bytes, told: Mapping[str, str]) -> None:
            if status in (418, 429) or b"ate limit exceeded" in body or b"apiLimitExceeded" in body:
                self.asked[at] = self.asked[at]._replace(refused=True)
            answered(call, status, body, told)

        self.asked.append(Asked(self.time.ns, account, "", False, call.command))
        exchange = types.SimpleNamespace(request=request, connection=self._connection, reply=reply)
        venue = self._venue_of[account]
        venue.requested(cast(PendingReply, exchange))
        seen = venue.log[-1]
        self.asked[at] = self.asked[at]._replace(what=seen.operation, weight=seen.weight)

    def start_bot(self, part: float = 0.5, at_once: int = 1) -> None:
        """Let the accounts' bots use this part of what the venue allows, with the same keys and at the same address.

        They send `at_once` requests together, and then pause.
        """
        keys: dict[object, str] = {}  # of the pool that refills most slowly → an account that draws from it
        for name, session in self.dispatcher.sessions.items():
            pool = min((count.pool for count in session.venue.budget.counts.values()), key=lambda pool: pool.rate)
            if keys.setdefault(session.venue.member.pool_keys()[pool.name], name) == name:
                self._bot(name, at_once / (part * pool.rate), at_once)

    def _bot(self, name: str, every_s: float, at_once: int) -> None:
        venue = self._venue_of[name]
        for _ in range(at_once):
            if name in self._heard and venue.throttle(self._connection, self._heard[name]) is not None:
                self.bot_refused += 1
        route = venue.route(self._heard[name]) if name in self._heard else None
        weight = 1.0 if route is None else max(1.0, route.weight)
        self.time.later(every_s * weight, self._bot, name, every_s, at_once)

    def fault(self, name: str, parameters: Mapping[str, object]) -> None:
        """Switch a fault on at every venue."""
        for venue in self.venues.values():
            venue.put_fault(name, parameters)

    def clear_faults(self) -> None:
        for venue in self.venues.values():
            venue.clear_faults()

    def rest(self, count: int = 3, symbols: int = 1) -> None:
        """Rest so many orders in each of some symbols of each account's book, in each of its parts at CrossTrade."""
        for name, venue in self.venues.items():
            for account in venue.accounts.values():
                categories = venue.categories or ("",)
                for category in categories if name == "crosstrade" else categories[:1]:
                    for symbol in (SIMULATORS[name][1],) if symbols == 1 else venue.symbols[:symbols]:
                        venue.rest(account, count, symbol, "limit", category)

    @property
    def open(self) -> int:
        return sum(len(account.open) for venue in self.venues.values() for account in venue.accounts.values())

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 1000 / STEP_MS)):
            self._measuring.look()
            self.time.advance(STEP_MS)

    def fire(self) -> None:
        self.dispatcher.fire(Reason("panic", "touched", tuple(self.dispatcher.sessions), self.time.now()))

    def phases(self) -> set[str]:
        return {account.phase.value for account in self.dispatcher.state.accounts.values()}

    @property
    def refused(self) -> int:
        return sum(one.refused for one in self.asked)

    def most_weight(self, seconds: float) -> float:
        """Return the largest weight of our requests within so many seconds."""
        window: deque[Asked] = deque()
        most = 0.0
        for one in self.asked:
            window.append(one)
            while window[0].at_ns <= one.at_ns - seconds * 1e9:
                window.popleft()
            most = max(most, sum(seen.weight for seen in window))
        return most

    def most(self, seconds: float, *, cancels: bool | None = None, account: str = "", since_ns: int = 0) -> int:
        """Return the most requests within so many seconds; `cancels`: only these, or all but these."""
        times = [
            one.at_ns
            for one in self.asked
            if one.at_ns >= since_ns and cancels in (None, one.cancels) and account in ("", one.account)
        ]
        most = first = 0
        for last, at_ns in enumerate(times):
            while times[first] <= at_ns - seconds * 1e9:
                first += 1
            most = max(most, last - first + 1)
        return most
