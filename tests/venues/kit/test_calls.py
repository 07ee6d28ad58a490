"""Calls to another host than the account's: a token that the spot API of a venue hands out for its other products."""

from __future__ import annotations

from kill_switch.core.domain import Route
from kill_switch.venues.messages import Call, Opened, ServerTime, VenueTimerFired
from kill_switch.venues.request import Request
from tests.harness.venue_playbook import Player, answer

from .tiny_venue import Tiny, calls_of

ELSEWHERE = "https://other.test"


class FromElsewhere(Tiny):
    """Its token comes from another host."""

    def assemble(self) -> None:
        self.token_request = lambda now: Request("POST", "/token", {"Host": "other.test"}, origin=ELSEWHERE)
        super().assemble()


def asked() -> tuple[Player, Call]:
    player = Player(FromElsewhere())
    [call] = calls_of(player.put(Opened(Route.WS, 1)))
    return player, call


def test_each_copy_of_a_call_to_another_host_leaves_on_a_fresh_connection() -> None:
    player, call = asked()
    assert (call.route, call.request.origin) == (Route.FRESH, ELSEWHERE)
    [again] = calls_of(player.put(VenueTimerFired(call.tag)))
    assert (again.route, again.request.origin) == (Route.FRESH, ELSEWHERE)
    player.put(answer(call.tag, {"code": 0, "data": "token-0123456789"}))
    assert player.adapter.token.value == "token-0123456789"  # type: ignore[attr-defined]


def test_the_date_of_another_hosts_answer_moves_no_clock_and_its_refusal_concerns_no_lane() -> None:
    player, call = asked()
    assert player.adapter.calls.is_elsewhere(call.tag)
    reply = answer(call.tag, {"code": 0, "data": "token-0123456789"})
    date = {"date": "Mon, 01 Jan 2024 00:00:00 GMT"}
    outputs = player.put(reply._replace(headers=date, rtt_us=40_000))
    assert not [output for output in outputs if isinstance(output, ServerTime)]
    assert player.adapter.clock.bounds_ns is None
    assert not player.adapter.calls.is_elsewhere(call.tag)
