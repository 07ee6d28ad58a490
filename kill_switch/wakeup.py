"""Wake tasks: `AutoResetEvent` remembers a notification without a waiter, `Signal` does not."""

from __future__ import annotations

import anyio


class Signal:
    """Wake every task that waits now. A notification without a waiter is lost: check the condition, then wait."""

    def __init__(self) -> None:
        self._next: anyio.Event | None = None

    def notify(self) -> None:
        """Wake all tasks that wait; to be called on the event loop."""
        event, self._next = self._next, None
        if event is not None:
            event.set()

    async def wait(self) -> None:
        """Return at the next notification."""
        if self._next is None:
            self._next = anyio.Event()
        await self._next.wait()


class AutoResetEvent:
    """Wake the single task that waits, or will wait next. Several notifications before that are one."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Make `wait` return, or the next `wait` if no task waits; to be called on the event loop."""
        self._event.set()

    async def wait(self) -> None:
        """Return once it is set, and reset it; a wait that is cancelled leaves it as it is."""
        event = self._event
        await event.wait()
        if self._event is event:
            self._event = anyio.Event()
