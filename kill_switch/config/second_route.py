"""Read the two names of one key of [daemon], `hedge_after` and `second_route_after`: when the second route goes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from kill_switch.config.messages import Raw
from kill_switch.errors import Problem

KEY = "hedge_after"  # the name in records of the configuration
OTHER = "second_route_after"


def under_one_name(table: Raw, problems: list[Problem]) -> tuple[Raw, str]:
    """Return the table with the key under `KEY`, and the name that the file uses; report a file that uses both."""
    if OTHER not in table:
        return table, KEY
    other_keys = {key: value for key, value in table.items() if key != OTHER}
    if KEY in table:
        description = f"given beside {KEY}, which is another name of the same key"
        problems.append(Problem(f"daemon.{OTHER}", description, "keep one of the two"))
        return other_keys, KEY
    return {**other_keys, KEY: table[OTHER]}, OTHER


def as_written(problems: Iterable[Problem], key: str) -> Iterator[Problem]:
    """Yield the problems with the name that the file uses."""
    for problem in problems:
        yield replace(problem, path=f"daemon.{key}") if problem.path == f"daemon.{KEY}" else problem
