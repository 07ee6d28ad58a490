"""Strike at each venue and re-arm at every moment between: no command leaves then, whatever comes, or does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from kill_switch.core.commands import RearmGranted
from kill_switch.core.domain import LaneState, Phase, Reason, Route
from kill_switch.core.events import RearmAsked
from kill_switch.core.state import AccountState, State
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.session import AccountSession
from kill_switch.transports.lane import ConnectionCounts
from kill_switch.venues import VENUES
from kill_switch.venues.messages import Call, CallLost, Closed, Event, Opened, Replied
from kill_switch.venues.request import Request
from tests.harness.dispatch_doubles import Recorder, Time
from tests.harness.venue_playbook import answer, hears
from tests.harness.venue_profiles import STANDS, VenueProfile

MOMENTS = 26  # steps of a strike behind which the re-arm comes, one after the other
STEP_MS = 20.0
MOODS = ("accepts", "refuses", "says nothing", "loses", "never gets it", "is silent", "holds calls back")
NOT_COMMANDS = (b"subscribe", b"GetAllOrders", b"ping")

every_venue = pytest.mark.parametrize("stand", list(STANDS.values()), ids=list(STANDS))


def is_command(stand: VenueProfile, left: Call | bytes) -> bool:
    """Say whether what left could change the account; this looks at the message, and at no mark of ours."""
    if isinstance(left, Call):
        return not stand.is_read(left.request)
    return b"ancel" in left or b"latten" in left or not any(word in left for word in NOT_COMMANDS)


class Post:
    """One account of a real dispatcher, with the venue's real adapter; it is its lanes, and the venue behind them."""

    trouble = ""
    certificate = None
    state = LaneState.UP
    connections = ConnectionCounts(1, 1)

    def __init__(self, stand: VenueProfile, mood: str, *, known: bool) -> None:
        self.stand, self.mood = stand, mood
        self.time = Time()
        pace = replace(VENUES[stand.venue].TIMING, residue_after_s=3600.0)
        state = State({"a": AccountState(pace)})
        self.dispatcher = Dispatcher(state, Recorder([]), self.time.now, self.time.later, lambda announcement: None)
        self.session: AccountSession = self.dispatcher.register(
            AccountSession("a", stand.make(**stand.widest), self.dispatcher, lambda _: (self, self, self))
        )
        self.left: list[Call | bytes] = []
        self.held: list[Call] = []  # handed over, and not sent yet
        self.coming: list[Event] = []  # what the venue says to what has been sent
        self.live: tuple[str, ...] = stand.ids
        self._begun: Request | None = None
        if stand.settle_s:
            self.time.advance(stand.settle_s * 1000)
        self.mood = "accepts"
        self.session.on_lane_event(Opened(Route.WS, 1))
        self.answer_all()
        for message in stand.login:
            self.session.on_lane_event(hears(1, message))
        self.session.on_lane_event(Opened(Route.HTTP, 0))
        self.live = stand.ids if known else ()
        self.answer_all()
        self.live, self.mood = stand.ids, mood
        self.time.advance(stand.settle_s * 1000)
        self.answer_all()
        self.left.clear()

    # the lanes

    waiting_s = 0.0

    def prepare(self, conn: int, text: bytes) -> None: ...

    def authenticated(self, proven: bool | int) -> None: ...

    def hold(self, asked_s: float) -> None: ...

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None: ...

    def replace(self, conn: int) -> None: ...

    def connect_now(self) -> None: ...

    def abandon_begun(self) -> None: ...

    def begin(self, request: Request) -> bool:
        if self.mood == "holds calls back":
            return False
        self._begun = request
        return True

    def send(self, conn: int, text: bytes) -> bool:
        self.left.append(text)
        message = orjson.loads(text) if text.startswith(b"{") else {}
        if "api" in message:
            body = self._listed() if message["api"] == "GetAllOrders" else self._said(True)
            self.coming.append(hears(1, {"id": message["id"], "data": body}))
        return True

    def call(self, call: Call) -> None:
        if self.mood == "holds calls back" and call.request is not self._begun:
            self.held.append(call)
        else:
            self._leaves(call)

    def _leaves(self, call: Call) -> None:
        self.left.append(call)
        self._begun = None
        self.session.on_sent(call.route, call.tag)
        self.coming.append(self._answer(call))

    def release(self) -> None:
        """Let what was held back go its way, as a lane does when a connection is there."""
        held, self.held = self.held, []
        for call in held:
            if self.session.should_still_send(call):
                self._leaves(call)
            else:
                self.session.on_lane_event(CallLost(call.tag, False, "withdrawn before it was sent"))

    # the venue

    def _answer(self, call: Call) -> Event:
        if self.mood in ("loses", "never gets it") and is_command(self.stand, call):
            return CallLost(call.tag, self.mood == "loses", "connection reset")
        if self.stand.is_read(call.request):
            read = self.stand.reads(call, *self.live)
            besides = self.stand.besides
            return read._replace(body=orjson.dumps(orjson.loads(read.body) | besides)) if besides else read
        body = self._said(False)
        return body if isinstance(body, Replied) else answer(call.tag, body)

    def _listed(self) -> Any:
        return {**self.stand.listed(*self.live, status=self.stand.live[0]), **self.stand.besides}  # type: ignore[dict-item]

    def _said(self, framed: bool) -> Any:
        status, body = self.stand.refused[0] if self.mood == "refuses" else self.stand.nothing[0]
        if self.mood in ("refuses", "says nothing"):
            return {"success": False, "error": "addon_timeout"} if framed else (status, body)[1]
        return self.stand.accepted[0]

    def step(self, number: int) -> None:
        if self.mood == "holds calls back" and number % 4 == 3:
            self.release()
        if self.mood != "is silent" and self.coming:
            self.session.on_lane_event(self.coming.pop(0))
        self.time.advance(STEP_MS)

    def answer_all(self) -> None:
        while self.coming:
            self.session.on_lane_event(self.coming.pop(0))

    # the daemon

    def fire(self) -> None:
        self.dispatcher.fire(Reason("panic", "touched", ("a",), self.time.now()))

    def rearm(self) -> None:
        """Re-arm by force, at a moment at which the deadline has just passed."""
        account = self.dispatcher.state.accounts["a"]
        assert account.sweep is not None
        passed = account._replace(sweep=account.sweep._replace(phase=Phase.RESIDUE))
        self.dispatcher.state = self.dispatcher.state._replace(accounts={"a": passed})
        asked = RearmAsked(1, "ann", "all well", ("a",), True, (), self.time.now())
        assert self.dispatcher.rearm(asked) == RearmGranted(("a",))
        self.left.clear()

    def everything_else_happens(self) -> None:
        """Have all come that can come: what was held back, late answers, timers, pushes, ends of connections, reads."""
        for _ in range(3):
            self.release()
            self.answer_all()
            self.session.dry_run()
            self.session.on_lane_event(hears(1, self.stand.pushed(self.stand.ids[0], self.stand.live[0])))
            self.answer_all()
            self.time.advance(1500)
        self.session.on_lane_event(Closed(Route.WS, 1, "gone"))
        for _ in range(3):
            self.release()
            self.answer_all()
            self.session.use_idle_http_lane()
            self.time.advance(10_000)
            self.answer_all()

    def commands(self) -> list[Call | bytes]:
        return [one for one in self.left if is_command(self.stand, one)]


@pytest.mark.long
@every_venue
@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("known", [False, True], ids=["orders unknown", "orders known"])
def test_no_command_of_a_kill_leaves_once_a_person_has_re_armed(stand: VenueProfile, mood: str, known: bool) -> None:
    struck = 0
    for moment in range(MOMENTS):
        post = Post(stand, mood, known=known)
        post.fire()
        for number in range(moment):
            post.step(number)
        struck += len(post.commands())
        post.rearm()
        post.everything_else_happens()
        assert post.commands() == [], f"re-armed behind step {moment}"
        assert post.dispatcher.state.phase is Phase.ARMED
    assert struck > 0 or (stand.fans_out and not known)  # without a symbol there is nothing to send


@every_venue
@pytest.mark.parametrize("moment", [0, 3, 12])
def test_a_kill_right_behind_a_re_arm_strikes_by_itself_and_wants_nothing_of_the_one_before(
    stand: VenueProfile, moment: int
) -> None:
    post = Post(stand, "holds calls back", known=True)
    post.fire()
    for number in range(moment):
        post.step(number)
    before = [call.tag for call in post.held]
    post.rearm()
    post.fire()
    after = {call.tag for call in post.held} - set(before)
    post.release()
    left = [one for one in post.left if isinstance(one, Call) and is_command(stand, one)]
    assert post.commands()
    assert {call.tag for call in left} <= after


@every_venue
def test_reads_and_drills_leave_for_an_armed_account(stand: VenueProfile) -> None:
    post = Post(stand, "accepts", known=True)
    post.fire()
    post.step(0)
    post.rearm()
    post.time.advance(stand.settle_s * 1000)
    post.session.dry_run()
    assert any(isinstance(one, Call) and stand.is_read(one.request) for one in post.left)
    post.left.clear()
    post.answer_all()
    post.time.advance(stand.settle_s * 1000)
    post.left.clear()
    post.session.drill()
    assert any(isinstance(one, Call) and not stand.is_read(one.request) for one in post.left)


@pytest.mark.parametrize("conn", [1, None], ids=["over the WebSocket", "over REST"])
def test_a_flatten_that_a_strike_wanted_does_not_leave_for_an_armed_account(conn: int | None) -> None:
    """The read that shows the position was asked for before the re-arm, and comes behind it."""
    post = Post(STANDS["crosstrade"], "accepts", known=True)
    if conn is None:
        post.session.on_lane_event(Closed(Route.WS, 1, "gone"))
    post.fire()
    while not any(isinstance(one, Call) and "positions" in one.request.target for one in post.left):
        post.step(0)
    post.rearm()
    post.everything_else_happens()
    assert post.commands() == []


def test_a_flatten_of_a_kill_leaves_while_its_account_is_tripped() -> None:
    post = Post(STANDS["crosstrade"], "accepts", known=True)
    post.fire()
    for number in range(MOMENTS):
        post.step(number)
    assert any(isinstance(one, bytes) and b"latten" in one for one in post.left)


def test_a_session_that_was_retired_sends_no_command() -> None:
    post = Post(STANDS["roxom"], "holds calls back", known=True)
    post.fire()
    held = post.held[0]
    assert post.session.should_still_send(held)
    post.session.retire()
    assert not post.session.should_still_send(held)
    post.left.clear()
    post.release()
    assert post.left == []
