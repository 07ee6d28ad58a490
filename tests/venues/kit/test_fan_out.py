"""Strikes by symbol: which symbols come first, what a list adds, and that one symbol's failure hides nothing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.fan_out import MAX_PAGES, FanOut
from kill_switch.venues.kit.strike import CancelCommand, StrikeStep
from kill_switch.venues.messages import Call, CallLost, CancelAnswered, Closed, Output, VenueTimerFired
from kill_switch.venues.request import Request
from tests.harness.venue_playbook import Kill, Pause, Player, Read, answer

from .tiny_venue import Tiny, accepted, calls_of, ready

SPACES = ("orders", "algo")


class BySymbol(Tiny):
    """It cancels the orders of one symbol in one order space; an order is listed as `SYMBOL:ID`."""

    def __init__(self, *, lists: int = 1, lag_s: float = 0.0) -> None:
        super().__init__(lists=lists)
        self.account_wide = None
        self.broken = ""  # a symbol whose command cannot be built
        self.built: list[str] = []
        self.fan_out: FanOut = FanOut(
            self.book, self._by_symbol, self.lists, self.read_order, commands_each=len(SPACES), list_lag_s=lag_s
        )

    def _by_symbol(self, symbol: str) -> tuple[CancelCommand, ...]:
        return tuple(CancelCommand(f"{space} {symbol}", self._cancel(space, symbol)) for space in SPACES)

    def _cancel(self, space: str, symbol: str) -> Build:
        def build(now: Instant) -> Request:
            if symbol == self.broken:
                raise ValueError("cannot be signed")
            self.built.append(f"/{space}?symbol={symbol}")
            return Request("DELETE", self.built[-1], {"Host": self.host})

        return build

    def cancels(self, now: Instant) -> Iterable[StrikeStep]:
        return self.fan_out.strike(now)

    def read_order(self, item: object) -> Order | None:
        if not isinstance(item, str):
            return None
        symbol, _, order_id = item.partition(":")
        return Order(order_id, symbol, OrderState.LIVE, "open")


def knowing(*items: str, lists: int = 1) -> tuple[Player, BySymbol]:
    """Return a player whose book has these orders, and whose WebSocket is down."""
    adapter = BySymbol(lists=lists)
    player = ready(adapter)
    player.put(Closed(Route.WS, 1, "gone"))
    for item in items:
        order = adapter.read_order(item)
        assert order is not None
        adapter.book.orders[order.id] = order
    adapter.book.on_whole_list()
    return player, adapter


def targets(outputs: Iterable[Output]) -> list[str]:
    return [call.request.target for call in calls_of(outputs)]


def of_symbols(*symbols: str) -> list[str]:
    return [f"/{space}?symbol={symbol}" for symbol in symbols for space in SPACES]


def answers(outputs: Iterable[Output]) -> list[CancelAnswered]:
    return [output for output in outputs if isinstance(output, CancelAnswered)]


def accept(player: Player, calls: Iterable[Call]) -> list[CancelAnswered]:
    """Accept commands, and a list without orders; return the strike's answers."""
    return [fact for call in calls for fact in answers(player.put(accepted(call.tag, orders=[])))]


def test_the_symbols_with_the_most_orders_are_struck_first_and_the_lists_come_behind_the_first_symbol() -> None:
    player, adapter = knowing("A:1", "B:2", "B:3", "C:4", "C:5", "C:6", lists=2)
    assert adapter.fan_out.symbols() == ["C", "B", "A"]
    assert targets(player.put(Kill())) == [*of_symbols("C"), "/list0?", "/list1?", *of_symbols("B", "A")]


def test_an_order_that_came_or_went_since_the_last_whole_list_only_changes_which_symbol_is_first() -> None:
    player, adapter = knowing("A:1", "B:2", "B:3")
    adapter.book.remove("2")
    adapter.book.remove("3")
    assert targets(player.put(Kill())) == [*of_symbols("A"), "/list0?"]
    adapter.book.remove("1")
    assert targets(player.put(Kill())) == ["/list0?"]


def test_the_commands_of_a_listed_symbol_are_made_before_a_kill_and_once() -> None:
    adapter = BySymbol()
    made: list[str] = []

    def make(symbol: str) -> tuple[CancelCommand, ...]:
        made.append(symbol)
        return adapter._by_symbol(symbol)

    adapter.fan_out = FanOut(adapter.book, make, adapter.lists, adapter.read_order)
    for number, symbol in enumerate("AB"):
        adapter.book.orders[str(number)] = Order(str(number), symbol, OrderState.LIVE, "open")
    adapter.book.on_whole_list()
    assert made == ["A", "B"]
    adapter.book.orders["9"] = Order("9", "C", OrderState.LIVE, "open")  # a push, which no list follows
    for _ in range(2):
        assert sum(isinstance(step, CancelCommand) for step in adapter.fan_out.strike(Instant(0, 0), lists=False)) == 6
    assert made == ["A", "B", "C"]


def test_the_next_strikes_calls_are_counted_without_building_any() -> None:
    _, adapter = knowing("A:1", "B:2", "B:3", lists=2)
    adapter.broken = "A"
    assert adapter.fan_out.count_calls() == 2 * len(SPACES) + 2


@pytest.mark.parametrize(("lag_s", "later_s", "symbols"), [(20, 18.9, "BA"), (20, 20.1, "B"), (0, 1.0, "B")])
def test_a_first_strike_has_the_symbol_that_a_list_has_omitted_until_no_list_can_lag_so_far(
    lag_s: float, later_s: float, symbols: str
) -> None:
    player = ready(adapter := BySymbol(lag_s=lag_s))
    for items, pause_s in ((["A:1", "B:2"], 1.0), (["B:2"], later_s), (["B:2"], 1.0)):
        for call in calls_of(player.put(Read())):
            player.put(accepted(call.tag, orders=items))
        player.put(Pause(pause_s))
    assert adapter.strike_calls() == len(symbols) * len(SPACES) + 1
    first = [target for target in targets(player.put(Kill())) if "symbol=" in target]
    assert first == of_symbols(*symbols)
    again = list(adapter.fan_out.strike(player.now, lists=False, is_first=False))
    assert [step.name for step in again if isinstance(step, CancelCommand)] == [f"{space} B" for space in SPACES]


def test_each_command_is_built_only_when_the_one_before_has_been_taken() -> None:
    player, adapter = knowing("A:1", "B:2", "B:3")
    strike = adapter.strike(player.now, 1)
    assert targets([next(strike)]) == ["/orders?symbol=B"]
    assert adapter.built == ["/orders?symbol=B"]


def test_a_symbol_that_only_a_list_shows_is_struck_as_the_list_comes_and_belongs_to_the_strike() -> None:
    player, adapter = knowing("A:1")
    known = calls_of(player.put(Kill()))
    find = known.pop(2)
    outputs = player.put(accepted(find.tag, orders=["A:1", "Z:7", "Z:8", "Y:9"]))
    assert targets(outputs) == of_symbols("Z", "Y")
    assert [found.ids for found in player.found] == [("7", "8", "9")]
    assert set(adapter.book.orders) == {"1", "7", "8", "9"}
    assert accept(player, known) == []
    [fact] = accept(player, calls_of(outputs))
    assert fact.answer is CancelOutcome.ACCEPTED


def test_the_symbols_of_a_second_page_are_struck_too_and_pages_without_end_are_not_followed() -> None:
    player, _ = knowing("A:1")
    known = calls_of(player.put(Kill()))
    page, pages = known.pop(2), 0
    while True:
        outputs = player.put(accepted(page.tag, orders=[f"S{pages}:{pages}"], next="more"))
        pages += 1
        found = calls_of(outputs)
        assert targets(found[: len(SPACES)]) == of_symbols(f"S{pages - 1}")
        known += found[: len(SPACES)]
        if len(found) == len(SPACES):
            break
        [page] = found[len(SPACES) :]
        assert page.request.target == "/list0?more"
    assert pages == MAX_PAGES
    [fact] = accept(player, known)
    assert fact.answer is CancelOutcome.UNKNOWN
    assert "there may be more" in fact.evidence


def test_a_list_that_cannot_be_read_whole_strikes_the_symbols_that_it_shows_and_is_not_accepted() -> None:
    player, _ = knowing("A:1")
    known = calls_of(player.put(Kill()))
    outputs = player.put(accepted(known.pop(2).tag, orders=["Z:7", 5]))
    assert targets(outputs) == of_symbols("Z")
    [fact] = accept(player, [*known, *calls_of(outputs)])
    assert fact.answer is CancelOutcome.UNKNOWN
    assert "1 of 2 orders" in fact.evidence


def test_one_symbol_that_is_refused_makes_the_strike_refused_and_the_others_are_cancelled() -> None:
    player, _ = knowing(*(f"S{number}:{number}" for number in range(100)))
    calls = calls_of(player.put(Kill()))
    assert len(calls) == 201
    assert answers(player.put(answer(calls.pop(50).tag, {"code": 1}))) == []
    [fact] = accept(player, calls)
    assert fact.answer is CancelOutcome.REFUSED
    assert "1 of 200 commands: no" in fact.evidence


def test_one_symbol_whose_command_cannot_be_built_is_named_and_every_other_command_leaves() -> None:
    player, adapter = knowing("A:1", "A:2", "B:3", "C:4")
    adapter.broken = "B"
    calls = calls_of(player.put(Kill()))
    assert [call.request.target for call in calls] == [*of_symbols("A"), "/list0?", *of_symbols("C")]
    [fact] = accept(player, calls)
    assert fact.answer is not CancelOutcome.ACCEPTED
    assert "orders B: internal error: ValueError" in fact.evidence
    assert not adapter.calls.pending


def test_an_order_without_a_symbol_is_named_as_left_out() -> None:
    player, _ = knowing("A:1", ":2")
    calls = calls_of(player.put(Kill()))
    assert targets(calls) == [*of_symbols("A"), "/list0?"]
    [fact] = accept(player, calls)
    assert fact.answer is not CancelOutcome.ACCEPTED
    assert "1 order(s) whose symbol is unknown" in fact.evidence


def test_an_account_without_known_orders_reads_its_lists_and_its_strike_has_one_answer() -> None:
    player, _ = knowing()
    calls = calls_of(player.put(Kill()))
    assert targets(calls) == ["/list0?"]
    [fact] = accept(player, calls)
    assert fact == CancelAnswered(CancelOutcome.ACCEPTED, "the lists show nothing to cancel", 0)


@pytest.mark.parametrize("left", [0, 1, 150])
def test_a_lane_that_is_lost_in_the_middle_leaves_one_answer_however_many_commands_were_answered(left: int) -> None:
    player, _ = knowing(*(f"S{number}:{number}" for number in range(80)))
    calls = calls_of(player.put(Kill()))
    facts = accept(player, calls[left:])
    second = [copy for call in calls[:left] for copy in calls_of(player.put(CallLost(call.tag, True, "lane lost")))]
    assert len(second) == left and all(copy.route is Route.FRESH for copy in second)
    for copy in second:
        facts += answers(player.put(CallLost(copy.tag, True, "no route")))
    assert len(facts) == 1


def test_after_a_re_arm_no_answer_and_no_symbol_of_a_list_leads_to_anything() -> None:
    player, adapter = knowing(*(f"S{number}:{number}" for number in range(80)))
    calls = calls_of(player.put(Kill()))
    accept(player, calls[10:])
    adapter.drop_strike_work()
    for call in calls[:10]:
        assert player.put(accepted(call.tag, orders=["Z:1"])) == ()
        assert player.put(VenueTimerFired(call.tag)) == ()


def test_a_strike_none_of_whose_commands_can_be_built_is_unsent_and_says_why() -> None:
    player, adapter = knowing("B:1")
    adapter.broken = "B"
    steps = adapter.fan_out.strike(player.now, lists=False)
    facts = answers((*adapter.striker.strike(steps, player.now, is_later=False),))
    assert [fact.answer for fact in facts] == [CancelOutcome.UNSENT]
    assert "orders B: internal error: ValueError" in facts[0].evidence
