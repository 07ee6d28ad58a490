"""Share the event loop between answers that are read slowly: the fresh route's, which a parser in Python reads."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class Turns:
    """Let one of those who wait go on in each pass of the event loop: the one that has had least.

    However many connections flood us, one piece of one answer is read in a pass, and a short answer does not wait
    behind a flood.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._passing = False

    async def turn(self, had: int) -> None:
        """Wait for a pass of one's own; `had` is how much one has had, in bytes."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (had, next(self._numbers), mine))
        if not self._passing:
            self._passing = True
            loop.call_soon(self._pass, loop)
        await mine

    def _pass(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            _, _, mine = heapq.heappop(self._waiting)
            if not mine.done():  # else it was cancelled
                mine.set_result(None)
                loop.call_soon(self._pass, loop)
                return
        self._passing = False
