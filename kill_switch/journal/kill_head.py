"""The part of a kill's report above its accounts: who fired, under which configuration, and who re-armed. Pure.

`kill_report` holds a `KillHead` for each kill and fills it from the records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kill_switch.core.records import RearmApprovedRecord, RearmRecord

MAX_REARMS = 20  # re-arms that are kept of one kill: the last
MAX_APPROVALS = 20  # approvals that are kept while a re-arm waits for another person


@dataclass(slots=True)
class KillHead:
    """The facts of one kill besides its reasons and its accounts."""

    config: str | None = None  # hash of the configuration in force; None: no record has it
    unstruck: list[str] = field(default_factory=list)  # accounts in scope that could not be struck
    rearms: list[dict[str, object]] = field(default_factory=list)  # the last `MAX_REARMS`

    def to_json(self) -> dict[str, object]:
        """Return every field in JSON's plain values, for a checkpoint."""
        return {"config": self.config, "unstruck": self.unstruck, "rearms": self.rearms}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> KillHead:
        """Read the result of `to_json`; fields that an earlier version lacks are empty."""
        return KillHead(data.get("config"), list(data.get("unstruck", ())), list(data.get("rearms", ())))

    def add_rearm(self, record: Mapping[str, object], accounts: Iterable[str]) -> None:
        """Add a re-arm of these accounts of the kill; `record` is the result of `ApprovalList.grant`."""
        self.rearms.append({**record, "accounts": list(accounts)})
        del self.rearms[:-MAX_REARMS]

    def last_rearm(self, left: Iterable[str]) -> dict[str, object] | None:
        """Return the last re-arm with the earlier re-arms and the accounts `left` tripped; None if there is none."""
        if not self.rearms:
            return None
        return {**self.rearms[-1], "left": list(left), "earlier": self.rearms[:-1]}


class ApprovalList:
    """The approvals of a re-arm that waits for another person."""

    def __init__(self, data: Iterable[Mapping[str, Any]] = ()) -> None:
        """Begin with `data`, the result of `to_json`."""
        self._approvals = [dict(item) for item in data]

    def to_json(self) -> list[dict[str, object]]:
        """Return the approvals in JSON's plain values, for a checkpoint."""
        return self._approvals

    def add(self, record: RearmApprovedRecord, at: str) -> None:
        """Add an approval; a person's later approval is merged with the earlier approval."""
        accounts = list(record.accounts)
        for earlier in [earlier for earlier in self._approvals if earlier["uid"] == record.uid]:
            self._approvals.remove(earlier)
            accounts += [name for name in earlier["accounts"] if name not in accounts]
        self._approvals.append({**_person(record, at), "accounts": accounts})
        del self._approvals[:-MAX_APPROVALS]

    def clear(self) -> None:
        """Drop all approvals, because a reason or a reload came in between."""
        self._approvals.clear()

    def grant(self, record: RearmRecord, at: str) -> dict[str, object]:
        """Return the re-arm's person, time and approvals, the last person's included; drop all approvals."""
        names = set(record.accounts)
        agreed = record.approvals  # None in records of earlier versions
        earlier = [
            {key: value for key, value in approval.items() if key != "accounts"}
            for approval in self._approvals
            if approval["uid"] != record.uid
            and (approval["uid"] in agreed if agreed is not None else names.issubset(approval["accounts"]))
        ]
        self.clear()
        last = _person(record, at)
        return {**last, "forced": record.force, "approvals": [*earlier, last]}


def fired_by(reason: Mapping[str, Any]) -> dict[str, object]:
    """Return the trigger and the user of a kill's first reason; `at` is the flag file's last change by its owner."""
    evidence = reason.get("evidence")
    known: Mapping[str, Any] = evidence if isinstance(evidence, Mapping) else {}
    uid = known.get("uid")
    user = known.get("user")
    if user is None and uid is not None:
        user = str(uid)
    return {"trigger": reason["trigger"], "uid": uid, "user": user, "at": known.get("mtime")}


def config_hash(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration as `in_force` lists it, independent of the order of its keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _person(record: RearmApprovedRecord | RearmRecord, at: str) -> dict[str, object]:
    return {"uid": record.uid, "user": record.user, "at": at, "text": record.text}
