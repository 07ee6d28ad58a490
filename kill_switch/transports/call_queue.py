"""Keep the calls of an account's HTTP lane that wait for a connection, in the order in which they leave.

`http.HttpLane` owns one. It sends nothing.
"""

from __future__ import annotations

from collections import deque

from kill_switch.venues.messages import Call


class CallQueue:
    """Commands first, then the other urgent calls, then all others; each in the order in which they came."""

    __slots__ = ("_commands", "_others", "_urgent")

    def __init__(self) -> None:
        self._commands: deque[Call] = deque()
        self._urgent: deque[Call] = deque()
        self._others: deque[Call] = deque()

    def __bool__(self) -> bool:
        return bool(self._commands or self._urgent or self._others)

    def add(self, call: Call) -> None:
        """Add a call behind the calls of its kind."""
        (self._commands if call.command else self._urgent if call.urgent else self._others).append(call)

    @property
    def first_urgent(self) -> Call | None:
        """The next urgent call or command, None if none waits."""
        queue = self._commands or self._urgent
        return queue[0] if queue else None

    @property
    def first(self) -> Call:
        """The next call; requires one."""
        return (self._commands or self._urgent or self._others)[0]

    def take(self) -> Call:
        """Remove and return the next call; requires one."""
        return (self._commands or self._urgent or self._others).popleft()

    def take_cancel(self) -> Call | None:
        """Remove and return the next of a strike's own cancels, None if none waits."""
        for queue in (self._commands, self._urgent):
            for call in queue:
                if call.cancel:
                    queue.remove(call)
                    return call
        return None
