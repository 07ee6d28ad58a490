"""Find the accounts that a venue counts together, and plan cadence and connections of each from how many there are.

`dispatch.connect` uses it for the accounts that run, the configuration for those that are to run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Hashable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from kill_switch.venues.kit.cadence import Cadence
from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.options import HttpOptions
from kill_switch.venues.profile import VenueProfile


class Member(NamedTuple):
    """An account as its venue's limits see it; `key` is any value that only the same key has."""

    kind: type[VenueProfile[Any]]
    options: HttpOptions
    key: Hashable

    def pool_keys(self) -> dict[str, Hashable]:
        """Return, by the name of each pool, a value that is equal for accounts that share the pool."""
        return {pool.name: self._key_of(pool) for pool in self.kind.pools(self.options)}

    def api(self) -> Hashable:
        """Return a value that is equal for accounts whose requests go to the same host of the same venue."""
        return (self.kind.NAME, urlsplit(self.options.rest_url).netloc)

    def _key_of(self, pool: Pool) -> Hashable:
        api = (pool.product, self.options.environment) if pool.product else self.api()
        return (api, pool.name, None if pool.shared_by == "address" else self.key)


MAX_LATE = 8  # connections of an account that wait for late answers
MAX_COPIES = 32  # connections of an account that copies of reads hold
FOR_COMMANDS = 2  # connections of an account that stay free: the copy of a command, the successor of a WebSocket


class ConnectionShare(NamedTuple):
    """The connections of one account's HTTP lane, beside the accounts of the same address."""

    most: int  # in all
    per_s: float  # further ones that are opened in a second
    late: int = MAX_LATE  # that wait for late answers beside the lane
    copies: int = MAX_COPIES  # that copies of reads hold


def share_connections(members: Mapping[str, Member]) -> dict[str, ConnectionShare]:
    """Return each account's part of the connections that its venue allows an address, by the accounts' names.

    An account may always have the `CONNECTIONS` of its venue.
    """
    together = Counter(member.api() for member in members.values())
    shares = {}
    for name, member in members.items():
        kind, count = member.kind, together[member.api()]
        most = member.options.max_connections
        late, copies = MAX_LATE, MAX_COPIES
        if kind.ADDRESS_CONNECTIONS:
            each = kind.ADDRESS_CONNECTIONS // count
            most = min(most, each)
            left = each - kind.CONNECTIONS - kind.WS_CONNECTIONS - FOR_COMMANDS
            late = max(1, min(late, left // 2))
            copies = max(1, left - late)
        shares[name] = ConnectionShare(max(kind.CONNECTIONS, most), kind.CONNECTS_PER_S / count, late, copies)
    return shares


def plan_cadences(members: Mapping[str, Member], measured: Container[str] | None = None) -> dict[str, Cadence]:
    """Return each account's cadence, by the accounts' names; equal timings are the same object.

    `measured` has the accounts whose equity a trigger needs; None: all.
    """
    sharers = Counter(key for member in members.values() for key in member.pool_keys().values())
    timings: dict[object, Any] = {}
    cadences = {}
    for name, member in members.items():
        counts = {pool: sharers[key] for pool, key in member.pool_keys().items()}
        is_measured = measured is None or name in measured
        cadence = member.kind.plan(member.options, counts, is_measured=is_measured)
        cadences[name] = cadence._replace(timing=timings.setdefault(cadence.timing, cadence.timing))
    return cadences
