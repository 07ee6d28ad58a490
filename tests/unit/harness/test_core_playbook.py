"""The harness itself: a script that differs, stops early or is never asserted fails, and says how."""

from __future__ import annotations

import pytest

from kill_switch.core.commands import PulseAnswered, StrikeAccounts
from kill_switch.core.events import Pulse
from kill_switch.errors import IllegalEvent
from tests.harness.core_playbook import Raises, Theatre, armed, at, due, record, reported, strike, theatre, told, wake


def test_a_script_that_fits_is_true_and_may_go_on(play: Theatre) -> None:
    book = play(armed("a"))
    assert book >> Pulse(at(0)) << PulseAnswered()
    assert book >> Pulse(at(1)) << PulseAnswered()


def test_a_missing_command_is_shown_with_arrows() -> None:
    with theatre() as play, pytest.raises(AssertionError) as failed:
        assert play(armed("a")) >> Pulse(at(0)) << PulseAnswered() << strike("a")
    assert "  >> Pulse(" in str(failed.value)
    assert "\n  << PulseAnswered()" in str(failed.value)
    assert "\n- << StrikeAccounts(" in str(failed.value)


def test_a_script_that_stops_before_the_commands_do_fails() -> None:
    with theatre() as play, pytest.raises(AssertionError) as failed:
        assert play(armed("a")) >> reported("a") << record("reason") << strike("a")
    assert "\n+ << WakeAt(" in str(failed.value)
    assert "\n+ << Announce(" in str(failed.value)
    assert "- <<" not in str(failed.value)


def test_commands_in_another_order_fail() -> None:
    with theatre() as play, pytest.raises(AssertionError, match="the play differs"):
        assert play(armed("a")) >> reported("a") << strike("a") << record("reason") << wake("a", 1000) << told("trip")


def test_a_command_of_another_type_with_the_same_values_fails() -> None:
    with theatre() as play, pytest.raises(AssertionError):
        assert play(armed("a")) >> Pulse(at(0)) << StrikeAccounts(())


def test_a_value_that_differs_fails() -> None:
    with (
        theatre() as play,
        pytest.raises(AssertionError, match=r"- << AppendRecord\(kind='reason', data={'kill': 'k9'}"),
    ):
        assert (
            play(armed("a")) >> reported("a") << record("reason", kill="k9") << strike("a") << wake("a", 1000)
        ) << told("trip")


def test_an_unexpected_exception_fails_the_play() -> None:
    with theatre() as play, pytest.raises(AssertionError, match=r"\+ << raise IllegalEvent"):
        assert play(armed("a")) >> due("b", 0)


def test_an_expected_exception_is_part_of_the_script(play: Theatre) -> None:
    assert (
        play(armed("a"))
        >> due("b", 0)
        << Raises(IllegalEvent, "without account 'b'")
        >> Pulse(at(1))
        << PulseAnswered()
    )


def test_a_command_before_any_event_fails() -> None:
    with theatre() as play, pytest.raises(AssertionError):
        assert play(armed("a")) << PulseAnswered()


def test_a_script_that_is_never_asserted_fails_its_test() -> None:
    with pytest.raises(AssertionError, match="never asserted"), theatre() as play:
        _ = play(armed("a")) >> Pulse(at(0)) << PulseAnswered()
