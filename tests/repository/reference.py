"""Make the reference pages from the code: commands, exit codes, configuration, metrics, journal
records, venues.

`python -m tests.repository.reference --write` writes them below `docs/reference`; `tests/repository/test_docs.py`
compares. What a page says of a key is the comment behind the key's field; of a venue's option, its description.
"""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kill_switch import errors
from kill_switch.cli import exit_codes
from kill_switch.cli import main as program
from kill_switch.config import parsers, schema
from kill_switch.core import record_codec
from kill_switch.journal import records
from kill_switch.outbound import metric_table
from kill_switch.venues import VENUES
from kill_switch.venues.ccxt.options import CcxtOptions
from kill_switch.venues.options import HttpOptions
from tests.repository import ccxt_tables, simulator_tables, status_screens

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/reference"
HEAD = "<!-- made by `python -m tests.repository.reference --write` from the code; change it there -->\n\n"
TABLES: Mapping[str, type[BaseModel]] = {
    "daemon": schema.DaemonConfig,
    "intake": schema.IntakeConfig,
    "rearm": schema.RearmConfig,
    "silence": schema.SilenceConfig,
    "drill": schema.DrillConfig,
    "hooks": schema.HooksConfig,
    "notify": schema.NotifyConfig,
    "ping": schema.PingConfig,
}
INTRODUCTION = """\
One TOML file: `-c FILE`, else `$KILL_SWITCH_CONFIG`, else `/etc/kill-switch/config.toml`. An unknown key, a wrong type
or an impossible combination is an error. All errors are reported at once, with file and line. A wrong value is shown
unless it may be a secret. Durations have a unit: `"250ms"`, `"3s"`, `"5m"`, `"1h"`. `kill-switch init` writes an
example with comments.

`include = ["accounts.d/*.toml"]`, before all tables, names further files by patterns beside the main file. They are
read in the order of the patterns, then of the names. They have `[accounts.NAME]`, `[triggers.NAME]` and
`[defaults.<venue>]` only. A name in two files, a file that cannot be read, and a file or directory that others can
write are errors. A reload reads all files again."""
CCXT = "`rest_url` and `products` have defaults of the id. Secrets: those of the id. [The ids](../venues/ccxt.md)."
ACCOUNTS = (
    '`venue` is the kind of venue; its own keys follow. A secret is `{ credential = "NAME" }`, `{ file = "/PATH" }` or '
    '`{ env = "NAME" }`. `[defaults.<venue>]` holds keys for all accounts of a '
    "venue; an account's own keys go before them."
)


# ── the command line ──────────────────────────────────────────────────────────────────────────────────────────────────


def command_line() -> str:
    """Return the page of the commands, each with its own help."""
    top = click.Context(program, info_name="kill-switch", **program.context_settings)
    lines = ["# Commands", "", "Each command takes `-c FILE` and `--help`. [Exit codes](exit-codes.md)."]
    for name in program.list_commands(top):
        command = program.commands[name]
        with click.Context(command, info_name=name, parent=top) as context:
            usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
            lines += ["", f"## {name}", "", f"    {usage}", "", *_help(command.help or "")]
            options = [parameter.get_help_record(context) for parameter in command.get_params(context)]
            rows = [f"| `{_cell(what)}` | {_cell(text)} |" for what, text in filter(None, options) if text]
            if rows:
                lines += ["", "| option | does |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _help(text: str) -> Iterator[str]:
    """Turn a help text into paragraphs; one that begins with a line of \\b is shown as it is."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(text).strip("\n"))):
        if number:
            yield ""
        if paragraph.startswith("\b"):
            yield "```text"
            yield from textwrap.dedent(paragraph[1:].strip("\n")).splitlines()
            yield "```"
        else:
            yield from textwrap.wrap(" ".join(paragraph.split()), 118, break_on_hyphens=False)


# ── exit codes ────────────────────────────────────────────────────────────────────────────────────────────────────────

EVERY_COMMAND = (
    "Each command can also end with 2, 70, 77 or 130. Each command that asks the daemon can end with 69, and each that "
    "reads the configuration with 78."
)
ERRORS = "A command that ends with one of the program's errors (`kill_switch/errors.py`) has that error's code."
STATUS = """\
`status` ends with 0 also if a lane is down while another lane carries a kill, or the journal cannot be written. A
script that needs these too asks for them:

<!-- needs: a daemon on simulators -->
<!-- run -->
```sh
kill-switch status --json | jq -e '(.accounts | all(.ready and .killable)) and .journal == "ok"'
```

It prints `true` and ends with 0, or prints `false` and ends with 1.

A `fire` or `rearm` that ends with 69 after a wait may still be carried out, because the request stays in the daemon's
socket while its process lives. The reason in the report then says when it was asked for.

A kill that is not in the journal yet ends with 0 if its latch is in a file. `problems` of `report --json` then says
what is missing, with `"note": true`.

## Output that is lost

A full disk, a closed pipe or a stuck reader never keeps a command from its work. A command that acts or judges
(`fire`, `rearm`, `status`, `check`) has its own exit code also if its output could not be written. A command that does
nothing but print ends with 74 instead of 0. In both cases a line on standard error says why. A reader that ends early,
such as `head`, changes no exit code and is not mentioned. A kill waits at most 0.5 s for a stuck reader of standard
error; what is not read then is lost.

With `--json`, an error is an object too: `{"error": TEXT, "exit": CODE}`, with what the daemon has answered. The text
also goes to standard error. Wrong usage (2) and a fault of the program (70) are on standard error alone."""


def exit_code_page() -> str:
    """Return the page of the exit codes: their meanings, those of each command, those of each error."""
    lines = [
        "# Exit codes",
        "",
        "The codes are an interface: scripts may rely on them. From 69 to 78 they are those of",
    ]
    lines += ["sysexits(3).", "", "| code | means |", "|---|---|"]
    lines += [f"| {code.number} | {_cell(code.meaning)} |" for code in exit_codes.EXIT_CODES]
    lines += ["", "## By command", "", *textwrap.wrap(EVERY_COMMAND, 118), ""]
    lines += ["| command | 0 | other |", "|---|---|---|"]
    for row in exit_codes.BY_COMMAND:
        others = "; ".join(f"{number}: {meaning}" for number, meaning in row.others.items())
        lines.append(f"| `{row.command}` | {_cell(row.success)} | {_cell(others)} |")
    lines += ["", STATUS, "", "## By error", "", *textwrap.wrap(ERRORS, 118), ""]
    lines += ["| error | code | means |", "|---|---|---|"]
    for error in error_classes():
        first = inspect.cleandoc(error.__doc__ or "").split("\n\n")[0]
        lines.append(f"| `{error.__name__}` | {error.exit_code} | {_cell(first)} |")
    return "\n".join(lines) + "\n"


def error_classes() -> list[type[errors.KillSwitchError]]:
    """Return the program's errors, by name."""
    found = [errors.KillSwitchError]
    for error in found:
        found += error.__subclasses__()
    return sorted(found, key=lambda error: error.__name__)


# ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────────

METRICS = (
    "`GET /metrics` at the address of `[daemon] metrics`; [how to use them](../guides/metrics.md). A `state` is a "
    "gauge with one sample for each possible value of its last label: 1 for the present one, else 0. Values of labels "
    "are names of the configuration. Times are in seconds. `process_*` is the daemon's process; some are missing where "
    "`/proc` cannot be read."
)


def metrics() -> str:
    """Return the page of the metrics."""
    lines = ["# Metrics", "", *textwrap.wrap(METRICS, 118, break_on_hyphens=False), ""]
    lines += ["| metric | type | labels | means |", "|---|---|---|---|"]
    for metric in metric_table.METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        states = " or ".join(f"`{state}`" for state in metric.states)
        meaning = f"{metric.help} `{metric.labels[-1]}` is {states}." if states else metric.help
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {_cell(meaning)} |")
    return "\n".join(lines) + "\n"


# ── the configuration ─────────────────────────────────────────────────────────────────────────────────────────────────


def configuration() -> str:
    """Return the page of the tables and their keys."""
    lines = ["# Configuration", "", *_help(INTRODUCTION)]
    for name, model in TABLES.items():
        lines += _table(f"[{name}]", model, name)
    lines += _table("[accounts.NAME]", schema.CommonConfig)
    lines += ["", *textwrap.wrap(ACCOUNTS, 118, break_on_hyphens=False)]
    for name, venue in sorted(VENUES.items()):
        defaults = venue.Options.model_construct()
        instead = venue.alternatives(defaults)
        wanted = [_codes(venue.secrets(defaults)), *(f"`{other}` instead of `{key}`" for key, other in instead.items())]
        wanted += [f"optional, all or none: {_codes(together)}" for together in venue.optional_secrets(defaults)]
        secrets = "; ".join(wanted)
        lines += [*_table(f'[accounts.NAME], venue = "{name}"', venue.Options), "", f"Secrets: {secrets}."]
    lines += [*_table('[accounts.NAME], venue = "ccxt:ID"', CcxtOptions), "", CCXT]
    for kind, trigger in schema.KINDS.items():
        lines += _table(f'[triggers.NAME], kind = "{kind}"', trigger, kind)
    return "\n".join(lines) + "\n"


def _codes(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(title: str, model: type[BaseModel], prefix: str = "") -> list[str]:
    comments = _comments(model)
    rows = []
    for name, field in model.model_fields.items():
        if name != "kind":
            key = field.alias or name
            means = [comments.get(name, ""), *_rules(key, field, prefix)]
            if issubclass(model, HttpOptions):
                means = [model.describe(name), _one_of(field)]
            says = filter(None, means)
            rows.append(f"| `{key}` | {_default(field)} | {_cell('; '.join(says))} |")
    return ["", f"## {title}", "", "| key | default | means |", "|---|---|---|", *rows]


def _rules(key: str, field: FieldInfo, prefix: str) -> Iterator[str]:
    """Yield what a value must be."""
    yield _one_of(field) or (field.description or "").removeprefix("expected ")
    for bounded in (key, f"{prefix}.{key}"):
        if bounded in parsers.BOUNDS:
            yield "{} to {}".format(*parsers.BOUNDS[bounded])


def _one_of(field: FieldInfo) -> str:
    choices = _choices(field.annotation)
    return "one of " + ", ".join(f'`"{each}"`' for each in choices) if choices else ""


def _choices(annotation: object) -> Sequence[Any]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.default
    if value is None or value in ((), {}, ""):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f'`"{_seconds(value)}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{each}"' for each in value) + "]`"
    return f"`{value}`" if isinstance(value, int) else f'`"{value}"`'


def _seconds(value: float) -> str:
    return f"{value * 1000:g}ms" if value < 1 else f"{value:g}s"


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """Return the comment behind each field, of the model and what it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, BaseModel) or kind.__module__.startswith("pydantic"):
            continue
        name = ""
        for line in inspect.getsource(kind).splitlines():
            name = match[1] if (match := re.match(r"\s+(\w+): ", line)) else name
            if name and (comment := re.search(r"  # (?!noqa)(.+)$", line)):
                found[name] = comment[1]
    return found


# ── the journal's records ─────────────────────────────────────────────────────────────────────────────────────────────

RECORDS = (
    f"Each line of `journal.jsonl` is one record: `seq, at, mono_ns, boot, kind, data, prev, hash`. `data` depends on "
    f"`kind`. This page lists the kinds in format {records.FORMAT} of the journal. The `start` and `checkpoint` "
    "records say which format it is; without one it is format 1. A daemon that does not know the format starts "
    "tripped. A version leaves fields out that it does not know, and records of unknown kinds. A record about latches "
    "that cannot be understood trips every account."
)


def journal_records() -> str:
    """Return the page of the journal's records."""
    lines = ["# Journal records", "", *textwrap.wrap(RECORDS, 118, break_on_hyphens=False), ""]
    lines += ["| kind | written by | read by | since | trips |", "|---|---|---|---|---|"]
    for row in records.TABLE:
        kind = row.record.kind
        trips = "yes" if row.trips else ""
        lines.append(f"| [`{kind}`](#{kind}) | {row.written_by} | {row.read_by} | {row.since} | {trips} |")
    for row in records.TABLE:
        lines += ["", f"## {row.record.kind}", "", "| field | type | means |", "|---|---|---|"]
        for field in record_codec.fields_of(row.record):
            rule = "must be there" if field.required else "left out if there is none" if field.omitted else ""
            meaning = _cell("; ".join(filter(None, [field.meaning, rule])))
            lines.append(f"| `{field.name}` | {_type(field.hint)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _type(hint: Any) -> str:
    """Name a field's type in JSON's words."""
    names = {str: "string", int: "integer", bool: "true or false", Any: "any"}
    args = [one for one in get_args(hint) if one is not type(None)]
    if hint in names:
        return names[hint]
    if type(None) in get_args(hint):
        return f"{_type(args[0])} or null"
    origin = get_origin(hint)
    if origin is tuple:
        return f"array of {_type(args[0])}" if args[-1] is ... else "array"
    if origin is not None or is_dataclass(hint):
        return "object"
    return "string"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# ── what a kill reaches ──────────────────────────────────────────────────────────────────────────────────────────────


def venue_page() -> str:
    """Return the page of what a kill sends at each venue, and of what it covers."""
    lines = ["# What a kill reaches", ""]
    lines += ["From the venues' documents; `kill-switch venues` prints the same. `check` has a line for each account."]
    for name, venue in VENUES.items():
        lines += ["", f"## {name}", "", f"Verified against the live venue: {venue.VERIFIED or 'never'}."]
        for title, phrases in (
            ("A kill sends", venue.COMMANDS),
            ("Covered", venue.COVERED),
            ("Not covered", venue.NOT_COVERED),
        ):
            lines += ["", f"{title}:", "", *(f"- {phrase}" for phrase in phrases)]
        lines += ["", "| a guess | what covers a wrong one |", "|---|---|"]
        lines += [f"| {_cell(fact)} | {_cell(cover)} |" for fact, cover in venue.GUESSES]
    lines += ["", "## ccxt:ID", "", "[Venues through ccxt](../venues/ccxt.md) has the same of each id."]
    return "\n".join(lines) + "\n"


# ── all ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    return {
        PAGES / "cli.md": HEAD + command_line(),
        PAGES / "configuration.md": HEAD + configuration(),
        PAGES / "exit-codes.md": HEAD + exit_code_page(),
        PAGES / "journal-records.md": HEAD + journal_records(),
        PAGES / "metrics.md": HEAD + metrics(),
        PAGES / "status-screens.md": HEAD + status_screens.page(),
        PAGES / "venues.md": HEAD + venue_page(),
        ccxt_tables.PAGE: ccxt_tables.made(ccxt_tables.PAGE.read_text("utf-8")),
        simulator_tables.PAGE: simulator_tables.made(simulator_tables.PAGE.read_text("utf-8")),
    }


def main() -> None:
    """Write the pages, or say which differ."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.repository.reference", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--write", action="store_true", help="write the pages")
    write = parser.parse_args().write
    for path, text in pages().items():
        same = path.exists() and path.read_text("utf-8") == text
        if write and not same:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        print(f"{path.relative_to(ROOT)}: {'as in the code' if same else 'written' if write else 'differs'}")


if __name__ == "__main__":
    main()
