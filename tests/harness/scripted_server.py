"""A TLS server for faults that no simulator has: each test scripts a connection byte by byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

import trustme

Script = Callable[["Peer"], Awaitable[None]]


class Certificates:
    """An authority and certificates: for this host, for another host, and an expired one."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        path = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(path))
        self.ca_file = str(path)
        self.good = _context(authority.issue_cert("127.0.0.1", "localhost"))
        self.other_host = _context(authority.issue_cert("elsewhere.test"))
        self.expired = _context(authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC)))
        future = datetime(2090, 1, 1, tzinfo=UTC)
        self.not_yet = _context(
            authority.issue_cert("127.0.0.1", not_before=future, not_after=future + timedelta(days=1))
        )
        self._authority = authority

    def ending_in(self, days: float) -> ssl.SSLContext:
        """Return a server context whose certificate expires in `days` days."""
        return _context(self._authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=days)))


def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


class Peer:
    """A connection, from the server's side."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number  # counted from 1, in the order of arrival
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Read one complete request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return head + await self.reader.readexactly(length)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        # `drain` yields to no other task while the kernel accepts all bytes, or the connection is dead
        await asyncio.sleep(0)

    async def upgrade(self, *headers: bytes) -> bytes:
        """Accept a WebSocket, with additional headers; return the request."""
        request = await self.request()
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        digest = hashlib.sha1(key.split(b": ")[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False)
        accept = base64.b64encode(digest.digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        lines = [head + b"Sec-WebSocket-Accept: " + accept, *headers]
        await self.say(b"\r\n".join(lines) + b"\r\n\r\n")
        return request

    async def frame(self) -> tuple[int, bytes]:
        """Read one short frame of the client; return its opcode and payload."""
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(length)
        return first & 0x0F, bytes(byte ^ mask[number % 4] for number, byte in enumerate(data))

    async def live(self) -> None:
        """Answer pings until the client closes."""
        while True:
            opcode, data = await self.frame()
            if opcode == 0x9:
                await self.say(frame(0xA, data))
            elif opcode == 0x8:
                await self.say(frame(0x8, data))
                return

    async def stay(self) -> None:
        """Do nothing; never return."""
        await asyncio.Event().wait()


def frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """Return the bytes of a server's frame."""
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return bytes([opcode | (0x80 if fin else 0)]) + length + data


def ok(body: bytes = b"{}", *headers: bytes) -> bytes:
    """Return the bytes of an HTTP 200 answer."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def silent(peer: Peer) -> None:
    await peer.stay()


class Server:
    """Listen on a free port; `script` handles each connection, which is closed when it returns."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.script: Script = silent
        self.peers: list[Peer] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.arrived = asyncio.Event()
        self._tls = tls
        self._server: asyncio.Server | None = None

    @property
    def https(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def wss(self) -> str:
        return f"wss://127.0.0.1:{self.port}/ws"

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        assert self._server is not None
        self._server.close()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for peer in self.peers:
            peer.writer.transport.abort()
        for _ in range(5):
            await asyncio.sleep(0)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers) + 1, reader, writer)
        self.peers.append(peer)
        task = asyncio.get_running_loop().create_task(self._serve(peer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, peer: Peer) -> None:
        try:
            await self.script(peer)
        except (OSError, EOFError):
            pass  # the client went
        finally:
            peer.writer.transport.abort() if peer.writer.is_closing() else peer.writer.close()
