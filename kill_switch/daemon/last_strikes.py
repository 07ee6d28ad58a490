"""Wait for the strikes in progress while the daemon stops, and not for a proof that only takes time.

The daemon uses it during an orderly stop. It sends nothing, and decides nothing about a kill.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import anyio

from kill_switch.core.list_lag import waits_for_lag
from kill_switch.dispatch.dispatcher import Dispatcher

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.02  # seconds between two looks at the strikes


class LastStrikes:
    """The strikes of a dispatcher that stops."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._given_up: dict[str, str | None] = {}  # account → the kill that has had its time

    async def finish(self, within_s: float) -> None:
        """Wait until no account is being struck, at most `within_s` seconds; log the accounts not proven clear.

        An account is waited for once in a kill, and no longer once only the lag of its venue's lists keeps it from
        being clear. Its latch is on record, and the next start goes on with the proof.
        """
        waiting: list[str] = []
        with anyio.move_on_after(within_s):
            while names := list(self._being_struck()):
                if names != waiting:
                    log.warning("stopping, after the kill on %s", ", ".join(names))
                    waiting = names
                await anyio.sleep(LOOK_EVERY_S)
        left = {name: self._kill_of(name) for name in self._dispatcher.striking_accounts}
        if unreported := [name for name in left if self._given_up.get(name, "") != left[name]]:
            log.error("stopped before %s were proven clear: the next start goes on", ", ".join(unreported))
        self._given_up = left

    def _being_struck(self) -> Iterator[str]:
        """Yield the accounts of which an order may still rest: no clean read has followed the last strike."""
        for name in self._dispatcher.striking_accounts:
            sweep = self._dispatcher.state.accounts[name].sweep
            has_had_its_time = self._given_up.get(name, "") == self._kill_of(name)
            if not has_had_its_time and (sweep is None or not waits_for_lag(sweep)):
                yield name

    def _kill_of(self, account: str) -> str | None:
        return self._dispatcher.state.accounts[account].kill
