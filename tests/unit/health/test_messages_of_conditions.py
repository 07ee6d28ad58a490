"""An account that is not ready, and orders that are left, become messages: at a stated time, and no more than that."""

from __future__ import annotations

import pytest

from kill_switch.core.commands import Announce
from kill_switch.core.domain import LaneState, Severity
from kill_switch.health.account_readiness import NOT_READY_S, READY_S, ReadinessMonitor
from kill_switch.health.residue_reminder import ResidueReminder
from tests.harness.dispatch_doubles import Floor

LOOK_S = 1.0


class Desk:
    """A floor whose account is looked at once a second, as the daemon's pulse does."""

    def __init__(self) -> None:
        self.floor = Floor(("a",))
        self.said: list[tuple[int, Announce]] = []
        now = self.floor.time.now
        self.second = 0
        self.readiness = ReadinessMonitor(self.floor.dispatcher.sessions, now, self.hear)
        self.residue = ResidueReminder(self.floor.dispatcher, self.hear)

    def hear(self, news: Announce) -> None:
        self.said.append((self.second, news))

    def pass_s(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second += 1
            self.floor.time.advance(LOOK_S * 1000)
            self.readiness.check()
            self.residue.check()

    def lane(self, state: LaneState, trouble: str = "") -> None:
        self.floor.lanes["a"].state, self.floor.lanes["a"].trouble = state, trouble

    def times(self, level: Severity) -> list[int]:
        return [second for second, news in self.said if news.level is level]


def test_an_account_that_is_not_ready_is_announced_after_the_delay_and_so_is_its_end() -> None:
    desk = Desk()
    desk.lane(LaneState.DOWN, "connection refused")
    desk.pass_s(100)
    desk.lane(LaneState.UP)
    desk.pass_s(100)
    assert desk.times(Severity.UNREADY) == [pytest.approx(1 + NOT_READY_S, abs=1)]
    assert desk.times(Severity.OVER) == [pytest.approx(101 + READY_S, abs=1)]
    unready, over = (news for _, news in desk.said)
    assert unready.account == over.account == "a" and unready.about == over.about
    assert unready.text.startswith("not ready for 30 s (ws down: connection refused")
    assert unready.text.endswith("a kill now would leave its orders")
    assert unready.do == "stop its bots; kill-switch check --connect"


def test_a_lane_that_flaps_is_never_announced() -> None:
    desk = Desk()
    for _ in range(30):
        desk.lane(LaneState.DOWN)
        desk.pass_s(20)
        desk.lane(LaneState.UP)
        desk.pass_s(1)
    assert desk.said == []


def test_orders_that_are_left_are_announced_again_at_growing_gaps_with_their_ids_until_they_are_gone() -> None:
    desk = Desk()
    venue = desk.floor.venues["a"]
    venue.show("id-1", "id-2")
    desk.floor.fire()
    desk.pass_s(1)
    while desk.floor.phase() != "RESIDUE":
        desk.pass_s(1)
    desk.second = 0
    desk.pass_s(2000)
    first, *others = desk.times(Severity.RESIDUE)
    assert first == pytest.approx(60, abs=2)
    gaps = [after - before for before, after in zip((first, *others), others, strict=False)]
    assert gaps == [pytest.approx(gap, abs=2) for gap in (120, 240, 480, 600)]
    text = desk.said[-1][1].text
    assert text == "still at least 2 orders (id-1, id-2) left, still chasing"
    assert len({news.about for _, news in desk.said}) == len(desk.said)  # so that no repetition is held back
    [announced] = [news for news in desk.floor.announced if news.level is Severity.RESIDUE]
    assert announced.text == "at least 2 orders (id-1, id-2) left, still chasing"
