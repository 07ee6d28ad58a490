"""Define what is fuzzed: a target makes an input, takes it, and raises whatever is wrong."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from random import Random
from typing import ClassVar

from .mutate import mutate_bytes

CORPUS = Path(__file__).parent / "corpus"


class Wrong(Exception):
    """Say what a target did that it must not do."""


class After(Exception):
    """Say that a failure takes all of this input, one after the other."""

    def __init__(self, data: bytes, error: Exception) -> None:
        super().__init__(str(error))
        self.data = data
        self.error = error


def must(holds: object, what: str) -> None:
    if not holds:
        raise Wrong(what)


class Target(ABC):
    """One parser, with what it is known to be told; everything is built anew for each input, or put back."""

    NAME: ClassVar[str]

    @abstractmethod
    def seeds(self) -> Iterable[bytes]:
        """Yield input that is right: what mutations begin with."""

    @abstractmethod
    def take(self, data: bytes) -> None:
        """Take one input; raise whatever is wrong with what followed."""

    def mutate(self, random: Random, data: bytes) -> bytes:
        return mutate_bytes(random, data, self.pool)

    def steps(self, data: bytes) -> int:
        """Say how many things an input lets happen, where it is more than one."""
        return 1

    def age(self) -> None:
        """Look at what has outlived many inputs, and begin it anew; called at every 20,000th."""
        return

    def close(self) -> None:
        """Let go of files."""
        return

    @cached_property
    def pool(self) -> list[bytes]:
        return [*self.seeds(), *(path.read_bytes() for path in corpus(self.NAME))]

    def make(self, seed: int, number: int) -> bytes:
        """Make input number so-and-so of a seed."""
        random = Random(f"{self.NAME} {seed} {number}")  # noqa: S311 - it has to be the same every time
        return self.mutate(random, random.choice(self.pool))


def corpus(name: str) -> list[Path]:
    """Return the kept inputs of a target."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())
