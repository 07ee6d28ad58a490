"""Many accounts on one address keep below what their venue allows it, and leave room for the kill."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import cast

import pytest

from kill_switch.dispatch import Dispatcher
from kill_switch.domain import Reason, Route
from kill_switch.engine import Account, State
from kill_switch.measuring import Measuring
from kill_switch.sim import oxfun as simulated
from kill_switch.sim.messages import Answer
from kill_switch.sim.messages import Request as Heard
from kill_switch.sim.oxfun_floor import OxfunOptions
from kill_switch.sim.server import Connection
from kill_switch.venues.base import Call, Opened, Replied
from kill_switch.venues.oxfun import OxFun
from kill_switch.wiring import paces
from tests.core.playbook import START
from tests.core.stubs import Lane, Recorder, Time

TRIP_MS = 40.0


class Way(Lane):
    """An HTTP lane to the simulator, all of them from one address."""

    def __init__(self, address: Address, name: str) -> None:
        super().__init__(name, [])
        self._address = address

    def call(self, call: Call) -> None:
        self.release(call)
        self._address.time.later(TRIP_MS / 2000, self._arrives, call)

    def _arrives(self, call: Call) -> None:
        status, body = self._address.answer(call)
        self._address.time.later(TRIP_MS / 2000, self._comes_back, call, status, body)

    def _comes_back(self, call: Call, status: int, body: bytes) -> None:
        assert self.session is not None
        self.session.event(Replied(call.tag, status, {}, body, int(TRIP_MS * 1000)))


class Address:
    """So many accounts of one host: real adapters, engine and sweeps, and the simulator's rules, in virtual time."""

    def __init__(self, accounts: int, *, alone: bool = False) -> None:
        """`alone`: each is paced as if there were no other."""
        self.time = Time()
        self.asked_ns: list[int] = []
        self.refused = 0
        self.venue = simulated.Oxfun(OxfunOptions(), accounts)
        self._connection = cast(Connection, types.SimpleNamespace(peer="198.51.100.7"))
        options = OxFun.Options(rest_url="https://api.ox.fun")
        keys = list(self.venue.keys.values())
        adapters = {f"a{n}": OxFun(options, key.credentials, 0.06) for n, key in enumerate(keys)}
        pace = {name: OxFun.pace(1) for name in adapters} if alone else paces(adapters)
        state = State({name: Account(pace[name]) for name in adapters})
        self.recorder = Recorder([])
        self.dispatcher = Dispatcher(state, self.recorder, self.time.now, self.time.later, lambda said: None)
        for number, (name, adapter) in enumerate(adapters.items()):
            session = self.dispatcher.add(name, adapter)
            way = Way(self, name)
            session.ws = session.http = session.fresh = way
            way.session = session
            session.event(Opened(Route.HTTP, 0))
            self.time.later(number * 0.4, self._warm, name)
        self._measuring = Measuring(self.dispatcher, lambda: tuple(adapters))

    def _warm(self, name: str) -> None:
        session = self.dispatcher.sessions[name]
        session.warm()
        self.time.later(session.venue.WARM_EVERY_S / session.venue.CONNECTIONS, self._warm, name)

    def answer(self, call: Call) -> tuple[int, bytes]:
        """Be the simulator's front door."""
        made = call.request
        path, _, query = made.target.partition("?")
        headers = {key.lower(): value for key, value in made.headers.items()}
        request = Heard(made.method, made.target, path, query, headers, made.body, self.time.ns, True)
        self.asked_ns.append(self.time.ns)
        answer = self.venue.throttle(self._connection, request)
        if answer is None:
            account, route = self.venue.authenticate(request), self.venue.route(request)
            assert route is not None
            said = account if isinstance(account, Answer) else route.call(account, request)
            assert isinstance(said, Answer)
            assert said.status == 200, said.bodies
            answer = said
        else:
            self.refused += 1
        return answer.status, answer.bodies[0]

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self._measuring.look()
            self.time.advance(100)

    def fire(self) -> None:
        self.dispatcher.report(Reason("panic", "touched", tuple(self.dispatcher.sessions), self.time.now()))

    def phases(self) -> set[str]:
        return {account.phase.value for account in self.dispatcher.state.accounts.values()}

    def within(self, seconds: float) -> int:
        """Count the requests of the last so many seconds."""
        return sum(at_ns > self.time.ns - seconds * 1e9 for at_ns in self.asked_ns)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Address]]:
    """Let the simulator's clocks be those of the address that is tested."""
    made: list[Address] = []

    def now_ns() -> int:
        return made[0].time.ns if made else START.mono_ns

    monkeypatch.setattr(simulated, "time", types.SimpleNamespace(monotonic=lambda: now_ns() / 1e9))
    monkeypatch.setattr(simulated.Oxfun, "now", lambda self: (START.wall_ns + now_ns() - START.mono_ns) / 1e9)
    yield made


def tripped(clock: list[Address], accounts: int, *, alone: bool = False) -> Address:
    address = Address(accounts, alone=alone)
    clock.append(address)
    address.run(3)
    address.fire()
    address.run(1)
    assert (address.phases(), address.refused) == ({"CLEAR"}, 0)
    return address


def test_sixteen_guarded_accounts_keep_below_the_limits_of_their_address(clock: list[Address]) -> None:
    address = tripped(clock, 16)
    strikes = len(address.recorder.of("strike"))
    address.run(360)
    assert (address.phases(), address.refused) == ({"CLEAR"}, 0)
    assert address.within(300) < 0.8 * 2500
    assert len(address.recorder.of("strike")) == strikes  # none of them has become unreadable
    for _ in range(3):  # what is left is enough for more than one kill
        address.fire()
        address.run(1)
        assert (address.phases(), address.refused) == ({"CLEAR"}, 0)


def test_sixteen_accounts_that_each_read_as_if_they_were_alone_would_not(clock: list[Address]) -> None:
    address = tripped(clock, 16, alone=True)
    while not address.refused:
        address.run(1)
        assert address.time.ms < 300_000


def test_a_few_accounts_are_guarded_as_closely_as_one() -> None:
    assert OxFun.pace(1) is OxFun.pace(8) is OxFun.PACE
    assert OxFun.PACE.guard_every_s == 2.0
    closer, wider = OxFun.pace(12), OxFun.pace(200)
    assert 2.0 < closer.guard_every_s < wider.guard_every_s == 10.0
    assert closer.read_gap_s == OxFun.PACE.read_gap_s  # a kill is as fast as ever


def test_accounts_on_other_addresses_and_of_other_venues_are_not_counted_together() -> None:
    def adapter(host: str) -> OxFun:
        options = OxFun.Options(rest_url=f"https://{host}")
        return OxFun(options, {"api_key": "a-key-of-ours", "api_secret": "a-secret-of-ours"}, 0.06)

    found = paces({f"{host}{n}": adapter(host) for host in ("one.test", "two.test") for n in range(8)})
    assert {pace.guard_every_s for pace in found.values()} == {2.0}
    found = paces({f"a{n}": adapter("one.test") for n in range(16)})
    assert len({id(pace) for pace in found.values()}) == 1
    assert found["a0"] == OxFun.pace(16)
