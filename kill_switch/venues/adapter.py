"""Define what a venue is to this program: a protocol object with no sockets, no clock and no randomness.

An `Adapter` turns a kill into messages and a venue's answers into facts. Whoever drives it (`dispatch`, a test, a
simulation) gives it events and carries out what it returns, in order: `messages` has all of them.

Methods return tuples of these. They raise nothing for what a venue may send: what cannot be understood is `Noise`, or
an unknown answer. Each request that matters goes out on the warm lane first and, when no answer came in time or the
lane is down, once more on a fresh connection, signed anew: repeating a cancel-all is harmless.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, assert_never
from urllib.parse import urlsplit

from kill_switch.core.domain import Life, Now, Order, Pace, Route
from kill_switch.venues.clock_offset import Offset, date_ns
from kill_switch.venues.decode import MOST_WORDS, brief, parse, shown
from kill_switch.venues.messages import (
    ANSWER_WITHIN_S,
    DRILL_WITHIN_S,
    NOT_PROCESSED,
    Call,
    Closed,
    Drilled,
    Event,
    Lost,
    Noise,
    Opened,
    OrdersRead,
    Output,
    Outputs,
    Received,
    Replied,
    Send,
    ServerTime,
    WakeAfter,
    Woke,
)
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.order_book import NEVER, Book
from kill_switch.venues.rate_pool import Pool
from kill_switch.venues.readback import ReadBack, unlisted
from kill_switch.venues.request import Request

HIDDEN_FROM = 6  # characters: a shorter secret is no secret, and may be part of any sentence
DRILL = "drill"  # the kind of request that a drill makes
LATE_WITHIN_S = 30.0  # of what is: an answer that is late is worth more than none
LOOK_UP = "look-up"  # the kind of request that asks for one order by its id
REFRESH = "refresh"  # the tag of the timer that has the lists read
LISTS_PER_S = 2  # that are read because connections come back: no venue documents a limit below that
LOOKS_OVER = 5  # orders that are looked up at once while no read-back waits for them
LOOK_UPS = 10  # of one read-back, so that reads stay within each venue's limit; the rest is for the next one
MOST_WHY = 600  # characters of what a read-back has against itself


@dataclass(slots=True)
class Ask:
    """A request on its way, on one route or on two, until one of them answers."""

    kind: str
    build: Callable[[Now], Request]
    asked_ns: int
    urgent: bool
    cancel: bool
    command: bool
    hedge: bool  # may still go out once more, on a fresh connection
    hedge_after_s: float | None
    context: Any = None
    again: bool = False  # it is a second attempt, after a refusal whose reason has been put right
    out: int = 1  # copies that may still be answered
    alone: bool = False  # it is answered, and no other copy of it can have been carried out
    spares: int = 0  # how often it may still go out on a spare warm connection
    sent: bool = False  # a byte of one of them may have left


class Asks(Protocol):
    """Make a request as `Adapter.ask` does: what a venue's own parts are given to build with."""

    def __call__(
        self,
        kind: str,
        build: Callable[[Now], Request],
        now: Now,
        *,
        urgent: bool = False,
        cancel: bool = False,
        command: bool = False,
        hedge_after_s: float | None = None,
        context: Any = None,
    ) -> Outputs: ...


class Adapter(Book, ABC):
    """One account at one venue. A subclass states the venue; this class keeps its requests, and `Book` its orders."""

    NAME: ClassVar[str]
    PACE: ClassVar[Pace] = Pace()
    WARM_EVERY_S: ClassVar[float] = 15.0  # an idle HTTP connection is used at least that often
    CONNECTIONS: ClassVar[int] = 2  # of the HTTP lane: so many requests of a strike leave at once
    WS_MAX_AGE_S: ClassVar[float] = 12 * 3600.0  # a WebSocket connection is replaced before it is older
    WS_OVERLAP: ClassVar[bool] = True  # False: the venue allows one connection, so the old one goes first
    CURRENCIES: ClassVar[tuple[str, ...]] = ()  # that each `Equity` has; there may be others in it
    MEASURE_EVERY_S: ClassVar[float] = 5.0  # between two `measure`, while somebody wants the account's equity
    CLOCK_WINDOW_S: ClassVar[float | None] = None  # a signature whose time is further off is refused; None: untimed
    PUSHES_ORDERS: ClassVar[bool] = True  # False: new orders are only found by reading
    NOT_PROCESSED: ClassVar[frozenset[int]] = NOT_PROCESSED  # statuses that are no answer; another route is asked
    DRILLS: ClassVar[tuple[Route, ...]] = (Route.WS, Route.HTTP)  # lanes that carry a kill: `drill` tells of each
    LIMIT: ClassVar[tuple[int, float] | None] = None  # requests within seconds that the venue allows; None: unknown
    LIMITED_BY: ClassVar[Literal["address", "key"]] = "key"  # whose requests it counts together
    SCOPE: ClassVar[tuple[str, ...]] = ()  # options that decide what of an account is struck and read
    PARTS: ClassVar[
        tuple[str, ...]
    ] = ()  # options that name sub-accounts: one login with other ones is another account
    Options: ClassVar[type[VenueOptions]]

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__()
        self.ws_url = options.ws_url
        self.rest_url = options.rest_url
        self.hedge_after_s = hedge_after_s
        self.host = urlsplit(options.rest_url).netloc
        key = secrets.get(self.key_name(options)) if self.secrets(options) and self.LIMITED_BY == "key" else None
        self.limited_by = (self.NAME, self.host, hash(key))  # accounts with the same one share a limit
        self.pool = None if self.LIMIT is None else Pool(*self.LIMIT)
        self._hidden = tuple(value for value in secrets.values() if len(value) >= HIDDEN_FROM)
        self.clock = Offset()
        self._drills: dict[str, tuple[int, int]] = {}  # by tag: connection, and when it was sent
        self._asks: dict[str, Ask] = {}
        self._tags = 0
        self._looking: set[str] = set()  # orders whose look-up is under way, for no read-back
        self._http_up = False
        self._refreshed_ns = NEVER  # when all lists were last asked for, because pushes began
        self.answers_ns = 0  # the strike that was answered last over the WebSocket was made then, monotonic
        self._refresh_due = False  # they are to be again, a little later

    # what a subclass states

    @classmethod
    @abstractmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        """Name the secrets that an account with these options needs."""

    @classmethod
    def key_name(cls, options: VenueOptions) -> str:
        """Name the secret that says whose account it is: its public part, where it has one, and the first of all."""
        return cls.secrets(options)[0]

    def first(self, now: Now) -> Request | Send | None:
        """Return what a strike begins with, if that is at hand: it leaves before any account's strike is made.

        `strike`, which is called next and a moment later, yields the same object, or a call with the same request.
        None: it takes time to make, or it depends on what takes time to know.
        """
        return None

    @classmethod
    def pace(cls, together: int) -> Pace:
        """Say how fast one of so many accounts that share a limit may be struck and read."""
        return cls.PACE

    def share(self, other: Adapter) -> None:
        """Share the limit of an account that has the same one."""
        self.pool = other.pool

    @property
    def at_work(self) -> bool:
        """Say whether it has made a request."""
        return self._tags > 0

    def read_wait_s(self, now: Now) -> float:
        """Return in how many seconds a read may go that is to leave enough for cancels; 0: now."""
        return 0.0 if self.pool is None else self.pool.wait_s(now)

    @abstractmethod
    def kill(self, now: Now) -> Outputs:
        """Make one strike: everything that gets every order off the account, widest command first."""

    def strike(self, now: Now) -> Iterable[Output]:
        """Make a strike as `kill` does, one message after the other: the first may leave before the next is made.

        For a venue whose first message needs no orders to be looked at, and others do: there may be thousands.
        """
        return self.kill(now)

    @abstractmethod
    def read(self, now: Now) -> Outputs:
        """Read all open orders back, conditional and foreign ones too; ends in one `OrdersRead`."""

    def look_beside(self, now: Now) -> Outputs:
        """Ask for the open orders beside a kill's first strike, of which none are known; `note_open` takes them.

        For a venue whose answer to the strike does not name the orders that it cancels; nothing waits for this.
        """
        return ()

    @abstractmethod
    def probe(self, now: Now) -> Outputs:
        """Use the HTTP lane for a cheap authenticated read, which keeps it warm and proves the key."""

    @abstractmethod
    def answered(self, ask: Ask, reply: Replied, now: Now) -> Outputs | None:
        """Turn a reply into facts; None says that it proves nothing and another route should be heard."""

    @abstractmethod
    def unanswered(self, ask: Ask, why: str, now: Now) -> Outputs:
        """Turn the loss of a request into facts; `ask.sent` says whether any of it may have left."""

    @abstractmethod
    def opened(self, route: Route, conn: int, now: Now) -> Outputs: ...

    @abstractmethod
    def closed(self, route: Route, conn: int, why: str, now: Now) -> Outputs: ...

    @abstractmethod
    def received(self, conn: int, message: dict[str, Any], now: Now) -> Outputs:
        """Take one JSON object from the WebSocket."""

    def void(self) -> None:
        """Drop what strikes still want: the account is armed again. What has left stays known, and what is read too.

        A subclass that keeps more of a strike than its requests drops that too. Nothing is told of what was dropped.
        """
        self.stop_tracing()
        for tag in [tag for tag, ask in self._asks.items() if ask.command]:
            del self._asks[tag]

    def woke(self, tag: str, now: Now) -> Outputs:
        """Take a timer of the subclass's own; those with a `#` in their tag belong to requests."""
        return ()

    def text(self, conn: int, text: str | bytes, now: Now) -> Outputs | None:
        """Take a frame that is not JSON, if the venue has such; None: it has not."""
        return None

    def order_request(self, order_id: str) -> Callable[[Now], Request] | None:
        """Return what builds the request for one order by its id; None: the venue has no such call.

        `answered` gets the reply with the kind `LOOK_UP`, and gives what it says to `looked_up`.
        """
        return None

    def count_cancelled(self) -> int | None:
        """Return what an urgent read-back says in `cancelled`, and begin to count anew."""
        return None

    @property
    def pushes_orders(self) -> bool:
        """Tell whether orders are pushed with these options; then `OrderPlaced` misses none while the lane is up."""
        return self.PUSHES_ORDERS

    def plan(self) -> tuple[str, ...]:
        """Say what a strike would send, a line a command, without keys and signatures; nothing is sent or changed."""
        return ()

    def drill(self, now: Now) -> Outputs:
        """Send a command that cannot hit anything through the order path; ends in a `Drilled` for each of `DRILLS`."""
        return ()

    def measure(self, now: Now) -> Outputs:
        """Ask for what the account is worth; ends in one `Equity`. A venue that pushes it all may return nothing."""
        return ()

    def upgrade_headers(self, now: Now) -> Mapping[str, str]:
        """Return the headers of the WebSocket upgrade that authenticate it, where the venue does it so."""
        return {}

    def caution(self, now: Now) -> str:
        """Say in one line for people what would make a kill slow now, though every lane is ready; "" if nothing."""
        return ""

    def keep_away(self, now: Now) -> str:
        """Say why no WebSocket connection is wanted now, where the venue allows one and somebody else has it."""
        return ""

    # what drives it

    def feed(self, event: Event, now: Now) -> Outputs:
        """Take one event; return what follows from it."""
        self._now_ns = now.mono_ns
        match event:
            case Received(conn, text):
                return self._text(conn, text, now)
            case Replied():
                return self._reply(event, now)
            case Lost():
                return self._lost(event, now)
            case Woke(tag) if "#" in tag:
                ask = self._asks.get(tag)
                return () if ask is None else (*self._hedge(tag, ask, now), *self._tell_early(ask))
            case Woke(tag) if tag.startswith(DRILL):
                return self.drilled(tag, False, f"no answer within {DRILL_WITHIN_S:g} s", now)
            case Woke(tag) if tag == REFRESH:
                return self._refresh(now)
            case Woke(tag):
                return self.woke(tag, now)
            case Opened(route, conn):
                self._http_up = self._http_up or route is not Route.WS
                return self.opened(route, conn, now)
            case Closed(Route.WS, conn, why):
                self.end_pushes(conn)
                lost = [tag for tag, (used, _) in self._drills.items() if used == conn]
                failed = tuple(output for tag in lost for output in self.drilled(tag, False, why, now))
                return (*self.closed(Route.WS, conn, why, now), *failed)
            case Closed(route, conn, why):
                self._http_up = False
                return self.closed(route, conn, why, now)
            case _:
                assert_never(event)

    @property
    def closes_positions(self) -> bool:
        """Say whether a strike goes on to close positions once its cancels are answered."""
        return False

    @property
    def asked(self) -> Container[str]:
        """The tags of the requests that may still be answered."""
        return self._asks

    def awaits(self, tag: str) -> bool:
        """Say whether a request is still to be answered: it may have been, on the other route."""
        return tag in self._asks

    # what a subclass builds with

    def ask(
        self,
        kind: str,
        build: Callable[[Now], Request],
        now: Now,
        *,
        urgent: bool = False,
        cancel: bool = False,
        command: bool = False,
        hedge_after_s: float | None = None,
        context: Any = None,
    ) -> Outputs:
        """Make a request on the warm lane; with `hedge_after_s`, once more on a fresh connection if it must be.

        A strike's other commands, beside what is `cancel` and so one by itself, are marked as `command` (see `Call`).
        """
        self._tags += 1
        tag = f"{kind}#{self._tags}"
        hedge, command = hedge_after_s is not None, command or cancel
        spares = self.CONNECTIONS if hedge and urgent else 0
        ask = self._asks[tag] = Ask(
            kind, build, now.mono_ns, urgent, cancel, command, hedge, hedge_after_s, context, spares=spares
        )
        call = self._call(tag, ask, Route.HTTP, now)
        return (call,) if hedge_after_s is None else (call, WakeAfter(tag, hedge_after_s))

    def ask_again(self, ask: Ask, now: Now) -> Outputs:
        """Make a request once more, built anew: it was refused for something that has been put right since."""
        outputs = self.ask(
            ask.kind,
            ask.build,
            now,
            urgent=ask.urgent,
            cancel=ask.cancel,
            command=ask.command,
            hedge_after_s=ask.hedge_after_s,
            context=ask.context,
        )
        self._asks[f"{ask.kind}#{self._tags}"].again = True
        return outputs

    @property
    def offset_ns(self) -> int:
        """How far the venue's clock is taken to be ahead of ours; its bounds are in `clock.bounds_ns`."""
        return self.clock.ns

    def venue_ms(self, now: Now) -> int:
        """Return what the venue's clock shows now: the time to sign."""
        return (now.wall_ns + self.clock.ns) // 1_000_000

    def server_time(
        self, earliest_ns: int, latest_ns: int, sent_ns: int, now: Now, *, refused: bool = False
    ) -> Outputs:
        """Take note of the venue's clock in a message that has just come; `ServerTime` has the rules.

        `refused`: the venue refuses our time with this message. Otherwise one message alone moves nothing.
        """
        sample = ServerTime(earliest_ns, latest_ns, sent_ns, now.wall_ns)
        self.clock.note(*sample, now.mono_ns, refused=refused)
        return (sample,)

    def time_refused(self, reply: Replied, now: Now) -> None:
        """Take the venue's clock from an answer that refuses the time of a request, before that is built anew."""
        self._dated(reply, now, refused=True)

    def drill_call(self, build: Callable[[Now], Request], now: Now) -> Outputs:
        """Drill the warm HTTP lane, behind whatever is urgent: `answered` judges, `DRILL` being the request's kind."""
        return self.ask(DRILL, build, now, hedge_after_s=DRILL_WITHIN_S)  # by then it is given up, not sent again

    def drill_send(self, conn: int | None, tag: str, text: bytes, now: Now) -> Outputs:
        """Drill the WebSocket lane with a frame; `drilled` is called with what comes of it. A tag begins with DRILL."""
        if conn is None:
            return (Drilled(Route.WS, False, 0, "the lane is not ready"),)
        self._drills[tag] = (conn, now.mono_ns)
        return (Send(conn, text), WakeAfter(tag, DRILL_WITHIN_S))

    def drilled(self, tag: str, ok: bool, evidence: str, now: Now) -> Outputs:
        """End a drill of the WebSocket lane; nothing if nobody waits for it any more."""
        drill = self._drills.pop(tag, None)
        return () if drill is None else (Drilled(Route.WS, ok, (now.mono_ns - drill[1]) // 1000, evidence),)

    def words(self, *texts: object, limit: int = MOST_WORDS) -> str:
        """Make a line of evidence of a venue's own words; our secrets, which some venues echo, are taken out."""
        line = " ".join(map(shown, texts))
        for secret in self._hidden:
            line = line.replace(secret, "[secret]")
        return brief(line, limit)

    # read-backs

    def begin_pushes(self, conn: int, now: Now) -> Outputs:
        """Take note that a connection pushes orders from now on, and read what was placed and ended before."""
        if not self.pushes_orders:
            return ()
        self.start_pushes(conn, now.mono_ns - 1)
        if not self._http_up or self._refresh_due:
            return ()  # the HTTP lane reads when it comes up
        due_ns = self._refreshed_ns + len(self.lists) * int(1e9 / LISTS_PER_S)
        if now.mono_ns < due_ns:  # connections come and go faster than the lists may be read
            self._refresh_due = True
            return (WakeAfter(REFRESH, (due_ns - now.mono_ns) / 1e9),)
        return self._refresh(now)

    def _refresh(self, now: Now) -> Outputs:
        self._refresh_due, self._refreshed_ns = False, now.mono_ns
        if not self._http_up:
            return ()
        # a strike that this same event leads to leaves later, and counts these lists as asked for before it
        return self.refresh(now._replace(mono_ns=now.mono_ns - 1))

    def refresh(self, now: Now) -> Outputs:
        """Read every list, behind everything that is urgent."""
        return self.probe(now)

    def take_list(self, read: ReadBack, name: str, orders: Iterable[Order], why: str, now: Now) -> Outputs:
        """Take one list's answer into a read-back; the last list ends it, or begins the look-ups that it needs.

        `orders` are those that the answer shows and that are not gone. `why` says why there may be more; "": there are
        none. An order that is `unproven` and in no list contradicts the lists, and is looked up by its id.
        """
        read.missing.discard(name)
        listed = {order.id: order for order in orders}
        read.orders.update(listed)
        found = self.show_list(name, listed.values(), read.asked_ns, whole=not why)
        if why:
            read.troubles.append(why)
        return found if read.missing else (*self._look_up(read, now), *found)

    def _tell_early(self, ask: Ask) -> Outputs:
        """Tell what a read-back has shown so far if a list of it is late: live orders are not to wait for it."""
        match ask.context:
            case (name, ReadBack(told_early=False) as read) if read.left:
                read.told_early = True
                why = self.words(f"{name}: no answer yet")
                return (OrdersRead(tuple(read.orders.values()), False, read.asked_ns, why),)
            case _:
                return ()

    def _look_up(self, read: ReadBack, now: Now) -> Outputs:
        rest = [order for one, order in self.unproven.items() if one not in read.orders]
        read.whole = not read.troubles
        if not rest or read.troubles or read.left:  # if anything is left, nobody has to wait to strike
            return (*self._end_read(read), *(() if read.urgent else self.look_over(now)))
        if not read.urgent:  # what was placed since does not contradict the lists, and a kill needs the requests
            rest = [order for order in rest if self._word_ns[order.id] <= read.asked_ns]
        calls: Outputs = ()
        hedge_after_s = 4 * self.hedge_after_s
        for order in rest[:LOOK_UPS]:
            build = self.order_request(order.id)
            if build is not None:
                read.looking.add(order.id)
                calls += self.ask(
                    LOOK_UP, build, now, urgent=read.urgent, hedge_after_s=hedge_after_s, context=(read, order.id)
                )
        return calls or self._end_read(read)

    def look_over(self, now: Now) -> Outputs:
        """Look up a few of the orders that are doubted, for no read-back: whether they count is to be known."""
        calls: Outputs = ()
        for order_id in list(self.doubted)[: LOOKS_OVER - len(self._looking)]:
            build = self.order_request(order_id)
            if build is not None and order_id not in self._looking:
                self._looking.add(order_id)
                calls += self.ask(LOOK_UP, build, now, context=(None, order_id))
        return calls

    def looked_up(self, ask: Ask, order: Order | None, why: str = "") -> Outputs:
        """Take what the venue says of one order: None is nothing, for the reason `why`; `GONE` is its end."""
        read: ReadBack | None = ask.context[0]
        order_id: str = ask.context[1]
        if read is None:
            self._looking.discard(order_id)
        else:
            read.looking.discard(order_id)
        if order is None:
            if read is not None:
                read.troubles.append(self.words(f"order {order_id} is in no list, and cannot be looked up: {why}"))
            elif order_id in self.doubted:  # it goes to the end: each has its turn
                self.doubted[order_id] = self.doubted.pop(order_id)
        elif order.life is Life.GONE:
            self.note_end(order)
            self.drop_order(order_id)
        elif order_id in self.book:  # else its end has been stated meanwhile
            if order_id in self.unproven:  # else a list has shown it meanwhile
                self.confirm_order(order)
            if read is not None:
                read.orders[order_id] = order
        return () if read is None or read.looking else self._end_read(read)

    def _end_read(self, read: ReadBack) -> Outputs:
        for order in self.shown_since(read.asked_ns):  # what the lists of this read did not show yet, or not any more
            read.orders.setdefault(order.id, order)
        rest = [order for one, order in self.unproven.items() if one not in read.orders]
        orders = tuple(read.orders.values())
        if rest or read.troubles:
            why = "; ".join([*read.troubles, *([self.words(unlisted(rest))] if rest else [])])
            return (OrdersRead(orders, False, read.asked_ns, brief(why, MOST_WHY)),)
        return (OrdersRead(orders, True, read.asked_ns, cancelled=self.count_cancelled() if read.urgent else None),)

    # the routes

    def _text(self, conn: int, text: str | bytes, now: Now) -> Outputs:
        plain = self.text(conn, text, now)
        if plain is not None:
            return plain
        message = parse(text)
        if not isinstance(message, dict):
            return (Noise("a frame that is not a JSON object"),)
        return self.received(conn, message, now)

    def _hedge(self, tag: str, ask: Ask, now: Now) -> Outputs:
        if ask.kind == DRILL:
            return self._give_up(tag, ask, f"no answer within {DRILL_WITHIN_S:g} s", now)
        if not ask.hedge:
            return ()
        ask.hedge = False
        ask.out += 1
        return (self._call(tag, ask, Route.FRESH, now),)

    def _lost(self, lost: Lost, now: Now) -> Outputs:
        ask = self._asks.get(lost.tag)
        if ask is None:
            return ()
        ask.out -= 1
        ask.sent = ask.sent or lost.sent
        if lost.spare and ask.spares:
            return self._spare(lost.tag, ask, now)
        return self._other_route(lost.tag, ask, lost.why, now)

    def _spare(self, tag: str, ask: Ask, now: Now) -> Outputs:
        """Make the request on another warm connection: it is there, and a fresh one takes three round trips."""
        ask.spares -= 1
        ask.out += 1
        return (self._call(tag, ask, Route.HTTP, now),)

    def _call(self, tag: str, ask: Ask, route: Route, now: Now) -> Call:
        """Make a copy of a request."""
        within_s = LATE_WITHIN_S if ask.urgent else ANSWER_WITHIN_S
        request = ask.build(now)
        if self.pool is not None and request.method == "GET":
            self.pool.take(now)
        return Call(tag, request, route, ask.urgent, ask.cancel, ask.command, within_s)

    def _reply(self, reply: Replied, now: Now) -> Outputs:
        ask = self._asks.get(reply.tag)
        if ask is None:
            return ()  # the other copy was answered first
        ask.out -= 1
        ask.alone = not ask.sent and not ask.out
        ask.sent = True
        if reply.status in self.NOT_PROCESSED and ask.hedge_after_s is not None and ask.kind != DRILL:
            why = f"HTTP {reply.status}: not processed"
            if not ask.hedge and not ask.out and ask.spares:
                return self._spare(reply.tag, ask, now)
            return self._other_route(reply.tag, ask, why, now)
        facts = self.answered(ask, reply, now)
        if facts is None:  # what proves nothing may come from a proxy, and so may its clock
            return self._other_route(reply.tag, ask, f"HTTP {reply.status} proves nothing", now)
        self._asks.pop(reply.tag, None)
        told = self._dated(reply, now)
        return facts if ask.cancel else (*facts, *told)  # a strike's is noted, but nobody has time for it now

    def _dated(self, reply: Replied, now: Now, *, refused: bool = False) -> Outputs:
        """Read the venue's clock off an answer; one out of a cache (it has an `Age`) is as old as that says."""
        date = reply.headers.get("date")
        at_ns = date_ns(date) if date is not None and "age" not in reply.headers else None
        if at_ns is None:
            return ()
        sent_ns = now.wall_ns - reply.rtt_us * 1000
        return self.server_time(at_ns, at_ns + 1_000_000_000, sent_ns, now, refused=refused)

    def _other_route(self, tag: str, ask: Ask, why: str, now: Now) -> Outputs:
        if ask.hedge and ask.kind != DRILL:
            return self._hedge(tag, ask, now)
        return () if ask.out > 0 else self._give_up(tag, ask, why, now)

    def _give_up(self, tag: str, ask: Ask, why: str, now: Now) -> Outputs:
        self._asks.pop(tag, None)
        if ask.kind == DRILL:
            return (Drilled(Route.HTTP, False, 0, why),)
        if ask.kind == LOOK_UP:
            return self.looked_up(ask, None, why)
        return self.unanswered(ask, why, now)


def shared_pace(pace: Pace, together: int) -> Pace:
    """Return the pace of one of so many accounts that share what is enough for one: guarded and chased in turn."""
    if together == 1:
        return pace
    return replace(
        pace,
        guard_every_s=together * pace.guard_every_s,
        strike_gap_s=together * pace.strike_gap_s,
        gap_cap_s=together * pace.gap_cap_s,
    )
