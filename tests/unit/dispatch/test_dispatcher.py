"""The one interpreter of commands: order, independence of accounts, routes, timers, verdicts."""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal

import pytest

from kill_switch.core import engine
from kill_switch.core.commands import Announce, Command, RearmGranted, RearmPending, RearmRefused
from kill_switch.core.domain import CancelOutcome, Instant, LaneState, Order, OrderState, Route, Severity
from kill_switch.core.events import Event, Progress, Pulse, RearmAsked, ReasonReported, Reconfigured, Recovered
from kill_switch.core.state import AccountState, State
from kill_switch.core.sweep import SweepTimerFired
from kill_switch.dispatch.account_status import MAX_UNEXPLAINED_LOGGED
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.session import AccountSession
from kill_switch.errors import IllegalEvent
from kill_switch.venues import messages
from kill_switch.venues.kit.account_limits import AccountLimits
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.messages import (
    Call,
    CallLost,
    CancelAnswered,
    CloseConnection,
    Closed,
    ConnectNow,
    Drilled,
    Equity,
    NotReady,
    Opened,
    OrderSeen,
    OrdersRead,
    Outputs,
    Ready,
    Received,
    ReplaceConnection,
    Replied,
    RoundTrip,
    Send,
    UnexplainedMessage,
    WakeAfter,
)
from tests.harness.core_playbook import TIMING, Theatre, asked, at, clear, confirming, residue, striking
from tests.harness.dispatch_doubles import CANCEL_ALL, GET_ORDERS, Floor, Lane, Venue

PUSH = Received(1, "{}")


def an_order() -> Order:
    return Order("o1", "BTC", OrderState.LIVE, "open")


# ── a strike ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_latch_is_written_before_the_first_byte_leaves() -> None:
    floor = Floor()
    floor.fire()
    assert floor.trace[:3] == ["intend", "latch reason", "a http POST /cancel-all"]


def test_a_strike_has_reached_every_account_when_the_report_returns() -> None:
    floor = Floor(("a", "b", "c"))
    floor.fire()
    assert floor.trace == [
        "intend",
        "latch reason",
        "a http POST /cancel-all",
        "b http POST /cancel-all",
        "c http POST /cancel-all",
        "append strike",
    ]
    floor.time.advance(5)
    assert floor.trace[6:] == ["sync"]  # beside, and after: it may wait for a disk
    (strike,) = floor.recorder.of("strike")
    assert [(s["account"], s["strike"], s["routes"]) for s in strike["sent"]] == [
        ("a", 1, ("http",)),
        ("b", 1, ("http",)),
        ("c", 1, ("http",)),
    ]
    assert all(s["mono_ns"] > at(0).mono_ns for s in strike["sent"])


def at_hand(floor: Floor) -> None:
    """Let venue b have a request at hand, and venue c a frame."""
    frame = Send(1, b"cancel", command=True)
    calls = floor.venues["c"].strike(floor.time.now())
    floor.venues["b"].on_first = lambda: CANCEL_ALL
    floor.venues["c"].on_first = lambda: frame
    floor.venues["c"].on_kill = lambda now: (frame, *calls)


def test_the_prebuilt_commands_leave_before_the_record_and_after_the_intent() -> None:
    floor = Floor(("a", "b", "c"))
    at_hand(floor)
    floor.fire()
    assert floor.trace == [
        "intend",
        "b begins POST /cancel-all",
        "c ws cancel",
        "latch reason",
        "a http POST /cancel-all",
        "b http POST /cancel-all",  # says which call it is
        "c http POST /cancel-all",  # and the frame is not sent again
        "append strike",
    ]
    (strike,) = floor.recorder.of("strike")
    assert [one["routes"] for one in strike["sent"]] == [("http",), ("http",), ("ws", "http")]


def test_where_no_intent_can_be_noted_nothing_leaves_before_the_record() -> None:
    floor = Floor(("a", "b", "c"))
    at_hand(floor)
    floor.recorder.intends = False
    floor.fire()
    assert floor.trace[:4] == ["intend", "latch reason", "b begins POST /cancel-all", "c ws cancel"]


def test_a_later_reason_begins_with_the_accounts_that_are_armed_and_needs_no_intent_for_others() -> None:
    floor = Floor(("a", "b", "c"))
    at_hand(floor)
    floor.fire("c")
    del floor.trace[:]
    floor.fire()
    assert floor.trace[:3] == ["intend", "b begins POST /cancel-all", "latch reason"]
    assert not any(line.startswith("c ") for line in floor.trace)  # it is struck already
    del floor.trace[:]
    floor.fire()
    assert floor.trace == ["latch reason"]


def test_an_account_that_is_struck_once_more_begins_behind_the_record() -> None:
    floor = Floor(("a", "b"))
    floor.fire()
    floor.time.advance(30_000)
    assert floor.phase("b") == "RESIDUE"
    floor.venues["b"].on_first = lambda: CANCEL_ALL
    del floor.trace[:]
    floor.fire("b")
    assert floor.trace[:2] == ["latch reason", "b http POST /cancel-all"]  # what is prebuilt is the first strike's


def test_where_lists_lag_the_push_of_an_orders_end_begins_the_span_of_clean_reads_again() -> None:
    timing = replace(TIMING, list_lag_s=1.0)
    floor = Floor(("a",), state=State({"a": AccountState(timing)}))
    session, venue = floor.session(), floor.venues["a"]

    def read_clean() -> None:
        venue.on_event = lambda: (OrdersRead((), True, floor.time.now().mono_ns),)
        session.on_lane_event(PUSH)

    def push_end() -> Outputs:
        return venue.book.apply_push(Order("o1", "BTC", OrderState.GONE, "filled"))

    floor.fire()
    for _ in range(3):
        floor.time.advance(300)
        read_clean()
    venue.on_event = push_end
    session.on_lane_event(PUSH)
    for _ in range(3):
        floor.time.advance(300)
        read_clean()
    assert floor.phase() == "CONFIRMING"  # 1.5 s after the first, and 0.6 s after the first since the push
    for _ in range(2):
        floor.time.advance(300)
        read_clean()
    assert floor.phase() == "CLEAR"


def test_a_venue_gets_the_number_of_each_strike_in_its_kill() -> None:
    floor = Floor(("a",))
    floor.fire()
    floor.time.advance(30_000)
    floor.fire()  # another reason
    struck = floor.venues["a"].struck
    before = len(struck)
    assert struck == [*range(1, before + 1)] and before > 2
    floor.dispatcher.rearm(RearmAsked(1000, "someone", "", ("a",), True, (), floor.time.now()))
    floor.fire()
    assert struck[before:] == [1]


def test_a_reason_caused_by_a_command_under_way_waits_for_its_turn() -> None:
    floor = Floor(("a", "b", "c"))
    at_hand(floor)
    floor.announce = lambda announcement: floor.fire("b") if "b" not in floor.dispatcher.last_reason_ns else None
    floor.fire("a")
    assert "intend" not in floor.trace[1:]
    assert floor.trace[-4:-1] == ["latch reason", "b begins POST /cancel-all", "b http POST /cancel-all"]


def test_a_lane_that_fails_to_cancel_an_early_send_affects_no_other_account(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise RuntimeError("a fault within the lane")

    floor = Floor(("a", "b"))
    for name in ("a", "b"):
        floor.venues[name].on_first = lambda: GET_ORDERS  # the strike turns out to be another one
    monkeypatch.setattr(floor.lanes["a"], "abandon_begun", fails)
    floor.fire()
    assert floor.phase("a") == floor.phase("b") == "STRIKING"
    assert "b forgoes" in floor.trace and len(floor.recorder.of("strike")) == 1
    assert floor.session("a").status.unexplained_messages == 1


def test_the_intent_names_the_accounts_that_the_record_will_name() -> None:
    floor = Floor(("a", "b"))
    floor.fire("a", "gone")
    assert floor.recorder.intended == [("a",)]
    assert floor.recorder.of("reason")[0]["accounts"] == ("a",)
    assert floor.phase("a") == "STRIKING"


def test_early_sends_are_cancelled_if_the_engine_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(state: State, event: Event) -> tuple[State, tuple[Command, ...]]:
        if isinstance(event, ReasonReported):
            raise RuntimeError("a fault within the engine")
        return real(state, event)

    real = engine.step
    floor = Floor(("a", "b", "c"))
    at_hand(floor)
    monkeypatch.setattr(engine, "step", fails)
    with pytest.raises(RuntimeError):
        floor.fire()
    assert "b forgoes" in floor.trace
    monkeypatch.undo()
    del floor.trace[:]
    floor.fire()
    assert floor.trace[1:3] == ["b begins POST /cancel-all", "c ws cancel"]  # nothing is taken for sent already


def test_a_strike_other_than_the_early_send_leaves_and_the_early_send_is_cancelled() -> None:
    floor = Floor(("a", "b"))
    floor.venues["a"].on_first = lambda: GET_ORDERS
    floor.venues["b"].on_first = lambda: Send(1, b"cancel", command=True)
    floor.fire()
    assert floor.trace[1:-1] == [
        "a begins GET /orders",
        "b ws cancel",
        "latch reason",
        "a http POST /cancel-all",
        "b http POST /cancel-all",
        "a forgoes",
        "b forgoes",
    ]


def test_a_strike_that_fails_after_its_early_send_reports_the_sent_bytes_and_their_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def raises(now: Instant) -> Outputs:
        raise KeyError("the adapter has a fault")

    floor = Floor(("a", "b"))
    for name in ("a", "b"):
        floor.venues[name].on_kill = raises
    floor.venues["a"].on_first = lambda: CANCEL_ALL
    floor.venues["b"].on_first = lambda: Send(1, b"cancel", command=True)
    floor.fire()
    (strike,) = floor.recorder.of("strike")
    assert [one["routes"] for one in strike["sent"]] == [("http",), ("ws",)]
    assert {answer["answer"] for answer in floor.recorder.of("answer")} == {CancelOutcome.UNKNOWN}
    floor.venues["a"].on_kill = None
    floor.lanes["a"].holds = True  # the next strike cannot begin, and has to wait
    floor.fire("a")
    floor.time.advance(4000)
    waiting = next(call for call in floor.lanes["a"].calls if call.cancel)
    before, now_ns = len(floor.recorder.of("strike")), floor.time.now().mono_ns
    floor.lanes["a"].release(waiting)
    (late,) = floor.recorder.of("strike")[before:]
    assert late["sent"][0]["mono_ns"] >= now_ns  # and not when the failed one began


def test_a_lane_that_cannot_begin_has_the_strike_go_out_as_ever() -> None:
    floor = Floor(("a", "b"))
    floor.lanes["a"].state = LaneState.DOWN
    for venue in floor.venues.values():
        venue.on_first = lambda: CANCEL_ALL
    floor.fire()
    assert floor.trace[1:-1] == [
        "a begins POST /cancel-all",
        "b begins POST /cancel-all",
        "latch reason",
        "a http POST /cancel-all",
        "b http POST /cancel-all",
    ]


def test_a_venue_whose_prebuilt_command_fails_strikes_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def raises() -> None:
        raise KeyError("the adapter has a fault")

    floor = Floor(("a", "b"))
    floor.venues["a"].on_first = raises
    floor.fire()
    assert [line for line in floor.trace if "cancel-all" in line] == [
        "a http POST /cancel-all",
        "b http POST /cancel-all",
    ]
    assert floor.session("a").status.unexplained_messages == 1


def test_one_venue_that_raises_keeps_no_other_from_being_struck(caplog: pytest.LogCaptureFixture) -> None:
    def raises(now: Instant) -> Outputs:
        raise KeyError("the adapter has a fault")

    floor = Floor(("a", "b", "c"))
    floor.venues["b"].on_kill = raises
    floor.fire()
    assert [line for line in floor.trace if "cancel-all" in line] == [
        "a http POST /cancel-all",
        "c http POST /cancel-all",
    ]
    (answer,) = floor.recorder.of("answer")
    assert (answer["account"], answer["answer"]) == ("b", CancelOutcome.UNKNOWN)
    assert answer["evidence"] == "internal error: KeyError"
    assert floor.phase("b") == "CONFIRMING"
    assert "account b: the strike failed" in caplog.text


def test_one_lane_that_raises_keeps_the_other_lane_from_nothing(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(("a", "b"))
    calls = floor.venues["a"].strike(floor.time.now())
    floor.venues["a"].on_kill = lambda now: (Send(1, b"cancel", command=True), *calls)
    broken, whole = Lane("a", floor.trace), floor.lanes["a"]
    broken.raises = True
    floor.connect("a", floor.venues["a"], ws=broken, http=whole)
    floor.fire()
    assert floor.trace[1:4] == ["latch reason", "b http POST /cancel-all", "a http POST /cancel-all"]
    assert floor.recorder.of("answer")[0]["evidence"] == "internal error: RuntimeError"
    assert "a fault within the lane" in caplog.text


def test_every_accounts_first_message_goes_before_any_accounts_second(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(("a", "b"))
    for name in ("a", "b"):
        first, *others = floor.venues[name].strike(floor.time.now())
        floor.venues[name].on_kill = lambda now, first=first, others=others: (first, Send(1, b"more"), *others)
    floor.fire()
    expected = ["a http POST /cancel-all", "b http POST /cancel-all", "a ws more", "b ws more"]
    assert floor.trace[1:6] == ["latch reason", *expected]


def test_an_account_that_signs_slowly_holds_no_message_of_another_account_up() -> None:
    floor = Floor(("a", "b", "c"))
    floor.venues["a"].signs_slowly = True
    for name, venue in floor.venues.items():
        calls = venue.strike(floor.time.now())
        venue.on_kill = lambda now, calls=calls, name=name: (*calls, Send(1, b"more"))
    floor.fire()
    first, others = [f"{name} http POST /cancel-all" for name in "bca"], [f"{name} ws more" for name in "bca"]
    assert floor.trace[1:8] == ["latch reason", *first, *others]


def test_a_second_message_that_fails_is_the_accounts_answer_and_delays_no_account(
    caplog: pytest.LogCaptureFixture,
) -> None:
    floor = Floor(("a", "b"))
    calls = floor.venues["a"].strike(floor.time.now())
    floor.venues["a"].on_kill = lambda now: (*calls, Send(1, b"more"), Send(1, b"still more"))
    broken, whole = Lane("a", floor.trace), floor.lanes["a"]
    broken.raises = True
    floor.connect("a", floor.venues["a"], ws=broken, http=whole)
    floor.fire()
    assert floor.trace[2:4] == ["a http POST /cancel-all", "b http POST /cancel-all"]
    assert floor.recorder.of("answer")[0]["evidence"] == "internal error: RuntimeError"


def test_the_record_of_a_strike_comes_before_the_answers_received_during_it() -> None:
    floor = Floor()
    floor.venues["a"].on_kill = lambda now: (CancelAnswered(CancelOutcome.UNSENT, "no lane"),)
    floor.fire()
    assert [kind for kind, _ in floor.recorder.records] == ["reason", "strike", "answer"]
    assert floor.trace[-1] == "a http GET /orders"


def test_events_caused_by_a_strike_are_handled_after_all_accounts_are_struck() -> None:
    floor = Floor(("a", "b"))
    floor.venues["a"].on_kill = lambda now: (CancelAnswered(CancelOutcome.UNSENT, "no lane"),)
    floor.fire()
    assert floor.trace.index("b http POST /cancel-all") < floor.trace.index("a http GET /orders")


def test_a_failing_journal_stops_no_strike_and_is_announced() -> None:
    floor = Floor()
    floor.recorder.broken = True
    floor.fire()
    assert "a http POST /cancel-all" in floor.trace
    assert Announce(Severity.WARN, "journal: No space left on device") in floor.announced


def test_a_journal_that_fails_outright_stops_no_strike(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    floor.recorder.raises = True
    floor.fire()
    assert "a http POST /cancel-all" in floor.trace
    assert floor.phase() == "STRIKING"
    assert "Record failed" in caplog.text and "the write-ahead note cannot be written" in caplog.text


def test_an_announcement_that_fails_stops_nothing_that_follows(caplog: pytest.LogCaptureFixture) -> None:
    def fails(announcement: Announce) -> None:
        raise RuntimeError("nobody listens")

    floor = Floor()
    floor.announce = fails
    floor.recorder.broken = True
    floor.fire()
    assert "a http POST /cancel-all" in floor.trace
    assert "Announce failed" in caplog.text
    floor.recorder.broken = False
    floor.time.advance(1000)
    assert floor.trace[-1] == "a http GET /orders"


def test_a_cancel_over_the_websocket_is_noted_with_its_route() -> None:
    floor = Floor()
    floor.venues["a"].on_kill = lambda now: (Send(1, b"cancel", command=True), Send(1, b"subscribe"))
    floor.fire()
    assert floor.recorder.of("strike")[0]["sent"][0]["routes"] == ("ws",)


def test_a_strike_of_several_calls_names_each_route_once() -> None:
    floor = Floor()
    calls = (*floor.venues["a"].strike(floor.time.now()), *floor.venues["a"].strike(floor.time.now()))
    floor.venues["a"].on_kill = lambda now: calls
    floor.fire()
    assert floor.recorder.of("strike")[0]["sent"][0]["routes"] == ("http",)


def test_a_websocket_that_is_down_has_sent_nothing() -> None:
    floor = Floor()
    floor.lanes["a"].state = LaneState.DOWN
    floor.venues["a"].on_kill = lambda now: (Send(1, b"cancel", command=True),)
    floor.fire()
    (sent,) = floor.recorder.of("strike")[0]["sent"]
    assert (sent["routes"], sent["mono_ns"]) == ((), 0)


def test_calls_that_are_no_cancels_are_not_noted_as_a_strike() -> None:
    floor = Floor()
    floor.venues["a"].on_kill = floor.venues["a"].read
    floor.fire()
    assert floor.recorder.of("strike")[0]["sent"][0]["routes"] == ()


# ── the second route ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_answer_in_time_sends_the_cancel_over_a_fresh_connection_and_records_it() -> None:
    floor = Floor()
    floor.fire()
    floor.time.advance(59)
    assert "a fresh POST /cancel-all" not in floor.trace
    floor.time.advance(2)
    assert "a fresh POST /cancel-all" in floor.trace
    (hedge,) = floor.recorder.of("strike")[1]["sent"]
    assert (hedge["strike"], hedge["routes"]) == (1, ("fresh",))
    assert hedge["mono_ns"] == pytest.approx(at(60).mono_ns, abs=1000)


def test_an_answer_in_time_needs_no_second_route() -> None:
    floor = Floor()
    floor.fire()
    floor.answer("a")
    floor.time.advance(500)
    assert not [line for line in floor.trace if "fresh" in line]


def test_a_lane_that_loses_the_cancel_is_hedged_at_once() -> None:
    floor = Floor()
    floor.fire()
    floor.session().on_lane_event(CallLost(floor.lanes["a"].calls[-1].tag, False, "not connected"))
    assert floor.trace[-2:] == ["a fresh POST /cancel-all", "append strike"]


def test_a_cancel_that_had_to_wait_is_recorded_when_it_leaves() -> None:
    floor = Floor()
    floor.lanes["a"].holds = True
    floor.fire()
    assert floor.recorder.of("strike")[0]["sent"][0]["routes"] == ()
    floor.time.advance(20)
    floor.lanes["a"].release(floor.lanes["a"].calls[0])
    (late,) = floor.recorder.of("strike")[1]["sent"]
    assert (late["routes"], late["strike"]) == (("http",), 1)


def test_the_commands_of_a_strike_that_had_to_wait_make_one_record_for_each_route() -> None:
    floor = Floor()
    floor.lanes["a"].holds = True
    strikes = [floor.venues["a"].strike(floor.time.now()) for _ in range(200)]
    floor.venues["a"].on_kill = lambda now: tuple(call for calls in strikes for call in calls)
    floor.fire()
    for call in list(floor.lanes["a"].calls):
        floor.lanes["a"].release(call)
    (late,) = floor.recorder.of("strike")[1:]
    assert (late["sent"][0]["routes"], late["sent"][0]["strike"]) == (("http",), 1)


def test_a_call_of_an_earlier_strike_that_leaves_now_is_not_taken_for_the_later_one() -> None:
    floor = Floor()
    floor.lanes["a"].holds = True
    floor.fire()
    old = floor.lanes["a"].calls[0]
    floor.time.advance(600)
    floor.session().on_lane_event(PUSH)
    floor.venues["a"].will(OrderSeen(an_order()))
    floor.session().on_lane_event(PUSH)
    assert len(floor.recorder.of("strike")) == 2
    floor.lanes["a"].release(old)
    assert len(floor.recorder.of("strike")) == 2


# ── read-backs and timers ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_kill_goes_from_the_strike_to_the_proof() -> None:
    floor = Floor()
    floor.fire()
    floor.time.advance(10)
    floor.answer("a")
    assert floor.trace[-1] == "a http GET /orders"
    floor.time.advance(10)
    floor.answer("a", body=b"")
    assert floor.phase() == "CONFIRMING"
    floor.time.advance(250)
    assert floor.trace[-1] == "a http GET /orders"
    floor.answer("a", body=b"")
    assert floor.phase() == "CLEAR"
    assert [announcement.level for announcement in floor.announced] == ["trip", "clear", "clear"]
    assert floor.session().venue.book.open_orders == 0


@pytest.mark.parametrize("early_ns", [0, 900_000])
def test_a_strike_that_is_never_answered_is_still_proven_clear_by_two_reads(early_ns: int) -> None:
    """A timer that goes off a grain too early must not make the reads that follow look older than the strike."""
    floor = Floor()
    floor.time.early_ns = early_ns
    floor.time.tick_ns = 20_000  # what a turn of the loop takes
    floor.fire()
    for _ in range(40):
        floor.time.advance(100)
        if floor.lanes["a"].calls[-1].request.method == "GET":
            floor.answer("a")
    assert floor.phase() == "CLEAR"
    assert len(floor.recorder.of("answer")) == 0
    assert len([line for line in floor.trace if line == "a http POST /cancel-all"]) == 1


def test_a_read_shows_its_first_orders_as_evidence() -> None:
    floor = Floor()
    floor.fire()
    floor.answer("a")
    floor.answer("a", body=b"o1 o2 o3 o4")
    (read,) = floor.recorder.of("read")
    assert (read["live"], read["evidence"]) == (4, "o1 BTC open, o2 BTC open, o3 BTC open")
    assert floor.session().venue.book.open_orders == 4


class ShortLimits(AccountLimits):
    """Limits that have room for a read at one time only."""

    room_ns = 0

    def read_wait_s(self, now: Instant) -> float:
        return max(0.0, (self.room_ns - now.mono_ns) / 1e9)


def chasing(room_s: float = 3.0) -> Floor:
    """Return a floor whose account `a` keeps its orders for 11 s already; the limit has no room for `room_s`."""
    floor = Floor(state=residue("a"))
    floor.time.ns = at(11_000).mono_ns
    venue = Venue()
    venue.limits = ShortLimits(venue.budget, venue.limits.cadence, 1.0)
    venue.limits.room_ns = at(11_000 + room_s * 1000).mono_ns
    floor.connect("a", venue)
    return floor


def reads_of(floor: Floor) -> int:
    return sum(call.request is GET_ORDERS for call in floor.lanes["a"].calls)


def test_a_read_of_a_chase_waits_for_room_in_the_limit_and_is_asked_for_once() -> None:
    floor = chasing()
    for _ in range(3):
        floor.session().read_back()
    floor.time.advance(2990)
    assert reads_of(floor) == 0
    floor.time.advance(20)
    assert reads_of(floor) == 1


def test_a_read_after_pushes_have_ended_every_known_order_yields_to_cancels_only_and_leaves_once() -> None:
    floor = chasing()
    book = floor.session().venue.book
    book.apply_listing("orders", (), 0, whole=True)
    floor.session().read_back()
    book.now_ns = at(11_000).mono_ns
    book.apply_push(Order("o1", "BTC", OrderState.LIVE, "open"))
    floor.session().read_back()
    assert reads_of(floor) == 0
    book.apply_push(Order("o1", "BTC", OrderState.GONE, "cancelled"))
    for _ in range(2):
        floor.session().read_back()
    assert reads_of(floor) == 1
    floor.time.advance(4000)  # the second one has waited for room
    assert reads_of(floor) == 2


def test_a_read_that_a_person_waits_for_yields_to_cancels_only() -> None:
    floor = chasing()
    floor.session().read_back()
    floor.session().read_back(is_prompt=True)
    assert reads_of(floor) == 1
    floor.time.advance(5000)  # and the read that waited has left with that one
    assert reads_of(floor) == 1


def test_a_read_that_waits_for_room_does_not_leave_once_the_account_is_armed() -> None:
    floor = chasing()
    floor.session().read_back()
    floor.dispatcher.state = State({"a": AccountState(TIMING)})
    floor.time.advance(5000)
    assert reads_of(floor) == 0


def test_a_read_that_waits_for_room_delays_no_read_of_a_proof() -> None:
    floor = chasing(room_s=2.0)
    floor.session().read_back()
    account = floor.dispatcher.state.accounts["a"]
    assert account.sweep is not None
    clean = account._replace(sweep=account.sweep._replace(clean_reads_in_a_row=1))
    floor.dispatcher.state = floor.dispatcher.state._replace(accounts={"a": clean})
    floor.session().read_back()
    assert reads_of(floor) == 1
    floor.time.advance(2400)  # and it has left with that one
    assert reads_of(floor) == 1


def test_a_read_that_fails_says_why() -> None:
    floor = Floor()
    floor.fire()
    floor.answer("a")
    floor.session().on_lane_event(CallLost(floor.lanes["a"].calls[-1].tag, True, "timed out"))
    assert floor.recorder.of("read")[0]["evidence"] == "timed out"


def test_an_account_has_one_appointment_at_a_time() -> None:
    floor = Floor()
    floor.fire()
    for ms in (10, 20, 30):
        floor.session().sweep_timer.set(at(ms).mono_ns)
    before = floor.time.waiting
    floor.session().sweep_timer.set(at(40).mono_ns)
    assert floor.time.waiting == before


def test_an_appointment_in_the_past_is_kept_at_once() -> None:
    floor = Floor(state=State({"a": AccountState(TIMING)}))
    floor.time.advance(100)
    floor.session().sweep_timer.set(at(0).mono_ns)
    floor.time.advance(0)
    assert floor.time.ms < 101


def test_a_strike_recovers_with_the_state() -> None:
    state = clear("a")
    floor = Floor(state=state)
    floor.dispatcher.handle(Recovered(floor.time.now()))
    floor.time.advance(1)
    assert floor.trace == ["append resume", "a http GET /orders"]


def test_an_order_that_is_pushed_is_struck() -> None:
    floor = Floor(state=clear("a"))
    floor.time.advance(10_000)
    floor.venues["a"].will(OrderSeen(an_order()))
    floor.session().on_lane_event(PUSH)
    assert floor.recorder.of("seen")[0]["evidence"] == "o1 BTC open"
    assert "a http POST /cancel-all" in floor.trace
    assert floor.dispatcher.striking_accounts == ("a",)


def test_an_account_whose_orders_are_unknown_has_no_number() -> None:
    assert Floor().session().venue.book.open_orders is None


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_other_records_are_written_together_a_moment_later() -> None:
    floor = Floor()
    floor.fire()
    floor.answer("a")
    assert floor.recorder.flushes == 1  # the latch
    floor.time.advance(50)
    assert floor.recorder.flushes == 2
    floor.time.advance(80)
    assert floor.recorder.flushes == 2


def test_a_failing_disk_is_announced_and_tried_again_each_second() -> None:
    floor = Floor()
    floor.fire()
    floor.recorder.broken = True
    floor.time.advance(50)
    assert floor.announced[-1] == Announce(Severity.WARN, "journal: No space left on device")
    assert floor.recorder.flushes == 2
    floor.recorder.broken = False
    floor.time.advance(999)
    assert floor.recorder.flushes == 2
    floor.time.advance(2)
    assert floor.recorder.flushes == 3
    floor.time.advance(10)
    assert floor.recorder.trouble == ""


def test_a_failing_disk_is_announced_once_and_again_after_a_recovery() -> None:
    floor = Floor()
    floor.fire()
    floor.recorder.broken = True
    floor.time.advance(60_000)
    assert floor.announced.count(Announce(Severity.WARN, "journal: No space left on device")) == 1
    floor.recorder.broken = False
    floor.time.advance(2_000)
    floor.recorder.broken = True
    floor.answer("a")
    floor.time.advance(60_000)
    assert floor.announced.count(Announce(Severity.WARN, "journal: No space left on device")) == 2


# ── the gate ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_re_arm_returns_the_engines_verdict() -> None:
    floor = Floor(state=clear("a", approvals=2))
    assert floor.dispatcher.rearm(floor.asked(uid=1)) == RearmPending(1, 2)
    assert floor.dispatcher.rearm(floor.asked(uid=2)) == RearmGranted(("a",))
    assert floor.dispatcher.rearm(floor.asked(uid=2)) == RearmRefused(("nothing in scope is tripped",))
    assert [line for line in floor.trace if "latch" in line] == ["latch rearm-approved", "latch rearm"]


def test_a_re_arm_of_an_unknown_account_is_refused_and_changes_nothing() -> None:
    floor = Floor(state=clear("a"))
    assert floor.dispatcher.rearm(asked("x")) == RearmRefused(("it names an account that is not there",))
    assert floor.phase() == "CLEAR"


def test_a_re_arm_within_a_strike_is_refused_and_not_carried_out_later() -> None:
    floor = Floor(state=clear("a"))
    verdicts: list[object] = []

    def rearms(now: Instant) -> Outputs:
        verdicts.append(floor.dispatcher.rearm(floor.asked(force=True)))
        return ()

    floor.venues["a"].on_kill = rearms
    floor.fire()
    assert verdicts == [RearmRefused(("a kill is being carried out",))]
    assert floor.recorder.of("rearm-refused") == floor.recorder.of("rearm") == []
    assert floor.phase() == "STRIKING"


def test_an_illegal_event_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    before = floor.dispatcher.state
    floor.dispatcher.handle(Progress("x", SweepTimerFired(0), at(0)))
    assert floor.dispatcher.state is before
    assert caplog.messages == ["SweepTimerFired is not allowed in a state without account 'x'"]
    assert floor.trace == []


def test_a_pulse_shows_that_engine_and_interpreter_turn() -> None:
    floor = Floor()
    assert floor.dispatcher.last_pulse_ns == 0
    sent = floor.time.now()
    floor.dispatcher.handle(Pulse(sent))
    assert floor.dispatcher.last_pulse_ns > sent.mono_ns


# ── what venues and lanes tell each other ─────────────────────────────────────────────────────────────────────────


def test_a_session_is_ready_when_both_lanes_are_up() -> None:
    floor = Floor()
    assert floor.session().status.is_ready
    floor.lanes["a"].state = LaneState.CONNECTING
    assert not floor.session().status.is_ready


def test_a_ready_websocket_is_reported() -> None:
    floor = Floor()
    floor.venues["a"].will(Ready(Route.WS, 7))
    floor.session().on_lane_event(Opened(Route.WS, 7))
    assert floor.trace == ["a authenticated 7"]
    assert floor.lane_changes == [("a", Route.WS)]


@pytest.mark.parametrize(("state", "trace"), [(LaneState.CONNECTING, ["a authenticated True"]), (LaneState.UP, [])])
def test_a_ready_http_lane_is_reported_once(state: LaneState, trace: list[str]) -> None:
    floor = Floor()
    floor.lanes["a"].state = state
    floor.venues["a"].will(Ready(Route.HTTP, 0))
    floor.session().on_lane_event(PUSH)
    assert floor.trace == trace
    assert floor.lane_changes == [("a", Route.HTTP)]


@pytest.mark.parametrize(("fatal", "level"), [(True, logging.ERROR), (False, logging.WARNING)])
def test_a_lane_that_is_not_ready_is_reported_and_logged(
    fatal: bool, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    floor = Floor()
    floor.lanes["a"].state = LaneState.DOWN
    floor.venues["a"].will(NotReady(Route.WS, 3, "wrong key", fatal), NotReady(Route.HTTP, 0, "wrong key", fatal))
    floor.session().on_lane_event(Closed(Route.WS, 2, "gone"))
    assert floor.trace[:2] == ["a drop 3 wrong key" + (" for good" if fatal else ""), "a authenticated False"]
    assert floor.lane_changes == [("a", Route.WS), ("a", Route.HTTP)]
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (level, "account a: ws lane: wrong key"),
        (level, "account a: http lane: wrong key"),
    ]


def test_a_connection_that_the_adapter_drops_is_closed() -> None:
    floor = Floor()
    floor.venues["a"].will(CloseConnection(4, "silent"))
    floor.session().on_lane_event(PUSH)
    assert floor.trace == ["a drop 4 silent"]


def test_a_connection_that_the_venue_will_close_is_replaced() -> None:
    floor = Floor()
    floor.venues["a"].will(ReplaceConnection(4))
    floor.session().on_lane_event(PUSH)
    assert floor.trace == ["a replace 4"]


def test_an_adapter_that_has_a_token_has_its_lane_connect_now() -> None:
    floor = Floor()
    floor.venues["a"].will(ConnectNow())
    floor.session().on_lane_event(PUSH)
    assert floor.trace == ["a connects now"]


def test_a_timer_of_the_venues_comes_back_to_it() -> None:
    floor = Floor()
    floor.venues["a"].will(WakeAfter("ping", 5.0))
    floor.session().on_lane_event(PUSH)
    floor.venues["a"].will(Send(1, b"ping"))
    floor.time.advance(4999)
    assert floor.trace == []
    floor.time.advance(2)
    assert floor.trace == ["a ws ping"]


def test_round_trips_are_kept_by_route() -> None:
    floor = Floor()
    floor.venues["a"].will(RoundTrip(Route.WS, 1200))
    floor.session().on_lane_event(PUSH)
    floor.session().on_round_trip(Route.HTTP, 900)
    assert floor.session().status.round_trips_us == {Route.WS: 1200, Route.HTTP: 900}


@pytest.mark.parametrize("by_the_venue", [False, True])
def test_a_websockets_round_trip_sets_when_the_copy_of_a_frame_leaves(by_the_venue: bool) -> None:
    floor = Floor()
    if by_the_venue:
        floor.venues["a"].will(RoundTrip(Route.WS, 100_000))
        floor.session().on_lane_event(PUSH)
    else:
        floor.session().on_round_trip(Route.WS, 100_000)
    assert floor.venues["a"].second_route.strike_s(Route.WS, copies_wait=True) == pytest.approx(0.15)


def test_a_warm_up_uses_the_venues_probe() -> None:
    floor = Floor()
    floor.venues["a"].on_probe = (Send(1, b"probe"),)
    floor.session().use_idle_http_lane()
    assert floor.trace == ["a ws probe"]


def test_a_warm_up_whose_lane_fails_is_noise(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    floor.venues["a"].on_probe = (Send(1, b"probe"),)
    floor.lanes["a"].raises = True
    floor.session().use_idle_http_lane()
    assert floor.session().status.unexplained_messages == 1
    assert caplog.messages == ["account a: an event was not understood"]


def test_noise_is_counted_and_logged_within_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    floor.venues["a"].will(UnexplainedMessage("what is this"))
    for _ in range(MAX_UNEXPLAINED_LOGGED + 5):
        floor.session().on_lane_event(PUSH)
    assert floor.session().status.unexplained_messages == MAX_UNEXPLAINED_LOGGED + 5
    assert caplog.messages == ["account a: what is this"] * MAX_UNEXPLAINED_LOGGED


def test_an_event_that_an_adapter_fails_on_is_noise_and_affects_no_account(caplog: pytest.LogCaptureFixture) -> None:
    def stumbles() -> Outputs:
        raise ValueError("the adapter has a fault")

    floor = Floor(("a", "b"))
    floor.venues["a"].on_event = stumbles
    for _ in range(MAX_UNEXPLAINED_LOGGED + 5):
        floor.session().on_lane_event(PUSH)
    assert floor.session().status.unexplained_messages == MAX_UNEXPLAINED_LOGGED + 5
    assert caplog.messages == ["account a: an event was not understood"] * MAX_UNEXPLAINED_LOGGED
    floor.fire()
    assert "a http POST /cancel-all" in floor.trace


def test_a_late_reply_after_the_re_arm_changes_nothing() -> None:
    floor = Floor(state=clear("a"))
    assert floor.dispatcher.rearm(floor.asked()) == RearmGranted(("a",))
    floor.venues["a"].will(CancelAnswered(CancelOutcome.ACCEPTED, "ok"), OrdersRead((an_order(),), True, 0))
    floor.session().on_lane_event(PUSH)
    assert floor.phase() == "ARMED"


def test_no_command_of_a_kill_leaves_after_the_re_arm_and_reads_do() -> None:
    floor = Floor(state=clear("a"))
    session, venue = floor.session(), floor.venues["a"]
    [cancel, _] = venue.strike(floor.time.now())
    [read] = venue.read(floor.time.now())
    assert isinstance(cancel, Call) and isinstance(read, Call)
    read = read._replace(urgent=True)
    assert session.should_still_send(cancel) and session.should_still_send(read)
    assert floor.dispatcher.rearm(floor.asked()) == RearmGranted(("a",))
    assert not session.should_still_send(cancel) and session.should_still_send(read)
    del floor.trace[:]
    venue.will(Send(1, b"cancel", command=True), Send(1, b"subscribe"))
    session.on_lane_event(PUSH)
    assert floor.trace == ["a ws subscribe"]


def test_no_command_leaves_after_the_re_arm_though_a_pass_over_the_accounts_was_never_finished() -> None:
    floor = Floor(state=clear("a"))
    session, venue = floor.session(), floor.venues["a"]
    session.send_widest(2, floor.time.now())
    assert floor.dispatcher.rearm(floor.asked()) == RearmGranted(("a",))
    del floor.trace[:]
    [cancel, _] = venue.strike(floor.time.now())
    venue.will(Send(1, b"cancel", command=True), cancel, Send(1, b"subscribe"))
    session.on_lane_event(PUSH)
    assert floor.trace == ["a ws subscribe"]


def test_a_call_that_waits_is_wanted_until_its_other_copy_is_answered() -> None:
    floor = Floor()
    floor.fire()
    call = floor.lanes["a"].calls[-1]
    assert floor.session().should_still_send(call)
    floor.answer("a")
    assert not floor.session().should_still_send(call)


def test_a_strikes_late_second_copy_after_the_re_arm_is_lost_unsent_on_both_routes() -> None:
    floor = Floor(state=clear("a"))
    session = floor.session()
    outputs = floor.venues["a"].strike(floor.time.now())  # a call, and the timer of its hedge
    assert floor.dispatcher.rearm(floor.asked()) == RearmGranted(("a",))
    del floor.trace[:]
    session.on_lane_event(
        CallLost(next(output.tag for output in outputs if isinstance(output, Call)), True, "no answer in time")
    )
    assert floor.trace == [] and floor.phase() == "ARMED"


def test_only_accounts_under_way_count_as_striking() -> None:
    floor = Floor(("a", "b", "c"))
    floor.fire("a", "b")
    floor.answer("b")
    assert list(floor.dispatcher.striking_accounts) == ["a", "b"]
    floor.session("b").on_lane_event(Replied(floor.lanes["b"].calls[-1].tag, 200, {}, b""))
    floor.time.advance(260)
    floor.answer("b")
    assert list(floor.dispatcher.striking_accounts) == ["a"]


def test_a_dispatcher_works_without_a_listener_of_its_lanes(play: Theatre) -> None:
    floor = Floor()
    quiet = Dispatcher(floor.dispatcher.state, floor.recorder, floor.time.now, floor.time.later, floor.announced.append)
    quiet.on_lane_changed("a", Route.WS)


def test_a_list_of_orders_waits_for_everything_urgent() -> None:
    floor = Floor()
    call = Call("orders#1", GET_ORDERS, Route.HTTP, urgent=True)
    floor.venues["a"].read = lambda now: (call, UnexplainedMessage("of no concern"))  # type: ignore[method-assign]
    floor.session().dry_run()
    assert [made.urgent for made in floor.lanes["a"].calls] == [False]
    assert floor.session().status.unexplained_messages == 1


def test_the_last_read_and_the_time_of_the_latest_reason_are_shown() -> None:
    floor = Floor(("a", "b"))
    assert floor.session().status.last_read is None
    floor.session().dry_run()
    floor.answer("a", body=b"o1")
    read = floor.session().status.last_read
    assert read is not None and [order.id for order in read.orders] == ["o1"]
    before_ns = floor.time.now().mono_ns
    floor.fire("b")
    assert list(floor.dispatcher.last_reason_ns) == ["b"]
    assert floor.dispatcher.last_reason_ns["b"] > before_ns


# ── other accounts ────────────────────────────────────────────────────────────────────────────────────────────────


def reconfigured(floor: Floor, *accounts: str, anew: tuple[str, ...] = ()) -> dict[str, Lane]:
    """Go over to these accounts, those in `anew` and those that come with sessions of their own; return their lanes."""
    lanes, sessions = {}, {}
    for name in accounts:
        if name in anew or name not in floor.lanes:
            lane = lanes[name] = Lane(f"new {name}", floor.trace)
            sessions[name] = AccountSession(name, Venue(), floor.dispatcher, lane.serve)
    event = Reconfigured(dict.fromkeys(accounts, TIMING), frozenset(anew), 1, floor.time.now())
    floor.dispatcher.reconfigure(event, sessions)
    floor.lanes.update(lanes)
    return lanes


def test_an_account_that_comes_is_struck_over_its_own_lanes_and_one_that_goes_is_not() -> None:
    floor = Floor(("a", "b"))
    reconfigured(floor, "b", "c")
    floor.fire("b", "c")
    assert [line for line in floor.trace if "POST" in line] == [
        "b http POST /cancel-all",
        "new c http POST /cancel-all",
    ]
    assert list(floor.dispatcher.sessions) == ["b", "c"]


def test_a_reason_for_a_removed_account_strikes_no_account_and_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(("a", "b"))
    reconfigured(floor, "b")
    floor.fire("a")
    assert floor.trace == []
    assert caplog.messages == ["ReasonReported is not allowed in a state without account 'a'"]


def test_a_reason_that_names_one_account_that_has_gone_strikes_the_others(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(("a", "b", "c"))
    reconfigured(floor, "a", "c")
    floor.fire("a", "b", "c")
    assert floor.dispatcher.state.tripped == ("a", "c")
    assert [line for line in floor.trace if "POST" in line] == ["a http POST /cancel-all", "c http POST /cancel-all"]
    assert floor.recorder.of("reason")[0]["accounts"] == ("a", "c")
    assert caplog.messages == ["ReasonReported is not allowed in a state without account 'b'"]


def test_a_session_whose_login_is_replaced_is_heard_no_more() -> None:
    floor = Floor(state=clear("a"))
    old = floor.session()
    old.read_back()
    call = floor.lanes["a"].calls[-1]
    floor.time.advance(5)
    reconfigured(floor, "a", anew=("a",))
    before, records = floor.dispatcher.state, list(floor.recorder.records)
    old.on_lane_event(Replied(call.tag, 200, {}, b"o1 o2"))
    old.on_lane_event(CallLost(call.tag, True, "closed"))
    old.on_sent(Route.FRESH, "cancel-all#1")
    assert (floor.dispatcher.state, floor.recorder.records) == (before, records)


def test_a_hedge_of_a_session_that_was_replaced_is_no_strike_of_the_new_one() -> None:
    floor = Floor(state=residue("a"))
    old = floor.session()
    floor.fire()
    (cancel,) = floor.lanes["a"].calls
    reconfigured(floor, "a", anew=("a",))
    told = len(floor.recorder.of("strike"))
    old.on_sent(Route.FRESH, cancel.tag)
    assert len(floor.recorder.of("strike")) == told


def test_the_appointments_of_a_session_that_was_replaced_are_void() -> None:
    floor = Floor(state=clear("a"))
    floor.session().sweep_timer.set(at(1_000).mono_ns)
    reconfigured(floor, "a", anew=("a",))
    floor.time.advance(2_000)
    assert [line for line in floor.trace if "GET" in line] == ["new a http GET /orders"]


def test_nothing_is_heard_of_an_account_that_was_re_armed_and_then_taken_away(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(("a", "b"), state=clear("a", "b"))
    floor.session("a").sweep_timer.set(at(1_000).mono_ns)
    assert floor.dispatcher.rearm(floor.asked("a")) == RearmGranted(("a",))
    reconfigured(floor, "b")
    floor.time.advance(2_000)
    assert caplog.messages == []


def test_an_account_in_residue_for_a_wrong_key_is_cleared_once_the_key_is_put_right() -> None:
    floor = Floor(state=residue("a"))
    lane = reconfigured(floor, "a", anew=("a",))["a"]
    assert floor.trace == ["new a http POST /cancel-all", "append strike"]
    for _ in range(20):
        calls, lane.calls[:] = lane.calls[:], []
        for call in calls:
            floor.session().on_lane_event(Replied(call.tag, 200, {}, b""))
        floor.time.advance(250)
    assert floor.phase() == "CLEAR"
    assert floor.dispatcher.rearm(floor.asked()) == RearmGranted(("a",))


@pytest.mark.parametrize("state", [striking("a"), confirming("a"), residue("a"), clear("a")])
def test_a_tripped_account_cannot_be_taken_from_its_session(state: State) -> None:
    floor = Floor(state=state)
    with pytest.raises(IllegalEvent, match="a under way"):
        reconfigured(floor, "b")
    assert list(floor.dispatcher.sessions) == ["a"]
    assert floor.dispatcher.state is state


def test_accounts_do_not_change_in_the_middle_of_a_strike() -> None:
    floor = Floor()
    found: list[str] = []

    def changes(now: Instant) -> Outputs:
        with pytest.raises(IllegalEvent, match="a kill under way"):
            reconfigured(floor, "a", "b")
        found.append("refused")
        return ()

    floor.venues["a"].on_kill = changes
    floor.fire()
    assert found == ["refused"]
    assert list(floor.dispatcher.sessions) == ["a"]


# ── what is nobody's business but the daemon's ────────────────────────────────────────────────────────────────────


class Drillable(Venue):
    """A venue that answers a drill and a measurement at once."""

    def drill(self, now: Instant) -> Outputs:
        return (Drilled(Route.HTTP, True, 5000, "not found, as it must be"),)

    def request_equity(self, now: Instant) -> Outputs:
        return (Equity({"BTC": Decimal(7)}, now.mono_ns),)


def test_results_of_a_drill_and_a_measurement_are_reported_by_account_and_change_no_state() -> None:
    floor = Floor(state=clear("a"))
    told: list[tuple[str, object]] = []
    floor.dispatcher.on_fact = lambda account, fact, now: told.append((account, fact))
    session = AccountSession("a", Drillable(), floor.dispatcher, floor.lanes["a"].serve)
    before = floor.dispatcher.state
    session.drill()
    session.request_equity()
    assert told[0] == ("a", Drilled(Route.HTTP, True, 5000, "not found, as it must be"))
    assert isinstance(told[1][1], Equity)
    assert (floor.dispatcher.state, floor.trace) == (before, [])


def test_who_fails_to_hear_of_it_disturbs_no_lane(caplog: pytest.LogCaptureFixture) -> None:
    def deaf(account: str, fact: object, now: Instant) -> None:
        raise RuntimeError("a fault within")

    floor = Floor()
    floor.dispatcher.on_fact = deaf
    session = AccountSession("a", Drillable(), floor.dispatcher, floor.lanes["a"].serve)
    session.drill()
    session.request_equity()
    assert session.status.unexplained_messages == 2
    assert caplog.messages == ["account a: an event was not understood"] * 2


def test_a_record_that_must_survive_is_written_at_once_and_synced_without_another_step() -> None:
    floor = Floor()
    floor.dispatcher.record_durably("pnl", {"trigger": "loss"})
    assert floor.recorder.of("pnl") == [{"trigger": "loss"}]
    assert floor.trace[0] == "latch pnl"
    floor.time.advance(100)
    assert floor.trace == ["latch pnl", "sync"]


# ── what is told of strikes and orders ────────────────────────────────────────────────────────────────────────────


def answers(floor: Floor) -> list[tuple[int, str]]:
    return [(data["strike"], data["answer"]) for data in floor.recorder.of("answer")]


def test_an_answer_belongs_to_the_strike_of_its_command_though_another_has_left_since() -> None:
    floor = Floor()
    floor.fire()
    first = floor.lanes["a"].calls[-1]
    floor.time.advance(1100)  # no answer in time: it reads
    floor.answer("a", body=b"1")
    second = floor.lanes["a"].calls[-1]
    assert second.cancel and second.tag != first.tag
    floor.session().on_lane_event(Replied(first.tag, 200, {}, b""))
    floor.session().on_lane_event(Replied(second.tag, 200, {}, b""))
    assert answers(floor) == [(1, "ACCEPTED"), (2, "ACCEPTED")]


def test_a_command_resent_after_a_reply_is_answered_for_the_same_strike() -> None:
    floor = Floor()
    venue, again = floor.venues["a"], list[PendingCall]()
    taken = venue.on_reply

    def once(ask: PendingCall, reply: Replied, now: Instant) -> messages.Outputs | None:
        if ask.kind == "cancel-all" and not again:
            again.append(ask)
            return venue.calls.start_again(ask, now)
        return taken(ask, reply, now)

    venue.on_reply = once  # type: ignore[method-assign]
    floor.fire()
    first = floor.lanes["a"].calls[-1]
    floor.time.advance(1100)
    floor.answer("a", body=b"1")
    floor.session().on_lane_event(Replied(first.tag, 200, {}, b""))
    floor.answer("a")
    assert answers(floor) == [(1, "ACCEPTED")]


def test_an_answer_over_the_websocket_belongs_to_the_strike_that_the_adapter_names() -> None:
    floor = Floor()
    venue, made = floor.venues["a"], list[int]()

    def kill(now: Instant) -> messages.Outputs:
        made.append(now.mono_ns)
        return (CancelAnswered(CancelOutcome.UNKNOWN, "nothing to send"),) if len(made) > 1 else ()

    venue.on_kill = kill
    floor.fire()
    floor.time.advance(1100)
    venue.answers_ns = made[0]
    floor.answer("a", body=b"1")
    venue.will(CancelAnswered(CancelOutcome.ACCEPTED, "late"))
    floor.session().on_lane_event(PUSH)
    assert answers(floor) == [(2, "UNKNOWN"), (1, "ACCEPTED")]


def test_a_strikes_record_has_the_open_orders_and_the_reads_records_the_cancelled_ones() -> None:
    floor = Floor()
    floor.venues["a"].show("1", "2", "3", asked_ns=floor.time.now().mono_ns)
    floor.fire()
    floor.answer("a")
    floor.answer("a", body=b"3")
    [struck, *_] = floor.recorder.of("strike")
    assert struck["sent"][0]["orders"] == {"open": ["1", "2", "3"]}
    assert floor.recorder.of("read")[0]["orders"] == {"gone": ["1", "2"]}


def test_a_strike_is_recorded_although_the_count_fails(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()

    def fails() -> None:
        raise RuntimeError("a fault of the book")

    floor.venues["a"].book.trace = fails  # type: ignore[method-assign]
    floor.fire()
    [struck] = floor.recorder.of("strike")
    assert struck["sent"][0]["strike"] == 1 and "orders" not in struck["sent"][0]
