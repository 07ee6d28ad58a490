"""Compare two configurations, and say whether a running daemon may go over from one to the other.

Pure. A reload is applied as a whole or refused as a whole. What it must not do is lose a latch, disturb an account that
it does not concern, or move what other processes rely on under a running daemon.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from kill_switch.config.accounts import Account
from kill_switch.config.in_force import in_force, renamed
from kill_switch.config.loader import Config
from kill_switch.config.schema import AnyTrigger, Pnl
from kill_switch.core.domain import Phase
from kill_switch.core.engine import Account as State
from kill_switch.core.identity import Identity, place
from kill_switch.errors import Problem

FIXED = ("state_dir", "runtime_dir", "group", "metrics")  # of [daemon]: only a restart can change them
TABLES = ("daemon", "intake", "drill", "rearm", "hooks", "notify", "ping")
_Claims = dict[str, dict[tuple[str, str, str], list[tuple[str, Identity]]]]


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done; names in the order of the new file, those that go in the order of the old one."""

    added: tuple[str, ...]  # accounts
    anew: tuple[str, ...]  # accounts that log in differently: their lanes are made anew
    removed: tuple[str, ...]
    triggers_begun: tuple[str, ...]
    triggers_ended: tuple[str, ...]
    tables: tuple[str, ...]  # others that have changed
    renamed: Mapping[str, str] = field(default_factory=dict)  # begun ones that go on from an ended one: new → old name

    def __bool__(self) -> bool:
        parts = (self.added, self.anew, self.removed, self.triggers_begun, self.triggers_ended, self.tables)
        return any(parts)

    def words(self) -> str:
        """Say it in one line."""
        parts = {
            "accounts added": self.added,
            "accounts connected anew": self.anew,
            "accounts removed": self.removed,
            "triggers begun": self.triggers_begun,
            "triggers ended": self.triggers_ended,
            "triggers renamed": tuple(f"{old} to {new}" for new, old in self.renamed.items()),
            "tables changed": self.tables,
        }
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names) or "nothing changed"


def compare(old: Config, new: Config) -> Change:
    """Say what a reload changes."""
    both = (name for name in new.accounts if name in old.accounts)
    kept = {name for name, made in new.triggers.items() if name in old.triggers and _same(old.triggers[name], made)}
    return Change(
        added=tuple(name for name in new.accounts if name not in old.accounts),
        anew=tuple(name for name in both if _differ(old.accounts[name], new.accounts[name])),
        removed=tuple(name for name in old.accounts if name not in new.accounts),
        triggers_begun=tuple(name for name in new.triggers if name not in kept),
        triggers_ended=tuple(name for name in old.triggers if name not in kept),
        tables=tuple(name for name in TABLES if getattr(old, name) != getattr(new, name)),
        renamed=renamed(in_force(old), in_force(new)),
    )


def against(
    old: Config,
    new: Config,
    phases: Mapping[str, Phase],
    owed: Mapping[str, Sequence[Identity]] = MappingProxyType({}),
) -> list[Problem]:
    """Return everything that speaks against the reload; `phases` is where each of the old accounts stands.

    `owed` is who else was struck under an account's name: it may become that one again.
    """
    change = compare(old, new)
    fixed = [key for key in FIXED if getattr(old.daemon, key) != getattr(new.daemon, key)]
    removed = [name for name in change.removed if phases[name].is_tripped]
    struck = [name for name in change.anew if phases[name].is_striking]
    tripped = [name for name, phase in phases.items() if phase.is_tripped]
    lowered = tripped if new.rearm.approvals < old.rearm.approvals else []
    fewer = f"lowered from {old.rearm.approvals} to {new.rearm.approvals}, and {', '.join(lowered)} is tripped"
    claims = _claims(old, phases, owed)
    return [
        *(Problem(f"daemon.{key}", "changed", "only a restart can change it") for key in fixed),
        *([Problem("rearm.approvals", fewer, "re-arm first, by as many people as before")] if lowered else []),
        *(Problem(f"accounts.{n}", f"removed, and it is {phases[n]}", "re-arm it first") for n in removed),
        *(Problem(f"accounts.{n}", f"changed, and it is {phases[n]}", "wait until its kill is over") for n in struck),
        *(problem for n in change.anew if n not in struck for problem in _elsewhere(old, new, n, phases, owed)),
        *(problem for n in (*change.added, *change.anew) for problem in _taken_over(new, n, phases, claims)),
    ]


def identify(
    new: Config,
    anew: Iterable[str],
    states: Mapping[str, State],
    back: Mapping[str, Sequence[Identity]],
    salt: str,
) -> tuple[dict[str, Identity], dict[str, tuple[Identity, ...]]]:
    """Return who all accounts are now, and of those that are others, who was struck and is not proven clear.

    `states` has the accounts that there were; `back` has those with a latch that no account had, with who was struck
    under it. An account that nobody has named so far gets its key's digest with `salt`.
    """
    identities: dict[str, Identity] = {}
    owed = {}
    for name, account in new.accounts.items():
        login, state = account.login, states.get(name)
        before = None if state is None else state.identity
        identities[name] = login.identity(salt if before is None else before["salt"])
        other = before is not None and name in anew and identities[name] != before
        if name in back or (other and state is not None and state.sweep):
            struck = (*back.get(name, ()), *(() if state is None else state.owed))
            if other and before and state is not None and state.phase.is_unfinished:
                struck += (before,)
            owed[name] = tuple(one for one in struck if not login.covers(one))
    return identities, owed


def _elsewhere(
    old: Config, new: Config, name: str, phases: Mapping[str, Phase], owed: Mapping[str, Sequence[Identity]]
) -> list[Problem]:
    """Refuse that a tripped account becomes one somewhere else, or shows less of itself: what rests would be lost."""
    login = new.accounts[name].login
    words = login.elsewhere(old.accounts[name].login.identity(""))
    if not phases[name].is_tripped or not words or any(login.covers(one) for one in owed.get(name, ())):
        return []
    return [Problem(f"accounts.{name}", f"{'; '.join(words)}, and it is {phases[name]}", "re-arm it first")]


def _claims(old: Config, phases: Mapping[str, Phase], owed: Mapping[str, Sequence[Identity]]) -> _Claims:
    """Return who was struck under the names of tripped accounts, by the salt of its key's digest and by its login."""
    claims: _Claims = {}
    for name, account in old.accounts.items():
        if phases[name].is_tripped:
            for one in (account.login.identity(""), *owed.get(name, ())):
                claims.setdefault(one["salt"], {}).setdefault(place(one), []).append((name, one))
    return claims


def _taken_over(new: Config, name: str, phases: Mapping[str, Phase], claims: _Claims) -> list[Problem]:
    """Refuse that an account gets a login that a tripped one gives up, or owes: under this name it would be armed."""
    login = new.accounts[name].login
    alike = (claim for salt, claims_of in claims.items() for claim in claims_of.get(place(login.identity(salt)), ()))
    taken = [other for other, one in alike if other != name and login.is_same(one) and not _shows(new, other, one)]
    return [
        Problem(f"accounts.{name}", f"has the login of {other}, which is {phases[other]}", f"re-arm {other} first")
        for other in dict.fromkeys(taken)
    ]


def _shows(config: Config, name: str, identity: Identity) -> bool:
    """Say whether all that an account was is seen under a name."""
    return name in config.accounts and config.accounts[name].login.covers(identity)


def _differ(old: Account, new: Account) -> bool:
    """Tell whether an account logs in differently, or trusts other authorities; tags are no business of its lanes."""
    before, after = ((a.venue, a.options, dict(a.secrets), a.ca_digest) for a in (old, new))
    return before != after


def _same(old: AnyTrigger, new: AnyTrigger) -> bool:
    """Tell whether a trigger may go on as it is: other accounts are told to it, but figures of others are new ones."""
    if isinstance(old, Pnl) and sorted(old.accounts) != sorted(new.accounts):
        return False
    return old == new.model_copy(update={"accounts": old.accounts})
