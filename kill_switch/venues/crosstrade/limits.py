"""Decide by the user's tokens when a request of CrossTrade may leave (docs/venues/crosstrade.md § 3)."""

from __future__ import annotations

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.strike_plan import READ_KEEPS
from kill_switch.venues.crosstrade.tokens import TOKENS, TokenBucket
from kill_switch.venues.kit.account_limits import AccountLimits
from kill_switch.venues.kit.pools import Calls


class CrossTradeLimits(AccountLimits):
    """The limits of a user: each activity asks the bucket itself, because a contended bucket has rules of its own."""

    @property
    def bucket(self) -> TokenBucket:
        """The tokens of the user, which all accounts of the token share."""
        bucket = self.budget.counts[TOKENS.name]
        assert isinstance(bucket, TokenBucket)  # noqa: S101 - `COUNT` makes it
        return bucket

    def read_wait_s(self, now: Instant) -> float:
        bucket = self.bucket
        if bucket.contended(now):
            return 0.0
        return max(bucket.tokens_wait_s(READ_KEEPS + 1, now), super().read_wait_s(now))

    def first_read_wait_s(self, now: Instant) -> float:
        return 0.0

    def has_room(self, calls: Calls, now: Instant) -> bool:
        return True

    def has_room_for_drill(self, now: Instant) -> bool:
        return True
