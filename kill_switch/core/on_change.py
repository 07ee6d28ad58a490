"""Compare a set of conditions with its last state, so that each change is announced once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Change(NamedTuple):
    """Changes between two calls of `OnChange.update`, in alphabetical order."""

    begun: list[str]
    ended: list[str]


class OnChange:
    """The conditions that held at the last update. A condition that ends and begins again is a change again."""

    def __init__(self) -> None:
        self._holding: frozenset[str] = frozenset()

    def update(self, holding: Iterable[str]) -> Change:
        """Replace the conditions by those that hold now; return which have begun and which have ended."""
        before, self._holding = self._holding, frozenset(holding)
        return Change(sorted(self._holding - before), sorted(before - self._holding))

    def retain(self, keys: Iterable[str]) -> None:
        """Forget the conditions outside `keys` silently. If they hold at the next update, they have begun."""
        self._holding &= frozenset(keys)
