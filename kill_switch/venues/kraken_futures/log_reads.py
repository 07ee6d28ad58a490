"""Read the transfers that no connection has pushed from the account log (docs/venues/kraken.md § 4.3, § 9).

The adapter of Kraken derivatives owns one `AccountLogReads`, and requests its figures through it. It judges no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.venues.decode import as_decimal
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.kit.pool_use import DecayingUse
from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kraken_futures.replies import flex_of
from kill_switch.venues.kraken_futures.signing import FuturesRequests
from kill_switch.venues.kraken_futures.transfers import DOCUMENTED, AccountLogReader, highest_number, time_ms
from kill_switch.venues.messages import Outputs, Replied, UnexplainedMessage

KIND = "account-log"  # of the calls
POOL = Pool("history", 80, per_s=80 / 600)  # four fifths of the history API's (§ 7): no kill uses it, bots rarely do
ROWS, COST = 25, 1.0  # of a page (§ 7)
MAX_PAGES = 20
LATE_MS = 60_000  # a row may be shown so late; read again while the log is not pushed
MOST_DROPPED = 2  # figures in a row that are dropped behind transfers; a pnl trigger allows for 60 s
SKEW_MS = 86_400_000  # a time of the venue that is further from ours is none
WAIT_S = 15.0  # a pause that the history API has not named; figures that wait longer are warned of
REFUSED_S = 600.0  # after which a key without the right is tried again
UNSEEN = (
    "Kraken does not show the account's log, so transfers cannot be seen: a pnl trigger takes them for profit or loss; "
    "see whether the key may read the account"
)
USED_UP = (
    "other programs use up the limit of Kraken's history API: no equity is reported until the account's log is read"
)


class FlexFigures(NamedTuple):
    """The answer to a request for an account's figures."""

    data: Any
    asked_ns: int  # monotonic
    at_ms: int  # the venue's time


class AccountLogReads:
    """The figures of one account, and its log, which is read behind figures that may contain unknown transfers."""

    def __init__(
        self,
        requests: FuturesRequests,
        transfers: AccountLogReader,
        calls: CallStarter,
        report: Callable[[Any, int, int], Outputs | str],
        warn: Callable[[str], None],
    ) -> None:
        """Make it; `report` judges figures that were requested and are reported at these times, monotonic.

        It returns their facts, or why there are none. `warn` gets the operator's warning, and "" once it does not hold
        any more.
        """
        self._requests = requests
        self._figures_request = requests.get("accounts")
        self._transfers = transfers
        self._calls = calls
        self._report = report
        self._warn = warn
        self._used = DecayingUse(POOL)
        self._unread: AccountLogPart | None = None  # a page for which the limit had no room
        self._dropped = 0  # figures in a row, behind transfers
        self._held_until_ns = 0  # the limit has no room, monotonic
        self._held_since_ns = 0  # since when it has had none; 0: it has
        self._without_until_ns = 0  # figures go on without the log, monotonic

    def on_pushed(self) -> None:
        """Note that a connection begins to push the log: the key may read it."""
        self._without_until_ns = 0
        if not self._held_since_ns:
            self._warn("")

    def measure(self, now: Instant, at_ms: int) -> Outputs:
        """Request the figures, if the log can be read behind them as far as needed; `at_ms` is the venue's time."""
        transfers = self._transfers
        is_needed = (transfers.measured_ms and not transfers.is_pushed) or transfers.missed.since_ms or self._unread
        is_read = is_needed and now.mono_ns >= self._without_until_ns
        if self._is_under_way or (is_read and not self._may_read(now)):
            return ()
        part = FlexFiguresPart(self, at_ms)
        return self._calls.start_call("equity", self._figures_request, now, context=part, on_loss=part.on_loss)

    def on_figures(self, figures: FlexFigures, now: Instant) -> Outputs:
        """Report figures, or request first the log that shows which transfers they may contain."""
        transfers = self._transfers
        is_compared = transfers.note_measured(flex_of(figures.data), figures.at_ms)
        if self._is_under_way:  # what it will show may be in these figures too
            return ()
        is_known = not transfers.missed.since_ms and self._unread is None
        if not is_compared or is_known or now.mono_ns < self._without_until_ns:
            return self._facts(figures, now)
        if not self._may_read(now):
            return ()
        if (unread := self._unread) is not None:
            self._unread = None
            return self._request(unread._replace(figures=figures), now)
        since_ms = transfers.missed.take(figures.at_ms, is_pushed=transfers.is_pushed, late_ms=LATE_MS)
        return self._request(AccountLogPart(self, figures, since_ms), now)

    @property
    def _is_under_way(self) -> bool:
        return any(call.kind == KIND for call in self._calls.pending.values())

    def _may_read(self, now: Instant) -> bool:
        return now.mono_ns >= self._held_until_ns and self._has_units(now)

    def _has_units(self, now: Instant) -> bool:
        return self._used.at(now.mono_ns) + COST <= POOL.size

    def _request(self, part: AccountLogPart, now: Instant) -> Outputs:
        if not self._has_units(now) or part.pages >= MAX_PAGES:
            self._unread = part._replace(pages=0)  # the next figures read on
            return ()
        self._used.add(COST, now.mono_ns)
        start = {"since": part.since_ms} | ({"from": part.first} if part.first else {})
        build = self._requests.history("account-log", **start, info=DOCUMENTED, sort="asc", count=ROWS)
        return self._calls.start_call(KIND, build, now, context=part, on_loss=part.on_loss)

    def on_page(self, part: AccountLogPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Process a page: report its transfers, and request the next one; behind the last one report the figures.

        Behind a transfer they are dropped: the log does not say whether they contain it, and the next ones do.
        """
        rows = reply.data.get("logs") if reply.ok and isinstance(reply.data, Mapping) else None
        if not isinstance(rows, list):
            return self._on_failure(part, reply, replied, now)
        before, last = self._transfers.count, highest_number(rows)
        outputs = self._transfers.on_log(rows, now, is_young=True)
        is_moved = part.is_moved or self._transfers.count > before
        part = part._replace(pages=part.pages + 1, is_moved=is_moved, first=last + 1)
        if len(rows) >= ROWS and last:
            return (*outputs, *self._request(part, now))
        self._held_since_ns = 0
        self._transfers.missed.note_read()
        self._warn("")
        self._dropped = self._dropped + 1 if is_moved and self._dropped < MOST_DROPPED else 0
        return outputs if self._dropped else (*outputs, *self._facts(part.figures, now))

    def _on_failure(self, part: AccountLogPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        if replied.status == 429 or reply.pause_s:
            return self._on_full_pool(part, reply, replied, now)
        self._held_since_ns = 0
        if reply.outcome is not ReplyOutcome.REFUSED:
            return self.on_lost(part, "the log cannot be read" if reply.ok else reply.evidence, now)
        self._transfers.missed.tries_again(part.since_ms, is_refused=True)
        return self._go_on(part, reply.evidence, now, without_s=REFUSED_S)

    def _on_full_pool(self, part: AccountLogPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Hold the figures until the pool has room: without the log they might show a transfer as a loss."""
        wait_s = as_decimal(replied.headers.get("rate-limit-reset") or replied.headers.get("retry-after")) or WAIT_S
        self._held_until_ns = now.mono_ns + int(max(1.0, min(float(wait_s), REFUSED_S)) * 1e9)
        self._held_since_ns = self._held_since_ns or now.mono_ns
        is_long = self._held_until_ns - self._held_since_ns > WAIT_S * 1e9
        if is_long and self._transfers.is_pushed:
            return self._go_on(part, reply.evidence, now)
        if is_long:
            self._warn(USED_UP)
        self._transfers.missed.miss_since(part.since_ms)
        return ()

    def on_lost(self, part: AccountLogPart, why: str, now: Instant) -> Outputs:
        """Note that the log was not shown; it is read again behind the next figures, but for every third time."""
        if self._transfers.missed.tries_again(part.since_ms, is_refused=False):
            return ()
        return self._go_on(part, why, now)

    def _go_on(self, part: AccountLogPart, why: str, now: Instant, *, without_s: float = 0.0) -> Outputs:
        """Report the figures without the log, unless they are behind a transfer, and all others for `without_s`.

        While the log is pushed, one gap stays unknown. Else all of it is, which is warned of and read again.
        """
        if not self._transfers.is_pushed:
            self._without_until_ns = now.mono_ns + int(without_s * 1e9)
            self._transfers.missed.miss_since(part.since_ms)
            self._warn(UNSEEN)
        unseen = UnexplainedMessage(f"a transfer may be taken for profit or loss: {why}")
        return (unseen, *(() if part.is_moved else self._facts(part.figures, now)))

    def _facts(self, figures: FlexFigures, now: Instant) -> Outputs:
        facts = self._report(figures.data, figures.asked_ns, now.mono_ns)
        return (unmeasured(facts),) if isinstance(facts, str) else facts


class FlexFiguresPart(NamedTuple):
    """A request for the account's figures, at a time of the venue in ms."""

    reads: AccountLogReads
    at_ms: int

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        at_ms = time_ms(reply.data.get("serverTime")) if isinstance(reply.data, Mapping) else None
        is_near = at_ms is not None and abs(at_ms - self.at_ms) < SKEW_MS
        figures = FlexFigures(reply.data, call.asked_ns, at_ms if at_ms is not None and is_near else self.at_ms)
        return self.reads.on_figures(figures, now) if reply.ok else (unmeasured(reply.evidence),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the lanes report their own faults


class AccountLogPart(NamedTuple):
    """A request for a page of the log, behind an account's figures."""

    reads: AccountLogReads
    figures: FlexFigures
    since_ms: int  # the venue's time
    pages: int = 0  # that have been read before this one
    is_moved: bool = False  # one of them has shown a transfer
    first: int = 0  # the number that this one begins with; 0: it is the first page

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reads.on_page(self, reply, replied, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.reads.on_lost(self, why, now)


def unmeasured(why: str) -> UnexplainedMessage:
    """Return the fact that figures are none, with the reason."""
    return UnexplainedMessage(f"the account cannot be measured: {why}")
