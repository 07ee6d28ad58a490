"""A wall clock that is set, or that goes on while the machine sleeps, is noticed; one that is disciplined is not."""

from __future__ import annotations

import pytest

from kill_switch.core.domain import Instant
from kill_switch.wall_clock import WallClock, wall_s

S = 1_000_000_000


@pytest.mark.parametrize("jump_s", [-365 * 86400, -3600, -2, 2, 3600, 365 * 86400])
def test_a_jump_is_noticed_once(jump_s: int) -> None:
    clock = WallClock(Instant(5 * S, 1000 * S))
    assert clock.jumped_ns(Instant(6 * S, 1001 * S)) == 0
    assert clock.jumped_ns(Instant(7 * S, (1002 + jump_s) * S)) == jump_s * S
    assert clock.jumped_ns(Instant(8 * S, (1003 + jump_s) * S)) == 0


def test_the_steps_of_a_time_daemon_are_no_jumps_however_many() -> None:
    clock = WallClock(Instant(0, 1000 * S))
    assert [clock.jumped_ns(Instant(n * S, (1000 + n) * S + n * S // 2)) for n in range(100)] == [0] * 100


def test_the_wall_clocks_second_is_the_one_that_has_begun() -> None:
    assert wall_s(Instant(0, 7 * S - 1)) == 6
