"""Check a venue's list of balances for missing assets. Adapters use it before they report an equity."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

Amounts = Mapping[str, Decimal]


class BalanceChecker:
    """Remember which assets an account holds, and whether its venue lists assets whose balance is zero."""

    def __init__(self) -> None:
        self._held: frozenset[str] = frozenset()
        self._lists_none = False

    def why_incomplete(self, amounts: Amounts) -> str:
        """Return why a list of balances, zeros included, is incomplete; "" if it may be whole.

        A venue that has listed a zero balance lists sold assets too: an asset that is missing makes its list
        incomplete. At a venue that has never listed a zero, a missing asset was sold.
        """
        missing = sorted(self._held - amounts.keys())
        self._lists_none = self._lists_none or any(not amount for amount in amounts.values())
        return f"{', '.join(missing)} not listed any more" if missing and self._lists_none else ""

    def remember(self, amounts: Amounts) -> None:
        """Remember the assets of a whole list."""
        self._held = frozenset(asset for asset, amount in amounts.items() if amount)
