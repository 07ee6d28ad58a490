"""A day is one day, whatever clocks do, and a transfer is neither profit nor loss, whenever its figures come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.baseline import ResetTime, RestoredDay, TradingDay
from kill_switch.triggers.pnl.day import DayTracker, SampleOutcome
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.samples import AccountValue, Sample

S = 1_000_000_000
ZONE = ZoneInfo("America/New_York")
ONE = Decimal(1000)


class Book:
    """A ledger, and a clock in New York that goes on by five seconds before each sample."""

    def __init__(
        self,
        max_loss: int | None = 100,
        max_drawdown: int | None = None,
        floor: int | None = None,
        *,
        confirm: int = 2,
        reset: tuple[int, int] = (17, 0),
        at: str = "2024-01-15T12:00",
        day: TradingDay | None = None,
    ) -> None:
        limits = PnlLimits(*(None if limit is None else Decimal(limit) for limit in (max_loss, max_drawdown, floor)))
        self.ledger = DayTracker(limits, confirm, ResetTime(*reset, ZONE.key), (1, 50, 99), RestoredDay(day))
        self.mono_ns = 1000 * S
        self.wall_ns = 0
        self.set_clock(at)

    def set_clock(self, there: str) -> None:
        self.wall_ns = int(datetime.fromisoformat(there).replace(tzinfo=ZONE).timestamp()) * S

    def wait(self, seconds: int) -> None:
        self.mono_ns += seconds * S
        self.wall_ns += seconds * S

    def take(self, *worths: int) -> SampleOutcome:
        """Take a sample every five seconds; return the last verdict."""
        for worth in worths:
            self.wait(5)
            figure = AccountValue({"USD": Decimal(worth)}, Decimal(worth), self.mono_ns)
            verdict = self.ledger.judge(Sample({"a": figure}, Decimal(worth), Instant(self.mono_ns, self.wall_ns)))
        return verdict

    def move(self, amount: int) -> None:
        self.ledger.on_transfer("a", Decimal(amount), self.mono_ns)

    @property
    def day(self) -> TradingDay:
        assert self.ledger.day is not None
        return self.ledger.day

    @property
    def stands(self) -> tuple[int, int]:
        """Baseline and peak."""
        return int(self.day.baseline), int(self.day.peak)


def begun(max_loss: int | None = 100, max_drawdown: int | None = 100) -> Book:
    """A baseline of a thousand, two minutes old."""
    book = Book(max_loss, max_drawdown)
    book.take(1000, 1000, 1000)
    book.wait(120)
    return book


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reset", "since", "began"),
    [
        # clocks go forward on the 10th at 02:00: there is no 02:30
        ((17, 0), "2024-03-09T12:00", ["09 12:01 EST", "09 17:00 EST", "10 17:00 EDT"]),
        ((2, 30), "2024-03-09T12:00", ["09 12:01 EST", "10 03:00 EDT", "11 02:30 EDT"]),
        # and back on the 3rd of November at 02:00: 01:30 is shown twice
        ((17, 0), "2024-11-02T12:00", ["02 12:01 EDT", "02 17:00 EDT", "03 17:00 EST"]),
        ((1, 30), "2024-11-02T12:00", ["02 12:01 EDT", "03 01:30 EDT", "04 01:30 EST"]),
    ],
)
def test_a_zone_that_changes_its_clocks_has_one_reset_a_day(
    reset: tuple[int, int], since: str, began: list[str]
) -> None:
    book = Book(confirm=1, reset=reset, at=since)
    found = []
    for _ in range(49 * 60):  # a sample a minute
        book.wait(55)
        if book.take(1000).began:
            found.append(f"{datetime.fromtimestamp(book.wall_ns // S, ZONE):%d %H:%M %Z}")
    assert found == began


def test_a_clock_that_is_set_back_over_the_reset_begins_no_day_twice() -> None:
    book = Book(confirm=1, at="2024-01-15T17:01")
    book.take(1000)
    book.set_clock("2024-01-15T16:58")
    assert not any([book.take(950).began for _ in range(120)])
    book.set_clock("2024-01-16T17:00")
    assert book.take(950).began


@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta(days=2), timedelta(days=7), timedelta(days=366)])
def test_a_clock_that_was_ahead_at_the_start_loses_no_reset(ahead: timedelta) -> None:
    noon = datetime(2024, 1, 15, 12)
    book = Book(confirm=1, at=(noon + ahead).isoformat())
    book.take(1000)
    book.set_clock("2024-01-15T12:01")
    book.take(1000)
    for day in (15, 16, 17):
        book.set_clock(f"2024-01-{day}T17:00")
        book.take(950 + day)
        assert (book.day.date.day, book.stands[0]) == (day, 950 + day)


@pytest.mark.parametrize("ahead_h", [13, 24, 48, 24 * 365])
def test_a_clock_that_is_ahead_for_a_moment_forgives_no_loss(ahead_h: int) -> None:
    book = Book(confirm=1, at="2024-01-15T17:01")
    book.take(1000)
    book.set_clock("2024-01-16T12:00")
    assert book.take(950).reached == ()
    book.wait(ahead_h * 3600)
    book.take(950)
    book.wait(-ahead_h * 3600)
    assert book.take(901).reached == ()
    assert (book.stands, book.day.why) == ((1000, 1000), "the clock was set right")
    assert book.take(900).reached == ("max_loss",)
    book.set_clock("2024-01-16T17:00")
    assert book.take(900).began


@pytest.mark.parametrize("samples", [0, 1, 10])  # before somebody sets the clock
def test_a_start_with_a_clock_that_is_years_behind_forgives_no_loss(samples: int) -> None:
    left = TradingDay(date(2024, 1, 15), "reset", int(datetime(2024, 1, 15, 22, tzinfo=UTC).timestamp()) * S, ONE, ONE)
    book = Book(at="1970-01-02T00:00", day=left)
    if samples:
        book.take(*[950] * samples)
    book.set_clock("2024-01-16T12:00")
    book.take(950, 950)
    assert book.stands == (1000, 1000)
    assert book.take(900, 900).reached == ("max_loss",)


def test_a_transfer_while_the_clock_is_ahead_moves_the_day_that_goes_on_after_it() -> None:
    book = Book(confirm=1, at="2024-01-15T17:01")
    book.take(1000)
    book.wait(25 * 3600)
    book.take(1000)
    book.mono_ns += 120 * S
    book.move(500)
    book.wait(-25 * 3600)
    book.mono_ns += 26 * 3600 * S
    book.take(1500)
    assert book.stands == (1500, 1500)


# ── transfers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_withdrawal_between_a_deposits_figures_and_its_word_changes_nothing() -> None:
    book = begun()
    book.take(1500, 1500)  # a deposit of 500
    book.move(-200)
    book.take(1300, 1300)
    book.move(500)
    assert book.stands == (1300, 1300)
    assert book.take(1300, 1300, 1300).reached == ()


def test_samples_before_a_deposit_confirm_no_loss_after_it() -> None:
    book = begun()
    book.take(1000)
    book.move(500)
    assert book.take(1000).reached == ()  # one figure that does not show it yet
    assert book.take(1500, 1500).reached == ()


def test_a_loss_that_comes_with_a_deposit_is_found_once_no_other_word_can_explain_it() -> None:
    book = begun()
    book.move(500)
    assert book.take(*[1400] * 12).reached == ()  # or another deposit of 400 is on its way to us
    assert book.take(1400).reached == ("max_loss", "max_drawdown")


def test_a_loss_is_found_right_after_a_deposit_that_figures_show_cleanly() -> None:
    book = begun()
    book.move(500)
    book.take(1500, 1400)
    assert book.take(1400).reached == ("max_loss", "max_drawdown")


def test_a_baseline_follows_a_withdrawal_that_its_figures_did_not_show_yet() -> None:
    book = begun()
    book.set_clock("2024-01-15T17:00")
    book.move(-500)
    assert any([book.take(1000).began for _ in range(5)])
    assert book.stands == (500, 500)
    assert book.take(500, 500, 500, 401, 401).reached == ()
    assert book.stands == (500, 500)
    assert book.take(400, 400).reached == ("max_loss", "max_drawdown")


def test_a_rise_is_believed_again_a_minute_after_a_withdrawal() -> None:
    book = begun()
    book.move(-500)
    book.take(*[700] * 11)
    assert book.stands == (500, 500)
    book.take(700, 700)
    assert book.stands == (500, 700)


# ── whatever comes ────────────────────────────────────────────────────────────────────────────────────────────────

CONFIRMS = st.integers(1, 4)
LIMITS = st.one_of(st.none(), st.integers(1, 60))
STEPS = st.one_of(st.integers(0, 200), st.sampled_from(["gap", "reset", "re-arm"]))


def breached(book: Book, name: str, worth: int) -> bool:
    """Say what the limits mean, once more."""
    limit = getattr(book.ledger.limits, name)
    if limit is None or (name != "floor" and book.ledger.day is None):
        return False
    if name == "floor":
        return bool(worth <= limit)
    return bool(book.stands[name == "max_drawdown"] - worth >= limit)


@given(confirm=CONFIRMS, limits=st.tuples(LIMITS, LIMITS, LIMITS), steps=st.lists(STEPS, max_size=60))
def test_a_limit_is_reached_by_enough_breaches_in_a_row_and_by_nothing_else(
    confirm: int, limits: tuple[int | None, int | None, int | None], steps: Sequence[int | str]
) -> None:
    book = Book(*limits, confirm=confirm)
    row: list[int] = []
    for step in steps:
        match step:
            case "gap":
                book.wait(300)  # no other sample has come between: the row goes on
            case "re-arm":
                book.ledger.begin_anew("re-arm")
                row.clear()
            case int(worth):
                verdict = book.take(worth)
                row.append(worth)
                for name in PnlLimits._fields:
                    enough = len(row) >= confirm and all(breached(book, name, one) for one in row[-confirm:])
                    assert (name in verdict.reached) == enough
                assert book.ledger.day is None or book.day.peak >= book.day.baseline
            case _:
                book.wait(86_400)


@given(
    confirm=st.integers(2, 4), outlier=st.integers(-(10**17), 10**17), place=st.integers(0, 30), restored=st.booleans()
)
def test_one_wrong_figure_of_any_size_decides_nothing_and_moves_nothing(
    confirm: int, outlier: int, place: int, restored: bool
) -> None:
    book = Book(1, 1, 999, confirm=confirm, day=begun().day if restored else None)
    for number in range(30):
        assert book.take(outlier if number == place else 1000)._replace(began=False) == SampleOutcome()
        if book.ledger.day is not None:
            assert book.stands == (1000, 1000)
    assert book.ledger.day is not None


@pytest.mark.long
@settings(deadline=None, max_examples=40)
@pytest.mark.timeout(120)
@given(
    confirm=st.integers(1, 3),
    start_s=st.integers(-400, 0),  # counted from the reset
    moves=st.lists(
        st.tuples(st.integers(0, 400), st.integers(-100, 100), st.integers(0, 55)), max_size=8, unique_by=lambda m: m[0]
    ),
)
def test_no_transfers_that_the_venue_tells_look_like_a_loss(
    confirm: int, start_s: int, moves: list[tuple[int, int, int]]
) -> None:
    """Figures come up to a minute before or after the word."""
    book = Book(1, 1, confirm=confirm, at="2024-01-15T17:00")
    book.wait(start_s)
    book.take(*[1000] * 13)  # none of them around the first figure of all: nobody could tell whether that contains it
    shown = [(max(0, at_s - lag_s) if amount > 0 else at_s + lag_s, amount) for at_s, amount, lag_s in moves]
    for second in range(0, 600, 5):
        for at_s, amount, _ in sorted(moves):
            if second - 5 < at_s <= second:
                book.move(amount)
        held = 1000 + sum(amount for at_s, amount in shown if at_s <= second)
        assert book.take(held).reached == (), (second, held, book.ledger.day)
    book.wait(200)
    book.take(*[held] * confirm)
    assert book.stands == (held, held)
