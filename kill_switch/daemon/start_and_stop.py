"""The announcements that the daemon has started, and that it stops: whether anybody watches now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import kill_switch
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.core.records import ReloadRecord, StartRecord
from kill_switch.core.state import State
from kill_switch.journal.records import StopRecord

# of a daemon's life; a reload is among them, because the journal's fold keeps the last start or reload alone
_LIVES = (StartRecord.kind, ReloadRecord.kind, StopRecord.kind)
MAX_NAMED = 10  # accounts that a text names


def started(entries: Sequence[Mapping[str, Any]], state: State, triggers: int) -> Announce:
    """Return that the daemon watches, and since when nobody did if the last one ended without a stop.

    `entries` are the journal's entries of earlier runs.
    """
    text = f"version {kill_switch.__version__} watches {len(state.accounts)} account(s) with {triggers} trigger(s)"
    if state.tripped:
        text += f"; tripped: {_named(state.tripped)}"
    lives = (entry["kind"] for entry in reversed(entries) if entry["kind"] in _LIVES)
    if next(lives, StopRecord.kind) != StopRecord.kind:
        text += f"; the last daemon ended without a stop, after {entries[-1]['at']}: nobody has watched since"
        return Announce(Severity.START, text, do="find out why: journalctl -u kill-switch")
    return Announce(Severity.START, text)


def stopped(signal: str, state: State) -> Announce:
    """Return that the daemon stops because of a signal, and which accounts stay tripped."""
    text = f"nobody watches now: the daemon was stopped by {signal}"
    if state.tripped:
        text += f"; {_named(state.tripped)} stay tripped, and nobody cancels new orders there"
    return Announce(Severity.STOP, text, do="unless it is restarted already: systemctl start kill-switch")


def _named(names: Sequence[str]) -> str:
    others = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + others
