"""Keep CrossTrade's figures coming: pushed every second while they are wanted, asked for where they are not.

A sum is of one message: figures of two moments make a fall that never was. The stream is asked for on each connection,
and costs nothing after that; while it is silent the snapshot is read, if the token is not needed for a kill. The
venue's own watermarks are the last resort, for one account alone, and never while the add-on is away or the account is
not connected: they would stand still, and to know nothing is better than to believe that nothing moves (§5, §6 of
docs/venues/crosstrade.md).

A message says of which moment it is (`epoch`, milliseconds). A second one of the same moment is no second figure.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.replies import AccountDirectory, NoEquity, Words, failure, standing
from kill_switch.venues.crosstrade.tokens import RequestFactory, path_of
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.messages import Equity, Outputs, Send, UnexplainedMessage
from kill_switch.venues.request import Request

CURRENCY = "USD"
FRESH_S = 3.0  # no figure pushed for that long: ask
LATE_MS = 10_000  # one that is further behind, with none of a later moment for `FRESH_S`: the venue's clock was set
MOMENTS_KEPT = 64  # of messages: what stands still may come beside what goes on
STREAM_AGAIN_S = 15.0  # a stream that brings nothing is asked for again, not sooner
STREAM = b'{"action":"streamPnl","enabled":true,"interval":1000}'


class EquityReader:
    """PendingCall for what the accounts are worth, and read what comes."""

    KINDS = frozenset({"measure", "watermarks"})

    def __init__(
        self, wire: RequestFactory, ours: AccountDirectory, calls: CallStarter, words: Words, snapshot: Request
    ) -> None:
        self._wire = wire
        self._ours = ours
        self._calls = calls
        self._words = words
        self._snapshot = snapshot
        self._streams: dict[int, int] = {}  # connection → when it was asked for a stream
        self._pushed_ns: int | None = None  # when the last figure came by itself
        self._odd: set[int] = set()  # connections whose pushes cannot be read, which was said
        self._moments: dict[Decimal | str, None] = {}  # of the last messages, as the venue has them
        self._latest, self._latest_ns = Decimal(0), 0  # epoch of the last figure that had one, and when it came
        self._said = ""  # why the last snapshot was no figure

    def measure(self, now: Instant) -> Outputs:
        if self._pushed_ns is not None and now.mono_ns - self._pushed_ns <= FRESH_S * 1e9:
            return ()
        outputs: Outputs = ()
        conn = self._wire.newest
        if conn is not None and self._wants_stream(conn, now) and self._wire.bucket.spare(now, 1):
            self._wire.bucket.spend(now)
            self._streams[conn] = now.mono_ns
            outputs = (Send(conn, STREAM),)
        if self._wire.bucket.spare(now, 1) or self._wire.bucket.contended(now):  # a refusal costs nothing
            outputs += self._calls.start_call("measure", self._wire.paid(self._snapshot), now)
        return outputs

    def _wants_stream(self, conn: int, now: Instant) -> bool:
        asked_ns = self._streams.get(conn)
        return asked_ns is None or now.mono_ns - asked_ns >= STREAM_AGAIN_S * 1e9

    def pushed(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        """Take a `pnlUpdate`, if its elements are those of the snapshot: what they are is not documented (§6)."""
        worth = self._ours.worth(message)
        if not isinstance(worth, NoEquity):
            if not self._newer(message, now):
                return ()
            self._pushed_ns = now.mono_ns
            return (Equity({CURRENCY: worth}, now.mono_ns),)
        if conn in self._odd:
            return ()
        self._odd.add(conn)
        return (UnexplainedMessage(self._words("a push of figures:", worth.why)),)

    def closed(self, conn: int) -> None:
        self._streams.pop(conn, None)
        self._odd.discard(conn)

    def answered(self, call: PendingCall, body: Any, status: int, now: Instant) -> Outputs:
        wrong = failure(status, body, self._words)
        if call.kind == "watermarks":
            worth = standing(body) if wrong is None else None
            return (_equity(worth, call) if worth else UnexplainedMessage("the watermarks cannot be read"),)
        if wrong is not None:
            return () if wrong.limited or wrong.offline or wrong.nothing else self._watermarks(now)
        total = self._ours.worth(body)
        if isinstance(total, NoEquity):
            outputs = self._say(self._words("the snapshot:", total.why))
            return outputs if total.away else (*outputs, *self._watermarks(now))
        if self._newer(body, now):
            self._said = ""
            return (_equity(total, call),)
        if now.mono_ns - (self._pushed_ns or 0) <= FRESH_S * 1e9:
            return ()  # a push has overtaken it
        return self._say("the snapshot stands still: it is of the same moment as the figures before")

    def _say(self, why: str) -> Outputs:
        """Say why a snapshot is no figure, unless it was said of the one before."""
        previous, self._said = self._said, why
        return () if previous == why else (UnexplainedMessage(why),)

    def _newer(self, message: dict[str, Any], now: Instant) -> bool:
        """Say whether a message is of a later moment than the figures before; one that states no moment is."""
        epoch = as_decimal(message.get("epoch"))
        moment = as_text(message.get("timestamp")) if epoch is None else epoch
        if not moment:
            return True
        is_again = moment in self._moments
        self._moments.pop(moment, None)
        self._moments[moment] = None
        if len(self._moments) > MOMENTS_KEPT:
            del self._moments[next(iter(self._moments))]
        if is_again:
            return False
        if isinstance(moment, Decimal):
            behind, since_ns = self._latest - moment, now.mono_ns - self._latest_ns
            if 0 < behind <= LATE_MS or (behind > LATE_MS and since_ns <= FRESH_S * 1e9):
                return False
            self._latest, self._latest_ns = moment, now.mono_ns
        return True

    def _watermarks(self, now: Instant) -> Outputs:
        [name, *others] = self._ours.names
        if others or not self._wire.bucket.spare(now, 1):
            return ()
        request = self._wire.request("GET", f"{path_of(name)}/watermarks")
        return self._calls.start_call("watermarks", self._wire.paid(request), now)


def _equity(worth: Decimal, call: PendingCall) -> Equity:
    return Equity({CURRENCY: worth}, call.asked_ns)
