"""Kraken's WebSocket v2, and the Unified WebSocket that has the same messages (docs/venues/kraken.md §3, §5, §6).

Both planes use it: spot without an asset class, derivatives with an asset class in every private request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import orjson

from kill_switch.sim.kit.auth import TokenStore
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Frames, Op, Refused
from kill_switch.sim.kit.values import is_uuid
from kill_switch.sim.kit.ws_protocol import WsProtocol
from kill_switch.sim.kraken import payloads as wire

_CHANNELS = ("executions", "balances")
_SWITCHES = ("snap_orders", "snap_trades", "order_status", "ratecounter", "snapshot")  # of a subscription
_BEAT_S = 1.0
_MOST_IDS = 50
_MOST_TRADES = 50  # of a snapshot


class Plane(Protocol):
    """The venue, as the protocol sees it."""

    sessions: dict[Connection, Session]
    sockets: dict[str, WsProtocol]  # by path

    @property
    def tokens(self) -> TokenStore:
        """The tokens that REST has handed out."""
        ...

    @property
    def mode(self) -> str:
        """`online`, `cancel_only`, `post_only` or `maintenance`."""
        ...

    def now_ns(self) -> int: ...

    def later(self, seconds: float, call: Any, *arguments: object) -> None: ...

    def attach(self, session: Session, account: Account) -> None: ...

    def event(self, session: Session, text: bytes, push: str) -> None: ...

    def listed(self, account: Account, name: str) -> list[Order]: ...

    def subscribed_with(self, token: object) -> None:
        """Note that a subscription was made with a token."""
        ...

    def transfer_of(self, account: Account) -> wire.LedgerEntry | None:
        """Return the transfer that the last change of the account's cash was; None if it was the result of trades."""
        ...


class Desk(Protocol):
    """The part of the venue that cancels."""

    def permit(self, account: Account, call: str) -> None:
        """Raise `Refused` if the key may not make this call, or the mode forbids it."""
        ...

    def cancel_every(self, account: Account) -> int:
        """Cancel all orders; return the count that the venue claims."""
        ...

    def cancel_named(self, account: Account, orders: Sequence[Order | None]) -> list[str | None]:
        """Cancel orders one by one; return the code of each refusal. None stands for an unknown order."""
        ...

    def cancel_batch(self, account: Account, orders: Sequence[Order | None]) -> int:
        """Cancel orders together; return how many were cancelled."""
        ...

    def set_countdown(self, account: Account, timeout: object) -> object:
        """Arm or disarm the countdown; return the answer's result."""
        ...


class V2Socket(WsProtocol):
    """The private WebSocket. Each private request has a token of REST; there is no login message."""

    errors: ClassVar[Mapping[int, str]] = {
        401: "EAPI:Invalid key",
        403: "EGeneral:Permission denied",
        429: "Exceeded msg rate",
        500: "EGeneral:Internal error",
        503: "EService:Unavailable",
    }
    unreadable = "EGeneral:Invalid arguments"
    unknown_op = "EGeneral:Invalid arguments:method"
    no_login = "ESession:Invalid session"

    def __init__(self, plane: Plane, desk: Desk, asset_class: str | None = None) -> None:
        super().__init__()
        self._plane = plane
        self._desk = desk
        self._asset_class = asset_class
        self.ops |= {
            "ping": Op("ping", lambda session, account, data: None, private=False),
            "subscribe": Op("login", self._subscribe),  # with the token, which is the login
            "unsubscribe": Op("other", self._unsubscribe),
            "cancel_all": Op("cancel", self._cancel_all, operation="cancel-all"),
            "cancel_order": Op("cancel", self._cancel_order, operation="cancel"),
            "batch_cancel": Op("cancel", self._batch_cancel, operation="cancel-batch"),
            "cancel_all_orders_after": Op("other", self._countdown, operation="dead-man"),
        }

    # the envelope

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return `method` and `req_id`."""
        number = data.get("req_id")
        return str(data.get("method")), str(number) if type(number) is int else None

    def good(self, heard: Understood, result: object) -> object:
        """Return a reply with `success`, or the pong."""
        if heard.op == "ping":
            return {"method": "pong", **self._stamps(heard.tag)}
        return {"method": heard.op, "result": result, "success": True, **self._stamps(heard.tag)}

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return a reply with `error`."""
        named = {"method": heard.op} if heard.op else {}
        return {"error": code, **named, "success": False, **self._stamps(heard.tag)}

    def _stamps(self, tag: str | None) -> dict[str, object]:
        now = wire.iso(self._plane.now_ns())
        return {**({"req_id": int(tag)} if tag else {}), "time_in": now, "time_out": now}

    def account_of(self, session: Session, data: dict[str, Any]) -> Account | None:
        """Return the account of the token in `params`."""
        return self._plane.tokens.owner(_params(data).get("token"))

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message; refuse one whose `req_id` is no whole number."""
        heard = super().parse(session, message)
        if heard.answer is None and type(heard.data.get("req_id", 0)) is not int:
            heard.answer = self.error(heard, "EGeneral:Invalid arguments:req_id")
        return heard

    def _arguments(self, data: dict[str, Any], *names: str) -> Mapping[str, Any]:
        """Return the parameters of a request, which has no others than `names`, if any are given."""
        params = _params(data)
        if self._asset_class is not None and params.get("asset_class") != self._asset_class:
            raise Refused("EGeneral:Invalid arguments:asset_class")
        if names:
            check_known(params, (*names, *(() if self._asset_class is None else ("asset_class",))))
        return params

    # status, heartbeats, subscriptions

    def greet(self, session: Session) -> None:
        """Send the system's status (§5.1)."""
        session.connection.say(self._status(session))

    def tell_status(self) -> None:
        """Send the changed status to every connection of this WebSocket."""
        for session in tuple(self._plane.sessions.values()):
            if self._plane.sockets[session.path] is self:
                session.connection.say(self._status(session))

    def _status(self, session: Session) -> bytes:
        number = int(session.id[:8], 16)
        data = {"api_version": "v2", "connection_id": number, "system": self._plane.mode, "version": "2.0.0"}
        return orjson.dumps({"channel": "status", "type": "update", "data": [data]})

    def _beat(self, session: Session) -> None:
        if not session.connection.closing:
            session.connection.say(b'{"channel":"heartbeat"}')
            self._plane.later(_BEAT_S, self._beat, session)

    def _subscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        params = self._arguments(data)
        channel = params.get("channel")
        if channel not in _CHANNELS:
            raise Refused("EGeneral:Invalid arguments:channel")
        if wrong := next((name for name in _SWITCHES if type(params.get(name, True)) is not bool), None):
            raise Refused(f"EGeneral:Invalid arguments:{wrong}")
        self._desk.permit(account, f"subscribe {channel}")
        if channel in session.channels:
            raise Refused(f"Already subscribed to {channel} channel")
        if session.account not in (None, account):
            raise Refused("ESession:Invalid session")
        self._plane.attach(session, account)
        session.channels.add(channel)
        if "heartbeat" not in session.sequence:
            session.sequence["heartbeat"] = 1
            self._plane.later(_BEAT_S, self._beat, session)
        self._plane.subscribed_with(params.get("token"))
        heard = Understood("other", "subscribe", *self.op_of(data))
        if channel == "balances":
            result: dict[str, object] = {"channel": channel, "snapshot": params.get("snapshot", True)}
            rows: list[object] = [_money(account)]
            shown = result["snapshot"]
        else:
            defaults = {"snap_orders": True, "snap_trades": False, "order_status": True, "ratecounter": False}
            result = {"channel": channel} | {name: params.get(name, usual) for name, usual in defaults.items()}
            shown = result["snap_orders"] or result["snap_trades"]
            orders = self._plane.listed(account, "orders") if result["snap_orders"] else []
            rows = [wire.execution(order) for order in orders]
            traded = [order for order in account.closed.values() if order.filled] if result["snap_trades"] else []
            rows += [wire.fill_row(order) for order in traded[-_MOST_TRADES:]]
        ack = self.good(heard, result)
        session.sequence[channel] = 0
        return Frames((ack, self._frame(session, channel, rows, "snapshot")) if shown else (ack,))

    def _unsubscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        channel = self._arguments(data).get("channel")
        if channel not in session.channels:
            raise Refused("EGeneral:Invalid arguments:channel")
        session.channels.discard(channel)
        return {"channel": channel}

    def _frame(self, session: Session, channel: str, rows: Sequence[object], kind: str = "update") -> object:
        session.sequence[channel] += 1
        return {"channel": channel, "type": kind, "data": rows, "sequence": session.sequence[channel]}

    # account events

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        """Send one update for each event of each order, numbered for each connection, then the balance after a fill."""
        for order in orders if "executions" in session.channels else ():
            for row in wire.order_news(order, news, acknowledged=self._asset_class is None):
                self._plane.event(session, orjson.dumps(self._frame(session, "executions", [row])), "order")
        if news == "filled" and session.account is not None:
            self._push_balance(session, session.account, 0.0)

    def push_equity(self, session: Session, account: Account) -> None:
        """Send the changed balance, with the ledger's entry if it was a transfer (§5.1)."""
        self._push_balance(
            session, account, float(account.cash - account.cash_before), self._plane.transfer_of(account)
        )

    def _push_balance(
        self, session: Session, account: Account, amount: float, transfer: wire.LedgerEntry | None = None
    ) -> None:
        if "balances" not in session.channels:
            return
        kind = "trade" if transfer is None else transfer.kind
        moved = {
            "ledger_id": wire.new_id("L") if transfer is None else transfer.id, "ref_id": wire.new_id("T"),
            "timestamp": wire.iso(self._plane.now_ns()), "type": kind, "subtype": "", "category": kind,
            "wallet_type": "spot", "wallet_id": "main", "amount": amount, "fee": 0.0,
        }  # fmt: skip
        frame = self._frame(session, "balances", [_money(account) | moved])
        self._plane.event(session, orjson.dumps(frame), "balance")

    # cancels and the countdown

    def _cancel_all(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        self._arguments(data, "token")
        self._desk.permit(account, "cancel-all")
        return {"count": self._desk.cancel_every(account)}

    def _cancel_order(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        """Answer with one frame for each order; only the first repeats `req_id` (§3.1).

        The three kinds of names cannot be combined.
        """
        kinds = ("order_id", "order_userref", "cl_ord_id")
        params = self._arguments(data, "token", *kinds)
        self._desk.permit(account, "cancel")
        names = _ids(params, kinds, self._asset_class)
        if len({key for key, _ in names}) > 1:
            raise Refused("EGeneral:Invalid arguments")
        orders = [find_order(account, key, name) for key, name in names]
        codes = self._desk.cancel_named(account, orders)
        frames: list[object] = []
        operation, tag = self.op_of(data)
        for (key, name), order, code in zip(names, orders, codes, strict=True):
            heard = Understood("cancel", "cancel", operation, None if frames else tag)
            shown = {"order_id": order.id} if order else {key: name}
            frames.append(self.bad(heard, code) if code else self.good(heard, shown))
        return Frames(tuple(frames), ok=None in codes)

    def _batch_cancel(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        params = self._arguments(data, "token", "orders", "cl_ord_id")
        self._desk.permit(account, "cancel-batch")
        names = _ids(params, ("orders", "cl_ord_id"), self._asset_class)
        if not 2 <= len(names) <= _MOST_IDS:
            raise Refused("EGeneral:Invalid arguments:orders")
        return {"count": self._desk.cancel_batch(account, [find_order(account, key, name) for key, name in names])}

    def _countdown(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        timeout = self._arguments(data, "token", "timeout").get("timeout")
        self._desk.permit(account, "dead-man")
        if type(timeout) is not int:  # a text is one of REST's
            raise Refused("EGeneral:Invalid arguments:timeout")
        return self._desk.set_countdown(account, timeout)


def find_order(account: Account, key: str, name: object) -> Order | None:
    """Return an open order by one of its names; `key` says which, where the name alone does not."""
    if key == "cl_ord_id":
        return next((order for order in account.open.values() if name and order.client_id == name), None)
    text = str(name)
    if text.isdigit():
        return next((order for order in account.open.values() if order.category == text), None)
    return account.open.get(text)


def is_name(key: str, value: object, asset_class: str | None = None) -> bool:
    """Return whether a value may name an order: an id of the venue, a number of the client's, or a text of his.

    An id is a UUID where there is an asset class (§3.3). `orders` may be numbers too.
    """
    if type(value) is int:
        return key in ("order_userref", "orders")
    if not isinstance(value, str) or key == "order_userref":
        return False
    if key == "cl_ord_id":
        return bool(value)
    if asset_class is not None:
        return is_uuid(value)
    return wire.is_order_id(value) or (key == "orders" and value.isascii() and value.isdigit())


def check_known(params: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuse a parameter that a call does not have: no document says that it is ignored. Raises `Refused`."""
    if unknown := next((name for name in params if name not in names), None):
        raise Refused(f"EGeneral:Invalid arguments:{unknown}")


def _params(data: dict[str, Any]) -> Mapping[str, Any]:
    params = data.get("params")
    return params if isinstance(params, dict) else {}


def _ids(params: Mapping[str, Any], keys: Sequence[str], asset_class: str | None) -> list[tuple[str, Any]]:
    names: list[tuple[str, Any]] = []
    for key in keys:
        values = params.get(key, [])
        if not isinstance(values, list):
            raise Refused(f"EGeneral:Invalid arguments:{key}")
        for value in values:
            if type(value) is int and asset_class is not None:  # (§3.3)
                raise Refused("EGeneral:Invalid arguments:order_userref")
            if not is_name(key, value, asset_class):
                raise Refused(f"EGeneral:Invalid arguments:{key}")
            names.append((key, value))
    if not names:
        raise Refused(f"EGeneral:Invalid arguments:{keys[0]}")
    return names


def _money(account: Account) -> dict[str, object]:
    return {"asset": "USD", "asset_class": "currency", "balance": float(account.cash)}
