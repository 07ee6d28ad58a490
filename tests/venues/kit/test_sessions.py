"""Logins by a script of steps, keep-alive, and tokens that end."""

from __future__ import annotations

import pytest

from kill_switch.core.domain import Order, OrderState, Route
from kill_switch.venues.kit.session_token import MAX_FETCH_GAP_S, MIN_FETCH_GAP_S, RENEWED_AT
from kill_switch.venues.messages import (
    CallLost,
    CloseConnection,
    Closed,
    NotReady,
    Opened,
    OrderSeen,
    PrepareFrame,
    Ready,
    Received,
    RoundTrip,
    Send,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness.venue_playbook import Drill, Pause, Player, answer, hears

from .tiny_venue import Tiny, calls_of, frames_of, ready, timers_of

TOKEN_S = 900.0


def test_an_optional_step_that_is_not_answered_is_skipped_and_a_needed_one_closes_the_connection() -> None:
    player = Player(Tiny())
    [hello] = timers_of(player.put(Opened(Route.WS, 1)), 0.5)
    frame, silence = player.put(VenueTimerFired(hello.tag))
    assert frame == Send(1, b'{"login":1}') and isinstance(silence, WakeAfter)
    player(VenueTimerFired(silence.tag), CloseConnection(1, "no answer to the login within 5 s"))


def test_a_step_that_was_answered_or_whose_connection_is_gone_does_not_end_by_its_timer() -> None:
    player = Player(Tiny())
    [hello] = timers_of(player.put(Opened(Route.WS, 1)), 0.5)
    [silence] = timers_of(player.put(hears(1, {"hello": True})), 5.0)
    assert Ready(Route.WS, 1) in player.put(hears(1, {"login": "ok"}))
    assert not player.put(VenueTimerFired(hello.tag)) and not player.put(VenueTimerFired(silence.tag))


def test_an_optional_refusal_is_named_and_another_gives_the_connection_up() -> None:
    player = ready()
    player(hears(1, {"login": "refused", "optional": 1}), UnexplainedMessage("refused"))
    player(hears(1, {"login": "refused"}), NotReady(Route.WS, 1, "refused"), CloseConnection(1, "refused"))
    assert player.adapter.carrier() is None  # type: ignore[attr-defined]


def test_a_refusal_of_a_login_closes_a_connection_that_is_not_ready_and_is_named_on_one_that_is() -> None:
    message = {"login": "refused", "before ready": 1}
    ready()(hears(1, message), UnexplainedMessage("refused"))
    player = Player(Tiny())
    player.put(Opened(Route.WS, 1))
    player(hears(1, message), NotReady(Route.WS, 1, "refused"), CloseConnection(1, "refused"))


def test_an_order_that_a_given_up_connection_still_pushes_is_known_and_proves_no_placing() -> None:
    player = ready()
    for call in player.calls[-1:]:
        player.put(answer(call.tag, {"code": 0, "data": {"orders": []}}))
    before = player.adapter.book.is_current
    player.put(hears(1, {"login": "refused"}))
    player(hears(1, {"order": "1"}), OrderSeen(Order("1", "X", OrderState.LIVE, "open")))
    assert (before, player.adapter.book.is_current) == (True, False)
    player(Closed(Route.WS, 1, "gone"), NotReady(Route.WS, 1, "gone"), hears(1, {"order": "2"}))


def test_the_newest_ready_connection_carries_the_commands() -> None:
    player = ready()
    player.put(Opened(Route.WS, 2))
    assert frames_of(player.put(Drill()))[0].conn == 1
    player.put(hears(2, {"hello": True}))
    player.put(hears(2, {"login": "ok"}))
    assert frames_of(player.put(Drill()))[0].conn == 2
    player.put(Closed(Route.WS, 2, "gone"))
    assert frames_of(player.put(Drill()))[0].conn == 1


def pinged(player: Player) -> WakeAfter:
    """Let the time of a ping come; return the timer of its pong."""
    [timer] = timers_of(player.outputs, 15.0)[-1:]
    player.put(Pause(15))
    ping, pong_due = player.put(VenueTimerFired(timer.tag))
    assert ping == Send(1, b"ping") and isinstance(pong_due, WakeAfter)
    return pong_due


def test_a_pong_is_a_round_trip_and_the_next_ping_follows() -> None:
    player = ready()
    due = pinged(player)
    player.put(hears(1, {"beat": 1}))
    player.put(Pause(0.002))
    player(Received(1, "pong"), RoundTrip(Route.WS, 2000), Received(1, "pong"))
    assert timers_of(player.put(VenueTimerFired(due.tag)), 10.0)


def test_a_connection_without_a_pong_is_closed() -> None:
    player = ready()
    due = pinged(player)
    player(VenueTimerFired(due.tag), CloseConnection(1, "no pong for 5 s"))


def test_a_connection_that_answers_pings_without_a_heartbeat_is_given_up() -> None:
    player = ready()
    pinged(player)
    trip, not_ready, drop = player.put(Received(1, "pong"))
    assert isinstance(trip, RoundTrip) and isinstance(not_ready, NotReady) and isinstance(drop, CloseConnection)
    assert "no heartbeat" in drop.why


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────────────────


def token(tag: str, value: str = "token-0123456789") -> object:
    return answer(tag, {"code": 0, "data": value})


def holder(player: Player) -> str:
    return player.adapter.token.value  # type: ignore[attr-defined,no-any-return]


def test_a_login_waits_for_the_token_and_the_next_connection_does_not() -> None:
    player = Player(Tiny(token=True))
    [call] = player.put(Opened(Route.WS, 1))[:1]
    assert not player.put(Opened(Route.WS, 2)) and not player.put(hears(1, {"hello": True}))
    renewal, *logins = player.put(token(call.tag))  # type: ignore[union-attr]
    assert renewal.seconds == RENEWED_AT * TOKEN_S <= 600 and len(logins) == 2  # type: ignore[union-attr]
    assert not calls_of(player.put(Opened(Route.WS, 3)))


def test_a_token_is_replaced_before_its_end_and_the_next_frame_is_built_with_it() -> None:
    player = ready(Tiny(token=True))
    [renewal] = timers_of(player.outputs, RENEWED_AT * TOKEN_S)
    player.put(Pause(540))
    [call] = calls_of(player.put(VenueTimerFired(renewal.tag)))
    before = len(player.outputs)
    player.put(token(call.tag, "token-of-the-renewal"))
    assert holder(player) == "token-of-the-renewal"
    assert [output for output in player.outputs[before:] if isinstance(output, PrepareFrame)]


def test_a_token_that_is_refused_on_a_ready_session_is_fetched_anew_for_the_next_connection() -> None:
    player = ready(Tiny(token=True))
    player.put(Pause(60))
    not_ready, drop, call = player.put(hears(1, {"login": "refused", "token": 1}))[:3]
    assert isinstance(not_ready, NotReady) and isinstance(drop, CloseConnection)
    assert not frames_of(player.put(Opened(Route.WS, 2)))
    player.put(hears(2, {"hello": True}))
    player.put(token(call.tag, "another-0123456789"))  # type: ignore[union-attr]
    assert holder(player) == "another-0123456789"
    assert not calls_of(player.put(Opened(Route.WS, 3)))


def test_tokens_that_are_refused_again_and_again_are_not_fetched_without_end() -> None:
    player = ready(Tiny(token=True))
    fetched = 0
    for conn in range(2, 52):  # five seconds
        player.put(Pause(0.1))
        player.put(hears(conn - 1, {"login": "refused", "token": 1}))
        fetched += len(calls_of(player.put(Opened(Route.WS, conn))))
    assert fetched == 0 and timers_of(player.outputs, MIN_FETCH_GAP_S - 0.1)


@pytest.mark.parametrize("fatal", [False, True])
def test_a_fetch_that_fails_is_named_and_repeated_at_a_growing_distance(fatal: bool) -> None:
    player = Player(Tiny(token=True))
    [call] = calls_of(player.put(Opened(Route.WS, 1)))
    gaps = []
    for _ in range(6):
        unready, timer = player.put(answer(call.tag, {"code": 6 if fatal else 1}))
        assert isinstance(unready, NotReady) and unready.fatal is fatal and unready.conn == 1
        assert "no token for the WebSocket" in unready.why and isinstance(timer, WakeAfter)
        gaps.append(timer.seconds)
        player.put(Pause(timer.seconds))
        [call] = calls_of(player.put(VenueTimerFired(timer.tag)))
    assert gaps == sorted(gaps) and gaps[0] == MIN_FETCH_GAP_S and gaps[-1] == MAX_FETCH_GAP_S
    player.put(CallLost(call.tag, True, "down"))
    assert isinstance(player.put(CallLost(call.tag, True, "down"))[0], NotReady)


def test_a_token_is_hidden_in_evidence() -> None:
    player = ready(Tiny(token=True))
    assert player.adapter.evidence("no session token-0123456789") == "no session [secret]"
