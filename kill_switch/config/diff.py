"""Compare two configurations, and decide whether a running daemon may change from one to the other.

The daemon's reload uses this; a reload is applied as a whole or refused as a whole. It must not lose a latch, disturb
an account that did not change, or move a file that other processes use. Pure: nothing is applied here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from kill_switch.config.accounts import AccountConfig
from kill_switch.config.in_force import in_force, renamed
from kill_switch.config.loader import Config
from kill_switch.config.schema import AnyTrigger, PnlConfig
from kill_switch.core.domain import Phase
from kill_switch.core.identity import Identity, shared_place
from kill_switch.core.state import AccountState as State
from kill_switch.errors import Problem

FIXED = (  # keys of [daemon] that only a restart can change
    *("state_dir", "runtime_dir", "group"),
    *("metrics", "metrics_token_file", "metrics_cert_file", "metrics_key_file", "metrics_plain"),
)
TABLES = ("daemon", "intake", "drill", "rearm", "silence", "hooks", "notify", "ping")
_Claims = dict[str, dict[tuple[str, str], list[tuple[str, Identity]]]]


@dataclass(frozen=True, slots=True)
class ConfigDiff:
    """The differences of two configurations, in the order of the new file; removed names in that of the old file."""

    added: tuple[str, ...]  # accounts
    new_logins: tuple[str, ...]  # accounts whose lanes are rebuilt because their login differs
    removed: tuple[str, ...]
    triggers_begun: tuple[str, ...]
    triggers_ended: tuple[str, ...]
    tables: tuple[str, ...]  # other tables that changed
    # new → old name of triggers that keep their state under a new name
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        parts = (self.added, self.new_logins, self.removed, self.triggers_begun, self.triggers_ended, self.tables)
        return any(parts)

    def describe(self) -> str:
        """Return the change as one line for people."""
        parts = {
            "accounts added": self.added,
            "accounts connected anew": self.new_logins,
            "accounts removed": self.removed,
            "triggers begun": self.triggers_begun,
            "triggers ended": self.triggers_ended,
            "triggers renamed": tuple(f"{old} to {new}" for new, old in self.renamed.items()),
            "tables changed": self.tables,
        }
        return "; ".join(f"{label}: {', '.join(names)}" for label, names in parts.items() if names) or "nothing changed"


def diff_configs(old: Config, new: Config) -> ConfigDiff:
    """Return the changes that a reload from `old` to `new` would make."""
    common = (name for name in new.accounts if name in old.accounts)
    kept = {
        name
        for name, trigger in new.triggers.items()
        if name in old.triggers and _trigger_unchanged(old.triggers[name], trigger)
    }
    return ConfigDiff(
        added=tuple(name for name in new.accounts if name not in old.accounts),
        new_logins=tuple(name for name in common if _login_changed(old.accounts[name], new.accounts[name])),
        removed=tuple(name for name in old.accounts if name not in new.accounts),
        triggers_begun=tuple(name for name in new.triggers if name not in kept),
        triggers_ended=tuple(name for name in old.triggers if name not in kept),
        tables=tuple(name for name in TABLES if getattr(old, name) != getattr(new, name)),
        renamed=renamed(in_force(old), in_force(new)),
    )


def reload_blockers(
    old: Config,
    new: Config,
    phases: Mapping[str, Phase],
    owed: Mapping[str, Sequence[Identity]] = MappingProxyType({}),
) -> list[Problem]:
    """Return every problem that forbids the reload; `phases` is the current phase of each old account.

    `owed` are further logins that were struck under an account's name. The account may become one of them again.
    """
    change = diff_configs(old, new)
    fixed = [key for key in FIXED if getattr(old.daemon, key) != getattr(new.daemon, key)]
    removed = [name for name in change.removed if phases[name].is_tripped]
    struck = [name for name in change.new_logins if phases[name].is_striking]
    tripped = [name for name, phase in phases.items() if phase.is_tripped]
    lowered = tripped if new.rearm.approvals < old.rearm.approvals else []
    fewer = f"lowered from {old.rearm.approvals} to {new.rearm.approvals}, and {', '.join(lowered)} is tripped"
    claims = _claims(old, phases, owed)
    return [
        *(Problem(f"daemon.{key}", "changed", "only a restart can change it") for key in fixed),
        *([Problem("rearm.approvals", fewer, "re-arm first, by as many people as before")] if lowered else []),
        *(Problem(f"accounts.{n}", f"removed, and it is {phases[n]}", "re-arm it first") for n in removed),
        *(Problem(f"accounts.{n}", f"changed, and it is {phases[n]}", "wait until its kill is over") for n in struck),
        *(problem for n in change.new_logins if n not in struck for problem in _elsewhere(old, new, n, phases, owed)),
        *(problem for n in (*change.added, *change.new_logins) for problem in _taken_over(new, n, phases, claims)),
    ]


def current_identities(
    new: Config,
    anew: Iterable[str],
    states: Mapping[str, State],
    back: Mapping[str, Sequence[Identity]],
    salt: str,
) -> tuple[dict[str, Identity], dict[str, tuple[Identity, ...]]]:
    """Return the identity of each account, and for changed accounts the identities that were struck and are not clear.

    `states` are the engine's accounts before the reload. `back` are accounts whose latch belonged to no account so far,
    with the identities that were struck under that name. An account without an identity gets its key's digest with
    `salt`.
    """
    identities: dict[str, Identity] = {}
    owed = {}
    for name, account in new.accounts.items():
        login, state = account.login, states.get(name)
        before = None if state is None else state.identity
        identities[name] = login.identity(salt if before is None else before["salt"])
        other = before is not None and name in anew and identities[name] != before
        if name in back or (other and state is not None and state.sweep):
            struck = (*back.get(name, ()), *(() if state is None else state.unproven_identities))
            if other and before and state is not None and state.phase.is_unfinished:
                struck += (before,)
            owed[name] = tuple(identity for identity in struck if not login.covers(identity))
    return identities, owed


def _elsewhere(
    old: Config, new: Config, name: str, phases: Mapping[str, Phase], owed: Mapping[str, Sequence[Identity]]
) -> list[Problem]:
    """Return a problem if a tripped account would become another login, or show fewer orders.

    The orders that it no longer shows would stay open.
    """
    login = new.accounts[name].login
    words = login.describe_mismatch(old.accounts[name].login.identity(""))
    if not phases[name].is_tripped or not words or any(login.covers(identity) for identity in owed.get(name, ())):
        return []
    return [Problem(f"accounts.{name}", f"{'; '.join(words)}, and it is {phases[name]}", "re-arm it first")]


def _claims(old: Config, phases: Mapping[str, Phase], owed: Mapping[str, Sequence[Identity]]) -> _Claims:
    """Return the identities that were struck under tripped accounts' names, by salt and place."""
    claims: _Claims = {}
    for name, account in old.accounts.items():
        if phases[name].is_tripped:
            for identity in (account.login.identity(""), *owed.get(name, ())):
                claims.setdefault(identity["salt"], {}).setdefault(shared_place(identity), []).append((name, identity))
    return claims


def _taken_over(new: Config, name: str, phases: Mapping[str, Phase], claims: _Claims) -> list[Problem]:
    """Return a problem if an account would get the login of a tripped account, because it would be armed here."""
    login = new.accounts[name].login
    alike = (
        claim for salt, claims_of in claims.items() for claim in claims_of.get(shared_place(login.identity(salt)), ())
    )
    taken = [
        other
        for other, identity in alike
        if other != name and login.is_same(identity) and not _shows(new, other, identity)
    ]
    return [
        Problem(f"accounts.{name}", f"has the login of {other}, which is {phases[other]}", f"re-arm {other} first")
        for other in dict.fromkeys(taken)
    ]


def _shows(config: Config, name: str, identity: Identity) -> bool:
    """Return whether the account of that name covers everything that an identity covered."""
    return name in config.accounts and config.accounts[name].login.covers(identity)


def _login_changed(old: AccountConfig, new: AccountConfig) -> bool:
    """Return whether an account's lanes must be rebuilt: other login, options or authorities. Tags do not matter."""
    before, after = ((a.venue, a.options, dict(a.secrets), a.ca_digest) for a in (old, new))
    return before != after


def _trigger_unchanged(old: AnyTrigger, new: AnyTrigger) -> bool:
    """Return whether a trigger may keep running.

    A P&L trigger may not if its accounts change, because its figures would be those of other accounts.
    """
    if isinstance(old, PnlConfig) and sorted(old.accounts) != sorted(new.accounts):
        return False
    return old == new.model_copy(update={"accounts": old.accounts})
