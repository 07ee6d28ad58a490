"""Join a kill that began without the journal to the journal, as if the journal had been open from the beginning. Pure.

`fire --direct` strikes first and opens the journal meanwhile. Strikes are numbered on from the journal's, a kill in
progress is joined, and accounts that an earlier kill has not finished are struck too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant, Phase
from kill_switch.core.state import AccountState, Kill, State, make_kill_id


class TakeoverPlan(NamedTuple):
    """The result of joining a running kill to the journal."""

    state: State  # of the struck accounts and of the unfinished accounts
    unfinished: tuple[str, ...]  # tripped and not clear by the journal, and not struck by this kill
    kill: str  # the kill's id in the journal
    strikes: Mapping[str, int]  # account → number of strikes that the journal had before

    def rewrite(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a record's data with the journal's kill id and strike numbers."""
        if kind == "reason" and data["kill"] != self.kill:
            return {**data, "kill": self.kill, "known_as": data["kill"]}
        if kind == "strike":
            return {"sent": [self._numbered(sent) for sent in data["sent"]]}
        return self._numbered(data) if "kill" in data else data

    def _numbered(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        renamed = {**data, "kill": self.kill}
        for key in ("strike", "strikes"):
            if key in data:
                renamed[key] = data[key] + self.strikes.get(data["account"], 0)
        return renamed


def plan_takeover(running: State, past: State, observed: Instant) -> TakeoverPlan:
    """Plan how the running kill continues the journal's state.

    `running` has the accounts that this process has struck. `past` is the journal's state and has every configured
    account. `observed` is when the first reason was observed.
    """
    open_kill = past.kill is not None and bool(past.kill.unclear)
    kills = past.kill_count if open_kill else past.kill_count + 1
    name = past.kill.id if open_kill and past.kill else make_kill_id(kills, observed)
    before = {n: a.sweep.strikes for n in running.accounts if (a := past.accounts.get(n)) and a.sweep}
    accounts: dict[str, AccountState] = {}
    for n, account in running.accounts.items():
        sweep = account.sweep and account.sweep._replace(strikes=account.sweep.strikes + before.get(n, 0))
        owed = past.accounts[n].unproven_identities if n in past.accounts else ()
        accounts[n] = account._replace(sweep=sweep, kill=name, unproven_identities=owed)
    unfinished = tuple(
        n for n, a in past.accounts.items() if n not in accounts and a.phase not in (Phase.ARMED, Phase.CLEAR)
    )
    accounts.update((n, past.accounts[n]) for n in unfinished)
    kill = running.kill and running.kill._replace(id=name)
    if kill and open_kill and past.kill:
        others = past.kill.unclear.intersection(unfinished)
        kill = Kill(name, past.kill.began, past.kill.accounts | kill.accounts, others | kill.unclear)
    return TakeoverPlan(State(accounts, kill, kills, past.approvals_needed), unfinished, name, before)
