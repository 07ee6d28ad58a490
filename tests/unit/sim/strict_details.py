"""Requests that are wrong in a detail: the shape of HTTP, names of orders, batches, numbers, parameters too many.

`test_strict_details` sends each of them; `strictness` puts the table into docs/evidence/strictness.md. Each request is
written byte by byte, by code that nothing else uses.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from .raw import Raw, b64, binance, binance_form, deribit, kraken, kraken_futures, kraken_json

VENUES = ("binance-spot", "binance-usdm", "binance-coinm", "kraken", "kraken-futures", "deribit")
GONE, RESTS = "gone", "rests"
IDEAS = {
    "host": "no header `Host`",
    "coded": "a body with `Content-Encoding`",
    "method": "another HTTP method",
    "get body": "a list whose parameters are in the body of a GET",
    "no type": "a body without a content type",
    "place": "the signature, or the nonce, in another place",
    "unit": "a time stamp in seconds",
    "number": "a number or a switch in another notation",
    "unknown parameter": "a cancel-all with a parameter that it does not have",
    "both places": "a parameter in the query and in the body",
    "malformed id": "an order id that is malformed",
    "two names": "an order's id with another client id",
    "foreign order": "an order of another account",
    "ended order": "an order that has been cancelled",
    "repeated id": "an id twice in one batch",
    "too many ids": "too many ids in one batch",
    "wrong item": "a batch with a wrong entry behind a right one",
    "two lists": "a batch with ids and client ids",
}

Keys = Mapping[str, str]


class DetailRow(NamedTuple):
    """Requests of which the last is wrong, what the venue answers, and what becomes of the order that rests."""

    idea: str
    request: Callable[[], Sequence[Raw]]
    status: int
    says: str
    order: str = RESTS


def detail_rows(venue: str, keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[DetailRow]:
    """Yield the rows of a venue; `other` are the keys of a second account there, `ids` the orders that rest."""
    if venue.startswith("binance"):
        return _binance(venue, keys, other, ids)
    make = {"kraken": _kraken, "kraken-futures": _kraken_futures, "deribit": _deribit}[venue]
    return make(keys, other, ids)


def _row(idea: str, make: Callable[[], Raw], status: int, says: str, order: str = RESTS) -> DetailRow:
    return DetailRow(idea, lambda: [make()], status, says, order)


def _again(make: Callable[[], Raw], status: int, says: str) -> DetailRow:
    """Return the row of a cancel that is sent twice."""
    return DetailRow("ended order", lambda: [make(), make()], status, says, GONE)


# ── Binance (binance.md §2, §3, §8) ───────────────────────────────────────────────────────────────────────────────


def _binance(venue: str, keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[DetailRow]:
    path, symbol = {
        "binance-spot": ("/api/v3/openOrders", "BTCUSDT"),
        "binance-usdm": ("/fapi/v1/allOpenOrders", "BTCUSDT"),
        "binance-coinm": ("/dapi/v1/allOpenOrders", "BTCUSD_PERP"),
    }[venue]
    api = path.rpartition("/")[0]

    def ask(*pairs: tuple[str, str], to: str = path, who: Keys = keys, at: int | None = None) -> Raw:
        return binance(who, "DELETE", to, (("symbol", symbol), *pairs), at)

    def cancel(who: Keys = keys, **more: str) -> Raw:
        return ask(*({"orderId": ids[0]} | more).items(), to=f"{api}/order", who=who)

    def form(method: str = "DELETE", to: str = path) -> Raw:
        return binance_form(keys, method, to, [("symbol", symbol)])

    def moved() -> Raw:
        asked = ask()
        text, _, signature = asked.target.partition("?")[2].rpartition("&")
        return replace(asked, target=f"{path}?{signature}&{text}")

    def batch(*items: object, **more: str) -> Raw:
        text = json.dumps(items, separators=(",", ":"))
        return ask(("orderIdList", text), *more.items(), to=f"{api}/batchOrders")

    yield _row("host", lambda: replace(ask(), host=""), 400, "malformed HTTP")
    yield _row("coded", lambda: form().headed(content_encoding="gzip"), 400, "malformed HTTP")
    yield _row("method", lambda: replace(ask(), method="POST"), 404, '"code":-5000')
    yield _row("get body", lambda: form("GET", f"{api}/openOrders"), 400, '"code":-1102')
    yield _row("no type", lambda: form().headed(content_type=None), 400, '"code":-1102')
    yield _row("place", moved, 400, '"code":-1022')
    yield _row("unit", lambda: ask(at=int(time.time())), 400, '"code":-1021')
    for window in ("5e3", "+5000", " 5000", "5_000", "５000"):
        yield _row("number", partial(ask, ("recvWindow", window)), 400, '"code":-1130')
    yield _row("unknown parameter", lambda: ask(("side", "BUY")), 400, '"code":-1104')
    for wrong in ("+1", "1.0", "0x1", "1,2", "x"):
        yield _row("malformed id", partial(cancel, orderId=wrong), 400, '"code":-1100')
    yield _row("two names", lambda: cancel(origClientOrderId="another"), 400, '"code":-2011')
    yield _row("foreign order", lambda: cancel(other), 400, '"code":-2011')
    yield _again(cancel, 400, '"code":-2011')
    if venue != "binance-spot":
        yield _row("repeated id", lambda: batch(int(ids[0]), int(ids[0])), 200, '"code":-2011', GONE)
        yield _row("too many ids", lambda: batch(*[int(ids[0])] * 11), 400, '"code":-4054')
        for item in (ids[0], True, 1.5, None):
            yield _row("wrong item", partial(batch, int(ids[0]), item), 400, '"code":-1130')
        both = {"origClientOrderIdList": '["a"]'}
        yield _row("two lists", lambda: batch(int(ids[0]), **both), 400, '"code":-1128')


# ── Kraken, spot (kraken.md §2.1, §3.2) ───────────────────────────────────────────────────────────────────────────


def _kraken(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[DetailRow]:
    def ask(call: str = "CancelAll", who: Keys = keys, **params: str) -> Raw:
        return kraken(who, call, tuple(params.items()))

    def batch(*items: object) -> Raw:
        return kraken_json(keys, "CancelOrderBatch", {"orders": items})

    def moved() -> Raw:
        asked = ask()
        return replace(asked, target=f"{asked.target}?{asked.body}", body="")

    invalid = "EGeneral:Invalid arguments"
    yield _row("host", lambda: replace(ask(), host=""), 400, "malformed HTTP")
    yield _row("coded", lambda: ask().headed(content_encoding="gzip"), 400, "malformed HTTP")
    yield _row("method", lambda: replace(ask(), method="DELETE"), 200, "EGeneral:Unknown method")
    yield _row("no type", lambda: ask().headed(content_type=None), 200, "EAPI:Invalid signature")
    yield _row("place", moved, 200, "EAPI:Invalid signature")
    for text in ("60.0", "1e3", "+60", "-1", ""):
        yield _row("number", partial(ask, "CancelAllOrdersAfter", timeout=text), 200, f"{invalid}:timeout")
    yield _row("unknown parameter", lambda: ask(pair="XBTUSD"), 200, f"{invalid}:pair")
    for wrong in ("x", "OAAAAA", "-1"):
        yield _row("malformed id", partial(ask, "CancelOrder", txid=wrong), 200, f"{invalid}:txid")
    two = partial(ask, "CancelOrder", txid=ids[0], cl_ord_id="another")
    yield _row("two names", two, 200, f"{invalid}:cl_ord_id")
    yield _row("foreign order", lambda: ask("CancelOrder", other, txid=ids[0]), 200, "EOrder:Unknown order")
    yield _again(lambda: ask("CancelOrder", txid=ids[0]), 200, "EOrder:Unknown order")
    yield _row("repeated id", lambda: batch(ids[0], ids[0]), 200, '"count":1', GONE)
    yield _row("too many ids", lambda: batch(*[ids[0]] * 51), 200, f"{invalid}:orders")
    for item in ("x", True, 1.5, None):
        yield _row("wrong item", partial(batch, ids[0], item), 200, f"{invalid}:orders")


# ── Kraken, derivatives (kraken.md §2.3, §3.4) ────────────────────────────────────────────────────────────────────


def _kraken_futures(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[DetailRow]:
    def ask(call: str = "cancelallorders", who: Keys = keys, **arguments: str) -> Raw:
        return kraken_futures(who, "POST", call, tuple(arguments.items()))

    cancel = partial(ask, "cancelorder", keys)

    def batch(*more: Mapping[str, object]) -> Raw:
        items = [{"order": "cancel", "order_id": ids[0]}, *more]
        return ask("batchorder", json=json.dumps({"batchOrder": items}))

    def twice() -> Raw:
        asked, query = ask(symbol="PF_XBTUSD"), "symbol=PF_XBTUSD"
        text = hashlib.sha256(f"{query}{asked.body}/api/v3/cancelallorders".encode()).digest()
        proof = b64(base64.b64decode(keys["api_secret"]), text, "sha512")
        return replace(asked, target=f"{asked.target}?{query}").headed(authent=proof)

    def moved() -> Raw:
        asked = ask()
        return replace(asked, headers={"API-Key": keys["api_key"], "Authent": asked.headers["Authent"]})

    invalid = '"error":"invalidArgument"'
    unknown = partial(ask, "cancelorder", order_id=str(uuid.UUID(int=7, version=4)), cliOrdId="another")
    new = {"orderType": "lmt", "symbol": "PF_XBTUSD", "side": "buy", "size": 1, "limitPrice": 1}
    yield _row("host", lambda: replace(ask(), host=""), 400, "malformed HTTP")
    yield _row("coded", lambda: ask(symbol="PF_XBTUSD").headed(content_encoding="gzip"), 400, "malformed HTTP")
    yield _row("method", lambda: replace(ask(), method="PUT"), 200, '"error":"notFound"')
    yield _row("no type", lambda: ask(symbol="PF_XBTUSD").headed(content_type=None), 200, invalid)
    yield _row("place", moved, 200, "authenticationError")
    for text in ("60.0", "1e3", "+60", "-1", ""):
        yield _row("number", partial(ask, "cancelallordersafter", timeout=text), 200, invalid)
    yield _row("unknown parameter", lambda: ask(instrument="PF_XBTUSD"), 200, invalid)
    yield _row("both places", twice, 200, invalid)
    for wrong in ("x", "{0}", "1"):
        yield _row("malformed id", partial(ask, "cancelorder", order_id=wrong), 200, invalid)
    yield _row("two names", lambda: cancel(order_id=ids[0], cliOrdId="another"), 200, invalid)
    yield _row("two names", unknown, 200, '"status":"notFound"')
    yield _row("foreign order", lambda: ask("cancelorder", other, order_id=ids[0]), 200, '"status":"notFound"')
    yield _again(lambda: cancel(order_id=ids[0]), 200, '"status":"notFound"')
    yield _row("repeated id", lambda: batch({"order": "cancel", "order_id": ids[0]}), 200, '"notFound"', GONE)
    yield _row("wrong item", lambda: batch({"order": "cancel"}), 200, '"error":"requiredArgumentMissing"')
    yield _row("wrong item", lambda: batch({"order": "stop"}), 200, invalid)
    yield _row("wrong item", lambda: batch({"order": "cancel", "order_id": "x"}), 200, invalid)
    yield _row("wrong item", lambda: batch({"order": "edit", "order_id": ids[0], "size": 0}), 200, invalid)
    yield _row("wrong item", lambda: batch({"order": "send", **new, "symbol": "NO"}), 200, "contractNotFound")
    yield _row("wrong item", lambda: batch({"order": "send", **new, "size": 0}), 200, invalid)


# ── Deribit (deribit.md §2, §3, §8) ───────────────────────────────────────────────────────────────────────────────


def _deribit(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[DetailRow]:
    def ask(method: str = "cancel_all", who: Keys = keys, at_ms: int | None = None, **params: object) -> Raw:
        return deribit(who, f"private/{method}", params, at_ms)

    def doubled() -> Raw:
        asked = ask()
        return asked.headed(authorization=f"{asked.headers['Authorization']}, {asked.headers['Authorization']}")

    def kind(text: str | None) -> Callable[[], Raw]:
        return lambda: ask().headed(content_type=text)

    invalid = '"code":-32602'
    yield _row("host", lambda: replace(ask(), host=""), 400, "malformed HTTP")
    yield _row("coded", lambda: ask().headed(content_encoding="gzip"), 400, "malformed HTTP")
    yield _row("method", lambda: replace(ask(), method="PUT"), 400, '"code":-32601')
    yield _row("no type", kind(None), 400, '"code":11050')
    yield _row("no type", kind("text/plain"), 400, '"code":11050')
    yield _row("place", doubled, 401, '"code":13004')
    yield _row("unit", lambda: ask(at_ms=int(time.time())), 401, '"code":13004')
    for switch in ("true", 1, None):
        yield _row("number", partial(ask, detailed=switch), 400, invalid)
    yield _row("unknown parameter", lambda: ask(type="limit"), 400, invalid)
    yield _row("unknown parameter", lambda: ask("cancel_all_by_currency", currency="any"), 400, invalid)
    yield _row("foreign order", lambda: ask("cancel", other, order_id=ids[0]), 400, '"code":10029')
    yield _again(lambda: ask("cancel", order_id=ids[0]), 400, '"code":10010')


def detail_section() -> list[str]:
    """Return the lines of the page: heading, text, table."""
    empty: Keys = dict.fromkeys(("api_key", "api_secret", "client_id", "client_secret"), "")
    cells: dict[tuple[str, str], str] = {}
    for venue in VENUES:
        for row in detail_rows(venue, empty, empty, ["1"]):
            says = row.says.replace('"code":', "").replace('"', "")
            cells.setdefault((row.idea, venue), f"{row.status} `{says}`, {row.order}")
    head = [_TEXT, f"| | {' | '.join(VENUES)} |", f"|---{'|---' * len(VENUES)}|"]
    return head + [
        f"| {says} | {' | '.join(cells.get((idea, venue), '–') for venue in VENUES)} |" for idea, says in IDEAS.items()
    ]


_TEXT = """
## Details

Requests whose shape, names or numbers are wrong, over HTTP. A dash: the venue has no such thing, or takes it. A batch
that is refused cancels nothing. `tests/unit/sim/strict_details.py` has the requests, and
`tests/unit/sim/test_strict_details.py` sends them.
"""
