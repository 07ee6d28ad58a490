"""Tell a list of balances that lacks one from an account that has nothing left of it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

Amounts = Mapping[str, Decimal]


class BalanceChecker:
    """Remember which assets one account holds, and whether its venue lists those of which there is nothing."""

    def __init__(self) -> None:
        self._held: frozenset[str] = frozenset()
        self._lists_none = False

    def why_incomplete(self, amounts: Amounts) -> str:
        """Say why a list, zeros included, is not whole; "" if nothing speaks against it.

        A venue that lists an asset of which there is nothing does not leave out one that was sold. Of a venue that has
        never listed such an asset, one that is missing has been sold.
        """
        missing = sorted(self._held - amounts.keys())
        self._lists_none = self._lists_none or any(not amount for amount in amounts.values())
        return f"{', '.join(missing)} not listed any more" if missing and self._lists_none else ""

    def remember(self, amounts: Amounts) -> None:
        """Take note of a list that counts."""
        self._held = frozenset(asset for asset, amount in amounts.items() if amount)
