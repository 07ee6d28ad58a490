"""The events of the engine: what triggers, operators, sweeps and the dispatcher report to it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kill_switch.core import sweep
from kill_switch.core.domain import Instant, Reason, SweepTiming
from kill_switch.core.identity import Identity
from kill_switch.core.order_tracker import Due


class ReasonReported(NamedTuple):
    """A trigger or an operator gave a reason."""

    reason: Reason
    at: Instant


class Progress(NamedTuple):
    """An event of an account's sweep: an answer, a read-back, an order that appeared, or the timer."""

    account: str
    event: sweep.Event
    at: Instant
    evidence: str = ""
    cancelled: int | None = None  # orders, by the venue's own count
    orders: Mapping[str, object] | Due | None = None  # changes of the kill's order count, see `order_tracker`
    strike: int = 0  # the number of the strike that is answered; 0: the last one


class StrikeSent(NamedTuple):
    """A strike on an account: the routes that accepted it, and when the last byte was handed over (0: not yet)."""

    account: str
    strike: int
    routes: tuple[str, ...]
    mono_ns: int
    orders: Mapping[str, object] | Due | None = None  # changes of the kill's order count, see `order_tracker`
    further: bool = False  # behind the pass, over a route that the strike's record names: it makes no record


class StrikesSent(NamedTuple):
    """The dispatcher carried out strikes in one pass; each command that leaves later is reported by itself."""

    sent: tuple[StrikeSent, ...]
    at: Instant


class RearmAsked(NamedTuple):
    """A person asks to re-arm `accounts`; `blockers` are the triggers' reasons against it."""

    uid: int
    user: str
    text: str
    accounts: tuple[str, ...]
    force: bool
    blockers: tuple[str, ...]
    at: Instant
    proved_since_ns: int = 0  # monotonic; a clean read must have been asked for since then; 0: any


class Pulse(NamedTuple):
    """Ask for a sign of life: the answer proves that engine and dispatcher still run."""

    at: Instant


class Recovered(NamedTuple):
    """The process starts again with this state: unfinished sweeps strike again, finished ones guard."""

    at: Instant


class Reconfigured(NamedTuple):
    """A reload replaced the accounts by those in `timings`; the accounts in `new_logins` have a new session.

    It is illegal if a tripped account is missing, because the latch holds. `unproven_identities` has the accounts whose
    login is another one or covers more: account → identities that were struck and are not proven clear. `renamed` has
    the accounts that were latched under another name.
    """

    timings: Mapping[str, SweepTiming]
    new_logins: frozenset[str]
    approvals_needed: int
    at: Instant
    identities: Mapping[str, Identity] = MappingProxyType({})
    unproven_identities: Mapping[str, tuple[Identity, ...]] = MappingProxyType({})
    renamed: Mapping[str, str] = MappingProxyType({})  # old name → new name


Event = ReasonReported | Progress | StrikesSent | RearmAsked | Pulse | Recovered | Reconfigured
