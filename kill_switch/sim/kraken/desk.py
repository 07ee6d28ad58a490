"""Kraken's cancels: what REST and the WebSocket have in common (docs/venues/kraken.md §3, §6, §7)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Refused
from kill_switch.sim.kraken import payloads as wire
from kill_switch.sim.kraken.rules import RIGHTS, TIERS, PairCounters, cancel_cost

if TYPE_CHECKING:
    from kill_switch.sim.kraken.venue import Kraken

UNKNOWN_ORDER = "EOrder:Unknown order"
RATE_LIMIT = "EOrder:Rate limit exceeded"


class SpotDesk:
    """Cancel orders for the venue `Kraken`, by its counters, its mode and the rights of its keys."""

    def __init__(self, venue: Kraken) -> None:
        self._venue = venue
        self.holds_up = False  # whether the `pending` fault holds up the cancel that is being answered
        self.cancelling: set[str] = set()  # ids of orders whose cancel is held up
        self.reset()

    def reset(self) -> None:
        """Empty the counters of the pairs."""
        self._pairs = PairCounters(TIERS[self._venue.options.tier])

    def permit(self, account: Account, call: str) -> None:
        """Refuse in maintenance (§8), and refuse a key without the right (§3.2)."""
        if self._venue.mode == "maintenance":
            raise Refused("EService:Unavailable")
        needed = RIGHTS.get(call, ())
        if needed and not set(needed) & set(self.rights(account)):
            raise Refused("EGeneral:Permission denied")

    def rights(self, account: Account) -> list[str]:
        """Return the rights of the account's key; the `read_only_key` fault takes some away."""
        rights = [right for right in self._venue.options.rights.split(",") if right]
        if self._venue.faults.on("read_only_key", account.name):
            rights = [right for right in rights if right not in ("modify-trades", "close-trades")]
        return rights

    # cancels

    def cancel_every(self, account: Account) -> int:
        """Cancel all orders; return the count of those that were open, whatever the engine does with them."""
        covered = self._venue.covered(account)
        if self._venue.options.cancel_all_charged:
            self._charge_all(account, covered)
        self._start(account, covered, whole=True)
        return len(covered)

    def cancel_named(self, account: Account, orders: Sequence[Order | None]) -> list[str | None]:
        """Cancel orders one by one, each charged to its pair's counter (§7); return the code of each refusal."""
        again = [order is not None and order in orders[:place] for place, order in enumerate(orders)]
        codes = [
            UNKNOWN_ORDER if is_again else self._refusal(account, order)
            for order, is_again in zip(orders, again, strict=True)
        ]
        going = [order for order, code in zip(orders, codes, strict=True) if order is not None and code is None]
        self._start(account, going, whole=False)
        return codes

    def cancel_batch(self, account: Account, orders: Sequence[Order | None]) -> int:
        """Cancel the orders that are known; return their number (§3.1)."""
        codes = self.cancel_named(account, orders)
        if RATE_LIMIT in codes and None not in codes:
            raise Refused(RATE_LIMIT)
        return codes.count(None)

    def charge_placing(self, account: Account, pair: wire.Pair) -> None:
        """Charge a new order to its pair's counter. Raises `Refused`."""
        if not self._pairs.charge(account.name, pair.code, 1, time.monotonic()):
            raise Refused(RATE_LIMIT)

    def _charge_all(self, account: Account, orders: Sequence[Order]) -> None:
        now, now_ns = time.monotonic(), self._venue.now_ns()
        codes = {wire.pair_of(order.symbol).code for order in orders}
        if any(self._pairs.is_full(account.name, code, now) for code in codes):
            raise Refused(RATE_LIMIT)
        for order in orders:
            self._pairs.fill_up(account.name, wire.pair_of(order.symbol).code, cancel_cost(order, now_ns), now)

    def _refusal(self, account: Account, order: Order | None) -> str | None:
        if order is None:
            return UNKNOWN_ORDER
        if order.id in self.cancelling:
            return "EOrder:Cancel pending"
        cost = cancel_cost(order, self._venue.now_ns())
        fits = self._pairs.charge(account.name, wire.pair_of(order.symbol).code, cost, time.monotonic())
        return None if fits else RATE_LIMIT

    def _start(self, account: Account, orders: list[Order], *, whole: bool) -> None:
        self.holds_up = self._venue.faults.on("pending", account.name) is not None
        self._venue.cancel(account, orders, whole=whole, single=not whole)

    def set_countdown(self, account: Account, timeout: object) -> object:
        """Arm the countdown for whole seconds; 0 disarms it."""
        return self._venue.countdowns.arm(account, timeout, "EGeneral:Invalid arguments:timeout", wire.iso_s)
