"""The venue's clock, from the messages that show it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kill_switch.venues.clock_offset import KEPT_NS, ClockOffset, date_ns

S = 1_000_000_000
MS = 1_000_000
NOW = 1_700_000_000 * S


def told(*samples: tuple[float, float, float, float], step_ns: int = S) -> ClockOffset:
    """Note samples of `earliest, latest, sent, received`, in seconds after NOW."""
    clock = ClockOffset()
    for number, sample in enumerate(samples):
        earliest_ns, latest_ns, sent_ns, received_ns = (NOW + round(one * S) for one in sample)
        clock.add_sample(earliest_ns, latest_ns, sent_ns, received_ns, number * step_ns)
    return clock


def test_nothing_is_known_and_nothing_added_at_first() -> None:
    assert (ClockOffset().offset_ns, ClockOffset().bounds_ns) == (0, None)


def test_a_clock_that_may_be_ours_is_taken_for_ours() -> None:
    clock = told((0, 1, 0.2, 0.3))
    assert (clock.offset_ns, clock.bounds_ns) == (0, (-300 * MS, 800 * MS))


def test_a_clock_that_cannot_equal_ours_is_set_to_the_middle_of_its_bounds() -> None:
    clock = told((20, 21, 0, 0.5), (20, 21, 0, 0.5))
    assert (clock.offset_ns, clock.bounds_ns) == (20_250 * MS, (19_500 * MS, 21_000 * MS))


def test_samples_that_agree_make_it_narrower() -> None:
    clock = told((20, 21, 0, 0.5), (20, 21, 0.8, 0.9), (21, 22, 1.0, 1.1))
    assert clock.bounds_ns == (19_900 * MS, 20_200 * MS)


@pytest.mark.parametrize("other", [(-40, -39, 2, 2.1), (60, 61, 2, 2.1)])
def test_a_clock_that_was_set_is_measured_anew(other: tuple[float, float, float, float]) -> None:
    clock = told((20, 21, 0, 0.5), (20, 21, 0.8, 0.9), other, other)
    assert clock.bounds_ns == told(other, other).bounds_ns


def test_a_sample_counts_for_a_while_and_is_forgotten_then() -> None:
    narrow, wide = (0, 0.001, 0, 0), (0, 1, 0.5, 0.6)
    assert told(narrow, wide, step_ns=KEPT_NS + 1).bounds_ns == (0, 1 * MS)
    assert told(narrow, wide, wide, step_ns=KEPT_NS + 1).bounds_ns == told(wide).bounds_ns


def test_a_sample_that_contradicts_an_old_one_counts_from_the_second_time_on() -> None:
    old, other = (0, 0.001, 0, 0), (40, 41, 0.5, 0.6)
    assert told(old, other, step_ns=KEPT_NS + 1).offset_ns == 0
    assert told(old, other, other, step_ns=KEPT_NS + 1).bounds_ns == (39_400 * MS, 40_500 * MS)


def test_a_sample_that_contradicts_itself_says_nothing() -> None:
    assert told((2, 1, 0, 0)).bounds_ns is None


def good(clock: ClockOffset, count: int, *, ahead_ns: int = 0, from_ns: int = 0, every_ns: int = S) -> int:
    """Note so many honest answers of 40 ms each; return the moment of the next one."""
    for number in range(count):
        at_ns = from_ns + number * every_ns
        second = (NOW + at_ns + ahead_ns) // S * S
        clock.add_sample(second, second + S, NOW + at_ns, NOW + at_ns + 40 * MS, at_ns)
    return from_ns + count * every_ns


@pytest.mark.parametrize("ahead_ns", [3600 * S, -3600 * S, 20 * S, 365 * 86_400 * S])
@pytest.mark.parametrize("before", [0, 1, 200])
def test_one_answer_that_contradicts_the_others_moves_nothing(ahead_ns: int, before: int) -> None:
    clock = ClockOffset()
    at_ns = good(clock, before)
    bounds_ns = clock.bounds_ns
    good(clock, 1, ahead_ns=ahead_ns, from_ns=at_ns)
    assert (clock.offset_ns, clock.bounds_ns) == (0, bounds_ns)


def test_answers_that_are_wrong_one_at_a_time_never_add_up() -> None:
    clock, at_ns = ClockOffset(), 0
    for _ in range(50):
        at_ns = good(clock, 1, ahead_ns=3600 * S, from_ns=at_ns)
        at_ns = good(clock, 1, from_ns=at_ns)
        assert clock.offset_ns == 0


@pytest.mark.parametrize("ahead_ns", [0, 20 * S])
def test_a_wrong_answer_after_a_long_silence_moves_nothing_however_often_good_ones_follow(ahead_ns: int) -> None:
    clock = ClockOffset()
    at_ns = good(clock, 5, ahead_ns=ahead_ns)
    for _ in range(3):
        at_ns = good(clock, 1, ahead_ns=ahead_ns + 3600 * S, from_ns=at_ns + 2 * KEPT_NS)
        assert abs(clock.offset_ns - ahead_ns) <= S
        at_ns = good(clock, 1, ahead_ns=ahead_ns, from_ns=at_ns)
        assert abs(clock.offset_ns - ahead_ns) <= S


def test_two_wrong_answers_that_do_not_agree_with_each_other_move_nothing() -> None:
    clock = ClockOffset()
    at_ns = good(clock, 200)
    at_ns = good(clock, 1, ahead_ns=3600 * S, from_ns=at_ns)
    good(clock, 1, ahead_ns=-3600 * S, from_ns=at_ns)
    assert clock.offset_ns == 0


@pytest.mark.parametrize("before", [0, 1, 200])
def test_two_answers_that_agree_with_each_other_and_contradict_the_others_are_believed(before: int) -> None:
    clock = ClockOffset()
    at_ns = good(clock, before)
    good(clock, 2, ahead_ns=3600 * S, from_ns=at_ns)
    assert abs(clock.offset_ns - 3600 * S) <= S


def test_a_slow_answer_that_fits_both_clocks_neither_confirms_nor_clears_a_contradiction() -> None:
    clock = ClockOffset()
    at_ns = good(clock, 5)
    at_ns = good(clock, 1, ahead_ns=5 * S, from_ns=at_ns)
    clock.add_sample(NOW + at_ns, NOW + at_ns + S, NOW + at_ns - 9 * S, NOW + at_ns, at_ns)
    assert clock.offset_ns == 0
    good(clock, 1, ahead_ns=5 * S, from_ns=at_ns + S)
    assert abs(clock.offset_ns - 5 * S) <= S


@pytest.mark.parametrize("before", [0, 200])
def test_an_answer_by_which_the_venue_refuses_our_time_is_believed_at_once(before: int) -> None:
    clock = ClockOffset()
    at_ns = NOW + good(clock, before)
    clock.add_sample(at_ns + 3600 * S, at_ns + 3601 * S, at_ns, at_ns, at_ns - NOW, refused=True)
    assert abs(clock.offset_ns - 3600 * S) <= S


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=20),
)
def test_the_bounds_always_include_the_true_offset(offset_ns: int, samples: list[tuple[int, int, int]]) -> None:
    clock, at_ns = ClockOffset(), NOW
    for wait_ns, there_ns, back_ns in samples:
        sent_ns = at_ns + wait_ns
        read_ns = sent_ns + there_ns + offset_ns
        at_ns = sent_ns + there_ns + back_ns
        second = read_ns // S * S
        clock.add_sample(second, second + S, sent_ns, at_ns, at_ns)
    assert clock.bounds_ns is None or clock.bounds_ns[0] <= offset_ns <= clock.bounds_ns[1]
    assert clock.bounds_ns is not None or len(samples) == 1
    assert clock.offset_ns == 0 or (clock.bounds_ns and clock.bounds_ns[0] <= clock.offset_ns <= clock.bounds_ns[1])


def test_the_date_of_a_message_is_read() -> None:
    assert date_ns("Tue, 14 Nov 2023 22:13:20 GMT") == NOW
    assert date_ns("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777 * S


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:60 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Thu, 01 Jan 2286 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
    ],
)
def test_the_time_of_a_text_that_is_no_date_is_none(text: str) -> None:
    assert date_ns(text) is None
