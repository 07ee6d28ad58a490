"""The command `silence`: hold back a trigger's reasons for planned work, end that, or list the silences."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from kill_switch import printable
from kill_switch.cli.common import ask, config_option, json_option, print_json, say, say_problems, written


def _complete_triggers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    triggers = written(context).get("triggers", {})
    names = [name for name, table in triggers.items() if not isinstance(table, dict) or table.get("kind") != "flag"]
    return [name for name in names if name.startswith(incomplete)]


@click.command()
@config_option
@json_option
@click.argument("trigger", required=False, shell_complete=_complete_triggers)
@click.option(
    "--for", "span", metavar="DURATION", help="How long: 90s, 30m, 2h; at most [silence] max, 4 h by default."
)
@click.option("--reason", metavar="TEXT", help="The planned work; it is recorded in the journal.")
@click.option("--end", is_flag=True, help="End the silence of TRIGGER now.")
@click.option("--list", "listing", is_flag=True, help="Show the silences, and those that wait for another person.")
def silence(
    config: Path | None,
    trigger: str | None,
    span: str | None,
    reason: str | None,
    end: bool,
    listing: bool,
    as_json: bool,
) -> None:
    """Hold back what TRIGGER would fire, for planned work.

    The trigger goes on watching, and counts in the gate of a re-arm. When the silence ends and the trigger still sees
    its reason, it fires then: a heartbeat that stopped meanwhile, a limit that is crossed. A scheduled time that comes
    meanwhile is left out. A flag and a person are never silenced. With [rearm] approvals = 2, two people type the same
    command. A new silence of the same trigger replaces the old one.

    Exit code 1: refused; 69: no daemon answers; 75: it waits for another person.

    \b
    Examples:
      kill-switch silence quoter-alive --for 30m --reason "deploy 2.4"
      kill-switch silence --list
      kill-switch silence quoter-alive --end
    """
    answer = ask(config, _request(trigger, span, reason, end, listing))
    if as_json:
        print_json(answer)
    else:
        _show(answer)
    say_problems(answer)
    sys.exit(answer.get("exit", 0))


def _request(trigger: str | None, span: str | None, reason: str | None, end: bool, listing: bool) -> dict[str, object]:
    """Return the request; raise `click.UsageError` for options that do not belong together."""
    if listing:
        if trigger or span or reason or end:
            raise click.UsageError("--list takes no other option")
        return {"cmd": "silence", "list": True}
    if trigger is None:
        raise click.UsageError("name a trigger, or give --list")
    trigger = printable.line(trigger)
    if end:
        if span or reason:
            raise click.UsageError("--end takes neither --for nor --reason")
        return {"cmd": "silence", "trigger": trigger, "end": True}
    if span is None or not (reason or "").strip():
        raise click.UsageError("a silence needs --for DURATION and --reason TEXT")
    from kill_switch.config.messages import InvalidValue
    from kill_switch.config.parsers import duration

    try:
        for_s = duration("silence.for")(span)
    except InvalidValue as invalid:
        raise click.BadParameter(str(invalid), param_hint="--for") from None
    return {"cmd": "silence", "trigger": trigger, "for_s": for_s, "reason": printable.line(reason or "")}


def _show(answer: Mapping[str, Any]) -> None:
    for name, silenced in answer["silences"].items():
        until = datetime.fromisoformat(silenced["until"]).astimezone()
        held = f"; it would have fired: {silenced['held']}" if silenced["held"] else ""
        by = " and ".join(silenced["by"])
        say(f"{name}: silenced until {until:%Y-%m-%d %H:%M:%S %Z}, by {by}: {silenced['reason']}{held}")
    if answer["pending"]:
        from kill_switch.triggers.silences import describe_span

        for name, pending in answer["pending"].items():
            asked = f"{describe_span(pending['for_s'])} ({pending['reason']}), asked for by {', '.join(pending['by'])}"
            say(f"{name}: waits for another person: {asked}")
    if not answer["silences"] and not answer["pending"]:
        say("no trigger is silenced")
