"""Options, output and the request to the daemon, shared by the commands.

All modules of `kill_switch.cli` use this. Modules that take long to import are imported within the functions that need
them. Text is made printable here before it reaches a terminal.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kill_switch import printable
from kill_switch.errors import Refused, Unreachable
from kill_switch.terminal import streams

if TYPE_CHECKING:
    from kill_switch.config.loader import Config

CONFIG_KEY = "kill_switch.config"  # in a context's `meta`: the file that -c has named
JSON_KEY = "kill_switch.json"  # in a context's `meta`: whether --json was given
OUTPUT_LOST = 74  # exit code; EX_IOERR, sysexits(3)
_COMMAND = re.compile(r"(?<![\w/.-])kill-switch ([a-z][a-z-]*)\b(?![^\n;|&]* -c )")


def written(context: click.Context) -> Mapping[str, Any]:
    """Return the configuration's tables as the file has them, unchecked; empty if it cannot be read.

    Shell completion uses this.
    """
    from kill_switch.config import document, toml_file
    from kill_switch.errors import ConfigError

    try:
        tables = document.read(toml_file.find(context.meta.get(CONFIG_KEY), os.environ)).tables
    except ConfigError:
        return {}
    return {**tables, "accounts": document.with_defaults(tables)}


def _complete_selectors(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    accounts = written(context).get("accounts", {})
    tables = accounts.values() if isinstance(accounts, dict) else ()
    tags = {tag for table in tables if isinstance(table, dict) for tag in table.get("tags", ())}
    return [selector for selector in (*accounts, *sorted(map(str, tags))) if selector.startswith(incomplete)]


def _remember_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Keep the file for the hints that a command prints, and for shell completion."""
    context.meta[CONFIG_KEY] = path
    return path


config_option = click.option(
    "-c",
    "--config",
    # not click's own check of the file, which would call it wrong usage
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    is_eager=True,
    callback=_remember_config,
    help="The configuration; else $KILL_SWITCH_CONFIG, else /etc/kill-switch/config.toml.",
)


def _remember_json(context: click.Context, parameter: click.Parameter, as_json: bool) -> bool:
    """Keep the form for the errors that end a command."""
    context.meta[JSON_KEY] = as_json
    return as_json


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_remember_json, help="Print one JSON object and nothing else."
)
scope_option = click.option(
    "--scope",
    "scope",
    multiple=True,
    metavar="SEL",
    help="An account or a tag; repeatable.",
    shell_complete=_complete_selectors,
)


class ShowCommand(click.Command):
    """A command that does nothing but print: instead of 0 it ends with 74 if its output could not be written."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            super().invoke(ctx)
            code: Any = 0
        except SystemExit as ending:
            code = ending.code
        fault = streams.output_fault()
        is_read = fault is None or isinstance(fault, BrokenPipeError)  # a reader may end when it likes
        sys.exit(code if code or is_read else OUTPUT_LOST)


class Seconds(click.ParamType):  # type: ignore[type-arg]  # because click 8.1's is no generic class
    """Seconds as a number, or as a duration with its unit: 10, 0.5, "10s", "2m". NaN is 0."""

    name = "seconds"
    _UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds; fail for anything else."""
        match = re.fullmatch(r"\s*(-?[0-9.]+|-?inf|nan)\s*(ms|s|m|h|)\s*", str(value))
        try:
            seconds = float(match[1]) * self._UNITS.get(match[2], 1.0) if match else None
        except ValueError:
            seconds = None
        if seconds is None:
            self.fail(f"{str(value)!r}: expected seconds, such as 10 or 10s", param, ctx)
        return 0.0 if math.isnan(seconds) else max(0.0, seconds)


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
    **exchange: Any,
) -> Any:
    """Send the daemon a request and return its answer; if the answer is an error, raise `Refused` with its exit code.

    The daemon may take up to `patience_s` seconds to come up, and `timeout_s` seconds to answer. Unless `fail`, an
    error is returned like any answer. `on_silence` and `exchange` are those of `control_socket.send_request`. Raises
    `NotAllowed`, or `Unreachable`, whose `steps` name the way that works on this host.
    """
    from kill_switch.client import control_socket
    from kill_switch.control import paths

    socket = paths.runtime_dir(path, say=say_once) / paths.CONTROL_SOCKET
    try:
        answer = control_socket.send_request(socket, request, timeout_s, patience_s, on_silence, **exchange)
    except Unreachable as error:
        from kill_switch.cli import next_steps

        error.steps = next_steps.describe(error, next_steps.look(path))
        raise
    if fail and "error" in answer:
        raise refusal(answer)
    return answer


def refusal(answer: Mapping[str, Any]) -> Refused:
    """Return the error for a daemon's answer that is an error, with the exit code that the answer has."""
    error = Refused(answer["error"], answer)
    error.exit_code = answer.get("exit", Refused.exit_code)
    return error


def say(text: str, *, err: bool = False) -> None:
    """Print text on standard output or standard error; characters that do not print are replaced.

    On standard error, each command in the text gets the `-c FILE` that this command was given.
    """
    click.echo(printable.lines(with_config(text) if err else text), err=err)


def with_config(text: str) -> str:
    """Return a text whose commands carry the `-c FILE` of this command, so that they can be typed as they are."""
    context = click.get_current_context(silent=True)
    path = None if context is None else context.meta.get(CONFIG_KEY)
    if context is None or path is None:
        return text
    root = context.find_root().command
    commands = root.commands if isinstance(root, click.Group) else {}

    def with_file(match: re.Match[str]) -> str:
        command = commands.get(match[1])
        takes_file = command is not None and any("-c" in each.opts for each in command.params)
        return f"{match[0]} -c {shlex.quote(str(path))}" if takes_file else match[0]

    return _COMMAND.sub(with_file, text)


def missing_configuration() -> str:
    """Return that no configuration was found, if that is why no daemon was; "" if one is there, or a socket."""
    from kill_switch.config import defaults
    from kill_switch.control import paths

    context = click.get_current_context(silent=True)
    named = (context is not None and context.meta.get(CONFIG_KEY)) or os.environ.get("KILL_SWITCH_CONFIG")
    if named or os.path.lexists(defaults.CONFIG):
        return ""
    directory = paths.runtime_dir(None)
    if os.path.lexists(directory / paths.CONTROL_SOCKET):
        return ""
    return (
        f"no configuration found: there is no {defaults.CONFIG}, and neither -c FILE nor $KILL_SWITCH_CONFIG names "
        f"another; nor is a daemon in {directory}, the default runtime_dir. `kill-switch init` writes a configuration"
    )


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
