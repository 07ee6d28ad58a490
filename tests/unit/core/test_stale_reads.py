"""Play the sweep at CrossTrade's pace: lists show what there was seconds ago, and nothing pushes orders."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kill_switch.core import sweep
from kill_switch.core.domain import CancelOutcome, Phase
from kill_switch.core.sweep import ReadCounted, StrikeAnswered, SweepAction, SweepTimerFired
from kill_switch.core.sweep_state import Sweep
from kill_switch.venues.crosstrade.adapter import CrossTrade

TIMING = CrossTrade.TIMING
MS = 1_000_000
TRIP_MS = 100_000
STEP_MS, ANSWER_MS, LENGTH_MS = 5, 40, 60_000


@dataclass
class Told:
    at_ms: int
    clear: bool
    resting: bool  # whether the order rested then


def play(lag_ms: int, placed_ms: int, kept: int) -> tuple[list[Told], Sweep]:
    """Strike at 0; one order rests from `placed_ms` on, until a strike ends it; the first `kept` strikes do not."""
    state = sweep.start_sweep(TIMING, TRIP_MS * MS)
    ended_ms: int | None = None
    strikes = 0
    coming: list[tuple[int, int, str]] = [(ANSWER_MS, 0, "answer")]
    told: list[Told] = []
    for now_ms in range(0, LENGTH_MS, STEP_MS):
        at_ns = (TRIP_MS + now_ms) * MS
        acts: tuple[SweepAction, ...] = (SweepAction.STRIKE,) if now_ms == 0 else ()
        for one in [one for one in coming if one[0] <= now_ms]:
            coming.remove(one)
            if one[2] == "answer":
                state, sweep_actions = sweep.step(state, StrikeAnswered(at_ns, CancelOutcome.ACCEPTED))
            else:
                then_ms = one[1] - lag_ms
                live = placed_ms <= then_ms and (ended_ms is None or then_ms < ended_ms)
                read = ReadCounted(at_ns, (TRIP_MS + one[1]) * MS, int(live), 0, True)
                state, sweep_actions = sweep.step(state, read)
            acts += sweep_actions
        if at_ns >= state.due_ns:
            state, sweep_actions = sweep.step(state, SweepTimerFired(at_ns))
            acts += sweep_actions
        for act in acts:
            match act:
                case SweepAction.STRIKE:
                    strikes += 1
                    if strikes > kept and placed_ms <= now_ms and ended_ms is None:
                        ended_ms = now_ms
                    coming.append((now_ms + ANSWER_MS, now_ms, "answer"))
                case SweepAction.READ:
                    coming.append((now_ms + ANSWER_MS, now_ms, "read"))
                case _:
                    told.append(Told(now_ms, act is SweepAction.CLEAR, placed_ms <= now_ms and ended_ms is None))
    return told, state


@pytest.mark.parametrize("kept", [0, 1, 3, 100])
@pytest.mark.parametrize("lag_ms", [500, 1500, 3000, 8000, 20_000])
def test_an_order_that_rested_before_the_lag_is_never_called_clear_while_it_rests(lag_ms: int, kept: int) -> None:
    told, state = play(lag_ms, -lag_ms - 100, kept)
    assert not any(one.clear and one.resting for one in told)
    if kept == 100:
        assert state.phase is Phase.RESIDUE
    else:
        assert state.phase is Phase.CLEAR
    if lag_ms > TIMING.residue_after_s * 1000 + 1000:
        assert not told[0].clear  # said aloud that nothing is proven, while lists still show it


@pytest.mark.parametrize("lag_ms", [1500, 3000, 8000, 20_000])
@pytest.mark.parametrize("placed_ms", [50, 900, 2000])
def test_an_order_that_comes_to_rest_within_the_lag_is_struck_a_lag_and_a_guard_read_later(
    lag_ms: int, placed_ms: int
) -> None:
    for end in (1, 100):  # the strike that finds it works, or none does
        told, state = play(lag_ms, placed_ms, 0 if end == 1 else 100)
        late_ms = placed_ms + lag_ms + TIMING.guard_every_s * 1000 + 4 * TIMING.strike_gap_s * 1000
        assert not any(one.clear and one.resting and one.at_ms > late_ms for one in told)
        assert state.phase is (Phase.CLEAR if end == 1 else Phase.RESIDUE)
