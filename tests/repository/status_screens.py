"""Make the page of the screens of `status`, one for each condition, by the functions that decide and show them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from kill_switch.core.domain import Phase, Verdict
from kill_switch.health import problems
from kill_switch.health.problems import AccountFacts, IgnoredFacts, PendingSilenceFacts, StatusProblem, TriggerFacts
from kill_switch.terminal.status_view import StatusView

NOW = datetime(2026, 11, 29, 13, 9, 30, tzinfo=UTC)
AT = "2026-11-29T13:09:12.000000Z"
UNTIL = "2026-11-29T13:34:30.000000Z"
WIDTH = 80
COMMAND = problems.make_command(Path("/etc/kill-switch/config.toml"))
UP, CARRIERS = {"ws": "up", "http": "up"}, ("ws", "http")
INTRODUCTION = """\
# The screens of status

One screen for each condition. A line that begins with `!` names the account or the trigger, the fact, what follows from
it, behind `→` what to do, and in brackets the page of this documentation. The worst comes first. On a terminal
`status` shows no more than fits, and counts the rest; `--all` shows it. Times are in UTC, and in the zone of `$TZ` if
that differs. [The same as JSON](status.md); [exit codes](exit-codes.md).
"""


class Screen(NamedTuple):
    """A condition: its title, what the status has beside the usual, and its problems."""

    title: str
    exit_code: int
    status: Mapping[str, Any]
    problems: tuple[StatusProblem, ...] = ()


def _account(state: str = "ARMED", **more: object) -> dict[str, Any]:
    usual = {"venue": "oxfun", "ready": True, "killable": True, "lanes": UP, "rtt_us": 2100, "open_orders": 0}
    return {**usual, "state": state, "drill": {}, "clock_offset_ms": 0, **more}


def _of(name: str, **facts: Any) -> tuple[StatusProblem, ...]:
    usual = {"phase": Phase.ARMED, "is_killable": True, "lanes": UP, "carriers": CARRIERS, "troubles": {}}
    return tuple(problems.account_problems(AccountFacts(name, **{**usual, **facts}), COMMAND))


def _trigger(state: str, detail: str, kind: str = "heartbeat") -> dict[str, Any]:
    return {"kind": kind, "state": state, "detail": detail}


def screens() -> Iterator[Screen]:
    """Yield the conditions, in the order of the page."""
    fine = _account()
    both = {"mm1": fine, "rx1": {**fine, "venue": "roxom"}}
    yield Screen("All is well", 0, {"accounts": both})
    down = {"ws": "down", "http": "up"}
    gone = {"ws": "down", "http": "connecting"}
    troubles = {"ws": "no frame received for 2 s", "http": "no answer in time"}
    yield Screen(
        "An account that no command would reach",
        4,
        {"accounts": {**both, "mm1": _account(ready=False, killable=False, lanes=gone)}},
        _of("mm1", is_killable=False, lanes=gone, troubles=troubles),
    )
    yield Screen(
        "A lane is down, and the other still carries a kill",
        0,
        {"accounts": {**both, "mm1": _account(ready=False, lanes=down)}},
        _of("mm1", lanes=down, troubles=troubles),
    )
    blind = "no figure from outside for 30 s"
    facts = TriggerFacts("daily-loss", "pnl", "blind", blind, ("mm1",))
    yield Screen(
        "A trigger is blind",
        4,
        {"accounts": both, "triggers": {"daily-loss": _trigger("blind", blind, "pnl")}},
        tuple(problems.trigger_problems(facts, COMMAND)),
    )
    waits = "waits for a beat; last beat: 300.0 s ago"
    idle = TriggerFacts("quoter-alive", "heartbeat", "waiting", waits, ("mm1",), is_unwatched_since_rearm=True)
    yield Screen(
        "A bot that has sent no beat since the re-arm",
        0,
        {"accounts": both, "triggers": {"quoter-alive": _trigger("waiting", waits)}},
        tuple(problems.trigger_problems(idle, COMMAND)),
    )
    held = "for another 25 min, by ann: deploy 2.4; it would have fired: no heartbeat for 3.000 s (allowed: 3 s)"
    silenced = TriggerFacts("quoter-alive", "heartbeat", "silenced", held, silence=held, silent_until=UNTIL)
    yield Screen(
        "A trigger is silenced",
        4,
        {"accounts": both, "triggers": {"quoter-alive": _trigger("silenced", held)}},
        tuple(problems.trigger_problems(silenced, COMMAND)),
    )
    asked = PendingSilenceFacts("quoter-alive", "ann", "deploy 2.4", "30 min", 1800 * 10**9, AT)
    yield Screen(
        "A silence that waits for the second person",
        0,
        {"accounts": both, "triggers": {"quoter-alive": _trigger("ok", "last beat: 0.4 s ago, allowed: 3 s")}},
        (problems.pending_silence_problem(asked, 1, 2, COMMAND),),
    )
    tripped = {"mm1": _account("CLEAR"), "rx1": {**fine, "venue": "roxom"}}
    why = [{"trigger": "operator", "text": "runaway quoter", "observed_at": AT}]
    yield Screen("A kill of some accounts", 3, {"state": "TRIPPED", "accounts": tripped, "why": why})
    report = {"verdict": Verdict.UNKNOWN, "claimed": 9, "strikes": 3, "answered_us": 1900}
    yield Screen(
        "Orders are left",
        3,
        {"state": "FIRING", "accounts": {**tripped, "mm1": _account("RESIDUE", open_orders=3)}, "why": why},
        _of("mm1", phase=Phase.RESIDUE, left=3, order_ids=("109", "110", "111"), report=report),
    )
    yield Screen(
        "Orders that a forced re-arm has left",
        0,
        {"accounts": {**both, "mm1": _account(open_orders=3)}},
        (problems.left_behind_problem("mm1", ("109", "110", "111"), COMMAND),),
    )
    approval = {"uid": 7, "user": "ann", "at": AT, "text": "quoter fixed", "accounts": ["mm1"]}
    yield Screen(
        "A re-arm that waits for the second person",
        3,
        {"state": "TRIPPED", "accounts": tripped, "why": why},
        (problems.approval_problem(approval, 1, 2, COMMAND),),
    )
    hook = "hook systemctl stop quoter failed for kill k7-1796003805: exit code 1: what it stops may still run"
    yield Screen(
        "A hook that failed",
        3,
        {"state": "TRIPPED", "accounts": tripped, "why": why},
        (problems.part_problem(hook, (), COMMAND),),
    )
    ignored = IgnoredFacts("quoter-alife", "process 4711 of user 1000", "no such trigger", 12, AT)
    names = ["quoter-alive"]
    yield Screen(
        "Messages that are ignored",
        0,
        {"accounts": both, "triggers": {"quoter-alive": _trigger("waiting", "waits for a beat; last beat: never")}},
        (problems.ignored_problem(ignored, names, names[0]),),
    )


def page() -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for screen in screens():
        usual = {"state": "ARMED", "since": AT, "triggers": {}, "why": []}
        status = {**usual, **screen.status, "problems": problems.in_order(screen.problems)}
        out = io.StringIO()
        Console(file=out, width=WIDTH, highlight=False).print(StatusView(status, None, NOW, UTC))
        shown = "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
        lines += [f"## {screen.title}", "", f"Exit code {screen.exit_code}.", "", "```text", shown, "```", ""]
    return "\n".join(lines)
