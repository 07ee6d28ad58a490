"""Measure what a process's event loop and memory went through while cells were played in it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICK_S = 0.01


@dataclass(slots=True)
class Worst:
    """The worst that a cell has lived through; cells that are played together share it."""

    from_mib: float
    stall_s: float = 0.0
    growth_mib: float = 0.0


class Gauge:
    """Tick on the event loop; the time that other processes had the CPU is not counted as our stall.

    Nor is what the cells themselves do, nor the collection of their garbage.
    """

    def __init__(self) -> None:
        self._cells: dict[Hashable, Worst] = {}
        self._aside_s = 0.0
        gc.callbacks.append(self._collected)  # the garbage is that of many cells

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        self._aside_s += time.monotonic() if phase == "stop" else -time.monotonic()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Do not count what the cell itself does at once, before the product runs and after it."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self._aside_s += time.monotonic() - began_s

    def enter(self, cell: Hashable) -> None:
        self._cells[cell] = Worst(resident_mib())

    def leave(self, cell: Hashable) -> Worst:
        return self._cells.pop(cell)

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            before_s, others_s = time.monotonic(), _queued_s() + self._aside_s
            await asyncio.sleep(TICK_S)
            stall_s = time.monotonic() - before_s - TICK_S - (_queued_s() + self._aside_s - others_s)
            mib = resident_mib()
            for worst in self._cells.values():
                worst.stall_s = max(worst.stall_s, stall_s)
                worst.growth_mib = max(worst.growth_mib, mib - worst.from_mib)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


def _queued_s() -> float:
    """How long this thread has been ready to run, and was not run."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
