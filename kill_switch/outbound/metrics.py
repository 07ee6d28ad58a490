"""The collector of the daemon's metrics; each is described in `metric_table`, and label values are configured names.

The daemon collects the figures at each scrape, in some ten microseconds an account. The worker process formats
and serves them (`worker.metrics_server`). Nothing here is sent.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from math import isnan

import anyio

import kill_switch
from kill_switch.core.domain import Instant, LaneState
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.journal.journal import Journal
from kill_switch.outbound.metric_table import BY_NAME, Family, Sample
from kill_switch.system.process_metrics import ProcessMetricsReader
from kill_switch.triggers.supervisor import TriggerSupervisor

TICK_S = 0.1  # seconds between two measurements of the event loop's lag
LATENCIES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STAGES = ("sent", "answered", "clear")  # the stages of an account's kill that are timed, see `metric_table`
LAGS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_PYTHON = platform.python_version()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundCounters:
    """The counters of the services beside the kill path; a field's name is its metric's, less the prefix."""

    notifications_sent_total: int = 0
    notification_failures_total: int = 0
    notifications_lost_total: int = 0
    hook_runs_total: int = 0
    hook_failures_total: int = 0
    pings_sent_total: int = 0
    ping_failures_total: int = 0
    process_restarts_total: int = 0
    intake_beats_total: int = 0
    intake_ignored_total: int = 0
    intake_wrong_time_total: int = 0
    intake_lost_total: int = 0


class Histogram:
    """A histogram of durations."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def sample(self) -> tuple[list[tuple[str, int]], float]:
        """Return the buckets, each with the count of all values up to it, and the sum."""
        names = [*map(str, self._bounds_s), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True)), self._sum_s


class MetricsCollector:
    """The figures of all parts of the daemon, and the figures that no other part counts."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        journal: Journal,
        supervisor: TriggerSupervisor,
        counters: Callable[[], OutboundCounters],
        why_not_ready: Callable[[], str],
        clock: Callable[[], Instant],
    ) -> None:
        """`counters` returns other parts' counters; `why_not_ready` returns why the daemon could not fire, or ""."""
        self._dispatcher = dispatcher
        self._journal = journal
        self._supervisor = supervisor
        self._counters = counters
        self._why_not_ready = why_not_ready
        self._clock = clock
        self._started_s = clock().wall_ns / 1e9
        self._process_metrics = ProcessMetricsReader(self._started_s)
        self._lag = Histogram(LAGS_S)
        self._stages = {stage: Histogram(LATENCIES_S) for stage in STAGES}

    def on_measured(self, stage: str, us: int) -> None:
        """Record how many microseconds one account's kill took until a stage of `STAGES`."""
        self._stages[stage].observe(us / 1e6)

    async def run(self) -> None:
        """Measure the event loop's lag for ever."""
        while True:
            due_ns = self._clock().mono_ns + int(TICK_S * 1e9)
            await anyio.sleep(TICK_S)
            self._lag.observe(max(0, self._clock().mono_ns - due_ns) / 1e9)

    def collect(self) -> list[Family]:
        """Return all metrics as they are now."""
        return [*self._process(), *self._daemon(), *self._accounts(), *self._triggers(), *self._record()]

    def _process(self) -> Iterable[Family]:
        for figure in self._process_metrics.read():
            yield BY_NAME[f"process_{figure.name}"].family([([], figure.value)])

    def _daemon(self) -> Iterable[Family]:
        state = self._dispatcher.state
        yield _family("build_info", [([kill_switch.__version__, _PYTHON], 1)])
        yield _single("start_time_seconds", self._started_s)
        yield _single("phase", state.phase)
        yield _single("tripped", int(bool(state.tripped)))
        yield _single("able_to_fire", int(not self._why_not_ready()))
        yield _single("kills_total", state.kill_count)
        for stage, histogram in self._stages.items():
            yield _single(f"kill_{stage}_seconds", histogram.sample())
        yield _single("event_loop_lag_seconds", self._lag.sample())
        yield _single("stalled_seconds_total", self._supervisor.stall_clock.stalled_ns(self._clock().mono_ns) / 1e9)
        counters = self._counters()
        for counter in fields(counters):
            yield _single(counter.name, getattr(counters, counter.name))

    def _accounts(self) -> Iterable[Family]:
        states = self._dispatcher.state.accounts
        statuses = {name: session.status for name, session in self._dispatcher.sessions.items()}
        yield _family("account_info", [([name, status.venue_name], 1) for name, status in statuses.items()])
        yield _family("account_phase", [([name], account.phase) for name, account in states.items()])
        yield _family("account_ready", [([name], int(status.is_ready)) for name, status in statuses.items()])
        now = self._clock()
        orders = [([name], n) for name, status in statuses.items() if (n := status.fresh_orders(now)) is not None]
        yield _family("open_orders", orders)
        lanes = [
            ([name, route], int(state is LaneState.UP))
            for name, status in statuses.items()
            for route, state in status.lanes.items()
        ]
        yield _family("lane_up", lanes)
        connections = {name: status.ws_connections for name, status in statuses.items()}
        yield _family("ws_connections", [([name], counts.up) for name, counts in connections.items()])
        yield _family("ws_connections_wanted", [([name], counts.wanted) for name, counts in connections.items()])
        ends = [
            ([name, route], expiry.at_s)
            for name, status in statuses.items()
            for route, _, expiry in status.certificates()
        ]
        yield _family("certificate_expiry_timestamp_seconds", ends)
        rtts = [([name, route], us / 1e6) for name, s in statuses.items() for route, us in s.round_trips_us.items()]
        yield _family("lane_round_trip_seconds", rtts)
        offsets = [([name], ns / 1e9) for name, s in statuses.items() if (ns := s.clock_offset_ns) is not None]
        yield _family("clock_offset_seconds", offsets)
        unexplained = [([name], status.unexplained_messages) for name, status in statuses.items()]
        yield _family("unexplained_messages_total", unexplained)

    def _triggers(self) -> Iterable[Family]:
        states = self._supervisor.states()
        triggers = self._supervisor.triggers
        yield _family("trigger_state", [([name, each.kind], states[name][0]) for name, each in triggers.items()])
        values: list[Sample] = []
        limits: list[Sample] = []
        for name, trigger in triggers.items():
            for figure, (value, limit) in trigger.measurements().items():
                values.append(([name, figure], value))
                if not isnan(limit):
                    limits.append(([name, figure], limit))
        yield _family("trigger_value", values)
        yield _family("trigger_limit", limits)

    def _record(self) -> Iterable[Family]:
        unwritten, syncing_ns = self._journal.backlog(self._clock().mono_ns)
        yield _single("journal_unwritten_records", unwritten)
        yield _single("journal_sync_seconds", syncing_ns / 1e9)
        yield _single("journal_head_record", self._journal.head.seq)
        yield _single("journal_head_hash", self._journal.head.number)
        yield _single("journal_trouble", int(bool(self._journal.trouble)))


def _family(name: str, samples: Sequence[Sample]) -> Family:
    """Return a metric of the table, named without prefix, with its samples; raise `KeyError` if it is not there."""
    return BY_NAME[f"kill_switch_{name}"].family(samples)


def _single(name: str, value: object) -> Family:
    """Return a metric of the table that has one value."""
    return _family(name, [([], value)])
