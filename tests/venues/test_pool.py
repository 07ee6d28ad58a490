"""What accounts that share a limit have read together says when the next read may go."""

from __future__ import annotations

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.rate_pool import AT_ONCE, FOR_LONG, RatePool


def after(seconds: float) -> Instant:
    return Instant(int((1000 + seconds) * 1e9), 0)


def test_some_reads_may_go_in_a_row_and_then_as_many_as_come_back() -> None:
    pool = RatePool(1200, 60.0)  # 20 a second
    for _ in range(60):
        assert pool.wait_s(after(0)) == 0
        pool.take(after(0))
    assert pool.wait_s(after(0)) == 1 / 8
    assert pool.wait_s(after(1 / 8)) == 0


def test_a_caller_that_waits_for_room_uses_less_than_half_of_the_limit_in_any_period() -> None:
    pool = RatePool(300, 60.0)
    taken = []
    now_s = 0.0
    while now_s < 300:
        now_s += pool.wait_s(after(now_s)) + 1e-6
        pool.take(after(now_s))
        taken.append(now_s)
    most = max(sum(one <= other < one + 60 for other in taken) for one in taken)
    assert most <= (AT_ONCE + FOR_LONG) * 300 + 1 < 150


def test_reads_that_do_not_wait_put_the_others_off_by_a_few_only() -> None:
    pool = RatePool(300, 60.0)
    for _ in range(1000):
        pool.take(after(0))
    assert pool.wait_s(after(0)) == (5 + 1) / 2
