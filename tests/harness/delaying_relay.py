"""A TCP relay on loopback that delays every byte by a fixed time, both ways: a venue that is far away.

It is bounded: it holds at most `MAX_BYTES` of a direction, and reads no more until they have left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import cast

MAX_BYTES = 1 << 20


class _Side(asyncio.Protocol):
    """One side of a relayed connection; what it receives leaves on the other side after the delay, in order."""

    def __init__(self, delay_s: float) -> None:
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._delay_s = delay_s
        self._held: deque[tuple[float, bytes]] = deque()  # (when it leaves, data); b"": the end
        self._held_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._hold(data)
        if self._held_bytes > MAX_BYTES and self.transport is not None:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hold(b"")

    def _hold(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._held.append((loop.time() + self._delay_s, data))
        self._held_bytes += len(data)
        if len(self._held) == 1:
            loop.call_later(self._delay_s, self._pass_on)

    def _pass_on(self) -> None:
        loop, other = asyncio.get_running_loop(), self.other
        while self._held and self._held[0][0] <= loop.time() + 0.001:  # uvloop's timers have milliseconds
            _, data = self._held.popleft()
            self._held_bytes -= len(data)
            if other is not None and other.transport is not None and not other.transport.is_closing():
                if data:
                    other.transport.write(data)
                else:
                    other.transport.close()
        if self._held_bytes <= MAX_BYTES and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        if self._held:
            loop.call_later(max(0.0, self._held[0][0] - loop.time()), self._pass_on)


class DelayingRelay:
    """Relay the connections of a free port to a port of this host. TCP's own handshake is not delayed."""

    def __init__(self, upstream_port: int, one_way_s: float) -> None:
        self.port = 0
        self._upstream_port = upstream_port
        self._one_way_s = one_way_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sides: list[_Side] = []

    @property
    def https(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def __aenter__(self) -> DelayingRelay:
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        for side in self._sides:
            if side.transport is not None:
                side.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)

    def _accept(self) -> _Side:
        side = _Side(self._one_way_s)
        self._sides.append(side)
        task = asyncio.get_running_loop().create_task(self._connect(side))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return side

    async def _connect(self, side: _Side) -> None:
        far = _Side(self._one_way_s)
        self._sides.append(far)
        side.other, far.other = far, side
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", self._upstream_port)
        except OSError:
            if side.transport is not None:
                side.transport.abort()
