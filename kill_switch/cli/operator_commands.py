"""The operator's commands: `status`, `fire`, `drill`, `rearm`, `reload`.

All but `fire --direct` ask the daemon over its control socket. Nothing here reads a secret,
except `fire --direct`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import click

from kill_switch import printable
from kill_switch.cli import direct_fire, kill_verb
from kill_switch.cli.common import (
    Seconds,
    ask,
    config_option,
    json_option,
    print_json,
    refusal,
    say,
    say_problems,
    scope_option,
    with_config,
)
from kill_switch.core import outcome
from kill_switch.core.wholeness import is_whole
from kill_switch.errors import Unreachable, Unresponsive
from kill_switch.terminal import streams

MAX_WAIT_S = 3600.0
ANSWERED_WITHIN_S = 10.0  # seconds for the daemon to answer `fire`, beyond --wait
KNOWN_WITHIN_S = 2.0  # seconds for the daemon to answer `status`
NOT_WHOLE = 4  # exit code of `status`


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Redraw twice a second, until interrupted.")
@click.option("--all", "everything", is_flag=True, help="Show every account and trigger, also beyond the screen.")
@click.option("--explain", is_flag=True, help="Also say what each column and word means.")
def status(config: Path | None, as_json: bool, watch: bool, everything: bool, explain: bool) -> None:
    """Show the state, and each problem with its remedy.

    A line that begins with "!" names an account or a trigger, the fact, what follows from it, the command to type and
    the runbook's page. Lines that do not fit on the terminal are counted; --all shows them.

    Exit code 0: armed, every account could be killed now, and every trigger watches. 4: armed, but not whole. 3:
    tripped or firing. 69: no daemon answers within 2 s.

    \b
    Examples:
      kill-switch status
      kill-switch status --watch
      kill-switch status --explain
      kill-switch status --json | jq .state
    """
    if watch and not as_json:
        from kill_switch.terminal import status_view

        status_view.watch_status(lambda: ask(config, {"cmd": "status"}, timeout_s=KNOWN_WITHIN_S), with_config)
        return
    answer = ask(config, {"cmd": "status"}, timeout_s=KNOWN_WITHIN_S)
    if as_json:
        print_json(answer)
    else:
        from kill_switch.terminal import status_view

        # because the explanation is longer than a screen, nothing of the status is left out above it
        status_view.print_status(answer, everything=everything or explain, with_config=with_config)
        if explain:
            from kill_switch.terminal import explain as words

            words.print_explanation(words.STATUS_COLUMNS, words.STATUS_WORDS)
    sys.exit(3 if answer["state"] != "ARMED" else 0 if is_whole(answer) else NOT_WHOLE)


@click.command(cls=kill_verb.KillCommand)
@config_option
@json_option
@scope_option
@click.option("--reason", default="", help='Recorded in the journal; default: "operator NAME, no reason given".')
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(),
    default=10.0,
    show_default=True,
    help="Seconds (10, 10s) to wait for the proof; 0: do not wait.",
)
@click.option("--direct", is_flag=True, help="Kill from this process, without the daemon.")
@click.option(
    "--direct-after",
    "direct_after_s",
    type=Seconds(),
    metavar="SECONDS",
    help="Go on as --direct if the daemon has not acknowledged the kill within SECONDS (3, 3s).",
)
@click.option("--dry-run", is_flag=True, help="Only list the orders and the commands that would be sent.")
def fire(
    config: Path | None,
    reason: str,
    scope: Sequence[str],
    wait_s: float,
    direct: bool,
    direct_after_s: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Kill: cancel every order in scope, prove it, stay tripped.

    `kill` and `trip` are other names of this command. Without --scope it hits every account, and says first how many.
    A command line that is not understood as a whole fires nothing, and ends with 2; so does --help.

    --wait bounds only the wait for the proof. With --direct, that wait begins once every account has answered.
    Connecting, logging in and the first answers take 23 s at most; an account that has not answered by then is given
    up. Ctrl-C ends the wait for the proof; a second Ctrl-C ends the command.

    Where a venue's lists lag (Binance: 20 s), the proof takes longer than the default. The command then ends with 1,
    and prints in how many seconds `kill-switch status` can show the proof.

    --direct needs no daemon. It kills every account that the configuration is complete for, and names the others. Exit
    code 1: there are others.

    With --direct-after, the daemon is asked first. If it does not acknowledge the kill in time, or no daemon runs, this
    command goes on as --direct. A daemon that hung and wakes then kills too: that is harmless, and one re-arm ends it.

    \b
    Examples:
      kill-switch fire
      kill-switch fire --scope desk:mm --reason "desk closed" --wait 30s
      kill-switch fire --dry-run
      kill-switch fire --direct
      kill-switch fire --direct-after 3s
    """
    wait_s = min(wait_s, MAX_WAIT_S)
    reason, scope = printable.line(reason), [printable.line(selector) for selector in scope]
    direct_after_s = None if direct_after_s is None else min(direct_after_s, MAX_WAIT_S)
    streams.hurry()
    report: Any = None
    missed: Mapping[str, str] = {}
    say_all = cache(partial(kill_verb.say_all_accounts, config, scope, dry_run=dry_run))  # is said once
    if not direct:
        report = _fire_by_daemon(config, reason, scope, wait_s, direct_after_s, dry_run, say_all)
    if report is None:
        if not dry_run:
            direct_fire.fire_by_unit(config, reason, scope, as_json)
        direct = True
        report, missed = direct_fire.fire_directly(config, reason, scope, wait_s, dry_run, say_all)
    accounts = report.get("accounts", {})
    # "asked" is this caller's scope; a kill that was already under way may have more
    meant = report.get("asked", accounts)
    clear = all(accounts.get(name, {}).get("state") == "CLEAR" for name in meant)
    done = bool(accounts) and not missed and not outcome.is_grave(report) and (dry_run or clear)
    if missed:
        report = {**report, "missed": missed}
    if accounts or as_json:
        _show(report, as_json, dry_run)
    if as_json or not accounts or not sys.stdout.isatty():  # else the report has shown the problems
        say_problems(report)
    lagging = {} if dry_run else report.get("not_proven_yet", {})
    for name, wait in lagging.items():
        in_s = wait["proof_in_s"]
        then = f"repeat it with --wait {wait_s + in_s:g}" if direct else f"kill-switch status in {in_s} s"
        say(f"kill-switch: not proven yet: {name}: lists lag {wait['lists_lag_s']:g} s; {then}", err=True)
    proving = [name for name in meant if accounts.get(name, {}).get("state") in ("STRIKING", "CONFIRMING")]
    proving = [name for name in proving if name not in lagging]
    if proving and not dry_run:
        then = (
            "repeat it with a longer --wait" if direct else "the daemon goes on, and kill-switch report shows the proof"
        )
        say(f"kill-switch: not proven within {wait_s:g} s: {', '.join(proving)}; {then}", err=True)
    for name, why in missed.items():
        say(f"kill-switch: NOT {'LISTED' if dry_run else 'KILLED'}: {name}: {why}", err=True)
    sys.exit(0 if done else 1)


@click.command()
@config_option
@json_option
@scope_option
@click.option("--explain", is_flag=True, help="Also say what each column and word means.")
def drill(config: Path | None, scope: Sequence[str], explain: bool, as_json: bool) -> None:
    """Send a harmless command over every lane and time it.

    The command goes through the order path, and its round trip is compared with the budget. No order can be hit. A kill
    takes precedence over a drill. The result is recorded. Exit code 0: every lane would carry a kill in time. 1: a lane
    failed or took too long. 69: no daemon answers. 75: another drill is under way.

    \b
    Examples:
      kill-switch drill
      kill-switch drill --scope desk:mm --json
    """
    answer = ask(config, {"cmd": "drill", "scope": list(scope)}, timeout_s=20.0)
    if as_json:
        print_json(answer)
    else:
        from kill_switch.terminal import report_views

        report_views.print_drill(answer)
        if explain:
            from kill_switch.terminal import explain as words

            words.print_explanation(words.DRILL_COLUMNS, words.DRILL_WORDS)
    sys.exit(answer.get("exit", 0 if answer.get("ok") else 1))


@click.command()
@config_option
@json_option
@scope_option
@click.option("--reason", default="", help="Why it is safe to trade again; it is recorded in the journal.")
@click.option(
    "--force",
    is_flag=True,
    help="Also re-arm accounts in RESIDUE or with a changed login, and while a trigger is blind. "
    "Orders that are left there are then yours to cancel.",
)
def rearm(config: Path | None, reason: str, scope: Sequence[str], force: bool, as_json: bool) -> None:
    """Re-arm accounts that are tripped and proven clear.

    If the gate does not hold, nothing is re-armed and every reason is listed.

    \b
    Examples:
      kill-switch rearm --reason "quoter fixed, books checked"
      kill-switch rearm --reason "desk reopens" --scope desk:mm
    """
    reason, scope = printable.line(reason), [printable.line(selector) for selector in scope]
    request = {"cmd": "rearm", "reason": reason, "scope": scope, "force": force}
    answer = ask(config, request, timeout_s=40.0, fail=False)  # because each venue is read once more before the answer
    if as_json:
        print_json(answer)
    elif "error" in answer:
        say("not re-armed:" if "why" in answer else answer["error"], err=True)
        for why in answer.get("why", ()):
            say(f"  - {why}", err=True)
    else:
        say(f"re-armed: {', '.join(answer['rearmed'])}")
    say_problems(answer)
    sys.exit(answer.get("exit", 0))


@click.command()
@config_option
@json_option
def reload(config: Path | None, as_json: bool) -> None:
    """Apply the configuration again, as a whole or not at all.

    Accounts that did not change keep their connections; tripped accounts stay tripped. Exit code 78: refused. SIGHUP
    does the same, and the log shows the result.

    \b
    Examples:
      kill-switch check && kill-switch reload
    """
    answer = ask(config, {"cmd": "reload"}, timeout_s=30.0)
    if as_json:
        print_json(answer)
    else:
        say(f"reloaded: {answer['reloaded']}")
    say_problems(answer)
    sys.exit(answer.get("exit", 0))


def _fire_by_daemon(
    config: Path | None,
    reason: str,
    scope: Sequence[str],
    wait_s: float,
    direct_after_s: float | None,
    dry_run: bool,
    say_all: Callable[[], object],
) -> Any:
    """Ask the daemon for a kill and return its report; `say_all` says which accounts it hits, once it is sent.

    None: it has acknowledged nothing within `direct_after_s` seconds, or it is ending.
    """
    from kill_switch.client import control_socket

    is_acknowledged = False
    limit_s = math.inf if direct_after_s is None else direct_after_s
    silent_s = min(control_socket.ACKNOWLEDGED_WITHIN_S, limit_s)
    direct_in_s = limit_s - silent_s  # seconds after the first `silent_s`

    def say_silence() -> float:
        from kill_switch.cli import next_steps

        if dry_run:  # nothing is queued that anyone has to know of
            return direct_in_s
        if direct_in_s:  # else the command goes on at once, and says so
            say(next_steps.describe_silence(next_steps.look(config), silent_s, direct_in_s), err=True)
        return wait_s if direct_after_s is None else direct_in_s

    def on_acknowledgement() -> None:
        nonlocal is_acknowledged
        is_acknowledged = True

    try:
        answer = ask(
            config,
            {"cmd": "fire", "reason": reason, "scope": list(scope), "wait_s": wait_s, "dry_run": dry_run},
            timeout_s=wait_s + ANSWERED_WITHIN_S + (direct_after_s or 0.0),
            patience_s=min(control_socket.STARTS_WITHIN_S, limit_s),
            on_silence=None if dry_run and direct_after_s is None else say_silence,
            silent_after_s=silent_s,
            sent=say_all,
            acknowledged=on_acknowledgement,
            fail=direct_after_s is None,
        )
        if "error" not in answer:
            return answer
        if answer.get("exit") != Unreachable.exit_code:
            raise refusal(answer)
        is_acknowledged = False  # by a daemon that ends: nothing is sent before the next start
        raise Unreachable(answer["error"])
    except Unreachable as error:
        if direct_after_s is None or is_acknowledged:
            raise
        hangs = isinstance(error, Unresponsive)
        without_answer = str(error).partition(control_socket.UNKNOWN)[0]
        why = f"no acknowledgement within {direct_after_s:g} s" if hangs else without_answer
        is_queued = hangs and not dry_run
        queued = "\n  the request stays queued: a daemon that wakes kills too, which is harmless" if is_queued else ""
        say(f"kill-switch: {why}: going on without the daemon, as --direct{queued}", err=True)
        return None


def _show(report: Mapping[str, Any], as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json(report)
        return
    from kill_switch.terminal import report_views

    if dry_run:
        report_views.print_dry_run(report)
    else:
        report_views.print_report(report)
