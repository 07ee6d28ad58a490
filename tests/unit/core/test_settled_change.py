"""A condition is announced once it has lasted, and a condition that flaps is announced once."""

from __future__ import annotations

import pytest

from kill_switch.core.on_change import Change
from kill_switch.core.settled_change import SettledChange

NOTHING = Change([], [])


def test_a_condition_begins_and_ends_once_it_has_lasted() -> None:
    change = SettledChange(30, 60)
    told = {at: change.update(["a"] if 10 <= at < 100 else [], at) for at in range(300)}
    assert {at: news for at, news in told.items() if news != NOTHING} == {40: Change(["a"], []), 160: Change([], ["a"])}


@pytest.mark.parametrize("period", [2, 10, 58])
def test_a_condition_that_flaps_is_never_announced_before_it_lasts(period: int) -> None:
    change = SettledChange(30, 60)
    assert all(change.update(["a"] if at % period < period // 2 else [], at) == NOTHING for at in range(1000))


def test_a_condition_that_flaps_after_it_has_begun_ends_only_when_it_is_over() -> None:
    change = SettledChange(0, 60)
    assert change.update(["a"], 0) == Change(["a"], [])
    assert all(change.update(["a"] if at % 20 < 10 else [], at) == NOTHING for at in range(1, 1000))
    assert change.update([], 1000) == NOTHING and change.update([], 1059) == Change([], ["a"])


def test_a_condition_that_is_forgotten_begins_again() -> None:
    change = SettledChange(30, 60)
    change.update(["a", "b"], 0)
    change.update(["a", "b"], 30)
    change.retain(["b"])
    assert change.update(["a", "b"], 31) == NOTHING
    assert change.update(["a", "b"], 61) == Change(["a"], [])
