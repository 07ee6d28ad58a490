"""The search for transfers takes few steps, whatever comes: it runs where kills are decided."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from types import FrameType

import pytest

from kill_switch.triggers.pnl.equity_course import EquityCourse, Transfer

S = 1_000_000_000
FOLLOW, TELL, FORGET = 8_000, 35_000, 60_000  # calls within one call; a thousand of them take 0.1 to 0.2 ms
BEFORE_S, BEHIND_S = 70, 65  # figures that there are before the words, and behind them


class Counter:
    """Count the calls of functions, and keep the most there were under each name."""

    def __init__(self) -> None:
        self.most: dict[str, int] = {}

    @contextmanager
    def counting(self, name: str) -> Iterator[None]:
        calls = 0

        def note(frame: FrameType, event: str, arg: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(before)
        self.most[name] = max(self.most.get(name, 0), calls)


def amounts(dice: random.Random, many: int) -> list[int]:
    return [dice.choice([-1, 1]) * dice.randint(10, 2000) for _ in range(many)]


CROWDS: dict[str, Callable[[random.Random], list[int]]] = {
    "ten amounts": lambda dice: amounts(dice, 10),
    "sixty amounts": lambda dice: amounts(dice, 60),
    "equal ones": lambda dice: amounts(dice, 4) * 10,
    "round amounts": lambda dice: [100 * dice.randint(-5, 5) or 100 for _ in range(40)],
}


@pytest.mark.long
@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("every_s", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("shown", [True, False])
def test_however_many_transfers_are_in_doubt_each_call_takes_few_steps(crowd: str, every_s: float, shown: bool) -> None:
    dice, course, counter = random.Random(1), EquityCourse(), Counter()  # noqa: S311 - a history that can be told again
    words = [(BEFORE_S + dice.random(), amount) for amount in CROWDS[crowd](dice)]
    entries = [(at_s + dice.uniform(-55, 55), amount) for at_s, amount in words] if shown else []
    words.sort()
    worth, now_s = 10_000, 0.0
    while now_s < BEFORE_S + BEHIND_S:
        now_s += every_s
        while words and words[0][0] <= now_s:
            told_s, amount = words.pop(0)
            with counter.counting("tell"):
                course.add_transfer(Transfer("a", Decimal(amount), int(told_s * S)))
        worth += dice.randint(-3, 3)
        held = worth + sum(amount for at_s, amount in entries if at_s <= now_s)
        with counter.counting("follow"):
            course.add_figure(int(now_s * S), Decimal(held))
    with counter.counting("forget"):
        course.forget_transfers(course.transfers[:1])
    most = counter.most
    assert (most["follow"] < FOLLOW, most["tell"] < TELL, most["forget"] < FORGET) == (True, True, True), most
