"""Plain values that every other module uses: instants, phases, routes, orders, reasons. No I/O, no decisions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Instant(NamedTuple):
    """An instant on both clocks: monotonic for waiting and measuring, wall for signatures and the journal."""

    mono_ns: int
    wall_ns: int

    @property
    def wall_ms(self) -> int:
        return self.wall_ns // 1_000_000


class Phase(StrEnum):
    """State of an account, in the order from harmless to worst."""

    ARMED = "ARMED"
    CLEAR = "CLEAR"
    CONFIRMING = "CONFIRMING"
    STRIKING = "STRIKING"
    RESIDUE = "RESIDUE"

    @property
    def is_tripped(self) -> bool:
        """Return whether the account must hold no order until an operator re-arms it."""
        return self is not Phase.ARMED

    @property
    def is_striking(self) -> bool:
        """Return whether a sweep is under way and its deadline has not passed."""
        return self in (Phase.STRIKING, Phase.CONFIRMING)

    @property
    def is_unfinished(self) -> bool:
        """Return whether the account is tripped and not proven clear: a kill is under way, RESIDUE included."""
        return self not in (Phase.ARMED, Phase.CLEAR)


class Severity(StrEnum):
    """Severity of an announcement to people, in the order from the worst to the least important."""

    TRIP = "trip"  # accounts are struck
    RESIDUE = "residue"  # orders are left, or their number is unknown
    STOP = "stopped"  # the daemon has been told to stop: nobody watches
    BLIND = "blind"  # a trigger has no usable input
    UNREADY = "not-ready"  # an account is not ready for long
    APPROVAL = "approval"  # another person must approve, within a time
    WARN = "warn"  # a part does not work; no account is struck because of it
    REARM = "rearm"  # an operator has re-armed accounts
    CLEAR = "clear"  # an account, or every account of a kill, is proven clear
    OVER = "over"  # what was announced before is over: a trigger sees, an account is ready, a silence has ended
    START = "started"  # the daemon watches
    TEST = "test"  # a message of `notify --test`
    INFO = "info"  # for the log only: no message is sent

    @property
    def rank(self) -> int:
        """Return the place in the order from the worst (0) to the least important."""
        return _RANKS[self]

    @property
    def log_level(self) -> int:
        """Return the level of `logging` that an announcement is logged with."""
        return _LOG_LEVELS.get(self, logging.INFO)

    @property
    def word(self) -> str:
        """Return the word at the start of a message's line."""
        return _WORDS[self]

    @property
    def is_calm(self) -> bool:
        """Return whether the announcement may be sent later: no account was struck or re-armed, nobody is asked."""
        return self in _CALM


_CALM = (Severity.WARN, Severity.BLIND, Severity.UNREADY, Severity.OVER, Severity.START, Severity.TEST, Severity.INFO)
_RANKS = {severity: rank for rank, severity in enumerate(Severity)}
_LOG_LEVELS = {
    Severity.TRIP: logging.CRITICAL,
    Severity.RESIDUE: logging.ERROR,
    Severity.BLIND: logging.WARNING,
    Severity.UNREADY: logging.WARNING,
    Severity.WARN: logging.WARNING,
}
_WORDS = {
    Severity.TRIP: "KILL",
    Severity.RESIDUE: "ORDERS LEFT",
    Severity.STOP: "STOPPED",
    Severity.BLIND: "BLIND",
    Severity.UNREADY: "NOT READY",
    Severity.APPROVAL: "APPROVAL NEEDED",
    Severity.WARN: "WARNING",
    Severity.REARM: "RE-ARMED",
    Severity.CLEAR: "CLEAR",
    Severity.OVER: "OVER",
    Severity.START: "STARTED",
    Severity.TEST: "TEST",
    Severity.INFO: "INFO",
}


class CancelOutcome(StrEnum):
    """Outcome of one strike's cancel command. None of these ends the sweep: only clean read-backs do."""

    ACCEPTED = "ACCEPTED"  # the venue accepted the command; it proves nothing about the orders
    REFUSED = "REFUSED"  # the venue explicitly refused the command
    UNKNOWN = "UNKNOWN"  # bytes may have left; there is no proof either way
    UNSENT = "UNSENT"  # provably no byte left this process


class Verdict(StrEnum):
    """Verdict on one account in a kill's report."""

    CONFIRMED = "CONFIRMED"  # the venue's own data shows nothing left
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    UNSENT = "UNSENT"

    @staticmethod
    def of(phase: Phase, answer: CancelOutcome | None) -> Verdict:
        """Return the verdict that the venue's own data supports, and no stronger one."""
        if phase is Phase.CLEAR:
            return Verdict.CONFIRMED
        match answer:
            case CancelOutcome.REFUSED:
                return Verdict.REFUSED
            case CancelOutcome.UNSENT:
                return Verdict.UNSENT
            case _:
                return Verdict.UNKNOWN


class Route(StrEnum):
    """Connection by which a command goes to its venue."""

    WS = "ws"  # the warm WebSocket lane
    HTTP = "http"  # the warm HTTP lane
    FRESH = "fresh"  # a new HTTP connection that shares nothing with the lanes


class LaneState(StrEnum):
    """State of a lane."""

    UP = "up"
    DOWN = "down"
    CONNECTING = "connecting"


class OrderState(StrEnum):
    """State of an order, independent of the venue's own words."""

    LIVE = "live"  # may rest, trigger or fill until it is cancelled
    PENDING = "pending"  # a cancel is under way; it may still fill, and needs no second cancel
    GONE = "gone"  # terminal


class Order(NamedTuple):
    """An order as its venue shows it; `symbol` and `status` are the venue's own words."""

    id: str
    symbol: str
    state: OrderState
    status: str


@dataclass(frozen=True, slots=True)
class SweepTiming:
    """Time-outs and intervals of a sweep at one venue, in seconds; the venue's adapter states them.

    Raise ValueError for a deadline within which lists that lag cannot prove an account clear.
    """

    answer_within_s: float = 1.0  # without an answer to a strike by then, the sweep reads back
    read_after_s: float = 0.0  # from an answer to the read-back, so that it delays no other account's answer
    read_within_s: float = 2.5  # a read without an answer by then counts as late
    read_gap_s: float = 0.25  # between two reads
    clean_reads: int = 2  # number of clean reads in a row that prove an account clear
    strike_gap_s: float = 0.5  # between two strikes on the orders that are left
    gap_cap_s: float = 5.0  # in RESIDUE the strike gap grows to a quarter of the sweep's age, up to this
    residue_after_s: float = 10.0  # an account that is not clear by then is RESIDUE; its sweep goes on
    guard_every_s: float = 2.0  # between two reads of a clear, tripped account
    list_lag_s: float = 0.0  # a list may show the account as it was up to so long before it was asked for

    def __post_init__(self) -> None:
        if self.list_lag_s and self.residue_after_s <= self.list_lag_s:
            words = f"residue_after_s is {self.residue_after_s:g} s"
            raise ValueError(f"{words}: it must be above list_lag_s, {self.list_lag_s:g} s")


@dataclass(frozen=True, slots=True)
class Reason:
    """A trigger's statement that `accounts` must hold no order, with its evidence."""

    trigger: str
    text: str
    accounts: tuple[str, ...]
    observed_at: Instant
    evidence: Mapping[str, object] = field(default_factory=dict)

    @property
    def by(self) -> str:
        """Return the name or the number of the user who fired, or who owns the flag; "": no person has acted."""
        user = self.evidence.get("user", self.evidence.get("uid"))
        return "" if user is None else str(user)


def without_reason(operator: str) -> str:
    """Return the text of a person's command that gave no reason."""
    return f"operator {operator}, no reason given"
