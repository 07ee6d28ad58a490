"""A venue's host without sockets, for a lane in virtual time: it accepts, refuses, answers, closes as tests say."""

from __future__ import annotations

import asyncio
from typing import cast

from kill_switch.transports.http_connection import HttpConnection
from kill_switch.transports.network import Dialer, Network
from kill_switch.transports.resolver import HostAddress

from .scripted_server import ok
from .virtual_time import running

CONNECT_S = 0.3  # TCP and TLS, at a venue 100 ms away
ANSWER_S = 0.1


class StubTransport(asyncio.Transport):
    """One end of a connection; what is written is answered after `ANSWER_S`, unless the host is silent."""

    def __init__(self, host: StubHost, protocol: HttpConnection) -> None:
        super().__init__()
        self.written: list[tuple[float, bytes]] = []  # (when, request)
        self.used_s = running().time()
        self._host = host
        self._protocol = protocol
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.used_s = running().time()
        self.written.append((self.used_s, bytes(data)))
        if not self._host.is_silent:
            running().call_later(ANSWER_S, self.answer)

    def answer(self) -> None:
        """Answer a request."""
        if not self._closing:
            answer = ok()
            self._protocol.get_buffer(len(answer))[: len(answer)] = answer
            self._protocol.buffer_updated(len(answer))

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        """Close the connection, on whichever side."""
        if not self._closing:
            self._closing = True
            self._host.open.remove(self)
            running().call_soon(self._protocol.connection_lost, None)


class StubHost:
    """The host, in place of a `Network` and its `Dialer`."""

    def __init__(self) -> None:
        self.most = 1_000_000  # connections that it accepts
        self.closes_early = False  # it accepts further ones, and closes them at once
        self.is_silent = False
        self.attempts: list[float] = []  # when each began
        self.open: list[StubTransport] = []

    def network(self) -> Network:
        """Return it as the network of a lane."""
        return cast(Network, self)

    def dialer(self, url: str, ca_file: str | None) -> Dialer:
        return cast(Dialer, self)

    def refresh(self) -> None:
        """Have no names to look up."""

    def mark_failed(self, place: HostAddress) -> None:
        """Have no other address."""

    async def connect(self, protocol: HttpConnection, *, within_s: float) -> None:
        self.attempts.append(running().time())
        await asyncio.sleep(CONNECT_S)
        is_full = len(self.open) >= self.most
        if is_full and not self.closes_early:
            raise ConnectionRefusedError(111, "Connection refused")
        transport = StubTransport(self, protocol)
        self.open.append(transport)
        protocol.connection_made(transport)
        if is_full:
            running().call_soon(transport.abort)

    def requests(self) -> list[tuple[float, bytes]]:
        """Return the requests on open connections, in their order."""
        return sorted(request for transport in self.open for request in transport.written)
