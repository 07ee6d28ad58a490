"""Thousands of open orders neither delay a strike's first message nor pile up in memory."""

from __future__ import annotations

import pytest

from kill_switch.venues.kit.kill_trace import PAST_IDS
from kill_switch.venues.kuna.replies import PAGE
from tests.harness.venue_profiles import STANDS
from tests.system.load.many_orders import FACTOR, FEW, cheapest, ids, read_back

MANY = 10_000


@pytest.mark.parametrize("venue", STANDS)
def test_the_first_message_takes_as_long_with_ten_thousand_orders_as_with_few(venue: str) -> None:
    stand = STANDS[venue]
    for _ in range(10):  # one quiet moment is enough: it must not grow with the orders
        few = cheapest(stand, FEW.get(venue, 0), players=1)  # each time: the machine may be another one by now
        many = cheapest(stand, MANY, players=1)
        if many.first_us <= FACTOR * few.first_us:
            return
    pytest.fail(f"{many.first_us:.0f} us, with few orders {few.first_us:.0f} us")


@pytest.mark.parametrize("venue", STANDS)
def test_orders_that_come_and_go_by_the_thousand_leave_nothing_behind_but_a_bounded_memory(venue: str) -> None:
    stand = STANDS[venue]
    player = stand.ready()
    count = PAGE - 1 if venue == "kuna" else 1_000  # a list as long as its page may be a part only
    for first in range(0, 2 * PAST_IDS, count):
        read_back(stand, player, ids(stand, count, first))
        player.outputs.clear()
    adapter = player.adapter
    assert len(adapter.book.orders) == count
    assert len(adapter.book._past) == PAST_IDS
    assert not adapter.calls.pending
