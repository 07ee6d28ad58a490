"""Decide for all accounts: the latch, the kills, and the gate of a re-arm.

The engine is pure: `step(state, event) -> (state, commands)`, with the time in the event. The dispatcher is the only
interpreter of the commands and carries them out in their order.

Per account; the daemon's state is the worst of its accounts' states:

    state                  ReasonReported  Progress            last clean read   RearmAsked                 Recovered¹
    ARMED                  → STRIKING      –                   –                 refused: not tripped       stays
    STRIKING, CONFIRMING   recorded        recorded            → CLEAR           refused                    strike again
    RESIDUE                strikes again   recorded, goes on   → CLEAR           refused; force allowed     strike again
    CLEAR                  strikes again   order → STRIKING    stays             → ARMED if the gate holds  guards

    ¹ and Reconfigured, for an account whose session with its venue is a new one.

"""

# The latch holds from the first reason on: no event but a granted `RearmAsked` leads to ARMED. A kill lasts from the
# first reason until every account in its scope is clear. A reason that arrives before that joins the kill, a later
# reason begins the next kill. A re-arm whose gate does not hold changes nothing and is answered with every reason.
#
# The latch belongs to the account that was struck, not to its name. The record of a kill has the account's identity. If
# the name gets another login, the account must be proven clear again under that login. If the struck login was not
# proven clear, its proof is missing as well, and only `force` re-arms the account.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import assert_never

from kill_switch.core import announcements
from kill_switch.core import sweep as sweeping
from kill_switch.core.commands import (
    Announce,
    AppendRecord,
    Command,
    PulseAnswered,
    ReadOrders,
    RearmGranted,
    RearmPending,
    RearmRefused,
    StrikeAccounts,
    WakeAt,
)
from kill_switch.core.domain import Instant, Phase, Severity
from kill_switch.core.events import (
    Event,
    Progress,
    Pulse,
    RearmAsked,
    ReasonReported,
    Reconfigured,
    Recovered,
    StrikeSent,
    StrikesSent,
)
from kill_switch.core.rearm_gate import find_rearm_blockers
from kill_switch.core.state import AccountState, Kill, State, describe_login_mismatch, make_kill_id
from kill_switch.core.sweep import SweepAction
from kill_switch.core.sweep_state import Sweep
from kill_switch.errors import IllegalEvent

_ONE_PASS_NS = 5_000_000  # a strike that leaves later than this did not leave in its pass


def step(state: State, event: Event) -> tuple[State, tuple[Command, ...]]:
    """Return the state after an event, and the commands to carry out in their order.

    Raises `IllegalEvent`, with nothing changed, for an event that names an unknown account or that cannot happen.
    """
    match event:
        case ReasonReported():
            return _on_reason(state, event)
        case Progress():
            return _on_progress(state, event)
        case StrikesSent():
            return _on_strikes_sent(state, event)
        case RearmAsked():
            return _rearm(state, event)
        case Recovered(at):
            return _on_recovered(state, at)
        case Reconfigured():
            return _on_reconfigured(state, event)
        case Pulse():
            return state, (PulseAnswered(),)
        case _:
            assert_never(event)


def _on_reason(state: State, event: ReasonReported) -> tuple[State, tuple[Command, ...]]:
    reason, at = event
    at_ns = at.mono_ns
    running = state.kill is not None and bool(state.kill.unclear)
    kills = state.kill_count if running else state.kill_count + 1
    kill_id = state.kill.id if running and state.kill else make_kill_id(kills, reason.observed_at, state.kill_id_prefix)
    accounts = dict(state.accounts)
    strikes: list[tuple[str, int]] = []
    wakes: list[WakeAt] = []
    begun: Sweep | None = None  # because accounts with the same timing begin with the same sweep
    for name in reason.accounts:
        account = accounts.get(name)
        if account is None:
            raise _unknown_account(name, "ReasonReported")
        sweep = account.sweep
        if sweep is None:
            if begun is None or begun.timing is not account.timing:
                begun = sweeping.start_sweep(account.timing, at_ns, together=len(reason.accounts))
            sweep = begun
        elif sweep.phase in (Phase.CLEAR, Phase.RESIDUE):
            sweep, _ = sweeping.step(sweep, sweeping.Restruck(at_ns))
        else:  # it is struck already; its later records belong to this reason's kill
            accounts[name] = account._replace(kill=kill_id)
            continue
        accounts[name] = AccountState(account.timing, sweep, kill_id, account.identity, account.unproven_identities)
        strikes.append((name, sweep.strikes))
        wakes.append(WakeAt(name, sweep.wake_ns))
    scope = frozenset(reason.accounts)
    if running and state.kill is not None:
        kill = state.kill._replace(accounts=state.kill.accounts | scope, unclear=state.kill.unclear | scope)
    else:
        kill = Kill(kill_id, reason.observed_at, scope, scope)
    record = AppendRecord(
        "reason",
        {
            "kill": kill_id,
            "trigger": reason.trigger,
            "text": reason.text,
            "accounts": reason.accounts,
            "identities": {name: accounts[name].identity for name in reason.accounts if accounts[name].identity},
            "evidence": reason.evidence,
            "observed_mono_ns": reason.observed_at.mono_ns,
            "observed_wall_ns": reason.observed_at.wall_ns,
        },
        latch=True,
    )
    announcement = announcements.kill_begun(reason)
    approvals = MappingProxyType[int, frozenset[str]]({})  # a reason voids pending approvals
    after = State(accounts, kill, kills, state.approvals_needed, approvals, kill_id_prefix=state.kill_id_prefix)
    return after, (record, StrikeAccounts(tuple(strikes)), *wakes, announcement) if strikes else (record, announcement)


def _on_progress(state: State, event: Progress) -> tuple[State, tuple[Command, ...]]:
    name = event.account
    account = state.accounts.get(name)
    if account is None:
        raise _unknown_account(name, type(event.event).__name__)
    before = account.sweep
    if before is None:
        return state, ()  # the engine ignores orders of an armed account; a late answer changes nothing
    sweep, actions = sweeping.step(before, event.event)
    accounts = dict(state.accounts)
    accounts[name] = AccountState(account.timing, sweep, account.kill, account.identity, account.unproven_identities)
    kill, approvals = state.kill, state.approvals
    if before.phase is Phase.CLEAR and sweep.phase is not Phase.CLEAR:  # a guard read has found an order
        approvals = {}  # because the persons who approved did not know of the order
        if kill is not None and kill.id == account.kill:
            kill = kill._replace(unclear=kill.unclear | {name})
    record = _progress_record(event, before, account.kill)
    commands: list[Command] = [] if record is None else [record]
    for action in actions:
        match action:
            case SweepAction.STRIKE:
                commands.append(StrikeAccounts(((name, sweep.strikes),)))
            case SweepAction.READ:
                commands.append(ReadOrders(name))
            case SweepAction.CLEAR:
                kill, proven = _on_proven_clear(kill, account.kill, name, sweep.strikes, event.at.mono_ns)
                commands += proven
            case SweepAction.RESIDUE:
                commands += _residue_commands(account.kill, name, sweep.orders_left, event.at.mono_ns)
            case _:
                assert_never(action)
    if sweep.wake_ns != before.wake_ns:
        commands.append(WakeAt(name, sweep.wake_ns))
    after = State(
        accounts, kill, state.kill_count, state.approvals_needed, approvals, kill_id_prefix=state.kill_id_prefix
    )
    return after, tuple(commands)


def _progress_record(event: Progress, before: Sweep, kill: str | None) -> AppendRecord | None:
    """Return the record of an answer, a read or a seen order; None if there is nothing to record.

    `before` is the account's sweep before the event, `kill` the id of the account's kill.
    """
    data: dict[str, object]
    match event.event:
        case sweeping.StrikeAnswered(at_ns, outcome):
            data = {
                "kill": kill,
                "account": event.account,
                "strike": event.strike or before.strikes,
                "answer": outcome,
                "mono_ns": at_ns,
                "evidence": event.evidence,
                "cancelled": event.cancelled,
            }
            if event.orders is not None:
                data["orders"] = event.orders
            return AppendRecord("answer", data)
        case sweeping.ReadCounted(at_ns, asked_ns, live, pending, complete) if (
            before.phase is not Phase.CLEAR or live or pending or event.cancelled or event.orders is not None
        ):
            data = {
                "kill": kill,
                "account": event.account,
                "live": live,
                "pending": pending,
                "complete": complete,
                "stale": asked_ns < before.reads_before_are_stale_ns,
                "mono_ns": at_ns,
                "evidence": event.evidence,
                "cancelled": event.cancelled,
            }
            if event.orders is not None:
                data["orders"] = event.orders
            return AppendRecord("read", data)
        case sweeping.OrderAppeared(at_ns) if before.phase is Phase.CLEAR:
            data = {"kill": kill, "account": event.account, "mono_ns": at_ns, "evidence": event.evidence}
            return AppendRecord("seen", data)
        case _:
            return None


def _on_proven_clear(
    kill: Kill | None, account_kill: str | None, name: str, strikes: int, at_ns: int
) -> tuple[Kill | None, list[Command]]:
    """Mark the account as clear in the running kill; return the kill, and the records and announcements of the proof.

    `account_kill` is the id of the kill that the account was last struck for, `at_ns` is monotonic.
    """
    data = {"kill": account_kill, "account": name, "strikes": strikes, "mono_ns": at_ns}
    commands: list[Command] = [
        AppendRecord("clear", data),
        Announce(Severity.CLEAR, f"proven clear after {strikes} strike(s)", name),
    ]
    if kill is None or name not in kill.unclear:
        return kill, commands
    kill = kill._replace(unclear=kill.unclear - {name})
    if not kill.unclear:
        commands.append(AppendRecord("all-clear", {"kill": kill.id, "mono_ns": at_ns}))
        commands.append(Announce(Severity.CLEAR, f"every account of kill {kill.id} is proven clear"))
    return kill, commands


def _residue_commands(kill: str | None, name: str, orders_left: int | None, at_ns: int) -> list[Command]:
    """Return the record and the announcement of an account that is not clear at the deadline (`at_ns`, monotonic)."""
    return [
        AppendRecord("residue", {"kill": kill, "account": name, "left": orders_left, "mono_ns": at_ns}),
        announcements.orders_left(name, orders_left),
    ]


def _on_strikes_sent(state: State, event: StrikesSent) -> tuple[State, tuple[Command, ...]]:
    accounts = dict(state.accounts)
    fields: list[dict[str, object]] = []
    for sent in event.sent:
        account = accounts.get(sent.account)
        if account is None:
            raise _unknown_account(sent.account, "StrikesSent")
        if not sent.further:  # a strike of many calls has hundreds, and its answer must not drown in their records
            fields.append(_strike_fields(account.kill, sent))
        sweep = account.sweep
        if sweep is not None and sweep.phase is not Phase.CLEAR and sent.mono_ns > sweep.struck_ns + _ONE_PASS_NS:
            sweep, _ = sweeping.step(sweep, sweeping.StrikeSentLate(sent.mono_ns))
            accounts[sent.account] = account._replace(sweep=sweep)
    return state._replace(accounts=accounts), (AppendRecord("strike", {"sent": fields}),) if fields else ()


def _strike_fields(kill: str | None, sent: StrikeSent) -> dict[str, object]:
    fields: dict[str, object] = {
        "kill": kill,
        "account": sent.account,
        "strike": sent.strike,
        "routes": sent.routes,
        "mono_ns": sent.mono_ns,
    }
    return fields if sent.orders is None else {**fields, "orders": sent.orders}


def _rearm(state: State, event: RearmAsked) -> tuple[State, tuple[Command, ...]]:
    _require_known(state, event.accounts, "RearmAsked")
    asked = {"uid": event.uid, "user": event.user, "text": event.text, "force": event.force}
    tripped = tuple(name for name in event.accounts if state.accounts[name].sweep is not None)
    why = find_rearm_blockers(state, event, tripped)
    if why:
        refused = AppendRecord("rearm-refused", {**asked, "accounts": event.accounts, "why": why})
        return state, (refused, RearmRefused(why))
    approvals = {**state.approvals, event.uid: frozenset(tripped) | state.approvals.get(event.uid, frozenset())}
    agreed = sum(1 for approved in approvals.values() if approved.issuperset(tripped))
    if agreed < state.approvals_needed:
        record = AppendRecord("rearm-approved", {**asked, "accounts": tripped}, latch=True)
        pending = RearmPending(agreed, state.approvals_needed)
        if approvals == state.approvals:  # typed again: people know
            return state, (record, pending)
        announcement = announcements.approval_asked(event, tripped, pending)
        return state._replace(approvals=approvals), (record, pending, announcement)
    accounts = {
        name: AccountState(account.timing, None, account.kill, account.identity) if name in tripped else account
        for name, account in state.accounts.items()
    }
    kill = state.kill and state.kill._replace(unclear=state.kill.unclear - frozenset(tripped))
    after = state._replace(accounts=accounts, kill=kill, approvals={})
    announcement = announcements.rearmed(event, tripped)
    people = tuple(uid for uid, approved in approvals.items() if approved.issuperset(tripped))
    record = AppendRecord("rearm", {**asked, "accounts": tripped, "approvals": people}, latch=True)
    return after, (record, RearmGranted(tripped), announcement)


def _on_recovered(state: State, at: Instant) -> tuple[State, tuple[Command, ...]]:
    tripped = state.tripped
    after, commands = _resume_accounts(state._replace(renamed={}), tripped, at)
    if not tripped:
        return after, ()
    striking = tuple(name for name in tripped if state.accounts[name].phase is not Phase.CLEAR)
    data = {"accounts": tripped, "striking": striking, **_identity_fields(after, tripped, state.renamed)}
    record = AppendRecord(
        "resume", data, latch=bool(state.renamed)
    )  # durable, because nothing else remembers the new names
    news = [
        Announce(Severity.WARN, f"{new} was struck as {old}: it is tripped", new) for old, new in state.renamed.items()
    ]
    news += [
        Announce(Severity.WARN, strange, name)
        for name in tripped
        if (strange := describe_login_mismatch(after.accounts[name]))
    ]
    return after, (record, *commands, Announce(Severity.WARN, f"started tripped: {', '.join(tripped)}"), *news)


def _identity_fields(state: State, names: Iterable[str], moved: Mapping[str, str]) -> dict[str, object]:
    """Return the fields of a record that identify these accounts; `moved` has old name → new name."""
    known = ((name, state.accounts[name]) for name in names)
    identities = {name: (*account.unproven_identities, account.identity) for name, account in known if account.identity}
    return {"identities": identities, "moved": dict(moved)}


def _on_reconfigured(state: State, event: Reconfigured) -> tuple[State, tuple[Command, ...]]:
    for name in state.tripped:
        if name not in event.timings:
            raise IllegalEvent(f"{name} {state.accounts[name].phase}", "Reconfigured")
    accounts = {}
    for name, timing in event.timings.items():
        account = state.accounts.get(name, AccountState(timing))
        sweep = account.sweep and account.sweep._replace(timing=timing)
        if sweep is not None and name in event.unproven_identities:  # because the proof was about another login
            sweep = sweep._replace(phase=Phase.STRIKING)
        identity = event.identities.get(name, account.identity)
        unproven = event.unproven_identities.get(name, account.unproven_identities)
        accounts[name] = AccountState(timing, sweep, account.kill, identity, unproven)
    kill, others = state.kill, tuple(name for name in event.unproven_identities if accounts[name].sweep is not None)
    if kill is not None:
        kill = kill._replace(unclear=kill.unclear | {name for name in others if accounts[name].kill == kill.id})
    after = state._replace(accounts=accounts, kill=kill, approvals_needed=event.approvals_needed, approvals={})
    after, commands = _resume_accounts(
        after, tuple(name for name in after.tripped if name in event.new_logins), event.at
    )
    if not event.unproven_identities and not event.renamed:
        return after, commands
    data = {
        "accounts": tuple(event.unproven_identities),
        **_identity_fields(after, event.unproven_identities, event.renamed),
    }
    record = AppendRecord("identity", data, latch=True)
    news = [
        Announce(Severity.WARN, strange, name)
        for name in others
        if (strange := describe_login_mismatch(after.accounts[name]))
    ]
    return after, (record, *commands, *news)


def _resume_accounts(state: State, names: tuple[str, ...], at: Instant) -> tuple[State, tuple[Command, ...]]:
    """Strike or guard the tripped accounts in `names`, because answers to their last strike and read cannot arrive."""
    accounts = dict(state.accounts)
    strikes: list[tuple[str, int]] = []
    wakes: list[WakeAt] = []
    for name, account in state.accounts.items():
        if (old := account.sweep) is None or name not in names:
            continue
        if old.phase is Phase.CLEAR:
            sweep = sweeping.resume_guard(account.timing, at.mono_ns, old.strikes)
        else:
            sweep = sweeping.start_sweep(account.timing, at.mono_ns, old.strikes + 1, together=len(names))
            strikes.append((name, sweep.strikes))
        accounts[name] = account._replace(sweep=sweep)
        wakes.append(WakeAt(name, sweep.wake_ns))
    return state._replace(accounts=accounts), (*((StrikeAccounts(tuple(strikes)),) if strikes else ()), *wakes)


def _require_known(state: State, accounts: tuple[str, ...], event: str) -> None:
    for name in accounts:
        if name not in state.accounts:
            raise _unknown_account(name, event)


def _unknown_account(name: str, event: str) -> IllegalEvent:
    return IllegalEvent(f"a state without account {name!r}", event)
