"""Report what moves in or out of the spot wallet, so that it is no profit and no loss (§ 5, § 9).

The account's equity is in one currency. A transfer of another asset is valued at the pair's last price.
"""

from __future__ import annotations

from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.kit.sessions import Message
from kill_switch.venues.kit.transfer_values import TransferValues
from kill_switch.venues.messages import Outputs, UnexplainedMessage

MAX_EVENTS = 4096  # events that are remembered: each connection pushes them


class SpotTransfers:
    """The transfers of one account, each reported once."""

    def __init__(self, values: TransferValues) -> None:
        self._values = values
        self._seen: dict[tuple[str, ...], None] = {}

    def on_balance_update(self, event: Message) -> Outputs:
        """Process a balanceUpdate: a deposit, a withdrawal or a transfer between wallets (§ 5)."""
        asset, amount = as_text(event.get("a")), as_decimal(event.get("d"))
        if not asset or amount is None:
            return (UnexplainedMessage("a balanceUpdate that cannot be read"),)
        name = tuple(as_text(event.get(key)) for key in ("E", "T", "a", "d"))
        if name in self._seen:
            return ()  # another connection has pushed it
        self._seen[name] = None
        keep_latest(self._seen, MAX_EVENTS)
        return self._values.report(asset, amount)
