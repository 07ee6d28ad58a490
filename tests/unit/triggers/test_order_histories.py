"""Random histories of orders: no false trip, and no missed one within the bounds that the documents state."""

from __future__ import annotations

from tests.harness.order_histories import run


def test_no_trip_is_false_and_none_is_missed_in_random_histories() -> None:
    counts, wrong = run(range(12))
    assert not wrong
    assert min(counts[name] for name in ("trips_new", "trips_open", "due_new", "due_open", "gaps", "stalls")) > 0
