"""Offer what operators do: look, kill, re-arm, read the record, beat."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from kill_switch import printable
from kill_switch.cli.common import (
    ask,
    config_option,
    json_option,
    print_json,
    say,
    say_once,
    say_problems,
    scope_option,
    written,
)
from kill_switch.core import outcome
from kill_switch.errors import KillSwitchError, NotAllowed, Unreachable

MAX_WAIT_S = 3600.0
KNOWN_WITHIN_S = 2.0  # for the daemon to say which heartbeats there are


def _complete_heartbeats(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    triggers = written(context).get("triggers", {})
    beats = [name for name, table in triggers.items() if isinstance(table, dict) and table.get("kind") == "heartbeat"]
    return [name for name in beats if name.startswith(incomplete)]


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Redraw twice a second, until interrupted.")
def status(config: Path | None, as_json: bool, watch: bool) -> None:
    """Show what is armed, warm, tripped, blind. Exit code 0: armed; 3: tripped or firing; 69: no daemon.

    \b
    Examples:
      kill-switch status
      kill-switch status --watch
      kill-switch status --json | jq .state
    """
    if watch and not as_json:
        from kill_switch.terminal import status_view

        status_view.watch_status(lambda: ask(config, {"cmd": "status"}))
        return
    answer = ask(config, {"cmd": "status"})
    if as_json:
        print_json(answer)
    else:
        from kill_switch.terminal import status_view

        status_view.print_status(answer)
    sys.exit(0 if answer["state"] == "ARMED" else 3)


@click.command()
@config_option
@json_option
@scope_option
@click.option("--reason", required=True, help="Why; it goes into the record.")
@click.option("--wait", "wait_s", default=10.0, show_default=True, help="Seconds to wait for the proof; 0: do not.")
@click.option("--direct", is_flag=True, help="Kill from this process, without the daemon.")
@click.option("--dry-run", is_flag=True, help="Only list the orders and what would be sent.")
def fire(
    config: Path | None, reason: str, scope: Sequence[str], wait_s: float, direct: bool, dry_run: bool, as_json: bool
) -> None:
    """Kill: cancel every order in scope, prove it, stay tripped.

    --wait bounds the proof and nothing else. With --direct it begins once every account has answered: connecting,
    logging in and the first answers take 23 s at most, then whoever has not answered is given up. Ctrl-C ends the wait
    for the proof, and at the second time everything.

    --direct kills every account that can be built of the configuration, and names the others: exit code 1.

    \b
    Examples:
      kill-switch fire --reason "runaway quoter"
      kill-switch fire --reason "desk closed" --scope desk:mm --wait 30
      kill-switch fire --reason "would it reach all?" --dry-run
      kill-switch fire --reason "the daemon is gone" --direct
    """
    wait_s = min(max(0.0, wait_s), MAX_WAIT_S) if wait_s == wait_s else 0.0  # not a number: then without waiting
    reason, scope = printable.line(reason), [printable.line(selector) for selector in scope]
    from kill_switch.control import client

    missed: Mapping[str, str] = {}
    if direct:
        report, missed = _fire_directly(config, reason, scope, wait_s, dry_run)
    else:
        request = {"cmd": "fire", "reason": reason, "scope": list(scope), "wait_s": wait_s, "dry_run": dry_run}
        try:
            report = ask(config, request, timeout_s=wait_s + 10, patience_s=client.STARTS_WITHIN_S)
        except Unreachable as error:
            raise Unreachable(f"{error}\nTo kill without the daemon: kill-switch fire --direct --reason …") from None
    accounts = report.get("accounts", {})
    meant = report.get("asked", accounts)  # of a kill that was under way already there are more
    clear = all(accounts.get(name, {}).get("state") == "CLEAR" for name in meant)
    done = bool(accounts) and not missed and not outcome.is_grave(report) and (dry_run or clear)
    if missed:
        report = {**report, "missed": missed}
    try:
        if accounts or as_json:
            _show(report, as_json, dry_run)
    except OSError as error:  # whoever reads it has gone: what was done is done
        say(f"kill-switch: the report cannot be written: {error.strerror}", err=True)
    if as_json or not accounts or not sys.stdout.isatty():  # else the report has said so
        say_problems(report)
    for name, why in missed.items():
        say(f"kill-switch: NOT {'LISTED' if dry_run else 'KILLED'}: {name}: {why}", err=True)
    sys.exit(0 if done else 1)


@click.command()
@config_option
@json_option
@scope_option
def drill(config: Path | None, scope: Sequence[str], as_json: bool) -> None:
    """Send a harmless command through the order path of every lane, and compare the round trips with the budget.

    Nothing can be hit by it, and a kill goes first. It stays on record. Exit code 0: every lane would carry a kill in
    time; 1: one failed or took too long; 69: no daemon; 75: another drill is under way.

    \b
    Examples:
      kill-switch drill
      kill-switch drill --scope desk:mm --json
    """
    answer = ask(config, {"cmd": "drill", "scope": list(scope)}, timeout_s=20.0, fail=not as_json)
    if as_json:
        print_json(answer)
    else:
        from kill_switch.terminal import report_views

        report_views.print_drill(answer)
    sys.exit(answer.get("exit", 0 if answer.get("ok") else 1))


@click.command()
@config_option
@json_option
@scope_option
@click.option("--reason", required=True, help="Why it is safe to trade again; it goes into the record.")
@click.option(
    "--force",
    is_flag=True,
    help="Also accounts in RESIDUE, or with another login than was struck, and though a trigger cannot see: "
    "what is left there is now your business.",
)
def rearm(config: Path | None, reason: str, scope: Sequence[str], force: bool, as_json: bool) -> None:
    """Arm again what is tripped and proven clear; if the gate does not hold, say every reason why not.

    \b
    Examples:
      kill-switch rearm --reason "quoter fixed, books checked"
      kill-switch rearm --reason "desk reopens" --scope desk:mm
    """
    reason, scope = printable.line(reason), [printable.line(selector) for selector in scope]
    asked = {"cmd": "rearm", "reason": reason, "scope": scope, "force": force}
    answer = ask(config, asked, timeout_s=40.0, fail=False)  # a slow venue is read once more before the answer
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
    """Have the running daemon read its configuration again: all of it takes effect, or nothing does.

    Accounts that did not change keep their connections; what is tripped stays tripped. Exit code 78: refused. SIGHUP
    does the same, and says in the log what came of it.

    \b
    Examples:
      kill-switch check && kill-switch reload
    """
    answer = ask(config, {"cmd": "reload"}, timeout_s=30.0, fail=not as_json)
    if as_json:
        print_json(answer)
    else:
        say(f"reloaded: {answer['reloaded']}")
    say_problems(answer)
    sys.exit(answer.get("exit", 0))


@click.command()
@config_option
@json_option
@click.argument("kill", default="last")
def report(config: Path | None, kill: str, as_json: bool) -> None:
    """Show what a kill did: the last one, or the one of that id. Needs no daemon, where the journal may be read.

    A daemon that is running is asked too: it knows what its disk has not taken.

    "sent", "answered" and "by" are those of the strike that the venue accepted first; strikes that it refused are
    listed below the table. "gone" counts the distinct orders that were open and that a read no longer shows.

    Exit code 1: there is none; the journal is damaged, and kills behind the damage are not seen; the kill is not on
    record; or there may be a later one.

    \b
    Examples:
      kill-switch report
      kill-switch report k7-1700000000 --json
    """
    from kill_switch.cli import find_report
    from kill_switch.terminal import report_views

    found = find_report.find(config, kill)
    if as_json:
        print_json(found)
    else:
        report_views.print_report(found)
    if as_json or not sys.stdout.isatty():  # else the report has said so
        say_problems(found)
    sys.exit(1 if outcome.is_grave(found) else 0)


@click.command()
@config_option
@json_option
@click.option("--verify", is_flag=True, help="Check every number, hash and link; exit code 1 if one does not hold.")
@click.option("--head", metavar="HASH", help="With --verify: exit code 1 unless a record has this hash, or begins so.")
@click.option("--follow", is_flag=True, help="Go on with what comes.")
def journal(config: Path | None, verify: bool, head: str | None, follow: bool, as_json: bool) -> None:
    """Show the audit record, all of its files in their order.

    journal.jsonl is written; journal-000001.jsonl and on are full. Old ones may be moved to an archive, the oldest
    first: --verify then says from which record on the chain was checked.

    A chain does not show that its end was cut off. Every message and every call of the outer ping names the newest
    record and the beginning of its hash: --verify --head HASH proves that nothing up to that record is missing.

    \b
    Examples:
      kill-switch journal --verify
      kill-switch journal --verify --head 0f3a9c5d7e1b2846
      kill-switch journal --follow
    """
    from kill_switch.journal import segments
    from kill_switch.terminal import report_views

    if head is not None:
        head = head.lower()
        if not verify or follow:
            raise click.UsageError("--head goes with --verify")
        if not segments.LEAST_DIGITS <= len(head) <= 64 or not set(head) <= set("0123456789abcdef"):
            raise click.BadParameter(f"expected {segments.LEAST_DIGITS} to 64 of a hash's digits", param_hint="--head")
    path = _record_of(config)[1] / segments.NAME
    reading = segments.Reading(path)
    try:
        if follow:
            report_views.follow_journal(path, as_json)
        elif verify:
            _print_verification(path, reading, head, as_json)
        elif as_json:
            _print_entries(reading)
        else:
            for entry in reading.entries():
                say(report_views.entry_line(entry))
    except OSError as error:
        raise NotAllowed(f"{error.filename or path}: {error.strerror}") from None


@click.command()
@config_option
@click.argument("name", shell_complete=_complete_heartbeats)
@click.option("--every", "every", metavar="DURATION", help="Go on, a beat every DURATION (250ms, 1s), until stopped.")
@click.option("--bye", is_flag=True, help="Say an orderly goodbye instead of a beat.")
@click.option("--from", "sender", metavar="SENDER", default="", help="Who beats; default: this host's name.")
def beat(config: Path | None, name: str, every: str | None, bye: bool, sender: str) -> None:
    """Send the heartbeat that a trigger of that NAME waits for. Exit code 1: the daemon knows no such heartbeat.

    \b
    Examples:
      kill-switch beat quoter-alive
      kill-switch beat quoter-alive --every 1s
      kill-switch beat quoter-alive --bye
    """
    from kill_switch.control import heartbeat as beats
    from kill_switch.control import paths

    period_s = None
    if every:
        from kill_switch.config.parsers import duration

        try:
            period_s = duration("beat.every")(every)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--every") from None
    directory, unknown = paths.runtime_dir(config, say=say_once), False

    def look() -> None:
        nonlocal unknown
        unknown = _is_unknown(directory / paths.CONTROL_SOCKET, name)

    def look_beside() -> None:
        threading.Thread(target=look, daemon=True).start()  # a daemon that is slow to answer is to hold up no beat

    sent = look if period_s is None else look_beside
    beats.send(directory / paths.INTAKE_SOCKET, name, period_s, bye=bye, sender=sender, sent=sent)
    sys.exit(1 if unknown else 0)


def _is_unknown(path: Path, name: str) -> bool:
    """Say so, if the daemon says that no heartbeat has this name; a daemon that cannot be asked has taken the beat."""
    from kill_switch.control import client

    try:
        triggers = client.ask(path, {"cmd": "status"}, timeout_s=KNOWN_WITHIN_S)["triggers"]
    except (KillSwitchError, LookupError):
        return False
    names = [one for one, trigger in triggers.items() if trigger["kind"] == "heartbeat"]
    if name in names:
        return False
    there_are = f"there are {', '.join(names)}" if names else "there is none"
    say(f"kill-switch: the daemon waits for no heartbeat {name!r}: {there_are}", err=True)
    return True


def _fire_directly(
    path: Path | None, reason: str, scope: Sequence[str], wait_s: float, dry_run: bool
) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Kill or look; return the report, and what was meant and could not be reached, with why."""
    import os

    import anyio

    from kill_switch import logging_setup, unexpected
    from kill_switch.config import loader as config
    from kill_switch.system.hardening import forbid_dumps

    logging_setup.set_up()
    unexpected.be_brief()
    forbid_dumps()
    found = config.rescue(path)
    for problem in found.problems:
        say(f"{found.config.source}: {problem}", err=True)
    accounts, left_out, unknown = found.select(scope)
    missed = {name: "; ".join(map(str, found.left_out[name])) for name in left_out}
    missed |= dict.fromkeys(unknown, "no account and no tag is called that")
    if not accounts and (dry_run or not left_out):
        return {}, missed
    if dry_run:
        from kill_switch.direct import connect_check

        shown, unseen = anyio.run(connect_check.dry_run, found.config, accounts)
        return {"dry_run": True, "accounts": shown}, {**missed, **unseen}
    from kill_switch.direct import direct_kill as direct

    evidence = {"uid": os.getuid(), "user": str(os.getuid()), "pid": os.getpid()}
    report, failed = anyio.run(direct.fire, found.config, reason, accounts, wait_s, evidence, left_out)
    return report, {**missed, **failed}


def _show(report: Mapping[str, Any], as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json(report)
        return
    from kill_switch.terminal import report_views

    if dry_run:
        report_views.print_dry_run(report)
    else:
        report_views.print_report(report)


def _record_of(path: Path | None) -> tuple[int, Path]:
    """Return the budget in microseconds and the state directory: reading the record needs no secret."""
    from kill_switch.config import loader as config

    daemon = config.daemon_keys(path, "state_dir", "budget", say=say_once)
    return int(daemon.budget_s * 1e6), daemon.state_dir


def _print_entries(reading: Any) -> None:
    """Print one JSON object, an entry at a time: there may be millions of them."""
    from kill_switch.errors import JournalBroken

    broken, comma = None, ""
    click.echo('{"entries": [', nl=False)
    try:
        for entry in reading.entries():
            click.echo(comma + json.dumps(entry), nl=False)
            comma = ",\n"
    except JournalBroken as error:
        broken = error
    click.echo(f'], "broken": {json.dumps(str(broken) if broken else None)}}}')
    if broken:
        raise broken


def _print_verification(path: Path, reading: Any, head: str | None, as_json: bool) -> NoReturn:
    from kill_switch.errors import JournalBroken

    broken: JournalBroken | None = None
    records, found = 0, None  # the record that has the hash which is looked for
    try:
        for entry in reading.entries():
            records += 1
            if head and entry["hash"].startswith(head):
                found = entry["seq"]
    except JournalBroken as error:
        broken = error
    chain, torn = reading.chain, reading.torn if broken is None else 0
    lost = head is not None and found is None
    if as_json:
        why = None if broken is None else {"file": broken.file, "line": broken.line, "why": broken.why}
        told = {"path": str(path), "records": records, "torn_bytes": torn, "broken": why}
        print_json({**told, "first": chain.first, "seq": chain.seq, "head": chain.hash, "found": found})
        sys.exit(1 if broken or lost else 0)
    if chain.first > 1:
        say(f"{path.parent}: records 1 to {chain.first - 1} are not here: archived, or lost")
    if broken is not None:
        where = f"{path.parent / broken.file}: BROKEN at line {broken.line}: {broken.why}"
        say(f"{where}; {records} records before it hold")
    else:
        say(f"{path}: {records} records, every number, hash and link holds")
        if torn:
            say(f"  {torn} bytes after the last record: a write that was cut off; the next start notes it")
        if records:
            say(f"  head: record {chain.seq}, {chain.hash}")
    if found:
        say(f"  {head} is record {found}: nothing up to it is missing")
    elif lost:
        say(f"  {head} is no record's hash: the record was cut off, or is another one", err=True)
    sys.exit(1 if broken or lost else 0)
