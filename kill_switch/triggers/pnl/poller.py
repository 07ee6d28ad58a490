"""Ask venues what accounts are worth, as often as each of them allows, while somebody wants to know.

Accounts are asked one after the other, not all at once; an account that is being struck is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio

from kill_switch.dispatch.dispatcher import Dispatcher

LOOK_EVERY_S = 0.1
IDLE_S = 1.0  # while nobody wants to know


class EquityPoller:
    """Keep each wanted account's next appointment."""

    def __init__(self, dispatcher: Dispatcher, wanted: Callable[[], Iterable[str]]) -> None:
        """`wanted` names the accounts whose worth somebody watches now."""
        self._dispatcher = dispatcher
        self._wanted = wanted
        self._due_ns: dict[str, int] = {}

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            self.look()
            await anyio.sleep(LOOK_EVERY_S if self._due_ns else IDLE_S)

    def look(self) -> None:
        """Ask those whose time has come."""
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
            self._due_ns[name] = now_ns + every_ns
            session.request_equity()
