"""Let a span of time pass in a world, and return what was counted."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.deterministic.year.beats import Beats
from tests.deterministic.year.flags import Flags
from tests.deterministic.year.floors import Floors
from tests.deterministic.year.links import Links
from tests.deterministic.year.model import Model
from tests.deterministic.year.money import Money
from tests.deterministic.year.orders import Orders
from tests.deterministic.year.times import Fridays, Nights
from tests.deterministic.year.world import World, rarer_looks
from tests.harness.virtual_time import VirtualTimeLoop

KINDS: tuple[type[Model], ...] = (Flags, Beats, Money, Floors, Orders, Fridays, Nights, Links)
NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)


class Counted(NamedTuple):
    """What came of it; the texts say when, which trigger, and what."""

    trips: dict[str, int]  # by trigger; all that were right are among them
    restarts: int
    false: tuple[str, ...]
    missed: tuple[str, ...]
    stuck: tuple[str, ...]  # re-arms that were refused although the cause was gone

    @property
    def good(self) -> bool:
        return not (self.false or self.missed or self.stuck)


def run(
    seed: int,
    days: float,
    begin: datetime = NEW_YEAR,
    density: float = 1.0,
    kinds: Sequence[type[Model]] = KINDS,
    *,
    tell: bool = False,
) -> Counted:
    """Let so many days pass; the same seed makes the same days. `tell` has each tenth day said on stderr."""
    began_s = time.monotonic()

    def each_day(world: World) -> None:
        done = round(world.now_s / 86_400)
        if tell and done % 10 == 0:
            false, missed = (sum(len(getattr(model, what)) for model in world.models) for what in ("false", "missed"))
            words = f"seed {seed}: {done} of {days:g} days in {time.monotonic() - began_s:.0f} s"
            print(f"{words}, {false} false, {missed} missed", file=sys.stderr, flush=True)

    async def live(directory: Path) -> World:
        world = World(directory, kinds, begin, days, Random(seed), density)  # noqa: S311 - dice, not secrets
        await world.live(each_day)
        return world

    with (
        rarer_looks(),
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
    ):
        world = runner.run(live(Path(directory)))
    models = world.models
    return Counted(
        {model.NAME: model.trips for model in models},
        world.restarts,
        tuple(text for model in models for text in model.false),
        tuple(text for model in models for text in model.missed),
        tuple(text for model in models for text in model.stuck),
    )
