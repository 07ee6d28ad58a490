"""Rebuild the engine's state from the journal's entries: what was tripped is tripped, whatever else has been lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from kill_switch.core import sweep as sweeping
from kill_switch.core.domain import Now, Pace
from kill_switch.core.engine import Account, Kill, State
from kill_switch.core.identity import Identity, Login, Struck, find_moved, find_shared
from kill_switch.errors import JournalBroken


@dataclass(slots=True)
class _Latch:
    kill: str
    clear: bool = False
    strikes: int = 0


class Fold:
    """Hold what the entries so far say of latches, kills and approvals, for all accounts that they name."""

    def __init__(self) -> None:
        self.latches: dict[str, _Latch] = {}
        self.struck = Struck()
        self.approvals: dict[int, frozenset[str]] = {}
        self.kill_id, self.began, self.scope, self.kills = "", Now(0, 0), frozenset[str](), 0

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take the next entry; raise `JournalBroken` at one that cannot be understood."""
        try:
            self._take(entry["kind"], entry["data"])
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):  # another version has written it
            raise JournalBroken(entry["seq"], "a record that this version does not understand") from None

    def _take(self, kind: str, data: Mapping[str, Any]) -> None:
        latches, approvals = self.latches, self.approvals
        match kind:
            case "reason":
                approvals.clear()
                if data["kill"] != self.kill_id:
                    self.kill_id, self.scope, self.kills = str(data["kill"]), frozenset(), self.kills + 1
                    self.began = Now(int(data["observed_mono_ns"]), int(data["observed_wall_ns"]))
                self.scope |= frozenset(_names(data))
                for name in _names(data):
                    strikes = latches[name].strikes if name in latches else 0
                    latches[name] = _Latch(self.kill_id, strikes=strikes)
                self.struck.reason(_names(data), data.get("identities", {}))
            case "strike":
                for sent in data["sent"]:
                    latch = latches.get(sent["account"])
                    if latch and sent["strike"] > latch.strikes:  # else a second copy of an old one, sent late
                        latch.strikes = sent["strike"]
                        _reopen(latch, approvals)
            case "read" | "seen":
                latch = latches.get(data["account"])
                if latch and (kind == "seen" or shows_orders(data)):
                    _reopen(latch, approvals)
            case "clear":
                if latch := latches.get(data["account"]):
                    latch.clear = True
            case "repeats":  # many of these four, in one
                if latch := latches.get(data["account"]):
                    latch.strikes = max(latch.strikes, int(data["strike"]))
                    if data["clear"]:
                        latch.clear = True
                    else:
                        _reopen(latch, approvals)
            case "latch":  # left for accounts that nobody had
                for name in _names(data):
                    latches.setdefault(name, _Latch(self.kill_id))
            case "resume" | "identity":
                moved = dict(data.get("moved", {}))
                self.rename(moved)
                for name in self.struck.changed(data.get("identities", {})):
                    _reopen(self.latches.setdefault(name, _Latch(self.kill_id)), approvals)
            case "reload":
                approvals.clear()
            case "rearm-approved":
                approvals[data["uid"]] = approvals.get(data["uid"], frozenset()) | frozenset(_names(data))
            case "rearm":
                approvals.clear()
                for name in _names(data):
                    latches.pop(name, None)
                self.struck.rearmed(_names(data))
            case "checkpoint":
                self._restore(data["latches"])
            case _:
                pass

    def told(self) -> dict[str, object]:
        """Return all of it in JSON's own values, for a checkpoint."""
        return {
            "accounts": {name: [one.kill, one.clear, one.strikes] for name, one in self.latches.items()},
            "approvals": [[uid, sorted(names)] for uid, names in self.approvals.items()],
            "kill": self.kill_id,
            "began": list(self.began),
            "scope": sorted(self.scope),
            "kills": self.kills,
            "struck": self.struck.told(),
        }

    def rename(self, moved: Mapping[str, str]) -> None:
        """Give accounts that were latched under another name the one that they have now."""
        self.latches = _renamed(self.latches, moved)
        self.scope = frozenset(moved.get(name, name) for name in self.scope)
        self.struck.renamed(moved)

    def _restore(self, told: Mapping[str, Any]) -> None:
        latches = {
            str(name): _Latch(str(kill), bool(clear), int(strikes))
            for name, (kill, clear, strikes) in told["accounts"].items()
        }
        approvals = {int(uid): frozenset(map(str, names)) for uid, names in told["approvals"]}
        mono_ns, wall_ns = told["began"]
        began, scope, kills = Now(int(mono_ns), int(wall_ns)), frozenset(map(str, told["scope"])), int(told["kills"])
        self.kill_id, self.began, self.scope, self.kills = str(told["kill"]), began, scope, kills
        self.latches, self.approvals, self.struck = latches, approvals, Struck.of(told.get("struck", {}))


def rebuild(
    entries: Iterable[Mapping[str, Any]],
    paces: Mapping[str, Pace],
    approvals_needed: int = 1,
    logins: Mapping[str, Login] = MappingProxyType({}),
    salt: str = "",
) -> State:
    """Fold the entries into a state of the accounts in `paces`; `Recovered` is the event to give it next.

    An account that the journal trips and the configuration no longer has stays out of the state and, because the
    journal keeps the latch, comes back tripped with it. The `logins` decide whose a latch is, and not the names: an
    account that is somebody else than who was struck begins its proof anew and owes the other's, and one that has
    another name now is tripped under that. `salt` is for the digests of accounts that were not struck. Raises
    `JournalBroken` at a record that cannot be understood.
    """
    fold = _folded(entries)
    moved = find_moved({name: fold.struck.under(name) for name in fold.latches}, logins)
    fold.rename(moved)
    latches, struck, scope = fold.latches, fold.struck, fold.scope
    for name, other in find_shared({name: struck.under(name) for name in latches}, logins).items():
        latches[name] = _Latch(latches[other].kill)
    accounts = {}
    for name, pace in paces.items():
        known, login = struck.under(name), logins.get(name)
        if login is None:  # nobody says who it is: the one that was struck last
            identity, owed = (known[-1] if known else None), known[:-1]
        else:
            mine = [one for one in known if login.covers(one)]
            identity = login.identity(mine[-1]["salt"] if mine else salt)
            owed = tuple(one for one in known if one not in mine)
            if known and identity != known[-1]:
                latches[name].clear = False
        accounts[name] = _account(pace, latches.get(name))._replace(identity=identity, owed=owed)
    unclear = frozenset(name for name in scope if name in accounts and name in latches and not latches[name].clear)
    kill = Kill(fold.kill_id, fold.began, scope, unclear) if fold.kill_id else None
    return State(accounts, kill, fold.kills, approvals_needed, fold.approvals, moved)


def struck_elsewhere(
    entries: Iterable[Mapping[str, Any]], logins: Mapping[str, Login]
) -> dict[str, tuple[Identity, ...]]:
    """Return the accounts that the entries leave tripped and that are in no configuration now, with who was struck."""
    fold = _folded(entries)
    known = {name: fold.struck.under(name) for name in fold.latches}
    here = {*logins, *find_moved(known, logins)}
    return {name: ones for name, ones in known.items() if name not in here}


def _renamed(latches: dict[str, _Latch], moved: Mapping[str, str]) -> dict[str, _Latch]:
    """Give latches the names that their accounts have now; where two meet, neither's proof holds for the other."""
    if not moved:
        return latches
    renamed: dict[str, _Latch] = {}
    for name, latch in latches.items():
        now = moved.get(name, name)
        both = renamed.get(now)
        if both is None:
            renamed[now] = latch
        else:
            strikes = max(both.strikes, latch.strikes)
            renamed[now] = replace(latch if now == name else both, clear=both.clear and latch.clear, strikes=strikes)
    return renamed


def latched(entries: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the names of all accounts that the entries leave tripped, whether or not anybody still has them."""
    return frozenset(_folded(entries).latches)


def _folded(entries: Iterable[Mapping[str, Any]]) -> Fold:
    fold = Fold()
    for entry in entries:
        fold.take(entry)
    return fold


def _names(data: Mapping[str, Any]) -> Iterable[str]:
    """Return the accounts that a record names; raises `TypeError` if it is no list of names, as a lone name is none."""
    names: Iterable[str] = data["accounts"]
    if isinstance(names, str | Mapping) or not all(isinstance(name, str) for name in names):
        raise TypeError("no list of names")
    return names


def _reopen(latch: _Latch, approvals: dict[int, frozenset[str]]) -> None:
    """Take note that an account is not clear, or not any more: who has approved its re-arm did not know of that."""
    if latch.clear:
        approvals.clear()
    latch.clear = False


def shows_orders(read: Mapping[str, Any]) -> bool:
    """Say whether a read-back shows orders that are there now; an incomplete one proves nothing but live ones."""
    return not read.get("stale") and bool(read["live"] or (read["pending"] and read["complete"]))


def _account(pace: Pace, latch: _Latch | None) -> Account:
    if latch is None:
        return Account(pace)
    begin = sweeping.guard if latch.clear else sweeping.begin
    return Account(pace, begin(pace, 0, latch.strikes), latch.kill or None)
