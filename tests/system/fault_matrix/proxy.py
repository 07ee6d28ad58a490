"""Stand between the product and a simulator, end TLS on both sides, and be hostile on demand.

What a proxy does is its `Mode`, which may change at any moment: how it takes connections, which certificate it shows,
how it shapes HTTP answers, what it says on WebSockets in between. In its first mode it is a plain relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from .malformed_bytes import CHUNK, Real, Shape, Step, answer

FLOOD_BYTES_S = 50_000_000
_HEAD_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Mode:
    """Say how hostile to be; connections that are up stay up unless `cut`."""

    accept: Literal["tls", "silent", "plain", "close", "refuse", "full"] = "tls"
    certificate: str = "good"
    shape: Shape | None = None  # of HTTP answers; the request reaches the venue all the same
    deaf: bool = False  # nothing passes, in either direction, and TCP stays up
    pace: bool = False  # WebSocket bytes one by one
    upgrade: Callable[[bytes], bytes] | None = None  # what the answer to an upgrade becomes
    inject: Callable[[], bytes] | None = None  # said on every WebSocket, those that come included
    flood: tuple[Callable[[], bytes], Callable[[], bytes]] | None = None  # said first; then without end
    unasked: bool = False  # an answer that nobody asked for, on every HTTP connection
    cut: bool = False  # connections that are up are reset first


RELAY = Mode()


class _Protocol(asyncio.StreamReaderProtocol):
    """Tell a connection's task when its client has gone."""

    gone: Callable[[], object] = staticmethod(lambda: None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone()


@dataclass(slots=True, eq=False)
class _Client:
    sock: socket.socket
    writer: asyncio.StreamWriter | None = None
    websocket: bool = False
    flooding: asyncio.Task[None] | None = None


class Proxy:
    """Listen on one free port, for good."""

    def __init__(
        self, upstream: tuple[str, int], contexts: Mapping[str, ssl.SSLContext], trust: ssl.SSLContext
    ) -> None:
        self.mode = RELAY
        self._upstream = upstream
        self._contexts = contexts
        self._trust = trust
        self._changed = asyncio.Event()
        self._clients: dict[asyncio.Task[None], _Client] = {}
        self._stale: dict[bytes, bytes] = {}
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fill: list[socket.socket] = []
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def set(self, mode: Mode) -> None:
        """Change the mode, at once."""
        before, self.mode = self.mode, mode
        self._changed.set()
        self._changed = asyncio.Event()
        if before.accept in ("refuse", "full") or mode.accept in ("refuse", "full"):
            await self._relisten(mode.accept)
        for task, client in list(self._clients.items()):
            if mode.cut or before.accept != mode.accept:
                _drop(client)
                task.cancel()
            elif client.writer is not None:
                self._say(client, client.writer)

    async def close(self) -> None:
        """Stop, and drop everything."""
        self._accepting.cancel()
        for task, client in list(self._clients.items()):
            _drop(client)
            task.cancel()
        await asyncio.gather(self._accepting, *self._clients, return_exceptions=True)
        for sock in (self._listener, *self._fill):
            sock.close()

    # ── connections ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _relisten(self, accept: str) -> None:
        """Close the port, or let nobody in by a queue that is full, or open it again."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        for sock in (self._listener, *self._fill):
            sock.close()
        self._fill.clear()
        if accept == "refuse":
            return
        self._listener = _listen(self.port, 0 if accept == "full" else 128)
        if accept == "full":  # two fill the queue; further SYNs are dropped by the kernel
            for _ in range(3):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", self.port))
                self._fill.append(sock)
        else:
            self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            sock.setblocking(False)
            client = _Client(sock)
            task = loop.create_task(self._serve(client))
            self._clients[task] = client
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        client = self._clients.pop(task)
        _drop(client)
        if not task.cancelled():
            task.exception()

    async def _serve(self, client: _Client) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
            match self.mode.accept:
                case "silent":
                    await asyncio.Event().wait()
                case "close":
                    return
                case "plain":
                    await asyncio.get_running_loop().sock_sendall(client.sock, answer(b"{}"))
                    await asyncio.Event().wait()
                case _:
                    await self._converse(client)

    async def _converse(self, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_HEAD_LIMIT, loop=loop)
        protocol = _Protocol(reader, loop=loop)
        context = self._contexts[self.mode.certificate]
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, client.sock, ssl=context)
        client.writer = writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        mine = asyncio.current_task()
        assert mine is not None
        protocol.gone = mine.cancel
        venue_reader, venue = await asyncio.open_connection(*self._upstream, ssl=self._trust, limit=_HEAD_LIMIT)
        try:
            while True:
                request = await _message(reader)
                await self._while_deaf()
                venue.write(request)
                head = await venue_reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"HTTP/1.1 101"):
                    await self._relay(client, reader, writer, venue_reader, venue, head)
                    return
                await self._answer(writer, request, await _with_body(venue_reader, head))
        finally:
            venue.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, request: bytes, real: Real) -> None:
        await self._while_deaf()
        key = request.split(b" ", 2)[0] + request.split(b" ", 2)[1].partition(b"?")[0]
        self._stale.setdefault(key, real.whole)
        shape = self.mode.shape
        if shape is None:
            writer.write(real.whole)
            return
        for step in shape(Real(real.head, real.body, self._stale[key])):
            if not await _take(writer, step):
                return

    # ── WebSockets ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _relay(
        self,
        client: _Client,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        venue_reader: asyncio.StreamReader,
        venue: asyncio.StreamWriter,
        head: bytes,
    ) -> None:
        client.websocket = True
        writer.write(self.mode.upgrade(head) if self.mode.upgrade else head)
        self._say(client, writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, venue, down=False))
                group.create_task(self._pump(venue_reader, writer, down=True))
        except* (OSError, EOFError):
            pass
        finally:
            if client.flooding is not None:
                client.flooding.cancel()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, down: bool) -> None:
        while data := await source.read(CHUNK):
            await self._while_deaf()
            if down and self.mode.pace:
                for at in range(len(data)):
                    sink.write(data[at : at + 1])
            else:
                sink.write(data)
            await sink.drain()
        raise EOFError

    def _say(self, client: _Client, writer: asyncio.StreamWriter) -> None:
        """Say on a connection what the mode wants said; to a WebSocket frames, to HTTP an answer."""
        mode = self.mode
        if client.flooding is not None:
            client.flooding.cancel()
            client.flooding = None
        if not client.websocket:
            if mode.unasked:
                writer.write(answer(b"[]"))
        elif mode.inject is not None:
            writer.write(mode.inject())
        elif mode.flood is not None:
            client.flooding = asyncio.get_running_loop().create_task(_flood(writer, *mode.flood))

    async def _while_deaf(self) -> None:
        while self.mode.deaf:
            await self._changed.wait()


async def _flood(writer: asyncio.StreamWriter, first: Callable[[], bytes], more: Callable[[], bytes]) -> None:
    writer.write(first())
    piece = more()
    with contextlib.suppress(OSError):
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(len(piece) / FLOOD_BYTES_S)


async def _take(writer: asyncio.StreamWriter, step: Step) -> bool:
    match step:
        case None:
            writer.transport.abort()
            return False
        case float():
            await asyncio.sleep(step)
        case str():
            writer.close()
            return False
        case _:
            writer.write(step)
            await writer.drain()
            await asyncio.sleep(0)
    return True


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_length(head))


async def _with_body(reader: asyncio.StreamReader, head: bytes) -> Real:
    return Real(head, await reader.readexactly(_length(head)), b"")


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _drop(client: _Client) -> None:
    if client.writer is not None:
        client.writer.transport.abort()
    else:
        client.sock.close()


def _listen(port: int, backlog: int = 128) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(backlog)
    sock.setblocking(False)
    return sock
