"""Generate the manual page from the commands' help texts: man(7) source, one page for all commands.

The command `man` uses this. No text about a command is written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

_FILES = {
    "/etc/kill-switch/config.toml": "The configuration file, unless -c or $KILL_SWITCH_CONFIG names another.",
    "/var/lib/kill-switch/journal.jsonl": "The newest segment of the journal, with the latch.",
    "/var/lib/kill-switch/journal-000001.jsonl": "The oldest segment; newer ones have higher numbers.",
    "/run/kill-switch/control.sock": "The daemon's command socket; everyone who may write to it may use it.",
    "/run/kill-switch/intake.sock": "The datagram socket for heartbeats and figures.",
    "/run/kill-switch/flag/KILL": "The flag of the example configuration: to cancel every order, create it.",
}
_ENVIRONMENT = {
    "KILL_SWITCH_CONFIG": "The configuration file, unless -c names one.",
    "KILL_SWITCH_DEBUG": "If set, internal errors are shown with their traceback.",
    "STATE_DIRECTORY, RUNTIME_DIRECTORY": "Set by systemd for a service: the daemon's directories, if the configuration"
    " names none. Other commands than run and check ignore them without the daemon's socket there, unless"
    " KILL_SWITCH_UNIT is set.",
    "KILL_SWITCH_UNIT": "Set by the units of kill-switch: the directories of the service are the daemon's.",
    "CREDENTIALS_DIRECTORY": "Set by systemd for a service that has credentials.",
}


def page(root: click.Group, name: str, version: str) -> str:
    """Return the manual page of the program `name`, with a section for each command in alphabetical order."""
    return "\n".join(_lines(root, name, version)) + "\n"


def _lines(root: click.Group, name: str, version: str) -> Iterator[str]:
    top = click.Context(root, info_name=name, **root.context_settings)
    yield f'.TH {_quoted(name.upper())} 1 "" {_quoted(f"{name} {version}")} "User Commands"'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text((root.help or '').rstrip('.')[:1].lower() + (root.help or '').rstrip('.')[1:])}"
    yield ".SH SYNOPSIS"
    yield f".B {_text(name)}"
    yield _text(" ".join(root.collect_usage_pieces(top)))
    yield ".SH COMMANDS"
    for command_name in root.list_commands(top):
        command = root.commands[command_name]
        with click.Context(command, info_name=command_name, parent=top) as context:
            yield from _command(command, context)
    yield ".SH EXIT STATUS"
    yield from _paragraphs(root.epilog or "")
    yield ".SH FILES"
    yield from _listed(_FILES)
    yield ".SH ENVIRONMENT"
    yield from _listed(_ENVIRONMENT)
    yield ".SH SEE ALSO"
    yield ".BR systemd (1),"
    yield ".BR systemctl (1)"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".SS {_quoted(command.name or '')}"
    yield f".B {_text(context.command_path)}"
    yield _text(" ".join(command.collect_usage_pieces(context)))
    yield from _paragraphs(command.help or "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1]:
            yield ".TP"
            yield f".B {_text(record[0])}"
            yield _text(record[1])


def _paragraphs(text: str) -> Iterator[str]:
    """Turn a help text into paragraphs; a paragraph that click prints unchanged becomes an example."""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = [line for line in paragraph.splitlines() if line.strip()]
        if lines and lines[0].strip() == "\b":
            yield from (".PP", ".EX", *(_text(line) for line in lines[1:]), ".EE")
        elif lines:
            yield ".PP"
            yield _text(" ".join(line.strip() for line in lines))


def _listed(entries: dict[str, str]) -> Iterator[str]:
    for term, meaning in entries.items():
        yield from (".TP", f".I {_text(term)}", _text(meaning))


def _text(text: str) -> str:
    """Escape the characters that roff would interpret."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + escaped if escaped.startswith((".", "\\(aq")) else escaped


def _quoted(text: str) -> str:
    return '"' + _text(text).replace('"', "\\(dq") + '"'
