"""The faults that are switched on, and when each takes effect.

`kit.venue` and `kit.exchange` ask it at each step. A fault changes a venue's words and acts, never what the admin API
shows of the book. Each fault does what this table states:

    Every fault takes `account` (one account only; default all) and `times` or `count` (how often it takes effect;
    default until it is cleared). A fault with a word in brackets also takes `on`: `"cancel"`, `"read"`, `"login"`,
    `"all"`, or one lane, `"ws"` or `"http"`. The bracket is the default. No fault refuses a text ping, but its answer
    is delayed and cut like others.

    - `delay {ms}` (all): replies are sent `ms` later; account events are not delayed.
    - `drop_reply` (cancel): the command is carried out, but its reply is never sent. An HTTP connection then stays
      mute.
    - `accept_but_keep`: the venue accepts the cancel, and cancels nothing.
    - `partial {keep}`: a cancel-all keeps `keep` orders, and does not list them.
    - `pending {ms, fill}`: orders stay pending for `ms`, then are cancelled, or filled with `fill`.
    - `refuse {status|code, message}` (cancel): the venue refuses, with this HTTP status or this code of its own.
    - `rate_limit {seconds}` (all): too many requests, for that long.
    - `garble` (cancel): the reply is not JSON.
    - `truncate` (cancel): the reply is cut in the middle, then the connection ends.
    - `half_open {on}`: nothing is read or written, and TCP stays open, on old and new connections. With `on`, `"ws"` or
      `"http"`, on one lane only.
    - `disconnect`: drops every connection now; with a lane in `on`, those of that lane. With another `on`, drops the
      connection of such a command, before the command is carried out, or after it with `after: true`. By default once.
    - `reject_login` (login): the credentials are refused at the login; with `on: all` in every request.
    - `maintenance` (all): the venue is down.
    - `requote`: a bot places a new order after each command that cancelled something; by default once.
    - `late_order {ms}`: an order in flight appears `ms` after the next cancel command; by default once.
    - `skew {seconds}`: the venue's clock is off, ahead if positive.
    - `duplicate`: account events are sent twice.
    - `reorder {ms}`: account events are sent in swapped pairs; a single one is held back for `ms` (50).
    - `lose_push {share, push}`: account events are not sent: all, or this share of them (0 to 1, evenly spread). `push`
      is their subject: `"order"`, `"position"`, `"balance"` or `"all"`, the default.
    - `late_push {ms, share, push}`: account events are sent `ms` later, with the same choice; answers are not delayed.
    - `partial_list {list}` (read): this list of orders, or this other read, fails with HTTP 500. The default is the
      last of the venue's lists of orders.
    - `stale_reads {seconds, list}`: lists show the orders of `seconds` ago; look-ups by id are up to date.
    - `empty_reads {list}`: lists of orders are empty; `times` counts separately for each list.
    - `unlisted`: orders that come to rest while a session receives the account's events are in no list, and no
      cancel-all cancels them. Events, look-ups and cancels by id know them. When the fault ends, they are normal
      orders.
    - `vanish {seconds}`: an account is gone, for `seconds` or until the fault ends. Its credentials are unknown and its
      events stop, but its orders rest on. At CrossTrade it is an NT account, which NinjaTrader does not know meanwhile.
    - `expire_token`: logged-in sessions lose their login now; a new login is accepted.
    - `hang_login`: a login, or the upgrade that is the login, is never answered and has no effect.
    - `read_only_key`: the key may only read.
    - `ip_refused`: this host's address is not on the key's allow-list (HTTP 403).
    - `foreign_use {per_s}`: another program of the same user sends this many requests a second, whatever the answers.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from kill_switch.sim.kit.options import unknown
from kill_switch.sim.kit.protocol import Kind

LANES = ("ws", "http")
ONS = ("cancel", "read", "login", "all", *LANES)
PUSHES = ("order", "position", "balance", "all")

Lane = Literal["ws", "http"]


class Spec(NamedTuple):
    """The parameters of a fault: its default `on`, the other choices of `on`, typed parameters, required parameters."""

    on: str = "cancel"
    choose: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    times: int | None = None
    counts: bool = True
    per_account: bool = True  # whether it can be limited to one account


SPECS: Mapping[str, Spec] = {
    "delay": Spec("all", ONS, ("ms",), ("ms",)),
    "drop_reply": Spec("cancel", ONS),
    "accept_but_keep": Spec(),
    "partial": Spec(takes=("keep",), needs=("keep",)),
    "pending": Spec(takes=("ms", "fill"), needs=("ms",)),
    "refuse": Spec("cancel", ONS, ("status", "code", "message")),
    "rate_limit": Spec("all", ONS, ("seconds",), ("seconds",)),
    "garble": Spec("cancel", ONS),
    "truncate": Spec("cancel", ONS),
    "half_open": Spec("now", LANES, counts=False),
    "disconnect": Spec("now", ONS, ("after",)),
    "reject_login": Spec("login", ONS),
    "maintenance": Spec("all", ONS),
    "requote": Spec(times=1),
    "late_order": Spec(takes=("ms",), needs=("ms",), times=1),
    "skew": Spec("all", takes=("seconds",), needs=("seconds",), counts=False, per_account=False),
    "duplicate": Spec("event"),
    "reorder": Spec("event", takes=("ms",)),
    "lose_push": Spec("event", takes=("share", "push")),
    "late_push": Spec("event", takes=("ms", "share", "push"), needs=("ms",)),
    "partial_list": Spec("read", takes=("list",)),
    "stale_reads": Spec("read", takes=("seconds", "list"), needs=("seconds",), counts=False),
    "empty_reads": Spec("read", takes=("list",)),
    "unlisted": Spec("read", counts=False),
    "vanish": Spec("now", takes=("seconds",), counts=False),
    "expire_token": Spec("now", counts=False),
    "hang_login": Spec("login"),
    "read_only_key": Spec("cancel"),
    "ip_refused": Spec("all"),
    "foreign_use": Spec("now", takes=("per_s",), needs=("per_s",), counts=False),
}


@dataclass(slots=True)
class Fault:
    """A fault that is switched on; `left` is None if it takes effect without end."""

    name: str
    on: str
    left: int | None = None
    account: str | None = None
    ms: float = 0.0
    seconds: float = 0.0
    per_s: float = 0.0
    keep: int = 0
    fill: bool = False
    after: bool = False
    status: int | None = None
    code: str | None = None
    message: str | None = None
    list: str | None = None
    push: str = "all"
    share: float = 1.0
    until: float = math.inf
    owed: float = 0.0  # for a `share` below 1: the fraction of an event that is still to be lost
    # how often each list was affected, for faults that count per list
    shown: Counter[str] = field(default_factory=Counter)

    @property
    def lane(self) -> Lane | None:
        """Return the lane that the fault is limited to; None if it affects both."""
        return "ws" if self.on == "ws" else "http" if self.on == "http" else None

    @property
    def instant(self) -> bool:
        """Return whether the fault takes effect only at the moment when it is switched on."""
        return self.name == "expire_token" or (self.name == "disconnect" and self.on in ("now", *LANES))

    def listing(self) -> dict[str, object]:
        """Return the fault in the admin API's form."""
        shown = {"fault": self.name, "on": self.on, "times": self.left, "account": self.account}
        return shown | {key: getattr(self, key) for key in SPECS[self.name].takes}


class Faults:
    """A venue's faults by name; a second fault of a name replaces the first."""

    def __init__(self, supported: frozenset[str]) -> None:
        self.supported = supported
        self.active = False  # whether any fault is on; the path without faults checks nothing else
        self._faults: dict[str, Fault] = {}

    def put(self, name: object, parameters: Mapping[str, object]) -> Fault:
        """Switch a fault on. Raises `ValueError` with one line for people."""
        if not isinstance(name, str) or name not in self.supported:
            raise ValueError(unknown("fault", name, self.supported))
        fault = _parse(name, parameters)
        if not fault.instant:
            self._faults[name] = fault
            self.active = True
        return fault

    def clear(self, name: str | None = None) -> None:
        """Switch one fault off, or all."""
        if name is None:
            self._faults.clear()
        else:
            self._faults.pop(name, None)
        self.active = bool(self._faults)

    def peek(self, name: str) -> Fault | None:
        """Return a fault that is on, without counting it."""
        fault = self._faults.get(name) if self.active else None
        if fault is not None and time.monotonic() >= fault.until:
            self.clear(name)
            return None
        return fault

    def on(self, name: str, account: str | None) -> Fault | None:
        """Return a fault that is on for this account, without counting it."""
        fault = self.peek(name)
        return fault if fault is not None and fault.account in (None, account) else None

    def hit(self, name: str, kind: Kind | None, account: str | None, lane: Lane | None = None) -> Fault | None:
        """Return the fault if it affects a command of this kind on this lane now, and count it."""
        fault = self.on(name, account)
        if fault is None or (kind is not None and fault.on not in (kind, lane, "all")):
            return None
        return self._count(fault)

    def hit_push(self, name: str, push: str, account: str | None) -> Fault | None:
        """Return the fault if it affects an account event with this subject now, and count it."""
        fault = self.on(name, account)
        if fault is None or fault.push not in (push, "all"):
            return None
        fault.owed += fault.share
        if fault.owed < 1:
            return None
        fault.owed -= 1
        return self._count(fault)

    def hit_list(self, name: str, which: str, account: str | None) -> Fault | None:
        """Return the fault if it affects this list of orders now, and count it for the list."""
        fault = self.on(name, account)
        if fault is None or fault.list not in (None, which):
            return None
        fault.shown[which] += 1
        return fault if fault.left is None or fault.shown[which] <= fault.left else None

    def _count(self, fault: Fault) -> Fault:
        name = fault.name
        if fault.left is not None:
            fault.left -= 1
            if fault.left <= 0:
                self.clear(name)
        return fault

    def listing(self) -> list[dict[str, object]]:
        """Return all faults that are on, in the admin API's form."""
        return [fault.listing() for fault in self._faults.values()]


def _parse(name: str, parameters: Mapping[str, object]) -> Fault:
    spec = SPECS[name]
    extra = (
        (("account",) if spec.per_account else ())
        + (("times", "count") if spec.counts else ())
        + ("on",) * bool(spec.choose)
    )
    allowed = {*spec.takes, *extra}
    fault = Fault(name, spec.on, spec.times, ms=50.0 if name == "reorder" else 0.0)
    for key, value in parameters.items():
        if key not in allowed:
            raise ValueError(f"fault {name!r}: " + unknown("parameter", key, allowed))
        _set(fault, key, value)
    for key in spec.needs:
        if key not in parameters:
            raise ValueError(f"fault {name!r} needs {key!r}")
    if name == "refuse" and fault.status is None and fault.code is None:
        raise ValueError("fault 'refuse' needs 'status' or 'code'")
    if name == "rate_limit" or (name == "vanish" and "seconds" in parameters):
        fault.until = time.monotonic() + fault.seconds
    if name == "disconnect" and not fault.instant and fault.left is None:
        fault.left = 1
    return fault


def _set(fault: Fault, key: str, value: object) -> None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    match key:
        case "on" if value in SPECS[fault.name].choose:
            fault.on = str(value)
        case "account" if isinstance(value, str):
            fault.account = value
        case "times" | "count" if isinstance(number, int) and number > 0:
            fault.left = number
        case "keep" if isinstance(number, int) and number >= 0:
            fault.keep = number
        case "status" if isinstance(number, int) and 200 <= number <= 599:
            fault.status = number
        case "ms" if number is not None and number >= 0:
            fault.ms = float(number)
        case "seconds" if number is not None and (number >= 0 or fault.name == "skew"):
            fault.seconds = float(number)
        case "per_s" if number is not None and number > 0:
            fault.per_s = float(number)
        case "share" if number is not None and 0 < number <= 1:
            fault.share = float(number)
        case "push" if value in PUSHES:
            fault.push = str(value)
        case "fill" | "after" if isinstance(value, bool):
            setattr(fault, key, value)
        case "code" if isinstance(value, str | int) and not isinstance(value, bool):
            fault.code = str(value)
        case "message" | "list" if isinstance(value, str):
            setattr(fault, key, value)
        case _:
            right = f"; one of {', '.join(SPECS[fault.name].choose)}" if key == "on" else _RIGHT.get(key, "")
            raise ValueError(f"fault {fault.name!r}: {key!r} cannot be {value!r}{right}")


_RIGHT = {
    "times": "; a whole number from 1 on",
    "count": "; a whole number from 1 on",
    "keep": "; a whole number from 0 on",
    "status": "; an HTTP status from 200 to 599",
    "ms": "; a number, 0 or more",
    "seconds": "; a number",
    "per_s": "; a number above 0",
    "share": "; a number above 0, 1 at most",
    "push": f"; one of {', '.join(PUSHES)}",
    "fill": "; true or false",
    "after": "; true or false",
}
