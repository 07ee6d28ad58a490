"""Carry out CrossTrade strikes: a WebSocket frame for each cancel, and its REST twin where the frame is not answered.

The adapter begins strikes and hands over replies, losses and timers; a strike of several NT accounts ends in one
answer. Which accounts and orders are cancelled is decided by `strike_plan`, never here.
§ numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from kill_switch.core.domain import CancelOutcome, Instant
from kill_switch.venues.crosstrade.cancel_part import CancelPart, CrossTradeStrike
from kill_switch.venues.crosstrade.replies import CancelReply
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.strike_plan import READ_KEEPS
from kill_switch.venues.crosstrade.tokens import RequestFactory, path_of, rpc_frame, single_target
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.messages import (
    CancelAnswered,
    Output,
    Outputs,
    PrepareFrame,
    Send,
    UnexplainedMessage,
    WakeAfter,
)

CANCEL = "CancelOrders"  # the RPC that cancels all of an NT account's orders (§ 4)
SECONDS_PER_S = 2.0  # second copies per second once the tokens are spent: the rest of the 3 that come back is for reads
SILENT_S = 0.5  # without any reply by then the frames have not arrived, and have cost nothing
SETTLE_S = 1.0  # how long a failed REST twin waits for the WebSocket's reply
LAST_AGAIN_S = 3.2  # before the second copy of a queued cancel: longer than the lane awaits the first copy's answer


class CrossTradeStriker:
    """Carry out strikes.

    As many cancels are sent at once as there are tokens by our count. The WebSocket carries as many of them as may be
    refused without ending the session, REST carries the others. The first refusal for want of tokens ends the burst:
    refused and unsent cancels then go over REST, from the queue.
    """

    KINDS = frozenset({"cancel", "cancel-one"})

    def __init__(
        self,
        wire: RequestFactory,
        accounts: tuple[str, ...],
        turns: RequestQueue,
        calls: CallStarter,
        settled: Callable[[str, str, CancelReply, Instant], None],
        second_route_after_s: Callable[[], float],
        answered: Callable[[int], None],
    ) -> None:
        """Make a striker with no strike in progress.

        `settled` is called with the final reply to each cancel: NT account, order ("": all orders), reply, moment.
        `answered` is called with the moment, monotonic, at which a strike was made that is now answered.
        `second_route_after_s` returns the seconds after which a cancel takes its second route.
        """
        self.cancels = {name: wire.request("POST", f"{path_of(name)}/orders/cancel") for name in accounts}
        for request in self.cancels.values():
            _ = request.wire  # rendered now, so that a kill only writes
        self._wire = wire
        self._accounts = accounts
        self._turns = turns
        self._calls = calls
        self._settled = settled
        self._answered = answered
        self._second_route_after_s = second_route_after_s
        self._parts: dict[str, CancelPart] = {}  # unanswered account-wide cancels, by the id of their RPC
        self._waiting: dict[str, CancelPart] = {}  # in the queue, or sent from it and unanswered, by target
        self._singles: dict[str, CancelPart] = {}  # cancels by id of the latest strike, by the id of their RPC
        self._latest = CrossTradeStrike(())
        self._count = 0
        self._next: Send | None = None  # the prepared first frame of the next strike
        self._first: Send | None = None  # the first frame of the coming strike, which was sent early

    def drop_strikes(self) -> None:
        """Drop the strikes in progress: none of their twins is sent any more."""
        self._parts.clear()
        self._singles.clear()
        self._waiting.clear()
        self._turns.drop_cancels()
        self._latest = CrossTradeStrike(())

    def prebuilt_frame(self, now: Instant) -> Send | None:
        """Return the first frame of a strike on every account, which the caller sends now; None if there is none.

        The `strike` that follows yields the same object first, or abandons the frame.
        """
        conn = self._wire.carrier(now)
        if conn is None or self._waiting:
            return None
        if self._next is None or self._next.conn != conn:
            self.prepare(conn)
        self._first = self._next
        return self._first

    def prepare(self, conn: int) -> PrepareFrame:
        """Build the first frame of the next strike on this connection."""
        text = rpc_frame(CANCEL, {"account": self._accounts[0]}, f"k{self._count + 1}-0")
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
        if first is not None and chosen != self._accounts:
            self._wire.note_sent(first.conn, f"k{self._count + 1}-0", now)
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
        conn, room = self._wire.newest, self._wire.room(now)
        left = max(1, int(self._wire.bucket.left(now)))
        at_once = int(kill) if self._turns.cancels else left  # none while earlier ones wait, but one of a kill
        sent, queued = parts[:at_once], parts[at_once:]
        framed, over_rest = (sent[:room], sent[room:]) if conn is not None else ([], sent)
        outputs: list[Output] = [
            self._send_frame(part, conn or 0, first if part is parts[0] else None, now) for part in framed
        ]
        self._wire.bucket.spend(now, len(over_rest))  # counted before the second copies are timed
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
        self._singles.clear()
        parts = [CancelPart(strike, name, f"k{self._count}-{number}") for number, name in enumerate(chosen)]
        parts += [CancelPart(strike, account, f"one {order_id}", order_id, rank=2) for account, order_id in singles]
        return parts

    def _send_frame(self, part: CancelPart, conn: int, early: Send | None, now: Instant) -> Send:
        """Return the frame of a cancel, and count its token; `early` is the part's own frame if it was sent early."""
        part.conn, part.framed = conn, True
        if part.order:
            self._singles[part.id] = part
            return self._wire.rpc(conn, part.id, "Cancel", {"account": part.account, "orderId": part.order}, now)
        self._parts[part.id] = part
        if early is not None:
            self._wire.note_sent(early.conn, part.id, now)
            return early
        return self._wire.rpc(conn, part.id, CANCEL, {"account": part.account}, now)

    def _start_twins(self, sent: Sequence[CancelPart], framed: Sequence[CancelPart], now: Instant) -> list[Output]:
        """Send the cancels without a frame over REST, and time the second copies: each waits for a token of its own."""
        outputs: list[Output] = []
        tokens = self._wire.bucket.left(now)
        wait_s = 0.0
        for number, part in enumerate(sent):
            if part.order and part.framed:
                continue
            wait_s = self._second_route_after_s() + max(0.0, (number + 1 + READ_KEEPS - tokens) / SECONDS_PER_S)
            if part.framed:
                outputs.append(WakeAfter(f"hedge {part.id}", wait_s))
            else:
                outputs.extend(self._twin(part, now, wait_s, paid=True))
        if framed and wait_s > SILENT_S:
            outputs.append(WakeAfter(f"silent {framed[0].id}", SILENT_S))
        return outputs

    def _twin(self, part: CancelPart, now: Instant, again_s: float, *, paid: bool = False) -> Outputs:
        """Send the REST twin of a cancel, unless it was sent; an account's takes its second route after `again_s`."""
        if part.twin_started:
            return ()
        part.twin_started = True
        if part.order:
            request = self._wire.request("POST", single_target(part.account, part.order))
            build = self._wire.paid(request, paid=paid)
            return self._calls.start_call("cancel-one", build, now, urgent=True, command=True, context=part)
        build = self._wire.paid(self.cancels[part.account], paid=paid)
        return self._calls.start_call(
            "cancel", build, now, urgent=True, cancel=True, second_route_after_s=again_s, context=part
        )

    # ── tokens are short ──────────────────────────────────────────────────────────────────────────────────────────

    def holds(self, call: PendingCall) -> bool:
        """Return whether a request that is not sent yet must wait in the queue instead."""
        part = call.part
        return call.kind in self.KINDS and part.strike.short and not part.from_queue

    def _wait(self, part: CancelPart, now: Instant) -> Outputs:
        """Queue a cancel for REST; it replaces an earlier strike's cancel of the same target."""
        before = self._waiting.get(part.target)
        self._waiting[part.target] = part
        part.twin_started = part.twin_ended = False
        outputs = self._turns.queue_cancel(part.target, part.rank, lambda at: self._send_queued(part, at), now)
        if before is None or before is part:
            return outputs
        return (*outputs, *self._settle(before, before.reply, now))

    def _send_queued(self, part: CancelPart, now: Instant) -> Outputs:
        part.from_queue = True
        return self._twin(part, now, LAST_AGAIN_S)

    def _on_limited(self, part: CancelPart, reply: CancelReply, now: Instant) -> Outputs:
        """Apply a refusal for want of tokens: from now on this strike's cancels are sent from the queue only."""
        part.strike.short = True
        part.reply = part.reply or reply
        return self._wait(part, now)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def on_rpc_reply(self, conn: int, tag: str, reply: CancelReply | None, now: Instant) -> Outputs | None:
        """Apply a reply over the WebSocket; None if it is not a strike's."""
        part = self._parts.get(tag) or self._singles.get(tag)
        if part is None or part.conn != conn:
            return None
        if not part.order:
            return self._on_frame_reply(part, reply, now)
        if reply is None:
            return ()
        return self._on_limited(part, reply, now) if reply.limited else self._end_single(part, reply, now)

    def _on_frame_reply(self, part: CancelPart, reply: CancelReply | None, now: Instant) -> Outputs:
        """Apply the reply to an account's frame: unless it is final, the REST twin is tried.

        Final are an acceptance, and "the add-on is not connected": REST would fail in the same way.
        """
        part.conn, part.strike.answered_over_ws = None, True
        if reply is not None:
            if reply.answer is CancelOutcome.ACCEPTED or reply.offline:
                return self._settle(part, reply, now)
            if reply.limited and not part.twin_started:
                return self._on_limited(part, reply, now)
            part.reply = reply
        if part.twin_ended:
            return self._settle(part, part.reply, now)
        return self._start_twin(part, now, self._second_route_after_s())

    def on_twin_reply(self, call: PendingCall, reply: CancelReply | None, now: Instant) -> Outputs | None:
        """Apply the reply to a REST twin; None if it proves nothing and another route is to be tried."""
        part: CancelPart = call.part
        if reply is None:
            return None
        if reply.limited and not part.settled:
            return self._on_limited(part, reply, now)
        if reply.cancelled == 0 and (part.framed or not call.second_route_allowed):
            reply = reply._replace(
                cancelled=None
            )  # the other copy may have cancelled orders that this copy did not find
        return self._end_twin(part, reply, now)

    def on_twin_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Apply the loss of a REST twin; a twin that the lane withheld for `holds` goes into the queue."""
        part: CancelPart = call.part
        if not call.sent and self.holds(call) and not part.settled:
            return self._wait(part, now)
        answer = CancelOutcome.UNKNOWN if call.sent or part.framed else CancelOutcome.UNSENT
        return self._end_twin(part, CancelReply(answer, why), now, lost=True)

    def _end_twin(self, part: CancelPart, reply: CancelReply, now: Instant, *, lost: bool = False) -> Outputs:
        """End a REST twin; a refusal is not final while the WebSocket's reply may still accept."""
        part.twin_ended = True
        if part.settled:
            return ()
        if reply.answer is not CancelOutcome.ACCEPTED and part.conn is not None:
            part.reply = reply
            return (WakeAfter(f"settle {part.id}", SETTLE_S),)
        return self._settle(part, part.reply if lost and part.reply is not None else reply, now)

    def _settle(self, part: CancelPart, reply: CancelReply | None, now: Instant) -> Outputs:
        """Apply the final reply to a cancel; an acceptance is final for a queued cancel of the same target too."""
        part.settled = True
        if self._parts.get(part.id) is part:
            del self._parts[part.id]
        last = reply or CancelReply(CancelOutcome.UNKNOWN, "no answer")
        waiting = self._waiting.get(part.target)
        if waiting is part:
            del self._waiting[part.target]
            self._turns.drop(part.target)
        if part.order:
            return self._end_single(part, last, now)
        if last.accepted:
            self._drop_singles(part.account)
        self._settled(part.account, "", last, now)
        part.strike.replies[part.account] = last
        outputs: Outputs = part.strike.answer()
        if outputs:
            self._answered(part.strike.made_ns)
        if waiting is not None and waiting is not part and last.accepted and not waiting.from_queue:
            outputs += self._settle(waiting, last, now)
        return outputs

    def _drop_singles(self, account: str) -> None:
        """Drop the queued cancels by id of an account whose account-wide cancel was accepted; a read is due."""
        for target in [target for target, part in self._waiting.items() if part.order and part.account == account]:
            del self._waiting[target]
            self._turns.drop(target)

    def _end_single(self, part: CancelPart, reply: CancelReply, now: Instant) -> Outputs:
        """Apply the final reply to the cancel of one order; it is no part of the strike's answer."""
        self._settled(part.account, part.order, reply, now)
        return (UnexplainedMessage(f"cancel of one order refused: {reply.words}"),) if reply.refused else ()

    def on_closed(self, conn: int, now: Instant, *, limited: bool) -> Outputs:
        """Start the twins of the frames that a closed connection left unanswered, as far as there are tokens.

        `limited`: the venue closed it for want of tokens. The timers of the other cancels are running.
        """
        outputs: list[Output] = []
        allowed = max(1, int(self._wire.bucket.left(now)))
        for part in [part for part in self._parts.values() if part.conn == conn]:
            part.conn, part.strike.short = None, part.strike.short or limited
            if part.twin_ended or self._is_superseded(part):
                outputs.extend(self._settle(part, part.reply, now))
            elif not part.twin_started and (allowed > 0 or not part.strike.answered_over_ws):
                allowed -= 1
                outputs.extend(self._start_twin(part, now, self._second_route_after_s()))
        return tuple(outputs)

    def on_timer(self, kind: str, tag: str, now: Instant) -> Outputs:
        """Handle the timer of a cancel: `hedge` starts its twin, `silent` every twin, `settle` ends it."""
        part = self._parts.get(tag)
        if part is None:
            return ()
        if kind == "settle":
            return self._settle(part, part.reply, now)
        again_s = max(self._second_route_after_s(), 1 / SECONDS_PER_S)
        if kind == "silent":
            strike = part.strike
            silent = [each for each in self._parts.values() if each.strike is strike and not strike.answered_over_ws]
            return tuple(output for each in silent for output in self._start_twin(each, now, again_s))
        if self._is_superseded(part):
            return self._settle(part, part.reply, now)
        return self._start_twin(part, now, again_s)

    def _start_twin(self, part: CancelPart, now: Instant, again_s: float) -> Outputs:
        """Send the REST twin now, or queue it if tokens are short."""
        if part.strike.short and not part.twin_started and not part.from_queue:
            return () if self._waiting.get(part.target) is part else self._wait(part, now)
        return self._twin(part, now, again_s)

    def _is_superseded(self, part: CancelPart) -> bool:
        """Return whether a later strike cancels the account too: a twin would cost that strike a token."""
        return not part.twin_started and part.strike is not self._latest and part.account in self._latest.accounts
