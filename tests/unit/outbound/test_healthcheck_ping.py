"""The monitor elsewhere hears of us only while we could fire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from pydantic import SecretStr

from kill_switch import __version__
from kill_switch.config.schema import PingConfig as Table
from kill_switch.core.domain import LaneState
from kill_switch.health.readiness import why_unable_to_fire
from kill_switch.outbound.healthcheck_ping import HealthcheckPing
from tests.harness.dispatch_doubles import Floor, Lane
from tests.harness.worker_double import NO, OK, Beside, now, seconds

URL = "https://hc.example/ping/0b7c"


@dataclass
class Stage:
    beside: Beside = field(default_factory=Beside)
    why: str = ""

    def __post_init__(self) -> None:
        self.ping = HealthcheckPing(self.beside, lambda: self.why, now, lambda: "7 0f3a")

    @property
    def times(self) -> list[float]:
        return [run.at_s for run in self.beside.of("call")]


@asynccontextmanager
async def stage(every_s: float = 60.0, url: str | None = URL) -> AsyncIterator[Stage]:
    made = Stage()
    secret = None if url is None else SecretStr(url)
    made.ping.configure(Table().model_copy(update={"url": secret, "every_s": every_s}))
    async with anyio.create_task_group() as group:
        group.start_soon(made.ping.run)
        yield made
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_the_monitor_is_called_at_the_pace_that_was_asked_for() -> None:
    async with stage() as made:
        made.beside.takes = lambda run: 2.0
        await anyio.sleep(200)
        assert made.times == pytest.approx([0, 60, 120, 180], abs=0.01)
        assert made.beside.runs[0].errand == {"url": URL, "agent": f"kill-switch/{__version__} (record 7; 0f3a)"}
        assert (made.ping.sent, made.ping.failures) == (4, 0)


@pytest.mark.anyio
async def test_the_ping_pauses_while_a_kill_is_impossible_and_resumes_at_once() -> None:
    async with stage() as made:
        await anyio.sleep(50)
        made.why = "not ready: mm1"
        await anyio.sleep(100)
        assert list(made.ping.troubles()) == ["ping: withheld: not ready: mm1"]
        made.why = ""
        await anyio.sleep(2)
        assert made.times == pytest.approx([0, 151], abs=1)
        assert list(made.ping.troubles()) == []


@pytest.mark.anyio
async def test_a_call_that_fails_is_shown_and_tried_again_before_the_next_is_due() -> None:
    async with stage() as made:
        made.beside.answer = lambda run: OK if seconds() > 25 else NO
        await anyio.sleep(15)
        assert list(made.ping.troubles()) == ["ping: HTTP 500"]
        await anyio.sleep(80)
        assert made.times == pytest.approx([0, 10, 20, 30, 90], abs=0.01)
        assert (made.ping.sent, made.ping.failures) == (2, 3)
        assert list(made.ping.troubles()) == []


@pytest.mark.anyio
async def test_without_an_address_no_ping_is_sent() -> None:
    async with stage(url=None) as made:
        await anyio.sleep(1000)
        assert made.times == []


# ── what "could fire" means ───────────────────────────────────────────────────────────────────────────────────────


def why(change: Callable[[Floor], object] = lambda floor: None) -> str:
    """Return why a daemon of two accounts, after a change, could not fire."""
    floor = Floor(("mm1", "rx1"))
    floor.dispatcher.last_pulse_ns = floor.time.now().mono_ns
    change(floor)
    return why_unable_to_fire(floor.dispatcher, floor.time.now())


def lose(*accounts: str) -> Callable[[Floor], None]:
    """Return a change that takes all lanes of these accounts down."""

    def change(floor: Floor) -> None:
        for name in accounts:
            floor.lanes[name].state = LaneState.DOWN
            floor.lanes[name].trouble = "Connection refused"

    return change


def lose_web_socket(floor: Floor) -> None:
    ws = floor.session("mm1").status._ws = Lane("mm1", [])
    ws.state = LaneState.DOWN


def lose_a_tripped_account(floor: Floor) -> None:
    floor.fire("rx1")
    lose("rx1")(floor)


LOST = "(ws: Connection refused; http: Connection refused)"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda floor: None, ""),
        (lose_web_socket, ""),
        (lose_a_tripped_account, ""),
        (lose("rx1"), f"no kill would reach rx1 {LOST}"),
        (lose("rx1", "mm1"), f"no kill would reach mm1 {LOST}, rx1 {LOST}"),
        (lambda floor: floor.time.advance(4_900), ""),
        (lambda floor: floor.time.advance(5_100), "the engine does not answer"),
    ],
)
def test_a_daemon_could_fire_if_some_route_of_every_armed_account_would_carry_a_kill(
    change: Callable[[Floor], object], said: str
) -> None:
    assert why(change) == said
