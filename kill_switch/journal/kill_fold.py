"""Fold the records of one kill: its reasons, its accounts' reports and its head. Pure.

`kill_report.ReportBuilder` holds one `KillFold` for each kill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from kill_switch.journal.account_report import AccountReport
from kill_switch.journal.kill_head import KillHead


class Stamp(NamedTuple):
    """When and on which boot a record was written."""

    at: str  # wall time, ISO 8601
    boot: str  # id of the boot that its monotonic times belong to


@dataclass(slots=True)
class KillFold:
    """The state of one kill's report, folded from the records so far."""

    id: str
    boot: str
    began_mono_ns: int
    began_wall_ns: int
    known_as: str = ""  # the kill's id before `fire --direct` joined the journal
    reasons: list[dict[str, object]] = field(default_factory=list)
    accounts: dict[str, AccountReport] = field(default_factory=dict)
    head: KillHead = field(default_factory=KillHead)

    def to_json(self, *, names: bool = True) -> dict[str, object]:
        """Return every field in JSON's plain values; without `names`, orders are only counted."""
        return {
            "id": self.id,
            "boot": self.boot,
            "known_as": self.known_as,
            "began": [self.began_mono_ns, self.began_wall_ns],
            "reasons": self.reasons,
            "accounts": {name: account.to_json(names=names) for name, account in self.accounts.items()},
            "head": self.head.to_json(),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> KillFold:
        """Read the result of `to_json`."""
        mono_ns, wall_ns = data["began"]
        accounts = {name: AccountReport.from_json(account) for name, account in data["accounts"].items()}
        known_as, reasons, head = (
            data.get("known_as", ""),
            list(data["reasons"]),
            KillHead.from_json(data.get("head", {})),
        )
        return KillFold(data["id"], data["boot"], mono_ns, wall_ns, known_as, reasons, accounts, head)

    def elapsed_us(self, stamp: Stamp, mono_ns: int) -> int:
        """Return the µs since the kill's first reason, by the monotonic clock, or by the wall clock of another boot."""
        if stamp.boot == self.boot:
            return (mono_ns - self.began_mono_ns) // 1000
        wall_s = datetime.fromisoformat(stamp.at).timestamp()
        return int(wall_s * 1e6) - self.began_wall_ns // 1000
