"""Carry out CrossTrade strikes by the kit's striker, as far as the user has request tokens for their commands.

A strike has one cancel for each NT account, and cancels by id beside them. Which of these are sent is decided by
`strike_plan`, never here. § numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from kill_switch.core.domain import CancelOutcome, Instant, Route
from kill_switch.venues.crosstrade.replies import is_limited, is_offline
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.tokens import READ_KEEPS
from kill_switch.venues.crosstrade.user_wire import UserWire
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.strike import CancelCommand, CommandPart, Striker
from kill_switch.venues.kit.strike_tally import StrikeTally
from kill_switch.venues.messages import CancelAnswered, Output, Outputs, Send
from kill_switch.venues.request import Request

SECONDS_PER_S = 2.0  # second copies per second once the tokens are spent: the rest of the 3 that come back is for reads
SILENT_S = 0.5  # without any reply by then the frames have not arrived, and have cost nothing
LAST_AGAIN_S = 3.2  # before the second copy of a queued cancel: longer than the lane awaits the first copy's answer


class Target(NamedTuple):
    """Target of a cancel: an order, or all of an account's orders."""

    account: str
    order: str = ""


class UserStrike(StrikeTally):
    """A strike; its answer names the NT accounts whose cancel the venue has not accepted."""

    __slots__ = ("_failed", "accounts", "framed", "short")

    def __init__(self, made_ns: int, accounts: Sequence[str] = ()) -> None:
        super().__init__(made_ns)
        self.accounts = accounts
        self.framed: list[TokenPart] = []  # its account-wide cancels that have left as frames
        self.short = False  # a cancel was refused for want of tokens: cancels that are not sent yet go into the queue
        self._failed: dict[str, str] = {}  # account → evidence

    @property
    def is_heard(self) -> bool:
        """Whether a reply over the WebSocket has come."""
        return any(part.conn is None for part in self.framed)

    def note_failure(self, account: str, evidence: str) -> None:
        """Note that an account's cancel was not accepted."""
        self._failed[account] = evidence

    def _describe_failure(self) -> str:
        failed = [name for name in self.accounts if name in self._failed]
        if len(self.accounts) < 2 or not failed:
            return super()._describe_failure()
        return f"not accepted for {', '.join(failed)}: {self._failed[failed[0]]}"


class TokenPart(CommandPart):
    """A single cancel of a strike."""

    __slots__ = ("again_s", "from_queue", "rank", "target", "user_strike")
    _striker: TokenStriker

    def __init__(self, striker: TokenStriker, strike: UserStrike, command: CancelCommand, target: Target) -> None:
        super().__init__(striker, strike, command)
        self.user_strike = strike
        self.target = target
        self.rank = 2 if target.order else 0  # in the queue: the lower goes first
        self.again_s = 0.0  # until its next copy leaves
        self.from_queue = False  # it was sent from the queue

    @property
    def must_wait(self) -> bool:
        """Whether its request, if it is not sent yet, must wait in the queue."""
        return self.user_strike.short and not self.from_queue

    def on_overdue(self, now: Instant) -> Outputs:
        return self._striker.on_overdue(self, now)


class TokenStriker(Striker):
    """The kit's striker where each copy of a command needs a token.

    As many cancels are sent at once as there are tokens by our count. The WebSocket carries as many of them as may be
    refused without ending the session, REST carries the others. Second copies wait for a token each. The first refusal
    for want of tokens ends the burst: refused and unsent cancels then go over REST, from the queue.
    """

    _wire: UserWire
    _queue: RequestQueue

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._waiting: dict[Target, TokenPart] = {}  # queued, or sent from there, unanswered
        self._latest = UserStrike(0)

    def use(self, wire: UserWire, queue: RequestQueue) -> None:
        """Set the venue's own parts; call it once, before anything else."""
        self._wire = wire
        self._queue = queue

    @property
    def is_waiting(self) -> bool:
        """Whether cancels are queued."""
        return bool(self._waiting)

    def drop(self) -> None:
        super().drop()
        self._waiting.clear()
        self._queue.drop_cancels()
        self._latest = UserStrike(0)

    # ── the burst ─────────────────────────────────────────────────────────────────────────────────────────────────

    def abandon_begun(self, now: Instant) -> None:
        """Forget the frame that was sent early, because the strike does not begin with it; its reply is ignored."""
        number = self._built.drop()
        if isinstance(self._begun, Send) and number is not None:
            self._wire.note_sent([tag_of(number)], now)
        self._begun = None

    def strike_targets(
        self,
        commands: dict[Target, CancelCommand],
        now: Instant,
        *,
        kill: bool,
        holding: Collection[str],
        idle: str,
    ) -> Iterator[Output]:
        """Yield the cancels of a strike, account-wide ones first.

        `kill`: it is a kill's first strike, of which at least one cancel is sent at once. Of the accounts that have to
        wait in the queue, those of `holding` go first: they are known to have orders. `idle` is the reason why no
        account is cancelled account-wide, "" if any is.
        """
        begun, self._begun = self._begun, None
        if not kill and self._waiting:  # cancels in the queue are in progress
            commands = {
                target: command
                for target, command in commands.items()
                if target not in self._waiting and Target(target.account) not in self._waiting
            }
            if not commands:
                text = f"{len(self._waiting)} cancel(s) leave one by one already"
                yield CancelAnswered(CancelOutcome.UNKNOWN, text)
                return
        self._calls.budget.begin_strike(is_first=kill)
        strike = self._latest = UserStrike(now.mono_ns, [name for name, order in commands if not order])
        left = self._wire.bucket.left(now)
        # none at once while earlier ones wait, but one of a kill
        at_once = int(kill) if self._queue.cancels else max(1, int(left))
        room = self._wire.room(now)
        tokens = min(left, max(0.0, left - min(at_once, len(commands))))  # the first copies take theirs first
        framed: list[TokenPart] = []
        for number, (target, command) in enumerate(commands.items()):
            part = TokenPart(self, strike, command, target)
            part.again_s = self._second_route.cancel_s + max(0.0, (number + 1 + READ_KEEPS - tokens) / SECONDS_PER_S)
            if number < min(at_once, room):
                framed.append(part)
                yield from self._send(part, now, begun if number == 0 else None)
                continue
            _count(strike, part)
            if number < at_once:
                yield from self.start_twin(part, now)
                continue
            part.rank = part.rank or int(target.account not in holding)
            yield from self._wait(part, now)
        self._wire.note_sent([tag_of(part.number) for part in framed if part.framed], now)
        strike.framed = [part for part in framed if part.framed and not part.target.order]
        if strike.framed and max(part.again_s for part in strike.framed) > SILENT_S:
            yield self._timers.start(SILENT_S, partial(self._on_silence, strike))
        if not idle:
            yield from strike.end_one()
            return
        others = f"{len(commands)} other order(s) are cancelled by their ids" if commands else "nothing else is left"
        yield CancelAnswered(CancelOutcome.ACCEPTED, f"{idle}; {others}")

    def _copy_after_s(self, part: CommandPart, route: Route) -> float:
        return part.again_s if isinstance(part, TokenPart) else super()._copy_after_s(part, route)

    # ── tokens are short ──────────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, part: TokenPart, now: Instant) -> Outputs:
        """Queue a cancel for REST; it replaces an earlier strike's cancel of the same target."""
        before = self._waiting.get(part.target)
        self._waiting[part.target] = part
        part.twin_started = part.twin_ended = False
        outputs = self._queue.queue_cancel(part.target, part.rank, partial(self._send_queued, part), now)
        return outputs if before is None or before is part else (*outputs, *self._give_up(before, now))

    def _send_queued(self, part: TokenPart, now: Instant) -> Outputs:
        part.from_queue, part.again_s = True, LAST_AGAIN_S
        return super().start_twin(part, now)

    def _on_limited(self, part: TokenPart, reply: Reply, now: Instant) -> Outputs:
        """Apply a refusal for want of tokens: from now on this strike's cancels are sent from the queue only."""
        part.user_strike.short = True
        part.last = part.last or (CancelOutcome.UNKNOWN, reply.evidence)
        return self._wait(part, now)

    def _give_up(self, part: TokenPart, now: Instant) -> Outputs:
        part.last = part.last or (CancelOutcome.UNKNOWN, "no answer")
        return self.settle_last(part, now)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_frame_failed(self, part: CommandPart, reply: Reply, now: Instant) -> Outputs:
        """Try the twin of an account's frame; "the add-on is not connected" is final, because REST would fail too.

        The reply to a cancel of one order counts only until the next strike.
        """
        assert isinstance(part, TokenPart)  # noqa: S101 - `strike_targets` makes no others
        proves_nothing = reply.outcome is ReplyOutcome.NO_ANSWER
        if part.target.order and (proves_nothing or part.strike is not self._latest):
            return ()
        if is_limited(reply) and not part.twin_started:
            return self._on_limited(part, reply, now)
        if proves_nothing and part.last is not None:
            return self.settle_last(part, now) if part.twin_ended else self.start_twin(part, now)
        part.twin_ended = part.twin_ended or is_offline(reply) or bool(part.target.order)
        part.again_s = self._second_route.cancel_s
        return super()._on_frame_failed(part, reply, now)

    def on_twin_reply(self, part: CommandPart, reply: Reply, now: Instant) -> Outputs:
        """Apply the reply to a REST twin; a twin that is refused for want of tokens goes into the queue."""
        if is_limited(reply) and isinstance(part, TokenPart):
            return () if part.settled else self._on_limited(part, reply, now)
        return super().on_twin_reply(part, reply, now)

    def on_twin_loss(self, part: CommandPart, why: str, now: Instant, *, sent: bool) -> Outputs:
        """Apply the loss of a REST twin; a twin that the lane withheld for `must_wait` goes into the queue."""
        if isinstance(part, TokenPart) and part.must_wait and not sent and not part.settled:
            return self._wait(part, now)
        return super().on_twin_loss(part, why, now, sent=sent)

    def _end(
        self, part: CommandPart, outcome: CancelOutcome, evidence: str, count: int | None = None, ended: int = 0
    ) -> Outputs:
        """End a cancel; an acceptance is final for a queued cancel of the same target too."""
        assert isinstance(part, TokenPart)  # noqa: S101 - `strike_targets` makes no others
        waiting, accepted = self._waiting.get(part.target), outcome is CancelOutcome.ACCEPTED
        if waiting is part:
            self._drop_waiting(part.target)
        if not accepted:
            part.user_strike.note_failure(part.target.account, evidence)
        outputs = super()._end(part, outcome, evidence, count, ended)
        if part.target.order or not accepted:
            return outputs
        for target in [each for each in self._waiting if each.order and each.account == part.target.account]:
            self._drop_waiting(target)  # a read shows whether they are left
        if waiting is None or waiting is part or waiting.from_queue:
            return outputs
        waiting.settled = True
        return (*outputs, *self._end(waiting, outcome, evidence, count, ended))

    def _drop_waiting(self, target: Target) -> None:
        del self._waiting[target]
        self._queue.drop(target)

    # ── late and lost frames ──────────────────────────────────────────────────────────────────────────────────────

    def start_twin(self, part: CommandPart, now: Instant, first: Request | None = None) -> Outputs:
        """Send the REST twin now, or queue it if tokens are short."""
        if not isinstance(part, TokenPart) or not part.must_wait or part.twin_started or part.settled:
            return super().start_twin(part, now, first)
        return () if self._waiting.get(part.target) is part else self._wait(part, now)

    def on_overdue(self, part: TokenPart, now: Instant) -> Outputs:
        """Start the twin of an account's frame that is late, unless a later strike cancels the account too."""
        if part.settled or part.target.order:
            return ()
        if self._is_superseded(part):
            return self._give_up(part, now)
        part.again_s = max(self._second_route.cancel_s, 1 / SECONDS_PER_S)
        return self.start_twin(part, now)

    def _on_silence(self, strike: UserStrike, now: Instant) -> Outputs:
        """Start all twins of a strike of which no frame is answered: the frames have not arrived."""
        if strike.is_heard:
            return ()
        return tuple(output for part in strike.framed for output in self.on_overdue(part, now))

    def on_lost_session(self, conn: int, now: Instant, *, limited: bool) -> Outputs:
        """Start the twins of the frames that a closed connection left unanswered, as far as there are tokens.

        `limited`: the venue closed it for want of tokens. The timers of the other cancels are running.
        """
        outputs: Outputs = ()
        allowed = max(1, int(self._wire.bucket.left(now)))
        lost = [part for part in self._frames.take_lost(conn) if isinstance(part, TokenPart) and not part.target.order]
        heard = {part.user_strike for part in lost if part.user_strike.is_heard}
        for part in lost:
            part.conn, part.user_strike.short = None, part.user_strike.short or limited
            part.again_s = self._second_route.cancel_s
            if part.twin_ended or self._is_superseded(part):
                outputs += self._give_up(part, now)
            elif not part.twin_started and (allowed > 0 or part.user_strike not in heard):
                allowed -= 1
                outputs += self.start_twin(part, now)
        return outputs

    def _is_superseded(self, part: TokenPart) -> bool:
        """Return whether a later strike cancels the account too: a twin would cost that strike a token."""
        return (
            not part.twin_started and part.strike is not self._latest and part.target.account in self._latest.accounts
        )


def tag_of(number: int) -> str:
    """Return the id of a command's frame."""
    return f"k{number}"


def _count(strike: UserStrike, part: TokenPart) -> None:
    strike.begun += 1
    strike.waiting += not part.command.extra
