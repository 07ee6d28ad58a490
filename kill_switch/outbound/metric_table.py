"""The table of all metrics: name, type, labels and help text of each.

The collectors of this folder can only report a metric that is in the table, and the reference page is generated from
the table. A name ends with its unit, as Prometheus has it: a metric has one unit. No value is read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kill_switch.core.domain import Phase
from kill_switch.triggers.base import TriggerState

PREFIX = "kill_switch_"

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


def _of_triggers(name: str, text: str, *labels: str) -> Metric:
    return Metric("gauge", name, text, ("trigger", *labels))


METRICS: Sequence[Metric] = (
    # the worker process that serves the metrics
    Metric("gauge", "kill_switch_responding", "Whether the daemon answered this scrape."),
    # the daemon
    Metric("gauge", "kill_switch_build_info", "The version that runs.", ("version", "python")),
    Metric("gauge", "kill_switch_start_timestamp_seconds", "When the daemon started, since the epoch."),
    Metric("state", "kill_switch_phase", "The worst phase of all accounts.", ("phase",), tuple(Phase)),
    Metric("gauge", "kill_switch_tripped", "Whether any account is tripped."),
    Metric(
        "gauge",
        "kill_switch_able_to_fire",
        "Whether some route of every armed account would carry a kill now; the outer ping is sent only then.",
    ),
    Metric("gauge", "kill_switch_every_trigger_sees", "Whether no trigger is blind, silenced ones included."),
    Metric("gauge", "kill_switch_budget_seconds", "The latency budget: from a reason until every account answered."),
    Metric("histogram", "kill_switch_event_loop_lag_seconds", "How late a timer fired."),
    Metric("counter", "kill_switch_stalled_seconds_total", "Time in which the event loop stood still."),
    # kills
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
    Metric(
        "gauge",
        "kill_switch_last_kill_timestamp_seconds",
        "When the first reason of the last kill was observed, since the epoch, with the trigger that reported it.",
        ("trigger",),
    ),
    Metric(
        "gauge",
        "kill_switch_last_kill_answered_seconds",
        "From the last kill's first reason until its last account answered; no sample before.",
    ),
    _of_accounts(
        "gauge",
        "kill_switch_last_kill_orders",
        "Distinct orders that the last kill found open; no sample while they are unknown.",
    ),
    _of_accounts(
        "gauge",
        "kill_switch_last_kill_orders_left",
        "Orders that the last kill's newest read showed; no sample while they are unknown.",
    ),
    # people
    Metric("counter", "kill_switch_rearms_total", "Requests to re-arm, since the start.", ("result",)),
    Metric(
        "gauge",
        "kill_switch_approvals_pending",
        "People whose approval waits for another person's.",
        ("request",),
    ),
    Metric("counter", "kill_switch_reloads_total", "Reloads of the configuration, since the start.", ("result",)),
    Metric("gauge", "kill_switch_last_reload_applied", "Whether the file was in force after the last reload."),
    Metric("counter", "kill_switch_drills_total", "Drills, since the start.", ("result",)),
    Metric("gauge", "kill_switch_last_drill_timestamp_seconds", "When the last drill began, since the epoch."),
    Metric("gauge", "kill_switch_last_drill_ok", "Whether every lane answered the last drill within the budget."),
    Metric(
        "gauge",
        "kill_switch_last_drill_answered_seconds",
        "From the last drill's beginning until its last lane answered; no sample if one did not.",
    ),
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
        "gauge", "kill_switch_worker_up", "Whether a worker process answers; no sample before it is used.", ("worker",)
    ),
    Metric(
        "counter",
        "kill_switch_worker_restarts_total",
        "Worker processes that ended or hung, and were started again.",
        ("worker",),
    ),
    Metric("counter", "kill_switch_intake_beats_total", "Heartbeats that were accepted."),
    Metric(
        "counter", "kill_switch_intake_ignored_total", "Datagrams, or lines of one, that were ignored.", ("reason",)
    ),
    Metric(
        "counter",
        "kill_switch_intake_lost_total",
        "Datagrams that the kernel dropped, and times that the Unix socket's queue was full.",
    ),
    # accounts
    _of_accounts("gauge", "kill_switch_account_info", "The accounts that are configured.", "venue"),
    _of_accounts("state", "kill_switch_account_phase", "The phase of an account.", "phase", states=Phase),
    _of_accounts("gauge", "kill_switch_account_killable", "Whether some route would carry a kill now."),
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
    _of_accounts(
        "gauge",
        "kill_switch_rate_pool_size",
        "A rate limit of the venue, in the venue's weight; accounts that share it each have it.",
        "pool",
    ),
    _of_accounts(
        "gauge", "kill_switch_rate_pool_used", "How much of it all programs use now, as far as is known.", "pool"
    ),
    _of_accounts(
        "gauge", "kill_switch_rate_pool_kept_for_cancels", "How much of it only a kill's commands may use.", "pool"
    ),
    # triggers
    Metric(
        "state",
        "kill_switch_trigger_state",
        "The state of a trigger.",
        ("trigger", "kind", "state"),
        tuple(TriggerState),
    ),
    _of_triggers("kill_switch_trigger_limit_used_ratio", "How much of a limit is used; it fires above 1.", "figure"),
    _of_triggers("kill_switch_trigger_seconds", "A duration that a trigger measures.", "figure"),
    _of_triggers("kill_switch_trigger_limit_seconds", "The duration at which it fires, or is blind.", "figure"),
    _of_triggers("kill_switch_trigger_amount", "Money that a trigger measures, in its currency.", "figure", "currency"),
    _of_triggers("kill_switch_trigger_limit_amount", "The amount at which it fires.", "figure", "currency"),
    _of_triggers("kill_switch_trigger_orders", "Orders that a trigger counts, of the busiest account.", "figure"),
    _of_triggers("kill_switch_trigger_limit_orders", "The number of orders above which it fires.", "figure"),
    _of_triggers("kill_switch_trigger_flag_present", "Whether the file of a flag is there."),
    _of_triggers("kill_switch_silence_end_timestamp_seconds", "When the silence of a trigger ends, since the epoch."),
    _of_triggers("kill_switch_silence_holds_reason", "Whether a silence holds back a reason to kill."),
    # the journal
    Metric(
        "counter", "kill_switch_journal_records_total", "Records in the journal, or counted in one, since the start."
    ),
    Metric(
        "counter", "kill_switch_journal_written_bytes_total", "Bytes that were written to the journal, since the start."
    ),
    Metric("gauge", "kill_switch_journal_file_bytes", "Size of the journal's newest file."),
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


def family(name: str, samples: Sequence[Sample]) -> Family:
    """Return a metric of the table, named without prefix, with its samples; raise `KeyError` if it is not there."""
    return BY_NAME[PREFIX + name].family(samples)


def single(name: str, value: object) -> Family:
    """Return a metric of the table that has one value; None: it has none now."""
    return family(name, [] if value is None else [([], value)])
