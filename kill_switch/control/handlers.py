"""Handle operators' requests: status, fire, drill, rearm, report.

The control server calls a handler with the request and its caller. The handlers read the state and report events to the
dispatcher; they never change an account's state themselves.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import anyio

import kill_switch
from kill_switch import clock
from kill_switch.client.control import PROTOCOL
from kill_switch.config.loader import Config
from kill_switch.control import late_request
from kill_switch.control.left_behind import LeftBehind
from kill_switch.control.request_reason import reason_text
from kill_switch.control.server import Caller, Handler, RequestRefused
from kill_switch.control.silence_requests import SilenceRequests, describe_silence
from kill_switch.control.status_problems import ProblemFinder, safe_lines
from kill_switch.core.commands import RearmGranted, RearmPending
from kill_switch.core.domain import Phase, Reason
from kill_switch.core.events import RearmAsked
from kill_switch.core.list_lag import describe_wait, lagging_proofs, proved_ns
from kill_switch.core.outcome import Problem, daemon_problems
from kill_switch.core.state import AccountState, describe_login_mismatch
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.health.account_health import account_health
from kill_switch.health.clock_skew import ClockSkewMonitor
from kill_switch.health.drills import DrillRunner
from kill_switch.health.dry_run import DryRun
from kill_switch.health.problems import make_command
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import MAX_REASONS_EACH_END, ReportBuilder
from kill_switch.journal.records import RearmAskedRecord, UserRecord
from kill_switch.system.users import SOON_S, UserDirectory
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.supervisor import TriggerSupervisor
from kill_switch.wakeup import Signal

log = logging.getLogger(__name__)

MAX_WAIT_S = 3600
PROVE_WITHIN_S = 3.0  # seconds for the read-back before a re-arm; more where reads take longer
PROVE_WITHIN_MOST_S = 30.0
RECORD_WITHIN_S = 2.0  # seconds that a re-arm waits for the journal
# seconds that `fire` and `report` wait for the journal; less, because the kill has been sent
KILL_RECORD_WITHIN_S = 0.5
MAX_REASONS = 10  # reasons in the status at most; the report has all


class ControlHandlers:
    """The handlers, and the parts of the daemon that they need."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        journal: Journal,
        reports: ReportBuilder,
        supervisor: TriggerSupervisor,
        drills: DrillRunner,
        clock_skew: ClockSkewMonitor,
        intake: Intake,
        users: UserDirectory | None = None,
        troubles: Iterable[Callable[[], Iterable[str]]] = (),
    ) -> None:
        """`troubles` of other parts: each yields a line for people for everything that is wrong with its part."""
        self.announcements = Signal()  # notified when a state or a lane may have changed
        self._config = config
        self._dispatcher = dispatcher
        self._journal = journal
        self._reports = reports
        self._supervisor = supervisor
        self._drills = drills
        self._clock_skew = clock_skew
        self._dry_run = DryRun(dispatcher)
        self._intake = intake
        left_behind = LeftBehind(journal.contents.entries, dispatcher.record_durably)
        self._problem_finder = ProblemFinder(dispatcher, reports, supervisor, intake, left_behind)
        self._users = users or UserDirectory()
        self._unnamed = set[int]()  # uids of callers who fired and whose names are not recorded yet
        # each yields lines for people about the faults of its part of the program
        self._troubles: list[Callable[[], Iterable[str]]] = [
            drills.troubles,
            clock_skew.troubles,
            self._intake_trouble,
            self._write_ahead_trouble,
            self._login_mismatches,
            self._account_warnings,
            self._degraded_lanes,
            *troubles,
        ]
        self._silence_requests = SilenceRequests(config, supervisor, dispatcher.clock, self._recorded, self.problems)
        self._phase = dispatcher.state.phase
        self._since_ns = self._dispatcher.clock().wall_ns

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "status": self._status,
            "fire": self._fire,
            "drill": self._drill,
            "rearm": self._rearm,
            "report": self._report,
            "silence": self._silence_requests.handle,
        }

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config
        self._silence_requests.reconfigure(config)

    def notify_changed(self) -> None:
        """Wake the requests that wait for the state to change."""
        self._note_phase()
        self.announcements.notify()

    def _note_phase(self) -> None:
        phase = self._dispatcher.state.phase
        if public_state(phase) != public_state(self._phase):
            self._since_ns = self._dispatcher.clock().wall_ns
        self._phase = phase

    def status(self) -> dict[str, object]:
        """Return what `status --json` prints, as of now, including the reasons of a kill that has just begun."""
        self._note_phase()
        self._journal.deliver_entries()
        conditions, silences = self._supervisor.states(), self._supervisor.silences
        now = self._dispatcher.clock()
        drill = self._drills.last
        troubles = [line for part in self._troubles for line in safe_lines(part)]
        command = make_command(self._config.source.absolute())
        return {
            "state": public_state(self._dispatcher.state.phase),
            "since": clock.iso(self._since_ns),
            "version": kill_switch.__version__,
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "accounts": {name: self._account(name) for name in self._dispatcher.sessions},
            "triggers": {
                name: {
                    "kind": trigger.kind,
                    "state": conditions[name][0],
                    "detail": conditions[name][1],
                    **describe_silence(silences.active(name), now),
                }
                for name, trigger in self._supervisor.triggers.items()
            },
            "last_kill": self._reports.last,
            "why": self._reasons(),
            "intake": {
                **self._intake.counts()._asdict(),
                "why_ignored": dict(self._intake.why_ignored),
            },
            "drill": {
                "next": self._drills.next_due,
                "last": drill and {key: drill[key] for key in ("at", "by", "ok", "answered_us", "budget_us")},
            },
            "journal": self._journal.trouble or "ok",
            "trouble": troubles,
            "problems": self._problem_finder.find(conditions, troubles, self._journal.trouble, command),
        }

    def _intake_trouble(self) -> Iterable[str]:
        return (f"intake: {line}" for line in self._intake.troubles())

    def _write_ahead_trouble(self) -> Iterable[str]:
        why = self._journal.write_ahead_trouble
        return (f"intent: {why}: the first commands of a kill wait for its record",) if why else ()

    def _degraded_lanes(self) -> Iterable[str]:
        for session in self._dispatcher.sessions.values():
            yield from session.status.degraded()

    def _login_mismatches(self) -> Iterable[str]:
        differences = (
            (name, describe_login_mismatch(account)) for name, account in self._dispatcher.state.accounts.items()
        )
        return (f"account {name}: {mismatch}: only rearm --force arms it" for name, mismatch in differences if mismatch)

    def _account_warnings(self) -> Iterable[str]:
        """Yield the accounts' warnings: a slow kill, orders out of reach, what to change, a proof that has to wait."""
        now, accounts = self._dispatcher.clock(), self._dispatcher.state.accounts
        for name, session in self._dispatcher.sessions.items():
            sweep, out_of_reach = accounts[name].sweep, session.status.out_of_reach
            if caution := session.status.caution(now):
                yield f"{name}: {caution}"
            if out_of_reach:
                yield f"{name}: a kill does not reach: {'; '.join(out_of_reach)}"
            yield from (f"{name}: {warning}" for warning in session.status.warnings)
            if sweep is not None and (wait := describe_wait(sweep)):
                yield f"{name}: {wait}"
            if wait_s := session.pacer.proof_wait_s:
                yield f"{name}: the proof waits {math.ceil(wait_s)} s for the venue's rate limit"

    def _reasons(self) -> list[dict[str, object]]:
        """Return the first reasons of the kills that hold an account tripped now."""
        accounts = self._dispatcher.state.accounts
        kills = dict.fromkeys(accounts[name].kill for name in self._dispatcher.state.tripped)
        return [reason for kill in kills if kill for reason in self._reports.reasons(kill)][:MAX_REASONS]

    def _account(self, name: str) -> dict[str, object]:
        status, account = self._dispatcher.sessions[name].status, self._dispatcher.state.accounts[name]
        return {
            **account_health(status),
            "state": account.phase,
            "open_orders": status.open_orders(account, self._dispatcher.clock()),
            "dead_man": None,
            "noise": status.unexplained_messages,
            "clock_offset_ms": self._clock_skew.offset_ms(name),
            "drill": self._drills.lanes.get(name, {}),
        }

    async def _status(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        return self.status()

    async def _report(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        self._journal.flush()
        report = self._reports.render(str(request.get("id", "last")))
        if report is None:
            raise RequestRefused("there is no such kill")
        return {**report, "problems": await self.problems(KILL_RECORD_WITHIN_S)}

    async def _fire(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        text = reason_text(request, caller)
        accounts = self._scope(request)
        wait_s = request.get("wait_s", 0)
        if not isinstance(wait_s, int | float):
            raise RequestRefused("wait_s must be a number of seconds")
        wait_s = min(max(0, wait_s), MAX_WAIT_S)  # because the length of the wait must not keep a kill from being sent
        if request.get("dry_run"):
            shown = await self._dry_run.list_targets(accounts)
            # because a reload may have removed accounts
            still = [name for name in shown if name in self._dispatcher.sessions]
            return {"dry_run": True, "accounts": {name: {**self._account(name), **shown[name]} for name in still}}
        evidence = {"uid": caller.uid, "user": caller.user, "pid": caller.pid}
        now = self._dispatcher.clock()
        delay = late_request.delay(request, now)
        reason = Reason("operator", text + delay.words, accounts, now, {**evidence, **delay.evidence})
        self._dispatcher.fire(reason)
        kill = self._dispatcher.state.kill
        if request.get("acknowledge"):
            await caller.acknowledge({"acknowledged": kill and kill.id, "accounts": accounts})
        if caller.user == str(caller.uid):
            self.find_name(caller.uid)
        with anyio.move_on_after(wait_s):
            while any(account.phase.is_unfinished for account in self._still_configured(accounts)):
                await self.announcements.wait()
        if caller.uid in self._unnamed:
            await self._users.name(caller.uid, SOON_S)
        self._journal.flush()
        report = None if kill is None else self._reports.render(kill.id)
        if report is None or not _has(report, reason):  # because another kill's report would be believed
            raise RequestRefused(
                "the kill was sent, but its report cannot be shown: read the log, and look at the venues"
            )
        answer = {**report, "asked": accounts, "problems": await self.problems(KILL_RECORD_WITHIN_S)}
        states, at_ns = self._dispatcher.state.accounts, self._dispatcher.clock().mono_ns
        if waits := lagging_proofs({name: states[name] for name in accounts if name in states}, at_ns):
            answer["not_proven_yet"] = waits
        return answer

    def find_name(self, uid: int) -> None:
        """Record a uid's name as soon as it is known, because the kill did not wait for it."""

        def on_name(name: str) -> None:
            self._unnamed.discard(uid)
            if name != str(uid):
                record = UserRecord(uid=uid, user=name)
                self._journal.append(record.kind, record.to_json(), self._dispatcher.clock())
                self._journal.flush()

        if uid not in self._unnamed:
            self._unnamed.add(uid)
            self._users.call_with_name(uid, on_name)

    async def _drill(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        return await self._drills.run(self._scope(request), "operator", uid=caller.uid, user=caller.user)

    async def _rearm(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        text = reason_text(request, caller)
        accounts = self._scope(request)
        states = self._dispatcher.state.accounts
        tripped = {name for name in accounts if states[name].phase.is_tripped}
        force = request.get("force") is True
        since_ns = self._dispatcher.clock().mono_ns
        await self._prove(tripped, since_ns)
        await self._supervisor.check_flags(tripped)
        record = RearmAskedRecord(uid=caller.uid, user=caller.user, text=text, accounts=accounts)
        self._journal.append(record.kind, record.to_json(), self._dispatcher.clock())
        if not await self._recorded():
            why = self._journal.trouble or "the disk has not taken the record yet"
            raise RequestRefused(f"not re-armed, because it could not be recorded: {why}")
        reported_ns = self._dispatcher.last_reason_ns
        later = [name for name in accounts if reported_ns.get(name, 0) >= since_ns]
        blockers = (
            *(f"{name}: a reason was reported after this was asked for" for name in later),
            *self._supervisor.rearm_blockers(tripped, force=force),
        )
        asked = RearmAsked(caller.uid, caller.user, text, accounts, force, blockers, self._dispatcher.clock(), since_ns)
        if caller.gone():
            log.warning("not re-armed: %s has closed the connection before the answer", caller.user)
            raise RequestRefused("not re-armed: the caller has closed the connection")
        states = self._dispatcher.state.accounts  # of now, because the read-back and a reload may have changed them
        left = self._problem_finder.left(tripped)
        unfinished = [name for name in tripped if name in states and states[name].phase.is_unfinished]
        match self._dispatcher.rearm(asked):
            case RearmGranted(names):
                self._problem_finder.note_left(name for name in names if name in unfinished)
                for trigger in self._supervisor.watching(tripped):  # of now: a reload may have replaced some
                    self._supervisor.on_rearmed(trigger, names)
                self.notify_changed()
                if problems := await self.problems():
                    log.error("re-armed, but not in the journal yet: after a restart now, the accounts are tripped")
                problems = [*left, *problems]
                return {"rearmed": names, **({"problems": problems} if problems else {})}
            case RearmPending(approvals, needed):
                await self._recorded()
                raise RequestRefused(
                    f"{approvals} of {needed} people have approved: another person must type the same command", 75
                )
            case refused:
                raise RequestRefused("not re-armed: " + "; ".join(refused.reasons), why=refused.reasons)

    async def problems(self, within_s: float = RECORD_WITHIN_S) -> list[Problem]:
        """Sync the journal, for at most `within_s` seconds; return the journal's faults as problems."""
        unwritten = ""
        if not await self._recorded(within_s):
            unwritten = self._journal.write_trouble or self._journal.silence_trouble or "the disk has not taken it yet"
        latched = self._journal.is_latched
        return daemon_problems(unwritten, self._journal.sync_trouble, self._config.source, latched=latched)

    async def _recorded(self, within_s: float = RECORD_WITHIN_S) -> bool:
        """Sync the journal; return whether the disk has accepted all records within `within_s` seconds."""
        self._journal.sync()
        with anyio.move_on_after(within_s):
            while not self._journal.is_on_record and not self._journal.write_trouble:  # noqa: ASYNC110 - a thread's work
                await anyio.sleep(0.001)
        return self._journal.is_on_record

    async def _prove(self, names: Collection[str], since_ns: int) -> None:
        """Read the clear accounts once more; return when all reads are in, or after a bounded time."""
        clear = [name for name in names if self._dispatcher.state.accounts[name].phase is Phase.CLEAR]
        waits_s = [self._dispatcher.sessions[name].read_back(is_prompt=True) for name in clear]  # for the limits

        def waiting() -> bool:
            accounts = self._still_configured(names)
            return any(a.phase is Phase.CLEAR and a.sweep and proved_ns(a.sweep) < since_ns for a in accounts)

        rtts_ns = (a.sweep.longest_rtt_ns for a in self._still_configured(names) if a.sweep is not None)
        within_s = max(PROVE_WITHIN_S, 2e-9 * max(rtts_ns, default=0)) + max(waits_s, default=0.0)
        within_s = min(within_s, PROVE_WITHIN_MOST_S)
        with anyio.move_on_after(within_s):
            while waiting():  # noqa: ASYNC110 - no event reports a clean read of a clear account
                await anyio.sleep(0.01)

    def _still_configured(self, names: Iterable[str]) -> list[AccountState]:
        """Return the accounts that still exist, because a reload may have removed some."""
        accounts = self._dispatcher.state.accounts
        return [accounts[name] for name in names if name in accounts]

    def _scope(self, request: Mapping[str, Any]) -> tuple[str, ...]:
        scope = request.get("scope", [])
        if not isinstance(scope, list) or not all(isinstance(selector, str) for selector in scope):
            raise RequestRefused("scope must be a list of account names and tags")
        try:
            return self._config.select(scope)
        except ValueError as error:
            raise RequestRefused(str(error)) from None


def _has(report: Mapping[str, Any], reason: Reason) -> bool:
    """Return whether a report contains this reason; of very many reasons, a report has the first and the last only."""
    observed_at = clock.iso(reason.observed_at.wall_ns)
    return len(report["reasons"]) > MAX_REASONS_EACH_END or any(
        shown["trigger"] == reason.trigger and shown["observed_at"] == observed_at for shown in report["reasons"]
    )


def public_state(phase: Phase) -> str:
    """Return the daemon's state in the three words of the status."""
    match phase:
        case Phase.ARMED:
            return "ARMED"
        case Phase.CLEAR:
            return "TRIPPED"
        case _:
            return "FIRING"
