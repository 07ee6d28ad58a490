"""CrossTrade's equity figures: a pushed stream, the snapshot while the stream is silent, the watermarks at last.

The adapter calls `start_read` and hands over pushes; each readable sum becomes one `Equity`. The
watermarks serve one account alone, and not while the add-on is away or the account is not connected. They would stand
still then, and no figure is safer than a stale one (docs/venues/crosstrade.md § 5, § 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.replies import (
    AccountDirectory,
    NoEquity,
    equity_of_watermarks,
    is_limited,
    is_offline,
)
from kill_switch.venues.crosstrade.user_wire import SNAPSHOT, UserWire, path_of
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.kit.call_parts import EquityPart
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import Equity, Outputs, Replied, Send, UnexplainedMessage

CURRENCY = "USD"
FRESH_S = 3.0  # after so long without a pushed figure the snapshot is requested; the stream's interval is 1 s
LATE_MS = 10_000  # a message further behind the latest, with none newer for `FRESH_S`: the Windows clock was set back
MOMENTS_KEPT = 64  # latest message times: a repeated message may alternate with newer ones
STREAM_AGAIN_S = 15.0  # the earliest repeat of the stream request on a connection that pushes nothing
STREAM = b'{"action":"streamPnl","enabled":true,"interval":1000}'


@dataclass(slots=True, eq=False)
class EquityReader:
    """Request the accounts' equity, and turn replies and pushes into `Equity`.

    Each figure is the sum of one message: figures of two moments would show a fall that never happened. A message
    states its moment (`epoch`, in milliseconds); a second message of one moment yields no second figure.
    """

    wire: UserWire
    ours: AccountDirectory
    _streams: dict[int, int] = field(default_factory=dict)  # connection → when the stream was requested, monotonic
    _pushed_ns: int | None = None  # when the latest figure was pushed
    _odd: set[int] = field(default_factory=set)  # connections whose unreadable pushes have been reported
    _moments: dict[Decimal | str, None] = field(default_factory=dict)  # of the latest messages, as stated
    _latest: Decimal = Decimal(0)  # the newest epoch
    _latest_ns: int = 0  # and when its message came
    _reported: str = ""  # why the latest snapshot yielded no figure

    def start_read(self, now: Instant) -> Outputs:
        """Request the stream or the snapshot, or both, unless a figure was pushed a moment ago or tokens are short."""
        if self._pushed_ns is not None and now.mono_ns - self._pushed_ns <= FRESH_S * 1e9:
            return ()
        outputs: Outputs = ()
        conn = self.wire.newest
        if conn is not None and self._wants_stream(conn, now) and self.wire.bucket.spare(now, 1):
            self.wire.bucket.spend(now)
            self._streams[conn] = now.mono_ns
            outputs = (Send(conn, STREAM),)
        if self.wire.bucket.spare(now, 1) or self.wire.bucket.contended(now):  # a refusal costs nothing
            outputs += self.wire.get("measure", SNAPSHOT, self, now)
        return outputs

    def _wants_stream(self, conn: int, now: Instant) -> bool:
        asked_ns = self._streams.get(conn)
        return asked_ns is None or now.mono_ns - asked_ns >= STREAM_AGAIN_S * 1e9

    def on_push(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        """Turn a `pnlUpdate` into `Equity`, if its elements are those of the snapshot: § 6 does not document them."""
        worth = self.ours.worth(message)
        if not isinstance(worth, NoEquity):
            if not self._is_newer(message, now):
                return ()
            self._pushed_ns = now.mono_ns
            return (Equity({CURRENCY: worth}, now.mono_ns),)
        if conn in self._odd:
            return ()
        self._odd.add(conn)
        return (UnexplainedMessage(self.wire.words("a push of figures:", worth.why)),)

    def on_closed(self, conn: int) -> None:
        self._streams.pop(conn, None)
        self._odd.discard(conn)

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Turn the snapshot into `Equity`; after an unusable one request the watermarks."""
        if not reply.ok:
            return () if is_limited(reply) or is_offline(reply) else self._request_watermarks(now)
        total = self.ours.worth(reply.data)
        if isinstance(total, NoEquity):
            outputs = self._report(self.wire.words("the snapshot:", total.why))
            return outputs if total.away else (*outputs, *self._request_watermarks(now))
        if self._is_newer(reply.data, now):
            self._reported = ""
            return (Equity({CURRENCY: total}, call.asked_ns),)
        if now.mono_ns - (self._pushed_ns or 0) <= FRESH_S * 1e9:
            return ()  # a newer push came while the snapshot was under way
        return self._report("the snapshot stands still: it is of the same moment as the figures before")

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the trigger requests it again

    def _report(self, why: str) -> Outputs:
        """Report why a snapshot yields no figure, unless the snapshot before had the same reason."""
        previous, self._reported = self._reported, why
        return () if previous == why else (UnexplainedMessage(why),)

    def _is_newer(self, message: dict[str, Any], now: Instant) -> bool:
        """Return whether a message is of a later moment than the figures before, or states no moment."""
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

    def _request_watermarks(self, now: Instant) -> Outputs:
        [name, *others] = self.ours.names
        if others or not self.wire.bucket.spare(now, 1):
            return ()
        return self.wire.get("watermarks", f"{path_of(name)}/watermarks", EquityPart(_read_watermarks), now)


def _read_watermarks(body: Any) -> Mapping[str, Decimal] | str:
    worth = equity_of_watermarks(body)
    return {CURRENCY: worth} if worth else "the watermarks cannot be read"
