"""Fire for an account that cannot be reached: all its lanes are down for longer than the time-out.

The kill then uses fresh connections until the venue answers. Only the lost accounts are killed. An account is watched
from the moment on at which it is first reached, so a venue that is closed at the start trips nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import anyio

from kill_switch.core.domain import Instant, Reason
from kill_switch.triggers.base import Figures, Report, Trigger, TriggerState
from kill_switch.triggers.stall_clock import StallClock, StallMark

LOOK_EVERY_S = 0.1  # seconds between two looks


class LinkTrigger(Trigger):
    """Watch the lanes of its accounts, each account by itself."""

    kind = "link"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        timeout_s: float,
        *,
        clock: Callable[[], Instant],
        attention: StallClock,
        reachable: Callable[[], Mapping[str, bool]],
        troubles: Callable[[str], Mapping[str, str]] = lambda account: {},
    ) -> None:
        """Build the trigger; `reachable` returns for each account whether a lane is up, `troubles` what is wrong with
        its lanes.
        """
        self.name = name
        self.accounts = accounts
        self._timeout_ns = int(timeout_s * 1e9)
        self._clock = clock
        self._stall_clock = attention
        self._reachable = reachable
        self._troubles = troubles
        self._up: dict[str, StallMark] = {}  # account → when it was last up; missing: never
        self._fired: set[str] = set()  # accounts that it has fired for, until their re-arm

    async def run(self, report: Report) -> None:
        """Look at the lanes forever."""
        while True:
            self._look(report)
            await anyio.sleep(LOOK_EVERY_S)

    def state(self) -> tuple[TriggerState, str]:
        """Return the state, with the accounts that are down as detail."""
        down = {name: s for name in self.accounts if (s := self._down_s(name)) is not None and s > 2 * LOOK_EVERY_S}
        words = ", ".join(f"{name} down for {seconds:.1f} s" for name, seconds in down.items())
        if self._fired:
            return TriggerState.TRIPPED, words or "every account can be reached again"
        if unreached := [name for name in self.accounts if name not in self._up]:
            waits = f"waits until {', '.join(unreached)} can be reached for the first time"
            return TriggerState.WAITING, f"{words}; {waits}" if words else waits
        return TriggerState.OK, words or "every account can be reached"

    def measurements(self) -> Figures:
        """Return for how long the account that has been down longest is down."""
        down = [seconds for name in self.accounts if (seconds := self._down_s(name)) is not None]
        return {"down_s": (max(down), self._timeout_ns / 1e9)} if down else {}

    def rearm_blocker(self, accounts: Collection[str] | None = None) -> str | None:
        """Return which of these accounts (None: of all its accounts) it has fired for and cannot be reached yet."""
        reachable = self._reachable()
        fired = [name for name in self.accounts if name in self._fired and (accounts is None or name in accounts)]
        down = [name for name in fired if not reachable[name]]
        return f"{', '.join(down)} cannot be reached; it would fire again" if down else None

    def continue_from(self, before: LinkTrigger) -> None:
        """Continue from the trigger that this one replaces: an account that is down is lost at the same time."""
        self._up, self._fired = dict(before._up), before._fired & set(self.accounts)

    def on_rearmed(self, accounts: Collection[str] | None = None) -> None:
        """Start over for these accounts (None: all) that it has fired for; another lost account waits for its own
        re-arm.
        """
        fired = {name for name in self._fired if accounts is None or name in accounts}
        for name in fired:  # the others are watched already, and may be down
            self._up.pop(name, None)
        self._fired -= fired

    def _look(self, report: Report) -> None:
        now_ns = self._clock().mono_ns
        reachable = self._reachable()
        for gone in self._up.keys() - set(self.accounts):
            del self._up[gone]  # if a reload brings it back, it has to be reached first
        self._fired.intersection_update(self.accounts)  # no re-arm of another account would be reported here
        lost = []
        for name in self.accounts:
            if reachable[name]:
                self._up[name] = self._stall_clock.mark(now_ns)
            elif name not in self._fired and (down_s := self._down_s(name)) is not None:
                if down_s * 1e9 >= self._timeout_ns:
                    lost.append(name)
        if lost:
            self._fired.update(lost)
            text = f"{', '.join(lost)} cannot be reached for {self._timeout_ns / 1e9:g} s"
            evidence = {
                "lost": lost,
                "timeout_ms": self._timeout_ns // 1_000_000,
                "why": {name: why for name in lost if (why := dict(self._troubles(name)))},
            }
            if report(Reason(self.name, text, tuple(lost), self._clock(), evidence)):
                self._fired.difference_update(lost)

    def _down_s(self, name: str) -> float | None:
        """Return for how many seconds an account has been down, without stalled time; None if it has never been up."""
        if name not in self._up:
            return None
        return self._up[name].listened_ns(self._stall_clock.mark(self._clock().mono_ns)) / 1e9
