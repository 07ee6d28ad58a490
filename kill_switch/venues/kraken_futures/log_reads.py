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
TRIES = 3  # answers in a row that show no log and no refusal, after which the figures go on without it
WAIT_S = 15.0  # the figures wait so long for the limit to have room; behind a longer wait they go on without the log
REFUSED_S = 600.0  # after which a key without the right is tried again
UNSEEN = (
    "Kraken does not show the account's log, so transfers cannot be seen: a pnl trigger takes them for profit or loss; "
    "give the key the right to read the account"
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
        is_pushed: Callable[[], bool],
        report: Callable[[Any, int], Outputs | str],
        warn: Callable[[str], None],
    ) -> None:
        """Make it; `is_pushed` says whether a connection is open that pushes the log.

        `report` returns the facts of an answer with figures that was requested then (monotonic), or why there are
        none. `warn` gets the operator's warning, and "" once it does not hold any more.
        """
        self._requests = requests
        self._figures_request = requests.get("accounts")
        self._transfers = transfers
        self._calls = calls
        self._is_pushed = is_pushed
        self._report = report
        self._warn = warn
        self._used = DecayingUse(POOL)
        self._was_pushed = True  # when figures came last; behind a connection's first ones the log is read once more
        self._failures = 0  # answers in a row that have shown no log
        self._held_until_ns = 0  # the limit has no room, monotonic
        self._without_until_ns = 0  # figures go on without the log, monotonic

    def measure(self, now: Instant, at_ms: int) -> Outputs:
        """Request the figures, if the log can be read behind them as far as needed; `at_ms` is the venue's time."""
        if self._is_needed(now) and not self._may_read(now):
            return ()
        part = FlexFiguresPart(self, at_ms)
        return self._calls.start_call("equity", self._figures_request, now, context=part, on_loss=part.on_loss)

    def on_figures(self, figures: FlexFigures, now: Instant) -> Outputs:
        """Report figures, or request first the log that shows which transfers they may contain."""
        self._transfers.note_prices(flex_of(figures.data))
        is_needed, self._was_pushed = self._is_needed(now), self._is_pushed()
        self._transfers.compared_since_ms = self._transfers.compared_since_ms or figures.at_ms
        if not is_needed:
            return self._facts(figures)
        return self._request(AccountLogPart(self, figures), now) if self._may_read(now) else ()

    def _is_needed(self, now: Instant) -> bool:
        """Return whether figures may contain transfers that nothing has shown, and the log would show them."""
        is_pushed = self._is_pushed()
        if is_pushed and not self._was_pushed:
            self._without_until_ns = 0  # the key may read the log
        is_covered = is_pushed and self._was_pushed
        return self._transfers.compared_since_ms > 0 and not is_covered and now.mono_ns >= self._without_until_ns

    def _may_read(self, now: Instant) -> bool:
        is_under_way = any(call.kind == KIND for call in self._calls.pending.values())
        return not is_under_way and now.mono_ns >= self._held_until_ns and self._has_units(now)

    def _has_units(self, now: Instant) -> bool:
        return self._used.at(now.mono_ns) + COST <= POOL.size

    def _request(self, part: AccountLogPart, now: Instant) -> Outputs:
        if not self._has_units(now):
            return ()  # the next figures read on
        self._used.add(COST, now.mono_ns)
        first = part.first or self._transfers.first_wanted
        start = {"since": self._transfers.compared_since_ms} if first is None else {"from": first}
        build = self._requests.history("account-log", **start, info=DOCUMENTED, sort="asc", count=ROWS)
        return self._calls.start_call(KIND, build, now, context=part, on_loss=part.on_loss)

    def on_page(self, part: AccountLogPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Process a page: report its transfers, and request the next one; behind the last one report the figures.

        Behind a transfer they are dropped: the log does not say whether they contain it, and the next ones do.
        """
        rows = reply.data.get("logs") if reply.ok and isinstance(reply.data, Mapping) else None
        if not isinstance(rows, list):
            return self._on_failure(part, reply, replied, now)
        self._failures = self._held_until_ns = self._without_until_ns = 0
        self._warn("")
        before = self._transfers.count
        outputs = self._transfers.on_log(rows, now)
        is_moved, last = part.is_moved or self._transfers.count > before, highest_number(rows)
        part = part._replace(pages=part.pages + 1, is_moved=is_moved, first=last + 1)
        if len(rows) >= ROWS and last and part.pages < MAX_PAGES:
            return (*outputs, *self._request(part, now))
        return outputs if part.is_moved else (*outputs, *self._facts(part.figures))

    def _on_failure(self, part: AccountLogPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        if replied.status == 429:
            wait_s = as_decimal(replied.headers.get("rate-limit-reset") or replied.headers.get("retry-after")) or WAIT_S
            self._held_until_ns = now.mono_ns + int(min(float(wait_s), REFUSED_S) * 1e9)
            return () if wait_s <= WAIT_S else self._go_on(part, reply.evidence, self._held_until_ns)
        if reply.outcome is not ReplyOutcome.REFUSED:
            return self.on_lost(part, "the log cannot be read" if reply.ok else reply.evidence, now)
        self._failures = 0
        return self._go_on(part, reply.evidence, now.mono_ns + int(REFUSED_S * 1e9))

    def on_lost(self, part: AccountLogPart, why: str, now: Instant) -> Outputs:
        """Note that the log was not shown; it is read again behind the next figures, but for every third time."""
        self._failures = (self._failures + 1) % TRIES
        return () if self._failures else self._go_on(part, why, now.mono_ns)

    def _go_on(self, part: AccountLogPart, why: str, until_ns: int) -> Outputs:
        """Report the figures without the log, and all others until then, monotonic."""
        self._without_until_ns = until_ns
        self._warn(UNSEEN)
        unseen = UnexplainedMessage(f"a transfer may be taken for profit or loss: {why}")
        return (unseen, *self._facts(part.figures))

    def _facts(self, figures: FlexFigures) -> Outputs:
        facts = self._report(figures.data, figures.asked_ns)
        return (unmeasured(facts),) if isinstance(facts, str) else facts


class FlexFiguresPart(NamedTuple):
    """A request for the account's figures, at a time of the venue in ms."""

    reads: AccountLogReads
    at_ms: int

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        at_ms = time_ms(reply.data.get("serverTime")) if isinstance(reply.data, Mapping) else None
        figures = FlexFigures(reply.data, call.asked_ns, at_ms or self.at_ms)
        return self.reads.on_figures(figures, now) if reply.ok else (unmeasured(reply.evidence),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the lanes report their own faults


class AccountLogPart(NamedTuple):
    """A request for a page of the log, behind an account's figures."""

    reads: AccountLogReads
    figures: FlexFigures
    pages: int = 0  # that have been read before this one
    is_moved: bool = False  # one of them has shown a transfer
    first: int = 0  # the number that this one begins with; 0: that of the first page

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reads.on_page(self, reply, replied, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.reads.on_lost(self, why, now)


def unmeasured(why: str) -> UnexplainedMessage:
    """Return the fact that figures are none, with the reason."""
    return UnexplainedMessage(f"the account cannot be measured: {why}")
