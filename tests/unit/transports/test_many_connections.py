"""A lane with as many connections as a strike has calls, in virtual time: growth, pace, refusals, shrinking, upkeep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import pytest

from kill_switch.core.domain import Route
from kill_switch.transports import connection_count, connection_pool, http, http_connection
from kill_switch.transports.connection_count import SHRINK_AFTER_S, ConnectionCount
from kill_switch.transports.http import CONNECTIONS, SILENT_S, HttpLane
from kill_switch.transports.lane import Backoff
from kill_switch.venues.messages import Call, CallLost, Closed, Opened, Replied
from kill_switch.venues.request import Request
from tests.harness.lane_listeners import RecordingListener, get
from tests.harness.stub_host import ANSWER_S, CONNECT_S, StubHost
from tests.harness.virtual_time import VirtualTimeLoop, running

pytestmark = pytest.mark.anyio

WANTED = 82  # 40 symbols in two order spaces, and two reads
PER_S = 10.0
IDLE_S = 45.0


@pytest.fixture
def anyio_backend() -> object:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


@pytest.fixture(autouse=True)
def in_earnest(hurry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the back-off of real lanes, and the virtual clock everywhere."""
    for module in (connection_count, connection_pool):
        monkeypatch.setattr(module, "Backoff", Backoff)
    for module in (http, http_connection):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic_ns=lambda: running().now().mono_ns))


class Listener(RecordingListener):
    """A listener that uses the lane whenever it is asked to, with calls that are not urgent."""

    def __init__(self) -> None:
        super().__init__()
        self.lane: HttpLane
        self.kept_s: list[float] = []

    def use_idle_http_lane(self) -> None:
        super().use_idle_http_lane()
        self.lane.call(get(f"warm {self.warms}"))

    def keep_connection(self) -> None:
        super().keep_connection()
        self.kept_s.append(running().time())
        self.lane.call(get(f"kept {self.kept}"))


class Account:
    """What an account wants of its lane."""

    def __init__(self, wanted: int = WANTED) -> None:
        self.wanted = wanted
        self.is_tripped = False
        self.host = StubHost()
        self.ear = Listener()
        self.count = ConnectionCount(
            lambda: self.wanted, per_s=lambda: PER_S, pinned=lambda: self.is_tripped, idle_s=IDLE_S
        )
        self.lane = self.ear.lane = HttpLane(
            "https://venue.test", self.ear, count=self.count, network=self.host.network()
        )

    @property
    def up(self) -> int:
        return len(self.host.open)

    def strike(self, calls: int) -> None:
        for number in range(calls):
            tag = f"kill {number}"
            request = Request("DELETE", f"/{number}", {"Host": "venue.test"})
            self.lane.call(Call(tag, request, Route.HTTP, urgent=True, cancel=True, command=True))


@asynccontextmanager
async def of(account: Account) -> AsyncIterator[Account]:
    async with anyio.create_task_group() as group:
        group.start_soon(account.lane.run)
        yield account
        group.cancel_scope.cancel()


@asynccontextmanager
async def grown(wanted: int = WANTED) -> AsyncIterator[Account]:
    """Run a lane that has all its connections."""
    async with of(Account(wanted)) as account:
        await anyio.sleep(wanted / PER_S + 1)
        assert account.up == wanted
        yield account


def busiest_second(moments_s: list[float]) -> int:
    return max(sum(0 <= other - moment < 1 for other in moments_s) for moment in moments_s)


async def test_a_lane_grows_to_the_wanted_number_at_the_venues_pace_and_is_open_from_the_first_connection() -> None:
    async with of(Account()) as account:
        await anyio.sleep(CONNECT_S + 0.15)
        assert account.ear.events == [Opened(Route.HTTP, 0)] and account.lane.spare
        await anyio.sleep(WANTED / PER_S + 1)
        assert account.up == len(account.host.attempts) == WANTED
        assert busiest_second(account.host.attempts) <= PER_S + CONNECTIONS + 1
        assert account.lane.trouble == ""
        account.wanted += 5
        await anyio.sleep(2)
        assert account.up == WANTED + 5


async def test_an_account_whose_strikes_fit_has_its_usual_connections_and_opens_no_others() -> None:
    async with of(Account(0)) as account:
        await anyio.sleep(3600)
        assert account.up == len(account.host.attempts) == CONNECTIONS
        assert account.ear.kept == 0


async def test_a_lane_whose_venue_has_been_silent_has_its_listener_break_the_silence_each_second() -> None:
    async with of(Account(0)) as account:
        await anyio.sleep(SILENT_S - 0.5)
        assert account.ear.silences == 0
        await anyio.sleep(10)
        assert 3 <= account.ear.silences <= 11  # a probe breaks it too


async def test_a_venue_that_refuses_further_connections_gets_one_attempt_at_a_time_and_the_status_counts_them() -> None:
    account = Account()
    account.host.most = 12
    async with of(account):
        await anyio.sleep(10)
        assert account.up == 12 and account.lane.spare
        assert account.lane.trouble == "12 of 82 connections: Connection refused"
        tried = len(account.host.attempts)
        assert tried <= 12 + connection_count.OPENING_MOST + 8
        await anyio.sleep(60)
        assert len(account.host.attempts) - tried <= 60 / 3
        account.host.most = 1000
        await anyio.sleep(20)
        assert account.up == WANTED and account.lane.trouble == ""


async def test_a_venue_that_closes_further_connections_at_once_is_not_stormed() -> None:
    account = Account()
    account.host.most, account.host.closes_early = 12, True
    async with of(account):
        await anyio.sleep(10)
        assert account.up == 12
        assert account.lane.trouble == "12 of 82 connections: closed by the venue"
        tried = len(account.host.attempts)
        await anyio.sleep(60)
        assert len(account.host.attempts) - tried <= 60 / 3


async def test_a_host_that_is_down_gets_no_attempt_for_each_missing_connection() -> None:
    account = Account()
    account.host.most = 0
    async with of(account):
        await anyio.sleep(60)
        tried = len(account.host.attempts)
        await anyio.sleep(60)
        assert len(account.host.attempts) - tried <= (CONNECTIONS + 1) * 60 / 5
        assert account.lane.trouble == "Connection refused"


async def test_connections_close_only_after_a_quiet_time_and_one_after_the_other() -> None:
    async with grown() as account:
        account.wanted = 10
        await anyio.sleep(SHRINK_AFTER_S / 2)
        account.wanted = WANTED
        await anyio.sleep(2)
        account.wanted = 10
        await anyio.sleep(SHRINK_AFTER_S - 2)
        assert account.up == WANTED
        await anyio.sleep(4)
        assert 10 < account.up < WANTED
        await anyio.sleep(WANTED / PER_S)
        assert account.up == 10
        assert len(account.host.attempts) == WANTED
        assert not account.ear.closed() and account.lane.trouble == ""


async def test_no_connection_closes_during_a_kill_though_the_book_is_empty_by_then() -> None:
    async with grown() as account:
        account.wanted, account.is_tripped = 4, True
        await anyio.sleep(4 * SHRINK_AFTER_S)
        assert account.up == WANTED
        account.is_tripped = False
        await anyio.sleep(SHRINK_AFTER_S - 2)
        assert account.up == WANTED
        await anyio.sleep(WANTED / PER_S + 4)
        assert account.up == 4


async def test_a_kill_in_the_middle_of_shrinking_keeps_the_connections_that_are_left() -> None:
    async with grown() as account:
        account.wanted = 10
        await anyio.sleep(SHRINK_AFTER_S + 3)
        left = account.up
        assert 10 < left < WANTED
        account.is_tripped = True
        await anyio.sleep(60)
        assert account.up == left


async def test_every_connection_is_used_before_it_is_idle_for_long_and_no_burst_follows_a_strike() -> None:
    async with grown() as account:
        await anyio.sleep(100)
        account.strike(WANTED)
        before = len(account.ear.kept_s)
        longest_s = 0.0
        for _ in range(400):
            await anyio.sleep(1)
            longest_s = max(longest_s, *(running().time() - transport.used_s for transport in account.host.open))
        kept_s = account.ear.kept_s[before:]
        assert longest_s <= IDLE_S + 1
        assert len(kept_s) <= 1.05 * 400 * WANTED / IDLE_S
        assert busiest_second(kept_s) <= 2 * WANTED / IDLE_S + 1
        assert account.up == WANTED


async def test_connections_that_strikes_use_need_no_upkeep() -> None:
    async with grown() as account:
        before = account.ear.kept
        for _ in range(60):
            account.strike(WANTED)
            await anyio.sleep(5)
        assert account.ear.kept == before


async def test_idle_connections_that_the_venue_closes_together_open_again_at_the_pace_without_back_off() -> None:
    async with grown() as account:
        await anyio.sleep(10)
        for transport in account.host.open[CONNECTIONS:]:
            transport.abort()
        tried = len(account.host.attempts)
        await anyio.sleep(WANTED / PER_S + 1)
        again = account.host.attempts[tried:]
        assert account.up == WANTED == len(again) + CONNECTIONS
        assert busiest_second(again) <= PER_S + 1
        assert not account.ear.closed() and not account.ear.troubles


async def test_in_a_pause_that_the_venue_asks_for_no_further_connection_opens_and_none_is_kept_in_use() -> None:
    async with of(Account()) as account:
        await anyio.sleep(2)
        up = account.up
        account.lane.hold(60.0)
        await anyio.sleep(59)
        assert account.up <= up + CONNECT_S * PER_S and account.ear.kept == 0
        await anyio.sleep(WANTED / PER_S + 3)
        assert account.up == WANTED


async def test_a_kill_while_the_lane_grows_uses_every_connection_at_once_and_new_ones_as_they_come_in_order() -> None:
    async with of(Account()) as account:
        await anyio.sleep(1)
        up, account.host.is_silent, account.is_tripped = account.up, True, True
        account.strike(WANTED)
        account.lane.call(get("read", urgent=True))
        assert [tag for _, tag in account.ear.sents] == [f"kill {number}" for number in range(up)]
        await anyio.sleep(1)
        assert up < len(account.ear.sents) <= account.up
        account.host.is_silent = False
        for transport in [each for each in account.host.open if each.written]:
            transport.answer()
        await anyio.sleep(WANTED / PER_S)
        left = [tag for _, tag in account.ear.sents if not tag.startswith("warm")]
        assert left == [*(f"kill {number}" for number in range(WANTED)), "read"]


async def test_a_connection_that_hangs_delays_only_its_own_call() -> None:
    async with grown() as account:
        account.host.is_silent = True
        account.lane.call(get("hangs", urgent=True))
        account.host.is_silent = False
        account.strike(WANTED - 1)
        await anyio.sleep(ANSWER_S + 0.01)
        assert sum(isinstance(event, Replied) for event in account.ear.events) >= WANTED - 1
        assert not account.ear.ends("hangs")
        account.strike(1)
        await anyio.sleep(ANSWER_S + 0.01)
        assert len(account.ear.ends("kill 0")) == 2


async def test_a_lane_all_of_whose_connections_die_loses_every_call_at_once_and_grows_again() -> None:
    async with grown() as account:
        account.host.is_silent = True
        account.strike(WANTED + 10)
        for transport in list(account.host.open):
            transport.abort()
        await anyio.sleep(0.001)
        lost = [event for event in account.ear.events if isinstance(event, CallLost)]
        assert len(lost) == WANTED + 10 and not any(event.spare for event in lost[-11:])
        assert [event.sent for event in lost].count(False) == 10
        assert [type(event) for event in account.ear.events if isinstance(event, Opened | Closed)] == [Opened, Closed]
        await anyio.sleep(WANTED / PER_S + 5)
        assert account.up == WANTED
