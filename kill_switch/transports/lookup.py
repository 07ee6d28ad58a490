"""Run a blocking question in threads of its own: name look-ups and reads of certificate files.

The resolver and the trust store use it. The event loop never waits for such a thread, and a question that hangs never
delays another. No executor is used, because a hanging question would occupy a worker of a pool of fixed size.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
from _thread import start_new_thread
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio

from kill_switch.wakeup import Signal

T = TypeVar("T")

# without an answer, a second thread may ask; each further thread waits twice as long as the previous one
OVERDUE_S = 10.0
MAX_THREADS = 12  # per question; the twelfth starts after 5.7 hours without an answer


class Lookup(Generic[T]):
    """Keep the last good answer to one question.

    All methods run on the event loop. `ask` runs in a thread, may block, and fails by raising an `Exception`.
    """

    def __init__(self, ask: Callable[[], T], on_end: Callable[[], None] = lambda: None) -> None:
        """Ask nothing yet. `on_end` is called on the event loop whenever a thread has ended."""
        self.answer: T | None = None  # the last good answer
        self.error: Exception | None = None  # of the latest thread that has ended; None: it succeeded
        self.ended_s = float("-inf")  # when that thread ended, by the event loop's clock
        self._ask = ask
        self._on_end = on_end
        self._numbers = itertools.count(1)
        self._latest = 0  # the number of the thread that `answer` and `error` come from
        self._under_way: dict[int, float] = {}  # thread's number → when it started, by the event loop's clock
        self._end = Signal()

    @property
    def waiting_s(self) -> float:
        """Return for how long the oldest unanswered thread has been running, in seconds; 0 if none is."""
        if not self._under_way:
            return 0.0
        return asyncio.get_running_loop().time() - next(iter(self._under_way.values()))

    @property
    def under_way(self) -> bool:
        return bool(self._under_way)

    def begin(self) -> None:
        """Ask in a new thread, unless a thread is running that is not overdue."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._under_way:
            asking = len(self._under_way)
            youngest_s = next(reversed(self._under_way.values()))
            if asking >= MAX_THREADS or now_s - youngest_s < OVERDUE_S * 2 ** (asking - 1):
                return
        number = next(self._numbers)
        self._under_way[number] = now_s
        try:
            start_new_thread(self._run, (loop, number))  # `Thread.start` would wait until the thread runs
        except RuntimeError:  # the process is at its limit of threads
            self._ended(number, None, OSError(errno.EAGAIN, "no thread can be started"))

    async def settle(self, patience_s: float) -> None:
        """Wait until a running thread ends, for at most `patience_s` from when the oldest one started."""
        left_s = patience_s - self.waiting_s
        if self._under_way and left_s > 0:
            with anyio.move_on_after(left_s):
                await self.end()

    async def end(self) -> None:
        """Wait until a thread ends."""
        await self._end.wait()

    def _run(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        answer: T | None = None
        error: Exception | None = None
        try:
            answer = self._ask()
        except Exception as raised:  # stored on the event loop, by `_ended`
            error = raised
        with contextlib.suppress(RuntimeError):  # the event loop has been closed meanwhile
            loop.call_soon_threadsafe(self._ended, number, answer, error)

    def _ended(self, number: int, answer: T | None, error: Exception | None) -> None:
        del self._under_way[number]
        if number > self._latest:  # else a thread that started later has ended before
            self._latest, self.error = number, error
            self.ended_s = asyncio.get_running_loop().time()
            if error is None:
                self.answer = answer
        self._end.notify()
        self._on_end()
