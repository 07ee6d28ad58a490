"""Choose entries of the journal for people: by time, kind and account. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from kill_switch import clock
from kill_switch.journal.records import Entry


class Selection(NamedTuple):
    """Conditions for entries; an empty one demands nothing."""

    since_ns: int | None = None  # wall time
    kinds: Collection[str] = ()
    accounts: Collection[str] = ()

    def takes(self, entry: Entry) -> bool:
        """Return whether the entry is of that time, of one of the kinds, and concerns one of the accounts."""
        if self.since_ns is not None and str(entry["at"]) < clock.iso(self.since_ns):
            return False
        if self.kinds and entry["kind"] not in self.kinds:
            return False
        return not self.accounts or not accounts_of(entry["data"]).isdisjoint(self.accounts)


def accounts_of(data: Mapping[str, Any]) -> set[str]:
    """Return the accounts that a record names."""
    names = {str(data["account"])} if isinstance(data.get("account"), str) else set[str]()
    for key in ("accounts", "scope", "unstruck"):
        value = data.get(key)
        if isinstance(value, list | tuple | dict):
            names.update(map(str, value))
    for sent in data.get("sent", ()):
        if isinstance(sent, Mapping) and isinstance(sent.get("account"), str):
            names.add(sent["account"])
    return names
