"""Make the tables of `docs/venues/ccxt.md` from the profiles: the ids that are offered, and those that are not.

Each table stands between two comments of the page. `tests.repository.reference` writes and compares it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kill_switch.venues.ccxt.offered import OFFERED
from kill_switch.venues.ccxt.profile import IdProfile
from kill_switch.venues.ccxt.refused import REFUSED

PAGE = Path(__file__).parents[2] / "docs/venues/ccxt.md"
_END = "<!-- end -->"


def offered() -> Iterator[Sequence[str]]:
    """Yield the rows of the ids that are offered."""
    yield "id", "venue", "products; the default first", "keys", "a kill sends", "proven by", "also as"
    for name, profile in OFFERED.items():
        parts = list(profile.products.values())
        cancels = dict.fromkeys(part.target(cancel.endpoint) for part in parts for cancel in part.cancels)
        lists = dict.fromkeys(part.target(listing.endpoint) for part in parts for listing in part.lists)
        by_symbol = ", for each symbol" if parts[0].is_by_symbol else ""
        yield (
            f"`ccxt:{name}`",
            profile.venue,
            _products(profile),
            _keys(profile),
            f"{_codes(cancels)}{by_symbol}",
            _codes(lists),
            profile.own_adapter,
        )


def reach() -> Iterator[Sequence[str]]:
    """Yield the rows of what each id covers, and of what is guessed."""
    yield "id", "covered", "not covered", "guesses"
    for name, profile in OFFERED.items():
        guesses = "; ".join(guess.fact for guess in profile.guesses)
        yield f"`ccxt:{name}`", profile.covered, "; ".join(profile.not_covered), guesses or "–"


def numbers() -> Iterator[Sequence[str]]:
    """Yield the rows of each id's numbers, with the sources that state them."""
    yield "id", "number", "stated by"
    for name, profile in OFFERED.items():
        for number, guess in profile.numbers.items():
            yield f"`ccxt:{name}`", guess.fact, getattr(profile.sources, number) or "– (a guess)"


def refused() -> Iterator[Sequence[str]]:
    """Yield the rows of the ids that are not offered, by their reasons."""
    yield "because", "ids"
    for reason in dict.fromkeys(REFUSED.values()):
        yield reason, ", ".join(f"`{name}`" for name, why in REFUSED.items() if why == reason)


def _products(profile: IdProfile) -> str:
    return ", ".join(f"{name} (`{product.host}`)" for name, product in profile.products.items())


def _keys(profile: IdProfile) -> str:
    settings = (f"`options.{name}`" for name in profile.settings)
    return ", ".join([*(f"`{name}`" for name in profile.secrets), *settings])


def _codes(targets: dict[str, None]) -> str:
    return ", ".join(f"`{target}`" for target in targets)


def made(page: str) -> str:
    """Return the page with each table as the profiles have it."""
    for name, rows in (("offered", offered), ("reach", reach), ("numbers", numbers), ("refused", refused)):
        begin = f"<!-- made from the profiles: {name} -->\n"
        before, found, rest = page.partition(begin)
        if not found or _END not in rest:
            raise ValueError(f"{PAGE}: there is no table between {begin.strip()} and {_END}")
        head, *body = [f"| {' | '.join(row)} |\n" for row in rows()]
        rule = "|" + "---|" * (head.count("|") - 1) + "\n"
        page = before + begin + "".join([head, rule, *body]) + _END + rest.partition(_END)[2]
    return page
