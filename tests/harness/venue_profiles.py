"""State, for each venue, what the tests that all venues share have to know of it.

A new venue adds a `VenueProfile` to `STANDS`. A registered venue without it fails
`test_every_registered_venue_has_a_test_profile`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kill_switch.core.domain import CancelOutcome, Instant, Route, SweepTiming
from kill_switch.venues import VENUES
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.crosstrade.replies import OFFLINE
from kill_switch.venues.kuna.adapter import NO_ORDER
from kill_switch.venues.messages import Call, Opened, Outputs, Ready, Replied
from kill_switch.venues.request import Request

from .keys import rsa_pem
from .venue_playbook import START, Pause, Player, answer, hears, payload

SECOND_ROUTE_S = 0.06


@dataclass
class VenueProfile:
    """A venue's answers in the situations of the conformance table; bodies are JSON values, or bytes."""

    venue: str
    secrets: Callable[[], dict[str, str]]
    options: dict[str, Any] = field(default_factory=dict)
    strong: dict[str, Any] = field(default_factory=dict)  # options with which it has most to hide
    widest: dict[str, Any] = field(default_factory=dict)  # options with which a strike has most commands
    besides: dict[str, Any] = field(default_factory=dict)  # what an answer to a read has beside the orders, with these
    addresses: tuple[str, str] = ("", "")  # of production: WebSocket, REST
    timing: SweepTiming = field(default_factory=SweepTiming)  # that the venue's documented limits allow
    login: tuple[object, ...] = ()  # what the venue says on the WebSocket until the lane is ready
    refused_login: object = None
    login_refusals: tuple[tuple[object, str, bool], ...] = ()  # message → words of the reason, and whether it is fatal
    accepted: tuple[object, ...] = ()  # answers to a strike: it took the command
    refused: tuple[tuple[int, object], ...] = ()  # it said no
    unknown: tuple[tuple[int, object], ...] = ()  # it said something that is neither
    judged: tuple[tuple[int, object, CancelOutcome, str], ...] = ()  # → its outcome, and words of its evidence
    nothing: tuple[tuple[int, object], ...] = ()  # it proved nothing, and the other route is worth a try
    key_refused: tuple[int, object] = (401, None)
    probe_failures: tuple[tuple[int, object, str, bool], ...] = ()  # → words of the reason, and whether it is fatal
    listed: Callable[..., object] = lambda *ids, status: None  # ids and a status → the body of an order list
    pushed: Callable[[str, str], object] = lambda one, status: None  # an id and a status → a push
    # an id, or several with commas, if one call asks for several, … → the answer; None: there is no such call
    found: Callable[[str, str], object] | None = None
    forgotten: tuple[tuple[int, object], ...] = ()  # answers to the same call: there is no such order
    ids: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    gone: str = ""
    ends: tuple[str, ...] = ()  # every status of an order that has ended, in the spellings that are known
    pending: tuple[str, ...] = ()  # statuses of an order whose cancel is under way
    header: str = "api_key"  # the secret that each request carries as it is
    ws_first: bool = False  # it strikes over the WebSocket; in tests of a strike's calls that lane is gone
    signed: bool = True
    pings: tuple[bytes, ...] = ()  # frames that are no JSON, and that the venue answers or sends
    verb: str = ""  # what names the command in a cancel frame; "": the WebSocket carries none
    drilled: tuple[tuple[int, object], ...] = ()  # answers to a drill over HTTP that prove the order path
    not_drilled: tuple[tuple[int, object], ...] = ()  # that do not; `nothing` and `key_refused` do not either
    ws_drilled: Callable[[dict[str, Any]], object] | None = None  # a drill's frame → its answer, which proves the path
    ws_not_drilled: Callable[[dict[str, Any]], object] | None = None  # → one that does not
    worth: Callable[[Call], object] | None = None  # a call for figures → its answer's body; None: it has no figures
    equity: Mapping[str, str] = field(default_factory=dict)  # what they come to
    granted: Callable[[Call], object] | None = None  # a call that a login needs → its answer, None for another call
    token: str | None = None  # that such a call hands out: it is as secret as a key
    worded: Callable[[str], object] | None = None  # words → a refusal that has them; None: as its `message`
    reads_by_post: bool = False  # every private request is a POST: its target names what it does
    signature: str = "ignature"  # part of the name of the header of a request's signature
    waits: bool = False  # a read-back waits for what the rate limit refuses, and does not fail
    settle_s: float = 0.0  # what it does when its lanes come up costs tokens that are back after that long
    signed_ms: Callable[[Request], int] | None = None  # the time in a request's signature; None: none is signed
    target: Callable[[str], str] = str  # a request's target → what is the same in each copy of it
    fans_out: str = ""  # a strike has a command for each symbol, for example for this one; "": it has one for all
    asks: Callable[[Call], str] | None = None  # a look-up → the id; None: it ends the target or the body
    not_fatal: bool = False  # `refused_login` says that a session has ended, and another one may be opened

    def make(self, secrets: Mapping[str, str] | None = None, **options: Any) -> Adapter:
        kind = VENUES[self.venue]
        return kind(kind.Options(**{**self.options, **options}), secrets or self.secrets(), SECOND_ROUTE_S)

    def player(self) -> Player:
        return Player(self.make())

    def ready(self, conn: int = 1) -> Player:
        """Return a player with a WebSocket and an HTTP lane that are ready, and an empty book."""
        settle_ns = round(self.settle_s * 1e9)
        player = Player(self.make(), Instant(START.mono_ns - settle_ns, START.wall_ns - settle_ns))
        self.log_in(player, conn)
        outputs = player.put(Opened(Route.HTTP, 0))
        for call in outputs:
            if isinstance(call, Call):
                player.put(self.reads(call))
        assert {output.route for output in player.outputs if isinstance(output, Ready)} == {Route.WS, Route.HTTP}
        player.put(Pause(self.settle_s))
        return player

    def open(self, player: Player, conn: int) -> Outputs:
        """Let a WebSocket connection come up, and answer the calls that its login needs."""
        outputs = player.put(Opened(Route.WS, conn))
        for call in outputs:
            if isinstance(call, Call) and self.granted is not None and (body := self.granted(call)) is not None:
                outputs += player.put(answer(call.tag, body))
        return outputs

    def log_in(self, player: Player, conn: int) -> Outputs:
        """Let a WebSocket connection come up and log in."""
        outputs = self.open(player, conn)
        for message in self.login:
            outputs += player.put(hears(conn, message))
        return outputs

    def is_read(self, request: Request) -> bool:
        """Return whether a request changes nothing."""
        if not self.reads_by_post:
            return request.method == "GET" or request.target.endswith("/listenKey")
        return "ancel" not in request.target

    def reads(self, call: Call, *ids: str, status: str = "") -> Replied:
        """Answer a read; all orders are in the first list of several."""
        lists = self.make().read(START)
        first = self.target(next(output for output in lists if isinstance(output, Call)).request.target)
        target = self.target(call.request.target)
        if self.granted is not None and target != first and (body := self.granted(call)) is not None:
            return answer(call.tag, body)
        found = ids if target == first else ()
        return answer(call.tag, self.listed(*found, status=status or self.live[0]))


def _oxfun_list(*ids: str, status: str) -> object:
    return {
        "success": True,
        "data": [{"orderId": order_id, "marketCode": "BCH-USDT", "status": status} for order_id in ids],
    }


def _oxfun_push(one: str, status: str) -> object:
    notice = "OrderOpened" if status in _OXFUN.live else "OrderMatched"
    item = {"notice": notice, "orderId": one, "marketCode": "BCH-USDT", "status": status}
    return {"table": "order", "data": [item]}


def _oxfun_stamp(request: Request) -> int:
    stamp = datetime.fromisoformat(request.headers["Timestamp"]).replace(tzinfo=UTC)
    return round(stamp.timestamp() * 1000)


def _oxfun_answer(frame: dict[str, Any], code: str) -> object:
    shown = {key: str(value) for key, value in frame["data"].items()}
    return payload("oxfun/cancelorder-not-found") | {"tag": frame["tag"], "code": code, "data": shown}


def _roxom_worth(call: Call) -> object:
    if "/market/instruments" in call.request.target:
        return payload("roxom/instruments")
    return payload("roxom/balance") if "/accounts/balance" in call.request.target else {"data": {"positions": []}}


def _roxom_list(*ids: str, status: str) -> object:
    return {
        "data": {"orders": [{"id": order_id, "symbol": "US500-BTC", "status": status} for order_id in ids]},
        "error": False,
    }


def _roxom_push(one: str, status: str) -> object:
    return {"type": "order", "data": {"orderId": one, "symbol": "US500-BTC", "status": status}}


def _kuna_list(*ids: str, status: str) -> object:
    return {"data": [{"id": order_id, "pair": "BTC_USDT", "status": status} for order_id in ids]}


def _kuna_push(one: str, status: str) -> object:
    data = {"event": "order", "data": {"id": one, "pair": "BTC_USDT", "status": status}}
    return {"event": "#publish", "data": {"channel": "order", "data": data}}


def _oxfun_found(one: str, status: str) -> object:
    return {"success": True, "data": {"orderId": one, "marketCode": "BCH-USDT", "status": status}}


def _roxom_found(one: str, status: str) -> object:
    return {"data": {"order": {"id": one, "symbol": "US500-BTC", "status": status, "fills": []}}, "error": False}


def _kuna_found(one: str, status: str) -> object:
    return {"data": {"id": one, "pair": "BTC_USDT", "status": status}}


_SLOW: tuple[tuple[int, object], ...] = ((500, b""), (502, b"<html>"), (503, b"{}"), (200, b"{"), (200, b"[]"))

_OXFUN_RETRY = ("20032", "000101", "000201", "10001", "50001")  # docs/venues/oxfun.md § 8

_OXFUN = VenueProfile(
    venue="oxfun",
    secrets=lambda: {"api_key": "oxfun-key-0123456789", "api_secret": "oxfun-secret-0123456789"},
    login=(
        payload("oxfun/greeting"),
        payload("oxfun/login") | {"timestamp": str(START.wall_ms)},  # a venue whose clock is ours
        payload("oxfun/subscribed"),
    ),
    addresses=("wss://api.ox.fun/v2/websocket", "https://api.ox.fun"),
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.25, strike_gap_s=0.5),  # §10.2, §10.3
    refused_login=payload("oxfun/login-refused"),
    login_refusals=(
        *(
            (payload("oxfun/login-refused") | {"code": code}, f"login refused: {code} Signature is invalid", True)
            for code in ("05001", "20000", "20025")
        ),
        *(
            ({"event": "login", "success": False, "code": code, "message": "no"}, f"login refused: {code} no", False)
            for code in ("20024", "20007", "000101", "20026", "")
        ),
        ({"event": "login"}, "login refused:", False),
    ),
    accepted=(payload("oxfun/cancel-all-queued"), payload("oxfun/cancel-all-nothing")),
    refused=((400, payload("oxfun/error")), (200, payload("oxfun/error"))),
    unknown=((429, {"success": False, "code": "429"}), (200, {"success": False, "code": "20007"})),
    judged=(
        (200, payload("oxfun/cancel-all-queued"), CancelOutcome.ACCEPTED, "Orders queued for cancelation"),
        (200, payload("oxfun/cancel-all-nothing"), CancelOutcome.ACCEPTED, "No working orders found"),
        (200, {"success": True}, CancelOutcome.ACCEPTED, "accepted"),
        (200, {"success": True, "data": ["?"]}, CancelOutcome.ACCEPTED, "accepted"),
        (200, {"success": True, "data": {"notice": None}}, CancelOutcome.ACCEPTED, "accepted"),
        (200, payload("oxfun/error"), CancelOutcome.REFUSED, "HTTP 200 20001 marketCode is invalid"),
        (200, {"success": False}, CancelOutcome.REFUSED, "HTTP 200  "),
        (400, payload("oxfun/error"), CancelOutcome.REFUSED, "HTTP 400 20001 marketCode is invalid"),
        (400, payload("oxfun/error") | {"code": 20001}, CancelOutcome.REFUSED, "HTTP 400 20001 marketCode is invalid"),
        (400, {"success": False, "code": "40035", "message": "no"}, CancelOutcome.REFUSED, "HTTP 400 40035 no"),
        (200, {"success": False, "code": "100005", "message": "no"}, CancelOutcome.REFUSED, "HTTP 200 100005 no"),
        (401, {"success": False, "code": "20000", "message": "no"}, CancelOutcome.REFUSED, "HTTP 401 20000 no"),
        (401, {"success": False, "code": "20025", "message": "no"}, CancelOutcome.REFUSED, "HTTP 401 20025 no"),
        (200, {"success": False, "code": "05001", "message": "no"}, CancelOutcome.REFUSED, "HTTP 200 05001 no"),
        (429, {"success": False, "code": "429", "message": "slow"}, CancelOutcome.UNKNOWN, "HTTP 429 429 slow"),
        (200, {"success": False, "code": "429", "message": "slow"}, CancelOutcome.UNKNOWN, "HTTP 200 429 slow"),
        (400, {"success": False, "code": "20007", "message": "slow"}, CancelOutcome.UNKNOWN, "HTTP 400 20007 slow"),
    ),
    nothing=(
        *_SLOW,
        (500, {"success": False, "code": "50001", "message": "server"}),
        (503, {"success": True}),
        (200, b"{}"),
        (429, b"slow down"),
        (200, {"success": "true"}),
        (200, {"success": None}),
        (400, {"success": 0, "code": "20001"}),
        *((status, {"success": False, "code": code}) for code in _OXFUN_RETRY for status in (200, 400)),
    ),
    key_refused=(401, {"success": False, "code": "20025", "message": "API key is invalid"}),
    probe_failures=(
        *(
            (401, {"success": False, "code": code, "message": "no"}, f"HTTP 401 {code} no", True)
            for code in ("05001", "20000", "20025")
        ),
        (
            400,
            {"success": False, "code": "20001", "message": "Operation failed"},
            "HTTP 400 20001 Operation fail",
            False,
        ),
        (403, {"success": True, "data": []}, "HTTP 403", False),
        (503, b"", "HTTP 503 proves nothing", False),
        (200, {"success": True, "data": [{}]}, "the working list cannot be read: 1 of 1 orders", False),
    ),
    listed=_oxfun_list,
    pushed=_oxfun_push,
    found=_oxfun_found,
    forgotten=(
        (400, {"success": False, "code": "40035", "message": "Open order not found with id"}),
        (200, {"success": False, "code": "100005", "message": "Open order not found"}),
    ),
    ids=("300000000000000101", "300000000000000102"),
    live=("OPEN", "PARTIALLY_FILLED"),
    gone="CANCELED_BY_USER",
    ends=(
        *("FILLED", "CANCELED", "CANCELED_BY_USER", "CANCELED_BY_MAKER_ONLY", "CANCELED_BY_FOK"),
        *("CANCELED_ALL_BY_IOC", "CANCELED_PARTIAL_BY_IOC", "CANCELED_BY_SELF_TRADE_PROTECTION", "CANCELED_BY_AMEND"),
    ),
    verb="op",
    drilled=((200, payload("oxfun/cancel-not-found")), (200, {"success": False, "code": "40035"})),
    not_drilled=(
        (400, payload("oxfun/error")),
        (429, {"success": False, "code": "429"}),
        (200, {"success": True, "data": []}),
        (200, {"success": True, "data": [{"code": "100015", "submitted": False}]}),
    ),
    ws_drilled=lambda frame: _oxfun_answer(frame, "100005"),
    ws_not_drilled=lambda frame: _oxfun_answer(frame, "20007"),
    worth=lambda call: payload("oxfun/account"),
    equity={"OX": "1231231"},
    signed_ms=_oxfun_stamp,
)

_ROXOM_UNNAMED: tuple[object, ...] = ({}, [], {"cancelledOrderIds": "all"})  # data of a cancel-all without its list

_ROXOM = VenueProfile(
    venue="roxom",
    secrets=lambda: {"api_key": "xrxk_key_0123456789abcdef", "private_key": rsa_pem(2048)},
    options={"auth": "api-key"},  # to load an RSA key takes 50 ms
    strong={"auth": "rsa"},
    addresses=("wss://ws.roxom.com/ws", "https://api.roxom.com"),
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5),  # §7: two reads a second
    login=({"event": "subscribe"},),
    refused_login=payload("roxom/ws-error"),
    login_refusals=(
        (payload("roxom/ws-error"), "600010 Authentication failed", True),
        *(
            ({"event": "error", "code": code, "msg": "no", "connId": "b1"}, f"{code} no", False)
            for code in ("60014", "60016", "60017", "60019")
        ),
    ),
    accepted=({"data": {"cancelledOrderIds": []}, "error": False}, payload("roxom/cancel-all")),
    refused=((401, payload("roxom/bad-key")), (200, payload("roxom/expired-key"))),
    unknown=((429, {"error": {"code": 429}}), (200, {"data": {}, "error": False})),
    judged=(
        *(
            (200, {"data": {"cancelledOrderIds": []}, **error}, CancelOutcome.ACCEPTED, "0 order(s) named as cancelled")
            for error in ({"error": False}, {}, {"error": None})
        ),
        (401, payload("roxom/no-key"), CancelOutcome.REFUSED, "HTTP 401: Authorization header is required"),
        (401, payload("roxom/bad-key"), CancelOutcome.REFUSED, "HTTP 401: Invalid API key"),
        (401, payload("roxom/expired-key"), CancelOutcome.REFUSED, "HTTP 401: API key has expired"),
        (200, payload("roxom/bad-key"), CancelOutcome.REFUSED, "HTTP 200: Invalid API key"),
        (400, payload("roxom/error-object"), CancelOutcome.REFUSED, "HTTP 400: 400 Insufficient balance"),
        (200, payload("roxom/error-object"), CancelOutcome.REFUSED, "HTTP 200: 400 Insufficient balance"),
        (200, {"error": True}, CancelOutcome.REFUSED, "HTTP 200: True"),
        (404, {}, CancelOutcome.REFUSED, "HTTP 404: None"),
        (429, {"error": {"code": 429, "message": "slow"}}, CancelOutcome.UNKNOWN, "HTTP 429: 429 slow"),
        *(
            (200, {"data": data}, CancelOutcome.UNKNOWN, "accepted, without the list of cancelled orders")
            for data in _ROXOM_UNNAMED
        ),
    ),
    nothing=(*_SLOW, (500, payload("roxom/cancel-all")), (401, b"no")),
    key_refused=(401, payload("roxom/bad-key")),
    probe_failures=(
        (401, payload("roxom/bad-key"), "HTTP 401: Invalid API key", True),
        (403, {"error": 403, "message": "no"}, "HTTP 403: no", True),
        (400, payload("roxom/error-object"), "HTTP 400: 400 Insufficient balance", False),
        (200, {"data": {}}, "the perpetual list cannot be read", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=_roxom_list,
    pushed=_roxom_push,
    found=_roxom_found,
    forgotten=((404, payload("roxom/order-not-found")),),
    ids=("01234567-89ab-7def-8123-456789abcdef", "98765432-10fe-dcba-9876-543210fedcba"),
    live=("submitted", "waitingtrigger", "pendingsubmit", "partiallyfilled", "PENDING"),
    gone="cancelled",
    ends=(
        *("filled", "cancelled", "partiallyfilledcancelled", "rejected", "expired"),
        *("CANCELED", "FILLED", "EXPIRED", "partially_filled_canceled", "Cancelled"),
    ),
    pending=("pendingcancel", "PENDING_CANCEL", "PendingCancel"),
    drilled=((404, payload("roxom/order-not-found")), (200, {"data": {"success": True}})),
    not_drilled=(
        (200, {"data": {"success": False}}),
        (429, {"error": {"code": 429, "message": "Order not found, too fast"}}),
        (400, payload("roxom/error-object")),
    ),
    worth=_roxom_worth,
    equity={"BTC": "0.0015"},
)


def _kuna_error(message: str, code: str = "BAD_REQUEST") -> dict[str, object]:
    return {"message": message, "extensions": {"code": code}}


def _kuna_errors(*messages: str) -> dict[str, object]:
    return {"errors": [_kuna_error(message) for message in messages]}


_KUNA_IDS = ("c7fc5b2b-bd9d-48c1-a458-a83412669cf4", "3e5591ba-2778-4d85-8851-54284045ea44")
_KUNA = VenueProfile(
    venue="kuna",
    secrets=lambda: {
        "public_key": "kuna-public-0123456789",
        "api_secret": "kuna-secret-0123456789",
        "api_key": "kuna-single-0123456789",
    },
    strong={"auth": "hmac"},
    login=(payload("kuna/handshake"), payload("kuna/set-auth-token"), {"rid": 2}, {"rid": 3}),
    addresses=("wss://ws-pro.kuna.io/socketcluster/", "https://api.kuna.io"),
    timing=SweepTiming(clean_reads=2, read_gap_s=1.2, strike_gap_s=1.0),  # §7: 300 a minute
    refused_login=payload("kuna/login-refused"),
    login_refusals=(
        (payload("kuna/login-refused"), "login refused: REQUEST_INVALID_KEY Wrong api key or user blocked", True),
        (
            {"rid": 2, "error": {"message": "try again", "extensions": {"code": "BUSY"}}},
            "login refused: BUSY try again",
            False,
        ),
    ),
    # the answer to a batch; to a list, with which a strike begins that knows nothing, it shows orders that have ended
    accepted=({"data": [{"id": one, "success": True, "status": "Canceled"} for one in _KUNA_IDS]},),
    refused=(
        (400, {"code": "BAD_REQUEST", "message": "Trading is closed"}),
        (200, {"errors": [{"code": "BAD_REQUEST", "message": "Trading is closed"}]}),
        (500, payload("kuna/error-uuid")),
    ),
    unknown=((429, {"errors": [{"code": "TOO_MANY_REQUESTS"}]}), (200, {"data": {}})),
    judged=(
        (400, _kuna_errors("no", "not"), CancelOutcome.REFUSED, "HTTP 400 BAD_REQUEST no BAD_REQUEST not"),
        (400, {"errors": "no"}, CancelOutcome.REFUSED, "HTTP 400 no"),
        (200, {"errors": {"extensions": {"code": "X"}}}, CancelOutcome.REFUSED, "HTTP 200 X"),
        (200, {"errors": [{"extensions": 7}]}, CancelOutcome.REFUSED, "HTTP 200"),
        (200, {"error": "no"}, CancelOutcome.REFUSED, "HTTP 200 no"),
        (200, {"error": True}, CancelOutcome.REFUSED, "HTTP 200 True"),
        (200, {"success": False}, CancelOutcome.REFUSED, "HTTP 200"),
        (403, {"statusCode": 403, "message": "Forbidden", "error": "x"}, CancelOutcome.REFUSED, "HTTP 403 Forbidden"),
        (404, {}, CancelOutcome.REFUSED, "HTTP 404"),
        (404, b"[]", CancelOutcome.REFUSED, "HTTP 404"),
        (429, {}, CancelOutcome.UNKNOWN, "HTTP 429"),
        (429, _kuna_errors("slow down"), CancelOutcome.UNKNOWN, "HTTP 429 BAD_REQUEST slow down"),
    ),
    waits=True,
    nothing=(*_SLOW[:-1], (500, _kuna_errors("x")), (200, b"7")),  # a bare list is an answer here
    probe_failures=(
        (401, {}, "HTTP 401", True),
        (403, _kuna_errors("Wrong account type"), "HTTP 403 BAD_REQUEST Wrong account type", True),
        (200, {"errors": [_kuna_error("no", "REQUEST_INVALID_KEY")]}, "HTTP 200 REQUEST_INVALID_KEY no", True),
        (429, {}, "HTTP 429", False),
        (400, _kuna_errors("no"), "HTTP 400 BAD_REQUEST no", False),
        (503, b"", "HTTP 503 proves nothing", False),
        (200, {"data": {}}, "the active list cannot be read", False),
    ),
    key_refused=(401, {"errors": [{"code": "UNAUTHORIZED", "message": "Unauthorized"}]}),
    listed=_kuna_list,
    pushed=_kuna_push,
    found=_kuna_found,
    forgotten=(
        (404, {"errors": [{"code": "NOT_FOUND", "message": "Order not found"}]}),
        (200, {"errors": [{"code": "BAD_REQUEST", "message": "Order with id 1 does not exist"}]}),
    ),
    ids=_KUNA_IDS,
    live=("Open", "Pending", "WaitStop"),
    gone="Canceled",
    ends=("closed", "canceled", "cancelled", "rejected", "expired", "Closed", "Canceled", "Rejected", "Expired"),
    header="public_key",
    pings=(b"",),
    drilled=(
        (200, {"data": [{"id": NO_ORDER, "success": False}]}),
        (200, [{"orderId": NO_ORDER, "success": False}]),
        (400, payload("kuna/error-closed")),
        (404, {"errors": [{"code": "NOT_FOUND", "message": "Order not found"}]}),
        (200, _kuna_errors(f"Order {NO_ORDER} does not exist.")),
    ),
    not_drilled=(
        (400, _kuna_errors("Order entry is suspended")),
        (400, _kuna_errors("Order not found", "Trading is closed")),
        (401, _kuna_errors("Order not found")),
        (200, {"data": [{"id": _KUNA_IDS[0], "success": True}]}),
        (200, {"data": {}}),
        (200, {"error": {"message": {"deep": 1}}}),
        (200, {"data": []}),
        (200, {"errors": [{"code": "BAD_REQUEST", "message": "Trading is closed"}]}),
        (429, {"errors": [{"code": "TOO_MANY_REQUESTS", "message": "Order not found, too fast"}]}),
        (400, {"errors": []}),
        (500, payload("kuna/error-uuid")),
    ),
    worth=lambda call: payload("kuna/balance"),
    equity={"USDT": "12.5", "UAH": "7234.6"},
)


def _crosstrade_list(*ids: str, status: str) -> object:
    order = payload("crosstrade/order")
    snapshot = payload("crosstrade/snapshot")  # one body for both: a reader of the one does not look at the other
    return {
        **snapshot,
        "orders": [{**order, "orderId": order_id, "orderState": status} for order_id in ids],
        "success": True,
    }


def _crosstrade_push(one: str, status: str) -> object:
    return {"type": "orderUpdate", "order": {**payload("crosstrade/order"), "orderId": one, "orderState": status}}


_CROSSTRADE = VenueProfile(
    venue="crosstrade",
    secrets=lambda: {"token": "crosstrade-token-0123456789"},
    options={"nt_accounts": ("Sim101",)},
    widest={"nt_accounts": ("Sim101", "Live1"), "flatten": True},
    besides={"positions": [{"account": "Sim101", "instrument": "ES", "marketPosition": "Long", "quantity": 1}]},
    login=({"id": "hello", "data": {"orders": [], "success": True}},),
    addresses=("wss://app.crosstrade.io/ws/stream", "https://app.crosstrade.io"),
    timing=SweepTiming(  # §9.4: at most one poll a second
        answer_within_s=1.5, read_after_s=0.025, read_within_s=4.0, read_gap_s=1.0, clean_reads=2, strike_gap_s=1.0
    ),
    refused_login={"type": "error", "error": "Session active elsewhere"},
    accepted=(payload("crosstrade/cancelled"), payload("crosstrade/cancelled-none"), {"success": True}),
    refused=((400, payload("crosstrade/invalid-account")), (400, payload("crosstrade/invalid-request")), (401, {})),
    unknown=((408, payload("crosstrade/addon")),),  # what its rate limit refuses is repeated, and not told at once
    judged=(
        (
            400,
            payload("crosstrade/invalid-account"),
            CancelOutcome.REFUSED,
            "HTTP 400 invalid_account Account Sim999 n",
        ),
        (400, payload("crosstrade/invalid-request"), CancelOutcome.REFUSED, "HTTP 400 Invalid request"),
        (200, payload("crosstrade/invalid-request"), CancelOutcome.REFUSED, "HTTP 200 Invalid request"),
        (200, {"success": False}, CancelOutcome.REFUSED, "HTTP 200"),
        (401, b"", CancelOutcome.REFUSED, "HTTP 401"),
        (404, b"<html>", CancelOutcome.REFUSED, "HTTP 404"),
        (
            408,
            payload("crosstrade/addon"),
            CancelOutcome.UNKNOWN,
            f"{OFFLINE} (HTTP 408 addon_disconnected The XT add-on is ",
        ),
        (408, b"", CancelOutcome.UNKNOWN, f"{OFFLINE} (HTTP 408)"),
    ),
    nothing=(*_SLOW, (100, b""), (301, b"")),
    key_refused=(401, {"success": False, "error": "unauthorized"}),
    probe_failures=tuple(
        (status, {"success": False, "error": "unauthorized"}, f"HTTP {status} unauthorized", True)
        for status in (401, 403)
    ),
    listed=_crosstrade_list,
    pushed=_crosstrade_push,
    ids=("0123456789abcdef0123456789abcdef", "ce0a8e5002ea463e856eb6384f5cee7e"),
    live=(
        *("Working", "TriggerPending", "Initialized", "Submitted", "Accepted", "PartFilled", "ChangePending"),
        *("ChangeSubmitted", "Suspended", "Trigger pending", "Partially filled"),
    ),
    gone="Cancelled",
    ends=("Filled", "Cancelled", "Canceled", "Rejected"),
    pending=("CancelPending", "CancelSubmitted", "Cancel pending"),
    header="token",
    ws_first=True,
    signed=False,
    verb="api",
    drilled=((400, payload("crosstrade/not-found")), (200, payload("crosstrade/cancelled-one"))),
    not_drilled=(
        (400, payload("crosstrade/invalid-account")),
        (408, payload("crosstrade/addon")),
        (429, payload("crosstrade/rate-limit")),
    ),
    ws_drilled=lambda frame: {"id": frame["id"], "data": payload("crosstrade/not-found")},
    ws_not_drilled=lambda frame: {"id": frame["id"], "error": "addon_disconnected"},
    worth=lambda call: payload("crosstrade/snapshot"),
    equity={"USD": "1E+5"},
    settle_s=10.0,
)


def _kraken_list(*ids: str, status: str) -> object:
    orders = {order_id: {"status": status, "descr": {"pair": "XBTUSD", "ordertype": "limit"}} for order_id in ids}
    return {"error": [], "result": {"open": orders}}


def _kraken_push(one: str, status: str) -> object:
    item = {"order_id": one, "order_status": status, "exec_type": status, "symbol": "BTC/USD"}
    return {"channel": "executions", "type": "update", "data": [item]}


def _kraken_found(one: str, status: str) -> object:
    order = {"status": status, "descr": {"pair": "XBTUSD"}}
    return {"error": [], "result": {each: order for each in one.split(",")}}


def _kraken_error(*texts: str) -> dict[str, object]:
    return {"error": list(texts)}


_KRAKEN_TOKEN = "kraken-token-0123456789"


def _kraken_granted(call: Call) -> object:
    """Answer what an account asks for beside its orders: a token, and the rights of its key."""
    if call.request.target.endswith("GetWebSocketsToken"):
        return {"error": [], "result": {"token": _KRAKEN_TOKEN, "expires": 900}}
    return {"error": [], "result": {"permissions": ["query-open-trades", "close-trades", "create-ws-token"]}}


def _kraken_login_refused(error: str) -> dict[str, object]:
    return {"error": error, "method": "subscribe", "req_id": 1, "success": False}


def _kraken_drill_reply(frame: dict[str, Any], error: str) -> object:
    return {"method": "cancel_order", "req_id": frame["req_id"], "success": False, "error": error}


_KRAKEN_UNKNOWN = (
    *("EService:Unavailable", "EService:Busy", "EService:Deadline elapsed", "EGeneral:Internal error"),
    *("EAPI:Rate limit exceeded", "EGeneral:Too many requests", "EGeneral:Temporary lockout"),
    *("EOrder:Rate limit exceeded", "EOrder:Cancel pending", "eservice:unavailable"),
)
_KRAKEN_KEY_REFUSED = (
    *("EAPI:Invalid key", "EAPI:Invalid signature", "EGeneral:Permission denied"),
    *("EAccount:Invalid permissions", "ETrade:User Locked"),
)
_KRAKEN = VenueProfile(
    venue="kraken",
    secrets=lambda: {
        "api_key": "kraken-key-0123456789",
        "api_secret": base64.b64encode(b"kraken-secret-0123456789").decode(),
    },
    addresses=("wss://ws-auth.kraken.com/v2", "https://api.kraken.com"),
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=1.0),
    granted=_kraken_granted,
    token=_KRAKEN_TOKEN,
    worded=lambda words: _kraken_error("EGeneral:Invalid arguments", words),
    reads_by_post=True,
    signature="API-Sign",
    login=(
        {"channel": "status", "type": "update", "data": [{"api_version": "v2", "system": "online"}]},
        {"method": "subscribe", "req_id": 1, "success": True, "result": {"channel": "executions"}},
    ),
    refused_login=_kraken_login_refused("EGeneral:Permission denied"),
    login_refusals=(
        *((_kraken_login_refused(error), f"subscribe refused: {error}", True) for error in _KRAKEN_KEY_REFUSED),
        (_kraken_login_refused("ESession:Invalid session"), "ESession:Invalid session", False),
        (_kraken_login_refused("EService:Unavailable"), "EService:Unavailable", False),
        (_kraken_login_refused("Exceeded msg rate"), "Exceeded msg rate", False),
    ),
    accepted=(
        {"error": [], "result": {"count": 4}},
        {"error": [], "result": {"count": 0}},
        {"error": ["WGeneral:Deprecated"], "result": {"count": 1}},
        {"error": [], "result": {"count": 1, "pending": True}},
    ),
    refused=(
        (200, _kraken_error("EGeneral:Permission denied")),
        (200, _kraken_error("EGeneral:Invalid arguments")),
        (403, _kraken_error("EAPI:Invalid key")),
    ),
    unknown=(
        (200, {"error": [], "result": {}}),
        (200, {"error": [], "result": {"count": "all"}}),
        (200, {"error": []}),
        (403, {"error": [], "result": {"count": 1}}),
        (429, b"error code: 1015"),
        *((200, _kraken_error(error)) for error in _KRAKEN_UNKNOWN),
    ),
    judged=(
        (200, {"error": [], "result": {"count": 4}}, CancelOutcome.ACCEPTED, "4 order(s) cancelled"),
        (200, {"error": [], "result": {"count": 1, "pending": True}}, CancelOutcome.ACCEPTED, "has not finished"),
        (200, {"error": [], "result": {}}, CancelOutcome.UNKNOWN, "accepted, without a count"),
        *((200, _kraken_error(error), CancelOutcome.UNKNOWN, error) for error in _KRAKEN_UNKNOWN),
        *((200, _kraken_error(error), CancelOutcome.REFUSED, error) for error in _KRAKEN_KEY_REFUSED),
        (200, _kraken_error("ESession:Invalid session"), CancelOutcome.REFUSED, "ESession:Invalid session"),
        (200, _kraken_error("WGeneral:x", "EAPI:Invalid key"), CancelOutcome.REFUSED, "EAPI:Invalid key"),
    ),
    nothing=(*_SLOW, (520, b"<html>"), (200, {"error": "EGeneral:x"}), (404, b"<html>")),
    key_refused=(200, _kraken_error("EAPI:Invalid key")),
    probe_failures=(
        *((200, _kraken_error(error), error, True) for error in _KRAKEN_KEY_REFUSED),
        *((200, _kraken_error(error), error, False) for error in _KRAKEN_UNKNOWN),
        (200, {"error": [], "result": {}}, "the open list cannot be read", False),
        (200, {"error": [], "result": {"open": {"O1": 7}}}, "the open list cannot be read: 1 of 1 orders", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=_kraken_list,
    pushed=_kraken_push,
    found=_kraken_found,
    forgotten=((200, _kraken_error("EOrder:Unknown order")),),
    ids=("OAAAAA-AAAAA-000101", "OAAAAA-AAAAA-000102"),
    live=("open", "pending", "new", "pending_new", "partially_filled"),
    gone="canceled",
    ends=("filled", "canceled", "expired", "closed"),
    ws_first=True,
    verb="method",
    drilled=((200, _kraken_error("EOrder:Unknown order")),),
    not_drilled=(
        (200, _kraken_error("EService:Unavailable")),
        (200, _kraken_error("EOrder:Unknown order", "EService:Busy")),
        (200, {"error": [], "result": {"count": 1}}),
        (200, {"error": [], "result": {}}),
        (200, _kraken_error("EGeneral:Invalid arguments")),
    ),
    ws_drilled=lambda frame: _kraken_drill_reply(frame, "EOrder:Unknown order"),
    ws_not_drilled=lambda frame: _kraken_drill_reply(frame, "EService:Busy"),
    worth=lambda call: {"error": [], "result": {"eb": "1101.3425", "tb": "392.2264", "n": "-10.0232", "e": "382.2032"}},
    equity={"USD": "1091.3193"},
)


def _futures_list(*ids: str, status: str) -> object:
    orders = [{"order_id": one, "symbol": "pf_xbtusd", "orderType": "lmt", "status": status} for one in ids]
    return {"result": "success", "openOrders": orders, "serverTime": "2026-01-02T03:04:06.179Z"}


def _futures_push(one: str, status: str) -> object:
    order = {"instrument": "PF_XBTUSD", "order_id": one, "qty": 1.0, "filled": 0.0, "type": "limit", "direction": 1}
    return {"feed": "open_orders", "order": order, "is_cancel": status in _FUTURES_ENDS, "reason": status}


def _futures_found(one: str, status: str) -> object:
    order = {"type": "ORDER", "symbol": "PF_XBTUSD", "side": "buy", "quantity": 1}
    rest = {"status": status, "updateReason": None, "error": None}
    return {"result": "success", "orders": [{"order": {**order, "orderId": each}, **rest} for each in one.split(",")]}


def _futures_error(error: str) -> dict[str, object]:
    return {"result": "error", "error": error, "serverTime": "2026-01-02T03:04:05.520Z"}


def _futures_cancel(status: object, *ids: str, **more: object) -> dict[str, object]:
    listed = [{"order_id": one} for one in ids]
    events = [{"type": "CANCEL", "uid": one, "order": {"orderId": one, "symbol": "PF_XBTUSD"}} for one in ids]
    found = {"cancelOnly": "all", "status": status, "cancelledOrders": listed, "orderEvents": events, **more}
    return {"result": "success", "cancelStatus": found}


_FUTURES_ENDS = (
    *("filled", "cancelled", "rejected", "expired", "FULLY_EXECUTED", "CANCELLED", "REJECTED"),
    "TRIGGER_ACTIVATION_FAILURE",
)
_FUTURES_UNKNOWN = (
    "Unavailable",
    "unavailable",
    "marketUnavailable",
    "unknownError",
    "Server Error",
    "apiLimitExceeded",
)
_FUTURES_KEY_REFUSED = ("authenticationError", "accountInactive", "invalidAccount")
_FUTURES_REFUSED = ("invalidArgument", "requiredArgumentMissing", "Json Parse Error", "nonceBelowThreshold")
_FUTURES_IDS = ("59302619-0000-4f0b-941f-7e7914760101", "7a9f8b3e-0000-4e5f-9a8b-7c6d5e4f0102")
_FUTURES = VenueProfile(
    venue="kraken-futures",
    secrets=lambda: {
        "api_key": "futures-key-0123456789",
        "api_secret": base64.b64encode(b"futures-secret-0123456789").decode(),
    },
    addresses=("wss://futures.kraken.com/ws/v1", "https://futures.kraken.com"),
    # §7: 500 in 10 s; with a strike's 25, the cancels by id behind it and the reads, eight strikes cost less
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=1.25),
    worded=_futures_error,
    reads_by_post=True,
    signature="Authent",
    login=(
        {"event": "info", "version": 1},
        payload("kraken_futures/challenge"),
        payload("kraken_futures/open-orders-snapshot"),
    ),
    refused_login={"event": "error", "message": "Invalid API key"},
    login_refusals=(
        ({"event": "error", "message": "Invalid challenge or signature"}, "Invalid challenge or signature", True),
        ({"event": "error", "message": "Permission denied"}, "Permission denied", True),
        ({"event": "alert", "message": "Failed to subscribe to authenticated feed"}, "authenticated feed", True),
        ({"event": "error", "message": "Json Error"}, "WebSocket error: Json Error", False),
        ({"event": "subscribed_failed", "feed": "open_orders"}, "subscribed_failed: open_orders", False),
    ),
    accepted=(
        payload("kraken_futures/cancel-all"),
        payload("kraken_futures/cancel-all-nothing"),
        _futures_cancel("cancelled"),
        _futures_cancel("cancelled", cancelledOrders=None, orderEvents=7),
    ),
    refused=(
        *((200, _futures_error(error)) for error in _FUTURES_REFUSED),
        (401, _futures_error("authenticationError")),
    ),
    unknown=(
        (200, {"result": "success"}),
        (200, {"result": "success", "cancelStatus": {}}),
        (200, {"result": "success", "cancelStatus": [7]}),
        (200, _futures_cancel("notFound")),
        (200, _futures_cancel("filled")),
        (200, _futures_cancel("cancelled", cancelOnly="PF_XBTUSD")),
        (200, _futures_cancel("noOrdersToCancel", _FUTURES_IDS[0])),
        (403, payload("kraken_futures/cancel-all")),
        (429, b"error code: 1015"),
        *((200, _futures_error(error)) for error in _FUTURES_UNKNOWN),
    ),
    judged=(
        (200, payload("kraken_futures/cancel-all"), CancelOutcome.ACCEPTED, "1 order(s) cancelled"),
        (200, payload("kraken_futures/cancel-all-nothing"), CancelOutcome.ACCEPTED, "noOrdersToCancel"),
        (200, _futures_cancel("notFound"), CancelOutcome.UNKNOWN, "a success whose status is notFound"),
        (200, {"result": "success"}, CancelOutcome.UNKNOWN, "a success whose status is missing"),
        (200, _futures_cancel("cancelled", cancelOnly="PF_XBTUSD"), CancelOutcome.UNKNOWN, "for PF_XBTUSD alone"),
        *((200, _futures_error(error), CancelOutcome.UNKNOWN, error) for error in _FUTURES_UNKNOWN),
        *((200, _futures_error(error), CancelOutcome.REFUSED, error) for error in _FUTURES_REFUSED),
        *((200, _futures_error(error), CancelOutcome.REFUSED, error) for error in _FUTURES_KEY_REFUSED),
        (200, _futures_error("notFound"), CancelOutcome.REFUSED, "notFound"),
    ),
    nothing=(
        *(*_SLOW, (520, b"<html>"), (404, b"<html>"), (200, {"result": "x"}), (200, {"error": "Unavailable"})),
        (500, payload("kraken_futures/error-other-shape")),
        (200, payload("kraken_futures/error-other-shape")),
    ),
    key_refused=(200, payload("kraken_futures/authentication-error")),
    probe_failures=(
        *((200, _futures_error(error), error, True) for error in _FUTURES_KEY_REFUSED),
        *((200, _futures_error(error), error, False) for error in (*_FUTURES_UNKNOWN, *_FUTURES_REFUSED)),
        (200, {"result": "success"}, "the open list cannot be read", False),
        (200, {"result": "success", "openOrders": [7]}, "the open list cannot be read: 1 of 1 orders", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=_futures_list,
    pushed=_futures_push,
    found=_futures_found,
    forgotten=((200, {"result": "success", "orders": []}), (200, _futures_error("notFound"))),
    ids=_FUTURES_IDS,
    live=("untouched", "partiallyFilled", "ENTERED_BOOK", "TRIGGER_PLACED"),
    gone="cancelled",
    ends=_FUTURES_ENDS,
    drilled=((200, payload("kraken_futures/cancel-not-found")), (200, _futures_error("notFound"))),
    not_drilled=(
        (200, payload("kraken_futures/cancel-one")),
        (200, payload("kraken_futures/cancel-filled")),
        (200, {"result": "success"}),
        *((200, _futures_error(error)) for error in (*_FUTURES_UNKNOWN, "invalidArgument")),
    ),
    worth=lambda call: {"result": "success", "accounts": {"flex": {"portfolioValue": 1234.5, "marginEquity": 1100.0}}},
    equity={"USD": "1234.5"},
)


_BINANCE_SIGNED = frozenset({"recvWindow", "timestamp", "signature"})


def _binance_target(target: str) -> str:
    """Return a target without what differs from copy to copy: the window, the time and the signature."""
    path, _, query = target.partition("?")
    values = [value for value in query.split("&") if value.partition("=")[0] not in _BINANCE_SIGNED and value]
    return f"{path}?{'&'.join(values)}" if values else path


def _binance_asks(call: Call) -> str:
    values = dict(value.split("=", 1) for value in call.request.target.partition("?")[2].split("&"))
    return values["orderId"] if "orderId" in values else f"algo:{values['algoId']}"


def _binance_ms(request: Request) -> int:
    return int(dict(value.split("=", 1) for value in request.target.partition("?")[2].split("&"))["timestamp"])


def _binance_error(code: int, text: str) -> dict[str, object]:
    return {"code": code, "msg": text}


def _spot_id(one: str) -> int | str:
    return int(one) if one.isascii() and one.isdigit() and len(one) < 19 else one  # a test may have any text as an id


def _spot_order(one: str, status: str) -> dict[str, object]:
    return {"symbol": "BTCUSDT", "orderId": _spot_id(one), "orderListId": -1, "clientOrderId": "c1", "status": status}


def _spot_push(one: str, status: str) -> object:
    report = {"e": "executionReport", "s": "BTCUSDT", "c": "c2", "C": "c1", "i": _spot_id(one), "x": status}
    report["X"] = status
    return {"subscriptionId": 0, "event": report}


def _spot_refused(frame_id: object, status: int, code: int, text: str) -> dict[str, object]:
    return {"id": frame_id, "status": status, "error": _binance_error(code, text)}


_SPOT_UNKNOWN_ORDER = _binance_error(-2011, "Unknown order sent.")
_SPOT_KEY_REFUSED = tuple(
    (status, _binance_error(code, "Invalid API-key, IP, or permissions for action."))
    for status, code in ((401, -2015), (401, -2014), (400, -1022), (401, -1002), (400, -2017))
)
_SPOT_RESTING = (
    (400, _binance_error(-2011, "Market is closed.")),
    (400, _binance_error(-2011, "This action is disabled on this account.")),
    (400, _binance_error(-2010, "This account may not place or cancel orders.")),
    (400, _binance_error(-1013, "Market is closed.")),
    (400, _binance_error(-1121, "Invalid symbol.")),
    (503, _binance_error(-1008, "Server is currently overloaded with other requests.")),
    (503, _binance_error(-1016, "This service is no longer available.")),
)
_SPOT_UNKNOWN = (
    (429, _binance_error(-1003, "Too much request weight used.")),
    (408, _binance_error(-1007, "Timeout waiting for response from backend server.")),
    (500, _binance_error(-1006, "An unexpected response was received from the message bus.")),
    (500, _binance_error(-1000, "An unknown error occurred while processing the request.")),
)
_SPOT = VenueProfile(
    venue="binance-spot",
    secrets=lambda: {"api_key": "binance-key-0123456789", "api_secret": "binance-secret-0123456789"},
    addresses=("wss://ws-api.binance.com/ws-api/v3", "https://api.binance.com"),
    timing=SweepTiming(  # §10: lists lag by up to 20 s
        clean_reads=2, read_after_s=0.25, read_gap_s=2.5, strike_gap_s=1.0, residue_after_s=30.0, list_lag_s=20.0
    ),
    target=_binance_target,
    fans_out="BTCUSDT",
    asks=_binance_asks,
    signed_ms=_binance_ms,
    worded=lambda words: _binance_error(-1100, words),
    login=({"id": "subscribe", "status": 200, "result": {"subscriptionId": 0}},),
    refused_login=_spot_refused("subscribe", 401, -2015, "Invalid API-key, IP, or permissions for action."),
    login_refusals=(
        (_spot_refused(None, 401, -2015, "Invalid API-key"), "session refused: 401 -2015 Invalid API-key", True),
        (_spot_refused("subscribe", 400, -1022, "Signature"), "subscription refused: 400 -1022 Signature", True),
        (_spot_refused("subscribe", 400, -1021, "Timestamp"), "subscription refused: 400 -1021 Timestamp", False),
        (_spot_refused("subscribe", 429, -1003, "Too much"), "subscription refused: 429 -1003 Too much", False),
        (
            {"subscriptionId": 0, "event": {"e": "eventStreamTerminated", "E": 1}},
            "has ended the account's events",
            False,
        ),
    ),
    accepted=([], [_spot_order("7", "CANCELED")], payload("binance/cancel-all")),
    refused=(*_SPOT_KEY_REFUSED, *_SPOT_RESTING),
    unknown=(*_SPOT_UNKNOWN, (200, {})),
    judged=(
        (200, payload("binance/cancel-all"), CancelOutcome.ACCEPTED, "2 order(s) cancelled"),
        (400, _SPOT_UNKNOWN_ORDER, CancelOutcome.ACCEPTED, "no open order"),
        (200, {}, CancelOutcome.UNKNOWN, "accepted, without its orders"),
        *((status, body, CancelOutcome.REFUSED, str(body["code"])) for status, body in _SPOT_KEY_REFUSED),
        *((status, body, CancelOutcome.REFUSED, str(body["code"])) for status, body in _SPOT_RESTING),
        *((status, body, CancelOutcome.UNKNOWN, str(body["code"])) for status, body in _SPOT_UNKNOWN),
    ),
    nothing=((500, b""), (502, b"<html>"), (503, b"{}"), (200, b"{"), (403, b"<html>"), (404, {}), (429, b"slow")),
    key_refused=_SPOT_KEY_REFUSED[0],
    probe_failures=(
        *((status, body, str(body["code"]), True) for status, body in _SPOT_KEY_REFUSED),
        *((status, body, str(body["code"]), False) for status, body in (*_SPOT_RESTING, *_SPOT_UNKNOWN)),
        (200, {}, "the open list cannot be read", False),
        (200, [7], "the open list cannot be read: 1 of 1 orders", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=lambda *ids, status: [_spot_order(one, status) for one in ids],
    pushed=_spot_push,
    found=_spot_order,
    forgotten=((400, _binance_error(-2013, "Order does not exist.")),),
    ids=("12569099453", "12569099454"),
    live=("NEW", "PARTIALLY_FILLED", "PENDING_NEW", "PENDING_CANCEL"),
    gone="CANCELED",
    ends=("FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"),
    ws_first=True,
    verb="method",
    drilled=((400, _SPOT_UNKNOWN_ORDER),),
    not_drilled=(
        (200, _spot_order("7", "CANCELED")),
        (400, _binance_error(-2011, "Market is closed.")),
        (400, _binance_error(-1121, "Invalid symbol.")),
        *_SPOT_UNKNOWN,
    ),
    ws_drilled=lambda frame: _spot_refused(frame["id"], 400, -2011, "Unknown order sent."),
    ws_not_drilled=lambda frame: _spot_refused(frame["id"], 400, -1121, "Invalid symbol."),
    worth=lambda call: [
        {"activate": True, "balance": "1234.5", "walletName": "Spot"},
        {"activate": True, "balance": "77", "walletName": "Funding"},
    ],
    equity={"USDT": "1234.5"},
)


def _rpc(number: int, result: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "result": result, "testnet": False}


def _deribit_error(code: int, message: str, number: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}, "testnet": False}


def _deribit_list(*ids: str, status: str) -> object:
    rows = [
        {"order_id": one, "order_state": status, "order_type": "limit", "instrument_name": "BTC-PERPETUAL", "label": ""}
        for one in ids
    ]
    return _rpc(1, rows)


def _deribit_push(one: str, status: str) -> object:
    data = {"order_id": one, "order_state": status, "order_type": "limit", "instrument_name": "BTC-PERPETUAL"}
    params = {"channel": "user.orders.any.any.raw", "data": data}
    return {"jsonrpc": "2.0", "method": "subscription", "params": params}


def _deribit_found(one: str, status: str) -> object:
    return _rpc(1, {"order_id": one, "order_state": status, "instrument_name": "BTC-PERPETUAL"})


def _deribit_stamp(request: Request) -> int:
    return int(request.headers["Authorization"].partition("ts=")[2].partition(",")[0])


def deribit_login(scope: str = "connection account:read trade:read_write", **more: object) -> dict[str, object]:
    token = {"access_token": "deribit-access-0123456789", "refresh_token": "deribit-refresh-0123456789"}
    return _rpc(1, {**token, "expires_in": 900, "scope": scope, "token_type": "bearer", **more})


DERIBIT_CHANNELS = ("user.orders.any.any.raw", "user.lock", "platform_state")
_DERIBIT_UNKNOWN = (
    *((10001, "error"), (10028, "too_many_requests"), (10040, "retry"), (10041, "settlement_in_progress")),
    *((10047, "matching_engine_queue_full"), (11051, "system_maintenance"), (11094, "internal_server_error")),
    *((13028, "temporarily_unavailable"), (13888, "timed_out"), (13503, "unavailable"), (99999, "of_tomorrow")),
)
_DERIBIT_KEY_REFUSED = (
    *((13004, "invalid_credentials"), (11042, "permission_denied"), (13021, "forbidden")),
    *((13403, "scope_exceeded"), (13668, "security_key_authorization_error"), (11098, "account_locked")),
    (12005, "country_is_banned"),
)
_DERIBIT_REFUSED = ((10019, "locked_by_admin"), (13009, "unauthorized"), (-32602, "Invalid params"))
_DERIBIT = VenueProfile(
    venue="deribit",
    secrets=lambda: {"client_id": "deribit-id-0123456789", "client_secret": "deribit-secret-0123456789"},
    addresses=("wss://www.deribit.com/ws/api/v2", "https://www.deribit.com"),
    timing=SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5),
    worded=lambda words: _deribit_error(11050, words),
    reads_by_post=True,
    signature="uthorization",
    login=(deribit_login(), _rpc(2, "ok"), _rpc(3, list(DERIBIT_CHANNELS))),
    refused_login=_deribit_error(13004, "invalid_credentials"),
    login_refusals=(
        *((_deribit_error(*one), f"login refused: {one[0]} {one[1]}", True) for one in _DERIBIT_KEY_REFUSED),
        *((_deribit_error(*one), f"login refused: {one[0]} {one[1]}", False) for one in _DERIBIT_UNKNOWN),
        (_deribit_error(13004, "invalid_credentials") | {"usOut": (START.wall_ms + 90_000) * 1000}, "the time", False),
    ),
    accepted=(
        payload("deribit/cancel-all"),
        _rpc(7, []),
        _rpc(7, [{"currency": "ETH", "type": "limit", "error": {"code": 10045, "message": "liquidation"}}]),
    ),
    refused=tuple((400, _deribit_error(*one)) for one in (*_DERIBIT_REFUSED, *_DERIBIT_KEY_REFUSED)),
    unknown=(
        (200, _rpc(7, 4)),
        (200, _rpc(7, None)),
        (200, _rpc(7, ["BTC"])),
        (403, payload("deribit/cancel-all")),
        (429, b"too many connections"),
        *((400, _deribit_error(*one)) for one in _DERIBIT_UNKNOWN),
        *((200, _deribit_error(*one)) for one in _DERIBIT_UNKNOWN),
    ),
    judged=(
        (200, payload("deribit/cancel-all"), CancelOutcome.ACCEPTED, "2 order(s) cancelled"),
        (200, _rpc(7, []), CancelOutcome.ACCEPTED, "0 order(s) cancelled"),
        (200, _rpc(7, 4), CancelOutcome.UNKNOWN, "accepted, without reports"),
        *((400, _deribit_error(*one), CancelOutcome.UNKNOWN, f"{one[0]} {one[1]}") for one in _DERIBIT_UNKNOWN),
        *((400, _deribit_error(*one), CancelOutcome.REFUSED, f"{one[0]} {one[1]}") for one in _DERIBIT_KEY_REFUSED),
        *((400, _deribit_error(*one), CancelOutcome.REFUSED, f"{one[0]} {one[1]}") for one in _DERIBIT_REFUSED),
        (400, _deribit_error(10004, "order_not_found"), CancelOutcome.REFUSED, "10004 order_not_found"),
        (
            200,
            _rpc(7, {"security_key_authorization_required": True, "challenge": "c"}),
            CancelOutcome.REFUSED,
            "a second factor",
        ),
    ),
    nothing=(*_SLOW, (502, payload("deribit/cancel-all")), (200, {"error": "x"}), (404, b"<html>")),
    key_refused=(400, _deribit_error(13004, "invalid_credentials")),
    probe_failures=(
        *((400, _deribit_error(*one), f"{one[0]} {one[1]}", True) for one in _DERIBIT_KEY_REFUSED),
        *((400, _deribit_error(*one), f"{one[0]} {one[1]}", False) for one in (*_DERIBIT_UNKNOWN, *_DERIBIT_REFUSED)),
        (200, _rpc(9, {}), "the open list cannot be read", False),
        (200, _rpc(9, [7]), "the open list cannot be read: 1 of 1 orders", False),
        (503, b"", "HTTP 503 proves nothing", False),
    ),
    listed=_deribit_list,
    pushed=_deribit_push,
    found=_deribit_found,
    forgotten=((400, _deribit_error(10004, "order_not_found")), (200, _deribit_error(10010, "already_closed"))),
    ids=("ETH-100234", "ETH-100235"),
    live=("open", "untriggered", "of_tomorrow"),
    gone="cancelled",
    ends=("filled", "rejected", "cancelled", "archive"),
    header="client_id",
    ws_first=True,
    verb="method",
    drilled=(
        (400, _deribit_error(10004, "order_not_found")),
        (200, _deribit_error(11044, "not_open_order")),
    ),
    not_drilled=(
        (400, _deribit_error(10019, "locked_by_admin")),
        (400, _deribit_error(13009, "unauthorized")),
        (400, _deribit_error(10028, "too_many_requests")),
        (200, _deribit_found("ETH-0", "cancelled")),
    ),
    ws_drilled=lambda frame: _deribit_error(10004, "order_not_found", frame["id"]),
    ws_not_drilled=lambda frame: _deribit_error(10047, "matching_engine_queue_full", frame["id"]),
    worth=lambda call: payload("deribit/account-summaries"),
    equity={"BTC": "302.6188592", "ETH": "5.5"},
    signed_ms=_deribit_stamp,
)


def _binance_futures(product: str, symbol: str) -> VenueProfile:
    """Return the stand of USD-M (`fapi`) or COIN-M (`dapi`), with a symbol of it."""
    is_linear = product == "fapi"
    urls = {
        True: ("wss://fstream.binance.com/private/ws", "https://fapi.binance.com"),
        False: ("wss://dstream.binance.com/ws", "https://dapi.binance.com"),
    }

    def number(one: str) -> object:
        return int(one) if one.isascii() and one.isdigit() else one

    def listed(*ids: str, status: str) -> object:
        return [{"symbol": symbol, "orderId": number(one), "clientOrderId": "c", "status": status} for one in ids]

    def pushed(one: str, status: str) -> object:
        order = payload("binance/futures-order-update")["o"] | {
            "s": symbol,
            "i": number(one),
            "X": status,
            "x": "TRADE",
        }
        return {**payload("binance/futures-order-update"), "o": order}

    def found(one: str, status: str) -> object:
        return {"symbol": symbol, "orderId": number(one), "clientOrderId": "c", "status": status}

    def granted(call: Call) -> object:
        if call.request.target.endswith("/listenKey"):
            return payload("binance/futures-listen-key")
        if call.request.method == "DELETE":
            return _binance_error(-2011, "Unknown order sent.")
        return {} if call.request.target.startswith("/sapi/") else None

    return VenueProfile(
        venue="binance-usdm" if is_linear else "binance-coinm",
        secrets=lambda: {"api_key": "binance-key-0123456789", "api_secret": "binance-secret-0123456789"},
        addresses=urls[is_linear],
        # §7: 2400 a minute for both products and all accounts of an address; §10: lists lag by up to 20 s
        timing=SweepTiming(
            clean_reads=2, read_after_s=0.25, read_gap_s=10.0, strike_gap_s=1.0, residue_after_s=45.0, list_lag_s=20.0
        ),
        refused_login=payload("binance/futures-listen-key-expired"),
        not_fatal=True,
        login_refusals=((payload("binance/futures-listen-key-expired"), "the listen key has expired", False),),
        accepted=(
            payload("binance/futures-cancelled-all"),
            {"code": "200", "msg": "The operation of cancel all conditional open order is done."},
        ),
        refused=(
            (400, _binance_error(-1121, "Invalid symbol.")),
            (400, _binance_error(-1102, "Mandatory parameter 'symbol' was not sent.")),
            (400, _binance_error(-2011, "Order was not canceled due to cancel restrictions.")),
            (400, _binance_error(-4120, "Order type not supported for this endpoint.")),
        ),
        unknown=(
            (429, _binance_error(-1003, "Too many requests.")),
            (418, _binance_error(-1003, "Way too much request weight used; IP banned until 1700000600000.")),
            (408, _binance_error(-1007, "Timeout waiting for response from backend server.")),
            (503, _binance_error(-1000, "Unknown error, please check your request or try again later.")),
            (200, {"data": {}}),
            (200, {"code": 0}),
        ),
        judged=(
            (200, payload("binance/futures-cancelled-all"), CancelOutcome.ACCEPTED, "2 commands: accepted"),
            (400, _binance_error(-2011, "Unknown order sent."), CancelOutcome.ACCEPTED, "2 commands: accepted"),
            (400, _binance_error(-1121, "Invalid symbol."), CancelOutcome.REFUSED, f"{symbol}: 400 -1121 Invalid sy"),
            (401, _binance_error(-2015, "Invalid API-key."), CancelOutcome.REFUSED, "401 -2015 Invalid API-key."),
            (400, _binance_error(-1022, "Signature for this"), CancelOutcome.REFUSED, "400 -1022 Signature"),
            (503, _binance_error(-1000, "Service Unavailable."), CancelOutcome.REFUSED, "503 -1000 Service Unav"),
            (503, _binance_error(-1008, "Server is overloaded"), CancelOutcome.REFUSED, "503 -1008 Server is"),
            (408, _binance_error(-1007, "Timeout"), CancelOutcome.UNKNOWN, "408 -1007 Timeout"),
            (200, {"code": 0}, CancelOutcome.UNKNOWN, f"{symbol}: accepted, without code 200"),
        ),
        nothing=(*_SLOW[:-1], (403, b"<html>"), (404, b"<html>"), (520, b"<html>"), (429, b"slow down")),
        key_refused=(401, _binance_error(-2015, "Invalid API-key, IP, or permissions for action.")),
        probe_failures=(
            (401, _binance_error(-2015, "Invalid API-key"), "401 -2015 Invalid API-key", True),
            (
                400,
                _binance_error(-1000, "Not for a Portfolio Margin account."),
                "a portfolio-margin account: its",
                True,
            ),
            (400, _binance_error(-1121, "Invalid symbol."), "400 -1121 Invalid symbol.", False),
            (200, {"orders": []}, "the open list cannot be read", False),
            (200, [7], "the open list cannot be read: 1 of 1 orders", False),
            (503, b"", "HTTP 503 proves nothing", False),
        ),
        worded=lambda words: _binance_error(-1121, words),
        granted=granted,
        token=payload("binance/futures-listen-key")["listenKey"],
        target=_binance_target,
        fans_out=symbol,
        asks=_binance_asks,
        signed_ms=_binance_ms,
        listed=listed,
        pushed=pushed,
        found=found,
        forgotten=((400, _binance_error(-2013, "Order does not exist.")),),
        ids=("88867740101", "88867740102"),
        live=("NEW", "PARTIALLY_FILLED"),
        gone="CANCELED",
        ends=("FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"),
        drilled=((400, _binance_error(-2011, "Unknown order sent.")),),
        not_drilled=(
            (400, _binance_error(-2011, "Order was not canceled due to cancel restrictions.")),
            (400, _binance_error(-1121, "Invalid symbol.")),
            (200, {"orderId": 1, "symbol": symbol, "status": "CANCELED"}),
        ),
        worth=lambda call: payload("binance/futures-account"),
        equity={"USDT": "1238.2", "BNB": "0.5"},
    )


_USDM, _COINM = _binance_futures("fapi", "BTCUSDT"), _binance_futures("dapi", "BTCUSD_PERP")

STANDS: Mapping[str, VenueProfile] = {
    stand.venue: stand
    for stand in (
        _SPOT,
        _COINM,
        _USDM,
        _CROSSTRADE,
        _DERIBIT,
        _KRAKEN,
        _FUTURES,
        _KUNA,
        _OXFUN,
        _ROXOM,
    )
}
