"""What is weaker than a kill that is latched and on record is said, each with the command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kill_switch.core.outcome import LatchOutcome, direct_kill_problems

STATE, RUN = Path("/state/latch.jsonl"), Path("/my run/latch.jsonl")
NOWHERE = LatchOutcome((), {STATE: "Read-only file system", RUN: "No such file or directory"}, False)


def told(latch: LatchOutcome, *, held: bool) -> str:
    [problem] = direct_kill_problems("the disk is full", latch, Path("/etc/my config.toml"), held=held)
    return f"{problem['text']} -> {problem['do']}"


def test_a_latch_that_a_daemon_has_taken_over_is_no_problem() -> None:
    assert direct_kill_problems("held", LatchOutcome((), {}, True), Path("/c"), held=True) == []


@pytest.mark.parametrize(
    ("latch", "held", "words"),
    [
        (LatchOutcome((RUN,), {}, True), False, ("not on record: the disk is full", "stands in /my run/latch.jsonl")),
        (LatchOutcome((STATE,), {}, True), True, ("has not taken this kill over", "restart the daemon (as ")),
        (NOWHERE, True, ("is ARMED", "kill-switch fire -c '/etc/my config.toml' --reason")),
        (NOWHERE, False, ("/state: Read-only", "would start ARMED", "mkdir -p /state && touch /state/latch.jsonl;")),
        (LatchOutcome((), {RUN: "no"}, False), False, ("would start ARMED", "touch '/my run/latch.jsonl'")),
        (
            LatchOutcome((), {}, True),
            False,
            ("it was removed", "would start ARMED", "fire --direct -c '/etc/my config"),
        ),
    ],
)
def test_each_outcome_has_its_consequence_and_its_command(
    latch: LatchOutcome, held: bool, words: tuple[str, ...]
) -> None:
    assert all(word in told(latch, held=held) for word in words), told(latch, held=held)
