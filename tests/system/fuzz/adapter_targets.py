"""Fuzz a venue's adapter: scripts of what is asked of it, what comes over its lanes, and what does not come.

A record's head says what happens: `kill`, `read`, `drill`, `measure`, `probe`, `open`, `close`, `open-http`, `wake`,
`lost`, `pause`; `ws` hears its body as a frame; `http STATUS name=value…` answers the oldest call with its body. A
script begins with both lanes ready and two orders on the book, after a `cold` with nothing.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import Any, ClassVar

import orjson

from kill_switch.core.domain import CancelOutcome, Instant, Order, Route
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import (
    Call,
    CallLost,
    CancelAnswered,
    CloseConnection,
    Closed,
    Drilled,
    Equity,
    NotReady,
    Opened,
    OrdersRead,
    Outputs,
    Ready,
    Received,
    Replied,
    Send,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness.venue_playbook import PAYLOADS, START
from tests.harness.venue_profiles import STANDS, VenueProfile

from .mutate import MARK, mutate_bytes, mutate_json, mutate_script, records, script
from .target import After, Target, must

ACTIONS = (b"kill", b"read", b"drill", b"measure", b"probe")
EVENTS = (b"open", b"close", b"open-http", b"wake", b"wake", b"lost 0", b"lost 1", b"pause 100", b"pause 600000", b"ws")
STATUSES = (200, 200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 100, 0, 999)
DATES = (
    *("Tue, 14 Nov 2023 22:13:20 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "today", ""),
    *("Tue, 31 Feb 2023 22:13:20 GMT", "Tue, 14 Nov 2023 24:60:61 GMT", "Tue, 14 Nov 0000 22:13:20 GMT", "٠" * 29),
)
SECONDS = ("0", "1", "-1", "3600", "9" * 400, "1e9", "nan", "inf", "x", "", "²", "Tue, 14 Nov 2023 22:13:20 GMT")
LIMITS = ("retry-after", "x-ratelimit-remaining", "x-ratelimit-reset", "x-rate-limit-limit", "ratelimit-reset", "age")
ENDED = re.compile(r"fill|cancel|reject|expir|clos|gone|done|part", re.IGNORECASE)  # of an order that may have ended
MEMORY = 20_000  # things that an adapter may hold after 10,000 scripts; 16,384 of them are orders that are gone
OUTPUTS = 1000  # that one message may call forth
VETERAN_EVERY = 2  # so that it has seen 10,000 when a chunk is over
HISTORY = 200  # scripts that are kept, to find out which of them a failure of the long-lived adapter takes
END = script((b"end", b""))


class VenueTarget(Target):
    """One account: a new adapter for each script, and one that lives through 10,000, logged in anew for each."""

    VENUE: ClassVar[str]
    PAPERS: ClassVar[str] = ""  # the folder of the documented payloads, if it is not the venue's name
    ID: ClassVar[str]  # the key of an order's id in a list, and of its status
    STATUS: ClassVar[str]
    OPTIONS: ClassVar[Mapping[str, object]] = {}
    PATIENT: ClassVar[bool] = False  # what a rate limit refuses is repeated later, so that a strike may add nothing

    def __init__(self) -> None:
        self._stand: VenueProfile = replace(STANDS[self.VENUE], options={**STANDS[self.VENUE].options, **self.OPTIONS})
        self._secrets = [value for value in self._stand.secrets().values() if len(value) < 200]
        self._count = 0
        granted = [(b"http 200", _text(body)) for _, body in self._granted(self._stand.make(), START)]
        self._login = [(b"open", b""), *granted, *((b"ws", _text(one)) for one in self._stand.login)]
        self._login.append((b"open-http", b""))
        self._login += [(b"http 200", _text(self._stand.listed(*self._stand.ids, status=self._stand.live[0])))] * 2
        self._begin_veteran()

    # ── input ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def seeds(self) -> Iterable[bytes]:
        """Make dialogues of all that the stand knows, and of each documented payload in each situation."""
        stand = self._stand
        listed = [stand.listed(status=""), stand.listed(*stand.ids, status=stand.live[0])]
        listed += [stand.listed(*stand.ids, status=stand.gone)]
        said: list[tuple[int, object]] = [(200, one) for one in (*stand.accepted, *listed)]
        said += [*stand.refused, *stand.unknown, *stand.nothing, *stand.drilled, *stand.not_drilled, stand.key_refused]
        papers = [path.read_bytes() for path in sorted((PAYLOADS / (self.PAPERS or self.VENUE)).glob("*.json"))]
        for action in ACTIONS:
            for status, body in said:
                answer = (b"http %d" % status, _text(body))
                yield script((action, b""), answer, answer)
            for paper in papers:
                yield script((action, b""), (b"http 200", paper), (b"http 200", paper))
        for action in (b"kill", b"read", b"drill"):
            for frame in self._frames(action):
                for body in (*stand.accepted, *listed, *(one for _, one in stand.refused)):
                    told = {"id": frame.get("id"), "data": body}
                    yield script((action, b""), (b"ws", _text(told)), (b"wake", b""), (b"wake", b""))
                for made in (stand.ws_drilled, stand.ws_not_drilled):
                    if made is not None and action == b"drill":
                        yield script((action, b""), (b"ws", _text(made(frame))))
        for paper in papers:
            yield script((b"ws", paper))
            yield script((b"kill", b""), (b"ws", paper), (b"read", b""), (b"ws", paper))
        for one in stand.ids:
            for life in (*stand.live, stand.gone):
                yield script((b"ws", _text(stand.pushed(one, life))), (b"kill", b""))
        login = [(b"ws", _text(message)) for message in stand.login]
        yield script((b"cold", b""), (b"open", b""), *login, (b"open-http", b""), (b"http 200", _text(listed[0])))
        yield script((b"cold", b""), (b"open", b""), (b"ws", _text(stand.refused_login)))
        yield script((b"cold", b""), (b"kill", b""), (b"http 200", _text(stand.accepted[0])), (b"read", b""))
        for ping in (*stand.pings, b"pong"):
            yield script((b"ws", ping), (b"wake", b""), (b"wake", b""))

    def mutate(self, random: Random, data: bytes) -> bytes:
        if random.random() < 0.02:
            return mutate_bytes(random, data, self.pool)
        return mutate_script(random, data, self.pool, self._heads(random), self._body)

    def _heads(self, random: Random) -> list[bytes]:
        headers = {}
        if random.random() < 0.5:
            headers["date"] = random.choice(DATES)
        for name in random.sample(LIMITS, random.choice((0, 0, 1, 2))):
            headers[name] = random.choice(SECONDS)
        line = "\t".join(["http " + str(random.choice(STATUSES)), *(f"{k}={v}" for k, v in headers.items())])
        return [*ACTIONS, *EVENTS, *[line.encode()] * 12]

    def _body(self, random: Random, body: bytes, pool: Any) -> bytes:
        return mutate_json(random, body, pool, self._words, self._keys)

    @cached_property
    def _words(self) -> list[str]:
        found: set[str] = set()
        for value in self._values():
            found.update(one for one in _walk(value) if isinstance(one, str) and len(one) < 80)
        return sorted(found) + self._secrets

    @cached_property
    def _keys(self) -> list[str]:
        found: set[str] = set()
        for value in self._values():
            found.update(key for one in _walk(value) if isinstance(one, dict) for key in one)
        return sorted(found)

    def _values(self) -> list[Any]:
        stand = self._stand
        papers = [path.read_bytes() for path in (PAYLOADS / (self.PAPERS or self.VENUE)).glob("*.json")]
        known = (*stand.accepted, *stand.login, stand.listed(*stand.ids, status=stand.live[0]))
        return [*map(json.loads, papers), *known]

    def _frames(self, action: bytes) -> list[dict[str, Any]]:
        """Return the frames that an action sends."""
        scene = Scene(self._ready(), self)
        scene.play(action, b"")
        return [json.loads(send.text) for send in scene.sends if send.text.startswith(b"{")]

    # ── a play ────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, data: bytes) -> None:
        steps = records(data)
        cold = bool(steps) and steps[0][0] == b"cold"
        Scene(self._stand.make() if cold else self._ready(), self).run(steps)
        self._count += 1
        if self._count % VETERAN_EVERY:
            return
        steps = [*self._login, *steps]
        self._history.append(script(*steps) + END)
        try:
            self._veteran.run(steps)
        except Exception as error:
            history = b"".join(self._history)
            self._begin_veteran()
            raise After(history, error) from error

    def steps(self, data: bytes) -> int:
        return data.count(MARK)

    def age(self) -> None:
        veteran = self._veteran
        veteran.run([*self._login, (b"read", b""), *[(b"http 200", _text(self._stand.listed(status="")))] * 8])
        self._begin_veteran()
        held = size_of(veteran.adapter)
        must(held < MEMORY, f"after many inputs, the adapter holds {held} things")

    def _begin_veteran(self) -> None:
        self._veteran = Scene(self._ready(), self)
        self._history: deque[bytes] = deque(maxlen=HISTORY)

    def _ready(self) -> Adapter:
        """Make an adapter whose lanes are ready, and which has two orders on its book."""
        stand = self._stand
        adapter = stand.make()
        settled = Instant(START.mono_ns - round(stand.settle_s * 1e9), START.wall_ns - round(stand.settle_s * 1e9))
        for call, body in self._granted(adapter, settled):
            adapter.handle(Replied(call.tag, 200, {}, orjson.dumps(body)), settled)
        for message in stand.login:
            adapter.handle(Received(1, orjson.dumps(message)), settled)
        outputs = [*adapter.handle(Opened(Route.HTTP, 0), settled)]
        while calls := [output for output in outputs if isinstance(output, Call)]:
            outputs = []
            for call in calls:  # the lists come first, or follow the answers to the probes
                ids = stand.ids if call.request.target == calls[0].request.target else ()
                body = orjson.dumps(stand.listed(*ids, status=stand.live[0]))
                outputs += adapter.handle(Replied(call.tag, 200, {}, body), settled)
        return adapter

    def _granted(self, adapter: Adapter, now: Instant) -> list[tuple[Call, object]]:
        """Open the WebSocket; return the calls that its login needs, and their answers."""
        calls = [output for output in adapter.handle(Opened(Route.WS, 1), now) if isinstance(output, Call)]
        grant = self._stand.granted
        return [] if grant is None else [(call, grant(call)) for call in calls]

    @property
    def secret_texts(self) -> list[str]:
        return self._secrets

    # ── what a body says, read by nobody's code but this ──────────────────────────────────────────────────────────

    def items(self, body: Any) -> Any:
        """Return the list of orders in a read's answer, as the venue's documents have it."""
        raise NotImplementedError

    def plain(self, name: str) -> str:
        """Return the id of an order, as a list has it, by the name that the adapter gives it."""
        return name

    def ours(self, item: dict[str, Any]) -> bool:
        """Say whether an order is this account's, where a list has those of others."""
        return True

    def lists(self, tag: str) -> bool:
        """Say whether a call of a read asks for a list of orders."""
        return True


class Scene:
    """One script, played to its end, at which nothing is under way any more."""

    def __init__(self, adapter: Adapter, target: VenueTarget) -> None:
        self.adapter = adapter
        self.now = START
        self.sends: list[Send] = []
        self._target = target
        self._calls: list[Call] = []
        self._timers: list[str] = []
        self._conns = [1]
        self._strikes = 0
        self._reads: dict[int, set[str]] = {}  # by the moment of asking: its calls, as far as not answered with JSON
        self._answered: dict[str, Any] = {}

    def run(self, steps: list[tuple[bytes, bytes]]) -> None:
        for head, body in steps:
            self.play(head, body)
        self.finish()

    def play(self, head: bytes, body: bytes) -> None:
        mono_ns = self.now.mono_ns + 1_000_000
        self.now = Instant(mono_ns, self.now.wall_ns + 1_000_000)
        what, _, rest = head.partition(b" ")
        match what:
            case b"kill":
                self._strikes += 1
                outputs = self._heard((*self.adapter.strike(self.now, self._strikes),))
                sent = any(isinstance(output, Call | Send) and output.command for output in outputs)
                must(sent or self._target.PATIENT, "a kill sends nothing")
            case b"read":
                outputs = self._heard(self.adapter.read(self.now))
                self._reads[self.now.mono_ns] = {output.tag for output in outputs if isinstance(output, Call)}
            case b"drill":
                self._heard(self.adapter.drill(self.now))
            case b"measure":
                self._heard(self.adapter.request_equity(self.now))
            case b"probe":
                self._heard(self.adapter.keep_warm(self.now))
            case b"ws":
                outputs = self._heard(self.adapter.handle(Received(self._conns[-1], body), self.now))
                self._judge(outputs, body)
            case b"http":
                self._reply(rest, body)
            case b"wake" if self._timers:
                self._heard(self.adapter.handle(VenueTimerFired(self._timers.pop(0)), self.now))
            case b"lost" if self._calls:
                tag = self._calls.pop(0).tag
                self._heard(self.adapter.handle(CallLost(tag, rest != b"0", "why"), self.now), tag)
            case b"open":
                self._conns.append(self._conns[-1] + 1)
                self._heard(self.adapter.handle(Opened(Route.WS, self._conns[-1]), self.now))
            case b"open-http":
                self._heard(self.adapter.handle(Opened(Route.HTTP, 0), self.now))
            case b"close":
                self._heard(self.adapter.handle(Closed(Route.WS, self._conns[-1], "gone"), self.now))
            case b"end":
                self.finish()
            case b"pause" if rest.isdigit() and len(rest) < 9:
                pause_ns = int(rest) * 1_000_000
                self.now = Instant(self.now.mono_ns + pause_ns, self.now.wall_ns + pause_ns)
            case _:
                pass

    def _reply(self, rest: bytes, body: bytes) -> None:
        status, *pairs = rest.decode("latin-1").split("\t")
        headers = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
        tag = self._calls.pop(0).tag if self._calls else "orders#0"
        number = int(status) if status.isascii() and status.isdigit() and len(status) < 5 else 200
        value = _parsed(body)
        if value is not _NO_JSON:
            self._answered[tag] = value
        if self._target.PATIENT and _limits(number, value):
            for group in self._reads.values():
                group.discard(tag)
        outputs = self._heard(self.adapter.handle(Replied(tag, number, headers, body, 900), self.now), tag)
        self._judge(outputs, body)

    def finish(self) -> None:
        """Lose every call and wake every timer, close the lanes, and see that nothing is left."""
        for _ in range(10):  # some timers come again for ever
            while self._calls:
                self.play(b"lost 0", b"")
            self.play(b"wake", b"")
        for conn in (*self._conns, 1):
            self._heard(self.adapter.handle(Closed(Route.WS, conn, "gone"), self.now))
        while self._calls:
            self.play(b"lost 0", b"")
        self.adapter.handle(Closed(Route.HTTP, 0, "gone"), self.now)
        self._timers.clear()
        self._reads.clear()
        self._answered.clear()
        self._conns = [self._conns[-1]]
        must(not self.adapter.calls.pending, f"{len(self.adapter.calls.pending)} requests are under way for ever")
        must(not self.adapter.drills._frames, f"{len(self.adapter.drills._frames)} drills are under way for ever")

    # ── the rules ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _heard(self, outputs: Outputs, tag: str = "") -> Outputs:
        """Look at what came out, because of the end of a call if there is a tag."""
        new = {output.tag for output in outputs if isinstance(output, Call)} - {tag}
        sends = any(isinstance(output, Send) for output in outputs)
        for group in self._reads.values():
            if tag in group and (new or sends):
                if all(map(self._target.lists, new)):  # it is asked in another way
                    group.discard(tag)
                group.update(new)
        for output in outputs:
            match output:
                case Call():
                    self._calls.append(output)
                    must(b"\n" not in output.request.target.encode(), "a request's target is broken")
                case WakeAfter():
                    self._timers.append(output.tag)
                    must(0 <= output.seconds < 1e6, f"a timer of {output.seconds} s")
                case Send():
                    self.sends.append(output)
                case OrdersRead(orders, complete, asked_ns, why):
                    self._hides(why)
                    if complete and asked_ns in self._reads:
                        missing = self._reads[asked_ns] - self._answered.keys()
                        must(not missing, "a complete read, though one of its calls was not answered with JSON")
                        for tag in filter(self._target.lists, self._reads[asked_ns]):
                            self._all_there(self._answered[tag], orders)
                case CancelAnswered(_, evidence) | Drilled(_, _, _, evidence):
                    self._hides(evidence)
                case NotReady(_, _, why) | CloseConnection(_, why) | UnexplainedMessage(why):
                    self._hides(why)
                case Equity(amounts):
                    must(all(amount.is_finite() for amount in amounts.values()), "an amount that is none")
                case _:
                    pass
        return outputs

    def _hides(self, text: str) -> None:
        must(len(text) < 1000 and text.isprintable(), f"words that are not for people: {text[:100]!r}")
        must(not any(secret in text for secret in self._target.secret_texts), "a secret is shown")

    def _judge(self, outputs: Outputs, body: bytes) -> None:
        """See that nothing good is claimed because of a message that is garbled."""
        must(len(outputs) < OUTPUTS, f"{len(outputs)} outputs for one message")
        if isinstance(_parsed(body), dict | list):
            return
        for output in outputs:
            good = (
                (isinstance(output, OrdersRead) and output.complete)
                or (isinstance(output, CancelAnswered) and output.answer is CancelOutcome.ACCEPTED)
                or (isinstance(output, Drilled) and output.ok)
                or isinstance(output, Ready | Equity)
            )
            must(not good, f"{type(output).__name__} because of what is no JSON object")

    def _all_there(self, body: Any, orders: Any) -> None:
        """See that every order that a complete read's answer lists as alive is in the read."""
        items = self._target.items(body)
        must(isinstance(items, list), "a complete read of what is no list")
        found = {self._target.plain(order.id) for order in orders}
        for item in items:
            must(isinstance(item, dict), "a complete read of a list of which a part is no order")
            status = str(item.get(self._target.STATUS))
            names = (self._target.ID, "orderId", "id")
            one = str(next((item[name] for name in names if item.get(name) not in (None, "")), None))
            fine = one in found or ENDED.search(status) or not self._target.ours(item)
            must(fine, "a complete read that leaves an order out")


_NO_JSON = object()


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _NO_JSON


def _limits(status: int, body: Any) -> bool:
    return status == 429 or "rate limit" in str(body).lower()


def _text(value: object) -> bytes:
    return value if isinstance(value, bytes) else orjson.dumps(value)


def _walk(value: Any) -> Iterable[Any]:
    yield value
    if isinstance(value, dict):
        for one in value.values():
            yield from _walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from _walk(one)


def size_of(thing: object, seen: set[int] | None = None) -> int:
    """Count all that an object of this program holds, directly or not."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, str | bytes | int | float | type | None) or callable(thing):
        return 0
    seen.add(id(thing))
    if isinstance(thing, Order):
        return 0
    if isinstance(thing, dict):
        return len(thing) + sum(size_of(one, seen) for one in thing.values())
    if isinstance(thing, list | tuple | set | frozenset):
        return len(thing) + sum(size_of(one, seen) for one in thing)
    if not type(thing).__module__.startswith("kill_switch"):
        try:
            return len(thing)  # type: ignore[arg-type]
        except TypeError:
            return 0
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    held = [getattr(thing, name, None) for name in slots] + list(getattr(thing, "__dict__", {}).values())
    return sum(size_of(one, seen) for one in held)


class OxFunTarget(VenueTarget):
    NAME = VENUE = "oxfun"
    ID, STATUS = "orderId", "status"

    def items(self, body: Any) -> Any:
        return body.get("data") if isinstance(body, dict) else None


class RoxomTarget(VenueTarget):
    NAME = VENUE = "roxom"
    ID, STATUS = "id", "status"

    def items(self, body: Any) -> Any:
        data = body.get("data") if isinstance(body, dict) else None
        return data.get("orders") if isinstance(data, dict) else None


class KrakenTarget(VenueTarget):
    NAME = VENUE = "kraken"
    ID, STATUS = "id", "status"

    def items(self, body: Any) -> Any:
        result = body.get("result") if isinstance(body, dict) else None
        orders = result.get("open") if isinstance(result, dict) else None
        if not isinstance(orders, dict):
            return None
        return [{**item, "id": one} if isinstance(item, dict) else None for one, item in orders.items()]


class KrakenFuturesTarget(VenueTarget):
    NAME = VENUE = "kraken-futures"
    PAPERS = "kraken_futures"
    ID, STATUS = "order_id", "status"

    def items(self, body: Any) -> Any:
        return body.get("openOrders") if isinstance(body, dict) else None


class DeribitTarget(VenueTarget):
    NAME = VENUE = "deribit"
    ID, STATUS = "order_id", "order_state"

    def items(self, body: Any) -> Any:
        return body.get("result") if isinstance(body, dict) else None

    def ours(self, item: dict[str, Any]) -> bool:
        return item.get("is_liquidation") is not True

    def lists(self, tag: str) -> bool:
        return tag.partition("#")[0] == "orders"


class BinanceUsdmTarget(VenueTarget):
    NAME = VENUE = "binance-usdm"
    PAPERS = "binance"
    ID, STATUS = "orderId", "status"
    PATIENT = True

    def items(self, body: Any) -> Any:
        return list(map(_as_order, body)) if isinstance(body, list) else None

    def lists(self, tag: str) -> bool:
        return tag.partition("#")[0] == "orders"


class BinanceCoinmTarget(BinanceUsdmTarget):
    NAME = VENUE = "binance-coinm"


class BinanceSpotTarget(VenueTarget):
    NAME = VENUE = "binance-spot"
    PAPERS = "binance"
    ID, STATUS = "orderId", "status"
    PATIENT = True

    def items(self, body: Any) -> Any:
        return [leg for item in body for leg in _legs(item)] if isinstance(body, list) else None

    def plain(self, name: str) -> str:
        return name.partition("@")[0]

    def lists(self, tag: str) -> bool:
        return tag.partition("#")[0] == "orders"


def _as_order(item: Any) -> Any:
    """Return a conditional order, whose ids are of another space, as an order."""
    if not isinstance(item, dict) or not {"algoId", "algoStatus"} & item.keys():
        return item
    return {"orderId": f"algo:{item.get('algoId')}", "status": item.get("algoStatus")}


def _legs(item: Any) -> list[Any]:
    """Return an order, or those of an order list, which have its state."""
    if not isinstance(item, dict) or not isinstance(item.get("orders"), list):
        return [item]
    return [{**leg, "status": item.get("listOrderStatus")} if isinstance(leg, dict) else leg for leg in item["orders"]]


class KunaTarget(VenueTarget):
    NAME = VENUE = "kuna"
    ID, STATUS = "id", "status"

    def items(self, body: Any) -> Any:
        return body.get("data") if isinstance(body, dict) else body


class CrossTradeTarget(VenueTarget):
    NAME = VENUE = "crosstrade"
    ID, STATUS = "orderId", "orderState"
    PATIENT = True

    def lists(self, tag: str) -> bool:
        return tag.partition("#")[0] in ("orders", "list")

    def items(self, body: Any) -> Any:
        data = (
            body.get("orders", body.get("data")) if isinstance(body, dict) else None
        )  # any of three places (inferred)
        return data.get("orders") if isinstance(data, dict) else data

    def ours(self, item: dict[str, Any]) -> bool:
        owner = item.get("account")
        owner = owner.get("name") if isinstance(owner, dict) else owner
        return owner is None or str(owner).casefold() in ("sim101", "")


class SignedKunaTarget(KunaTarget):
    NAME = "kuna-hmac"
    OPTIONS: ClassVar[Mapping[str, object]] = {"auth": "hmac"}


class FlatteningCrossTradeTarget(CrossTradeTarget):
    NAME = "flatten"
    OPTIONS: ClassVar[Mapping[str, object]] = {"flatten": True}


VENUE_TARGETS: tuple[type[VenueTarget], ...] = (
    *(OxFunTarget, RoxomTarget, KunaTarget, SignedKunaTarget),
    *(CrossTradeTarget, FlatteningCrossTradeTarget, KrakenTarget, KrakenFuturesTarget, DeribitTarget),
    *(BinanceUsdmTarget, BinanceCoinmTarget, BinanceSpotTarget),
)
