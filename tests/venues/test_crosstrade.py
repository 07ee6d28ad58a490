"""CrossTrade's adapter against docs/venues/crosstrade.md (§ numbers below are that file's) and seed 003."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route
from kill_switch.venues import messages
from kill_switch.venues.crosstrade.adapter import CrossTrade
from kill_switch.venues.crosstrade.replies import NOTHING_RESTING, OFFLINE
from kill_switch.venues.crosstrade.tokens import BURST, KEPT, TokenBucket
from kill_switch.venues.crosstrade.user_wire import SocketLease
from kill_switch.venues.decode import parse_json
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.messages import (
    DRILL_WITHIN_S,
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
    PrepareFrame,
    Ready,
    Received,
    Replied,
    Send,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness import venue_playbook
from tests.harness.venue_playbook import (
    START,
    Asked,
    Drill,
    Frame,
    Kill,
    Measure,
    Pause,
    Probe,
    Read,
    answer,
    hears,
    payload,
)  # fmt: skip


class Player(venue_playbook.Player):
    """Play scripts in which a command's RPC has a name of the script's own.

    `k2-0` is the first account-wide cancel of the second strike, `one ID` the latest cancel of that order.
    """

    def __init__(self, adapter: CrossTrade) -> None:
        super().__init__(adapter)
        self._names: dict[str, str] = {}  # a script's name → the adapter's id

    def put(self, step: object) -> messages.Outputs:
        if isinstance(step, Received) and isinstance(message := parse_json(step.text), dict):
            name = message.get("id")
            given = self._names.get(name, name) if isinstance(name, str) else name
            step = hears(step.conn, message | {"id": given}) if "id" in message else step
        outputs = super().put(step)
        frames = itertools.count()
        return tuple(self._named(each, frames) if isinstance(each, Send) and each.command else each for each in outputs)

    def _named(self, frame: Send, frames: Iterator[int]) -> Send:
        asked = orjson.loads(frame.text)
        if asked["api"] not in ("Cancel", "CancelOrders"):
            return frame
        order_id = asked["args"].get("orderId")
        name = f"one {order_id}" if order_id else f"k{self.strikes}-{next(frames)}"
        self._names[name] = asked["id"]
        return frame._replace(text=orjson.dumps(asked | {"id": name}))


GUID = "0123456789abcdef0123456789abcdef"
OTHER = "ce0a8e5002ea463e856eb6384f5cee7e"
ORDERS = "GET /v1/api/orders"
SNAPSHOT = "GET /v1/api/accounts/snapshot"
HEADERS = {"Host": "app.crosstrade.io", "Authorization": "Bearer token-0123456789", "Content-Type": "application/json"}


def cancel(account: str = "Sim101") -> str:
    return f"POST /v1/api/accounts/{account}/orders/cancel"


def make(*accounts: str, **options: Any) -> CrossTrade:
    names = accounts or ("Sim101",)
    settings = CrossTrade.Options(nt_accounts=names, order_events=False, **options)
    return CrossTrade(settings, {"token": "token-0123456789"}, 0.06)


def listed(*ids: str, state: str = "Working", account: str | None = "Sim101") -> dict[str, Any]:
    items = [
        payload("crosstrade/order") | {"orderId": order_id, "orderState": state, "account": account} for order_id in ids
    ]
    return {"orders": items, "success": True}


def order(one: str = GUID, status: str = "working", life: OrderState = OrderState.LIVE) -> Order:
    return Order(one, "ES 09-26", life, status)


def rpc(tag: str, api: str, conn: int = 1, **args: str) -> Frame:
    return Frame(
        conn,
        {"action": "rpc", "id": tag, "api": api, "args": args},
        command=api != "GetAllOrders" and not tag.startswith(DRILL),
    )


def strike_frame(tag: str, account: str = "Sim101", conn: int = 1) -> Frame:
    return rpc(tag, "CancelOrders", conn, account=account)


def twin(tag: str, account: str = "Sim101", route: Route = Route.HTTP) -> Asked:
    return Asked(tag, cancel(account), route, urgent=True, cancel=True, body=b"{}", headers=HEADERS)


def reply(tag: str, data: object, conn: int = 1) -> Received:
    return hears(conn, {"id": tag, "data": data})


def ready(player: Player | None = None, conn: int = 1) -> Player:
    """Play everything up to a WebSocket lane that is ready, with no orders."""
    player = player or Player(make())
    player(
        Opened(Route.WS, conn),
        rpc("hello", "GetAllOrders", conn),
        reply("hello", listed(), conn),
        Ready(Route.WS, conn),
    )
    return player


def timers(player: Player) -> list[VenueTimerFired]:
    """Return the ends of the timers that the adapter itself has started so far, in their order."""
    started = [output.tag for output in player.outputs if isinstance(output, WakeAfter)]
    return [VenueTimerFired(tag) for tag in started if "#" not in tag]


def know(player: Player, body: dict[str, Any]) -> None:
    """Let a read-back put orders into the book."""
    player.put(Read())
    player.put(answer(player.calls[-1].tag, body))


# ── configuration ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_user_has_one_connection_that_its_token_authenticates() -> None:
    assert CrossTrade.WS_OVERLAP is False  # §6
    assert make().upgrade(START).headers == {"Authorization": "Bearer token-0123456789"}  # §1


@pytest.mark.parametrize(
    "names",
    [(), ("",), (" Sim101",), ("Sim\n101",), ("x" * 65,), ("Sim101", "sim101"), tuple(f"A{n}" for n in range(16))],
)
def test_accounts_that_cannot_be_right_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="nt_accounts"):
        CrossTrade.Options(nt_accounts=names)


def test_without_accounts_there_is_no_configuration() -> None:
    with pytest.raises(ValidationError, match="nt_accounts"):
        CrossTrade.Options()  # type: ignore[call-arg]


def test_fifteen_accounts_fit_one_burst() -> None:
    assert len(make(*(f"A{n}" for n in range(15)))._accounts) == 15


def test_an_account_name_goes_into_the_path_quoted() -> None:
    call, *_ = make("My Acct/1").strike(START, 1)
    assert isinstance(call, Call) and call.request.target == "/v1/api/accounts/My%20Acct%2F1/orders/cancel"


def test_a_token_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="token is empty"):
        CrossTrade(CrossTrade.Options(nt_accounts=("Sim101",)), {"token": ""}, 0.06)


# ── the strike (§4, §9) ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_frame_is_that_of_the_venue_file() -> None:
    frame = ready().put(Kill())[0]
    assert isinstance(frame, Send)
    assert orjson.loads(frame.text) == payload("crosstrade/rpc-cancel-orders") | {"id": "k1-0"}


def test_a_strike_is_one_frame_for_each_account_at_once_and_one_answer() -> None:
    ready(Player(make("Sim101", "Live1", "Live2")))(
        Kill(),
        strike_frame("k1-0"),
        WakeAfter("hedge k1-0", 0.06),
        strike_frame("k1-1", "Live1"),
        WakeAfter("hedge k1-1", 0.06),
        strike_frame("k1-2", "Live2"),
        WakeAfter("hedge k1-2", 0.06),
        reply("k1-2", {"orderIds": [], "success": True}),  # replies come in any order
        reply("k1-0", payload("crosstrade/cancelled")),
        reply("k1-1", {"orderIds": [GUID, OTHER], "success": True}),
        CancelAnswered(CancelOutcome.ACCEPTED, "3 commands: 3 order(s) cancelled", 3),
        VenueTimerFired("hedge k1-0"),  # in time: nothing goes out twice
        VenueTimerFired("hedge k1-2"),
    )


def one(player: Player | None = None) -> Player:
    """Strike over the WebSocket, on one account."""
    player = ready(player)
    player(Kill(), strike_frame("k1-0"), WakeAfter("hedge k1-0", 0.06))
    return player


@pytest.mark.parametrize(
    ("data", "words", "cancelled"),
    [
        (payload("crosstrade/cancelled"), "1 order(s) named as cancelled", 1),
        (payload("crosstrade/cancelled-none"), "0 order(s) named as cancelled", 0),
        ({"orderIds": [GUID]}, "1 order(s) named as cancelled", 1),
        ({"success": True}, "accepted", None),
        (
            {"orderIds": [], "warning": "No working orders", "success": True},
            "0 order(s) named as cancelled with a warning: No working orders",
            0,
        ),
        (payload("crosstrade/not-found"), payload("crosstrade/not-found")["error"], 0),
    ],
)
def test_every_shape_of_a_yes_is_accepted(data: object, words: str, cancelled: int | None) -> None:
    one()(reply("k1-0", data), CancelAnswered(CancelOutcome.ACCEPTED, words, cancelled))


@pytest.mark.parametrize("text", NOTHING_RESTING)
@pytest.mark.parametrize("status", [200, 400])
def test_nothing_to_cancel_is_no_failure(text: str, status: int) -> None:
    Player(make())(
        Kill(),
        twin("cancel#1"),
        WakeAfter("cancel#1", 0.06),
        answer("cancel#1", {"error": f"{text.capitalize()} for account 'Sim101'"}, status),
        CancelAnswered(CancelOutcome.ACCEPTED, f"HTTP {status} {text.capitalize()} for account 'Sim101'", 0),
    )


def errors(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every shape that an RPC's error may have (§6)."""
    return [
        {"id": "k1-0", **body},
        {"id": "k1-0", "data": body},
        {"id": "k1-0", "data": {"success": False, **body}},
    ]


@pytest.mark.parametrize("message", errors({"error": "unknown_api", "detail": "Unknown api"}))
def test_a_refused_rpc_has_its_twin_tried_at_once_and_that_answer_counts(message: dict[str, Any]) -> None:
    one()(
        hears(1, message),
        twin("cancel#1"),
        WakeAfter("cancel#1", 0.06),
        VenueTimerFired("hedge k1-0"),
        answer("cancel#1", payload("crosstrade/invalid-account"), 400),
        CancelAnswered(CancelOutcome.REFUSED, "HTTP 400 invalid_account Account Sim999 not found"),
    )


@pytest.mark.parametrize("data", [None, [], "x", {}, {"orderIds": "x"}])
def test_a_reply_that_says_nothing_has_the_twin_tried(data: object) -> None:
    one()(
        reply("k1-0", data),
        twin("cancel#1"),
        WakeAfter("cancel#1", 0.06),
        answer("cancel#1", payload("crosstrade/cancelled-none")),
        CancelAnswered(CancelOutcome.ACCEPTED, "0 order(s) named as cancelled"),  # the frame may have cancelled some
    )


def test_a_reply_that_says_nothing_after_the_twin_failed_ends_it() -> None:
    one()(
        VenueTimerFired("hedge k1-0"),
        twin("cancel#1"),
        WakeAfter("cancel#1", 0.5),
        answer("cancel#1", payload("crosstrade/invalid-request"), 400),
        WakeAfter("settle k1-0", 1.0),
        reply("k1-0", {}),
        CancelAnswered(CancelOutcome.REFUSED, "HTTP 400 Invalid request"),
    )


@pytest.mark.parametrize("message", errors(payload("crosstrade/addon")))
def test_without_the_add_on_no_other_route_is_worth_a_token(message: dict[str, Any]) -> None:
    words = f"{OFFLINE} (addon_disconnected The XT add-on is not connected)"
    one()(hears(1, message), CancelAnswered(CancelOutcome.UNKNOWN, words), VenueTimerFired("hedge k1-0"))


def test_a_lost_connection_brings_the_twins_at_once() -> None:
    ready(Player(make("Sim101", "Live1")))(
        Kill(),
        strike_frame("k1-0"),
        WakeAfter("hedge k1-0", 0.06),
        strike_frame("k1-1", "Live1"),
        WakeAfter("hedge k1-1", 0.06),
        VenueTimerFired("hedge k1-1"),
        twin("cancel#1", "Live1"),
        WakeAfter("cancel#1", 0.5),
        Closed(Route.WS, 1, "gone"),
        NotReady(Route.WS, 1, "gone"),
        twin("cancel#2"),
        WakeAfter("cancel#2", 0.06),
        answer("cancel#2", payload("crosstrade/cancelled-none")),
        answer("cancel#1", payload("crosstrade/cancelled-none")),
        CancelAnswered(CancelOutcome.ACCEPTED, "2 commands: accepted"),
    )


def test_a_connection_lost_after_the_twin_failed_ends_it() -> None:
    one()(
        VenueTimerFired("hedge k1-0"),
        twin("cancel#1"),
        WakeAfter("cancel#1", 0.5),
        answer("cancel#1", payload("crosstrade/invalid-request"), 400),
        WakeAfter("settle k1-0", 1.0),
        Closed(Route.WS, 1, "gone"),
        NotReady(Route.WS, 1, "gone"),
        CancelAnswered(CancelOutcome.REFUSED, "HTTP 400 Invalid request"),
    )


def test_the_newest_connection_carries_the_strike() -> None:
    player = ready()
    ready(player, conn=2)
    player(Kill(), strike_frame("k1-0", conn=2), WakeAfter("hedge k1-0", 0.06))


def test_a_strike_uses_an_open_connection_before_its_first_message() -> None:
    Player(make())(
        Opened(Route.WS, 1),
        rpc("hello", "GetAllOrders"),
        Kill(),
        strike_frame("k1-0"),
        WakeAfter("hedge k1-0", 0.06),
    )


# ── the strike over REST ──────────────────────────────────────────────────────────────────────────────────────────


def over_rest(*accounts: str) -> Player:
    player = Player(make(*accounts))
    steps: list[Any] = []
    for number, account in enumerate(accounts, 1):
        steps += [twin(f"cancel#{number}", account), WakeAfter(f"cancel#{number}", 0.06)]
    player(Kill(), *steps)
    return player


def test_accounts_that_did_not_accept_are_named_and_a_refusal_weighs_most() -> None:
    over_rest("Sim101", "Live1", "Live2")(
        answer("cancel#3", payload("crosstrade/addon"), 408),
        answer("cancel#2", payload("crosstrade/invalid-account"), 400),
        answer("cancel#1", payload("crosstrade/cancelled")),
        CancelAnswered(
            CancelOutcome.REFUSED, "not accepted for Live1, Live2: HTTP 400 invalid_account Account Sim999 not found", 1
        ),
    )


def test_one_account_without_proof_makes_the_whole_strike_unknown() -> None:
    over_rest("Sim101", "Live1")(
        CallLost("cancel#1", False, "down"),
        twin("cancel#1", route=Route.FRESH),
        CallLost("cancel#1", False, "refused"),
        answer("cancel#2", payload("crosstrade/cancelled")),
        CancelAnswered(CancelOutcome.UNKNOWN, "not accepted for Sim101: refused", 1),
    )


# ── tokens (§3) ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_bucket_counts_like_the_venue() -> None:
    bucket, now = TokenBucket(), START
    bucket.spend(now, 20)
    assert bucket.left(now) == 0
    bucket.spend(now)  # refused, and costs nothing
    later = Instant(now.mono_ns + 1_000_000_000, now.wall_ns)
    assert bucket.left(later) == 3
    assert bucket.left(Instant(now.mono_ns + 60_000_000_000, now.wall_ns)) == BURST
    assert bucket.left(Instant(now.mono_ns - 1, now.wall_ns)) == 0


@pytest.mark.parametrize(("header", "left"), [("", 0.0), ("2", -5.0), ("3600", -14.0), ("soon", 0.0), ("²", 0.0)])
def test_the_venues_word_on_its_tokens_is_believed_within_reason(header: str, left: float) -> None:
    bucket = TokenBucket()
    bucket.drain(START, header)
    assert bucket.left(START) == left
    bucket.spend(START)
    assert bucket.left(START) == left


def snapshot(*accounts: object) -> dict[str, Any]:
    return {"type": "snapshot", "accounts": list(accounts)}


def connected(*accounts: str) -> dict[str, Any]:
    return snapshot(*({"account": {"name": name, "connectionStatus": "Connected"}} for name in accounts))


FIFTEEN = tuple(f"A{number}" for number in range(15))


def test_fifteen_accounts_go_at_once_over_both_lanes_and_their_second_copies_as_tokens_come() -> None:
    player = Player(make(*FIFTEEN))
    outputs = player.put(Opened(Route.WS, 1)) + player.put(Kill())
    assert sum(isinstance(output, Send) for output in outputs) == 8  # more could be refused in a row: §3
    assert sum(isinstance(output, Call) for output in outputs) == 8
    *waits, silent = [output for output in outputs if isinstance(output, WakeAfter)]
    assert [wake.seconds for wake in waits[:3]] == [0.06, 0.06, pytest.approx(0.56)]  # 4 are left, 2 of them for reads
    assert waits[14].tag == "cancel#8" and waits[14].seconds == pytest.approx(0.06 + 13 / 2)
    assert silent.seconds == 0.5 and timers(player)[-1].tag == silent.tag


def test_unanswered_frames_count_as_not_arrived_and_cost_no_tokens() -> None:
    player = Player(make(*FIFTEEN))
    player.put(Opened(Route.WS, 1))
    player.put(Kill())
    assert sum(isinstance(output, Call) for output in player.put(timers(player)[-1])) == 7


def test_one_reply_proves_that_the_frames_arrived() -> None:
    player = Player(make(*FIFTEEN))
    player.put(Opened(Route.WS, 1))
    player.put(Kill())
    player.put(reply("k1-3", payload("crosstrade/cancelled-none")))
    assert player.put(timers(player)[-1]) == ()


def test_a_strike_over_rest_spaces_its_second_copies_in_the_same_way() -> None:
    outputs = Player(make(*FIFTEEN)).put(Kill())
    waits = [output.seconds for output in outputs if isinstance(output, WakeAfter)]
    assert sum(isinstance(output, Call) for output in outputs) == 15
    assert waits[:3] == [0.06] * 3 and waits[14] == pytest.approx(0.06 + 12 / 2)


def test_the_first_frame_is_prebuilt_while_the_tokens_suffice_for_every_account() -> None:
    player = ready(Player(make(*FIFTEEN)))
    first = player.adapter.prebuilt_command(player.now)
    assert isinstance(first, Send) and orjson.loads(first.text)["args"] == {"account": "A0"}
    player.put(Kill())
    assert any(output is first for output in player.outputs)
    player.put(Pause(1))
    assert player.adapter.prebuilt_command(player.now) is None  # not all of them now, and whom depends on their orders
    player.put(Pause(9.5))
    assert player.adapter.prebuilt_command(player.now) is not None  # the tokens suffice again


def test_the_text_that_a_strike_begins_with_is_made_ready_before_it() -> None:
    player = ready(Player(make("Sim101", "Live1")))
    for _ in range(3):
        prepare_frame = [output for output in player.outputs if isinstance(output, PrepareFrame)][-1]
        first = player.adapter.prebuilt_command(player.now)
        assert (
            isinstance(first, Send) and (first.conn, first.text) == prepare_frame and first.text is prepare_frame.text
        )
        player.put(Kill())
        assert any(output is first for output in player.outputs)


def test_a_command_prebuilt_for_a_connection_is_not_sent_over_the_next() -> None:
    player = ready(Player(make()))
    player.put(Closed(Route.WS, 1, "gone"))
    assert player.adapter.prebuilt_command(player.now) is None
    player.put(Opened(Route.WS, 2))
    first = player.adapter.prebuilt_command(player.now)
    assert isinstance(first, Send) and first.conn == 2


def test_an_answer_to_a_frame_that_left_for_nothing_answers_no_account() -> None:
    adapter = make("Sim101", "Live1")
    player = ready(Player(adapter))
    know(player, listed(GUID, account="Live1"))
    first = adapter.prebuilt_command(player.now)
    assert isinstance(first, Send)
    adapter._wire.bucket.spend(player.now, 18)  # cannot be, in one pass: now the account with an order goes first
    frames = [orjson.loads(output.text) for output in player.put(Kill()) if isinstance(output, Send)]
    assert len(frames) == 1 and frames[0]["id"] != orjson.loads(first.text)["id"]


def struck(player: Player) -> list[str]:
    """Strike over REST; return the accounts, and the ids of orders."""
    targets = [call.request.target.split("/") for call in player.put(Kill()) if isinstance(call, Call)]
    return [target[4] if len(target) == 7 else target[6] for target in targets]


def test_a_later_strike_takes_over_the_unanswered_cancels_of_an_earlier_one() -> None:
    player = ready(Player(make("Sim101", "Live1")))
    player.put(Kill())
    player.put(Kill())
    player(
        timers(player)[0],
        Closed(Route.WS, 1, "gone"),
        NotReady(Route.WS, 1, "gone"),
        CancelAnswered(CancelOutcome.UNKNOWN, "not accepted for Sim101, Live1: no answer"),
        twin("cancel#1"),
        WakeAfter("cancel#1", 0.06),
        twin("cancel#2", "Live1"),
        WakeAfter("cancel#2", 0.06),
    )


@pytest.mark.parametrize(("heard", "calls"), [(False, 7), (True, 4)])
def test_a_lost_connection_that_had_answered_brings_twins_as_tokens_allow(heard: bool, calls: int) -> None:
    player = Player(make(*FIFTEEN))
    player.put(Opened(Route.WS, 1))
    player.put(Kill())
    if heard:
        player.put(reply("k1-6", payload("crosstrade/cancelled-none")))
    outputs = player.put(Closed(Route.WS, 1, "gone"))
    assert sum(isinstance(output, Call) for output in outputs) == calls  # 4 by our count
    assert len(player.put(timers(player)[5])) == (2 if heard else 0)  # the others' timers go on


def test_polling_leaves_fifteen_tokens_for_the_kill() -> None:
    player = Player(make())
    probes = 0
    while player.put(Probe()):
        probes += 1
    left = player.adapter._wire.bucket.left(player.now)  # type: ignore[attr-defined]
    assert probes == 4 and left == 15


def test_a_guard_and_its_probes_leave_the_bucket_nearly_full() -> None:
    player = Player(make())
    for second in range(120):
        player.put(Pause(1))
        player.put(Read())  # even a sweep's reads, one a second
        if second % 4 == 0:
            player.put(Probe())
    assert player.adapter._wire.bucket.left(player.now) >= 17  # type: ignore[attr-defined]


# ── leftovers (§9.5) ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("message", "facts"),
    [
        ({"data": {}}, ()),
        ({"data": payload("crosstrade/cancelled-one")}, ()),
        ({"data": payload("crosstrade/not-found")}, ()),
        ({"error": "no"}, (UnexplainedMessage("cancel-one refused: no"),)),
    ],
)
def test_an_order_that_still_rests_after_a_read_is_also_cancelled_by_its_id(
    message: dict[str, Any], facts: tuple[UnexplainedMessage, ...]
) -> None:
    player = ready()
    know(player, listed(GUID, OTHER))
    player(Kill(), strike_frame("k1-0"), WakeAfter("hedge k1-0", 0.06))
    player(Kill(), strike_frame("k2-0"), WakeAfter("hedge k2-0", 0.06))  # no read since: nothing is known to be left
    know(player, listed(GUID, "f" * 32))
    player(
        Kill(),
        strike_frame("k3-0"),
        WakeAfter("hedge k3-0", 0.06),
        rpc(f"one {GUID}", "Cancel", account="Sim101", orderId=GUID),
        WakeAfter("one", 0.06),
        hears(1, {"id": f"one {GUID}", **message}),
        *facts,
    )


def test_over_rest_the_single_cancel_is_that_of_the_seed() -> None:
    player = Player(make())
    know(player, listed(OTHER))
    player.put(Kill())
    know(player, listed(OTHER))
    outputs = player.put(Kill())
    single = outputs[-1]
    line = f"POST /v1/api/accounts/Sim101/orders/{OTHER}/cancel"
    assert single == Asked(f"cancel-one#{len(player.calls)}", line, urgent=True, body=b"{}", headers=HEADERS)
    assert isinstance(single, Call)
    player(answer(single.tag, payload("crosstrade/cancelled-one")))
    player.put(Kill())
    know(player, listed(OTHER))
    single = player.put(Kill())[-1]
    assert isinstance(single, Call)
    player(answer(single.tag, {"error": "no"}, 400), UnexplainedMessage("cancel-one refused: HTTP 400 no"))
    player.put(Kill())
    know(player, listed(OTHER))
    single = player.put(Kill())[-1]
    assert isinstance(single, Call)
    player(CallLost(single.tag, True, "gone"))


def test_an_answer_to_a_single_cancel_that_proves_nothing_is_left_to_the_reads() -> None:
    player = Player(make())
    know(player, listed(OTHER))
    player.put(Kill())
    know(player, listed(OTHER))
    single = player.put(Kill())[-1]
    assert isinstance(single, Call)
    player(answer(single.tag, b"", 500))


@pytest.mark.parametrize("bad", ["../../x", "a b", "ü", "x" * 65])
def test_an_id_that_is_none_does_not_get_into_a_path(bad: str) -> None:
    player = Player(make())
    know(player, listed(bad))
    player.put(Kill())
    know(player, listed(bad))
    assert len(player.put(Kill())) == 2


def test_an_order_without_an_account_gets_no_cancel_besides_the_account_wide_one() -> None:
    player = ready(Player(make("Sim101", "Live1")))
    for _ in range(2):
        know(player, listed(GUID, account=None))
        assert set(player.adapter.book.orders) == {GUID}
        outputs = player.put(Kill())
    assert len(outputs) == 4


def test_single_cancels_leave_tokens_for_the_read() -> None:
    player = Player(make())
    ids = [f"{number:032x}" for number in range(40)]
    for _ in range(2):
        know(player, listed(*ids))
        outputs = player.put(Kill())
    assert len(outputs) == 2 + 10
    know(player, listed(*ids))
    player.adapter._wire.bucket.drain(player.now)  # type: ignore[attr-defined]
    assert len(player.put(Kill())) == 2


# ── reads (§5, §7) ────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_read_covers_all_accounts_and_orders_of_others_are_not_ours() -> None:
    player = Player(make("Sim101", "Live1"))
    body = listed(GUID)
    body["orders"] += listed(OTHER, account="LIVE1")["orders"] + listed("f" * 32, account="Sim999")["orders"]
    player(
        Read(),
        Asked("orders#1", ORDERS, urgent=True, headers=HEADERS),
        WakeAfter("orders#1", 1.0),
        answer("orders#1", body),
        OrdersRead((order(), order(OTHER)), True, START.mono_ns),
    )
    assert player.adapter.book.is_known and set(player.adapter.book.orders) == {GUID, OTHER}


@pytest.mark.parametrize(
    "body",
    [
        listed(GUID),
        {"orders": listed(GUID)["orders"]},
        {"data": listed(GUID)["orders"], "success": True},
        {"data": {"orders": listed(GUID)["orders"]}, "success": True},
        {"orders": [{"id": GUID, "state": "Working", "instrument": "ES 09-26"}]},
        {"orders": [payload("crosstrade/order") | {"account": {"name": "SIM101"}}]},
    ],
)  # fmt: skip
def test_every_wrapper_of_a_list_is_understood(body: object) -> None:
    Player(make())(
        Read(),
        Asked("orders#1", ORDERS, urgent=True),
        WakeAfter("orders#1", 1.0),
        answer("orders#1", body),
        OrdersRead((order(),), True, START.mono_ns),
    )


def test_an_order_in_a_state_unknown_to_ninjatrader_is_live_and_reported() -> None:
    Player(make())(
        Read(),
        Asked("orders#1", ORDERS, urgent=True),
        WakeAfter("orders#1", 1.0),
        answer("orders#1", listed(GUID, state="Unknown")),
        OrdersRead((order(GUID, "unknown"),), True, START.mono_ns),
        UnexplainedMessage(f"order {GUID} is in state Unknown"),
    )


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (400, payload("crosstrade/invalid-request"), "HTTP 400 Invalid request"),
        (408, payload("crosstrade/addon"), f"{OFFLINE} (HTTP 408 addon_disconnected The XT add-on is not connected)"),
        (200, {"success": True}, "the order list cannot be read"),
        (200, {"orders": None}, "the order list cannot be read"),
        (200, {"orders": [{}]}, "1 of the orders listed cannot be read"),
        (200, {"orders": [1, 2]}, "2 of the orders listed cannot be read"),
        (200, {"error": "No orders"}, "HTTP 200 No orders"),
        (201, listed(), "accepted"),
    ],
)
def test_a_failed_read_is_incomplete_and_reports_its_reason(status: int, body: object, why: str) -> None:
    Player(make())(
        Read(),
        Asked("orders#1", ORDERS, urgent=True),
        WakeAfter("orders#1", 1.0),
        answer("orders#1", body, status),
        OrdersRead((), False, START.mono_ns, why),
    )


# ── where REST has no GET /orders, which is inferred ──────────────────────────────────────────────────────────────


def reached(tag: str, *accounts: str) -> tuple[Any, ...]:
    """Ask, behind a list without orders, which accounts it has covered: all of them."""
    return (Asked(tag, SNAPSHOT, urgent=True), WakeAfter(tag, 1.0), answer(tag, connected(*(accounts or ("Sim101",)))))


def one_list(tag: str, account: str = "Sim101", route: Route = Route.HTTP, urgent: bool = True) -> Asked:
    return Asked(tag, f"GET /v1/api/accounts/{account}/orders", route, urgent=urgent)


def without_path(player: Player) -> Player:
    """Let GET /orders be answered by 404, on a lane with a WebSocket: the RPC has the same list."""
    tag = f"orders#{len(player.calls) + 1}"
    player(
        Read(),
        Asked(tag, ORDERS, urgent=True),
        WakeAfter(tag, 1.0),
        answer(tag, {"error": "not_found", "did_you_mean": "/v1/api/accounts"}, 404),
        rpc("r1", "GetAllOrders"),
        WakeAfter("list r1", 1.5),
    )
    return player


def test_without_the_path_the_rpc_is_asked_and_stays_the_way() -> None:
    player = without_path(ready())
    player(
        reply("r1", listed(GUID)),
        OrdersRead((order(),), True, START.mono_ns),
        VenueTimerFired("list r1"),
        Read(),
        rpc("r2", "GetAllOrders"),
        WakeAfter("list r2", 1.5),
        reply("r2", listed()),
        *reached("reach#2"),
        OrdersRead((), True, START.mono_ns),
        reply("r2", listed()),
        Pause(1),
        Probe(),
        rpc("r3", "GetAllOrders"),
        WakeAfter("list r3", 1.5),
        Asked("snapshot#3", SNAPSHOT),  # the list says nothing of the HTTP lane, and does not keep it warm
        reply("r3", listed()),
        answer("snapshot#3", payload("crosstrade/snapshot")),
        Ready(Route.HTTP, 0),
    )


def test_an_rpc_list_that_does_not_come_leads_to_one_list_an_account() -> None:
    without_path(ready(Player(make("Sim101", "Live1"))))(
        VenueTimerFired("list r1"),
        one_list("list#2"),
        WakeAfter("list#2", 1.0),
        one_list("list#3", "Live1"),
        WakeAfter("list#3", 1.0),
        reply("r1", listed(GUID)),
        answer("list#3", listed(OTHER, account=None)),
        answer("list#2", listed(GUID)),
        OrdersRead((order(OTHER), order()), True, START.mono_ns),
        Read(),  # it was only slow: the next read asks it again
        rpc("r2", "GetAllOrders"),
        WakeAfter("list r2", 1.5),
    )


@pytest.mark.parametrize(
    ("data", "again"),
    [
        ({"error": "Unknown api GetAllOrders"}, False),
        ({"orders": [{}]}, False),
        (None, False),
        (payload("crosstrade/addon"), True),
    ],
)
def test_an_rpc_that_there_is_not_is_not_asked_again(data: object, again: bool) -> None:
    player = without_path(ready())
    player(reply("r1", data), one_list("list#2"), WakeAfter("list#2", 1.0))
    outputs = player.put(Read())
    assert isinstance(outputs[0], Send if again else Call)


def test_a_connection_lost_while_it_lists_leads_to_one_list_an_account() -> None:
    player = without_path(ready())
    ready(player, conn=2)
    player(reply("r1", listed(GUID), conn=2))
    player(
        Closed(Route.WS, 1, "gone"),
        NotReady(Route.WS, 1, "gone"),
        one_list("list#2"),
        WakeAfter("list#2", 1.0),
    )


def each() -> Player:
    """Read account by account, two of them: no path, and no WebSocket."""
    player = Player(make("Sim101", "Live1"))
    player(
        Read(),
        Asked("orders#1", ORDERS, urgent=True),
        WakeAfter("orders#1", 1.0),
        answer("orders#1", b"<html>", 404),
        one_list("list#2"),
        WakeAfter("list#2", 1.0),
        one_list("list#3", "Live1"),
        WakeAfter("list#3", 1.0),
    )
    return player


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (payload("crosstrade/invalid-account"), 400, "HTTP 400 invalid_account Account Sim999 not found"),
        ({"orders": [{}]}, 200, "1 of the orders listed cannot be read"),
    ],
)
def test_one_list_that_cannot_be_had_makes_the_read_incomplete(body: object, status: int, why: str) -> None:
    each()(
        answer("list#3", body, status),
        answer("list#2", listed(GUID)),
        OrdersRead((order(),), False, START.mono_ns, f"Live1: {why}"),  # what one list has shown stays
    )


def test_one_list_that_is_lost_makes_the_read_incomplete() -> None:
    each()(
        answer("list#2", listed()),
        answer("list#3", b"", 500),
        one_list("list#3", "Live1", Route.FRESH),
        CallLost("list#3", True, "gone"),
        OrdersRead((), False, START.mono_ns, "Live1: gone"),
    )


def test_a_new_lane_tries_the_path_again() -> None:
    player = each()
    player.put(Opened(Route.HTTP, 0))
    assert player.calls[-2].request.target == "/v1/api/orders"


# ── lanes and the probe ───────────────────────────────────────────────────────────────────────────────────────────


def probed(number: int = 1, player: Player | None = None) -> Player:
    """Come to the probe of this number."""
    player = player or Player(make())
    for _ in range(number - 1):
        player.put(Pause(4))
        player.put(Probe())
        player.put(answer(player.calls[-1].tag, listed()))
    player.put(Pause(4))
    return player


def test_an_http_lane_that_comes_up_is_proven_by_orders_and_snapshot() -> None:
    Player(make())(
        Opened(Route.HTTP, 0),
        Asked("orders#1", ORDERS),
        Asked("snapshot#2", SNAPSHOT, headers=HEADERS),
        answer("snapshot#2", payload("crosstrade/snapshot")),
        Ready(Route.HTTP, 0),
        answer("orders#1", listed(GUID)),
        Ready(Route.HTTP, 0),
        OrdersRead((order(),), True, START.mono_ns),
    )


def test_every_fourth_probe_looks_at_the_snapshot_too() -> None:
    probed(4)(Probe(), Asked("orders#4", ORDERS), Asked("snapshot#5", SNAPSHOT))


OFFLINE_TOLD = f"{OFFLINE} (HTTP 408 addon_disconnected The XT add-on is not connected)"


def test_an_offline_add_on_is_reported_by_the_probe_before_any_trigger() -> None:
    Player(make())(
        Probe(),
        Asked("orders#1", ORDERS),
        answer("orders#1", payload("crosstrade/addon"), 408),
        NotReady(Route.HTTP, 0, OFFLINE_TOLD),
        Probe(),
        Asked("orders#2", ORDERS),
        answer("orders#2", listed()),
        Ready(Route.HTTP, 0),
    )


def looks(player: Player | None = None) -> Player:
    player = player or Player(make())
    player.put(Opened(Route.HTTP, 0))
    return player


REMEDY = ": no kill reaches orders that rest at its broker; connect it, or take it out of nt_accounts"
NOT_SHOWN = f"NinjaTrader does not show NT account Sim101{REMEDY}"


@pytest.mark.parametrize(
    ("body", "status", "fact"),
    [
        (payload("crosstrade/addon"), 408, NotReady(Route.HTTP, 0, OFFLINE_TOLD)),
        (b"", 401, NotReady(Route.HTTP, 0, "HTTP 401", fatal=True)),
        (b"", 403, NotReady(Route.HTTP, 0, "HTTP 403", fatal=True)),
        (b"", 500, NotReady(Route.HTTP, 0, "HTTP 500 proves nothing")),
        (snapshot(), 200, NotReady(Route.HTTP, 0, NOT_SHOWN)),
        ({"accounts": 1}, 200, NotReady(Route.HTTP, 0, NOT_SHOWN)),
        (snapshot(1, {"account": 1}, {"account": {"name": "Sim999"}}), 200, NotReady(Route.HTTP, 0, NOT_SHOWN)),
        (
            snapshot({"account": {"name": "SIM101", "connectionStatus": "ConnectionLost"}}),
            200,
            NotReady(Route.HTTP, 0, f"connection ConnectionLost between the broker and NT account Sim101{REMEDY}"),
        ),
        (
            snapshot({"account": {"name": "SIM101"}}),
            200,
            NotReady(Route.HTTP, 0, f"connection not stated between the broker and NT account Sim101{REMEDY}"),
        ),
        (connected("SIM101"), 200, Ready(Route.HTTP, 0)),
    ],
)
def test_the_snapshot_says_whether_a_kill_could_work(body: object, status: int, fact: Any) -> None:
    looks()(answer("snapshot#2", body, status), fact)


def test_a_snapshot_over_the_limit_says_nothing_of_the_lane() -> None:
    looks()(answer("snapshot#2", payload("crosstrade/rate-limit"), 429))


def test_a_snapshot_that_is_lost_makes_the_lane_unready() -> None:
    looks()(CallLost("snapshot#2", True, "no answer in time"), NotReady(Route.HTTP, 0, "no answer in time"))


def test_orders_do_not_hide_a_fault_that_the_snapshot_shows() -> None:
    player = looks()
    player.put(answer("snapshot#2", snapshot()))
    player(answer("orders#1", listed()))


def counted(adapter: CrossTrade) -> Player:
    """Return a player that has run for a while: there must be tokens, whoever has used them before."""
    player = Player(adapter)
    adapter._wire.bucket.spend(player.now)
    player.put(Pause(10))
    return player


def test_a_probe_over_the_limit_says_nothing_of_the_lane_and_slows_the_probes() -> None:
    counted(make())(
        Probe(),
        Asked("orders#1", ORDERS),
        Replied("orders#1", 429, {"retry-after": "1"}, b'{"error":"Rate limit exceeded"}'),
        Probe(),
        Pause(7.9),
        Probe(),
        Pause(0.1),
        Probe(),  # a refusal costs nothing, and an answer says that the lane is good
        Asked("orders#2", ORDERS),
    )


@pytest.mark.parametrize(
    ("data", "rpc_lists"),
    [({"error": "Unknown api"}, False), ({"orders": 1}, False), (payload("crosstrade/rate-limit"), True)],
)
def test_any_reply_to_the_greeting_proves_the_connection(data: object, rpc_lists: bool) -> None:
    player = Player(make())
    player(Opened(Route.WS, 1), rpc("hello", "GetAllOrders"), reply("hello", data), Ready(Route.WS, 1))
    tag = "orders#1"
    player.put(Pause(70))  # nobody else uses the tokens any more
    player.put(Read())
    outputs = player.put(answer(tag, b"", 404))
    assert isinstance(outputs[0], Send if rpc_lists else Call)


def test_a_greeting_that_finds_no_add_on_says_so() -> None:
    Player(make())(
        Opened(Route.WS, 1),
        rpc("hello", "GetAllOrders"),
        hears(1, {"id": "hello", "error": "addon_disconnected"}),
        Ready(Route.WS, 1),
        NotReady(Route.HTTP, 0, f"{OFFLINE} (addon_disconnected)"),
    )


# ── one session for a user (§6) ───────────────────────────────────────────────────────────────────────────────────

AWAY = "another program has this user's one WebSocket; REST only for 30 s"


def test_a_session_taken_over_by_another_program_is_left_to_it_for_30_s() -> None:
    player = ready()
    assert player.adapter.reason_to_stay_disconnected(player.now) == ""
    why = f"closed by the venue: 1008 Session active elsewhere: {AWAY}"
    player(
        Closed(Route.WS, 1, "closed by the venue: 1008 Session active elsewhere"),
        NotReady(Route.WS, 1, why, fatal=True),
        Kill(),  # over REST from now on
        twin("cancel#1"),
        WakeAfter("cancel#1", 0.06),
        Pause(10),
    )
    told = "another session has this user's one WebSocket: REST only for 20 s"
    assert player.adapter.reason_to_stay_disconnected(player.now) == told
    player(Pause(20))
    assert player.adapter.reason_to_stay_disconnected(player.now) == ""


@pytest.mark.parametrize(
    "said",
    [
        {"type": "error", "error": "Session active elsewhere"},
        {"id": "k1-0", "data": None, "message": "Session active elsewhere"},
        {"id": "k1-0", "data": {"success": False}, "reason": "Session active elsewhere"},
    ],
)
def test_a_frame_that_says_so_ends_the_connection_and_counts_once(said: dict[str, Any]) -> None:
    player = one()
    why = f"Session active elsewhere: {AWAY}"
    player(
        hears(1, said),
        NotReady(Route.WS, 1, why, fatal=True),
        CloseConnection(1, why),
        twin("cancel#1"),
        WakeAfter("cancel#1", 0.06),
        Closed(Route.WS, 1, why),
        NotReady(Route.WS, 1, why),
    )
    assert player.adapter.reason_to_stay_disconnected(player.now).endswith("for 30 s")


def test_a_fight_for_the_session_is_given_up_for_longer_each_time() -> None:
    lease, now = SocketLease(), START
    assert [lease.on_displaced(now.mono_ns, now) for _ in range(9)] == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert lease.on_displaced(now.mono_ns - 600_000_000_000, now) == 30  # it had lasted: that was no fight
    assert lease.on_displaced(now.mono_ns, now) == 60


# ── pushes (§6) ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_order_events_are_asked_for_once_and_a_no_costs_nothing() -> None:
    options = CrossTrade.Options(nt_accounts=("Sim101",))
    Player(CrossTrade(options, {"token": "token-0123456789"}, 0.06))(
        Opened(Route.WS, 1),
        rpc("hello", "GetAllOrders"),
        Frame(1, {"action": "subscribe", "id": "events", "events": ["orders"]}),
        hears(1, {"id": "events", "error": "events need an origin"}),
        hears(1, payload("crosstrade/subscribed")),
        hears(1, {"id": "events", "success": True}),
    )


def test_a_pushed_order_of_another_account_or_that_cannot_be_read_is_not_in_the_book() -> None:
    player = ready()
    shown = payload("crosstrade/order")
    player(
        hears(1, {"type": "orderUpdate", **shown}),
        OrderSeen(order()),
        OrderPlaced(order()),
        hears(1, {"type": "orderUpdate", "order": shown | {"account": "Sim999", "orderId": OTHER}}),
        hears(1, {"type": "orderUpdate", "order": 1}),
        UnexplainedMessage("an order push that cannot be read"),
    )
    assert set(player.adapter.book.orders) == {GUID}


@pytest.mark.parametrize(
    "frame", [payload("crosstrade/resync"), {"type": "orderUpdate", "order": 1, "dropped": 2}, {"dropped": 1}]
)
def test_lost_frames_have_the_orders_read_anew(frame: dict[str, Any]) -> None:
    player = ready()
    outputs = player.put(hears(1, frame))
    assert outputs[-1] == Asked("orders#1", ORDERS)
    player.adapter._wire.bucket.drain(player.now)  # type: ignore[attr-defined]
    assert not any(isinstance(output, Call) for output in player.put(hears(1, frame)))


@pytest.mark.parametrize(
    "frame",
    [
        payload("crosstrade/market-data"),
        payload("crosstrade/status"),
        payload("crosstrade/rpc-cancelled"),  # an id that nobody waits for
        {"type": "pong"},
        {"success": True, "pong": 1},
        {"type": "executionUpdate"},
    ],
)
def test_frames_that_a_kill_does_without_are_nothing_strange(frame: dict[str, Any]) -> None:
    ready()(hears(1, frame))


def test_an_undocumented_message_is_unexplained() -> None:
    player = ready()
    player(
        hears(1, {"type": "news"}),
        UnexplainedMessage("a message that no document explains"),
        hears(1, {"type": ["x"], "error": {"code": 1}, "message": "token-0123456789"}),
        UnexplainedMessage('{"code":1} [secret]'),
        hears(1, {"id": 7, "data": {}}),
        UnexplainedMessage("a message that no document explains"),
        hears(1, {"id": "x"}),
        UnexplainedMessage("a message that no document explains"),
        Received(1, "pong"),
        UnexplainedMessage("a frame that is not a JSON object"),
        hears(1, {"error": "Rate limit exceeded"}),
        UnexplainedMessage("Rate limit exceeded"),
    )
    assert player.adapter._wire.bucket.left(player.now) == 0  # type: ignore[attr-defined]


def test_a_late_reply_with_an_error_and_the_end_of_an_unknown_timer_are_ignored() -> None:
    ready()(hears(1, {"id": "k9-0", "error": "no"}), VenueTimerFired("timer 9"))


# ── flatten (§4, §9) ──────────────────────────────────────────────────────────────────────────────────────────────

POSITIONS = "GET /v1/api/positions"
LONG = {"account": "Sim101", "instrument": "ES 09-26", "marketPosition": "Long", "quantity": 2}
YES = {"closedPositions": [LONG], "success": True}


def held(*positions: Mapping[str, object]) -> dict[str, Any]:
    return {"positions": list(positions), "count": len(positions), "success": True}


def position(words: str, life: OrderState = OrderState.PENDING, account: str = "Sim101") -> Order:
    return Order(f"position:{account}:ES 09-26", "ES 09-26", life, words)


def flattening(*accounts: str) -> Player:
    """Return a player of an account that is to be flat too, with a WebSocket and all tokens."""
    player = Player(make(*(accounts or ("Sim101",)), flatten=True))
    player(Opened(Route.WS, 1), rpc("hello", "GetAllOrders"), reply("hello", listed()), Ready(Route.WS, 1), Pause(10))
    return player


def looked(player: Player, *positions: Mapping[str, object], orders: object = None) -> list[Any]:
    """Read orders and positions; return what comes of it."""
    player.put(Read())
    player.put(answer(player.calls[-1].tag, orders or listed()))
    assert (player.calls[-1].request.target, player.calls[-1].urgent) == ("/v1/api/positions", True)
    outputs = list(player.put(answer(player.calls[-1].tag, held(*positions))))
    if player.calls[-1].tag.startswith("reach#") and player.calls[-1] in outputs:  # nothing is left
        outputs = list(player.put(answer(player.calls[-1].tag, connected(*player.adapter._accounts))))  # type: ignore[attr-defined]
    return outputs


def struck_and_answered(player: Player, strike: int = 1) -> None:
    outputs = player.put(Kill())
    if isinstance(outputs[0], Send):
        outputs = player.put(reply(f"k{strike}-0", payload("crosstrade/cancelled-none")))
    elif isinstance(outputs[0], Call):
        outputs = player.put(answer(outputs[0].tag, payload("crosstrade/cancelled-none")))
    [fact] = outputs
    assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.ACCEPTED


def flattens(outputs: list[Any]) -> list[str]:
    """Return the accounts that are flattened, by frame or by call."""
    frames = [orjson.loads(output.text) for output in outputs if isinstance(output, Send)]
    calls = [output.request.target.split("/") for output in outputs if isinstance(output, Call)]
    return [frame["args"]["account"] for frame in frames if frame["api"] == "Flatten"] + [
        parts[4] for parts in calls if parts[-1] == "flatten"
    ]


def test_a_position_is_flattened_once_behind_the_answered_cancels_and_a_read_and_counts_as_left_until_it_is_gone() -> (
    None
):
    player = flattening()
    player(
        Kill(),
        strike_frame("k1-0"),
        WakeAfter("hedge k1-0", 0.06),
        reply("k1-0", payload("crosstrade/cancelled-none")),
        CancelAnswered(CancelOutcome.ACCEPTED, "0 order(s) named as cancelled", 0),
        Read(),
        Asked("orders#1", ORDERS, urgent=True),
        WakeAfter("orders#1", 1.0),
        answer("orders#1", listed()),
        Asked("positions#2", POSITIONS, urgent=True),
        WakeAfter("positions#2", 1.0),
        answer("positions#2", held(LONG)),
        rpc("f1", "Flatten", account="Sim101"),
        OrdersRead((position("long 2, flatten sent"),), True, player.now.mono_ns),
        reply("f1", YES),
    )
    player.put(Pause(1))
    [read] = looked(player, LONG)
    assert read == OrdersRead((position("long 2, flatten accepted"),), True, player.now.mono_ns)
    player.put(Pause(1))
    assert looked(player) == [OrdersRead((), True, player.now.mono_ns)]
    assert not player.adapter.book.orders


def test_without_the_option_nothing_is_ever_flattened_and_positions_are_not_even_read() -> None:
    player = ready()
    struck_and_answered(player)
    player(
        Read(),
        Asked("orders#1", ORDERS, urgent=True),
        WakeAfter("orders#1", 1.0),
        answer("orders#1", listed()),
        *reached("reach#2"),
        OrdersRead((), True, player.now.mono_ns),
    )


def test_only_a_strike_has_a_position_flattened_and_each_strike_once() -> None:
    player = flattening()
    [read] = looked(player, LONG)  # armed: somebody only wants to know
    assert read == OrdersRead((position("long 2", OrderState.LIVE),), True, player.now.mono_ns)
    struck_and_answered(player)
    assert flattens(looked(player, LONG)) == ["Sim101"]
    player.put(reply("f1", YES))
    player.put(Pause(2))
    [read] = looked(player, LONG)  # the strike's wish has been granted: the next strike asks again
    assert read.orders == (position("long 2, flatten accepted", OrderState.LIVE),)


def test_a_read_asked_for_before_the_cancels_were_answered_flattens_no_position() -> None:
    player = flattening()
    player.put(Kill())
    player.put(Pause(0.1))
    player.put(Read())
    player.put(Pause(0.1))
    player.put(reply("k1-0", payload("crosstrade/cancelled-none")))
    player.put(answer(player.calls[-1].tag, listed()))
    [read] = player.put(answer(player.calls[-1].tag, held(LONG)))
    assert isinstance(read, OrdersRead) and read.orders[0].state is OrderState.LIVE
    assert flattens(looked(player, LONG)) == ["Sim101"]


def test_unanswered_cancels_delay_a_flatten_for_as_long_as_an_answer_may_take() -> None:
    player = flattening()
    player.put(Kill())
    player.put(Pause(1.4))
    assert flattens(looked(player, LONG)) == []
    player.put(Pause(0.1))
    assert flattens(looked(player, LONG)) == ["Sim101"]


def test_a_flatten_is_dropped_if_no_read_follows_its_strike_in_time() -> None:
    player = flattening()
    struck_and_answered(player)
    player.put(Pause(5.1))
    assert flattens(looked(player, LONG)) == []
    assert flattens(looked(player, LONG)) == []


def test_there_is_no_second_flatten_while_the_first_may_be_working() -> None:
    player = flattening()
    struck_and_answered(player)
    assert flattens(looked(player, LONG)) == ["Sim101"]
    for strike in range(2, 11):  # nobody answers: it may lie in the relay
        player.put(Pause(2))
        struck_and_answered(player, strike)
        found = looked(player, LONG)
        assert flattens(found) == [] and found[-1].orders[0].state is OrderState.PENDING
    player.put(Pause(2))
    struck_and_answered(player, 11)
    assert flattens(looked(player, LONG)) == ["Sim101"]  # 20 s


def test_a_flatten_that_was_accepted_has_a_moment_to_show_its_orders() -> None:
    player = flattening()
    struck_and_answered(player)
    looked(player, LONG)
    player.put(reply("f1", YES))
    player.put(Pause(1.9))
    struck_and_answered(player, 2)
    assert flattens(looked(player, LONG)) == []
    player.put(Pause(0.1))
    struck_and_answered(player, 3)
    found = looked(player, LONG)
    assert flattens(found) == ["Sim101"] and found[-1].orders == (position("long 2, flatten sent"),)


@pytest.mark.parametrize(
    ("kind", "state", "flattened"),
    [
        ("Market", "Working", False),  # an earlier flatten's own, perhaps of a run of ours before this one
        ("Market", "CancelPending", False),  # it may still fill
        ("", "Working", False),
        ("Market", "Filled", True),
        ("Limit", "Working", True),  # a flatten cancels it, too
        ("StopMarket", "TriggerPending", True),
    ],
)
def test_an_account_with_a_market_order_at_work_is_not_flattened(kind: str, state: str, flattened: bool) -> None:
    player = flattening()
    struck_and_answered(player)
    orders = listed(GUID, state=state)
    orders["orders"][0]["orderType"] = kind
    assert flattens(looked(player, LONG, orders=orders)) == ["Sim101"] * flattened


def test_a_flattens_own_order_is_not_cancelled_while_it_may_be_filled() -> None:
    player = flattening()
    struck_and_answered(player)
    looked(player, LONG)
    player.put(reply("f1", YES))
    orders = listed(GUID)
    orders["orders"][0]["orderType"] = "Market"
    limit = listed(OTHER)["orders"]
    found = looked(player, LONG, orders={"orders": orders["orders"] + limit, "success": True})
    lives = [one.state for one in found[-1].orders]
    assert lives == [OrderState.PENDING, OrderState.PENDING, OrderState.LIVE]
    for _ in range(7):
        player.put(Pause(2))
        found = looked(player, LONG, orders=orders)
        assert [one.state for one in found[-1].orders] == [OrderState.PENDING, OrderState.PENDING]
        assert player.put(Kill()) == (CancelAnswered(CancelOutcome.ACCEPTED, f"{CLOSING_ONLY}; nothing else is left"),)
    player.put(Pause(1))
    found = looked(player, LONG, orders=orders)
    assert [one.state for one in found[-1].orders] == [OrderState.LIVE, OrderState.LIVE]  # 15 s: it is stuck
    assert isinstance(player.put(Kill())[0], Send)


CLOSING_ONLY = "orders that close positions are not cancelled"


def closing(player: Player, *ids: str) -> dict[str, Any]:
    """Have a position closed by a market order; return the list of that order and some others."""
    struck_and_answered(player)
    looked(player, LONG)
    player.put(reply("f1", YES))
    body = listed("f" * 32, *ids)
    body["orders"][0]["orderType"] = "Market"
    looked(player, LONG, orders=body)
    return body


def test_beside_an_order_that_closes_a_position_others_are_cancelled_by_their_ids_once() -> None:
    player = flattening()
    body = closing(player, GUID, OTHER)
    player(
        Kill(),
        rpc(f"one {GUID}", "Cancel", account="Sim101", orderId=GUID),
        WakeAfter("one 1", 0.06),
        rpc(f"one {OTHER}", "Cancel", account="Sim101", orderId=OTHER),
        WakeAfter("one 2", 0.06),
        CancelAnswered(CancelOutcome.ACCEPTED, f"{CLOSING_ONLY}; 2 other order(s) are cancelled by their ids"),
        Pause(1),
    )
    looked(player, LONG, orders=body)
    frames = [orjson.loads(output.text)["api"] for output in player.put(Kill()) if isinstance(output, Send)]
    assert frames == ["CancelOrders", "Cancel", "Cancel"]  # they rest on: orders come before positions


@pytest.mark.parametrize("ids", [tuple(f"{number:032x}" for number in range(11)), ("not an id",)])
def test_orders_that_are_too_many_or_odd_for_that_are_cancelled_account_wide(ids: tuple[str, ...]) -> None:
    player = flattening()
    closing(player, *ids)
    assert [orjson.loads(output.text)["api"] for output in player.put(Kill()) if isinstance(output, Send)] == [
        "CancelOrders"
    ]


def test_a_new_kill_cancels_account_wide_whatever_is_closing() -> None:
    player = flattening()
    struck_and_answered(player)
    player.put(Pause(5))
    looked(player, LONG)  # 20 s for an answer
    player.put(Pause(10.1))
    [answered] = player.put(Kill())  # of the same kill: the closing order is not cancelled
    assert isinstance(answered, CancelAnswered) and answered.answer is CancelOutcome.ACCEPTED
    assert isinstance(player.put(Kill(1))[0], Send)


def test_a_strike_tells_of_the_accounts_that_it_took() -> None:
    player = flattening("Sim101", "Live1")
    player.put(Kill())
    for number in range(2):
        player.put(reply(f"k1-{number}", payload("crosstrade/cancelled-none")))
    looked(player, LONG)
    player(
        Kill(),
        strike_frame("k2-0", "Live1"),
        WakeAfter("hedge k2-0", 0.06),
        reply("k2-0", payload("crosstrade/cancelled-none")),
        CancelAnswered(CancelOutcome.ACCEPTED, "0 order(s) named as cancelled", 0),
    )


@pytest.mark.parametrize(
    ("data", "again"),
    [
        ({"success": False, "error": "invalid_account"}, True),
        (payload("crosstrade/rate-limit"), True),  # it was not even looked at
        (payload("crosstrade/addon"), False),  # what becomes of it then nobody knows
        ({}, False),
    ],
)
def test_a_flatten_is_repeated_only_if_it_was_certainly_not_carried_out(data: object, again: bool) -> None:
    player = flattening()
    struck_and_answered(player)
    looked(player, LONG)
    player.put(reply("f1", data))
    player.put(Pause(10))
    struck_and_answered(player, 2)
    found = looked(player, LONG)
    assert flattens(found) == ["Sim101"] * again
    if data and not again:
        assert "flatten not accepted: the XT add-on" in found[-1].orders[0].status


def test_a_late_answer_to_a_flatten_before_the_last_changes_nothing() -> None:
    player = flattening()
    struck_and_answered(player)
    looked(player, LONG)
    player.put(reply("f1", YES))
    player.put(Pause(2))
    struck_and_answered(player, 2)
    looked(player, LONG)
    player.put(reply("f1", {"error": "no"}))
    player.put(Pause(2))
    struck_and_answered(player, 3)
    assert flattens(looked(player, LONG)) == []


def test_over_rest_a_flatten_takes_the_second_route_only_if_provably_nothing_left() -> None:
    target = "POST /v1/api/accounts/Sim101/positions/flatten"
    player = Player(make(flatten=True))
    player.put(Kill())
    player.put(answer("cancel#1", payload("crosstrade/cancelled-none")))
    [call, _] = looked(player, LONG)
    assert call == Asked(call.tag, target, urgent=True, body=b"{}", headers=HEADERS)
    [again] = player.put(CallLost(call.tag, False, "refused"))
    assert isinstance(again, Call) and again == Asked(again.tag, target, Route.FRESH, urgent=True, body=b"{}")
    player(VenueTimerFired(call.tag), VenueTimerFired(again.tag), CallLost(again.tag, False, "refused too"))
    player.put(Kill())
    player.put(answer(player.calls[-1].tag, payload("crosstrade/cancelled-none")))
    [call, read] = looked(player, LONG)
    assert read.orders == (position("long 2, flatten sent"),)
    player(CallLost(call.tag, True, "gone"))  # it may have left: no other route
    player.put(Kill())
    player.put(answer(player.calls[-1].tag, payload("crosstrade/cancelled-none")))
    assert flattens(looked(player, LONG)) == []


@pytest.mark.parametrize(("status", "body", "words"), [(200, YES, "flatten accepted"), (503, b"", "flatten sent")])
def test_over_rest_an_answer_counts_and_one_that_proves_nothing_does_not(status: int, body: object, words: str) -> None:
    player = Player(make(flatten=True))
    player.put(Kill())
    player.put(answer("cancel#1", payload("crosstrade/cancelled-none")))
    [call, _] = looked(player, LONG)
    player(answer(call.tag, body, status))
    [read] = looked(player, LONG)
    assert read.orders == (position(f"long 2, {words}"),)


def test_only_accounts_that_hold_something_are_flattened_and_only_ours() -> None:
    player = flattening("Sim101", "Live1", "Live2")
    player.put(Kill())
    for number in range(3):
        player.put(reply(f"k1-{number}", payload("crosstrade/cancelled-none")))
    found = looked(
        player,
        LONG | {"account": "LIVE1", "marketPosition": "Short"},
        LONG | {"account": "Sim999"},
        LONG | {"account": "Live2", "quantity": 0},
        LONG | {"account": "Live2", "marketPosition": "Flat"},
        LONG | {"account": None, "marketPosition": ""},
    )
    assert flattens(found) == ["Live1"]
    short, somebodys = found[-1].orders
    assert short == position("short 2, flatten sent", account="Live1")
    assert somebodys == position("open 2", OrderState.LIVE, "?")  # whose it is nobody says: it is left, and shown


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (
            payload("crosstrade/addon"),
            408,
            f"positions: {OFFLINE} (HTTP 408 addon_disconnected The XT add-on is not con",
        ),
        ({"success": True}, 200, "positions: the list of positions cannot be read"),
        (held({"account": "Sim101", "instrument": "ES 09-26"}), 200, "positions: 1 of the positions listed cannot be"),
        (held({"account": "Sim101", "quantity": 1}), 200, "positions: 1 of the positions listed cannot be read"),
        ({"positions": [1], "success": True}, 200, "positions: 1 of the positions listed cannot be read"),
    ],
)
def test_a_read_without_its_positions_is_not_whole_and_still_shows_the_orders(
    body: object, status: int, why: str
) -> None:
    player = flattening()
    struck_and_answered(player)
    player.put(Read())
    player.put(answer(player.calls[-1].tag, listed(GUID)))
    [read] = player.put(answer(player.calls[-1].tag, body, status))
    assert isinstance(read, OrdersRead) and not read.complete and read.why.startswith(why)
    assert read.orders == (order(),) and set(player.adapter.book.orders) == {GUID}


def test_positions_that_prove_nothing_take_the_second_route() -> None:
    player = flattening()
    player.put(Read())
    player.put(answer(player.calls[-1].tag, listed()))
    tag = player.calls[-1].tag
    player(
        answer(tag, b"", 502),
        Asked(tag, POSITIONS, Route.FRESH, urgent=True),
        CallLost(tag, True, "gone"),
        OrdersRead((), False, player.now.mono_ns, "gone"),
    )


def test_a_probe_never_says_that_an_account_to_be_flat_is_clear() -> None:
    player = flattening()
    player.put(Probe())
    tag = player.calls[-1].tag
    player(answer(tag, listed()), Ready(Route.HTTP, 0))
    player.put(Probe())
    tag = player.calls[-1].tag
    player(answer(tag, listed(GUID)), Ready(Route.HTTP, 0), OrdersRead((order(),), True, player.now.mono_ns))


def test_a_probe_does_not_use_a_strikes_wish_up() -> None:
    player = flattening()
    struck_and_answered(player)
    player.put(Pause(2))
    player.put(Probe())
    player.put(answer(player.calls[-1].tag, listed(GUID)))
    assert flattens(looked(player, LONG)) == ["Sim101"]


def test_flattens_wait_for_tokens_and_strikes_leave_them_some() -> None:
    player = flattening(*FIFTEEN)
    for output in player.put(Kill()):
        if isinstance(output, Call):
            player.put(answer(output.tag, payload("crosstrade/cancelled-none")))
    for number in range(15):
        player.put(reply(f"k1-{number}", payload("crosstrade/cancelled-none")))
    holding = [LONG | {"account": name} for name in FIFTEEN]
    assert flattens(looked(player, *holding)) == ["A0", "A1"]  # 20 less 15 cancels and 2 reads, 1 stays
    player.put(Pause(2))
    frames = [orjson.loads(output.text) for output in player.put(Kill()) if isinstance(output, Send)]
    assert [frame["args"]["account"] for frame in frames] == ["A2"]  # tokens stay for the flattens
    player.put(reply("k2-0", payload("crosstrade/cancelled-none")))
    assert flattens(looked(player, *holding[2:])) == ["A2"]
    player.put(Pause(2))
    frames = [orjson.loads(output.text) for output in player.put(Kill()) if isinstance(output, Send)]
    assert [frame["args"]["account"] for frame in frames] == ["A3"]


# ── plan, drill ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_plan_shows_cancels_of_single_orders_and_the_accounts_to_flatten() -> None:
    player = flattening("Sim101", "Live 1")
    know_both = {"orders": listed(GUID)["orders"], "success": True}
    for strike in range(2):
        looked(player, orders=know_both)
        plan = player.adapter.describe_strike()
        sent = [output.text.decode() for output in player.put(Kill()) if isinstance(output, Send)]
        shown = [f'ws {{"action":"rpc",{text.split(",", 2)[2]}' for text in sent]
        assert [line for line in plan if line.startswith("ws ")] == shown and len(shown) == 2 + strike
    assert plan[-1] == "then Flatten, once, each of Sim101, Live 1 that a read shows a position of"
    player.put(Closed(Route.WS, 1, "gone"))
    looked(player, orders=know_both)
    assert player.adapter.describe_strike() == (
        "POST /v1/api/accounts/Sim101/orders/cancel {}",
        "POST /v1/api/accounts/Live%201/orders/cancel {}",
        f"POST /v1/api/accounts/Sim101/orders/{GUID}/cancel {{}}",
        plan[-1],
    )


NOBODYS = "0" * 32


def test_a_drill_cancels_an_order_that_cannot_exist_on_both_lanes_and_takes_the_accounts_in_turn() -> None:
    player = Player(make("Sim101", "Live1"))
    ready(player)
    not_found = {"error": f"Order linked to '{NOBODYS}' not found or already terminal."}
    for number, account in enumerate(("Sim101", "Live1", "Sim101"), 1):
        player.put(Pause(10))
        player(
            Drill(),
            rpc(f"drill {number}", "Cancel", account=account, orderId=NOBODYS),
            WakeAfter(f"drill {number}", DRILL_WITHIN_S),
            Asked(f"drill#{number}", f"POST /v1/api/accounts/{account}/orders/{NOBODYS}/cancel", body=b"{}"),
            WakeAfter(f"drill#{number}", DRILL_WITHIN_S),
            Pause(0.02),
            reply(f"drill {number}", not_found),
            Drilled(Route.WS, True, 20_000, not_found["error"]),
            answer(f"drill#{number}", not_found, 400),
            Drilled(Route.HTTP, True, 0, f"HTTP 400 {not_found['error']}"),
        )


def test_a_drill_leaves_fifteen_tokens_for_a_kill() -> None:
    player = Player(make())
    ready(player)
    player.adapter._wire.bucket.spend(player.now, 4)  # type: ignore[attr-defined]
    why = "the tokens that are left are kept for a kill"
    assert player.adapter._wire.bucket.left(player.now) == 15  # type: ignore[attr-defined]
    player(
        Drill(),
        Drilled(Route.WS, False, 0, why, tried=False),
        Drilled(Route.HTTP, False, 0, why, tried=False),
        Pause(0.7),
    )
    player.put(Drill())
    assert player.adapter._wire.bucket.left(player.now) >= 15  # type: ignore[attr-defined]


def test_a_reply_to_a_drill_that_says_nothing_has_not_proven_the_path() -> None:
    player = ready()
    player.put(Pause(10))
    player.put(Drill())
    player(reply(f"{DRILL} 1", {}), Drilled(Route.WS, False, 0, "a reply that proves nothing"))


# ── what the accounts are worth (§5, §6) ──────────────────────────────────────────────────────────────────────────

STREAM = {"action": "streamPnl", "enabled": True, "interval": 1000}


def worth(name: str, figure: object, **more: object) -> dict[str, Any]:
    return {"account": {"name": name, "item": {"netLiquidation": figure}, **more}}


def update(*accounts: object) -> Received:
    return hears(1, payload("crosstrade/pnl-update") | {"accounts": list(accounts)})


def measured(player: Player, tag: str = "measure#1") -> Player:
    """Measure for the first time: the stream is asked for, and the snapshot until it comes."""
    player.put(Pause(10))
    player(Measure(), Frame(1, STREAM), Asked(tag, SNAPSHOT))
    return player


def test_figures_are_streamed_and_added_up_and_asked_for_until_they_come() -> None:
    player = measured(ready(Player(make("Sim101", "Live1"))))
    asked_ns = player.now.mono_ns
    both: tuple[object, ...] = (
        worth("SIM101", 1000.1, denomination="UsDollar"),
        worth("Live1", "-0.3"),
        worth("Sim999", 7),
        1,
        {},
    )
    player(
        Pause(0.2),
        answer("measure#1", snapshot(*both)),
        Equity({"USD": Decimal("999.8")}, asked_ns),
        Pause(0.8),
        update(*both),
        Equity({"USD": Decimal("999.8")}, player.now.mono_ns + 1_000_000_000),
        Pause(3),
        Measure(),  # they come by themselves
        Pause(0.1),
        Measure(),
        Asked("measure#2", SNAPSHOT),  # not any more
        Pause(12),
        Measure(),
        Frame(1, STREAM),
        Asked("measure#3", SNAPSHOT),
    )
    player.put(Closed(Route.WS, 1, "gone"))
    player(Measure(), Asked("measure#4", SNAPSHOT))
    ready(player, conn=2)
    player(Pause(1), Measure(), Frame(2, STREAM), Asked("measure#5", SNAPSHOT))


@pytest.mark.parametrize(
    ("accounts", "why"),
    [
        ([worth("Sim101", 1)], "no net liquidation of Live1"),
        ([worth("Sim101", 1), worth("Live1", None)], "no net liquidation of Live1"),
        ([worth("Sim101", 1), {"account": {"name": "Live1", "item": 1}}], "no net liquidation of Live1"),
        ([{"pnl": 1}], "no net liquidation of Sim101, Live1"),
        (
            [worth("Sim101", 1, denomination="Euro"), worth("Live1", 1)],
            "account Sim101 is kept in Euro, not in dollars",
        ),
    ],
)
def test_figures_that_are_not_whole_are_no_equity_and_pushes_of_them_are_reported_once(
    accounts: list[Any], why: str
) -> None:
    player = measured(ready(Player(make("Sim101", "Live1"))))
    player(
        answer("measure#1", snapshot(*accounts)),
        UnexplainedMessage(f"the snapshot: {why}"),  # the watermarks of two accounts would be of two moments
        update(*accounts),
        UnexplainedMessage(f"a push of figures: {why}"),
        update(*accounts),
        update(worth("Sim101", 1), worth("Live1", 1)),
        Equity({"USD": Decimal(2)}, player.now.mono_ns),
    )


MARKS = {"success": True, "data": {"account": "Sim101", "stats": {"netliq": 5.5}}}


UNREAD = snapshot(worth("Sim101", None, connectionStatus="Connected"))


@pytest.mark.parametrize("body", [UNREAD, {"error": "Invalid request"}])
def test_one_account_may_be_measured_by_its_watermarks(body: dict[str, Any]) -> None:
    player = measured(ready())
    outputs = player.put(answer("measure#1", body, 400 if "error" in body else 200))
    assert outputs[-1] == Asked("watermarks#2", "GET /v1/api/accounts/Sim101/watermarks")
    player(answer("watermarks#2", MARKS), Equity({"USD": Decimal("5.5")}, player.now.mono_ns))


@pytest.mark.parametrize(
    ("status", "body"),
    [(408, payload("crosstrade/addon")), (429, payload("crosstrade/rate-limit")), (500, b"")],
)
def test_without_the_add_on_the_venues_figures_are_stale_and_ignored(status: int, body: object) -> None:
    measured(ready())(answer("measure#1", body, status))


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, {"data": {}}, ["the watermarks cannot be read"]),
        (200, {"data": {"stats": {"netliq": 0}}}, ["the watermarks cannot be read"]),
        (200, {"data": 1}, ["the watermarks cannot be read"]),
        (400, {}, ["HTTP 400"]),
        (200, b"[]", []),  # no answer of the venue: the trigger requests the figures again
        (500, b"", []),
    ],
)
def test_watermarks_that_say_nothing_are_no_figure(status: int, body: object, why: list[str]) -> None:
    player = measured(ready())
    player.put(answer("measure#1", UNREAD))
    facts = [UnexplainedMessage(f"the account cannot be measured: {text}") for text in why]
    player(answer("watermarks#2", body, status), *facts)


def connection(status: object) -> str:
    return f"connection {status} between the broker and NT account Live1"


@pytest.mark.parametrize(
    ("accounts", "why"),
    [
        ([worth("Live1", 0, connectionStatus="ConnectionLost")], connection("ConnectionLost")),
        ([worth("Live1", 9, connectionStatus="ConnectionLost")], connection("ConnectionLost")),
        ([worth("Live1", 9, connectionStatus="Disconnected")], connection("Disconnected")),
        ([worth("Live1", 9, connectionStatus="Connecting")], connection("Connecting")),
        ([worth("Live1", 9, connectionStatus="")], connection("not stated")),
        ([worth("Live1", 9, connectionStatus={})], connection("not stated")),
        ([worth("Live1", 0)], "the net liquidation of Live1 is zero, and its connection is not stated"),
        ([worth("Live1", "0.00")], "the net liquidation of Live1 is zero, and its connection is not stated"),
        ([], "no net liquidation of Live1"),
        ([worth("Live1", 1), worth("LIVE1", 0)], "NT account Live1 is listed twice"),
        ([worth("Live1", "NaN", connectionStatus="Connected")], "no net liquidation of Live1"),
        ([{"account": {"name": "Live1", "connectionStatus": "Connected", "item": {}}}], "no net liquidation of Live1"),
        ([{"account": {"name": "Live1", "connectionStatus": "Connected"}}], "no net liquidation of Live1"),
    ],
)
def test_an_account_that_is_not_connected_or_not_whole_makes_the_sum_none(accounts: list[Any], why: str) -> None:
    player = measured(ready(Player(make("Sim101", "Live1"))))
    rich = worth("Sim101", 1000, connectionStatus="Connected")
    player(
        update(rich, *accounts),
        UnexplainedMessage(f"a push of figures: {why}"),
        answer("measure#1", snapshot(rich, *accounts)),
        UnexplainedMessage(f"the snapshot: {why}"),
    )


def test_an_unusable_snapshot_is_reported_once_until_a_usable_one_comes() -> None:
    player = ready()
    player.put(Pause(10))
    kinds = []
    for connected in (False, False, True, False):
        status = "Connected" if connected else "ConnectionLost"
        player.put(Measure())
        body = snapshot(worth("Sim101", 7, connectionStatus=status))
        kinds += [type(fact) for fact in player.put(answer(player.calls[-1].tag, body))]
        player.put(Pause(5))
    assert kinds == [UnexplainedMessage, Equity, UnexplainedMessage]


@pytest.mark.parametrize(
    "accounts", [[], [worth("Sim101", 0, connectionStatus="ConnectionLost")], [worth("Sim101", 0)]]
)
def test_the_figures_of_a_disconnected_account_are_reported_and_no_equity(accounts: Any) -> None:
    player = measured(ready())
    [noise] = player.put(answer("measure#1", snapshot(*accounts)))
    assert isinstance(noise, UnexplainedMessage)


def test_an_account_that_is_connected_and_has_nothing_is_worth_nothing() -> None:
    player = measured(ready())
    told = snapshot(worth("Sim101", 0, connectionStatus="Connected"))
    player(answer("measure#1", told), Equity({"USD": Decimal(0)}, player.now.mono_ns))


def frame(epoch: object, figure: object = 7, conn: int = 1, **more: object) -> Received:
    return hears(conn, {"type": "pnlUpdate", "epoch": epoch, "accounts": [worth("Sim101", figure)], **more})


def test_frames_of_one_moment_are_one_figure_and_a_late_one_is_none() -> None:
    player = ready()
    player(
        frame(1000),
        Equity({"USD": Decimal(7)}, player.now.mono_ns),
        Pause(1),
        frame(1000),
        frame(1000, 5),
        frame("1000.0", 5),
        frame(999, 5),
        frame(2000, None),
        UnexplainedMessage("a push of figures: no net liquidation of Sim101"),
        frame(2000, 6),
        Equity({"USD": Decimal(6)}, player.now.mono_ns + 1_000_000_000),
        frame(1000, 5),
    )


def test_the_stream_of_a_venue_whose_clock_was_set_back_goes_on() -> None:
    player = ready()
    kinds = []
    for epoch in (3_600_000, 3_595_000, 1000, 2000, 3000, 4000, 5000, 5000):
        kinds.append([type(fact) for fact in player.put(frame(epoch))])
        player.put(Pause(1))
    assert kinds == [[Equity], [], [], [], [Equity], [Equity], [Equity], []]


def test_repeated_frames_beside_frames_that_advance_are_no_equity() -> None:
    player = ready()
    told: list[object] = []
    for second in range(60):  # one connection of two, or a gateway, repeats what it saw last
        player.put(Pause(1))
        told += player.put(frame(1_000_000 + 1000 * second, 5))
        told += player.put(frame(990_000, 7))
        told += player.put(frame(None, 7, timestamp="2026-01-05T07:53:13"))
    assert [fact.amounts["USD"] for fact in told if isinstance(fact, Equity)] == [5, 7, *[5] * 59]


def test_frames_that_come_long_behind_others_are_late_ones_and_no_figures() -> None:
    player = ready()
    told: list[object] = []
    for second in range(60):
        player.put(Pause(1))
        told += player.put(frame(1_000_500 + 1000 * second, 5))
        told += player.put(frame(980_000 + 1000 * second, 7))
    assert {fact.amounts["USD"] for fact in told if isinstance(fact, Equity)} == {5}


def test_a_frame_without_an_epoch_is_a_repetition_only_if_it_repeats_a_timestamp() -> None:
    player = ready()
    kinds = [[type(fact) for fact in player.put(frame(None, timestamp=stamp))] for stamp in ("a", "a", "b", None, None)]
    assert kinds == [[Equity], [], [Equity], [Equity], [Equity]]


def test_a_stale_stream_makes_a_measurement_read_the_snapshot_and_a_stale_snapshot_is_no_equity() -> None:
    player = ready()
    player.put(Pause(10))
    player.put(frame(1000))
    for still in (
        UnexplainedMessage("the snapshot stands still: it is of the same moment as the figures before"),
        None,
    ):
        for _ in range(4):
            player(Pause(1), frame(1000))
        calls = [call for call in player.put(Measure()) if isinstance(call, Call)]
        outputs = player.put(answer(calls[0].tag, snapshot(worth("Sim101", 7)) | {"epoch": 1000}))
        assert outputs == (() if still is None else (still,))
    player.put(Pause(5))
    [call] = [call for call in player.put(Measure()) if isinstance(call, Call)]
    [fact] = player.put(answer(call.tag, snapshot(worth("Sim101", 7)) | {"epoch": 9000}))
    assert isinstance(fact, Equity)


def test_a_snapshot_that_a_push_has_overtaken_is_no_second_figure() -> None:
    player = measured(ready())
    player.put(frame(1000))
    player(answer("measure#1", snapshot(worth("Sim101", 7)) | {"epoch": 1000}))


def test_figures_that_are_lost_are_asked_for_again_in_time() -> None:
    player = measured(ready())
    player(CallLost("measure#1", True, "gone"))
    player.put(Pause(1))
    player.put(Measure())
    player.put(answer(player.calls[-1].tag, snapshot()))
    player(CallLost(player.calls[-1].tag, True, "gone"))


def test_figures_leave_fifteen_tokens_for_a_kill() -> None:
    player = ready()
    player.adapter._wire.bucket.spend(player.now, 4)  # type: ignore[attr-defined]
    player(Measure(), Pause(0.4), Measure(), Frame(1, STREAM), Pause(0.4))
    player.put(Measure())
    player.put(answer(player.calls[-1].tag, snapshot()))
    assert player.calls[-1].request.target == "/v1/api/accounts/snapshot"  # no token for the watermarks
    assert player.adapter._wire.bucket.left(player.now) >= 15  # type: ignore[attr-defined]


def test_a_position_pushed_by_events_is_nothing_strange_and_new_orders_are_found_by_reading() -> None:
    assert make().pushes_orders is False and CrossTrade.CURRENCIES == ("USD",)


def test_a_lane_that_comes_and_goes_leaves_the_tokens_that_are_kept_for_a_kill() -> None:
    player = Player(make())
    for _ in range(30):
        asked = len(player.calls)
        player.put(Opened(Route.HTTP, 0))
        for call in player.calls[asked:]:
            player.put(CallLost(call.tag, True, "closed"))
        player.put(Closed(Route.HTTP, 0, "closed"))
        player.put(Pause(0.05))
    assert 2 <= len(player.calls) <= 12
    assert player.adapter._wire.bucket.left(player.now) >= KEPT  # type: ignore[attr-defined]
    asked = len(player.calls)
    player.put(Pause(4))
    player.put(Opened(Route.HTTP, 0))
    assert len(player.calls) == asked + 2
