"""Move positions by fills."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.limits import Window


@pytest.mark.parametrize(
    ("trades", "qty", "entry"),
    [
        (((1, 100), (1, 200)), 2, 150),
        (((2, 100), (-1, 300)), 1, 100),
        (((1, 100), (-3, 300)), -2, 300),
        (((-1, 100), (-1, 300)), -2, 200),
    ],
)
def test_a_position_follows_its_trades(trades: tuple[tuple[int, int], ...], qty: int, entry: int) -> None:
    account = Account("a", "1", {})
    for size, price in trades:
        account.move("X", Decimal(size), Decimal(price))
    held = account.positions["X"]
    assert (held.qty, held.entry) == (Decimal(qty), Decimal(entry))


def test_a_position_that_is_closed_is_gone() -> None:
    account = Account("a", "1", {})
    account.move("X", Decimal(1), Decimal(100))
    account.move("X", Decimal(-1), Decimal(200))
    assert account.positions == {}


def test_a_window_slides() -> None:
    window = Window(2, 1.0)
    for now in (0.0, 0.5):
        assert not window.full(now)
        window.add(now)
    assert window.full(0.9)
    assert not window.full(1.0)  # the first one is a second old
