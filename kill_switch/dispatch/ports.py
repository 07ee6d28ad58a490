"""Protocols by which the dispatcher and its sessions use lanes, the journal and each other.

Transports and journal implement them without importing this module. `NullJournal` is for processes without a journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kill_switch.core.domain import Instant, LaneState, Reason, Route
from kill_switch.core.events import Event
from kill_switch.core.order_tracker import OrderTrackerPool
from kill_switch.core.state import State
from kill_switch.dispatch.timers import TimerQueue
from kill_switch.transports.certificates import CertificateExpiry
from kill_switch.transports.lane import ConnectionCounts
from kill_switch.venues import messages
from kill_switch.venues.request import Request

# facts that the engine does not need
ForwardedFact = (
    messages.OrderPlaced
    | messages.OrdersFound
    | messages.Equity
    | messages.Transferred
    | messages.ServerTime
    | messages.Drilled
)


class LanePort(Protocol):
    """The condition of a warm lane."""

    trouble: str  # the newest trouble; "": none

    @property
    def certificate(self) -> CertificateExpiry | None: ...

    @property
    def state(self) -> LaneState: ...


class WsPort(LanePort, Protocol):
    """The warm WebSocket lane of one account."""

    @property
    def connections(self) -> ConnectionCounts: ...

    def prepare(self, conn: int, text: bytes) -> None: ...

    def send(self, conn: int, text: bytes) -> bool: ...

    def authenticated(self, conn: int) -> None: ...

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None: ...

    def replace(self, conn: int) -> None: ...

    def connect_now(self) -> None: ...


class HttpPort(LanePort, Protocol):
    """The warm HTTP lane of one account."""

    @property
    def waiting_s(self) -> float: ...

    def begin(self, request: Request) -> bool: ...

    def abandon_begun(self) -> None: ...

    def call(self, call: messages.Call) -> None: ...

    def authenticated(self, proven: bool) -> None: ...

    def hold(self, asked_s: float) -> None: ...


class FreshPort(Protocol):
    """The second route of one account: a new connection for each call."""

    def call(self, call: messages.Call) -> None: ...


class JournalPort(Protocol):
    """The record of every decision."""

    @property
    def trouble(self) -> str: ...

    def note_ahead(self, reason: Reason) -> bool: ...

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None: ...

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool: ...

    def flush(self) -> bool: ...

    def sync(self) -> None: ...


class NullJournal:
    """Journal of a process that connects and reads, and never strikes: it keeps no record."""

    trouble = ""

    def note_ahead(self, reason: Reason) -> bool:
        """Return False: without a note no command leaves early."""
        return False

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        """Drop the record."""

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        """Drop the record and return True, because such a process latches nothing."""
        return True

    def flush(self) -> bool:
        return True

    def sync(self) -> None:
        """Do nothing."""


class DispatcherPort(Protocol):
    """The part of the dispatcher that an account's session uses."""

    clock: Callable[[], Instant]
    timers: TimerQueue
    state: State
    counts: OrderTrackerPool
    on_lane_changed: Callable[[str, Route], None]  # (account, route)
    on_fact: Callable[[str, ForwardedFact, Instant], None]  # (account, fact, when)

    def kill_of(self, account: str) -> str | None: ...

    def handle(self, event: Event) -> None: ...

    def wake_sweep(self, account: str) -> None: ...
