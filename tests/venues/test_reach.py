"""What each venue says that a kill reaches: as data, and in the words of what the adapter really sends."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from kill_switch.venues import VENUES
from tests.harness.venue_profiles import STANDS, VenueProfile

SHEETS = Path(__file__).parents[2] / "docs/venues"
PAGES = {
    "kraken-futures": "kraken",
    "binance-spot": "binance",
    "binance-usdm": "binance",
    "binance-coinm": "binance",
}  # venue → its page, where it has another's
LONGEST = 120  # characters: a phrase is one line in a terminal

every_venue = pytest.mark.parametrize("stand", list(STANDS.values()), ids=list(STANDS))


@pytest.mark.parametrize("name", sorted(VENUES))
def test_a_venue_states_commands_reach_and_guesses_in_short_phrases(name: str) -> None:
    venue = VENUES[name]
    guesses = [text for guess in venue.GUESSES for text in guess]
    phrases = [*venue.COMMANDS, *venue.COVERED, *venue.NOT_COVERED, *guesses]
    assert venue.COMMANDS and venue.COVERED and venue.NOT_COVERED and venue.GUESSES
    assert all(phrase.isprintable() and 0 < len(phrase) <= LONGEST and phrase[-1] not in ".;" for phrase in phrases)
    assert len(set(phrases)) >= len(phrases) - 1  # one cover may serve two guesses


@pytest.mark.parametrize("name", sorted(VENUES))
def test_a_guess_refers_to_a_section_of_the_venues_page(name: str) -> None:
    page = (SHEETS / f"{PAGES.get(name, name)}.md").read_text("utf-8")
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\b", page, re.MULTILINE))
    for fact, cover in VENUES[name].GUESSES:
        named = re.findall(r"§ ([\d.]+)", f"{fact} {cover}")
        assert named and set(named) <= sections


@pytest.mark.parametrize("name", sorted(VENUES))
def test_no_venue_is_called_verified_without_the_date_of_a_proof(name: str) -> None:
    verified = VENUES[name].VERIFIED
    assert verified is None or date.fromisoformat(verified) <= date.today()


@every_venue
@pytest.mark.parametrize("ready", [False, True], ids=["not ready", "ready"])
def test_each_command_of_a_strike_is_one_that_the_venue_states(stand: VenueProfile, ready: bool) -> None:
    adapter = (stand.ready() if ready else stand.player()).adapter
    targets = [target for text in adapter.COMMANDS for target in re.findall(r'/[\w/{}-]+|"\w+"', text)]
    patterns = [re.sub(r"\\{\w+\\}", "[^/ ]+", re.escape(target)) + r"(?![\w/])" for target in targets]
    described = adapter.describe_strike()
    assert described
    assert [line for line in described if not any(re.search(pattern, line) for pattern in patterns)] == []


def test_options_that_leave_orders_out_add_a_phrase() -> None:
    kuna, roxom = VENUES["kuna"], VENUES["roxom"]
    assert kuna.not_covered(kuna.Options.model_validate({})) == kuna.NOT_COVERED
    less = kuna.Options.model_validate({"stop_orders": False, "since": ""})
    assert kuna.not_covered(less)[1:] == (
        "WaitStop orders that the active list lacks: stop_orders is false",
        "orders older than two weeks: since is empty",
    )
    assert roxom.not_covered(roxom.Options.model_validate({"inst_types": ["perpetual", "spot"]}))[-1] == (
        "a proof for btc, digital, stock, index: inst_types leaves them out"
    )
