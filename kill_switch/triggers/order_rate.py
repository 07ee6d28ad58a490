"""Fire when an account has too many new orders within a window, or too many open orders all through it.

Each account is counted by itself, and a reason concerns all accounts of the trigger. A report of an order counts at the
earliest time at which that order may have been placed; of several reports, the latest time counts. Cancels do not
count; docs/guides/triggers/order-rate.md has every case.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import anyio

from kill_switch.core.domain import Instant, Reason
from kill_switch.triggers.base import Figures, Report, Trigger, TriggerState, Unseen
from kill_switch.triggers.stall_clock import StallClock, StallMark
from kill_switch.wakeup import AutoResetEvent

LOOK_EVERY_S = 0.1  # seconds between two looks
BACKLOG_NS = 1_000_000_000  # nanoseconds; pushes that a stall held back have come by then
MAX_SHOWN = 5  # order ids in the evidence of a reason


class OrderVisibility(NamedTuple):
    """How much of an account's orders is visible now."""

    has_pushes: bool  # orders are pushed, and all lists have been read since the last gap in the pushes
    open: int | None  # open orders; None: unknown


class WatchedAccount:
    """The orders and clocks of one account."""

    __slots__ = ("back", "new", "open", "over", "over_ns", "times", "unseen", "watched")

    def __init__(self, now: StallMark) -> None:
        """Start unseen at the moment `now`."""
        self.unseen: StallMark | None = now  # since when it is not seen; None: it is seen
        self.watched: StallMark | None = None  # since when no gap was longer than the window; None: never seen
        self.back = (0, 0)  # when the last gap began, and until when late pushes of it may come
        self.open: int | None = None
        self.over_ns = 0  # for how long every look has seen too many open orders
        self.over: StallMark | None = None  # the last look, if it saw too many open orders
        self.new: list[tuple[int, str]] = []  # time at which it counts, and id, of the newest orders
        self.times: dict[str, int] = {}  # id → time, of the same orders

    def forget(self) -> None:
        """Forget all orders; whether the account is seen stays."""
        self.new.clear()
        self.times.clear()
        self.over_ns, self.over = 0, None


class OrderRateTrigger(Trigger):
    """Watch the orders of its accounts."""

    kind = "order-rate"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        max_new: int | None,
        max_open: int | None,
        window_s: float,
        *,
        clock: Callable[[], Instant],
        attention: StallClock,
        look: Callable[[str], OrderVisibility | None],
    ) -> None:
        """Build the trigger; `look` returns the visibility of an account, or None while it has no session."""
        self.name = name
        self.accounts = accounts
        self._max_new = max_new
        self._max_open = max_open
        self._window_s = window_s
        self._window_ns = int(window_s * 1e9)
        self._clock = clock
        self._stall_clock = attention
        self._look_at = look
        self._known = {account: WatchedAccount(attention.mark(clock().mono_ns)) for account in accounts}
        # stalled time in all, length of the last stall, and until when pushes that it held back may come
        self._stall = (attention.stalled_ns(clock().mono_ns), 0, 0)
        self._found: Reason | None = None  # not reported yet
        self._fired = ""  # text of the reason, until all accounts that it has fired for are re-armed
        self._struck: set[str] = set()  # accounts that it has fired for, until their re-arm
        self._held = False  # a silence has held back a reason; new orders are counted again at each look
        self._news = AutoResetEvent()

    def continue_from(self, before: OrderRateTrigger) -> None:
        """Continue from the trigger that this one replaces: its orders, its clocks, and its trip.

        A reason that the replaced trigger has found and not reported is reported by this one alone.
        """
        self._known.update((name, before._of(name)) for name in self.accounts if name in before.accounts)
        for watched in self._known.values():
            self._forget_oldest(watched)
        self._stall = before._stall
        self._fired, self._struck, self._held = before._fired, set(before._struck), before._held
        if before._found is not None:
            self._found, before._found = replace(before._found, trigger=self.name), None

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_order_placed(self, account: str, order_id: str) -> None:
        """Count an order that was placed just now; `on_orders_found` may have reported it before."""
        if self._max_new is None or account not in self.accounts:
            return
        now, watched = self._clock(), self._of(account)
        at_ns = min(now.mono_ns - self._held_back_ns(now.mono_ns), self._seen_ns(watched, now))
        self._count_orders(account, watched, (order_id,), at_ns, now)

    def on_orders_found(self, account: str, orders: Sequence[str], since_ns: int) -> None:
        """Count orders that were placed at `since_ns` (monotonic) or later, as lists show."""
        if self._max_new is None or account not in self.accounts:
            return
        now = self._clock()
        if since_ns >= now.mono_ns - self._window_ns:
            self._count_orders(account, self._of(account), orders[-self._max_new - 1 :], since_ns, now)

    def _count_orders(
        self, account: str, watched: WatchedAccount, orders: Iterable[str], at_ns: int, now: Instant
    ) -> None:
        """Count orders at a time.

        An order counts once, at the latest time that is reported of it. The newest `max_new + 1` orders are kept.
        """
        new, times = watched.new, watched.times
        for order_id in orders:
            before_ns = times.get(order_id)
            if before_ns is not None and before_ns >= at_ns:
                continue
            if before_ns is not None:
                new.remove((before_ns, order_id))
            times[order_id] = at_ns
            insort(new, (at_ns, order_id), key=_time)
            self._forget_oldest(watched)
        if account not in self._struck and not self._found:
            self._judge_new(account, watched, now)

    def _forget_oldest(self, watched: WatchedAccount) -> None:
        """Forget the orders before the newest `max_new + 1`, because the first of these decides."""
        while self._max_new is not None and len(watched.new) > self._max_new + 1:
            del watched.times[watched.new.pop(0)[1]]

    def _judge_new(self, account: str, watched: WatchedAccount, now: Instant) -> None:
        """Find a reason if the account has too many new orders within the window that ends now."""
        new = watched.new
        if self._max_new is None or len(new) <= self._max_new:
            return
        span_ns = now.mono_ns - new[0][0]
        if span_ns <= self._window_ns:
            text = f"{account} has {len(new)} new orders within {self._window_s:g} s (allowed: {self._max_new})"
            evidence = {
                "account": account,
                "new": len(new),
                "max_new": self._max_new,
                "within_ms": span_ns // 1_000_000,
                "window_ms": self._window_ns // 1_000_000,
                "latest": [order_id for _, order_id in new[-MAX_SHOWN:]],
            }
            self._find(text, evidence, now)

    # ── the watch ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, report: Report) -> None:
        """Look at the accounts forever, and report each reason once."""
        while True:
            self._look()
            if self._found is not None:
                reason, self._found = self._found, None
                if reason.evidence["account"] not in self.accounts:
                    continue  # a reload has taken the account away
                reason = replace(reason, accounts=self.accounts)
                before = self._fired, set(self._struck)
                self._fired = reason.text
                self._struck.update(reason.accounts)
                if report(reason):
                    self._fired, self._struck = before
                    self._held = True
                    await anyio.sleep(LOOK_EVERY_S)  # because what is found again wakes this task at once
            with anyio.move_on_after(LOOK_EVERY_S):
                await self._news.wait()

    def _look(self) -> None:
        now = self._clock()
        mark = self._stall_clock.mark(now.mono_ns)
        self._held_back_ns(now.mono_ns)
        for name in self.accounts:
            watched, view = self._of(name), self._look_at(name)
            watched.open = None if view is None else view.open
            if view is None or not view.has_pushes or (self._max_open is not None and view.open is None):
                self._unsee(watched, mark)
                continue
            if watched.unseen is not None:
                watched.back = (watched.unseen.at_ns, now.mono_ns + BACKLOG_NS)
                watched.unseen = None
                watched.watched = watched.watched or mark
            if self._max_open is None or view.open is None or view.open <= self._max_open:
                watched.over_ns, watched.over = 0, None
                continue
            watched.over_ns += watched.over.listened_ns(mark) if watched.over is not None else 0
            watched.over = mark
            if name not in self._struck and self._found is None and watched.over_ns >= self._window_ns:
                self._find_open(name, view.open, now)
        for name in self.accounts if self._held and self._found is None else ():
            if name not in self._struck and self._found is None:
                self._judge_new(name, self._of(name), now)
        self._held = False
        for gone in self._known.keys() - set(self.accounts):  # a reload has removed it from the trigger
            del self._known[gone]
        self._struck.intersection_update(self.accounts)  # no re-arm of another account would be reported here
        if not self._struck:
            self._fired = ""

    def _unsee(self, watched: WatchedAccount, now: StallMark) -> None:
        """Stop the clocks of an account that is not seen; after a window they start from zero, and the account is
        blind.
        """
        watched.over = None
        if watched.unseen is None:
            watched.unseen = now
        elif watched.unseen.listened_ns(now) > self._window_ns:
            watched.over_ns, watched.watched = 0, None

    def _find_open(self, name: str, count: int, now: Instant) -> None:
        text = f"{name} has {count} open orders, and has had more than {self._max_open} for {self._window_s:g} s"
        window_ms = self._window_ns // 1_000_000
        self._find(text, {"account": name, "open": count, "max_open": self._max_open, "window_ms": window_ms}, now)

    def _find(self, text: str, evidence: Mapping[str, object], now: Instant) -> None:
        self._found = Reason(self.name, text, self.accounts, now, evidence)
        self._news.set()

    def _held_back_ns(self, now_ns: int) -> int:
        """Return for how many nanoseconds a stall may have held back a push that comes now."""
        before_ns, stall_ns, until_ns = self._stall
        deaf_ns = self._stall_clock.stalled_ns(now_ns)
        if deaf_ns > before_ns:
            new_ns = deaf_ns - before_ns
            stall_ns = new_ns + (stall_ns if now_ns - new_ns < until_ns else 0)
            until_ns = now_ns + BACKLOG_NS
        self._stall = (deaf_ns, stall_ns, until_ns)
        return stall_ns if now_ns < until_ns else 0

    def _seen_ns(self, watched: WatchedAccount, now: Instant) -> int:
        """Return when the account was last seen before a push that comes now."""
        if watched.unseen is not None:
            return watched.unseen.at_ns
        since_ns, until_ns = watched.back
        return since_ns if now.mono_ns < until_ns else now.mono_ns

    def _of(self, name: str) -> WatchedAccount:
        watched = self._known.get(name)
        if watched is None:
            watched = self._known[name] = WatchedAccount(self._stall_clock.mark(self._clock().mono_ns))
        return watched

    # ── state and re-arm ──────────────────────────────────────────────────────────────────────────────────────────

    def state(self) -> tuple[TriggerState, str]:
        """Return the state, with the account that is nearest to its limits as detail.

        An account that has joined since the trip, or was re-armed alone, makes the trigger blind as before.
        """
        if new := self._blindness([name for name in self.accounts if name not in self._struck]):
            return TriggerState.BLIND, new
        blind, unseen = self._blindness(self.accounts), self._unseen(self.accounts)
        if self._fired:
            return TriggerState.TRIPPED, f"{self._fired}; now {blind or self._standing()}"
        if blind:
            return TriggerState.BLIND, blind
        if unseen:
            return TriggerState.WAITING, f"waits until the orders of {', '.join(unseen)} are seen"
        return TriggerState.OK, self._standing()

    def measurements(self) -> Figures:
        """Return the most new and the most open orders of any account."""
        rates: dict[str, tuple[float, float]] = {}
        if self._max_new is not None:
            most = max((self._new(name) for name in self.accounts), default=0)
            rates["new_orders"] = (float(most), float(self._max_new))
        if self._max_open is not None and (fullest := self._fullest(self.accounts)) is not None:
            rates["open_orders"] = (float(fullest[1]), float(self._max_open))
        return rates

    def rearm_blocker(self, accounts: Collection[str] | None = None) -> str | None:
        """Return which of these accounts (None: of all its accounts) has too many orders, or is not seen."""
        asked = [name for name in self.accounts if accounts is None or name in accounts]
        many = [name for name in asked if self._max_new is not None and self._new(name) > self._max_new]
        full = [name for name in asked if self._of(name).over is not None]
        if many or full:
            return f"{self._standing(asked)}; it would fire again"
        now = self._stall_clock.mark(self._clock().mono_ns)
        unseen = self._unseen(asked)
        watched = {name: self._of(name).watched for name in asked if name not in unseen}
        short = [name for name, since in watched.items() if since is None or since.listened_ns(now) < self._window_ns]
        names = [*unseen, *(short if self._max_new is not None else ())]
        if not names:
            return None
        why = f"its orders have not been seen for {self._window_s:g} s"
        return Unseen(f"whether {', '.join(names)} has too many orders", why)

    def on_rearmed(self, accounts: Collection[str] | None = None) -> None:
        """Start over for these accounts (None: all), if the trigger has fired."""
        if not self._fired:
            return
        for name, watched in self._known.items():
            if accounts is None or name in accounts:
                watched.forget()
                self._struck.discard(name)
        if not self._struck.intersection(self.accounts):
            self._fired = ""

    def blindness(self, accounts: Collection[str]) -> str:
        """Return which of these accounts have not been seen for longer than the window; "": none."""
        return self._blindness([name for name in self.accounts if name in accounts])

    def _unseen(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self._of(name).unseen is not None]

    def _blindness(self, names: Sequence[str]) -> str:
        now = self._stall_clock.mark(self._clock().mono_ns)
        unseen = {name: since.listened_ns(now) for name in names if (since := self._of(name).unseen) is not None}
        return ", ".join(
            f"the orders of {name} are not seen for {ns / 1e9:.1f} s"
            for name, ns in unseen.items()
            if ns > self._window_ns
        )

    def _new(self, account: str) -> int:
        """Return the number of new orders within the window that ends now."""
        since_ns = self._clock().mono_ns - self._window_ns
        return sum(at_ns >= since_ns for at_ns, _ in self._of(account).new)

    def _fullest(self, names: Sequence[str]) -> tuple[str, int] | None:
        """Return the account with the most open orders, and their number; None if no number is known."""
        counts = [(name, count) for name in names if (count := self._of(name).open) is not None]
        return max(counts, key=lambda pair: pair[1], default=None)

    def _standing(self, names: Sequence[str] = ()) -> str:
        """Return the numbers of the accounts with the most orders, of these accounts or of all."""
        words, names = [], names or self.accounts
        if self._max_new is not None:
            busiest = max(names, key=self._new)
            words.append(f"{self._new(busiest)} new orders within {self._window_s:g} s, of {self._max_new} ({busiest})")
        if self._max_open is not None and (fullest := self._fullest(names)) is not None:
            words.append(f"{fullest[1]} open orders, of {self._max_open} ({fullest[0]})")
        return ", ".join(words) or "no order is known yet"


def _time(placed: tuple[int, str]) -> int:
    return placed[0]
