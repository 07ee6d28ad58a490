"""The table of all metrics: name, type, labels and help text of each.

`outbound.metrics` can only report a metric that is in the table, and the reference page is generated from the table.
No value is read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kill_switch.core.domain import Phase
from kill_switch.triggers.base import TriggerState

Family = Mapping[str, Any]  # what `worker.metrics_server.family` reads
Sample = tuple[Sequence[str], object]  # (label values, value)


class Metric(NamedTuple):
    """A metric that `/metrics` serves."""

    kind: str  # "gauge", "counter", "histogram"; "state": a gauge with one sample for each possible state
    name: str
    help: str
    labels: tuple[str, ...] = ()
    states: tuple[str, ...] = ()  # the possible values of the last label, for the kind "state"

    def family(self, samples: Sequence[Sample]) -> Family:
        """Return the metric with its samples, as the worker process takes it."""
        return {
            "type": self.kind,
            "name": self.name,
            "help": self.help,
            "labels": self.labels,
            "samples": samples,
            "states": self.states,
        }


def _of_accounts(kind: str, name: str, text: str, *labels: str, states: Iterable[str] = ()) -> Metric:
    return Metric(kind, name, text, ("account", *labels), tuple(states))


METRICS: Sequence[Metric] = (
    # the worker process that serves the metrics
    Metric("gauge", "kill_switch_responding", "Whether the daemon answered this scrape."),
    # the daemon
    Metric("gauge", "kill_switch_build_info", "The version that runs.", ("version", "python")),
    Metric("gauge", "kill_switch_start_time_seconds", "When the daemon started, since the epoch."),
    Metric("state", "kill_switch_phase", "The worst phase of all accounts.", ("phase",), tuple(Phase)),
    Metric("gauge", "kill_switch_tripped", "Whether any account is tripped."),
    Metric(
        "gauge", "kill_switch_able_to_fire", "Whether a reason now would become a kill; no ping is sent while it is 0."
    ),
    Metric("counter", "kill_switch_kills_total", "Kills of all time."),
    Metric(
        "histogram",
        "kill_switch_kill_sent_seconds",
        "From a kill's first reason until an account's first command left.",
    ),
    Metric(
        "histogram",
        "kill_switch_kill_answered_seconds",
        "From a kill's first reason until an account's cancel was first accepted.",
    ),
    Metric(
        "histogram",
        "kill_switch_kill_clear_seconds",
        "From a kill's first reason until an account's orders were first proven gone.",
    ),
    Metric("histogram", "kill_switch_event_loop_lag_seconds", "How late a timer fired."),
    Metric("counter", "kill_switch_stalled_seconds_total", "Time in which the event loop stood still."),
    # the services beside the kill path
    Metric(
        "counter", "kill_switch_notifications_sent_total", "Messages that arrived; one to two addresses counts twice."
    ),
    Metric(
        "counter",
        "kill_switch_notification_failures_total",
        "Attempts to send a message that failed; each is repeated.",
    ),
    Metric(
        "counter",
        "kill_switch_notifications_lost_total",
        "Announcements that had no room, and messages that were given up.",
    ),
    Metric("counter", "kill_switch_hook_runs_total", "Runs of hooks."),
    Metric(
        "counter", "kill_switch_hook_failures_total", "Runs of hooks that failed, or were ended after their time limit."
    ),
    Metric("counter", "kill_switch_pings_sent_total", "Calls to the outer monitor."),
    Metric("counter", "kill_switch_ping_failures_total", "Calls to the outer monitor that failed."),
    Metric(
        "counter", "kill_switch_process_restarts_total", "Worker processes that ended or hung, and were started again."
    ),
    Metric("counter", "kill_switch_intake_beats_total", "Heartbeats that were accepted."),
    Metric("counter", "kill_switch_intake_ignored_total", "Datagrams, or lines of one, that were ignored."),
    Metric(
        "counter",
        "kill_switch_intake_wrong_time_total",
        "Signed datagrams that were refused, because their stamp did not rise.",
    ),
    Metric(
        "counter",
        "kill_switch_intake_lost_total",
        "Datagrams that the kernel dropped, and times that the Unix socket's queue was full.",
    ),
    # accounts
    _of_accounts("gauge", "kill_switch_account_info", "The accounts that are configured.", "venue"),
    _of_accounts("state", "kill_switch_account_phase", "The phase of an account.", "phase", states=Phase),
    _of_accounts("gauge", "kill_switch_account_ready", "Whether every lane could carry a kill."),
    _of_accounts(
        "gauge", "kill_switch_open_orders", "Open orders, as far as they are known; no sample while they are unknown."
    ),
    _of_accounts("gauge", "kill_switch_lane_up", "Whether a lane is connected and authenticated.", "route"),
    _of_accounts("gauge", "kill_switch_ws_connections", "WebSocket connections that are logged in."),
    _of_accounts("gauge", "kill_switch_ws_connections_wanted", "WebSocket connections that there should be."),
    _of_accounts(
        "gauge",
        "kill_switch_certificate_expiry_timestamp_seconds",
        "When the first certificate of the chain that a lane was verified by expires, since the epoch.",
        "route",
    ),
    _of_accounts("gauge", "kill_switch_lane_round_trip_seconds", "The last measured round trip.", "route"),
    _of_accounts("gauge", "kill_switch_clock_offset_seconds", "The venue's clock less this host's, as measured."),
    _of_accounts(
        "counter", "kill_switch_unexplained_messages_total", "Messages of the venue that the adapter could not explain."
    ),
    # triggers
    Metric(
        "state",
        "kill_switch_trigger_state",
        "The state of a trigger.",
        ("trigger", "kind", "state"),
        tuple(TriggerState),
    ),
    Metric("gauge", "kill_switch_trigger_value", "What a trigger measures.", ("trigger", "figure")),
    Metric("gauge", "kill_switch_trigger_limit", "Where a trigger fires.", ("trigger", "figure")),
    # the journal
    Metric("gauge", "kill_switch_journal_unwritten_records", "Records that are not in the file yet."),
    Metric("gauge", "kill_switch_journal_sync_seconds", "How long the sync in progress has taken."),
    Metric("gauge", "kill_switch_journal_head_record", "The number of the newest record in the file."),
    Metric("gauge", "kill_switch_journal_head_hash", "The first 48 bits of that record's hash."),
    Metric("gauge", "kill_switch_journal_trouble", "Whether the disk takes no records."),
    # the daemon's process; the names are those of `prometheus_client`
    Metric("counter", "process_cpu_seconds_total", "CPU time, user and system."),
    Metric("gauge", "process_start_time_seconds", "When the process started, since the epoch."),
    Metric("gauge", "process_virtual_memory_bytes", "Virtual memory."),
    Metric("gauge", "process_resident_memory_bytes", "Resident memory."),
    Metric("gauge", "process_open_fds", "Open file descriptors."),
    Metric("gauge", "process_max_fds", "The limit of open file descriptors."),
    Metric("gauge", "process_threads", "Threads."),
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}
