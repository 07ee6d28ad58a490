"""Measure the account, and separate deposits, withdrawals and transfers from its result (docs/venues/deribit.md § 9).

No channel pushes a deposit. If the balance of a currency has changed, its transaction log is read before the new
figures are reported. It is read once more with the next figures, because a row may appear after the change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import Evidence, as_decimal, as_text, parse_json
from kill_switch.venues.deribit.replies import NO_SCOPE, refused_code, venue_ms
from kill_switch.venues.kit.balances import BalanceChecker
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import Equity, Outputs, Replied, Transferred, UnexplainedMessage

TRANSFERS = frozenset({"deposit", "withdrawal", "transfer"})  # types of rows of the log
PAGE_ROWS = 250
MAX_PAGES = 8  # of a currency's log in one measurement; the next measurement reads on
REFUSED_S = 600.0  # after which a key without the scope is tried again
OVERLAP_MS = 5000  # a row may appear so much later than its time; one that was seen does not count again
MAX_ROWS = 4096  # rows of transfers that are remembered


class Figures(NamedTuple):
    """The figures of one answer; `balances` are without open results."""

    amounts: Mapping[str, Decimal]
    balances: Mapping[str, Decimal]
    cross: frozenset[str]  # currencies under cross collateral, whose equity is one figure in USD


class LoggedTransfer(NamedTuple):
    row: str
    currency: str
    amount: Decimal


class LogPart(NamedTuple):
    """A part of a currency's log, and how far it has been read; times are the venue's, in ms."""

    since_ms: int
    until_ms: int
    cursor: object = ""  # of its next page; "": it has not been read


class Measurement:
    """Figures that wait for the logs and the prices that explain them."""

    def __init__(self, figures: Figures, asked_ns: int, at_ms: int) -> None:
        self.figures = figures
        self.asked_ns = asked_ns
        self.at_ms = at_ms  # the venue's time, at which the figures had been made
        self.waiting = 0
        self.trouble = ""
        self.moved: set[str] = set()  # currencies whose balance has changed since the last figures
        self.transfers: list[LoggedTransfer] = []
        self.prices: dict[str, Decimal] = {}  # currency → USD


Handler = Callable[[Reply, Replied, Instant], Outputs]


class AccountMeter:
    """The measurements of one account, one at a time."""

    def __init__(self, get: Callable[..., Build], calls: CallStarter, evidence: Evidence) -> None:
        self._get = get
        self._calls = calls
        self._evidence = evidence
        self._last: Figures | None = None  # of the last measurement that was reported
        self._since_ms = 0  # the time of the first figures: rows before it are in them
        self._read_ms = 0  # the time of the last figures
        self._moved: set[str] = set()  # currencies whose balance had changed then: a row may appear after its change
        self._seen: dict[str, None] = {}
        self._unread: dict[str, LogPart] = {}  # currency → its log, of which no measurement has read the end yet
        self._kept: dict[str, LoggedTransfer] = {}  # row → transfer in the pages of `_unread` that have been read
        self._refused_until_ns = 0  # the key may not read figures, monotonic
        self._listed = BalanceChecker()

    def measure(self, now: Instant) -> Outputs:
        """Request the figures; ends in one `Equity`, with the transfers that it contains before it."""
        asked_ns = now.mono_ns
        if asked_ns < self._refused_until_ns:
            return ()
        return self._ask("private/get_account_summaries", now, partial(self._on_figures, asked_ns))

    def _ask(self, method: str, now: Instant, on_reply: Handler, **params: object) -> Outputs:
        part = MeasurementPart(on_reply)
        return self._calls.start_call("equity", self._get(method, **params), now, context=part, on_loss=part.on_loss)

    def _on_figures(self, asked_ns: int, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        figures = read_figures(reply.data) if reply.ok else reply.evidence
        if isinstance(figures, str):
            if refused_code(reply) in NO_SCOPE:
                self._refused_until_ns = now.mono_ns + int(REFUSED_S * 1e9)
            return _fail(figures)
        at_ms = venue_ms(parse_json(replied.body)) or now.wall_ms
        work, last = Measurement(figures, asked_ns, at_ms), self._last
        if last is None:
            self._since_ms = at_ms
            return self._report(work)
        if why := self._listed.why_incomplete(figures.balances):
            return _fail(why)
        work.moved = {name for name, balance in figures.balances.items() if last.balances.get(name) != balance}
        outputs: Outputs = ()
        since_ms = max(self._since_ms, self._read_ms - OVERLAP_MS)
        for currency in sorted(work.moved | self._moved | self._unread.keys()):
            part = self._unread.get(currency, LogPart(since_ms, at_ms))
            outputs += self._request_log(work, currency, part, now)
        return outputs or self._report(work)

    def _request_log(self, work: Measurement, currency: str, part: LogPart, now: Instant, number: int = 1) -> Outputs:
        """Request the next page of a part; it is the `number`th page of this currency in this measurement."""
        work.waiting += 1
        continued = {"continuation": part.cursor} if part.cursor else {}
        return self._ask(
            "private/get_transaction_log",
            now,
            partial(self._on_log, work, currency, part, number),
            currency=currency,
            start_timestamp=part.since_ms,
            end_timestamp=part.until_ms,
            count=PAGE_ROWS,
            **continued,
        )

    def _on_log(
        self,
        work: Measurement,
        currency: str,
        part: LogPart,
        number: int,
        reply: Reply,
        replied: Replied,
        now: Instant,
    ) -> Outputs:
        work.waiting -= 1
        fields = reply.data if reply.ok and isinstance(reply.data, dict) else {}
        rows, cursor = fields.get("logs"), fields.get("continuation")
        if not isinstance(rows, list):
            self._unread.pop(currency, None)  # its next page may be gone
            work.trouble = "the transaction log cannot be read" if reply.ok else reply.evidence
            return self._go_on(work, now)
        for row in rows:
            transfer = _read_row(row, currency)
            if isinstance(transfer, str):
                self._unread.pop(currency, None)  # so that it is read again
                work.trouble = transfer
                return self._go_on(work, now)
            if transfer is not None and transfer.row not in self._seen:
                work.transfers.append(transfer)
        if cursor and number < MAX_PAGES:
            return self._request_log(work, currency, part._replace(cursor=cursor), now, number + 1)
        if cursor:
            self._read_on(work, currency, part._replace(cursor=cursor))
            work.trouble = f"the transaction log of {currency} has over {MAX_PAGES} pages, and is read on"
        elif part.until_ms < work.at_ms:  # an earlier measurement's part: the log since then follows
            newer = LogPart(max(part.since_ms, part.until_ms - OVERLAP_MS), work.at_ms)
            self._read_on(work, currency, newer)
            return self._request_log(work, currency, newer, now, number + 1)
        else:
            self._unread.pop(currency, None)
        return self._go_on(work, now)

    def _read_on(self, work: Measurement, currency: str, part: LogPart) -> None:
        """Note where the log of a currency goes on, and keep what has been found before that."""
        self._unread[currency] = part
        self._kept.update((each.row, each) for each in work.transfers if each.currency == currency)
        keep_latest(self._kept, MAX_ROWS)

    def _go_on(self, work: Measurement, now: Instant) -> Outputs:
        """Request the prices of transfers under cross collateral, or report."""
        if work.waiting:
            return ()
        if work.trouble:
            return _fail(work.trouble)
        work.transfers = list({**self._kept, **{each.row: each for each in work.transfers}}.values())
        wanted = {each.currency for each in work.transfers} & work.figures.cross - work.prices.keys()
        outputs: Outputs = ()
        for currency in sorted(wanted):
            work.waiting += 1
            outputs += self._ask(
                "public/get_index_price",
                now,
                partial(self._on_price, work, currency),
                index_name=f"{currency.lower()}_usd",
            )
        return outputs if wanted else self._report(work)

    def _on_price(self, work: Measurement, currency: str, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        work.waiting -= 1
        price = as_decimal(reply.data.get("index_price")) if reply.ok and isinstance(reply.data, dict) else None
        if price is None or price <= 0:
            work.trouble = f"a transfer of {self._evidence(currency)} has no value in USD"
        else:
            work.prices[currency] = price
        return self._go_on(work, now)

    def _report(self, work: Measurement) -> Outputs:
        figures, transfers = work.figures, {each.row: each for each in work.transfers if each.row not in self._seen}
        self._last, self._read_ms, self._moved = figures, work.at_ms, work.moved
        self._kept.clear()
        self._listed.remember(figures.balances)
        self._seen.update(dict.fromkeys(transfers))
        keep_latest(self._seen, MAX_ROWS)
        facts = [_told(each, figures.cross, work.prices) for each in transfers.values()]
        return (*facts, Equity(figures.amounts, work.asked_ns))


class MeasurementPart(NamedTuple):
    """A request of a measurement."""

    handle: Handler

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.handle(reply, replied, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the lanes report their own faults; the next measurement begins anew


def read_figures(data: Any) -> Figures | str:
    """Read the figures of `get_account_summaries`, or return why they cannot be read.

    Under cross collateral the equity of all its currencies is one figure in USD, which each of them repeats.
    """
    rows = data.get("summaries") if isinstance(data, dict) else None
    amounts, balances, cross = dict[str, Decimal](), dict[str, Decimal](), set[str]()
    for row in rows if isinstance(rows, list) else ():
        fields = row if isinstance(row, dict) else {}
        currency, is_cross = as_text(fields.get("currency")).upper(), fields.get("cross_collateral_enabled") is True
        equity = as_decimal(fields.get("total_equity_usd" if is_cross else "equity"))
        balance = as_decimal(fields.get("balance"))
        if not currency or equity is None or balance is None:
            return "a summary without currency, equity or balance"
        balances[currency] = balance
        if is_cross:
            cross.add(currency)
        amounts["USD" if is_cross else currency] = equity
    # of an account that has lost all, the zeros are the figures
    held = {currency: amount for currency, amount in amounts.items() if amount} or amounts
    return Figures(held, balances, frozenset(cross)) if balances else "no summaries in the answer"


def _read_row(row: object, currency: str) -> LoggedTransfer | str | None:
    """Read a row of the log: a transfer, None for another row, or why a transfer cannot be read."""
    fields = row if isinstance(row, dict) else {}
    kind = as_text(fields.get("type"))
    if kind not in TRANSFERS:
        return None
    amount, number = as_decimal(fields.get("change")), as_text(fields.get("id")) or as_text(fields.get("user_seq"))
    if amount is None or not number:
        return f"a {kind} that cannot be read"
    return LoggedTransfer(f"{currency} {number}", currency, amount)


def _told(transfer: LoggedTransfer, cross: frozenset[str], prices: Mapping[str, Decimal]) -> Transferred:
    _, currency, amount = transfer
    return Transferred("USD", amount * prices[currency]) if currency in cross else Transferred(currency, amount)


def _fail(why: str) -> Outputs:
    return (UnexplainedMessage(f"the account cannot be measured: {why}"),)
