"""Run drills: a harmless command through the order path of each lane that carries a kill.

An `Adapter` owns one `DrillTracker`, builds the command and judges its answer. This module sends no cancel of its own.
"""

from __future__ import annotations

from typing import Any

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.messages import DRILL_WITHIN_S, Drilled, Outputs, Send, WakeAfter

DRILL = "drill"  # the kind of a drill's call, and the prefix of a frame's tag


class DrillTracker:
    """Send drills, and keep the WebSocket drills that are not answered yet; each drill ends in one `Drilled`."""

    def __init__(self, calls: CallStarter) -> None:
        self._calls = calls
        self._frames: dict[str, tuple[int, int]] = {}  # tag → connection, and when the frame was sent, monotonic

    def start_call(self, build: Build, now: Instant, *, context: Any = None) -> Outputs:
        """Drill the warm HTTP lane with a call that is not urgent; `context` becomes the call's `part`.

        The adapter's `on_reply` judges the reply to a call of the kind `DRILL`. A drill takes no second route: it has
        failed without an answer after `DRILL_WITHIN_S`.
        """
        return self._calls.start_call(DRILL, build, now, give_up_after_s=DRILL_WITHIN_S, context=context, on_loss=_lost)

    def start_frame(self, conn: int | None, tag: str, text: bytes, now: Instant) -> Outputs:
        """Drill the WebSocket lane with a frame whose `tag` begins with `DRILL`.

        The adapter calls `end_frame` with the result. Without a ready connection (`conn` is None) the drill has failed.
        """
        if conn is None:
            return (Drilled(Route.WS, False, 0, "the lane is not ready"),)
        self._frames[tag] = (conn, now.mono_ns)
        return (Send(conn, text), WakeAfter(tag, DRILL_WITHIN_S))

    def end_frame(self, tag: str, ok: bool, evidence: str, now: Instant) -> Outputs:
        """End a drill of the WebSocket lane; return nothing if no drill with this tag is under way."""
        drill = self._frames.pop(tag, None)
        return () if drill is None else (Drilled(Route.WS, ok, (now.mono_ns - drill[1]) // 1000, evidence),)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        """Process the timer of a frame: without an answer by now, its drill has failed."""
        return self.end_frame(tag, False, f"no answer within {DRILL_WITHIN_S:g} s", now)

    def on_closed(self, conn: int, why: str, now: Instant) -> Outputs:
        """Fail the drills whose frames a closed connection carried."""
        lost = [tag for tag, (used, _) in self._frames.items() if used == conn]
        return tuple(output for tag in lost for output in self.end_frame(tag, False, why, now))


def _lost(call: PendingCall, why: str, now: Instant) -> Outputs:
    return (Drilled(Route.HTTP, False, 0, why),)
