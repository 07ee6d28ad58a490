"""Measure what a process's event loop and memory went through while cells were played in it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

TICK_S = 0.01
WEIGHED_EVERY = 10  # ticks: asking for the memory takes longer than a tick's own work


@dataclass(slots=True)
class Worst:
    """The worst that a cell has lived through; cells that are played together share it."""

    from_mib: float
    stall_s: float = 0.0
    growth_mib: float = 0.0


class Gauge:
    """Tick on the event loop, and see how much its thread has computed from one tick to the next.

    That is how long nobody else had a turn, and a machine that others use makes it no longer. What the cells themselves
    do before the product runs, and after it, does not count, nor does the search through what all of them have left.
    """

    def __init__(self) -> None:
        self._cells: dict[Hashable, Worst] = {}
        self._aside_s = 0.0
        self._collecting_s = 0.0
        gc.callbacks.append(self._collect)

    def close(self) -> None:
        gc.callbacks.remove(self._collect)

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2 and phase == "start":
            self._collecting_s = time.thread_time()
        elif info["generation"] == 2:
            self._aside_s += time.thread_time() - self._collecting_s

    def lost_s(self) -> float:
        """Return for how long this thread could not run the product in all: the CPU was others', or the cells' own."""
        return queued_s() + self._aside_s

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Do not count what the cell itself does at once."""
        began_s = time.thread_time()
        try:
            yield
        finally:
            self._aside_s += time.thread_time() - began_s

    def enter(self, cell: Hashable) -> None:
        self._cells[cell] = Worst(resident_mib())

    def leave(self, cell: Hashable) -> Worst:
        return self._cells.pop(cell)

    async def run(self) -> None:
        """Measure for ever."""
        ticks = 0
        while True:
            before_s, ticks = time.thread_time() - self._aside_s, ticks + 1
            await asyncio.sleep(TICK_S)
            stall_s = time.thread_time() - self._aside_s - before_s
            mib = resident_mib() if ticks % WEIGHED_EVERY == 0 else 0.0
            for worst in self._cells.values():
                worst.stall_s = max(worst.stall_s, stall_s)
                worst.growth_mib = max(worst.growth_mib, mib - worst.from_mib)


def resident_mib() -> float:
    with open("/proc/self/statm", "rb", buffering=0) as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def queued_s() -> float:
    """Return how long this thread has been ready to run in all, while others had the CPU; 0 where nobody counts it."""
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0
