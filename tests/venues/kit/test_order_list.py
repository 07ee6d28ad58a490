"""Lists by pages: what cannot be read makes a read-back incomplete, and hides no order."""

from __future__ import annotations

from kill_switch.core.domain import Route
from kill_switch.venues.kit.order_list import MAX_PAGES
from kill_switch.venues.messages import CallLost, NotReady, OrdersRead, Ready, VenueTimerFired
from tests.harness.venue_playbook import Pause, Player, Probe, Read, answer, hears

from .tiny_venue import Tiny, accepted, calls_of, ready


def reading(adapter: Tiny | None = None) -> tuple[Player, list[str]]:
    player = ready(adapter)
    player.put(Pause(1))
    return player, [call.tag for call in calls_of(player.put(Read()))]


def the_read(outputs: tuple[object, ...]) -> OrdersRead:
    [fact] = [output for output in outputs if isinstance(output, OrdersRead)]
    return fact


def ids(fact: OrdersRead) -> list[str]:
    return [order.id for order in fact.orders]


def test_the_pages_of_a_list_are_read_one_after_the_other() -> None:
    player, [tag] = reading()
    [second] = calls_of(player.put(accepted(tag, orders=["1"], next="b")))
    assert second.request.target == "/list0?b" and second.urgent
    fact = the_read(player.put(accepted(second.tag, orders=["2"])))
    assert (ids(fact), fact.complete) == (["1", "2"], True)


def test_a_page_that_fails_hides_no_order_of_the_pages_before() -> None:
    for code in (1, 2):
        player, [tag] = reading()
        [second] = calls_of(player.put(accepted(tag, orders=["1"], next="b")))
        fact = the_read(player.put(answer(second.tag, {"code": code})))
        assert (ids(fact), fact.complete) == (["1"], False) and fact.why.startswith("list0: ")
    player, [tag] = reading()
    [second] = calls_of(player.put(accepted(tag, orders=["1"], next="b")))
    player.put(CallLost(second.tag, True, "down"))
    assert ids(the_read(player.put(CallLost(second.tag, True, "down")))) == ["1"]


def test_the_orders_of_the_first_page_do_not_wait_for_a_second_page_that_is_late() -> None:
    player, [tag] = reading()
    [second] = calls_of(player.put(accepted(tag, orders=["1"], next="b")))
    fact = the_read(player.put(VenueTimerFired(second.tag)))
    assert (ids(fact), fact.complete) == (["1"], False) and fact.why == "list0: no answer yet"


def test_an_entry_that_cannot_be_read_hides_no_other() -> None:
    player, [tag] = reading()
    fact = the_read(player.put(accepted(tag, orders=["1", 7, "2"])))
    assert (ids(fact), fact.complete) == (["1", "2"], False) and "1 of 3 orders" in fact.why


def test_a_cursor_that_leads_on_for_ever_ends_and_the_list_may_have_more() -> None:
    player, [tag] = reading()
    pages = 1
    while calls := calls_of(player.put(accepted(tag, orders=[str(pages)], next="again"))):
        tag, pages = calls[0].tag, pages + 1
    fact = [output for output in player.outputs if isinstance(output, OrdersRead)][-1]
    assert pages == MAX_PAGES == len(fact.orders) and not fact.complete and "there may be more" in fact.why


def test_a_list_without_pages_that_is_full_may_have_more() -> None:
    player, [tag] = reading(Tiny(full=2))
    fact = the_read(player.put(accepted(tag, orders=["1", "2"])))
    assert (ids(fact), fact.complete) == (["1", "2"], False) and "full" in fact.why


def test_a_list_that_fails_does_not_hide_the_orders_of_another() -> None:
    player, [one, two] = reading(Tiny(lists=2))
    assert not player.put(answer(one, {"code": 1}))
    fact = the_read(player.put(accepted(two, orders=["1"])))
    assert (ids(fact), fact.complete) == (["1"], False)


def test_a_probe_of_a_first_page_keeps_the_orders_of_later_pages_in_the_book() -> None:
    player, [tag] = reading()
    [second] = calls_of(player.put(accepted(tag, orders=["1"], next="b")))
    player.put(accepted(second.tag, orders=["2"]))
    [probe] = calls_of(player.put(Probe()))
    assert player.put(accepted(probe.tag, orders=["1"], next="b")) == (Ready(Route.HTTP, 0),)
    assert set(player.adapter.book.orders) == {"1", "2"}


def test_a_lane_that_could_not_carry_a_kill_is_not_ready_although_its_probe_succeeds() -> None:
    player, _ = reading()
    player.adapter.reader.why_not_ready = lambda route: "the key cannot cancel"  # type: ignore[attr-defined]
    [probe] = calls_of(player.put(Probe()))
    outputs = player.put(accepted(probe.tag, orders=["1"]))
    assert outputs[0] == NotReady(Route.HTTP, 0, "the key cannot cancel", fatal=True)
    assert ids(the_read(outputs)) == ["1"]


def test_a_full_page_is_a_fine_probe_and_takes_no_order_out_of_the_book() -> None:
    player, [tag] = reading(Tiny(full=2))
    player.put(accepted(tag, orders=["1"]))
    [probe] = calls_of(player.put(Probe()))
    assert player.put(accepted(probe.tag, orders=["2", "3"]))[0] == Ready(Route.HTTP, 0)
    assert set(player.adapter.book.orders) == {"1", "2", "3"}


def test_a_look_up_that_does_not_know_an_order_proves_nothing_while_lists_may_lag() -> None:
    adapter = Tiny()
    adapter.read_backs.lag_ns = 20 * 10**9
    player = ready(adapter)
    player.put(hears(1, {"order": "A"}))
    for passed_s, complete in ((19.0, False), (2.0, True)):
        player.put(Pause(passed_s))
        [orders] = calls_of(player.put(Read()))
        [look_up] = calls_of(player.put(accepted(orders.tag, orders=[])))
        fact = the_read(player.put(answer(look_up.tag, {"code": 3})))
        assert fact.complete is complete and ("A" in adapter.book.orders) is not complete
