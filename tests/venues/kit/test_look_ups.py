"""Look-ups of several orders by one request: what the answer leaves out is asked for alone."""

from __future__ import annotations

from typing import Any

import pytest

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.described_venue import ManyLookUp
from kill_switch.venues.kit.readback import LOOK_UP, MAX_LOOK_UPS
from kill_switch.venues.messages import Call, CallLost, OrdersRead, Output
from tests.harness.venue_playbook import Pause, Player, Probe, Read, answer, hears

from .tiny_venue import Tiny, accepted, calls_of, ready

MOST = 4


class Many(Tiny):
    """A venue that looks up to four orders up by one request; the answer has the words of those that it knows."""

    def assemble(self) -> None:
        self.look_up = ManyLookUp(lambda ids: self.get(f"/orders/{','.join(ids)}"), MOST)
        super().assemble()

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        word = data.get(order_id) if isinstance(data, dict) else None
        return None if word is None else Order(order_id, "X", OrderState(word), word)


LIVE, GONE = OrderState.LIVE.value, OrderState.GONE.value


def pushed(*ids: str, lists: int = 1) -> Player:
    player = ready(Many(lists=lists))
    for one in ids:
        player.put(hears(1, {"order": one}))
    player.put(Pause(1))
    return player


def reading(player: Player) -> list[Call]:
    """Read back with an empty list; return the look-ups that follow."""
    [call] = calls_of(player.put(Read()))
    return calls_of(player.put(accepted(call.tag, orders=[])))


def asked(calls: list[Call]) -> list[list[str]]:
    assert all(call.tag.startswith(LOOK_UP) for call in calls)
    return [call.request.target.rpartition("/")[2].split(",") for call in calls]


def the_read(outputs: tuple[Output, ...]) -> OrdersRead:
    [fact] = [output for output in outputs if isinstance(output, OrdersRead)]
    return fact


def test_orders_that_no_list_shows_are_looked_up_together_up_to_the_venues_maximum() -> None:
    player = pushed("1", "2", "3", "4", "5")
    first, second = calls = reading(player)
    assert asked(calls) == [["1", "2", "3", "4"], ["5"]]
    assert not player.put(accepted(first.tag, **{"1": GONE, "2": LIVE, "3": GONE, "4": GONE}))
    fact = the_read(player.put(accepted(second.tag, **{"5": LIVE})))
    assert fact.complete and [order.id for order in fact.orders] == ["2", "5"]
    assert set(player.adapter.book.orders) == {"2", "5"}


@pytest.mark.parametrize("body", [{"code": 0, "data": {"2": GONE}}, {"code": 3}, {"code": 1}])
def test_an_order_that_the_answer_leaves_out_or_refuses_is_asked_for_alone_and_ends_by_that_answer(
    body: dict[str, Any],
) -> None:
    player = pushed("1", "2", "3")
    [call] = reading(player)
    left_out = ["1", "3"] if "data" in body else ["1", "2", "3"]
    alone = calls_of(player.put(answer(call.tag, body)))
    assert asked(alone) == [[one] for one in left_out] and all(each.urgent for each in alone)
    assert set(player.adapter.book.orders) == set(left_out)
    *others, last = alone
    for other in others:
        assert not player.put(answer(other.tag, {"code": 3}))
    fact = the_read(player.put(answer(last.tag, {"code": 3})))
    assert fact.complete and not fact.orders and not player.adapter.book.orders


def test_an_order_that_the_answer_for_it_alone_leaves_out_too_makes_the_read_incomplete() -> None:
    player = pushed("1", "2")
    [call] = reading(player)
    [alone] = calls_of(player.put(accepted(call.tag, **{"1": GONE})))
    fact = the_read(player.put(accepted(alone.tag)))
    assert not fact.complete and "order 2 is in no list" in fact.why
    player.put(Pause(60))
    assert asked(reading(player)) == [["2"]]


def test_a_look_up_that_is_lost_or_whose_outcome_is_unknown_is_repeated_for_all_its_orders() -> None:
    for lost in (True, False):
        player = pushed("1", "2", "3", "4")
        [call] = reading(player)
        if lost:
            player.put(CallLost(call.tag, True, "down"))
        fact = the_read(player.put(CallLost(call.tag, True, "down") if lost else answer(call.tag, {"code": 2})))
        assert not fact.complete and "orders 1, 2, 3 and 1 more are in no list" in fact.why
        player.put(Pause(60))
        assert asked(reading(player)) == [["1", "2", "3", "4"]]


def test_a_read_back_starts_no_more_look_ups_than_its_limit_with_those_of_orders_that_were_left_out() -> None:
    ids = [str(number) for number in range(20)]
    player = pushed(*ids)
    calls = reading(player)
    assert len(calls) == 5
    looks = len(calls)
    while calls:
        data = {one: GONE for one in asked(calls[:1])[0]} if "," not in calls[0].request.target else {}
        outputs = player.put(accepted(calls.pop(0).tag, **data))
        looks += len(calls_of(outputs))
        calls += calls_of(outputs)
    fact = the_read(outputs)
    assert looks == MAX_LOOK_UPS and not fact.complete and len(player.adapter.book.orders) == 15


def test_an_order_whose_end_is_pushed_meanwhile_is_not_asked_for_alone() -> None:
    player = pushed("1", "2")
    [call] = reading(player)
    player.adapter.book.apply_push(Order("2", "X", OrderState.GONE, "filled"))
    assert the_read(player.put(accepted(call.tag, **{"1": GONE}))).complete


def test_doubted_orders_are_looked_up_together_without_a_read_and_alone_if_the_answer_lacks_them() -> None:
    player = pushed("1", "2", "3", lists=2)
    [probe] = calls_of(player.put(Probe()))
    player.put(accepted(probe.tag, orders=[]))
    [probe] = calls_of(player.put(Probe()))
    [call] = calls_of(player.put(accepted(probe.tag, orders=[])))
    assert asked([call]) == [["1", "2", "3"]] and not call.urgent
    [alone] = calls_of(player.put(accepted(call.tag, **{"1": GONE, "3": LIVE})))
    assert asked([alone]) == [["2"]] and player.adapter.book.open_orders == 1
    assert not player.put(answer(alone.tag, {"code": 3}))
    assert set(player.adapter.book.orders) == {"3"}
