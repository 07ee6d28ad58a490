"""Make the tables of `docs/reference/simulators.md` from the simulators: venues, faults, facts, other options.

Each table stands between two comments of the page. `tests.repository.reference` writes and compares it. What the page
says of a fault is in the docstring of `kill_switch.sim.kit.faults`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from kill_switch.sim.kit import faults
from kill_switch.sim.kit.faults import SPECS
from kill_switch.sim.kit.options import Options
from kill_switch.sim.main import VENUES

PAGE = Path(__file__).parents[2] / "docs/reference/simulators.md"
_FAULT = re.compile(r"^ {4}- `(\w+)[^`]*`[^:]*: (.+?)(?=\n {4}- |\Z)", re.DOTALL | re.MULTILINE)


def venues() -> Iterator[Sequence[str]]:
    """Yield the rows of the venues: what can be rested there, what a kill does not reach, types of keys."""
    yield "venue", "symbols", "kinds", "not_covered", "--key-type"
    for name, venue in sorted(VENUES.items()):
        shown = [_names(venue.symbols[:6]) + (", …" if len(venue.symbols) > 6 else ""), _names(venue.kinds)]
        yield name, *shown, _names(venue.not_covered), _names(venue.key_types)


def fault_rows() -> Iterator[Sequence[str]]:
    """Yield the rows of the faults: parameters, effect, the venues that do not support it."""
    yield "fault", "parameters", "what it does", "not at"
    said = dict(_FAULT.findall(faults.__doc__ or ""))
    for name, spec in SPECS.items():
        takes = (*spec.takes, *(("on",) if spec.choose else ()), *(("times",) if spec.counts else ()))
        text = " ".join(said[name].split())
        without = sorted(venue for venue, kind in VENUES.items() if name not in kind.supported)
        yield f"`{name}`", _names(takes), text[0].upper() + text[1:], ", ".join(without)


def facts() -> Iterator[Sequence[str]]:
    """Yield the rows of the options for facts that the documents leave open."""
    yield "venue", "option", "default", "kind", "harsh", "fact"
    for venue, option in _options():
        if _is_fact(option):
            decided = (_value(option.metadata[side]) for side in ("kind", "harsh"))
            yield venue, f"`{option.name}`", _value(option.default), *decided, option.metadata["says"]


def other_options() -> Iterator[Sequence[str]]:
    """Yield the rows of the other options."""
    yield "venue", "option", "default", "one of", "at start-up only", "what it is"
    for venue, option in _options():
        if not _is_fact(option):
            shown = ", ".join(map(_value, option.metadata["choices"])), "yes" if option.metadata["fixed"] else ""
            yield venue, f"`{option.name}`", _value(option.default), *shown, option.metadata["says"]


TABLES: Mapping[str, Callable[[], Iterator[Sequence[str]]]] = {
    "venues": venues,
    "faults": fault_rows,
    "facts": facts,
    "other options": other_options,
}


def made(page: str) -> str:
    """Return the page with each table as the simulators have it."""
    for name, rows in TABLES.items():
        begin, end = f"<!-- made from the simulators: {name} -->\n", "<!-- end -->"
        before, found, rest = page.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"{PAGE}: there is no table between {begin.strip()} and {end}")
        page = before + begin + "".join(_lines(rows())) + end + rest.partition(end)[2]
    return page


def _lines(rows: Iterator[Sequence[str]]) -> Iterator[str]:
    head = next(rows)
    yield "| " + " | ".join(head) + " |\n"
    yield "|---" * len(head) + "|\n"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n"


def _options() -> Iterator[tuple[str, Field[Any]]]:
    """Yield the options of every venue, first those that all have; a venue's own default makes an option its own."""
    common = {option.name: option for option in fields(Options)}
    for option in common.values():
        yield "all venues", option
    for venue, kind in sorted(VENUES.items()):
        for option in fields(kind.options_type):
            if option.metadata != getattr(common.get(option.name), "metadata", None):
                yield venue, option


def _is_fact(option: Field[Any]) -> bool:
    return option.metadata["kind"] is not None or option.metadata["harsh"] is not None


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _value(value: object) -> str:
    if value is None:
        return ""
    return "empty" if value == "" else f"`{str(value).lower() if isinstance(value, bool) else value}`"
