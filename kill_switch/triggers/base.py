"""The contract between a trigger and the supervisor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from kill_switch.core.domain import Reason

# Takes a reason; returns True if a silence holds it back: the trigger has then not fired, and goes on watching.
Report = Callable[[Reason], bool | None]
Figures = Mapping[str, tuple[float, float]]


class TriggerState(StrEnum):
    """The state of a trigger, as `status` shows it."""

    OK = "ok"  # sees its input, and nothing is wrong
    WAITING = "waiting"  # has nothing to judge yet
    TRIPPED = "tripped"  # has fired, and no person has re-armed since
    BLIND = "blind"  # cannot see its input
    SILENCED = "silenced"  # its reasons are held back; the supervisor states this, no trigger does


class Unseen(str):
    """Why a trigger cannot tell whether it would fire again: a re-arm is refused for it, unless a person forces it."""

    __slots__ = ()

    def __new__(cls, subject: str, why: str = "") -> Unseen:
        """Build the text. `subject` is what cannot be seen, as in "whether equity is above the floor"; `why` is the
        reason.
        """
        return super().__new__(cls, f"cannot see {subject}{f': {why}' if why else ''}; look there, then use --force")


class Trigger(Protocol):
    """Watch one input for the accounts in `accounts`.

    A kind of trigger is a subclass. `kind` is the word of the configuration.
    """

    name: str
    kind: str
    accounts: tuple[str, ...]

    def set_accounts(self, accounts: tuple[str, ...]) -> None:
        """Watch these accounts from now on: a reload has changed the configuration of a trigger that goes on."""
        self.accounts = accounts

    async def run(self, report: Report) -> None:
        """Watch forever; call `report` once for each reason, synchronously, at the moment of observation.

        If `report` returns True, a silence holds the reason back, and the trigger has not fired. It reports the reason
        again at each look as long as its condition holds, so that it fires when the silence ends.
        It may raise: the supervisor then shows the trigger as blind, announces it, and runs it again.
        """

    def state(self) -> tuple[TriggerState, str]:
        """Return the state, and a detail for people."""

    def measurements(self) -> Figures:
        """Return the watched numbers by name, each with its limit (NaN: it has none), for metrics.

        An unknown number is left out. A name ends with `_s` where the number is in seconds. A number grows towards its
        limit, except `equity`, which falls to its floor.
        """

    def rearm_blocker(self) -> str | None:
        """Return why this trigger would fire again at once after a re-arm; an `Unseen` if it cannot tell.

        None means that the trigger sees its input, or that the input does not matter. A trigger that sees nothing must
        not return None.
        """

    def on_rearmed(self) -> None:
        """Start over, because a person has re-armed."""
