"""Kraken derivatives' command on both routes at once: which answer decides, and what is counted."""

from __future__ import annotations

import pytest

from kill_switch.core.domain import CancelOutcome, Route
from kill_switch.venues.kraken_futures.both_routes import BothRoutesStriker
from kill_switch.venues.messages import CallLost, Closed, VenueTimerFired
from tests.harness.venue_playbook import Kill, Player, answer

from .kit.test_strike import facts, frame_answered, no_build, tiny
from .kit.tiny_venue import HEDGE_S, Tiny, accepted, calls_of, frames_of, ready, timers_of


class Both(Tiny):
    STRIKER = BothRoutesStriker


def both_at_once() -> tuple[Player, str]:
    """Strike with a frame (number 2) and its twin at once; return the tag of the twin."""
    player = ready(Both())
    outputs = player.put(Kill())
    [frame], [twin] = frames_of(outputs), calls_of(outputs)
    assert (frame.command, twin.route, twin.urgent, twin.cancel) == (True, Route.HTTP, True, True)
    assert timers_of(outputs, HEDGE_S) == [output for output in outputs if getattr(output, "tag", "") == twin.tag][1:]
    return player, twin.tag


@pytest.mark.parametrize("frame_first", [True, False])
def test_cancels_of_a_frame_and_of_its_twin_at_once_count_together(frame_first: bool) -> None:
    for by_frame, by_twin in ((3, 0), (0, 2), (2, 1), (0, 0)):
        player, twin = both_at_once()
        if frame_first:
            assert not facts(frame_answered(player, count=by_frame))
            [fact] = facts(player.put(accepted(twin, count=by_twin)))
        else:
            assert not facts(player.put(accepted(twin, count=by_twin)))
            [fact] = facts(frame_answered(player, count=by_frame))
        assert (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, by_frame + by_twin)
        assert not by_frame or f"{by_frame + by_twin} order(s) cancelled" in fact.evidence


def test_a_twin_at_once_takes_its_second_route_although_the_frame_was_accepted() -> None:
    player, twin = both_at_once()
    assert not facts(frame_answered(player, count=3))
    [again] = calls_of(player.put(VenueTimerFired(twin)))
    assert again.route is Route.FRESH  # it covers what the frame may not


@pytest.mark.parametrize("code", [1, 2])
@pytest.mark.parametrize("frame_first", [True, False])
def test_an_accepted_frame_hides_no_failure_of_the_twin_that_left_beside_it(code: int, frame_first: bool) -> None:
    player, twin = both_at_once()
    if frame_first:
        assert not facts(frame_answered(player, count=3))
        [fact] = facts(player.put(answer(twin, {"code": code})))
    else:
        assert not facts(player.put(answer(twin, {"code": code})))
        [fact] = facts(frame_answered(player, count=3))
    assert fact.answer is (CancelOutcome.REFUSED if code == 1 else CancelOutcome.UNKNOWN) and fact.cancelled == 3
    assert fact.evidence == f"3 order(s) cancelled; {'no' if code == 1 else 'too fast'}"


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_frame_that_fails_spoils_no_success_of_the_twin_that_left_beside_it(code: int) -> None:
    player, twin = both_at_once()
    assert not facts(frame_answered(player, code))
    [fact] = facts(player.put(accepted(twin, count=3)))
    assert (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, 3)
    player, twin = both_at_once()
    assert not facts(player.put(Closed(Route.WS, 1, "gone")))
    [fact] = facts(player.put(accepted(twin, count=3)))
    assert fact.answer is CancelOutcome.ACCEPTED


def test_the_answer_to_a_twin_at_once_waits_for_the_frames_no_longer_than_a_second_route() -> None:
    player, twin = both_at_once()
    outputs = player.put(accepted(twin, count=0))
    [timer] = timers_of(outputs, HEDGE_S)
    assert not facts(outputs)
    [fact] = facts(player.put(VenueTimerFired(timer.tag)))
    assert (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, None)  # the frame may have cancelled some
    assert not facts(frame_answered(player, count=3))
    player, twin = both_at_once()
    assert not facts(player.put(accepted(twin, count=0)))
    [fact] = facts(player.put(Closed(Route.WS, 1, "gone")))
    assert fact.answer is CancelOutcome.ACCEPTED


def test_if_the_twin_at_once_is_lost_the_frame_answers_the_strike() -> None:
    for frame_first in (True, False):
        player, twin = both_at_once()
        if frame_first:
            frame_answered(player, count=3)
        player.put(CallLost(twin, True, "down"))
        outputs = player.put(CallLost(twin, True, "down"))
        [fact] = facts(outputs if frame_first else frame_answered(player, count=3))
        assert (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, 3)


def test_a_frame_leaves_although_the_twin_beside_it_cannot_be_built_and_its_answer_counts() -> None:
    player = ready(Both())
    account_wide = tiny(player).account_wide
    assert account_wide is not None
    tiny(player).account_wide = account_wide._replace(build=no_build)
    [frame] = frames_of(player.put(Kill()))
    assert frame.command
    [fact] = facts(frame_answered(player, count=3))
    assert (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, 3)
