"""Equity is judged against a day's baseline and peak, and no wrong figure decides anything by itself."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.baseline import ResetTime, RestoredDay, TradingDay
from kill_switch.triggers.pnl.day import DayTracker, SampleOutcome
from kill_switch.triggers.pnl.equity_course import SETTLE_NS
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.samples import AccountValue, Sample

S = 1_000_000_000
NEW_YORK = ResetTime(17, 0, "America/New_York")
MORNING = int(datetime(2023, 11, 14, 15, 0, tzinfo=UTC).timestamp())  # seven hours before the reset in New York


class Book:
    """A ledger that gets a sample every five seconds."""

    def __init__(
        self,
        limits: tuple[int | None, int | None, int | None] = (50, 80, None),
        confirm: int = 2,
        reset: ResetTime = NEW_YORK,
        warn_at: tuple[int, ...] = (),
        day: TradingDay | None = None,
    ) -> None:
        self.ledger = DayTracker(PnlLimits(*map(_amount, limits)), confirm, reset, warn_at, RestoredDay(day))
        self.now_s = 0.0
        self.wall_s: float = MORNING  # what a clock on the wall showed at the beginning

    @property
    def now(self) -> Instant:
        return Instant(int(self.now_s * S) + S, int((self.wall_s + self.now_s) * S))

    @property
    def day(self) -> TradingDay:
        assert self.ledger.day is not None
        return self.ledger.day

    @property
    def figures(self) -> tuple[int, int]:
        return int(self.day.baseline), int(self.day.peak)

    def take(self, *worths: float) -> list[SampleOutcome]:
        verdicts = []
        for worth in worths:
            self.now_s += 5
            amount = Decimal(str(worth))
            sample = Sample({"a": AccountValue({"USD": amount}, amount, self.now.mono_ns)}, amount, self.now)
            verdicts.append(self.ledger.judge(sample))
        return verdicts

    def reached(self, *worths: float) -> list[tuple[str, ...]]:
        return [verdict.reached for verdict in self.take(*worths)]

    def to(self, year: int, month: int, day: int, hour: int, minute: int = 0) -> None:
        """Let it be that time in UTC, five seconds before the next sample; into the past goes the wall clock alone."""
        seconds = datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() - self.wall_s - self.now_s
        if seconds < 0:
            self.wall_s += seconds
        else:
            self.now_s += seconds


def _amount(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value)


# ── the day ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_baseline_is_the_median_of_the_first_samples() -> None:
    book = Book()
    assert [verdict.began for verdict in book.take(1000, 1_000_000, 1001)] == [False, False, True]
    assert book.day.baseline == 1001
    assert (book.day.why, book.day.date) == ("first", date(2023, 11, 13))


def test_with_one_sample_a_confirmation_the_first_one_is_the_baseline() -> None:
    book = Book(confirm=1)
    assert book.take(1000)[0].began
    assert book.figures == (1000, 1000)


def test_a_day_begins_at_its_wall_time_with_the_next_samples() -> None:
    book = Book()
    book.take(1000, 1000, 1000)
    book.to(2023, 11, 14, 21, 59)
    book.take(970, 970, 970)
    assert book.day.baseline == 1000
    book.to(2023, 11, 14, 22)
    assert [verdict.began for verdict in book.take(969, 968, 967, 966)] == [False, False, True, False]
    assert (book.figures, book.day.why, book.day.date) == ((968, 968), "reset", date(2023, 11, 14))


def test_the_old_baseline_counts_until_the_new_one_is_set() -> None:
    book = Book()
    book.take(1000, 1000, 1000)
    book.to(2023, 11, 14, 21, 59)
    book.take(1000)
    book.to(2023, 11, 14, 22)
    assert book.reached(950, 950) == [(), ("max_loss",)]


def test_a_missed_reset_happens_at_the_first_samples_and_earlier_losses_trip_nothing() -> None:
    left = TradingDay(date(2023, 11, 10), "reset", 0, Decimal(5000), Decimal(6000))
    book = Book(day=left)
    assert book.reached(1000, 1000, 1000, 1000) == [()] * 4
    assert (book.day.baseline, book.day.why) == (Decimal(1000), "reset")


def test_a_reset_that_passed_while_there_were_no_samples_is_one_that_was_missed() -> None:
    book = Book()
    book.take(1000, 1000, 1000)
    book.to(2023, 11, 15, 10)
    assert book.reached(900, 900, 900) == [()] * 3
    assert (book.day.baseline, book.ledger.days.uncounted_loss) == (Decimal(900), Decimal(100))
    assert book.ledger.days.end_reason == "nothing was known for 19 h"


def test_a_day_of_an_earlier_run_goes_on_within_the_same_day() -> None:
    book = Book(day=TradingDay(date(2023, 11, 13), "reset", 7, Decimal(1000), Decimal(1020)))
    assert book.reached(960, 960, 940, 940) == [(), (), (), ("max_loss", "max_drawdown")]
    assert book.day.since_ns == 7


def test_a_clock_that_is_set_back_over_the_reset_begins_no_second_day() -> None:
    book = Book()
    book.to(2023, 11, 14, 22)
    book.take(1000, 1000, 1000)
    book.wall_s -= 600
    book.take(990, 990, 990)
    book.wall_s += 600
    book.take(980, 980, 980)
    assert book.day.baseline == 1000


def test_a_clock_that_was_wrong_by_days_does_not_end_the_resets() -> None:
    book = Book()
    book.to(2024, 11, 14, 12)
    book.take(1000, 1000, 1000)
    book.to(2023, 11, 14, 12)
    book.take(990, 990, 990)
    assert (book.day.baseline, book.day.date) == (Decimal(990), date(2023, 11, 13))


@pytest.mark.parametrize(
    ("reset", "before", "after"),
    [
        # summer time begins: 02:30 is not there; the day begins when the clocks show more than that
        (ResetTime(2, 30, "America/New_York"), "2024-03-10T06:59:59Z", "2024-03-10T07:00:00Z"),
        # summer time ends: 01:30 is there twice; the first one counts
        (ResetTime(1, 30, "America/New_York"), "2024-11-03T05:29:59Z", "2024-11-03T05:30:00Z"),
        (NEW_YORK, "2024-07-01T20:59:59Z", "2024-07-01T21:00:00Z"),
        (NEW_YORK, "2024-01-02T21:59:59Z", "2024-01-02T22:00:00Z"),
        (ResetTime(0, 0, "UTC"), "2024-01-02T23:59:59Z", "2024-01-03T00:00:00Z"),
        (ResetTime(9, 15, "Asia/Kolkata"), "2024-01-02T03:44:59Z", "2024-01-02T03:45:00Z"),
    ],
)
def test_a_day_begins_where_the_reset_lives(reset: ResetTime, before: str, after: str) -> None:
    ends, begins = (reset.date(int(datetime.fromisoformat(one).timestamp()) * S) for one in (before, after))
    assert (begins - ends).days == 1


def test_the_hour_that_is_there_twice_begins_one_day() -> None:
    book = Book(confirm=1, reset=ResetTime(1, 30, "America/New_York"))
    book.to(2024, 11, 3, 4)
    began = [book.now_s for _ in range(12 * 60 * 24) for verdict in book.take(1000) if verdict.began]
    assert len(began) == 2  # the first of all, and the one of this night


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_loss_is_reached_when_so_many_samples_in_a_row_say_so() -> None:
    book = Book()
    assert book.reached(1000, 1000, 1000, 951, 950, 949.99) == [(), (), (), (), (), ("max_loss",)]


def test_a_single_outlier_trips_nothing() -> None:
    book = Book()
    assert book.reached(1000, 1000, 1000, 0, 1000, -1e9, 1000, 949, 1000) == [()] * 9


def test_a_single_outlier_upwards_raises_no_peak() -> None:
    book = Book()
    assert book.reached(1000, 1000, 1000, 1e9, 1000, 1000, 1000) == [()] * 7
    assert book.figures == (1000, 1000)


def test_a_drawdown_counts_from_the_peak_that_was_held() -> None:
    book = Book(limits=(None, 80, None))
    book.take(1000, 1000, 1000, 1100, 1200, 1190)
    assert book.figures == (1000, 1190)
    assert book.reached(1111, 1111, 1110, 1110) == [(), (), (), ("max_drawdown",)]


def test_a_floor_is_watched_before_there_is_a_baseline() -> None:
    book = Book(limits=(None, None, 900))
    assert book.reached(900, 900) == [(), ("floor",)]


def test_samples_on_both_sides_of_a_gap_are_in_a_row() -> None:
    book = Book()
    book.take(1000, 1000, 1000)
    assert book.reached(940) == [()]
    book.now_s += 600
    assert book.reached(940) == [("max_loss",)]


def test_a_sample_that_says_otherwise_ends_the_row() -> None:
    book = Book()
    book.take(1000, 1000, 1000)
    assert book.reached(940, 951, 940) == [()] * 3


def test_beginning_anew_forgets_the_loss_and_not_the_floor() -> None:
    book = Book(limits=(50, None, 800))
    assert book.reached(1000, 1000, 1000, 900, 900)[-1] == ("max_loss",)
    book.ledger.begin_anew("re-arm")
    assert book.reached(900, 900, 900, 860, 860) == [()] * 5
    assert (book.day.baseline, book.day.why) == (Decimal(900), "re-arm")
    assert book.reached(800, 800)[-1] == ("max_loss", "floor")


def test_a_limit_that_is_not_configured_is_not_watched() -> None:
    book = Book(limits=(None, None, 1))
    assert book.reached(1000, 1000, 1000, 2, 2, 2) == [()] * 6


Worth = st.integers(-100, 300)


@given(st.lists(Worth, max_size=40), st.integers(1, 4))
def test_no_sequence_reaches_a_limit_without_as_many_consecutive_samples_beyond_it(
    worths: list[int], confirm: int
) -> None:
    book = Book(limits=(50, 80, -50), confirm=confirm)
    taken: list[int] = []
    for worth in worths:
        (verdict,) = book.take(worth)
        taken.append(worth)
        if not verdict.reached:
            continue
        last = taken[-confirm:]
        assert len(last) == confirm
        for name in verdict.reached:
            if name == "floor":
                assert all(one <= -50 for one in last)
            else:
                above = book.day.baseline - 50 if name == "max_loss" else book.day.peak - 80
                assert all(one <= above for one in last)


@given(st.lists(Worth, min_size=8, max_size=40), st.integers(1, 4))
def test_a_limit_that_as_many_consecutive_samples_are_beyond_is_reached(worths: list[int], confirm: int) -> None:
    book = Book(limits=(50, 80, -50), confirm=confirm)
    for number, worth in enumerate(worths):
        (verdict,) = book.take(worth)
        last = worths[max(0, number + 1 - confirm) : number + 1]
        if len(last) == confirm:
            assert ("floor" in verdict.reached) == all(one <= -50 for one in last)
            if book.ledger.day is not None:
                assert ("max_loss" in verdict.reached) == all(book.day.baseline - one >= 50 for one in last)
                assert ("max_drawdown" in verdict.reached) == all(book.day.peak - one >= 80 for one in last)


@given(st.lists(Worth, min_size=7, max_size=30), st.integers(2, 4), st.data())
def test_wrong_figures_that_are_fewer_than_the_confirmations_change_no_verdict(
    worths: list[int], confirm: int, data: st.DataObject
) -> None:
    steady = [100] * len(worths)
    wrong = data.draw(st.integers(1, confirm - 1))
    at = data.draw(st.integers(0, len(worths) - wrong))
    steady[at : at + wrong] = worths[at : at + wrong]
    book = Book(limits=(50, 80, -50), confirm=confirm)
    assert book.reached(*steady) == [()] * len(steady)
    if book.ledger.day is not None:
        assert book.figures == (100, 100)


@given(st.lists(Worth, min_size=3, max_size=40))
def test_the_peak_never_falls_within_a_day_and_is_never_above_the_samples(worths: list[int]) -> None:
    book, peak = Book(), Decimal("-Infinity")
    for number, worth in enumerate(worths):
        book.take(worth)
        if book.ledger.day is not None:
            assert peak <= book.day.peak <= max(worths[: number + 1])
            assert book.day.peak >= book.day.baseline
            peak = book.day.peak


# ── warnings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_warning_level_is_announced_once_a_day() -> None:
    book = Book(limits=(100, None, None), warn_at=(90, 50, 75))
    book.take(1000, 1000, 1000)
    told = [verdict.warn for verdict in book.take(950, 950, 960, 950, 960, 924, 925, 990, 990, 920, 920)]
    assert [warn for warn in told if warn] == [(("max_loss", 50),), (("max_loss", 75),)]
    book.to(2023, 11, 14, 22)
    book.take(920, 920, 920)
    assert [verdict.warn for verdict in book.take(870, 870)] == [(), (("max_loss", 50),)]


def test_a_fall_over_several_warning_levels_is_announced_once() -> None:
    book = Book(limits=(100, None, None), warn_at=(50, 75, 90))
    book.take(1000, 1000, 1000)
    assert [verdict.warn for verdict in book.take(905, 905, 940, 920, 920)] == [(), (("max_loss", 90),), (), (), ()]


def test_a_single_outlier_causes_no_warning() -> None:
    book = Book(limits=(100, None, None), warn_at=(50,))
    book.take(1000, 1000, 1000)
    assert [verdict.warn for verdict in book.take(910, 1000, 910, 1000)] == [()] * 4


def test_a_floor_warns_on_the_way_down_from_the_baseline() -> None:
    book = Book(limits=(None, None, 900), warn_at=(50,))
    book.take(1000, 1000, 1000)
    assert book.take(950, 950)[-1].warn == (("floor", 50),)


def test_announced_warnings_survive_the_process() -> None:
    book = Book(limits=(100, None, None), warn_at=(50, 75))
    book.take(1000, 1000, 1000, 940, 940)
    again = Book(limits=(100, None, None), warn_at=(50, 75), day=TradingDay.from_json(book.day.to_json()))
    assert [verdict.warn for verdict in again.take(940, 940, 920, 920)] == [(), (), (), (("max_loss", 75),)]


# ── deposits and withdrawals ──────────────────────────────────────────────────────────────────────────────────────


def settled(book: Book, *worths: float) -> None:
    """Have a day that began well before."""
    book.take(*worths)
    book.now_s += SETTLE_NS / S


def test_a_withdrawal_is_no_loss_and_a_deposit_no_profit() -> None:
    book = Book()
    settled(book, 1000, 1000, 1000)
    book.ledger.on_transfer("a", Decimal(-500), book.now.mono_ns)
    assert book.reached(500, 500, 500) == [()] * 3
    assert book.figures == (500, 500)
    book.now_s += SETTLE_NS / S
    book.ledger.on_transfer("a", Decimal(200), book.now.mono_ns)
    assert book.reached(700, 700, 651, 651, 650, 650)[-1] == ("max_loss",)
    assert book.figures == (700, 700)


def test_a_deposit_that_was_seen_in_the_figures_first_is_no_peak() -> None:
    book = Book()
    settled(book, 1000, 1000, 1000)
    book.take(1010, 1010, 1510, 1510, 1510)
    assert book.figures == (1000, 1510)
    book.ledger.on_transfer("a", Decimal(500), book.now.mono_ns)
    assert book.figures == (1500, 1510)
    assert book.reached(1510, 1510, 1490) == [()] * 3


def test_a_rise_that_is_old_is_not_forgotten_by_a_deposit() -> None:
    book = Book()
    settled(book, 1000, 1000, 1000)
    settled(book, 1060, 1060)
    book.ledger.on_transfer("a", Decimal(500), book.now.mono_ns)
    assert book.figures == (1500, 1560)


def test_a_withdrawal_seen_in_the_figures_first_is_forgiven_once_it_is_announced() -> None:
    book = Book()
    settled(book, 1000, 1000, 1000)
    assert book.reached(500) == [()]
    book.ledger.on_transfer("a", Decimal(-500), book.now.mono_ns)
    assert book.reached(500, 500) == [(), ()]


def test_figures_that_lag_behind_a_withdrawal_are_no_peak() -> None:
    book = Book()
    settled(book, 1000, 1000, 1000)
    book.ledger.on_transfer("a", Decimal(-500), book.now.mono_ns)
    assert book.reached(1000, 1000, 500, 500, 500) == [()] * 5
    assert book.figures == (500, 500)


def test_a_baseline_that_may_contain_a_deposit_already_is_the_lower_one() -> None:
    book = Book()
    book.take(1500, 1500, 1500)  # of which 500 have just come, before anybody looked
    book.ledger.on_transfer("a", Decimal(500), book.now.mono_ns)
    assert book.figures == (1500, 1500)
    assert book.reached(*[1500] * 20) == [()] * 20


def test_a_baseline_follows_a_deposit_that_its_figures_show_only_later() -> None:
    book = Book()
    book.take(1000, 1000, 1000)
    book.ledger.on_transfer("a", Decimal(500), book.now.mono_ns)
    assert book.figures == (1000, 1000)
    assert book.reached(1000, 1000, 1500, 1500, 1450) == [()] * 5
    assert book.figures == (1500, 1500)
    assert book.reached(1450)[-1] == ("max_loss",)


def test_a_transfer_while_a_baseline_is_gathered_moves_the_samples_that_do_not_contain_it() -> None:
    book = Book()
    book.take(1000, 1000)
    book.ledger.on_transfer("a", Decimal(-500), book.now.mono_ns)
    book.take(500)
    assert book.figures == (500, 500)


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rise_of_the_peak_is_due_for_the_record_in_steps_of_a_hundredth_of_the_drawdown() -> None:
    book = Book(limits=(None, 100, None))
    book.take(1000, 1000, 1000)
    book.ledger.recorded_peak = book.day.peak
    book.take(1000.99, 1000.99)
    assert not book.ledger.has_unrecorded_peak
    book.take(1001, 1001)
    assert book.ledger.has_unrecorded_peak


def test_a_recorded_day_is_read_back_unchanged() -> None:
    day = TradingDay(date(2024, 2, 29), "re-arm", 5, Decimal("0.10"), Decimal("1.5"), {"max_loss": 75})
    assert TradingDay.from_json(day.to_json()) == day


@pytest.mark.parametrize(
    "change",
    [
        {"baseline": "NaN"},
        {"baseline": "2"},
        {"peak": "x"},
        {"peak": None},
        {"date": "yesterday"},
        {"since_ns": "x"},
        {"warned": {"max_loss": "x"}},
    ],
)
def test_a_record_that_is_none_of_a_day_is_not_taken_for_one(change: dict[str, object]) -> None:
    told = {**TradingDay(date(2024, 2, 29), "first", 5, Decimal(1), Decimal(1)).to_json(), **change}
    with pytest.raises((KeyError, TypeError, ValueError, ArithmeticError)):
        TradingDay.from_json(told)
