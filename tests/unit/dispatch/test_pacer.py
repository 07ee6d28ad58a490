"""When a kill's read-back leaves that waits for room in its venue's limit, and what gives way to it."""

from __future__ import annotations

from typing import ClassVar

import pytest

from kill_switch.core.domain import Instant, Route, SweepTiming
from kill_switch.core.state import State
from kill_switch.core.sweep_state import LATEST_S, LONGEST_WAIT_S
from kill_switch.venues.kit.account_limits import AccountLimits
from kill_switch.venues.kit.pools import Calls, Demand
from kill_switch.venues.messages import CallLost, Closed, Event, OrdersRead, Outputs, Replied
from kill_switch.venues.request import Request
from tests.harness.core_playbook import armed, at, clear, residue
from tests.harness.dispatch_doubles import GET_ORDERS, Floor, Venue

PROBE = Request("GET", "/balance", {})
PING = Request("GET", "/ping", {})


class FullLimits(AccountLimits):
    """Have no room for a read for an hour; cancels have their part."""

    reserved_s = 0.0  # for so long a read would take what is kept for cancels

    def read_wait_s(self, now: Instant) -> float:
        return 3600.0

    def first_read_wait_s(self, now: Instant) -> float:
        return max(0.0, self.reserved_s - (now.mono_ns - at(11_000).mono_ns) / 1e9)


class Full(Venue):
    """A venue whose limits are full."""

    def __init__(self, reserved_s: float = 0.0) -> None:
        super().__init__()
        self.limits = FullLimits(self.budget, self.limits.cadence, 1.0)
        self.limits.reserved_s = reserved_s

    def keep_warm(self, now: Instant) -> Outputs:
        return self.calls.start_call("probe", lambda _: PROBE, now)


class HeavyReads(Full):
    DEMAND: ClassVar[Demand] = Demand(read=("GET /a", "GET /b"), probe=("GET /a",))


def floor_with(venue: Venue, state: State) -> Floor:
    floor = Floor(state=state)
    floor.time.ns = at(11_000).mono_ns
    floor.connect("a", venue)
    return floor


def left(floor: Floor, request: Request) -> int:
    return sum(call.request is request for call in floor.lanes["a"].calls)


@pytest.mark.parametrize("reserved_s", [0.0, 25.0], ids=["", "later-if-cancels-need-the-room"])
def test_a_kills_read_waits_for_its_share_for_a_limited_time(reserved_s: float) -> None:
    floor = floor_with(Full(reserved_s), residue("a"))
    floor.session().read_back()
    floor.time.advance(1000 * max(LONGEST_WAIT_S, reserved_s) - 20)
    assert left(floor, GET_ORDERS) == 0
    floor.time.advance(40)
    assert left(floor, GET_ORDERS) == 1


def test_a_proof_that_waits_says_for_how_long_until_it_has_left() -> None:
    floor = floor_with(Full(25.0), residue("a"))
    assert floor.session().pacer.proof_wait_s == 0
    floor.session().read_back()
    assert floor.session().pacer.proof_wait_s == pytest.approx(25, abs=0.01)
    floor.time.advance(10_000)
    assert floor.session().pacer.proof_wait_s == pytest.approx(15, abs=0.01)
    floor.time.advance(15_040)
    assert floor.session().pacer.proof_wait_s == 0


def test_the_sweep_counts_the_time_of_a_read_from_when_it_leaves() -> None:
    floor = floor_with(Full(), residue("a"))
    floor.session().read_back()
    floor.time.advance(1000 * LONGEST_WAIT_S + 20)
    sweep = floor.dispatcher.state.accounts["a"].sweep
    assert sweep is not None
    assert abs(sweep.read_asked_ns - at(11_000 + 1000 * LONGEST_WAIT_S).mono_ns) < 20_000_000


def test_a_read_that_waits_leaves_instead_of_a_probe_and_the_next_probe_is_one() -> None:
    floor = floor_with(Full(), residue("a"))
    floor.session().read_back()
    floor.session().use_idle_http_lane()
    assert (left(floor, GET_ORDERS), left(floor, PROBE)) == (1, 0)
    floor.session().use_idle_http_lane()
    assert (left(floor, GET_ORDERS), left(floor, PROBE)) == (1, 1)


@pytest.mark.parametrize(
    ("venue", "state"),
    [(HeavyReads(), residue("a")), (Full(), clear("a"))],
    ids=["a-read-takes-more-than-a-probe", "a-guards-read"],
)
def test_a_probe_stays_a_probe(venue: Venue, state: State) -> None:
    floor = floor_with(venue, state)
    floor.session().read_back()
    floor.session().use_idle_http_lane()
    assert (left(floor, GET_ORDERS), left(floor, PROBE)) == (0, 1)


def test_no_read_replaces_a_probe_while_the_venue_asks_for_a_pause() -> None:
    venue = Full()
    floor = floor_with(venue, residue("a"))
    floor.session().read_back()
    venue.budget.on_refusal(60.0, floor.time.now())
    floor.session().use_idle_http_lane()
    assert (left(floor, GET_ORDERS), left(floor, PROBE)) == (0, 1)


class ManySymbols(Full):
    """A venue whose strikes have a call for each symbol."""

    DEMAND: ClassVar[Demand] = Demand(keep_open=("GET /ping",))
    keep_open = staticmethod(lambda now: PING)

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.symbols = calls
        self.is_full = False
        self.limits.has_room = lambda calls, now, *, spares_read=True: not self.is_full  # type: ignore[method-assign]

    def strike_calls(self) -> int:
        if not self.symbols:
            raise ValueError("an order without a symbol")
        return self.symbols


def test_the_lane_has_a_connection_for_each_call_and_two_for_reads_up_to_the_accounts_share() -> None:
    venue = ManySymbols(80)
    pacer = floor_with(venue, residue("a")).session().pacer
    assert pacer.wanted_connections() == 82
    venue.connections = venue.connections._replace(most=50)
    assert pacer.wanted_connections() == 50
    venue.symbols = 0  # the count fails
    assert pacer.wanted_connections() == venue.CONNECTIONS


def test_an_account_whose_strikes_have_few_calls_wants_no_further_connection() -> None:
    assert floor_with(Full(), residue("a")).session().pacer.wanted_connections() == 0


def test_a_connection_is_kept_open_only_while_the_limits_have_room_and_proves_no_key() -> None:
    venue = ManySymbols(80)
    floor = floor_with(venue, residue("a"))
    floor.session().keep_connection()
    venue.is_full = True
    floor.session().keep_connection()
    assert left(floor, PING) == 1
    venue.is_full = False
    venue.budget.on_refusal(60.0, floor.time.now())
    floor.session().keep_connection()
    assert left(floor, PING) == 1
    floor.answer("a", body=b"{}")
    assert floor.phase() == "RESIDUE"


def test_a_connection_that_is_kept_open_without_an_answer_makes_the_lane_not_ready_and_is_probed_at_once() -> None:
    floor = floor_with(ManySymbols(80), residue("a"))
    floor.session().break_silence()
    (call,) = floor.lanes["a"].calls
    floor.session().on_lane_event(CallLost(call.tag, True, "no answer in time"))
    assert "a authenticated False" in floor.trace
    assert [each.request.target for each in floor.lanes["a"].calls[1:]] == [PROBE.target]


def test_the_end_of_the_websocket_has_http_probed_at_once_but_not_again_within_two_seconds() -> None:
    floor = floor_with(ManySymbols(80), residue("a"))
    floor.time.advance(10_000)
    for _ in range(2):
        floor.session().on_lane_event(Closed(Route.WS, 1, "no frame received for 2 s"))
    assert len(floor.lanes["a"].calls) == 1


def test_a_request_whose_cost_is_not_stated_keeps_no_connection_open() -> None:
    class Unstated(ManySymbols):
        DEMAND = Demand()

    floor = floor_with(Unstated(80), residue("a"))
    floor.session().keep_connection()
    assert floor.lanes["a"].calls == []


class BrokenLimits(AccountLimits):
    """Fail at every question."""

    def read_wait_s(self, now: Instant) -> float:
        raise RuntimeError("limits")

    first_read_wait_s = proof_wait_s = read_wait_s

    def has_room(self, calls: Calls, now: Instant, *, spares_read: bool = True) -> bool:
        raise RuntimeError("limits")

    def probe_bounds_s(self) -> tuple[float, float]:
        raise RuntimeError("limits")

    def paced(self, timing: SweepTiming, now: Instant) -> SweepTiming:
        raise RuntimeError("limits")


class Broken(Full):
    """A venue whose limits fail."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = BrokenLimits(self.budget, self.limits.cadence, 1.0)


@pytest.mark.parametrize("is_prompt", [False, True])
def test_limits_that_fail_hold_back_no_read_of_a_kill(is_prompt: bool) -> None:
    floor = floor_with(Broken(), residue("a"))
    assert floor.session().read_back(is_prompt=is_prompt) == 0
    assert left(floor, GET_ORDERS) == 1


def test_limits_that_fail_hold_back_no_probe_and_no_look_at_other_accounts() -> None:
    floor = floor_with(Broken(), residue("a"))
    floor.session().use_idle_http_lane()
    floor.session().use_idle_http_lane()
    assert left(floor, PROBE) == 2
    assert not floor.session().request_equity()


class Answered(Broken):
    def handle(self, event: Event, now: Instant) -> Outputs:
        return (OrdersRead((), True, now.mono_ns),)


def test_limits_that_fail_lose_no_answer_of_the_venue() -> None:
    floor = floor_with(Answered(), residue("a"))
    floor.session().on_lane_event(Replied("orders#1", 429, {}, b""))
    assert isinstance(floor.session().status.last_read, OrdersRead)


@pytest.mark.parametrize(("state", "may_leave"), [(armed("a"), True), (residue("a"), False)], ids=["armed", "a-kill"])
def test_equity_leaves_room_for_a_read_back_only_during_a_kill(state: State, may_leave: bool) -> None:
    venue = Full()
    venue.limits.has_room = lambda calls, now, *, spares_read=True: not spares_read  # type: ignore[method-assign]
    floor = floor_with(venue, state)
    assert floor.session().pacer.has_room_for_equity(floor.time.now()) is may_leave


class NeverFree(Full):
    """A venue whose limits never leave a kill's read what is kept for cancels."""

    def __init__(self) -> None:
        super().__init__(reserved_s=1e6)


def test_a_kills_read_that_never_gets_room_leaves_after_two_minutes() -> None:
    floor = floor_with(NeverFree(), residue("a"))
    floor.session().read_back()
    floor.time.advance(1000 * LATEST_S - 20)
    assert left(floor, GET_ORDERS) == 0
    floor.time.advance(40)
    assert left(floor, GET_ORDERS) == 1


def test_a_kills_read_that_never_gets_room_keeps_to_a_pause_that_the_venue_names() -> None:
    venue = NeverFree()
    floor = floor_with(venue, residue("a"))
    floor.session().read_back()
    floor.time.advance(1000 * LATEST_S - 20)
    venue.budget.on_refusal(60.0, floor.time.now())
    floor.time.advance(59_000)
    assert left(floor, GET_ORDERS) == 0
    floor.time.advance(1_100)
    assert left(floor, GET_ORDERS) == 1
