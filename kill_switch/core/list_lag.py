"""Judge a sweep where the venue's lists may lag: its proof, and its wait. `sweep` itself decides when it is clear."""

from __future__ import annotations

from kill_switch.core.domain import Phase
from kill_switch.core.sweep_state import Sweep


def proved_ns(sweep: Sweep) -> int:
    """Return when the last read that proves the account clean was asked for, monotonic; 0: none has proven it.

    The first reads of a resumed guard may show the time before the process, in which no push was received.
    """
    return sweep.last_proof_ns if sweep.last_proof_ns >= sweep.began_ns + int(sweep.timing.list_lag_s * 1e9) else 0


def describe_wait(sweep: Sweep) -> str:
    """Describe why an account without a visible order is not clear yet; "" unless its lists may lag."""
    timing = sweep.timing
    if not timing.list_lag_s or sweep.phase is Phase.CLEAR or sweep.clean_reads_in_a_row < timing.clean_reads:
        return ""
    lag = f"its lists may lag by {timing.list_lag_s:g} s"
    return f"no order is shown; {lag}, and have to show none for so long, with no order pushed"
