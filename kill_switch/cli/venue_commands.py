"""Print the reach of a kill at each venue: the command `venues`. No configuration is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from kill_switch.cli.common import ShowCommand, json_option, print_json, say

if TYPE_CHECKING:
    from kill_switch.venues.adapter import Adapter


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from kill_switch.venues import EVERY_VENUE

    return [name for name in EVERY_VENUE if name.startswith(incomplete)]


@click.command(cls=ShowCommand)
@click.argument("names", nargs=-1, metavar="[VENUE]...", shell_complete=_complete)
@json_option
def venues(names: Sequence[str], as_json: bool) -> None:
    """Show the reach of a kill at each venue, or all about one.

    Each venue has the commands of a kill, the orders that they cover, the orders that they do not cover, and the
    guesses. "Verified against the live venue" has the date of a proof there, or never. A guess is a fact that decides
    whether an order survives, and that nobody has confirmed; behind it is the remedy for a wrong guess.

    A venue that is named also has its keys and options, its addresses, its limits, and the sources of its numbers.

    A venue whose name begins with "ccxt:" needs the extra kill-switch[ccxt]; `venues` takes its id alone too. The last
    list has the ids of ccxt that are not offered, with the reasons.

    \b
    Examples:
      kill-switch venues
      kill-switch venues kraken ccxt:bitvavo
      kill-switch venues --json
    """
    from kill_switch.venues import EVERY_VENUE
    from kill_switch.venues.ccxt.adapter import PREFIX
    from kill_switch.venues.ccxt.refused import REFUSED

    every = {f"{PREFIX}{name}": why for name, why in REFUSED.items()}
    wanted = [_find(name, every) for name in dict.fromkeys(names)] or [*EVERY_VENUE, *every]
    shown = {name: EVERY_VENUE[name] for name in wanted if name not in every}
    refused = {name: every[name] for name in wanted if name in every}
    if as_json:
        print_json({"venues": {name: _facts(venue) for name, venue in shown.items()}, "not_offered": refused})
        return
    for name, venue in shown.items():
        say("\n".join((*_lines(name, venue), *(_details(venue) if names else ()))))
    if refused:
        say("not offered, though ccxt knows them")
    for reason in dict.fromkeys(refused.values()):
        say(f"  {reason}\n    {', '.join(name for name, why in refused.items() if why == reason)}")


def _find(name: str, refused: Iterable[str]) -> str:
    """Return the venue of this name, or of this id of ccxt; raise click's `BadParameter` for an unknown name."""
    from kill_switch.config.messages import closest_match
    from kill_switch.venues import EVERY_VENUE
    from kill_switch.venues.ccxt.adapter import PREFIX

    known = [*EVERY_VENUE, *refused]
    if exact := next((each for each in (name, f"{PREFIX}{name}") if each in known), None):
        return exact
    of_ccxt = [each for each in known if each.startswith(PREFIX)]
    among = of_ccxt if name.startswith(PREFIX) else reversed(known)  # else an adapter of our own comes before ccxt's
    by_id = {each.removeprefix(PREFIX): each for each in among}
    near = closest_match(name.removeprefix(PREFIX), by_id)
    hint = f"did you mean {by_id[near]!r}? " if near else ""
    raise click.BadParameter(f"no venue {name!r}; {hint}`kill-switch venues` shows all")


def _facts(venue: type[Adapter]) -> dict[str, object]:
    return {
        "sends": venue.COMMANDS,
        "covered": venue.COVERED,
        "not_covered": venue.NOT_COVERED,
        "guesses": [guess._asdict() for guess in venue.GUESSES],
        "verified": venue.VERIFIED,
        "testnet": venue.Options.TESTNET or None,
        "own_adapter": venue.OWN_ADAPTER or None,
        "keys": _keys(venue),
        "options": dict(_options(venue)),
        "addresses": _addresses(venue),
        "limits": _limits(venue),
        "sources": [{"fact": fact, "source": source} for fact, source in venue.SOURCED],
    }


def _lines(name: str, venue: type[Adapter]) -> Iterator[str]:
    yield f"{name} (verified against the live venue: {venue.VERIFIED or 'never'})"
    yield from _section('addresses with environment = "testnet"', venue.Options.TESTNET.values())
    if venue.OWN_ADAPTER:
        yield f"  served without ccxt too, as {venue.OWN_ADAPTER}"
    yield from _section("a kill sends", venue.COMMANDS)
    yield from _section("covered", venue.COVERED)
    yield from _section("not covered", venue.NOT_COVERED)
    yield from _section("guesses, and what covers a wrong one", (f"{fact}: {cover}" for fact, cover in venue.GUESSES))


def _details(venue: type[Adapter]) -> Iterator[str]:
    """Yield what only a venue that is named shows."""
    yield from _section("numbers, and their sources", (f"{fact}: {source}" for fact, source in venue.SOURCED))
    yield from _section("limits", _limits(venue))
    yield from _section("keys", (f"{key}: {note}" if note else key for key, note in _keys(venue).items()))
    options = (f"{key}: {says}" for key, says in _options(venue))
    yield from _section("options that it must have, or that choose its orders", options)
    yield from _section("addresses", (f"{key}: {url}" for key, url in _addresses(venue).items()))


def _section(title: str, phrases: Iterable[str]) -> Iterator[str]:
    lines = [f"    {phrase}" for phrase in phrases]
    return iter((f"  {title}", *lines) if lines else ())


def _keys(venue: type[Adapter]) -> dict[str, str]:
    """Return the secrets' notes by their keys: optional, only with an option."""
    from kill_switch.config.template import secret_notes

    return {key.removeprefix("#"): note for key, note in secret_notes(venue).items()}


def _options(venue: type[Adapter]) -> Iterator[tuple[str, str]]:
    """Yield the options without a default, and those that choose orders, with their meaning."""
    from kill_switch.config.template import to_toml

    for name, field in venue.Options.model_fields.items():
        says = venue.Options.describe(name)
        if field.is_required():
            yield name, f"{says}; an example: {to_toml(next(iter(field.examples or ()), ''))}"
        elif name in (*venue.SCOPE, *venue.PARTS):
            yield name, f"{says}; default: {to_toml(field.get_default(call_default_factory=True))}"


def _addresses(venue: type[Adapter]) -> dict[str, str]:
    fields = venue.Options.model_fields
    return {name: str(field.default) for name, field in fields.items() if name.endswith("_url") and field.default}


def _limits(venue: type[Adapter]) -> list[str]:
    return [str(pool) for pool in venue.pools(venue.Options.model_construct())]
