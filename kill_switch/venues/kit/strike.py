"""Carry out strikes of one or many commands; each strike ends in one `CancelAnswered`, and the worst outcome counts.

A command is an HTTP request, or a WebSocket frame with such a request as its twin. The twin leaves if the frame is not
answered in time, is not accepted, or loses its connection. An adapter owns one `Striker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from kill_switch.core.domain import CancelOutcome, Instant, Route
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall, begin_with
from kill_switch.venues.kit.cancel_result import CancelResult, no_detail
from kill_switch.venues.kit.command_frames import CommandFrames, FrameBuilder
from kill_switch.venues.kit.frames import FrameTracker
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.kit.second_route import SecondRoute
from kill_switch.venues.kit.strike_tally import StrikeTally, is_final, outcome_of
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.messages import (
    Output,
    Outputs,
    PrepareFrame,
    Replied,
    Send,
    UnexplainedMessage,
    WakeAfter,
)
from kill_switch.venues.request import Request

FRAME_GRACE_S = 1.0  # how long a twin that has failed waits for the frame's answer


class LeftOut(NamedTuple):
    """Known orders that no command of this strike cancels: the strike is not accepted, and the next one tries them."""

    evidence: str


def nothing_follows(reply: Reply, now: Instant) -> Iterable[StrikeStep]:
    """Return that nothing follows."""
    return ()


class CancelCommand(NamedTuple):
    """A command of a strike: an HTTP request, or a frame with this request as its twin."""

    name: str
    build: Build  # builds and signs each copy of the request
    judge: Callable[[Reply], CancelResult] = no_detail  # looks closer at any reply
    then: Callable[[Reply, Instant], Iterable[StrikeStep]] = nothing_follows  # what its judged reply leads to
    frame: FrameBuilder | None = None  # a frame's number → its text; the request is its twin
    extra: bool = False  # beside the strike's answer: a cancel of one order beside a mass cancel
    reads: bool = False  # it reads a list, to find what to cancel
    line: str = ""  # the request as `describe_strike` shows it, without key and signature
    frame_line: str = ""  # the same of the frame


StrikeStep = CancelCommand | LeftOut | Output  # what a strike does, or what its adapter states meanwhile


class CommandPart:
    """A command on its way by a frame, a request or both; its first final reply ends it."""

    __slots__ = (
        "_striker", "command", "conn", "framed", "is_cancel", "is_only_copy", "last", "number", "settled", "strike",
        "twin_ended", "twin_started",
    )  # fmt: skip

    def __init__(self, striker: Striker, strike: StrikeTally, command: CancelCommand) -> None:
        self._striker = striker
        self.strike = strike
        self.command = command
        self.is_cancel = not command.extra and (not command.reads or not strike.begun)  # the first command counts too
        self.conn: int | None = None  # the connection whose answer may still come
        self.number = 0  # of its frame
        self.framed = False  # its frame may have left
        self.twin_started = False
        self.twin_ended = False
        self.last: tuple[CancelOutcome, str] | None = None  # the latest outcome that was not final
        self.is_only_copy = False  # the twin was answered, and the venue cannot have executed another copy of it
        self.settled = False

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        self.is_only_copy = call.is_only_copy
        return self._striker.on_twin_reply(self, reply, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self._striker.on_twin_loss(self, why, now, sent=call.sent or self.framed)

    def on_overdue(self, now: Instant) -> Outputs:
        """Send the twin of a frame that is not answered in time; the frame may still be answered."""
        return self._striker.start_twin(self, now)

    def on_frame_lost(self, now: Instant) -> Outputs:
        """Send the twin, or end the command if that has ended: the frame's connection has closed."""
        return self._striker.settle_last(self, now) if self.twin_ended else self._striker.start_twin(self, now)

    def on_grace_end(self, now: Instant) -> Outputs:
        """End the command with its last outcome: the frame's answer has not come."""
        return self._striker.settle_last(self, now)


class Striker:
    """Issue an account's commands, and follow each until it is settled."""

    def __init__(
        self,
        calls: CallStarter,
        book: OrderBook,
        frames: FrameTracker[CommandPart],
        timers: TimerTable,
        second_route: SecondRoute,
        carrier: Callable[[], int | None],
        on_settled: Callable[[int], None],
    ) -> None:
        """Make a striker without a strike.

        `carrier` returns the connection that carries commands now, None if no connection does. `on_settled` is called
        with the moment, monotonic, at which a strike was made one of whose commands is settled now.
        """
        self._calls = calls
        self._book = book
        self._frames = frames
        self._timers = timers
        self._second_route = second_route
        self._carrier = carrier
        self._on_settled = on_settled
        self._built = CommandFrames(frames.next_number)
        self._begun: Request | Send | None = None  # the first message of the coming strike, which was sent early
        self.frames_suffice = False  # the last frame was accepted before its twin left: strikes make no requests

    # the first command

    def prebuild(self, command: CancelCommand, now: Instant) -> Request | Send:
        """Build the first message of the strike that follows, and begins with `command`."""
        conn = None if command.frame is None else self._carrier()
        if self._begun is not None:
            self._built.drop()  # no strike has followed
        if command.frame is None or conn is None:
            self._begun = command.build(now)
        else:
            self._begun = self._built.prepared(command.frame, conn)
        return self._begun

    def prepare(self, command: CancelCommand | None) -> Outputs:
        """Build the first frame of the next strike in advance; no `PrepareFrame` if no frame carries it."""
        self._built.drop()
        if command is None or command.frame is None or (conn := self._carrier()) is None:
            return ()
        try:
            return (PrepareFrame(conn, self._built.prepare(command.frame, conn).text),)
        except Exception as error:  # because the twins of a closed connection have to leave
            return (UnexplainedMessage(_failure(command, error)),)

    # strikes

    def strike(
        self, steps: Iterable[StrikeStep], now: Instant, *, is_later: bool, is_wide: bool = False
    ) -> Iterator[Output]:
        """Yield the commands of a strike as they are built; the first is the prebuilt message, if there is one.

        `is_later`: it is not the kill's first. `is_wide`: it has a command for each of many symbols. No copy of either
        leaves before an answer can have come: the copies draw from the venue's limits.
        """
        strike = StrikeTally(now.mono_ns, copies_wait=is_later or is_wide)
        self._calls.budget.begin_strike(is_first=not is_later)
        begun, self._begun = self._begun, None
        for step in steps:
            yield from self._take_step(strike, step, now, begun)
            begun = None
        yield from strike.end_one()

    def issue_extra(self, command: CancelCommand, now: Instant) -> Outputs:
        """Issue an `extra` command that leaves later in a strike than other messages of its adapter."""
        return self._issue(StrikeTally(now.mono_ns), command, now, None)

    def drop(self) -> None:
        """Drop all strikes, because the account is armed again: no twin and no follow-up leaves any more."""
        self._begun = None
        for part in self._frames.take_all():
            part.settled = True

    def _take_step(
        self, strike: StrikeTally, step: StrikeStep, now: Instant, begun: Request | Send | None = None
    ) -> Outputs:
        if isinstance(step, CancelCommand):
            waiting = strike.waiting
            try:
                return self._issue(strike, step, now, begun)
            except Exception as error:  # because the commands behind it have to leave
                strike.waiting = waiting
                strike.leave_out(_failure(step, error))
                return ()
        if not isinstance(step, LeftOut):
            return (step,)
        strike.leave_out(step.evidence)
        return ()

    def _issue(
        self, strike: StrikeTally, command: CancelCommand, now: Instant, begun: Request | Send | None
    ) -> Outputs:
        return self._send(CommandPart(self, strike, command), now, begun)

    def _send(self, part: CommandPart, now: Instant, begun: Request | Send | None) -> Outputs:
        """Send a command by a frame, if a connection can carry it, else as a request."""
        strike, command = part.strike, part.command
        strike.begun += 1
        if not command.extra:
            strike.waiting += 1
        conn = None if command.frame is None else self._carrier()
        if command.frame is None or conn is None:
            first = begun if isinstance(begun, Request) else None
            return self.start_twin(part, now, first)
        try:
            send, number = self._built.take(begun, conn) or self._built.build(command.frame, conn)
        except Exception as error:  # because the request may be built all the same
            return (UnexplainedMessage(_failure(command, error)), *self.start_twin(part, now))
        part.conn, part.number, part.framed = conn, number, True
        self._frames.add(number, conn, part)
        return (send, *self._follow_frame(part, now))

    def _follow_frame(self, part: CommandPart, now: Instant) -> Outputs:
        """Return what leaves behind a frame: a timer, after which its twin follows if it is not answered."""
        return (self._timers.start(self._copy_after_s(part, Route.WS), part.on_overdue),)

    def _copy_after_s(self, part: CommandPart, route: Route) -> float:
        """Return after how many seconds without an answer the next copy leaves; `route` has carried the last one."""
        return self._second_route.strike_s(route, copies_wait=part.strike.copies_wait)

    def start_twin(self, part: CommandPart, now: Instant, first: Request | None = None) -> Outputs:
        """Send the request of a command, unless it was sent or the command is settled."""
        if part.twin_started or part.settled:
            return ()
        part.twin_started = True
        self.frames_suffice = False
        command = part.command
        return self._calls.start_call(
            command.name,
            command.build if first is None else begin_with(first, command.build),
            now,
            urgent=True,
            cancel=part.is_cancel,
            command=True,
            second_route_after_s=None if command.extra else self._copy_after_s(part, Route.HTTP),
            context=part,
            on_loss=part.on_loss,
        )

    # replies

    def on_frame_reply(self, number: int, conn: int, reply: Reply, now: Instant) -> Outputs | None:
        """Apply the answer to a frame; return None if it is no frame of a strike. Its twin follows if it failed."""
        part = self._frames.take(number, conn)
        if part is None:
            return None
        self._second_route.note_round_trip(Route.WS, (now.mono_ns - part.strike.made_ns) / 1000)
        result = part.command.judge(reply)
        part.conn = None
        if part.settled:
            result.note_in(self._book, alone=False)
            return ()
        return self._on_frame_judged(part, result, now)

    def _on_frame_judged(self, part: CommandPart, result: CancelResult, now: Instant) -> Outputs:
        """Apply the answer to a frame whose command is not settled; a failure starts its twin."""
        if is_final(result.reply):
            self.frames_suffice = not part.twin_started
            return self._settle(part, result, now, alone=not part.twin_started)
        return self._on_frame_failed(part, result.reply, now)

    def _on_frame_failed(self, part: CommandPart, reply: Reply, now: Instant) -> Outputs:
        """Apply the answer to a frame that has not been accepted: its twin decides, if there can be one."""
        part.last = (outcome_of(reply), reply.evidence)
        return self.start_twin(part, now) if self.has_twin(part, reply) else self.settle_last(part, now)

    def has_twin(self, part: CommandPart, reply: Reply) -> bool:
        """Return whether a frame with this reply has a twin, on its way or still to leave, that decides."""
        return not part.twin_ended

    def is_replaced(self, command: CancelCommand, steps: Sequence[StrikeStep]) -> bool:
        """Return whether the steps that follow the reply repeat the command, whose own failure then does not count."""
        return False

    def on_closed(self, conn: int, now: Instant) -> Outputs:
        """Send the twins of the frames that a closed connection has left unanswered."""
        self._built.on_closed(conn)
        outputs: Outputs = ()
        for part in self._frames.take_lost(conn):
            part.conn = None
            outputs += part.on_frame_lost(now)
        return outputs

    def on_twin_reply(self, part: CommandPart, reply: Reply, now: Instant) -> Outputs:
        """Apply the reply to a request; a failure is not final while the frame's answer may still come."""
        part.twin_ended = True
        result = part.command.judge(reply)
        if part.settled:
            result.note_in(self._book, alone=False)
            return ()
        return self._on_twin_judged(part, result, now)

    def _on_twin_judged(self, part: CommandPart, result: CancelResult, now: Instant) -> Outputs:
        """Apply the reply to a request whose command is not settled."""
        if part.conn is not None and not is_final(result.reply):
            part.last = (outcome_of(result.reply), result.reply.evidence)
            return (self._await_frame(part),)
        return self._settle(part, result, now, alone=part.is_only_copy and not part.framed)

    def on_twin_loss(self, part: CommandPart, why: str, now: Instant, *, sent: bool) -> Outputs:
        """Apply the loss of a request: the command is unsent only if no byte of frame and request can have left."""
        part.twin_ended = True
        if part.settled:
            return ()
        part.last = part.last or (CancelOutcome.UNKNOWN if sent else CancelOutcome.UNSENT, why)
        return (self._await_frame(part),) if part.conn is not None else self.settle_last(part, now)

    def _await_frame(self, part: CommandPart) -> WakeAfter:
        return self._timers.start(FRAME_GRACE_S, part.on_grace_end)

    def settle_last(self, part: CommandPart, now: Instant) -> Outputs:
        """End a command with its last outcome, unless it is settled."""
        if part.settled or part.last is None:
            return ()
        part.settled = True
        outcome, evidence = part.last
        return self._end(part, outcome, evidence)

    def _settle(self, part: CommandPart, result: CancelResult, now: Instant, *, alone: bool) -> Outputs:
        """End a command with its final reply, and carry out what follows from it."""
        part.settled = True
        self._calls.end_copies(part)
        reply, strike = result.reply, part.strike
        result._replace(refused=()).note_in(self._book, alone=alone)
        steps: tuple[StrikeStep, ...]
        try:
            steps = tuple(part.command.then(reply, now))
        except Exception as error:  # because the strike has to be answered
            steps = (LeftOut(_failure(part.command, error)),)
        follow_ups: Outputs = ()
        for step in steps:
            follow_ups += self._take_step(strike, step, now)
        if self.is_replaced(part.command, steps):
            return (*strike.replace(), *follow_ups)
        CancelResult(reply, refused=result.refused).note_in(self._book, alone=alone)
        count = (
            result.cancelled_count if alone or result.cancelled_count else None
        )  # another copy may have hit what this one did not find
        return (*self._end(part, outcome_of(reply), reply.evidence, count, len(result.ended)), *follow_ups)

    def _end(
        self, part: CommandPart, outcome: CancelOutcome, evidence: str, count: int | None = None, ended: int = 0
    ) -> Outputs:
        if part.command.extra:
            refused = outcome is CancelOutcome.REFUSED
            return (UnexplainedMessage(f"{part.command.name} refused: {evidence}"),) if refused else ()
        self._on_settled(part.strike.made_ns)
        return part.strike.settle(outcome, evidence, count, ended, is_cancel=part.is_cancel, is_list=part.command.reads)


def _failure(command: CancelCommand, error: Exception) -> str:
    return f"{command.name}: internal error: {type(error).__name__}"
