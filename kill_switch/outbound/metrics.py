"""The daemon's metrics: names and units by Prometheus' conventions, label values from the configuration only.

The daemon only collects the figures, in some ten microseconds an account at each scrape. The worker process formats
them and serves them (`worker.metrics_server`). Nothing here is sent.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from math import isnan
from typing import Any

import anyio

import kill_switch
from kill_switch.core.domain import Instant, LaneState, Phase
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.journal.journal import Journal
from kill_switch.system.process_metrics import ProcessMetricsReader
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.supervisor import TriggerSupervisor

TICK_S = 0.1
LATENCIES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STAGES = {
    "sent": "first command left",
    "answered": "cancel was first accepted",
    "clear": "orders were first proven gone",
}
LAGS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_PYTHON = platform.python_version()

Family = Mapping[str, Any]
Sample = tuple[Sequence[str], object]


def _counter(what: str) -> Any:
    return field(default=0, metadata={"help": what})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundCounters:
    """What the parts beside the kill have counted; a field's name is its metric's, less the prefix."""

    notifications_sent_total: int = _counter("Messages that arrived; one to two addresses counts twice.")
    notification_failures_total: int = _counter("Attempts to send a message that failed; it is tried again.")
    notifications_lost_total: int = _counter("Messages that were given up.")
    hook_runs_total: int = _counter("Hooks that were run.")
    hook_failures_total: int = _counter("Hooks that failed, or were killed when their time was over.")
    pings_sent_total: int = _counter("Calls to the monitor elsewhere.")
    ping_failures_total: int = _counter("Calls to the monitor elsewhere that failed.")
    process_restarts_total: int = _counter("Processes beside that ended or hung, and were started again.")
    intake_beats_total: int = _counter("Heartbeats that were taken.")
    intake_ignored_total: int = _counter("Datagrams, or lines of one, that were ignored.")
    intake_wrong_time_total: int = _counter("Signed datagrams that were not taken: their stamp does not rise.")
    intake_lost_total: int = _counter(
        "Datagrams that the kernel has dropped, and times that the Unix socket's queue was full."
    )


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
        watch: TriggerSupervisor,
        counters: Callable[[], OutboundCounters],
        unable: Callable[[], str],
        clock: Callable[[], Instant],
    ) -> None:
        """`counters` returns other parts' counters; `unable` returns why the daemon could not fire, or ""."""
        self._dispatcher = dispatcher
        self._journal = journal
        self._watch = watch
        self._counters = counters
        self._unable = unable
        self._clock = clock
        self._started_s = clock().wall_ns / 1e9
        self._vitals = ProcessMetricsReader(self._started_s)
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
        """Return all figures as they are now."""
        return [*self._process(), *self._daemon(), *self._accounts(), *self._triggers(), *self._record()]

    def _process(self) -> Iterable[Family]:
        for kind, name, text, value in self._vitals.read():
            # because these are Prometheus' standard names
            yield {**_single(kind, name, text, value), "name": f"process_{name}"}

    def _daemon(self) -> Iterable[Family]:
        state = self._dispatcher.state
        build = [([kill_switch.__version__, _PYTHON], 1)]
        yield _gauge("build_info", "The version that runs.", build, "version", "python")
        yield _single("gauge", "start_time_seconds", "When the daemon started, since the epoch.", self._started_s)
        yield _state("phase", "The worst phase of all accounts.", [([], state.phase)], Phase, "phase")
        yield _single("gauge", "tripped", "Whether any account is tripped.", int(bool(state.tripped)))
        able = int(not self._unable())
        yield _single("gauge", "able_to_fire", "Whether a reason now would become a kill; while 0, no ping.", able)
        yield _single("counter", "kills_total", "Kills of all time.", state.kill_count)
        for stage, histogram in self._stages.items():
            help_text = f"From a kill's first reason until an account's {STAGES[stage]}."
            yield _family("histogram", f"kill_{stage}_seconds", help_text, [([], histogram.sample())])
        yield _family("histogram", "event_loop_lag_seconds", "How late a timer fired.", [([], self._lag.sample())])
        deaf_s = self._watch.stall_clock.stalled_ns(self._clock().mono_ns) / 1e9
        yield _single("counter", "stalled_seconds_total", "Time in which the event loop stood still.", deaf_s)
        counters = self._counters()
        for one in fields(counters):
            yield _single("counter", one.name, one.metadata["help"], getattr(counters, one.name))

    def _accounts(self) -> Iterable[Family]:
        states = self._dispatcher.state.accounts
        shown = {name: session.status for name, session in self._dispatcher.sessions.items()}
        info = [([name, status.venue_name], 1) for name, status in shown.items()]
        yield _gauge("account_info", "The accounts that are configured.", info, "account", "venue")
        phases = [([name], account.phase) for name, account in states.items()]
        yield _state("account_phase", "The phase of an account.", phases, Phase, "account", "phase")
        ready = [([name], int(status.is_ready)) for name, status in shown.items()]
        yield _gauge("account_ready", "Whether every lane could carry a kill.", ready, "account")
        orders = [([name], n) for name, status in shown.items() if (n := status.open_orders) is not None]
        yield _gauge("open_orders", "Open orders, as far as they are known.", orders, "account")
        lanes = [
            ([name, route], int(state is LaneState.UP))
            for name, status in shown.items()
            for route, state in status.lanes.items()
        ]
        yield _gauge("lane_up", "Whether a lane is connected and authenticated.", lanes, "account", "route")
        rtts = [([name, route], us / 1e6) for name, s in shown.items() for route, us in s.round_trips_us.items()]
        ends = [
            ([name, route], expiry.at_s) for name, status in shown.items() for route, _, expiry in status.certificates()
        ]
        help_text = "When the first certificate of the chain that a lane was verified by expires, since the epoch."
        yield _gauge("certificate_expiry_timestamp_seconds", help_text, ends, "account", "route")
        yield _gauge("lane_round_trip_seconds", "The last measured round trip.", rtts, "account", "route")
        offsets = [([name], ns / 1e9) for name, status in shown.items() if (ns := status.clock_offset_ns) is not None]
        yield _gauge("clock_offset_seconds", "The venue's clock less ours, as measured.", offsets, "account")
        noise = [([name], status.unexplained_messages) for name, status in shown.items()]
        help_text = "Messages of the venue that nothing explains."
        yield _family("counter", "unexplained_messages_total", help_text, noise, "account")

    def _triggers(self) -> Iterable[Family]:
        conditions = self._watch.states()
        states = [([name, trigger.kind], conditions[name][0]) for name, trigger in self._watch.triggers.items()]
        yield _state("trigger_state", "How a trigger is.", states, TriggerState, "trigger", "kind", "state")
        values: list[Sample] = []
        limits: list[Sample] = []
        for name, trigger in self._watch.triggers.items():
            for figure, (value, limit) in trigger.measurements().items():
                values.append(([name, figure], value))
                if not isnan(limit):
                    limits.append(([name, figure], limit))
        yield _gauge("trigger_value", "What a trigger measures.", values, "trigger", "figure")
        yield _gauge("trigger_limit", "Where a trigger fires.", limits, "trigger", "figure")

    def _record(self) -> Iterable[Family]:
        unwritten, syncing_ns = self._journal.backlog(self._clock().mono_ns)
        yield _single("gauge", "journal_unwritten_records", "Records that are not in the file yet.", unwritten)
        yield _single("gauge", "journal_sync_seconds", "How long the sync under way has taken.", syncing_ns / 1e9)
        seq, number = self._journal.head.seq, self._journal.head.number
        yield _single("gauge", "journal_head_record", "The number of the newest record in the file.", seq)
        yield _single("gauge", "journal_head_hash", "The first 48 bits of that record's hash.", number)
        trouble = int(bool(self._journal.trouble))
        yield _single("gauge", "journal_trouble", "Whether the disk takes no records.", trouble)


def _family(kind: str, name: str, text: str, samples: Sequence[Sample], *labels: str) -> Family:
    return {"type": kind, "name": f"kill_switch_{name}", "help": text, "labels": labels, "samples": samples}


def _gauge(name: str, text: str, samples: Sequence[Sample], *labels: str) -> Family:
    return _family("gauge", name, text, samples, *labels)


def _state(name: str, text: str, samples: Sequence[Sample], states: Iterable[str], *labels: str) -> Family:
    """Return a figure for a state; the worker makes one sample of each possible state."""
    return {**_family("state", name, text, samples, *labels), "states": list(states)}


def _single(kind: str, name: str, text: str, value: float) -> Family:
    return _family(kind, name, text, [([], value)])
