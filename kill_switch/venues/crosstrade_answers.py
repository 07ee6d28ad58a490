"""Read what CrossTrade says: cancels, lists of orders and positions, the snapshot.

§ numbers are crosstrade.md of the venue notes's.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from kill_switch.domain import Answer, Life, Order
from kill_switch.venues.base import amount, plain, shown

TERMINAL = frozenset({"filled", "cancelled", "canceled", "rejected"})  # §7
CANCELLING = frozenset({"cancelpending", "cancelsubmitted"})  # may still fill
NOTHING_RESTING = (  # the first is documented, and stable; the reply to a cancel-all of nothing is not (§4)
    "not found or already terminal",
    "no orders",
    "no working orders",
    "no open orders",
    "no active orders",
    "nothing to cancel",
)
CUT_OFF = frozenset({"disconnected", "connectionlost", "disconnecting", "connecting"})
DOLLARS = frozenset({"usdollar", "usd", ""})  # a denomination, which the snapshot need not state
OFFLINE = "the XT add-on in NinjaTrader is not connected: nothing here can cancel, use the broker's own platform"

Words = Callable[..., str]  # makes evidence of a venue's words, without our secrets


class Said(NamedTuple):
    """What one reply says of one account's cancel."""

    answer: Answer
    words: str
    cancelled: int | None = None
    offline: bool = False  # the add-on is not there: no route leads to it
    limited: bool = False  # the tokens are gone: every route costs one
    nothing: bool = False  # it proves nothing: another route should be heard
    key: bool = False  # the token was refused


class Owned(NamedTuple):
    """An order, whose it is ("" if not ours, "?" if nobody says), and its type in lower case, "" if nobody says."""

    order: Order
    account: str
    kind: str = ""


class Held(NamedTuple):
    """A position of one of our accounts, "?" if nobody says of which."""

    account: str
    symbol: str
    words: str


def judge(status: int | None, body: object, words: Words) -> Said | None:
    """Read a reply in any of the shapes that §2 and §6 have; None: it says nothing. Without a status: from a frame."""
    if not isinstance(body, dict):
        body = {} if status is not None and 400 <= status < 500 else None
    if body is None or (status is not None and (status < 200 or 300 <= status < 400 or status >= 500)):
        return None
    error = body.get("error")
    if (status or 200) < 400 and body.get("success") is not False and error in (None, False, ""):
        ids = body.get("orderIds")
        named = len(ids) if isinstance(ids, list) else None
        if named is None and body.get("success") is not True:
            return None
        line = "accepted" if named is None else f"{named} order(s) named as cancelled"
        warning = body.get("warning")
        return Said(Answer.ACCEPTED, words(line, "with a warning:", warning) if warning else line, named)
    told = [text for text in (error, body.get("detail"), body.get("message")) if text]
    line = words(*(() if status is None else (f"HTTP {status}",)), *told)
    lower = " ".join(map(shown, told)).lower()
    if status == 408 or "addon" in lower or "add-on" in lower:
        return Said(Answer.UNKNOWN, f"{OFFLINE} ({line})", offline=True)
    if status == 429 or "rate limit" in lower:
        return Said(Answer.UNKNOWN, line, limited=True)
    if any(text in lower for text in NOTHING_RESTING):
        return Said(Answer.ACCEPTED, line, 0)
    return Said(Answer.REFUSED, line, key=status in (401, 403))


def failure(status: int | None, body: object, words: Words) -> Said | None:
    """Say what is wrong with a reply to a read, None if nothing is: a list may come without `success`."""
    if isinstance(body, dict) and status in (None, 200) and "success" not in body:
        body = {"success": True, **body}
    said = judge(status, body, words)
    if said is None:
        return Said(Answer.UNKNOWN, "a reply that proves nothing", nothing=True)
    return None if status in (None, 200) and said.answer is Answer.ACCEPTED and said.cancelled is None else said


class Accounts:
    """The NT accounts that are ours; upper and lower case are the same (§2)."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._by_key = {name.casefold(): name for name in names}

    def orders(self, body: object, account: str | None = None) -> list[Owned] | None:
        """Read a list, all orders with their accounts; None if any cannot be read: an order must not be missed."""
        items = _items(body, "orders")
        if items is None:
            return None
        found: list[Owned] = []
        for item in items:
            one = self.order(item, account)
            if one is None:
                return None
            if one.account:
                found.append(one)
        return found

    def order(self, item: object, account: str | None = None) -> Owned | None:
        """Read an order; an unknown state is alive."""
        order_id = plain(item.get("orderId", item.get("id"))) if isinstance(item, dict) else ""
        if not isinstance(item, dict) or not order_id:
            return None
        owner = self._owner(item.get("account", account))
        status, life = _state(plain(item.get("orderState", item.get("state", ""))))
        order = Order(order_id, plain(item.get("instrument", "")), life, status)
        return Owned(order, owner, plain(item.get("orderType", "")).lower())

    def positions(self, body: object) -> list[Held] | None:
        """Read a list of positions, those that are not flat; None if any cannot be read."""
        items = _items(body, "positions")
        if items is None:
            return None
        found: list[Held] = []
        for item in items:
            quantity = amount(item.get("quantity")) if isinstance(item, dict) else None
            symbol = plain(item.get("instrument")) if isinstance(item, dict) else ""
            if quantity is None or not symbol:
                return None
            side = plain(item.get("marketPosition", "")).lower()
            owner = self._owner(item.get("account"))
            if owner and quantity and side != "flat":
                found.append(Held(owner, symbol, f"{side or 'open'} {quantity:f}"))
        return found

    def worth(self, message: dict[str, Any]) -> Decimal | str:
        """Add up what our accounts are worth, by the figures of one message, in dollars; or say why that cannot be."""
        items = message.get("accounts")
        total, missing = Decimal(0), set(self._by_key)
        for item in items if isinstance(items, list) else ():
            account = item.get("account") if isinstance(item, dict) else None
            key = plain(account.get("name")).casefold() if isinstance(account, dict) else ""
            if not isinstance(account, dict) or key not in missing:
                continue
            figures = account.get("item")
            worth = amount(figures.get("netLiquidation")) if isinstance(figures, dict) else None
            money = plain(account.get("denomination", ""))
            if money.lower().replace(" ", "") not in DOLLARS:
                return f"account {self._by_key[key]} is kept in {money}, not in dollars"
            if worth is not None:
                total += worth
                missing.discard(key)
        lacking = ", ".join(name for key, name in self._by_key.items() if key in missing)
        return f"no net liquidation of {lacking}" if lacking else total

    def _owner(self, named: object) -> str:
        """Say whose something is: "" if not ours, "?" if that is not said."""
        name = plain(named.get("name") if isinstance(named, dict) else named)
        only = self.names[0] if len(self.names) == 1 else "?"
        return self._by_key.get(name.casefold(), "") if name else only

    def cut_off(self, snapshot: dict[str, Any]) -> str:
        """Say what a snapshot has against a kill: accounts that are not there, or not connected (§5); "" if nothing."""
        accounts = snapshot.get("accounts")
        found: dict[str, str] = {}
        for item in accounts if isinstance(accounts, list) else ():
            account = item.get("account") if isinstance(item, dict) else None
            if isinstance(account, dict):
                found[plain(account.get("name")).casefold()] = plain(account.get("connectionStatus")).lower()
        missing = [name for key, name in self._by_key.items() if key not in found]
        if missing:
            return f"NinjaTrader does not show account {', '.join(missing)}"
        lost = [name for key, name in self._by_key.items() if found[key] in CUT_OFF]
        return f"NinjaTrader has no connection to the broker of {', '.join(lost)}" if lost else ""


@lru_cache(maxsize=64)  # there may be thousands of orders, in a few states
def _state(text: str) -> tuple[str, Life]:
    status = text.lower().replace(" ", "")
    return status, Life.GONE if status in TERMINAL else Life.PENDING if status in CANCELLING else Life.LIVE


def standing(body: object) -> Decimal | None:
    """Return what the watermarks say that their account is worth (§5)."""
    data = body.get("data") if isinstance(body, dict) else None
    stats = data.get("stats") if isinstance(data, dict) else None
    return amount(stats.get("netliq")) if isinstance(stats, dict) else None


def _items(body: object, name: str) -> list[Any] | None:
    """Return a list, which is under its own name, under `data`, or under its name in `data`."""
    data = body.get(name, body.get("data")) if isinstance(body, dict) else None
    items = data.get(name) if isinstance(data, dict) else data
    return items if isinstance(items, list) else None
