"""Read the transfers that no connection has pushed from Kraken's ledger (docs/venues/kraken.md § 9).

The adapter of Kraken spot owns one `LedgerReader`, and requests its figures through it. It judges no figure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.venues.decode import as_decimal
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.missed_pushes import MissedPushes
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kraken.transfers import TransferReader
from kill_switch.venues.messages import Outputs, Replied, UnexplainedMessage

LEDGERS = "POST /0/private/Ledgers"
MAX_PAGES = 20  # of 50 entries each, the newest first
REFUSED_S = 600.0  # after which a key without the right is tried again
UNSEEN = (
    "transfers that the WebSocket does not push cannot be seen: a pnl trigger takes them for profit or loss; "
    'give the key the rights "Query funds" and "Query ledger entries"'
)


class LedgerReader:
    """The ledger of one account, which is read while transfers may be missing that its figures contain."""

    def __init__(
        self,
        build: Callable[..., Build],
        transfers: TransferReader,
        calls: CallStarter,
        warn: Callable[[str], None],
    ) -> None:
        """Make a reader; `build` returns the builder of the request with these arguments.

        `warn` gets the operator's warning, and "" once it does not hold any more.
        """
        self._build = build
        self._transfers = transfers
        self._calls = calls
        self._warn = warn
        self._missed = MissedPushes()
        self._pushing: set[int] = set()  # connections that push transfers
        self._measured_ms = 0  # when figures were requested last
        self._unread: LedgerPart | None = None  # pages for which the limit had no room
        self._refused_until_ns = 0  # the key may not read the ledger, monotonic

    def on_subscribed(self, conn: int) -> None:
        """Note that a connection pushes transfers from now on."""
        self._pushing.add(conn)

    def on_closed(self, conn: int) -> None:
        """Forget a connection: behind the last one, pushes may be missing since the last figures."""
        if conn in self._pushing:
            self._pushing.discard(conn)
            if not self._pushing:
                self._missed.note_closed(self._measured_ms)

    def measure(self, now: Instant, at_ms: int, request_figures: Callable[[Instant], Outputs]) -> Outputs:
        """Request the figures, and before them the transfers that may be missing; `at_ms` is the venue's time in ms.

        Nothing leaves while the limit has no room for the ledger: the figures alone would look like profit or loss.
        """
        is_pushed, self._measured_ms = bool(self._pushing), at_ms
        is_compared = self._missed.note_measured(at_ms, is_pushed=is_pushed)
        if not is_compared or now.mono_ns < self._refused_until_ns or not (self._unread or self._missed.since_ms):
            return request_figures(now)
        if self._calls.budget.wait_s((LEDGERS,), now):
            return ()
        unread, self._unread = self._unread, None
        since_ms = 0 if unread else self._missed.take(at_ms, is_pushed=is_pushed)
        return self._request(unread or LedgerPart(self, since_ms, at_ms, request_figures), now)

    def _request(self, part: LedgerPart, now: Instant) -> Outputs:
        build = self._build(start=part.since_ms // 1000, end=part.until_ms // 1000 + 1, ofs=part.entries)
        return self._calls.start_call("ledgers", build, now, context=part, on_loss=part.on_loss)

    def on_page(self, part: LedgerPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Process a page: report its transfers, and request the next page, or the figures behind the last one."""
        fields = reply.data if reply.ok and isinstance(reply.data, dict) else {}
        entries, count = fields.get("ledger"), as_decimal(fields.get("count"))
        if not isinstance(entries, dict):
            return self._on_failure(part, reply, replied, now)
        self._missed.note_read()
        self._warn("")
        outputs = self._transfers.on_ledger(entries, part.since_ms)
        read = part._replace(pages=part.pages + 1, entries=part.entries + len(entries))
        if not entries or (count is not None and count <= read.entries):
            return (*outputs, *part.request_figures(now))
        if read.pages >= MAX_PAGES:
            too_long = UnexplainedMessage("the ledger has more entries than were read: a transfer may be among them")
            return (*outputs, too_long, *part.request_figures(now))
        if self._calls.budget.wait_s((LEDGERS,), now):
            self._unread = read._replace(request_figures=_request_none)  # by then pushes may be missing again
            return outputs
        return (*outputs, *self._request(read, now))

    def _on_failure(self, part: LedgerPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        is_refused = reply.outcome is ReplyOutcome.REFUSED and replied.status < 500  # and not for a time only
        if self._missed.tries_again(part.since_ms, is_refused=is_refused):
            return ()
        if is_refused:
            self._refused_until_ns = now.mono_ns + int(REFUSED_S * 1e9)
            self._warn(UNSEEN)
        why = "the ledger cannot be read" if reply.ok else reply.evidence
        unseen = UnexplainedMessage(f"a transfer may be taken for profit or loss: {why}")
        return (unseen, *part.request_figures(now))

    def on_lost(self, part: LedgerPart) -> Outputs:
        """Note that a page was lost; it is read again before the next figures."""
        self._missed.miss_since(part.since_ms)
        return ()  # the lanes report their own faults


class LedgerPart(NamedTuple):
    """A request for the entries between two times of the venue, in ms; figures are requested behind it."""

    reader: LedgerReader
    since_ms: int
    until_ms: int
    request_figures: Callable[[Instant], Outputs]
    pages: int = 0  # that have been read before this one
    entries: int = 0  # in them

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reader.on_page(self, reply, replied, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.reader.on_lost(self)


def _request_none(now: Instant) -> Outputs:
    """Request no figures: the next measurement does."""
    return ()
