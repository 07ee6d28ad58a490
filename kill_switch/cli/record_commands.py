"""Offer what reads the record: a kill's report, and the journal itself."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from kill_switch.cli.common import (
    ShowCommand,
    config_option,
    json_option,
    print_json,
    say,
    say_once,
    say_problems,
)
from kill_switch.cli.points_in_time import SINCE
from kill_switch.core import outcome

if TYPE_CHECKING:
    from kill_switch.journal.segments import JournalReader


@click.command(cls=ShowCommand)
@config_option
@json_option
@click.argument("kill", default="last")
@click.option("--list", "listing", is_flag=True, help="A line for each kill instead, the newest last.")
@click.option("--since", type=SINCE, help="With --list: kills since 2h, 2026-11-30, 2026-11-30T14:05Z.")
@click.option("--explain", is_flag=True, help="Also say what each column and word means.")
def report(config: Path | None, kill: str, listing: bool, since: int | None, explain: bool, as_json: bool) -> None:
    """Show the report of a kill, or list all kills.

    No daemon is needed where the caller may read the journal. A running daemon is asked too, because it may know kills
    that its disk has not accepted.

    "sent", "answered" and "by" belong to the first strike that the venue accepted; refused strikes are listed below the
    table. "gone" counts the distinct orders that were open and that a later read no longer shows.

    Exit code 1: there is no such kill, or it is not in the journal. Also 1: the journal is damaged, so that later kills
    cannot be read, or there may be a later kill.

    \b
    Examples:
      kill-switch report
      kill-switch report --list --since 24h
      kill-switch report k7-1700000000 --json
    """
    from kill_switch.cli import find_report
    from kill_switch.terminal import record_views, report_views

    if since is not None and not listing:
        raise click.UsageError("--since goes with --list")
    if listing:
        if kill != "last" or explain:
            raise click.UsageError("--list takes neither a kill nor --explain")
        kills = find_report.list_kills(config, since)
        if as_json:
            print_json(kills)
        else:
            record_views.print_kills(kills["kills"])
        say_problems(kills)
        sys.exit(1 if outcome.is_grave(kills) else 0)
    kill_report = find_report.find(config, kill)
    if as_json:
        print_json(kill_report)
    else:
        report_views.print_report(kill_report)
        if explain:
            from kill_switch.terminal import explain as words

            words.print_explanation(words.REPORT_COLUMNS, words.REPORT_WORDS)
    if as_json or not sys.stdout.isatty():  # else the report has shown the problems
        say_problems(kill_report)
    sys.exit(1 if outcome.is_grave(kill_report) else 0)


@click.command(cls=ShowCommand)
@config_option
@json_option
@click.option("--verify", is_flag=True, help="Check every number, hash and link; exit code 1 if one is wrong.")
@click.option("--head", metavar="HASH", help="With --verify: exit code 1 unless a record has this hash, or begins so.")
@click.option("--follow", is_flag=True, help="Keep printing new records until interrupted.")
@click.option("--since", type=SINCE, help="Only records of that time and later; 2h, 2026-11-30, 2026-11-30T14:05Z.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only records of this kind; repeatable.")
@click.option("--account", "accounts", multiple=True, metavar="A", help="Only records of this account; repeatable.")
@click.option("-n", "last", type=click.IntRange(min=1), metavar="N", help="Only the last N of them.")
def journal(
    config: Path | None,
    verify: bool,
    head: str | None,
    follow: bool,
    last: int | None,
    as_json: bool,
    **selected: Any,
) -> None:
    """Show or verify the journal, the audit record.

    All of its segments are read in their order. New records go to journal.jsonl; journal-000001.jsonl and on are full.
    Old segments may be moved to an archive, the oldest first. --verify then prints the record from which on the chain
    was checked.

    The chain alone does not show that its end was cut off. Therefore every message and every outer ping names the
    newest record and the beginning of its hash. --verify --head HASH proves that nothing up to that record is missing.

    With --json, each record is one line; with --verify, one object. Exit code 1: the journal is damaged.

    \b
    Examples:
      kill-switch journal -n 20
      kill-switch journal --since 2h --kind reason --kind rearm
      kill-switch journal --account mm1 --follow
      kill-switch journal --verify --head 0f3a9c5d7e1b2846
    """
    from kill_switch.cli import find_report
    from kill_switch.journal import segments
    from kill_switch.journal.selection import Selection
    from kill_switch.terminal import record_views

    selection = Selection(selected["since"], tuple(selected["kinds"]), tuple(selected["accounts"]))
    if verify and (follow or selection != Selection() or last is not None):
        raise click.UsageError("--verify checks the whole journal; it goes with --head and --json alone")
    if head is not None:
        head = head.lower()
        if not verify:
            raise click.UsageError("--head goes with --verify")
        if not segments.LEAST_DIGITS <= len(head) <= 64 or not set(head) <= set("0123456789abcdef"):
            raise click.BadParameter(f"expected {segments.LEAST_DIGITS} to 64 of a hash's digits", param_hint="--head")
    _must_be_kinds(selection.kinds)
    path = _record_of(config)[1] / segments.NAME
    reading = segments.JournalReader(path)
    try:
        if verify:
            _print_verification(path, reading, head, as_json)
        printed = record_views.print_entries(reading, selection, last, follow=follow, as_json=as_json)
    except OSError as error:
        raise find_report.not_readable(error, path) from None
    if not printed and not follow:
        why = f"none of its {reading.chain.seq} records is selected" if reading.chain.seq else "there is no record"
        say(f"kill-switch: {path}: {why}", err=True)


def _must_be_kinds(kinds: Collection[str]) -> None:
    """Raise `click.BadParameter` for a kind of record that does not exist."""
    from kill_switch.journal.records import TABLE

    known = [row.record.kind for row in TABLE]
    for kind in kinds:
        if kind not in known:
            raise click.BadParameter(f"there is no kind {kind!r}; there are {', '.join(known)}", param_hint="--kind")


def _record_of(path: Path | None) -> tuple[int, Path]:
    """Return the budget in microseconds and the state directory; no secret is read for that."""
    from kill_switch.config import loader as config

    daemon = config.daemon_keys(path, "state_dir", "budget", say=say_once)
    return int(daemon.budget_s * 1e6), daemon.state_dir


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
        if not broken.line:
            where = f"{path.parent}: BROKEN: {broken}"
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
