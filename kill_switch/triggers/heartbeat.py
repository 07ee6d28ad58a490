"""Fire when a strategy's heartbeat stops.

Time is the monotonic clock's: a wall clock that jumps neither trips this nor hides a loss. Before the time-out is taken
for true, what already waits in the intake's sockets is read, and time in which this process itself was deaf is not
counted (`attention`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import anyio

from kill_switch.domain import Now, Reason
from kill_switch.triggers.attention import Attention
from kill_switch.triggers.base import Figures, Report, TriggerState


class Heartbeat:
    """Watch one heartbeat; `beat` and `bye` come from the intake."""

    kind = "heartbeat"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        timeout_s: float,
        start: Literal["first-beat", "boot"],
        allow_bye: bool,
        *,
        clock: Callable[[], Now],
        attention: Attention,
        drain: Callable[[], None],
    ) -> None:
        self.name = name
        self.accounts = accounts
        self._timeout_ns = int(timeout_s * 1e9)
        self.start = start
        self._allow_bye = allow_bye
        self._clock = clock
        self._attention = attention
        self._drain = drain
        self._watching = False
        self._beaten_ns: int | None = None  # the last beat of all
        self._since_ns = 0  # the last beat, or the start of the watch
        self._deaf_ns = 0  # how deaf we had been until then
        self._fired = False
        self._changed = anyio.Event()

    def boot(self) -> None:
        """Start counting, where the configuration says to do so without waiting for a first beat."""
        if self.start == "boot" and not self._watching:
            self._watch(self._clock().mono_ns)

    def succeed(self, before: Heartbeat) -> None:
        """Go on from the one that this replaces: who was waited for is waited for, and who was silent stays silent."""
        self._beaten_ns, self._since_ns, self._deaf_ns = before._beaten_ns, before._since_ns, before._deaf_ns
        self._watching, self._fired = before._watching, before._fired

    def beat(self) -> None:
        """Take a beat."""
        at_ns = self._clock().mono_ns
        self._beaten_ns = at_ns
        if not self._fired:
            self._watch(at_ns)

    def bye(self) -> bool:
        """Take an orderly goodbye: stop watching until the next beat; False where that is not allowed."""
        if not self._allow_bye:
            return False
        if not self._fired:
            self._watching = False
            self._wake()
        return True

    async def run(self, report: Report) -> None:
        while True:
            changed = self._changed
            if not self._watching or self._fired:
                await changed.wait()
                continue
            wait_s = (self._deadline_ns() - self._clock().mono_ns) / 1e9
            if wait_s > 0:
                with anyio.move_on_after(wait_s):
                    await changed.wait()
                continue
            self._drain()
            now = self._clock()
            if self._watching and not self._fired and now.mono_ns >= self._deadline_ns():
                self._fire(now, report)

    def condition(self) -> tuple[TriggerState, str]:
        now_ns = self._clock().mono_ns
        ago = "never" if self._beaten_ns is None else f"{(now_ns - self._beaten_ns) / 1e9:.1f} s ago"
        if self._fired:
            return TriggerState.TRIPPED, f"heartbeat lost; last beat: {ago}"
        if not self._watching:
            return TriggerState.WAITING, f"waits for a beat; last beat: {ago}"
        return TriggerState.OK, f"last beat: {ago}, allowed: {self._timeout_ns / 1e9:g} s"

    def figures(self) -> Figures:
        if self._beaten_ns is None:
            return {}
        return {"silent_s": ((self._clock().mono_ns - self._beaten_ns) / 1e9, self._timeout_ns / 1e9)}

    def against_rearm(self) -> str | None:
        if self.start == "first-beat":
            return None  # it waits for a first beat again
        now_ns = self._clock().mono_ns
        if self._beaten_ns is not None and now_ns - self._beaten_ns < self._timeout_ns:
            return None
        return None if not self._fired else "no heartbeat yet; it would fire again"

    def reset(self) -> None:
        if not self._fired:
            return  # it sees its beats: a re-arm is no reason to look away
        self._fired = self._watching = False
        self.boot()
        self._wake()

    def _deadline_ns(self) -> int:
        now_ns = self._clock().mono_ns
        return self._since_ns + self._timeout_ns + self._attention.deaf_ns(now_ns) - self._deaf_ns

    def _watch(self, at_ns: int) -> None:
        started = not self._watching
        self._watching, self._since_ns, self._deaf_ns = True, at_ns, self._attention.deaf_ns(at_ns)
        if started:
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _fire(self, now: Now, report: Report) -> None:
        self._fired = True
        silent_ms = (now.mono_ns - self._since_ns) // 1_000_000
        text = f"no heartbeat for {silent_ms / 1000:.3f} s (allowed: {self._timeout_ns / 1e9:g} s)"
        evidence = {
            "silent_ms": silent_ms,
            "timeout_ms": self._timeout_ns // 1_000_000,
            "deaf_ms": (self._attention.deaf_ns(now.mono_ns) - self._deaf_ns) // 1_000_000,
            "beats_before": self._beaten_ns is not None,
        }
        report(Reason(self.name, text, self.accounts, now, evidence))
