"""Figures from outside are datagrams of one shape, and come to the trigger that they name."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant
from kill_switch.triggers.intake.datagrams import sign
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.pnl.baseline import ResetTime
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.terms import PnlTerms
from kill_switch.triggers.pnl.trigger import PnlTrigger
from kill_switch.triggers.stall_clock import StallClock

NOW = Instant(1_000_000_000_000, 1_700_000_000_500_000_000)
KEY = b"a key of the intake"


class Ears:
    """An intake, with a trigger for figures from outside behind it, and one for those of its accounts."""

    def __init__(self, path: Path) -> None:
        self.intake = Intake(path, None, None, clock=self._now)
        self.outside, self.accounts = (
            PnlTrigger(
                name,
                ("a",),
                PnlTerms(
                    "USD",
                    {},
                    PnlLimits(Decimal(100), None, None),
                    2,
                    30.0,
                    (),
                    ResetTime(0, 0, "UTC"),
                    name == "accounts",
                    6.0,
                ),
                clock=self._now,
                attention=StallClock(self._now),
                record=lambda data: None,
                announce=self._hear,
            )
            for name in ("outside", "accounts")
        )
        self.intake.configure({}, {"outside": self.outside, "accounts": self.accounts})

    def _now(self) -> Instant:
        return NOW

    def _hear(self, announcement: Announce) -> None:
        raise AssertionError(announcement)

    @property
    def equity(self) -> Decimal | None:
        last = self.outside._samples.last["intake"]
        return last and last.worth

    def hear(self, datagram: bytes, key: bytes | None = None) -> bool:
        return self.intake.on_datagram(datagram, key)


@pytest.fixture
def ears(tmp_path: Path) -> Ears:
    return Ears(tmp_path / "intake.sock")


@pytest.mark.parametrize(
    ("datagram", "equity"),
    [
        (b'{"pnl":"outside","equity":"101234.5","at":1700000000.123}', "101234.5"),
        (b' {"at": 1700000000, "equity": -5.25, "pnl": "outside"}\n', "-5.25"),
        (b'{"pnl":"outside","equity":0,"at":1700000001.4}', "0"),
        (b'{"pnl":"outside","equity":"123456789012345678.123456789","at":1700000000}', "123456789012345678.123456789"),
    ],
)
def test_a_figure_names_its_trigger_its_equity_and_its_time(ears: Ears, datagram: bytes, equity: str) -> None:
    assert ears.hear(datagram)
    assert ears.equity == Decimal(equity)
    assert ears.intake.beats == 0


@pytest.mark.parametrize(
    "datagram",
    [
        b'{"pnl":"outside","equity":"101234.5"}',
        b'{"pnl":"outside","at":1700000000}',
        b'{"pnl":"outside","equity":"1","at":1700000000,"currency":"USD"}',
        b'{"pnl":"accounts","equity":"1","at":1700000000}',
        b'{"pnl":"nobody","equity":"1","at":1700000000}',
        b'{"pnl":["outside"],"equity":"1","at":1700000000}',
        b'{"pnl":"outside","equity":NaN,"at":1700000000}',
        b'{"pnl":"outside","equity":"NaN","at":1700000000}',
        b'{"pnl":"outside","equity":"1e5x","at":1700000000}',
        b'{"pnl":"outside","equity":1e300,"at":1700000000}',
        b'{"pnl":"outside","equity":-0.0,"at":1700000000}',
        b'{"pnl":"outside","equity":{"USD":1},"at":1700000000}',
        b'{"pnl":"outside","equity":true,"at":1700000000}',
        b'{"pnl":"outside","equity":null,"at":1700000000}',
        b'{"pnl":"outside","equity":"1","at":"1700000000"}',
        b'{"pnl":"outside","equity":"1","at":1e308}',
        b'{"pnl":"outside","equity":"1","at":1700000000000}',
        b'{"pnl":"outside","equity":"1","at":1699999970}',
        b'{"pnl":"outside","equity":"1","at":-1}',
        b'{"beat":"outside"}',
        b'{"bye":"outside"}',
        b"outside",
    ],
)
def test_anything_else_is_ignored(ears: Ears, datagram: bytes) -> None:
    assert not ears.hear(datagram)
    assert ears.equity is None
    assert ears.accounts._samples.last == {"a": None}


def test_a_figure_that_was_overtaken_by_a_newer_one_is_ignored(ears: Ears) -> None:
    assert ears.hear(b'{"pnl":"outside","equity":"5","at":1700000000.2}')
    for at_s in (b"1700000000.2", b"1700000000.1"):
        assert not ears.hear(b'{"pnl":"outside","equity":"7","at":%b}' % at_s)
    assert ears.equity == 5


def test_a_figure_with_a_key_is_taken_signed_and_once(ears: Ears) -> None:
    figure = b'{"pnl":"outside","equity":"5","at":1700000000}'
    assert not ears.hear(figure, KEY)
    signed = sign(figure, KEY, NOW.wall_ms)
    assert ears.hear(signed, KEY)
    assert not ears.hear(signed, KEY)
    assert ears.equity == 5
