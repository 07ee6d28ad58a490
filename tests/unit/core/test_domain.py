"""What the core's words say of themselves."""

from __future__ import annotations

from kill_switch.core.domain import Phase


def test_a_phase_says_whether_it_is_tripped_striking_or_unfinished() -> None:
    assert {phase: (phase.is_tripped, phase.is_striking, phase.is_unfinished) for phase in Phase} == {
        Phase.ARMED: (False, False, False),
        Phase.CLEAR: (True, False, False),
        Phase.CONFIRMING: (True, True, True),
        Phase.STRIKING: (True, True, True),
        Phase.RESIDUE: (True, False, True),
    }
