"""See what a list without orders proves at CrossTrade: what NinjaTrader shows at that time, and nothing else (§5)."""

from __future__ import annotations

from typing import Any

import pytest

from kill_switch.core.domain import CancelOutcome, Order, OrderState, Route
from kill_switch.venues.messages import (
    Call,
    CallLost,
    CancelAnswered,
    Closed,
    NotReady,
    Opened,
    OrderPlaced,
    OrderSeen,
    OrdersRead,
    Ready,
    Send,
    UnexplainedMessage,
)
from tests.harness.venue_playbook import Kill, Pause, Probe, Read, answer, hears, payload

from .test_crosstrade import (
    GUID,
    LONG,
    OTHER,
    REMEDY,
    Player,
    connected,
    flattening,
    held,
    listed,
    make,
    order,
    ready,
    reply,
    snapshot,
)

UNKNOWN_ACCOUNT = payload("crosstrade/invalid-account")
OLD_UNKNOWN_ACCOUNT = {"error": "Account Sim101 not found"}  # the old envelope (§2)
NOT_SHOWN = f"NinjaTrader does not show NT account Live1{REMEDY}"


def reads(player: Player, *answers: tuple[object, int] | object) -> OrdersRead:
    """Read back; each request that is asked gets the next answer, all of them one after the other."""
    work = [output for output in player.put(Read()) if isinstance(output, Call)]
    rest, facts = list(answers), []
    while work:
        call = work.pop(0)
        assert rest, f"nobody has an answer to {call.request.target}"
        given: Any = rest.pop(0)
        body, status = given if isinstance(given, tuple) else (given, 200)
        for output in player.put(answer(call.tag, body, status)):
            work += [output] if isinstance(output, Call) else []
            facts += [output] if isinstance(output, OrdersRead) else []
    [fact] = facts
    assert not rest, f"not asked for: {rest}"
    return fact


def asked(player: Player, count: int) -> list[str]:
    """Return the targets of the last requests."""
    return [call.request.target for call in player.calls[-count:]]


def pushed(one: str = GUID, state: str = "Working", account: str = "Sim101") -> Any:
    item = payload("crosstrade/order") | {"orderId": one, "orderState": state, "account": account}
    return hears(1, {"type": "orderUpdate", "order": item})


def struck(player: Player, body: object = None, status: int = 200) -> None:
    """Strike over REST, and let every account-wide cancel be answered with this."""
    for output in player.put(Kill()):
        if isinstance(output, Call):
            player.put(answer(output.tag, payload("crosstrade/cancelled-none") if body is None else body, status))


# ── accounts that NinjaTrader does not show, or not connected ─────────────────────────────────────────────────────


def test_a_list_without_orders_is_complete_only_beside_a_snapshot_that_shows_every_account_connected() -> None:
    player = Player(make("Sim101", "Live1"))
    assert reads(player, listed(), connected("SIM101", "live1")) == OrdersRead((), True, player.now.mono_ns)
    assert asked(player, 2) == ["/v1/api/orders", "/v1/api/accounts/snapshot"]
    assert reads(player, listed(), connected("Sim101")) == OrdersRead((), False, player.now.mono_ns, NOT_SHOWN)


@pytest.mark.parametrize("body", [UNKNOWN_ACCOUNT, OLD_UNKNOWN_ACCOUNT])
def test_an_account_that_the_venue_does_not_know_any_more_is_not_clear_whatever_the_list_says(body: object) -> None:
    player = Player(make())
    struck(player, body, 400)
    orders_read = reads(player, listed(), snapshot())
    assert not orders_read.complete and "Sim101" in orders_read.why


@pytest.mark.parametrize(
    "status", ["ConnectionLost", "Disconnected", "Connecting", "Disconnecting", "next year's", "", None]
)
def test_an_account_without_a_connection_to_its_broker_is_not_clear(status: str | None) -> None:
    player = Player(make())
    orders_read = reads(player, listed(), snapshot({"account": {"name": "Sim101", "connectionStatus": status}}))
    words = f"connection {status or 'not stated'} between the broker and NT account Sim101{REMEDY}"
    assert orders_read == OrdersRead((), False, player.now.mono_ns, words)


def test_orders_of_an_account_that_is_not_shown_any_more_stay_in_the_book_and_are_left() -> None:
    player = Player(make("Sim101", "Live1"))
    both = {"orders": listed(GUID)["orders"] + listed(OTHER, account="Live1")["orders"], "success": True}
    assert len(reads(player, both).orders) == 2
    assert reads(player, listed(), connected("Sim101")).orders == (order(OTHER),)
    assert set(player.adapter.book.orders) == {OTHER}
    assert reads(player, listed(GUID)).orders == (order(GUID), order(OTHER))
    assert not reads(player, listed(), connected("Sim101", "Live1")).complete
    assert reads(player, listed(), connected("Sim101", "Live1")) == OrdersRead((), True, player.now.mono_ns)
    assert not player.adapter.book.orders


def test_a_list_that_was_asked_for_before_an_account_came_into_sight_again_does_not_cover_it() -> None:
    player = Player(make("Sim101", "Live1"))
    assert reads(player, listed(), connected("Sim101", "Live1")).complete
    assert not reads(player, listed(), connected("Sim101")).complete
    orders_read = reads(player, listed(), connected("Sim101", "Live1"))
    assert not orders_read.complete
    assert orders_read.why.startswith("until now, ") and "Live1" in orders_read.why
    assert reads(player, listed(), connected("Sim101", "Live1")).complete


def test_an_order_that_stays_in_the_book_is_cancelled_by_its_id_too() -> None:
    player = Player(make("Sim101", "Live1"))
    reads(player, listed(OTHER, account="Live1"))
    struck(player)
    reads(player, listed(), connected("Sim101"))
    targets = [output.request.target for output in player.put(Kill()) if isinstance(output, Call)]
    assert f"/v1/api/accounts/Live1/orders/{OTHER}/cancel" in targets


def test_a_snapshot_that_fails_or_is_lost_makes_the_read_incomplete() -> None:
    player = Player(make())
    assert (
        reads(player, listed(), (payload("crosstrade/invalid-request"), 400)).why
        == "accounts: HTTP 400 Invalid request"
    )
    player.put(Read())
    player.put(answer(player.calls[-1].tag, listed()))
    tag = player.calls[-1].tag
    player.put(CallLost(tag, True, "down"))
    assert player.put(CallLost(tag, True, "down too")) == (
        OrdersRead((), False, player.now.mono_ns, "accounts: down too"),
    )


def test_an_account_that_the_snapshot_lacks_is_not_ready_and_the_reason_names_the_remedy() -> None:
    player = Player(make("Sim101", "Live1"))
    player.put(Opened(Route.HTTP, 0))
    orders, look = player.calls
    assert player.put(answer(orders.tag, listed())) == ()  # the snapshot has not come yet
    player(answer(look.tag, connected("Sim101")), NotReady(Route.HTTP, 0, NOT_SHOWN))
    for _ in range(4):
        player.put(Pause(4))
        *_, again = [output for output in player.put(Probe()) if isinstance(output, Call)]
    player(answer(again.tag, connected("Sim101", "Live1")), Ready(Route.HTTP, 0))


def test_a_read_that_finds_an_account_out_of_reach_says_so_of_the_lane_once() -> None:
    player = Player(make("Sim101", "Live1"))
    for told in ((NotReady(Route.HTTP, 0, NOT_SHOWN),), ()):
        player.put(Read())
        player.put(answer(player.calls[-1].tag, listed()))
        assert player.put(answer(player.calls[-1].tag, connected("Sim101")))[1:] == told


def test_a_snapshot_that_was_refused_is_asked_for_with_the_next_probe() -> None:
    player = Player(make())
    player.put(Opened(Route.HTTP, 0))
    orders, look = player.calls
    player.put(answer(look.tag, payload("crosstrade/addon"), 408))
    assert Ready(Route.HTTP, 0) not in player.put(answer(orders.tag, listed()))
    player.put(Pause(4))
    assert [call.tag for call in player.put(Probe()) if isinstance(call, Call)] == ["orders#3", "snapshot#4"]


def test_an_empty_list_for_a_probe_or_a_greeting_proves_no_account_clear() -> None:
    player = Player(make())
    player.put(Opened(Route.WS, 1))
    assert not [output for output in player.put(reply("hello", listed())) if isinstance(output, OrdersRead)]
    player.put(Probe())
    assert not [
        output for output in player.put(answer(player.calls[-1].tag, listed())) if isinstance(output, OrdersRead)
    ]
    player.put(Probe())
    outputs = player.put(answer(player.calls[-1].tag, listed(GUID)))
    assert outputs[-1] == OrdersRead((order(),), True, player.now.mono_ns)


# ── what a reply itself says against its being whole ──────────────────────────────────────────────────────────────

WARNED = "the venue warns: only what the cache had"


def warned(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"warning": "only what the cache had"}


def test_a_warning_in_any_reply_makes_a_read_incomplete_and_keeps_its_orders() -> None:
    player = Player(make())
    assert reads(player, warned(listed(GUID))) == OrdersRead((order(),), False, player.now.mono_ns, WARNED)
    assert reads(player, warned(listed())) == OrdersRead((), False, player.now.mono_ns, WARNED)
    assert set(player.adapter.book.orders) == {GUID}  # a list that may be short ends nothing
    orders_read = reads(player, listed(), warned(connected("Sim101")))
    assert orders_read == OrdersRead((), False, player.now.mono_ns, f"accounts: {WARNED}")
    player = flattening()
    assert reads(player, listed(), warned(held())).why == f"positions: {WARNED}"
    assert reads(player, listed(), warned(held(LONG))).orders[0].id == "position:Sim101:ES 09-26"


def test_a_warning_over_the_websocket_counts_too() -> None:
    player = ready()
    player.put(Read())
    player.put(answer(player.calls[-1].tag, b"", 404))
    assert player.put(reply("r1", warned(listed(GUID)))) == (OrdersRead((order(),), False, player.now.mono_ns, WARNED),)


def test_a_probe_with_a_warning_says_so_before_any_trigger() -> None:
    player = Player(make())
    player.put(Probe())
    player(answer(player.calls[-1].tag, warned(listed())), NotReady(Route.HTTP, 0, WARNED))
    player.put(Probe())
    shown_ns = player.now.mono_ns
    player(
        answer(player.calls[-1].tag, warned(listed(GUID))),
        NotReady(Route.HTTP, 0, WARNED),
        OrdersRead((order(),), False, shown_ns, WARNED),
    )


def test_one_order_that_cannot_be_read_hides_no_other() -> None:
    player = Player(make())
    body = {"orders": [*listed(GUID)["orders"], {"account": "Sim101"}], "success": True}
    why = "1 of the orders listed cannot be read"
    assert reads(player, body) == OrdersRead((order(),), False, player.now.mono_ns, why)


def test_a_list_that_states_more_than_it_shows_is_not_whole() -> None:
    player = Player(make())
    assert reads(player, listed() | {"count": 2}).why == "0 of 2 are listed"
    player = flattening()
    assert reads(player, listed(), held() | {"count": 1}).why == "positions: 0 of 1 are listed"


def test_orders_beside_an_error_are_seen() -> None:
    player = Player(make())
    orders_read = reads(player, (listed(GUID) | {"error": "half of it", "success": False}, 400))
    assert (orders_read.orders, orders_read.complete, orders_read.why) == ((order(),), False, "HTTP 400 half of it")


# ── orders that must have ended, and nothing has said so ──────────────────────────────────────────────────────────


def looking() -> Player:
    """Return a player of whose order a push has told, and of which lists tell nothing."""
    player = ready()
    player(pushed(), OrderSeen(order()), OrderPlaced(order()))
    player.put(Pause(20))
    return player


def shown(state: str, one: str = GUID) -> dict[str, Any]:
    return {**payload("crosstrade/order"), "orderId": one, "orderState": state, "success": True}


@pytest.mark.parametrize("state", ["Filled", "Cancelled", "Rejected"])
def test_a_pushed_order_that_no_list_shows_is_looked_up_and_its_end_is_proof(state: str) -> None:
    player = looking()
    orders_read = reads(player, listed(), connected("Sim101"), shown(state))
    assert orders_read == OrdersRead((), True, player.now.mono_ns)
    assert asked(player, 1) == [f"/v1/api/accounts/Sim101/orders/{GUID}"]
    assert reads(player, listed(), connected("Sim101")).complete  # not looked up again


@pytest.mark.parametrize(
    ("state", "life"),
    [
        ("Working", OrderState.LIVE),
        ("Suspended", OrderState.LIVE),
        ("Unknown", OrderState.LIVE),
        ("CancelPending", OrderState.PENDING),
    ],
)
def test_a_pushed_order_that_no_list_shows_and_that_lives_is_left(state: str, life: OrderState) -> None:
    player = looking()
    orders_read = reads(
        player, listed(), connected("Sim101"), shown(state, "broker-7")
    )  # under the broker's number: §2
    assert orders_read.orders == (Order(GUID, "ES 09-26", life, state.lower()),) and set(
        player.adapter.book.orders
    ) == {GUID}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": "order_not_found"}, 400),
        (UNKNOWN_ACCOUNT, 400),
        (payload("crosstrade/addon"), 408),
        ({"success": True}, 200),
        (payload("crosstrade/order") | {"orderState": ""}, 200),
        (payload("crosstrade/order") | {"account": "Sim999", "orderState": "Filled"}, 200),
    ],
)
def test_a_pushed_order_of_which_a_look_shows_no_end_is_left_and_named(body: object, status: int) -> None:
    player = looking()
    orders_read = reads(player, listed(), connected("Sim101"), (body, status))
    assert not orders_read.complete and set(player.adapter.book.orders) == {GUID}
    assert f"order {GUID} is in no list, and cannot be looked up" in orders_read.why


def test_the_documented_words_of_an_order_that_is_gone_end_it() -> None:
    player = looking()
    assert reads(player, listed(), connected("Sim101"), (payload("crosstrade/not-found"), 400)).complete
    player = looking()
    reads(player, listed(), connected("Sim101"), ({"error": "no"}, 400))
    player.put(Kill())
    reads(player, listed(), connected("Sim101"), ({"error": "no"}, 400))
    single = [frame for frame in player.put(Kill()) if isinstance(frame, Send) and b'"Cancel"' in frame.text]
    assert len(single) == 1  # it is not listed, and cancelled all the same
    player.put(reply(f"one {GUID}", payload("crosstrade/not-found")))
    assert reads(player, listed(), connected("Sim101")).complete


@pytest.mark.parametrize(
    "end",
    [
        lambda player: player.put(pushed(state="Filled")),
        lambda player: reads(player, listed(GUID, state="Cancelled"), connected("Sim101")),
        lambda player: (player.put(Kill()), player.put(reply("k1-0", payload("crosstrade/cancelled")))),  # names it
    ],
)
def test_a_pushed_order_that_was_ended_is_not_looked_up(end: Any) -> None:
    player = looking()
    end(player)
    assert reads(player, listed(), connected("Sim101")).complete


def test_a_cancel_that_was_taken_and_names_other_orders_ends_nothing() -> None:
    player = looking()
    player.put(Kill())
    player.put(reply("k1-0", {"orderIds": [OTHER, 7], "success": True}))
    assert not reads(player, listed(), connected("Sim101"), ({"error": "no"}, 400)).complete


@pytest.mark.parametrize("body", [UNKNOWN_ACCOUNT, {"success": False, "error": "market closed"}])
def test_an_order_that_was_known_when_its_cancel_was_refused_is_looked_up_once_it_is_not_listed(body: object) -> None:
    player = Player(make())
    reads(player, listed(GUID))
    struck(player, body, 400)
    answers: list[object] = [listed(), connected("Sim101")]
    if body is UNKNOWN_ACCOUNT:
        answers.append(listed())  # the account's own list: it is known again
    assert not reads(player, *answers, ({"error": "no"}, 400)).complete
    struck(player)  # taken this time: what is not listed has been cancelled
    assert reads(player, listed(), connected("Sim101")).complete


def test_a_single_cancel_that_was_refused_has_its_order_looked_up() -> None:
    player = Player(make())
    reads(player, listed(GUID))
    struck(player)
    reads(player, listed(GUID))
    *_, single = player.put(Kill())
    assert isinstance(single, Call) and single.tag.startswith("cancel-one")
    player(answer(single.tag, {"error": "no"}, 400), UnexplainedMessage("cancel-one refused: HTTP 400 no"))
    assert not reads(player, listed(), connected("Sim101"), ({"error": "no"}, 400)).complete


def test_an_account_that_a_cancel_did_not_know_is_looked_at_by_itself_though_the_snapshot_shows_it() -> None:
    player = Player(make())
    struck(player, UNKNOWN_ACCOUNT, 400)
    orders_read = reads(player, listed(), connected("Sim101"), (UNKNOWN_ACCOUNT, 400))
    assert not orders_read.complete and orders_read.why.startswith(
        "the venue does not know NT account Sim101 (HTTP 400 invalid_acc"
    )
    assert asked(player, 1) == ["/v1/api/accounts/Sim101/orders"]
    assert not reads(player, listed(), connected("Sim101"), warned(listed())).complete
    orders_read = reads(player, listed(), connected("Sim101"), listed(GUID))
    assert orders_read.orders == (order(),)  # its own list shows what that of all did not
    assert reads(player, listed(), connected("Sim101")).complete


def test_a_cancel_that_the_venue_takes_ends_the_doubt_about_an_account() -> None:
    player = Player(make())
    struck(player, UNKNOWN_ACCOUNT, 400)
    struck(player)
    assert reads(player, listed(), connected("Sim101")).complete


def test_an_unknown_account_is_never_taken_for_one_with_nothing_to_cancel() -> None:
    player = Player(make())
    [call, _] = player.put(Kill())
    assert isinstance(call, Call)
    body = {"success": False, "error": "invalid_account", "detail": "no orders: Account Sim101 not found"}
    [fact] = player.put(answer(call.tag, body, 400))
    assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.REFUSED


def test_an_order_in_doubt_is_looked_up_by_probes_too_so_that_a_kill_need_not() -> None:
    player = looking()
    player.put(Probe())
    _, seen, look = player.put(answer(player.calls[-1].tag, listed()))
    assert seen == OrdersRead((order(),), True, player.now.mono_ns)
    assert isinstance(look, Call) and look.request.target.endswith(GUID) and not look.urgent
    player(answer(look.tag, shown("Filled")))
    assert reads(player, listed(), connected("Sim101")).complete


def test_look_ups_beside_a_probe_leave_fifteen_tokens_for_a_kill() -> None:
    player = ready()
    for number in range(12):
        player.put(pushed(f"{number:032x}"))
    player.put(Pause(20))
    player.put(Probe())
    looks = [call for call in player.put(answer(player.calls[-1].tag, listed())) if isinstance(call, Call)]
    assert len(looks) == 4 and player.adapter._wire.bucket.left(player.now) == 15  # type: ignore[attr-defined]


def test_an_order_in_doubt_with_an_unusable_id_or_no_account_makes_a_read_incomplete() -> None:
    player = ready(Player(make("Sim101", "Live1")))
    player.put(pushed("../../x"))
    player.put(hears(1, {"type": "orderUpdate", "order": {"orderId": OTHER, "orderState": "Working"}}))
    player.put(Pause(20))
    orders_read = reads(player, listed(), connected("Sim101", "Live1"))
    assert set(player.adapter.book.orders) == {"../../x", OTHER} and not orders_read.complete


def test_a_connection_that_comes_and_goes_forgets_no_doubt() -> None:
    player = looking()
    player.put(Closed(Route.WS, 1, "gone"))
    assert not reads(player, listed(), connected("Sim101"), ({"error": "no"}, 400)).complete


def test_a_single_cancel_that_knows_no_account_has_the_account_looked_at() -> None:
    player = Player(make())
    reads(player, listed(GUID))
    struck(player)
    reads(player, listed(GUID))
    *_, single = player.put(Kill())
    assert isinstance(single, Call)
    player.put(answer(single.tag, UNKNOWN_ACCOUNT, 400))
    reads(player, listed(), connected("Sim101"), listed(), ({"error": "no"}, 400))
    assert asked(player, 2) == ["/v1/api/accounts/Sim101/orders", f"/v1/api/accounts/Sim101/orders/{GUID}"]


def test_a_probe_whose_lists_by_account_fail_says_so_of_the_lane() -> None:
    player = Player(make("Sim101", "Live1"))
    player.put(Probe())
    player.put(answer(player.calls[-1].tag, b"", 404))
    for call in player.calls[-2:]:
        outputs = player.put(answer(call.tag, {"error": "no"}, 400))
    assert outputs == (NotReady(Route.HTTP, 0, "Sim101: HTTP 400 no; Live1: HTTP 400 no"),)


def test_a_greeting_whose_list_is_not_whole_shows_its_orders_and_speaks_for_no_other_lane() -> None:
    player = Player(make())
    player.put(Opened(Route.WS, 1))
    player(
        reply("hello", warned(listed(GUID))),
        Ready(Route.WS, 1),
        OrdersRead((order(),), False, player.now.mono_ns, WARNED),
    )


@pytest.mark.parametrize("lost", ["/v1/api/orders", "/v1/api/accounts/snapshot"])
def test_a_read_whose_request_is_lost_without_a_reason_is_not_whole(lost: str) -> None:
    player = Player(make())
    outputs: list[Any] = [*player.put(Read())]
    while not any(isinstance(output, OrdersRead) for output in outputs):
        tag, target = player.calls[-1].tag, player.calls[-1].request.target
        if target == lost:
            player.put(CallLost(tag, True, ""))
            outputs += player.put(CallLost(tag, True, ""))
        else:
            outputs += player.put(answer(tag, listed()))
    [read] = [output for output in outputs if isinstance(output, OrdersRead)]
    assert not read.complete and read.why
