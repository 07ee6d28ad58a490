"""What must not grow for ever is cut back without a stall."""

from __future__ import annotations

import time

import pytest

from kill_switch.core.latest import keep_latest


@pytest.mark.parametrize(("count", "left"), [(3, [0, 1, 2]), (4, [1, 2, 3]), (9, [6, 7, 8])])
def test_the_latest_entries_stay_in_their_order(count: int, left: list[int]) -> None:
    kept = {number: str(number) for number in range(count)}
    keep_latest(kept, 3)
    assert list(kept) == left


def test_very_many_entries_go_without_a_stall() -> None:
    """One by one, each from the front, these take more than ten seconds."""
    kept = dict.fromkeys(range(200_000))
    began_s = time.process_time()
    keep_latest(kept, 1000)
    assert time.process_time() - began_s < 2
