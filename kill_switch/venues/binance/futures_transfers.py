"""Separate deposits, withdrawals and transfers from profit and loss at Binance's futures (docs/venues/binance.md § 9).

ACCOUNT_UPDATE names its reason. Each connection pushes it, and it is reported once. The history of the account's income
has the transfers of the time in which no connection was open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.missed_pushes import MissedPushes
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import Outputs, Replied, Transferred, UnexplainedMessage

# reasons by which an asset comes or goes; ORDER, FUNDING_FEE and INSURANCE_CLEAR are profit and loss
TRANSFERS = frozenset(
    {"DEPOSIT", "WITHDRAW", "WITHDRAW_REJECT", "ADMIN_DEPOSIT", "ADMIN_WITHDRAW", "ASSET_TRANSFER"}
    | {"COIN_SWAP_DEPOSIT", "COIN_SWAP_WITHDRAW", "AUTO_EXCHANGE"}
)
INCOME = "income"  # the kind of the calls
TRANSFER, MOST_ROWS = "TRANSFER", 1000  # the kind of rows that the history is asked for, and how many
MAX_SEEN = 1024  # changes of a balance that are remembered
SAME_MS = 10_000  # a push and a row of the same amount are one transfer if their times are so close


class WalletTransfer(NamedTuple):
    """A transfer, which may be pushed at any time from its beginning to its end, in milliseconds."""

    asset: str
    amount: Decimal
    begin_ms: int
    end_ms: int

    def is_same(self, other: WalletTransfer) -> bool:
        overlap_ms = min(self.end_ms, other.end_ms) - max(self.begin_ms, other.begin_ms)
        return self[:2] == other[:2] and overlap_ms >= -SAME_MS


class FuturesTransfers:
    """The transfers of one account. Times are the venue's, in milliseconds."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], None] = {}  # pushes
        self._rows: dict[str, None] = {}  # ids of the history's rows
        self._pushed: list[WalletTransfer] = []  # that no row has shown
        self._found: list[WalletTransfer] = []  # in rows, that no connection has pushed
        self.missed = MissedPushes()

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
                at_ms = int(as_decimal(message.get("T")) or 0)
                transfer = WalletTransfer(asset, amount, at_ms, at_ms)
                outputs += _report(transfer, self._pushed, self._found)
        keep_latest(self._seen, MAX_SEEN)
        return outputs

    def on_history(self, data: Any) -> Outputs:
        """Process the history: report the rows that no connection has pushed."""
        self.missed.note_read()
        rows = data if isinstance(data, list) else [None]
        outputs: Outputs = ()
        for item in rows:
            row = item if isinstance(item, dict) else {}
            asset, amount = as_text(row.get("asset")), as_decimal(row.get("income"))
            number, at_ms = as_text(row.get("tranId")), as_decimal(row.get("time"))
            if not asset or amount is None or not number or at_ms is None:
                outputs += (UnexplainedMessage("a row of the income history that cannot be read"),)
            elif row.get("incomeType") == TRANSFER and number not in self._rows:
                self._rows[number] = None
                outputs += _report(WalletTransfer(asset, amount, int(at_ms), int(at_ms)), self._found, self._pushed)
        keep_latest(self._rows, MAX_SEEN)
        if len(rows) >= MOST_ROWS:
            outputs += (UnexplainedMessage("the income history has more transfers than were read"),)
        return outputs


class TransferHistory(Protocol):
    """The reader of a history of transfers."""

    @property
    def missed(self) -> MissedPushes: ...

    def on_history(self, data: Any) -> Outputs:
        """Process the history: report the transfers that no connection has pushed."""
        ...


class HistoryPart(NamedTuple):
    """A request for the transfers since a time; figures are requested behind it, or it is tried again before them."""

    transfers: TransferHistory
    since_ms: int
    measure: Callable[[Instant], Outputs]

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        if reply.ok:
            return (*self.transfers.on_history(reply.data), *self.measure(now))
        is_refused = reply.outcome is ReplyOutcome.REFUSED and replied.status < 500  # and not for a time only
        if self.transfers.missed.tries_again(self.since_ms, is_refused=is_refused):
            return ()
        return (UnexplainedMessage(f"a transfer may be taken for profit or loss: {reply.evidence}"), *self.measure(now))

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        if self.transfers.missed.tries_again(self.since_ms, is_refused=False):
            return ()
        return (UnexplainedMessage(f"a transfer may be taken for profit or loss: {why}"), *self.measure(now))


def _report(transfer: WalletTransfer, ours: list[WalletTransfer], others: list[WalletTransfer]) -> Outputs:
    return (Transferred(transfer.asset, transfer.amount),) if is_new(transfer, ours, others, MAX_SEEN) else ()


def is_new(transfer: WalletTransfer, ours: list[WalletTransfer], others: list[WalletTransfer], most: int) -> bool:
    """Return whether the other source has not shown a transfer; each of the two shows it once.

    A new one is put behind those that only our source has shown; the last `most` of these are kept.
    """
    for number, other in enumerate(others):
        if transfer.is_same(other):
            del others[number]
            return False
    ours.append(transfer)
    del ours[:-most]
    return True
