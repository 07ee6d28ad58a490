"""Throw mutated input at every parser that takes bytes from outside: `python -m tests.system.fuzz --inputs 1000000`."""

from __future__ import annotations

from .adapter_targets import VENUE_TARGETS
from .file_targets import FILE_TARGETS
from .ipc_targets import LINE_TARGETS
from .target import Target
from .transport_targets import HttpTarget, WsTarget

_ALL: tuple[type[Target], ...] = (*VENUE_TARGETS, HttpTarget, WsTarget, *FILE_TARGETS, *LINE_TARGETS)
TARGETS = {target.NAME: target for target in _ALL}
