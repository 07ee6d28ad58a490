"""Find what has begun and what has ended since the last look, so that each is announced once; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Change(NamedTuple):
    """What has changed since the last look, each in alphabetical order."""

    begun: list[str]
    ended: list[str]


class OnChange:
    """Remember what holds. What ends and begins again is announced again."""

    def __init__(self) -> None:
        self._holding: frozenset[str] = frozenset()

    def update(self, holding: Iterable[str]) -> Change:
        """Take all that holds now; return what does so newly, and what does no longer."""
        before, self._holding = self._holding, frozenset(holding)
        return Change(sorted(self._holding - before), sorted(before - self._holding))

    def retain(self, keys: Iterable[str]) -> None:
        """Forget what is not among these: it has not ended, and if it holds it has begun."""
        self._holding &= frozenset(keys)
