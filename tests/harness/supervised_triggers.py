"""Run configured triggers under their supervisor, over stub venues, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import anyio.lowlevel

from kill_switch.config.loader import Config, load
from kill_switch.core.domain import LaneState, Order, OrderState, Phase
from kill_switch.core.state import State
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.supervisor import TriggerSupervisor
from kill_switch.venues.messages import Equity, OrderPlaced
from tests.harness.dispatch_doubles import Floor
from tests.harness.virtual_time import running

ACCOUNT = '[accounts.{0}]\nvenue = "{1}"\napi_key = {{ env = "KEY_{0}" }}\napi_secret = {{ env = "SECRET" }}\n'
PNL = """
[triggers.daily-loss]
kind = "pnl"
accounts = ["a", "b"]
currency = "OX"
max_loss = "100"
reset = "00:00 UTC"
on_blind = "{on_blind}"
"""
RATE = '[triggers.runaway]\nkind = "order-rate"\nmax_new = 3\nmax_open = 5\naccounts = ["a"]\n'
LINK = '[triggers.reach]\nkind = "link"\ntimeout = "1s"\naccounts = [{0}]\n'


class Watched:
    """A watch at work over stub venues a, b and c; its clock is the loop's."""

    def __init__(
        self,
        directory: Path,
        triggers: str,
        entries: Sequence[Mapping[str, Any]] = (),
        renamed: Mapping[str, str] = MappingProxyType({}),
        state: State | None = None,
    ) -> None:
        self.loop = running()
        self._file = directory / "config.toml"
        self.floor = Floor(("a", "b", "c"), state)
        for venue in self.floor.venues.values():
            venue.show()
        self.intake = Intake(directory / "intake.sock", None, None, clock=self.loop.now)
        self.watch = TriggerSupervisor(
            self.config(triggers),
            self.floor.dispatcher,
            self.intake,
            {},
            self.floor.announced.append,
            clock=self.loop.now,
            entries=entries,
            renamed=renamed,
        )

    def config(self, triggers: str) -> Config:
        daemon = f'[daemon]\nruntime_dir = "{self._file.parent}"\n'
        self._file.write_text(daemon + "".join(ACCOUNT.format(name, "oxfun") for name in "abc") + triggers)
        return load(
            self._file, environ={"SECRET": "a-secret-of-ours"} | {f"KEY_{name}": f"a-key-of-{name}" for name in "abc"}
        )

    def worth(self, a: int, b: int) -> None:
        for name, ox in (("a", a), ("b", b)):
            self.watch.on_fact(name, Equity({"OX": Decimal(ox)}, self.loop.now().mono_ns))

    async def samples(self, *worths: tuple[int, int]) -> None:
        for a, b in worths:
            await anyio.sleep(5)
            self.worth(a, b)
            await anyio.sleep(0.2)
            self.watch.notice_blind()

    async def wait(self, seconds: int) -> None:
        """Look for blind triggers as often as the daemon does."""
        for _ in range(2 * seconds):
            await anyio.sleep(0.5)
            self.watch.notice_blind()

    async def only_b(self, seconds: int) -> None:
        """Let b be worth five hundred every five seconds, and nobody ask a."""
        for _ in range(seconds // 5):
            self.watch.on_fact("b", Equity({"OX": Decimal(500)}, self.loop.now().mono_ns))
            await self.wait(5)

    def clear(self, name: str) -> None:
        """Let a kill be over, as if the venue had shown it."""
        state = self.floor.dispatcher.state
        sweep = state.accounts[name].sweep
        assert sweep is not None
        account = state.accounts[name]._replace(sweep=sweep._replace(phase=Phase.CLEAR))
        self.floor.dispatcher.state = state._replace(accounts={**state.accounts, name: account})

    @property
    def said(self) -> list[str]:
        return [
            f"{announcement.level}: {announcement.text}"
            for announcement in self.floor.announced
            if not announcement.account
        ]

    def tripped(self) -> tuple[str, ...]:
        return self.floor.dispatcher.state.tripped


@asynccontextmanager
async def watching(directory: Path, triggers: str, entries: Sequence[Mapping[str, Any]] = ()) -> AsyncIterator[Watched]:
    watched = Watched(directory, triggers, entries)
    async with anyio.create_task_group() as group:
        group.start_soon(watched.watch.stall_clock.run)
        for trigger in watched.watch.triggers.values():
            group.start_soon(watched.watch.run, trigger)
        yield watched
        group.cancel_scope.cancel()


def place(watched: Watched, account: str, *orders: str) -> None:
    for order in orders:
        watched.watch.on_fact(account, OrderPlaced(Order(order, "OX-USD-SWAP-LIN", OrderState.LIVE, "OPEN")))


class Restarted(Watched):
    """A watch over accounts that are not ready yet."""

    def __init__(
        self,
        directory: Path,
        triggers: str,
        entries: Sequence[Mapping[str, Any]] = (),
        renamed: Mapping[str, str] = MappingProxyType({}),
        state: State | None = None,
    ) -> None:
        super().__init__(directory, triggers, entries, renamed, state)
        self.ready()
        self.begin_s = self.loop.time()

    def ready(self, *names: str) -> None:
        for name, lane in self.floor.lanes.items():
            lane.state = LaneState.UP if name in names else LaneState.DOWN

    def hear(self, datagram: bytes = b"beat") -> None:
        assert self.intake.on_datagram(datagram, None)

    async def until(self, seconds: float) -> None:
        """Look as often as the daemon does."""
        while self.loop.time() < self.begin_s + seconds - 1e-6:
            self.watch.start_boot_timers()
            await anyio.sleep(0.1)

    @property
    def state(self) -> tuple[TriggerState, str]:
        return self.watch.states()["beat"]

    @property
    def records(self) -> list[Mapping[str, Any]]:
        return [data for data in self.floor.recorder.of("heartbeat") if data["trigger"] == "beat"]

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [{"kind": kind, "data": data, "seq": n} for n, (kind, data) in enumerate(self.floor.recorder.records)]


@asynccontextmanager
async def living(
    directory: Path,
    triggers: str,
    entries: Sequence[Mapping[str, Any]] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
    state: State | None = None,
) -> AsyncIterator[Restarted]:
    life = Restarted(directory, triggers, entries, renamed, state)
    async with anyio.create_task_group() as group:
        group.start_soon(life.watch.stall_clock.run)
        for trigger in life.watch.triggers.values():
            group.start_soon(life.watch.run, trigger)
        await anyio.lowlevel.checkpoint()
        yield life
        group.cancel_scope.cancel()
