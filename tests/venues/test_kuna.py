"""KUNA's adapter against docs/venues/kuna.md (§ numbers below are that file's)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route
from kill_switch.venues.kuna.adapter import Kuna
from kill_switch.venues.kuna.replies import ENDED
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
    OrderSeen,
    OrdersRead,
    Output,
    Ready,
    Received,
    Replied,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
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

MULTI = "POST /v4/order/private/cancel/multi"
ONE = "POST /v4/order/private/cancel"
SINCE = "&start=2014-01-01T00:00:00Z"
ACTIVE = f"GET /v4/order/private/active?limit=100&sort=desc{SINCE}"
STOPS = f"GET /v4/order/private/history?status=WaitStop&limit=100&sort=desc{SINCE}"
UUID_1 = "c7fc5b2b-bd9d-48c1-a458-a83412669cf4"
UUID_2 = "3e5591ba-2778-4d85-8851-54284045ea44"
CLOSED = "Order with status Closed can't be canceled"
SECRETS = {"api_key": "single-key", "public_key": "public-key", "api_secret": "kuna-secret"}


def make(**options: Any) -> Kuna:
    """Return an adapter that reads no Pending orders unless it is told to: there are two lists, then."""
    settings = Kuna.Options(**{"pending_orders": False, **options})
    return Kuna(settings, {name: SECRETS[name] for name in Kuna.secrets(settings)}, 0.06)


def play(**options: Any) -> Player:
    """Return a player whose account has no stop orders: each read is one call."""
    return Player(make(**{"stop_orders": False, **options}))


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def order(one: str, status: str = "Open", pair: str = "BTC_USDT") -> Order:
    return Order(one, pair, OrderState.LIVE, status)


def listed(*ids: str, status: str = "Open") -> dict[str, Any]:
    return {"data": [{"id": order_id, "status": status, "pair": "BTC_USDT"} for order_id in ids]}


def done(*ids: str, success: bool = True) -> dict[str, Any]:
    return {"data": [{"id": order_id, "success": success} for order_id in ids]}


def error(text: str, code: str = "BAD_REQUEST") -> dict[str, Any]:
    return {"code": code, "message": text, "extensions": {"code": code}}


def errors(*texts: str) -> dict[str, Any]:
    return {"errors": [error(text) for text in texts]}


def know(player: Player, *ids: str) -> None:
    """Let a read-back put orders into the book."""
    for call in calls(player.put(Read())):
        player.put(answer(call.tag, listed(*ids)))
    assert player.adapter.book.is_known and set(player.adapter.book.orders) == set(ids)


def calls(outputs: Iterable[Output]) -> list[Call]:
    return [output for output in outputs if isinstance(output, Call)]


def ids_of(call: Call) -> list[str]:
    body = orjson.loads(call.request.body)
    ids: list[str] = body.get("orderIds") or [body["orderId"]]
    return ids


def struck(player: Player, *ids: str) -> tuple[Call, Call]:
    """Know orders, strike; return the batch and the list."""
    know(player, *ids)
    multi, call = calls(player.put(Kill()))
    assert ids_of(multi) == list(ids)
    return multi, call


def told(outputs: Iterable[Output]) -> CancelAnswered:
    [fact] = outputs
    assert isinstance(fact, CancelAnswered)
    return fact


# ── options and authentication (§1, §2) ───────────────────────────────────────────────────────────────────────────


def test_by_default_the_key_alone_is_sent_and_stop_and_pending_orders_are_read() -> None:
    options = Kuna.Options()
    assert (options.auth, options.account_type, options.stop_orders) == ("api-key", "", True)
    assert options.pending_orders


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ("api_key",)),
        ({"ws_login": "none"}, ("api_key",)),
        ({"auth": "hmac"}, ("public_key", "api_secret", "api_key")),
        ({"auth": "hmac", "ws_login": "none"}, ("public_key", "api_secret")),
    ],
)
def test_an_account_needs_the_secrets_that_its_logins_use(options: dict[str, Any], names: tuple[str, ...]) -> None:
    assert Kuna.secrets(Kuna.Options(**options)) == names
    make(**options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": "yesterday"},
        {"since": "2014-01-01"},
        {"since": "2014-01-01T00:00:00Z&limit=1"},
        {"auth": "rsa"},
        {"account_type": "basic"},
        {"batch_orders": 0},
        {"batch_orders": 101},
        {"ws_login": "token"},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Kuna.Options(**wrong)


@pytest.mark.parametrize("name", ["api_key", "public_key", "api_secret"])
@pytest.mark.parametrize("value", ["", "ключ", "a\nb", "a\udcff"])
def test_a_secret_that_cannot_be_used_is_refused_without_being_shown(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is empty or holds what an HTTP header cannot carry$"):
        Kuna(Kuna.Options(auth="hmac"), {**SECRETS, name: value}, 0.06)


def test_the_single_key_is_sent_as_it_is_and_the_bytes_never_change() -> None:
    player = play()
    headers = {
        "Host": "api.kuna.io",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "api-key": "single-key",
    }
    player(Kill(), Asked("find#1", ACTIVE, urgent=True, cancel=True, headers=headers), WakeAfter("find#1", 0.06))
    player.put(VenueTimerFired("find#1"))
    first, second = player.calls
    assert first.request.wire is second.request.wire


def test_a_pro_account_says_so() -> None:
    player = play(account_type="pro")
    player.put(Kill())
    assert player.calls[0].request.headers["account"] == "pro"


def test_the_signatures_are_the_vectors_of_the_venue_file() -> None:
    player = play(auth="hmac", since="")  # START is the moment of the vectors
    player.adapter.book.orders = {one: order(one) for one in (UUID_1, UUID_2)}
    player(
        Kill(),
        Asked(
            "cancel-multi#1", MULTI, urgent=True, cancel=True,
            body=orjson.dumps(payload("kuna/cancel-multi-request")),
            headers={
                "Host": "api.kuna.io", "Accept": "application/json", "Content-Type": "application/json",
                "public-key": "public-key", "nonce": "1700000000000",
                "signature": "df0f1b61f4d269b83bdfe26355703e2799f4e2f5e8eef43b6359181c51fa1e99"
                "28dcd4a0316f86c9374d6b1fbb2a9480",
            },
        ),
        WakeAfter("cancel-multi#1", 0.06),
        Asked("find#2", "GET /v4/order/private/active?limit=100&sort=desc", urgent=True),
        WakeAfter("find#2", 0.06),
    )  # fmt: skip
    player = play(auth="hmac", since="")
    player.put(Kill())
    headers = player.calls[0].request.headers
    assert headers["signature"] == (
        "4b9a034484851348d528ac3e9f5e62a0bf9c7585f254c362441dc47ace126a2b8f80b8d4c029a07ac4072f6083e958f2"
    )
    assert player.calls[0].request.body == b""  # §2: `{}` is signed for a GET


def test_every_signed_request_has_a_greater_nonce_and_a_hedge_is_signed_anew() -> None:
    player = play(auth="hmac")
    player.adapter.book.orders = {UUID_1: order(UUID_1)}
    player.put(Kill())
    player.put(VenueTimerFired("cancel-multi#1"))
    player.now = Instant(player.now.mono_ns, player.now.wall_ns - 10**12)  # the clock was set back
    player.put(Read())
    nonces = [int(call.request.headers["nonce"]) for call in player.calls]
    assert nonces == [1700000000000, 1700000000001, 1700000000002, 1700000000003]
    for call in player.calls:
        request = call.request
        text = request.target + request.headers["nonce"] + (request.body.decode() or "{}")
        right = hmac.new(b"kuna-secret", text.encode(), hashlib.sha384).hexdigest()
        assert request.headers["signature"] == right
        assert "api-key" not in request.headers


@pytest.mark.parametrize("status", [400, 401, 200])
def test_a_command_whose_nonce_another_request_overtook_is_signed_anew_at_once_and_again(status: int) -> None:
    player = play(auth="hmac")
    multi, found = struck(player, UUID_1)
    again, wake = player.put(answer(multi.tag, errors("Nonce is too small"), status))
    assert isinstance(again, Call) and again.route is Route.HTTP and again.cancel and again.urgent
    assert isinstance(wake, WakeAfter) and wake.seconds == 0.06
    [third] = calls(player.put(answer(again.tag, errors("Nonce is too small"), status)))
    assert third.route is Route.HTTP and third.cancel and third.urgent
    nonces = [int(call.request.headers["nonce"]) for call in (multi, found, again, third)]
    assert nonces == sorted(set(nonces))
    player.put(answer(found.tag, listed(UUID_1)))
    player(answer(third.tag, done(UUID_1)), CancelAnswered(CancelOutcome.ACCEPTED, "1 order(s) cancelled", 1))


def test_a_list_whose_nonce_is_refused_is_signed_anew_with_the_venues_time_and_then_above_the_highest() -> None:
    player = play(auth="hmac")
    [read] = calls(player.put(Read()))
    for _ in range(2):
        [read] = calls(player.put(answer(read.tag, errors("Nonce is too small"), 401)))
    player(answer(read.tag, listed()), OrdersRead((), True, START.mono_ns))


def test_a_nonce_that_is_refused_again_and_again_is_no_wrong_key_and_no_batch_too_long() -> None:
    player = play(auth="hmac")
    [probe] = calls(player.put(Probe()))
    for _ in range(2):
        [probe] = calls(player.put(answer(probe.tag, errors("Nonce is too small"), 401)))
    [unready] = player.put(answer(probe.tag, errors("Nonce is too small"), 401))
    assert isinstance(unready, NotReady) and not unready.fatal
    multi, found = struck(player, *(uuid(n) for n in range(90)))
    player.put(answer(found.tag, listed()))
    while again := calls(outputs := player.put(answer(multi.tag, errors("Nonce is too small"), 400))):
        [multi] = again
        assert len(ids_of(multi)) == 90
    assert told(outputs).answer is CancelOutcome.REFUSED


def nonce(player: Player) -> int:
    return int(player.calls[-1].request.headers["nonce"]) - START.wall_ms


def dated(tag: str, ahead_s: int, body: object, status: int = 200) -> Replied:
    """Answer from a venue whose clock is that far ahead of the one that the test began with."""
    at = datetime.fromtimestamp(START.wall_ns // 10**9 + ahead_s, UTC)
    return answer(tag, body, status)._replace(headers={"date": at.strftime("%a, %d %b %Y %H:%M:%S GMT")})


@pytest.mark.parametrize("wrong_s", [3600, 86_400, -3600])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_wrong_dates_of_answers_never_move_the_nonce(wrong_s: int, times: int) -> None:
    player = play(auth="hmac")
    for at_s in range(200):
        player.put(Read())
        player.put(dated(player.calls[-1].tag, at_s, listed()))
        player.put(Pause(1))
    for number in range(times):
        player.put(Read())
        player.put(dated(player.calls[-1].tag, 200 + number + wrong_s, listed()))
        player.put(Pause(1))
    player.put(Kill())
    assert nonce(player) == (200 + times) * 1000


def test_a_step_of_our_own_clock_forward_never_moves_the_nonce_and_one_back_does_not_stop_it() -> None:
    player = play(auth="hmac")
    player.put(Read())
    player.now = Instant(player.now.mono_ns + 10**9, player.now.wall_ns + 3600 * 10**9)
    player.put(Read())
    assert nonce(player) == 1000
    player.now = Instant(player.now.mono_ns + 10**9, player.now.wall_ns - 7200 * 10**9)
    player.put(Read())
    assert nonce(player) == 1001


def test_a_venue_that_refuses_our_nonce_gets_its_own_time_and_goes_on_from_there() -> None:
    player = play(auth="hmac")
    player.put(Read())
    again, *_ = player.put(dated(player.calls[-1].tag, 60, errors("Nonce is too far off"), 401))
    assert isinstance(again, Call) and abs(nonce(player) - 60_000) <= 1000
    player.put(dated(again.tag, 60, listed()))
    before_ms = nonce(player)
    player.put(Pause(10))
    player.put(Read())
    assert nonce(player) == before_ms + 10_000


def test_a_clock_that_ran_ahead_does_not_lock_us_out_of_a_venue_with_a_window() -> None:
    player = play(auth="hmac")
    player.put(Probe())
    assert nonce(player) == 0
    again, *_ = player.put(dated(player.calls[-1].tag, -3600, errors("Nonce is too far off"), 401))
    assert abs(nonce(player) + 3_600_000) <= 1000  # the venue's time, though it is lower
    assert isinstance(again, Call)
    assert Ready(Route.HTTP, 0) in player.put(dated(again.tag, -3600, listed()))


def test_a_clock_that_ran_ahead_does_not_lock_us_out_of_a_venue_that_wants_higher_nonces_only() -> None:
    player = play(auth="hmac")
    player.put(Probe())
    player.put(answer(player.calls[-1].tag, listed()))  # accepted: an hour too high, as it turns out
    for _ in range(2):
        player.put(Read())
        player.put(dated(player.calls[-1].tag, -3600, listed()))
    player.put(Read())
    assert nonce(player) == 3  # it goes on from there
    multi, call = struck(player, UUID_1)
    [again, _] = player.put(dated(multi.tag, -3600, errors("Nonce is too small"), 401))  # overtaken, or too far off?
    assert abs(nonce(player) + 3_600_000) <= 1000
    assert isinstance(again, Call)
    assert (
        calls(player.put(answer(again.tag, errors("Nonce is too small"), 401)))
        and nonce(player) > int(call.request.headers["nonce"]) - START.wall_ms
    )


def test_two_requests_whose_nonces_are_refused_together_do_not_turn_them_down_and_up_again_for_ever() -> None:
    player = play(auth="hmac", stop_orders=True)
    player.put(Probe())
    player.put(dated(player.calls[-1].tag, 60, errors("Nonce is too far off"), 401))
    player.put(dated(player.calls[-1].tag, 60, listed()))
    player.put(Read())
    for call in player.calls[-2:]:
        player.put(dated(call.tag, 60, listed()))

    def refused(calls: Iterable[Call]) -> list[Call]:
        again = []
        for call in calls:
            player.put(Pause(0.01))
            outputs = player.put(dated(call.tag, 0, errors("Nonce is too small"), 401))
            again += [output for output in outputs if isinstance(output, Call)]
        return again

    player.put(Read())
    both = player.calls[-2:]  # the venue's clock is set back by a minute now, and what it takes for a nonce is not
    low = refused(both)
    high = refused(low)
    before = [int(call.request.headers["nonce"]) for call in both]
    assert all(int(call.request.headers["nonce"]) < min(before) for call in low)
    assert all(int(call.request.headers["nonce"]) > max(before) for call in high)
    assert len(low) == len(high) == 2


def test_without_a_signature_the_word_nonce_is_a_refusal_like_any_other() -> None:
    player = play()
    player(
        Kill(),
        Asked("find#1", ACTIVE, urgent=True, cancel=True),
        WakeAfter("find#1", 0.06),
        answer("find#1", errors("Nonce is too small"), 401),
        CancelAnswered(CancelOutcome.REFUSED, "HTTP 401 BAD_REQUEST Nonce is too small"),
    )


# ── the strike (§3, §9) ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_strike_cancels_known_orders_at_once_and_then_the_orders_that_the_lists_add() -> None:
    player = Player(make())
    know(player, UUID_1)
    player(
        Kill(),
        Asked("cancel-multi#3", MULTI, urgent=True, cancel=True, body=orjson.dumps({"orderIds": [UUID_1]})),
        WakeAfter("cancel-multi#3", 0.06),
        Asked("find#4", ACTIVE, urgent=True),
        WakeAfter("find#4", 0.06),
        Asked("find#5", STOPS, urgent=True),
        WakeAfter("find#5", 0.06),
        answer("find#4", listed(UUID_1, uuid(1), uuid(2))),
        Asked("cancel-multi#6", MULTI, urgent=True, cancel=True, body=orjson.dumps({"orderIds": [uuid(1), uuid(2)]})),
        WakeAfter("cancel-multi#6", 0.06),
        answer("cancel-multi#6", done(uuid(1), uuid(2))),
        answer("find#5", listed(uuid(3), uuid(1), status="WaitStop")),
        Asked("cancel-multi#7", MULTI, urgent=True, cancel=True, body=orjson.dumps({"orderIds": [uuid(3)]})),
        WakeAfter("cancel-multi#7", 0.06),
        answer("cancel-multi#3", done(UUID_1)),
        answer("cancel-multi#7", done(uuid(3))),
        CancelAnswered(CancelOutcome.ACCEPTED, "3 commands: 4 order(s) cancelled", 4),
    )
    assert set(player.adapter.book.orders) == {UUID_1, uuid(1), uuid(2), uuid(3)}  # only a read-back takes them out


def test_a_strike_that_knows_nothing_begins_with_the_list() -> None:
    player = Player(make())
    player(
        Kill(),
        Asked("find#1", ACTIVE, urgent=True, cancel=True),
        WakeAfter("find#1", 0.06),
        Asked("find#2", STOPS, urgent=True),
        WakeAfter("find#2", 0.06),
        answer("find#1", {"data": []}),
        answer("find#2", b"[]"),
        CancelAnswered(CancelOutcome.ACCEPTED, "the lists show nothing to cancel", 0),
    )


def test_the_documents_answers_are_read_wrapped_and_bare_and_by_either_name_of_the_id() -> None:
    bare = [{"orderId": UUID_1, "success": True}, {"orderId": UUID_2, "success": True}]
    for body in (payload("kuna/cancel-multi"), bare, {"data": bare}):
        for status in (200, 201):
            player = play()
            multi, call = struck(player, UUID_1, UUID_2)
            assert player.put(answer(call.tag, payload("kuna/active"))) == ()
            fact = told(player.put(answer(multi.tag, body, status)))
            assert fact == CancelAnswered(CancelOutcome.ACCEPTED, "2 order(s) cancelled", 2)


def test_a_cancel_that_the_answer_of_its_batch_does_not_name_is_unknown() -> None:
    player = play()
    multi, call = struck(player, UUID_1, UUID_2)
    player.put(answer(call.tag, listed()))
    fact = told(player.put(answer(multi.tag, payload("kuna/cancel-multi-bare"))))
    words = "1 order(s) cancelled; 1 of 2 cancels failed: not named in the answer"
    assert fact == CancelAnswered(CancelOutcome.UNKNOWN, words, 1)


@pytest.mark.parametrize("body", [{"data": {"success": True}}, {"data": []}, {"data": [{}, 7, None]}, {}, b"[1]"])
def test_an_answer_that_names_no_order_proves_nothing_of_it(body: object) -> None:
    player = play()
    multi, call = struck(player, UUID_1)
    player.put(answer(call.tag, listed()))
    fact = told(player.put(answer(multi.tag, body)))
    assert fact == CancelAnswered(CancelOutcome.UNKNOWN, "1 of 1 cancels failed: not named in the answer")


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"success": False}, "success false"),
        ({"success": "true"}, "success false"),
        ({}, "success false"),
        ({"success": False, "message": "Order is locked"}, "Order is locked"),
        ({"success": False, "error": error("no", "LOCKED")}, "LOCKED no"),
    ],
)
def test_a_failed_cancel_in_a_batch_is_reported_as_refused_though_others_succeed(
    item: dict[str, Any], why: str
) -> None:
    player = play()
    multi, call = struck(player, UUID_1, UUID_2)
    player.put(answer(call.tag, listed()))
    body = {"data": [{"id": UUID_1, **item}, {"id": UUID_2, "success": True}]}
    fact = told(player.put(answer(multi.tag, body)))
    assert fact == CancelAnswered(CancelOutcome.REFUSED, f"1 order(s) cancelled; 1 of 2 cancels failed: {why}", 1)


@pytest.mark.parametrize("text", [*sorted(ENDED), CLOSED, f" {CLOSED}. "])
def test_an_order_that_has_ended_is_no_failure(text: str) -> None:
    for status, body in (
        (200, {"data": [{"id": UUID_1, "success": False, "message": text}]}),
        (400, errors(text)),
        (200, errors(text)),
        (200, {"data": [], **errors(text)}),
        (400, {"message": text}),
        (400, {"error": {"message": text}}),
    ):
        player = play()
        multi, call = struck(player, UUID_1)
        player.put(answer(call.tag, listed()))
        fact = told(player.put(answer(multi.tag, body, status)))
        assert fact == CancelAnswered(CancelOutcome.ACCEPTED, "1 had ended", 0), body


def test_as_many_errors_as_orders_that_are_not_named_account_for_all_of_them() -> None:
    player = play()
    multi, call = struck(player, UUID_1, UUID_2, uuid(1))
    player.put(answer(call.tag, listed()))
    fact = told(player.put(answer(multi.tag, {**done(UUID_2), **errors(CLOSED, CLOSED)})))
    assert fact == CancelAnswered(CancelOutcome.ACCEPTED, "1 order(s) cancelled; 2 had ended", 1)


def test_one_error_for_a_batch_proves_nothing_of_its_other_orders() -> None:
    player = play()
    multi, call = struck(player, UUID_1, UUID_2)
    player.put(answer(call.tag, listed()))
    fact = told(player.put(answer(multi.tag, payload("kuna/error-closed"), 400)))
    words = f"2 of 2 cancels failed: HTTP 400 BAD_REQUEST {CLOSED}"
    assert fact == CancelAnswered(CancelOutcome.UNKNOWN, words)  # no second attempt: the next read decides


def test_the_text_order_not_found_settles_no_cancel_and_no_list() -> None:
    """It may stand for one order of a hundred."""
    player = play()
    multi, call = struck(player, UUID_1, UUID_2)
    player.put(answer(call.tag, errors("Order not found"), 404))
    assert told(player.put(answer(multi.tag, errors("Order not found"), 404))).answer is CancelOutcome.REFUSED
    player = play()
    player.adapter.book.orders = {"1": order("1")}
    single, call = calls(player.put(Kill()))
    player.put(answer(single.tag, errors("Order not found"), 404))
    assert told(player.put(answer(call.tag, listed()))).answer is CancelOutcome.REFUSED
    player = play()
    [call] = calls(player.put(Kill()))
    assert told(player.put(answer(call.tag, errors("Order not found"), 404))).answer is CancelOutcome.REFUSED


def test_http_200_with_errors_is_a_failure() -> None:
    player = play()
    multi, call = struck(player, UUID_1)
    player.put(answer(call.tag, listed()))
    fact = told(player.put(answer(multi.tag, {"data": None, **errors("Trading is closed")})))
    assert fact == CancelAnswered(
        CancelOutcome.REFUSED, "1 of 1 cancels failed: HTTP 200 BAD_REQUEST Trading is closed"
    )


@pytest.mark.parametrize("name", ["error-uuid", "error-json"])
def test_our_own_mistake_is_a_refusal_though_it_comes_with_http_500(name: str) -> None:
    player = play()
    multi, call = struck(player, UUID_1)
    player.put(answer(call.tag, listed()))
    body = payload(f"kuna/{name}")
    [one] = body["errors"]
    fact = told(player.put(answer(multi.tag, body, 500)))  # and is not tried on another route
    assert fact == CancelAnswered(
        CancelOutcome.REFUSED, f"1 of 1 cancels failed: HTTP 500 {one['code']} {one['message']}"
    )


@pytest.mark.parametrize("empty", [None, [], "", {}, False])
def test_errors_that_are_none_are_none(empty: object) -> None:
    player = play()
    [find] = calls(player.put(Kill()))
    fact = told(player.put(answer(find.tag, {"data": [], "errors": empty, "error": empty})))
    assert fact.answer is CancelOutcome.ACCEPTED


def test_a_list_that_a_strike_could_not_read_makes_it_unknown_though_every_cancel_was_accepted() -> None:
    for status, body, words in (
        (400, errors("no"), "HTTP 400 BAD_REQUEST no"),
        (200, {"data": [{"status": "Open"}]}, "the active list cannot be read: 1 of 1 orders"),
        (200, {"data": {}}, "the active list cannot be read"),
    ):
        player = play()
        multi, call = struck(player, UUID_1)
        player.put(answer(multi.tag, done(UUID_1)))
        fact = told(player.put(answer(call.tag, body, status)))
        assert fact == CancelAnswered(CancelOutcome.UNKNOWN, f"1 order(s) cancelled; {words}", 1)


def test_a_lost_list_makes_a_strike_unknown() -> None:
    player = play()
    multi, call = struck(player, UUID_1)
    player.put(answer(multi.tag, done(UUID_1)))
    player(
        CallLost(call.tag, False, "down"),
        Asked(call.tag, ACTIVE, Route.FRESH, urgent=True),
        CallLost(call.tag, True, "timed out"),
        CancelAnswered(CancelOutcome.UNKNOWN, "1 order(s) cancelled; timed out", 1),
    )


@pytest.mark.parametrize(("sent", "verdict"), [(True, CancelOutcome.UNKNOWN), (False, CancelOutcome.UNSENT)])
def test_a_strike_is_unsent_if_no_byte_of_a_cancel_has_left_though_the_list_was_read(
    sent: bool, verdict: CancelOutcome
) -> None:
    player = play()
    multi, call = struck(player, UUID_1)
    player.put(answer(call.tag, listed(UUID_1)))
    [again] = player.put(CallLost(multi.tag, False, "down"))
    assert isinstance(again, Call) and again.route is Route.FRESH and again.cancel
    player(CallLost(multi.tag, sent, "refused"), CancelAnswered(verdict, "refused"))


def test_two_strikes_under_way_do_not_mix() -> None:
    player = play()
    call, find_one = struck(player, UUID_1)
    two, find_two = calls(player.put(Kill()))
    player.put(answer(find_two.tag, listed(UUID_1)))
    player.put(answer(find_one.tag, listed()))
    player(answer(call.tag, done(UUID_1)), CancelAnswered(CancelOutcome.ACCEPTED, "1 order(s) cancelled", 1))
    player(answer(two.tag, errors(CLOSED)), CancelAnswered(CancelOutcome.ACCEPTED, "1 had ended", 0))


def test_the_evidence_is_bounded() -> None:
    player = play()
    multi, call = struck(player, UUID_1)
    player.put(answer(call.tag, {"message": "x" * 300}, 400))
    fact = told(player.put(answer(multi.tag, errors("y" * 300))))
    assert len(fact.evidence) == 200 and fact.evidence.endswith("…")


# ── batches and singles (§3.1, §3.2) ──────────────────────────────────────────────────────────────────────────────


def test_a_hundred_orders_go_in_one_batch_and_more_in_several() -> None:
    player = play()
    know(player)
    player.adapter.book.orders = {uuid(n): order(uuid(n)) for n in range(101)}
    batches = [ids_of(call) for call in calls(player.put(Kill())) if call.cancel]
    assert [len(batch) for batch in batches] == [100, 1]
    player = play(batch_orders=40)
    player.adapter.book.orders = {uuid(n): order(uuid(n)) for n in range(100)}
    assert [len(ids_of(call)) for call in calls(player.put(Kill())) if call.cancel] == [40, 40, 20]


BAD = ["", "1", "../..", "g" + UUID_1[1:], UUID_1 + "0", "x" * 36, UUID_1.replace("-", ""), "4po3091bc-p278-o286-1452"]


def test_a_malformed_id_never_gets_into_a_batch() -> None:
    player = play()
    player.adapter.book.orders = {one: order(one) for one in (*BAD, UUID_1, UUID_2.upper())}
    multi, *singles = [call for call in calls(player.put(Kill())) if call.cancel]
    assert ids_of(multi) == [UUID_1, UUID_2.upper()]
    assert [orjson.loads(call.request.body) for call in singles] == [{"orderId": one} for one in BAD[:3]]
    player.put(answer("find#5", listed()))
    player.put(answer(multi.tag, done(UUID_1, UUID_2.upper())))
    for call in singles[1:]:
        assert player.put(answer(call.tag, errors(CLOSED), 400)) == ()
    words = (
        "2 order(s) cancelled; 2 had ended; 5 malformed id(s) left for the next strike; "
        "1 of 4 commands: 1 of 1 cancels failed: HTTP 404"
    )
    assert told(player.put(answer(singles[0].tag, {}, 404))) == CancelAnswered(CancelOutcome.REFUSED, words, 2)
    next_time = [call for call in calls(player.put(Kill())) if call.cancel][1:]
    assert [ids_of(call) for call in next_time] == [[one] for one in BAD[3:6]]  # each has its turn


def test_only_malformed_ids_still_make_a_strike() -> None:
    player = play()
    player.adapter.book.orders = {"1": order("1")}
    player(
        Kill(),
        Asked("cancel-one#1", ONE, urgent=True, cancel=True, body=b'{"orderId":"1"}'),
        WakeAfter("cancel-one#1", 0.06),
        Asked("find#2", ACTIVE, urgent=True),
        WakeAfter("find#2", 0.06),
    )


def test_an_order_that_two_batches_have_not_cancelled_is_cancelled_by_itself() -> None:
    player = play()
    know(player, *(uuid(n) for n in range(10)))
    for _ in range(2):
        multi, _ = calls(player.put(Kill()))
        assert len(ids_of(multi)) == 10
    know(player, *(uuid(n) for n in range(6)))
    multi, *singles, _ = calls(player.put(Kill()))
    assert ids_of(multi) == [uuid(3), uuid(4), uuid(5)]
    assert [ids_of(call) for call in singles] == [[uuid(n)] for n in range(3)]
    assert all(f"{call.request.method} {call.request.target}" == ONE for call in singles)
    know(player, uuid(0), uuid(4), uuid(5))  # those by themselves have their turn now
    singles = [call for call in calls(player.put(Kill())) if call.cancel]
    assert [ids_of(call) for call in singles] == [[uuid(0)], [uuid(4)], [uuid(5)]]


def test_an_order_that_was_gone_for_a_while_begins_anew() -> None:
    player = play()
    know(player, UUID_1)
    player.put(Kill())
    player.put(Kill())
    know(player)
    know(player, UUID_1)
    multi, _ = calls(player.put(Kill()))
    assert f"{multi.request.method} {multi.request.target}" == MULTI


def test_a_single_cancel_is_answered() -> None:
    for status, body, expected in (
        (200, payload("kuna/cancel-one"), CancelAnswered(CancelOutcome.ACCEPTED, "1 order(s) cancelled", 1)),
        (200, {"success": True}, CancelAnswered(CancelOutcome.ACCEPTED, "1 order(s) cancelled", 1)),
        (400, payload("kuna/error-closed"), CancelAnswered(CancelOutcome.ACCEPTED, "1 had ended", 0)),
        (400, errors("no"), CancelAnswered(CancelOutcome.REFUSED, "1 of 1 cancels failed: HTTP 400 BAD_REQUEST no")),
        (200, {"success": False}, CancelAnswered(CancelOutcome.REFUSED, "1 of 1 cancels failed: HTTP 200")),
        (200, {"data": {}}, CancelAnswered(CancelOutcome.UNKNOWN, "1 of 1 cancels failed: the answer cannot be read")),
        (200, b"[]", CancelAnswered(CancelOutcome.UNKNOWN, "1 of 1 cancels failed: the answer cannot be read")),
        (429, {}, CancelAnswered(CancelOutcome.UNKNOWN, "1 of 1 cancels failed: HTTP 429")),
    ):
        player = play()
        player.adapter.book.orders = {"1": order("1")}
        single, call = calls(player.put(Kill()))
        player.put(answer(call.tag, listed()))
        assert told(player.put(answer(single.tag, body, status))) == expected


@pytest.mark.parametrize("status", [200, 400, 413])  # errors come with HTTP 200, too
def test_a_batch_that_may_be_too_long_is_halved_within_the_strike(status: int) -> None:
    player = play()
    ids = [uuid(n) for n in range(90)]
    multi, found = struck(player, *ids)
    player.put(answer(found.tag, listed(*ids)))
    too_long = errors("orderIds must contain no more than 30 elements")
    halves = calls(player.put(answer(multi.tag, too_long, status)))
    assert [len(ids_of(call)) for call in halves] == [45, 45]
    quarters = [call for half in halves for call in calls(player.put(answer(half.tag, too_long, status)))]
    assert [len(ids_of(call)) for call in quarters] == [23, 22, 23, 22]
    assert sorted(one for call in quarters for one in ids_of(call)) == ids
    assert all(call.urgent and call.cancel for call in quarters)
    *others, last = quarters
    for call in others:
        assert player.put(answer(call.tag, done(*ids_of(call)))) == ()
    fact = told(player.put(answer(last.tag, done(*ids_of(last)))))
    assert fact == CancelAnswered(CancelOutcome.ACCEPTED, "4 commands: 90 order(s) cancelled", 90)
    know(player, *(uuid(n) for n in range(100, 150)))
    assert [len(ids_of(call)) for call in calls(player.put(Kill())) if call.cancel] == [23, 23, 4]  # it has learnt


def test_a_short_batch_is_halved_too() -> None:
    player = play()
    player.adapter.book.orders = {uuid(n): order(uuid(n)) for n in range(6)}
    multi, _ = calls(player.put(Kill()))
    halves = calls(player.put(answer(multi.tag, errors("orderIds must contain no more than 3 elements"), 400)))
    assert [len(ids_of(call)) for call in halves] == [3, 3]


@pytest.mark.parametrize("most", [10, 5, 3])
def test_a_hundred_orders_at_a_venue_that_takes_a_few_at_a_time_are_cancelled_in_a_few_strikes(most: int) -> None:
    player = play()
    left = {uuid(n): order(uuid(n)) for n in range(100)}
    for _ in range(4):
        player.adapter.book.orders = dict(left)
        out = [call for call in calls(player.put(Kill())) if call.cancel and "multi" in call.request.target]
        while out:
            call = out.pop(0)
            if len(ids_of(call)) > most:
                out += calls(player.put(answer(call.tag, errors("orderIds must contain no more elements"), 400)))
            else:
                player.put(answer(call.tag, done(*ids_of(call))))
                for one in ids_of(call):
                    del left[one]
    assert len(left) <= 9  # that went alone


def refuse_batches(player: Player, first: int) -> list[int]:
    """Strike a hundred orders, and refuse all; return how many orders each batch had."""
    player.adapter.book.orders = {uuid(n): order(uuid(n)) for n in range(first, first + 100)}
    out = [call for call in calls(player.put(Kill())) if call.cancel]
    sizes = []
    while out:
        call = out.pop(0)
        sizes.append(len(ids_of(call)))
        out += calls(player.put(answer(call.tag, errors("Trading is closed"), 400)))
    return sizes


def test_halving_that_was_in_vain_is_not_tried_again_until_a_batch_is_accepted() -> None:
    player = play()
    sizes = refuse_batches(player, 100)
    assert sizes[:3] == [100, 50, 50] and len(sizes) == 15
    in_vain = [*refuse_batches(player, 200), *refuse_batches(player, 300)]
    assert min(in_vain) <= 3 and len(in_vain) < 80  # of the 300 requests that a minute has
    for first in (400, 500):
        assert refuse_batches(player, first) == [100]
    multi, _ = calls(player.put(Kill()))
    player.put(answer(multi.tag, done(*ids_of(multi))))
    player.adapter.book.orders = {uuid(n): order(uuid(n)) for n in range(600, 700)}
    multi, _ = calls(player.put(Kill()))
    assert len(calls(player.put(answer(multi.tag, errors("too many"), 400)))) == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, errors(CLOSED)), (401, errors("no")), (400, {"errors": [error("no", "REQUEST_INVALID_KEY")]}), (429, {}),
     (404, {}), (200, errors("Too many requests")), (200, {"errors": [error("slow", "TOO_MANY_REQUESTS")]}),
     (400, {**errors("too many"), **done(uuid(0))})],
)  # fmt: skip
def test_a_batch_is_not_halved_for_another_reason(status: int, body: object) -> None:
    player = play()
    multi, call = struck(player, *(uuid(n) for n in range(90)))
    player.put(answer(call.tag, listed()))
    assert told(player.put(answer(multi.tag, body, status))).answer is not CancelOutcome.ACCEPTED


# ── read-backs and probes (§3.4, §3.5, §6) ────────────────────────────────────────────────────────────────────────


def test_a_read_back_reads_both_lists_and_an_order_in_both_counts_once() -> None:
    player = Player(make())
    stop = order(UUID_1, "WaitStop")
    player(
        Read(),
        Asked("orders#1", ACTIVE, urgent=True),
        WakeAfter("orders#1", 0.24),
        Asked("orders#2", STOPS, urgent=True),
        WakeAfter("orders#2", 0.24),
        answer("orders#2", listed(UUID_1, status="WaitStop")),
        answer("orders#1", {"data": [*listed(UUID_1, status="WaitStop")["data"], *listed(UUID_2)["data"]]}),
        OrdersRead((stop, order(UUID_2)), True, START.mono_ns),
    )
    assert player.adapter.book.orders == {UUID_1: stop, UUID_2: order(UUID_2)}


def test_the_documents_list_is_read() -> None:
    player = play()
    [call] = calls(player.put(Read()))
    player(
        answer(call.tag, payload("kuna/active")), OrdersRead((order(UUID_2, "Open", "TRX_USDT"),), True, START.mono_ns)
    )


def test_a_full_page_is_no_proof_that_there_are_no_more() -> None:
    player = play()
    know(player, UUID_1)
    [call] = calls(player.put(Read()))
    ids = [uuid(n) for n in range(100)]
    [read] = player.put(answer(call.tag, listed(*ids)))
    assert isinstance(read, OrdersRead)
    assert (read.complete, [one.id for one in read.orders]) == (False, ids)
    assert read.why == "active: the active list is full: 100 orders, there may be more"
    assert set(player.adapter.book.orders) == {UUID_1, *ids}
    [call] = calls(player.put(Read()))  # not even if none of them is alive
    player(answer(call.tag, listed(*ids, status="Closed")), OrdersRead((), False, START.mono_ns, read.why))
    [call] = calls(player.put(Read()))
    [read] = player.put(answer(call.tag, listed(*ids[1:])))
    assert isinstance(read, OrdersRead) and read.complete and len(read.orders) == 99


@pytest.mark.parametrize("body", [{"data": {}}, {"data": [{}]}, {"data": [7]}, {"data": None}, {}, b"[null]"])
def test_a_list_that_cannot_be_read_proves_nothing(body: object) -> None:
    player = play()
    know(player, UUID_1)
    [call] = calls(player.put(Read()))
    [read] = player.put(answer(call.tag, body))
    assert isinstance(read, OrdersRead) and (read.orders, read.complete) == ((), False)
    assert read.why.startswith("active: the active list cannot be read")
    assert set(player.adapter.book.orders) == {UUID_1}


def test_an_order_that_cannot_be_read_hides_no_other_one_of_its_list() -> None:
    player = play()
    [call] = calls(player.put(Read()))
    body = {"data": [{"status": "Open"}, *listed(UUID_1)["data"], None]}
    why = "active: the active list cannot be read: 2 of 3 orders"
    player(answer(call.tag, body), OrdersRead((order(UUID_1),), False, START.mono_ns, why))
    [found] = calls(player.put(Kill()))[1:]
    player.adapter.book.orders.clear()
    body["data"].append(*listed(UUID_2)["data"])
    more = calls(player.put(answer(found.tag, body)))
    assert [ids_of(call) for call in more] == [[UUID_2]]


def test_lists_begin_at_the_setting_since_or_have_no_start_if_it_is_empty() -> None:
    player = play(since="2024-01-01T00:00:00.000Z")
    player.put(Read())
    assert player.calls[0].request.target.endswith("&start=2024-01-01T00:00:00.000Z")
    player = play(since="")
    player.put(Read())
    assert player.calls[0].request.target == "/v4/order/private/active?limit=100&sort=desc"


def test_probes_take_the_lists_in_turn_and_each_is_the_truth_on_its_own_part() -> None:
    player = Player(make())
    stop = order(uuid(1), "WaitStop")
    for call in calls(player.put(Read())):
        player.put(
            answer(call.tag, listed(UUID_1) if "active" in call.request.target else listed(stop.id, status="WaitStop"))
        )
    player(
        Probe(),
        Asked("probe#3", ACTIVE),
        answer("probe#3", listed(UUID_2)),
        Ready(Route.HTTP, 0),
        OrderSeen(order(UUID_2)),
    )
    assert set(player.adapter.book.orders) == {UUID_2, stop.id}
    player(Probe(), Asked("probe#4", STOPS), answer("probe#4", listed()), Ready(Route.HTTP, 0))
    assert set(player.adapter.book.orders) == {UUID_2}


def test_every_live_status_is_asked_for_by_reads_strikes_and_probes() -> None:
    player = Player(make(pending_orders=True))
    wanted = [ACTIVE, STOPS, STOPS.replace("WaitStop", "Pending")]
    for step in (Read(), Kill()):
        assert [f"{call.request.method} {call.request.target}" for call in calls(player.put(step))] == wanted
    probes = [call for _ in wanted for call in calls(player.put(Probe()))]
    assert [f"{call.request.method} {call.request.target}" for call in probes] == wanted


def test_a_probe_takes_no_order_out_of_the_book_that_its_list_does_not_cover() -> None:
    player = Player(make(pending_orders=True))
    frozen = listed(uuid(3), status="Frozen")["data"]
    active, stops, pending = calls(player.put(Read()))
    player.put(answer(active.tag, {"data": [*listed(UUID_1)["data"], *frozen]}))
    player.put(answer(stops.tag, listed(uuid(1), status="WaitStop")))
    player.put(answer(pending.tag, listed(uuid(2), status="Pending")))
    for left in ({uuid(1), uuid(2)}, {uuid(2)}, set()):
        [call] = calls(player.put(Probe()))
        player.put(answer(call.tag, listed()))
        assert set(player.adapter.book.orders) == left


def hearing() -> Player:
    """Return a player with one list and a WebSocket that hears orders."""
    player = play()
    player.put(Opened(Route.WS, 1))
    for message in (payload("kuna/handshake"), payload("kuna/set-auth-token"), {"rid": 3}):
        player.put(hears(1, message))
    return player


def details(tag: str, one: str) -> Asked:
    return Asked(tag, f"GET /v4/order/private/details/{one}", urgent=True)


def test_an_order_that_was_pushed_as_pending_is_left_though_its_cancel_is_refused_and_no_list_shows_it() -> None:
    player = hearing()
    know(player)
    player.put(push("Pending"))
    multi, call = calls(player.put(Kill()))
    assert ids_of(multi) == [UUID_1]
    player.put(answer(multi.tag, errors("Order is being processed"), 400))
    fact = told(player.put(answer(call.tag, listed())))
    assert fact.answer is CancelOutcome.REFUSED
    player(
        Read(),
        Asked("orders#4", ACTIVE, urgent=True),
        WakeAfter("orders#4", 0.24),
        answer("orders#4", listed()),
        details("look-up#5", UUID_1),
        WakeAfter("look-up#5", 0.24),
        answer("look-up#5", {"data": {"id": UUID_1, "pair": "BTC_USDT", "status": "Pending"}}),
        OrdersRead((order(UUID_1, "Pending"),), True, START.mono_ns),
    )
    assert set(player.adapter.book.orders) == {UUID_1}  # the next strike names it again


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"data": [{"id": UUID_1, "success": False, "error": error("no")}]}),
        (200, {"data": [{"id": UUID_1, "success": False}]}),
        (400, errors("Trading is closed")),
        (403, errors("Trading is closed")),
        (404, errors("Order not found")),
    ],
)
def test_an_order_whose_cancel_was_refused_is_looked_up_once_no_list_shows_it(status: int, body: object) -> None:
    player = play()
    multi, found = struck(player, UUID_1)
    player.put(answer(multi.tag, body, status))
    player.put(answer(found.tag, listed()))
    [read] = calls(player.put(Read()))
    [call] = calls(player.put(answer(read.tag, listed())))
    assert call.request.target == f"/v4/order/private/details/{UUID_1}"
    player(
        answer(call.tag, {"data": {"id": UUID_1, "pair": "BTC_USDT", "status": "Canceled"}}),
        OrdersRead((), True, START.mono_ns),
    )


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"data": [{"id": UUID_1, "success": False, "error": error(CLOSED)}]}),
        (400, errors(CLOSED)),
        (200, done(UUID_1)),
        (429, errors("Too many requests")),
    ],
)
def test_an_order_whose_cancel_went_through_or_was_not_judged_is_proven_gone_by_the_list_that_showed_it(
    status: int, body: object
) -> None:
    player = play()
    multi, call = struck(player, UUID_1)
    player.put(answer(call.tag, listed(UUID_1)))
    player.put(answer(multi.tag, body, status))
    [read] = calls(player.put(Read()))
    player(answer(read.tag, listed()), OrdersRead((), True, START.mono_ns))


def test_a_single_cancel_that_is_refused_has_its_order_looked_up_and_one_that_had_ended_does_not() -> None:
    for text, looked_up in (("no", True), (CLOSED, False)):
        player = play()
        know(player, "odd")
        single, found = calls(player.put(Kill()))
        player.put(answer(found.tag, listed()))
        player.put(answer(single.tag, errors(text), 400))
        [read] = calls(player.put(Read()))
        outputs = player.put(answer(read.tag, listed()))
        assert [call.request.target for call in calls(outputs)] == ["/v4/order/private/details/odd"] * looked_up


def test_the_refusal_of_a_cancel_does_not_bring_back_an_order_whose_end_was_pushed() -> None:
    player = hearing()
    multi, call = struck(player, UUID_1)
    player.put(push("Canceled"))
    player.put(answer(multi.tag, errors("Trading is closed"), 400))
    player.put(answer(call.tag, listed()))
    [read] = calls(player.put(Read()))
    player(answer(read.tag, listed()), OrdersRead((), True, START.mono_ns))


def test_a_refusal_that_comes_behind_a_clean_list_brings_its_order_back() -> None:
    player = play()
    multi, call = struck(player, UUID_1)
    player.put(answer(call.tag, listed()))
    [read] = calls(player.put(Read()))
    player(answer(read.tag, listed()), OrdersRead((), True, START.mono_ns))
    player.put(answer(multi.tag, errors("Trading is closed"), 400))
    [read] = calls(player.put(Read()))
    assert len(calls(player.put(answer(read.tag, listed())))) == 1


def test_a_look_up_that_finds_no_order_does_not_count_it_as_cancelled_whatever_its_words() -> None:
    player = hearing()
    know(player)
    player.adapter.book.trace()
    player.put(push("Open"))
    [read] = calls(player.put(Read()))
    [call] = calls(player.put(answer(read.tag, listed())))
    player.put(answer(call.tag, errors("Order to cancel not found"), 404))
    assert UUID_1 in player.adapter.book.entered and not player.adapter.book.ended
    assert not player.adapter.book.orders


def test_a_probe_takes_no_order_out_of_the_book_that_a_push_has_shown_alive() -> None:
    player = hearing()
    know(player, UUID_2)
    player.put(push("Open"))
    [call] = calls(player.put(Probe()))
    player.put(answer(call.tag, listed()))
    assert set(player.adapter.book.orders) == {UUID_1}


def test_an_id_that_is_no_part_of_a_path_is_written_as_one() -> None:
    player = hearing()
    player.put(push("Open", "../a b"))
    [read] = calls(player.put(Read()))
    [call] = calls(player.put(answer(read.tag, listed())))
    assert call.request.target == "/v4/order/private/details/..%2Fa%20b"


def test_a_full_page_is_a_fine_probe_and_takes_nothing_out_of_the_book() -> None:
    player = play()
    player.adapter.book.orders = {UUID_1: order(UUID_1)}
    player.put(Probe())
    ready, *seen = player.put(answer("probe#1", listed(*(uuid(n) for n in range(100)))))
    assert ready == Ready(Route.HTTP, 0) and len(seen) == 100 and len(player.adapter.book.orders) == 101
    player.put(Probe())
    over = listed(*(uuid(n) for n in range(100, 200)), status="Closed")
    player(answer("probe#2", over), Ready(Route.HTTP, 0))
    assert len(player.adapter.book.orders) == 101


def test_the_http_lane_probes_and_reads_as_soon_as_it_is_up() -> None:
    player = Player(make())
    player(
        Opened(Route.HTTP, 0),
        Asked("probe#1", ACTIVE),
        Asked("orders#2", ACTIVE),
        WakeAfter("orders#2", 0.24),
        Asked("orders#3", STOPS),
        WakeAfter("orders#3", 0.24),
        CallLost("probe#1", True, "gone"),
        NotReady(Route.HTTP, 0, "gone"),
    )


# ── the WebSocket (§5) ────────────────────────────────────────────────────────────────────────────────────────────

HELLO = payload("kuna/handshake-request")
LOGIN = {"event": "login", "data": "single-key", "cid": 2}
TOKEN = payload("kuna/set-auth-token")


def subscribe(channel: str, cid: int) -> dict[str, Any]:
    return {"event": "#subscribe", "data": {"channel": channel}, "cid": cid}


def opened(player: Player, conn: int = 1) -> Player:
    player(
        Opened(Route.WS, conn), Frame(conn, HELLO), WakeAfter(f"handshake {conn}", 5.0), WakeAfter(f"beat {conn}", 8.0)
    )
    return player


def logging_in(player: Player | None = None, conn: int = 1) -> Player:
    player = opened(player or play(), conn)
    player(hears(conn, payload("kuna/handshake")), Frame(conn, LOGIN), WakeAfter(f"login {conn}", 5.0))
    return player


def subscribing(conn: int = 1) -> Player:
    player = logging_in(conn=conn)
    player(hears(conn, TOKEN), Frame(conn, subscribe("order", 3)), WakeAfter(f"order {conn}", 5.0))
    player(hears(conn, {"rid": 2}))
    return player


def ready(conn: int = 1) -> Player:
    player = subscribing(conn)
    player(hears(conn, {"rid": 3}), Ready(Route.WS, conn), Frame(conn, subscribe("accounts", 4)))
    player(hears(conn, {"rid": 4}))
    return player


def push(status: str, one: str = UUID_1, **more: Any) -> Received:
    data = {"id": one, "status": status, "pair": "BTC_USDT"}
    return hears(1, {"event": "#publish", "data": {"channel": "order", "data": {"event": "x", "data": data}}, **more})


def test_the_token_may_come_before_the_answer_to_the_login() -> None:
    ready()


def test_the_token_may_come_after_the_answer_to_the_login() -> None:
    player = logging_in()
    player(
        hears(1, {"rid": 2}),
        Frame(1, subscribe("order", 3)),
        WakeAfter("order 1", 5.0),
        hears(1, TOKEN),
        hears(1, {"rid": 3}),
        Ready(Route.WS, 1),
        Frame(1, subscribe("accounts", 4)),
    )


def test_a_token_without_a_request_changes_nothing() -> None:
    ready()(hears(1, TOKEN))
    opened(play())(hears(1, TOKEN))


def test_without_a_single_key_the_lane_is_ready_after_the_handshake() -> None:
    player = opened(play(auth="hmac", ws_login="none"))
    player(hears(1, payload("kuna/handshake")), Ready(Route.WS, 1))
    player.put(Opened(Route.HTTP, 0))
    opened(player, 2)(hears(2, payload("kuna/handshake")), Ready(Route.WS, 2))


def test_the_pair_does_not_log_in_on_the_websocket() -> None:
    logging_in(play(auth="hmac"))


def test_a_subscription_without_a_snapshot_is_followed_by_a_read_if_the_other_lane_is_up() -> None:
    player = Player(make())
    player.put(Opened(Route.HTTP, 0))
    player.put(Opened(Route.WS, 1))
    for message in (payload("kuna/handshake"), {"rid": 2}):
        player.put(hears(1, message))
    player(
        hears(1, {"rid": 3}),
        Ready(Route.WS, 1),
        Frame(1, subscribe("accounts", 4)),
        Asked("orders#4", ACTIVE),
        WakeAfter("orders#4", 0.24),
        Asked("orders#5", STOPS),
        WakeAfter("orders#5", 0.24),
    )
    player.put(Closed(Route.HTTP, 0, "gone"))
    player.put(Opened(Route.WS, 2))
    for message in (payload("kuna/handshake"), {"rid": 2}):
        player.put(hears(2, message))
    player(hears(2, {"rid": 3}), Ready(Route.WS, 2), Frame(2, subscribe("accounts", 4)))


def test_a_login_that_is_not_answered_gives_the_connection_up_though_the_venue_sends_pings() -> None:
    player = logging_in()
    player.put(Received(1, b""))
    why = "no answer to the login within 5 s"
    player(Pause(5), VenueTimerFired("login 1"), CloseConnection(1, why))


def test_a_refused_key_is_fatal_even_after_the_token() -> None:
    words = "login refused: REQUEST_INVALID_KEY Wrong api key or user blocked"
    player = logging_in()
    refusal = payload("kuna/login-refused")
    player(hears(1, refusal), NotReady(Route.WS, 1, words, fatal=True), CloseConnection(1, words))
    player = logging_in()
    player.put(hears(1, TOKEN))
    player(hears(1, refusal), NotReady(Route.WS, 1, words, fatal=True), CloseConnection(1, words))


@pytest.mark.parametrize(("rid", "what"), [(1, "#handshake"), (2, "login"), (3, "order")])
def test_another_refusal_gives_the_connection_up(rid: int, what: str) -> None:
    player = {1: lambda: opened(play()), 2: logging_in, 3: subscribing}[rid]()
    words = f"{what} refused: BUSY try again"
    refusal = {"rid": rid, "error": {"message": "try again", "extensions": {"code": "BUSY"}}}
    player(hears(1, refusal), NotReady(Route.WS, 1, words), CloseConnection(1, words))


def test_a_subscription_that_no_kill_needs_may_be_refused() -> None:
    ready()(hears(1, {"rid": 4, "error": "no"}), UnexplainedMessage("accounts refused:  no"))


@pytest.mark.parametrize("rid", [9, 1, "2", None, 2.0, [2], {"a": 1}])
def test_an_answer_to_nothing_is_noise(rid: object) -> None:
    ready()(hears(1, {"rid": rid}), UnexplainedMessage("an answer to no request of ours"))


def test_an_empty_frame_is_answered_by_one_and_no_storm_comes_of_it() -> None:
    ready()(
        Received(1, b""),
        Frame(1, b""),
        Received(1, ""),  # an echo
        Pause(0.5),
        Received(1, ""),
        Frame(1, b""),
    )


def test_beats_go_out_unasked_for() -> None:
    ready()(
        Pause(8), Received(1, b""), Frame(1, b""), VenueTimerFired("beat 1"), Frame(1, b""), WakeAfter("next beat", 8.0)
    )


def test_no_beat_goes_out_before_the_handshake() -> None:
    opened(play())(Pause(8), VenueTimerFired("beat 1"), WakeAfter("next beat", 8.0))


@pytest.mark.parametrize(("said", "timeout_s"), [(20000, 20.0), (10500, 10.5), (0, 20.0), (None, 20.0), ("5", 20.0)])
def test_a_connection_that_is_silent_for_the_venues_timeout_is_given_up(said: object, timeout_s: float) -> None:
    player = opened(play())
    player(hears(1, {"rid": 1, "data": {"pingTimeout": said}}), Frame(1, LOGIN), WakeAfter("login 1", 5.0))
    first = min(8.0, timeout_s)
    player(Pause(first), VenueTimerFired("beat 1"), Frame(1, b""), WakeAfter("beat 2", min(8.0, timeout_s - first)))
    rest = timeout_s - first
    player(Pause(rest - 0.5), VenueTimerFired("beat 2"), Frame(1, b""), WakeAfter("beat 3", 0.5))
    player(Pause(0.5), VenueTimerFired("beat 3"), CloseConnection(1, f"silent for {timeout_s:g} s"))


def test_a_handshake_without_data_is_one() -> None:
    opened(play())(hears(1, {"rid": 1}), Frame(1, LOGIN), WakeAfter("login 1", 5.0))


@pytest.mark.parametrize("frame", [Received(1, b""), Received(1, b"x"), hears(1, {"event": "#publish", "data": {}})])
def test_any_frame_is_a_sign_of_life(frame: Received) -> None:
    player = ready()
    player.put(Pause(19.9))
    player.put(frame)
    player.put(Pause(0.1))
    outputs = player.put(VenueTimerFired("beat 1"))
    assert not any(isinstance(output, CloseConnection) for output in outputs) or frame.text == b"x"


def test_a_closed_connection_is_forgotten_with_its_timers() -> None:
    player = ready()
    player(
        Closed(Route.WS, 1, "gone"),
        NotReady(Route.WS, 1, "gone"),
        VenueTimerFired("beat 1"),
        Received(1, b""),
        hears(1, {"rid": 3}),
        push("Open"),
    )
    assert player.adapter.book.orders == {}


def test_the_documents_push_takes_the_order_out() -> None:
    player = ready()
    one = "158cf5f9-b818-458a-a5ae-61d04b50fef4"
    player.adapter.book.orders = {one: order(one)}
    player(hears(1, payload("kuna/order-push")))
    assert player.adapter.book.orders == {}


def test_a_push_with_one_level_less_is_read_too() -> None:
    message = {"event": "#publish", "data": {"channel": "order", "data": {"id": UUID_1, "status": "Open"}}}
    ready()(hears(1, message), OrderSeen(Order(UUID_1, "", OrderState.LIVE, "Open")))


def test_an_event_with_a_number_is_acknowledged() -> None:
    ready()(push("Open", cid=7), Frame(1, {"rid": 7}), OrderSeen(order(UUID_1)), push("Open", cid="7"))


@pytest.mark.parametrize("data", [{}, {"data": {}}, {"data": {"status": "Open"}}, [], 7, None, {"data": {"id": [1]}}])
def test_an_order_push_that_cannot_be_read_is_noise(data: object) -> None:
    message = {"event": "#publish", "data": {"channel": "order", "data": data}}
    ready()(hears(1, message), UnexplainedMessage("an order push that cannot be read"))


@pytest.mark.parametrize("channel", ["accounts", "trade"])
def test_pushes_that_no_kill_needs_are_let_go(channel: str) -> None:
    ready()(hears(1, {"event": "#publish", "data": {"channel": channel, "data": {"data": {"assets": []}}}}))


@pytest.mark.parametrize("channel", ["btc_usdt@ticker", None, 7, ["order"]])
def test_pushes_on_other_channels_are_noise(channel: object) -> None:
    message = {"event": "#publish", "data": {"channel": channel, "data": {"data": {"id": UUID_1}}}}
    ready()(hears(1, message), UnexplainedMessage("a push on a channel that is not subscribed"))


def test_being_logged_out_or_kicked_out_gives_the_connection_up() -> None:
    words = "the venue has logged us out"
    ready()(hears(1, {"event": "#removeAuthToken"}), NotReady(Route.WS, 1, words), CloseConnection(1, words))
    words = "the venue has ended the order subscription"
    kicked = {"event": "#kickOut", "data": {"channel": "order", "message": "x"}}
    ready()(hears(1, kicked), NotReady(Route.WS, 1, words), CloseConnection(1, words))
    ready()(hears(1, {"event": "#kickOut", "data": {"channel": "accounts"}}))


@pytest.mark.parametrize("message", [{}, {"event": "x"}, {"event": "#publish"}, {"event": ["#publish"]}, {"data": {}}])
def test_messages_that_say_nothing_are_noise(message: dict[str, Any]) -> None:
    ready()(hears(1, message), UnexplainedMessage("a message that no document explains"))
    ready()(Received(1, b"[1]"), UnexplainedMessage("a frame that is not a JSON object"))


# ── plan, drill, figures ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_plan_lists_the_batches_singles_and_lists_that_a_strike_begins_with() -> None:
    player = play(batch_orders=2)
    malformed = "not a uuid"
    know(player, uuid(1), uuid(2), uuid(3), malformed)
    plan = player.adapter.describe_strike()
    shown = [
        f"{call.request.method} {call.request.target} {call.request.body.decode()}"
        for call in calls(player.put(Kill()))
    ]
    assert [line.split(" (", 1)[0] for line in plan] == [line.strip() for line in shown]
    assert plan[2] == f'{ONE} {{"orderId":"{malformed}"}}' and len(plan) == 4
    assert player.adapter.describe_strike() == plan  # and nothing has changed by it


NOBODYS = "00000000-0000-4000-8000-000000000000"


def test_a_drill_cancels_a_well_formed_id_that_no_order_has() -> None:
    play()(
        Drill(),
        Asked("drill#1", MULTI, body=orjson.dumps({"orderIds": [NOBODYS]})),
        WakeAfter("drill#1", DRILL_WITHIN_S),
        answer("drill#1", done(NOBODYS, success=False)),
        Drilled(Route.HTTP, True, 0, "HTTP 200"),
    )
    assert Kuna.DRILLS == (Route.HTTP,)


def test_a_drill_is_signed_like_a_strike() -> None:
    player = play(auth="hmac")
    for number in range(2):
        player.put(Drill())
        assert nonce(player) == number and player.calls[-1].request.headers["signature"]


def test_the_equity_is_the_sum_of_the_available_and_the_locked_balance() -> None:
    play()(
        Measure(),
        Asked("balance#1", "GET /v4/private/getBalance"),
        Pause(0.2),
        answer("balance#1", payload("kuna/balance")),
        Equity({"USDT": Decimal("12.5"), "UAH": Decimal("7234.6")}, START.mono_ns),
    )


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, {"data": {}}, "no list"),
        (200, {}, "no list"),
        (200, {"data": None}, "no list"),
        (200, {"data": []}, "none is listed"),
        (200, [], "none is listed"),
        (200, [{}], "an item that cannot be read"),
        (200, [{"currency": "USDT", "balance": "1", "lockBalance": None}], "an item that cannot be read"),
        (200, [{"currency": "USDT", "balance": "NaN", "lockBalance": "0"}], "an item that cannot be read"),
        (200, [{"currency": "USDT", "balance": "1"}], "an item that cannot be read"),
        (200, [{"currency": "USDT", "balance": "x", "lockBalance": "1"}], "an item that cannot be read"),
        (200, [{"currency": "", "balance": "1", "lockBalance": "1"}], "an item that cannot be read"),
        (200, [{"currency": "a", "balance": "1", "lockBalance": "1"}] * 2, "an item that cannot be read"),
        (200, [1], "an item that cannot be read"),
        (401, errors("no"), "HTTP 401 BAD_REQUEST no"),
    ],
)
def test_balances_that_are_not_whole_are_none(status: int, body: object, why: str) -> None:
    play()(
        Measure(),
        Asked("balance#1", "GET /v4/private/getBalance"),
        answer("balance#1", body, status),
        UnexplainedMessage(f"the account cannot be measured: {why}"),
    )


def holds(**balances: str) -> list[dict[str, str]]:
    return [{"currency": name, "balance": held, "lockBalance": "0"} for name, held in balances.items()]


def balances(player: Player, listed: object) -> list[dict[str, Decimal]]:
    """Measure; return the amounts that are told."""
    player.put(Measure())
    facts = player.put(answer(player.calls[-1].tag, listed))
    return [dict(fact.amounts) for fact in facts if isinstance(fact, Equity)]


def test_an_account_whose_balances_are_all_zero_is_worth_nothing() -> None:
    assert balances(play(), holds(USDT="0", BTC="0.00")) == [{"USDT": Decimal(0), "BTC": Decimal(0)}]


def test_a_currency_that_is_not_listed_any_more_is_sold_unless_the_venue_lists_those_of_which_there_is_nothing() -> (
    None
):
    player = play()
    assert balances(player, holds(USDT="100", UAH="5"))
    assert balances(player, holds(UAH="4000")) == [{"UAH": Decimal(4000)}]
    assert balances(player, holds(USDT="100", UAH="5", BTC="0"))
    assert not balances(player, holds(UAH="5", BTC="0"))
    assert not balances(player, holds(UAH="5"))
    assert balances(player, holds(UAH="4000", USDT="0")) == [{"UAH": Decimal(4000)}]


def test_balances_that_are_lost_are_asked_for_again_in_time() -> None:
    play()(Measure(), Asked("balance#1", "GET /v4/private/getBalance"), CallLost("balance#1", True, "gone"))


def test_orders_are_pushed_to_those_who_log_in() -> None:
    assert make().pushes_orders is True
    assert make(auth="hmac", ws_login="none").pushes_orders is False
