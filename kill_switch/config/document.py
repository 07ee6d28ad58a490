"""Read the configuration's files as one document: the main file, and those that its key `include` names.

The loader uses this. Values within tables are not checked here, except `include` itself. Accounts, triggers and
defaults may be in any file; all other tables are in the main file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kill_switch.config import included_files, toml_file
from kill_switch.config.messages import Raw, config_path, safe_description
from kill_switch.errors import ConfigError, Problem

INCLUDE = "include"
SHARED = ("accounts", "triggers", "defaults")  # tables that an included file may have, each with named tables in it
# tables, accounts that were lost, problems, tables with lines that are not understood
Parsed = tuple[Raw, Mapping[str, str], Sequence[Problem], Collection[str]]
Parse = Callable[[Path], Parsed]
_PATTERNS = 'expected an array of files, such as ["accounts.d/*.toml"]'


class Document(NamedTuple):
    """The tables of all files, and the faults of the files."""

    tables: Raw
    files: list[Path]  # those that were read; the main file first
    problems: list[Problem]
    lost: dict[str, str]  # account → why its table was not understood
    unread: dict[str, str]  # file, or a table in it, that may have further accounts → why it is not used
    faulty: set[str]  # tables with lines that are not understood, as `syntax_errors` names them


def read(source: Path) -> Document:
    """Read the files; raise `ConfigError` if the main file cannot be read. Other faults are problems."""

    def parse(path: Path) -> Parsed:
        problems, _, tables, faulty = toml_file.parse(path)
        return tables, {}, problems, faulty

    document = _read(source, parse)
    document.problems[:0] = toml_file.exposed(source)
    if document.unread:
        document.faulty.add(INCLUDE)
    return document


def read_parts(source: Path) -> Document:
    """Read the usable parts of all files, for a kill; raise `ConfigError` as `toml_file.parse_parts` does."""
    return _read(source, lambda path: (*toml_file.parse_parts(path), ()))


def with_defaults(tables: Raw) -> dict[str, Any]:
    """Return the accounts' tables, each with the keys of `[defaults.<venue>]` that it does not have itself."""
    accounts, defaults = (
        each if isinstance(each := tables.get(name), dict) else {} for name in ("accounts", "defaults")
    )
    return {
        name: {**defaults_of(defaults, table), **table} if isinstance(table, dict) else table
        for name, table in accounts.items()
    }


def defaults_of(defaults: Raw, table: Raw) -> Raw:
    """Return the defaults for an account's table, by its venue."""
    venue = table.get("venue")
    keys = defaults.get(venue) if isinstance(venue, str) else None
    return keys if isinstance(keys, dict) else {}


def wrong_defaults(
    defaults: Raw, venues: Collection[str], unusable: Callable[[str, str], Problem]
) -> Iterator[Problem]:
    """Yield the faults of `[defaults.<venue>]` that no account shows.

    `unusable` returns the problem, at a path, of a name that is no venue, or none that is offered.
    """
    for venue, table in defaults.items():
        path = config_path("defaults", venue)
        if venue not in venues:
            problem = unusable(path, venue)
            is_unknown = problem.description == safe_description(venue, venues)
            yield replace(problem, description="no venue") if is_unknown else problem
        elif not isinstance(table, dict):
            yield Problem(path, safe_description(table), f"expected a table [{path}]")
        elif "venue" in table:
            yield Problem(config_path(path, "venue"), "the venue is the table's name", "leave it out")


def at_default(problem: Problem, name: str, table: Raw, defaults: Raw) -> Problem:
    """Return an account's problem at the key of `[defaults.<venue>]`, if the account has the value from there."""
    for key in defaults_of(defaults, table).keys() - table.keys():
        path = config_path("accounts", name, key)
        if problem.path == path or problem.path.startswith((f"{path}.", f"{path}[")):
            return replace(problem, path=config_path("defaults", table["venue"], key) + problem.path[len(path) :])
    return problem


def _read(source: Path, parse: Parse) -> Document:
    main, lost, wrong, faulty = parse(source)
    tables = {key: value for key, value in main.items() if key != INCLUDE}
    document = Document(tables, [source], list(wrong), dict(lost), {}, set(faulty))
    defined = {(name, key): source for name in SHARED for key in _table(main, name)}
    patterns = _patterns(main, document.problems)
    exposed: set[Path] = set()
    for path, number in included_files.matching(source, patterns).items():
        where = config_path(INCLUDE, number)
        for entry in (path, path.parent):
            if entry not in exposed and entry != source.parent:  # because the main file's directory is not looked at
                exposed.add(entry)
                document.problems.extend(toml_file.exposed(entry, where))
        try:
            part, its_lost, wrong, faulty = _parse_included(path, parse)
        except ConfigError as error:
            document.problems.extend(replace(each, place=str(path)) for each in error.problems)
            document.unread[str(path)] = "; ".join(map(str, error.problems))
            continue
        document.files.append(path)
        document.lost.update(its_lost)
        document.faulty.update(faulty)
        document.problems.extend(replace(each, place=str(path)) for each in wrong)
        _merge(document, tables, path, part, defined)
    return document


def _parse_included(path: Path, parse: Parse) -> Parsed:
    """Parse an included file; raise `ConfigError` if it cannot be read, or is a pipe, which would block."""
    try:
        is_there, is_file = path.exists(), path.is_file()
    except OSError:  # its name is too long, or its directory is another user's: the read says so
        is_there = is_file = False
    if is_there and not is_file:
        raise ConfigError(str(path), [Problem("file", "not a regular file", _PATTERNS)])
    try:
        return parse(path)
    except ConfigError as error:
        if is_file:
            raise
        raise ConfigError(str(path), [replace(each, hint=_PATTERNS) for each in error.problems]) from None


def _merge(
    document: Document, tables: dict[str, Any], path: Path, part: Raw, defined: dict[tuple[str, str], Path]
) -> None:
    """Add an included file's tables; what an earlier file has is a problem, and is not replaced."""
    for name, value in part.items():
        if name not in SHARED:
            hint = f"it may have {', '.join(f'[{shared}.NAME]' for shared in SHARED)}; write others into the main file"
            document.problems.append(Problem(name, "not allowed in an included file", hint, str(path)))
            continue
        if not isinstance(value, dict) or not isinstance(tables.setdefault(name, {}), dict):
            document.problems.append(
                Problem(name, safe_description(value), f"expected tables [{name}.NAME]", str(path))
            )
            continue
        tables[name] = dict(tables[name])
        for key, table in value.items():
            earlier = defined.setdefault((name, key), path)
            if earlier == path:
                tables[name][key] = table
                continue
            where = config_path(name, key)
            document.problems.append(_clash(where, earlier, path))
            if name == "accounts":
                document.unread[f"[{where}] of {path}"] = f"{earlier} has an account of that name too"


def _clash(where: str, earlier: Path, path: Path) -> Problem:
    from kill_switch.config import toml_lines

    first, second = (
        toml_lines.located([file], [Problem(where, "", "")])[0].place or str(file) for file in (earlier, path)
    )
    return Problem(where, f"defined at {first} too", "call one of the two something else", second)


def _patterns(main: Raw, problems: list[Problem]) -> list[str]:
    """Return the patterns of `include`; report those that are none."""
    written = main.get(INCLUDE, [])
    if not isinstance(written, list):
        problems.append(Problem(INCLUDE, safe_description(written), _PATTERNS))
        return []
    patterns = []
    for number, pattern in enumerate(written):
        if isinstance(pattern, str) and pattern and pattern.isprintable():
            patterns.append(pattern)
        else:
            problems.append(Problem(config_path(INCLUDE, number), safe_description(pattern), _PATTERNS))
    return patterns


def _table(document: Raw, name: str) -> Raw:
    table = document.get(name)
    return table if isinstance(table, dict) else {}
