"""State what a trigger is to the daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from kill_switch.core.domain import Reason

Report = Callable[[Reason], None]
Figures = Mapping[str, tuple[float, float]]


class TriggerState(StrEnum):
    OK = "ok"  # sees its input, and all is well
    WAITING = "waiting"  # has nothing to judge yet
    TRIPPED = "tripped"
    BLIND = "blind"  # cannot see its input


class Unseen(str):
    """Why a trigger cannot tell whether it would trip again: a re-arm is refused for it, unless a person forces it."""

    __slots__ = ()

    def __new__(cls, subject: str, why: str = "") -> Unseen:
        """`what` could not be seen, as in "whether equity is above the floor"; `why` is what keeps it from view."""
        return super().__new__(cls, f"cannot see {subject}{f': {why}' if why else ''}; look there, then use --force")


class Trigger(Protocol):
    """Watch one input for the accounts in `accounts`.

    `run` watches for ever and reports each reason once, synchronously, at the moment it is observed. It may raise: the
    daemon shows the trigger as blind, says so aloud, and runs it again.
    """

    name: str
    kind: str
    accounts: tuple[str, ...]

    def set_accounts(self, accounts: tuple[str, ...]) -> None:
        """Watch these accounts from now on: a reload has changed the configuration of a trigger that goes on."""
        self.accounts = accounts

    async def run(self, report: Report) -> None: ...

    def state(self) -> tuple[TriggerState, str]:
        """Return the state and a detail that a person understands."""

    def measurements(self) -> Figures:
        """Return what it watches in numbers, each with its limit (NaN: it has none), for metrics.

        What has not been seen yet is left out. A name ends with `_s` where the number is seconds. A number grows
        towards its limit, but for `equity`, which falls to its floor.
        """

    def rearm_blocker(self) -> str | None:
        """Say why this trigger would trip again at once, if it would; an `Unseen` if it cannot tell.

        A gate that cannot see must not say yes: None means that the input was seen, or that it does not matter.
        """

    def on_rearmed(self) -> None:
        """Start over: a person has re-armed."""
