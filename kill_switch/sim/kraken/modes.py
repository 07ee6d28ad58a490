"""Kraken's modes, and the countdowns that wait for a maintenance to end (docs/venues/kraken.md §6, §8).

The simulated spot and derivatives are `ModalVenue`s. This module answers no request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.countdown import Countdown
from kill_switch.sim.kit.exchange import DeadMan
from kill_switch.sim.kit.options import Options, option
from kill_switch.sim.kit.table_venue import TableVenue
from kill_switch.sim.kit.tables import Refused
from kill_switch.sim.kraken.v2 import V2Socket

_MOST_TIMEOUT_S = 86_400


@dataclass
class ModalOptions(Options):
    """The options of a venue that has modes."""

    mode: str = option("online", "the system's mode (§8)", "online", "maintenance")


class ModalVenue(TableVenue):
    """A venue of Kraken, whose WebSocket v2 tells each change of the mode."""

    options: ModalOptions
    v2: V2Socket

    def __init__(self, options: ModalOptions, accounts: int) -> None:
        self.options = options
        self._told_mode = options.mode
        super().__init__(options, accounts)
        self.countdowns = Countdowns(self)

    @property
    def mode(self) -> str:
        """Return the system's mode; the `maintenance` fault is the mode of that name."""
        fault = self.faults.peek("maintenance")
        return "maintenance" if fault is not None and fault.on == "all" else self.options.mode

    def reconfigured(self) -> None:
        """Empty the limits, and tell a changed mode."""
        super().reconfigured()
        if self.sockets:  # and not in the middle of the start
            self._tell_mode()

    def put_fault(self, name: object, parameters: Mapping[str, object]) -> None:
        """Switch a fault on; tell maintenance."""
        super().put_fault(name, parameters)
        self._tell_mode()

    def clear_faults(self, name: str | None = None) -> None:
        """Switch one fault off, or all; tell the end of maintenance."""
        super().clear_faults(name)
        self._tell_mode()

    def _tell_mode(self) -> None:
        if self.mode == self._told_mode:
            return
        self._told_mode = self.mode
        self.v2.tell_status()
        if self.mode != "maintenance":
            self.countdowns.on_engine_returned()

    def dead_man(self, account: Account) -> DeadMan:
        """Return the account's countdown."""
        return self.countdowns.state(account)


class Countdowns:
    """The accounts' countdowns, one for each whatever the route; in maintenance nothing is cancelled."""

    def __init__(self, venue: ModalVenue) -> None:
        self._venue = venue
        self._overdue: list[Account] = []  # whose countdown has ended in maintenance
        self._countdowns = {
            name: Countdown(venue.later, partial(self._on_end, account)) for name, account in venue.accounts.items()
        }

    def state(self, account: Account) -> DeadMan:
        """Return the account's countdown."""
        return self._countdowns[account.name].state()

    def arm(self, account: Account, timeout: object, code: str, form: Callable[[int], str]) -> dict[str, str]:
        """Arm the countdown for whole seconds, 0 disarms it; return both times. Raises `Refused` with `code`."""
        seconds, now_ns = whole_seconds(timeout), self._venue.now_ns()
        if seconds is None:
            raise Refused(code)
        self._countdowns[account.name].arm(seconds)
        return {"currentTime": form(now_ns), "triggerTime": form(now_ns + seconds * 10**9) if seconds else "0"}

    def on_engine_returned(self) -> None:
        """Cancel for the countdowns that have ended in maintenance."""
        overdue, self._overdue = self._overdue, []
        for account in overdue:
            self._on_end(account)

    def _on_end(self, account: Account) -> None:
        if self._venue.mode == "maintenance":
            self._overdue.append(account)
        else:
            self._venue.cancel_at_once(account)


def whole_seconds(timeout: object) -> int | None:
    """Return a countdown's time-out, which is a whole number up to a day; None for anything else."""
    text = str(timeout) if type(timeout) in (int, str) else ""
    if not (text.isascii() and text.isdigit()) or int(text) > _MOST_TIMEOUT_S:
        return None
    return int(text)
