"""Request the equity of accounts that a pnl trigger watches, as often as each venue allows.

The requests are spread over the interval. An account that is being killed gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio

from kill_switch.dispatch.dispatcher import Dispatcher

LOOK_EVERY_S = 0.1  # seconds between two looks
IDLE_S = 1.0  # seconds between two looks while no equity is watched


class EquityPoller:
    """Hold the time of each account's next request."""

    def __init__(self, dispatcher: Dispatcher, wanted: Callable[[], Iterable[str]]) -> None:
        """Start without a request; `wanted` returns the accounts whose equity is watched now."""
        self._dispatcher = dispatcher
        self._wanted = wanted
        self._due_ns: dict[str, int] = {}

    async def run(self) -> None:
        """Send requests forever."""
        while True:
            self.look()
            await anyio.sleep(LOOK_EVERY_S if self._due_ns else IDLE_S)

    def look(self) -> None:
        """Request the equity of each account that is due."""
        now_ns = self._dispatcher.clock().mono_ns
        sessions = self._dispatcher.sessions
        wanted = [name for name in self._wanted() if name in sessions]
        self._due_ns = {name: due_ns for name, due_ns in self._due_ns.items() if name in wanted}
        busy = self._dispatcher.striking_accounts
        for number, name in enumerate(wanted):
            session = sessions[name]
            every_ns = int(session.status.measure_every_s * 1e9)
            due_ns = self._due_ns.setdefault(name, now_ns + every_ns * number // len(wanted))
            if now_ns < due_ns or name in busy or not session.status.is_reachable:
                continue
            if session.request_equity():  # else at the next look
                self._due_ns[name] = now_ns + every_ns
