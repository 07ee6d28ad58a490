"""Wake a task when something has happened: with a memory for what nobody waited for (`AutoResetEvent`), or without."""

from __future__ import annotations

import anyio


class Signal:
    """Wake everybody who waits now. A notification that nobody waits for is forgotten: look first, then wait."""

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
    """Wake the one task that waits, or will wait next. Several notifications before that are one."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Have `wait` return, or the next one if no task waits; to be called on the event loop."""
        self._event.set()

    async def wait(self) -> None:
        """Return once it is set, and reset it; a wait that is cancelled leaves it as it is."""
        event = self._event
        await event.wait()
        if self._event is event:
            self._event = anyio.Event()
