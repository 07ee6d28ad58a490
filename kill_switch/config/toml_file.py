"""Find and parse the configuration file, up to named tables."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from kill_switch.config.defaults import CONFIG
from kill_switch.config.messages import Raw, at, describe
from kill_switch.config.parsers import NAME_HINT, is_name
from kill_switch.config.salvage import salvage
from kill_switch.errors import ConfigError, Problem

DEFAULT = Path(CONFIG)
MOST_SAID = 160  # characters of what the parser says


def find(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the file that is meant: the one given, else the environment's, else the system's."""
    return path or Path(environ.get("KILL_SWITCH_CONFIG") or DEFAULT)


def parse(source: Path) -> Raw:
    """Return the file's tables, or raise `ConfigError` with the one line that says why not."""
    parsed = _read(source)
    if isinstance(parsed, Problem):  # raised here and not in an `except`: a traceback would print its cause
        raise ConfigError(str(source), [parsed])
    return parsed


def parse_parts(source: Path) -> tuple[Raw, Mapping[str, str], list[Problem]]:
    """Return what can be trusted of the file, the accounts that are lost with the lines that name them, and problems.

    Raises `ConfigError` if the file cannot be read, if nothing of it can be trusted, or if a part that does not parse
    says something unclear of a directory: another daemon's may be meant.
    """
    parsed = _read(source)
    if not isinstance(parsed, Problem):
        return parsed, {}, []
    try:
        found = salvage(source.read_bytes().decode("utf-8-sig", "surrogateescape"))
    except (OSError, ValueError):
        raise ConfigError(str(source), [parsed]) from None
    unclear = [key for key, value in found.directories.items() if value is None]
    if unclear:
        hint = "where the daemon's files are is unclear: put it right"
        raise ConfigError(str(source), [parsed, *(Problem(f"daemon.{key}", "not understood", hint) for key in unclear)])
    document = dict(found.document)
    daemon = document.get("daemon", {})
    if isinstance(daemon, dict):
        document["daemon"] = {**found.directories, **daemon}
    return document, found.lost, [parsed, *(Problem(part, "left out", "not TOML") for part in found.parts)]


def _read(source: Path) -> Raw | Problem:
    try:
        content = source.read_bytes()
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        hint = "`kill-switch init` writes a file; -c FILE or $KILL_SWITCH_CONFIG names another"
        return Problem("file", _lower(why), hint)
    try:
        document = tomllib.loads(content.decode("utf-8-sig"))
        json.dumps(document, default=str)  # what JSON cannot carry, no table can
        return document
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Problem(f"line {line}", "not UTF-8", "save the file as UTF-8")
    except RecursionError:
        return Problem("file", "nested too deeply", "expected tables as in the file that `kill-switch init` writes")
    except ValueError as error:
        said = re.fullmatch(r"(?s)(.*) \(at (line \d+, column \d+|end of document)\)", str(error))
        if said is None:
            return Problem("file", "a number with too many digits", "expected a smaller one")
        return Problem(said[2], _brief(_lower(said[1])), 'expected TOML: key = "value", with strings in quotes')


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _brief(text: str) -> str:
    """Cut what `tomllib` says: it may have a key in it, of any length."""
    return text if len(text) <= MOST_SAID else f"{text[: MOST_SAID // 2]}…{text[-MOST_SAID // 2 :]}"


def exposed(path: Path, where: str = "file") -> Iterator[Problem]:
    """Yield why a file is not to be followed: others can write to it, and so say where keys go and what runs."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return  # whoever reads it says why
    if status.st_mode & stat.S_IWOTH:
        yield Problem(where, "everyone can write to it", f"chmod o-w {shlex.quote(str(path))}")
        return
    if not status.st_mode & stat.S_IWGRP:
        return
    from kill_switch.system import users  # here: `fire` and `status` do without, and must be fast

    if who := users.strangers(status.st_gid, (0, os.geteuid(), status.st_uid)):
        yield Problem(where, f"its group can write to it, and {who} is in it", f"chmod g-w {shlex.quote(str(path))}")


def table_of(document: Raw, name: str, problems: list[Problem]) -> Raw:
    """Return a table, an empty one if it is not there or is something else."""
    table = document.get(name, {})
    if isinstance(table, dict):
        return table
    form = f"[{name}.NAME]" if name in ("accounts", "triggers") else f"[{name}]"
    problems.append(Problem(name, describe(table), f"expected a table {form}"))
    return {}


def named(tables: Raw, path: str, problems: list[Problem]) -> dict[str, Raw]:
    """Return the tables in a table; report what is none, and names that are none."""
    found: dict[str, Raw] = {}
    for name, value in tables.items():
        if not is_name(name):
            problems.append(Problem(at(path, name), "not a name", NAME_HINT))
        if isinstance(value, dict):
            found[name] = value
        else:
            problems.append(Problem(at(path, name), describe(value), f"expected a table [{at(path, name)}]"))
    return found
