"""Send a command by a frame and as a request at once, and judge both answers (docs/venues/kraken.md § 3.3).

It is not documented whether the frame covers triggers; the request does. So the request's answer decides, unless it is
lost. Orders that the frame has cancelled count too.
"""

from __future__ import annotations

from kill_switch.core.domain import CancelOutcome, Instant
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.strike import CancelCommand, CommandPart, Striker
from kill_switch.venues.kit.strike_tally import StrikeTally, is_final, outcome_of
from kill_switch.venues.messages import Outputs, Send
from kill_switch.venues.request import Request


class BothPart(CommandPart):
    """A command whose frame and request are both on their way."""

    __slots__ = ("beside", "held")
    _striker: BothRoutesStriker

    def __init__(self, striker: BothRoutesStriker, strike: StrikeTally, command: CancelCommand) -> None:
        super().__init__(striker, strike, command)
        self.beside: CancelResult | None = None  # the frame's answer
        self.held: CancelResult | None = None  # the request's answer, which waits for the frame's

    def on_frame_lost(self, now: Instant) -> Outputs:
        """End the command with the answer that was held, or go on as without the frame."""
        return (*self._striker.settle_held(self, now), *super().on_frame_lost(now))

    def on_grace_end(self, now: Instant) -> Outputs:
        """End the command with the answer that was held, or its last outcome: the frame's answer has not come."""
        return (*self._striker.settle_held(self, now), *super().on_grace_end(now))


class BothRoutesStriker(Striker):
    """The kit's striker where the twin of a frame leaves at once beside it."""

    def _issue(
        self, strike: StrikeTally, command: CancelCommand, now: Instant, begun: Request | Send | None
    ) -> Outputs:
        return self._send(BothPart(self, strike, command), now, begun)

    def _follow_frame(self, part: CommandPart, now: Instant) -> Outputs:
        return self.start_twin(part, now)

    def _on_frame_judged(self, part: CommandPart, result: CancelResult, now: Instant) -> Outputs:
        """Keep the answer to a frame: the twin's answer decides, unless it is lost."""
        assert isinstance(part, BothPart)  # noqa: S101 - `_issue` makes no others
        part.beside = result
        if part.held is not None:
            return self.settle_held(part, now)
        if part.twin_ended and is_final(result.reply):
            return self._settle(part, result, now, alone=False)
        result.note_in(self._book, alone=False)
        return self.settle_last(part, now) if part.twin_ended else ()

    def _on_twin_judged(self, part: CommandPart, result: CancelResult, now: Instant) -> Outputs:
        """Keep the twin's answer until the frame's comes, but no longer than a second route takes."""
        if not part.framed:
            return super()._on_twin_judged(part, result, now)
        assert isinstance(part, BothPart)  # noqa: S101 - `_issue` makes no others
        part.held = result
        if part.conn is None:
            return self.settle_held(part, now)
        return (self._timers.start(self._second_route.cancel_s, part.on_grace_end),)

    def on_twin_loss(self, part: CommandPart, why: str, now: Instant, *, sent: bool) -> Outputs:
        """Apply the loss of a request: then the answer to its frame decides, if it has come."""
        if isinstance(part, BothPart) and not part.settled and part.beside is not None and is_final(part.beside.reply):
            part.twin_ended = True
            return self._settle(part, part.beside, now, alone=False)
        return super().on_twin_loss(part, why, now, sent=sent)

    def settle_held(self, part: BothPart, now: Instant) -> Outputs:
        """End a command with the twin's answer that was held, and with the frame's, if that has come."""
        if part.settled or part.held is None:
            return ()
        hit_none = part.beside is not None and _has_hit_none(part.beside)
        return self._settle(part, both_results(part.held, part.beside), now, alone=part.is_only_copy and hit_none)


def _has_hit_none(result: CancelResult) -> bool:
    """Return whether the reply says that the command has cancelled no order."""
    return not result.cancelled_count and outcome_of(result.reply) is not CancelOutcome.UNKNOWN


def both_results(twin: CancelResult, frame: CancelResult | None) -> CancelResult:
    """Return the twin's result, with the orders that the frame has cancelled too: an order is cancelled once."""
    if frame is None or not is_final(frame.reply):
        return twin
    if not is_final(twin.reply):
        return twin._replace(cancelled_count=twin.cancelled_count or frame.cancelled_count)
    if not frame.cancelled_count or twin.cancelled_count is None:
        return twin
    count = twin.cancelled_count + frame.cancelled_count
    reply = twin.reply._replace(evidence=f"{count} order(s) cancelled")
    return twin._replace(reply=reply, cancelled_count=count)
