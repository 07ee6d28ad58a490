"""Accounts are asked for their worth one after the other, never too often, and never while they are struck."""

from __future__ import annotations

import itertools

from kill_switch.core.domain import Instant, LaneState
from kill_switch.triggers.pnl.poller import EquityPoller
from kill_switch.venues.messages import Outputs
from tests.harness.dispatch_doubles import Floor, Venue


class Scale:
    """Accounts that note when they are asked, and a look every tenth of a second."""

    def __init__(self, *accounts: str, wanted: tuple[str, ...] | None = None) -> None:
        self.floor = Floor(accounts)
        self.wanted = list(accounts if wanted is None else wanted)
        self.asked: dict[str, list[float]] = {name: [] for name in accounts}
        for name, venue in self.floor.venues.items():
            self._listen(name, venue)
        self.measuring = EquityPoller(self.floor.dispatcher, lambda: self.wanted)

    def _listen(self, name: str, venue: Venue) -> None:
        def measure(now: Instant) -> Outputs:
            self.asked[name].append(round(self.floor.time.ms / 1000, 2))
            return ()

        setattr(venue, "request_equity", measure)  # noqa: B010 - of this one only

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.measuring.look()
            self.floor.time.advance(100)


def gaps(moments: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def test_accounts_are_asked_in_turns_and_each_as_often_as_it_may_be() -> None:
    scale = Scale("a", "b", "c", "d", "e")
    scale.run(60)
    assert [round(scale.asked[name][0], 1) for name in "abcde"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    for moments in scale.asked.values():
        assert len(moments) >= 11
        assert min(gaps(moments)) >= 5.0
    together = sorted(itertools.chain(*scale.asked.values()))
    assert min(gaps(together)) >= 0.5


def test_an_unwatched_account_is_not_polled() -> None:
    scale = Scale("a", "b", wanted=("b", "gone"))
    scale.run(20)
    assert scale.asked["a"] == []
    assert len(scale.asked["b"]) == 4


def test_an_account_that_is_struck_is_left_alone_and_the_others_are_not() -> None:
    scale = Scale("a", "b")
    scale.run(0.1)
    scale.floor.fire("a")
    assert scale.floor.phase("a") == "STRIKING"
    scale.run(6.5)
    assert scale.floor.phase("a") == "CONFIRMING"
    assert (len(scale.asked["a"]), len(scale.asked["b"])) == (1, 1)


def test_an_account_is_asked_again_when_its_kill_is_over() -> None:
    scale = Scale("a")
    scale.floor.fire("a")
    scale.run(1)
    scale.floor.answer("a")
    while scale.floor.phase() != "CLEAR":
        scale.run(0.1)
        if scale.floor.lanes["a"].calls[-1].request.method == "GET":
            scale.floor.answer("a")
    scale.run(0.2)
    assert len(scale.asked["a"]) == 1


def test_an_account_whose_lanes_are_all_down_is_not_asked_and_not_often_afterwards() -> None:
    scale = Scale("a")
    scale.floor.lanes["a"].state = LaneState.DOWN
    scale.run(33.4)
    assert scale.asked["a"] == []
    scale.floor.lanes["a"].state = LaneState.UP
    scale.run(20)
    assert len(scale.asked["a"]) == 4
    assert min(gaps(scale.asked["a"])) >= 5.0


def test_a_loop_that_was_late_makes_up_for_nothing() -> None:
    scale = Scale("a")
    for stall_s in (4.9, 7.3, 0.2, 12.0):
        scale.run(5)
        scale.floor.time.advance(1000 * stall_s)
    scale.run(10)
    assert min(gaps(scale.asked["a"])) >= 5.0


def test_venues_that_may_be_asked_less_often_are() -> None:
    scale = Scale("a", "b")
    venue = scale.floor.venues["b"]
    venue.limits.cadence = venue.limits.cadence._replace(equity_every_s=30.0)
    scale.run(61)
    assert (len(scale.asked["a"]), len(scale.asked["b"])) == (13, 2)
