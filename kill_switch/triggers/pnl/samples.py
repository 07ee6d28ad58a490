"""Join the figures of several accounts to samples: the figures of a sample are all from one window. Pure.

Figures of different moments make a sum that was never true. So a sample is complete when every account has a figure
that no earlier sample has used, all requested within one window.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from kill_switch.core.domain import Instant

MAX_EQUITY = Decimal(10) ** 18  # no account has so much, in any currency
FUTURE_S = 1.0  # seconds that a sender's clock may be ahead of this host's
INTAKE = "intake"  # the one account of figures from outside
# a float is written with up to 21 decimals, a quotient of decimals with 28 digits behind its zeros
_EQUITY = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,60})?(?:[eE](?:-[0-9]{1,3}|\+?[0-9]{1,2}))?")

Amounts = Mapping[str, Decimal]  # by currency


class AccountValue(NamedTuple):
    """The equity of one account."""

    amounts: Amounts
    worth: Decimal  # of all amounts, in the trigger's currency
    asked_ns: int  # monotonic


class Sample(NamedTuple):
    """A figure of every account, all of one window."""

    figures: Mapping[str, AccountValue]
    worth: Decimal
    at: Instant

    @property
    def asked_ns(self) -> int:
        """The time at which the oldest of its figures was requested, monotonic."""
        return min(figure.asked_ns for figure in self.figures.values())

    def evidence(self) -> dict[str, object]:
        """Return the figures, and their age when the sample was complete."""
        return {
            "equity": str(self.worth),
            "mono_ns": self.at.mono_ns,
            "accounts": {
                name: {
                    "amounts": {currency: str(amount) for currency, amount in figure.amounts.items()},
                    "worth": str(figure.worth),
                    "age_ms": (self.at.mono_ns - figure.asked_ns) // 1_000_000,
                }
                for name, figure in self.figures.items()
            },
        }


class SampleCollector:
    """Hold each account's last figure, and count the figures that are ignored."""

    def __init__(self, accounts: Iterable[str], rates: Mapping[str, Decimal], window_s: float) -> None:
        """Start without a figure; `rates` has the worth of one unit of each currency, the trigger's own included."""
        self.window_s = window_s
        self.ignored = 0
        self.why_ignored = ""  # why the last one was
        self.unrated: dict[str, str] = {}  # account → amounts of currencies without a rate
        self.last: dict[str, AccountValue | None] = dict.fromkeys(accounts)
        self._rates = rates

    def add(self, account: str, amounts: Amounts, asked_ns: int, now_ns: int) -> bool:
        """Add a figure; return False if it is ignored. `ignored` counts it, unless it is the last figure again."""
        last = self.last[account]
        if not self.is_plausible(amounts):
            return False
        if not amounts:
            return self.count_ignored("no amount in it")
        if asked_ns > now_ns:
            return self.count_ignored("from the future")
        if last is not None and asked_ns == last.asked_ns and amounts == last.amounts:
            return False  # the same figure again
        if last is not None and asked_ns <= last.asked_ns:
            return self.count_ignored("not newer than the one before")
        held = {currency: amount + 0 for currency, amount in amounts.items() if amount}
        unrated = [f"{amount:f} {currency}" for currency, amount in held.items() if currency not in self._rates]
        if unrated:
            self.unrated[account] = ", ".join(unrated)
            return True
        worth = sum((amount * self._rates[currency] for currency, amount in held.items()), Decimal())
        if not self.is_plausible({"": worth}):
            return False
        self.unrated.pop(account, None)
        self.last[account] = AccountValue(dict(amounts), worth, asked_ns)
        return True

    def is_plausible(self, amounts: Amounts) -> bool:
        """Return whether these can be amounts of money; count them as ignored if not."""
        fine = all(amount.is_finite() and abs(amount) < MAX_EQUITY for amount in amounts.values())
        return fine or self.count_ignored("not a sensible number")

    def count_ignored(self, why: str) -> bool:
        """Count an ignored figure; return False."""
        self.ignored += 1
        self.why_ignored = why
        return False

    def next_sample(self, after: Sample | None, now: Instant, within_s: float) -> Sample | None:
        """Return the sample after that one, if every account has a new figure in it, none older than `within_s`
        seconds.
        """
        figures: dict[str, AccountValue] = {}
        for name, figure in self.last.items():
            used = after.figures.get(name) if after is not None else None
            if figure is None or (used is not None and figure.asked_ns <= used.asked_ns):
                return None
            figures[name] = figure
        asked = [figure.asked_ns for figure in figures.values()]
        if max(asked) - min(asked) > self.window_s * 1e9 or now.mono_ns - min(asked) > within_s * 1e9:
            return None
        return Sample(figures, sum((figure.worth for figure in figures.values()), Decimal()), now)


def parse_equity(value: object) -> Decimal | None:
    """Parse an equity from outside, as text or as JSON's number; None if it is no decimal number.

    An exponent is accepted, because programs write small and large numbers so (`5e-05`). A negative zero is not,
    because only a wrong computation yields it.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value if isinstance(value, str) else str(value)
    if _EQUITY.fullmatch(text) is None:
        return None
    amount = Decimal(text)
    return None if amount.is_zero() and amount.is_signed() else amount
