"""Report the figures of an account at Binance's futures, and before them the transfers that they contain (§ 9).

An open connection pushes each transfer; where pushes may be missing, figures wait for the history of transfers. Without
a connection it is read every `READ_EVERY_S` at most. Once `READS` answers have explained the balances of the wallets,
no more are needed: nothing comes or goes until a balance changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.venues.binance.futures_replies import read_wallets
from kill_switch.venues.binance.futures_stream import UserStream
from kill_switch.venues.binance.futures_transfers import INCOME, HistoryPart
from kill_switch.venues.kit.call_parts import EquityPart
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import Equity, Outputs, Replied

READ_EVERY_S = 10.0  # three accounts whose wallets change all the time take a quarter of the limit
READS = 2  # because the history may show a row later than the figures


class FuturesEquity:
    """The figures of one account. `venue_ms` arguments are the venue's time, in milliseconds."""

    def __init__(
        self,
        stream: UserStream,
        calls: CallStarter,
        account: Build,
        read: Callable[[Any], Mapping[str, Decimal] | str],
        history: Callable[[int], Build],
        has_room: Callable[[Instant], bool],
    ) -> None:
        """Create it without figures.

        `account` builds the request for the figures, and `read` reads them, or returns why it cannot. `history`
        returns the builder of a request for the transfers since a venue's time, and `has_room` whether the limit has
        room for it now.
        """
        self._stream = stream
        self._calls = calls
        self._account = account
        self._part = EquityPart(read)
        self._history = history
        self._has_room = has_room
        self._wallets: Mapping[str, Decimal] | None = None  # of the last figures that waited for the history
        self._reads = 0  # answers of the history that these figures, and equal ones, waited for
        self._is_compared = False  # figures have been reported: the next ones are compared with them
        self._next_ns = 0  # no history before, while no connection is open, monotonic

    def request(self, now: Instant, venue_ms: int) -> Outputs:
        """Request the figures, unless earlier ones still wait for the history."""
        if any(call.kind == INCOME for call in self._calls.pending.values()):
            return ()
        self._stream.transfers.missed.note_measured(venue_ms, is_pushed=self._stream.is_open)
        part = _FiguresPart(self._part, self._on_figures, venue_ms)
        return self._calls.start_call("equity", self._account, now, context=part, on_loss=part.on_loss)

    def _on_figures(self, figures: Equity, data: Any, venue_ms: int, now: Instant) -> Outputs:
        """Report the figures, or read the history before; without room for it they are dropped."""
        transfers, wallets, is_open = self._stream.transfers, read_wallets(data), self._stream.is_open
        if not transfers.missed.since_ms or not self._is_compared:
            self._wallets, self._reads = None, 0  # because wallets may change until the next gap, and change back
            return self._report(figures)
        if wallets is not None and wallets == self._wallets and self._reads >= READS:
            return self._report(figures)
        if not self._has_room(now) or (not is_open and now.mono_ns < self._next_ns):
            return ()
        self._next_ns = now.mono_ns + int(READ_EVERY_S * 1e9)
        since_ms = transfers.missed.take(venue_ms, is_pushed=is_open)
        part = HistoryPart(transfers, since_ms, lambda _: self._report_explained(figures, wallets))
        return self._calls.start_call(INCOME, self._history(since_ms), now, context=part, on_loss=part.on_loss)

    def _report_explained(self, figures: Equity, wallets: Mapping[str, Decimal] | None) -> Outputs:
        self._reads = self._reads + 1 if wallets == self._wallets else 1
        self._wallets = wallets
        return self._report(figures)

    def _report(self, figures: Equity) -> Outputs:
        self._is_compared = True
        return (figures,)


class _FiguresPart(NamedTuple):
    """A request for the figures; `venue_ms` is when it was made."""

    part: EquityPart
    on_figures: Callable[[Equity, Any, int, Instant], Outputs]
    venue_ms: int

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        outputs = self.part.on_reply(call, reply, replied, now)
        figures = [output for output in outputs if isinstance(output, Equity)]
        return self.on_figures(figures[0], reply.data, self.venue_ms, now) if figures else outputs

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.part.on_loss(call, why, now)
