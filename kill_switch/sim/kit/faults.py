"""Keep the faults that are on, and say when one strikes.

Parameters that every fault takes: `account` (one account only; default all), `times` (or `count`: how often it strikes,
default until cleared). Those with a word in brackets also take `on`: `"cancel"`, `"read"`, `"login"`, `"all"`, or one
lane, `"ws"` or `"http"`; the bracket is the default. Text pings are never refused by a fault, but their answers are
delayed and cut like others.

`delay {ms}` (all): replies leave `ms` later; account events are not delayed.
`drop_reply` (cancel): the command is carried out, its reply never comes; an HTTP connection answers nothing any more.
`accept_but_keep`: says yes, cancels nothing.
`partial {keep}`: a cancel-all leaves `keep` orders, and does not list them.
`pending {ms, fill}`: orders stay pending for `ms`, then are cancelled, or filled with `fill`.
`refuse {status|code, message}` (cancel): the venue says no, with this HTTP status or this code of its own.
`rate_limit {seconds}` (all): too many requests, for that long.
`garble` (cancel): the reply is no JSON.
`truncate` (cancel): the reply is cut in the middle, then the connection ends.
`half_open {on}`: reads nothing and writes nothing, keeps TCP open, on old connections and on new ones; of one lane with
`on`, `"ws"` or `"http"`.
`disconnect`: without `on`, drops every connection now; with a lane, those of that lane; with another `on`, drops the
connection that such a command comes on, before the command is carried out, or behind it with `after: true`; once,
unless `times` says more.
`reject_login` (login): the credentials are refused where the venue logs in; with `on: all` on every request.
`maintenance` (all): the venue is down.
`requote`: a bot places a new order after each command that cancelled something; once, unless `times` says more.
`late_order {ms}`: an order in flight appears `ms` after the next cancel command; once, unless `times` says more.
`skew {seconds}`: the venue's clock is off, ahead when positive.
`duplicate`: account events come twice.
`reorder {ms}`: account events come in swapped pairs; a single one is held back for `ms` (50).
`lose_push {share, push}`: account events are never sent: all, or this share of them (0 to 1, evenly spread). `push` is
what they tell of: `"order"`, `"position"`, `"balance"` or `"all"`, which is the default.
`late_push {ms, share, push}`: account events leave `ms` later, with the same choice; answers do not wait for them.
`partial_list {list}` (read): this list of orders, or this other read, fails (HTTP 500); without `list`, the last of the
venue's lists of orders.
`stale_reads {seconds, list}`: lists of orders show what there was `seconds` ago; orders that are asked for by their ids
are up to date.
`empty_reads {list}`: lists of orders show nothing; `times` counts for each list by itself.
`unlisted`: orders that come to rest meanwhile, while somebody hears the account's events, are in no list, and no
cancel-all takes them. Events, look-ups and cancels by id know them. When it ends, they are like any other order.
`vanish {seconds}`: an account is gone, and back after `seconds` or when the fault ends: its credentials are unknown and
its events stop, its orders rest on. At CrossTrade it is an NT account, which NinjaTrader does not know meanwhile.
`expire_token`: sessions that are logged in are so no longer, from now on; a new login is taken.
`hang_login`: a login, or the upgrade that is one, is never answered and comes to nothing.
`read_only_key`: the key may read, and no more.
`ip_refused`: this host's address is on no list of those that the key may be used from (HTTP 403).
`foreign_use {per_s}`: another program of the same user sends so many requests a second, whatever it is answered.
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
    """Say what a fault takes: parameters with a type, the needed ones, its default `on`, and what `on` can be else."""

    on: str = "cancel"
    choose: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    times: int | None = None
    counts: bool = True
    one: bool = True
    """Whether it can be limited to one account."""


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
    "skew": Spec("all", takes=("seconds",), needs=("seconds",), counts=False, one=False),
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
    """Hold one fault that is on; `left` is None while it strikes without end."""

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
    owed: float = 0.0
    """The part of an event that is to be lost and has not been yet, where only a share is."""
    shown: Counter[str] = field(default_factory=Counter)
    """How often each list was hit, where they are counted apart."""

    @property
    def lane(self) -> Lane | None:
        """Return the lane that the fault is limited to, if it is."""
        return "ws" if self.on == "ws" else "http" if self.on == "http" else None

    @property
    def instant(self) -> bool:
        """Say whether all of it happens when it is switched on."""
        return self.name == "expire_token" or (self.name == "disconnect" and self.on in ("now", *LANES))

    def listing(self) -> dict[str, object]:
        """Return the fault for the admin API."""
        shown = {"fault": self.name, "on": self.on, "times": self.left, "account": self.account}
        return shown | {key: getattr(self, key) for key in SPECS[self.name].takes}


class Faults:
    """Hold a venue's faults by name; one of each kind at a time, a second one replaces the first."""

    def __init__(self, supported: frozenset[str]) -> None:
        self.supported = supported
        self.active = False
        """True while any fault is on: the one thing that the path without faults looks at."""
        self._faults: dict[str, Fault] = {}

    def put(self, name: object, parameters: Mapping[str, object]) -> Fault:
        """Switch a fault on; ValueError says in one line what would be right."""
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
        """Return a fault that is on, without using it up."""
        fault = self._faults.get(name) if self.active else None
        if fault is not None and time.monotonic() >= fault.until:
            self.clear(name)
            return None
        return fault

    def on(self, name: str, account: str | None) -> Fault | None:
        """Return a fault that is on for this account, without using it up."""
        fault = self.peek(name)
        return fault if fault is not None and fault.account in (None, account) else None

    def hit(self, name: str, kind: Kind | None, account: str | None, lane: Lane | None = None) -> Fault | None:
        """Return the fault if it strikes a command of this kind, on this lane, now, and count that."""
        fault = self.on(name, account)
        if fault is None or (kind is not None and fault.on not in (kind, lane, "all")):
            return None
        return self._count(fault)

    def hit_push(self, name: str, push: str, account: str | None) -> Fault | None:
        """Return the fault if it strikes an account event that tells of this, and count that."""
        fault = self.on(name, account)
        if fault is None or fault.push not in (push, "all"):
            return None
        fault.owed += fault.share
        if fault.owed < 1:
            return None
        fault.owed -= 1
        return self._count(fault)

    def hit_list(self, name: str, which: str, account: str | None) -> Fault | None:
        """Return the fault if it strikes this list of orders now, and count that for the list."""
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
        """Return what is on."""
        return [fault.listing() for fault in self._faults.values()]


def _parse(name: str, parameters: Mapping[str, object]) -> Fault:
    spec = SPECS[name]
    extra = (
        (("account",) if spec.one else ()) + (("times", "count") if spec.counts else ()) + ("on",) * bool(spec.choose)
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
