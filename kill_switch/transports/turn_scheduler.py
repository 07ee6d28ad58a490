"""Share the event loop among tasks that can cause much work.

The fresh route uses it for answers, which a parser in Python reads. The control socket uses it for requests, which may
come over many connections. It never limits a kill's commands.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools


class TurnScheduler:
    """Continue one waiting task in each pass of the event loop: the task that has had the least so far.

    However many connections send at once, one piece of one answer is read in a pass. So a short answer does not wait
    behind a flood.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._passing = False

    def claim_turn(self) -> bool:
        """Claim this pass if it is free and no task waits; return whether it is claimed."""
        if self._passing:
            return False
        self._passing = True
        loop = asyncio.get_running_loop()
        loop.call_soon(self._pass, loop)
        return True

    async def wait_turn(self, had: int) -> None:
        """Wait for a pass; `had` is how much the caller has had so far, in bytes or requests."""
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
            if not mine.done():  # else its task was cancelled
                mine.set_result(None)
                loop.call_soon(self._pass, loop)
                return
        self._passing = False
