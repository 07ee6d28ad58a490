"""The collector of the daemon's metrics; each is described in `metric_table`, and label values are configured names.

The daemon collects the figures at each scrape, in some ten microseconds an account. The worker process formats
and serves them (`worker.metrics_server`). Nothing here is sent.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import anyio

import kill_switch
from kill_switch.core.domain import Instant
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.health.drills import DrillRunner
from kill_switch.health.readiness import why_unable_to_fire
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.records import Entry
from kill_switch.outbound.account_metrics import account_metrics
from kill_switch.outbound.metric_table import BY_NAME, Family, family, single
from kill_switch.outbound.record_metrics import RecordCounter, drill_metrics, journal_metrics, kill_metrics
from kill_switch.outbound.trigger_metrics import intake_metrics, silence_metrics, trigger_metrics
from kill_switch.system.process_metrics import ProcessMetricsReader
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.supervisor import TriggerSupervisor
from kill_switch.worker.client import MetricsSnapshot

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


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """The figures of a worker process."""

    name: str  # "messages" or "commands"
    is_used: bool  # it has been asked for
    is_up: bool
    restarts: int


@dataclass(frozen=True, slots=True)
class MeasuredParts:
    """The parts of the daemon that are measured."""

    dispatcher: Dispatcher
    journal: Journal
    supervisor: TriggerSupervisor
    intake: Intake
    reports: ReportBuilder
    drills: DrillRunner


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
        parts: MeasuredParts,
        counters: Callable[[], OutboundCounters],
        workers: Callable[[], Iterable[WorkerFigures]],
        clock: Callable[[], Instant],
    ) -> None:
        """`counters` and `workers` return the figures of the services beside the kill path."""
        self._parts = parts
        self._counters = counters
        self._workers = workers
        self._clock = clock
        self._started_s = clock().wall_ns / 1e9
        self._process_metrics = ProcessMetricsReader(self._started_s)
        self._lag = Histogram(LAGS_S)
        self._stages = {stage: Histogram(LATENCIES_S) for stage in STAGES}
        self._records = RecordCounter()

    def on_measured(self, stage: str, us: int) -> None:
        """Record how many microseconds one account's kill took until a stage of `STAGES`."""
        self._stages[stage].observe(us / 1e6)

    def on_record(self, entry: Entry) -> None:
        """Count a record that the daemon appends."""
        self._records.take(entry)

    async def run(self) -> None:
        """Measure the event loop's lag for ever."""
        while True:
            due_ns = self._clock().mono_ns + int(TICK_S * 1e9)
            await anyio.sleep(TICK_S)
            self._lag.observe(max(0, self._clock().mono_ns - due_ns) / 1e9)

    def snapshot(self) -> MetricsSnapshot:
        """Return all metrics as they are now, and why no kill could be carried."""
        parts, now = self._parts, self._clock()
        unable = why_unable_to_fire(parts.dispatcher, now)
        figures = [
            *self._process(),
            *self._daemon(unable, now),
            *self._people(),
            *self._services(),
            *kill_metrics(parts.reports, parts.dispatcher.sessions, parts.supervisor.triggers),
            *drill_metrics(parts.drills.last),
            *account_metrics(parts.dispatcher, now),
            *trigger_metrics(parts.supervisor),
            *silence_metrics(parts.supervisor, now),
            *intake_metrics(parts.intake),
            *journal_metrics(parts.journal, now),
        ]
        return MetricsSnapshot(figures, unable)

    def _process(self) -> Iterator[Family]:
        for figure in self._process_metrics.read():
            yield BY_NAME[f"process_{figure.name}"].family([([], figure.value)])

    def _daemon(self, unable: str, now: Instant) -> Iterator[Family]:
        state, supervisor = self._parts.dispatcher.state, self._parts.supervisor
        yield family("build_info", [([kill_switch.__version__, _PYTHON], 1)])
        yield single("start_timestamp_seconds", self._started_s)
        yield single("phase", state.phase)
        yield single("tripped", int(bool(state.tripped)))
        yield single("able_to_fire", int(not unable))
        yield single("every_trigger_sees", int(not supervisor.blind()))
        yield single("budget_seconds", self._parts.reports.budget_us / 1e6)
        yield single("kills_total", state.kill_count)
        for stage, histogram in self._stages.items():
            yield single(f"kill_{stage}_seconds", histogram.sample())
        yield single("event_loop_lag_seconds", self._lag.sample())
        yield single("stalled_seconds_total", supervisor.stall_clock.stalled_ns(now.mono_ns) / 1e9)

    def _people(self) -> Iterator[Family]:
        rearm = len(self._parts.dispatcher.state.approvals)
        silence = sum(len(each.people) for each in self._parts.supervisor.silences.all_pending().values())
        yield family("approvals_pending", [(["rearm"], rearm), (["silence"], silence)])
        yield from self._records.metrics()

    def _services(self) -> Iterator[Family]:
        counters = self._counters()
        for counter in fields(counters):
            yield single(counter.name, getattr(counters, counter.name))
        workers = list(self._workers())
        yield family("worker_up", [([worker.name], int(worker.is_up)) for worker in workers if worker.is_used])
        yield family("worker_restarts_total", [([worker.name], worker.restarts) for worker in workers])
