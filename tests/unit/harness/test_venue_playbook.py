"""The playbook itself: a script that differs, or is not finished, must fail and show where."""

from __future__ import annotations

import pytest

from kill_switch.core.domain import Route
from kill_switch.venues.messages import NotReady, Opened, Received, Send, VenueTimerFired, WakeAfter
from kill_switch.venues.oxfun.adapter import OxFun
from tests.harness.venue_playbook import Asked, Frame, Kill, Pause, Player


def player() -> Player:
    return Player(OxFun(OxFun.Options(), {"api_key": "key", "api_secret": "secret"}, 0.06))


def test_a_script_that_matches_passes() -> None:
    player()(Opened(Route.WS, 1), WakeAfter("greeting 1", 0.5), Pause(0.5), Received(2, b"pong"))


def test_a_script_that_leaves_an_output_out_fails() -> None:
    with pytest.raises(AssertionError, match=r"(?s)  >> Opened.*\+ << WakeAfter\(tag='timer 1'"):
        player()(Opened(Route.WS, 1))


def test_a_script_that_expects_too_much_fails() -> None:
    expected = NotReady(Route.WS, 1, "gone")
    with pytest.raises(AssertionError, match=r"(?s)  << WakeAfter.*- << NotReady"):
        player()(Opened(Route.WS, 1), WakeAfter("greeting 1", 0.5), expected)


def test_a_difference_shows_both_sides() -> None:
    with pytest.raises(AssertionError, match=r"(?s)- << Frame\(conn=1.*\+ << WakeAfter"):
        player()(Opened(Route.WS, 1), Frame(1, b"login"))


def test_a_call_is_compared_in_all_its_parts() -> None:
    with pytest.raises(AssertionError, match=r"- << Asked"):
        player()(Kill(), Asked("cancel-all#1", "GET /v3/orders/cancel-all"), WakeAfter("cancel-all#1", 0.06))


def test_a_script_does_not_begin_with_an_output() -> None:
    with pytest.raises(AssertionError, match="nothing has gone in"):
        player()(WakeAfter("greeting 1", 0.5))


def test_kinds_of_outputs_are_not_mixed_up() -> None:
    made = player()
    made(Opened(Route.WS, 1), WakeAfter("greeting 1", 0.5))
    with pytest.raises(AssertionError):
        made(VenueTimerFired("greeting 1"), Frame(1, {"op": "ping"}))


def test_a_timer_goes_by_the_name_that_the_script_gives_it() -> None:
    made = player()
    made(Opened(Route.WS, 1), WakeAfter("no greeting came", 0.5), Opened(Route.WS, 2), WakeAfter("nor here", 0.5))
    frame, *_ = made.put(VenueTimerFired("nor here"))
    assert isinstance(frame, Send) and frame.conn == 2


def test_a_placeholder_matches_exactly_one_tag() -> None:
    with pytest.raises(AssertionError, match=r"- << WakeAfter\(tag='its timer'"):
        player()(
            Kill(),
            Asked("the cancel", "DELETE /v3/orders/cancel-all", urgent=True, cancel=True, body=b"{}"),
            WakeAfter("its timer", 0.06),
        )
    with pytest.raises(AssertionError, match=r"\+ << WakeAfter\(tag='timer 2'"):
        player()(Opened(Route.WS, 1), WakeAfter("one", 0.5), Opened(Route.WS, 2), WakeAfter("one", 0.5))
