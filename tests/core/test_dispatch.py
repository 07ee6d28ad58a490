"""The one interpreter of commands: order, independence of accounts, routes, timers, verdicts."""

from __future__ import annotations

import logging

import pytest

from kill_switch.dispatch import NOISE_LOGGED, Dispatcher
from kill_switch.domain import Answer, Life, Now, Order, Route
from kill_switch.engine import Account, Announce, Granted, Progress, Pulse, Recovered, Refused, State, Waiting
from kill_switch.sweep import Due
from kill_switch.transports.lane import LaneState
from kill_switch.venues.base import (
    Call,
    CancelAnswered,
    Closed,
    Drop,
    Lost,
    Noise,
    NotReady,
    Opened,
    OrderSeen,
    OrdersRead,
    Outputs,
    Ready,
    Received,
    Replied,
    RoundTrip,
    Send,
    WakeAfter,
)
from tests.core.playbook import PACE, Theatre, asked, at, clear
from tests.core.stubs import GET_ORDERS, Floor

PUSH = Received(1, "{}")


def an_order() -> Order:
    return Order("o1", "BTC", Life.LIVE, "open")


# ── a strike ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_latch_is_written_before_the_first_byte_leaves() -> None:
    floor = Floor()
    floor.fire()
    assert floor.trace[:2] == ["latch reason", "a http POST /cancel-all"]


def test_a_strike_has_reached_every_account_when_the_report_returns() -> None:
    floor = Floor(("a", "b", "c"))
    floor.fire()
    assert floor.trace == [
        "latch reason",
        "a http POST /cancel-all",
        "b http POST /cancel-all",
        "c http POST /cancel-all",
        "sync",  # beside, and after: it may wait for a disk
        "append strike",
    ]
    (strike,) = floor.recorder.of("strike")
    assert [(s["account"], s["strike"], s["routes"]) for s in strike["sent"]] == [
        ("a", 1, ("http",)),
        ("b", 1, ("http",)),
        ("c", 1, ("http",)),
    ]
    assert all(s["mono_ns"] > at(0).mono_ns for s in strike["sent"])


def test_one_venue_that_raises_keeps_no_other_from_being_struck(caplog: pytest.LogCaptureFixture) -> None:
    def raises(now: Now) -> Outputs:
        raise KeyError("the adapter has a fault")

    floor = Floor(("a", "b", "c"))
    floor.venues["b"].on_kill = raises
    floor.fire()
    assert [line for line in floor.trace if "cancel-all" in line] == [
        "a http POST /cancel-all",
        "c http POST /cancel-all",
    ]
    (answer,) = floor.recorder.of("answer")
    assert (answer["account"], answer["answer"]) == ("b", Answer.UNKNOWN)
    assert answer["evidence"] == "internal error: KeyError"
    assert floor.phase("b") == "CONFIRMING"
    assert "account b: the strike failed" in caplog.text


def test_one_lane_that_raises_keeps_the_other_lane_from_nothing(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(("a", "b"))
    calls = floor.venues["a"].kill(floor.time.now())
    floor.venues["a"].on_kill = lambda now: (Send(1, b"cancel", urgent=True), *calls)
    floor.session("a").ws = broken = type(floor.lanes["a"])("a", floor.trace)
    broken.raises = True
    floor.fire()
    assert floor.trace[:3] == ["latch reason", "b http POST /cancel-all", "a http POST /cancel-all"]
    assert floor.recorder.of("answer")[0]["evidence"] == "internal error: RuntimeError"
    assert "a fault within the lane" in caplog.text


def test_every_accounts_first_message_goes_before_any_accounts_second(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(("a", "b"))
    for name in ("a", "b"):
        first, *others = floor.venues[name].kill(floor.time.now())
        floor.venues[name].on_kill = lambda now, first=first, others=others: (first, Send(1, b"more"), *others)
    floor.fire()
    expected = ["a http POST /cancel-all", "b http POST /cancel-all", "a ws more", "b ws more"]
    assert floor.trace[:5] == ["latch reason", *expected]


def test_a_second_message_that_fails_is_the_accounts_answer_and_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(("a", "b"))
    calls = floor.venues["a"].kill(floor.time.now())
    floor.venues["a"].on_kill = lambda now: (*calls, Send(1, b"more"), Send(1, b"still more"))
    floor.session("a").ws = broken = type(floor.lanes["a"])("a", floor.trace)
    broken.raises = True
    floor.fire()
    assert floor.trace[1:3] == ["a http POST /cancel-all", "b http POST /cancel-all"]
    assert floor.recorder.of("answer")[0]["evidence"] == "internal error: RuntimeError"


def test_the_record_of_a_strike_stands_before_the_answers_that_came_within_it() -> None:
    floor = Floor()
    floor.venues["a"].on_kill = lambda now: (CancelAnswered(Answer.UNSENT, "no lane"),)
    floor.fire()
    assert [kind for kind, _ in floor.recorder.records] == ["reason", "strike", "answer"]
    assert floor.trace[-1] == "a http GET /orders"


def test_what_a_strike_causes_is_handled_after_all_accounts_have_been_struck() -> None:
    floor = Floor(("a", "b"))
    floor.venues["a"].on_kill = lambda now: (CancelAnswered(Answer.UNSENT, "no lane"),)
    floor.fire()
    assert floor.trace.index("b http POST /cancel-all") < floor.trace.index("a http GET /orders")


def test_a_journal_that_takes_nothing_stops_no_strike_and_is_said_aloud() -> None:
    floor = Floor()
    floor.recorder.broken = True
    floor.fire()
    assert "a http POST /cancel-all" in floor.trace
    assert Announce("warn", "journal: No space left on device") in floor.announced


def test_a_journal_that_fails_outright_stops_no_strike(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    floor.recorder.raises = True
    floor.fire()
    assert "a http POST /cancel-all" in floor.trace
    assert floor.phase() == "STRIKING"
    assert "Record failed" in caplog.text


def test_an_announcement_that_fails_stops_nothing_that_follows(caplog: pytest.LogCaptureFixture) -> None:
    def fails(said: Announce) -> None:
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
    floor.venues["a"].on_kill = lambda now: (Send(1, b"cancel", urgent=True), Send(1, b"subscribe"))
    floor.fire()
    assert floor.recorder.of("strike")[0]["sent"][0]["routes"] == ("ws",)


def test_a_strike_of_several_calls_names_each_route_once() -> None:
    floor = Floor()
    calls = (*floor.venues["a"].kill(floor.time.now()), *floor.venues["a"].kill(floor.time.now()))
    floor.venues["a"].on_kill = lambda now: calls
    floor.fire()
    assert floor.recorder.of("strike")[0]["sent"][0]["routes"] == ("http",)


def test_a_websocket_that_is_down_has_sent_nothing() -> None:
    floor = Floor()
    floor.lanes["a"].state = LaneState.DOWN
    floor.venues["a"].on_kill = lambda now: (Send(1, b"cancel", urgent=True),)
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
    floor.session().event(Lost(floor.lanes["a"].calls[-1].tag, False, "not connected"))
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


def test_a_call_of_an_earlier_strike_that_leaves_now_is_not_taken_for_the_later_one() -> None:
    floor = Floor()
    floor.lanes["a"].holds = True
    floor.fire()
    old = floor.lanes["a"].calls[0]
    floor.time.advance(600)
    floor.session().event(PUSH)
    floor.venues["a"].will(OrderSeen(an_order()))
    floor.session().event(PUSH)
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
    assert [said.level for said in floor.announced] == ["trip", "clear", "clear"]
    assert floor.session().open_orders == 0


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
    assert floor.session().open_orders == 4


def test_a_read_that_fails_says_why() -> None:
    floor = Floor()
    floor.fire()
    floor.answer("a")
    floor.session().event(Lost(floor.lanes["a"].calls[-1].tag, True, "timed out"))
    assert floor.recorder.of("read")[0]["evidence"] == "timed out"


def test_an_account_has_one_appointment_at_a_time() -> None:
    floor = Floor()
    floor.fire()
    for ms in (10, 20, 30):
        floor.session().wake_at(at(ms).mono_ns)
    before = floor.time.waiting
    floor.session().wake_at(at(40).mono_ns)
    assert floor.time.waiting == before


def test_an_appointment_in_the_past_is_kept_at_once() -> None:
    floor = Floor(state=State({"a": Account(PACE)}))
    floor.time.advance(100)
    floor.session().wake_at(at(0).mono_ns)
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
    floor.session().event(PUSH)
    assert floor.recorder.of("seen")[0]["evidence"] == "o1 BTC open"
    assert "a http POST /cancel-all" in floor.trace
    assert floor.dispatcher.striking == ("a",)


def test_an_account_whose_orders_are_unknown_has_no_number() -> None:
    assert Floor().session().open_orders is None


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_other_records_are_written_together_a_moment_later() -> None:
    floor = Floor()
    floor.fire()
    floor.answer("a")
    assert floor.recorder.flushes == 1  # the latch
    floor.time.advance(20)
    assert floor.recorder.flushes == 2
    floor.time.advance(80)
    assert floor.recorder.flushes == 2


def test_a_disk_that_takes_nothing_is_said_and_tried_again_each_second() -> None:
    floor = Floor()
    floor.fire()
    floor.recorder.broken = True
    floor.time.advance(20)
    assert floor.announced[-1] == Announce("warn", "journal: No space left on device")
    assert floor.recorder.flushes == 2
    floor.recorder.broken = False
    floor.time.advance(999)
    assert floor.recorder.flushes == 2
    floor.time.advance(2)
    assert floor.recorder.flushes == 3
    floor.time.advance(10)
    assert floor.recorder.trouble == ""


# ── the gate ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_re_arm_returns_the_engines_verdict() -> None:
    floor = Floor(state=clear("a", approvals=2))
    assert floor.dispatcher.rearm(floor.asked(uid=1)) == Waiting(1, 2)
    assert floor.dispatcher.rearm(floor.asked(uid=2)) == Granted(("a",))
    assert floor.dispatcher.rearm(floor.asked(uid=2)) == Refused(("nothing in scope is tripped",))
    assert [line for line in floor.trace if "latch" in line] == ["latch rearm-approved", "latch rearm"]


def test_a_re_arm_of_an_unknown_account_is_refused_and_changes_nothing() -> None:
    floor = Floor(state=clear("a"))
    assert floor.dispatcher.rearm(asked("x")) == Refused(("it names an account that is not there",))
    assert floor.phase() == "CLEAR"


def test_a_re_arm_within_a_strike_is_refused_and_not_carried_out_later() -> None:
    floor = Floor(state=clear("a"))
    verdicts: list[object] = []

    def rearms(now: Now) -> Outputs:
        verdicts.append(floor.dispatcher.rearm(floor.asked(force=True)))
        return ()

    floor.venues["a"].on_kill = rearms
    floor.fire()
    assert verdicts == [Refused(("a kill is being carried out",))]
    assert floor.recorder.of("rearm-refused") == floor.recorder.of("rearm") == []
    assert floor.phase() == "STRIKING"


def test_an_illegal_event_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    before = floor.dispatcher.state
    floor.dispatcher.handle(Progress("x", Due(0), at(0)))
    assert floor.dispatcher.state is before
    assert caplog.messages == ["Due is not allowed in a state without account 'x'"]
    assert floor.trace == []


def test_a_pulse_shows_that_engine_and_interpreter_turn() -> None:
    floor = Floor()
    assert floor.dispatcher.alive_ns == 0
    sent = floor.time.now()
    floor.dispatcher.handle(Pulse(sent))
    assert floor.dispatcher.alive_ns > sent.mono_ns


# ── what venues and lanes tell each other ─────────────────────────────────────────────────────────────────────────


def test_a_session_is_ready_when_both_lanes_are_up() -> None:
    floor = Floor()
    assert floor.session().ready
    floor.lanes["a"].state = LaneState.CONNECTING
    assert not floor.session().ready


def test_a_websocket_that_is_ready_is_told_so() -> None:
    floor = Floor()
    floor.venues["a"].will(Ready(Route.WS, 7))
    floor.session().event(Opened(Route.WS, 7))
    assert floor.trace == ["a authenticated 7"]
    assert floor.lane_changes == [("a", Route.WS)]


@pytest.mark.parametrize(("state", "trace"), [(LaneState.CONNECTING, ["a authenticated True"]), (LaneState.UP, [])])
def test_an_http_lane_is_told_once_that_it_is_ready(state: LaneState, trace: list[str]) -> None:
    floor = Floor()
    floor.lanes["a"].state = state
    floor.venues["a"].will(Ready(Route.HTTP, 0))
    floor.session().event(PUSH)
    assert floor.trace == trace
    assert floor.lane_changes == [("a", Route.HTTP)]


@pytest.mark.parametrize(("fatal", "level"), [(True, logging.ERROR), (False, logging.WARNING)])
def test_a_lane_that_is_not_ready_is_told_and_logged(fatal: bool, level: int, caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    floor.venues["a"].will(NotReady(Route.WS, 3, "wrong key", fatal), NotReady(Route.HTTP, 0, "wrong key", fatal))
    floor.session().event(Closed(Route.WS, 2, "gone"))
    assert floor.trace == ["a drop 3 wrong key" + (" for good" if fatal else ""), "a authenticated False"]
    assert floor.lane_changes == [("a", Route.WS), ("a", Route.HTTP)]
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (level, "account a: ws lane: wrong key"),
        (level, "account a: http lane: wrong key"),
    ]


def test_what_the_venue_wants_dropped_is_dropped() -> None:
    floor = Floor()
    floor.venues["a"].will(Drop(4, "silent"))
    floor.session().event(PUSH)
    assert floor.trace == ["a drop 4 silent"]


def test_a_timer_of_the_venues_comes_back_to_it() -> None:
    floor = Floor()
    floor.venues["a"].will(WakeAfter("ping", 5.0))
    floor.session().event(PUSH)
    floor.venues["a"].will(Send(1, b"ping"))
    floor.time.advance(4999)
    assert floor.trace == []
    floor.time.advance(2)
    assert floor.trace == ["a ws ping"]


def test_round_trips_are_kept_by_route() -> None:
    floor = Floor()
    floor.venues["a"].will(RoundTrip(Route.WS, 1200))
    floor.session().event(PUSH)
    floor.session().rtt(Route.HTTP, 900)
    assert floor.session().rtt_us == {Route.WS: 1200, Route.HTTP: 900}


def test_a_warm_up_uses_the_venues_probe() -> None:
    floor = Floor()
    floor.venues["a"].on_probe = (Send(1, b"probe"),)
    floor.session().warm()
    assert floor.trace == ["a ws probe"]


def test_a_warm_up_whose_lane_fails_is_noise(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    floor.venues["a"].on_probe = (Send(1, b"probe"),)
    floor.lanes["a"].raises = True
    floor.session().warm()
    assert floor.session().noise == 1
    assert caplog.messages == ["account a: an event was not understood"]


def test_noise_is_counted_and_logged_within_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    floor.venues["a"].will(Noise("what is this"))
    for _ in range(NOISE_LOGGED + 5):
        floor.session().event(PUSH)
    assert floor.session().noise == NOISE_LOGGED + 5
    assert caplog.messages == ["account a: what is this"] * NOISE_LOGGED


def test_an_event_that_a_venue_stumbles_over_is_noise_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def stumbles() -> Outputs:
        raise ValueError("the adapter has a fault")

    floor = Floor(("a", "b"))
    floor.venues["a"].on_event = stumbles
    for _ in range(NOISE_LOGGED + 5):
        floor.session().event(PUSH)
    assert floor.session().noise == NOISE_LOGGED + 5
    assert caplog.messages == ["account a: an event was not understood"] * NOISE_LOGGED
    floor.fire()
    assert "a http POST /cancel-all" in floor.trace


def test_a_late_reply_after_the_re_arm_changes_nothing() -> None:
    floor = Floor(state=clear("a"))
    assert floor.dispatcher.rearm(floor.asked()) == Granted(("a",))
    floor.venues["a"].will(CancelAnswered(Answer.ACCEPTED, "ok"), OrdersRead((an_order(),), True, 0))
    floor.session().event(PUSH)
    assert floor.phase() == "ARMED"


def test_only_accounts_under_way_count_as_striking() -> None:
    floor = Floor(("a", "b", "c"))
    floor.fire("a", "b")
    floor.answer("b")
    assert list(floor.dispatcher.striking) == ["a", "b"]
    floor.session("b").event(Replied(floor.lanes["b"].calls[-1].tag, 200, {}, b""))
    floor.time.advance(260)
    floor.answer("b")
    assert list(floor.dispatcher.striking) == ["a"]


def test_a_dispatcher_needs_nobody_to_hear_of_its_lanes(play: Theatre) -> None:
    floor = Floor()
    quiet = Dispatcher(floor.dispatcher.state, floor.recorder, floor.time.now, floor.time.later, floor.announced.append)
    quiet.lane_changed(floor.session(), Route.WS)


def test_a_look_at_what_rests_stands_behind_everything_that_is_urgent() -> None:
    floor = Floor()
    call = Call("orders#1", GET_ORDERS, Route.HTTP, urgent=True)
    floor.venues["a"].read = lambda now: (call, Noise("of no concern"))  # type: ignore[method-assign]
    floor.session().look()
    assert [made.urgent for made in floor.lanes["a"].calls] == [False]
    assert floor.session().noise == 1


def test_what_was_read_last_and_when_the_latest_reason_came_can_be_seen() -> None:
    floor = Floor(("a", "b"))
    assert floor.session().last_read is None
    floor.session().look()
    floor.answer("a", body=b"o1")
    read = floor.session().last_read
    assert read is not None and [order.id for order in read.orders] == ["o1"]
    before_ns = floor.time.now().mono_ns
    floor.fire("b")
    assert list(floor.dispatcher.reported_ns) == ["b"]
    assert floor.dispatcher.reported_ns["b"] > before_ns
