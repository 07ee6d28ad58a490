"""Carry out CrossTrade strikes: a WebSocket frame for each cancel, and its REST twin where the frame is not answered.

The adapter begins strikes and hands over replies, losses and timers; a strike of several NT accounts ends in one
answer. Which accounts and orders are cancelled is decided by `strike_plan`, never here.
§ numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from kill_switch.core.domain import CancelOutcome, Instant
from kill_switch.venues.crosstrade.cancel_part import CancelPart, CrossTradeStrike
from kill_switch.venues.crosstrade.replies import is_limited, is_offline
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.tokens import READ_KEEPS, UserWire, path_of, rpc_frame, single_target
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import CancelAnswered, Output, Outputs, PrepareFrame, Send, UnexplainedMessage

CANCEL = "CancelOrders"  # the RPC that cancels all of an NT account's orders (§ 4)
SECONDS_PER_S = 2.0  # second copies per second once the tokens are spent: the rest of the 3 that come back is for reads
SILENT_S = 0.5  # without any reply by then the frames have not arrived, and have cost nothing
SETTLE_S = 1.0  # how long a failed REST twin waits for the WebSocket's reply
LAST_AGAIN_S = 3.2  # before the second copy of a queued cancel: longer than the lane awaits the first copy's answer


@dataclass(slots=True, eq=False)
class CrossTradeStriker:
    """Carry out strikes.

    The kit's striker does not serve: each copy needs a token, and a cancel without a token waits in a queue.

    As many cancels are sent at once as there are tokens by our count. The WebSocket carries as many of them as may be
    refused without ending the session, REST carries the others. The first refusal for want of tokens ends the burst:
    refused and unsent cancels then go over REST, from the queue.
    """

    wire: UserWire
    accounts: tuple[str, ...]
    turns: RequestQueue
    settled: Callable[[str, str, Reply, Instant], None]  # gets the final reply to each cancel: account, order or ""
    answered: Callable[[int], None]  # gets the moment, monotonic, at which a strike was made that is now answered
    _cancels: dict[str, Build] = field(init=False)
    _parts: dict[CancelPart, None] = field(default_factory=dict)  # account-wide ones with a frame, not settled
    _waiting: dict[str, CancelPart] = field(default_factory=dict)  # queued, or sent from there, unanswered; by target
    _latest: CrossTradeStrike = field(default_factory=lambda: CrossTradeStrike(()))
    _count: int = 0
    _next: Send | None = None  # the prepared first frame of the next strike
    _first: Send | None = None  # the first frame of the coming strike, which was sent early

    def __post_init__(self) -> None:
        self._cancels = {name: self.wire.build("POST", f"{path_of(name)}/orders/cancel") for name in self.accounts}
        for build in self._cancels.values():
            _ = build(Instant(0, 0)).wire  # rendered now, so that a kill only writes

    def drop_strikes(self) -> None:
        """Drop the strikes in progress: none of their twins is sent any more."""
        self._parts.clear()
        self._waiting.clear()
        self.turns.drop_cancels()
        self._latest = CrossTradeStrike(())

    def prebuilt_frame(self, now: Instant) -> Send | None:
        """Return the first frame of a strike on every account, which the caller sends now; None if there is none.

        The `strike` that follows yields the same object first, or abandons the frame.
        """
        conn = self.wire.carrier(now)
        if conn is None or self._waiting:
            return None
        if self._next is None or self._next.conn != conn:
            self.prepare(conn)
        self._first = self._next
        return self._first

    def prepare(self, conn: int) -> PrepareFrame:
        """Build the first frame of the next strike on this connection."""
        text = rpc_frame(CANCEL, {"account": self.accounts[0]}, f"k{self._count + 1}-0")
        self._next = Send(conn, text, command=True)
        return PrepareFrame(conn, text)

    def strike(
        self,
        chosen: tuple[str, ...],
        singles: list[tuple[str, str]],
        now: Instant,
        *,
        kill: bool,
        holding: Callable[[], Collection[str]],
        idle: str,
    ) -> Outputs:
        """Strike the `chosen` accounts, and the orders in `singles`: NT account and order id.

        `kill`: it is a kill's first strike, of which at least one cancel is sent at once. Of the accounts that have to
        wait in the queue, those that `holding` returns go first: they are known to have orders. `idle` is the reason
        why no account is chosen, "" if any is.
        """
        first, self._first = self._first, None
        if first is not None and chosen != self.accounts:
            self.wire.note_sent(first.conn, f"k{self._count + 1}-0", now)
            first, self._count = None, self._count + 1  # the early frame keeps its id, and its reply is discarded
        if not kill and self._waiting:  # cancels in the queue are in progress
            chosen = tuple([name for name in chosen if f"{name} " not in self._waiting])
            singles = [
                (account, order_id)
                for account, order_id in singles
                if f"{account} " not in self._waiting and f"{account} {order_id}" not in self._waiting
            ]
            if not chosen and not singles:
                text = f"{len(self._waiting)} cancel(s) leave one by one already"
                return (CancelAnswered(CancelOutcome.UNKNOWN, text),)
        parts = self._begin(chosen, singles, now)
        conn, room = self.wire.newest, self.wire.room(now)
        left = max(1, int(self.wire.bucket.left(now)))
        at_once = int(kill) if self.turns.cancels else left  # none while earlier ones wait, but one of a kill
        sent, queued = parts[:at_once], parts[at_once:]
        framed = sent[:room] if conn is not None else []
        outputs: list[Output] = [
            self._send_frame(part, conn or 0, first if part is parts[0] else None, now) for part in framed
        ]
        outputs += self._start_twins(sent, framed, now)
        first_in_queue = holding() if queued else ()
        for part in queued:
            part.rank = part.rank or int(part.account not in first_in_queue)
            outputs.extend(self._wait(part, now))
        if conn is not None:
            outputs.append(self.prepare(conn))
        if idle:
            others = f"{len(singles)} other order(s) are cancelled by their ids" if singles else "nothing else is left"
            outputs.append(CancelAnswered(CancelOutcome.ACCEPTED, f"{idle}; {others}"))
        return tuple(outputs)

    def _begin(self, chosen: tuple[str, ...], singles: list[tuple[str, str]], now: Instant) -> list[CancelPart]:
        """Make the latest strike and return its cancels, account-wide ones first."""
        self._count += 1
        self._next = None
        strike = self._latest = CrossTradeStrike(chosen, now.mono_ns)
        parts = [CancelPart(self, strike, name, f"k{self._count}-{number}") for number, name in enumerate(chosen)]
        parts += [CancelPart(self, strike, account, f"one {order_id}", order_id, 2) for account, order_id in singles]
        return parts

    def _send_frame(self, part: CancelPart, conn: int, early: Send | None, now: Instant) -> Send:
        """Return the frame of a cancel, and count its token; `early` is the part's own frame if it was sent early."""
        part.conn, part.framed = conn, True
        if part.order:
            args = {"account": part.account, "orderId": part.order}
            return self.wire.rpc(conn, part.id, "Cancel", args, part, now)
        self._parts[part] = None
        if early is None:
            return self.wire.rpc(conn, part.id, CANCEL, {"account": part.account}, part, now)
        self.wire.note_sent(early.conn, part.id, now)
        self.wire.frames.add(part.id, conn, part)
        return early

    def _start_twins(self, sent: Sequence[CancelPart], framed: Sequence[CancelPart], now: Instant) -> list[Output]:
        """Send the cancels without a frame over REST, and time the second copies: each waits for a token of its own."""
        outputs: list[Output] = []
        left = self.wire.bucket.left(now)
        tokens = min(left, max(0.0, left - (len(sent) - len(framed))))  # the requests below take theirs first
        wait_s = 0.0
        for number, part in enumerate(sent):
            if part.order and part.framed:
                continue
            wait_s = self.wire.second_route.cancel_s + max(0.0, (number + 1 + READ_KEEPS - tokens) / SECONDS_PER_S)
            if part.framed:
                outputs.append(self.wire.timers.start(wait_s, partial(self._on_overdue, part)))
            else:
                outputs.extend(self._twin(part, now, wait_s))
        if framed and wait_s > SILENT_S:
            outputs.append(self.wire.timers.start(SILENT_S, partial(self._on_silence, framed[0])))
        return outputs

    def _twin(self, part: CancelPart, now: Instant, again_s: float) -> Outputs:
        """Send the REST twin of a cancel, unless it was sent; an account's takes its second route after `again_s`."""
        if part.twin_started:
            return ()
        part.twin_started = True
        if part.order:
            build = self.wire.build("POST", single_target(part.account, part.order))
            return self.wire.calls.start_call("cancel-one", build, now, urgent=True, command=True, context=part)
        build = self._cancels[part.account]
        return self.wire.calls.start_call(
            "cancel", build, now, urgent=True, cancel=True, second_route_after_s=again_s, context=part
        )

    # ── tokens are short ──────────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, part: CancelPart, now: Instant) -> Outputs:
        """Queue a cancel for REST; it replaces an earlier strike's cancel of the same target."""
        before = self._waiting.get(part.target)
        self._waiting[part.target] = part
        part.twin_started = part.twin_ended = False
        outputs = self.turns.queue_cancel(part.target, part.rank, lambda at: self._send_queued(part, at), now)
        if before is None or before is part:
            return outputs
        return (*outputs, *self._settle(before, before.last, now))

    def _send_queued(self, part: CancelPart, now: Instant) -> Outputs:
        part.from_queue = True
        return self._twin(part, now, LAST_AGAIN_S)

    def _on_limited(self, part: CancelPart, reply: Reply, now: Instant) -> Outputs:
        """Apply a refusal for want of tokens: from now on this strike's cancels are sent from the queue only."""
        part.strike.short = True
        part.last = part.last or reply
        return self._wait(part, now)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def on_frame_reply(self, part: CancelPart, reply: Reply, now: Instant) -> Outputs:
        """Apply the reply to a frame: unless it is final, an account's REST twin is tried.

        Final are an acceptance, and "the add-on is not connected": REST would fail in the same way. The reply to a
        cancel of one order counts only until the next strike.
        """
        part.conn = None
        proves_nothing = reply.outcome is ReplyOutcome.NO_ANSWER
        if part.order:
            if proves_nothing or part.strike is not self._latest:
                return ()
            return self._on_limited(part, reply, now) if is_limited(reply) else self._end_single(part, reply, now)
        if part not in self._parts:
            return ()
        part.strike.answered_over_ws = True
        if reply.ok or is_offline(reply):
            return self._settle(part, reply, now)
        if is_limited(reply) and not part.twin_started:
            return self._on_limited(part, reply, now)
        if not proves_nothing:
            part.last = reply
        if part.twin_ended:
            return self._settle(part, part.last, now)
        return self._start_twin(part, now, self.wire.second_route.cancel_s)

    def on_twin_reply(self, part: CancelPart, reply: Reply, now: Instant) -> Outputs:
        """Apply the reply to a REST twin; a refusal is not final while the WebSocket's reply may still accept."""
        if is_limited(reply) and not part.settled:
            return self._on_limited(part, reply, now)
        return self._end_twin(part, reply, now, is_final=reply.ok)

    def on_twin_loss(self, part: CancelPart, why: str, now: Instant, *, sent: bool) -> Outputs:
        """Apply the loss of a REST twin; a twin that the lane withheld for `must_wait` goes into the queue."""
        if not sent and part.must_wait and not part.settled:
            return self._wait(part, now)
        loss = Reply(ReplyOutcome.UNKNOWN, why)
        part.unsent = None if sent or part.framed else loss
        return self._end_twin(part, loss if part.last is None or part.conn is not None else part.last, now)

    def _end_twin(self, part: CancelPart, reply: Reply, now: Instant, *, is_final: bool = False) -> Outputs:
        part.twin_ended = True
        if part.settled:
            return ()
        if is_final or part.conn is None:
            return self._settle(part, reply, now)
        part.last = reply
        return (self.wire.timers.start(SETTLE_S, partial(self._on_settle_timer, part)),)

    def _settle(self, part: CancelPart, reply: Reply | None, now: Instant) -> Outputs:
        """Apply the final reply to a cancel; an acceptance is final for a queued cancel of the same target too."""
        if part.settled:
            return ()
        part.settled = True
        self._parts.pop(part, None)
        last = reply or Reply(ReplyOutcome.UNKNOWN, "no answer")
        waiting = self._waiting.get(part.target)
        if waiting is part:
            del self._waiting[part.target]
            self.turns.drop(part.target)
        if part.order:
            return self._end_single(part, last, now)
        if last.ok:
            self._drop_singles(part.account)
        self.settled(part.account, "", last, now)
        part.strike.answers[part.account] = part.answer(last)
        outputs: Outputs = part.strike.answer()
        if outputs:
            self.answered(part.strike.made_ns)
        if waiting is not None and waiting is not part and last.ok and not waiting.from_queue:
            waiting.alone = part.alone
            outputs += self._settle(waiting, last, now)
        return outputs

    def _drop_singles(self, account: str) -> None:
        """Drop the queued cancels by id of an account whose account-wide cancel was accepted; a read is due."""
        for target in [target for target, part in self._waiting.items() if part.order and part.account == account]:
            del self._waiting[target]
            self.turns.drop(target)

    def _end_single(self, part: CancelPart, reply: Reply, now: Instant) -> Outputs:
        """Apply the final reply to the cancel of one order; it is no part of the strike's answer."""
        self.settled(part.account, part.order, reply, now)
        is_refused = reply.outcome is ReplyOutcome.REFUSED
        return (UnexplainedMessage(f"cancel of one order refused: {reply.evidence}"),) if is_refused else ()

    def on_lost_frames(self, lost: Iterable[CancelPart], now: Instant, *, limited: bool) -> Outputs:
        """Start the twins of the frames that a closed connection left unanswered, as far as there are tokens.

        `limited`: the venue closed it for want of tokens. The timers of the other cancels are running.
        """
        outputs: Outputs = ()
        allowed = max(1, int(self.wire.bucket.left(now)))
        for part in lost:
            if part not in self._parts:
                continue
            part.conn, part.strike.short = None, part.strike.short or limited
            if part.twin_ended or self._is_superseded(part):
                outputs += self._settle(part, part.last, now)
            elif not part.twin_started and (allowed > 0 or not part.strike.answered_over_ws):
                allowed -= 1
                outputs += self._start_twin(part, now, self.wire.second_route.cancel_s)
        return outputs

    # ── timers and twins ──────────────────────────────────────────────────────────────────────────────────────────

    def _on_settle_timer(self, part: CancelPart, now: Instant) -> Outputs:
        return self._settle(part, part.last, now) if part in self._parts else ()

    def _on_overdue(self, part: CancelPart, now: Instant) -> Outputs:
        """Start the twin of a frame that is not answered in time."""
        if part not in self._parts:
            return ()
        if self._is_superseded(part):
            return self._settle(part, part.last, now)
        return self._start_twin(part, now, max(self.wire.second_route.cancel_s, 1 / SECONDS_PER_S))

    def _on_silence(self, first: CancelPart, now: Instant) -> Outputs:
        """Start all twins of a strike of which no frame is answered: the frames have not arrived."""
        strike = first.strike
        if first not in self._parts or strike.answered_over_ws:
            return ()
        again_s = max(self.wire.second_route.cancel_s, 1 / SECONDS_PER_S)
        silent = [part for part in self._parts if part.strike is strike]
        return tuple(output for part in silent for output in self._start_twin(part, now, again_s))

    def _start_twin(self, part: CancelPart, now: Instant, again_s: float) -> Outputs:
        """Send the REST twin now, or queue it if tokens are short."""
        if part.must_wait and not part.twin_started:
            return () if self._waiting.get(part.target) is part else self._wait(part, now)
        return self._twin(part, now, again_s)

    def _is_superseded(self, part: CancelPart) -> bool:
        """Return whether a later strike cancels the account too: a twin would cost that strike a token."""
        return not part.twin_started and part.strike is not self._latest and part.account in self._latest.accounts
