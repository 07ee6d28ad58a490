"""The addresses of the venues' hosts, in the order in which a connection should try them.

The dialer uses it. Each host is looked up by the system's resolver (`getaddrinfo`, so nsswitch.conf applies), in
threads of its own. The last good addresses stay in use while the name service is slow, fails or hangs; no look-up ever
blocks the event loop.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import anyio

from kill_switch.transports.lookup import Lookup

PATIENCE_S = 0.3  # for a fresh answer while addresses are known: a resolver's cache answers within 10 ms
RECENT_S = 1.0  # a younger answer is not asked for again: an account's lanes reconnect together
MAX_ADDRESSES = 16  # per host: more are of no use, and each takes a socket

# returns what `socket.getaddrinfo` returns; raises OSError or ValueError
Query = Callable[[str], Iterable[tuple[Any, ...]]]


class HostUnresolved(OSError):
    """The host has no address to try; the text is for people."""


class HostAddress(NamedTuple):
    """An address of a host: a socket address without its port."""

    family: int
    address: str
    flow_and_scope: tuple[int, ...] = ()  # of an IPv6 address

    def sockaddr(self, port: int) -> tuple[str | int, ...]:
        return (self.address, port, *self.flow_and_scope)


def query_system(host: str) -> Iterable[tuple[Any, ...]]:
    """Look a host up with the system's resolver. This blocks for as long as the name service takes."""
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)


class ResolvedHost:
    """A host: its addresses, and the results of the connections to them."""

    def __init__(self, name: str, query: Query) -> None:
        """Look nothing up yet; a literal address is never looked up."""
        self.name = name
        self._lookup = Lookup(lambda: _addresses(query(name)))
        self._literal = _literal(name)
        self._ticks = itertools.count(1)
        self._proven: dict[HostAddress, int] = {}  # where a TLS handshake was verified, with the tick of the last one
        self._failed: dict[HostAddress, int] = {}  # where an attempt failed, with the tick of the last failure

    @property
    def is_looking_up(self) -> bool:
        """Return whether an answer of the name service is still expected."""
        return self._lookup.under_way

    @property
    def trouble(self) -> str:
        """Describe the look-up's failure or delay; empty if the last look-up succeeded."""
        lookup = self._lookup
        if lookup.under_way and lookup.waiting_s > PATIENCE_S:
            return f"the name service has not answered for {lookup.waiting_s:.0f} s for {self.name}"
        if lookup.error is not None:
            return f"the name {self.name} does not resolve: {_words(lookup.error)}"
        return ""

    def look_up(self, recent_s: float = RECENT_S) -> None:
        """Ask the name service in the background, unless it answered within the last `recent_s` seconds."""
        now_s = anyio.current_time()
        if not self._literal and (self._lookup.error is not None or now_s - self._lookup.ended_s >= recent_s):
            self._lookup.begin()

    async def settle(self, patience_s: float, first_within_s: float) -> None:
        """Wait for the answer that `look` requested.

        Wait `patience_s` at most while an address is known, `first_within_s` otherwise. Raises `HostUnresolved` if no
        address is known then.
        """
        if self.addresses():
            await self._lookup.settle(patience_s)
        else:
            with anyio.move_on_after(first_within_s):
                while self._lookup.under_way and not self.addresses():
                    await self._lookup.end()
        if not self.addresses():
            raise HostUnresolved(0, self.trouble or f"the name {self.name} does not resolve: no answer")

    async def answered(self) -> None:
        """Wait until the running look-up ends."""
        await self._lookup.end()

    def addresses(self) -> Sequence[HostAddress]:
        """Return all addresses, the best first.

        1. Addresses that worked, the latest first.
        2. Untried addresses, families in turn (RFC 8305 §4).
        3. Addresses that worked but are missing in the latest answer, because that answer may be wrong.
        4. Addresses that failed, the oldest failure first.
        """
        if self._literal:
            return self._literal
        listed = self._lookup.answer or ()
        kept = [place for place in self._proven if place not in listed]
        ticks = [(self._proven.get(place, 0), self._failed.get(place, 0), place) for place in (*listed, *kept)]
        worked = sorted((-proven, place) for proven, failed, place in ticks if proven > failed and place in listed)
        unknown = [place for proven, failed, place in ticks if not proven and not failed]
        unlisted = sorted((-proven, place) for proven, failed, place in ticks if proven > failed and place in kept)
        bad = sorted((failed, place) for proven, failed, place in ticks if failed > proven)
        return [
            *(place for _, place in worked),
            *_interleaved(unknown),
            *(place for _, place in unlisted),
            *(place for _, place in bad),
        ]

    def mark_proven(self, place: HostAddress) -> None:
        """Record a verified TLS handshake with this address.

        If the latest answer contains it, forget the addresses that the answer does not contain.
        """
        self._proven[place] = next(self._ticks)
        listed = self._lookup.answer or ()
        if place in listed:
            self._proven = {known: tick for known, tick in self._proven.items() if known in listed}
            self._failed = {known: tick for known, tick in self._failed.items() if known in listed}

    def mark_failed(self, place: HostAddress) -> None:
        """Record that an address failed, or that another one was faster: the next connection prefers others."""
        self._failed[place] = next(self._ticks)
        while len(self._failed) > MAX_ADDRESSES:
            del self._failed[min(self._failed, key=self._failed.__getitem__)]


class Resolver:
    """All hosts of a process; connections to one name share its `Host`."""

    def __init__(self, query: Query = query_system) -> None:
        self._query = query
        self._hosts: dict[str, ResolvedHost] = {}

    def host(self, name: str) -> ResolvedHost:
        """Return the host of that name; create it at the first call."""
        if name not in self._hosts:
            self._hosts[name] = ResolvedHost(name, self._query)
        return self._hosts[name]

    def troubles(self) -> Iterable[str]:
        """Yield a line for each host whose look-up fails or is slow now."""
        return (host.trouble for host in self._hosts.values() if host.trouble)


def _addresses(answer: Iterable[tuple[Any, ...]]) -> tuple[HostAddress, ...]:
    """Convert an answer of `getaddrinfo` to addresses. Raises `HostUnresolved` if it has none."""
    places: dict[HostAddress, None] = {}
    for family, _, _, _, sockaddr in answer:
        if family in (socket.AF_INET, socket.AF_INET6):
            places[HostAddress(int(family), sockaddr[0], tuple(sockaddr[2:]))] = None
    if not places:
        raise HostUnresolved(0, "it has no address")
    return tuple(places)[:MAX_ADDRESSES]


def _literal(name: str) -> tuple[HostAddress, ...]:
    try:
        version = ipaddress.ip_address(name).version
    except ValueError:
        return ()
    if version == 4:
        return (HostAddress(int(socket.AF_INET), name),)
    return () if "%" in name else (HostAddress(int(socket.AF_INET6), name, (0, 0)),)  # a scope's name needs a look-up


def _interleaved(places: Sequence[HostAddress]) -> list[HostAddress]:
    """Order addresses with families in turn, beginning with the answer's first family (RFC 8305 §4)."""
    families = dict.fromkeys(place.family for place in places)
    rows = itertools.zip_longest(*([p for p in places if p.family == family] for family in families))
    return [place for row in rows for place in row if place is not None]


def _words(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "it is not a host name"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
