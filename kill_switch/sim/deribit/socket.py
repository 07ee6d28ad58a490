"""Deribit's JSON-RPC over a WebSocket: messages, their accounts, limits (docs/venues/deribit.md §2, §7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from kill_switch.sim.deribit.channels import Channels
from kill_switch.sim.deribit.grants import Grant
from kill_switch.sim.deribit.rpc import MOST_BYTES, Call, Method, is_request, method_of
from kill_switch.sim.deribit.sessions import SessionCalls, State
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Understood
from kill_switch.sim.kit.tables import Op
from kill_switch.sim.kit.ws_protocol import WsProtocol

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

ERRORS = {400: "11050", 401: "13009", 403: "13021", 429: "10028", 500: "11094", 503: "11051"}


class DeribitSocket(WsProtocol):
    """JSON-RPC over a WebSocket."""

    errors: ClassVar[Mapping[int, str]] = ERRORS
    unreadable = "11050"
    unknown_op = "-32601"
    no_login = "13009"

    def __init__(self, venue: Deribit) -> None:
        super().__init__()
        self._venue = venue
        self._calls = SessionCalls(venue)
        self._channels = Channels(venue)
        self.watch, self.ended, self.end_login = self._calls.watch, self._calls.ended, self._calls.end_login
        self.tell = self._channels.tell

    def methods(self) -> dict[str, Method]:
        """Return the methods of sessions."""
        return self._calls.methods() | self._channels.methods()

    def use(self, methods: Mapping[str, Method]) -> None:
        """Set the operations from the table of all methods."""
        for name, method in methods.items():
            handler = partial(self._run, name)
            self.ops[name] = Op(method.kind, handler, name.startswith("private/"), method.operation)

    def _run(self, name: str, session: Session, account: Account, data: dict[str, Any]) -> object:
        call = Call(account, {}, session.connection, session, self.grant_of(session, data))
        return self._venue.run(name, call, data.get("params"), texts=False)

    def state(self, session: Session) -> State:
        """Return the state of a WebSocket."""
        return self._calls.state(session)

    # messages

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message; refuse it if it is too large, has no id, or exceeds a limit."""
        self._venue.arrived_ns = session.connection.t_ns
        if len(message if isinstance(message, bytes) else message.encode()) > MOST_BYTES:
            heard = Understood("other", "too large", session_id=session.id)
            heard.answer = self.error(heard, "-32600")
            return heard
        heard = super().parse(session, message)
        if not heard.op:
            return heard
        if not is_request(heard.data, needs_id=self._venue.options.needs_id):
            heard.answer = self.error(heard, "11050", "not a request of JSON-RPC 2.0")
        client = session.account.name if session.account else session.connection.peer
        params = heard.data.get("params")
        heard.weight = self._venue.cost(heard.op, params)
        if not self._venue.charge(client, heard.op, params):
            heard.answer = self.error(heard, "10028")
            if self._venue.options.limited == "close":
                heard.answer.close = 1000
            else:
                self._venue.later(0.001, session.connection.abort)
        return heard

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return `method`."""
        return method_of(data) or "-", None

    def good(self, heard: Understood, result: object) -> object:
        """Return an answer with `result`."""
        return self._venue.envelope("result", result, heard.data)

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return an answer with `error`."""
        return self._venue.refusal(code, text, heard.data)

    # whom a message acts for

    def account_of(self, session: Session, data: dict[str, Any]) -> Account | None:
        """Return the account of the token that a request names, or of the login."""
        grant = self.grant_of(session, data)
        return None if grant is None else grant.account

    def grant_of(self, session: Session, data: Mapping[str, Any]) -> Grant | None:
        """Return what a request may do; None if its token or the login is not in force (§2)."""
        params = data.get("params")
        token = params.get("access_token") if isinstance(params, dict) else None
        if token is not None:
            return self._venue.granted(token, session.connection)
        grant = self.state(session).grant
        return grant if self._venue.grants.live(grant) and not self._venue.options.token_in_params else None

    def claimed(self, data: dict[str, Any]) -> Account | None:
        """Return the account that a login claims."""
        return self._venue.claimed(data.get("params"))

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        """Send the events of orders, while the login is in force."""
        if self._venue.grants.live(self.state(session).grant):
            self._channels.push_orders(session, orders)

    def push_equity(self, session: Session, account: Account) -> None:
        """Send the portfolios that a session asked for."""
        if self._venue.grants.live(self.state(session).grant):
            self._channels.push_equity(session, account)
