"""No venue can make an adapter raise, and every urgent request ends in exactly one fact, whatever the venue says."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kill_switch.core.domain import CancelOutcome, Route
from kill_switch.venues import VENUES
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.crosstrade import request_queue
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kuna import read_queue
from kill_switch.venues.messages import (
    Call,
    CallLost,
    CancelAnswered,
    Closed,
    Drilled,
    Opened,
    OrdersRead,
    Outputs,
    Received,
    Replied,
    Send,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness.venue_playbook import Drill, Kill, Measure, Pause, Player, Probe, Read
from tests.harness.venue_profiles import STANDS

KEYS = (
    "event", "success", "code", "message", "table", "data", "orderId", "status", "notice", "marketCode", "channel",
    "nonce", "type", "error", "orders", "id", "cancelledOrderIds", "submitted", "msg", "symbol", "tag",
    "errors", "extensions", "rid", "cid", "pair", "timestamp", "size", "unrealizedPnl", "collateral", "balances",
    "orderIds", "account", "orderState", "order", "dropped", "detail",
    "e", "o", "O", "i", "aid", "ai", "s", "X", "x", "c", "C", "L", "st", "algoId", "algoStatus", "actualOrderId",
    "orderListId", "listOrderStatus", "listenKey", "result", "rateLimits", "retryAfter", "jsonrpc", "params",
    "order_id", "order_state", "openOrders",
)  # fmt: skip
WORDS = (
    "hello", "k1", "k2", "r1", "orderUpdate", "resync", "Session active elsewhere", "Sim101", "Rate limit exceeded",
    "#publish", "#setAuthToken", "#kickOut", "Closed", "Order with status Closed can't be canceled",
    "login", "subscribe", "cancelorder", "CANCEL", "Welcome", "order", "position", "error", "order:all", "OrderClosed",
    "OrderOpened", "OPEN", "FILLED", "pendingcancel", "cancelled", "20005", "20000", "600010", "60014", "100005", "429",
    "executionReport", "listStatus", "ORDER_TRADE_UPDATE", "ALGO_UPDATE", "ACCOUNT_UPDATE", "listenKeyExpired", "NEW",
    "TRIGGERED", "balanceUpdate", "serverShutdown", "subscription", "untriggered", "Unknown order sent.",
    "20032", "", "²", "٣", "9" * 30, "1", "-1", "01234567-89ab-7def-8123-456789abcdef", "../..", "\r\n", "\ud800",
    "\x00",
)  # fmt: skip
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**18, max_value=10**40),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=20),
)
values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=8)
bodies = st.one_of(
    objects.map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.binary(max_size=40),
    st.sampled_from([b"", b"pong", b"{", b'{"data":' * 1023 + b"1" + b"}" * 1023, b"[" * 5000, b"1" * 5000, b"1e999"]),
)
statuses = st.sampled_from([200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 429, 500, 503, 100, 0])
picks = st.integers(min_value=0, max_value=1000)
steps = st.one_of(
    st.tuples(st.just("received"), picks, bodies | bodies.map(lambda body: body.decode("utf-8", "replace"))),
    st.tuples(st.just("replied"), picks, statuses, bodies),
    st.tuples(st.just("lost"), picks, st.booleans()),
    st.tuples(st.just("woke"), picks),
    st.tuples(st.sampled_from(["kill", "read", "probe", "drill", "measure", "open", "close", "open http", "pause"])),
)

QUEUE_TIMERS = (request_queue.TURN, read_queue.TURN)


class Fuzz:
    """Drive an adapter with anything; hold what is under way, and who was told what."""

    def __init__(self, adapter: Adapter) -> None:
        self.player = Player(adapter)
        self.out: list[str] = []  # a tag for each copy that was not answered yet
        self.timers: list[str] = []
        self.strikes = 0
        self.strike_of: dict[str, int] = {}  # by tag: a strike may be several calls, and one answer
        self.cancels: set[str] = set()
        self.reads: list[int] = []
        self.answers: Counter[int] = Counter()
        self.verdicts: dict[int, CancelOutcome] = {}
        self.found: Counter[int] = Counter()
        self.drills = 0
        self.drilled: Counter[Route] = Counter()
        self.sent: set[str] = set()
        self.conns = [0]
        self.ws_first, self.fans_out = STANDS[adapter.NAME].ws_first, bool(STANDS[adapter.NAME].fans_out)
        self.patient = False  # what a rate limit has refused is repeated in its turn

    def step(self, what: str, *given: Any) -> None:
        self.player.put(Pause(1e-9))  # so that every read has a moment of its own
        match what:
            case "received":
                self.put(Received(self.conns[given[0] % len(self.conns)], given[1]))
            case "replied" if self.out:
                tag = self.out.pop(given[0] % len(self.out))
                self.sent.add(tag)
                self.put(Replied(tag, given[1], {}, given[2]), tag)
            case "lost" if self.out:
                tag = self.out.pop(given[0] % len(self.out))
                if given[1]:
                    self.sent.add(tag)
                self.put(CallLost(tag, given[1], "why"), tag)
            case "woke" if self.timers:
                self.put(VenueTimerFired(self.timers.pop(given[0] % len(self.timers))))
            case "kill":
                self.strikes += 1
                first = self.put(Kill())[0]
                if isinstance(first, CancelAnswered):  # what an earlier strike wants waits for its turn, and goes on
                    assert self.patient or self.fans_out  # without a symbol there is nothing to send
                    return
                assert isinstance(first, Call | Send) and first.command
                assert first.cancel if isinstance(first, Call) else self.ws_first
            case "read":
                self.put(Read())
                self.reads.append(self.player.now.mono_ns)
            case "probe":
                self.put(Probe())
            case "drill":
                self.drills += 1
                self.put(Drill())
            case "measure":
                self.put(Measure())
            case "open":
                self.conns.append(self.conns[-1] + 1)
                self.put(Opened(Route.WS, self.conns[-1]))
            case "close":
                self.put(Closed(Route.WS, self.conns[-1], "why"))
            case "open http":
                self.put(Opened(Route.HTTP, 0))

    def put(self, event: object, tag: str = "") -> Outputs:
        outputs = self.player.put(event)
        strike = self.strikes if isinstance(event, Kill) else self.strike_of.get(tag, 0)
        for output in outputs:
            match output:
                case Call():
                    self.out.append(output.tag)
                    self.strike_of.setdefault(output.tag, strike)
                    if output.cancel:
                        self.cancels.add(output.tag)
                    assert output.request.wire.startswith(output.request.method.encode())
                case WakeAfter():
                    self.timers.append(output.tag)
                    self.patient |= output.tag in QUEUE_TIMERS
                case CancelAnswered():
                    self.answers[strike] += 1
                    self.verdicts[strike] = output.answer
                case Drilled():
                    self.drilled[output.route] += 1
                case OrdersRead() if not output.why.endswith("no answer yet"):  # that one goes on
                    self.found[output.asked_ns] += 1
                case Send():
                    assert output.text or b"" in STANDS[self.player.adapter.NAME].pings
                case _:
                    repr(output)
        return outputs

    @property
    def awaits_frames(self) -> bool:
        """Whether a strike or a drill may wait for a frame, which ends by its timer."""
        return self.ws_first and (self.answers.total() < self.strikes or self.drilled[Route.WS] < self.drills)

    def finish(self, replies: bool) -> None:
        """End every copy that is still under way, and those that follow from that."""
        while self.out or (self.timers and self.awaits_frames):
            if self.timers and self.awaits_frames:  # the oldest first, because a lost token is requested for ever
                self.put(VenueTimerFired(self.timers.pop(0)))
                continue
            self.step(*(("replied", 0, 200, b"{}") if replies else ("lost", 0, False)))
        for tag in [tag for tag in self.timers if tag.startswith(DRILL)]:
            self.put(VenueTimerFired(tag))


@pytest.mark.long
@pytest.mark.parametrize("venue", list(VENUES))
@settings(max_examples=120, deadline=None)
@given(script=st.lists(steps, max_size=40), replies=st.booleans(), warm=st.booleans())
def test_nothing_that_a_venue_sends_raises_and_every_urgent_request_ends_once(
    venue: str, script: list[tuple[Any, ...]], replies: bool, warm: bool
) -> None:
    stand = STANDS[venue]
    fuzz = Fuzz(stand.make())
    if warm:
        fuzz.step("open")
        for message in stand.login:
            fuzz.step("received", 1, json.dumps(message).encode())
    for step in script:
        if warm or not stand.ws_first or step[0] != "open":  # half of the plays have no WebSocket at all
            fuzz.step(*step)
    fuzz.step("kill")  # whatever was said before, a strike can be made
    fuzz.step("read")
    fuzz.finish(replies)
    assert fuzz.answers.total() == fuzz.strikes
    # a read that waits for its turn is joined by a later one, or voided by a strike
    waits = {0, 1} if fuzz.patient else {1}
    assert all(fuzz.found[asked_ns] in waits for asked_ns in fuzz.reads)
    assert not fuzz.player.adapter.calls.pending
    assert fuzz.drilled == Counter({route: fuzz.drills for route in fuzz.player.adapter.drill_routes})
    if (stand.ws_first and len(fuzz.conns) > 1) or fuzz.patient:  # then a timer or a frame may lead to an answer
        return
    assert fuzz.answers == Counter(range(1, fuzz.strikes + 1))
    for strike, verdict in fuzz.verdicts.items():
        sent = any(fuzz.strike_of[tag] == strike for tag in fuzz.cancels & fuzz.sent)
        assert (verdict is CancelOutcome.UNSENT) == (not sent)


@pytest.mark.parametrize("venue", list(VENUES))
@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.text(max_size=40) | st.integers(0, 10**30).map(str) | st.sampled_from(WORDS), max_size=30))
def test_no_order_id_or_symbol_spoils_the_kill(venue: str, ids: list[str]) -> None:
    stand = STANDS[venue]
    player = stand.ready()
    for one in [output for output in player.put(Read()) if isinstance(output, Call)]:
        body = json.dumps(stand.listed(*ids, status=stand.live[0])).encode()
        player.put(Replied(one.tag, 200, {}, body))
    if stand.ws_first:
        player.put(Closed(Route.WS, 1, "gone"))
    call, *outputs = player.put(Kill())
    assert isinstance(call, Call) and call.cancel
    for output in outputs:
        if isinstance(output, Send):
            json.loads(output.text)
            assert len(output.text) <= 4000
    for output in player.put(Replied(call.tag, 200, {}, json.dumps(stand.accepted[0]).encode())):
        if isinstance(output, Call):
            assert b" " not in output.request.target.encode() and "/../" not in output.request.target


@pytest.mark.parametrize("venue", list(VENUES))
@pytest.mark.parametrize("year", ["0001", "1969", "9999"])
def test_no_date_of_a_venue_keeps_the_kill_from_going_out(venue: str, year: str) -> None:
    player = STANDS[venue].ready()
    for call in [output for output in player.put(Read()) if isinstance(output, Call)]:
        player.put(Replied(call.tag, 200, {"date": f"Fri, 31 Dec {year} 23:59:59 GMT"}, b"{}"))
    player.put(Pause(1.0))
    first = player.put(Kill())[0]
    assert isinstance(first, Call | Send) and first.command
