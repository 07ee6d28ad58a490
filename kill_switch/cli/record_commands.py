"""Offer what reads the record: a kill's report, and the journal itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from kill_switch.cli.common import (
    config_option,
    json_option,
    print_json,
    say,
    say_once,
    say_problems,
)
from kill_switch.core import outcome
from kill_switch.errors import OWN_DIRECTORIES, NotAllowed

if TYPE_CHECKING:
    from kill_switch.journal.segments import JournalReader


@click.command()
@config_option
@json_option
@click.argument("kill", default="last")
def report(config: Path | None, kill: str, as_json: bool) -> None:
    """Show the report of the last kill, or of another one.

    No daemon is needed where the caller may read the journal. A running daemon is asked too, because it may know kills
    that its disk has not accepted.

    "sent", "answered" and "by" belong to the first strike that the venue accepted; refused strikes are listed below the
    table. "gone" counts the distinct orders that were open and that a later read no longer shows.

    Exit code 1: there is no such kill, or it is not in the journal. Also 1: the journal is damaged, so that later kills
    cannot be read, or there may be a later kill.

    \b
    Examples:
      kill-switch report
      kill-switch report k7-1700000000 --json
    """
    from kill_switch.cli import find_report
    from kill_switch.terminal import report_views

    kill_report = find_report.find(config, kill)
    if as_json:
        print_json(kill_report)
    else:
        report_views.print_report(kill_report)
    if as_json or not sys.stdout.isatty():  # else the report has shown the problems
        say_problems(kill_report)
    sys.exit(1 if outcome.is_grave(kill_report) else 0)


@click.command()
@config_option
@json_option
@click.option("--verify", is_flag=True, help="Check every number, hash and link; exit code 1 if one is wrong.")
@click.option("--head", metavar="HASH", help="With --verify: exit code 1 unless a record has this hash, or begins so.")
@click.option("--follow", is_flag=True, help="Keep printing new records until interrupted.")
def journal(config: Path | None, verify: bool, head: str | None, follow: bool, as_json: bool) -> None:
    """Show or verify the journal, the audit record.

    All of its segments are read in their order. New records go to journal.jsonl; journal-000001.jsonl and on are full.
    Old segments may be moved to an archive, the oldest first. --verify then prints the record from which on the chain
    was checked.

    The chain alone does not show that its end was cut off. Therefore every message and every outer ping names the
    newest record and the beginning of its hash. --verify --head HASH proves that nothing up to that record is missing.

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
    reading = segments.JournalReader(path)
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
        hint = f"; {OWN_DIRECTORIES}" if isinstance(error, PermissionError) else ""
        raise NotAllowed(f"{error.filename or path}: {error.strerror}{hint}") from None


def _record_of(path: Path | None) -> tuple[int, Path]:
    """Return the budget in microseconds and the state directory; no secret is read for that."""
    from kill_switch.config import loader as config

    daemon = config.daemon_keys(path, "state_dir", "budget", say=say_once)
    return int(daemon.budget_s * 1e6), daemon.state_dir


def _print_entries(reading: JournalReader) -> None:
    """Print one JSON object record by record, because there may be millions of records."""
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


def _print_verification(path: Path, reading: JournalReader, head: str | None, as_json: bool) -> NoReturn:
    """Print whether the chain is whole, and whether `head` is in it; end with exit code 0 or 1."""
    from kill_switch.errors import JournalBroken

    broken: JournalBroken | None = None
    records, found_seq = 0, None  # the number of the record with the hash `head`
    try:
        for entry in reading.entries():
            records += 1
            if head and entry["hash"].startswith(head):
                found_seq = entry["seq"]
    except JournalBroken as error:
        broken = error
    chain, torn = reading.chain, reading.torn if broken is None else 0
    lost = head is not None and found_seq is None
    if as_json:
        why = None if broken is None else {"file": broken.file, "line": broken.line, "why": broken.why}
        summary = {"path": str(path), "records": records, "torn_bytes": torn, "broken": why}
        print_json({**summary, "first": chain.first, "seq": chain.seq, "head": chain.hash, "found": found_seq})
        sys.exit(1 if broken or lost else 0)
    if chain.first > 1:
        say(f"{path.parent}: records 1 to {chain.first - 1} are not here: archived, or lost")
    if broken is not None:
        where = f"{path.parent / broken.file}: BROKEN at line {broken.line}: {broken.why}"
        say(f"{where}; {records} records before it are right")
    else:
        say(f"{path}: {records} records, every number, hash and link holds")
        if torn:
            say(f"  {torn} bytes after the last record: a write that was cut off; the daemon records it at its start")
        if records:
            say(f"  head: record {chain.seq}, {chain.hash}")
    if found_seq:
        say(f"  {head} is record {found_seq}: nothing up to it is missing")
    elif lost:
        say(f"  {head} is no record's hash: the record was cut off, or belongs to another journal", err=True)
    sys.exit(1 if broken or lost else 0)
