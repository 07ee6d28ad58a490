"""Keep the idle connections of an account's HTTP lane in the order of their last use.

`http.HttpLane` takes connections from it in constant time, however many there are. It opens and closes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from kill_switch.transports.http_connection import HttpConnection


class IdleConnections:
    """The connections without a call, in the order of their last use.

    A connection that closes need not be removed: it is left out once it would be taken.
    """

    __slots__ = ("_order",)

    def __init__(self) -> None:
        self._order: OrderedDict[HttpConnection, None] = OrderedDict()

    def __iter__(self) -> Iterator[HttpConnection]:
        """Yield the idle connections in the order of their last use, the latest last."""
        return (connection for connection in self._order if connection.idle)

    def add_used(self, connection: HttpConnection) -> None:
        """Add a connection whose call was answered."""
        self._order[connection] = None

    def add_unproven(self, connection: HttpConnection) -> None:
        """Add a connection that is new, or on which the venue has refused to process a request: it is taken last."""
        self._order[connection] = None
        self._order.move_to_end(connection, last=False)

    def remove(self, connection: HttpConnection) -> None:
        """Remove a connection, because it gets a call or is closed."""
        self._order.pop(connection, None)

    def newest(self) -> HttpConnection | None:
        """Return the connection that was used last, None if no connection is idle."""
        order = self._order
        while order:
            connection = next(reversed(order))
            if connection.idle:
                return connection
            del order[connection]
        return None

    def oldest(self) -> HttpConnection | None:
        """Return the connection that has not been used for the longest time, None if no connection is idle."""
        return next(iter(self), None)

    def has(self, count: int) -> bool:
        """Return whether so many connections are idle."""
        idle = iter(self)
        return all(next(idle, None) is not None for _ in range(count))


def is_refresh_due(ages_s: Iterator[float], gap_s: float, idle_s: float) -> bool:
    """Return whether the oldest connection must be used now, so that none is unused for longer than `idle_s` seconds.

    `ages_s` are the times since the connections were last used, the longest first; one is used every `gap_s` seconds.
    """
    return any(age_s + (place + 1) * gap_s > idle_s for place, age_s in enumerate(ages_s))
