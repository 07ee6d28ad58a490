from __future__ import annotations

from kill_switch.core.domain import CancelOutcome, Verdict
from kill_switch.journal.attempts import AttemptHistory


def test_a_checkpoint_after_a_re_arm_tells_attempts_with_the_same_number_in_the_report_apart() -> None:
    attempts = AttemptHistory()
    attempts.on_sent(attempts.attempt(7, 1), 112, ["http"])  # a strike of an earlier kill, which left late
    attempts.on_sent(attempts.attempt(8, 1), 867, ["fresh"])
    attempts.on_answered(attempts.attempt(8, 1), CancelOutcome.ACCEPTED, 888, "")
    attempts.on_rearmed()
    read = AttemptHistory.from_json(attempts.to_json())
    assert read.verdict_fields(Verdict.CONFIRMED) == attempts.verdict_fields(Verdict.CONFIRMED)
    assert attempts.verdict_fields(Verdict.CONFIRMED)["answered_us"] == 888
