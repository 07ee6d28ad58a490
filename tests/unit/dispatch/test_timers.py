"""Many alarms on one timer: in the order of their times, never early, and none lost."""

from __future__ import annotations

import weakref

import pytest

from kill_switch.dispatch.timers import TimerQueue
from tests.harness.core_playbook import START
from tests.harness.dispatch_doubles import Time


def alarms() -> tuple[TimerQueue, Time]:
    time = Time()
    return TimerQueue(time.now, time.later), time


def after(ms: float) -> int:
    return START.mono_ns + round(ms * 1e6)


def test_alarms_ring_in_the_order_of_their_times_on_one_timer() -> None:
    alarm, time = alarms()
    rung: list[str] = []
    for name, ms in (("c", 30), ("a", 10), ("b", 20), ("b again", 20)):
        alarm.call_at(after(ms), rung.append, name)
    assert time.waiting == 1
    time.advance(15)
    assert rung == ["a"]
    time.advance(15)
    assert rung == ["a", "b", "b again", "c"]
    assert time.waiting == 0


def test_an_event_loop_that_wakes_a_moment_too_early_is_asked_again() -> None:
    alarm, time = alarms()
    time.early_ns = 2_000
    rung: list[float] = []
    alarm.call_at(after(10), lambda: rung.append(time.ms))
    time.advance(11)
    assert len(rung) == 1 and rung[0] >= 10


def test_an_alarm_that_is_set_while_others_ring_rings_at_its_own_time() -> None:
    alarm, time = alarms()
    rung: list[str] = []

    def ring() -> None:
        rung.append("first")
        alarm.call_at(after(12), rung.append, "soon")
        alarm.call_at(after(5), rung.append, "long since")

    alarm.call_at(after(10), ring)
    alarm.call_at(after(30), rung.append, "last")
    time.advance(11)
    assert rung == ["first", "long since"]
    time.advance(2)
    assert rung == ["first", "long since", "soon"]
    time.advance(20)
    assert rung[-1] == "last"


class Ended:
    """An owner of alarms that nobody needs any more."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, name: str) -> None:
        self.rung.append(name)


def test_an_owner_that_has_ended_is_not_kept_by_its_alarms_and_others_ring() -> None:
    alarm, time = alarms()
    owner, other = Ended(), Ended()
    gone = weakref.ref(owner)
    for name, ms in (("a", 10), ("b", 20), ("far", 3_600_000)):
        alarm.call_at(after(ms), owner.ring, name)
        alarm.call_at(after(ms + 1), other.ring, name)
    time.advance(15)
    alarm.call_at(after(20), lambda: alarm.forget(other))
    alarm.call_at(after(20), other.ring, "late")
    alarm.forget(owner)
    assert owner.rung == ["a"]
    del owner
    assert gone() is None
    time.advance(3_700_000)
    assert other.rung == ["a"]


def test_an_alarm_that_fails_takes_no_other_with_it() -> None:
    alarm, time = alarms()
    rung: list[str] = []

    def fail() -> None:
        raise RuntimeError("a fault within")

    alarm.call_at(after(10), fail)
    alarm.call_at(after(10), rung.append, "next")
    with pytest.raises(RuntimeError, match="a fault within"):  # the event loop logs it
        time.advance(11)
    time.advance(1)
    assert rung == ["next"]
