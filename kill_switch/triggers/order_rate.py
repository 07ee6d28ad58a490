"""Fire when an algorithm runs away: too many new orders within a window, or too many open ones all through it.

New orders are counted exactly, over a window that slides with each of them: one more than `max_new` within it fires at
once. Open orders must be more than `max_open` for the whole window, so that a burst which clears is no reason. Each
account is counted on its own; a reason is one for all accounts of the trigger. Only placements count: what is
cancelled, by us or by anybody, does not.

Orders that were held back while this process stood still, or while the account was not seen, come all at once and were
not placed all at once: so an order counts as placed when we had last listened before it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import anyio

from kill_switch.domain import Now, Reason
from kill_switch.triggers.attention import Attention
from kill_switch.triggers.base import Figures, Report, TriggerState

LOOK_EVERY_S = 0.1
BACKLOG_NS = 1_000_000_000  # what was held back has come by then
SHOWN = 5  # orders that a reason names


class View(NamedTuple):
    """What can be seen of an account now."""

    told: bool  # its orders are pushed to us
    open: int | None  # orders, as far as they are known


class OrderRate:
    """Watch the orders of its accounts; `look` shows an account as it is now, None while it is not there."""

    kind = "order-rate"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        max_new: int | None,
        max_open: int | None,
        window_s: float,
        *,
        clock: Callable[[], Now],
        attention: Attention,
        look: Callable[[str], View | None],
    ) -> None:
        self.name = name
        self.accounts = accounts
        self._max_new = max_new
        self._max_open = max_open
        self._window_s = window_s
        self._window_ns = int(window_s * 1e9)
        self._clock = clock
        self._attention = attention
        self._look_at = look
        self._placed: dict[str, dict[str, int]] = {}  # account → order → placed when or later; one more than may be
        self._over: dict[str, tuple[int, int]] = {}  # account → since when too many are open, and how deaf we had been
        self._unseen: dict[str, tuple[int, int]] = {}  # account → since when it is not seen, and how deaf we had been
        self._back: dict[str, tuple[int, int]] = {}  # account → since when it was not seen, and until when that matters
        self._open: dict[str, int] = {}
        # how deaf we have been in all, how long in the last stall, and until when that matters
        self._stall = (attention.deaf_ns(clock().mono_ns), 0, 0)
        self._found: Reason | None = None
        self._fired = ""
        self._news = anyio.Event()

    def placed(self, account: str, order_id: str) -> None:
        """Take word of an order that somebody has placed."""
        if self._max_new is None or account not in self.accounts:
            return
        now = self._clock()
        placed = self._placed.setdefault(account, {})
        placed.setdefault(order_id, min(now.mono_ns - self._held_back_ns(now.mono_ns), self._seen_ns(account, now)))
        if len(placed) > self._max_new + 1:
            del placed[next(iter(placed))]
        if self._fired or self._found or len(placed) <= self._max_new:
            return
        span_ns = now.mono_ns - next(iter(placed.values()))
        if span_ns <= self._window_ns:
            text = f"{account} has {len(placed)} new orders within {self._window_s:g} s (allowed: {self._max_new})"
            evidence = {
                "account": account,
                "new": len(placed),
                "max_new": self._max_new,
                "within_ms": span_ns // 1_000_000,
                "window_ms": self._window_ns // 1_000_000,
                "latest": list(placed)[-SHOWN:],
            }
            self._find(text, evidence, now)

    async def run(self, report: Report) -> None:
        while True:
            self._look()
            if self._found is not None:
                reason, self._found = self._found, None
                self._fired = reason.text
                report(reason)
            with anyio.move_on_after(LOOK_EVERY_S):
                await self._news.wait()
            self._news = anyio.Event()

    def condition(self) -> tuple[TriggerState, str]:
        blind = self._blindness()
        if self._fired:
            return TriggerState.TRIPPED, f"{self._fired}; now {blind or self._standing()}"
        if blind:
            return TriggerState.BLIND, blind
        if self._unseen:
            return TriggerState.WAITING, f"waits until the orders of {', '.join(self._unseen)} are seen"
        return TriggerState.OK, self._standing()

    def figures(self) -> Figures:
        found: dict[str, tuple[float, float]] = {}
        if self._max_new is not None:
            most = max((self._new(name) for name in self.accounts), default=0)
            found["new_orders"] = (float(most), float(self._max_new))
        if self._max_open is not None and self._open:
            found["open_orders"] = (float(max(self._open.values())), float(self._max_open))
        return found

    def against_rearm(self) -> str | None:
        many = [name for name in self.accounts if self._max_new is not None and self._new(name) > self._max_new]
        full = [name for name in self.accounts if self._max_open is not None and name in self._over]
        if not many and not full:
            return None
        return f"{self._standing()}; it would fire again"

    def reset(self) -> None:
        if self._fired:
            self._fired = ""
            self._placed.clear()
            self._over.clear()

    def _look(self) -> None:
        now = self._clock()
        deaf_ns = self._attention.deaf_ns(now.mono_ns)
        self._held_back_ns(now.mono_ns)
        for name in self.accounts:
            view = self._look_at(name)
            seen = view is not None and view.told and (self._max_open is None or view.open is not None)
            if not seen:
                self._unseen.setdefault(name, (now.mono_ns, deaf_ns))
            elif name in self._unseen:
                self._back[name] = (self._unseen.pop(name)[0], now.mono_ns + BACKLOG_NS)
            if view is None or view.open is None:
                self._open.pop(name, None)
            else:
                self._open[name] = view.open
            over = seen and self._max_open is not None and self._open.get(name, 0) > self._max_open
            if not over:
                self._over.pop(name, None)
                continue
            self._over.setdefault(name, (now.mono_ns, deaf_ns))
            if not self._fired and self._found is None and self._since_ns(self._over[name], now) >= self._window_ns:
                self._find_open(name, now)
        for kept in (self._placed, self._unseen, self._back, self._open, self._over):
            for gone in kept.keys() - set(self.accounts):  # it is no account of this trigger any more
                del kept[gone]

    def _find_open(self, name: str, now: Now) -> None:
        count = self._open[name]
        text = f"{name} has {count} open orders, and too many for {self._window_s:g} s (allowed: {self._max_open})"
        window_ms = self._window_ns // 1_000_000
        self._find(text, {"account": name, "open": count, "max_open": self._max_open, "window_ms": window_ms}, now)

    def _find(self, text: str, evidence: Mapping[str, object], now: Now) -> None:
        self._found = Reason(self.name, text, self.accounts, now, evidence)
        self._news.set()

    def _held_back_ns(self, now_ns: int) -> int:
        """Return how long what comes now may have been held back by a stall of our own."""
        before_ns, stall_ns, until_ns = self._stall
        deaf_ns = self._attention.deaf_ns(now_ns)
        if deaf_ns > before_ns:
            new_ns = deaf_ns - before_ns
            stall_ns = new_ns + (stall_ns if now_ns - new_ns < until_ns else 0)
            until_ns = now_ns + BACKLOG_NS
        self._stall = (deaf_ns, stall_ns, until_ns)
        return stall_ns if now_ns < until_ns else 0

    def _seen_ns(self, account: str, now: Now) -> int:
        """Return when the account was last seen before what comes now."""
        if account in self._unseen:
            return self._unseen[account][0]
        since_ns, until_ns = self._back.get(account, (0, 0))
        return since_ns if now.mono_ns < until_ns else now.mono_ns

    def _since_ns(self, since: tuple[int, int], now: Now) -> int:
        return now.mono_ns - since[0] - (self._attention.deaf_ns(now.mono_ns) - since[1])

    def _blindness(self) -> str:
        """Say whose orders have not been seen for longer than the window, if so."""
        now = self._clock()
        unseen = {name: self._since_ns(since, now) for name, since in self._unseen.items()}
        return ", ".join(
            f"the orders of {name} are not seen for {ns / 1e9:.1f} s"
            for name, ns in unseen.items()
            if ns > self._window_ns
        )

    def _new(self, account: str) -> int:
        """Count the new orders within the window that ends now."""
        since_ns = self._clock().mono_ns - self._window_ns
        return sum(at_ns >= since_ns for at_ns in self._placed.get(account, {}).values())

    def _standing(self) -> str:
        """Say how many orders the busiest accounts have."""
        words = []
        if self._max_new is not None:
            busiest = max(self.accounts, key=self._new)
            words.append(f"{self._new(busiest)} new orders within {self._window_s:g} s, of {self._max_new} ({busiest})")
        if self._max_open is not None and self._open:
            fullest = max(self._open, key=self._open.__getitem__)
            words.append(f"{self._open[fullest]} open orders, of {self._max_open} ({fullest})")
        return ", ".join(words) or "nothing is known"
