"""The simulated Deribit: JSON-RPC over a WebSocket and over HTTP; § numbers are those of docs/venues/deribit.md.

`sim.main` starts it. Where the file is silent, it refuses what a strict venue could refuse.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.cancels import CancelCalls
from kill_switch.sim.deribit.desk import OrderDesk
from kill_switch.sim.deribit.grants import Credentials, Grants
from kill_switch.sim.deribit.http import API, RpcVenue
from kill_switch.sim.deribit.options import DeribitOptions
from kill_switch.sim.deribit.pools import Pools
from kill_switch.sim.deribit.reads import ReadCalls
from kill_switch.sim.deribit.socket import ERRORS, DeribitSocket
from kill_switch.sim.deribit.trading import OrderCalls
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import SimAnswer, Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import RouteSpec


class Deribit(RpcVenue):
    """Deribit."""

    name = "deribit"
    options_type = DeribitOptions
    symbols = tuple(wire.INSTRUMENTS)
    kinds = tuple(wire.KINDS)
    not_covered = wire.UNCOVERED
    lists = ("orders",)
    reads = ("order", "summaries", "positions", "trigger-history", "rfq-quotes", "log", "subaccounts", "cod")
    cancelled_word = "cancelled"
    errors: ClassVar[Mapping[int, str]] = ERRORS | {401: "13004", 404: "-32601"}

    def __init__(self, options: DeribitOptions, accounts: int) -> None:
        self._told = (False, False)  # the maintenance and the lock that sessions know of
        self.ledger: dict[str, list[dict[str, Any]]] = defaultdict(list)  # transactions, by account
        self.desk = OrderDesk(self)
        super().__init__(options, accounts)
        self.auth = Credentials(self.keys, lambda: self.now_ns() // 1_000_000, lambda: options.max_scope)
        self.grants = Grants(lambda: time.monotonic())
        self.socket = DeribitSocket(self)
        tables = CancelCalls(self), OrderCalls(self), ReadCalls(self), self.socket
        self.methods = {name: method for table in tables for name, method in table.methods().items()}
        self.socket.use(self.methods)
        self.sockets["/ws/api/v2"] = self.socket
        for name, method in self.methods.items():
            is_public = name.startswith("public/") and method.kind != "login"  # faults of logins are the kit's
            row = RouteSpec(method.kind, method.operation, partial(self.answer, name), public=is_public)
            self.routes["GET", f"{API}/{name}"] = row
        self.desk.place_uncovered()

    def claimed(self, params: object) -> Account | None:
        """Return the account of the id or the refresh token in a login."""
        if not isinstance(params, dict):
            return None
        grant = self.grants.by_refresh(params.get("refresh_token"))
        return grant.account if grant else self.keys.get(str(params.get("client_id")))

    # accounts and orders

    def make_account(self, number: int) -> Account:
        """Create an account with a key of Deribit's shape."""
        credentials = {"client_id": secrets.token_urlsafe(6), "client_secret": secrets.token_urlsafe(32)}
        account = Account(f"{self.name}-{number}", str(1000 + number), credentials)
        self.keys[credentials["client_id"]] = account
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order of a kind of the admin API."""
        order = self.desk.make(symbol, kind, wire.KINDS.get(kind, "limit"), "sell" if number % 2 else "buy")
        order.quote_set = "set-1" if kind == "quote" else ""
        return order

    def id_format(self, text: str) -> bool:
        """Return whether a text is an order id (§1)."""
        return wire.is_order_id(text)

    def covered(self, account: Account) -> list[Order]:
        """Return the orders that cancels reach or lists show."""
        desk = self.desk
        return [order for order in super().covered(account) if desk.is_reached(order) or desk.is_listed(order)]

    def push_orders(self, account: Account, orders: Sequence[Order], news: str) -> None:
        """Send the events of the orders that this API knows, then follow the links between orders."""
        super().push_orders(account, [order for order in orders if order.kind not in ("rfq", "starbase")], news)
        if news in ("cancelled", "filled", "triggered"):
            for order in orders:
                self.desk.follow(account, order, is_filled=news == "filled")

    def is_foreign(self, account: Account, order_id: str) -> bool:
        """Return whether an order rests in another account."""
        return any(order_id in other.open for other in self.accounts.values() if other is not account)

    def tell_equity(self, account: Account) -> None:
        """Send the portfolio, and note a change of the cash in the log (§9)."""
        change = account.cash - account.cash_before
        if account.cash_before and change:
            self.ledger[account.name].append({
                "type": "settlement", "currency": "USDC", "change": float(change), "equity": float(account.equity),
                "balance": float(account.cash), "timestamp": self.now_ns() // 1_000_000,
                "user_seq": self.desk.next_number(),
            })  # fmt: skip
        super().tell_equity(account)

    # limits (§7)

    def _pool(self, name: str, params: object) -> str:
        method = self.methods.get(name)
        if method is None or method.pool != "cancel_all?":
            return method.pool if method else "credits"
        currency = params.get("currency") if isinstance(params, dict) else None
        return "cancel_all" if currency in (None, "any", ["any"]) else "trading"

    def cost(self, name: str, params: object) -> float:
        """Return what a call costs in its pool."""
        return self.pooled.cost(self._pool(name, params))

    def charge(self, client: str, name: str, params: object) -> bool:
        """Charge a call to its pool of an account, or of an address; return whether it fits."""
        return self.pooled.charge(client, self._pool(name, params))

    def charge_foreign(self, account: Account) -> None:
        """Charge an order of another program to the pool of the trade."""
        self.pooled.charge(account.name, "trading")

    # states

    def reconfigured(self) -> None:
        """Empty the pools, rest what options ask for, fire triggers, and tell a changed state."""
        self.pooled = Pools(self.options.tier)
        if self.routes:  # and not in the middle of the start
            self.desk.place_uncovered()
            self.desk.fire()
            self._tell_state()

    def _tell_state(self) -> None:
        fault = self.faults.peek("maintenance")
        state = fault is not None and fault.on == "all", self.options.locked
        before, self._told = self._told, state
        if state[0] != before[0]:
            self.socket.tell("platform_state", {"maintenance": state[0]})
        if state[1] != before[1]:
            self.socket.tell("user.lock", {"currency": "ALL", "locked": state[1]})

    def put_fault(self, name: object, parameters: Mapping[str, object]) -> None:
        """Switch a fault on; tell maintenance to the sessions that asked for it (§8)."""
        super().put_fault(name, parameters)
        self._tell_state()

    def clear_faults(self, name: str | None = None) -> None:
        """Switch one fault off, or all."""
        super().clear_faults(name)
        self._tell_state()

    def ws_error(self, heard: Understood, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an error; a refused login has a code of its own, and a limit ends the session."""
        usual = "13004" if status == 401 and heard.kind == "login" else None
        answer = super().ws_error(heard, status, code or usual, text if code else None)
        answer.close = 1000 if status == 429 else None
        return answer

    # sessions

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection; cancel the orders that end with it."""
        session = self.sessions.get(connection)
        super().disconnected(connection)
        if session is not None:
            self.socket.ended(session)

    def _watch(self, session: Session) -> None:
        self.socket.watch(session)

    def expire(self, session: Session) -> None:
        """End a session's login."""
        self.socket.end_login(session)

    def expire_logins(self, account_name: str | None) -> None:
        """End the logins and the tokens of an account, or of all."""
        super().expire_logins(account_name)
        self.grants.revoke(lambda grant: account_name in (None, grant.account.name))

    def subscribed(self, session: Session) -> None:
        """Show the resting orders to a session that has subscribed to them, where the option says so."""
        if self.options.snapshot and session.account is not None and session.account.open:
            self.socket.push_orders(session, list(session.account.open.values()), "opened")
