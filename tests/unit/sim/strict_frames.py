"""WebSocket messages that are wrong in one way, the answer of each simulated venue, and what becomes of the order.

`test_strict_frames` sends each of them; `strictness` puts the table into docs/evidence/strictness.md. Each message is
written here as text, and signed by code that nothing else uses.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from .raw import b64, now_ms, spoil

VENUES = (
    "binance-spot", "binance-usdm", "binance-coinm", "kraken", "kraken-futures", "unified", "deribit", "oxfun",
)  # fmt: skip
UNIFIED = "unified"  # Kraken's Unified WebSocket, of `kraken-futures`
GONE, RESTS = "gone", "rests"
IDEAS = {
    "right": "as documented",
    "empty": "a cancel-all when nothing is open",
    "conditional": "a cancel-all when a conditional order rests too",
    "repeated id": "an id twice in one batch",
    "no login": "a command without a login",
    "signature": "a signature or token with one character changed",
    "old time": "an old time stamp",
    "future time": "a time stamp of the future",
    "nonce": "a nonce or challenge that is not this connection's",
    "other key": "the key or token of another plane",
    "expired": "a token that has expired",
    "order": "parameters signed in another order than the documented one",
    "window": "a window for the time stamp that is too large",
    "unknown symbol": "an unknown symbol",
    "empty symbol": "an empty symbol",
    "asset class": "no asset class, or another one",
    "wrong type": "a parameter of the wrong type",
    "unknown parameter": "an unknown parameter",
    "missing": "a parameter is missing",
    "unknown order": "the cancel of an unknown order",
    "unknown method": "an unknown method",
    "no JSON": "a message that is no JSON",
    "binary": "a binary message",
    "two names": "two kinds of names for orders",
    "malformed id": "an order id that is malformed",
    "number": "a time-out that is a text",
    "id": "the number of the request is of the wrong type",
    "read only": "a cancel with a key that may only read",
    "maintenance": "a cancel in maintenance",
}

Keys = Mapping[str, str]


class Message(NamedTuple):
    """A message, made of the message that came last, and a part of its answer."""

    make: Callable[[str], str | bytes]
    says: str


class FrameRow(NamedTuple):
    """A conversation, of which the last message is wrong, and what becomes of the order that rests."""

    idea: str
    talk: Sequence[Message]
    order: str = RESTS
    kinds: tuple[str, ...] = ("limit",)
    fault: str = ""

    @property
    def says(self) -> str:
        """A part of the last answer."""
        return self.talk[-1].says


def frame_rows(venue: str, keys: Keys, other: Keys, ids: Sequence[str], tokens: Sequence[str]) -> Iterator[FrameRow]:
    """Yield the rows of a venue.

    `other` are the keys of another plane, `ids` the orders that rest, `tokens` those of Kraken: its own, another's.
    """
    if venue.startswith("binance"):
        return _binance(venue, keys, other, ids)
    if venue in ("kraken", UNIFIED):
        return _kraken(tokens, ids) if venue == "kraken" else _unified(tokens, ids)
    return {"kraken-futures": _kraken_futures, "deribit": _deribit, "oxfun": _oxfun}[venue](keys, other, ids)


def _one(idea: str, make: Callable[[], str | bytes] | str, says: str, *rest: Any, **more: Any) -> FrameRow:
    """Return a row of a single message."""
    return FrameRow(idea, [Message(lambda _: make if isinstance(make, str) else make(), says)], *rest, **more)


# ── Binance (binance.md §2, §3, §8) ───────────────────────────────────────────────────────────────────────────────


def _binance(venue: str, keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[FrameRow]:
    is_spot = venue == "binance-spot"
    symbol = "BTCUSD_PERP" if venue == "binance-coinm" else "BTCUSDT"
    method = "openOrders.cancelAll" if is_spot else "order.cancel"  # the futures have no cancel-all here

    def ask(who: Keys = keys, at_ms: int | None = None, **change: object) -> dict[str, Any]:
        usual: dict[str, object] = {"apiKey": who["api_key"], "symbol": symbol}
        usual |= {} if is_spot else {"orderId": int(ids[0] or 1)}
        params = {**usual, "timestamp": now_ms() if at_ms is None else at_ms, **change}
        text = "&".join(f"{name}={params[name]}" for name in sorted(params))
        signed = hmac.digest(who["api_secret"].encode(), text.encode(), "sha256").hex()
        return {**params, "signature": signed}

    def frame(params: Mapping[str, Any], name: str = method) -> str:
        return json.dumps({"id": "k1", "method": name, "params": params})

    def spoilt() -> str:
        params = ask()
        return frame({**params, "signature": spoil(params["signature"]).lower()})

    def unsorted() -> str:
        params = {name: value for name, value in ask().items() if name != "signature"}
        text = "&".join(f"{name}={params[name]}" for name in sorted(params, reverse=True))
        signed = hmac.digest(keys["api_secret"].encode(), text.encode(), "sha256").hex()
        return frame({**params, "signature": signed})

    def without(name: str) -> Callable[[], str]:
        return lambda: frame({key: value for key, value in ask().items() if key != name})

    yield _one("right", lambda: frame(ask()), '"status":200', GONE)
    yield _one("signature", spoilt, '"code":-1022')
    yield _one("old time", lambda: frame(ask(at_ms=now_ms() - 6000)), '"code":-1021')
    yield _one("future time", lambda: frame(ask(at_ms=now_ms() + 3000)), '"code":-1021')
    yield _one("other key", lambda: frame(ask(who=other)), '"code":-2015')
    yield _one("no login", without("apiKey"), '"code":-2014')
    yield _one("missing", without("signature"), '"code":-1102')
    yield _one("order", unsorted, '"code":-1022')
    yield _one("window", lambda: frame(ask(recvWindow=60_001)), '"code":-1131')
    yield _one("binary", lambda: frame(ask()).encode(), '"code":-1100')
    for wrong in ('{"a": 1}', "1.5", '"an id"', f'"{"x" * 37}"'):
        yield _one("id", partial(lambda text: frame(ask()).replace('"k1"', text), wrong), '"code":-1135')
    refused = '"msg":"Invalid API-key, IP, or permissions for action."'
    yield _one("read only", lambda: frame(ask()), refused, fault="read_only_key")
    yield _one("unknown parameter", lambda: frame(ask(side="BUY")), '"code":-1104')
    yield _one("malformed id", lambda: frame(ask(orderId="1.0"), "order.cancel"), '"code":-1100')
    named: dict[str, Any] = {"origClientOrderId": "another"}
    yield _one("two names", lambda: frame(ask(orderId=int(ids[0] or 1), **named), "order.cancel"), '"code":-2011')
    yield _one("unknown symbol", lambda: frame(ask(symbol="NOSUCH")), '"code":-1121')
    yield _one("empty symbol", lambda: frame(ask(symbol="")), '"code":-1102')
    yield _one("unknown order", lambda: frame(ask(orderId=1), "order.cancel"), '"code":-2011')
    yield _one("maintenance", lambda: frame(ask()), '"code":-1016', fault="maintenance")
    if is_spot:
        yield _one("empty", lambda: frame(ask()), '"code":-2011', GONE, ())
        yield _one("conditional", lambda: frame(ask()), '"status":"CANCELED"', GONE, ("limit", "stop"))


# ── Kraken (kraken.md §2.2, §3.1, §8) ─────────────────────────────────────────────────────────────────────────────


def _kraken(tokens: Sequence[str], ids: Sequence[str]) -> Iterator[FrameRow]:
    token, other = tokens
    limit: dict[str, Any] = {"order_type": "limit", "side": "buy", "symbol": "BTC/USD"}
    limit |= {"order_qty": 0.01, "limit_price": 100.0}

    def frame(method: str, with_token: str | None = token, **params: Any) -> str:
        named = params if with_token is None else {**params, "token": with_token}
        return json.dumps({"method": method, "params": named, "req_id": 7})

    no_session, unknown_pair = "ESession:Invalid session", "EQuery:Unknown asset pair"
    yield _one("right", frame("cancel_all"), '"count":1', GONE)
    yield _one("signature", frame("cancel_all", spoil(token)), no_session)
    yield _one("signature", frame("add_order", spoil(token), **limit), no_session)
    yield _one("other key", frame("cancel_all", other), no_session)
    yield _one("no login", frame("cancel_all", None), no_session)
    yield _one("expired", frame("cancel_all"), no_session, fault="expire_token")
    yield _one("unknown symbol", frame("add_order", **{**limit, "symbol": "NO/SUCH"}), unknown_pair)
    yield _one("empty symbol", frame("add_order", **{**limit, "symbol": ""}), unknown_pair)
    yield _one("wrong type", frame("add_order", **{**limit, "order_qty": "0.01"}), "EGeneral:Invalid arguments")
    yield _one("wrong type", lambda: frame("cancel_order", order_id=ids[0]), "EGeneral:Invalid arguments:order_id")
    yield _one("missing", frame("cancel_order"), "EGeneral:Invalid arguments")
    yield _one("unknown order", frame("cancel_order", order_id=["OAAAAA-AAAAA-AAAAAA"]), "EOrder:Unknown order")
    unknown = frame("amend_order", order_id="OAAAAA-AAAAA-AAAAAA", order_qty=1.0)
    yield _one("unknown order", unknown, "EOrder:Unknown order")
    yield _one("unknown method", frame("cancel_everything"), "EGeneral:Invalid arguments:method")
    yield _one("no JSON", "cancel_all", "EGeneral:Invalid arguments")
    invalid = "EGeneral:Invalid arguments"
    yield _one("binary", lambda: frame("cancel_all").encode(), invalid)
    yield _one("unknown parameter", frame("cancel_all", symbol="BTC/USD"), f"{invalid}:symbol")
    yield _one("two names", lambda: frame("cancel_order", order_id=[ids[0]], cl_ord_id=["another"]), invalid)
    yield _one("malformed id", frame("cancel_order", order_id=["x"]), f"{invalid}:order_id")
    yield _one("malformed id", frame("cancel_order", order_userref=["7"]), f"{invalid}:order_userref")
    yield _one("malformed id", lambda: frame("batch_cancel", orders=[ids[0], "x"]), f"{invalid}:orders")
    yield _one("repeated id", lambda: frame("batch_cancel", orders=[ids[0]] * 2), '"count":1', GONE)
    yield _one("number", frame("cancel_all_orders_after", timeout="60"), f"{invalid}:timeout")
    yield _one("id", frame("cancel_all").replace('"req_id": 7', '"req_id": "7"'), f"{invalid}:req_id")
    yield _one("wrong type", frame("subscribe", channel="executions", snap_orders="no"), f"{invalid}:snap_orders")
    yield _one("empty", frame("cancel_all"), '"count":0', GONE, ())
    yield _one("conditional", frame("cancel_all"), '"count":2', GONE, ("limit", "stop-loss-limit"))
    yield _one("read only", frame("cancel_all"), "EGeneral:Permission denied", fault="read_only_key")
    yield _one("maintenance", frame("cancel_all"), "EService:Unavailable", fault="maintenance")


# ── Kraken's Unified WebSocket (kraken.md §2.2, §3.3): an asset class in every request, and no user references ─────


def _unified(tokens: Sequence[str], ids: Sequence[str]) -> Iterator[FrameRow]:
    token, other = tokens

    def frame(method: str, with_token: str | None = token, **params: Any) -> str:
        named = {"asset_class": "derivatives", "token": with_token, **params}
        shown = {name: value for name, value in named.items() if value is not None}
        return json.dumps({"method": method, "params": shown, "req_id": 7})

    no_session, invalid = "ESession:Invalid session", "EGeneral:Invalid arguments"
    class_needed = f"{invalid}:asset_class"
    unknown = ["00000000-0000-4000-8000-000000000000"]
    yield _one("right", frame("cancel_all"), '"count":1', GONE)
    yield _one("right", lambda: frame("cancel_order", order_id=[ids[0]]), '"success":true', GONE)
    yield _one("signature", frame("cancel_all", spoil(token)), no_session)
    yield _one("other key", frame("cancel_all", other), no_session)
    yield _one("no login", frame("cancel_all", None), no_session)
    yield _one("expired", frame("cancel_all"), no_session, fault="expire_token")
    yield _one("asset class", frame("cancel_all", asset_class=None), class_needed)
    for wrong in ("spot", "Derivatives", "", 1):
        yield _one("asset class", frame("cancel_all", asset_class=wrong), class_needed)
    for method, more in (
        ("cancel_order", {"order_id": unknown}), ("batch_cancel", {"orders": unknown * 2}),
        ("cancel_all_orders_after", {"timeout": 60}), ("subscribe", {"channel": "executions"}),
    ):  # fmt: skip
        yield _one("asset class", frame(method, asset_class="spot", **more), class_needed)
    outside = json.dumps({"method": "cancel_all", "params": {"token": token}, "asset_class": "derivatives"})
    yield _one("asset class", outside, class_needed)
    yield _one("wrong type", lambda: frame("cancel_order", order_id=ids[0]), f"{invalid}:order_id")
    yield _one("wrong type", frame("cancel_order", order_userref=[7]), f"{invalid}:order_userref")
    yield _one("missing", frame("cancel_order"), invalid)
    yield _one("unknown order", frame("cancel_order", order_id=unknown), "EOrder:Unknown order")
    yield _one("unknown method", frame("cancel_everything"), f"{invalid}:method")
    yield _one("no JSON", "cancel_all", invalid)
    yield _one("binary", lambda: frame("cancel_all").encode(), invalid)
    yield _one("unknown parameter", frame("cancel_all", symbol="PF_XBTUSD"), f"{invalid}:symbol")
    yield _one("two names", lambda: frame("cancel_order", order_id=[ids[0]], cl_ord_id=["another"]), invalid)
    yield _one("malformed id", frame("cancel_order", order_id=["OAAAAA-AAAAA-AAAAAA"]), f"{invalid}:order_id")
    yield _one("malformed id", lambda: frame("batch_cancel", orders=[ids[0], "x"]), f"{invalid}:orders")
    yield _one("repeated id", lambda: frame("batch_cancel", orders=[ids[0]] * 2), '"count":1', GONE)
    yield _one("number", frame("cancel_all_orders_after", timeout="60"), f"{invalid}:timeout")
    yield _one("id", frame("cancel_all").replace('"req_id": 7', '"req_id": "7"'), f"{invalid}:req_id")
    yield _one("empty", frame("cancel_all"), '"count":0', GONE, ())
    yield _one("conditional", frame("cancel_all"), '"count":2', GONE, ("limit", "stop"))
    yield _one("read only", frame("cancel_all"), "EGeneral:Permission denied", fault="read_only_key")
    yield _one("maintenance", frame("cancel_all"), "EService:Unavailable", fault="maintenance")


# ── Kraken's derivatives (kraken.md §2.4): data only, so that an order always rests ───────────────────────────────


def _kraken_futures(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[FrameRow]:
    challenge = json.dumps({"event": "challenge", "api_key": keys["api_key"]})
    asked = Message(lambda _: challenge, '"challenge"')

    def subscribe(who: Keys = keys, feed: str = "open_orders", **change: str) -> Callable[[str], str]:
        def make(challenge: str) -> str:
            text = change.get("original_challenge") or json.loads(challenge)["message"]
            proof = b64(base64.b64decode(who["api_secret"]), hashlib.sha256(text.encode()).digest(), "sha512")
            named = {"event": "subscribe", "feed": feed, "api_key": who["api_key"]}
            proven = named | {"original_challenge": text, "signed_challenge": proof}
            return json.dumps(proven | {key: spoil(proof) for key in change if key == "signed_challenge"})

        return make

    def row(idea: str, make: Callable[[str], str], says: str) -> FrameRow:
        return FrameRow(idea, [asked, Message(make, says)])

    refused, foreign = "Invalid challenge or signature", str(uuid.UUID(int=7, version=4))
    yield row("right", subscribe(), '"event":"subscribed"')
    yield row("signature", subscribe(signed_challenge=""), refused)
    yield row("nonce", subscribe(original_challenge=foreign), refused)
    yield row("other key", subscribe(other), refused)
    yield _one("no login", json.dumps({"event": "subscribe", "feed": "open_orders"}), refused)
    yield row("wrong type", subscribe(feed="no_such_feed"), "Invalid feed")
    yield _one("unknown method", json.dumps({"event": "cancel_all"}), "Invalid event")
    yield _one("no JSON", "challenge", "Json Error")
    yield FrameRow("binary", [Message(lambda _: challenge.encode(), "Json Error")])


# ── Deribit (deribit.md §2, §8) ───────────────────────────────────────────────────────────────────────────────────


def _deribit(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[FrameRow]:
    def frame(method: str, **params: object) -> str:
        return json.dumps({"jsonrpc": "2.0", "id": 9, "method": method, "params": params})

    def login(who: Keys = keys, at_ms: int | None = None, nonce: str = "", change: Callable[[str], str] = str) -> str:
        stamp, once = now_ms() if at_ms is None else at_ms, nonce or uuid.uuid4().hex
        text = f"{stamp}\n{once}\n"
        proof = change(hmac.digest(who["client_secret"].encode(), text.encode(), "sha256").hex())
        named = {"grant_type": "client_signature", "client_id": who["client_id"], "timestamp": stamp, "nonce": once}
        return frame("public/auth", **named, data="", signature=proof)

    logged_in = Message(lambda _: login(), '"token_type":"bearer"')

    def row(idea: str, asked: str | bytes, says: str, *rest: Any, **more: Any) -> FrameRow:
        return FrameRow(idea, [logged_in, Message(lambda _: asked, says)], *rest, **more)

    wrong, by_name, invalid = '"code":13004', "private/cancel_all_by_instrument", '"code":-32602'
    once = uuid.uuid4().hex
    first = Message(lambda _: login(nonce=once), '"token_type":"bearer"')
    cancel_all = frame("private/cancel_all", detailed=False)
    yield row("right", cancel_all, '"result":1', GONE)
    yield _one("signature", lambda: login(change=lambda proof: spoil(proof).lower()), wrong)
    yield _one("old time", lambda: login(at_ms=now_ms() - 61_000), wrong)
    yield _one("future time", lambda: login(at_ms=now_ms() + 61_000), wrong)
    yield FrameRow("nonce", [first, Message(lambda _: login(nonce=once), wrong)])
    yield _one("other key", lambda: login(who=other), wrong)
    yield _one("no login", cancel_all, '"code":13009')
    yield row("expired", cancel_all, '"code":13009', fault="expire_token")
    yield row("unknown symbol", frame(by_name, instrument_name="NO-SUCH"), invalid)
    yield row("empty symbol", frame(by_name, instrument_name=""), invalid)
    yield row("wrong type", frame("private/cancel_all", detailed="no"), invalid)
    yield row("unknown parameter", frame("private/cancel_all", everything=True), invalid)
    yield row("missing", frame(by_name, type="all"), invalid)
    yield row("unknown order", frame("private/cancel", order_id="1"), '"code":10004')
    yield row("unknown order", frame("private/edit", order_id="1", amount=10), '"code":10004')
    yield row("unknown method", frame("private/cancel_everything"), '"code":-32601')
    yield _one("no JSON", "private/cancel_all", '"code":11050')
    yield row("binary", cancel_all.encode(), '"code":11050')
    for wrong_id in ("null", "1.5", '{"a": 1}'):
        yield row("id", cancel_all.replace('"id": 9', f'"id": {wrong_id}'), '"code":11050')
    yield row("unknown parameter", frame("private/cancel_all_by_currency", currency="any"), invalid)
    yield row("empty", cancel_all, '"result":0', GONE, ())
    yield row("conditional", cancel_all, '"result":2', GONE, ("limit", "stop"))
    yield row("read only", cancel_all, '"code":13021', fault="read_only_key")
    yield row("maintenance", cancel_all, '"code":11051', fault="maintenance")


# ── OX.FUN (oxfun.md §3, §4) ──────────────────────────────────────────────────────────────────────────────────────


def _oxfun(keys: Keys, other: Keys, ids: Sequence[str]) -> Iterator[FrameRow]:
    def login(who: Keys = keys, at_ms: int | None = None, change: Callable[[str], str] = str) -> str:
        stamp = str(now_ms() if at_ms is None else at_ms)
        proof = change(b64(who["api_secret"].encode(), f"{stamp}GET/auth/self/verify".encode(), "sha256"))
        data = {"apiKey": who["api_key"], "timestamp": stamp, "signature": proof}
        return json.dumps({"op": "login", "tag": 1, "data": data})

    def cancel(order_id: object = None, market: str = "BTC-USD-SWAP-LIN", op: str = "cancelorders") -> str:
        named = {"marketCode": market, "orderId": int(ids[0] or 1) if order_id is None else order_id}
        one = {name: value for name, value in named.items() if value != ""}
        return json.dumps({"op": op, "tag": 2, "dataArray": [one]})

    logged_in = Message(lambda _: login(), '"event":"login","success":true')

    def row(idea: str, make: Callable[[], str | bytes], says: str, *rest: Any, **more: Any) -> FrameRow:
        return FrameRow(idea, [logged_in, Message(lambda _: make(), says)], *rest, **more)

    yield row("right", cancel, '"submitted":true', GONE)
    yield _one("signature", lambda: login(change=spoil), '"code":"20000"')
    yield _one("old time", lambda: login(at_ms=now_ms() - 60_000), '"code":"20024"')
    yield _one("future time", lambda: login(at_ms=now_ms() + 60_000), '"code":"20024"')
    yield _one("other key", lambda: login(who=other), '"code":"20025"')
    yield _one("no login", cancel, '"code":"05001"')
    yield row("missing", lambda: cancel(market=""), '"code":"20011"')
    yield row("wrong type", lambda: cancel(order_id="x"), '"code":"20019"')
    yield row("unknown order", lambda: cancel(order_id=1), '"code":"100005"')
    yield row("unknown method", lambda: cancel(op="cancelall"), '"code":"20003"')
    yield _one("no JSON", "cancelorders", '"code":"20009"')
    yield row("binary", lambda: cancel().encode(), '"code":"20009"')


def frame_table() -> list[str]:
    """Return the lines of the table."""
    empty: Keys = dict.fromkeys(("api_key", "api_secret", "client_id", "client_secret"), "")
    cells: dict[tuple[str, str], str] = {}
    for venue in VENUES:
        for row in frame_rows(venue, empty, empty, [""], ["t" * 20, "o" * 20]):
            what = "none" if not row.kinds else row.order
            says = row.says.replace('"code":', "").replace('"', "")
            cells.setdefault((row.idea, venue), f"`{says}`, {what}")
    head = [f"| | {' | '.join(VENUES)} |", f"|---{'|---' * len(VENUES)}|"]
    return head + [
        f"| {says} | {' | '.join(cells.get((idea, venue), '–') for venue in VENUES)} |" for idea, says in IDEAS.items()
    ]
