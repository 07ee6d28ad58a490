"""Carry a strike at CrossTrade out: a frame for each NT account, its REST twin where that is not answered.

Several accounts are one strike, and have one answer. As many cancels leave at once as the tokens allow by our count;
of these the WebSocket carries as many as may be refused without an end of the session, REST the others. The first
refusal for want of tokens ends the burst: what has not left by then, and what is refused, leaves over REST in its turn
(`crosstrade_turns`). § numbers are docs/venues/crosstrade.md's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from kill_switch.core.domain import CancelOutcome, Instant
from kill_switch.venues.crosstrade.replies import CancelReply
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.strike_plan import READ_KEEPS
from kill_switch.venues.crosstrade.tokens import RequestFactory, path_of, rpc_frame
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

CANCEL = "CancelOrders"  # all of an NT account's
SECONDS_PER_S = 2.0  # second copies beyond the bucket go that often: the rest of the refill is for reads
SILENT_S = 0.5  # not one reply by then: the frames have not arrived, nor cost anything
SETTLE_S = 1.0  # the REST twin did not work: that much longer for the WebSocket's reply
LAST_AGAIN_S = 3.2  # the second copy of what left in its turn: longer than the lane waits for the first one's answer


@dataclass(slots=True, eq=False)
class CrossTradeStrike:
    """One strike: the NT accounts in it, and what was said so far."""

    accounts: tuple[str, ...]
    made_ns: int = 0  # monotonic
    heard: bool = False  # a reply came over the WebSocket
    short: bool = False  # tokens are: what has not left waits for its turn
    said: dict[str, CancelReply] = field(default_factory=dict)

    def answer(self) -> tuple[CancelAnswered, ...]:
        """Make one answer of all accounts', once they are there: accepted only if every one of them was."""
        if len(self.said) < len(self.accounts):
            return ()
        answers = [self.said[name] for name in self.accounts]
        if len(self.accounts) == 1:
            [only] = answers
            accepted = only.answer is CancelOutcome.ACCEPTED
            return (CancelAnswered(only.answer, only.words, only.cancelled if accepted else None),)
        short = [name for name in self.accounts if self.said[name].answer is not CancelOutcome.ACCEPTED]
        if not short:
            total = _sum(reply.cancelled for reply in answers)
            words = "accepted" if total is None else f"{total} order(s) named as cancelled"
            return (CancelAnswered(CancelOutcome.ACCEPTED, f"{len(answers)} NT accounts: {words}", total),)
        text = f"not accepted for {', '.join(short)}: {self.said[short[0]].words}"
        return (CancelAnswered(_worst({reply.answer for reply in answers}), text),)


@dataclass(slots=True, eq=False)
class CancelPart:
    """One NT account's part of a strike, or the cancel of one order by its id."""

    strike: CrossTradeStrike
    account: str
    id: str
    order: str = ""  # the one that is cancelled; "": all of the account's
    rank: int = 0  # among those that wait for their turn: the lower goes first
    conn: int | None = None  # the connection that may still answer
    framed: bool = False  # a frame may have left
    asked: bool = False  # the REST twin is on its way, or was
    turned: bool = False  # it left in its turn
    over: bool = False  # nothing more will be heard of that
    said: CancelReply | None = None  # so far, short of a yes
    settled: bool = False

    @property
    def what(self) -> str:
        """Say what is cancelled, as those that wait for their turn are told apart."""
        return f"{self.account} {self.order}"


def _worst(answers: set[CancelOutcome]) -> CancelOutcome:
    if CancelOutcome.REFUSED in answers:
        return CancelOutcome.REFUSED
    return CancelOutcome.UNSENT if answers == {CancelOutcome.UNSENT} else CancelOutcome.UNKNOWN


def _sum(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


class CrossTradeStriker:
    """Carry strikes out, one after the other; `settled` is told the last word on each account's or order's cancel."""

    KINDS = frozenset({"cancel", "cancel-one"})

    def __init__(
        self,
        wire: RequestFactory,
        accounts: tuple[str, ...],
        turns: RequestQueue,
        calls: CallStarter,
        settled: Callable[[str, str, CancelReply, Instant], None],
        hedge_after_s: Callable[[], float],
        answered: Callable[[int], None],
    ) -> None:
        self.cancels = {name: wire.request("POST", f"{path_of(name)}/orders/cancel") for name in accounts}
        for request in self.cancels.values():
            _ = request.wire  # made now, so that the kill only writes
        self._wire = wire
        self._accounts = accounts
        self._turns = turns
        self._calls = calls
        self._settled = settled
        self._answered = answered  # takes when the strike was made that is answered now
        self._hedge_after_s = hedge_after_s
        self._parts: dict[str, CancelPart] = {}  # of strikes that are not answered yet, by the id of their RPC
        self._waiting: dict[
            str, CancelPart
        ] = {}  # those that wait for their turn, or have left in it, by what they cancel
        self._singles: dict[str, CancelPart] = {}  # of the latest strike, over the WebSocket, by the id of their RPC
        self._latest = CrossTradeStrike(())
        self._count = 0
        self._next: Send | None = None  # what the next strike would begin with
        self._first: Send | None = None  # what it has begun with

    def drop_strikes(self) -> None:
        """Drop the strikes that are under way: no twin of theirs leaves any more, whatever comes, or does not."""
        self._parts.clear()
        self._singles.clear()
        self._waiting.clear()
        self._turns.drop_cancels()
        self._latest = CrossTradeStrike(())

    def first(self, now: Instant) -> Send | None:
        """Return the first frame of a strike that takes every account, and take it for sent."""
        conn = self._wire.carrier(now)
        if conn is None or self._waiting:
            return None
        if self._next is None or self._next.conn != conn:
            self.prepare(conn)
        self._first = self._next
        return self._first

    def prepare(self, conn: int) -> PrepareFrame:
        """Make what the next strike would begin with."""
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
        """Strike these accounts, and these orders: account and id.

        `kill`: it is a kill's first, and something of it leaves at once in any case. Of the accounts that have to wait,
        those that are `holding` orders go first. `idle` says why no account is chosen, if none is.
        """
        first, self._first = self._first, None
        if first is not None and chosen != self._accounts:
            self._wire.left(first.conn, f"k{self._count + 1}-0", now)
            first, self._count = None, self._count + 1  # it has an id of its own, and whoever answers it is not heard
        if not kill:  # what waits, or has left in its turn, is under way
            chosen = tuple([name for name in chosen if f"{name} " not in self._waiting])
            singles = [
                (account, order_id)
                for account, order_id in singles
                if f"{account} " not in self._waiting and f"{account} {order_id}" not in self._waiting
            ]
            if self._waiting and not chosen and not singles:
                return (
                    CancelAnswered(CancelOutcome.UNKNOWN, f"{len(self._waiting)} cancel(s) leave one by one already"),
                )
        self._count += 1
        self._next = None
        strike = self._latest = CrossTradeStrike(chosen, now.mono_ns)
        self._singles.clear()
        parts = [CancelPart(strike, name, f"k{self._count}-{number}") for number, name in enumerate(chosen)]
        parts += [CancelPart(strike, account, f"one {order_id}", order_id, rank=2) for account, order_id in singles]
        conn, room = self._wire.newest, self._wire.room(now)
        left = int(self._wire.bucket.left(now))
        at_once = left if not self._turns.cancels else 0
        at_once = max(at_once, 0 if self._turns.cancels and not kill else 1)
        outputs: list[Output] = []
        now_parts, later = parts[:at_once], parts[at_once:]
        framed, over_rest = (now_parts[:room], now_parts[room:]) if conn is not None else ([], now_parts)
        for part in framed:
            part.conn, part.framed = conn, True
            (self._singles if part.order else self._parts)[part.id] = part
            if first is not None and part is parts[0]:
                self._wire.left(first.conn, part.id, now)
                outputs.append(first)
                continue
            outputs.append(self._framed(part, conn or 0, now))
        self._wire.bucket.spend(now, len(over_rest))  # known before the second copies are timed
        tokens = self._wire.bucket.left(now)
        wait_s = 0.0
        for number, part in enumerate(now_parts):  # a second copy only when a token is there for it
            if part.order and part.framed:
                continue
            wait_s = self._hedge_after_s() + max(0.0, (number + 1 + READ_KEEPS - tokens) / SECONDS_PER_S)
            if part.framed:
                outputs.append(WakeAfter(f"hedge {part.id}", wait_s))
            else:
                outputs.extend(self._twin(part, now, wait_s, paid=True))
        if framed and wait_s > SILENT_S:
            outputs.append(WakeAfter(f"silent {framed[0].id}", SILENT_S))
        first_in_turn = holding() if later else ()
        for part in later:
            part.rank = part.rank or int(part.account not in first_in_turn)
            outputs.extend(self._wait(part, now))
        if conn is not None:
            outputs.append(self.prepare(conn))
        if idle:
            others = f"{len(singles)} other order(s) are cancelled by their ids" if singles else "nothing else is left"
            outputs.append(CancelAnswered(CancelOutcome.ACCEPTED, f"{idle}; {others}"))
        return tuple(outputs)

    def _framed(self, part: CancelPart, conn: int, now: Instant) -> Send:
        if part.order:
            args = {"account": part.account, "orderId": part.order}
            return self._wire.rpc(conn, part.id, "Cancel", args, now)
        return self._wire.rpc(conn, part.id, CANCEL, {"account": part.account}, now)

    def _twin(self, part: CancelPart, now: Instant, again_s: float, *, paid: bool = False) -> Outputs:
        """Send the REST twin of a cancel, once."""
        if part.asked:
            return ()
        part.asked = True
        if part.order:
            request = self._wire.request("POST", single_target(part.account, part.order))
            build = self._wire.paid(request, paid=paid)
            return self._calls.start_call("cancel-one", build, now, urgent=True, command=True, context=part)
        build = self._wire.paid(self.cancels[part.account], paid=paid)
        return self._calls.start_call(
            "cancel", build, now, urgent=True, cancel=True, hedge_after_s=again_s, context=part
        )

    # tokens are short

    def holds(self, call: PendingCall) -> bool:
        """Say whether a request that has not left yet is to wait for its turn."""
        part = call.part
        return call.kind in self.KINDS and part.strike.short and not part.turned

    def _wait(self, part: CancelPart, now: Instant) -> Outputs:
        """Have a part sent over REST in its turn; it takes the place of an earlier one's that waits for the same."""
        before = self._waiting.get(part.what)
        self._waiting[part.what] = part
        part.asked = part.over = False
        outputs = self._turns.cancel(part.what, part.rank, lambda at: self._turn(part, at), now)
        if before is None or before is part:
            return outputs
        return (*outputs, *self._settle(before, before.said, now))

    def _turn(self, part: CancelPart, now: Instant) -> Outputs:
        part.turned = True
        return self._twin(part, now, LAST_AGAIN_S)

    def _limited(self, part: CancelPart, reply: CancelReply, now: Instant) -> Outputs:
        """Take a refusal for want of tokens: no cancel of this strike leaves out of turn any more."""
        part.strike.short = True
        part.said = part.said or reply
        return self._wait(part, now)

    # what comes back

    def replied(self, conn: int, tag: str, reply: CancelReply | None, now: Instant) -> Outputs | None:
        """Take a reply over the WebSocket; None if it is not a strike's."""
        part = self._parts.get(tag) or self._singles.get(tag)
        if part is None or part.conn != conn:
            return None
        if not part.order:
            return self._frame_said(part, reply, now)
        if reply is None:
            return ()
        return self._limited(part, reply, now) if reply.limited else self._ended(part, reply, now)

    def _frame_said(self, part: CancelPart, reply: CancelReply | None, now: Instant) -> Outputs:
        """Take the WebSocket's reply: what is not a yes has the REST twin tried, unless it leads to the same no."""
        part.conn, part.strike.heard = None, True
        if reply is not None:
            if reply.answer is CancelOutcome.ACCEPTED or reply.offline:
                return self._settle(part, reply, now)
            if reply.limited and not part.asked:
                return self._limited(part, reply, now)
            part.said = reply
        if part.over:
            return self._settle(part, part.said, now)
        return self._later(part, now, self._hedge_after_s())

    def on_twin_reply(self, call: PendingCall, reply: CancelReply | None, now: Instant) -> Outputs | None:
        """Take the REST twin's answer; None if another route should be heard."""
        part: CancelPart = call.part
        if reply is None:
            return None
        if reply.limited and not part.settled:
            return self._limited(part, reply, now)
        if reply.cancelled == 0 and (part.framed or not call.second_route_allowed):
            reply = reply._replace(cancelled=None)  # another copy may have cancelled what this one did not find
        return self._over(part, reply, now)

    def on_twin_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        part: CancelPart = call.part
        if not call.sent and self.holds(call) and not part.settled:
            return self._wait(part, now)  # the lane has asked, and has not sent it
        answer = CancelOutcome.UNKNOWN if call.sent or part.framed else CancelOutcome.UNSENT
        return self._over(part, CancelReply(answer, why), now, lost=True)

    def _over(self, part: CancelPart, reply: CancelReply, now: Instant, *, lost: bool = False) -> Outputs:
        """End the REST twin; while the WebSocket may still say yes, a no is not the last word."""
        part.over = True
        if part.settled:
            return ()
        if reply.answer is not CancelOutcome.ACCEPTED and part.conn is not None:
            part.said = reply
            return (WakeAfter(f"settle {part.id}", SETTLE_S),)
        return self._settle(part, part.said if lost and part.said is not None else reply, now)

    def _settle(self, part: CancelPart, reply: CancelReply | None, now: Instant) -> Outputs:
        """Take the last word on a part; of what waits for the same cancel, a yes is the last word too."""
        part.settled = True
        if self._parts.get(part.id) is part:
            del self._parts[part.id]
        last = reply or CancelReply(CancelOutcome.UNKNOWN, "no answer")
        waiting = self._waiting.get(part.what)
        if waiting is part:
            del self._waiting[part.what]
            self._turns.drop(part.what)
        if part.order:
            return self._ended(part, last, now)
        if last.accepted:
            self._drop_singles(part.account)
        self._settled(part.account, "", last, now)
        part.strike.said[part.account] = last
        outputs: Outputs = part.strike.answer()
        if outputs:
            self._answered(part.strike.made_ns)
        if waiting is not None and waiting is not part and last.accepted and not waiting.turned:
            outputs += self._settle(waiting, last, now)
        return outputs

    def _drop_singles(self, account: str) -> None:
        """Let the account's orders be cancelled one by one no more: all of them have been, and a read is due."""
        for target in [target for target, part in self._waiting.items() if part.order and part.account == account]:
            del self._waiting[target]
            self._turns.drop(target)

    def _ended(self, part: CancelPart, reply: CancelReply, now: Instant) -> Outputs:
        """Take the answer to the cancel of one order: it is an extra, and what rests is read back."""
        self._settled(part.account, part.order, reply, now)
        return (UnexplainedMessage(f"cancel of one order refused: {reply.words}"),) if reply.refused else ()

    def closed(self, conn: int, now: Instant, *, limited: bool) -> Outputs:
        """Take note that a connection is gone, for want of tokens if `limited`, and what it has not answered."""
        outputs: list[Output] = []
        allowed = max(1, int(self._wire.bucket.left(now)))
        for part in [part for part in self._parts.values() if part.conn == conn]:
            part.conn, part.strike.short = None, part.strike.short or limited
            if part.over or self._again(part):
                outputs.extend(self._settle(part, part.said, now))
            elif not part.asked and (allowed > 0 or not part.strike.heard):  # the others' timers are set
                allowed -= 1
                outputs.extend(self._later(part, now, self._hedge_after_s()))
        return tuple(outputs)

    def woke(self, kind: str, tag: str, now: Instant) -> Outputs:
        part = self._parts.get(tag)
        if part is None:
            return ()
        if kind == "settle":
            return self._settle(part, part.said, now)
        again_s = max(self._hedge_after_s(), 1 / SECONDS_PER_S)
        if kind == "silent":
            strike = part.strike
            mute = [
                cancel_part for cancel_part in self._parts.values() if cancel_part.strike is strike and not strike.heard
            ]
            return tuple(output for cancel_part in mute for output in self._later(cancel_part, now, again_s))
        return self._settle(part, part.said, now) if self._again(part) else self._later(part, now, again_s)

    def _later(self, part: CancelPart, now: Instant, again_s: float) -> Outputs:
        """Send the REST twin now, or in its turn if tokens are short."""
        if part.strike.short and not part.asked and not part.turned:
            return () if self._waiting.get(part.what) is part else self._wait(part, now)
        return self._twin(part, now, again_s)

    def _again(self, part: CancelPart) -> bool:
        """Say whether a later strike has the account too: a twin would cost that one a token."""
        return not part.asked and part.strike is not self._latest and part.account in self._latest.accounts


def single_target(account: str, order: str) -> str:
    return f"{path_of(account)}/orders/{order}/cancel"
