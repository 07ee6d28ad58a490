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

    A venue whose name begins with "ccxt:" needs the extra kill-switch[ccxt]. The last list has the ids of ccxt that are
    not offered, with the reasons.

    \b
    Examples:
      kill-switch venues
      kill-switch venues --json
    """
    from kill_switch.venues import EVERY_VENUE
    from kill_switch.venues.ccxt.refused import REFUSED

    if as_json:
        shown = {name: _facts(venue) for name, venue in EVERY_VENUE.items()}
        print_json({"venues": shown, "not_offered": {f"ccxt:{name}": why for name, why in REFUSED.items()}})
        return
    for name, venue in EVERY_VENUE.items():
        say("\n".join(_lines(name, venue)))
    say("not offered, though ccxt knows them")
    for reason in dict.fromkeys(REFUSED.values()):
        say(f"  {reason}\n    {', '.join(f'ccxt:{name}' for name, why in REFUSED.items() if why == reason)}")


def _facts(venue: type[VenueProfile]) -> dict[str, object]:
    return {
        "sends": venue.COMMANDS,
        "covered": venue.COVERED,
        "not_covered": venue.NOT_COVERED,
        "guesses": [guess._asdict() for guess in venue.GUESSES],
        "verified": venue.VERIFIED,
        "testnet": venue.Options.TESTNET or None,
        "own_adapter": venue.OWN_ADAPTER or None,
    }


def _lines(name: str, venue: type[VenueProfile]) -> Iterator[str]:
    yield f"{name} (verified against the live venue: {venue.VERIFIED or 'never'})"
    yield from _section('addresses with environment = "testnet"', venue.Options.TESTNET.values())
    if venue.OWN_ADAPTER:
        yield f"  served without ccxt too, as {venue.OWN_ADAPTER}"
    yield from _section("a kill sends", venue.COMMANDS)
    yield from _section("covered", venue.COVERED)
    yield from _section("not covered", venue.NOT_COVERED)
    yield from _section("guesses, and what covers a wrong one", (f"{fact}: {cover}" for fact, cover in venue.GUESSES))


def _section(title: str, phrases: Iterable[str]) -> Iterator[str]:
    lines = [f"    {phrase}" for phrase in phrases]
    return iter((f"  {title}", *lines) if lines else ())
