"""What a start would make of a journal: tests of the journal, of crashes and of damaged files ask for it."""

from __future__ import annotations

from collections.abc import Iterable

from kill_switch.core.records import Entry
from kill_switch.core.recovery import RecoveryFold


def tripped_accounts(entries: Iterable[Entry]) -> frozenset[str]:
    """Return the names of all accounts that the entries leave tripped, configured or not."""
    fold = RecoveryFold()
    for entry in entries:
        fold.take(entry)
    return frozenset(fold.latches)
