"""Find the facts from which `health.problems` makes the problems of `status`; the control handlers use it.

It reads the daemon's parts and changes nothing of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from kill_switch import clock
from kill_switch.config.messages import closest_match
from kill_switch.control.left_behind import LeftBehind
from kill_switch.core import outcome
from kill_switch.core.domain import Phase
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.health import problems
from kill_switch.health.problems import AccountFacts, IgnoredFacts, PendingSilenceFacts, StatusProblem, TriggerFacts
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.heartbeat import HeartbeatTrigger, is_unwatched_since_rearm
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.silences import describe_span
from kill_switch.triggers.supervisor import TriggerSupervisor

log = logging.getLogger(__name__)

IGNORED_SHOWN_S = 600.0  # seconds; for so long the last ignored message of a sender is a problem


class ProblemFinder:
    """The problems of the daemon's accounts, triggers, re-arms and intake, as of now."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        reports: ReportBuilder,
        supervisor: TriggerSupervisor,
        intake: Intake,
        left_behind: LeftBehind,
    ) -> None:
        self._dispatcher = dispatcher
        self._reports = reports
        self._supervisor = supervisor
        self._intake = intake
        self._left_behind = left_behind

    def find(
        self,
        conditions: Mapping[str, tuple[TriggerState, str]],
        troubles: Iterable[str],
        journal: str,
        command: problems.Command,
    ) -> list[dict[str, object]]:
        """Return all problems as JSON, the worst first.

        `conditions` are the triggers' states, `troubles` the lines of the daemon's parts, `journal` is why records are
        not durable, "" if they are.
        """
        return problems.in_order(
            [
                *_safe_problems(lambda: self._accounts(command)),
                *_safe_problems(lambda: self._triggers(conditions, command)),
                *_safe_problems(lambda: self._approvals(command)),
                *_safe_problems(lambda: self._pending_silences(command)),
                *_safe_problems(self._ignored),
                *([problems.journal_problem(journal)] if journal else ()),
                *(problems.part_problem(line, self._dispatcher.sessions, command) for line in troubles),
            ]
        )

    def note_left(self, names: Iterable[str]) -> None:
        """Keep which orders a forced re-arm of these accounts leaves, and show them until they have gone."""
        for name in names:
            self._left_behind.note(name, self._order_ids(name))

    def left(self, names: Iterable[str]) -> list[Mapping[str, str | bool]]:
        """Return what a forced re-arm of these accounts leaves, as notes: orders that nothing cancels any more."""
        accounts = self._dispatcher.state.accounts
        return [
            outcome.make_problem(
                f"{name}: {outcome.describe_left(accounts[name].orders_left, self._order_ids(name))} left: "
                "the daemon does not cancel them any more",
                "cancel them on the venue's own page",
                note=True,
            )
            for name in names
            if name in accounts and accounts[name].phase not in (Phase.CLEAR, Phase.ARMED)
        ]

    def _order_ids(self, name: str) -> list[str]:
        return [order.id for order in self._dispatcher.sessions[name].status.orders]

    def _accounts(self, command: problems.Command) -> Iterator[StatusProblem]:
        for name, session in self._dispatcher.sessions.items():
            status, account = session.status, self._dispatcher.state.accounts[name]
            is_left, report = account.phase is Phase.RESIDUE, self._reports.account(account.kill or "", name)
            facts = AccountFacts(
                name,
                account.phase,
                status.is_killable,
                status.lanes,
                status.drill_routes,
                status.troubles(),
                account.orders_left,
                self._order_ids(name) if is_left else (),
                report.as_dict() if is_left and report is not None else None,
            )
            yield from problems.account_problems(facts, command)
            if behind := self._still_left(name, account.phase):
                yield problems.left_behind_problem(name, behind, command)

    def _still_left(self, name: str, phase: Phase) -> list[str]:
        """Return the orders that a forced re-arm has left and that are still open; a new kill cancels them."""
        if phase is not Phase.ARMED:
            self._left_behind.forget(name)
        account, now = self._dispatcher.state.accounts[name], self._dispatcher.clock()
        are_known = self._dispatcher.sessions[name].status.open_orders(account, now) is not None
        return self._left_behind.still_left(name, self._order_ids(name), are_known=are_known)

    def _triggers(
        self, conditions: Mapping[str, tuple[TriggerState, str]], command: problems.Command
    ) -> Iterator[StatusProblem]:
        armed = {name for name, account in self._dispatcher.state.accounts.items() if account.sweep is None}
        silences, now = self._supervisor.silences, self._dispatcher.clock()
        for name, trigger in self._supervisor.triggers.items():
            state, detail = conditions[name]
            silence = silences.active(name)
            waits = isinstance(trigger, HeartbeatTrigger) and is_unwatched_since_rearm(trigger)
            facts = TriggerFacts(
                name,
                trigger.kind,
                state,
                detail,
                trigger.accounts,
                self._supervisor.fires_blind(name),
                waits and not armed.isdisjoint(trigger.accounts),
                silence.describe(now) if silence else "",
                silence.end_iso(now) if silence else "",
            )
            yield from problems.trigger_problems(facts, command)

    def _pending_silences(self, command: problems.Command) -> Iterator[StatusProblem]:
        now = self._dispatcher.clock()
        for name, pending in self._supervisor.silences.all_pending().items():
            asked_at = clock.iso(now.wall_ns - (now.mono_ns - pending.asked_ns))
            people, span = " and ".join(pending.people.values()), describe_span(pending.for_ns / 1e9)
            facts = PendingSilenceFacts(name, people, pending.text, span, pending.for_ns, asked_at)
            yield problems.pending_silence_problem(facts, len(pending.people), pending.needed, command)

    def _approvals(self, command: problems.Command) -> Iterator[StatusProblem]:
        state = self._dispatcher.state
        valid = [approval for approval in self._reports.approvals.to_json() if approval["uid"] in state.approvals]
        for approval in valid:
            yield problems.approval_problem(approval, len(valid), state.approvals_needed, command)

    def _ignored(self) -> Iterator[StatusProblem]:
        now_ns = self._dispatcher.clock().mono_ns
        names = [name for name, trigger in self._supervisor.triggers.items() if trigger.kind in ("heartbeat", "pnl")]
        for ignored in self._intake.ignored_messages():
            if now_ns - ignored.at.mono_ns < IGNORED_SHOWN_S * 1e9:
                facts = IgnoredFacts(
                    ignored.name, ignored.sender, ignored.why, ignored.number, clock.iso(ignored.at.wall_ns)
                )
                yield problems.ignored_problem(facts, names, closest_match(ignored.name, names) or "")


def safe_lines(trouble_lines: Callable[[], Iterable[str]]) -> list[str]:
    """Return a part's trouble lines; an exception becomes a line, so that the other parts are still shown."""
    try:
        return list(trouble_lines())
    except Exception as error:
        log.exception("a part of the status could not be built")
        return [f"internal error: {type(error).__name__}: see the log"]


def _safe_problems(find: Callable[[], Iterable[StatusProblem]]) -> list[StatusProblem]:
    """Return the problems of one kind; an exception becomes a problem, so that the others are still shown."""
    try:
        return list(find())
    except Exception as error:
        log.exception("the problems of the status could not be found")
        text = f"internal error: {type(error).__name__}: problems of one kind are not shown"
        return [StatusProblem(problems.Rank.NOT_WATCHED, text, "journalctl -u kill-switch", "runbook/index")]
