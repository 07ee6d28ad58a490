"""Connect to a venue over TLS by whichever of its addresses works: the one way in which lanes and routes connect.

Addresses race as in RFC 8305, and the race is won by a verified TLS handshake, not by TCP: a host that accepts and then
says nothing holds nobody up. Accounts share knowledge (addresses, authorities), and nothing that one must wait for.

The event loop's own connecting is not used: asyncio looks names up in the default executor and uvloop in libuv's four
threads, `loop.sock_connect` of uvloop even for a literal address.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import cast

import anyio
import anyio.abc

from kill_switch import clock
from kill_switch.system.host_port import HostPort
from kill_switch.transports import certificates
from kill_switch.transports.causes import why
from kill_switch.transports.resolver import PATIENCE_S, Host, Place, Query, Resolver, ask_system
from kill_switch.transports.trust import Trust, TrustStore
from kill_switch.transports.turns import Turns
from kill_switch.wakeup import AutoResetEvent

STAGGER_S = 0.25  # between the starts of two attempts (RFC 8305, 5: Connection Attempt Delay)
HANDSHAKE_STAGGER_S = 0.75  # more, for an address that has accepted TCP: a handshake takes two round trips
NAME_WITHIN_S = 10.0  # the name service's time for a first answer; with addresses known, nobody waits for it
END_WITHIN_S = 0.002  # for a handshake that has failed: a pass or two of the event loop
REFRESH_EVERY_S = 60.0  # names and authorities, while nothing connects: a second route finds them recent


class Network:
    """What connections know in common; a process has one."""

    def __init__(self, query: Query = ask_system) -> None:
        """`query` looks a name up, blocking, in a thread."""
        self.resolver = Resolver(query)
        self.trusts = TrustStore()
        self.turns = Turns()

    def dialer(self, url: str, ca_file: str | None) -> Dialer:
        """Return what connects to a URL's host; this blocks unless `trusts.prepare` was awaited.

        Raises `OSError` for a `ca_file` that cannot be used.
        """
        trust = self.trusts.trust(ca_file)
        trust.load()
        return Dialer(HostPort.of_url(url), self.resolver, trust)

    def troubles(self) -> Iterator[str]:
        """Yield a line for people for each name and each file of authorities that cannot be read now."""
        yield from self.resolver.troubles()
        yield from self.trusts.troubles()


class Dialer:
    """Connect to one host and port."""

    def __init__(self, address: HostPort, resolver: Resolver, trust: Trust) -> None:
        self._address = address
        self._host = resolver.host(address.host)
        self._trust = trust

    async def connect(
        self,
        protocol: asyncio.BaseProtocol,
        *,
        within_s: float,
        patience_s: float = PATIENCE_S,
        name_within_s: float = NAME_WITHIN_S,
    ) -> Place:
        """Connect `protocol`, whose `connection_made` is called once; return where to, for `blame`.

        `within_s` bounds TCP and TLS, and begins when an address is known. `patience_s` bounds the wait for a fresh
        answer while addresses are known, `name_within_s` the wait for a first one. Raises `OSError` or `ValueError`.
        """
        self._host.look()
        self._trust.look()
        await self._trust.settle()
        await self._host.settle(patience_s, name_within_s)
        race = _Race(self._host, self._address, self._trust, protocol)
        with anyio.move_on_after(within_s):
            return await race.run()
        raise TimeoutError(errno.ETIMEDOUT, race.overdue(within_s))

    def refresh(self) -> None:
        """Ask for names and authorities again in the background, now and then: nothing waits for them."""
        self._host.look(REFRESH_EVERY_S)
        self._trust.look(REFRESH_EVERY_S)

    def blame(self, place: Place) -> None:
        """Take note that a connection there was of no use: the next one prefers another address."""
        self._host.failed(place)


class _Handshake(asyncio.Protocol):
    """Stand in for the protocol until a TLS handshake is done; the first one wins the race."""

    def __init__(self, race: _Race, place: Place) -> None:
        self._race = race
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._race.finish(self._place, cast(asyncio.Transport, transport))


class _Race:
    """One attempt an address, staggered; the first that is through its handshake gets the protocol."""

    def __init__(self, host: Host, address: HostPort, trust: Trust, protocol: asyncio.BaseProtocol) -> None:
        self._host = host
        self._address = address
        self._trust = trust
        self._protocol = protocol
        self._winner: Place | None = None
        self._won: asyncio.Transport | None = None
        self._over = False
        self._running: set[Place] = set()
        self._accepted: set[Place] = set()  # of those that run, those that are in their TLS handshake
        self._shook: set[Place] = set()  # all that came to their TLS handshake
        self._errors: dict[Place, Exception] = {}
        self._tried: list[Place] = []
        self._news = AutoResetEvent()

    async def run(self) -> Place:
        """Return where the protocol is connected to. Raises `OSError` or `ValueError` if no address works."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._hear_names)
                while self._winner is None:
                    place = next((one for one in self._host.places() if one not in self._tried), None)
                    if place is not None:
                        self._tried.append(place)
                        self._running.add(place)
                        group.start_soon(self._try, place)
                        await self._pause(place)
                    elif self._running or self._host.asking:
                        await self._news.wait()
                    else:
                        break
                group.cancel_scope.cancel()
        except BaseException:
            if self._won is not None:  # the caller is cancelled, and never gets it
                self._won.abort()
            raise
        finally:
            self._over = True
        if self._winner is None:
            raise self._failure()
        return self._winner

    def finish(self, place: Place, transport: asyncio.Transport) -> None:
        """Take a connection whose handshake is done: the first one, and no other."""
        if self._winner is not None or self._over:
            transport.abort()
            return
        self._winner, self._won = place, transport
        self._host.proved(place)
        for other in self._tried[: self._tried.index(place)]:
            if other in self._running:  # it had a start, and is still not there
                self._host.failed(other)
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)

    async def _pause(self, place: Place) -> None:
        """Wait until the next attempt is due: at once if one has failed."""
        with anyio.move_on_after(STAGGER_S):
            await self._news.wait()
            return
        if place in self._accepted:
            with anyio.move_on_after(HANDSHAKE_STAGGER_S):
                await self._news.wait()

    async def _hear_names(self) -> None:
        """Have addresses join the race that the name service tells of meanwhile."""
        while self._host.asking:
            await self._host.answered()
            self._news.set()

    async def _try(self, place: Place) -> None:
        try:
            await self._attempt(place)
        except ssl.SSLCertVerificationError as error:
            words = certificates.refused(error, self._address.host, self._trust.name, clock.now().wall_ns / 1e9)
            self._errors[place] = OSError(0, words)
            self._host.failed(place)
        except Exception as error:  # of a socket, of TLS: it is told when no other address works
            self._errors[place] = OSError(0, f"TLS handshake: {why(error)}") if place in self._shook else error
            self._host.failed(place)
        finally:
            self._running.discard(place)
            self._news.set()

    async def _attempt(self, place: Place) -> None:
        context = self._trust.context
        try:
            await self._handshake(place, context)
        except ssl.SSLCertVerificationError:
            if not await self._trust.changed(context):
                raise
            await self._handshake(place, self._trust.context)

    async def _handshake(self, place: Place, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        sock = await _connected(place, self._address.port)
        self._accepted.add(place)
        self._shook.add(place)
        shaking = loop.create_task(
            loop.create_connection(
                lambda: _Handshake(self, place), sock=sock, ssl=context, server_hostname=self._address.host
            )
        )
        shaking.add_done_callback(lambda done: None if _succeeded(done) else sock.close())
        try:
            await asyncio.shield(shaking)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                # one that has just failed ends by itself: cancelled then, it would log a traceback
                await asyncio.wait([shaking], timeout=END_WITHIN_S)
                shaking.cancel()
                await asyncio.wait([shaking])
            raise
        finally:
            self._accepted.discard(place)

    def overdue(self, within_s: float) -> str:
        """Say in which step each address is, now that its time is over."""
        steps = [
            f"{place.address}: {why(self._errors[place])}"
            if place in self._errors
            else f"{place.address} does not answer {'in the TLS handshake' if place in self._shook else 'at all (TCP)'}"
            for place in self._tried
        ]
        return "; ".join((f"timed out after {within_s:g} s", *steps))

    def _failure(self) -> Exception:
        """Return why no address works: the one failure, or all of them in words."""
        errors = [self._errors[place] for place in self._tried if place in self._errors]
        if len({why(error) for error in errors}) == 1:
            return errors[0]
        return OSError(0, "; ".join(f"{place.address}: {why(error)}" for place, error in self._errors.items()))


async def _connected(place: Place, port: int) -> socket.socket:
    """Connect a socket, without the event loop's own way, which looks literal addresses up. Raises `OSError`."""
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(place.sockaddr(port))
        if code in (errno.EINPROGRESS, errno.EAGAIN):
            await _writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


def _succeeded(task: asyncio.Task[object]) -> bool:
    """Tell whether a task that is done has come to its end, and have its failure known."""
    return not task.cancelled() and task.exception() is None


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(sock)
