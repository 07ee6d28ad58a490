"""Print the reach of a kill at each venue: the command `venues`. No configuration is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from kill_switch.cli.common import json_option, print_json, say

if TYPE_CHECKING:
    from kill_switch.venues.profile import VenueProfile


@click.command()
@json_option
def venues(as_json: bool) -> None:
    """Show the reach of a kill at each venue.

    Each venue has the commands of a kill, the orders that they cover, the orders that they do not cover, and the
    guesses. "Verified against the live venue" has the date of a proof there, or never. A guess is a fact that decides
    whether an order survives, and that nobody has confirmed; behind it is the remedy for a wrong guess.

    \b
    Examples:
      kill-switch venues
      kill-switch venues --json
    """
    from kill_switch.venues import VENUES

    if as_json:
        print_json({"venues": {name: _facts(venue) for name, venue in VENUES.items()}})
        return
    for name, venue in VENUES.items():
        say("\n".join(_lines(name, venue)))


def _facts(venue: type[VenueProfile]) -> dict[str, object]:
    return {
        "sends": venue.COMMANDS,
        "covered": venue.COVERED,
        "not_covered": venue.NOT_COVERED,
        "guesses": [guess._asdict() for guess in venue.GUESSES],
        "verified": venue.VERIFIED,
        "testnet": venue.Options.TESTNET or None,
    }


def _lines(name: str, venue: type[VenueProfile]) -> Iterator[str]:
    yield f"{name} (verified against the live venue: {venue.VERIFIED or 'never'})"
    yield from _section('addresses with environment = "testnet"', venue.Options.TESTNET.values())
    yield from _section("a kill sends", venue.COMMANDS)
    yield from _section("covered", venue.COVERED)
    yield from _section("not covered", venue.NOT_COVERED)
    yield from _section("guesses, and what covers a wrong one", (f"{fact}: {cover}" for fact, cover in venue.GUESSES))


def _section(title: str, phrases: Iterable[str]) -> Iterator[str]:
    lines = [f"    {phrase}" for phrase in phrases]
    return iter((f"  {title}", *lines) if lines else ())
