"""Let cells begin while the machine has time for them. A cell mostly waits, and a waiting cell needs no CPU."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from .loop_monitor import queued_s

WINDOW_S = 0.5  # over which the load is measured
BUSY = 0.5  # of the time: above it no further cell begins
APART_S = 0.1  # between two beginnings: a cell begins with a dozen TLS handshakes


class Gate:
    """Let `least` cells play at once in any case, and up to `most` while this thread is idle half of the time.

    Busy is also a thread that waits for a CPU: then the venues, the other processes or other programs have them. The
    clock of a cell stands still meanwhile (`Gauge.lost_s`), so that a busy machine makes no cell late. Make it in a
    running event loop.
    """

    def __init__(self, least: int, most: int, load_s: Callable[[], float] | None = None) -> None:
        """`load_s` returns the seconds in all that this thread has computed, or has waited for a CPU."""
        self.playing = 0
        self._least = least
        self._most = most
        self._load_s = load_s or (lambda: time.thread_time() + queued_s())
        self._turn = asyncio.Lock()
        self._time = asyncio.get_running_loop().time
        self._began_s, self._before_s = self._time(), self._load_s()
        self._is_busy = True  # until it has been measured

    @contextlib.asynccontextmanager
    async def cell(self) -> AsyncIterator[None]:
        """Wait until a cell may begin, and play it in the block."""
        async with self._turn:
            while self.playing >= self._least and (self.playing >= self._most or self._busy()):  # noqa: ASYNC110
                await asyncio.sleep(WINDOW_S / 5)
            self.playing += 1
            await asyncio.sleep(APART_S)
        try:
            yield
        finally:
            self.playing -= 1

    def _busy(self) -> bool:
        took_s = self._time() - self._began_s
        if took_s >= WINDOW_S:
            load_s = self._load_s()
            self._is_busy = load_s - self._before_s > BUSY * took_s
            self._began_s, self._before_s = self._time(), load_s
        return self._is_busy
