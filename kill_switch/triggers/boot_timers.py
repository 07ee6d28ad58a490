"""Start the time-outs of heartbeats after the daemon's start or a reload; the supervisor calls it at each look.

A time-out starts when the trigger's accounts are ready, because a strategy may wait for the same venues. It starts
after `READY_WITHIN_S` at the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kill_switch.core.domain import Instant
from kill_switch.triggers.heartbeat import READY_WITHIN_S, HeartbeatTrigger


class BootTimers:
    """Hold the heartbeat triggers whose time-out has not started."""

    def __init__(
        self,
        clock: Callable[[], Instant],
        ready_accounts: Callable[[], set[str]],
        settles_ns: Callable[[str], int],
    ) -> None:
        """Start with no trigger.

        `ready_accounts` names the accounts that are ready now. `settles_ns` returns until when (monotonic) the intake
        may refuse signed beats of a trigger after a restart.
        """
        self._clock = clock
        self._ready_accounts = ready_accounts
        self._settles_ns = settles_ns
        self._heartbeats: Mapping[str, HeartbeatTrigger] = {}
        self._waiting: dict[str, int] = {}  # trigger → since when it waits for its accounts, monotonic nanoseconds
        self._ready: set[str] = set()  # accounts that have been ready at any look

    def set_heartbeats(self, heartbeats: Mapping[str, HeartbeatTrigger]) -> None:
        """Replace the triggers; a trigger that waited before, by name, keeps the beginning of its wait."""
        now_ns = self._clock().mono_ns
        self._heartbeats = heartbeats
        self._waiting = {name: self._waiting.get(name, now_ns) for name, t in heartbeats.items() if not t.booted}

    def start_due(self, *, wait_for_accounts: bool) -> None:
        """Start the time-outs that are due; without `wait_for_accounts`, all that the intake can serve."""
        if not self._waiting:
            return
        self._ready |= self._ready_accounts()
        within_s = READY_WITHIN_S if wait_for_accounts else 0.0
        now_ns = self._clock().mono_ns
        for name, since_ns in list(self._waiting.items()):
            heartbeat, waited_s = self._heartbeats[name], (now_ns - since_ns) / 1e9
            if now_ns + heartbeat.timeout_ns < self._settles_ns(name):
                continue  # the time-out would be over before the intake can take a beat
            if waited_s >= within_s or self._ready.issuperset(heartbeat.accounts):
                del self._waiting[name]
                heartbeat.start_boot_timer()
