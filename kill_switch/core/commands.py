"""The commands of the engine, which the dispatcher carries out in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kill_switch.core.domain import Severity


class AppendRecord(NamedTuple):
    """Append a record to the journal; with `latch`, before any other command, and with an fsync soon after."""

    kind: str
    data: Mapping[str, object]
    latch: bool = False


class StrikeAccounts(NamedTuple):
    """Send a round of cancel commands for each account, all in one synchronous pass."""

    accounts: tuple[tuple[str, int], ...]  # account and the number of its strike


class ReadOrders(NamedTuple):
    """Read the account's open orders back."""

    account: str


class WakeAt(NamedTuple):
    """Send `SweepTimerFired` to the account's sweep at a monotonic instant, instead of at an earlier `WakeAt`'s."""

    account: str
    at_ns: int


class Announce(NamedTuple):
    """Announce an event, and its remedy, to people and to the log."""

    level: Severity
    text: str
    account: str | None = None
    do: str = ""  # what to do, with the command to type; "": the message's own hint is enough
    by: str = ""  # name or number of the user who has acted, where the text does not name the user
    about: str = ""  # the condition that this begins or ends; "": only the same text counts as a repetition

    def line(self) -> str:
        """Return the announcement as a line of the log, which has the level already."""
        kind = "" if self.level in (Severity.WARN, Severity.INFO) else f"{self.level.word}: "
        about = f"account {self.account}: " if self.account else ""
        return f"{kind}{about}{self.text}{f' (by {self.by})' if self.by else ''}"


class RearmGranted(NamedTuple):
    """Answer a re-arm: these accounts are armed again; their triggers start over."""

    accounts: tuple[str, ...]


class RearmPending(NamedTuple):
    """Answer a re-arm: the gate holds, and another person must approve it."""

    approvals: int
    needed: int


class RearmRefused(NamedTuple):
    """Answer a re-arm: no account is armed, for all these reasons."""

    reasons: tuple[str, ...]


class PulseAnswered(NamedTuple):
    """Answer a pulse."""


Command = (
    AppendRecord
    | StrikeAccounts
    | ReadOrders
    | WakeAt
    | Announce
    | RearmGranted
    | RearmPending
    | RearmRefused
    | PulseAnswered
)
