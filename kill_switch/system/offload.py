"""Run calls that may wait (file systems, name services) in a thread, so that the event loop never waits for them.

Each `Offload` has one daemon thread of its own, which carries out its calls in their order. Whoever depends on one file
system or one service has an `Offload` for it: a call that hangs holds up the calls behind it and nothing else. Nothing
here interrupts a call that hangs; `hangs` and `trouble` say that one does.

Why the other threads of the package are no `Offload`:
`abandonable`: one call, which must not wait behind an earlier one, in a process that ends soon.
`job_thread`: the journal posts from code that is not on the event loop, and may have to wait for the end in place.
`journal.fsync`: many requests for one file come to one call, for the newest size.
`transports.lookup`: an answer is kept, and asked for in a further thread while an earlier question hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

HANGS_AFTER_S = 2.0  # a call that has taken this long is said to hang
TICKS = 4  # HANGS_AFTER_S is counted in so many ticks of the event loop: a process that was stopped has none

T = TypeVar("T")
_Calls = queue.SimpleQueue[Callable[[], object] | None]


class Offload:
    """Carry out blocking calls in one thread. The thread begins with the first call and ends with `close`."""

    def __init__(self, what: str) -> None:
        """`what` names, for people, what the calls wait for: "the file system of /run/kill-switch"."""
        self.what = what
        self._calls: _Calls = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0  # calls of `run` that the thread has not finished, abandoned ones included
        self._missed = 0  # ticks in a row in which no call came to its end
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Tell whether a call of `run` is not finished, abandoned ones included."""
        return self._waiting > 0

    @property
    def hangs(self) -> bool:
        """Tell whether the call under way has taken longer than `HANGS_AFTER_S`."""
        return self._missed > TICKS

    @property
    def trouble(self) -> str:
        """Say that the call under way hangs; "" if it does not."""
        return f"{self.what} does not answer" if self.hangs else ""

    async def run(
        self, function: Callable[..., T], *args: object, drop: Callable[[T], object] = lambda result: None
    ) -> T:
        """Return the function's result, or raise what it raised. A caller that is cancelled abandons the call.

        The thread skips a call that was abandoned before the thread came to it. Later, it gives the result to `drop`.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def finish(result: T, error: BaseException | None) -> None:
            if future.done():
                if error is None and result is not None:
                    self.post(drop, result)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._submit(function, args, finish, future.cancelled, drop)
        return await future

    def submit(self, function: Callable[..., T], *args: object, then: Callable[[T], object]) -> None:
        """Have the function called, and `then` with its result, in the event loop; the function must not raise."""

        def finish(result: T, error: BaseException | None) -> None:
            if error is not None:
                raise error  # the event loop logs it
            then(result)

        self._submit(function, args, finish, lambda: False, lambda result: None)

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Have the function called; nobody waits for it, and an `OSError` that it raises is ignored."""

        def work() -> None:
            with contextlib.suppress(OSError):
                function(*args)

        self._put(work)

    def close(self, within_s: float = 0.0) -> None:
        """End the thread behind its last call; wait at most `within_s` for that. A later call begins a new thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.put(None)
            self._calls = queue.SimpleQueue()
            thread.join(within_s)

    def _put(self, work: Callable[[], object]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=_serve, args=(self._calls,), name="offload", daemon=True)
            self._thread.start()
        self._calls.put(work)

    def _submit(
        self,
        function: Callable[..., T],
        args: tuple[object, ...],
        finish: Callable[[T, BaseException | None], object],
        abandoned: Callable[[], bool],
        drop: Callable[[T], object],
    ) -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            result: Any = None
            error: BaseException | None = None
            if not abandoned():
                try:
                    result = function(*args)
                except BaseException as raised:
                    error = raised
            try:
                loop.call_soon_threadsafe(self._finish, finish, result, error)
            except RuntimeError:  # the loop is closed: nobody waits
                if result is not None:
                    drop(result)

        self._waiting += 1
        if self._timer is None:
            self._tick_later(loop)
        self._put(work)

    def _finish(
        self, finish: Callable[[T, BaseException | None], object], result: T, error: BaseException | None
    ) -> None:
        self._waiting -= 1
        self._missed = 0
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        finish(result, error)

    def _tick_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(HANGS_AFTER_S / TICKS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._missed += 1
        self._tick_later(loop)


def _serve(calls: _Calls) -> None:
    while (work := calls.get()) is not None:
        work()
        del work  # its result and its arguments live no longer than it does
