"""Decide what a person must read in `status`: each condition becomes a problem, with its remedy. Pure.

The control handlers find the facts, and put the problems into the answer, the worst first; `terminal` shows them. A
problem names the account or the trigger, the fact, what follows from it, the command to type, and the runbook's page.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from kill_switch.config.defaults import CONFIG
from kill_switch.core import outcome
from kill_switch.core.domain import Phase, Verdict
from kill_switch.core.outcome import describe_left

MAX_ACCOUNTS = 3  # accounts that a line names

Command = Callable[[str], str]  # the words behind "kill-switch" → the whole command


class Rank(IntEnum):
    """How bad a problem is; the worst is shown first."""

    ORDERS_LEFT = 0
    NOT_KILLABLE = 1
    NOT_WATCHED = 2
    WAITS_FOR_A_PERSON = 3
    DEGRADED = 4
    TO_MEND = 5


class StatusProblem(NamedTuple):
    """A line of `status`: the fact and its consequence, the remedy, and the page of the runbook."""

    rank: Rank
    text: str
    do: str
    page: str  # below docs, without ".md"
    account: str = ""
    trigger: str = ""
    at: str = ""  # since when, or until when; ISO 8601 in UTC

    def to_json(self) -> dict[str, object]:
        """Return the problem in the keys of `status --json`, without an account, trigger or time that it lacks."""
        about = {"account": self.account, "trigger": self.trigger, "at": self.at}
        known = {key: value for key, value in about.items() if value}
        return {**known, "text": self.text, "do": self.do, "page": self.page, "rank": int(self.rank)}


class AccountFacts(NamedTuple):
    """The condition of an account."""

    name: str
    phase: Phase
    is_killable: bool
    lanes: Mapping[str, str]  # route → state
    carriers: Sequence[str]  # routes that carry a kill
    troubles: Mapping[str, str]  # route → why it does not serve as it should
    left: int | None = None  # orders that a kill has left; None: unknown
    order_ids: Sequence[str] = ()  # of the orders that are known to be open
    report: Mapping[str, Any] | None = None  # the account's part of its kill's report


class TriggerFacts(NamedTuple):
    """The condition of a trigger."""

    name: str
    kind: str
    state: str
    detail: str
    accounts: Sequence[str] = ()
    fires_blind: bool = False  # `on_blind = "fire"`
    is_unwatched_since_rearm: bool = False  # a heartbeat that waits for the first beat after a re-arm
    silence: str = ""  # how long, by whom and why it is silenced; "": it is not
    silent_until: str = ""  # ISO 8601 in UTC


class PendingSilenceFacts(NamedTuple):
    """A silence of a trigger that waits for another person."""

    trigger: str
    people: str  # who have asked for it
    text: str  # the planned work
    span: str  # how long, for people
    for_ns: int
    at: str  # of the last approval, ISO 8601 in UTC


class IgnoredFacts(NamedTuple):
    """Messages of one name and one sender that the intake has ignored for one reason."""

    name: str
    sender: str
    why: str
    number: int
    at: str  # of the last one


def make_command(source: Path) -> Command:
    """Return a function that writes a command for the daemon of that configuration."""
    option = "" if str(source) == CONFIG else f" -c {shlex.quote(str(source))}"

    return lambda words: f"kill-switch {words}{option}"


def in_order(problems: Iterable[StatusProblem]) -> list[dict[str, object]]:
    """Return the problems as JSON, the worst first."""
    return [problem.to_json() for problem in sorted(problems, key=lambda problem: problem.rank)]


# ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def account_problems(facts: AccountFacts, command: Command) -> Iterator[StatusProblem]:
    """Yield what is wrong with an account: orders that a kill has left, and lanes that would carry none."""
    if facts.phase is Phase.RESIDUE:
        yield _orders_left(facts, command)
    if not facts.is_killable:
        yield _not_killable(facts, command)
        return
    down = {route: state for route, state in facts.lanes.items() if state != "up"}
    for route, state in down.items():
        others = [other for other in facts.lanes if other not in down and other in facts.carriers]
        why = facts.troubles.get(route, "")
        yield StatusProblem(
            Rank.DEGRADED,
            f"the {route} lane is {state}{f' ({why})' if why else ''}: a kill still goes over {' and '.join(others)}",
            command(f"drill --scope {facts.name}"),
            "runbook/an-account-is-not-ready",
            account=facts.name,
        )


def describe_answer(report: Mapping[str, Any] | None) -> str:
    """Return what the venue has answered to the cancels of a kill that has left orders."""
    if report is None:
        return "the venue's answer is not known"
    evidence = f": {report['evidence']}" if report.get("evidence") else ""
    match report["verdict"]:
        case Verdict.REFUSED:
            return f"the venue refuses the cancels{evidence}"
        case Verdict.UNSENT:
            return f"no cancel could be sent{evidence}"
        case Verdict.UNKNOWN if report.get("answered_us") is None:
            return f"the venue has not answered the cancels{evidence}"
        case _:
            claimed = report.get("claimed")
            claims = "" if claimed is None else f" ({claimed} cancelled, it says, in {report['strikes']} strikes)"
            return f"the venue has accepted the cancels{claims}, and the orders are still there"


def _orders_left(facts: AccountFacts, command: Command) -> StatusProblem:
    left, answer = describe_left(facts.left, facts.order_ids), describe_answer(facts.report)
    return StatusProblem(
        Rank.ORDERS_LEFT,
        f"RESIDUE, {left} left after the kill: {answer}; they may fill, and the daemon goes on cancelling",
        f"cancel them on the venue's own page; {command('report')}",
        "runbook/orders-are-left",
        account=facts.name,
    )


def left_behind_problem(name: str, ids: Sequence[str], command: Command) -> StatusProblem:
    """Return that orders are open which a forced re-arm has left."""
    return StatusProblem(
        Rank.ORDERS_LEFT,
        f"{describe_left(len(ids), ids)} left by a forced re-arm: the daemon does not cancel them, and they may fill",
        f"cancel them on the venue's own page, or {command(f'fire --scope {name}')}",
        "runbook/orders-are-left",
        account=name,
    )


def _not_killable(facts: AccountFacts, command: Command) -> StatusProblem:
    routes = [route for route in facts.lanes if route in facts.carriers]
    known = {route: facts.troubles[route] for route in routes or facts.lanes if facts.troubles.get(route)}
    refused = {route: why for route, why in facts.troubles.items() if route not in known}
    why = "; ".join(f"{route}: {trouble}" for route, trouble in {**known, **refused}.items())
    states = ", ".join(f"{route} {state}" for route, state in facts.lanes.items())
    owes = "; it owes an answer" if any(facts.lanes[route] == "up" for route in routes) else ""
    follows = "a kill now would leave its orders" if facts.phase is Phase.ARMED else "its kill cannot be proven"
    return StatusProblem(
        Rank.NOT_KILLABLE,
        f"no command would reach the venue ({why or states + owes}): {follows}",
        f"stop its bots; {command('check --connect')}",
        "runbook/an-account-is-not-ready",
        account=facts.name,
    )


# ── triggers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def trigger_problems(facts: TriggerFacts, command: Command) -> Iterator[StatusProblem]:
    """Yield what is wrong with a trigger: it is blind or silenced, or waits for a bot that may be dead."""
    scope = "".join(f" --scope {name}" for name in facts.accounts) if len(facts.accounts) <= MAX_ACCOUNTS else ""
    if facts.silence:
        seen = facts.detail if facts.state == "silenced" else facts.silence  # the detail has what the trigger sees too
        yield StatusProblem(
            Rank.NOT_WATCHED,
            f"silenced {seen}: it fires nothing until then",
            command(f"silence {facts.name} --end"),
            "guides/silence",
            trigger=facts.name,
            at=facts.silent_until,
        )
    elif facts.state == "blind":
        follows = "its accounts are killed for that" if facts.fires_blind else "it fires nothing until it sees again"
        yield StatusProblem(
            Rank.NOT_WATCHED,
            f"blind: {facts.detail}: {follows}",
            f"mend its input, or kill by hand: {command(f'fire --reason blind{scope}')}",
            "runbook/a-trigger-is-blind",
            trigger=facts.name,
        )
    elif facts.is_unwatched_since_rearm:
        yield StatusProblem(
            Rank.WAITS_FOR_A_PERSON,
            "no beat has come since the re-arm: a bot that is dead now is not noticed",
            f"start the bot, or look at it; by hand: {command(f'beat {facts.name}')}",
            "runbook/a-bot-is-dead",
            trigger=facts.name,
        )


# ── people, and the rest ──────────────────────────────────────────────────────────────────────────────────────────────


def approval_problem(approval: Mapping[str, Any], count: int, needed: int, command: Command) -> StatusProblem:
    """Return that a re-arm waits for another person; `approval` is one of `ReportBuilder.approvals`."""
    names, user = list(approval["accounts"]), approval["user"]
    shown = ", ".join(names[:MAX_ACCOUNTS]) + (f" and {len(names) - MAX_ACCOUNTS} more" if names[MAX_ACCOUNTS:] else "")
    scope = "".join(f" --scope {name}" for name in names) if len(names) <= MAX_ACCOUNTS else ""
    return StatusProblem(
        Rank.WAITS_FOR_A_PERSON,
        f"{user} has approved the re-arm of {shown} ({approval['text']}): {count} of {needed} people; it stays tripped",
        f"another person than {user} types {command(f'rearm --reason …{scope}')}",
        "runbook/re-arm-is-refused",
        at=str(approval["at"]),
    )


def pending_silence_problem(facts: PendingSilenceFacts, count: int, needed: int, command: Command) -> StatusProblem:
    """Return that a silence waits for another person."""
    typed = command(f"silence {facts.trigger} --for {_exact_duration(facts.for_ns)} --reason …")
    asked = f"{facts.people} has asked to silence it for {facts.span} ({facts.text})"
    return StatusProblem(
        Rank.WAITS_FOR_A_PERSON,
        f"{asked}: {count} of {needed} people; it fires as before",
        f"another person than {facts.people} types {typed}",
        "guides/silence",
        trigger=facts.trigger,
        at=facts.at,
    )


def _exact_duration(ns: int) -> str:
    """Return a duration as the configuration and `--for` take it."""
    units = (("h", 3600 * 10**9), ("m", 60 * 10**9), ("s", 10**9))
    return next((f"{ns // size}{unit}" for unit, size in units if ns % size == 0), f"{ns / 1e6:g}ms")


def ignored_problem(facts: IgnoredFacts, triggers: Sequence[str], near: str) -> StatusProblem:
    """Return that messages were ignored; `near` is a trigger with a similar name, "" if there is none."""
    count = f"{facts.number} message{'s' if facts.number > 1 else ''}"
    about = f' for "{facts.name}"' if facts.name else ""
    hint = f'; did you mean "{near}"?' if near else f"; there are {', '.join(triggers)}" if triggers else ""
    return StatusProblem(
        Rank.TO_MEND,
        f"{count}{about} from {facts.sender or 'an unknown sender'} ignored: {facts.why}: it beats for nothing",
        f"correct the sender{hint if facts.why == 'no such trigger' else ''}",
        "reference/intake",
        at=facts.at,
    )


PARTS: Mapping[str, tuple[str, str]] = {  # how a part's line begins → the command, the page
    "drill": ("drill", "guides/drills"),
    "clock": ("", "guides/drills"),
    "intake": ("", "reference/intake"),
    "intent": ("", "runbook/the-disk-is-full"),
    "hook": ("journal --kind hook", "guides/hooks"),
    "notify": ("", "guides/notifications"),
    "ping": ("", "guides/notifications"),
    "metrics": ("", "guides/metrics"),
    "certificate": ("check --connect", "runbook/an-account-is-not-ready"),
}

GRAVE = ("hook", "intent", "intake")  # parts whose faults concern a kill, or the watching for its reasons


def part_problem(line: str, accounts: Iterable[str], command: Command) -> StatusProblem:
    """Return the problem that a line about a part of the program, or about an account, tells of."""
    for name in accounts:
        for beginning in (f"{name}: ", f"{name} ", f"account {name}: "):
            if line.startswith(beginning):
                text, page = line[len(beginning) :], "runbook/an-account-is-not-ready"
                return StatusProblem(Rank.TO_MEND, text, "look at the account on the venue's page", page, account=name)
    part = next((part for part in PARTS if line.startswith(part)), "")
    words, page = PARTS.get(part, ("", "runbook/index"))
    rank = Rank.DEGRADED if part in GRAVE else Rank.TO_MEND
    return StatusProblem(rank, line, command(words) if words else "journalctl -u kill-switch", page)


def journal_problem(trouble: str) -> StatusProblem:
    """Return that records are not durable now: the journal's file was taken away, or the disk refuses them."""
    if outcome.DISPLACED in trouble:
        follows = "the next start is tripped, and cancels every order"
        do, page = f"{outcome.PUT_BACK}; cp -a the directory first", "the-journal-is-broken"
    else:
        follows = "a restart may not know what was done"
        do, page = "mend the disk, and do not restart the daemon before; df -h", "the-disk-is-full"
    return StatusProblem(Rank.DEGRADED, f"{trouble}: {follows}", do, f"runbook/{page}")
