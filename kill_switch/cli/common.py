"""Options, output and the request to the daemon, shared by the commands.

All modules of `kill_switch.cli` use this. Modules that take long to import are imported within the functions that need
them. Text is made printable here before it reaches a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kill_switch import printable
from kill_switch.errors import Unreachable

if TYPE_CHECKING:
    from kill_switch.config.loader import Config


def written(context: click.Context) -> Mapping[str, Any]:
    """Return the configuration's tables as the file has them, unchecked; empty if it cannot be read.

    Shell completion uses this.
    """
    import os

    from kill_switch.config import toml_file
    from kill_switch.errors import ConfigError

    try:
        return toml_file.parse(toml_file.find(context.params.get("config"), os.environ))
    except ConfigError:
        return {}


def _complete_selectors(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    accounts = written(context).get("accounts", {})
    tables = accounts.values() if isinstance(accounts, dict) else ()
    tags = {tag for table in tables if isinstance(table, dict) for tag in table.get("tags", ())}
    return [selector for selector in (*accounts, *sorted(map(str, tags))) if selector.startswith(incomplete)]


config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration; else $KILL_SWITCH_CONFIG, else /etc/kill-switch/config.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
scope_option = click.option(
    "--scope",
    "scope",
    multiple=True,
    metavar="SEL",
    help="An account or a tag; repeatable.",
    shell_complete=_complete_selectors,
)


def load(path: Path | None) -> Config:
    """Load the whole configuration with the accounts' secrets, after core dumps of this process have been forbidden."""
    from kill_switch.config import loader
    from kill_switch.system.hardening import forbid_dumps

    forbid_dumps()
    return loader.load(path)


def ask(
    path: Path | None,
    request: Mapping[str, object],
    *,
    timeout_s: float = 10.0,
    patience_s: float = 0.0,
    fail: bool = True,
    on_silence: Callable[[], float] | None = None,
) -> Any:
    """Send the daemon a request and return its answer; if the answer is an error, print it and end with its exit code.

    The daemon may take up to `patience_s` seconds to come up, and `timeout_s` seconds to answer. Unless `fail`, an
    error is returned like any answer. `on_silence` is that of `client.send_request`. Raises `NotAllowed`, or
    `Unreachable`, whose `steps` name the way that works on this host.
    """
    from kill_switch.control import client, paths

    socket = paths.runtime_dir(path, say=say_once) / paths.CONTROL_SOCKET
    try:
        answer = client.send_request(socket, request, timeout_s, patience_s, on_silence)
    except Unreachable as error:
        from kill_switch.cli import next_steps

        error.steps = next_steps.describe(error, next_steps.look(path))
        raise
    if fail and "error" in answer:
        say(f"kill-switch: {answer['error']}", err=True)
        sys.exit(answer.get("exit", 1))
    return answer


def say(text: str, *, err: bool = False) -> None:
    """Print text on standard output or standard error; characters that do not print are replaced."""
    click.echo(printable.lines(text), err=err)


_said: set[str] = set()


def say_once(line: str) -> None:
    """Print a line on standard error, unless this command has printed it before."""
    if line not in _said:
        _said.add(line)
        say(f"kill-switch: {line}", err=True)


def say_problems(answer: Mapping[str, Any]) -> bool:
    """Print on standard error each problem of an answer and the command against it; return whether there were any."""
    problems = answer.get("problems", ())
    for problem in problems:
        say(f"kill-switch: {problem['text']}\n  {problem['do']}", err=True)
    return bool(problems)


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    click.echo(json.dumps(value, default=str))
