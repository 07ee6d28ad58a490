"""A kill's count is of distinct orders that were open and are absent from a read, whatever venues claim."""

from __future__ import annotations

from typing import Any

import pytest

from kill_switch.core import order_tracker
from kill_switch.core.domain import Order, OrderState
from kill_switch.core.order_tracker import MAX_NAMED, OrderTally, OrderTracker, OrderTrackerPool
from kill_switch.venues.kit.book import OrderBook

KILL = "k1-1700000000"


class Case:
    """One account's book, its count, and the tally that its records make; a step takes a millisecond."""

    def __init__(self, *known: str, cold: bool = False) -> None:
        self.ns = 1_000_000
        self.book = OrderBook()
        self.count = OrderTracker(KILL, self.ns)
        self.records = OrderTally()
        self.written: list[dict[str, Any]] = []
        self.book.start_pushes(1, 0)
        if not cold:
            self.show(*known)

    def tick(self) -> int:
        self.ns += 1_000_000
        self.book.now_ns = self.ns
        return self.ns

    def show(self, *ids: str) -> None:
        """Read the list, for no kill."""
        self.book.apply_listing("orders", [order(order_id) for order_id in ids], self.tick(), whole=True)

    def push(self, one: str, life: OrderState = OrderState.LIVE, status: str = "open") -> None:
        self.tick()
        self.book.apply_push(Order(one, "BTC", life, status))

    def strike(self) -> None:
        self.count.on_strike(self.book, self.tick())
        self.write()

    def hear(self, *ids: str, alone: bool = False) -> None:
        """Have the venue name what it says it has cancelled."""
        self.tick()
        self.book.note_cancelled(ids, all_of_them=alone)
        self.count.on_book_changed(self.book, self.ns)
        self.write()

    def read(self, *ids: str, asked_ns: int | None = None, whole: bool = True) -> None:
        asked_ns = self.tick() if asked_ns is None else asked_ns
        self.book.apply_listing("orders", [order(order_id) for order_id in ids], asked_ns, whole=whole)
        self.count.on_read(self.book, frozenset(ids), asked_ns, self.tick(), whole=whole)
        self.write()
        if whole:
            self.records.on_read(len(ids))

    def write(self) -> None:
        told = self.count.take_changes()
        if told is not None:
            self.written.append(told)
            self.records.apply(told)

    def crash(self) -> None:
        """Begin a new process, which has the records and nothing else."""
        self.book, stood = OrderBook(), OrderTally.from_json(self.records.to_json())
        self.records = stood
        self.count = OrderTracker(KILL, 0, stood)

    def gone(self) -> tuple[int | None, list[str]]:
        return self.records.cancelled, sorted(self.records.gone)


def order(one: str) -> Order:
    return Order(one, "BTC", OrderState.LIVE, "open")


def test_orders_that_the_book_had_and_that_a_read_does_not_show_are_gone_once() -> None:
    case = Case("1", "2", "3")
    case.strike()
    assert case.gone() == (None, [])
    case.read("3")
    assert case.gone() == (2, ["1", "2"])
    case.strike()
    case.read()
    case.read()
    assert case.gone() == (3, ["1", "2", "3"])


def test_a_venues_claims_count_nothing_while_the_orders_rest() -> None:
    case = Case("1", "2")
    for _ in range(23):
        case.strike()
        case.hear("1", "2")
        case.read("1", "2")
    assert case.gone() == (0, [])
    assert len(case.written) == 1


def test_an_order_that_appears_during_the_kill_and_goes_counts() -> None:
    case = Case("1")
    case.strike()
    case.read("1", "2")
    case.push("3")
    case.read()
    assert case.gone() == (3, ["1", "2", "3"])


@pytest.mark.parametrize("status", ["filled", "FILLED", "Closed", "expired", "rejected"])
def test_an_order_whose_end_is_pushed_as_another_than_a_cancel_does_not_count_whenever_that_comes(status: str) -> None:
    case = Case("1", "2", "3")
    case.strike()
    case.push("1", OrderState.GONE, status)
    case.read()
    assert case.gone() == (2, ["2", "3"])
    case.push("2", OrderState.GONE, status)
    case.read()
    assert case.gone() == (1, ["3"])


@pytest.mark.parametrize("beside", [False, True])
def test_a_list_requested_before_a_fill_does_not_make_the_order_cancelled(beside: bool) -> None:
    case = Case("1", "2")
    case.strike()
    asked_ns = case.tick()
    case.push("1", OrderState.GONE, "filled")
    case.hear()
    if beside:
        case.book.note_open(["1"], asked_ns)
        case.hear()
    else:
        case.read("1", "2", asked_ns=asked_ns)
    case.read()
    assert case.gone() == (1, ["2"])


def test_an_order_that_a_later_read_shows_behind_its_end_counts_as_open() -> None:
    case = Case("1", "2")
    case.strike()
    case.push("1", OrderState.GONE, "filled")
    case.read("1")
    case.read()
    assert case.gone() == (2, ["1", "2"])


def test_an_order_that_was_filled_or_cancelled_before_the_kill_does_not_count() -> None:
    case = Case("1", "2", "3")
    case.push("1", OrderState.GONE, "filled")
    case.push("2", OrderState.GONE, "cancelled")
    case.strike()
    case.read()
    assert case.gone() == (1, ["3"])


def test_an_order_that_is_shown_again_is_not_gone_and_counts_once_in_the_end() -> None:
    case = Case("1", "2")
    case.strike()
    case.read()
    case.read("1")
    assert case.gone() == (1, ["2"])
    case.read()
    assert case.gone() == (2, ["1", "2"])


def test_a_read_that_was_asked_for_before_an_order_was_seen_does_not_end_it() -> None:
    case = Case("1")
    case.strike()
    asked_ns = case.tick()
    case.push("2")
    case.count.on_read(case.book, frozenset(), asked_ns, case.tick(), whole=True)
    case.write()
    case.records.read = True
    assert case.gone() == (1, ["1"])


def test_an_older_read_that_comes_late_brings_no_order_back() -> None:
    case = Case("1")
    case.strike()
    asked_ns = case.tick()
    case.read()
    case.count.on_read(case.book, frozenset({"1"}), asked_ns, case.tick(), whole=True)
    case.write()
    assert case.gone() == (1, ["1"])


def test_an_incomplete_read_ends_no_order_and_shows_others() -> None:
    case = Case("1")
    case.strike()
    case.read("2", whole=False)
    assert case.gone() == (None, [])
    case.read()
    assert case.gone() == (2, ["1", "2"])


# ── where nothing was known ───────────────────────────────────────────────────────────────────────────────────────


def test_orders_that_no_read_shows_and_the_venue_names_as_cancelled_were_open() -> None:
    case = Case(cold=True)
    case.strike()
    case.hear("1", "2")
    case.read()
    assert case.gone() == (2, ["1", "2"])


def test_an_order_that_the_venue_names_and_a_read_still_shows_is_not_gone() -> None:
    case = Case(cold=True)
    case.strike()
    case.hear("1", "2")
    case.read("2")
    assert case.gone() == (1, ["1"])


def test_a_pushed_cancel_of_an_unknown_order_counts_even_after_the_read() -> None:
    case = Case(cold=True)
    case.strike()
    case.read()
    assert case.gone() == (None, [])
    case.push("1", OrderState.GONE, "CANCELED_BY_USER")
    case.read()
    assert case.gone() == (1, ["1"])


def test_a_list_requested_with_the_strike_shows_open_orders_even_after_the_read() -> None:
    case = Case(cold=True)
    case.strike()
    beside_ns = case.tick()
    case.read()
    case.book.note_open(["1", "2"], beside_ns)
    case.read()
    assert case.gone() == (2, ["1", "2"])


def test_without_a_list_the_orders_are_unknown_and_not_none() -> None:
    case = Case(cold=True)
    case.strike()
    case.hear()
    case.read()
    assert case.gone() == (None, [])


def test_an_answer_that_names_no_order_is_none_if_nothing_else_can_have_been_hit() -> None:
    case = Case(cold=True)
    case.strike()
    case.hear(alone=True)
    case.read()
    assert case.gone() == (0, [])


def test_the_answer_to_a_second_strike_does_not_count_the_firsts_orders() -> None:
    case = Case(cold=True)
    case.strike()
    case.strike()
    case.hear(alone=True)
    case.read()
    assert case.gone() == (None, [])


# ── restarts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_crash_between_the_strike_and_the_answer_loses_no_order() -> None:
    case = Case("1", "2", "3")
    case.strike()
    case.crash()
    case.strike()
    case.read("3")
    assert case.gone() == (2, ["1", "2"])
    case.crash()
    case.read()
    assert case.gone() == (3, ["1", "2", "3"])


def test_orders_that_are_named_again_by_the_next_process_count_once() -> None:
    case = Case("1", "2")
    case.strike()
    case.read("2")
    case.crash()
    case.strike()
    case.hear("1", "2")
    case.read()
    assert case.gone() == (2, ["1", "2"])


def test_a_crash_with_more_orders_than_are_named_neither_loses_nor_doubles_any() -> None:
    ids = [f"o{number}" for number in range(MAX_NAMED + 500)]
    case = Case(*ids)
    case.strike()
    case.read(*ids[200:])
    assert case.gone()[0] == 200
    case.crash()
    case.strike()
    case.read(*ids[-300:])
    assert case.gone()[0] == MAX_NAMED + 200
    case.read()
    assert case.gone()[0] == MAX_NAMED + 500


# ── bounds ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_ten_thousand_orders_a_thousand_are_named_once_and_the_rest_is_counted() -> None:
    ids = [f"o{number}" for number in range(10_000)]
    case = Case(*ids)
    for _ in range(20):
        case.strike()
        case.read(*ids)
    case.read(*ids[:3000])
    assert case.gone() == (7000, [])
    case.read()
    assert case.gone()[0] == 10_000 and len(case.records.gone) == MAX_NAMED
    assert sum(len(told.get("open", ())) for told in case.written) == MAX_NAMED
    assert len(case.written) <= 3


def test_an_id_that_is_too_long_is_only_counted() -> None:
    case = Case("x" * (order_tracker.MAX_ID_LENGTH + 1), "2")
    case.strike()
    case.read()
    assert case.gone() == (2, ["2"])


def test_a_bot_that_quotes_for_ever_takes_no_memory_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_tracker, "MAX_GONE_REMEMBERED", 10)
    monkeypatch.setattr(order_tracker, "MAX_NAMED", 5)
    case = Case()
    case.strike()
    for number in range(200):
        case.push(f"o{number}")
        case.read(f"o{number}")
        case.read()
    assert case.records.cancelled == 200
    assert len(case.count._gone) == 10 and len(case.records.gone) == 5


def test_a_bot_that_quotes_while_no_read_is_whole_takes_no_memory_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_tracker, "MAX_GONE_REMEMBERED", 10)
    monkeypatch.setattr(order_tracker, "MAX_OPEN", 20)
    monkeypatch.setattr(order_tracker, "MAX_NAMED", 5)
    case = Case()
    case.strike()
    for number in range(200):
        case.push(f"o{number}")
        if number not in (0, 100):
            case.push(f"o{number}", OrderState.GONE, "cancelled")
        case.read(*(("o0", "o100") if number > 100 else ("o0",)), whole=False)
        assert len(case.count._open) <= 20
    case.read("o0", "o100")
    assert case.records.cancelled == 198
    case.read()
    assert case.records.cancelled == 200


# ── accounts and kills ────────────────────────────────────────────────────────────────────────────────────────────


def test_another_kill_begins_anew() -> None:
    counts = OrderTrackerPool()
    first = counts.counter("a", "k1-0", 5)
    assert counts.counter("a", "k1-0", 6) is first
    assert counts.counter("a", "k2-0", 7) is not first


def test_a_count_that_joins_a_kill_on_record_goes_on_from_there_under_its_id() -> None:
    counts = OrderTrackerPool()
    ours = counts.counter("a", "direct-0-0", 5)
    records = OrderTally(known=True, open={"1": None})
    counts.resume({"a": "k1-0", "b": "k1-0", "c": "k1-0"}, lambda kill, name: records if name != "c" else None, {})
    assert counts.counter("a", "k1-0", 9) is ours
    book = OrderBook()
    ours.on_strike(book, 10)
    ours.on_read(book, frozenset(), 11, 12, whole=True)
    assert ours.take_changes() == {"gone": ["1"]}
    resumed = counts.counter("b", "k1-0", 9)
    resumed.on_read(book, frozenset(), 11, 12, whole=True)
    assert resumed.take_changes() == {"gone": ["1"]}


def test_a_position_that_a_read_shows_is_no_order() -> None:
    shown = [order("1"), order("position:Sim101:ES 12-26")]
    assert order_tracker.order_ids_of(shown) == {"1"}


def test_a_book_keeps_a_kills_orders_only_while_it_is_traced() -> None:
    case = Case("1")
    case.push("2")
    case.push("2", OrderState.GONE, "filled")
    assert (case.book.entered, case.book.ended) == ({}, {})
    case.strike()
    case.push("3")
    case.push("3", OrderState.GONE, "filled")
    assert (list(case.book.entered), list(case.book.ended)) == (["3"], ["3"])
    case.book.stop_tracing()
    case.push("4")
    assert (case.book.entered, case.book.ended) == ({}, {})
