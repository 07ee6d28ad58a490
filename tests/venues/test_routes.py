"""A request of a kill takes every way that is idle before its answer is unknown."""

from __future__ import annotations

import pytest

from kill_switch.core.domain import CancelOutcome, Route
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.messages import Call, CallLost, CancelAnswered, VenueTimerFired
from tests.harness.venue_playbook import Drill, answer
from tests.harness.venue_profiles import VenueProfile

from .test_conformance import every_venue, strike


def again(outputs: tuple[object, ...], route: Route) -> Call:
    [call] = outputs
    assert isinstance(call, Call) and call.route is route and call.cancel and call.urgent
    return call


@every_venue
@pytest.mark.parametrize("warm_first", [True, False])
def test_when_the_warm_and_the_fresh_connection_are_lost_the_second_warm_one_is_used_at_once(
    stand: VenueProfile, warm_first: bool
) -> None:
    player = stand.ready()
    call = strike(player)
    again(player.put(VenueTimerFired(call.tag)), Route.FRESH)
    if warm_first:
        again(player.put(CallLost(call.tag, True, "reset", spare=True)), Route.HTTP)
        assert not player.put(CallLost(call.tag, True, "reset"))  # the fresh one: one copy is under way
    else:
        assert not player.put(CallLost(call.tag, True, "reset"))  # no warm one is idle at that moment
        again(player.put(CallLost(call.tag, True, "reset", spare=True)), Route.HTTP)


@every_venue
def test_a_lost_warm_connection_leads_to_the_spare_one_and_then_to_a_fresh_one(stand: VenueProfile) -> None:
    player = stand.ready()
    call = strike(player)
    again(player.put(CallLost(call.tag, True, "reset", spare=True)), Route.HTTP)
    again(player.put(CallLost(call.tag, True, "reset")), Route.FRESH)
    [fact] = player.put(CallLost(call.tag, True, "reset"))
    assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.UNKNOWN


@every_venue
def test_a_venue_that_cuts_every_connection_is_not_asked_without_end(stand: VenueProfile) -> None:
    player = stand.ready()
    call = strike(player)
    asked = 0
    while True:
        [output] = player.put(CallLost(call.tag, True, "reset", spare=True))
        if isinstance(output, CancelAnswered):
            break
        asked += 1
    assert output.answer is CancelOutcome.UNKNOWN
    assert asked == player.adapter.CONNECTIONS + 1


@every_venue
@pytest.mark.parametrize("status", [408, 421, 425])
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"error":"x"}'])
def test_a_request_that_was_not_processed_takes_the_other_route_at_once(
    stand: VenueProfile, status: int, body: bytes
) -> None:
    player = stand.ready()
    if status not in player.adapter.NOT_PROCESSED:
        pytest.skip("the venue documents it as an answer of its own")
    call = strike(player)
    again(player.put(answer(call.tag, body, status)), Route.FRESH)
    again(player.put(answer(call.tag, body, status)), Route.HTTP)  # nobody else is left, and one of two may be well
    for _ in range(player.adapter.CONNECTIONS - 1):
        again(player.put(answer(call.tag, body, status)), Route.HTTP)
    [fact] = player.put(answer(call.tag, body, status))
    assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.UNKNOWN  # it is no refusal of the venue's


@every_venue
def test_a_drill_that_was_not_processed_takes_no_other_route(stand: VenueProfile) -> None:
    player = stand.ready()
    for output in player.put(Drill()):
        if isinstance(output, Call) and output.tag.startswith(DRILL):
            assert not any(isinstance(one, Call) for one in player.put(answer(output.tag, b"", 421)))
