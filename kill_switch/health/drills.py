"""Drills: a harmless command over every lane, all at the same time as in a strike, with its round trip recorded.

Operators, the schedule and `check --connect` start drills. A kill takes precedence: an account that is being struck is
not drilled. A failed drill is announced, and stays in the status, also after a restart, until a good one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from kill_switch.clock import iso
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Route, Severity
from kill_switch.cron import Crontab, Timetable
from kill_switch.dispatch.account_status import AccountStatus
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.ports import JournalPort
from kill_switch.errors import AlreadyRunning, KillSwitchError
from kill_switch.journal import history
from kill_switch.journal.records import DrillRecord
from kill_switch.venues.messages import DRILL_WITHIN_S, Drilled

log = logging.getLogger(__name__)

WITHIN_S = DRILL_WITHIN_S + 1.0  # seconds until a lane has failed; the adapter reports it before that
GAP_S = 2.0  # seconds between two drills, because they use rate limit that a kill needs
LOOK_EVERY_S = 1.0  # seconds; no wait is longer, because the wall clock may be set
MAX_NAMED = 5  # failing accounts that an announcement names at most
_KILL_FIRST = "a kill came first"


@dataclass(slots=True)
class _DrillRun:
    """The drill that is in progress."""

    began: Instant
    waiting: set[tuple[str, Route]]
    answers: dict[tuple[str, Route], Drilled] = field(default_factory=dict)
    last_ns: int = 0  # when the last answer arrived
    over: anyio.Event = field(default_factory=anyio.Event)


class DrillRunner:
    """The drills of all accounts, one at a time, on request and on schedule, with each account's last result."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        journal: JournalPort,
        announce: Callable[[Announce], None],
        *,
        budget_us: int,
        clock: Callable[[], Instant],
        entries: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """`entries` are the journal's records so far; the last results in them are still valid."""
        self._budget_us = budget_us
        self.last: Mapping[str, Any] | None = None
        self.lanes: dict[str, Mapping[str, Any]] = {}  # account → its lanes' last results
        self._dispatcher = dispatcher
        self._journal = journal
        self._announce = announce
        self._clock = clock
        self._current: _DrillRun | None = None
        self._busy = False
        self._not_before_s = 0.0
        self._times: Timetable | None = None
        for record in history.records_of_kind(entries, DrillRecord, fits=_is_whole):
            self._store(record.to_json())

    # ── one drill ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, accounts: Sequence[str], by: str, **who: object) -> Mapping[str, Any]:
        """Drill the lanes of these accounts; return the result, which is what `drill --json` prints.

        Raises `AlreadyRunning` while another drill is in progress. Raises `KillSwitchError` if all of the accounts are
        being killed.
        """
        if self._busy:
            raise AlreadyRunning("another drill is under way: try again in a few seconds")
        self._busy = True
        try:
            await anyio.sleep(max(0.0, self._not_before_s - anyio.current_time()))
            states = self._dispatcher.state.accounts
            chosen = [name for name in accounts if name in states and not states[name].phase.is_unfinished]
            if not chosen:
                raise KillSwitchError(f"no drill now: a kill is under way on {', '.join(accounts)}")
            self._not_before_s = anyio.current_time() + GAP_S
            over = await self._drill(chosen)
        finally:
            self._busy = False
        result = self._judge(over, accounts, chosen)
        record = {"at": iso(over.began.wall_ns), "by": by, **who, **result}
        self._journal.append(DrillRecord.kind, record, self._clock())
        self._journal.flush()
        self._publish(record)
        return record

    def on_drilled(self, account: str, fact: Drilled, now: Instant) -> None:
        """Record the result of a lane's drill; a result that belongs to an earlier drill is ignored."""
        drill, lane = self._current, (account, fact.route)
        if drill is None or lane not in drill.waiting:
            return
        if fact.rtt_us * 1000 > now.mono_ns - drill.began.mono_ns:
            return  # because it was sent before this drill began
        drill.waiting.remove(lane)
        drill.answers[lane] = fact
        drill.last_ns = now.mono_ns
        if not drill.waiting:
            drill.over.set()

    async def _drill(self, names: Sequence[str]) -> _DrillRun:
        sessions = self._dispatcher.sessions
        waiting = {(name, route) for name in names for route in sessions[name].status.drill_routes}
        drill = self._current = _DrillRun(self._clock(), waiting)
        try:
            for name in names:
                sessions[name].drill()
            if drill.waiting:
                with anyio.move_on_after(WITHIN_S):
                    await drill.over.wait()
        finally:
            self._current = None
        return drill

    # ── its result ────────────────────────────────────────────────────────────────────────────────────────────

    def _judge(self, drill: _DrillRun, asked: Sequence[str], chosen: Sequence[str]) -> dict[str, Any]:
        accounts: dict[str, dict[str, Any]] = {}
        for name in asked:
            session = self._dispatcher.sessions.get(name)
            if session is None:
                accounts[name] = {
                    "venue": None,
                    "ok": False,
                    "skipped": "the account was removed by a reload",
                    "lanes": {},
                }
            elif name not in chosen:
                accounts[name] = _skipped(session.status, "a kill is under way")
            elif self._dispatcher.last_reason_ns.get(name, 0) >= drill.began.mono_ns:
                accounts[name] = _skipped(session.status, _KILL_FIRST)
            elif untried := _untried(drill, name):
                accounts[name] = _skipped(session.status, untried)
            else:
                routes = session.status.drill_routes
                lanes = {route.value: self._lane(drill.answers.get((name, route))) for route in routes}
                good = all(lane["ok"] and lane["within_budget"] for lane in lanes.values())
                accounts[name] = {"venue": session.status.venue_name, "ok": good, "skipped": None, "lanes": lanes}
        lanes_found = [lane for account in accounts.values() for lane in account["lanes"].values()]
        whole = not any(account["skipped"] for account in accounts.values()) and all(lane["ok"] for lane in lanes_found)
        answered_us = (drill.last_ns - drill.began.mono_ns) // 1000 if whole else None
        within = answered_us is not None and answered_us <= self._budget_us
        return {
            "ok": within and all(account["ok"] for account in accounts.values()),
            "budget_us": self._budget_us,
            "answered_us": answered_us,
            "within_budget": within,
            "accounts": accounts,
        }

    def _lane(self, fact: Drilled | None) -> dict[str, object]:
        if fact is None:
            evidence = f"no answer within {WITHIN_S:g} s"
            return {"ok": False, "rtt_us": None, "within_budget": False, "evidence": evidence}
        within = fact.ok and fact.rtt_us <= self._budget_us
        rtt_us = fact.rtt_us if fact.ok or fact.rtt_us else None
        return {"ok": fact.ok, "rtt_us": rtt_us, "within_budget": within, "evidence": fact.evidence}

    def _publish(self, record: Mapping[str, Any]) -> None:
        """Store a drill's result; announce a failure, and once that all lanes are good again."""
        failing = any(self.troubles())
        self._store(record)
        drilled = [name for name, account in record["accounts"].items() if not account["skipped"]]
        failed = [*_slowness(record), *(line for name in drilled for line in self._failures(name))]
        if failed:
            others = f"; and {len(failed) - MAX_NAMED} more" if len(failed) > MAX_NAMED else ""
            self._announce(Announce(Severity.WARN, f"drill: {'; '.join(failed[:MAX_NAMED])}{others}"))
        elif failing and not any(self.troubles()):
            self._announce(Announce(Severity.INFO, "drill: every lane answers within the budget again"))

    def _store(self, record: Mapping[str, Any]) -> None:
        self.last = record
        for name, account in record["accounts"].items():
            if not account["skipped"]:
                self.lanes[name] = {
                    route: {**lane, "at": record["at"], "budget_us": record["budget_us"]}
                    for route, lane in account["lanes"].items()
                }

    def troubles(self) -> Iterator[str]:
        """Yield a line for each lane whose last drill failed, and one if the last drill as a whole was too slow."""
        yield from (f"drill: {line}" for line in _slowness(self.last or {}))
        for name in self._dispatcher.sessions:
            for line in self._failures(name):
                yield f"drill: {line}"

    def _failures(self, name: str) -> Iterator[str]:
        """Yield the faults of an account's last drill; lanes with the same fault share a line."""
        wrong: dict[str, list[str]] = {}
        for route, lane in self.lanes.get(name, {}).items():
            if not lane["ok"]:
                wrong.setdefault(lane["evidence"], []).append(route)
            elif not lane["within_budget"]:
                took = f"{lane['rtt_us'] / 1000:.0f} ms, over the budget of {lane['budget_us'] / 1000:g} ms"
                wrong.setdefault(took, []).append(route)
        yield from (f"{name} {'+'.join(routes)}: {why}" for why, routes in wrong.items())

    # ── on schedule ───────────────────────────────────────────────────────────────────────────────────────────────

    def reconfigure(self, budget_us: int, cron: str | None, zone: str) -> None:
        """Judge drills by this budget, in microseconds, from now on, and set the schedule."""
        self._budget_us = budget_us
        self.set_schedule(cron, zone)

    def set_schedule(self, cron: str | None, zone: str) -> None:
        """Drill by this cron expression from now on; None: only on request."""
        if cron is None:
            self._times = None
            return
        crontab, now = Crontab(cron, zone), self._clock()
        self._times = Timetable(crontab, now) if self._times is None else self._times.go_on(crontab, now)

    @property
    def next_due(self) -> str | None:
        """Return when the next scheduled drill is due, as ISO 8601; None if there is none."""
        coming = None if self._times is None else self._times.next
        return None if coming is None else coming.isoformat()

    async def run_schedule(self) -> None:
        """Drill all accounts on schedule, for ever; a time that has passed unnoticed counts at the next look."""
        while True:
            times = self._times
            due_s = None if times is None else times.look(self._clock())
            if times is not None and due_s is not None:
                times.fire(due_s)
                try:
                    await self.run(tuple(self._dispatcher.sessions), "schedule")
                except KillSwitchError as error:
                    log.info("the scheduled drill is skipped: %s", error)
            times = self._times  # because a reload may have changed it
            await anyio.sleep(LOOK_EVERY_S if times is None else times.wait_s(self._clock(), LOOK_EVERY_S))


def _is_whole(record: DrillRecord) -> bool:
    """Return whether each lane that answered has its time."""
    lanes = (lane for account in record.accounts.values() for lane in account.lanes.values())
    return all(lane.rtt_us is not None for lane in lanes if lane.ok)


def _slowness(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line if each lane kept to the budget, but all together did not: then this host is slow."""
    lanes = [lane for account in record.get("accounts", {}).values() for lane in account["lanes"].values()]
    answered_us, budget_us = record.get("answered_us"), record.get("budget_us", 0)
    if answered_us is not None and answered_us > budget_us and all(lane["within_budget"] for lane in lanes):
        yield f"the last lane answered after {answered_us / 1000:.0f} ms, over the budget of {budget_us / 1000:g} ms"


def _untried(drill: _DrillRun, name: str) -> str:
    """Return why an account's venue was not asked, or "" if it was; not asking is no failure."""
    return next(
        (fact.evidence for (account, _), fact in drill.answers.items() if account == name and not fact.tried), ""
    )


def _skipped(status: AccountStatus, why: str) -> dict[str, Any]:
    return {"venue": status.venue_name, "ok": False, "skipped": why, "lanes": {}}
