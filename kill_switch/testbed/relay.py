"""Forward TCP connections with a delay, so that a venue on this machine is as far away as a real one.

`RelayServer` serves in the running event loop. `RelayProcess` starts a process of its own, which is
`python -m kill_switch.testbed.relay`. Both listen and connect on loopback only.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self, cast

import uvloop

from kill_switch.errors import KillSwitchError
from kill_switch.system.host_port import HostPort

HOST = "127.0.0.1"
MAX_CONNECTIONS = 1024
MAX_WAITING_BYTES = 1 << 24  # of one direction of a connection; more closes it
STOP_WITHIN_S = 5.0


class RelayedPorts:
    """The ports of a relay: `ports` maps each target's port to the relay's, while the relay runs."""

    def __init__(self) -> None:
        self.ports: dict[int, int] = {}

    def url(self, url: str) -> str:
        """Return an address with the relay's port in place of its own."""
        authority = HostPort.of_url(url)
        return url.replace(f":{authority.port}", f":{self.ports[authority.port]}", 1)


class RelayProcess(RelayedPorts):
    """A relay process, for as long as the context is open."""

    def __init__(self, ports: Sequence[int], round_trip_s: float) -> None:
        """Plan a relay to these ports of loopback; a byte and its answer take `round_trip_s` longer."""
        super().__init__()
        self._command = [sys.executable, "-m", __name__, f"{round_trip_s:g}", *map(str, ports)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stdin=subprocess.PIPE)  # noqa: S603 - our own
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            self.__exit__(None, None, None)
            raise KillSwitchError("the delaying relay did not start")
        self.ports = {int(port): at for port, at in json.loads(line).items()}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class RelayServer(RelayedPorts):
    """A relay in the running event loop, for as long as the context is open."""

    def __init__(self, ports: Sequence[int], round_trip_s: float) -> None:
        """Plan a relay to these ports of loopback; a byte and its answer take `round_trip_s` longer."""
        super().__init__()
        self._targets = tuple(ports)
        self._delay_s = round_trip_s / 2
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Accepted] = set()

    async def __aenter__(self) -> Self:
        for port in self._targets:
            server = await asyncio.get_running_loop().create_server(
                lambda port=port: _Accepted(port, self._delay_s, self._connections),  # type: ignore[misc]
                HOST,
                backlog=MAX_CONNECTIONS,
            )
            self._servers.append(server)
            self.ports[port] = server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # for the transports to report that they have closed


class _Direction(asyncio.Protocol):
    """A side of a connection: each byte that it receives leaves on the other side after the delay, in order."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._waiting: deque[tuple[float, bytes]] = deque()  # (when it leaves, data); b"" is the end
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self.not_before_s = 0.0
        self.transport: asyncio.Transport | None = None
        self.other: _Direction | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.other is not None:
            self.other.pump()

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MAX_WAITING_BYTES and self.transport is not None:
            self.transport.abort()
        self._enqueue(data)

    def eof_received(self) -> bool:
        self._enqueue(b"")
        return True  # what the other side has sent still arrives

    def connection_lost(self, error: Exception | None) -> None:
        self._enqueue(b"")

    def _enqueue(self, data: bytes) -> None:
        self._waiting.append((max(time.monotonic(), self.not_before_s) + self._delay_s, data))
        self.pump()

    def pump(self) -> None:
        """Write what has waited long enough to the other side, and set a timer for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        target = None if self.other is None else self.other.transport
        if target is None:
            return
        while self._waiting:
            wait_s = self._waiting[0][0] - time.monotonic()
            if wait_s > 0:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self.pump)
                return
            _, data = self._waiting.popleft()
            self._bytes -= len(data)
            if not data:
                target.close()
            elif not target.is_closing():
                target.write(data)

    def abort(self) -> None:
        """Close this side at once, without the bytes that wait."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        if self.transport is not None:
            self.transport.abort()


class _Accepted(_Direction):
    """The client's side. Its first bytes wait one round trip more, because TCP's own handshake had no delay."""

    def __init__(self, port: int, delay_s: float, connections: set[_Accepted]) -> None:
        super().__init__(delay_s)
        self._port = port
        self._connections = connections
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self._connections) >= MAX_CONNECTIONS:
            cast(asyncio.Transport, transport).abort()
            return
        self._connections.add(self)
        self.not_before_s = time.monotonic() + 2 * self._delay_s
        self.other = _Direction(self._delay_s)
        self.other.other = self
        self._connecting = asyncio.get_running_loop().create_task(self._connect(self.other))

    async def _connect(self, other: _Direction) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: other, HOST, self._port)
        except OSError:
            if self.transport is not None:
                self.transport.abort()

    def abort(self) -> None:
        """Close both sides at once."""
        if self._connecting is not None:
            self._connecting.cancel()
        super().abort()
        if self.other is not None:
            self.other.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(error)


async def _serve(round_trip_s: float, ports: Sequence[int]) -> None:
    async with RelayServer(ports, round_trip_s) as relay:
        sys.stdout.write(json.dumps(relay.ports) + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, os.read, 0, 1)  # until the parent closes its end


if __name__ == "__main__":
    uvloop.run(_serve(float(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
