"""A clock that is off is alarmed before it makes a venue refuse a signature, once, and not for nothing."""

from __future__ import annotations

from typing import ClassVar

import pytest

from kill_switch.core.commands import Announce
from kill_switch.health.clock_skew import ClockSkewMonitor
from tests.harness.dispatch_doubles import Floor, Venue

S = 1_000_000_000


class Timed(Venue):
    CLOCK_WINDOW_S: ClassVar[float | None] = 10.0


class Tower:
    """A stub venue's clock, and who watches it."""

    def __init__(self, venue: Venue) -> None:
        self.said: list[Announce] = []
        floor = Floor()
        self.venue = venue
        floor.connect("a", venue)
        self.clocks = ClockSkewMonitor(floor.dispatcher.sessions, self.said.append)
        self._ns = 0

    def shows(self, ahead_s: float, by_s: float = 0.001, messages: int = 2) -> list[str]:
        """Have messages of the venue show its clock, known to `by_s`; return what is said of it."""
        ahead_ns = round(ahead_s * S)
        before = len(self.said)
        for _ in range(messages):
            self._ns += S
            at_ns = self._ns + ahead_ns
            self.venue.clock.add_sample(at_ns, at_ns + round(by_s * S), self._ns, self._ns, self._ns)
        self.clocks.check()
        return [
            f"{announcement.level} {announcement.account}: {announcement.text}" for announcement in self.said[before:]
        ]


def test_before_the_venue_has_shown_its_clock_the_offset_is_unknown() -> None:
    tower = Tower(Timed())
    tower.clocks.check()
    assert tower.clocks.offset_ms("a") is None
    assert tower.said == []


@pytest.mark.parametrize(("ahead_s", "ms"), [(0.0, 0), (2.0, 2000), (-3.0, -3000)])
def test_the_offset_is_shown_and_up_to_half_of_the_window_it_is_nobodys_concern(ahead_s: float, ms: int) -> None:
    tower = Tower(Timed())
    assert tower.shows(ahead_s) == []
    assert tower.clocks.offset_ms("a") == pytest.approx(ms, abs=1)
    assert list(tower.clocks.troubles()) == []


@pytest.mark.parametrize(("ahead_s", "side"), [(6.0, "ahead of"), (-6.0, "behind")])
def test_more_than_half_of_the_window_is_alarmed_once(ahead_s: float, side: str) -> None:
    tower = Tower(Timed())
    words = f"the venue's is 6.0 s {side} ours; it refuses signatures that are 10 s off: set this host's"
    assert tower.shows(ahead_s) == [f"warn a: clock: {words}"]
    assert tower.shows(ahead_s + 0.1) == []
    assert list(tower.clocks.troubles()) == [f"clock: a: {words.replace('6.0', '6.1' if ahead_s > 0 else '5.9')}"]


@pytest.mark.parametrize("before", [0, 100])
def test_one_message_with_another_time_is_no_alarm(before: int) -> None:
    tower = Tower(Timed())
    tower.shows(0.0, messages=before)
    for _ in range(5):
        assert tower.shows(3600.0, messages=1) == []
        assert tower.shows(0.0, messages=1) == []
    assert tower.clocks.offset_ms("a") == 0


def test_one_message_with_our_time_does_not_end_an_alarm() -> None:
    tower = Tower(Timed())
    assert len(tower.shows(6.0)) == 1
    assert tower.shows(0.0, messages=1) == []
    assert tower.shows(6.0, messages=1) == []
    assert len(list(tower.clocks.troubles())) == 1


def test_a_large_change_of_the_offset_is_announced_again() -> None:
    tower = Tower(Timed())
    assert len(tower.shows(6.0)) == 1
    assert tower.shows(8.0) == []
    assert len(tower.shows(9.0)) == 1
    assert len(tower.shows(-9.0)) == 1


def test_agreement_of_the_clocks_is_announced_once_with_hysteresis() -> None:
    tower = Tower(Timed())
    assert len(tower.shows(5.5)) == 1
    for ahead_s in (4.9, 5.1, 4.9, 5.1):
        assert tower.shows(ahead_s) == []
    assert tower.shows(3.9) == ["info a: the venue's clock and ours agree again"]
    assert list(tower.clocks.troubles()) == []
    assert len(tower.shows(5.5)) == 1


def test_a_slow_answer_that_would_explain_it_is_no_alarm() -> None:
    assert Tower(Timed()).shows(-8.0, by_s=8.0) == []


def test_a_venue_whose_signatures_carry_no_time_is_never_alarmed() -> None:
    tower = Tower(Venue())
    assert tower.shows(3600.0) == []
    assert tower.clocks.offset_ms("a") == pytest.approx(3_600_000, abs=1)


def test_an_account_that_is_gone_is_forgotten() -> None:
    tower = Tower(Timed())
    tower.shows(6.0)
    tower.clocks._sessions = {}
    tower.clocks.check()
    assert list(tower.clocks.troubles()) == []
