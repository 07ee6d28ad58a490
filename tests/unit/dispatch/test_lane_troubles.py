"""What people are told of a lane: the newest trouble, once in the log, and what the venue asks for."""

from __future__ import annotations

import logging

import pytest

from kill_switch.core.domain import LaneState, Route
from kill_switch.dispatch.repeat_filter import MAX_LINES, REPEAT_AFTER_S, RepeatFilter
from kill_switch.venues import retry_after
from kill_switch.venues.messages import Closed, Drilled, NotReady, Opened, Ready, Replied
from tests.harness.dispatch_doubles import Floor

S = 1_000_000_000


def test_a_lasting_trouble_is_logged_once_and_every_ten_minutes_with_its_count() -> None:
    repeats = RepeatFilter()
    said = [line for s in range(1260) if (line := repeats.next_line("refused", s * S))]
    assert said == [
        "refused",
        "refused (599 times more in the last 600 s)",
        "refused (599 times more in the last 600 s)",
    ]
    assert repeats.resolve() and not repeats.resolve()
    assert repeats.next_line("refused", 1261 * S) == "refused"


def test_two_troubles_in_turn_are_each_logged_once() -> None:
    repeats = RepeatFilter()
    assert [line for s in range(500) if (line := repeats.next_line(("refused", "limited")[s % 2], s * S))] == [
        "refused",
        "limited",
    ]


def test_words_that_differ_in_numbers_only_are_the_same() -> None:
    repeats = RepeatFilter()
    assert repeats.next_line("HTTP 403: request 17", 0)
    assert not repeats.next_line("HTTP 403: request 18", S)
    assert repeats.next_line("HTTP 403: somebody else", 2 * S)


def test_changing_words_do_not_flood_the_log_and_the_last_are_logged() -> None:
    repeats = RepeatFilter()
    said = [line for s in range(600) if (line := repeats.next_line("x" * (s + 1), s * S))]
    assert len(said) <= (600 / 60 + 1) * MAX_LINES
    assert repeats.next_line("the last", 700 * S)
    assert REPEAT_AFTER_S >= 60


def test_a_lane_that_comes_and_goes_says_neither_more_often_than_the_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    floor = Floor()
    for _ in range(1000):
        floor.time.advance(100)
        floor.session().on_trouble(Route.WS, "reset")
        floor.session().on_trouble(Route.WS, "")
    down = [record for record in caplog.records if record.levelno == logging.WARNING]
    up = [record for record in caplog.records if record.levelno == logging.INFO]
    assert 2 <= len(down) == len(up) <= 3 * MAX_LINES
    assert up[-1].getMessage() == "account a: ws lane: up again"
    assert caplog.records[-1] is up[-1]


def test_the_newest_trouble_of_any_lane_is_shown() -> None:
    floor = Floor()
    lane, session = floor.lanes["a"], floor.session()
    lane.state = LaneState.DOWN
    floor.venues["a"].will(NotReady(Route.WS, 1, "connection lost"))
    session.on_lane_event(Closed(Route.WS, 1, "gone"))
    assert session.status.troubles()["ws"] == "connection lost"
    lane.trouble = "certificate: expired"  # the lane has tried again
    assert session.status.troubles()["ws"] == "certificate: expired"


def test_the_end_of_a_connection_that_another_has_replaced_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor()
    floor.venues["a"].will(NotReady(Route.WS, 1, "rotated"))
    floor.session().on_lane_event(Closed(Route.WS, 1, "rotated"))
    assert floor.session().status.troubles() == {} and caplog.records == [] and floor.lane_changes == []


def test_a_log_entry_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    Floor().session().on_trouble(Route.HTTP, "a\nforged line\x1b[2J")
    assert caplog.messages == ["account a: http lane: a forged line\N{REPLACEMENT CHARACTER}[2J"]


def limited(floor: Floor, retry_after: str, status: int = 429) -> None:
    floor.session().on_lane_event(Replied("x#1", status, {"retry-after": retry_after}, b"slow down"))


def test_while_the_venue_wants_no_requests_there_is_no_housekeeping_and_a_kill_leaves_at_once() -> None:
    floor = Floor()
    drilled: list[object] = []
    floor.dispatcher.on_fact = lambda account, fact, now: drilled.append(fact)
    limited(floor, "10")
    assert floor.trace == ["a holds for 10 s"]
    [trouble] = floor.session().status.troubles().values()
    assert trouble == "HTTP 429: the venue asks for 10 s without requests; cancels leave all the same"
    floor.venues["a"].will(Ready(Route.HTTP, 0))
    floor.session().drill()
    floor.session().request_equity()
    assert [type(fact) for fact in drilled] == [Drilled, Drilled]
    assert all(isinstance(fact, Drilled) and not fact.tried and fact.evidence == trouble for fact in drilled)
    floor.fire()
    assert "a http POST /cancel-all" in floor.trace
    floor.time.advance(10_001)
    assert floor.session().status.troubles() == {} and floor.session().status.quiet() == ""


def test_a_shorter_wish_does_not_undo_a_longer_one_and_no_wish_goes_beyond_the_bound() -> None:
    floor = Floor()
    limited(floor, "1000", 503)
    limited(floor, "1")
    floor.time.advance(retry_after.MAX_PAUSE_S * 1000 - 10)
    assert "the venue asks for 1,000 s without requests, and gets 120 s" in floor.session().status.quiet()
    floor.time.advance(20)
    assert floor.session().status.quiet() == ""


@pytest.mark.parametrize(
    ("status", "headers"), [(200, {"retry-after": "9"}), (429, {}), (429, {"retry-after": "soon"})]
)
def test_an_answer_that_asks_for_nothing_holds_nothing(status: int, headers: dict[str, str]) -> None:
    floor = Floor()
    floor.session().on_lane_event(Replied("x#1", status, headers, b""))
    assert floor.trace == [] and floor.session().status.quiet() == ""


def test_a_login_that_is_refused_over_http_is_tried_again_soon_and_less_often_each_time() -> None:
    floor = Floor()
    refused, accepted = NotReady(Route.HTTP, 0, "wrong key", fatal=True), Ready(Route.HTTP, 0)
    told: list[NotReady | Ready] = [*[refused] * 6, accepted, refused]
    floor.lanes["a"].state = LaneState.CONNECTING
    for output in told:
        floor.venues["a"].will(output)
        floor.session().on_lane_event(Opened(Route.HTTP, 0))
    waits = [line for line in floor.trace if "holds" in line]
    assert waits == [f"a holds for {s} s" for s in (2, 4, 8, 16, 30, 30, 2)]
