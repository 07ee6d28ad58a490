"""Report what moves in or out of the spot wallet, so that it is no profit and no loss (§ 5, § 9).

Each connection pushes transfers. The histories of deposits and withdrawals have those of the time in which no
connection was open; transfers between wallets are in neither. The account's equity is in one currency: a transfer of
another asset is valued at the pair's last price.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.binance.futures_transfers import MOST_ROWS, HistoryPart, WalletTransfer, is_new
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.kit.calls import Build, CallStarter
from kill_switch.venues.kit.missed_pushes import MissedPushes
from kill_switch.venues.kit.sessions import Message
from kill_switch.venues.kit.transfer_values import TransferValues
from kill_switch.venues.messages import Outputs, UnexplainedMessage

MAX_EVENTS = 4096  # events and rows that are remembered: each connection pushes the events
DEPOSITS, WITHDRAWALS = "deposits", "withdrawals"  # the kinds of the calls
CREDITED = frozenset({"1", "6"})  # statuses of a deposit that is in the wallet
RETURNED = frozenset({"1", "3", "5"})  # of a withdrawal that was cancelled or rejected, or has failed
SPOT_WALLET = frozenset({"", "0"})  # `walletType`; 1 is the funding wallet
CONFIRMED_MS = 24 * 3600 * 1000  # a deposit may wait so long for its confirmations: rows are found by their beginning
# while no connection pushes: each read of the withdrawals takes a tenth of what an account has in a minute (§ 7)
READ_EVERY_S = 10.0


class SpotHistory(NamedTuple):
    """The reader of a single history, for `HistoryPart`."""

    missed: MissedPushes
    read: Callable[[Any], Outputs]

    def on_history(self, data: Any) -> Outputs:
        return self.read(data)


class SpotTransfers:
    """The transfers of one account, each reported once."""

    def __init__(self, values: TransferValues, calls: CallStarter, get: Callable[..., Build]) -> None:
        """Make it without transfers; `get` returns the builder of a signed request to this path of the wallet API."""
        self.missed = MissedPushes()
        self._values = values
        self._calls = calls
        self._get = get
        self._seen: dict[tuple[str, ...], None] = {}  # pushes
        self._rows: dict[tuple[str, str], None] = {}  # kinds and ids of the histories' rows
        self._pushed: list[WalletTransfer] = []  # that no row has shown
        self._found: list[WalletTransfer] = []  # in rows, that no connection has pushed
        self._next_ns = 0  # no histories before, while no connection pushes and figures have followed them, monotonic

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
        at_ms = int(as_decimal(event.get("T")) or 0)
        return self._report(WalletTransfer(asset, amount, at_ms, at_ms), self._pushed, self._found)

    def measure(
        self, now: Instant, at_ms: int, request_figures: Callable[[Instant], Outputs], *, is_pushed: bool
    ) -> Outputs:
        """Request the figures, and before them the transfers that may be missing; `at_ms` is the venue's time in ms.

        `is_pushed`: a connection is open that pushes transfers. Nothing leaves while histories are under way or the
        venue wants none of them: the figures alone would look like profit or loss.
        """
        is_compared = self.missed.note_measured(at_ms, is_pushed=is_pushed)
        kinds = (DEPOSITS, WITHDRAWALS)
        if any(call.kind in kinds for call in self._calls.pending.values()):
            return ()
        if not is_compared or not self.missed.since_ms:
            return request_figures(now)
        if any(self._calls.is_held(kind, now) for kind in kinds) or (not is_pushed and now.mono_ns < self._next_ns):
            return ()
        since_ms = self.missed.take(at_ms, is_pushed=is_pushed)

        def go_on(later: Instant) -> Outputs:
            if not self._values.are_missing:
                self._next_ns = now.mono_ns + int(READ_EVERY_S * 1e9)
            return request_figures(later)

        def read_withdrawals(later: Instant) -> Outputs:
            history = SpotHistory(self.missed, lambda data: self._on_withdrawals(data, since_ms))
            return self._request(WITHDRAWALS, "withdraw/history", history, since_ms, since_ms, go_on, later)

        history = SpotHistory(self.missed, lambda data: self._on_deposits(data, since_ms))
        begin_ms = since_ms - CONFIRMED_MS
        return self._request(DEPOSITS, "deposit/hisrec", history, since_ms, begin_ms, read_withdrawals, now)

    def _request(
        self,
        kind: str,
        path: str,
        history: SpotHistory,
        since_ms: int,
        begin_ms: int,
        go_on: Callable[[Instant], Outputs],
        now: Instant,
    ) -> Outputs:
        part = HistoryPart(history, since_ms, go_on)
        request = self._get(f"capital/{path}", startTime=begin_ms, limit=MOST_ROWS)
        return self._calls.start_call(kind, request, now, context=part, on_loss=part.on_loss)

    def _on_deposits(self, data: Any, since_ms: int) -> Outputs:
        """Process the deposits: report those that were credited since then and that no connection has pushed."""
        outputs: Outputs = ()
        for row in _rows(data):
            begin, end = as_decimal(row.get("insertTime")), as_decimal(row.get("completeTime"))
            amount = as_decimal(row.get("amount"))
            if begin is None:
                outputs += self._on_row(DEPOSITS, row, None)
            elif as_text(row.get("status")) in CREDITED and (end or begin) >= since_ms:
                outputs += self._on_row(DEPOSITS, row, amount, int(begin), int(end or begin))
        return (*outputs, *_note_most(DEPOSITS, data))

    def _on_withdrawals(self, data: Any, since_ms: int) -> Outputs:
        """Process the withdrawals: report those that were requested since then and that no connection has pushed."""
        self.missed.note_read()
        outputs: Outputs = ()
        for row in _rows(data):
            begin_ms, end_ms = _utc_ms(row.get("applyTime")), _utc_ms(row.get("completeTime"))
            amount, fee = as_decimal(row.get("amount")), as_decimal(row.get("transactionFee") or "0")
            total = None if amount is None or fee is None else -amount - fee
            if not begin_ms:
                outputs += self._on_row(WITHDRAWALS, row, None)
            elif as_text(row.get("status")) not in RETURNED and begin_ms + 1000 > since_ms:  # it has whole seconds
                outputs += self._on_row(WITHDRAWALS, row, total, begin_ms, max(begin_ms, end_ms))
        return (*outputs, *_note_most(WITHDRAWALS, data))

    def _on_row(
        self, kind: str, row: dict[str, Any], amount: Decimal | None, begin_ms: int = 0, end_ms: int = 0
    ) -> Outputs:
        asset, name = as_text(row.get("coin")), (kind, as_text(row.get("id")))
        if not asset or not name[1] or amount is None:
            return (UnexplainedMessage(f"a row of the history of {kind} that cannot be read"),)
        if name in self._rows or as_text(row.get("walletType")) not in SPOT_WALLET:
            return ()
        self._rows[name] = None
        keep_latest(self._rows, MAX_EVENTS)
        return self._report(WalletTransfer(asset, amount, begin_ms, end_ms), self._found, self._pushed)

    def _report(self, transfer: WalletTransfer, ours: list[WalletTransfer], others: list[WalletTransfer]) -> Outputs:
        is_reported = is_new(transfer, ours, others, MAX_EVENTS)
        return self._values.report(transfer.asset, transfer.amount) if is_reported else ()


def _rows(data: Any) -> list[dict[str, Any]]:
    return [row if isinstance(row, dict) else {} for row in (data if isinstance(data, list) else [None])]


def _note_most(kind: str, data: Any) -> Outputs:
    if not isinstance(data, list) or len(data) < MOST_ROWS:
        return ()
    return (UnexplainedMessage(f"the history of {kind} has more rows than were read"),)


def _utc_ms(value: object) -> int:
    """Read a time such as "2019-10-12 11:12:02"; 0 if it is none."""
    try:
        return int(datetime.strptime(as_text(value), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return 0
