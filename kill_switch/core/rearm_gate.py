"""The gate of a re-arm: what must hold before the latch opens."""

from __future__ import annotations

from kill_switch.core.domain import Phase
from kill_switch.core.events import RearmAsked
from kill_switch.core.list_lag import proved_ns
from kill_switch.core.state import AccountState, State, describe_login_mismatch


def find_rearm_blockers(state: State, event: RearmAsked, tripped: tuple[str, ...]) -> tuple[str, ...]:
    """Return every reason against a re-arm, the triggers' first; `tripped` are the tripped accounts that it names.

    `force` overrides what is missing in the proof, but neither a trigger's reason nor a kill in progress.
    """
    why = list(event.blockers)
    if not tripped:
        why.append("nothing in scope is tripped")
    for name in tripped:
        account = state.accounts[name]
        if (strange := describe_login_mismatch(account)) and not event.force:
            why.append(f"{name} is {strange}: look for orders there, then use --force")
        match account.phase:
            case Phase.STRIKING | Phase.CONFIRMING as phase:
                why.append(f"{name} is {phase}: wait until it is CLEAR")
            case Phase.RESIDUE if not event.force:
                left = _describe_left(account)
                why.append(f"{name} is RESIDUE, with {left} left: clear it, or use --force if you know better")
            case Phase.CLEAR if _proved_ns(account) < event.proved_since_ns and not event.force:
                unproven = _describe_unproven(account)
                why.append(f"{name} {unproven}: nobody knows whether it is still clear; or use --force")
            case _:
                pass
    return tuple(why)


def _proved_ns(account: AccountState) -> int:
    return 0 if account.sweep is None else proved_ns(account.sweep)


def _describe_unproven(account: AccountState) -> str:
    """Describe why nobody knows whether a guarded account is still clear."""
    if account.sweep is not None and account.sweep.last_proof_ns > _proved_ns(account):
        lag_s = account.timing.list_lag_s
        return f"has been read for less than {lag_s:g} s, and its lists may lag by {lag_s:g} s"
    return "could not be read just now"


def _describe_left(account: AccountState) -> str:
    left = account.orders_left
    return "an unknown number of orders" if left is None else f"{left} order(s)"
