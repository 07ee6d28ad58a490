"""Share among the adapters of all Binance products: keys, signatures made ahead, answers, used weights, time.

§ numbers in this folder are those of docs/venues/binance.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.binance.checks import AccountChecks
from kill_switch.venues.binance.replies import Judgement, used_weights
from kill_switch.venues.binance.signing import SignedRequests, TextAt, signer_of
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.messages import Event, Outputs, Replied
from kill_switch.venues.profile import OptionsT

MINUTE_S = 60.0
SYMBOLS_WHILE_REFUSED = 1  # that a strike tries beside the one with the most orders
RENEWAL_S = 0.1  # between two signatures that are made ahead: each may block the event loop for a millisecond
CHECKED_EVERY_S = 600.0  # a TWAP begins or ends, and a key loses a right, while the lane stays up
REVIEWED_EVERY = 10  # renewals after which the signatures that a strike needs are listed anew


class BinanceAccount(KitAdapter[OptionsT]):
    """An account at one of Binance's products."""

    CLOCK_WINDOW_S: ClassVar[float | None] = 1.0  # § 2: a time further ahead is refused; one behind, after 30 s
    NOT_PROCESSED: ClassVar[frozenset[int]] = frozenset((421, 425))  # 408 is an answer: execution unknown (§ 8)
    OVER_LIMIT: ClassVar[frozenset[int]] = frozenset((403, 418, 429))  # 403: its firewall refuses a flood (§ 7)
    BANS: ClassVar[frozenset[int]] = frozenset((418,))
    NOT_EXECUTED: ClassVar[Collection[str]] = ()  # texts of 5xx answers by which nothing was executed (§ 8)
    WARM_EVERY_S: ClassVar[float] = 45.0  # a key that is refused shows within 22.5 s; bots share the pool
    WEIGHT: ClassVar[str]  # the name of the pool whose use the answers state

    @classmethod
    def secrets(cls, options: OptionsT) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    @classmethod
    def alternatives(cls, options: OptionsT) -> Mapping[str, str]:
        return {"api_secret": "private_key"}

    def __init__(self, options: OptionsT, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        self.now = Instant(0, 0)  # the moment of the event, strike or drill that is being processed
        self.requests = SignedRequests(self.host, secrets["api_key"], signer_of(secrets), self.clock)
        self.signs_slowly = self.requests.signer.is_slow
        self.judgement = Judgement(self.evidence, self.NOT_EXECUTED)
        self._check_ns = 0  # when the account is checked next, monotonic; 0: no lane has come up
        self._to_sign: list[TextAt] = []  # what is signed ahead in turns
        self._renewals = 0
        self._renewing = False

    def handle(self, event: Event, now: Instant) -> Outputs:
        self.now = now
        return super().handle(event, now)

    def venue_ms(self) -> int:
        """Return the venue's time, in milliseconds, of the event that is being processed."""
        return self.clock.venue_ms(self.now)

    # ── checks ────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin_checks(self) -> None:
        """Mark the checks of the account as due."""

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            self._check_ns = now.mono_ns
        return super().on_opened(route, conn, now)

    def note_probe(self, now: Instant) -> None:
        """Mark the checks as due that this probe makes beside it: the first of a lane, then every `CHECKED_EVERY_S`."""
        if self._check_ns and now.mono_ns >= self._check_ns:
            self._check_ns = now.mono_ns + int(CHECKED_EVERY_S * 1e9)
            self.begin_checks()

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        return self.judgement.of_rest(status, body, self.venue_ms())

    def usage(self, reply: Replied) -> Iterable[tuple[str, float]]:
        """Return the weight that the address has used in the last minute, by the header of the answer (§ 7)."""
        return [(self.WEIGHT, used) for window_s, used in used_weights(reply.headers) if window_s == MINUTE_S]

    def may_find(self, now: Instant, *, is_first: bool) -> bool:
        """Return whether a strike may read the lists for symbols that nobody knows.

        A strike that follows leaves that to the read-back, which waits for room, once half of the limit is in use. A
        process that goes on with a kill does so too: it may be the last of many, whose use only the venue knows.
        """
        if self.budget.named_pause_s(now):
            return False  # the venue wants no request, and only cancels leave
        return self.limits.may_find(now) if is_first else not self.limits.first_read_wait_s(now)

    def is_refused(self, now: Instant) -> bool:
        """Return whether the venue refuses cancels until a moment that it has named; to go on leads to a ban (§ 7)."""
        return bool(self.budget.refused_ns and self.budget.named_pause_s(now))

    def on_wrong_time(self, reply: Replied, tries: int, now: Instant) -> None:
        self.requests.forget_ahead()
        super().on_wrong_time(reply, tries, now)

    # ── checks ────────────────────────────────────────────────────────────────────────────────────────────────────

    def note_findings(self, checks: AccountChecks) -> None:
        """Keep what the account's checks have found for the status."""
        self.out_of_reach, self.warnings = checks.out_of_reach, checks.warnings
        self.key_rights = checks.key_rights

    # ── signatures made ahead ─────────────────────────────────────────────────────────────────────────────────────

    def texts_to_sign(self) -> Iterable[TextAt]:
        """Return the texts that the next strike signs, the first to leave first."""
        return ()

    def start_signing_ahead(self) -> Outputs:
        """Sign a strike's requests ahead from now on, if a signature is slow; each is renewed in its turn."""
        if self._renewing or not self.requests.signer.is_slow:
            return ()
        self._renewing = True
        return (self.timers.start(0.0, self._renew),)

    def _renew(self, now: Instant) -> Outputs:
        if self._renewals % REVIEWED_EVERY == 0:
            self._to_sign = list(self.texts_to_sign())
            self.requests.keep_ahead(self._to_sign)
        self._renewals += 1
        for text_at in self._to_sign:
            if self.requests.sign_ahead(text_at, now):
                break
        return (self.timers.start(RENEWAL_S, self._renew),)
