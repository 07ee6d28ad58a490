"""Play a selection of the matrix: one cell of each kind. The whole of it: `python -m tests.system.fault_matrix`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from .__main__ import Key, held, run_here, summary
from .case import Outcome
from .catalog import FAULTS, MOMENTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

CELLS: tuple[Key, ...] = (
    ("drop_reply to all", "kuna", "during"),
    ("pending, then filled", "oxfun", "before"),
    ("requote", "crosstrade", "during"),
    ("foreign_use at the limit", "crosstrade", "during"),
    ("token expires", "roxom", "during"),
    ("reorder", "oxfun", "after"),
    ("partial_list, orders kept", "roxom", "before"),
    ("unlisted", "kuna", "before"),
    ("half_open, WebSocket", "roxom", "during"),
    ("lose_push, every second", "oxfun", "during"),
    ("vanish, back in 1.5 s", "crosstrade", "before"),
    ("unknowns harsh, no WebSocket", "oxfun", "during"),
    ("certificate expired", "roxom", "before"),
    ("certificate of another host", "kuna", "before"),
    ("SYNs dropped", "oxfun", "before"),
    ("black hole", "roxom", "during"),
    ("names do not resolve", "oxfun", "before"),
    ("resolver hangs, venue well", "roxom", "during"),
    ("resolver lies", "kuna", "before"),
    ("first address accepts and says nothing", "oxfun", "before"),
    ("authorities change", "roxom", "before"),
    ("legal: ends with the connection", "roxom", "before"),
    ("venue killed, back in 1.5 s", "oxfun", "during"),
    ("answer: byte by byte", "roxom", "before"),
    ("answer: two lengths", "roxom", "before"),
    ("answer: a stale one behind it", "kuna", "before"),
    ("answer: endless interim answers", "roxom", "before"),
    ("answer: endless crumbs", "kuna", "before"),
    ("frame: compressed, unasked", "oxfun", "before"),
    ("frame: masked", "crosstrade", "before"),
    ("frames: empty fragments", "oxfun", "before"),
    ("token expires", "kraken", "during"),
    ("accept_but_keep once", "kraken-futures", "before"),
    ("garble all", "deribit", "during"),
)


def test_a_fault_leaves_nothing_behind_or_is_reported_honestly_and_the_other_account_does_not_feel_it() -> None:
    outcomes = run_here(CELLS)
    assert len(outcomes) == len(CELLS)
    failed = [(o.fault, o.venue, o.moment, o.text, o.said[-6:]) for o in outcomes if not o.ok and not o.late]
    assert not failed
    assert sum(o.late for o in outcomes) <= len(CELLS) // 2  # a machine that others use may be slow; see the matrix


def test_the_last_line_counts_the_cases() -> None:
    def outcome(reported: str, *, ok: bool = True, unreported: int = 0) -> Outcome:
        return Outcome("f", "v", "m", "", ok, 1.0, reported=reported, unreported=unreported, stall_s=0.02, other_s=0.5)

    outcomes = [outcome("clear"), outcome("left"), outcome("unknown"), outcome("unknown")]
    line = summary([*outcomes, outcome("clear", ok=False, unreported=3)], 6, 1, 9.0)
    assert "\n" not in line
    assert line.startswith(
        "5 of 6 cells: 1 cleared, 3 honest, then cleared (left 1, unknown 2), FAIL 1, orders left unreported 3, 9 s"
    )


def test_a_run_that_is_resumed_counts_the_cells_that_held_when_they_were_last_played(tmp_path: Path) -> None:
    log = tmp_path / "log"
    played = [("a", True), ("b", False), ("c", True), ("b", True), ("c", False), ("another", True)]
    lines = [asdict(Outcome(fault, "kuna", "before", fault, ok, 1.0)) for fault, ok in played]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    keys = [(fault, "kuna", "before") for fault in "abcd"]
    assert [outcome.fault for outcome in held(log, keys)] == ["a", "b"]


def test_the_cells_that_are_played_here_are_in_the_matrix() -> None:
    assert {fault for fault, _, _ in CELLS} <= FAULTS.keys()
    assert {moment for _, _, moment in CELLS} == set(MOMENTS)
