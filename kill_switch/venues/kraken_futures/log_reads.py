"""Read the transfers that no connection has pushed from the account log (docs/venues/kraken.md § 4.3, § 9).

The adapter of Kraken derivatives owns one `AccountLogReads`, and requests its figures through it. It judges no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.kit.pool_use import DecayingUse
from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kraken_futures.signing import FuturesRequests
from kill_switch.venues.kraken_futures.transfers import AccountLogReader
from kill_switch.venues.messages import Outputs, Replied, UnexplainedMessage

KIND = "account-log"  # of the calls
POOL = Pool("history", 80, per_s=80 / 600)  # four fifths of the history API's (§ 7): no kill uses it, bots rarely do
PAGES = ((25, 1.0), (50, 2.0), (1000, 3.0), (5000, 6.0))  # rows that a page may have, and what it costs (§ 7)
MAX_PAGES = 20
TRIES = 3  # answers in a row that show no log and no refusal, after which the figures go on without it
REFUSED_S = 600.0  # after which a key without the right is tried again
UNSEEN = (
    "Kraken refuses the account's log, so transfers cannot be seen: a pnl trigger takes them for profit or loss; "
    "give the key the right to read the account"
)


class FlexFigures(NamedTuple):
    """The answer to a request for an account's figures."""

    data: Any
    asked_ns: int  # monotonic
    at_ms: int  # the venue's time at the request


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
        self._rows = 0  # of the last read
        self._failures = 0  # answers in a row that have shown no log
        self._refused_until_ns = 0  # the key may not read the log, monotonic

    def measure(self, now: Instant, at_ms: int) -> Outputs:
        """Request the figures, if the log can be read behind them as far as needed; `at_ms` is the venue's time."""
        if self._is_needed(now) and not self._may_read(now):
            return ()
        part = FlexFiguresPart(self, at_ms)
        return self._calls.start_call("equity", self._figures_request, now, context=part, on_loss=part.on_loss)

    def on_figures(self, figures: FlexFigures, now: Instant) -> Outputs:
        """Report figures, or request first the log that shows which transfers they may contain."""
        is_needed = self._is_needed(now)
        self._transfers.compared_since_ms = self._transfers.compared_since_ms or figures.at_ms
        return self._request(AccountLogPart(self, figures), now) if is_needed else self._facts(figures)

    def _may_read(self, now: Instant) -> bool:
        is_under_way = any(call.kind == KIND for call in self._calls.pending.values())
        return not is_under_way and not self._calls.is_held(KIND, now) and self._has_units(self._page(), now)

    def _is_needed(self, now: Instant) -> bool:
        is_compared = self._transfers.compared_since_ms > 0
        return is_compared and not self._is_pushed() and now.mono_ns >= self._refused_until_ns

    def _page(self) -> tuple[int, float]:
        """Return how many rows to request, and their cost: more than the last read had, so that one page does."""
        return next((page for page in PAGES if page[0] > self._rows), PAGES[-1])

    def _has_units(self, page: tuple[int, float], now: Instant) -> bool:
        return self._used.at(now.mono_ns) + page[1] <= POOL.size

    def _request(self, part: AccountLogPart, now: Instant) -> Outputs:
        count, cost = page = self._page()
        if not self._has_units(page, now):
            return ()  # the next figures read on
        self._used.add(cost, now.mono_ns)
        last = self._transfers.last
        since = {"since": self._transfers.compared_since_ms} if last is None else {"from": int(last) + 1}
        build = self._requests.history("account-log", **since, sort="asc", count=count)
        return self._calls.start_call(KIND, build, now, context=part._replace(wanted=count), on_loss=part.on_loss)

    def on_page(self, part: AccountLogPart, reply: Reply, now: Instant) -> Outputs:
        """Process a page: report its transfers, and request the next one; behind the last one report the figures.

        Behind a transfer they are dropped: the log does not say whether they contain it, and the next ones do.
        """
        rows = reply.data.get("logs") if reply.ok and isinstance(reply.data, Mapping) else None
        if not isinstance(rows, list):
            return self._on_failure(part, reply, now)
        self._failures, self._refused_until_ns = 0, 0
        self._warn("")
        before = self._transfers.count
        outputs = tuple(output for row in rows for output in self._transfers.on_entry(row, now))
        self._rows = len(rows) if part.pages == 0 else self._rows + len(rows)
        part = part._replace(pages=part.pages + 1, is_moved=part.is_moved or self._transfers.count > before)
        if len(rows) >= part.wanted and part.pages < MAX_PAGES:
            return (*outputs, *self._request(part, now))
        return outputs if part.is_moved else (*outputs, *self._facts(part.figures))

    def _on_failure(self, part: AccountLogPart, reply: Reply, now: Instant) -> Outputs:
        if reply.outcome is not ReplyOutcome.REFUSED:
            return self.on_lost(part, "the log cannot be read" if reply.ok else reply.evidence, now)
        self._failures, self._refused_until_ns = 0, now.mono_ns + int(REFUSED_S * 1e9)
        self._warn(UNSEEN)
        return self._go_on(part, reply.evidence)

    def on_lost(self, part: AccountLogPart, why: str, now: Instant) -> Outputs:
        """Note that the log was not shown; it is read again behind the next figures, but for every third time."""
        self._failures = (self._failures + 1) % TRIES
        return () if self._failures else self._go_on(part, why)

    def _go_on(self, part: AccountLogPart, why: str) -> Outputs:
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
        figures = FlexFigures(reply.data, call.asked_ns, self.at_ms)
        return self.reads.on_figures(figures, now) if reply.ok else (unmeasured(reply.evidence),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the lanes report their own faults


class AccountLogPart(NamedTuple):
    """A request for a page of the log, behind an account's figures."""

    reads: AccountLogReads
    figures: FlexFigures
    wanted: int = 0  # rows that were requested
    pages: int = 0  # that have been read before this one
    is_moved: bool = False  # one of them has shown a transfer

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reads.on_page(self, reply, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.reads.on_lost(self, why, now)


def unmeasured(why: str) -> UnexplainedMessage:
    """Return the fact that figures are none, with the reason."""
    return UnexplainedMessage(f"the account cannot be measured: {why}")
