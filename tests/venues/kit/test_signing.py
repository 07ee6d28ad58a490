"""Nonces that rise, and that another process with the same key can live with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.signing import MOST_AHEAD_US, RisingNonce, base64_hmac, base64_secret, hex_hmac


def at(wall_us: int) -> Instant:
    return Instant(0, wall_us * 1000)


def test_nonces_of_one_moment_rise_and_follow_the_clock() -> None:
    nonce = RisingNonce()
    assert [nonce.next(at(10)), nonce.next(at(10)), nonce.next(at(10**6))] == [10, 11, 10**6]


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_whatever_the_clock_does_a_nonce_that_was_not_refused_is_at_most_a_second_ahead(walls: list[int]) -> None:
    nonce = RisingNonce()
    for wall_us in walls:
        assert wall_us <= nonce.next(at(wall_us)) <= wall_us + MOST_AHEAD_US


def test_a_clock_that_stepped_back_begins_at_the_clock_and_a_refusal_leads_above_all_earlier_nonces() -> None:
    nonce = RisingNonce()
    before = nonce.next(at(10**10))
    assert [nonce.next(at(10**9)), nonce.next(at(10**9))] == [10**9, 10**9 + 1]
    nonce.note_refusal(1)
    assert nonce.next(at(10**9)) == before + 1
    assert nonce.next(at(10**9)) == 10**9 + 2  # the next request is at the clock again


def test_a_command_that_is_refused_again_leaps_ahead_of_another_process_but_no_second() -> None:
    nonce, ahead = RisingNonce(), []
    for tries in range(1, 9):
        nonce.note_refusal(tries)
        ahead.append(nonce.next(at(tries * 10**9)) - tries * 10**9)
    assert ahead[:4] == [0, 50_000, 200_000, 800_000] and max(ahead) == MOST_AHEAD_US


def test_two_processes_with_one_key_both_get_through() -> None:
    daemon, direct, last, refused = RisingNonce(), RisingNonce(), 0, 0
    for step in range(1000):
        nonce = (daemon if step % 2 else direct).next(at(10**9 + step))
        refused += nonce <= last
        last = max(last, nonce)
    assert refused == 0


@pytest.mark.parametrize("wrong", ["", "not base64!", "ключ", "abc"])
def test_a_secret_that_is_not_base64_is_refused_without_being_shown(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^api_secret is not base64$"):
        base64_secret("api_secret", wrong)


def test_the_usual_forms_of_hmac_are_those_of_rfc_4231() -> None:
    assert hex_hmac(b"Jefe", b"what do ya want for nothing?").startswith("5bdcc146bf60754e6a042426089575c7")
    assert base64_hmac(b"Jefe", b"what do ya want for nothing?").startswith("Fkt6e/z4GeLjlfvnO1bgo4e9ZCIugx/W")
