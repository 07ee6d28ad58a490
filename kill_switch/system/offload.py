"""Run calls that may block (file systems, name services) in a thread, so that the event loop never waits for them.

Each file system or service has its own `OffloadThread`, so that a call that hangs delays only the calls behind it.
The other threads of the package are no `OffloadThread`, for these reasons:

    abandonable          one call, which must not wait behind an earlier call, in a process that ends soon
    job_thread           the journal posts from code outside the event loop, and may have to wait for the end in place
    journal.fsync        many requests for one file become one call, for the newest size
    transports.lookup    an answer is kept, and requested in a further thread while an earlier request hangs
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

HANGS_AFTER_S = 2.0  # seconds after which a call counts as hanging
TICKS = 4  # ticks of the event loop in HANGS_AFTER_S, because a process that was stopped has no ticks

T = TypeVar("T")
_Calls = queue.SimpleQueue[Callable[[], object] | None]


class OffloadThread:
    """A daemon thread for blocking calls, in order. It begins with the first call and ends with `close`.

    A call that hangs is never interrupted; `hangs` and `trouble` report it.
    """

    def __init__(self, purpose: str) -> None:
        """Start no thread yet. `purpose` names for people what the calls depend on: "the file system of /run"."""
        self.purpose = purpose
        self._calls: _Calls = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0  # calls that the thread has not finished, abandoned ones included
        self._missed = 0  # ticks in a row without a finished call
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Return whether a call of `run` is unfinished, abandoned calls included."""
        return self._waiting > 0

    @property
    def hangs(self) -> bool:
        """Return whether the current call has taken longer than `HANGS_AFTER_S`."""
        return self._missed > TICKS

    @property
    def trouble(self) -> str:
        """Return a line for people if the current call hangs, else ""."""
        return f"{self.purpose} does not answer" if self.hangs else ""

    async def run(
        self, function: Callable[..., T], *args: object, drop: Callable[[T], object] = lambda result: None
    ) -> T:
        """Return the function's result, or raise its exception. A caller that is cancelled abandons the call.

        An abandoned call that the thread has not begun is skipped. If it has begun, its result is passed to `drop`.
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
        """Call the function in the thread, then `then` with its result in the event loop.

        The function must not raise.
        """

        def finish(result: T, error: BaseException | None) -> None:
            if error is not None:
                raise error  # the event loop logs it
            then(result)

        self._submit(function, args, finish, lambda: False, lambda result: None)

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call the function in the thread without a result; an `OSError` that it raises is ignored."""

        def work() -> None:
            with contextlib.suppress(OSError):
                function(*args)

        self._put(work)

    def close(self, within_s: float = 0.0) -> None:
        """End the thread behind its last call, waiting at most `within_s` seconds. A later call begins a new thread."""
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
            except RuntimeError:  # the loop is closed, so the result is dropped
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
        del work  # because the call's result and arguments must not live until the next call
