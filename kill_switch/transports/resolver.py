"""Know the addresses of the venues' hosts, in the order in which a connection should try them.

Each host is looked up by the system's own resolver (`getaddrinfo`, so that nsswitch.conf holds), in threads of its own.
The last good addresses stay in use while the name service is slow, fails or hangs.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import anyio

from kill_switch.transports.lookup import Lookup

PATIENCE_S = 0.3  # for a fresh answer, while addresses are known: a resolver's cache answers within 10 ms
RECENT_S = 1.0  # an answer that is younger is not asked for again: an account's lanes come back together
MOST_PLACES = 16  # of one host: an answer of hundreds is no use, and each takes a socket

Query = Callable[[str], Iterable[tuple[Any, ...]]]  # as `socket.getaddrinfo` answers; raises OSError or ValueError


class Unresolved(OSError):
    """A host has no address that could be tried; the text is for a person."""


class Place(NamedTuple):
    """Where a host can be reached: a socket address without its port."""

    family: int
    address: str
    rest: tuple[int, ...] = ()  # IPv6: flow information and scope

    def sockaddr(self, port: int) -> tuple[str | int, ...]:
        return (self.address, port, *self.rest)


def ask_system(host: str) -> Iterable[tuple[Any, ...]]:
    """Look a host up as every program of this machine does; this blocks, for as long as the name service likes."""
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)


class Host:
    """One host: its addresses, and what became of the connections to them."""

    def __init__(self, name: str, query: Query) -> None:
        """Look nothing up yet; a literal address needs no look-up, ever."""
        self.name = name
        self._lookup = Lookup(lambda: _places(query(name)))
        self._literal = _literal(name)
        self._ticks = itertools.count(1)
        self._proven: dict[Place, int] = {}  # a TLS handshake was verified there; the tick of the last one
        self._failed: dict[Place, int] = {}  # the tick of the last failure

    @property
    def asking(self) -> bool:
        """Tell whether an answer may still come."""
        return self._lookup.under_way

    @property
    def trouble(self) -> str:
        """Say what is wrong with the name service; nothing if it has answered."""
        lookup = self._lookup
        if lookup.under_way and lookup.waiting_s > PATIENCE_S:
            return f"the name service has not answered for {lookup.waiting_s:.0f} s for {self.name}"
        if lookup.error is not None:
            return f"the name {self.name} does not resolve: {_words(lookup.error)}"
        return ""

    def look(self, recent_s: float = RECENT_S) -> None:
        """Ask the name service in the background, unless it answered within the last `recent_s`."""
        now_s = anyio.current_time()
        if not self._literal and (self._lookup.error is not None or now_s - self._lookup.ended_s >= recent_s):
            self._lookup.begin()

    async def settle(self, patience_s: float, first_within_s: float) -> None:
        """Wait for the answer that `look` asked for: `patience_s`, or `first_within_s` while no address is known.

        Raises `Unresolved` if no address is known then.
        """
        if self.places():
            await self._lookup.settle(patience_s)
        else:
            with anyio.move_on_after(first_within_s):
                while self._lookup.under_way and not self.places():
                    await self._lookup.end()
        if not self.places():
            raise Unresolved(0, self.trouble or f"the name {self.name} does not resolve: no answer")

    async def answered(self) -> None:
        """Wait until the look-up that is under way ends."""
        await self._lookup.end()

    def places(self) -> Sequence[Place]:
        """Return all addresses, the best first.

        An address that worked comes first, then those that nobody has tried, families in turn (RFC 8305, 4). An
        address that worked and that the latest answer does not name is kept behind them: the answer may be a lie.
        Those that failed come last, the oldest failure first.
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

    def proved(self, place: Place) -> None:
        """Take note that a TLS handshake with this address was verified; older unlisted addresses can go now."""
        self._proven[place] = next(self._ticks)
        listed = self._lookup.answer or ()
        if place in listed:
            self._proven = {one: tick for one, tick in self._proven.items() if one in listed}
            self._failed = {one: tick for one, tick in self._failed.items() if one in listed}

    def failed(self, place: Place) -> None:
        """Take note that an address did not work, or that another was quicker: the next connection prefers others."""
        self._failed[place] = next(self._ticks)
        while len(self._failed) > MOST_PLACES:
            del self._failed[min(self._failed, key=self._failed.__getitem__)]


class Resolver:
    """Hand out hosts; connections to one name share what is known of it."""

    def __init__(self, query: Query = ask_system) -> None:
        self._query = query
        self._hosts: dict[str, Host] = {}

    def host(self, name: str) -> Host:
        """Return the host of that name."""
        if name not in self._hosts:
            self._hosts[name] = Host(name, self._query)
        return self._hosts[name]

    def troubles(self) -> Iterable[str]:
        """Yield a line for each host whose name does not resolve now, or takes long."""
        return (host.trouble for host in self._hosts.values() if host.trouble)


def _places(answer: Iterable[tuple[Any, ...]]) -> tuple[Place, ...]:
    """Turn an answer of `getaddrinfo` into places. Raises `OSError` if it names none."""
    found: dict[Place, None] = {}
    for family, _, _, _, sockaddr in answer:
        if family in (socket.AF_INET, socket.AF_INET6):
            found[Place(int(family), sockaddr[0], tuple(sockaddr[2:]))] = None
    if not found:
        raise Unresolved(0, "it has no address")
    return tuple(found)[:MOST_PLACES]


def _literal(name: str) -> tuple[Place, ...]:
    try:
        version = ipaddress.ip_address(name).version
    except ValueError:
        return ()
    if version == 4:
        return (Place(int(socket.AF_INET), name),)
    return () if "%" in name else (Place(int(socket.AF_INET6), name, (0, 0)),)  # a scope's name is looked up


def _interleaved(places: Sequence[Place]) -> list[Place]:
    """Put families in turn, in the answer's order, its first family first (RFC 8305, 4)."""
    families = dict.fromkeys(place.family for place in places)
    rows = itertools.zip_longest(*([p for p in places if p.family == family] for family in families))
    return [place for row in rows for place in row if place is not None]


def _words(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "it is no host name"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
