"""OX.FUN's WebSocket; § numbers are those of docs/venues/oxfun.md."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from kill_switch.sim.kit.auth import is_signed
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.limits import Window
from kill_switch.sim.kit.protocol import SimAnswer, Understood
from kill_switch.sim.kit.tables import Frames, Op, Refused
from kill_switch.sim.kit.ws_protocol import WsProtocol
from kill_switch.sim.oxfun import payloads as wire

if TYPE_CHECKING:
    from kill_switch.sim.oxfun.venue import Oxfun

_PRIVATE = {"order", "position", "balance"}
_PUBLIC = {"ticker", "depth", "depthL5", "depthL10", "depthL25", "trade", "candles60s", "bestBidAsk", "market"}


class OxfunSocket(WsProtocol):
    """Commands have `op` and perhaps `tag`; the login is one of them."""

    errors: ClassVar[Mapping[int, str]] = {401: "20025", 403: "05001", 429: "20007", 503: "000101", 0: "20001"}
    no_login = "05001"

    def __init__(self, venue: Oxfun) -> None:
        super().__init__()
        self._venue = venue
        self.ops |= {
            "login": Op("login", self._login, private=False, weight=1),
            "subscribe": Op("other", self._subscribe, private=False, weight=1),
            "unsubscribe": Op("other", self._subscribe, private=False, weight=1),
            "cancelorder": Op("cancel", self._cancel_one, weight=1),
            "cancelorders": Op("cancel", self._cancel_some, weight=1),
        }

    # the envelope

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return `op` and `tag`, which is returned as text (§3.2)."""
        return str(data.get("op")), None if data.get("tag") is None else str(data["tag"])

    def good(self, heard: Understood, result: object) -> object:
        """Return the answer to a login."""
        body = {"event": heard.op, "success": True, "timestamp": wire.ms(self._venue.now())}
        return body | self._tagged(heard.tag)

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return an error; errors of orders have `submitted`, all others `success` (§3.2, §4.1)."""
        body: dict[str, object] = {"event": heard.op} if heard.op else {}
        body["submitted" if heard.kind == "cancel" else "success"] = False
        message = text or wire.TEXTS.get(code, "Refused")
        body |= {"code": code, "message": message, "timestamp": wire.ms(self._venue.now())}
        body |= self._tagged(heard.tag)
        if heard.kind == "cancel" and isinstance(data := heard.data.get("data"), dict):
            body["data"] = {key: value if key == "marketCode" else str(value) for key, value in data.items()}
        return body

    def _tagged(self, tag: str | None) -> dict[str, object]:
        return {} if tag is None else {"tag": tag}

    def greet(self, session: Session) -> None:
        """Send a greeting with an unused nonce (§3.1); the limit is one message a second until the login (§3.4)."""
        session.window = Window(1, 1.0)
        if self._venue.options.greeting:
            nonce, stamp = secrets.token_hex(8), wire.ms(self._venue.now())
            greeting = {"event": "Welcome", "nonce": nonce, "success": True, "timestamp": stamp}
            session.connection.say(orjson.dumps(greeting))

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message (§3.2–§3.4): `ping`, or a JSON object with `op` and perhaps `tag`."""
        window, now, fits = session.window, time.monotonic(), True
        free = message == "ping" and session.account is None and not self._venue.options.counts_pings
        if window is not None and not free:
            fits = not window.full(now)
            if fits:
                window.add(now)
        if message == "ping" and fits:
            return Understood("ping", "ping", answer=SimAnswer((b"pong",)))
        heard, code = self._parse(message)
        if not fits:
            code = "20007"
        if code:
            heard.answer = self.error(heard, code)
        return heard

    def _parse(self, message: str | bytes) -> tuple[Understood, str]:
        heard = Understood("other", "unreadable")
        try:
            data = orjson.loads("" if isinstance(message, bytes) else message)  # binary messages are refused
        except orjson.JSONDecodeError:
            return heard, "20009"
        if not isinstance(data, dict):
            return heard, "20002"
        op, tag = data.get("op"), data.get("tag")
        if not isinstance(op, str):
            return heard, "20003"
        row = self.ops.get(op)
        heard = Understood(row.kind if row else "other", op if row else f"unknown {op[:32]}", op, data=data)
        if len(message) > self._venue.options.max_message:
            return heard, "20027"
        if tag is not None:
            if len(str(tag)) > 32 or isinstance(tag, bool | dict | list):
                return heard, "20034"
            heard.tag = str(tag)  # returned as text (§3.2)
        if op == "login" and isinstance(data.get("data"), dict):
            account = self._venue.keys.get(str(data["data"].get("apiKey")))
            heard.who = account.name if account else None
        return heard, "" if row else "20003"

    def _login(self, session: Session, anonymous: Account, data: dict[str, Any]) -> object:
        venue = self._venue
        account = self._credentials(session, data.get("data"))
        venue.log_in(session, account, venue.options.login_s)
        session.window = Window(venue.options.ws_limit, 1.0)
        return None

    def _credentials(self, session: Session, data: object) -> Account:
        """Check a login (§3.2); return its account. Raises `Refused`."""
        if session.account is not None:
            raise Refused("20005")
        if not isinstance(data, dict):
            raise Refused("20002")
        stamp = data.get("timestamp")
        if stamp is None or stamp == "":
            raise Refused("20023")
        account = self._venue.keys.get(str(data.get("apiKey")))
        if account is None:
            raise Refused("20025")
        # documented as text; the number that ccxt sends is accepted as well
        if isinstance(stamp, bool) or not str(stamp).isdigit():
            raise Refused("20024")
        if abs(self._venue.now() - int(stamp) / 1000) > self._venue.options.max_skew_s:
            raise Refused("20024")
        secret = account.credentials["api_secret"].encode()
        if not is_signed(secret, wire.login_text(str(stamp)), "sha256", str(data.get("signature"))):
            raise Refused("20000")
        return account

    def _subscribe(self, session: Session, anonymous: Account, data: dict[str, Any]) -> object:
        """Answer each channel separately (§6); private channels need a login."""
        op, tag = self.op_of(data)
        channels = data.get("args")
        if not isinstance(channels, list) or not channels:
            raise Refused("20002")
        frames: list[object] = []
        good = True
        for channel in channels:
            base = str(channel).partition(":")[0]
            code = "" if base in _PRIVATE | _PUBLIC else "20001"
            if base in _PRIVATE and session.account is None:
                code = "05001"
            body: dict[str, object] = {"event": op, "success": not code}
            body |= self._tagged(tag)
            body |= {"channel": str(channel), "timestamp": wire.ms(self._venue.now())}
            if code:
                good = False
                body |= {"code": code, "message": wire.TEXTS[code]}
            elif op == "subscribe":
                self._venue.subscribe(session, base)
            else:
                session.channels.discard(base)
            frames.append(body)
        return Frames(tuple(frames), ok=good)

    def _cancel_one(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        return self._cancel_frames(account, data, [data.get("data")])

    def _cancel_some(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        items = data.get("dataArray")
        if not isinstance(items, list) or not items:
            raise Refused("20002")
        return self._cancel_frames(account, data, items)

    def _cancel_frames(self, account: Account, data: dict[str, Any], items: Sequence[Any]) -> Frames:
        """Answer with one frame per order, all with the same tag (§4.1, §4.2); the engine cancels later."""
        orders: list[Order] = []
        rows: list[tuple[str, dict[str, str]]] = []
        for item in items:
            code, order = self._check(account, item)
            shown: dict[str, str] = {}
            if isinstance(item, dict):
                shown = {key: str(item[key]) for key in ("marketCode", "clientOrderId", "orderId") if key in item}
            if order is not None:
                orders.append(order)
                shown |= {"clientOrderId": order.client_id, "orderId": order.id}
            rows.append((code, shown))
        self._venue.cancel(account, orders, whole=False, single=True)
        stamp = wire.ms(self._venue.now())
        _, tag = self.op_of(data)
        frames: list[object] = []
        for code, shown in rows:
            body: dict[str, object] = {"event": "cancelorder", "submitted": not code}
            body |= self._tagged(tag)
            body |= {"message": wire.TEXTS[code], "code": code} if code else {}
            frames.append(body | {"timestamp": stamp, "data": shown})
        return Frames(tuple(frames), ok=any(not code for code, _ in rows))

    def _check(self, account: Account, item: object) -> tuple[str, Order | None]:
        if not isinstance(item, dict):
            return "20002", None
        if not isinstance(item.get("marketCode"), str):
            return "20011", None
        order_id = item.get("orderId")
        if order_id is None and item.get("clientOrderId") is None:
            return "20010", None
        text = self._venue.options.string_ids and isinstance(order_id, str) and order_id.isdigit()
        if (
            order_id is not None
            and not text
            and (not isinstance(order_id, int) or isinstance(order_id, bool) or order_id < 0)
        ):
            return "20019", None
        order = self._venue.find(account, item)
        if order is not None:
            return "", order
        if any(str(order_id) in other.open for other in self._venue.accounts.values() if other is not account):
            return "100006", None
        return "100005", None
