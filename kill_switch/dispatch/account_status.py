"""Readable state of one account, for status, metrics, health checks and triggers.

Only `AccountSession`, its owner, writes it. Reading it changes nothing and sends nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kill_switch.core.domain import Instant, LaneState, Order, Route
from kill_switch.core.state import AccountState
from kill_switch.dispatch.ports import HttpPort, LanePort, WsPort
from kill_switch.transports.certificates import CertificateExpiry
from kill_switch.transports.lane import ConnectionCounts
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import OrdersRead

log = logging.getLogger(__name__)

UNANSWERED_S = 2.0  # seconds; an HTTP lane that owes an answer for so long may be dead, though it is not given up yet
FRESH_NS = 15_000_000_000  # nanoseconds; a count of lists that were requested longer ago is not shown
MAX_UNEXPLAINED_LOGGED = 20  # of each account; all unexplained messages are counted


@dataclass(eq=False, slots=True)
class AccountStatus:
    """The lanes, orders, venue clock and troubles of an account."""

    account: str
    _venue: Adapter
    _ws: WsPort
    _http: HttpPort
    quiet: Callable[[], str]  # returns why only urgent calls and commands leave now; "" if all calls do
    key_refused: Callable[[], str]  # returns why the venue refuses the key over HTTP; "" if it does not
    round_trips_us: dict[Route, int] = field(default_factory=dict)
    refused: dict[Route, str] = field(default_factory=dict)  # route → why the venue refuses the login there
    unexplained_messages: int = 0
    last_read: OrdersRead | None = None
    venue_name: str = field(init=False)
    environment: str = field(init=False)  # the venue's environment of the account: "production" or "testnet"
    closes_positions: bool = field(init=False)  # whether a strike closes positions once its cancels are answered
    clock_window_s: float | None = field(init=False)  # by which a signature's time may be off; None: it has no time

    def __post_init__(self) -> None:
        """Copy the venue's facts that do not change."""
        self.venue_name, self.environment = self._venue.NAME, self._venue.environment
        self.closes_positions, self.clock_window_s = self._venue.closes_positions, self._venue.CLOCK_WINDOW_S

    # lanes

    @property
    def lanes(self) -> dict[str, LaneState]:
        """State of each warm lane, by the name of its route."""
        return {route.value: lane.state for route, lane in self._warm()}

    @property
    def ws_connections(self) -> ConnectionCounts:
        """How many WebSocket connections could carry a command now, and how many there should be."""
        return self._ws.connections

    @property
    def is_ready(self) -> bool:
        """Whether every lane could carry its part of a kill now."""
        return all(lane.state is LaneState.UP for _, lane in self._warm())

    @property
    def is_reachable(self) -> bool:
        """Whether at least one lane is up."""
        return any(lane.state is LaneState.UP for _, lane in self._warm())

    @property
    def is_killable(self) -> bool:
        """Whether the commands of a kill would reach the venue now, over at least one of its warm lanes.

        A venue that refuses the key over HTTP is taken to refuse it over a WebSocket too.
        """
        return not self.key_refused() and any(self._carries(route, lane) for route, lane in self._warm())

    def _carries(self, route: Route, lane: LanePort) -> bool:
        if route not in self.drill_routes or lane.state is not LaneState.UP or self._venue.why_not_ready(route):
            return False
        return route is not Route.HTTP or self._http.waiting_s < UNANSWERED_S

    def troubles(self) -> dict[str, str]:
        """Return the newest trouble of each lane by the name of its route, and why the venue must get no calls."""
        http = "; ".join(dict.fromkeys(filter(None, (self._http.trouble, self.quiet()))))
        return {
            route.value: trouble for route, trouble in ((Route.WS, self._ws.trouble), (Route.HTTP, http)) if trouble
        }

    def degraded(self) -> Iterator[str]:
        """Yield a line for each lane that is up and degraded: without a successor, or with too few connections."""
        states = self.lanes
        for route, why in self.troubles().items():
            if states[route] is LaneState.UP:
                yield f"{self.account} {route} is up, but: {why}"

    def caution(self, now: Instant) -> str:
        """Return what would make a kill slow now although every lane is ready; "" if nothing would."""
        return self._venue.slow_kill_warning(now)

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """Machines and orders that the adapter has found at the account, and that a kill does not reach now."""
        return self._venue.out_of_reach

    @property
    def warnings(self) -> tuple[str, ...]:
        """Findings of the adapter that an operator should mend at the venue; a kill works in spite of them."""
        return self._venue.warnings

    @property
    def key_rights(self) -> Mapping[str, bool | str]:
        """Rights of the key as far as they are known, as `Adapter.key_rights` has them."""
        return self._venue.key_rights

    @property
    def http_trouble(self) -> str:
        """Newest trouble of the HTTP lane itself; "" if there is none."""
        return self._http.trouble

    def certificates(self) -> Iterator[tuple[str, str, CertificateExpiry]]:
        """Yield route, address and expiry for the certificates of each lane's last connection."""
        urls = {Route.WS: self._venue.ws_url, Route.HTTP: self._venue.rest_url}
        for route, lane in self._warm():
            if lane.certificate is not None:
                yield route.value, urls[route], lane.certificate

    def _warm(self) -> tuple[tuple[Route, LanePort], ...]:
        http = (Route.HTTP, self._http)
        return ((Route.WS, self._ws), http) if self._venue.ws_url else (http,)

    # orders

    def open_orders(self, account: AccountState, now: Instant) -> int | None:
        """Return the number of open orders for people; None if it is unknown.

        Of a tripped account it is what its kill has last read. Else pushes or young lists must prove it.
        """
        if account.sweep is not None:
            return account.orders_left
        book = self._venue.book
        is_fresh = book.is_current or now.mono_ns - book.rounds.round_ns <= FRESH_NS
        return book.open_orders if is_fresh else None

    @property
    def orders(self) -> tuple[Order, ...]:
        """The known orders, live and pending ones."""
        return tuple(self._venue.book.orders.values())

    @property
    def sees_new_orders(self) -> bool:
        """Whether pushes show each order that is placed now."""
        return self._ws.state is LaneState.UP and self._venue.pushes_orders and self._venue.book.is_current

    # the venue

    @property
    def clock_offset_ns(self) -> int | None:
        """Nanoseconds by which the venue's clock is ahead of ours; None before the venue has shown its time."""
        return None if self._venue.clock.bounds_ns is None else self._venue.clock.offset_ns

    @property
    def drill_routes(self) -> tuple[Route, ...]:
        """Routes that a drill covers."""
        return self._venue.drill_routes

    @property
    def measure_every_s(self) -> float:
        """Seconds between two measurements of the account's equity."""
        return self._venue.limits.equity_every_s

    def describe_strike(self) -> tuple[str, ...]:
        """Return a line for each command that a strike would send; may raise any exception of the adapter."""
        return self._venue.describe_strike()

    # written by the session

    def count_unexplained(self, why: str) -> None:
        """Count a message that no venue document explains; log the first `MAX_UNEXPLAINED_LOGGED`."""
        self.unexplained_messages += 1
        if self.unexplained_messages <= MAX_UNEXPLAINED_LOGGED:
            log.warning("account %s: %s", self.account, why, extra={"account": self.account})

    def log_unexpected(self, error: Exception) -> None:
        """Count an exception as an unexplained message; log the first `MAX_UNEXPLAINED_LOGGED`."""
        self.unexplained_messages += 1
        if self.unexplained_messages <= MAX_UNEXPLAINED_LOGGED:
            fields = {"account": self.account}
            log.error("account %s: an event was not understood", self.account, exc_info=error, extra=fields)
