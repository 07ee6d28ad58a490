"""The venue's clock, from the messages that show it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kill_switch.venues.offset import KEPT_NS, Offset, date_ns

S = 1_000_000_000
MS = 1_000_000
NOW = 1_700_000_000 * S


def told(*samples: tuple[float, float, float, float], step_ns: int = S) -> Offset:
    """Note samples of `earliest, latest, sent, received`, in seconds after NOW."""
    clock = Offset()
    for number, sample in enumerate(samples):
        earliest_ns, latest_ns, sent_ns, received_ns = (NOW + round(one * S) for one in sample)
        clock.note(earliest_ns, latest_ns, sent_ns, received_ns, number * step_ns)
    return clock


def test_nothing_is_known_and_nothing_added_at_first() -> None:
    assert (Offset().ns, Offset().bounds_ns) == (0, None)


def test_a_clock_that_may_be_ours_is_taken_for_ours() -> None:
    clock = told((0, 1, 0.2, 0.3))
    assert (clock.ns, clock.bounds_ns) == (0, (-300 * MS, 800 * MS))


def test_a_clock_that_cannot_be_ours_is_taken_to_be_in_the_middle_of_what_it_can_be() -> None:
    clock = told((20, 21, 0, 0.5))
    assert (clock.ns, clock.bounds_ns) == (20_250 * MS, (19_500 * MS, 21_000 * MS))


def test_samples_that_agree_make_it_narrower() -> None:
    clock = told((20, 21, 0, 0.5), (20, 21, 0.8, 0.9), (21, 22, 1.0, 1.1))
    assert clock.bounds_ns == (19_900 * MS, 20_200 * MS)


@pytest.mark.parametrize("other", [(-40, -39, 2, 2.1), (60, 61, 2, 2.1)])
def test_a_clock_that_was_set_is_measured_anew(other: tuple[float, float, float, float]) -> None:
    clock = told((20, 21, 0, 0.5), (20, 21, 0.8, 0.9), other)
    assert clock.bounds_ns == told(other).bounds_ns


def test_a_sample_counts_for_a_while_and_is_forgotten_then() -> None:
    narrow, wide = (20, 20.001, 0, 0), (20, 21, 0.5, 0.6)
    assert told(narrow, wide, step_ns=KEPT_NS + 1).bounds_ns == (20 * S, 20_001 * MS)
    assert told(narrow, wide, wide, step_ns=KEPT_NS + 1).bounds_ns == told(wide).bounds_ns


def test_what_an_old_sample_contradicts_is_believed() -> None:
    assert told((20, 20.001, 0, 0), (40, 41, 0.5, 0.6), step_ns=KEPT_NS + 1).bounds_ns == (39_400 * MS, 40_500 * MS)


def test_a_sample_that_contradicts_itself_says_nothing() -> None:
    assert told((2, 1, 0, 0)).bounds_ns is None


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=20),
)
def test_what_is_true_is_never_ruled_out(offset_ns: int, samples: list[tuple[int, int, int]]) -> None:
    clock, at_ns = Offset(), NOW
    for wait_ns, there_ns, back_ns in samples:
        sent_ns = at_ns + wait_ns
        read_ns = sent_ns + there_ns + offset_ns
        at_ns = sent_ns + there_ns + back_ns
        second = read_ns // S * S
        clock.note(second, second + S, sent_ns, at_ns, at_ns)
    assert clock.bounds_ns is not None and clock.bounds_ns[0] <= offset_ns <= clock.bounds_ns[1]
    assert clock.ns == 0 or clock.bounds_ns[0] <= clock.ns <= clock.bounds_ns[1]


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
def test_what_is_no_date_is_none(text: str) -> None:
    assert date_ns(text) is None
