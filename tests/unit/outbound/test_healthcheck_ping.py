"""The monitor elsewhere hears of us only while we could fire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import anyio
import pytest
from pydantic import SecretStr

from kill_switch import __version__
from kill_switch.config.schema import PingConfig as Table
from kill_switch.core.domain import Instant
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.health.readiness import why_not_ready_to_fire
from kill_switch.journal.journal import Journal
from kill_switch.outbound.healthcheck_ping import HealthcheckPing
from kill_switch.triggers.supervisor import TriggerSupervisor
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


@dataclass
class Floor:
    """As much of the daemon as decides it; a session is nothing but ready or not."""

    ready: dict[str, bool] = field(default_factory=lambda: {"mm1": True, "rx1": True})
    pulse_age_s: float = 0.1
    blind: int = 0
    trouble: str = ""
    displaced: bool = False

    def why(self, mode: str = "all") -> str:
        floor = self

        class Session:
            def __init__(self, ready: bool) -> None:
                self.is_ready = ready
                self.status = self

            def troubles(self) -> dict[str, str]:
                return {} if self.is_ready else {"ws": "Connection refused"}

        class Parts:
            last_pulse_ns = 1_000_000_000_000 - int(floor.pulse_age_s * 1e9)
            trouble = floor.trouble

            def __init__(self) -> None:
                self.sessions = {name: Session(ready) for name, ready in floor.ready.items()}

            def displaced(self) -> bool:
                return floor.displaced

            def blind(self) -> int:
                return floor.blind

        parts = Parts()
        at = Instant(1_000_000_000_000, 0)
        return why_not_ready_to_fire(
            cast(Dispatcher, parts), cast(Journal, parts), cast(TriggerSupervisor, parts), mode, at
        )


@pytest.mark.parametrize(
    ("change", "mode", "why"),
    [
        ({}, "all", ""),
        ({"pulse_age_s": 6.0}, "all", "the engine does not answer"),
        ({"trouble": "journal: No space left on device"}, "all", "the journal is not written"),
        ({"displaced": True}, "all", "the journal is not written"),
        ({"blind": 2}, "all", "2 trigger(s) are blind"),
        ({"ready": {"mm1": True, "rx1": False}}, "all", "not ready: rx1 (ws: Connection refused)"),
        ({"ready": {"mm1": True, "rx1": False}}, "degraded", ""),
        (
            {"ready": {"mm1": False, "rx1": False}},
            "degraded",
            "not ready: mm1 (ws: Connection refused), rx1 (ws: Connection refused)",
        ),
    ],
)
def test_only_a_daemon_that_can_fire_pings(change: dict[str, object], mode: str, why: str) -> None:
    assert replace(Floor(), **change).why(mode) == why  # type: ignore[arg-type]
