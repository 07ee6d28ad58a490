"""Judge a sweep where the venue's lists may lag: its proof, and its wait. `sweep` itself decides when it is clear."""

from __future__ import annotations

import math
from collections.abc import Mapping

from kill_switch.core.domain import Phase
from kill_switch.core.state import AccountState
from kill_switch.core.sweep_state import FIRST_GAPS_NS, Sweep

READ_S = 1  # for the read that completes a proof, in seconds


def proved_ns(sweep: Sweep) -> int:
    """Return when the last read that proves the account clean was asked for, monotonic; 0: none has proven it.

    The first reads of a resumed guard may show the time before the process, in which no push was received.
    """
    return sweep.last_proof_ns if sweep.last_proof_ns >= sweep.began_ns + int(sweep.timing.list_lag_s * 1e9) else 0


def waits_for_lag(sweep: Sweep) -> bool:
    """Return whether an account has shown no order since its last strike, and only the lag keeps it from being clear.

    Clean reads have to span the first look-outs: an order that nobody knew, and nobody has cancelled, shows then the
    likeliest. No command is owed then. A process that ends leaves the rest of the proof to its successor.
    """
    lag_ns = round(sweep.timing.list_lag_s * 1e9)
    return (
        lag_ns > 0
        and sweep.phase is Phase.CONFIRMING
        and sweep.clean_reads_in_a_row > 0
        and sweep.clean_read_asked_ns - sweep.clean_since_ns >= min(lag_ns, FIRST_GAPS_NS)
        and not sweep.strike_owed
    )


def proof_in_s(sweep: Sweep, at_ns: int) -> int | None:
    """Return in how many seconds the lists can prove the account clear; None if it is, or its lists never lag.

    Each order that is shown or pushed sets the time back to its beginning.
    """
    lag_s = sweep.timing.list_lag_s
    if not lag_s or sweep.phase is Phase.CLEAR:
        return None
    spanned_s = (at_ns - sweep.clean_since_ns) / 1e9 if sweep.clean_reads_in_a_row else 0.0
    return math.ceil(max(0.0, lag_s - spanned_s)) + READ_S


def lagging_proofs(accounts: Mapping[str, AccountState], at_ns: int) -> dict[str, dict[str, float]]:
    """Return, for accounts that lagging lists have not proven clear yet, the lag and when they can, in seconds."""
    waits = {}
    for name, account in accounts.items():
        if account.sweep is not None and (in_s := proof_in_s(account.sweep, at_ns)) is not None:
            waits[name] = {"lists_lag_s": account.sweep.timing.list_lag_s, "proof_in_s": in_s}
    return waits


def describe_wait(sweep: Sweep) -> str:
    """Describe why an account without a visible order is not clear yet; "" unless its lists may lag."""
    timing = sweep.timing
    if not timing.list_lag_s or sweep.phase is Phase.CLEAR or sweep.clean_reads_in_a_row < timing.clean_reads:
        return ""
    lag = f"its lists may lag by {timing.list_lag_s:g} s"
    return f"no order is shown; {lag}, and have to show none for so long, with no order pushed"
