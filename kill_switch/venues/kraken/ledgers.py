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

LEDGERS, KIND = "POST /0/private/Ledgers", "ledgers"  # the request, and the kind of the calls
MAX_PAGES = 20  # of 50 entries each, the newest first
LATE_MS = 15_000  # an entry may be shown so late; read again while the WebSocket is down
FRESH_MS = 5_000  # figures that leave so soon behind the end of what was read need no further page
UNITS = 3  # of the counter, that a page and figures take; figures alone take 1 (§ 7)
REFUSED_S = 600.0  # after which a key without the right is tried again
BEHIND = "the ledger has more entries than the limit lets be read at once: no equity is reported until it is read"
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
        self._is_behind = False  # since the WebSocket went down, the limit has kept figures waiting for pages
        self._unread: LedgerPart | None = None  # pages for which the limit had no room
        self._next_ns = 0  # no page before, while transfers are not pushed, monotonic
        self._refused_until_ns = 0  # the key may not read the ledger, monotonic

    def on_subscribed(self, conn: int) -> None:
        """Note that a connection pushes transfers from now on."""
        self._pushing.add(conn)
        self._is_behind = False

    def on_closed(self, conn: int) -> None:
        """Forget a connection: behind the last one, pushes may be missing since the last figures."""
        if conn in self._pushing:
            self._pushing.discard(conn)
            if not self._pushing:
                self._missed.note_closed(self._measured_ms)

    def measure(
        self, now: Instant, at_ms: int, every_s: float, request_figures: Callable[[Instant], Outputs]
    ) -> Outputs:
        """Request the figures, and before them the transfers that may be missing; `at_ms` is the venue's time in ms.

        Nothing leaves while a page is under way, or the limit has no room for one: the figures alone would look like
        profit or loss. `every_s` is how often the limit has room for the figures alone. As long as transfers are not
        pushed, figures leave each third time, because the guard's reads need what is left.
        """
        if any(call.kind == KIND for call in self._calls.pending.values()):
            return ()
        is_pushed, self._measured_ms = bool(self._pushing), at_ms
        is_compared = self._missed.note_measured(at_ms, is_pushed=is_pushed)
        if not is_compared or now.mono_ns < self._refused_until_ns or not (self._unread or self._missed.since_ms):
            return request_figures(now)
        is_early = not is_pushed and now.mono_ns < self._next_ns
        if is_early or self._calls.budget.wait_s((LEDGERS,), now):
            return ()
        self._next_ns = now.mono_ns + int(UNITS * every_s * 1e9)
        part, self._unread = self._unread, None
        if part is None:
            since_ms = self._missed.take(at_ms, is_pushed=is_pushed, late_ms=LATE_MS)
            part = LedgerPart(self, since_ms, at_ms, request_figures)
        until_ms = part.until_ms if part.pages else at_ms
        return self._request(part._replace(until_ms=until_ms, now_ms=at_ms), now)

    def _request(self, part: LedgerPart, now: Instant) -> Outputs:
        build = self._build(start=part.since_ms // 1000, end=part.until_ms // 1000 + 1, ofs=part.entries)
        return self._calls.start_call(KIND, build, now, context=part, on_loss=part.on_loss)

    def on_page(self, part: LedgerPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Process a page: report its transfers, and request the next page, or the figures behind the last one."""
        fields = reply.data if reply.ok and isinstance(reply.data, dict) else {}
        entries, count = fields.get("ledger"), as_decimal(fields.get("count"))
        if not isinstance(entries, dict):
            return self._on_failure(part, reply, replied, now)
        outputs = self._transfers.on_ledger(entries, part.since_ms)
        read = part._replace(pages=part.pages + 1, entries=part.entries + len(entries))
        if not entries or (count is not None and count <= read.entries):
            if part.now_ms - part.until_ms <= FRESH_MS:
                self._note_read()
                return (*outputs, *part.request_figures(now))
            since_ms = part.until_ms - LATE_MS  # the pages had to wait: first the entries since
            read = LedgerPart(self, since_ms, part.now_ms, part.request_figures, now_ms=part.now_ms)
        elif read.pages >= MAX_PAGES:
            self._note_read()
            too_long = UnexplainedMessage("the ledger has more entries than were read: a transfer may be among them")
            return (*outputs, too_long, *part.request_figures(now))
        if self._calls.budget.wait_s((LEDGERS,), now):
            is_behind, self._is_behind, self._unread = self._is_behind, True, read
            return outputs if is_behind else (*outputs, UnexplainedMessage(BEHIND))
        return (*outputs, *self._request(read, now))

    def _note_read(self) -> None:
        """Note the end of a read; a page of several proves nothing of the others."""
        self._missed.note_read()
        self._warn("")

    def _on_failure(self, part: LedgerPart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        is_refused = reply.outcome is ReplyOutcome.REFUSED and replied.status < 500  # and not for a time only
        if self._missed.tries_again(part.since_ms, is_refused=is_refused):
            return ()
        if is_refused:
            self._missed.miss_since(part.since_ms)
            self._refused_until_ns = now.mono_ns + int(REFUSED_S * 1e9)
            self._warn(UNSEEN)
        return self._go_on(part, "the ledger cannot be read" if reply.ok else reply.evidence, now)

    def on_lost(self, part: LedgerPart, why: str, now: Instant) -> Outputs:
        """Note that a page was lost; it is read again before the next figures, but for every third time."""
        if self._missed.tries_again(part.since_ms, is_refused=False):
            return ()
        return self._go_on(part, why, now)

    def _go_on(self, part: LedgerPart, why: str, now: Instant) -> Outputs:
        unseen = UnexplainedMessage(f"a transfer may be taken for profit or loss: {why}")
        return (unseen, *part.request_figures(now))


class LedgerPart(NamedTuple):
    """A request for the entries between two times of the venue, in ms; figures are requested behind it."""

    reader: LedgerReader
    since_ms: int
    until_ms: int
    request_figures: Callable[[Instant], Outputs]
    pages: int = 0  # that have been read before this one
    entries: int = 0  # in them
    now_ms: int = 0  # when this page was requested, or the first of those that left right behind each other

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reader.on_page(self, reply, replied, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.reader.on_lost(self, why, now)
