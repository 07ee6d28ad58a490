"""A sample has one figure of every account, all of one window; what is no figure is ignored and counted."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.samples import Sample, SampleCollector, parse_equity

RATES = {"USD": Decimal(1), "BTC": Decimal(90_000)}
S = 1_000_000_000


def samples(*accounts: str, window_s: float = 6.0) -> SampleCollector:
    return SampleCollector(accounts or ("a", "b"), RATES, window_s)


def at(seconds: float) -> Instant:
    return Instant(int(seconds * S), int(seconds * S))


def take(kept: SampleCollector, account: str, usd: str, asked_s: float) -> bool:
    return kept.add(account, {"USD": Decimal(usd)}, int(asked_s * S), int(asked_s * S))


def next_round(kept: SampleCollector, after: Sample | None, seconds: float) -> Sample | None:
    return kept.next_sample(after, at(seconds), 30.0)


def test_a_sample_waits_for_every_account_and_adds_them_up() -> None:
    kept = samples()
    take(kept, "a", "100", 10)
    assert next_round(kept, None, 10) is None
    take(kept, "b", "-30.5", 12)
    sample = next_round(kept, None, 12)
    assert sample is not None
    assert (sample.worth, sample.asked_ns, set(sample.figures)) == (Decimal("69.5"), 10 * S, {"a", "b"})


def test_no_figure_is_used_twice() -> None:
    kept = samples()
    take(kept, "a", "100", 10)
    take(kept, "b", "100", 10)
    first = next_round(kept, None, 10)
    take(kept, "a", "1", 11)
    take(kept, "a", "2", 12)
    assert next_round(kept, first, 12) is None
    take(kept, "b", "3", 13)
    second = next_round(kept, first, 13)
    assert second is not None
    assert second.worth == 5  # the latest of each


def test_figures_that_are_further_apart_than_the_window_are_no_sample() -> None:
    kept = samples()
    take(kept, "a", "100", 10)
    take(kept, "b", "100", 16.1)
    assert next_round(kept, None, 16.1) is None
    take(kept, "a", "100", 16.2)
    assert next_round(kept, None, 16.2) is not None


def test_a_figure_that_is_too_old_is_no_part_of_a_sample() -> None:
    kept = samples("a")
    take(kept, "a", "100", 10)
    assert next_round(kept, None, 40) is not None
    assert next_round(kept, None, 40.1) is None


def test_currencies_are_added_at_their_rates() -> None:
    kept = samples("a")
    assert kept.add("a", {"BTC": Decimal("0.5"), "USD": Decimal(-1000)}, S, S)
    sample = next_round(kept, None, 1)
    assert sample is not None
    assert sample.worth == 44_000


def test_an_amount_without_a_rate_is_no_figure_and_names_its_currency() -> None:
    kept = samples("a")
    assert kept.add("a", {"ETH": Decimal("3"), "USD": Decimal(5)}, S, S)
    assert next_round(kept, None, 1) is None
    assert kept.unrated == {"a": "3 ETH"}
    assert kept.ignored == 0
    assert kept.add("a", {"ETH": Decimal(0), "USD": Decimal(5)}, 2 * S, 2 * S)  # nothing of it needs no rate
    assert kept.unrated == {}
    assert next_round(kept, None, 2) is not None


@pytest.mark.parametrize("wrong", ["NaN", "sNaN", "Infinity", "-Infinity", "1e18", "-1e40"])
def test_an_absurd_number_is_ignored_and_counted(wrong: str) -> None:
    kept = samples("a")
    assert not kept.add("a", {"USD": Decimal(wrong)}, S, S)
    assert (kept.ignored, kept.why_ignored) == (1, "not a sensible number")
    assert kept.last["a"] is None


def test_an_amount_that_is_absurd_only_at_its_rate_is_ignored_too() -> None:
    kept = samples("a")
    assert not kept.add("a", {"BTC": Decimal(10**17)}, S, S)
    assert (kept.ignored, kept.last["a"]) == (1, None)


@pytest.mark.parametrize(
    ("asked_s", "why"),
    [(10, "not newer than the one before"), (9, "not newer than the one before"), (13, "from the future")],
)
def test_a_figure_out_of_its_order_is_ignored_and_counted(asked_s: float, why: str) -> None:
    kept = samples("a")
    take(kept, "a", "100", 10)
    assert not kept.add("a", {"USD": Decimal(1)}, int(asked_s * S), 12 * S)
    assert (kept.ignored, kept.why_ignored) == (1, why)
    last = kept.last["a"]
    assert last is not None
    assert last.worth == 100


def test_an_empty_figure_is_ignored_and_counted() -> None:
    kept = samples("a")
    assert not kept.add("a", {}, S, S)
    assert kept.ignored == 1


def test_the_same_moment_is_the_same_figure_and_is_not_counted_as_ignored() -> None:
    kept = samples("a")
    take(kept, "a", "100", 10)
    first = next_round(kept, None, 10)
    for seconds in (11, 12, 13):
        assert not kept.add("a", {"USD": Decimal("100.0")}, 10 * S, seconds * S)
        assert next_round(kept, first, seconds) is None
    assert kept.ignored == 0


def test_the_evidence_of_a_sample_has_every_figure_and_its_age() -> None:
    kept = samples()
    take(kept, "a", "100", 10)
    kept.add("b", {"BTC": Decimal("0.001")}, 11 * S, 11 * S)
    sample = next_round(kept, None, 12)
    assert sample is not None
    assert sample.evidence() == {
        "equity": "190.000",
        "mono_ns": 12 * S,
        "accounts": {
            "a": {"amounts": {"USD": "100"}, "worth": "100", "age_ms": 2000},
            "b": {"amounts": {"BTC": "0.001"}, "worth": "90.000", "age_ms": 1000},
        },
    }


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # both measure real time
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 100), st.integers(-5, 60)), max_size=60))
def test_any_figures_make_samples_of_one_window_with_news_of_every_account(
    told: list[tuple[str, int, int]],
) -> None:
    kept, after, now_s = samples(), None, 100
    for account, usd, step in told:
        now_s += max(0, step)
        kept.add(account, {"USD": Decimal(usd)}, (now_s + min(0, step)) * S, now_s * S)
        sample = next_round(kept, after, now_s)
        if sample is None:
            continue
        asked = [figure.asked_ns for figure in sample.figures.values()]
        assert set(sample.figures) == {"a", "b"}
        assert max(asked) - min(asked) <= 6 * S
        assert now_s * S - min(asked) <= 30 * S
        if after is not None:
            assert all(sample.figures[name].asked_ns > after.figures[name].asked_ns for name in "ab")
        after = sample


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        *(("101234.5", "101234.5"), ("-3", "-3"), ("0", "0"), (5, "5"), (1.25, "1.25"), (-0.5, "-0.5")),
        *(("0.00", "0.00"), ("5e-05", "0.00005"), (5e-05, "0.00005"), ("1e5", "100000"), ("-1.5E+2", "-150")),
        (1e17, "1e17"),
        (0.05 / 7, "0.0071428571428571435"),  # a small float is written with more than 18 decimals
        (1.5e-300, "1.5e-300"),
        (str(Decimal(1) / Decimal(14)), "0.07142857142857142857142857143"),  # what Python's Decimal says of a quotient
    ],
)
def test_an_equity_from_outside_is_a_decimal_number(value: object, amount: str) -> None:
    assert parse_equity(value) == Decimal(amount)


@pytest.mark.parametrize(
    "value",
    [
        *("NaN", "inf", "-0", "-0.00", -0.0, "-0e5", "", " 5", "5 ", "1e", "1e5.0", "e5", "1e+300", "+5", ".5", "5."),
        *("1_000", "1,000", "٣", True, None, [], {}, 1e300, 10**18, "9" * 19, float("nan"), float("inf")),
    ],
)
def test_anything_else_is_no_equity(value: object) -> None:
    assert parse_equity(value) is None
