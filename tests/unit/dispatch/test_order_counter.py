"""What a kill counts is computed when its records are numbered, and says what it would have said at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.core.order_tracker import OrderTrackerPool
from kill_switch.dispatch.order_counter import OrderCounter
from kill_switch.venues.messages import OrdersRead
from tests.harness.dispatch_doubles import Floor, Venue
from tests.harness.immediate_jobs import Prompt

KILL = "k1-1700000000"


class Case:
    """The counter of one account whose venue has shown these orders before the kill; a step takes a millisecond."""

    def __init__(self, *orders: str) -> None:
        self.ns = 1_000_000
        self.errors: list[Exception] = []
        self.venue = Venue()
        self.venue.show(*orders, asked_ns=self.ns)
        self.counter = OrderCounter("a", self.venue, OrderTrackerPool(), self.errors.append)

    def now(self) -> Instant:
        self.ns += 1_000_000
        self.venue.book.now_ns = self.ns
        return Instant(self.ns, self.ns)

    def read(self, *ids: str) -> Mapping[str, object] | None:
        asked_ns = self.now().mono_ns
        orders = [Order(one, "BTC", OrderState.LIVE, "open") for one in ids]
        self.venue.book.apply_listing("orders", orders, asked_ns, whole=True)
        return self.counter.on_read(KILL, OrdersRead(orders, True, asked_ns), self.now())


def test_a_strikes_record_has_the_orders_that_were_open_then_though_they_have_gone_before_it_is_numbered() -> None:
    case = Case("1", "2")
    struck = case.counter.on_strike(KILL, case.now())
    case.venue.book.apply_listing("orders", [], case.now().mono_ns, whole=True)
    assert struck.changes() == {"open": ["1", "2"]}


def test_orders_named_before_a_read_are_on_the_answers_record_and_not_on_the_reads() -> None:
    case = Case()
    struck = case.counter.on_strike(KILL, case.now())
    case.now()
    case.venue.book.note_cancelled(["7"])
    answered = case.counter.on_answer(KILL, case.now())
    assert case.read() == {"gone": ["7"]}
    assert (struck.changes(), answered.changes()) == ({}, {"open": ["7"]})


def test_records_numbered_in_another_order_have_the_same_count() -> None:
    case = Case("1")
    struck = case.counter.on_strike(KILL, case.now())
    answered = case.counter.on_answer(KILL, case.now())
    assert answered.changes() is None
    assert struck.changes() == struck.changes() == {"open": ["1"]}


def test_a_later_strike_takes_nothing_that_an_earlier_one_has_left() -> None:
    case = Case("1")
    first = case.counter.on_strike(KILL, case.now())
    second = case.counter.on_strike(KILL, case.now())
    assert (second.changes(), first.changes()) == (None, {"open": ["1"]})


def test_a_count_that_fails_leaves_its_record_without_orders_and_the_next_one_with_its_own() -> None:
    case = Case("1")
    case.venue.show("1", asked_ns=case.now().mono_ns)
    case.venue.book.trace()
    failing = case.counter.on_answer(KILL, case.now())
    entered, case.venue.book.entered = case.venue.book.entered, None  # type: ignore[assignment]
    assert failing.changes() is None and len(case.errors) == 1
    case.venue.book.entered = entered
    assert case.counter.on_answer(KILL, case.now()).changes() is None and len(case.errors) == 1


def test_nothing_is_counted_before_the_journal_numbers_the_records(tmp_path: Path) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    run.mkdir()
    journal, told = Prompt(state, run), list[Mapping[str, Any]]()
    journal.deliver_to(told.append)
    floor = Floor(journal=journal)
    floor.venues["a"].show("1", asked_ns=floor.time.now().mono_ns)
    floor.fire()
    floor.answer("a")
    assert not journal.is_on_record and journal.figures(0).unwritten == 3
    assert floor.dispatcher.counts._counts == {}
    floor.time.advance(50)
    strikes = [entry["data"]["sent"] for entry in told if entry["kind"] == "strike"]
    assert strikes[0][0]["orders"] == {"open": ["1"]}
    assert "orders" not in next(entry["data"] for entry in told if entry["kind"] == "answer")
    journal.close()
