"""Find and parse the configuration file, up to named tables.

The loader and the fast look-up of the sockets use this. Values within tables are not checked here.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from kill_switch.config.defaults import CONFIG
from kill_switch.config.included_files import MOST_MAIN_BYTES, read_regular
from kill_switch.config.messages import Raw, config_path, safe_description
from kill_switch.config.parsers import NAME_HINT, is_name
from kill_switch.config.salvage import salvage
from kill_switch.config.syntax_errors import SyntaxFaults
from kill_switch.config.syntax_errors import find as find_syntax_faults
from kill_switch.errors import ConfigError, Problem

DEFAULT = Path(CONFIG)


def find(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the path of the file: the given one, else $KILL_SWITCH_CONFIG, else `DEFAULT`."""
    return path or Path(environ.get("KILL_SWITCH_CONFIG") or DEFAULT)


def parse(source: Path) -> SyntaxFaults:
    """Return the file's tables, or what parses of them with every syntax error.

    Raises `ConfigError` with its single problem if the file cannot be read, or is no text at all.
    """
    parsed = _read(source)
    if isinstance(parsed, Problem):  # raised here and not in an `except`, because a traceback would print its cause
        raise ConfigError(str(source), [parsed])
    return parsed


def parse_parts(source: Path) -> tuple[Raw, Mapping[str, str], list[Problem]]:
    """Return the file's usable tables, the accounts lost with unreadable lines, and the problems.

    Raises `ConfigError` if the file cannot be read or no part of it is usable. Also if an unreadable part names a
    directory unclearly, because another daemon's may be meant.
    """
    parsed = _read(source)
    if isinstance(parsed, SyntaxFaults):
        if not parsed.problems:
            return parsed.tables, {}, []
        parsed = parsed.problems[0]
    try:
        salvaged = salvage(read_regular(source, MOST_MAIN_BYTES).decode("utf-8-sig", "surrogateescape"))
    except (OSError, ValueError):
        raise ConfigError(str(source), [parsed]) from None
    unclear = [key for key, value in salvaged.directories.items() if value is None]
    if unclear:
        hint = "the daemon's directories are unclear: correct these lines"
        raise ConfigError(str(source), [parsed, *(Problem(f"daemon.{key}", "not understood", hint) for key in unclear)])
    document = dict(salvaged.document)
    daemon = document.get("daemon", {})
    if isinstance(daemon, dict):
        document["daemon"] = {**salvaged.directories, **daemon}
    return document, salvaged.lost, [parsed, *(Problem(part, "left out", "not TOML") for part in salvaged.parts)]


def _read(source: Path) -> SyntaxFaults | Problem:
    try:
        with source.open("rb") as file:
            content = file.read(MOST_MAIN_BYTES + 1)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        hint = "`kill-switch init` writes a file; -c FILE or $KILL_SWITCH_CONFIG names another"
        if isinstance(error, PermissionError):
            hint = "run as the daemon's user, or ask for the right to read it; it holds no secrets"
        return Problem("file", _lower(why), hint)
    if len(content) > MOST_MAIN_BYTES:
        return Problem("file", f"larger than {MOST_MAIN_BYTES >> 20} MiB", "divide it into files that `include` names")
    try:
        faults = find_syntax_faults(content.decode("utf-8-sig"))
        # because the models validate JSON, a value that JSON cannot hold is refused here
        json.dumps(faults.tables, default=str)
        return faults
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Problem(f"line {line}", "not UTF-8", "save the file as UTF-8")
    except RecursionError:
        return Problem("file", "nested too deeply", "expected tables as in the file that `kill-switch init` writes")
    except ValueError:
        return Problem("file", "a number with too many digits", "expected a smaller one")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def exposed(path: Path, where: str = "file") -> Iterator[Problem]:
    """Yield a problem if other users can write to a file, because they could change addresses and commands."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return  # the function that reads the file reports it
    if status.st_mode & stat.S_IWOTH:
        yield Problem(where, "everyone can write to it", f"chmod o-w {shlex.quote(str(path))}")
        return
    if not status.st_mode & stat.S_IWGRP:
        return
    from kill_switch.system import users  # imported here, because `fire` and `status` do not need it and must be fast

    if others := users.unlisted_members(status.st_gid, (0, os.geteuid(), status.st_uid)):
        yield Problem(where, f"its group can write to it, and {others} is in it", f"chmod g-w {shlex.quote(str(path))}")


def table_of(document: Raw, name: str, problems: list[Problem]) -> Raw:
    """Return a table; report a value that is not a table and return an empty one. A missing table is empty."""
    table = document.get(name, {})
    if isinstance(table, dict):
        return table
    form = f"[{name}.NAME]" if name in ("accounts", "triggers") else f"[{name}]"
    problems.append(Problem(name, safe_description(table), f"expected a table {form}"))
    return {}


def named(tables: Raw, path: str, problems: list[Problem]) -> dict[str, Raw]:
    """Return the tables within a table; report values that are not tables, and invalid names."""
    named_tables: dict[str, Raw] = {}
    for name, value in tables.items():
        if not is_name(name):
            problems.append(Problem(config_path(path, name), "not a name", NAME_HINT))
        if isinstance(value, dict):
            named_tables[name] = value
        else:
            problems.append(
                Problem(
                    config_path(path, name), safe_description(value), f"expected a table [{config_path(path, name)}]"
                )
            )
    return named_tables
