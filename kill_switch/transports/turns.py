"""Share the event loop between those who can make much work: answers that are read slowly, and operators' requests.

The fresh route's answers are read by a parser in Python. Requests on the control socket may come from many connections.
"""

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

    def is_free(self) -> bool:
        """Take this pass at once, if nobody has had it and nobody waits."""
        if self._passing:
            return False
        self._passing = True
        loop = asyncio.get_running_loop()
        loop.call_soon(self._pass, loop)
        return True

    async def turn(self, had: int) -> None:
        """Wait for a pass of one's own; `had` is how much one has had, in bytes or requests."""
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
