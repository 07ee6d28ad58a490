"""The engine's state: its accounts, its kill, and the approvals of a re-arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from kill_switch.core.domain import Instant, Phase, SweepTiming
from kill_switch.core.identity import Identity, describe_difference
from kill_switch.core.sweep_state import Sweep

_SEVERITY = {phase: n for n, phase in enumerate(Phase)}


class AccountState(NamedTuple):
    """State of an account: `sweep` is None exactly while it is armed."""

    timing: SweepTiming
    sweep: Sweep | None = None
    kill: str | None = None  # the kill that it was last struck for
    identity: Identity | None = None  # that a strike hits now; None: unknown
    unproven_identities: tuple[Identity, ...] = ()  # were struck under this name and are not proven clear

    @property
    def phase(self) -> Phase:
        return Phase.ARMED if self.sweep is None else self.sweep.phase

    @property
    def orders_left(self) -> int | None:
        """The number of orders that a kill has left, by the last read that counts; None: unknown, or armed."""
        return None if self.sweep is None else self.sweep.orders_left


class Kill(NamedTuple):
    """A kill, from the first reason until every account in scope is clear. A guard that finds an order reopens it."""

    id: str
    began: Instant
    accounts: frozenset[str]
    unclear: frozenset[str]


class State(NamedTuple):
    """The engine's whole state."""

    accounts: Mapping[str, AccountState]
    kill: Kill | None = None  # the running one, else the last
    kill_count: int = 0
    approvals_needed: int = 1
    approvals: Mapping[int, frozenset[str]] = MappingProxyType({})  # uid → accounts it has approved
    renamed: Mapping[str, str] = MappingProxyType(
        {}
    )  # accounts that were latched under another name, until `Recovered`
    kill_id_prefix: str = ""  # prefix of kill ids in a process without a journal; "": kills are numbered

    @property
    def phase(self) -> Phase:
        """The worst phase of any account."""
        return max((a.phase for a in self.accounts.values()), key=_SEVERITY.__getitem__, default=Phase.ARMED)

    def kills_of_accounts(self) -> dict[str, str]:
        """Return each tripped account with the kill that it was last struck for."""
        return {name: a.kill or "" for name, a in self.accounts.items() if a.sweep is not None}

    @property
    def tripped(self) -> tuple[str, ...]:
        """The tripped accounts."""
        return tuple(name for name, a in self.accounts.items() if a.sweep is not None)


def armed_among(state: State, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of these accounts that are armed: `ReasonReported` strikes each of them."""
    accounts = state.accounts
    return tuple([name for name in names if name in accounts and accounts[name].sweep is None])


def describe_login_mismatch(account: AccountState) -> str:
    """Describe how a tripped account differs from the account that was struck; "" if it does not."""
    if not account.unproven_identities or account.identity is None:
        return ""
    return f"not the account that was struck: {describe_difference(account.identity, account.unproven_identities[-1])}"


def make_kill_id(number: int, observed: Instant, alone: str = "") -> str:
    """Return a kill's id: `alone`, or `k` and its number in the journal, and the wall second it was observed."""
    return f"{alone or f'k{number}'}-{observed.wall_ns // 1_000_000_000}"
