"""Amends and edits over HTTP that are wrong in one way, the answer of each simulated venue, and the order afterwards.

`test_strict_changes` sends each of them; `strictness` puts the table into docs/evidence/strictness.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from .raw import Raw, binance, deribit, kraken, kraken_futures, now_ms, spoil

VENUES = ("binance-spot", "binance-usdm", "binance-coinm", "kraken", "kraken-futures", "deribit")
IDEAS = {
    "right": "as documented",
    "signature": "a signature with one character changed",
    "other key": "the key of another plane",
    "old time": "an old time stamp",
    "future time": "a time stamp of the future",
    "nonce": "a nonce that was used",
    "unknown symbol": "an unknown symbol",
    "other symbol": "another symbol than the order's",
    "unknown order": "an unknown order",
    "foreign order": "an order of another account",
    "no order": "no order is named",
    "no number": "an amount that is no number",
    "nothing": "an amount of 0",
    "same": "no change",
    "maintenance": "in maintenance",
}
Keys = Mapping[str, str]
_UNKNOWN = "EOrder:Unknown order"


class Change(NamedTuple):
    """A request, the answer, and whether the order is another afterwards; `what` is the call."""

    what: str
    idea: str
    request: Callable[[], Iterable[Raw]]
    status: int
    says: str
    changes: bool = False
    fault: str = ""


def changes(venue: str, keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Change]:
    """Yield the rows of a venue; `ids` are an order of the account and one of another account."""
    if venue == "binance-spot":
        return _binance_spot(keys, other, ids)
    make = {"kraken": _kraken, "kraken-futures": _kraken_futures, "deribit": _deribit}
    return make[venue](keys, other, ids) if venue in make else _binance_futures(venue, keys, other, ids)


def _once(make: Callable[[], Raw]) -> Callable[[], Iterable[Raw]]:
    return lambda: [make()]


def _spoilt(asked: Raw) -> Raw:
    start, _, signature = asked.target.partition("&signature=")
    return replace(asked, target=f"{start}&signature={spoil(signature).lower()}")


def _binance_spot(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Change]:
    def call(method: str, path: str, name: str, usual: Keys) -> Callable[..., Raw]:
        def ask(who: Keys = keys, at_ms: int | None = None, **change: str | None) -> Raw:
            pairs = {"symbol": "BTCUSDT", name: ids[0], **usual, **change}
            given = [(key, value) for key, value in pairs.items() if value is not None]
            return binance(who, method, f"/api/v3/{path}", given, at_ms)

        return ask

    amend = call("PUT", "order/amend/keepPriority", "orderId", {"newQty": "0.005"})
    limit = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.02", "price": "29000"}
    stops = limit | {"cancelReplaceMode": "STOP_ON_FAILURE"}
    swap = call("POST", "order/cancelReplace", "cancelOrderId", stops)
    yield from _binance_rows("amend", amend, other, ids, "orderId", "newQty", "-2013")
    yield from _binance_rows("replace", swap, other, ids, "cancelOrderId", "quantity", "-2022")
    yield Change("amend", "same", _once(lambda: amend(newQty="0.01")), 400, '"code":-2038')


def _binance_futures(venue: str, keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Change]:
    path, symbol, price = {
        "binance-usdm": ("/fapi/v1/order", "BTCUSDT", "30000"),
        "binance-coinm": ("/dapi/v1/order", "BTCUSD_PERP", "30000"),
    }[venue]
    quantity = "0.01" if venue == "binance-usdm" else "1"

    def ask(who: Keys = keys, at_ms: int | None = None, **change: str | None) -> Raw:
        usual = {"symbol": symbol, "side": "BUY", "orderId": ids[0], "quantity": "2", "price": "29000"}
        pairs = [(key, value) for key, value in {**usual, **change}.items() if value is not None]
        return binance(who, "PUT", path, pairs, at_ms)

    yield from _binance_rows("modify", ask, other, ids, "orderId", "quantity", "-2013")
    yield Change("modify", "same", _once(lambda: ask(quantity=quantity, price=price)), 400, '"code":-5027')


def _binance_rows(
    what: str, ask: Callable[..., Raw], other: Keys, ids: Sequence[str], name: str, amount: str, unknown: str
) -> Iterator[Change]:
    elsewhere = "ETHUSD_PERP" if "USD_PERP" in ask().target else "ETHUSDT"

    def row(idea: str, make: Callable[[], Raw], status: int, code: str, **more: Any) -> Change:
        return Change(what, idea, _once(make), status, f'"code":{code}', **more)

    yield Change(what, "right", _once(ask), 200, f"{ids[0]}", changes=True)
    yield row("signature", lambda: _spoilt(ask()), 400, "-1022")
    yield row("other key", lambda: ask(who=other), 401, "-2015")
    yield row("old time", lambda: ask(at_ms=now_ms() - 6000), 400, "-1021")
    yield row("future time", lambda: ask(at_ms=now_ms() + 3000), 400, "-1021")
    yield row("unknown symbol", lambda: ask(symbol="NOSUCH"), 400, "-1121")
    yield row("other symbol", lambda: ask(symbol=elsewhere), 400, unknown)
    yield row("unknown order", lambda: ask(**{name: "1"}), 400, unknown)
    yield row("foreign order", lambda: ask(**{name: ids[1]}), 400, unknown)
    yield row("no order", lambda: ask(**{name: None}), 400, "-1102")
    yield row("no number", lambda: ask(**{amount: "x"}), 400, "-1100")
    yield row("nothing", lambda: ask(**{amount: "0"}), 400, "-1100")
    yield row("maintenance", ask, 503, "-1016", fault="maintenance")


def _kraken(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Change]:
    edit = {"pair": "XBTUSD", "volume": "0.5", "price": "29000"}
    yield from _kraken_rows("amend", "AmendOrder", {"order_qty": "0.5", "limit_price": "29000"}, keys, other, ids)
    yield from _kraken_rows("edit", "EditOrder", edit, keys, other, ids)
    unknown = {"unknown symbol": ("NOSUCH", "EQuery:Unknown asset pair"), "other symbol": ("ETHUSD", _UNKNOWN)}
    for idea, (pair, says) in unknown.items():
        asked = partial(kraken, keys, "EditOrder", [("txid", ids[0]), *(edit | {"pair": pair}).items()])
        yield Change("edit", idea, _once(asked), 200, says)


def _kraken_rows(what: str, call: str, usual: Keys, keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Change]:
    def ask(who: Keys = keys, nonce: int | None = None, **change: str | None) -> Raw:
        pairs = {"txid": ids[0], **usual, **change}
        return kraken(who, call, [(key, value) for key, value in pairs.items() if value is not None], nonce)

    def twice() -> list[Raw]:
        nonce = time.time_ns()
        return [kraken(keys, "GetApiKeyInfo", (), nonce), ask(nonce=nonce)]

    def old() -> list[Raw]:
        return [kraken(keys, "GetApiKeyInfo"), ask(nonce=time.time_ns() - 10**9)]

    def row(idea: str, make: Callable[[], Raw], says: str, **more: Any) -> Change:
        return Change(what, idea, _once(make), 200, says, **more)

    amount, invalid = "order_qty" if what == "amend" else "volume", "EGeneral:Invalid arguments"
    yield row("right", ask, '"error":[]', changes=True)
    yield row("signature", lambda: ask().spoilt("API-Sign"), "EAPI:Invalid signature")
    yield row("other key", lambda: ask(who=other), "EAPI:Invalid key")
    yield Change(what, "old time", old, 200, "EAPI:Invalid nonce")
    yield Change(what, "nonce", twice, 200, "EAPI:Invalid nonce")
    yield row("unknown order", lambda: ask(txid="OAAAAA-AAAAA-AAAAAA"), _UNKNOWN)
    yield row("foreign order", lambda: ask(txid=ids[1]), _UNKNOWN)
    yield row("no order", lambda: ask(txid=None), f"{invalid}:txid")
    no_number: dict[str, Any] = {amount: "x"}
    nothing: dict[str, Any] = {amount: "0"}
    yield row("no number", lambda: ask(**no_number), invalid)
    yield row("nothing", lambda: ask(**nothing), invalid)
    yield row("maintenance", ask, "EService:Unavailable", fault="maintenance")


def _kraken_futures(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Change]:
    def ask(who: Keys = keys, nonce: int | None = None, **change: str | None) -> Raw:
        pairs = {"orderId": ids[0], "size": "2", "limitPrice": "29000", **change}
        listed = [(key, value) for key, value in pairs.items() if value is not None]
        return kraken_futures(who, "POST", "editorder", listed, nonce)

    def twice() -> list[Raw]:
        nonce = time.time_ns()
        return [kraken_futures(keys, "GET", "accounts", (), nonce), ask(nonce=nonce)]

    def old() -> list[Raw]:
        return [kraken_futures(keys, "GET", "accounts", (), time.time_ns()), ask(nonce=now_ms() - 10**7)]

    def row(idea: str, make: Callable[[], Raw], says: str, **more: Any) -> Change:
        return Change("edit", idea, _once(make), 200, says, **more)

    missed = '"status":"orderForEditNotFound"'
    yield row("right", ask, '"status":"edited"', changes=True)
    yield row("signature", lambda: ask().spoilt("Authent"), "authenticationError")
    yield row("other key", lambda: ask(who=other), "authenticationError")
    yield Change("edit", "old time", old, 200, "nonceBelowThreshold")
    yield Change("edit", "nonce", twice, 200, "nonceDuplicate")
    yield row("unknown order", lambda: ask(orderId="00000000-0000-4000-8000-000000000000"), missed)
    yield row("foreign order", lambda: ask(orderId=ids[1]), missed)
    yield row("no order", lambda: ask(orderId=None), "requiredArgumentMissing")
    yield row("no number", lambda: ask(size="x"), "invalidArgument")
    yield row("nothing", lambda: ask(size="0"), "invalidArgument")
    yield row("no number", lambda: ask(limitPrice="x"), "invalidArgument")
    yield row("maintenance", ask, "Unavailable", fault="maintenance")


def _deribit(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[Change]:
    def ask(who: Keys = keys, at_ms: int | None = None, nonce: str = "", method: str = "edit", **change: object) -> Raw:
        named: dict[str, object] = {"order_id": ids[0]} if method == "edit" else {"label": "none"}
        params = {**named, "amount": 20, "price": 29_000, **change}
        given = {key: value for key, value in params.items() if value is not None}
        return deribit(who, f"private/{method}", given, at_ms, nonce)

    def twice() -> list[Raw]:
        return [deribit(keys, "private/get_open_orders", {"type": "all"}, None, "again"), ask(nonce="again")]

    def spoilt() -> Raw:
        asked = ask()
        start, _, signature = asked.headers["Authorization"].partition("sig=")
        return asked.headed(authorization=f"{start}sig={spoil(signature).lower()}")

    def row(idea: str, make: Callable[[], Raw], status: int, code: str, **more: Any) -> Change:
        return Change("edit", idea, _once(make), status, f'"code":{code}', **more)

    yield Change("edit", "right", _once(ask), 200, '"replaced":true', changes=True)
    yield row("signature", spoilt, 401, "13004")
    yield row("other key", lambda: ask(who=other), 401, "13004")
    yield row("old time", lambda: ask(at_ms=now_ms() - 61_000), 401, "13004")
    yield row("future time", lambda: ask(at_ms=now_ms() + 61_000), 401, "13004")
    yield Change("edit", "nonce", twice, 401, '"code":13004')
    yield row("unknown symbol", lambda: ask(method="edit_by_label", instrument_name="NO-SUCH"), 400, "-32602")
    yield row("unknown order", lambda: ask(order_id="1"), 400, "10004")
    yield row("foreign order", lambda: ask(order_id=ids[1]), 400, "10029")
    yield row("no order", lambda: ask(order_id=None), 400, "-32602")
    yield row("no number", lambda: ask(amount="x"), 400, "-32602")
    yield row("nothing", lambda: ask(amount=0), 400, "-32602")
    yield row("maintenance", ask, 400, "11051", fault="maintenance")


def change_table() -> list[str]:
    """Return the lines of the table."""
    empty: Keys = dict.fromkeys(("api_key", "api_secret", "client_id", "client_secret"), "")
    cells: dict[tuple[str, str], str] = {}
    for venue in VENUES:
        for row in changes(venue, empty, empty, ["", ""]):
            says = row.says.replace('"code":', "").replace('"', "") or "id"
            shown = f"{row.what}: {row.status} `{says}`{', changed' if row.changes else ''}"
            before = cells.get((row.idea, venue), "")
            if f"{row.what}:" not in before:
                cells[row.idea, venue] = f"{before}<br>{shown}" if before else shown
    head = [f"| | {' | '.join(VENUES)} |", f"|---{'|---' * len(VENUES)}|"]
    return head + [
        f"| {says} | {' | '.join(cells.get((idea, venue), '–') for venue in VENUES)} |" for idea, says in IDEAS.items()
    ]
