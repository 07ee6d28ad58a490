"""Heartbeats, an intake and a flag at work, for the tests of triggers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import anyio.lowlevel
import pytest

from kill_switch import clock
from kill_switch.core.domain import Instant, Reason
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.flag import trigger
from kill_switch.triggers.flag.trigger import FlagTrigger
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.stall_clock import StallClock
from tests.harness.virtual_time import VirtualTimeLoop, running

VIRTUAL = pytest.param(("asyncio", {"loop_factory": VirtualTimeLoop}), id="virtual-time")


REAL = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]


virtual_time = pytest.mark.parametrize("anyio_backend", [VIRTUAL])


real_time = pytest.mark.parametrize("anyio_backend", REAL)


Start = Literal["first-beat", "boot"]


class Watch:
    """A heartbeat of 3 s on account `a`, with its attention, at work."""

    def __init__(self, start: Start, allow_bye: bool, drain: Callable[[], None]) -> None:
        self.loop = running()
        self.began_ns = self.loop.now().mono_ns
        self.reasons: list[Reason] = []
        self.attention = StallClock(self.loop.now)
        self.trigger = HeartbeatTrigger(
            "quoter-alive",
            ("a",),
            3.0,
            start,
            allow_bye,
            clock=self.loop.now,
            attention=self.attention,
            drain=drain,
        )

    @property
    def s(self) -> float:
        return (self.loop.now().mono_ns - self.began_ns) / 1e9

    @property
    def fired_s(self) -> list[float]:
        """When it has fired, in seconds since the start, to the millisecond."""
        return [round((reason.observed_at.mono_ns - self.began_ns) / 1e9, 3) for reason in self.reasons]

    @property
    def state(self) -> TriggerState:
        return self.trigger.state()[0]

    async def until(self, seconds: float) -> None:
        await anyio.sleep(self.began_ns / 1e9 + seconds - self.loop.time())


@asynccontextmanager
async def watching(
    start: Start = "first-beat", *, allow_bye: bool = False, drain: Callable[[], None] = lambda: None
) -> AsyncIterator[Watch]:
    watch = Watch(start, allow_bye, drain)
    async with anyio.create_task_group() as group:
        group.start_soon(watch.attention.run)
        group.start_soon(watch.trigger.run, watch.reasons.append)
        await anyio.lowlevel.checkpoint()
        yield watch
        group.cancel_scope.cancel()


class IntakeFixture:
    """An intake with two heartbeats behind it; nothing runs."""

    def __init__(self, path: Path, key: bytes | None = None, udp: tuple[str, int] | None = None) -> None:
        self.wall_ms = 1_700_000_000_000
        now = self._now
        self.intake = Intake(path, udp, key, clock=now)
        attention = StallClock(now)
        self.alive, self.strict = (
            HeartbeatTrigger(name, ("a",), 3.0, "first-beat", bye, clock=now, attention=attention, drain=lambda: None)
            for name, bye in (("quoter-alive", True), ("strict", False))
        )
        self.intake.configure({"quoter-alive": self.alive, "strict": self.strict}, {})

    def _now(self) -> Instant:
        return Instant(1_000_000_000_000, self.wall_ms * 1_000_000)

    def hear(self, datagram: bytes, key: bytes | None = None) -> bool:
        return self.intake.on_datagram(datagram, key)


class FlagFixture:
    """A flag that is being watched; `next` waits for its next reason, within a bound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trigger = FlagTrigger("panic", ("a", "b"), path, clock=clock.now, amend=self._amend)
        self.reasons: list[Reason] = []
        self.texts: list[tuple[Reason, str]] = []  # added to reasons
        self._news = anyio.Event()

    def report(self, reason: Reason) -> None:
        self.reasons.append(reason)
        self._news.set()

    def _amend(self, reason: Reason, text: str, evidence: Mapping[str, object]) -> None:
        if text:
            self.texts.append((reason, text))
            self._news.set()

    async def next(self, number: int) -> Reason:
        with anyio.fail_after(5):
            while len(self.reasons) < number:
                self._news = anyio.Event()
                await self._news.wait()
        assert len(self.reasons) == number
        return self.reasons[-1]

    async def text(self, text: str) -> None:
        """Wait, within a bound, until this text is added to the one reason that there is."""
        with anyio.fail_after(5):
            while not (self.texts and self.texts[-1][1] == text):
                self._news = anyio.Event()
                await self._news.wait()
        (reason,) = self.reasons
        assert self.texts[-1][0].observed_at == reason.observed_at

    async def until(self, state: TriggerState, words: str = "") -> str:
        """Wait, within a bound, until its condition is this."""
        with anyio.fail_after(5):
            while True:
                is_now, detail = self.trigger.state()
                if is_now is state and words in detail:
                    return detail
                await anyio.sleep(0.01)


@asynccontextmanager
async def pressing(path: Path) -> AsyncIterator[FlagFixture]:
    button = FlagFixture(path)
    async with anyio.create_task_group() as group:
        group.start_soon(button.trigger.run, button.report)
        with anyio.fail_after(5):
            while not button.trigger._looked or button.trigger._watching.busy:  # noqa: ASYNC110 - threads
                await anyio.sleep(0.001)
        await anyio.sleep(5 * trigger.LOOK_APART_S)  # what they have found has been taken
        yield button
        group.cancel_scope.cancel()


class Spot:
    """A place in the file system, with the acts of people and programs on it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def beside(self, name: str) -> Spot:
        return Spot(self.path.parent / name)

    @property
    def directory(self) -> Spot:
        return Spot(self.path.parent)

    def touch(self) -> None:
        self.path.touch()

    def write(self, content: str | bytes) -> None:
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def move_to(self, target: Spot) -> None:
        self.path.rename(target.path)

    def link_to(self, target: str) -> None:
        self.path.symlink_to(target)

    def remove(self) -> None:
        self.path.unlink()

    def make_directory(self) -> None:
        self.path.mkdir()

    def remove_directory(self) -> None:
        self.path.rmdir()
