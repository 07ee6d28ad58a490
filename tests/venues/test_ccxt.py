"""Venues that are served through ccxt: every id is offered or refused, and what is offered is no guess of a success."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest

from kill_switch.core.domain import CancelOutcome, Instant, Route
from kill_switch.venues import EVERY_VENUE
from kill_switch.venues.ccxt import library
from kill_switch.venues.ccxt.adapter import CcxtAccount, adapter_of
from kill_switch.venues.ccxt.offered import OFFERED
from kill_switch.venues.ccxt.profile import CREDENTIALS, Endpoint, Part
from kill_switch.venues.ccxt.refused import REFUSED
from kill_switch.venues.messages import Call, CancelAnswered, Drilled, NotReady, OrdersRead, Output, Ready, Replied
from kill_switch.venues.request import Request

from .ccxt_answers import ANSWERS, KEYS

pytestmark = pytest.mark.skipif(bool(library.why_unusable()), reason="needs the extra ccxt")
NOW = Instant(10**12, 1_796_000_000_000_000_000)
every_id = pytest.mark.parametrize("name", sorted(OFFERED))

# answers that prove nothing: (status, body)
JUNK = {
    "a page with 200": (200, b"<html><body>Just a moment...</body></html>"),
    "an empty body": (200, b""),
    "an empty object": (200, b"{}"),
    "null": (200, b"null"),
    "a text": (200, b'"ok"'),
    "302": (302, b""),
    "302 with JSON": (302, b"{}"),
    "429": (429, b"Too many requests"),
    "429 with JSON": (429, b"[]"),
    "500": (500, b"[]"),
    "524": (524, b"error code: 524"),
    "524 with JSON": (524, b"[]"),
}


def account(name: str, **options: object) -> CcxtAccount:
    """Return an account that covers the products which an account covers by default."""
    kind = adapter_of(name)
    wanted: dict[str, Any] = {**ANSWERS[name].options, **options}
    settings: Any = kind.Options(**wanted)
    return kind(settings, {key: KEYS[key] for key in kind.PROFILE.secrets}, 0.06)


def play(
    adapter: CcxtAccount, outputs: Iterable[Output], answer: Callable[[Call], tuple[int, Any]], ahead_s: float = 0
) -> list[Output]:
    """Answer each call, those that follow too, by a venue whose clock is that far ahead; return what was not a call."""
    headers = {"date": formatdate(NOW.wall_ns // 10**9 + ahead_s, usegmt=True)} if ahead_s else {}
    facts: list[Output] = []
    queue = list(outputs)
    while queue:
        output = queue.pop(0)
        if not isinstance(output, Call):
            facts.append(output)
            continue
        status, body = answer(output)
        text = body if isinstance(body, bytes) else orjson.dumps(body)
        queue += adapter.handle(Replied(output.tag, status, headers, text), NOW)
    return facts


def documented(name: str, *, is_empty: bool = False) -> Callable[[Call], tuple[int, Any]]:
    """Answer each request as its venue documents it: by its target, and among equal ones by their order."""
    answers, parts = ANSWERS[name], default_parts(name)
    lists = answers.empty if is_empty else answers.lists
    endpoints = [(part, cancel.endpoint) for part in parts for cancel in part.cancels]
    endpoints += [(part, listing.endpoint) for part in parts for listing in part.lists]
    bodies = [*answers.cancels, *lists]
    left: dict[str, list[Any]] = {}
    for (part, endpoint), body in zip(endpoints, bodies, strict=True):
        left.setdefault(part.target(endpoint), []).append(body)

    def answer(call: Call) -> tuple[int, Any]:
        bodies = left[f"{call.request.method} {call.request.target.partition('?')[0]}"]
        bodies.append(bodies.pop(0))
        return 200, bodies[-1]

    return answer


def default_parts(name: str) -> list[Part]:
    profile = OFFERED[name]
    return [profile.products[product] for product in profile.default_products]


def fact(facts: Iterable[Output], kind: type[Any]) -> Any:
    (found,) = (each for each in facts if isinstance(each, kind))
    return found


# ── which ids ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_id_of_the_pinned_ccxt_is_offered_or_refused_with_a_reason() -> None:
    folder = Path(library.errors().__file__).parents[1]
    ids = {path.stem for path in folder.glob("*.py")} - {"__init__", "test"}

    assert OFFERED.keys() | REFUSED.keys() == ids
    assert not OFFERED.keys() & REFUSED.keys()
    assert all(len(reason) > 20 for reason in REFUSED.values())
    page = (Path(__file__).parents[2] / "docs/venues/ccxt.md").read_text("utf-8")
    count = f"Of the {len(ids)} ids of ccxt {library.VERSION}, {len(OFFERED)} are offered and {len(REFUSED)} are not."
    assert count in page


@every_id
def test_a_profile_agrees_with_the_tables_of_ccxt(name: str) -> None:
    profile, exchange = OFFERED[name], library.exchange(name)
    required = {key for key, is_needed in exchange.requiredCredentials.items() if is_needed}

    assert profile.id == name and f"ccxt:{name}" in EVERY_VENUE
    assert {CREDENTIALS[secret] for secret in profile.secrets} == required
    for endpoint in endpoints_of(name):
        section = exchange.api
        for key in (*endpoint.api, endpoint.method.lower()):
            section = section[key]
        assert endpoint.path in section


def endpoints_of(name: str) -> Iterator[Endpoint]:
    for part in OFFERED[name].products.values():
        yield from (cancel.endpoint for cancel in part.cancels)
        yield from (listing.endpoint for listing in part.lists)
        yield from (each for each in (part.ping, part.harmless) if each is not None)


@every_id
def test_each_request_goes_to_the_documented_target_and_moves_with_rest_url(name: str) -> None:
    profile = OFFERED[name]
    for product, part in profile.products.items():
        there, here = (
            account(name, products=(product,)),
            account(name, products=(product,), rest_url="https://127.0.0.1:8443"),
        )
        assert there.rest_url == f"https://{part.host}"
        for endpoint in [*(each.endpoint for each in part.cancels), *(each.endpoint for each in part.lists)]:
            build = there._codec.build(endpoint, symbol="BTCUSDT")
            moved = here._codec.build(endpoint, symbol="BTCUSDT")(NOW)
            request = build(NOW)
            assert f"{request.method} {request.target.partition('?')[0]}" == part.target(endpoint)
            assert request.headers["Host"] == part.host and moved.headers["Host"] == "127.0.0.1:8443"
            assert f"{moved.method} {moved.target.partition('?')[0]}" == part.target(endpoint)


@every_id
def test_a_signature_takes_less_than_a_millisecond(name: str) -> None:
    adapter = account(name)
    commands = [cancel.endpoint for part in default_parts(name) for cancel in part.cancels]
    builds = [adapter._codec.build(endpoint, symbol="BTCUSDT") for endpoint in commands]

    def took_s(build: Callable[[Instant], Request]) -> float:
        began_s = time.perf_counter()
        build(NOW)
        return time.perf_counter() - began_s

    assert all(min(took_s(build) for _ in range(20)) < 0.001 for build in builds)


WIDE = (  # ids whose unified cancel of everything is what their profile sends
    *("alpaca", "bitfinex", "bitso", "bitstamp", "bitvavo", "coinbaseexchange"),
    *("fmfwio", "kraken", "krakenfutures", "poloniex"),
)


@pytest.mark.parametrize("name", WIDE)
def test_the_first_command_is_the_request_that_ccxts_unified_method_sends(name: str) -> None:
    asked: list[tuple[str, str, Mapping[str, str], str]] = []
    exchange = library.exchange(name)
    for secret in OFFERED[name].secrets:
        setattr(exchange, CREDENTIALS[secret], KEYS[secret])
    exchange.options.update(ANSWERS[name].options.get("options", {}))
    now_ms = NOW.wall_ns // 1_000_000
    exchange.milliseconds, exchange.seconds = lambda: now_ms, lambda: now_ms // 1000
    exchange.uuid = lambda: "11111111-2222-4333-8444-555555555555"
    exchange.load_markets = lambda: None
    exchange.markets = {}

    def fetch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        asked.append((method, url, headers or {}, body or ""))
        raise KeyboardInterrupt

    exchange.fetch = fetch
    with pytest.raises(KeyboardInterrupt):
        exchange.cancel_all_orders()

    adapter = account(name)
    adapter._codec._exchange.uuid = exchange.uuid
    (method, url, headers, body), request = asked[0], adapter.prebuilt_command(NOW)
    assert isinstance(request, Request)
    assert (request.method, f"{adapter.rest_url}{request.target}", request.body.decode()) == (method, url, body)
    assert {**request.headers, **headers} == request.headers


@every_id
def test_a_number_has_a_source_or_is_shown_as_a_guess(name: str) -> None:
    profile, kind = OFFERED[name], adapter_of(name)
    for number, guess in profile.numbers.items():
        source = getattr(profile.sources, number)
        assert (guess in kind.GUESSES) is not bool(source)
        assert ((guess.fact, source) in kind.SOURCED) is bool(source)
    stated = {each.name for each in fields(profile.sources) if getattr(profile.sources, each.name)}
    assert stated <= profile.numbers.keys(), "a source of a number that the profile does not have"


def test_a_strike_of_many_commands_has_a_connection_for_each() -> None:
    assert account("kraken").strike_calls() == 0  # its one command fits into the connections that are always there
    assert account("bybit").strike_calls() == 8
    by_symbol = account("binance")
    play(by_symbol, by_symbol.read(NOW), documented("binance"))
    assert by_symbol.strike_calls() == 2  # the command of a symbol, and the list


@every_id
def test_evidence_shows_no_secret_that_an_answer_repeats(name: str) -> None:
    echo = {"error": ["E", *KEYS.values()], "code": -1, "msg": " ".join(KEYS.values()), "retCode": 10003}
    adapter = account(name)
    told = repr(play(adapter, adapter.keep_warm(NOW), lambda call: (400, echo)))
    told += repr(play(adapter, adapter.read(NOW), lambda call: (400, echo)))
    told += repr(play(adapter, adapter.strike(NOW, 1), lambda call: (400, echo)))

    assert not [secret for secret in adapter.PROFILE.secrets if KEYS[secret] in told]


@pytest.mark.parametrize("name", ["binance", "binanceusdm"])
@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("Unknown order sent.", CancelOutcome.ACCEPTED),
        ("Order was not canceled due to cancel restrictions.", CancelOutcome.REFUSED),
    ],
)
def test_an_error_means_that_there_is_no_order_only_with_the_documented_words(
    name: str, words: str, outcome: CancelOutcome
) -> None:
    adapter, lists = account(name), documented(name)
    play(adapter, adapter.read(NOW), lists)

    def answer(call: Call) -> tuple[int, Any]:
        return (400, {"code": -2011, "msg": words}) if call.request.method == "DELETE" else lists(call)

    answered: CancelAnswered = fact(play(adapter, adapter.strike(NOW, 1), answer), CancelAnswered)
    drilled: Drilled = fact(play(adapter, adapter.drill(NOW), answer), Drilled)
    assert answered.answer is outcome and drilled.ok is (outcome is CancelOutcome.ACCEPTED)


# ── what an answer proves ─────────────────────────────────────────────────────────────────────────────────────────


@every_id
def test_documented_lists_are_read_whole(name: str) -> None:
    adapter = account(name)

    read: OrdersRead = fact(play(adapter, adapter.read(NOW), documented(name)), OrdersRead)

    assert read.complete, read.why
    assert tuple((order.id, order.symbol) for order in read.orders) == ANSWERS[name].orders


@pytest.mark.parametrize("name", sorted(OFFERED.keys() - {"hitbtc", "fmfwio", "bequant"}))  # there, the clients' ids
def test_ccxt_reads_the_same_ids_out_of_the_lists(name: str) -> None:
    exchange, seen = library.exchange(name), []
    exchange.markets, exchange.markets_by_id = {}, {}
    adapter, answer = account(name), documented(name)
    for part in default_parts(name):
        for listing in part.lists:
            for each in play_list(adapter, part, listing.endpoint, answer):
                raw = {"result": each} if name == "bitfinex" else {"id": each[""], **each} if "" in each else each
                seen.append(exchange.parse_order(raw)["id"])

    ours = [order_id.partition(":")[2] or order_id for order_id, _ in ANSWERS[name].orders]
    assert sorted(filter(None, seen)) == sorted(ours)


def play_list(adapter: CcxtAccount, part: Part, endpoint: Endpoint, answer: Callable[[Call], tuple[int, Any]]) -> Any:
    (listing,) = (each for each in adapter.lists if each.line == part.line(endpoint))
    request = listing.page("")(NOW)
    _, body = answer(Call("", request, Route.HTTP, False, False, False, 1.0))
    return [item[1] for item in listing.items(body)]  # type: ignore[attr-defined]


def test_a_liquidation_order_of_deribits_own_is_out_of_reach_and_holds_no_kill_up() -> None:
    adapter = account("deribit")
    resting = [{"order_id": "ETH-1", "is_liquidation": True}, {"order_id": "ETH-2", "is_liquidation": False}]

    def answer(call: Call) -> tuple[int, Any]:
        return 200, {"result": resting if "type=all" in call.request.target else []}

    read: OrdersRead = fact(play(adapter, adapter.read(NOW), answer), OrdersRead)
    assert read.complete and [order.id for order in read.orders] == ["ETH-2"]
    assert adapter.out_of_reach == ("1 liquidation order(s) of Deribit's own",)
    resting.clear()
    play(adapter, adapter.read(NOW), answer)
    assert not adapter.out_of_reach


def test_orders_of_each_of_gates_accounts_are_read_and_cancelled() -> None:
    adapter = account("gate")
    resting = {(path, at) for path in ("open_orders", "price_orders") for at in ("", "margin", "unified")}

    def answer(call: Call) -> tuple[int, Any]:
        """Answer as Gate does: a list shows one account, and triggers of a unified one end only by its name."""
        path, _, query = call.request.target.removeprefix("/api/v4/spot/").partition("?")
        at = parse_qs(query).get("account", [""])[0]
        if call.request.method == "DELETE":
            kind = "open_orders" if path == "orders" else "price_orders"
            accounts = {"": {"", "margin", "unified"} if path == "orders" else {"", "margin"}}.get(at, {at})
            resting.difference_update({(kind, each) for each in accounts})
            return 200, []
        order = {"id": f"{path}-{at}", "currency_pair": "BTC_USDT", "market": "BTC_USDT", "status": "open"}
        orders = [order] if (path, at) in resting else []
        return 200, [{"currency_pair": "BTC_USDT", "orders": orders}] if path == "open_orders" else orders

    read: OrdersRead = fact(play(adapter, adapter.read(NOW), answer), OrdersRead)
    assert read.complete and len(read.orders) == 6
    play(adapter, adapter.strike(NOW, 1), answer)
    assert not resting


@every_id
def test_documented_answers_to_the_cancels_are_accepted(name: str) -> None:
    adapter = account(name)
    play(adapter, adapter.keep_warm(NOW), documented(name))
    play(adapter, adapter.read(NOW), documented(name))

    answered: CancelAnswered = fact(play(adapter, adapter.strike(NOW, 1), documented(name)), CancelAnswered)

    assert answered.answer is CancelOutcome.ACCEPTED, answered.evidence


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gemini", {"result": "ok", "details": {"cancelledOrders": [1], "cancelRejects": [2]}}),
        ("alpaca", [{"id": "1", "status": 200}, {"id": "2", "status": 500}]),
        ("poloniex", [{"orderId": "1", "code": 200}, {"orderId": "2", "code": 21_302}]),
        ("krakenfutures", {"result": "success", "cancelStatus": {"status": "partial", "cancelledOrders": []}}),
        ("bitfinex", [1568711312683, "oc_multi-req", None, None, [], None, "ERROR", "…"]),
        ("kraken", {"error": [], "result": {"count": True}}),
        *(
            (name, {"retCode": 0, "retMsg": "OK", "result": {"list": [], "success": "0"}})
            for name in ("bybit", "bybiteu")
        ),
        ("gate", [{"id": "1", "succeeded": True}, {"id": "2", "succeeded": False, "label": "CANCEL_FAIL"}]),
        ("deribit", {"result": [{"currency": "BTC", "result": []}, {"currency": "ETH", "error": {"code": 10047}}]}),
        ("deribit", {"result": [{"currency": "BTC"}]}),
    ],
)
def test_a_success_with_a_cancel_that_failed_is_none(name: str, body: Any) -> None:
    adapter = account(name)

    answered: CancelAnswered = fact(play(adapter, adapter.strike(NOW, 1), lambda call: (200, body)), CancelAnswered)

    assert answered.answer is CancelOutcome.UNKNOWN


def test_deribit_is_asked_for_a_report_of_each_part_and_the_orders_in_them_are_counted() -> None:
    adapter = account("deribit")
    (command,) = (each for each in adapter.strike(NOW, 1) if isinstance(each, Call))
    assert command.request.target == "/api/v2/private/cancel_all?detailed=true&freeze_quotes=true"
    reports = [{"currency": each, "result": [{"order_id": f"{each}-1"}]} for each in ("BTC", "ETH")]

    answered: CancelAnswered = fact(play(adapter, [command], lambda call: (200, {"result": reports})), CancelAnswered)

    assert (answered.answer, answered.evidence) == (CancelOutcome.ACCEPTED, "2 order(s) cancelled")


def test_orders_that_kraken_has_still_to_cancel_are_not_counted_as_cancelled() -> None:
    adapter = account("kraken")
    pending = {"error": [], "result": {"count": 3, "pending": True}}

    answered: CancelAnswered = fact(play(adapter, adapter.strike(NOW, 1), lambda call: (200, pending)), CancelAnswered)

    assert (answered.answer, answered.cancelled) == (CancelOutcome.ACCEPTED, None)
    assert answered.evidence == "3 order(s) will be cancelled; the venue has not finished"


def test_an_answer_that_there_is_no_smart_order_is_no_refusal() -> None:
    adapter = account("poloniex")

    def answer(call: Call) -> tuple[int, Any]:
        return (400, {"code": 25014, "message": "…"}) if "smart" in call.request.target else (200, [])

    answered: CancelAnswered = fact(play(adapter, adapter.strike(NOW, 1), answer), CancelAnswered)

    assert answered.answer is CancelOutcome.ACCEPTED


# what an id answers to a signature whose time is wrong: (id, status, body)
WRONG_TIMES: tuple[tuple[str, int, Any], ...] = (
    ("gate", 403, {"label": "REQUEST_EXPIRED", "message": "gap between request Timestamp and server time exceeds 60"}),
    ("bitvavo", 403, {"errorCode": 304, "error": "Request was not received within acceptable window"}),
    ("deribit", 400, {"error": {"code": 13004, "message": "invalid_credentials"}}),
    ("coinbaseexchange", 401, {"message": "request timestamp expired"}),
    ("coinbaseexchange", 400, {"message": "request timestamp expired"}),
    ("bitstamp", 403, {"status": "error", "reason": "Authentication failed", "code": "API0006"}),
    ("hitbtc", 401, {"error": {"code": 1002, "message": "Authorization is required or has been failed"}}),
    ("backpack", 401, b"Request has expired"),
    ("binanceusdm", 400, {"code": -5028, "msg": "Timestamp for this request is outside of the ME recvWindow."}),
)


@pytest.mark.parametrize(("name", "status", "body"), WRONG_TIMES)
def test_every_refusal_of_a_time_that_the_date_shows_to_be_wrong_is_signed_again_by_the_venues_clock(
    name: str, status: int, body: Any
) -> None:
    adapter, good = account(name), documented(name)
    play(adapter, adapter.read(NOW), documented(name))
    refused: set[str] = set()

    def answer(call: Call) -> tuple[int, Any]:
        assert call.route is Route.HTTP  # a second copy on another connection would have the same time
        what = f"{call.request.method} {call.request.target.partition('timestamp')[0]} {call.request.body!r}"
        if what in refused:
            return good(call)
        refused.add(what)
        return status, body

    facts = play(adapter, adapter.strike(NOW, 1), answer, ahead_s=3600)

    assert fact(facts, CancelAnswered).answer is CancelOutcome.ACCEPTED
    assert abs(adapter.clock.offset_ns / 1e9 - 3600) <= 1.1


def test_a_refusal_of_a_time_that_was_right_blames_the_key() -> None:
    _, status, body = WRONG_TIMES[0]
    attempts: list[Call] = []

    def answer(call: Call) -> tuple[int, Any]:
        attempts.append(call)
        return status, body

    for ahead_s, signed in ((3600, 2), (30, 1)):  # Gate's window is 60 s
        adapter = account("gate", products=("spot",))
        (probe,) = adapter.keep_warm(NOW)[:1]
        facts = play(adapter, [probe], answer, ahead_s)
        assert fact(facts, NotReady).fatal and len(attempts) == signed
        attempts.clear()


def test_a_refusal_of_bitsos_that_may_be_of_the_nonce_is_signed_again_with_a_higher_one() -> None:
    adapter, good = account("bitso"), documented("bitso")
    attempts: list[Call] = []
    refusal = {"success": False, "error": {"code": "0201", "message": "Invalid Nonce or Invalid Credentials"}}

    def answer(call: Call) -> tuple[int, Any]:
        attempts.append(call)
        return (401, refusal) if len(attempts) == 1 else good(call)

    answered: CancelAnswered = fact(play(adapter, adapter.strike(NOW, 1), answer), CancelAnswered)

    assert answered.answer is CancelOutcome.ACCEPTED and len(attempts) == 2


def test_a_refusal_with_500_that_names_its_reason_is_no_lost_answer() -> None:
    adapter = account("bitfinex")
    nonces: list[int] = []

    def answer(call: Call) -> tuple[int, Any]:
        nonces.append(int(call.request.headers["bfx-nonce"]))
        return 500, ["error", 10100, "apikey: invalid"] if len(nonces) == 3 else ["error", 10114, "nonce: small"]

    answered: CancelAnswered = fact(play(adapter, adapter.strike(NOW, 1), answer), CancelAnswered)

    assert nonces == sorted(set(nonces)) and len(nonces) == 3  # two were signed again
    assert (answered.answer, "AuthenticationError" in answered.evidence) == (CancelOutcome.REFUSED, True)


@every_id
def test_empty_lists_prove_the_account_clear(name: str) -> None:
    adapter = account(name)

    read: OrdersRead = fact(play(adapter, adapter.read(NOW), documented(name, is_empty=True)), OrdersRead)

    assert read.complete and not read.orders


@every_id
def test_an_answer_that_proves_nothing_accepts_no_cancel_and_shows_no_empty_account(name: str) -> None:
    believed = [what for what, junk in JUNK.items() if is_believed(name, always(*junk))]

    assert not believed


def always(status: int, body: bytes) -> Callable[[Call], tuple[int, Any]]:
    return lambda call: (status, body)


@every_id
@pytest.mark.parametrize("status", [302, 402, 524])
def test_a_documented_answer_with_another_status_than_2xx_proves_nothing(name: str, status: int) -> None:
    good = documented(name, is_empty=True)

    assert not is_believed(name, lambda call: (status, good(call)[1]))


def is_believed(name: str, answer: Callable[[Call], tuple[int, Any]]) -> bool:
    """Return whether an account takes these answers for a list, for a proof of its lane, or for a cancel."""
    adapter, armed = account(name), account(name)
    probed = play(adapter, adapter.keep_warm(NOW), answer)
    read: OrdersRead = fact(play(adapter, adapter.read(NOW), answer), OrdersRead)
    play(armed, armed.read(NOW), documented(name))
    answered: CancelAnswered = fact(play(armed, armed.strike(NOW, 1), answer), CancelAnswered)
    is_up = any(isinstance(each, Ready) for each in probed) or not any(isinstance(each, NotReady) for each in probed)
    return read.complete or bool(read.orders) or is_up or answered.answer is CancelOutcome.ACCEPTED


@every_id
def test_one_list_that_proves_nothing_leaves_the_account_unproven(name: str) -> None:
    count = len(ANSWERS[name].lists)
    for broken in range(count):
        adapter, good = account(name), documented(name, is_empty=True)
        seen: list[int] = []

        def answer(call: Call, broken: int = broken, good: Any = good, seen: list[int] = seen) -> tuple[int, Any]:
            seen.append(1)
            is_broken = (len(seen) - 1) % count == broken or len(seen) > count
            status, body = good(call)
            return (200, {}) if is_broken else (status, body)

        read: OrdersRead = fact(play(adapter, adapter.read(NOW), answer), OrdersRead)
        assert not read.complete
