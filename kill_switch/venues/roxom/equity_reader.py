"""Read the figures of a Roxom account's equity: its balance, and its positions symbol by symbol.

The adapter owns one `RoxomEquityReader`, and passes it the answers and the events. `equity` combines the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.venues.decode import Evidence
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.messages import Outputs, UnexplainedMessage, WakeAfter
from kill_switch.venues.request import Request
from kill_switch.venues.roxom.equity import QUIET_S, EquityRead, EquityTracker
from kill_switch.venues.roxom.equity_replies import read_attached, read_positions, read_symbols
from kill_switch.venues.roxom.signing import constant

MAX_TRIES = 3  # reads until a balance that no balance event explains counts as it is
BALANCE = "balance"  # the part of a read that is no symbol
INSTRUMENTS = "/market/instruments"


class RoxomEquityReader:
    """Run an account's equity reads, one at a time; each ends in `Equity` or in an `UnexplainedMessage`."""

    def __init__(
        self, calls: CallStarter, book: OrderBook, evidence: Evidence, request: Callable[[str, str], Request]
    ) -> None:
        """Make a reader; `request` builds a signed request from a method and a target below the prefix."""
        self.tracker = EquityTracker()
        self._calls = calls
        self._book = book
        self._evidence = evidence
        self._request = request
        self._builders: dict[str, Build] = {}  # target → its request, which is signed once
        self._symbols: tuple[str, ...] = ()  # in which positions can be held
        self._started = 0  # reads so far: the number of the current one
        self._current: EquityRead | None = None

    def start(self, now: Instant) -> Outputs:
        """Request the balance and the open positions; at first, and after a gap in the events, of every symbol."""
        if not self._symbols:
            return self._calls.start_call("symbols", self._get(INSTRUMENTS), now)
        return self._start_read(now, MAX_TRIES)

    def on_gap(self) -> None:
        """Drop the current read, because events may have been missed."""
        self.tracker.on_gap()
        self._current = None

    def on_symbols(self, data: object, refusal: str | None, now: Instant) -> Outputs:
        """Process the list of instruments, and start a read of all their symbols."""
        self._symbols = (read_symbols(data) or ()) if refusal is None else ()
        if not self._symbols:
            why = refusal or "no instruments can be read"
            return (UnexplainedMessage(f"the account cannot be measured: {why}"),)
        return self._start_read(now, MAX_TRIES)

    def on_figure(self, call: PendingCall, data: object, refusal: str | None) -> Outputs:
        """Process the balance, or the positions of a symbol; the last answer starts the wait for late events."""
        part: str = call.part[0]
        read: EquityRead = call.part[1]
        if read is not self._current:
            return ()
        if refusal is not None:
            why = refusal
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
        return seen if read.missing else (*seen, WakeAfter(f"measured {self._started}", QUIET_S))

    def on_timer(self, number: int, now: Instant) -> Outputs:
        """End the read of this number; start another one if it is unknown which fills the balance includes."""
        read = self._current
        if read is None or number != self._started:
            return ()
        if wait_s := self.tracker.wait_s(read, now):
            return (WakeAfter(f"measured {number}", wait_s),)
        self._current = None
        if read.tries and not self.tracker.is_level_known(read, now):
            return self._start_read(now, read.tries)
        return self.tracker.settle(read, now)

    def _start_read(self, now: Instant, tries: int) -> Outputs:
        every = not self.tracker.known
        symbols = self._symbols if every else sorted(self.tracker.symbols)
        self._started += 1
        read = self._current = EquityRead(now.mono_ns, {BALANCE, *symbols}, every, tries - 1)
        calls = self._calls.start_call("figure", self._get("/accounts/balance?unit=sats"), now, context=(BALANCE, read))
        for symbol in symbols:
            target = f"/positions?instType=perpetual&symbol={quote(symbol, safe='')}&unit=sats"
            calls += self._calls.start_call("figure", self._get(target), now, context=(symbol, read))
        return calls

    def _get(self, target: str) -> Build:
        build = self._builders.get(target)
        if build is None:
            build = self._builders[target] = constant(self._request("GET", target))
        return build
