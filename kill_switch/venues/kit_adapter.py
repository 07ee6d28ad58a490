"""Define `KitAdapter`, an adapter that is made of the kit's parts: a venue states its data, and nothing else.

| a venue states | the parts make of it |
|---|---|
| `account_wide`, `cancels`, `frame_reply` | strikes, second routes, frames with their twins, `describe_strike` |
| `lists`, `read_order`, `look_up` | read-backs, probes, refreshes, look-ups |
| `probe_request` | probes that cost less than a list |
| `read_reply` | the judgement of every answer |
| `login`, `login_refusal`, `ping`, `token_request` | sessions, keep-alive, tokens |
| `on_push` | orders, transfers and system states that are pushed |
| `fan_out`, `keep_open` | as many warm connections as a strike has commands |
| `harmless`, `harmless_frame` | drills |
| `equity_request`, `read_equity` | equity |
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.decode import parse_json
from kill_switch.venues.described_venue import DescribedVenue, ManyLookUp
from kill_switch.venues.kit.batches import OutlivedOrders
from kill_switch.venues.kit.call_parts import DrillPart, EquityPart
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.frames import FrameTracker
from kill_switch.venues.kit.order_list import LookUpPart
from kill_switch.venues.kit.probes import Probes
from kill_switch.venues.kit.replies import CallPart, FrameReply, Reply, ReplyOutcome
from kill_switch.venues.kit.session_token import SessionToken
from kill_switch.venues.kit.sessions import LoginRefused, Message, SessionPool
from kill_switch.venues.kit.strike import CancelCommand, CommandPart
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.messages import (
    Drilled,
    NotReady,
    OrderPlaced,
    OrderSeen,
    OrdersFound,
    OrdersRead,
    Output,
    Outputs,
    Replied,
    Send,
    Transferred,
)
from kill_switch.venues.profile import OptionsT
from kill_switch.venues.request import Request


class KitAdapter(DescribedVenue[OptionsT]):
    """An account at a venue that is described by data and a few functions.

    A venue's class sets the attributes of `DescribedVenue` in its `__init__`, then calls `assemble`. It overrides a
    method of the contract only where the venue differs from all others.
    """

    def assemble(self) -> None:
        """Make the parts from the attributes that the venue has set; call it at the end of `__init__`."""
        self.timers = TimerTable()
        self.outlived = OutlivedOrders()
        self.frames: FrameTracker[CommandPart] = FrameTracker()
        self.sessions = SessionPool(
            self.login,
            self.login_refusal,
            self.timers,
            self.on_session_ready,
            lambda refused, now: self.token.on_refused(now) if refused.session_ended and self.token is not None else (),
            self.on_session_closed,
            self.ping,
        )
        self.striker = self.STRIKER(
            self.calls,
            self.book,
            self.frames,
            self.timers,
            self.second_route,
            self.carrier,
            self._note_settled,
        )
        self.reader = self.READER(
            self.lists, self.read_order, self.calls, self.book, self.read_backs, self.second_route, self.why_not_ready
        )
        self.probes = Probes(self.reader, self.calls, self.probe_request, self.LISTS_EVERY_S, self.IDLE_S)
        self.token: SessionToken | None = None
        if self.token_request is not None:
            self.token = SessionToken(
                self.token_request,
                self.read_token,
                self.sessions.begin,
                lambda now: (*self.prepare_frame(), *self.on_new_token(now)),
                lambda now: max(self.limits.token_wait_s(now), self.pause_s(now)),
                self.calls,
                self.timers,
                self.second_route,
                self.evidence,
            )
        self.read_backs.lag_ns = round(self.TIMING.list_lag_s * 1e9)
        if self.look_up is not None:
            self.read_backs.look_up_part = lambda read, ids: LookUpPart(read, ids, self.read_backs, self.read_looked_up)
        if isinstance(self.look_up, ManyLookUp):
            self.read_backs.order_request, self.read_backs.orders_a_call = self.look_up
        elif (look_up := self.look_up) is not None:
            self.read_backs.order_request = lambda ids: look_up(ids[0])

    # ── a kill ────────────────────────────────────────────────────────────────────────────────────────────────────

    def carrier(self) -> int | None:
        """Return the connection that carries commands, None without one."""
        return self.sessions.newest

    def prebuilt_command(self, now: Instant) -> Request | Send | None:
        return None if self.account_wide is None else self.striker.prebuild(self.account_wide, now)

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        yield from self.striker.strike(chain(self.cancels(now), self.cancels_by_id()), now, is_later=number > 1)
        yield from self.prepare_frame()

    def prepare_frame(self) -> Outputs:
        """Prepare the first frame of the next strike, because the connection, its token or the last frame changed."""
        return self.striker.prepare(self.account_wide)

    def drop_strike_work(self) -> None:
        super().drop_strike_work()
        self.striker.drop()
        self.outlived.clear()

    def describe_strike(self) -> tuple[str, ...]:
        framed = self.carrier() is not None
        lines: list[str] = []
        for command in self.cancels(Instant(0, 0)):
            if not isinstance(command, CancelCommand):
                continue
            lines.append(f"ws {command.frame_line}" if framed and command.frame is not None else command.line)
        return tuple(lines)

    def _note_settled(self, made_ns: int) -> None:
        self.answers_ns = made_ns

    # ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, now: Instant) -> Outputs:
        if self.read_pause_s(now):
            why = self.pause_reason(now)
            return (OrdersRead(tuple(self.book.orders.values()), False, now.mono_ns, why),)
        return self.reader.read(now, urgent=True)

    def read_alongside_strike(self, now: Instant) -> Outputs:
        if not self.READS_ALONGSIDE or self.pause_s(now) or not self.budget.is_rested(now):
            return ()
        return self.reader.read_alongside(now)

    def keep_warm(self, now: Instant) -> Outputs:
        return () if self.pause_s(now) else self.probes.probe(now)

    def refresh(self, now: Instant) -> Outputs:
        if self.pause_s(now):
            return ()
        return self.reader.probe(now) if self.reader.is_single else self.reader.read(now, urgent=False)

    # ── between kills ─────────────────────────────────────────────────────────────────────────────────────────────

    def drill(self, now: Instant) -> Outputs:
        outputs: Outputs = ()
        if self.harmless is not None:
            if self.pause_s(now):
                outputs = (Drilled(Route.HTTP, False, 0, self.pause_reason(now), tried=False),)
            else:
                part = DrillPart(self.is_drill_passed, self.describe_drill)
                outputs = self.drills.start_call(self.harmless, now, context=part)
        if self.harmless_frame is not None:
            number, conn = self.frames.next_number(), self.carrier()
            text = b"" if conn is None else self.harmless_frame(number)
            outputs += self.drills.start_frame(conn, _drill_tag(number), text, now)
        return outputs

    def request_equity(self, now: Instant) -> Outputs:
        if self.equity_request is None or self.pause_s(now) or self.calls.is_held("equity", now):
            return ()
        part = EquityPart(self.read_equity)
        return self.calls.start_call("equity", self.equity_request, now, context=part, on_loss=part.on_loss)

    # ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        judged = self.read_reply(reply.status, parse_json(reply.body))
        if judged.outcome is ReplyOutcome.NO_ANSWER:
            return None
        judged = self.note_judged(call, judged, now)
        if judged.pause_s and self.calls.is_apart(reply):
            self.calls.hold(reply.tag, judged.pause_s, now)
        elif judged.pause_s:
            self.budget.on_refusal(judged.pause_s, now, judged.evidence)
        elif self.budget.refused_ns and call.cancel and judged.ok:
            self.budget.on_accepted(call.asked_ns, now)
        if judged.outcome is ReplyOutcome.WRONG_TIME and self.may_sign_again(call):
            self.on_wrong_time(reply, call.retries + 1, now)
            return self.calls.start_again(call, now)
        part: CallPart = call.part
        return part.on_reply(call, judged, reply, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        part: CallPart = call.part
        return part.on_loss(call, why, now)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            # a lane that comes and goes reads the lists no more often than the venue's limits have room
            is_read = self.reader.is_single or self.probe_request is not None  # by the probe, or after it
            return (*self.keep_warm(now), *(() if is_read else self.read_backs.refresh_with_room(now)))
        self.sessions.open(conn, now)
        return self.sessions.begin(conn, now) if self.token is None else self.token.begin_login(conn, now)

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        if route is not Route.WS:
            return (NotReady(route, conn, why),)
        self.sessions.close(conn)
        if self.token is not None:
            self.token.on_closed(conn)
        return (NotReady(route, conn, why), *self.striker.on_closed(conn, now), *self.prepare_frame())

    def on_session_ready(self, conn: int, now: Instant) -> Outputs:
        """Use a connection whose login is complete."""
        pushes = self.read_backs.begin_pushes(conn, now) if self.pushes_orders else ()
        return (*self.prepare_frame(), *pushes)

    def on_session_closed(self, conn: int) -> None:
        """Note that a connection is gone, or was given up, so that its messages are ignored."""
        self.book.end_pushes(conn)

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs:
        if conn not in self.sessions:
            return _on_last_message(self, conn, message, now) if self.sessions.has_ended(conn) else ()
        outputs = self.sessions.on_message(conn, message, now)
        if outputs is not None:
            return outputs
        answer = self.frame_reply(message)
        return self.on_push(conn, message, now) if answer is None else self._on_frame_reply(conn, answer, now)

    def _on_frame_reply(self, conn: int, answer: FrameReply, now: Instant) -> Outputs:
        number, reply = answer
        outputs = self.striker.on_frame_reply(number, conn, reply, now)
        if outputs is None:
            passed = self.is_drill_passed(reply)
            outputs = self.drills.end_frame(_drill_tag(number), passed, self.describe_drill(reply), now)
        elif self.FRAMES_SHARE_LIMITS and reply.ok and self.budget.refused_ns:
            self.budget.on_accepted(self.answers_ns, now)
        if self.FRAMES_SHARE_LIMITS and reply.pause_s:
            self.budget.on_refusal(reply.pause_s, now, reply.evidence)
        return (*outputs, *self.end_session(conn, reply, now)) if reply.session_ended else outputs

    def end_session(self, conn: int, reply: Reply, now: Instant) -> Outputs:
        """Close a connection whose token or login the venue does not accept any more, and get a new token."""
        twins = self.striker.on_closed(conn, now)
        refused = LoginRefused(reply.evidence, fatal=reply.key_refused, session_ended=True)
        return (*twins, *self.sessions.refuse(conn, refused, now))

    def handle_raw_frame(self, conn: int, text: str | bytes, now: Instant) -> Outputs | None:
        return self.sessions.on_raw_frame(conn, text, now)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        return self.timers.on_timer(tag, now)


def _drill_tag(number: int) -> str:
    return f"{DRILL} {number}"


def _on_last_message(adapter: KitAdapter[OptionsT], conn: int, message: Message, now: Instant) -> Outputs:
    """Process a message of a connection that was given up: an order that it pushes may be in no list."""
    if adapter.frame_reply(message) is not None or adapter.login_refusal(message) is not None:
        return ()
    outputs = adapter.on_push(conn, message, now)
    return tuple([fact for fact in outputs if isinstance(fact, OrderSeen | OrderPlaced | OrdersFound | Transferred)])
