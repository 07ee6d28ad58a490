"""Throw mutated input at every parser that takes bytes from outside: `python -m tests.fuzz --inputs 1000000`."""

from __future__ import annotations

from .files import FILE_TARGETS
from .lines import LINE_TARGETS
from .target import Target
from .venues import VENUE_TARGETS
from .wires import HttpTarget, WsTarget

_ALL: tuple[type[Target], ...] = (*VENUE_TARGETS, HttpTarget, WsTarget, *FILE_TARGETS, *LINE_TARGETS)
TARGETS = {target.NAME: target for target in _ALL}
