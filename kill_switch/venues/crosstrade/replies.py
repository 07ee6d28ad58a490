"""Judge CrossTrade's replies, and parse lists of orders and positions and the snapshot of the accounts.

Every part of the adapter that gets a reply uses these functions; § numbers are those of docs/venues/crosstrade.md.
Nothing here sends or keeps anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import as_decimal, as_text, to_text
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

TERMINAL = frozenset({"filled", "cancelled", "canceled", "rejected"})  # § 7
CANCELLING = frozenset({"cancelpending", "cancelsubmitted"})  # may still fill (§ 7)
ENDED = "not found or already terminal"  # of one order: documented, and promised to be stable (§ 4)
NOTHING_RESTING = (  # § 4: the reply to a cancel of all orders while none is working is not documented
    ENDED,
    "no orders",
    "no working orders",
    "no open orders",
    "no active orders",
    "nothing to cancel",
)
PROVES_NOTHING = "a reply that proves nothing"
TOKEN_S = 1 / 3  # until a token comes back (§ 3)
CONNECTED = "connected"  # any other connection status is no proof that an account's orders are shown (§ 5)
NO_ACCOUNT = "invalid_account"  # the code of an unknown account (§ 2)
NO_ACCOUNT_TEXT = re.compile(r"\baccount\b.{0,80}\bnot found\b")  # the old envelope has no code, only a text
DOLLARS = frozenset({"usdollar", "usd", ""})  # denominations; the snapshot need not state one
OFFLINE = "the XT add-on in NinjaTrader is not connected: nothing here can cancel, use the broker's own platform"

Words = Callable[..., str]  # turns a venue's texts into one line of evidence, without our secrets


class AccountOrder(NamedTuple):
    """An order with its NT account and its type."""

    order: Order
    account: str  # "" if it is none of ours, "?" if the venue does not state it
    kind: str = ""  # the order type in lower case, "" if the venue does not state it


class AccountOrders(NamedTuple):
    """A list's orders, as far as it can be parsed."""

    orders: list[AccountOrder]
    why: str = ""  # why the list may not be whole; "": it is


class OpenPosition(NamedTuple):
    """A position of one of our accounts; the account is "?" if the venue does not state it."""

    account: str
    symbol: str
    words: str


def command_reply(status: int | None, body: object, words: Words) -> Reply:
    """Judge the answer to a cancel or a flatten, in any of the shapes of § 2 and § 6; its data is the body.

    `status` is the HTTP status, None for a WebSocket frame. The outcome is UNKNOWN for two reasons: `is_limited`,
    `is_offline`. A cancel that finds nothing is ACCEPTED and `not_found`.
    """
    if not isinstance(body, dict):
        body = {} if status is not None and 400 <= status < 500 else None
    if body is None or (status is not None and (status < 200 or 300 <= status < 400 or status >= 500)):
        return Reply(ReplyOutcome.NO_ANSWER, PROVES_NOTHING)
    if (status or 200) < 400 and body.get("success") is not False and body.get("error") in (None, False, ""):
        ids, warned = body.get("orderIds"), body.get("warning")
        if not isinstance(ids, list) and body.get("success") is not True:
            return Reply(ReplyOutcome.NO_ANSWER, PROVES_NOTHING)
        line = f"{len(ids)} order(s) named as cancelled" if isinstance(ids, list) else "accepted"
        return Reply(ReplyOutcome.ACCEPTED, words(line, "with a warning:", warned) if warned else line, body)
    line = words(*(() if status is None else (f"HTTP {status}",)), *_refusal(body))
    lower = _lower(body)
    if status == 408 or "addon" in lower or "add-on" in lower:
        return Reply(ReplyOutcome.UNKNOWN, f"{OFFLINE} ({line})", body)
    if status == 429 or "rate limit" in lower:
        return Reply(ReplyOutcome.UNKNOWN, line, body, pause_s=TOKEN_S)
    if NO_ACCOUNT not in lower and any(text in lower for text in NOTHING_RESTING):
        return Reply(ReplyOutcome.ACCEPTED, line, body, not_found=True)
    return Reply(ReplyOutcome.REFUSED, line, body, key_refused=NO_ACCOUNT not in lower and status in (401, 403))


def list_reply(status: int | None, body: object, words: Words) -> Reply:
    """Judge the answer to a read: it may lack the field `success`, and is no list if it names cancelled orders."""
    if isinstance(body, dict) and status in (None, 200) and "success" not in body:
        body = {"success": True, **body}
    reply = command_reply(status, body, words)
    is_list = status in (None, 200) and named_orders(reply) is None
    reply = reply._replace(not_found=is_order_ended(reply))  # else the text is not about the order that is looked up
    return reply._replace(outcome=ReplyOutcome.REFUSED) if reply.ok and not is_list else reply


def named_orders(reply: Reply) -> Sequence[object] | None:
    """Return the orders that an accepted reply names as cancelled; None: it has no list of them."""
    if not reply.ok or reply.not_found:
        return () if reply.ok else None
    ids = reply.data.get("orderIds")
    return ids if isinstance(ids, list) else None


def is_limited(reply: Reply) -> bool:
    """Return whether a request was refused for want of tokens: every route costs one."""
    return reply.pause_s > 0


def is_offline(reply: Reply) -> bool:
    """Return whether the venue answers that the add-on is not connected: no route reaches NinjaTrader."""
    return reply.outcome is ReplyOutcome.UNKNOWN and not is_limited(reply)


def is_order_ended(reply: Reply) -> bool:
    """Return whether the venue answers with the documented text that the order has ended."""
    return reply.not_found and ENDED in _lower(reply.data)


def is_account_unknown(reply: Reply) -> bool:
    """Return whether NinjaTrader does not know the NT account; its orders may be alive all the same."""
    if reply.outcome is not ReplyOutcome.REFUSED or reply.not_found:
        return False
    lower = _lower(reply.data)
    return NO_ACCOUNT in lower or NO_ACCOUNT_TEXT.search(lower) is not None


def _refusal(body: dict[str, Any]) -> list[Any]:
    return [text for text in (body.get("error"), body.get("detail"), body.get("message")) if text]


def _lower(body: Any) -> str:
    return " ".join(map(to_text, _refusal(body))).lower() if isinstance(body, dict) else ""


def warning(body: object, words: Words) -> str:
    """Return a reply's warning, else ""; a list with a warning may be incomplete (§ 2)."""
    text = body.get("warning") if isinstance(body, dict) else None
    return words("the venue warns:", text) if text else ""


class NoEquity(NamedTuple):
    """The reason why a message yields no equity."""

    why: str
    away: bool = False  # an account is absent or not connected: its figures from other sources do not move either


class AccountDirectory:
    """The configured NT accounts, and the parsers that keep only what belongs to them.

    Names are compared without regard to case (§ 2).
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._by_key = {name.casefold(): name for name in names}

    def orders(self, body: object, account: str | None = None) -> AccountOrders:
        """Parse a list of orders. An unreadable entry makes the list incomplete: it may be a live order of ours.

        `account` is the owner of entries that name none, for a list of one account.
        """
        items = _items(body, "orders")
        if items is None:
            return AccountOrders([], "the order list cannot be read")
        account_orders: list[AccountOrder] = []
        unread = 0
        for item in items:
            account_order = self.order(item, account)
            if account_order is None:
                unread += self._may_rest(item, account)
            elif account_order.account:
                account_orders.append(account_order)
        return AccountOrders(
            account_orders, f"{unread} of the orders listed cannot be read" if unread else _missing(body, items)
        )

    def order(self, item: object, account: str | None = None) -> AccountOrder | None:
        """Parse one order; None if it has no id. An unknown state counts as alive (§ 7)."""
        order_id = (as_text(item.get("orderId")) or as_text(item.get("id"))) if isinstance(item, dict) else ""
        if not isinstance(item, dict) or not order_id:
            return None
        owner = self._owner(item.get("account", account))
        status, life = _state_of(item)
        order = Order(order_id, as_text(item.get("instrument", "")), life, status)
        return AccountOrder(order, owner, as_text(item.get("orderType", "")).lower())

    def _may_rest(self, item: object, account: str | None) -> bool:
        """Return whether an entry without an id may be a live order of ours."""
        if not isinstance(item, dict):
            return True
        return bool(self._owner(item.get("account", account))) and _state_of(item)[1] is not OrderState.GONE

    def positions(self, body: object) -> tuple[list[OpenPosition], str]:
        """Parse a list of positions: return ours that are not flat, and why there may be more ("": there are not)."""
        items = _items(body, "positions")
        if items is None:
            return [], "the list of positions cannot be read"
        open_positions: list[OpenPosition] = []
        unread = 0
        for item in items:
            entry = item if isinstance(item, dict) else {}
            owner = self._owner(entry.get("account")) if entry is item else "?"
            quantity, symbol = as_decimal(entry.get("quantity")), as_text(entry.get("instrument"))
            side = as_text(entry.get("marketPosition")).lower()
            if not owner or (quantity is not None and (not quantity or side == "flat")):
                continue
            if quantity is None or not symbol:
                unread += 1
            else:
                open_positions.append(OpenPosition(owner, symbol, f"{side or 'open'} {quantity:f}"))
        return open_positions, f"{unread} of the positions listed cannot be read" if unread else _missing(body, items)

    def worth(self, message: dict[str, Any]) -> Decimal | NoEquity:
        """Return the sum of our accounts' net liquidation values in one message, in dollars, or why there is none.

        An account that is not connected shows zeros or its last figures (§ 5). So a zero counts only if the message
        states the connection.
        """
        total, seen = Decimal(0), set[str]()
        for name, account in self._shown(message):
            status = account.get("connectionStatus")
            if name in seen:
                return NoEquity(f"NT account {name} is listed twice")
            seen.add(name)
            if status is not None and as_text(status).lower() != CONNECTED:
                return NoEquity(_unconnected(as_text(status), name), away=True)
            figures = account.get("item")
            worth = as_decimal(figures.get("netLiquidation")) if isinstance(figures, dict) else None
            money = as_text(account.get("denomination", ""))
            if money.lower().replace(" ", "") not in DOLLARS:
                return NoEquity(f"account {name} is kept in {money}, not in dollars")
            if worth is None:
                return NoEquity(f"no net liquidation of {name}")
            if not worth and status is None:
                return NoEquity(f"the net liquidation of {name} is zero, and its connection is not stated", away=True)
            total += worth
        lacking = ", ".join(name for name in self.names if name not in seen)
        return NoEquity(f"no net liquidation of {lacking}", away=True) if lacking else total

    def _owner(self, named: object) -> str:
        """Return the NT account that an entry names: "" if it is none of ours, "?" if the entry names none."""
        account_name = named.get("name") if isinstance(named, dict) else named
        name, only = as_text(account_name).strip(), self.names[0] if len(self.names) == 1 else "?"
        stranger = "" if isinstance(account_name, str) else only  # a name that is no text may mean any account
        return self._by_key.get(name.casefold(), stranger) if name else only

    def unseen(self, snapshot: dict[str, Any]) -> dict[str, str]:
        """Return our accounts that a snapshot does not show connected to their brokers (§ 5), each with the reason.

        NinjaTrader need not list the orders of such an account, while they rest at its broker. An account whose
        connection is not stated counts as not connected.
        """
        unseen = dict.fromkeys(self.names, "NinjaTrader does not show NT account")
        for name, account in self._shown(snapshot):
            status = as_text(account.get("connectionStatus"))
            unseen[name] = "" if status.lower() == CONNECTED else _unconnected(status)
        return {name: why for name, why in unseen.items() if why}

    def _shown(self, message: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield our accounts that a message shows, each with its entry (§5)."""
        items = message.get("accounts")
        for item in items if isinstance(items, list) else ():
            account = item.get("account") if isinstance(item, dict) else None
            key = as_text(account.get("name")).casefold() if isinstance(account, dict) else ""
            if isinstance(account, dict) and key in self._by_key:
                yield self._by_key[key], account


def _unconnected(status: str, name: str = "") -> str:
    return f"connection {status[:40] or 'not stated'} between the broker and NT account {name}".rstrip()


def describe_unreached(unseen: Mapping[str, str]) -> str:
    """Describe in one line the NT accounts that no kill reaches, with the remedy; return "" if there are none."""
    if not unseen:
        return ""
    named: dict[str, list[str]] = {}
    for name, why in unseen.items():
        named.setdefault(why, []).append(name)
    text = "; ".join(f"{why} {', '.join(names)}" for why, names in named.items())
    return f"{text}: no kill reaches orders that rest at its broker; connect it, or take it out of nt_accounts"


def _state_of(item: dict[str, Any]) -> tuple[str, OrderState]:
    return _state(as_text(item.get("orderState", item.get("state"))))


@lru_cache(maxsize=64)  # a list may have thousands of orders in a few states
def _state(text: str) -> tuple[str, OrderState]:
    status = text.lower().replace(" ", "")
    return (
        status,
        OrderState.GONE if status in TERMINAL else OrderState.PENDING if status in CANCELLING else OrderState.LIVE,
    )


def equity_of_watermarks(body: object) -> Decimal | None:
    """Return the net liquidation value in an account's watermarks (§ 5)."""
    for name in ("data", "stats", "netliq"):
        body = body.get(name) if isinstance(body, dict) else None
    return as_decimal(body)


def _items(body: object, name: str) -> list[Any] | None:
    """Return a reply's list: under its own name, under `data`, or under its name in `data`; None without one."""
    data = body.get(name, body.get("data")) if isinstance(body, dict) else None
    items = data.get(name) if isinstance(data, dict) else data
    return items if isinstance(items, list) else None


def _missing(body: object, items: Sequence[object]) -> str:
    """Return how many entries a list lacks by its own `count` (§ 5 shows one beside positions); "" if none."""
    count = body.get("count") if isinstance(body, dict) else None
    return f"{len(items)} of {count} are listed" if type(count) is int and count > len(items) else ""
