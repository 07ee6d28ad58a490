"""The metrics that come from the journal's records: the last kill, drills, re-arms, reloads, and the journal itself.

`outbound.metrics` collects them, and passes each record to `RecordCounter`. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from kill_switch.core.domain import Instant, Phase, Verdict
from kill_switch.core.records import RearmApprovedRecord, RearmRecord, RearmRefusedRecord, ReloadRecord
from kill_switch.journal.account_report import AccountReport
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.records import DrillRecord, Entry, ReloadRefusedRecord
from kill_switch.outbound.metric_table import Family, family, single

REARMS = {  # kind of a record → the value of the label
    RearmRecord.kind: "granted",
    RearmRefusedRecord.kind: "refused",
    RearmApprovedRecord.kind: "waits",
}
RELOADS = {ReloadRecord.kind: "applied", ReloadRefusedRecord.kind: "refused"}
SOURCES = ("operator", "latch", "direct", "start")  # reasons of no configured trigger; "start": in old journals
OTHER = "other"  # a trigger that the configuration has no more


class RecordCounter:
    """The counts of some records since the daemon's start."""

    def __init__(self) -> None:
        self._rearms = dict.fromkeys(REARMS.values(), 0)
        self._reloads = dict.fromkeys(RELOADS.values(), 0)
        self._drills = {"ok": 0, "failed": 0}
        self._file_in_force = True

    def take(self, entry: Entry) -> None:
        """Count a record that the daemon appends."""
        kind = entry["kind"]
        if kind in REARMS:
            self._rearms[REARMS[kind]] += 1
        elif kind in RELOADS:
            self._reloads[RELOADS[kind]] += 1
            self._file_in_force = kind == ReloadRecord.kind
        elif kind == DrillRecord.kind:
            self._drills["ok" if entry["data"]["ok"] else "failed"] += 1

    def metrics(self) -> Iterator[Family]:
        """Yield the counters."""
        yield family("rearms_total", [([result], count) for result, count in self._rearms.items()])
        yield family("reloads_total", [([result], count) for result, count in self._reloads.items()])
        yield family("drills_total", [([result], count) for result, count in self._drills.items()])
        yield single("last_reload_applied", int(self._file_in_force))


def kill_metrics(reports: ReportBuilder, accounts: Collection[str], triggers: Collection[str]) -> Iterator[Family]:
    """Yield the metrics of the last kill: of the configured accounts, and by a configured trigger, or in `SOURCES`."""
    kill = reports.last or ""
    reason = next(iter(reports.reasons(kill)), None)
    trigger = "" if reason is None else str(reason["trigger"])
    label = trigger if trigger in triggers or trigger in SOURCES else OTHER
    observed = [] if reason is None else [([label], _timestamp_s(reason["observed_at"]))]
    yield family("last_kill_timestamp_seconds", observed)
    struck = {name: account for name in accounts if (account := reports.account(kill, name)) is not None}
    answered = [_answered_us(account) for account in struck.values()]
    known_us = [us for us in answered if us is not None]
    yield single(
        "last_kill_answered_seconds", max(known_us) / 1e6 if known_us and len(known_us) == len(struck) else None
    )
    orders = [([name], n) for name, account in struck.items() if (n := _orders(account)) is not None]
    yield family("last_kill_orders", orders)
    yield family("last_kill_orders_left", [([name], a.left) for name, a in struck.items() if a.left is not None])


def _answered_us(account: AccountReport) -> int | None:
    """Return when an account answered, as the report has it."""
    verdict = Verdict.of(Phase.CLEAR if account.proven else account.state, account.answer)
    answered_us = account.attempts.verdict_fields(verdict)["answered_us"]
    return answered_us if isinstance(answered_us, int) else None


def _orders(account: AccountReport) -> int | None:
    tally = account.tally
    named = len(tally.open) + len(tally.gone)
    return named + tally.unnamed_open + tally.unnamed_gone if tally.known else None


def drill_metrics(last: Mapping[str, Any] | None) -> Iterator[Family]:
    """Yield the metrics of the last drill, which may be an earlier run's."""
    answered_us = None if last is None else last.get("answered_us")
    yield single("last_drill_timestamp_seconds", None if last is None else _timestamp_s(last["at"]))
    yield single("last_drill_ok", None if last is None else int(bool(last["ok"])))
    yield single("last_drill_answered_seconds", None if answered_us is None else answered_us / 1e6)


def journal_metrics(journal: Journal, now: Instant) -> Iterator[Family]:
    """Yield the metrics of the journal."""
    figures, head = journal.figures(now.mono_ns), journal.head
    yield single("journal_records_total", figures.records)
    yield single("journal_written_bytes_total", figures.written_bytes)
    yield single("journal_file_bytes", figures.file_bytes)
    yield single("journal_unwritten_records", figures.unwritten)
    yield single("journal_sync_seconds", figures.syncing_ns / 1e9)
    yield single("journal_head_record", head.seq)
    yield single("journal_head_hash", head.number)
    yield single("journal_trouble", int(bool(journal.trouble)))


def _timestamp_s(iso: object) -> float | None:
    """Return the seconds since the epoch of a record's time, None if it is no time."""
    try:
        return datetime.fromisoformat(str(iso)).timestamp()
    except ValueError:
        return None
