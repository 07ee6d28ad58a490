"""Roxom's adapter against docs/venues/roxom.md (§ numbers below are that file's)."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pydantic import ValidationError

from kill_switch.core.domain import CancelOutcome, Order, OrderState, Route
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
    OrderSeen,
    OrdersRead,
    Ready,
    Received,
    Transferred,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from kill_switch.venues.roxom.adapter import ALL_TYPES, NO_ORDER, Roxom
from kill_switch.venues.roxom.equity import MOVES_KEPT
from tests.harness.keys import elliptic_pem, encrypted_pem, rsa_key, rsa_pem
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
    Step,
    answer,
    hears,
    payload,
)

CANCEL_ALL = "POST /api/v1/orders/cancel-all"
UUID_1 = "01234567-89ab-7def-8123-456789abcdef"
UUID_2 = "98765432-10fe-dcba-9876-543210fedcba"
SUBSCRIBE = payload("roxom/subscribe-request")


def make(pem: str | None = None, **options: Any) -> Roxom:
    settings = Roxom.Options(**{"auth": "api-key", "inst_types": ("perpetual",), **options})
    secrets = {"api_key": "xrxk_key_1"}
    if settings.auth == "rsa":
        secrets["private_key"] = pem or rsa_pem(2048)
    return Roxom(settings, secrets, 0.06)


def ready(conn: int = 1, player: Player | None = None) -> Player:
    player = player or Player(make())
    player(
        Opened(Route.WS, conn),
        Frame(conn, SUBSCRIBE),
        WakeAfter(f"ack {conn}", 3.0),
        hears(conn, {"event": "subscribe", "args": SUBSCRIBE["args"], "connId": "b1"}),
        Ready(Route.WS, conn),
    )
    return player


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"orders": list(items)}, "error": False}


def row(one: str, status: str = "submitted", symbol: str = "US500-BTC") -> dict[str, Any]:
    return {"id": one, "symbol": symbol, "status": status}


def order(one: str, status: str = "submitted", life: OrderState = OrderState.LIVE) -> Order:
    return Order(one, "US500-BTC", life, status)


def uuid(number: int) -> str:
    return f"01234567-89ab-7def-8123-{number:012x}"


def know(player: Player, *items: dict[str, Any]) -> None:
    """Let a read-back put orders into the book."""
    player.put(Read())
    player.put(answer(player.calls[-1].tag, listed(*items)))
    assert player.adapter.book.is_known


def strike(player: Player, tag: str = "cancel-all#1") -> None:
    player(Kill(), Asked(tag, CANCEL_ALL, urgent=True, cancel=True), WakeAfter(tag, 0.06))


def cancel_one(tag: str, one: str) -> Asked:
    return Asked(tag, f"POST /api/v1/orders/{one}/cancel", urgent=True)


# ── authentication (§3) ───────────────────────────────────────────────────────────────────────────────────────────


def verify(signature: str, text: str) -> None:
    """Check as the venue would, with the public half: PKCS#1 v1.5 over SHA-256."""
    raw = base64.b64decode(signature, validate=True)
    assert (len(raw), len(signature)) == (256, 344)
    rsa_key(2048).public_key().verify(raw, text.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_by_default_requests_are_signed_and_every_instrument_type_is_read() -> None:
    options = Roxom.Options()
    assert (options.path_prefix, options.auth, options.inst_types) == ("/api/v1", "rsa", ALL_TYPES)
    assert Roxom.secrets(options) == ("api_key", "private_key")
    assert Roxom.secrets(Roxom.Options(auth="api-key")) == ("api_key",)


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
def test_every_payload_is_signed_as_the_venue_file_says(prefix: str) -> None:
    player = Player(make(auth="rsa", path_prefix=prefix, inst_types=("perpetual", "spot")))
    player.put(Kill())
    player.put(Read())
    player.adapter.book.orders[UUID_1] = order(UUID_1)
    player.put(answer("cancel-all#1", {"data": {"cancelledOrderIds": []}}))
    signed = {}
    for call in player.calls:
        headers = call.request.headers
        text = f"{call.request.method}:{call.request.target}"
        verify(headers["X-API-Signature"], text)
        assert headers["X-API-Key"] == "xrxk_key_1" and headers["Content-Type"] == "application/json"
        assert call.request.body == b""
        signed[text] = headers["X-API-Signature"]
    assert set(signed) == {
        f"POST:{prefix}/orders/cancel-all",
        f"GET:{prefix}/orders?instType=perpetual",
        f"GET:{prefix}/orders?instType=spot",
        f"POST:{prefix}/orders/{UUID_1}/cancel",
    }


def test_the_upgrade_is_signed_over_its_path() -> None:
    headers = make(auth="rsa").upgrade(START).headers
    assert set(headers) == {"X-API-Key", "X-API-Signature", "Content-Type"}
    verify(headers["X-API-Signature"], "GET:/ws")
    elsewhere = make(auth="rsa", ws_url="wss://127.0.0.1:9/other/ws").upgrade(START).headers
    verify(elsewhere["X-API-Signature"], "GET:/other/ws")
    verify(make(auth="rsa", ws_url="wss://127.0.0.1").upgrade(START).headers["X-API-Signature"], "GET:/")


def test_a_signature_over_another_text_would_be_noticed() -> None:
    with pytest.raises(InvalidSignature):
        verify(make(auth="rsa").upgrade(START).headers["X-API-Signature"], "GET:/ws\n")


def test_the_older_generation_sends_the_key_alone() -> None:
    player = Player(make())
    headers = {"Host": "api.roxom.com", "X-API-Key": "xrxk_key_1", "Content-Type": "application/json"}
    player(
        Kill(),
        Asked("cancel-all#1", CANCEL_ALL, urgent=True, cancel=True, headers=headers),
        WakeAfter("cancel-all#1", 0.06),
    )
    assert player.adapter.upgrade(START).headers == {"X-API-Key": "xrxk_key_1", "Content-Type": "application/json"}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_the_signature_is_that_of_the_documents_openssl_command(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(rsa_pem(2048))
    command = ["openssl", "dgst", "-sha256", "-sign", str(tmp_path / "key.pem")]
    signed = subprocess.run(command, input=b"POST:/api/v1/orders/cancel-all", capture_output=True, check=True)
    player = Player(make(auth="rsa"))
    player.put(Kill())
    assert base64.b64decode(player.calls[0].request.headers["X-API-Signature"]) == signed.stdout


def test_the_bytes_of_the_kill_are_made_once_and_never_change() -> None:
    player = Player(make(auth="rsa"))
    player.put(Kill())
    player.put(VenueTimerFired("cancel-all#1"))
    player.put(Kill())
    wires = [call.request.wire for call in player.calls]
    assert wires[0] is wires[1] is wires[2]
    lines = wires[0].decode().split("\r\n")
    assert lines[:2] == ["POST /api/v1/orders/cancel-all HTTP/1.1", "Host: api.roxom.com"]
    assert lines[-3:] == ["Content-Length: 0", "", ""]


BROKEN = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        ("hunter2-hunter2", "private_key is not an unencrypted PEM private key"),
        (BROKEN, "private_key is not an unencrypted PEM private key"),
        ("hunter2\udcff", "private_key is not an unencrypted PEM private key"),
        (encrypted_pem(), "private_key is not an unencrypted PEM private key"),
        (elliptic_pem(), "private_key is not an RSA key"),
        (rsa_pem(1024), "private_key is shorter than 2048 bits"),
    ],
    ids=["text", "broken", "bytes", "encrypted", "elliptic", "short"],
)  # fmt: skip
def test_a_key_that_cannot_sign_is_refused_without_being_shown(pem: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        make(pem, auth="rsa")
    assert str(caught.value) == said
    assert caught.value.__cause__ is None and caught.value.__suppress_context__ is (said.endswith("private key"))


def test_a_key_id_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^api_key is empty or holds what an HTTP header cannot carry$"):
        Roxom(Roxom.Options(auth="api-key"), {"api_key": "clé"}, 0.06)


@pytest.mark.parametrize("prefix", ["", "api/v1", "/api/v1/", "/api v1", "/é"])
def test_a_prefix_that_is_no_path_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="must be a path"):
        Roxom.Options(path_prefix=prefix)


@pytest.mark.parametrize("types", [(), ("spot", "spot")])
def test_instrument_types_are_one_at_least_and_none_twice(types: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="at least one instrument type, none of them twice"):
        Roxom.Options.model_validate({"inst_types": types})


# ── cancel-all (§4.2, §4.6, §8) ───────────────────────────────────────────────────────────────────────────────────


def test_cancel_all_that_names_every_order_is_accepted() -> None:
    player = ready()
    know(player, row(UUID_1), row(UUID_2))
    strike(player, "cancel-all#2")
    player(
        answer("cancel-all#2", payload("roxom/cancel-all")),
        CancelAnswered(CancelOutcome.ACCEPTED, "2 order(s) named as cancelled", 2),
        VenueTimerFired("cancel-all#2"),
    )
    assert set(player.adapter.book.orders) == {UUID_1, UUID_2}  # only a read-back takes them out


def test_orders_that_the_answer_does_not_name_are_cancelled_one_by_one() -> None:
    player = ready()
    know(player, row(UUID_1), row(uuid(1)), row(uuid(2), "PENDING_CANCEL"), row(uuid(3), "waitingtrigger"))
    strike(player, "cancel-all#2")
    player(
        answer("cancel-all#2", payload("roxom/cancel-all")),
        CancelAnswered(CancelOutcome.ACCEPTED, "2 order(s) named as cancelled", 2),
        cancel_one("cancel-one#3", uuid(1)),
        cancel_one("cancel-one#4", uuid(3)),
        answer("cancel-one#3", payload("roxom/cancel-one")),
        CallLost("cancel-one#4", True, "timed out"),  # a read-back will tell
    )


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": {"code": 404, "message": "Order Not Found"}}),  # nothing that it covers: a stop may rest
        (200, {"error": {"code": "E404", "message": "Request failed"}}),
        (200, {"data": {}, "error": False}),
    ],
)
def test_orders_are_cancelled_one_by_one_where_cancel_all_is_refused_or_names_none(status: int, body: object) -> None:
    player = ready()
    know(player, row(UUID_1), row(UUID_2, "waitingtrigger"))
    strike(player, "cancel-all#2")
    output, *singles = player.put(answer("cancel-all#2", body, status))
    assert isinstance(output, CancelAnswered) and output.answer is not CancelOutcome.ACCEPTED
    assert singles == [cancel_one("cancel-one#3", UUID_1), cancel_one("cancel-one#4", UUID_2)]


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refusal_that_is_meant_for_the_key_is_not_followed_by_single_cancels(status: int) -> None:
    player = ready()
    know(player, row(UUID_1))
    strike(player, "cancel-all#2")
    assert len(player.put(answer("cancel-all#2", {"error": {"code": status, "message": "no"}}, status))) == 1


@pytest.mark.parametrize("text", ["no", "Order Not Found", "Cannot Cancel"])
def test_an_order_whose_single_cancel_is_refused_is_looked_up_once_no_list_shows_it(text: str) -> None:
    player = ready()
    know(player, row(UUID_1))
    strike(player, "cancel-all#2")
    player.put(answer("cancel-all#2", {"data": {"cancelledOrderIds": []}}))
    player.put(answer("cancel-one#3", {"error": {"code": 400, "message": text}}, 400))
    player(
        Read(),
        *lists(4, "perpetual"),
        answer("orders#4", listed()),
        Asked("look-up#5", f"GET /api/v1/orders/{UUID_1}", urgent=True),
        WakeAfter("look-up#5", 0.24),
        answer("look-up#5", {"data": {"order": row(UUID_1, "waitingtrigger")}}),
        OrdersRead((order(UUID_1, "waitingtrigger"),), True, START.mono_ns),
    )


def test_orders_that_no_list_shows_are_the_first_that_are_cancelled_one_by_one() -> None:
    player = ready()
    know(player, *(row(uuid(number)) for number in range(30)))
    player.put(hears(1, {"type": "order", "data": {"orderId": UUID_1, "symbol": "X", "status": "submitted"}}))
    strike(player, "cancel-all#2")
    outputs = player.put(answer("cancel-all#2", {"data": {"cancelledOrderIds": []}}))
    expected = [UUID_1, *(uuid(number) for number in range(19))]
    assert list(outputs[1:]) == [cancel_one(f"cancel-one#{n}", one) for n, one in enumerate(expected, 3)]


def test_the_words_by_which_an_order_is_not_found_count_as_no_cancel_of_it() -> None:
    player = ready()
    player.adapter.book.trace()
    player.put(event("submitted"))
    player.put(Read())
    player.put(answer(player.calls[-1].tag, listed()))
    body = {"error": {"code": 404, "message": "Order Not Found: filled or cancelled"}}
    player(answer(player.calls[-1].tag, body, 404), OrdersRead((), True, START.mono_ns))
    assert not player.adapter.book.orders and not player.adapter.book.ended


def test_an_order_that_is_inactive_is_open_where_a_list_of_open_orders_shows_it() -> None:
    assert read_one(row(UUID_1, "inactive")).orders == (order(UUID_1, "inactive"),)


def test_an_order_that_was_pushed_as_inactive_has_ended_if_no_list_shows_it_and_its_look_up_says_so_too() -> None:
    player = ready()
    know(player)
    player.put(hears(1, {"type": "order", "data": {"orderId": UUID_1, "symbol": "US500-BTC", "status": "inactive"}}))
    assert set(player.adapter.book.orders) == {UUID_1}
    player.put(Read())
    player.put(answer(player.calls[-1].tag, listed()))
    player(
        answer(player.calls[-1].tag, {"data": {"order": row(UUID_1, "inactive")}}),
        OrdersRead((), True, START.mono_ns),
    )
    assert not player.adapter.book.orders


def test_single_cancels_are_bounded_and_only_an_id_gets_into_a_path() -> None:
    player = ready()
    bad = ["../../withdraw", "1", "g1234567-89ab-7def-8123-456789abcdef", UUID_1 + "0", "x" * 36]
    know(player, *(row(one) for one in bad), *(row(uuid(number)) for number in range(30)))
    strike(player, "cancel-all#2")
    outputs = player.put(answer("cancel-all#2", {"data": {"cancelledOrderIds": [None, [], 7]}}))
    assert outputs[0] == CancelAnswered(CancelOutcome.ACCEPTED, "1 order(s) named as cancelled", 1)
    assert list(outputs[1:]) == [cancel_one(f"cancel-one#{number + 3}", uuid(number)) for number in range(20)]


def test_orders_whose_own_cancel_was_tried_go_behind_those_that_were_not_tried_yet() -> None:
    player = ready()
    know(player, *(row(uuid(number)) for number in range(30)))
    strike(player, "cancel-all#2")
    player.put(answer("cancel-all#2", {"data": {"cancelledOrderIds": []}}))
    for tag in [call.tag for call in player.calls if call.tag.startswith("cancel-one")]:
        player.put(answer(tag, {"error": {"code": 400, "message": "Cannot Cancel"}}, 400))
    player.put(Kill())
    again = player.put(answer(player.calls[-1].tag, {"data": {"cancelledOrderIds": []}}))
    ids = [call.request.target.split("/")[-2] for call in again if isinstance(call, Call)]
    assert ids[:10] == [uuid(number) for number in range(20, 30)]
    assert ids[10:] == [uuid(number) for number in range(10)]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": {"code": 404, "message": "Order Not Found", "details": ""}}),
        (400, {"error": {"code": 400, "message": "Cannot Cancel", "details": "order is filled"}}),
        (200, {"error": 400, "message": "cannot cancel: order is expired"}),
        (200, {"data": {"success": True}}),
        (200, {"data": None}),
        (500, b"<html>"),
    ],
)
def test_an_order_that_is_gone_already_is_no_failure(status: int, body: object) -> None:
    player = ready()
    know(player, row(UUID_1))
    strike(player, "cancel-all#2")
    player(
        answer("cancel-all#2", {"data": {"cancelledOrderIds": []}}),
        CancelAnswered(CancelOutcome.ACCEPTED, "0 order(s) named as cancelled", 0),
        cancel_one("cancel-one#3", UUID_1),
        answer("cancel-one#3", body, status),
    )


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, payload("roxom/error-object"), "HTTP 400: 400 Insufficient balance"),
        (200, {"data": {"success": False}}, "HTTP 200, success false"),
        (429, {"error": {"code": 429, "message": "Too Many Requests"}}, "HTTP 429: 429 Too Many Requests"),
    ],
)
def test_a_refused_single_cancel_is_reported(status: int, body: object, words: str) -> None:
    player = ready()
    know(player, row(UUID_1))
    strike(player, "cancel-all#2")
    player(
        answer("cancel-all#2", {"data": {"cancelledOrderIds": []}}),
        CancelAnswered(CancelOutcome.ACCEPTED, "0 order(s) named as cancelled", 0),
        cancel_one("cancel-one#3", UUID_1),
        answer("cancel-one#3", body, status),
        UnexplainedMessage(f"cancel-one refused: {words}"),
    )


# ── read-backs (§4.4, §6) ─────────────────────────────────────────────────────────────────────────────────────────


def lists(first: int, *kinds: str, route: Route = Route.HTTP) -> list[Step]:
    steps: list[Step] = []
    for number, kind in enumerate(kinds, first):
        steps.append(Asked(f"orders#{number}", f"GET /api/v1/orders?instType={kind}", route, urgent=True))
        steps.append(WakeAfter(f"orders#{number}", 0.24))
    return steps


def test_every_instrument_type_is_read_and_only_all_of_them_are_complete() -> None:
    player = Player(make(inst_types=ALL_TYPES))
    replies = [answer(f"orders#{number}", listed(row(uuid(number)))) for number in (6, 1, 3, 2, 5)]
    player(Read(), *lists(1, *ALL_TYPES), *replies)
    assert not player.adapter.book.is_known
    orders = tuple(order(uuid(number)) for number in (6, 1, 3, 2, 5, 4))
    player(answer("orders#4", listed(row(uuid(4)))), OrdersRead(orders, True, START.mono_ns))
    assert set(player.adapter.book.orders) == {uuid(number) for number in range(1, 7)}


def test_one_type_that_fails_makes_the_whole_read_incomplete() -> None:
    player = Player(make(inst_types=("perpetual", "spot", "btc")))
    player.adapter.book.orders[UUID_1] = order(UUID_1)
    player(
        Read(),
        *lists(1, "perpetual", "spot", "btc"),
        answer("orders#1", listed()),
        answer("orders#2", payload("roxom/expired-key"), 401),
        answer("orders#3", {"data": {"orders": {}}}),
        OrdersRead((), False, START.mono_ns, "spot: HTTP 401: API key has expired; btc: the btc list cannot be read"),
    )
    assert set(player.adapter.book.orders) == {UUID_1} and not player.adapter.book.is_known


def read_one(item: object) -> OrdersRead:
    player = Player(make())
    player.put(Read())
    [read] = player.put(answer("orders#1", {"data": {"orders": [item]}}))
    assert isinstance(read, OrdersRead)
    return read


def test_the_documents_order_is_read() -> None:
    [item] = payload("roxom/orders")["data"]["orders"]
    assert read_one(item).orders == (Order(item["id"], "US500-BTC", OrderState.LIVE, "submitted"),)


def test_the_older_spelling_is_read_too() -> None:
    item = {
        "id": UUID_1, "symbol": "US500-BTC", "orderType": "stop", "price": "1", "quantity": "2", "isTriggered": False,
        "status": "waitingtrigger", "createdAt": 1712345678901234567,
    }  # fmt: skip
    assert read_one(item).orders == (order(UUID_1, "waitingtrigger"),)


@pytest.mark.parametrize("body", [{"data": None}, {"data": []}, {}, {"data": {"orders": None}}])
def test_a_body_of_another_shape_is_incomplete(body: object) -> None:
    player = Player(make())
    player(
        Read(),
        *lists(1, "perpetual"),
        answer("orders#1", body),
        OrdersRead((), False, START.mono_ns, "perpetual: the perpetual list cannot be read"),
    )


# ── the HTTP lane and its probe ───────────────────────────────────────────────────────────────────────────────────


def test_an_http_lane_that_comes_up_is_probed_and_every_type_is_read_behind_it() -> None:
    player = Player(make(inst_types=("perpetual", "spot")))
    path = "GET /api/v1/orders?instType="
    player(
        Opened(Route.HTTP, 0),
        Asked("probe#3", f"{path}perpetual"),
        Asked("orders#1", f"{path}perpetual"),
        WakeAfter("orders#1", 0.24),
        Asked("orders#2", f"{path}spot"),
        WakeAfter("orders#2", 0.24),
        answer("probe#3", listed(row(UUID_1))),
        Ready(Route.HTTP, 0),
        OrderSeen(order(UUID_1)),
        answer("orders#1", listed(row(UUID_1))),
        answer("orders#2", listed()),
        OrdersRead((order(UUID_1),), True, START.mono_ns),
        Probe(),
        Asked("probe#4", f"{path}spot"),  # the types in turn
        answer("probe#4", listed(row(UUID_1, "pendingcancel"))),
        Ready(Route.HTTP, 0),
        Probe(),
        Asked("probe#5", f"{path}perpetual"),
        Closed(Route.HTTP, 0, "gone"),
        NotReady(Route.HTTP, 0, "gone"),
    )


# ── the WebSocket (§5) ────────────────────────────────────────────────────────────────────────────────────────────


def opened() -> Player:
    player = Player(make())
    player(Opened(Route.WS, 1), Frame(1, SUBSCRIBE), WakeAfter("ack 1", 3.0))
    return player


def test_silence_without_an_error_will_do_for_an_acknowledgement() -> None:
    opened()(VenueTimerFired("ack 1"), Ready(Route.WS, 1), hears(1, {"event": "subscribe"}))


def test_the_timer_of_a_connection_that_is_ready_or_gone_does_nothing() -> None:
    player = ready()
    player(
        VenueTimerFired("ack 1"),
        Closed(Route.WS, 1, "gone"),
        NotReady(Route.WS, 1, "gone"),
        VenueTimerFired("ack 1"),
        hears(1, {"event": "subscribe"}),
    )


@pytest.mark.parametrize("code", ["60014", "60015", "60018", "60019", 60016, "1"])
def test_an_error_on_a_ready_lane_is_only_reported(code: object) -> None:
    ready()(hears(1, {"event": "error", "code": code, "msg": "no"}), UnexplainedMessage(f"{code} no"))


def test_once_an_authentication_has_ended_the_pushes_of_its_connection_are_missing_and_are_not_waited_for() -> None:
    player = flat()
    know(player)
    pushing = [player.adapter.book.is_current]
    player.put(hears(1, payload("roxom/ws-error")))
    assert (*pushing, player.adapter.book.is_current) == (True, False)
    player(Measure())
    ready(2, player)
    player.put(Pause(1))
    assert [type(fact) for fact in measure(player, "US500-BTC", "GOLD-BTC")] == [Equity]


def test_an_authentication_that_ends_later_is_fatal_too() -> None:
    ready()(
        hears(1, payload("roxom/ws-error")),
        NotReady(Route.WS, 1, "600010 Authentication failed", fatal=True),
        CloseConnection(1, "600010 Authentication failed"),
    )


@pytest.mark.parametrize(
    "message", [{"type": "position", "data": []}, {"type": "balance"}, {"type": "account"}, {"type": "snapshot"}]
)
def test_any_event_of_the_account_shows_that_the_subscription_works(message: dict[str, Any]) -> None:
    opened()(hears(1, message), Ready(Route.WS, 1), hears(1, message))


def test_the_documents_order_event_is_read() -> None:
    event = payload("roxom/order-event")
    pending = Order(event["data"]["orderId"], "US500-BTC", OrderState.PENDING, "pendingcancel")
    player = ready()
    player(hears(1, event))  # pending: nothing that a strike could do
    assert player.adapter.book.orders == {pending.id: pending}


def event(status: str) -> Received:
    return hears(1, {"type": "order", "data": {"orderId": UUID_1, "symbol": "US500-BTC", "status": status}})


def test_an_order_event_makes_its_connection_ready_and_shows_an_order_of_unknown_age() -> None:
    player = opened()
    player(event("submitted"), Ready(Route.WS, 1), OrderSeen(order(UUID_1)), event("partiallyfilled"))


def test_an_event_that_is_named_within_is_read_too() -> None:
    ready()(
        hears(1, {"data": {"type": "order", "orderId": UUID_1, "symbol": "US500-BTC", "status": "submitted"}}),
        OrderSeen(order(UUID_1)),
    )


def test_frames_that_say_nothing_are_noise() -> None:
    unread, unknown = (
        UnexplainedMessage("an order push that cannot be read"),
        UnexplainedMessage("a message that no document explains"),
    )
    ready()(
        hears(1, {"type": "order", "data": []}),
        unread,
        hears(1, {"type": "order", "data": {"orderId": None}}),
        unread,
        hears(1, {"type": "order"}),
        unread,
        hears(1, {}),
        unknown,
        hears(2, {"event": "subscribe"}),
    )


# ── drill and figures (§4.4, §5) ──────────────────────────────────────────────────────────────────────────────────


def test_a_drill_cancels_an_order_that_cannot_exist_by_a_request_that_was_signed_before() -> None:
    player = Player(make(auth="rsa"))
    line = f"POST /api/v1/orders/{NO_ORDER}/cancel"
    player(
        Drill(),
        Asked("drill#1", line),
        WakeAfter("drill#1", 4.0),
        answer("drill#1", payload("roxom/order-not-found"), 404)._replace(rtt_us=900),
        Drilled(Route.HTTP, True, 900, "HTTP 404: 404 Order Not Found"),
        Drill(),
        Asked("drill#2", line),
        WakeAfter("drill#2", 4.0),
        answer("drill#2", {"data": {"success": False}}),
        Drilled(Route.HTTP, False, 0, "HTTP 200, success false"),
    )
    first, second = (call.request for call in player.calls)
    assert first is second
    verify(first.headers["X-API-Signature"], f"POST:/api/v1/orders/{NO_ORDER}/cancel")


BALANCE = "GET /api/v1/accounts/balance?unit=sats"
POSITIONS = "GET /api/v1/positions?instType=perpetual&symbol={}&unit=sats"
NONE: dict[str, Any] = {"data": {"positions": []}, "error": False}


def held(one: str = "p1", symbol: str = "OIL-BTC", size: str = "2", pnl: str | None = "0.25", **more: Any) -> Received:
    """Push a position; its profit is in BTC."""
    item = {"id": one, "symbol": symbol, "size": size, "closeDate": None, **more}
    return hears(1, {"type": "position", "data": [item if pnl is None else item | {"unrealizedPnl": pnl}]})


def measuring(tag: int = 1) -> Player:
    """Play a first measurement up to the moment when every figure is asked for."""
    player = ready()
    player(
        Pause(60),
        Measure(),
        Asked(f"symbols#{tag}", "GET /api/v1/market/instruments"),
        answer(f"symbols#{tag}", payload("roxom/instruments")),
        Asked(f"figure#{tag + 1}", BALANCE),
        Asked(f"figure#{tag + 2}", POSITIONS.format("US500-BTC")),
        Asked(f"figure#{tag + 3}", POSITIONS.format("GOLD-BTC")),
    )
    return player


def flat() -> Player:
    """Play a first measurement to its end: no positions, 0.0015 BTC."""
    player = measuring()
    asked_ns = player.now.mono_ns
    player(
        answer("figure#2", payload("roxom/balance")),
        answer("figure#3", NONE),
        answer("figure#4", NONE),
        WakeAfter("measured 1", 0.25),
        Pause(0.25),
        VenueTimerFired("measured 1"),
        Equity({"BTC": Decimal("0.0015")}, asked_ns),
    )
    return player


def measure(player: Player, *symbols: str, body: Any = NONE) -> list[Any]:
    """Measure again: the balance, and just these symbols; what comes of it."""
    calls = [call for call in player.put(Measure())]
    lines = [f"{call.request.method} {call.request.target}" for call in calls]  # type: ignore[union-attr]
    assert lines == [BALANCE, *(POSITIONS.format(symbol) for symbol in symbols)]
    outputs: list[Any] = []
    for call, reply in zip(calls, [payload("roxom/balance"), *[body] * len(symbols)], strict=True):
        outputs += player.put(answer(call.tag, reply))  # type: ignore[union-attr]
    [wake] = outputs
    player.put(Pause(0.25))
    return list(player.put(VenueTimerFired(wake.tag)))


def test_a_flat_account_is_worth_its_balance_and_then_one_call_will_do() -> None:
    player = flat()
    asked_ns = player.now.mono_ns
    assert measure(player) == [Equity({"BTC": Decimal("0.0015")}, asked_ns)]


def test_an_account_cannot_be_measured_without_the_events() -> None:
    Player(make())(Measure())
    player = flat()
    player(Closed(Route.WS, 1, "gone"), NotReady(Route.WS, 1, "gone"), Measure())


def test_after_a_gap_in_the_events_every_symbol_is_read_again() -> None:
    player = flat()
    player.put(held())
    player.put(Closed(Route.WS, 1, "gone"))
    ready(2, player)
    player.put(Pause(1))
    asked_ns = player.now.mono_ns
    assert measure(player, "US500-BTC", "GOLD-BTC") == [Equity({"BTC": Decimal("0.0015")}, asked_ns)]


def test_a_connection_that_is_replaced_leaves_no_gap() -> None:
    player = flat()
    ready(2, player)
    player(Closed(Route.WS, 1, "replaced"), NotReady(Route.WS, 1, "replaced"), Pause(1))
    assert len(measure(player)) == 1


def test_the_older_generations_reads_show_the_profit_in_sats() -> None:
    player = flat()
    player(held(one="01234567-89ab-7def-8123-456789abcdef", size="100000"), Pause(1))
    asked_ns = player.now.mono_ns
    assert measure(player, "OIL-BTC", body=payload("roxom/positions-old")) == [
        Equity({"BTC": Decimal("0.0015") + Decimal("0.125")}, asked_ns)
    ]


def test_the_newer_generations_profit_is_that_of_the_last_event_and_as_old_as_that() -> None:
    player = flat()
    event = payload("roxom/position-event")
    player(hears(1, event), Pause(7))
    pushed_ns = player.now.mono_ns - 7_000_000_000
    assert measure(player, "US500-BTC", body=payload("roxom/positions-new")) == [
        Equity({"BTC": Decimal("0.0015") + Decimal("0.001")}, pushed_ns)
    ]


def test_the_stop_loss_of_an_open_position_counts_as_seen_alive_until_the_venue_states_its_end() -> None:
    player = measuring()
    know(player)
    [position] = payload("roxom/positions-new")["data"]["positions"]
    attached = {"stopLossOrderId": UUID_1, "takeProfitOrderId": None, "symbol": "OIL-BTC"}
    closed = {"id": "p2", "size": "1", "closeDate": 1640995200000, "stopLossOrderId": UUID_2}
    body = {"data": {"positions": [position | attached, closed]}}
    one = Order(UUID_1, "OIL-BTC", OrderState.LIVE, "attached")
    player(answer("figure#3", body), OrderSeen(one), answer("figure#4", body))
    assert player.adapter.book.orders == {UUID_1: one}
    player.put(Read())
    player.put(answer(player.calls[-1].tag, listed()))
    found = {"data": {"order": row(UUID_1, "cancelled")}}
    player(answer(player.calls[-1].tag, found), OrdersRead((), True, player.now.mono_ns))
    player.put(answer("figure#2", payload("roxom/balance")))
    player.put(Measure())
    seen = [output for call in player.calls[-2:] for output in player.put(answer(call.tag, body))]
    assert not [output for output in seen if isinstance(output, OrderSeen)]


def test_a_position_without_a_known_profit_makes_the_equity_unknown() -> None:
    player = measuring()
    player(
        answer("figure#2", payload("roxom/balance")),
        answer("figure#3", payload("roxom/positions-new")),
        answer("figure#4", NONE),
        WakeAfter("measured 1", 0.25),
        Pause(0.25),
        VenueTimerFired("measured 1"),
        UnexplainedMessage(
            "the account cannot be measured: the venue has not shown the profit of a position in US500-BTC"
        ),
        held(one="pos-uuid", symbol="US500-BTC", size="0.500", pnl="-0.5"),
        Pause(1),
    )
    assert [fact.amounts for fact in measure(player, "US500-BTC", body=payload("roxom/positions-new"))] == [
        {"BTC": Decimal("-0.4985")}
    ]


def test_a_position_that_was_closed_is_in_no_figure() -> None:
    for closing in ({"size": "0"}, {"closeDate": 1640995200000}):
        player = flat()
        player(held(), held(**closing), Pause(1))
        assert [fact.amounts for fact in measure(player)] == [{"BTC": Decimal("0.0015")}]


def test_a_position_that_is_listed_no_longer_or_as_closed_is_in_no_figure() -> None:
    closed = {"data": {"positions": [{"id": "p1", "symbol": "OIL-BTC", "size": "2", "closeDate": 1640995200000}]}}
    for body in (NONE, closed):
        player = flat()
        player(held(), Pause(1))
        assert [fact.amounts for fact in measure(player, "OIL-BTC", body=body)] == [{"BTC": Decimal("0.0015")}]
        assert len(measure(player)) == 1


def test_a_position_that_was_opened_while_others_were_read_is_in_the_next_reads() -> None:
    player = flat()
    player(held("p1", "OIL-BTC", pnl="1"), Pause(1))
    calls = player.put(Measure())
    player(held("p2", "GOLD-BTC", pnl="2"))
    for call, reply in zip(calls, (payload("roxom/balance"), NONE), strict=True):
        player.put(answer(call.tag, reply))  # type: ignore[union-attr]
    player.put(Pause(0.25))
    [fact] = player.put(player.newest_timer)
    assert isinstance(fact, Equity) and fact.amounts == {"BTC": Decimal("2.0015")}
    [fact] = measure(player, "GOLD-BTC", body={"data": {"positions": [{"id": "p2", "size": "2"}]}})
    assert fact.amounts == {"BTC": Decimal("2.0015")}


@pytest.mark.parametrize(
    "event",
    [
        lambda number: held(size=f"{number}"),
        lambda number: held(f"p{number}", "US500-BTC"),
        lambda number: moved("ordersettle", at=number),
    ],
)
def test_an_event_just_before_the_end_of_a_measurement_extends_it_but_not_for_ever(
    event: Callable[[int], Received],
) -> None:
    player = flat()
    player(held(), Pause(1))
    for call, reply in zip(player.put(Measure()), (payload("roxom/balance"), NONE), strict=True):
        player.put(answer(call.tag, reply))  # type: ignore[union-attr]
    player.put(Pause(0.2))
    for number in range(5, 10):
        player.put(event(number))
        player.put(Pause(0.05))
        [wake] = player.put(player.newest_timer)
        assert isinstance(wake, WakeAfter) and wake.seconds == 0.05
    player.put(event(10))
    player.put(Pause(0.05))
    assert not isinstance(player.put(player.newest_timer)[0], WakeAfter)


def test_a_profit_that_moves_disturbs_nothing() -> None:
    player = flat()
    player(held(pnl="1"), Pause(1))
    calls = player.put(Measure())
    player.put(held(pnl="2"))
    outputs = [output for call, reply in zip(calls, (payload("roxom/balance"), NONE), strict=True)
               for output in player.put(answer(call.tag, reply))]  # type: ignore[union-attr]  # fmt: skip
    assert [type(output) for output in outputs] == [WakeAfter]
    player.put(Pause(0.25))
    assert [type(fact) for fact in player.put(player.newest_timer)] == [Equity]


def test_a_late_answer_to_a_replaced_measurement_is_ignored() -> None:
    player = flat()
    player.put(Measure())
    first = player.calls[-1].tag
    assert len(measure(player)) == 1
    player(answer(first, payload("roxom/balance")), player.newest_timer)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"data": {}}, "balance: the answer cannot be read"),
        ({"data": {"balances": []}}, "balance: the answer cannot be read"),
        ({"data": {"balances": 7}}, "balance: the answer cannot be read"),
        ({"data": {"balances": [{"asset": "BTC", "current": "x"}]}}, "balance: the answer cannot be read"),
        ({"error": {"code": 400, "message": "unit is invalid"}}, "balance: HTTP 200: 400 unit is invalid"),
        ({"data": [7]}, "balance: the answer cannot be read"),
    ],
)
def test_an_unreadable_balance_is_reported_and_ends_the_measurement(body: object, words: str) -> None:
    player = measuring()
    player(
        answer("figure#2", body),
        UnexplainedMessage(f"the account cannot be measured: {words}"),
        answer("figure#3", NONE),
        answer("figure#4", NONE),
    )


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"positions": {}},
        [7],
        [{"id": "1"}],
        [{"size": "1", "unrealizedPnl": 1}],
        [{"id": "1", "size": "1", "unrealizedPnl": "x"}],
    ],
)
def test_unreadable_positions_are_reported_and_end_the_measurement(data: object) -> None:
    measuring()(
        answer("figure#3", {"data": data}),
        UnexplainedMessage("the account cannot be measured: US500-BTC: the answer cannot be read"),
    )


@pytest.mark.parametrize("data", [None, [], {}, [7], [{"symbol": ""}], [{"symbol": "BTC-USD", "instType": "spot"}]])
def test_without_instruments_an_account_cannot_be_measured(data: object) -> None:
    player = ready()
    player(
        Measure(),
        Asked("symbols#1", "GET /api/v1/market/instruments"),
        answer("symbols#1", {"data": data}),
        UnexplainedMessage("the account cannot be measured: no instruments can be read"),
        Measure(),
        Asked("symbols#2", "GET /api/v1/market/instruments"),
        answer("symbols#2", {"error": {"code": 400, "message": "no"}}),
        UnexplainedMessage("the account cannot be measured: HTTP 200: 400 no"),
        Measure(),
        Asked("symbols#3", "GET /api/v1/market/instruments"),
        CallLost("symbols#3", True, "down"),
    )


def test_the_older_generations_balance_is_read_too() -> None:
    player = measuring()
    player.put(answer("figure#2", payload("roxom/balance-old")))
    player.put(answer("figure#3", NONE))
    player.put(answer("figure#4", NONE))
    player.put(Pause(0.25))
    [fact] = player.put(player.newest_timer)
    assert isinstance(fact, Equity) and fact.amounts == {"BTC": Decimal("0.0015")}


def moved(kind: str, amount: object = "-0.5", unit: str = "btc", at: int = 1) -> Received:
    data = {"amount": amount, "unit": unit, "updateType": kind, "timestamp": at}
    return hears(1, {"type": "balance", "data": data})


def test_a_transfer_on_two_connections_is_reported_once_and_funding_is_no_transfer() -> None:
    ready()(
        hears(1, payload("roxom/balance-event")),
        moved("transfer"),
        Transferred("BTC", Decimal("-0.5")),
        moved("transfer"),
        moved("transfer", at=2),
        Transferred("BTC", Decimal("-0.5")),
        moved("DEPOSIT", "50000000", "sats"),
        Transferred("BTC", Decimal("0.5")),
        moved("funding"),
    )


def test_not_every_transfer_is_remembered_for_ever() -> None:
    player = ready()
    for at in range(MOVES_KEPT + 1):
        assert player.put(moved("transfer", at=at))
    assert player.put(moved("transfer", at=0)) and not player.put(moved("transfer", at=MOVES_KEPT))
