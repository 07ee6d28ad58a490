"""Binance's pools (docs/venues/binance.md §7): weight by address, new orders by account, the ban of who goes on.

Venues that share their pools have one object of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.kit.limits import CostWindow, Window

_MINUTE_S = 60.0
_ATTEMPTS_S = 300.0


class Limit(NamedTuple):
    """A refusal: the status, and the seconds until a request may come."""

    status: int  # 429 or 418
    wait_s: float


class OrderRule(NamedTuple):
    """The new orders that an account may place in some seconds, and the name of the interval."""

    most: int
    seconds: int
    name: str


class Limits:
    """The weight that each address used in the last minute, and the orders that each account placed."""

    def __init__(self) -> None:
        self.on_ban: list[Callable[[str], None]] = []  # what each venue does with an address that is banned
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._weights: dict[str, CostWindow] = {}
        self._refused: dict[str, Window] = {}
        self._banned: dict[str, float] = {}  # until when, monotonic
        self._attempts: dict[str, Window] = {}
        self._calls: dict[tuple[str, str], CostWindow] = {}  # by address and path: calls with a pool of their own
        self._orders: dict[tuple[str, str], CostWindow] = {}  # by owner and interval

    def used(self, address: str) -> int:
        """Return the weight that an address used in the last minute."""
        window = self._weights.get(address)
        return int(window.spent(time.monotonic())) if window else 0

    def charge(self, address: str, weight: float, most: int, ban_after: int, ban_s: float) -> Limit | None:
        """Charge a weight; return the refusal if it does not fit, or the address is banned."""
        now = time.monotonic()
        if (left := self._banned.get(address, 0.0) - now) > 0:
            return Limit(418, left)
        window = self._weights.setdefault(address, CostWindow(most, _MINUTE_S))
        window.most = most
        if window.charge(weight, now):
            return None
        refused = self._refused.setdefault(address, Window(ban_after, _MINUTE_S))
        refused.count = ban_after
        refused.add(now)
        if refused.full(now):
            self._banned[address] = now + ban_s
            for cut in self.on_ban:
                cut(address)
            return Limit(418, ban_s)
        return Limit(429, window.frees_in(now))

    def charge_call(self, address: str, path: str, most: int) -> Limit | None:
        """Charge a call that has a pool of its own; return the refusal if it does not fit, or the address is banned."""
        now = time.monotonic()
        if (left := self._banned.get(address, 0.0) - now) > 0:
            return Limit(418, left)
        window = self._calls.setdefault((address, path), CostWindow(most, _MINUTE_S))
        window.most = most
        return None if window.charge(1, now) else Limit(429, window.frees_in(now))

    def connects(self, address: str, most: int) -> bool:
        """Count a WebSocket that an address opens; return False if it has opened too many in five minutes."""
        now = time.monotonic()
        window = self._attempts.setdefault(address, Window(most, _ATTEMPTS_S))
        window.count = most
        if window.full(now):
            return False
        window.add(now)
        return True

    def refund(self, address: str, weight: float) -> None:
        """Return a weight to an address: a cancel that succeeds costs nothing (§3.1)."""
        if window := self._weights.get(address):
            window.charge(-weight, time.monotonic())

    def charge_everyone(self, weight: float) -> None:
        """Charge each address that was seen: another program uses it too."""
        for window in self._weights.values():
            window.charge(weight, time.monotonic())

    def order_headers(self, owner: str, rules: Sequence[OrderRule]) -> dict[str, str]:
        """Count a new order; return the headers with the counts. Raises `Refused`."""
        now = time.monotonic()
        windows = [self._orders.setdefault((owner, rule.name), CostWindow(rule.most, rule.seconds)) for rule in rules]
        if any(window.most < window.spent(now) + 1 for window in windows):
            raise refusal("-1015", f"Too many new orders; current limit is {rules[0].most} orders per 10 SECOND.")
        for window in windows:
            window.charge(1, now)
        return {
            f"X-MBX-ORDER-COUNT-{rule.name}": str(int(window.spent(now)))
            for rule, window in zip(rules, windows, strict=True)
        }

    def orders_of(self, owner: str, rule: OrderRule) -> int:
        """Return how many new orders of an account count towards a rule."""
        window = self._orders.get((owner, rule.name))
        return 0 if window is None else int(window.spent(time.monotonic()))


def limit_text(limit: Limit, most: int, now_s: float) -> str:
    """Return the text of -1003."""
    if limit.status == 418:
        until_ms = int((now_s + limit.wait_s) * 1000)
        return (
            f"Way too much request weight used; IP banned until {until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
    return (
        f"Too much request weight used; current limit is {most} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API."
    )
