"""Talk to the process of the venues for one cell, and keep that cell's time."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple

from .loop_monitor import Gauge


class Failed(Exception):
    """The cell did not hold what is promised."""


class Late(Failed):
    """It did not hold it in time, on this machine at that moment."""


class Moment(NamedTuple):
    """A point in time: that of the clock on the wall, and that of a machine which nobody else uses."""

    wall_s: float
    own_s: float


class Link:
    """Command the venues of this cell, and keep its time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gauge: Gauge) -> None:
        self._reader, self._writer, self._gauge = reader, writer, gauge
        self._turn = asyncio.Lock()
        self._lost_s = (0.0, 0.0)  # by us and by the venues, before the cell began
        self._venues_lost_s = 0.0

    def now(self) -> Moment:
        """Return the time; that by which the cell is judged lags behind for as long as the machine was others'."""
        ours, theirs = self._lost_s
        lost_s = max(self._gauge.lost_s() - ours, self._venues_lost_s - theirs)
        return Moment(time.monotonic(), time.monotonic() - lost_s)

    async def do(self, what: str, **more: object) -> Any:
        async with self._turn:
            self._writer.write(json.dumps({"do": what, **more}).encode() + b"\n")
            answer = json.loads(await self._reader.readline())
        if isinstance(answer, dict) and "error" in answer:
            raise Failed(f"{what}: {answer['error']}")
        return answer

    async def book(self) -> int:
        """Return how many orders of the victim rest."""
        books = await self.do("books")
        self._venues_lost_s = books["queued_s"]
        return int(books["victim"])

    async def begin(self) -> None:
        """Begin the cell's time."""
        await self.book()
        self._lost_s = (self._gauge.lost_s(), self._venues_lost_s)

    def close(self) -> None:
        self._writer.close()
