"""OX.FUN's adapter against docs/venues/oxfun.md (§ numbers below are that file's)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route
from kill_switch.dispatch.connect import sweep_timings
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.readback import MAX_LOOK_UPS
from kill_switch.venues.messages import (
    Call,
    CallLost,
    CancelAnswered,
    CloseConnection,
    Closed,
    Drilled,
    Equity,
    NotReady,
    Opened,
    OrderPlaced,
    OrderSeen,
    OrdersRead,
    Ready,
    Received,
    Replied,
    RoundTrip,
    Send,
    ServerTime,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from kill_switch.venues.oxfun.adapter import NO_ORDER, OxFun
from kill_switch.venues.oxfun.replies import ALREADY_GONE_CODES
from tests.harness.venue_playbook import (
    START,
    Asked,
    Drill,
    Frame,
    Kill,
    Measure,
    Pause,
    Player,
    Probe,
    Read,
    answer,
    hears,
    payload,
)
from tests.harness.venue_profiles import STANDS

CANCEL_ALL = "DELETE /v3/orders/cancel-all"
WORKING = "GET /v3/orders/working"
SUBSCRIBE = {"op": "subscribe", "tag": 101, "args": ["order:all", "position:all", "balance:all"]}
MARKET = "BTC-USD-SWAP-LIN"


def make(**options: Any) -> OxFun:
    return OxFun(OxFun.Options(**options), {"api_key": "key", "api_secret": "secret"}, 0.06)


def sign(text: str) -> str:
    """Sign as §2 and §3.2 say, apart from the adapter."""
    return base64.b64encode(hmac.new(b"secret", text.encode(), hashlib.sha256).digest()).decode()


def login_frames(conn: int, now: Instant = START) -> tuple[Frame, WakeAfter]:
    """Return the login, and the timer within which it is answered."""
    stamp = str(now.wall_ns // 1_000_000)
    data = {"apiKey": "key", "timestamp": stamp, "signature": sign(f"{stamp}GET/auth/self/verify")}
    return Frame(conn, {"op": "login", "tag": 1, "data": data}), WakeAfter(f"login {conn} {now.wall_ns}", 5.0)


def subscribe_frames(conn: int = 1) -> tuple[Frame, WakeAfter]:
    """Return the subscription, and the timer within which it is answered."""
    return Frame(conn, SUBSCRIBE), WakeAfter(f"subscribe {conn}", 5.0)


def logged_in(now: Instant = START) -> dict[str, Any]:
    """Be a venue whose clock is ours, and that answers at once."""
    shown: dict[str, Any] = payload("oxfun/login") | {"timestamp": str(now.wall_ms)}
    return shown


def told_time(now: Instant = START) -> ServerTime:
    return ServerTime(now.wall_ns, now.wall_ns + 1_000_000, now.wall_ns, now.wall_ns)


def subscribed(channel: str = "order:all", **change: Any) -> dict[str, Any]:
    shown: dict[str, Any] = payload("oxfun/subscribed") | {"channel": channel} | change
    return shown


def ready(conn: int = 1, player: Player | None = None) -> Player:
    """Play everything up to a lane that is ready."""
    player = player or Player(make())
    player(
        Opened(Route.WS, conn),
        WakeAfter(f"greeting {conn}", 0.5),
        hears(conn, payload("oxfun/greeting")),
        *login_frames(conn, player.now),
        hears(conn, logged_in(player.now)),
        *subscribe_frames(conn),
        told_time(player.now),
        hears(conn, subscribed()),
        Ready(Route.WS, conn),
        WakeAfter(f"ping {conn}", 15.0),
        hears(conn, subscribed("position:all")),
        hears(conn, subscribed("balance:all")),
    )
    return player


def working(*ids: object, status: str = "OPEN", market: str = MARKET) -> dict[str, Any]:
    return {
        "success": True,
        "data": [{"orderId": order_id, "marketCode": market, "status": status} for order_id in ids],
    }


def order(one: str, status: str = "OPEN", market: str = MARKET) -> Order:
    return Order(one, market, OrderState.LIVE, status)


def know(player: Player, body: dict[str, Any]) -> None:
    """Let a read-back put orders into the book."""
    player.put(Read())
    tag = player.calls[-1].tag
    player.put(answer(tag, body))
    assert player.adapter.book.is_known


def strike(player: Player, tag: str = "cancel-all#1") -> None:
    player(Kill(), Asked(tag, CANCEL_ALL, urgent=True, cancel=True, body=b"{}"), WakeAfter(tag, 0.06))


def calls_of(player: Player, step: Kill) -> list[Call]:
    return [output for output in player.put(step) if isinstance(output, Call)]


def frames(player: Player) -> list[Send]:
    return [output for output in player.put(Kill()) if isinstance(output, Send)]


# ── session (§3) ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_login_is_the_vector_of_the_venue_file() -> None:
    player = Player(make())
    expected = payload("oxfun/login-request")
    expected["data"]["apiKey"] = "key"
    player(
        Opened(Route.WS, 1),
        WakeAfter("greeting 1", 0.5),
        hears(1, payload("oxfun/greeting")),
        Frame(1, expected),
        WakeAfter("login 1", 5.0),
    )


def test_without_a_greeting_it_logs_in_after_half_a_second() -> None:
    player = Player(make())
    player(
        Opened(Route.WS, 1),
        WakeAfter("greeting 1", 0.5),
        Pause(0.5),
        VenueTimerFired("greeting 1"),
        *login_frames(1, Instant(START.mono_ns + 500_000_000, START.wall_ns + 500_000_000)),
        hears(1, payload("oxfun/greeting")),  # late: it does not log in twice
    )


def test_after_a_greeting_the_timer_does_nothing() -> None:
    ready()(VenueTimerFired("greeting 1"))


@pytest.mark.parametrize("greeting", [{"nonce": "7f"}, {"event": "Welcome"}, {"event": "Hello", "nonce": 1}])
def test_any_frame_with_a_nonce_or_a_welcome_is_a_greeting(greeting: dict[str, Any]) -> None:
    Player(make())(Opened(Route.WS, 1), WakeAfter("greeting 1", 0.5), hears(1, greeting), *login_frames(1))


def logging_in() -> Player:
    player = Player(make())
    player(
        Opened(Route.WS, 1), WakeAfter("greeting 1", 0.5), hears(1, payload("oxfun/greeting")), *login_frames(1),
    )  # fmt: skip
    return player


@pytest.mark.parametrize("player", [logging_in, lambda: subscribing()])
def test_a_login_or_subscription_without_an_answer_gives_the_connection_up(player: Callable[[], Player]) -> None:
    """Without it, the connection would never become ready, and nothing would replace it."""
    waiting = player()
    waiting(waiting.newest_timer, CloseConnection(1, "no answer to the login within 5 s"))


def test_already_logged_in_is_logged_in() -> None:
    logging_in()(
        hears(1, {"event": "login", "success": False, "code": "20005", "message": "Already logged in"}),
        *subscribe_frames(),
    )


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (payload("oxfun/login"), "a login answer without a login"),
        (payload("oxfun/login-refused"), "login refused: 20000 Signature is invalid"),
        ({"event": "login", "code": "20005"}, "a login answer without a login"),
    ],
)
def test_a_second_answer_to_a_login_does_not_make_a_ready_lane_unready(message: dict[str, Any], why: str) -> None:
    player = ready()
    player(hears(1, message), UnexplainedMessage(why))
    know(player, working("1"))
    assert len(frames(player)) == 1


def test_a_login_answer_before_the_login_is_noise() -> None:
    Player(make())(
        Opened(Route.WS, 1),
        WakeAfter("greeting 1", 0.5),
        hears(1, payload("oxfun/login")),
        UnexplainedMessage("a login answer without a login"),
    )


def subscribing() -> Player:
    player = logging_in()
    player(hears(1, logged_in()), *subscribe_frames(), told_time())
    return player


@pytest.mark.parametrize("channel", [{"channel": "order:all"}, {}])
def test_a_refused_order_subscription_gives_the_connection_up(channel: dict[str, str]) -> None:
    refusal = {"event": "subscribe", "success": False, "code": "20001", "message": "Operation failed", **channel}
    words = "subscription refused: 20001 Operation failed"
    subscribing()(hears(1, refusal), NotReady(Route.WS, 1, words), CloseConnection(1, words))


@pytest.mark.parametrize("channel", ["position:all", "balance:all"])
def test_a_refused_subscription_that_no_kill_needs_does_not_cost_the_lane(channel: str) -> None:
    subscribing()(
        hears(1, subscribed(channel, success=False, code="20001", message="no")),
        UnexplainedMessage(f"subscription to {channel} refused: 20001 no"),
        hears(1, subscribed()),
        Ready(Route.WS, 1),
        WakeAfter("ping 1", 15.0),
    )


def test_other_channels_alone_do_not_make_it_ready() -> None:
    subscribing()(hears(1, subscribed("position:all")), hears(1, subscribed("balance:all")))


def test_a_second_acknowledgement_changes_nothing() -> None:
    ready()(hears(1, subscribed()))


def test_an_acknowledgement_before_the_login_changes_nothing() -> None:
    logging_in()(hears(1, subscribed()))


def test_ping_and_pong_measure_the_round_trip_and_go_on() -> None:
    ready()(
        Pause(15),
        VenueTimerFired("ping 1"),
        Frame(1, b"ping"),
        WakeAfter("pong 1", 5.0),
        Pause(0.0015),
        Received(1, b"pong"),
        RoundTrip(Route.WS, 1500),
        Received(1, "pong"),  # nobody asked for a second one
        Pause(5),
        VenueTimerFired("pong 1"),
        WakeAfter("the next ping 1", 10.0),
        Pause(10),
        VenueTimerFired("the next ping 1"),
        Frame(1, b"ping"),
        WakeAfter("the next pong 1", 5.0),
    )


def test_no_pong_gives_the_connection_up() -> None:
    ready()(
        VenueTimerFired("ping 1"),
        Frame(1, b"ping"),
        WakeAfter("pong 1", 5.0),
        Pause(5),
        VenueTimerFired("pong 1"),
        CloseConnection(1, "no pong for 5 s"),
    )


def test_a_closed_connection_is_forgotten_with_its_timers() -> None:
    player = ready()
    player(
        Closed(Route.WS, 1, "closed by the venue: 1000 idle"),
        NotReady(Route.WS, 1, "closed by the venue: 1000 idle"),
        VenueTimerFired("ping 1"),
        VenueTimerFired("pong 1"),
        VenueTimerFired("greeting 1"),
        Received(1, b"pong"),
        hears(1, payload("oxfun/login")),
    )


def test_frames_that_say_nothing_are_noise() -> None:
    ready()(
        hears(1, {"event": "x"}),
        UnexplainedMessage("a message that no document explains"),
        hears(1, {"success": False, "code": "20003", "message": "Unrecognized operation"}),
        UnexplainedMessage("20003 Unrecognized operation"),
        hears(1, {"table": "position", "data": []}),
        hears(1, {"table": "balance", "data": []}),
    )


# ── order pushes (§4.4, §6, §7) ───────────────────────────────────────────────────────────────────────────────────


def push(**item: Any) -> Received:
    return hears(1, {"table": "order", "data": [{"marketCode": MARKET, **item}]})


def test_the_documents_closed_push_takes_the_order_out_whatever_its_status() -> None:
    player = ready()
    closed = payload("oxfun/order-closed")
    one = closed["data"][0]["orderId"]
    know(player, working(one, "2"))
    player(hears(1, closed))
    assert set(player.adapter.book.orders) == {"2"}
    player(push(notice="OrderClosed", orderId="2", status="A_NEW_WORD"))
    assert player.adapter.book.orders == {}


def test_pushes_that_cannot_be_read_are_noise_and_do_not_hide_others() -> None:
    player = ready()
    items = [{"status": "OPEN"}, 7, {"orderId": None}, {"orderId": ["1"]}, {"orderId": "12", "status": "OPEN"}]
    noise = UnexplainedMessage("an order push that cannot be read")
    player(
        hears(1, {"table": "order", "data": items}),
        noise,
        noise,
        noise,
        noise,
        OrderSeen(Order("12", "", OrderState.LIVE, "OPEN")),
        hears(1, {"table": "order", "data": {"orderId": "1"}}),
        UnexplainedMessage("an order push without a list"),
    )


def test_a_read_back_counts_the_orders_that_pushes_have_shown_as_cancelled() -> None:
    player = ready()
    know(player, working("1", "2", "3"))
    player(
        push(notice="OrderClosed", orderId="1", status="CANCELED_BY_USER"),
        push(notice="OrderClosed", orderId="2", status="CANCELED_BY_FOK"),
        push(notice="OrderClosed", orderId="3", status="FILLED"),
        Read(),
        Asked("orders#2", WORKING, urgent=True),
        WakeAfter("orders#2", 0.24),
        answer("orders#2", working()),
        OrdersRead((), True, START.mono_ns, cancelled=2),
        Read(),
        Asked("orders#3", WORKING, urgent=True),
        WakeAfter("orders#3", 0.24),
        answer("orders#3", working()),
        OrdersRead((), True, START.mono_ns),
    )


def test_an_order_cancelled_before_the_kill_is_not_counted() -> None:
    player = ready()
    player.put(push(notice="OrderClosed", orderId="1", status="CANCELED_BY_USER"))
    player.put(Kill())
    player(
        Read(),
        Asked("orders#2", WORKING, urgent=True),
        WakeAfter("orders#2", 0.24),
        answer("orders#2", working()),
        OrdersRead((), True, START.mono_ns),
    )


def test_an_order_cancelled_by_a_strike_is_counted_though_another_strike_follows() -> None:
    player = ready()
    know(player, working("1"))
    player.put(Kill())
    player.put(push(notice="OrderClosed", orderId="1", status="CANCELED_BY_USER"))
    player.put(Pause(0.5))
    player.put(Kill())
    player.put(Read())
    [read] = [output for output in player.put(answer("orders#4", working())) if isinstance(output, OrdersRead)]
    assert read.cancelled == 1


def test_a_kill_soon_after_a_re_arm_neither_counts_nor_repeats_cancels_of_the_kill_before_it() -> None:
    player = ready()
    know(player, working("1", "2"))
    player.put(Kill())
    know(player, working("1"))  # it has outlived the strike
    player.put(push(notice="OrderClosed", orderId="2", status="CANCELED_BY_USER"))
    player.adapter.drop_strike_work()  # a re-arm by force
    player.put(Pause(2))
    assert [call.request.target for call in calls_of(player, Kill(1))] == ["/v3/orders/cancel-all"]
    player.put(Read())
    outputs = player.put(answer(player.calls[-1].tag, working()))
    assert [output.cancelled for output in outputs if isinstance(output, OrdersRead)] == [None]


def test_a_strike_after_a_long_pause_in_the_same_kill_goes_on_with_the_orders_that_outlived_the_last_one() -> None:
    player = ready()
    know(player, working("1"))
    player.put(Kill())
    know(player, working("1"))
    player.put(Pause(11))
    assert [call.request.target for call in calls_of(player, Kill())][1:] == ["/v3/orders/cancel"]


# ── cancel replies on the WebSocket (§4.1, §4.2, §4.4) ────────────────────────────────────────────────────────────


def test_a_submitted_cancel_proves_nothing() -> None:
    player = ready()
    know(player, working("12"))
    player(hears(1, payload("oxfun/cancelorder")), hears(1, payload("oxfun/cancel-event")))
    assert set(player.adapter.book.orders) == {"12"}


@pytest.mark.parametrize("code", sorted(ALREADY_GONE_CODES))
def test_an_order_that_is_not_found_stays_in_the_book_until_it_is_looked_up(code: str) -> None:
    player = ready()
    know(player, working("12", "13"))
    player(hears(1, payload("oxfun/cancelorder-not-found") | {"code": code}))
    assert set(player.adapter.book.orders) == {"12", "13"} and set(player.adapter.book.unproven) == {"12"}


def test_a_probe_of_an_order_that_no_list_shows_tells_the_read_behind_its_look_up() -> None:
    player = ready()
    know(player, working())
    player.put(hears(1, {"table": "order", "data": [{"orderId": "12", "marketCode": MARKET, "status": "OPEN"}]}))
    player(
        Probe(),
        Asked("probe#2", WORKING),
        answer("probe#2", working()),
        Ready(Route.HTTP, 0),
        Asked("look-up#3", "GET /v3/orders/status?orderId=12"),
        WakeAfter("look-up#3", 0.24),
        answer("look-up#3", {"success": True, "data": {"orderId": "12", "marketCode": MARKET, "status": "OPEN"}}),
        OrdersRead((order("12"),), True, player.now.mono_ns),
    )


def test_orders_that_are_placed_while_a_probe_is_under_way_cost_no_look_up() -> None:
    """Its list cannot have them, and a bot that quotes would use the requests up that a kill needs."""
    player = ready()
    player.put(Probe())
    player.put(Pause(0.1))
    player.put(hears(1, {"table": "order", "data": working(*range(10, 30))["data"]}))
    player.put(Pause(0.1))
    outputs = player.put(answer("probe#1", working()))
    assert [output for output in outputs if isinstance(output, Call)] == []
    assert len(player.adapter.book.orders) == 20
    player.put(Pause(1.0))
    player.put(Probe())
    outputs = player.put(answer("probe#2", working()))
    assert len([output for output in outputs if isinstance(output, Call)]) == MAX_LOOK_UPS


def test_without_a_websocket_orders_that_no_list_shows_are_cancelled_by_their_ids_over_rest() -> None:
    player = ready()
    know(player, working("1"))
    items = [{"orderId": str(number), "marketCode": MARKET, "status": "OPEN"} for number in range(10, 20)]
    player.put(hears(1, {"table": "order", "data": items}))
    player.put(Closed(Route.WS, 1, "gone"))
    assert player.adapter.describe_strike() == ("DELETE /v3/orders/cancel-all", "DELETE /v3/orders/cancel")
    _, some = [output for output in player.put(Kill()) if isinstance(output, Call)]
    assert (some.request.method, some.request.target, some.urgent) == ("DELETE", "/v3/orders/cancel", True)
    sent = orjson.loads(some.request.body)["orders"]
    assert sent == [{"marketCode": MARKET, "orderId": str(number)} for number in range(10, 18)]
    player(answer(some.tag, payload("oxfun/cancel-not-found")))
    _, some = [output for output in player.put(Kill()) if isinstance(output, Call)]
    player(CallLost(some.tag, True, "down"))


def test_a_probe_whose_list_cannot_be_read_whole_still_shows_the_others() -> None:
    player = Player(make())
    player.put(Probe())
    body = {"success": True, "data": [{}, *working("1")["data"]]}
    why = "the working list cannot be read: 1 of 2 orders"
    player(answer("probe#1", body), NotReady(Route.HTTP, 0, why), OrderSeen(order("1")))


def test_the_late_rejection_has_a_number_for_an_id() -> None:
    player = ready()
    know(player, working("300000000000000103"))
    player(hears(1, payload("oxfun/cancel-late-reject")))
    assert set(player.adapter.book.unproven) == {"300000000000000103"}


@pytest.mark.parametrize("event", ["cancelorder", "cancelorders", "CANCEL"])
@pytest.mark.parametrize("code", ["20007", "20019", "20027", "20032", "100006", "710001", "000201"])
def test_any_other_refusal_of_a_cancel_is_reported_and_the_order_stays(event: str, code: str) -> None:
    player = ready()
    know(player, working("12"))
    refusal = payload("oxfun/cancelorder-not-found") | {"event": event, "code": code, "message": "no"}
    player(hears(1, refusal), UnexplainedMessage(f"cancel refused: {code} no"))
    assert set(player.adapter.book.orders) == {"12"}


@pytest.mark.parametrize("market", [MARKET, None])
def test_an_order_whose_market_is_not_known_spoils_no_message_that_cancels_others(market: str | None) -> None:
    """The venue refuses a message with one as a whole (20011)."""
    player = ready()
    know(player, working("1", "12"))
    know(player, working("1"))
    refusal = payload("oxfun/cancelorder-not-found") | {"data": {"orderId": "12", "marketCode": market}}
    player.put(hears(1, refusal))  # late
    assert set(player.adapter.book.orders) == {"1", "12"}
    [frame] = [orjson.loads(output.text) for output in player.put(Kill()) if isinstance(output, Send)]
    named = {item["orderId"]: item["marketCode"] for item in frame["dataArray"]}
    assert named == ({1: MARKET, 12: MARKET} if market else {1: MARKET})
    know(player, working("1"))
    [*_, some] = calls_of(player, Kill())
    assert {"orderId": "12", "marketCode": ""} not in orjson.loads(some.request.body)["orders"]


@pytest.mark.parametrize("code", ["05001", "20026"])
@pytest.mark.parametrize("tag", ["k1", f"{DRILL}-1"])
def test_a_cancel_that_is_refused_for_its_login_gives_the_connection_up(code: str, tag: str) -> None:
    """Nothing is pushed any more, and nothing else would ever say so."""
    player = ready()
    know(player, working("12"))
    refusal = payload("oxfun/cancelorder-not-found") | {"tag": tag, "code": code, "message": "no"}
    *_, unready, drop = player.put(hears(1, refusal))
    why = f"the login has ended: {code} no"
    assert (unready, drop) == (NotReady(Route.WS, 1, why), CloseConnection(1, why))
    assert set(player.adapter.book.orders) == {"12"}


@pytest.mark.parametrize("up", [True, False])
def test_orders_that_outlive_a_strike_are_cancelled_by_their_ids_over_rest(up: bool) -> None:
    """Whether cancel-all takes stop orders along, and an account whose market is not named, is not documented."""
    player = ready()
    if not up:
        player.put(Closed(Route.WS, 1, "gone"))
    know(player, working(*range(1, 13)))
    for _ in range(2):  # nobody has read between
        assert not [call for call in calls_of(player, Kill()) if call.request.target == "/v3/orders/cancel"]
    sent: list[str] = []
    for _ in range(3):
        know(player, working(*range(3, 15)))
        [some] = [call for call in calls_of(player, Kill()) if call.request.target == "/v3/orders/cancel"]
        sent += [item["orderId"] for item in orjson.loads(some.request.body)["orders"]]
        assert some.command and not some.cancel
    assert sent[:10] == [str(number) for number in range(3, 13)]  # 8 a request, and each has its turn
    assert {"13", "14"} <= set(sent)  # they have outlived the second strike


def test_a_kill_long_after_another_begins_with_cancel_all_and_frames_alone() -> None:
    player = ready()
    know(player, working("1"))
    player.put(Kill())
    player.put(Pause(60))
    assert len(calls_of(player, Kill())) == 1


def test_not_found_without_an_order_is_reported() -> None:
    ready()(
        hears(1, {"event": "cancelorder", "submitted": False, "code": "100005", "message": "Open order not found"}),
        UnexplainedMessage("cancel refused: 100005 Open order not found"),
    )


# ── the kill (§4.2, §4.3, §10) ────────────────────────────────────────────────────────────────────────────────────


def test_kill_without_known_orders_sends_only_cancel_all() -> None:
    strike(ready())


def test_kill_without_a_lane_sends_only_cancel_all() -> None:
    player = Player(make())
    know(player, working("1"))
    strike(player, "cancel-all#2")


@pytest.mark.parametrize("player", [logging_in(), subscribing()])
def test_kill_does_not_use_a_lane_that_is_not_ready(player: Player) -> None:
    know(player, working("1"))
    strike(player, "cancel-all#2")


def test_kill_with_known_orders_batches_them_behind_cancel_all() -> None:
    player = ready()
    know(player, working("12", "34"))
    items = [{"marketCode": MARKET, "orderId": 12}, {"marketCode": MARKET, "orderId": 34}]
    batch = {"op": "cancelorders", "tag": "k1", "dataArray": items}
    assert set(batch) == set(payload("oxfun/cancelorders-request"))
    player(
        Kill(),
        Asked("cancel-all#2", CANCEL_ALL, urgent=True, cancel=True, body=b"{}"),
        WakeAfter("cancel-all#2", 0.06),
        Frame(1, batch, command=True),
        Kill(),
        Asked("cancel-all#3", CANCEL_ALL, urgent=True, cancel=True, body=b"{}"),
        WakeAfter("cancel-all#3", 0.06),
        Frame(1, batch | {"tag": "k2"}, command=True),
    )


def test_kill_uses_the_newest_connection_that_is_ready() -> None:
    player = ready(2, ready(1))
    player(Opened(Route.WS, 3), WakeAfter("greeting 3", 0.5))
    know(player, working("1"))
    assert [frame.conn for frame in frames(player)] == [2]
    player(Closed(Route.WS, 2, "gone"), NotReady(Route.WS, 2, "gone"))
    assert [frame.conn for frame in frames(player)] == [1]


def sizes(sent: list[Send]) -> list[int]:
    return [len(orjson.loads(frame.text)["dataArray"]) for frame in sent]


def test_a_batch_has_twenty_orders_at_most() -> None:
    player = ready()
    know(player, working(*map(str, range(1, 46))))
    sent = frames(player)
    assert sizes(sent) == [20, 20, 5]
    assert all(frame.command for frame in sent)
    cancelled = [item["orderId"] for frame in sent for item in orjson.loads(frame.text)["dataArray"]]
    assert cancelled == list(range(1, 46))


def test_a_full_batch_is_not_followed_by_an_empty_one() -> None:
    player = ready()
    know(player, working(*map(str, range(1, 21))))
    assert sizes(frames(player)) == [20]


def test_a_batch_is_short_enough_for_the_venue() -> None:
    player = ready()
    know(player, working(*map(str, range(1, 41)), market="X" * 300))
    sent = frames(player)
    assert sum(sizes(sent)) == 40 and len(sent) > 2
    assert all(len(frame.text) <= 4000 for frame in sent)


def test_an_order_too_long_for_any_message_is_left_to_cancel_all() -> None:
    player = ready()
    body = working("1", "2")
    body["data"].insert(1, {"orderId": "3", "marketCode": "X" * 5000, "status": "OPEN"})
    know(player, body)
    [frame] = frames(player)
    assert [item["orderId"] for item in orjson.loads(frame.text)["dataArray"]] == [1, 2]


def test_a_strike_has_twenty_batches_at_most() -> None:
    player = ready()
    know(player, working(*map(str, range(1, 1001))))
    assert sizes(frames(player)) == [20] * 20


@pytest.mark.parametrize(
    "bad",
    ["", "abc", "12x", "-1", "1.5", " 1", "²", "٣", "1" * 20, "9" * 5000, "1e3"],
    ids=["empty", "letters", "mixed", "minus", "point", "space", "superscript", "arabic", "long", "endless", "float"],
)
def test_an_id_that_is_no_integer_of_the_venue_spoils_neither_batch_nor_kill(bad: str) -> None:
    player = ready()
    player.adapter.book.orders = {one: order(one) for one in ("1", bad, "2")}
    outputs = player.put(Kill())
    assert outputs[0] == Asked("cancel-all#1", CANCEL_ALL, urgent=True, cancel=True, body=b"{}")
    [frame] = [output for output in outputs if isinstance(output, Send)]
    assert [item["orderId"] for item in orjson.loads(frame.text)["dataArray"]] == [1, 2]


def test_the_longest_id_that_fits_is_sent_whole() -> None:
    player = ready()
    player.adapter.book.orders = {"9" * 19: order("9" * 19)}
    [frame] = frames(player)
    assert orjson.loads(frame.text)["dataArray"][0]["orderId"] == int("9" * 19)


# ── REST authentication (§2) ──────────────────────────────────────────────────────────────────────────────────────


VECTORS = {
    "2026-06-08T00:00:00Z\nnonce-1\nGET\napi.ox.fun\n/v3/account\nasset=OX": (
        "8N+Ov1G0potibfVQkbwA5ZaOGPASA7I3xnxqR+F+DTw="
    ),
    "2026-06-08T00:00:00\n1\nDELETE\napi.ox.fun\n/v3/orders/cancel-all\n{}": (
        "fB9XgYbODK/9fIyRKYaTRPg/SL1hTcxBHOfu6lHQXes="
    ),
    "2026-06-08T00:00:00\n1\nGET\napi.ox.fun\n/v3/orders/working\n": "5/LSLgJN1APmqEx2EvX9XzTUocfaZkq5Dm+vJcbWRN8=",
    "1700000000000GET/auth/self/verify": "qNyCEuPA4GPpD3gYnapr/2/0OOe1C+GUn5QWMIV8GoY=",
}


@pytest.mark.parametrize(("text", "signature"), VECTORS.items())
def test_the_tests_own_signature_is_that_of_the_venue_files_vectors(text: str, signature: str) -> None:
    assert sign(text) == signature


def rest_headers(line: str, payload_: str, nonce: int, at: str) -> dict[str, str]:
    method, path = line.split()
    return {
        "Host": "api.ox.fun",
        "AccessKey": "key",
        "Timestamp": at,
        "Nonce": str(nonce),
        "Signature": sign(f"{at}\n{nonce}\n{method}\napi.ox.fun\n{path}\n{payload_}"),
        "Content-Type": "application/json",
    }


def test_requests_are_signed_as_the_venue_file_says() -> None:
    wall_s = int(datetime(2026, 6, 8, tzinfo=UTC).timestamp())
    player = Player(make(), Instant(0, wall_s * 1_000_000_000 + 999_999_999))
    nonce, at = wall_s * 1000 + 999, "2026-06-08T00:00:00"
    player(
        Kill(),
        Asked("cancel-all#1", CANCEL_ALL, Route.HTTP, True, True, b"{}", rest_headers(CANCEL_ALL, "{}", nonce, at)),
        WakeAfter("cancel-all#1", 0.06),
        Probe(),
        Asked("probe#2", WORKING, headers=rest_headers(WORKING, "", nonce + 1, at)),
    )


def test_the_host_is_signed_without_its_port_and_sent_with_it() -> None:
    player = Player(make(rest_url="https://127.0.0.1:8443"))
    player.put(Kill())
    headers = player.calls[0].request.headers
    stamp, nonce = headers["Timestamp"], headers["Nonce"]
    assert headers["Host"] == "127.0.0.1:8443"
    assert headers["Signature"] == sign(f"{stamp}\n{nonce}\nDELETE\n127.0.0.1\n/v3/orders/cancel-all\n{{}}")


def test_the_bytes_of_the_kill() -> None:
    player = Player(make())
    player.put(Kill())
    wire = player.calls[0].request.wire
    head, _, body = wire.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"DELETE /v3/orders/cancel-all HTTP/1.1"
    assert lines[1] == b"Host: api.ox.fun"
    assert lines.count(b"Content-Length: 2") == 1
    assert body == b"{}"


def test_a_query_is_part_of_the_target_and_of_the_signed_text() -> None:
    adapter = make()
    request = adapter._signer.build("GET", "/v3/account?asset=OX")(START)
    headers = request.headers
    text = f"{headers['Timestamp']}\n{headers['Nonce']}\nGET\napi.ox.fun\n/v3/account\nasset=OX"
    assert request.target == "/v3/account?asset=OX"
    assert headers["Signature"] == sign(text)


def test_no_nonce_is_ever_used_twice_though_the_clock_goes_back() -> None:
    player = Player(make())
    player.put(Kill())
    player.now = Instant(START.mono_ns, START.wall_ns - 60_000_000_000)
    player.put(Kill())
    player.put(Read())
    nonces = [int(call.request.headers["Nonce"]) for call in player.calls]
    assert nonces == [1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_002]


@pytest.mark.parametrize("secret", ["", " lead", "line\nbreak", "ключ", "clé", "tab\t", "\x7f"])
def test_a_key_that_no_header_can_carry_is_refused_at_once_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^api_key is empty or holds what an HTTP header cannot carry$") as caught:
        OxFun(OxFun.Options(), {"api_key": secret, "api_secret": "s"}, 0.06)
    assert not secret.strip() or secret not in str(caught.value)


# ── answers to cancel-all (§4.3, §5, §8) ──────────────────────────────────────────────────────────────────────────


# ── the second route ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_second_copy_of_a_kill_is_signed_with_a_time_and_a_nonce_of_its_own() -> None:
    player = ready()
    strike(player)
    player(
        Pause(1.2),
        VenueTimerFired("cancel-all#1"),
        Asked("cancel-all#1", CANCEL_ALL, Route.FRESH, urgent=True, cancel=True, body=b"{}"),
    )
    first, second = (call.request.headers for call in player.calls)
    assert first["Nonce"] != second["Nonce"]
    assert first["Signature"] != second["Signature"]
    assert (first["Timestamp"], second["Timestamp"]) == ("2023-11-14T22:13:20", "2023-11-14T22:13:21")


# ── read-backs (§5) ───────────────────────────────────────────────────────────────────────────────────────────────


def reading() -> Player:
    player = ready()
    player(Read(), Asked("orders#1", WORKING, urgent=True), WakeAfter("orders#1", 0.24), Pause(0.01))
    return player


def test_a_read_back_shows_live_orders_stops_and_foreign_ones_too() -> None:
    player = reading()
    body = working("1", "2")
    body["data"][1] |= {"status": "PARTIALLY_FILLED", "stopPrice": "29000", "orderType": "STOP_LIMIT"}
    body["data"].append({"orderId": 3, "marketCode": "BCH-USDT", "status": "SOMETHING_NEW"})
    body["data"].append({"orderId": "4", "marketCode": MARKET, "status": "FILLED"})
    orders = (order("1"), order("2", "PARTIALLY_FILLED"), order("3", "SOMETHING_NEW", "BCH-USDT"))
    player(answer("orders#1", body), OrdersRead(orders, True, START.mono_ns))
    assert list(player.adapter.book.orders) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "data", [None, {}, "none", [None], [[]], [{"status": "OPEN"}], [{"orderId": ""}], [{"orderId": {}}]]
)
def test_a_list_of_which_any_part_cannot_be_read_is_incomplete(data: object) -> None:
    player, why = reading(), "working: the working list cannot be read"
    shown: tuple[Order, ...] = ()
    if isinstance(data, list):
        data, shown, why = [*working("1")["data"], *data], (order("1"),), f"{why}: 1 of 2 orders"
    player(
        answer("orders#1", {"success": True, "data": data}),
        OrdersRead(shown, False, START.mono_ns, why),
    )
    assert not player.adapter.book.is_known and tuple(player.adapter.book.orders.values()) == shown


# ── the HTTP lane and its probe ───────────────────────────────────────────────────────────────────────────────────


def test_a_probe_that_is_answered_makes_the_http_lane_ready_and_fills_the_book() -> None:
    player = Player(make())
    player(
        Opened(Route.HTTP, 0),
        Asked("probe#1", WORKING),
        answer("probe#1", working("1")),
        Ready(Route.HTTP, 0),
        OrdersRead((order("1"),), True, START.mono_ns),
        Closed(Route.HTTP, 0, "gone"),
        NotReady(Route.HTTP, 0, "gone"),
    )


def test_frames_on_a_connection_that_was_not_opened_are_ignored() -> None:
    Player(make())(hears(9, payload("oxfun/login")), VenueTimerFired("greeting 9"))


# ── the venue's clock (§2, §8: 20024) ─────────────────────────────────────────────────────────────────────────────

WRONG_TIME = {"success": False, "code": "20024", "message": "Timestamp exceeds the threshold"}
AHEAD_20_S = {"date": "Tue, 14 Nov 2023 22:13:40 GMT"}  # START is 22:13:20


def from_ahead(tag: str, body: object, status: int = 200) -> Replied:
    return answer(tag, body, status)._replace(headers=AHEAD_20_S)


def told_ahead() -> ServerTime:
    at_ns = START.wall_ns + 20_000_000_000
    return ServerTime(at_ns, at_ns + 1_000_000_000, START.wall_ns, START.wall_ns)


def stamps(player: Player) -> list[str]:
    return [call.request.headers["Timestamp"] for call in player.calls]


def test_a_strike_that_is_refused_for_its_time_is_signed_by_the_venues_clock_and_sent_again_once() -> None:
    player = Player(make())
    strike(player)
    player(
        from_ahead("cancel-all#1", WRONG_TIME, 401),
        Asked("cancel-all#2", CANCEL_ALL, urgent=True, cancel=True, body=b"{}"),
        WakeAfter("cancel-all#2", 0.06),
        VenueTimerFired("cancel-all#1"),  # the timer of the first has nothing left to do
        from_ahead("cancel-all#2", WRONG_TIME, 401),
        CancelAnswered(CancelOutcome.REFUSED, "HTTP 401 20024 Timestamp exceeds the threshold"),
    )
    assert stamps(player) == ["2023-11-14T22:13:20", "2023-11-14T22:13:40"]


def test_reads_and_probes_that_are_refused_for_their_time_are_sent_again_too() -> None:
    player = Player(make())
    player(
        Probe(),
        Asked("probe#1", WORKING),
        from_ahead("probe#1", WRONG_TIME, 401),
        Asked("probe#2", WORKING),
        told_ahead(),
        from_ahead("probe#2", working()),
        Ready(Route.HTTP, 0),
        OrdersRead((), True, START.mono_ns),
        told_ahead(),
    )
    assert stamps(player)[1] == "2023-11-14T22:13:40"


def test_a_login_takes_the_time_of_a_refused_one() -> None:
    player = logging_in()
    refused = {"event": "login", "success": False, "code": "20024", "message": "late"}
    stamp_ms = START.wall_ms + 20_000
    words = "login refused: 20024 late"
    player(
        hears(1, refused | {"timestamp": str(stamp_ms)}),
        NotReady(Route.WS, 1, words),
        CloseConnection(1, words),
        ServerTime(stamp_ms * 1_000_000, (stamp_ms + 1) * 1_000_000, START.wall_ns, START.wall_ns),
        Opened(Route.WS, 2),
        WakeAfter("greeting 2", 0.5),
        hears(2, payload("oxfun/greeting")),
        *login_frames(2, Instant(START.mono_ns, START.wall_ns + 20_000_500_000)),
    )


@pytest.mark.parametrize("stamp", [None, "", "0", "soon", "\u0663" * 13, "1" * 400, 1.5e12, [1]])
def test_a_login_answer_without_a_time_says_nothing_of_the_clock(stamp: object) -> None:
    player = logging_in()
    player(hears(1, {"event": "login", "success": True, "timestamp": stamp}), *subscribe_frames())
    assert player.adapter.clock.bounds_ns is None


# ── drill, plan, figures, orders placed ───────────────────────────────────────────────────────────────────────────


def test_a_drill_cancels_an_order_that_cannot_exist_on_both_lanes() -> None:
    player = ready()
    order_frame = {"marketCode": MARKET, "orderId": NO_ORDER}
    orders = [{"marketCode": MARKET, "orderId": str(NO_ORDER)}]
    body = {"timestamp": START.wall_ms, "recvWindow": 5000, "responseType": "FULL", "orders": orders}
    player(
        Drill(),
        Asked("drill#1", "DELETE /v3/orders/cancel", body=orjson.dumps(body)),
        WakeAfter("drill#1", 4.0),
        Frame(1, {"op": "cancelorder", "tag": f"{DRILL}-1", "data": order_frame}),
        WakeAfter("the frame's timer", 4.0),
        Pause(0.01),
        answer("drill#1", payload("oxfun/cancel-not-found"))._replace(rtt_us=900),
        Drilled(Route.HTTP, True, 900, "HTTP 200 40035 Open order not found with id"),
        hears(1, payload("oxfun/cancelorder-not-found") | {"tag": f"{DRILL}-1"}),
        Drilled(Route.WS, True, 10_000, "100005 Open order not found"),
        hears(1, payload("oxfun/cancel-late-reject")),  # the engine's own word on the same order, later
        VenueTimerFired("the frame's timer"),
        VenueTimerFired("drill#1"),
    )
    request = player.calls[0].request
    stamp, nonce = request.headers["Timestamp"], request.headers["Nonce"]
    text = f"{stamp}\n{nonce}\nDELETE\napi.ox.fun\n/v3/orders/cancel\n{request.body.decode()}"
    assert request.headers["Signature"] == sign(text)
    assert NO_ORDER == 9_223_372_036_854_775_807  # what an id is documented to be at most


def test_a_drill_whose_order_the_gateway_has_taken_proves_the_lane() -> None:
    player = ready()
    player.put(Drill())
    player(
        hears(1, payload("oxfun/cancelorder") | {"tag": f"{DRILL}-1"}),
        Drilled(Route.WS, True, 0, "submitted"),
        answer("drill#1", {"success": False, "code": "20000", "message": "Signature is invalid"}, 401),
        Drilled(Route.HTTP, False, 0, "HTTP 401 20000 Signature is invalid"),
    )


def test_the_plan_names_the_frames_once_orders_are_known_and_a_lane_is_ready() -> None:
    player = Player(make())
    know(player, working(*range(1, 42)))
    assert player.adapter.describe_strike() == (CANCEL_ALL,)
    ready(player=player)
    frames_line = 'ws {"op":"cancelorders",…}, 3 message(s) for the orders that are known'
    assert player.adapter.describe_strike() == (CANCEL_ALL, frames_line)


def test_the_account_is_worth_its_collateral_which_has_the_open_profit_in_it() -> None:
    ready()(
        Measure(),
        Asked("account#1", "GET /v3/account"),
        answer("account#1", payload("oxfun/account")),
        Equity({"OX": Decimal("1231231")}, START.mono_ns),
    )


@pytest.mark.parametrize("collateral", [None, "", "NaN", "1e400", "much", True, [], {}])
def test_an_account_without_a_usable_figure_is_reported_and_has_no_equity(collateral: object) -> None:
    ready()(
        Measure(),
        Asked("account#1", "GET /v3/account"),
        answer("account#1", {"success": True, "data": [{"collateral": collateral}]}),
        UnexplainedMessage("the account cannot be measured: the answer has no collateral of one account"),
        Measure(),
        Asked("account#2", "GET /v3/account"),
        answer("account#2", {"success": True, "data": [{"collateral": "1"}, {"collateral": "2"}]}),
        UnexplainedMessage("the account cannot be measured: the answer has no collateral of one account"),
        Measure(),
        Asked("account#3", "GET /v3/account"),
        CallLost("account#3", True, "down"),
    )


@pytest.mark.parametrize(
    ("account", "worth"),
    [
        ({"collateral": "0"}, [Decimal(0)]),
        ({"collateral": "0", "balances": []}, [Decimal(0)]),
        ({"collateral": "0", "balances": [7, {"asset": "OX", "total": "0"}, {"asset": "FLEX", "total": "5"}]}, [0]),
        ({"collateral": "0", "balances": [{"asset": "OX", "total": "5"}]}, []),
        ({"balances": [{"asset": "OX", "total": "5"}]}, []),
        ({}, []),
        ([], []),
    ],
)
def test_a_collateral_of_zero_counts_unless_there_is_a_balance_in_ox(account: object, worth: list[Decimal]) -> None:
    player = ready()
    player.put(Measure())
    facts = player.put(answer("account#1", {"success": True, "data": [account]}))
    assert [fact.amounts["OX"] for fact in facts if isinstance(fact, Equity)] == worth


@pytest.mark.parametrize("data", [None, [], {}, {"collateral": "1"}, [None]])
def test_an_answer_without_one_account_is_no_figure(data: object) -> None:
    player = ready()
    player.put(Measure())
    [noise] = player.put(answer("account#1", {"success": True, "data": data}))
    assert isinstance(noise, UnexplainedMessage)


def test_an_amended_order_is_closed_and_a_new_one_placed_and_neither_counts_as_cancelled() -> None:
    player = ready()
    know(player, working("1"))
    player.put(Kill())
    player(
        push(notice="OrderClosed", orderId="1", status="CANCELED_BY_AMEND"),
        push(notice="OrderOpened", orderId="2", status="OPEN"),
        OrderSeen(order("2")),
        OrderPlaced(order("2")),
        push(notice="OrderOpened", orderId="3", status="FILLED"),
        OrderPlaced(Order("3", MARKET, OrderState.GONE, "FILLED")),
        hears(1, payload("oxfun/cancel-late-reject") | {"event": "AMEND"}),
        Read(),
        Asked("orders#3", WORKING, urgent=True),
        WakeAfter("orders#3", 0.24),
        answer("orders#3", working("2")),
        OrdersRead((order("2"),), True, START.mono_ns),
    )


def test_a_code_is_shown_like_any_other_words_of_the_venue() -> None:
    player = STANDS["oxfun"].ready()
    call = player.put(Kill())[0]
    assert isinstance(call, Call)
    code = "X\r\n" + STANDS["oxfun"].secrets()["api_secret"]
    (output,) = player.put(answer(call.tag, {"success": False, "code": code, "message": "no"}))
    assert isinstance(output, CancelAnswered)
    assert output.evidence == "HTTP 200 X  [secret] no"


def beside(player: Player) -> Call:
    call, _ = player.adapter.read_alongside_strike(player.now)
    assert isinstance(call, Call)
    return call


def test_lists_beside_the_strikes_of_many_accounts_take_no_requests_that_the_strikes_need() -> None:
    """An address has a hundred within one second: forty strikes, as many reads, and little else."""
    adapters = {str(number): make() for number in range(40)}
    sweep_timings(adapters)
    calls = [
        call for adapter in adapters.values() for call in adapter.read_alongside_strike(START) if isinstance(call, Call)
    ]
    assert len(calls) == 8


def test_a_list_beside_a_strike_enters_the_open_orders_but_does_not_make_the_book_known() -> None:
    player = Player(make())
    call = beside(player)
    assert call.urgent and not call.command
    assert player.adapter.read_alongside_strike(player.now) == ()  # one is under way
    player.adapter.book.trace()
    player(answer(call.tag, working("1", "2")))
    assert (list(player.adapter.book.entered), set(player.adapter.book.orders)) == (["1", "2"], {"1", "2"})
    assert not player.adapter.book.is_known


def test_a_list_beside_a_strike_enters_its_orders_as_not_open_if_a_later_read_came_first() -> None:
    player = Player(make())
    call = beside(player)
    player.adapter.book.trace()
    player.put(Pause(0.1))
    know(player, working())
    player(answer(call.tag, working("1")))
    assert player.adapter.book.entered == {"1": START.mono_ns} and not player.adapter.book.orders


def test_a_cancel_all_of_nothing_says_that_no_order_was_open() -> None:
    player = Player(make())
    player.adapter.book.trace()
    strike(player)
    player.put(answer("cancel-all#1", payload("oxfun/cancel-all-nothing")))
    assert player.adapter.book.named_none


def test_a_late_whole_list_leads_to_cancels_by_id_although_a_newer_list_has_come_before_it() -> None:
    adapter, at = make(), START

    def later(ms: int) -> Instant:
        return Instant(START.mono_ns + ms * 1_000_000, START.wall_ns + ms * 1_000_000)

    def tag_of(outputs: Any) -> str:
        return next(output.tag for output in outputs if isinstance(output, Call))

    def reply(tag: str, now: Instant) -> None:
        adapter.handle(Replied(tag, 200, {}, orjson.dumps(working(13))), now)

    reply(tag_of(adapter.keep_warm(at)), later(1))  # the order is known
    tuple(adapter.strike(later(10), 1))
    earlier = tag_of(adapter.read(later(20)))
    newer = tag_of(adapter.keep_warm(later(30)))
    reply(newer, later(40))
    tuple(adapter.strike(later(600), 2))
    reply(earlier, later(700))
    requests = [output.request for output in adapter.strike(later(1200), 3) if isinstance(output, Call)]
    assert [request.target for request in requests] == ["/v3/orders/cancel-all", "/v3/orders/cancel"]
