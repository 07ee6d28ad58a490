"""Say of a kill as a whole who fired it, under which configuration, and who has re-armed it since.

`report` holds a `Head` for each kill and fills it from the journal's records. Nothing here reads a clock or a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kill_switch.core.records import RearmApprovedRecord, RearmRecord

MAX_REARMS = 20  # of one kill that are kept: the last ones
MAX_APPROVALS = 20  # that are kept while another person is waited for


@dataclass(slots=True)
class KillHead:
    """What is known of one kill besides its reasons and its accounts."""

    config: str | None = None  # hash of the configuration that was in force; None: the record does not say
    unstruck: list[str] = field(default_factory=list)  # accounts that were meant, and could not be struck
    rearms: list[dict[str, object]] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Return every field in JSON's own values, for a checkpoint."""
        return {"config": self.config, "unstruck": self.unstruck, "rearms": self.rearms}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> KillHead:
        """Read back what `told` has returned; an older version has told nothing."""
        return KillHead(data.get("config"), list(data.get("unstruck", ())), list(data.get("rearms", ())))

    def add_rearm(self, record: Mapping[str, object], accounts: Iterable[str]) -> None:
        """Take note that a re-arm, as `ApprovalList.grant` describes it, has armed these accounts of the kill."""
        self.rearms.append({**record, "accounts": list(accounts)})
        del self.rearms[:-MAX_REARMS]

    def last_rearm(self, left: Iterable[str]) -> dict[str, object] | None:
        """Return the last re-arm, the accounts that are `left` tripped and the earlier re-arms; None without one."""
        if not self.rearms:
            return None
        return {**self.rearms[-1], "left": list(left), "earlier": self.rearms[:-1]}


class ApprovalList:
    """Hold who has approved a re-arm that waits for another person."""

    def __init__(self, data: Iterable[Mapping[str, Any]] = ()) -> None:
        self._approvals = [dict(item) for item in data]

    def to_json(self) -> list[dict[str, object]]:
        """Return them in JSON's own values, for a checkpoint."""
        return self._approvals

    def add(self, record: RearmApprovedRecord, at: str) -> None:
        """Take an approval; a person's later approval adds to the earlier one."""
        accounts = list(record.accounts)
        for earlier in [earlier for earlier in self._approvals if earlier["uid"] == record.uid]:
            self._approvals.remove(earlier)
            accounts += [name for name in earlier["accounts"] if name not in accounts]
        self._approvals.append({**_person(record, at), "accounts": accounts})
        del self._approvals[:-MAX_APPROVALS]

    def clear(self) -> None:
        """Forget them: a reason or a reload has come in between."""
        self._approvals.clear()

    def grant(self, record: RearmRecord, at: str) -> dict[str, object]:
        """Take a re-arm; return who re-armed, when, and everybody who has agreed, the last person included."""
        names = set(record.accounts)
        agreed = record.approvals  # an older version does not say who they were
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
    """Return who fired, by a kill's first reason: the trigger, and the person whom its evidence names.

    `at` is when the owner of a flag file has changed it last.
    """
    evidence = reason.get("evidence")
    known: Mapping[str, Any] = evidence if isinstance(evidence, Mapping) else {}
    uid = known.get("uid")
    user = known.get("user")
    if user is None and uid is not None:
        user = str(uid)
    return {"trigger": reason["trigger"], "uid": uid, "user": user, "at": known.get("mtime")}


def config_hash(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration as `in_force` lists it: equal for equal values, in whatever order."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _person(record: RearmApprovedRecord | RearmRecord, at: str) -> dict[str, object]:
    return {"uid": record.uid, "user": record.user, "at": at, "text": record.text}
