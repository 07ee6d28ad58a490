"""The metrics of the accounts: their lanes, orders, clocks and rate limits. Label values are configured names.

`outbound.metrics` collects them. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kill_switch.core.domain import Instant, LaneState
from kill_switch.dispatch.account_status import AccountStatus
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.outbound.metric_table import Family, family


def account_metrics(dispatcher: Dispatcher, now: Instant) -> Iterator[Family]:
    """Yield the metrics of all accounts."""
    statuses = {name: session.status for name, session in dispatcher.sessions.items()}
    states = dispatcher.state.accounts
    yield family("account_info", [([name, status.venue_name], 1) for name, status in statuses.items()])
    yield family("account_phase", [([name], account.phase) for name, account in states.items()])
    yield family("account_killable", [([name], int(status.is_killable)) for name, status in statuses.items()])
    yield family("account_ready", [([name], int(status.is_ready)) for name, status in statuses.items()])
    orders = {name: status.open_orders(states[name], now) for name, status in statuses.items() if name in states}
    yield family("open_orders", [([name], number) for name, number in orders.items() if number is not None])
    unexplained = [([name], status.unexplained_messages) for name, status in statuses.items()]
    yield family("unexplained_messages_total", unexplained)
    offsets = [([name], ns / 1e9) for name, s in statuses.items() if (ns := s.clock_offset_ns) is not None]
    yield family("clock_offset_seconds", offsets)
    yield from _lanes(statuses)
    yield from _rate_pools(dispatcher, now)


def _lanes(statuses: Mapping[str, AccountStatus]) -> Iterator[Family]:
    lanes = [
        ([name, route], int(state is LaneState.UP))
        for name, status in statuses.items()
        for route, state in status.lanes.items()
    ]
    yield family("lane_up", lanes)
    connections = {name: status.ws_connections for name, status in statuses.items()}
    yield family("ws_connections", [([name], counts.up) for name, counts in connections.items()])
    yield family("ws_connections_wanted", [([name], counts.wanted) for name, counts in connections.items()])
    ends = [
        ([name, route], expiry.at_s) for name, status in statuses.items() for route, _, expiry in status.certificates()
    ]
    yield family("certificate_expiry_timestamp_seconds", ends)
    rtts = [([name, route], us / 1e6) for name, s in statuses.items() for route, us in s.round_trips_us.items()]
    yield family("lane_round_trip_seconds", rtts)


def _rate_pools(dispatcher: Dispatcher, now: Instant) -> Iterator[Family]:
    sessions = dispatcher.sessions.items()
    counts = [([name, pool], c) for name, each in sessions for pool, c in each.venue.budget.counts.items()]
    used = [(labels, count.fullness(now.mono_ns) * count.pool.size) for labels, count in counts]
    yield family("rate_pool_size", [(labels, count.pool.size) for labels, count in counts])
    yield family("rate_pool_used", used)
    yield family(
        "rate_pool_kept_for_cancels", [(labels, count.pool.kept * count.pool.size) for labels, count in counts]
    )
