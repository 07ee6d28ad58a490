"""Read the figures of a Roxom account's equity: its balance, and its positions symbol by symbol.

The adapter owns one `RoxomEquityReader`, and passes it the answers and the events. `equity` combines the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.venues.decode import Evidence
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.messages import Outputs, Replied, UnexplainedMessage
from kill_switch.venues.roxom.equity import QUIET_S, EquityRead, EquityTracker
from kill_switch.venues.roxom.equity_replies import read_attached, read_positions, read_symbols

MAX_TRIES = 3  # reads until a balance that no balance event explains counts as it is
BALANCE = "balance"  # the part of a read that is no symbol
INSTRUMENTS = "/market/instruments"


class RoxomEquityReader:
    """Run an account's equity reads, one at a time; each ends in `Equity` or in an `UnexplainedMessage`."""

    def __init__(
        self,
        calls: CallStarter,
        book: OrderBook,
        timers: TimerTable,
        evidence: Evidence,
        request: Callable[[str, str], Build],
    ) -> None:
        """Make a reader; `request` signs a request, once, by its method and its target below the prefix."""
        self.tracker = EquityTracker()
        self._calls = calls
        self._book = book
        self._timers = timers
        self._evidence = evidence
        self._request = request
        self._builders: dict[str, Build] = {}  # target → its request, which is signed once
        self._symbols: tuple[str, ...] = ()  # in which positions can be held
        self._current: EquityRead | None = None

    def start(self, now: Instant) -> Outputs:
        """Request the balance and the open positions; at first, and after a gap in the events, of every symbol."""
        if not self._symbols:
            symbols = SymbolsPart(self)
            return self._calls.start_call(
                "symbols", self._get(INSTRUMENTS), now, context=symbols, on_loss=symbols.on_loss
            )
        return self._start_read(now, MAX_TRIES)

    def on_gap(self) -> None:
        """Drop the current read, because events may have been missed."""
        self.tracker.on_gap()
        self._current = None

    def on_symbols(self, reply: Reply, now: Instant) -> Outputs:
        """Process the list of instruments, and start a read of all their symbols."""
        self._symbols = (read_symbols(reply.data) or ()) if reply.ok else ()
        if not self._symbols:
            why = "no instruments can be read" if reply.ok else reply.evidence
            return (UnexplainedMessage(f"the account cannot be measured: {why}"),)
        return self._start_read(now, MAX_TRIES)

    def on_figure(self, part: str, read: EquityRead, reply: Reply) -> Outputs:
        """Process the balance, or the positions of a symbol; the last answer starts the wait for late events."""
        data = reply.data
        if read is not self._current:
            return ()
        if not reply.ok:
            why = reply.evidence
            if part != BALANCE:
                self._symbols = ()  # the symbol may no longer be traded
        elif part == BALANCE:
            why = self.tracker.add_balances(data, read)
        else:
            positions = read_positions(data, part, read.began_ns)
            read.positions[part] = positions or {}
            why = "the answer cannot be read" if positions is None else ""
        if why:
            self._current = None
            return (UnexplainedMessage(self._evidence(f"the account cannot be measured: {part}: {why}")),)
        read.missing.discard(part)
        attached = [Order(order_id, symbol, OrderState.LIVE, "attached") for order_id, symbol in read_attached(data)]
        seen = tuple(output for order in attached for output in self._book.claim(order))
        return seen if read.missing else (*seen, self._timers.start(QUIET_S, lambda at: self._end_read(read, at)))

    def _end_read(self, read: EquityRead, now: Instant) -> Outputs:
        """End this read; start another one if it is unknown which fills the balance includes."""
        if read is not self._current:
            return ()
        if wait_s := self.tracker.wait_s(read, now):
            return (self._timers.start(wait_s, lambda at: self._end_read(read, at)),)
        self._current = None
        if read.tries and not self.tracker.is_level_known(read, now):
            return self._start_read(now, read.tries)
        return self.tracker.settle(read, now)

    def _start_read(self, now: Instant, tries: int) -> Outputs:
        every = not self.tracker.known
        symbols = self._symbols if every else sorted(self.tracker.symbols)
        read = self._current = EquityRead(now.mono_ns, {BALANCE, *symbols}, every, tries - 1)
        targets = {BALANCE: "/accounts/balance?unit=sats"} | {
            symbol: f"/positions?instType=perpetual&symbol={quote(symbol, safe='')}&unit=sats" for symbol in symbols
        }
        calls: Outputs = ()
        for name, target in targets.items():
            part = FigurePart(self, name, read)
            calls += self._calls.start_call("figure", self._get(target), now, context=part, on_loss=part.on_loss)
        return calls

    def _get(self, target: str) -> Build:
        build = self._builders.get(target)
        if build is None:
            build = self._builders[target] = self._request("GET", target)
        return build


class SymbolsPart(NamedTuple):
    """The request for the list of instruments."""

    reader: RoxomEquityReader

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reader.on_symbols(reply, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the lanes report their own faults


class FigurePart(NamedTuple):
    """The request for one figure of a read."""

    reader: RoxomEquityReader
    name: str  # `BALANCE`, or the symbol of positions
    read: EquityRead

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reader.on_figure(self.name, self.read, reply)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the lanes report their own faults
