"""Play a selection of the matrix: one cell of each kind. The whole of it: `python -m tests.faults`."""

from __future__ import annotations

import pytest

from .__main__ import Key, run_here
from .catalog import FAULTS, MOMENTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

CELLS: tuple[Key, ...] = (
    ("drop_reply to all", "kuna", "during"),
    ("pending, then filled", "oxfun", "before"),
    ("requote", "crosstrade", "during"),
    ("token expires", "roxom", "during"),
    ("reorder", "oxfun", "after"),
    ("certificate expired", "roxom", "before"),
    ("certificate of another host", "kuna", "before"),
    ("SYNs dropped", "oxfun", "before"),
    ("black hole", "roxom", "during"),
    ("names do not resolve", "oxfun", "before"),
    ("venue killed, back in 1.5 s", "oxfun", "during"),
    ("answer: byte by byte", "roxom", "before"),
    ("answer: two lengths", "roxom", "before"),
    ("answer: a stale one behind it", "kuna", "before"),
    ("answer: endless header", "roxom", "before"),
    ("frame: compressed, unasked", "oxfun", "before"),
    ("frame: masked", "crosstrade", "before"),
    ("frames: empty fragments", "oxfun", "before"),
)


def test_a_fault_leaves_nothing_behind_or_is_reported_honestly_and_the_other_account_does_not_feel_it() -> None:
    outcomes = run_here(CELLS)
    assert len(outcomes) == len(CELLS)
    failed = [(o.fault, o.venue, o.moment, o.text, o.said[-6:]) for o in outcomes if not o.ok and not o.late]
    assert not failed
    assert sum(o.late for o in outcomes) <= len(CELLS) // 2  # a machine that others use may be slow; see the matrix


def test_the_cells_that_are_played_here_are_in_the_matrix() -> None:
    assert {fault for fault, _, _ in CELLS} <= FAULTS.keys()
    assert {moment for _, _, moment in CELLS} == set(MOMENTS)
