"""Read back at KUNA while its rate limit refuses requests (docs/venues/kuna.md, §7)."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from kill_switch.core.domain import Route
from kill_switch.sim.kit.limits import Window
from kill_switch.venues.kuna.adapter import Kuna
from kill_switch.venues.kuna.read_queue import TURN as TIMER
from kill_switch.venues.kuna.read_queue import TURN_S
from kill_switch.venues.messages import Call, CallLost, Opened, OrdersRead, Replied, VenueTimerFired, WakeAfter
from tests.harness.venue_playbook import START, Asked, Kill, Pause, Player, Read, answer

from .test_kuna import ACTIVE, SECRETS, STOPS, UUID_1, errors, listed, order

PENDING = STOPS.replace("WaitStop", "Pending")
TURN = WakeAfter(TIMER, TURN_S)


def player() -> Player:
    return Player(Kuna(Kuna.Options(), {"api_key": SECRETS["api_key"]}, 0.06))


def refuse(tag: str, **headers: str) -> Replied:
    return Replied(tag, 429, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}")


def reading(play: Player) -> dict[str, str]:
    """Begin a read; return the tags of its calls by the list."""
    lists = {ACTIVE: "active", STOPS: "WaitStop", PENDING: "Pending"}
    calls = [output for output in play.put(Read()) if isinstance(output, Call)]
    return {lists[f"{call.request.method} {call.request.target}"]: call.tag for call in calls}


def again(tag: str, line: str) -> tuple[Asked, WakeAfter]:
    return Asked(tag, line, urgent=True), WakeAfter(tag, 0.24)


def test_lists_that_are_refused_are_asked_for_one_by_one_and_the_active_ones_last() -> None:
    """An order goes from the other lists to the active one, and never back."""
    play = player()
    asked_ns = play.now.mono_ns
    tags = reading(play)
    play(
        refuse(tags["active"]),
        TURN,
        refuse(tags["Pending"]),
        answer(tags["WaitStop"], listed()),
        Pause(TURN_S),
        VenueTimerFired(TIMER),
        *again("orders#4", PENDING),
        refuse("orders#4"),
        TURN,
        Pause(TURN_S),
        VenueTimerFired(TIMER),
        *again("orders#5", PENDING),
        answer("orders#5", listed()),
        *again("orders#6", ACTIVE),  # the venue has just taken one
        answer("orders#6", listed()),
        OrdersRead((), True, asked_ns),
    )


@pytest.mark.parametrize("late", [False, True])
def test_the_active_list_is_asked_for_anew_behind_another_one_that_was_refused(late: bool) -> None:
    play = player()
    tags = reading(play)
    play(refuse(tags["Pending"]), TURN, answer(tags["WaitStop"], listed()))
    if not late:
        play(answer(tags["active"], listed()))
    play(Pause(TURN_S), VenueTimerFired(TIMER), *again("orders#4", PENDING))
    if late:
        play(answer(tags["active"], listed()))
    play(
        answer("orders#4", listed()),
        *again("orders#5", ACTIVE),
        answer("orders#5", listed(UUID_1)),
        OrdersRead((order(UUID_1),), True, START.mono_ns),
    )


def test_the_orders_of_a_read_are_reported_without_waiting_for_refused_lists() -> None:
    play = player()
    tags = reading(play)
    play(refuse(tags["Pending"]), TURN, answer(tags["WaitStop"], listed()))
    [fact] = play.put(answer(tags["active"], listed(UUID_1)))
    assert isinstance(fact, OrdersRead) and not fact.complete and "429" in fact.why
    assert [one.id for one in fact.orders] == [UUID_1]
    play(VenueTimerFired(TIMER))  # nobody waits any more


def test_a_read_does_not_begin_while_another_one_waits_unless_a_strike_has_left_since() -> None:
    play = player()
    tags = reading(play)
    for kind in tags:
        play.put(refuse(tags[kind]))
    play(Read(), Pause(2.5), Read())
    play.put(Kill())
    play(VenueTimerFired(TIMER))
    assert len(reading(play)) == 3


def test_a_kills_read_does_not_wait_for_a_request_of_housekeeping_that_is_held_up() -> None:
    play = player()
    play.put(Kill())
    tags = [output.tag for output in play.put(Opened(Route.HTTP, 0)) if isinstance(output, Call)]
    play.put(refuse(tags[-1]))
    [call] = [output for output in play.put(VenueTimerFired(TIMER)) if isinstance(output, Call)]
    assert not call.urgent
    calls = [output for output in play.put(Read()) if isinstance(output, Call)]
    assert len(calls) == 3 and all(call.urgent for call in calls)
    play.put(refuse(call.tag))  # it comes late, and belongs to nothing any more
    for call in calls[:-1]:
        play.put(answer(call.tag, listed()))
    [fact] = [output for output in play.put(answer(calls[-1].tag, listed())) if isinstance(output, OrdersRead)]
    assert fact.complete


def test_of_two_reads_that_are_refused_one_waits_and_the_other_says_nothing() -> None:
    play = player()
    first, second = reading(play), reading(play)
    play(
        refuse(first["active"]),
        TURN,
        *map(refuse, second.values()),
        refuse(first["Pending"]),
        refuse(first["WaitStop"]),
    )


def test_a_request_that_is_lost_in_its_turn_ends_the_read() -> None:
    play = player()
    tags = reading(play)
    play(refuse(tags["Pending"]), TURN, *(refuse(tags[kind]) for kind in ("active", "WaitStop")))
    play(Pause(TURN_S), VenueTimerFired(TIMER), *again("orders#4", PENDING))
    outputs: tuple[Any, ...] = ()
    for _ in range(8):  # on every way that there is
        outputs += play.put(CallLost("orders#4", True, "gone"))
    [fact] = [output for output in outputs if isinstance(output, OrdersRead)]
    assert not fact.complete and "gone" in fact.why
    play(VenueTimerFired(TIMER))


IN_THREE_SECONDS = formatdate(START.wall_ns // 10**9 + 3, usegmt=True)


@pytest.mark.parametrize(
    ("said", "wait_s"), [("3", 3.0), ("0", TURN_S), ("3600", 5.0), ("soon", TURN_S), (IN_THREE_SECONDS, 3.0)]
)
def test_the_venue_may_say_when_to_ask_again(said: str, wait_s: float) -> None:
    play = player()
    play(refuse(reading(play)["active"], retry_after=said), WakeAfter(TIMER, wait_s))


def test_a_read_is_whole_as_soon_as_the_venue_has_taken_its_lists_one_by_one() -> None:
    """The window that slides has been filled in a burst of one request in 0.7 s, and each slot comes back like that."""
    window = Window(300, 60.0)
    for number in range(300):
        window.add(-60.0 + 0.7 * (number + 1) if number < 80 else 0.0)
    play, at_s = player(), 0.0
    outputs = play.put(Read())
    while not any(isinstance(output, OrdersRead) for output in outputs):
        calls = [output for output in outputs if isinstance(output, Call)]
        assert calls and at_s < 60.0
        outputs = ()
        for call in calls:
            full = window.full(at_s)
            if not full:
                window.add(at_s)
            outputs += play.put(answer(call.tag, errors("Too many"), 429) if full else answer(call.tag, listed()))
        if WakeAfter(TIMER, TURN_S) in outputs:
            play.put(Pause(TURN_S))
            at_s += TURN_S
            outputs = play.put(VenueTimerFired(TIMER))
    [fact] = [output for output in outputs if isinstance(output, OrdersRead)]
    assert fact.complete and at_s < 4.0
