"""Hold the words that every other module speaks: plain values, no behaviour beyond their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Instant(NamedTuple):
    """An instant on both clocks: monotonic for waiting and measuring, wall for signing and the record."""

    mono_ns: int
    wall_ns: int

    @property
    def wall_ms(self) -> int:
        return self.wall_ns // 1_000_000


class Phase(StrEnum):
    """Where an account stands, from harmless to worst."""

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
        """Return whether a sweep is under way that has not been given up as RESIDUE."""
        return self in (Phase.STRIKING, Phase.CONFIRMING)

    @property
    def is_unfinished(self) -> bool:
        """Return whether the account is tripped and not proven clear: a kill is under way, RESIDUE included."""
        return self not in (Phase.ARMED, Phase.CLEAR)


class Severity(StrEnum):
    """How grave an announcement to people is, from the worst to a mere remark."""

    TRIP = "trip"  # accounts are struck
    RESIDUE = "residue"  # orders are left, or may be
    BLIND = "blind"  # a trigger has no usable input
    WARN = "warn"  # something does not work; no account is struck for it
    REARM = "rearm"  # an operator has re-armed accounts
    CLEAR = "clear"  # an account, or every account of a kill, is proven clear
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
        """Return what begins a line of a message to people."""
        return _WORDS[self]

    @property
    def is_calm(self) -> bool:
        """Return whether the announcement can wait for a while: no account was struck or re-armed."""
        return self in (Severity.WARN, Severity.BLIND, Severity.INFO)


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}
_LOG_LEVELS = {
    Severity.TRIP: logging.CRITICAL,
    Severity.RESIDUE: logging.ERROR,
    Severity.BLIND: logging.WARNING,
    Severity.WARN: logging.WARNING,
}
_WORDS = {
    Severity.TRIP: "KILL",
    Severity.RESIDUE: "ORDERS LEFT",
    Severity.BLIND: "BLIND",
    Severity.WARN: "WARNING",
    Severity.REARM: "RE-ARMED",
    Severity.CLEAR: "CLEAR",
    Severity.INFO: "INFO",
}


class CancelOutcome(StrEnum):
    """What came back for one strike. None of these ends the work: only a clean read-back does."""

    ACCEPTED = "ACCEPTED"  # the venue took the command; nothing is said of the orders
    REFUSED = "REFUSED"  # the venue explicitly said no
    UNKNOWN = "UNKNOWN"  # bytes may have left, no proof either way
    UNSENT = "UNSENT"  # provably never left this process


class Verdict(StrEnum):
    """What can be said of an account once a kill is reported."""

    CONFIRMED = "CONFIRMED"  # the venue's own data shows nothing left
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    UNSENT = "UNSENT"

    @staticmethod
    def of(phase: Phase, answer: CancelOutcome | None) -> Verdict:
        """Claim no more than the venue's own data shows."""
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
    """The way a command takes to its venue."""

    WS = "ws"  # the warm WebSocket lane
    HTTP = "http"  # the warm HTTP lane
    FRESH = "fresh"  # a new HTTP connection that shares nothing with the lanes


class LaneState(StrEnum):
    """How a lane to a venue is."""

    UP = "up"
    DOWN = "down"
    CONNECTING = "connecting"


class OrderState(StrEnum):
    """How much of an order's life is left, whatever its venue calls it."""

    LIVE = "live"  # may rest, trigger or fill until somebody cancels it
    PENDING = "pending"  # a cancel is under way; it may still fill, nobody needs to cancel it again
    GONE = "gone"  # terminal


class Order(NamedTuple):
    """An order as its venue shows it; `symbol` in the venue's own spelling."""

    id: str
    symbol: str
    state: OrderState
    status: str


@dataclass(frozen=True, slots=True)
class SweepTiming:
    """How fast one venue may be struck and read, in seconds; the venue's adapter states it."""

    answer_within_s: float = 1.0  # no answer to a strike by then: read back all the same
    read_after_s: float = 0.0  # from an answer to the read-back: other accounts' answers come first
    read_within_s: float = 2.5  # no answer to a read by then: it counts as failed
    read_gap_s: float = 0.25  # between two reads
    clean_reads: int = 2  # that many clean reads in a row prove an account clear
    strike_gap_s: float = 0.5  # between two strikes on what is left
    gap_cap_s: float = 5.0  # the strike gap doubles up to this once the account is in RESIDUE
    residue_after_s: float = 10.0  # not clear by then: say so aloud, and keep chasing
    guard_every_s: float = 2.0  # between two reads of a clear, tripped account


@dataclass(frozen=True, slots=True)
class Reason:
    """One trigger's statement that the accounts in `accounts` must hold no order, with its evidence."""

    trigger: str
    text: str
    accounts: tuple[str, ...]
    observed_at: Instant
    evidence: Mapping[str, object] = field(default_factory=dict)
