"""Connect to a venue over TLS by whichever of its addresses works: lanes and the fresh route all connect this way.

Accounts share addresses and authorities, and never wait for one another. The event loop's own connecting is not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Iterator

import anyio
import anyio.abc

from kill_switch import clock
from kill_switch.system.host_port import HostPort
from kill_switch.transports import certificates
from kill_switch.transports.authorities import Authorities, AuthorityStore
from kill_switch.transports.causes import describe_error
from kill_switch.transports.resolver import PATIENCE_S, HostAddress, Query, ResolvedHost, Resolver, query_system
from kill_switch.transports.turn_scheduler import TurnScheduler
from kill_switch.wakeup import AutoResetEvent

STAGGER_S = 0.25  # between the starts of two attempts (RFC 8305 §5, Connection Attempt Delay)
HANDSHAKE_STAGGER_S = 0.75  # in addition, for an address that has accepted TCP: a handshake takes two round trips
NAME_WITHIN_S = 10.0  # for the name service's first answer; with known addresses a connection does not wait for it
END_WITHIN_S = 0.002  # for a failed handshake to end: a pass or two of the event loop
REFRESH_EVERY_S = 60.0  # of names and authorities while nothing connects, so that a second route finds recent ones


class Network:
    """The state that a process's connections share: resolver, authorities, and turns on the event loop."""

    def __init__(self, query: Query = query_system) -> None:
        """Create it. `query` looks a host name up; it blocks and runs in a thread."""
        self.resolver = Resolver(query)
        self.trusts = AuthorityStore()
        self.turns = TurnScheduler()

    def dialer(self, url: str, ca_file: str | None) -> Dialer:
        """Return the dialer of a URL's host. This blocks unless `trusts.prepare` was awaited before.

        Raises `OSError` if `ca_file` cannot be read.
        """
        trust = self.trusts.trust(ca_file)
        trust.load()
        return Dialer(HostPort.of_url(url), self.resolver, trust)

    def troubles(self) -> Iterator[str]:
        """Yield a line for people for each name and each file of authorities that cannot be read now."""
        yield from self.resolver.troubles()
        yield from self.trusts.troubles()


class Dialer:
    """Connect to one host and port.

    Addresses race as in RFC 8305. A verified TLS handshake wins the race, not TCP, so a host that accepts and stays
    silent delays no other address.

    The event loop's own connecting may block behind other look-ups. asyncio resolves names in the default executor,
    uvloop in libuv's four threads, and uvloop's `sock_connect` does so even for a literal address.
    """

    def __init__(self, address: HostPort, resolver: Resolver, trust: Authorities) -> None:
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
    ) -> HostAddress:
        """Connect `protocol`, call its `connection_made` once, and return the address, for `mark_failed`.

        `within_s` bounds TCP and TLS together, from when an address is known. `patience_s` bounds the wait for a fresh
        answer of the name service while addresses are known. `name_within_s` bounds the wait for its first answer.
        Raises `OSError` or `ValueError` if no address works.
        """
        self._host.look_up()
        self._trust.check_files()
        await self._trust.settle()
        await self._host.settle(patience_s, name_within_s)
        race = _ConnectionRace(self._host, self._address, self._trust, protocol)
        with anyio.move_on_after(within_s):
            return await race.run()
        raise TimeoutError(errno.ETIMEDOUT, race.overdue(within_s))

    def refresh(self) -> None:
        """Refresh names and authorities in the background if they are older than `REFRESH_EVERY_S`; return at once."""
        self._host.look_up(REFRESH_EVERY_S)
        self._trust.check_files(REFRESH_EVERY_S)

    def mark_failed(self, place: HostAddress) -> None:
        """Record that a connection to this address was unusable: the next connection prefers another address."""
        self._host.mark_failed(place)


class _NotYetTls(asyncio.Protocol):
    """The protocol of a TCP connection until its TLS begins; a TLS server is silent until then (RFC 8446 §2)."""

    def __init__(self) -> None:
        self.spoken = False

    def data_received(self, data: bytes) -> None:
        self.spoken = True


class _ConnectionRace:
    """The race of a host's addresses, one attempt each, staggered; the first verified handshake gets the protocol."""

    def __init__(
        self, host: ResolvedHost, address: HostPort, trust: Authorities, protocol: asyncio.BaseProtocol
    ) -> None:
        self._host = host
        self._address = address
        self._trust = trust
        self._protocol = protocol
        self._winner: HostAddress | None = None
        self._won: asyncio.Transport | None = None
        self._over = False
        self._running: set[HostAddress] = set()
        self._accepted: set[HostAddress] = set()  # running attempts that are in their TLS handshake
        self._shook: set[HostAddress] = set()  # all attempts that reached their TLS handshake
        self._errors: dict[HostAddress, Exception] = {}
        self._tried: list[HostAddress] = []
        self._news = AutoResetEvent()

    async def run(self) -> HostAddress:
        """Run the race and return the winner's address. Raises `OSError` or `ValueError` if no address works."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._await_names)
                while self._winner is None:
                    place = next(
                        (candidate for candidate in self._host.addresses() if candidate not in self._tried), None
                    )
                    if place is not None:
                        self._tried.append(place)
                        self._running.add(place)
                        group.start_soon(self._try, place)
                        await self._pause(place)
                    elif self._running or self._host.is_looking_up:
                        await self._news.wait()
                    else:
                        break
                group.cancel_scope.cancel()
        except BaseException:
            if self._won is not None:  # the caller is cancelled and never receives the connection
                self._won.abort()
            raise
        finally:
            self._over = True
        if self._winner is None:
            raise self._failure()
        return self._winner

    def finish(self, place: HostAddress, transport: asyncio.Transport) -> None:
        """Assign the protocol to the first completed handshake; abort any later one."""
        if self._winner is not None or self._over:
            transport.abort()
            return
        self._winner, self._won = place, transport
        self._host.mark_proven(place)
        for other in self._tried[: self._tried.index(place)]:
            if other in self._running:  # it started earlier and is still not connected
                self._host.mark_failed(other)
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)

    async def _pause(self, place: HostAddress) -> None:
        """Wait until the next attempt is due; return at once if an attempt has failed."""
        with anyio.move_on_after(STAGGER_S):
            await self._news.wait()
            return
        if place in self._accepted:
            with anyio.move_on_after(HANDSHAKE_STAGGER_S):
                await self._news.wait()

    async def _await_names(self) -> None:
        """Wake the race whenever the name service answers, so that new addresses join it."""
        while self._host.is_looking_up:
            await self._host.answered()
            self._news.set()

    async def _try(self, place: HostAddress) -> None:
        try:
            await self._attempt(place)
        except ssl.SSLCertVerificationError as error:
            words = certificates.describe_refusal(
                error, self._address.host, self._trust.name, clock.now().wall_ns / 1e9
            )
            self._errors[place] = OSError(0, words)
            self._host.mark_failed(place)
        except Exception as error:  # of a socket or of TLS: reported if no other address works
            self._errors[place] = (
                OSError(0, f"TLS handshake: {describe_error(error)}") if place in self._shook else error
            )
            self._host.mark_failed(place)
        finally:
            self._running.discard(place)
            self._news.set()

    async def _attempt(self, place: HostAddress) -> None:
        context = self._trust.context
        try:
            await self._handshake(place, context)
        except ssl.SSLCertVerificationError:
            if not await self._trust.reload_after_refusal(context):
                raise
            await self._handshake(place, self._trust.context)

    async def _handshake(self, place: HostAddress, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        sock = await _connected(place, self._address.port)
        self._accepted.add(place)
        self._shook.add(place)
        shaking = loop.create_task(self._shake(place, sock, context))
        shaking.add_done_callback(lambda done: None if _succeeded(done) else sock.close())
        try:
            await asyncio.shield(shaking)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                # a handshake that has just failed ends by itself; cancelled at that moment, it would log a traceback
                await asyncio.wait([shaking], timeout=END_WITHIN_S)
                shaking.cancel()
                await asyncio.wait([shaking])
            raise
        finally:
            self._accepted.discard(place)

    async def _shake(self, place: HostAddress, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Carry out the TLS handshake on a connected socket. Raises `OSError` and `ssl.SSLError`, and closes it then.

        TLS begins on a plain transport, because only that one's write buffer can be limited. Before 0.23, uvloop
        keeps bytes until the pass ends if they fit into that buffer. A limit of 0 has each command leave at once.
        """
        loop, tcp = asyncio.get_running_loop(), None
        try:
            tcp, before = await loop.create_connection(_NotYetTls, sock=sock)
            if before.spoken:
                raise OSError(0, "TLS failed: wrong version number")  # as OpenSSL says where the bytes come later
            # nobody else hears of a loss before the handshake, or in the pass that completes it
            host = self._address.host
            tls = _open(await loop.start_tls(_open(tcp), asyncio.Protocol(), context, server_hostname=host))
            tcp.set_write_buffer_limits(high=0)
            self.finish(place, tls)
        except BaseException:
            if tcp is not None:
                tcp.abort()
            # at once, before another socket can have the number: uvloop has closed the descriptor without a word to
            # `sock` if the task is cancelled as it begins
            with contextlib.suppress(OSError):
                sock.close()
            raise

    def overdue(self, within_s: float) -> str:
        """Describe in which step each address was when the time limit passed."""
        steps = [
            f"{place.address}: {describe_error(self._errors[place])}"
            if place in self._errors
            else f"{place.address} does not answer {'in the TLS handshake' if place in self._shook else 'at all (TCP)'}"
            for place in self._tried
        ]
        return "; ".join((f"timed out after {within_s:g} s", *steps))

    def _failure(self) -> Exception:
        """Return why no address works: the common failure, or the failures of all addresses in one text."""
        errors = [self._errors[place] for place in self._tried if place in self._errors]
        if len({describe_error(error) for error in errors}) == 1:
            return errors[0]
        return OSError(
            0, "; ".join(f"{place.address}: {describe_error(error)}" for place, error in self._errors.items())
        )


async def _connected(place: HostAddress, port: int) -> socket.socket:
    """Connect a socket without the event loop's own method, which looks up literal addresses. Raises `OSError`."""
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


def _open(transport: asyncio.Transport | None) -> asyncio.Transport:
    """Return the transport; raise `ConnectionResetError` if it is lost already."""
    if transport is None or transport.is_closing():
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return transport


def _succeeded(task: asyncio.Task[object]) -> bool:
    """Return whether a finished task succeeded. Retrieves its exception, so that asyncio does not log it."""
    return not task.cancelled() and task.exception() is None


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(sock)
