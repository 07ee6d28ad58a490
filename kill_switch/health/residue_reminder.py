"""Repeat that a kill has left orders, until the account is clear or re-armed; the daemon's pulse calls it.

The engine announces RESIDUE once, at the deadline. Nothing is struck or read here.
"""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.core.announcements import ORDERS_LEFT_DO
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Phase, Severity
from kill_switch.core.outcome import describe_left
from kill_switch.dispatch.dispatcher import Dispatcher

FIRST_AFTER_S, AT_MOST_S = 60.0, 600.0  # seconds until the first repetition; each gap is twice the last, up to the cap


class ResidueReminder:
    """The accounts in RESIDUE, each with the kill, the repetitions so far and the time of the next one."""

    def __init__(self, dispatcher: Dispatcher, announce: Callable[[Announce], None]) -> None:
        self._dispatcher = dispatcher
        self._announce = announce
        self._due: dict[str, tuple[str, int, int]] = {}  # account → kill, repetitions, when the next is due (monotonic)

    def check(self) -> None:
        """Announce again what is due; cheap enough for every pulse."""
        now_ns = self._dispatcher.clock().mono_ns
        due: dict[str, tuple[str, int, int]] = {}
        for name, account in self._dispatcher.state.accounts.items():
            if account.phase is not Phase.RESIDUE:
                continue
            kill, number, at_ns = self._due.get(name, ("", 0, 0))
            if kill != (account.kill or ""):
                kill, number, at_ns = account.kill or "", 0, now_ns + _gap_ns(0)
            elif now_ns >= at_ns:
                number, at_ns = number + 1, now_ns + _gap_ns(number + 1)
                self._remind(name, account.orders_left, now_ns)
            due[name] = (kill, number, at_ns)
        self._due = due

    def _remind(self, name: str, left: int | None, now_ns: int) -> None:
        ids = [order.id for order in self._dispatcher.sessions[name].status.orders]
        text = f"still {describe_left(left, ids)} left, still chasing"
        about = f"residue {now_ns}"  # another one each time, so that no repetition is held back
        self._announce(Announce(Severity.RESIDUE, text, name, do=ORDERS_LEFT_DO, about=about))


def _gap_ns(number: int) -> int:
    """Return the nanoseconds from a repetition, 0 for the first announcement, to the next one."""
    return int(min(FIRST_AFTER_S * 2**number, AT_MOST_S) * 1e9)
