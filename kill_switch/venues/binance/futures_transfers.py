"""Separate deposits, withdrawals and transfers from profit and loss at Binance's futures (docs/venues/binance.md § 9).

ACCOUNT_UPDATE names its reason. Each connection pushes it, and it is reported once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.messages import Outputs, Transferred, UnexplainedMessage

# reasons by which an asset comes or goes; ORDER, FUNDING_FEE and INSURANCE_CLEAR are profit and loss
TRANSFERS = frozenset(
    {"DEPOSIT", "WITHDRAW", "WITHDRAW_REJECT", "ADMIN_DEPOSIT", "ADMIN_WITHDRAW", "ASSET_TRANSFER"}
    | {"COIN_SWAP_DEPOSIT", "COIN_SWAP_WITHDRAW", "AUTO_EXCHANGE"}
)
MAX_SEEN = 1024  # changes of a balance that are remembered


class FuturesTransfers:
    """The transfers of one account."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], None] = {}

    def on_update(self, message: Mapping[str, Any]) -> Outputs:
        """Process an ACCOUNT_UPDATE: of a transfer, report the change of each balance that is no profit or loss."""
        update = message.get("a")
        fields = update if isinstance(update, dict) else {}
        reason, balances = as_text(fields.get("m")), fields.get("B")
        if reason not in TRANSFERS:
            return ()
        outputs: Outputs = ()
        for item in balances if isinstance(balances, list) else (None,):
            change = item if isinstance(item, dict) else {}
            asset, amount = as_text(change.get("a")), as_decimal(change.get("bc"))
            if not asset or amount is None:
                outputs += (UnexplainedMessage(f"an ACCOUNT_UPDATE of {reason} that cannot be read"),)
                continue
            key = (as_text(message.get("T")), reason, asset, str(amount), as_text(change.get("wb")))
            if amount and key not in self._seen:
                self._seen[key] = None
                outputs += (Transferred(asset, amount),)
        keep_latest(self._seen, MAX_SEEN)
        return outputs
