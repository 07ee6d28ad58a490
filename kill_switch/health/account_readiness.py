"""Announce an account that is not ready for long, and that it is ready again; the daemon's pulse calls it.

A lane that reconnects, or flaps, is no message: `NOT_READY_S` and `READY_S` must pass without a break. `status`, the
metrics and the outer ping show the condition at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Severity
from kill_switch.core.settled_change import SettledChange
from kill_switch.dispatch.account_status import AccountStatus
from kill_switch.dispatch.session import AccountSession

NOT_READY_S = 30.0  # seconds without a break until an account that is not ready is announced
READY_S = 60.0  # seconds without a break until an account that was announced counts as ready again


class ReadinessMonitor:
    """The accounts whose want of readiness has been announced."""

    def __init__(
        self,
        sessions: Mapping[str, AccountSession],
        clock: Callable[[], Instant],
        announce: Callable[[Announce], None],
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._announce = announce
        self._unready = SettledChange(int(NOT_READY_S * 1e9), int(READY_S * 1e9))

    def check(self) -> None:
        """Announce the accounts whose readiness has changed for long enough; cheap enough for every pulse."""
        self._unready.retain(self._sessions)  # a reload may have removed accounts
        unready = (name for name, session in self._sessions.items() if not session.status.is_ready)
        begun, ended = self._unready.update(unready, self._clock().mono_ns)
        for name in begun:
            status = self._sessions[name].status
            do = "kill-switch check --connect" if status.is_killable else "stop its bots; kill-switch check --connect"
            self._announce(Announce(Severity.UNREADY, describe_unready(status), name, do=do, about="ready"))
        for name in ended:
            text = f"ready again, for {READY_S:g} s: every lane carries its part of a kill"
            self._announce(Announce(Severity.OVER, text, name, about="ready"))


def describe_unready(status: AccountStatus) -> str:
    """Return why an account is not ready, and the consequence for a kill."""
    lanes, troubles = status.lanes, status.troubles()
    down = [route for route, state in lanes.items() if state != "up"]
    why = "; ".join(f"{route} {lanes[route]}" + (f": {troubles[route]}" if route in troubles else "") for route in down)
    carriers = [route for route in lanes if route not in down]
    follows = f"a kill goes over {' and '.join(carriers)} alone" if carriers else "a kill now would leave its orders"
    if carriers and not status.is_killable:
        follows = "no command of a kill would reach the venue"
    return f"not ready for {NOT_READY_S:g} s ({why}): {follows}"
