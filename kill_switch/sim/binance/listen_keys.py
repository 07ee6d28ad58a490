"""The listenKeys of the futures' user streams (docs/venues/binance.md §5): one for each account, 60 minutes long."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.countdown import Later


class ListenKeys:
    """Hand out keys, extend them, and end them; `on_end` gets the account and the key that has ended."""

    def __init__(self, later: Later, life_s: Callable[[], float], on_end: Callable[[Account, str, bool], None]) -> None:
        self._later = later
        self._life_s = life_s
        self._on_end = on_end
        self._keys: dict[str, tuple[Account, float]] = {}  # the account, and the end in seconds of CLOCK_MONOTONIC

    def owner(self, key: str) -> Account | None:
        """Return the account of a valid key."""
        entry = self._keys.get(key)
        return entry[0] if entry is not None and time.monotonic() < entry[1] else None

    def create(self, account: Account) -> str:
        """Return the account's key, new if it has none, and valid for the whole time."""
        key = self._key_of(account)
        if key is None:
            key = secrets.token_hex(32)
        self._extend(account, key)
        return key

    def keep(self, account: Account) -> str:
        """Extend the account's key. Raises `Refused` if it has none."""
        key = self._key_of(account)
        if key is None:
            raise refusal("-1125")
        self._extend(account, key)
        return key

    def end(self, account: Account, *, is_announced: bool = False) -> None:
        """End the account's key, if it has one; `is_announced` says that its streams get an event."""
        if key := self._key_of(account):
            del self._keys[key]
            self._on_end(account, key, is_announced)

    def _key_of(self, account: Account) -> str | None:
        return next((key for key in self._keys if self.owner(key) is account), None)

    def _extend(self, account: Account, key: str) -> None:
        life_s = self._life_s()
        self._keys[key] = (account, time.monotonic() + life_s)
        self._later(life_s, self._expire, key)

    def _expire(self, key: str) -> None:
        entry = self._keys.get(key)
        if entry is not None and time.monotonic() >= entry[1] - 0.01:  # timers of uvloop may be early
            del self._keys[key]
            self._on_end(entry[0], key, True)
