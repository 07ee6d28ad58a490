"""The batches of a strike that cancels by id."""

from __future__ import annotations

from collections.abc import Iterator

from kill_switch.venues.kit.batches import Batch, BatchLimits, BatchPlanner, OutlivedOrders, StrikeBatches, TryCounter

LIMITS = BatchLimits(str.isdigit, batch_orders=2, singles=1)


def divided(planner: BatchPlanner, *ids: str) -> list[Batch]:
    return list(StrikeBatches(planner).divide(ids))


def test_orders_go_in_batches_and_each_is_named_once_in_a_strike() -> None:
    strike = StrikeBatches(BatchPlanner(LIMITS))
    assert [batch.ids for batch in strike.divide(["0", "1", "2", "1"])] == [("0", "1"), ("2",)]
    assert list(strike.divide(["2", "3"])) == [Batch(("3",))]


def test_a_batch_may_leave_before_the_next_order_is_looked_at() -> None:
    def ids() -> Iterator[str]:
        yield from ("0", "1")
        raise AssertionError("looked at")

    assert next(StrikeBatches(BatchPlanner(LIMITS)).divide(ids())) == Batch(("0", "1"))


def test_a_malformed_id_is_cancelled_alone_and_spoils_no_batch() -> None:
    strike = StrikeBatches(BatchPlanner(LIMITS))
    assert list(strike.divide(["1", "x", "y"])) == [Batch(("1",)), Batch(("x",), alone=True)]
    assert strike.left == 1
    assert not list(strike.divide(["z"])) and strike.left == 2  # the limit is a strike's, not a list's


def test_an_order_that_outlives_its_batches_is_cancelled_alone_and_each_has_its_turn() -> None:
    planner = BatchPlanner(LIMITS)
    for _ in range(2):
        divided(planner, "1", "2")
    assert divided(planner, "1", "2") == [Batch(("2",)), Batch(("1",), alone=True)]
    planner.tries["2"] = 2
    assert divided(planner, "1", "2") == [Batch(("1",)), Batch(("2",), alone=True)]  # the least tried goes alone
    assert divided(planner, "3") == [Batch(("3",))]


def test_an_order_that_was_gone_for_a_while_begins_anew() -> None:
    planner = BatchPlanner(LIMITS)
    for _ in range(2):
        divided(planner, "1", "2")
    planner.forget_gone({"2"})
    assert divided(planner, "1", "2") == [Batch(("1",)), Batch(("2",), alone=True)]


def test_a_preview_by_a_copy_of_the_planner_changes_nothing() -> None:
    planner = BatchPlanner(LIMITS)
    planner.batch_orders = 1
    assert [batch.ids for batch in divided(planner.copy(), "1", "2")] == [("1",), ("2",)]
    assert not planner.tries


def test_the_orders_of_a_batch_that_was_refused_are_split_by_the_length_that_was_found() -> None:
    planner = BatchPlanner(LIMITS)
    strike = StrikeBatches(planner)
    [batch] = strike.divide(["1", "2"])
    planner.batch_orders = 1
    assert list(strike.split(batch.ids)) == [Batch(("1",)), Batch(("2",))]


def test_the_least_tried_orders_are_chosen_and_orders_that_are_gone_are_forgotten() -> None:
    tries = TryCounter()
    assert tries.choose("abc", 2) == ["a", "b"]
    assert tries.choose("abc", 2) == ["c", "a"]
    assert tries.choose("bc", 2) == ["b", "c"]
    assert tries.choose("abc", 1) == ["a"]  # it was gone


def test_only_orders_that_the_strike_before_has_hit_too_have_outlived_it_and_the_least_tried_come_first() -> None:
    outlived = OutlivedOrders()
    assert outlived.choose(["a", "b"], 1) == []
    assert outlived.choose(["a", "b", "new"], 1) == ["a"]
    assert outlived.choose(["a", "b", "new"], 2) == ["b", "new"]
    outlived.clear()
    assert outlived.choose(["a", "b"], 2) == []
