"""Run asyncio in virtual time: a selector that advances the clock instead of sleeping.

An hour's dead-man test takes milliseconds, and instants can be asserted to the microsecond. With anyio's pytest plugin:

    @pytest.fixture
    def anyio_backend() -> tuple[str, dict[str, object]]:
        return ("asyncio", {"loop_factory": VirtualTimeLoop})

Real sockets work: what can be read is read before time goes on. A loop that would wait for ever fails instead.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kill_switch.core.domain import Instant

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

START = Instant(1_000_000_000_000, 1_700_000_000_000_000_000)
FINE_NS = 2**23 * 1_000_000_000  # 97 days; from then on, a float of seconds has no nanoseconds
NOTHING_HAPPENS_S = 5.0  # of real time: no timer is set, and no thread or process outside has anything to say


class _Selector(selectors.BaseSelector):
    """Hand out what is ready; if nothing is, let time pass until the next timer."""

    def __init__(self) -> None:
        self.mono_ns = START.mono_ns
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready:
            return ready
        if timeout is None:
            ready = self._real.select(NOTHING_HAPPENS_S)
            if not ready:
                raise RuntimeError("nothing will ever happen: no timer is set and no socket has anything to say")
            return ready
        if timeout > 0:
            self.mono_ns += max(1, math.ceil(timeout * 1e9))
        elif self.mono_ns > FINE_NS:
            self.mono_ns += 1  # a wait of some nanoseconds is none there: only time that goes on ends it
        return []

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clocks are its own."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        self._wall_offset_ns = START.wall_ns - START.mono_ns
        super().__init__(self._virtual)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Return the seconds of the monotonic clock.

        asyncio calls a timer that is due within the clock's resolution. From the 194th day on, a float cannot express
        its nanosecond, and no timer would be called any more.
        """
        mono_ns = self._virtual.mono_ns
        if mono_ns > FINE_NS:
            self._clock_resolution = max(1e-9, math.ulp(mono_ns / 1e9))
        return mono_ns / 1e9

    def now(self) -> Instant:
        """Return both clocks: what `kill_switch.clock.now` is in real time."""
        return Instant(self._virtual.mono_ns, self._virtual.mono_ns + self._wall_offset_ns)

    def stall(self, seconds: float) -> None:
        """Let time pass while nothing runs, as if the process had been stopped."""
        self._virtual.mono_ns += round(seconds * 1e9)

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock, forward or back; the monotonic one knows nothing of it."""
        self._wall_offset_ns += round(seconds * 1e9)


def running() -> VirtualTimeLoop:
    """Return the loop of the running test."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop
