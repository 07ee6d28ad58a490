"""A WebSocket API of a venue: its operations as a table, the envelope of its messages, its account events.

`kit.table_venue` has one object of it for each path. A venue with an old and a new WebSocket has two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import SimAnswer, Understood
from kill_switch.sim.kit.tables import Frames, Op, Refused
from kill_switch.sim.kit.values import json_object


class WsProtocol(ABC):
    """Parse the messages of one WebSocket API, and answer them by the table `ops`."""

    # the venue's codes, by the HTTP status that the kit's faults speak in; 0 stands for any other
    errors: ClassVar[Mapping[int, str]] = {}
    unreadable: ClassVar[str] = "unreadable message"  # the code for a message that is no JSON object
    binary: ClassVar[str] = ""  # the code for a binary message; empty stands for `unreadable`
    unknown_op: ClassVar[str] = "unknown operation"
    no_login: ClassVar[str] = "not logged in"

    def __init__(self) -> None:
        self.ops: dict[str, Op] = {}

    @abstractmethod
    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return a message's operation, and the tag that its answer repeats."""

    @abstractmethod
    def good(self, heard: Understood, result: object) -> object:
        """Return the answer of an operation that succeeded; None is a silent one."""

    @abstractmethod
    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return the answer of an operation that was refused; None is a silent one.

        An empty text stands for the code's usual one.
        """

    # what a protocol overrides if it differs

    def account_of(self, session: Session, data: dict[str, Any]) -> Account | None:
        """Return the account that a message acts for; None if it has none."""
        return session.account

    def claimed(self, data: dict[str, Any]) -> Account | None:
        """Return the account that a login claims to be, unchecked."""
        return None

    def greet(self, session: Session) -> None:
        """Send the first messages of a new WebSocket."""
        return

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        """Send order events to a session of their account."""
        return

    def push_equity(self, session: Session, account: Account) -> None:
        """Send the events of a change of the account's money to one of its sessions."""
        return

    # parsing and answering

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message; refuse it if it is no JSON object, or names no operation."""
        heard = Understood("other", "unreadable", session_id=session.id)
        is_binary = isinstance(message, bytes)
        data = None if is_binary else json_object(message)
        if data is None:
            heard.answer = self.error(heard, (self.binary if is_binary else "") or self.unreadable)
            return heard
        heard.data = data
        heard.op, heard.tag = self.op_of(data)
        op = self.ops.get(heard.op)
        if op is None:
            heard.operation = f"unknown {heard.op[:32]}"
            heard.answer = self.error(heard, self.unknown_op)
            return heard
        account = self.account_of(session, data) if op.private else None
        if op.kind == "login":
            account = account or self.claimed(data)
        heard.kind, heard.operation, heard.weight = op.kind, op.operation or heard.op, op.weight
        heard.who = account.name if account else None
        return heard

    def handle(self, session: Session, heard: Understood, anonymous: Account) -> SimAnswer:
        """Carry out a parsed message."""
        op = self.ops[heard.op]
        account = self.account_of(session, heard.data) if op.private else anonymous
        if account is None:
            return self.error(heard, self.no_login)
        if op.private:
            session.connection.account = account.name
        try:
            result = op.handler(session, account, heard.data)
        except Refused as refused:
            return self.error(heard, refused.code, refused.text)
        if isinstance(result, Frames):
            return SimAnswer(tuple(map(orjson.dumps, result.messages)), ok=result.ok)
        return _answer(self.good(heard, result), ok=True)

    def error(self, heard: Understood, code: str, text: str = "") -> SimAnswer:
        """Return a refusal with the venue's code."""
        return _answer(self.bad(heard, code, text), ok=False)


def _answer(body: object, *, ok: bool) -> SimAnswer:
    return SimAnswer(() if body is None else (orjson.dumps(body),), ok=ok)
