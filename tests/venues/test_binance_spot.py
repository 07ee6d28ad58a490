"""What no other venue has: Binance spot's logins, frames by symbol, order lists, pushes, checks (binance.md)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from kill_switch.core.domain import CancelOutcome, OrderState, Route
from kill_switch.dispatch.connect import sweep_timings
from kill_switch.venues.binance.signing import USED_FOR_MS, signer_of, ws_payload
from kill_switch.venues.binance.spot import NO_ORDER, BinanceSpot, BinanceSpotOptions
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
    OrdersRead,
    Output,
    Outputs,
    Ready,
    Received,
    ReplaceConnection,
    Replied,
    Send,
    Transferred,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness.keys import rsa_key, rsa_pem
from tests.harness.venue_playbook import START, Drill, Kill, Measure, Pause, Player, Probe, Read, answer, hears, payload
from tests.harness.venue_profiles import SECOND_ROUTE_S

KEY, SECRET = "binance-key-0123456789", "binance-secret-0123456789"
SEED = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"
HMAC = {"api_key": KEY, "api_secret": SECRET}
ED25519 = {"api_key": KEY, "private_key": SEED}
UNKNOWN = {"code": -2011, "msg": "Unknown order sent."}


def spot(secrets: dict[str, str] | None = None, **options: Any) -> BinanceSpot:
    return BinanceSpot(BinanceSpotOptions(**options), secrets or HMAC, SECOND_ROUTE_S)


def calls_of(outputs: Iterable[Output], path: str = "") -> list[Call]:
    return [output for output in outputs if isinstance(output, Call) and path in output.request.target]


def frames_of(outputs: Iterable[Output]) -> list[dict[str, Any]]:
    return [orjson.loads(output.text) for output in outputs if isinstance(output, Send)]


def order(symbol: str, order_id: int, status: str = "NEW", **more: object) -> dict[str, object]:
    return {"symbol": symbol, "orderId": order_id, "orderListId": -1, "status": status, **more}


def event(name: str, **fields: object) -> Received:
    return hears(1, {"subscriptionId": 0, "event": {"e": name, **fields}})


def report(symbol: str, order_id: int, status: str, **more: object) -> Received:
    fields = {"s": symbol, "i": order_id, "X": status, "x": status, "c": "new", "C": "", **more}
    return event("executionReport", **fields)


def ok(number: object, result: object) -> Received:
    return hears(1, {"id": number, "status": 200, "result": result})


def refused(number: object, status: int, code: int, text: str, **data: object) -> Received:
    error = {"code": code, "msg": text, **({"data": data} if data else {})}
    return hears(1, {"id": number, "status": status, "error": error})


def ready(adapter: BinanceSpot | None = None, *orders: dict[str, object], lists: object = ()) -> Player:
    """Return a player with both lanes ready; the lists show these orders and order lists."""
    player = Player(adapter or spot())
    player.put(Opened(Route.WS, 1))
    if player.adapter.requests.signer.logs_on:  # type: ignore[attr-defined]
        player.put(ok("logon", {"apiKey": KEY}))
    player.put(ok("subscribe", {"subscriptionId": 0}))
    answer_all(player, player.put(Opened(Route.HTTP, 0)), *orders, lists=lists)
    player.put(Pause(1))
    return player


def answer_all(player: Player, outputs: Outputs, *orders: dict[str, object], lists: object = ()) -> Outputs:
    """Answer each call: the lists with these orders, any other call with nothing."""
    answers: Outputs = ()
    for call in calls_of(outputs):
        path = urlsplit(call.request.target).path
        body = orders if path.endswith("v3/openOrders") else lists if path.endswith("openOrderList") else {}
        came = player.put(answer(call.tag, list(body) if isinstance(body, tuple) else body))
        answers += (*came, *answer_all(player, came, *orders, lists=lists))
    return answers


def over_rest(*orders: dict[str, object]) -> Player:
    player = ready(None, *orders)
    player.put(Closed(Route.WS, 1, "gone"))
    return player


# ── logins ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_hmac_key_signs_the_subscription_and_each_command() -> None:
    player = Player(spot())
    [login] = frames_of(player.put(Opened(Route.WS, 1)))
    assert login["method"] == "userDataStream.subscribe.signature"
    assert Ready(Route.WS, 1) in player.put(ok("subscribe", {"subscriptionId": 0}))
    player.put(report("BTCUSDT", 7, "NEW"))
    [frame] = frames_of(player.put(Kill()))
    for each in (login, frame):
        signature = each["params"].pop("signature")
        assert each["params"]["apiKey"] == KEY and each["params"]["timestamp"] == START.wall_ms
        assert signature == signer_of(HMAC).sign(ws_payload(each["params"]))


def test_an_ed25519_key_logs_the_session_on_and_its_commands_are_only_timed() -> None:
    player = Player(spot(ED25519))
    [login] = frames_of(player.put(Opened(Route.WS, 1)))
    signature = login["params"].pop("signature")
    assert login["method"] == "session.logon" and signature == signer_of(ED25519).sign(ws_payload(login["params"]))
    assert frames_of(player.put(ok("logon", {"apiKey": KEY}))) == [
        {"id": "subscribe", "method": "userDataStream.subscribe", "params": {}}
    ]
    assert Ready(Route.WS, 1) in player.put(ok("subscribe", {"subscriptionId": 0}))
    player.put(report("BTCUSDT", 7, "NEW"))
    [frame] = frames_of(player.put(Kill()))
    params = {"symbol": "BTCUSDT", "recvWindow": 30_000, "timestamp": START.wall_ms}
    assert (frame["method"], frame["params"]) == ("openOrders.cancelAll", params)


@pytest.mark.parametrize("number", ["logon", "subscribe"])
def test_a_refused_login_names_the_step_and_is_fatal_for_a_wrong_key(number: str) -> None:
    player = Player(spot(ED25519))
    player.put(Opened(Route.WS, 1))
    if number == "subscribe":
        player.put(ok("logon", {}))
    outputs = player.put(refused(number, 401, -2015, "Invalid API-key, IP, or permissions for action."))
    [unready] = [output for output in outputs if isinstance(output, NotReady)]
    assert unready.fatal and "-2015" in unready.why and isinstance(outputs[1], CloseConnection)


def test_a_revoked_key_is_an_error_without_an_id_and_ends_the_session_for_good() -> None:
    outputs = ready().put(refused(None, 401, -2015, "Invalid API-key, IP, or permissions for action."))
    assert any(isinstance(output, NotReady) and output.fatal for output in outputs)
    other = ready().put(refused(None, 400, -1100, "Illegal characters found in a parameter."))
    assert [type(output) for output in other] == [UnexplainedMessage]  # the session goes on


def test_a_connection_is_given_up_when_its_events_end_and_replaced_when_the_host_goes_down() -> None:
    outputs = ready().put(event("eventStreamTerminated", E=1))
    assert any(isinstance(output, CloseConnection) for output in outputs)
    assert ready().put(hears(1, {"event": {"e": "serverShutdown", "E": 1}})) == (ReplaceConnection(1),)


# ── strikes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_strike_is_one_frame_for_each_symbol_the_fullest_first_with_the_lists_beside() -> None:
    player = ready(None, order("ETHUSDT", 1), order("BTCUSDT", 2), order("BTCUSDT", 3))
    outputs = player.put(Kill())
    assert [frame["params"]["symbol"] for frame in frames_of(outputs)] == ["BTCUSDT", "ETHUSDT"]
    assert [urlsplit(call.request.target).path for call in calls_of(outputs)] == [
        "/api/v3/openOrders",
        "/api/v3/openOrderList",
    ]
    assert not calls_of(player.put(Kill()), "openOrder")  # later strikes go by what is known


def test_a_symbol_whose_order_only_a_lagging_list_has_omitted_is_struck_in_the_first_strike_alone() -> None:
    player = ready(None, order("BTCUSDT", 2), order("ETHUSDT", 3))
    answer_all(player, player.put(Read()), order("ETHUSDT", 3))  # 1 of 2 rows, for up to 20 s (§ 10)
    assert [frame["params"]["symbol"] for frame in frames_of(player.put(Kill()))] == ["ETHUSDT", "BTCUSDT"]
    assert [frame["params"]["symbol"] for frame in frames_of(player.put(Kill()))] == ["ETHUSDT"]


def test_a_symbol_that_only_a_list_shows_is_struck_as_the_list_comes() -> None:
    player = ready(None, order("BTCUSDT", 2))
    lists = calls_of(player.put(Kill()))
    outputs = player.put(answer(lists[0].tag, [order("BTCUSDT", 2), order("ETHUSDT", 9)]))
    assert [frame["params"]["symbol"] for frame in frames_of(outputs)] == ["ETHUSDT"]
    legs = [{"symbol": "XRPUSDT", "orderId": 11}, {"symbol": "XRPUSDT", "orderId": 12}]
    held = {"orderListId": 5, "contingencyType": "OTO", "listOrderStatus": "EXECUTING", "orders": legs}
    outputs = player.put(answer(lists[1].tag, [held]))
    assert [frame["params"]["symbol"] for frame in frames_of(outputs)] == ["XRPUSDT"]


def test_without_a_socket_each_symbol_is_struck_over_rest() -> None:
    player = over_rest(order("ETHUSDT", 1), order("BTCUSDT", 2), order("BTCUSDT", 3))
    outputs = player.put(Kill())
    struck = [call for call in calls_of(outputs) if call.cancel and call.request.method == "DELETE"]
    assert [parse_qs(urlsplit(call.request.target).query)["symbol"] for call in struck] == [["BTCUSDT"], ["ETHUSDT"]]
    assert player.adapter.strike_calls() == 4


def test_the_twin_leaves_over_rest_if_a_frame_is_not_answered_or_is_refused() -> None:
    player = ready(None, order("BTCUSDT", 2))
    answer_all(player, calls := player.put(Kill()), order("BTCUSDT", 2))
    number = frames_of(calls)[0]["id"]
    twin = player.put(refused(number, 503, -1008, "Server is currently overloaded with other requests."))
    assert [call.request.method for call in calls_of(twin)] == ["DELETE"]
    assert "/api/v3/openOrders?symbol=BTCUSDT&" in calls_of(twin)[0].request.target


def test_an_array_of_orders_and_order_lists_names_each_order_that_was_hit() -> None:
    player = ready(None, order("BTCUSDT", 12569099453), order("BTCUSDT", 12569099454))
    player.adapter.book.trace()
    number = frames_of(struck := player.put(Kill()))[0]["id"]
    answer_all(player, struck, order("BTCUSDT", 12569099453), order("BTCUSDT", 12569099454))
    [answered] = player.put(ok(number, payload("binance/cancel-all")))
    assert answered == CancelAnswered(CancelOutcome.ACCEPTED, "2 order(s) cancelled", 2)
    assert set(player.adapter.book.ended) == {"12569099453", "12569099454"}


def test_an_empty_symbol_is_no_failure_and_no_proof() -> None:
    player = ready(None, order("BTCUSDT", 2))
    number = frames_of(struck := player.put(Kill()))[0]["id"]
    answer_all(player, struck, order("BTCUSDT", 2))
    [answered] = player.put(hears(1, {"id": number, "status": 400, "error": UNKNOWN}))
    assert answered == CancelAnswered(CancelOutcome.ACCEPTED, "no open order", 0)
    assert set(player.adapter.book.orders) == {"2"}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-2011, "Market is closed."),
        (-2011, "This action is disabled on this account."),
        (-2010, "This account may not place or cancel orders."),
        (-1013, "Market is closed."),
        (-1121, "Invalid symbol."),
    ],
)
def test_an_order_that_the_venue_cannot_cancel_now_makes_the_strike_a_refusal(code: int, text: str) -> None:
    player = over_rest(order("BTCUSDT", 2))
    outputs = player.put(Kill())
    [cancel] = [call for call in calls_of(outputs) if call.request.method == "DELETE"]
    answered = player.put(answer(cancel.tag, {"code": code, "msg": text}, 400))
    lists = tuple(call for call in calls_of(outputs) if call.request.method == "GET")
    answered += answer_all(player, lists, order("BTCUSDT", 2))
    [fact] = [output for output in answered if isinstance(output, CancelAnswered)]
    assert fact.answer is CancelOutcome.REFUSED and text in fact.evidence
    assert set(player.adapter.book.orders) == {"2"}


@pytest.mark.parametrize("lane", ["frames", "requests"])
def test_while_the_venue_refuses_cancels_a_strike_tries_one_symbol_because_refused_requests_lead_to_a_ban(
    lane: str,
) -> None:
    orders = [order(f"S{number}", number + 1) for number in range(60)]
    player = ready(None, *orders) if lane == "frames" else over_rest(*orders)
    words = "Too much request weight used."
    outputs = player.put(Kill())
    for call in calls_of(outputs):
        player.put(Replied(call.tag, 429, {"retry-after": "50"}, orjson.dumps({"code": -1003, "msg": words})))
    for frame in frames_of(outputs):
        until = player.now.wall_ms + 50_000
        player.put(refused(frame["id"], 429, -1003, words, serverTime=player.now.wall_ms, retryAfter=until))
    for number in range(2, 5):
        player.put(Pause(1.0))
        outputs = player.put(Kill(number))
        assert 1 <= len(calls_of(outputs)) + len(frames_of(outputs)) <= 2  # and the one with the most orders
    for call in calls_of(outputs):
        player.put(answer(call.tag, []))
    for frame in frames_of(outputs):
        player.put(ok(frame["id"], []))
    outputs = player.put(Kill(5))
    assert len(calls_of(outputs)) + len(frames_of(outputs)) >= 58


def test_frames_that_are_refused_for_the_limit_have_no_twins_because_these_draw_from_the_same_limit() -> None:
    player = ready(None, *(order(f"S{number}", number + 1) for number in range(60)))
    answer_all(player, outputs := player.put(Kill()), *(order(f"S{number}", number + 1) for number in range(60)))
    replies: Outputs = ()
    for frame in frames_of(outputs):
        replies += player.put(refused(frame["id"], 429, -1003, "Too much request weight used."))
    assert not calls_of(replies)
    [fact] = [output for output in replies if isinstance(output, CancelAnswered)]
    assert fact.answer is CancelOutcome.UNKNOWN and "-1003" in fact.evidence


def test_a_used_up_limit_pauses_all_but_cancels_until_the_moment_that_the_venue_names() -> None:
    player = ready(None, order("BTCUSDT", 2))
    number = frames_of(player.put(Kill()))[0]["id"]
    until = START.wall_ms + 1000 + 30_000
    player.put(refused(number, 418, -1003, "IP banned", serverTime=START.wall_ms + 1000, retryAfter=until))
    assert player.adapter.budget.named_pause_s(player.now) == pytest.approx(30.0)
    assert not calls_of(player.put(Read())) and frames_of(player.put(Kill()))


WALLET_LIMITED = b'{"code":-1003,"msg":"Too many requests; current limit of IP is 12000 requests per minute."}'


@pytest.mark.parametrize(("status", "pauses"), [(429, False), (403, False), (418, True)])
def test_a_limit_of_one_wallet_call_pauses_that_call_alone_and_a_ban_of_the_address_all_reads(
    status: int, pauses: bool
) -> None:
    player = ready(None, order("BTCUSDT", 2))
    [equity] = calls_of(player.put(Measure()), "asset/wallet/balance")
    reply = Replied(equity.tag, status, {"retry-after": "90"}, WALLET_LIMITED)
    assert player.adapter.calls.is_apart(reply) is not pauses  # so the daemon holds no housekeeping back
    player.put(reply)
    player.put(Closed(Route.WS, 1, "gone"))
    assert bool(player.adapter.reason_to_stay_disconnected(player.now)) is pauses
    assert bool(calls_of(player.put(Read()), "openOrders")) is not pauses
    for pause_s, is_measured in ((80, False), (11, True)):
        player.put(Pause(pause_s))
        assert bool(calls_of(player.put(Measure()))) is is_measured


def test_the_weight_that_the_venue_states_as_used_is_counted_from_frames_and_from_headers() -> None:
    player = ready()
    limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
    player.put(hears(1, {"id": 99, "status": 200, "result": [], "rateLimits": [{**limit, "count": 3000}]}))
    assert player.adapter.budget.share == pytest.approx(0.5)
    [call, *_] = calls_of(player.put(Read()))
    player.put(answer(call.tag, [])._replace(headers={"x-mbx-used-weight-1m": "4500"}))
    assert player.adapter.budget.share == pytest.approx(0.25)


@pytest.mark.parametrize(("secrets", "weight"), [(HMAC, 4), (ED25519, 6)], ids=["HMAC", "Ed25519"])
def test_a_connection_and_its_login_are_counted_because_the_venue_counts_them(
    secrets: dict[str, str], weight: int
) -> None:
    player = Player(spot(secrets))
    player.put(Opened(Route.WS, 1))
    [count] = player.adapter.budget.counts.values()
    assert count.fullness(player.now.mono_ns) * count.pool.size == pytest.approx(weight)


def test_a_ban_that_a_login_meets_pauses_reads_and_connections_until_its_end() -> None:
    player = Player(spot())
    player.put(Opened(Route.WS, 1))
    player.put(refused("subscribe", 418, -1003, "banned", serverTime=START.wall_ms, retryAfter=START.wall_ms + 60_000))
    assert player.adapter.budget.named_pause_s(player.now) == pytest.approx(60.0)
    assert "without requests" in player.adapter.reason_to_stay_disconnected(player.now)
    player.put(Pause(60))
    assert player.adapter.reason_to_stay_disconnected(player.now) == ""


def test_all_hosts_of_the_api_share_one_pool() -> None:
    hosts = ("api", "api1", "api4", "api-gcp")
    accounts = {
        host: spot({**HMAC, "api_key": f"key-{host}-0123456789"}, rest_url=f"https://{host}.binance.com")
        for host in hosts
    }
    sweep_timings(accounts)
    assert len({id(adapter.budget.counts["weight"]) for adapter in accounts.values()}) == 1


def test_an_http_lane_that_comes_and_goes_does_not_use_the_limit_up() -> None:
    player, weight = ready(), 0.0
    for _ in range(40):
        player.put(Closed(Route.HTTP, 0, "reset"))
        player.put(Pause(0.25))
        for call in calls_of(player.put(Opened(Route.HTTP, 0))):
            cost = {"openOrders": 6 if "symbol=" in call.request.target else 80, "openOrderList": 6, "account": 20}
            weight += cost.get(urlsplit(call.request.target).path.removeprefix("/api/v3/"), 0)
            player.put(answer(call.tag, []))
    assert weight < 3000 and not player.adapter.limits.first_read_wait_s(player.now)


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_equal_ids_of_two_symbols_are_two_orders() -> None:
    player = ready(None, order("BTCUSDT", 7), order("ETHUSDT", 7))
    book = player.adapter.book
    assert {(each.id, each.symbol) for each in book.orders.values()} == {("7", "BTCUSDT"), ("7@ETHUSDT", "ETHUSDT")}
    player.put(report("ETHUSDT", 7, "CANCELED"))
    assert set(book.orders) == {"7"}
    player.put(report("ETHUSDT", 7, "NEW"))
    for call in calls_of(player.put(Read())):
        outputs = player.put(answer(call.tag, []))
    [look_up] = calls_of(outputs, "/api/v3/order?symbol=ETHUSDT&orderId=7&")
    assert look_up.request.method == "GET"


def test_a_pending_leg_of_an_order_list_is_alive_although_open_orders_lacks_it() -> None:
    legs = [{"symbol": "BTCUSDT", "orderId": 11}, {"symbol": "BTCUSDT", "orderId": 12}]
    held = {"orderListId": 5, "contingencyType": "OTO", "listOrderStatus": "EXECUTING", "orders": legs}
    player = ready(None, order("BTCUSDT", 11), lists=[held])
    assert {each.id: each.state for each in player.adapter.book.orders.values()} == {
        "11": OrderState.LIVE,
        "12": OrderState.LIVE,
    }
    answer_all(player, player.put(Read()), lists=[held | {"listOrderStatus": "ALL_DONE"}])
    assert not player.adapter.book.orders


@pytest.mark.parametrize("broken", [{"orders": []}, {"orders": [7]}, {}, {"orders": "all"}])
def test_an_order_list_whose_legs_cannot_be_read_makes_the_list_incomplete(broken: dict[str, object]) -> None:
    player = ready()
    outputs = answer_all(player, player.put(Read()), lists=[{"listOrderStatus": "EXECUTING", **broken}])
    [fact] = [output for output in outputs if isinstance(output, OrdersRead)]
    assert not fact.complete and "order-lists" in fact.why


def test_a_push_is_of_the_order_and_not_of_the_cancel_that_has_ended_it() -> None:
    player = ready()
    [_seen, placed] = player.put(report("BTCUSDT", 7, "NEW", c="mine"))
    assert isinstance(placed, OrderPlaced) and placed.order.id == "7"
    assert player.put(report("BTCUSDT", 7, "CANCELED", c="a-cancel", C="mine")) == ()
    assert not player.adapter.book.orders


def test_the_pushed_legs_of_an_order_list_are_alive_until_their_end_is_pushed() -> None:
    player = ready()
    legs = [{"s": "BTCUSDT", "i": 11}, {"s": "BTCUSDT", "i": 12}]
    player.put(event("listStatus", s="BTCUSDT", g=5, c="OTO", l="EXEC_STARTED", L="EXECUTING", O=legs))
    assert set(player.adapter.book.orders) == {"11", "12"}
    player.put(report("BTCUSDT", 11, "FILLED"))
    player.put(event("listStatus", s="BTCUSDT", g=5, c="OTO", l="UPDATED", L="EXECUTING", O=legs))
    assert set(player.adapter.book.orders) == {"12"}


# ── signatures made ahead ─────────────────────────────────────────────────────────────────────────────────────────


class CountingSigner:
    def __init__(self, adapter: BinanceSpot) -> None:
        self.count = 0
        signer = adapter.requests.signer
        adapter.requests.signer = signer._replace(sign=self.sign)
        self._sign = signer.sign

    def sign(self, text: bytes) -> str:
        self.count += 1
        return self._sign(text)


def fire_timers(player: Player, outputs: Outputs, seconds: float) -> None:
    """Let the timers that renew signatures run for so long."""
    due = [output for output in outputs if isinstance(output, WakeAfter) and output.seconds < 0.2]
    for _ in range(int(seconds / 0.1)):
        player.put(Pause(0.1))
        due = [
            output
            for timer in due
            for output in player.put(VenueTimerFired(timer.tag))
            if isinstance(output, WakeAfter) and output.seconds < 0.2
        ]


def test_an_rsa_key_signs_a_strike_ahead_and_the_strike_itself_signs_nothing() -> None:
    adapter = spot({"api_key": KEY, "private_key": rsa_pem(2048)})
    player = Player(adapter)
    opened = player.put(Opened(Route.WS, 1))
    player.put(ok("subscribe", {"subscriptionId": 0}))
    symbols = [f"S{number}USDT" for number in range(20)]
    answer_all(player, player.put(Opened(Route.HTTP, 0)), *(order(symbol, 1) for symbol in symbols))
    signer = CountingSigner(adapter)
    fire_timers(player, opened, 4.0)
    assert len(symbols) <= signer.count < 2 * len(symbols) + 5
    signer.count = 0
    outputs = player.put(Kill())
    frames = frames_of(outputs)
    assert len(frames) == len(symbols) and signer.count == 0
    now_ms = player.now.wall_ms
    for frame in frames:
        signature = base64.b64decode(frame["params"].pop("signature"))
        rsa_key(2048).public_key().verify(signature, ws_payload(frame["params"]), padding.PKCS1v15(), hashes.SHA256())
        assert 0 <= now_ms - frame["params"]["timestamp"] <= 4000
    player.put(Pause(USED_FOR_MS / 1000))  # nothing has renewed them: they are too old, and made again
    signer.count = 0
    frames = frames_of(player.put(Kill()))
    assert signer.count >= len(frames) == len(symbols)
    assert {frame["params"]["timestamp"] for frame in frames} == {player.now.wall_ms}


def test_a_refused_time_drops_the_signatures_that_were_made_ahead() -> None:
    adapter = spot({"api_key": KEY, "private_key": rsa_pem(2048)})
    player = ready(adapter, order("BTCUSDT", 1))
    signer = CountingSigner(adapter)
    adapter.requests.sign_ahead(adapter.requests.payload_at(symbol="BTCUSDT"), player.now)
    number = frames_of(player.put(Kill()))[0]["id"]
    signer.count = 0
    player.put(refused(number, 400, -1021, "Timestamp for this request is outside of the recvWindow."))
    frames_of(player.put(Kill()))
    assert signer.count


# ── checks at the start ───────────────────────────────────────────────────────────────────────────────────────────


def checked(**bodies: object) -> tuple[Player, Outputs]:
    """Let the HTTP lane come up, and answer the checks: the end of a path → its body."""
    player = Player(spot())
    outputs = player.put(Opened(Route.HTTP, 0))
    found: Outputs = ()
    for call in calls_of(outputs):
        path = urlsplit(call.request.target).path.rpartition("/sapi/v1/")[2].rpartition("/api/v3/")[2]
        body = bodies.get(path.replace("/", "_"), [] if "openOrder" in path else {})
        found += player.put(answer(call.tag, body))
    return player, found


def test_a_key_that_cannot_trade_or_read_is_not_ready_until_it_is_given_the_right() -> None:
    for right, words in (("enableSpotAndMarginTrading", "Enable Spot & Margin Trading"), ("enableReading", "Reading")):
        player, found = checked(account_apiRestrictions={right: False, "ipRestrict": True})
        unready = [output for output in found if isinstance(output, NotReady)]
        assert unready and all(each.fatal and words in each.why for each in unready)
        player.put(Pause(60))
        outputs = player.put(Probe())
        [rights] = calls_of(outputs, "apiRestrictions")
        player.put(answer(rights.tag, {right: True, "ipRestrict": True}))
        for call in calls_of(outputs, "/api/v3/openOrder"):
            assert Ready(Route.HTTP, 0) in player.put(answer(call.tag, []))


def test_an_account_that_may_not_trade_is_not_ready() -> None:
    _, found = checked(account={"canTrade": False})
    assert any(isinstance(output, NotReady) and "closed the account" in output.why for output in found)


def test_rights_that_no_kill_needs_are_named_as_warnings() -> None:
    player, found = checked(
        account_apiRestrictions={
            "enableReading": True,
            "enableSpotAndMarginTrading": True,
            "enableWithdrawals": True,
            "permitsUniversalTransfer": True,
            "ipRestrict": False,
        }
    )
    assert player.adapter.warnings == (
        "the key may withdraw",
        "the key may transfer between accounts",
        "the key is bound to no address",
    )
    assert not [output for output in found if isinstance(output, NotReady)]


def test_orders_on_margin_and_running_algos_are_named_as_out_of_reach() -> None:
    player, _ = checked(
        algo_spot_openOrders={"total": 1, "orders": [{"algoId": 1, "symbol": "ETHUSDT", "algoType": "TWAP"}]},
        margin_openOrders=[order("BNBUSDT", 1), order("BTCUSDT", 2)],
        margin_isolated_account={"assets": [{"symbol": "XRPUSDT", "enabled": True}]},
    )
    assert player.adapter.out_of_reach == (
        "running TWAP ETHUSDT, which place orders again",
        "2 order(s) on cross margin: BNBUSDT, BTCUSDT",
        "orders on isolated margin, if there are any: XRPUSDT",
    )


def isolated(player: Player, orders: Mapping[str, object]) -> list[str]:
    """Answer the lists of isolated pairs that are asked for: pair → body; return the pairs, in their order."""
    asked = [call for call in player.outputs if isinstance(call, Call) and "isIsolated=TRUE" in call.request.target]
    pairs = [parse_qs(urlsplit(call.request.target).query)["symbol"][0] for call in asked]
    for call, pair in zip(asked, pairs, strict=True):
        if pair in orders:
            player.put(answer(call.tag, orders[pair]))
    return pairs


def test_the_open_orders_of_each_isolated_pair_are_looked_for_and_named() -> None:
    assets = [{"symbol": pair, "enabled": True} for pair in ("XRPUSDT", "ADAUSDT", "BTCUSDT")]
    player, _ = checked(margin_isolated_account={"assets": [*assets, {"symbol": "OLDUSDT", "enabled": False}]})
    found = {"XRPUSDT": [order("XRPUSDT", 1), order("XRPUSDT", 2)], "ADAUSDT": []}
    assert isolated(player, found) == ["XRPUSDT", "ADAUSDT", "BTCUSDT"]
    assert player.adapter.out_of_reach == (
        "2 order(s) on isolated margin: XRPUSDT; orders on isolated margin, if there are any: BTCUSDT",
    )
    player.put(Pause(60))
    player.outputs.clear()
    player.put(Probe())  # the pair without an answer is asked for again
    assert isolated(player, {"BTCUSDT": []}) == ["BTCUSDT"]
    assert player.adapter.out_of_reach == ("2 order(s) on isolated margin: XRPUSDT",)


def test_more_isolated_pairs_than_a_check_may_ask_for_are_named_as_not_looked_at() -> None:
    names = [f"A{number:03}USDT" for number in range(30)]
    player, _ = checked(margin_isolated_account={"assets": [{"symbol": name} for name in names]})
    assert isolated(player, {name: [] for name in names}) == names[:20]
    assert player.adapter.out_of_reach == (
        "orders on isolated margin, if there are any: A020USDT, A021USDT, A022USDT and 7 more",
    )


def test_an_isolated_pair_that_the_account_has_no_more_is_named_no_more() -> None:
    player, _ = checked(margin_isolated_account={"assets": [{"symbol": "XRPUSDT"}]})
    isolated(player, {"XRPUSDT": [order("XRPUSDT", 1)]})
    assert player.adapter.out_of_reach
    player.put(Pause(601))
    [pairs] = calls_of(player.put(Probe()), "isolated/account")
    player.put(answer(pairs.tag, {"assets": []}))
    assert player.adapter.out_of_reach == ()


def test_the_test_environment_has_no_wallet_and_no_margin_to_ask() -> None:
    player = Player(spot(environment="testnet"))
    calls = calls_of(player.put(Opened(Route.HTTP, 0)))
    assert calls_of(calls, "/api/v3/account") and not calls_of(calls, "/sapi/")


def test_a_check_that_the_venue_refuses_is_not_repeated_and_one_without_an_answer_is() -> None:
    player = Player(spot())
    calls = calls_of(player.put(Opened(Route.HTTP, 0)), "/sapi/")
    for call in calls[:1]:
        player.put(answer(call.tag, {"code": -2015, "msg": "Invalid API-key"}, 401))
    for call in calls[1:]:
        player.put(answer(call.tag, b"<html>", 404))
    player.put(Pause(60))
    again = calls_of(player.put(Probe()), "/sapi/")
    assert [urlsplit(call.request.target).path for call in again] == [
        urlsplit(call.request.target).path for call in calls[1:]
    ]


# ── drills, figures, transfers ────────────────────────────────────────────────────────────────────────────────────


def test_a_drill_cancels_an_order_that_cannot_exist_on_both_lanes() -> None:
    player = ready()
    outputs = player.put(Drill())
    [call], [frame] = calls_of(outputs), frames_of(outputs)
    assert call.request.method == "DELETE" and f"symbol=BTCUSDT&orderId={NO_ORDER}&" in call.request.target
    assert (frame["method"], frame["params"]["orderId"]) == ("order.cancel", NO_ORDER)
    [over_http] = [each for each in player.put(answer(call.tag, UNKNOWN, 400)) if isinstance(each, Drilled)]
    [over_ws] = player.put(hears(1, {"id": frame["id"], "status": 400, "error": UNKNOWN}))
    assert over_http.ok and isinstance(over_ws, Drilled) and over_ws.ok


def test_the_equity_is_the_worth_of_the_spot_wallet_in_the_accounts_currency() -> None:
    player = ready(spot(equity_currency="BTC"))
    [call] = calls_of(player.put(Measure()))
    assert "quoteAsset=BTC&" in call.request.target
    [fact] = player.put(answer(call.tag, [{"balance": "1.5", "walletName": "Spot"}, {"balance": "9"}]))
    assert isinstance(fact, Equity) and fact.amounts == {"BTC": Decimal("1.5")}


@pytest.mark.parametrize("wallets", [[], {}, [{"walletName": "Funding", "balance": "1"}], [{"walletName": "Spot"}]])
def test_a_wallet_that_is_not_there_is_not_zero(wallets: object) -> None:
    player = ready()
    [call] = calls_of(player.put(Measure()))
    assert [type(fact) for fact in player.put(answer(call.tag, wallets))] == [UnexplainedMessage]


def test_a_transfer_is_reported_once_and_in_the_accounts_currency() -> None:
    player = ready()
    moved = event("balanceUpdate", E=2, a="USDT", d="-100.5", T=1)
    assert player.put(moved) == (Transferred("USDT", Decimal("-100.5")),)
    assert player.put(moved) == ()  # as another connection pushes it


DEPOSITS, WITHDRAWALS = "capital/deposit/hisrec", "capital/withdraw/history"


def at(player: Player, ago_s: float) -> int:
    return player.now.wall_ms - int(ago_s * 1000)


def utc(player: Player, ago_s: float) -> str:
    return datetime.fromtimestamp(at(player, ago_s) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def deposit(player: Player, number: int, amount: str, *, ago_s: float = 1.0, **other: object) -> dict[str, object]:
    times = {"insertTime": at(player, ago_s + 1800), "completeTime": at(player, ago_s)}
    return {"id": str(number), "amount": amount, "coin": "USDT", "status": 1, "walletType": 0, **times, **other}


def withdrawal(player: Player, number: int, amount: str, *, ago_s: float = 1.0, **other: object) -> dict[str, object]:
    shown = {"id": f"w{number}", "amount": amount, "transactionFee": "0.5", "coin": "USDT", "status": 4}
    return {**shown, "walletType": 0, "applyTime": utc(player, ago_s), **other}


def deaf(*, for_s: float = 5.0) -> Player:
    """Return an account that is measured, and whose socket has closed since."""
    player = ready()
    [figures] = calls_of(player.put(Measure()))
    player.put(answer(figures.tag, [{"balance": "1000", "walletName": "Spot"}]))
    player.put(Pause(600))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(for_s))
    return player


def hears_again(player: Player) -> None:
    player.put(Opened(Route.WS, 2))
    player.put(hears(2, {"id": "subscribe", "status": 200, "result": {"subscriptionId": 0}}))


def histories(player: Player, deposits: object = (), withdrawals: object = ()) -> tuple[list[Transferred], list[Call]]:
    """Measure the account, and answer its histories; return the transfers, and the calls behind the histories."""
    told: Outputs = ()
    outputs = player.put(Measure())
    for path, rows in ((DEPOSITS, deposits), (WITHDRAWALS, withdrawals)):
        [call] = calls_of(outputs)
        assert path in call.request.target and "startTime=" in call.request.target
        outputs = player.put(answer(call.tag, rows if isinstance(rows, list) else list(rows)))  # type: ignore[call-overload]
        told += outputs
    return [one for one in told if isinstance(one, Transferred)], calls_of(outputs)


def test_deposits_and_withdrawals_of_a_gap_of_the_socket_are_reported_before_the_next_figures() -> None:
    player = deaf()
    hears_again(player)
    deposits = [
        deposit(player, 1, "50"),
        deposit(player, 2, "9", status=0, completeTime=None),  # not credited yet
        deposit(player, 3, "9", walletType=1),  # to the funding wallet
        deposit(player, 4, "9", ago_s=70.0),  # before the gap: it was pushed
    ]
    withdrawals = [withdrawal(player, 1, "100"), withdrawal(player, 2, "9", status=3)]  # the second is rejected
    told, [figures] = histories(player, deposits, withdrawals)
    assert told == [Transferred("USDT", Decimal(50)), Transferred("USDT", Decimal("-100.5"))]
    assert "asset/wallet/balance" in figures.request.target
    player.put(answer(figures.tag, [{"balance": "949.5", "walletName": "Spot"}]))
    assert calls_of(player.put(Measure()), "asset/wallet/balance")


def test_a_transfer_that_the_socket_pushes_before_or_after_a_history_shows_it_counts_once() -> None:
    player = deaf()
    hears_again(player)
    pushed = {
        "subscriptionId": 0,
        "event": {"e": "balanceUpdate", "E": 1, "a": "USDT", "d": "50.0", "T": at(player, 1)},
    }
    assert player.put(hears(2, pushed)) == (Transferred("USDT", Decimal("50.0")),)
    told, _ = histories(player, [deposit(player, 1, "50")], [withdrawal(player, 1, "7")])
    assert told == [Transferred("USDT", Decimal("-7.5"))]
    later = {"e": "balanceUpdate", "E": 2, "a": "USDT", "d": "-7.5", "T": at(player, 0)}
    assert player.put(hears(2, {"subscriptionId": 0, "event": later})) == ()


def test_while_the_socket_is_down_figures_come_behind_the_histories_alone_and_leave_the_limit_its_room() -> None:
    player = deaf()
    told, [figures] = histories(player, withdrawals=[withdrawal(player, 1, "100")])
    assert told == [Transferred("USDT", Decimal("-100.5"))] and "balance" in figures.request.target
    player.put(Pause(5))
    assert player.put(Measure()) == ()
    player.put(Pause(5))
    told, [_] = histories(player, withdrawals=[withdrawal(player, 1, "100")])
    assert told == []


def test_while_the_socket_is_down_a_lost_history_and_a_price_cost_figures_no_more_than_the_next_measurement() -> None:
    player = deaf()
    [lost] = calls_of(player.put(Measure()), DEPOSITS)
    assert player.put(CallLost(lost.tag, True, "timed out")) == ()
    player.put(Pause(5))
    _, [price] = histories(player, [deposit(player, 1, "2", coin="BTC")])
    assert "ticker/price" in price.request.target
    player.put(answer(price.tag, {"symbol": "BTCUSDT", "price": "50000"}))
    player.put(Pause(5))
    _, [figures] = histories(player)
    assert "asset/wallet/balance" in figures.request.target


def test_figures_wait_for_histories_that_the_venue_cannot_answer_now_and_not_for_refused_ones() -> None:
    player = deaf()
    hears_again(player)
    [call] = calls_of(player.put(Measure()))
    assert player.put(Measure()) == ()  # it is under way
    assert player.put(answer(call.tag, {"code": -1000, "msg": "?"}, 500)) == ()
    [again] = calls_of(player.put(Measure()), DEPOSITS)
    said, other = player.put(answer(again.tag, {"code": -1002, "msg": "You are not authorized."}, 401))
    assert isinstance(said, UnexplainedMessage) and "may be taken for profit or loss" in said.why
    assert isinstance(other, Call) and WITHDRAWALS in other.request.target


def test_a_transfer_of_another_asset_is_valued_before_any_equity_is_reported() -> None:
    player = ready()
    assert player.put(event("balanceUpdate", E=2, a="BTC", d="2", T=1)) == ()
    [price] = calls_of(player.put(Measure()))
    assert price.request.target == "/api/v3/ticker/price?symbol=BTCUSDT"
    assert player.put(answer(price.tag, {"symbol": "BTCUSDT", "price": "50000.5"})) == (
        Transferred("USDT", Decimal("100001.0")),
    )
    player.put(event("balanceUpdate", E=3, a="TRY", d="-82", T=2))
    [price] = calls_of(player.put(Measure()))
    [inverse] = calls_of(player.put(answer(price.tag, {"code": -1121, "msg": "Invalid symbol."}, 400)))
    assert inverse.request.target == "/api/v3/ticker/price?symbol=USDTTRY"
    assert player.put(answer(inverse.tag, {"symbol": "USDTTRY", "price": "41"})) == (Transferred("USDT", Decimal(-2)),)
    assert calls_of(player.put(Measure()), "asset/wallet/balance")


@pytest.mark.parametrize("has_price", [True, False])
def test_a_transfer_without_a_pair_in_the_currency_is_priced_in_another_asset_or_is_nothing_and_blinds_no_trigger(
    has_price: bool,
) -> None:
    player = ready(spot(equity_currency="USDC"))
    player.put(event("balanceUpdate", E=2, a="NEW", d="10", T=1))
    prices = {"NEWBTC": "0.001", "BTCUSDC": "60000"} if has_price else {}
    facts = player.put(Measure())
    asked: list[str] = []
    while calls := calls_of(facts or player.put(Measure()), "ticker/price"):
        asked.append(calls[0].request.target.partition("symbol=")[2])
        price = prices.get(asked[-1])
        body = {"code": -1121, "msg": "Invalid symbol."} if price is None else {"symbol": asked[-1], "price": price}
        facts = player.put(answer(calls[0].tag, body, 400 if price is None else 200))
    tried = ["NEWUSDC", "USDCNEW", "NEWUSDT", "NEWBTC"]
    assert asked == ([*tried, "BTCUSDC"] if has_price else tried)
    assert [type(fact) for fact in facts] == [Transferred if has_price else UnexplainedMessage]
    assert facts[0] == Transferred("USDC", Decimal(600)) or not has_price
    assert calls_of(player.put(Measure()), "asset/wallet/balance")


def test_an_overload_does_not_make_a_transfer_nothing() -> None:
    player = ready()
    player.put(event("balanceUpdate", E=2, a="BTC", d="2", T=1))
    overload = {"code": -1008, "msg": "Server is currently overloaded with other requests."}
    for _ in range(3):
        calls = calls_of(player.put(Measure()), "ticker/price")
        assert len(calls) == 1
        while calls:
            calls = calls_of(player.put(answer(calls[0].tag, overload, 503)))
        player.put(Pause(5))


def test_strikes_that_know_no_symbol_leave_the_lists_to_the_read_back_once_half_of_the_pool_is_in_use() -> None:
    player = ready()
    strikes = [calls_of(player.put(Kill(number)), "openOrder") for number in range(1, 101)]
    assert 2 <= sum(map(len, strikes)) <= 3000 / 43
    assert strikes[-1] == []
