"""Run a call that may hang in a thread of its own, so that whoever waits for it can stop waiting.

A direct kill has one for each directory and file that may not answer. The thread ends with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def start(function: Callable[..., T], *arguments: object, name: str) -> asyncio.Future[T]:
    """Begin the call in a thread; return what it comes to. To be called in the event loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # it is the function's, where there is no error

    def work() -> None:
        result, failed = None, None
        try:
            result = function(*arguments)
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
