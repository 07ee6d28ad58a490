"""Handle operators' requests: status, fire, drill, rearm, report.

The control server calls a handler with the request and its caller. The handlers read the state and report events to the
dispatcher; they never change an account's state themselves.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import anyio

import kill_switch
from kill_switch import clock, printable
from kill_switch.config.loader import Config
from kill_switch.control.server import Caller, Handler, Refusal
from kill_switch.core.domain import LaneState, Phase, Reason
from kill_switch.core.engine import Account, Granted, RearmAsked, Waiting, unlike
from kill_switch.core.outcome import Problem, of_daemon
from kill_switch.dispatch.account_status import AccountStatus
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.health.clock_skew import Clocks
from kill_switch.health.drills import Drills
from kill_switch.health.dry_run import Previews
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import KEEP_REASONS, Reports
from kill_switch.journal.records import RearmAskedRecord, UserRecord
from kill_switch.system.users import SOON_S, Users
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.supervisor import Watch
from kill_switch.wakeup import Signal

log = logging.getLogger(__name__)

MAX_WAIT_S = 3600
PROVE_WITHIN_S = 3.0  # seconds for the read-back before a re-arm; more where reads take longer
PROVE_WITHIN_MOST_S = 30.0
RECORD_WITHIN_S = 2.0  # seconds that a re-arm waits for the journal
# seconds that `fire` and `report` wait for the journal; less, because the kill has been sent
KILL_RECORD_WITHIN_S = 0.5
MAX_TEXT = 1000
MAX_REASONS = 10  # reasons in the status at most; the report has all


class Operators:
    """The handlers, and the parts of the daemon that they need."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        journal: Journal,
        reports: Reports,
        watch: Watch,
        drills: Drills,
        clocks: Clocks,
        intake: Intake,
        users: Users | None = None,
        troubles: Iterable[Callable[[], Iterable[str]]] = (),
    ) -> None:
        """`troubles` of other parts: each yields a line for people for everything that is wrong with its part."""
        self.news = Signal()  # notified when a state or a lane may have changed
        self.config = config
        self._dispatcher = dispatcher
        self._journal = journal
        self._reports = reports
        self._watch = watch
        self._drills = drills
        self._clocks = clocks
        self._previews = Previews(dispatcher)
        self._intake = intake
        self._users = users or Users()
        self._unnamed = set[int]()  # uids of callers who fired and whose names are not recorded yet
        # each yields lines for people about the faults of its part of the program
        self._troubles: list[Callable[[], Iterable[str]]] = [
            drills.troubles,
            clocks.troubles,
            self._unheard,
            self._unintended,
            self._unlike,
            self._slow,
            self._worn,
            *troubles,
        ]
        self._phase = dispatcher.state.phase
        self._since_ns = self._dispatcher.clock().wall_ns

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "status": self._status,
            "fire": self._fire,
            "drill": self._drill,
            "rearm": self._rearm,
            "report": self._report,
        }

    def changed(self) -> None:
        """Wake the requests that wait for the state to change."""
        self._note_phase()
        self.news.notify()

    def _note_phase(self) -> None:
        phase = self._dispatcher.state.phase
        if outward(phase) != outward(self._phase):
            self._since_ns = self._dispatcher.clock().wall_ns
        self._phase = phase

    def status(self) -> dict[str, object]:
        """Return what `status --json` prints, as of now, including the reasons of a kill that has just begun."""
        self._note_phase()
        self._journal.tell()
        conditions = self._watch.conditions()
        drill = self._drills.last
        return {
            "state": outward(self._dispatcher.state.phase),
            "since": clock.iso(self._since_ns),
            "version": kill_switch.__version__,
            "pid": os.getpid(),
            "accounts": {name: self._account(name) for name in self._dispatcher.sessions},
            "triggers": {
                name: {"kind": trigger.kind, "state": conditions[name][0], "detail": conditions[name][1]}
                for name, trigger in self._watch.triggers.items()
            },
            "last_kill": self._reports.last,
            "why": self._why(),
            "intake": {
                **self._intake.counts()._asdict(),
                "why_ignored": dict(self._intake.why_ignored),
            },
            "drill": {
                "next": self._drills.due,
                "last": drill and {key: drill[key] for key in ("at", "by", "ok", "answered_us", "budget_us")},
            },
            "journal": self._journal.trouble or "ok",
            "trouble": [line for part in self._troubles for line in _told(part)],
        }

    def _unheard(self) -> Iterable[str]:
        return (f"intake: {line}" for line in self._intake.troubles())

    def _unintended(self) -> Iterable[str]:
        why = self._journal.unintended
        return (f"intent: {why}: the first commands of a kill wait for its record",) if why else ()

    def _worn(self) -> Iterable[str]:
        """Yield a line for each lane that is up and degraded: no successor, or fewer connections."""
        for name, session in self._dispatcher.sessions.items():
            states = session.status.lanes
            for route, why in session.status.troubles().items():
                if states[route] is LaneState.UP:
                    yield f"{name} {route} is up, but: {why}"

    def _unlike(self) -> Iterable[str]:
        differences = ((name, unlike(account)) for name, account in self._dispatcher.state.accounts.items())
        return (f"account {name}: {strange}: only rearm --force arms it" for name, strange in differences if strange)

    def _slow(self) -> Iterable[str]:
        """Yield a line for each account whose kill would be slow now, although its lanes are ready."""
        now = self._dispatcher.clock()
        cautions = ((name, session.status.caution(now)) for name, session in self._dispatcher.sessions.items())
        return [f"{name}: {caution}" for name, caution in cautions if caution]

    def _why(self) -> list[dict[str, object]]:
        """Return the first reasons of the kills that hold an account tripped now."""
        accounts = self._dispatcher.state.accounts
        kills = dict.fromkeys(accounts[name].kill for name in self._dispatcher.state.tripped)
        return [reason for kill in kills if kill for reason in self._reports.reasons(kill)][:MAX_REASONS]

    def _account(self, name: str) -> dict[str, object]:
        status = self._dispatcher.sessions[name].status
        return {
            **condition(status),
            "state": self._dispatcher.state.accounts[name].phase,
            "open_orders": status.open_orders,
            "noise": status.unexplained_messages,
            "clock_offset_ms": self._clocks.offset_ms(name),
            "drill": self._drills.lanes.get(name, {}),
        }

    async def _status(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        return self.status()

    async def _report(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        self._journal.flush()
        report = self._reports.get(str(request.get("id", "last")))
        if report is None:
            raise Refusal("there is no such kill")
        return {**report, "problems": await self.problems(KILL_RECORD_WITHIN_S)}

    async def _fire(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        text = _text(request, "fire")
        accounts = self._scope(request)
        wait_s = request.get("wait_s", 0)
        if not isinstance(wait_s, int | float):
            raise Refusal("wait_s must be a number of seconds")
        wait_s = min(max(0, wait_s), MAX_WAIT_S)  # because the length of the wait must not keep a kill from being sent
        if request.get("dry_run"):
            shown = await self._previews.show(accounts)
            # because a reload may have removed accounts
            still = [name for name in shown if name in self._dispatcher.sessions]
            return {"dry_run": True, "accounts": {name: {**self._account(name), **shown[name]} for name in still}}
        evidence = {"uid": caller.uid, "user": caller.user, "pid": caller.pid}
        reason = Reason("operator", text, accounts, self._dispatcher.clock(), evidence)
        self._dispatcher.fire(reason)
        kill = self._dispatcher.state.kill
        if caller.user == str(caller.uid):
            self.find_name(caller.uid)
        with anyio.move_on_after(wait_s):
            while any(account.phase.is_unfinished for account in self._still(accounts)):
                await self.news.wait()
        if caller.uid in self._unnamed:
            await self._users.name(caller.uid, SOON_S)
        self._journal.flush()
        report = None if kill is None else self._reports.get(kill.id)
        if report is None or not _has(report, reason):  # because another kill's report would be believed
            raise Refusal("the kill was sent, but its report cannot be shown: read the log, and look at the venues")
        return {**report, "asked": accounts, "problems": await self.problems(KILL_RECORD_WITHIN_S)}

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
            self._users.when_known(uid, on_name)

    async def _drill(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        return await self._drills.run(self._scope(request), "operator", uid=caller.uid, user=caller.user)

    async def _rearm(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        text = _text(request, "rearm")
        accounts = self._scope(request)
        states = self._dispatcher.state.accounts
        tripped = {name for name in accounts if states[name].phase.is_tripped}
        force = request.get("force") is True
        since_ns = self._dispatcher.clock().mono_ns
        await self._prove(tripped, since_ns)
        await self._watch.look(tripped)
        watching = list(self._watch.watching(tripped))  # read now, because a reload may have changed the triggers
        record = RearmAskedRecord(uid=caller.uid, user=caller.user, text=text, accounts=accounts)
        self._journal.append(record.kind, record.to_json(), self._dispatcher.clock())
        if not await self._recorded():
            why = self._journal.trouble or "the disk has not taken the record yet"
            raise Refusal(f"not re-armed, because it could not be recorded: {why}")
        reported_ns = self._dispatcher.reported_ns
        later = [name for name in accounts if reported_ns.get(name, 0) >= since_ns]
        blockers = (
            *(f"{name}: a reason was reported after this was asked for" for name in later),
            *self._watch.against_rearm(tripped, force=force),
        )
        asked = RearmAsked(caller.uid, caller.user, text, accounts, force, blockers, self._dispatcher.clock(), since_ns)
        if caller.gone():
            log.warning("not re-armed: %s, who asked for it, did not wait for the answer", caller.user)
            raise Refusal("not re-armed: the caller has closed the connection")
        match self._dispatcher.rearm(asked):
            case Granted(names):
                for trigger in watching:
                    self._watch.rearmed(trigger, names)
                self.changed()
                if problems := await self.problems():
                    log.error("re-armed, and not on record yet: a restart now would be tripped")
                return {"rearmed": names, **({"problems": problems} if problems else {})}
            case Waiting(approvals, needed):
                await self._recorded()
                raise Refusal(
                    f"{approvals} of {needed} people have approved: another person must type the same command", 75
                )
            case refused:
                raise Refusal("not re-armed: " + "; ".join(refused.why), why=refused.why)

    async def problems(self, within_s: float = RECORD_WITHIN_S) -> list[Problem]:
        """Have everything recorded so far written; return the journal's faults as problems."""
        unwritten = ""
        if not await self._recorded(within_s):
            unwritten = self._journal.unwritten or self._journal.silent or "the disk has not taken it yet"
        latched = self._journal.is_latched
        return of_daemon(unwritten, self._journal.unsynced, self.config.source, latched=latched)

    async def _recorded(self, within_s: float = RECORD_WITHIN_S) -> bool:
        """Have everything recorded so far written; return False if the disk has not accepted it in time."""
        self._journal.sync()
        with anyio.move_on_after(within_s):
            while not self._journal.on_record and not self._journal.unwritten:  # noqa: ASYNC110 - a thread's work
                await anyio.sleep(0.001)
        return self._journal.on_record

    async def _prove(self, names: Collection[str], since_ns: int) -> None:
        """Read the clear accounts once more; return when all reads are in, or after a bounded time."""
        for name in names:
            if self._dispatcher.state.accounts[name].phase is Phase.CLEAR:
                self._dispatcher.sessions[name].read_back()

        def waiting() -> bool:
            accounts = self._still(names)
            return any(a.phase is Phase.CLEAR and a.sweep and a.sweep.proved_ns < since_ns for a in accounts)

        rtts_ns = (a.sweep.rtt_ns for a in self._still(names) if a.sweep is not None)
        within_s = max(PROVE_WITHIN_S, min(2e-9 * max(rtts_ns, default=0), PROVE_WITHIN_MOST_S))
        with anyio.move_on_after(within_s):
            while waiting():  # noqa: ASYNC110 - a clean read of a clear account is no news
                await anyio.sleep(0.01)

    def _still(self, names: Iterable[str]) -> list[Account]:
        """Return the accounts that still exist, because a reload may have removed some."""
        accounts = self._dispatcher.state.accounts
        return [accounts[name] for name in names if name in accounts]

    def _scope(self, request: Mapping[str, Any]) -> tuple[str, ...]:
        scope = request.get("scope", [])
        if not isinstance(scope, list) or not all(isinstance(selector, str) for selector in scope):
            raise Refusal("scope must be a list of account names and tags")
        try:
            return self.config.select(scope)
        except ValueError as error:
            raise Refusal(str(error)) from None


def condition(status: AccountStatus) -> dict[str, object]:
    """Return the state of an account's lanes, in the keys of the status."""
    return {
        "venue": status.venue_name,
        "ready": status.is_ready,
        "lanes": status.lanes,
        "rtt_us": max(status.round_trips_us.values(), default=None),
        "trouble": status.troubles(),
    }


def _has(report: Mapping[str, Any], reason: Reason) -> bool:
    """Return whether a report contains this reason; of very many reasons, a report has the first and the last only."""
    observed_at = clock.iso(reason.observed.wall_ns)
    return len(report["reasons"]) > KEEP_REASONS or any(
        shown["trigger"] == reason.trigger and shown["observed_at"] == observed_at for shown in report["reasons"]
    )


def _told(trouble_lines: Callable[[], Iterable[str]]) -> list[str]:
    """Return a part's trouble lines; an exception becomes a line, so that the other parts are still shown."""
    try:
        return list(trouble_lines())
    except Exception as error:
        log.exception("a part of the status could not be built")
        return [f"internal error: {type(error).__name__}: see the log"]


def outward(phase: Phase) -> str:
    """Return the daemon's state in the three words of the status."""
    match phase:
        case Phase.ARMED:
            return "ARMED"
        case Phase.CLEAR:
            return "TRIPPED"
        case _:
            return "FIRING"


def _text(request: Mapping[str, Any], command: str) -> str:
    text = request.get("reason")
    if not isinstance(text, str) or not text.strip():
        raise Refusal(f"{command} needs a reason")
    return printable.line(text).strip()[:MAX_TEXT]
