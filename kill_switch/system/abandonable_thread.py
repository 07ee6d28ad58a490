"""Run a call that may hang in a thread of its own, so that its caller can stop waiting.

Direct kills and the daemon's start use one for each directory or file that may not answer. The call is never
interrupted; its thread ends with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def start_abandonable(function: Callable[..., T], *arguments: object, name: str) -> asyncio.Future[T]:
    """Begin the call in a thread; return a future of its result. Must be called in the event loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # the caller has cancelled the future
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # without an error, `result` is the function's

    def work() -> None:
        result, error_raised = None, None
        try:
            result = function(*arguments)
        except BaseException as error:
            error_raised = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error_raised)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
