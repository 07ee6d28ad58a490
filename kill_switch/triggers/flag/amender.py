"""Add to a flag's reason the text and the owner of its file, after the kill; the supervisor owns it.

The kill does not wait for the file system. The record of a reason is never changed: an amendment record follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Reason, Severity
from kill_switch.journal.records import AmendmentRecord


class ReasonAmender:
    """Record, announce and pass on amendments of reasons."""

    def __init__(
        self,
        record: Callable[[str, Mapping[str, object]], object],
        announce: Callable[[Announce], None],
        identify_user: Callable[[int], object],
        on_amended: Callable[[str, str, str], object],
    ) -> None:
        """Keep the receivers.

        `record` writes a record of a kind durably. `identify_user` looks up the name of a user id and records it.
        `on_amended` gets the text of a reason before and after the amendment, and the file's owner, "" if unknown.
        """
        self._record = record
        self._announce = announce
        self._identify_user = identify_user
        self._on_amended = on_amended

    def amend(self, reason: Reason, text: str, evidence: Mapping[str, object]) -> None:
        """Add the text of a flag's file ("": it has none), and evidence, to a reason that was reported before."""
        record = AmendmentRecord(
            trigger=reason.trigger,
            observed_mono_ns=reason.observed_at.mono_ns,
            observed_wall_ns=reason.observed_at.wall_ns,
            text=text,
            evidence=evidence,
        )
        self._record(record.kind, record.to_json())
        self.identify(evidence)
        owner = replace(reason, evidence={**reason.evidence, **evidence}).by
        if text or owner:
            words = f"its file says: {text}" if text else "its file has no text"
            self._announce(Announce(Severity.INFO, f"trigger {reason.trigger}: {words}", by=owner))
        self._on_amended(f"{reason.trigger}: {reason.text}", f"{reason.trigger}: {text or reason.text}", owner)

    def identify(self, evidence: Mapping[str, object]) -> None:
        """Look up the user whose id is in a reason's evidence, if there is an id."""
        if isinstance(uid := evidence.get("uid"), int):
            self._identify_user(uid)

    def on_directory_made(self, directory: Path) -> None:
        """Announce that the daemon has made a flag's directory again after its removal."""
        text = f"{directory} was removed, and the daemon has made it again: flags in it are watched as before"
        self._announce(Announce(Severity.WARN, text))
