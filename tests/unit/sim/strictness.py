"""Requests that are wrong in one way, the answer of each simulated venue, and whether the order rests or is gone.

`test_strictness` sends each request of this table, byte by byte, at each venue. `python -m tests.unit.sim.strictness
--write` puts the table into docs/evidence/strictness.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .raw import (
    FORM,
    JSON,
    Raw,
    binance,
    binance_form,
    crosstrade,
    deribit,
    kraken,
    kraken_futures,
    kuna,
    now_ms,
    oxfun,
    roxom,
    spoil,
)
from .strict_changes import change_table
from .strict_details import detail_section
from .strict_frames import frame_table

PAGE = Path(__file__).parents[3] / "docs/evidence/strictness.md"
VENUES = (
    "binance-spot", "binance-usdm", "binance-coinm", "kraken", "kraken-futures", "deribit",
    "oxfun", "kuna", "roxom", "crosstrade",
)  # fmt: skip
IDEAS = {
    "right": "as documented",
    "empty": "a cancel-all when nothing is open",
    "conditional": "a cancel-all when a conditional order rests too",
    "signature": "a signature with one character changed",
    "old time": "an old time stamp",
    "future time": "a time stamp of the future",
    "nonce": "a nonce that was used",
    "other key": "the key of another plane",
    "header": "a header is missing",
    "content type": "the wrong content type",
    "unknown symbol": "an unknown symbol",
    "empty symbol": "an empty symbol",
    "twice": "a parameter twice",
    "order": "parameters in another order than they were signed in",
    "window": "a window for the time stamp that is too large",
    "unknown path": "an unknown path",
    "unknown order": "the cancel of an unknown order",
    "maintenance": "a cancel in maintenance",
}
GONE, RESTS = "gone", "rests"


class Row(NamedTuple):
    """A request, what the venue answers, and what becomes of the order that rests; `kinds` are of the orders."""

    idea: str
    request: Callable[[], Iterable[Raw]]
    status: int
    says: str
    order: str = RESTS
    kinds: tuple[str, ...] = ("limit",)
    fault: str = ""
    left: int | None = None  # orders that are left, where some are and some are not


Keys = Mapping[str, str]


def rows(venue: str, keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a venue; `other` are the keys of another plane, `ids` those of the orders that rest."""
    make = {"kraken": _kraken, "kraken-futures": _kraken_futures, "deribit": _deribit, "oxfun": _oxfun,
            "roxom": _roxom, "crosstrade": _crosstrade}  # fmt: skip
    if venue.startswith("binance"):
        return _binance(venue, keys, other)
    return _kuna(keys, other, ids) if venue == "kuna" else make[venue](keys, other)


def _once(make: Callable[[], Raw]) -> Callable[[], Iterable[Raw]]:
    return lambda: [make()]


def _binance(venue: str, keys: Keys, other: Keys) -> Iterator[Row]:
    path, symbol, is_spot = {
        "binance-spot": ("/api/v3/openOrders", "BTCUSDT", True),
        "binance-usdm": ("/fapi/v1/allOpenOrders", "BTCUSDT", False),
        "binance-coinm": ("/dapi/v1/allOpenOrders", "BTCUSD_PERP", False),
    }[venue]
    done = '"status":"CANCELED"' if is_spot else '"code":200'

    def ask(*pairs: tuple[str, str], at_ms: int | None = None, who: Keys = keys, to: str = path) -> Raw:
        return binance(who, "DELETE", to, pairs or (("symbol", symbol),), at_ms)

    def with_target(change: Callable[[str], str]) -> Raw:
        asked = ask()
        return replace(asked, target=change(asked.target))

    def swapped(target: str) -> str:
        start, _, query = target.partition("?")
        first, second, signature = query.split("&")
        return f"{start}?{second}&{first}&{signature}"

    def spoilt(target: str) -> str:
        signed, _, signature = target.partition("&signature=")
        return f"{signed}&signature={spoil(signature).lower()}"

    def cancel_one() -> Raw:
        one = path.rsplit("/", 1)[0] + "/order"
        return ask(("symbol", symbol), ("orderId", "1"), to=one)

    def json_body() -> Raw:
        return binance_form(keys, "DELETE", path, [("symbol", symbol)]).headed(content_type=JSON["Content-Type"])

    yield Row("right", _once(ask), 200, done, GONE)
    yield Row("right", _once(lambda: binance_form(keys, "DELETE", path, [("symbol", symbol)])), 200, done, GONE)
    yield Row("signature", _once(lambda: with_target(spoilt)), 400, '"code":-1022')
    yield Row("old time", _once(lambda: ask(at_ms=now_ms() - 6000)), 400, '"code":-1021')
    yield Row("future time", _once(lambda: ask(at_ms=now_ms() + 3000)), 400, '"code":-1021')
    yield Row("other key", _once(lambda: ask(who=other)), 401, '"code":-2015')
    yield Row("header", _once(lambda: ask().headed(x_mbx_apikey=None)), 401, '"code":-2014')
    yield Row("content type", _once(json_body), 400, '"code":-1102')
    yield Row("unknown symbol", _once(lambda: ask(("symbol", "NOSUCH"))), 400, '"code":-1121')
    yield Row("empty symbol", _once(lambda: ask(("symbol", ""))), 400, '"code":-1102')
    yield Row("twice", _once(lambda: ask(("symbol", symbol), ("symbol", symbol))), 400, '"code":-1101')
    yield Row("order", _once(lambda: with_target(swapped)), 400, '"code":-1022')
    yield Row("window", _once(lambda: ask(("symbol", symbol), ("recvWindow", "60001"))), 400, '"code":-1131')
    yield Row("unknown path", _once(lambda: ask(to=path + "All")), 404, '"code":-5000')
    yield Row("unknown order", _once(cancel_one), 400, '"code":-2011')
    yield Row("empty", _once(ask), 400 if is_spot else 200, '"code":-2011' if is_spot else done, GONE, ())
    kinds = ("limit", "stop")
    yield Row("conditional", _once(ask), 200, done, GONE if is_spot else RESTS, kinds, left=None if is_spot else 1)
    yield Row("maintenance", _once(ask), 503, '"code":-1016', fault="maintenance")


def _kraken(keys: Keys, other: Keys) -> Iterator[Row]:
    def ask(*pairs: tuple[str, str], nonce: int | None = None, who: Keys = keys, call: str = "CancelAll") -> Raw:
        return kraken(who, call, pairs, nonce)

    def twice() -> list[Raw]:
        nonce = time.time_ns()
        return [ask(call="GetApiKeyInfo", nonce=nonce), ask(nonce=nonce)]

    def old() -> list[Raw]:
        return [ask(call="GetApiKeyInfo"), ask(nonce=time.time_ns() - 10**9)]

    def swapped() -> Raw:
        asked = ask(("timeout", "0"), call="CancelAllOrdersAfter")
        return replace(asked, body="&".join(reversed(asked.body.split("&"))))

    yield Row("right", _once(ask), 200, '"count":1', GONE)
    yield Row("signature", _once(lambda: ask().spoilt("API-Sign")), 200, "EAPI:Invalid signature")
    yield Row("old time", old, 200, "EAPI:Invalid nonce")
    yield Row("nonce", twice, 200, "EAPI:Invalid nonce")
    yield Row("other key", _once(lambda: ask(who=other)), 200, "EAPI:Invalid key")
    yield Row("header", _once(lambda: ask().headed(api_sign=None)), 200, "EAPI:Invalid signature")
    yield Row("content type", _once(lambda: ask().headed(content_type="text/plain")), 200, "EAPI:Invalid signature")
    yield Row("unknown symbol", _once(lambda: ask(("pair", "NOSUCH"), ("ordertype", "limit"), ("type", "buy"),
              ("volume", "1"), ("price", "1"), call="AddOrder")), 200, "EQuery:Unknown asset pair")  # fmt: skip
    yield Row("empty symbol", _once(lambda: ask(("txid", ""), call="CancelOrder")), 200, "EGeneral:Invalid arguments")
    yield Row("twice", _once(lambda: ask(("nonce", "1"))), 200, "EAPI:Invalid")
    yield Row("order", _once(swapped), 200, "EAPI:Invalid signature")
    yield Row("unknown path", _once(lambda: ask(call="CancelEverything")), 200, "EGeneral:Unknown method")
    unknown = (("txid", "OAAAAA-AAAAA-AAAAAA"),)
    yield Row("unknown order", _once(lambda: ask(*unknown, call="CancelOrder")), 200, "EOrder:Unknown order")
    yield Row("empty", _once(ask), 200, '"count":0', GONE, ())
    yield Row("conditional", _once(ask), 200, '"count":2', GONE, ("limit", "stop"))
    yield Row("maintenance", _once(ask), 200, "EService:Unavailable", fault="maintenance")


def _kraken_futures(keys: Keys, other: Keys) -> Iterator[Row]:
    def ask(*pairs: tuple[str, str], nonce: int | None = None, who: Keys = keys, call: str = "cancelallorders") -> Raw:
        return kraken_futures(who, "POST", call, pairs, nonce)

    def twice() -> list[Raw]:
        nonce = time.time_ns()
        return [kraken_futures(keys, "GET", "accounts", (), nonce), ask(nonce=nonce)]

    def old() -> list[Raw]:
        return [kraken_futures(keys, "GET", "accounts", (), time.time_ns()), ask(nonce=now_ms() - 10**7)]

    def swapped() -> Raw:
        asked = ask(("symbol", "PF_XBTUSD"), ("a", "1"))
        return replace(asked, body="a=1&symbol=PF_XBTUSD")

    def in_query() -> Raw:
        asked = ask(("symbol", "PF_XBTUSD"))
        return replace(asked, body="", target=f"{asked.target}?symbol=PF_XBTUSD")

    def json_body() -> Raw:
        return ask(("symbol", "PF_XBTUSD")).headed(content_type=JSON["Content-Type"])

    yield Row("right", _once(ask), 200, '"status":"cancelled"', GONE)
    yield Row("right", _once(in_query), 200, '"status":"cancelled"', GONE)
    yield Row("signature", _once(lambda: ask().spoilt("Authent")), 200, "authenticationError")
    yield Row("old time", old, 200, "nonceBelowThreshold")
    yield Row("nonce", twice, 200, "nonceDuplicate")
    yield Row("other key", _once(lambda: ask(who=other)), 200, "authenticationError")
    yield Row("header", _once(lambda: ask().headed(authent=None)), 200, "authenticationError")
    yield Row("content type", _once(json_body), 200, "invalidArgument")
    yield Row("unknown symbol", _once(lambda: ask(("symbol", "PF_NOSUCH"))), 200, "contractNotFound")
    yield Row("empty symbol", _once(lambda: ask(("symbol", ""))), 200, "contractNotFound")
    symbol = ("symbol", "PF_XBTUSD")
    yield Row("twice", _once(lambda: ask(symbol, symbol)), 200, "invalidArgument")
    yield Row("order", _once(swapped), 200, "authenticationError")
    yield Row("unknown path", _once(lambda: ask(call="cancelall")), 200, "notFound")
    unknown = (("order_id", "00000000-0000-4000-8000-000000000000"),)
    yield Row("unknown order", _once(lambda: ask(*unknown, call="cancelorder")), 200, '"status":"notFound"')
    yield Row("empty", _once(ask), 200, '"status":"noOrdersToCancel"', GONE, ())
    yield Row("conditional", _once(ask), 200, '"status":"cancelled"', GONE, ("limit", "stop"))
    yield Row("maintenance", _once(ask), 200, "Unavailable", fault="maintenance")


def _deribit(keys: Keys, other: Keys) -> Iterator[Row]:
    def ask(
        method: str = "cancel_all", at_ms: int | None = None, nonce: str = "", who: Keys = keys, **params: object
    ) -> Raw:
        return deribit(who, f"private/{method}", params or {"detailed": False}, at_ms, nonce)

    def twice() -> list[Raw]:
        return [ask("get_open_orders", nonce="once", type="all"), ask(nonce="once")]

    def spoilt() -> Raw:
        asked = ask()
        start, _, signature = asked.headers["Authorization"].partition("sig=")
        return asked.headed(authorization=f"{start}sig={spoil(signature).lower()}")

    def doubled() -> Raw:
        asked = ask()
        return replace(asked, body=asked.body.replace('"id": 1', '"id": 1, "id": 1'))

    yield Row("right", _once(ask), 200, '"result":1', GONE)
    yield Row("signature", _once(spoilt), 401, '"code":13004')
    yield Row("old time", _once(lambda: ask(at_ms=now_ms() - 61_000)), 401, '"code":13004')
    yield Row("future time", _once(lambda: ask(at_ms=now_ms() + 61_000)), 401, '"code":13004')
    yield Row("nonce", twice, 401, '"code":13004')
    yield Row("other key", _once(lambda: ask(who=other)), 401, '"code":13004')
    yield Row("header", _once(lambda: ask().headed(authorization=None)), 401, '"code":13009')
    by_name = "cancel_all_by_instrument"
    yield Row("unknown symbol", _once(lambda: ask(by_name, instrument_name="NO-SUCH")), 400, '"code":-32602')
    yield Row("empty symbol", _once(lambda: ask(by_name, instrument_name="")), 400, '"code":-32602')
    yield Row("twice", _once(doubled), 401, '"code":13004')
    yield Row("unknown path", _once(lambda: ask("cancel_everything")), 400, '"code":-32601')
    yield Row("unknown order", _once(lambda: ask("cancel", order_id="1")), 400, '"code":10004')
    yield Row("empty", _once(ask), 200, '"result":0', GONE, ())
    yield Row("conditional", _once(ask), 200, '"result":2', GONE, ("limit", "stop"))
    yield Row("maintenance", _once(ask), 400, '"code":11051', fault="maintenance")


def _oxfun(keys: Keys, other: Keys) -> Iterator[Row]:
    def ask(body: str = "{}", at_ms: int | None = None, who: Keys = keys, path: str = "/v3/orders/cancel-all") -> Raw:
        return oxfun(who, "DELETE", path, body, at_ms)

    one = '{"orders":[{"marketCode":"BTC-USD-SWAP-LIN","orderId":1}]}'
    yield Row("right", _once(ask), 200, "Orders queued for cancelation", GONE)
    yield Row("signature", _once(lambda: ask().spoilt("Signature")), 401, '"code":"20000"')
    yield Row("old time", _once(lambda: ask(at_ms=now_ms() - 60_000)), 401, '"code":"20024"')
    yield Row("future time", _once(lambda: ask(at_ms=now_ms() + 60_000)), 401, '"code":"20024"')
    yield Row("other key", _once(lambda: ask(who=other)), 401, '"code":"20025"')
    yield Row("header", _once(lambda: ask().headed(nonce=None)), 401, '"code":"30001"')
    yield Row("content type", _once(lambda: ask().headed(content_type=FORM["Content-Type"])), 400, '"code":')
    yield Row("unknown symbol", _once(lambda: ask('{"marketCode":"NOSUCH"}')), 400, '"code":"20001"')
    yield Row("empty symbol", _once(lambda: ask('{"marketCode":""}')), 400, '"code":"20001"')
    yield Row("order", _once(lambda: replace(ask('{"b":1,"a":1}'), body='{"a":1,"b":1}')), 401, '"code":"20000"')
    yield Row("unknown path", _once(lambda: ask(path="/v3/orders/cancel-everything")), 404, '"success":false')
    yield Row("unknown order", _once(lambda: ask(one, path="/v3/orders/cancel")), 200, '"code":"40035"')
    yield Row("empty", _once(ask), 200, "No working orders found", GONE, ())
    yield Row("conditional", _once(ask), 200, "Orders queued for cancelation", GONE, ("limit", "stop"))
    yield Row("maintenance", _once(ask), 503, '"code":', fault="maintenance")


def _kuna(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Row]:
    multi = "/v4/order/private/cancel/multi"

    def ask(body: str = "", nonce: int | None = None, who: Keys = keys, target: str = multi) -> Raw:
        return kuna(who, "POST", target, body or f'{{"orderIds":["{ids[0]}"]}}', nonce)

    def twice() -> list[Raw]:
        nonce = now_ms()
        return [kuna(keys, "GET", "/v4/private/me", "{}", nonce), ask(nonce=nonce)]

    def old() -> list[Raw]:
        return [kuna(keys, "GET", "/v4/private/me"), ask(nonce=now_ms() - 60_000)]

    unknown = '{"orderIds":["c7fc5b2b-bd9d-48c1-a458-a83412669cf4"]}'
    yield Row("right", _once(ask), 200, '"success":true', GONE)
    yield Row("signature", _once(lambda: ask().spoilt("signature")), 401, "UNAUTHORIZED")
    yield Row("old time", old, 401, "Nonce is too small")
    yield Row("nonce", twice, 401, "Nonce is too small")
    yield Row("other key", _once(lambda: ask(who=other)), 401, "UNAUTHORIZED")
    yield Row("header", _once(lambda: ask().headed(nonce=None)), 401, "UNAUTHORIZED")
    yield Row("content type", _once(lambda: ask().headed(content_type="text/plain")), 400, '"code":"BAD_REQUEST"')
    yield Row("empty symbol", _once(lambda: ask('{"orderIds":[""]}')), 500, "WrongRequestException")
    yield Row("unknown path", _once(lambda: ask(target="/v4/order/private/cancel/all")), 404, '"errors"')
    yield Row("unknown order", _once(lambda: ask(unknown)), 200, '"success":false')
    yield Row("maintenance", _once(ask), 503, '"errors"', fault="maintenance")


def _roxom(keys: Keys, other: Keys) -> Iterator[Row]:
    target = "/api/v1/orders/cancel-all"

    def ask(who: Keys = keys, to: str = target) -> Raw:
        return roxom(who, "POST", to)

    unknown = "/api/v1/orders/01234567-89ab-7def-8123-456789abcdef/cancel"
    symbol, listed = "/api/v1/orders?instType=perpetual&symbol=", "/api/v1/orders?instType=perpetual&unit=btc"
    yield Row("right", _once(ask), 200, '"cancelledOrderIds"', GONE)
    yield Row("signature", _once(lambda: ask().spoilt("X-API-Signature")), 401, '"error":401')
    yield Row("other key", _once(lambda: ask(who={**keys, "private_key": other["private_key"]})), 401, '"error":401')
    yield Row("header", _once(lambda: ask().headed(x_api_signature=None)), 401, '"error":401')
    yield Row("content type", _once(lambda: ask().headed(content_type="text/plain")), 415, '"error"')
    yield Row("unknown symbol", _once(lambda: roxom(keys, "GET", symbol + "NOSUCH")), 400, '"error"')
    yield Row("empty symbol", _once(lambda: roxom(keys, "GET", symbol)), 400, '"error"')
    swapped = "/api/v1/orders?unit=btc&instType=perpetual"
    yield Row("order", _once(lambda: replace(roxom(keys, "GET", listed), target=swapped)), 401, '"error":401')
    yield Row("unknown path", _once(lambda: ask(to=target + "-now")), 404, '"error"')
    yield Row("unknown order", _once(lambda: ask(to=unknown)), 404, "Order Not Found")
    yield Row("empty", _once(ask), 200, '"cancelledOrderIds":[]', GONE, ())
    yield Row("conditional", _once(ask), 200, '"cancelledOrderIds"', GONE, ("limit", "stop"))
    yield Row("maintenance", _once(ask), 503, '"error"', fault="maintenance")


def _crosstrade(keys: Keys, other: Keys) -> Iterator[Row]:
    path = "/accounts/Sim101/orders/cancel"

    def ask(body: str = "{}", who: Keys = keys, to: str = path) -> Raw:
        return crosstrade(who, "POST", to, body)

    unknown = f"/accounts/Sim101/orders/{'0' * 32}/cancel"
    gone = "not found or already terminal"
    yield Row("right", _once(ask), 200, '"success":true', GONE)
    yield Row("other key", _once(lambda: ask(who=other)), 401, "error")
    yield Row("header", _once(lambda: ask().headed(authorization=None)), 401, "error")
    yield Row("unknown symbol", _once(lambda: ask('{"instrument":"NOSUCH"}')), 400, "error")
    yield Row("empty symbol", _once(lambda: ask('{"instrument":""}')), 400, "error")
    yield Row("unknown path", _once(lambda: ask(to="/accounts/Sim101/orders/stop")), 404, "error")
    yield Row("unknown order", _once(lambda: ask(to=unknown)), 400, gone)
    yield Row("conditional", _once(ask), 200, '"success":true', GONE, ("limit", "stop"))
    yield Row("maintenance", _once(ask), 503, "error", fault="maintenance")


def page() -> str:
    """Return the page with the table."""
    cells = {(row.idea, venue): cell(row) for venue in VENUES for row in reversed(list(rows(venue, {}, {}, [""])))}
    head = [f"| | {' | '.join(VENUES)} |", f"|---{'|---' * len(VENUES)}|"]
    body = [
        f"| {says} | {' | '.join(cells.get((idea, venue), '–') for venue in VENUES)} |" for idea, says in IDEAS.items()
    ]
    others = (CHANGES, *change_table(), FRAMES, *frame_table(), *detail_section())
    return "\n".join((INTRODUCTION, *head, *body, *others, ""))


def cell(row: Row) -> str:
    """Return status, what the answer says, and what becomes of the order."""
    left = "limit gone, stop rests" if row.left else row.order if row.kinds else "none"
    says = row.says.replace('"code":', "").replace('"', "")
    return f"{row.status} `{says}`, {left}"


INTRODUCTION = """# How strict the simulators are

A simulator that accepts what its venue refuses would let a wrong request pass every test. So each simulator gets
requests that are wrong in one way, written byte by byte by code that nothing else uses (`tests/unit/sim/raw.py`). The
table has the HTTP status, a part of the answer, and what becomes of an order that rests. A dash: the venue has no such
thing, such as a time stamp. The answers are those of [the venues' documents](../venues/index.md). Where these are
silent, the simulator refuses what a strict venue could refuse.

`tests/unit/sim/test_strictness.py` sends each of them. The tests of each venue have more.
"""
CHANGES = """
## Amends and edits

The same for the calls that change an order, where a simulator takes them over HTTP. No refused change alters an order
of any account. `tests/unit/sim/strict_changes.py` has the requests, and `tests/unit/sim/test_strict_changes.py` sends
them.
"""
FRAMES = """
## Over WebSockets

The same over the venues' WebSockets, where these take commands. Those of Kraken's derivatives take none on WebSocket
v1 (`kraken-futures`), and take them on the Unified WebSocket (`unified`). The other venues have their login in the
upgrade. The table has a part of the last answer, and what becomes of an order that
rests. `tests/unit/sim/strict_frames.py` has the messages, and `tests/unit/sim/test_strict_frames.py` sends them.
"""


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(), "utf-8")
    else:
        print(page())
