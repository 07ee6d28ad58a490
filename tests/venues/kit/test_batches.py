"""The batches of a strike that cancels by id."""

from __future__ import annotations

from kill_switch.venues.kit.batches import BatchLimits, BatchPlanner, TryCounter

LIMITS = BatchLimits(str.isdigit, batch_orders=2, batches=2, singles=1)


def test_orders_go_in_batches_and_those_beyond_a_strikes_limit_wait() -> None:
    batches = BatchPlanner(LIMITS).plan(map(str, range(5)))
    assert (batches.batches, batches.singles, batches.left) == ((("0", "1"), ("2", "3")), (), 1)


def test_a_malformed_id_is_cancelled_alone_and_spoils_no_batch() -> None:
    batches = BatchPlanner(LIMITS).plan(["1", "x", "y"])
    assert (batches.batches, batches.singles, batches.left) == ((("1",),), ("x",), 1)


def test_an_order_that_outlives_its_batches_is_cancelled_alone_and_each_has_its_turn() -> None:
    planner = BatchPlanner(LIMITS)
    planner.plan(["1", "2"])
    planner.plan(["1", "2"])
    first = planner.plan(["1", "2"])
    assert (first.singles, first.batches) == (("1",), (("2",),))
    assert planner.plan(["1", "2"]).singles  # both were tried as often: neither is forgotten
    assert planner.plan(["3"]).batches == (("3",),)


def test_the_least_tried_orders_are_chosen_and_orders_that_are_gone_are_forgotten() -> None:
    tries = TryCounter()
    assert tries.choose("abc", 2) == ["a", "b"]
    assert tries.choose("abc", 2) == ["c", "a"]
    assert tries.choose("bc", 2) == ["b", "c"]
    assert tries.choose("abc", 1) == ["a"]  # it was gone
